/* Pooling over regions of images that are data: RoiAlign, MaxRoiPool. */
#include <math.h>

#include "frontend/sampling.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* Column `index` of v[R, n] as [R, 1, 1]. */
static ir_value_t *column(convert_ctx_t *ctx, ir_value_t *v, unsigned index) {
  if (v == NULL) return NULL;
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *dim[] = {ctx_dim(v, 0), one, one};
  return ir_reshape(ctx->b, ctx_part(ctx, v, 1, ctx_int(ctx, index), one), 3,
                    dim);
}

/* Indices of images, i64[R, 1, 1]; the run ends where one does not exist. */
static ir_value_t *images_of(convert_ctx_t *ctx, ir_value_t *index,
                             const expr_t *n) {
  ir_builder_t *b = ctx->b;
  int64_t axes[] = {0, 1, 2};
  index = ir_cast(b, index, DT_I64);
  const expr_t *last = expr_sub(ctx->exprs, n, ctx_int(ctx, 1));
  ir_value_t *zero = ir_scalar_int(b, DT_I64, 0);
  ir_value_t *low = ir_reduce(b, OP_REDUCE_MIN, index, 3, axes, false);
  ir_value_t *high = ir_reduce(b, OP_REDUCE_MAX, index, 3, axes, false);
  high = two(ctx, OP_MAX, high, zero); /* of no regions */
  ir_value_t *beyond = two(ctx, OP_SUB, high, ir_expr_scalar(b, last));
  ir_bind(b, two(ctx, OP_MIN, low, zero), 0, "index of an image", 0, NULL);
  ir_bind(b, two(ctx, OP_MAX, beyond, zero), 0,
          "index of an image beyond the last", 0, ctx_int(ctx, 0));
  return index;
}

static bool positive(convert_ctx_t *ctx, const char *name, int64_t value) {
  if (value >= 1 && value <= INT32_MAX) return ctx->status == MOEC_OK;
  ctx_invalid(ctx, "%s is %lld", name, (long long)value);
  return false;
}

/* ---- RoiAlign ------------------------------------------------------------ */

/* One dimension of the regions. */
typedef struct span {
  const expr_t *d;        /* of the image */
  const expr_t *bins;     /* of the result */
  const expr_t *n;        /* samples of a bin, at most */
  ir_value_t *count;      /* of a region's bins: i64[R, 1, 1] */
  ir_value_t *counts;     /* bool[R, bins * n]: whether a sample is one */
  ir_value_t *inside;     /* bool[R, bins * n]: not far beyond the image */
  ir_value_t *low, *high; /* i64[R, bins * n] */
  ir_value_t *weight_low, *weight_high;
} span_t;

/* The samples of dimension `d`, of regions from `start` to `end`, [R, 1, 1]. */
static bool find_samples(convert_ctx_t *ctx, span_t *s, ir_value_t *start,
                         ir_value_t *end, int64_t ratio, bool shifted) {
  ir_builder_t *b = ctx->b;
  if (start == NULL || end == NULL) return false;
  ir_value_t *one = ctx_scalar(ctx, start, 1),
             *zero = ctx_scalar(ctx, start, 0);
  ir_value_t *length = two(ctx, OP_SUB, end, start);
  if (!shifted) length = two(ctx, OP_MAX, length, one);
  ir_value_t *bin = two(ctx, OP_DIV, length,
                        ctx_like(ctx, ir_expr_scalar(b, s->bins), start));
  int64_t axes[] = {0, 1, 2};
  ir_value_t *least = ir_scalar_int(b, DT_I64, 0);
  if (ratio > 0) {
    s->count = ir_scalar_int(b, DT_I64, ratio);
    s->n = ctx_int(ctx, ratio);
  } else {
    s->count =
        two(ctx, OP_MAX, least, ir_cast(b, ir_unary(b, OP_CEIL, bin), DT_I64));
    ir_value_t *most = ir_reduce(b, OP_REDUCE_MAX, s->count, 3, axes, false);
    s->n = ir_bind(b, two(ctx, OP_MAX, most, least), 0, "samples", 0, NULL);
  }
  if (s->n == NULL) return false;
  ir_value_t *i = ir_iota(b, DT_I64, s->n);
  ir_value_t *step = ctx_like(ctx, i, start);
  step = two(ctx, OP_ADD, step, ctx_scalar(ctx, start, 0.5));
  step = two(ctx, OP_MUL, step, bin); /* [R, 1, n] */
  step = two(ctx, OP_DIV, step, ctx_like(ctx, s->count, start));
  ir_value_t *first = ir_unsqueeze(b, ir_iota(b, DT_I64, s->bins), 1);
  first = two(ctx, OP_MUL, ctx_like(ctx, first, start), bin);
  ir_value_t *at = two(ctx, OP_ADD, two(ctx, OP_ADD, start, first), step);
  if (at == NULL) return false;
  const expr_t *all = expr_mul(ctx->exprs, s->bins, s->n);
  const expr_t *dim[] = {ctx_dim(start, 0), all};
  s->counts = two(ctx, OP_LT, i, s->count);
  s->counts = ir_expand(b, s->counts, 3, at->type.dim);
  s->counts = ir_reshape(b, s->counts, 2, dim);
  at = ir_reshape(b, at, 2, dim);
  ir_value_t *size = ctx_like(ctx, ir_expr_scalar(b, s->d), at);
  ir_value_t *last = two(ctx, OP_SUB, size, one);
  s->inside = two(ctx, OP_LE, ctx_scalar(ctx, at, -1), at);
  s->inside = two(ctx, OP_AND, s->inside, two(ctx, OP_LE, at, size));
  at = two(ctx, OP_MIN, two(ctx, OP_MAX, at, zero), last);
  ir_value_t *low = ir_unary(b, OP_FLOOR, at);
  ir_value_t *high = two(ctx, OP_MIN, two(ctx, OP_ADD, low, one), last);
  s->weight_high = two(ctx, OP_SUB, at, low);
  s->weight_low = two(ctx, OP_SUB, one, s->weight_high);
  s->low = ir_cast(b, low, DT_I64);
  s->high = ir_cast(b, high, DT_I64);
  return ctx_status(ctx) == MOEC_OK;
}

/* v[R, n] of rows or columns over samples [R, 1, rows * columns]. */
static ir_value_t *over(convert_ctx_t *ctx, ir_value_t *v, bool rows,
                        const expr_t *n_rows, const expr_t *n_columns) {
  ir_builder_t *b = ctx->b;
  if (v == NULL) return NULL;
  const expr_t *r = ctx_dim(v, 0);
  const expr_t *full[] = {r, n_rows, n_columns};
  const expr_t *flat[] = {r, ctx_int(ctx, 1),
                          expr_mul(ctx->exprs, n_rows, n_columns)};
  v = ir_expand(b, ir_unsqueeze(b, v, rows ? 2 : 1), 3, full);
  return ir_reshape(b, v, 3, flat);
}

/* A corner of the samples, weighted: [R, C, rows * columns]. */
static ir_value_t *corner(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *image,
                          const span_t *y_span, const span_t *x_span, bool down,
                          bool right) {
  const expr_t *rows = expr_mul(ctx->exprs, y_span->bins, y_span->n);
  const expr_t *columns = expr_mul(ctx->exprs, x_span->bins, x_span->n);
  ir_value_t *row = down ? y_span->high : y_span->low;
  ir_value_t *col = right ? x_span->high : x_span->low;
  ir_value_t *wy = down ? y_span->weight_high : y_span->weight_low;
  ir_value_t *wx = right ? x_span->weight_high : x_span->weight_low;
  ir_value_t *place[] = {over(ctx, row, true, rows, columns),
                         over(ctx, col, false, rows, columns)};
  wy = over(ctx, wy, true, rows, columns);
  wx = over(ctx, wx, false, rows, columns);
  ir_value_t *inside = over(ctx, y_span->inside, true, rows, columns);
  inside =
      two(ctx, OP_AND, inside, over(ctx, x_span->inside, false, rows, columns));
  ir_value_t *v = sampling_gather(ctx, x, image, place);
  v = two(ctx, OP_MUL, two(ctx, OP_MUL, wy, wx), v);
  return ir_select(ctx->b, inside, v, ctx_scalar(ctx, x, 0));
}

/* Samples [R, C, rows * columns] as bins of the result. */
static ir_value_t *pool_samples(convert_ctx_t *ctx, ir_value_t *v,
                                const span_t *y_span, const span_t *x_span,
                                bool max) {
  ir_builder_t *b = ctx->b;
  if (v == NULL) return NULL;
  const expr_t *rows = expr_mul(ctx->exprs, y_span->bins, y_span->n);
  const expr_t *columns = expr_mul(ctx->exprs, x_span->bins, x_span->n);
  static const int64_t axes[] = {3, 5};
  ir_value_t *counts = over(ctx, y_span->counts, true, rows, columns);
  counts =
      two(ctx, OP_AND, counts, over(ctx, x_span->counts, false, rows, columns));
  ir_value_t *zero = ctx_scalar(ctx, v, 0);
  ir_value_t *none = max ? ctx_scalar(ctx, v, -(double)INFINITY) : zero;
  const expr_t *dim[] = {ctx_dim(v, 0), ctx_dim(v, 1), y_span->bins,
                         y_span->n,     x_span->bins,  x_span->n};
  v = ir_reshape(b, ir_select(b, counts, v, none), 6, dim);
  v = ir_reduce(b, max ? OP_REDUCE_MAX : OP_REDUCE_SUM, v, 2, axes, false);
  ir_value_t *count = two(ctx, OP_MUL, y_span->count, x_span->count);
  ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
  if (count != NULL && count->type.rank == 3) count = ir_unsqueeze(b, count, 3);
  if (max) /* of no samples: 0 */
    return ir_select(b, two(ctx, OP_LT, count, one), zero, v);
  return two(ctx, OP_DIV, v, ctx_like(ctx, two(ctx, OP_MAX, count, one), v));
}

moec_status_t convert_roi_align(convert_ctx_t *ctx) {
  static const char *const modes[] = {"avg", "max", NULL};
  static const char *const shifts[] = {"half_pixel", "output_half_pixel", NULL};
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *wide = ctx_widen(ctx, x);
  ir_value_t *rois = ctx_widen(ctx, ctx_in(ctx, 1)), *batch = ctx_in(ctx, 2);
  bool max = attr_choice(ctx, "mode", modes) == 1;
  bool shifted =
      ctx->opset >= 16 &&
      attr_choice(ctx, "coordinate_transformation_mode", shifts) == 0;
  int64_t height = attr_int(ctx, "output_height", 1);
  int64_t width = attr_int(ctx, "output_width", 1);
  int64_t ratio = attr_int(ctx, "sampling_ratio", 0);
  double scale = attr_float(ctx, "spatial_scale", 1);
  if (!positive(ctx, "output_height", height) ||
      !positive(ctx, "output_width", width) ||
      !ctx_check_rank(ctx, x, 4, 4, "the input") ||
      !ctx_check_rank(ctx, rois, 2, 2, "rois") ||
      !ctx_check_rank(ctx, batch, 1, 1, "batch_indices"))
    return ctx_status(ctx);
  if (ratio < 0 || ratio > 65536)
    return ctx_invalid(ctx, "sampling_ratio is %lld", (long long)ratio);
  ir_check_equal(b, ctx_dim(rois, 1), ctx_int(ctx, 4), "numbers of a region");
  ir_check_equal(b, ctx_dim(rois, 0), ctx_dim(batch, 0),
                 "number of regions and of their images");
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *bound[4];
  for (unsigned i = 0; i < 4; i++) {
    bound[i] = column(ctx, rois, i);
    bound[i] = two(ctx, OP_MUL, bound[i], ctx_scalar(ctx, rois, scale));
    if (shifted)
      bound[i] = two(ctx, OP_SUB, bound[i], ctx_scalar(ctx, rois, 0.5));
    bound[i] = ctx_like(ctx, bound[i], wide);
  }
  ir_value_t *image =
      images_of(ctx, ctx_along(ctx, batch, 0, 3), ctx_dim(x, 0));
  span_t y_span = {.d = ctx_dim(x, 2), .bins = ctx_int(ctx, height)};
  span_t x_span = {.d = ctx_dim(x, 3), .bins = ctx_int(ctx, width)};
  if (!find_samples(ctx, &x_span, bound[0], bound[2], ratio, shifted) ||
      !find_samples(ctx, &y_span, bound[1], bound[3], ratio, shifted))
    return ctx_status(ctx);
  ir_value_t *all = NULL;
  for (unsigned i = 0; i < 4; i++) {
    ir_value_t *v =
        corner(ctx, wide, image, &y_span, &x_span, i >= 2, i % 2 == 1);
    all = all == NULL ? v : two(ctx, max ? OP_MAX : OP_ADD, all, v);
  }
  ir_value_t *y = pool_samples(ctx, all, &y_span, &x_span, max);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  return ctx_status(ctx);
}

/* ---- MaxRoiPool ---------------------------------------------------------- */

/* Whether place p of a dimension belongs to a bin: bool[R, bins, d], of regions
 * from `start` to `end`, both inclusive, f32[R, 1, 1] of whole numbers. */
static ir_value_t *in_bin(convert_ctx_t *ctx, ir_value_t *start,
                          ir_value_t *end, int64_t bins, const expr_t *d) {
  ir_builder_t *b = ctx->b;
  if (start == NULL) return NULL;
  ir_value_t *one = ctx_scalar(ctx, start, 1);
  ir_value_t *length = two(ctx, OP_ADD, two(ctx, OP_SUB, end, start), one);
  length = two(ctx, OP_MAX, length, one);
  ir_value_t *each =
      two(ctx, OP_DIV, length, ctx_scalar(ctx, start, (double)bins));
  ir_value_t *i = ir_iota(b, DT_I64, ctx_int(ctx, bins));
  i = ctx_like(ctx, ir_unsqueeze(b, i, 1), start);
  ir_value_t *low = ir_unary(b, OP_FLOOR, two(ctx, OP_MUL, i, each));
  ir_value_t *next = two(ctx, OP_ADD, i, one);
  ir_value_t *high = ir_unary(b, OP_CEIL, two(ctx, OP_MUL, next, each));
  ir_value_t *place = ctx_like(ctx, ir_iota(b, DT_I64, d), start);
  low = two(ctx, OP_LE, two(ctx, OP_ADD, low, start), place);
  high = two(ctx, OP_LT, place, two(ctx, OP_ADD, high, start));
  return two(ctx, OP_AND, low, high);
}

/* max over the last dimension of v[R, C, n, d] where member[R, bins, d]:
 * [R, C, bins, n]. */
static ir_value_t *max_where(convert_ctx_t *ctx, ir_value_t *v,
                             ir_value_t *member) {
  ir_builder_t *b = ctx->b;
  if (v == NULL || member == NULL) return NULL;
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *wide[] = {ctx_dim(v, 0), ctx_dim(v, 1), one, ctx_dim(v, 2),
                          ctx_dim(v, 3)};
  const expr_t *bins[] = {ctx_dim(member, 0), one, ctx_dim(member, 1), one,
                          ctx_dim(member, 2)};
  ir_value_t *none = ctx_scalar(ctx, v, -(double)INFINITY);
  member = ir_reshape(b, member, 5, bins);
  v = ir_select(b, member, ir_reshape(b, v, 5, wide), none);
  int64_t axis = 4;
  return ir_reduce(b, OP_REDUCE_MAX, v, 1, &axis, false);
}

moec_status_t convert_max_roi_pool(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *rois = ctx_in(ctx, 1), *bound[4];
  unsigned n;
  const int64_t *shape = attr_ints(ctx, "pooled_shape", &n);
  double scale = attr_float(ctx, "spatial_scale", 1);
  MOEC_TRY(ctx->status);
  if (shape == NULL || n != 2)
    return ctx_invalid(ctx, "pooled_shape has %u entries, expected 2", n);
  if (!positive(ctx, "pooled_shape", shape[0]) ||
      !positive(ctx, "pooled_shape", shape[1]) ||
      !ctx_check_rank(ctx, x, 4, 4, "the input") ||
      !ctx_check_rank(ctx, rois, 2, 2, "rois"))
    return ctx_status(ctx);
  ir_check_equal(b, ctx_dim(rois, 1), ctx_int(ctx, 5), "numbers of a region");
  MOEC_TRY(ctx_status(ctx));
  rois = ctx_widen(ctx, rois);
  ir_value_t *half = ctx_scalar(ctx, rois, 0.5);
  for (unsigned i = 0; i < 4; i++) { /* rounded, halves away from 0 */
    ir_value_t *at = column(ctx, rois, i + 1);
    at = two(ctx, OP_MUL, at, ctx_scalar(ctx, rois, scale));
    ir_value_t *size = two(ctx, OP_ADD, ir_unary(b, OP_ABS, at), half);
    bound[i] = ir_unary(b, OP_SIGN, at);
    bound[i] = two(ctx, OP_MUL, bound[i], ir_unary(b, OP_FLOOR, size));
  }
  ir_value_t *image = images_of(ctx, column(ctx, rois, 0), ctx_dim(x, 0));
  ir_value_t *columns =
      in_bin(ctx, bound[0], bound[2], shape[1], ctx_dim(x, 3));
  ir_value_t *rows = in_bin(ctx, bound[1], bound[3], shape[0], ctx_dim(x, 2));
  const expr_t *vector = ctx_dim(rois, 0);
  ir_value_t *v = ir_gather(b, x, ir_reshape(b, image, 1, &vector), 0);
  v = max_where(ctx, v, columns); /* [R, C, columns, H] */
  v = max_where(ctx, v, rows);    /* [R, C, rows, columns] */
  if (v == NULL) return ctx_status(ctx);
  int64_t axis = 2;
  ir_value_t *any = ir_cast(b, rows, DT_I64);
  any = ir_reduce(b, OP_REDUCE_MAX, any, 1, &axis, true);
  axis = 2;
  ir_value_t *any_column = ir_cast(b, columns, DT_I64);
  any_column = ir_reduce(b, OP_REDUCE_MAX, any_column, 1, &axis, false);
  any_column = ir_unsqueeze(b, any_column, 1);
  ir_value_t *filled = two(ctx, OP_MIN, any, any_column);
  filled = two(ctx, OP_LT, ir_scalar_int(b, DT_I64, 0), filled);
  filled = ir_unsqueeze(b, filled, 1); /* [R, 1, rows, columns] */
  ctx_set_output(ctx, 0, ir_select(b, filled, v, ctx_scalar(ctx, x, 0)));
  return ctx_status(ctx);
}
