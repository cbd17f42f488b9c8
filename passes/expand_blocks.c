/* Sorted rows of experts block by block, for experts whose rows are images:
 * what one operation leaves is still in a near cache when the next one reads
 * it, and memory is needed for the images of one block only.
 *
 * A trip takes the next n rows of the order and groups them anew, which keeps
 * their order. Behind the last row a block has rows of no group, fewer in all
 * than there are blocks: products do nothing for them. */
#include "passes/expand.h"

enum {
  BLOCK_BYTES = 2 << 20, /* of all that the body computes of a block */
  LEAST_ROWS = 4,
  SOME_ROWS = 16 /* where sizes are known in a run only */
};

typedef struct blocks {
  ir_builder_t *b, in; /* around the loop, and in its body */
  const blocked_t *of;
  const expr_t *n, *trips; /* rows of a block */
  ir_op_t *loop;
} blocks_t;

/* Bytes that the body computes of a row; 0 where that is not known. */
static int64_t bytes_of_row(const ir_region_t *body, const expr_t *rows) {
  int64_t bytes = 0;
  for (const ir_op_t *op = body->first; op != body->last; op = op->next) {
    const ir_type_t *type = &op->out[0].type;
    int64_t count = 1, dim;
    if (op->n_out != 1) return 0;
    if (type->rank == 0 || type->dim[0] != rows) continue;
    for (unsigned d = 1; d < type->rank; d++)
      if (!expr_is_const(type->dim[d], &dim) ||
          __builtin_mul_overflow(count, dim, &count) || count > BLOCK_BYTES)
        return 0;
    bytes += count * dtype_bits(type->dtype) / 8;
  }
  return bytes;
}

static int64_t rows_of_block(const blocked_t *of) {
  const expr_t *rows = ir_get_expr(of->experts, ATTR_MOE_EXPERTS_rows);
  int64_t bytes = bytes_of_row(&of->experts->regions[of->region], rows);
  if (bytes == 0) return SOME_ROWS;
  int64_t n = BLOCK_BYTES / bytes;
  return n > LEAST_ROWS ? n : LEAST_ROWS;
}

/* Blocks of the same size, but for less than one row each. */
static void choose_sizes(blocks_t *s) {
  expr_pool_t *pool = s->b->module->exprs;
  const expr_t *one = expr_const(pool, 1), *R = s->of->n;
  s->trips = expr_ceildiv(pool, R, expr_const(pool, rows_of_block(s->of)));
  s->n = expr_ceildiv(pool, R, expr_max(pool, s->trips, one));
}

static ir_op_t *open_loop(blocks_t *s) {
  ir_builder_t *b = s->b;
  ir_value_t *trips = ir_expr_scalar(b, s->trips);
  ir_value_t *more = ir_scalar_int(b, DT_BOOL, 1);
  ir_value_t *in[] = {trips, more};
  const ir_type_t index = ir_scalar_type(DT_I64);
  const ir_type_t *y = &s->of->experts->out[0].type;
  const expr_t *dims[IR_MAX_RANK + 1] = {s->trips, s->n};
  if (b->status != MOEC_OK) return NULL;
  for (unsigned d = 1; d < y->rank; d++) dims[d + 1] = y->dim[d];
  ir_op_t *loop = ir_op_create(b->module, OP_WHILE, b->loc, 2, in, 1);
  ir_region_set_args(loop, 0, 1, &index);
  ir_set_exprs(loop, ATTR_WHILE_symbols, 0, NULL);
  ir_set_exprs(loop, ATTR_WHILE_inits, 0, NULL);
  ir_set_exprs(loop, ATTR_WHILE_dims, y->rank + 1, dims);
  ir_set_expr(loop, ATTR_WHILE_trips, s->trips);
  return loop;
}

/* The places of the block's rows in the order; of those behind its last row
 * that one again, which belong to no group. */
static ir_value_t *places_of(blocks_t *s, ir_value_t **out_named) {
  ir_builder_t *b = &s->in;
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *n = ir_expr_scalar(b, s->n);
  ir_value_t *start = ir_binary(b, OP_MUL, &s->loop->regions[0].args[0], n);
  ir_value_t *place = ir_iota(b, DT_I64, s->n);
  place = ir_binary(b, OP_ADD, place, start);
  const expr_t *last = expr_sub(pool, s->of->n, expr_const(pool, 1));
  ir_value_t *end = ir_reshape(b, s->of->end, 0, NULL);
  *out_named = ir_binary(b, OP_LT, place, end);
  return ir_binary(b, OP_MIN, place, ir_expr_scalar(b, last));
}

static moec_status_t fill_body(blocks_t *s) {
  const blocked_t *of = s->of;
  ir_builder_t *b = &s->in;
  ir_value_t *named, *place = places_of(s, &named);
  ir_value_t *key = ir_gather(b, of->group, place, 0);
  ir_value_t *none = ir_scalar_int(b, DT_I64, of->n_groups);
  key = ir_select(b, named, key, none);
  ir_value_t **rows = ARENA_ARRAY(of->scratch, ir_value_t *, of->n_values);
  for (unsigned i = 0; i < of->n_values; i++) {
    ir_value_t *row = ir_gather(b, of->row[i], place, 0);
    rows[i] = ir_gather(b, of->value[i], row, 0);
  }
  ir_op_t *groups = expand_group_rows(b, key, of->n_groups);
  grouping_t g;
  MOEC_TRY(b->status);
  if (!expand_describe(b, groups, s->n, true, &g)) return b->status;
  ir_value_t *y =
      grouped_build(b, of->scratch, of->experts, of->region, rows, &g);
  b->loc = s->b->loc;
  ir_value_t *more = ir_scalar_int(b, DT_BOOL, 1);
  ir_value_t *in[] = {more, y};
  MOEC_TRY(b->status);
  ir_append(b->region, ir_op_create(b->module, OP_YIELD, b->loc, 2, in, 0));
  return MOEC_OK;
}

bool blocks_fit(const blocked_t *of) {
  return of->n->depth <= EXPR_MAX_DEPTH / 2 &&
         of->n->size <= EXPR_MAX_SIZE / 16 &&
         of->n->n_terms <= EXPR_MAX_PRODUCT_TERMS / 4;
}

ir_value_t *blocks_build(ir_builder_t *b, const blocked_t *of) {
  blocks_t s = {.b = b, .in = *b, .of = of};
  expr_pool_t *pool = b->module->exprs;
  const expr_t *dim[IR_MAX_RANK];
  choose_sizes(&s);
  s.loop = open_loop(&s);
  if (s.loop == NULL) return NULL;
  s.in.region = &s.loop->regions[0];
  s.in.before = NULL;
  b->status = fill_body(&s);
  if (b->status != MOEC_OK || ir_place(b, s.loop) == NULL) return NULL;
  const ir_type_t *y = &of->experts->out[0].type;
  for (unsigned d = 1; d < y->rank; d++) dim[d] = y->dim[d];
  dim[0] = expr_mul(pool, s.trips, s.n);
  return ir_reshape(b, &s.loop->out[0], y->rank, dim);
}
