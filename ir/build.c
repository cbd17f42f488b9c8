/* Builders of single operations: create, insert, infer, return the result. */
#include "ir/build.h"

#include "ir/element.h"

static void fail(ir_builder_t *b, moec_status_t status) {
  if (b->status == MOEC_OK) b->status = status;
}

ir_value_t *ir_place(ir_builder_t *b, ir_op_t *op) {
  if (op == NULL) return NULL;
  if (b->before != NULL)
    ir_insert_before(op, b->before);
  else
    ir_append(b->region, op);
  moec_status_t status = ir_infer_types(b->module, op, b->diag);
  if (status != MOEC_OK) {
    fail(b, status);
    ir_erase(op);
    return NULL;
  }
  return op->n_out > 0 ? &op->out[0] : NULL;
}

ir_op_t *ir_begin(ir_builder_t *b, ir_opcode_t code, unsigned n_in,
                  ir_value_t *const *in, unsigned n_out) {
  const ir_op_info_t *info = ir_op_info(code);
  bool variadic = info->in_max == IR_VARIADIC;
  bool all = variadic && (info->traits & OPTIONAL) == 0;
  for (unsigned i = 0; i < n_in; i++) {
    if (in[i] != NULL || (!all && i >= info->in_min)) continue;
    if (b->status == MOEC_OK) /* not the echo of an earlier failure */
      b->status = diag_error(b->diag, b->loc, MOEC_E_INVALID_MODEL,
                             "operand %u of %s is missing", i, info->mnemonic);
    return NULL;
  }
  MOEC_ASSERT(n_in >= info->in_min && (variadic || n_in <= info->in_max));
  MOEC_ASSERT(info->out == IR_VARIADIC || n_out == info->out);
  return ir_op_create(b->module, code, b->loc, n_in, in, n_out);
}

/* ---- Elementwise -------------------------------------------------------- */

ir_value_t *ir_unary(ir_builder_t *b, ir_opcode_t code, ir_value_t *x) {
  return ir_place(b, ir_begin(b, code, 1, &x, 1));
}

ir_value_t *ir_binary(ir_builder_t *b, ir_opcode_t code, ir_value_t *x,
                      ir_value_t *y) {
  ir_value_t *in[] = {x, y};
  return ir_place(b, ir_begin(b, code, 2, in, 1));
}

ir_value_t *ir_select(ir_builder_t *b, ir_value_t *cond, ir_value_t *x,
                      ir_value_t *y) {
  ir_value_t *in[] = {cond, x, y};
  return ir_place(b, ir_begin(b, OP_SELECT, 3, in, 1));
}

ir_value_t *ir_cast(ir_builder_t *b, ir_value_t *x, dtype_t to) {
  if (x != NULL && x->type.kind == IR_TENSOR && x->type.dtype == to) return x;
  ir_op_t *op = ir_begin(b, OP_CAST, 1, &x, 1);
  if (op != NULL) ir_set_dtype(op, ATTR_CAST_to, to);
  return ir_place(b, op);
}

/* ---- Constants ---------------------------------------------------------- */

static ir_value_t *place_constant(ir_builder_t *b, dtype_t dtype, unsigned rank,
                                  const int64_t *shape, const void *bytes,
                                  uint64_t size) {
  ir_data_t *data = ARENA_NEW(b->module->arena, ir_data_t);
  data->bytes = bytes;
  data->size = size;
  ir_op_t *op = ir_begin(b, OP_CONSTANT, 0, NULL, 1);
  ir_set_dtype(op, ATTR_CONSTANT_dtype, dtype);
  ir_set_ints(op, ATTR_CONSTANT_shape, rank, shape);
  ir_set_data(op, ATTR_CONSTANT_data, data);
  return ir_place(b, op);
}

/* What wants a number of the type of its operands does not work on strings. */
static bool is_number(ir_builder_t *b, dtype_t dtype) {
  if (dtype_class(dtype) != DT_CLASS_STRING) return true;
  fail(b, diag_error(b->diag, b->loc, MOEC_E_UNSUPPORTED,
                     "the operator is not supported for strings"));
  return false;
}

ir_value_t *ir_scalar(ir_builder_t *b, dtype_t dtype, double value) {
  if (!is_number(b, dtype)) return NULL;
  uint64_t size = dtype_bytes(dtype, 1);
  void *bytes = arena_alloc(b->module->arena, size);
  ir_element_set_float(dtype, bytes, 0, value);
  return place_constant(b, dtype, 0, NULL, bytes, size);
}

ir_value_t *ir_scalar_int(ir_builder_t *b, dtype_t dtype, int64_t value) {
  if (!is_number(b, dtype)) return NULL;
  uint64_t size = dtype_bytes(dtype, 1);
  void *bytes = arena_alloc(b->module->arena, size);
  ir_element_set_int(dtype, bytes, 0, value);
  return place_constant(b, dtype, 0, NULL, bytes, size);
}

ir_value_t *ir_tensor(ir_builder_t *b, const ir_type_t *type, const void *bytes,
                      uint64_t size) {
  int64_t shape[IR_MAX_RANK];
  MOEC_ASSERT(type->kind == IR_TENSOR && type->dtype != DT_STR);
  for (unsigned i = 0; i < type->rank; i++) {
    bool fixed = expr_is_const(type->dim[i], &shape[i]);
    MOEC_ASSERT(fixed);
  }
  return place_constant(b, type->dtype, type->rank, shape, bytes, size);
}

ir_value_t *ir_ints(ir_builder_t *b, unsigned n, const int64_t *v) {
  uint64_t size = dtype_bytes(DT_I64, n);
  void *bytes = arena_alloc(b->module->arena, size);
  int64_t shape = n;
  for (unsigned i = 0; i < n; i++) ir_element_set_int(DT_I64, bytes, i, v[i]);
  return place_constant(b, DT_I64, 1, &shape, bytes, size);
}

/* Puts the values of n constant expressions into v; false if one is not. */
static bool all_constant(unsigned n, const expr_t *const *e, int64_t *v) {
  for (unsigned i = 0; i < n; i++)
    if (!expr_is_const(e[i], &v[i])) return false;
  return true;
}

ir_value_t *ir_exprs(ir_builder_t *b, unsigned n, const expr_t *const *e) {
  if (n == 0 && e != NULL) return ir_expr_scalar(b, e[0]);
  int64_t *v = ARENA_ARRAY(b->module->arena, int64_t, n);
  if (all_constant(n, e, v)) return ir_ints(b, n, v);
  ir_op_t *op = ir_begin(b, OP_EXPRS, 0, NULL, 1);
  ir_set_exprs(op, ATTR_EXPRS_values, n, e);
  return ir_place(b, op);
}

ir_value_t *ir_expr_scalar(ir_builder_t *b, const expr_t *e) {
  int64_t v;
  if (expr_is_const(e, &v)) return ir_scalar_int(b, DT_I64, v);
  ir_op_t *op = ir_begin(b, OP_EXPRS, 0, NULL, 1);
  ir_set_exprs(op, ATTR_EXPRS_values, 1, &e);
  ir_set_int(op, ATTR_EXPRS_scalar, 1);
  return ir_place(b, op);
}

ir_value_t *ir_fill(ir_builder_t *b, ir_value_t *scalar, unsigned rank,
                    const expr_t *const *dim) {
  return ir_expand(b, scalar, rank, dim);
}

ir_value_t *ir_iota(ir_builder_t *b, dtype_t dtype, const expr_t *n) {
  ir_op_t *op = ir_begin(b, OP_IOTA, 0, NULL, 1);
  ir_set_dtype(op, ATTR_IOTA_dtype, dtype);
  ir_set_expr(op, ATTR_IOTA_n, n);
  return ir_place(b, op);
}

/* ---- Movement ----------------------------------------------------------- */

static bool has_shape(const ir_value_t *x, unsigned rank,
                      const expr_t *const *dim) {
  if (x == NULL || x->type.kind != IR_TENSOR || x->type.rank != rank)
    return false;
  for (unsigned i = 0; i < rank; i++)
    if (x->type.dim[i] != dim[i]) return false;
  return true;
}

ir_value_t *ir_reshape(ir_builder_t *b, ir_value_t *x, unsigned rank,
                       const expr_t *const *dim) {
  if (has_shape(x, rank, dim)) return x;
  ir_op_t *op = ir_begin(b, OP_RESHAPE, 1, &x, 1);
  if (op != NULL) ir_set_exprs(op, ATTR_RESHAPE_shape, rank, dim);
  return ir_place(b, op);
}

ir_value_t *ir_unsqueeze(ir_builder_t *b, ir_value_t *x, unsigned axis) {
  const expr_t *dim[IR_MAX_RANK];
  if (x == NULL) return ir_reshape(b, x, 0, NULL);
  unsigned rank = x->type.rank;
  MOEC_ASSERT(axis <= rank);
  if (rank >= IR_MAX_RANK) {
    fail(b,
         diag_error(b->diag, b->loc, MOEC_E_LIMIT,
                    "rank %u exceeds the limit of %d", rank + 1, IR_MAX_RANK));
    return NULL;
  }
  for (unsigned i = 0; i < axis; i++) dim[i] = x->type.dim[i];
  dim[axis] = expr_const(b->module->exprs, 1);
  for (unsigned i = axis; i < rank; i++) dim[i + 1] = x->type.dim[i];
  return ir_reshape(b, x, rank + 1, dim);
}

ir_value_t *ir_squeeze(ir_builder_t *b, ir_value_t *x, unsigned axis) {
  const expr_t *dim[IR_MAX_RANK];
  if (x == NULL) return ir_reshape(b, x, 0, NULL);
  unsigned rank = x->type.rank, n = 0;
  MOEC_ASSERT(axis < rank);
  for (unsigned i = 0; i < rank; i++)
    if (i != axis) dim[n++] = x->type.dim[i];
  return ir_reshape(b, x, n, dim);
}

ir_value_t *ir_expand(ir_builder_t *b, ir_value_t *x, unsigned rank,
                      const expr_t *const *dim) {
  if (has_shape(x, rank, dim)) return x;
  ir_op_t *op = ir_begin(b, OP_EXPAND, 1, &x, 1);
  if (op != NULL) ir_set_exprs(op, ATTR_EXPAND_shape, rank, dim);
  return ir_place(b, op);
}

ir_value_t *ir_transpose(ir_builder_t *b, ir_value_t *x, const int64_t *perm) {
  ir_op_t *op = ir_begin(b, OP_TRANSPOSE, 1, &x, 1);
  if (op == NULL) return NULL;
  bool identity = true;
  for (unsigned i = 0; i < x->type.rank; i++) identity &= perm[i] == i;
  if (identity) {
    ir_erase(op);
    return x;
  }
  ir_set_ints(op, ATTR_TRANSPOSE_perm, x->type.rank, perm);
  return ir_place(b, op);
}

ir_value_t *ir_slice(ir_builder_t *b, ir_value_t *x, unsigned axis,
                     const expr_t *start, const expr_t *length,
                     const expr_t *step) {
  const expr_t *starts[IR_MAX_RANK], *lengths[IR_MAX_RANK], *steps[IR_MAX_RANK];
  if (x != NULL) {
    MOEC_ASSERT(axis < x->type.rank);
    if (expr_equals_const(start, 0) && length == x->type.dim[axis] &&
        expr_equals_const(step, 1))
      return x;
  }
  ir_op_t *op = ir_begin(b, OP_SLICE, 1, &x, 1);
  if (op == NULL) return NULL;
  unsigned rank = x->type.rank;
  for (unsigned i = 0; i < rank; i++) {
    starts[i] = i == axis ? start : expr_const(b->module->exprs, 0);
    lengths[i] = i == axis ? length : x->type.dim[i];
    steps[i] = i == axis ? step : expr_const(b->module->exprs, 1);
  }
  ir_set_exprs(op, ATTR_SLICE_start, rank, starts);
  ir_set_exprs(op, ATTR_SLICE_length, rank, lengths);
  ir_set_exprs(op, ATTR_SLICE_step, rank, steps);
  return ir_place(b, op);
}

ir_value_t *ir_concat(ir_builder_t *b, unsigned n, ir_value_t *const *x,
                      unsigned axis) {
  if (n == 1 && x[0] != NULL) return x[0];
  ir_op_t *op = ir_begin(b, OP_CONCAT, n, x, 1);
  if (op != NULL) ir_set_int(op, ATTR_CONCAT_axis, axis);
  return ir_place(b, op);
}

ir_value_t *ir_gather(ir_builder_t *b, ir_value_t *x, ir_value_t *index,
                      unsigned axis) {
  ir_value_t *in[] = {x, index};
  ir_op_t *op = ir_begin(b, OP_GATHER, 2, in, 1);
  if (op != NULL) ir_set_int(op, ATTR_GATHER_axis, axis);
  return ir_place(b, op);
}

/* ---- Reductions and products -------------------------------------------- */

#define SAME_ATTRS(code)                                                   \
  _Static_assert(ATTR_##code##_axes == ATTR_FIRST_##code &&                \
                     ATTR_##code##_keepdims == (int)ATTR_FIRST_##code + 1, \
                 "ops.def: reductions have the attributes axes and keepdims")
SAME_ATTRS(REDUCE_SUM);
SAME_ATTRS(REDUCE_PROD);
SAME_ATTRS(REDUCE_MAX);
SAME_ATTRS(REDUCE_MIN);

ir_value_t *ir_reduce(ir_builder_t *b, ir_opcode_t code, ir_value_t *x,
                      unsigned n_axes, const int64_t *axes, bool keepdims) {
  MOEC_ASSERT(code == OP_REDUCE_SUM || code == OP_REDUCE_PROD ||
              code == OP_REDUCE_MAX || code == OP_REDUCE_MIN);
  if (n_axes == 0 && x != NULL) return x;
  ir_op_t *op = ir_begin(b, code, 1, &x, 1);
  if (op == NULL) return NULL;
  ir_attr_id_t first = ir_op_info(code)->attr_first;
  ir_set_ints(op, first, n_axes, axes);
  ir_set_int(op, first + 1, keepdims);
  return ir_place(b, op);
}

ir_value_t *ir_matmul(ir_builder_t *b, ir_value_t *x, ir_value_t *y) {
  return ir_binary(b, OP_MATMUL, x, y);
}

/* ---- Sizes that depend on data ------------------------------------------ */

const expr_t *ir_known(const ir_value_t *v, int64_t index) {
  int64_t count;
  if (v == NULL || v->content == NULL) return NULL;
  if (!ir_type_static_count(&v->type, &count) || index < 0 || index >= count)
    return NULL;
  return v->content[index];
}

/* Whether a known size lies within [lower, upper]: 0 no, 1 yes, -1 unknown. */
static int is_within(ir_builder_t *b, const expr_t *e, int64_t lower,
                     const expr_t *upper) {
  expr_pool_t *pool = b->module->exprs;
  int below = expr_compare_less(pool, e, expr_const(pool, lower));
  int above = upper != NULL ? expr_compare_less(pool, upper, e) : 0;
  if (below == 1 || above == 1) return 0;
  return below == 0 && above == 0 ? 1 : -1;
}

static const char *expr_str(arena_t *arena, const expr_t *e) {
  text_t text;
  text_init(&text, arena);
  expr_print(e, &text);
  return text.data;
}

static const expr_t *new_symbol(ir_builder_t *b, ir_value_t *v, int64_t index,
                                const char *hint, int64_t lower,
                                const expr_t *upper) {
  ir_op_t *op = ir_begin(b, OP_BIND, 1, &v, 0);
  if (op == NULL) return NULL;
  const expr_t *symbol = expr_new_symbol(b->module->exprs, hint, lower, upper);
  ir_set_expr(op, ATTR_BIND_symbol, symbol);
  ir_set_int(op, ATTR_BIND_index, index);
  moec_status_t before = b->status;
  b->status = MOEC_OK;
  ir_place(b, op);
  bool placed = b->status == MOEC_OK;
  if (before != MOEC_OK) b->status = before;
  return placed ? symbol : NULL;
}

static const expr_t *bind_known(ir_builder_t *b, const expr_t *known,
                                const char *hint, int64_t lower,
                                const expr_t *upper) {
  int within = is_within(b, known, lower, upper);
  arena_t *arena = b->module->arena;
  if (within == 0) {
    fail(b, diag_error(b->diag, b->loc, MOEC_E_INVALID_MODEL,
                       "%s = %s is not within %lld..%s", hint,
                       expr_str(arena, known), (long long)lower,
                       upper != NULL ? expr_str(arena, upper) : ""));
    return NULL;
  }
  /* Sizes below 0 are found where they are used, other bounds are not. */
  if (within == 1 || (upper == NULL && lower <= 0)) return known;
  ir_value_t *value = ir_expr_scalar(b, known);
  return new_symbol(b, value, 0, hint, lower, upper) != NULL ? known : NULL;
}

const expr_t *ir_bind(ir_builder_t *b, ir_value_t *v, int64_t index,
                      const char *hint, int64_t lower, const expr_t *upper) {
  const expr_t *known = ir_known(v, index);
  return known != NULL ? bind_known(b, known, hint, lower, upper)
                       : new_symbol(b, v, index, hint, lower, upper);
}

void ir_check_equal(ir_builder_t *b, const expr_t *x, const expr_t *y,
                    const char *what) {
  if (x == NULL || y == NULL) return; /* the echo of an earlier failure */
  int equal = expr_compare_equal(b->module->exprs, x, y);
  if (equal == 1) return;
  if (equal == 0) {
    arena_t *arena = b->module->arena;
    fail(b, diag_error(b->diag, b->loc, MOEC_E_INVALID_MODEL,
                       "%s: %s does not equal %s", what, expr_str(arena, x),
                       expr_str(arena, y)));
    return;
  }
  ir_op_t *op = ir_begin(b, OP_CHECK_EQUAL, 0, NULL, 0);
  ir_set_expr(op, ATTR_CHECK_EQUAL_a, x);
  ir_set_expr(op, ATTR_CHECK_EQUAL_b, y);
  ir_set_str(op, ATTR_CHECK_EQUAL_what, what);
  ir_place(b, op);
}
