/* Sine, cosine and tangent: kernels on [-pi/4, pi/4] after the reduction of
 * math_reduce.c. */
#include "backend/math.h"

/* (sin(r) - r) / r^3 in r^2; relative error of the sine 2^-27.9, 2^-57.9. */
static const float sin_f32[] = {-0x1.555546p-3f, 0x1.110776p-7f,
                                -0x1.9952f8p-13f};
static const double sin_f64[] = {-0x1.5555555555548p-3,  0x1.111111110f73p-7,
                                 -0x1.a01a019be9217p-13, 0x1.71de35552b518p-19,
                                 -0x1.ae5e4b83e150dp-26, 0x1.5d8b55938e046p-33};
static const polynomial_t sin_polynomial = POLYNOMIAL(sin);

/* (cos(r) - 1 + r^2 / 2) / r^4 in r^2; 2^-33, 2^-63.9. */
static const float cos_f32[] = {0x1.55554ap-5f, -0x1.6c0c28p-10f,
                                0x1.99e80cp-16f};
static const double cos_f64[] = {0x1.555555555554bp-5,  -0x1.6c16c16c1500dp-10,
                                 0x1.a01a019c8dd22p-16, -0x1.27e4f7f05093ep-22,
                                 0x1.1ee9dacc068d7p-29, -0x1.8fa5ecdcac174p-37};
static const polynomial_t cos_polynomial = POLYNOMIAL(cos);

/* (tan(r) - r) / r^3 in r^2; 2^-56.2. */
static const double tan_f64[] = {
    0x1.55555555554fp-2,    0x1.11111111184d3p-3,   0x1.ba1ba1b45442ap-5,
    0x1.664f49acb2671p-6,   0x1.226e11e356ec6p-7,   0x1.d6d9446399d81p-9,
    0x1.7d5a93177f306p-10,  0x1.3801243a9482bp-11,  0x1.d22325d153f6dp-13,
    0x1.1ec8cd19b1ebdp-13,  -0x1.c000c049b2aa4p-16, 0x1.786aa47fe348ap-14,
    -0x1.79c7e374d58ddp-15, 0x1.5eab40c3602bp-16};
static const polynomial_t tan_polynomial = {NULL, tan_f64, 0,
                                            sizeof tan_f64 / sizeof tan_f64[0]};

static LLVMValueRef sine_kernel(const math_t *m, const angle_t *a,
                                LLVMValueRef square) {
  LLVMValueRef p = r_polynomial(m, square, &sin_polynomial);
  LLVMValueRef cube = r_mul(m, a->r, square);
  if (a->rest == NULL) return r_fma(m, cube, p, a->r);
  LLVMValueRef slope = r_fma(m, square, r_const(m, -0.5), r_const(m, 1));
  LLVMValueRef tail = r_fma(m, cube, p, r_mul(m, a->rest, slope));
  return r_add(m, a->r, tail);
}

static LLVMValueRef cosine_kernel(const math_t *m, const angle_t *a,
                                  LLVMValueRef square) {
  LLVMValueRef p = r_polynomial(m, square, &cos_polynomial);
  LLVMValueRef one = r_const(m, 1), fourth = r_square(m, square);
  LLVMValueRef half = r_scale(m, square, 0.5);
  LLVMValueRef near = r_sub(m, one, half);
  if (a->rest == NULL) return r_fma(m, fourth, p, near);
  LLVMValueRef error = r_sub(m, r_sub(m, one, near), half);
  LLVMValueRef tail = r_fma(m, fourth, p, r_fnma(m, a->r, a->rest, error));
  return r_add(m, near, tail);
}

static LLVMValueRef is_odd(const math_t *m, LLVMValueRef quadrant) {
  return i_compare(m, LLVMIntNE, i_and_const(m, quadrant, 1), 0);
}

/* sin(a + quadrant pi/2) with `sign` toggled in. */
static LLVMValueRef sine_in_quadrant(const math_t *m, const angle_t *a,
                                     LLVMValueRef quadrant, LLVMValueRef sign) {
  LLVMValueRef square = r_square(m, a->r);
  LLVMValueRef s = sine_kernel(m, a, square), c = cosine_kernel(m, a, square);
  LLVMValueRef value = m_select(m, is_odd(m, quadrant), c, s);
  unsigned to_sign = m->wide ? 62 : 30;
  LLVMValueRef turn = i_shl(m, i_and_const(m, quadrant, 2), to_sign);
  if (sign != NULL) turn = i_xor(m, turn, sign);
  return r_xor_sign(m, value, turn);
}

LLVMValueRef math_sin(const math_t *m, LLVMValueRef x) {
  angle_t a = core_reduce_angle(m, r_abs(m, x));
  return sine_in_quadrant(m, &a, a.quadrant, m_sign_of(m, x));
}

LLVMValueRef math_cos(const math_t *m, LLVMValueRef x) {
  angle_t a = core_reduce_angle(m, r_abs(m, x));
  LLVMValueRef quadrant = i_add(m, a.quadrant, i_const(m, 1));
  return sine_in_quadrant(m, &a, quadrant, NULL);
}

/* tan(r), or -1 / tan(r) from the tangent as a pair with one Newton step. In
 * f32 it is the f64 tangent rounded: the quotient leaves no room for errors. */
LLVMValueRef math_tan(const math_t *m, LLVMValueRef x) {
  if (!m->wide) {
    math_t w = math_for(m->em, m->em->f64, m->lanes);
    LLVMValueRef wide = LLVMBuildFPExt(m->em->builder, x, w.real, "");
    return LLVMBuildFPTrunc(m->em->builder, math_tan(&w, wide), m->real, "");
  }
  angle_t a = core_reduce_angle(m, r_abs(m, x));
  LLVMValueRef square = r_square(m, a.r), one = r_const(m, 1);
  LLVMValueRef p = r_polynomial(m, square, &tan_polynomial);
  LLVMValueRef slope = r_add(m, one, square); /* tan' = 1 + tan^2 */
  LLVMValueRef tail =
      r_fma(m, r_mul(m, a.r, square), p, r_mul(m, a.rest, slope));
  pair_t t = p_fast_sum(m, a.r, tail);
  LLVMValueRef inverse = r_div(m, r_const(m, -1), t.hi);
  pair_t product = p_product(m, inverse, t.hi); /* -1 but for the rounding */
  LLVMValueRef error = r_add(m, r_add(m, one, product.hi), product.lo);
  error = r_fma(m, inverse, t.lo, error);
  LLVMValueRef cotangent = r_fma(m, inverse, error, inverse);
  LLVMValueRef value = m_select(m, is_odd(m, a.quadrant), cotangent, t.hi);
  return r_xor_sign(m, value, m_sign_of(m, x));
}
