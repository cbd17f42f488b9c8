# examples/generate, built as its README says, agrees with PyTorch and goes on
# writing where the prompt ends.
#   cmake -D MOEC=... -D CC=... -D SOURCE=... -D SCRATCH=... -P generate.cmake
file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})
set(case ${SOURCE}/tests/models/trained_charlm)
file(COPY ${case}/ids.i64 ${case}/logits.f32 DESTINATION ${SCRATCH})

# must(COMMAND...): runs it; its output is in `output`.
macro(must)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${SCRATCH}
                  OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
endmacro()
must(${MOEC} ${case}/model.onnx -o model.so)
must(${CC} -O2 -D_GNU_SOURCE -I ${SOURCE}/include
     ${SOURCE}/examples/generate/generate.c -o generate -ldl -lm)
must(./generate . "def read(" 40 0.7)

if(NOT output MATCHES
   "difference from 32768 reference logits: ([^\n]*)\ndef read(.*)\n.* tokens/s")
  message(FATAL_ERROR "unexpected output:\n${output}")
endif()
set(difference ${CMAKE_MATCH_1})
set(text "${CMAKE_MATCH_2}")
if(NOT difference LESS 0.001) # also when it is no number
  message(FATAL_ERROR "differs by ${difference} from the reference")
endif()
string(LENGTH "${text}" length)
if(length LESS 40)
  message(FATAL_ERROR "only ${length} bytes were generated:\n${output}")
endif()
