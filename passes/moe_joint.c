/* Routers that are made of others.
 *
 * A gate that is the sum of the gates of several routers belongs to the router
 * whose slots these are; one that is the product of the gate of groups and that
 * of experts in each group, to the router of all experts. Where a graph has
 * such a gate, but no tensor of the experts chosen, one is written; nothing
 * reads it unless a layer is found. */
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

/* The choices of both, or NULL. */
static ir_value_t *write_joint(pass_ctx_t *ctx, const moe_source_t *first,
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
    return NULL;
  ir_builder_t b = {.module = ctx->module,
                    .region = at->parent,
                    .before = at->next,
                    .loc = at->loc,
                    .diag = ctx->diag};
  ir_value_t *part[2];
  part[0] = choices(&b, first);
  part[1] = choices(&b, second);
  for (unsigned d = 0; d + 1 < part[0]->type.rank; d++)
    if (part[0]->type.dim[d] != part[1]->type.dim[d]) return NULL;
  ir_value_t *all = ir_concat(&b, 2, part, part[0]->type.rank - 1);
  return b.status == MOEC_OK ? all : NULL;
}

/* int[tokens, k], or [tokens, groups, k] of routers inside groups. */
static ir_value_t *choices_in(ir_builder_t *b, const moe_source_t *source,
                              const expr_t *tokens, const expr_t *groups) {
  const expr_t *dim[3] = {tokens};
  unsigned n = 1;
  if (groups != NULL) dim[n++] = groups;
  dim[n++] = source->k;
  return ir_reshape(b, choices(b, source), n, dim);
}

/* whole[t, i * k + j] = group * experts + inner[t, group, j], of group =
 * outer[t, i]; NULL where one of the routers is out of the other's reach. */
static ir_value_t *write_nest(pass_ctx_t *ctx, const moe_source_t *outer,
                              const moe_source_t *inner) {
  expr_pool_t *pool = ctx->module->exprs;
  ir_op_t *at = outer->index->number > inner->index->number ? outer->index->def
                                                            : inner->index->def;
  if (outer->index->def->parent != at->parent ||
      inner->index->def->parent != at->parent)
    return NULL;
  ir_builder_t b = {.module = ctx->module,
                    .region = at->parent,
                    .before = at->next,
                    .loc = at->loc,
                    .diag = ctx->diag};
  const expr_t *tokens = outer->tokens;
  const expr_t *groups = expr_const(pool, outer->experts);
  ir_value_t *group = choices_in(&b, outer, tokens, NULL);
  group = ir_unsqueeze(&b, ir_cast(&b, group, DT_I64), 2);
  ir_value_t *all = choices_in(&b, inner, tokens, groups);
  all = ir_cast(&b, all, DT_I64);
  const expr_t *dim[3] = {tokens, outer->k, inner->k};
  ir_value_t *in[2] = {all, ir_expand(&b, group, 3, dim)};
  ir_op_t *op = ir_begin(&b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  ir_value_t *own = ir_place(&b, op);
  ir_value_t *size = ir_scalar_int(&b, DT_I64, inner->experts);
  ir_value_t *first = ir_binary(&b, OP_MUL, group, size);
  ir_value_t *whole = ir_binary(&b, OP_ADD, first, own);
  dim[1] = expr_mul(pool, outer->k, inner->k);
  whole = ir_reshape(&b, whole, 2, dim);
  return b.status == MOEC_OK ? whole : NULL;
}

/* Routers of two levels, each once. */
static bool write_nests(pass_ctx_t *ctx, moe_facts_t *facts,
                        moe_nest_t **nests) {
  bool wrote = false;
  for (const moe_nest_t *nest = facts->wanted_nests; nest != NULL;
       nest = nest->next) {
    const moe_nest_t *known = *nests;
    while (known != NULL &&
           (known->outer != nest->outer || known->inner != nest->inner))
      known = known->next;
    if (known != NULL) continue;
    const moe_source_t *outer = moe_fact(facts, nest->outer)->source;
    const moe_source_t *inner = moe_fact(facts, nest->inner)->source;
    ir_value_t *whole = write_nest(ctx, outer, inner);
    if (whole == NULL) continue;
    moe_nest_t *entry = ARENA_NEW(facts->arena, moe_nest_t);
    *entry = (moe_nest_t){nest->outer, nest->inner, whole, *nests};
    *nests = entry;
    wrote = true;
  }
  return wrote;
}

void moe_know_nests(moe_facts_t *facts, moe_nest_t *nests) {
  facts->nests = nests;
  for (moe_nest_t *nest = nests; nest != NULL; nest = nest->next) {
    const moe_source_t *outer = moe_fact(facts, nest->outer)->source;
    const moe_source_t *inner = moe_fact(facts, nest->inner)->source;
    facts->of[nest->whole->number] =
        moe_new_router(facts, nest->whole, 1, outer->experts * inner->experts,
                       outer->distinct && inner->distinct);
  }
}

bool moe_write_joints(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                      moe_joint_t **joints, moe_nest_t **nests) {
  bool wrote = false;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    if (op->code == OP_ADD || op->code == OP_OR || op->code == OP_MAX ||
        op->code == OP_MUL || op->code == OP_AND || op->code == OP_CONCAT)
      moe_fact(facts, &op->out[0]);
  for (unsigned i = 0; i < facts->n_wanted; i++) {
    const moe_source_t *const *pair = &facts->wanted[2 * i];
    bool known = false;
    for (unsigned j = 0; j < i && !known; j++)
      known = facts->wanted[2 * j] == pair[0] &&
              facts->wanted[2 * j + 1] == pair[1];
    ir_value_t *all = known ? NULL : write_joint(ctx, pair[0], pair[1]);
    if (all == NULL) continue;
    moe_joint_t *joint = ARENA_NEW(facts->arena, moe_joint_t);
    *joint = (moe_joint_t){all, *joints};
    *joints = joint;
    wrote = true;
  }
  return write_nests(ctx, facts, nests) || wrote;
}
