/* Branches that are taken when any token chose an expert. */
#include "ir/element.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"
#include "passes/rules.h"

/* ---- Numbers that are never negative ------------------------------------- */

static bool constant_is_nonnegative(const ir_op_t *op) {
  int64_t count;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  const ir_type_t *type = &op->out[0].type;
  enum { MAX_COUNT = 1 << 16 };
  if (data->bytes == NULL || data->strings != NULL ||
      !ir_type_static_count(type, &count) || count > MAX_COUNT)
    return false;
  for (int64_t i = 0; i < count; i++)
    if (!(ir_element_float(type->dtype, data->bytes, (uint64_t)i) >= 0))
      return false;
  return true;
}

/* Whether what is not 0 stays so, and what is not negative. */
static bool keeps_numbers(dtype_t from, dtype_t to) {
  if (from == DT_BOOL || to == DT_BOOL) return true;
  if (dtype_is_float(from))
    return dtype_is_float(to) && dtype_bits(to) >= dtype_bits(from);
  return dtype_is_float(to) || dtype_bits(to) > dtype_bits(from) || to == from;
}

static bool is_nonnegative(const ir_value_t *value, unsigned depth) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL || depth > 24) return false;
  bool sums =
      op->code == OP_REDUCE_SUM || op->code == OP_ADD || op->code == OP_MUL;
  if (sums && !dtype_is_float(value->type.dtype)) return false; /* may wrap */
  switch (op->code) {
    case OP_CONSTANT:
      return constant_is_nonnegative(op);
    case OP_SOFTMAX:
    case OP_SIGMOID:
    case OP_EXP:
    case OP_ABS:
    case OP_SQRT:
      return true;
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
    case OP_TOPK:
      return is_nonnegative(ir_in(op, 0), depth + 1);
    case OP_CAST:
      return ir_in(op, 0)->type.dtype == DT_BOOL ||
             ((dtype_is_float(value->type.dtype) ||
               keeps_numbers(ir_in(op, 0)->type.dtype, value->type.dtype)) &&
              is_nonnegative(ir_in(op, 0), depth + 1));
    case OP_SCATTER_ELEMENTS:
      return is_nonnegative(ir_in(op, 0), depth + 1) &&
             is_nonnegative(ir_in(op, 2), depth + 1);
    case OP_SELECT:
      return is_nonnegative(ir_in(op, 1), depth + 1) &&
             is_nonnegative(ir_in(op, 2), depth + 1);
    case OP_MAX:
      return is_nonnegative(ir_in(op, 0), depth + 1) ||
             is_nonnegative(ir_in(op, 1), depth + 1);
    case OP_ADD:
    case OP_MUL:
    case OP_DIV:
    case OP_MIN:
      return is_nonnegative(ir_in(op, 0), depth + 1) &&
             is_nonnegative(ir_in(op, 1), depth + 1);
    default:
      return false;
  }
}

bool moe_is_nonnegative(const ir_value_t *value) {
  return is_nonnegative(value, 0);
}

/* ---- Conditions ---------------------------------------------------------- */

static bool is_zero(const ir_value_t *value) {
  double x;
  int64_t number;
  if (rule_splat_float(value, &x)) return x == 0;
  return rule_splat_int(value, &number) && number == 0;
}

/* The number that a mask is true for, if that is above 0; itself if it is a
 * number. */
static ir_value_t *number_of(ir_value_t *mask) {
  const ir_op_t *op = mask->def;
  bool above = op != NULL && op->code == OP_LT && is_zero(ir_in(op, 0));
  return above ? ir_in(op, 1) : mask;
}

/* Whether there is nothing in a branch for tokens whose number is 0: no row, or
 * zeros. */
static bool needs_number(moe_builder_t *b, ir_value_t *number,
                         const moe_layout_t *layout,
                         const moe_branch_t *branch) {
  const moe_fact_t *fact = moe_fact(b->facts, number);
  const moe_condition_t is_not_0 = {
      .source = layout->source, .given = number, .tag = fact->tag};
  if (layout->kind != LAYOUT_ROWS)
    return moe_vanishes(b->facts, &is_not_0, branch->value, branch->tag);
  ir_value_t *rows = number_of(ir_in(layout->space, 0));
  return moe_vanishes(b->facts, &is_not_0, rows, moe_fact(b->facts, rows)->tag);
}

/* A mask that is true at all tokens that have something in a branch of the
 * expert. */
static bool covers_expert(moe_builder_t *b, ir_value_t *mask,
                          const moe_layout_t *layout,
                          const moe_branch_t *branch) {
  const moe_fact_t *fact = moe_fact(b->facts, mask);
  if (fact->kind != FACT_GATE || fact->source != layout->source ||
      fact->expert != layout->expert)
    return false;
  if (fact->on.known)
    return fact->on.x > 0 && fact->off.known && fact->off.x >= 0;
  ir_value_t *number = number_of(mask);
  return number->type.dtype != DT_BOOL && is_nonnegative(number, 0) &&
         needs_number(b, number, layout, branch);
}

static bool is_one(const ir_value_t *value) {
  int64_t number;
  return rule_splat_int(value, &number) && number == 1;
}

/* The number x if `op` says that x is 0, or with `some` that it is above 0;
 * NULL: it says something else. */
static ir_value_t *compared(const ir_op_t *op, bool some) {
  if (op->code != OP_LT && op->code != OP_LE && op->code != OP_EQ) return NULL;
  ir_value_t *a = ir_in(op, 0), *b = ir_in(op, 1);
  if (op->code == OP_LT && some && is_zero(a)) return b; /* 0 < x */
  if (op->code == OP_LE && some && is_one(a)) return b;  /* 1 <= x */
  if (op->code == OP_LT && !some && is_one(b)) return a; /* x < 1 */
  if (op->code == OP_LE && !some && is_zero(b)) return a;
  if (op->code == OP_EQ && !some && is_zero(b)) return a;
  return op->code == OP_EQ && !some && is_zero(a) ? b : NULL;
}

/* Whether a sum over tokens could come to 0 again. */
static bool wraps(const ir_value_t *sum) {
  dtype_t dtype = sum->type.dtype;
  return dtype_is_integer(dtype) && dtype_bits(dtype) < 32;
}

/* A conversion of something that is 0 where there is nothing: as many tokens as
 * 32 bits count do not become none. */
static bool keeps_any(const ir_op_t *cast) {
  dtype_t from = ir_in(cast, 0)->type.dtype, to = cast->out[0].type.dtype;
  return keeps_numbers(from, to) ||
         (dtype_is_integer(from) && dtype_is_integer(to) &&
          dtype_bits(to) >= 32);
}

bool moe_is_any(moe_builder_t *b, ir_value_t *condition,
                const moe_layout_t *layout, const moe_branch_t *branch,
                bool none) {
  enum { MAX_STEPS = 16 };
  ir_value_t *value = condition;
  bool reduced = false, some = !none;
  for (unsigned i = 0; i < MAX_STEPS && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    const moe_fact_t *fact = moe_fact(b->facts, value);
    if (some && fact->kind == FACT_COUNT && fact->source == layout->source &&
        fact->first == layout->expert && value->type.rank == 0)
      return true;
    if (some && reduced && covers_expert(b, value, layout, branch)) return true;
    ir_value_t *number = compared(op, some);
    if (number != NULL) {
      value = number;
      some = true;
    } else if (op->code == OP_NOT) {
      value = ir_in(op, 0);
      some = !some;
    } else if (op->code == OP_RESHAPE ||
               (op->code == OP_CAST &&
                (some ? keeps_any(op) : ir_in(op, 0)->type.dtype == DT_BOOL))) {
      value = ir_in(op, 0);
    } else if (some && (op->code == OP_REDUCE_MAX ||
                        (op->code == OP_REDUCE_SUM && !wraps(value)))) {
      reduced = true;
      value = ir_in(op, 0);
    } else {
      return false;
    }
  }
  return false;
}
