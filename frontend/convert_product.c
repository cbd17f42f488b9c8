/* Matrix products: MatMul, Gemm. */
#include "frontend/convert.h"

/* The dimensions of a product: inner ones equal, the others broadcast. */
static void check_product(convert_ctx_t *ctx, const ir_value_t *x,
                          const ir_value_t *y) {
  unsigned rx = x->type.rank, ry = y->type.rank;
  ir_check_equal(ctx->b, ctx_dim(x, rx - 1), ctx_dim(y, ry - 2),
                 "inner dimensions of a product");
  for (unsigned i = 3; i <= rx && i <= ry; i++)
    ctx_check_dims(ctx, ctx_dim(x, rx - i), ctx_dim(y, ry - i));
}

/* numpy.matmul: a vector is a row on the left and a column on the right. */
moec_status_t convert_matmul(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *y = ctx_in(ctx, 1);
  unsigned rx = x->type.rank, ry = y->type.rank;
  if (rx == 0 || ry == 0)
    return ctx_invalid(ctx, "operands are %s and %s, expected no scalars",
                       ctx_type_str(ctx, x), ctx_type_str(ctx, y));
  if (rx == 1) x = ir_unsqueeze(ctx->b, x, 0);
  if (ry == 1) y = ir_unsqueeze(ctx->b, y, 1);
  if (x == NULL || y == NULL) return ctx_status(ctx);
  check_product(ctx, x, y);
  ir_value_t *z = ir_matmul(ctx->b, x, y);
  if (z == NULL) return ctx_status(ctx);
  if (ry == 1) z = ir_squeeze(ctx->b, z, z->type.rank - 1);
  if (rx == 1 && z != NULL)
    z = ir_squeeze(ctx->b, z, z->type.rank - (ry == 1 ? 1 : 2));
  ctx_set_output(ctx, 0, z);
  return MOEC_OK;
}

/* x * factor, where factor is 1 as x */
static ir_value_t *scaled(convert_ctx_t *ctx, ir_value_t *x, double factor) {
  if (factor == 1 || x == NULL) return x;
  if (dtype_is_float(x->type.dtype))
    return ir_binary(ctx->b, OP_MUL, x, ctx_scalar(ctx, x, factor));
  ir_value_t *wide = ir_cast(ctx->b, x, DT_F64);
  return ctx_like(
      ctx, ir_binary(ctx->b, OP_MUL, wide, ctx_scalar(ctx, wide, factor)), x);
}

/* y = alpha * a' * b' + beta * c, with a' and b' transposed on request */
moec_status_t convert_gemm(convert_ctx_t *ctx) {
  static const int64_t swap[] = {1, 0};
  ir_value_t *a = ctx_in(ctx, 0), *b = ctx_in(ctx, 1), *c = ctx_in(ctx, 2);
  double alpha = attr_float(ctx, "alpha", 1), beta = attr_float(ctx, "beta", 1);
  bool trans_a = attr_int(ctx, "transA", 0) != 0;
  bool trans_b = attr_int(ctx, "transB", 0) != 0;
  if (ctx->opset < 11 && c == NULL)
    return ctx_invalid(ctx, "input 2 is missing");
  if (!ctx_check_rank(ctx, a, 2, 2, "input 0") ||
      !ctx_check_rank(ctx, b, 2, 2, "input 1"))
    return ctx->status;
  if (trans_a) a = ir_transpose(ctx->b, a, swap);
  if (trans_b) b = ir_transpose(ctx->b, b, swap);
  if (a == NULL || b == NULL) return ctx_status(ctx);
  check_product(ctx, a, b);
  ir_value_t *y = scaled(ctx, ir_matmul(ctx->b, a, b), alpha);
  if (c != NULL && beta != 0) {
    if (!ctx_check_rank(ctx, c, 0, 2, "input 2")) return ctx->status;
    y = ctx_binary(ctx, OP_ADD, y, scaled(ctx, c, beta));
    if (y != NULL)
      for (unsigned i = 0; i < 2; i++)
        ir_check_equal(ctx->b, ctx_dim(y, i),
                       i == 0 ? ctx_dim(a, 0) : ctx_dim(b, 1),
                       "dimensions of input 2, no larger than the product's");
  }
  ctx_set_output(ctx, 0, y);
  return MOEC_OK;
}
