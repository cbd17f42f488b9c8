# protobuf-c code for frontend/onnx.proto, generated into the build tree.
find_program(PROTOC_C protoc-c REQUIRED)
set(proto_dir ${CMAKE_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${proto_dir})
add_custom_command(
  OUTPUT ${proto_dir}/onnx.pb-c.c ${proto_dir}/onnx.pb-c.h
  COMMAND ${PROTOC_C} --c_out=${proto_dir} -I${PROJECT_SOURCE_DIR}/frontend
          ${PROJECT_SOURCE_DIR}/frontend/onnx.proto
  DEPENDS ${PROJECT_SOURCE_DIR}/frontend/onnx.proto)
add_library(onnx_proto STATIC ${proto_dir}/onnx.pb-c.c ${proto_dir}/onnx.pb-c.h)
target_include_directories(onnx_proto SYSTEM PUBLIC ${proto_dir})
target_link_libraries(onnx_proto PUBLIC protobuf-c)
