/* Terms as operations: in the region of moe.experts, or in front of the layer
 * for all routes. */
#include "passes/moe_emit_internal.h"
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

const moe_written_t *moe_recall(moe_emitter_t *e, const moe_term_t *term) {
  return *written_slot(e, term);
}

/* The operand with as many features as the result, so that rows line up. */
static ir_value_t *line_up(emitter_t *e, const moe_term_t *x, ir_value_t *value,
                           unsigned rank) {
  if (!x->rows || x->rank >= rank) return value;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < rank; d++)
    dim[d] = d < rank - x->rank ? expr_const(e->pool, 1)
                                : x->dim[d - (rank - x->rank)];
  return moe_with_dims(e->inner, value, e->rows, rank, dim);
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
      return moe_with_dims(e->inner, in[0], rows, term->rank, term->dim);
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
    return y != NULL
               ? moe_with_dims(e->inner, y, e->rows, term->rank, term->dim)
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
  ir_value_t *x = moe_operand(e, leaf);
  if (x != NULL && leaf->kind == TERM_TOKEN && source->chooses)
    return ir_gather(e->outer, x, e->token, 0);
  if (x == NULL || leaf->kind != TERM_TOKEN || rule_is_one(source->k)) return x;
  const expr_t *dim[IR_MAX_RANK + 2] = {source->tokens, expr_const(e->pool, 1)};
  for (unsigned d = 0; d < leaf->rank; d++) dim[2 + d] = leaf->dim[d];
  x = moe_with_dims(e->outer, x, NULL, leaf->rank + 2, dim);
  dim[1] = source->k;
  x = ir_expand(e->outer, x, leaf->rank + 2, dim);
  return moe_with_dims(e->outer, x, source->routes, leaf->rank, leaf->dim);
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
    value = moe_with_dims(e->inner, moe_outside(e, term->value), NULL,
                          term->rank, term->dim);
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
ir_value_t *moe_write_for_routes(emitter_t *e, const moe_term_t *term,
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
ir_value_t *moe_operand_of_routes(emitter_t *e, const moe_term_t *leaf) {
  const moe_source_t *source = e->found->source;
  ir_builder_t *b = e->outer;
  if (leaf->n == 1)
    return moe_with_dims(b,
                         moe_write_for_routes(e, leaf->in[0], source->routes),
                         source->routes, leaf->rank, leaf->dim);
  ir_value_t *part[MOE_MAX_PARTS];
  const expr_t *one = expr_const(e->pool, 1);
  for (unsigned i = 0; i < leaf->n; i++) {
    const moe_term_t *number = leaf->in[i];
    while (number->kind == TERM_OP) number = number->in[0]; /* a reshape */
    if (number->kind == TERM_GATE) { /* at the experts of all slots */
      const expr_t *dim[2] = {source->tokens, source->k};
      ir_value_t *all = moe_with_dims(b, moe_operand(e, number), NULL, 2, dim);
      part[i] = ir_slice(b, all, 1, expr_const(e->pool, i), one, one);
    } else {
      const expr_t *dim[2] = {source->tokens, one};
      part[i] = moe_with_dims(b, moe_operand(e, number), NULL, 2, dim);
    }
  }
  ir_value_t *all = ir_concat(b, leaf->n, part, 1);
  return moe_with_dims(b, all, source->routes, leaf->rank, leaf->dim);
}
