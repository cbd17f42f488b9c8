/* Shape laws of elementwise operations. */
#include <string.h>

#include "ir/shape.h"

moec_status_t infer_like_input0(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  shape_set_like(op, 0, shape_in(op, 0)->dtype, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_float_unary(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_FLOAT, diag));
  shape_set_like(op, 0, shape_in(op, 0)->dtype, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_bool_unary(ir_module_t *module, ir_op_t *op,
                               diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_BOOL, diag));
  shape_set_like(op, 0, DT_BOOL, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_integer_unary(ir_module_t *module, ir_op_t *op,
                                  diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_INTEGER, diag));
  shape_set_like(op, 0, shape_in(op, 0)->dtype, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_float_test(ir_module_t *module, ir_op_t *op,
                               diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_FLOAT, diag));
  shape_set_like(op, 0, DT_BOOL, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_cast(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  dtype_t from = shape_in(op, 0)->dtype, to = ir_get_dtype(op, ATTR_CAST_to);
  const char *mode = ir_get_str(op, ATTR_CAST_round_mode);
  unsigned allowed = SHAPE_NUMBER | SHAPE_BOOL;
  if (dtype_class(from) == DT_CLASS_COMPLEX) allowed = SHAPE_COMPLEX;
  if ((allowed >> dtype_class(from) & allowed >> dtype_class(to) & 1) == 0)
    return diag_error(diag, op->loc, MOEC_E_UNSUPPORTED,
                      "cast of %s to %s is not supported",
                      shape_str(module, shape_in(op, 0)), dtype_name(to));
  if (mode != NULL && strcmp(mode, "up") != 0 && strcmp(mode, "down") != 0 &&
      strcmp(mode, "nearest") != 0)
    SHAPE_FAIL("round_mode \"%s\", expected up, down or nearest", mode);
  shape_set_like(op, 0, to, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_bitcast(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  dtype_t from = shape_in(op, 0)->dtype;
  dtype_t to = ir_get_dtype(op, ATTR_BITCAST_to);
  if (dtype_bits(from) != dtype_bits(to) || to == DT_NONE ||
      (from == DT_STR) != (to == DT_STR))
    SHAPE_FAIL("bitcast of %s to %s, expected a type of the same size",
               shape_str(module, shape_in(op, 0)), dtype_name(to));
  shape_set_like(op, 0, to, shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_unpack(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  dtype_t from = shape_in(op, 0)->dtype;
  if (!dtype_is_packed(from))
    SHAPE_FAIL("unpack of %s, expected elements below 8 bits",
               shape_str(module, shape_in(op, 0)));
  shape_set_like(op, 0, dtype_unpacked(from), shape_in(op, 0));
  return MOEC_OK;
}

moec_status_t infer_pack(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  dtype_t from = shape_in(op, 0)->dtype, to = ir_get_dtype(op, ATTR_PACK_to);
  if (!dtype_is_packed(to) || dtype_unpacked(to) != from)
    SHAPE_FAIL("pack of %s to %s", shape_str(module, shape_in(op, 0)),
               dtype_name(to));
  shape_set_like(op, 0, to, shape_in(op, 0));
  return MOEC_OK;
}

/* Result dimensions of operands a and b, which broadcast. */
static moec_status_t set_broadcast(ir_module_t *module, ir_op_t *op, unsigned a,
                                   unsigned b, dtype_t dtype,
                                   diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, a), *y = shape_in(op, b);
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = x->rank > y->rank ? x->rank : y->rank;
  if (x->rank == 0 || y->rank == 0) {
    shape_set_like(op, 0, dtype, x->rank == 0 ? y : x);
    return MOEC_OK;
  }
  MOEC_TRY(
      shape_broadcast(module, op, x->rank, x->dim, y->rank, y->dim, dim, diag));
  return shape_set(module, op, 0, dtype, rank, dim, diag);
}

static unsigned classes_of_binary(ir_opcode_t code) {
  switch (code) {
    case OP_MIN:
    case OP_MAX:
      return SHAPE_NUMBER | SHAPE_BOOL;
    case OP_MOD:
    case OP_BIT_AND:
    case OP_BIT_OR:
    case OP_BIT_XOR:
    case OP_SHL:
    case OP_SHR:
      return SHAPE_INTEGER;
    default:
      return SHAPE_NUMBER;
  }
}

moec_status_t infer_broadcast(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, classes_of_binary(op->code), diag));
  MOEC_TRY(shape_same_dtype(module, op, 0, 1, diag));
  return set_broadcast(module, op, 0, 1, shape_in(op, 0)->dtype, diag);
}

moec_status_t infer_pow(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  MOEC_TRY(shape_class(module, op, 1, SHAPE_NUMBER, diag));
  return set_broadcast(module, op, 0, 1, shape_in(op, 0)->dtype, diag);
}

moec_status_t infer_bool_binary(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_BOOL, diag));
  MOEC_TRY(shape_class(module, op, 1, SHAPE_BOOL, diag));
  return set_broadcast(module, op, 0, 1, DT_BOOL, diag);
}

moec_status_t infer_compare(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  unsigned classes =
      op->code == OP_EQ ? SHAPE_NUMBER | SHAPE_BOOL : SHAPE_NUMBER;
  MOEC_TRY(shape_class(module, op, 0, classes, diag));
  MOEC_TRY(shape_same_dtype(module, op, 0, 1, diag));
  return set_broadcast(module, op, 0, 1, DT_BOOL, diag);
}

moec_status_t infer_select(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  MOEC_TRY(shape_class(module, op, 0, SHAPE_BOOL, diag));
  MOEC_TRY(shape_class(module, op, 1, SHAPE_NUMBER | SHAPE_BOOL | SHAPE_COMPLEX,
                       diag));
  MOEC_TRY(shape_same_dtype(module, op, 1, 2, diag));
  const ir_type_t *cond = shape_in(op, 0);
  MOEC_TRY(set_broadcast(module, op, 1, 2, shape_in(op, 1)->dtype, diag));
  if (cond->rank == 0) return MOEC_OK;
  const ir_type_t both = op->out[0].type;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = cond->rank > both.rank ? cond->rank : both.rank;
  MOEC_TRY(shape_broadcast(module, op, cond->rank, cond->dim, both.rank,
                           both.dim, dim, diag));
  return shape_set(module, op, 0, both.dtype, rank, dim, diag);
}
