/* Facts about element types, all from dtypes.def. */
#include <string.h>

#include "ir/ir.h"

static const struct dtype_info {
  const char *name;
  unsigned bits;
  dtype_class_t class;
} infos[DT_COUNT] = {
    [DT_NONE] = {"none", 0, DT_CLASS_NONE},
#define DTYPE(id, name, onnx, bits, class) \
  [DT_##id] = {name, bits, DT_CLASS_##class},
#include "ir/dtypes.def"
};

static const struct dtype_info *info_of(dtype_t dtype) {
  bool known = (unsigned)dtype < DT_COUNT && infos[dtype].name != NULL;
  return &infos[known ? dtype : DT_NONE];
}

const char *dtype_name(dtype_t dtype) { return info_of(dtype)->name; }

unsigned dtype_bits(dtype_t dtype) { return info_of(dtype)->bits; }

dtype_class_t dtype_class(dtype_t dtype) { return info_of(dtype)->class; }

uint64_t dtype_bytes(dtype_t dtype, uint64_t count) {
  uint64_t bits = dtype_bits(dtype);
  if (bits == 0) return 0;
  if (bits >= 8) {
    uint64_t bytes;
    if (__builtin_mul_overflow(count, bits / 8, &bytes)) return UINT64_MAX;
    return bytes;
  }
  uint64_t per_byte = 8 / bits;
  return count / per_byte + (count % per_byte != 0);
}

bool dtype_is_float(dtype_t dtype) {
  return dtype_class(dtype) == DT_CLASS_FLOAT;
}

bool dtype_is_integer(dtype_t dtype) {
  dtype_class_t class = dtype_class(dtype);
  return class == DT_CLASS_SIGNED || class == DT_CLASS_UNSIGNED;
}

bool dtype_is_packed(dtype_t dtype) {
  unsigned bits = dtype_bits(dtype);
  return bits != 0 && bits < 8;
}

dtype_t dtype_unpacked(dtype_t dtype) {
  if (!dtype_is_packed(dtype)) return dtype;
  switch (dtype_class(dtype)) {
    case DT_CLASS_FLOAT:
      return DT_F8E4M3FN;
    case DT_CLASS_SIGNED:
      return DT_I8;
    default:
      return DT_U8;
  }
}

dtype_t dtype_by_name(const char *name, size_t length) {
  for (unsigned i = DT_NONE + 1; i < DT_COUNT; i++)
    if (infos[i].name != NULL && strlen(infos[i].name) == length &&
        memcmp(infos[i].name, name, length) == 0)
      return (dtype_t)i;
  return DT_NONE;
}
