/* Powers: exp(y log |x|) with the logarithm as an unevaluated sum of two
 * floats. */
#include "backend/math.h"

/* With s = f / (2 + f): log(1 + f) = 2 s + 2/3 s^3 + s^5 T(s^2), the last term
 * small enough for one float. Relative error of the logarithm 2^-43, 2^-73. */
static const float tail_f32[] = {0x1.999998p-2f, 0x1.2493b6p-2f, 0x1.c63dacp-3f,
                                 0x1.908348p-3f};
static const double tail_f64[] = {0x1.9999999999996p-2, 0x1.2492492492f51p-2,
                                  0x1.c71c71c5968bp-3,  0x1.745d18295ba6cp-3,
                                  0x1.3b1364c7146cap-3, 0x1.11206fa2ee74ap-3,
                                  0x1.de3d592e6ed6cp-4, 0x1.eac6a76d9f00cp-4};
static const polynomial_t tail_polynomial = POLYNOMIAL(tail);

/* log(a) for finite a > 0 as a pair. */
static pair_t log_pair(const math_t *m, LLVMValueRef a) {
  scaled_t u = core_take_exponent(m, a);
  LLVMValueRef one = r_const(m, 1), zero = r_const(m, 0);
  pair_t f = {r_sub(m, u.mantissa, one), zero};
  pair_t s = p_div(m, f, p_sum(m, u.mantissa, one));
  pair_t z = p_mul(m, s, s);
  pair_t two_thirds = p_const(m, 0x1.555556p-1, -0x1.555556p-26,
                              0x1.5555555555555p-1, 0x1.5555555555555p-55);
  pair_t cube = p_mul(m, p_mul(m, z, s), two_thirds);
  LLVMValueRef t = r_polynomial(m, z.hi, &tail_polynomial);
  LLVMValueRef tail = r_mul(m, r_mul(m, r_square(m, z.hi), s.hi), t);
  pair_t twice = {r_add(m, s.hi, s.hi), r_add(m, s.lo, s.lo)};
  pair_t small = p_add(m, twice, p_add_real(m, cube, tail));
  LLVMValueRef ln2_hi = r_choose(m, 0x1.62e4p-1f, 0x1.62e42feep-1);
  LLVMValueRef ln2_lo = r_choose(m, 0x1.7f7d1cp-20f, 0x1.a39ef35793c76p-33);
  pair_t whole = {r_mul(m, u.n, ln2_hi), r_mul(m, u.n, ln2_lo)};
  return p_add(m, whole, small);
}

/* Zeros and infinities of x, by the sign of y. */
static LLVMValueRef with_limits(const math_t *m, LLVMValueRef result,
                                LLVMValueRef a, LLVMValueRef y) {
  LLVMValueRef zero = r_const(m, 0), infinity = r_infinity(m);
  LLVMValueRef falling = r_lt(m, y, zero);
  LLVMValueRef at_zero = m_select(m, falling, infinity, zero);
  LLVMValueRef at_infinity = m_select(m, falling, zero, infinity);
  result = m_select(m, r_eq(m, a, zero), at_zero, result);
  return m_select(m, r_eq(m, a, infinity), at_infinity, result);
}

LLVMValueRef math_pow(const math_t *m, LLVMValueRef x, LLVMValueRef y) {
  LLVMValueRef a = r_abs(m, x), zero = r_const(m, 0), one = r_const(m, 1);
  /* |log a| is at least half a unit of 1, or 0: a larger y changes nothing. */
  double most = m->wide ? 0x1p80 : 0x1p50;
  LLVMValueRef limited = r_at_least(m, r_at_most(m, y, most), -most);
  pair_t power = p_mul_real(m, log_pair(m, a), limited);
  LLVMValueRef result = core_exp(m, power.hi, power.lo, false);
  result = with_limits(m, result, a, y);

  /* A negative base: the sign of odd powers, no value for fractions. */
  LLVMValueRef whole = r_eq(m, emit_round(m->em, OP_TRUNC, y), y);
  LLVMValueRef half = r_scale(m, y, 0.5);
  LLVMValueRef even = r_eq(m, emit_round(m->em, OP_TRUNC, half), half);
  LLVMValueRef odd = m_and(m, whole, m_not(m, even));
  LLVMValueRef sign = m_select(m, odd, m_sign_of(m, x), i_const(m, 0));
  result = r_xor_sign(m, result, sign);
  LLVMValueRef finite = r_lt(m, a, r_infinity(m));
  LLVMValueRef undefined =
      m_and(m, m_and(m, r_lt(m, x, zero), finite), m_not(m, whole));
  result = m_select(m, undefined, r_nan(m), result);

  LLVMValueRef nan = LLVMBuildFCmp(m->em->builder, LLVMRealUNO, x, y, "");
  result = m_select(m, nan, r_nan(m), result);
  LLVMValueRef always_one = m_or(m, r_eq(m, x, one), r_eq(m, y, zero));
  return m_select(m, always_one, one, result);
}
