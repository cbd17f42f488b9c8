/* Walks backwards, so that erasing a user exposes its operands in one sweep. */
#include "passes/pass.h"

static bool is_unused(const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++)
    if (op->out[i].uses != NULL) return false;
  return true;
}

/* Control flow has no effect when nothing in it has. */
static bool has_effect(const ir_op_t *op) {
  if (ir_has_trait(op, TERMINATOR)) return false;
  if (op->n_regions == 0) return !ir_has_trait(op, PURE);
  for (unsigned i = 0; i < op->n_regions; i++)
    for (ir_op_t *in = op->regions[i].first; in != NULL; in = in->next)
      if (has_effect(in)) return true;
  return false;
}

moec_status_t run_dce(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_last(func), *prev; op != NULL; op = prev) {
    prev = ir_walk_prev(op);
    if (ir_has_trait(op, TERMINATOR) || !is_unused(op) || has_effect(op))
      continue;
    if (pass_allow_rewrite(ctx, "erase-unused", op)) ir_erase(op);
  }
  return MOEC_OK;
}
