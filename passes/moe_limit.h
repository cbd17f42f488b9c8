/* Routes are counted once for each router: what a graph counts by sums along
 * masks of tokens and experts becomes moe.limit, where a layer was found. */
#ifndef PASSES_MOE_LIMIT_H
#define PASSES_MOE_LIMIT_H

#include "ir/build.h"
#include "passes/moe_emit.h"
#include "passes/moe_rules.h"

/* A moe.limit that was written. */
typedef struct moe_counted {
  const moe_source_t *source;
  bool by_slot;
  const expr_t *group; /* tokens that are counted together */
  const expr_t *kept;  /* slots begin behind those below it; NULL: behind all */
  ir_op_t *op;
  struct moe_counted *next;
} moe_counted_t;

typedef struct moe_replaced {
  ir_value_t *old, *by;
  struct moe_replaced *next;
} moe_replaced_t;

struct moe_limits {
  pass_ctx_t *ctx;
  moe_facts_t *facts;
  const moe_found_t *layers;
  moe_counted_t *counted;
  moe_replaced_t *first, **last;
};

/* The experts that a router chooses, dtype[tokens, k]. */
ir_value_t *moe_choices(ir_builder_t *b, const moe_source_t *source,
                        dtype_t dtype);
/* Before layers are written: values that count routes of the layers' routers,
 * as they will be computed. */
moe_limits_t *moe_limits_find(pass_ctx_t *ctx, moe_facts_t *facts,
                              const moe_found_t *layers);
/* When layers are written: these values take the place of what counted. */
void moe_limits_apply(moe_limits_t *limits);
/* Routes that are dropped by a limit on their number are so in the moe.limit:
 * `experts` is the layer's moe.experts. The operation, or NULL. */
const ir_op_t *moe_limits_settle(moe_limits_t *limits, const moe_found_t *found,
                                 ir_op_t *experts);

/* Experts i64[tokens, k] of the routes that have a place in the layer's
 * buffers, -1 for others, in front of `at`; NULL: something else counts these.
 */
ir_value_t *moe_limits_keep(moe_limits_t *limits, const moe_found_t *found,
                            ir_op_t *at, const ir_op_t **out_limit);

/* Whether the sizes in an expression are bound in front of a place. */
bool moe_limits_known(const moe_limits_t *limits, const expr_t *e,
                      const ir_builder_t *b);

/* The number of a rank for all routes of *out_source, i64[tokens, k], in front
 * of `at`; NULL: it is not counted so. */
ir_value_t *moe_limits_count(moe_limits_t *limits, const moe_rank_t *rank,
                             const ir_op_t *at,
                             const moe_source_t **out_source);
/* The same with its offset as a value of this type and tags lies, where the
 * dimension of experts has size 1. */
ir_value_t *moe_limits_number(moe_limits_t *limits, ir_builder_t *b,
                              const moe_rank_t *rank, const ir_type_t *type,
                              const uint8_t *tag);

/* moe_limit_gate.c: what a value has at the expert of each row of a router's
 * gate, the dimension of experts, `axis`, having size 1. `anywhere`: where it
 * is multiplied with 0 for other experts, that stays 0. NULL: it is not known
 * without all experts, or nothing in it counts routes. */
ir_value_t *moe_limits_own(moe_limits_t *limits, ir_builder_t *b,
                           const moe_source_t *source, ir_value_t *value,
                           unsigned axis, bool anywhere);
/* Whether each row of a gate has one expert. */
bool moe_limits_has_one(const moe_fact_t *fact, const ir_type_t *type);

#endif
