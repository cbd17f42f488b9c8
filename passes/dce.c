/* Walks backwards, so that erasing a user exposes its operands in one sweep. */
#include "passes/pass.h"

static bool is_unused(const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++)
    if (op->out[i].uses != NULL) return false;
  return true;
}

moec_status_t run_dce(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = func->body.last, *prev; op != NULL; op = prev) {
    prev = op->prev;
    if (!ir_has_trait(op, PURE) || !is_unused(op)) continue;
    if (pass_allow_rewrite(ctx, "erase-unused", op)) ir_erase(op);
  }
  return MOEC_OK;
}
