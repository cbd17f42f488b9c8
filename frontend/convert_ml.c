/* ai.onnx.ml: operators over numbers that are cheap to have. */
#include "frontend/convert.h"

/* Elements of the last axis: [.., indices], a vector as one row. */
moec_status_t convert_array_feature_extractor(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *index = ctx_flat(ctx, ctx_in(ctx, 1));
  if (!ctx_check_rank(ctx, x, 1, IR_MAX_RANK, "the input")) return ctx->status;
  if (x->type.rank == 1) x = ir_unsqueeze(b, x, 0);
  if (x == NULL) return ctx_status(ctx);
  ctx_set_output(ctx, 0, ir_gather(b, x, index, x->type.rank - 1));
  return ctx_status(ctx);
}

moec_status_t convert_binarizer(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *wide = ctx_widen(ctx, x);
  double threshold = attr_float(ctx, "threshold", 0);
  MOEC_TRY(ctx->status);
  if (!dtype_is_float(x->type.dtype)) wide = ir_cast(ctx->b, x, DT_F64);
  ir_value_t *above =
      ir_binary(ctx->b, OP_LT, ctx_scalar(ctx, wide, threshold), wide);
  ctx_set_output(ctx, 0, ir_cast(ctx->b, above, x->type.dtype));
  return ctx_status(ctx);
}
