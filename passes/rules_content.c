/* Rules for integers that are known as sizes, so that arithmetic on shapes
 * costs no kernels; and for constants that repeat one element. */
#include <string.h>

#include "ir/element.h"
#include "passes/rules.h"

/* ---- Known contents ------------------------------------------------------ */

static bool all_constant(const ir_value_t *value, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!expr_is_const(value->content[i], NULL)) return false;
  return true;
}

/* What a scatter writes into is copied anyway, and one number can be written
 * many times. */
static bool is_scattered(const ir_use_t *use) {
  ir_opcode_t code = use->user->code;
  return (code == OP_SCATTER_ELEMENTS || code == OP_SCATTER_ND) &&
         use->index != 1;
}

/* Users need not have each element in memory. */
static bool used_elementwise(const ir_op_t *op) {
  for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
    if (!ir_has_trait(use->user, ELEMENTWISE) && !is_scattered(use))
      return false;
  return true;
}

static bool is_exprs(const ir_op_t *op) {
  return op != NULL && op->code == OP_EXPRS;
}

/* Already in the form that sizes are given: exprs, that cast to another type,
 * and that reshaped to a higher rank; or expanded for elementwise users. */
static bool is_settled(const ir_op_t *op, int64_t count) {
  const ir_op_t *def = op->n_in > 0 ? op->in[0].value->def : NULL;
  if (op->code == OP_CONSTANT || op->code == OP_IOTA) return true;
  if (op->code == OP_EXPAND && rule_has_one_element(&op->in[0].value->type) &&
      used_elementwise(op))
    return true;
  if (all_constant(&op->out[0], count)) return false;
  if (op->code == OP_CAST) return is_exprs(def);
  if (op->code != OP_RESHAPE || op->out[0].type.rank <= 1) return is_exprs(op);
  return is_exprs(def) || (def != NULL && def->code == OP_CAST &&
                           is_exprs(def->in[0].value->def));
}

bool match_known_content(const ir_op_t *op) {
  int64_t count;
  if (op->n_out != 1 || op->out[0].content == NULL) return false;
  return ir_has_trait(op, PURE) &&
         ir_type_static_count(&op->out[0].type, &count) &&
         !is_settled(op, count);
}

static ir_value_t *make_constant(const ir_value_t *known, int64_t count,
                                 ir_builder_t *b) {
  dtype_t dtype = known->type.dtype;
  uint64_t size = dtype_bytes(dtype, (uint64_t)count);
  void *bytes = arena_alloc(b->module->arena, size);
  for (int64_t i = 0; i < count; i++) {
    int64_t value = 0;
    expr_is_const(known->content[i], &value);
    ir_element_set_int(dtype, bytes, (uint64_t)i, value);
  }
  return ir_tensor(b, &known->type, bytes, size);
}

ir_value_t *apply_known_content(ir_op_t *op, ir_builder_t *b) {
  const ir_value_t *out = &op->out[0];
  int64_t count;
  bool fixed = ir_type_static_count(&out->type, &count);
  MOEC_ASSERT(fixed);
  if (all_constant(out, count)) return make_constant(out, count, b);
  ir_value_t *sizes = out->type.rank == 0
                          ? ir_expr_scalar(b, out->content[0])
                          : ir_exprs(b, (unsigned)count, out->content);
  sizes = ir_cast(b, sizes, out->type.dtype);
  return ir_reshape(b, sizes, out->type.rank, out->type.dim);
}

bool match_check_equal_proved(const ir_op_t *op) {
  return expr_compare_equal(op->module->exprs,
                            ir_get_expr(op, ATTR_CHECK_EQUAL_a),
                            ir_get_expr(op, ATTR_CHECK_EQUAL_b)) == 1;
}

ir_value_t *apply_check_equal_proved(ir_op_t *op, ir_builder_t *b) {
  (void)op, (void)b;
  return NULL;
}

/* ---- Constants of equal elements ----------------------------------------- */

bool match_splat_constant(const ir_op_t *op) {
  const ir_type_t *type = &op->out[0].type;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  unsigned bits = dtype_bits(type->dtype);
  int64_t count;
  if (type->dtype == DT_STR || bits < 8 || data->bytes == NULL) return false;
  if (ir_has_attr(op, ATTR_CONSTANT_data_dtype)) return false;
  if (!ir_type_static_count(type, &count) || count < 2) return false;
  if (!used_elementwise(op)) return false;
  const char *bytes = data->bytes;
  uint64_t step = bits / 8;
  return memcmp(bytes, bytes + step, data->size - step) == 0 &&
         ir_data_is_known(data);
}

ir_value_t *apply_splat_constant(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  ir_type_t scalar = ir_scalar_type(to->dtype);
  ir_value_t *x = ir_tensor(b, &scalar, data->bytes, dtype_bytes(to->dtype, 1));
  return ir_expand(b, x, to->rank, to->dim);
}
