/* Activation functions. f16 and bf16 are computed in f32 and rounded once. */
#include <math.h>

#include "frontend/activation.h"

static ir_value_t *num(convert_ctx_t *ctx, const ir_value_t *like,
                       double value) {
  return ctx_scalar(ctx, like, value);
}

static ir_value_t *add(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *y) {
  return ir_binary(ctx->b, OP_ADD, x, y);
}

static ir_value_t *mul(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *y) {
  return ir_binary(ctx->b, OP_MUL, x, y);
}

/* Ends a converter: y in the type of input 0. */
static moec_status_t give(convert_ctx_t *ctx, ir_value_t *y) {
  ctx_set_output(ctx, 0, ctx_like(ctx, y, ctx_in(ctx, 0)));
  return MOEC_OK;
}

moec_status_t convert_relu(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  return give(ctx, ir_binary(ctx->b, OP_MAX, x, num(ctx, x, 0)));
}

moec_status_t convert_leaky_relu(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 0.01f);
  return give(ctx, activation_leaky_relu(ctx, ctx_in(ctx, 0), alpha, 0));
}

moec_status_t convert_prelu(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  ir_value_t *below = ir_binary(ctx->b, OP_LT, x, num(ctx, x, 0));
  ir_value_t *scaled = ctx_binary(ctx, OP_MUL, ctx_in(ctx, 1), x);
  return give(ctx, ir_select(ctx->b, below, scaled, x));
}

moec_status_t convert_thresholded_relu(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 1.0);
  ir_value_t *x = ctx_in(ctx, 0);
  ir_value_t *above = ir_binary(ctx->b, OP_LT, num(ctx, x, alpha), x);
  return give(ctx, ir_select(ctx->b, above, x, num(ctx, x, 0)));
}

moec_status_t convert_elu(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 1.0);
  return give(ctx,
              activation_elu(ctx, ctx_widen(ctx, ctx_in(ctx, 0)), alpha, 0));
}

moec_status_t convert_selu(convert_ctx_t *ctx) {
  bool rounded = ctx->opset < 6; /* the defaults */
  double alpha =
      attr_float(ctx, "alpha", rounded ? 1.6732f : 1.67326319217681884765625);
  double gamma =
      attr_float(ctx, "gamma", rounded ? 1.0507f : 1.05070102214813232421875);
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  ir_value_t *y = activation_elu(ctx, x, alpha, 0);
  return give(ctx, mul(ctx, y, num(ctx, x, gamma)));
}

/* max(0, x) + min(0, alpha * (exp(x / alpha) - 1)) */
moec_status_t convert_celu(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 1.0);
  if (alpha == 0) return ctx_invalid(ctx, "attribute \"alpha\" is 0");
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  ir_value_t *zero = num(ctx, x, 0);
  ir_value_t *factor = num(ctx, x, alpha);
  ir_value_t *grown =
      mul(ctx, factor,
          ir_unary(ctx->b, OP_EXPM1, ir_binary(ctx->b, OP_DIV, x, factor)));
  ir_value_t *above = ir_binary(ctx->b, OP_MAX, x, zero);
  ir_value_t *below = ir_binary(ctx->b, OP_MIN, grown, zero);
  return give(ctx, add(ctx, above, below));
}

moec_status_t convert_softplus(convert_ctx_t *ctx) {
  return give(ctx,
              activation_softplus(ctx, ctx_widen(ctx, ctx_in(ctx, 0)), 0, 0));
}

moec_status_t convert_softsign(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  return give(ctx, activation_softsign(ctx, x, 0, 0));
}

moec_status_t convert_hard_sigmoid(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 0.2f);
  double beta = attr_float(ctx, "beta", 0.5);
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  return give(ctx, activation_hard_sigmoid(ctx, x, alpha, beta));
}

moec_status_t convert_hard_swish(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  return give(ctx, mul(ctx, x, activation_hard_sigmoid(ctx, x, 1.0 / 6, 0.5)));
}

/* x * sigmoid(alpha * x) */
static ir_value_t *swish(convert_ctx_t *ctx, ir_value_t *x, double alpha) {
  ir_value_t *scaled = alpha != 1 ? mul(ctx, num(ctx, x, alpha), x) : x;
  return mul(ctx, x, ir_unary(ctx->b, OP_SIGMOID, scaled));
}

moec_status_t convert_swish(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 1.0);
  return give(ctx, swish(ctx, ctx_widen(ctx, ctx_in(ctx, 0)), alpha));
}

moec_status_t convert_swiglu(convert_ctx_t *ctx) {
  double alpha = attr_float(ctx, "alpha", 1.0);
  ir_value_t *gate = ctx_in(ctx, 0), *linear = ctx_in(ctx, 1);
  if (gate->type.rank != linear->type.rank)
    return ctx_invalid(ctx, "inputs have the shapes %s and %s",
                       ctx_type_str(ctx, gate), ctx_type_str(ctx, linear));
  for (unsigned i = 0; i < gate->type.rank; i++)
    ir_check_equal(ctx->b, ctx_dim(gate, i), ctx_dim(linear, i),
                   "dimensions of the inputs");
  ir_value_t *open = swish(ctx, ctx_widen(ctx, gate), alpha);
  return give(ctx, mul(ctx, open, ctx_widen(ctx, linear)));
}

/* x / 2 * (1 + erf(x / sqrt(2))), or with
 * tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) in the place of erf */
moec_status_t convert_gelu(convert_ctx_t *ctx) {
  static const char *const forms[] = {"none", "tanh", NULL};
  unsigned form = attr_choice(ctx, "approximate", forms);
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  ir_value_t *inner;
  if (form == 0) {
    inner = ir_unary(ctx->b, OP_ERF, mul(ctx, x, num(ctx, x, sqrt(0.5))));
  } else {
    ir_value_t *cube = mul(ctx, mul(ctx, x, x), x);
    ir_value_t *sum = add(ctx, x, mul(ctx, num(ctx, x, 0.044715), cube));
    inner = ir_unary(ctx->b, OP_TANH,
                     mul(ctx, num(ctx, x, sqrt(2 / acos(-1.0))), sum));
  }
  ir_value_t *half = mul(ctx, x, num(ctx, x, 0.5));
  return give(ctx, mul(ctx, half, add(ctx, inner, num(ctx, x, 1))));
}

moec_status_t convert_mish(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_widen(ctx, ctx_in(ctx, 0));
  return give(
      ctx, mul(ctx, x,
               ir_unary(ctx->b, OP_TANH, activation_softplus(ctx, x, 0, 0))));
}

/* x < -lambd ? x + bias : x > lambd ? x - bias : 0 */
moec_status_t convert_shrink(convert_ctx_t *ctx) {
  double lambda = attr_float(ctx, "lambd", 0.5);
  double bias = attr_float(ctx, "bias", 0.0);
  ir_value_t *x = ctx_in(ctx, 0);
  if (!dtype_is_float(x->type.dtype)) {
    lambda = trunc(lambda);
    bias = trunc(bias);
  }
  ir_value_t *low = ir_binary(ctx->b, OP_LT, x, num(ctx, x, -lambda));
  ir_value_t *high = ir_binary(ctx->b, OP_LT, num(ctx, x, lambda), x);
  ir_value_t *shift = num(ctx, x, bias);
  ir_value_t *upper = ir_binary(ctx->b, OP_SUB, x, shift);
  upper = ir_select(ctx->b, high, upper, num(ctx, x, 0));
  return give(ctx, ir_select(ctx->b, low, add(ctx, x, shift), upper));
}
