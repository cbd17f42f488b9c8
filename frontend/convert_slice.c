/* Parts of tensors: Slice, Split, Pad, Concat, Transpose, blocks of space. */
#include <string.h>

#include "frontend/convert.h"

/* Beyond this a bound means "to the end" (INT_MAX and INT_MIN by the text of
 * Slice), and bounds found at run time are refused. */
#define FAR INT64_C(0x7fffffff)
#define FARTHEST (INT64_C(1) << 62)

/* A bound brought to [low, high], after adding d where it is negative. */
static const expr_t *clamp_bound(convert_ctx_t *ctx, const expr_t *bound,
                                 const expr_t *d, const expr_t *low,
                                 const expr_t *high) {
  expr_pool_t *pool = ctx->exprs;
  int64_t value;
  if (expr_is_const(bound, &value)) {
    if (value >= FAR) return high;
    if (value <= -FAR) return low;
    if (value < 0) bound = expr_add(pool, d, bound);
  } else if (!expr_lower_bound(bound, &value) || value < 0) {
    /* 1 where negative, else 0 */
    const expr_t *sign =
        expr_max(pool, ctx_int(ctx, 0),
                 expr_min(pool, ctx_int(ctx, 1),
                          expr_sub(pool, ctx_int(ctx, 0), bound)));
    bound = expr_add(pool, bound, expr_mul(pool, sign, d));
  }
  return expr_max(pool, low, expr_min(pool, bound, high));
}

typedef struct slicing {
  const expr_t *start, *length, *step;
} slicing_t;

static slicing_t slice_axis(convert_ctx_t *ctx, const expr_t *d,
                            const expr_t *start, const expr_t *end,
                            int64_t step) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *zero = ctx_int(ctx, 0), *one = ctx_int(ctx, 1);
  slicing_t s = {.step = ctx_int(ctx, step)};
  int64_t from, to;
  bool last_ones = step > 0 && expr_is_const(start, &from) && from < 0 &&
                   from > -FAR && expr_is_const(end, &to) && to >= FAR;
  if (last_ones) { /* d - max(0, d - n) = min(d, n) */
    const expr_t *n = expr_min(pool, d, ctx_int(ctx, -from));
    s.start = expr_sub(pool, d, n);
    s.length = expr_ceildiv(pool, n, s.step);
    return s;
  }
  const expr_t *span;
  if (step > 0) {
    s.start = clamp_bound(ctx, start, d, zero, d);
    span = expr_sub(pool, clamp_bound(ctx, end, d, zero, d), s.start);
    s.length = expr_ceildiv(pool, span, s.step);
  } else {
    const expr_t *minus_one = ctx_int(ctx, -1);
    const expr_t *last = expr_sub(pool, d, one);
    /* An empty axis: start and end are both -1. */
    s.start = expr_min(pool, clamp_bound(ctx, start, d, zero, last), last);
    span = expr_sub(pool, s.start, clamp_bound(ctx, end, d, minus_one, last));
    s.length = expr_ceildiv(pool, span, ctx_int(ctx, -step));
  }
  s.length = expr_max(pool, zero, s.length);
  return s;
}

typedef struct slice_spec {
  unsigned n;
  const expr_t *const *start, *const *end;
  const int64_t *axes, *steps; /* NULL: 0, 1, .. and 1, 1, .. */
} slice_spec_t;

/* Elements of starts or ends: known ones as they are, else bound. */
static const expr_t **bounds_of(convert_ctx_t *ctx, ir_value_t *x,
                                const char *what, unsigned *out_n) {
  int64_t n;
  *out_n = 0;
  if (!ctx_check_rank(ctx, x, 1, 1, what) ||
      !ctx_static_count(ctx, x, what, &n))
    return NULL;
  if (n > IR_MAX_RANK) {
    ctx_invalid(ctx, "%s has %lld elements", what, (long long)n);
    return NULL;
  }
  const expr_t **bound = ARENA_ARRAY(ctx->arena, const expr_t *, IR_MAX_RANK);
  for (int64_t i = 0; i < n; i++) {
    bound[i] = ir_known(x, i);
    if (bound[i] == NULL) bound[i] = ctx_size(ctx, x, i, what, -FARTHEST, NULL);
    if (bound[i] == NULL) return NULL;
  }
  *out_n = (unsigned)n;
  return bound;
}

static moec_status_t build_slice(convert_ctx_t *ctx, const slice_spec_t *spec) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned rank = x->type.rank;
  const expr_t *start[IR_MAX_RANK], *length[IR_MAX_RANK], *step[IR_MAX_RANK];
  bool sliced[IR_MAX_RANK] = {false}, any = false;
  if (spec->n > rank)
    return ctx_invalid(ctx, "%u axes are sliced of an input of rank %u",
                       spec->n, rank);
  for (unsigned i = 0; i < rank; i++) {
    start[i] = ctx_int(ctx, 0);
    length[i] = x->type.dim[i];
    step[i] = ctx_int(ctx, 1);
  }
  for (unsigned i = 0; i < spec->n; i++) {
    unsigned axis;
    int64_t by = spec->steps != NULL ? spec->steps[i] : 1;
    if (!ctx_axis(ctx, spec->axes != NULL ? spec->axes[i] : i, rank, &axis))
      return ctx->status;
    if (sliced[axis]) return ctx_invalid(ctx, "axis %u is sliced twice", axis);
    if (by == 0) return ctx_invalid(ctx, "the step of axis %u is 0", axis);
    if (by > FAR) by = FAR;
    if (by < -FAR) by = -FAR;
    sliced[axis] = true;
    slicing_t s =
        slice_axis(ctx, x->type.dim[axis], spec->start[i], spec->end[i], by);
    start[axis] = s.start;
    length[axis] = ctx_named(ctx, s.length, "rows", x->type.dim[axis]);
    if (length[axis] == NULL) return ctx_status(ctx);
    step[axis] = s.step;
    any |= !expr_equals_const(s.start, 0) || s.length != x->type.dim[axis] ||
           by != 1;
  }
  if (!any) {
    ctx_set_output(ctx, 0, x);
    return MOEC_OK;
  }
  ir_op_t *op = ir_begin(ctx->b, OP_SLICE, 1, &x, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_exprs(op, ATTR_SLICE_start, rank, start);
  ir_set_exprs(op, ATTR_SLICE_length, rank, length);
  ir_set_exprs(op, ATTR_SLICE_step, rank, step);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

moec_status_t convert_slice(convert_ctx_t *ctx) {
  slice_spec_t spec = {0};
  unsigned n_start, n_end, n_axes, n_steps;
  spec.start = bounds_of(ctx, ctx_in(ctx, 1), "start", &n_start);
  spec.end = bounds_of(ctx, ctx_in(ctx, 2), "end", &n_end);
  if (spec.start == NULL || spec.end == NULL) return ctx_status(ctx);
  n_axes = n_steps = spec.n = n_start;
  if (ctx_in(ctx, 3) != NULL &&
      !ctx_need_ints(ctx, ctx_in(ctx, 3), "axes", &n_axes, &spec.axes))
    return ctx->status;
  if (ctx_in(ctx, 4) != NULL &&
      !ctx_need_ints(ctx, ctx_in(ctx, 4), "steps", &n_steps, &spec.steps))
    return ctx->status;
  if (n_end != n_start || n_axes != n_start || n_steps != n_start)
    return ctx_invalid(ctx,
                       "there are %u starts, %u ends, %u axes and %u steps",
                       n_start, n_end, n_axes, n_steps);
  return build_slice(ctx, &spec);
}

static const expr_t **as_exprs(convert_ctx_t *ctx, unsigned n,
                               const int64_t *values) {
  const expr_t **e = ARENA_ARRAY(ctx->arena, const expr_t *, n + 1);
  for (unsigned i = 0; i < n; i++) e[i] = ctx_int(ctx, values[i]);
  return e;
}

moec_status_t convert_slice_by_attributes(convert_ctx_t *ctx) {
  slice_spec_t spec = {0};
  unsigned n_end, n_axes;
  const int64_t *starts = attr_ints(ctx, "starts", &spec.n);
  const int64_t *ends = attr_ints(ctx, "ends", &n_end);
  spec.axes = attr_ints(ctx, "axes", &n_axes);
  MOEC_TRY(ctx->status);
  if (starts == NULL || ends == NULL)
    return ctx_invalid(ctx,
                       "required attribute \"starts\" or \"ends\" is missing");
  if (n_end != spec.n || (spec.axes != NULL && n_axes != spec.n))
    return ctx_invalid(ctx, "starts, ends and axes differ in length");
  spec.start = as_exprs(ctx, spec.n, starts);
  spec.end = as_exprs(ctx, spec.n, ends);
  return build_slice(ctx, &spec);
}

moec_status_t convert_concat(convert_ctx_t *ctx) {
  unsigned axis;
  ir_value_t **x = ARENA_ARRAY(ctx->arena, ir_value_t *, ctx->n_in);
  for (unsigned i = 0; i < ctx->n_in; i++) x[i] = ctx_in(ctx, i);
  int64_t given = attr_int_required(ctx, "axis");
  if (!ctx_axis(ctx, given, x[0]->type.rank, &axis)) return ctx->status;
  for (unsigned i = 1; i < ctx->n_in; i++) {
    if (x[i]->type.rank != x[0]->type.rank)
      return ctx_invalid(ctx, "input %u is %s, input 0 is %s", i,
                         ctx_type_str(ctx, x[i]), ctx_type_str(ctx, x[0]));
    for (unsigned j = 0; j < x[0]->type.rank; j++)
      if (j != axis)
        ir_check_equal(ctx->b, x[0]->type.dim[j], x[i]->type.dim[j],
                       "dimensions of concatenated tensors");
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_concat(ctx->b, ctx->n_in, x, axis));
  return MOEC_OK;
}

moec_status_t convert_transpose(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned n, rank = x->type.rank;
  const int64_t *perm = attr_ints(ctx, "perm", &n);
  int64_t order[IR_MAX_RANK];
  bool seen[IR_MAX_RANK] = {false};
  MOEC_TRY(ctx->status);
  if (perm != NULL && n != rank)
    return ctx_invalid(ctx, "perm has %u entries for an input of rank %u", n,
                       rank);
  for (unsigned i = 0; i < rank; i++) {
    order[i] = perm != NULL ? perm[i] : rank - 1 - i;
    if (order[i] < 0 || order[i] >= rank || seen[order[i]])
      return ctx_invalid(ctx, "perm is not a permutation of 0 to %u", rank - 1);
    seen[order[i]] = true;
  }
  ctx_set_output(ctx, 0, ir_transpose(ctx->b, x, order));
  return MOEC_OK;
}

/* ---- Split
 * ------------------------------------------------------------------------------
 */

/* n equal parts; with `uneven` the last one may be smaller. */
static const expr_t **equal_parts(convert_ctx_t *ctx, const expr_t *d,
                                  unsigned n, bool uneven) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t **part = ARENA_ARRAY(ctx->arena, const expr_t *, n);
  const expr_t *count = ctx_int(ctx, n);
  const expr_t *one = expr_divide_exactly(pool, d, count);
  if (one == NULL && uneven) {
    one = expr_ceildiv(pool, d, count);
    const expr_t *before = expr_mul(pool, one, ctx_int(ctx, n - 1));
    for (unsigned i = 0; i < n; i++) part[i] = one;
    part[n - 1] = expr_sub(pool, d, before);
    ir_check_equal(ctx->b, expr_max(pool, part[n - 1], ctx_int(ctx, 0)),
                   part[n - 1], "size of the last part, at least 0");
    return part;
  }
  if (one == NULL) {
    one = expr_floordiv(pool, d, count);
    ir_check_equal(ctx->b, expr_mul(pool, one, count), d,
                   "sum of equal parts of a split");
  }
  for (unsigned i = 0; i < n; i++) part[i] = one;
  return part;
}

static const expr_t **given_parts(convert_ctx_t *ctx, const expr_t *d,
                                  unsigned n, unsigned n_given,
                                  const expr_t **part) {
  if (n_given != n) {
    ctx_invalid(ctx, "%u sizes are given for %u outputs", n_given, n);
    return NULL;
  }
  const expr_t *sum = ctx_int(ctx, 0);
  for (unsigned i = 0; i < n; i++) {
    int64_t size;
    if (expr_is_const(part[i], &size) && size < 0) {
      ctx_invalid(ctx, "size %u is %lld", i, (long long)size);
      return NULL;
    }
    sum = expr_add(ctx->exprs, sum, part[i]);
  }
  ir_check_equal(ctx->b, sum, d, "sum of the sizes of a split");
  return ctx_status(ctx) == MOEC_OK ? part : NULL;
}

static const expr_t **parts_of_split(convert_ctx_t *ctx, const expr_t *d,
                                     unsigned n) {
  unsigned n_given;
  if (ctx->opset < 13) {
    const int64_t *sizes = attr_ints(ctx, "split", &n_given);
    if (ctx->status != MOEC_OK) return NULL;
    if (sizes == NULL) return equal_parts(ctx, d, n, false);
    return given_parts(ctx, d, n, n_given, as_exprs(ctx, n_given, sizes));
  }
  if (ctx_in(ctx, 1) != NULL) {
    if (attr_has(ctx, "num_outputs"))
      ctx_invalid(ctx, "both sizes and num_outputs are given");
    const expr_t **sizes = ctx_sizes(ctx, ctx_in(ctx, 1), "split", 0, &n_given);
    return sizes != NULL ? given_parts(ctx, d, n, n_given, sizes) : NULL;
  }
  if (ctx->opset < 18) return equal_parts(ctx, d, n, false);
  int64_t n_outputs = attr_int(ctx, "num_outputs", n);
  if (n_outputs != n) {
    ctx_invalid(ctx, "num_outputs is %lld, but the node has %u outputs",
                (long long)n_outputs, n);
    return NULL;
  }
  return equal_parts(ctx, d, n, true);
}

moec_status_t convert_split(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned axis;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis))
    return ctx->status;
  const expr_t **part = parts_of_split(ctx, ctx_dim(x, axis), ctx->n_out);
  if (part == NULL) return ctx_status(ctx);
  const expr_t *start = ctx_int(ctx, 0);
  for (unsigned i = 0; i < ctx->n_out; i++) {
    if (ctx_wants(ctx, i))
      ctx_set_output(ctx, i, ctx_part(ctx, x, axis, start, part[i]));
    start = expr_add(ctx->exprs, start, part[i]);
  }
  return MOEC_OK;
}

/* ---- Pad
 * ------------------------------------------------------------------------------------
 */

/* Operands of Pad by opset: sizes for `n` axes, before and then after. */
static const expr_t **pad_sizes(convert_ctx_t *ctx, unsigned *out_n) {
  if (ctx->opset >= 11)
    return ctx_sizes(ctx, ctx_in(ctx, 1), "pads", -FARTHEST, out_n);
  const int64_t *pads = attr_ints(ctx, "pads", out_n);
  if (pads == NULL) {
    ctx_invalid(ctx, "required attribute \"pads\" is missing");
    return NULL;
  }
  return as_exprs(ctx, *out_n, pads);
}

moec_status_t convert_pad(convert_ctx_t *ctx) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap",
                                      NULL};
  ir_value_t *in[] = {ctx_in(ctx, 0), NULL};
  unsigned rank = in[0]->type.rank, n_pads, n_axes = rank;
  unsigned mode = attr_choice(ctx, "mode", modes);
  const int64_t *axes = NULL;
  const expr_t **pads = pad_sizes(ctx, &n_pads);
  if (pads == NULL) return ctx_status(ctx);
  if (ctx_in(ctx, 3) != NULL &&
      !ctx_need_ints(ctx, ctx_in(ctx, 3), "axes", &n_axes, &axes))
    return ctx->status;
  if (n_axes > rank || n_pads != 2 * n_axes)
    return ctx_invalid(ctx, "there are %u pads, expected %u", n_pads,
                       2 * n_axes);
  const expr_t *before[IR_MAX_RANK], *after[IR_MAX_RANK];
  bool padded[IR_MAX_RANK] = {false};
  for (unsigned i = 0; i < rank; i++) before[i] = after[i] = ctx_int(ctx, 0);
  for (unsigned i = 0; i < n_axes; i++) {
    unsigned axis;
    if (!ctx_axis(ctx, axes != NULL ? axes[i] : i, rank, &axis))
      return ctx->status;
    if (padded[axis]) return ctx_invalid(ctx, "axis %u occurs twice", axis);
    padded[axis] = true;
    before[axis] = pads[i];
    after[axis] = pads[n_axes + i];
  }
  if (mode == 0) {
    if (ctx->opset < 11)
      in[1] = ctx_scalar(ctx, in[0], attr_float_any(ctx, "value", 0));
    else if (ctx_in(ctx, 2) != NULL)
      in[1] = ir_reshape(ctx->b, ctx_in(ctx, 2), 0, NULL);
    else
      in[1] = ctx_scalar(ctx, in[0], 0);
  } else {
    attr_ignore(ctx, "value");
  }
  ir_op_t *op = ir_begin(ctx->b, OP_PAD, mode == 0 ? 2 : 1, in, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_exprs(op, ATTR_PAD_before, rank, before);
  ir_set_exprs(op, ATTR_PAD_after, rank, after);
  ir_set_str(op, ATTR_PAD_mode, modes[mode]);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}
