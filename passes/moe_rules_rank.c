/* Facts of places in experts' buffers: numbers that tell the routes of an
 * expert apart, by counting, and one-hot vectors of these. */
#include <math.h>
#include <string.h>

#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"

static const moe_constant_t unknown = {false, 0};

static bool is_number(moe_constant_t c, double x) {
  return c.known && c.x == x;
}

/* ---- Routers with parts -------------------------------------------------- */

int moe_part_index(const moe_source_t *whole, const moe_source_t *part) {
  for (unsigned i = 0; i < whole->n_parts; i++)
    if (whole->part[i] == part) return (int)i;
  return -1;
}

unsigned moe_parts_of(const moe_source_t *source,
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
  const moe_source_t *part[2 * MOE_MAX_PARTS], *found = NULL;
  if (moe_part_index(a, b) >= 0) return a;
  if (moe_part_index(b, a) >= 0) return b;
  unsigned n = moe_parts_of(a, part);
  n += moe_parts_of(b, part + n);
  bool all_known = n <= MOE_MAX_PARTS;
  for (unsigned j = 0; j < n; j++) all_known = all_known && part[j] != NULL;
  for (unsigned i = 0; i < facts->n_joints && all_known; i++) {
    const moe_source_t *joint = facts->joint[i];
    bool has_all = joint->n_parts >= n;
    for (unsigned j = 0; j < n; j++)
      has_all = has_all && moe_part_index(joint, part[j]) >= 0;
    if (has_all && (found == NULL || joint->n_parts < found->n_parts))
      found = joint;
  }
  if (found != NULL || !all_known || a->experts != b->experts ||
      a->tokens != b->tokens || (a->n_parts == 0 && !rule_is_one(a->k)) ||
      (b->n_parts == 0 && !rule_is_one(b->k)))
    return found;
  facts->wanted =
      arena_grow_array(facts->arena, facts->wanted, 2 * facts->n_wanted,
                       2 * facts->n_wanted + 2, sizeof *facts->wanted);
  facts->wanted[2 * facts->n_wanted] = a;
  facts->wanted[2 * facts->n_wanted++ + 1] = b;
  return NULL;
}

/* ---- Comparing ----------------------------------------------------------- */

static bool has_base(const moe_rank_t *rank, const moe_source_t *source) {
  for (unsigned i = 0; i < rank->n_base; i++)
    if (rank->base[i] == source) return true;
  return false;
}

static bool has_same_base(const moe_rank_t *rank, const moe_source_t *source,
                          const expr_t *kept) {
  for (unsigned i = 0; i < rank->n_base; i++)
    if (rank->base[i] == source) return rank->kept[i] == kept;
  return false;
}

bool moe_same_numbering(const moe_rank_t *a, const moe_rank_t *b) {
  if (a == b) return true;
  if (a->counted != b->counted || a->source != b->source ||
      a->order != b->order || a->reverse != b->reverse || a->most != b->most ||
      a->by != b->by || a->n_base != b->n_base || a->n_parts != b->n_parts)
    return false;
  for (unsigned i = 0; i < a->n_base; i++)
    if (!has_same_base(b, a->base[i], a->kept[i])) return false;
  for (unsigned i = 0; i < a->n_parts; i++)
    if (!moe_same_numbering(a->part[i], b->part[i]) ||
        a->part[i]->offset - a->offset != b->part[i]->offset - b->offset)
      return false;
  return true;
}

bool moe_same_rank(const moe_rank_t *a, const moe_rank_t *b) {
  return a->offset == b->offset && moe_same_numbering(a, b);
}

double moe_exact_below(dtype_t dtype) {
  switch (dtype) {
    case DT_F16:
      return 1024;
    case DT_BF16:
      return 128;
    case DT_F32:
    case DT_F64:
    case DT_I32:
    case DT_I64:
    case DT_U32:
    case DT_U64:
      return INFINITY;
    default:
      return 0;
  }
}

const moe_rank_t *moe_typed_rank(moe_facts_t *facts, const moe_rank_t *rank,
                                 dtype_t dtype) {
  double exact = moe_exact_below(dtype);
  if (exact >= rank->exact) return rank;
  if (exact == 0) return NULL;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->exact = exact;
  return copy;
}

/* ---- Counting ------------------------------------------------------------ */

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
  double exact = moe_exact_below(value->type.dtype);
  if (exact == 0) return NULL;
  unsigned tag = mask->tag[axis];
  moe_rank_t *rank = ARENA_NEW(facts->arena, moe_rank_t);
  *rank = (moe_rank_t){.counted = counted, .source = mask->source};
  rank->exact = exact;
  rank->offset = ir_get_int(op, ATTR_CUM_SUM_exclusive) != 0 ? 0 : 1;
  rank->reverse = ir_get_int(op, ATTR_CUM_SUM_reverse) != 0;
  rank->order = (tag & TAG_TURNED) != 0 ? ORDER_SLOTS
                : (tag & TAG_SLOT) != 0 || rule_is_one(mask->source->k)
                    ? ORDER_ROUTES
                    : ORDER_TOKENS;
  moe_fact_t *out = moe_fact_copy(facts, mask);
  out->off = unknown;
  moe_forget_on(out);
  out->rank = rank;
  return out;
}

/* Of a condition that a number of routes is below a limit: the number's rank,
 * and the limit as a capacity; NULL: it is something else. */
static const moe_rank_t *limited_rank(moe_facts_t *facts, ir_value_t *value,
                                      const moe_source_t *source,
                                      const expr_t **out_capacity) {
  enum { MAX_CASTS = 4 };
  for (unsigned i = 0;
       i < MAX_CASTS && value->def != NULL && value->def->code == OP_CAST; i++)
    value = ir_in(value->def, 0);
  const ir_op_t *op = value->def;
  if (op == NULL || (op->code != OP_LT && op->code != OP_LE)) return NULL;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, 0));
  const expr_t *limit = moe_limit_number(facts, ir_in(op, 1));
  if (fact->kind != FACT_GATE || fact->rank == NULL || fact->given != NULL ||
      fact->places != NULL || fact->source != source || fact->rank->gaps ||
      fact->rank->most != NULL ||
      fact->rank->offset != floor(fact->rank->offset) ||
      fabs(fact->rank->offset) > 1 || isfinite(fact->rank->exact) ||
      !rule_same_dims(&ir_in(op, 0)->type, &value->type))
    return NULL;
  int64_t by = (op->code == OP_LE) - (int64_t)fact->rank->offset;
  *out_capacity = moe_plus(facts->pool, limit, expr_const(facts->pool, by));
  return *out_capacity != NULL ? fact->rank : NULL;
}

/* The mask and the capacity of one that leaves routes below it only, counted
 * behind what the same capacity kept of others; NULL: it is none. */
static const moe_fact_t *kept_mask(moe_facts_t *facts, const ir_value_t *value,
                                   const expr_t **out_capacity,
                                   const expr_t **out_group) {
  const ir_op_t *op = value->def;
  if (op == NULL || (op->code != OP_MUL && op->code != OP_AND)) return NULL;
  for (unsigned i = 0; i < 2; i++) {
    const moe_fact_t *mask = moe_fact(facts, ir_in(op, i));
    if (!is_mask(mask) || !rule_same_dims(&ir_in(op, i)->type, &value->type) ||
        !rule_same_dims(&ir_in(op, 1 - i)->type, &value->type) ||
        moe_tag_find(value->type.rank, mask->tag, TAG_EXPERT) < 0)
      continue;
    const moe_rank_t *rank =
        limited_rank(facts, ir_in(op, 1 - i), mask->source, out_capacity);
    if (rank == NULL || rank->n_parts > 0 || !rule_is_one(mask->source->k))
      continue;
    bool all = true;
    for (unsigned j = 0; j < rank->n_base; j++)
      all = all && rank->kept[j] == *out_capacity;
    *out_group = rank->counted;
    if (all) return mask;
  }
  return NULL;
}

/* All of a mask added up over the innermost dimension of tokens. */
static const moe_fact_t *total_of(moe_facts_t *facts, ir_value_t *value,
                                  const moe_fact_t *mask, moe_fact_t *out) {
  const ir_type_t *from = &ir_in(value->def, 0)->type;
  unsigned n;
  const int64_t *axes = ir_get_ints(value->def, ATTR_REDUCE_SUM_axes, &n);
  const expr_t *kept = NULL, *group = NULL;
  if (n == 1 && !is_mask(mask)) {
    const moe_fact_t *whole =
        kept_mask(facts, ir_in(value->def, 0), &kept, &group);
    if (whole != NULL) mask = whole;
  }
  if (n != 1 || !is_mask(mask) || mask->expert >= 0) return NULL;
  const expr_t *counted = counted_tokens(facts, from, mask, (unsigned)axes[0]);
  if (counted == NULL || (kept != NULL && counted != group)) return NULL;
  moe_rank_t *rank = ARENA_NEW(facts->arena, moe_rank_t);
  *rank = (moe_rank_t){.counted = counted, .source = mask->source};
  rank->kept[0] = kept;
  rank->base[rank->n_base++] = mask->source;
  out->kind = FACT_TOTAL;
  out->rank = rank;
  out->off = unknown;
  moe_forget_on(out);
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
  bool picks = is_sum ? gate->off.x == 0
                      : gate->off.x <= gate->rank->offset &&
                            !gate->rank->gaps && gate->rank->most == NULL;
  if (!picks || (!has_slots && !rule_is_one(gate->source->k))) return NULL;
  out->kind = FACT_RANK;
  out->off = unknown;
  moe_forget_on(out);
  return out;
}

/* A count of each expert's routes at that of the token. */
static const moe_fact_t *rank_at_expert(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *gate = moe_fact(facts, ir_in(op, 0));
  const moe_fact_t *index = moe_fact(facts, ir_in(op, 1));
  int64_t axis = ir_get_int(op, ATTR_GATHER_ELEMENTS_axis);
  if (axis < 0) axis += value->type.rank;
  if (gate->kind != FACT_GATE || gate->rank == NULL || gate->places != NULL ||
      !moe_is_expert(index) || index->space != NULL ||
      moe_source_of(index) != gate->source || gate->tag[axis] != TAG_EXPERT)
    return NULL;
  for (unsigned d = 0; d < value->type.rank; d++)
    if ((int64_t)d != axis && (gate->tag[d] != index->tag[d] ||
                               ir_in(op, 0)->type.dim[d] != value->type.dim[d]))
      return NULL;
  moe_fact_t *out = moe_fact_copy(facts, index);
  out->kind = FACT_RANK;
  out->source = gate->source;
  out->slot = -1;
  out->rank = gate->rank;
  out->given = gate->given;
  out->given_tag = gate->given_tag;
  out->unless = gate->unless;
  return out;
}

const moe_fact_t *moe_rule_gather_elements(moe_facts_t *facts,
                                           ir_value_t *value) {
  const moe_fact_t *rank = rank_at_expert(facts, value);
  return rank != NULL ? rank : moe_rule_order(facts, value);
}

/* ---- Arithmetic of ranks ------------------------------------------------- */

static const moe_rank_t *shifted(moe_facts_t *facts, const moe_rank_t *rank,
                                 double by) {
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->offset += by;
  for (unsigned i = 0; i < rank->n_parts; i++)
    copy->part[i] = shifted(facts, rank->part[i], by);
  return copy;
}

/* Which routes a total is of, and in which groups; NULL: it is none. */
static const moe_rank_t *counted_by(moe_facts_t *facts,
                                    const moe_fact_t *total) {
  if (total->kind == FACT_TOTAL) return total->expert < 0 ? total->rank : NULL;
  if (total->kind != FACT_COUNT || total->first != 0) return NULL;
  moe_rank_t *rank = ARENA_NEW(facts->arena, moe_rank_t);
  *rank =
      (moe_rank_t){.counted = total->source->tokens, .source = total->source};
  rank->base[rank->n_base++] = total->source;
  return rank;
}

/* Behind all routes of other routers, in the same groups. */
static const moe_rank_t *behind(moe_facts_t *facts, const moe_rank_t *rank,
                                const moe_fact_t *total) {
  const moe_rank_t *by = counted_by(facts, total);
  if (by == NULL || by->counted != rank->counted || rank->n_parts > 0 ||
      rank->gaps || rank->most != NULL || has_base(by, rank->source) ||
      rank->n_base + by->n_base > MOE_MAX_PARTS)
    return NULL;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  for (unsigned i = 0; i < by->n_base; i++) {
    if (has_base(rank, by->base[i])) return NULL;
    copy->kept[copy->n_base] = by->kept[i];
    copy->base[copy->n_base++] = by->base[i];
  }
  return copy;
}

/* Counts may be those of some experts only. */
static bool has_all_experts(const ir_type_t *type, const moe_fact_t *counts) {
  return type->rank == 1 &&
         expr_equals_const(type->dim[0], counts->source->experts);
}

/* Totals added up. */
static const moe_fact_t *sum_of_totals(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *a = moe_fact(facts, ir_in(op, 0));
  if (op->code == OP_CAST)
    return a->kind == FACT_TOTAL &&
                   !isfinite(moe_exact_below(value->type.dtype))
               ? a
               : NULL;
  if (op->code != OP_ADD || !isinf(moe_exact_below(value->type.dtype)))
    return NULL;
  const moe_fact_t *b = moe_fact(facts, ir_in(op, 1));
  for (unsigned i = 0; i < 2; i++) { /* none are before these */
    const moe_fact_t *total = i == 0 ? a : b;
    double zero;
    if (total->kind == FACT_TOTAL && moe_fill_number(ir_in(op, 1 - i), &zero) &&
        zero == 0 && rule_same_dims(&ir_in(op, i)->type, &value->type))
      return total;
  }
  const moe_rank_t *of[2] = {counted_by(facts, a), counted_by(facts, b)};
  if (of[0] == NULL || of[1] == NULL || a->kind != b->kind ||
      (a->kind == FACT_COUNT && !has_all_experts(&value->type, a)) ||
      !rule_same_dims(&ir_in(op, 0)->type, &value->type) ||
      !rule_same_dims(&ir_in(op, 1)->type, &value->type) ||
      memcmp(a->tag, b->tag, value->type.rank) != 0)
    return NULL;
  const moe_rank_t *all = behind(facts, of[0], b);
  if (all == NULL) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, a);
  out->kind = FACT_TOTAL;
  out->rank = all;
  if (a->kind == FACT_COUNT)
    for (unsigned d = 0; d < value->type.rank; d++) out->tag[d] = TAG_EXPERT;
  return out;
}

/* Totals lie along the same dimension of experts as the gate. */
static bool lines_up(const ir_value_t *total, const moe_fact_t *fact,
                     const ir_type_t *to, const moe_fact_t *gate) {
  unsigned shift = to->rank - total->type.rank;
  if (fact->kind == FACT_COUNT && !has_all_experts(&total->type, fact))
    return false;
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

/* A choice between the rank and a negative number. */
static const moe_rank_t *with_gaps(moe_facts_t *facts, const ir_op_t *op,
                                   unsigned i, const moe_rank_t *rank) {
  double other;
  if (op->code != OP_SELECT || i == 0 ||
      !moe_fill_number(ir_in(op, 3 - i), &other) || other >= 0)
    return NULL;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->gaps = true;
  return copy;
}

/* Whether what numbers are kept to is at least x, too. */
static bool is_least(const moe_rank_t *rank, double x) {
  int64_t least;
  return rank->most == NULL ||
         (expr_lower_bound(rank->most, &least) && (double)least >= x);
}

/* Numbers that are kept to the most that a buffer has places for, say. */
static const moe_rank_t *at_most(moe_facts_t *facts, const moe_rank_t *rank,
                                 const ir_value_t *most) {
  const expr_t *limit = moe_limit_number(facts, most);
  if (limit == NULL || rank->most != NULL || rank->n_parts > 0) return NULL;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->most = limit;
  return copy;
}

/* A choice of something else where the rank is below 0, which no rank that
 * counts from 0 is: as indices from the end are brought to others. */
static bool is_never_negative(const ir_op_t *op, unsigned i,
                              const moe_rank_t *rank) {
  double zero;
  const ir_op_t *below = op->code == OP_SELECT ? ir_in(op, 0)->def : NULL;
  return i == 2 && below != NULL && below->code == OP_LT && !rank->gaps &&
         rank->offset >= 0 && is_least(rank, 0) &&
         ir_in(below, 0) == ir_in(op, 2) &&
         moe_fill_number(ir_in(below, 1), &zero) && zero <= 0;
}

/* The rank where an indicator says so, 0 elsewhere. */
static const moe_rank_t *where_given(moe_facts_t *facts, ir_value_t *value,
                                     unsigned i, moe_fact_t *out) {
  const ir_op_t *op = value->def;
  bool chosen = op->code == OP_SELECT;
  ir_value_t *other = ir_in(op, chosen ? 0 : 1 - i);
  const moe_rank_t *rank = moe_fact(facts, ir_in(op, i))->rank;
  double zero;
  if (chosen &&
      (i == 0 || !moe_fill_number(ir_in(op, 3 - i), &zero) || zero != 0))
    return NULL;
  uint8_t *tag = ARENA_ARRAY(facts->arena, uint8_t, IR_MAX_RANK);
  if (out->given != NULL || rank->gaps || !moe_is_indicator(other) ||
      !moe_tags_broadcast(&value->type, out->tag, &other->type, tag) ||
      !moe_is_by_route(facts, out->source, &other->type, tag))
    return NULL;
  out->given = other;
  out->given_tag = tag;
  out->unless = chosen && i == 2;
  return rank;
}

/* A number that is 0 for routes without one, and now below 0 for these. */
static const moe_rank_t *below_zero(moe_facts_t *facts, const moe_rank_t *rank,
                                    double by, moe_fact_t *out) {
  if (by >= 0 || rank->gaps || rank->most != NULL) return NULL;
  rank = shifted(facts, rank, by);
  ((moe_rank_t *)rank)->gaps = true; /* it is being made */
  out->given = NULL;
  return rank;
}

const moe_rank_t *moe_rank_of_result(moe_facts_t *facts, ir_value_t *value,
                                     unsigned i, const moe_constant_t *on,
                                     moe_fact_t *out) {
  const ir_op_t *op = value->def;
  const moe_rank_t *rank = moe_fact(facts, ir_in(op, i))->rank;
  if (op->code == OP_CAST) return rank;
  if (is_chosen_one(op, i, on) || is_never_negative(op, i, rank)) return rank;
  if (op->code == OP_SELECT) {
    const moe_rank_t *gaps = with_gaps(facts, op, i, rank);
    return gaps != NULL ? gaps : where_given(facts, value, i, out);
  }
  if (op->n_in != 2) return NULL;
  ir_value_t *other = ir_in(op, 1 - i);
  const moe_fact_t *with = moe_fact(facts, other);
  /* elsewhere it is 0, and has to stay so */
  bool steady = out->given == NULL, counts = steady && rank->most == NULL;
  double least;
  switch (op->code) {
    case OP_MIN:
      return steady ? at_most(facts, rank, other) : NULL;
    case OP_MAX: /* with what no number is below */
      return moe_fill_number(other, &least) && least <= rank->offset &&
                     !rank->gaps && (steady || least <= 0) &&
                     is_least(rank, least)
                 ? rank
                 : NULL;
    case OP_ADD:
      if (is_number(on[1 - i], 0)) return rank;
      if (!steady && on[1 - i].known)
        return below_zero(facts, rank, on[1 - i].x, out);
      if (!counts) return NULL;
      if (on[1 - i].known)
        return rank->gaps && on[1 - i].x > 0
                   ? NULL
                   : shifted(facts, rank, on[1 - i].x);
      return lines_up(other, with, &value->type, out)
                 ? behind(facts, rank, with)
                 : NULL;
    case OP_SUB:
      if (i == 0 && !steady && on[1].known)
        return below_zero(facts, rank, -on[1].x, out);
      return i == 0 && on[1].known && counts && !(rank->gaps && on[1].x < 0)
                 ? shifted(facts, rank, -on[1].x)
                 : NULL;
    case OP_MUL:
      return is_number(on[1 - i], 1) ? rank : where_given(facts, value, i, out);
    default:
      return NULL;
  }
}

/* ---- Ranks as numbers of routes ------------------------------------------ */

/* Numbers of the slots of parts, side by side. */
const moe_fact_t *moe_rule_concat_ranks(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  const moe_source_t *whole = first->source;
  for (unsigned i = 1; i < op->n_in && whole != NULL; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_RANK) return NULL;
    whole = moe_joint_source(facts, whole, fact->source);
  }
  if (whole == NULL || whole->n_parts != op->n_in) return NULL;
  for (unsigned i = 0; i < op->n_in; i++)
    if (whole->part[i] != moe_fact(facts, ir_in(op, i))->source) return NULL;
  moe_rank_t *rank = ARENA_NEW(facts->arena, moe_rank_t);
  *rank = *first->rank;
  rank->source = whole;
  rank->n_base = 0;
  rank->n_parts = op->n_in;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_RANK || fact->given != NULL || fact->rank->gaps ||
        fact->rank->most != NULL || fact->rank->n_parts > 0 ||
        fact->tag[axis] != TAG_INNER ||
        fact->rank->offset != first->rank->offset ||
        !rule_is_one(ir_in(op, i)->type.dim[axis]) ||
        memcmp(fact->tag, first->tag, value->type.rank) != 0)
      return NULL;
    rank->part[i] = fact->rank;
  }
  moe_fact_t *out = moe_fact_copy(facts, first);
  out->source = whole;
  out->rank = rank;
  out->tag[axis] = TAG_SLOT;
  return out;
}

const moe_fact_t *moe_rule_rank(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = &moe_no_fact;
  unsigned at = 0;
  enum { MAX_IN = 3 };
  if (op->n_in > MAX_IN) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *own = moe_fact(facts, ir_in(op, i));
    bool wanted = own->kind == FACT_RANK || own->kind == FACT_BUFFER ||
                  own->kind == FACT_TOTAL;
    bool chosen =
        i == 2 && own->kind == FACT_RANK && is_never_negative(op, i, own->rank);
    if (!wanted || (fact->kind != FACT_NONE && !chosen)) continue;
    fact = own;
    at = i;
  }
  const moe_fact_t *buffer = moe_rule_buffer(facts, value);
  if (buffer != NULL || fact->kind == FACT_BUFFER) return buffer;
  if (fact->kind != FACT_RANK) return sum_of_totals(facts, value);
  moe_constant_t on[MAX_IN] = {{0}};
  for (unsigned i = 0; i < op->n_in; i++)
    on[i].known = moe_fill_number(ir_in(op, i), &on[i].x);
  if (!rule_same_dims(&ir_in(op, at)->type, &value->type)) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->rank = moe_rank_of_result(facts, value, at, on, out);
  if (out->rank != NULL)
    out->rank = moe_typed_rank(facts, out->rank, value->type.dtype);
  return out->rank != NULL ? out : NULL;
}
