/* Shape laws of loop level: kernels over buffers and scalars. */
#include <string.h>

#include "ir/shape.h"

/* The region's arguments are these scalars; a region that was not set up yet
 * passes. */
static moec_status_t check_args(ir_module_t *module, ir_op_t *op, unsigned n,
                                const dtype_t *dtypes, diag_sink_t *diag) {
  const ir_region_t *region = &op->regions[0];
  const char *mnemonic = ir_op_info(op->code)->mnemonic;
  if (region->n_args == 0 && region->first == NULL) return MOEC_OK;
  if (region->n_args != n)
    SHAPE_FAIL("region of %s has %u arguments, expected %u", mnemonic,
               region->n_args, n);
  for (unsigned i = 0; i < n; i++) {
    const ir_type_t *type = &region->args[i].type;
    if (type->kind != IR_TENSOR || type->rank != 0 || type->dtype != dtypes[i])
      SHAPE_FAIL("argument %u of the region of %s is %s, expected %s[]", i,
                 mnemonic, shape_str(module, type), dtype_name(dtypes[i]));
  }
  return MOEC_OK;
}

/* The terminator of the region, NULL while it is being built. */
static const ir_op_t *yield_of(const ir_op_t *op) {
  const ir_op_t *last = op->regions[0].last;
  return last != NULL && last->code == OP_YIELD ? last : NULL;
}

static moec_status_t check_yield(ir_module_t *module, ir_op_t *op, unsigned n,
                                 const dtype_t *dtypes, diag_sink_t *diag) {
  const ir_op_t *yield = yield_of(op);
  const char *mnemonic = ir_op_info(op->code)->mnemonic;
  if (yield == NULL) return MOEC_OK;
  if (yield->n_in != n)
    SHAPE_FAIL("region of %s yields %u values, expected %u", mnemonic,
               yield->n_in, n);
  for (unsigned i = 0; i < n; i++) {
    const ir_type_t *type = shape_in(yield, i);
    if (type->kind != IR_TENSOR || type->rank != 0 || type->dtype != dtypes[i])
      SHAPE_FAIL("region of %s yields %s, expected %s[]", mnemonic,
                 shape_str(module, type), dtype_name(dtypes[i]));
  }
  return MOEC_OK;
}

/* Operands 0 and 1, the first and the last index. */
static moec_status_t check_bounds(ir_module_t *module, ir_op_t *op,
                                  diag_sink_t *diag) {
  MOEC_TRY(shape_scalar(module, op, 0, DT_I64, diag));
  return shape_scalar(module, op, 1, DT_I64, diag);
}

static const dtype_t index_only[] = {DT_I64};

moec_status_t infer_parallel(ir_module_t *module, ir_op_t *op,
                             diag_sink_t *diag) {
  MOEC_TRY(check_args(module, op, 1, index_only, diag));
  return check_yield(module, op, 0, NULL, diag);
}

moec_status_t infer_loop_for(ir_module_t *module, ir_op_t *op,
                             diag_sink_t *diag) {
  MOEC_TRY(check_bounds(module, op, diag));
  MOEC_TRY(check_args(module, op, 1, index_only, diag));
  return check_yield(module, op, 0, NULL, diag);
}

moec_status_t infer_loop_fold(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  unsigned n = op->n_in - 2;
  MOEC_TRY(check_bounds(module, op, diag));
  if (op->n_out != n)
    SHAPE_FAIL(
        "fold has %u results, expected one for each of %u initial values",
        op->n_out, n);
  dtype_t *dtypes = ARENA_ARRAY(module->arena, dtype_t, n + 1);
  dtypes[0] = DT_I64;
  for (unsigned i = 0; i < n; i++) {
    MOEC_TRY(shape_scalar(module, op, 2 + i, DT_NONE, diag));
    dtypes[1 + i] = shape_in(op, 2 + i)->dtype;
    op->out[i].type = ir_scalar_type(dtypes[1 + i]);
  }
  MOEC_TRY(check_args(module, op, n + 1, dtypes, diag));
  return check_yield(module, op, n, dtypes + 1, diag);
}

moec_status_t infer_loop_reduce(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  const char *kind = ir_get_str(op, ATTR_REDUCE_kind);
  if (strcmp(kind, "sum") != 0 && strcmp(kind, "prod") != 0 &&
      strcmp(kind, "max") != 0 && strcmp(kind, "min") != 0)
    SHAPE_FAIL("reduce of kind \"%s\", expected sum, prod, max or min", kind);
  MOEC_TRY(check_bounds(module, op, diag));
  MOEC_TRY(check_args(module, op, 1, index_only, diag));
  const ir_op_t *yield = yield_of(op);
  if (yield == NULL) return MOEC_OK; /* typed when its region is complete */
  if (yield->n_in != 1)
    SHAPE_FAIL("region of reduce yields %u values, expected 1", yield->n_in);
  const ir_type_t *type = shape_in(yield, 0);
  unsigned allowed = SHAPE_NUMBER | (kind[0] == 'm' ? SHAPE_BOOL : 0);
  if (type->kind != IR_TENSOR || type->rank != 0 ||
      (allowed >> dtype_class(type->dtype) & 1) == 0)
    SHAPE_FAIL("region of reduce yields %s, expected a scalar number",
               shape_str(module, type));
  op->out[0].type = ir_scalar_type(type->dtype);
  return MOEC_OK;
}

moec_status_t infer_loop_when(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  MOEC_TRY(shape_scalar(module, op, 0, DT_BOOL, diag));
  MOEC_TRY(check_args(module, op, 0, NULL, diag));
  return check_yield(module, op, 0, NULL, diag);
}

static moec_status_t check_buffer(ir_module_t *module, ir_op_t *op,
                                  unsigned index, diag_sink_t *diag) {
  if (shape_in(op, index)->kind != IR_BUFFER)
    SHAPE_FAIL("operand %u of %s is %s, expected a buffer", index,
               ir_op_info(op->code)->mnemonic,
               shape_str(module, shape_in(op, index)));
  return MOEC_OK;
}

/* Buffer, index, and the mask at `mask`, if there is one. */
static moec_status_t check_access(ir_module_t *module, ir_op_t *op,
                                  unsigned mask, diag_sink_t *diag) {
  MOEC_TRY(check_buffer(module, op, 0, diag));
  MOEC_TRY(shape_scalar(module, op, 1, DT_I64, diag));
  if (ir_in(op, mask) == NULL) return MOEC_OK;
  return shape_scalar(module, op, mask, DT_BOOL, diag);
}

moec_status_t infer_load(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  MOEC_TRY(check_access(module, op, 2, diag));
  op->out[0].type = ir_scalar_type(shape_in(op, 0)->dtype);
  return MOEC_OK;
}

moec_status_t infer_store(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  MOEC_TRY(check_access(module, op, 3, diag));
  return shape_scalar(module, op, 2, shape_in(op, 0)->dtype, diag);
}

moec_status_t infer_loop_assert(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  int64_t status = ir_get_int(op, ATTR_ASSERT_status);
  switch (status) {
#define STATUS(id, value, exit_code, text) case value:
#include "moec/status.def"
    break;
    default:
      SHAPE_FAIL("assert with the unknown status %lld", (long long)status);
  }
  if (status == MOEC_OK) SHAPE_FAIL("assert with the status of success");
  return shape_scalar(module, op, 0, DT_BOOL, diag);
}

moec_status_t infer_loop_mul_add(ir_module_t *module, ir_op_t *op,
                                 diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  dtype_t dtype = shape_in(op, 0)->dtype;
  for (unsigned i = 0; i < op->n_in; i++)
    MOEC_TRY(shape_scalar(module, op, i, dtype, diag));
  op->out[0].type = ir_scalar_type(dtype);
  return MOEC_OK;
}

moec_status_t infer_product_tile(ir_module_t *module, ir_op_t *op,
                                 diag_sink_t *diag) {
  dtype_t acc = ir_get_dtype(op, ATTR_PRODUCT_TILE_acc);
  if (!dtype_is_float(acc) && !dtype_is_integer(acc))
    SHAPE_FAIL("product_tile sums in %s, expected a float or integer type",
               dtype_name(acc));
  if (op->n_in != 10 && op->n_in != 15)
    SHAPE_FAIL("product_tile has %u operands, expected 10 or 15", op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    if (i == 0 || i == 4 || i == 10)
      MOEC_TRY(check_buffer(module, op, i, diag));
    else
      MOEC_TRY(shape_scalar(module, op, i, DT_I64, diag));
  }
  const dtype_t dtypes[] = {acc, DT_I64, DT_I64, DT_I64};
  MOEC_TRY(check_args(module, op, op->n_in == 10 ? 3 : 4, dtypes, diag));
  return check_yield(module, op, 0, NULL, diag);
}
