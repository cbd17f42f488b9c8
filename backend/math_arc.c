/* The inverse trigonometric functions. */
#include "backend/math.h"

/* (asin(x) - x) / x^3 in x^2, |x| <= 1/2; relative error of asin 2^-27.6,
 * 2^-55.9. */
static const float asin_f32[] = {0x1.5555c8p-3f, 0x1.3301fcp-4f, 0x1.747d06p-5f,
                                 0x1.8c2d8p-6f, 0x1.596d6ap-5f};
static const double asin_f64[] = {
    0x1.555555555538ep-3, 0x1.333333336ec42p-4,  0x1.6db6db424b667p-5,
    0x1.f1c72c48fe8e8p-6, 0x1.6e89f2ae2fe6p-6,   0x1.1c6bfa3db353fp-6,
    0x1.c6fbcbd20339p-7,  0x1.8ed03b588750bp-7,  0x1.ab59d10b1285fp-8,
    0x1.4046fc55a2333p-6, -0x1.0a5726d16e442p-6, 0x1.059b9385583f3p-5};
static const polynomial_t asin_polynomial = POLYNOMIAL(asin);

/* (atan(x) - x) / x^3 in x^2, |x| <= 1; 2^-28.5, 2^-55. */
static const float atan_f32[] = {
    -0x1.55553ep-2f, 0x1.9991e4p-3f,  -0x1.242084p-3f,
    0x1.c08c1ap-4f,  -0x1.580814p-4f, 0x1.da24cap-5f,
    -0x1.fd6fbcp-6f, 0x1.6410e4p-7f,  -0x1.d32dacp-10f};
static const double atan_f64[] = {
    -0x1.555555555544cp-2, 0x1.999999998410fp-3,   -0x1.2492491fa20f8p-3,
    0x1.c71c709e1936bp-4,  -0x1.745d0230faa1ep-4,  0x1.3b12b2e883741p-4,
    -0x1.11089d00919ep-4,  0x1.e178172175dbap-5,   -0x1.ad32ba0c9d01ep-5,
    0x1.7ee3f5907aea1p-5,  -0x1.4f4520b1b5e52p-5,  0x1.1715d98f45e15p-5,
    -0x1.a726a65d686a4p-6, 0x1.162c3bd9b26fbp-6,   -0x1.2cf76ac03016cp-7,
    0x1.f96cc781961c7p-9,  -0x1.312a414c6f3c6p-10, 0x1.d3bb18c3c5c18p-13,
    -0x1.53e5d24040d09p-16};
static const polynomial_t atan_polynomial = POLYNOMIAL(atan);

static pair_t half_pi(const math_t *m) {
  return p_const(m, 0x1.921fb6p+0, -0x1.777a5cp-25, 0x1.921fb54442d18p+0,
                 0x1.1a62633145c07p-54);
}

static pair_t pi(const math_t *m) {
  return p_const(m, 0x1.921fb6p+1, -0x1.777a5cp-24, 0x1.921fb54442d18p+1,
                 0x1.1a62633145c07p-53);
}

static pair_t zero_pair(const math_t *m) {
  return (pair_t){r_const(m, 0), r_const(m, 0)};
}

/* base - y - w with one rounding; |y| <= |base| unless that is 0. */
static LLVMValueRef base_minus(const math_t *m, pair_t base, LLVMValueRef y,
                               LLVMValueRef w) {
  pair_t d = p_fast_sum(m, base.hi, r_neg(m, y));
  return r_add(m, d.hi, r_add(m, d.lo, r_sub(m, base.lo, w)));
}

/* asin(t) = y + w, where t = |x| up to 1/2, beyond t = sqrt((1 - |x|) / 2), for
 * which asin(|x|) = pi/2 - 2 asin(t); y and w are doubled then. */
typedef struct arc {
  LLVMValueRef large, y, w;
} arc_t;

static arc_t arc_sine(const math_t *m, LLVMValueRef a) {
  arc_t arc;
  LLVMValueRef half = r_const(m, 0.5);
  arc.large = r_gt(m, a, half);
  LLVMValueRef folded = r_mul(m, r_sub(m, r_const(m, 1), a), half); /* exact */
  LLVMValueRef z = m_select(m, arc.large, folded, r_square(m, a));
  LLVMValueRef root = r_sqrt(m, folded);
  pair_t square = p_product(m, root, root);
  LLVMValueRef rest = r_sub(m, r_sub(m, folded, square.hi), square.lo);
  /* The addend keeps 0 / 0 away and does not count otherwise. */
  LLVMValueRef twice = r_add(m, root, root);
  rest = r_div(m, rest, r_add(m, twice, r_const(m, 0x1p-100)));
  LLVMValueRef y = m_select(m, arc.large, root, a);
  LLVMValueRef low = m_select(m, arc.large, rest, r_const(m, 0));
  LLVMValueRef p = r_polynomial(m, z, &asin_polynomial);
  LLVMValueRef w = r_fma(m, r_mul(m, y, z), p, low);
  LLVMValueRef factor = m_select(m, arc.large, r_const(m, 2), r_const(m, 1));
  arc.y = r_mul(m, y, factor);
  arc.w = r_mul(m, w, factor);
  return arc;
}

LLVMValueRef math_asin(const math_t *m, LLVMValueRef x) {
  arc_t arc = arc_sine(m, r_abs(m, x));
  LLVMValueRef far = base_minus(m, half_pi(m), arc.y, arc.w);
  LLVMValueRef near = r_add(m, arc.y, arc.w);
  return r_with_sign(m, m_select(m, arc.large, far, near), x);
}

/* pi/2 - asin(x); for |x| > 1/2 it is 2 asin(t), or pi less that for x < 0. */
LLVMValueRef math_acos(const math_t *m, LLVMValueRef x) {
  arc_t arc = arc_sine(m, r_abs(m, x));
  LLVMValueRef negative = r_lt_const(m, x, 0);
  pair_t far = p_select(m, negative, pi(m), zero_pair(m));
  pair_t base = p_select(m, arc.large, far, half_pi(m));
  LLVMValueRef flip =
      m_select(m, arc.large, i_const(m, sign_bit(m)), i_const(m, 0));
  LLVMValueRef sign = i_xor(m, m_sign_of(m, x), flip);
  LLVMValueRef result = base_minus(m, base, r_xor_sign(m, arc.y, sign),
                                   r_xor_sign(m, arc.w, sign));
  /* One NaN, since the sign of a sum of two depends on their order. */
  LLVMValueRef outside = LLVMBuildFCmp(m->em->builder, LLVMRealUGT, r_abs(m, x),
                                       r_const(m, 1), "");
  return m_select(m, outside, r_nan(m), result);
}

/* Beyond 1 pi/2 - atan(1 / |x|). */
LLVMValueRef math_atan(const math_t *m, LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x), one = r_const(m, 1);
  LLVMValueRef large = r_gt(m, a, one);
  LLVMValueRef y = m_select(m, large, r_div(m, one, a), a);
  LLVMValueRef z = r_square(m, y);
  LLVMValueRef w =
      r_mul(m, r_mul(m, y, z), r_polynomial(m, z, &atan_polynomial));
  LLVMValueRef far = base_minus(m, half_pi(m), y, w);
  return r_with_sign(m, m_select(m, large, far, r_add(m, y, w)), x);
}
