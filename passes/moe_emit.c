/* Layers as operations: operands by token, route and expert in front of the
 * layer, the term as the region of moe.experts. */
#include "passes/moe_emit.h"

#include <string.h>

#include "passes/moe_choice.h"
#include "passes/moe_emit_internal.h"
#include "passes/moe_limit.h"
#include "passes/moe_nested.h"
#include "passes/rules.h"

typedef moe_emitter_t emitter_t;

static moe_written_t **written_slot(emitter_t *e, const moe_term_t *term) {
  moe_written_t **slot = &e->table[(term->hash >> 7) % MOE_WRITTEN];
  while (*slot != NULL && (*slot)->term != term) slot = &(*slot)->next;
  return slot;
}

void moe_remember(moe_emitter_t *e, const moe_term_t *term, ir_value_t *value) {
  moe_written_t *entry = ARENA_NEW(e->ctx->scratch, moe_written_t);
  *entry = (moe_written_t){term, value, NULL};
  *written_slot(e, term) = entry;
}

/* ---- Operands
 * ----------------------------------------------------------------- */

/* Reorders dimensions: those with a tag of `first` in front, then `second`,
 * then the rest. */
static ir_value_t *bring_forward(ir_builder_t *b, ir_value_t *x,
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

static ir_value_t *with_dims(ir_builder_t *b, ir_value_t *x, const expr_t *lead,
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
static ir_value_t *outside(emitter_t *e, ir_value_t *value) {
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
static unsigned split_type(const emitter_t *e, const ir_type_t *type,
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
  unsigned n = split_type(e, &x->type, tag, dim, out_tag);
  return with_dims(e->outer, x, NULL, n, dim);
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
    x = bring_forward(b, x, tag, TAG_TOKEN, TAG_SLOT);
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
  return with_dims(b, x, source->routes, leaf->rank, leaf->dim);
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
  ir_value_t *x = split_dims(e, outside(e, leaf->value), leaf->tag, tag);
  for (unsigned d = 0; slots && d < x->type.rank; d++)
    if (tag[d] == TAG_EXPERT)
      tag[d] = TAG_INNER; /* the last one: no features */
  x = slots ? bring_forward(b, x, tag, front, next)
            : bring_forward(b, x, tag, TAG_TOKEN, TAG_EXPERT);
  const expr_t *features = expr_const(e->pool, 1);
  for (unsigned d = 0; d < leaf->rank; d++)
    features = expr_mul(e->pool, features, leaf->dim[d]);
  const expr_t *rows = slots ? source->routes : source->tokens;
  const expr_t *one = expr_const(e->pool, 1), *each = slots ? one : source->k;
  unsigned rank = rule_is_one(features) ? 2 : 3;
  const expr_t *from[3] = {rows, expr_const(e->pool, source->experts),
                           features};
  const expr_t *at[3] = {rows, each, one};
  x = with_dims(b, x, NULL, rank, from);
  ir_value_t *index = with_dims(b, e->route_index, NULL, rank, at);
  at[2] = features;
  if (rank == 3) index = ir_expand(b, index, rank, at);
  ir_value_t *in[2] = {x, index};
  ir_op_t *op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  return with_dims(b, ir_place(b, op), source->routes, leaf->rank, leaf->dim);
}

static ir_value_t *stack_each(emitter_t *e, const moe_term_t *leaf) {
  ir_builder_t *b = e->outer;
  const expr_t *one = expr_const(e->pool, 1);
  ir_value_t **part =
      ARENA_ARRAY(e->ctx->scratch, ir_value_t *, leaf->n_each + 1);
  unsigned n = 0;
  for (unsigned i = 0; i < leaf->n_each; i++) {
    if (leaf->each[i] == NULL) continue;
    part[n] = outside(e, leaf->each[i]);
    part[n] = with_dims(b, part[n], one, leaf->rank, leaf->dim);
    n++;
  }
  return n == 1 ? part[0] : ir_concat(b, n, part, 0);
}

static ir_value_t *routes_of(emitter_t *e, const moe_term_t *leaf);

static ir_value_t *operand_of(emitter_t *e, const moe_term_t *leaf) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  uint8_t tag[2 * IR_MAX_RANK] = {0};
  ir_value_t *x;
  switch (leaf->kind) {
    case TERM_TOKEN:
      x = split_dims(e, outside(e, leaf->value), leaf->tag, tag);
      x = bring_forward(b, x, tag, TAG_TOKEN, 0);
      return with_dims(b, x, source->tokens, leaf->rank, leaf->dim);
    case TERM_ROUTE:
      if (leaf->value == NULL) return routes_of(e, leaf);
      x = split_dims(e, outside(e, leaf->value), leaf->tag, tag);
      x = source->chooses ? bring_forward(b, x, tag, TAG_EXPERT, TAG_PLACE)
                          : bring_forward(b, x, tag, TAG_TOKEN, TAG_SLOT);
      return with_dims(b, x, source->routes, leaf->rank, leaf->dim);
    case TERM_GATE:
      return gate_at_routes(e, leaf);
    default:
      if (leaf->value == NULL) return stack_each(e, leaf);
      x = split_dims(e, outside(e, leaf->value), leaf->tag, tag);
      x = bring_forward(b, x, tag, TAG_EXPERT, 0);
      return with_dims(b, x, expr_const(e->pool, source->experts), leaf->rank,
                       leaf->dim);
  }
}

/* ---- Terms
 * --------------------------------------------------------------------- */

/* The operand with as many features as the result, so that rows line up. */
static ir_value_t *line_up(emitter_t *e, const moe_term_t *x, ir_value_t *value,
                           unsigned rank) {
  if (!x->rows || x->rank >= rank) return value;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < rank; d++)
    dim[d] = d < rank - x->rank ? expr_const(e->pool, 1)
                                : x->dim[d - (rank - x->rank)];
  return with_dims(e->inner, value, e->rows, rank, dim);
}

static int64_t number(const expr_t *e) {
  int64_t value = 0;
  bool known = expr_is_const(e, &value);
  MOEC_ASSERT(known);
  return value;
}

static ir_value_t *write_slice(emitter_t *e, const moe_term_t *term,
                               ir_value_t *x) {
  unsigned lead = term->rows ? 1 : 0;
  const expr_t *zero = expr_const(e->pool, 0), *one = expr_const(e->pool, 1);
  const expr_t *part[3][IR_MAX_RANK + 1] = {{zero}, {e->rows}, {one}};
  for (unsigned d = 0; d < term->rank; d++)
    for (unsigned i = 0; i < 3; i++) part[i][lead + d] = term->exprs[3 * d + i];
  ir_op_t *op = ir_begin(e->inner, OP_SLICE, 1, &x, 1);
  if (op == NULL) return NULL;
  ir_set_exprs(op, ATTR_SLICE_start, term->rank + lead, part[0]);
  ir_set_exprs(op, ATTR_SLICE_length, term->rank + lead, part[1]);
  ir_set_exprs(op, ATTR_SLICE_step, term->rank + lead, part[2]);
  return ir_place(e->inner, op);
}

/* Operations whose attributes name dimensions. */
static ir_value_t *write_shaped(emitter_t *e, const moe_term_t *term,
                                ir_value_t *const *in) {
  int64_t lead = term->rows ? 1 : 0, list[IR_MAX_RANK + 1];
  const expr_t *rows = term->rows ? e->rows : NULL;
  const expr_t *dim[IR_MAX_RANK + 1];
  switch (term->code) {
    case OP_RESHAPE:
      return with_dims(e->inner, in[0], rows, term->rank, term->dim);
    case OP_EXPAND:
      for (unsigned d = 0; d < term->rank; d++) dim[lead + d] = term->dim[d];
      dim[0] = rows != NULL ? rows : dim[0];
      return ir_expand(e->inner, line_up(e, term->in[0], in[0], term->rank),
                       term->rank + (unsigned)lead, dim);
    case OP_TRANSPOSE:
      list[0] = 0;
      for (unsigned d = 0; d < term->rank; d++)
        list[lead + d] = number(term->exprs[d]) + lead;
      return ir_transpose(e->inner, in[0], list);
    case OP_SLICE:
      return write_slice(e, term, in[0]);
    case OP_CAST:
      return ir_cast(e->inner, in[0], term->dtype);
    case OP_EXPRS:
      return ir_expr_scalar(e->inner, term->exprs[0]);
    default:
      break;
  }
  ir_op_t *op = ir_begin(e->inner, term->code, term->n, in, 1);
  if (op == NULL) return NULL;
  ir_attr_id_t first = ir_op_info(term->code)->attr_first;
  if (term->code == OP_SOFTMAX || term->code == OP_LOG_SOFTMAX ||
      term->code == OP_CONCAT) {
    ir_set_int(op, first, number(term->exprs[0]) + lead);
  } else { /* a reduction */
    for (unsigned i = 0; i < term->n_exprs; i++)
      list[i] = number(term->exprs[i]) + lead;
    ir_set_ints(op, first, term->n_exprs, list);
    ir_set_int(op, (ir_attr_id_t)(first + 1), 0);
  }
  return ir_place(e->inner, op);
}

static ir_value_t *write_topk(emitter_t *e, const moe_term_t *term,
                              ir_value_t *x) {
  const ir_op_t *model = term->model;
  ir_op_t *op = ir_begin(e->inner, OP_TOPK, 1, &x, 2);
  if (op == NULL) return NULL;
  for (unsigned i = 0; i < model->n_attrs; i++)
    ir_copy_attr(op, &model->attrs[i]);
  ir_set_int(op, ATTR_TOPK_axis, number(term->exprs[0]) + (term->rows ? 1 : 0));
  return ir_place(e->inner, op) != NULL ? &op->out[number(term->exprs[1])]
                                        : NULL;
}

/* The same, of operations whose first attribute is an axis of features. */
static ir_value_t *write_along(emitter_t *e, const moe_term_t *term,
                               ir_value_t *const *in) {
  const ir_op_t *model = term->model;
  ir_op_t *op = ir_begin(e->inner, term->code, term->n, in, 1);
  if (op == NULL) return NULL;
  for (unsigned i = 0; i < model->n_attrs; i++)
    ir_copy_attr(op, &model->attrs[i]);
  bool lead = term->code == OP_GATHER ? term->in[0]->rows : term->rows;
  ir_set_int(op, ir_op_info(term->code)->attr_first,
             number(term->exprs[0]) + lead);
  if (term->code == OP_ARG_MAX) ir_set_int(op, ATTR_ARG_MAX_keepdims, 0);
  if (term->code == OP_ARG_MIN) ir_set_int(op, ATTR_ARG_MIN_keepdims, 0);
  return ir_place(e->inner, op);
}

static ir_value_t *write_pad(emitter_t *e, const moe_term_t *term,
                             ir_value_t *const *in) {
  unsigned lead = term->rows ? 1 : 0;
  const expr_t *part[2][IR_MAX_RANK + 1];
  part[0][0] = part[1][0] = expr_const(e->pool, 0);
  for (unsigned d = 0; d < term->rank; d++)
    for (unsigned i = 0; i < 2; i++) part[i][lead + d] = term->exprs[2 * d + i];
  ir_op_t *op = ir_begin(e->inner, OP_PAD, term->n, in, 1);
  if (op == NULL) return NULL;
  ir_set_exprs(op, ATTR_PAD_before, term->rank + lead, part[0]);
  ir_set_exprs(op, ATTR_PAD_after, term->rank + lead, part[1]);
  ir_set_str(op, ATTR_PAD_mode, ir_get_str(term->model, ATTR_PAD_mode));
  return ir_place(e->inner, op);
}

/* All operands need the rows of the result. */
static bool wants_rows(ir_opcode_t code) {
  return code == OP_CONCAT || code == OP_GATHER_ELEMENTS ||
         code == OP_SCATTER_ELEMENTS;
}

static bool is_shaped(ir_opcode_t code) {
  switch (code) {
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_CONCAT:
    case OP_CAST:
    case OP_EXPRS:
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
    case OP_REDUCE_PROD:
      return true;
    default:
      return false;
  }
}

static ir_value_t *write_op(emitter_t *e, const moe_term_t *term) {
  if (term->code == OP_WHILE) return moe_write_loop(e, term);
  ir_value_t **in = ARENA_ARRAY(e->ctx->scratch, ir_value_t *, term->n + 1);
  bool elementwise = (ir_op_info(term->code)->traits & ELEMENTWISE) != 0;
  bool batched = term->code == OP_MATMUL && term->in[0]->rank > 1;
  unsigned rank = elementwise ? term->rank : 0;
  for (unsigned i = 0; i < term->n; i++) {
    in[i] = moe_write_term(e, term->in[i]);
    if (in[i] == NULL) return NULL;
    if (batched && term->in[i]->rank > rank) rank = term->in[i]->rank;
  }
  for (unsigned i = 0; i < term->n; i++) {
    const moe_term_t *x = term->in[i];
    in[i] = line_up(e, x, in[i], rank);
    if (!wants_rows(term->code) || !term->rows || x->rows) continue;
    const expr_t *dim[IR_MAX_RANK + 1] = {e->rows};
    for (unsigned d = 0; d < x->rank; d++) dim[1 + d] = x->dim[d];
    in[i] = ir_expand(e->inner, in[i], x->rank + 1, dim);
  }
  if (term->code == OP_MOE_EXPERTS || term->code == OP_MOE_COMBINE) {
    ir_value_t *y =
        moe_write_nested(e->inner, e->ctx->scratch, term, in, e->rows);
    return y != NULL ? with_dims(e->inner, y, e->rows, term->rank, term->dim)
                     : NULL;
  }
  if (term->code == OP_TOPK) return write_topk(e, term, in[0]);
  if (term->code == OP_PAD) return write_pad(e, term, in);
  if (is_shaped(term->code)) return write_shaped(e, term, in);
  if (term->n_exprs == 1) return write_along(e, term, in);
  ir_loc_t layer = e->inner->loc;
  if (term->model != NULL) e->inner->loc = term->model->loc;
  ir_op_t *op = ir_begin(e->inner, term->code, term->n, in, 1);
  if (op == NULL) return NULL;
  for (unsigned i = 0; term->model != NULL && i < term->model->n_attrs; i++)
    ir_copy_attr(op, &term->model->attrs[i]);
  ir_value_t *value = ir_place(e->inner, op);
  e->inner->loc = layer;
  return value;
}

/* A leaf for all routes: what a token has is repeated for its slots. */
static ir_value_t *row_of_routes(emitter_t *e, const moe_term_t *leaf) {
  const moe_source_t *source = e->found->source;
  ir_value_t *x = operand_of(e, leaf);
  if (x != NULL && leaf->kind == TERM_TOKEN && source->chooses)
    return ir_gather(e->outer, x, e->token, 0);
  if (x == NULL || leaf->kind != TERM_TOKEN || rule_is_one(source->k)) return x;
  const expr_t *dim[IR_MAX_RANK + 2] = {source->tokens, expr_const(e->pool, 1)};
  for (unsigned d = 0; d < leaf->rank; d++) dim[2 + d] = leaf->dim[d];
  x = with_dims(e->outer, x, NULL, leaf->rank + 2, dim);
  dim[1] = source->k;
  x = ir_expand(e->outer, x, leaf->rank + 2, dim);
  return with_dims(e->outer, x, source->routes, leaf->rank, leaf->dim);
}

static ir_value_t *write_here(emitter_t *e, const moe_term_t *term) {
  const moe_written_t *known = *written_slot(e, term);
  if (known != NULL) return known->value;
  ir_value_t *value;
  if (term->kind == TERM_OP) {
    value = write_op(e, term);
  } else if (term->kind == TERM_ARG) {
    value = moe_write_trip(e, term);
  } else if (e->inner == e->outer && term->kind != TERM_STEADY) {
    value = row_of_routes(e, term);
  } else { /* the same for all; operands are in the table already */
    MOEC_ASSERT(term->kind == TERM_STEADY);
    value = with_dims(e->inner, outside(e, term->value), NULL, term->rank,
                      term->dim);
  }
  if (value != NULL) moe_remember(e, term, value);
  return value;
}

/* In the body of the innermost loop that the term depends on: all else is
 * written once, in front of the loop. */
ir_value_t *moe_write_term(moe_emitter_t *e, const moe_term_t *term) {
  moe_scope_t *const scope = e->scope;
  ir_builder_t *const inner = e->inner;
  moe_written_t **const table = e->table;
  while (e->scope != NULL && (term->loops >> e->scope->level & 1) == 0) {
    e->inner = e->scope->around;
    e->table = e->scope->table_around;
    e->scope = e->scope->outer;
  }
  ir_value_t *value = write_here(e, term);
  e->scope = scope;
  e->inner = inner;
  e->table = table;
  return value;
}

/* A term in front of the layer, for all routes: [routes, features..]. */
static ir_value_t *write_for_routes(emitter_t *e, const moe_term_t *term,
                                    const expr_t *rows) {
  ir_builder_t *inner = e->inner;
  const expr_t *inner_rows = e->rows;
  moe_written_t **table = e->table;
  moe_written_loop_t *loops = e->loops;
  e->inner = e->outer;
  e->rows = rows;
  e->table = e->in_front;
  e->loops = NULL;
  ir_value_t *value = moe_write_term(e, term);
  e->inner = inner;
  e->rows = inner_rows;
  e->table = table;
  e->loops = loops;
  return value;
}

/* What is computed for routes, or numbers of tokens, slot by slot. */
static ir_value_t *routes_of(emitter_t *e, const moe_term_t *leaf) {
  const moe_source_t *source = e->found->source;
  ir_builder_t *b = e->outer;
  if (leaf->n == 1)
    return with_dims(b, write_for_routes(e, leaf->in[0], source->routes),
                     source->routes, leaf->rank, leaf->dim);
  ir_value_t *part[MOE_MAX_PARTS];
  const expr_t *one = expr_const(e->pool, 1);
  for (unsigned i = 0; i < leaf->n; i++) {
    const moe_term_t *number = leaf->in[i];
    while (number->kind == TERM_OP) number = number->in[0]; /* a reshape */
    if (number->kind == TERM_GATE) { /* at the experts of all slots */
      const expr_t *dim[2] = {source->tokens, source->k};
      ir_value_t *all = with_dims(b, operand_of(e, number), NULL, 2, dim);
      part[i] = ir_slice(b, all, 1, expr_const(e->pool, i), one, one);
    } else {
      const expr_t *dim[2] = {source->tokens, one};
      part[i] = with_dims(b, operand_of(e, number), NULL, 2, dim);
    }
  }
  ir_value_t *all = ir_concat(b, leaf->n, part, 1);
  return with_dims(b, all, source->routes, leaf->rank, leaf->dim);
}

/* ---- Layers
 * -------------------------------------------------------------------- */

/* Leaves of a kind, each once, behind those that are in the list. */
static void collect(emitter_t *e, const moe_term_t *term,
                    moe_term_kind_t kind) {
  if (*written_slot(e, term) != NULL) return;
  bool wanted =
      term->kind == kind || (kind == TERM_ROUTE && term->kind == TERM_GATE);
  if (wanted) {
    for (unsigned i = 0; i < e->n_leaves; i++)
      if (e->leaf[i] == term) return;
    e->leaf = arena_grow_array(e->ctx->scratch, e->leaf, e->n_leaves,
                               e->n_leaves + 1, sizeof *e->leaf);
    e->leaf[e->n_leaves++] = term;
  }
  moe_remember(e, term, NULL);
  for (unsigned i = 0; term->kind == TERM_OP && i < term->n; i++)
    collect(e, term->in[i], kind);
}

static void forget(emitter_t *e) {
  for (size_t i = 0; i < MOE_WRITTEN; i++) e->in_region[i] = NULL;
  e->loops = NULL;
}

/* Experts that choose: the expert of each row, and its token. */
static ir_value_t *choosing_experts(emitter_t *e) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  const expr_t *dim[2] = {expr_const(e->pool, source->experts),
                          expr_const(e->pool, 1)};
  uint8_t tag[2] = {TAG_EXPERT, TAG_PLACE};
  if (source->slot == 0) {
    tag[0] = TAG_PLACE;
    tag[1] = TAG_EXPERT;
  }
  ir_value_t *token = bring_forward(b, e->now(e->user, source->index), tag,
                                    TAG_EXPERT, TAG_PLACE);
  token = ir_cast(b, token, DT_I64);
  e->token = with_dims(b, token, source->routes, 0, NULL);
  ir_value_t *number = ir_iota(b, DT_I64, dim[0]);
  number = with_dims(b, number, NULL, 2, dim);
  dim[1] = source->k;
  number = ir_expand(b, number, 2, dim);
  return with_dims(b, number, source->routes, 0, NULL);
}

/* Whether an earlier slot of the token has the same expert: bool[routes]. */
static ir_value_t *repeated_experts(emitter_t *e) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  const int64_t axis = 2;
  ir_value_t *own = ir_unsqueeze(b, e->route_index, 2);
  ir_value_t *other = ir_unsqueeze(b, e->route_index, 1);
  ir_value_t *slot = ir_iota(b, DT_I64, source->k);
  ir_value_t *own_slot = ir_unsqueeze(b, slot, 1);
  ir_value_t *same = ir_binary(b, OP_EQ, own, other);
  ir_value_t *earlier = ir_binary(b, OP_LT, slot, own_slot);
  ir_value_t *both = ir_binary(b, OP_AND, same, earlier);
  ir_value_t *any = ir_cast(b, both, DT_I64);
  any = ir_cast(b, ir_reduce(b, OP_REDUCE_MAX, any, 1, &axis, false), DT_BOOL);
  return with_dims(b, any, source->routes, 0, NULL);
}

/* One more condition on the routes that count. */
static bool write_condition(emitter_t *e, const moe_term_t *term) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  if (term == NULL) return true;
  ir_value_t *x = write_for_routes(e, term, source->routes);
  if (x == NULL) return false;
  x = with_dims(b, x, source->routes, 0, NULL);
  e->active = e->active != NULL ? ir_binary(b, OP_AND, x, e->active) : x;
  return e->active != NULL;
}

/* Experts of the routes, in order; those of tokens that are dropped name none.
 */
static ir_value_t *expert_numbers(emitter_t *e) {
  ir_builder_t *b = e->outer;
  const moe_found_t *found = e->found;
  const moe_source_t *source = found->source;
  if (source->chooses) return choosing_experts(e);
  ir_value_t *x = e->now(e->user, source->index);
  uint8_t tag[IR_MAX_RANK] = {0};
  for (unsigned d = 0; d < x->type.rank; d++)
    tag[d] = (int)d == source->slot ? TAG_SLOT : TAG_TOKEN;
  x = ir_cast(b, bring_forward(b, x, tag, TAG_TOKEN, TAG_SLOT), DT_I64);
  const expr_t *dim[2] = {source->tokens, source->k};
  e->route_index = with_dims(b, x, NULL, 2, dim);
  x = with_dims(b, x, source->routes, 0, NULL);
  ir_value_t *kept = NULL;
  if (found->below != NULL && found->over == NULL)
    kept = moe_limits_keep(e->limits, found, b->before, &e->limit);
  if (kept != NULL) x = with_dims(b, kept, source->routes, 0, NULL);
  if (found->unique) {
    ir_value_t *again = repeated_experts(e);
    x = ir_select(b, again, ir_scalar_int(b, DT_I64, source->experts), x);
  }
  if (!write_condition(e, found->active) ||
      (kept == NULL && !write_condition(e, found->below)))
    return NULL;
  if (e->active == NULL) return x;
  ir_value_t *none = ir_scalar_int(b, DT_I64, source->experts);
  return ir_select(b, e->active, x, none);
}

/* Which region each expert has, and its place in the banks of that. */
static void set_structure(emitter_t *e, ir_op_t *op, const int64_t *n_banks) {
  const moe_found_t *found = e->found;
  arena_t *arena = e->ctx->scratch;
  int64_t n = found->source->experts;
  int64_t *structure = ARENA_ARRAY(arena, int64_t, (size_t)n);
  int64_t *position = ARENA_ARRAY(arena, int64_t, (size_t)n);
  int64_t *next = ARENA_ARRAY(arena, int64_t, found->n_terms);
  for (int64_t i = 0; i < n; i++) {
    structure[i] = found->structure != NULL ? found->structure[i] : 0;
    if (structure[i] >= 0) position[i] = next[structure[i]]++;
  }
  ir_set_ints(op, ATTR_MOE_EXPERTS_structure, (unsigned)n, structure);
  ir_set_ints(op, ATTR_MOE_EXPERTS_position, (unsigned)n, position);
  ir_set_ints(op, ATTR_MOE_EXPERTS_banks, found->n_terms, n_banks);
}

/* The term of a structure, with the operands as arguments. */
static bool fill_region(emitter_t *e, ir_op_t *op, unsigned index,
                        const moe_term_t *term, unsigned n_values,
                        unsigned first_bank) {
  const ir_region_t *region = ir_moe_add_region(op);
  forget(e);
  for (unsigned i = 0; i < region->n_args; i++) {
    unsigned leaf = i < n_values ? i : first_bank + i - n_values;
    moe_remember(e, e->leaf[leaf], &region->args[i]);
  }
  ir_builder_t inner = *e->outer;
  inner.region = &op->regions[index];
  inner.before = NULL;
  e->inner = &inner;
  ir_value_t *y = moe_write_term(e, term);
  if (y == NULL || inner.status != MOEC_OK) return false;
  if (!term->rows) { /* the same for all rows */
    const expr_t *dim[IR_MAX_RANK + 1] = {e->rows};
    for (unsigned d = 0; d < term->rank; d++) dim[1 + d] = term->dim[d];
    y = ir_expand(&inner, y, term->rank + 1, dim);
  }
  ir_op_t *yield = y != NULL ? ir_begin(&inner, OP_YIELD, 1, &y, 0) : NULL;
  if (yield == NULL) return false;
  ir_place(&inner, yield);
  return inner.status == MOEC_OK;
}

/* Leaves of all structures in the order of operands: values of tokens, of
 * routes, then the banks of each structure. Where each of these begin, and the
 * end, are in first[2 + n_terms + 1]. */
static void collect_all(emitter_t *e, moe_term_t *const *term,
                        unsigned *first) {
  unsigned n = e->found->n_terms;
  e->n_leaves = 0;
  for (unsigned i = 0; i < n; i++) collect(e, term[i], TERM_TOKEN);
  first[0] = 0;
  first[1] = e->n_leaves;
  forget(e);
  for (unsigned i = 0; i < n; i++) collect(e, term[i], TERM_ROUTE);
  for (unsigned i = 0; i < n; i++) {
    first[2 + i] = e->n_leaves;
    forget(e);
    collect(e, term[i], TERM_BANK);
  }
  first[2 + n] = e->n_leaves;
  forget(e);
}

static ir_op_t *write_experts(emitter_t *e, moe_term_t *const *term,
                              ir_value_t *expert) {
  const moe_source_t *source = e->found->source;
  arena_t *arena = e->ctx->scratch;
  unsigned n = e->found->n_terms;
  unsigned *first = ARENA_ARRAY(arena, unsigned, n + 3);
  int64_t *n_banks = ARENA_ARRAY(arena, int64_t, n);
  collect_all(e, term, first);
  for (unsigned i = 0; i < n; i++) n_banks[i] = first[3 + i] - first[2 + i];
  ir_value_t **in = ARENA_ARRAY(arena, ir_value_t *, e->n_leaves + 2);
  in[0] = expert;
  in[1] = e->token; /* NULL: tokens follow from k */
  for (unsigned i = 0; i < e->n_leaves; i++) {
    in[2 + i] = operand_of(e, e->leaf[i]);
    if (in[2 + i] == NULL) return NULL;
  }
  ir_op_t *op = ir_begin(e->outer, OP_MOE_EXPERTS, e->n_leaves + 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_MOE_EXPERTS_experts, source->experts);
  if (e->token == NULL) ir_set_expr(op, ATTR_MOE_EXPERTS_k, source->k);
  ir_set_expr(op, ATTR_MOE_EXPERTS_tokens, source->tokens);
  ir_set_int(op, ATTR_MOE_EXPERTS_token_values, first[1]);
  ir_set_int(op, ATTR_MOE_EXPERTS_route_values, first[2] - first[1]);
  set_structure(e, op, n_banks);
  e->rows = expr_new_symbol(e->pool, "rows", 0, NULL);
  ir_set_expr(op, ATTR_MOE_EXPERTS_rows, e->rows);
  for (unsigned i = 0; i < n; i++)
    if (!fill_region(e, op, i, term[i], first[2], first[2 + i])) return NULL;
  return ir_place(e->outer, op) != NULL ? op : NULL;
}

/* A last factor that each route has one of: the weight of the sum. */
static moe_term_t *split_weight(moe_term_t *term,
                                const moe_term_t **out_weight) {
  *out_weight = NULL;
  if (term->kind != TERM_OP || term->code != OP_MUL) return term;
  for (unsigned i = 0; i < 2; i++) {
    const moe_term_t *w = term->in[i];
    moe_term_t *y = term->in[1 - i];
    bool scalar = w->rows && !w->banks && !w->tokens && y->rows;
    for (unsigned d = 0; scalar && d < w->rank; d++)
      scalar = rule_is_one(w->dim[d]);
    const moe_term_t *leaf = w;
    while (leaf->kind == TERM_OP && leaf->code == OP_RESHAPE)
      leaf = leaf->in[0];
    scalar = scalar && (leaf->kind == TERM_ROUTE || leaf->kind == TERM_GATE) &&
             y->rank == term->rank;
    for (unsigned d = 0; scalar && d < y->rank; d++)
      scalar = y->dim[d] == term->dim[d];
    if (!scalar) continue;
    *out_weight = leaf;
    return y;
  }
  return term;
}

/* The terms without a last factor that is the same route's value in all of
 * them; NULL: there is none. */
static const moe_term_t *split_weights(emitter_t *e, moe_term_t **term) {
  const moe_found_t *found = e->found;
  const moe_term_t *weight = NULL, *other;
  for (unsigned i = 0; i < found->n_terms; i++) {
    term[i] = split_weight(found->term[i], &other);
    if (other == NULL || found->apart || (i > 0 && other != weight)) {
      for (unsigned j = 0; j < found->n_terms; j++) term[j] = found->term[j];
      return NULL;
    }
    weight = other;
  }
  return weight;
}

/* Whether every expert has a slot, and conditions on the weights choose. */
bool moe_chooses_by_weight(const moe_found_t *found) {
  const moe_source_t *source = found->source;
  const moe_term_t *weight;
  if (found->apart) return false;
  (void)split_weight(found->term[0], &weight);
  return weight != NULL && weight->value != NULL && !source->by_mask &&
         !source->chooses && expr_equals_const(source->k, source->experts) &&
         moe_may_vanish(weight->value);
}

/* Routes of weight 0 name no expert. */
static ir_value_t *weighty_experts(emitter_t *e, ir_value_t *expert,
                                   const moe_term_t *weight) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  ir_value_t *w = with_dims(b, operand_of(e, weight), source->routes, 0, NULL);
  if (w == NULL) return NULL;
  ir_value_t *zero = ir_scalar(b, w->type.dtype, 0);
  ir_value_t *none = ir_scalar_int(b, DT_I64, source->experts);
  ir_value_t *nothing = ir_binary(b, OP_EQ, w, zero);
  return ir_select(b, nothing, none, expert);
}

/* out[tokens, features..] as the root lies. */
static ir_value_t *as_root(emitter_t *e, ir_value_t *sum) {
  const moe_found_t *found = e->found;
  const ir_type_t *type = &found->root->type;
  const expr_t *dim[IR_MAX_RANK];
  int64_t perm[IR_MAX_RANK], place[IR_MAX_RANK];
  unsigned n = 0;
  for (unsigned pass = 0; pass < 2; pass++)
    for (unsigned d = 0; d < type->rank; d++)
      if ((found->tag[d] == TAG_TOKEN) == (pass == 0)) {
        place[d] = n;
        dim[n++] = type->dim[d];
      }
  bool moves = false;
  for (unsigned d = 0; d < n; d++) {
    perm[d] = place[d];
    moves = moves || perm[d] != (int64_t)d;
  }
  sum = with_dims(e->outer, sum, NULL, n, dim);
  return moves ? ir_transpose(e->outer, sum, perm) : sum;
}

/* y[routes, features..] as the root lies. */
static ir_value_t *as_routes(emitter_t *e, ir_value_t *y) {
  static const unsigned order[] = {TAG_TOKEN, TAG_SLOT, TAG_INNER};
  const ir_type_t *type = &e->found->root->type;
  const expr_t *dim[2 * IR_MAX_RANK], *first[2 * IR_MAX_RANK];
  uint8_t tag[2 * IR_MAX_RANK] = {0};
  int64_t perm[2 * IR_MAX_RANK];
  unsigned n = split_type(e, type, e->found->tag, dim, tag), to = 0;
  bool moves = false;
  for (unsigned pass = 0; pass < 3; pass++)
    for (unsigned d = 0; d < n; d++) {
      if (tag[d] != order[pass]) continue;
      moves = moves || d != to;
      perm[d] = to;
      first[to++] = dim[d];
    }
  MOEC_ASSERT(to == n && n <= IR_MAX_RANK);
  y = with_dims(e->outer, y, NULL, n, first);
  if (moves) y = ir_transpose(e->outer, y, perm);
  return with_dims(e->outer, y, NULL, type->rank, type->dim);
}

/* The weights of routes whose expert the file lacks are nowhere read: where
 * conditions make weights 0, a token with such experts only may have 0 / 0. */
static ir_value_t *weights_of_present(emitter_t *e, ir_value_t *w,
                                      const moe_term_t *weight) {
  ir_builder_t *b = e->outer;
  const moe_found_t *found = e->found;
  const int64_t n = found->source->experts;
  bool all = true;
  for (int64_t i = 0; found->present != NULL && i < n; i++)
    all = all && found->present[i];
  if (all || found->form != MOE_FORM_LOOP || found->source->some ||
      weight->value == NULL || !moe_may_vanish(weight->value))
    return w;
  int64_t *present = ARENA_ARRAY(e->ctx->scratch, int64_t, (size_t)n);
  for (int64_t i = 0; i < n; i++) present[i] = found->present[i];
  ir_value_t *is_present =
      ir_cast(b, ir_ints(b, (unsigned)n, present), DT_BOOL);
  ir_value_t *expert =
      with_dims(b, e->route_index, found->source->routes, 0, NULL);
  ir_value_t *own = ir_gather(b, is_present, expert, 0);
  return ir_select(b, own, w, ir_scalar(b, w->type.dtype, 0));
}

static ir_value_t *write_sum(emitter_t *e, ir_value_t *y,
                             const moe_term_t *weight) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  ir_value_t *in[3] = {y, NULL, e->token};
  unsigned n = e->token != NULL ? 3 : weight != NULL ? 2 : 1;
  if (weight != NULL) {
    in[1] = operand_of(e, weight);
    if (in[1] == NULL) return NULL;
    in[1] = with_dims(b, in[1], source->routes, 0, NULL);
    in[1] = weights_of_present(e, in[1], weight);
  } else if (n == 3) {
    ir_value_t *one = ir_scalar(b, y->type.dtype, 1);
    in[1] = ir_fill(b, one, 1, &source->routes);
  }
  ir_op_t *op = ir_begin(b, OP_MOE_COMBINE, n, in, 1);
  if (op == NULL) return NULL;
  if (e->token == NULL) ir_set_expr(op, ATTR_MOE_COMBINE_k, source->k);
  ir_set_expr(op, ATTR_MOE_COMBINE_tokens, source->tokens);
  return ir_place(b, op);
}

/* Of tokens that no expert has, what was there before. */
static ir_value_t *write_over(emitter_t *e, ir_value_t *sum) {
  const ir_type_t *type = &e->found->root->type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] =
        e->found->tag[d] == TAG_TOKEN ? type->dim[d] : expr_const(e->pool, 1);
  ir_value_t *active = with_dims(e->outer, e->active, NULL, type->rank, dim);
  return ir_select(e->outer, active, sum, e->now(e->user, e->found->over));
}

ir_op_t *moe_emit(pass_ctx_t *ctx, const moe_found_t *found,
                  moe_limits_t *limits,
                  ir_value_t *(*now)(void *user, ir_value_t *value), void *user,
                  ir_value_t **out_sum, const ir_op_t **out_limit) {
  ir_op_t *root = found->root->def;
  if (!pass_allow_rewrite(ctx, "moe", root)) return NULL;
  ir_builder_t b = {.module = ctx->module,
                    .region = root->parent,
                    .before = root,
                    .loc = root->loc,
                    .diag = ctx->diag};
  emitter_t e = {.ctx = ctx,
                 .found = found,
                 .limits = limits,
                 .now = now,
                 .user = user,
                 .pool = ctx->module->exprs,
                 .outer = &b};
  e.table = e.in_region;
  ir_value_t *expert = expert_numbers(&e);
  if (expert == NULL) return NULL;
  moe_term_t **term = ARENA_ARRAY(ctx->scratch, moe_term_t *, found->n_terms);
  const moe_term_t *weight = split_weights(&e, term);
  if (weight != NULL && moe_chooses_by_weight(found)) {
    expert = weighty_experts(&e, expert, weight);
    if (expert == NULL) return NULL;
  }
  ir_op_t *experts = write_experts(&e, term, expert);
  if (experts == NULL) return NULL;
  ir_value_t *sum = found->apart ? as_routes(&e, &experts->out[0])
                                 : write_sum(&e, &experts->out[0], weight);
  if (sum == NULL || b.status != MOEC_OK) return NULL;
  if (!found->apart) sum = as_root(&e, sum);
  if (found->over != NULL) sum = write_over(&e, sum);
  for (unsigned i = 0; i < found->n_rest; i++)
    sum = ir_binary(&b, OP_ADD, now(user, found->rest[i]), sum);
  if (b.status != MOEC_OK) return NULL;
  ir_replace_uses(found->root, sum);
  *out_sum = sum;
  *out_limit = e.limit;
  return experts;
}
