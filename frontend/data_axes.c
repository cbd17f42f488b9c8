/* Axes that only a run knows. */
#include "frontend/data_axes.h"

static ir_value_t *number(convert_ctx_t *ctx, int64_t value) {
  return ir_scalar_int(ctx->b, DT_I64, value);
}

static ir_value_t *reduce(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                          int64_t axis) {
  return ir_reduce(ctx->b, code, x, 1, &axis, false);
}

static ir_value_t *count_up(convert_ctx_t *ctx, unsigned n) {
  return ir_iota(ctx->b, DT_I64, ctx_int(ctx, n));
}

/* The run ends unless low <= all of v <= high. */
static void check_range(convert_ctx_t *ctx, ir_value_t *v, int64_t low,
                        int64_t high, const char *what) {
  ir_value_t *least = reduce(ctx, OP_REDUCE_MIN, v, 0);
  least = ir_binary(ctx->b, OP_MIN, least, number(ctx, high));
  ir_bind(ctx->b, least, 0, what, low, NULL);
  ir_value_t *most = reduce(ctx, OP_REDUCE_MAX, v, 0);
  most = ir_binary(ctx->b, OP_MAX, most, number(ctx, low));
  ir_bind(ctx->b, most, 0, what, low, ctx_int(ctx, high));
}

bool data_axes_read(convert_ctx_t *ctx, ir_value_t *axes, unsigned rank,
                    data_axes_t *out) {
  *out = (data_axes_t){.rank = rank};
  if (!ctx_check_rank(ctx, axes, 1, 1, "axes")) return false;
  if (!dtype_is_integer(axes->type.dtype)) {
    ctx_invalid(ctx, "axes are %s, expected integers", ctx_type_str(ctx, axes));
    return false;
  }
  if (rank == 0) {
    ir_check_equal(ctx->b, ctx_dim(axes, 0), ctx_int(ctx, 0),
                   "number of axes of a scalar");
    if (ctx_status(ctx) == MOEC_OK)
      ctx_unsupported(ctx, "axes of a scalar that are not known");
    return false;
  }
  ir_builder_t *b = ctx->b;
  out->n = ctx_dim(axes, 0);
  axes = ir_cast(b, axes, DT_I64);
  check_range(ctx, axes, -(int64_t)rank, (int64_t)rank - 1, "axis");
  axes = ir_binary(b, OP_MOD, axes, number(ctx, rank));
  axes = ir_unsqueeze(b, axes, 1);
  out->hit = ir_binary(b, OP_EQ, axes, count_up(ctx, rank));
  out->mask = reduce(ctx, OP_REDUCE_SUM, ir_cast(b, out->hit, DT_I64), 0);
  check_range(ctx, out->mask, 0, 1, "times that an axis occurs");
  return ctx_status(ctx) == MOEC_OK;
}

ir_value_t *data_axes_spread(convert_ctx_t *ctx, const data_axes_t *axes,
                             ir_value_t *v, ir_value_t *otherwise) {
  ir_builder_t *b = ctx->b;
  if (v == NULL) return NULL;
  v = ir_unsqueeze(b, ir_cast(b, v, DT_I64), 1);
  ir_value_t *named =
      reduce(ctx, OP_REDUCE_SUM, ir_select(b, axes->hit, v, number(ctx, 0)), 0);
  ir_value_t *mask = ir_binary(b, OP_EQ, axes->mask, number(ctx, 1));
  return ir_select(b, mask, named, otherwise);
}

ir_value_t *data_axes_dims(convert_ctx_t *ctx, const ir_value_t *x) {
  return ir_exprs(ctx->b, x->type.rank, x->type.dim);
}

bool data_axes_bind(convert_ctx_t *ctx, ir_value_t *v, unsigned rank,
                    const char *hint, const expr_t **out) {
  for (unsigned i = 0; i < rank; i++) {
    out[i] = ctx_size(ctx, v, i, hint, 0, NULL);
    if (out[i] == NULL) return false;
  }
  return ctx_status(ctx) == MOEC_OK;
}

/* Sum of the elements of v before each one. */
static ir_value_t *sums_before(convert_ctx_t *ctx, ir_value_t *v) {
  ir_op_t *op = ir_begin(ctx->b, OP_CUM_SUM, 1, &v, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_CUM_SUM_axis, 0);
  ir_set_int(op, ATTR_CUM_SUM_exclusive, 1);
  return ir_place(ctx->b, op);
}

/* Elements of v in the order of `place`: y[place[i]] = v[i]. */
static ir_value_t *ordered(convert_ctx_t *ctx, ir_value_t *place, unsigned rank,
                           ir_value_t *v) {
  ir_builder_t *b = ctx->b;
  ir_value_t *row = ir_unsqueeze(b, count_up(ctx, rank), 1);
  ir_value_t *hit = ir_binary(b, OP_EQ, place, row);
  return reduce(ctx, OP_REDUCE_SUM, ir_select(b, hit, v, number(ctx, 0)), 1);
}

ir_value_t *data_axes_fold(convert_ctx_t *ctx, ir_value_t *x,
                           const data_axes_t *axes, const expr_t **out_kept) {
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  unsigned rank = axes->rank;
  ir_value_t *zero = number(ctx, 0), *one = number(ctx, 1);
  ir_value_t *others = ir_binary(b, OP_SUB, one, axes->mask);
  ir_value_t *named = ir_binary(b, OP_EQ, axes->mask, one);
  ir_value_t *behind = reduce(ctx, OP_REDUCE_SUM, others, 0);
  behind = ir_binary(b, OP_ADD, behind, sums_before(ctx, axes->mask));
  ir_value_t *place = ir_select(b, named, behind, sums_before(ctx, others));

  const expr_t *stride[IR_MAX_RANK];
  for (unsigned i = 0; i < rank; i++)
    stride[i] = expr_product(pool, x->type.dim + i + 1, rank - i - 1);
  ir_value_t *dims = data_axes_dims(ctx, x);
  ir_value_t *sizes = ordered(ctx, place, rank, dims);
  ir_value_t *strides = ordered(ctx, place, rank, ir_exprs(b, rank, stride));
  if (!data_axes_bind(ctx, sizes, rank, "size", out_kept)) return NULL;

  ir_value_t *index = zero;
  for (unsigned i = 0; i < rank; i++) {
    ir_value_t *step =
        ctx_part(ctx, strides, 0, ctx_int(ctx, i), ctx_int(ctx, 1));
    ir_value_t *at = ir_iota(b, DT_I64, out_kept[i]);
    at = ctx_along(ctx, ir_binary(b, OP_MUL, at, step), i, rank);
    index = ir_binary(b, OP_ADD, index, at);
  }
  ir_value_t *y = ir_gather(b, ctx_flat(ctx, x), index, 0);
  int64_t n;
  const expr_t *two[2];
  if (expr_is_const(axes->n, &n) && n <= rank) {
    two[0] = expr_product(pool, out_kept, rank - (unsigned)n);
    two[1] = expr_product(pool, out_kept + rank - (unsigned)n, (unsigned)n);
  } else {
    ir_value_t *kept =
        reduce(ctx, OP_REDUCE_PROD, ir_select(b, named, one, dims), 0);
    ir_value_t *gone =
        reduce(ctx, OP_REDUCE_PROD, ir_select(b, named, dims, one), 0);
    two[0] = ctx_size(ctx, kept, 0, "size", 0, NULL);
    two[1] = ctx_size(ctx, gone, 0, "size", 0, NULL);
    if (two[0] == NULL || two[1] == NULL) return NULL;
  }
  return ir_reshape(b, y, 2, two);
}

/* Product of the dimensions i for which `code`(i, axis). */
static const expr_t *product_where(convert_ctx_t *ctx, ir_value_t *dims,
                                   ir_value_t *where) {
  ir_value_t *part = ir_select(ctx->b, where, dims, number(ctx, 1));
  return ctx_size(ctx, reduce(ctx, OP_REDUCE_PROD, part, 0), 0, "size", 0,
                  NULL);
}

ir_value_t *data_axes_around(convert_ctx_t *ctx, ir_value_t *x,
                             ir_value_t *axis) {
  ir_builder_t *b = ctx->b;
  unsigned rank = x->type.rank;
  int64_t count;
  if (!ctx_check_rank(ctx, x, 1, IR_MAX_RANK, "the input")) return NULL;
  if (!ir_type_static_count(&axis->type, &count) || count != 1 ||
      !dtype_is_integer(axis->type.dtype)) {
    ctx_invalid(ctx, "the axis is %s, expected one integer",
                ctx_type_str(ctx, axis));
    return NULL;
  }
  const expr_t *one = ctx_int(ctx, 1), *dim[3];
  axis = ir_cast(b, ir_reshape(b, axis, 1, &one), DT_I64);
  check_range(ctx, axis, -(int64_t)rank, (int64_t)rank - 1, "axis");
  axis = ir_binary(b, OP_MOD, axis, number(ctx, rank));
  ir_value_t *dims = data_axes_dims(ctx, x), *i = count_up(ctx, rank);
  ir_value_t *before = ir_binary(b, OP_LT, i, axis);
  ir_value_t *at = ir_binary(b, OP_EQ, i, axis);
  ir_value_t *after = ir_binary(b, OP_LT, axis, i);
  dim[0] = product_where(ctx, dims, before);
  dim[1] = product_where(ctx, dims, at);
  dim[2] = product_where(ctx, dims, after);
  if (dim[0] == NULL || dim[1] == NULL || dim[2] == NULL) return NULL;
  return ir_reshape(b, x, 3, dim);
}
