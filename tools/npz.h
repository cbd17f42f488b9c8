/* NumPy's .npz files: a zip archive of .npy files, stored or deflated. */
#ifndef TOOLS_NPZ_H
#define TOOLS_NPZ_H

#include "tools/npy.h"

typedef struct npz_array {
  const char *name;        /* without ".npy" */
  uint64_t offset;         /* of its bytes in the archive */
  uint64_t size, unpacked; /* bytes */
  uint32_t crc;
  uint16_t method;
} npz_array_t;

typedef struct npz {
  const char *bytes;
  size_t length;
  npz_array_t *arrays; /* in the order of the archive's directory */
  size_t n_arrays;
} npz_t;

/* Reads the directory of an archive of any bytes, which must outlive *out. What
 * is not named *.npy is passed over. MOEC_E_INVALID_MODEL with the byte offset;
 * MOEC_E_UNSUPPORTED for encrypted files and other methods of compression. */
moec_status_t npz_open(arena_t *arena, const void *bytes, size_t length,
                       diag_sink_t *diag, npz_t *out);

/* The array of that name, or NULL. */
const npz_array_t *npz_find(const npz_t *npz, const char *name);

/* Unpacks an array, compares its checksum and decodes it as npy_decode does. */
moec_status_t npz_read(arena_t *arena, const npz_t *npz,
                       const npz_array_t *array, dtype_t expected,
                       diag_sink_t *diag, onnx_value_t **out_value);

#endif
