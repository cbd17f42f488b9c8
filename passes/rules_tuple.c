/* Rules for gathers and scatters by tuples whose first numbers only count the
 * tuples: the element [i, j, x[i, j]] is taken along one axis. */
#include "ir/element.h"
#include "passes/rules.h"

enum { MAX_STEPS = 12, MAX_COUNT = 1 << 16 };

/* ---- Numbers that count -------------------------------------------------- */

/* The dimension of `from` that dimension `axis` of `to` is, where the two
 * differ by dimensions of 1; -1: they differ otherwise. */
static int same_dimension(const ir_type_t *to, unsigned axis,
                          const ir_type_t *from) {
  int found = -1;
  unsigned d = 0;
  for (unsigned i = 0; i < to->rank; i++) {
    if (rule_is_one(to->dim[i])) continue;
    while (d < from->rank && rule_is_one(from->dim[d])) d++;
    if (d == from->rank || from->dim[d] != to->dim[i]) return -1;
    if (i == axis) found = (int)d;
    d++;
  }
  while (d < from->rank && rule_is_one(from->dim[d])) d++;
  return d == from->rank ? found : -1;
}

static bool constant_counts(const ir_op_t *op, unsigned axis) {
  const ir_type_t *type = &op->out[0].type;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  int64_t count, n, behind = 1, size;
  if (data->bytes == NULL || !dtype_is_integer(type->dtype) ||
      !ir_type_static_count(type, &count) || count > MAX_COUNT ||
      !expr_is_const(type->dim[axis], &n))
    return false;
  for (unsigned d = axis + 1; d < type->rank; d++)
    behind *= expr_is_const(type->dim[d], &size) ? size : 1;
  for (int64_t i = 0; i < count; i++)
    if (ir_element_float(type->dtype, data->bytes, (uint64_t)i) !=
        (double)(i / behind % n))
      return false;
  return true;
}

bool rule_counts_along(const ir_value_t *x, unsigned axis) {
  for (unsigned i = 0; i < MAX_STEPS && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    int at = (int)axis;
    if (op->code == OP_CONSTANT) return constant_counts(op, axis);
    if (op->code == OP_IOTA) return true;
    if (op->n_in == 0) return false;
    const ir_type_t *from = &op->in[0].value->type;
    if (op->code == OP_RESHAPE) {
      at = same_dimension(&x->type, axis, from);
    } else if (op->code == OP_EXPAND) {
      at -= (int)(x->type.rank - from->rank);
      if (at >= 0 && from->dim[at] != x->type.dim[axis]) return false;
    } else if (op->code != OP_CAST || !dtype_is_integer(x->type.dtype) ||
               !dtype_is_integer(from->dtype)) {
      return false;
    }
    if (at < 0) return false;
    axis = (unsigned)at;
    x = op->in[0].value;
  }
  return false;
}

/* ---- Tuples -------------------------------------------------------------- */

/* Columns of tuples side by side, perhaps behind a cast of all. */
static const ir_op_t *columns_of(const ir_op_t *op) {
  const ir_op_t *concat = op->in[1].value->def;
  while (concat != NULL && concat->code == OP_CAST) {
    const ir_value_t *from = concat->in[0].value;
    if (!rule_cast_holds(from->type.dtype, concat->out[0].type.dtype))
      return NULL;
    concat = from->def;
  }
  if (concat == NULL || concat->code != OP_CONCAT) return NULL;
  int64_t axis = ir_get_int(concat, ATTR_CONCAT_axis);
  unsigned rank = concat->out[0].type.rank;
  return axis == (int64_t)rank - 1 || axis == -1 ? concat : NULL;
}

/* How many columns from the first one on say where in dimensions first,
 * first + 1, .. their tuple is, in tensors of the same size there. One is left.
 */
static unsigned counting_columns(const ir_op_t *columns, const ir_type_t *x,
                                 unsigned first) {
  const ir_type_t *index = &columns->out[0].type;
  unsigned n = 0;
  while (n + 1 < columns->n_in && first + n + 1 < index->rank &&
         first + n < x->rank) {
    const ir_value_t *column = columns->in[n].value;
    unsigned d = first + n;
    if (!rule_is_one(column->type.dim[index->rank - 1]) ||
        index->dim[d] != x->dim[d] || !rule_counts_along(column, d))
      break;
    n++;
  }
  return n;
}

/* The columns behind the first n, as the operation takes them. */
static ir_value_t *other_columns(const ir_op_t *op, unsigned n,
                                 ir_builder_t *b) {
  const ir_op_t *columns = columns_of(op);
  ir_value_t *part[IR_MAX_RANK];
  unsigned left = columns->n_in - n;
  MOEC_ASSERT(left <= IR_MAX_RANK);
  for (unsigned i = 0; i < left; i++) part[i] = columns->in[n + i].value;
  ir_value_t *rest =
      left == 1 ? part[0]
                : ir_concat(b, left, part, columns->out[0].type.rank - 1);
  return ir_cast(b, rest, op->in[1].value->type.dtype);
}

static bool has_few_columns(const ir_op_t *columns) {
  return columns != NULL && columns->n_in <= IR_MAX_RANK;
}

bool match_gather_nd_in_order(const ir_op_t *op) {
  const ir_op_t *columns = columns_of(op);
  unsigned first = (unsigned)ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  return has_few_columns(columns) &&
         counting_columns(columns, &op->in[0].value->type, first) > 0;
}

ir_value_t *apply_gather_nd_in_order(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value;
  unsigned first = (unsigned)ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  unsigned n = counting_columns(columns_of(op), &x->type, first);
  ir_value_t *in[2] = {x, other_columns(op, n, b)};
  ir_op_t *gather = ir_begin(b, OP_GATHER_ND, 2, in, 1);
  if (gather == NULL) return NULL;
  ir_set_int(gather, ATTR_GATHER_ND_batch_dims, first + n);
  return ir_place(b, gather);
}

/* One number for each element that is taken: [batch.., n]. */
static ir_value_t *flat_numbers(ir_builder_t *b, ir_value_t *index,
                                const ir_type_t *x) {
  const expr_t *dim[IR_MAX_RANK], *n = expr_const(b->module->exprs, 1);
  unsigned batch = x->rank - 1;
  for (unsigned d = 0; d < batch; d++) dim[d] = x->dim[d];
  for (unsigned d = batch; d + 1 < index->type.rank; d++)
    n = expr_mul(b->module->exprs, n, index->type.dim[d]);
  dim[batch] = n;
  return ir_reshape(b, index, batch + 1, dim);
}

bool match_gather_nd_of_elements(const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type, *index = &op->in[1].value->type;
  int64_t batch = ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  return batch > 0 && batch + 1 == (int64_t)x->rank &&
         rule_is_one(index->dim[index->rank - 1]);
}

ir_value_t *apply_gather_nd_of_elements(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value;
  ir_value_t *in[2] = {x, flat_numbers(b, op->in[1].value, &x->type)};
  ir_op_t *gather = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (gather == NULL) return NULL;
  ir_set_int(gather, ATTR_GATHER_ELEMENTS_axis, x->type.rank - 1);
  const ir_type_t *to = &op->out[0].type;
  return ir_reshape(b, ir_place(b, gather), to->rank, to->dim);
}

bool match_scatter_nd_in_order(const ir_op_t *op) {
  const ir_op_t *columns = columns_of(op);
  const ir_type_t *x = &op->in[0].value->type;
  if (!has_few_columns(columns) || columns->n_in != x->rank || x->rank < 2 ||
      !rule_is_one(columns->in[x->rank - 1]
                       .value->type.dim[columns->out[0].type.rank - 1]))
    return false;
  return counting_columns(columns, x, 0) == x->rank - 1;
}

ir_value_t *apply_scatter_nd_in_order(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value;
  ir_value_t *column = other_columns(op, x->type.rank - 1, b);
  ir_value_t *index = flat_numbers(b, column, &x->type);
  ir_value_t *rows =
      ir_reshape(b, op->in[2].value, index->type.rank, index->type.dim);
  ir_value_t *in[3] = {x, index, rows};
  ir_op_t *scatter = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (scatter == NULL) return NULL;
  ir_set_int(scatter, ATTR_SCATTER_ELEMENTS_axis, x->type.rank - 1);
  ir_set_str(scatter, ATTR_SCATTER_ELEMENTS_reduction,
             ir_get_str(op, ATTR_SCATTER_ND_reduction));
  return ir_place(b, scatter);
}
