/* .npz files: arrays that are found lie in the file, whatever its directory
 * says. */
#include "tests/fuzz/fuzz.h"
#include "tools/npz.h"

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  npz_t npz;
  if (npz_open(arena, bytes, length, diag, &npz) != MOEC_OK) return;
  for (size_t i = 0; i < npz.n_arrays && i < 16; i++) {
    const npz_array_t *array = &npz.arrays[i];
    onnx_value_t *value;
    FUZZ_CHECK(array->size <= length && array->offset <= length - array->size);
    FUZZ_CHECK(npz_find(&npz, array->name) != NULL);
    if (npz_read(arena, &npz, array, DT_BF16, diag, &value) == MOEC_OK)
      FUZZ_CHECK(value != NULL);
  }
}
