/* What the files of the elementary functions share: a short notation for
 * floating-point and integer arithmetic over all lanes, unevaluated sums of two
 * floats, and the cores that several functions are made of. Private to
 * backend/math_*.c and backend/float_bits.c. */
#ifndef BACKEND_MATH_H
#define BACKEND_MATH_H

#include "backend/emit.h"

/* The type at hand: `real` is f32 or f64 or vectors of it, `bits` the integers
 * of the same width. */
typedef struct math {
  emitter_t *em;
  LLVMTypeRef real, bits;
  unsigned lanes;
  bool wide; /* f64 */
} math_t;

math_t math_for(emitter_t *em, LLVMTypeRef real_scalar, unsigned lanes);
math_t math_of(emitter_t *em, LLVMValueRef x); /* the type of x */

/* hi + lo, where |lo| is at most about half a unit of hi. */
typedef struct pair {
  LLVMValueRef hi, lo;
} pair_t;

/* ---- Format -------------------------------------------------------------- */

static inline unsigned mantissa_bits(const math_t *m) {
  return m->wide ? 52 : 23;
}
static inline int exponent_bias(const math_t *m) {
  return m->wide ? 1023 : 127;
}
static inline uint64_t bits_of_one(const math_t *m) {
  return (uint64_t)exponent_bias(m) << mantissa_bits(m);
}
static inline uint64_t bits_of_infinity(const math_t *m) {
  return (uint64_t)(2 * exponent_bias(m) + 1) << mantissa_bits(m);
}
static inline uint64_t sign_bit(const math_t *m) {
  return (uint64_t)1 << (m->wide ? 63 : 31);
}

/* ---- Real arithmetic ----------------------------------------------------- */

/* The constant c, or the one that belongs to the type. */
static inline LLVMValueRef r_const(const math_t *m, double c) {
  return emit_const_real(m->real, c);
}
static inline LLVMValueRef r_choose(const math_t *m, float c32, double c64) {
  return emit_const_real(m->real, m->wide ? c64 : (double)c32);
}
LLVMValueRef r_infinity(const math_t *m);
LLVMValueRef r_nan(const math_t *m);

static inline LLVMValueRef r_add(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildFAdd(m->em->builder, a, b, "");
}
static inline LLVMValueRef r_sub(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildFSub(m->em->builder, a, b, "");
}
static inline LLVMValueRef r_mul(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildFMul(m->em->builder, a, b, "");
}
static inline LLVMValueRef r_div(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildFDiv(m->em->builder, a, b, "");
}
static inline LLVMValueRef r_neg(const math_t *m, LLVMValueRef a) {
  return LLVMBuildFNeg(m->em->builder, a, "");
}
/* a * b + c */
static inline LLVMValueRef r_fma(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b, LLVMValueRef c) {
  return emit_fma(m->em, a, b, c);
}
/* c - a * b */
static inline LLVMValueRef r_fnma(const math_t *m, LLVMValueRef a,
                                  LLVMValueRef b, LLVMValueRef c) {
  return emit_fma(m->em, r_neg(m, a), b, c);
}
static inline LLVMValueRef r_scale(const math_t *m, LLVMValueRef a, double c) {
  return r_mul(m, a, r_const(m, c));
}
static inline LLVMValueRef r_square(const math_t *m, LLVMValueRef a) {
  return r_mul(m, a, a);
}
LLVMValueRef r_abs(const math_t *m, LLVMValueRef a);
LLVMValueRef r_sqrt(const math_t *m, LLVMValueRef a);
/* magnitude, which is not negative or NaN, with the sign of `sign` added. */
LLVMValueRef r_with_sign(const math_t *m, LLVMValueRef magnitude,
                         LLVMValueRef sign);
/* The integer nearest to a as a real number, |a| < 2^22 (f32) or 2^51 (f64). */
LLVMValueRef r_nearest(const math_t *m, LLVMValueRef a);

/* Comparisons, false for NaN. */
static inline LLVMValueRef r_lt(const math_t *m, LLVMValueRef a,
                                LLVMValueRef b) {
  return LLVMBuildFCmp(m->em->builder, LLVMRealOLT, a, b, "");
}
static inline LLVMValueRef r_ge(const math_t *m, LLVMValueRef a,
                                LLVMValueRef b) {
  return LLVMBuildFCmp(m->em->builder, LLVMRealOGE, a, b, "");
}
static inline LLVMValueRef r_gt(const math_t *m, LLVMValueRef a,
                                LLVMValueRef b) {
  return LLVMBuildFCmp(m->em->builder, LLVMRealOGT, a, b, "");
}
static inline LLVMValueRef r_eq(const math_t *m, LLVMValueRef a,
                                LLVMValueRef b) {
  return LLVMBuildFCmp(m->em->builder, LLVMRealOEQ, a, b, "");
}
static inline LLVMValueRef r_is_nan(const math_t *m, LLVMValueRef a) {
  return LLVMBuildFCmp(m->em->builder, LLVMRealUNO, a, a, "");
}
static inline LLVMValueRef r_lt_const(const math_t *m, LLVMValueRef a,
                                      double c) {
  return r_lt(m, a, r_const(m, c));
}
static inline LLVMValueRef r_ge_const(const math_t *m, LLVMValueRef a,
                                      double c) {
  return r_ge(m, a, r_const(m, c));
}
static inline LLVMValueRef m_select(const math_t *m, LLVMValueRef condition,
                                    LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(m->em->builder, condition, a, b, "");
}
static inline LLVMValueRef m_and(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildAnd(m->em->builder, a, b, "");
}
static inline LLVMValueRef m_or(const math_t *m, LLVMValueRef a,
                                LLVMValueRef b) {
  return LLVMBuildOr(m->em->builder, a, b, "");
}
static inline LLVMValueRef m_not(const math_t *m, LLVMValueRef a) {
  return LLVMBuildNot(m->em->builder, a, "");
}
/* a limited to at most (at least) c; NaN stays NaN. */
static inline LLVMValueRef r_at_most(const math_t *m, LLVMValueRef a,
                                     double c) {
  LLVMValueRef limit = r_const(m, c);
  return m_select(m, r_gt(m, a, limit), limit, a);
}
static inline LLVMValueRef r_at_least(const math_t *m, LLVMValueRef a,
                                      double c) {
  LLVMValueRef limit = r_const(m, c);
  return m_select(m, r_lt(m, a, limit), limit, a);
}

/* ---- Integers of the width of the reals ---------------------------------- */

static inline LLVMValueRef i_const(const math_t *m, uint64_t c) {
  return emit_const_int(m->bits, c);
}
static inline LLVMValueRef i_add(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildAdd(m->em->builder, a, b, "");
}
static inline LLVMValueRef i_sub(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildSub(m->em->builder, a, b, "");
}
static inline LLVMValueRef i_and_const(const math_t *m, LLVMValueRef a,
                                       uint64_t c) {
  return LLVMBuildAnd(m->em->builder, a, i_const(m, c), "");
}
static inline LLVMValueRef i_xor(const math_t *m, LLVMValueRef a,
                                 LLVMValueRef b) {
  return LLVMBuildXor(m->em->builder, a, b, "");
}
static inline LLVMValueRef i_shl(const math_t *m, LLVMValueRef a,
                                 unsigned count) {
  return LLVMBuildShl(m->em->builder, a, i_const(m, count), "");
}
static inline LLVMValueRef i_shr(const math_t *m, LLVMValueRef a,
                                 unsigned count) {
  return LLVMBuildLShr(m->em->builder, a, i_const(m, count), "");
}
static inline LLVMValueRef i_compare(const math_t *m, LLVMIntPredicate how,
                                     LLVMValueRef a, uint64_t c) {
  return LLVMBuildICmp(m->em->builder, how, a, i_const(m, c), "");
}
static inline LLVMValueRef m_to_bits(const math_t *m, LLVMValueRef a) {
  return LLVMBuildBitCast(m->em->builder, a, m->bits, "");
}
static inline LLVMValueRef m_to_real(const math_t *m, LLVMValueRef a) {
  return LLVMBuildBitCast(m->em->builder, a, m->real, "");
}
/* The sign bit of a alone, and a with the sign bit of `sign` toggled into it.
 */
LLVMValueRef m_sign_of(const math_t *m, LLVMValueRef a);
LLVMValueRef r_xor_sign(const math_t *m, LLVMValueRef a, LLVMValueRef sign);
/* Whether any lane of a vector of i1 is set, as one i1. */
LLVMValueRef m_any(const math_t *m, LLVMValueRef mask);

/* ---- Polynomials --------------------------------------------------------- */

/* Coefficients for both types, the constant term first. */
typedef struct polynomial {
  const float *c32;
  const double *c64;
  unsigned n32, n64;
} polynomial_t;
#define POLYNOMIAL(name)                                             \
  {name##_f32, name##_f64, sizeof name##_f32 / sizeof name##_f32[0], \
   sizeof name##_f64 / sizeof name##_f64[0]}

LLVMValueRef r_polynomial(const math_t *m, LLVMValueRef x,
                          const polynomial_t *polynomial);

/* ---- Sums and products without error ------------------------------------- */

/* a + b exactly, for |a| >= |b| or a = 0. */
pair_t p_fast_sum(const math_t *m, LLVMValueRef a, LLVMValueRef b);
/* a + b exactly, for any a and b. */
pair_t p_sum(const math_t *m, LLVMValueRef a, LLVMValueRef b);
/* a * b exactly, unless it overflows, or its last bits underflow; where the ISA
 * has no FMA also a and b must be below 2^(largest exponent - 27). */
pair_t p_product(const math_t *m, LLVMValueRef a, LLVMValueRef b);
/* The following are good to about 2 units of the doubled precision. */
pair_t p_add(const math_t *m, pair_t a, pair_t b);
pair_t p_add_real(const math_t *m, pair_t a, LLVMValueRef b);
pair_t p_mul(const math_t *m, pair_t a, pair_t b);
pair_t p_mul_real(const math_t *m, pair_t a, LLVMValueRef b);
pair_t p_div(const math_t *m, pair_t a, pair_t b);
pair_t p_sqrt(const math_t *m, pair_t a); /* a > 0 */
pair_t p_const(const math_t *m, double hi32, double lo32, double hi64,
               double lo64);
pair_t p_select(const math_t *m, LLVMValueRef condition, pair_t a, pair_t b);

/* ---- Cores --------------------------------------------------------------- */

/* exp(hi + lo), or half of it, correct to about 0.6 ULP, with overflow to
 * infinity and gradual underflow. NaN stays NaN. lo may be NULL. */
LLVMValueRef core_exp(const math_t *m, LLVMValueRef hi, LLVMValueRef lo,
                      bool halve);

/* exp(x) to 1.1 ULP where |x| is below 80 (f32) or 700 (f64), or x is NaN. */
LLVMValueRef core_exp_moderate(const math_t *m, LLVMValueRef x);

/* p * 2^n for |p| in (1/2, 2], count = n + 2 bias; exact but for one rounding
 * at overflow or underflow. */
LLVMValueRef core_scale(const math_t *m, LLVMValueRef p, LLVMValueRef count);

/* u = 2^n * mantissa for finite u > 0, n as a real number, the mantissa in
 * [sqrt(1/2), sqrt(2)). */
typedef struct scaled {
  LLVMValueRef n, mantissa;
} scaled_t;
scaled_t core_take_exponent(const math_t *m, LLVMValueRef u);

/* x = n pi/2 + r + rest, |r| <= pi/4 and a little, n modulo 4 in the low bits
 * of quadrant; rest is NULL where r alone is good enough. Any x >= 0; infinity
 * and NaN give NaN. */
typedef struct angle {
  LLVMValueRef r, rest, quadrant;
} angle_t;
angle_t core_reduce_angle(const math_t *m, LLVMValueRef x);

LLVMValueRef math_exp(const math_t *m, LLVMValueRef x);
LLVMValueRef math_expm1(const math_t *m, LLVMValueRef x);
LLVMValueRef math_sigmoid(const math_t *m, LLVMValueRef x);
LLVMValueRef math_sinh(const math_t *m, LLVMValueRef x);
LLVMValueRef math_cosh(const math_t *m, LLVMValueRef x);
LLVMValueRef math_tanh(const math_t *m, LLVMValueRef x);
LLVMValueRef math_log(const math_t *m, LLVMValueRef x);
LLVMValueRef math_log1p(const math_t *m, LLVMValueRef x);
LLVMValueRef math_asinh(const math_t *m, LLVMValueRef x);
LLVMValueRef math_acosh(const math_t *m, LLVMValueRef x);
LLVMValueRef math_atanh(const math_t *m, LLVMValueRef x);
LLVMValueRef math_sin(const math_t *m, LLVMValueRef x);
LLVMValueRef math_cos(const math_t *m, LLVMValueRef x);
LLVMValueRef math_tan(const math_t *m, LLVMValueRef x);
LLVMValueRef math_asin(const math_t *m, LLVMValueRef x);
LLVMValueRef math_acos(const math_t *m, LLVMValueRef x);
LLVMValueRef math_atan(const math_t *m, LLVMValueRef x);
LLVMValueRef math_erf(const math_t *m, LLVMValueRef x);
LLVMValueRef math_pow(const math_t *m, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef math_fmod(const math_t *m, LLVMValueRef x, LLVMValueRef y);

#endif
