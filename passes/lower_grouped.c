/* Rows sorted by group, and products of the rows of each group with a matrix of
 * its own. Parallel units are tiles, of one group after the other, in the order
 * of all products; groups without rows have none. */
#include <string.h>

#include "ir/tile.h"
#include "passes/lower.h"

static void root_group_rows(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  ir_value_t *x = lower_stored(lo, op->in[0].value);
  const expr_t *args[] = {
      x->type.dim[0], expr_const(pool, ir_get_int(op, ATTR_GROUP_ROWS_groups)),
      expr_const(pool, PRODUCT_TILE_ROWS)};
  lower_call(lo, op, "group_rows", 1, &x, sizeof args / sizeof args[0], args);
}

const lowering_t lowering_group_rows = {.root = root_group_rows};

static void root_moe_limit(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *type = &op->in[0].value->type;
  const expr_t *groups = ir_get_expr(op, ATTR_MOE_LIMIT_groups);
  bool by_slot = strcmp(ir_get_str(op, ATTR_MOE_LIMIT_order), "slots") == 0;
  bool limited = ir_in(op, 1) != NULL;
  ir_value_t *in[2] = {lower_stored(lo, op->in[0].value), NULL};
  in[1] = limited ? lower_stored(lo, op->in[1].value) : in[0];
  const expr_t *args[] = {
      expr_const(pool, limited),
      groups,
      expr_divide_exactly(pool, type->dim[0], groups),
      type->dim[1],
      expr_const(pool, ir_get_int(op, ATTR_MOE_LIMIT_experts)),
      expr_const(pool, by_slot),
      expr_const(pool, ir_get_int(op, ATTR_MOE_LIMIT_behind_kept))};
  lower_call(lo, op, "limit_routes", 2, in, sizeof args / sizeof args[0], args);
}

const lowering_t lowering_moe_limit = {.root = root_moe_limit};

/* ---- Products ------------------------------------------------------------ */

enum { X, PANELS, OFFSETS, TILES };
enum { TILE_GROUP, TILE_FIRST, TILE_COUNT, TILE_WIDTH };

/* Element `index` of a stored i64 tensor. */
static ir_value_t *load_i64(kernel_t *k, ir_value_t *tensor,
                            ir_value_t *index) {
  return kernel_load(k, kernel_operand(k, tensor), index, NULL);
}

/* What a unit computes. Rows of no group meet a product over nothing: zeros. */
typedef struct grouped_tile {
  ir_value_t *begin, *n_rows; /* of the group */
  ir_value_t *tile;           /* among those of the group */
  ir_value_t *depth, *b_offset;
} grouped_tile_t;

static grouped_tile_t locate(kernel_t *k, const ir_op_t *op,
                             const expr_t *across) {
  expr_pool_t *pool = k->module->exprs;
  const ir_type_t *b = &op->in[PANELS].value->type;
  ir_value_t *offsets = op->in[OFFSETS].value, *tiles = op->in[TILES].value;
  ir_value_t *unit = kernel_parallel(k), *n = kernel_size(k, across);
  ir_value_t *row = kernel_binary(k, OP_DIV, unit, n);
  row = kernel_binary(k, OP_MUL, row, kernel_int(k, TILE_WIDTH));
  ir_value_t *group = load_i64(k, tiles, row);
  ir_value_t *first = load_i64(
      k, tiles, kernel_binary(k, OP_ADD, row, kernel_int(k, TILE_FIRST)));
  ir_value_t *next = kernel_binary(k, OP_ADD, group, kernel_int(k, 1));
  grouped_tile_t t = {.begin = load_i64(k, offsets, group)};
  ir_value_t *end = load_i64(k, offsets, next);
  t.n_rows = kernel_binary(k, OP_SUB, end, t.begin);
  t.tile = kernel_binary(k, OP_SUB, unit, kernel_binary(k, OP_MUL, first, n));
  ir_value_t *named = kernel_binary(k, OP_LT, group, kernel_size(k, b->dim[0]));
  ir_value_t *zero = kernel_int(k, 0);
  t.depth = kernel_select(k, named, kernel_size(k, b->dim[2]), zero);
  const expr_t *step = expr_product(pool, b->dim + 1, 3);
  group = kernel_select(k, named, group, zero);
  t.b_offset = kernel_binary(k, OP_MUL, group, kernel_size(k, step));
  return t;
}

ir_value_t *lower_grouped_product(lower_t *lo, ir_value_t *tensor,
                                  ir_value_t *product) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_op_t *op = product->def;
  ir_value_t *x = op->in[X].value;
  view_t a;
  if (!view_of(lo->module, x, &a)) view_of(lo->module, lower_stored(lo, x), &a);
  dtype_t acc = lower_sum_dtype(product->type.dtype);
  const expr_t *columns = product->type.dim[1];
  const expr_t *across =
      lower_count_tiles(pool, acc, expr_const(pool, 1), columns);
  const expr_t *units =
      expr_mul(pool, ir_get_expr(op, ATTR_GROUPED_PRODUCT_tiles), across);
  kernel_t k;
  kernel_begin(&k, lo->module, lo->table, tensor->def->loc, 1,
               &tensor->type.dtype);
  grouped_tile_t t = locate(&k, op, across);
  ir_value_t *a_row = kernel_size(&k, a.stride[0]), *region[3];
  ir_value_t *a_offset = kernel_binary(&k, OP_MUL, t.begin, a_row);
  a_offset = kernel_binary(&k, OP_ADD, kernel_size(&k, a.offset), a_offset);
  ir_value_t *in[10] = {kernel_operand(&k, a.base),
                        a_offset,
                        a_row,
                        kernel_size(&k, a.stride[1]),
                        kernel_operand(&k, op->in[PANELS].value),
                        t.b_offset,
                        t.depth,
                        t.tile,
                        t.n_rows,
                        kernel_size(&k, columns)};
  kernel_product_tile(&k, 10, in, acc, region);
  ir_value_t *idx[] = {kernel_binary(&k, OP_ADD, t.begin, region[1]),
                       region[2]};
  return lower_finish_product(lo, &k, tensor, product, region[0], idx, units);
}

static void root_grouped_product(lower_t *lo, ir_op_t *op) {
  lower_set_stored(lo, &op->out[0],
                   lower_grouped_product(lo, &op->out[0], &op->out[0]));
}

const lowering_t lowering_grouped_product = {.root = root_grouped_product};
