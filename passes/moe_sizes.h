/* Arithmetic of sizes for what is only looked at: no model fails to compile
 * because a number that is of no use does not fit an expression. */
#ifndef PASSES_MOE_SIZES_H
#define PASSES_MOE_SIZES_H

#include "ir/ir.h"

/* NULL where an operand is, or where the result may be beyond what expressions
 * hold. */
const expr_t *moe_times(expr_pool_t *pool, const expr_t *a, const expr_t *b);
const expr_t *moe_plus(expr_pool_t *pool, const expr_t *a, const expr_t *b);
/* Whether a number is an integer that a double holds exactly. */
bool moe_whole_number(double x, int64_t *out);

#endif
