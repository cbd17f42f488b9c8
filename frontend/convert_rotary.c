/* Rotary position embeddings. */
#include "frontend/convert.h"

/* cos or sin of the positions, with a dimension of 1 for the heads. */
static ir_value_t *angles(convert_ctx_t *ctx, ir_value_t *cache,
                          ir_value_t *positions, unsigned heads_axis,
                          const expr_t *half) {
  if (positions != NULL) {
    if (!ctx_check_rank(ctx, cache, 2, 2, "the cache")) return NULL;
    cache = ir_gather(ctx->b, cache, positions, 0);
  }
  if (cache == NULL || !ctx_check_rank(ctx, cache, 3, 3, "the angles"))
    return NULL;
  ir_check_equal(ctx->b, ctx_dim(cache, 2), half,
                 "half the size that is rotated");
  return ir_unsqueeze(ctx->b, ctx_widen(ctx, cache), heads_axis);
}

/* Elements `first`, `first` + step, .. of the last dimension. */
static ir_value_t *every(convert_ctx_t *ctx, ir_value_t *x, const expr_t *first,
                         const expr_t *n, int64_t step) {
  if (x == NULL) return NULL;
  return ir_slice(ctx->b, x, x->type.rank - 1, first, n, ctx_int(ctx, step));
}

/* [x1 * cos - x2 * sin, x1 * sin + x2 * cos], in halves or interleaved. */
static ir_value_t *rotated(convert_ctx_t *ctx, ir_value_t *x,
                           const expr_t *half, ir_value_t *cos, ir_value_t *sin,
                           bool interleaved) {
  const expr_t *zero = ctx_int(ctx, 0), *one = ctx_int(ctx, 1);
  int64_t step = interleaved ? 2 : 1;
  ir_value_t *x1 = every(ctx, x, zero, half, step);
  ir_value_t *x2 = every(ctx, x, interleaved ? one : half, half, step);
  ir_value_t *real = ctx_binary(ctx, OP_MUL, x1, cos);
  real = ir_binary(ctx->b, OP_SUB, real, ctx_binary(ctx, OP_MUL, x2, sin));
  ir_value_t *imaginary = ctx_binary(ctx, OP_MUL, x1, sin);
  imaginary =
      ir_binary(ctx->b, OP_ADD, imaginary, ctx_binary(ctx, OP_MUL, x2, cos));
  ir_value_t *part[] = {real, imaginary};
  if (part[0] == NULL || part[1] == NULL) return NULL;
  if (!interleaved) return ir_concat(ctx->b, 2, part, 3);
  for (unsigned i = 0; i < 2; i++) part[i] = ir_unsqueeze(ctx->b, part[i], 4);
  ir_value_t *pairs = ir_concat(ctx->b, 2, part, 4);
  return ir_reshape(ctx->b, pairs, 4, x->type.dim);
}

moec_status_t convert_rotary_embedding(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *positions = ctx_in(ctx, 3), *y;
  expr_pool_t *pool = ctx->exprs;
  bool interleaved = attr_bool(ctx, "interleaved", false);
  int64_t part = attr_int(ctx, "rotary_embedding_dim", 0);
  int64_t heads = attr_int(ctx, "num_heads", 0);
  MOEC_TRY(ctx->status);
  if (!ctx_check_rank(ctx, x, 3, 4, "the input")) return ctx->status;
  unsigned heads_axis = x->type.rank == 4 ? 1 : 2;
  ir_value_t *wide = ctx_widen(ctx, x);
  if (x->type.rank == 3) {
    if (heads < 1 || heads > INT32_MAX)
      return ctx_invalid(ctx, "num_heads is %lld", (long long)heads);
    const expr_t *n = ctx_int(ctx, heads), *width = ctx_dim(x, 2);
    const expr_t *size = expr_floordiv(pool, width, n);
    ir_check_equal(ctx->b, expr_mul(pool, size, n), width,
                   "width of heads side by side");
    const expr_t *dim[] = {ctx_dim(x, 0), ctx_dim(x, 1), n, size};
    wide = ir_reshape(ctx->b, wide, 4, dim);
  }
  if (wide == NULL) return ctx_status(ctx);
  const expr_t *size = ctx_dim(wide, 3), *zero = ctx_int(ctx, 0);
  int64_t full;
  if (part < 0 || part % 2 != 0 || (expr_is_const(size, &full) && part > full))
    return ctx_invalid(ctx, "rotary_embedding_dim is %lld", (long long)part);
  const expr_t *turned = part > 0 ? ctx_int(ctx, part) : size;
  const expr_t *half = expr_floordiv(pool, turned, ctx_int(ctx, 2));
  ir_check_equal(ctx->b, expr_mul(pool, half, ctx_int(ctx, 2)), turned,
                 "size that is rotated, even");
  ir_value_t *cos = angles(ctx, ctx_in(ctx, 1), positions, heads_axis, half);
  ir_value_t *sin = angles(ctx, ctx_in(ctx, 2), positions, heads_axis, half);
  y = rotated(ctx, ctx_part(ctx, wide, 3, zero, turned), half, cos, sin,
              interleaved);
  const expr_t *rest = expr_sub(pool, size, turned);
  if (!expr_equals_const(rest, 0) && y != NULL) {
    ir_value_t *parts[] = {y, ctx_part(ctx, wide, 3, turned, rest)};
    y = ir_concat(ctx->b, 2, parts, 3);
  }
  y = ir_reshape(ctx->b, y, x->type.rank, x->type.dim);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  return MOEC_OK;
}
