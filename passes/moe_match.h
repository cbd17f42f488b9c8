/* From sums over experts to layers. */
#ifndef PASSES_MOE_MATCH_H
#define PASSES_MOE_MATCH_H

#include "passes/moe_emit.h"
#include "passes/moe_sum.h"

/* A layer of one structure, with all experts; `active` may be NULL. */
moe_found_t *moe_new_found(moe_builder_t *b, ir_value_t *root,
                           const uint8_t *tag, const moe_source_t *source,
                           moe_term_t *term, moe_form_t form,
                           moe_term_t *active);
/* How a layout spells a layer, and how rows came to their experts. */
moe_form_t moe_form_of(const moe_layout_t *layout);
moe_form_t moe_form_of_rows(const moe_builder_t *b);
/* Tags of tensors whose first dimensions are a router's tokens, then its slots,
 * or slots, then tokens; false: they are not. */
bool moe_route_tags(moe_builder_t *b, const ir_type_t *type,
                    const moe_source_t *source, unsigned slot, uint8_t *tag);
/* A layer of all experts of a router whose parts are in a sum, one by one. */
moe_found_t *moe_match_members(moe_builder_t *b, ir_value_t *root,
                               const moe_sum_t *sum,
                               const moe_source_t *source);
/* The same where the experts of each slot are in the sum (moe_slots.c). */
moe_found_t *moe_match_slotwise(moe_builder_t *b, ir_value_t *root,
                                const moe_sum_t *sum,
                                const moe_source_t *source);
/* Whether a sum has parts of every slot of a router. */
bool moe_has_all_slots(const moe_sum_t *sum, const moe_source_t *source);
/* What the parts of a router in a sum make up, with root as the sum; NULL where
 * something cannot be shown (the builder has the blocker). */
moe_found_t *moe_match_sum(moe_builder_t *b, ir_value_t *root,
                           const moe_sum_t *sum, const moe_source_t *source);
/* The sum over a token's slots that `op` is, if it is one. */
moe_found_t *moe_match_slots(moe_builder_t *b, const ir_op_t *op,
                             const moe_source_t *source);
/* The product that sums over experts or slots, if `op` is one. */
moe_found_t *moe_match_product(moe_builder_t *b, const ir_op_t *op,
                               const moe_source_t *source);
/* With one expert per token there is no sum: the value that `op` gives. */
moe_found_t *moe_match_single(moe_builder_t *b, const ir_op_t *op,
                              const moe_source_t *source);

#endif
