/* Rules for bool operations, select, and operations on equal operands. */
#include "passes/rules.h"

static ir_value_t *first(const ir_op_t *op) { return op->in[0].value; }

static bool is_bool(const ir_value_t *x) { return x->type.dtype == DT_BOOL; }

/* Operand 1 is the bool constant `value`. */
static bool right_is(const ir_op_t *op, bool value) {
  int64_t c;
  return is_bool(op->in[1].value) && rule_splat_int(op->in[1].value, &c) &&
         c == value;
}

static ir_value_t *broadcast_first(const ir_op_t *op, ir_builder_t *b) {
  return rule_broadcast(b, first(op), &op->out[0].type);
}

/* ---- Complements --------------------------------------------------------- */

static ir_value_t *twice_inner(const ir_op_t *op) {
  return op->in[0].value->def->in[0].value;
}

bool match_not_of_not(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_not_of_not(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return twice_inner(op);
}

bool match_bit_not_of_bit_not(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_bit_not_of_bit_not(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return twice_inner(op);
}

/* ---- Constants, which are on the right ----------------------------------- */

bool match_logic_neutral(const ir_op_t *op) {
  switch (op->code) {
    case OP_AND:
    case OP_EQ:
      return right_is(op, true);
    case OP_OR:
    case OP_XOR:
      return right_is(op, false);
    default:
      return false;
  }
}

ir_value_t *apply_logic_neutral(ir_op_t *op, ir_builder_t *b) {
  return broadcast_first(op, b);
}

bool match_logic_inverse(const ir_op_t *op) {
  return (op->code == OP_XOR && right_is(op, true)) ||
         (op->code == OP_EQ && right_is(op, false));
}

ir_value_t *apply_logic_inverse(ir_op_t *op, ir_builder_t *b) {
  return rule_broadcast(b, ir_unary(b, OP_NOT, first(op)), &op->out[0].type);
}

bool match_logic_absorbing(const ir_op_t *op) {
  return (op->code == OP_AND && right_is(op, false)) ||
         (op->code == OP_OR && right_is(op, true));
}

ir_value_t *apply_logic_absorbing(ir_op_t *op, ir_builder_t *b) {
  return rule_fill(b, op->code == OP_OR, &op->out[0].type);
}

bool match_same_operands(const ir_op_t *op) {
  switch (op->code) {
    case OP_AND:
    case OP_OR:
    case OP_MIN:
    case OP_MAX:
    case OP_BIT_AND:
    case OP_BIT_OR:
      return op->in[0].value == op->in[1].value;
    default:
      return false;
  }
}

ir_value_t *apply_same_operands(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return first(op);
}

/* ---- select -------------------------------------------------------------- */

static bool bool_constant(const ir_value_t *x, bool *out) {
  int64_t c;
  if (!is_bool(x) || !rule_splat_int(x, &c)) return false;
  *out = c != 0;
  return true;
}

bool match_select_constant(const ir_op_t *op) {
  bool c;
  return bool_constant(first(op), &c);
}

ir_value_t *apply_select_constant(ir_op_t *op, ir_builder_t *b) {
  bool c = false;
  bool_constant(first(op), &c);
  return rule_broadcast(b, op->in[c ? 1 : 2].value, &op->out[0].type);
}

bool match_select_same(const ir_op_t *op) {
  return op->in[1].value == op->in[2].value;
}

ir_value_t *apply_select_same(ir_op_t *op, ir_builder_t *b) {
  return rule_broadcast(b, op->in[1].value, &op->out[0].type);
}

bool match_select_of_not(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_select_of_not(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[1].value, *y = op->in[2].value;
  (void)b;
  ir_set_operand(op, 0, twice_inner(op));
  ir_set_operand(op, 1, y);
  ir_set_operand(op, 2, x);
  return &op->out[0];
}

/* Operands 1 and 2 are 1 and 0 or, with `one_first` false, 0 and 1. */
static bool chooses_ones(const ir_op_t *op, bool one_first) {
  return rule_operand_is(op, one_first ? 1 : 2, 1) &&
         rule_operand_is(op, one_first ? 2 : 1, 0);
}

bool match_select_ones(const ir_op_t *op) {
  return chooses_ones(op, true) || chooses_ones(op, false);
}

ir_value_t *apply_select_ones(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  ir_value_t *c = first(op);
  if (!chooses_ones(op, true)) c = ir_unary(b, OP_NOT, c);
  return rule_broadcast(b, ir_cast(b, c, to->dtype), to);
}
