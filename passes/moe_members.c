/* Sums over experts of rows that have one expert each.
 *
 * Of rows of routes, or of sorted rows, every expert may compute all, and masks
 * leave each row what its own expert gave: a sum of products with masks, or a
 * chain of choices. At the rows of an expert such a sum is what stands behind
 * that expert's mask. */
#include <string.h>

#include "passes/moe_match.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { MAX_NESTED = 4096, MAX_EXPERTS = 1 << 12 };

/* ---- Parts --------------------------------------------------------------- */

typedef struct members {
  moe_builder_t *b;
  const moe_layout_t *layout;
  const ir_type_t *type; /* of the sum */
  const uint8_t *tag;
  ir_value_t **part; /* by expert */
  ir_value_t *rest;  /* of the experts without a part */
  unsigned n;        /* parts */
} members_t;

static bool is_zero(const ir_value_t *value) {
  double zero;
  return moe_fill_number(value, &zero) && zero == 0;
}

/* A mask of one expert's rows in this layout, or a value behind one, which
 * broadcasts to the sum; NULL: it is none. */
static const moe_fact_t *member_fact(const members_t *m, ir_value_t *value) {
  const moe_layout_t *layout = m->layout;
  const moe_fact_t *fact = moe_fact(m->b->facts, value);
  uint8_t own[IR_MAX_RANK];
  if (fact->kind != FACT_GATE || fact->source != layout->source ||
      fact->space != layout->space || fact->expert < 0 ||
      fact->expert >= layout->source->experts || !fact->off.known ||
      fact->off.x != 0 || fact->places != NULL ||
      !moe_tags_broadcast(m->type, m->tag, &value->type, own))
    return NULL;
  for (unsigned d = 0; d < value->type.rank; d++)
    if (own[d] != fact->tag[d] &&
        (own[d] == TAG_GONE || !rule_is_one(value->type.dim[d])))
      return NULL;
  unsigned all = moe_tag_union(m->type->rank, m->tag);
  unsigned seen = moe_tag_union(value->type.rank, own);
  const unsigned rows = TAG_TOKEN | TAG_SLOT | TAG_ROW;
  return (all & rows) == (seen & rows) ? fact : NULL;
}

static bool set_part(members_t *m, int64_t expert, ir_value_t *value) {
  if (m->part[expert] != NULL || !rule_same_dims(&value->type, m->type))
    return false;
  m->part[expert] = value;
  m->n++;
  return true;
}

/* What a sum adds up; `chosen`: it is all that there is at rows of experts that
 * have no part yet. */
static bool find_parts(members_t *m, ir_value_t *value, bool chosen,
                       unsigned depth) {
  const ir_op_t *op = value->def;
  if (is_zero(value)) return true;
  const moe_fact_t *fact = member_fact(m, value);
  if (fact != NULL) return set_part(m, fact->expert, value);
  if (op == NULL || depth > MAX_NESTED) return false;
  if (op->code == OP_ADD) {
    for (unsigned i = 0; i < 2; i++) {
      ir_value_t *x = ir_in(op, i);
      if (is_zero(x)) continue;
      if (!rule_same_dims(&x->type, m->type) ||
          !find_parts(m, x, false, depth + 1))
        return false;
    }
    return true;
  }
  if (op->code == OP_SELECT) {
    fact = member_fact(m, ir_in(op, 0));
    if (fact != NULL && fact->on.known && fact->on.x != 0)
      return set_part(m, fact->expert, ir_in(op, 1)) &&
             find_parts(m, ir_in(op, 2), chosen, depth + 1);
  }
  const moe_source_t *source = m->layout->source;
  if (!chosen || m->n == 0 || source->some || source->by_mask ||
      !rule_same_dims(&value->type, m->type))
    return false;
  m->rest = value;
  return true;
}

/* The values of all experts as terms of their own rows. */
static moe_term_t *read_parts(members_t *m, ir_value_t *value) {
  moe_builder_t *b = m->b;
  const moe_layout_t *layout = m->layout;
  unsigned n = (unsigned)layout->source->experts, n_values = 0;
  moe_term_t **term = ARENA_ARRAY(b->arena, moe_term_t *, n);
  ir_value_t **read = ARENA_ARRAY(b->arena, ir_value_t *, n + 1);
  int64_t *expert = ARENA_ARRAY(b->arena, int64_t, n + 1);
  for (unsigned e = 0; e < n; e++) {
    if (m->part[e] == NULL) continue;
    expert[n_values] = e;
    read[n_values++] = m->part[e];
  }
  expert[n_values] = -1; /* of several, none of these */
  if (m->rest != NULL) read[n_values++] = m->rest;
  const moe_shared_t *shared = b->shared;
  moe_find_shared_rows(b, n_values, read, NULL, layout->source, expert);
  bool known = true;
  for (unsigned e = 0; e < n && known; e++) {
    term[e] = moe_build(
        b, m->part[e] != NULL ? m->part[e] : m->rest, m->tag,
        moe_layout(b, layout->kind, layout->source, layout->space, e));
    known = term[e] != NULL;
  }
  b->shared = shared;
  if (!known) return NULL;
  moe_term_t *all = moe_term_unify(b->terms, n, term);
  if (all == NULL) all = moe_term_choice(b->terms, n, term);
  return all != NULL ? all
                     : moe_fail(b, value->def, "experts give the same type");
}

/* ---- One slot ------------------------------------------------------------ */

/* The sum over experts of one slot's router. */
static moe_term_t *read_slot(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const moe_source_t *whole = layout->source;
  const moe_source_t *own =
      layout->expert < whole->n_parts ? whole->part[layout->expert] : NULL;
  moe_sum_t sum = {0};
  if (own == NULL) return NULL;
  moe_sum_parts(b, value, &sum);
  unsigned n = moe_sum_count(&sum, own);
  if (n == 0 || (n == 1 && sum.part[0].value == value)) return NULL;
  for (unsigned i = 0; i < sum.n; i++)
    if (sum.part[i].layout == NULL || sum.part[i].layout->source != own ||
        sum.part[i].over != NULL)
      return moe_fail(b, sum.part[i].at, "all parts of the sum are experts'");
  b->terms->source = own;
  moe_found_t *found = moe_match_sum(b, value, &sum, own);
  b->terms->source = whole;
  if (found == NULL) return NULL;
  bool fits = found->n_terms == 1 && found->active == NULL && !found->unique &&
              memcmp(found->tag, tag, value->type.rank) == 0;
  for (int64_t e = 0; fits && found->structure != NULL && e < own->experts; e++)
    fits = found->structure[e] == 0;
  if (!fits) return moe_fail(b, value->def, "experts are of one structure");
  b->inner = arena_grow_array(b->arena, b->inner, b->n_inner, b->n_inner + 1,
                              sizeof *b->inner);
  b->inner[b->n_inner++] = value;
  moe_term_t *term = moe_join_slots(b, 1, found->term, true);
  return term != NULL ? term
                      : moe_fail(b, value->def,
                                 "all slots are computed in the same way");
}

moe_term_t *moe_read_slots(moe_builder_t *b, ir_value_t *value,
                           const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis < 0) axis += value->type.rank;
  uint8_t own[IR_MAX_RANK];
  moe_term_t *each[MOE_MAX_PARTS];
  if (op->n_in > MOE_MAX_PARTS ||
      !expr_equals_const(layout->source->k, op->n_in))
    return moe_fail(b, op, "every slot has its place");
  memcpy(own, tag, value->type.rank);
  own[axis] = TAG_GONE;
  for (unsigned i = 0; i < op->n_in; i++) {
    if (!rule_is_one(ir_in(op, i)->type.dim[axis]))
      return moe_fail(b, op, "every slot has its place");
    each[i] = moe_build(b, ir_in(op, i), own,
                        moe_layout(b, LAYOUT_SLOT, layout->source, NULL, i));
    if (each[i] == NULL) return NULL;
  }
  moe_term_t *term = moe_join_slots(b, op->n_in, each, false);
  return term != NULL
             ? term
             : moe_fail(b, op, "all slots are computed in the same way");
}

/* ---- Reading ------------------------------------------------------------- */

/* A sum over what is 0 but at the chosen experts, with features. */
static bool sums_experts(moe_builder_t *b, const ir_op_t *op) {
  const ir_value_t *x = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 0));
  unsigned n;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  bool features = false;
  for (unsigned d = 0; d < x->type.rank; d++)
    features =
        features || (fact->tag[d] == TAG_INNER && !rule_is_one(x->type.dim[d]));
  return fact->kind == FACT_GATE && n == 1 &&
         fact->tag[axes[0]] == TAG_EXPERT && fact->places == NULL &&
         fact->off.known && fact->off.x == 0 && features;
}

const moe_fact_t *moe_member_slot(moe_builder_t *b, const ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = moe_fact(b->facts, (ir_value_t *)value);
  if (op == NULL) return &moe_no_fact;
  if (op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS)
    fact = moe_fact(b->facts, ir_in(op, 1));
  else if (op->code == OP_SELECT)
    fact = moe_fact(b->facts, ir_in(op, 0));
  bool stack = op->code == OP_REDUCE_SUM && sums_experts(b, op);
  if (stack) fact = moe_fact(b->facts, ir_in(op, 0));
  if (fact->source == NULL || (fact->expert < 0 && !stack)) return &moe_no_fact;
  for (unsigned i = 0; i < b->facts->n_joints; i++) {
    const moe_source_t *whole = b->facts->joint[i];
    int slot = moe_part_index(whole, fact->source);
    bool scatters = fact->kind != FACT_GATE && fact->linear != NULL;
    if (slot < 0 || (!scatters && !stack && !moe_is_member(b, value, whole)))
      continue;
    moe_fact_t *own = moe_fact_new(b->facts, FACT_EXPERT, whole);
    own->slot = slot;
    return own;
  }
  return &moe_no_fact;
}

bool moe_is_member(moe_builder_t *b, const ir_value_t *value,
                   const moe_source_t *source) {
  const ir_op_t *op = value->def;
  if (op != NULL && op->code == OP_REDUCE_SUM)
    return sums_experts(b, op) &&
           moe_part_index(source, moe_fact(b->facts, ir_in(op, 0))->source) >=
               0;
  const ir_value_t *mask =
      op != NULL && op->code == OP_SELECT ? op->in[0].value : value;
  bool features = false;
  for (unsigned i = 0; i < 2; i++, mask = value) {
    const moe_fact_t *fact = moe_fact(b->facts, (ir_value_t *)mask);
    bool part = moe_part_index(source, fact->source) >= 0;
    if (fact->kind != FACT_GATE || fact->expert < 0 || fact->places != NULL ||
        !fact->off.known || fact->off.x != 0 ||
        (fact->source != source && !part))
      continue;
    unsigned tags = moe_tag_union(mask->type.rank, fact->tag);
    if (!part && fact->space == NULL && (tags & TAG_SLOT) == 0) continue;
    unsigned shift = value->type.rank - mask->type.rank;
    for (unsigned d = 0; d < value->type.rank; d++)
      features =
          features || ((d < shift || fact->tag[d - shift] == TAG_INNER) &&
                       !rule_is_one(value->type.dim[d]));
  }
  return features;
}

moe_term_t *moe_read_members(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  if (layout->kind == LAYOUT_SLOT) return read_slot(b, value, tag, layout);
  if (layout->source->experts > MAX_EXPERTS) return NULL;
  members_t m = {.b = b, .layout = layout, .type = &value->type, .tag = tag};
  m.part = ARENA_ARRAY(b->arena, ir_value_t *, (size_t)layout->source->experts);
  if (!find_parts(&m, value, true, 0) || m.n == 0) return NULL;
  if (m.rest == NULL && m.n != (uint64_t)layout->source->experts)
    return moe_fail(b, op, "every expert has its part of the sum");
  return read_parts(&m, value);
}
