/* The exponential and what follows from it: exp, expm1, sigmoid, sinh, cosh,
 * tanh.
 *
 * All reduce x = n ln 2 + r with |r| <= ln 2 / 2 by Cody and Waite's two
 * constants and take expm1(r) = r + r^2 Q(r) with one minimax Q (Remez,
 * relative error of expm1 below 2^-26 in f32, 2^-58 in f64). */
#include "backend/math.h"

/* (expm1(r) - r) / r^2 on |r| <= 0.3467. */
static const float exp_f32[] = {0x1.fffffep-2f, 0x1.5554aap-3f, 0x1.55579ap-5f,
                                0x1.122c38p-7f, 0x1.6ac05p-10f};
static const double exp_f64[] = {0x1.0p-1,
                                 0x1.5555555555559p-3,
                                 0x1.5555555555558p-5,
                                 0x1.111111110f72ep-7,
                                 0x1.6c16c16c1790ap-10,
                                 0x1.a01a01af87a3p-13,
                                 0x1.a01a0195dc47p-16,
                                 0x1.71ddf94e5ae61p-19,
                                 0x1.27e50f80e3bcbp-22,
                                 0x1.af5da2778f947p-26,
                                 0x1.1f191dfebf238p-29};
static const polynomial_t exp_polynomial = POLYNOMIAL(exp);

/* (tanh(x) - x) / x^3 in x^2, |x| <= 1; relative error of tanh 2^-27.7,
 * 2^-56.2. */
static const float tanh_f32[] = {
    -0x1.55553cp-2f, 0x1.110be4p-3f, -0x1.b9623ap-5f, 0x1.6009a2p-6f,
    -0x1.045fdp-7f,  0x1.2d9f4ep-9f, -0x1.77ca4cp-12f};
static const double tanh_f64[] = {
    -0x1.555555555550fp-2,  0x1.111111110d7dfp-3,   -0x1.ba1ba1b80fd8bp-5,
    0x1.664f48368587cp-6,   -0x1.226e2ebcaabe9p-7,  0x1.d6d30fa6e3beap-9,
    -0x1.7d9bc917d35e9p-10, 0x1.352129aa7b09fp-11,  -0x1.f335c957023b5p-13,
    0x1.8d793faf6b10bp-14,  -0x1.2eaffadd8328bp-15, 0x1.9e03d6e648434p-17,
    -0x1.cacae93149ce1p-19, 0x1.5f25bba738ed7p-21,  -0x1.0d0241edebff1p-24};
static const polynomial_t tanh_polynomial = POLYNOMIAL(tanh);

/* (sinh(x) - x) / x^3 in x^2, |x| <= 1; relative error of sinh 2^-31, 2^-61. */
static const float sinh_f32[] = {0x1.555556p-3f, 0x1.1110ep-7f, 0x1.a022bcp-13f,
                                 0x1.756c1ep-19f};
static const double sinh_f64[] = {0x1.5555555555556p-3,  0x1.111111111101ep-7,
                                  0x1.a01a01a03726ap-13, 0x1.71de3a3b06ap-19,
                                  0x1.ae646ff532e76p-26, 0x1.6116f48a0407ep-33,
                                  0x1.b5c8a0481a80bp-41};
static const polynomial_t sinh_polynomial = POLYNOMIAL(sinh);

/* x = n ln 2 + r + rest; `count` holds bias + n in its low bits. */
typedef struct reduced {
  LLVMValueRef r, rest, count;
} reduced_t;

/* The magic addend rounds to an integer and leaves it in the low mantissa bits.
 * `rest` is wanted where r must not be rounded. */
static reduced_t reduce(const math_t *m, LLVMValueRef x, int bias, bool rest) {
  LLVMValueRef magic = r_choose(m, 0x1.8p23f + (float)bias, 0x1.8p52 + bias);
  LLVMValueRef log2e = r_choose(m, 0x1.715476p+0f, 0x1.71547652b82fep+0);
  LLVMValueRef ln2_hi = r_choose(m, 0x1.62e4p-1f, 0x1.62e42feep-1);
  LLVMValueRef ln2_lo = r_choose(m, 0x1.7f7d1cp-20f, 0x1.a39ef35793c76p-33);
  LLVMValueRef shifted = r_fma(m, x, log2e, magic);
  LLVMValueRef n = r_sub(m, shifted, magic);
  LLVMValueRef r0 = r_fnma(m, n, ln2_hi, x); /* exact */
  reduced_t d = {NULL, NULL, m_to_bits(m, shifted)};
  if (rest) {
    pair_t r = p_fast_sum(m, r0, r_neg(m, r_mul(m, n, ln2_lo)));
    d.r = r.hi;
    d.rest = r.lo;
  } else {
    d.r = r_fnma(m, n, ln2_lo, r0);
  }
  return d;
}

/* 1 + r (1 + r Q(r)), to about 1.1 ULP. */
static LLVMValueRef exp_kernel(const math_t *m, LLVMValueRef r) {
  LLVMValueRef q = r_polynomial(m, r, &exp_polynomial), one = r_const(m, 1);
  return r_fma(m, r_fma(m, q, r, one), r, one);
}

/* The same of r + rest to about 0.55 ULP. */
static LLVMValueRef exp_kernel_of_sum(const math_t *m, const reduced_t *d) {
  LLVMValueRef q = r_polynomial(m, d->r, &exp_polynomial);
  LLVMValueRef tail = r_fma(m, r_square(m, d->r), q, d->rest);
  pair_t sum = p_fast_sum(m, r_const(m, 1), d->r);
  return r_add(m, sum.hi, r_add(m, sum.lo, tail));
}

LLVMValueRef core_scale(const math_t *m, LLVMValueRef p, LLVMValueRef count) {
  /* Two factors, since 2^n alone does not reach subnormal results. */
  LLVMValueRef half = i_shr(m, count, 1);
  LLVMValueRef first = i_shl(m, half, mantissa_bits(m));
  LLVMValueRef second = i_shl(m, i_sub(m, count, half), mantissa_bits(m));
  p = r_mul(m, p, m_to_real(m, first));
  return r_mul(m, p, m_to_real(m, second));
}

/* Beyond these the result is infinity or 0 also when it is halved. */
static LLVMValueRef limit_argument(const math_t *m, LLVMValueRef x) {
  double highest = m->wide ? 711 : 90, lowest = m->wide ? -746 : -105;
  return r_at_least(m, r_at_most(m, x, highest), lowest);
}

LLVMValueRef core_exp(const math_t *m, LLVMValueRef hi, LLVMValueRef lo,
                      bool halve) {
  LLVMValueRef x = limit_argument(m, hi);
  reduced_t d = reduce(m, x, 2 * exponent_bias(m), true);
  if (lo != NULL) {
    LLVMValueRef limited =
        LLVMBuildFCmp(m->em->builder, LLVMRealUNE, x, hi, "");
    lo = m_select(m, limited, r_const(m, 0), lo);
    pair_t r = p_fast_sum(m, d.r, r_add(m, d.rest, lo));
    d.r = r.hi;
    d.rest = r.lo;
  }
  LLVMValueRef p = exp_kernel_of_sum(m, &d);
  LLVMValueRef count = d.count;
  if (halve) count = i_sub(m, count, i_const(m, 1));
  return core_scale(m, p, count);
}

LLVMValueRef math_exp(const math_t *m, LLVMValueRef x) {
  reduced_t d = reduce(m, limit_argument(m, x), 2 * exponent_bias(m), false);
  return core_scale(m, exp_kernel(m, d.r), d.count);
}

/* 2 (2^(n-1) expm1(r) + (2^(n-1) - 1/2)), with the sum of the two large parts
 * kept exactly. */
LLVMValueRef math_expm1(const math_t *m, LLVMValueRef x) {
  LLVMValueRef limited =
      r_at_least(m, r_at_most(m, x, m->wide ? 710 : 89), m->wide ? -40 : -20);
  reduced_t d = reduce(m, limited, exponent_bias(m) - 1, true);
  LLVMValueRef power = m_to_real(m, i_shl(m, d.count, mantissa_bits(m)));
  LLVMValueRef q = r_polynomial(m, d.r, &exp_polynomial);
  LLVMValueRef tail = r_fma(m, r_square(m, d.r), q, d.rest);
  LLVMValueRef whole = r_sub(m, power, r_const(m, 0.5));
  pair_t sum = p_fast_sum(m, whole, r_mul(m, power, d.r));
  LLVMValueRef half = r_add(m, sum.hi, r_fma(m, power, tail, sum.lo));
  return r_with_sign(m, r_add(m, half, half), x);
}

LLVMValueRef core_exp_moderate(const math_t *m, LLVMValueRef x) {
  reduced_t d = reduce(m, x, exponent_bias(m), false);
  LLVMValueRef power = m_to_real(m, i_shl(m, d.count, mantissa_bits(m)));
  return r_mul(m, exp_kernel(m, d.r), power);
}

/* exp(x) for x <= 0: here one factor 2^(n + lift) is always a normal number. */
static LLVMValueRef exp_not_positive(const math_t *m, LLVMValueRef x) {
  int lift = m->wide ? 128 : 64;
  x = r_at_least(m, x, m->wide ? -746 : -105);
  /* Without FMA the short kernel would use up the error that sigmoid has. */
  bool exact = !isa_has(m->em->isa, ISA_FMA);
  reduced_t d = reduce(m, x, exponent_bias(m) + lift, exact);
  LLVMValueRef p = exact ? exp_kernel_of_sum(m, &d) : exp_kernel(m, d.r);
  LLVMValueRef power = m_to_real(m, i_shl(m, d.count, mantissa_bits(m)));
  return r_mul(m, r_mul(m, p, power), r_choose(m, 0x1p-64f, 0x1p-128));
}

/* With e = exp(-|x|) and g = e / (1 + e): 1 - g for x >= 0 and e - e g below.
 * The errors of g count little there, unlike in the quotients themselves. */
LLVMValueRef math_sigmoid(const math_t *m, LLVMValueRef x) {
  LLVMValueRef e = exp_not_positive(m, r_neg(m, r_abs(m, x)));
  LLVMValueRef one = r_const(m, 1);
  LLVMValueRef g = r_div(m, e, r_add(m, one, e));
  LLVMValueRef base = m_select(m, r_lt_const(m, x, 0), e, one);
  return r_fnma(m, base, g, base);
}

/* From 1 on (exp(|x|) - exp(-|x|)) / 2, where nothing cancels. */
LLVMValueRef math_sinh(const math_t *m, LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x);
  LLVMValueRef half = core_exp(m, a, NULL, true);
  LLVMValueRef large = r_sub(m, half, r_div(m, r_const(m, 0.25), half));
  LLVMValueRef square = r_square(m, a);
  LLVMValueRef p = r_polynomial(m, square, &sinh_polynomial);
  LLVMValueRef small = r_fma(m, r_mul(m, a, square), p, a);
  LLVMValueRef magnitude = m_select(m, r_ge_const(m, a, 1), large, small);
  return r_with_sign(m, magnitude, x);
}

LLVMValueRef math_cosh(const math_t *m, LLVMValueRef x) {
  LLVMValueRef half = core_exp(m, r_abs(m, x), NULL, true);
  return r_add(m, half, r_div(m, r_const(m, 0.25), half));
}

/* From 1 on 1 - 2 / (exp(2 |x|) + 1). */
LLVMValueRef math_tanh(const math_t *m, LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x);
  LLVMValueRef limited = r_at_most(m, a, m->wide ? 20 : 10);
  LLVMValueRef twice = r_add(m, limited, limited), one = r_const(m, 1);
  LLVMValueRef e = core_exp_moderate(m, twice);
  LLVMValueRef plus_one = r_add(m, e, one);
  LLVMValueRef large = r_sub(m, one, r_div(m, r_const(m, 2), plus_one));
  LLVMValueRef square = r_square(m, a);
  LLVMValueRef poly = r_polynomial(m, square, &tanh_polynomial);
  LLVMValueRef small = r_fma(m, r_mul(m, a, square), poly, a);
  LLVMValueRef magnitude = m_select(m, r_ge_const(m, a, 1), large, small);
  return r_with_sign(m, magnitude, x);
}
