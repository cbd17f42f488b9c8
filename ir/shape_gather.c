/* Shape laws of operations that move elements by index. */
#include <string.h>

#include "ir/shape.h"

moec_status_t infer_gather(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *index = shape_in(op, 1);
  const expr_t *dim[2 * IR_MAX_RANK];
  unsigned axis, n = 0;
  MOEC_TRY(shape_class(module, op, 1, SHAPE_INTEGER, diag));
  MOEC_TRY(shape_axis(op, ATTR_GATHER_axis, x->rank, &axis, diag));
  for (unsigned i = 0; i < axis; i++) dim[n++] = x->dim[i];
  for (unsigned i = 0; i < index->rank; i++) dim[n++] = index->dim[i];
  for (unsigned i = axis + 1; i < x->rank; i++) dim[n++] = x->dim[i];
  return shape_set(module, op, 0, x->dtype, n, dim, diag);
}

/* Indices (operand 1) have data's rank, and no more entries than data along
 * axes other than `axis`. */
static moec_status_t check_elements(ir_module_t *module, ir_op_t *op,
                                    unsigned axis, diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *index = shape_in(op, 1);
  bool fits = index->rank == x->rank;
  for (unsigned i = 0; fits && i < x->rank; i++)
    fits = i == axis ||
           expr_compare_less(module->exprs, x->dim[i], index->dim[i]) != 1;
  if (!fits)
    SHAPE_FAIL("indices %s of %s reach beyond %s", shape_str(module, index),
               ir_op_info(op->code)->mnemonic, shape_str(module, x));
  return MOEC_OK;
}

moec_status_t infer_gather_elements(ir_module_t *module, ir_op_t *op,
                                    diag_sink_t *diag) {
  unsigned axis;
  MOEC_TRY(shape_class(module, op, 1, SHAPE_INTEGER, diag));
  MOEC_TRY(shape_axis(op, ATTR_GATHER_ELEMENTS_axis, shape_in(op, 0)->rank,
                      &axis, diag));
  MOEC_TRY(check_elements(module, op, axis, diag));
  shape_set_like(op, 0, shape_in(op, 0)->dtype, shape_in(op, 1));
  return MOEC_OK;
}

/* The last dimension of the indices: how many axes of data (after its batch
 * axes) an index names. */
static moec_status_t index_depth(ir_module_t *module, ir_op_t *op,
                                 unsigned batch, unsigned *out_depth,
                                 diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *index = shape_in(op, 1);
  int64_t depth;
  *out_depth = 0;
  MOEC_TRY(shape_class(module, op, 1, SHAPE_INTEGER, diag));
  MOEC_TRY(shape_min_rank(module, op, 0, batch + 1, diag));
  MOEC_TRY(shape_min_rank(module, op, 1, batch + 1, diag));
  if (!expr_is_const(index->dim[index->rank - 1], &depth))
    return diag_error(diag, op->loc, MOEC_E_UNSUPPORTED,
                      "last dimension of the indices %s of %s is not constant",
                      shape_str(module, index), ir_op_info(op->code)->mnemonic);
  if (depth < 1 || depth > x->rank - batch)
    SHAPE_FAIL("last dimension of the indices %s of %s, expected 1..%u",
               shape_str(module, index), ir_op_info(op->code)->mnemonic,
               x->rank - batch);
  *out_depth = (unsigned)depth;
  return MOEC_OK;
}

moec_status_t infer_gather_nd(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *index = shape_in(op, 1);
  const expr_t *dim[2 * IR_MAX_RANK];
  int64_t batch = ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  unsigned depth, n = 0;
  if (batch < 0 || batch > IR_MAX_RANK)
    SHAPE_FAIL("batch_dims = %lld of gather_nd", (long long)batch);
  MOEC_TRY(index_depth(module, op, (unsigned)batch, &depth, diag));
  for (unsigned i = 0; i + 1 < index->rank; i++) {
    dim[n++] = index->dim[i];
    if (i >= batch) continue;
    if (shape_differ(module, index->dim[i], x->dim[i]))
      SHAPE_FAIL("indices %s and data %s of gather_nd differ in batch axis %u",
                 shape_str(module, index), shape_str(module, x), i);
    dim[i] = shape_merge(index->dim[i], x->dim[i]);
  }
  for (unsigned i = (unsigned)batch + depth; i < x->rank; i++)
    dim[n++] = x->dim[i];
  return shape_set(module, op, 0, x->dtype, n, dim, diag);
}

/* Updates (operand 2) combine with data (operand 0). */
static moec_status_t check_reduction(ir_module_t *module, ir_op_t *op,
                                     const char *reduction, diag_sink_t *diag) {
  static const char *const known[] = {"none", "add", "mul", "max", "min"};
  MOEC_TRY(shape_same_dtype(module, op, 0, 2, diag));
  if (reduction == NULL || strcmp(reduction, "none") == 0) return MOEC_OK;
  for (unsigned i = 1; i < sizeof known / sizeof known[0]; i++)
    if (strcmp(reduction, known[i]) == 0)
      return shape_class(module, op, 0, SHAPE_NUMBER, diag);
  SHAPE_FAIL("reduction \"%s\" of %s, expected none, add, mul, max or min",
             reduction, ir_op_info(op->code)->mnemonic);
}

moec_status_t infer_scatter_elements(ir_module_t *module, ir_op_t *op,
                                     diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *index = shape_in(op, 1);
  const ir_type_t *updates = shape_in(op, 2);
  const char *reduction = ir_get_str(op, ATTR_SCATTER_ELEMENTS_reduction);
  unsigned axis;
  MOEC_TRY(shape_class(module, op, 1, SHAPE_INTEGER, diag));
  MOEC_TRY(shape_axis(op, ATTR_SCATTER_ELEMENTS_axis, x->rank, &axis, diag));
  MOEC_TRY(check_reduction(module, op, reduction, diag));
  MOEC_TRY(check_elements(module, op, axis, diag));
  bool same = updates->rank == index->rank;
  for (unsigned i = 0; same && i < index->rank; i++)
    same = !shape_differ(module, index->dim[i], updates->dim[i]);
  if (!same)
    SHAPE_FAIL(
        "updates %s of scatter_elements, expected the shape of indices "
        "%s",
        shape_str(module, updates), shape_str(module, index));
  shape_set_like(op, 0, x->dtype, x);
  return MOEC_OK;
}

moec_status_t infer_scatter_nd(ir_module_t *module, ir_op_t *op,
                               diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *index = shape_in(op, 1);
  const ir_type_t *updates = shape_in(op, 2);
  const char *reduction = ir_get_str(op, ATTR_SCATTER_ND_reduction);
  unsigned depth;
  MOEC_TRY(index_depth(module, op, 0, &depth, diag));
  MOEC_TRY(check_reduction(module, op, reduction, diag));
  unsigned outer = index->rank - 1;
  bool same = updates->rank == outer + x->rank - depth;
  for (unsigned i = 0; same && i < updates->rank; i++)
    same = !shape_differ(module, updates->dim[i],
                         i < outer ? index->dim[i] : x->dim[i - outer + depth]);
  if (!same)
    SHAPE_FAIL("updates %s of scatter_nd do not fit data %s and indices %s",
               shape_str(module, updates), shape_str(module, x),
               shape_str(module, index));
  shape_set_like(op, 0, x->dtype, x);
  return MOEC_OK;
}
