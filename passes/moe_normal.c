/* Terms without features of size one: each operation is written again on what
 * is left of its operands, and has a shape around it only where it needs one.
 */
#include "passes/moe_normal.h"

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { TABLE_SIZE = 256 };

typedef struct normal {
  const moe_term_t *of;
  moe_term_t *term;
  struct normal *next;
} normal_t;

typedef struct normaliser {
  moe_terms_t *terms;
  const ir_region_t *region;
  normal_t *table[TABLE_SIZE];
} normaliser_t;

static moe_term_t *normal(normaliser_t *n, moe_term_t *term);

/* ---- Shapes -------------------------------------------------------------- */

static unsigned kept_dims(const moe_term_t *term, const expr_t **out_dim) {
  unsigned n = 0;
  for (unsigned d = 0; d < term->rank; d++)
    if (!rule_is_one(term->dim[d])) out_dim[n++] = term->dim[d];
  return n;
}

static moe_term_t *without_ones(normaliser_t *n, moe_term_t *term) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = kept_dims(term, dim);
  return moe_term_reshape(n->terms, term, rank, dim);
}

/* An operand as it lines up with what is left of the result's features. */
static moe_term_t *lined_up(normaliser_t *n, moe_term_t *x,
                            const moe_term_t *result) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = 0, shift = result->rank - x->rank;
  for (unsigned d = 0; d < x->rank; d++) {
    bool stays = !rule_is_one(result->dim[shift + d]) &&
                 (rank > 0 || !rule_is_one(x->dim[d]));
    if (stays) dim[rank++] = x->dim[d];
  }
  return moe_term_reshape(n->terms, normal(n, x), rank, dim);
}

/* ---- Leaves -------------------------------------------------------------- */

/* Where each token has one expert, a single number of it is the route's. */
static moe_term_kind_t kind_of_rows(const normaliser_t *n,
                                    const moe_term_t *leaf) {
  for (unsigned d = 0; d < leaf->rank; d++)
    if (!rule_is_one(leaf->dim[d])) return leaf->kind;
  return rule_is_one(n->terms->source->k) ? TERM_ROUTE : leaf->kind;
}

/* The value in front of its views; constants stay as they are shaped. */
static moe_term_t *normal_leaf(normaliser_t *n, moe_term_t *leaf) {
  if (leaf->value == NULL ||
      (leaf->kind != TERM_TOKEN && leaf->kind != TERM_ROUTE))
    return without_ones(n, leaf);
  ir_value_t *value = leaf->value;
  const uint8_t *tag = leaf->tag;
  uint8_t other[2][IR_MAX_RANK] = {{0}};
  for (unsigned i = 0; value->def != NULL && value->def->code == OP_RESHAPE;
       i++) {
    ir_value_t *from = ir_in(value->def, 0);
    if (!ir_region_holds(ir_home(from), n->region) ||
        !moe_tags_reshape(n->terms->source, &value->type, tag, &from->type,
                          other[i % 2]))
      break;
    value = from;
    tag = other[i % 2];
  }
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = kept_dims(leaf, dim);
  moe_term_kind_t kind = kind_of_rows(n, leaf);
  if (value != leaf->value || kind != leaf->kind) {
    /* a reshape that splits rows into several tokens stays */
    moe_term_t *shorter = moe_term_leaf(n->terms, kind, value, tag);
    if (shorter != NULL) leaf = shorter;
  }
  return moe_term_reshape(n->terms, leaf, rank, dim);
}

/* ---- Operations ---------------------------------------------------------- */

static moe_term_t *like(normaliser_t *n, const moe_term_t *term, unsigned rank,
                        const expr_t *const *dim, moe_term_t *const *in,
                        unsigned n_exprs, const expr_t *const *exprs) {
  return moe_term_op(n->terms, &(moe_term_t){.code = term->code,
                                             .model = term->model,
                                             .dtype = term->dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = term->n,
                                             .in = in,
                                             .n_exprs = n_exprs,
                                             .exprs = exprs});
}

static bool same_dims(const moe_term_t *a, const moe_term_t *b) {
  if (a->rank != b->rank) return false;
  for (unsigned d = 0; d < a->rank; d++)
    if (a->dim[d] != b->dim[d]) return false;
  return true;
}

/* The other factor of w, where that is never negative: instead of 0 < w ? y : 0
 * it may be y. */
static moe_term_t *without_mask(moe_term_t *choice, const moe_term_t *w) {
  if (choice->kind != TERM_OP || choice->code != OP_SELECT) return choice;
  const moe_term_t *mask = choice->in[0];
  bool masks = mask->kind == TERM_OP && mask->code == OP_LT &&
               mask->in[1] == w && mask->in[0]->zero && choice->in[2]->zero &&
               same_dims(choice, choice->in[1]);
  while (w->kind == TERM_OP && w->code == OP_RESHAPE) w = w->in[0];
  return masks && w->kind == TERM_ROUTE && w->value != NULL &&
                 moe_is_nonnegative(w->value)
             ? choice->in[1]
             : choice;
}

static moe_term_t *normal_elementwise(normaliser_t *n, moe_term_t *term) {
  enum { MAX_IN = 4 };
  moe_term_t *in[MAX_IN];
  const expr_t *dim[IR_MAX_RANK];
  MOEC_ASSERT(term->n <= MAX_IN);
  for (unsigned i = 0; i < term->n; i++) in[i] = lined_up(n, term->in[i], term);
  for (unsigned i = 0; i < 2 && term->code == OP_MUL; i++)
    in[i] = without_mask(in[i], in[1 - i]);
  return like(n, term, kept_dims(term, dim), dim, in, term->n_exprs,
              term->exprs);
}

static moe_term_t *normal_expand(normaliser_t *n, moe_term_t *term) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = kept_dims(term, dim);
  moe_term_t *in = lined_up(n, term->in[0], term);
  bool same = in->rank == rank;
  for (unsigned d = 0; same && d < rank; d++) same = in->dim[d] == dim[d];
  return same ? in : like(n, term, rank, dim, &in, 0, NULL);
}

static moe_term_t *normal_transpose(normaliser_t *n, moe_term_t *term) {
  const moe_term_t *x = term->in[0];
  const expr_t *dim[IR_MAX_RANK], *order[IR_MAX_RANK];
  unsigned place[IR_MAX_RANK], left = 0, rank = 0;
  for (unsigned d = 0; d < x->rank; d++) {
    place[d] = left;
    left += !rule_is_one(x->dim[d]);
  }
  bool moves = false;
  for (unsigned d = 0; d < term->rank; d++) {
    int64_t from = 0;
    if (rule_is_one(term->dim[d])) continue;
    expr_is_const(term->exprs[d], &from);
    moves = moves || place[from] != rank;
    dim[rank] = term->dim[d];
    order[rank++] = expr_const(n->terms->pool, place[from]);
  }
  moe_term_t *in = normal(n, term->in[0]);
  return moves ? like(n, term, rank, dim, &in, rank, order) : in;
}

static moe_term_t *normal_slice(normaliser_t *n, moe_term_t *term) {
  const moe_term_t *x = term->in[0];
  const expr_t *dim[IR_MAX_RANK], *part[3 * IR_MAX_RANK];
  unsigned rank = 0;
  for (unsigned d = 0; d < term->rank; d++) {
    if (rule_is_one(x->dim[d]) && rule_is_one(term->dim[d])) continue;
    for (unsigned i = 0; i < 3; i++)
      part[3 * rank + i] = term->exprs[3 * d + i];
    dim[rank++] = term->dim[d];
  }
  moe_term_t *in = normal(n, term->in[0]);
  if (in->rank != rank) return NULL;
  return without_ones(n, like(n, term, rank, dim, &in, 3 * rank, part));
}

static moe_term_t *normal_reduce(normaliser_t *n, moe_term_t *term) {
  const moe_term_t *x = term->in[0];
  const expr_t *dim[IR_MAX_RANK], *over[IR_MAX_RANK];
  unsigned left = 0, n_over = 0;
  for (unsigned d = 0; d < x->rank; d++) {
    if (rule_is_one(x->dim[d])) continue;
    for (unsigned i = 0; i < term->n_exprs; i++)
      if (expr_equals_const(term->exprs[i], d))
        over[n_over++] = expr_const(n->terms->pool, left);
    left++;
  }
  moe_term_t *in = normal(n, term->in[0]);
  if (n_over == 0) return in;
  return like(n, term, kept_dims(term, dim), dim, &in, n_over, over);
}

/* On operands of the shapes that they had. */
static moe_term_t *normal_other(normaliser_t *n, moe_term_t *term) {
  moe_term_t **in = ARENA_ARRAY(n->terms->arena, moe_term_t *, term->n + 1);
  for (unsigned i = 0; i < term->n; i++) {
    const moe_term_t *x = term->in[i];
    in[i] = moe_term_reshape(n->terms, normal(n, term->in[i]), x->rank, x->dim);
  }
  return without_ones(
      n, like(n, term, term->rank, term->dim, in, term->n_exprs, term->exprs));
}

static moe_term_t *normal_op(normaliser_t *n, moe_term_t *term) {
  moe_term_t *result = NULL;
  switch (term->code) {
    case OP_RESHAPE: {
      const expr_t *dim[IR_MAX_RANK];
      unsigned rank = kept_dims(term, dim);
      return moe_term_reshape(n->terms, normal(n, term->in[0]), rank, dim);
    }
    case OP_EXPAND:
      return normal_expand(n, term);
    case OP_TRANSPOSE:
      return normal_transpose(n, term);
    case OP_SLICE:
      result = normal_slice(n, term);
      break;
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
    case OP_REDUCE_PROD:
      if (term->in[0]->dtype == term->dtype) result = normal_reduce(n, term);
      break;
    default:
      if ((ir_op_info(term->code)->traits & ELEMENTWISE) != 0)
        return normal_elementwise(n, term);
  }
  return result != NULL ? result : normal_other(n, term);
}

static moe_term_t *normal(normaliser_t *n, moe_term_t *term) {
  normal_t **slot = &n->table[(term->hash >> 9) % TABLE_SIZE];
  for (const normal_t *known = *slot; known != NULL; known = known->next)
    if (known->of == term) return known->term;
  moe_term_t *result =
      term->kind == TERM_OP ? normal_op(n, term) : normal_leaf(n, term);
  normal_t *entry = ARENA_NEW(n->terms->arena, normal_t);
  *entry = (normal_t){term, result, *slot};
  *slot = entry;
  return result;
}

moe_term_t *moe_term_normal(moe_terms_t *terms, const ir_region_t *region,
                            moe_term_t *term) {
  normaliser_t n = {.terms = terms, .region = region};
  return normal(&n, term);
}
