/* Numbers of experts that are made of a group's and of one inside it. */
#ifndef PASSES_MOE_LEVELS_H
#define PASSES_MOE_LEVELS_H

#include "passes/moe_rules.h"
#include "passes/moe_term.h"
#include "passes/pass.h"

/* The value behind reshapes, and casts between integers. */
ir_value_t *levels_strip(ir_value_t *x);
/* Whether all elements are in [0, n), as a choice among n has them. */
bool levels_are_below(const ir_value_t *x, int64_t n);
/* Whether number is chosen * size + own: *out_chosen in C order [tokens, a],
 * *out_own [tokens, a, b]. */
bool levels_find_sum(const ir_value_t *number, ir_value_t **out_chosen,
                     ir_value_t **out_own, int64_t *out_size);

/* Such numbers as those of a router: [tokens.., k]. */
typedef struct moe_levels {
  ir_value_t *number;
  ir_value_t *chosen;    /* groups */
  const ir_op_t *choice; /* of experts in each group */
  int64_t experts;
  bool distinct;
  struct moe_levels *next;
} moe_levels_t;

/* Gives numbers of two levels a value in which a token's lie side by side. */
moe_levels_t *moe_write_levels(pass_ctx_t *ctx, ir_func_t *func);
/* Tells new facts of them, before others are asked for. */
void moe_know_levels(moe_facts_t *facts, const moe_levels_t *levels);
/* Whether x is a part of what gates in groups say: in front of a choice there,
 * or behind it; no expert's result. */
bool moe_is_inner_gate(const moe_facts_t *facts, const ir_value_t *x);
/* Whether a layer of these terms is made of the gates in the groups that its
 * router chose: a part of a router, not a layer. */
bool moe_is_half_router(const moe_facts_t *facts, const moe_source_t *source,
                        unsigned n, moe_term_t *const *term);

#endif
