/* What is told about a layer that was found. */
#ifndef PASSES_MOE_TELL_H
#define PASSES_MOE_TELL_H

#include "passes/moe_emit.h"
#include "passes/moe_rules.h"

/* Adds a layer that was written, one of the list `first`, to the report, if
 * there is one. */
void moe_tell(pass_ctx_t *ctx, moe_facts_t *facts, const moe_found_t *first,
              moe_found_t *found);

#endif
