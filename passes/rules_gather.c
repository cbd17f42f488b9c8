/* Rules for gathers at positions known to be valid: they need no checks and
 * become slices. */
#include "passes/rules.h"

static unsigned axis_of(const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  return (unsigned)(axis < 0 ? axis + op->in[0].value->type.rank : axis);
}

/* `index`, counted from the end where it is a negative constant. */
static const expr_t *position(const ir_op_t *op, const expr_t *index) {
  int64_t value;
  if (!expr_is_const(index, &value) || value >= 0) return index;
  const expr_t *size = op->in[0].value->type.dim[axis_of(op)];
  return expr_add(op->module->exprs, size, index);
}

/* 0 <= start and start + length <= size for all values of the symbols. */
static bool lies_within(expr_pool_t *pool, const expr_t *start,
                        const expr_t *length, const expr_t *size) {
  const expr_t *end = expr_add(pool, start, length);
  return expr_compare_less(pool, start, expr_const(pool, 0)) == 0 &&
         expr_compare_less(pool, size, end) == 0;
}

static bool takes(const ir_op_t *op, const expr_t *start,
                  const expr_t *length) {
  return lies_within(op->module->exprs, start, length,
                     op->in[0].value->type.dim[axis_of(op)]);
}

static ir_value_t *take(ir_op_t *op, ir_builder_t *b, const expr_t *start,
                        const expr_t *length) {
  return ir_slice(b, op->in[0].value, axis_of(op), start, length,
                  expr_const(b->module->exprs, 1));
}

/* ---- One index ----------------------------------------------------------- */

bool match_gather_one(const ir_op_t *op) {
  const ir_value_t *index = op->in[1].value;
  if (!rule_has_one_element(&index->type)) return false;
  const expr_t *at = ir_known(index, 0);
  const expr_t *one = expr_const(op->module->exprs, 1);
  return at != NULL && takes(op, position(op, at), one);
}

ir_value_t *apply_gather_one(ir_op_t *op, ir_builder_t *b) {
  const expr_t *start = position(op, ir_known(op->in[1].value, 0));
  const ir_type_t *to = &op->out[0].type;
  ir_value_t *slice = take(op, b, start, expr_const(b->module->exprs, 1));
  return ir_reshape(b, slice, to->rank, to->dim);
}

/* ---- Several indices that follow each other ------------------------------ */

bool match_gather_run(const ir_op_t *op) {
  const ir_value_t *index = op->in[1].value;
  expr_pool_t *pool = op->module->exprs;
  int64_t n;
  if (index->type.rank != 1 || index->content == NULL ||
      !ir_type_static_count(&index->type, &n) || n < 1)
    return false;
  const expr_t *start = position(op, index->content[0]);
  for (int64_t i = 1; i < n; i++)
    if (position(op, index->content[i]) !=
        expr_add(pool, start, expr_const(pool, i)))
      return false;
  return takes(op, start, expr_const(pool, n));
}

ir_value_t *apply_gather_run(ir_op_t *op, ir_builder_t *b) {
  const ir_value_t *index = op->in[1].value;
  return take(op, b, position(op, index->content[0]), index->type.dim[0]);
}

static bool is_iota(const ir_value_t *value) {
  return value->def != NULL && value->def->code == OP_IOTA &&
         value->type.dtype == DT_I64;
}

/* The start and length of indices iota(n) or iota(n) + c. */
static bool iota_run(const ir_op_t *op, const expr_t **out_start,
                     const expr_t **out_length) {
  const ir_value_t *index = op->in[1].value;
  *out_start = expr_const(op->module->exprs, 0);
  if (index->type.rank != 1) return false;
  if (index->def != NULL && index->def->code == OP_ADD) {
    const ir_op_t *add = index->def;
    unsigned at = is_iota(add->in[0].value) ? 0 : 1;
    const ir_value_t *by = add->in[1 - at].value;
    *out_start = ir_known(by, 0);
    if (!rule_has_one_element(&by->type) || *out_start == NULL) return false;
    index = add->in[at].value;
  }
  if (!is_iota(index)) return false;
  *out_length = ir_get_expr(index->def, ATTR_IOTA_n);
  return true;
}

bool match_gather_iota(const ir_op_t *op) {
  const expr_t *start, *length;
  return iota_run(op, &start, &length) && takes(op, start, length);
}

ir_value_t *apply_gather_iota(ir_op_t *op, ir_builder_t *b) {
  const expr_t *start, *length;
  bool found = iota_run(op, &start, &length);
  MOEC_ASSERT(found);
  return take(op, b, start, length);
}

/* ---- Whole rows by other operations -------------------------------------- */

bool match_gather_nd_of_rows(const ir_op_t *op) {
  const ir_type_t *index = &op->in[1].value->type;
  return ir_get_int(op, ATTR_GATHER_ND_batch_dims) == 0 &&
         rule_is_one(index->dim[index->rank - 1]);
}

ir_value_t *apply_gather_nd_of_rows(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *index = op->in[1].value;
  index = ir_squeeze(b, index, index->type.rank - 1);
  return ir_gather(b, op->in[0].value, index, 0);
}

static unsigned elements_axis(const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_GATHER_ELEMENTS_axis);
  return (unsigned)(axis < 0 ? axis + op->in[0].value->type.rank : axis);
}

/* The indices are copies of one list along the axis, and all of the data's
 * other dimensions are taken. */
bool match_gather_elements_of_rows(const ir_op_t *op) {
  const ir_op_t *expand = rule_def(op, 1, OP_EXPAND);
  const ir_type_t *x = &op->in[0].value->type, *to = &op->out[0].type;
  if (expand == NULL) return false;
  const ir_type_t *list = &expand->in[0].value->type;
  unsigned shift = to->rank - list->rank, axis = elements_axis(op);
  if (axis < shift || list->dim[axis - shift] != to->dim[axis]) return false;
  for (unsigned d = 0; d < to->rank; d++) {
    if (d == axis) continue;
    if (d >= shift && !rule_is_one(list->dim[d - shift])) return false;
    if (x->dim[d] != to->dim[d]) return false;
  }
  return true;
}

ir_value_t *apply_gather_elements_of_rows(ir_op_t *op, ir_builder_t *b) {
  unsigned axis = elements_axis(op);
  const expr_t *n = op->out[0].type.dim[axis];
  ir_value_t *list = op->in[1].value->def->in[0].value;
  return ir_gather(b, op->in[0].value, ir_reshape(b, list, 1, &n), axis);
}
