/* Shape laws of constants, sizes and operations without results. */
#include "ir/expr.h"
#include "ir/shape.h"

moec_status_t infer_constant(ir_module_t *module, ir_op_t *op,
                             diag_sink_t *diag) {
  unsigned rank;
  const int64_t *shape = ir_get_ints(op, ATTR_CONSTANT_shape, &rank);
  dtype_t dtype = ir_get_dtype(op, ATTR_CONSTANT_dtype);
  dtype_t stored = ir_get_dtype(op, ATTR_CONSTANT_data_dtype);
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  const expr_t *dim[IR_MAX_RANK];
  int64_t count;
  if (dtype == DT_NONE) SHAPE_FAIL("constant without an element type");
  if (stored != DT_NONE &&
      (stored != DT_F32 || (dtype != DT_F16 && dtype != DT_BF16)))
    SHAPE_FAIL("constant of %s with data of %s", dtype_name(dtype),
               dtype_name(stored));
  if (rank > IR_MAX_RANK)
    return diag_error(diag, op->loc, MOEC_E_LIMIT,
                      "constant of rank %u, expected at most %d", rank,
                      IR_MAX_RANK);
  for (unsigned i = 0; i < rank; i++) {
    if (shape[i] < 0)
      SHAPE_FAIL("dimension %u of a constant is %lld, expected at least 0", i,
                 (long long)shape[i]);
    dim[i] = expr_const(module->exprs, shape[i]);
  }
  MOEC_TRY(shape_set(module, op, 0, dtype, rank, dim, diag));
  const ir_type_t *type = &op->out[0].type;
  if (!ir_type_static_count(type, &count))
    SHAPE_FAIL("constant %s has too many elements", shape_str(module, type));
  uint64_t size =
      dtype_bytes(stored != DT_NONE ? stored : dtype, (uint64_t)count);
  if (data->size != size)
    SHAPE_FAIL("constant %s has %llu bytes of data, expected %llu",
               shape_str(module, type), (unsigned long long)data->size,
               (unsigned long long)size);
  return MOEC_OK;
}

moec_status_t infer_exprs(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  unsigned n;
  ir_get_exprs(op, ATTR_EXPRS_values, &n);
  if (ir_get_int(op, ATTR_EXPRS_scalar) != 0) {
    if (n != 1) SHAPE_FAIL("exprs as a scalar has %u values, expected 1", n);
    return shape_set(module, op, 0, DT_I64, 0, NULL, diag);
  }
  const expr_t *dim = expr_const(module->exprs, n);
  return shape_set(module, op, 0, DT_I64, 1, &dim, diag);
}

moec_status_t infer_iota(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  const expr_t *n = ir_get_expr(op, ATTR_IOTA_n);
  dtype_t dtype = ir_get_dtype(op, ATTR_IOTA_dtype);
  if (!dtype_is_float(dtype) && !dtype_is_integer(dtype))
    SHAPE_FAIL("iota of %s, expected a float or integer type",
               dtype_name(dtype));
  MOEC_TRY(shape_at_least(module, op, n, 0, "length", diag));
  return shape_set(module, op, 0, dtype, 1, &n, diag);
}

moec_status_t infer_bind(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  const expr_t *e = ir_get_expr(op, ATTR_BIND_symbol);
  int64_t index = ir_get_int(op, ATTR_BIND_index), count;
  if (expr_as_symbol(e) == NULL)
    SHAPE_FAIL("bind defines %s, expected a symbol", shape_expr_str(module, e));
  MOEC_TRY(shape_class(module, op, 0, SHAPE_INTEGER, diag));
  bool beyond = ir_type_static_count(shape_in(op, 0), &count) && index >= count;
  if (index < 0 || beyond)
    SHAPE_FAIL("bind of element %lld of %s", (long long)index,
               shape_str(module, shape_in(op, 0)));
  return MOEC_OK;
}

moec_status_t infer_none(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  (void)module;
  (void)op;
  (void)diag;
  return MOEC_OK;
}

/* Whoever makes a launch knows what its kernel writes. */
moec_status_t infer_launch(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  for (unsigned i = 0; i < op->n_out; i++) {
    const ir_type_t *type = &op->out[i].type;
    if (type->kind == IR_TENSOR && type->dtype == DT_NONE)
      SHAPE_FAIL("result %u of %s has no type", i,
                 ir_op_info(op->code)->mnemonic);
  }
  (void)module;
  return MOEC_OK;
}
