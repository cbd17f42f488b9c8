/* Operands of a layer by token, route and expert, in front of it. */
#include <string.h>

#include "passes/moe_emit_internal.h"
#include "passes/moe_limit.h"
#include "passes/rules.h"

typedef moe_emitter_t emitter_t;

/* Reorders dimensions: those with a tag of `first` in front, then `second`,
 * then the rest. */
ir_value_t *moe_bring_forward(ir_builder_t *b, ir_value_t *x,
                              const uint8_t *tag, unsigned first,
                              unsigned second) {
  int64_t perm[IR_MAX_RANK];
  unsigned n = 0, rank = x->type.rank;
  bool moves = false;
  for (unsigned pass = 0; pass < 3; pass++)
    for (unsigned d = 0; d < rank; d++) {
      unsigned at = (tag[d] & first) != 0 ? 0 : (tag[d] & second) != 0 ? 1 : 2;
      if (at != pass) continue;
      moves = moves || n != d;
      perm[n++] = d;
    }
  return moves ? ir_transpose(b, x, perm) : x;
}

ir_value_t *moe_with_dims(ir_builder_t *b, ir_value_t *x, const expr_t *lead,
                          unsigned rank, const expr_t *const *dim) {
  const expr_t *all[IR_MAX_RANK + 1];
  unsigned n = 0;
  if (lead != NULL) all[n++] = lead;
  for (unsigned d = 0; d < rank; d++) all[n++] = dim[d];
  bool same = x->type.rank == n;
  for (unsigned d = 0; same && d < n; d++) same = x->type.dim[d] == all[d];
  return same ? x : ir_reshape(b, x, n, all);
}

/* A value that is defined in a region as it can be used in front of the layer:
 * constants, and shapes of them. */
ir_value_t *moe_outside(moe_emitter_t *e, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (ir_region_holds(ir_home(value), e->outer->region))
    return e->now(e->user, value);
  MOEC_ASSERT(op != NULL && op->code == OP_CONSTANT);
  ir_op_t *copy = ir_clone(e->ctx->module, op, NULL, NULL);
  return ir_place(e->outer, copy);
}

/* What tokens have of a dimension that runs over other things, too: all of
 * them, or those of this one dimension of several. */
static const expr_t *tokens_of(const emitter_t *e, unsigned others,
                               const expr_t *size) {
  const moe_source_t *source = e->found->source;
  const expr_t *tokens = NULL;
  if (others == TAG_SLOT)
    tokens = expr_divide_exactly(e->pool, size, source->k);
  return tokens != NULL ? tokens : source->tokens;
}

/* Dimensions that run over several things become one for each: how many. */
unsigned moe_split_type(const emitter_t *e, const ir_type_t *type,
                        const uint8_t *tag, const expr_t **out_dim,
                        uint8_t *out_tag) {
  const moe_source_t *source = e->found->source;
  unsigned n = 0;
  for (unsigned d = 0; d < type->rank; d++) {
    const expr_t *left = type->dim[d];
    unsigned n_kinds, rest = tag[d] & ~(unsigned)TAG_TURNED;
    const unsigned *kind = moe_tag_order(tag[d], &n_kinds);
    for (unsigned i = 0; i < n_kinds; i++) {
      bool whole =
          kind[i] == TAG_EXPERT || kind[i] == TAG_TOKEN || kind[i] == TAG_SLOT;
      if (!whole || (rest & kind[i]) == 0 || rest == kind[i]) continue;
      rest &= ~kind[i];
      out_tag[n] = (uint8_t)kind[i];
      out_dim[n] = kind[i] == TAG_EXPERT  ? expr_const(e->pool, source->experts)
                   : kind[i] == TAG_TOKEN ? tokens_of(e, rest, left)
                                          : source->k;
      left = expr_divide_exactly(e->pool, left, out_dim[n++]);
      MOEC_ASSERT(left != NULL);
    }
    out_tag[n] = (uint8_t)rest;
    out_dim[n++] = left;
  }
  return n;
}

static ir_value_t *split_dims(emitter_t *e, ir_value_t *x, const uint8_t *tag,
                              uint8_t *out_tag) {
  const expr_t *dim[2 * IR_MAX_RANK];
  unsigned n = moe_split_type(e, &x->type, tag, dim, out_tag);
  return moe_with_dims(e->outer, x, NULL, n, dim);
}

/* What a gate has at the experts of the routes where that is known, or computed
 * from what counts routes; NULL: it takes all experts' numbers. Slots have the
 * router's experts, or are those of a part of it, whose gate says what it is
 * for others. */
static ir_value_t *counted_at_routes(emitter_t *e, const moe_term_t *leaf) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  ir_value_t *gate = leaf->value;
  const moe_fact_t *fact = moe_fact(e->limits->facts, gate);
  uint8_t tag[2 * IR_MAX_RANK] = {0}, own_tag[IR_MAX_RANK];
  int axis = moe_tag_find(gate->type.rank, leaf->tag, TAG_EXPERT);
  int column = fact->source != NULL ? moe_part_index(source, fact->source) : -1;
  bool slots = (moe_tag_union(gate->type.rank, leaf->tag) & TAG_SLOT) != 0;
  bool whole = fact->source == source;
  if (fact->kind != FACT_GATE || fact->space != NULL || fact->expert >= 0 ||
      axis < 0 || leaf->tag[axis] != TAG_EXPERT ||
      (!whole && (column < 0 || slots || !fact->off.known)) ||
      !moe_limits_has_one(fact, &gate->type) ||
      ir_home(gate) != e->outer->region)
    return NULL;
  for (unsigned d = 0; d < leaf->rank; d++)
    if (!rule_is_one(leaf->dim[d])) return NULL;
  ir_value_t *x =
      moe_limits_own(e->limits, b, fact->source, gate, (unsigned)axis, false);
  const expr_t *one = expr_const(e->pool, 1);
  const expr_t *dim[2] = {source->tokens, one};
  if (x != NULL) {
    memcpy(own_tag, leaf->tag, gate->type.rank);
    own_tag[axis] = TAG_INNER;
    x = split_dims(e, x, own_tag, tag);
    x = moe_bring_forward(b, x, tag, TAG_TOKEN, TAG_SLOT);
  } else if (fact->on.known) {
    if (whole) dim[1] = source->k;
    x = ir_scalar(b, gate->type.dtype, fact->on.x);
    x = ir_fill(b, x, 2, dim);
  } else {
    return NULL;
  }
  if (!whole) {
    ir_value_t *own =
        ir_slice(b, e->route_index, 1, expr_const(e->pool, column), one, one);
    x = ir_reshape(b, x, 2, dim);
    ir_value_t *off = ir_scalar(b, x->type.dtype, fact->off.x);
    x = ir_select(b, ir_binary(b, OP_EQ, own, e->route_index), x, off);
  }
  return moe_with_dims(b, x, source->routes, leaf->rank, leaf->dim);
}

/* What a gate [tokens, experts, features..], or one of routes and experts, has
 * at the experts of the routes. */
static ir_value_t *gate_at_routes(emitter_t *e, const moe_term_t *leaf) {
  ir_builder_t *b = e->outer;
  ir_value_t *counted = counted_at_routes(e, leaf);
  if (counted != NULL) return counted;
  const moe_source_t *source = e->found->source;
  uint8_t tag[2 * IR_MAX_RANK] = {0};
  bool slots =
      (moe_tag_union(leaf->value->type.rank, leaf->tag) & TAG_SLOT) != 0;
  unsigned front = slots ? TAG_TOKEN : 0, next = slots ? TAG_SLOT : TAG_TOKEN;
  ir_value_t *x = split_dims(e, moe_outside(e, leaf->value), leaf->tag, tag);
  for (unsigned d = 0; slots && d < x->type.rank; d++)
    if (tag[d] == TAG_EXPERT)
      tag[d] = TAG_INNER; /* the last one: no features */
  x = slots ? moe_bring_forward(b, x, tag, front, next)
            : moe_bring_forward(b, x, tag, TAG_TOKEN, TAG_EXPERT);
  const expr_t *features = expr_const(e->pool, 1);
  for (unsigned d = 0; d < leaf->rank; d++)
    features = expr_mul(e->pool, features, leaf->dim[d]);
  const expr_t *rows = slots ? source->routes : source->tokens;
  const expr_t *one = expr_const(e->pool, 1), *each = slots ? one : source->k;
  unsigned rank = rule_is_one(features) ? 2 : 3;
  const expr_t *from[3] = {rows, expr_const(e->pool, source->experts),
                           features};
  const expr_t *at[3] = {rows, each, one};
  x = moe_with_dims(b, x, NULL, rank, from);
  ir_value_t *index = moe_with_dims(b, e->route_index, NULL, rank, at);
  at[2] = features;
  if (rank == 3) index = ir_expand(b, index, rank, at);
  ir_value_t *in[2] = {x, index};
  ir_op_t *op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  return moe_with_dims(b, ir_place(b, op), source->routes, leaf->rank,
                       leaf->dim);
}

static ir_value_t *stack_each(emitter_t *e, const moe_term_t *leaf) {
  ir_builder_t *b = e->outer;
  const expr_t *one = expr_const(e->pool, 1);
  ir_value_t **part =
      ARENA_ARRAY(e->ctx->scratch, ir_value_t *, leaf->n_each + 1);
  unsigned n = 0;
  for (unsigned i = 0; i < leaf->n_each; i++) {
    if (leaf->each[i] == NULL) continue;
    part[n] = moe_outside(e, leaf->each[i]);
    part[n] = moe_with_dims(b, part[n], one, leaf->rank, leaf->dim);
    n++;
  }
  return n == 1 ? part[0] : ir_concat(b, n, part, 0);
}

ir_value_t *moe_operand(emitter_t *e, const moe_term_t *leaf) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  uint8_t tag[2 * IR_MAX_RANK] = {0};
  ir_value_t *x;
  switch (leaf->kind) {
    case TERM_TOKEN:
      x = split_dims(e, moe_outside(e, leaf->value), leaf->tag, tag);
      x = moe_bring_forward(b, x, tag, TAG_TOKEN, 0);
      return moe_with_dims(b, x, source->tokens, leaf->rank, leaf->dim);
    case TERM_ROUTE:
      if (leaf->value == NULL) return moe_operand_of_routes(e, leaf);
      x = split_dims(e, moe_outside(e, leaf->value), leaf->tag, tag);
      x = source->chooses ? moe_bring_forward(b, x, tag, TAG_EXPERT, TAG_PLACE)
                          : moe_bring_forward(b, x, tag, TAG_TOKEN, TAG_SLOT);
      return moe_with_dims(b, x, source->routes, leaf->rank, leaf->dim);
    case TERM_GATE:
      return gate_at_routes(e, leaf);
    default:
      if (leaf->value == NULL) return stack_each(e, leaf);
      x = split_dims(e, moe_outside(e, leaf->value), leaf->tag, tag);
      x = moe_bring_forward(b, x, tag, TAG_EXPERT, 0);
      return moe_with_dims(b, x, expr_const(e->pool, source->experts),
                           leaf->rank, leaf->dim);
  }
}
