/* Whether a layer makes anything needless. */
#ifndef PASSES_MOE_SAVING_H
#define PASSES_MOE_SAVING_H

#include "passes/moe_emit.h"

/* Whether experts have more than scales and offsets, so that there is work to
 * leave out: matrices of their own where only the uses of a value make it a
 * router. */
bool moe_is_worth(const moe_found_t *found);

/* Whether experts have matrices whose products a layer may save. */
bool moe_has_products(const moe_found_t *found);

/* Whether a product is of no use any more once the layer stands for its root;
 * `live`, by number: values that are of use when all layers do. */
bool moe_saves_products(moe_facts_t *facts, const moe_found_t *found,
                        const bool *live);

#endif
