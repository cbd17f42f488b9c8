/* Elementwise operators: the ones that are an operation of the IR, and simple
 * combinations. Activations are in convert_activation.c. */
#include <float.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "frontend/convert.h"

/* Operands as they are, no attributes. */
moec_status_t convert_direct(convert_ctx_t *ctx) {
  ir_value_t *in[4] = {NULL};
  MOEC_ASSERT(ctx->n_in <= 4);
  for (unsigned i = 0; i < ctx->n_in; i++) in[i] = ctx_in(ctx, i);
  ctx_check_broadcast(ctx, ctx->n_in, in);
  ir_op_t *op = ir_begin(ctx->b, ctx->code, ctx->n_in, in, 1);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

moec_status_t convert_greater(convert_ctx_t *ctx) {
  ctx_set_output(ctx, 0,
                 ctx_binary(ctx, OP_LT, ctx_in(ctx, 1), ctx_in(ctx, 0)));
  return MOEC_OK;
}

moec_status_t convert_greater_or_equal(convert_ctx_t *ctx) {
  ctx_set_output(ctx, 0,
                 ctx_binary(ctx, OP_LE, ctx_in(ctx, 1), ctx_in(ctx, 0)));
  return MOEC_OK;
}

moec_status_t convert_is_inf(convert_ctx_t *ctx) {
  bool negative = attr_bool(ctx, "detect_negative", true);
  bool positive = attr_bool(ctx, "detect_positive", true);
  ir_value_t *x = ctx_in(ctx, 0);
  ir_op_t *op = ir_begin(ctx->b, OP_IS_INF, 1, &x, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_IS_INF_detect_negative, negative);
  ir_set_int(op, ATTR_IS_INF_detect_positive, positive);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

static moec_status_t cast_to(convert_ctx_t *ctx, dtype_t to) {
  static const char *const modes[] = {"up", "down", "nearest", NULL};
  bool saturate = attr_bool(ctx, "saturate", true);
  unsigned mode = attr_choice(ctx, "round_mode", modes);
  MOEC_TRY(ctx->status);
  ir_value_t *x = ctx_in(ctx, 0);
  if (x->type.dtype == to) {
    ctx_set_output(ctx, 0, x);
    return MOEC_OK;
  }
  if (x->type.dtype == DT_STR || to == DT_STR)
    return ctx_unsupported(ctx, "conversion from %s to %s is not supported",
                           dtype_name(x->type.dtype), dtype_name(to));
  ir_op_t *op = ir_begin(ctx->b, OP_CAST, 1, &x, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_dtype(op, ATTR_CAST_to, to);
  if (!saturate) ir_set_int(op, ATTR_CAST_saturate, 0);
  if (to == DT_F8E8M0) ir_set_str(op, ATTR_CAST_round_mode, modes[mode]);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

/* Before opset 6 types are named as TensorProto.DataType names them. */
static dtype_t named_dtype(convert_ctx_t *ctx) {
  static const struct {
    const char *name;
    dtype_t dtype;
  } names[] = {
      {"FLOAT", DT_F32},   {"UINT8", DT_U8},   {"INT8", DT_I8},
      {"UINT16", DT_U16},  {"INT16", DT_I16},  {"INT32", DT_I32},
      {"INT64", DT_I64},   {"STRING", DT_STR}, {"BOOL", DT_BOOL},
      {"FLOAT16", DT_F16}, {"DOUBLE", DT_F64}, {"UINT32", DT_U32},
      {"UINT64", DT_U64},
  };
  const char *name = attr_str(ctx, "to", "");
  for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcasecmp(name, names[i].name) == 0) return names[i].dtype;
  ctx_unsupported(ctx, "the type \"%s\" is not known", name);
  return DT_NONE;
}

moec_status_t convert_cast(convert_ctx_t *ctx) {
  if (!attr_has(ctx, "to"))
    return ctx_invalid(ctx, "required attribute \"to\" is missing");
  if (ctx->opset < 6) {
    dtype_t named = named_dtype(ctx);
    MOEC_TRY(ctx->status);
    return cast_to(ctx, named);
  }
  dtype_t to = attr_dtype(ctx, "to", DT_NONE);
  MOEC_TRY(ctx->status);
  if (to == DT_NONE) return ctx_invalid(ctx, "attribute \"to\" is UNDEFINED");
  return cast_to(ctx, to);
}

moec_status_t convert_cast_like(convert_ctx_t *ctx) {
  return cast_to(ctx, ctx_in(ctx, 1)->type.dtype);
}

moec_status_t convert_bitcast(convert_ctx_t *ctx) {
  dtype_t to = attr_dtype(ctx, "to", DT_NONE);
  MOEC_TRY(ctx->status);
  if (to == DT_NONE) return ctx_invalid(ctx, "attribute \"to\" is missing");
  ir_value_t *x = ctx_in(ctx, 0);
  if (dtype_bits(x->type.dtype) != dtype_bits(to))
    return ctx_invalid(ctx, "elements of %s and %s differ in size",
                       dtype_name(x->type.dtype), dtype_name(to));
  ir_op_t *op = ir_begin(ctx->b, OP_BITCAST, 1, &x, 1);
  if (op != NULL) ir_set_dtype(op, ATTR_BITCAST_to, to);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

static moec_status_t fold_operands(convert_ctx_t *ctx, ir_opcode_t code,
                                   bool widen, bool mean) {
  ir_value_t **x = ARENA_ARRAY(ctx->arena, ir_value_t *, ctx->n_in);
  dtype_t dtype = ctx_in(ctx, 0)->type.dtype;
  for (unsigned i = 0; i < ctx->n_in; i++) {
    x[i] = ctx_in(ctx, i);
    if (x[i]->type.dtype != dtype)
      return ctx_invalid(ctx, "input %u is %s, input 0 has elements of %s", i,
                         ctx_type_str(ctx, x[i]), dtype_name(dtype));
    if (widen && ctx->n_in > 1) x[i] = ctx_widen(ctx, x[i]);
  }
  ir_value_t *y = ctx_fold(ctx, code, ctx->n_in, x);
  if (mean && ctx->n_in > 1)
    y = ir_binary(ctx->b, OP_DIV, y, ctx_scalar(ctx, y, ctx->n_in));
  ctx_set_output(ctx, 0, ctx_like(ctx, y, ctx_in(ctx, 0)));
  return MOEC_OK;
}

moec_status_t convert_max(convert_ctx_t *ctx) {
  return fold_operands(ctx, OP_MAX, false, false);
}

moec_status_t convert_min(convert_ctx_t *ctx) {
  return fold_operands(ctx, OP_MIN, false, false);
}

moec_status_t convert_sum(convert_ctx_t *ctx) {
  return fold_operands(ctx, OP_ADD, true, false);
}

moec_status_t convert_mean(convert_ctx_t *ctx) {
  return fold_operands(ctx, OP_ADD, true, true);
}

/* Floats: a - floor(a / b) * b. With r = fmod(a, b), exact, that is r where r
 * has the sign of b, r + b where not, and a zero with the sign of b for 0. */
static ir_value_t *floor_mod(convert_ctx_t *ctx, ir_value_t *a, ir_value_t *b) {
  ir_builder_t *build = ctx->b;
  ir_value_t *r = ctx_binary(ctx, OP_FMOD, a, b);
  ir_value_t *zero = ctx_scalar(ctx, a, 0.0);
  ir_value_t *minus_zero = ctx_scalar(ctx, a, -0.0);
  ir_value_t *b_below = ir_binary(build, OP_LT, b, zero);
  ir_value_t *r_below = ir_binary(build, OP_LT, r, zero);
  ir_value_t *differ = ir_binary(build, OP_XOR, b_below, r_below);
  ir_value_t *shifted =
      ir_select(build, differ, ir_binary(build, OP_ADD, r, b), r);
  ir_value_t *signed_zero = ir_select(build, b_below, minus_zero, zero);
  return ir_select(build, ir_binary(build, OP_EQ, r, zero), signed_zero,
                   shifted);
}

moec_status_t convert_mod(convert_ctx_t *ctx) {
  bool truncate = attr_bool(ctx, "fmod", false);
  ir_value_t *a = ctx_in(ctx, 0), *b = ctx_in(ctx, 1);
  bool floats = dtype_is_float(a->type.dtype);
  if (floats && !truncate && ctx->opset < 28)
    return ctx_invalid(ctx, "attribute \"fmod\" must be 1 for elements of %s",
                       dtype_name(a->type.dtype));
  if (truncate || !floats) {
    ctx_set_output(ctx, 0, ctx_binary(ctx, truncate ? OP_FMOD : OP_MOD, a, b));
    return MOEC_OK;
  }
  ir_value_t *y = ctx_widen(ctx, a);
  y = floor_mod(ctx, y, ctx_widen(ctx, b));
  ctx_set_output(ctx, 0, ctx_like(ctx, y, a));
  return MOEC_OK;
}

moec_status_t convert_bit_shift(convert_ctx_t *ctx) {
  static const char *const directions[] = {"LEFT", "RIGHT", NULL};
  if (!attr_has(ctx, "direction"))
    return ctx_invalid(ctx, "required attribute \"direction\" is missing");
  unsigned direction = attr_choice(ctx, "direction", directions);
  ir_value_t *x = ctx_in(ctx, 0), *by = ctx_in(ctx, 1);
  /* Negative numbers keep their sign however far they are shifted. */
  if (direction == 1 && dtype_class(x->type.dtype) == DT_CLASS_SIGNED)
    by = ir_binary(ctx->b, OP_MIN, by,
                   ctx_scalar(ctx, by, dtype_bits(x->type.dtype) - 1));
  ctx_set_output(ctx, 0,
                 ctx_binary(ctx, direction == 0 ? OP_SHL : OP_SHR, x, by));
  return MOEC_OK;
}

moec_status_t convert_reciprocal(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  ctx_set_output(ctx, 0, ir_binary(ctx->b, OP_DIV, ctx_scalar(ctx, x, 1.0), x));
  return MOEC_OK;
}

/* A limit of Clip as a scalar of x's type: an input, or an attribute in old
 * opsets; NULL when there is none. */
static ir_value_t *clip_limit(convert_ctx_t *ctx, ir_value_t *x,
                              const char *name, unsigned input) {
  if (ctx->opset < 11) {
    if (ctx->opset < 6 && !attr_has(ctx, name)) return NULL;
    double otherwise = input == 1 ? -FLT_MAX : FLT_MAX;
    return ctx_scalar(ctx, x, attr_float_any(ctx, name, otherwise));
  }
  ir_value_t *limit = ctx_in(ctx, input);
  if (limit == NULL) return NULL;
  int64_t count;
  if (ir_type_static_count(&limit->type, &count) && count != 1) {
    ctx_invalid(ctx, "%s is %s, expected a scalar", name,
                ctx_type_str(ctx, limit));
    return NULL;
  }
  return limit->type.rank > 0 ? ir_reshape(ctx->b, limit, 0, NULL) : limit;
}

moec_status_t convert_clip(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *y = x;
  ir_value_t *min = clip_limit(ctx, x, "min", 1);
  ir_value_t *max = clip_limit(ctx, x, "max", 2);
  MOEC_TRY(ctx->status);
  if (min != NULL) y = ir_binary(ctx->b, OP_MAX, y, min);
  if (max != NULL) y = ir_binary(ctx->b, OP_MIN, y, max);
  ctx_set_output(ctx, 0, y);
  return MOEC_OK;
}
