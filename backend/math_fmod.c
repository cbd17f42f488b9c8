/* The exact floating-point remainder of C's fmod.
 *
 * x and y become integers X, Y of the mantissa's length times powers of 2. Each
 * round takes up to STEP bits of the difference of exponents: X <- X 2^s - q Y
 * with q the nearest integer to the quotient, all exact, so that |X| stays
 * below Y. One round is enough for quotients below 2^STEP. */
#include "backend/math.h"

/* a = whole * 2^(exponent - bias - mantissa bits), whole a normalised integer.
 */
typedef struct parts {
  LLVMValueRef whole, exponent;
} parts_t;

static parts_t take_apart(const math_t *m, LLVMValueRef a) {
  unsigned width = mantissa_bits(m), raise = m->wide ? 54 : 25;
  uint64_t implicit = (uint64_t)1 << width;
  LLVMValueRef subnormal = r_lt(m, a, m_to_real(m, i_const(m, implicit)));
  LLVMValueRef raised = r_mul(m, a, r_choose(m, 0x1p25f, 0x1p54));
  LLVMValueRef bits = m_to_bits(m, m_select(m, subnormal, raised, a));
  LLVMValueRef exponent =
      i_sub(m, i_shr(m, bits, width),
            m_select(m, subnormal, i_const(m, raise), i_const(m, 0)));
  /* The exponent of 2^52 (2^23) makes the mantissa an integer. */
  uint64_t unit = (uint64_t)(exponent_bias(m) + (int)width) << width;
  LLVMValueRef whole =
      m_or(m, i_and_const(m, bits, implicit - 1), i_const(m, unit));
  return (parts_t){m_to_real(m, whole), exponent};
}

/* One round: *rest and *distance advance by min(distance, STEP). */
static void advance(const math_t *m, LLVMValueRef divisor, LLVMValueRef *rest,
                    LLVMValueRef *distance) {
  uint64_t step = m->wide ? 48 : 20;
  LLVMValueRef more = i_compare(m, LLVMIntSGT, *distance, step);
  LLVMValueRef s = m_select(m, more, i_const(m, step), *distance);
  *distance = i_sub(m, *distance, s);
  LLVMValueRef power = i_shl(m, s, mantissa_bits(m));
  power = m_to_real(m, i_add(m, power, i_const(m, bits_of_one(m))));
  LLVMValueRef raised = r_mul(m, *rest, power);
  LLVMValueRef q = r_nearest(m, r_div(m, raised, divisor));
  pair_t product = p_product(m, q, divisor);
  *rest = r_sub(m, r_sub(m, raised, product.hi), product.lo);
}

static LLVMValueRef remainder_of(const math_t *m, LLVMValueRef rest,
                                 LLVMValueRef divisor, LLVMValueRef distance) {
  emitter_t *em = m->em;
  LLVMBuilderRef b = em->builder;
  LLVMBasicBlockRef entry = LLVMGetInsertBlock(b);
  LLVMValueRef func = LLVMGetBasicBlockParent(entry);
  LLVMBasicBlockRef body =
      LLVMAppendBasicBlockInContext(em->context, func, "round");
  LLVMBasicBlockRef end =
      LLVMAppendBasicBlockInContext(em->context, func, "rest");
  LLVMBuildBr(b, body);
  LLVMPositionBuilderAtEnd(b, body);
  LLVMValueRef rest_phi = LLVMBuildPhi(b, m->real, "rest");
  LLVMValueRef distance_phi = LLVMBuildPhi(b, m->bits, "distance");
  LLVMValueRef next = rest_phi, left = distance_phi;
  advance(m, divisor, &next, &left);
  LLVMValueRef again = m_any(m, i_compare(m, LLVMIntNE, left, 0));
  LLVMBuildCondBr(b, again, body, end);
  LLVMBasicBlockRef blocks[2] = {entry, body};
  LLVMAddIncoming(rest_phi, (LLVMValueRef[]){rest, next}, blocks, 2);
  LLVMAddIncoming(distance_phi, (LLVMValueRef[]){distance, left}, blocks, 2);
  LLVMPositionBuilderAtEnd(b, end);
  LLVMValueRef raised = r_add(m, next, divisor);
  return m_select(m, r_lt_const(m, next, 0), raised, next);
}

LLVMValueRef math_fmod(const math_t *m, LLVMValueRef x, LLVMValueRef y) {
  LLVMValueRef ax = r_abs(m, x), ay = r_abs(m, y), zero = r_const(m, 0);
  LLVMValueRef infinity = r_infinity(m);
  LLVMValueRef valid = m_and(m, r_lt(m, ax, infinity), r_gt(m, ay, zero));
  LLVMValueRef divide = m_and(m, valid, r_ge(m, ax, ay));
  parts_t u = take_apart(m, ax), v = take_apart(m, ay);
  LLVMValueRef distance = i_sub(m, u.exponent, v.exponent);
  distance = m_select(m, divide, distance, i_const(m, 0));
  LLVMValueRef rest = remainder_of(m, u.whole, v.whole, distance);
  rest = r_mul(m, rest, r_choose(m, 0x1p-23f, 0x1p-52));
  LLVMValueRef bias = i_const(m, (uint64_t)exponent_bias(m));
  rest = core_scale(m, rest, i_add(m, v.exponent, bias));
  LLVMValueRef result = m_select(m, divide, rest, ax);
  result = m_select(m, valid, result, r_nan(m));
  return r_with_sign(m, result, x);
}
