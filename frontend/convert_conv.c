/* Convolutions: sizes and padding, and transposed ones as convolutions of an
 * input with zeros between its elements. */
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

/* x and w[M, C/g, K..] as y[N, M, O..]. */
static ir_value_t *multiply(convert_ctx_t *ctx, const conv_t *conv,
                            ir_value_t *x, ir_value_t *w) {
  ir_value_t *in[] = {x, w};
  const window_t *windows = &conv->w;
  ir_op_t *op = ir_begin(ctx->b, OP_CONVOLVE, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_CONVOLVE_groups, conv->groups);
  ir_set_exprs(op, ATTR_CONVOLVE_out, windows->n, windows->out);
  ir_set_ints(op, ATTR_CONVOLVE_strides, windows->n, windows->strides);
  ir_set_ints(op, ATTR_CONVOLVE_dilations, windows->n, windows->dilations);
  ir_set_exprs(op, ATTR_CONVOLVE_pad_before, windows->n, windows->before);
  ir_set_ints(op, ATTR_CONVOLVE_input_dilation, windows->n,
              windows->input_dilation);
  return ir_place(ctx->b, op);
}

static ir_value_t *with_bias(convert_ctx_t *ctx, ir_value_t *y,
                             ir_value_t *bias) {
  if (bias == NULL || y == NULL) return y;
  if (!ctx_check_rank(ctx, bias, 1, 1, "the bias")) return NULL;
  ir_check_equal(ctx->b, ctx_dim(bias, 0), ctx_dim(y, 1),
                 "size of the bias and channels of the output");
  return ir_binary(ctx->b, OP_ADD, y, ctx_along(ctx, bias, 1, y->type.rank));
}

/* Channels of groups; false where they do not fit x[N, C, ..]. */
static bool read_channels(convert_ctx_t *ctx, const ir_value_t *x,
                          const ir_value_t *w, conv_t *conv) {
  if (!read_groups(ctx, conv)) return false;
  conv->in_each = ctx_dim(w, 1);
  conv->out_each = shared_out(ctx, ctx_dim(w, 0), conv->g, "filters in groups");
  ir_check_equal(ctx->b, expr_mul(ctx->exprs, conv->in_each, conv->g),
                 ctx_dim(x, 1), "channels of the weights and of the input");
  return ctx_status(ctx) == MOEC_OK;
}

/* Every element of a window is a channel under a kernel of one element. */
ir_value_t *window_product(convert_ctx_t *ctx, const ir_value_t *x,
                           const window_t *window, ir_value_t *windows,
                           ir_value_t *w, ir_value_t *bias) {
  conv_t conv = {.groups = 1};
  if (windows == NULL || !read_channels(ctx, x, w, &conv)) return NULL;
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *taps = window_kernel_count(ctx, window);
  const expr_t *line[] = {ctx_dim(windows, 0),
                          expr_mul(ctx->exprs, ctx_dim(windows, 1), taps),
                          ctx_dim(windows, 3)};
  const expr_t *filter[] = {ctx_dim(w, 0),
                            expr_mul(ctx->exprs, conv.in_each, taps), one};
  conv.w = (window_t){.n = 1,
                      .kernel = {one},
                      .strides = {1},
                      .dilations = {1},
                      .input_dilation = {1},
                      .before = {ctx_int(ctx, 0)},
                      .out = {line[2]}};
  windows = ir_reshape(ctx->b, windows, 3, line);
  w = ir_reshape(ctx->b, w, 3, filter);
  ir_value_t *y = multiply(ctx, &conv, windows, w);
  return with_bias(ctx, window_fold_shape(ctx, y, window), bias);
}

ir_value_t *window_convolve(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *w,
                            ir_value_t *bias) {
  conv_t conv = {.groups = 1};
  if (x == NULL || w == NULL ||
      !ctx_check_rank(ctx, w, x->type.rank, x->type.rank, "the weights") ||
      !ctx_check_rank(ctx, x, 3, IR_MAX_RANK, "the input") ||
      !window_read(ctx, x, w->type.dim + 2, &conv.w) ||
      !window_sizes(ctx, x, &conv.w) || !read_channels(ctx, x, w, &conv))
    return NULL;
  return with_bias(ctx, multiply(ctx, &conv, x, w), bias);
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

/* w[C, M/g, K..] as [M, C/g, K..]. */
static ir_value_t *filters(convert_ctx_t *ctx, const conv_t *conv,
                           ir_value_t *w) {
  if (w == NULL) return NULL;
  unsigned n = w->type.rank - 2;
  const expr_t *dim[IR_MAX_RANK] = {conv->g, conv->in_each, conv->out_each};
  int64_t perm[IR_MAX_RANK] = {0, 2, 1};
  for (unsigned i = 0; i < n; i++) {
    dim[3 + i] = ctx_dim(w, 2 + i);
    perm[3 + i] = 3 + i;
  }
  w = ir_reshape(ctx->b, w, 3 + n, dim);
  w = ir_transpose(ctx->b, w, perm);
  dim[1] = expr_mul(ctx->exprs, conv->g, conv->out_each);
  dim[2] = conv->in_each;
  return ir_reshape(ctx->b, w, 2 + n, dim + 1);
}

/* w[C, M/g, K..]: the input with stride - 1 zeros between its elements, under
 * windows with the reversed kernel. */
moec_status_t convert_conv_transpose(convert_ctx_t *ctx) {
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
  w = filters(ctx, &conv, flipped(ctx, w));
  ctx_set_output(ctx, 0,
                 with_bias(ctx, multiply(ctx, &conv, x, w), ctx_in(ctx, 2)));
  return MOEC_OK;
}
