/* Protobuf's wire format: what the scan lets through, protobuf-c unpacks.
 * The first byte chooses the message. */
#include "frontend/load.h"
#include "frontend/wire.h"
#include "tests/fuzz/fuzz.h"

/* Released here also when the body is left through the recovery point. */
static onnx_payloads_t payloads;
static onnx_skeleton_t skeleton;

static void *alloc_in_arena(void *arena, size_t bytes) {
  return arena_alloc(arena, bytes);
}

static void free_in_arena(void *arena, void *data) { (void)arena, (void)data; }

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  const ProtobufCMessageDescriptor *const types[] = {
      &onnx__model_proto__descriptor, &onnx__tensor_proto__descriptor,
      &onnx__sequence_proto__descriptor, &onnx__optional_proto__descriptor};
  (void)diag;
  free(payloads.items);
  free(skeleton.bytes);
  payloads = (onnx_payloads_t){0};
  skeleton = (onnx_skeleton_t){0};
  if (length == 0) return;
  const ProtobufCMessageDescriptor *type = types[bytes[0] % 4];
  const onnx_limits_t limits = {.file_bytes = 1 << 20,
                                .messages = 10000,
                                .unpacked_bytes = 16 << 20,
                                .name_bytes = 1 << 12,
                                .depth = 100,
                                .graph_depth = 30};
  onnx_wire_error_t error;
  moec_status_t status = onnx_wire_scan(type, ++bytes, --length, &limits, arena,
                                        &payloads, &skeleton, &error);
  if (status != MOEC_OK) {
    FUZZ_CHECK(error.status == status && error.offset <= length);
    return;
  }
  for (size_t i = 0; i < payloads.n; i++) {
    const onnx_payload_t *payload = &payloads.items[i];
    FUZZ_CHECK(payload->begin <= payload->end && payload->end <= length);
  }
  ProtobufCAllocator allocator = {alloc_in_arena, free_in_arena, arena};
  FUZZ_CHECK(protobuf_c_message_unpack(type, &allocator, skeleton.length,
                                       skeleton.bytes) != NULL);
}
