/* Writing what the chosen groups need. */
#include "passes/layout.h"
#include "passes/moe_groups.h"
#include "passes/rules.h"

/* ---- Shapes -------------------------------------------------------------- */

static ir_value_t *as(groups_t *g, ir_value_t *x, const expr_t *a,
                      const expr_t *b, const expr_t *c) {
  const expr_t *dim[3] = {a, b, c};
  return ir_reshape(g->b, x, 3, dim);
}

/* x[T or 1, k or 1, width] with all of them. */
static ir_value_t *in_full(groups_t *g, ir_value_t *x, const expr_t *width) {
  const expr_t *dim[3] = {g->T, g->k, width};
  if (x == NULL) return NULL;
  for (unsigned d = 0; d < 3; d++)
    if (x->type.dim[d] != dim[d]) return ir_expand(g->b, x, 3, dim);
  return x;
}

static ir_value_t *write_gathered(groups_t *g, const group_node_t *node) {
  const expr_t *one = expr_const(g->pool, 1);
  const expr_t *dim[3] = {g->T, g->k, node->width};
  ir_value_t *in[2];
  if (node->turned) {
    in[0] = as(g, node->x[0], g->G, g->T, node->width);
    in[0] = ir_transpose(g->b, in[0], (const int64_t[]){1, 0, 2});
  } else {
    in[0] = as(g, node->x[0], g->T, g->G, node->width);
  }
  in[1] = as(g, g->at, g->T, g->k, one);
  if (!rule_is_one(node->width)) in[1] = ir_expand(g->b, in[1], 3, dim);
  ir_op_t *op = ir_begin(g->b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  return ir_place(g->b, op);
}

/* The values of all groups, which are no tokens' own: [G, width]. */
static ir_value_t *stack(groups_t *g, ir_value_t *const *x, unsigned n,
                         const expr_t *width) {
  const expr_t *dim[2] = {n > 1 ? expr_const(g->pool, 1) : g->G, width};
  ir_value_t **part = ARENA_ARRAY(g->ctx->scratch, ir_value_t *, n);
  for (unsigned i = 0; i < n; i++) part[i] = ir_reshape(g->b, x[i], 2, dim);
  return n > 1 ? ir_concat(g->b, n, part, 0) : part[0];
}

static ir_value_t *write_own(groups_t *g, const group_node_t *node) {
  ir_value_t *all = stack(g, node->x, node->n, node->width);
  return ir_gather(g->b, all, g->at, 0);
}

/* ---- Operations ---------------------------------------------------------- */

static void copy_attrs(ir_op_t *to, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_attrs; i++)
    to->attrs[to->n_attrs++] = op->attrs[i];
}

static ir_value_t *write_elements(groups_t *g, group_node_t *node) {
  const ir_op_t *op = node->x[0]->def;
  ir_value_t **in = ARENA_ARRAY(g->ctx->scratch, ir_value_t *, node->n_in);
  for (unsigned i = 0; i < node->n_in; i++) {
    in[i] = groups_write(g, node->in[i]);
    if (in[i] == NULL) return NULL;
  }
  if (op->code == OP_EXPAND) {
    const expr_t *one = expr_const(g->pool, 1);
    if (in[0]->type.rank == 0) in[0] = as(g, in[0], one, one, one);
    return in_full(g, in[0], node->width);
  }
  ir_op_t *to = ir_begin(g->b, op->code, node->n_in, in, 1);
  if (to == NULL) return NULL;
  copy_attrs(to, op);
  ir_value_t *y = ir_place(g->b, to);
  if (y != NULL && y->type.rank == 0)
    y = ir_fill(g->b, y, 3, (const expr_t *[]){g->T, g->k, node->width});
  return in_full(g, y, node->width);
}

/* x[T, k, width] with the inner dimensions of `like`. */
static ir_value_t *with_inner(groups_t *g, ir_value_t *x, const ir_type_t *like,
                              unsigned lead) {
  const expr_t *dim[IR_MAX_RANK] = {g->T, g->k};
  unsigned n = 2;
  for (unsigned d = lead; d < like->rank; d++) dim[n++] = like->dim[d];
  return ir_reshape(g->b, x, n, dim);
}

static void move_axes(ir_op_t *to, const ir_op_t *op, unsigned lead) {
  ir_attr_id_t id = ir_op_info(op->code)->attr_first;
  int64_t rank = op->in[0].value->type.rank, moved[IR_MAX_RANK];
  unsigned n;
  if (op->code != OP_REDUCE_SUM && op->code != OP_REDUCE_MAX &&
      op->code != OP_REDUCE_MIN && op->code != OP_REDUCE_PROD) {
    int64_t axis = ir_get_int(op, id);
    ir_set_int(to, id, (axis < 0 ? axis + rank : axis) - lead + 2);
    return;
  }
  const int64_t *axes = ir_get_ints(op, id, &n);
  for (unsigned i = 0; i < n; i++)
    moved[i] = (axes[i] < 0 ? axes[i] + rank : axes[i]) - lead + 2;
  ir_set_ints(to, id, n, moved);
}

/* The same operation for another result, if it was written. */
static ir_op_t *written_rows(const groups_t *g, const group_node_t *node) {
  for (const group_node_t *other = g->nodes; other != NULL; other = other->next)
    if (other->kind == GROUP_ROWS && other->op != NULL && other->n == node->n &&
        other->turned == node->turned && other->x[0]->def == node->x[0]->def)
      return other->op;
  return NULL;
}

static ir_value_t *write_rows(groups_t *g, group_node_t *node) {
  const ir_op_t *op = node->x[0]->def;
  node->op = written_rows(g, node);
  if (node->op == NULL) {
    ir_value_t **in = ARENA_ARRAY(g->ctx->scratch, ir_value_t *, node->n_in);
    for (unsigned i = 0; i < node->n_in; i++) {
      ir_value_t *y = groups_write(g, node->in[i]);
      in[i] = with_inner(g, y, &op->in[i].value->type, node->lead);
    }
    ir_op_t *to = ir_begin(g->b, op->code, node->n_in, in, op->n_out);
    if (to == NULL) return NULL;
    copy_attrs(to, op);
    move_axes(to, op, node->lead);
    if (ir_place(g->b, to) == NULL) return NULL;
    node->op = to;
  }
  return as(g, &node->op->out[node->x[0]->index], g->T, g->k, node->width);
}

static ir_value_t *write_turned(groups_t *g, group_node_t *node) {
  const ir_op_t *op = node->x[0]->def;
  const ir_type_t *from = &op->in[0].value->type;
  const expr_t *dim[IR_MAX_RANK] = {g->T, g->k};
  int64_t place[IR_MAX_RANK], inner[IR_MAX_RANK] = {0, 1};
  unsigned rank, n = 2, n_perm = 2;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &rank);
  uint8_t class[IR_MAX_RANK];
  if (!groups_classify(g, from, node->in[0]->turned, false, node->width, class))
    return NULL;
  for (unsigned d = 0; d < rank; d++) {
    place[d] = n;
    if (class[d] == GROUP_OF_WIDTH) dim[n++] = from->dim[d];
  }
  for (unsigned d = 0; d < rank; d++)
    if (class[perm[d]] == GROUP_OF_WIDTH) inner[n_perm++] = place[perm[d]];
  ir_value_t *x = ir_reshape(g->b, groups_write(g, node->in[0]), n, dim);
  x = ir_transpose(g->b, x, inner);
  return as(g, x, g->T, g->k, node->width);
}

/* ---- Products ------------------------------------------------------------ */

/* The matrices of all groups: [G, H, W], or [G, W, H] where *out_turned. */
static ir_value_t *write_bank(groups_t *g, const group_node_t *node,
                              const expr_t *inner, bool *out_turned) {
  ir_builder_t *b = g->b;
  const ir_op_t *op = node->x[0]->def;
  ir_value_t *w = op->in[1].value;
  const ir_op_t *turn = rule_def(op, 1, OP_TRANSPOSE);
  bool joined = node->n == 1 && w->type.rank == 2;
  *out_turned = w->type.rank == 2 && turn != NULL;
  const expr_t *dim[3] = {g->G, inner, node->width};
  if (*out_turned) {
    dim[1] = node->width;
    dim[2] = inner;
  }
  if (node->n > 1) {
    ir_value_t **part = ARENA_ARRAY(g->ctx->scratch, ir_value_t *, node->n);
    dim[0] = expr_const(g->pool, 1);
    for (unsigned i = 0; i < node->n; i++) {
      part[i] = node->x[i]->def->in[1].value;
      if (*out_turned) part[i] = part[i]->def->in[0].value;
      part[i] = ir_reshape(b, part[i], 3, dim);
    }
    return ir_concat(b, node->n, part, 0);
  }
  if (*out_turned) return ir_reshape(b, turn->in[0].value, 3, dim);
  if (!joined) return ir_reshape(b, w, 3, dim);
  const expr_t *apart[3] = {inner, g->G, node->width};
  w = ir_reshape(b, w, 3, apart);
  return ir_transpose(b, w, (const int64_t[]){1, 0, 2});
}

/* Columns of zeros behind each group's: as many as are summed in the order that
 * all together have. */
static ir_value_t *filled_up(groups_t *g, ir_value_t *bank, bool turned,
                             int64_t width) {
  const expr_t *dim[3];
  unsigned axis = turned ? 1 : 2;
  for (unsigned d = 0; d < 3; d++) dim[d] = bank->type.dim[d];
  dim[axis] = expr_const(g->pool, LAYOUT_NARROW - width);
  ir_value_t *zero = ir_scalar(g->b, bank->type.dtype, 0);
  ir_value_t *part[2] = {bank, ir_fill(g->b, zero, 3, dim)};
  return ir_concat(g->b, 2, part, axis);
}

static bool fill_region(groups_t *g, ir_op_t *op, bool turned) {
  const ir_region_t *region = ir_moe_add_region(op);
  ir_builder_t inner = *g->b;
  inner.region = &op->regions[0];
  inner.before = NULL;
  ir_value_t *w = &region->args[1];
  if (turned) w = ir_transpose(&inner, w, (const int64_t[]){1, 0});
  ir_value_t *y = ir_matmul(&inner, &region->args[0], w);
  ir_op_t *yield = ir_begin(&inner, OP_YIELD, 1, &y, 0);
  if (yield == NULL) return false;
  ir_place(&inner, yield);
  return inner.status == MOEC_OK;
}

static ir_value_t *write_product(groups_t *g, const group_node_t *node) {
  ir_builder_t *b = g->b;
  const ir_op_t *op = node->x[0]->def;
  const ir_type_t *w = &op->in[1].value->type;
  const expr_t *inner = w->dim[w->rank - 2], *one = expr_const(g->pool, 1);
  const expr_t *rows[2] = {g->T, inner};
  const expr_t *routes = expr_mul(g->pool, g->T, g->k);
  int64_t width, zero = 1, *numbers;
  bool turned;
  if (!expr_is_const(node->width, &width)) return NULL;
  ir_value_t *in[4] = {ir_reshape(b, g->at, 1, &routes), NULL};
  in[2] = ir_reshape(b, op->in[0].value, 2, rows);
  in[3] = write_bank(g, node, inner, &turned);
  if (in[3] == NULL) return NULL;
  bool fill = node->n == 1 && w->rank == 2 && width < LAYOUT_NARROW &&
              width * g->n_groups >= LAYOUT_NARROW;
  if (fill) in[3] = filled_up(g, in[3], turned, width);
  ir_op_t *experts = ir_begin(b, OP_MOE_EXPERTS, 4, in, 1);
  if (experts == NULL) return NULL;
  unsigned n = (unsigned)g->n_groups;
  numbers = ARENA_ARRAY(g->ctx->scratch, int64_t, (size_t)n);
  ir_set_ints(experts, ATTR_MOE_EXPERTS_structure, n, numbers);
  for (unsigned i = 0; i < n; i++) numbers[i] = i;
  ir_set_ints(experts, ATTR_MOE_EXPERTS_position, n, numbers);
  ir_set_ints(experts, ATTR_MOE_EXPERTS_banks, 1, &zero);
  ir_set_int(experts, ATTR_MOE_EXPERTS_experts, g->n_groups);
  ir_set_expr(experts, ATTR_MOE_EXPERTS_k, g->k);
  ir_set_expr(experts, ATTR_MOE_EXPERTS_tokens, g->T);
  ir_set_int(experts, ATTR_MOE_EXPERTS_token_values, 1);
  ir_set_int(experts, ATTR_MOE_EXPERTS_route_values, 0);
  ir_set_expr(experts, ATTR_MOE_EXPERTS_rows,
              expr_new_symbol(g->pool, "rows", 0, NULL));
  if (!fill_region(g, experts, turned)) return NULL;
  ir_value_t *y = ir_place(b, experts);
  if (y == NULL) return NULL;
  if (fill) y = ir_slice(b, y, 1, expr_const(g->pool, 0), node->width, one);
  return as(g, y, g->T, g->k, node->width);
}

/* ---- Values -------------------------------------------------------------- */

static ir_value_t *write(groups_t *g, group_node_t *node) {
  const expr_t *one = expr_const(g->pool, 1);
  switch (node->kind) {
    case GROUP_GATHERED:
      return write_gathered(g, node);
    case GROUP_OWN:
      return write_own(g, node);
    case GROUP_TOKEN:
      return as(g, node->x[0], node->lead != 0 ? g->T : one, one, node->width);
    case GROUP_ONE:
      return ir_reshape(g->b, node->x[0], 0, NULL);
    case GROUP_SAME:
      return groups_write(g, node->in[0]);
    case GROUP_TURN:
      return write_turned(g, node);
    case GROUP_ELEMENTS:
      return write_elements(g, node);
    case GROUP_ROWS:
      return write_rows(g, node);
    case GROUP_UPDATES:
      return as(g, node->x[0]->def->in[2].value, g->T, g->k, one);
    case GROUP_PRODUCT:
      return write_product(g, node);
  }
  return NULL;
}

ir_value_t *groups_write(groups_t *g, group_node_t *node) {
  if (node->value == NULL) node->value = write(g, node);
  return node->value;
}
