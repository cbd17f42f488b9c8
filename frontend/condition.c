/* Conditions that are known when compiling. */
#include "frontend/region.h"
#include "ir/element.h"

/* One number of a float type: a constant, or a known integer as one. */
static bool known_float(convert_ctx_t *ctx, const ir_value_t *x, double *out) {
  enum { MAX_VIEWS = 4 };
  unsigned n;
  const int64_t *value;
  int64_t count;
  dtype_t dtype = x->type.dtype;
  if ((dtype != DT_F32 && dtype != DT_F64) ||
      !ir_type_static_count(&x->type, &count) || count != 1)
    return false;
  const ir_op_t *op = x->def;
  for (unsigned i = 0; i < MAX_VIEWS && op != NULL; i++) {
    if (op->code != OP_RESHAPE) break;
    op = op->in[0].value->def;
  }
  if (op != NULL && op->code == OP_CONSTANT &&
      !ir_has_attr(op, ATTR_CONSTANT_data_dtype)) {
    const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
    *out = ir_element_float(dtype, data->bytes, 0);
    return true;
  }
  if (op == NULL || op->code != OP_CAST ||
      !ctx_const_ints(ctx, op->in[0].value, &n, &value) || n != 1)
    return false;
  *out = dtype == DT_F32 ? (double)(float)value[0] : (double)value[0];
  return true;
}

/* Loops of exporters that know comparisons of floats only count in floats. */
static bool known_bool(convert_ctx_t *ctx, const ir_value_t *x, unsigned depth,
                       bool *out) {
  enum { MAX_DEPTH = 16 };
  unsigned n;
  const int64_t *value;
  int64_t count;
  double a, b;
  bool other;
  const ir_op_t *op = x->def;
  if (!ir_type_static_count(&x->type, &count) || count != 1) return false;
  if (ctx_const_ints(ctx, x, &n, &value)) {
    *out = value[0] != 0;
    return true;
  }
  if (op == NULL || depth == MAX_DEPTH) return false;
  switch (op->code) {
    case OP_RESHAPE:
      return known_bool(ctx, op->in[0].value, depth + 1, out);
    case OP_NOT:
      if (!known_bool(ctx, op->in[0].value, depth + 1, out)) return false;
      *out = !*out;
      return true;
    case OP_AND:
      if (!known_bool(ctx, op->in[0].value, depth + 1, out) ||
          !known_bool(ctx, op->in[1].value, depth + 1, &other))
        return false;
      *out = *out && other;
      return true;
    case OP_LT:
    case OP_LE:
      if (!known_float(ctx, op->in[0].value, &a) ||
          !known_float(ctx, op->in[1].value, &b))
        return false;
      *out = op->code == OP_LT ? a < b : a <= b;
      return true;
    default:
      return false;
  }
}

bool ctx_known_bool(convert_ctx_t *ctx, const ir_value_t *x, bool *out) {
  return known_bool(ctx, x, 0, out);
}
