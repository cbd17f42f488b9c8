/* Between topk.c and topk_sums.c. */
#ifndef RUNTIME_TOPK_SUMS_H
#define RUNTIME_TOPK_SUMS_H

#include "runtime/runtime.h"

enum { MOERT_TOPK_SUMS_LIMIT = 32 }; /* of k */

/* The indices of the k largest of x[n], as TopK orders them; k is at most that
 * limit. */
void topk_order_f32(const float *x, int64_t n, int64_t k, int64_t *indices);

#endif
