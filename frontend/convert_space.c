/* DepthToSpace and SpaceToDepth: blocks of pixels as channels and back. */
#include "frontend/convert.h"

static int64_t block_size(convert_ctx_t *ctx, const ir_value_t *x) {
  int64_t size = attr_int_required(ctx, "blocksize");
  if (ctx->status == MOEC_OK && (size < 1 || size > 65536))
    ctx_invalid(ctx, "blocksize is %lld", (long long)size);
  ctx_check_rank(ctx, x, 4, 4, "the input");
  return size;
}

/* d / n, checked to have no remainder. */
static const expr_t *quotient(convert_ctx_t *ctx, const expr_t *d,
                              const expr_t *n, const char *what) {
  const expr_t *q = expr_divide_exactly(ctx->exprs, d, n);
  if (q != NULL) return q;
  q = expr_floordiv(ctx->exprs, d, n);
  ir_check_equal(ctx->b, expr_mul(ctx->exprs, q, n), d, what);
  return q;
}

/* DCR: channels are (block row, block column, channel); CRD: (channel, block
 * row, block column). */
moec_status_t convert_depth_to_space(convert_ctx_t *ctx) {
  static const char *const modes[] = {"DCR", "CRD", NULL};
  static const int64_t dcr[] = {0, 3, 4, 1, 5, 2};
  static const int64_t crd[] = {0, 1, 4, 2, 5, 3};
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned mode = attr_choice(ctx, "mode", modes);
  const expr_t *b = ctx_int(ctx, block_size(ctx, x));
  MOEC_TRY(ctx->status);
  const expr_t *n = ctx_dim(x, 0), *h = ctx_dim(x, 2), *w = ctx_dim(x, 3);
  const expr_t *c = quotient(ctx, ctx_dim(x, 1), expr_mul(ctx->exprs, b, b),
                             "channels in blocks");
  const expr_t *split_dcr[] = {n, b, b, c, h, w};
  const expr_t *split_crd[] = {n, c, b, b, h, w};
  const expr_t *joined[] = {n, c, expr_mul(ctx->exprs, h, b),
                            expr_mul(ctx->exprs, w, b)};
  ir_value_t *y = ir_reshape(ctx->b, x, 6, mode == 0 ? split_dcr : split_crd);
  y = ir_transpose(ctx->b, y, mode == 0 ? dcr : crd);
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, y, 4, joined));
  return MOEC_OK;
}

moec_status_t convert_space_to_depth(convert_ctx_t *ctx) {
  static const char *const modes[] = {"DCR", "CRD", NULL};
  static const int64_t dcr[] = {0, 3, 5, 1, 2, 4};
  static const int64_t crd[] = {0, 1, 3, 5, 2, 4};
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned mode = attr_choice(ctx, "mode", modes);
  const expr_t *b = ctx_int(ctx, block_size(ctx, x));
  MOEC_TRY(ctx->status);
  const expr_t *n = ctx_dim(x, 0), *c = ctx_dim(x, 1);
  const expr_t *h = quotient(ctx, ctx_dim(x, 2), b, "rows in blocks");
  const expr_t *w = quotient(ctx, ctx_dim(x, 3), b, "columns in blocks");
  const expr_t *split[] = {n, c, h, b, w, b};
  const expr_t *channels = expr_mul(ctx->exprs, c, expr_mul(ctx->exprs, b, b));
  const expr_t *joined[] = {n, channels, h, w};
  ir_value_t *y = ir_reshape(ctx->b, x, 6, split);
  y = ir_transpose(ctx->b, y, mode == 0 ? dcr : crd);
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, y, 4, joined));
  return MOEC_OK;
}
