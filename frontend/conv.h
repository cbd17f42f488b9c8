/* What convolutions and transposed ones share. */
#ifndef FRONTEND_CONV_H
#define FRONTEND_CONV_H

#include "frontend/window.h"

typedef struct conv {
  window_t w;
  int64_t groups;
  const expr_t *g;
  const expr_t *in_each, *out_each; /* channels of a group */
} conv_t;

/* The node's groups; false after an error. */
bool conv_read_groups(convert_ctx_t *ctx, conv_t *conv);
/* a / b, checked to have no remainder. */
const expr_t *conv_shared_out(convert_ctx_t *ctx, const expr_t *a,
                              const expr_t *b, const char *what);
/* x and w[M, C/g, K..] as y[N, M, O..]. */
ir_value_t *conv_multiply(convert_ctx_t *ctx, const conv_t *conv, ir_value_t *x,
                          ir_value_t *w);
/* y[N, M, O..] with bias[M], which may be NULL, added. */
ir_value_t *conv_with_bias(convert_ctx_t *ctx, ir_value_t *y, ir_value_t *bias);

#endif
