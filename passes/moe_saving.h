/* Whether a layer makes anything needless. */
#ifndef PASSES_MOE_SAVING_H
#define PASSES_MOE_SAVING_H

#include "passes/moe_emit.h"

/* Whether a product is of no use any more once the layer stands for its root;
 * `live`, by number: values that are of use when all layers do. */
bool moe_saves_products(moe_facts_t *facts, const moe_found_t *found,
                        const bool *live);

#endif
