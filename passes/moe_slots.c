/* Layers whose slots are computed one by one.
 *
 * For each slot the graph has what the experts compute for the token that chose
 * them there: a layer of one expert per token. Where all slots compute the same
 * with the same banks, they are one layer: the term of a route is what its slot
 * has, and numbers that differ from slot to slot are the routes' numbers. */
#include <string.h>

#include "passes/moe_match.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { MAX_STEPS = 20000, MEMOS = 256 };

typedef struct joined {
  moe_term_t *const *each;
  moe_term_t *term;
  struct joined *next;
} joined_t;

typedef struct joiner {
  moe_builder_t *b;
  bool of_parts;  /* each slot's term was read for a router of its own */
  unsigned n;     /* slots */
  unsigned steps; /* left */
  joined_t *memo[MEMOS];
} joiner_t;

static moe_term_t *join(joiner_t *j, moe_term_t *const *each);

/* ---- Leaves -------------------------------------------------------------- */

/* A number of one slot's routes, which are the tokens, as the token's. */
static moe_term_t *number_of_token(joiner_t *j, moe_term_t *leaf) {
  moe_terms_t *terms = j->b->terms;
  if (!j->of_parts) return leaf;
  if (leaf->value == NULL) return NULL;
  if (leaf->kind == TERM_ROUTE)
    leaf = moe_term_leaf(terms, TERM_TOKEN, leaf->value, leaf->tag);
  return leaf;
}

static bool is_single(const moe_term_t *term) {
  for (unsigned d = 0; d < term->rank; d++)
    if (!rule_is_one(term->dim[d])) return false;
  return true;
}

/* Numbers that differ from slot to slot: the routes'. */
static moe_term_t *join_numbers(joiner_t *j, moe_term_t *const *each) {
  moe_terms_t *terms = j->b->terms;
  moe_term_t *number[MOE_MAX_PARTS];
  for (unsigned i = 0; i < j->n; i++) {
    const moe_term_t *x = each[i];
    bool known = x->kind == TERM_GATE || x->kind == TERM_TOKEN ||
                 (x->kind == TERM_ROUTE && j->of_parts);
    bool fits = known && is_single(x) && x->dtype == each[0]->dtype &&
                x->rank == each[0]->rank;
    number[i] = fits ? number_of_token(j, each[i]) : NULL;
    if (number[i] == NULL) return NULL;
    number[i] = moe_term_reshape(terms, number[i], 0, NULL);
  }
  moe_term_t *all = moe_term_slots(terms, j->n, number);
  return moe_term_reshape(terms, all, each[0]->rank, each[0]->dim);
}

/* ---- Terms --------------------------------------------------------------- */

static moe_term_t *join_op(joiner_t *j, moe_term_t *const *each) {
  const moe_term_t *first = each[0];
  for (unsigned i = 1; i < j->n; i++)
    if (!moe_term_alike(first, each[i])) return NULL;
  moe_term_t **in = ARENA_ARRAY(j->b->arena, moe_term_t *, first->n + 1);
  moe_term_t *operand[MOE_MAX_PARTS];
  for (unsigned k = 0; k < first->n; k++) {
    for (unsigned i = 0; i < j->n; i++) operand[i] = each[i]->in[k];
    in[k] = join(j, operand);
    if (in[k] == NULL) return NULL;
  }
  return moe_term_with(j->b->terms, first, in);
}

static moe_term_t *join_once(joiner_t *j, moe_term_t *const *each) {
  bool same = true;
  for (unsigned i = 1; i < j->n; i++) same = same && each[i] == each[0];
  if (same && !each[0]->rows) return each[0];
  switch (each[0]->kind) {
    case TERM_OP:
      return join_op(j, each);
    case TERM_TOKEN:
    case TERM_GATE: /* at the experts of all slots */
      return same ? each[0] : join_numbers(j, each);
    case TERM_ROUTE:
      return same ? number_of_token(j, each[0]) : join_numbers(j, each);
    default:
      return NULL;
  }
}

/* The term of all routes from those of each slot; NULL: they differ in more
 * than numbers. */
static moe_term_t *join(joiner_t *j, moe_term_t *const *each) {
  joined_t **slot = &j->memo[(each[0]->hash >> 9) % MEMOS];
  for (const joined_t *m = *slot; m != NULL; m = m->next)
    if (memcmp(m->each, each, j->n * sizeof(*each)) == 0) return m->term;
  if (j->steps == 0) return NULL;
  j->steps--;
  moe_term_t **kept = ARENA_ARRAY(j->b->arena, moe_term_t *, j->n);
  memcpy(kept, each, j->n * sizeof(*kept));
  moe_term_t *term = join_once(j, each);
  joined_t *entry = ARENA_NEW(j->b->arena, joined_t);
  *entry = (joined_t){kept, term, *slot};
  *slot = entry;
  return term;
}

moe_term_t *moe_join_slots(moe_builder_t *b, unsigned n,
                           moe_term_t *const *each, bool of_parts) {
  joiner_t j = {.b = b, .n = n, .steps = MAX_STEPS, .of_parts = of_parts};
  return n <= MOE_MAX_PARTS ? join(&j, each) : NULL;
}

/* ---- Layers -------------------------------------------------------------- */

bool moe_has_all_slots(const moe_sum_t *sum, const moe_source_t *source) {
  int64_t k;
  uint64_t seen = 0;
  for (unsigned i = 0; i < sum->n; i++) {
    if (sum->part[i].layout == NULL) continue;
    int at = moe_part_index(source, sum->part[i].layout->source);
    if (at >= 0) seen |= UINT64_C(1) << at;
  }
  return source->n_parts > 1 && expr_is_const(source->k, &k) &&
         k == source->n_parts && seen == (UINT64_C(1) << source->n_parts) - 1;
}

/* Layers of single slots that differ in the numbers of their routes at most. */
static bool are_alike(const moe_found_t *a, const moe_found_t *b) {
  size_t n = (size_t)a->source->experts;
  return a->n_terms == b->n_terms && a->active == NULL && b->active == NULL &&
         memcmp(a->structure, b->structure, n * sizeof *a->structure) == 0 &&
         memcmp(a->present, b->present, n * sizeof *a->present) == 0 &&
         memcmp(a->tag, b->tag, a->root->type.rank) == 0;
}

moe_found_t *moe_match_slotwise(moe_builder_t *b, ir_value_t *root,
                                const moe_sum_t *sum,
                                const moe_source_t *source) {
  const char *why = "all slots are computed in the same way";
  moe_found_t *found[MOE_MAX_PARTS] = {NULL};
  const unsigned n = source->n_parts;
  if (!moe_has_all_slots(sum, source)) {
    moe_fail(b, root->def, "every slot is in the sum");
    return NULL;
  }
  for (unsigned i = 0; i < sum->n; i++) {
    if (sum->part[i].over == NULL) continue;
    moe_fail(b, sum->part[i].at, "slots are added up");
    return NULL;
  }
  for (unsigned i = 0; i < n; i++) {
    b->terms->source = source->part[i];
    found[i] = moe_match_members(b, root, sum, source->part[i]);
    b->terms->source = source;
    if (found[i] == NULL) return NULL;
    if (are_alike(found[0], found[i])) continue;
    moe_fail(b, root->def, why);
    return NULL;
  }
  for (unsigned t = 0; t < found[0]->n_terms; t++) {
    moe_term_t *each[MOE_MAX_PARTS];
    for (unsigned i = 0; i < n; i++) each[i] = found[i]->term[t];
    found[0]->term[t] = moe_join_slots(b, n, each, true);
    if (found[0]->term[t] != NULL) continue;
    moe_fail(b, root->def, why);
    return NULL;
  }
  found[0]->source = source;
  return found[0];
}
