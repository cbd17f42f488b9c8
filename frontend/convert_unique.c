/* Unique: rows are sorted, runs of equal rows are found in that order. */
#include "frontend/convert.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static ir_value_t *num(convert_ctx_t *ctx, int64_t value) {
  return ir_scalar_int(ctx->b, DT_I64, value);
}

/* y[place[i]] = v[i], for places that are all different, of n. */
static ir_value_t *placed(convert_ctx_t *ctx, ir_value_t *place, ir_value_t *v,
                          const expr_t *n) {
  ir_value_t *in[] = {ir_fill(ctx->b, num(ctx, 0), 1, &n), place, v};
  ir_op_t *op = ir_begin(ctx->b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, 0);
  ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, "none");
  return ir_place(ctx->b, op);
}

typedef struct runs {
  const expr_t *n, *count; /* rows, distinct ones */
  ir_value_t *order;       /* i64[n]: rows, sorted */
  ir_value_t *start;       /* i64[count]: places in `order` */
  ir_value_t *group;       /* i64[n]: run of each place */
} runs_t;

/* Whether row i of sorted x[n, m] is not the one before it, i64[n]. */
static ir_value_t *is_new(convert_ctx_t *ctx, ir_value_t *x) {
  ir_builder_t *b = ctx->b;
  if (x == NULL) return NULL;
  ir_value_t *i = ir_iota(b, DT_I64, ctx_dim(x, 0));
  ir_value_t *before = two(ctx, OP_SUB, i, num(ctx, 1));
  before = two(ctx, OP_MAX, before, num(ctx, 0));
  ir_value_t *y = ir_gather(b, x, before, 0);
  ir_value_t *same = two(ctx, OP_EQ, x, y);
  if (dtype_is_float(x->type.dtype)) {
    ir_value_t *no_numbers = ir_unary(b, OP_IS_NAN, x);
    no_numbers = two(ctx, OP_AND, no_numbers, ir_unary(b, OP_IS_NAN, y));
    same = two(ctx, OP_OR, same, no_numbers);
  }
  int64_t axis = 1;
  ir_value_t *differ = ir_cast(b, ir_unary(b, OP_NOT, same), DT_I64);
  differ = ir_reduce(b, OP_REDUCE_MAX, differ, 1, &axis, false);
  differ = two(ctx, OP_LT, num(ctx, 0), differ);
  ir_value_t *first = two(ctx, OP_EQ, i, num(ctx, 0));
  return ir_cast(b, two(ctx, OP_OR, first, differ), DT_I64);
}

static bool find_runs(convert_ctx_t *ctx, ir_value_t *x, runs_t *r) {
  ir_builder_t *b = ctx->b;
  ir_op_t *op = ir_begin(b, OP_SORT_ROWS, 1, &x, 2);
  if (op == NULL || ir_place(b, op) == NULL) return false;
  r->n = ctx_dim(x, 0);
  r->order = &op->out[0];
  ir_value_t *first = is_new(ctx, ir_gather(b, x, r->order, 0));
  op = ir_begin(b, OP_CUM_SUM, 1, &first, 1);
  if (op == NULL) return false;
  ir_set_int(op, ATTR_CUM_SUM_axis, 0);
  r->group = ir_place(b, op);
  r->group = two(ctx, OP_SUB, r->group, num(ctx, 1));
  int64_t axis = 0;
  ir_value_t *sum = ir_reduce(b, OP_REDUCE_SUM, first, 1, &axis, false);
  r->count = ir_bind(b, sum, 0, "unique", 0, r->n);
  if (r->count == NULL) return false;
  op = ir_begin(b, OP_NONZERO, 1, &first, 1);
  if (op == NULL) return false;
  ir_set_expr(op, ATTR_NONZERO_count, r->count);
  ir_value_t *start = ir_place(b, op);
  r->start = start != NULL ? ir_squeeze(b, start, 0) : NULL;
  return r->start != NULL;
}

/* Lengths of the runs: where the next one starts, less the own start. */
static ir_value_t *lengths(convert_ctx_t *ctx, const runs_t *r) {
  ir_builder_t *b = ctx->b;
  ir_value_t *next = ir_iota(b, DT_I64, r->count);
  next = two(ctx, OP_ADD, next, num(ctx, 1));
  ir_value_t *count = ir_expr_scalar(b, r->count);
  ir_value_t *within = two(ctx, OP_LT, next, count);
  ir_value_t *last = two(ctx, OP_SUB, count, num(ctx, 1));
  ir_value_t *end = ir_gather(b, r->start, two(ctx, OP_MIN, next, last), 0);
  end = ir_select(b, within, end, ir_expr_scalar(b, r->n));
  return two(ctx, OP_SUB, end, r->start);
}

/* The runs in the order in which their rows come first: i64[count]. */
static ir_value_t *by_appearance(convert_ctx_t *ctx, ir_value_t *first) {
  ir_op_t *op = ir_begin(ctx->b, OP_TOPK, 1, &first, 2);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_TOPK_axis, 0);
  ir_set_expr(op, ATTR_TOPK_k, ctx_dim(first, 0));
  ir_set_int(op, ATTR_TOPK_largest, 0);
  return ir_place(ctx->b, op) != NULL ? &op->out[1] : NULL;
}

/* x as rows along the axis. */
static ir_value_t *as_rows(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                           int64_t *perm) {
  unsigned rank = x->type.rank;
  perm[0] = axis;
  for (unsigned i = 0; i < axis; i++) perm[i + 1] = i;
  for (unsigned i = axis + 1; i < rank; i++) perm[i] = i;
  const expr_t *d = ctx_dim(x, axis);
  x = ir_transpose(ctx->b, x, perm);
  if (x == NULL) return NULL;
  const expr_t *dim[] = {d,
                         expr_product(ctx->exprs, x->type.dim + 1, rank - 1)};
  return ir_reshape(ctx->b, x, 2, dim);
}

/* Rows that are left, as part of a tensor like x. */
static ir_value_t *from_rows(convert_ctx_t *ctx, ir_value_t *y,
                             const ir_value_t *x, const int64_t *perm) {
  unsigned rank = x->type.rank;
  const expr_t *dim[IR_MAX_RANK];
  int64_t back[IR_MAX_RANK];
  if (y == NULL) return NULL;
  for (unsigned i = 0; i < rank; i++) {
    dim[i] = i == 0 ? ctx_dim(y, 0) : ctx_dim(x, (unsigned)perm[i]);
    back[perm[i]] = i;
  }
  return ir_transpose(ctx->b, ir_reshape(ctx->b, y, rank, dim), back);
}

moec_status_t convert_unique(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *rows = x;
  bool sorted = attr_bool(ctx, "sorted", true), flat = !attr_has(ctx, "axis");
  int64_t perm[IR_MAX_RANK];
  unsigned axis = 0;
  runs_t r;
  if (flat) rows = ctx_flat(ctx, x);
  if (!flat && !ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis))
    return ctx->status;
  MOEC_TRY(ctx_status(ctx));
  rows = as_rows(ctx, rows, axis, perm);
  if (rows == NULL || !find_runs(ctx, rows, &r)) return ctx_status(ctx);
  ir_value_t *first = ir_gather(b, r.order, r.start, 0);
  ir_value_t *counts = lengths(ctx, &r);
  ir_value_t *group = r.group;
  if (!sorted) {
    ir_value_t *by = by_appearance(ctx, first);
    first = ir_gather(b, first, by, 0);
    counts = ir_gather(b, counts, by, 0);
    ir_value_t *rank = ir_iota(b, DT_I64, r.count);
    group = ir_gather(b, placed(ctx, by, rank, r.count), group, 0);
  }
  ir_value_t *y = ir_gather(b, rows, first, 0);
  if (flat && y != NULL)
    y = ir_squeeze(b, y, 1);
  else
    y = from_rows(ctx, y, x, perm);
  ctx_set_output(ctx, 0, y);
  ctx_set_output(ctx, 1, first);
  if (ctx_wants(ctx, 2))
    ctx_set_output(ctx, 2, placed(ctx, r.order, group, r.n));
  ctx_set_output(ctx, 3, counts);
  return ctx_status(ctx);
}
