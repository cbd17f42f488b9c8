/* How often loops run, and which of their values count trips. */
#ifndef PASSES_TRIPS_H
#define PASSES_TRIPS_H

#include "ir/build.h"

/* A number that is base + step * i in trip i = 0, 1, .. */
typedef struct linear {
  const expr_t *base;
  int64_t step;
  int64_t most; /* it was held in a type that has all integers up to here */
} linear_t;

/* Whether a value of one element is such a number: seen from inside of a while,
 * or from in front of it (with step 0). */
bool trips_linear(const ir_op_t *loop, const ir_value_t *value, linear_t *out);

/* The number of trips of a while whose conditions compare counters with sizes
 * that are known in front of it; NULL where that cannot be shown. It holds if
 * the number is at most *out_most. */
const expr_t *trips_count(const ir_op_t *loop, int64_t *out_most);

#endif
