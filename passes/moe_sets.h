/* Routers whose experts have a condition each. */
#ifndef PASSES_MOE_SETS_H
#define PASSES_MOE_SETS_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

/* The conditions of the parts of a sum, and the experts that they choose. */
typedef struct moe_set {
  unsigned n;
  ir_value_t **condition; /* by expert */
  ir_value_t *all;        /* these side by side: bool [tokens.., n] */
  ir_value_t *index;      /* i64: of that shape, or [tokens..] if `alone` */
  ir_value_t *scores; /* [tokens.., n] whose columns are compared, or NULL */
  unsigned axis;      /* of these columns */
  bool alone;         /* a token has one expert at most */
  bool some;          /* or none */
  struct moe_set *next;
} moe_set_t;

/* Finds sums of what experts give where conditions of their own hold, of which
 * nothing is known yet, and writes the numbers of the experts that these
 * choose, behind those in `sets`; nothing reads these unless a layer is found.
 * `sure`: only conditions on columns of one tensor, one for each, and those of
 * which no two can hold at once. */
void moe_write_sets(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                    bool sure, moe_set_t **sets);
/* Notes the facts of the conditions. */
void moe_note_sets(moe_facts_t *facts, const moe_set_t *sets);

#endif
