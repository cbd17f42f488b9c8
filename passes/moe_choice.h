/* Experts that choose their tokens. */
#ifndef PASSES_MOE_CHOICE_H
#define PASSES_MOE_CHOICE_H

#include "passes/moe_match.h"

/* The scatter that adds experts' rows to the tokens that they chose, if `op` is
 * one. */
moe_found_t *moe_match_choice(moe_builder_t *b, const ir_op_t *op,
                              const moe_source_t *source);
/* How many experts a token has; where experts choose, on average; 0: no such
 * number is known. */
int64_t moe_experts_per_token(const moe_source_t *source);
/* Whether a condition on scores makes some of the numbers 0. */
bool moe_may_vanish(const ir_value_t *weight);

#endif
