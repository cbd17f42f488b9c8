/* Trees of choices, `c ? (d ? a : b) : (e ? f : g)`, of rows: intervals of a
 * time step, decision trees, cascades.
 *
 * No single condition says who computes a row, all on the way to a leaf do. So
 * the number of the leaf is chosen by the same tree, and that number chooses
 * among the leaves: the same elements, as each choice takes one as it is. */
#include "passes/moe_tree.h"

#include "ir/build.h"
#include "passes/moe_rules.h"
#include "passes/moe_table.h"

enum { MAX_LEAVES = 64, MAX_DEPTH = 64 };

typedef struct tree {
  const ir_op_t *root;
  moe_facts_t *facts;
  unsigned n_leaves, n_nodes;
  ir_value_t *leaf[MAX_LEAVES];
  ir_op_t *node[MAX_LEAVES]; /* those above before those below */
  bool named; /* each condition alone says who computes a row, one by one */
  bool row[IR_MAX_RANK]; /* of the root's dimensions: conditions differ in it */
} tree_t;

static ir_value_t *behind_views(ir_value_t *value) {
  while (value->def != NULL &&
         (value->def->code == OP_RESHAPE || value->def->code == OP_EXPAND ||
          value->def->code == OP_NOT))
    value = ir_in(value->def, 0);
  return value;
}

/* A number is compared, or the condition is one of a router known already. */
static bool is_named(moe_facts_t *facts, ir_value_t *condition) {
  ir_value_t *value = behind_views(condition);
  if (moe_fact(facts, condition)->kind != FACT_NONE ||
      moe_fact(facts, value)->kind != FACT_NONE)
    return true;
  return value->def != NULL && value->def->code == OP_EQ &&
         dtype_is_integer(ir_in(value->def, 0)->type.dtype);
}

/* Notes the dimensions in which a condition differs; false: it is no row's. */
static bool see_condition(tree_t *t, const ir_op_t *op) {
  const ir_type_t *to = &op->out[0].type, *from = &ir_in(op, 0)->type;
  bool any = false;
  for (unsigned d = 0; d < from->rank; d++) {
    if (rule_is_one(from->dim[d])) continue;
    unsigned own = to->rank - from->rank + d;
    if (from->dim[d] != to->dim[own]) return false;
    t->row[own] = any = true;
  }
  return any;
}

static bool add_leaf(tree_t *t, ir_value_t *value) {
  for (unsigned i = 0; i < t->n_leaves; i++)
    if (t->leaf[i] == value) return true;
  if (t->n_leaves == MAX_LEAVES || !moe_is_product(value)) return false;
  t->leaf[t->n_leaves++] = value;
  return true;
}

/* Whether an operation chooses between rows, and what it gives goes on in `by`
 * alone (NULL: anywhere). */
static bool is_node(const ir_op_t *op, const ir_op_t *by) {
  if (op == NULL || op->code != OP_SELECT || op->n_out != 1 ||
      !dtype_is_float(op->out[0].type.dtype))
    return false;
  const ir_value_t *value = &op->out[0];
  for (unsigned i = 1; i < 3; i++)
    if (!rule_same_dims(&ir_in(op, i)->type, &value->type)) return false;
  return by == NULL || (op->parent == by->parent && value->uses != NULL &&
                        value->uses->next == NULL);
}

static bool grow(tree_t *t, ir_op_t *op, unsigned depth) {
  if (depth == MAX_DEPTH || t->n_nodes == MAX_LEAVES || !see_condition(t, op))
    return false;
  t->node[t->n_nodes++] = op;
  t->named = t->named && is_named(t->facts, ir_in(op, 0));
  for (unsigned i = 1; i < 3; i++) {
    ir_value_t *side = ir_in(op, i);
    if (!is_node(side->def, op)) {
      if (!add_leaf(t, side)) return false;
      continue;
    }
    if (i == 1) t->named = false;
    if (!grow(t, side->def, depth + 1)) return false;
  }
  return true;
}

/* Whether rows are chosen, which have several elements. */
static bool has_rows(const tree_t *t) {
  const ir_type_t *type = &t->root->out[0].type;
  bool features = false;
  for (unsigned d = 0; d < type->rank; d++)
    features = features || (!t->row[d] && !rule_is_one(type->dim[d]));
  return features;
}

static bool find_tree(tree_t *t, ir_op_t *op) {
  return grow(t, op, 0) && t->n_nodes > 1 && t->n_leaves > 1 && !t->named &&
         has_rows(t);
}

static ir_value_t *number_of(const tree_t *t, ir_builder_t *b, ir_value_t *side,
                             ir_value_t *const *number) {
  for (unsigned i = 0; i < t->n_nodes; i++)
    if (&t->node[i]->out[0] == side) return number[i];
  unsigned leaf = 0;
  while (t->leaf[leaf] != side) leaf++;
  return ir_scalar_int(b, DT_I64, leaf);
}

/* The number of each row's leaf: [rows..], as it broadcasts to the root. */
static ir_value_t *write_number(const tree_t *t, ir_builder_t *b) {
  ir_value_t *number[MAX_LEAVES];
  const ir_type_t *type = &t->root->out[0].type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = t->n_nodes; i-- > 0;) {
    const ir_op_t *op = t->node[i];
    ir_value_t *x = number_of(t, b, ir_in(op, 1), number);
    ir_value_t *y = number_of(t, b, ir_in(op, 2), number);
    number[i] = ir_select(b, ir_in(op, 0), x, y);
  }
  unsigned n = 0;
  for (unsigned d = 0; d < type->rank; d++)
    if (t->row[d]) dim[n++] = type->dim[d];
  return ir_reshape(b, number[0], n, dim);
}

static ir_value_t *write_choice(const tree_t *t, ir_builder_t *b) {
  const ir_type_t *type = &t->root->out[0].type;
  const expr_t *dim[IR_MAX_RANK], *one = expr_const(b->module->exprs, 1);
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] = t->row[d] ? type->dim[d] : one;
  ir_value_t *number = write_number(t, b);
  ir_value_t *y = t->leaf[t->n_leaves - 1];
  for (unsigned i = t->n_leaves - 1; i-- > 0 && number != NULL;) {
    ir_value_t *leaf = ir_scalar_int(b, DT_I64, i);
    ir_value_t *own = ir_binary(b, OP_EQ, number, leaf);
    own = ir_reshape(b, own, type->rank, dim);
    y = ir_select(b, own, t->leaf[i], y);
  }
  return number != NULL ? y : NULL;
}

/* Writes the tree below a choice, if there is one; marks its choices. */
static bool write_tree(pass_ctx_t *ctx, moe_facts_t *facts, ir_op_t *op,
                       bool *gone) {
  tree_t t = {.root = op, .facts = facts, .named = true};
  if (!find_tree(&t, op) || !pass_allow_rewrite(ctx, "choice-of-leaves", op))
    return false;
  ir_builder_t b = {.module = ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc,
                    .diag = ctx->diag};
  ir_value_t *y = write_choice(&t, &b);
  if (b.status != MOEC_OK || y == NULL) return false;
  ir_replace_uses(&op->out[0], y);
  for (unsigned i = 0; i < t.n_nodes; i++) {
    gone[t.node[i]->out[0].number] = true;
    ir_erase(t.node[i]);
  }
  return true;
}

bool moe_write_trees(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts) {
  unsigned n = 0;
  bool found = false;
  bool *gone = ARENA_ARRAY(ctx->scratch, bool, facts->n_values);
  unsigned *number = ARENA_ARRAY(ctx->scratch, unsigned, facts->n_values);
  ir_op_t **choice = ARENA_ARRAY(ctx->scratch, ir_op_t *, facts->n_values);
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (!is_node(op, NULL)) continue;
    number[n] = op->out[0].number;
    choice[n++] = op;
  }
  while (n-- > 0) /* whole trees in front of their parts */
    if (!gone[number[n]] && write_tree(ctx, facts, choice[n], gone))
      found = true;
  return found;
}
