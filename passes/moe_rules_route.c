/* Facts of routers: chosen experts, sorted routes, rows of masks, counts. */
#include <math.h>

#include "ir/element.h"
#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"
#include "passes/moe_table.h"

/* ---- Routers ------------------------------------------------------------- */

static moe_source_t *new_source(moe_facts_t *facts, ir_value_t *index, int slot,
                                int64_t experts) {
  moe_source_t *source = ARENA_NEW(facts->arena, moe_source_t);
  const expr_t *one = expr_const(facts->pool, 1);
  *source = (moe_source_t){.index = index,
                           .slot = slot,
                           .distinct = true,
                           .experts = experts,
                           .k = one,
                           .tokens = one,
                           .routes = one};
  source->capacity = ARENA_ARRAY(facts->arena, const expr_t *, 1);
  for (unsigned d = 0; d < index->type.rank; d++) {
    if ((int)d == slot)
      source->k = index->type.dim[d];
    else
      source->tokens =
          expr_mul(facts->pool, source->tokens, index->type.dim[d]);
  }
  source->routes = expr_mul(facts->pool, source->tokens, source->k);
  return source;
}

moe_source_t *moe_source_of_mask(moe_facts_t *facts, ir_value_t *index,
                                 unsigned axis) {
  int64_t experts = 0;
  bool known = expr_is_const(index->type.dim[axis], &experts);
  MOEC_ASSERT(known);
  moe_source_t *source = new_source(facts, index, (int)axis, experts);
  source->by_mask = true;
  return source;
}

const moe_fact_t *moe_new_router(moe_facts_t *facts, ir_value_t *index,
                                 int slot, int64_t experts, bool distinct) {
  moe_source_t *source = new_source(facts, index, slot, experts);
  source->distinct = distinct;
  moe_fact_t *fact = moe_fact_new(facts, FACT_EXPERT, source);
  for (unsigned d = 0; d < index->type.rank; d++)
    fact->tag[d] = (int)d == slot ? TAG_SLOT : TAG_TOKEN;
  return fact;
}

const moe_source_t *moe_source_of(const moe_fact_t *expert) {
  const moe_source_t *source = expert->source;
  if (expert->slot < 0) return source;
  return expert->slot < source->n_parts ? source->part[expert->slot] : NULL;
}

const moe_source_t *moe_source_of_slot(moe_facts_t *facts,
                                       const moe_fact_t *expert,
                                       ir_value_t *value) {
  moe_source_t *whole = (moe_source_t *)expert->source; /* learns its parts */
  int64_t k;
  if (expert->slot < 0) return whole;
  if (!expr_is_const(whole->k, &k) || k > MOE_MAX_PARTS || expert->slot >= k ||
      expert->space != NULL ||
      ir_type_count(facts->pool, &value->type) != whole->tokens)
    return NULL;
  if (whole->n_parts == 0) {
    whole->n_parts = (unsigned)k;
    facts->joint = arena_grow_array(facts->arena, facts->joint, facts->n_joints,
                                    facts->n_joints + 1, sizeof *facts->joint);
    facts->joint[facts->n_joints++] = whole;
  }
  if (whole->part[expert->slot] == NULL) {
    moe_source_t *part = new_source(facts, value, -1, whole->experts);
    part->given = whole->given;
    part->some = whole->some;
    whole->part[expert->slot] = part;
  }
  return whole->part[expert->slot];
}

bool moe_is_expert(const moe_fact_t *fact) {
  return fact->kind == FACT_EXPERT && fact->map == NULL;
}

bool moe_is_index(const moe_fact_t *fact) {
  return moe_is_expert(fact) || (fact->kind == FACT_LABEL && fact->indexes);
}

/* All rows in the order of what they are sorted by. */
static bool sorts_all(const ir_op_t *op) {
  return ir_get_int(op, ATTR_TOPK_sorted) != 0 &&
         ir_in(op, 0)->type.rank == 1 &&
         ir_get_expr(op, ATTR_TOPK_k) == ir_in(op, 0)->type.dim[0];
}

/* Whether numbers of experts, in ascending order or the other one, are sorted
 * by expert. */
static bool keeps_order(const moe_fact_t *by, bool descending) {
  const double *map = by->map;
  if (map == NULL) return !descending;
  for (int64_t e = 1; e < by->source->experts; e++)
    if (descending ? !(map[e] < map[e - 1]) : !(map[e] > map[e - 1]))
      return false;
  return true;
}

/* The experts of routes that are sorted by expert * rows + row: equal ones keep
 * their order. */
static const moe_fact_t *expert_of_key(moe_facts_t *facts,
                                       const ir_value_t *key) {
  const ir_op_t *op = key->def;
  if (op == NULL || op->code != OP_ADD || key->type.dtype != DT_I64)
    return &moe_no_fact;
  for (unsigned i = 0; i < 2; i++) {
    const ir_op_t *times = ir_in(op, i)->def, *row = ir_in(op, 1 - i)->def;
    if (times == NULL || times->code != OP_MUL || row == NULL ||
        row->code != OP_IOTA || row->out[0].type.dim[0] != key->type.dim[0] ||
        !rule_same_dims(&ir_in(op, i)->type, &key->type))
      continue;
    for (unsigned j = 0; j < 2; j++) {
      const moe_fact_t *fact = moe_fact(facts, ir_in(times, j));
      const expr_t *by = moe_known_number(ir_in(times, 1 - j));
      int64_t least;
      if (fact->kind != FACT_EXPERT || by == NULL ||
          !rule_same_dims(&ir_in(times, j)->type, &key->type))
        continue;
      if (by == key->type.dim[0] ||
          (expr_lower_bound(expr_sub(facts->pool, by, key->type.dim[0]),
                            &least) &&
           least >= 0))
        return fact;
    }
  }
  return &moe_no_fact;
}

static const moe_fact_t *sorted_rows(moe_facts_t *facts, ir_value_t *value,
                                     const moe_fact_t *by) {
  if (!sorts_all(value->def) || by->slot >= 0) return NULL;
  const bool descending = ir_get_int(value->def, ATTR_TOPK_largest) != 0;
  if (by->kind == FACT_NONE && value->index == 1)
    by = expert_of_key(facts, ir_in(value->def, 0));
  if (by->kind == FACT_EXPERT && by->space == NULL && by->slot < 0 &&
      keeps_order(by, descending)) {
    moe_fact_t *fact = moe_fact_new(
        facts, value->index == 0 ? FACT_EXPERT : FACT_ROUTE, by->source);
    fact->space = value->def;
    fact->tag[0] = TAG_ROW;
    fact->turned = value->index == 1 && (by->tag[0] & TAG_TURNED) != 0;
    if (value->index == 0) fact->map = by->map;
    return fact;
  }
  if (by->kind == FACT_ROUTE && by->space != NULL && by->linear == NULL &&
      value->index == 1 &&
      !descending) { /* places of the routes among the sorted ones */
    moe_fact_t *fact = moe_fact_new(facts, FACT_PLACE, by->source);
    fact->space = by->space;
    fact->tag[0] = (uint8_t)moe_route_tag(facts, by);
    return fact;
  }
  return NULL;
}

/* The tokens with the greatest scores of each expert: i64[experts, places]. */
static const moe_fact_t *chosen_tokens(moe_facts_t *facts, ir_value_t *value,
                                       unsigned axis) {
  int64_t experts;
  const ir_type_t *scores = &ir_in(value->def, 0)->type;
  if (value->type.rank != 2 ||
      !expr_is_const(value->type.dim[1 - axis], &experts) || experts < 2)
    return NULL;
  moe_source_t *source = new_source(facts, value, (int)axis, experts);
  source->chooses = facts->has_choices = true;
  source->tokens = scores->dim[axis];
  source->k = source->capacity[0] = value->type.dim[axis];
  source->routes =
      expr_mul(facts->pool, expr_const(facts->pool, experts), source->k);
  moe_fact_t *fact = moe_fact_new(facts, FACT_CHOICE, source);
  fact->tag[axis] = TAG_PLACE;
  fact->tag[1 - axis] = TAG_EXPERT;
  return fact;
}

static const ir_value_t *behind_reshapes(const ir_value_t *value) {
  while (value->def != NULL && value->def->code == OP_RESHAPE)
    value = value->def->in[0].value;
  return value;
}

/* What is multiplied to give scores; NULL: they are no product, or what is
 * computed of one alone. */
static const ir_op_t *product_of_scores(const ir_value_t *scores) {
  enum { MAX_STEPS = 16 };
  for (unsigned i = 0; i < MAX_STEPS && scores->def != NULL; i++) {
    const ir_op_t *op = scores->def;
    if (op->code == OP_MATMUL) return op;
    unsigned steps = 64;
    bool passes = op->code == OP_RESHAPE || op->code == OP_TRANSPOSE ||
                  op->code == OP_SOFTMAX || op->code == OP_LOG_SOFTMAX ||
                  ir_has_trait(op, ELEMENTWISE);
    if (!passes || op->n_in == 0) return NULL;
    for (unsigned j = 1; j < op->n_in; j++)
      if (moe_depends_on_data(op->in[j].value, &steps)) return NULL;
    scores = op->in[0].value;
  }
  return NULL;
}

/* Whether an index, or a part of it, takes rows of x. */
static bool takes_rows_of(const ir_value_t *index, const ir_value_t *x,
                          unsigned depth) {
  enum { MAX_NESTED = 4 };
  for (const ir_use_t *use = index->uses; use != NULL; use = use->next) {
    const ir_op_t *op = use->user;
    if (op->code == OP_GATHER && use->index == 1 &&
        ir_get_int(op, ATTR_GATHER_axis) == 0 &&
        behind_reshapes(op->in[0].value) == x)
      return true;
    bool view = op->code == OP_SLICE || op->code == OP_RESHAPE ||
                op->code == OP_TRANSPOSE || op->code == OP_CAST;
    if (view && depth < MAX_NESTED && takes_rows_of(&op->out[0], x, depth + 1))
      return true;
  }
  return false;
}

/* Whether the numbers that were chosen are tokens', where these are as many as
 * experts might be: they take rows of what the scores were made of. */
static bool chooses_tokens(const ir_value_t *value) {
  const ir_op_t *product = product_of_scores(ir_in(value->def, 0));
  for (unsigned i = 0; product != NULL && i < 2; i++)
    if (takes_rows_of(value, behind_reshapes(ir_in(product, i)), 0))
      return true;
  return false;
}

const moe_fact_t *moe_rule_topk(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  ir_value_t *scores = ir_in(op, 0);
  const moe_fact_t *by = moe_fact(facts, scores);
  const moe_fact_t *sorted = sorted_rows(facts, value, by);
  if (sorted != NULL) return sorted;
  if (by->kind != FACT_NONE && by->kind != FACT_GATE) return NULL;
  int64_t axis = ir_get_int(op, ATTR_TOPK_axis), experts;
  if (axis < 0) axis += scores->type.rank;
  if (value->index != 1) return NULL;
  if (!expr_is_const(scores->type.dim[axis], &experts))
    return chosen_tokens(facts, value, (unsigned)axis);
  if (experts < 2) return NULL;
  if (chooses_tokens(value)) {
    const moe_fact_t *chosen = chosen_tokens(facts, value, (unsigned)axis);
    if (chosen != NULL) return chosen;
  }
  return moe_new_router(facts, value, (int)axis, experts, true);
}

const moe_fact_t *moe_rule_arg_max(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const ir_type_t *scores = &ir_in(op, 0)->type;
  int64_t axis = ir_get_int(op, ATTR_ARG_MAX_axis), experts;
  if (axis < 0) axis += scores->rank;
  if (!expr_is_const(scores->dim[axis], &experts) || experts < 2) return NULL;
  bool keeps = ir_get_int(op, ATTR_ARG_MAX_keepdims) != 0;
  return moe_new_router(facts, value, keeps ? (int)axis : -1, experts, true);
}

/* ---- Masks --------------------------------------------------------------- */

const moe_fact_t *moe_rule_nonzero(moe_facts_t *facts, ir_value_t *value) {
  ir_value_t *mask = ir_in(value->def, 0);
  const moe_fact_t *gate = moe_fact(facts, mask);
  if (gate->kind != FACT_GATE || !gate->off.known || gate->off.x != 0 ||
      gate->places != NULL)
    return NULL;
  moe_fact_t *fact = moe_fact_new(facts, FACT_COORDS, gate->source);
  fact->space = value->def;
  fact->expert = gate->expert;
  unsigned n = mask->type.rank;
  moe_linear_t *linear = ARENA_ARRAY(facts->arena, moe_linear_t, n);
  for (unsigned i = 0; i < n; i++) {
    linear[i].n = n;
    linear[i].coefficient = ARENA_ARRAY(facts->arena, const expr_t *, n);
    for (unsigned d = 0; d < n; d++)
      linear[i].coefficient[d] = expr_const(facts->pool, d == i ? 1 : 0);
  }
  fact->linear = linear;
  fact->tag[1] = TAG_ROW;
  return fact;
}

/* ---- Scatters ------------------------------------------------------------ */

/* Whether tokens are in front of slots, as in routes: where all sizes are known
 * a shape alone does not tell. */
static bool tokens_first(const ir_type_t *type, const moe_fact_t *index) {
  bool slots = false;
  for (unsigned d = 0; d < type->rank; d++) {
    if (rule_is_one(type->dim[d])) continue;
    if (slots && (index->tag[d] & TAG_TOKEN) != 0) return false;
    slots = slots || (index->tag[d] & TAG_SLOT) != 0;
    if ((index->tag[d] & TAG_TURNED) != 0) return false;
  }
  return true;
}

/* Something at each of a token's experts, a constant at all others. */
static const moe_fact_t *scattered_gate(moe_facts_t *facts, ir_value_t *value,
                                        const moe_fact_t *index) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  if (axis < 0) axis += value->type.rank;
  unsigned rank = value->type.rank;
  const moe_source_t *slot = moe_source_of_slot(facts, index, ir_in(op, 1));
  const moe_source_t *source = slot != NULL ? slot : index->source;
  bool is_sum = rule_scatters_by(op, "add");
  if (index->space != NULL || index->tag[axis] == TAG_TOKEN ||
      !expr_equals_const(value->type.dim[axis], source->experts) ||
      (!is_sum && !rule_scatters_by(op, "none")))
    return NULL;
  moe_fact_t *out = moe_fact_new(facts, FACT_GATE, source);
  for (unsigned d = 0; d < rank; d++) {
    if ((int64_t)d == axis)
      out->tag[d] = TAG_EXPERT;
    else if (index->tag[d] == TAG_TOKEN &&
             value->type.dim[d] == ir_in(op, 1)->type.dim[d])
      out->tag[d] = TAG_TOKEN;
    else if (rule_is_one(value->type.dim[d]))
      out->tag[d] = TAG_INNER;
    else
      return NULL;
  }
  out->off.known = moe_fill_number(ir_in(op, 0), &out->off.x);
  bool replaces = !is_sum || (out->off.known && out->off.x == 0);
  if (replaces && source->distinct && slot != NULL) {
    out->on.known = moe_fill_number(ir_in(op, 2), &out->on.x);
    if (tokens_first(&ir_in(op, 1)->type, index)) out->at_route = ir_in(op, 2);
  }
  return out;
}

/* The inverse of a sorting order: 0, 1, .. written at the sorted routes. */
static const moe_fact_t *inverse_order(moe_facts_t *facts, ir_value_t *value,
                                       const moe_fact_t *route) {
  const ir_op_t *op = value->def;
  const ir_op_t *numbers = rule_def(op, 2, OP_IOTA);
  if (route->kind != FACT_ROUTE || route->space == NULL ||
      route->linear != NULL || numbers == NULL || value->type.rank != 1 ||
      !rule_scatters_by(op, "none") ||
      value->type.dim[0] != route->source->routes)
    return NULL;
  moe_fact_t *fact = moe_fact_new(facts, FACT_PLACE, route->source);
  fact->space = route->space;
  fact->tag[0] = (uint8_t)moe_route_tag(facts, route);
  return fact;
}

const moe_fact_t *moe_rule_scatter(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *index = moe_fact(facts, ir_in(op, 1));
  const moe_fact_t *inverse = inverse_order(facts, value, index);
  if (inverse == NULL) inverse = moe_written_counts(facts, op);
  if (inverse == NULL) inverse = moe_sorted_numbers(facts, op, index);
  if (inverse != NULL) return inverse;
  if (rule_scatters_by(op, "add")) {
    const moe_fact_t *count = moe_count_by_index(facts, op, index);
    if (count != NULL) return count;
  }
  if (!moe_is_index(index)) return moe_rule_order_back(facts, value);
  return op->code == OP_SCATTER_ELEMENTS ? scattered_gate(facts, value, index)
                                         : NULL;
}

/* ---- Gathers ------------------------------------------------------------- */

/* One number of a tensor: x[c] along an axis, c a constant. */
static const moe_fact_t *gather_one(moe_facts_t *facts, ir_value_t *value,
                                    const moe_fact_t *fact, int64_t c) {
  const ir_op_t *op = value->def;
  const ir_type_t *from = &ir_in(op, 0)->type;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  if (axis < 0) axis += from->rank;
  unsigned kept = ir_in(op, 1)->type.rank;
  bool counts = fact->kind == FACT_COUNT || fact->kind == FACT_BOUND;
  int64_t size; /* an index that is out of range is found by the run */
  bool known = expr_is_const(from->dim[axis], &size);
  if (!known && counts) size = fact->source->experts;
  if (c < 0 || (!known && !counts) || c >= size || kept > 1) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  if (counts) {
    out->first += c;
    return out;
  }
  if (fact->kind == FACT_COORDS || fact->kind == FACT_TUPLE) {
    unsigned over = fact->kind == FACT_COORDS ? 0 : 1;
    if (axis != over) return NULL;
    out->kind = FACT_ROUTE;
    out->linear = &fact->linear[c];
    for (unsigned d = 0; d < value->type.rank; d++) out->tag[d] = TAG_ROW;
    if (kept == 1) out->tag[over] = TAG_INNER;
    return moe_coordinate(facts, out);
  }
  if (fact->kind != FACT_GATE || fact->tag[axis] != TAG_EXPERT ||
      !expr_equals_const(from->dim[axis], fact->source->experts) ||
      fact->places != NULL)
    return NULL;
  out->expert = c;
  for (unsigned d = 0; d < from->rank; d++) {
    unsigned to = (int64_t)d > axis && kept == 0 ? d - 1 : d;
    if ((int64_t)d != axis)
      out->tag[to] = fact->tag[d];
    else if (kept == 1)
      out->tag[d] = TAG_INNER;
  }
  return out;
}

/* Rows of the unit matrix that experts pick: 1 for the expert, 0 for others. */
static const moe_fact_t *gather_units(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  ir_value_t *unit = ir_in(op, 0);
  const moe_fact_t *index = moe_fact(facts, ir_in(op, 1));
  unsigned rank = ir_in(op, 1)->type.rank;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  if (!moe_is_index(index) || unit->type.rank != 2 || (axis != 0 && axis != -2))
    return NULL;
  int64_t n = index->source->experts;
  for (unsigned d = 0; d < 2; d++)
    if (!expr_equals_const(unit->type.dim[d], n)) return NULL;
  for (int64_t i = 0; i < n * n; i++) {
    double x;
    if (!moe_constant_element(unit, i, &x) || x != (i / n == i % n ? 1 : 0))
      return NULL;
  }
  const moe_source_t *source = moe_source_of_slot(facts, index, ir_in(op, 1));
  moe_fact_t *out =
      moe_fact_new(facts, FACT_GATE, source != NULL ? source : index->source);
  out->off = (moe_constant_t){true, 0};
  out->on = (moe_constant_t){source != NULL, 1};
  out->space = index->space;
  for (unsigned d = 0; d < rank; d++) out->tag[d] = index->tag[d];
  out->tag[rank] = TAG_EXPERT;
  return out;
}

/* By division or by repetition. */
bool moe_is_token_of_route(const ir_value_t *index,
                           const moe_source_t *source) {
  const ir_op_t *op = index->def;
  for (unsigned i = 0; op != NULL && i < 6; i++) {
    const ir_type_t *type = &op->out[0].type;
    if (op->code == OP_CAST ||
        (op->code == OP_RESHAPE &&
         ir_in(op, 0)->type.rank != 2)) { /* nothing between rows */
      op = ir_in(op, 0)->def;
      continue;
    }
    if (op->code == OP_IOTA)
      return rule_is_one(source->k) && type->dim[0] == source->tokens;
    if (op->code == OP_DIV) {
      int64_t by, k;
      const ir_op_t *count = ir_in(op, 0)->def;
      return rule_splat_int(ir_in(op, 1), &by) &&
             expr_is_const(source->k, &k) && by == k && count != NULL &&
             count->code == OP_IOTA && type->rank == 1 &&
             type->dim[0] == source->routes;
    }
    if (op->code == OP_RESHAPE) {
      const ir_op_t *spread = ir_in(op, 0)->def;
      if (spread == NULL || spread->code != OP_EXPAND) return false;
      op = spread;
      continue;
    }
    if (op->code == OP_EXPAND) { /* [T, k] from [T, 1] */
      const ir_value_t *from = ir_in(op, 0);
      if (type->rank != 2 || type->dim[1] != source->k ||
          from->type.rank != 2 || !rule_is_one(from->type.dim[1]) ||
          from->type.dim[0] != source->tokens)
        return false;
      const ir_op_t *count = from->def;
      if (count != NULL && count->code == OP_RESHAPE)
        count = ir_in(count, 0)->def;
      return count != NULL && count->code == OP_IOTA;
    }
    return false;
  }
  return false;
}

const moe_fact_t *moe_rule_gather(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *from = moe_fact(facts, ir_in(op, 0));
  const moe_fact_t *index = moe_fact(facts, ir_in(op, 1));
  int64_t c;
  if (from->kind != FACT_NONE && rule_splat_int(ir_in(op, 1), &c))
    return gather_one(facts, value, from, c);
  const moe_fact_t *units = gather_units(facts, value);
  if (units != NULL) return units;
  /* of numbers of routes, what routes in order have */
  bool whole = ir_in(op, 0)->type.rank == 1 && value->type.rank == 1;
  if (index->kind != FACT_ROUTE) return moe_rule_order(facts, value);
  if (!whole) return NULL;
  const moe_fact_t *token = moe_token_of_pair(facts, ir_in(op, 0), index);
  if (token != NULL) return token;
  token = moe_token_by_table(facts, ir_in(op, 0), index);
  if (token != NULL) return token;
  if (index->linear != NULL ||
      index->turned != ((from->tag[0] & TAG_TURNED) != 0) ||
      from->kind != FACT_EXPERT || from->space != NULL ||
      from->source != index->source)
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, index);
  out->kind = FACT_EXPERT;
  out->turned = false;
  out->map = from->map;
  return out;
}
