/* What puts windows back together or images into frames: MaxUnpool, Col2Im,
 * CenterCropPad. */
#include "frontend/window.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* x within zeros, `before` and `after` elements of them. */
static ir_value_t *framed(convert_ctx_t *ctx, ir_value_t *x,
                          const expr_t *const *before,
                          const expr_t *const *after) {
  if (x == NULL) return NULL;
  ir_value_t *in[] = {x, ctx_scalar(ctx, x, 0)};
  bool any = false;
  unsigned rank = x->type.rank;
  for (unsigned i = 0; i < rank; i++)
    any |= !expr_equals_const(before[i], 0) || !expr_equals_const(after[i], 0);
  if (!any) return x;
  ir_op_t *op = ir_begin(ctx->b, OP_PAD, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_exprs(op, ATTR_PAD_before, rank, before);
  ir_set_exprs(op, ATTR_PAD_after, rank, after);
  ir_set_str(op, ATTR_PAD_mode, "constant");
  return ir_place(ctx->b, op);
}

/* ---- MaxUnpool ----------------------------------------------------------- */

/* Indices are places in the result that the attributes alone give; a larger
 * output_shape has that result at its start. */
moec_status_t convert_max_unpool(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  ir_value_t *x = ctx_in(ctx, 0), *index = ctx_in(ctx, 1);
  unsigned rank = x->type.rank, n;
  window_t w;
  if (!window_read(ctx, x, NULL, &w) ||
      !ctx_check_rank(ctx, index, rank, rank, "the indices"))
    return ctx_status(ctx);
  const expr_t *dim[IR_MAX_RANK], *before[IR_MAX_RANK], *after[IR_MAX_RANK];
  for (unsigned i = 0; i < rank; i++) {
    ir_check_equal(b, ctx_dim(index, i), ctx_dim(x, i),
                   "dimensions of values and indices");
    before[i] = after[i] = ctx_int(ctx, 0);
    dim[i] = ctx_dim(x, i);
    if (i < 2) continue;
    const expr_t *gaps = expr_sub(pool, dim[i], ctx_int(ctx, 1));
    dim[i] = expr_mul(pool, gaps, ctx_int(ctx, w.strides[i - 2]));
    dim[i] = expr_add(pool, dim[i], w.kernel[i - 2]);
    dim[i] =
        expr_sub(pool, expr_sub(pool, dim[i], w.before[i - 2]), w.after[i - 2]);
    ir_check_equal(b, expr_max(pool, dim[i], ctx_int(ctx, 0)), dim[i],
                   "size of the output, at least 0");
  }
  MOEC_TRY(ctx_status(ctx));
  const expr_t *count = expr_product(pool, dim, rank);
  ir_value_t *in[] = {ir_fill(b, ctx_scalar(ctx, x, 0), 1, &count),
                      ctx_flat(ctx, index), ctx_flat(ctx, x)};
  ir_op_t *op = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, 0);
  ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, "none");
  ir_value_t *y = ir_reshape(b, ir_place(b, op), rank, dim);
  if (ctx_in(ctx, 2) != NULL) {
    const expr_t **size = ctx_sizes(ctx, ctx_in(ctx, 2), "size", 0, &n);
    if (size == NULL) return ctx_status(ctx);
    if (n != rank)
      return ctx_invalid(ctx, "output_shape has %u entries, expected %u", n,
                         rank);
    for (unsigned i = 0; i < rank; i++) {
      ir_check_equal(b, expr_max(pool, size[i], dim[i]), size[i],
                     "output_shape, no smaller than what is unpooled");
      after[i] = expr_sub(pool, size[i], dim[i]);
    }
    MOEC_TRY(ctx_status(ctx));
    y = framed(ctx, y, before, after);
  }
  ctx_set_output(ctx, 0, y);
  return ctx_status(ctx);
}

/* ---- Col2Im -------------------------------------------------------------- */

enum { MAX_SPATIAL = 8 };

typedef struct columns {
  unsigned n;
  const expr_t *const *image, *const *block;
  const expr_t *blocks[MAX_SPATIAL]; /* along each dimension */
  int64_t strides[MAX_SPATIAL], dilations[MAX_SPATIAL], pads[2 * MAX_SPATIAL];
} columns_t;

static bool read_columns(convert_ctx_t *ctx, columns_t *c) {
  expr_pool_t *pool = ctx->exprs;
  unsigned n_block;
  if (!ctx_check_rank(ctx, ctx_in(ctx, 0), 3, 3, "the input")) return false;
  c->image = ctx_sizes(ctx, ctx_in(ctx, 1), "image_shape", 0, &c->n);
  c->block = ctx_sizes(ctx, ctx_in(ctx, 2), "block_shape", 1, &n_block);
  if (c->image == NULL || c->block == NULL) return false;
  if (c->n != n_block || c->n == 0 || c->n > MAX_SPATIAL) {
    ctx_invalid(ctx, "image_shape has %u entries and block_shape %u", c->n,
                n_block);
    return false;
  }
  if (!window_read_list(ctx, "strides", c->n, 1, 1, c->strides) ||
      !window_read_list(ctx, "dilations", c->n, 1, 1, c->dilations) ||
      !window_read_list(ctx, "pads", 2 * c->n, 0, 0, c->pads))
    return false;
  for (unsigned i = 0; i < c->n; i++) {
    const expr_t *one = ctx_int(ctx, 1);
    const expr_t *extent = expr_mul(pool, expr_sub(pool, c->block[i], one),
                                    ctx_int(ctx, c->dilations[i]));
    const expr_t *span = expr_add(
        pool, c->image[i], ctx_int(ctx, c->pads[i] + c->pads[c->n + i] - 1));
    span = expr_sub(pool, span, extent);
    c->blocks[i] = expr_add(
        pool, expr_floordiv(pool, span, ctx_int(ctx, c->strides[i])), one);
    ir_check_equal(ctx->b, expr_max(pool, c->blocks[i], ctx_int(ctx, 0)),
                   c->blocks[i], "number of blocks, at least 0");
  }
  return ctx_status(ctx) == MOEC_OK;
}

/* Which block has element k of its own at place p of dimension i: l with
 * l * stride + k * dilation - pad = p, as i64[p, k], and whether there is. */
static ir_value_t *block_of(convert_ctx_t *ctx, const columns_t *c, unsigned i,
                            ir_value_t **out_ok) {
  ir_builder_t *b = ctx->b;
  ir_value_t *p = ir_unsqueeze(b, ir_iota(b, DT_I64, c->image[i]), 1);
  ir_value_t *k = ir_iota(b, DT_I64, c->block[i]);
  ir_value_t *zero = ir_scalar_int(b, DT_I64, 0);
  ir_value_t *stride = ir_scalar_int(b, DT_I64, c->strides[i]);
  p = two(ctx, OP_ADD, p, ir_scalar_int(b, DT_I64, c->pads[i]));
  k = two(ctx, OP_MUL, k, ir_scalar_int(b, DT_I64, c->dilations[i]));
  ir_value_t *at = two(ctx, OP_SUB, p, k);
  ir_value_t *l = two(ctx, OP_DIV, at, stride);
  ir_value_t *last = ir_expr_scalar(b, c->blocks[i]);
  ir_value_t *exact = two(ctx, OP_EQ, two(ctx, OP_MUL, l, stride), at);
  ir_value_t *inside = two(ctx, OP_LE, zero, at);
  inside = two(ctx, OP_AND, inside, two(ctx, OP_LT, l, last));
  *out_ok = two(ctx, OP_AND, exact, inside);
  return ir_select(b, *out_ok, l, zero);
}

/* v[p, k] of dimension i over [P.., K..] */
static ir_value_t *spread(convert_ctx_t *ctx, const columns_t *c, unsigned i,
                          ir_value_t *v) {
  const expr_t *dim[2 * MAX_SPATIAL];
  for (unsigned j = 0; j < 2 * c->n; j++) dim[j] = ctx_int(ctx, 1);
  dim[i] = c->image[i];
  dim[c->n + i] = c->block[i];
  return ir_reshape(ctx->b, v, 2 * c->n, dim);
}

/* Each place of the image is the sum over the elements of blocks that lie on
 * it: x[N, C, K.., L..] gathered as [N, C, P.., K..], summed over K. */
moec_status_t convert_col2im(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  ir_value_t *x = ctx_in(ctx, 0), *index = NULL, *ok = NULL;
  columns_t c;
  if (!read_columns(ctx, &c)) return ctx_status(ctx);
  unsigned n = c.n;
  const expr_t *k = expr_product(pool, c.block, n);
  const expr_t *l = expr_product(pool, c.blocks, n);
  const expr_t *channels = expr_divide_exactly(pool, ctx_dim(x, 1), k);
  if (channels == NULL) {
    channels = expr_floordiv(pool, ctx_dim(x, 1), k);
    ir_check_equal(b, expr_mul(pool, channels, k), ctx_dim(x, 1),
                   "channels and elements of a block");
  }
  ir_check_equal(b, ctx_dim(x, 2), l, "number of blocks");
  MOEC_TRY(ctx_status(ctx));
  for (unsigned i = 0; i < n; i++) {
    ir_value_t *here, *block = block_of(ctx, &c, i, &here);
    ir_value_t *element = ir_iota(b, DT_I64, c.block[i]);
    const expr_t *step = expr_product(pool, c.blocks + i + 1, n - i - 1);
    block = two(ctx, OP_MUL, block, ir_expr_scalar(b, step));
    step = expr_mul(pool, expr_product(pool, c.block + i + 1, n - i - 1), l);
    element = two(ctx, OP_MUL, element, ir_expr_scalar(b, step));
    ir_value_t *part = spread(ctx, &c, i, two(ctx, OP_ADD, block, element));
    here = spread(ctx, &c, i, here);
    index = index == NULL ? part : two(ctx, OP_ADD, index, part);
    ok = ok == NULL ? here : two(ctx, OP_AND, ok, here);
  }
  const expr_t *planes[] = {expr_mul(pool, ctx_dim(x, 0), channels),
                            expr_mul(pool, k, l)};
  ir_value_t *y = ir_gather(b, ir_reshape(b, x, 2, planes), index, 1);
  y = ir_select(b, ok, y, ctx_scalar(ctx, x, 0));
  int64_t axes[MAX_SPATIAL];
  const expr_t *dim[MAX_SPATIAL + 2] = {ctx_dim(x, 0), channels};
  for (unsigned i = 0; i < n; i++) {
    axes[i] = 1 + n + i;
    dim[i + 2] = c.image[i];
  }
  y = ir_reduce(b, OP_REDUCE_SUM, y, n, axes, false);
  ctx_set_output(ctx, 0, ir_reshape(b, y, n + 2, dim));
  return ctx_status(ctx);
}

/* ---- CenterCropPad ------------------------------------------------------- */

moec_status_t convert_center_crop_pad(convert_ctx_t *ctx) {
  expr_pool_t *pool = ctx->exprs;
  ir_value_t *x = ctx_in(ctx, 0), *y = x;
  unsigned rank = x->type.rank, n_axes, n;
  const int64_t *axes = attr_ints(ctx, "axes", &n_axes);
  MOEC_TRY(ctx->status);
  if (!ctx_check_rank(ctx, ctx_in(ctx, 1), 1, 1, "the shape"))
    return ctx->status;
  const expr_t **size = ctx_sizes(ctx, ctx_in(ctx, 1), "size", 0, &n);
  if (size == NULL) return ctx_status(ctx);
  if (n != (axes != NULL ? n_axes : rank) || n > rank)
    return ctx_invalid(ctx, "the shape has %u entries for %u axes", n,
                       axes != NULL ? n_axes : rank);
  const expr_t *before[IR_MAX_RANK], *after[IR_MAX_RANK];
  bool seen[IR_MAX_RANK] = {false};
  for (unsigned i = 0; i < rank; i++) before[i] = after[i] = ctx_int(ctx, 0);
  for (unsigned i = 0; i < n; i++) {
    unsigned d = i;
    if (axes != NULL && !ctx_axis(ctx, axes[i], rank, &d)) return ctx->status;
    if (seen[d]) return ctx_invalid(ctx, "axis %u occurs twice", d);
    seen[d] = true;
    const expr_t *zero = ctx_int(ctx, 0), *half = ctx_int(ctx, 2);
    const expr_t *more = expr_sub(pool, ctx_dim(x, d), size[i]);
    const expr_t *cut = expr_max(pool, zero, more);
    const expr_t *add = expr_max(pool, zero, expr_sub(pool, zero, more));
    y = ctx_part(ctx, y, d, expr_floordiv(pool, cut, half),
                 expr_min(pool, ctx_dim(x, d), size[i]));
    before[d] = expr_floordiv(pool, add, half);
    after[d] = expr_sub(pool, add, before[d]);
  }
  ctx_set_output(ctx, 0, framed(ctx, y, before, after));
  return ctx_status(ctx);
}
