/* Shape laws of sliding windows over x[N, C, D..]. */
#include <string.h>

#include "ir/shape.h"

/* A list attribute with one entry for each spatial dimension. */
typedef struct law {
  ir_module_t *module;
  ir_op_t *op;
  unsigned n; /* spatial dimensions */
  diag_sink_t *diag;
} law_t;

static moec_status_t check_length(const law_t *l, ir_attr_id_t id, unsigned n) {
  if (n == l->n) return MOEC_OK;
  return diag_error(l->diag, l->op->loc, MOEC_E_INVALID_MODEL,
                    "%s of %s has %u entries, expected %u",
                    ir_attr_info(id)->name, ir_op_info(l->op->code)->mnemonic,
                    n, l->n);
}

static moec_status_t check_positive(const law_t *l, ir_attr_id_t id) {
  unsigned n;
  const int64_t *v = ir_get_ints(l->op, id, &n);
  MOEC_TRY(check_length(l, id, n));
  for (unsigned i = 0; i < n; i++)
    if (v[i] < 1)
      return diag_error(l->diag, l->op->loc, MOEC_E_INVALID_MODEL,
                        "%s[%u] of %s is %lld, expected at least 1",
                        ir_attr_info(id)->name, i,
                        ir_op_info(l->op->code)->mnemonic, (long long)v[i]);
  return MOEC_OK;
}

/* Sizes, at least 0. */
static moec_status_t check_sizes(const law_t *l, ir_attr_id_t id,
                                 const expr_t *const **out) {
  unsigned n;
  *out = ir_get_exprs(l->op, id, &n);
  MOEC_TRY(check_length(l, id, n));
  for (unsigned i = 0; i < n; i++)
    MOEC_TRY(shape_at_least(l->module, l->op, (*out)[i], 0, "size", l->diag));
  return MOEC_OK;
}

static moec_status_t check_padding(const law_t *l, ir_attr_id_t id) {
  unsigned n;
  ir_get_exprs(l->op, id, &n);
  return check_length(l, id, n);
}

static moec_status_t check_planes(const law_t *l, unsigned index) {
  const ir_type_t *x = shape_in(l->op, index);
  if (x->rank == 2 + 2 * l->n) return MOEC_OK;
  return diag_error(
      l->diag, l->op->loc, MOEC_E_INVALID_MODEL,
      "operand %u of %s is %s, expected %u dimensions behind the first two",
      index, ir_op_info(l->op->code)->mnemonic, shape_str(l->module, x),
      2 * l->n);
}

moec_status_t infer_planes(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  const expr_t *const *length, *dim[2 * IR_MAX_RANK];
  const ir_type_t *x = shape_in(op, 0);
  unsigned n;
  MOEC_TRY(shape_min_rank(module, op, 0, 3, diag));
  law_t l = {module, op, x->rank - 2, diag};
  MOEC_TRY(check_positive(&l, ATTR_PLANES_phases));
  MOEC_TRY(check_positive(&l, ATTR_PLANES_used));
  MOEC_TRY(check_positive(&l, ATTR_PLANES_input_dilation));
  MOEC_TRY(check_padding(&l, ATTR_PLANES_pad_before));
  MOEC_TRY(check_sizes(&l, ATTR_PLANES_length, &length));
  MOEC_TRY(shape_scalar(module, op, 1, x->dtype, diag));
  const int64_t *used = ir_get_ints(op, ATTR_PLANES_used, &n);
  dim[0] = x->dim[0];
  dim[1] = x->dim[1];
  for (unsigned i = 0; i < n; i++) {
    dim[2 + i] = expr_const(module->exprs, used[i]);
    dim[2 + n + i] = length[i];
  }
  return shape_set(module, op, 0, x->dtype, 2 + 2 * n, dim, diag);
}

moec_status_t infer_windows(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  const expr_t *const *kernel, *const *out, *dim[2 * IR_MAX_RANK];
  const ir_type_t *x = shape_in(op, 0);
  unsigned n;
  ir_get_exprs(op, ATTR_WINDOWS_out, &n);
  law_t l = {module, op, n, diag};
  MOEC_TRY(check_planes(&l, 0));
  MOEC_TRY(check_sizes(&l, ATTR_WINDOWS_kernel, &kernel));
  MOEC_TRY(check_sizes(&l, ATTR_WINDOWS_out, &out));
  MOEC_TRY(check_positive(&l, ATTR_WINDOWS_strides));
  MOEC_TRY(check_positive(&l, ATTR_WINDOWS_dilations));
  MOEC_TRY(check_positive(&l, ATTR_WINDOWS_phases));
  dim[0] = x->dim[0];
  dim[1] = x->dim[1];
  memcpy(dim + 2, kernel, n * sizeof dim[0]);
  memcpy(dim + 2 + n, out, n * sizeof dim[0]);
  return shape_set(module, op, 0, x->dtype, 2 + 2 * n, dim, diag);
}

/* Element type of a product of two operands of one type. */
static moec_status_t sum_dtype(ir_module_t *module, ir_op_t *op, dtype_t wanted,
                               dtype_t *out, diag_sink_t *diag) {
  dtype_t dtype = shape_in(op, 0)->dtype;
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  /* Filters may be narrower than planes: they are widened when packed. */
  bool mixed = op->code == OP_WINDOW_PRODUCT && dtype_is_float(dtype) &&
               dtype_bits(dtype) == 16 && shape_in(op, 1)->dtype == DT_F32;
  if (mixed) dtype = DT_F32;
  if (!mixed) MOEC_TRY(shape_same_dtype(module, op, 0, 1, diag));
  bool widens =
      dtype_is_float(dtype) && dtype_bits(dtype) <= 16 && wanted == DT_F32;
  if (wanted != DT_NONE && wanted != dtype && !widens)
    SHAPE_FAIL("out_dtype %s of %s of %s", dtype_name(wanted),
               ir_op_info(op->code)->mnemonic, dtype_name(dtype));
  *out = wanted == DT_NONE ? dtype : wanted;
  return MOEC_OK;
}

ir_attr_id_t ir_convolve_attr(const ir_op_t *op, ir_attr_id_t of_convolve) {
  _Static_assert(
      ATTR_GROUPED_CONVOLVE_out_dtype - ATTR_GROUPED_CONVOLVE_groups ==
          ATTR_CONVOLVE_out_dtype - ATTR_CONVOLVE_groups,
      "ops.def: both convolutions have the same attributes");
  MOEC_ASSERT(op->code == OP_CONVOLVE || op->code == OP_GROUPED_CONVOLVE);
  int index = (int)of_convolve - (int)ATTR_CONVOLVE_groups;
  return (ir_attr_id_t)((int)ir_op_info(op->code)->attr_first + index);
}

/* w_dim: of the filters of an image. */
static moec_status_t set_convolution(ir_module_t *module, ir_op_t *op,
                                     unsigned w_rank,
                                     const expr_t *const *w_dim,
                                     diag_sink_t *diag) {
  expr_pool_t *pool = module->exprs;
  const expr_t *const *out, *dim[IR_MAX_RANK];
  const ir_type_t *x = shape_in(op, 0);
  const char *name = ir_op_info(op->code)->mnemonic;
  int64_t groups = ir_get_int(op, ir_convolve_attr(op, ATTR_CONVOLVE_groups));
  dtype_t dtype,
      wanted = ir_get_dtype(op, ir_convolve_attr(op, ATTR_CONVOLVE_out_dtype));
  MOEC_TRY(shape_min_rank(module, op, 0, 3, diag));
  law_t l = {module, op, x->rank - 2, diag};
  MOEC_TRY(check_sizes(&l, ir_convolve_attr(op, ATTR_CONVOLVE_out), &out));
  MOEC_TRY(check_positive(&l, ir_convolve_attr(op, ATTR_CONVOLVE_strides)));
  MOEC_TRY(check_positive(&l, ir_convolve_attr(op, ATTR_CONVOLVE_dilations)));
  MOEC_TRY(
      check_positive(&l, ir_convolve_attr(op, ATTR_CONVOLVE_input_dilation)));
  MOEC_TRY(check_padding(&l, ir_convolve_attr(op, ATTR_CONVOLVE_pad_before)));
  MOEC_TRY(sum_dtype(module, op, wanted, &dtype, diag));
  if (groups < 1)
    SHAPE_FAIL("groups of %s is %lld, expected at least 1", name,
               (long long)groups);
  const expr_t *g = expr_const(pool, groups);
  if (w_rank != x->rank ||
      shape_differ(module, expr_mul(pool, w_dim[1], g), x->dim[1]))
    SHAPE_FAIL("%s of %s with filters %s in %lld groups", name,
               shape_str(module, x), shape_str(module, shape_in(op, 1)),
               (long long)groups);
  const expr_t *each = expr_floordiv(pool, w_dim[0], g);
  if (shape_differ(module, expr_mul(pool, each, g), w_dim[0]))
    SHAPE_FAIL("%s with filters %s in %lld groups", name,
               shape_str(module, shape_in(op, 1)), (long long)groups);
  dim[0] = x->dim[0];
  dim[1] = w_dim[0];
  memcpy(dim + 2, out, l.n * sizeof dim[0]);
  return shape_set(module, op, 0, dtype, x->rank, dim, diag);
}

moec_status_t infer_convolve(ir_module_t *module, ir_op_t *op,
                             diag_sink_t *diag) {
  const ir_type_t *w = shape_in(op, 1);
  return set_convolution(module, op, w->rank, w->dim, diag);
}

/* Operands `first` and the next one tell the groups of x's images. */
static moec_status_t check_groups(ir_module_t *module, const ir_op_t *op,
                                  unsigned first, const ir_type_t *x,
                                  const expr_t *groups, diag_sink_t *diag) {
  const ir_type_t *offsets = shape_in(op, first),
                  *group = shape_in(op, first + 1);
  const expr_t *ends =
      expr_add(module->exprs, groups, expr_const(module->exprs, 2));
  if (offsets->rank != 1 || offsets->dtype != DT_I64 || group->rank != 1 ||
      group->dtype != DT_I64 || shape_differ(module, offsets->dim[0], ends) ||
      shape_differ(module, group->dim[0], x->dim[0]))
    SHAPE_FAIL("%s of %s by offsets %s and groups %s",
               ir_op_info(op->code)->mnemonic, shape_str(module, x),
               shape_str(module, offsets), shape_str(module, group));
  return MOEC_OK;
}

moec_status_t infer_grouped_convolve(ir_module_t *module, ir_op_t *op,
                                     diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0), *w = shape_in(op, 1);
  MOEC_TRY(shape_min_rank(module, op, 0, 3, diag));
  MOEC_TRY(shape_min_rank(module, op, 1, 4, diag));
  MOEC_TRY(check_groups(module, op, 2, x, w->dim[0], diag));
  return set_convolution(module, op, w->rank - 1, w->dim + 1, diag);
}

moec_status_t infer_window_product(ir_module_t *module, ir_op_t *op,
                                   diag_sink_t *diag) {
  const expr_t *const *out, *dim[IR_MAX_RANK];
  const ir_type_t *w = shape_in(op, 0), *x = shape_in(op, 1);
  const ir_type_t *offsets = shape_in(op, 2);
  dtype_t dtype, wanted = ir_get_dtype(op, ATTR_WINDOW_PRODUCT_out_dtype);
  unsigned n;
  ir_get_exprs(op, ATTR_WINDOW_PRODUCT_out, &n);
  law_t l = {module, op, n, diag};
  MOEC_TRY(check_sizes(&l, ATTR_WINDOW_PRODUCT_out, &out));
  MOEC_TRY(check_planes(&l, 1));
  MOEC_TRY(sum_dtype(module, op, wanted, &dtype, diag));
  bool grouped = op->n_in > 3;
  if (op->n_in == 4) SHAPE_FAIL("window_product of 4 operands");
  if (w->rank != 3u + grouped)
    SHAPE_FAIL("filters of window_product are %s, expected rank %u",
               shape_str(module, w), 3u + grouped);
  if (grouped) MOEC_TRY(check_groups(module, op, 3, x, w->dim[0], diag));
  const expr_t *const *w_dim = w->dim + grouped;
  if (offsets->rank != 1 || offsets->dtype != DT_I64 ||
      shape_differ(module, offsets->dim[0], w_dim[2]))
    SHAPE_FAIL("offsets of window_product are %s, expected i64[%s]",
               shape_str(module, offsets), shape_expr_str(module, w_dim[2]));
  dim[0] = x->dim[0];
  dim[1] = expr_mul(module->exprs, w_dim[0], w_dim[1]);
  memcpy(dim + 2, out, n * sizeof dim[0]);
  return shape_set(module, op, 0, dtype, 2 + n, dim, diag);
}
