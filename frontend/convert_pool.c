/* Pooling: reductions of all windows. */
#include <math.h>

#include "frontend/window.h"

static const int64_t kernel_axis = 2;

static bool read_pool(convert_ctx_t *ctx, window_t *w) {
  const ir_value_t *x = ctx_in(ctx, 0);
  if (!window_read(ctx, x, NULL, w)) return false;
  w->ceil_mode = attr_bool(ctx, "ceil_mode", false);
  return window_sizes(ctx, x, w);
}

static moec_status_t give(convert_ctx_t *ctx, ir_value_t *y) {
  ctx_set_output(ctx, 0, ctx_like(ctx, y, ctx_in(ctx, 0)));
  return MOEC_OK;
}

static ir_value_t *sum_windows(convert_ctx_t *ctx, ir_value_t *x,
                               const window_t *w) {
  return window_reduce(ctx, OP_REDUCE_SUM, x, ctx_scalar(ctx, x, 0), w);
}

static bool spatial_axes(convert_ctx_t *ctx, unsigned *out_n, int64_t *axes) {
  const ir_value_t *x = ctx_in(ctx, 0);
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK, "the input")) return false;
  *out_n = 0;
  for (unsigned i = 2; i < x->type.rank; i++) axes[(*out_n)++] = i;
  return true;
}

moec_status_t convert_global_average_pool(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t axes[IR_MAX_RANK];
  unsigned n;
  if (!spatial_axes(ctx, &n, axes)) return ctx->status;
  ir_value_t *mean = ctx_mean(ctx, ctx_widen(ctx, x), n, axes, true);
  ctx_set_output(ctx, 0, ctx_like(ctx, mean, x));
  return MOEC_OK;
}

moec_status_t convert_global_max_pool(convert_ctx_t *ctx) {
  int64_t axes[IR_MAX_RANK];
  unsigned n;
  if (!spatial_axes(ctx, &n, axes)) return ctx->status;
  ctx_set_output(
      ctx, 0, ir_reduce(ctx->b, OP_REDUCE_MAX, ctx_in(ctx, 0), n, axes, true));
  return MOEC_OK;
}

/* |x|^p */
static ir_value_t *power(convert_ctx_t *ctx, ir_value_t *x, double p) {
  if (p == 2) return ir_binary(ctx->b, OP_MUL, x, x);
  x = ir_unary(ctx->b, OP_ABS, x);
  if (p == 1) return x;
  return ir_binary(ctx->b, OP_POW, x, ctx_scalar(ctx, x, p));
}

/* x^(1/p) */
static ir_value_t *root(convert_ctx_t *ctx, ir_value_t *x, double p) {
  if (p == 1) return x;
  if (p == 2) return ir_unary(ctx->b, OP_SQRT, x);
  return ir_binary(ctx->b, OP_POW, x, ctx_scalar(ctx, x, 1.0 / p));
}

/* Before opset 2 it is a float. */
static bool read_p(convert_ctx_t *ctx, double *out_p) {
  *out_p =
      ctx->opset < 2 ? attr_float(ctx, "p", 2) : (double)attr_int(ctx, "p", 2);
  if (*out_p > 0 && *out_p <= INT32_MAX) return ctx->status == MOEC_OK;
  ctx_invalid(ctx, "p is %g", *out_p);
  return false;
}

moec_status_t convert_global_lp_pool(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t axes[IR_MAX_RANK];
  double p;
  unsigned n;
  if (!spatial_axes(ctx, &n, axes) || !read_p(ctx, &p)) return ctx->status;
  ir_value_t *sum = ir_reduce(ctx->b, OP_REDUCE_SUM,
                              power(ctx, ctx_widen(ctx, x), p), n, axes, true);
  ctx_set_output(ctx, 0, ctx_like(ctx, root(ctx, sum, p), x));
  return MOEC_OK;
}

moec_status_t convert_lp_pool(convert_ctx_t *ctx) {
  window_t w;
  double p;
  if (!read_p(ctx, &p) || !read_pool(ctx, &w)) return ctx_status(ctx);
  ir_value_t *x = power(ctx, ctx_widen(ctx, ctx_in(ctx, 0)), p);
  return give(ctx, root(ctx, sum_windows(ctx, x, &w), p));
}

/* A tensor of ones of the shape that elements counted by AveragePool have: the
 * input's, or with `with_padding` that of the padded input. */
static ir_value_t *ones(convert_ctx_t *ctx, const ir_value_t *x,
                        const window_t *w, bool with_padding) {
  const expr_t *dim[IR_MAX_RANK] = {ctx_int(ctx, 1), ctx_int(ctx, 1)};
  for (unsigned i = 0; i < w->n; i++) {
    dim[i + 2] = ctx_dim(x, i + 2);
    if (!with_padding) continue;
    dim[i + 2] = expr_add(ctx->exprs, dim[i + 2], w->before[i]);
    dim[i + 2] = expr_add(ctx->exprs, dim[i + 2], w->after[i]);
  }
  return ir_fill(ctx->b, ctx_scalar(ctx, x, 1), w->n + 2, dim);
}

moec_status_t convert_average_pool(convert_ctx_t *ctx) {
  window_t w;
  bool count_pads = attr_bool(ctx, "count_include_pad", false);
  if (!read_pool(ctx, &w)) return ctx_status(ctx);
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  ir_value_t *sum = sum_windows(ctx, x, &w), *count;
  if (x == NULL) return ctx_status(ctx);
  int64_t all;
  if (!w.ceil_mode && (count_pads || !w.padded) &&
      expr_is_const(window_kernel_count(ctx, &w), &all)) {
    count = ctx_scalar(ctx, x, (double)all);
  } else {
    window_t counted = w;
    for (unsigned i = 0; i < w.n && count_pads; i++)
      counted.before[i] = counted.after[i] = ctx_int(ctx, 0);
    count = sum_windows(ctx, ones(ctx, x, &w, count_pads), &counted);
  }
  return give(ctx, ir_binary(ctx->b, OP_DIV, sum, count));
}

/* The smallest value of a type. */
static ir_value_t *smallest(convert_ctx_t *ctx, const ir_value_t *x) {
  unsigned bits = dtype_bits(x->type.dtype);
  switch (dtype_class(x->type.dtype)) {
    case DT_CLASS_FLOAT:
      return ctx_scalar(ctx, x, -(double)INFINITY);
    case DT_CLASS_SIGNED:
      return ir_scalar_int(
          ctx->b, x->type.dtype,
          bits == 64 ? INT64_MIN : -(INT64_C(1) << (bits - 1)));
    default:
      return ctx_scalar(ctx, x, 0);
  }
}

/* Places of a window's elements in the input: i64[1, 1, K, O], in row-major or
 * (`by_column`) column-major order of the spatial dimensions. */
static ir_value_t *element_places(convert_ctx_t *ctx, const ir_value_t *x,
                                  const window_t *w, bool by_column) {
  const expr_t *dim[IR_MAX_RANK] = {ctx_int(ctx, 1), ctx_int(ctx, 1)};
  int64_t perm[IR_MAX_RANK] = {0, 1};
  for (unsigned i = 0; i < w->n; i++) {
    unsigned from = by_column ? w->n - 1 - i : i;
    dim[i + 2] = ctx_dim(x, from + 2);
    perm[i + 2] = from + 2;
  }
  const expr_t *count = expr_product(ctx->exprs, dim, w->n + 2);
  ir_value_t *place = ir_iota(ctx->b, DT_I64, count);
  place = ir_reshape(ctx->b, place, w->n + 2, dim);
  place = ir_transpose(ctx->b, place, perm);
  return window_unfold(ctx, place, ir_scalar_int(ctx->b, DT_I64, 0), w);
}

/* Indices into the whole input: (n * C + c) * elements + place. */
static ir_value_t *max_indices(convert_ctx_t *ctx, ir_value_t *windows,
                               const window_t *w, bool by_column) {
  ir_builder_t *b = ctx->b;
  const ir_value_t *x = ctx_in(ctx, 0);
  ir_op_t *op = ir_begin(b, OP_ARG_MAX, 1, &windows, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_ARG_MAX_axis, kernel_axis);
  ir_value_t *best = ir_place(b, op);
  ir_value_t *places = element_places(ctx, x, w, by_column);
  if (best == NULL || places == NULL) return NULL;
  ir_value_t *in[] = {ir_expand(b, places, 4, windows->type.dim), best};
  op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, kernel_axis);
  ir_value_t *place = ir_place(b, op);
  const expr_t *n = ctx_dim(x, 0), *c = ctx_dim(x, 1);
  const expr_t *each = expr_product(ctx->exprs, x->type.dim + 2, w->n);
  const expr_t *dim[] = {n, c, ctx_int(ctx, 1), ctx_int(ctx, 1)};
  ir_value_t *image = ir_iota(b, DT_I64, expr_mul(ctx->exprs, n, c));
  image = ir_reshape(b, image, 4, dim);
  ir_value_t *first = ir_binary(b, OP_MUL, image, ir_expr_scalar(b, each));
  ir_value_t *index = ir_binary(b, OP_ADD, first, place);
  if (index == NULL) return NULL;
  return window_fold_shape(ctx, ir_squeeze(b, index, 2), w);
}

moec_status_t convert_max_pool(convert_ctx_t *ctx) {
  window_t w;
  bool by_column = ctx->opset >= 8 && attr_bool(ctx, "storage_order", false);
  if (!read_pool(ctx, &w)) return ctx_status(ctx);
  ir_value_t *x = ctx_in(ctx, 0);
  ir_value_t *fill = smallest(ctx, x);
  MOEC_TRY(give(ctx, window_reduce(ctx, OP_REDUCE_MAX, x, fill, &w)));
  if (!ctx_wants(ctx, 1)) return MOEC_OK;
  ir_value_t *windows = window_unfold(ctx, x, fill, &w);
  ctx_set_output(ctx, 1, max_indices(ctx, windows, &w, by_column));
  return MOEC_OK;
}
