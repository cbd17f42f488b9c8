# An installation under a prefix, moved elsewhere, serves a project of its own: by
# find_package() and moec_add_model(), and by pkg-config.
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

must(${SCRATCH} ${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/first)
file(RENAME ${SCRATCH}/first ${SCRATCH}/moved)
set(prefix ${SCRATCH}/moved)
expect_files(${prefix} ${installed})
file(GLOB headers RELATIVE ${prefix}/include/moec ${prefix}/include/moec/*)
if(NOT headers STREQUAL "model.h;status.def;status.h")
  message(FATAL_ERROR "headers that are no interface: ${headers}")
endif()

# ---- A project that finds it

set(model "${SCRATCH}/a model") # a path with a space
file(COPY ${SOURCE}/tests/install/external/model.onnx
          ${SOURCE}/tests/install/external/weights.bin DESTINATION ${model})
must(${SCRATCH} ${CMAKE_COMMAND} -S ${prefix}/share/doc/moec/examples/cmake
     -B app -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_C_COMPILER=${CC}
     -D "MODEL=${model}/model.onnx" -D "MODEL_OPTIONS=--isa=x86-64\;--dim\;n=1")

function(build_and_run values)
  must(${SCRATCH} ${CMAKE_COMMAND} --build app)
  foreach(program linked loaded)
    must(${SCRATCH} app/${program})
    if(NOT output STREQUAL "y: ${values}\n")
      message(FATAL_ERROR "${program} prints '${output}', not '${values}'")
    endif()
  endforeach()
endfunction()

build_and_run("1.5 2.5 3.5 4.5")
must(${SCRATCH} ${prefix}/bin/moec inspect app/libnet.so)
expect("dims\n *x *f32 *\\[1, 4\\]" "options reach moec")

# Nothing is compiled twice; weights in another file are a part of the model.
file(TIMESTAMP ${SCRATCH}/app/libnet.so before "%s" UTC)
execute_process(COMMAND sleep 1.1)
build_and_run("1.5 2.5 3.5 4.5")
file(TIMESTAMP ${SCRATCH}/app/libnet.so after "%s" UTC)
if(NOT before EQUAL after)
  message(FATAL_ERROR "the model was compiled again without a change")
endif()
must("${model}" sh -c "printf '\\000\\000\\000\\100%.0s' 1 2 3 4 >weights.bin")
build_and_run("2.5 2.5 2.5 2.5")

# ---- pkg-config

find_program(PKG_CONFIG pkg-config)
if(NOT PKG_CONFIG)
  message(STATUS "no pkg-config: not tried")
  return()
endif()
set(ENV{PKG_CONFIG_PATH} ${prefix}/lib/pkgconfig)
must(${SCRATCH} ${PKG_CONFIG} --modversion moec)
string(STRIP "${output}" version)
must(${SCRATCH} ${prefix}/bin/moec --version)
expect("^moec ${version}\n" "the version in moec.pc")
must(${SCRATCH} ${PKG_CONFIG} --variable=moec moec)
string(STRIP "${output}" moec)
must(${SCRATCH} ${moec} "${model}/model.onnx" -o libnet.so --soname libnet.so
     --isa=x86-64)
must(${SCRATCH} sh -c "'${CC}' $('${PKG_CONFIG}' --cflags moec) \
'${prefix}/share/doc/moec/examples/cmake/main.c' -o plain -L. -lnet -Wl,-rpath,.")
must(${SCRATCH} ./plain)
expect("^y: 2.5 2.5 2.5 2.5\n$" "a program built with pkg-config")
