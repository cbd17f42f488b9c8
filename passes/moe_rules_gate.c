/* Facts of gates: values whose elements are known where an expert is not one of
 * the token's. Arithmetic is done on two constants, that of the other experts
 * and, where there is one, that of the token's own ones. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "passes/moe_rules.h"

static const moe_constant_t unknown = {false, 0};

static moe_constant_t constant(double x) { return (moe_constant_t){true, x}; }

/* -inf, or the lowest number of 32 bits: so far below all others that exp of
 * the difference is 0. Nothing that is added to it changes that. */
static bool is_lowest(double x) { return x <= -(double)FLT_MAX; }

static bool is_zero(moe_constant_t c) { return c.known && c.x == 0; }

/* ---- Arithmetic ---------------------------------------------------------- */

static moe_constant_t compute_unary(ir_opcode_t code, double x) {
  bool low = is_lowest(x);
  switch (code) {
    case OP_NEG:
      return constant(-x);
    case OP_ABS:
      return constant(fabs(x));
    case OP_NOT:
      return constant(x == 0);
    case OP_EXP:
      return low ? constant(0) : x == 0 ? constant(1) : unknown;
    case OP_LOG:
      return x == 0 ? constant(-INFINITY) : x == 1 ? constant(0) : unknown;
    case OP_SIGMOID:
      return low ? constant(0) : unknown;
    case OP_SQRT:
    case OP_SIGN:
    case OP_TANH:
    case OP_ERF:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_TRUNC:
      return x == 0 ? constant(0) : unknown;
    default:
      return unknown;
  }
}

/* With one operand that is not known: finite, and not 0 as a divisor. */
static moe_constant_t compute_half(ir_opcode_t code, moe_constant_t x,
                                   moe_constant_t y) {
  switch (code) {
    case OP_MUL:
    case OP_AND:
      return is_zero(x) || is_zero(y) ? constant(0) : unknown;
    case OP_DIV:
      return is_zero(x) ? constant(0) : unknown;
    case OP_ADD: /* what is infinite stays so */
    case OP_SUB:
      if (x.known && fabs(x.x) >= FLT_MAX) return x;
      if (y.known && fabs(y.x) >= FLT_MAX)
        return constant(code == OP_ADD ? y.x : -y.x);
      return unknown;
    case OP_OR:
      return (x.known && x.x != 0) || (y.known && y.x != 0) ? constant(1)
                                                            : unknown;
    default:
      return unknown;
  }
}

static moe_constant_t compute_binary(ir_opcode_t code, moe_constant_t x,
                                     moe_constant_t y) {
  if (!x.known || !y.known) return compute_half(code, x, y);
  double result;
  bool known = rule_compute(code, x.x, y.x, &result) && !isnan(result);
  return known ? constant(result) : unknown;
}

static moe_constant_t compute_cast(const ir_op_t *op, double x) {
  if (op->out[0].type.dtype == DT_BOOL) return constant(x != 0);
  return isinf(x) || x == floor(x) ? constant(x) : unknown;
}

static moe_constant_t compute(const ir_op_t *op, const moe_constant_t *in) {
  if (op->code == OP_SELECT) {
    if (in[0].known) return in[0].x != 0 ? in[1] : in[2];
    bool same = in[1].known && in[2].known && in[1].x == in[2].x;
    return same ? in[1] : unknown;
  }
  if (op->n_in == 2) return compute_binary(op->code, in[0], in[1]);
  if (op->n_in != 1 || !in[0].known) return unknown;
  return op->code == OP_CAST ? compute_cast(op, in[0].x)
                             : compute_unary(op->code, in[0].x);
}

/* ---- One expert, or each of them, compared with the chosen ones ---------- */

static void broadcast_tags(const ir_type_t *from, const uint8_t *tag,
                           const ir_type_t *to, uint8_t *out) {
  unsigned shift = to->rank - from->rank;
  for (unsigned d = 0; d < to->rank; d++) {
    bool grows = d < shift || from->dim[d - shift] != to->dim[d];
    out[d] = grows ? TAG_INNER : tag[d - shift];
  }
}

/* Whether numbers of all experts may be looked at once more. */
static bool may_search(moe_facts_t *facts, const moe_source_t *source) {
  enum { MAX_SEARCHED = 1 << 28 }; /* in all */
  if (source->experts > MAX_SEARCHED - facts->n_searched) return false;
  facts->n_searched += source->experts;
  return true;
}

/* The expert whose number this is; -1: none, or several. */
static int64_t expert_of_number(moe_facts_t *facts, const moe_fact_t *fact,
                                int64_t number) {
  int64_t found = -1, n = fact->source->experts;
  if (fact->map == NULL) return number >= 0 && number < n ? number : -1;
  if (!may_search(facts, fact->source)) return -1;
  for (int64_t e = 0; e < n; e++) {
    if (fact->map[e] != (double)number) continue;
    if (found >= 0) return -1;
    found = e;
  }
  return found;
}

/* Facts of numbers that tell experts apart when they are compared. */
static bool is_compared(const moe_fact_t *fact) {
  return fact->kind == FACT_EXPERT ||
         (fact->kind == FACT_LABEL && !fact->indexes);
}

static const moe_fact_t *one_hot(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  unsigned side = is_compared(moe_fact(facts, ir_in(op, 0))) ? 0 : 1;
  const moe_fact_t *fact = moe_fact(facts, ir_in(op, side));
  if (op->code != OP_EQ || !is_compared(fact)) return NULL;
  const ir_value_t *with = ir_in(op, 1 - side);
  /* a slot's numbers are a router of their own, but labels are not numbers */
  const moe_source_t *source =
      fact->kind == FACT_EXPERT
          ? moe_source_of_slot(facts, fact, ir_in(op, side))
      : fact->slot < 0 ? fact->source
                       : NULL;
  moe_fact_t *out =
      moe_fact_new(facts, FACT_GATE, source != NULL ? source : fact->source);
  out->off = constant(0);
  out->on = source != NULL ? constant(1) : unknown;
  out->space = fact->space;
  broadcast_tags(&ir_in(op, side)->type, fact->tag, &value->type, out->tag);
  int64_t number;
  if (rule_splat_int(with, &number)) {
    out->expert = expert_of_number(facts, fact, number);
    return out->expert >= 0 ? out : NULL;
  }
  if (fact->map != NULL || !may_search(facts, fact->source)) return NULL;
  int axis = moe_counting_axis(with, fact->source->experts);
  if (axis < 0) return NULL;
  unsigned d = (unsigned)axis + value->type.rank - with->type.rank;
  if (out->tag[d] != TAG_INNER) return NULL;
  out->tag[d] = TAG_EXPERT;
  return out;
}

/* ---- Elementwise --------------------------------------------------------- */

/* Whether an operand is a gate of the result's router, or of a part of it. */
static bool is_gate_of(const moe_fact_t *fact, const moe_fact_t *out) {
  return fact->kind == FACT_GATE && fact->space == out->space &&
         (fact->source == out->source || fact->source == out->source->within ||
          moe_part_index(out->source, fact->source) >= 0);
}

/* A single token has any dimension of size 1, where that of the operand went
 * into others. */
static void keep_token(const ir_value_t *value, moe_fact_t *out) {
  if (!rule_is_one(out->source->tokens) ||
      (moe_tag_union(value->type.rank, out->tag) & TAG_TOKEN) != 0)
    return;
  for (unsigned d = 0; d < value->type.rank; d++)
    if (out->tag[d] == TAG_INNER && rule_is_one(value->type.dim[d])) {
      out->tag[d] = TAG_TOKEN;
      return;
    }
}

/* Tags of the result; false where operands disagree. */
static bool merge_tags(moe_facts_t *facts, ir_value_t *value, moe_fact_t *out) {
  const ir_op_t *op = value->def;
  for (unsigned d = 0; d < value->type.rank; d++) out->tag[d] = TAG_INNER;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (!is_gate_of(fact, out)) continue;
    uint8_t tag[IR_MAX_RANK];
    broadcast_tags(&ir_in(op, i)->type, fact->tag, &value->type, tag);
    for (unsigned d = 0; d < value->type.rank; d++) {
      if (tag[d] == TAG_INNER) continue;
      if (out->tag[d] != TAG_INNER && out->tag[d] != tag[d]) return false;
      out->tag[d] = tag[d];
    }
  }
  keep_token(value, out);
  return true;
}

/* An element by where it is: at other experts, at the token's own ones, and
 * there at other places. */
typedef struct where {
  moe_constant_t off, on, other;
} where_t;

/* What a part's gate is, seen from the router of all parts: nothing is known at
 * the experts that other parts chose. */
static where_t seen_from_whole(const moe_fact_t *fact) {
  bool same = fact->off.known && fact->other.known && fact->places != NULL &&
              fact->off.x == fact->other.x;
  return (where_t){.off = fact->off, .other = same ? fact->off : unknown};
}

/* Of a router of which others keep some routes, seen from one of these: at the
 * experts of routes that it does not keep, what is 0 there. */
static where_t seen_from_fewer(moe_facts_t *facts, const moe_fact_t *out,
                               const moe_fact_t *fact, ir_value_t *operand) {
  const moe_condition_t kept = {.source = out->source,
                                .given = out->source->kept,
                                .tag = out->source->kept_tag};
  bool plain = fact->places == NULL && fact->rank == NULL;
  where_t at = {.off = unknown};
  if (plain) at.on = at.other = fact->on;
  if (plain && is_zero(fact->off) &&
      moe_vanishes(facts, &kept, operand, fact->tag))
    at.off = fact->off;
  return at;
}

/* What is known of an operand, seen from the result. */
static where_t operand_constants(moe_facts_t *facts, const moe_fact_t *out,
                                 unsigned tags, ir_value_t *operand) {
  const moe_fact_t *fact = moe_fact(facts, operand);
  where_t at = {.off = unknown};
  double x;
  if (moe_fill_number(operand, &x)) {
    at.off = at.on = at.other = constant(x);
  } else if (is_gate_of(fact, out) && fact->expert == out->expert) {
    unsigned own = moe_tag_union(operand->type.rank, fact->tag);
    bool by_slot = (tags & TAG_SLOT) != 0, by_expert = (tags & TAG_EXPERT) != 0;
    bool has_places = fact->places != NULL;
    if (fact->source == out->source->within)
      return seen_from_fewer(facts, out, fact, operand);
    if (fact->source != out->source) return seen_from_whole(fact);
    at.on = fact->on;
    at.other = has_places ? fact->other : fact->on;
    at.off = fact->off;
    if ((by_slot && (own & TAG_SLOT) == 0) ||
        (by_expert && has_places && (own & TAG_EXPERT) == 0))
      at.off = unknown;
  }
  return at;
}

/* A value whose elements, in order, are those of the routes. */
static bool lies_by_route(const moe_source_t *source, const ir_type_t *type,
                          const uint8_t *tag) {
  unsigned seen = 0;
  for (unsigned d = 0; d < type->rank; d++) {
    if (rule_is_one(type->dim[d]) && (tag[d] & (TAG_INNER | TAG_GONE)) != 0)
      continue;
    if ((tag[d] & ~(unsigned)(TAG_TOKEN | TAG_SLOT)) != 0) return false;
    if ((seen & TAG_SLOT) != 0) return false;
    seen |= tag[d];
  }
  bool has_slots = (seen & TAG_SLOT) != 0 || rule_is_one(source->k);
  return (seen & TAG_TOKEN) != 0 && has_slots;
}

/* The operand that the result equals where the expert is the token's own. */
static void keep_route_value(moe_facts_t *facts, ir_value_t *value,
                             const moe_constant_t *on, moe_fact_t *out) {
  const ir_op_t *op = value->def;
  int from = -1;
  if (op->code == OP_SELECT && on[0].known)
    from = on[0].x != 0 ? 1 : 2;
  else if (op->code == OP_MUL && on[0].known && on[0].x == 1)
    from = 1;
  else if (op->code == OP_MUL && on[1].known && on[1].x == 1)
    from = 0;
  if (from < 0) return;
  ir_value_t *operand = ir_in(op, (unsigned)from);
  const moe_fact_t *fact = moe_fact(facts, operand);
  uint8_t tag[IR_MAX_RANK];
  if (fact->kind == FACT_GATE && fact->source != out->source) {
    return;
  } else if (fact->kind == FACT_GATE) {
    out->at_route = fact->at_route;
    out->at_slot = fact->at_slot;
  } else if (moe_tags_broadcast(&value->type, out->tag, &operand->type, tag) &&
             lies_by_route(out->source, &operand->type, tag)) {
    out->at_route = operand;
  }
}

/* One expert's gates of the parts of a router, added: what each slot adds where
 * it has the expert. A token has it in one slot at most. */
static void keep_slot_values(moe_facts_t *facts, ir_value_t *value,
                             moe_fact_t *out) {
  const moe_source_t *whole = out->source;
  if (value->def->code != OP_ADD || whole->n_parts == 0 || out->expert < 0 ||
      !whole->distinct || !is_zero(out->off))
    return;
  ir_value_t **slot = ARENA_ARRAY(facts->arena, ir_value_t *, MOE_MAX_PARTS);
  for (unsigned i = 0; i < 2; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(value->def, i));
    int part = moe_part_index(whole, fact->source);
    for (unsigned j = 0; j < whole->n_parts; j++) {
      ir_value_t *own = (int)j == part          ? fact->at_route
                        : fact->at_slot != NULL ? fact->at_slot[j]
                                                : NULL;
      if (own != NULL && slot[j] != NULL) return;
      if (own != NULL) slot[j] = own;
    }
    if (part >= 0 ? fact->at_route == NULL : fact->at_slot == NULL) return;
  }
  out->at_slot = slot;
}

/* A number for each token, not what an expert made of it. */
static bool has_single_numbers(const moe_fact_t *gate, const ir_type_t *type) {
  for (unsigned d = 0; d < type->rank; d++)
    if ((gate->tag[d] & TAG_INNER) != 0 && !rule_is_one(type->dim[d]))
      return false;
  return true;
}

/* The router of all operands that are gates: the one that they have in common,
 * or the one of which theirs are parts. *out_lead is the first of them. */
static const moe_source_t *common_source(moe_facts_t *facts, const ir_op_t *op,
                                         const moe_fact_t **out_lead) {
  const moe_source_t *common = NULL;
  *out_lead = &moe_no_fact;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, i));
    if (fact->kind != FACT_GATE) continue;
    /* a condition within what a router chose is none of its own */
    if (common == NULL || (common->by_mask && !fact->source->by_mask)) {
      common = fact->source;
      *out_lead = fact;
    }
    /* nor is one that keeps some of its routes */
    if (fact->source->within == common && op->code != OP_ADD &&
        op->code != OP_OR && op->code != OP_MAX) {
      common = fact->source;
      *out_lead = fact;
    }
    if (fact->source == common->within) continue;
    bool sums = op->code == OP_ADD || op->code == OP_OR || op->code == OP_MAX;
    bool alone =
        fact->space == NULL &&
        (fact->expert < 0 || (fact->expert == (*out_lead)->expert &&
                              has_single_numbers(fact, &ir_in(op, i)->type)));
    if (fact->source == common || !sums || !alone) continue;
    const moe_source_t *whole = moe_joint_source(facts, common, fact->source);
    if (whole != NULL) common = whole;
  }
  return common;
}

/* Of two experts, each token having one: what is 0 for one of them and some
 * number for the other is a gate of the other. */
static void turn_gate(moe_fact_t *out) {
  const moe_source_t *source = out->source;
  if (out->expert < 0 || source->experts != 2 || !rule_is_one(source->k) ||
      source->some || source->by_mask || source->chooses ||
      out->places != NULL || out->rank != NULL || !out->off.known ||
      out->off.x == 0 || !is_zero(out->on))
    return;
  out->expert = 1 - out->expert;
  out->on = out->off;
  out->off = constant(0);
  out->at_route = NULL;
}

static const moe_fact_t *gate_arithmetic(moe_facts_t *facts,
                                         ir_value_t *value) {
  const ir_op_t *op = value->def;
  enum { MAX_IN = 3 };
  moe_constant_t off[MAX_IN] = {{0}}, on[MAX_IN] = {{0}}, other[MAX_IN] = {{0}};
  const moe_fact_t *lead;
  if (op->n_in > MAX_IN) return NULL;
  const moe_source_t *source = common_source(facts, op, &lead);
  if (source == NULL) return NULL;
  moe_fact_t *out = moe_fact_new(facts, FACT_GATE, source);
  out->space = lead->space;
  out->expert = lead->expert;
  if (!merge_tags(facts, value, out)) return NULL;
  unsigned tags = moe_tag_union(value->type.rank, out->tag);
  for (unsigned i = 0; i < op->n_in; i++) {
    where_t at = operand_constants(facts, out, tags, ir_in(op, i));
    off[i] = at.off;
    on[i] = at.on;
    other[i] = at.other;
  }
  out->off = compute(op, off);
  out->on = compute(op, on);
  out->other = compute(op, other);
  moe_gate_ranks(facts, value, on, out);
  keep_slot_values(facts, value, out);
  if ((tags & TAG_PLACE) == 0)
    keep_route_value(facts, value, on, out);
  else if ((tags & TAG_EXPERT) == 0)
    out->off = out->other;
  turn_gate(out);
  bool useful = out->off.known || out->on.known || out->rank != NULL;
  return useful && ((tags & TAG_PLACE) == 0 || out->places != NULL) ? out
                                                                    : NULL;
}

const moe_fact_t *moe_rule_elementwise(moe_facts_t *facts, ir_value_t *value) {
  const moe_fact_t *fact = NULL;
  bool number = dtype_is_integer(value->type.dtype);
  if (number && value->def->code == OP_SELECT)
    fact = moe_rule_number(facts, value);
  if (number && fact == NULL) fact = moe_rule_sorted_place(facts, value);
  if (fact == NULL) fact = moe_nested_gate(facts, value);
  if (fact == NULL) fact = gate_arithmetic(facts, value);
  if (fact == NULL) fact = moe_rule_place(facts, value);
  if (fact == NULL) fact = one_hot(facts, value);
  return fact != NULL ? fact : moe_rule_number(facts, value);
}

/* ---- Reductions ---------------------------------------------------------- */

/* Whether a sum or maximum over all slots leaves each of a token's experts the
 * rank of its route: one slot has the expert, and others add nothing to it. */
static bool leaves_ranks(const moe_fact_t *gate, const ir_type_t *from,
                         bool is_sum, unsigned reduced, unsigned kept) {
  const moe_rank_t *rank = gate->rank;
  int slot = moe_tag_find(from->rank, gate->tag, TAG_SLOT);
  if (rank == NULL || rank->n_parts > 0 || gate->given != NULL || slot < 0 ||
      reduced != TAG_SLOT || (kept & TAG_SLOT) != 0 ||
      (kept & TAG_EXPERT) == 0 || !gate->source->distinct || !gate->off.known ||
      from->dim[slot] != gate->source->k)
    return false;
  if (is_sum) return gate->off.x == 0;
  return rank->most == NULL && gate->off.x <= rank->offset &&
         (!rank->gaps || gate->off.x < 0);
}

const moe_fact_t *moe_rule_reduce(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const ir_value_t *from = ir_in(op, 0);
  const moe_fact_t *gate = moe_fact(facts, ir_in(op, 0));
  bool is_sum = op->code == OP_REDUCE_SUM;
  if (gate->kind != FACT_GATE)
    return is_sum ? moe_count_compared(facts, value) : NULL;
  unsigned n;
  const int64_t *axes =
      ir_get_ints(op, is_sum ? ATTR_REDUCE_SUM_axes : ATTR_REDUCE_MAX_axes, &n);
  bool keeps = ir_get_int(op, is_sum ? ATTR_REDUCE_SUM_keepdims
                                     : ATTR_REDUCE_MAX_keepdims) != 0;
  moe_fact_t *out = moe_fact_copy(facts, gate);
  unsigned to = 0, reduced = 0, kept = 0;
  for (unsigned d = 0, i = 0; d < from->type.rank; d++) {
    bool goes = i < n && axes[i] == (int64_t)d;
    if (goes) i++;
    *(goes ? &reduced : &kept) |= gate->tag[d];
    if (goes && !keeps) continue;
    out->tag[to++] = goes ? TAG_INNER : gate->tag[d];
  }
  if (is_sum) {
    const moe_fact_t *count =
        moe_count_of_mask(facts, value, gate, reduced, kept);
    if (count != NULL) return count;
  }
  if ((reduced & (TAG_TOKEN | TAG_EXPERT)) != 0)
    return moe_rank_of_token(facts, value, gate, out, reduced);
  if ((reduced & TAG_ROW) != 0) return NULL;
  if ((reduced & TAG_PLACE) != 0) {
    if (!is_zero(gate->off) || !is_zero(gate->other)) return NULL;
    out->places = NULL;
    out->on = unknown;
  }
  bool sum_of_zeros = is_sum && is_zero(gate->off);
  if (!sum_of_zeros && is_sum) return NULL;
  bool over_slots = (reduced & TAG_SLOT) != 0;
  bool hits_once = gate->source->distinct && (reduced & TAG_INNER) == 0 &&
                   (gate->places == NULL || is_zero(gate->other));
  if (!leaves_ranks(gate, &from->type, is_sum, reduced, kept))
    out->rank = NULL; /* of what is left, nothing tells routes apart */
  if (!is_sum && over_slots && gate->off.known && gate->on.known) {
    moe_forget_on(out);
    out->on = constant(fmax(gate->off.x, gate->on.x));
  } else if (over_slots ? !hits_once || !is_sum : is_sum) {
    bool nothing = true; /* inner dimensions of size 1 change nothing */
    for (unsigned i = 0; i < n; i++)
      nothing = nothing && rule_is_one(from->type.dim[axes[i]]);
    if (!nothing) {
      moe_forget_on(out);
    }
  }
  return out;
}

const moe_fact_t *moe_rule_softmax(moe_facts_t *facts, ir_value_t *value) {
  const moe_fact_t *gate = moe_fact(facts, ir_in(value->def, 0));
  bool logs = value->def->code == OP_LOG_SOFTMAX; /* what is -inf stays so */
  int64_t axis =
      ir_get_int(value->def, logs ? ATTR_LOG_SOFTMAX_axis : ATTR_SOFTMAX_axis);
  if (axis < 0) axis += value->type.rank;
  if (gate->kind != FACT_GATE || gate->tag[axis] != TAG_EXPERT ||
      gate->places != NULL || !gate->off.known || !is_lowest(gate->off.x))
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, gate);
  if (!logs) out->off = constant(0);
  out->rank = NULL;
  moe_forget_on(out);
  return out;
}

/* ---- Products ------------------------------------------------------------ */

/* The factor of a one-hot matrix that has one number for each slot. */
static ir_value_t *slot_weights(const moe_fact_t *gate, ir_value_t *other,
                                unsigned side, unsigned rank) {
  uint8_t tag[IR_MAX_RANK];
  unsigned n = other->type.rank, summed = side == 0 ? n - 2 : n - 1;
  if (n != rank) return NULL;
  for (unsigned d = 0; d < n; d++)
    tag[d] = d + 2 < n ? gate->tag[d] : TAG_INNER;
  tag[summed] = TAG_SLOT;
  return lies_by_route(gate->source, &other->type, tag) ? other : NULL;
}

const moe_fact_t *moe_rule_matmul(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *slots = moe_gate_of_slots(facts, value);
  if (slots != NULL) return slots;
  unsigned side = moe_fact(facts, ir_in(op, 0))->kind == FACT_GATE ? 0 : 1;
  const moe_fact_t *gate = moe_fact(facts, ir_in(op, side));
  if (gate->kind != FACT_GATE || !is_zero(gate->off) || gate->places != NULL)
    return NULL;
  unsigned rank = ir_in(op, side)->type.rank, out_rank = value->type.rank;
  unsigned summed = side == 0 ? rank - 1 : rank - 2;
  unsigned kept = side == 0 ? rank - 2 : rank - 1;
  bool one = gate->tag[summed] == TAG_INNER && rule_is_one(gate->source->k) &&
             rule_is_one(ir_in(op, side)->type.dim[summed]);
  bool over_slots = gate->tag[summed] == TAG_SLOT || one;
  if (gate->tag[summed] != TAG_INNER && !over_slots) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, gate);
  for (unsigned d = 0; d < out_rank; d++) out->tag[d] = TAG_INNER;
  for (unsigned d = 0; d + 2 < rank; d++)
    out->tag[out_rank - rank + d] = gate->tag[d];
  out->tag[side == 0 ? out_rank - 2 : out_rank - 1] = gate->tag[kept];
  out->rank = NULL;
  moe_forget_on(out);
  if (over_slots && gate->on.known && gate->on.x == 1 && gate->source->distinct)
    out->at_route = slot_weights(gate, ir_in(op, 1 - side), side, out_rank);
  return out;
}

/* ---- Branches ------------------------------------------------------------ */

const moe_fact_t *moe_rule_if(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *found = &moe_no_fact;
  moe_constant_t off[2] = {{0}};
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *given = ir_in(op->regions[i].last, value->index);
    const moe_fact_t *fact = moe_fact(facts, given);
    off[i] = unknown;
    if (moe_fill_number(given, &off[i].x)) {
      off[i].known = true;
    } else if (fact->kind == FACT_GATE && fact->places == NULL) {
      bool same =
          found->kind == FACT_NONE ||
          (found->source == fact->source && found->expert == fact->expert &&
           memcmp(found->tag, fact->tag, value->type.rank) == 0);
      if (same) off[i] = fact->off;
      found = fact;
    }
  }
  if (found->kind == FACT_NONE || !off[0].known || !off[1].known ||
      off[0].x != off[1].x)
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, found);
  out->off = off[0];
  out->rank = NULL;
  moe_forget_on(out);
  return out;
}
