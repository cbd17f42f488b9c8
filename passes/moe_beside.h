/* Experts that every token runs through, beside those of a layer. */
#ifndef PASSES_MOE_BESIDE_H
#define PASSES_MOE_BESIDE_H

#include "passes/moe_emit.h"

/* How many there are; before anything is rewritten. */
int64_t moe_count_shared(const moe_found_t *found);

#endif
