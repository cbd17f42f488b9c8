/* Axes that only a run knows: vectors over the dimensions of a tensor, computed
 * like any other data, and sizes bound to their elements. The axes that a node
 * names are checked at run time: within the rank, each of them once. */
#ifndef FRONTEND_DATA_AXES_H
#define FRONTEND_DATA_AXES_H

#include "frontend/convert.h"

typedef struct data_axes {
  unsigned rank;    /* of the tensor that has the axes, at least 1 */
  const expr_t *n;  /* axes that are named */
  ir_value_t *hit;  /* bool[n, rank]: entry j names axis i */
  ir_value_t *mask; /* i64[rank]: 1 where an entry names the axis, else 0 */
} data_axes_t;

/* Reads axes of shape [n]; negative ones count from the end. False after an
 * error. */
bool data_axes_read(convert_ctx_t *ctx, ir_value_t *axes, unsigned rank,
                    data_axes_t *out);
/* v[n] over the dimensions: i64[rank], `otherwise` where no entry names one. */
ir_value_t *data_axes_spread(convert_ctx_t *ctx, const data_axes_t *axes,
                             ir_value_t *v, ir_value_t *otherwise);
/* Dimensions of x as i64[rank]. */
ir_value_t *data_axes_dims(convert_ctx_t *ctx, const ir_value_t *x);
/* Binds the `rank` elements of v, at least 0. False after an error. */
bool data_axes_bind(convert_ctx_t *ctx, ir_value_t *v, unsigned rank,
                    const char *hint, const expr_t **out);

/* x as y[elements of the other axes, elements of the named ones], both in the
 * order that x has them. out_kept receives the sizes of the other axes, then of
 * the named ones: x's rank of them. */
ir_value_t *data_axes_fold(convert_ctx_t *ctx, ir_value_t *x,
                           const data_axes_t *axes, const expr_t **out_kept);
/* x as y[before, d, after] around one axis, a tensor of one element. */
ir_value_t *data_axes_around(convert_ctx_t *ctx, ir_value_t *x,
                             ir_value_t *axis);

#endif
