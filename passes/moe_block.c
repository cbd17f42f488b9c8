/* Routers of many tokens, block by block, so that scores of all tokens for all
 * experts exist for one block only: they stay in the cache, and need no memory
 * of that size.
 *
 * A block is a view of the tokens. The last one ends with the last token, so
 * that all have the same size; tokens in two blocks are routed twice, alike.
 * Products have the same bits for any number of rows (docs/numerics.md), and
 * all else is computed for each token alone. */
#include "ir/build.h"
#include "ir/route.h"
#include "passes/pass.h"

enum {
  BLOCK_BYTES = 1 << 18, /* of f32 scores */
  LEAST_TOKENS = 64,
  MOST_TOKENS = 1024
};

typedef struct blocks {
  pass_ctx_t *ctx;
  ir_op_t *op; /* the moe.route */
  route_t route;
  const expr_t *T, *n; /* tokens, of them in a block */
  const expr_t *trips;
  ir_op_t *loop;
} blocks_t;

static int64_t tokens_of_block(int64_t experts) {
  int64_t n = BLOCK_BYTES / 4 / experts;
  if (n < LEAST_TOKENS) return LEAST_TOKENS;
  return n > MOST_TOKENS ? MOST_TOKENS : n - n % LEAST_TOKENS;
}

static int64_t count_experts(const route_t *r) {
  ir_value_t *gate = r->in[ROUTE_GATE];
  const ir_type_t *type = gate != NULL ? &gate->type : &r->in[ROUTE_X]->type;
  int64_t n;
  return expr_is_const(type->dim[1], &n) ? n : 0;
}

/* Whether there may be more than one block; prepares *out. */
static bool wants_blocks(pass_ctx_t *ctx, ir_op_t *op, blocks_t *out) {
  expr_pool_t *pool = ctx->module->exprs;
  const char *what;
  *out = (blocks_t){.ctx = ctx, .op = op, .T = op->out[0].type.dim[0]};
  if (!route_read(op, &out->route, &what)) return false;
  if (out->T->depth > EXPR_MAX_DEPTH / 2 || out->T->size > EXPR_MAX_SIZE / 16 ||
      out->T->n_terms > EXPR_MAX_PRODUCT_TERMS / 4)
    return false; /* blocks of them would be no size */
  int64_t experts = count_experts(&out->route), upper;
  if (experts < 1) return false;
  const expr_t *most = expr_const(pool, tokens_of_block(experts));
  if (expr_upper_bound(out->T, &upper) && upper <= tokens_of_block(experts))
    return false;
  out->n = expr_min(pool, out->T, most);
  out->trips = expr_ceildiv(pool, out->T, most);
  return true;
}

static ir_value_t *block_of(const blocks_t *s, ir_builder_t *b, ir_value_t *x,
                            const expr_t *start) {
  if (x == NULL) return NULL;
  return ir_slice(b, x, 0, start, s->n, expr_const(s->ctx->module->exprs, 1));
}

/* The body: a moe.route of one block. */
static moec_status_t fill_body(blocks_t *s) {
  expr_pool_t *pool = s->ctx->module->exprs;
  ir_region_t *region = &s->loop->regions[0];
  ir_builder_t b = {.module = s->ctx->module,
                    .region = region,
                    .loc = s->op->loc,
                    .diag = s->ctx->diag};
  const expr_t *block = ir_bind(&b, &region->args[0], 0, "block", 0, s->trips);
  if (block == NULL) return b.status;
  const expr_t *start = expr_mul(pool, block, s->n);
  start = expr_min(pool, start, expr_sub(pool, s->T, s->n));
  route_t part = s->route;
  part.in[ROUTE_X] = block_of(s, &b, part.in[ROUTE_X], start);
  part.in[ROUTE_MIXING] = block_of(s, &b, part.in[ROUTE_MIXING], start);
  MOEC_TRY(b.status);
  ir_op_t *route = route_write(s->ctx->module, s->op->loc, &part);
  if (ir_place(&b, route) == NULL) return b.status;
  ir_value_t *more = ir_scalar_int(&b, DT_BOOL, 1);
  ir_value_t *in[] = {more, &route->out[0], &route->out[1]};
  MOEC_TRY(b.status);
  ir_append(region,
            ir_op_create(s->ctx->module, OP_YIELD, s->op->loc, 3, in, 0));
  return MOEC_OK;
}

static ir_op_t *open_loop(blocks_t *s, ir_builder_t *b) {
  ir_value_t *trips = ir_expr_scalar(b, s->trips);
  ir_value_t *more = ir_scalar_int(b, DT_BOOL, 1);
  ir_value_t *in[] = {trips, more};
  const ir_type_t index = ir_scalar_type(DT_I64);
  if (b->status != MOEC_OK) return NULL;
  ir_op_t *loop = ir_op_create(s->ctx->module, OP_WHILE, s->op->loc, 2, in, 2);
  ir_region_set_args(loop, 0, 1, &index);
  const expr_t *k = s->op->out[0].type.dim[1];
  const expr_t *dims[] = {s->trips, s->n, k, s->trips, s->n, k};
  ir_set_exprs(loop, ATTR_WHILE_symbols, 0, NULL);
  ir_set_exprs(loop, ATTR_WHILE_inits, 0, NULL);
  ir_set_exprs(loop, ATTR_WHILE_dims, 6, dims);
  ir_set_expr(loop, ATTR_WHILE_trips, s->trips);
  return loop;
}

/* Blocks behind each other, without what the last one has again. */
static ir_value_t *join(const blocks_t *s, ir_builder_t *b, ir_value_t *x) {
  expr_pool_t *pool = s->ctx->module->exprs;
  const expr_t *one = expr_const(pool, 1), *k = x->type.dim[2];
  const expr_t *all = expr_mul(pool, s->trips, s->n);
  const expr_t *full =
      expr_mul(pool, expr_sub(pool, expr_max(pool, s->trips, one), one), s->n);
  const expr_t *left = expr_sub(pool, s->T, full);
  const expr_t *dim[] = {all, k};
  ir_value_t *rows = ir_reshape(b, x, 2, dim), *part[2];
  part[0] = ir_slice(b, rows, 0, expr_const(pool, 0), full, one);
  part[1] = ir_slice(b, rows, 0, expr_sub(pool, all, left), left, one);
  return ir_concat(b, 2, part, 0);
}

static moec_status_t route_by_blocks(blocks_t *s) {
  ir_op_t *op = s->op;
  ir_builder_t b = {.module = s->ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc,
                    .diag = s->ctx->diag};
  s->loop = open_loop(s, &b);
  if (s->loop == NULL) return b.status;
  MOEC_TRY(fill_body(s));
  if (ir_place(&b, s->loop) == NULL) return b.status;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *rows = join(s, &b, &s->loop->out[i]);
    if (rows == NULL) return b.status;
    const ir_type_t *type = &op->out[i].type;
    if (!ir_type_equal(&rows->type, type))
      rows = ir_reshape(&b, rows, type->rank, type->dim);
    if (rows == NULL) return b.status;
    if (rows->name == NULL) rows->name = op->out[i].name;
    ir_replace_uses(&op->out[i], rows);
  }
  ir_erase(op);
  return MOEC_OK;
}

moec_status_t run_moe_block(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func), *next; op != NULL; op = next) {
    blocks_t s;
    next = ir_walk_next(op);
    if (op->code != OP_MOE_ROUTE || !wants_blocks(ctx, op, &s) ||
        !pass_allow_rewrite(ctx, "moe_block", op))
      continue;
    MOEC_TRY(route_by_blocks(&s));
  }
  return MOEC_OK;
}
