/* Signals: DFT, STFT, windows, MelWeightMatrix. Transforms are products with
 * matrices of sines and cosines, whose angles are reduced in integers. */
#include "frontend/data_axes.h"

static const double pi = 3.14159265358979323846;

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static ir_value_t *num(convert_ctx_t *ctx, double value) {
  return ir_scalar(ctx->b, DT_F64, value);
}

static ir_value_t *size_f64(convert_ctx_t *ctx, const expr_t *e) {
  return ir_cast(ctx->b, ir_expr_scalar(ctx->b, e), DT_F64);
}

/* One element of operand `index` as a size of at least `lower`. */
static const expr_t *size_operand(convert_ctx_t *ctx, unsigned index,
                                  const char *what, int64_t lower) {
  ir_value_t *v = ctx_in(ctx, index);
  int64_t count;
  if (v == NULL) return NULL;
  if (!ir_type_static_count(&v->type, &count) || count != 1) {
    ctx_invalid(ctx, "%s is %s, expected a scalar", what, ctx_type_str(ctx, v));
    return NULL;
  }
  return ctx_size(ctx, v, 0, what, lower, NULL);
}

/* ---- Transforms ---------------------------------------------------------- */

typedef struct complex_pair {
  ir_value_t *re, *im; /* im NULL: 0 */
} complex_pair_t;

/* sin or cos of 2 pi n k / length for n < rows and k < columns. */
static ir_value_t *wave(convert_ctx_t *ctx, ir_opcode_t code,
                        const expr_t *length, const expr_t *rows,
                        const expr_t *columns, dtype_t dtype) {
  ir_builder_t *b = ctx->b;
  ir_value_t *n = ir_unsqueeze(b, ir_iota(b, DT_I64, rows), 1);
  ir_value_t *k = ir_iota(b, DT_I64, columns);
  ir_value_t *turn = two(ctx, OP_MUL, n, k);
  turn = two(ctx, OP_MOD, turn, ir_expr_scalar(b, length));
  ir_value_t *angle = ir_cast(b, turn, DT_F64);
  angle = two(ctx, OP_MUL, angle, num(ctx, 2 * pi));
  angle = two(ctx, OP_DIV, angle, size_f64(ctx, length));
  return ir_cast(b, ir_unary(b, code, angle), dtype);
}

static ir_value_t *plus(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *y,
                        bool minus) {
  return two(ctx, minus ? OP_SUB : OP_ADD, x, y);
}

/* x[M, n] to [M, columns]: sums with exp(-+2 pi i n k / length). */
static complex_pair_t transform(convert_ctx_t *ctx, complex_pair_t x,
                                const expr_t *length, const expr_t *columns,
                                bool inverse) {
  complex_pair_t y = {NULL, NULL};
  if (x.re == NULL) return y;
  const expr_t *rows = ctx_dim(x.re, 1);
  dtype_t dtype = x.re->type.dtype;
  ir_value_t *c = wave(ctx, OP_COS, length, rows, columns, dtype);
  ir_value_t *s = wave(ctx, OP_SIN, length, rows, columns, dtype);
  y.re = ir_matmul(ctx->b, x.re, c);
  y.im = ir_matmul(ctx->b, x.re, s);
  if (!inverse) y.im = ir_unary(ctx->b, OP_NEG, y.im);
  if (x.im == NULL) return y;
  y.re = plus(ctx, y.re, ir_matmul(ctx->b, x.im, s), inverse);
  y.im = plus(ctx, y.im, ir_matmul(ctx->b, x.im, c), false);
  return y;
}

/* x[M, bins] of one side as real numbers [M, length]. */
static ir_value_t *from_one_side(convert_ctx_t *ctx, complex_pair_t x,
                                 const expr_t *length) {
  ir_builder_t *b = ctx->b;
  if (x.re == NULL) return NULL;
  const expr_t *bins = ctx_dim(x.re, 1);
  dtype_t dtype = x.re->type.dtype;
  ir_value_t *k = ir_iota(b, DT_I64, bins);
  ir_value_t *twice = two(ctx, OP_MUL, k, ir_scalar_int(b, DT_I64, 2));
  ir_value_t *first = two(ctx, OP_EQ, k, ir_scalar_int(b, DT_I64, 0));
  ir_value_t *middle = two(ctx, OP_EQ, twice, ir_expr_scalar(b, length));
  ir_value_t *once = two(ctx, OP_OR, first, middle);
  ir_value_t *weight = ir_scalar(b, dtype, 1);
  weight = ir_select(b, once, weight, ir_scalar(b, dtype, 2));
  ir_value_t *c = wave(ctx, OP_COS, length, bins, length, dtype);
  ir_value_t *y = ir_matmul(b, two(ctx, OP_MUL, x.re, weight), c);
  if (x.im == NULL) return y;
  /* What is its own conjugate has no imaginary part. */
  weight = ir_select(b, once, ir_scalar(b, dtype, 0), weight);
  ir_value_t *s = wave(ctx, OP_SIN, length, bins, length, dtype);
  return two(ctx, OP_SUB, y, ir_matmul(b, two(ctx, OP_MUL, x.im, weight), s));
}

/* The first n elements along the last axis of x[M, d], zeros beyond d. */
static ir_value_t *fitted(convert_ctx_t *ctx, ir_value_t *x, const expr_t *n) {
  if (x == NULL || ctx_dim(x, 1) == n) return x;
  const expr_t *d = ctx_dim(x, 1), *zero = ctx_int(ctx, 0);
  x = ctx_part(ctx, x, 1, zero, expr_min(ctx->exprs, d, n));
  const expr_t *before[] = {zero, zero};
  const expr_t *after[] = {
      zero, expr_max(ctx->exprs, zero, expr_sub(ctx->exprs, n, d))};
  ir_value_t *in[] = {x, x != NULL ? ctx_scalar(ctx, x, 0) : NULL};
  ir_op_t *op = ir_begin(ctx->b, OP_PAD, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_exprs(op, ATTR_PAD_before, 2, before);
  ir_set_exprs(op, ATTR_PAD_after, 2, after);
  ir_set_str(op, ATTR_PAD_mode, "constant");
  return ir_place(ctx->b, op);
}

/* Real and imaginary parts of x[.., 1 or 2] without the last dimension. Where
 * only a run knows whether there are imaginary ones, their sum stands for the
 * one or none of them. */
static complex_pair_t parts_of(convert_ctx_t *ctx, ir_value_t *x) {
  complex_pair_t parts = {NULL, NULL};
  unsigned last = x->type.rank - 1;
  const expr_t *n = ctx_dim(x, last), *one = ctx_int(ctx, 1);
  const expr_t *within = expr_max(ctx->exprs, n, one);
  within = expr_min(ctx->exprs, within, ctx_int(ctx, 2));
  ir_check_equal(ctx->b, n, within, "parts of a number, 1 or 2");
  if (ctx_status(ctx) != MOEC_OK) return parts;
  ir_value_t *wide = ctx_widen(ctx, x);
  parts.re = ctx_part(ctx, wide, last, ctx_int(ctx, 0), one);
  parts.re = ir_squeeze(ctx->b, parts.re, last);
  if (expr_equals_const(n, 1)) return parts;
  int64_t axis = last;
  parts.im = ctx_part(ctx, wide, last, one, expr_sub(ctx->exprs, n, one));
  parts.im = ir_reduce(ctx->b, OP_REDUCE_SUM, parts.im, 1, &axis, false);
  return parts;
}

typedef struct dft {
  bool inverse, onesided;
  const expr_t *length, *out; /* of the transform, of its result */
} dft_t;

/* Sizes of the transform of an axis of size d; dft_length may be NULL. */
static void size_dft(convert_ctx_t *ctx, dft_t *t, const expr_t *d,
                     const expr_t *length) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *one = ctx_int(ctx, 1), *half = ctx_int(ctx, 2);
  bool folded = t->onesided && t->inverse;
  if (length == NULL)
    length = folded ? expr_mul(pool, half, expr_sub(pool, d, one)) : d;
  t->length = t->out = length;
  if (t->onesided && !t->inverse)
    t->out = expr_add(pool, expr_floordiv(pool, length, half), one);
}

/* x[M, d], both parts, transformed along the last axis. */
static complex_pair_t run_dft(convert_ctx_t *ctx, const dft_t *t,
                              complex_pair_t x) {
  const expr_t *used = t->length, *half = ctx_int(ctx, 2);
  if (t->inverse && t->onesided)
    used = expr_add(ctx->exprs, expr_floordiv(ctx->exprs, t->length, half),
                    ctx_int(ctx, 1));
  x.re = fitted(ctx, x.re, used);
  x.im = fitted(ctx, x.im, used);
  complex_pair_t y = {NULL, NULL};
  if (t->inverse && t->onesided)
    y.re = from_one_side(ctx, x, t->length);
  else
    y = transform(ctx, x, t->length, t->out, t->inverse);
  if (!t->inverse || y.re == NULL) return y;
  ir_value_t *n = ctx_like(ctx, ir_expr_scalar(ctx->b, t->length), y.re);
  y.re = two(ctx, OP_DIV, y.re, n);
  if (y.im != NULL) y.im = two(ctx, OP_DIV, y.im, n);
  return y;
}

/* x[A, d, B] with the transformed axis last, as a matrix, and back. */
static ir_value_t *axis_last(convert_ctx_t *ctx, ir_value_t *x) {
  static const int64_t perm[] = {0, 2, 1};
  if (x == NULL) return NULL;
  const expr_t *dim[] = {expr_mul(ctx->exprs, ctx_dim(x, 0), ctx_dim(x, 2)),
                         ctx_dim(x, 1)};
  return ir_reshape(ctx->b, ir_transpose(ctx->b, x, perm), 2, dim);
}

static ir_value_t *axis_back(convert_ctx_t *ctx, ir_value_t *y, const expr_t *a,
                             const expr_t *c) {
  static const int64_t perm[] = {0, 2, 1};
  if (y == NULL) return NULL;
  const expr_t *dim[] = {a, c, ctx_dim(y, 1)};
  return ir_transpose(ctx->b, ir_reshape(ctx->b, y, 3, dim), perm);
}

/* Both parts, [A, n, B], as one tensor of the shape with a last dimension of 2,
 * or of 1 when there is no imaginary part. */
static ir_value_t *joined(convert_ctx_t *ctx, complex_pair_t y, unsigned rank,
                          const expr_t **dim) {
  ir_value_t *parts[] = {y.re, y.im};
  unsigned n = y.im != NULL ? 2 : 1;
  dim[rank] = ctx_int(ctx, 1);
  for (unsigned i = 0; i < n; i++)
    parts[i] = ir_reshape(ctx->b, parts[i], rank + 1, dim);
  return ir_concat(ctx->b, n, parts, rank);
}

/* x[dims] around its axis, which is data or else known: [A, d, B]. */
static ir_value_t *around(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *axis,
                          unsigned known) {
  if (x == NULL) return NULL;
  if (axis != NULL) return data_axes_around(ctx, x, axis);
  unsigned rank = x->type.rank;
  const expr_t *const *d = x->type.dim;
  const expr_t *dim[] = {
      expr_product(ctx->exprs, d, known), d[known],
      expr_product(ctx->exprs, d + known + 1, rank - known - 1)};
  return ir_reshape(ctx->b, x, 3, dim);
}

/* Axis of x without its last dimension: known, or as data. */
static bool dft_axis(convert_ctx_t *ctx, unsigned *out_known,
                     ir_value_t **out_data) {
  ir_builder_t *b = ctx->b;
  ir_value_t *given = ctx->opset >= 20 ? ctx_in(ctx, 2) : NULL;
  unsigned rank = ctx_in(ctx, 0)->type.rank, n;
  int64_t axis = -2;
  const int64_t *known;
  *out_data = NULL;
  if (ctx->opset < 20) axis = attr_int(ctx, "axis", 1);
  if (given != NULL && !ctx_const_ints(ctx, given, &n, &known)) {
    const expr_t *size = ctx_int(ctx, rank);
    ir_value_t *zero = ir_scalar_int(b, DT_I64, 0);
    given = ir_cast(b, given, DT_I64);
    ir_value_t *moved = two(ctx, OP_ADD, given, ir_expr_scalar(b, size));
    *out_data = ir_select(b, two(ctx, OP_LT, given, zero), moved, given);
    return *out_data != NULL;
  }
  if (given != NULL) {
    if (n != 1) {
      ctx_invalid(ctx, "axis has %u elements, expected 1", n);
      return false;
    }
    axis = known[0];
  }
  if (!ctx_axis(ctx, axis, rank, out_known)) return false;
  if (*out_known + 1 == rank)
    ctx_invalid(ctx, "axis %lld is that of the parts of numbers",
                (long long)axis);
  return ctx->status == MOEC_OK;
}

moec_status_t convert_dft(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *axis;
  unsigned rank = x->type.rank, at = 0;
  dft_t t = {.inverse = attr_bool(ctx, "inverse", false),
             .onesided = attr_bool(ctx, "onesided", false)};
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK - 1, "the input") ||
      !dft_axis(ctx, &at, &axis))
    return ctx_status(ctx);
  complex_pair_t parts = parts_of(ctx, x);
  const expr_t *length = size_operand(ctx, 1, "dft_length", 1);
  MOEC_TRY(ctx_status(ctx));
  parts.re = around(ctx, parts.re, axis, at);
  if (parts.re == NULL) return ctx_status(ctx);
  const expr_t *a = ctx_dim(parts.re, 0), *d = ctx_dim(parts.re, 1);
  const expr_t *c = ctx_dim(parts.re, 2);
  if (parts.im != NULL)
    parts.im = ir_reshape(b, parts.im, 3, parts.re->type.dim);
  size_dft(ctx, &t, d, length);
  parts.re = axis_last(ctx, parts.re);
  parts.im = axis_last(ctx, parts.im);
  complex_pair_t y = run_dft(ctx, &t, parts);
  y.re = axis_back(ctx, y.re, a, c);
  y.im = axis_back(ctx, y.im, a, c);
  const expr_t *dim[IR_MAX_RANK];
  ir_value_t *size = NULL;
  if (axis != NULL) {
    ir_value_t *i = ir_iota(b, DT_I64, ctx_int(ctx, rank - 1));
    ir_value_t *sizes = ir_exprs(b, rank - 1, x->type.dim);
    ir_value_t *here = two(ctx, OP_EQ, i, axis);
    size = ir_select(b, here, ir_expr_scalar(b, t.out), sizes);
    if (!data_axes_bind(ctx, size, rank - 1, "size", dim))
      return ctx_status(ctx);
  } else {
    for (unsigned i = 0; i + 1 < rank; i++)
      dim[i] = i == at ? t.out : ctx_dim(x, i);
  }
  ctx_set_output(ctx, 0, ctx_like(ctx, joined(ctx, y, rank - 1, dim), x));
  return ctx_status(ctx);
}

moec_status_t convert_stft(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  ir_value_t *x = ctx_in(ctx, 0), *window = ctx_in(ctx, 2);
  dft_t t = {.onesided = attr_bool(ctx, "onesided", true)};
  if (!ctx_check_rank(ctx, x, 3, 3, "the signal") ||
      (window != NULL && !ctx_check_rank(ctx, window, 1, 1, "the window")))
    return ctx->status;
  complex_pair_t parts = parts_of(ctx, x);
  const expr_t *step = size_operand(ctx, 1, "frame_step", 1);
  const expr_t *length = size_operand(ctx, 3, "frame_length", 1);
  MOEC_TRY(ctx_status(ctx));
  if (window != NULL && length != NULL)
    ir_check_equal(b, ctx_dim(window, 0), length,
                   "size of the window and frame_length");
  if (window != NULL) length = ctx_dim(window, 0);
  if (length == NULL) length = ctx_dim(x, 1);
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *frames = expr_sub(pool, ctx_dim(x, 1), length);
  frames = expr_add(pool, expr_floordiv(pool, frames, step), one);
  ir_check_equal(b, expr_max(pool, frames, ctx_int(ctx, 0)), frames,
                 "number of frames, at least 0");
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *start = ir_iota(b, DT_I64, frames);
  start = two(ctx, OP_MUL, start, ir_expr_scalar(b, step));
  ir_value_t *index = ir_unsqueeze(b, start, 1);
  index = two(ctx, OP_ADD, index, ir_iota(b, DT_I64, length));
  const expr_t *rows[] = {expr_mul(pool, ctx_dim(x, 0), frames), length};
  ir_value_t **both[] = {&parts.re, &parts.im};
  for (unsigned i = 0; i < 2; i++) {
    if (*both[i] == NULL) continue;
    ir_value_t *v = ir_gather(b, *both[i], index, 1);
    if (window != NULL) v = two(ctx, OP_MUL, v, ctx_like(ctx, window, v));
    *both[i] = ir_reshape(b, v, 2, rows);
  }
  size_dft(ctx, &t, length, NULL);
  complex_pair_t y = run_dft(ctx, &t, parts);
  const expr_t *dim[4] = {ctx_dim(x, 0), frames, t.out};
  ctx_set_output(ctx, 0, ctx_like(ctx, joined(ctx, y, 3, dim), x));
  return ctx_status(ctx);
}

/* ---- Windows ------------------------------------------------------------- */

/* offset + first * cos(2 pi n / N) + second * cos(4 pi n / N), where N is the
 * size, or one less for a symmetric window. */
static moec_status_t cosine_window(convert_ctx_t *ctx, double offset,
                                   double first, double second) {
  ir_builder_t *b = ctx->b;
  bool periodic = attr_bool(ctx, "periodic", true);
  dtype_t dtype = attr_dtype(ctx, "output_datatype", DT_F32);
  const expr_t *size = size_operand(ctx, 0, "the size", 0);
  if (size == NULL || ctx->status != MOEC_OK) return ctx_status(ctx);
  ir_value_t *n = ir_iota(b, DT_F64, size), *turn = size_f64(ctx, size);
  if (!periodic) turn = two(ctx, OP_SUB, turn, num(ctx, 1));
  turn = two(ctx, OP_MAX, turn, num(ctx, 1)); /* of a single element */
  ir_value_t *angle = two(ctx, OP_MUL, n, num(ctx, 2 * pi));
  angle = two(ctx, OP_DIV, angle, turn);
  ir_value_t *y = ir_unary(b, OP_COS, angle), *twice;
  y = two(ctx, OP_MUL, y, num(ctx, first));
  y = two(ctx, OP_ADD, y, num(ctx, offset));
  if (second != 0) {
    angle = two(ctx, OP_MUL, angle, num(ctx, 2));
    twice = ir_unary(b, OP_COS, angle);
    y = two(ctx, OP_ADD, y, two(ctx, OP_MUL, twice, num(ctx, second)));
  }
  ctx_set_output(ctx, 0, ir_cast(b, y, dtype));
  return ctx_status(ctx);
}

moec_status_t convert_hann_window(convert_ctx_t *ctx) {
  return cosine_window(ctx, 0.5, -0.5, 0);
}

moec_status_t convert_hamming_window(convert_ctx_t *ctx) {
  return cosine_window(ctx, 25.0 / 46, -21.0 / 46, 0);
}

moec_status_t convert_blackman_window(convert_ctx_t *ctx) {
  return cosine_window(ctx, 0.42, -0.5, 0.08);
}

/* ---- MelWeightMatrix ----------------------------------------------------- */

/* 2595 log10(1 + f / 700) */
static ir_value_t *mel(convert_ctx_t *ctx, ir_value_t *f) {
  f = ir_unary(ctx->b, OP_LOG1P, two(ctx, OP_DIV, f, num(ctx, 700)));
  f = two(ctx, OP_MUL, num(ctx, 2595), f);
  return two(ctx, OP_DIV, f, num(ctx, 2.30258509299404568402));
}

/* Places of the edges and centres of the bands in the spectrum, [bands + 2]. */
static ir_value_t *band_places(convert_ctx_t *ctx, const expr_t *bands,
                               const expr_t *length) {
  ir_builder_t *b = ctx->b;
  const expr_t *n = expr_add(ctx->exprs, bands, ctx_int(ctx, 2));
  ir_value_t *rate = ctx_scalar_f64(ctx, 2);
  ir_value_t *low = mel(ctx, ctx_scalar_f64(ctx, 3));
  ir_value_t *high = mel(ctx, ctx_scalar_f64(ctx, 4));
  ir_value_t *step = two(ctx, OP_SUB, high, low);
  step = two(ctx, OP_DIV, step, size_f64(ctx, n));
  ir_value_t *at = two(ctx, OP_MUL, ir_iota(b, DT_F64, n), step);
  at = two(ctx, OP_ADD, at, low);
  at = two(ctx, OP_DIV, at, num(ctx, 2595));
  at = two(ctx, OP_MUL, at, num(ctx, 2.30258509299404568402));
  at = ir_unary(b, OP_EXPM1, at);
  at = two(ctx, OP_MUL, num(ctx, 700), at);
  const expr_t *more = expr_add(ctx->exprs, length, ctx_int(ctx, 1));
  at = two(ctx, OP_DIV, two(ctx, OP_MUL, size_f64(ctx, more), at), rate);
  return ir_unary(b, OP_FLOOR, at);
}

/* Triangles: up from the left edge to the centre, down to the right edge. */
moec_status_t convert_mel_weight_matrix(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  dtype_t dtype = attr_dtype(ctx, "output_datatype", DT_F32);
  const expr_t *bands = size_operand(ctx, 0, "num_mel_bins", 0);
  const expr_t *length = size_operand(ctx, 1, "dft_length", 0);
  if (bands == NULL || length == NULL || ctx->status != MOEC_OK)
    return ctx_status(ctx);
  ir_value_t *places = band_places(ctx, bands, length), *edge[3];
  for (unsigned i = 0; i < 3; i++)
    edge[i] = ctx_part(ctx, places, 0, ctx_int(ctx, i), bands);
  const expr_t *half = expr_floordiv(ctx->exprs, length, ctx_int(ctx, 2));
  const expr_t *rows = expr_add(ctx->exprs, half, ctx_int(ctx, 1));
  ir_value_t *j = ir_unsqueeze(b, ir_iota(b, DT_F64, rows), 1);
  ir_value_t *zero = num(ctx, 0), *one = num(ctx, 1);
  ir_value_t *left = two(ctx, OP_SUB, edge[1], edge[0]);
  ir_value_t *right = two(ctx, OP_SUB, edge[2], edge[1]);
  ir_value_t *up = two(ctx, OP_DIV, two(ctx, OP_SUB, j, edge[0]), left);
  ir_value_t *down = two(ctx, OP_DIV, two(ctx, OP_SUB, edge[2], j), right);
  ir_value_t *no_left = two(ctx, OP_EQ, left, zero);
  up = ir_select(b, no_left, one, up);
  ir_value_t *rising = two(ctx, OP_LE, edge[0], j);
  rising = two(ctx, OP_AND, rising, two(ctx, OP_LE, j, edge[1]));
  ir_value_t *falling = two(ctx, OP_LE, edge[1], j);
  falling = two(ctx, OP_AND, falling, two(ctx, OP_LT, j, edge[2]));
  ir_value_t *y = ir_select(b, rising, up, zero);
  y = ir_select(b, falling, down, y);
  ctx_set_output(ctx, 0, ir_cast(b, y, dtype));
  return ctx_status(ctx);
}
