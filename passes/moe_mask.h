/* Experts that a condition chooses, any number of them for each token. */
#ifndef PASSES_MOE_MASK_H
#define PASSES_MOE_MASK_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

typedef struct moe_mask {
  ir_value_t *value; /* bool [tokens.., experts], or a gate of that shape */
  ir_value_t *index; /* i64 of the same shape: the expert, or -1 */
  unsigned axis;     /* of the experts */
  double off;        /* of value, where the expert is not chosen */
  int64_t chosen;    /* how many if no scores are equal; 0: it varies */
  struct moe_mask *next;
} moe_mask_t;

/* Finds conditions that put zeros in the place of numbers, and writes for each
 * the numbers of the experts that it chooses; nothing reads these unless a
 * layer is found. */
moe_mask_t *moe_write_masks(pass_ctx_t *ctx, ir_func_t *func,
                            moe_facts_t *facts);
/* Notes the facts of the masks. */
void moe_note_masks(moe_facts_t *facts, const moe_mask_t *masks);

#endif
