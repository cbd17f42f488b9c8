/* BatchNormalization of all opsets: by given statistics, or by those of the
 * batch, which then update the running ones. */
#include "frontend/convert.h"

typedef struct batch_norm {
  double epsilon, momentum;
  bool training;
  bool by_channel; /* else each place of an image has statistics of its own */
  unsigned rank;   /* of x */
  ir_value_t *x, *scale, *bias, *mean, *variance; /* over x's dimensions */
} batch_norm_t;

static ir_value_t *binary(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* Before opset 7 is_test tells, then further outputs do, from opset 14 on
 * training_mode. */
static bool trains(convert_ctx_t *ctx) {
  if (ctx->opset < 7) return attr_int(ctx, "is_test", 0) == 0;
  if (ctx->opset >= 14) return attr_bool(ctx, "training_mode", false);
  for (unsigned i = 1; i < ctx->n_out; i++)
    if (ctx_wants(ctx, i)) return true;
  return false;
}

/* A statistic or parameter as it is broadcast to x. */
static ir_value_t *parameter(convert_ctx_t *ctx, const batch_norm_t *n,
                             unsigned index, const char *what) {
  ir_value_t *v = ctx_in(ctx, index);
  const ir_value_t *x = ctx_in(ctx, 0);
  unsigned rank = n->rank;
  if (v == NULL) return NULL;
  const expr_t *one = ctx_int(ctx, 1);
  if (n->by_channel) {
    if (!ctx_check_rank(ctx, v, 1, 1, what)) return NULL;
    ir_check_equal(ctx->b, ctx_dim(v, 0), rank > 1 ? ctx_dim(x, 1) : one, what);
    return ctx_along(ctx, v, rank > 1 ? 1 : 0, rank);
  }
  if (!ctx_check_rank(ctx, v, rank - 1, rank - 1, what)) return NULL;
  for (unsigned i = 1; i < rank; i++)
    ir_check_equal(ctx->b, ctx_dim(v, i - 1), ctx_dim(x, i), what);
  return ir_unsqueeze(ctx->b, v, 0);
}

static bool read(convert_ctx_t *ctx, batch_norm_t *n) {
  ir_value_t *x = ctx_in(ctx, 0);
  *n = (batch_norm_t){.rank = x->type.rank};
  n->epsilon = attr_float(ctx, "epsilon", 1e-5f);
  n->momentum = attr_float(ctx, "momentum", 0.9f);
  n->by_channel = ctx->opset >= 9 || attr_int(ctx, "spatial", 1) != 0;
  n->training = trains(ctx);
  if (!ctx_check_rank(ctx, x, n->by_channel ? 1 : 2, IR_MAX_RANK, "the input"))
    return false;
  ir_value_t *scale = parameter(ctx, n, 1, "scale");
  ir_value_t *bias = parameter(ctx, n, 2, "bias");
  ir_value_t *mean = parameter(ctx, n, 3, "mean");
  ir_value_t *variance = parameter(ctx, n, 4, "variance");
  /* The statistics may be of a wider type than x. */
  n->variance = ctx_widen(ctx, variance);
  n->x = ctx_like(ctx, ctx_widen(ctx, x), n->variance);
  n->scale = ctx_like(ctx, scale, n->variance);
  n->bias = ctx_like(ctx, bias, n->variance);
  n->mean = ctx_like(ctx, mean, n->variance);
  return ctx_status(ctx) == MOEC_OK;
}

/* Mean and variance of the batch, of as many elements as there are; dimensions
 * are kept. */
static void of_batch(convert_ctx_t *ctx, const batch_norm_t *n,
                     ir_value_t **out_mean, ir_value_t **out_variance) {
  int64_t axes[IR_MAX_RANK] = {0};
  unsigned n_axes = 1;
  if (n->by_channel && n->rank > 1)
    for (unsigned i = 2; i < n->rank; i++) axes[n_axes++] = i;
  *out_mean = ctx_mean(ctx, n->x, n_axes, axes, true);
  ir_value_t *centred = binary(ctx, OP_SUB, n->x, *out_mean);
  *out_variance =
      ctx_mean(ctx, binary(ctx, OP_MUL, centred, centred), n_axes, axes, true);
}

/* running * momentum + now * (1 - momentum) */
static ir_value_t *updated(convert_ctx_t *ctx, const batch_norm_t *n,
                           ir_value_t *running, ir_value_t *now) {
  ir_value_t *kept =
      binary(ctx, OP_MUL, running, ctx_scalar(ctx, running, n->momentum));
  ir_value_t *added =
      binary(ctx, OP_MUL, now, ctx_scalar(ctx, now, 1 - n->momentum));
  return binary(ctx, OP_ADD, kept, added);
}

/* Output `index`, of the shape and type of input `like`. */
static void give(convert_ctx_t *ctx, unsigned index, unsigned like,
                 ir_value_t *y) {
  ir_value_t *model = ctx_in(ctx, like);
  y = ctx_like(ctx, y, model);
  if (ctx_wants(ctx, index))
    ctx_set_output(ctx, index,
                   ir_reshape(ctx->b, y, model->type.rank, model->type.dim));
}

/* y = (x - mean) / sqrt(variance + epsilon) * scale + bias */
moec_status_t convert_batch_normalization(convert_ctx_t *ctx) {
  batch_norm_t n;
  if (!read(ctx, &n)) return ctx_status(ctx);
  ir_value_t *mean = n.mean, *variance = n.variance;
  if (n.training) {
    of_batch(ctx, &n, &mean, &variance);
    give(ctx, 1, 3, updated(ctx, &n, n.mean, mean));
    give(ctx, 2, 4, updated(ctx, &n, n.variance, variance));
    give(ctx, 3, 3, mean);
    give(ctx, 4, 4, variance);
  } else {
    for (unsigned i = 1; i < ctx->n_out; i++)
      if (ctx_wants(ctx, i))
        return ctx_invalid(ctx, "output %u is for training only", i);
  }
  if (variance == NULL) return ctx_status(ctx);
  ir_value_t *sum =
      binary(ctx, OP_ADD, variance, ctx_scalar(ctx, variance, n.epsilon));
  ir_value_t *inverse = ctx_scalar(ctx, variance, 1);
  inverse = binary(ctx, OP_DIV, inverse, ir_unary(ctx->b, OP_SQRT, sum));
  ir_value_t *factor = binary(ctx, OP_MUL, n.scale, inverse);
  ir_value_t *y = binary(ctx, OP_MUL, binary(ctx, OP_SUB, n.x, mean), factor);
  y = binary(ctx, OP_ADD, y, n.bias);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, ctx_in(ctx, 0)));
  return MOEC_OK;
}
