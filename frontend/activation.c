/* Activation functions that several operators have. */
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

/* alpha * x, x itself for 1 */
static ir_value_t *scaled(convert_ctx_t *ctx, ir_value_t *x, double alpha) {
  return alpha == 1 ? x : mul(ctx, num(ctx, x, alpha), x);
}

ir_value_t *activation_leaky_relu(convert_ctx_t *ctx, ir_value_t *x,
                                  double alpha, double beta) {
  (void)beta;
  ir_value_t *below = ir_binary(ctx->b, OP_LT, x, num(ctx, x, 0));
  return ir_select(ctx->b, below, mul(ctx, num(ctx, x, alpha), x), x);
}

ir_value_t *activation_elu(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                           double beta) {
  (void)beta;
  ir_value_t *below = ir_binary(ctx->b, OP_LT, x, num(ctx, x, 0));
  ir_value_t *grown = ir_unary(ctx->b, OP_EXPM1, x);
  grown = mul(ctx, grown, num(ctx, x, alpha));
  return ir_select(ctx->b, below, grown, x);
}

/* max(x, 0) + log1p(exp(-|x|)), which does not overflow */
ir_value_t *activation_softplus(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                                double beta) {
  (void)alpha;
  (void)beta;
  ir_value_t *away = ir_unary(ctx->b, OP_NEG, ir_unary(ctx->b, OP_ABS, x));
  ir_value_t *rest = ir_unary(ctx->b, OP_LOG1P, ir_unary(ctx->b, OP_EXP, away));
  return add(ctx, ir_binary(ctx->b, OP_MAX, x, num(ctx, x, 0)), rest);
}

ir_value_t *activation_softsign(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                                double beta) {
  (void)alpha;
  (void)beta;
  ir_value_t *size = ir_unary(ctx->b, OP_ABS, x);
  ir_value_t *below = add(ctx, size, num(ctx, x, 1));
  return ir_binary(ctx->b, OP_DIV, x, below);
}

ir_value_t *activation_hard_sigmoid(convert_ctx_t *ctx, ir_value_t *x,
                                    double alpha, double beta) {
  ir_value_t *line = mul(ctx, num(ctx, x, alpha), x);
  line = add(ctx, line, num(ctx, x, beta));
  ir_value_t *capped = ir_binary(ctx->b, OP_MIN, line, num(ctx, x, 1));
  return ir_binary(ctx->b, OP_MAX, capped, num(ctx, x, 0));
}

/* ---- Those of recurrent operators ---------------------------------------- */

static ir_value_t *relu(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                        double beta) {
  (void)alpha;
  (void)beta;
  return ir_binary(ctx->b, OP_MAX, x, num(ctx, x, 0));
}

static ir_value_t *sigmoid(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                           double beta) {
  (void)alpha;
  (void)beta;
  return ir_unary(ctx->b, OP_SIGMOID, x);
}

static ir_value_t *affine(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                          double beta) {
  ir_value_t *line = scaled(ctx, x, alpha);
  return add(ctx, line, num(ctx, x, beta));
}

/* x < alpha ? 0 : x; the operator ThresholdedRelu gives 0 at alpha too. */
static ir_value_t *thresholded_relu(convert_ctx_t *ctx, ir_value_t *x,
                                    double alpha, double beta) {
  (void)beta;
  ir_value_t *below = ir_binary(ctx->b, OP_LT, x, num(ctx, x, alpha));
  return ir_select(ctx->b, below, num(ctx, x, 0), x);
}

/* alpha * tanh(beta * x) */
static ir_value_t *scaled_tanh(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                               double beta) {
  ir_value_t *inner = ir_unary(ctx->b, OP_TANH, scaled(ctx, x, beta));
  return scaled(ctx, inner, alpha);
}

static ir_value_t *tanh_of(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                           double beta) {
  (void)alpha;
  (void)beta;
  return ir_unary(ctx->b, OP_TANH, x);
}

/* Defaults are those of the operators; ScaledTanh has none that does not scale
 * by 1. */
static const activation_kind_t kinds[] = {
    {"Relu", false, false, 0, 0, relu},
    {"Tanh", false, false, 0, 0, tanh_of},
    {"Sigmoid", false, false, 0, 0, sigmoid},
    {"Affine", true, true, 1, 0, affine},
    {"LeakyRelu", true, false, 0.01f, 0, activation_leaky_relu},
    {"ThresholdedRelu", true, false, 1, 0, thresholded_relu},
    {"ScaledTanh", true, true, 1, 1, scaled_tanh},
    {"HardSigmoid", true, true, 0.2f, 0.5, activation_hard_sigmoid},
    {"Elu", true, false, 1, 0, activation_elu},
    {"Softsign", false, false, 0, 0, activation_softsign},
    {"Softplus", false, false, 0, 0, activation_softplus},
};

static char lower_case(char c) {
  return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

const activation_kind_t *activation_find(const char *name) {
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    const char *a = name, *b = kinds[i].name;
    for (; *a != '\0' && lower_case(*a) == lower_case(*b); a++) b++;
    if (*a == '\0' && *b == '\0') return &kinds[i];
  }
  return NULL;
}
