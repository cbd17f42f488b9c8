/* Which integers a value can have. */
#ifndef PASSES_MOE_INTEGERS_H
#define PASSES_MOE_INTEGERS_H

#include "ir/ir.h"

typedef struct moe_integers {
  int64_t lo, hi; /* INT64_MIN and INT64_MAX where nothing is known */
} moe_integers_t;

/* Bounds of all elements of an integer value, whatever the inputs are. */
moe_integers_t moe_integers_of(const ir_value_t *value);
/* All elements are in [0, n). */
bool moe_integers_below(const ir_value_t *value, int64_t n);
/* Where all elements come from a constant table: which numbers of [0, n) are in
 * it. False where they do not. */
bool moe_integers_in_table(const ir_value_t *value, int64_t n, bool *out_seen);
/* No number is twice in a row (along the last axis) of a constant. */
bool moe_integers_rows_differ(const ir_op_t *table);

#endif
