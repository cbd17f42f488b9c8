/* Experts that work on buffers of their own, with a place for each route. */
#ifndef PASSES_MOE_BUFFER_H
#define PASSES_MOE_BUFFER_H

#include "passes/moe_match.h"

/* The product that takes rows back from the buffers by a gate of tokens,
 * experts and places, if `op` is one: out[t] = sum of gate[t, e, c] * y[e, c].
 */
moe_found_t *moe_match_buffers(moe_builder_t *b, const ir_op_t *op,
                               const moe_source_t *source);
/* The router of one slot whose rows a value takes from the buffers, and weighs,
 * within so many steps; NULL: it does something else. */
const moe_source_t *moe_slot_of_buffer(moe_builder_t *b,
                                       const ir_value_t *value,
                                       unsigned *steps);
/* A sum of what each slot takes from the buffers. */
moe_found_t *moe_match_slot_buffers(moe_builder_t *b, ir_value_t *root,
                                    const moe_sum_t *sum,
                                    const moe_source_t *source);
/* Routes without a place: what was read holds for the others only, so the
 * layer's result must be 0 for these. False where it may be something else. */
bool moe_settle_places(moe_builder_t *b, moe_found_t *found);

#endif
