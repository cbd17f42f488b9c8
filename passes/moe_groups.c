/* Routers of two levels: one that chooses groups of experts, and a gate in each
 * group. Where only what the chosen groups' gates say is used, only they are
 * evaluated: what is gathered at the groups that a token chose is computed for
 * these, back to the product with the gates, which becomes one of routes to
 * groups (moe.experts). Exact: each number is computed as before, sums of
 * products in the same order.
 *
 * The best of all scores where those of other groups are masked by one number
 * are the best of the chosen groups and as many of the lowest others as could
 * give all of them: so ties are the same. */
#include "passes/moe_groups.h"

#include <string.h>

#include "passes/moe_levels.h"
#include "passes/moe_report.h"
#include "passes/rules.h"

typedef enum {
  ROOT_GROUPS, /* values at the chosen groups */
  ROOT_OWN,    /* .. at experts of the chosen groups: `own` in each */
  ROOT_BEST,   /* the best of all, masked */
  ROOT_AT_BEST /* values at the best of all */
} root_kind_t;

typedef struct root {
  root_kind_t kind;
  ir_op_t *op;
  ir_value_t *x, *own;
  const expr_t *width;
  group_node_t *node;
  struct root *next;
} root_t;

/* All that is asked of one choice of groups. */
typedef struct choice {
  groups_t groups;
  ir_op_t *best; /* the topk of all, or NULL */
  root_t *first, **last;
  struct choice *next;
} choice_t;

typedef struct search {
  pass_ctx_t *ctx;
  expr_pool_t *pool;
  choice_t *first, **last;
  bool *covered, *is_root, *seen; /* by number of an operation's result */
  size_t n_values;
} search_t;

/* ---- What is asked ------------------------------------------------------- */

static choice_t *choice_of(search_t *s, ir_value_t *chosen, const expr_t *T,
                           int64_t n_groups, int64_t n_chosen, ir_op_t *best) {
  choice_t *c = s->first;
  while (c != NULL &&
         (c->groups.chosen != chosen || c->groups.T != T || c->best != best ||
          c->groups.n_groups != n_groups || c->groups.n_chosen != n_chosen))
    c = c->next;
  if (c != NULL) return c;
  c = ARENA_NEW(s->ctx->scratch, choice_t);
  const ir_op_t *op = chosen->def;
  bool distinct = op != NULL && op->code == OP_TOPK && chosen->index == 1 &&
                  expr_equals_const(ir_get_expr(op, ATTR_TOPK_k), n_chosen);
  *c = (choice_t){.best = best};
  c->groups = (groups_t){.ctx = s->ctx,
                         .pool = s->pool,
                         .chosen = chosen,
                         .distinct = distinct || n_chosen == 1,
                         .T = T,
                         .G = expr_const(s->pool, n_groups),
                         .k = expr_const(s->pool, n_chosen),
                         .n_groups = n_groups,
                         .n_chosen = n_chosen,
                         .n_wanted = n_chosen};
  c->last = &c->first;
  *s->last = c;
  s->last = &c->next;
  return c;
}

static void add_root(search_t *s, choice_t *c, root_kind_t kind, ir_op_t *op,
                     ir_value_t *own, const expr_t *width) {
  root_t *root = ARENA_NEW(s->ctx->scratch, root_t);
  *root = (root_t){
      .kind = kind, .op = op, .x = op->in[0].value, .own = own, .width = width};
  *c->last = root;
  c->last = &root->next;
}

static int64_t axis_of(const ir_op_t *op, ir_attr_id_t id) {
  int64_t axis = ir_get_int(op, id);
  return axis < 0 ? axis + op->in[0].value->type.rank : axis;
}

static bool same_in_front(const ir_type_t *a, const ir_type_t *b, unsigned n) {
  for (unsigned d = 0; d < n; d++)
    if (a->dim[d] != b->dim[d]) return false;
  return true;
}

/* The numbers of groups that x gives for each element behind `axis`. */
static ir_value_t *numbers_of(ir_value_t *x, unsigned axis) {
  while (x->def != NULL && x->def->code == OP_CAST &&
         dtype_is_integer(x->def->in[0].value->type.dtype))
    x = x->def->in[0].value;
  bool inner = false;
  for (unsigned d = axis + 1; d < x->type.rank; d++)
    inner |= !rule_is_one(x->type.dim[d]);
  if (!inner) return levels_strip(x);
  if (x->def == NULL || x->def->code != OP_EXPAND) return NULL;
  ir_value_t *y = x->def->in[0].value;
  if (y->type.rank != x->type.rank) return NULL;
  for (unsigned d = 0; d < x->type.rank; d++)
    if (d <= axis ? y->type.dim[d] != x->type.dim[d]
                  : !rule_is_one(y->type.dim[d]))
      return NULL;
  return levels_strip(y);
}

/* gather_elements(x[T.., G, inner..], chosen[T.., n, inner..]) */
static bool find_groups(search_t *s, ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type, *at = &op->in[1].value->type;
  unsigned axis = (unsigned)axis_of(op, ATTR_GATHER_ELEMENTS_axis);
  int64_t G, n;
  if (!expr_is_const(x->dim[axis], &G) || G < 2 ||
      !expr_is_const(at->dim[axis], &n) || n < 1 || n >= G ||
      !same_in_front(x, at, axis))
    return false;
  for (unsigned d = axis + 1; d < x->rank; d++)
    if (x->dim[d] != at->dim[d]) return false;
  ir_value_t *chosen = numbers_of(op->in[1].value, axis);
  if (chosen == NULL || !levels_are_below(chosen, G)) return false;
  const expr_t *T = expr_product(s->pool, x->dim, axis);
  const expr_t *width =
      expr_product(s->pool, x->dim + axis + 1, x->rank - axis - 1);
  add_root(s, choice_of(s, chosen, T, G, n, NULL), ROOT_GROUPS, op, NULL,
           width);
  return true;
}

/* gather_nd(x[T.., G, inner..], chosen[T.., n.., 1]), or tokens' own numbers
 * and those: [T, n.., 2]. */
static void find_groups_nd(search_t *s, ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type, *at = &op->in[1].value->type;
  unsigned batch = (unsigned)ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  ir_value_t *index = op->in[1].value;
  const ir_op_t *pair = index->def;
  int64_t G, n;
  if (batch == 0) {
    if (pair == NULL || pair->code != OP_CONCAT || pair->n_in != 2 ||
        axis_of(pair, ATTR_CONCAT_axis) != at->rank - 1 ||
        !expr_equals_const(at->dim[at->rank - 1], 2) ||
        !rule_is_one(pair->in[1].value->type.dim[at->rank - 1]) ||
        !rule_counts_along(pair->in[0].value, 0))
      return;
    index = pair->in[1].value;
    batch = 1;
  } else if (!rule_is_one(at->dim[at->rank - 1])) {
    return;
  }
  if (x->rank <= batch || at->rank <= batch || !same_in_front(x, at, batch) ||
      !expr_is_const(x->dim[batch], &G) || G < 2)
    return;
  const expr_t *T = expr_product(s->pool, x->dim, batch);
  const expr_t *slots =
      expr_product(s->pool, at->dim + batch, at->rank - batch - 1);
  ir_value_t *chosen = levels_strip(index);
  if (!expr_is_const(slots, &n) || n < 1 || n >= G ||
      !levels_are_below(chosen, G))
    return;
  const expr_t *width =
      expr_product(s->pool, x->dim + batch + 1, x->rank - batch - 1);
  add_root(s, choice_of(s, chosen, T, G, n, NULL), ROOT_GROUPS, op, NULL,
           width);
}

/* gather_elements(x[T.., G * size], chosen * size + own) */
static bool find_own(search_t *s, ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type, *at = &op->in[1].value->type;
  unsigned axis = (unsigned)axis_of(op, ATTR_GATHER_ELEMENTS_axis);
  ir_value_t *number = levels_strip(op->in[1].value), *chosen, *own;
  int64_t E, n, size;
  if (!expr_is_const(x->dim[axis], &E) || !same_in_front(x, at, axis) ||
      !levels_find_sum(number, &chosen, &own, &size) || E % size != 0 ||
      E / size < 2 || !levels_are_below(chosen, E / size) ||
      !levels_are_below(own, size))
    return false;
  for (unsigned d = axis + 1; d < x->rank; d++)
    if (!rule_is_one(x->dim[d])) return false;
  const expr_t *T = expr_product(s->pool, x->dim, axis);
  const expr_t *slots =
      expr_divide_exactly(s->pool, ir_type_count(s->pool, &chosen->type), T);
  if (slots == NULL || !expr_is_const(slots, &n) || n < 1 || n >= E / size)
    return false;
  add_root(s, choice_of(s, chosen, T, E / size, n, NULL), ROOT_OWN, op, own,
           expr_const(s->pool, size));
  return true;
}

/* ---- Masks --------------------------------------------------------------- */

/* What a value [T, G] is for groups that were not chosen. */
typedef struct mask {
  ir_value_t *chosen;
  int64_t n_groups;
  double off;
} mask_t;

static bool splat_number(const ir_value_t *x, double *out) {
  int64_t whole;
  if (rule_splat_float(x, out)) return true;
  if (!rule_splat_int(x, &whole)) return false;
  *out = (double)whole;
  return true;
}

static bool off_by_scatter(const ir_op_t *op, mask_t *out) {
  const ir_type_t *type = &op->out[0].type, *at = &op->in[1].value->type;
  unsigned axis = (unsigned)axis_of(op, ATTR_SCATTER_ELEMENTS_axis);
  if (!expr_is_const(type->dim[axis], &out->n_groups) ||
      !same_in_front(type, at, axis) ||
      !splat_number(op->in[0].value, &out->off))
    return false;
  for (unsigned d = axis + 1; d < type->rank; d++)
    if (!rule_is_one(type->dim[d])) return false;
  out->chosen = levels_strip(op->in[1].value);
  return true;
}

static bool find_off(const ir_value_t *x, unsigned depth, mask_t *out) {
  enum { MOST = 12 };
  const ir_op_t *op = x->def;
  double number;
  if (op == NULL || depth > MOST) return false;
  switch (op->code) {
    case OP_SCATTER_ELEMENTS:
      return off_by_scatter(op, out);
    case OP_RESHAPE:
      return find_off(op->in[0].value, depth + 1, out);
    case OP_CAST:
      if (!find_off(op->in[0].value, depth + 1, out)) return false;
      if (x->type.dtype == DT_BOOL) out->off = out->off != 0;
      return x->type.dtype == DT_BOOL || out->off == 0 || out->off == 1;
    case OP_NOT:
      if (!find_off(op->in[0].value, depth + 1, out)) return false;
      out->off = out->off == 0;
      return true;
    case OP_SELECT:
      return find_off(op->in[0].value, depth + 1, out) &&
             splat_number(op->in[out->off != 0 ? 1 : 2].value, &out->off);
    default:
      break;
  }
  for (unsigned i = 0; op->n_in == 2 && i < 2; i++)
    if (splat_number(op->in[1 - i].value, &number) &&
        find_off(op->in[i].value, depth + 1, out)) {
      bool exact = out->off == 0 || out->off == 1;
      return exact && rule_compute(op->code, i == 0 ? out->off : number,
                                   i == 0 ? number : out->off, &out->off);
    }
  return false;
}

/* Whether operand `index` has the elements of mask [T, G] for all of the
 * result's [T, G, width]. */
static bool spreads(const search_t *s, const ir_op_t *op, unsigned index,
                    const expr_t *T, int64_t E, const mask_t *mask) {
  const ir_type_t *type = &op->in[index].value->type, *out = &op->out[0].type;
  groups_t g = {.pool = s->pool, .T = T};
  uint8_t class[IR_MAX_RANK];
  if (mask->n_groups < 2 || E % mask->n_groups != 0) return false;
  g.G = expr_const(s->pool, mask->n_groups);
  if (!groups_classify(&g, out, false, false,
                       expr_const(s->pool, E / mask->n_groups), class))
    return false;
  unsigned present = 0, absent = 0;
  for (unsigned d = 0; d < out->rank; d++) {
    unsigned behind = out->rank - d;
    bool there =
        behind <= type->rank && !rule_is_one(type->dim[type->rank - behind]);
    *(there ? &present : &absent) |= class[d];
  }
  return (present & absent) == 0 && (present & GROUP_OF_GROUP) != 0 &&
         (present & GROUP_OF_WIDTH) == 0 && (absent & GROUP_OF_TOKEN) == 0;
}

/* Whether x[T, E] is one number for all experts of groups that were not
 * chosen, for scores that are finite. */
static bool find_mask(const search_t *s, const ir_value_t *x, const expr_t *T,
                      int64_t E, unsigned depth, mask_t *out) {
  enum { MOST = 12 };
  const ir_op_t *op = x->def;
  double number;
  if (op == NULL || depth > MOST) return false;
  if (op->code == OP_RESHAPE)
    return find_mask(s, op->in[0].value, T, E, depth + 1, out);
  if (op->code == OP_SELECT && find_off(op->in[0].value, 0, out) &&
      spreads(s, op, 0, T, E, out))
    return splat_number(op->in[out->off != 0 ? 1 : 2].value, &number);
  if (op->n_in != 2 || !ir_has_trait(op, ELEMENTWISE)) return false;
  for (unsigned i = 0; i < 2; i++) {
    if (splat_number(op->in[1 - i].value, &number))
      return find_mask(s, op->in[i].value, T, E, depth + 1, out);
    double wanted = op->code == OP_MUL ? 0 : -__builtin_inf();
    if ((op->code == OP_MUL || op->code == OP_ADD) &&
        find_off(op->in[i].value, 0, out) && out->off == wanted &&
        spreads(s, op, i, T, E, out))
      return true;
  }
  return false;
}

static void find_best(search_t *s, ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type;
  int64_t axis = axis_of(op, ATTR_TOPK_axis), E, k, n;
  mask_t mask;
  if (x->rank == 0 || axis != x->rank - 1 || !expr_is_const(x->dim[axis], &E) ||
      !expr_is_const(ir_get_expr(op, ATTR_TOPK_k), &k) || k < 1 || k > E ||
      ir_get_int(op, ATTR_TOPK_largest) == 0)
    return;
  const expr_t *T = expr_product(s->pool, x->dim, x->rank - 1);
  if (!find_mask(s, op->in[0].value, T, E, 0, &mask) ||
      !levels_are_below(mask.chosen, mask.n_groups))
    return;
  const expr_t *slots = expr_divide_exactly(
      s->pool, ir_type_count(s->pool, &mask.chosen->type), T);
  int64_t width = E / mask.n_groups, more = (k + width - 1) / width;
  if (slots == NULL || !expr_is_const(slots, &n) || n < 1 ||
      n + more >= mask.n_groups || mask.n_groups > 1 << 20)
    return;
  choice_t *c = choice_of(s, mask.chosen, T, mask.n_groups, n, op);
  c->groups.n_wanted = n + more;
  c->groups.k = expr_const(s->pool, n + more);
  add_root(s, c, ROOT_BEST, op, NULL, expr_const(s->pool, width));
}

/* gather_elements(x[T.., E], the numbers of the best) */
static void find_at_best(search_t *s, ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type, *at = &op->in[1].value->type;
  unsigned axis = (unsigned)axis_of(op, ATTR_GATHER_ELEMENTS_axis);
  const ir_value_t *number = levels_strip(op->in[1].value);
  choice_t *c = s->first;
  while (c != NULL && (c->best == NULL || number != &c->best->out[1]))
    c = c->next;
  if (c == NULL || !same_in_front(x, at, axis) ||
      expr_product(s->pool, x->dim, axis) != c->groups.T)
    return;
  for (unsigned d = axis + 1; d < x->rank; d++)
    if (!rule_is_one(x->dim[d])) return;
  const expr_t *width = c->first->width;
  if (expr_mul(s->pool, width, c->groups.G) != x->dim[axis] ||
      ir_get_expr(c->best, ATTR_TOPK_k) != at->dim[axis])
    return;
  add_root(s, c, ROOT_AT_BEST, op, NULL, width);
}

static void find_roots(search_t *s, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (op->code == OP_GATHER_ELEMENTS) {
      if (!find_groups(s, op) && !find_own(s, op)) find_at_best(s, op);
    } else if (op->code == OP_GATHER_ND) {
      find_groups_nd(s, op);
    } else if (op->code == OP_TOPK) {
      find_best(s, op);
    }
  }
}

/* ---- Whether all that is asked is of chosen groups ----------------------- */

static bool has_product(const group_node_t *node) {
  if (node->kind == GROUP_PRODUCT) return true;
  for (unsigned i = 0; i < node->n_in; i++)
    if (has_product(node->in[i])) return true;
  return false;
}

static bool is_leaf(const group_node_t *node) {
  return node->kind == GROUP_GATHERED || node->kind == GROUP_OWN ||
         node->kind == GROUP_TOKEN || node->kind == GROUP_ONE;
}

static void mark(search_t *s, const group_node_t *node, bool covered) {
  if (is_leaf(node)) return;
  for (unsigned i = 0; i < node->n; i++)
    s->covered[node->x[i]->def->out[0].number] = covered;
  /* the values of groups are operands of what stacks them */
  for (unsigned i = 0; i < node->n_in; i++) mark(s, node->in[i], covered);
}

/* What stays as it is needs nothing that goes. */
static bool leaves_stay(const search_t *s, const group_node_t *node) {
  for (unsigned i = 0; is_leaf(node) && i < node->n; i++) {
    const ir_op_t *op = node->x[i]->def;
    if (op != NULL && op->n_out > 0 && s->covered[op->out[0].number])
      return false;
  }
  for (unsigned i = 0; i < node->n_in; i++)
    if (!leaves_stay(s, node->in[i])) return false;
  return true;
}

/* All that uses the operation's results goes, too. */
static bool goes(search_t *s, const ir_op_t *op) {
  if (s->seen[op->out[0].number]) return true;
  s->seen[op->out[0].number] = true;
  for (unsigned i = 0; i < op->n_out; i++)
    for (const ir_use_t *use = op->out[i].uses; use != NULL; use = use->next) {
      const ir_op_t *user = use->user;
      if (user->n_out == 0) return false;
      unsigned number = user->out[0].number;
      if (s->is_root[number]) continue;
      if (!s->covered[number] || !goes(s, user)) return false;
    }
  return true;
}

typedef struct gain {
  int64_t all, chosen;
} gain_t;

static bool products_go(search_t *s, const groups_t *g,
                        const group_node_t *node, gain_t *gain) {
  if (node->kind == GROUP_PRODUCT) {
    int64_t all, chosen;
    groups_columns(g, node, &all, &chosen);
    gain->all += all;
    gain->chosen += chosen;
    for (unsigned i = 0; i < node->n; i++)
      if (!goes(s, node->x[i]->def)) return false;
  }
  for (unsigned i = 0; i < node->n_in; i++)
    if (!products_go(s, g, node->in[i], gain)) return false;
  return true;
}

/* Plans all roots; leaves out those without a product. */
static bool plan_roots(choice_t *c) {
  for (root_t **at = &c->first; *at != NULL;) {
    root_t *root = *at;
    root->node = groups_plan(&c->groups, root->x, root->width);
    bool keep = root->node != NULL && has_product(root->node);
    if (!keep && root->kind == ROOT_BEST) return false;
    if (keep)
      at = &root->next;
    else
      *at = root->next;
  }
  return c->first != NULL;
}

/* What is saved against what sorting routes takes, and finding which groups are
 * wanted besides. */
static bool pays(const choice_t *c, const gain_t *gain) {
  return gain->chosen > 0 &&
         (c->best != NULL ? gain->chosen * 2 <= gain->all
                          : gain->chosen * 4 <= gain->all * 3);
}

static bool is_possible(search_t *s, choice_t *c) {
  if (!plan_roots(c)) return false;
  memset(s->seen, 0, s->n_values * sizeof s->seen[0]);
  bool fits = true;
  gain_t gain = {0, 0};
  for (root_t *r = c->first; r != NULL; r = r->next) {
    s->is_root[r->op->out[0].number] = true;
    mark(s, r->node, true);
  }
  for (root_t *r = c->first; fits && r != NULL; r = r->next)
    fits = r->op->parent == c->first->op->parent && leaves_stay(s, r->node) &&
           products_go(s, &c->groups, r->node, &gain);
  for (root_t *r = c->first; r != NULL; r = r->next) {
    s->is_root[r->op->out[0].number] = false;
    mark(s, r->node, false);
  }
  return fits && pays(c, &gain);
}

/* ---- Rewriting ----------------------------------------------------------- */

/* The chosen groups and the lowest of the others, in ascending order. */
static ir_value_t *write_wanted(const groups_t *g) {
  ir_builder_t *b = g->b;
  const expr_t *one[2] = {expr_const(g->pool, 1), g->G}, *dim[2] = {g->T, g->G};
  ir_value_t *count = ir_unary(b, OP_NEG, ir_iota(b, DT_F32, g->G));
  ir_value_t *key = ir_expand(b, ir_reshape(b, count, 2, one), 2, dim);
  dim[1] = expr_const(g->pool, g->n_chosen);
  ir_value_t *chosen = ir_reshape(b, g->chosen, 2, dim);
  ir_value_t *top = ir_fill(b, ir_scalar(b, DT_F32, 1), 2, dim);
  ir_value_t *in[3] = {key, ir_cast(b, chosen, DT_I64), top};
  ir_op_t *op = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, 1);
  ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, "none");
  ir_value_t *x = ir_place(b, op);
  for (unsigned i = 0; i < 2; i++) { /* first which, then in order */
    op = ir_begin(b, OP_TOPK, 1, &x, 2);
    if (op == NULL) return NULL;
    ir_set_int(op, ATTR_TOPK_axis, 1);
    ir_set_expr(op, ATTR_TOPK_k, g->k);
    ir_set_int(op, ATTR_TOPK_largest, i == 0);
    ir_set_int(op, ATTR_TOPK_sorted, 1);
    if (ir_place(b, op) == NULL) return NULL;
    x = i == 0 ? ir_cast(b, &op->out[1], DT_F32)
               : ir_cast(b, &op->out[0], DT_I64);
  }
  return x;
}

static ir_value_t *elements_at(ir_builder_t *b, ir_value_t *x,
                               ir_value_t *index, int64_t axis) {
  ir_value_t *in[2] = {x, index};
  ir_op_t *op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, axis);
  return ir_place(b, op);
}

static void replace(ir_builder_t *b, ir_value_t *old, ir_value_t *by) {
  by = ir_reshape(b, by, old->type.rank, old->type.dim);
  if (by == NULL) return;
  if (by->name == NULL) by->name = old->name;
  ir_replace_uses(old, by);
}

/* The best of what was wanted; their numbers among these in *out_own. */
static void write_best(const groups_t *g, const root_t *root, ir_value_t *x,
                       ir_value_t **out_own) {
  ir_builder_t *b = g->b;
  const expr_t *dim[2] = {g->T, expr_mul(g->pool, g->k, root->width)};
  x = ir_reshape(b, x, 2, dim);
  ir_op_t *op = ir_begin(b, OP_TOPK, 1, &x, 2);
  if (op == NULL) return;
  for (unsigned i = 0; i < root->op->n_attrs; i++)
    op->attrs[op->n_attrs++] = root->op->attrs[i];
  ir_set_int(op, ATTR_TOPK_axis, 1);
  if (ir_place(b, op) == NULL) return;
  int64_t width;
  *out_own = &op->out[1];
  if (!expr_is_const(root->width, &width)) return;
  ir_value_t *size = ir_scalar_int(b, DT_I64, width);
  ir_value_t *slot = ir_binary(b, OP_DIV, *out_own, size);
  ir_value_t *before = ir_binary(b, OP_MUL, slot, size);
  ir_value_t *own = ir_binary(b, OP_SUB, *out_own, before);
  ir_value_t *group = elements_at(b, g->at, slot, 1);
  ir_value_t *first = ir_binary(b, OP_MUL, group, size);
  ir_value_t *number = ir_binary(b, OP_ADD, first, own);
  replace(b, &root->op->out[0], &op->out[0]);
  replace(b, &root->op->out[1], number);
}

static void write_root(const groups_t *g, const root_t *root, ir_value_t *x,
                       ir_value_t **best) {
  ir_builder_t *b = g->b;
  ir_value_t *y = x;
  const expr_t *dim[3] = {g->T, g->k, NULL};
  switch (root->kind) {
    case ROOT_GROUPS:
      break;
    case ROOT_OWN:
      dim[2] =
          expr_divide_exactly(g->pool, ir_type_count(g->pool, &root->own->type),
                              expr_mul(g->pool, g->T, g->k));
      if (dim[2] == NULL) return;
      y = elements_at(b, x, ir_reshape(b, root->own, 3, dim), 2);
      break;
    case ROOT_BEST:
      write_best(g, root, x, best);
      return;
    case ROOT_AT_BEST:
      dim[1] = expr_mul(g->pool, g->k, root->width);
      y = elements_at(b, ir_reshape(b, x, 2, dim), *best, 1);
      break;
  }
  if (y != NULL) replace(b, &root->op->out[0], y);
}

/* The layer whose experts follow from a value. */
static moe_layer_t *layer_behind(const moe_report_t *report,
                                 const ir_value_t *x, unsigned *steps) {
  for (const ir_use_t *use = x->uses; *steps > 0 && use != NULL;
       use = use->next, --*steps) {
    const ir_op_t *user = use->user;
    moe_layer_t *layer = NULL;
    if (user->code == OP_MOE_EXPERTS) {
      for (unsigned i = 0; i < report->n_layers; i++)
        if (report->layers[i]->loc.index == user->loc.index &&
            report->layers[i]->loc.node == user->loc.node)
          return report->layers[i];
    }
    for (unsigned i = 0; layer == NULL && i < user->n_out; i++)
      layer = layer_behind(report, &user->out[i], steps);
    if (layer != NULL) return layer;
  }
  return NULL;
}

static void tell(search_t *s, const choice_t *c, const ir_value_t *result) {
  moe_report_t *report = s->ctx->options->moe;
  if (report == NULL) return;
  unsigned steps = 1000;
  moe_layer_t *layer = layer_behind(report, result, &steps);
  if (layer == NULL) return;
  layer->groups = c->groups.n_groups;
  layer->groups_kept = c->groups.n_chosen;
  text_t out;
  text_init(&out, report->arena);
  text_printf(&out, "two levels, the gates of %lld of %lld groups evaluated",
              (long long)c->groups.n_wanted, (long long)c->groups.n_groups);
  layer->router = out.data;
}

static moec_status_t rewrite(search_t *s, choice_t *c) {
  groups_t *g = &c->groups;
  ir_builder_t b = {.module = s->ctx->module,
                    .region = c->first->op->parent,
                    .before = c->first->op,
                    .loc = c->first->op->loc,
                    .diag = s->ctx->diag};
  const expr_t *dim[2] = {g->T, g->k};
  ir_value_t *best = NULL;
  g->b = &b;
  g->at = c->best != NULL
              ? write_wanted(g)
              : ir_reshape(&b, ir_cast(&b, g->chosen, DT_I64), 2, dim);
  for (root_t *root = c->first; root != NULL && b.status == MOEC_OK;
       root = root->next) {
    b.before = root->op;
    b.loc = root->op->loc;
    ir_value_t *x = groups_write(g, root->node);
    if (x != NULL) write_root(g, root, x, &best);
  }
  return b.status;
}

static void number(search_t *s, ir_func_t *func) {
  ir_renumber(func);
  unsigned n = ir_count_values(func) + 1;
  s->n_values = n;
  s->covered = ARENA_ARRAY(s->ctx->scratch, bool, n);
  s->is_root = ARENA_ARRAY(s->ctx->scratch, bool, n);
  s->seen = ARENA_ARRAY(s->ctx->scratch, bool, n);
}

moec_status_t run_moe_groups(pass_ctx_t *ctx, ir_func_t *func) {
  search_t s = {.ctx = ctx, .pool = ctx->module->exprs};
  s.last = &s.first;
  find_roots(&s, func);
  if (s.first != NULL) number(&s, func);
  for (choice_t *c = s.first; c != NULL; c = c->next) {
    if (!is_possible(&s, c) ||
        !pass_allow_rewrite(ctx, "moe_groups", c->first->op))
      continue;
    tell(&s, c, &c->first->op->out[c->first->op->n_out - 1]);
    MOEC_TRY(rewrite(&s, c));
    number(&s, func);
    ctx->changed = true;
  }
  return MOEC_OK;
}
