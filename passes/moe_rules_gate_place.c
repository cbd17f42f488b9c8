/* Facts of gates with places in experts' buffers: which places their elements
 * stand for, whether operands agree on them, and what joins those of slots. */
#include <string.h>

#include "passes/moe_rules.h"

static bool is_zero(moe_constant_t c) { return c.known && c.x == 0; }

bool moe_same_places(const moe_places_t *a, const moe_places_t *b) {
  if (a == b) return true;
  if (a == NULL || b == NULL) return false;
  unsigned n = a->n > b->n ? a->n : b->n;
  for (unsigned i = 0; i < n; i++) {
    const moe_rank_t *rank[2] = {a->of[a->n > 1 ? i : 0].rank,
                                 b->of[b->n > 1 ? i : 0].rank};
    if (rank[0] == NULL || rank[1] == NULL) return false;
    /* one number for all slots may have a part for each of them */
    if (a->n == 1 && b->n > 1)
      rank[0] = rank[0]->n_parts == n ? rank[0]->part[i] : rank[0];
    if (b->n == 1 && a->n > 1)
      rank[1] = rank[1]->n_parts == n ? rank[1]->part[i] : rank[1];
    if (!moe_same_rank(rank[0], rank[1])) return false;
  }
  return true;
}

/* The same numbers for all routes, whatever the gates are that have them. */
static bool same_numbers(const moe_places_t *a, const moe_places_t *b) {
  bool same = a->n == b->n, always = true;
  for (unsigned i = 0; same && i < a->n; i++) {
    same = a->of[i].value == b->of[i].value &&
           a->of[i].given == b->of[i].given &&
           a->of[i].unless == b->of[i].unless &&
           a->of[i].limited == b->of[i].limited;
    always = always && a->of[i].always && b->of[i].always;
  }
  return same || (always && moe_same_places(a, b));
}

/* The places of a router's parts together: those that are there, in order. */
static const moe_places_t *join_places(moe_facts_t *facts,
                                       const moe_source_t *whole,
                                       const ir_op_t *op) {
  moe_places_t *all = ARENA_NEW(facts->arena, moe_places_t);
  all->n = whole->n_parts;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_GATE || fact->places == NULL) return NULL;
    const moe_source_t *part[MOE_MAX_PARTS];
    unsigned n = moe_parts_of(fact->source, part);
    if (fact->places->n != n) return NULL;
    for (unsigned j = 0; j < n; j++) {
      int at = moe_part_index(whole, part[j]);
      if (at < 0) return NULL;
      if (fact->places->of[j].value == NULL) continue;
      if (all->of[at].value != NULL) return NULL; /* one number for each */
      all->of[at] = fact->places->of[j];
      if (*whole->capacity == NULL) *whole->capacity = *part[j]->capacity;
      if (*whole->capacity != *part[j]->capacity) return NULL;
    }
  }
  return all;
}

/* Without conditions that the other factor, of these tags, answers for. */
static const moe_places_t *settle_by(moe_facts_t *facts, const moe_fact_t *out,
                                     const moe_places_t *places,
                                     ir_value_t *factor, const uint8_t *tag) {
  moe_places_t *copy = NULL;
  for (unsigned j = 0; j < places->n; j++) {
    const moe_place_t *of = &places->of[j];
    const moe_condition_t given = {.source = out->source,
                                   .given = of->given,
                                   .tag = of->given_tag,
                                   .unless = of->unless};
    const moe_condition_t limit = {.source = out->source,
                                   .rank = of->rank,
                                   .capacity = *out->source->capacity};
    bool is_given =
        of->given != NULL && moe_vanishes(facts, &given, factor, tag);
    bool is_below = of->limited && moe_vanishes(facts, &limit, factor, tag);
    if (!is_given && !is_below) continue;
    if (copy == NULL) {
      copy = ARENA_NEW(facts->arena, moe_places_t);
      *copy = *places;
    }
    if (is_given) copy->of[j].given = NULL;
    if (is_below) copy->of[j].limited = false;
  }
  return copy != NULL ? copy : places;
}

static const moe_places_t *settle(moe_facts_t *facts, const ir_value_t *value,
                                  const moe_fact_t *out,
                                  const moe_places_t *places, unsigned i) {
  ir_value_t *factor = ir_in(value->def, i);
  uint8_t tag[IR_MAX_RANK];
  return moe_tags_broadcast(&value->type, out->tag, &factor->type, tag)
             ? settle_by(facts, out, places, factor, tag)
             : places;
}

/* A sum over slots of what is 0 for others than a slot's expert, and of what is
 * 0 for others than its place. */
const moe_fact_t *moe_gate_of_slots(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *side[2] = {moe_fact(facts, ir_in(op, 0)),
                               moe_fact(facts, ir_in(op, 1))};
  unsigned rank = value->type.rank, p = side[0]->places != NULL ? 0 : 1;
  const moe_source_t *source = side[0]->source;
  uint8_t tag[IR_MAX_RANK];
  for (unsigned d = 0; d < rank; d++) tag[d] = TAG_INNER;
  for (unsigned i = 0; i < 2; i++) {
    const ir_type_t *type = &ir_in(op, i)->type;
    unsigned summed = i == 0 ? type->rank - 1 : type->rank - 2;
    unsigned all = moe_tag_union(type->rank, side[i]->tag);
    if (side[i]->kind != FACT_GATE || side[i]->source != source ||
        side[i]->space != NULL || side[i]->expert >= 0 || type->rank != rank ||
        rank < 2 || side[i]->tag[summed] != TAG_SLOT ||
        type->dim[summed] != source->k || !is_zero(side[i]->off) ||
        (i == p) != (side[i]->places != NULL) ||
        (i == p) == ((all & TAG_EXPERT) != 0) ||
        (i == p && !is_zero(side[i]->other)))
      return NULL;
    for (unsigned d = 0; d < rank; d++) {
      bool kept =
          d != summed && (d + 2 < rank || d == (i == 0 ? rank - 2 : rank - 1));
      if (!kept || (d + 2 < rank && rule_is_one(type->dim[d]))) continue;
      if (tag[d] != TAG_INNER && tag[d] != side[i]->tag[d]) return NULL;
      tag[d] = side[i]->tag[d];
    }
  }
  if ((moe_tag_union(rank, tag) & TAG_SLOT) != 0) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, side[p]);
  memcpy(out->tag, tag, rank);
  moe_forget_on(out);
  out->rank = NULL;
  out->places = settle_by(facts, out, side[p]->places, ir_in(op, 1 - p),
                          side[1 - p]->tag);
  if (source->distinct && side[0]->on.known && side[1]->on.known)
    out->on = (moe_constant_t){true, side[0]->on.x * side[1]->on.x};
  return out;
}

void moe_gate_ranks(moe_facts_t *facts, ir_value_t *value,
                    const moe_constant_t *on, moe_fact_t *out) {
  const ir_op_t *op = value->def;
  bool joins = false;
  double zero;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_GATE) continue;
    if (fact->source == out->source->within) continue;
    joins = joins || fact->source != out->source;
    if (fact->rank != NULL && out->rank == NULL &&
        fact->source == out->source && fact->expert == out->expert) {
      out->given = fact->given;
      out->given_tag = fact->given_tag;
      out->unless = fact->unless;
      out->rank = moe_rank_of_result(facts, value, i, on, out);
      if (out->rank != NULL)
        out->rank = moe_typed_rank(facts, out->rank, value->type.dtype);
    }
    if (fact->places == NULL || joins) continue;
    if (out->places != NULL && !same_numbers(out->places, fact->places)) {
      out->places = NULL;
      return;
    }
    out->places = fact->places;
    bool product = op->code == OP_MUL || op->code == OP_AND;
    bool chosen = op->code == OP_SELECT && i == 1 &&
                  moe_fill_number(ir_in(op, 2), &zero) && zero == 0;
    if (product || chosen)
      out->places = settle(facts, value, out, out->places, chosen ? 0 : 1 - i);
  }
  if (joins) out->places = join_places(facts, out->source, op);
}
