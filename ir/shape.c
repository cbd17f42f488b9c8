/* Type inference: dispatch by the table, and steps that the laws share. */
#include "ir/shape.h"

typedef moec_status_t (*infer_fn)(ir_module_t *module, ir_op_t *op,
                                  diag_sink_t *diag);

static const infer_fn laws[OP_COUNT] = {
#define OP(id, mnemonic, in_min, in_max, out, regions, traits, shape, lower) \
  [OP_##id] = infer_##shape,
#include "ir/ops.def"
};

/* Operations that see buffers, sequences or anything at all check themselves.
 */
static bool takes_tensors_only(ir_opcode_t code) {
  switch (code) {
    case OP_LAUNCH:
    case OP_CALL:
    case OP_LOAD:
    case OP_STORE:
    case OP_PRODUCT_TILE:
    case OP_RETURN:
    case OP_YIELD:
      return false;
    default:
      return true;
  }
}

moec_status_t ir_infer_types(ir_module_t *module, ir_op_t *op,
                             diag_sink_t *diag) {
  if (takes_tensors_only(op->code))
    for (unsigned i = 0; i < op->n_in; i++)
      if (op->in[i].value != NULL && shape_in(op, i)->kind != IR_TENSOR)
        SHAPE_FAIL("operand %u of %s is %s, expected a tensor", i,
                   ir_op_info(op->code)->mnemonic,
                   shape_str(module, shape_in(op, i)));
  MOEC_TRY(laws[op->code](module, op, diag));
  if (op->n_out > 0) op->out[0].content = shape_content(module, op);
  return MOEC_OK;
}

const char *shape_str(const ir_module_t *module, const ir_type_t *type) {
  return ir_type_str(module->arena, type);
}

const char *shape_expr_str(const ir_module_t *module, const expr_t *e) {
  text_t text;
  text_init(&text, module->arena);
  expr_print(e, &text);
  return text.data;
}

moec_status_t shape_set(ir_module_t *module, ir_op_t *op, unsigned index,
                        dtype_t dtype, unsigned rank, const expr_t *const *dim,
                        diag_sink_t *diag) {
  if (rank > IR_MAX_RANK)
    return diag_error(diag, op->loc, MOEC_E_LIMIT,
                      "result of rank %u, expected at most %d", rank,
                      IR_MAX_RANK);
  const expr_t **copy = NULL;
  if (rank > 0)
    copy = arena_grow_array(module->arena, dim, rank, rank, sizeof *dim);
  op->out[index].type = ir_tensor_type(dtype, rank, copy);
  return MOEC_OK;
}

void shape_set_like(ir_op_t *op, unsigned index, dtype_t dtype,
                    const ir_type_t *like) {
  op->out[index].type = ir_tensor_type(dtype, like->rank, like->dim);
}

moec_status_t shape_axis(const ir_op_t *op, ir_attr_id_t attr, unsigned rank,
                         unsigned *out_axis, diag_sink_t *diag) {
  int64_t axis = ir_get_int(op, attr), n = rank;
  if (axis < -n || axis >= n)
    SHAPE_FAIL("axis %lld of %s is out of range for rank %u", (long long)axis,
               ir_op_info(op->code)->mnemonic, rank);
  *out_axis = (unsigned)(axis < 0 ? axis + n : axis);
  return MOEC_OK;
}

moec_status_t shape_min_rank(const ir_module_t *module, const ir_op_t *op,
                             unsigned index, unsigned rank, diag_sink_t *diag) {
  if (shape_in(op, index)->rank < rank)
    SHAPE_FAIL("operand %u of %s is %s, expected rank %u or more", index,
               ir_op_info(op->code)->mnemonic,
               shape_str(module, shape_in(op, index)), rank);
  return MOEC_OK;
}

moec_status_t shape_same_dtype(const ir_module_t *module, const ir_op_t *op,
                               unsigned a, unsigned b, diag_sink_t *diag) {
  if (shape_in(op, a)->dtype != shape_in(op, b)->dtype)
    SHAPE_FAIL("operands %u and %u of %s are %s and %s, expected one dtype", a,
               b, ir_op_info(op->code)->mnemonic,
               shape_str(module, shape_in(op, a)),
               shape_str(module, shape_in(op, b)));
  return MOEC_OK;
}

static const char *class_names(unsigned classes) {
  switch (classes) {
    case SHAPE_FLOAT:
      return "a float type";
    case SHAPE_INTEGER:
      return "an integer type";
    case SHAPE_BOOL:
      return "bool";
    case SHAPE_NUMBER:
      return "a float or integer type";
    default:
      return "a number or bool";
  }
}

moec_status_t shape_class(const ir_module_t *module, const ir_op_t *op,
                          unsigned index, unsigned classes, diag_sink_t *diag) {
  dtype_class_t class = dtype_class(shape_in(op, index)->dtype);
  if ((classes >> class & 1) != 0) return MOEC_OK;
  moec_status_t status = class == DT_CLASS_STRING || class == DT_CLASS_COMPLEX
                             ? MOEC_E_UNSUPPORTED
                             : MOEC_E_INVALID_MODEL;
  return diag_error(
      diag, op->loc, status, "operand %u of %s is %s, expected %s", index,
      ir_op_info(op->code)->mnemonic, shape_str(module, shape_in(op, index)),
      class_names(classes));
}

moec_status_t shape_scalar(const ir_module_t *module, const ir_op_t *op,
                           unsigned index, dtype_t dtype, diag_sink_t *diag) {
  const ir_type_t *type = shape_in(op, index);
  if (type->kind == IR_TENSOR && type->rank == 0 &&
      (dtype == DT_NONE || type->dtype == dtype))
    return MOEC_OK;
  SHAPE_FAIL("operand %u of %s is %s, expected a scalar%s%s", index,
             ir_op_info(op->code)->mnemonic, shape_str(module, type),
             dtype == DT_NONE ? "" : " of ",
             dtype == DT_NONE ? "" : dtype_name(dtype));
}

/* ---- Dimensions ---------------------------------------------------------- */

bool shape_differ(ir_module_t *module, const expr_t *a, const expr_t *b) {
  return a != b && expr_compare_equal(module->exprs, a, b) == 0;
}

const expr_t *shape_merge(const expr_t *a, const expr_t *b) {
  return !expr_is_const(a, NULL) && expr_is_const(b, NULL) ? b : a;
}

moec_status_t shape_at_least(const ir_module_t *module, const ir_op_t *op,
                             const expr_t *e, int64_t least, const char *what,
                             diag_sink_t *diag) {
  int64_t upper;
  if (!expr_upper_bound(e, &upper) || upper >= least) return MOEC_OK;
  SHAPE_FAIL("%s %s of %s, expected at least %lld", what,
             shape_expr_str(module, e), ir_op_info(op->code)->mnemonic,
             (long long)least);
}

static bool cannot_broadcast(ir_module_t *module, const expr_t *a,
                             const expr_t *b) {
  const expr_t *one = expr_const(module->exprs, 1);
  return shape_differ(module, a, b) && shape_differ(module, a, one) &&
         shape_differ(module, b, one);
}

moec_status_t shape_broadcast(ir_module_t *module, const ir_op_t *op,
                              unsigned a_rank, const expr_t *const *a,
                              unsigned b_rank, const expr_t *const *b,
                              const expr_t **out, diag_sink_t *diag) {
  unsigned rank = a_rank > b_rank ? a_rank : b_rank;
  for (unsigned i = 0; i < rank; i++) {
    /* i counts from the last dimension */
    const expr_t *x = i < a_rank ? a[a_rank - 1 - i] : NULL;
    const expr_t *y = i < b_rank ? b[b_rank - 1 - i] : NULL;
    const expr_t **to = &out[rank - 1 - i];
    if (x == NULL || y == NULL || x == y) {
      *to = x != NULL ? x : y;
      continue;
    }
    if (cannot_broadcast(module, x, y)) {
      ir_type_t p = ir_tensor_type(DT_NONE, a_rank, a);
      ir_type_t q = ir_tensor_type(DT_NONE, b_rank, b);
      SHAPE_FAIL("cannot broadcast shapes %s and %s", shape_str(module, &p) + 4,
                 shape_str(module, &q) + 4);
    }
    *to = expr_broadcast(module->exprs, x, y);
  }
  return MOEC_OK;
}
