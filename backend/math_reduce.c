/* Reduction of an angle modulo pi/2.
 *
 * Up to 2^17 (f32) or 2^20 (f64) by subtracting n times pi/2 in parts, n small
 * enough for exact products (Cody and Waite); beyond by integer multiplication
 * with the bits of 2/pi (Payne and Hanek), lane by lane, in a branch that is
 * entered only when some lane needs it. */
#include "backend/math.h"

/* 2/pi after the binary point, behind one word of zeros. */
static const uint64_t two_over_pi[] = {0,
                                       0xa2f9836e4e441529,
                                       0xfc2757d1f534ddc0,
                                       0xdb6295993c439041,
                                       0xfe5163abdebbc561,
                                       0xb7246e3a424dd2e0,
                                       0x06492eea09d1921c,
                                       0xfe1deb1cb129a73e,
                                       0xe88235f52ebb4484,
                                       0xe99c7026b45f7e41,
                                       0x3991d639835339f4,
                                       0x9c845f8bbdf9283b,
                                       0x1ff897ffde05980f,
                                       0xef2f118b5a0a6d1f,
                                       0x6d367ecf27cb09b7,
                                       0x4f463f669e5fea2d,
                                       0x7527bac7ebe5f17b,
                                       0x3d0739f78a5292ea,
                                       0x6bfb5fb11f8d5d08,
                                       0x56033046fc7b6bab};

static const double half_pi_hi = 0x1.921fb54442d18p+0;
static const double half_pi_lo = 0x1.1a62633145c07p-54;

/* The number n of quarter turns nearest to x, as a real and in low bits. */
static LLVMValueRef nearest_quarter(const math_t *m, LLVMValueRef x,
                                    LLVMValueRef *out_count) {
  LLVMValueRef magic = r_choose(m, 0x1.8p23f, 0x1.8p52);
  LLVMValueRef inverse = r_choose(m, 0x1.45f306p-1f, 0x1.45f306dc9c883p-1);
  LLVMValueRef shifted = r_fma(m, x, inverse, magic);
  *out_count = m_to_bits(m, shifted);
  return r_sub(m, shifted, magic);
}

/* Three parts of 33 bits, times n < 2^20 exact, and a rounded rest. */
static angle_t subtract_wide(const math_t *m, LLVMValueRef x) {
  angle_t a;
  LLVMValueRef n = nearest_quarter(m, x, &a.quadrant);
  LLVMValueRef minus_n = r_neg(m, n);
  LLVMValueRef first = r_fma(m, minus_n, r_const(m, 0x1.921fb544p+0), x);
  pair_t second = p_sum(m, first, r_scale(m, minus_n, 0x1.0b4611a6p-34));
  pair_t third = p_sum(m, second.hi, r_scale(m, minus_n, 0x1.3198a2ep-69));
  LLVMValueRef low = r_add(m, second.lo, third.lo);
  low = r_fma(m, minus_n, r_const(m, 0x1.b839a252049c1p-104), low);
  pair_t r = p_fast_sum(m, third.hi, low);
  a.r = r.hi;
  a.rest = r.lo;
  return a;
}

/* With FMA each step rounds only its result; else the arithmetic is f64. */
static angle_t subtract_narrow(const math_t *m, LLVMValueRef x) {
  angle_t a = {0};
  if (isa_has(m->em->isa, ISA_FMA)) {
    LLVMValueRef minus_n = r_neg(m, nearest_quarter(m, x, &a.quadrant));
    a.r = r_fma(m, minus_n, r_const(m, 0x1.921fb6p+0), x);
    a.r = r_fma(m, minus_n, r_const(m, -0x1.777a5cp-25), a.r);
    a.r = r_fma(m, minus_n, r_const(m, -0x1.ee59dap-50), a.r);
    return a;
  }
  LLVMBuilderRef b = m->em->builder;
  math_t w = math_for(m->em, m->em->f64, m->lanes);
  LLVMValueRef wide = LLVMBuildFPExt(b, x, w.real, ""), count;
  LLVMValueRef n = nearest_quarter(&w, wide, &count);
  wide = r_fnma(&w, n, r_const(&w, 0x1.921fb544p+0), wide);
  wide = r_fnma(&w, n, r_const(&w, 0x1.0b4611a626331p-34), wide);
  a.r = LLVMBuildFPTrunc(b, wide, m->real, "");
  a.quadrant = LLVMBuildTrunc(b, count, m->bits, "");
  return a;
}

static LLVMValueRef table_of_two_over_pi(emitter_t *em) {
  static const char name[] = "moec_two_over_pi";
  LLVMValueRef table = LLVMGetNamedGlobal(em->module, name);
  if (table != NULL) return table;
  enum { N_WORDS = sizeof two_over_pi / sizeof two_over_pi[0] };
  LLVMValueRef words[N_WORDS];
  for (unsigned i = 0; i < N_WORDS; i++)
    words[i] = LLVMConstInt(em->i64, two_over_pi[i], false);
  table = LLVMAddGlobal(em->module, LLVMArrayType2(em->i64, N_WORDS), name);
  LLVMSetInitializer(table, LLVMConstArray2(em->i64, words, N_WORDS));
  LLVMSetLinkage(table, LLVMPrivateLinkage);
  LLVMSetGlobalConstant(table, true);
  LLVMSetUnnamedAddress(table, LLVMGlobalUnnamedAddr);
  return table;
}

/* 64 bits of 2/pi from bit `at` (of which `shift` are its low six bits). */
static LLVMValueRef window_word(emitter_t *em, LLVMValueRef first,
                                LLVMValueRef shift, unsigned word) {
  LLVMBuilderRef b = em->builder;
  LLVMValueRef part[2];
  for (unsigned i = 0; i < 2; i++) {
    LLVMValueRef offset = LLVMConstInt(em->i64, word + i, false);
    LLVMValueRef at = LLVMBuildGEP2(b, em->i64, first, &offset, 1, "");
    part[i] = LLVMBuildLoad2(b, em->i64, at, "");
  }
  return emit_intrinsic(em, "llvm.fshl", 1, &em->i64, 3,
                        (LLVMValueRef[]){part[0], part[1], shift});
}

/* x * 2/pi modulo 4, two bits before and 126 behind the binary point. With x =
 * M * 2^(e-52), bits of 2/pi above the window make multiples of 4. */
static LLVMValueRef quarters_of(const math_t *s, LLVMValueRef x) {
  emitter_t *em = s->em;
  LLVMBuilderRef b = em->builder;
  LLVMTypeRef i128 = LLVMIntTypeInContext(em->context, 128);
  LLVMValueRef bits = m_to_bits(s, x);
  LLVMValueRef exponent = i_sub(s, i_shr(s, bits, 52), i_const(s, 1023));
  LLVMValueRef mantissa = i_and_const(s, bits, ((uint64_t)1 << 52) - 1);
  mantissa = m_or(s, mantissa, i_const(s, (uint64_t)1 << 52));
  LLVMValueRef at = i_add(s, exponent, i_const(s, 10));
  LLVMValueRef index = i_shr(s, at, 6), shift = i_and_const(s, at, 63);
  LLVMValueRef first =
      LLVMBuildGEP2(b, em->i64, table_of_two_over_pi(em), &index, 1, "");
  LLVMValueRef top =
      LLVMBuildMul(b, mantissa, window_word(em, first, shift, 0), "");
  LLVMValueRef wide = LLVMBuildZExt(b, mantissa, i128, "");
  LLVMValueRef word = LLVMConstInt(i128, 64, false);
  LLVMValueRef sum = LLVMBuildShl(b, LLVMBuildZExt(b, top, i128, ""), word, "");
  LLVMValueRef middle =
      LLVMBuildZExt(b, window_word(em, first, shift, 1), i128, "");
  sum = LLVMBuildAdd(b, sum, LLVMBuildMul(b, wide, middle, ""), "");
  LLVMValueRef low =
      LLVMBuildZExt(b, window_word(em, first, shift, 2), i128, "");
  low = LLVMBuildLShr(b, LLVMBuildMul(b, wide, low, ""), word, "");
  return LLVMBuildAdd(b, sum, low, "");
}

/* 53 bits of value from bit `from` down, as a real number. */
static LLVMValueRef take_53_bits(const math_t *s, LLVMValueRef value,
                                 unsigned below) {
  LLVMBuilderRef b = s->em->builder;
  LLVMValueRef count = LLVMConstInt(LLVMTypeOf(value), below, false);
  LLVMValueRef low =
      LLVMBuildTrunc(b, LLVMBuildLShr(b, value, count, ""), s->bits, "");
  low = i_and_const(s, low, ((uint64_t)1 << 53) - 1);
  return LLVMBuildSIToFP(b, low, s->real, "");
}

/* The angle of one finite x >= 2^16, an f64. */
static angle_t reduce_huge_scalar(const math_t *s, LLVMValueRef x) {
  emitter_t *em = s->em;
  LLVMBuilderRef b = em->builder;
  LLVMTypeRef i128 = LLVMIntTypeInContext(em->context, 128);
  LLVMValueRef quarters = quarters_of(s, x);
  LLVMValueRef turns = LLVMBuildTrunc(
      b, LLVMBuildLShr(b, quarters, LLVMConstInt(i128, 125, false), ""),
      s->bits, "");
  /* The fraction less 1 from one half on, as a signed 128-bit fraction. */
  LLVMValueRef fraction =
      LLVMBuildShl(b, quarters, LLVMConstInt(i128, 2, false), "");
  LLVMValueRef negative =
      LLVMBuildICmp(b, LLVMIntSLT, fraction, LLVMConstNull(i128), "");
  LLVMValueRef magnitude =
      m_select(s, negative, LLVMBuildNeg(b, fraction, ""), fraction);
  LLVMValueRef zeros = emit_intrinsic(
      em, "llvm.ctlz", 1, &i128, 2,
      (LLVMValueRef[]){magnitude, LLVMConstInt(em->i1, 0, false)});
  LLVMValueRef normal = LLVMBuildShl(b, magnitude, zeros, "");
  pair_t f = {take_53_bits(s, normal, 75),
              r_scale(s, take_53_bits(s, normal, 22), 0x1p-53)};
  pair_t r =
      p_mul(s, f, (pair_t){r_const(s, half_pi_hi), r_const(s, half_pi_lo)});
  LLVMValueRef biased =
      i_sub(s, i_const(s, 1023 - 53), LLVMBuildTrunc(b, zeros, s->bits, ""));
  LLVMValueRef factor = m_to_real(s, i_shl(s, biased, 52));
  factor = m_select(s, negative, r_neg(s, factor), factor);
  LLVMValueRef one = i_const(s, 1);
  LLVMValueRef quadrant = i_shr(s, i_add(s, turns, one), 1);
  return (angle_t){r_mul(s, r.hi, factor), r_mul(s, r.lo, factor), quadrant};
}

/* One lane: x as f64 in, the angle in the lane's type out. */
static angle_t reduce_huge_lane(const math_t *lane, LLVMValueRef x) {
  LLVMBuilderRef b = lane->em->builder;
  if (lane->wide) return reduce_huge_scalar(lane, x);
  math_t s = math_for(lane->em, lane->em->f64, 1);
  angle_t a = reduce_huge_scalar(&s, LLVMBuildFPExt(b, x, s.real, ""));
  a.r = LLVMBuildFPTrunc(b, a.r, lane->real, "");
  a.rest = NULL;
  a.quadrant = LLVMBuildTrunc(b, a.quadrant, lane->bits, "");
  return a;
}

static LLVMValueRef put_lane(const math_t *m, LLVMValueRef vector,
                             LLVMValueRef keep, LLVMValueRef value,
                             LLVMValueRef index) {
  LLVMBuilderRef b = m->em->builder;
  if (m->lanes == 1) return value;
  LLVMValueRef old = LLVMBuildExtractElement(b, vector, index, "");
  value = m_select(m, keep, old, value);
  return LLVMBuildInsertElement(b, vector, value, index, "");
}

/* Replaces the lanes of *a whose x is huge (the mask). */
static void reduce_huge(const math_t *m, LLVMValueRef x, LLVMValueRef huge,
                        angle_t *a) {
  emitter_t *em = m->em;
  LLVMBuilderRef b = em->builder;
  math_t lane = math_for(em, emit_element_type(x), 1);
  if (m->lanes == 1) {
    *a = reduce_huge_lane(&lane, x);
    return;
  }
  LLVMValueRef safe = m_select(m, huge, x, r_const(m, 0x1p20));
  LLVMValueRef init[3] = {a->r, a->quadrant, a->rest};
  unsigned n_carry = a->rest != NULL ? 3 : 2;
  emit_loop_t loop =
      emit_loop_begin(em, LLVMConstInt(em->i64, 0, false),
                      LLVMConstInt(em->i64, m->lanes, false),
                      LLVMConstInt(em->i64, 1, false), n_carry, init, "huge");
  LLVMValueRef value = LLVMBuildExtractElement(b, safe, loop.index, "");
  angle_t one = reduce_huge_lane(&lane, value);
  LLVMValueRef keep =
      m_not(m, LLVMBuildExtractElement(b, huge, loop.index, ""));
  LLVMValueRef next[3];
  next[0] = put_lane(m, loop.carry[0], keep, one.r, loop.index);
  next[1] = put_lane(m, loop.carry[1], keep, one.quadrant, loop.index);
  if (n_carry == 3)
    next[2] = put_lane(m, loop.carry[2], keep, one.rest, loop.index);
  emit_loop_end(em, &loop, next);
  a->r = loop.carry[0];
  a->quadrant = loop.carry[1];
  if (n_carry == 3) a->rest = loop.carry[2];
}

static LLVMValueRef join(const math_t *m, LLVMValueRef fast, LLVMValueRef slow,
                         LLVMBasicBlockRef fast_block,
                         LLVMBasicBlockRef slow_block) {
  LLVMValueRef phi = LLVMBuildPhi(m->em->builder, LLVMTypeOf(fast), "");
  LLVMValueRef values[2] = {fast, slow};
  LLVMBasicBlockRef blocks[2] = {fast_block, slow_block};
  LLVMAddIncoming(phi, values, blocks, 2);
  return phi;
}

angle_t core_reduce_angle(const math_t *m, LLVMValueRef x) {
  emitter_t *em = m->em;
  LLVMBuilderRef b = em->builder;
  angle_t fast = m->wide ? subtract_wide(m, x) : subtract_narrow(m, x);
  /* Finite and large: one comparison of the distance above the limit's bits. */
  uint64_t limit = m->wide ? 0x4130000000000000u : 0x48000000u;
  LLVMValueRef above = i_sub(m, m_to_bits(m, x), i_const(m, limit));
  LLVMValueRef huge =
      i_compare(m, LLVMIntULT, above, bits_of_infinity(m) - limit);

  LLVMBasicBlockRef fast_block = LLVMGetInsertBlock(b);
  LLVMValueRef func = LLVMGetBasicBlockParent(fast_block);
  LLVMBasicBlockRef slow =
      LLVMAppendBasicBlockInContext(em->context, func, "slow");
  LLVMBasicBlockRef end =
      LLVMAppendBasicBlockInContext(em->context, func, "reduced");
  LLVMBuildCondBr(b, m_any(m, huge), slow, end);
  LLVMPositionBuilderAtEnd(b, slow);
  angle_t far = fast;
  reduce_huge(m, x, huge, &far);
  LLVMBasicBlockRef slow_end = LLVMGetInsertBlock(b);
  LLVMBuildBr(b, end);
  LLVMPositionBuilderAtEnd(b, end);
  angle_t a = {.rest = NULL};
  a.r = join(m, fast.r, far.r, fast_block, slow_end);
  a.quadrant = join(m, fast.quadrant, far.quadrant, fast_block, slow_end);
  if (fast.rest != NULL)
    a.rest = join(m, fast.rest, far.rest, fast_block, slow_end);
  return a;
}
