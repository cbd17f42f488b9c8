/* Computes moe.route by plain operations. */
#include "passes/moe_route_plain.h"
#include "passes/pass.h"

moec_status_t run_moe_route(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func), *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    if (op->code != OP_MOE_ROUTE || !pass_allow_rewrite(ctx, "moe_route", op))
      continue;
    ir_builder_t b = {.module = ctx->module,
                      .region = op->parent,
                      .before = op,
                      .loc = op->loc,
                      .diag = ctx->diag};
    ir_value_t *result[2];
    MOEC_TRY(moe_route_build_plain(&b, op, &result[0], &result[1]));
    for (unsigned i = 0; i < 2; i++) {
      if (result[i]->name == NULL) result[i]->name = op->out[i].name;
      ir_replace_uses(&op->out[i], result[i]);
    }
    ir_erase(op);
  }
  return MOEC_OK;
}
