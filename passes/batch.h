/* Operations for many rows at once: what a region computes for one of them,
 * computed for all along a new first dimension. */
#ifndef PASSES_BATCH_H
#define PASSES_BATCH_H

#include "ir/build.h"

typedef struct batch {
  ir_builder_t *b; /* where the new operations go */
  arena_t *scratch;
  const expr_t *n;      /* rows */
  ir_region_t *region;  /* what is computed for each of them */
  ir_value_t **by;      /* by number: what stands for a value of the region */
  bool *rowed;          /* by number: whether that has rows */
  const bool *left_out; /* by number of a result: operations to skip */
  unsigned depth;       /* of branches; operations there must not fail */
} batch_t;

/* Numbers of the function's values must be dense. */
void batch_begin(batch_t *t, ir_builder_t *b, arena_t *scratch,
                 ir_region_t *region, const expr_t *n, unsigned n_values);
void batch_set(batch_t *t, const ir_value_t *value, ir_value_t *by, bool rowed);
/* All operations in front of the region's end; false where one cannot be
 * computed so. What was built until then is left to be erased. */
bool batch_all(batch_t *t, const ir_region_t *region);
/* What stands for a value, with rows: [n, ..]; NULL: building failed. */
ir_value_t *batch_rows(batch_t *t, ir_value_t *value);

#endif
