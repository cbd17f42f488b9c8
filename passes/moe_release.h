/* Sizes that were experts' numbers of rows. */
#ifndef PASSES_MOE_RELEASE_H
#define PASSES_MOE_RELEASE_H

#include "passes/moe_facts.h"

/* After layers were written: marks `bind`s of such sizes as sure, so that they
 * go where nothing has them, and erases comparisons that hold. */
void moe_release_sizes(moe_facts_t *facts, ir_func_t *func);

#endif
