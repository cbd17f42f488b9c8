/* How values of all groups are computed for the chosen ones. */
#include "passes/layout.h"
#include "passes/moe_groups.h"
#include "passes/moe_levels.h"
#include "passes/rules.h"

enum { MOST_STEPS = 1 << 14, MOST_NESTED = 48 };

/* ---- Shapes -------------------------------------------------------------- */

bool groups_classify(const groups_t *g, const ir_type_t *type, bool turned,
                     bool own, const expr_t *width, uint8_t *out) {
  const expr_t *one = expr_const(g->pool, 1);
  const expr_t *size[3] = {g->T, own ? one : g->G, width};
  uint8_t kind[3] = {GROUP_OF_TOKEN, GROUP_OF_GROUP, GROUP_OF_WIDTH};
  if (turned && !own) {
    size[0] = g->G;
    size[1] = g->T;
    kind[0] = GROUP_OF_GROUP;
    kind[1] = GROUP_OF_TOKEN;
  }
  unsigned at = 0;
  const expr_t *left = size[0];
  for (unsigned d = 0; d < type->rank; d++) {
    const expr_t *need = type->dim[d];
    out[d] = 0;
    while (!rule_is_one(need)) {
      while (rule_is_one(left)) {
        if (++at == 3) return false;
        left = size[at];
      }
      out[d] |= kind[at];
      const expr_t *part = expr_divide_exactly(g->pool, left, need);
      if (part != NULL) {
        left = part;
        break;
      }
      need = expr_divide_exactly(g->pool, need, left);
      if (need == NULL) return false;
      left = one;
    }
  }
  while (rule_is_one(left) && at < 2) left = size[++at];
  return rule_is_one(left);
}

/* ---- Nodes --------------------------------------------------------------- */

static group_node_t *plan(groups_t *g, ir_value_t **x, unsigned n,
                          const expr_t *width, bool turned, unsigned depth);

static group_node_t *new_node(groups_t *g, group_kind_t kind, ir_value_t **x,
                              unsigned n, const expr_t *width, bool turned) {
  group_node_t *node = ARENA_NEW(g->ctx->scratch, group_node_t);
  *node = (group_node_t){.kind = kind,
                         .x = x,
                         .n = n,
                         .width = width,
                         .turned = turned,
                         .next = g->nodes};
  g->nodes = node;
  return node;
}

static group_node_t **new_operands(groups_t *g, unsigned n) {
  return ARENA_ARRAY(g->ctx->scratch, group_node_t *, n + 1);
}

static bool all_same(ir_value_t *const *x, unsigned n) {
  for (unsigned i = 1; i < n; i++)
    if (x[i] != x[0]) return false;
  return true;
}

/* Operand `index` of what defines each x. */
static ir_value_t **operands(groups_t *g, ir_value_t *const *x, unsigned n,
                             unsigned index) {
  ir_value_t **y = ARENA_ARRAY(g->ctx->scratch, ir_value_t *, n);
  for (unsigned i = 0; i < n; i++) y[i] = x[i]->def->in[index].value;
  return y;
}

/* The values are computed alike. */
static bool are_alike(const group_node_t *node) {
  const ir_value_t *x = node->x[0];
  const ir_op_t *op = x->def;
  for (unsigned i = 1; i < node->n; i++) {
    const ir_value_t *y = node->x[i];
    const ir_op_t *other = y->def;
    if (other == NULL || other->code != op->code || other->n_in != op->n_in ||
        other->n_attrs != op->n_attrs || y->index != x->index ||
        !ir_type_equal(&x->type, &y->type))
      return false;
    for (unsigned a = 0; a < op->n_attrs; a++)
      if (op->attrs[a].id != other->attrs[a].id ||
          !ir_attr_equal(&op->attrs[a], &other->attrs[a]))
        return false;
    for (unsigned j = 0; j < op->n_in; j++) {
      const ir_value_t *a = op->in[j].value, *b = other->in[j].value;
      if ((a == NULL) != (b == NULL) ||
          (a != NULL && !ir_type_equal(&a->type, &b->type)))
        return false;
    }
  }
  return true;
}

/* An operand of an elementwise operation, by what its dimensions run over. */
static group_node_t *plan_operand(groups_t *g, const group_node_t *node,
                                  const uint8_t *class, unsigned index,
                                  unsigned depth) {
  ir_value_t **y = operands(g, node->x, node->n, index);
  const ir_type_t *type = &y[0]->type, *out = &node->x[0]->type;
  const expr_t *one = expr_const(g->pool, 1);
  unsigned present = 0, absent = 0;
  for (unsigned d = 0; d < type->rank; d++) {
    unsigned at = out->rank - type->rank + d;
    if (!rule_is_one(type->dim[d]))
      present |= class[at];
    else
      absent |= class[at];
  }
  for (unsigned d = 0; d + type->rank < out->rank; d++) absent |= class[d];
  if ((present & absent) != 0) return NULL;
  bool wide = (present & GROUP_OF_WIDTH) != 0;
  const expr_t *width = wide ? node->width : one;
  bool same = all_same(y, node->n), own = node->n > 1;
  if (present == 0 && same) return new_node(g, GROUP_ONE, y, 1, one, false);
  bool grouped = own ? !same : (present & GROUP_OF_GROUP) != 0;
  if (!grouped) {
    group_node_t *leaf = new_node(g, GROUP_TOKEN, y, 1, width, false);
    leaf->lead = (present & GROUP_OF_TOKEN) != 0;
    return leaf;
  }
  bool by_token = (present & GROUP_OF_TOKEN) != 0 ||
                  (rule_is_one(g->T) && !rule_is_constant(y[0]));
  if (by_token) return plan(g, y, node->n, width, node->turned, depth + 1);
  return new_node(g, GROUP_OWN, y, node->n, width, false);
}

static group_node_t *plan_elements(groups_t *g, group_node_t *node,
                                   unsigned depth) {
  const ir_op_t *op = node->x[0]->def;
  uint8_t class[IR_MAX_RANK];
  if (!groups_classify(g, &node->x[0]->type, node->turned, node->n > 1,
                       node->width, class))
    return NULL;
  node->kind = GROUP_ELEMENTS;
  node->in = new_operands(g, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    if (op->in[i].value == NULL) return NULL;
    node->in[node->n_in++] = plan_operand(g, node, class, i, depth);
    if (node->in[i] == NULL) return NULL;
  }
  return node;
}

/* ---- Operations on what each token and group has ------------------------- */

/* The attribute of the axis, or axes, that such an operation runs along. */
static bool axis_of(const ir_op_t *op, ir_attr_id_t *out) {
  switch (op->code) {
    case OP_SOFTMAX:
      *out = ATTR_SOFTMAX_axis;
      return true;
    case OP_LOG_SOFTMAX:
      *out = ATTR_LOG_SOFTMAX_axis;
      return true;
    case OP_TOPK:
      *out = ATTR_TOPK_axis;
      return true;
    case OP_ARG_MAX:
      *out = ATTR_ARG_MAX_axis;
      return true;
    case OP_CONCAT:
      *out = ATTR_CONCAT_axis;
      return true;
    case OP_GATHER_ELEMENTS:
      *out = ATTR_GATHER_ELEMENTS_axis;
      return true;
    case OP_SCATTER_ELEMENTS:
      *out = ATTR_SCATTER_ELEMENTS_axis;
      return true;
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
    case OP_REDUCE_PROD:
      *out = ir_op_info(op->code)->attr_first;
      return true;
    default:
      return false;
  }
}

static bool reduces(const ir_op_t *op) {
  return op->code == OP_REDUCE_SUM || op->code == OP_REDUCE_MAX ||
         op->code == OP_REDUCE_MIN || op->code == OP_REDUCE_PROD;
}

/* All axes of op are among the inner dimensions. */
static bool runs_inside(const ir_op_t *op, ir_attr_id_t id, unsigned lead) {
  int64_t rank = op->in[0].value->type.rank, one;
  unsigned n = 1;
  const int64_t *axes = &one;
  if (reduces(op))
    axes = ir_get_ints(op, id, &n);
  else
    one = ir_get_int(op, id);
  for (unsigned i = 0; i < n; i++)
    if ((axes[i] < 0 ? axes[i] + rank : axes[i]) < (int64_t)lead) return false;
  return n > 0;
}

/* Elements for each token and group. */
static const expr_t *width_of(const groups_t *g, const ir_value_t *x,
                              bool own) {
  const expr_t *rows = own ? g->T : expr_mul(g->pool, g->T, g->G);
  return expr_divide_exactly(g->pool, ir_type_count(g->pool, &x->type), rows);
}

/* The dimensions of tokens and groups in front; false where one of them runs
 * over width, too. */
static bool find_lead(const groups_t *g, const group_node_t *node,
                      const ir_value_t *x, const expr_t *width, unsigned *out) {
  uint8_t class[IR_MAX_RANK];
  if (width == NULL ||
      !groups_classify(g, &x->type, node->turned, node->n > 1, width, class))
    return false;
  *out = 0;
  for (unsigned d = 0; d < x->type.rank; d++) {
    bool in_front = (class[d] & (GROUP_OF_TOKEN | GROUP_OF_GROUP)) != 0;
    if (in_front && (class[d] & GROUP_OF_WIDTH) != 0) return false;
    if (in_front) *out = d + 1;
  }
  return true;
}

static group_node_t *plan_rows(groups_t *g, group_node_t *node,
                               ir_attr_id_t axis, unsigned depth) {
  const ir_op_t *op = node->x[0]->def;
  const ir_type_t *first = &op->in[0].value->type;
  bool own = node->n > 1;
  const expr_t *width = width_of(g, op->in[0].value, own);
  if (!find_lead(g, node, op->in[0].value, width, &node->lead) ||
      !runs_inside(op, axis, node->lead) ||
      first->rank - node->lead + 2 > IR_MAX_RANK)
    return NULL;
  node->kind = GROUP_ROWS;
  node->in = new_operands(g, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t **y = operands(g, node->x, node->n, i);
    if (y[0]->type.rank != first->rank) return NULL;
    for (unsigned d = 0; d < node->lead; d++)
      if (y[0]->type.dim[d] != first->dim[d]) return NULL;
    width = width_of(g, y[0], own);
    if (width == NULL) return NULL;
    node->in[node->n_in++] =
        plan(g, y, node->n, width, node->turned, depth + 1);
    if (node->in[i] == NULL) return NULL;
  }
  return node;
}

/* ---- Operations on groups ------------------------------------------------ */

/* Weights that were put where the chosen groups are. */
static group_node_t *plan_updates(groups_t *g, group_node_t *node) {
  const ir_op_t *op = node->x[0]->def;
  ir_value_t *index = op->in[1].value;
  int64_t axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  if (axis < 0) axis += index->type.rank;
  if (node->n > 1 || node->turned || !rule_is_one(node->width) ||
      g->n_wanted != g->n_chosen || !g->distinct ||
      !rule_scatters_by(op, "none") || levels_strip(index) != g->chosen ||
      !expr_equals_const(index->type.dim[axis], g->n_chosen) ||
      !expr_equals_const(op->out[0].type.dim[axis], g->n_groups))
    return NULL;
  const expr_t *tokens = expr_product(g->pool, index->type.dim, (unsigned)axis);
  if (tokens != g->T ||
      expr_product(g->pool, op->out[0].type.dim, (unsigned)axis) != tokens)
    return NULL;
  node->kind = GROUP_UPDATES;
  return node;
}

/* A value of each group, side by side. */
static group_node_t *plan_stack(groups_t *g, group_node_t *node,
                                unsigned depth) {
  ir_op_t *op = node->x[0]->def;
  const ir_type_t *type = &op->out[0].type;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis < 0) axis += type->rank;
  const expr_t *before = expr_product(g->pool, type->dim, (unsigned)axis);
  const expr_t *wanted = node->turned ? expr_const(g->pool, 1) : g->T;
  if (node->n > 1 || op->n_in != g->n_groups || before != wanted) return NULL;
  ir_value_t **part = ARENA_ARRAY(g->ctx->scratch, ir_value_t *, op->n_in);
  const expr_t *each = expr_mul(g->pool, g->T, node->width);
  for (unsigned i = 0; i < op->n_in; i++) {
    part[i] = op->in[i].value;
    if (ir_type_count(g->pool, &part[i]->type) != each) return NULL;
  }
  group_node_t *in = plan(g, part, op->n_in, node->width, false, depth + 1);
  if (in == NULL) return NULL;
  node->kind = GROUP_SAME;
  node->in = new_operands(g, 1);
  node->in[node->n_in++] = in;
  return node;
}

/* Whether the dimensions of one class keep their order. */
static bool keep_order(unsigned rank, const int64_t *perm, const uint8_t *class,
                       uint8_t wanted) {
  int64_t last = -1;
  for (unsigned d = 0; d < rank; d++) {
    if ((class[d] & wanted) == 0) continue;
    if (perm[d] < last) return false;
    last = perm[d];
  }
  return true;
}

/* Tokens, then groups, or the other way round; then width. */
static bool is_in_front(unsigned rank, const uint8_t *class, bool *out_turned) {
  uint8_t order[3] = {GROUP_OF_TOKEN, GROUP_OF_GROUP, GROUP_OF_WIDTH};
  unsigned at = 0;
  bool any = false;
  for (unsigned d = 0; d < rank; d++) {
    if (class[d] == 0) continue;
    if (!any && class[d] == GROUP_OF_GROUP) {
      order[0] = GROUP_OF_GROUP;
      order[1] = GROUP_OF_TOKEN;
      *out_turned = true;
    }
    any = true;
    while (at < 3 && order[at] != class[d]) at++;
    if (at == 3) return false;
  }
  return any;
}

static group_node_t *plan_transpose(groups_t *g, group_node_t *node,
                                    unsigned depth) {
  ir_op_t *op = node->x[0]->def;
  uint8_t class[IR_MAX_RANK], before[IR_MAX_RANK];
  unsigned rank;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &rank);
  if (node->n > 1 || !groups_classify(g, &op->out[0].type, node->turned, false,
                                      node->width, class))
    return NULL;
  for (unsigned d = 0; d < rank; d++) {
    if ((class[d] & (class[d] - 1)) != 0) return NULL; /* of several */
    before[perm[d]] = class[d];
  }
  if (!keep_order(rank, perm, class, GROUP_OF_TOKEN) ||
      !keep_order(rank, perm, class, GROUP_OF_GROUP))
    return NULL;
  bool turned = false;
  if (!is_in_front(rank, before, &turned)) return NULL;
  ir_value_t **y = operands(g, node->x, 1, 0);
  group_node_t *in = plan(g, y, 1, node->width, turned, depth + 1);
  if (in == NULL) return NULL;
  node->kind =
      keep_order(rank, perm, class, GROUP_OF_WIDTH) ? GROUP_SAME : GROUP_TURN;
  node->in = new_operands(g, 1);
  node->in[node->n_in++] = in;
  return node;
}

/* ---- Products ------------------------------------------------------------ */

/* x in C order is [T, H]. */
static bool has_rows(const groups_t *g, const ir_value_t *x,
                     const expr_t *inner) {
  return ir_type_count(g->pool, &x->type) == expr_mul(g->pool, g->T, inner);
}

/* Whether products have this many columns in all, or in each group, sums are
 * taken in the same order (layout). */
static bool same_order(int64_t all, int64_t each) {
  return all == each || (all < LAYOUT_NARROW) == (each < LAYOUT_NARROW);
}

/* Rows by one matrix of all groups' columns: true also where a group's columns
 * must be filled up to be summed in the same order. */
static bool is_joined(const groups_t *g, const group_node_t *node,
                      const ir_op_t *op) {
  const ir_type_t *w = &op->in[1].value->type;
  int64_t width;
  if (node->n > 1 || node->turned || w->rank != 2 ||
      !expr_is_const(node->width, &width) ||
      !expr_equals_const(w->dim[1], g->n_groups * width))
    return false;
  return same_order(g->n_groups * width, width) || width < LAYOUT_NARROW;
}

/* Rows by a matrix of each group: [G, T, W] or [T, G, 1, W]. */
static bool is_batched(const groups_t *g, const group_node_t *node,
                       const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type, *w = &op->in[1].value->type;
  const ir_type_t *out = &op->out[0].type;
  if (node->n > 1 || w->rank < 3 || x->rank < 2 ||
      w->dim[w->rank - 1] != node->width ||
      expr_product(g->pool, w->dim, w->rank - 2) != g->G)
    return false;
  if (node->turned)
    return x->dim[x->rank - 2] == g->T &&
           rule_is_one(expr_product(g->pool, x->dim, x->rank - 2));
  /* tokens in front of the groups: rows of one each */
  uint8_t class[IR_MAX_RANK];
  if (!rule_is_one(x->dim[x->rank - 2]) ||
      !groups_classify(g, out, false, false, node->width, class))
    return false;
  for (unsigned d = 0; d + 2 < w->rank; d++) {
    unsigned at = out->rank - w->rank + d;
    if (!rule_is_one(w->dim[d]) && class[at] != GROUP_OF_GROUP) return false;
  }
  return true;
}

static bool is_own(const groups_t *g, const group_node_t *node,
                   const ir_op_t *op) {
  const ir_type_t *w = &op->in[1].value->type;
  if (node->n == 1 || w->rank != 2 || w->dim[1] != node->width) return false;
  ir_value_t *x = op->in[0].value;
  for (unsigned i = 0; i < node->n; i++) {
    const ir_op_t *other = node->x[i]->def;
    if (other->in[0].value != x || !rule_is_constant(other->in[1].value))
      return false;
  }
  return has_rows(g, x, w->dim[0]);
}

static group_node_t *plan_product(groups_t *g, group_node_t *node) {
  const ir_op_t *op = node->x[0]->def;
  const ir_value_t *x = op->in[0].value, *w = op->in[1].value;
  dtype_t dtype = op->out[0].type.dtype;
  int64_t width;
  if ((dtype != DT_F32 && dtype != DT_F64) || x->type.dtype != dtype ||
      w->type.dtype != dtype || !rule_is_constant(w) || w->type.rank < 2 ||
      !expr_is_const(node->width, &width) ||
      !has_rows(g, x, w->type.dim[w->type.rank - 2]))
    return NULL;
  if (!is_joined(g, node, op) && !is_batched(g, node, op) &&
      !is_own(g, node, op))
    return NULL;
  node->kind = GROUP_PRODUCT;
  return node;
}

void groups_columns(const groups_t *g, const group_node_t *product,
                    int64_t *out_all, int64_t *out_chosen) {
  enum { PANEL = 32 };
  const ir_op_t *op = product->x[0]->def;
  bool joined = is_joined(g, product, op);
  int64_t width;
  if (!expr_is_const(product->width, &width)) width = 0;
  int64_t panels = (width + PANEL - 1) / PANEL * PANEL;
  bool narrow =
      width < LAYOUT_NARROW && (!joined || g->n_groups * width < LAYOUT_NARROW);
  int64_t each = narrow ? width : panels;
  *out_all = g->n_groups * (joined ? width : each);
  *out_chosen = g->n_wanted * each;
}

/* ---- Values -------------------------------------------------------------- */

static group_node_t *plan_op(groups_t *g, group_node_t *node, unsigned depth) {
  const ir_op_t *op = node->x[0]->def;
  ir_attr_id_t axis;
  group_node_t *found = NULL;
  switch (op->code) {
    case OP_RESHAPE:
      node->in = new_operands(g, 1);
      node->in[0] = plan(g, operands(g, node->x, node->n, 0), node->n,
                         node->width, node->turned, depth + 1);
      node->n_in = 1;
      node->kind = GROUP_SAME;
      return node->in[0] != NULL ? node : NULL;
    case OP_TRANSPOSE:
      return plan_transpose(g, node, depth);
    case OP_MATMUL:
      return plan_product(g, node);
    case OP_EXPAND:
      return plan_elements(g, node, depth);
    case OP_CONCAT:
      found = plan_stack(g, node, depth);
      break;
    case OP_SCATTER_ELEMENTS:
      found = plan_updates(g, node);
      break;
    default:
      break;
  }
  if (found != NULL) return found;
  if (axis_of(op, &axis)) return plan_rows(g, node, axis, depth);
  if (op->n_out == 1 && op->n_regions == 0 && ir_has_trait(op, ELEMENTWISE))
    return plan_elements(g, node, depth);
  return NULL;
}

static group_node_t *find_node(const groups_t *g, ir_value_t *const *x,
                               unsigned n, const expr_t *width, bool turned) {
  for (group_node_t *node = g->nodes; node != NULL; node = node->next) {
    bool leaf = node->kind == GROUP_OWN || node->kind == GROUP_TOKEN ||
                node->kind == GROUP_ONE;
    if (leaf || node->n != n || node->width != width ||
        node->turned != turned || node->x[0] != x[0])
      continue;
    bool same = true;
    for (unsigned i = 1; i < n && same; i++) same = node->x[i] == x[i];
    if (same) return node;
  }
  return NULL;
}

static group_node_t *plan(groups_t *g, ir_value_t **x, unsigned n,
                          const expr_t *width, bool turned, unsigned depth) {
  bool own = n > 1;
  if (width == NULL || width_of(g, x[0], own) != width) return NULL;
  group_node_t *node = find_node(g, x, n, width, turned);
  if (node != NULL) return node;
  group_node_t *before = g->nodes;
  node = new_node(g, GROUP_GATHERED, x, n, width, turned);
  bool goes_on =
      depth < MOST_NESTED && g->steps + n <= MOST_STEPS && x[0]->def != NULL;
  g->steps += n;
  if (goes_on && are_alike(node)) {
    group_node_t attempt = *node;
    group_node_t *found = plan_op(g, node, depth);
    if (found != NULL) return found;
    *node = attempt; /* as it was: gathered */
  }
  if (!own) return node;
  g->nodes = before;
  return NULL;
}

group_node_t *groups_plan(groups_t *g, ir_value_t *x, const expr_t *width) {
  ir_value_t **all = ARENA_NEW(g->ctx->scratch, ir_value_t *);
  *all = x;
  return plan(g, all, 1, width, false, 0);
}
