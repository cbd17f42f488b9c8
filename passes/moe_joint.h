/* Routers that choose one expert after another. */
#ifndef PASSES_MOE_JOINT_H
#define PASSES_MOE_JOINT_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

/* Writes the choices of routers side by side where a gate is the sum of theirs.
 * True if something was written: values must be numbered, and facts made, anew.
 */
bool moe_write_joints(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts);

#endif
