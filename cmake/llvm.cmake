# LLVM (through its C interface) and LLD, version 19 or newer.
find_package(LLVM REQUIRED CONFIG HINTS /usr/lib/llvm-19/lib/cmake/llvm)
if(LLVM_VERSION_MAJOR LESS 19)
  message(FATAL_ERROR "LLVM 19 or newer is needed, found ${LLVM_VERSION}")
endif()
find_package(LLD REQUIRED CONFIG HINTS ${LLVM_LIBRARY_DIR}/cmake/lld)

add_library(moec_llvm INTERFACE)
target_include_directories(moec_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS})
target_compile_definitions(moec_llvm INTERFACE __STDC_LIMIT_MACROS
                           __STDC_CONSTANT_MACROS __STDC_FORMAT_MACROS)
target_link_directories(moec_llvm INTERFACE ${LLVM_LIBRARY_DIRS})
target_link_libraries(moec_llvm INTERFACE lldELF lldCommon LLVM-19)
