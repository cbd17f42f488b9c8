/* The table of rules, and questions and steps that they share. */
#include "passes/rules.h"

#include <math.h>
#include <string.h>

#include "ir/element.h"

static const rule_t rules[] = {
#define RULE(id, root, operand0, pattern) \
  {#id, pattern, RULE_##root, RULE_##operand0, match_##id, apply_##id},
#include "passes/canonicalize.def"
};

unsigned rule_count(void) { return sizeof rules / sizeof rules[0]; }

const rule_t *rule_at(unsigned index) {
  MOEC_ASSERT(index < rule_count());
  return &rules[index];
}

/* ---- Shapes -------------------------------------------------------------- */

const ir_op_t *rule_def(const ir_op_t *op, unsigned index, ir_opcode_t code) {
  const ir_value_t *value = ir_in(op, index);
  return value != NULL && value->def != NULL && value->def->code == code
             ? value->def
             : NULL;
}

bool rule_is_one(const expr_t *dim) { return expr_equals_const(dim, 1); }

bool rule_same_dims(const ir_type_t *a, const ir_type_t *b) {
  if (a->kind != b->kind || a->rank != b->rank) return false;
  for (unsigned d = 0; d < a->rank; d++)
    if (a->dim[d] != b->dim[d]) return false;
  return true;
}

bool rule_slices_all(const ir_op_t *slice, unsigned d) {
  unsigned n;
  const expr_t *const *start = ir_get_exprs(slice, ATTR_SLICE_start, &n);
  const expr_t *const *length = ir_get_exprs(slice, ATTR_SLICE_length, &n);
  return expr_equals_const(start[d], 0) &&
         length[d] == slice->in[0].value->type.dim[d];
}

bool rule_has_one_element(const ir_type_t *type) {
  if (type->kind != IR_TENSOR) return false;
  for (unsigned d = 0; d < type->rank; d++)
    if (!rule_is_one(type->dim[d])) return false;
  return true;
}

bool rule_adds_leading_ones(const ir_type_t *without, const ir_type_t *with) {
  if (with->rank < without->rank) return false;
  unsigned shift = with->rank - without->rank;
  for (unsigned d = 0; d < shift; d++)
    if (!rule_is_one(with->dim[d])) return false;
  for (unsigned d = 0; d < without->rank; d++)
    if (without->dim[d] != with->dim[d + shift]) return false;
  return true;
}

/* ---- Constants ----------------------------------------------------------- */

const ir_op_t *rule_splat(const ir_value_t *value) {
  enum { MAX_VIEWS = 4 }; /* so that chains of them cost nothing */
  const ir_op_t *op = value != NULL ? value->def : NULL;
  for (int i = 0; op != NULL && i < MAX_VIEWS; i++) {
    if (op->code != OP_EXPAND && op->code != OP_RESHAPE) break;
    op = op->in[0].value->def;
  }
  if (op == NULL || op->code != OP_CONSTANT) return NULL;
  if (ir_has_attr(op, ATTR_CONSTANT_data_dtype)) return NULL;
  if (op->out[0].type.dtype == DT_STR) return NULL;
  return rule_has_one_element(&op->out[0].type) ? op : NULL;
}

bool rule_splat_float(const ir_value_t *value, double *out) {
  const ir_op_t *op = rule_splat(value);
  if (op == NULL || !dtype_is_float(op->out[0].type.dtype)) return false;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  *out = ir_element_float(op->out[0].type.dtype, data->bytes, 0);
  return true;
}

bool rule_splat_int(const ir_value_t *value, int64_t *out) {
  const ir_op_t *op = rule_splat(value);
  if (op == NULL) return false;
  dtype_t dtype = op->out[0].type.dtype;
  if (!dtype_is_integer(dtype) && dtype != DT_BOOL) return false;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  *out = ir_element_int(dtype, data->bytes, 0);
  if (dtype == DT_BOOL) *out = *out != 0;
  return true;
}

bool rule_operand_is(const ir_op_t *op, unsigned index, double number) {
  double x;
  int64_t i;
  const ir_value_t *value = ir_in(op, index);
  if (rule_splat_float(value, &x))
    return x == number && signbit(x) == signbit(number);
  return rule_splat_int(value, &i) && i == (int64_t)number;
}

bool rule_scatters_by(const ir_op_t *op, const char *reduction) {
  const char *name = op->code == OP_SCATTER_ND
                         ? ir_get_str(op, ATTR_SCATTER_ND_reduction)
                         : ir_get_str(op, ATTR_SCATTER_ELEMENTS_reduction);
  return strcmp(name != NULL ? name : "none", reduction) == 0;
}

bool rule_compute(ir_opcode_t code, double a, double b, double *out) {
  switch (code) {
    case OP_ADD:
      *out = a + b;
      return true;
    case OP_SUB:
      *out = a - b;
      return true;
    case OP_MUL:
      *out = a * b;
      return true;
    case OP_DIV:
      *out = b != 0 ? a / b : NAN;
      return true;
    case OP_MIN:
      *out = a < b ? a : b;
      return true;
    case OP_MAX:
      *out = a > b ? a : b;
      return true;
    case OP_AND:
      *out = a != 0 && b != 0;
      return true;
    case OP_OR:
      *out = a != 0 || b != 0;
      return true;
    case OP_XOR:
      *out = (a != 0) != (b != 0);
      return true;
    case OP_EQ:
      *out = a == b;
      return true;
    case OP_LT:
      *out = a < b;
      return true;
    case OP_LE:
      *out = a <= b;
      return true;
    default:
      return false;
  }
}

bool rule_is_constant(const ir_value_t *value) {
  enum { MAX_VIEWS = 4 };
  const ir_op_t *op = value->def;
  for (int i = 0; op != NULL && i < MAX_VIEWS; i++) {
    switch (op->code) {
      case OP_CONSTANT:
        return true;
      case OP_EXPAND:
      case OP_RESHAPE:
      case OP_TRANSPOSE:
      case OP_SLICE:
        op = op->in[0].value->def;
        break;
      default:
        return false;
    }
  }
  return false;
}

/* ---- Steps --------------------------------------------------------------- */

ir_value_t *rule_broadcast(ir_builder_t *b, ir_value_t *x,
                           const ir_type_t *like) {
  if (x != NULL && rule_same_dims(&x->type, like)) return x;
  return ir_expand(b, x, like->rank, like->dim);
}

ir_value_t *rule_fill(ir_builder_t *b, double number, const ir_type_t *like) {
  return rule_broadcast(b, ir_scalar(b, like->dtype, number), like);
}

ir_value_t *rule_reshape_constant(ir_builder_t *b, const ir_op_t *constant,
                                  unsigned rank, const expr_t *const *dim) {
  int64_t shape[IR_MAX_RANK];
  for (unsigned d = 0; d < rank; d++) {
    bool fixed = expr_is_const(dim[d], &shape[d]);
    MOEC_ASSERT(fixed);
  }
  ir_op_t *op = ir_begin(b, OP_CONSTANT, 0, NULL, 1);
  ir_set_dtype(op, ATTR_CONSTANT_dtype, constant->out[0].type.dtype);
  ir_set_ints(op, ATTR_CONSTANT_shape, rank, shape);
  if (ir_has_attr(constant, ATTR_CONSTANT_data_dtype))
    ir_set_dtype(op, ATTR_CONSTANT_data_dtype,
                 ir_get_dtype(constant, ATTR_CONSTANT_data_dtype));
  ir_set_data(op, ATTR_CONSTANT_data,
              ir_get_data(constant, ATTR_CONSTANT_data));
  return ir_place(b, op);
}
