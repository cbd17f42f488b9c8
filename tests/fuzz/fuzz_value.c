/* Data files: the first byte chooses the kind of value, the others are the
 * file. What is read can be written, and reads back. */
#include "frontend/load.h"
#include "tests/fuzz/fuzz.h"

static onnx_store_t *store; /* as in fuzz_import.c */

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  static const ir_kind_t kinds[] = {IR_TENSOR, IR_SEQUENCE, IR_OPTIONAL};
  onnx_store_destroy(store);
  store = onnx_store_create(NULL);
  if (store == NULL || length == 0) return;
  ir_kind_t kind = kinds[bytes[0] % 3];
  onnx_value_t *value, *again;
  if (onnx_load_value_memory(store, arena, bytes + 1, length - 1, kind, diag,
                             &value) != MOEC_OK)
    return;
  const uint8_t *packed;
  size_t packed_length;
  if (onnx_pack_value(arena, value, diag, &packed, &packed_length) != MOEC_OK)
    return;
  FUZZ_CHECK(onnx_load_value_memory(store, arena, packed, packed_length, kind,
                                    diag, &again) == MOEC_OK);
}
