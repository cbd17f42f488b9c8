/* Normalisations. The first stage is computed in the type that stash_type
 * names, or in f32 for f16 and bf16 where there is none. */
#include "frontend/convert.h"

static ir_value_t *binary(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static ir_value_t *square(convert_ctx_t *ctx, ir_value_t *x) {
  return binary(ctx, OP_MUL, x, x);
}

/* 1 / sqrt(variance + epsilon) */
static ir_value_t *inverse_deviation(convert_ctx_t *ctx, ir_value_t *variance,
                                     double epsilon) {
  ir_value_t *sum =
      binary(ctx, OP_ADD, variance, ctx_scalar(ctx, variance, epsilon));
  ir_value_t *one = ctx_scalar(ctx, variance, 1);
  return binary(ctx, OP_DIV, one, ir_unary(ctx->b, OP_SQRT, sum));
}

typedef struct standardized {
  ir_value_t *y, *mean, *inverse; /* y = (x - mean) * inverse */
} standardized_t;

static standardized_t standardize(convert_ctx_t *ctx, ir_value_t *x,
                                  unsigned n_axes, const int64_t *axes,
                                  double epsilon) {
  standardized_t s = {.mean = ctx_mean(ctx, x, n_axes, axes, true)};
  ir_value_t *centred = binary(ctx, OP_SUB, x, s.mean);
  ir_value_t *variance =
      ctx_mean(ctx, square(ctx, centred), n_axes, axes, true);
  s.inverse = inverse_deviation(ctx, variance, epsilon);
  s.y = binary(ctx, OP_MUL, centred, s.inverse);
  return s;
}

/* x in the type of the first stage. */
static ir_value_t *stashed(convert_ctx_t *ctx, ir_value_t *x) {
  dtype_t stash = attr_dtype(ctx, "stash_type", DT_F32);
  if (ctx->status != MOEC_OK) return NULL;
  if (!dtype_is_float(stash) || dtype_bits(stash) < 16) {
    ctx_invalid(ctx, "stash_type is %s, expected a float type",
                dtype_name(stash));
    return NULL;
  }
  /* Never less than the input has. */
  if (x->type.dtype == DT_F64) return x;
  return ir_cast(ctx->b, x, stash);
}

/* Axes from the attribute "axis" to the last one. */
static bool last_axes(convert_ctx_t *ctx, const ir_value_t *x, unsigned *out_n,
                      int64_t *axes) {
  unsigned first;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", -1), x->type.rank, &first))
    return false;
  *out_n = 0;
  for (unsigned i = first; i < x->type.rank; i++) axes[(*out_n)++] = i;
  return true;
}

moec_status_t convert_layer_normalization(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *bias = ctx_in(ctx, 2);
  double epsilon = attr_float(ctx, "epsilon", 1e-5f);
  int64_t axes[IR_MAX_RANK];
  unsigned n;
  if (!last_axes(ctx, x, &n, axes)) return ctx->status;
  ir_value_t *wide = stashed(ctx, x);
  standardized_t s = standardize(ctx, wide, n, axes, epsilon);
  ir_value_t *y =
      ctx_binary(ctx, OP_MUL, ctx_like(ctx, s.y, x), ctx_in(ctx, 1));
  if (bias != NULL) y = ctx_binary(ctx, OP_ADD, y, bias);
  ctx_set_output(ctx, 0, y);
  ctx_set_output(ctx, 1, s.mean);
  ctx_set_output(ctx, 2, s.inverse);
  return MOEC_OK;
}

/* x / sqrt(mean(x^2) + epsilon) * scale over the axes; the result has the type
 * of scale. *out_inverse is what x is multiplied by. */
static ir_value_t *scaled_by_rms(convert_ctx_t *ctx, ir_value_t *x,
                                 ir_value_t *scale, unsigned n_axes,
                                 const int64_t *axes,
                                 ir_value_t **out_inverse) {
  double epsilon = attr_float(ctx, "epsilon", 1e-5f);
  ir_value_t *wide = stashed(ctx, x);
  ir_value_t *mean = ctx_mean(ctx, square(ctx, wide), n_axes, axes, true);
  *out_inverse = inverse_deviation(ctx, mean, epsilon);
  ir_value_t *y = binary(ctx, OP_MUL, wide, *out_inverse);
  return ctx_binary(ctx, OP_MUL, ctx_like(ctx, y, scale), scale);
}

/* Also SimplifiedLayerNormalization, as onnxruntime's tools write it into the
 * default domain: there a second result is 1 / sqrt(..). */
moec_status_t convert_rms_normalization(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *inverse;
  int64_t axes[IR_MAX_RANK];
  unsigned n;
  if (!last_axes(ctx, x, &n, axes)) return ctx->status;
  ctx_set_output(ctx, 0,
                 scaled_by_rms(ctx, x, ctx_in(ctx, 1), n, axes, &inverse));
  ctx_set_output(ctx, 1, inverse);
  return MOEC_OK;
}

/* The same of input + skip (+ bias), which is result 3. */
moec_status_t convert_skip_rms_normalization(convert_ctx_t *ctx) {
  ir_value_t *bias = ctx_in(ctx, 3), *inverse;
  ir_value_t *sum = ctx_binary(ctx, OP_ADD, ctx_in(ctx, 0), ctx_in(ctx, 1));
  if (bias != NULL) sum = ctx_binary(ctx, OP_ADD, sum, bias);
  if (sum == NULL || !ctx_check_rank(ctx, sum, 1, IR_MAX_RANK, "the input"))
    return ctx_status(ctx);
  int64_t axis = sum->type.rank - 1;
  ctx_set_output(ctx, 0,
                 scaled_by_rms(ctx, sum, ctx_in(ctx, 2), 1, &axis, &inverse));
  ctx_set_output(ctx, 2, inverse);
  ctx_set_output(ctx, 3, sum);
  return MOEC_OK;
}

/* A vector over channels for a tensor like x. */
static ir_value_t *channels(convert_ctx_t *ctx, ir_value_t *v,
                            const ir_value_t *x, const char *what) {
  if (v == NULL || !ctx_check_rank(ctx, v, 1, 1, what)) return NULL;
  unsigned rank = x->type.rank, axis = rank > 1 ? 1 : 0;
  if (rank > 1)
    ir_check_equal(ctx->b, ctx_dim(v, 0), ctx_dim(x, 1), what);
  else /* a single channel */
    ir_check_equal(ctx->b, ctx_dim(v, 0), ctx_int(ctx, 1), what);
  return ctx_along(ctx, v, axis, rank);
}

moec_status_t convert_instance_normalization(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  double epsilon = attr_float(ctx, "epsilon", 1e-5f);
  int64_t axes[IR_MAX_RANK];
  unsigned n = 0;
  if (!ctx_check_rank(ctx, x, 3, IR_MAX_RANK, "the input")) return ctx->status;
  for (unsigned i = 2; i < x->type.rank; i++) axes[n++] = i;
  ir_value_t *scale = ctx_widen(ctx, channels(ctx, ctx_in(ctx, 1), x, "scale"));
  ir_value_t *bias = ctx_widen(ctx, channels(ctx, ctx_in(ctx, 2), x, "bias"));
  standardized_t s = standardize(ctx, ctx_widen(ctx, x), n, axes, epsilon);
  ir_value_t *y = binary(ctx, OP_ADD, binary(ctx, OP_MUL, s.y, scale), bias);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  return MOEC_OK;
}

/* Statistics over [C / G, rest] of x as [N, G, C / G, rest]. Before opset 21
 * scale and bias are given for each group, then for each channel. */
moec_status_t convert_group_normalization(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  double epsilon = attr_float(ctx, "epsilon", 1e-5f);
  int64_t groups = attr_int_required(ctx, "num_groups");
  bool by_group = ctx->opset < 21;
  unsigned rank = x->type.rank;
  MOEC_TRY(ctx->status);
  if (groups < 1 || groups > INT32_MAX)
    return ctx_invalid(ctx, "num_groups is %lld", (long long)groups);
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK - 1, "the input"))
    return ctx->status;
  ir_value_t *wide = by_group ? ctx_widen(ctx, x) : stashed(ctx, x);
  const expr_t *g = ctx_int(ctx, groups), *c = ctx_dim(x, 1);
  const expr_t *each = expr_divide_exactly(ctx->exprs, c, g);
  if (each == NULL) {
    each = expr_floordiv(ctx->exprs, c, g);
    ir_check_equal(ctx->b, expr_mul(ctx->exprs, each, g), c,
                   "channels in groups");
  }
  const expr_t *split[IR_MAX_RANK] = {ctx_dim(x, 0), g, each};
  int64_t axes[IR_MAX_RANK] = {2};
  for (unsigned i = 2; i < rank; i++) {
    split[i + 1] = ctx_dim(x, i);
    axes[i - 1] = i + 1;
  }
  standardized_t s = standardize(ctx, ir_reshape(ctx->b, wide, rank + 1, split),
                                 rank - 1, axes, epsilon);
  ir_value_t *y = s.y, *scale = ctx_in(ctx, 1), *bias = ctx_in(ctx, 2);
  if (by_group) {
    scale = ctx_widen(ctx, channels(ctx, scale, y != NULL ? y : x, "scale"));
    bias = ctx_widen(ctx, channels(ctx, bias, y != NULL ? y : x, "bias"));
  } else {
    y = ctx_like(ctx, ir_reshape(ctx->b, y, rank, x->type.dim), x);
    scale = channels(ctx, scale, x, "scale");
    bias = channels(ctx, bias, x, "bias");
  }
  y = binary(ctx, OP_ADD, binary(ctx, OP_MUL, y, scale), bias);
  if (by_group) y = ir_reshape(ctx->b, ctx_like(ctx, y, x), rank, x->type.dim);
  ctx_set_output(ctx, 0, y);
  return MOEC_OK;
}

/* x / norm(x), 0 where the norm is 0 */
moec_status_t convert_lp_normalization(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *wide = ctx_widen(ctx, x);
  int64_t p = attr_int(ctx, "p", 2);
  unsigned at;
  if (p != 1 && p != 2)
    return ctx_invalid(ctx, "p is %lld, expected 1 or 2", (long long)p);
  if (!ctx_axis(ctx, attr_int(ctx, "axis", -1), x->type.rank, &at))
    return ctx->status;
  int64_t axis = at;
  ir_value_t *parts =
      p == 1 ? ir_unary(ctx->b, OP_ABS, wide) : square(ctx, wide);
  ir_value_t *norm = ir_reduce(ctx->b, OP_REDUCE_SUM, parts, 1, &axis, true);
  if (p == 2) norm = ir_unary(ctx->b, OP_SQRT, norm);
  ir_value_t *zero = ctx_scalar(ctx, wide, 0);
  ir_value_t *none = binary(ctx, OP_EQ, norm, zero);
  ir_value_t *y =
      ir_select(ctx->b, none, zero, binary(ctx, OP_DIV, wide, norm));
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  return MOEC_OK;
}

/* (x - mean) / (deviation + 1e-9). ONNX's function body takes the variance as
 * mean(x^2) - mean^2, the same number with less of it cancelled out here. */
moec_status_t convert_mean_variance_normalization(convert_ctx_t *ctx) {
  static const int64_t usual[] = {0, 2, 3};
  ir_value_t *x = ctx_in(ctx, 0), *wide = ctx_widen(ctx, x);
  unsigned n;
  int64_t *axes;
  const int64_t *given = attr_ints(ctx, "axes", &n);
  MOEC_TRY(ctx->status);
  if (given == NULL) {
    given = usual;
    n = 3;
  }
  if (!ctx_axes(ctx, n, given, x->type.rank, &axes)) return ctx->status;
  ir_value_t *mean = ctx_mean(ctx, wide, n, axes, true);
  ir_value_t *centred = binary(ctx, OP_SUB, wide, mean);
  ir_value_t *variance = ctx_mean(ctx, square(ctx, centred), n, axes, true);
  ir_value_t *deviation = ir_unary(ctx->b, OP_SQRT, variance);
  ir_value_t *below =
      binary(ctx, OP_ADD, deviation, ctx_scalar(ctx, wide, 1e-9));
  ctx_set_output(ctx, 0, ctx_like(ctx, binary(ctx, OP_DIV, centred, below), x));
  return MOEC_OK;
}

/* x / (bias + alpha / size * (sum of squares of `size` channels around))^beta
 */
moec_status_t convert_lrn(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *wide = ctx_widen(ctx, x);
  double alpha = attr_float(ctx, "alpha", 0.0001f);
  double beta = attr_float(ctx, "beta", 0.75);
  double bias = attr_float(ctx, "bias", 1.0);
  int64_t size = attr_int_required(ctx, "size");
  MOEC_TRY(ctx->status);
  if (size < 1 || size > 1024)
    return ctx_invalid(ctx, "size is %lld", (long long)size);
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK, "the input")) return ctx->status;
  ir_builder_t *b = ctx->b;
  unsigned rank = x->type.rank;
  ir_value_t *in[] = {square(ctx, wide), ctx_scalar(ctx, wide, 0)};
  ir_op_t *op = ir_begin(b, OP_PAD, 2, in, 1);
  if (op == NULL) return ctx_status(ctx);
  const expr_t *before[IR_MAX_RANK], *after[IR_MAX_RANK];
  for (unsigned i = 0; i < rank; i++) before[i] = after[i] = ctx_int(ctx, 0);
  before[1] = ctx_int(ctx, (size - 1) / 2);
  after[1] = ctx_int(ctx, size / 2);
  ir_set_exprs(op, ATTR_PAD_before, rank, before);
  ir_set_exprs(op, ATTR_PAD_after, rank, after);
  ir_set_str(op, ATTR_PAD_mode, "constant");
  ir_value_t *padded = ir_place(b, op), *sum = NULL;
  for (int64_t i = 0; i < size; i++) {
    ir_value_t *part = ctx_part(ctx, padded, 1, ctx_int(ctx, i), ctx_dim(x, 1));
    sum = sum == NULL ? part : binary(ctx, OP_ADD, sum, part);
  }
  sum = binary(ctx, OP_MUL, sum, ctx_scalar(ctx, wide, alpha / (double)size));
  sum = binary(ctx, OP_ADD, sum, ctx_scalar(ctx, wide, bias));
  ir_value_t *below = binary(ctx, OP_POW, sum, ctx_scalar(ctx, wide, beta));
  ctx_set_output(ctx, 0, ctx_like(ctx, binary(ctx, OP_DIV, wide, below), x));
  return MOEC_OK;
}
