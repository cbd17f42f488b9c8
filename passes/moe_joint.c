/* Routers that choose one expert after another: their choices side by side.
 *
 * A gate that is the sum of the gates of several routers belongs to the router
 * whose slots these are. Where a graph has such a sum, but no tensor of all its
 * experts, one is written; nothing reads it unless a layer is found. */
#include "passes/moe_joint.h"

#include "ir/build.h"
#include "passes/rules.h"

/* int[tokens.., k] */
static ir_value_t *choices(ir_builder_t *b, const moe_source_t *source) {
  ir_value_t *x = source->index;
  const expr_t *dim[IR_MAX_RANK + 1];
  unsigned n = 0;
  for (unsigned d = 0; d < x->type.rank; d++)
    if ((int)d != source->slot) dim[n++] = x->type.dim[d];
  dim[n++] = source->k;
  if (source->slot >= 0 && source->slot + 1 != (int)x->type.rank) {
    int64_t perm[IR_MAX_RANK];
    unsigned to = 0;
    for (unsigned d = 0; d < x->type.rank; d++)
      if ((int)d != source->slot) perm[to++] = d;
    perm[to] = source->slot;
    return ir_transpose(b, x, perm);
  }
  return source->slot >= 0 ? x : ir_reshape(b, x, n, dim);
}

static bool write_joint(pass_ctx_t *ctx, const moe_source_t *first,
                        const moe_source_t *second) {
  if (second->index->number < first->index->number) {
    const moe_source_t *swap = first;
    first = second;
    second = swap;
  }
  ir_op_t *at = second->index->def;
  if (first->index->def->parent != at->parent ||
      first->index->type.dtype != second->index->type.dtype ||
      first->index->type.rank - (first->slot >= 0) !=
          second->index->type.rank - (second->slot >= 0))
    return false;
  ir_builder_t b = {.module = ctx->module,
                    .region = at->parent,
                    .before = at->next,
                    .loc = at->loc,
                    .diag = ctx->diag};
  ir_value_t *part[2];
  part[0] = choices(&b, first);
  part[1] = choices(&b, second);
  for (unsigned d = 0; d + 1 < part[0]->type.rank; d++)
    if (part[0]->type.dim[d] != part[1]->type.dim[d]) return false;
  ir_value_t *all = ir_concat(&b, 2, part, (int64_t)part[0]->type.rank - 1);
  return all != NULL && b.status == MOEC_OK;
}

bool moe_write_joints(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts) {
  bool wrote = false;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    if (op->code == OP_ADD || op->code == OP_OR || op->code == OP_MAX)
      moe_fact(facts, &op->out[0]);
  for (unsigned i = 0; i < facts->n_wanted; i++) {
    const moe_source_t *const *pair = &facts->wanted[2 * i];
    bool known = false;
    for (unsigned j = 0; j < i && !known; j++)
      known = facts->wanted[2 * j] == pair[0] &&
              facts->wanted[2 * j + 1] == pair[1];
    if (!known) wrote = write_joint(ctx, pair[0], pair[1]) || wrote;
  }
  return wrote;
}
