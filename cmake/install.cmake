# What is installed, apart from the program and its documents (tools/): the headers
# that run compiled models, the files for CMake and pkg-config, texts. The library
# behind the command line is no interface: its headers stay here.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(moec_headers INTERFACE)
add_library(moec::headers ALIAS moec_headers)
target_include_directories(moec_headers INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
include(cmake/moec_add_model.cmake)

install(FILES include/moec/model.h include/moec/status.h include/moec/status.def
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moec)

set(moec_cmake_dir lib/cmake/moec)
configure_package_config_file(
  cmake/moecConfig.cmake.in ${PROJECT_BINARY_DIR}/moecConfig.cmake
  INSTALL_DESTINATION ${moec_cmake_dir}
  PATH_VARS CMAKE_INSTALL_BINDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moecConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moecConfig.cmake
              ${PROJECT_BINARY_DIR}/moecConfigVersion.cmake
              cmake/moec_add_model.cmake
        DESTINATION ${moec_cmake_dir})
configure_file(cmake/moec.pc.in ${PROJECT_BINARY_DIR}/moec.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/moec.pc DESTINATION lib/pkgconfig)

install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs
        FILES_MATCHING PATTERN "*.md")
install(DIRECTORY examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples
        PATTERN "build*" EXCLUDE)

# Packages: `cpack -G DEB` or `cpack -G TGZ` in the build tree.
if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGE_NAME moec)
  set(CPACK_PACKAGE_CONTACT "The moec authors")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY
      "ahead-of-time compiler for ONNX models with mixtures of experts")
  set(CPACK_PACKAGE_DESCRIPTION
      "moec compiles ONNX models into native shared libraries that programs load
with nothing else installed. This package has the compiler, the header for
programs, and files for CMake, pkg-config and shells.")
  set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION devel)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  include(CPack)
endif()
