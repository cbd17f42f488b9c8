/* Convolutions as products of all windows, as rows, with the weights as
 * columns: y[n, g, o, m] = x'[n, g, o, (c, k)] * w'[g, (c, k), m]. */
#include "frontend/window.h"

typedef struct conv {
  window_t w;
  int64_t groups;
  const expr_t *g;
  const expr_t *in_each, *out_each; /* channels of a group */
} conv_t;

/* a / b, checked to have no remainder. */
static const expr_t *shared_out(convert_ctx_t *ctx, const expr_t *a,
                                const expr_t *b, const char *what) {
  const expr_t *q = expr_divide_exactly(ctx->exprs, a, b);
  if (q != NULL) return q;
  q = expr_floordiv(ctx->exprs, a, b);
  ir_check_equal(ctx->b, expr_mul(ctx->exprs, q, b), a, what);
  return q;
}

static bool read_groups(convert_ctx_t *ctx, conv_t *conv) {
  conv->groups = attr_int(ctx, "group", 1);
  if (conv->groups < 1 || conv->groups > INT32_MAX) {
    ctx_invalid(ctx, "group is %lld", (long long)conv->groups);
    return false;
  }
  conv->g = ctx_int(ctx, conv->groups);
  return ctx->status == MOEC_OK;
}

/* windows[N, C, K, O] and columns[g, C/g * K, M/g] as y[N, M, O]. */
static ir_value_t *multiply(convert_ctx_t *ctx, const conv_t *conv,
                            ir_value_t *windows, ir_value_t *columns) {
  static const int64_t to_rows[] = {0, 1, 3, 2};
  if (windows == NULL || columns == NULL) return NULL;
  ir_builder_t *b = ctx->b;
  const expr_t *n = ctx_dim(windows, 0), *o = ctx_dim(windows, 3);
  const expr_t *ck = ctx_dim(columns, 1);
  const expr_t *m = expr_mul(ctx->exprs, conv->g, conv->out_each);
  const expr_t *joined[] = {n, m, o};
  const expr_t *grouped[] = {n, conv->g, ck, o};
  ir_value_t *y;
  windows = ir_reshape(b, windows, 4, grouped);
  if (expr_equals_const(conv->out_each, 1) && conv->groups > 1) {
    /* One filter for each group: elementwise product and sum. */
    const expr_t *filter[] = {ctx_int(ctx, 1), conv->g, ck, ctx_int(ctx, 1)};
    int64_t axis = 2;
    y = ctx_widen(ctx, windows);
    y = ir_binary(b, OP_MUL, y,
                  ctx_widen(ctx, ir_reshape(b, columns, 4, filter)));
    y = ctx_like(ctx, ir_reduce(b, OP_REDUCE_SUM, y, 1, &axis, false), windows);
    return ir_reshape(b, y, 3, joined);
  }
  ir_value_t *rows = ir_transpose(b, windows, to_rows);
  if (conv->groups == 1) { /* weights of rank 2 are shared by all */
    const expr_t *flat[] = {expr_mul(ctx->exprs, n, o), ck};
    const expr_t *matrix[] = {ck, conv->out_each};
    const expr_t *image[] = {n, ctx_int(ctx, 1), o, conv->out_each};
    rows = ir_reshape(b, rows, 2, flat);
    y = ir_matmul(b, rows, ir_reshape(b, columns, 2, matrix));
    y = ir_reshape(b, y, 4, image);
  } else {
    y = ir_matmul(b, rows, columns);
  }
  return ir_reshape(b, ir_transpose(b, y, to_rows), 3, joined);
}

/* y[N, M, O] as y[N, M, O..], with the bias added. */
static ir_value_t *finish(convert_ctx_t *ctx, const conv_t *conv, ir_value_t *y,
                          ir_value_t *bias) {
  y = window_fold_shape(ctx, y, &conv->w);
  if (bias == NULL || y == NULL) return y;
  if (!ctx_check_rank(ctx, bias, 1, 1, "the bias")) return NULL;
  ir_check_equal(ctx->b, ctx_dim(bias, 0), ctx_dim(y, 1),
                 "size of the bias and channels of the output");
  return ir_binary(ctx->b, OP_ADD, y, ctx_along(ctx, bias, 1, y->type.rank));
}

ir_value_t *window_product(convert_ctx_t *ctx, const ir_value_t *x,
                           const window_t *window, ir_value_t *windows,
                           ir_value_t *w, ir_value_t *bias) {
  static const int64_t to_columns[] = {0, 2, 1};
  conv_t conv = {.w = *window, .groups = 1};
  if (!read_groups(ctx, &conv)) return NULL;
  conv.in_each = ctx_dim(w, 1);
  conv.out_each = shared_out(ctx, ctx_dim(w, 0), conv.g, "filters in groups");
  ir_check_equal(ctx->b, expr_mul(ctx->exprs, conv.in_each, conv.g),
                 ctx_dim(x, 1), "channels of the weights and of the input");
  if (ctx_status(ctx) != MOEC_OK) return NULL;
  const expr_t *dim[] = {
      conv.g, conv.out_each,
      expr_mul(ctx->exprs, conv.in_each, window_kernel_count(ctx, &conv.w))};
  ir_value_t *columns =
      ir_transpose(ctx->b, ir_reshape(ctx->b, w, 3, dim), to_columns);
  return finish(ctx, &conv, multiply(ctx, &conv, windows, columns), bias);
}

ir_value_t *window_convolve(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *w,
                            ir_value_t *bias) {
  window_t window;
  if (x == NULL || w == NULL ||
      !ctx_check_rank(ctx, w, x->type.rank, x->type.rank, "the weights") ||
      !ctx_check_rank(ctx, x, 3, IR_MAX_RANK, "the input") ||
      !window_read(ctx, x, w->type.dim + 2, &window) ||
      !window_sizes(ctx, x, &window))
    return NULL;
  ir_value_t *windows = window_unfold(ctx, x, ctx_scalar(ctx, x, 0), &window);
  return window_product(ctx, x, &window, windows, w, bias);
}

moec_status_t convert_conv(convert_ctx_t *ctx) {
  ctx_set_output(
      ctx, 0,
      window_convolve(ctx, ctx_in(ctx, 0), ctx_in(ctx, 1), ctx_in(ctx, 2)));
  return ctx_status(ctx);
}

static bool read_optional(convert_ctx_t *ctx, const char *name, unsigned n,
                          const int64_t **out) {
  unsigned n_given;
  *out = attr_ints(ctx, name, &n_given);
  if (ctx->status != MOEC_OK) return false;
  if (*out == NULL) return true;
  if (n_given == n + 2) { /* with batch and channels, as some exporters do */
    *out += 2;
    n_given = n;
  }
  if (n_given != n) {
    ctx_invalid(ctx, "attribute \"%s\" has %u entries, expected %u", name,
                n_given, n);
    return false;
  }
  for (unsigned i = 0; i < n; i++) {
    if ((*out)[i] >= 0 && (*out)[i] <= INT32_MAX) continue;
    ctx_invalid(ctx, "entry %u of attribute \"%s\" is %lld", i, name,
                (long long)(*out)[i]);
    return false;
  }
  return true;
}

/* Sizes of the output, and padding as the dilated input needs it: with
 * stride * (d - 1) + output_padding + extent elements before any is cut off,
 * the first element has extent - 1 - before rows of zeros in front. */
static bool transposed_sizes(convert_ctx_t *ctx, const ir_value_t *x,
                             window_t *w) {
  expr_pool_t *pool = ctx->exprs;
  const int64_t *extra, *shape;
  if (!read_optional(ctx, "output_padding", w->n, &extra) ||
      !read_optional(ctx, "output_shape", w->n, &shape))
    return false;
  bool same = w->auto_pad == PAD_SAME_UPPER || w->auto_pad == PAD_SAME_LOWER;
  for (unsigned i = 0; i < w->n; i++) {
    const expr_t *d = ctx_dim(x, i + 2), *one = ctx_int(ctx, 1);
    const expr_t *stride = ctx_int(ctx, w->strides[i]);
    const expr_t *extent = window_extent(ctx, w, i);
    const expr_t *natural =
        expr_add(pool, expr_mul(pool, stride, expr_sub(pool, d, one)), extent);
    if (extra != NULL)
      natural = expr_add(pool, natural, ctx_int(ctx, extra[i]));
    const expr_t *before = w->before[i];
    if (shape != NULL || same) {
      w->out[i] =
          shape != NULL ? ctx_int(ctx, shape[i]) : expr_mul(pool, d, stride);
      const expr_t *total =
          expr_max(pool, ctx_int(ctx, 0), expr_sub(pool, natural, w->out[i]));
      const expr_t *half = expr_floordiv(pool, total, ctx_int(ctx, 2));
      before =
          w->auto_pad == PAD_SAME_UPPER ? half : expr_sub(pool, total, half);
    } else {
      w->out[i] = expr_sub(pool, expr_sub(pool, natural, before), w->after[i]);
    }
    int64_t size;
    if (expr_is_const(w->out[i], &size) && size < 0) {
      ctx_invalid(ctx, "dimension %u of the output is %lld", i + 2,
                  (long long)size);
      return false;
    }
    if (!expr_lower_bound(w->out[i], &size) || size < 0)
      ir_check_equal(ctx->b, expr_max(pool, w->out[i], ctx_int(ctx, 0)),
                     w->out[i], "size of the output, at least 0");
    w->before[i] = expr_sub(pool, expr_sub(pool, extent, one), before);
    w->input_dilation[i] = w->strides[i];
    w->strides[i] = 1;
  }
  return ctx_status(ctx) == MOEC_OK;
}

/* Spatial dimensions of the weights in reverse. */
static ir_value_t *flipped(convert_ctx_t *ctx, ir_value_t *w) {
  for (unsigned i = 2; w != NULL && i < w->type.rank; i++) {
    const expr_t *k = ctx_dim(w, i);
    if (expr_equals_const(k, 1)) continue;
    w = ir_slice(ctx->b, w, i, expr_sub(ctx->exprs, k, ctx_int(ctx, 1)), k,
                 ctx_int(ctx, -1));
  }
  return w;
}

/* w[C, M/g, K..]: the input with stride - 1 zeros between its elements, under
 * windows with the reversed kernel. */
moec_status_t convert_conv_transpose(convert_ctx_t *ctx) {
  static const int64_t to_columns[] = {0, 1, 3, 2};
  ir_value_t *x = ctx_in(ctx, 0), *w = ctx_in(ctx, 1);
  conv_t conv = {.groups = 1};
  if (!read_groups(ctx, &conv) ||
      !ctx_check_rank(ctx, w, x->type.rank, x->type.rank, "the weights") ||
      !ctx_check_rank(ctx, x, 3, IR_MAX_RANK, "the input") ||
      !window_read(ctx, x, w->type.dim + 2, &conv.w) ||
      !transposed_sizes(ctx, x, &conv.w))
    return ctx_status(ctx);
  conv.out_each = ctx_dim(w, 1);
  conv.in_each = shared_out(ctx, ctx_dim(w, 0), conv.g, "channels in groups");
  ir_check_equal(ctx->b, ctx_dim(w, 0), ctx_dim(x, 1),
                 "channels of the weights and of the input");
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *windows = window_unfold(ctx, x, ctx_scalar(ctx, x, 0), &conv.w);
  const expr_t *k = window_kernel_count(ctx, &conv.w);
  const expr_t *dim[] = {conv.g, conv.in_each, conv.out_each, k};
  const expr_t *columns_dim[] = {conv.g, expr_mul(ctx->exprs, conv.in_each, k),
                                 conv.out_each};
  ir_value_t *columns = ir_reshape(ctx->b, flipped(ctx, w), 4, dim);
  columns = ir_reshape(ctx->b, ir_transpose(ctx->b, columns, to_columns), 3,
                       columns_dim);
  ctx_set_output(ctx, 0,
                 finish(ctx, &conv, multiply(ctx, &conv, windows, columns),
                        ctx_in(ctx, 2)));
  return MOEC_OK;
}
