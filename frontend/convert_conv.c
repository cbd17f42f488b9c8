/* Convolutions: groups, channels, bias. */
#include "frontend/conv.h"

const expr_t *conv_shared_out(convert_ctx_t *ctx, const expr_t *a,
                              const expr_t *b, const char *what) {
  const expr_t *q = expr_divide_exactly(ctx->exprs, a, b);
  if (q != NULL) return q;
  q = expr_floordiv(ctx->exprs, a, b);
  ir_check_equal(ctx->b, expr_mul(ctx->exprs, q, b), a, what);
  return q;
}

bool conv_read_groups(convert_ctx_t *ctx, conv_t *conv) {
  conv->groups = attr_int(ctx, "group", 1);
  if (conv->groups < 1 || conv->groups > INT32_MAX) {
    ctx_invalid(ctx, "group is %lld", (long long)conv->groups);
    return false;
  }
  conv->g = ctx_int(ctx, conv->groups);
  return ctx->status == MOEC_OK;
}

ir_value_t *conv_multiply(convert_ctx_t *ctx, const conv_t *conv, ir_value_t *x,
                          ir_value_t *w) {
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

ir_value_t *conv_with_bias(convert_ctx_t *ctx, ir_value_t *y,
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
  if (!conv_read_groups(ctx, conv)) return false;
  conv->in_each = ctx_dim(w, 1);
  conv->out_each =
      conv_shared_out(ctx, ctx_dim(w, 0), conv->g, "filters in groups");
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
  ir_value_t *y = conv_multiply(ctx, &conv, windows, w);
  return conv_with_bias(ctx, window_fold_shape(ctx, y, window), bias);
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
  return conv_with_bias(ctx, conv_multiply(ctx, &conv, x, w), bias);
}

moec_status_t convert_conv(convert_ctx_t *ctx) {
  ctx_set_output(
      ctx, 0,
      window_convolve(ctx, ctx_in(ctx, 0), ctx_in(ctx, 1), ctx_in(ctx, 2)));
  return ctx_status(ctx);
}
