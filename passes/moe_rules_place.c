/* Facts of places in experts' buffers: their numbers among all places, and
 * one-hot vectors of ranks. */
#include <math.h>
#include <string.h>

#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"

static bool is_exact(const moe_rank_t *rank, const expr_t *capacity) {
  int64_t n;
  return isinf(rank->exact) ||
         (expr_is_const(capacity, &n) && (double)n <= rank->exact);
}

/* Places of all experts; NULL: more than a size can be. */
static const expr_t *all_places(moe_facts_t *facts, const moe_source_t *source,
                                const expr_t *capacity) {
  return moe_times(facts->pool, expr_const(facts->pool, source->experts),
                   capacity);
}

/* ---- Numbers of places --------------------------------------------------- */

/* expert * capacity, with the tags of its dimensions; NULL: it is none. */
static const moe_fact_t *first_place(moe_facts_t *facts, ir_value_t *value,
                                     const expr_t **out_capacity) {
  const ir_op_t *op = value->def;
  while (op != NULL && op->code == OP_CAST) op = ir_in(op, 0)->def;
  if (op == NULL || op->code != OP_MUL) return NULL;
  for (unsigned i = 0; i < 2; i++) {
    const moe_fact_t *expert = moe_fact(facts, ir_in(op, i));
    *out_capacity = moe_limit_number(facts, ir_in(op, 1 - i));
    if (moe_is_expert(expert) && expert->space == NULL &&
        *out_capacity != NULL &&
        rule_same_dims(&ir_in(op, i)->type, &value->type))
      return expert;
  }
  return NULL;
}

/* A rank, or one that is kept below the capacity: *out_limit is its most. */
static bool is_whole_rank(const moe_fact_t *fact) {
  return fact->kind == FACT_RANK && fact->rank->most == NULL;
}

static const moe_fact_t *limited_rank(moe_facts_t *facts, ir_value_t **value,
                                      const expr_t **out_limit) {
  const ir_op_t *op = (*value)->def;
  *out_limit = NULL;
  while (op != NULL && op->code == OP_CAST &&
         !is_whole_rank(moe_fact(facts, *value))) {
    *value = ir_in(op, 0);
    op = (*value)->def;
  }
  const moe_fact_t *fact = moe_fact(facts, *value);
  double least;
  if (op != NULL && op->code == OP_MAX &&
      moe_fill_number(ir_in(op, 1), &least) && least <= 0) {
    *value = ir_in(op, 0); /* no rank is negative */
    op = (*value)->def;
  }
  if (is_whole_rank(fact)) return fact;
  if (op == NULL || op->code != OP_MIN) return &moe_no_fact;
  for (unsigned i = 0; i < 2; i++) {
    fact = moe_fact(facts, ir_in(op, i));
    *out_limit = moe_limit_number(facts, ir_in(op, 1 - i));
    if (!is_whole_rank(fact) || *out_limit == NULL ||
        !rule_same_dims(&ir_in(op, i)->type, &(*value)->type))
      continue;
    *value = ir_in(op, i);
    return fact;
  }
  return &moe_no_fact;
}

/* expert * capacity + rank. */
static const moe_fact_t *buffer_number(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op->code != OP_ADD || !isinf(moe_exact_below(value->type.dtype)))
    return NULL;
  for (unsigned i = 0; i < 2; i++) {
    const expr_t *capacity, *limit;
    ir_value_t *number = ir_in(op, i);
    const moe_fact_t *expert = first_place(facts, ir_in(op, 1 - i), &capacity);
    if (expert == NULL) continue;
    const moe_fact_t *rank = limited_rank(facts, &number, &limit);
    const moe_source_t *source = rank->source;
    const expr_t *last =
        moe_plus(facts->pool, capacity, expr_const(facts->pool, -1));
    if (rank->kind != FACT_RANK || rank->rank->offset != 0 ||
        rank->given != NULL || rank->rank->gaps ||
        !rule_same_dims(&number->type, &value->type) ||
        !rule_same_dims(&ir_in(op, 1 - i)->type, &value->type) ||
        moe_source_of(expert) != source ||
        memcmp(expert->tag, rank->tag, value->type.rank) != 0 ||
        (limit != NULL && limit != last) || !is_exact(rank->rank, capacity) ||
        (*source->capacity != NULL && *source->capacity != capacity) ||
        all_places(facts, source, capacity) == NULL)
      continue;
    *source->capacity = capacity;
    moe_fact_t *out = moe_fact_copy(facts, rank);
    moe_places_t *places = ARENA_NEW(facts->arena, moe_places_t);
    places->n = 1;
    places->of[0] = (moe_place_t){
        .rank = rank->rank, .value = number, .tag = rank->tag, .always = true};
    out->kind = FACT_BUFFER;
    out->places = places;
    out->limited = limit != NULL;
    return out;
  }
  return NULL;
}

/* The number of all places, or one behind them. */
static bool is_behind(moe_facts_t *facts, const ir_value_t *number,
                      const moe_source_t *source) {
  const expr_t *all = all_places(facts, source, *source->capacity);
  const expr_t *known = moe_limit_number(facts, number);
  int64_t places, n;
  if (known == NULL || all == NULL) return false;
  return known == all || (expr_is_const(known, &n) &&
                          expr_is_const(all, &places) && n >= places);
}

/* A place in the buffers where there is one, another number elsewhere. */
static const moe_fact_t *limited_buffer(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  ir_value_t *kept = NULL;
  const moe_fact_t *place = &moe_no_fact;
  bool outside = false, holds = true;
  if (op->code == OP_SELECT) {
    kept = ir_in(op, 0);
    holds = moe_fact(facts, ir_in(op, 1))->kind == FACT_BUFFER;
    ir_value_t *other = ir_in(op, holds ? 2 : 1);
    place = moe_fact(facts, ir_in(op, holds ? 1 : 2));
    if (place->kind != FACT_BUFFER || moe_limit_number(facts, other) == NULL)
      return NULL;
    outside = is_behind(facts, other, place->source);
  } else if (op->code == OP_MUL) {
    unsigned i = moe_fact(facts, ir_in(op, 0))->kind == FACT_BUFFER ? 0 : 1;
    place = moe_fact(facts, ir_in(op, i));
    kept = ir_in(op, 1 - i);
    if (!moe_is_indicator(kept)) return NULL;
  }
  if (place->kind != FACT_BUFFER || place->given != NULL || place->limited ||
      !rule_same_dims(&kept->type, &value->type))
    return NULL;
  const moe_condition_t condition = {.source = place->source,
                                     .rank = place->rank,
                                     .capacity = *place->source->capacity};
  moe_fact_t *out = moe_fact_copy(facts, place);
  if (!moe_limits_rank(facts, &condition, kept, place->tag, holds,
                       &out->limited) ||
      (!holds && !out->limited))
    return NULL;
  if (holds) {
    out->given = kept;
    out->given_tag = place->tag;
  }
  out->behind = outside;
  return out;
}

const moe_fact_t *moe_rule_buffer(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, 0));
  if (op->code == OP_CAST)
    return fact->kind == FACT_BUFFER &&
                   isinf(moe_exact_below(value->type.dtype))
               ? fact
               : NULL;
  const moe_fact_t *number = buffer_number(facts, value);
  return number != NULL ? number : limited_buffer(facts, value);
}

/* ---- One-hot ------------------------------------------------------------- */

/* The dimension of a tensor along which it counts 0, 1, ..; -1: none. */
static int counting_axis(const ir_value_t *value) {
  enum { MAX_VIEWS = 6 };
  int axis = -1;
  for (unsigned d = 0; d < value->type.rank; d++) {
    if (rule_is_one(value->type.dim[d])) continue;
    if (axis >= 0) return -1;
    axis = (int)d;
  }
  if (axis < 0) return -1;
  int64_t n;
  if (expr_is_const(value->type.dim[axis], &n)) {
    const ir_value_t *from = value;
    while (from->def != NULL && from->def->code == OP_CAST)
      from = ir_in(from->def, 0);
    return moe_counting_axis(from, n) == axis ? axis : -1;
  }
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    if (value->def->code == OP_IOTA) return axis;
    if (value->def->code != OP_RESHAPE && value->def->code != OP_CAST)
      return -1;
    value = ir_in(value->def, 0);
  }
  return -1;
}

int moe_places_axis(const moe_source_t *source, const ir_value_t *value) {
  int axis = counting_axis(value);
  return axis >= 0 && value->type.dim[axis] == *source->capacity ? axis : -1;
}

/* Whether a rank says below the capacity which place a route has; *out_limited:
 * and beyond it the last one instead of none. */
static bool keeps_below(moe_facts_t *facts, const moe_rank_t *rank,
                        const expr_t *capacity, bool *out_limited) {
  *out_limited = false;
  if (rank->most == NULL) return true;
  int64_t n, most;
  if (rank->most == capacity || (expr_is_const(capacity, &n) &&
                                 expr_is_const(rank->most, &most) && most >= n))
    return true;
  *out_limited = rank->most ==
                 moe_plus(facts->pool, capacity, expr_const(facts->pool, -1));
  return *out_limited;
}

static const moe_rank_t *without_most(moe_facts_t *facts,
                                      const moe_rank_t *rank) {
  if (rank->most == NULL) return rank;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->most = NULL;
  return copy;
}

/* Where a number is the route's place. A condition that is the limit itself,
 * however it was written, is known as such. */
static moe_place_t place_of(moe_facts_t *facts, const moe_fact_t *fact,
                            ir_value_t *number, bool limited) {
  moe_place_t place = {.rank = without_most(facts, fact->rank),
                       .value = number,
                       .tag = fact->tag,
                       .given = fact->given,
                       .given_tag = fact->given_tag,
                       .unless = fact->unless,
                       .limited = limited,
                       .always = fact->given == NULL && !limited};
  const moe_condition_t limit = {.source = fact->source,
                                 .rank = place.rank,
                                 .capacity = *fact->source->capacity};
  bool exact;
  if (place.given != NULL &&
      moe_limits_rank(facts, &limit, place.given, place.given_tag,
                      !place.unless, &exact) &&
      exact) {
    place.given = NULL;
    place.limited = true;
  }
  return place;
}

const moe_fact_t *moe_rule_place(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op->code != OP_EQ) return NULL;
  unsigned side = moe_fact(facts, ir_in(op, 0))->rank != NULL ? 0 : 1;
  ir_value_t *number = ir_in(op, side), *count = ir_in(op, 1 - side);
  const moe_fact_t *fact = moe_fact(facts, number);
  bool is_gate = fact->kind == FACT_GATE && fact->places == NULL;
  if (fact->rank == NULL || (fact->kind != FACT_RANK && !is_gate) ||
      fact->expert >= 0 || fact->rank->offset < 0)
    return NULL;
  int axis = counting_axis(count);
  if (axis < 0) return NULL;
  unsigned d = (unsigned)axis + value->type.rank - count->type.rank;
  unsigned shift = value->type.rank - number->type.rank;
  const moe_source_t *source = fact->source;
  const expr_t *capacity = count->type.dim[axis];
  bool limited;
  if (!keeps_below(facts, fact->rank, capacity, &limited) ||
      (d >= shift && !rule_is_one(number->type.dim[d - shift])) ||
      (*source->capacity != NULL && *source->capacity != capacity) ||
      !is_exact(fact->rank, capacity) ||
      all_places(facts, source, capacity) == NULL)
    return NULL;
  *source->capacity = capacity;
  moe_fact_t *out = moe_fact_new(facts, FACT_GATE, source);
  for (unsigned i = 0; i < value->type.rank; i++)
    out->tag[i] = i < shift || rule_is_one(number->type.dim[i - shift])
                      ? TAG_INNER
                      : fact->tag[i - shift];
  out->tag[d] = TAG_PLACE;
  moe_places_t *places = ARENA_NEW(facts->arena, moe_places_t);
  places->n = 1;
  places->of[0] = place_of(facts, fact, number, limited);
  out->places = places;
  out->on = (moe_constant_t){true, 1};
  out->other = out->off = (moe_constant_t){true, 0};
  if (is_gate) out->off.known = fact->off.known && fact->off.x < 0;
  return out;
}

/* ---- Sorting by counting ------------------------------------------------- */

/* Whether it counts all routes of an expert from 0, each once. */
static bool counts_routes(const moe_fact_t *fact) {
  const moe_rank_t *rank = fact->rank;
  return fact->kind == FACT_RANK && fact->given == NULL && fact->expert < 0 &&
         rank->source == fact->source && rank->offset == 0 && !rank->gaps &&
         rank->n_base == 0 && rank->n_parts == 0 && rank->most == NULL &&
         isinf(rank->exact) && rank->counted == fact->source->tokens &&
         (rank->order != ORDER_TOKENS || fact->source->distinct);
}

/* The routes of all experts before its own, for each route. */
static const moe_fact_t *first_of_own(moe_facts_t *facts,
                                      const ir_value_t *value) {
  const ir_op_t *op = value->def;
  while (op != NULL && op->code == OP_RESHAPE &&
         rule_same_dims(&ir_in(op, 0)->type, &op->out[0].type))
    op = ir_in(op, 0)->def;
  if (op == NULL || op->code != OP_GATHER ||
      !rule_same_dims(&op->out[0].type, &ir_in(op, 1)->type))
    return &moe_no_fact;
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  const moe_fact_t *expert = moe_fact(facts, ir_in(op, 1));
  bool own = first->kind == FACT_BOUND && first->first == 0 &&
             ir_in(op, 0)->type.rank == 1 && moe_is_expert(expert) &&
             expert->space == NULL && expert->slot < 0 &&
             expert->source == first->source;
  return own ? expert : &moe_no_fact;
}

/* The place of a route among all of them, sorted by expert: of its expert's
 * first route, and of its own among these. */
const moe_fact_t *moe_rule_sorted_place(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op->code != OP_ADD || !isinf(moe_exact_below(value->type.dtype)))
    return NULL;
  for (unsigned i = 0; i < 2; i++) {
    const moe_fact_t *rank = moe_fact(facts, ir_in(op, i));
    if (rank->kind != FACT_RANK || !counts_routes(rank)) continue;
    const moe_fact_t *expert = first_of_own(facts, ir_in(op, 1 - i));
    const moe_source_t *source = rank->source;
    if (expert->source != source || source->some || source->by_mask ||
        !rule_same_dims(&ir_in(op, i)->type, &value->type) ||
        !rule_same_dims(&ir_in(op, 1 - i)->type, &value->type) ||
        memcmp(expert->tag, rank->tag, value->type.rank) != 0 ||
        ir_type_count(facts->pool, &value->type) != source->routes)
      continue;
    moe_fact_t *out = moe_fact_new(facts, FACT_PLACE, source);
    out->space = op;
    memcpy(out->tag, rank->tag, value->type.rank);
    return out;
  }
  return NULL;
}

const moe_fact_t *moe_sorted_numbers(moe_facts_t *facts, const ir_op_t *op,
                                     const moe_fact_t *place) {
  ir_value_t *from = ir_in(op, 2);
  const unsigned ordered = TAG_TOKEN | TAG_SLOT;
  const ir_type_t *to = &op->out[0].type;
  if (place->kind != FACT_PLACE || !rule_scatters_by(op, "none") ||
      to->rank != 1 || from->type.rank != 1 ||
      to->dim[0] != place->source->routes ||
      from->type.dim[0] != place->source->routes)
    return NULL;
  const unsigned lies = place->tag[0];
  const moe_fact_t *fact = moe_fact(facts, from);
  moe_fact_t *out = moe_fact_new(facts, FACT_ROUTE, place->source);
  out->space = place->space;
  out->tag[0] = TAG_ROW;
  out->turned = lies == (ordered | TAG_TURNED);
  if (lies != ordered && !out->turned && !rule_is_one(place->source->k))
    return NULL;
  if (from->def != NULL && from->def->code == OP_IOTA) return out;
  if (moe_is_expert(fact) && fact->space == NULL &&
      fact->source == place->source && fact->tag[0] == lies) {
    out->kind = FACT_EXPERT;
    out->turned = false;
    return out;
  }
  return moe_token_by_table(facts, from, out);
}
