/* Quantised numbers: value = (element - zero point) * scale. */
#include "frontend/window.h"

static ir_value_t *binary(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* Scale or zero point p of blocks of x along an axis, one for each element. */
static ir_value_t *spread_blocks(convert_ctx_t *ctx, ir_value_t *p,
                                 const ir_value_t *x, unsigned axis,
                                 int64_t block) {
  unsigned rank = x->type.rank;
  expr_pool_t *pool = ctx->exprs;
  if (!ctx_check_rank(ctx, p, rank, rank, "the scale of blocks") ||
      rank == IR_MAX_RANK)
    return NULL;
  const expr_t *wide[IR_MAX_RANK], *flat[IR_MAX_RANK];
  const expr_t *each = ctx_int(ctx, block);
  for (unsigned i = 0; i < rank; i++) {
    const expr_t *d = ctx_dim(p, i);
    wide[i < axis ? i : i + 1] = flat[i] = d;
    ir_check_equal(
        ctx->b, d,
        i == axis ? expr_ceildiv(pool, ctx_dim(x, i), each) : ctx_dim(x, i),
        "dimensions of the scale of blocks");
  }
  wide[axis] = ctx_dim(p, axis);
  wide[axis + 1] = each;
  flat[axis] = expr_mul(pool, wide[axis], each);
  ir_value_t *y = ir_unsqueeze(ctx->b, p, axis + 1);
  y = ir_reshape(ctx->b, ir_expand(ctx->b, y, rank + 1, wide), rank, flat);
  return ctx_part(ctx, y, axis, ctx_int(ctx, 0), ctx_dim(x, axis));
}

/* Scale or zero point p in a shape that broadcasts to x: one number, one for
 * each index of the axis, or one for each block. */
static ir_value_t *spread(convert_ctx_t *ctx, ir_value_t *p,
                          const ir_value_t *x) {
  if (p == NULL) return NULL;
  int64_t axis = ctx->opset >= 13 ? attr_int(ctx, "axis", 1) : 1;
  int64_t block = ctx->opset >= 21 ? attr_int(ctx, "block_size", 0) : 0;
  int64_t count;
  unsigned at;
  if (block < 0 || block > INT32_MAX) {
    ctx_invalid(ctx, "block_size is %lld", (long long)block);
    return NULL;
  }
  if (p->type.rank == 0) return p;
  if (block == 0 && p->type.rank == 1 &&
      ir_type_static_count(&p->type, &count) && count == 1)
    return ir_reshape(ctx->b, p, 0, NULL);
  if (x->type.rank == 1) axis = 0; /* the attribute does not matter then */
  if (!ctx_axis(ctx, axis, x->type.rank, &at)) return NULL;
  if (block > 0) return spread_blocks(ctx, p, x, at, block);
  if (!ctx_check_rank(ctx, p, 1, 1, "the scale")) return NULL;
  ctx_check_dims(ctx, ctx_dim(p, 0), ctx_dim(x, at)); /* one number is 1 */
  return ctx_along(ctx, p, at, x->type.rank);
}

/* The zero point has the shape of the scale; one number may have any. */
static moec_status_t check_alike(convert_ctx_t *ctx, const ir_value_t *scale,
                                 ir_value_t **in_zero) {
  ir_value_t *zero = *in_zero;
  int64_t n, n_zero;
  if (zero == NULL) return MOEC_OK;
  if (scale->type.rank == 0 && zero->type.rank == 1) {
    ir_check_equal(ctx->b, ctx_dim(zero, 0), ctx_int(ctx, 1),
                   "elements of a zero point for a single scale");
    if (ctx_status(ctx) == MOEC_OK)
      *in_zero = ir_reshape(ctx->b, zero, 0, NULL);
    return ctx_status(ctx);
  }
  if (ir_type_static_count(&scale->type, &n) && n == 1 &&
      ir_type_static_count(&zero->type, &n_zero) && n_zero == 1)
    return MOEC_OK;
  if (scale->type.rank != zero->type.rank)
    return ctx_invalid(ctx, "the scale is %s, the zero point %s",
                       ctx_type_str(ctx, scale), ctx_type_str(ctx, zero));
  for (unsigned i = 0; i < scale->type.rank; i++)
    ir_check_equal(ctx->b, ctx_dim(scale, i), ctx_dim(zero, i),
                   "dimensions of scale and zero point");
  return ctx_status(ctx);
}

static double lowest_of(dtype_t dtype) {
  if (dtype_class(dtype) != DT_CLASS_SIGNED) return 0;
  return -(double)(INT64_C(1) << (dtype_bits(dtype) - 1));
}

static double highest_of(dtype_t dtype) {
  unsigned bits = dtype_bits(dtype);
  if (dtype_class(dtype) == DT_CLASS_SIGNED) bits--;
  return (double)((INT64_C(1) << bits) - 1);
}

/* saturate(round(x) + zero) for x in f32; zero may be NULL. */
static ir_value_t *round_to(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *zero,
                            dtype_t to, bool saturate) {
  if (x == NULL) return NULL;
  if (dtype_is_float(to)) {
    if (zero != NULL) x = binary(ctx, OP_ADD, x, ir_cast(ctx->b, zero, DT_F32));
    ir_op_t *op = ir_begin(ctx->b, OP_CAST, 1, &x, 1);
    if (op == NULL) return NULL;
    ir_set_dtype(op, ATTR_CAST_to, to);
    if (!saturate) ir_set_int(op, ATTR_CAST_saturate, 0);
    return ir_place(ctx->b, op);
  }
  if (!dtype_is_integer(to) || dtype_bits(to) > 16) {
    ctx_invalid(ctx, "values cannot be quantised as %s", dtype_name(to));
    return NULL;
  }
  x = ir_unary(ctx->b, OP_ROUND, x);
  if (zero != NULL) x = binary(ctx, OP_ADD, x, ir_cast(ctx->b, zero, DT_F32));
  x = binary(ctx, OP_MAX, x, ctx_scalar(ctx, x, lowest_of(to)));
  x = binary(ctx, OP_MIN, x, ctx_scalar(ctx, x, highest_of(to)));
  return ir_cast(ctx->b, x, to);
}

moec_status_t convert_quantize_linear(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *scale = ctx_in(ctx, 1);
  ir_value_t *zero = ctx_in(ctx, 2);
  bool saturate = ctx->opset < 19 || attr_bool(ctx, "saturate", true);
  dtype_t to = zero != NULL ? zero->type.dtype : DT_U8;
  dtype_t precision = scale->type.dtype;
  if (ctx->opset >= 21) {
    dtype_t given = attr_dtype(ctx, "output_dtype", DT_NONE);
    if (given != DT_NONE && zero != NULL && given != to)
      return ctx_invalid(ctx, "output_dtype is %s, the zero point has %s",
                         dtype_name(given), dtype_name(to));
    if (given != DT_NONE) to = given;
  }
  if (ctx->opset >= 23) {
    dtype_t given = attr_dtype(ctx, "precision", DT_NONE);
    if (given != DT_NONE) precision = given;
  }
  MOEC_TRY(ctx->status);
  if (dtype_is_float(to) && dtype_bits(to) > 8)
    return ctx_invalid(ctx, "values cannot be quantised as %s", dtype_name(to));
  MOEC_TRY(check_alike(ctx, scale, &zero));
  if (!dtype_is_float(precision))
    return ctx_invalid(ctx, "the scale is %s, expected a float type",
                       ctx_type_str(ctx, scale));
  scale = spread(ctx, scale, x);
  zero = spread(ctx, zero, x);
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *quotient = ir_cast(ctx->b, x, precision);
  quotient = binary(ctx, OP_DIV, quotient, ir_cast(ctx->b, scale, precision));
  ctx_set_output(
      ctx, 0,
      round_to(ctx, ir_cast(ctx->b, quotient, DT_F32), zero, to, saturate));
  return MOEC_OK;
}

moec_status_t convert_dequantize_linear(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *scale = ctx_in(ctx, 1);
  ir_value_t *zero = ctx_in(ctx, 2);
  dtype_t to = scale->type.dtype;
  if (ctx->opset >= 23) {
    dtype_t given = attr_dtype(ctx, "output_dtype", DT_NONE);
    if (given != DT_NONE) to = given;
  }
  if (zero != NULL && zero->type.dtype != x->type.dtype)
    return ctx_invalid(ctx, "elements are %s, the zero point has %s",
                       dtype_name(x->type.dtype), dtype_name(zero->type.dtype));
  MOEC_TRY(check_alike(ctx, scale, &zero));
  scale = spread(ctx, scale, x);
  zero = spread(ctx, zero, x);
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *y = ir_cast(ctx->b, x, DT_F32);
  if (zero != NULL) y = binary(ctx, OP_SUB, y, ir_cast(ctx->b, zero, DT_F32));
  y = binary(ctx, OP_MUL, y, ir_cast(ctx->b, scale, DT_F32));
  ctx_set_output(ctx, 0, ir_cast(ctx->b, y, to));
  return MOEC_OK;
}

/* To u8 by the range of all elements and 0. */
moec_status_t convert_dynamic_quantize_linear(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t axes[IR_MAX_RANK];
  unsigned rank = x->type.rank;
  for (unsigned i = 0; i < rank; i++) axes[i] = i;
  ir_value_t *nothing = ctx_scalar(ctx, x, 0), *one = ctx_scalar(ctx, x, 1);
  ir_value_t *low = ir_reduce(b, OP_REDUCE_MIN, x, rank, axes, false);
  ir_value_t *high = ir_reduce(b, OP_REDUCE_MAX, x, rank, axes, false);
  low = binary(ctx, OP_MIN, low, nothing);
  high = binary(ctx, OP_MAX, high, nothing);
  ir_value_t *scale = binary(ctx, OP_SUB, high, low);
  scale = binary(ctx, OP_DIV, scale, ctx_scalar(ctx, x, 255));
  /* Zeros only: any scale will do. */
  ir_value_t *divisor =
      ir_select(b, binary(ctx, OP_EQ, scale, nothing), one, scale);
  ir_value_t *origin =
      binary(ctx, OP_SUB, nothing, binary(ctx, OP_DIV, low, divisor));
  ir_value_t *zero = round_to(ctx, origin, NULL, DT_U8, true);
  ir_value_t *y =
      round_to(ctx, binary(ctx, OP_DIV, x, divisor), zero, DT_U8, true);
  ctx_set_output(ctx, 0, y);
  ctx_set_output(ctx, 1, scale);
  ctx_set_output(ctx, 2, zero);
  return MOEC_OK;
}

/* A vector over rows as a column [n, 1]; other shapes broadcast by themselves.
 */
static ir_value_t *as_column(convert_ctx_t *ctx, ir_value_t *v) {
  if (v == NULL || v->type.rank != 1 || expr_equals_const(ctx_dim(v, 0), 1))
    return v;
  return ir_unsqueeze(ctx->b, v, 1);
}

static ir_value_t *wide(convert_ctx_t *ctx, ir_value_t *x) {
  return x != NULL ? ir_cast(ctx->b, x, DT_I32) : NULL;
}

static bool is_zero(convert_ctx_t *ctx, const ir_value_t *zero) {
  unsigned n;
  const int64_t *values;
  if (zero == NULL) return true;
  if (!ctx_const_ints(ctx, zero, &n, &values)) return false;
  for (unsigned i = 0; i < n; i++)
    if (values[i] != 0) return false;
  return true;
}

/* Sums over dimension `axis` from the end, which is kept. */
static ir_value_t *sums(convert_ctx_t *ctx, ir_value_t *x, unsigned from_end) {
  if (x == NULL) return NULL;
  int64_t axis = x->type.rank - from_end;
  return ir_reduce(ctx->b, OP_REDUCE_SUM, wide(ctx, x), 1, &axis, true);
}

/* (a - za) * (b - zb) in i32, as a b - za colsum(b) - rowsum(a) zb + K za zb:
 * the product itself stays one of 8-bit numbers. Vectors za are over rows of a.
 */
static ir_value_t *integer_product(convert_ctx_t *ctx, ir_value_t *a,
                                   ir_value_t *za, ir_value_t *b,
                                   ir_value_t *zb) {
  if (!ctx_check_rank(ctx, a, 2, IR_MAX_RANK, "the left operand") ||
      !ctx_check_rank(ctx, b, 2, IR_MAX_RANK, "the right operand"))
    return NULL;
  unsigned ra = a->type.rank, rb = b->type.rank;
  const expr_t *k = ctx_dim(a, ra - 1);
  ir_check_equal(ctx->b, k, ctx_dim(b, rb - 2),
                 "inner dimensions of a product");
  for (unsigned i = 3; i <= ra && i <= rb; i++)
    ctx_check_dims(ctx, ctx_dim(a, ra - i), ctx_dim(b, rb - i));
  ir_value_t *in[] = {a, b};
  ir_op_t *op = ir_begin(ctx->b, OP_MATMUL, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_dtype(op, ATTR_MATMUL_out_dtype, DT_I32);
  ir_value_t *y = ir_place(ctx->b, op);
  bool plain_a = is_zero(ctx, za), plain_b = is_zero(ctx, zb);
  za = wide(ctx, as_column(ctx, za));
  zb = wide(ctx, zb);
  if (!plain_a)
    y = binary(ctx, OP_SUB, y, ctx_binary(ctx, OP_MUL, za, sums(ctx, b, 2)));
  if (!plain_b)
    y = binary(ctx, OP_SUB, y, ctx_binary(ctx, OP_MUL, sums(ctx, a, 1), zb));
  if (!plain_a && !plain_b) {
    ir_value_t *count = wide(ctx, ir_expr_scalar(ctx->b, k));
    ir_value_t *both = ctx_binary(ctx, OP_MUL, za, zb);
    y = binary(ctx, OP_ADD, y, binary(ctx, OP_MUL, both, count));
  }
  return y;
}

/* MatMulInteger's operands may be vectors, as MatMul's. */
moec_status_t convert_matmul_integer(convert_ctx_t *ctx) {
  ir_value_t *a = ctx_in(ctx, 0), *b = ctx_in(ctx, 1);
  bool row = a->type.rank == 1, column = b->type.rank == 1;
  if (row) a = ir_unsqueeze(ctx->b, a, 0);
  if (column) b = ir_unsqueeze(ctx->b, b, 1);
  ir_value_t *y = integer_product(ctx, a, ctx_in(ctx, 2), b, ctx_in(ctx, 3));
  if (column && y != NULL) y = ir_squeeze(ctx->b, y, y->type.rank - 1);
  if (row && y != NULL)
    y = ir_squeeze(ctx->b, y, y->type.rank - (column ? 1 : 2));
  ctx_set_output(ctx, 0, y);
  return ctx_status(ctx);
}

/* saturate(round(x * scale) + zero) of x in i32 */
static ir_value_t *requantize(convert_ctx_t *ctx, ir_value_t *x,
                              ir_value_t *scale, ir_value_t *zero) {
  if (x == NULL || scale == NULL || zero == NULL) return NULL;
  ir_value_t *y = ctx_binary(ctx, OP_MUL, ir_cast(ctx->b, x, DT_F32), scale);
  return round_to(ctx, y, zero, zero->type.dtype, true);
}

/* a_scale * b_scale / y_scale in f32 */
static ir_value_t *joint_scale(convert_ctx_t *ctx, ir_value_t *a, ir_value_t *b,
                               ir_value_t *y) {
  ir_value_t *product = ctx_widen(ctx, a);
  product = ctx_binary(ctx, OP_MUL, product, ctx_widen(ctx, b));
  return ctx_binary(ctx, OP_DIV, product, ctx_widen(ctx, y));
}

moec_status_t convert_qlinear_matmul(convert_ctx_t *ctx) {
  ir_value_t *product = integer_product(ctx, ctx_in(ctx, 0), ctx_in(ctx, 2),
                                        ctx_in(ctx, 3), ctx_in(ctx, 5));
  ir_value_t *scale = as_column(ctx, ctx_in(ctx, 1));
  scale =
      joint_scale(ctx, scale, ctx_in(ctx, 4), as_column(ctx, ctx_in(ctx, 6)));
  ctx_set_output(
      ctx, 0, requantize(ctx, product, scale, as_column(ctx, ctx_in(ctx, 7))));
  return ctx_status(ctx);
}

/* w[M, ..] - zero in i32, with one zero point or one for each filter. */
static ir_value_t *centred(convert_ctx_t *ctx, ir_value_t *w,
                           ir_value_t *zero) {
  ir_value_t *y = wide(ctx, w);
  if (is_zero(ctx, zero)) return y;
  zero = wide(ctx, zero);
  if (y == NULL || zero == NULL) return NULL;
  if (zero->type.rank == 1 && !expr_equals_const(ctx_dim(zero, 0), 1))
    zero = ctx_along(ctx, zero, 0, w->type.rank);
  return ctx_binary(ctx, OP_SUB, y, zero);
}

moec_status_t convert_conv_integer(convert_ctx_t *ctx) {
  ir_value_t *x = centred(ctx, ctx_in(ctx, 0), ctx_in(ctx, 2));
  ir_value_t *w = centred(ctx, ctx_in(ctx, 1), ctx_in(ctx, 3));
  ctx_set_output(ctx, 0, window_convolve(ctx, x, w, NULL));
  return ctx_status(ctx);
}

moec_status_t convert_qlinear_conv(convert_ctx_t *ctx) {
  ir_value_t *x = centred(ctx, ctx_in(ctx, 0), ctx_in(ctx, 2));
  ir_value_t *w = centred(ctx, ctx_in(ctx, 3), ctx_in(ctx, 5));
  ir_value_t *y = window_convolve(ctx, x, w, ctx_in(ctx, 8));
  ir_value_t *w_scale = ctx_in(ctx, 4);
  if (y == NULL) return ctx_status(ctx);
  if (w_scale->type.rank == 1 && !expr_equals_const(ctx_dim(w_scale, 0), 1))
    w_scale = ctx_along(ctx, w_scale, 1, y->type.rank);
  ir_value_t *scale = joint_scale(ctx, ctx_in(ctx, 1), w_scale, ctx_in(ctx, 6));
  ctx_set_output(ctx, 0, requantize(ctx, y, scale, ctx_in(ctx, 7)));
  return ctx_status(ctx);
}
