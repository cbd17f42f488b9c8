/* Rules for arithmetic. Floats keep the sign of zero and all specials: x + 0.0
 * is not x, since -0.0 + 0.0 is 0.0. */
#include <math.h>
#include <stdlib.h>

#include "passes/rules.h"

static ir_value_t *first(const ir_op_t *op) { return op->in[0].value; }
static ir_value_t *second(const ir_op_t *op) { return op->in[1].value; }

static bool is_float(const ir_op_t *op) {
  return dtype_is_float(op->out[0].type.dtype);
}

static bool is_integer(const ir_op_t *op) {
  return dtype_is_integer(op->out[0].type.dtype);
}

static ir_value_t *broadcast_first(const ir_op_t *op, ir_builder_t *b) {
  return rule_broadcast(b, first(op), &op->out[0].type);
}

static ir_value_t *negated(const ir_op_t *op, ir_builder_t *b, ir_value_t *x) {
  return rule_broadcast(b, ir_unary(b, OP_NEG, x), &op->out[0].type);
}

/* ---- One operand --------------------------------------------------------- */

bool match_neg_of_neg(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_neg_of_neg(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return first(first(op)->def);
}

bool match_abs_of_sign(const ir_op_t *op) {
  return rule_def(op, 0, OP_NEG) != NULL || rule_def(op, 0, OP_ABS) != NULL;
}

ir_value_t *apply_abs_of_sign(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  ir_set_operand(op, 0, first(first(op)->def));
  return &op->out[0];
}

static bool rounds(ir_opcode_t code) {
  return code == OP_FLOOR || code == OP_CEIL || code == OP_ROUND ||
         code == OP_TRUNC;
}

bool match_round_twice(const ir_op_t *op) {
  return rounds(op->code) && rounds(first(op)->def->code);
}

ir_value_t *apply_round_twice(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return first(op);
}

bool match_round_integer(const ir_op_t *op) {
  return rounds(op->code) && is_integer(op);
}

ir_value_t *apply_round_integer(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return first(op);
}

/* ---- Neutral operands, which are on the right ---------------------------- */

bool match_add_neutral(const ir_op_t *op) {
  return rule_operand_is(op, 1, is_float(op) ? -0.0 : 0.0);
}

ir_value_t *apply_add_neutral(ir_op_t *op, ir_builder_t *b) {
  return broadcast_first(op, b);
}

bool match_sub_neutral(const ir_op_t *op) {
  return rule_operand_is(op, 1, 0.0);
}

ir_value_t *apply_sub_neutral(ir_op_t *op, ir_builder_t *b) {
  return broadcast_first(op, b);
}

bool match_sub_from_zero(const ir_op_t *op) {
  return rule_operand_is(op, 0, is_float(op) ? -0.0 : 0.0);
}

ir_value_t *apply_sub_from_zero(ir_op_t *op, ir_builder_t *b) {
  return negated(op, b, second(op));
}

bool match_mul_neutral(const ir_op_t *op) { return rule_operand_is(op, 1, 1); }

ir_value_t *apply_mul_neutral(ir_op_t *op, ir_builder_t *b) {
  return broadcast_first(op, b);
}

bool match_div_neutral(const ir_op_t *op) { return rule_operand_is(op, 1, 1); }

ir_value_t *apply_div_neutral(ir_op_t *op, ir_builder_t *b) {
  return broadcast_first(op, b);
}

bool match_negated_by_one(const ir_op_t *op) {
  bool is_signed = dtype_class(op->out[0].type.dtype) != DT_CLASS_UNSIGNED;
  return (op->code == OP_MUL || op->code == OP_DIV) && is_signed &&
         rule_operand_is(op, 1, -1);
}

ir_value_t *apply_negated_by_one(ir_op_t *op, ir_builder_t *b) {
  return negated(op, b, first(op));
}

bool match_integer_zero(const ir_op_t *op) {
  if (!is_integer(op) || op->n_in != 2) return false;
  switch (op->code) {
    case OP_MUL:
    case OP_BIT_AND:
      return rule_operand_is(op, 1, 0);
    case OP_MOD:
    case OP_FMOD:
      return rule_operand_is(op, 1, 1);
    case OP_SUB:
    case OP_BIT_XOR:
      return first(op) == second(op);
    default:
      return false;
  }
}

ir_value_t *apply_integer_zero(ir_op_t *op, ir_builder_t *b) {
  return rule_fill(b, 0, &op->out[0].type);
}

/* ---- Powers of two ------------------------------------------------------- */

/* The largest exponent e such that 2^e and 2^-e are both normal. */
static int normal_exponent(dtype_t dtype) {
  switch (dtype) {
    case DT_F64:
      return 1022;
    case DT_F32:
    case DT_BF16:
      return 126;
    case DT_F16:
      return 14;
    default:
      return -1;
  }
}

/* Both x / c and x * (1 / c) are the same number rounded once. */
bool match_div_by_power_of_two(const ir_op_t *op) {
  double c;
  int exponent, limit = normal_exponent(op->out[0].type.dtype);
  if (limit < 0 || !rule_splat_float(second(op), &c)) return false;
  if (!isfinite(c) || fabs(frexp(c, &exponent)) != 0.5) return false;
  return abs(exponent - 1) <= limit;
}

ir_value_t *apply_div_by_power_of_two(ir_op_t *op, ir_builder_t *b) {
  double c = 1;
  rule_splat_float(second(op), &c);
  return ir_binary(b, OP_MUL, first(op),
                   rule_fill(b, 1 / c, &second(op)->type));
}

/* ---- Powers -------------------------------------------------------------- */

/* pow is within 2 ulp; products are rounded correctly each, and agree with it
 * for zeros, infinities and NaN. */
static bool is_power(const ir_op_t *op, double exponent) {
  return is_float(op) && rule_operand_is(op, 1, exponent);
}

bool match_pow_zero(const ir_op_t *op) {
  return is_power(op, 0.0) || is_power(op, -0.0);
}

ir_value_t *apply_pow_zero(ir_op_t *op, ir_builder_t *b) {
  return rule_fill(b, 1, &op->out[0].type);
}

bool match_pow_one(const ir_op_t *op) { return is_power(op, 1); }

ir_value_t *apply_pow_one(ir_op_t *op, ir_builder_t *b) {
  return broadcast_first(op, b);
}

bool match_pow_square(const ir_op_t *op) { return is_power(op, 2); }

ir_value_t *apply_pow_square(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *square = ir_binary(b, OP_MUL, first(op), first(op));
  return rule_broadcast(b, square, &op->out[0].type);
}

bool match_pow_cube(const ir_op_t *op) { return is_power(op, 3); }

ir_value_t *apply_pow_cube(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *square = ir_binary(b, OP_MUL, first(op), first(op));
  ir_value_t *cube = ir_binary(b, OP_MUL, square, first(op));
  return rule_broadcast(b, cube, &op->out[0].type);
}

bool match_pow_reciprocal(const ir_op_t *op) { return is_power(op, -1); }

ir_value_t *apply_pow_reciprocal(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *one = ir_scalar(b, op->out[0].type.dtype, 1);
  return rule_broadcast(b, ir_binary(b, OP_DIV, one, first(op)),
                        &op->out[0].type);
}
