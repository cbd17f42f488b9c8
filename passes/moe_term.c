/* Terms: equal ones are shared; those of several experts become one. */
#include "passes/moe_term.h"

#include <string.h>

#include "passes/moe_nested.h"
#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"

enum {
  BUCKETS = 1 << 15,   /* of terms, and of what was unified */
  MAX_CHOSEN = 1 << 20 /* terms of single experts, for all layers */
};

void moe_terms_init(moe_terms_t *terms, arena_t *arena, expr_pool_t *pool) {
  *terms = (moe_terms_t){.arena = arena, .pool = pool};
  terms->bucket = ARENA_ARRAY(arena, moe_term_t *, BUCKETS);
  terms->unified = ARENA_ARRAY(arena, moe_unified_t *, BUCKETS);
}

/* ---- Sharing ------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
  return hash ^ hash >> 29;
}

static uint64_t hash_term(const moe_term_t *term) {
  uint64_t hash = mix(term->kind, (uint64_t)term->code << 8 | term->rank);
  hash = mix(hash, (uintptr_t)term->value);
  for (unsigned i = 0; i < term->n_each; i++)
    hash = mix(hash, (uintptr_t)term->each[i]);
  for (unsigned i = 0; i < term->n; i++)
    hash = mix(hash, (uintptr_t)term->in[i]);
  for (unsigned i = 0; i < term->n_exprs; i++)
    hash = mix(hash, (uintptr_t)term->exprs[i]);
  for (unsigned d = 0; d < term->rank; d++)
    hash = mix(hash, (uintptr_t)term->dim[d]);
  return hash;
}

static bool same_list(const void *a, const void *b, size_t size) {
  return size == 0 || memcmp(a, b, size) == 0;
}

static bool same_attrs(const ir_op_t *a, const ir_op_t *b) {
  if (a == b) return true;
  if (a != NULL && (a->code == OP_MOE_EXPERTS || a->code == OP_MOE_COMBINE))
    return moe_same_nested(a, b);
  if (a == NULL || b == NULL || a->n_attrs != b->n_attrs) return false;
  for (unsigned i = 0; i < a->n_attrs; i++)
    if (!ir_attr_equal(&a->attrs[i], &b->attrs[i])) return false;
  return true;
}

static bool same_term(const moe_term_t *a, const moe_term_t *b) {
  return a->hash == b->hash && a->kind == b->kind && a->dtype == b->dtype &&
         a->rank == b->rank && a->code == b->code && a->n == b->n &&
         a->value == b->value && a->n_each == b->n_each &&
         a->n_exprs == b->n_exprs &&
         same_list(a->dim, b->dim, a->rank * sizeof *a->dim) &&
         same_list(a->each, b->each, a->n_each * sizeof *a->each) &&
         same_list(a->in, b->in, a->n * sizeof *a->in) &&
         same_list(a->exprs, b->exprs, a->n_exprs * sizeof *a->exprs) &&
         (a->value == NULL || a->tag == b->tag ||
          same_list(a->tag, b->tag, a->value->type.rank)) &&
         same_attrs(a->model, b->model);
}

bool moe_term_alike(const moe_term_t *a, const moe_term_t *b) {
  return a->kind == TERM_OP && b->kind == TERM_OP && a->dtype == b->dtype &&
         a->rank == b->rank && a->code == b->code && a->n == b->n &&
         a->n_exprs == b->n_exprs &&
         same_list(a->dim, b->dim, a->rank * sizeof *a->dim) &&
         same_list(a->exprs, b->exprs, a->n_exprs * sizeof *a->exprs) &&
         same_attrs(a->model, b->model);
}

/* The values of steady leaves are left out: unify() joins these, and nothing
 * else that differs. */
static uint64_t shape_of(const moe_term_t *term) {
  uint64_t shape = mix((uint64_t)term->kind << 32 | term->dtype,
                       (uint64_t)term->code << 8 | term->rank);
  for (unsigned d = 0; d < term->rank; d++)
    shape = mix(shape, (uintptr_t)term->dim[d]);
  if (term->kind == TERM_STEADY) return shape;
  if (term->kind != TERM_OP) return mix(shape, (uintptr_t)term);
  for (unsigned i = 0; i < term->n_exprs; i++)
    shape = mix(shape, (uintptr_t)term->exprs[i]);
  for (unsigned i = 0; i < term->n; i++) shape = mix(shape, term->in[i]->shape);
  return shape;
}

static bool is_zero(const moe_term_t *term) {
  double x;
  if (term->kind == TERM_STEADY)
    return moe_fill_number(term->value, &x) && x == 0;
  if (term->kind != TERM_OP) return false;
  switch (term->code) {
    case OP_MUL:
      return term->in[0]->zero || term->in[1]->zero;
    case OP_EXPAND:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
      return term->in[0]->zero;
    default:
      return false;
  }
}

static moe_term_t *intern(moe_terms_t *terms, const moe_term_t *wanted) {
  moe_term_t *copy = ARENA_NEW(terms->arena, moe_term_t);
  *copy = *wanted;
  copy->hash = hash_term(copy);
  moe_term_t **slot = &terms->bucket[(copy->hash ^ copy->hash >> 32) % BUCKETS];
  for (moe_term_t *t = *slot; t != NULL; t = t->next)
    if (same_term(t, copy)) return t;
  copy->next = *slot;
  copy->shape = shape_of(copy);
  copy->zero = is_zero(copy);
  *slot = copy;
  return copy;
}

/* ---- Making -------------------------------------------------------------- */

const expr_t *moe_term_feature(const moe_terms_t *terms, const expr_t *dim,
                               unsigned tag) {
  const moe_source_t *source = terms->source;
  if (tag == TAG_INNER || source == NULL) return dim;
  const expr_t *others = expr_const(terms->pool, 1);
  if ((tag & TAG_EXPERT) != 0)
    others = expr_const(terms->pool, source->experts);
  if ((tag & TAG_TOKEN) != 0)
    others = moe_times(terms->pool, others, source->tokens);
  if ((tag & TAG_SLOT) != 0) others = moe_times(terms->pool, others, source->k);
  if ((tag & TAG_PLACE) != 0 && *source->capacity != NULL)
    others = moe_times(terms->pool, others, *source->capacity);
  if (others == NULL) return dim;
  const expr_t *part = expr_divide_exactly(terms->pool, dim, others);
  return part != NULL ? part : dim;
}

/* Whether a value has as many rows as its kind asks for: one that differs only
 * between groups of tokens has fewer. */
static bool has_all_rows(const moe_terms_t *terms, const moe_term_t *leaf) {
  const moe_source_t *source = terms->source;
  if (source == NULL || leaf->kind == TERM_STEADY) return true;
  const expr_t *experts = expr_const(terms->pool, source->experts);
  const expr_t *count = leaf->kind == TERM_TOKEN   ? source->tokens
                        : leaf->kind == TERM_ROUTE ? source->routes
                                                   : experts;
  if (leaf->kind == TERM_GATE) {
    bool slots =
        (moe_tag_union(leaf->value->type.rank, leaf->tag) & TAG_SLOT) != 0;
    count = moe_times(terms->pool, slots ? source->routes : source->tokens,
                      experts);
  }
  for (unsigned d = 0; d < leaf->rank; d++)
    count = moe_times(terms->pool, count, leaf->dim[d]);
  return ir_type_count(terms->pool, &leaf->value->type) == count;
}

moe_term_t *moe_term_leaf(moe_terms_t *terms, moe_term_kind_t kind,
                          ir_value_t *value, const uint8_t *tag) {
  unsigned rank = value->type.rank;
  uint8_t *kept = ARENA_ARRAY(terms->arena, uint8_t, rank + 1);
  const expr_t **dim = ARENA_ARRAY(terms->arena, const expr_t *, rank + 1);
  moe_term_t term = {.kind = kind, .dtype = value->type.dtype, .value = value};
  for (unsigned d = 0; d < rank; d++) {
    kept[d] = tag[d];
    if ((tag[d] & TAG_INNER) != 0)
      dim[term.rank++] = moe_term_feature(terms, value->type.dim[d], tag[d]);
  }
  term.dim = dim;
  term.tag = kept;
  term.rows = kind == TERM_TOKEN || kind == TERM_ROUTE || kind == TERM_GATE;
  term.tokens = kind == TERM_TOKEN;
  term.banks = kind == TERM_BANK;
  return has_all_rows(terms, &term) ? intern(terms, &term) : NULL;
}

moe_term_t *moe_term_op(moe_terms_t *terms, const moe_term_t *what) {
  const expr_t **dims =
      ARENA_ARRAY(terms->arena, const expr_t *, what->rank + what->n_exprs + 1);
  moe_term_t **ins = ARENA_ARRAY(terms->arena, moe_term_t *, what->n + 1);
  moe_term_t term = *what;
  term.kind = TERM_OP;
  term.dim = dims;
  term.in = ins;
  term.exprs = dims + what->rank;
  for (unsigned d = 0; d < what->rank; d++) dims[d] = what->dim[d];
  for (unsigned i = 0; i < what->n_exprs; i++)
    dims[what->rank + i] = what->exprs[i];
  for (unsigned i = 0; i < what->n; i++) {
    const moe_term_t *in = ins[i] = what->in[i];
    term.rows = term.rows || in->rows;
    term.banks = term.banks || in->banks;
    term.tokens = term.tokens || in->tokens;
    term.chooses = term.chooses || in->chooses;
    term.loops |= in->loops;
  }
  if (term.code == OP_WHILE) {
    int64_t level = 0;
    expr_is_const(term.exprs[0], &level);
    term.loops &= ~(1U << level);
  }
  return intern(terms, &term);
}

moe_term_t *moe_term_with(moe_terms_t *terms, const moe_term_t *what,
                          moe_term_t *const *in) {
  return moe_term_op(terms, &(moe_term_t){.code = what->code,
                                          .model = what->model,
                                          .dtype = what->dtype,
                                          .rank = what->rank,
                                          .dim = what->dim,
                                          .n = what->n,
                                          .in = in,
                                          .n_exprs = what->n_exprs,
                                          .exprs = what->exprs});
}

moe_term_t *moe_term_arg(moe_terms_t *terms, const moe_term_t *what) {
  const expr_t **dims =
      ARENA_ARRAY(terms->arena, const expr_t *, what->rank + what->n_exprs);
  moe_term_t term = *what;
  term.kind = TERM_ARG;
  term.dim = dims;
  term.exprs = dims + what->rank;
  for (unsigned d = 0; d < what->rank; d++) dims[d] = what->dim[d];
  for (unsigned i = 0; i < what->n_exprs; i++)
    dims[what->rank + i] = what->exprs[i];
  return intern(terms, &term);
}

static bool dims_broadcast(unsigned n, const expr_t *const *from, unsigned rank,
                           const expr_t *const *dim) {
  if (n > rank) return false;
  for (unsigned d = 0; d < n; d++)
    if (from[d] != dim[rank - n + d] && !rule_is_one(from[d])) return false;
  return true;
}

bool moe_term_broadcasts(const moe_term_t *x, unsigned rank,
                         const expr_t *const *dim) {
  return dims_broadcast(x->rank, x->dim, rank, dim);
}

bool moe_product_fits(const moe_term_t *x, const moe_term_t *y, unsigned rank,
                      const expr_t *const *dim) {
  if (x->rank < 2 || y->rank < 2 || rank < 2) return false;
  unsigned n = x->rank - 2, m = y->rank - 2;
  return x->dim[n] == dim[rank - 2] && y->dim[m + 1] == dim[rank - 1] &&
         x->dim[n + 1] == y->dim[m] &&
         dims_broadcast(n, x->dim, rank - 2, dim) &&
         dims_broadcast(m, y->dim, rank - 2, dim) &&
         (n == rank - 2 || m == rank - 2);
}

moe_term_t *moe_term_slots(moe_terms_t *terms, unsigned n,
                           moe_term_t *const *each) {
  moe_term_t **in = ARENA_ARRAY(terms->arena, moe_term_t *, n);
  memcpy(in, each, n * sizeof *in);
  return intern(terms, &(moe_term_t){.kind = TERM_ROUTE,
                                     .dtype = each[0]->dtype,
                                     .rows = true,
                                     .n = n,
                                     .in = in});
}

moe_term_t *moe_term_computed(moe_terms_t *terms, moe_term_t *term) {
  return moe_term_slots(terms, 1, &term);
}

moe_term_t *moe_term_reshape(moe_terms_t *terms, moe_term_t *x, unsigned rank,
                             const expr_t *const *dim) {
  if (x->kind == TERM_OP && x->code == OP_RESHAPE) x = x->in[0];
  if (x->rank == rank && same_list(x->dim, dim, rank * sizeof *dim)) return x;
  return moe_term_op(terms, &(moe_term_t){.code = OP_RESHAPE,
                                          .dtype = x->dtype,
                                          .rank = rank,
                                          .dim = dim,
                                          .n = 1,
                                          .in = &x});
}

moe_term_t *moe_term_choice(moe_terms_t *terms, unsigned n,
                            moe_term_t *const *member) {
  moe_term_t term = *member[0];
  for (unsigned i = 0; i < n; i++) {
    const moe_term_t *m = member[i];
    if (m->chooses || m->dtype != term.dtype || m->rank != term.rank ||
        !same_list(m->dim, term.dim, m->rank * sizeof *m->dim))
      return NULL;
    term.tokens = term.tokens || m->tokens;
  }
  moe_term_t **in = ARENA_ARRAY(terms->arena, moe_term_t *, n);
  memcpy(in, member, n * sizeof *in);
  moe_term_t choice = {.kind = TERM_CHOICE,
                       .dtype = term.dtype,
                       .rank = term.rank,
                       .dim = term.dim,
                       .rows = true,
                       .banks = true,
                       .tokens = term.tokens,
                       .chooses = true,
                       .n = n,
                       .in = in};
  return intern(terms, &choice);
}

static moe_term_t *choose(moe_terms_t *terms, moe_term_t *term,
                          unsigned expert);

static moe_term_t *choose_operands(moe_terms_t *terms, const moe_term_t *term,
                                   unsigned expert) {
  moe_term_t **in = ARENA_ARRAY(terms->arena, moe_term_t *, term->n + 1);
  for (unsigned i = 0; i < term->n; i++) {
    in[i] = choose(terms, term->in[i], expert);
    if (in[i] == NULL) return NULL;
  }
  return moe_term_with(terms, term, in);
}

/* Each term once for an expert, however many use it. */
static moe_term_t *choose(moe_terms_t *terms, moe_term_t *term,
                          unsigned expert) {
  if (term->kind == TERM_CHOICE) return term->in[expert];
  if (term->banks && !term->chooses) return NULL;
  if (term->kind != TERM_OP || !term->chooses) return term;
  if (term->asked == terms->n_asked) return term->chosen;
  if (terms->n_chosen >= MAX_CHOSEN) return NULL;
  terms->n_chosen++;
  moe_term_t *chosen = choose_operands(terms, term, expert);
  term->asked = terms->n_asked;
  term->chosen = chosen;
  return chosen;
}

moe_term_t *moe_term_chosen(moe_terms_t *terms, moe_term_t *term,
                            unsigned expert) {
  terms->n_asked++;
  return choose(terms, term, expert);
}

/* ---- Several experts ----------------------------------------------------- */

/* The one tensor whose parts along `axis` the experts' values are, in order;
 * NULL: there is none. */
static ir_value_t *stacked_value(unsigned n, ir_value_t *const *each,
                                 unsigned *out_axis) {
  ir_value_t *stack = NULL;
  unsigned axis = 0;
  for (unsigned e = 0; e < n; e++) {
    const ir_op_t *op = each[e] != NULL ? each[e]->def : NULL;
    if (op == NULL || op->code != OP_SLICE) return NULL;
    ir_value_t *from = ir_in(op, 0);
    if (stack == NULL) {
      stack = from;
      while (axis < from->type.rank &&
             from->type.dim[axis] == op->out[0].type.dim[axis])
        axis++;
      if (axis == from->type.rank) return NULL;
    }
    unsigned n_dims;
    const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n_dims);
    if (from != stack || !expr_equals_const(op->out[0].type.dim[axis], 1) ||
        !expr_equals_const(from->type.dim[axis], n))
      return NULL;
    for (unsigned d = 0; d < n_dims; d++)
      if (d == axis ? !expr_equals_const(start[d], e) : !rule_slices_all(op, d))
        return NULL;
  }
  *out_axis = axis;
  return stack;
}

static moe_term_t *bank_of(moe_terms_t *terms, unsigned n,
                           moe_term_t *const *member, const moe_term_t *first) {
  ir_value_t **each = ARENA_ARRAY(terms->arena, ir_value_t *, n);
  for (unsigned e = 0; e < n; e++) {
    if (member[e] == NULL) continue;
    each[e] = member[e]->value;
    if (!ir_type_equal(&each[e]->type, &first->value->type)) return NULL;
  }
  unsigned axis;
  ir_value_t *stack = terms->source == NULL || n == terms->source->experts
                          ? stacked_value(n, each, &axis)
                          : NULL;
  if (stack != NULL) {
    uint8_t tag[IR_MAX_RANK];
    for (unsigned d = 0; d < stack->type.rank; d++)
      tag[d] = d == axis ? TAG_EXPERT : TAG_INNER;
    moe_term_t *leaf = moe_term_leaf(terms, TERM_BANK, stack, tag);
    return moe_term_reshape(terms, leaf, first->rank, first->dim);
  }
  moe_term_t bank = {.kind = TERM_BANK,
                     .dtype = first->dtype,
                     .rank = first->rank,
                     .dim = first->dim,
                     .banks = true,
                     .each = each,
                     .n_each = n};
  return intern(terms, &bank);
}

static bool alike(const moe_term_t *a, const moe_term_t *b) {
  return a->kind == b->kind && a->dtype == b->dtype && a->rank == b->rank &&
         a->code == b->code && a->n == b->n && a->n_exprs == b->n_exprs &&
         same_list(a->dim, b->dim, a->rank * sizeof *a->dim) &&
         same_list(a->exprs, b->exprs, a->n_exprs * sizeof *a->exprs) &&
         same_attrs(a->model, b->model);
}

/* Whether all are the same constant, though in branches of their own. */
static bool are_one_constant(unsigned n, moe_term_t *const *member,
                             const moe_term_t *first) {
  const ir_op_t *op = first->value->def;
  bool same = op != NULL && op->code == OP_CONSTANT;
  for (unsigned e = 0; same && e < n; e++) {
    const ir_op_t *other = member[e] != NULL ? member[e]->value->def : op;
    same = other != NULL && other->code == OP_CONSTANT && same_attrs(op, other);
  }
  return same;
}

struct moe_unified {
  moe_term_t *const *member;
  unsigned n;
  moe_term_t *term;
  moe_unified_t *next;
};

static moe_unified_t **unified_slot(moe_terms_t *terms, unsigned n,
                                    moe_term_t *const *member) {
  uint64_t hash = n;
  for (unsigned e = 0; e < n; e++) hash = mix(hash, (uintptr_t)member[e]);
  moe_unified_t **slot = &terms->unified[(hash ^ hash >> 32) % BUCKETS];
  while (*slot != NULL && ((*slot)->n != n || memcmp((*slot)->member, member,
                                                     n * sizeof *member) != 0))
    slot = &(*slot)->next;
  return slot;
}

static moe_term_t *unify(moe_terms_t *terms, unsigned n,
                         moe_term_t *const *member) {
  moe_term_t *first = NULL;
  bool same = true;
  for (unsigned e = 0; e < n; e++) {
    if (member[e] == NULL) continue;
    if (first == NULL) first = member[e];
    same = same && member[e] == first;
    if (!alike(member[e], first)) return NULL;
  }
  if (first == NULL || same) return first;
  if (first->kind == TERM_STEADY && are_one_constant(n, member, first))
    return first;
  if (first->kind == TERM_STEADY) return bank_of(terms, n, member, first);
  if (first->kind != TERM_OP) return NULL;
  moe_term_t **in = ARENA_ARRAY(terms->arena, moe_term_t *, first->n + 1);
  for (unsigned i = 0; i < first->n; i++) {
    moe_term_t **of = ARENA_ARRAY(terms->arena, moe_term_t *, n);
    for (unsigned e = 0; e < n; e++)
      of[e] = member[e] != NULL ? member[e]->in[i] : NULL;
    in[i] = moe_term_unify(terms, n, of);
    if (in[i] == NULL) return NULL;
  }
  return moe_term_with(terms, first, in);
}

moe_term_t *moe_term_unify(moe_terms_t *terms, unsigned n,
                           moe_term_t *const *member) {
  moe_unified_t **slot = unified_slot(terms, n, member);
  if (*slot != NULL) return (*slot)->term;
  moe_term_t *term = unify(terms, n, member);
  moe_term_t **copy = ARENA_ARRAY(terms->arena, moe_term_t *, n);
  memcpy(copy, member, n * sizeof *copy);
  moe_unified_t *entry = ARENA_NEW(terms->arena, moe_unified_t);
  *entry = (moe_unified_t){copy, n, term, NULL};
  *unified_slot(terms, n, member) = entry; /* others may have come since */
  return term;
}
