/* Steps of optimizers, ai.onnx.preview.training: Adagrad, Adam, Momentum. */
#include "frontend/convert.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static ir_value_t *times(convert_ctx_t *ctx, ir_value_t *x, double factor) {
  return two(ctx, OP_MUL, x, ctx_scalar(ctx, x, factor));
}

/* The number of tensors that are updated, each with `each` operands after the
 * rate and the count of steps; 0 after an error. */
static unsigned n_tensors(convert_ctx_t *ctx, unsigned each) {
  unsigned n = ctx->n_in > 2 ? (ctx->n_in - 2) / each : 0;
  if (n > 0 && ctx->n_in == 2 + each * n && ctx->n_out == (each - 1) * n)
    return n;
  ctx_invalid(ctx, "%u inputs and %u outputs do not fit", ctx->n_in,
              ctx->n_out);
  return 0;
}

/* gradient + norm_coefficient * x */
static ir_value_t *regularized(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *g,
                               double norm) {
  return norm == 0 ? g : two(ctx, OP_ADD, times(ctx, x, norm), g);
}

moec_status_t convert_adagrad(convert_ctx_t *ctx) {
  double decay = attr_float(ctx, "decay_factor", 0);
  double epsilon = attr_float(ctx, "epsilon", 1e-6f);
  double norm = attr_float(ctx, "norm_coefficient", 0);
  unsigned n = n_tensors(ctx, 3);
  ir_value_t *rate = ctx_scalar_f64(ctx, 0), *t = ctx_scalar_f64(ctx, 1);
  if (n == 0 || rate == NULL || t == NULL) return ctx_status(ctx);
  ir_value_t *below = times(ctx, t, decay);
  below = two(ctx, OP_ADD, below, ctx_scalar(ctx, t, 1));
  rate = two(ctx, OP_DIV, rate, below);
  for (unsigned i = 0; i < n; i++) {
    ir_value_t *x = ctx_in(ctx, 2 + i), *h = ctx_in(ctx, 2 + 2 * n + i);
    ir_value_t *g = regularized(ctx, x, ctx_in(ctx, 2 + n + i), norm);
    h = two(ctx, OP_ADD, h, two(ctx, OP_MUL, g, g));
    ir_value_t *root = ir_unary(ctx->b, OP_SQRT, h);
    root = two(ctx, OP_ADD, root, ctx_scalar(ctx, root, epsilon));
    ir_value_t *step = two(ctx, OP_MUL, ctx_like(ctx, rate, x), g);
    ctx_set_output(ctx, i, two(ctx, OP_SUB, x, two(ctx, OP_DIV, step, root)));
    ctx_set_output(ctx, n + i, h);
  }
  return ctx_status(ctx);
}

/* rate * sqrt(1 - beta^t) / (1 - alpha^t), the rate alone in the first step */
static ir_value_t *adam_rate(convert_ctx_t *ctx, double alpha, double beta) {
  ir_builder_t *b = ctx->b;
  ir_value_t *rate = ctx_scalar_f64(ctx, 0), *t = ctx_scalar_f64(ctx, 1);
  if (rate == NULL || t == NULL) return NULL;
  ir_value_t *one = ctx_scalar(ctx, t, 1);
  ir_value_t *above = two(ctx, OP_POW, ctx_scalar(ctx, t, beta), t);
  ir_value_t *below = two(ctx, OP_POW, ctx_scalar(ctx, t, alpha), t);
  above = ir_unary(b, OP_SQRT, two(ctx, OP_SUB, one, above));
  above = two(ctx, OP_DIV, above, two(ctx, OP_SUB, one, below));
  ir_value_t *later = two(ctx, OP_LT, ctx_scalar(ctx, t, 0), t);
  return ir_select(b, later, two(ctx, OP_MUL, rate, above), rate);
}

moec_status_t convert_adam(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 0.9f);
  double beta = attr_float(ctx, "beta", 0.999f);
  double epsilon = attr_float(ctx, "epsilon", 1e-6f);
  double norm = attr_float(ctx, "norm_coefficient", 0);
  double post = attr_float(ctx, "norm_coefficient_post", 0);
  unsigned n = n_tensors(ctx, 4);
  ir_value_t *rate = adam_rate(ctx, alpha, beta);
  if (n == 0 || rate == NULL) return ctx_status(ctx);
  for (unsigned i = 0; i < n; i++) {
    ir_value_t *x = ctx_in(ctx, 2 + i);
    ir_value_t *v = ctx_in(ctx, 2 + 2 * n + i), *h = ctx_in(ctx, 2 + 3 * n + i);
    ir_value_t *g = regularized(ctx, x, ctx_in(ctx, 2 + n + i), norm);
    ir_value_t *moved = times(ctx, g, 1 - alpha);
    v = two(ctx, OP_ADD, times(ctx, v, alpha), moved);
    ir_value_t *square = times(ctx, two(ctx, OP_MUL, g, g), 1 - beta);
    h = two(ctx, OP_ADD, times(ctx, h, beta), square);
    ir_value_t *root = ir_unary(ctx->b, OP_SQRT, h);
    root = two(ctx, OP_ADD, root, ctx_scalar(ctx, root, epsilon));
    ir_value_t *step = two(ctx, OP_DIV, v, root);
    step = two(ctx, OP_MUL, ctx_like(ctx, rate, x), step);
    ir_value_t *y = two(ctx, OP_SUB, x, step);
    ctx_set_output(ctx, i, post == 0 ? y : times(ctx, y, 1 - post));
    ctx_set_output(ctx, n + i, v);
    ctx_set_output(ctx, 2 * n + i, h);
  }
  return ctx_status(ctx);
}

moec_status_t convert_momentum(convert_ctx_t *ctx) {
  static const char *const modes[] = {"standard", "nesterov", NULL};
  static const char *const required[] = {"alpha", "beta", "mode",
                                         "norm_coefficient"};
  for (unsigned i = 0; i < 4; i++)
    if (!attr_has(ctx, required[i]))
      return ctx_invalid(ctx, "required attribute \"%s\" is missing",
                         required[i]);
  bool nesterov = attr_choice(ctx, "mode", modes) == 1;
  double alpha = attr_float(ctx, "alpha", 0), beta = attr_float(ctx, "beta", 0);
  double norm = attr_float(ctx, "norm_coefficient", 0);
  unsigned n = n_tensors(ctx, 3);
  ir_value_t *rate = ctx_scalar_f64(ctx, 0), *t = ctx_scalar_f64(ctx, 1);
  if (n == 0 || rate == NULL || t == NULL) return ctx_status(ctx);
  ir_value_t *later = two(ctx, OP_LT, ctx_scalar(ctx, t, 0), t);
  ir_value_t *share = ctx_scalar(ctx, t, beta);
  share = ir_select(ctx->b, later, share, ctx_scalar(ctx, t, 1));
  for (unsigned i = 0; i < n; i++) {
    ir_value_t *x = ctx_in(ctx, 2 + i), *v = ctx_in(ctx, 2 + 2 * n + i);
    ir_value_t *g = regularized(ctx, x, ctx_in(ctx, 2 + n + i), norm);
    ir_value_t *added = two(ctx, OP_MUL, ctx_like(ctx, share, g), g);
    v = two(ctx, OP_ADD, times(ctx, v, alpha), added);
    ir_value_t *way = nesterov ? two(ctx, OP_ADD, g, times(ctx, v, alpha)) : v;
    ir_value_t *step = two(ctx, OP_MUL, ctx_like(ctx, rate, x), way);
    ctx_set_output(ctx, i, two(ctx, OP_SUB, x, step));
    ctx_set_output(ctx, n + i, v);
  }
  return ctx_status(ctx);
}
