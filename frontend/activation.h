/* Activation functions that several operators have. f16 and bf16 operands are
 * widened by the caller. */
#ifndef FRONTEND_ACTIVATION_H
#define FRONTEND_ACTIVATION_H

#include "frontend/convert.h"

/* x < 0 ? alpha * x : x */
ir_value_t *activation_leaky_relu(convert_ctx_t *ctx, ir_value_t *x,
                                  double alpha, double beta);
/* x < 0 ? alpha * (exp(x) - 1) : x */
ir_value_t *activation_elu(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                           double beta);
/* log(1 + exp(x)) */
ir_value_t *activation_softplus(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                                double beta);
/* x / (1 + |x|) */
ir_value_t *activation_softsign(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                                double beta);
/* max(0, min(1, alpha * x + beta)) */
ir_value_t *activation_hard_sigmoid(convert_ctx_t *ctx, ir_value_t *x,
                                    double alpha, double beta);

/* What recurrent operators name in "activations". */
typedef struct activation_kind {
  const char *name;
  bool has_alpha, has_beta; /* takes the next of activation_alpha, .._beta */
  double alpha, beta;       /* defaults */
  ir_value_t *(*apply)(convert_ctx_t *ctx, ir_value_t *x, double alpha,
                       double beta);
} activation_kind_t;

/* NULL if there is none; case does not matter. */
const activation_kind_t *activation_find(const char *name);

#endif
