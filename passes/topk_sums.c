/* The best of all sums of two vectors, such as the halves of product keys, from
 * the best of each: topk of reshape(a[.., n, 1] + b[.., 1, m]) becomes
 * topk_sums, which takes n + m numbers instead of n * m. Exact, ties and NaN
 * included (runtime/topk_sums.c). */
#include "ir/build.h"
#include "passes/pass.h"
#include "passes/rules.h"

enum { MOST_K = 32, LEAST_SIDE = 2, LEAST_SUMS = 256 };

typedef struct table {
  ir_op_t *topk;
  ir_value_t *sums;         /* [.., n, m] */
  ir_value_t *row, *column; /* [.., n, 1], [.., 1, m], perhaps of lower rank */
  ir_op_t *same[2];         /* topk's values once more, by its indices */
  unsigned n_same;
} table_t;

/* The dimension `back` from the end; 1 in front of all. */
static bool dim_is(const ir_value_t *x, unsigned back, const expr_t *dim) {
  if (x->type.rank < back) return rule_is_one(dim);
  return x->type.dim[x->type.rank - back] == dim;
}

static bool is_one(const ir_value_t *x, unsigned back) {
  return x->type.rank < back || rule_is_one(x->type.dim[x->type.rank - back]);
}

static ir_value_t *before_expand(ir_value_t *x) {
  while (x->def != NULL && x->def->code == OP_EXPAND) x = x->def->in[0].value;
  return x;
}

static bool match_sides(table_t *t) {
  const ir_op_t *add = t->sums->def;
  const ir_type_t *type = &t->sums->type;
  if (add == NULL || add->code != OP_ADD || type->rank < 2 ||
      type->dtype != DT_F32)
    return false;
  const expr_t *n = type->dim[type->rank - 2], *m = type->dim[type->rank - 1];
  int64_t rows, columns;
  if (!expr_is_const(n, &rows) || !expr_is_const(m, &columns) ||
      rows < LEAST_SIDE || columns < LEAST_SIDE)
    return false;
  for (unsigned i = 0; i < 2; i++) {
    t->row = before_expand(add->in[i].value);
    t->column = before_expand(add->in[1 - i].value);
    if (is_one(t->row, 1) && dim_is(t->row, 2, n) && dim_is(t->column, 1, m) &&
        is_one(t->column, 2))
      return true;
  }
  return false;
}

/* Whether x is used by the topk only, and to take its values again. */
static bool is_used_here_only(table_t *t, const ir_value_t *x) {
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    ir_op_t *user = use->user;
    if (user == t->topk) continue;
    if (user->code != OP_GATHER_ELEMENTS || use->index != 0 ||
        user->in[1].value != &t->topk->out[1])
      return false;
    int64_t axis = ir_get_int(user, ATTR_GATHER_ELEMENTS_axis);
    if (axis < 0) axis += x->type.rank;
    if (axis != x->type.rank - 1 ||
        t->n_same == sizeof t->same / sizeof t->same[0])
      return false;
    t->same[t->n_same++] = user;
  }
  return true;
}

static bool is_used_once(const ir_value_t *x) {
  return x->uses != NULL && x->uses->next == NULL;
}

static bool match(ir_op_t *op, table_t *t) {
  *t = (table_t){.topk = op};
  ir_value_t *x = op->in[0].value;
  int64_t k, axis = ir_get_int(op, ATTR_TOPK_axis);
  if (axis < 0) axis += x->type.rank;
  if (!expr_is_const(ir_get_expr(op, ATTR_TOPK_k), &k) || k < 1 || k > MOST_K ||
      ir_get_int(op, ATTR_TOPK_largest) == 0 || axis != x->type.rank - 1 ||
      x->def == NULL || x->def->code != OP_RESHAPE)
    return false;
  t->sums = x->def->in[0].value;
  if (!match_sides(t) || !is_used_once(t->sums) || !is_used_here_only(t, x))
    return false;
  /* Each row of topk is one table. */
  const ir_type_t *type = &t->sums->type;
  int64_t n, m, all;
  return expr_is_const(type->dim[type->rank - 2], &n) &&
         expr_is_const(type->dim[type->rank - 1], &m) &&
         expr_is_const(x->type.dim[axis], &all) && all >= LEAST_SUMS &&
         all / n == m && all % n == 0;
}

/* A side as [.., n], of the leading dimensions of all sums. */
static ir_value_t *as_vectors(ir_builder_t *b, const table_t *t, ir_value_t *x,
                              bool is_row) {
  const ir_type_t *all = &t->sums->type;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = all->rank;
  for (unsigned d = 0; d < rank; d++) dim[d] = all->dim[d];
  dim[is_row ? rank - 1 : rank - 2] = expr_const(b->module->exprs, 1);
  x = ir_expand(b, x, rank, dim);
  dim[rank - 2] = all->dim[is_row ? rank - 2 : rank - 1];
  return ir_reshape(b, x, rank - 1, dim);
}

static moec_status_t rewrite(pass_ctx_t *ctx, table_t *t) {
  ir_op_t *topk = t->topk;
  int64_t k;
  if (!expr_is_const(ir_get_expr(topk, ATTR_TOPK_k), &k)) return MOEC_OK;
  ir_builder_t b = {.module = ctx->module,
                    .region = topk->parent,
                    .before = topk,
                    .loc = topk->loc,
                    .diag = ctx->diag};
  ir_value_t *in[2];
  in[0] = as_vectors(&b, t, t->row, true);
  in[1] = as_vectors(&b, t, t->column, false);
  ir_op_t *op = ir_begin(&b, OP_TOPK_SUMS, 2, in, 2);
  if (op == NULL) return b.status;
  ir_set_int(op, ATTR_TOPK_SUMS_k, k);
  if (ir_place(&b, op) == NULL) return b.status;
  for (unsigned i = 0; i < 2; i++) {
    const ir_type_t *type = &topk->out[i].type;
    ir_value_t *y = ir_reshape(&b, &op->out[i], type->rank, type->dim);
    if (y == NULL) return b.status;
    if (y->name == NULL) y->name = topk->out[i].name;
    for (unsigned j = 0; i == 0 && j < t->n_same; j++)
      ir_replace_uses(&t->same[j]->out[0], y);
    ir_replace_uses(&topk->out[i], y);
  }
  return MOEC_OK;
}

moec_status_t run_topk_sums(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    table_t t;
    if (op->code == OP_TOPK && match(op, &t) &&
        pass_allow_rewrite(ctx, "topk-of-sums", op))
      MOEC_TRY(rewrite(ctx, &t));
  }
  return MOEC_OK;
}
