/* Element types as ir/dtypes.def lists them. */
#include "runtime/runtime.h"

unsigned dtype_bits(int32_t dtype) {
  switch (dtype) {
#define DTYPE(id, name, onnx, bits, class) \
  case onnx:                               \
    return bits;
#include "ir/dtypes.def"
    default:
      return 0;
  }
}

unsigned dtype_align(int32_t dtype) {
  unsigned bytes = dtype_bits(dtype) / 8;
  if (dtype == MOEC_C64 || dtype == MOEC_C128 || dtype == MOEC_STRING)
    bytes /= 2;
  return bytes > 0 ? bytes : 1;
}

const char *dtype_name(int32_t dtype) {
  switch (dtype) {
#define DTYPE(id, name, onnx, bits, class) \
  case onnx:                               \
    return name;
#include "ir/dtypes.def"
    default:
      return "unknown";
  }
}

bool dtype_tensor_bytes(int32_t dtype, int32_t rank, const int64_t *dims,
                        int64_t *out_bytes) {
  int64_t count = 1;
  bool empty = false;
  for (int32_t i = 0; i < rank; i++) {
    if (dims[i] == 0)
      empty = true;
    else if (__builtin_mul_overflow(count, dims[i], &count))
      return false;
  }
  unsigned bits = dtype_bits(dtype);
  if (bits >= 8) {
    if (__builtin_mul_overflow(count, (int64_t)(bits / 8), out_bytes))
      return false;
  } else { /* packed */
    int64_t per_byte = bits > 0 ? 8 / bits : 1;
    *out_bytes = count / per_byte + (count % per_byte != 0);
  }
  if (empty) *out_bytes = 0;
  return true;
}
