/* Elementwise operations on registers; see scalar.h. */
#include "backend/scalar.h"

#include <math.h>
#include <string.h>

#include "ir/element.h"

LLVMTypeRef emit_register_type(emitter_t *em, dtype_t dtype) {
  if (dtype == DT_BOOL) return em->i1;
  if (dtype == DT_F64) return em->f64;
  if (dtype_is_float(dtype)) return em->f32;
  return emit_memory_type(em, dtype);
}

LLVMTypeRef emit_memory_type(emitter_t *em, dtype_t dtype) {
  if (dtype == DT_F32) return em->f32;
  if (dtype == DT_F64) return em->f64;
  switch (dtype_bits(dtype)) {
    case 8:
      return em->i8;
    case 16:
      return em->i16;
    case 32:
      return em->i32;
    case 64:
      return em->i64;
    default:
      MOEC_BUG("no registers for %s", dtype_name(dtype));
  }
}

static bool is_small_float(dtype_t dtype) {
  return dtype_is_float(dtype) && dtype_bits(dtype) < 32;
}

static LLVMTypeRef like(LLVMValueRef value, LLVMTypeRef scalar) {
  return emit_lanes(scalar, emit_lanes_of(value));
}

LLVMValueRef emit_from_memory(emitter_t *em, dtype_t dtype, LLVMValueRef bits) {
  if (dtype == DT_BOOL)
    return LLVMBuildICmp(em->builder, LLVMIntNE, bits,
                         LLVMConstNull(LLVMTypeOf(bits)), "");
  return is_small_float(dtype) ? emit_float_from_bits(em, dtype, bits) : bits;
}

LLVMValueRef emit_to_memory(emitter_t *em, dtype_t dtype, LLVMValueRef value) {
  if (dtype == DT_BOOL)
    return LLVMBuildZExt(em->builder, value, like(value, em->i8), "");
  /* The value is one of the type: nothing but its infinities could saturate. */
  return is_small_float(dtype)
             ? emit_float_to_bits(em, dtype, value, false, NULL)
             : value;
}

/* The nearest value of a small float type. */
static LLVMValueRef round_to(emitter_t *em, dtype_t dtype, LLVMValueRef value) {
  if (!is_small_float(dtype)) return value;
  return emit_float_from_bits(em, dtype,
                              emit_float_to_bits(em, dtype, value, true, NULL));
}

/* ---- Integers ------------------------------------------------------------ */

static bool is_signed(dtype_t dtype) {
  return dtype_class(dtype) == DT_CLASS_SIGNED;
}

static LLVMValueRef zero_of(LLVMValueRef x) {
  return LLVMConstNull(LLVMTypeOf(x));
}

static LLVMValueRef icmp(emitter_t *em, LLVMIntPredicate p, LLVMValueRef a,
                         LLVMValueRef b) {
  return LLVMBuildICmp(em->builder, p, a, b, "");
}

static LLVMValueRef choose(emitter_t *em, LLVMValueRef c, LLVMValueRef a,
                           LLVMValueRef b) {
  return LLVMBuildSelect(em->builder, c, a, b, "");
}

/* Division or remainder that is defined for every divisor: by 0 gives 0, and
 * the smallest number by -1 wraps. */
static LLVMValueRef int_divide(emitter_t *em, dtype_t dtype, bool remainder,
                               LLVMValueRef a, LLVMValueRef b) {
  LLVMTypeRef type = LLVMTypeOf(a);
  LLVMValueRef one = emit_const_int(type, 1), zero = zero_of(a);
  LLVMValueRef by_zero = icmp(em, LLVMIntEQ, b, zero);
  if (!is_signed(dtype)) {
    LLVMValueRef d = choose(em, by_zero, one, b);
    LLVMValueRef r = remainder ? LLVMBuildURem(em->builder, a, d, "")
                               : LLVMBuildUDiv(em->builder, a, d, "");
    return choose(em, by_zero, zero, r);
  }
  LLVMValueRef minus = icmp(em, LLVMIntEQ, b, LLVMConstAllOnes(type));
  LLVMValueRef special = LLVMBuildOr(em->builder, by_zero, minus, "");
  LLVMValueRef d = choose(em, special, one, b);
  LLVMValueRef r = remainder ? LLVMBuildSRem(em->builder, a, d, "")
                             : LLVMBuildSDiv(em->builder, a, d, "");
  if (!remainder) r = choose(em, minus, LLVMBuildNeg(em->builder, a, ""), r);
  LLVMValueRef none = remainder ? special : by_zero;
  return choose(em, none, zero, r);
}

/* Remainder with the sign of the divisor. */
static LLVMValueRef floor_mod(emitter_t *em, dtype_t dtype, LLVMValueRef a,
                              LLVMValueRef b) {
  LLVMValueRef r = int_divide(em, dtype, true, a, b);
  if (!is_signed(dtype)) return r;
  LLVMValueRef zero = zero_of(a);
  LLVMValueRef differ =
      icmp(em, LLVMIntSLT, LLVMBuildXor(em->builder, r, b, ""), zero);
  LLVMValueRef adjust =
      LLVMBuildAnd(em->builder, differ, icmp(em, LLVMIntNE, r, zero), "");
  return choose(em, adjust, LLVMBuildAdd(em->builder, r, b, ""), r);
}

/* Distances are unsigned; those of the width or more shift everything out. */
static LLVMValueRef shift(emitter_t *em, dtype_t dtype, bool left,
                          LLVMValueRef a, LLVMValueRef n) {
  LLVMTypeRef type = LLVMTypeOf(a);
  unsigned bits = dtype_bits(dtype);
  LLVMValueRef fine = icmp(em, LLVMIntULT, n, emit_const_int(type, bits));
  if (!left && is_signed(dtype)) {
    n = choose(em, fine, n, emit_const_int(type, bits - 1));
    return LLVMBuildAShr(em->builder, a, n, "");
  }
  LLVMValueRef safe = choose(em, fine, n, zero_of(n));
  LLVMValueRef r = left ? LLVMBuildShl(em->builder, a, safe, "")
                        : LLVMBuildLShr(em->builder, a, safe, "");
  return choose(em, fine, r, zero_of(a));
}

/* Wrapping power by squaring; negative exponents give the truncated quotient.
 */
static LLVMValueRef int_power(emitter_t *em, dtype_t dtype, LLVMValueRef x,
                              LLVMValueRef e, bool e_signed) {
  LLVMTypeRef type = LLVMTypeOf(x), e_type = LLVMTypeOf(e);
  LLVMValueRef one = emit_const_int(type, 1), e_one = emit_const_int(e_type, 1);
  LLVMValueRef init[] = {one, x, e};
  unsigned bits = LLVMGetIntTypeWidth(emit_element_type(e));
  emit_loop_t loop = emit_loop_begin(
      em, LLVMConstInt(em->i32, 0, false), LLVMConstInt(em->i32, bits, false),
      LLVMConstInt(em->i32, 1, false), 3, init, "power");
  LLVMValueRef odd =
      icmp(em, LLVMIntNE, LLVMBuildAnd(em->builder, loop.carry[2], e_one, ""),
           zero_of(e));
  LLVMValueRef more =
      LLVMBuildMul(em->builder, loop.carry[0], loop.carry[1], "");
  LLVMValueRef next[] = {
      choose(em, odd, more, loop.carry[0]),
      LLVMBuildMul(em->builder, loop.carry[1], loop.carry[1], ""),
      LLVMBuildLShr(em->builder, loop.carry[2], e_one, "")};
  emit_loop_end(em, &loop, next);
  if (!e_signed) return loop.carry[0];
  LLVMValueRef negative = icmp(em, LLVMIntSLT, e, zero_of(e));
  LLVMValueRef parity = LLVMBuildAnd(em->builder, e, e_one, "");
  LLVMValueRef is_one = icmp(em, LLVMIntEQ, x, one);
  LLVMValueRef inverse = choose(em, is_one, one, zero_of(x));
  if (is_signed(dtype)) {
    LLVMValueRef is_minus = icmp(em, LLVMIntEQ, x, LLVMConstAllOnes(type));
    LLVMValueRef sign = choose(em, icmp(em, LLVMIntEQ, parity, zero_of(e)), one,
                               LLVMConstAllOnes(type));
    inverse = choose(em, is_minus, sign, inverse);
  }
  return choose(em, negative, inverse, loop.carry[0]);
}

/* ---- Conversion ---------------------------------------------------------- */

/* x without bits that f64 does not hold, the last that stays set if one of them
 * was: rounded to a shorter float, it gives what x does. */
static LLVMValueRef round_to_odd(emitter_t *em, dtype_t from, LLVMValueRef x) {
  enum { EXCESS = 64 - 53 };
  LLVMBuilderRef at = em->builder;
  LLVMTypeRef type = LLVMTypeOf(x);
  uint64_t low = (UINT64_C(1) << EXCESS) - 1, limit = UINT64_C(1) << 53;
  LLVMValueRef cut = LLVMBuildAnd(at, x, emit_const_int(type, low), "");
  LLVMValueRef carry = /* into the last bit that stays, from any below */
      LLVMBuildAdd(at, cut, emit_const_int(type, low), "");
  LLVMValueRef odd = LLVMBuildOr(at, x, carry, "");
  odd = LLVMBuildAnd(at, odd, emit_const_int(type, ~low), "");
  bool sign = is_signed(from); /* x + limit is in [0, 2 * limit) if x fits */
  LLVMValueRef moved =
      sign ? LLVMBuildAdd(at, x, emit_const_int(type, limit), "") : x;
  LLVMValueRef fits = icmp(em, LLVMIntULT, moved,
                           emit_const_int(type, sign ? 2 * limit : limit));
  return choose(em, fits, x, odd);
}

/* In the register type of f32 or f64; for shorter floats, which are made from
 * it, in f64. */
static LLVMValueRef int_to_float(emitter_t *em, dtype_t from, dtype_t to,
                                 LLVMValueRef x) {
  if (is_small_float(to) && dtype_bits(from) == 64)
    x = round_to_odd(em, from, x);
  LLVMTypeRef type = to == DT_F32 ? em->f32 : em->f64;
  return is_signed(from) ? LLVMBuildSIToFP(em->builder, x, like(x, type), "")
                         : LLVMBuildUIToFP(em->builder, x, like(x, type), "");
}

static LLVMValueRef float_to_int(emitter_t *em, dtype_t to, LLVMValueRef x) {
  LLVMTypeRef types[] = {like(x, emit_memory_type(em, to)), LLVMTypeOf(x)};
  return emit_intrinsic(em,
                        is_signed(to) ? "llvm.fptosi.sat" : "llvm.fptoui.sat",
                        2, types, 1, &x);
}

static LLVMValueRef int_to_int(emitter_t *em, dtype_t from, dtype_t to,
                               LLVMValueRef x) {
  LLVMTypeRef type = like(x, emit_memory_type(em, to));
  if (dtype_bits(to) < dtype_bits(from))
    return LLVMBuildTrunc(em->builder, x, type, "");
  if (dtype_bits(to) == dtype_bits(from)) return x;
  return is_signed(from) ? LLVMBuildSExt(em->builder, x, type, "")
                         : LLVMBuildZExt(em->builder, x, type, "");
}

/* A value held in f32 or f64 as the register of another float type. */
static LLVMValueRef float_to_float(emitter_t *em, dtype_t to, LLVMValueRef x,
                                   bool saturate, const char *round_mode) {
  bool wide = LLVMGetTypeKind(emit_element_type(x)) == LLVMDoubleTypeKind;
  if (is_small_float(to))
    return emit_float_from_bits(
        em, to, emit_float_to_bits(em, to, x, saturate, round_mode));
  if (to == DT_F64)
    return wide ? x : LLVMBuildFPExt(em->builder, x, like(x, em->f64), "");
  return wide ? LLVMBuildFPTrunc(em->builder, x, like(x, em->f32), "") : x;
}

static LLVMValueRef emit_cast(emitter_t *em, const ir_op_t *op,
                              LLVMValueRef x) {
  dtype_t from = op->in[0].value->type.dtype, to = op->out[0].type.dtype;
  bool saturate = ir_get_int(op, ATTR_CAST_saturate) != 0;
  const char *mode = ir_get_str(op, ATTR_CAST_round_mode);
  if (from == to) return x;
  if (to == DT_BOOL)
    return dtype_is_float(from)
               ? LLVMBuildFCmp(em->builder, LLVMRealUNE, x, zero_of(x), "")
               : icmp(em, LLVMIntNE, x, zero_of(x));
  if (from == DT_BOOL) {
    if (!dtype_is_float(to))
      return LLVMBuildZExt(em->builder, x, like(x, emit_memory_type(em, to)),
                           "");
    return LLVMBuildUIToFP(em->builder, x, like(x, emit_register_type(em, to)),
                           "");
  }
  if (dtype_is_float(from) && dtype_is_float(to))
    return float_to_float(em, to, x, saturate, mode);
  if (dtype_is_float(from)) return float_to_int(em, to, x);
  if (!dtype_is_float(to)) return int_to_int(em, from, to, x);
  x = int_to_float(em, from, to, x);
  return is_small_float(to) ? float_to_float(em, to, x, saturate, mode) : x;
}

static LLVMValueRef emit_bitcast(emitter_t *em, const ir_op_t *op,
                                 LLVMValueRef x) {
  dtype_t from = op->in[0].value->type.dtype, to = op->out[0].type.dtype;
  LLVMValueRef bits = emit_to_memory(em, from, x);
  bits = LLVMBuildBitCast(em->builder, bits,
                          like(bits, emit_memory_type(em, to)), "");
  return emit_from_memory(em, to, bits);
}

/* ---- By class of type ---------------------------------------------------- */

/* NaN if either is. */
static LLVMValueRef float_extreme(emitter_t *em, bool max, LLVMValueRef a,
                                  LLVMValueRef b) {
  LLVMValueRef first =
      LLVMBuildFCmp(em->builder, max ? LLVMRealUGT : LLVMRealULT, a, b, "");
  LLVMValueRef nan = LLVMBuildFCmp(em->builder, LLVMRealUNO, b, b, "");
  return choose(em, nan, b, choose(em, first, a, b));
}

static LLVMValueRef float_sign(emitter_t *em, LLVMValueRef x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  LLVMValueRef zero = zero_of(x);
  LLVMValueRef up = LLVMBuildFCmp(em->builder, LLVMRealOGT, x, zero, "");
  LLVMValueRef down = LLVMBuildFCmp(em->builder, LLVMRealOLT, x, zero, "");
  return choose(em, up, emit_const_real(type, 1),
                choose(em, down, emit_const_real(type, -1), x));
}

static LLVMValueRef float_is_inf(emitter_t *em, const ir_op_t *op,
                                 LLVMValueRef x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  LLVMValueRef result =
      zero_of(LLVMBuildFCmp(em->builder, LLVMRealUNO, x, x, ""));
  if (ir_get_int(op, ATTR_IS_INF_detect_positive))
    result = LLVMBuildFCmp(em->builder, LLVMRealOEQ, x,
                           emit_const_real(type, (double)INFINITY), "");
  if (ir_get_int(op, ATTR_IS_INF_detect_negative))
    result =
        LLVMBuildOr(em->builder, result,
                    LLVMBuildFCmp(em->builder, LLVMRealOEQ, x,
                                  emit_const_real(type, -(double)INFINITY), ""),
                    "");
  return result;
}

static LLVMValueRef float_unary(emitter_t *em, const ir_op_t *op,
                                LLVMValueRef x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  dtype_t dtype = op->out[0].type.dtype;
  switch (op->code) {
    case OP_NEG:
      return LLVMBuildFNeg(em->builder, x, "");
    case OP_ABS:
      return emit_intrinsic(em, "llvm.fabs", 1, &type, 1, &x);
    case OP_SIGN:
      return float_sign(em, x);
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_TRUNC:
      return emit_round(em, op->code, x);
    case OP_IS_NAN:
      return LLVMBuildFCmp(em->builder, LLVMRealUNO, x, x, "");
    case OP_IS_INF:
      return float_is_inf(em, op, x);
    case OP_SQRT:
      return round_to(em, dtype,
                      emit_intrinsic(em, "llvm.sqrt", 1, &type, 1, &x));
    default:
      return round_to(em, dtype, emit_math_unary(em, op->code, x));
  }
}

static LLVMValueRef float_binary(emitter_t *em, const ir_op_t *op,
                                 LLVMValueRef a, LLVMValueRef b) {
  dtype_t dtype = op->out[0].type.dtype;
  LLVMBuilderRef at = em->builder;
  switch (op->code) {
    case OP_ADD:
      return round_to(em, dtype, LLVMBuildFAdd(at, a, b, ""));
    case OP_SUB:
      return round_to(em, dtype, LLVMBuildFSub(at, a, b, ""));
    case OP_MUL:
      return round_to(em, dtype, LLVMBuildFMul(at, a, b, ""));
    case OP_DIV:
      return round_to(em, dtype, LLVMBuildFDiv(at, a, b, ""));
    case OP_MIN:
      return float_extreme(em, false, a, b);
    case OP_MAX:
      return float_extreme(em, true, a, b);
    case OP_EQ:
      return LLVMBuildFCmp(at, LLVMRealOEQ, a, b, "");
    case OP_LT:
      return LLVMBuildFCmp(at, LLVMRealOLT, a, b, "");
    case OP_LE:
      return LLVMBuildFCmp(at, LLVMRealOLE, a, b, "");
    case OP_FMOD:
    case OP_POW:
      return round_to(em, dtype, emit_math_binary(em, op->code, a, b));
    default:
      MOEC_BUG("'%s' on floats", ir_op_info(op->code)->mnemonic);
  }
}

static LLVMValueRef int_unary(emitter_t *em, const ir_op_t *op,
                              LLVMValueRef x) {
  bool sign = is_signed(op->in[0].value->type.dtype);
  LLVMTypeRef type = LLVMTypeOf(x);
  LLVMValueRef zero = zero_of(x);
  switch (op->code) {
    case OP_NEG:
      return LLVMBuildNeg(em->builder, x, "");
    case OP_BIT_NOT:
    case OP_NOT:
      return LLVMBuildNot(em->builder, x, "");
    case OP_ABS: {
      if (!sign) return x;
      LLVMValueRef below = icmp(em, LLVMIntSLT, x, zero);
      return choose(em, below, LLVMBuildNeg(em->builder, x, ""), x);
    }
    case OP_SIGN: {
      LLVMValueRef one = emit_const_int(type, 1);
      LLVMValueRef some = choose(em, icmp(em, LLVMIntNE, x, zero), one, zero);
      if (!sign) return some;
      return choose(em, icmp(em, LLVMIntSLT, x, zero), LLVMConstAllOnes(type),
                    some);
    }
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_TRUNC:
      return x;
    default:
      MOEC_BUG("'%s' on integers", ir_op_info(op->code)->mnemonic);
  }
}

static LLVMValueRef int_binary(emitter_t *em, const ir_op_t *op, LLVMValueRef a,
                               LLVMValueRef b) {
  dtype_t dtype = op->in[0].value->type.dtype;
  bool sign = is_signed(dtype);
  LLVMBuilderRef at = em->builder;
  LLVMIntPredicate lt = sign ? LLVMIntSLT : LLVMIntULT;
  LLVMIntPredicate le = sign ? LLVMIntSLE : LLVMIntULE;
  switch (op->code) {
    case OP_ADD:
      return LLVMBuildAdd(at, a, b, "");
    case OP_SUB:
      return LLVMBuildSub(at, a, b, "");
    case OP_MUL:
      return LLVMBuildMul(at, a, b, "");
    case OP_DIV:
      return int_divide(em, dtype, false, a, b);
    case OP_FMOD:
      return int_divide(em, dtype, true, a, b);
    case OP_MOD:
      return floor_mod(em, dtype, a, b);
    case OP_MIN:
      return choose(em, icmp(em, lt, a, b), a, b);
    case OP_MAX:
      return choose(em, icmp(em, lt, b, a), a, b);
    case OP_AND:
    case OP_BIT_AND:
      return LLVMBuildAnd(at, a, b, "");
    case OP_OR:
    case OP_BIT_OR:
      return LLVMBuildOr(at, a, b, "");
    case OP_XOR:
    case OP_BIT_XOR:
      return LLVMBuildXor(at, a, b, "");
    case OP_SHL:
      return shift(em, dtype, true, a, b);
    case OP_SHR:
      return shift(em, dtype, false, a, b);
    case OP_EQ:
      return icmp(em, LLVMIntEQ, a, b);
    case OP_LT:
      return icmp(em, lt, a, b);
    case OP_LE:
      return icmp(em, le, a, b);
    default:
      MOEC_BUG("'%s' on integers", ir_op_info(op->code)->mnemonic);
  }
}

/* The exponent may have another type than the base. */
static LLVMValueRef emit_power(emitter_t *em, const ir_op_t *op, LLVMValueRef x,
                               LLVMValueRef e) {
  dtype_t base = op->in[0].value->type.dtype;
  dtype_t exponent = op->in[1].value->type.dtype;
  if (!dtype_is_float(base) && !dtype_is_float(exponent))
    return int_power(em, base, x, e, is_signed(exponent));
  if (!dtype_is_float(exponent))
    e = int_to_float(em, exponent, base == DT_F64 ? DT_F64 : DT_F32, e);
  if (dtype_is_float(base)) {
    e = float_to_float(em, base == DT_F64 ? DT_F64 : DT_F32, e, true, NULL);
    return round_to(em, base, emit_math_binary(em, OP_POW, x, e));
  }
  x = int_to_float(em, base, DT_F64, x);
  e = float_to_float(em, DT_F64, e, true, NULL);
  return float_to_int(em, base, emit_math_binary(em, OP_POW, x, e));
}

static LLVMValueRef emit_mul_add(emitter_t *em, const ir_op_t *op,
                                 LLVMValueRef const *in) {
  if (dtype_is_float(op->out[0].type.dtype))
    return emit_fma(em, in[0], in[1], in[2]);
  LLVMValueRef product = LLVMBuildMul(em->builder, in[0], in[1], "");
  return LLVMBuildAdd(em->builder, product, in[2], "");
}

LLVMValueRef emit_elementwise(emitter_t *em, const ir_op_t *op,
                              LLVMValueRef const *in) {
  switch (op->code) {
    case OP_CAST:
      return emit_cast(em, op, in[0]);
    case OP_BITCAST:
      return emit_bitcast(em, op, in[0]);
    case OP_SELECT:
      return choose(em, in[0], in[1], in[2]);
    case OP_POW:
      return emit_power(em, op, in[0], in[1]);
    case OP_MUL_ADD:
      return emit_mul_add(em, op, in);
    default:
      break;
  }
  bool is_float = dtype_is_float(op->in[0].value->type.dtype);
  if (op->n_in == 1)
    return is_float ? float_unary(em, op, in[0]) : int_unary(em, op, in[0]);
  return is_float ? float_binary(em, op, in[0], in[1])
                  : int_binary(em, op, in[0], in[1]);
}

/* ---- Reductions ---------------------------------------------------------- */

static LLVMValueRef int_neutral(const char *kind, dtype_t dtype,
                                LLVMTypeRef type) {
  unsigned bits = dtype == DT_BOOL ? 1 : dtype_bits(dtype);
  uint64_t all = bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
  bool sign = is_signed(dtype);
  if (strcmp(kind, "sum") == 0) return LLVMConstNull(type);
  if (strcmp(kind, "prod") == 0) return emit_const_int(type, 1);
  if (strcmp(kind, "max") == 0)
    return emit_const_int(type, sign ? 1ull << (bits - 1) : 0);
  return emit_const_int(type, sign ? all >> 1 : all);
}

LLVMValueRef emit_neutral(emitter_t *em, const char *kind, dtype_t dtype,
                          unsigned lanes) {
  LLVMTypeRef type = emit_lanes(emit_register_type(em, dtype), lanes);
  if (!dtype_is_float(dtype)) return int_neutral(kind, dtype, type);
  if (strcmp(kind, "sum") == 0) return LLVMConstNull(type);
  if (strcmp(kind, "prod") == 0) return emit_const_real(type, 1);
  double inf = (double)INFINITY;
  return emit_const_real(type, strcmp(kind, "max") == 0 ? -inf : inf);
}

LLVMValueRef emit_combine(emitter_t *em, const char *kind, dtype_t dtype,
                          LLVMValueRef a, LLVMValueRef b) {
  bool is_float = dtype_is_float(dtype);
  LLVMBuilderRef at = em->builder;
  if (strcmp(kind, "sum") == 0)
    return is_float ? LLVMBuildFAdd(at, a, b, "") : LLVMBuildAdd(at, a, b, "");
  if (strcmp(kind, "prod") == 0)
    return is_float ? LLVMBuildFMul(at, a, b, "") : LLVMBuildMul(at, a, b, "");
  bool max = strcmp(kind, "max") == 0;
  if (is_float) return float_extreme(em, max, a, b);
  LLVMIntPredicate p = is_signed(dtype) ? (max ? LLVMIntSGT : LLVMIntSLT)
                                        : (max ? LLVMIntUGT : LLVMIntULT);
  return choose(em, icmp(em, p, a, b), a, b);
}

LLVMValueRef emit_scalar_constant(emitter_t *em, const ir_op_t *op) {
  dtype_t dtype = ir_get_dtype(op, ATTR_CONSTANT_dtype);
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  LLVMTypeRef type = emit_register_type(em, dtype);
  if (dtype == DT_F64 || dtype == DT_F32) { /* by bits: NaN payloads stay */
    uint64_t bits = 0;
    memcpy(&bits, data->bytes, dtype_bits(dtype) / 8);
    LLVMTypeRef int_type = dtype == DT_F64 ? em->i64 : em->i32;
    return LLVMConstBitCast(LLVMConstInt(int_type, bits, false), type);
  }
  if (dtype_is_float(dtype))
    return LLVMConstReal(type, ir_element_float(dtype, data->bytes, 0));
  uint64_t bits = 0;
  memcpy(&bits, data->bytes, (dtype_bits(dtype) + 7) / 8);
  if (dtype == DT_BOOL) bits = bits != 0;
  return LLVMConstInt(type, bits, false);
}
