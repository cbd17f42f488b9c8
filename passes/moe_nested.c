/* Layers inside experts: what was written as moe.experts and moe.combine before
 * is an operation on rows, too.
 *
 * Of a row of the outer layer, the inner one has k routes: their experts,
 * weights and results are features of that row. */
#include "passes/moe_nested.h"

#include <string.h>

#include "passes/expand.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { ROWS = TAG_TOKEN | TAG_ROW };

/* ---- Reading ------------------------------------------------------------- */

typedef struct nested {
  moe_builder_t *b;
  const moe_layout_t *layout;
  uint8_t rows;                 /* tag of the outer rows */
  const expr_t *n, *k, *routes; /* outer rows, routes of each, of all */
} nested_t;

/* The term of a value that has this tag in front, features behind it. */
static moe_term_t *read_rows(const nested_t *c, ir_value_t *x) {
  uint8_t tag[IR_MAX_RANK];
  for (unsigned d = 0; d < x->type.rank; d++)
    tag[d] = d == 0 ? c->rows : TAG_INNER;
  return moe_build(c->b, x, tag, c->layout);
}

/* The term of a value of all inner routes: [k, features..]. */
static moe_term_t *read_routes(const nested_t *c, ir_value_t *x,
                               unsigned depth) {
  const ir_op_t *op = x->def;
  enum { MAX_NESTED = 12 };
  if (op == NULL || depth > MAX_NESTED || x->type.rank == 0 ||
      x->type.dim[0] != c->routes)
    return NULL;
  const expr_t *dim[IR_MAX_RANK + 1] = {c->k};
  for (unsigned d = 1; d < x->type.rank; d++) dim[d] = x->type.dim[d];
  if (op->code == OP_RESHAPE) {
    ir_value_t *from = ir_in(op, 0);
    bool splits = from->type.rank > 1 && from->type.dim[0] == c->n &&
                  from->type.dim[1] == c->k;
    moe_term_t *term =
        splits ? read_rows(c, from) : read_routes(c, from, depth + 1);
    return term != NULL ? moe_term_reshape(c->b->terms, term, x->type.rank, dim)
                        : NULL;
  }
  if (!ir_has_trait(op, ELEMENTWISE)) return NULL;
  moe_term_t *in[4];
  if (op->n_in > 4) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *operand = ir_in(op, i);
    uint8_t steady[IR_MAX_RANK];
    memset(steady, TAG_INNER, sizeof steady);
    in[i] = rule_has_one_element(&operand->type)
                ? moe_build(c->b, operand, steady, c->layout)
                : read_routes(c, operand, depth + 1);
    if (in[i] == NULL || !moe_term_broadcasts(in[i], x->type.rank, dim))
      return NULL;
  }
  return moe_term_op(c->b->terms, &(moe_term_t){.code = op->code,
                                                .model = op,
                                                .dtype = x->type.dtype,
                                                .rank = x->type.rank,
                                                .dim = dim,
                                                .n = op->n_in,
                                                .in = in});
}

static moe_term_t *read_experts(const nested_t *c, ir_value_t *y) {
  const ir_op_t *op = y->def;
  unsigned tokens = (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_token_values);
  unsigned routes = (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_route_values);
  moe_term_t **in = ARENA_ARRAY(c->b->arena, moe_term_t *, op->n_in);
  for (unsigned i = 0; i + 1 < op->n_in; i++) {
    ir_value_t *x = ir_in(op, i == 0 ? 0 : i + 1); /* without tokens */
    uint8_t steady[IR_MAX_RANK];
    memset(steady, TAG_INNER, sizeof steady);
    if (i == 0 || (i > tokens && i <= tokens + routes))
      in[i] = read_routes(c, x, 0);
    else if (i <= tokens)
      in[i] = read_rows(c, x);
    else
      in[i] = moe_build(c->b, x, steady, c->layout);
    if (in[i] == NULL || (i > tokens + routes && in[i]->rows)) return NULL;
  }
  const expr_t *dim[IR_MAX_RANK + 1] = {c->k};
  for (unsigned d = 1; d < y->type.rank; d++) dim[d] = y->type.dim[d];
  return moe_term_op(c->b->terms, &(moe_term_t){.code = OP_MOE_EXPERTS,
                                                .model = op,
                                                .dtype = y->type.dtype,
                                                .rank = y->type.rank,
                                                .dim = dim,
                                                .n = op->n_in - 1,
                                                .in = in});
}

moe_term_t *moe_read_combine(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const char *why = "a layer inside works on rows of its own";
  ir_value_t *y = ir_in(op, 0);
  const ir_op_t *experts = y->def;
  const expr_t *k = ir_get_expr(op, ATTR_MOE_COMBINE_k);
  const expr_t *n = ir_get_expr(op, ATTR_MOE_COMBINE_tokens);
  if (experts == NULL || experts->code != OP_MOE_EXPERTS || k == NULL ||
      !expr_is_const(k, NULL) || op->n_in > 2 || ir_in(experts, 1) != NULL ||
      ir_get_expr(experts, ATTR_MOE_EXPERTS_k) != k ||
      ir_get_expr(experts, ATTR_MOE_EXPERTS_tokens) != n ||
      value->type.dim[0] != n || expr_as_symbol(n) == NULL ||
      (tag[0] & ROWS) == 0 || (tag[0] & ~(unsigned)ROWS) != 0)
    return moe_fail(b, op, why);
  for (unsigned d = 1; d < value->type.rank; d++)
    if (tag[d] != TAG_INNER) return moe_fail(b, op, why);
  const nested_t c = {b, layout, tag[0], n, k, expr_mul(b->pool, n, k)};
  moe_term_t *in[2] = {read_experts(&c, y), NULL};
  if (op->n_in > 1) in[1] = read_routes(&c, ir_in(op, 1), 0);
  if (in[0] == NULL || (op->n_in > 1 && in[1] == NULL))
    return moe_fail(b, op, why);
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_MOE_COMBINE,
                                             .model = op,
                                             .dtype = value->type.dtype,
                                             .rank = value->type.rank - 1,
                                             .dim = value->type.dim + 1,
                                             .n = op->n_in,
                                             .in = in});
}

/* ---- Equal layers -------------------------------------------------------- */

typedef struct pairing {
  const ir_region_t *a, *b;
  expr_pool_t *pool;
  const expr_t **symbols; /* a's size for b's, by index */
} pairing_t;

static bool same_size(const pairing_t *p, const expr_t *a, const expr_t *b) {
  return a == expr_substitute(p->pool, b, p->symbols);
}

static bool same_type(const pairing_t *p, const ir_type_t *a,
                      const ir_type_t *b) {
  if (a->kind != b->kind || a->dtype != b->dtype || a->rank != b->rank)
    return false;
  for (unsigned d = 0; d < a->rank; d++)
    if (!same_size(p, a->dim[d], b->dim[d])) return false;
  return true;
}

static bool same_attr(const pairing_t *p, const ir_attr_t *a,
                      const ir_attr_t *b) {
  ir_attr_kind_t kind = ir_attr_info(a->id)->kind;
  if (a->id != b->id) return false;
  if (kind == IR_ATTR_EXPR) return same_size(p, a->v.expr, b->v.expr);
  if (kind != IR_ATTR_EXPRS) return ir_attr_equal(a, b);
  bool same = a->n == b->n;
  for (unsigned i = 0; same && i < a->n; i++)
    same = same_size(p, a->v.exprs[i], b->v.exprs[i]);
  return same;
}

/* Where a value is in its region: results count from behind the arguments. */
static bool same_operand(const pairing_t *p, const ir_value_t *a,
                         const ir_value_t *b) {
  if (a == NULL || b == NULL) return a == b;
  if (ir_home(a) != p->a || ir_home(b) != p->b) return a == b;
  const ir_region_t *ra = p->a, *rb = p->b;
  if ((a->def == NULL) != (b->def == NULL) || a->index != b->index)
    return false;
  if (a->def == NULL) return true;
  const ir_op_t *x = ra->first, *y = rb->first;
  while (x != NULL && y != NULL && x != a->def && y != b->def) {
    x = x->next;
    y = y->next;
  }
  return x == a->def && y == b->def;
}

static bool same_op(const pairing_t *p, const ir_op_t *a, const ir_op_t *b) {
  if (a->code != b->code || a->n_in != b->n_in || a->n_out != b->n_out ||
      a->n_attrs != b->n_attrs || a->n_regions > 0 || b->n_regions > 0)
    return false;
  for (unsigned i = 0; i < a->n_attrs; i++)
    if (!same_attr(p, &a->attrs[i], &b->attrs[i])) return false;
  for (unsigned i = 0; i < a->n_in; i++)
    if (!same_operand(p, a->in[i].value, b->in[i].value)) return false;
  return true;
}

static bool same_region(pairing_t *p, const ir_region_t *a,
                        const ir_region_t *b) {
  p->a = a;
  p->b = b;
  if (a->n_args != b->n_args) return false;
  for (unsigned i = 0; i < a->n_args; i++)
    if (!same_type(p, &a->args[i].type, &b->args[i].type)) return false;
  const ir_op_t *x = a->first, *y = b->first;
  for (; x != NULL && y != NULL; x = x->next, y = y->next)
    if (!same_op(p, x, y)) return false;
  return x == NULL && y == NULL;
}

bool moe_same_nested(const ir_op_t *a, const ir_op_t *b) {
  if (a == b) return true;
  if (a == NULL || b == NULL || a->code != b->code ||
      a->n_attrs != b->n_attrs || a->n_regions != b->n_regions)
    return false;
  bool experts = a->code == OP_MOE_EXPERTS;
  ir_attr_id_t tokens =
      experts ? ATTR_MOE_EXPERTS_tokens : ATTR_MOE_COMBINE_tokens;
  for (unsigned i = 0; i < a->n_attrs; i++) {
    ir_attr_id_t id = a->attrs[i].id;
    if (id != b->attrs[i].id) return false;
    if (id != tokens && id != ATTR_MOE_EXPERTS_rows &&
        !ir_attr_equal(&a->attrs[i], &b->attrs[i]))
      return false;
  }
  if (!experts) return true;
  const expr_t *from = ir_get_expr(b, ATTR_MOE_EXPERTS_rows);
  pairing_t p = {.pool = a->module->exprs};
  p.symbols =
      ARENA_ARRAY(a->module->arena, const expr_t *, expr_n_symbols(p.pool));
  p.symbols[expr_as_symbol(from)->index] =
      ir_get_expr(a, ATTR_MOE_EXPERTS_rows);
  for (unsigned r = 0; r < a->n_regions; r++)
    if (!same_region(&p, &a->regions[r], &b->regions[r])) return false;
  return true;
}

/* ---- Writing ------------------------------------------------------------- */

typedef struct operands {
  const ir_op_t *model;
  ir_value_t *const *in; /* by operand of the model */
} operands_t;

static ir_value_t *map_operand(void *user, ir_value_t *value) {
  const operands_t *o = user;
  for (unsigned i = 0; i < o->model->n_in; i++)
    if (o->model->in[i].value == value && value != NULL) return o->in[i];
  return value;
}

/* x[rows, k, ..] as [rows * k, ..]. */
static ir_value_t *as_routes(ir_builder_t *b, ir_value_t *x,
                             const expr_t *routes) {
  const expr_t *dim[IR_MAX_RANK] = {routes};
  for (unsigned d = 2; d < x->type.rank; d++) dim[d - 1] = x->type.dim[d];
  return ir_reshape(b, x, x->type.rank - 1, dim);
}

ir_value_t *moe_write_nested(ir_builder_t *b, arena_t *scratch,
                             const moe_term_t *term, ir_value_t *const *in,
                             const expr_t *rows) {
  const ir_op_t *model = term->model;
  expr_pool_t *pool = b->module->exprs;
  bool experts = model->code == OP_MOE_EXPERTS;
  const expr_t *k =
      ir_get_expr(model, experts ? ATTR_MOE_EXPERTS_k : ATTR_MOE_COMBINE_k);
  const expr_t *tokens = ir_get_expr(
      model, experts ? ATTR_MOE_EXPERTS_tokens : ATTR_MOE_COMBINE_tokens);
  const expr_t *routes = expr_mul(pool, rows, k);
  ir_value_t **operand = ARENA_ARRAY(scratch, ir_value_t *, model->n_in);
  unsigned first = 0, end = model->n_in; /* those of routes */
  if (experts) {
    first = 2 + (unsigned)ir_get_int(model, ATTR_MOE_EXPERTS_token_values);
    end = first + (unsigned)ir_get_int(model, ATTR_MOE_EXPERTS_route_values);
  }
  for (unsigned i = 0, from = 0; i < model->n_in; i++) {
    if (experts && i == 1) continue; /* tokens follow from k */
    bool of_routes = (experts && i == 0) || (i >= first && i < end);
    operand[i] = of_routes ? as_routes(b, in[from], routes) : in[from];
    from++;
  }
  ir_loc_t loc = b->loc;
  operands_t map = {model, operand};
  ir_op_t *copy = ir_clone(b->module, model, map_operand, &map);
  inliner_t sizes = {.b = b, .scratch = scratch};
  b->status = inline_sizes(&sizes, copy, tokens, rows);
  b->loc = loc;
  if (b->status != MOEC_OK) return NULL;
  return ir_place(b, copy);
}
