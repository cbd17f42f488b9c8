/* Rules for slices: of scans that leave out the last element, of one-hot
 * vectors that leave out the last places, of what is computed with a single
 * number. */
#include <string.h>

#include "passes/rules.h"

/* The axis along which a slice takes the first elements, all others being
 * taken whole; -1: it is no such slice. */
static int first_elements(const ir_op_t *slice) {
  unsigned n;
  const expr_t *const *start = ir_get_exprs(slice, ATTR_SLICE_start, &n);
  const expr_t *const *step = ir_get_exprs(slice, ATTR_SLICE_step, &n);
  int axis = -1;
  for (unsigned d = 0; d < n; d++) {
    if (rule_slices_all(slice, d)) continue;
    if (axis >= 0 || !expr_equals_const(start[d], 0) ||
        !expr_equals_const(step[d], 1))
      return -1;
    axis = (int)d;
  }
  return axis;
}

/* One zero in front along this axis, and nothing else. */
static bool pads_one_zero(const ir_op_t *pad, int axis) {
  unsigned n;
  double zero;
  const expr_t *const *before = ir_get_exprs(pad, ATTR_PAD_before, &n);
  const expr_t *const *after = ir_get_exprs(pad, ATTR_PAD_after, &n);
  const char *mode = ir_get_str(pad, ATTR_PAD_mode);
  int64_t whole;
  bool is_zero = pad->n_in > 1 && pad->in[1].value != NULL &&
                 ((rule_splat_float(pad->in[1].value, &zero) && zero == 0) ||
                  (rule_splat_int(pad->in[1].value, &whole) && whole == 0));
  if (!is_zero || strcmp(mode, "constant") != 0) return false;
  for (unsigned d = 0; d < n; d++)
    if (!expr_equals_const(before[d], (int)d == axis ? 1 : 0) ||
        !expr_equals_const(after[d], 0))
      return false;
  return true;
}

static int64_t axis_of(const ir_op_t *scan) {
  int64_t axis = ir_get_int(scan, ATTR_CUM_SUM_axis);
  return axis < 0 ? axis + scan->out[0].type.rank : axis;
}

/* A scan in ascending order whose sums have their own element in them. */
static bool is_inclusive(const ir_op_t *op, int axis) {
  return op != NULL && op->code == OP_CUM_SUM && axis_of(op) == axis &&
         ir_get_int(op, ATTR_CUM_SUM_exclusive) == 0 &&
         ir_get_int(op, ATTR_CUM_SUM_reverse) == 0;
}

static ir_value_t *exclusive(ir_builder_t *b, ir_value_t *x, int axis) {
  ir_op_t *op = ir_begin(b, OP_CUM_SUM, 1, &x, 1);
  ir_set_int(op, ATTR_CUM_SUM_axis, axis);
  ir_set_int(op, ATTR_CUM_SUM_exclusive, 1);
  ir_set_int(op, ATTR_CUM_SUM_reverse, 0);
  return ir_place(b, op);
}

/* ---- Scans --------------------------------------------------------------- */

bool match_padded_scan(const ir_op_t *op) {
  const ir_op_t *pad = op->in[0].value->def;
  int axis = first_elements(op);
  const ir_value_t *sums = pad->in[0].value;
  return axis >= 0 && op->out[0].type.dim[axis] == sums->type.dim[axis] &&
         pads_one_zero(pad, axis) && is_inclusive(sums->def, axis);
}

ir_value_t *apply_padded_scan(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *scan = op->in[0].value->def->in[0].value->def;
  return exclusive(b, scan->in[0].value, (int)axis_of(scan));
}

bool match_scan_of_padded(const ir_op_t *op) {
  const ir_op_t *scan = op->in[0].value->def;
  const ir_op_t *pad = scan->in[0].value->def;
  int axis = first_elements(op);
  return axis >= 0 && is_inclusive(scan, axis) && pad != NULL &&
         pad->code == OP_PAD &&
         op->out[0].type.dim[axis] == pad->in[0].value->type.dim[axis] &&
         pads_one_zero(pad, axis);
}

ir_value_t *apply_scan_of_padded(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *scan = op->in[0].value->def;
  const ir_op_t *pad = scan->in[0].value->def;
  return exclusive(b, pad->in[0].value, (int)axis_of(scan));
}

/* ---- One-hot ------------------------------------------------------------- */

/* The operand that counts along the slice's axis, the other being the same for
 * all of its elements; -1: neither. */
static int counting_side(const ir_op_t *op, int axis) {
  const ir_op_t *eq = op->in[0].value->def;
  const ir_type_t *type = &eq->out[0].type;
  for (unsigned i = 0; axis >= 0 && i < 2; i++) {
    const ir_value_t *count = eq->in[i].value, *x = eq->in[1 - i].value;
    int at = axis - (int)(type->rank - count->type.rank);
    int of = axis - (int)(type->rank - x->type.rank);
    if (at < 0 || count->type.dim[at] != type->dim[axis]) continue;
    if (of >= 0 && !rule_is_one(x->type.dim[of])) continue;
    if (count->def != NULL &&
        (count->def->code == OP_IOTA || count->def->code == OP_CONSTANT))
      return (int)i;
  }
  return -1;
}

bool match_slice_of_one_hot(const ir_op_t *op) {
  return counting_side(op, first_elements(op)) >= 0;
}

ir_value_t *apply_slice_of_one_hot(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *eq = op->in[0].value->def;
  int axis = first_elements(op), side = counting_side(op, axis);
  ir_value_t *count = eq->in[side].value, *in[2];
  unsigned at = (unsigned)axis - (eq->out[0].type.rank - count->type.rank);
  const expr_t *length = op->out[0].type.dim[axis];
  const expr_t *one = expr_const(b->module->exprs, 1);
  in[side] = count->def->code == OP_IOTA
                 ? ir_iota(b, count->type.dtype, length)
                 : ir_slice(b, count, at, expr_const(b->module->exprs, 0),
                            length, one);
  in[1 - side] = eq->in[1 - side].value;
  return ir_binary(b, OP_EQ, in[0], in[1]);
}

/* ---- Single numbers ------------------------------------------------------ */

/* The operand that has all elements, the other one having a single one; -1. */
static int whole_side(const ir_op_t *op) {
  if (op->n_in != 2 || op->n_out != 1) return -1;
  for (unsigned i = 0; i < 2; i++)
    if (rule_same_dims(&op->in[i].value->type, &op->out[0].type) &&
        rule_has_one_element(&op->in[1 - i].value->type) &&
        op->in[1 - i].value->type.rank == 0)
      return (int)i;
  return -1;
}

bool match_slice_of_single_number(const ir_op_t *op) {
  const ir_value_t *x = op->in[0].value;
  return x->uses != NULL && x->uses->next == NULL && whole_side(x->def) >= 0;
}

ir_value_t *apply_slice_of_single_number(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *inner = op->in[0].value->def;
  int side = whole_side(inner);
  unsigned n;
  ir_value_t *in[2] = {inner->in[0].value, inner->in[1].value};
  ir_op_t *slice = ir_begin(b, OP_SLICE, 1, &in[side], 1);
  const expr_t *const *list = ir_get_exprs(op, ATTR_SLICE_start, &n);
  ir_set_exprs(slice, ATTR_SLICE_start, n, list);
  list = ir_get_exprs(op, ATTR_SLICE_length, &n);
  ir_set_exprs(slice, ATTR_SLICE_length, n, list);
  list = ir_get_exprs(op, ATTR_SLICE_step, &n);
  ir_set_exprs(slice, ATTR_SLICE_step, n, list);
  in[side] = ir_place(b, slice);
  ir_op_t *whole = ir_begin(b, inner->code, 2, in, 1);
  for (unsigned i = 0; i < inner->n_attrs; i++)
    ir_copy_attr(whole, &inner->attrs[i]);
  return ir_place(b, whole);
}
