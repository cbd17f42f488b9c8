/* .npz files: every array of what has a directory is unpacked and decoded. */
#include "tests/fuzz/fuzz.h"
#include "tools/npz.h"

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  npz_t npz;
  onnx_value_t *value;
  if (npz_open(arena, bytes, length, diag, &npz) != MOEC_OK) return;
  for (size_t i = 0; i < npz.n_arrays && i < 16; i++) {
    FUZZ_CHECK(npz_find(&npz, npz.arrays[i].name) != NULL);
    if (npz_read(arena, &npz, &npz.arrays[i], DT_F32, diag, &value) == MOEC_OK)
      FUZZ_CHECK(value->data != NULL);
  }
}
