/* Sizes and padding of sliding windows, and the tensor of all windows. */
#include "frontend/window.h"

bool window_read_list(convert_ctx_t *ctx, const char *name, unsigned n,
                      int64_t least, int64_t otherwise, int64_t *out) {
  unsigned n_given;
  const int64_t *given = attr_ints(ctx, name, &n_given);
  if (ctx->status != MOEC_OK) return false;
  for (unsigned i = 0; i < n; i++) out[i] = otherwise;
  if (given == NULL) return true;
  if (n_given != n) {
    ctx_invalid(ctx, "attribute \"%s\" has %u entries, expected %u", name,
                n_given, n);
    return false;
  }
  for (unsigned i = 0; i < n; i++) {
    out[i] = given[i];
    if (given[i] >= least && given[i] <= INT32_MAX) continue;
    ctx_invalid(ctx, "entry %u of attribute \"%s\" is %lld", i, name,
                (long long)given[i]);
    return false;
  }
  return true;
}

static bool read_kernel(convert_ctx_t *ctx, const expr_t *const *kernel,
                        window_t *out) {
  unsigned n;
  const int64_t *given = attr_ints(ctx, "kernel_shape", &n);
  if (ctx->status != MOEC_OK) return false;
  if (given == NULL && kernel == NULL) {
    ctx_invalid(ctx, "required attribute \"kernel_shape\" is missing");
    return false;
  }
  if (given != NULL && n != out->n) {
    ctx_invalid(ctx, "kernel_shape has %u entries, expected %u", n, out->n);
    return false;
  }
  for (unsigned i = 0; i < out->n; i++) {
    if (given != NULL && (given[i] < 1 || given[i] > INT32_MAX)) {
      ctx_invalid(ctx, "entry %u of kernel_shape is %lld", i,
                  (long long)given[i]);
      return false;
    }
    out->kernel[i] = kernel != NULL ? kernel[i] : ctx_int(ctx, given[i]);
    if (given != NULL && kernel != NULL)
      ir_check_equal(ctx->b, kernel[i], ctx_int(ctx, given[i]),
                     "kernel_shape and the shape of the weights");
  }
  return ctx_status(ctx) == MOEC_OK;
}

bool window_read(convert_ctx_t *ctx, const ir_value_t *x,
                 const expr_t *const *kernel, window_t *out) {
  static const char *const choices[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER",
                                        "VALID", NULL};
  *out = (window_t){0};
  /* An unfolded tensor has every spatial dimension twice. */
  if (!ctx_check_rank(ctx, x, 3, (IR_MAX_RANK - 2) / 2 + 2, "the input"))
    return false;
  out->n = x->type.rank - 2;
  out->auto_pad = (auto_pad_t)attr_choice(ctx, "auto_pad", choices);
  int64_t pads[2 * IR_MAX_RANK];
  if (!read_kernel(ctx, kernel, out) ||
      !window_read_list(ctx, "strides", out->n, 1, 1, out->strides) ||
      !window_read_list(ctx, "dilations", out->n, 1, 1, out->dilations) ||
      !window_read_list(ctx, "pads", 2 * out->n, 0, 0, pads))
    return false;
  for (unsigned i = 0; i < out->n; i++) {
    bool explicit = out->auto_pad == PAD_NOTSET;
    out->before[i] = ctx_int(ctx, explicit ? pads[i] : 0);
    out->after[i] = ctx_int(ctx, explicit ? pads[out->n + i] : 0);
    out->padded |= explicit && (pads[i] != 0 || pads[out->n + i] != 0);
    out->input_dilation[i] = 1;
  }
  return true;
}

const expr_t *window_extent(convert_ctx_t *ctx, const window_t *w, unsigned i) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *gaps = expr_sub(pool, w->kernel[i], ctx_int(ctx, 1));
  return expr_add(pool, expr_mul(pool, gaps, ctx_int(ctx, w->dilations[i])),
                  ctx_int(ctx, 1));
}

/* out = ceil(d / stride), and the padding that this takes. */
static void same_size(convert_ctx_t *ctx, window_t *w, unsigned i,
                      const expr_t *d) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *stride = ctx_int(ctx, w->strides[i]);
  const expr_t *one = ctx_int(ctx, 1), *two = ctx_int(ctx, 2);
  w->out[i] = expr_ceildiv(pool, d, stride);
  const expr_t *reach =
      expr_add(pool, expr_mul(pool, expr_sub(pool, w->out[i], one), stride),
               window_extent(ctx, w, i));
  const expr_t *total =
      expr_max(pool, ctx_int(ctx, 0), expr_sub(pool, reach, d));
  const expr_t *half = expr_floordiv(pool, total, two);
  const expr_t *rest = expr_sub(pool, total, half);
  w->before[i] = w->auto_pad == PAD_SAME_UPPER ? half : rest;
  w->after[i] = w->auto_pad == PAD_SAME_UPPER ? rest : half;
  w->padded |= !expr_equals_const(total, 0);
}

/* floor or ceil of (d + padding - extent) / stride, plus 1; windows that would
 * start beyond the input and its front padding do not count. */
static void padded_size(convert_ctx_t *ctx, window_t *w, unsigned i,
                        const expr_t *d) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *stride = ctx_int(ctx, w->strides[i]), *one = ctx_int(ctx, 1);
  const expr_t *front = expr_add(pool, d, w->before[i]);
  const expr_t *span = expr_sub(pool, expr_add(pool, front, w->after[i]),
                                window_extent(ctx, w, i));
  if (!w->ceil_mode) {
    w->out[i] = expr_add(pool, expr_floordiv(pool, span, stride), one);
    return;
  }
  const expr_t *starts =
      expr_floordiv(pool, expr_sub(pool, front, one), stride);
  w->out[i] = expr_add(
      pool, expr_min(pool, expr_ceildiv(pool, span, stride), starts), one);
}

bool window_sizes(convert_ctx_t *ctx, const ir_value_t *x, window_t *w) {
  for (unsigned i = 0; i < w->n; i++) {
    const expr_t *d = ctx_dim(x, i + 2);
    int64_t size;
    if (w->auto_pad == PAD_SAME_UPPER || w->auto_pad == PAD_SAME_LOWER)
      same_size(ctx, w, i, d);
    else
      padded_size(ctx, w, i, d);
    if (expr_is_const(w->out[i], &size) && size < 0) {
      ctx_invalid(ctx,
                  "the kernel is larger than the padded dimension %u of %s",
                  i + 2, ctx_type_str(ctx, x));
      return false;
    }
    if (expr_lower_bound(w->out[i], &size) && size >= 0) continue;
    ir_check_equal(ctx->b, expr_max(ctx->exprs, w->out[i], ctx_int(ctx, 0)),
                   w->out[i], "size of the output, at least 0");
  }
  return ctx_status(ctx) == MOEC_OK;
}

const expr_t *window_kernel_count(convert_ctx_t *ctx, const window_t *w) {
  return expr_product(ctx->exprs, w->kernel, w->n);
}

const expr_t *window_out_count(convert_ctx_t *ctx, const window_t *w) {
  return expr_product(ctx->exprs, w->out, w->n);
}

/* A kernel of one element that visits every element once, in order. */
static bool is_trivial(const ir_value_t *x, const window_t *w) {
  for (unsigned i = 0; i < w->n; i++)
    if (!expr_equals_const(w->kernel[i], 1) || w->strides[i] != 1 ||
        w->input_dilation[i] != 1 || !expr_equals_const(w->before[i], 0) ||
        w->out[i] != x->type.dim[i + 2])
      return false;
  return true;
}

/* y[N, C, K.., O..] */
static ir_value_t *unfold(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *fill,
                          const window_t *w) {
  ir_value_t *in[] = {x, fill};
  ir_op_t *op = ir_begin(ctx->b, OP_UNFOLD, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_exprs(op, ATTR_UNFOLD_kernel, w->n, w->kernel);
  ir_set_exprs(op, ATTR_UNFOLD_out, w->n, w->out);
  ir_set_ints(op, ATTR_UNFOLD_strides, w->n, w->strides);
  ir_set_ints(op, ATTR_UNFOLD_dilations, w->n, w->dilations);
  ir_set_exprs(op, ATTR_UNFOLD_pad_before, w->n, w->before);
  ir_set_ints(op, ATTR_UNFOLD_input_dilation, w->n, w->input_dilation);
  return ir_place(ctx->b, op);
}

ir_value_t *window_unfold(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *fill,
                          const window_t *w) {
  if (x == NULL) return NULL;
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_dim(x, 1),
                         window_kernel_count(ctx, w), window_out_count(ctx, w)};
  ir_value_t *y = is_trivial(x, w) ? x : unfold(ctx, x, fill, w);
  return ir_reshape(ctx->b, y, 4, dim);
}

ir_value_t *window_reduce(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *fill, const window_t *w) {
  int64_t axes[IR_MAX_RANK];
  if (x == NULL || is_trivial(x, w)) return x;
  for (unsigned i = 0; i < w->n; i++) axes[i] = 2 + i;
  return ir_reduce(ctx->b, code, unfold(ctx, x, fill, w), w->n, axes, false);
}

ir_value_t *window_fold_shape(convert_ctx_t *ctx, ir_value_t *y,
                              const window_t *w) {
  if (y == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK] = {ctx_dim(y, 0), ctx_dim(y, 1)};
  for (unsigned i = 0; i < w->n; i++) dim[i + 2] = w->out[i];
  return ir_reshape(ctx->b, y, w->n + 2, dim);
}
