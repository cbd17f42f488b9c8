/* Constants of f32 that are held in 16 bits without losing one. */
#include "ir/half.h"

#include <string.h>

enum { BLOCK = 1024 }; /* elements that are looked at before giving up */

static uint32_t load_bits(const unsigned char *at) {
  uint32_t bits;
  memcpy(&bits, at, sizeof bits);
  return bits;
}

/* Normal numbers of f32 only: 0 or f16's infinity stands for what is beyond. */
static uint32_t narrow_f16(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000, exponent = bits >> 23 & 0xff;
  const uint32_t mantissa = bits & 0x7fffff;
  if (exponent >= 143) return sign | 0x7c00;
  if (exponent >= 113) return sign | (exponent - 112) << 10 | mantissa >> 13;
  if (exponent < 103) return sign;
  return sign | (mantissa | 0x800000) >> (126 - exponent); /* subnormal */
}

static uint32_t widen_f16(uint32_t code) {
  const uint32_t sign = (code & 0x8000) << 16, exponent = code >> 10 & 0x1f;
  uint32_t mantissa = code & 0x3ff, power = 113;
  if (exponent == 31) return sign | 0x7f800000 | mantissa << 13;
  if (exponent > 0) return sign | (exponent + 112) << 23 | mantissa << 13;
  if (mantissa == 0) return sign;
  for (; mantissa < 0x400; mantissa <<= 1) power--;
  return sign | power << 23 | (mantissa & 0x3ff) << 13;
}

/* The bits that `count` elements lose. */
static uint32_t lost_bits(dtype_t to, const unsigned char *from,
                          uint64_t count) {
  uint32_t lost = 0;
  if (to == DT_BF16) {
    for (uint64_t i = 0; i < count; i++)
      lost |= load_bits(from + 4 * i) & 0xffff;
    return lost;
  }
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t bits = load_bits(from + 4 * i);
    lost |= bits ^ widen_f16(narrow_f16(bits));
  }
  return lost;
}

bool half_is_exact(dtype_t to, const void *from, uint64_t count) {
  MOEC_ASSERT(to == DT_F16 || to == DT_BF16);
  for (uint64_t at = 0; at < count; at += BLOCK) {
    const uint64_t n = count - at < BLOCK ? count - at : BLOCK;
    if (lost_bits(to, (const unsigned char *)from + 4 * at, n) != 0)
      return false;
  }
  return true;
}

void half_narrow(dtype_t dtype, void *to, const void *from, uint64_t count) {
  const unsigned char *source = from;
  unsigned char *target = to;
  MOEC_ASSERT(dtype == DT_F16 || dtype == DT_BF16);
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t bits = load_bits(source + 4 * i);
    const uint16_t code =
        (uint16_t)(dtype == DT_BF16 ? bits >> 16 : narrow_f16(bits));
    memcpy(target + 2 * i, &code, sizeof code);
  }
}
