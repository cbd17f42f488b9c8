# The Debian package: what it has, what it needs, and that its program works.
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

must(${SCRATCH} ${CPACK} -G DEB --config ${BUILD}/CPackConfig.cmake
     -B ${SCRATCH})
file(GLOB package ${SCRATCH}/moec_*.deb)
list(LENGTH package n)
if(NOT n EQUAL 1)
  message(FATAL_ERROR "packages: '${package}'")
endif()

must(${SCRATCH} dpkg-deb --info ${package})
expect("Package: moec\n" "the name")
expect("Depends: [^\n]*libc6 \\(>= 2\\." "the C library and its version")
expect("Depends: [^\n]*libprotobuf-c1" "protobuf-c")
expect("Depends: [^\n]*libllvm(19|2[0-9])" "LLVM")
expect("Depends: [^\n]*zlib1g" "zlib")

must(${SCRATCH} dpkg-deb --extract ${package} root)
expect_files(${SCRATCH}/root/usr ${installed})
file(GLOB_RECURSE files RELATIVE ${SCRATCH}/root ${SCRATCH}/root/*)
foreach(file IN LISTS files)
  if(NOT file MATCHES "^usr/(bin|include|lib|share)/")
    message(FATAL_ERROR "the package has ${file}")
  endif()
endforeach()

file(COPY ${SOURCE}/tests/install/external/model.onnx
          ${SOURCE}/tests/install/external/weights.bin DESTINATION ${SCRATCH})
must(${SCRATCH} root/usr/bin/moec --version)
must(${SCRATCH} root/usr/bin/moec model.onnx -o model.so --isa=x86-64)
must(${SCRATCH} root/usr/bin/moec inspect model.so)
expect("name: external" "what was compiled")
