/* Sliding windows over the spatial dimensions of x[N, C, D..], as convolutions
 * and poolings have them. */
#ifndef FRONTEND_WINDOW_H
#define FRONTEND_WINDOW_H

#include "frontend/convert.h"

typedef enum {
  PAD_NOTSET,
  PAD_SAME_UPPER,
  PAD_SAME_LOWER,
  PAD_VALID
} auto_pad_t;

typedef struct window {
  unsigned n; /* spatial dimensions */
  const expr_t *kernel[IR_MAX_RANK];
  int64_t strides[IR_MAX_RANK], dilations[IR_MAX_RANK];
  int64_t input_dilation[IR_MAX_RANK]; /* 1 but for transposed convolutions */
  const expr_t *before[IR_MAX_RANK], *after[IR_MAX_RANK]; /* padding */
  const expr_t *out[IR_MAX_RANK];
  auto_pad_t auto_pad;
  bool padded;    /* some padding is not 0 */
  bool ceil_mode; /* the last window may reach beyond the padding */
} window_t;

/* A list attribute of n entries of at least `least`; `otherwise` for each where
 * it is left out. False after an error. */
bool window_read_list(convert_ctx_t *ctx, const char *name, unsigned n,
                      int64_t least, int64_t otherwise, int64_t *out);
/* Reads auto_pad, strides, dilations and pads. `kernel` is the attribute
 * kernel_shape where that is NULL. *x must have `n` dimensions after the first
 * two. False after an error. */
bool window_read(convert_ctx_t *ctx, const ir_value_t *x,
                 const expr_t *const *kernel, window_t *out);
/* Fills in `out`, and padding for auto_pad. */
bool window_sizes(convert_ctx_t *ctx, const ir_value_t *x, window_t *w);
/* (kernel - 1) * dilation + 1 of a dimension. */
const expr_t *window_extent(convert_ctx_t *ctx, const window_t *w, unsigned i);

/* Windows of x with `fill` outside, as y[N, C, product of K, product of O]. */
ir_value_t *window_unfold(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *fill,
                          const window_t *w);
/* The reduction `code` of every window: y[N, C, O..]. */
ir_value_t *window_reduce(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *fill, const window_t *w);
/* y[N, C, product of O] as y[N, C, O..]. */
ir_value_t *window_fold_shape(convert_ctx_t *ctx, ir_value_t *y,
                              const window_t *w);
const expr_t *window_kernel_count(convert_ctx_t *ctx, const window_t *w);
const expr_t *window_out_count(convert_ctx_t *ctx, const window_t *w);

/* Windows [N, C, K, O] of x by w[M, C/g, K..] in the node's groups, with the
 * bias where that is not NULL: y[N, M, O..]. */
ir_value_t *window_product(convert_ctx_t *ctx, const ir_value_t *x,
                           const window_t *window, ir_value_t *windows,
                           ir_value_t *w, ir_value_t *bias);

/* Conv of x[N, C, D..] with w[M, C/g, K..] by the node's attributes; bias may
 * be NULL. Integers are multiplied in their own type. */
ir_value_t *window_convolve(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *w,
                            ir_value_t *bias);

#endif
