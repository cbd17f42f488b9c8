/* Attention and rotary embeddings, by their definitions. */
#include <math.h>

#include "frontend/convert.h"

typedef struct attention {
  ir_value_t *q, *k, *v; /* [B, heads, length, size] */
  bool flat;             /* inputs were [B, length, heads * size] */
  const expr_t *batch, *n_q, *n_total; /* lengths of queries and of all keys */
  const expr_t *q_heads, *kv_heads, *repeat;
  ir_value_t *offset;  /* i64, keys before the first query; NULL: none */
  ir_value_t *n_valid; /* i64[B, 1, 1, 1] valid keys; NULL: all */
  ir_value_t *allowed; /* bool, keys that may be attended; NULL: all */
  ir_value_t *bias;    /* added to scores; NULL: none */
} attention_t;

/* x[B, length, heads * size] as [B, heads, length, size]. */
static ir_value_t *split_heads(convert_ctx_t *ctx, ir_value_t *x,
                               int64_t heads) {
  static const int64_t perm[] = {0, 2, 1, 3};
  expr_pool_t *pool = ctx->exprs;
  const expr_t *n = ctx_int(ctx, heads), *width = ctx_dim(x, 2);
  const expr_t *size = expr_divide_exactly(pool, width, n);
  if (size == NULL) {
    size = expr_floordiv(pool, width, n);
    ir_check_equal(ctx->b, expr_mul(pool, size, n), width,
                   "width of heads side by side");
  }
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_dim(x, 1), n, size};
  return ir_transpose(ctx->b, ir_reshape(ctx->b, x, 4, dim), perm);
}

static bool read_inputs(convert_ctx_t *ctx, attention_t *a) {
  a->q = ctx_in(ctx, 0);
  a->k = ctx_in(ctx, 1);
  a->v = ctx_in(ctx, 2);
  unsigned rank = a->q->type.rank;
  int64_t q_heads = attr_int(ctx, "q_num_heads", 0);
  int64_t kv_heads = attr_int(ctx, "kv_num_heads", 0);
  if (ctx->status != MOEC_OK || !ctx_check_rank(ctx, a->q, 3, 4, "the query") ||
      !ctx_check_rank(ctx, a->k, rank, rank, "the key") ||
      !ctx_check_rank(ctx, a->v, rank, rank, "the value"))
    return false;
  a->flat = rank == 3;
  if (!a->flat) return true;
  if (q_heads < 1 || kv_heads < 1 || q_heads > INT32_MAX ||
      kv_heads > INT32_MAX) {
    ctx_invalid(ctx, "q_num_heads is %lld and kv_num_heads %lld",
                (long long)q_heads, (long long)kv_heads);
    return false;
  }
  a->q = split_heads(ctx, a->q, q_heads);
  a->k = split_heads(ctx, a->k, kv_heads);
  a->v = split_heads(ctx, a->v, kv_heads);
  return a->q != NULL && a->k != NULL && a->v != NULL;
}

/* x after the cached part, along dimension 2. */
static ir_value_t *with_past(convert_ctx_t *ctx, ir_value_t *past,
                             ir_value_t *x) {
  ir_value_t *parts[] = {past, x};
  if (!ctx_check_rank(ctx, past, 4, 4, "the cache")) return NULL;
  for (unsigned i = 0; i < 4; i++)
    if (i != 2)
      ir_check_equal(ctx->b, ctx_dim(past, i), ctx_dim(x, i),
                     "dimensions of the cache");
  return ir_concat(ctx->b, 2, parts, 2);
}

static bool read_cache(convert_ctx_t *ctx, attention_t *a) {
  ir_value_t *past_key = ctx_in(ctx, 4), *past_value = ctx_in(ctx, 5);
  ir_value_t *valid = ctx_in(ctx, 6);
  if ((past_key == NULL) != (past_value == NULL)) {
    ctx_invalid(ctx, "past_key and past_value must be given together");
    return false;
  }
  if (past_key != NULL && valid != NULL) {
    ctx_invalid(ctx, "nonpad_kv_seqlen is given beside past_key");
    return false;
  }
  ir_builder_t *b = ctx->b;
  if (past_key != NULL) {
    if (!ctx_check_rank(ctx, past_key, 4, 4, "past_key")) return false;
    a->offset = ir_expr_scalar(b, ctx_dim(past_key, 2));
    a->k = with_past(ctx, past_key, a->k);
    a->v = with_past(ctx, past_value, a->v);
  } else if (valid != NULL) {
    if (!ctx_check_rank(ctx, valid, 1, 1, "nonpad_kv_seqlen")) return false;
    ir_check_equal(b, ctx_dim(valid, 0), ctx_dim(a->q, 0),
                   "size of nonpad_kv_seqlen and of the batch");
    a->n_valid = ctx_along(ctx, ir_cast(b, valid, DT_I64), 0, 4);
    a->offset =
        ir_binary(b, OP_SUB, a->n_valid, ir_expr_scalar(b, ctx_dim(a->q, 2)));
  }
  return a->k != NULL && a->v != NULL && ctx_status(ctx) == MOEC_OK;
}

static bool read_sizes(convert_ctx_t *ctx, attention_t *a) {
  expr_pool_t *pool = ctx->exprs;
  ir_builder_t *b = ctx->b;
  a->batch = ctx_dim(a->q, 0);
  a->q_heads = ctx_dim(a->q, 1);
  a->n_q = ctx_dim(a->q, 2);
  a->kv_heads = ctx_dim(a->k, 1);
  a->n_total = ctx_dim(a->k, 2);
  ir_check_equal(b, a->batch, ctx_dim(a->k, 0), "batches of query and key");
  ir_check_equal(b, a->batch, ctx_dim(a->v, 0), "batches of query and value");
  ir_check_equal(b, a->kv_heads, ctx_dim(a->v, 1), "heads of key and value");
  ir_check_equal(b, a->n_total, ctx_dim(a->v, 2), "lengths of key and value");
  ir_check_equal(b, ctx_dim(a->q, 3), ctx_dim(a->k, 3),
                 "head sizes of query and key");
  a->repeat = expr_divide_exactly(pool, a->q_heads, a->kv_heads);
  if (a->repeat == NULL) {
    a->repeat = expr_floordiv(pool, a->q_heads, a->kv_heads);
    ir_check_equal(b, expr_mul(pool, a->repeat, a->kv_heads), a->q_heads,
                   "query heads that share a key head");
  }
  return ctx_status(ctx) == MOEC_OK;
}

static void restrict_to(convert_ctx_t *ctx, attention_t *a,
                        ir_value_t *allowed) {
  a->allowed = a->allowed == NULL
                   ? allowed
                   : ctx_binary(ctx, OP_AND, a->allowed, allowed);
}

/* From opset 24 on a mask may be shorter than the keys: the rest is masked. */
static ir_value_t *padded_mask(convert_ctx_t *ctx, const attention_t *a,
                               ir_value_t *mask) {
  unsigned rank = mask->type.rank;
  if (rank == 0 || ctx->opset < 24) return mask;
  const expr_t *length = ctx_dim(mask, rank - 1);
  const expr_t *missing = expr_max(ctx->exprs, ctx_int(ctx, 0),
                                   expr_sub(ctx->exprs, a->n_total, length));
  if (expr_equals_const(missing, 0)) return mask;
  ir_value_t *fill = ctx_scalar(
      ctx, mask, mask->type.dtype == DT_BOOL ? 0 : -(double)INFINITY);
  ir_value_t *in[] = {mask, fill};
  ir_op_t *op = ir_begin(ctx->b, OP_PAD, 2, in, 1);
  if (op == NULL) return NULL;
  const expr_t *before[IR_MAX_RANK], *after[IR_MAX_RANK];
  for (unsigned i = 0; i < rank; i++) before[i] = after[i] = ctx_int(ctx, 0);
  after[rank - 1] = missing;
  ir_set_exprs(op, ATTR_PAD_before, rank, before);
  ir_set_exprs(op, ATTR_PAD_after, rank, after);
  ir_set_str(op, ATTR_PAD_mode, "constant");
  ir_value_t *y = ir_place(ctx->b, op);
  if (y == NULL) return NULL;
  /* What was longer than the keys was wrong. */
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = 0; i < rank; i++) dim[i] = ctx_dim(y, i);
  ir_check_equal(ctx->b, dim[rank - 1], a->n_total, "length of the mask");
  dim[rank - 1] = a->n_total;
  return ir_reshape(ctx->b, y, rank, dim);
}

static bool read_masks(convert_ctx_t *ctx, attention_t *a) {
  ir_builder_t *b = ctx->b;
  bool causal = attr_bool(ctx, "is_causal", false);
  int64_t left = -1, right = -1;
  if (ctx->opset >= 25) {
    left = attr_int(ctx, "left_window_size", -1);
    right = attr_int(ctx, "right_window_size", -1);
    if (left < -1 || right < -1)
      ctx_invalid(ctx, "window sizes are %lld and %lld", (long long)left,
                  (long long)right);
  }
  if (ctx->status != MOEC_OK) return false;
  ir_value_t *mask = ctx_in(ctx, 3);
  if (mask != NULL) {
    if (!ctx_check_rank(ctx, mask, 0, 4, "the mask")) return false;
    mask = padded_mask(ctx, a, mask);
    if (mask == NULL) return false;
    if (mask->type.dtype == DT_BOOL)
      a->allowed = mask;
    else
      a->bias = mask;
  }
  if (!causal && left < 0 && right < 0 && a->n_valid == NULL) return true;
  ir_value_t *key = ir_iota(b, DT_I64, a->n_total);
  if (causal || left >= 0 || right >= 0) {
    ir_value_t *place = ir_unsqueeze(b, ir_iota(b, DT_I64, a->n_q), 1);
    if (a->offset != NULL) place = ctx_binary(ctx, OP_ADD, place, a->offset);
    if (causal) restrict_to(ctx, a, ir_binary(b, OP_LE, key, place));
    if (left >= 0)
      restrict_to(
          ctx, a,
          ir_binary(b, OP_LE,
                    ir_binary(b, OP_SUB, place, ir_scalar_int(b, DT_I64, left)),
                    key));
    if (right >= 0)
      restrict_to(ctx, a,
                  ir_binary(b, OP_LE, key,
                            ir_binary(b, OP_ADD, place,
                                      ir_scalar_int(b, DT_I64, right))));
  }
  if (a->n_valid != NULL)
    restrict_to(ctx, a, ir_binary(b, OP_LT, key, a->n_valid));
  return ctx_status(ctx) == MOEC_OK;
}

/* Rows of probabilities without any key are 0: those whose masks forbid all. */
static ir_value_t *guard_rows(convert_ctx_t *ctx, const attention_t *a,
                              ir_value_t *probabilities) {
  ir_builder_t *b = ctx->b;
  bool only_past = a->bias == NULL && ctx_in(ctx, 3) == NULL &&
                   a->n_valid == NULL && ctx->opset < 25;
  if ((a->allowed == NULL && a->bias == NULL) || only_past)
    return probabilities;
  ir_value_t *none = ctx_scalar(ctx, probabilities, -(double)INFINITY);
  ir_value_t *zero = ctx_scalar(ctx, probabilities, 0);
  ir_value_t *bias =
      a->bias != NULL ? ctx_like(ctx, a->bias, probabilities) : zero;
  if (a->allowed != NULL) {
    ir_value_t *in[] = {a->allowed, bias};
    ctx_check_broadcast(ctx, 2, in);
    bias = ir_select(b, in[0], in[1], none);
  }
  if (bias == NULL) return NULL;
  if (bias->type.rank > 0) {
    int64_t axis = bias->type.rank - 1;
    bias = ir_reduce(b, OP_REDUCE_MAX, bias, 1, &axis, true);
  }
  return ir_select(b, ir_binary(b, OP_EQ, bias, none), zero, probabilities);
}

static ir_value_t *scale_of(convert_ctx_t *ctx, const attention_t *a) {
  int64_t size;
  double scale = attr_float(ctx, "scale", 0);
  if (attr_has(ctx, "scale")) return ctx_scalar(ctx, a->q, scale);
  if (expr_is_const(ctx_dim(a->q, 3), &size))
    return ctx_scalar(ctx, a->q, 1 / sqrt((double)size));
  ir_value_t *root = ir_unary(
      ctx->b, OP_SQRT,
      ir_cast(ctx->b, ir_expr_scalar(ctx->b, ctx_dim(a->q, 3)), DT_F32));
  return ctx_like(
      ctx, ir_binary(ctx->b, OP_DIV, ctx_scalar(ctx, root, 1), root), a->q);
}

/* x[B, q_heads, ..] as [B, kv_heads, repeat, ..]. */
static ir_value_t *group_heads(convert_ctx_t *ctx, const attention_t *a,
                               ir_value_t *x) {
  if (x == NULL) return NULL;
  const expr_t *dim[] = {a->batch, a->kv_heads, a->repeat, ctx_dim(x, 2),
                         ctx_dim(x, 3)};
  return ir_reshape(ctx->b, x, 5, dim);
}

/* x[B, q_heads, m, n] * y[B, kv_heads, n, p], a key head for several queries.
 */
static ir_value_t *multiply(convert_ctx_t *ctx, const attention_t *a,
                            ir_value_t *x, ir_value_t *y) {
  if (x == NULL || y == NULL) return NULL;
  if (expr_equals_const(a->repeat, 1)) return ir_matmul(ctx->b, x, y);
  ir_value_t *grouped = group_heads(ctx, a, x);
  ir_value_t *z = ir_matmul(ctx->b, grouped, ir_unsqueeze(ctx->b, y, 2));
  const expr_t *dim[] = {a->batch, a->q_heads, ctx_dim(x, 2), ctx_dim(y, 3)};
  return ir_reshape(ctx->b, z, 4, dim);
}

static ir_value_t *cap_softly(convert_ctx_t *ctx, ir_value_t *scores) {
  double cap = attr_float(ctx, "softcap", 0);
  if (cap == 0 || scores == NULL) return scores;
  ir_value_t *factor = ctx_scalar(ctx, scores, cap);
  ir_value_t *inner = ir_binary(ctx->b, OP_DIV, scores, factor);
  return ir_binary(ctx->b, OP_MUL, ir_unary(ctx->b, OP_TANH, inner), factor);
}

static ir_value_t *apply_masks(convert_ctx_t *ctx, const attention_t *a,
                               ir_value_t *scores) {
  if (a->bias != NULL)
    scores = ctx_binary(ctx, OP_ADD, scores, ctx_like(ctx, a->bias, scores));
  if (a->allowed == NULL) return scores;
  ir_value_t *in[] = {scores, a->allowed};
  ctx_check_broadcast(ctx, 2, in);
  return ir_select(ctx->b, in[1], in[0],
                   ctx_scalar(ctx, scores, -(double)INFINITY));
}

/* In the wanted precision, and at least that of f32. */
static ir_value_t *softmax(convert_ctx_t *ctx, ir_value_t *scores) {
  dtype_t precision = attr_dtype(ctx, "softmax_precision", DT_NONE);
  ir_value_t *wide = ctx_widen(ctx, scores), *x = wide;
  if (precision == DT_F64) x = ir_cast(ctx->b, wide, precision);
  ir_op_t *op = ir_begin(ctx->b, OP_SOFTMAX, 1, &x, 1);
  if (op != NULL) ir_set_int(op, ATTR_SOFTMAX_axis, 3);
  return ctx_like(ctx, ir_place(ctx->b, op), wide);
}

moec_status_t convert_attention(convert_ctx_t *ctx) {
  static const int64_t swap[] = {0, 1, 3, 2}, side_by_side[] = {0, 2, 1, 3};
  attention_t a = {0};
  int64_t mode = attr_int(ctx, "qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    return ctx_invalid(ctx, "qk_matmul_output_mode is %lld", (long long)mode);
  if (!read_inputs(ctx, &a) || !read_cache(ctx, &a) || !read_sizes(ctx, &a) ||
      !read_masks(ctx, &a))
    return ctx_status(ctx);
  ir_value_t *q = ir_binary(ctx->b, OP_MUL, a.q, scale_of(ctx, &a));
  ir_value_t *stage[4];
  stage[0] = multiply(ctx, &a, q, ir_transpose(ctx->b, a.k, swap));
  stage[1] = cap_softly(ctx, stage[0]);
  stage[2] = apply_masks(ctx, &a, stage[1]);
  stage[3] = guard_rows(ctx, &a, softmax(ctx, stage[2]));
  /* 16-bit probabilities would cost as much precision as all else together. */
  ir_value_t *v = ctx_widen(ctx, a.v);
  ir_value_t *y = multiply(ctx, &a, ctx_like(ctx, stage[3], v), v);
  if (y == NULL) return ctx_status(ctx);
  y = ctx_like(ctx, y, a.q);
  if (a.flat) {
    const expr_t *dim[] = {a.batch, a.n_q,
                           expr_mul(ctx->exprs, a.q_heads, ctx_dim(y, 3))};
    y = ir_reshape(ctx->b, ir_transpose(ctx->b, y, side_by_side), 3, dim);
  }
  ctx_set_output(ctx, 0, y);
  ctx_set_output(ctx, 1, a.k);
  ctx_set_output(ctx, 2, a.v);
  ctx_set_output(ctx, 3, ctx_like(ctx, stage[mode], a.q));
  return MOEC_OK;
}
