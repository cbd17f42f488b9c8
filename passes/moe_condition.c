/* Conditions on routes, and what is 0 where they do not hold.
 *
 * Conditions and what depends on them are followed through views with the tags
 * of their dimensions, so that elements of the same route, and of its expert,
 * are compared with each other, whatever sizes are equal by chance. */
#include <string.h>

#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"

enum { MAX_NESTED = 16 };

static bool is_zero(const ir_value_t *value) {
  double zero;
  return moe_fill_number(value, &zero) && zero == 0;
}

/* ---- Alignment ----------------------------------------------------------- */

/* Both name the same elements; dimensions of 1 do not matter. */
static bool same_tags(const ir_type_t *type, const uint8_t *a,
                      const uint8_t *b) {
  for (unsigned d = 0; d < type->rank; d++)
    if (a[d] != b[d] && !rule_is_one(type->dim[d])) return false;
  return true;
}

bool moe_is_by_route(moe_facts_t *facts, const moe_source_t *source,
                     const ir_type_t *type, const uint8_t *tag) {
  const expr_t *all = ir_type_count(facts->pool, type);
  unsigned tags = moe_tag_union(type->rank, tag);
  const expr_t *routes = source->tokens;
  for (unsigned d = 0; d < type->rank; d++) {
    bool inner = (tag[d] & ~(unsigned)(TAG_TOKEN | TAG_SLOT | TAG_EXPERT |
                                       TAG_TURNED)) != 0;
    if (inner && !rule_is_one(type->dim[d])) return false;
  }
  if ((tags & TAG_SLOT) != 0) routes = source->routes;
  if ((tags & TAG_EXPERT) != 0)
    routes =
        expr_mul(facts->pool, routes, expr_const(facts->pool, source->experts));
  return all == routes;
}

/* The operand of a view and its tags, from those of the result. */
static ir_value_t *through_view(const moe_source_t *source, const ir_op_t *op,
                                const uint8_t *tag, uint8_t *out_tag) {
  ir_value_t *x = ir_in(op, 0);
  const ir_type_t *type = &op->out[0].type;
  unsigned n;
  switch (op->code) {
    case OP_CAST:
      memcpy(out_tag, tag, type->rank);
      return x;
    case OP_RESHAPE:
      return moe_tags_reshape(source, type, tag, &x->type, out_tag) ? x : NULL;
    case OP_EXPAND:
      return moe_tags_broadcast(type, tag, &x->type, out_tag) ? x : NULL;
    case OP_TRANSPOSE: {
      const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
      int64_t last = -1;
      for (unsigned d = 0; d < n; d++) {
        out_tag[perm[d]] = tag[d];
        if ((tag[d] & TAG_TOKEN) == 0) continue;
        if (perm[d] < last) return NULL; /* tokens keep their order */
        last = perm[d];
      }
      return x;
    }
    default:
      return NULL;
  }
}

/* ---- Limits -------------------------------------------------------------- */

/* The size that a number becomes in its own region, as it is or by views of it;
 * NULL: none. */
static const expr_t *bound_size(const ir_value_t *value, unsigned depth) {
  enum { MAX_VIEWS = 3 };
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next) {
    const ir_op_t *op = use->user;
    if (op->parent != ir_home(value)) continue;
    if (op->code == OP_BIND) return ir_get_expr(op, ATTR_BIND_symbol);
    bool same = op->code == OP_RESHAPE ||
                (op->code == OP_CAST && op->out[0].type.dtype == DT_I64);
    const expr_t *size =
        same && depth < MAX_VIEWS ? bound_size(&op->out[0], depth + 1) : NULL;
    if (size != NULL) return size;
  }
  return NULL;
}

/* A number that is known as a size, through conversions and steps of one. */
static const expr_t *limit_of(moe_facts_t *facts, const ir_value_t *value,
                              unsigned depth) {
  const expr_t *known = moe_known_number(value);
  const ir_op_t *op = value->def;
  double by;
  int64_t step;
  if (known == NULL && value->type.dtype == DT_I64 &&
      rule_has_one_element(&value->type))
    known = bound_size(value, 0);
  if (known != NULL || op == NULL || depth > MAX_NESTED) return known;
  if (op->code == OP_CAST || op->code == OP_RESHAPE || op->code == OP_EXPAND)
    return limit_of(facts, ir_in(op, 0), depth + 1);
  if (op->code == OP_MUL && moe_fill_number(ir_in(op, 1), &by) &&
      moe_whole_number(by, &step)) {
    known = limit_of(facts, ir_in(op, 0), depth + 1);
    return moe_times(facts->pool, known, expr_const(facts->pool, step));
  }
  if ((op->code != OP_ADD && op->code != OP_SUB) ||
      !moe_fill_number(ir_in(op, 1), &by) || !moe_whole_number(by, &step))
    return moe_fill_number(value, &by) && moe_whole_number(by, &step)
               ? expr_const(facts->pool, step)
               : NULL;
  known = limit_of(facts, ir_in(op, 0), depth + 1);
  if (op->code == OP_SUB) step = -step;
  return moe_plus(facts->pool, known, expr_const(facts->pool, step));
}

const expr_t *moe_limit_number(moe_facts_t *facts, const ir_value_t *value) {
  double number;
  int64_t whole;
  const expr_t *limit = limit_of(facts, value, 0);
  if (limit != NULL || !moe_fill_number(value, &number) ||
      !moe_whole_number(number, &whole))
    return limit;
  return expr_const(facts->pool, whole);
}

/* number < limit (+ 1), where the number is a rank: rank < capacity. */
static bool is_limit(moe_facts_t *facts, const moe_condition_t *c,
                     const ir_op_t *op, const uint8_t *tag, unsigned side,
                     bool or_equal) {
  ir_value_t *number = ir_in(op, side);
  uint8_t own[IR_MAX_RANK];
  const moe_fact_t *fact = moe_fact(facts, number);
  if ((fact->kind != FACT_RANK && fact->kind != FACT_GATE) ||
      fact->rank == NULL || fact->given != NULL || fact->places != NULL ||
      fact->source != c->source ||
      !moe_tags_broadcast(&op->out[0].type, tag, &number->type, own) ||
      !same_tags(&number->type, own, fact->tag) ||
      !moe_same_numbering(fact->rank, c->rank))
    return false;
  const expr_t *most = moe_limit_number(facts, ir_in(op, 1 - side));
  int64_t slack;
  if (most == NULL ||
      !moe_whole_number(c->rank->offset - fact->rank->offset + or_equal,
                        &slack))
    return false;
  most = moe_plus(facts->pool, most, expr_const(facts->pool, slack));
  return most != NULL && most == c->capacity;
}

/* Whether a value that is not 0 (`holds`), or is 0, means that the rank is
 * below the capacity; *exact: and the other way round. */
static bool limits(moe_facts_t *facts, const moe_condition_t *c,
                   ir_value_t *value, const uint8_t *tag, bool holds,
                   unsigned depth, bool *exact) {
  const ir_op_t *op = value->def;
  uint8_t own[IR_MAX_RANK];
  if (op == NULL || depth > MAX_NESTED) return false;
  switch (op->code) {
    case OP_LT:
    case OP_LE: /* not a < b: b <= a */
      return is_limit(facts, c, op, tag, holds ? 0 : 1,
                      (op->code == OP_LE) == holds);
    case OP_NOT:
      return limits(facts, c, ir_in(op, 0), tag, !holds, depth + 1, exact);
    case OP_MUL:
    case OP_AND:
    case OP_OR:
      if (holds != (op->code != OP_OR)) return false;
      *exact = false;
      for (unsigned i = 0; i < 2; i++)
        if (moe_tags_broadcast(&value->type, tag, &ir_in(op, i)->type, own) &&
            limits(facts, c, ir_in(op, i), own, holds, depth + 1, exact))
          return true;
      return false;
    case OP_CAST:
      if (ir_in(op, 0)->type.dtype != DT_BOOL && value->type.dtype != DT_BOOL &&
          !moe_is_indicator(ir_in(op, 0)))
        return false;
      break;
    default:
      break;
  }
  ir_value_t *x = through_view(c->source, op, tag, own);
  return x != NULL && limits(facts, c, x, own, holds, depth + 1, exact);
}

bool moe_limits_rank(moe_facts_t *facts, const moe_condition_t *condition,
                     ir_value_t *value, const uint8_t *tag, bool holds,
                     bool *out_exact) {
  *out_exact = true;
  return condition->rank != NULL &&
         limits(facts, condition, value, tag, holds, 0, out_exact);
}

/* ---- What is 0 with a condition ------------------------------------------ */

typedef struct walk {
  moe_facts_t *facts;
  const moe_condition_t *condition;
} walk_t;

static bool vanishes(const walk_t *w, ir_value_t *value, const uint8_t *tag,
                     unsigned depth);

static bool operand_vanishes(const walk_t *w, const ir_op_t *op, unsigned i,
                             const uint8_t *tag, unsigned depth) {
  uint8_t own[IR_MAX_RANK];
  ir_value_t *x = ir_in(op, i);
  return moe_tags_broadcast(&op->out[0].type, tag, &x->type, own) &&
         vanishes(w, x, own, depth + 1);
}

/* A sum over experts of what is 0 for all but the token's own ones, or over
 * features. */
static bool sum_vanishes(const walk_t *w, const ir_op_t *op, const uint8_t *tag,
                         unsigned depth) {
  ir_value_t *x = ir_in(op, 0);
  const moe_fact_t *gate = moe_fact(w->facts, x);
  bool is_gate = gate->kind == FACT_GATE && gate->places == NULL &&
                 gate->source == w->condition->source && gate->expert < 0 &&
                 gate->off.known && gate->off.x == 0;
  bool keeps = ir_get_int(op, ATTR_REDUCE_SUM_keepdims) != 0;
  uint8_t own[IR_MAX_RANK];
  unsigned n, to = 0;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  for (unsigned d = 0, i = 0; d < x->type.rank; d++) {
    bool goes = i < n && axes[i] == (int64_t)d;
    if (goes) i++;
    own[d] = goes ? TAG_INNER : tag[to];
    if (goes && is_gate && gate->tag[d] == TAG_EXPERT) own[d] = TAG_EXPERT;
    if (!goes || keeps) to++;
  }
  return vanishes(w, x, own, depth + 1);
}

/* Whether a value with these tags is not 0 (`holds`), or is 0, only where the
 * condition holds. */
static bool is_condition(const walk_t *w, ir_value_t *value, const uint8_t *tag,
                         bool holds) {
  const moe_condition_t *c = w->condition;
  uint8_t own[2][IR_MAX_RANK];
  ir_value_t *given = c->given;
  bool exact;
  if (moe_limits_rank(w->facts, c, value, tag, holds, &exact)) return true;
  if (given == NULL || c->unless == holds) return false;
  memcpy(own[0], c->tag, given->type.rank);
  for (unsigned i = 0; i < 4; i++) { /* or what that is a view of */
    if (given == value) return same_tags(&value->type, tag, own[i % 2]);
    const ir_op_t *op = given->def;
    if (op == NULL || op->code == OP_TRANSPOSE) return false;
    given = through_view(c->source, op, own[i % 2], own[1 - i % 2]);
    if (given == NULL) return false;
  }
  return false;
}

/* Whether an operand is not 0 wherever the condition does not hold. */
static bool operand_denies(const walk_t *w, const ir_op_t *op, unsigned i,
                           const uint8_t *tag) {
  enum { MAX_VIEWS = 8 };
  uint8_t own[2][IR_MAX_RANK];
  ir_value_t *x = ir_in(op, i);
  if (!moe_tags_broadcast(&op->out[0].type, tag, &x->type, own[0]))
    return false;
  for (unsigned v = 0; v < MAX_VIEWS; v++) {
    if (is_condition(w, x, own[v % 2], false)) return true;
    const ir_op_t *view = x->def;
    if (view == NULL || (view->code == OP_CAST && x->type.dtype != DT_BOOL &&
                         ir_in(view, 0)->type.dtype != DT_BOOL))
      return false;
    x = through_view(w->condition->source, view, own[v % 2], own[1 - v % 2]);
    if (x == NULL) return false;
  }
  return false;
}

static bool vanishes(const walk_t *w, ir_value_t *value, const uint8_t *tag,
                     unsigned depth) {
  const ir_op_t *op = value->def;
  uint8_t own[IR_MAX_RANK];
  if (is_condition(w, value, tag, true) || is_zero(value)) return true;
  if (op == NULL || depth > MAX_NESTED) return false;
  switch (op->code) {
    case OP_MUL:
    case OP_AND:
      return operand_vanishes(w, op, 0, tag, depth) ||
             operand_vanishes(w, op, 1, tag, depth);
    case OP_ADD:
    case OP_OR:
      return operand_vanishes(w, op, 0, tag, depth) &&
             operand_vanishes(w, op, 1, tag, depth);
    case OP_SELECT:
      if (operand_vanishes(w, op, 2, tag, depth) &&
          (operand_vanishes(w, op, 0, tag, depth) ||
           operand_vanishes(w, op, 1, tag, depth)))
        return true;
      return operand_denies(w, op, 0, tag) &&
             operand_vanishes(w, op, 1, tag, depth);
    case OP_NOT:
      return operand_denies(w, op, 0, tag);
    case OP_DIV:
      return operand_vanishes(w, op, 0, tag, depth);
    case OP_REDUCE_SUM:
      return sum_vanishes(w, op, tag, depth);
    default: {
      ir_value_t *x = through_view(w->condition->source, op, tag, own);
      return x != NULL && vanishes(w, x, own, depth + 1);
    }
  }
}

bool moe_vanishes(moe_facts_t *facts, const moe_condition_t *condition,
                  ir_value_t *value, const uint8_t *tag) {
  const walk_t walk = {facts, condition};
  return vanishes(&walk, value, tag, 0);
}

/* ---- Indicators ---------------------------------------------------------- */

/* A constant of zeros and ones. */
static bool has_bits(const ir_value_t *value) {
  enum { MAX_COUNT = 1 << 16 };
  int64_t count;
  double x;
  if (!ir_type_static_count(&value->type, &count) || count > MAX_COUNT)
    return false;
  for (int64_t i = 0; i < count; i++)
    if (!moe_constant_element(value, i, &x) || (x != 0 && x != 1)) return false;
  return true;
}

static bool is_indicator(const ir_value_t *value, unsigned depth) {
  const ir_op_t *op = value->def;
  double zero, one;
  if (value->type.dtype == DT_BOOL) return true;
  if (op == NULL || depth > MAX_NESTED) return false;
  switch (op->code) {
    case OP_MUL:
      return is_indicator(ir_in(op, 0), depth + 1) &&
             is_indicator(ir_in(op, 1), depth + 1);
    case OP_SELECT:
      return moe_fill_number(ir_in(op, 1), &one) &&
             moe_fill_number(ir_in(op, 2), &zero) && (one == 0 || one == 1) &&
             (zero == 0 || zero == 1);
    case OP_GATHER: /* rows of a unit matrix */
      return has_bits(ir_in(op, 0));
    case OP_CONSTANT:
      return has_bits(value);
    case OP_CONCAT:
      for (unsigned i = 0; i < op->n_in; i++)
        if (!is_indicator(ir_in(op, i), depth + 1)) return false;
      return true;
    case OP_SLICE:
    case OP_CAST:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
      return is_indicator(ir_in(op, 0), depth + 1);
    default:
      return false;
  }
}

bool moe_is_indicator(const ir_value_t *value) {
  return is_indicator(value, 0);
}
