/* Symbolic evaluation of small integer tensors: the arithmetic on sizes that
 * models carry along. A closed list of operations; the one second meaning that
 * operations have beside their lowering. */
#include <setjmp.h>
#include <string.h>

#include "ir/element.h"
#include "ir/shape.h"

#define MAX_ELEMENTS 64

typedef struct content {
  arena_t *arena;
  expr_pool_t *pool;
  const ir_op_t *op;
  int64_t count; /* elements of the result */
} content_t;

static bool has_contents(dtype_t dtype) {
  return dtype == DT_I64 || dtype == DT_I32 || dtype == DT_BOOL;
}

/* Element of operand `index`, or NULL. */
static const expr_t *known(const content_t *c, unsigned index,
                           int64_t element) {
  const ir_value_t *value = c->op->in[index].value;
  return value->content != NULL ? value->content[element] : NULL;
}

static bool known_int(const content_t *c, unsigned index, int64_t element,
                      int64_t *out_value) {
  const expr_t *e = known(c, index, element);
  return e != NULL && expr_is_const(e, out_value);
}

/* ---- Values of an element type ------------------------------------------- */

static int64_t wrapped(dtype_t dtype, uint64_t bits) {
  return dtype == DT_I32 ? (int32_t)(uint32_t)bits : (int64_t)bits;
}

/* What a computed e is in dtype: constants wrap. In i32 an expression over
 * symbols stands for itself, as it comes from sizes, unless its coefficients
 * alone show that it cannot. NULL when not known. */
static const expr_t *fit(const content_t *c, dtype_t dtype, const expr_t *e) {
  int64_t value;
  if (e == NULL || dtype == DT_I64) return e;
  if (expr_is_const(e, &value)) {
    if (dtype == DT_BOOL) return value == 0 || value == 1 ? e : NULL;
    return expr_const(c->pool, wrapped(dtype, (uint64_t)value));
  }
  if (dtype != DT_I32) return NULL;
  for (unsigned i = 0; i < e->n_terms; i++)
    if (e->terms[i].coefficient < INT32_MIN ||
        e->terms[i].coefficient > INT32_MAX)
      return NULL;
  int64_t bound;
  if (expr_lower_bound(e, &bound) && bound > INT32_MAX) return NULL;
  if (expr_upper_bound(e, &bound) && bound < INT32_MIN) return NULL;
  return e;
}

/* 1, 0 or -1 for unknown as a bool element. */
static const expr_t *decided(const content_t *c, int answer) {
  return answer < 0 ? NULL : expr_const(c->pool, answer);
}

static bool is_nonnegative(const expr_t *e) {
  int64_t bound;
  return expr_lower_bound(e, &bound) && bound >= 0;
}

/* Quotient and remainder of constants: truncating, or floored for MOD. */
static int64_t divide_ints(ir_opcode_t code, int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return code == OP_DIV ? (int64_t)(0 - (uint64_t)a) : 0;
  if (code == OP_DIV) return a / b;
  int64_t r = a % b;
  return code == OP_MOD && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static const expr_t *divide(const content_t *c, ir_opcode_t code, dtype_t dtype,
                            const expr_t *a, const expr_t *b) {
  int64_t x, y;
  if (expr_is_const(a, &x) && expr_is_const(b, &y))
    return expr_const(c->pool,
                      wrapped(dtype, (uint64_t)divide_ints(code, x, y)));
  if (expr_equals_const(b, 0)) return b;
  if (!is_nonnegative(b) || (code != OP_MOD && !is_nonnegative(a))) return NULL;
  return code == OP_DIV ? expr_floordiv(c->pool, a, b)
                        : expr_mod(c->pool, a, b);
}

/* Sums and products of constants wrap as those of the type do. */
static const expr_t *add_or_mul(const content_t *c, ir_opcode_t code,
                                dtype_t dtype, const expr_t *a,
                                const expr_t *b) {
  int64_t x, y;
  if (expr_is_const(a, &x) && expr_is_const(b, &y)) {
    uint64_t p = (uint64_t)x, q = (uint64_t)y;
    uint64_t bits = code == OP_ADD ? p + q : code == OP_SUB ? p - q : p * q;
    return expr_const(c->pool, wrapped(dtype, bits));
  }
  if (code == OP_ADD) return expr_add(c->pool, a, b);
  return code == OP_SUB ? expr_sub(c->pool, a, b) : expr_mul(c->pool, a, b);
}

static const expr_t *logic(const content_t *c, ir_opcode_t code,
                           const expr_t *a, const expr_t *b) {
  int64_t x = -1, y = -1; /* not known */
  if (a != NULL) expr_is_const(a, &x);
  if (b != NULL) expr_is_const(b, &y);
  if (code == OP_AND && (x == 0 || y == 0)) return decided(c, 0);
  if (code == OP_OR && (x == 1 || y == 1)) return decided(c, 1);
  if (x < 0 || y < 0) return NULL;
  return decided(c, code == OP_AND  ? (x & y) != 0
                    : code == OP_OR ? (x | y) != 0
                                    : x != y);
}

static const expr_t *compare(const content_t *c, ir_opcode_t code,
                             const expr_t *a, const expr_t *b) {
  if (code == OP_EQ) return decided(c, expr_compare_equal(c->pool, a, b));
  if (code == OP_LT) return decided(c, expr_compare_less(c->pool, a, b));
  int greater = expr_compare_less(c->pool, b, a);
  return decided(c, greater < 0 ? -1 : !greater);
}

static const expr_t *binary(const content_t *c, ir_opcode_t code, dtype_t dtype,
                            const expr_t *a, const expr_t *b) {
  if (code == OP_AND || code == OP_OR || code == OP_XOR)
    return logic(c, code, a, b);
  if (a == NULL || b == NULL) return NULL;
  switch (code) {
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
      return fit(c, dtype, add_or_mul(c, code, dtype, a, b));
    case OP_DIV:
    case OP_MOD:
    case OP_FMOD:
      return fit(c, dtype, divide(c, code, dtype, a, b));
    case OP_MIN:
      return fit(c, dtype, expr_min(c->pool, a, b));
    case OP_MAX:
      return fit(c, dtype, expr_max(c->pool, a, b));
    case OP_EQ:
    case OP_LT:
    case OP_LE:
      return compare(c, code, a, b);
    default:
      return NULL;
  }
}

static const expr_t *unary(const content_t *c, const expr_t *x) {
  dtype_t to = c->op->out[0].type.dtype;
  const expr_t *zero = expr_const(c->pool, 0);
  int equal, less;
  if (x == NULL) return NULL;
  switch (c->op->code) {
    case OP_NEG:
      return fit(c, to, add_or_mul(c, OP_SUB, to, zero, x));
    case OP_ABS:
      if (is_nonnegative(x)) return x;
      return fit(c, to,
                 expr_max(c->pool, x, add_or_mul(c, OP_SUB, to, zero, x)));
    case OP_SIGN:
      equal = expr_compare_equal(c->pool, x, zero);
      less = expr_compare_less(c->pool, x, zero);
      if (less == 1) return expr_const(c->pool, -1);
      return less == 0 && equal >= 0 ? expr_const(c->pool, !equal) : NULL;
    case OP_NOT:
      return expr_is_const(x, NULL) ? decided(c, expr_equals_const(x, 0))
                                    : NULL;
    case OP_CAST:
      if (to != DT_BOOL) return fit(c, to, x);
      equal = expr_compare_equal(c->pool, x, zero);
      return decided(c, equal < 0 ? -1 : !equal);
    default: /* rounding of integers */
      return x;
  }
}

/* ---- Positions ----------------------------------------------------------- */

static int64_t dim_of(const ir_type_t *type, unsigned axis) {
  int64_t dim;
  bool fixed = expr_is_const(type->dim[axis], &dim);
  MOEC_ASSERT(fixed);
  return dim;
}

/* Coordinates of element `index` in C order. */
static void unravel(const ir_type_t *type, int64_t index, int64_t *out) {
  for (unsigned i = type->rank; i-- > 0;) {
    int64_t dim = dim_of(type, i);
    out[i] = index % dim;
    index /= dim;
  }
}

static int64_t ravel(const ir_type_t *type, const int64_t *at) {
  int64_t index = 0;
  for (unsigned i = 0; i < type->rank; i++)
    index = index * dim_of(type, i) + at[i];
  return index;
}

/* Where operand `from` is read for element `index` of the result. */
static int64_t broadcast_position(const ir_type_t *to, const ir_type_t *from,
                                  int64_t index) {
  int64_t at[IR_MAX_RANK];
  unravel(to, index, at);
  unsigned shift = to->rank - from->rank;
  for (unsigned i = 0; i < from->rank; i++)
    at[i] = dim_of(from, i) == 1 ? 0 : at[i + shift];
  return ravel(from, at);
}

static const expr_t *operand_at(const content_t *c, unsigned operand,
                                int64_t index) {
  const ir_type_t *to = &c->op->out[0].type, *from = shape_in(c->op, operand);
  if (c->op->in[operand].value->content == NULL) return NULL;
  return known(c, operand, broadcast_position(to, from, index));
}

static const expr_t *transposed(const content_t *c, int64_t index) {
  unsigned n;
  const int64_t *perm = ir_get_ints(c->op, ATTR_TRANSPOSE_perm, &n);
  int64_t at[IR_MAX_RANK], from[IR_MAX_RANK] = {0};
  unravel(&c->op->out[0].type, index, at);
  for (unsigned i = 0; i < n; i++) from[perm[i]] = at[i];
  return known(c, 0, ravel(shape_in(c->op, 0), from));
}

static const expr_t *sliced(const content_t *c, int64_t index) {
  unsigned n;
  const expr_t *const *start = ir_get_exprs(c->op, ATTR_SLICE_start, &n);
  const expr_t *const *step = ir_get_exprs(c->op, ATTR_SLICE_step, &n);
  const ir_type_t *x = shape_in(c->op, 0);
  int64_t at[IR_MAX_RANK], first, by;
  unravel(&c->op->out[0].type, index, at);
  for (unsigned i = 0; i < n; i++) {
    if (!expr_is_const(start[i], &first) || !expr_is_const(step[i], &by) ||
        __builtin_mul_overflow(at[i], by, &at[i]) ||
        __builtin_add_overflow(at[i], first, &at[i]) || at[i] < 0 ||
        at[i] >= dim_of(x, i))
      return NULL;
  }
  return known(c, 0, ravel(x, at));
}

static const expr_t *concatenated(const content_t *c, int64_t index) {
  const ir_type_t *out = &c->op->out[0].type;
  int64_t axis = ir_get_int(c->op, ATTR_CONCAT_axis), at[IR_MAX_RANK];
  if (axis < 0) axis += out->rank;
  unravel(out, index, at);
  for (unsigned i = 0; i < c->op->n_in; i++) {
    int64_t length;
    const ir_type_t *x = shape_in(c->op, i);
    if (!expr_is_const(x->dim[axis], &length)) return NULL;
    if (at[axis] < length)
      return c->op->in[i].value->content != NULL ? known(c, i, ravel(x, at))
                                                 : NULL;
    at[axis] -= length;
  }
  return NULL;
}

static const expr_t *gathered(const content_t *c, int64_t index) {
  const ir_type_t *x = shape_in(c->op, 0), *where = shape_in(c->op, 1);
  int64_t axis = ir_get_int(c->op, ATTR_GATHER_axis), chosen;
  int64_t at[IR_MAX_RANK], from[IR_MAX_RANK];
  if (axis < 0) axis += x->rank;
  unravel(&c->op->out[0].type, index, at);
  if (!known_int(c, 1, ravel(where, at + axis), &chosen)) return NULL;
  int64_t dim = dim_of(x, (unsigned)axis);
  if (chosen < 0) chosen += dim;
  if (chosen < 0 || chosen >= dim) return NULL;
  for (unsigned i = 0; i < x->rank; i++)
    from[i] = i < axis ? at[i] : i == axis ? chosen : at[i + where->rank - 1];
  return known(c, 0, ravel(x, from));
}

/* The update that is written to an element, the element itself where none is;
 * where several are, it is left to the run which of them stays. */
static const expr_t *scattered(const content_t *c, int64_t index) {
  const ir_type_t *to = &c->op->out[0].type, *where = shape_in(c->op, 1);
  const char *how = ir_get_str(c->op, ATTR_SCATTER_ELEMENTS_reduction);
  int64_t axis = ir_get_int(c->op, ATTR_SCATTER_ELEMENTS_axis);
  int64_t at[IR_MAX_RANK], n, chosen;
  const expr_t *const *updates = c->op->in[2].value->content, *found = NULL;
  if (axis < 0) axis += to->rank;
  if (updates == NULL || (how != NULL && strcmp(how, "none") != 0) ||
      to->rank == 0 || !ir_type_static_count(where, &n))
    return NULL;
  for (int64_t i = 0; i < n; i++) {
    if (!known_int(c, 1, i, &chosen)) return NULL;
    int64_t dim = dim_of(to, (unsigned)axis);
    if (chosen < 0) chosen += dim;
    if (chosen < 0 || chosen >= dim) return NULL;
    unravel(where, i, at);
    at[axis] = chosen;
    if (ravel(to, at) != index) continue;
    if (found != NULL) return NULL;
    found = updates[i];
  }
  return found != NULL ? found : known(c, 0, index);
}

static const expr_t *selected(const content_t *c, int64_t index) {
  const expr_t *cond = operand_at(c, 0, index);
  int64_t chosen;
  if (cond == NULL || !expr_is_const(cond, &chosen)) return NULL;
  return operand_at(c, chosen != 0 ? 1 : 2, index);
}

/* ---- Reductions ---------------------------------------------------------- */

static ir_opcode_t combiner(ir_opcode_t code) {
  return code == OP_REDUCE_SUM    ? OP_ADD
         : code == OP_REDUCE_PROD ? OP_MUL
         : code == OP_REDUCE_MAX  ? OP_MAX
                                  : OP_MIN;
}

/* Position in the result that element `index` of x contributes to. */
static int64_t reduced_position(const content_t *c, int64_t index) {
  ir_attr_id_t first = ir_op_info(c->op->code)->attr_first;
  bool keepdims = ir_get_int(c->op, first + 1) != 0;
  const ir_type_t *x = shape_in(c->op, 0);
  int64_t at[IR_MAX_RANK], to[IR_MAX_RANK];
  unsigned n_axes, n = 0, next = 0;
  const int64_t *axes = ir_get_ints(c->op, first, &n_axes);
  unravel(x, index, at);
  for (unsigned i = 0; i < x->rank; i++) {
    bool reduced = next < n_axes && axes[next] == i;
    next += reduced;
    if (!reduced || keepdims) to[n++] = reduced ? 0 : at[i];
  }
  return ravel(&c->op->out[0].type, to);
}

static const expr_t *reduced(const content_t *c, int64_t index) {
  ir_opcode_t code = combiner(c->op->code);
  dtype_t dtype = c->op->out[0].type.dtype;
  const expr_t *sum = code == OP_ADD   ? expr_const(c->pool, 0)
                      : code == OP_MUL ? expr_const(c->pool, 1)
                                       : NULL;
  int64_t n;
  if (!ir_type_static_count(shape_in(c->op, 0), &n)) return NULL;
  for (int64_t i = 0; i < n; i++) {
    if (reduced_position(c, i) != index) continue;
    const expr_t *x = known(c, 0, i);
    sum = sum == NULL ? x : binary(c, code, dtype, sum, x);
    if (sum == NULL) return NULL;
  }
  return sum;
}

/* ---- Elements of every operation ----------------------------------------- */

static const expr_t *constant_element(const content_t *c, int64_t index) {
  const ir_data_t *data = ir_get_data(c->op, ATTR_CONSTANT_data);
  dtype_t dtype = c->op->out[0].type.dtype;
  if (data->bytes == NULL) return NULL;
  int64_t value = ir_element_int(dtype, data->bytes, (uint64_t)index);
  return expr_const(c->pool, dtype == DT_BOOL ? value != 0 : value);
}

static const expr_t *element(const content_t *c, int64_t index) {
  const ir_op_t *op = c->op;
  unsigned n;
  switch (op->code) {
    case OP_CONSTANT:
      return constant_element(c, index);
    case OP_EXPRS:
      return ir_get_exprs(op, ATTR_EXPRS_values, &n)[index];
    case OP_IOTA:
      return expr_const(c->pool, index);
    case OP_RESHAPE:
      return known(c, 0, index);
    case OP_EXPAND:
      return operand_at(c, 0, index);
    case OP_TRANSPOSE:
      return transposed(c, index);
    case OP_SLICE:
      return sliced(c, index);
    case OP_CONCAT:
      return concatenated(c, index);
    case OP_GATHER:
      return gathered(c, index);
    case OP_SCATTER_ELEMENTS:
      return scattered(c, index);
    case OP_SELECT:
      return selected(c, index);
    case OP_REDUCE_SUM:
    case OP_REDUCE_PROD:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
      return reduced(c, index);
    default:
      if (op->n_in == 1) return unary(c, operand_at(c, 0, index));
      return binary(c, op->code, op->out[0].type.dtype, operand_at(c, 0, index),
                    operand_at(c, 1, index));
  }
}

/* Whether all operands that any element needs are known. */
static bool may_be_known(const ir_op_t *op) {
  const bool first =
      op->n_in > 0 && ir_in(op, 0) != NULL && op->in[0].value->content != NULL;
  const bool second =
      op->n_in > 1 && ir_in(op, 1) != NULL && op->in[1].value->content != NULL;
  switch (op->code) {
    case OP_CONSTANT:
    case OP_EXPRS:
    case OP_IOTA:
      return true;
    case OP_AND:
    case OP_OR:
      return first || second;
    case OP_NEG:
    case OP_ABS:
    case OP_SIGN:
    case OP_FLOOR:
    case OP_CEIL:
    case OP_ROUND:
    case OP_TRUNC:
    case OP_NOT:
    case OP_CAST:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_SELECT:
    case OP_REDUCE_SUM:
    case OP_REDUCE_PROD:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
      return first;
    case OP_CONCAT: /* empty operands have contents as well */
      return first;
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_MOD:
    case OP_FMOD:
    case OP_MIN:
    case OP_MAX:
    case OP_XOR:
    case OP_EQ:
    case OP_LT:
    case OP_LE:
    case OP_GATHER:
    case OP_SCATTER_ELEMENTS:
      return first && second;
    default:
      return false;
  }
}

static const expr_t *const *all_elements(const content_t *c) {
  const expr_t *elements[MAX_ELEMENTS] = {NULL};
  for (int64_t i = 0; i < c->count; i++) {
    elements[i] = element(c, i);
    if (elements[i] == NULL) return NULL;
  }
  size_t n = (size_t)c->count;
  return arena_grow_array(c->arena, elements, n, n, sizeof elements[0]);
}

/* A size too large to be written as an expression is not known; that is no
 * reason to refuse the model. */
static const expr_t *const *elements_within_limits(const content_t *c) {
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    const expr_t *const *elements = all_elements(c);
    recovery_leave(&point);
    return elements;
  }
  recovery_leave(&point);
  if (point.status != MOEC_E_LIMIT)
    moec_leave(point.status, "%s", point.message);
  return NULL;
}

const expr_t *const *shape_content(ir_module_t *module, const ir_op_t *op) {
  const ir_type_t *type = &op->out[0].type;
  content_t c = {.arena = module->arena, .pool = module->exprs, .op = op};
  if (type->kind != IR_TENSOR || !has_contents(type->dtype) ||
      !may_be_known(op) || !ir_type_static_count(type, &c.count) ||
      c.count > MAX_ELEMENTS)
    return NULL;
  if (op->code == OP_RESHAPE) return op->in[0].value->content;
  return elements_within_limits(&c);
}
