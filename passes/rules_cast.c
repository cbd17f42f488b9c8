/* Rules for conversions between element types. */
#include "passes/rules.h"

static bool is_number(dtype_t dtype) {
  dtype_class_t class = dtype_class(dtype);
  return class == DT_CLASS_FLOAT || class == DT_CLASS_SIGNED ||
         class == DT_CLASS_UNSIGNED || class == DT_CLASS_BOOL;
}

/* Bits of a float's significand and the exponents of its smallest and largest
 * numbers, all as powers of two. */
typedef struct float_range {
  int digits, least, most;
  bool specials; /* NaN, both infinities, both zeros and signs */
} float_range_t;

static float_range_t range_of_float(dtype_t dtype) {
  switch (dtype) {
    case DT_F64:
      return (float_range_t){53, -1074, 1023, true};
    case DT_F32:
      return (float_range_t){24, -149, 127, true};
    case DT_F16:
      return (float_range_t){11, -24, 15, true};
    case DT_BF16:
      return (float_range_t){8, -133, 127, true};
    case DT_F8E4M3FN:
      return (float_range_t){4, -9, 8, false};
    case DT_F8E4M3FNUZ:
      return (float_range_t){4, -10, 7, false};
    case DT_F8E5M2:
      return (float_range_t){3, -16, 15, false};
    case DT_F8E5M2FNUZ:
      return (float_range_t){3, -17, 15, false};
    case DT_F4E2M1:
      return (float_range_t){2, -1, 2, false};
    case DT_F8E8M0:
      return (float_range_t){1, -127, 127, false};
    default:
      return (float_range_t){0, 0, 0, false};
  }
}

/* Every value of `from` is one of `to`. */
static bool holds_integers(dtype_t from, dtype_t to) {
  int bits = (int)dtype_bits(from);
  bool negative = dtype_class(from) == DT_CLASS_SIGNED;
  if (dtype_class(from) == DT_CLASS_BOOL) bits = 1;
  if (dtype_is_float(to)) {
    float_range_t r = range_of_float(to);
    int magnitude = negative ? bits - 1 : bits;
    return r.specials && magnitude <= r.digits && magnitude <= r.most;
  }
  bool keeps_sign = dtype_class(to) == DT_CLASS_SIGNED;
  if (negative && !keeps_sign) return false;
  return dtype_is_integer(to) &&
         bits + (keeps_sign && !negative) <= (int)dtype_bits(to);
}

bool rule_cast_holds(dtype_t from, dtype_t to) {
  if (from == to) return true;
  if (!dtype_is_float(from)) return holds_integers(from, to);
  float_range_t a = range_of_float(from), b = range_of_float(to);
  return a.digits > 0 && b.specials && a.digits <= b.digits &&
         a.least >= b.least && a.most <= b.most;
}

/* Integers wrap among themselves
 * but saturate when they come from floats: then nothing may be out of range. */
bool rule_cast_skips(dtype_t from, dtype_t through, dtype_t to) {
  if (!is_number(from) || !is_number(through) || !is_number(to)) return false;
  bool integers = dtype_is_integer(through) && dtype_is_integer(to) &&
                  !dtype_is_float(from);
  if (integers && dtype_bits(to) <= dtype_bits(through) &&
      dtype_is_integer(from))
    return true;
  if (!rule_cast_holds(from, through)) return false;
  if (dtype_is_float(from) == dtype_is_float(through)) return true;
  return !dtype_is_integer(to) || holds_integers(from, to);
}

bool match_cast_same(const ir_op_t *op) {
  return op->in[0].value->type.dtype == op->out[0].type.dtype;
}

ir_value_t *apply_cast_same(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return op->in[0].value;
}

bool match_cast_of_cast(const ir_op_t *op) {
  const ir_value_t *middle = op->in[0].value;
  return rule_cast_skips(middle->def->in[0].value->type.dtype,
                         middle->type.dtype, op->out[0].type.dtype);
}

ir_value_t *apply_cast_of_cast(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value->def->in[0].value;
  if (x->type.dtype == op->out[0].type.dtype) return x;
  ir_op_t *cast = ir_clone(b->module, op, NULL, NULL);
  ir_set_operand(cast, 0, x);
  return ir_place(b, cast);
}

bool match_bitcast_same(const ir_op_t *op) { return match_cast_same(op); }

ir_value_t *apply_bitcast_same(ir_op_t *op, ir_builder_t *b) {
  return apply_cast_same(op, b);
}

bool match_bitcast_of_bitcast(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_bitcast_of_bitcast(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value->def->in[0].value;
  ir_op_t *cast = ir_clone(b->module, op, NULL, NULL);
  ir_set_operand(cast, 0, x);
  return ir_place(b, cast);
}
