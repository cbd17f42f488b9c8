/* Images read at positions that are data: GridSample, AffineGrid, DeformConv.
 */
#include "frontend/sampling.h"
#include "frontend/window.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* ---- GridSample ---------------------------------------------------------- */

typedef struct grid_sample {
  unsigned n_taps; /* 1 nearest, 2 linear, 4 cubic */
  beyond_t beyond;
  bool corners;
} grid_sample_t;

static grid_sample_t read_grid_sample(convert_ctx_t *ctx) {
  static const char *const older[] = {"bilinear", "nearest", "bicubic", NULL};
  static const char *const newer[] = {"linear", "nearest", "cubic", NULL};
  static const char *const paddings[] = {"zeros", "border", "reflection", NULL};
  static const unsigned n_taps[] = {2, 1, 4};
  unsigned mode = attr_choice(ctx, "mode", ctx->opset < 20 ? older : newer);
  return (grid_sample_t){
      .n_taps = n_taps[mode],
      .beyond = (beyond_t)attr_choice(ctx, "padding_mode", paddings),
      .corners = attr_bool(ctx, "align_corners", false),
  };
}

/* A coordinate from [-1, 1] as a position in a dimension of size d, brought
 * into the image as the padding says. */
static ir_value_t *position(convert_ctx_t *ctx, const grid_sample_t *g,
                            ir_value_t *at, const expr_t *d) {
  ir_builder_t *b = ctx->b;
  if (at == NULL) return NULL;
  ir_value_t *one = ctx_scalar(ctx, at, 1), *half = ctx_scalar(ctx, at, 0.5);
  ir_value_t *size = ctx_like(ctx, ir_expr_scalar(b, d), at);
  ir_value_t *last = two(ctx, OP_SUB, size, one);
  at = two(ctx, OP_ADD, at, one);
  if (g->corners) {
    at = two(ctx, OP_MUL, two(ctx, OP_MUL, at, half), last);
  } else {
    at = two(ctx, OP_SUB, two(ctx, OP_MUL, at, size), one);
    at = two(ctx, OP_MUL, at, half);
  }
  if (g->n_taps == 1) at = ir_unary(b, OP_ROUND, at);
  ir_value_t *zero = ctx_scalar(ctx, at, 0);
  ir_value_t *low = ctx_scalar(ctx, at, g->corners ? 0 : -0.5);
  ir_value_t *high = two(ctx, OP_SUB, last, low);
  if (g->beyond == BEYOND_REFLECT) {
    at = sampling_reflect(ctx, at, low, high);
    return g->n_taps == 1 ? ir_unary(b, OP_TRUNC, at) : at;
  }
  if (g->beyond != BEYOND_BORDER) return at;
  ir_value_t *outside = two(ctx, OP_LT, at, low);
  outside = two(ctx, OP_OR, outside, two(ctx, OP_LT, high, at));
  ir_value_t *clamped = two(ctx, OP_MAX, zero, two(ctx, OP_MIN, at, last));
  return ir_select(b, outside, clamped, at);
}

moec_status_t convert_grid_sample(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *grid = ctx_in(ctx, 1), *wide = x;
  grid_sample_t g = read_grid_sample(ctx);
  unsigned rank = x->type.rank, limit = g.n_taps == 4 ? 3 : 5;
  if (!ctx_check_rank(ctx, x, 3, IR_MAX_RANK, "the input") ||
      !ctx_check_rank(ctx, grid, rank, rank, "the grid"))
    return ctx->status;
  unsigned n = rank - 2;
  if (n > limit && g.n_taps > 1)
    return ctx_unsupported(ctx, "more than %u spatial dimensions", limit);
  if (!dtype_is_float(grid->type.dtype))
    return ctx_invalid(ctx, "the grid is %s, expected floats",
                       ctx_type_str(ctx, grid));
  ir_check_equal(b, ctx_dim(grid, rank - 1), ctx_int(ctx, n),
                 "number of coordinates of a point of the grid");
  ir_check_equal(b, ctx_dim(grid, 0), ctx_dim(x, 0), "images and grids");
  MOEC_TRY(ctx_status(ctx));
  bool wide_grid = grid->type.dtype == DT_F64 || x->type.dtype == DT_F64;
  grid = ir_cast(b, grid, wide_grid ? DT_F64 : DT_F32);
  if (g.n_taps > 1 && !dtype_is_float(x->type.dtype))
    wide = ir_cast(b, x, dtype_bits(x->type.dtype) > 16 ? DT_F64 : DT_F32);
  else if (g.n_taps > 1)
    wide = ctx_widen(ctx, x);
  const expr_t *points = expr_product(ctx->exprs, grid->type.dim + 1, n);
  const expr_t *flat[] = {ctx_dim(grid, 0), ctx_int(ctx, 1), points};
  taps_t taps[IR_MAX_RANK];
  for (unsigned i = 0; i < n; i++) { /* the last dimension's comes first */
    ir_value_t *at =
        ctx_part(ctx, grid, rank - 1, ctx_int(ctx, n - 1 - i), ctx_int(ctx, 1));
    const expr_t *d = ctx_dim(x, i + 2);
    at = position(ctx, &g, ir_reshape(b, at, 3, flat), d);
    taps[i] = sampling_taps(ctx, wide, at, d, g.n_taps, g.beyond, g.corners);
  }
  ir_value_t *y = sampling_read(ctx, wide, taps);
  const expr_t *dim[IR_MAX_RANK] = {ctx_dim(x, 0), ctx_dim(x, 1)};
  for (unsigned i = 0; i < n; i++) dim[i + 2] = ctx_dim(grid, i + 1);
  ctx_set_output(ctx, 0, ctx_like(ctx, ir_reshape(b, y, rank, dim), x));
  return ctx_status(ctx);
}

/* ---- AffineGrid ---------------------------------------------------------- */

/* Coordinates of the elements of a dimension: -1 to 1, or half a step less. */
static ir_value_t *coordinates(convert_ctx_t *ctx, const expr_t *d,
                               bool corners) {
  ir_builder_t *b = ctx->b;
  ir_value_t *i = ir_iota(b, DT_F64, d), *one = ir_scalar(b, DT_F64, 1);
  ir_value_t *size = ir_cast(b, ir_expr_scalar(b, d), DT_F64);
  ir_value_t *twice = ir_scalar(b, DT_F64, 2);
  if (corners) { /* a single element is at -1 */
    ir_value_t *steps = two(ctx, OP_MAX, two(ctx, OP_SUB, size, one), one);
    return two(ctx, OP_SUB, two(ctx, OP_DIV, two(ctx, OP_MUL, i, twice), steps),
               one);
  }
  i = two(ctx, OP_ADD, two(ctx, OP_MUL, i, twice), one);
  return two(ctx, OP_SUB, two(ctx, OP_DIV, i, size), one);
}

/* grid[n, p.., i] = sum over j of theta[n, i, j] * (position of p)[j], the last
 * dimension's coordinate first and 1 at the end. */
moec_status_t convert_affine_grid(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *theta = ctx_in(ctx, 0);
  bool corners = attr_bool(ctx, "align_corners", false);
  unsigned n_sizes;
  if (!ctx_check_rank(ctx, theta, 3, 3, "theta") ||
      !ctx_check_rank(ctx, ctx_in(ctx, 1), 1, 1, "the size"))
    return ctx->status;
  const expr_t **size = ctx_sizes(ctx, ctx_in(ctx, 1), "size", 0, &n_sizes);
  if (size == NULL) return ctx_status(ctx);
  if (n_sizes != 4 && n_sizes != 5)
    return ctx_invalid(ctx, "the size has %u entries, expected 4 or 5",
                       n_sizes);
  unsigned n = n_sizes - 2;
  ir_check_equal(b, ctx_dim(theta, 0), size[0], "matrices and images");
  ir_check_equal(b, ctx_dim(theta, 1), ctx_int(ctx, n), "rows of theta");
  ir_check_equal(b, ctx_dim(theta, 2), ctx_int(ctx, n + 1), "columns of theta");
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *wide = ctx_widen(ctx, theta), *y = NULL;
  const expr_t *one = ctx_int(ctx, 1), *all = ctx_int(ctx, n);
  const expr_t *dim[IR_MAX_RANK] = {ctx_dim(theta, 0)};
  for (unsigned i = 0; i <= n + 1; i++) {
    if (i > 0 && i <= n) dim[i] = one;
    if (i == n + 1) dim[i] = all;
  }
  for (unsigned j = 0; j <= n; j++) {
    ir_value_t *column = ctx_part(ctx, wide, 2, ctx_int(ctx, j), one);
    column = ir_reshape(b, column, n + 2, dim);
    if (j < n) {
      ir_value_t *at = coordinates(ctx, size[n_sizes - 1 - j], corners);
      at = ctx_along(ctx, ctx_like(ctx, at, wide), n - j, n + 2);
      column = two(ctx, OP_MUL, column, at);
    }
    y = y == NULL ? column : two(ctx, OP_ADD, y, column);
  }
  for (unsigned i = 0; i < n; i++) dim[i + 1] = size[i + 2];
  ctx_set_output(ctx, 0, ir_expand(b, ctx_like(ctx, y, theta), n + 2, dim));
  return ctx_status(ctx);
}

/* ---- DeformConv ---------------------------------------------------------- */

typedef struct deform {
  window_t w;
  const expr_t *groups; /* of offsets */
  const expr_t *k, *o;  /* elements of the kernel, of the output */
} deform_t;

/* Positions [N * groups, 1, K * O] along dimension i: of the window's element,
 * and the offset. */
static ir_value_t *deformed(convert_ctx_t *ctx, const deform_t *d,
                            ir_value_t *offset, unsigned i) {
  ir_builder_t *b = ctx->b;
  unsigned n = d->w.n;
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *dim[IR_MAX_RANK];
  ir_value_t *k = ir_iota(b, DT_I64, d->w.kernel[i]);
  ir_value_t *o = ir_iota(b, DT_I64, d->w.out[i]);
  k = two(ctx, OP_MUL, k, ir_scalar_int(b, DT_I64, d->w.dilations[i]));
  o = two(ctx, OP_MUL, o, ir_scalar_int(b, DT_I64, d->w.strides[i]));
  o = two(ctx, OP_SUB, o, ir_expr_scalar(b, d->w.before[i]));
  k = ctx_along(ctx, k, i, 2 * n);
  ir_value_t *at = two(ctx, OP_ADD, k, ctx_along(ctx, o, n + i, 2 * n));
  for (unsigned j = 0; j < n; j++) {
    dim[j] = d->w.kernel[j];
    dim[n + j] = d->w.out[j];
  }
  const expr_t *flat[] = {one, d->k, d->o};
  at = ir_reshape(b, ir_expand(b, at, 2 * n, dim), 3, flat);
  const expr_t *split[] = {expr_mul(ctx->exprs, ctx_dim(offset, 0), d->groups),
                           d->k, ctx_int(ctx, n), d->o};
  offset = ir_reshape(b, offset, 4, split);
  offset = ctx_part(ctx, offset, 2, ctx_int(ctx, i), one);
  offset = ir_squeeze(b, offset, 2);
  at = two(ctx, OP_ADD, offset, ctx_like(ctx, at, offset));
  const expr_t *points[] = {split[0], one, expr_mul(ctx->exprs, d->k, d->o)};
  return ir_reshape(b, at, 3, points);
}

/* The windows [N, C, K, O] that the offsets ask for, masked. */
static ir_value_t *deformed_windows(convert_ctx_t *ctx, const deform_t *d,
                                    ir_value_t *x, ir_value_t *offset,
                                    ir_value_t *mask) {
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  unsigned n = d->w.n;
  const expr_t *images = expr_mul(pool, ctx_dim(x, 0), d->groups);
  const expr_t *each = expr_divide_exactly(pool, ctx_dim(x, 1), d->groups);
  if (each == NULL) {
    each = expr_floordiv(pool, ctx_dim(x, 1), d->groups);
    ir_check_equal(b, expr_mul(pool, each, d->groups), ctx_dim(x, 1),
                   "channels in groups of offsets");
  }
  const expr_t *split[IR_MAX_RANK] = {images, each};
  for (unsigned i = 0; i < n; i++) split[i + 2] = ctx_dim(x, i + 2);
  ir_value_t *image = ir_reshape(b, x, n + 2, split);
  taps_t taps[IR_MAX_RANK];
  for (unsigned i = 0; i < n; i++) {
    ir_value_t *at = deformed(ctx, d, offset, i);
    taps[i] = sampling_taps(ctx, image, at, split[i + 2], 2, BEYOND_ZERO, true);
  }
  ir_value_t *y = sampling_read(ctx, image, taps);
  if (mask != NULL) {
    const expr_t *points[] = {images, ctx_int(ctx, 1),
                              expr_mul(pool, d->k, d->o)};
    mask = ir_reshape(b, ctx_like(ctx, mask, y), 3, points);
    y = two(ctx, OP_MUL, y, mask);
  }
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_dim(x, 1), d->k, d->o};
  return ir_reshape(b, y, 4, dim);
}

/* Offsets and masks have the output's spatial dimensions. */
static void check_maps(convert_ctx_t *ctx, const deform_t *d,
                       const ir_value_t *map, const expr_t *channels,
                       const char *what) {
  unsigned rank = d->w.n + 2;
  if (!ctx_check_rank(ctx, map, rank, rank, what)) return;
  ir_check_equal(ctx->b, ctx_dim(map, 1), channels, what);
  ir_check_equal(ctx->b, ctx_dim(map, 0), ctx_dim(ctx_in(ctx, 0), 0), what);
  for (unsigned i = 0; i < d->w.n; i++)
    ir_check_equal(ctx->b, ctx_dim(map, i + 2), d->w.out[i], what);
}

moec_status_t convert_deform_conv(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *w = ctx_in(ctx, 1);
  ir_value_t *offset = ctx_in(ctx, 2), *mask = ctx_in(ctx, 4);
  ir_value_t *wide = ctx_widen(ctx, x);
  int64_t groups = attr_int(ctx, "offset_group", 1);
  deform_t d;
  MOEC_TRY(ctx->status);
  if (groups < 1 || groups > INT32_MAX)
    return ctx_invalid(ctx, "offset_group is %lld", (long long)groups);
  if (!ctx_check_rank(ctx, w, x->type.rank, x->type.rank, "the weights") ||
      !ctx_check_rank(ctx, x, 3, 7, "the input") ||
      !window_read(ctx, x, w->type.dim + 2, &d.w) ||
      !window_sizes(ctx, x, &d.w))
    return ctx_status(ctx);
  d.groups = ctx_int(ctx, groups);
  d.k = window_kernel_count(ctx, &d.w);
  d.o = window_out_count(ctx, &d.w);
  const expr_t *masks = expr_mul(ctx->exprs, d.groups, d.k);
  check_maps(ctx, &d, offset, expr_mul(ctx->exprs, masks, ctx_int(ctx, d.w.n)),
             "the offsets");
  if (mask != NULL) check_maps(ctx, &d, mask, masks, "the mask");
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *windows =
      deformed_windows(ctx, &d, wide, ctx_widen(ctx, offset), mask);
  ir_value_t *y = window_product(ctx, x, &d.w, ctx_like(ctx, windows, x), w,
                                 ctx_in(ctx, 3));
  ctx_set_output(ctx, 0, y);
  return ctx_status(ctx);
}
