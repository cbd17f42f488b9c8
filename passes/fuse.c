/* Marks the operations whose results are computed inside their users' kernels.
 *
 * One sweep backwards: users are decided before what they use. The kernel that
 * an operation ends up in is known by its root, the first operation on the way
 * to the results that is stored. Linear in uses. */
#include "passes/lower.h"
#include "passes/pass.h"

enum { MAX_TREE = 48 }; /* operations in one kernel */

/* How an operation sits in the kernel of its root. */
typedef struct place {
  ir_op_t *root;
  bool straight; /* elementwise of one shape all the way to the root */
  bool repeated; /* the same element may be computed several times */
} place_t;

typedef struct tree_info { /* of a root */
  unsigned n_ops;
  bool has_product, has_reduce;
} tree_info_t;

typedef struct fuser {
  pass_ctx_t *ctx;
  place_t *place;    /* by number of the operation's first result */
  tree_info_t *tree; /* ditto, of roots */
} fuser_t;

static unsigned key(const ir_op_t *op) {
  return op->n_out > 0 ? op->out[0].number : 0;
}

static bool is_elementwise(const ir_op_t *op) {
  return ir_has_trait(op, ELEMENTWISE);
}

static bool is_view_op(ir_opcode_t code) {
  return code == OP_SLICE || code == OP_TRANSPOSE || code == OP_EXPAND ||
         code == OP_RESHAPE;
}

static bool is_reduce(const ir_op_t *op) {
  return lowering_of(op->code) == &lowering_reduce;
}

static bool same_dims(const ir_type_t *a, const ir_type_t *b) {
  if (a->rank != b->rank) return false;
  for (unsigned d = 0; d < a->rank; d++)
    if (a->dim[d] != b->dim[d]) return false;
  return true;
}

/* Only ones come and go: no index arithmetic at all. */
static bool is_squeeze(const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
  unsigned i = 0, o = 0;
  for (;;) {
    while (i < in->rank && expr_equals_const(in->dim[i], 1)) i++;
    while (o < out->rank && expr_equals_const(out->dim[o], 1)) o++;
    if (i == in->rank || o == out->rank) return i == in->rank && o == out->rank;
    if (in->dim[i++] != out->dim[o++]) return false;
  }
}

/* Whether the user reads this operand element by element. */
static bool pulls(const ir_use_t *use) {
  const ir_op_t *user = use->user;
  const ir_op_t *def = use->value->def;
  if (user->parent != def->parent) return false; /* once, not in every trip */
  switch (user->code) {
    case OP_IF:
    case OP_WHILE:
    case OP_RETURN:
    case OP_YIELD:
    case OP_BIND:
    case OP_TOPK:
    case OP_TOPK_SUMS:
    case OP_NONZERO:
    case OP_SORT_ROWS:
    case OP_GROUP_ROWS:
    case OP_CHECK_EQUAL:
    case OP_PACK:
    case OP_CONSTANT_STACK:
      return false;
    case OP_PRODUCT:
    case OP_WINDOW_PRODUCT:
    case OP_GROUPED_PRODUCT:
      return use->index == 0 && is_view_op(def->code) &&
             def->code != OP_RESHAPE;
    case OP_RESHAPE:
      return user->fused;
    default:
      return true;
  }
}

/* Where an operand of `user` would be computed, and whether straight. */
static place_t place_in(const fuser_t *f, ir_op_t *user) {
  if (user->fused) return f->place[key(user)];
  return (place_t){user, is_elementwise(user), false};
}

/* Elements of the operand that one user's element needs: at most one, each read
 * about once. */
static bool reads_once(const ir_use_t *use) {
  const ir_op_t *user = use->user;
  switch (user->code) {
    case OP_EXPAND:
    case OP_GATHER:
    case OP_GATHER_ND:
    case OP_GATHER_ELEMENTS:
    case OP_WINDOWS:
      return false;
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_ARG_MAX:
    case OP_ARG_MIN:
      return false;
    case OP_SCATTER_ND:
    case OP_SCATTER_ELEMENTS:
      return true;
    default:
      break;
  }
  if (is_elementwise(user))
    return same_dims(&use->value->type, &user->out[0].type);
  return true;
}

/* An operand with 1 for the innermost dimension is computed once per row. */
static bool once_per_row(const ir_use_t *use, const place_t *where) {
  const ir_type_t *x = &use->value->type, *y = &use->user->out[0].type;
  if (!is_elementwise(use->user) || !where->straight || x->rank != y->rank ||
      x->rank == 0 || !expr_equals_const(x->dim[x->rank - 1], 1))
    return false;
  for (unsigned d = 0; d + 1 < x->rank; d++)
    if (x->dim[d] != y->dim[d]) return false;
  return true;
}

/* Operations below x that would be computed with it; costly ones count more. */
static unsigned subtree_cost(const ir_op_t *op, unsigned limit) {
  if (op == NULL || limit == 0) return 0;
  if (is_reduce(op) || lower_is_product(op)) return MAX_TREE;
  unsigned cost = ir_has_trait(op, COSTLY) ? 8 : 1;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (x != NULL && x->uses->next == NULL && x->def != NULL &&
        is_elementwise(x->def))
      cost += subtree_cost(x->def, limit - 1);
  }
  return cost;
}

static bool may_repeat(const ir_op_t *op) {
  return is_elementwise(op) && subtree_cost(op, 4) <= 3;
}

/* All users in one kernel at the same indices: computed once there. */
static bool find_place(const fuser_t *f, const ir_op_t *op, place_t *out) {
  const ir_value_t *x = &op->out[0];
  bool first = true, repeated = false;
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    if (!pulls(use)) return false;
    place_t here = place_in(f, use->user);
    if (first)
      *out = here;
    else if (here.root != out->root || !here.straight || !out->straight)
      return false;
    repeated |= here.repeated || !(reads_once(use) || once_per_row(use, &here));
    first = false;
  }
  out->repeated = repeated;
  return !first;
}

static bool use_is_fine(const ir_op_t *op, const ir_use_t *use,
                        const place_t *where, const tree_info_t *tree) {
  if (lower_is_product(op))
    return where->straight && is_elementwise(use->user) && !tree->has_product &&
           !tree->has_reduce &&
           same_dims(&op->out[0].type, &use->user->out[0].type) &&
           same_dims(&op->out[0].type, &where->root->out[0].type);
  if (is_reduce(op)) {
    if (!where->straight || !is_elementwise(use->user) || tree->has_product)
      return false;
    if (same_dims(&op->out[0].type, &use->user->out[0].type))
      return !tree->has_reduce;
    return lower_reduces_last(op) && once_per_row(use, where);
  }
  if (is_view_op(op->code)) return op->code != OP_RESHAPE || is_squeeze(op);
  return !where->repeated || may_repeat(op);
}

static bool is_narrowed(const ir_op_t *op) {
  return op->code == OP_CONSTANT && ir_has_attr(op, ATTR_CONSTANT_data_dtype);
}

/* Views of constants cost nothing however often they are used; so does to widen
 * those that `narrow` has narrowed. */
static bool is_constant_view(const ir_op_t *op) {
  bool widens = op->code == OP_CAST;
  if (widens) op = op->in[0].value->def;
  while (op != NULL && is_view_op(op->code)) {
    op = op->in[0].value->def;
    if (op != NULL && op->code == OP_CONSTANT)
      return !widens || is_narrowed(op);
  }
  return op != NULL && widens && is_narrowed(op);
}

static bool all_pull(const ir_op_t *op) {
  for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
    if (!pulls(use)) return false;
  return true;
}

static bool is_source(ir_opcode_t code) {
  return code == OP_IOTA || code == OP_EXPRS;
}

static bool may_fuse(const fuser_t *f, const ir_op_t *op, place_t *out_place) {
  int64_t count;
  const lowering_t *l = lowering_of(op->code);
  if (op->n_out != 1 || op->out[0].uses == NULL) return false;
  if (op->code == OP_CONSTANT)
    return ir_type_static_count(&op->out[0].type, &count) && count == 1 &&
           !is_narrowed(op);
  if (is_source(op->code)) return true;
  if (l->elem == NULL && !lower_is_product(op)) return false;
  bool stored = l->root != NULL && !lower_is_product(op);
  if (stored || op->code == OP_ARG_MAX || op->code == OP_ARG_MIN) return false;
  if (is_constant_view(op) && all_pull(op)) return true;
  if (!find_place(f, op, out_place)) return false;
  const tree_info_t *tree = &f->tree[key(out_place->root)];
  if (tree->n_ops >= MAX_TREE) return false;
  for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
    if (!use_is_fine(op, use, out_place, tree)) return false;
  return true;
}

static void note_fused(fuser_t *f, ir_op_t *op, place_t where) {
  bool keeps_shape = is_elementwise(op) &&
                     same_dims(&op->out[0].type, &where.root->out[0].type);
  tree_info_t *tree = &f->tree[key(where.root)];
  tree->n_ops++;
  tree->has_product |= lower_is_product(op);
  tree->has_reduce |= is_reduce(op);
  /* Rows of a broadcast operand are walked like the root's. */
  bool row = is_elementwise(op) && where.straight;
  f->place[key(op)] = (place_t){
      where.root, where.straight && (keeps_shape || row), where.repeated};
}

moec_status_t run_fuse(pass_ctx_t *ctx, ir_func_t *func) {
  ir_renumber(func);
  unsigned n = ir_count_values(func) + 1;
  fuser_t f = {.ctx = ctx};
  f.place = ARENA_ARRAY(ctx->scratch, place_t, n);
  f.tree = ARENA_ARRAY(ctx->scratch, tree_info_t, n);
  for (ir_op_t *op = ir_walk_last(func); op != NULL; op = ir_walk_prev(op)) {
    place_t where = {op, false, false};
    if (!ir_has_trait(op, PURE)) continue;
    if (is_reduce(op)) f.tree[key(op)].has_reduce = true;
    if (lower_is_product(op)) f.tree[key(op)].has_product = true;
    if (!may_fuse(&f, op, &where)) continue;
    if (!pass_allow_rewrite(ctx, "fuse", op)) continue;
    op->fused = true;
    bool counted = op->code != OP_CONSTANT && !is_source(op->code) &&
                   !is_constant_view(op);
    if (counted)
      note_fused(&f, op, where);
    else
      f.place[key(op)] = (place_t){op, false, false};
  }
  return MOEC_OK;
}
