/* What experts give for each route, where no sum over a token's slots puts it
 * together: projections to queries, results that are stacked or compared. */
#ifndef PASSES_MOE_APART_H
#define PASSES_MOE_APART_H

#include "passes/moe_match.h"

/* The router whose experts `op` may be the last to compute with; NULL: none. */
const moe_source_t *moe_routes_end(moe_builder_t *b, const ir_op_t *op);
/* The layer whose results for routes `op`, or views behind it, are. */
moe_found_t *moe_match_apart(moe_builder_t *b, const ir_op_t *op,
                             const moe_source_t *source);
/* Which values are of use when layers have taken the places of what they stand
 * for: by number. */
void moe_find_live(moe_facts_t *facts, moe_terms_t *terms,
                   moe_found_t *const *by_root, bool *out_live);

#endif
