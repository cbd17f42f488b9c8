/* The transfer rules of facts, by operation: each gives the fact of a value
 * from those of its operation's operands, or NULL where there is none. */
#ifndef PASSES_MOE_RULES_H
#define PASSES_MOE_RULES_H

#include "passes/moe_facts.h"
#include "passes/rules.h"

/* Routers of groups and of experts in them, and the one that both make up. */
typedef struct moe_nest {
  ir_value_t *outer, *inner, *whole; /* experts chosen; whole: NULL if wanted */
  struct moe_nest *next;
} moe_nest_t;

/* The expert of sorted rows that an index picks. */
typedef struct moe_group {
  const moe_fact_t *fact; /* NULL: not asked yet */
  int64_t expert;
} moe_group_t;

struct moe_facts {
  arena_t *arena;
  ir_func_t *func;
  expr_pool_t *pool;
  const moe_fact_t **of; /* by number of the value; NULL: not asked yet */
  unsigned n_values, n_symbols, depth;
  unsigned n_nested; /* groups of sorted rows, one by another */
  bool has_slots;    /* experts of single slots occur */
  bool has_choices;  /* some experts choose their tokens */
  unsigned n_joints, n_wanted;
  moe_nest_t *nests, *wanted_nests;
  const struct moe_levels *levels; /* routers of two levels */
  const moe_source_t **joint;      /* routers with parts */
  const moe_source_t **wanted;     /* pairs of parts without one */
  uint32_t *owner;                 /* of moe_find_shared: by number, all 0 */
  struct moe_samples *samples;     /* of moe_is_count and the like */
  int64_t n_numbers;               /* in maps of facts */
  int64_t n_searched;              /* of experts, for those with some number */
  const ir_op_t **bound_by;        /* bind, by index of its symbol */
  moe_group_t *groups;             /* of moe_group_of, by number; or NULL */
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
MOE_RULE(scatter);
MOE_RULE(gather);
/* moe_rules_count.c: how many routes experts have */
MOE_RULE(cum_sum);
MOE_RULE(pad);
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
/* moe_rules_rank.c: places in experts' buffers */
MOE_RULE(gather_elements);
MOE_RULE(rank);
MOE_RULE(concat_ranks);
/* moe_rules_place.c: numbers of places, one-hot vectors */
MOE_RULE(buffer);
MOE_RULE(place);
/* moe_rules_order.c: tokens in another order, and back, by gather or scatter */
MOE_RULE(order);
MOE_RULE(order_back);
MOE_RULE(sorted_place);
#undef MOE_RULE

/* Ones that are added up where an index says. */
const moe_fact_t *moe_count_by_index(moe_facts_t *facts, const ir_op_t *op,
                                     const moe_fact_t *index);
/* What all routes have, written where they are when sorted. */
const moe_fact_t *moe_sorted_numbers(moe_facts_t *facts, const ir_op_t *op,
                                     const moe_fact_t *place);
/* Counts, or bounds, that are written over the last of some zeros. */
const moe_fact_t *moe_written_counts(moe_facts_t *facts, const ir_op_t *op);
/* All of a mask of ones added up; tags of dimensions that go and stay. */
const moe_fact_t *moe_count_of_mask(moe_facts_t *facts, ir_value_t *value,
                                    const moe_fact_t *gate, unsigned reduced,
                                    unsigned kept);
/* Comparisons of all routes' numbers with 0, 1, .. added up. */
const moe_fact_t *moe_count_compared(moe_facts_t *facts, ir_value_t *value);
/* Nothing is known of a gate at the token's own experts. */
void moe_forget_on(moe_fact_t *gate);
/* A router whose index has a place for every expert. */
moe_source_t *moe_source_of_mask(moe_facts_t *facts, ir_value_t *index,
                                 unsigned axis);
/* The fact of a value that says which experts each token has. */
const moe_fact_t *moe_new_router(moe_facts_t *facts, ir_value_t *index,
                                 int slot, int64_t experts, bool distinct);
/* A sum of the part of a mask so far: it tells an expert's routes apart. */
const moe_fact_t *moe_rank_of_mask(moe_facts_t *facts, ir_value_t *value,
                                   const moe_fact_t *mask);
/* The ranks that a sum or maximum over experts, without these dimensions of
 * `gate`, takes out of a gate; NULL: none. */
const moe_fact_t *moe_rank_of_token(moe_facts_t *facts, ir_value_t *value,
                                    const moe_fact_t *gate, moe_fact_t *out,
                                    unsigned reduced);
/* The parts of a router, MOE_MAX_PARTS at most: one that has none is a part of
 * itself. */
unsigned moe_parts_of(const moe_source_t *source,
                      const moe_source_t **out_part);
/* The same number in another type; NULL: it may not be one there. */
const moe_rank_t *moe_typed_rank(moe_facts_t *facts, const moe_rank_t *rank,
                                 dtype_t dtype);
/* The rank of an elementwise operation on one, its operand i, for the token's
 * experts; the condition of `out`, which has the tags of the result, may
 * change. NULL: it is none. */
const moe_rank_t *moe_rank_of_result(moe_facts_t *facts, ir_value_t *value,
                                     unsigned i, const moe_constant_t *on,
                                     moe_fact_t *out);
/* The rank and the places of an elementwise operation's result, whose source
 * and tags are known; on[i] is what operand i is for the token's experts. */
void moe_gate_ranks(moe_facts_t *facts, ir_value_t *value,
                    const moe_constant_t *on, moe_fact_t *out);
/* The gate of a product over slots of one with experts and one with places. */
const moe_fact_t *moe_gate_of_slots(moe_facts_t *facts, ir_value_t *value);
/* The dimension of a value along which it counts the places of a router's
 * buffers; -1: it does not. */
int moe_places_axis(const moe_source_t *source, const ir_value_t *value);
/* The router whose choice an EXPERT fact is: of one slot, that of the slot,
 * which may be none yet (NULL). */
const moe_source_t *moe_source_of(const moe_fact_t *expert);
/* The same, which is made of the value that the fact is of; NULL where the slot
 * is no router of its own. */
const moe_source_t *moe_source_of_slot(moe_facts_t *facts,
                                       const moe_fact_t *expert,
                                       ir_value_t *value);
/* The same places for all routes that have one. */
bool moe_same_places(const moe_places_t *a, const moe_places_t *b);
/* Numbers below this are told apart by a type; 0: perhaps none. */
double moe_exact_below(dtype_t dtype);
/* Whether two ranks are the same but for their offsets. */
bool moe_same_numbering(const moe_rank_t *a, const moe_rank_t *b);
bool moe_same_rank(const moe_rank_t *a, const moe_rank_t *b);

/* moe_condition.c: a condition on routes that holds where `given`, of these
 * tags, is not 0 (`unless`: is 0), and where a rank is below the capacity;
 * either may be NULL.
 */
typedef struct moe_condition {
  const moe_source_t *source;
  ir_value_t *given;
  const uint8_t *tag;
  bool unless;
  const moe_rank_t *rank;
  const expr_t *capacity;
} moe_condition_t;

/* Whether a value with these tags is 0 where either part of a condition that
 * holds for the same routes does not hold. */
bool moe_vanishes(moe_facts_t *facts, const moe_condition_t *condition,
                  ir_value_t *value, const uint8_t *tag);
/* Whether a value that is not 0 (`holds`), or 0, means that the condition's
 * rank is below the capacity; *out_exact: and all else that it is not. */
bool moe_limits_rank(moe_facts_t *facts, const moe_condition_t *condition,
                     ir_value_t *value, const uint8_t *tag, bool holds,
                     bool *out_exact);
/* The number that a limit is, as a size; NULL: not known. */
const expr_t *moe_limit_number(moe_facts_t *facts, const ir_value_t *value);
/* 0 or 1, whatever it says. */
bool moe_is_indicator(const ir_value_t *value);
/* Whether a value with these tags has one element for each route, token, or
 * expert of these. */
bool moe_is_by_route(moe_facts_t *facts, const moe_source_t *source,
                     const ir_type_t *type, const uint8_t *tag);
/* Where a part is among those of a router; -1: it is none of them. */
int moe_part_index(const moe_source_t *whole, const moe_source_t *part);
/* A product of gates of two levels (moe_rules_nest.c). */
const moe_fact_t *moe_nested_gate(moe_facts_t *facts, ir_value_t *value);
/* The router of two levels; NULL: there is none, but it is noted as wanted. */
const moe_source_t *moe_nested_source(moe_facts_t *facts,
                                      const moe_source_t *outer,
                                      const moe_source_t *inner);
/* The router whose parts these are, in any order; NULL: there is none. Such a
 * pair is noted as one that would be of use. */
const moe_source_t *moe_joint_source(moe_facts_t *facts, const moe_source_t *a,
                                     const moe_source_t *b);
/* A size or number that is known when the model is compiled or loaded. */
const expr_t *moe_known_number(const ir_value_t *value);
/* Numbers that are computed from experts, coordinates, bounds; NULL: none. */
const moe_fact_t *moe_rule_number(moe_facts_t *facts, ir_value_t *value);
/* Numbers of experts chosen in each group of them, with slots as they are or
 * behind the view that makes them one dimension with the groups. */
const moe_fact_t *moe_rule_group(moe_facts_t *facts, ir_value_t *value);
const moe_fact_t *moe_rule_group_slots(moe_facts_t *facts, ir_value_t *value);
/* EXPERT facts whose numbers are the experts themselves. */
bool moe_is_expert(const moe_fact_t *fact);
/* Facts of what picks the row's expert as an index of all of them. */
bool moe_is_index(const moe_fact_t *fact);
/* moe_rows.c: whether numbers are those of experts and tokens, expert * tokens
 * + token, where a mask of all experts is true. */
bool moe_is_pair(moe_facts_t *facts, const moe_fact_t *fact);
/* The token of such a pair: what a flat value has there, or (NULL) what is left
 * of it by tokens; NULL: it is something else. */
moe_fact_t *moe_token_of_pair(moe_facts_t *facts, const ir_value_t *of,
                              const moe_fact_t *pair);
/* What tokens leave of a number, if that is the token; NULL: it is not. */
moe_fact_t *moe_token_left(moe_facts_t *facts, const moe_fact_t *number);
/* What a flat value [routes] has at a route, if that is its token. */
moe_fact_t *moe_token_by_table(moe_facts_t *facts, const ir_value_t *table,
                               const moe_fact_t *route);
/* The routes that masks of all experts name, one expert behind the other: a
 * space like a sorted one. NULL: operands of a concat are something else. */
const moe_fact_t *moe_joined_masks(moe_facts_t *facts, const ir_op_t *op);
/* A coordinate of a mask, which may be the row's expert. */
const moe_fact_t *moe_coordinate(moe_facts_t *facts, moe_fact_t *fact);
/* Sums of numbers that are linear in the coordinates of one mask, and multiples
 * of one; NULL: they are not, or not known. */
moe_fact_t *moe_linear_sum(moe_facts_t *facts, const moe_fact_t *a,
                           const moe_fact_t *b);
moe_fact_t *moe_linear_times(moe_facts_t *facts, const moe_fact_t *x,
                             const expr_t *factor);
/* The token of a route, in the same space; NULL: it is no route's number. */
moe_fact_t *moe_token_of(moe_facts_t *facts, const moe_fact_t *route);
/* Whether it is 0, 0, .. 1, 1, ..: the token of each of the source's routes. */
bool moe_is_token_of_route(const ir_value_t *index, const moe_source_t *source);
/* Element `at`, in C order, of a constant, perhaps through views of it. */
bool moe_constant_element(const ir_value_t *value, int64_t at, double *out);
/* The number that all elements of a value are, of any numeric type. */
bool moe_fill_number(const ir_value_t *value, double *out);
/* The dimension of a constant along which it counts 0, 1, .., n-1, all others
 * being 1; -1: it does not. */
int moe_counting_axis(const ir_value_t *value, int64_t n);

#endif
