/* Conversion of single elements between doubles, int64 and every dtype. */
#include "ir/element.h"

#include <math.h>
#include <string.h>

/* Floats narrower than 32 bits: sign, exponent, mantissa. */
typedef struct small_float {
  unsigned exponent_bits, mantissa_bits;
  int bias;
  uint32_t max;      /* code of the largest finite number */
  uint32_t infinity; /* code, 0: has none */
  uint32_t nan;      /* code, 0: has none (NaN becomes `max`) */
  bool wraps;        /* overflow of finite numbers gives infinity */
  bool one_zero;     /* code of -0 is the NaN */
} small_float_t;

static const small_float_t *small_float(dtype_t dtype) {
  static const small_float_t f16 = {5,      10,     15,   0x7bff,
                                    0x7c00, 0x7e00, true, false};
  static const small_float_t bf16 = {8,      7,      127,  0x7f7f,
                                     0x7f80, 0x7fc0, true, false};
  static const small_float_t e4m3fn = {4, 3, 7, 0x7e, 0, 0x7f, false, false};
  static const small_float_t e4m3fnuz = {4, 3, 8, 0x7f, 0, 0x80, false, true};
  static const small_float_t e5m2 = {5, 2, 15, 0x7b, 0x7c, 0x7e, false, false};
  static const small_float_t e5m2fnuz = {5, 2, 16, 0x7f, 0, 0x80, false, true};
  static const small_float_t e2m1 = {2, 1, 1, 0x7, 0, 0, false, false};
  switch (dtype) {
    case DT_F16:
      return &f16;
    case DT_BF16:
      return &bf16;
    case DT_F8E4M3FN:
      return &e4m3fn;
    case DT_F8E4M3FNUZ:
      return &e4m3fnuz;
    case DT_F8E5M2:
      return &e5m2;
    case DT_F8E5M2FNUZ:
      return &e5m2fnuz;
    case DT_F4E2M1:
      return &e2m1;
    default:
      return NULL;
  }
}

/* mantissa >> shift, rounded to nearest, halves to even. */
static uint64_t shift_rounded(uint64_t mantissa, unsigned shift) {
  if (shift > 62) return 0; /* mantissa has 53 bits: below one half */
  uint64_t kept = mantissa >> shift;
  uint64_t rest = mantissa & ((UINT64_C(1) << shift) - 1);
  uint64_t half = shift > 0 ? UINT64_C(1) << (shift - 1) : 0;
  bool up = shift > 0 && (rest > half || (rest == half && (kept & 1)));
  return kept + up;
}

/* Code of a finite magnitude, perhaps beyond the largest finite one. */
static uint64_t encode_magnitude(const small_float_t *f, double magnitude) {
  int exponent;
  double fraction = frexp(magnitude, &exponent); /* in [0.5, 1), or 0 */
  uint64_t mantissa = (uint64_t)ldexp(fraction, 53);
  int power = exponent - 1, least = 1 - f->bias;
  if (mantissa == 0) return 0;
  if (power < least) power = least; /* subnormal */
  int shift = power - (int)f->mantissa_bits - (exponent - 53);
  uint64_t rounded = shift_rounded(mantissa, (unsigned)shift);
  /* The hidden bit of normal numbers adds the missing 1 to the exponent. */
  return ((uint64_t)(power + f->bias - 1) << f->mantissa_bits) + rounded;
}

static uint32_t encode_small(const small_float_t *f, double x) {
  uint32_t sign = UINT32_C(1) << (f->exponent_bits + f->mantissa_bits);
  if (isnan(x)) return f->nan != 0 ? f->nan : f->max;
  uint32_t code;
  if (isinf(x)) {
    code = f->infinity != 0 ? f->infinity : f->max;
  } else {
    uint64_t wide = encode_magnitude(f, fabs(x));
    code = wide <= f->max ? (uint32_t)wide : f->wraps ? f->infinity : f->max;
  }
  if (code == 0 && f->one_zero) return 0;
  return signbit(x) ? code | sign : code;
}

static double decode_small(const small_float_t *f, uint32_t code) {
  unsigned sign_at = f->exponent_bits + f->mantissa_bits;
  uint32_t magnitude = code & ((UINT32_C(1) << sign_at) - 1);
  bool negative = (code >> sign_at & 1) != 0;
  if (f->one_zero && negative && magnitude == 0) return NAN;
  if (magnitude > f->max)
    return f->infinity == 0 || magnitude != f->infinity ? NAN
           : negative                                   ? -INFINITY
                                                        : INFINITY;
  int exponent = (int)(magnitude >> f->mantissa_bits);
  uint32_t mantissa = magnitude & ((UINT32_C(1) << f->mantissa_bits) - 1);
  if (exponent > 0)
    mantissa |= UINT32_C(1) << f->mantissa_bits;
  else
    exponent = 1;
  double value = ldexp(mantissa, exponent - f->bias - (int)f->mantissa_bits);
  return negative ? -value : value;
}

/* Powers of two from 2^-127 to 2^127; 255 is the NaN. */
static uint32_t encode_power(double x) {
  int exponent;
  if (isnan(x) || x < 0) return 255;
  if (x == 0) return 0;
  if (isinf(x)) return 254;
  double fraction = frexp(x, &exponent);
  int code = exponent - 1 + (fraction >= 0.75) + 127;
  return (uint32_t)(code < 0 ? 0 : code > 254 ? 254 : code);
}

static uint64_t load_bits(unsigned bits, const void *bytes, uint64_t index) {
  const unsigned char *p = bytes;
  if (bits < 8) {
    unsigned per_byte = 8 / bits;
    unsigned shift = (unsigned)(index % per_byte) * bits;
    return p[index / per_byte] >> shift & ((1u << bits) - 1);
  }
  uint64_t value = 0;
  p += index * (bits / 8);
  for (unsigned i = 0; i < bits / 8; i++) value |= (uint64_t)p[i] << 8 * i;
  return value;
}

static void store_bits(unsigned bits, void *bytes, uint64_t index,
                       uint64_t value) {
  unsigned char *p = bytes;
  if (bits < 8) {
    unsigned per_byte = 8 / bits, mask = (1u << bits) - 1;
    unsigned shift = (unsigned)(index % per_byte) * bits;
    p += index / per_byte;
    *p = (unsigned char)((*p & ~(mask << shift)) |
                         ((unsigned)(value & mask) << shift));
    return;
  }
  p += index * (bits / 8);
  for (unsigned i = 0; i < bits / 8; i++)
    p[i] = (unsigned char)(value >> 8 * i);
}

static double load_f64(const void *bytes, uint64_t index) {
  uint64_t bits = load_bits(64, bytes, index);
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static double load_f32(const void *bytes, uint64_t index) {
  uint32_t bits = (uint32_t)load_bits(32, bytes, index);
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static void store_f64(void *bytes, uint64_t index, double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  store_bits(64, bytes, index, bits);
}

static void store_f32(void *bytes, uint64_t index, double x) {
  float narrow = (float)x;
  uint32_t bits;
  memcpy(&bits, &narrow, sizeof bits);
  store_bits(32, bytes, index, bits);
}

double ir_element_float(dtype_t dtype, const void *bytes, uint64_t index) {
  const small_float_t *small = small_float(dtype);
  unsigned bits = dtype_bits(dtype);
  if (small != NULL)
    return decode_small(small, (uint32_t)load_bits(bits, bytes, index));
  switch (dtype) {
    case DT_F32:
      return load_f32(bytes, index);
    case DT_F64:
      return load_f64(bytes, index);
    case DT_C64:
      return load_f32(bytes, 2 * index);
    case DT_C128:
      return load_f64(bytes, 2 * index);
    case DT_U64:
      return (double)load_bits(bits, bytes, index);
    case DT_F8E8M0: {
      int code = (int)load_bits(bits, bytes, index);
      return code == 255 ? NAN : ldexp(1, code - 127);
    }
    default:
      return (double)ir_element_int(dtype, bytes, index);
  }
}

int64_t ir_element_int(dtype_t dtype, const void *bytes, uint64_t index) {
  dtype_class_t class = dtype_class(dtype);
  unsigned bits = dtype_bits(dtype);
  MOEC_ASSERT(dtype_is_integer(dtype) || class == DT_CLASS_BOOL);
  uint64_t value = load_bits(bits, bytes, index);
  uint64_t sign = UINT64_C(1) << (bits - 1);
  if (class == DT_CLASS_SIGNED) value = (value ^ sign) - sign;
  return (int64_t)value;
}

/* Nearest integer within the type, halves to even; low 64 bits of it. */
static uint64_t round_to_integer(dtype_t dtype, double x) {
  unsigned bits = dtype_bits(dtype);
  bool is_signed = dtype_class(dtype) == DT_CLASS_SIGNED;
  double limit = ldexp(1, (int)bits - is_signed); /* one above the largest */
  if (isnan(x)) return 0;
  double floor_x = floor(x), rest = x - floor_x;
  bool up = rest > 0.5 || (rest == 0.5 && fmod(floor_x, 2) != 0);
  double rounded = up ? floor_x + 1 : floor_x;
  if (rounded >= limit)
    return is_signed ? (UINT64_C(1) << (bits - 1)) - 1
                     : UINT64_MAX >> (64 - bits);
  if (!is_signed) return rounded <= 0 ? 0 : (uint64_t)rounded;
  if (rounded < -limit) return UINT64_MAX << (bits - 1);
  return (uint64_t)(int64_t)rounded;
}

void ir_element_set_float(dtype_t dtype, void *bytes, uint64_t index,
                          double x) {
  const small_float_t *small = small_float(dtype);
  unsigned bits = dtype_bits(dtype);
  if (small != NULL) {
    store_bits(bits, bytes, index, encode_small(small, x));
    return;
  }
  switch (dtype) {
    case DT_F32:
      store_f32(bytes, index, x);
      return;
    case DT_F64:
      store_f64(bytes, index, x);
      return;
    case DT_F8E8M0:
      store_bits(bits, bytes, index, encode_power(x));
      return;
    case DT_BOOL:
      store_bits(bits, bytes, index, x != 0);
      return;
    case DT_C64:
      store_f32(bytes, 2 * index, x);
      store_f32(bytes, 2 * index + 1, 0);
      return;
    case DT_C128:
      store_f64(bytes, 2 * index, x);
      store_f64(bytes, 2 * index + 1, 0);
      return;
    default:
      break;
  }
  MOEC_ASSERT(dtype_is_integer(dtype));
  store_bits(bits, bytes, index, round_to_integer(dtype, x));
}

/* v as a double from which rounding to 51 bits or less rounds v correctly: bits
 * that do not fit make the last one odd. */
static double int_to_odd_double(int64_t v) {
  uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  unsigned dropped = 0;
  while (magnitude >> dropped >= UINT64_C(1) << 53) dropped++;
  bool sticky = (magnitude & ((UINT64_C(1) << dropped) - 1)) != 0;
  double x = ldexp((double)(magnitude >> dropped | sticky), (int)dropped);
  return v < 0 ? -x : x;
}

void ir_element_set_int(dtype_t dtype, void *bytes, uint64_t index, int64_t v) {
  if (dtype_is_integer(dtype))
    store_bits(dtype_bits(dtype), bytes, index, (uint64_t)v);
  else if (dtype == DT_F64 || dtype == DT_C128)
    ir_element_set_float(dtype, bytes, index, (double)v);
  else
    ir_element_set_float(dtype, bytes, index, int_to_odd_double(v));
}
