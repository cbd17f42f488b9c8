/* Rules for integers that cannot be negative, such as indices that topk gives:
 * models wrap indices that need no wrapping. */
#include "passes/rules.h"

static bool is_unsigned(dtype_t dtype) {
  return dtype_class(dtype) == DT_CLASS_UNSIGNED || dtype == DT_BOOL;
}

static bool known_nonnegative(const ir_value_t *x) {
  int64_t count, lower;
  if (x->content == NULL || !ir_type_static_count(&x->type, &count))
    return false;
  for (int64_t i = 0; i < count; i++)
    if (!expr_lower_bound(x->content[i], &lower) || lower < 0) return false;
  return true;
}

static bool is_constant_from(const ir_value_t *x, int64_t least) {
  int64_t c;
  return rule_splat_int(x, &c) && c >= least;
}

/* Whether an integer type has all numbers below n. */
static bool holds_below(dtype_t dtype, int64_t n) {
  enum { SHORT = 128 };
  return dtype_is_integer(dtype) &&
         (n <= SHORT || (n <= INT32_MAX && rule_cast_holds(DT_I32, dtype)));
}

/* Positions along an axis of so many elements; 0: they are none, or the axis
 * has no known size. */
static int64_t positions_below(const ir_value_t *x) {
  enum { MAX_STEPS = 12 };
  for (int i = 0; i < MAX_STEPS && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    int64_t axis, n;
    switch (op->code) {
      case OP_CAST:
        n = positions_below(op->in[0].value);
        return holds_below(x->type.dtype, n) ? n : 0;
      case OP_RESHAPE:
      case OP_EXPAND:
      case OP_TRANSPOSE:
      case OP_SLICE:
        x = op->in[0].value;
        continue;
      case OP_TOPK:
        if (x->index != 1) return 0;
        axis = ir_get_int(op, ATTR_TOPK_axis);
        break;
      case OP_ARG_MAX:
        axis = ir_get_int(op, ATTR_ARG_MAX_axis);
        break;
      default:
        return 0;
    }
    const ir_type_t *from = &op->in[0].value->type;
    if (axis < 0) axis += from->rank;
    return expr_is_const(from->dim[axis], &n) ? n : 0;
  }
  return 0;
}

/* Positions along an axis so short that an integer type holds them. */
static bool chosen_below(const ir_value_t *x, dtype_t dtype) {
  int64_t n = positions_below(x);
  return n > 0 && holds_below(dtype, n);
}

/* Whether the results of op are at least 0: 1 or 0; or -1 if they are when
 * those of operand 0 are. */
static int nonnegative_result(const ir_value_t *x) {
  const ir_op_t *op = x->def;
  switch (op->code) {
    case OP_TOPK:
    case OP_TOPK_SUMS:
      return x->index == 1;
    case OP_MOE_ROUTE:
      return x->index == 0;
    case OP_IOTA: /* shorter types may wrap */
      return x->type.dtype == DT_I64;
    case OP_NONZERO:
    case OP_SORT_ROWS:
    case OP_ARG_MAX:
    case OP_ARG_MIN:
      return 1;
    case OP_MAX:
      return is_constant_from(op->in[1].value, 0) ? 1 : -1;
    case OP_MOD:
      return is_constant_from(op->in[1].value, 1);
    case OP_DIV:
      return is_constant_from(op->in[1].value, 1) ? -1 : 0;
    case OP_CAST:
      return rule_cast_holds(op->in[0].value->type.dtype, x->type.dtype) ||
                     chosen_below(op->in[0].value, x->type.dtype)
                 ? -1
                 : 0;
    case OP_FMOD:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_GATHER:
    case OP_GATHER_ND:
    case OP_GATHER_ELEMENTS:
      return -1;
    default:
      return 0;
  }
}

/* max(x, y) is if either is; only x is looked at further. */
static bool is_nonnegative(const ir_value_t *x) {
  enum { MAX_STEPS = 12 };
  for (int i = 0; i < MAX_STEPS; i++) {
    if (dtype_is_float(x->type.dtype)) return false;
    if (is_unsigned(x->type.dtype) || known_nonnegative(x)) return true;
    if (x->def == NULL) return false;
    int answer = nonnegative_result(x);
    if (answer >= 0) return answer;
    x = x->def->in[0].value;
  }
  return false;
}

static bool is_at_most(const ir_value_t *x, int64_t most) {
  int64_t c;
  return rule_splat_int(x, &c) && c <= most && !is_unsigned(x->type.dtype);
}

/* The answer of a comparison of nonnegative integers with a constant that is
 * below all of them, or above (or also equal to some): 1, 0, or -1 if that is
 * open. */
static int decide(const ir_op_t *op) {
  if (op->code != OP_LT && op->code != OP_LE) return -1;
  const ir_value_t *x = op->in[0].value, *y = op->in[1].value;
  bool strict = op->code == OP_LT;
  if (!dtype_is_integer(x->type.dtype)) return -1;
  if (is_at_most(y, strict ? 0 : -1) && is_nonnegative(x)) return 0;
  if (is_at_most(x, strict ? -1 : 0) && is_nonnegative(y)) return 1;
  int64_t c, below = rule_splat_int(y, &c) ? positions_below(x) : 0;
  if (below > 0 && c >= below - !strict) return 1;
  below = rule_splat_int(x, &c) ? positions_below(y) : 0;
  if (below > 0 && c >= below - strict) return 0;
  return -1;
}

bool match_compare_nonnegative(const ir_op_t *op) { return decide(op) >= 0; }

ir_value_t *apply_compare_nonnegative(ir_op_t *op, ir_builder_t *b) {
  return rule_fill(b, decide(op), &op->out[0].type);
}

bool match_max_nonnegative(const ir_op_t *op) {
  return dtype_is_integer(op->out[0].type.dtype) &&
         is_at_most(op->in[1].value, 0) && is_nonnegative(op->in[0].value);
}

ir_value_t *apply_max_nonnegative(ir_op_t *op, ir_builder_t *b) {
  return rule_broadcast(b, op->in[0].value, &op->out[0].type);
}

bool match_abs_nonnegative(const ir_op_t *op) {
  return dtype_is_integer(op->out[0].type.dtype) &&
         is_nonnegative(op->in[0].value);
}

ir_value_t *apply_abs_nonnegative(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return op->in[0].value;
}
