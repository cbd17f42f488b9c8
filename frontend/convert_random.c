/* Operators that draw random numbers. */
#include "frontend/random.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static dtype_t computed_in(dtype_t dtype) {
  return dtype == DT_F64 ? DT_F64 : DT_F32;
}

/* Numbers of [low, high), or of a normal distribution, of the given shape. */
static moec_status_t draw(convert_ctx_t *ctx, bool normal, dtype_t dtype,
                          unsigned rank, const expr_t *const *dim) {
  double factor, offset;
  if (normal) {
    offset = attr_float(ctx, "mean", 0);
    factor = attr_float(ctx, "scale", 1);
  } else {
    offset = attr_float(ctx, "low", 0);
    factor = attr_float(ctx, "high", 1) - offset;
  }
  uint64_t key = random_key(ctx);
  MOEC_TRY(ctx->status);
  if (!dtype_is_float(dtype) || dtype_bits(dtype) < 16)
    return ctx_invalid(ctx, "dtype is %s, expected a float type",
                       dtype_name(dtype));
  dtype_t in = computed_in(dtype);
  ir_value_t *x = normal ? random_normal(ctx, key, in, rank, dim)
                         : random_uniform(ctx, key, 0, in, rank, dim);
  x = two(ctx, OP_MUL, x, ctx_scalar(ctx, x, factor));
  x = two(ctx, OP_ADD, x, ctx_scalar(ctx, x, offset));
  ctx_set_output(ctx, 0, ir_cast(ctx->b, x, dtype));
  return ctx_status(ctx);
}

static moec_status_t of_shape(convert_ctx_t *ctx, bool normal) {
  unsigned n;
  const int64_t *shape = attr_ints(ctx, "shape", &n);
  dtype_t dtype = attr_dtype(ctx, "dtype", DT_F32);
  MOEC_TRY(ctx->status);
  if (shape == NULL)
    return ctx_invalid(ctx, "required attribute \"shape\" is missing");
  if (n > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d", n,
                     IR_MAX_RANK);
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = 0; i < n; i++) {
    if (shape[i] < 0)
      return ctx_invalid(ctx, "entry %u of the shape is %lld", i,
                         (long long)shape[i]);
    dim[i] = ctx_int(ctx, shape[i]);
  }
  return draw(ctx, normal, dtype, n, dim);
}

static moec_status_t like_input(convert_ctx_t *ctx, bool normal) {
  const ir_value_t *x = ctx_in(ctx, 0);
  dtype_t dtype = attr_dtype(ctx, "dtype", x->type.dtype);
  MOEC_TRY(ctx->status);
  return draw(ctx, normal, dtype, x->type.rank, x->type.dim);
}

moec_status_t convert_random_uniform(convert_ctx_t *ctx) {
  return of_shape(ctx, false);
}

moec_status_t convert_random_normal(convert_ctx_t *ctx) {
  return of_shape(ctx, true);
}

moec_status_t convert_random_uniform_like(convert_ctx_t *ctx) {
  return like_input(ctx, false);
}

moec_status_t convert_random_normal_like(convert_ctx_t *ctx) {
  return like_input(ctx, true);
}

/* 1 where a number of [0, 1) is below the probability. */
moec_status_t convert_bernoulli(convert_ctx_t *ctx) {
  ir_value_t *p = ctx_in(ctx, 0);
  dtype_t dtype = attr_dtype(ctx, "dtype", p->type.dtype);
  uint64_t key = random_key(ctx);
  MOEC_TRY(ctx->status);
  if (!dtype_is_float(p->type.dtype))
    return ctx_invalid(ctx, "the input is %s, expected probabilities",
                       ctx_type_str(ctx, p));
  dtype_t in = computed_in(p->type.dtype);
  ir_value_t *u = random_uniform(ctx, key, 0, in, p->type.rank, p->type.dim);
  ir_value_t *hit = two(ctx, OP_LT, u, ir_cast(ctx->b, p, in));
  ctx_set_output(ctx, 0, ir_cast(ctx->b, hit, dtype));
  return ctx_status(ctx);
}

/* The number of classes whose probabilities, added up, are not above a number
 * of [0, 1). */
moec_status_t convert_multinomial(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0);
  dtype_t dtype = attr_dtype(ctx, "dtype", DT_I32);
  int64_t n = attr_int(ctx, "sample_size", 1), axis = 2;
  uint64_t key = random_key(ctx);
  MOEC_TRY(ctx->status);
  if (dtype != DT_I32 && dtype != DT_I64)
    return ctx_invalid(ctx, "dtype is %s, expected i32 or i64",
                       dtype_name(dtype));
  if (n < 1 || n > INT32_MAX)
    return ctx_invalid(ctx, "sample_size is %lld", (long long)n);
  if (!ctx_check_rank(ctx, x, 2, 2, "the input")) return ctx->status;
  ir_value_t *wide = ir_cast(b, x, computed_in(x->type.dtype));
  ir_op_t *op = ir_begin(b, OP_SOFTMAX, 1, &wide, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_SOFTMAX_axis, 1);
  ir_value_t *p = ir_place(b, op);
  op = ir_begin(b, OP_CUM_SUM, 1, &p, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_CUM_SUM_axis, 1);
  ir_value_t *sums = ir_unsqueeze(b, ir_place(b, op), 1);
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_int(ctx, n), ctx_int(ctx, 1)};
  ir_value_t *u = random_uniform(ctx, key, 0, wide->type.dtype, 3, dim);
  ir_value_t *passed = ir_cast(b, two(ctx, OP_LE, sums, u), DT_I64);
  ir_value_t *y = ir_reduce(b, OP_REDUCE_SUM, passed, 1, &axis, false);
  const expr_t *last = expr_sub(ctx->exprs, ctx_dim(x, 1), ctx_int(ctx, 1));
  y = two(ctx, OP_MIN, y, ir_expr_scalar(b, last)); /* sums end below 1 */
  ctx_set_output(ctx, 0, ir_cast(b, y, dtype));
  return ctx_status(ctx);
}

/* ---- Dropout ------------------------------------------------------------- */

/* One element as a scalar; NULL where the operand is left out. */
static ir_value_t *scalar_operand(convert_ctx_t *ctx, unsigned index,
                                  const char *what) {
  ir_value_t *v = ctx_in(ctx, index);
  int64_t count;
  if (v == NULL) return NULL;
  if (ir_type_static_count(&v->type, &count) && count != 1) {
    ctx_invalid(ctx, "%s is %s, expected a scalar", what, ctx_type_str(ctx, v));
    return NULL;
  }
  return ir_reshape(ctx->b, v, 0, NULL);
}

/* Whether to drop elements, bool[], and with what probability; *out_mode is
 * NULL when never. */
static bool read_dropout(convert_ctx_t *ctx, ir_value_t **out_mode,
                         ir_value_t **out_ratio) {
  ir_builder_t *b = ctx->b;
  dtype_t dtype = computed_in(ctx_in(ctx, 0)->type.dtype);
  unsigned n;
  const int64_t *known;
  *out_mode = *out_ratio = NULL;
  if (ctx->opset < 12) {
    double ratio = attr_float(ctx, "ratio", 0.5);
    bool test = ctx->opset >= 7 || attr_int(ctx, "is_test", 0) != 0;
    if (test) return ctx->status == MOEC_OK;
    *out_mode = ir_scalar_int(b, DT_BOOL, 1);
    *out_ratio = ir_scalar(b, dtype, ratio);
    return ctx->status == MOEC_OK;
  }
  *out_mode = scalar_operand(ctx, 2, "training_mode");
  if (*out_mode == NULL) return ctx->status == MOEC_OK;
  if (ctx_const_ints(ctx, ctx_in(ctx, 2), &n, &known) && known[0] == 0)
    *out_mode = NULL;
  *out_ratio = scalar_operand(ctx, 1, "ratio");
  *out_ratio = *out_ratio != NULL ? ir_cast(b, *out_ratio, dtype)
                                  : ir_scalar(b, dtype, 0.5);
  return ctx_status(ctx) == MOEC_OK;
}

/* Training: what is not dropped is scaled by 1 / (1 - ratio). */
moec_status_t convert_dropout(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *mode, *ratio, *kept, *y = x;
  if (!read_dropout(ctx, &mode, &ratio)) return ctx_status(ctx);
  if (mode == NULL) {
    if (ctx->opset >= 12) attr_ignore(ctx, "seed");
    ctx_set_output(ctx, 0, x);
    if (!ctx_wants(ctx, 1)) return ctx_status(ctx);
    kept = ir_scalar_int(b, DT_BOOL, 1);
    kept = ir_fill(b, kept, x->type.rank, x->type.dim);
  } else {
    uint64_t key = random_key(ctx);
    ir_value_t *u = random_uniform(ctx, key, 0, ratio->type.dtype, x->type.rank,
                                   x->type.dim);
    ir_value_t *one = ctx_scalar(ctx, ratio, 1);
    kept = two(ctx, OP_LE, ratio, u);
    kept = two(ctx, OP_OR, kept, ir_unary(b, OP_NOT, ctx_is_true(ctx, mode)));
    ir_value_t *wide = ir_cast(b, x, ratio->type.dtype);
    ir_value_t *scale = two(ctx, OP_DIV, one, two(ctx, OP_SUB, one, ratio));
    scale = ir_select(b, ctx_is_true(ctx, mode), scale, one);
    y = two(ctx, OP_MUL, wide, scale);
    y = ir_select(b, kept, y, ctx_scalar(ctx, wide, 0));
  }
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  if (ctx->opset < 10) kept = ctx_like(ctx, kept, x);
  ctx_set_output(ctx, 1, kept);
  return ctx_status(ctx);
}
