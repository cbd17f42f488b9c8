/* Operators about shapes: what a tensor's dimensions are, and the same elements
 * under other dimensions. */
#include <string.h>

#include "frontend/convert.h"

/* ---- Shape, Size -------------------------------------------------------------- */

static int64_t clamp_axis(int64_t axis, int64_t rank) {
  if (axis < 0) axis += rank;
  if (axis < 0) return 0;
  return axis > rank ? rank : axis;
}

moec_status_t convert_shape(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t rank = x->type.rank;
  int64_t start = clamp_axis(attr_int(ctx, "start", 0), rank);
  int64_t end = clamp_axis(attr_int(ctx, "end", rank), rank);
  unsigned n = end > start ? (unsigned)(end - start) : 0;
  ir_value_t *y =
      n > 0 ? ir_exprs(ctx->b, n, x->type.dim + start) : ir_ints(ctx->b, 0, NULL);
  ctx_set_output(ctx, 0, y);
  return MOEC_OK;
}

moec_status_t convert_size(convert_ctx_t *ctx) {
  const expr_t *count = ir_type_count(ctx->exprs, &ctx_in(ctx, 0)->type);
  ctx_set_output(ctx, 0, ir_expr_scalar(ctx->b, count));
  return MOEC_OK;
}

/* ---- Reshape --------------------------------------------------------------------- */

typedef struct reshape {
  unsigned n;
  const expr_t **dim;  /* [n]; 1 where the entry is (or may be) -1 */
  const expr_t **rest; /* [n]; 1 where the entry is -1, else 0; NULL: never */
  int known_rest;      /* index of the entry that is -1 for certain, or -1 */
  bool guesses;        /* some entry may be -1 */
} reshape_t;

/* The dimension that 0 stands for. */
static const expr_t *copied_dim(convert_ctx_t *ctx, const ir_value_t *x,
                                unsigned index) {
  if (index < x->type.rank) return x->type.dim[index];
  ctx_invalid(ctx, "entry %u of the shape is 0, but the input is %s", index,
              ctx_type_str(ctx, x));
  return NULL;
}

/* An entry v found at run time: with z = (v == 0) and m = (v == -1),
 * dim = v + z * copied + 2 * m, which is 1 for -1. */
static bool add_bound_entry(convert_ctx_t *ctx, reshape_t *r,
                            const ir_value_t *x, unsigned i, const expr_t *v,
                            bool allow_zero) {
  expr_pool_t *pool = ctx->exprs;
  if (!allow_zero && i < x->type.rank) {
    const expr_t *zero = expr_is_one(pool, expr_add(pool, v, ctx_int(ctx, 1)));
    r->dim[i] = expr_add(pool, r->dim[i],
                         expr_mul(pool, zero, x->type.dim[i]));
  }
  if (r->known_rest >= 0) return true;
  r->rest[i] = expr_is_one(pool, expr_add(pool, v, ctx_int(ctx, 2)));
  r->dim[i] = expr_add(pool, r->dim[i],
                       expr_mul(pool, ctx_int(ctx, 2), r->rest[i]));
  r->guesses = true;
  return true;
}

static bool add_entry(convert_ctx_t *ctx, reshape_t *r, ir_value_t *x,
                      ir_value_t *shape, unsigned i, bool allow_zero) {
  const expr_t *v = ir_known(shape, i);
  int64_t value;
  if (v == NULL) {
    v = ctx_size(ctx, shape, i, "shape", r->known_rest >= 0 ? 0 : -1, NULL);
    if (v == NULL) return false;
    r->dim[i] = v;
    return add_bound_entry(ctx, r, x, i, v, allow_zero);
  }
  r->dim[i] = v;
  if (!expr_is_const(v, &value)) {
    if (!expr_lower_bound(v, &value) || value < 0)
      ir_check_equal(ctx->b, expr_max(ctx->exprs, v, ctx_int(ctx, 0)), v,
                     "size in a shape, at least 0");
    return true;
  }
  if (value == -1) {
    r->dim[i] = ctx_int(ctx, 1);
  } else if (value == 0 && !allow_zero) {
    r->dim[i] = copied_dim(ctx, x, i);
  } else if (value < 0) {
    ctx_invalid(ctx, "entry %u of the shape is %lld", i, (long long)value);
    return false;
  }
  return r->dim[i] != NULL;
}

/* Which entry is -1; false after an error. */
static bool find_rest(convert_ctx_t *ctx, reshape_t *r, const ir_value_t *shape,
                      bool allow_zero) {
  bool has_zero = false;
  for (unsigned i = 0; i < r->n; i++) {
    const expr_t *v = ir_known(shape, i);
    if (v == NULL) continue;
    has_zero |= expr_equals_const(v, 0);
    if (!expr_equals_const(v, -1)) continue;
    if (r->known_rest >= 0) {
      ctx_invalid(ctx, "the shape has more than one entry that is -1");
      return false;
    }
    r->known_rest = (int)i;
  }
  if (allow_zero && has_zero && r->known_rest >= 0) {
    ctx_invalid(ctx, "the shape has both 0 and -1 although allowzero is 1");
    return false;
  }
  return true;
}

/* total / others, checked to divide. */
static const expr_t *rest_of(convert_ctx_t *ctx, const expr_t *total,
                             const expr_t *others) {
  const expr_t *exact = expr_divide_exactly(ctx->exprs, total, others);
  if (exact != NULL) return exact;
  if (expr_equals_const(others, 0)) {
    ctx_invalid(ctx, "the size for -1 is not determined: other sizes are 0");
    return NULL;
  }
  /* The divisor may be 0 at run time only when there are no elements. */
  int64_t lower;
  const expr_t *divisor = others;
  if (!expr_lower_bound(others, &lower) || lower < 1)
    divisor = expr_max(ctx->exprs, others, ctx_int(ctx, 1));
  return expr_floordiv(ctx->exprs, total, divisor);
}

moec_status_t convert_reshape(convert_ctx_t *ctx) {
  bool allow_zero = attr_bool(ctx, "allowzero", false);
  ir_value_t *x = ctx_in(ctx, 0), *shape = ctx_in(ctx, 1);
  int64_t n;
  if (!ctx_check_rank(ctx, shape, 1, 1, "the shape") ||
      !ctx_static_count(ctx, shape, "the shape", &n))
    return ctx->status;
  if (n > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %lld exceeds the limit of %d",
                     (long long)n, IR_MAX_RANK);
  const expr_t *dim[IR_MAX_RANK], *rest[IR_MAX_RANK] = {NULL};
  reshape_t r = {.n = (unsigned)n, .dim = dim, .rest = rest, .known_rest = -1};
  if (!find_rest(ctx, &r, shape, allow_zero)) return ctx->status;
  for (unsigned i = 0; i < r.n; i++)
    if (!add_entry(ctx, &r, x, shape, i, allow_zero)) return ctx_status(ctx);

  expr_pool_t *pool = ctx->exprs;
  const expr_t *total = ir_type_count(pool, &x->type);
  const expr_t *others = expr_product(pool, dim, r.n);
  if (r.known_rest >= 0) {
    dim[r.known_rest] = rest_of(ctx, total, others);
    if (dim[r.known_rest] == NULL) return ctx->status;
  } else if (r.guesses) {
    const expr_t *factor =
        expr_sub(pool, rest_of(ctx, total, others), ctx_int(ctx, 1));
    for (unsigned i = 0; i < r.n; i++)
      if (rest[i] != NULL)
        dim[i] = expr_add(pool, dim[i], expr_mul(pool, rest[i], factor));
  }
  ir_check_equal(ctx->b, expr_product(pool, dim, r.n), total,
                 "number of elements of the reshaped tensor");
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, r.n, dim));
  return MOEC_OK;
}

/* ---- Squeeze, Unsqueeze, Flatten --------------------------------------------------- */

/* Axes from the attribute (before opset 13) or input 1; *out_given tells whether
 * there are any. False after an error. */
static bool given_axes(convert_ctx_t *ctx, unsigned *out_n,
                       const int64_t **out_axes, bool *out_given) {
  *out_n = 0;
  *out_axes = NULL;
  *out_given = false;
  if (ctx->opset < 13) {
    *out_given = attr_has(ctx, "axes");
    *out_axes = attr_ints(ctx, "axes", out_n);
    return ctx->status == MOEC_OK;
  }
  ir_value_t *axes = ctx_in(ctx, 1);
  if (axes == NULL) return true;
  *out_given = true;
  return ctx_need_ints(ctx, axes, "axes", out_n, out_axes);
}

/* Without axes: all dimensions of 1 go. Others must not turn out to be 1. */
static unsigned squeeze_all(convert_ctx_t *ctx, const ir_value_t *x,
                            const expr_t **dim) {
  unsigned n = 0;
  for (unsigned i = 0; i < x->type.rank; i++) {
    const expr_t *size = x->type.dim[i];
    if (expr_equals_const(size, 1)) continue;
    ir_check_equal(ctx->b, expr_is_one(ctx->exprs, size), ctx_int(ctx, 0),
                   "squeezing without axes a dimension of 1 that was not known");
    dim[n++] = size;
  }
  return n;
}

moec_status_t convert_squeeze(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned n_axes, n = 0;
  const int64_t *given;
  int64_t *axes;
  bool has_axes;
  const expr_t *dim[IR_MAX_RANK];
  if (!given_axes(ctx, &n_axes, &given, &has_axes)) return ctx->status;
  if (!has_axes) {
    n = squeeze_all(ctx, x, dim);
    ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, n, dim));
    return MOEC_OK;
  }
  if (!ctx_axes(ctx, n_axes, given, x->type.rank, &axes)) return ctx->status;
  for (unsigned i = 0, next = 0; i < x->type.rank; i++) {
    if (next == n_axes || axes[next] != i) {
      dim[n++] = x->type.dim[i];
      continue;
    }
    next++;
    ir_check_equal(ctx->b, x->type.dim[i], ctx_int(ctx, 1),
                   "size of a squeezed dimension");
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, n, dim));
  return MOEC_OK;
}

moec_status_t convert_unsqueeze(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned n_axes;
  const int64_t *given;
  int64_t *axes;
  bool has_axes;
  const expr_t *dim[IR_MAX_RANK];
  if (!given_axes(ctx, &n_axes, &given, &has_axes)) return ctx->status;
  if (!has_axes) return ctx_invalid(ctx, "axes are missing");
  if (n_axes > IR_MAX_RANK || x->type.rank + n_axes > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d",
                     x->type.rank + n_axes, IR_MAX_RANK);
  unsigned rank = x->type.rank + n_axes;
  if (!ctx_axes(ctx, n_axes, given, rank, &axes)) return ctx->status;
  for (unsigned i = 0, next = 0, from = 0; i < rank; i++) {
    if (next < n_axes && axes[next] == i) {
      dim[i] = ctx_int(ctx, 1);
      next++;
    } else {
      dim[i] = x->type.dim[from++];
    }
  }
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, rank, dim));
  return MOEC_OK;
}

moec_status_t convert_flatten(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0);
  int64_t rank = x->type.rank;
  int64_t axis = attr_int(ctx, "axis", 1);
  if (axis < -rank || axis > rank)
    return ctx_invalid(ctx, "axis %lld is out of range for rank %lld",
                       (long long)axis, (long long)rank);
  if (axis < 0) axis += rank;
  const expr_t *dim[] = {
      expr_product(ctx->exprs, x->type.dim, (unsigned)axis),
      expr_product(ctx->exprs, x->type.dim + axis, (unsigned)(rank - axis)),
  };
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, x, 2, dim));
  return MOEC_OK;
}

/* ---- Expand, Tile ---------------------------------------------------------------------- */

moec_status_t convert_expand(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *shape = ctx_in(ctx, 1);
  unsigned n, rank = x->type.rank;
  if (!ctx_check_rank(ctx, shape, 1, 1, "the shape")) return ctx->status;
  const expr_t **size = ctx_sizes(ctx, shape, "shape", 0, &n);
  if (size == NULL) return ctx_status(ctx);
  unsigned out_rank = n > rank ? n : rank;
  if (out_rank > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "rank %u exceeds the limit of %d",
                     out_rank, IR_MAX_RANK);
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = 0; i < out_rank; i++) { /* from the last one */
    const expr_t *mine = i < rank ? x->type.dim[rank - 1 - i] : NULL;
    const expr_t *wanted = i < n ? size[n - 1 - i] : NULL;
    ctx_check_dims(ctx, mine, wanted);
    const expr_t *both = mine == NULL     ? wanted
                         : wanted == NULL ? mine
                                          : expr_broadcast(ctx->exprs, mine,
                                                           wanted);
    dim[out_rank - 1 - i] = both;
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_expand(ctx->b, x, out_rank, dim));
  return MOEC_OK;
}

/* x[d] repeated r times is x[1, d] expanded to [r, d] and flattened. */
moec_status_t convert_tile(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *repeats = ctx_in(ctx, 1);
  unsigned n, rank = x->type.rank;
  if (!ctx_check_rank(ctx, repeats, 1, 1, "repeats")) return ctx->status;
  const expr_t **repeat = ctx_sizes(ctx, repeats, "repeats", 0, &n);
  if (repeat == NULL) return ctx_status(ctx);
  if (n != rank)
    return ctx_invalid(ctx, "there are %u repeats for an input of rank %u", n,
                       rank);
  const expr_t *split[2 * IR_MAX_RANK], *wide[2 * IR_MAX_RANK];
  const expr_t *joined[IR_MAX_RANK];
  unsigned n_wide = 0;
  for (unsigned i = 0; i < rank; i++) {
    joined[i] = expr_mul(ctx->exprs, repeat[i], x->type.dim[i]);
    if (!expr_equals_const(repeat[i], 1)) {
      split[n_wide] = ctx_int(ctx, 1);
      wide[n_wide++] = repeat[i];
    }
    split[n_wide] = wide[n_wide] = x->type.dim[i];
    n_wide++;
  }
  if (n_wide > IR_MAX_RANK)
    return ctx_error(ctx, MOEC_E_LIMIT, "too many dimensions are repeated");
  ir_value_t *y = ir_reshape(ctx->b, x, n_wide, split);
  y = ir_expand(ctx->b, y, n_wide, wide);
  ctx_set_output(ctx, 0, ir_reshape(ctx->b, y, rank, joined));
  return MOEC_OK;
}
