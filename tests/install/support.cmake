# For the scripts of this folder, run with
#   cmake -D BUILD=... -D SOURCE=... -D SCRATCH=... -D CC=... -P script.cmake
file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})

# must(DIRECTORY COMMAND...): runs it there; what it printed is in `output`.
function(must directory)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${directory}
                  OUTPUT_VARIABLE output ERROR_VARIABLE output
                  RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nends with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# expect(REGEX WHAT): of the latest output.
function(expect regex what)
  if(NOT output MATCHES "${regex}")
    message(FATAL_ERROR "${what}: expected '${regex}' in:\n${output}")
  endif()
endfunction()

function(expect_files root)
  foreach(file IN LISTS ARGN)
    if(NOT EXISTS ${root}/${file})
      message(FATAL_ERROR "${file} is not there")
    endif()
  endforeach()
endfunction()

set(installed bin/moec include/moec/model.h include/moec/status.h
    include/moec/status.def share/man/man1/moec.1
    share/bash-completion/completions/moec share/zsh/site-functions/_moec
    share/fish/vendor_completions.d/moec.fish lib/cmake/moec/moecConfig.cmake
    lib/cmake/moec/moecConfigVersion.cmake lib/cmake/moec/moec_add_model.cmake
    lib/pkgconfig/moec.pc share/doc/moec/README.md share/doc/moec/copyright
    share/doc/moec/docs/using.md share/doc/moec/docs/reference/ops.md
    share/doc/moec/examples/cmake/main.c)
