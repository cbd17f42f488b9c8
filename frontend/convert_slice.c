/* Parts of tensors: Slice, Split, Pad, Concat, Transpose, blocks of space. */
#include <string.h>

#include "frontend/data_axes.h"

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

/* Some exporters write 10^9 for "to the end". What is longer is refused when it
 * comes, so that the limit need not be in every size. */
static bool is_far(convert_ctx_t *ctx, const expr_t *end, const expr_t *d) {
  int64_t value;
  if (!expr_is_const(end, &value) || value < 1000000000 || value >= FAR ||
      expr_is_const(d, NULL))
    return false;
  ir_check_equal(ctx->b, expr_min(ctx->exprs, d, end), d,
                 "dimensions that are sliced up to a large number");
  return true;
}

static slicing_t slice_axis(convert_ctx_t *ctx, const expr_t *d,
                            const expr_t *start, const expr_t *end,
                            int64_t step) {
  expr_pool_t *pool = ctx->exprs;
  const expr_t *zero = ctx_int(ctx, 0), *one = ctx_int(ctx, 1);
  slicing_t s = {.step = ctx_int(ctx, step)};
  int64_t from, to;
  if (step > 0 && is_far(ctx, end, d)) end = ctx_int(ctx, FAR);
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

/* Vectors i64[rank]: where a slice begins and ends, and its steps. */
typedef struct sliced {
  ir_value_t *start, *end, *step;
} sliced_t;

static ir_value_t *number(convert_ctx_t *ctx, int64_t value) {
  return ir_scalar_int(ctx->b, DT_I64, value);
}

/* v brought to [low, high], after adding d where it is negative. */
static ir_value_t *clamp_data(convert_ctx_t *ctx, ir_value_t *v, ir_value_t *d,
                              ir_value_t *low, ir_value_t *high) {
  ir_builder_t *b = ctx->b;
  ir_value_t *below = ir_binary(b, OP_LT, v, number(ctx, 0));
  v = ir_select(b, below, ir_binary(b, OP_ADD, v, d), v);
  return ir_binary(b, OP_MAX, low, ir_binary(b, OP_MIN, v, high));
}

/* The operands of Slice over all dimensions. */
static bool read_sliced(convert_ctx_t *ctx, ir_value_t *dims, sliced_t *out,
                        data_axes_t *axes) {
  ir_builder_t *b = ctx->b;
  ir_value_t *start = ctx_in(ctx, 1), *end = ctx_in(ctx, 2);
  ir_value_t *named = ctx_in(ctx, 3), *step = ctx_in(ctx, 4);
  unsigned rank = ctx_in(ctx, 0)->type.rank;
  if (!ctx_check_rank(ctx, start, 1, 1, "starts") ||
      !ctx_check_rank(ctx, end, 1, 1, "ends") ||
      (step != NULL && !ctx_check_rank(ctx, step, 1, 1, "steps")))
    return false;
  if (named == NULL) named = ir_iota(b, DT_I64, ctx_dim(start, 0));
  if (!data_axes_read(ctx, named, rank, axes)) return false;
  ir_check_equal(b, ctx_dim(start, 0), axes->n, "number of starts and axes");
  ir_check_equal(b, ctx_dim(end, 0), axes->n, "number of ends and axes");
  ir_value_t *zero = number(ctx, 0), *one = number(ctx, 1);
  out->step = one;
  if (step != NULL) {
    ir_check_equal(b, ctx_dim(step, 0), axes->n, "number of steps and axes");
    step = ir_cast(b, step, DT_I64);
    step = ir_binary(b, OP_MAX, step, number(ctx, -FAR));
    step = ir_binary(b, OP_MIN, step, number(ctx, FAR));
    out->step = step = data_axes_spread(ctx, axes, step, one);
    int64_t axis = 0;
    ir_bind(
        b,
        ir_reduce(b, OP_REDUCE_MIN, ir_unary(b, OP_ABS, step), 1, &axis, false),
        0, "step", 1, NULL);
  }
  out->start = data_axes_spread(ctx, axes, start, zero);
  out->end = data_axes_spread(ctx, axes, end, dims);
  return ctx_status(ctx) == MOEC_OK;
}

/* Axes or steps that only a run knows: along each dimension the elements at
 * start + i * step. Dimensions that are known not to be sliced stay. */
static moec_status_t slice_by_data(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *dims = data_axes_dims(ctx, x);
  unsigned rank = x->type.rank;
  data_axes_t axes;
  sliced_t s;
  if (!read_sliced(ctx, dims, &s, &axes)) return ctx_status(ctx);
  ir_value_t *zero = number(ctx, 0), *one = number(ctx, 1);
  ir_value_t *last = ir_binary(b, OP_SUB, dims, one);
  ir_value_t *forward = ir_binary(b, OP_LT, zero, s.step);
  ir_value_t *high = ir_select(b, forward, dims, last);
  ir_value_t *low = ir_select(b, forward, zero, number(ctx, -1));
  ir_value_t *start = clamp_data(ctx, s.start, dims, zero, high);
  start = ir_binary(b, OP_MIN, start, high); /* -1 of an empty axis */
  ir_value_t *end = clamp_data(ctx, s.end, dims, low, high);
  ir_value_t *up = ir_binary(b, OP_SUB, end, start);
  ir_value_t *down = ir_binary(b, OP_SUB, start, end);
  ir_value_t *span = ir_select(b, forward, up, down);
  ir_value_t *by = ir_unary(b, OP_ABS, s.step);
  span = ir_binary(b, OP_ADD, ir_binary(b, OP_MAX, span, zero), by);
  ir_value_t *length = ir_binary(b, OP_SUB, span, one);
  length = ir_binary(b, OP_DIV, length, by);
  for (unsigned i = 0; i < rank; i++) {
    const expr_t *d = ctx_dim(x, i), *at = ctx_int(ctx, i);
    const expr_t *n = ctx_size(ctx, length, i, "rows", 0, d);
    ir_value_t *first = ctx_part(ctx, start, 0, at, ctx_int(ctx, 1));
    ir_value_t *step = ctx_in(ctx, 4) != NULL
                           ? ctx_part(ctx, s.step, 0, at, ctx_int(ctx, 1))
                           : one;
    if (n == NULL || first == NULL || step == NULL) return ctx_status(ctx);
    const expr_t *known = ir_known(axes.mask, i);
    if (known != NULL && expr_equals_const(known, 0)) continue;
    ir_value_t *index = ir_iota(b, DT_I64, n);
    index = ir_binary(b, OP_MUL, index, step);
    x = ir_gather(b, x, ir_binary(b, OP_ADD, index, first), i);
    if (x == NULL) return ctx_status(ctx);
  }
  ctx_set_output(ctx, 0, x);
  return ctx_status(ctx);
}

/* Whether operand `index` has values that are not known. */
static bool is_data(convert_ctx_t *ctx, unsigned index) {
  unsigned n;
  const int64_t *known;
  ir_value_t *x = ctx_in(ctx, index);
  return x != NULL && !ctx_const_ints(ctx, x, &n, &known);
}

moec_status_t convert_slice(convert_ctx_t *ctx) {
  if (ctx_in(ctx, 0)->type.rank > 0) {
    int64_t n;
    bool counted = ir_type_static_count(&ctx_in(ctx, 1)->type, &n);
    if (is_data(ctx, 3) || is_data(ctx, 4) || !counted)
      return slice_by_data(ctx);
  }
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
  int64_t given = ctx->opset < 4 ? attr_int(ctx, "axis", 1)
                                 : attr_int_required(ctx, "axis");
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

/* ---- Split --------------------------------------------------------------- */

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
  bool operand = ctx->opset >= 13 || (ctx->opset < 2 && ctx_in(ctx, 1) != NULL);
  if (!operand) {
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

/* ---- Pad ----------------------------------------------------------------- */

/* Operands of Pad by opset: sizes for `n` axes, before and then after. */
static const expr_t **pad_sizes(convert_ctx_t *ctx, unsigned *out_n) {
  if (ctx->opset >= 11)
    return ctx_sizes(ctx, ctx_in(ctx, 1), "pads", -FARTHEST, out_n);
  const char *name = ctx->opset < 2 ? "paddings" : "pads";
  const int64_t *pads = attr_ints(ctx, name, out_n);
  if (pads == NULL) {
    ctx_invalid(ctx, "required attribute \"%s\" is missing", name);
    return NULL;
  }
  return as_exprs(ctx, *out_n, pads);
}

/* Sizes before and after for all dimensions, of axes that only a run knows. */
static bool pads_by_data(convert_ctx_t *ctx, const expr_t **before,
                         const expr_t **after) {
  ir_builder_t *b = ctx->b;
  ir_value_t *pads = ctx_in(ctx, 1), *zero = number(ctx, 0);
  unsigned rank = ctx_in(ctx, 0)->type.rank;
  data_axes_t axes;
  if (!ctx_check_rank(ctx, pads, 1, 1, "pads") ||
      !data_axes_read(ctx, ctx_in(ctx, 3), rank, &axes))
    return false;
  ir_check_equal(b, expr_mul(ctx->exprs, axes.n, ctx_int(ctx, 2)),
                 ctx_dim(pads, 0), "number of pads, two for an axis");
  ir_value_t *first = ctx_part(ctx, pads, 0, ctx_int(ctx, 0), axes.n);
  ir_value_t *second = ctx_part(ctx, pads, 0, axes.n, axes.n);
  first = data_axes_spread(ctx, &axes, first, zero);
  second = data_axes_spread(ctx, &axes, second, zero);
  for (unsigned i = 0; i < rank; i++) {
    before[i] = ctx_size(ctx, first, i, "pads", -FARTHEST, NULL);
    after[i] = ctx_size(ctx, second, i, "pads", -FARTHEST, NULL);
    if (before[i] == NULL || after[i] == NULL) return false;
  }
  return ctx_status(ctx) == MOEC_OK;
}

/* Sizes before and after for all dimensions. */
static bool read_pads(convert_ctx_t *ctx, const expr_t **before,
                      const expr_t **after) {
  unsigned rank = ctx_in(ctx, 0)->type.rank, n_pads, n_axes = rank;
  const int64_t *axes = NULL;
  bool padded[IR_MAX_RANK] = {false};
  if (is_data(ctx, 3) && rank > 0) return pads_by_data(ctx, before, after);
  const expr_t **pads = pad_sizes(ctx, &n_pads);
  if (pads == NULL) return false;
  if (ctx_in(ctx, 3) != NULL &&
      !ctx_need_ints(ctx, ctx_in(ctx, 3), "axes", &n_axes, &axes))
    return false;
  if (n_axes > rank || n_pads != 2 * n_axes) {
    ctx_invalid(ctx, "there are %u pads, expected %u", n_pads, 2 * n_axes);
    return false;
  }
  for (unsigned i = 0; i < rank; i++) before[i] = after[i] = ctx_int(ctx, 0);
  for (unsigned i = 0; i < n_axes; i++) {
    unsigned axis;
    if (!ctx_axis(ctx, axes != NULL ? axes[i] : i, rank, &axis)) return false;
    if (padded[axis]) {
      ctx_invalid(ctx, "axis %u occurs twice", axis);
      return false;
    }
    padded[axis] = true;
    before[axis] = pads[i];
    after[axis] = pads[n_axes + i];
  }
  return true;
}

moec_status_t convert_pad(convert_ctx_t *ctx) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap",
                                      NULL};
  ir_value_t *in[] = {ctx_in(ctx, 0), NULL};
  unsigned rank = in[0]->type.rank;
  unsigned mode = attr_choice(ctx, "mode", modes);
  const expr_t *before[IR_MAX_RANK], *after[IR_MAX_RANK];
  if (!read_pads(ctx, before, after)) return ctx_status(ctx);
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
