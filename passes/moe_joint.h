/* Routers that are made of others. */
#ifndef PASSES_MOE_JOINT_H
#define PASSES_MOE_JOINT_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

/* Writes the choices of routers that gates ask for; those of two levels are put
 * on the list. True if something was written: values must be numbered, and
 * facts made, anew. */
bool moe_write_joints(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                      moe_nest_t **nests);
/* Tells new facts what the list has. */
void moe_know_nests(moe_facts_t *facts, moe_nest_t *nests);

#endif
