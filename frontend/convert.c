/* What all converters share: operands, results, errors, known values, and
 * combinations of operations that many of them need. */
#include "frontend/convert.h"

#include <stdarg.h>

#include "frontend/import_state.h"
#include "ir/element.h"

ir_value_t *ctx_in(const convert_ctx_t *ctx, unsigned index) {
  return index < ctx->n_in ? ctx->in[index].value : NULL;
}

bool ctx_wants(const convert_ctx_t *ctx, unsigned index) {
  return index < ctx->n_out && ctx->node->output[index][0] != '\0';
}

void ctx_set_output(convert_ctx_t *ctx, unsigned index, ir_value_t *value) {
  if (value == NULL || !ctx_wants(ctx, index)) return;
  ctx->out[index] = (slot_t){.kind = SLOT_TENSOR, .value = value};
}

void ctx_set_list(convert_ctx_t *ctx, unsigned index, unsigned n,
                  ir_value_t *const *value, dtype_t dtype) {
  if (!ctx_wants(ctx, index)) return;
  slot_list_t *list = ARENA_NEW(ctx->arena, slot_list_t);
  *list = (slot_list_t){n, value, dtype};
  ctx->out[index] = (slot_t){.kind = SLOT_LIST, .list = list};
}

const slot_list_t *ctx_list(convert_ctx_t *ctx, unsigned index) {
  if (index < ctx->n_in && ctx->in[index].kind == SLOT_LIST)
    return ctx->in[index].list;
  ctx_invalid(ctx, "input %u is not a sequence", index);
  return NULL;
}

/* The first error of a node is told, what follows from it is not. */
static moec_status_t record(convert_ctx_t *ctx, moec_status_t status,
                            const char *format, va_list args) {
  if (ctx_status(ctx) != MOEC_OK) return status;
  char text[512];
  vsnprintf(text, sizeof text, format, args);
  diag_error(ctx->diag, ctx->loc, status, "%s", text);
  ctx->status = status;
  ctx->b->status = status;
  return status;
}

moec_status_t ctx_error(convert_ctx_t *ctx, moec_status_t status,
                        const char *format, ...) {
  va_list args;
  va_start(args, format);
  record(ctx, status, format, args);
  va_end(args);
  return status;
}

moec_status_t ctx_invalid(convert_ctx_t *ctx, const char *format, ...) {
  va_list args;
  va_start(args, format);
  record(ctx, MOEC_E_INVALID_MODEL, format, args);
  va_end(args);
  return MOEC_E_INVALID_MODEL;
}

moec_status_t ctx_unsupported(convert_ctx_t *ctx, const char *format, ...) {
  va_list args;
  va_start(args, format);
  record(ctx, MOEC_E_UNSUPPORTED, format, args);
  va_end(args);
  return MOEC_E_UNSUPPORTED;
}

const char *ctx_type_str(const convert_ctx_t *ctx, const ir_value_t *value) {
  return ir_type_str(ctx->arena, &value->type);
}

moec_status_t ctx_status(const convert_ctx_t *ctx) {
  return ctx->status != MOEC_OK ? ctx->status : ctx->b->status;
}

ir_value_t *ctx_constant(convert_ctx_t *ctx, const Onnx__TensorProto *tensor) {
  ir_value_t *value = import_tensor(ctx->importer, tensor, ctx->loc);
  if (value == NULL && ctx->status == MOEC_OK)
    ctx->status = ctx->importer->status;
  return value;
}

ir_value_t *ctx_tensor(convert_ctx_t *ctx, dtype_t dtype, unsigned rank,
                       const int64_t *dim, const void *bytes, uint64_t size) {
  ir_data_t *data = ARENA_NEW(ctx->arena, ir_data_t);
  data->bytes = bytes;
  data->size = size;
  ir_value_t *value =
      import_bytes(ctx->importer, dtype, rank, dim, data, ctx->loc);
  if (value == NULL && ctx->status == MOEC_OK)
    ctx->status = ctx->importer->status;
  return value;
}

ir_value_t *ctx_scalar(convert_ctx_t *ctx, const ir_value_t *like,
                       double value) {
  if (like == NULL) return NULL;
  if (dtype_class(like->type.dtype) != DT_CLASS_STRING)
    return ir_scalar(ctx->b, like->type.dtype, value);
  ctx_unsupported(ctx, "elements of type %s are not supported",
                  dtype_name(like->type.dtype));
  return NULL;
}

bool ctx_axis(convert_ctx_t *ctx, int64_t axis, unsigned rank,
              unsigned *out_axis) {
  *out_axis = 0;
  int64_t r = rank;
  if (axis < -r || axis >= r) {
    ctx_invalid(ctx, "axis %lld is out of range for rank %u", (long long)axis,
                rank);
    return false;
  }
  *out_axis = (unsigned)(axis < 0 ? axis + r : axis);
  return true;
}

bool ctx_axes(convert_ctx_t *ctx, unsigned n, const int64_t *axes,
              unsigned rank, int64_t **out_axes) {
  bool present[IR_MAX_RANK] = {false};
  *out_axes = ARENA_ARRAY(ctx->arena, int64_t, IR_MAX_RANK);
  for (unsigned i = 0; i < n; i++) {
    unsigned axis;
    if (!ctx_axis(ctx, axes[i], rank, &axis)) return false;
    if (present[axis]) {
      ctx_invalid(ctx, "axis %lld occurs twice", (long long)axes[i]);
      return false;
    }
    present[axis] = true;
  }
  unsigned n_sorted = 0;
  for (unsigned i = 0; i < rank; i++)
    if (present[i]) (*out_axes)[n_sorted++] = i;
  return true;
}

bool ctx_check_rank(convert_ctx_t *ctx, const ir_value_t *x, unsigned min,
                    unsigned max, const char *what) {
  if (x == NULL) return false;
  if (x->type.rank >= min && x->type.rank <= max) return true;
  if (min == max)
    ctx_invalid(ctx, "%s is %s, expected rank %u", what, ctx_type_str(ctx, x),
                min);
  else
    ctx_invalid(ctx, "%s is %s, expected rank %u to %u", what,
                ctx_type_str(ctx, x), min, max);
  return false;
}

bool ctx_static_count(convert_ctx_t *ctx, const ir_value_t *x, const char *what,
                      int64_t *out_count) {
  *out_count = 0;
  if (x == NULL) return false;
  if (ir_type_static_count(&x->type, out_count)) return true;
  ctx_unsupported(ctx, "the number of elements of %s is not known: %s", what,
                  ctx_type_str(ctx, x));
  return false;
}

const expr_t *ctx_dim(const ir_value_t *x, unsigned axis) {
  MOEC_ASSERT(axis < x->type.rank);
  return x->type.dim[axis];
}

const expr_t *ctx_int(convert_ctx_t *ctx, int64_t value) {
  return expr_const(ctx->exprs, value);
}

const expr_t **ctx_dims(convert_ctx_t *ctx, const ir_value_t *x,
                        unsigned extra) {
  unsigned rank = x->type.rank;
  const expr_t **dim = ARENA_ARRAY(ctx->arena, const expr_t *, rank + extra);
  for (unsigned i = 0; i < rank; i++) dim[i] = x->type.dim[i];
  return dim;
}

bool ctx_const_ints(convert_ctx_t *ctx, const ir_value_t *x, unsigned *out_n,
                    const int64_t **out_values) {
  *out_n = 0;
  *out_values = NULL;
  int64_t count;
  if (x == NULL || x->type.kind != IR_TENSOR ||
      !ir_type_static_count(&x->type, &count) || count > UINT32_MAX / 2)
    return false;
  bool integers = dtype_is_integer(x->type.dtype) || x->type.dtype == DT_BOOL;
  if (!integers) return false;
  const ir_data_t *data = NULL;
  if (x->def != NULL && x->def->code == OP_CONSTANT)
    data = ir_get_data(x->def, ATTR_CONSTANT_data);
  if (data == NULL && x->content == NULL && count > 0) return false;
  int64_t *values = ARENA_ARRAY(ctx->arena, int64_t, (size_t)count + 1);
  for (int64_t i = 0; i < count; i++) {
    if (data != NULL)
      values[i] = ir_element_int(x->type.dtype, data->bytes, (uint64_t)i);
    else if (x->content[i] == NULL || !expr_is_const(x->content[i], &values[i]))
      return false;
  }
  *out_n = (unsigned)count;
  *out_values = values;
  return true;
}

bool ctx_need_ints(convert_ctx_t *ctx, const ir_value_t *x, const char *what,
                   unsigned *out_n, const int64_t **out_values) {
  if (ctx_const_ints(ctx, x, out_n, out_values)) return true;
  if (x != NULL) ctx_unsupported(ctx, "%s must be constant", what);
  return false;
}

bool ctx_const_floats(convert_ctx_t *ctx, const ir_value_t *x, unsigned *out_n,
                      const double **out_values) {
  *out_n = 0;
  *out_values = NULL;
  int64_t count;
  if (x == NULL || x->def == NULL || x->def->code != OP_CONSTANT ||
      x->type.dtype == DT_STR || !ir_type_static_count(&x->type, &count) ||
      count > UINT32_MAX / 2)
    return false;
  const ir_data_t *data = ir_get_data(x->def, ATTR_CONSTANT_data);
  double *values = ARENA_ARRAY(ctx->arena, double, (size_t)count + 1);
  for (int64_t i = 0; i < count; i++)
    values[i] = ir_element_float(x->type.dtype, data->bytes, (uint64_t)i);
  *out_n = (unsigned)count;
  *out_values = values;
  return true;
}

/* The part of a joined vector that has an element, whose number there is stored
 * in index, if the part's elements are known though not all of the vector's
 * are; else x. */
static ir_value_t *known_part(ir_value_t *x, int64_t *index) {
  ir_value_t *part = x;
  int64_t at = *index, length;
  while (part->content == NULL && part->def != NULL &&
         part->def->code == OP_CONCAT && part->type.rank == 1) {
    const ir_op_t *join = part->def;
    unsigned i = 0;
    for (; i < join->n_in; i++) {
      if (!ir_type_static_count(&ir_in(join, i)->type, &length)) return x;
      if (at < length) break;
      at -= length;
    }
    if (i == join->n_in) return x;
    part = ir_in(join, i);
  }
  if (part->content == NULL) return x;
  *index = at;
  return part;
}

const expr_t *ctx_size(convert_ctx_t *ctx, ir_value_t *x, int64_t index,
                       const char *hint, int64_t lower, const expr_t *upper) {
  if (x == NULL) return NULL;
  if (!dtype_is_integer(x->type.dtype)) {
    ctx_invalid(ctx, "%s is %s, expected integers", hint, ctx_type_str(ctx, x));
    return NULL;
  }
  x = known_part(x, &index);
  return ir_bind(ctx->b, x, index, hint, lower, upper);
}

const expr_t **ctx_sizes(convert_ctx_t *ctx, ir_value_t *x, const char *hint,
                         int64_t lower, unsigned *out_n) {
  *out_n = 0;
  int64_t count;
  if (!ctx_static_count(ctx, x, hint, &count)) return NULL;
  if (count > 65536) {
    ctx_error(ctx, MOEC_E_LIMIT, "%s has %lld elements", hint,
              (long long)count);
    return NULL;
  }
  const expr_t **size =
      ARENA_ARRAY(ctx->arena, const expr_t *, (size_t)count + 1);
  for (int64_t i = 0; i < count; i++) {
    size[i] = ctx_size(ctx, x, i, hint, lower, NULL);
    if (size[i] == NULL) return NULL;
  }
  *out_n = (unsigned)count;
  return size;
}

const expr_t *ctx_named(convert_ctx_t *ctx, const expr_t *e, const char *hint,
                        const expr_t *upper) {
  enum { SHORT = 16 };
  if (e == NULL || e->size <= SHORT) return e;
  ir_value_t *value = ir_expr_scalar(ctx->b, e);
  ir_op_t *op = ir_begin(ctx->b, OP_BIND, 1, &value, 0);
  if (op == NULL) return NULL;
  const expr_t *symbol = expr_new_symbol(ctx->exprs, hint, 0, upper);
  ir_set_expr(op, ATTR_BIND_symbol, symbol);
  ir_place(ctx->b, op);
  return symbol;
}

static bool never_one(convert_ctx_t *ctx, const expr_t *e) {
  return expr_equals_const(expr_is_one(ctx->exprs, e), 0);
}

void ctx_check_dims(convert_ctx_t *ctx, const expr_t *x, const expr_t *y) {
  if (x == NULL || y == NULL || x == y) return;
  expr_pool_t *pool = ctx->exprs;
  if (expr_equals_const(x, 1) || expr_equals_const(y, 1)) return;
  if (expr_is_one_unless_none(pool, x, y) ||
      expr_is_one_unless_none(pool, y, x))
    return;
  int equal = expr_compare_equal(pool, x, y);
  if (equal == 1) return;
  if (equal == 0 && never_one(ctx, x) && never_one(ctx, y))
    return; /* the shape law of what is built says so */
  static char mark;
  importer_t *im = ctx->importer;
  const char *key =
      arena_printf(ctx->arena, "%p %p", (const void *)x, (const void *)y);
  if (name_map_get(&im->checks, key) != NULL) return;
  if (ctx->b->region == &im->func->body && im->n_trials == 0)
    name_map_add(&im->checks, key, &mark);
  enum { MAX_SIZE = 48 }; /* of what is multiplied out */
  if (x->size > MAX_SIZE) x = ctx_named(ctx, x, "size", NULL);
  if (y->size > MAX_SIZE) y = ctx_named(ctx, y, "size", NULL);
  /* (x - y) * (x is not 1) * (y is not 1) == 0 */
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *not_one_x = expr_sub(pool, one, expr_is_one(pool, x));
  const expr_t *not_one_y = expr_sub(pool, one, expr_is_one(pool, y));
  const expr_t *gap = expr_mul(pool, expr_mul(pool, not_one_x, not_one_y),
                               expr_sub(pool, x, y));
  if (expr_is_const(not_one_x, NULL) && expr_is_const(not_one_y, NULL))
    ir_check_equal(ctx->b, x, y, "dimensions that are combined");
  else
    ir_check_equal(ctx->b, gap, ctx_int(ctx, 0),
                   "difference of dimensions that are combined");
}

/* Whether y is min(x, e) for an e of at least 2: then they agree only where y
 * is x, for y is 1 exactly where x is. */
static bool is_bounded(const expr_t *y, const expr_t *x) {
  if (y->n_terms != 1 || y->terms[0].coefficient != 1 ||
      y->terms[0].n_atoms != 1)
    return false;
  const expr_atom_t *atom = y->terms[0].atoms[0];
  if (atom->kind != EXPR_ATOM_MIN) return false;
  int64_t low;
  const expr_t *other = atom->a == x ? atom->b : atom->b == x ? atom->a : NULL;
  return other != NULL && expr_lower_bound(other, &low) && low >= 2;
}

/* The one of two sizes that an operand and the result have when the sizes can
 * only be equal, checked; NULL when one of them may be 1. */
static const expr_t *unify(convert_ctx_t *ctx, const expr_t *x,
                           const expr_t *y) {
  if (expr_compare_equal(ctx->exprs, x, y) == 0) return NULL;
  bool bounded = is_bounded(y, x) || is_bounded(x, y);
  if (!bounded && !(never_one(ctx, x) && never_one(ctx, y))) return NULL;
  ir_check_equal(ctx->b, x, y, "dimensions that are combined");
  if (expr_is_const(x, NULL) || is_bounded(y, x)) return x;
  if (expr_is_const(y, NULL) || is_bounded(x, y)) return y;
  return x->size <= y->size ? x : y;
}

/* Gives an operand the sizes that were found equal to its own. */
static ir_value_t *with_dims(convert_ctx_t *ctx, ir_value_t *x,
                             const expr_t *const *dim) {
  if (x == NULL || x->type.kind != IR_TENSOR) return x;
  unsigned rank = x->type.rank;
  const expr_t *want[IR_MAX_RANK];
  bool changed = false;
  for (unsigned j = 0; j < rank; j++) {
    const expr_t *mine = x->type.dim[j], *other = dim[rank - 1 - j];
    want[j] = mine;
    if (other == NULL || other == mine || expr_equals_const(mine, 1)) continue;
    want[j] = other;
    changed = true;
  }
  return changed ? ir_reshape(ctx->b, x, rank, want) : x;
}

void ctx_check_broadcast(convert_ctx_t *ctx, unsigned n, ir_value_t **x) {
  const expr_t *dim[IR_MAX_RANK] = {NULL};   /* counted from the last one */
  const expr_t *equal[IR_MAX_RANK] = {NULL}; /* what others turned out to be */
  bool mixed[IR_MAX_RANK] = {false};         /* some operand may have 1 there */
  bool unified = false;
  for (unsigned i = 0; i < n; i++) {
    if (x[i] == NULL || x[i]->type.kind != IR_TENSOR) continue;
    unsigned rank = x[i]->type.rank;
    for (unsigned j = 0; j < rank; j++) {
      const expr_t *mine = x[i]->type.dim[rank - 1 - j];
      if (dim[j] == NULL || expr_equals_const(dim[j], 1)) dim[j] = mine;
      if (dim[j] == mine || expr_equals_const(mine, 1)) continue;
      const expr_t *both = unify(ctx, dim[j], mine);
      if (both != NULL) {
        dim[j] = equal[j] = both;
        unified = true;
        continue;
      }
      mixed[j] = true;
      ctx_check_dims(ctx, dim[j], mine);
      dim[j] = expr_broadcast(ctx->exprs, dim[j], mine);
    }
  }
  if (!unified) return;
  for (unsigned j = 0; j < IR_MAX_RANK; j++)
    if (mixed[j]) equal[j] = NULL;
  for (unsigned i = 0; i < n; i++) x[i] = with_dims(ctx, x[i], equal);
}

ir_value_t *ctx_widen(convert_ctx_t *ctx, ir_value_t *x) {
  if (x == NULL) return NULL;
  bool narrow = dtype_is_float(x->type.dtype) && dtype_bits(x->type.dtype) < 32;
  return narrow ? ir_cast(ctx->b, x, DT_F32) : x;
}

ir_value_t *ctx_like(convert_ctx_t *ctx, ir_value_t *x,
                     const ir_value_t *like) {
  if (x == NULL || like == NULL) return NULL;
  return ir_cast(ctx->b, x, like->type.dtype);
}

ir_value_t *ctx_along(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                      unsigned rank) {
  if (x == NULL || !ctx_check_rank(ctx, x, 1, 1, "a vector")) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = 0; i < rank; i++)
    dim[i] = i == axis ? x->type.dim[0] : ctx_int(ctx, 1);
  return ir_reshape(ctx->b, x, rank, dim);
}

ir_value_t *ctx_binary(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  ir_value_t *in[] = {x, y};
  ctx_check_broadcast(ctx, 2, in);
  return ir_binary(ctx->b, code, in[0], in[1]);
}

ir_value_t *ctx_fold(convert_ctx_t *ctx, ir_opcode_t code, unsigned n,
                     ir_value_t *const *x) {
  ir_value_t *result = x[0];
  for (unsigned i = 1; i < n; i++) result = ctx_binary(ctx, code, result, x[i]);
  return result;
}

ir_value_t *ctx_part(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                     const expr_t *start, const expr_t *length) {
  if (x == NULL || start == NULL || length == NULL) return NULL;
  return ir_slice(ctx->b, x, axis, start, length, ctx_int(ctx, 1));
}

ir_value_t *ctx_count(convert_ctx_t *ctx, const ir_value_t *x, unsigned n_axes,
                      const int64_t *axes, dtype_t dtype) {
  if (x == NULL) return NULL;
  const expr_t *count = ctx_int(ctx, 1);
  for (unsigned i = 0; i < n_axes; i++)
    count = expr_mul(ctx->exprs, count, x->type.dim[axes[i]]);
  int64_t known;
  if (expr_is_const(count, &known))
    return dtype_is_integer(dtype) ? ir_scalar_int(ctx->b, dtype, known)
                                   : ir_scalar(ctx->b, dtype, (double)known);
  return ir_cast(ctx->b, ir_expr_scalar(ctx->b, count), dtype);
}

ir_value_t *ctx_mean(convert_ctx_t *ctx, ir_value_t *x, unsigned n_axes,
                     const int64_t *axes, bool keepdims) {
  if (x == NULL) return NULL;
  ir_value_t *count = ctx_count(ctx, x, n_axes, axes, x->type.dtype);
  ir_value_t *sum = ir_reduce(ctx->b, OP_REDUCE_SUM, x, n_axes, axes, keepdims);
  return ir_binary(ctx->b, OP_DIV, sum, count);
}

ir_value_t *ctx_move_first(convert_ctx_t *ctx, ir_value_t *x, unsigned axis) {
  int64_t perm[IR_MAX_RANK];
  if (x == NULL) return NULL;
  for (unsigned d = 0; d < x->type.rank; d++)
    perm[d] = d < axis ? d + 1 : d == axis ? 0 : d;
  return ir_transpose(ctx->b, x, perm);
}

ir_value_t *ctx_scalar_f64(convert_ctx_t *ctx, unsigned index) {
  ir_value_t *v = ctx_in(ctx, index);
  int64_t count;
  if (!ir_type_static_count(&v->type, &count) || count != 1) {
    ctx_invalid(ctx, "input %u is %s, expected a scalar", index,
                ctx_type_str(ctx, v));
    return NULL;
  }
  return ir_cast(ctx->b, ir_reshape(ctx->b, v, 0, NULL), DT_F64);
}

ir_value_t *ctx_flat(convert_ctx_t *ctx, ir_value_t *x) {
  if (x == NULL) return NULL;
  const expr_t *count = ir_type_count(ctx->exprs, &x->type);
  return ir_reshape(ctx->b, x, 1, &count);
}

ir_value_t *ctx_is_true(convert_ctx_t *ctx, ir_value_t *x) {
  if (x == NULL || x->type.dtype == DT_BOOL) return x;
  return ir_cast(ctx->b, x, DT_BOOL);
}
