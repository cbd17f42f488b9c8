/* Shape laws of reductions, scans and selections along axes. */
#include "ir/shape.h"

_Static_assert(ATTR_REDUCE_SUM_keepdims == ATTR_REDUCE_SUM_axes + 1 &&
                   ATTR_REDUCE_PROD_keepdims == ATTR_REDUCE_PROD_axes + 1 &&
                   ATTR_REDUCE_MAX_keepdims == ATTR_REDUCE_MAX_axes + 1 &&
                   ATTR_REDUCE_MIN_keepdims == ATTR_REDUCE_MIN_axes + 1,
               "ops.def: reductions have the attributes axes, keepdims");
_Static_assert(ATTR_ARG_MAX_keepdims == ATTR_ARG_MAX_axis + 1 &&
                   ATTR_ARG_MIN_keepdims == ATTR_ARG_MIN_axis + 1,
               "ops.def: arg_max and arg_min have the attributes axis, "
               "keepdims");

/* x without (or with 1 for) the axes that are marked. */
static moec_status_t set_reduced(ir_module_t *module, ir_op_t *op,
                                 dtype_t dtype, const bool *reduced,
                                 bool keepdims, diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK];
  unsigned n = 0;
  for (unsigned i = 0; i < x->rank; i++) {
    if (!reduced[i])
      dim[n++] = x->dim[i];
    else if (keepdims)
      dim[n++] = expr_const(module->exprs, 1);
  }
  return shape_set(module, op, 0, dtype, n, dim, diag);
}

moec_status_t infer_reduce(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  ir_attr_id_t first = ir_op_info(op->code)->attr_first;
  const ir_type_t *x = shape_in(op, 0);
  bool reduced[IR_MAX_RANK] = {false};
  unsigned n, classes = SHAPE_NUMBER;
  const int64_t *axes = ir_get_ints(op, first, &n);
  if (op->code == OP_REDUCE_MAX || op->code == OP_REDUCE_MIN)
    classes |= SHAPE_BOOL;
  MOEC_TRY(shape_class(module, op, 0, classes, diag));
  for (unsigned i = 0; i < n; i++) {
    if (axes[i] < 0 || axes[i] >= x->rank)
      SHAPE_FAIL("axis %lld of %s is out of range for %s", (long long)axes[i],
                 ir_op_info(op->code)->mnemonic, shape_str(module, x));
    if (i > 0 && axes[i] <= axes[i - 1])
      SHAPE_FAIL("axes of %s are not distinct and ascending",
                 ir_op_info(op->code)->mnemonic);
    reduced[axes[i]] = true;
  }
  return set_reduced(module, op, x->dtype, reduced,
                     ir_get_int(op, first + 1) != 0, diag);
}

moec_status_t infer_arg_reduce(ir_module_t *module, ir_op_t *op,
                               diag_sink_t *diag) {
  ir_attr_id_t first = ir_op_info(op->code)->attr_first;
  const ir_type_t *x = shape_in(op, 0);
  bool reduced[IR_MAX_RANK] = {false};
  unsigned axis;
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  MOEC_TRY(shape_axis(op, first, x->rank, &axis, diag));
  if (expr_equals_const(x->dim[axis], 0))
    SHAPE_FAIL("%s over axis %u of %s has nothing to choose from",
               ir_op_info(op->code)->mnemonic, axis, shape_str(module, x));
  reduced[axis] = true;
  return set_reduced(module, op, DT_I64, reduced,
                     ir_get_int(op, first + 1) != 0, diag);
}

/* Operations whose first attribute is an axis and whose result is like x. */
static moec_status_t infer_along_axis(ir_module_t *module, ir_op_t *op,
                                      unsigned classes, diag_sink_t *diag) {
  unsigned axis;
  MOEC_TRY(shape_class(module, op, 0, classes, diag));
  MOEC_TRY(shape_axis(op, ir_op_info(op->code)->attr_first,
                      shape_in(op, 0)->rank, &axis, diag));
  shape_set_like(op, 0, shape_in(op, 0)->dtype, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_scan_axis(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  return infer_along_axis(module, op, SHAPE_NUMBER, diag);
}

moec_status_t infer_softmax(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  return infer_along_axis(module, op, SHAPE_FLOAT, diag);
}

moec_status_t infer_topk(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *k = ir_get_expr(op, ATTR_TOPK_k);
  const expr_t *dim[IR_MAX_RANK];
  unsigned axis;
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  MOEC_TRY(shape_axis(op, ATTR_TOPK_axis, x->rank, &axis, diag));
  MOEC_TRY(shape_at_least(module, op, k, 0, "k =", diag));
  if (expr_compare_less(module->exprs, x->dim[axis], k) == 1)
    SHAPE_FAIL("k = %s exceeds dimension %u of %s", shape_expr_str(module, k),
               axis, shape_str(module, x));
  for (unsigned i = 0; i < x->rank; i++) dim[i] = i == axis ? k : x->dim[i];
  MOEC_TRY(shape_set(module, op, 0, x->dtype, x->rank, dim, diag));
  shape_set_like(op, 1, DT_I64, &op->out[0].type);
  return MOEC_OK;
}

moec_status_t infer_topk_sums(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  enum { MOST = 32 };
  const ir_type_t *a = shape_in(op, 0), *b = shape_in(op, 1);
  const expr_t *dim[IR_MAX_RANK];
  int64_t k = ir_get_int(op, ATTR_TOPK_SUMS_k), n, m;
  bool alike = a->dtype == DT_F32 && b->dtype == DT_F32 && a->rank == b->rank &&
               a->rank > 0 && a->rank < IR_MAX_RANK;
  for (unsigned d = 0; alike && d + 1 < a->rank; d++) {
    alike = !shape_differ(module, a->dim[d], b->dim[d]);
    dim[d] = a->dim[d];
  }
  if (!alike)
    SHAPE_FAIL(
        "topk_sums of %s and %s, expected f32 that differ in the last "
        "dimension only",
        shape_str(module, a), shape_str(module, b));
  unsigned last = a->rank - 1;
  bool few = expr_is_const(a->dim[last], &n) &&
             expr_is_const(b->dim[last], &m) &&
             (n == 0 || m == 0 || (n < k && m < k && n * m < k));
  if (k < 0 || k > MOST || (few && k > 0))
    SHAPE_FAIL("k = %lld of the sums of %s and %s", (long long)k,
               shape_str(module, a), shape_str(module, b));
  dim[last] = expr_const(module->exprs, k);
  MOEC_TRY(shape_set(module, op, 0, DT_F32, a->rank, dim, diag));
  shape_set_like(op, 1, DT_I64, &op->out[0].type);
  return MOEC_OK;
}

moec_status_t infer_nonzero(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  const expr_t *count = ir_get_expr(op, ATTR_NONZERO_count);
  const expr_t *dim[] = {expr_const(module->exprs, shape_in(op, 0)->rank),
                         count};
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER | SHAPE_BOOL, diag));
  MOEC_TRY(shape_at_least(module, op, count, 0, "count", diag));
  return shape_set(module, op, 0, DT_I64, 2, dim, diag);
}

moec_status_t infer_sort_rows(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0);
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER | SHAPE_BOOL, diag));
  if (x->rank != 2)
    SHAPE_FAIL("operand 0 of sort_rows is %s, expected a matrix",
               shape_str(module, x));
  MOEC_TRY(shape_set(module, op, 0, DT_I64, 1, x->dim, diag));
  return shape_set(module, op, 1, DT_I64, 1, x->dim, diag);
}

moec_status_t infer_greedy(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *excluded = shape_in(op, 1);
  MOEC_TRY(shape_class(module, op, 0, SHAPE_BOOL, diag));
  MOEC_TRY(shape_class(module, op, 1, SHAPE_BOOL, diag));
  bool fits = x->rank >= 1 && excluded->rank == x->rank + 1;
  for (unsigned i = 0; fits && i < excluded->rank; i++)
    fits = !shape_differ(module, excluded->dim[i],
                         x->dim[i < x->rank ? i : x->rank - 1]);
  if (!fits)
    SHAPE_FAIL(
        "operands of greedy are %s and %s, expected bool[.., n] and "
        "bool[.., n, n]",
        shape_str(module, x), shape_str(module, excluded));
  return shape_set(module, op, 0, DT_BOOL, x->rank, x->dim, diag);
}
