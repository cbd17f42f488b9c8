/* floor, ceil, trunc and round (halves to even) without library calls. */
#include "backend/math.h"

static LLVMValueRef round_natively(const math_t *m, ir_opcode_t code,
                                   LLVMValueRef x) {
  LLVMTypeRef type = m->real;
  const char *name = code == OP_FLOOR   ? "llvm.floor"
                     : code == OP_CEIL  ? "llvm.ceil"
                     : code == OP_TRUNC ? "llvm.trunc"
                                        : "llvm.roundeven";
  return emit_intrinsic(m->em, name, 1, &type, 1, &x);
}

/* Adding and subtracting 2^23 (2^52) rounds |x| to an integer, halves to even;
 * what the direction wants otherwise is corrected by 1. The sign of x is that
 * of the result, zeros included. */
static LLVMValueRef round_by_hand(const math_t *m, ir_opcode_t code,
                                  LLVMValueRef x) {
  LLVMValueRef a = r_abs(m, x), unit = r_choose(m, 0x1p23f, 0x1p52);
  LLVMValueRef one = r_const(m, 1), zero = r_const(m, 0);
  LLVMValueRef nearest = r_sub(m, r_add(m, a, unit), unit);
  if (code == OP_TRUNC) {
    LLVMValueRef over = r_gt(m, nearest, a);
    nearest = r_sub(m, nearest, m_select(m, over, one, zero));
  }
  nearest = r_with_sign(m, nearest, x);
  if (code == OP_FLOOR) {
    LLVMValueRef over = r_gt(m, nearest, x);
    nearest = r_sub(m, nearest, m_select(m, over, one, zero));
  } else if (code == OP_CEIL) {
    LLVMValueRef under = r_lt(m, nearest, x);
    nearest = r_add(m, nearest, m_select(m, under, one, zero));
  }
  LLVMValueRef result = r_with_sign(m, nearest, x);
  return m_select(m, r_lt(m, a, unit), result, x);
}

LLVMValueRef emit_round(emitter_t *em, ir_opcode_t code, LLVMValueRef x) {
  MOEC_ASSERT(code == OP_FLOOR || code == OP_CEIL || code == OP_TRUNC ||
              code == OP_ROUND);
  math_t m = math_of(em, x);
  /* SSE4.1 has the instruction; whatever has FMA has SSE4.1. */
  if (isa_has(em->isa, ISA_FMA)) return round_natively(&m, code, x);
  return round_by_hand(&m, code, x);
}
