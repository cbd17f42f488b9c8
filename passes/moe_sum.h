/* Sums over experts: what is added up to a token's result. */
#ifndef PASSES_MOE_SUM_H
#define PASSES_MOE_SUM_H

#include "passes/moe_build.h"

typedef struct moe_part {
  ir_value_t *value;          /* what is added */
  uint8_t tag[IR_MAX_RANK];   /* of value */
  const moe_layout_t *layout; /* of value; NULL: it is no expert's */
  const ir_op_t *at;          /* where it is added */
  ir_value_t *over;           /* what it is written over; NULL: 0, or added */
  bool left;                  /* it is left where no other part is written */
} moe_part_t;

typedef struct moe_sum {
  unsigned n, room;
  moe_part_t *part;
  const ir_value_t *base; /* where taking apart ends, or NULL */
  bool reached;           /* it came there */
} moe_sum_t;

/* The parts of a sum of values of one shape: chains and trees of additions,
 * scatters into sums, branches that add. `out` is all 0, or of another sum. */
void moe_sum_parts(moe_builder_t *b, ir_value_t *value, moe_sum_t *out);
/* The router that `op` adds one part of to its operand `to`, which is a sum
 * that moe_sum_parts takes apart, too; NULL: it does something else. */
const moe_source_t *moe_sum_adds(moe_builder_t *b, const ir_op_t *op,
                                 unsigned to);
/* Whether a part is of a router, or of one of the slots that are its parts. */
bool moe_sum_belongs(const moe_part_t *part, const moe_source_t *source);
/* Parts that belong to a router. */
unsigned moe_sum_count(const moe_sum_t *sum, const moe_source_t *source);
/* Whether a token's experts can be told apart, each once: no slots repeat
 * another one's expert, or there are few of them to be compared. */
bool moe_is_set(const moe_source_t *source);
/* Operations that moe_sum_parts looks into. */
bool moe_is_sum(const ir_op_t *op);

#endif
