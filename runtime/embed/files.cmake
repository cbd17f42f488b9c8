# Run by cmake -P: writes OUT, a header with the path and size of each file named
# in FILES as NAME=path, separated by commas.
set(text "/* Made by runtime/embed/files.cmake. */\n")
string(REPLACE "," ";" FILES "${FILES}")
foreach(file IN LISTS FILES)
  string(REGEX REPLACE "=.*" "" name "${file}")
  string(REGEX REPLACE "^[^=]*=" "" path "${file}")
  file(SIZE "${path}" size)
  string(APPEND text "#define ${name}_PATH \"${path}\"\n"
                     "#define ${name}_SIZE ${size}\n")
endforeach()
file(WRITE "${OUT}" "${text}")
