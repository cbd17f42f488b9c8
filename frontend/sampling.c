/* Values of images at positions between their elements. */
#include "frontend/sampling.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static ir_value_t *size_like(convert_ctx_t *ctx, const expr_t *e,
                             const ir_value_t *like) {
  return ctx_like(ctx, ir_expr_scalar(ctx->b, e), like);
}

ir_value_t *sampling_reflect(convert_ctx_t *ctx, ir_value_t *at,
                             ir_value_t *low, ir_value_t *high) {
  ir_builder_t *b = ctx->b;
  if (at == NULL) return NULL;
  ir_value_t *zero = ctx_scalar(ctx, at, 0), *twice = ctx_scalar(ctx, at, 2);
  ir_value_t *span = two(ctx, OP_SUB, high, low);
  ir_value_t *below = two(ctx, OP_LT, at, low);
  ir_value_t *above = two(ctx, OP_LT, high, at);
  ir_value_t *beyond_low = two(ctx, OP_SUB, low, at);
  ir_value_t *beyond =
      ir_select(b, below, beyond_low, two(ctx, OP_SUB, at, high));
  ir_value_t *times = ir_unary(b, OP_TRUNC, two(ctx, OP_DIV, beyond, span));
  ir_value_t *rest = two(ctx, OP_SUB, beyond, two(ctx, OP_MUL, times, span));
  ir_value_t *half = ir_unary(b, OP_FLOOR, two(ctx, OP_DIV, times, twice));
  ir_value_t *even = two(ctx, OP_EQ, two(ctx, OP_MUL, half, twice), times);
  /* An even number of reflections continues from the side that was left. */
  ir_value_t *from_low = two(ctx, OP_EQ, even, below);
  ir_value_t *y = two(ctx, OP_ADD, low, rest);
  y = ir_select(b, from_low, y, two(ctx, OP_SUB, high, rest));
  y = ir_select(b, two(ctx, OP_LT, zero, span), y, low);
  return ir_select(b, two(ctx, OP_OR, below, above), y, at);
}

/* Weights of Keys' cubic convolution for the fraction r, element k of 4. */
static ir_value_t *cubic_weight(convert_ctx_t *ctx, ir_value_t *r, unsigned k) {
  const double a = -0.75;
  ir_value_t *one = ctx_scalar(ctx, r, 1), *d = r, *y;
  if (k == 0) d = two(ctx, OP_ADD, r, one);
  if (k == 2) d = two(ctx, OP_SUB, one, r);
  if (k == 3) d = two(ctx, OP_SUB, ctx_scalar(ctx, r, 2), r);
  if (k == 0 || k == 3) { /* ((a d - 5 a) d + 8 a) d - 4 a */
    y = two(ctx, OP_MUL, ctx_scalar(ctx, r, a), d);
    y = two(ctx, OP_SUB, y, ctx_scalar(ctx, r, 5 * a));
    y = two(ctx, OP_MUL, y, d);
    y = two(ctx, OP_ADD, y, ctx_scalar(ctx, r, 8 * a));
    y = two(ctx, OP_MUL, y, d);
    return two(ctx, OP_SUB, y, ctx_scalar(ctx, r, 4 * a));
  }
  y = two(ctx, OP_MUL, ctx_scalar(ctx, r, a + 2),
          d); /* ((a + 2) d - (a + 3)) */
  y = two(ctx, OP_SUB, y, ctx_scalar(ctx, r, a + 3));
  y = two(ctx, OP_MUL, two(ctx, OP_MUL, y, d), d);
  return two(ctx, OP_ADD, y, one);
}

taps_t sampling_taps(convert_ctx_t *ctx, const ir_value_t *x, ir_value_t *at,
                     const expr_t *d, unsigned n, beyond_t beyond,
                     bool corners) {
  ir_builder_t *b = ctx->b;
  taps_t taps = {.n = n};
  if (at == NULL || x == NULL) return taps;
  ir_value_t *first = ir_unary(b, OP_FLOOR, at);
  ir_value_t *r = two(ctx, OP_SUB, at, first);
  ir_value_t *zero = ctx_scalar(ctx, at, 0);
  ir_value_t *size = size_like(ctx, d, at);
  ir_value_t *last = two(ctx, OP_SUB, size, ctx_scalar(ctx, at, 1));
  for (unsigned k = 0; k < n; k++) {
    double step = (double)k - (n == 4 ? 1 : 0);
    ir_value_t *place = two(ctx, OP_ADD, first, ctx_scalar(ctx, at, step));
    ir_value_t *weight = NULL;
    if (n == 2)
      weight = k == 1 ? r : two(ctx, OP_SUB, ctx_scalar(ctx, at, 1), r);
    if (n == 4) weight = cubic_weight(ctx, r, k);
    if (beyond == BEYOND_REFLECT) {
      ir_value_t *low = ctx_scalar(ctx, at, corners ? 0 : -0.5);
      place = sampling_reflect(ctx, place, low, two(ctx, OP_SUB, last, low));
    } else if (beyond == BEYOND_ZERO) {
      ir_value_t *inside = two(ctx, OP_LE, zero, place);
      inside = two(ctx, OP_AND, inside, two(ctx, OP_LE, place, last));
      if (weight == NULL) weight = ctx_scalar(ctx, at, 1);
      weight = ir_select(b, inside, weight, zero);
    }
    place = two(ctx, OP_MAX, zero, two(ctx, OP_MIN, place, last));
    taps.place[k] = ir_cast(b, place, DT_I64);
    taps.weight[k] = weight != NULL ? ctx_like(ctx, weight, x) : NULL;
  }
  return taps;
}

ir_value_t *sampling_gather(convert_ctx_t *ctx, ir_value_t *x,
                            ir_value_t *image, ir_value_t *const *place) {
  ir_builder_t *b = ctx->b;
  if (x == NULL) return NULL;
  unsigned n = x->type.rank - 2;
  const expr_t *images = ctx_dim(x, 0), *channels = ctx_dim(x, 1);
  if (image == NULL) image = ctx_along(ctx, ir_iota(b, DT_I64, images), 0, 3);
  ir_value_t *channel = ctx_along(ctx, ir_iota(b, DT_I64, channels), 1, 3);
  ir_value_t *index = two(ctx, OP_MUL, image, ir_expr_scalar(b, channels));
  index = two(ctx, OP_ADD, index, channel);
  const expr_t *all = expr_product(ctx->exprs, x->type.dim + 2, n);
  index = two(ctx, OP_MUL, index, ir_expr_scalar(b, all));
  ir_value_t *within = NULL;
  for (unsigned i = 0; i < n; i++) {
    const expr_t *each =
        expr_product(ctx->exprs, x->type.dim + 3 + i, n - 1 - i);
    ir_value_t *part = two(ctx, OP_MUL, place[i], ir_expr_scalar(b, each));
    within = within == NULL ? part : two(ctx, OP_ADD, within, part);
  }
  index = two(ctx, OP_ADD, index, within);
  return ir_gather(b, ctx_flat(ctx, x), index, 0);
}

ir_value_t *sampling_read(convert_ctx_t *ctx, ir_value_t *x,
                          const taps_t *taps) {
  if (x == NULL) return NULL;
  unsigned n = x->type.rank - 2, at[IR_MAX_RANK] = {0}, i;
  ir_value_t *sum = NULL;
  do {
    ir_value_t *place[IR_MAX_RANK], *weight = NULL, *part;
    bool zero = false; /* elements of weight 0 do not count, NaN or not */
    for (i = 0; i < n; i++) {
      ir_value_t *w = taps[i].weight[at[i]];
      place[i] = taps[i].place[at[i]];
      if (w != NULL) weight = weight == NULL ? w : two(ctx, OP_MUL, weight, w);
      zero |= w != NULL;
    }
    part = sampling_gather(ctx, x, NULL, place);
    if (zero) {
      ir_value_t *none = ctx_scalar(ctx, x, 0);
      ir_value_t *counts = two(ctx, OP_EQ, weight, none);
      part = ir_select(ctx->b, counts, none, two(ctx, OP_MUL, part, weight));
    }
    sum = sum == NULL ? part : two(ctx, OP_ADD, sum, part);
    for (i = n; i > 0 && ++at[i - 1] == taps[i - 1].n; i--) at[i - 1] = 0;
  } while (i > 0 && sum != NULL);
  return sum;
}
