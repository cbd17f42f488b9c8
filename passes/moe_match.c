/* Sums over experts: their parts are read as terms, and become one. */
#include "passes/moe_match.h"

#include <string.h>

#include "passes/moe_buffer.h"
#include "passes/moe_levels.h"
#include "passes/moe_picks.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"
#include "passes/moe_table.h"

enum { MAX_SLOTS = 64, MAX_TERMS = 10000 };

static moe_found_t *new_found(moe_builder_t *b, ir_value_t *root,
                              const uint8_t *tag, const moe_source_t *source,
                              moe_term_t *term, moe_form_t form) {
  moe_found_t *found = ARENA_NEW(b->arena, moe_found_t);
  uint8_t *kept = ARENA_ARRAY(b->arena, uint8_t, root->type.rank + 1);
  memcpy(kept, tag, root->type.rank);
  moe_term_t **terms = ARENA_ARRAY(b->arena, moe_term_t *, 1);
  terms[0] = term;
  *found = (moe_found_t){.root = root,
                         .tag = kept,
                         .source = source,
                         .term = terms,
                         .n_terms = 1,
                         .form = form};
  return found;
}

moe_form_t moe_form_of_rows(const moe_builder_t *b) {
  if (b->taken != NULL) return MOE_FORM_CAPACITY;
  return b->grouped ? MOE_FORM_GROUPED : MOE_FORM_GATHERED;
}

/* Several numbers that each route has. */
static bool has_route_rows(const moe_term_t *term, unsigned *steps) {
  if (*steps == 0 || !term->rows) return false;
  --*steps;
  if (term->kind == TERM_ROUTE && term->value != NULL)
    for (unsigned d = 0; d < term->rank; d++)
      if (!rule_is_one(term->dim[d])) return true;
  for (unsigned i = 0; term->kind == TERM_OP && i < term->n; i++)
    if (has_route_rows(term->in[i], steps)) return true;
  return false;
}

/* A product of what routes have and experts' own weights: values of routes
 * that experts only scale are what a table is interpolated by. */
static bool multiplies_routes(const moe_term_t *term, unsigned *steps) {
  if (*steps == 0 || term->kind != TERM_OP || !term->banks || !term->rows)
    return false;
  --*steps;
  bool product = term->code == OP_MATMUL || term->code == OP_CONVOLVE;
  for (unsigned i = 0; product && i < 2; i++) {
    const moe_term_t *bank = term->in[1 - i];
    while (bank->kind == TERM_OP && bank->n == 1) bank = bank->in[0];
    if (bank->kind == TERM_BANK && has_route_rows(term->in[i], steps))
      return true;
  }
  for (unsigned i = 0; i < term->n; i++)
    if (multiplies_routes(term->in[i], steps)) return true;
  return false;
}

/* Experts have something of their own, and compute with the token, or with what
 * was made for its route. */
static bool are_experts(moe_builder_t *b, const ir_op_t *at, unsigned n,
                        moe_term_t *const *term) {
  bool differ = n > 1, compute = false;
  unsigned steps = 10000;
  for (unsigned i = 0; i < n; i++) {
    if (term[i] == NULL) return false;
    differ = differ || term[i]->banks;
    compute = compute || term[i]->tokens || multiplies_routes(term[i], &steps);
  }
  if (!differ) moe_fail(b, at, "experts differ from each other");
  if (!compute) moe_fail(b, at, "experts compute with the token");
  if (!differ || !compute) return false;
  if (!moe_mixes_rows(b, n, term)) return true;
  moe_fail(b, at, "what experts have of their own is not made of the tokens");
  return false;
}

static bool is_expert(moe_builder_t *b, const ir_op_t *at, moe_term_t *term) {
  return are_experts(b, at, 1, &term);
}

/* ---- What several experts read ------------------------------------------- */

static void find_shared(moe_builder_t *b, const moe_sum_t *sum,
                        const moe_source_t *source) {
  ir_value_t **value = ARENA_ARRAY(b->arena, ir_value_t *, 2 * sum->n + 1);
  unsigned *part = ARENA_ARRAY(b->arena, unsigned, 2 * sum->n + 1), n = 0;
  int64_t *expert = ARENA_ARRAY(b->arena, int64_t, sum->n + 1);
  for (unsigned i = 0; i < sum->n; i++) {
    const moe_layout_t *layout = sum->part[i].layout;
    if (layout == NULL || layout->source != source || layout->expert < 0)
      continue;
    layout = moe_rows_of(b, layout);
    expert[i] = layout->expert;
    part[n] = i;
    value[n++] = sum->part[i].value;
    if (layout->kind != LAYOUT_ROWS) continue;
    part[n] = i;
    value[n++] = ir_in(layout->space, 0);
  }
  moe_find_shared_rows(b, n, value, part,
                       rule_is_one(source->k) ? source : NULL, expert);
}

/* ---- Experts one by one -------------------------------------------------- */

typedef struct members {
  moe_term_t **term, **active;
  bool *present;
  bool partly;       /* some rows of a mask may be missing */
  moe_term_t **kind; /* what experts of each structure compute */
  unsigned n_kinds;
  int64_t *structure; /* of each expert, -1: none */
} members_t;

/* Which routes of an expert are in its rows: all, or where the mask is true. */
static bool read_mask(moe_builder_t *b, const moe_layout_t *layout,
                      members_t *m) {
  ir_value_t *mask = ir_in(layout->space, 0);
  const moe_fact_t *gate = moe_fact(b->facts, mask);
  if (gate->on.known) {
    if (gate->on.x != 0) return true;
    moe_fail(b, layout->space, "the expert's rows are those of its tokens");
    return false;
  }
  m->partly = true;
  m->active[layout->expert] = moe_build(
      b, mask, gate->tag,
      moe_layout(b, LAYOUT_DENSE, layout->source, NULL, layout->expert));
  return m->active[layout->expert] != NULL;
}

static bool read_member(moe_builder_t *b, const moe_part_t *part,
                        members_t *m) {
  const moe_layout_t *layout = part->layout;
  if (m->present[layout->expert]) {
    moe_fail(b, part->at, "an expert comes once");
    return false;
  }
  m->present[layout->expert] = true;
  m->term[layout->expert] = moe_build(b, part->value, part->tag, layout);
  if (m->term[layout->expert] == NULL) return false;
  layout = moe_rows_of(b, layout);
  return layout->kind != LAYOUT_ROWS || read_mask(b, layout, m);
}

/* Something else is left for tokens that no expert writes: with all experts
 * there, and all of their tokens, there are none. */
static bool read_over(moe_builder_t *b, const moe_part_t *part,
                      moe_found_t *found) {
  for (int64_t e = 0; e < found->source->experts; e++)
    if (!found->present[e]) {
      moe_fail(b, part->at, "every expert writes over what was there");
      return false;
    }
  const moe_source_t *source = found->source;
  if (found->active != NULL || source->some || source->by_mask)
    found->over = part->over;
  return true;
}

moe_form_t moe_form_of(const moe_layout_t *layout) {
  switch (layout->kind) {
    case LAYOUT_ROWS:
    case LAYOUT_PIECE:
      return MOE_FORM_LOOP;
    case LAYOUT_SORTED:
    case LAYOUT_GROUP:
      return MOE_FORM_GROUPED;
    case LAYOUT_BUFFER:
      return MOE_FORM_CHOICE;
    default:
      return MOE_FORM_DENSE;
  }
}

/* Rows of a mask become tokens; other layouts have them. */
static void root_tags(const moe_part_t *part, const ir_type_t *type,
                      uint8_t *tag) {
  const unsigned n = type->rank + 1 - part->value->type.rank;
  for (unsigned d = 0; d < type->rank; d++) {
    bool rows = part->layout->kind != LAYOUT_DENSE;
    if (rows)
      tag[d] = d < n ? TAG_TOKEN : TAG_INNER;
    else
      tag[d] = part->tag[d] == TAG_TOKEN ? TAG_TOKEN : TAG_INNER;
  }
}

/* Whether a part is about the experts that a token has, not about its slots:
 * one that several of these name is in it once. */
static bool is_by_set(moe_builder_t *b, const moe_part_t *part) {
  const moe_layout_t *layout = part->layout;
  if (layout->kind == LAYOUT_DENSE || layout->kind == LAYOUT_STACK) return true;
  if (layout->kind != LAYOUT_ROWS) return false;
  const ir_value_t *mask = ir_in(layout->space, 0);
  const moe_fact_t *gate = moe_fact(b->facts, ir_in(layout->space, 0));
  return (moe_tag_union(mask->type.rank, gate->tag) & TAG_SLOT) == 0;
}

/* One term for the experts of each structure: theirs, unified. */
static void unify_structures(moe_builder_t *b, size_t n, members_t *m) {
  unsigned *first = ARENA_ARRAY(b->arena, unsigned, m->n_kinds + 2);
  moe_term_t **of = ARENA_ARRAY(b->arena, moe_term_t *, n);
  for (size_t e = 0; e < n; e++)
    if (m->structure[e] >= 0) first[m->structure[e] + 2]++;
  for (unsigned k = 0; k < m->n_kinds; k++) first[k + 2] += first[k + 1];
  for (size_t e = 0; e < n; e++)
    if (m->structure[e] >= 0) of[first[m->structure[e] + 1]++] = m->term[e];
  for (unsigned k = 0; k < m->n_kinds; k++)
    m->kind[k] =
        moe_term_unify(b->terms, first[k + 1] - first[k], of + first[k]);
}

/* Sorts experts by what they compute: one term for all of a kind. */
static void find_structures(moe_builder_t *b, size_t n, members_t *m) {
  m->structure = ARENA_ARRAY(b->arena, int64_t, n);
  m->kind = ARENA_ARRAY(b->arena, moe_term_t *, n);
  for (size_t e = 0; e < n; e++) {
    m->structure[e] = -1;
    if (m->term[e] == NULL || m->term[e]->zero) continue;
    unsigned k = 0;
    for (; k < m->n_kinds; k++) {
      if (m->kind[k]->shape != m->term[e]->shape) continue;
      moe_term_t *pair[2] = {m->kind[k], m->term[e]};
      if (moe_term_unify(b->terms, 2, pair) != NULL) break;
    }
    if (k == m->n_kinds) m->kind[m->n_kinds++] = m->term[e];
    m->structure[e] = k;
  }
  unify_structures(b, n, m);
}

/* Whether an expert computes with a sum that others have added to, and so runs
 * after these. */
static bool runs_after(moe_builder_t *b, const moe_term_t *term,
                       const moe_source_t *source, unsigned *steps) {
  if (*steps == 0) return false;
  --*steps;
  const ir_value_t *value = term->value;
  if (term->kind == TERM_TOKEN && value != NULL && value->def != NULL &&
      moe_is_sum(value->def) &&
      (source->joined || value->number > source->index->number)) {
    moe_sum_t sum = {0};
    moe_sum_parts(b, term->value, &sum);
    if (moe_sum_count(&sum, source) > 0) return true;
  }
  for (unsigned i = 0; term->kind == TERM_OP && i < term->n; i++)
    if (runs_after(b, term->in[i], source, steps)) return true;
  return false;
}

moe_found_t *moe_match_members(moe_builder_t *b, ir_value_t *root,
                               const moe_sum_t *sum,
                               const moe_source_t *source) {
  size_t n = (size_t)source->experts;
  members_t m = {.term = ARENA_ARRAY(b->arena, moe_term_t *, n),
                 .active = ARENA_ARRAY(b->arena, moe_term_t *, n),
                 .present = ARENA_ARRAY(b->arena, bool, n)};
  const moe_part_t *first = NULL;
  find_shared(b, sum, source);
  for (unsigned i = 0; i < sum->n; i++) {
    const moe_part_t *part = &sum->part[i];
    if (part->layout == NULL || part->layout->source != source) continue;
    if (first == NULL) first = part;
    if (part->layout->expert < 0 || part->layout->expert >= source->experts ||
        (!part->left &&
         (part->layout->kind != first->layout->kind ||
          is_by_set(b, part) != is_by_set(b, first) ||
          memcmp(part->tag, first->tag, part->value->type.rank) != 0))) {
      moe_fail(b, part->at, "all experts are written the same way");
      return NULL;
    }
    if (!read_member(b, part, &m)) return NULL;
  }
  for (size_t e = 0; source->chooses && e < n; e++)
    if (!m.present[e]) {
      moe_fail(b, root->def, "all experts that chose tokens are in the sum");
      return NULL;
    }
  find_structures(b, n, &m);
  if (!are_experts(b, root->def, m.n_kinds, m.kind)) return NULL;
  for (unsigned k = 0; k < m.n_kinds; k++) {
    unsigned steps = MAX_TERMS;
    if (!runs_after(b, m.kind[k], source, &steps)) continue;
    moe_fail(b, root->def, "experts do not compute with others' results");
    return NULL;
  }
  moe_term_t *active = NULL;
  if (m.partly) {
    bool all = true; /* a mask of one expert says nothing of others */
    for (size_t e = 0; e < n; e++)
      all = all && (!m.present[e] || m.active[e] != NULL);
    active = all ? moe_term_unify(b->terms, (unsigned)n, m.active) : NULL;
    if (active == NULL || active->banks) {
      moe_fail(b, root->def, "masks of all experts are made the same way");
      return NULL;
    }
  }
  uint8_t tag[IR_MAX_RANK];
  root_tags(first, &root->type, tag);
  moe_found_t *found =
      new_found(b, root, tag, source, m.kind[0], moe_form_of(first->layout));
  found->term = m.kind;
  found->n_terms = m.n_kinds;
  found->structure = m.structure;
  found->active = active;
  found->unique = !source->distinct && is_by_set(b, first);
  found->present = m.present;
  return found;
}

/* ---- Sums ---------------------------------------------------------------- */

/* Experts that differ in the middle of what they compute: one term for each
 * structure from there on. */
static moe_found_t *with_structures(moe_builder_t *b, moe_found_t *found) {
  moe_term_t *term = found->term[0];
  size_t n = (size_t)found->source->experts;
  if (!term->chooses) return found;
  members_t m = {.term = ARENA_ARRAY(b->arena, moe_term_t *, n)};
  for (unsigned e = 0; e < n; e++) {
    m.term[e] = moe_term_chosen(b->terms, term, e);
    if (m.term[e] == NULL) {
      moe_fail(b, found->root->def, "experts are of one structure");
      return NULL;
    }
  }
  find_structures(b, n, &m);
  if (!are_experts(b, found->root->def, m.n_kinds, m.kind)) return NULL;
  found->term = m.kind;
  found->n_terms = m.n_kinds;
  found->structure = m.structure;
  return found;
}

moe_found_t *moe_new_found(moe_builder_t *b, ir_value_t *root,
                           const uint8_t *tag, const moe_source_t *source,
                           moe_term_t *term, moe_form_t form,
                           moe_term_t *active) {
  if (!is_expert(b, root->def, term)) return NULL;
  moe_found_t *found =
      with_structures(b, new_found(b, root, tag, source, term, form));
  if (found != NULL) found->active = active;
  return found;
}

/* All experts in one part: a stack of them, or sorted rows. */
static moe_found_t *match_whole(moe_builder_t *b, ir_value_t *root,
                                const moe_part_t *part,
                                const moe_source_t *source) {
  moe_term_t *term = moe_build(b, part->value, part->tag, part->layout);
  if (!is_expert(b, part->at, term)) return NULL;
  uint8_t tag[IR_MAX_RANK];
  const ir_type_t *type = &root->type;
  if (part->layout->kind == LAYOUT_SORTED) {
    const unsigned n_tokens = type->rank + 1 - part->value->type.rank;
    for (unsigned d = 0; d < type->rank; d++)
      tag[d] = d < n_tokens ? TAG_TOKEN : TAG_INNER;
  } else { /* without the axis of the experts */
    bool keeps = part->value->type.rank == type->rank;
    for (unsigned d = 0, to = 0; d < part->value->type.rank; d++) {
      bool experts = part->tag[d] == TAG_EXPERT;
      if (experts && !keeps) continue;
      tag[to++] = experts ? TAG_INNER : part->tag[d];
    }
  }
  moe_found_t *found = with_structures(
      b, new_found(b, root, tag, source, term, moe_form_of(part->layout)));
  if (found != NULL) found->unique = !source->distinct && is_by_set(b, part);
  return found;
}

/* One part for each slot, whose terms differ in single numbers at most. */
static moe_found_t *match_each_slot(moe_builder_t *b, ir_value_t *root,
                                    const moe_sum_t *sum,
                                    const moe_source_t *source) {
  const moe_part_t *first = NULL;
  int64_t k, n = 0;
  if (!expr_is_const(source->k, &k) || k > MAX_SLOTS) {
    moe_fail(b, root->def, "every slot is in the sum");
    return NULL;
  }
  moe_term_t *each[MAX_SLOTS] = {NULL};
  for (unsigned i = 0; i < sum->n; i++) {
    const moe_part_t *part = &sum->part[i];
    if (part->layout == NULL || part->layout->source != source) continue;
    if (first == NULL) first = part;
    int64_t slot = part->layout->expert;
    if (slot < 0 || slot >= k || each[slot] != NULL ||
        memcmp(part->tag, first->tag, root->type.rank) != 0) {
      moe_fail(b, part->at, "all slots are computed in the same way");
      return NULL;
    }
    each[slot] = moe_build(b, part->value, part->tag, part->layout);
    if (each[slot] == NULL) return NULL;
    n++;
  }
  if (k != n) {
    moe_fail(b, root->def, "every slot is in the sum");
    return NULL;
  }
  bool same = true;
  for (int64_t i = 1; i < k; i++) same = same && each[i] == each[0];
  moe_term_t *term =
      same ? each[0] : moe_join_slots(b, (unsigned)k, each, false);
  if (term == NULL)
    moe_fail(b, root->def, "all slots are computed in the same way");
  if (!is_expert(b, root->def, term)) return NULL;
  return with_structures(
      b, new_found(b, root, first->tag, source, term, moe_form_of_rows(b)));
}

/* Where all experts but one write over what a product gave, that is the last
 * one's: the same parts, and it; NULL: something else is written over, or what
 * others read, too. */
static const moe_sum_t *with_default(moe_builder_t *b, const ir_value_t *root,
                                     const moe_sum_t *sum,
                                     const moe_source_t *source) {
  bool *seen = ARENA_ARRAY(b->arena, bool, (size_t)source->experts);
  ir_value_t *over = sum->n > 0 ? sum->part[0].over : NULL;
  int64_t missing = 0;
  if (over == NULL || source->some || source->by_mask || source->chooses ||
      !rule_is_one(source->k) || (int64_t)sum->n != source->experts - 1 ||
      !rule_same_dims(&over->type, &root->type) || !moe_is_product(over) ||
      over->uses->next != NULL)
    return NULL;
  for (unsigned i = 0; i < sum->n; i++) {
    const moe_layout_t *layout = sum->part[i].layout;
    if (layout == NULL || layout->source != source || layout->expert < 0 ||
        sum->part[i].over != over || seen[layout->expert])
      return NULL;
    seen[layout->expert] = true;
  }
  while (seen[missing]) missing++;
  moe_sum_t *all = ARENA_NEW(b->arena, moe_sum_t);
  all->part = ARENA_ARRAY(b->arena, moe_part_t, sum->n + 1);
  for (all->n = 0; all->n < sum->n; all->n++) {
    all->part[all->n] = sum->part[all->n];
    all->part[all->n].over = NULL;
  }
  moe_part_t *part = &all->part[all->n++];
  *part = sum->part[0];
  part->value = over;
  part->over = NULL;
  part->left = true;
  part->layout = moe_layout(b, LAYOUT_DENSE, source, NULL, missing);
  root_tags(&sum->part[0], &root->type, part->tag);
  return all;
}

static moe_found_t *match_sum(moe_builder_t *b, ir_value_t *root,
                              const moe_sum_t *sum,
                              const moe_source_t *source) {
  const moe_part_t *first = NULL;
  unsigned n = 0, n_rest = 0;
  ir_value_t **rest = ARENA_ARRAY(b->arena, ir_value_t *, sum->n + 1);
  for (unsigned i = 0; i < sum->n; i++) {
    const moe_part_t *part = &sum->part[i];
    if (moe_sum_belongs(part, source)) {
      if (n++ == 0) first = part;
      if (part->over != first->over || (part->layout->source == source) !=
                                           (first->layout->source == source)) {
        moe_fail(b, part->at, "all experts are written the same way");
        return NULL;
      }
    } else if (part->layout == NULL &&
               rule_same_dims(&part->value->type, &root->type)) {
      rest[n_rest++] = part->value;
    } else {
      moe_fail(b, part->at, "all parts of the sum have its shape");
      return NULL;
    }
  }
  if (first == NULL) return NULL;
  bool whole = n == 1 && (first->layout->kind == LAYOUT_STACK ||
                          first->layout->kind == LAYOUT_SORTED);
  moe_found_t *found = whole ? match_whole(b, root, first, source)
                       : first->layout->kind == LAYOUT_ROUTES
                           ? moe_match_slot_buffers(b, root, sum, source)
                       : first->layout->source != source
                           ? moe_match_slotwise(b, root, sum, source)
                       : first->layout->kind == LAYOUT_SLOT
                           ? match_each_slot(b, root, sum, source)
                           : moe_match_members(b, root, sum, source);
  if (found == NULL) return NULL;
  if (first->over != NULL && !read_over(b, first, found)) return NULL;
  for (int64_t e = 0;
       n_rest > 0 && found->present != NULL && e < source->experts; e++)
    if (!found->present[e]) { /* the rest may be what is missing */
      moe_fail(b, rest[0]->def, "the rest of the sum is no expert's");
      return NULL;
    }
  found->rest = rest;
  found->n_rest = n_rest;
  return found;
}

moe_found_t *moe_match_sum(moe_builder_t *b, ir_value_t *root,
                           const moe_sum_t *sum, const moe_source_t *source) {
  const moe_sum_t *all = with_default(b, root, sum, source);
  if (all == NULL) return match_sum(b, root, sum, source);
  moe_found_t *found = match_sum(b, root, all, source);
  if (found == NULL || found->active == NULL) return found;
  moe_fail(b, root->def, "every expert writes over what was there");
  return NULL;
}

/* ---- Slots --------------------------------------------------------------- */

bool moe_route_tags(moe_builder_t *b, const ir_type_t *type,
                    const moe_source_t *source, unsigned slot, uint8_t *tag) {
  const expr_t *tokens = expr_const(b->pool, 1);
  unsigned d = slot == 0 ? 1 : 0, end = slot == 0 ? type->rank : slot;
  for (unsigned i = 0; i < type->rank; i++) tag[i] = TAG_INNER;
  for (; d < end && (slot > 0 || tokens != source->tokens); d++) {
    tokens = expr_mul(b->pool, tokens, type->dim[d]);
    tag[d] = TAG_TOKEN;
  }
  return tokens == source->tokens && d > 0 &&
         moe_tag_find(type->rank, tag, TAG_TOKEN) >= 0;
}

moe_found_t *moe_match_slots(moe_builder_t *b, const ir_op_t *op,
                             const moe_source_t *source) {
  ir_value_t *value = ir_in(op, 0), *root = (ir_value_t *)&op->out[0];
  unsigned n;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  uint8_t tag[IR_MAX_RANK], root_tag[IR_MAX_RANK];
  if (n != 1 || value->type.dim[axes[0]] != source->k ||
      !moe_route_tags(b, &value->type, source, (unsigned)axes[0], tag) ||
      !moe_is_routed(b, value, source))
    return NULL;
  tag[axes[0]] = TAG_SLOT;
  moe_term_t *term =
      moe_build(b, value, tag, moe_layout(b, LAYOUT_ROUTES, source, NULL, -1));
  bool keeps = value->type.rank == root->type.rank;
  for (unsigned d = 0, to = 0; d < value->type.rank; d++) {
    bool slots = (int64_t)d == axes[0];
    if (!slots || keeps) root_tag[to++] = slots ? TAG_INNER : tag[d];
  }
  return moe_new_found(b, root, root_tag, source, term, moe_form_of_rows(b),
                       NULL);
}
