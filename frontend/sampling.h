/* Values of images at positions between their elements. */
#ifndef FRONTEND_SAMPLING_H
#define FRONTEND_SAMPLING_H

#include "frontend/convert.h"

/* What stands for elements beyond an image. */
typedef enum { BEYOND_ZERO, BEYOND_BORDER, BEYOND_REFLECT } beyond_t;

/* Where elements are read, along one dimension of the image. */
typedef struct taps {
  unsigned n;
  ir_value_t *place[4];  /* i64[B, 1, P], within the image */
  ir_value_t *weight[4]; /* of the type of the image; NULL: 1 */
} taps_t;

/* Taps of linear (n = 2) or cubic (n = 4) interpolation at positions [B, 1, P],
 * of a float type, in a dimension of size d; of the nearest element for n = 1,
 * then positions are whole numbers. Reflection is at -0.5 and d - 0.5, or at 0
 * and d - 1 where `corners`. Weights are of the type of x. */
taps_t sampling_taps(convert_ctx_t *ctx, const ir_value_t *x, ir_value_t *at,
                     const expr_t *d, unsigned n, beyond_t beyond,
                     bool corners);

/* Reflects positions into [low, high], scalars of the type of `at`. */
ir_value_t *sampling_reflect(convert_ctx_t *ctx, ir_value_t *at,
                             ir_value_t *low, ir_value_t *high);

/* x[B, C, D..] of rank n + 2 at the product of n lists of taps: [B, C, P]. */
ir_value_t *sampling_read(convert_ctx_t *ctx, ir_value_t *x,
                          const taps_t *taps);

/* Element of x[B, C, D..] at places i64[B', 1, P] of each dimension, of image
 * `image` (i64[B', 1, 1], NULL: 0, 1, ..): [B', C, P]. */
ir_value_t *sampling_gather(convert_ctx_t *ctx, ir_value_t *x,
                            ir_value_t *image, ir_value_t *const *place);

#endif
