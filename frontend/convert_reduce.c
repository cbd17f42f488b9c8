/* Reductions, softmax, ranks and running sums. Sums of f16 and bf16 are taken
 * in f32 by the reductions themselves; combinations are computed there as well.
 */
#include "frontend/data_axes.h"

typedef struct reduction {
  ir_value_t *x;
  unsigned n_axes;
  int64_t *axes;
  bool keepdims;
  unsigned rank;            /* of the result where `dim` is given */
  const expr_t *const *dim; /* the shape of the result, or NULL: by the axes */
} reduction_t;

/* Shape of the result when only a run knows the axes. */
static bool shape_by_data(convert_ctx_t *ctx, const data_axes_t *axes,
                          ir_value_t *mask, const expr_t *const *kept,
                          reduction_t *out) {
  ir_builder_t *b = ctx->b;
  const expr_t **dim = ARENA_ARRAY(ctx->arena, const expr_t *, IR_MAX_RANK);
  const ir_value_t *x = ctx_in(ctx, 0);
  int64_t n;
  out->dim = dim;
  out->rank = axes->rank;
  if (out->keepdims) {
    ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
    ir_value_t *named = ir_binary(b, OP_EQ, mask, one);
    ir_value_t *size = ir_select(b, named, one, data_axes_dims(ctx, x));
    return data_axes_bind(ctx, size, axes->rank, "size", dim);
  }
  if (!expr_is_const(axes->n, &n)) {
    ctx_unsupported(ctx,
                    "the number of axes, and so the rank of the result, "
                    "is not known");
    return false;
  }
  out->rank -= (unsigned)n;
  for (unsigned i = 0; i < out->rank; i++) dim[i] = kept[i];
  return true;
}

/* Axes that only a run knows: the input as a matrix whose rows are reduced. */
static bool reduce_by_data(convert_ctx_t *ctx, ir_value_t *given, bool noop,
                           reduction_t *out) {
  data_axes_t axes;
  const expr_t *kept[IR_MAX_RANK];
  unsigned rank = out->x->type.rank;
  int64_t n = -1;
  if (!data_axes_read(ctx, given, rank, &axes)) return false;
  bool counted = expr_is_const(axes.n, &n);
  if (counted && n > rank) {
    ctx_invalid(ctx, "%lld axes are named of an input of rank %u", (long long)n,
                rank);
    return false;
  }
  if (!counted && !noop) { /* no axes: all of them */
    ir_builder_t *b = ctx->b;
    ir_value_t *none = ir_expr_scalar(b, axes.n);
    none = ir_binary(b, OP_EQ, none, ir_scalar_int(b, DT_I64, 0));
    axes.mask = ir_binary(b, OP_MAX, axes.mask, ir_cast(b, none, DT_I64));
  }
  out->axes = ARENA_ARRAY(ctx->arena, int64_t, IR_MAX_RANK);
  out->n_axes = rank;
  for (unsigned i = 0; i < rank; i++) out->axes[i] = i;
  if (n == rank) return true; /* each of them once */
  out->x = data_axes_fold(ctx, out->x, &axes, kept);
  if (out->x == NULL || !shape_by_data(ctx, &axes, axes.mask, kept, out))
    return false;
  out->keepdims = false;
  out->n_axes = 1;
  out->axes[0] = 1;
  return true;
}

/* Axes come as an attribute before opset `by_input`, then as input 1. Without
 * axes everything is reduced, or with noop_with_empty_axes nothing. */
static bool read_reduction(convert_ctx_t *ctx, int by_input, reduction_t *out) {
  const int64_t *given = NULL;
  bool noop = false;
  *out = (reduction_t){.x = ctx_in(ctx, 0)};
  out->keepdims = attr_bool(ctx, "keepdims", true);
  if (ctx->opset < by_input) {
    given = attr_ints(ctx, "axes", &out->n_axes);
  } else {
    noop = attr_bool(ctx, "noop_with_empty_axes", false);
    ir_value_t *axes = ctx_in(ctx, 1);
    if (ctx->status == MOEC_OK && axes != NULL &&
        !ctx_const_ints(ctx, axes, &out->n_axes, &given))
      return reduce_by_data(ctx, axes, noop, out);
  }
  if (ctx->status != MOEC_OK) return false;
  unsigned rank = out->x->type.rank;
  if (out->n_axes > 0)
    return ctx_axes(ctx, out->n_axes, given, rank, &out->axes);
  out->axes = ARENA_ARRAY(ctx->arena, int64_t, IR_MAX_RANK);
  if (noop) return true;
  out->n_axes = rank;
  for (unsigned i = 0; i < rank; i++) out->axes[i] = i;
  return true;
}

static ir_value_t *reduce(convert_ctx_t *ctx, const reduction_t *r,
                          ir_opcode_t code, ir_value_t *x) {
  return ir_reduce(ctx->b, code, x, r->n_axes, r->axes, r->keepdims);
}

static moec_status_t give(convert_ctx_t *ctx, const reduction_t *r,
                          ir_value_t *y) {
  y = ctx_like(ctx, y, ctx_in(ctx, 0));
  if (r->dim != NULL) y = ir_reshape(ctx->b, y, r->rank, r->dim);
  ctx_set_output(ctx, 0, y);
  return ctx_status(ctx);
}

moec_status_t convert_reduce_sum(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 13, &r)) return ctx_status(ctx);
  return give(ctx, &r, reduce(ctx, &r, OP_REDUCE_SUM, r.x));
}

moec_status_t convert_reduce_prod(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  return give(ctx, &r, reduce(ctx, &r, OP_REDUCE_PROD, ctx_widen(ctx, r.x)));
}

moec_status_t convert_reduce_max(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  return give(ctx, &r, reduce(ctx, &r, OP_REDUCE_MAX, r.x));
}

moec_status_t convert_reduce_min(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  return give(ctx, &r, reduce(ctx, &r, OP_REDUCE_MIN, r.x));
}

moec_status_t convert_reduce_mean(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  if (r.n_axes == 0) return give(ctx, &r, r.x);
  return give(ctx, &r,
              ctx_mean(ctx, ctx_widen(ctx, r.x), r.n_axes, r.axes, r.keepdims));
}

moec_status_t convert_reduce_l1(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  ir_value_t *x = ir_unary(ctx->b, OP_ABS, ctx_widen(ctx, r.x));
  return give(ctx, &r, reduce(ctx, &r, OP_REDUCE_SUM, x));
}

static ir_value_t *sum_of_squares(convert_ctx_t *ctx, const reduction_t *r,
                                  ir_value_t *x) {
  return reduce(ctx, r, OP_REDUCE_SUM, ir_binary(ctx->b, OP_MUL, x, x));
}

moec_status_t convert_reduce_sum_square(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  return give(ctx, &r, sum_of_squares(ctx, &r, ctx_widen(ctx, r.x)));
}

moec_status_t convert_reduce_l2(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  ir_value_t *sum = sum_of_squares(ctx, &r, ctx_widen(ctx, r.x));
  if (sum != NULL && !dtype_is_float(sum->type.dtype))
    sum = ir_cast(ctx->b, sum, DT_F64); /* exact up to 2^53, as sqrt is then */
  return give(ctx, &r, ir_unary(ctx->b, OP_SQRT, sum));
}

/* Integers are summed as they are; the logarithm is taken in double. */
static ir_value_t *log_of(convert_ctx_t *ctx, ir_value_t *x) {
  if (x != NULL && !dtype_is_float(x->type.dtype))
    x = ir_cast(ctx->b, x, DT_F64);
  return ir_unary(ctx->b, OP_LOG, x);
}

moec_status_t convert_reduce_log_sum(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  ir_value_t *sum = reduce(ctx, &r, OP_REDUCE_SUM, ctx_widen(ctx, r.x));
  return give(ctx, &r, log_of(ctx, sum));
}

/* m + log(sum(exp(x - m))) with the largest x as m, or 0 where that is not
 * finite: an infinity then comes out by itself. */
moec_status_t convert_reduce_log_sum_exp(convert_ctx_t *ctx) {
  reduction_t r;
  if (!read_reduction(ctx, 18, &r)) return ctx_status(ctx);
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_widen(ctx, r.x);
  if (x != NULL && !dtype_is_float(x->type.dtype)) x = ir_cast(b, x, DT_F64);
  ir_value_t *most = ir_reduce(b, OP_REDUCE_MAX, x, r.n_axes, r.axes, true);
  ir_value_t *zero = ctx_scalar(ctx, x, 0);
  ir_value_t *finite = ir_binary(b, OP_EQ, ir_binary(b, OP_SUB, most, most),
                                 zero); /* inf - inf is NaN */
  most = ir_select(b, finite, most, zero);
  ir_value_t *powers = ir_unary(b, OP_EXP, ir_binary(b, OP_SUB, x, most));
  ir_value_t *sum = ir_reduce(b, OP_REDUCE_SUM, powers, r.n_axes, r.axes, true);
  ir_value_t *y = ir_binary(b, OP_ADD, ir_unary(b, OP_LOG, sum), most);
  if (!r.keepdims && y != NULL)
    for (unsigned i = r.n_axes; i > 0; i--)
      y = ir_squeeze(b, y, (unsigned)r.axes[i - 1]);
  return give(ctx, &r, y);
}

moec_status_t convert_arg_reduce(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned axis;
  bool keepdims = attr_bool(ctx, "keepdims", true);
  bool last = ctx->opset >= 12 && attr_bool(ctx, "select_last_index", false);
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis))
    return ctx->status;
  ir_op_t *op = ir_begin(ctx->b, ctx->code, 1, &x, 1);
  if (op == NULL) return ctx_status(ctx);
  bool max = ctx->code == OP_ARG_MAX;
  ir_set_int(op, max ? ATTR_ARG_MAX_axis : ATTR_ARG_MIN_axis, axis);
  ir_set_int(op, max ? ATTR_ARG_MAX_keepdims : ATTR_ARG_MIN_keepdims, keepdims);
  ir_set_int(
      op, max ? ATTR_ARG_MAX_select_last_index : ATTR_ARG_MIN_select_last_index,
      last);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

static ir_value_t *softmax(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                           unsigned axis) {
  ir_op_t *op = ir_begin(ctx->b, code, 1, &x, 1);
  if (op != NULL)
    ir_set_int(op,
               code == OP_SOFTMAX ? ATTR_SOFTMAX_axis : ATTR_LOG_SOFTMAX_axis,
               axis);
  return ir_place(ctx->b, op);
}

moec_status_t convert_softmax(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned axis;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", -1), x->type.rank, &axis))
    return ctx->status;
  ctx_set_output(ctx, 0, softmax(ctx, ctx->code, x, axis));
  return MOEC_OK;
}

/* x as a matrix [product of dims before axis, product of the rest]. */
static ir_value_t *as_matrix(convert_ctx_t *ctx, ir_value_t *x, unsigned axis) {
  const expr_t *dim[] = {
      expr_product(ctx->exprs, x->type.dim, axis),
      expr_product(ctx->exprs, x->type.dim + axis, x->type.rank - axis),
  };
  return ir_reshape(ctx->b, x, 2, dim);
}

/* Before opset 13 the axis cuts the shape in two. */
moec_status_t convert_softmax_coerced(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned axis, rank = x->type.rank;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 1), rank, &axis)) return ctx->status;
  if (axis + 1 == rank) {
    ctx_set_output(ctx, 0, softmax(ctx, ctx->code, x, axis));
    return MOEC_OK;
  }
  ir_value_t *y = softmax(ctx, ctx->code, as_matrix(ctx, x, axis), 1);
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, y, rank, x->type.dim));
  return MOEC_OK;
}

/* 1 at the first of the largest along the axis, else 0. */
moec_status_t convert_hardmax(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *m = x;
  unsigned axis, rank = x->type.rank;
  bool coerced = ctx->opset < 13;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", coerced ? 1 : -1), rank, &axis))
    return ctx->status;
  unsigned along = axis;
  if (coerced) {
    m = as_matrix(ctx, x, axis);
    along = 1;
  }
  if (m == NULL) return ctx_status(ctx);
  ir_op_t *op = ir_begin(b, OP_ARG_MAX, 1, &m, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_ARG_MAX_axis, along);
  ir_value_t *best = ir_place(b, op);
  ir_value_t *index = ctx_along(ctx, ir_iota(b, DT_I64, ctx_dim(m, along)),
                                along, m->type.rank);
  ir_value_t *hit = ir_cast(b, ir_binary(b, OP_EQ, best, index), x->type.dtype);
  ctx_set_output(ctx, 0, ir_reshape(b, hit, rank, x->type.dim));
  return MOEC_OK;
}

static moec_status_t build_topk(convert_ctx_t *ctx, const expr_t *k,
                                unsigned axis, bool largest, bool sorted) {
  ir_value_t *x = ctx_in(ctx, 0);
  const expr_t *d = ctx_dim(x, axis);
  int64_t count, size;
  if (expr_is_const(k, &count) && count < 0)
    return ctx_invalid(ctx, "k is %lld", (long long)count);
  if (expr_is_const(k, &count) && expr_is_const(d, &size) && count > size)
    return ctx_invalid(ctx, "k = %lld exceeds dimension %u of %s",
                       (long long)count, axis, ctx_type_str(ctx, x));
  ir_check_equal(ctx->b, expr_min(ctx->exprs, k, d), k,
                 "k, no larger than the axis");
  ir_op_t *op = ir_begin(ctx->b, OP_TOPK, 1, &x, 2);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_TOPK_axis, axis);
  ir_set_expr(op, ATTR_TOPK_k, k);
  ir_set_int(op, ATTR_TOPK_largest, largest);
  ir_set_int(op, ATTR_TOPK_sorted, sorted);
  if (ir_place(ctx->b, op) == NULL) return ctx_status(ctx);
  ctx_set_output(ctx, 0, &op->out[0]);
  ctx_set_output(ctx, 1, &op->out[1]);
  return MOEC_OK;
}

moec_status_t convert_topk_by_attribute(convert_ctx_t *ctx) {
  unsigned axis;
  int64_t given = attr_int(ctx, "axis", -1);
  if (!ctx_axis(ctx, given, ctx_in(ctx, 0)->type.rank, &axis))
    return ctx->status;
  const expr_t *k = ctx_int(ctx, attr_int_required(ctx, "k"));
  MOEC_TRY(ctx->status);
  return build_topk(ctx, k, axis, true, true);
}

moec_status_t convert_topk(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *count = ctx_in(ctx, 1);
  unsigned axis;
  int64_t n;
  bool largest = ctx->opset < 11 || attr_bool(ctx, "largest", true);
  bool sorted = ctx->opset < 11 || attr_bool(ctx, "sorted", true);
  if (!ctx_axis(ctx, attr_int(ctx, "axis", -1), x->type.rank, &axis))
    return ctx->status;
  if (!ir_type_static_count(&count->type, &n) || n != 1)
    return ctx_invalid(ctx, "k is %s, expected one element",
                       ctx_type_str(ctx, count));
  const expr_t *k = ctx_size(ctx, count, 0, "k", 0, ctx_dim(x, axis));
  if (k == NULL) return ctx_status(ctx);
  return build_topk(ctx, k, axis, largest, sorted);
}

/* x along `axis`, not exclusive or reversed unless asked for. */
static ir_value_t *scanned(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                           unsigned axis) {
  bool exclusive = attr_bool(ctx, "exclusive", false);
  bool reverse = attr_bool(ctx, "reverse", false);
  bool sum = code == OP_CUM_SUM;
  ir_op_t *op = ir_begin(ctx->b, code, 1, &x, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, sum ? ATTR_CUM_SUM_axis : ATTR_CUM_PROD_axis, axis);
  ir_set_int(op, sum ? ATTR_CUM_SUM_exclusive : ATTR_CUM_PROD_exclusive,
             exclusive);
  ir_set_int(op, sum ? ATTR_CUM_SUM_reverse : ATTR_CUM_PROD_reverse, reverse);
  return ir_place(ctx->b, op);
}

static moec_status_t scan(convert_ctx_t *ctx, ir_opcode_t code) {
  ir_value_t *x = ctx_in(ctx, 0), *y;
  unsigned n, axis;
  const int64_t *given;
  ir_value_t *wide = ctx_widen(ctx, x);
  if (ctx_const_ints(ctx, ctx_in(ctx, 1), &n, &given)) {
    if (n != 1) return ctx_invalid(ctx, "axis has %u elements, expected 1", n);
    if (!ctx_axis(ctx, given[0], x->type.rank, &axis)) return ctx->status;
    y = scanned(ctx, code, wide, axis);
  } else {
    y = data_axes_around(ctx, wide, ctx_in(ctx, 1));
    y = scanned(ctx, code, y, 1);
    y = ir_reshape(ctx->b, y, x->type.rank, x->type.dim);
  }
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  return ctx_status(ctx);
}

moec_status_t convert_cum_sum(convert_ctx_t *ctx) {
  return scan(ctx, OP_CUM_SUM);
}

moec_status_t convert_cum_prod(convert_ctx_t *ctx) {
  return scan(ctx, OP_CUM_PROD);
}
