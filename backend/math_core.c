/* The notation of backend/math.h, and the two entry points that choose the
 * function. */
#include "backend/math.h"

math_t math_for(emitter_t *em, LLVMTypeRef real_scalar, unsigned lanes) {
  bool wide = LLVMGetTypeKind(real_scalar) == LLVMDoubleTypeKind;
  MOEC_ASSERT(wide || LLVMGetTypeKind(real_scalar) == LLVMFloatTypeKind);
  return (math_t){
      .em = em,
      .real = emit_lanes(real_scalar, lanes),
      .bits = emit_lanes(wide ? em->i64 : em->i32, lanes),
      .lanes = lanes,
      .wide = wide,
  };
}

math_t math_of(emitter_t *em, LLVMValueRef x) {
  return math_for(em, emit_element_type(x), emit_lanes_of(x));
}

LLVMValueRef r_infinity(const math_t *m) {
  return m_to_real(m, i_const(m, bits_of_infinity(m)));
}

LLVMValueRef r_nan(const math_t *m) {
  uint64_t quiet = (uint64_t)1 << (mantissa_bits(m) - 1);
  return m_to_real(m, i_const(m, bits_of_infinity(m) | quiet));
}

static LLVMValueRef unary_intrinsic(const math_t *m, const char *name,
                                    LLVMValueRef a) {
  LLVMTypeRef type = m->real;
  return emit_intrinsic(m->em, name, 1, &type, 1, &a);
}

LLVMValueRef r_abs(const math_t *m, LLVMValueRef a) {
  return unary_intrinsic(m, "llvm.fabs", a);
}

LLVMValueRef r_sqrt(const math_t *m, LLVMValueRef a) {
  return unary_intrinsic(m, "llvm.sqrt", a);
}

LLVMValueRef r_with_sign(const math_t *m, LLVMValueRef magnitude,
                         LLVMValueRef sign) {
  LLVMTypeRef type = m->real;
  return emit_intrinsic(m->em, "llvm.copysign", 1, &type, 2,
                        (LLVMValueRef[]){magnitude, sign});
}

LLVMValueRef r_nearest(const math_t *m, LLVMValueRef a) {
  LLVMValueRef magic = r_choose(m, 0x1.8p23f, 0x1.8p52);
  return r_sub(m, r_add(m, a, magic), magic);
}

LLVMValueRef m_sign_of(const math_t *m, LLVMValueRef a) {
  return i_and_const(m, m_to_bits(m, a), sign_bit(m));
}

LLVMValueRef r_xor_sign(const math_t *m, LLVMValueRef a, LLVMValueRef sign) {
  return m_to_real(m, i_xor(m, m_to_bits(m, a), sign));
}

LLVMValueRef m_any(const math_t *m, LLVMValueRef mask) {
  if (m->lanes == 1) return mask;
  LLVMBuilderRef b = m->em->builder;
  LLVMTypeRef word = LLVMIntTypeInContext(m->em->context, m->lanes);
  LLVMValueRef packed = LLVMBuildBitCast(b, mask, word, "");
  return LLVMBuildICmp(b, LLVMIntNE, packed, LLVMConstNull(word), "any");
}

LLVMValueRef r_polynomial(const math_t *m, LLVMValueRef x,
                          const polynomial_t *polynomial) {
  unsigned n = m->wide ? polynomial->n64 : polynomial->n32;
  LLVMValueRef sum = NULL;
  for (unsigned i = n; i-- > 0;) {
    LLVMValueRef c = m->wide ? r_const(m, polynomial->c64[i])
                             : r_const(m, (double)polynomial->c32[i]);
    sum = sum == NULL ? c : r_fma(m, sum, x, c);
  }
  return sum;
}

pair_t p_fast_sum(const math_t *m, LLVMValueRef a, LLVMValueRef b) {
  LLVMValueRef s = r_add(m, a, b);
  return (pair_t){s, r_sub(m, b, r_sub(m, s, a))};
}

/* Knuth's TwoSum. */
pair_t p_sum(const math_t *m, LLVMValueRef a, LLVMValueRef b) {
  LLVMValueRef s = r_add(m, a, b);
  LLVMValueRef b_part = r_sub(m, s, a);
  LLVMValueRef a_part = r_sub(m, s, b_part);
  LLVMValueRef b_error = r_sub(m, b, b_part);
  LLVMValueRef a_error = r_sub(m, a, a_part);
  return (pair_t){s, r_add(m, a_error, b_error)};
}

/* Veltkamp's split into halves whose products are exact. */
static pair_t split(const math_t *m, LLVMValueRef a) {
  LLVMValueRef c = r_mul(m, a, r_choose(m, 0x1.002p12f, 0x1.0000002p27));
  LLVMValueRef hi = r_sub(m, c, r_sub(m, c, a));
  return (pair_t){hi, r_sub(m, a, hi)};
}

pair_t p_product(const math_t *m, LLVMValueRef a, LLVMValueRef b) {
  LLVMValueRef p = r_mul(m, a, b);
  if (isa_has(m->em->isa, ISA_FMA))
    return (pair_t){p, r_fma(m, a, b, r_neg(m, p))};
  pair_t x = split(m, a), y = split(m, b); /* Dekker's product */
  LLVMValueRef e = r_sub(m, r_mul(m, x.hi, y.hi), p);
  e = r_add(m, e, r_mul(m, x.hi, y.lo));
  e = r_add(m, e, r_mul(m, x.lo, y.hi));
  return (pair_t){p, r_add(m, e, r_mul(m, x.lo, y.lo))};
}

pair_t p_add(const math_t *m, pair_t a, pair_t b) {
  pair_t s = p_sum(m, a.hi, b.hi);
  return p_fast_sum(m, s.hi, r_add(m, s.lo, r_add(m, a.lo, b.lo)));
}

pair_t p_add_real(const math_t *m, pair_t a, LLVMValueRef b) {
  pair_t s = p_sum(m, a.hi, b);
  return p_fast_sum(m, s.hi, r_add(m, s.lo, a.lo));
}

pair_t p_mul(const math_t *m, pair_t a, pair_t b) {
  pair_t p = p_product(m, a.hi, b.hi);
  LLVMValueRef cross = r_fma(m, a.hi, b.lo, r_mul(m, a.lo, b.hi));
  return p_fast_sum(m, p.hi, r_add(m, p.lo, cross));
}

pair_t p_mul_real(const math_t *m, pair_t a, LLVMValueRef b) {
  pair_t p = p_product(m, a.hi, b);
  return p_fast_sum(m, p.hi, r_fma(m, a.lo, b, p.lo));
}

pair_t p_div(const math_t *m, pair_t a, pair_t b) {
  LLVMValueRef q = r_div(m, a.hi, b.hi);
  pair_t p = p_product(m, q, b.hi);
  LLVMValueRef rest = r_sub(m, r_sub(m, a.hi, p.hi), p.lo);
  rest = r_add(m, rest, r_fnma(m, q, b.lo, a.lo));
  return p_fast_sum(m, q, r_div(m, rest, b.hi));
}

pair_t p_sqrt(const math_t *m, pair_t a) {
  LLVMValueRef s = r_sqrt(m, a.hi);
  pair_t p = p_product(m, s, s);
  LLVMValueRef rest = r_add(m, r_sub(m, r_sub(m, a.hi, p.hi), p.lo), a.lo);
  return p_fast_sum(m, s, r_div(m, rest, r_add(m, s, s)));
}

pair_t p_const(const math_t *m, double hi32, double lo32, double hi64,
               double lo64) {
  return (pair_t){r_const(m, m->wide ? hi64 : hi32),
                  r_const(m, m->wide ? lo64 : lo32)};
}

pair_t p_select(const math_t *m, LLVMValueRef condition, pair_t a, pair_t b) {
  return (pair_t){m_select(m, condition, a.hi, b.hi),
                  m_select(m, condition, a.lo, b.lo)};
}

LLVMValueRef emit_math_unary(emitter_t *em, ir_opcode_t code, LLVMValueRef x) {
  math_t m = math_of(em, x);
  switch (code) {
    case OP_EXP:
      return math_exp(&m, x);
    case OP_EXPM1:
      return math_expm1(&m, x);
    case OP_SIGMOID:
      return math_sigmoid(&m, x);
    case OP_SINH:
      return math_sinh(&m, x);
    case OP_COSH:
      return math_cosh(&m, x);
    case OP_TANH:
      return math_tanh(&m, x);
    case OP_LOG:
      return math_log(&m, x);
    case OP_LOG1P:
      return math_log1p(&m, x);
    case OP_ASINH:
      return math_asinh(&m, x);
    case OP_ACOSH:
      return math_acosh(&m, x);
    case OP_ATANH:
      return math_atanh(&m, x);
    case OP_SIN:
      return math_sin(&m, x);
    case OP_COS:
      return math_cos(&m, x);
    case OP_TAN:
      return math_tan(&m, x);
    case OP_ASIN:
      return math_asin(&m, x);
    case OP_ACOS:
      return math_acos(&m, x);
    case OP_ATAN:
      return math_atan(&m, x);
    case OP_ERF:
      return math_erf(&m, x);
    default:
      MOEC_BUG("no elementary function for opcode %d", (int)code);
  }
}

LLVMValueRef emit_math_binary(emitter_t *em, ir_opcode_t code, LLVMValueRef x,
                              LLVMValueRef y) {
  math_t m = math_of(em, x);
  switch (code) {
    case OP_POW:
      return math_pow(&m, x, y);
    case OP_FMOD:
      return math_fmod(&m, x, y);
    default:
      MOEC_BUG("no elementary function for opcode %d", (int)code);
  }
}
