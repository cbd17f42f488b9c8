/* Losses of classifiers. */
#include "frontend/convert.h"

/* loss[N, D..] = -log_prob[N, class, D..] * weight[class], 0 where the class is
 * ignore_index; then none, or the sum, or the mean by weight. */
static ir_value_t *class_loss(convert_ctx_t *ctx, ir_value_t *log_prob,
                              ir_value_t *target, ir_value_t *weight) {
  static const char *const reductions[] = {"mean", "none", "sum", NULL};
  ir_builder_t *b = ctx->b;
  unsigned reduction = attr_choice(ctx, "reduction", reductions);
  bool ignoring = attr_has(ctx, "ignore_index");
  int64_t ignored = attr_int(ctx, "ignore_index", 0);
  if (log_prob == NULL ||
      !ctx_check_rank(ctx, log_prob, 2, IR_MAX_RANK, "the input") ||
      !ctx_check_rank(ctx, target, log_prob->type.rank - 1,
                      log_prob->type.rank - 1, "the target"))
    return NULL;
  for (unsigned i = 0; i < target->type.rank; i++)
    ir_check_equal(b, ctx_dim(target, i), ctx_dim(log_prob, i > 0 ? i + 1 : 0),
                   "dimensions of input and target");
  ir_value_t *class = ir_cast(b, target, DT_I64);
  ir_value_t *zero = ctx_scalar(ctx, log_prob, 0), *skip = NULL;
  if (ignoring) {
    skip = ir_binary(b, OP_EQ, class, ir_scalar_int(b, DT_I64, ignored));
    class = ir_select(b, skip, ir_scalar_int(b, DT_I64, 0), class);
  }
  if (class == NULL) return NULL;
  ir_value_t *in[] = {log_prob, ir_unsqueeze(b, class, 1)};
  ir_op_t *op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  ir_value_t *loss = ir_unary(b, OP_NEG, ir_place(b, op));
  if (loss == NULL) return NULL;
  loss = ir_squeeze(b, loss, 1);
  ir_value_t *by = weight != NULL
                       ? ir_gather(b, ctx_like(ctx, weight, log_prob), class, 0)
                       : NULL;
  if (by == NULL && ignoring && loss != NULL)
    by = ir_fill(b, ctx_scalar(ctx, log_prob, 1), loss->type.rank,
                 loss->type.dim);
  if (skip != NULL) by = ir_select(b, skip, zero, by);
  if (by != NULL) loss = ir_binary(b, OP_MUL, loss, by);
  if (skip != NULL) loss = ir_select(b, skip, zero, loss);
  if (reduction == 1 || loss == NULL) return loss;
  int64_t axes[IR_MAX_RANK];
  unsigned rank = loss->type.rank;
  for (unsigned i = 0; i < rank; i++) axes[i] = i;
  ir_value_t *sum = ir_reduce(b, OP_REDUCE_SUM, loss, rank, axes, false);
  if (reduction == 2) return sum;
  ir_value_t *count = by != NULL
                          ? ir_reduce(b, OP_REDUCE_SUM, by, rank, axes, false)
                          : ctx_count(ctx, loss, rank, axes, loss->type.dtype);
  return ir_binary(b, OP_DIV, sum, count);
}

moec_status_t convert_nll_loss(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  ir_value_t *loss =
      class_loss(ctx, ctx_widen(ctx, x), ctx_in(ctx, 1), ctx_in(ctx, 2));
  ctx_set_output(ctx, 0, ctx_like(ctx, loss, x));
  return MOEC_OK;
}

moec_status_t convert_softmax_cross_entropy_loss(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *wide = ctx_widen(ctx, x);
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK, "the scores")) return ctx->status;
  ir_op_t *op = ir_begin(ctx->b, OP_LOG_SOFTMAX, 1, &wide, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_LOG_SOFTMAX_axis, 1);
  ir_value_t *log_prob = ir_place(ctx->b, op);
  ir_value_t *loss = class_loss(ctx, log_prob, ctx_in(ctx, 1), ctx_in(ctx, 2));
  ctx_set_output(ctx, 0, ctx_like(ctx, loss, x));
  ctx_set_output(ctx, 1, ctx_like(ctx, log_prob, x));
  return MOEC_OK;
}
