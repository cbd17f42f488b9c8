/* Matrices that are constants of their own, stacked along an axis for products
 * of groups. */
#include "passes/layout.h"

enum { MAX_VIEWS = 16 };

static bool is_constant(const ir_value_t *x) {
  for (unsigned i = 0; x->def != NULL && i < MAX_VIEWS; i++) {
    const ir_op_t *op = x->def;
    if (op->code == OP_CONSTANT) return true;
    bool view = op->code == OP_RESHAPE || op->code == OP_TRANSPOSE ||
                op->code == OP_SLICE || op->code == OP_CAST;
    if (!view) return false;
    x = op->in[0].value;
  }
  return false;
}

static bool keeps_batch(const ir_op_t *op) {
  unsigned n;
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
  if (in->rank == 0 || out->rank == 0 || in->dim[0] != out->dim[0])
    return false;
  switch (op->code) {
    case OP_CAST:
    case OP_RESHAPE:
      return true;
    case OP_TRANSPOSE:
      return ir_get_ints(op, ATTR_TRANSPOSE_perm, &n)[0] == 0;
    case OP_SLICE:
      return expr_equals_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[0], 0) &&
             expr_equals_const(ir_get_exprs(op, ATTR_SLICE_step, &n)[0], 1);
    default:
      return false;
  }
}

static bool stacks_constants(const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis != 0 && axis != -(int64_t)op->out[0].type.rank) return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (!is_constant(op->in[i].value)) return false;
  return true;
}

const ir_op_t *layout_find_stack(const ir_value_t *w) {
  for (unsigned i = 0; w->def != NULL && i < MAX_VIEWS; i++) {
    const ir_op_t *op = w->def;
    if (op->code == OP_CONCAT) return stacks_constants(op) ? op : NULL;
    bool view = op->code == OP_CAST || op->code == OP_RESHAPE ||
                op->code == OP_TRANSPOSE || op->code == OP_SLICE;
    if (!view || !keeps_batch(op)) return NULL;
    w = op->in[0].value;
  }
  return NULL;
}

bool layout_stacks_plainly(const ir_op_t *concat) {
  for (unsigned i = 0; i < concat->n_in; i++) {
    const ir_op_t *op = concat->in[i].value->def;
    while (op != NULL && op->code == OP_RESHAPE) op = op->in[0].value->def;
    if (op == NULL || op->code != OP_CONSTANT) return false;
  }
  return true;
}

ir_value_t *layout_part_of_stack(ir_builder_t *b, ir_value_t *w,
                                 unsigned part) {
  const ir_op_t *op = w->def;
  unsigned n;
  if (op->code == OP_CONCAT) return op->in[part].value;
  ir_value_t *x = layout_part_of_stack(b, op->in[0].value, part);
  ir_op_t *view = ir_begin(b, op->code, 1, &x, 1);
  if (view == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++)
    view->attrs[view->n_attrs++] = op->attrs[i];
  ir_attr_id_t id =
      op->code == OP_RESHAPE ? ATTR_RESHAPE_shape : ATTR_SLICE_length;
  if (op->code == OP_RESHAPE || op->code == OP_SLICE) {
    const expr_t *dim[IR_MAX_RANK];
    const expr_t *const *whole = ir_get_exprs(op, id, &n);
    for (unsigned d = 0; d < n; d++) dim[d] = whole[d];
    dim[0] = x->type.dim[0];
    ir_set_exprs(view, id, n, dim);
  }
  return ir_place(b, view);
}
