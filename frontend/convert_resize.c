/* Resize and Upsample: one axis after the other, each element of the result a
 * weighted sum of elements of the input along the axis. Positions and weights
 * are computed in f64. */
#include <math.h>

#include "frontend/convert.h"

typedef enum { NEAREST, LINEAR, CUBIC } resize_mode_t;

typedef enum {
  HALF_PIXEL,
  HALF_PIXEL_SYMMETRIC,
  PYTORCH_HALF_PIXEL,
  ALIGN_CORNERS,
  ASYMMETRIC,
  CROP_AND_RESIZE,
  HALF_PIXEL_FOR_NEAREST
} transform_t;

/* BY_SCALE: up when shrinking, else down, as Resize of opset 10 has it. */
typedef enum { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL, BY_SCALE } rounding_t;

typedef struct resized_axis {
  unsigned d;
  const expr_t *in, *out;
  ir_value_t *scale;       /* f64[] */
  ir_value_t *width;       /* f64[]: the output's, perhaps with a fraction */
  double known_scale;      /* NaN: by data */
  ir_value_t *start, *end; /* f64[]: the region, of CROP_AND_RESIZE */
} resized_axis_t;

typedef struct resize {
  resize_mode_t mode;
  transform_t transform;
  rounding_t rounding;
  bool antialias, exclude_outside;
  double cubic_a, extrapolation;
  unsigned n; /* axes, in the order of the operands */
  resized_axis_t axis[IR_MAX_RANK];
} resize_t;

static ir_value_t *num(convert_ctx_t *ctx, double value) {
  return ir_scalar(ctx->b, DT_F64, value);
}

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static ir_value_t *size_f64(convert_ctx_t *ctx, const expr_t *e) {
  return ir_cast(ctx->b, ir_expr_scalar(ctx->b, e), DT_F64);
}

/* Element `index` of a vector as an f64 scalar. */
static ir_value_t *element(convert_ctx_t *ctx, ir_value_t *v, unsigned index) {
  ir_value_t *part = ctx_part(ctx, v, 0, ctx_int(ctx, index), ctx_int(ctx, 1));
  return ir_cast(ctx->b, ir_reshape(ctx->b, part, 0, NULL), DT_F64);
}

static bool has_elements(const ir_value_t *v) {
  int64_t count;
  return v != NULL && !(ir_type_static_count(&v->type, &count) && count == 0);
}

/* ---- Sizes --------------------------------------------------------------- */

/* floor(in * scale), in f32 as type inference has it. */
static const expr_t *scaled_size(convert_ctx_t *ctx, const resized_axis_t *a,
                                 ir_value_t *scale) {
  int64_t in;
  double known = a->known_scale;
  if (known == floor(known) && known >= 0 && known < 1e6)
    return expr_mul(ctx->exprs, a->in, ctx_int(ctx, (int64_t)known));
  if (expr_is_const(a->in, &in) && known >= 0 && known < 1e6)
    return ctx_int(ctx, (int64_t)floorf((float)in * (float)known));
  ir_value_t *size = ir_cast(ctx->b, ir_expr_scalar(ctx->b, a->in), DT_F32);
  size = two(ctx, OP_MUL, size, ir_cast(ctx->b, scale, DT_F32));
  size = ir_cast(ctx->b, ir_unary(ctx->b, OP_FLOOR, size), DT_I64);
  return ir_bind(ctx->b, size, 0, "size", 0, NULL);
}

static bool read_scales(convert_ctx_t *ctx, resize_t *r, ir_value_t *scales) {
  unsigned n;
  const double *known;
  if (!ctx_check_rank(ctx, scales, 1, 1, "scales")) return false;
  ir_check_equal(ctx->b, ctx_dim(scales, 0), ctx_int(ctx, r->n),
                 "number of scales and of axes");
  if (ctx_status(ctx) != MOEC_OK) return false;
  bool constant = ctx_const_floats(ctx, scales, &n, &known) && n == r->n;
  for (unsigned i = 0; i < r->n; i++) {
    resized_axis_t *a = &r->axis[i];
    a->known_scale = constant ? known[i] : (double)NAN;
    if (constant && !(known[i] > 0 && known[i] < 1e6)) {
      ctx_invalid(ctx, "scale %u is %g", i, known[i]);
      return false;
    }
    a->scale = element(ctx, scales, i);
    a->out = scaled_size(ctx, a, a->scale);
    if (a->out == NULL) return false;
    a->width = two(ctx, OP_MUL, a->scale, size_f64(ctx, a->in));
  }
  return true;
}

/* The one scale of all axes that keeps the proportions, and the sizes by it. */
static bool keep_proportions(convert_ctx_t *ctx, resize_t *r, bool larger) {
  int64_t in, out;
  double known = larger ? -(double)INFINITY : (double)INFINITY;
  ir_value_t *scale = NULL;
  for (unsigned i = 0; i < r->n; i++) {
    resized_axis_t *a = &r->axis[i];
    if (expr_is_const(a->in, &in) && expr_is_const(a->out, &out)) {
      double s = (double)out / (double)in;
      known = larger ? fmax(known, s) : fmin(known, s);
    } else {
      known = (double)NAN;
      break;
    }
  }
  for (unsigned i = 0; i < r->n; i++) {
    ir_value_t *s = r->axis[i].scale;
    scale = scale == NULL ? s : two(ctx, larger ? OP_MAX : OP_MIN, scale, s);
  }
  for (unsigned i = 0; i < r->n; i++) {
    resized_axis_t *a = &r->axis[i];
    a->scale = scale;
    a->known_scale = known;
    if (!isnan(known) && expr_is_const(a->in, &in)) {
      a->out = ctx_int(ctx, (int64_t)floor(known * (double)in + 0.5));
    } else {
      ir_value_t *size = two(ctx, OP_MUL, scale, size_f64(ctx, a->in));
      size = ir_unary(ctx->b, OP_FLOOR, two(ctx, OP_ADD, size, num(ctx, 0.5)));
      size = ir_cast(ctx->b, size, DT_I64);
      a->out = ir_bind(ctx->b, size, 0, "size", 0, NULL);
      if (a->out == NULL) return false;
    }
    a->width = two(ctx, OP_MUL, scale, size_f64(ctx, a->in));
  }
  return true;
}

static bool read_sizes(convert_ctx_t *ctx, resize_t *r, ir_value_t *sizes) {
  static const char *const policies[] = {"stretch", "not_larger", "not_smaller",
                                         NULL};
  unsigned n;
  unsigned policy = ctx->opset >= 18
                        ? attr_choice(ctx, "keep_aspect_ratio_policy", policies)
                        : 0;
  if (!ctx_check_rank(ctx, sizes, 1, 1, "sizes")) return false;
  ir_check_equal(ctx->b, ctx_dim(sizes, 0), ctx_int(ctx, r->n),
                 "number of sizes and of axes");
  if (ctx_status(ctx) != MOEC_OK) return false;
  const expr_t **size = ctx_sizes(ctx, sizes, "size", 0, &n);
  if (size == NULL || n != r->n) {
    ctx_unsupported(ctx, "the number of sizes is not known");
    return false;
  }
  for (unsigned i = 0; i < r->n; i++) {
    resized_axis_t *a = &r->axis[i];
    int64_t in, out;
    a->out = size[i];
    a->known_scale =
        expr_is_const(a->in, &in) && expr_is_const(a->out, &out) && in > 0
            ? (double)out / (double)in
            : (double)NAN;
    a->width = size_f64(ctx, a->out);
    a->scale = two(ctx, OP_DIV, a->width, size_f64(ctx, a->in));
  }
  return policy == 0 || r->n == 0 || keep_proportions(ctx, r, policy == 2);
}

/* ---- Positions ----------------------------------------------------------- */

/* (y + 0.5) / scale */
static ir_value_t *of_centre(convert_ctx_t *ctx, const resized_axis_t *a,
                             ir_value_t *y) {
  return two(ctx, OP_DIV, two(ctx, OP_ADD, y, num(ctx, 0.5)), a->scale);
}

/* y * (in - 1) / (width - 1), 0 where there is one element. */
static ir_value_t *between_corners(convert_ctx_t *ctx, const resized_axis_t *a,
                                   ir_value_t *y, ir_value_t *span) {
  ir_value_t *one = num(ctx, 1);
  ir_value_t *below = two(ctx, OP_SUB, a->width, one);
  ir_value_t *at = two(ctx, OP_DIV, two(ctx, OP_MUL, y, span), below);
  ir_value_t *single = two(ctx, OP_EQ, a->width, one);
  return ir_select(ctx->b, single, num(ctx, 0), at);
}

/* Position in the input, f64[out], of each element of the result. */
static ir_value_t *origin(convert_ctx_t *ctx, const resize_t *r,
                          const resized_axis_t *a) {
  ir_builder_t *b = ctx->b;
  ir_value_t *y = ir_iota(b, DT_F64, a->out), *half = num(ctx, 0.5);
  ir_value_t *in = size_f64(ctx, a->in), *out = size_f64(ctx, a->out);
  ir_value_t *one = num(ctx, 1), *x, *extent, *whole, *several;
  ir_value_t *last = two(ctx, OP_SUB, in, one);
  switch (r->transform) {
    case ASYMMETRIC:
      return two(ctx, OP_DIV, y, a->scale);
    case HALF_PIXEL_FOR_NEAREST:
      return of_centre(ctx, a, y);
    case HALF_PIXEL:
      return two(ctx, OP_SUB, of_centre(ctx, a, y), half);
    case PYTORCH_HALF_PIXEL:
      x = two(ctx, OP_SUB, of_centre(ctx, a, y), half);
      several = two(ctx, OP_LT, one, out);
      return ir_select(b, several, x, num(ctx, 0));
    case HALF_PIXEL_SYMMETRIC: /* in / 2 * (1 - out / width) aside */
      extent = two(ctx, OP_SUB, one, two(ctx, OP_DIV, out, a->width));
      extent = two(ctx, OP_MUL, two(ctx, OP_MUL, in, half), extent);
      return two(ctx, OP_SUB, two(ctx, OP_ADD, extent, of_centre(ctx, a, y)),
                 half);
    case ALIGN_CORNERS:
      return between_corners(ctx, a, y, last);
    default: /* CROP_AND_RESIZE */
      extent = two(ctx, OP_SUB, a->end, a->start);
      extent = two(ctx, OP_MUL, extent, last);
      x = between_corners(ctx, a, y, extent);
      whole = two(ctx, OP_EQ, a->width, one);
      x = ir_select(b, whole, two(ctx, OP_MUL, extent, half), x);
      return two(ctx, OP_ADD, x, two(ctx, OP_MUL, a->start, last));
  }
}

/* Positions as indices within the axis. */
static ir_value_t *clamped(convert_ctx_t *ctx, const resized_axis_t *a,
                           ir_value_t *at) {
  ir_value_t *last =
      ir_expr_scalar(ctx->b, expr_sub(ctx->exprs, a->in, ctx_int(ctx, 1)));
  ir_value_t *index = two(ctx, OP_MIN, ir_cast(ctx->b, at, DT_I64), last);
  return two(ctx, OP_MAX, index, ir_scalar_int(ctx->b, DT_I64, 0));
}

static ir_value_t *nearest(convert_ctx_t *ctx, const resize_t *r,
                           const resized_axis_t *a, ir_value_t *at) {
  ir_builder_t *b = ctx->b;
  ir_value_t *half = num(ctx, 0.5), *shrinks, *above;
  switch (r->rounding) {
    case PREFER_FLOOR:
      return ir_unary(b, OP_CEIL, two(ctx, OP_SUB, at, half));
    case PREFER_CEIL:
      return ir_unary(b, OP_FLOOR, two(ctx, OP_ADD, at, half));
    case FLOOR:
      return ir_unary(b, OP_FLOOR, at);
    case CEIL:
      return ir_unary(b, OP_CEIL, at);
    default:
      shrinks = two(ctx, OP_LT, a->scale, num(ctx, 1));
      above = ir_unary(b, OP_CEIL, at);
      return ir_select(b, shrinks, above, ir_unary(b, OP_FLOOR, at));
  }
}

/* ---- Weights ------------------------------------------------------------- */

/* ((p * d + q) * d + s) * d + t */
static ir_value_t *cubic(convert_ctx_t *ctx, ir_value_t *d, double p, double q,
                         double s, double t) {
  ir_value_t *y = two(ctx, OP_MUL, num(ctx, p), d);
  y = two(ctx, OP_MUL, two(ctx, OP_ADD, y, num(ctx, q)), d);
  y = two(ctx, OP_MUL, two(ctx, OP_ADD, y, num(ctx, s)), d);
  return two(ctx, OP_ADD, y, num(ctx, t));
}

/* Weight of an element at a distance d >= 0: a triangle, or Keys' cubic. */
static ir_value_t *filter(convert_ctx_t *ctx, const resize_t *r,
                          ir_value_t *d) {
  ir_builder_t *b = ctx->b;
  ir_value_t *zero = num(ctx, 0), *one = num(ctx, 1);
  double a = r->cubic_a;
  if (r->mode == LINEAR)
    return two(ctx, OP_MAX, two(ctx, OP_SUB, one, d), zero);
  ir_value_t *near = cubic(ctx, d, a + 2, -(a + 3), 0, 1);
  ir_value_t *far = cubic(ctx, d, a, -5 * a, 8 * a, -4 * a);
  far = ir_select(b, two(ctx, OP_LT, d, num(ctx, 2)), far, zero);
  return ir_select(b, two(ctx, OP_LE, d, one), near, far);
}

/* How many elements on each side are within the filter, stretched where the
 * axis shrinks; *out_shrink is what distances are multiplied by. */
static const expr_t *reach(convert_ctx_t *ctx, const resize_t *r,
                           const resized_axis_t *a, ir_value_t **out_shrink) {
  double c = r->mode == LINEAR ? 1 : 2;
  *out_shrink = num(ctx, 1);
  if (!r->antialias) return ctx_int(ctx, (int64_t)c);
  *out_shrink = two(ctx, OP_MIN, a->scale, num(ctx, 1));
  double s = fmin(a->known_scale, 1);
  if (!isnan(a->known_scale) && c / s < 1e9)
    return ctx_int(ctx, (int64_t)ceil(c / s));
  ir_value_t *n = two(ctx, OP_DIV, num(ctx, c), *out_shrink);
  n = ir_cast(ctx->b, ir_unary(ctx->b, OP_CEIL, n), DT_I64);
  return ir_bind(ctx->b, n, 0, "reach", 0, NULL);
}

/* y along the axis as the sum of `taps` elements with weights: positions and
 * weights are f64[out, taps]. */
static ir_value_t *weighted(convert_ctx_t *ctx, ir_value_t *x,
                            const resized_axis_t *a, ir_value_t *position,
                            ir_value_t *weight, const expr_t *taps) {
  ir_builder_t *b = ctx->b;
  unsigned rank = x->type.rank;
  ir_value_t *index = clamped(ctx, a, position), *sum = NULL;
  int64_t n;
  weight = ir_cast(b, weight, x->type.dtype);
  if (expr_is_const(taps, &n) && n <= 4) {
    for (int64_t i = 0; i < n; i++) {
      const expr_t *at = ctx_int(ctx, i), *one = ctx_int(ctx, 1);
      ir_value_t *from = ir_squeeze(b, ctx_part(ctx, index, 1, at, one), 1);
      ir_value_t *w = ir_squeeze(b, ctx_part(ctx, weight, 1, at, one), 1);
      ir_value_t *part = ir_gather(b, x, from, a->d);
      part = two(ctx, OP_MUL, part, ctx_along(ctx, w, a->d, rank));
      sum = sum == NULL ? part : two(ctx, OP_ADD, sum, part);
    }
    return sum;
  }
  const expr_t *dim[IR_MAX_RANK + 1];
  for (unsigned i = 0; i <= rank; i++)
    dim[i] = i == a->d ? a->out : i == a->d + 1 ? taps : ctx_int(ctx, 1);
  ir_value_t *all = ir_gather(b, x, index, a->d);
  all = two(ctx, OP_MUL, all, ir_reshape(b, weight, rank + 1, dim));
  int64_t axis = a->d + 1;
  return ir_reduce(b, OP_REDUCE_SUM, all, 1, &axis, false);
}

static ir_value_t *interpolate(convert_ctx_t *ctx, const resize_t *r,
                               const resized_axis_t *a, ir_value_t *x,
                               ir_value_t *at) {
  ir_builder_t *b = ctx->b;
  ir_value_t *shrink;
  const expr_t *side = reach(ctx, r, a, &shrink);
  if (side == NULL || x == NULL || at == NULL) return NULL;
  const expr_t *taps = expr_mul(ctx->exprs, side, ctx_int(ctx, 2));
  const expr_t *before = expr_sub(ctx->exprs, ctx_int(ctx, 1), side);
  ir_value_t *step = ir_iota(b, DT_F64, taps);
  step = two(ctx, OP_ADD, step, size_f64(ctx, before));
  at = ir_unsqueeze(b, at, 1);
  ir_value_t *position = two(ctx, OP_ADD, ir_unary(b, OP_FLOOR, at), step);
  ir_value_t *distance = two(ctx, OP_SUB, position, at);
  distance = two(ctx, OP_MUL, ir_unary(b, OP_ABS, distance), shrink);
  ir_value_t *weight = filter(ctx, r, distance);
  if (r->exclude_outside) {
    ir_value_t *low = two(ctx, OP_LT, position, num(ctx, 0));
    ir_value_t *high = two(ctx, OP_LE, size_f64(ctx, a->in), position);
    ir_value_t *beyond = two(ctx, OP_OR, low, high);
    weight = ir_select(b, beyond, num(ctx, 0), weight);
  }
  if (r->exclude_outside || r->antialias) {
    int64_t axis = 1;
    ir_value_t *sum = ir_reduce(b, OP_REDUCE_SUM, weight, 1, &axis, true);
    ir_value_t *none = two(ctx, OP_EQ, sum, num(ctx, 0));
    sum = ir_select(b, none, num(ctx, 1), sum);
    weight = two(ctx, OP_DIV, weight, sum);
  }
  return weighted(ctx, x, a, position, weight, taps);
}

/* ---- The operators ------------------------------------------------------- */

/* Whether an axis stays as it is. */
static bool stays(const resize_t *r, const resized_axis_t *a) {
  return a->in == a->out && (a->known_scale == 1 || isnan(a->known_scale)) &&
         r->transform != CROP_AND_RESIZE &&
         r->transform != HALF_PIXEL_FOR_NEAREST;
}

static ir_value_t *outside(convert_ctx_t *ctx, const resized_axis_t *a,
                           ir_value_t *at) {
  ir_value_t *last = size_f64(ctx, a->in);
  last = two(ctx, OP_SUB, last, num(ctx, 1));
  ir_value_t *low = two(ctx, OP_LT, at, num(ctx, 0));
  return two(ctx, OP_OR, low, two(ctx, OP_LT, last, at));
}

static moec_status_t build(convert_ctx_t *ctx, const resize_t *r) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *y = x, *beyond = NULL;
  unsigned rank = x->type.rank;
  bool whole = !dtype_is_float(x->type.dtype);
  if (r->mode != NEAREST) {
    bool wide =
        x->type.dtype == DT_F64 || (whole && dtype_bits(x->type.dtype) > 16);
    y = ir_cast(b, x, wide ? DT_F64 : DT_F32);
  }
  for (unsigned i = 0; i < r->n; i++) {
    const resized_axis_t *a = &r->axis[i];
    if (stays(r, a)) continue;
    ir_value_t *at = origin(ctx, r, a);
    if (r->mode == NEAREST)
      y = ir_gather(b, y, clamped(ctx, a, nearest(ctx, r, a, at)), a->d);
    else
      y = interpolate(ctx, r, a, y, at);
    if (r->transform != CROP_AND_RESIZE) continue;
    ir_value_t *here = ctx_along(ctx, outside(ctx, a, at), a->d, rank);
    beyond = beyond == NULL ? here : two(ctx, OP_OR, beyond, here);
  }
  if (beyond != NULL && y != NULL)
    y = ir_select(b, beyond, ctx_scalar(ctx, y, r->extrapolation), y);
  if (r->mode != NEAREST && whole) y = ir_unary(b, OP_ROUND, y);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, x));
  return ctx_status(ctx);
}

static bool read_axes(convert_ctx_t *ctx, resize_t *r) {
  const ir_value_t *x = ctx_in(ctx, 0);
  unsigned n = 0, rank = x->type.rank;
  bool seen[IR_MAX_RANK] = {false};
  const int64_t *axes = ctx->opset >= 18 ? attr_ints(ctx, "axes", &n) : NULL;
  if (ctx->status != MOEC_OK) return false;
  r->n = axes != NULL ? n : rank;
  if (r->n > rank) {
    ctx_invalid(ctx, "%u axes are named of an input of rank %u", r->n, rank);
    return false;
  }
  for (unsigned i = 0; i < r->n; i++) {
    unsigned d = i;
    if (axes != NULL && !ctx_axis(ctx, axes[i], rank, &d)) return false;
    if (seen[d]) {
      ctx_invalid(ctx, "axis %u occurs twice", d);
      return false;
    }
    seen[d] = true;
    r->axis[i] = (resized_axis_t){.d = d, .in = ctx_dim(x, d)};
  }
  return true;
}

static bool read_region(convert_ctx_t *ctx, resize_t *r) {
  ir_value_t *roi = ctx_in(ctx, 1);
  if (r->transform != CROP_AND_RESIZE) return true;
  if (!has_elements(roi)) {
    ctx_invalid(ctx, "roi is missing");
    return false;
  }
  if (!ctx_check_rank(ctx, roi, 1, 1, "roi")) return false;
  ir_check_equal(ctx->b, ctx_dim(roi, 0), ctx_int(ctx, 2 * r->n),
                 "number of bounds of the region, two for an axis");
  for (unsigned i = 0; i < r->n; i++) {
    r->axis[i].start = element(ctx, roi, i);
    r->axis[i].end = element(ctx, roi, r->n + i);
  }
  return ctx_status(ctx) == MOEC_OK;
}

static resize_mode_t read_mode(convert_ctx_t *ctx, bool with_cubic) {
  static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
  static const char *const older[] = {"nearest", "linear", "bilinear", NULL};
  unsigned mode = attr_choice(ctx, "mode", with_cubic ? modes : older);
  return mode == 0 ? NEAREST : mode == 1 || !with_cubic ? LINEAR : CUBIC;
}

static transform_t read_transform(convert_ctx_t *ctx) {
  static const char *const newer[] = {"half_pixel",
                                      "half_pixel_symmetric",
                                      "pytorch_half_pixel",
                                      "align_corners",
                                      "asymmetric",
                                      "tf_crop_and_resize",
                                      NULL};
  static const char *const older[] = {
      "half_pixel", "pytorch_half_pixel", "align_corners",
      "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn",
      NULL};
  static const transform_t of_older[] = {
      HALF_PIXEL, PYTORCH_HALF_PIXEL, ALIGN_CORNERS,
      ASYMMETRIC, CROP_AND_RESIZE,    HALF_PIXEL_FOR_NEAREST};
  const char *name = "coordinate_transformation_mode";
  if (ctx->opset >= 19) return (transform_t)attr_choice(ctx, name, newer);
  return of_older[attr_choice(ctx, name, older)];
}

/* By opset 11 and later. */
static void read_attributes(convert_ctx_t *ctx, resize_t *r) {
  static const char *const roundings[] = {
      "round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
  r->mode = read_mode(ctx, true);
  r->transform = read_transform(ctx);
  r->rounding = (rounding_t)attr_choice(ctx, "nearest_mode", roundings);
  r->cubic_a = attr_float(ctx, "cubic_coeff_a", -0.75);
  r->extrapolation = attr_float_any(ctx, "extrapolation_value", 0);
  r->exclude_outside = attr_bool(ctx, "exclude_outside", false);
  r->antialias = ctx->opset >= 18 && attr_bool(ctx, "antialias", false);
  if (ctx->opset >= 18) attr_ignore(ctx, "keep_aspect_ratio_policy");
  if (r->antialias && r->mode == NEAREST)
    ctx_invalid(ctx, "antialias is given with mode nearest");
}

moec_status_t convert_resize(convert_ctx_t *ctx) {
  resize_t r = {.transform = ASYMMETRIC, .rounding = BY_SCALE};
  bool oldest = ctx->opset == 10;
  if (oldest)
    r.mode = read_mode(ctx, false);
  else
    read_attributes(ctx, &r);
  MOEC_TRY(ctx->status);
  ir_value_t *scales = ctx_in(ctx, oldest ? 1 : 2), *sizes = ctx_in(ctx, 3);
  bool by_scales = has_elements(scales), by_sizes = has_elements(sizes);
  if (!read_axes(ctx, &r) || (!oldest && !read_region(ctx, &r)))
    return ctx_status(ctx);
  if (by_scales && by_sizes)
    return ctx_invalid(ctx, "both scales and sizes are given");
  if (!by_scales && !by_sizes && r.n > 0)
    return ctx_invalid(ctx, "neither scales nor sizes are given");
  if (by_scales && !read_scales(ctx, &r, scales)) return ctx_status(ctx);
  if (by_sizes && !read_sizes(ctx, &r, sizes)) return ctx_status(ctx);
  return build(ctx, &r);
}

/* Scales of opset 1 are of the last two dimensions, of opset 7 a list, of
 * opset 9 an operand. */
static ir_value_t *upsample_scales(convert_ctx_t *ctx) {
  unsigned n = 4;
  double pair[4] = {1, 1, 1, 1};
  const double *list = pair;
  if (ctx->opset >= 9) return ctx_in(ctx, 1);
  if (ctx->opset >= 7) {
    list = attr_floats(ctx, "scales", &n);
    if (list == NULL) {
      ctx_invalid(ctx, "required attribute \"scales\" is missing");
      return NULL;
    }
  } else {
    pair[2] = attr_float(ctx, "height_scale", 0);
    pair[3] = attr_float(ctx, "width_scale", 0);
    ctx_check_rank(ctx, ctx_in(ctx, 0), 4, 4, "the input");
  }
  if (ctx->status != MOEC_OK) return NULL;
  float *values = ARENA_ARRAY(ctx->arena, float, n + 1);
  for (unsigned i = 0; i < n; i++) values[i] = (float)list[i];
  int64_t dim = n;
  return ctx_tensor(ctx, DT_F32, 1, &dim, values, n * sizeof *values);
}

moec_status_t convert_upsample(convert_ctx_t *ctx) {
  resize_t r = {.transform = ASYMMETRIC, .rounding = FLOOR};
  r.mode = read_mode(ctx, false);
  ir_value_t *scales = upsample_scales(ctx);
  if (scales == NULL || !read_axes(ctx, &r) || !read_scales(ctx, &r, scales))
    return ctx_status(ctx);
  return build(ctx, &r);
}
