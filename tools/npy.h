/* NumPy's .npy files: one array with its type and dimensions. */
#ifndef TOOLS_NPY_H
#define TOOLS_NPY_H

#include "frontend/load.h"

/* Reads a file of any bytes, format versions 1 to 3, into a tensor allocated in
 * the arena. Big-endian data is swapped, Fortran order is made C order, unicode
 * and byte strings become a tensor of strings. NumPy has no bfloat16, float8 or
 * types below 8 bits and calls them void ("V2", "V1"): such bytes are taken as
 * `expected`, the type that the reader of the array wants, if it has that size
 * (one element per byte below 8 bits); DT_NONE: refused.
 *
 * Errors: MOEC_E_INVALID_MODEL with the byte offset; MOEC_E_UNSUPPORTED for
 * objects, records, times, long doubles and more than IR_MAX_RANK dimensions.
 */
moec_status_t npy_decode(arena_t *arena, const void *bytes, size_t length,
                         dtype_t expected, diag_sink_t *diag,
                         onnx_value_t **out_value);

/* Appends the contents of a file, format version 1. Strings must be UTF-8.
 * MOEC_E_UNSUPPORTED for what is not a tensor. */
moec_status_t npy_encode(const onnx_value_t *value, diag_sink_t *diag,
                         text_t *out);

#endif
