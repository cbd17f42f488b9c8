/* Facts through changes of shape. */
#include <math.h>
#include <string.h>

#include "passes/moe_integers.h"
#include "passes/moe_picks.h"
#include "passes/moe_rules.h"

const moe_fact_t *moe_rule_expand(moe_facts_t *facts, ir_value_t *value) {
  ir_value_t *from = ir_in(value->def, 0);
  const moe_fact_t *fact = moe_fact(facts, from);
  if (fact->kind == FACT_NONE || fact->kind == FACT_COUNT ||
      fact->kind == FACT_BOUND)
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  unsigned shift = value->type.rank - from->type.rank;
  for (unsigned d = 0; d < value->type.rank; d++) {
    out->tag[d] = TAG_INNER;
    if (d < shift) continue;
    unsigned tag = fact->tag[d - shift];
    bool same = from->type.dim[d - shift] == value->type.dim[d];
    out->tag[d] =
        (uint8_t)(same || !rule_is_one(from->type.dim[d - shift]) ? tag
                                                                  : TAG_INNER);
  }
  return out;
}

/* [T, experts] of numbers that were written where token * experts + expert are:
 * something at each of a token's experts, a constant at all others. */
static const moe_fact_t *flat_gate(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = ir_in(value->def, 0)->def;
  if (op == NULL || op->code != OP_SCATTER_ELEMENTS || value->type.rank != 2 ||
      op->out[0].type.rank != 1 || !rule_scatters_by(op, "none"))
    return NULL;
  bool expert_first = false;
  double off;
  uint8_t tag[IR_MAX_RANK];
  const moe_fact_t *index =
      moe_flat_expert(facts, ir_in(op, 1), tag, &expert_first);
  if (index->kind == FACT_NONE || expert_first || index->slot >= 0 ||
      !index->source->distinct || !moe_fill_number(ir_in(op, 0), &off) ||
      value->type.dim[0] != index->source->tokens ||
      ir_type_count(facts->pool, &ir_in(op, 2)->type) !=
          index->source->routes ||
      !expr_equals_const(value->type.dim[1], index->source->experts))
    return NULL;
  moe_fact_t *out = moe_fact_new(facts, FACT_GATE, index->source);
  out->tag[0] = TAG_TOKEN;
  out->tag[1] = TAG_EXPERT;
  out->off = (moe_constant_t){true, off};
  out->on.known = moe_fill_number(ir_in(op, 2), &out->on.x);
  bool turned = index->source->slot >= 0 &&
                index->source->slot + 1 != (int)index->source->index->type.rank;
  if (!turned) out->at_route = ir_in(op, 2);
  return out;
}

const moe_fact_t *moe_rule_reshape(moe_facts_t *facts, ir_value_t *value) {
  ir_value_t *from = ir_in(value->def, 0);
  const moe_fact_t *fact = moe_fact(facts, from);
  const moe_fact_t *slots = moe_rule_group_slots(facts, value);
  if (slots != NULL) return slots;
  if (fact->kind == FACT_NONE) return flat_gate(facts, value);
  if (fact->kind == FACT_COUNT || fact->kind == FACT_BOUND)
    return value->type.rank <= 1 ? fact : NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  if (fact->kind == FACT_COORDS || fact->kind == FACT_TUPLE) {
    /* the one coordinate of a mask with one dimension */
    unsigned over = fact->kind == FACT_COORDS ? 0 : 1;
    if (!rule_is_one(from->type.dim[over])) return NULL;
    out->kind = FACT_ROUTE;
    out->tag[over] = TAG_INNER;
    out->tag[1 - over] = TAG_ROW;
    fact = moe_fact_copy(facts, out);
  }
  /* of masks' rows together, the same number by the name of the routes */
  bool renamed = fact->kind == FACT_ROUTE && fact->space != NULL &&
                 fact->space->code == OP_CONCAT && fact->tag[0] == TAG_ROW &&
                 from->type.rank == 1 && value->type.rank == 1 &&
                 value->type.dim[0] == fact->source->routes;
  return renamed || moe_tags_reshape(fact->source, &from->type, fact->tag,
                                     &value->type, out->tag)
             ? out
             : NULL;
}

const moe_fact_t *moe_rule_transpose(moe_facts_t *facts, ir_value_t *value) {
  const moe_fact_t *fact = moe_fact(facts, ir_in(value->def, 0));
  if (fact->kind == FACT_NONE) return NULL;
  unsigned n;
  const int64_t *perm = ir_get_ints(value->def, ATTR_TRANSPOSE_perm, &n);
  moe_fact_t *out = moe_fact_copy(facts, fact);
  if (fact->kind == FACT_COORDS || fact->kind == FACT_TUPLE) {
    out->kind = fact->kind == FACT_COORDS ? FACT_TUPLE : FACT_COORDS;
    return n == 2 && perm[0] == 1 ? out : NULL;
  }
  int64_t last_token = -1;
  for (unsigned d = 0; d < n; d++) {
    out->tag[d] = fact->tag[perm[d]];
    if ((out->tag[d] & TAG_TOKEN) == 0) continue;
    if (perm[d] < last_token) return NULL; /* tokens keep their order */
    last_token = perm[d];
  }
  return out;
}

/* Some consecutive numbers of experts' counts or bounds. */
static const moe_fact_t *slice_counts(moe_facts_t *facts, ir_value_t *value,
                                      const moe_fact_t *fact) {
  unsigned n;
  int64_t start, step;
  const ir_op_t *op = value->def;
  if (value->type.rank != 1 ||
      !expr_is_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[0], &start) ||
      !expr_is_const(ir_get_exprs(op, ATTR_SLICE_step, &n)[0], &step) ||
      step != 1)
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->first += start;
  return out;
}

/* One row or column of coordinates. */
static const moe_fact_t *slice_coords(moe_facts_t *facts, ir_value_t *value,
                                      const moe_fact_t *fact) {
  unsigned n, axis = fact->kind == FACT_COORDS ? 0 : 1;
  int64_t start;
  const ir_op_t *op = value->def;
  if (value->type.rank != 2 || !rule_slices_all(op, 1 - axis) ||
      !rule_is_one(value->type.dim[axis]) ||
      !expr_is_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[axis], &start))
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->kind = FACT_ROUTE;
  out->linear = &fact->linear[start];
  out->tag[axis] = TAG_INNER;
  out->tag[1 - axis] = TAG_ROW;
  return moe_coordinate(facts, out);
}

/* Whether its numbers are given, and whether all of them are experts. */
static void keep_kind(const moe_fact_t *some, const moe_source_t *from) {
  moe_source_t *source = (moe_source_t *)some->source; /* it is being made */
  source->given = from->given;
  source->some = from->some;
}

/* Some of a token's slots: a router of its own, or one slot of this one. */
static const moe_fact_t *slice_slots(moe_facts_t *facts, ir_value_t *value,
                                     const moe_fact_t *fact) {
  const ir_op_t *op = value->def;
  int slot = -1;
  for (unsigned d = 0; d < value->type.rank; d++) {
    if (rule_slices_all(op, d)) continue;
    if (fact->tag[d] != TAG_SLOT || slot >= 0) return NULL;
    slot = (int)d;
  }
  unsigned n;
  int64_t start;
  const expr_t *const *starts = ir_get_exprs(op, ATTR_SLICE_start, &n);
  bool label = fact->kind == FACT_LABEL;
  if (slot < 0 || fact->space != NULL || (fact->map != NULL && !label) ||
      fact->slot >= 0 || !expr_is_const(starts[slot], &start))
    return NULL;
  if (!rule_is_one(value->type.dim[slot]) && label) return NULL;
  if (!rule_is_one(value->type.dim[slot])) {
    const moe_fact_t *some = moe_new_router(
        facts, value, slot, fact->source->experts, fact->source->distinct);
    keep_kind(some, fact->source);
    return some;
  }
  facts->has_slots = true;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->slot = start;
  out->tag[slot] = TAG_INNER;
  return out;
}

/* Some of a router's tokens, one of several prototypes say: a router. */
static const moe_fact_t *slice_tokens(moe_facts_t *facts, ir_value_t *value,
                                      const moe_fact_t *fact) {
  int slot = -1;
  if (!moe_is_expert(fact) || fact->space != NULL || fact->slot >= 0)
    return NULL;
  for (unsigned d = 0; d < value->type.rank; d++) {
    if (fact->tag[d] == TAG_SLOT && slot < 0 && rule_slices_all(value->def, d))
      slot = (int)d;
    else if (fact->tag[d] != TAG_TOKEN)
      return NULL;
  }
  const moe_fact_t *some = moe_new_router(
      facts, value, slot, fact->source->experts, fact->source->distinct);
  keep_kind(some, fact->source);
  return some;
}

const moe_fact_t *moe_rule_slice(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, 0));
  if (fact->kind == FACT_NONE) return NULL;
  if (fact->kind == FACT_COUNT || fact->kind == FACT_BOUND)
    return slice_counts(facts, value, fact);
  if (fact->kind == FACT_COORDS || fact->kind == FACT_TUPLE)
    return slice_coords(facts, value, fact);
  if (fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL) {
    const moe_fact_t *slots = slice_slots(facts, value, fact);
    return slots != NULL ? slots : slice_tokens(facts, value, fact);
  }
  moe_fact_t *out = moe_fact_copy(facts, fact);
  for (unsigned d = 0; d < value->type.rank; d++) {
    unsigned n;
    int64_t start;
    if (rule_slices_all(op, d) || fact->tag[d] == TAG_INNER) continue;
    if (fact->tag[d] != TAG_EXPERT || !rule_is_one(value->type.dim[d]) ||
        !expr_equals_const(ir_in(op, 0)->type.dim[d], fact->source->experts) ||
        fact->places != NULL ||
        !expr_is_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[d], &start))
      return NULL;
    out->expert = start;
    out->tag[d] = TAG_INNER;
  }
  return out;
}

/* Columns of coordinates side by side: the indices of gather_nd, scatter_nd. */
static const moe_fact_t *concat_tuple(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (value->type.rank != 2 || ir_get_int(op, ATTR_CONCAT_axis) != 1)
    return NULL;
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  moe_linear_t *linear = ARENA_ARRAY(facts->arena, moe_linear_t, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    const moe_linear_t *own =
        fact->linear != NULL ? fact->linear : fact->coordinate;
    if (own == NULL || own->by != NULL || fact->map != NULL ||
        fact->space != first->space || fact->tag[0] != TAG_ROW ||
        !rule_is_one(ir_in(op, i)->type.dim[1]))
      return NULL;
    linear[i] = *own;
  }
  moe_fact_t *out = moe_fact_copy(facts, first);
  out->kind = FACT_TUPLE;
  out->linear = linear;
  return out;
}

/* Experts of several slots side by side, from one router each. */
static const moe_fact_t *concat_bounds(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  int64_t zero;
  if (value->type.rank != 1 || op->n_in != 2 ||
      !rule_splat_int(ir_in(op, 0), &zero) || zero != 0 ||
      !rule_is_one(ir_in(op, 0)->type.dim[0]))
    return NULL;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, 1));
  if (fact->kind != FACT_BOUND || fact->first != 1) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->first = 0;
  return out;
}

/* Numbers of consecutive experts, one behind the other. */
static const moe_fact_t *concat_counts(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  int64_t next = first->first, n;
  if (value->type.rank != 1) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != first->kind || fact->source != first->source ||
        fact->first != next || !expr_is_const(ir_in(op, i)->type.dim[0], &n))
      return NULL;
    next += n;
  }
  return first;
}

/* Whether the choice of one round cannot be that of another: what the later one
 * chose from is -inf there. */
static bool excludes(moe_facts_t *facts, const moe_fact_t *earlier,
                     const ir_value_t *later) {
  const ir_op_t *op = later->def;
  int64_t none;
  for (;;) { /* of a choice that may be dropped, too */
    if (op != NULL && (op->code == OP_RESHAPE || op->code == OP_CAST))
      op = ir_in(op, 0)->def;
    else if (op != NULL && op->code == OP_SELECT &&
             rule_splat_int(ir_in(op, 2), &none) && none < 0)
      op = ir_in(op, 1)->def;
    else
      break;
  }
  if (op == NULL || (op->code != OP_ARG_MAX && op->code != OP_TOPK))
    return false;
  const moe_fact_t *scores = moe_fact(facts, ir_in(op, 0));
  return scores->kind == FACT_GATE && scores->source == earlier->source &&
         scores->on.known && isinf(scores->on.x) && scores->on.x < 0;
}

/* Remembers which routers' choices are the slots. */
static void note_parts(moe_facts_t *facts, const ir_op_t *op,
                       const moe_source_t *source) {
  moe_source_t *whole = (moe_source_t *)source; /* it is being made */
  unsigned n = 0;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_source_t *part = moe_fact(facts, ir_in(op, i))->source;
    unsigned own = part->n_parts > 0 ? part->n_parts : 1;
    if ((part->n_parts == 0 && !rule_is_one(part->k)) ||
        n + own > MOE_MAX_PARTS)
      return;
    for (unsigned j = 0; j < own; j++)
      whole->part[n++] = part->n_parts > 0 ? part->part[j] : part;
  }
  whole->n_parts = n;
  facts->joint = arena_grow_array(facts->arena, facts->joint, facts->n_joints,
                                  facts->n_joints + 1, sizeof *facts->joint);
  facts->joint[facts->n_joints++] = source;
}

/* The router that has the same choices as its slots already; NULL: none. */
static const moe_source_t *known_parts(moe_facts_t *facts, const ir_op_t *op) {
  for (unsigned i = 0; i < facts->n_joints; i++) {
    const moe_source_t *joint = facts->joint[i];
    bool same = joint->n_parts == op->n_in;
    for (unsigned j = 0; same && j < op->n_in; j++) {
      const moe_source_t *part = moe_fact(facts, ir_in(op, j))->source;
      same = joint->part[j] == part && part->n_parts == 0;
    }
    if (same) return joint;
  }
  return NULL;
}

/* All slots of a router, in order, side by side again. */
static const moe_fact_t *concat_all_slots(moe_facts_t *facts,
                                          ir_value_t *value) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis), k;
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  if (!expr_is_const(first->source->k, &k) || k != (int64_t)op->n_in)
    return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_EXPERT || fact->source != first->source ||
        fact->space != NULL || fact->map != NULL || fact->slot != (int64_t)i ||
        fact->tag[axis] != TAG_INNER ||
        !rule_is_one(ir_in(op, i)->type.dim[axis]) ||
        memcmp(fact->tag, first->tag, value->type.rank) != 0)
      return NULL;
  }
  moe_fact_t *out = moe_fact_copy(facts, first);
  out->slot = -1;
  out->tag[axis] = TAG_SLOT;
  return out;
}

/* Experts of several rounds of choosing, side by side. */
static const moe_fact_t *concat_slots(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  bool distinct = true;
  if (first->slot >= 0) return concat_all_slots(facts, value);
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (!moe_is_expert(fact) || fact->space != NULL || fact->slot >= 0 ||
        fact->source->experts != first->source->experts ||
        fact->source->tokens != first->source->tokens ||
        (fact->tag[axis] & TAG_TOKEN) != 0)
      return NULL;
    distinct = distinct && fact->source->distinct;
    for (unsigned j = 0; j < i; j++)
      distinct = distinct &&
                 excludes(facts, moe_fact(facts, ir_in(op, j)), ir_in(op, i));
  }
  const moe_source_t *known = known_parts(facts, op);
  const moe_fact_t *fact =
      moe_new_router(facts, value, (int)axis, first->source->experts, distinct);
  moe_source_t *source = (moe_source_t *)fact->source; /* it is being made */
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_source_t *part = moe_fact(facts, ir_in(op, i))->source;
    source->some = source->some || part->some;
    source->given = source->given || part->given;
  }
  if (known == NULL) {
    note_parts(facts, op, fact->source);
    return fact;
  }
  moe_fact_t *out = moe_fact_copy(facts, fact);
  out->source = known;
  return out;
}

/* What is known of the experts' numbers in one operand of a concat. */
typedef struct numbers {
  int64_t lo, hi;
  bool distinct;
} numbers_t;

/* Numbers that a router's choices are, perhaps renamed. */
static bool chosen_numbers(const moe_fact_t *fact, numbers_t *out) {
  int64_t n = fact->source->experts;
  if (fact->space != NULL || fact->slot >= 0) return false;
  *out = (numbers_t){0, n - 1, fact->source->distinct};
  for (int64_t e = 0; fact->map != NULL && e < n; e++) {
    double x = fact->map[e];
    if (!(x >= 0 && x < 1e9)) return false;
    if (e == 0) out->lo = out->hi = (int64_t)x;
    if (e > 0 && x <= fact->map[e - 1]) out->distinct = false;
    if ((int64_t)x < out->lo) out->lo = (int64_t)x;
    if ((int64_t)x > out->hi) out->hi = (int64_t)x;
  }
  return true;
}

/* Numbers that are the same for all tokens. */
static bool steady_numbers(const ir_value_t *value, int64_t axis,
                           numbers_t *out) {
  moe_integers_t bounds = moe_integers_of(value);
  unsigned last = value->type.rank - 1;
  *out = (numbers_t){bounds.lo, bounds.hi, rule_is_one(value->type.dim[axis])};
  while (value->def != NULL && value->def->code == OP_EXPAND)
    value = ir_in(value->def, 0);
  const ir_type_t *type = &value->type;
  if (axis == (int64_t)last && rule_is_constant(value) && type->rank >= 2 &&
      value->def->code == OP_CONSTANT &&
      !rule_is_one(type->dim[type->rank - 1]))
    out->distinct = moe_integers_rows_differ(value->def);
  return bounds.lo >= 0 && bounds.hi < INT32_MAX;
}

/* Choices beside experts that all tokens have, say: one router of all these. */
static const moe_fact_t *concat_numbers(moe_facts_t *facts, ir_value_t *value) {
  enum { MAX_OPERANDS = 16 };
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis), most = 0;
  numbers_t in[MAX_OPERANDS];
  bool chosen = false, distinct = true;
  if (!dtype_is_integer(value->type.dtype) || op->n_in > MAX_OPERANDS ||
      value->type.rank < 2)
    return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    bool chooses = fact->kind == FACT_EXPERT;
    if (chooses ? !chosen_numbers(fact, &in[i])
                : fact->kind != FACT_NONE ||
                      !steady_numbers(ir_in(op, i), axis, &in[i]))
      return NULL;
    for (unsigned d = 0; chooses && d < value->type.rank; d++)
      if ((int64_t)d == axis ? (fact->tag[d] & TAG_TOKEN) != 0
                             : fact->tag[d] != TAG_TOKEN)
        return NULL;
    chosen = chosen || chooses;
    distinct = distinct && in[i].distinct;
    for (unsigned j = 0; j < i; j++)
      distinct = distinct && (in[j].hi < in[i].lo || in[i].hi < in[j].lo);
    if (in[i].hi > most) most = in[i].hi;
  }
  return chosen ? moe_new_router(facts, value, (int)axis, most + 1, distinct)
                : NULL;
}

/* What all experts have, one behind the other along an axis of their own. */
static const moe_fact_t *concat_experts(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  if ((int64_t)op->n_in != first->source->experts) return NULL;
  for (unsigned e = 0; e < op->n_in; e++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, e));
    if (fact->kind != FACT_GATE || fact->source != first->source ||
        fact->places != NULL || fact->space != first->space ||
        fact->expert != (int64_t)e ||
        !rule_is_one(ir_in(op, e)->type.dim[axis]) || !fact->off.known ||
        fact->off.x != first->off.x ||
        memcmp(fact->tag, first->tag, value->type.rank) != 0)
      return NULL;
  }
  moe_fact_t *out = moe_fact_copy(facts, first);
  out->expert = -1;
  out->tag[axis] = TAG_EXPERT;
  moe_forget_on(out);
  out->rank = NULL;
  return out;
}

const moe_fact_t *moe_rule_concat(moe_facts_t *facts, ir_value_t *value) {
  moe_fact_kind_t kind = moe_fact(facts, ir_in(value->def, 0))->kind;
  if (kind == FACT_EXPERT) {
    const moe_fact_t *slots = concat_slots(facts, value);
    return slots != NULL ? slots : concat_numbers(facts, value);
  }
  if (kind == FACT_GATE) return concat_experts(facts, value);
  if (kind == FACT_COUNT || kind == FACT_BOUND)
    return concat_counts(facts, value);
  if (kind == FACT_RANK) return moe_rule_concat_ranks(facts, value);
  const moe_fact_t *fact = moe_joined_masks(facts, value->def);
  if (fact == NULL) fact = concat_tuple(facts, value);
  if (fact == NULL) fact = concat_bounds(facts, value);
  return fact != NULL || kind != FACT_NONE ? fact
                                           : concat_numbers(facts, value);
}
