/* Rules for reductions and scans that combine nothing. */
#include "passes/rules.h"

static const int64_t *axes_of(const ir_op_t *op, unsigned *out_n) {
  return ir_get_ints(op, ir_op_info(op->code)->attr_first, out_n);
}

bool match_reduce_nothing(const ir_op_t *op) {
  unsigned n;
  axes_of(op, &n);
  return n == 0;
}

ir_value_t *apply_reduce_nothing(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return op->in[0].value;
}

bool match_reduce_of_ones(const ir_op_t *op) {
  unsigned n;
  const int64_t *axes = axes_of(op, &n);
  for (unsigned i = 0; i < n; i++)
    if (!rule_is_one(op->in[0].value->type.dim[axes[i]])) return false;
  return true;
}

ir_value_t *apply_reduce_of_ones(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  return ir_reshape(b, op->in[0].value, to->rank, to->dim);
}

/* Not for floats: sums begin with 0.0, and 0.0 + -0.0 is not -0.0. */
bool match_scan_of_one(const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type;
  int64_t axis = ir_get_int(op, ATTR_CUM_SUM_axis);
  if (!dtype_is_integer(x->dtype)) return false;
  if (axis < 0) axis += x->rank;
  return rule_is_one(x->dim[axis]) &&
         ir_get_int(op, ATTR_CUM_SUM_exclusive) == 0;
}

ir_value_t *apply_scan_of_one(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return op->in[0].value;
}
