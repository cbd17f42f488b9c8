/* Operators that make tensors out of nothing but numbers and sizes. */
#include <math.h>
#include <string.h>

#include "frontend/convert.h"
#include "frontend/import_state.h"
#include "ir/element.h"

static ir_value_t *floats_constant(convert_ctx_t *ctx, unsigned rank,
                                   unsigned n, const double *values) {
  int64_t dim = n;
  float *data = ARENA_ARRAY(ctx->arena, float, n + 1);
  for (unsigned i = 0; i < n; i++) data[i] = (float)values[i];
  return ctx_tensor(ctx, DT_F32, rank, &dim, data, n * sizeof *data);
}

static ir_value_t *strings_constant(convert_ctx_t *ctx, unsigned rank,
                                    unsigned n, const char *const *values) {
  int64_t dim = n;
  ir_data_t *data = ARENA_NEW(ctx->arena, ir_data_t);
  data->strings = values;
  data->size = dtype_bytes(DT_STR, n);
  return import_bytes(ctx->importer, DT_STR, rank, &dim, data, ctx->loc);
}

static ir_value_t *constant_of_attribute(convert_ctx_t *ctx, const char *name) {
  unsigned n;
  if (strcmp(name, "value") == 0) {
    const Onnx__TensorProto *tensor = attr_tensor(ctx, name);
    return tensor != NULL ? ctx_constant(ctx, tensor) : NULL;
  }
  if (strcmp(name, "sparse_value") == 0) {
    const Onnx__SparseTensorProto *sparse = attr_sparse(ctx, name);
    if (sparse == NULL) return NULL;
    return import_sparse(ctx->importer, sparse, ctx->loc);
  }
  if (strcmp(name, "value_int") == 0) {
    int64_t *value = ARENA_NEW(ctx->arena, int64_t);
    *value = attr_int(ctx, name, 0);
    return ctx_tensor(ctx, DT_I64, 0, NULL, value, sizeof *value);
  }
  if (strcmp(name, "value_ints") == 0) {
    const int64_t *values = attr_ints(ctx, name, &n);
    int64_t dim = n;
    return ctx_tensor(ctx, DT_I64, 1, &dim, values, n * sizeof *values);
  }
  if (strcmp(name, "value_float") == 0) {
    double value = attr_float_any(ctx, name, 0);
    return floats_constant(ctx, 0, 1, &value);
  }
  if (strcmp(name, "value_floats") == 0) {
    const double *values = attr_floats(ctx, name, &n);
    return floats_constant(ctx, 1, n, values);
  }
  if (strcmp(name, "value_string") == 0) {
    const char **value = ARENA_NEW(ctx->arena, const char *);
    *value = attr_str(ctx, name, "");
    return strings_constant(ctx, 0, 1, value);
  }
  const char *const *values = attr_strs(ctx, name, &n);
  return strings_constant(ctx, 1, n, values);
}

moec_status_t convert_constant(convert_ctx_t *ctx) {
  static const char *const names[] = {
      "value",       "sparse_value", "value_int",    "value_ints",
      "value_float", "value_floats", "value_string", "value_strings",
  };
  const char *given = NULL;
  for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (!attr_has(ctx, names[i])) continue;
    if (given != NULL)
      return ctx_invalid(ctx, "both \"%s\" and \"%s\" are given", given,
                         names[i]);
    given = names[i];
  }
  if (given == NULL) return ctx_invalid(ctx, "the constant has no value");
  ir_value_t *value = constant_of_attribute(ctx, given);
  if (value == NULL && ctx->status == MOEC_OK)
    ctx->status = ctx->importer->status;
  ctx_set_output(ctx, 0, value);
  return ctx->status;
}

/* The one element of an attribute's tensor as a scalar. */
static ir_value_t *scalar_of_attribute(convert_ctx_t *ctx, const char *name) {
  const Onnx__TensorProto *tensor = attr_tensor(ctx, name);
  if (ctx->status != MOEC_OK) return NULL;
  if (tensor == NULL) return ir_scalar(ctx->b, DT_F32, 0);
  ir_value_t *value = ctx_constant(ctx, tensor);
  int64_t count;
  if (value == NULL) return NULL;
  if (!ir_type_static_count(&value->type, &count) || count != 1) {
    ctx_invalid(ctx, "attribute \"%s\" has the shape %s, expected one element",
                name, ctx_type_str(ctx, value));
    return NULL;
  }
  if (value->type.rank == 0 || value->type.dtype == DT_STR)
    return ir_reshape(ctx->b, value, 0, NULL);
  const ir_data_t *data = ir_get_data(value->def, ATTR_CONSTANT_data);
  return ctx_tensor(ctx, value->type.dtype, 0, NULL, data->bytes, data->size);
}

moec_status_t convert_constant_of_shape(convert_ctx_t *ctx) {
  ir_value_t *shape = ctx_in(ctx, 0);
  unsigned n;
  if (!ctx_check_rank(ctx, shape, 1, 1, "the shape")) return ctx->status;
  const expr_t **dim = ctx_sizes(ctx, shape, "shape", 0, &n);
  ir_value_t *value = scalar_of_attribute(ctx, "value");
  if (dim == NULL || value == NULL) return ctx_status(ctx);
  if (n > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d", n,
                     IR_MAX_RANK);
  ctx_set_output(ctx, 0, ir_fill(ctx->b, value, n, dim));
  return MOEC_OK;
}

/* 1 where column == row + k */
moec_status_t convert_eye_like(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t k = attr_int(ctx, "k", 0);
  dtype_t dtype = attr_dtype(ctx, "dtype", x->type.dtype);
  if (!ctx_check_rank(ctx, x, 2, 2, "the input")) return ctx->status;
  ir_value_t *row =
      ir_unsqueeze(ctx->b, ir_iota(ctx->b, DT_I64, ctx_dim(x, 0)), 1);
  ir_value_t *column = ir_iota(ctx->b, DT_I64, ctx_dim(x, 1));
  row = ir_binary(ctx->b, OP_ADD, row, ir_scalar_int(ctx->b, DT_I64, k));
  ir_value_t *hit = ir_binary(ctx->b, OP_EQ, row, column);
  ctx_set_output(ctx, 0, ir_cast(ctx->b, hit, dtype));
  return MOEC_OK;
}

/* ---- Range --------------------------------------------------------------- */

#define MOST_ELEMENTS 9e15 /* doubles count no further by ones */

/* max(0, ceil((limit - start) / delta)) where all three are known; NULL when
 * they are not. */
static const expr_t *known_count(convert_ctx_t *ctx, ir_value_t *const *in) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *start = ir_known(in[0], 0), *limit = ir_known(in[1], 0);
  const expr_t *delta = ir_known(in[2], 0);
  int64_t step;
  if (start == NULL || limit == NULL || delta == NULL) return NULL;
  if (!expr_is_const(delta, &step) || step == 0 || step == INT64_MIN)
    return NULL;
  const expr_t *span =
      step > 0 ? expr_sub(pool, limit, start) : expr_sub(pool, start, limit);
  const expr_t *count =
      expr_ceildiv(pool, span, ctx_int(ctx, step > 0 ? step : -step));
  return expr_max(pool, ctx_int(ctx, 0), count);
}

/* The same for float constants, in the precision of ONNX's definition: the
 * difference in the operands' type, the quotient in double. */
static const expr_t *constant_count(convert_ctx_t *ctx, ir_value_t *const *in) {
  unsigned n;
  const double *start, *limit, *delta;
  if (!ctx_const_floats(ctx, in[0], &n, &start) ||
      !ctx_const_floats(ctx, in[1], &n, &limit) ||
      !ctx_const_floats(ctx, in[2], &n, &delta))
    return NULL;
  double span = in[0]->type.dtype == DT_F64
                    ? limit[0] - start[0]
                    : (double)((float)limit[0] - (float)start[0]);
  double count = ceil(span / delta[0]);
  if (!(count < MOST_ELEMENTS)) {
    ctx_invalid(ctx, "the range from %g to %g by %g has no end", start[0],
                limit[0], delta[0]);
    return NULL;
  }
  return ctx_int(ctx, count > 0 ? (int64_t)count : 0);
}

/* ceil(span / delta) of floats as an i64; *out_wrong where that is no number
 * of elements: neither NaN nor infinity is below anything. */
static ir_value_t *float_count(ir_builder_t *b, ir_value_t *const *in,
                               ir_value_t **out_wrong) {
  ir_value_t *span = ir_binary(b, OP_SUB, in[1], in[0]);
  ir_value_t *delta = ir_cast(b, in[2], DT_F64);
  ir_value_t *count = ir_cast(b, span, DT_F64);
  count = ir_unary(b, OP_CEIL, ir_binary(b, OP_DIV, count, delta));
  ir_value_t *most = ir_scalar(b, DT_F64, MOST_ELEMENTS);
  *out_wrong = ir_unary(b, OP_NOT, ir_binary(b, OP_LT, count, most));
  return ir_cast(b, count, DT_I64);
}

/* The same of integers. */
static ir_value_t *int_count(ir_builder_t *b, ir_value_t *const *in,
                             ir_value_t **out_wrong) {
  ir_value_t *zero = ir_scalar_int(b, DT_I64, 0), *of[3];
  for (unsigned i = 0; i < 3; i++) of[i] = ir_cast(b, in[i], DT_I64);
  ir_value_t *span = ir_binary(b, OP_SUB, of[1], of[0]);
  /* It wraps where the operands' signs differ and it has not limit's. */
  ir_value_t *apart = ir_binary(b, OP_BIT_XOR, of[1], of[0]);
  ir_value_t *turned = ir_binary(b, OP_BIT_XOR, of[1], span);
  ir_value_t *wraps = ir_binary(b, OP_BIT_AND, apart, turned);
  wraps = ir_binary(b, OP_LT, wraps, zero);
  ir_value_t *still = ir_binary(b, OP_EQ, of[2], zero);
  *out_wrong = ir_binary(b, OP_OR, wraps, still);
  /* ceil(a / b) = trunc(a / b) + (remainder and b have the same sign) */
  ir_value_t *quotient = ir_binary(b, OP_DIV, span, of[2]);
  ir_value_t *same = ir_unary(b, OP_SIGN, ir_binary(b, OP_FMOD, span, of[2]));
  same = ir_binary(b, OP_MUL, same, ir_unary(b, OP_SIGN, of[2]));
  same = ir_binary(b, OP_LT, zero, same);
  return ir_binary(b, OP_ADD, quotient, ir_cast(b, same, DT_I64));
}

/* Whether numbers are 0, 1, .., as is known here. */
static bool counts_up(ir_value_t *const *in) {
  const expr_t *start = ir_known(in[0], 0), *delta = ir_known(in[2], 0);
  return start != NULL && expr_equals_const(start, 0) && delta != NULL &&
         expr_equals_const(delta, 1) && in[1]->type.dtype != DT_U64;
}

/* Counts at run time; where there is no count the run ends with a status. */
static const expr_t *bound_count(convert_ctx_t *ctx, ir_value_t *const *in) {
  ir_builder_t *b = ctx->b;
  if (counts_up(in)) {
    ir_value_t *limit = ir_cast(b, in[1], DT_I64);
    limit = ir_binary(b, OP_MAX, limit, ir_scalar_int(b, DT_I64, 0));
    return ir_bind(b, limit, 0, "range", 0, NULL);
  }
  ir_value_t *wrong;
  ir_value_t *count = dtype_is_float(in[0]->type.dtype)
                          ? float_count(b, in, &wrong)
                          : int_count(b, in, &wrong);
  count = ir_binary(b, OP_MAX, count, ir_scalar_int(b, DT_I64, 0));
  ir_value_t *none = ir_scalar_int(b, DT_I64, -1);
  count = ir_select(b, wrong, none, count);
  return ir_bind(b, count, 0, "range", 0, NULL);
}

moec_status_t convert_range(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *in[3];
  if (ctx->opset >= 27) attr_ignore(ctx, "stash_type");
  for (unsigned i = 0; i < 3; i++) {
    in[i] = ctx_in(ctx, i);
    int64_t count;
    if (!ir_type_static_count(&in[i]->type, &count) || count != 1)
      return ctx_invalid(ctx, "input %u is %s, expected a scalar", i,
                         ctx_type_str(ctx, in[i]));
    in[i] = ctx_widen(ctx, ir_reshape(b, in[i], 0, NULL));
    if (in[i] == NULL) return ctx_status(ctx);
  }
  const expr_t *delta = ir_known(in[2], 0), *start = ir_known(in[0], 0);
  if (delta != NULL && expr_equals_const(delta, 0))
    return ctx_invalid(ctx, "delta is 0");
  const expr_t *n = known_count(ctx, in);
  if (n == NULL) n = constant_count(ctx, in);
  MOEC_TRY(ctx->status);
  if (n == NULL) n = bound_count(ctx, in);
  if (n == NULL) return ctx_status(ctx);
  ir_value_t *y = ir_iota(b, in[0]->type.dtype, n);
  if (delta == NULL || !expr_equals_const(delta, 1))
    y = ir_binary(b, OP_MUL, y, in[2]);
  if (start == NULL || !expr_equals_const(start, 0))
    y = ir_binary(b, OP_ADD, y, in[0]);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, ctx_in(ctx, 0)));
  return MOEC_OK;
}
