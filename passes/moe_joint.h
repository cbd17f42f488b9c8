/* Routers that are made of others. */
#ifndef PASSES_MOE_JOINT_H
#define PASSES_MOE_JOINT_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

/* Choices of several routers side by side that were written. */
typedef struct moe_joint {
  ir_value_t *all;
  struct moe_joint *next;
} moe_joint_t;

/* Writes the choices of routers that gates ask for; they are put on the lists.
 * True if something was written: values must be numbered, and facts made, anew.
 */
bool moe_write_joints(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                      moe_joint_t **joints, moe_nest_t **nests);
/* Tells new facts, before others are asked for, what the list has. */
void moe_know_nests(moe_facts_t *facts, moe_nest_t *nests);

#endif
