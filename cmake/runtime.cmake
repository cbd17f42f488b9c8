# The runtime of compiled models: built here for each target by clang, whatever
# compiler builds moec, and embedded in the library moec_runtime_blobs together
# with a stub of the C library to link against.
find_program(MOEC_CLANG NAMES clang-19 clang-20 clang-21 clang
             HINTS ${LLVM_TOOLS_BINARY_DIR} REQUIRED
             DOC "clang 19 or newer, for the runtime of compiled models")
find_program(MOEC_LLD NAMES ld.lld-19 ld.lld-20 ld.lld-21 ld.lld
             HINTS ${LLVM_TOOLS_BINARY_DIR} REQUIRED
             DOC "ld.lld 19 or newer, for the runtime of compiled models")
execute_process(COMMAND ${MOEC_CLANG} --version OUTPUT_VARIABLE moec_clang_text)
if(NOT moec_clang_text MATCHES "clang version ([0-9]+)" OR CMAKE_MATCH_1 LESS 19)
  message(FATAL_ERROR "clang 19 or newer is needed, found ${MOEC_CLANG}; set "
                      "MOEC_CLANG")
endif()

set(MOEC_RUNTIME_DIR ${PROJECT_SOURCE_DIR}/runtime)
file(GLOB MOEC_RUNTIME_SOURCES CONFIGURE_DEPENDS ${MOEC_RUNTIME_DIR}/*.c)
file(GLOB MOEC_RUNTIME_HEADERS CONFIGURE_DEPENDS
     ${MOEC_RUNTIME_DIR}/*.h ${MOEC_RUNTIME_DIR}/*.def
     ${PROJECT_SOURCE_DIR}/include/moec/*)
list(APPEND MOEC_RUNTIME_HEADERS ${PROJECT_SOURCE_DIR}/ir/dtypes.def)

# No headers of the build machine, nothing that would show where it was built,
# one section per function so that a model keeps only what it calls. Compiled as
# one module, since the loader of backend/jit.c finds private constants by name:
# two files joined as objects would each have a .LCPI0_0.
set(MOEC_RUNTIME_FLAGS
    -std=c11 -O2 -flto -fPIC -fvisibility=hidden -nostdlibinc -ffunction-sections
    -fdata-sections -fno-stack-protector -fno-ident -fno-math-errno
    -fomit-frame-pointer -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla
    -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/include)
if(MOEC_WERROR)
  list(APPEND MOEC_RUNTIME_FLAGS -Werror)
endif()

# moec_runtime_object(DIR ARCH TRIPLE FLAG...): DIR/runtime.o.
function(moec_runtime_object dir arch triple)
  file(MAKE_DIRECTORY ${dir})
  set(objects)
  foreach(source IN LISTS MOEC_RUNTIME_SOURCES)
    get_filename_component(name ${source} NAME_WE)
    add_custom_command(
      OUTPUT ${dir}/${name}.o
      COMMAND ${MOEC_CLANG} --target=${triple} ${MOEC_RUNTIME_FLAGS} ${ARGN}
              -c ${source} -o ${dir}/${name}.o
      DEPENDS ${source} ${MOEC_RUNTIME_HEADERS}
      COMMENT "Runtime for ${arch}: ${name}.c" VERBATIM)
    list(APPEND objects ${dir}/${name}.o)
  endforeach()
  add_custom_command(
    OUTPUT ${dir}/runtime.o
    COMMAND ${MOEC_LLD} -r --lto-O2 -o ${dir}/runtime.o ${objects}
    DEPENDS ${objects} COMMENT "Runtime for ${arch}" VERBATIM)
endfunction()

# moec_runtime_for(ARCH TRIPLE FLAG...): ARCH/runtime.o, ARCH/guarded/runtime.o
# for backend/jit.c if this build has AddressSanitizer, and ARCH/libc.so.
function(moec_runtime_for arch triple)
  set(dir ${PROJECT_BINARY_DIR}/runtime/${arch})
  moec_runtime_object(${dir} ${arch} ${triple} ${ARGN})
  if(MOEC_GUARDED AND arch STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
    moec_runtime_object(${dir}/guarded ${arch} ${triple} ${ARGN} -DMOERT_GUARDED
      -fsanitize=address -fsanitize-address-use-after-return=never
      -mllvm -asan-globals=0 -mllvm -asan-constructor-kind=none)
  endif()
  add_custom_command(
    OUTPUT ${dir}/libc.so
    COMMAND ${MOEC_CLANG} --target=${triple} -I${PROJECT_SOURCE_DIR} -fno-ident
            -c ${MOEC_RUNTIME_DIR}/embed/libc_stub.c -o ${dir}/libc_stub.o
    COMMAND ${MOEC_LLD} -shared -soname libc.so.6 --build-id=none
            --version-script=${MOEC_RUNTIME_DIR}/embed/libc_stub.map
            -o ${dir}/libc.so ${dir}/libc_stub.o
    DEPENDS ${MOEC_RUNTIME_DIR}/embed/libc_stub.c
            ${MOEC_RUNTIME_DIR}/embed/libc_stub.map
            ${MOEC_RUNTIME_DIR}/imports.def
    COMMENT "Stub of the C library for ${arch}" VERBATIM)
endfunction()

# Atomic operations in line: their functions are libgcc's.
set(moec_runtime_flags_aarch64 -mno-outline-atomics)

# The targets are the TARGET rows of backend/targets.def.
set(moec_blob_dir ${PROJECT_BINARY_DIR}/runtime)
set(moec_blob_files)
set(moec_blob_names)
file(STRINGS ${PROJECT_SOURCE_DIR}/backend/targets.def moec_targets
     REGEX "^TARGET\\(")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             ${PROJECT_SOURCE_DIR}/backend/targets.def)
foreach(row IN LISTS moec_targets)
  string(REGEX MATCH "^TARGET\\(([A-Z0-9_]+), *\"([^\"]+)\"" ignored "${row}")
  set(id ${CMAKE_MATCH_1})
  set(arch ${CMAKE_MATCH_2})
  moec_runtime_for(${arch} ${arch}-linux-gnu ${moec_runtime_flags_${arch}})
  set(dir ${moec_blob_dir}/${arch})
  set(loaded ${dir}/runtime.o)
  if(MOEC_GUARDED AND arch STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
    set(loaded ${dir}/guarded/runtime.o)
  endif()
  list(APPEND moec_blob_files ${dir}/runtime.o ${loaded} ${dir}/libc.so)
  list(APPEND moec_blob_names RUNTIME_${id}=${dir}/runtime.o
       LOADED_${id}=${loaded} LIBC_${id}=${dir}/libc.so)
endforeach()
list(REMOVE_DUPLICATES moec_blob_files)
add_custom_command(
  OUTPUT ${moec_blob_dir}/runtime_blob_files.h
  COMMAND ${CMAKE_COMMAND} -P ${MOEC_RUNTIME_DIR}/embed/files.cmake
          ${moec_blob_dir}/runtime_blob_files.h ${moec_blob_names}
  DEPENDS ${moec_blob_files} ${MOEC_RUNTIME_DIR}/embed/files.cmake
  COMMENT "Sizes of the embedded files" VERBATIM)

add_library(moec_runtime_blobs STATIC
            ${MOEC_RUNTIME_DIR}/embed/runtime_blob.c
            ${moec_blob_dir}/runtime_blob_files.h)
target_include_directories(moec_runtime_blobs PRIVATE ${moec_blob_dir})
target_link_libraries(moec_runtime_blobs PUBLIC moec_flags)
# The bytes come in through the assembler, which no dependency scan sees.
set_source_files_properties(${MOEC_RUNTIME_DIR}/embed/runtime_blob.c PROPERTIES
  OBJECT_DEPENDS "${moec_blob_files};${moec_blob_dir}/runtime_blob_files.h")
