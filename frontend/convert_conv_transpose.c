/* Transposed convolutions. */
#include "frontend/conv.h"

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

/* ---- A convolution for each phase of the output -------------------------- */

/* With strides s, the elements o = i * s + r of the output, for one r, are
 * those of a convolution of x without strides with every s-th element of the
 * filters: the others meet zeros between elements of x. */
typedef struct phase {
  int64_t first[IR_MAX_RANK];        /* element of the filters */
  const expr_t *kernel[IR_MAX_RANK]; /* how many there are */
  bool empty;                        /* none in some dimension */
  conv_t conv;
} phase_t;

enum { MAX_PHASES = 16 };

/* The number of phases where they are to be computed one by one, else 1. */
static int64_t count_phases(const window_t *w) {
  int64_t n = 1, kernel, before;
  for (unsigned i = 0; i < w->n; i++) {
    int64_t s = w->input_dilation[i];
    if (s == 1) continue;
    if (w->dilations[i] != 1 || !expr_is_const(w->kernel[i], &kernel) ||
        !expr_is_const(w->before[i], &before) || s > MAX_PHASES / n)
      return 1;
    n *= s;
  }
  return n;
}

static phase_t phase_at(convert_ctx_t *ctx, const conv_t *conv, int64_t index) {
  phase_t p = {.conv = *conv};
  window_t *w = &p.conv.w;
  for (unsigned i = w->n; i-- > 0;) {
    int64_t s = w->input_dilation[i], kernel = 0, before = 0;
    p.kernel[i] = w->kernel[i];
    if (s == 1) continue;
    expr_is_const(w->kernel[i], &kernel);
    expr_is_const(w->before[i], &before);
    int64_t r = index % s, first = ((before - r) % s + s) % s;
    int64_t count = first < kernel ? (kernel - first + s - 1) / s : 0;
    index /= s;
    p.first[i] = first;
    p.kernel[i] = ctx_int(ctx, count);
    p.empty |= count == 0;
    w->before[i] = ctx_int(ctx, (before - r - first) / s);
    w->out[i] = expr_ceildiv(ctx->exprs, w->out[i], ctx_int(ctx, s));
    w->input_dilation[i] = 1;
  }
  return p;
}

static ir_value_t *compute_phase(convert_ctx_t *ctx, const phase_t *p,
                                 const conv_t *conv, ir_value_t *x,
                                 ir_value_t *w, ir_value_t *bias) {
  ir_value_t *y;
  unsigned n = conv->w.n;
  if (p->empty) {
    const expr_t *dim[IR_MAX_RANK] = {ctx_dim(x, 0), ctx_dim(w, 0)};
    for (unsigned i = 0; i < n; i++) dim[2 + i] = p->conv.w.out[i];
    y = ir_fill(ctx->b, ctx_scalar(ctx, x, 0), 2 + n, dim);
    return conv_with_bias(ctx, y, bias);
  }
  for (unsigned i = 0; i < n; i++) {
    int64_t s = conv->w.input_dilation[i];
    if (s > 1)
      w = ir_slice(ctx->b, w, 2 + i, ctx_int(ctx, p->first[i]), p->kernel[i],
                   ctx_int(ctx, s));
  }
  y = conv_multiply(ctx, &p->conv, x, w);
  return conv_with_bias(ctx, y, bias);
}

/* each[i][.., I, ..] as y[.., I * n + i, ..] along dimension d. */
static ir_value_t *interleave(convert_ctx_t *ctx, unsigned n,
                              ir_value_t *const *each, unsigned d) {
  ir_value_t *apart[MAX_PHASES];
  if (n == 1) return each[0];
  for (unsigned i = 0; i < n; i++)
    apart[i] = ir_unsqueeze(ctx->b, each[i], d + 1);
  ir_value_t *y = ir_concat(ctx->b, n, apart, d + 1);
  if (y == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = y->type.rank - 1;
  for (unsigned i = 0; i < rank; i++) dim[i] = ctx_dim(y, i > d ? i + 1 : i);
  dim[d] = expr_mul(ctx->exprs, ctx_dim(y, d), ctx_dim(y, d + 1));
  return ir_reshape(ctx->b, y, rank, dim);
}

static ir_value_t *by_phases(convert_ctx_t *ctx, const conv_t *conv, int64_t n,
                             ir_value_t *x, ir_value_t *w, ir_value_t *bias) {
  const window_t *window = &conv->w;
  ir_value_t *each[MAX_PHASES];
  for (int64_t i = 0; i < n; i++) {
    phase_t p = phase_at(ctx, conv, i);
    each[i] = compute_phase(ctx, &p, conv, x, w, bias);
  }
  for (unsigned i = window->n; i-- > 0;) {
    unsigned s = (unsigned)window->input_dilation[i];
    n /= s;
    for (int64_t j = 0; j < n; j++)
      each[j] = interleave(ctx, s, each + j * s, 2 + i);
  }
  ir_value_t *y = each[0];
  for (unsigned i = 0; i < window->n && y != NULL; i++)
    if (ctx_dim(y, 2 + i) != window->out[i])
      y = ir_slice(ctx->b, y, 2 + i, ctx_int(ctx, 0), window->out[i],
                   ctx_int(ctx, 1));
  return y;
}

/* w[C, M/g, K..]: a convolution of the input with stride - 1 zeros between its
 * elements with the reversed kernel. */
moec_status_t convert_conv_transpose(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *w = ctx_in(ctx, 1);
  conv_t conv = {.groups = 1};
  if (!conv_read_groups(ctx, &conv) ||
      !ctx_check_rank(ctx, w, x->type.rank, x->type.rank, "the weights") ||
      !ctx_check_rank(ctx, x, 3, IR_MAX_RANK, "the input") ||
      !window_read(ctx, x, w->type.dim + 2, &conv.w) ||
      !transposed_sizes(ctx, x, &conv.w))
    return ctx_status(ctx);
  conv.out_each = ctx_dim(w, 1);
  conv.in_each =
      conv_shared_out(ctx, ctx_dim(w, 0), conv.g, "channels in groups");
  ir_check_equal(ctx->b, ctx_dim(w, 0), ctx_dim(x, 1),
                 "channels of the weights and of the input");
  MOEC_TRY(ctx_status(ctx));
  w = filters(ctx, &conv, flipped(ctx, w));
  int64_t n = count_phases(&conv.w);
  ir_value_t *bias = ctx_in(ctx, 2), *y;
  if (n > 1 && w != NULL)
    y = by_phases(ctx, &conv, n, x, w, bias);
  else
    y = conv_with_bias(ctx, conv_multiply(ctx, &conv, x, w), bias);
  ctx_set_output(ctx, 0, y);
  return ctx_status(ctx);
}
