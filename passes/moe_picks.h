/* What a token's own expert made, among what all experts made of all tokens. */
#ifndef PASSES_MOE_PICKS_H
#define PASSES_MOE_PICKS_H

#include "passes/moe_facts.h"

typedef struct moe_pick {
  const moe_fact_t *fact; /* of the experts' numbers */
  ir_value_t *x;          /* [T, experts, ..] or [experts, T, ..] */
  unsigned expert_axis;   /* 0 or 1 */
  bool joined; /* x is a concat [experts * T, ..] of the experts' parts */
  uint8_t tag[IR_MAX_RANK]; /* of the index */
  unsigned lead; /* dimensions of the result that are the index's; those behind
                    are x's */
} moe_pick_t;

/* What may be the experts' numbers where a gather from a stack that was made
 * flat has an index of them and of tokens, by its looks; NULL: nothing. */
ir_value_t *moe_flat_candidate(const ir_op_t *op, const expr_t **out_experts);
/* Whether a gather takes the rows of each token's own experts. */
bool moe_pick_of(moe_facts_t *facts, const ir_op_t *op, moe_pick_t *out);
/* The fact of the experts in an index token * experts + expert, or expert *
 * tokens + token, and its tags; FACT_NONE: it is none. */
const moe_fact_t *moe_flat_expert(moe_facts_t *facts, ir_value_t *index,
                                  uint8_t *out_tag, bool *out_expert_first);

#endif
