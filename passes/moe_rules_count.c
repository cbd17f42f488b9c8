/* Facts of counts: how many routes experts have, and those before them. */
#include <string.h>

#include "passes/moe_rules.h"

/* The number that is added to each expert; false: it is something else. */
static bool shift_of(const moe_fact_t *fact, int64_t *out) {
  if (fact->kind != FACT_EXPERT) return false;
  *out = fact->map != NULL ? (int64_t)fact->map[0] : 0;
  for (int64_t e = 0; fact->map != NULL && e < fact->source->experts; e++)
    if (fact->map[e] != (double)(e + *out)) return false;
  return *out >= 0;
}

/* Whether so many routes as there may be are counted one by one: a smaller
 * number wraps, or stays as it is. */
static bool counts_all(const ir_value_t *value) {
  const double many = 0x1p24;
  return moe_exact_below(value->type.dtype) >= many;
}

const moe_fact_t *moe_rule_cum_sum(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *count = moe_fact(facts, ir_in(op, 0));
  if (count->kind == FACT_GATE) return moe_rank_of_mask(facts, value, count);
  if (count->kind != FACT_COUNT || count->first > 0 || value->type.rank != 1 ||
      !counts_all(value) || ir_get_int(op, ATTR_CUM_SUM_reverse) != 0)
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, count);
  out->kind = FACT_BOUND;
  out->first += ir_get_int(op, ATTR_CUM_SUM_exclusive) != 0 ? 0 : 1;
  return out;
}

/* Zeros in front of counts or bounds, which begin with 0; and behind, of
 * counts of all experts. */
static const moe_fact_t *behind_zeros(moe_facts_t *facts,
                                      const moe_fact_t *fact, int64_t before) {
  bool bounds = fact->kind == FACT_BOUND;
  if ((!bounds && fact->kind != FACT_COUNT) || fact->first > (bounds ? 1 : 0) ||
      before < 0 || before > 1 << 16)
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->first -= before;
  return out;
}

const moe_fact_t *moe_rule_pad(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  unsigned n;
  int64_t before, after;
  double zero;
  if (value->type.rank != 1 ||
      strcmp(ir_get_str(op, ATTR_PAD_mode), "constant") != 0 ||
      !expr_is_const(ir_get_exprs(op, ATTR_PAD_before, &n)[0], &before) ||
      !expr_is_const(ir_get_exprs(op, ATTR_PAD_after, &n)[0], &after) ||
      after != 0 ||
      (op->n_in > 1 && (!moe_fill_number(ir_in(op, 1), &zero) || zero != 0)))
    return NULL;
  return behind_zeros(facts, moe_fact(facts, ir_in(op, 0)), before);
}

const moe_fact_t *moe_written_counts(moe_facts_t *facts, const ir_op_t *op) {
  const ir_value_t *index = ir_in(op, 1), *from = ir_in(op, 2);
  int64_t n, all, end, first;
  double zero, at;
  if (op->out[0].type.rank != 1 || from->type.rank != 1 ||
      !rule_scatters_by(op, "none") || !moe_fill_number(ir_in(op, 0), &zero) ||
      zero != 0 || !expr_is_const(from->type.dim[0], &n) || n < 1 ||
      !expr_is_const(op->out[0].type.dim[0], &all) ||
      !ir_type_static_count(&index->type, &end) || end != n)
    return NULL;
  for (int64_t i = 0; i < n; i++)
    if (!moe_constant_element(index, i, &at) || at != (double)(all - n + i))
      return NULL;
  first = all - n;
  return behind_zeros(facts, moe_fact(facts, ir_in(op, 2)), first);
}

const moe_fact_t *moe_count_by_index(moe_facts_t *facts, const ir_op_t *op,
                                     const moe_fact_t *index) {
  double zero, one;
  int64_t size, shift;
  const ir_value_t *data = ir_in(op, 0);
  bool from_zero = moe_fill_number(data, &zero) && zero == 0;
  bool adds_one = moe_fill_number(ir_in(op, 2), &one) && one == 1;
  unsigned tags = moe_tag_union(ir_in(op, 1)->type.rank, index->tag) &
                  ~(unsigned)(TAG_INNER | TAG_TURNED);
  if (!from_zero || !adds_one || data->type.rank != 1 || !counts_all(data) ||
      !shift_of(index, &shift))
    return NULL;
  /* of a size that only the run knows, experts that it lacks have no routes */
  if (expr_is_const(data->type.dim[0], &size) &&
      size - shift < index->source->experts)
    return NULL;
  if (index->space == NULL && tags != (TAG_TOKEN | TAG_SLOT) &&
      !(tags == TAG_TOKEN && rule_is_one(index->source->k)))
    return NULL;
  moe_fact_t *out = moe_fact_new(facts, FACT_COUNT, index->source);
  out->first = -shift;
  return out;
}

const moe_fact_t *moe_count_of_mask(moe_facts_t *facts, ir_value_t *value,
                                    const moe_fact_t *gate, unsigned reduced,
                                    unsigned kept) {
  bool whole = gate->off.known && gate->off.x == 0 && gate->on.known &&
               gate->on.x == 1 && gate->places == NULL;
  bool all_rows = (reduced & (TAG_TOKEN | TAG_ROW)) != 0;
  bool slots = (reduced & (TAG_SLOT | TAG_ROW)) != 0 || gate->source->distinct;
  if (!whole || !all_rows || !slots || value->type.rank > 1 ||
      !counts_all(value) || (kept & ~(unsigned)(TAG_EXPERT | TAG_INNER)) != 0)
    return NULL;
  const bool all = gate->expert < 0 && (reduced & TAG_EXPERT) != 0;
  moe_fact_t *out =
      moe_fact_new(facts, all ? FACT_BOUND : FACT_COUNT, gate->source);
  out->first = all                 ? gate->source->experts
               : gate->expert >= 0 ? gate->expert
                                   : 0;
  return out;
}

/* Where 0, 1, .. is compared with numbers of experts: which operand has these,
 * and whether equal ones, smaller ones or both count. */
typedef struct comparison {
  unsigned numbers;
  bool less, equal;
} comparison_t;

static bool find_comparison(moe_facts_t *facts, const ir_op_t *op,
                            comparison_t *out) {
  for (unsigned i = 0; i < 2 && op->n_in == 2; i++) {
    if (moe_fact(facts, ir_in(op, i))->kind != FACT_EXPERT) continue;
    bool below = op->code == OP_LT || op->code == OP_LE;
    *out = (comparison_t){.numbers = i,
                          .less = below && i == 0,
                          .equal = op->code == OP_EQ || op->code == OP_LE};
    return op->code == OP_EQ || (below && i == 0);
  }
  return false;
}

const moe_fact_t *moe_count_compared(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *sum = value->def, *op = ir_in(sum, 0)->def;
  const ir_type_t *from = &ir_in(sum, 0)->type;
  unsigned n_axes;
  const int64_t *axes = ir_get_ints(sum, ATTR_REDUCE_SUM_axes, &n_axes);
  comparison_t how;
  int64_t shift, size;
  while (op != NULL && op->code == OP_CAST) op = ir_in(op, 0)->def;
  if (op == NULL || value->type.rank != 1 || n_axes + 1 != from->rank ||
      !counts_all(value) || !find_comparison(facts, op, &how))
    return NULL;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, how.numbers));
  const ir_type_t *numbers = &ir_in(op, how.numbers)->type;
  const ir_value_t *with = ir_in(op, 1 - how.numbers);
  if (!shift_of(fact, &shift) || fact->slot >= 0 || numbers->rank == 0 ||
      !expr_is_const(value->type.dim[0], &size))
    return NULL;
  unsigned kept = 0;
  while (kept < n_axes && axes[kept] == (int64_t)kept) kept++;
  int axis = moe_counting_axis(with, size);
  if (axis < 0 || axis + (int)(from->rank - with->type.rank) != (int)kept)
    return NULL;
  for (unsigned d = 0, e; d < numbers->rank; d++) { /* all routes go */
    e = d + from->rank - numbers->rank;
    if (e == kept ? !rule_is_one(numbers->dim[d])
                  : numbers->dim[d] != from->dim[e])
      return NULL;
  }
  if (ir_type_count(facts->pool, from) !=
      expr_mul(facts->pool, fact->source->routes, value->type.dim[0]))
    return NULL;
  moe_fact_t *out =
      moe_fact_new(facts, how.less ? FACT_BOUND : FACT_COUNT, fact->source);
  out->first = (how.less && how.equal ? 1 : 0) - shift;
  return out;
}
