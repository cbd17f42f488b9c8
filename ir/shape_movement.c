/* Shape laws of operations that move elements by position. */
#include <string.h>

#include "ir/shape.h"

static const expr_t *const *sizes(const ir_op_t *op, ir_attr_id_t id,
                                  unsigned *out_n) {
  return ir_get_exprs(op, id, out_n);
}

/* Attribute `id` has one entry per axis. */
static moec_status_t check_length(const ir_op_t *op, ir_attr_id_t id,
                                  unsigned n, unsigned expected,
                                  diag_sink_t *diag) {
  if (n != expected)
    SHAPE_FAIL("%s of %s has %u entries, expected %u", ir_attr_info(id)->name,
               ir_op_info(op->code)->mnemonic, n, expected);
  return MOEC_OK;
}

static moec_status_t check_sizes(const ir_module_t *module, const ir_op_t *op,
                                 const expr_t *const *dim, unsigned n,
                                 diag_sink_t *diag) {
  for (unsigned i = 0; i < n; i++)
    MOEC_TRY(shape_at_least(module, op, dim[i], 0, "size", diag));
  return MOEC_OK;
}

moec_status_t infer_reshape(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  unsigned rank;
  const expr_t *const *dim = sizes(op, ATTR_RESHAPE_shape, &rank);
  const ir_type_t *x = shape_in(op, 0);
  MOEC_TRY(check_sizes(module, op, dim, rank, diag));
  MOEC_TRY(shape_set(module, op, 0, x->dtype, rank, dim, diag));
  const expr_t *from = ir_type_count(module->exprs, x);
  const expr_t *to = ir_type_count(module->exprs, &op->out[0].type);
  if (shape_differ(module, from, to))
    SHAPE_FAIL("reshape of %s to %s, expected as many elements",
               shape_str(module, x), shape_str(module, &op->out[0].type));
  return MOEC_OK;
}

moec_status_t infer_expand(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  unsigned rank;
  const expr_t *const *dim = sizes(op, ATTR_EXPAND_shape, &rank);
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *one = expr_const(module->exprs, 1);
  MOEC_TRY(check_sizes(module, op, dim, rank, diag));
  MOEC_TRY(shape_set(module, op, 0, x->dtype, rank, dim, diag));
  bool fits = x->rank <= rank;
  for (unsigned i = 0; i < x->rank && fits; i++)
    fits = !shape_differ(module, x->dim[i], dim[rank - x->rank + i]) ||
           !shape_differ(module, x->dim[i], one);
  if (!fits)
    SHAPE_FAIL("cannot broadcast %s to %s", shape_str(module, x),
               shape_str(module, &op->out[0].type));
  return MOEC_OK;
}

moec_status_t infer_transpose(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK];
  bool seen[IR_MAX_RANK] = {false};
  MOEC_TRY(check_length(op, ATTR_TRANSPOSE_perm, n, x->rank, diag));
  for (unsigned i = 0; i < n; i++) {
    if (perm[i] < 0 || perm[i] >= n || seen[perm[i]])
      SHAPE_FAIL("perm[%u] = %lld does not belong to a permutation of %u axes",
                 i, (long long)perm[i], n);
    seen[perm[i]] = true;
    dim[i] = x->dim[perm[i]];
  }
  return shape_set(module, op, 0, x->dtype, n, dim, diag);
}

/* The first and last element read along an axis exist, unless not known. */
static moec_status_t check_slice(ir_module_t *module, ir_op_t *op,
                                 unsigned axis, const expr_t *start,
                                 const expr_t *length, const expr_t *step,
                                 diag_sink_t *diag) {
  expr_pool_t *pool = module->exprs;
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *zero = expr_const(pool, 0), *one = expr_const(pool, 1);
  if (length == x->dim[axis] && start == zero && step == one) return MOEC_OK;
  int64_t lower;
  if (!expr_lower_bound(length, &lower) || lower < 1) return MOEC_OK;
  const expr_t *last =
      expr_add(pool, start, expr_mul(pool, expr_sub(pool, length, one), step));
  if (expr_compare_less(pool, start, zero) == 1 ||
      expr_compare_less(pool, last, zero) == 1 ||
      expr_compare_less(pool, start, x->dim[axis]) == 0 ||
      expr_compare_less(pool, last, x->dim[axis]) == 0)
    SHAPE_FAIL("slice %s..%s leaves axis %u of %s",
               shape_expr_str(module, start), shape_expr_str(module, last),
               axis, shape_str(module, x));
  return MOEC_OK;
}

moec_status_t infer_slice(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  unsigned n_start, n_length, n_step;
  const expr_t *const *start = sizes(op, ATTR_SLICE_start, &n_start);
  const expr_t *const *length = sizes(op, ATTR_SLICE_length, &n_length);
  const expr_t *const *step = sizes(op, ATTR_SLICE_step, &n_step);
  const ir_type_t *x = shape_in(op, 0);
  MOEC_TRY(check_length(op, ATTR_SLICE_start, n_start, x->rank, diag));
  MOEC_TRY(check_length(op, ATTR_SLICE_length, n_length, x->rank, diag));
  MOEC_TRY(check_length(op, ATTR_SLICE_step, n_step, x->rank, diag));
  MOEC_TRY(check_sizes(module, op, length, n_length, diag));
  for (unsigned i = 0; i < x->rank; i++)
    MOEC_TRY(check_slice(module, op, i, start[i], length[i], step[i], diag));
  return shape_set(module, op, 0, x->dtype, x->rank, length, diag);
}

/* Adds operand `index` to the shape of the operands before it. */
static moec_status_t join(ir_module_t *module, ir_op_t *op, unsigned index,
                          unsigned axis, const expr_t **dim,
                          diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, index);
  bool fits = x->rank == shape_in(op, 0)->rank;
  for (unsigned d = 0; fits && d < x->rank; d++) {
    if (d == axis) {
      dim[d] = expr_add(module->exprs, dim[d], x->dim[d]);
      continue;
    }
    fits = !shape_differ(module, dim[d], x->dim[d]);
    dim[d] = shape_merge(dim[d], x->dim[d]);
  }
  if (!fits)
    SHAPE_FAIL("cannot concatenate %s and %s along axis %u",
               shape_str(module, shape_in(op, 0)), shape_str(module, x), axis);
  return MOEC_OK;
}

moec_status_t infer_concat(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  const ir_type_t *first = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK];
  unsigned axis;
  MOEC_TRY(shape_axis(op, ATTR_CONCAT_axis, first->rank, &axis, diag));
  memcpy(dim, first->dim, first->rank * sizeof dim[0]);
  for (unsigned i = 1; i < op->n_in; i++) {
    MOEC_TRY(shape_same_dtype(module, op, 0, i, diag));
    MOEC_TRY(join(module, op, i, axis, dim, diag));
  }
  return shape_set(module, op, 0, first->dtype, first->rank, dim, diag);
}

moec_status_t infer_pad(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  unsigned n_before, n_after;
  const expr_t *const *before = sizes(op, ATTR_PAD_before, &n_before);
  const expr_t *const *after = sizes(op, ATTR_PAD_after, &n_after);
  const char *mode = ir_get_str(op, ATTR_PAD_mode);
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK];
  bool constant = strcmp(mode, "constant") == 0;
  if (!constant && strcmp(mode, "reflect") != 0 && strcmp(mode, "edge") != 0 &&
      strcmp(mode, "wrap") != 0)
    SHAPE_FAIL("mode \"%s\" of pad, expected constant, reflect, edge or wrap",
               mode);
  MOEC_TRY(check_length(op, ATTR_PAD_before, n_before, x->rank, diag));
  MOEC_TRY(check_length(op, ATTR_PAD_after, n_after, x->rank, diag));
  if (ir_in(op, 1) != NULL)
    MOEC_TRY(shape_scalar(module, op, 1, x->dtype, diag));
  const expr_t *zero = expr_const(module->exprs, 0);
  for (unsigned i = 0; i < x->rank; i++) {
    bool pads = before[i] != zero || after[i] != zero;
    dim[i] = expr_add(module->exprs,
                      expr_add(module->exprs, before[i], x->dim[i]), after[i]);
    MOEC_TRY(shape_at_least(module, op, dim[i], 0, "size", diag));
    if (!constant && pads && x->dim[i] == zero && dim[i] != zero)
      SHAPE_FAIL("mode %s of pad has nothing to repeat along axis %u of %s",
                 mode, i, shape_str(module, x));
  }
  return shape_set(module, op, 0, x->dtype, x->rank, dim, diag);
}

static moec_status_t check_positive(const ir_op_t *op, ir_attr_id_t id,
                                    unsigned expected, diag_sink_t *diag) {
  unsigned n;
  const int64_t *v = ir_get_ints(op, id, &n);
  MOEC_TRY(check_length(op, id, n, expected, diag));
  for (unsigned i = 0; i < n; i++)
    if (v[i] < 1)
      SHAPE_FAIL("%s[%u] of %s is %lld, expected at least 1",
                 ir_attr_info(id)->name, i, ir_op_info(op->code)->mnemonic,
                 (long long)v[i]);
  return MOEC_OK;
}

moec_status_t infer_unfold(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  unsigned n_kernel, n_out, n_pad;
  const expr_t *const *kernel = sizes(op, ATTR_UNFOLD_kernel, &n_kernel);
  const expr_t *const *out = sizes(op, ATTR_UNFOLD_out, &n_out);
  sizes(op, ATTR_UNFOLD_pad_before, &n_pad);
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *dim[2 * IR_MAX_RANK];
  MOEC_TRY(shape_min_rank(module, op, 0, 3, diag));
  unsigned n = x->rank - 2;
  MOEC_TRY(check_length(op, ATTR_UNFOLD_kernel, n_kernel, n, diag));
  MOEC_TRY(check_length(op, ATTR_UNFOLD_out, n_out, n, diag));
  MOEC_TRY(check_length(op, ATTR_UNFOLD_pad_before, n_pad, n, diag));
  MOEC_TRY(check_positive(op, ATTR_UNFOLD_strides, n, diag));
  MOEC_TRY(check_positive(op, ATTR_UNFOLD_dilations, n, diag));
  MOEC_TRY(check_positive(op, ATTR_UNFOLD_input_dilation, n, diag));
  MOEC_TRY(shape_scalar(module, op, 1, x->dtype, diag));
  MOEC_TRY(check_sizes(module, op, kernel, n, diag));
  MOEC_TRY(check_sizes(module, op, out, n, diag));
  dim[0] = x->dim[0];
  dim[1] = x->dim[1];
  memcpy(dim + 2, kernel, n * sizeof dim[0]);
  memcpy(dim + 2 + n, out, n * sizeof dim[0]);
  return shape_set(module, op, 0, x->dtype, 2 + 2 * n, dim, diag);
}
