# Writes the pages of docs/reference/ that moec makes from its tables; with CHECK
# set, fails when one is stale instead.
#   cmake -D MOEC=build/release/moec [-D CHECK=1] -P docs/generate.cmake
get_filename_component(MOEC ${MOEC} ABSOLUTE)
set(directory ${CMAKE_CURRENT_LIST_DIR}/reference)

# page(FILE ARGUMENT...): what moec prints with these arguments.
function(page file)
  execute_process(COMMAND ${MOEC} ${ARGN} OUTPUT_VARIABLE text
                  COMMAND_ERROR_IS_FATAL ANY)
  set(old "")
  if(EXISTS ${directory}/${file})
    file(READ ${directory}/${file} old)
  endif()
  if(text STREQUAL old)
    return()
  elseif(CHECK)
    message(SEND_ERROR "docs/reference/${file} is stale: run ./dev docs")
  else()
    file(WRITE ${directory}/${file} "${text}")
    message(STATUS "docs/reference/${file}")
  endif()
endfunction()

page(ops.md opt --doc=ops)
page(passes.md opt --doc=passes)
page(rewrites.md opt --doc=rewrites)
page(dtypes.md opt --doc=dtypes)
page(targets.md opt --doc=targets)
