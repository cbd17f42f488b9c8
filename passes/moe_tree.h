/* Choices in several steps: trees of conditions. */
#ifndef PASSES_MOE_TREE_H
#define PASSES_MOE_TREE_H

#include "passes/moe_facts.h"
#include "passes/pass.h"

/* Writes trees of choices whose leaves are computed for all rows as one choice
 * by the number of the leaf. Values must be numbered; whether it wrote any. */
bool moe_write_trees(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts);

#endif
