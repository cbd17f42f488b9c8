/* Types of values: construction, comparison, text, number of elements. */
#include "ir/ir.h"

ir_type_t ir_tensor_type(dtype_t dtype, unsigned rank,
                         const expr_t *const *dim) {
  MOEC_ASSERT(rank <= IR_MAX_RANK);
  return (ir_type_t){
      .kind = IR_TENSOR, .dtype = dtype, .rank = rank, .dim = dim};
}

ir_type_t ir_scalar_type(dtype_t dtype) {
  return ir_tensor_type(dtype, 0, NULL);
}

ir_type_t ir_buffer_type(dtype_t dtype) {
  return (ir_type_t){.kind = IR_BUFFER, .dtype = dtype};
}

bool ir_type_equal(const ir_type_t *a, const ir_type_t *b) {
  while (a->kind == b->kind &&
         (a->kind == IR_SEQUENCE || a->kind == IR_OPTIONAL)) {
    if (a->elem == b->elem) return true;
    if (a->elem == NULL || b->elem == NULL) return false;
    a = a->elem;
    b = b->elem;
  }
  if (a->kind != b->kind || a->dtype != b->dtype) return false;
  if (a->kind == IR_BUFFER) return true;
  if (a->rank != b->rank) return false;
  for (unsigned i = 0; i < a->rank; i++)
    if (a->dim[i] != b->dim[i]) return false; /* interned */
  return true;
}

void ir_type_print(const ir_type_t *type, text_t *out) {
  while (type->kind == IR_SEQUENCE || type->kind == IR_OPTIONAL) {
    text_printf(out, "%s ", type->kind == IR_SEQUENCE ? "seq" : "opt");
    if (type->elem == NULL) {
      text_printf(out, "none");
      return;
    }
    type = type->elem;
  }
  const char *dtype = type->dtype == DT_NONE ? "none" : dtype_name(type->dtype);
  if (type->kind == IR_BUFFER) {
    text_printf(out, "buf %s", dtype);
    return;
  }
  text_printf(out, "%s[", dtype);
  for (unsigned i = 0; i < type->rank; i++) {
    if (i > 0) text_append(out, ",", 1);
    expr_print(type->dim[i], out);
  }
  text_append(out, "]", 1);
}

const char *ir_type_str(arena_t *arena, const ir_type_t *type) {
  text_t text;
  text_init(&text, arena);
  ir_type_print(type, &text);
  return text.data;
}

const expr_t *ir_type_count(expr_pool_t *pool, const ir_type_t *type) {
  MOEC_ASSERT(type->kind == IR_TENSOR);
  return expr_product(pool, type->dim, type->rank);
}

bool ir_type_static_count(const ir_type_t *type, int64_t *out_count) {
  int64_t count = 1;
  bool overflow = false, empty = false;
  *out_count = 0;
  if (type->kind != IR_TENSOR) return false;
  for (unsigned i = 0; i < type->rank; i++) {
    int64_t dim;
    if (!expr_is_const(type->dim[i], &dim) || dim < 0) return false;
    empty |= dim == 0;
    overflow |= __builtin_mul_overflow(count, dim, &count);
  }
  if (empty) return true;
  if (overflow) return false;
  *out_count = count;
  return true;
}
