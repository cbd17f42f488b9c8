/* Elements below 8 bits: taken out of their bytes, and put into them. */
#include "passes/lower.h"

static unsigned log2_per_byte(dtype_t dtype) {
  return dtype_bits(dtype) == 4 ? 1 : 2;
}

static ir_value_t *byte_const(kernel_t *k, int64_t value) {
  return kernel_cast(k, kernel_int(k, value), DT_U8);
}

static ir_value_t *real(kernel_t *k, double value) {
  return kernel_const(k, DT_F32, value);
}

/* ---- unpack -------------------------------------------------------------- */

/* i2 and i4 from the low bits of a byte: the highest one is the sign. */
static ir_value_t *sign_extend(kernel_t *k, ir_value_t *byte, unsigned bits) {
  ir_value_t *up = kernel_cast(k, kernel_int(k, 8 - bits), DT_I8);
  ir_value_t *x = kernel_cast(k, byte, DT_I8);
  return kernel_binary(k, OP_SHR, kernel_binary(k, OP_SHL, x, up), up);
}

/* 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives */
static ir_value_t *decode_f4(kernel_t *k, ir_value_t *code) {
  ir_value_t *seven = byte_const(k, 7);
  ir_value_t *size =
      kernel_cast(k, kernel_binary(k, OP_BIT_AND, code, seven), DT_F32);
  ir_value_t *low = kernel_binary(k, OP_MUL, size, real(k, 0.5));
  ir_value_t *mid = kernel_binary(k, OP_SUB, size, real(k, 2));
  ir_value_t *high = kernel_binary(k, OP_SUB, size, real(k, 4));
  high = kernel_binary(k, OP_MUL, high, real(k, 2));
  ir_value_t *below_4 = kernel_binary(k, OP_LT, size, real(k, 4));
  ir_value_t *below_6 = kernel_binary(k, OP_LT, size, real(k, 6));
  ir_value_t *x = kernel_select(k, below_6, mid, high);
  x = kernel_select(k, below_4, low, x);
  ir_value_t *negative = kernel_binary(k, OP_LT, seven, code);
  x = kernel_select(k, negative, kernel_unary(k, OP_NEG, x), x);
  return kernel_cast(k, x, DT_F8E4M3FN);
}

static ir_value_t *elem_unpack(kernel_t *k, const ir_op_t *op, unsigned result,
                               ir_value_t *const *idx) {
  (void)result;
  ir_value_t *x = op->in[0].value;
  dtype_t dtype = x->type.dtype;
  unsigned bits = dtype_bits(dtype), log2 = log2_per_byte(dtype);
  MOEC_ASSERT(x->def == NULL || !x->def->fused);
  ir_value_t *linear = lower_linear(k, &x->type, idx);
  ir_value_t *at = kernel_binary(k, OP_SHR, linear, kernel_int(k, log2));
  ir_value_t *byte = kernel_load(k, kernel_operand(k, x), at, NULL);
  ir_value_t *place =
      kernel_binary(k, OP_BIT_AND, linear, kernel_int(k, (1 << log2) - 1));
  ir_value_t *shift = kernel_cast(
      k, kernel_binary(k, OP_MUL, place, kernel_int(k, bits)), DT_U8);
  byte = kernel_binary(k, OP_SHR, byte, shift);
  if (dtype_class(dtype) == DT_CLASS_SIGNED) return sign_extend(k, byte, bits);
  byte = kernel_binary(k, OP_BIT_AND, byte, byte_const(k, (1 << bits) - 1));
  return dtype == DT_F4E2M1 ? decode_f4(k, byte) : byte;
}

static bool merges_unpack(const ir_op_t *op, unsigned d) {
  return lower_merges(op->in[0].value, d);
}

const lowering_t lowering_unpack = {.elem = elem_unpack,
                                    .merges = merges_unpack};

/* ---- pack ---------------------------------------------------------------- */

static ir_value_t *encode_f4(kernel_t *k, ir_value_t *x) {
  x = kernel_cast(k, x, DT_F32);
  ir_value_t *size = kernel_unary(k, OP_ABS, x);
  ir_value_t *low = kernel_binary(k, OP_MUL, size, real(k, 2));
  ir_value_t *mid = kernel_binary(k, OP_ADD, size, real(k, 2));
  ir_value_t *high = kernel_binary(k, OP_MUL, size, real(k, 0.5));
  high = kernel_binary(k, OP_ADD, high, real(k, 4));
  ir_value_t *below_2 = kernel_binary(k, OP_LT, size, real(k, 2));
  ir_value_t *below_4 = kernel_binary(k, OP_LT, size, real(k, 4));
  ir_value_t *code = kernel_select(k, below_4, mid, high);
  code = kernel_cast(k, kernel_select(k, below_2, low, code), DT_U8);
  /* 1 / x knows the sign of a zero. */
  ir_value_t *negative = kernel_binary(k, OP_DIV, real(k, 1), x);
  negative = kernel_binary(k, OP_LT, negative, real(k, 0));
  ir_value_t *minus = byte_const(k, 8);
  ir_value_t *sign = kernel_select(k, negative, minus, byte_const(k, 0));
  return kernel_binary(k, OP_BIT_OR, code, sign);
}

/* The low bits of element `at` of a stored operand, 0 beyond its last one. */
static ir_value_t *encode(kernel_t *k, ir_value_t *stored, dtype_t to,
                          ir_value_t *at, ir_value_t *count) {
  ir_value_t *inside = kernel_binary(k, OP_LT, at, count);
  ir_value_t *x = kernel_load(k, kernel_operand(k, stored), at, inside);
  ir_value_t *code =
      to == DT_F4E2M1 ? encode_f4(k, x) : kernel_cast(k, x, DT_U8);
  code = kernel_binary(k, OP_BIT_AND, code,
                       byte_const(k, (1 << dtype_bits(to)) - 1));
  return kernel_select(k, inside, code, byte_const(k, 0));
}

/* Whole bytes: their elements may be those of several rows. */
static void root_pack(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *type = &op->out[0].type;
  ir_value_t *stored = lower_stored(lo, op->in[0].value);
  unsigned bits = dtype_bits(type->dtype);
  int64_t per_byte = 8 / bits;
  const expr_t *count = ir_type_count(pool, type);
  const expr_t *n_bytes = expr_ceildiv(pool, count, expr_const(pool, per_byte));
  const bool mergeable[] = {false};
  const dtype_t byte = DT_U8;
  nest_t nest;
  nest_plan(lo->module, &nest, 1, &n_bytes, mergeable, NEST_CHUNKS,
            expr_const(pool, per_byte));
  kernel_t k;
  ir_value_t *idx[1], *whole = NULL;
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &byte);
  nest_open(&k, &nest, true, idx);
  ir_value_t *first =
      kernel_binary(&k, OP_MUL, idx[0], kernel_int(&k, per_byte));
  for (unsigned i = 0; i < per_byte; i++) {
    ir_value_t *at = kernel_binary(&k, OP_ADD, first, kernel_int(&k, i));
    ir_value_t *code =
        encode(&k, stored, type->dtype, at, kernel_size(&k, count));
    code = kernel_binary(&k, OP_SHL, code, byte_const(&k, i * bits));
    whole = whole == NULL ? code : kernel_binary(&k, OP_BIT_OR, whole, code);
  }
  kernel_store(&k, kernel_result(&k, 0), idx[0], whole, NULL);
  ir_op_t *launched =
      lower_launch(lo, &k, "pack", 1, type, nest.units, nest.grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_pack = {.root = root_pack};
