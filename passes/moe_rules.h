/* The transfer rules of facts, by operation: each gives the fact of a value
 * from those of its operation's operands, or NULL where there is none. */
#ifndef PASSES_MOE_RULES_H
#define PASSES_MOE_RULES_H

#include "passes/moe_facts.h"
#include "passes/rules.h"

struct moe_facts {
  arena_t *arena;
  ir_func_t *func;
  expr_pool_t *pool;
  const moe_fact_t **of; /* by number of the value; NULL: not asked yet */
  unsigned n_values, n_symbols, depth;
  bool has_slots;           /* experts of single slots occur */
  const ir_op_t **bound_by; /* bind, by index of its symbol */
};

extern const moe_fact_t moe_no_fact;

moe_fact_t *moe_fact_new(moe_facts_t *facts, moe_fact_kind_t kind,
                         const moe_source_t *source);
moe_fact_t *moe_fact_copy(moe_facts_t *facts, const moe_fact_t *fact);
/* The element of a tensor that was bound as this size, or NULL. */
ir_value_t *moe_bound_value(moe_facts_t *facts, const expr_symbol_t *symbol,
                            int64_t *out_index);

#define MOE_RULE(name) \
  const moe_fact_t *moe_rule_##name(moe_facts_t *facts, ir_value_t *value)
/* moe_rules_route.c: routers, sorting, masks' rows, counts */
MOE_RULE(topk);
MOE_RULE(arg_max);
MOE_RULE(nonzero);
MOE_RULE(cum_sum);
MOE_RULE(scatter);
MOE_RULE(gather);
/* moe_rules_view.c: shapes */
MOE_RULE(expand);
MOE_RULE(reshape);
MOE_RULE(transpose);
MOE_RULE(slice);
MOE_RULE(concat);
/* moe_rules_gate.c: what is zero off the chosen experts */
MOE_RULE(elementwise);
MOE_RULE(reduce);
MOE_RULE(softmax);
MOE_RULE(matmul);
MOE_RULE(if);
#undef MOE_RULE

/* The fact of a value that says which experts each token has. */
const moe_fact_t *moe_new_router(moe_facts_t *facts, ir_value_t *index,
                                 int slot, int64_t experts, bool distinct);
/* Numbers that are computed from experts, coordinates, bounds; NULL: none. */
const moe_fact_t *moe_rule_number(moe_facts_t *facts, ir_value_t *value);
/* EXPERT facts whose numbers are the experts themselves. */
bool moe_is_expert(const moe_fact_t *fact);
/* The number that all elements of a value are, of any numeric type. */
bool moe_fill_number(const ir_value_t *value, double *out);
/* The dimension of a constant along which it counts 0, 1, .., n-1, all others
 * being 1; -1: it does not. */
int moe_counting_axis(const ir_value_t *value, int64_t n);

#endif
