/* Conversions between f32 or f64 and the small floats, held in integers.
 *
 * A small float is widened by moving its bits, subnormal ones through the
 * conversion of their integer. Narrowing rounds the bits once, halves to even;
 * results that are subnormal are rounded by adding a power of 2 whose unit is
 * theirs. No step works on subnormal f32 where the operand is not one, which
 * would be slow on some machines. */
#include <string.h>

#include "backend/math.h"

typedef enum {
  NAN_IEEE,     /* with infinities */
  NAN_ALL_ONES, /* no infinities */
  NAN_MINUS_0,  /* no infinities, no negative zero */
  NAN_NONE,     /* neither */
} nan_kind_t;

typedef struct format {
  dtype_t dtype;
  unsigned exponent, mantissa; /* bits */
  int bias;
  nan_kind_t nan;
  uint64_t largest;   /* finite code */
  uint64_t quiet_nan; /* code of a positive NaN */
} format_t;

static const format_t formats[] = {
    {DT_F16, 5, 10, 15, NAN_IEEE, 0x7bff, 0x7e00},
    {DT_BF16, 8, 7, 127, NAN_IEEE, 0x7f7f, 0x7fc0},
    {DT_F8E4M3FN, 4, 3, 7, NAN_ALL_ONES, 0x7e, 0x7f},
    {DT_F8E4M3FNUZ, 4, 3, 8, NAN_MINUS_0, 0x7f, 0x80},
    {DT_F8E5M2, 5, 2, 15, NAN_IEEE, 0x7b, 0x7e},
    {DT_F8E5M2FNUZ, 5, 2, 16, NAN_MINUS_0, 0x7f, 0x80},
    {DT_F4E2M1, 2, 1, 1, NAN_NONE, 0x7, 0x8}, /* NaN becomes a zero */
};

static const format_t *find_format(dtype_t dtype) {
  for (unsigned i = 0; i < sizeof formats / sizeof formats[0]; i++)
    if (formats[i].dtype == dtype) return &formats[i];
  MOEC_BUG("%s is not a small float", dtype_name(dtype));
}

/* 2^e as a constant; |e| is small enough for the type. */
static LLVMValueRef power_of_two(const math_t *m, int e) {
  uint64_t bits = (uint64_t)(exponent_bias(m) + e) << mantissa_bits(m);
  return m_to_real(m, i_const(m, bits));
}

static LLVMValueRef i_select(const math_t *m, LLVMValueRef condition,
                             uint64_t code, LLVMValueRef otherwise) {
  return m_select(m, condition, i_const(m, code), otherwise);
}

/* ---- Widening ------------------------------------------------------------ */

/* The code, shifted up so that it is an f16 up to the bias, to f32. */
static LLVMValueRef widen_as_half(const math_t *m, LLVMValueRef code,
                                  int scale) {
  emitter_t *em = m->em;
  LLVMTypeRef half = LLVMHalfTypeInContext(em->context);
  LLVMValueRef bits =
      LLVMBuildTrunc(em->builder, code, emit_lanes(em->i16, m->lanes), "");
  bits = LLVMBuildBitCast(em->builder, bits, emit_lanes(half, m->lanes), "");
  LLVMValueRef value = LLVMBuildFPExt(em->builder, bits, m->real, "");
  return scale == 0 ? value : r_mul(m, value, power_of_two(m, scale));
}

/* Without the NaN of formats that are not IEEE's. code has no bits above. */
static LLVMValueRef widen_magnitude(const math_t *m, const format_t *f,
                                    LLVMValueRef code) {
  unsigned sign_at = f->exponent + f->mantissa, up = 23 - f->mantissa;
  LLVMValueRef size = i_and_const(m, code, ((uint64_t)1 << sign_at) - 1);
  LLVMValueRef moved = i_shl(m, size, up);
  LLVMValueRef normal =
      i_add(m, moved, i_const(m, (uint64_t)(127 - f->bias) << 23));
  LLVMValueRef small = LLVMBuildSIToFP(m->em->builder, size, m->real, "");
  small = r_mul(m, small, power_of_two(m, 1 - f->bias - (int)f->mantissa));
  LLVMValueRef subnormal =
      i_compare(m, LLVMIntULT, size, (uint64_t)1 << f->mantissa);
  LLVMValueRef bits = m_select(m, subnormal, m_to_bits(m, small), normal);
  if (f->nan == NAN_IEEE) {
    LLVMValueRef beyond = i_compare(m, LLVMIntUGT, size, f->largest);
    LLVMValueRef special = m_or(m, moved, i_const(m, bits_of_infinity(m)));
    bits = m_select(m, beyond, special, bits);
  }
  LLVMValueRef sign =
      i_shl(m, i_and_const(m, code, (uint64_t)1 << sign_at), 31 - sign_at);
  return m_to_real(m, m_or(m, bits, sign));
}

static LLVMValueRef widen(const math_t *m, const format_t *f,
                          LLVMValueRef code) {
  if (f->dtype == DT_BF16) return m_to_real(m, i_shl(m, code, 16));
  bool fits_half = f->exponent == 4 || (f->exponent == 5 && f->nan == NAN_IEEE);
  if (!isa_has(m->em->isa, ISA_F16) || !fits_half)
    return widen_magnitude(m, f, code);
  int scale = 15 - f->bias;
  if (f->exponent == 5)
    return widen_as_half(m, i_shl(m, code, 10 - f->mantissa), scale);
  LLVMValueRef sign = i_shl(m, i_and_const(m, code, 0x80), 8);
  LLVMValueRef size = i_shl(m, i_and_const(m, code, 0x7f), 7);
  return widen_as_half(m, m_or(m, sign, size), scale);
}

/* 2^(code - 127); 255 is NaN. */
static LLVMValueRef widen_f8e8m0(const math_t *m, LLVMValueRef code) {
  LLVMValueRef bits = i_shl(m, code, 23);
  bits = i_select(m, i_compare(m, LLVMIntEQ, code, 0), 0x00400000, bits);
  bits = i_select(m, i_compare(m, LLVMIntEQ, code, 255), 0x7fc00000, bits);
  return m_to_real(m, bits);
}

LLVMValueRef emit_float_from_bits(emitter_t *em, dtype_t from,
                                  LLVMValueRef bits) {
  math_t m = math_for(em, em->f32, emit_lanes_of(bits));
  LLVMValueRef code = LLVMBuildIntCast2(em->builder, bits, m.bits, false, "");
  code = i_and_const(&m, code, ((uint64_t)1 << dtype_bits(from)) - 1);
  if (from == DT_F8E8M0) return widen_f8e8m0(&m, code);
  const format_t *f = find_format(from);
  LLVMValueRef value = widen(&m, f, code);
  if (f->nan == NAN_ALL_ONES) {
    LLVMValueRef size = i_and_const(&m, code, f->quiet_nan);
    return m_select(&m, i_compare(&m, LLVMIntEQ, size, f->quiet_nan), r_nan(&m),
                    value);
  }
  if (f->nan == NAN_MINUS_0)
    return m_select(&m, i_compare(&m, LLVMIntEQ, code, f->quiet_nan), r_nan(&m),
                    value);
  return value;
}

/* ---- Narrowing ----------------------------------------------------------- */

/* |x| rounded to the format as if its exponents had no upper end; a = bits of
 * |x|, finite. */
static LLVMValueRef round_magnitude(const math_t *m, const format_t *f,
                                    LLVMValueRef a) {
  unsigned drop = mantissa_bits(m) - f->mantissa;
  LLVMValueRef odd = i_and_const(m, i_shr(m, a, drop), 1);
  LLVMValueRef half = i_const(m, ((uint64_t)1 << (drop - 1)) - 1);
  LLVMValueRef rounded = i_shr(m, i_add(m, i_add(m, a, half), odd), drop);
  int rebias = exponent_bias(m) - f->bias;
  if (rebias == 0) return rounded; /* subnormal ones are no different */
  LLVMValueRef normal =
      i_sub(m, rounded, i_const(m, (uint64_t)rebias << f->mantissa));
  int unit = 1 - f->bias - (int)f->mantissa;
  LLVMValueRef magic = power_of_two(m, (int)mantissa_bits(m) + unit);
  LLVMValueRef sum = r_add(m, m_to_real(m, a), magic);
  LLVMValueRef small = i_sub(m, m_to_bits(m, sum), m_to_bits(m, magic));
  uint64_t least = (uint64_t)(rebias + 1) << mantissa_bits(m);
  return m_select(m, i_compare(m, LLVMIntULT, a, least), small, normal);
}

/* The code for what rounds beyond the largest finite value. */
static uint64_t overflow_code(const format_t *f, bool saturate) {
  bool eight_bits = f->exponent + f->mantissa == 7;
  if (f->nan == NAN_NONE || (eight_bits && saturate)) return f->largest;
  return f->nan == NAN_IEEE ? f->largest + 1 : f->quiet_nan;
}

static LLVMValueRef narrow(const math_t *m, const format_t *f, LLVMValueRef x,
                           bool saturate) {
  unsigned width = m->wide ? 64 : 32, sign_at = f->exponent + f->mantissa;
  LLVMValueRef bits = m_to_bits(m, x);
  LLVMValueRef a = i_and_const(m, bits, sign_bit(m) - 1);
  LLVMValueRef code = round_magnitude(m, f, a);
  LLVMValueRef beyond = i_compare(m, LLVMIntUGT, code, f->largest);
  code = i_select(m, beyond, overflow_code(f, saturate), code);
  LLVMValueRef nan = i_compare(m, LLVMIntUGT, a, bits_of_infinity(m));
  code = i_select(m, nan, f->quiet_nan, code);
  LLVMValueRef sign = i_shl(m, i_shr(m, bits, width - 1), sign_at);
  if (f->nan == NAN_MINUS_0) { /* neither 0 nor NaN has a sign */
    LLVMValueRef size = i_and_const(m, code, f->quiet_nan - 1);
    LLVMValueRef unsigned_code = i_compare(m, LLVMIntEQ, size, 0);
    sign = i_select(m, unsigned_code, 0, sign);
  }
  return i_xor(m, code, sign);
}

/* The power of 2 at, above or next to |x|, as its exponent + 127. */
static LLVMValueRef narrow_f8e8m0(const math_t *m, LLVMValueRef x,
                                  bool saturate, const char *round_mode) {
  LLVMValueRef a = r_abs(m, x),
               lift = i_const(m, (uint64_t)exponent_bias(m) - 127);
  if (!m->wide) { /* subnormal f32 reach up to the smallest result */
    LLVMValueRef subnormal = r_lt_const(m, a, 0x1p-126);
    a = m_select(m, subnormal, r_scale(m, a, 0x1p24), a);
    lift = i_select(m, subnormal, 24, lift);
  }
  LLVMValueRef bits = m_to_bits(m, a);
  uint64_t below = ((uint64_t)1 << mantissa_bits(m)) - 1;
  uint64_t carry = 0; /* what added to the bits carries into the exponent */
  if (round_mode == NULL || strcmp(round_mode, "up") == 0)
    carry = below;
  else if (strcmp(round_mode, "nearest") == 0)
    carry = (below + 1) / 2;
  else
    MOEC_ASSERT(strcmp(round_mode, "down") == 0);
  LLVMValueRef code = i_add(m, bits, i_const(m, carry));
  code = i_sub(m, i_shr(m, code, mantissa_bits(m)), lift);
  LLVMValueRef low = i_compare(m, LLVMIntSLT, code, 0);
  LLVMValueRef high = i_compare(m, LLVMIntSGT, code, 254);
  code = i_select(m, low, saturate ? 0 : 255, code);
  code = i_select(m, high, saturate ? 254 : 255, code);
  return i_select(m, r_is_nan(m, a), 255, code);
}

LLVMValueRef emit_float_to_bits(emitter_t *em, dtype_t to, LLVMValueRef x,
                                bool saturate, const char *round_mode) {
  math_t m = math_of(em, x);
  LLVMTypeRef type =
      emit_lanes(dtype_bits(to) == 16 ? em->i16 : em->i8, m.lanes);
  if (to == DT_F16 && !m.wide && isa_has(em->isa, ISA_F16)) {
    LLVMTypeRef half = emit_lanes(LLVMHalfTypeInContext(em->context), m.lanes);
    LLVMValueRef value = LLVMBuildFPTrunc(em->builder, x, half, "");
    return LLVMBuildBitCast(em->builder, value, type, "");
  }
  LLVMValueRef code = to == DT_F8E8M0
                          ? narrow_f8e8m0(&m, x, saturate, round_mode)
                          : narrow(&m, find_format(to), x, saturate);
  return LLVMBuildTrunc(em->builder, code, type, "");
}
