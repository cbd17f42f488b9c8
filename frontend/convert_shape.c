/* Operators about shapes: what a tensor's dimensions are, and the same elements
 * under other dimensions. */
#include <string.h>

#include "frontend/data_axes.h"

static int64_t clamp_axis(int64_t axis, int64_t rank) {
  if (axis < 0) axis += rank;
  if (axis < 0) return 0;
  return axis > rank ? rank : axis;
}

moec_status_t convert_shape(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t rank = x->type.rank;
  int64_t start = clamp_axis(attr_int(ctx, "start", 0), rank);
  int64_t end = clamp_axis(attr_int(ctx, "end", rank), rank);
  unsigned n = end > start ? (unsigned)(end - start) : 0;
  ir_value_t *y = n > 0 ? ir_exprs(ctx->b, n, x->type.dim + start)
                        : ir_ints(ctx->b, 0, NULL);
  ctx_set_output(ctx, 0, y);
  return MOEC_OK;
}

moec_status_t convert_size(convert_ctx_t *ctx) {
  const expr_t *count = ir_type_count(ctx->exprs, &ctx_in(ctx, 0)->type);
  ctx_set_output(ctx, 0, ir_expr_scalar(ctx->b, count));
  return MOEC_OK;
}

/* The dimension that 0 stands for. */
static const expr_t *copied_dim(convert_ctx_t *ctx, const ir_value_t *x,
                                unsigned index) {
  if (index < x->type.rank) return x->type.dim[index];
  ctx_invalid(ctx, "entry %u of the shape is 0, but the input is %s", index,
              ctx_type_str(ctx, x));
  return NULL;
}

/* total / others, where others is 0 only if total is. ONNX leaves that case
 * open; with an exact quotient the size is then what it is in other runs. */
static const expr_t *quotient(convert_ctx_t *ctx, const expr_t *total,
                              const expr_t *others) {
  const expr_t *exact = expr_divide_exactly(ctx->exprs, total, others);
  if (exact != NULL) return exact;
  int64_t lower;
  if (!expr_lower_bound(others, &lower) || lower < 1)
    others = expr_max(ctx->exprs, others, ctx_int(ctx, 1));
  return expr_floordiv(ctx->exprs, total, others);
}

/* The size for -1 in dim[rest], which is 1 so far. Dimensions that the input
 * and the shape have in common leave both products. */
static const expr_t *rest_of(convert_ctx_t *ctx, const ir_value_t *x,
                             const expr_t *const *dim, unsigned n, int rest) {
  const expr_t *mine[IR_MAX_RANK], *others[IR_MAX_RANK];
  unsigned n_mine = x->type.rank, n_others = 0;
  for (unsigned i = 0; i < n_mine; i++) mine[i] = x->type.dim[i];
  for (unsigned i = 0; i < n; i++) {
    if (rest == (int)i) continue;
    if (expr_equals_const(dim[i], 0)) {
      ctx_invalid(ctx, "the size for -1 is not determined: other sizes are 0");
      return NULL;
    }
    unsigned j = 0;
    while (j < n_mine && mine[j] != dim[i]) j++;
    if (j < n_mine)
      mine[j] = mine[--n_mine];
    else
      others[n_others++] = dim[i];
  }
  return quotient(ctx, expr_product(ctx->exprs, mine, n_mine),
                  expr_product(ctx->exprs, others, n_others));
}

/* Entries that are known become dimensions; *out_rest is the one that is -1, or
 * -1. NULL stays where an entry is not known. */
static bool known_entries(convert_ctx_t *ctx, const ir_value_t *x,
                          const ir_value_t *shape, unsigned n, bool allow_zero,
                          const expr_t **dim, int *out_rest) {
  bool has_zero = false;
  *out_rest = -1;
  for (unsigned i = 0; i < n; i++) {
    int64_t value;
    dim[i] = ir_known(shape, i);
    if (dim[i] == NULL) continue;
    if (!expr_is_const(dim[i], &value)) {
      if (!expr_lower_bound(dim[i], &value) || value < 0)
        ir_check_equal(ctx->b, expr_max(ctx->exprs, dim[i], ctx_int(ctx, 0)),
                       dim[i], "size in a shape, at least 0");
      continue;
    }
    has_zero |= value == 0;
    if (value == -1 && *out_rest >= 0) {
      ctx_invalid(ctx, "the shape has more than one entry that is -1");
      return false;
    }
    if (value < -1) {
      ctx_invalid(ctx, "entry %u of the shape is %lld", i, (long long)value);
      return false;
    }
    if (value == -1) *out_rest = (int)i;
    if (value == -1) dim[i] = ctx_int(ctx, 1);
    if (value == 0 && !allow_zero) dim[i] = copied_dim(ctx, x, i);
    if (ctx->status != MOEC_OK) return false;
  }
  if (allow_zero && has_zero && *out_rest >= 0)
    ctx_invalid(ctx, "the shape has both 0 and -1 although allowzero is 1");
  return ctx_status(ctx) == MOEC_OK;
}

/* Entries that are not known, computed at run time by the same rules. */
static bool bound_entries(convert_ctx_t *ctx, const ir_value_t *x,
                          ir_value_t *shape, unsigned n, bool allow_zero,
                          const expr_t **dim, int rest) {
  ir_builder_t *b = ctx->b;
  ir_value_t *minus_one = ir_scalar_int(b, DT_I64, -1);
  ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
  ir_value_t *size = ir_cast(b, shape, DT_I64);
  if (!allow_zero) {
    const expr_t *copied[IR_MAX_RANK];
    for (unsigned i = 0; i < n; i++)
      copied[i] = i < x->type.rank ? x->type.dim[i] : ctx_int(ctx, 0);
    ir_value_t *zero = ir_scalar_int(b, DT_I64, 0);
    ir_value_t *copies = ir_binary(b, OP_EQ, size, zero);
    size = ir_select(b, copies, ir_exprs(b, n, copied), size);
  }
  int64_t axis = 0;
  ir_value_t *open = ir_binary(b, OP_EQ, size, minus_one);
  ir_value_t *others = ir_reduce(b, OP_REDUCE_PROD,
                                 ir_select(b, open, one, size), 1, &axis, true);
  ir_value_t *total = ir_expr_scalar(b, ir_type_count(ctx->exprs, &x->type));
  ir_value_t *left =
      ir_binary(b, OP_DIV, total, ir_binary(b, OP_MAX, others, one));
  size = ir_select(b, open, left, size);
  for (unsigned i = 0; i < n; i++) {
    if (dim[i] != NULL && rest != (int)i) continue;
    dim[i] = ctx_size(ctx, size, i, "size", 0, NULL);
    if (dim[i] == NULL) return false;
  }
  return true;
}

moec_status_t convert_reshape(convert_ctx_t *ctx) {
  bool allow_zero = attr_bool(ctx, "allowzero", false);
  ir_value_t *x = ctx_in(ctx, 0), *shape = ctx_in(ctx, 1);
  int64_t n;
  int rest;
  const expr_t *dim[IR_MAX_RANK];
  if (!ctx_check_rank(ctx, shape, 1, 1, "the shape") ||
      !ctx_static_count(ctx, shape, "the shape", &n))
    return ctx->status;
  if (!dtype_is_integer(shape->type.dtype))
    return ctx_invalid(ctx, "the shape is %s, expected integers",
                       ctx_type_str(ctx, shape));
  if (n > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %lld exceeds the limit of %d",
                     (long long)n, IR_MAX_RANK);
  unsigned rank = (unsigned)n;
  if (!known_entries(ctx, x, shape, rank, allow_zero, dim, &rest))
    return ctx_status(ctx);
  bool all_known = true;
  for (unsigned i = 0; i < rank; i++) all_known &= dim[i] != NULL;
  expr_pool_t *pool = ctx->exprs;
  const expr_t *total = ir_type_count(pool, &x->type);
  if (!all_known) {
    if (!bound_entries(ctx, x, shape, rank, allow_zero, dim, rest))
      return ctx_status(ctx);
  } else if (rest >= 0) {
    dim[rest] = rest_of(ctx, x, dim, rank, rest);
    if (dim[rest] == NULL) return ctx->status;
  }
  ir_check_equal(ctx->b, expr_product(pool, dim, rank), total,
                 "number of elements of the reshaped tensor");
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, rank, dim));
  return MOEC_OK;
}

/* Axes from the attribute (before opset 13) or input 1; *out_given tells
 * whether there are any. False after an error. */
static bool given_axes(convert_ctx_t *ctx, unsigned *out_n,
                       const int64_t **out_axes, bool *out_given) {
  *out_n = 0;
  *out_axes = NULL;
  *out_given = false;
  if (ctx->opset < 13) {
    *out_given = attr_has(ctx, "axes");
    *out_axes = attr_ints(ctx, "axes", out_n);
    return ctx->status == MOEC_OK;
  }
  ir_value_t *axes = ctx_in(ctx, 1);
  if (axes == NULL) return true;
  *out_given = true;
  return ctx_need_ints(ctx, axes, "axes", out_n, out_axes);
}

/* Axes of input 1 whose values only a run knows, of a known number. */
static bool axes_by_data(convert_ctx_t *ctx, unsigned *out_n) {
  ir_value_t *axes = ctx->opset >= 13 ? ctx_in(ctx, 1) : NULL;
  unsigned n;
  const int64_t *known;
  int64_t count;
  if (axes == NULL || ctx_const_ints(ctx, axes, &n, &known) ||
      !ir_type_static_count(&axes->type, &count) || count > IR_MAX_RANK)
    return false;
  *out_n = (unsigned)count;
  return true;
}

/* The n elements of v, in their order, of axes that are not named. */
static ir_value_t *others_in_order(convert_ctx_t *ctx, const data_axes_t *axes,
                                   ir_value_t *v, unsigned n) {
  ir_builder_t *b = ctx->b;
  int64_t axis = 1;
  ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
  ir_value_t *zero = ir_scalar_int(b, DT_I64, 0);
  ir_value_t *other = ir_binary(b, OP_SUB, one, axes->mask);
  ir_op_t *op = ir_begin(b, OP_CUM_SUM, 1, &other, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_CUM_SUM_axis, 0);
  ir_value_t *place = ir_binary(b, OP_MUL, ir_place(b, op), other);
  ir_value_t *index = ir_iota(b, DT_I64, ctx_int(ctx, n));
  index = ir_unsqueeze(b, ir_binary(b, OP_ADD, index, one), 1);
  ir_value_t *hit = ir_binary(b, OP_EQ, place, index); /* from 1 */
  return ir_reduce(b, OP_REDUCE_SUM, ir_select(b, hit, v, zero), 1, &axis,
                   false);
}

static moec_status_t squeeze_by_data(convert_ctx_t *ctx, unsigned n_axes) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned rank = x->type.rank;
  const expr_t *dim[IR_MAX_RANK];
  data_axes_t axes;
  if (!data_axes_read(ctx, ctx_in(ctx, 1), rank, &axes)) return ctx_status(ctx);
  if (n_axes > rank)
    return ctx_invalid(ctx, "%u axes of an input of rank %u are squeezed",
                       n_axes, rank);
  ir_value_t *dims = data_axes_dims(ctx, x);
  ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
  ir_value_t *named = ir_binary(b, OP_EQ, axes.mask, one);
  ir_value_t *gone = ir_select(b, named, dims, one);
  for (unsigned i = 0; i < rank; i++)
    ir_check_equal(b, ctx_size(ctx, gone, i, "size", 0, NULL), ctx_int(ctx, 1),
                   "size of a squeezed dimension");
  ir_value_t *kept = others_in_order(ctx, &axes, dims, rank - n_axes);
  if (!data_axes_bind(ctx, kept, rank - n_axes, "size", dim))
    return ctx_status(ctx);
  ctx_set_output(ctx, 0, ir_reshape(b, x, rank - n_axes, dim));
  return ctx_status(ctx);
}

/* Dimension i of the result is 1 where an axis says so, and otherwise the
 * dimension of the input that as many others come before. */
static moec_status_t unsqueeze_by_data(convert_ctx_t *ctx, unsigned n_axes) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned rank = x->type.rank + n_axes;
  const expr_t *dim[IR_MAX_RANK];
  data_axes_t axes;
  if (rank > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d", rank,
                     IR_MAX_RANK);
  if (!data_axes_read(ctx, ctx_in(ctx, 1), rank, &axes)) return ctx_status(ctx);
  ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
  if (x->type.rank > 0) {
    ir_value_t *other = ir_binary(b, OP_SUB, one, axes.mask);
    ir_op_t *op = ir_begin(b, OP_CUM_SUM, 1, &other, 1);
    if (op == NULL) return ctx_status(ctx);
    ir_set_int(op, ATTR_CUM_SUM_axis, 0);
    ir_set_int(op, ATTR_CUM_SUM_exclusive, 1);
    ir_value_t *from = ir_place(b, op);
    const expr_t *last = ctx_int(ctx, (int64_t)x->type.rank - 1);
    from = ir_binary(b, OP_MIN, from, ir_expr_scalar(b, last));
    ir_value_t *named = ir_binary(b, OP_EQ, axes.mask, one);
    ir_value_t *size =
        ir_select(b, named, one, ir_gather(b, data_axes_dims(ctx, x), from, 0));
    if (!data_axes_bind(ctx, size, rank, "size", dim)) return ctx_status(ctx);
  } else {
    for (unsigned i = 0; i < rank; i++) dim[i] = ctx_int(ctx, 1);
  }
  ctx_set_output(ctx, 0, ir_reshape(b, x, rank, dim));
  return ctx_status(ctx);
}

/* Without axes: all dimensions of 1 go. Others must not turn out to be 1. */
static unsigned squeeze_all(convert_ctx_t *ctx, const ir_value_t *x,
                            const expr_t **dim) {
  unsigned n = 0;
  for (unsigned i = 0; i < x->type.rank; i++) {
    const expr_t *size = x->type.dim[i];
    if (expr_equals_const(size, 1)) continue;
    ir_check_equal(
        ctx->b, expr_is_one(ctx->exprs, size), ctx_int(ctx, 0),
        "squeezing without axes a dimension of 1 that was not known");
    dim[n++] = size;
  }
  return n;
}

moec_status_t convert_squeeze(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned n_axes, n = 0;
  const int64_t *given;
  int64_t *axes;
  bool has_axes;
  const expr_t *dim[IR_MAX_RANK];
  if (axes_by_data(ctx, &n_axes)) return squeeze_by_data(ctx, n_axes);
  if (!given_axes(ctx, &n_axes, &given, &has_axes)) return ctx->status;
  if (!has_axes) {
    n = squeeze_all(ctx, x, dim);
    ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, n, dim));
    return MOEC_OK;
  }
  if (!ctx_axes(ctx, n_axes, given, x->type.rank, &axes)) return ctx->status;
  for (unsigned i = 0, next = 0; i < x->type.rank; i++) {
    if (next == n_axes || axes[next] != i) {
      dim[n++] = x->type.dim[i];
      continue;
    }
    next++;
    ir_check_equal(ctx->b, x->type.dim[i], ctx_int(ctx, 1),
                   "size of a squeezed dimension");
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, n, dim));
  return MOEC_OK;
}

moec_status_t convert_unsqueeze(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned n_axes;
  const int64_t *given;
  int64_t *axes;
  bool has_axes;
  const expr_t *dim[IR_MAX_RANK];
  if (axes_by_data(ctx, &n_axes)) return unsqueeze_by_data(ctx, n_axes);
  if (!given_axes(ctx, &n_axes, &given, &has_axes)) return ctx->status;
  if (!has_axes) return ctx_invalid(ctx, "axes are missing");
  if (n_axes > IR_MAX_RANK || x->type.rank + n_axes > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d",
                     x->type.rank + n_axes, IR_MAX_RANK);
  unsigned rank = x->type.rank + n_axes;
  if (!ctx_axes(ctx, n_axes, given, rank, &axes)) return ctx->status;
  for (unsigned i = 0, next = 0, from = 0; i < rank; i++) {
    if (next < n_axes && axes[next] == i) {
      dim[i] = ctx_int(ctx, 1);
      next++;
    } else {
      dim[i] = x->type.dim[from++];
    }
  }
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, rank, dim));
  return MOEC_OK;
}

moec_status_t convert_flatten(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t rank = x->type.rank;
  int64_t axis = attr_int(ctx, "axis", 1);
  if (axis < -rank || axis > rank)
    return ctx_invalid(ctx, "axis %lld is out of range for rank %lld",
                       (long long)axis, (long long)rank);
  if (axis < 0) axis += rank;
  const expr_t *dim[] = {
      expr_product(ctx->exprs, x->type.dim, (unsigned)axis),
      expr_product(ctx->exprs, x->type.dim + axis, (unsigned)(rank - axis)),
  };
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, 2, dim));
  return MOEC_OK;
}

moec_status_t convert_expand(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *shape = ctx_in(ctx, 1);
  unsigned n, rank = x->type.rank;
  if (!ctx_check_rank(ctx, shape, 1, 1, "the shape")) return ctx->status;
  const expr_t **size = ctx_sizes(ctx, shape, "shape", 0, &n);
  if (size == NULL) return ctx_status(ctx);
  unsigned out_rank = n > rank ? n : rank;
  if (out_rank > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d",
                     out_rank, IR_MAX_RANK);
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = 0; i < out_rank; i++) { /* from the last one */
    const expr_t *mine = i < rank ? x->type.dim[rank - 1 - i] : NULL;
    const expr_t *wanted = i < n ? size[n - 1 - i] : NULL;
    ctx_check_dims(ctx, mine, wanted);
    const expr_t *both = mine == NULL ? wanted
                         : wanted == NULL
                             ? mine
                             : expr_broadcast(ctx->exprs, mine, wanted);
    dim[out_rank - 1 - i] = both;
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_expand(ctx->b, x, out_rank, dim));
  return MOEC_OK;
}

/* x[d] repeated r times is x[1, d] expanded to [r, d] and flattened. */
moec_status_t convert_tile(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *repeats = ctx_in(ctx, 1);
  unsigned n, rank = x->type.rank;
  if (!ctx_check_rank(ctx, repeats, 1, 1, "repeats")) return ctx->status;
  const expr_t **repeat = ctx_sizes(ctx, repeats, "repeats", 0, &n);
  if (repeat == NULL) return ctx_status(ctx);
  if (n != rank)
    return ctx_invalid(ctx, "there are %u repeats for an input of rank %u", n,
                       rank);
  const expr_t *split[2 * IR_MAX_RANK], *wide[2 * IR_MAX_RANK];
  const expr_t *joined[IR_MAX_RANK];
  unsigned n_wide = 0;
  for (unsigned i = 0; i < rank; i++) {
    joined[i] = expr_mul(ctx->exprs, repeat[i], x->type.dim[i]);
    if (!expr_equals_const(repeat[i], 1)) {
      split[n_wide] = ctx_int(ctx, 1);
      wide[n_wide++] = repeat[i];
    }
    split[n_wide] = wide[n_wide] = x->type.dim[i];
    n_wide++;
  }
  if (n_wide > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "too many dimensions are repeated");
  ir_value_t *y = ir_reshape(ctx->b, x, n_wide, split);
  y = ir_expand(ctx->b, y, n_wide, wide);
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, y, rank, joined));
  return MOEC_OK;
}
