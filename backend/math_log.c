/* The logarithm and what follows from it: log, log1p, asinh, acosh, atanh.
 *
 * All reduce to u = 2^n (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2). In f32
 * log(1 + f) = f - f^2/2 + f^3 P(f); in f64 it is taken from s = f / (2 + f) as
 * in fdlibm: log(1 + f) = 2 atanh(s) = f - (h - s (h + s^2 R(s^2))), h = f^2/2.
 */
#include "backend/math.h"

/* f32: P(f), relative error of the logarithm 2^-29.8; f64: R(s^2), 2^-59.5. */
static const float log_f32[] = {
    0x1.555548p-2f,  -0x1.000038p-2f, 0x1.99a4b4p-3f,
    -0x1.554786p-3f, 0x1.2327cap-3f,  -0x1.fec8e8p-4f,
    0x1.ea4eaep-4f,  -0x1.d07d68p-4f, 0x1.fa2366p-5f};
static const double log_f64[] = {0x1.5555555555592p-1, 0x1.999999997ff41p-2,
                                 0x1.24924941de5bbp-2, 0x1.c71c5216e0fc4p-3,
                                 0x1.74663c6b6ff2bp-3, 0x1.39a1f4c6fafe7p-3,
                                 0x1.2f03501eeeee7p-3};
static const polynomial_t log_polynomial = POLYNOMIAL(log);

scaled_t core_take_exponent(const math_t *m, LLVMValueRef u) {
  LLVMValueRef smallest =
      m_to_real(m, i_const(m, (uint64_t)1 << mantissa_bits(m)));
  LLVMValueRef subnormal = r_lt(m, u, smallest);
  LLVMValueRef raised = r_mul(m, u, r_choose(m, 0x1p25f, 0x1p54));
  u = m_select(m, subnormal, raised, u);
  uint64_t root_half = m->wide ? 0x3fe6a09e667f3bcdu : 0x3f3504f3u;
  LLVMValueRef shifted =
      i_add(m, m_to_bits(m, u), i_const(m, bits_of_one(m) - root_half));
  uint64_t below = ((uint64_t)1 << mantissa_bits(m)) - 1;
  LLVMValueRef fraction = i_and_const(m, shifted, below);
  LLVMValueRef mantissa = i_add(m, fraction, i_const(m, root_half));
  /* The biased exponent in the low bits of 2^23 or 2^52 is a real number. */
  double unit = m->wide ? 0x1p52 : 0x1p23;
  LLVMValueRef biased = i_shr(m, shifted, mantissa_bits(m));
  LLVMValueRef real =
      m_to_real(m, m_or(m, biased, m_to_bits(m, r_const(m, unit))));
  LLVMValueRef offset = m_select(
      m, subnormal, r_const(m, unit + exponent_bias(m) + (m->wide ? 54 : 25)),
      r_const(m, unit + exponent_bias(m)));
  return (scaled_t){r_sub(m, real, offset), m_to_real(m, mantissa)};
}

/* n ln 2 + log(1 + f) + c; c may be NULL. */
static LLVMValueRef log_of_reduced(const math_t *m, LLVMValueRef n,
                                   LLVMValueRef f, LLVMValueRef c) {
  LLVMValueRef ln2_hi = r_choose(m, 0x1.62e4p-1f, 0x1.62e42feep-1);
  LLVMValueRef ln2_lo = r_choose(m, 0x1.7f7d1cp-20f, 0x1.a39ef35793c76p-33);
  LLVMValueRef square = r_square(m, f);
  LLVMValueRef half_square = r_scale(m, square, 0.5);
  LLVMValueRef low = r_mul(m, n, ln2_lo);
  if (c != NULL) low = r_add(m, low, c);
  LLVMValueRef tail;
  if (m->wide) {
    LLVMValueRef s = r_div(m, f, r_add(m, f, r_const(m, 2)));
    LLVMValueRef z = r_square(m, s);
    LLVMValueRef r = r_polynomial(m, z, &log_polynomial);
    tail = r_fma(m, s, r_fma(m, z, r, half_square), low);
  } else {
    LLVMValueRef p = r_polynomial(m, f, &log_polynomial);
    tail = r_fma(m, r_mul(m, square, f), p, low);
  }
  LLVMValueRef small = r_sub(m, r_sub(m, half_square, tail), f);
  return r_sub(m, r_mul(m, n, ln2_hi), small);
}

/* The result where x is not in the open interval (pole, infinity). */
static LLVMValueRef with_log_specials(const math_t *m, LLVMValueRef result,
                                      LLVMValueRef x, double pole) {
  LLVMValueRef at = r_const(m, pole), infinity = r_infinity(m);
  result = m_select(m, r_lt(m, x, infinity), result, x);
  result = m_select(m, r_lt(m, x, at), r_nan(m), result);
  return m_select(m, r_eq(m, x, at), r_neg(m, infinity), result);
}

LLVMValueRef math_log(const math_t *m, LLVMValueRef x) {
  scaled_t u = core_take_exponent(m, x);
  LLVMValueRef f = r_sub(m, u.mantissa, r_const(m, 1));
  return with_log_specials(m, log_of_reduced(m, u.n, f, NULL), x, 0);
}

/* log(2^extra (1 + a)) for finite a > -1; extra and a.lo may be NULL. */
static LLVMValueRef log_one_plus(const math_t *m, pair_t a,
                                 LLVMValueRef extra) {
  LLVMValueRef one = r_const(m, 1), zero = r_const(m, 0);
  LLVMValueRef low = a.lo != NULL ? a.lo : zero;
  pair_t sum = p_sum(m, one, a.hi);
  scaled_t u = core_take_exponent(m, sum.hi);
  LLVMValueRef near = r_eq(m, u.n, zero);
  LLVMValueRef f = m_select(m, near, a.hi, r_sub(m, u.mantissa, one));
  LLVMValueRef rest = m_select(m, near, low, r_add(m, sum.lo, low));
  LLVMValueRef n = extra != NULL ? r_add(m, u.n, extra) : u.n;
  return log_of_reduced(m, n, f, r_div(m, rest, sum.hi));
}

LLVMValueRef math_log1p(const math_t *m, LLVMValueRef x) {
  LLVMValueRef result = log_one_plus(m, (pair_t){x, NULL}, NULL);
  return with_log_specials(m, r_with_sign(m, result, x), x, -1);
}

/* Beyond this 1 + x^2 is x^2 and 1 + x is x. */
static LLVMValueRef is_huge(const math_t *m, LLVMValueRef a) {
  return r_ge(m, a, r_choose(m, 0x1p26f, 0x1p54));
}

/* log(1 + (a + (sqrt(a^2 + 1) - 1))), log(2 a) where that is the same. */
LLVMValueRef math_asinh(const math_t *m, LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x), one = r_const(m, 1), zero = r_const(m, 0);
  LLVMValueRef huge = is_huge(m, a);
  LLVMValueRef safe = m_select(m, huge, one, a);
  pair_t root = p_sqrt(m, p_add_real(m, p_product(m, safe, safe), one));
  pair_t sum = p_add_real(m, p_add_real(m, root, r_const(m, -1)), safe);
  sum = p_select(m, huge, (pair_t){a, zero}, sum);
  LLVMValueRef extra = m_select(m, huge, one, zero);
  LLVMValueRef result = log_one_plus(m, sum, extra);
  result = m_select(m, r_lt(m, a, r_infinity(m)), result, a);
  /* Below, a^3/6 does not count, and a^2 would underflow. */
  LLVMValueRef tiny = r_lt(m, a, r_choose(m, 0x1p-13f, 0x1p-28));
  return r_with_sign(m, m_select(m, tiny, a, result), x);
}

/* log(1 + (t + sqrt(t (t + 2)))) with t = x - 1. */
LLVMValueRef math_acosh(const math_t *m, LLVMValueRef x) {
  LLVMValueRef one = r_const(m, 1), zero = r_const(m, 0);
  LLVMValueRef huge = is_huge(m, x);
  LLVMValueRef safe = m_select(m, huge, r_const(m, 2), x);
  pair_t t = p_sum(m, safe, r_const(m, -1));
  pair_t square = p_mul(m, t, p_add_real(m, t, r_const(m, 2)));
  pair_t sum = p_add(m, t, p_sqrt(m, square));
  sum = p_select(m, huge, (pair_t){x, zero}, sum);
  LLVMValueRef result = log_one_plus(m, sum, m_select(m, huge, one, zero));
  result = m_select(m, r_lt(m, x, r_infinity(m)), result, x);
  result = m_select(m, r_eq(m, x, one), zero, result);
  return m_select(m, r_lt(m, x, one), r_nan(m), result);
}

/* log(1 + 2 a / (1 - a)) / 2. */
LLVMValueRef math_atanh(const math_t *m, LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x), one = r_const(m, 1);
  pair_t twice = {r_add(m, a, a), r_const(m, 0)};
  pair_t q = p_div(m, twice, p_sum(m, one, r_neg(m, a)));
  LLVMValueRef result = r_scale(m, log_one_plus(m, q, NULL), 0.5);
  result = m_select(m, r_eq(m, a, one), r_infinity(m), result);
  result = m_select(m, r_gt(m, a, one), r_nan(m), result);
  return r_with_sign(m, result, x);
}
