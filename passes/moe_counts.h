/* Constants that count. */
#ifndef PASSES_MOE_COUNTS_H
#define PASSES_MOE_COUNTS_H

#include "passes/pass.h"

typedef struct moe_count {
  ir_value_t *constant, *value;
  struct moe_count *next;
} moe_count_t;

/* Writes constants that pick or place rows as what computes them: of a model
 * whose sizes are all known, numbers of tokens and routes are constants. */
moe_count_t *moe_write_counts(pass_ctx_t *ctx, ir_func_t *func);
/* Takes back those that are still used. */
void moe_fold_counts(const moe_count_t *counts);

#endif
