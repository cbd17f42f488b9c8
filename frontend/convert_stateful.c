/* Layers that carry a state from call to call: CausalConvWithState and
 * LinearAttention. */
#include <math.h>

#include "frontend/region.h"
#include "frontend/window.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* ---- CausalConvWithState ------------------------------------------------- */

/* The state, or zeros, and behind it the input. */
static ir_value_t *with_past(convert_ctx_t *ctx, ir_value_t *x,
                             const expr_t *length) {
  ir_value_t *past = ctx_in(ctx, 3);
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_dim(x, 1), length};
  if (past == NULL)
    past = ir_fill(ctx->b, ctx_scalar(ctx, x, 0), 3, dim);
  else if (!ctx_check_rank(ctx, past, 3, 3, "past_state"))
    return NULL;
  if (past == NULL) return NULL;
  for (unsigned i = 0; i < 3; i++)
    ir_check_equal(ctx->b, ctx_dim(past, i), dim[i], "dimensions of the state");
  ir_value_t *both[] = {past, x};
  return ctx_status(ctx) == MOEC_OK ? ir_concat(ctx->b, 2, both, 2) : NULL;
}

moec_status_t convert_causal_conv_with_state(convert_ctx_t *ctx) {
  static const char *const activations[] = {"none", "silu", "swish", NULL};
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  ir_value_t *x = ctx_in(ctx, 0), *w = ctx_in(ctx, 1), *bias = ctx_in(ctx, 2);
  bool silu = attr_choice(ctx, "activation", activations) > 0;
  if (!ctx_check_rank(ctx, x, 3, 3, "the input") ||
      !ctx_check_rank(ctx, w, 3, 3, "the weights"))
    return ctx_status(ctx);
  const expr_t *one = ctx_int(ctx, 1), *zero = ctx_int(ctx, 0);
  const expr_t *k = ctx_dim(w, 2), *length = ctx_dim(x, 2);
  const expr_t *state = expr_sub(pool, k, one);
  ir_check_equal(b, ctx_dim(w, 0), ctx_dim(x, 1), "channels of the weights");
  ir_check_equal(b, ctx_dim(w, 1), one, "channels that a filter has");
  ir_check_equal(b, expr_max(pool, k, one), k,
                 "size of the kernel, at least 1");
  ir_value_t *padded = with_past(ctx, x, state);
  if (padded == NULL) return ctx_status(ctx);
  window_t window = {.n = 1,
                     .kernel = {k},
                     .strides = {1},
                     .dilations = {1},
                     .input_dilation = {1},
                     .before = {zero},
                     .after = {zero},
                     .out = {length}};
  ir_value_t *windows =
      window_unfold(ctx, padded, ctx_scalar(ctx, x, 0), &window);
  const expr_t *dim[] = {one, ctx_dim(x, 1), k, one};
  int64_t axis = 2;
  ir_value_t *y = ctx_widen(ctx, windows);
  y = two(ctx, OP_MUL, y, ctx_widen(ctx, ir_reshape(b, w, 4, dim)));
  y = ir_reduce(b, OP_REDUCE_SUM, y, 1, &axis, false);
  if (bias != NULL) {
    if (!ctx_check_rank(ctx, bias, 1, 1, "the bias")) return ctx->status;
    ir_check_equal(b, ctx_dim(bias, 0), ctx_dim(x, 1), "size of the bias");
    y = two(ctx, OP_ADD, y, ctx_widen(ctx, ctx_along(ctx, bias, 1, 3)));
  }
  y = ctx_like(ctx, y, x);
  if (silu) {
    ir_value_t *wide = ctx_widen(ctx, y);
    wide = two(ctx, OP_MUL, wide, ir_unary(b, OP_SIGMOID, wide));
    y = ctx_like(ctx, wide, x);
  }
  ctx_set_output(ctx, 0, y);
  ctx_set_output(ctx, 1, ctx_part(ctx, padded, 2, length, state));
  return ctx_status(ctx);
}

/* ---- LinearAttention ----------------------------------------------------- */

enum { FEW_STEPS = 4 }; /* that need no loop */

typedef struct linear {
  int64_t q_heads, kv_heads;
  const expr_t *batch, *steps, *d_k, *d_v;
  bool gated, delta;
  double scale;                         /* 0: by the size of a head */
  ir_value_t *q, *k, *v, *decay, *beta; /* f32 [B, T, heads, d or 1] */
  ir_value_t *state;                    /* f32 [B, heads, d_k, d_v] */
  ir_value_t *factor;                   /* of outputs, f32[] */
} linear_t;

/* x[B, T, heads * d] as f32 [B, T, heads, d]; NULL after an error. */
static ir_value_t *in_heads(convert_ctx_t *ctx, const linear_t *l,
                            unsigned index, int64_t heads, const char *what) {
  ir_value_t *x = ctx_in(ctx, index);
  if (!ctx_check_rank(ctx, x, 3, 3, what)) return NULL;
  const expr_t *n = ctx_int(ctx, heads), *all = ctx_dim(x, 2);
  const expr_t *each = expr_divide_exactly(ctx->exprs, all, n);
  if (each == NULL) {
    each = expr_floordiv(ctx->exprs, all, n);
    ir_check_equal(ctx->b, expr_mul(ctx->exprs, each, n), all, what);
  }
  if (l->batch != NULL)
    ir_check_equal(ctx->b, ctx_dim(x, 0), l->batch, "batches");
  if (l->batch != NULL)
    ir_check_equal(ctx->b, ctx_dim(x, 1), l->steps, "steps");
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_dim(x, 1), n, each};
  return ir_cast(ctx->b, ir_reshape(ctx->b, x, 4, dim), DT_F32);
}

static bool read_rule(convert_ctx_t *ctx, linear_t *l) {
  static const char *const rules[] = {"gated_delta", "linear", "gated", "delta",
                                      NULL};
  unsigned rule = attr_choice(ctx, "update_rule", rules);
  *l = (linear_t){.gated = rule == 0 || rule == 2,
                  .delta = rule == 0 || rule == 3,
                  .q_heads = attr_int_required(ctx, "q_num_heads"),
                  .kv_heads = attr_int_required(ctx, "kv_num_heads"),
                  .scale = attr_float(ctx, "scale", 0)};
  attr_ignore(ctx, "chunk_size");
  if (ctx->status != MOEC_OK) return false;
  if (l->q_heads < 1 || l->kv_heads < 1 || l->q_heads > INT32_MAX ||
      l->q_heads % l->kv_heads != 0)
    ctx_invalid(ctx, "q_num_heads is %lld and kv_num_heads %lld",
                (long long)l->q_heads, (long long)l->kv_heads);
  if ((ctx_in(ctx, 4) != NULL) != l->gated)
    ctx_invalid(ctx, "update_rule %s %s decay", rules[rule],
                l->gated ? "needs" : "has no");
  if ((ctx_in(ctx, 5) != NULL) != l->delta)
    ctx_invalid(ctx, "update_rule %s %s beta", rules[rule],
                l->delta ? "needs" : "has no");
  return ctx->status == MOEC_OK;
}

static bool read_linear(convert_ctx_t *ctx, linear_t *l) {
  if (!read_rule(ctx, l)) return false;
  l->q = in_heads(ctx, l, 0, l->q_heads, "query");
  if (l->q == NULL) return false;
  l->steps = ctx_dim(l->q, 1);
  l->batch = ctx_dim(l->q, 0);
  l->k = in_heads(ctx, l, 1, l->kv_heads, "key");
  l->v = in_heads(ctx, l, 2, l->kv_heads, "value");
  if (l->k == NULL || l->v == NULL) return false;
  l->d_k = ctx_dim(l->q, 3);
  l->d_v = ctx_dim(l->v, 3);
  ir_check_equal(ctx->b, ctx_dim(l->k, 3), l->d_k, "sizes of the heads");
  if (l->gated) {
    l->decay = in_heads(ctx, l, 4, l->kv_heads, "decay");
    if (l->decay == NULL) return false;
    const expr_t *each =
        expr_broadcast(ctx->exprs, ctx_dim(l->decay, 3), l->d_k);
    ir_check_equal(ctx->b, each, l->d_k, "elements of decay for a head");
    if (ctx_status(ctx) != MOEC_OK) return false;
    const expr_t *dim[] = {l->batch, l->steps, ctx_int(ctx, l->kv_heads),
                           l->d_k};
    l->decay = ir_expand(ctx->b, l->decay, 4, dim);
  }
  if (l->delta) {
    ir_value_t *beta = ctx_in(ctx, 5);
    if (!ctx_check_rank(ctx, beta, 3, 3, "beta")) return false;
    const expr_t *heads = ctx_int(ctx, l->kv_heads), *one = ctx_int(ctx, 1);
    const expr_t *given = ctx_dim(beta, 2);
    ir_check_equal(ctx->b, expr_broadcast(ctx->exprs, given, heads), heads,
                   "heads of beta");
    ir_check_equal(ctx->b, ctx_dim(beta, 0), l->batch, "batches");
    ir_check_equal(ctx->b, ctx_dim(beta, 1), l->steps, "steps");
    if (ctx_status(ctx) != MOEC_OK) return false;
    const expr_t *split[] = {l->batch, l->steps, given, one};
    const expr_t *dim[] = {l->batch, l->steps, heads, one};
    beta = ir_cast(ctx->b, ir_reshape(ctx->b, beta, 4, split), DT_F32);
    l->beta = ir_expand(ctx->b, beta, 4, dim);
  }
  return ctx_status(ctx) == MOEC_OK;
}

static bool read_state(convert_ctx_t *ctx, linear_t *l) {
  ir_value_t *past = ctx_in(ctx, 3);
  const expr_t *dim[] = {l->batch, ctx_int(ctx, l->kv_heads), l->d_k, l->d_v};
  if (past == NULL) {
    l->state = ir_fill(ctx->b, ir_scalar(ctx->b, DT_F32, 0), 4, dim);
    return true;
  }
  if (!ctx_check_rank(ctx, past, 4, 4, "past_state")) return false;
  for (unsigned i = 0; i < 4; i++)
    ir_check_equal(ctx->b, ctx_dim(past, i), dim[i], "dimensions of the state");
  l->state = ir_cast(ctx->b, past, DT_F32);
  return ctx_status(ctx) == MOEC_OK;
}

/* Step t, i64[], of x[B, T, heads, d] as [B, heads, d, 1] or [B, heads, 1, d].
 */
static ir_value_t *step_of(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *t,
                           bool column) {
  return ir_unsqueeze(ctx->b, ir_gather(ctx->b, x, t, 1), column ? 3 : 2);
}

/* One step: l->state anew, and the output [B, q_heads, d_v]. */
static ir_value_t *attend(convert_ctx_t *ctx, linear_t *l, ir_value_t *t) {
  ir_builder_t *b = ctx->b;
  int64_t rows = 2;
  ir_value_t *k = step_of(ctx, l->k, t, true);
  ir_value_t *v = step_of(ctx, l->v, t, false);
  if (l->gated) {
    ir_value_t *g = ir_unary(b, OP_EXP, step_of(ctx, l->decay, t, true));
    l->state = two(ctx, OP_MUL, l->state, g);
  }
  if (l->delta) {
    ir_value_t *known = two(ctx, OP_MUL, l->state, k);
    known = ir_reduce(b, OP_REDUCE_SUM, known, 1, &rows, true);
    v = two(ctx, OP_SUB, v, known);
    v = two(ctx, OP_MUL, step_of(ctx, l->beta, t, false), v);
  }
  l->state = two(ctx, OP_ADD, l->state, two(ctx, OP_MUL, k, v));
  int64_t group = l->q_heads / l->kv_heads;
  const expr_t *heads = ctx_int(ctx, l->kv_heads), *g = ctx_int(ctx, group);
  const expr_t *q_dim[] = {l->batch, heads, g, l->d_k, ctx_int(ctx, 1)};
  const expr_t *out[] = {l->batch, ctx_int(ctx, l->q_heads), l->d_v};
  ir_value_t *q = ir_reshape(b, step_of(ctx, l->q, t, true), 5, q_dim);
  ir_value_t *y = two(ctx, OP_MUL, q, ir_unsqueeze(b, l->state, 2));
  rows = 3;
  y = ir_reduce(b, OP_REDUCE_SUM, y, 1, &rows, false);
  return ir_reshape(b, two(ctx, OP_MUL, y, l->factor), 3, out);
}

static moec_status_t attend_in_loop(convert_ctx_t *ctx, void *user,
                                    ir_value_t *trip, ir_value_t *const *state,
                                    ir_value_t **out) {
  linear_t *l = user;
  l->state = state[0];
  out[0] = NULL;
  out[2] = attend(ctx, l, trip);
  out[1] = l->state;
  return ctx_status(ctx);
}

/* All outputs [B, T, q_heads, d_v]; NULL after an error. */
static ir_value_t *attend_all(convert_ctx_t *ctx, linear_t *l) {
  static const int64_t batch_first[] = {1, 0, 2, 3};
  ir_builder_t *b = ctx->b;
  int64_t steps;
  if (expr_is_const(l->steps, &steps) && steps > 0 && steps <= FEW_STEPS) {
    ir_value_t *part[FEW_STEPS];
    for (int64_t t = 0; t < steps; t++) {
      part[t] = attend(ctx, l, ir_scalar_int(b, DT_I64, t));
      if (part[t] == NULL) return NULL;
      part[t] = ir_unsqueeze(b, part[t], 1);
    }
    return ir_concat(b, (unsigned)steps, part, 1);
  }
  ir_value_t *init = l->state, *results[2];
  while_spec_t loop = {.limit = ir_expr_scalar(b, l->steps),
                       .trips = l->steps,
                       .n_state = 1,
                       .n_rows = 1,
                       .init = &init,
                       .body = attend_in_loop,
                       .user = l};
  loop.first = ir_scalar_int(b, DT_BOOL, 1);
  if (ctx_while(ctx, &loop, results) != MOEC_OK) return NULL;
  l->state = results[0];
  return ir_transpose(b, results[1], batch_first);
}

/* S = exp(g) S + k (beta (v - S^T k))^T and y = scale q^T S, step by step. */
moec_status_t convert_linear_attention(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  linear_t l;
  if (!read_linear(ctx, &l) || !read_state(ctx, &l)) return ctx_status(ctx);
  ir_value_t *x = ctx_in(ctx, 0), *past = ctx_in(ctx, 3);
  if (l.scale != 0) {
    l.factor = ir_scalar(b, DT_F32, l.scale);
  } else {
    ir_value_t *root = ir_cast(b, ir_expr_scalar(b, l.d_k), DT_F64);
    root = ir_unary(b, OP_SQRT, root);
    root = two(ctx, OP_DIV, ir_scalar(b, DT_F64, 1), root);
    l.factor = ir_cast(b, root, DT_F32);
  }
  ir_value_t *y = attend_all(ctx, &l);
  const expr_t *q_heads = ctx_int(ctx, l.q_heads);
  const expr_t *dim[] = {l.batch, l.steps,
                         expr_mul(ctx->exprs, q_heads, l.d_v)};
  if (y == NULL) return ctx_status(ctx);
  ctx_set_output(ctx, 0, ctx_like(ctx, ir_reshape(b, y, 3, dim), x));
  ctx_set_output(ctx, 1, ctx_like(ctx, l.state, past != NULL ? past : x));
  return ctx_status(ctx);
}
