/* The error function.
 *
 * Below 1: x + x P(x^2). From 1 on 1 - exp(L(x)) with L = log(erfc), the form
 * of N. Juffa; L is weighted by erfc / erf, so that it is good only where it
 * counts. */
#include "backend/math.h"

/* erf(x) / x - 1 in x^2; relative error of erf 2^-24.5, 2^-56. */
static const float small_f32[] = {0x1.06eba2p-3f, -0x1.81267p-2f,
                                  0x1.ce089p-4f,  -0x1.b59a94p-6f,
                                  0x1.421a9cp-8f, -0x1.26a602p-11f};
static const double small_f64[] = {
    0x1.06eba8214db68p-3,   -0x1.812746b0379a9p-2,  0x1.ce2f21a040748p-4,
    -0x1.b82ce311f8df5p-6,  0x1.565bccfaeb20cp-8,   -0x1.c02db0b4e3532p-11,
    0x1.f9a2c9111fd08p-14,  -0x1.f4cb4c70de718p-17, 0x1.b98a81d787ed2p-20,
    -0x1.5c4bdeb436093p-23, 0x1.d9043443f59dap-27,  -0x1.b1788029bdccp-31};
static const polynomial_t small_polynomial = POLYNOMIAL(small);

/* log(erfc(x)) on [1, 4] and [1, 6]; relative error of erf 2^-35, 2^-57. */
static const float large_f32[] = {
    0x1.8b3f34p-13f, -0x1.212c2cp+0f, -0x1.4434f8p-1f, -0x1.bc1868p-4f,
    0x1.9d0a5ap-6f,  -0x1.1395fep-8f, 0x1.cede56p-12f, -0x1.6bf0d6p-16f};
static const double large_f64[] = {
    -0x1.0defd2a54a6c9p-21, -0x1.20dd1fd6315e7p+0,  -0x1.45f6273f5cd28p-1,
    -0x1.a4ac5e6552d2ap-4,  0x1.3722a2f7a5843p-6,   0x1.ae8e46a3518d1p-12,
    -0x1.f63f8114ebbf1p-10, 0x1.9407e4d307cfcp-11,  -0x1.1b334a8fda5eep-13,
    -0x1.541a014ce77ddp-16, 0x1.7eee5838c9a2ap-16,  -0x1.22d79abbc8ac8p-17,
    0x1.1eaa54c860684p-19,  -0x1.90dbf96ca2349p-22, 0x1.8eccae65f7d3ep-25,
    -0x1.0e61d2f0b708ep-28, 0x1.c1bb3e6ba9f2bp-33,  -0x1.5ada9d5244f54p-38};
static const polynomial_t large_polynomial = POLYNOMIAL(large);

LLVMValueRef math_erf(const math_t *m, LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x), one = r_const(m, 1);
  LLVMValueRef p = r_polynomial(m, r_square(m, a), &small_polynomial);
  LLVMValueRef small = r_fma(m, a, p, a);
  LLVMValueRef limited = r_at_most(m, a, m->wide ? 6 : 4);
  LLVMValueRef power = r_polynomial(m, limited, &large_polynomial);
  LLVMValueRef large = r_sub(m, one, core_exp_moderate(m, power));
  LLVMValueRef magnitude = m_select(m, r_ge(m, a, one), large, small);
  return r_with_sign(m, magnitude, x);
}
