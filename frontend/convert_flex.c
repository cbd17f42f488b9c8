/* FlexAttention (ai.onnx.preview): attention with subgraphs over its scores and
 * over their softmax. */
#include <math.h>

#include "frontend/convert.h"

typedef struct flex {
  ir_value_t *q, *k, *v;
  const expr_t *group; /* query heads of a key head */
  dtype_t compute;     /* of the softmax */
} flex_t;

static bool read_operands(convert_ctx_t *ctx, flex_t *f) {
  ir_builder_t *b = ctx->b;
  static const char *const names[] = {"Q", "K", "V"};
  ir_value_t **in[] = {&f->q, &f->k, &f->v};
  for (unsigned i = 0; i < 3; i++) {
    *in[i] = ctx_in(ctx, i);
    if (!ctx_check_rank(ctx, *in[i], 4, 4, names[i])) return false;
    ir_check_equal(b, ctx_dim(f->q, 0), ctx_dim(*in[i], 0),
                   "batches of an attention");
  }
  ir_check_equal(b, ctx_dim(f->k, 1), ctx_dim(f->v, 1), "heads of K and V");
  ir_check_equal(b, ctx_dim(f->k, 2), ctx_dim(f->v, 2), "lengths of K and V");
  ir_check_equal(b, ctx_dim(f->q, 3), ctx_dim(f->k, 3),
                 "sizes of the heads of Q and K");
  const expr_t *hq = ctx_dim(f->q, 1), *hkv = ctx_dim(f->k, 1);
  f->group = expr_divide_exactly(ctx->exprs, hq, hkv);
  if (f->group == NULL) {
    f->group = expr_floordiv(ctx->exprs, hq, hkv);
    ir_check_equal(b, expr_mul(ctx->exprs, f->group, hkv), hq,
                   "heads of Q, a multiple of those of K");
  }
  dtype_t usual = f->q->type.dtype == DT_F64 ? DT_F64 : DT_F32;
  f->compute = attr_dtype(ctx, "softmax_precision", usual);
  if (ctx->status == MOEC_OK &&
      (!dtype_is_float(f->compute) || dtype_bits(f->compute) < 16))
    ctx_invalid(ctx, "softmax_precision is %s", dtype_name(f->compute));
  return ctx_status(ctx) == MOEC_OK;
}

/* 1 / sqrt(size of a head), in f32, unless it is given. */
static ir_value_t *root_of_scale(convert_ctx_t *ctx, const ir_value_t *q) {
  ir_builder_t *b = ctx->b;
  double given = attr_float(ctx, "scale", 0);
  if (attr_has(ctx, "scale")) return ctx_scalar(ctx, q, sqrtf((float)given));
  ir_value_t *e = ir_cast(b, ir_expr_scalar(b, ctx_dim(q, 3)), DT_F64);
  ir_value_t *scale = ir_scalar(b, DT_F64, 1);
  scale = ir_binary(b, OP_DIV, scale, ir_unary(b, OP_SQRT, e));
  return ctx_like(ctx, ir_unary(b, OP_SQRT, ir_cast(b, scale, DT_F32)), q);
}

/* x through the subgraph of an attribute, if there is one. */
static ir_value_t *modified(convert_ctx_t *ctx, const char *name,
                            ir_value_t *x) {
  if (!attr_has(ctx, name)) return x;
  const Onnx__GraphProto *graph = attr_graph(ctx, name);
  slot_t arg = {.kind = SLOT_TENSOR, .value = x}, out = {.kind = SLOT_NONE};
  if (ctx->status != MOEC_OK || graph == NULL || x == NULL) return x;
  if (graph->n_output != 1) {
    ctx_invalid(ctx, "%s has %zu outputs, expected 1", name, graph->n_output);
    return NULL;
  }
  moec_status_t status = ctx_inline(ctx, graph, 1, &arg, &out);
  if (status != MOEC_OK) {
    if (ctx->status == MOEC_OK) ctx->status = status;
    return NULL;
  }
  if (out.kind != SLOT_TENSOR || out.value->type.rank != x->type.rank) {
    ctx_invalid(ctx, "%s does not give a tensor like its input", name);
    return NULL;
  }
  for (unsigned i = 0; i < x->type.rank; i++)
    ir_check_equal(ctx->b, ctx_dim(out.value, i), ctx_dim(x, i), name);
  return ctx_like(ctx, ir_reshape(ctx->b, out.value, x->type.rank, x->type.dim),
                  x);
}

moec_status_t convert_flex_attention(convert_ctx_t *ctx) {
  static const int64_t swap[] = {0, 1, 3, 2};
  ir_builder_t *b = ctx->b;
  flex_t f;
  if (!read_operands(ctx, &f)) return ctx_status(ctx);
  ir_value_t *root = root_of_scale(ctx, f.q);
  ir_value_t *q = ir_binary(b, OP_MUL, f.q, root);
  ir_value_t *k = ir_binary(b, OP_MUL, f.k, ctx_like(ctx, root, f.k));
  /* The query heads of a key head are more rows of its queries. */
  const expr_t *n = ctx_dim(f.q, 0), *heads = ctx_dim(f.k, 1);
  const expr_t *l = ctx_dim(f.q, 2), *s = ctx_dim(f.k, 2);
  const expr_t *rows = expr_mul(ctx->exprs, f.group, l);
  const expr_t *queries[] = {n, heads, rows, ctx_dim(f.q, 3)};
  const expr_t *grouped[] = {n, heads, rows, s};
  const expr_t *full[] = {n, ctx_dim(f.q, 1), l, s};
  const expr_t *result[] = {n, ctx_dim(f.q, 1), l, ctx_dim(f.v, 3)};
  q = ir_reshape(b, q, 4, queries);
  if (k == NULL) return ctx_status(ctx);
  ir_value_t *scores = ir_matmul(b, q, ir_transpose(b, k, swap));
  scores = ir_cast(b, ir_reshape(b, scores, 4, full), f.compute);
  scores = modified(ctx, "score_mod", scores);
  ir_op_t *op = ir_begin(b, OP_SOFTMAX, 1, &scores, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_SOFTMAX_axis, 3);
  ir_value_t *probs = modified(ctx, "prob_mod", ir_place(b, op));
  probs = ir_reshape(b, probs, 4, grouped);
  ir_value_t *y = ir_matmul(b, probs, ir_cast(b, f.v, f.compute));
  y = ir_reshape(b, y, 4, result);
  ctx_set_output(ctx, 0, ctx_like(ctx, y, f.v));
  return ctx_status(ctx);
}
