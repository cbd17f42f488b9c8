/* .npy files: what is read can be written, and reads back. */
#include "tests/fuzz/fuzz.h"
#include "tools/npy.h"

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  onnx_value_t *value, *again;
  if (npy_decode(arena, bytes, length, DT_BF16, diag, &value) != MOEC_OK)
    return;
  text_t text;
  text_init(&text, arena);
  if (npy_encode(value, diag, &text) != MOEC_OK) return;
  FUZZ_CHECK(npy_decode(arena, text.data, text.length, DT_BF16, diag, &again) ==
             MOEC_OK);
}
