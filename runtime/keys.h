/* Elements as unsigned numbers of the same order: -0 equals 0, NaN is the
 * largest number and all NaN are equal. */
#ifndef RUNTIME_KEYS_H
#define RUNTIME_KEYS_H

#include "runtime/runtime.h"

/* Sign and magnitude to an order-preserving number of `width` bits; magnitudes
 * above `infinity` are NaN; -0 equals 0. */
static inline uint64_t float_key(uint64_t bits, unsigned width,
                                 uint64_t infinity) {
  const uint64_t sign = 1ull << (width - 1), all = sign | (sign - 1);
  uint64_t magnitude = bits & ~sign;
  uint64_t positive = magnitude | sign;
  uint64_t key = bits == magnitude ? positive : ~bits & all;
  key = magnitude == 0 ? sign : key;
  return magnitude > infinity ? all : key;
}

/* 8-bit floats without -0 and infinity, whose one NaN is 0x80: its place below
 * 0 goes to 0, and so on up, to leave the highest key for NaN. */
static inline uint64_t float8_nuz_key(uint64_t bits) {
  if (bits == 0x80) return 0xff;
  return bits < 0x80 ? bits + 0x7f : ~bits & 0xff;
}

static inline uint64_t signed_key(uint64_t bits, unsigned width) {
  return bits ^ 1ull << (width - 1);
}

/* Calls KEY(type of the bits in memory, expression of the key of `bits`) for
 * the dtype; packed types, complex numbers and strings have no order here. */
#define KEY_CASES(KEY)                                 \
  case MOEC_F32:                                       \
    KEY(uint32_t, float_key(bits, 32, 0x7f800000u))    \
  case MOEC_F64:                                       \
    KEY(uint64_t, float_key(bits, 64, 0x7ffull << 52)) \
  case MOEC_F16:                                       \
    KEY(uint16_t, float_key(bits, 16, 0x7c00))         \
  case MOEC_BF16:                                      \
    KEY(uint16_t, float_key(bits, 16, 0x7f80))         \
  case MOEC_F8E4M3FN:                                  \
    KEY(uint8_t, float_key(bits, 8, 0x7e))             \
  case MOEC_F8E5M2:                                    \
    KEY(uint8_t, float_key(bits, 8, 0x7c))             \
  case MOEC_F8E4M3FNUZ:                                \
  case MOEC_F8E5M2FNUZ:                                \
    KEY(uint8_t, float8_nuz_key(bits))                 \
  case MOEC_I8:                                        \
    KEY(uint8_t, signed_key(bits, 8))                  \
  case MOEC_I16:                                       \
    KEY(uint16_t, signed_key(bits, 16))                \
  case MOEC_I32:                                       \
    KEY(uint32_t, signed_key(bits, 32))                \
  case MOEC_I64:                                       \
    KEY(uint64_t, signed_key(bits, 64))                \
  case MOEC_BOOL:                                      \
  case MOEC_F8E8M0:                                    \
  case MOEC_U8:                                        \
    KEY(uint8_t, bits)                                 \
  case MOEC_U16:                                       \
    KEY(uint16_t, bits)                                \
  case MOEC_U32:                                       \
    KEY(uint32_t, bits)                                \
  case MOEC_U64:                                       \
    KEY(uint64_t, bits)

#endif
