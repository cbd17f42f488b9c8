/* Facts of places in experts' buffers: numbers that tell the routes of an
 * expert apart, by counting, and one-hot vectors of these. */
#include <string.h>

#include "passes/moe_rules.h"

static const moe_constant_t unknown = {false, 0};

static bool is_number(moe_constant_t c, double x) {
  return c.known && c.x == x;
}

/* ---- Routers with parts -----------------------------------------------------
 */

int moe_part_index(const moe_source_t *whole, const moe_source_t *part) {
  for (unsigned i = 0; i < whole->n_parts; i++)
    if (whole->part[i] == part) return (int)i;
  return -1;
}

/* A router of one expert is a part of itself. */
static unsigned parts_of(const moe_source_t *source,
                         const moe_source_t **out_part) {
  if (source->n_parts == 0) {
    out_part[0] = source;
    return 1;
  }
  memcpy(out_part, source->part, source->n_parts * sizeof *out_part);
  return source->n_parts;
}

const moe_source_t *moe_joint_source(moe_facts_t *facts, const moe_source_t *a,
                                     const moe_source_t *b) {
  const moe_source_t *part[2 * MOE_MAX_PARTS];
  unsigned n = parts_of(a, part);
  n += parts_of(b, part + n);
  for (unsigned i = 0; i < facts->n_joints; i++) {
    const moe_source_t *joint = facts->joint[i];
    bool has_all = joint->n_parts == n;
    for (unsigned j = 0; j < n; j++)
      has_all = has_all && moe_part_index(joint, part[j]) >= 0;
    if (has_all) return joint;
  }
  if (a->experts != b->experts || a->tokens != b->tokens || n > MOE_MAX_PARTS ||
      (a->n_parts == 0 && !rule_is_one(a->k)) ||
      (b->n_parts == 0 && !rule_is_one(b->k)))
    return NULL;
  facts->wanted =
      arena_grow_array(facts->arena, facts->wanted, 2 * facts->n_wanted,
                       2 * facts->n_wanted + 2, sizeof *facts->wanted);
  facts->wanted[2 * facts->n_wanted] = a;
  facts->wanted[2 * facts->n_wanted++ + 1] = b;
  return NULL;
}

/* ---- Conditions -------------------------------------------------------------
 */

static bool vanishes(const ir_value_t *value, const ir_value_t *given,
                     unsigned depth) {
  const ir_op_t *op = value->def;
  double zero;
  enum { MAX_NESTED = 12 };
  if (value == given) return true;
  if (op == NULL || depth > MAX_NESTED) return false;
  switch (op->code) {
    case OP_MUL:
    case OP_AND:
      return vanishes(ir_in(op, 0), given, depth + 1) ||
             vanishes(ir_in(op, 1), given, depth + 1);
    case OP_ADD:
      return vanishes(ir_in(op, 0), given, depth + 1) &&
             vanishes(ir_in(op, 1), given, depth + 1);
    case OP_SELECT:
      return vanishes(ir_in(op, 0), given, depth + 1) &&
             ((moe_fill_number(ir_in(op, 2), &zero) && zero == 0) ||
              vanishes(ir_in(op, 2), given, depth + 1));
    case OP_DIV:
    case OP_CAST:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
      return vanishes(ir_in(op, 0), given, depth + 1);
    default:
      return false;
  }
}

bool moe_vanishes(const ir_value_t *value, const ir_value_t *given) {
  /* what `given` is a view of is 0 with it */
  for (unsigned i = 0; i < 4; i++) {
    if (vanishes(value, given, 0)) return true;
    const ir_op_t *op = given->def;
    if (op == NULL || (op->code != OP_CAST && op->code != OP_RESHAPE &&
                       op->code != OP_EXPAND))
      return false;
    given = ir_in(op, 0);
  }
  return false;
}

/* 0 or 1, whatever it says. */
static bool is_indicator(const ir_value_t *value, unsigned depth) {
  const ir_op_t *op = value->def;
  if (value->type.dtype == DT_BOOL) return true;
  if (op == NULL || depth > 8) return false;
  switch (op->code) {
    case OP_CAST:
      return ir_in(op, 0)->type.dtype == DT_BOOL ||
             is_indicator(ir_in(op, 0), depth + 1);
    case OP_MUL:
      return is_indicator(ir_in(op, 0), depth + 1) &&
             is_indicator(ir_in(op, 1), depth + 1);
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
      return is_indicator(ir_in(op, 0), depth + 1);
    default:
      return false;
  }
}

/* ---- Counting ---------------------------------------------------------------
 */

/* The dimension is the innermost one of the tokens, with all slots of the mask;
 * NULL, or the number of tokens in it. */
static const expr_t *counted_tokens(moe_facts_t *facts, const ir_type_t *type,
                                    const moe_fact_t *mask, unsigned axis) {
  unsigned tag = mask->tag[axis], all = moe_tag_union(type->rank, mask->tag);
  bool has_slots = (tag & TAG_SLOT) != 0;
  if ((tag & TAG_TOKEN) == 0 ||
      (tag & ~(unsigned)(TAG_TOKEN | TAG_SLOT | TAG_TURNED)) != 0 ||
      (!has_slots && (all & TAG_SLOT) != 0) ||
      (!has_slots && !rule_is_one(mask->source->k) && !mask->source->distinct))
    return NULL;
  for (unsigned d = axis + 1; d < type->rank; d++)
    if ((mask->tag[d] & TAG_TOKEN) != 0) return NULL;
  return has_slots ? expr_divide_exactly(facts->pool, type->dim[axis],
                                         mask->source->k)
                   : type->dim[axis];
}

static bool is_mask(const moe_fact_t *fact) {
  return fact->kind == FACT_GATE && fact->space == NULL &&
         fact->places == NULL && fact->rank == NULL &&
         is_number(fact->off, 0) && is_number(fact->on, 1);
}

const moe_fact_t *moe_rank_of_mask(moe_facts_t *facts, ir_value_t *value,
                                   const moe_fact_t *mask) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CUM_SUM_axis);
  if (axis < 0) axis += value->type.rank;
  if (!is_mask(mask)) return NULL;
  const expr_t *counted =
      counted_tokens(facts, &value->type, mask, (unsigned)axis);
  if (counted == NULL) return NULL;
  moe_rank_t *rank = ARENA_NEW(facts->arena, moe_rank_t);
  *rank = (moe_rank_t){.counted = counted, .source = mask->source};
  rank->offset = ir_get_int(op, ATTR_CUM_SUM_exclusive) != 0 ? 0 : 1;
  moe_fact_t *out = moe_fact_copy(facts, mask);
  out->off = out->on = unknown;
  out->at_route = NULL;
  out->rank = rank;
  return out;
}

/* All of a mask added up over the innermost dimension of tokens. */
static const moe_fact_t *total_of(moe_facts_t *facts, ir_value_t *value,
                                  const moe_fact_t *mask, moe_fact_t *out) {
  const ir_type_t *from = &ir_in(value->def, 0)->type;
  unsigned n;
  const int64_t *axes = ir_get_ints(value->def, ATTR_REDUCE_SUM_axes, &n);
  if (n != 1 || !is_mask(mask) || mask->expert >= 0) return NULL;
  const expr_t *counted = counted_tokens(facts, from, mask, (unsigned)axes[0]);
  if (counted == NULL) return NULL;
  moe_rank_t *rank = ARENA_NEW(facts->arena, moe_rank_t);
  *rank = (moe_rank_t){.counted = counted, .source = mask->source};
  out->kind = FACT_TOTAL;
  out->rank = rank;
  out->off = out->on = unknown;
  out->at_route = NULL;
  return out;
}

const moe_fact_t *moe_rank_of_token(moe_facts_t *facts, ir_value_t *value,
                                    const moe_fact_t *gate, moe_fact_t *out,
                                    unsigned reduced) {
  bool is_sum = value->def->code == OP_REDUCE_SUM;
  if ((reduced & TAG_TOKEN) != 0)
    return is_sum ? total_of(facts, value, gate, out) : NULL;
  if (gate->rank == NULL || reduced != TAG_EXPERT || !gate->off.known)
    return NULL;
  bool has_slots = (moe_tag_union(value->type.rank, out->tag) & TAG_SLOT) != 0;
  bool picks = is_sum
                   ? gate->off.x == 0
                   : gate->off.x <= gate->rank->offset && gate->given == NULL;
  if (!picks || (!has_slots && !rule_is_one(gate->source->k))) return NULL;
  out->kind = FACT_RANK;
  out->off = out->on = unknown;
  out->at_route = NULL;
  return out;
}

/* A count of each expert's routes at that of the token. */
const moe_fact_t *moe_rule_gather_elements(moe_facts_t *facts,
                                           ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *gate = moe_fact(facts, ir_in(op, 0));
  const moe_fact_t *index = moe_fact(facts, ir_in(op, 1));
  int64_t axis = ir_get_int(op, ATTR_GATHER_ELEMENTS_axis);
  if (axis < 0) axis += value->type.rank;
  if (gate->kind != FACT_GATE || gate->rank == NULL || gate->places != NULL ||
      !moe_is_expert(index) || index->space != NULL || index->slot >= 0 ||
      index->source != gate->source || gate->tag[axis] != TAG_EXPERT)
    return NULL;
  for (unsigned d = 0; d < value->type.rank; d++)
    if ((int64_t)d != axis && (gate->tag[d] != index->tag[d] ||
                               ir_in(op, 0)->type.dim[d] != value->type.dim[d]))
      return NULL;
  moe_fact_t *out = moe_fact_copy(facts, index);
  out->kind = FACT_RANK;
  out->rank = gate->rank;
  out->given = gate->given;
  return out;
}

/* ---- Arithmetic of ranks ----------------------------------------------------
 */

static const moe_rank_t *shifted(moe_facts_t *facts, const moe_rank_t *rank,
                                 double by) {
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->offset += by;
  return copy;
}

/* Behind all routes of another router, in the same groups. */
static const moe_rank_t *behind(moe_facts_t *facts, const moe_rank_t *rank,
                                const moe_fact_t *total) {
  bool is_total = total->kind == FACT_TOTAL;
  bool is_count = total->kind == FACT_COUNT && total->first == 0;
  if (!is_total && !is_count) return NULL;
  const expr_t *counted =
      is_total ? total->rank->counted : total->source->tokens;
  if (counted != rank->counted || rank->n_base == MOE_MAX_PARTS ||
      total->source == rank->source)
    return NULL;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->base[copy->n_base++] = total->source;
  return copy;
}

/* Totals lie along the same dimension of experts as the gate. */
static bool lines_up(const ir_value_t *total, const moe_fact_t *fact,
                     const ir_type_t *to, const moe_fact_t *gate) {
  unsigned shift = to->rank - total->type.rank;
  for (unsigned d = 0; d < total->type.rank; d++) {
    if (rule_is_one(total->type.dim[d])) continue;
    unsigned tag = fact->kind == FACT_COUNT ? TAG_EXPERT : fact->tag[d];
    if (tag != gate->tag[shift + d]) return false;
  }
  return true;
}

static bool is_chosen_one(const ir_op_t *op, unsigned i,
                          const moe_constant_t *on) {
  if (op->code != OP_SELECT || !on[0].known) return false;
  return i == (on[0].x != 0 ? 1 : 2);
}

/* The rank of an operation on one, for the token's experts; *given may change.
 */
static const moe_rank_t *rank_of_result(moe_facts_t *facts, ir_value_t *value,
                                        unsigned i, const moe_constant_t *on,
                                        const moe_fact_t *out,
                                        ir_value_t **given) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
  if (op->code == OP_CAST && value->type.dtype != DT_BOOL) return fact->rank;
  if (is_chosen_one(op, i, on)) return fact->rank;
  if (op->n_in != 2) return NULL;
  ir_value_t *other = ir_in(op, 1 - i);
  const moe_fact_t *with = moe_fact(facts, other);
  switch (op->code) {
    case OP_ADD:
      if (*given != NULL && !is_number(on[1 - i], 0)) return NULL;
      if (on[1 - i].known) return shifted(facts, fact->rank, on[1 - i].x);
      return lines_up(other, with, &value->type, out)
                 ? behind(facts, fact->rank, with)
                 : NULL;
    case OP_SUB:
      return i == 0 && on[1].known && *given == NULL
                 ? shifted(facts, fact->rank, -on[1].x)
                 : NULL;
    case OP_MUL:
      if (is_number(on[1 - i], 1)) return fact->rank;
      if (*given != NULL || !is_indicator(other, 0)) return NULL;
      *given = other;
      return fact->rank;
    default:
      return NULL;
  }
}

/* Equal where it matters: the same value. */
static bool same_places(const moe_places_t *a, const moe_places_t *b) {
  if (a->n != b->n) return false;
  for (unsigned i = 0; i < a->n; i++)
    if (a->of[i].value != b->of[i].value) return false;
  return true;
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
    unsigned n = parts_of(fact->source, part);
    if (fact->places->n != n) return NULL;
    for (unsigned j = 0; j < n; j++) {
      int at = moe_part_index(whole, part[j]);
      if (at < 0) return NULL;
      all->of[at] = fact->places->of[j];
    }
  }
  for (unsigned i = 0; i < all->n; i++)
    if (all->of[i].value == NULL ||
        *whole->part[i]->capacity != *whole->part[0]->capacity)
      return NULL;
  *whole->capacity = *whole->part[0]->capacity;
  return all;
}

/* Without conditions that the other factor answers for. */
static const moe_places_t *settle(moe_facts_t *facts,
                                  const moe_places_t *places,
                                  const ir_value_t *factor) {
  moe_places_t *copy = NULL;
  for (unsigned i = 0; i < places->n; i++) {
    if (places->of[i].given == NULL ||
        !moe_vanishes(factor, places->of[i].given))
      continue;
    if (copy == NULL) {
      copy = ARENA_NEW(facts->arena, moe_places_t);
      *copy = *places;
    }
    copy->of[i].given = NULL;
  }
  return copy != NULL ? copy : places;
}

void moe_gate_ranks(moe_facts_t *facts, ir_value_t *value,
                    const moe_constant_t *on, moe_fact_t *out) {
  const ir_op_t *op = value->def;
  bool joins = false;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_GATE) continue;
    joins = joins || fact->source != out->source;
    if (fact->rank != NULL && out->rank == NULL &&
        fact->source == out->source) {
      out->given = fact->given;
      out->rank = rank_of_result(facts, value, i, on, out, &out->given);
    }
    if (fact->places == NULL || joins) continue;
    if (out->places != NULL && !same_places(out->places, fact->places)) {
      out->places = NULL;
      return;
    }
    out->places = fact->places;
    if ((op->code == OP_MUL || op->code == OP_AND) && op->n_in == 2)
      out->places = settle(facts, out->places, ir_in(op, 1 - i));
  }
  if (joins) out->places = join_places(facts, out->source, op);
}

/* ---- Ranks as numbers of routes
 * ----------------------------------------------
 */

/* rank < capacity, of that rank, if the condition holds. */
static bool limits_rank(moe_facts_t *facts, ir_value_t *condition,
                        const moe_rank_t *rank, const expr_t *capacity,
                        unsigned depth) {
  const ir_op_t *op = condition->def;
  if (op == NULL || depth > 6) return false;
  if (op->code == OP_AND)
    return limits_rank(facts, ir_in(op, 0), rank, capacity, depth + 1) ||
           limits_rank(facts, ir_in(op, 1), rank, capacity, depth + 1);
  if (op->code == OP_CAST || op->code == OP_RESHAPE)
    return limits_rank(facts, ir_in(op, 0), rank, capacity, depth + 1);
  if (op->code != OP_LT && op->code != OP_LE) return false;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, 0));
  const ir_value_t *limit = ir_in(op, 1);
  while (limit->def != NULL && limit->def->code == OP_CAST)
    limit = ir_in(limit->def, 0);
  const expr_t *most = moe_known_number(limit);
  if (fact->kind != FACT_RANK || most == NULL ||
      fact->rank->source != rank->source || fact->rank->n_base != rank->n_base)
    return false;
  /* true rank + offset < most (+ 1) */
  double slack = rank->offset - fact->rank->offset + (op->code == OP_LE);
  if (slack != (double)(int64_t)slack) return false;
  most = expr_add(facts->pool, most, expr_const(facts->pool, (int64_t)slack));
  return most == capacity;
}

/* expert * capacity + rank. */
static const moe_fact_t *buffer_number(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op->code != OP_ADD) return NULL;
  for (unsigned i = 0; i < 2; i++) {
    const moe_fact_t *rank = moe_fact(facts, ir_in(op, i));
    const ir_op_t *base = ir_in(op, 1 - i)->def;
    if (rank->kind != FACT_RANK || base == NULL || base->code != OP_MUL ||
        rank->rank->offset != 0 || rank->given != NULL ||
        !rule_same_dims(&ir_in(op, i)->type, &value->type) ||
        !rule_same_dims(&ir_in(op, 1 - i)->type, &value->type))
      continue;
    for (unsigned j = 0; j < 2; j++) {
      const moe_fact_t *expert = moe_fact(facts, ir_in(base, j));
      const expr_t *capacity = moe_known_number(ir_in(base, 1 - j));
      const moe_source_t *source = rank->source;
      if (!moe_is_expert(expert) || expert->source != source ||
          expert->space != NULL || capacity == NULL ||
          !rule_same_dims(&ir_in(base, j)->type, &value->type) ||
          memcmp(expert->tag, rank->tag, value->type.rank) != 0 ||
          (*source->capacity != NULL && *source->capacity != capacity))
        continue;
      *source->capacity = capacity;
      moe_fact_t *out = moe_fact_copy(facts, rank);
      out->kind = FACT_BUFFER;
      out->dump = -1;
      return out;
    }
  }
  return NULL;
}

/* A place in the buffers where there is one, a number for all the others. */
static const moe_fact_t *limited_buffer(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  ir_value_t *kept = NULL;
  const moe_fact_t *place = &moe_no_fact;
  double dump = 0;
  if (op->code == OP_SELECT) {
    kept = ir_in(op, 0);
    place = moe_fact(facts, ir_in(op, 1));
    if (!moe_fill_number(ir_in(op, 2), &dump)) {
      const expr_t *number = moe_known_number(ir_in(op, 2));
      const expr_t *all = expr_const(
          facts->pool, place->kind == FACT_BUFFER ? place->source->experts : 0);
      if (place->kind != FACT_BUFFER || number == NULL ||
          number != expr_mul(facts->pool, all, *place->source->capacity))
        return NULL;
      dump = -1; /* behind all buffers */
    }
  } else if (op->code == OP_MUL) {
    unsigned i = moe_fact(facts, ir_in(op, 0))->kind == FACT_BUFFER ? 0 : 1;
    place = moe_fact(facts, ir_in(op, i));
    kept = ir_in(op, 1 - i);
    if (!is_indicator(kept, 0)) return NULL;
  }
  if (place->kind != FACT_BUFFER || place->given != NULL ||
      !rule_same_dims(&kept->type, &value->type) ||
      !limits_rank(facts, kept, place->rank, *place->source->capacity, 0))
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, place);
  out->given = kept;
  out->dump = (int64_t)dump;
  int64_t all;
  const expr_t *buffers =
      expr_mul(facts->pool, expr_const(facts->pool, place->source->experts),
               *place->source->capacity);
  if (dump >= 0 && expr_is_const(buffers, &all) && (int64_t)dump >= all)
    out->dump = -1;
  return out;
}

const moe_fact_t *moe_rule_rank(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = &moe_no_fact;
  unsigned at = 0;
  for (; at < op->n_in && fact->kind != FACT_RANK && fact->kind != FACT_BUFFER;
       at++)
    fact = moe_fact(facts, ir_in(op, at));
  if (fact->kind == FACT_BUFFER)
    return op->code == OP_CAST ? fact : limited_buffer(facts, value);
  if (fact->kind != FACT_RANK) return NULL;
  const moe_fact_t *buffer = buffer_number(facts, value);
  enum { MAX_IN = 3 };
  if (buffer != NULL || op->n_in > MAX_IN) return buffer;
  moe_constant_t on[MAX_IN] = {{0}};
  for (unsigned i = 0; i < op->n_in; i++)
    on[i].known = moe_fill_number(ir_in(op, i), &on[i].x);
  if (!rule_same_dims(&ir_in(op, at - 1)->type, &value->type)) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->rank = rank_of_result(facts, value, at - 1, on, out, &out->given);
  return out->rank != NULL ? out : NULL;
}

/* ---- One-hot ----------------------------------------------------------------
 */

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
  if ((d >= shift && !rule_is_one(number->type.dim[d - shift])) ||
      (*source->capacity != NULL && *source->capacity != capacity))
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
  places->of[0] = (moe_place_t){fact->rank, number, fact->tag, fact->given};
  out->places = places;
  out->on = (moe_constant_t){true, 1};
  out->other = out->off = (moe_constant_t){true, 0};
  if (is_gate) out->off.known = fact->off.known && fact->off.x < 0;
  return out;
}
