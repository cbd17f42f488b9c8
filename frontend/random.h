/* Random numbers as operations: element i is a hash of the node's key and of i,
 * so that they are the same for any number of threads and in every run. */
#ifndef FRONTEND_RANDOM_H
#define FRONTEND_RANDOM_H

#include "frontend/convert.h"

/* By the attribute `seed`, or by the names of the node and its results. */
uint64_t random_key(convert_ctx_t *ctx);

/* Numbers of [0, 1) in f32 or f64; `stream` tells apart what one node draws. */
ir_value_t *random_uniform(convert_ctx_t *ctx, uint64_t key, unsigned stream,
                           dtype_t dtype, unsigned rank,
                           const expr_t *const *dim);
/* Numbers of mean 0 and deviation 1. */
ir_value_t *random_normal(convert_ctx_t *ctx, uint64_t key, dtype_t dtype,
                          unsigned rank, const expr_t *const *dim);

#endif
