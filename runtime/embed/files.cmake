# cmake -P files.cmake OUT NAME=path...: writes OUT, a header with the path and the
# size of each file.
set(text "/* Made by runtime/embed/files.cmake. */\n")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE 4 ${last})
  string(REGEX REPLACE "=.*" "" name "${CMAKE_ARGV${i}}")
  string(REGEX REPLACE "^[^=]*=" "" path "${CMAKE_ARGV${i}}")
  file(SIZE "${path}" size)
  string(APPEND text "#define ${name}_PATH \"${path}\"\n"
                     "#define ${name}_SIZE ${size}\n")
endforeach()
file(WRITE "${CMAKE_ARGV3}" "${text}")
