/* Shape laws of matrix products. */
#include <string.h>

#include "ir/shape.h"
#include "ir/tile.h"

static bool is_small_integer(dtype_t dtype) {
  return dtype_is_integer(dtype) && dtype_bits(dtype) <= 8;
}

/* Element type of a product of operands 0 and 1; `wanted` may be DT_NONE. */
static moec_status_t product_dtype(ir_module_t *module, ir_op_t *op,
                                   dtype_t wanted, dtype_t *out_dtype,
                                   diag_sink_t *diag) {
  dtype_t a = shape_in(op, 0)->dtype, b = shape_in(op, 1)->dtype;
  bool small = is_small_integer(a) && is_small_integer(b);
  *out_dtype = DT_NONE;
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  /* A product may read f32 rows and 16-bit panels. */
  bool panels = op->code == OP_PRODUCT || op->code == OP_GROUPED_PRODUCT;
  bool mixed =
      panels && a == DT_F32 && dtype_is_float(b) && dtype_bits(b) == 16;
  if (!small && !mixed) MOEC_TRY(shape_same_dtype(module, op, 0, 1, diag));
  if (small && a != b && wanted == DT_NONE)
    SHAPE_FAIL("%s of %s and %s needs out_dtype",
               ir_op_info(op->code)->mnemonic, dtype_name(a), dtype_name(b));
  *out_dtype = wanted == DT_NONE ? a : wanted;
  bool widens = (small && wanted == DT_I32) ||
                (dtype_is_float(a) && dtype_bits(a) <= 16 && wanted == DT_F32);
  if (mixed && (wanted == DT_NONE || wanted == DT_F32)) return MOEC_OK;
  if (wanted != DT_NONE && !widens && (wanted != a || wanted != b))
    SHAPE_FAIL("out_dtype %s of %s of %s and %s", dtype_name(wanted),
               ir_op_info(op->code)->mnemonic, dtype_name(a), dtype_name(b));
  return MOEC_OK;
}

/* Result [batch.., M, N] of a[.., M, K] and a second operand with b_inner
 * dimensions below its batch, of which k is K. */
static moec_status_t set_product(ir_module_t *module, ir_op_t *op,
                                 dtype_t dtype, unsigned b_inner,
                                 const expr_t *k, const expr_t *columns,
                                 diag_sink_t *diag) {
  const ir_type_t *a = shape_in(op, 0), *b = shape_in(op, 1);
  const expr_t *dim[IR_MAX_RANK];
  unsigned a_batch = a->rank - 2, b_batch = b->rank - b_inner;
  unsigned n_batch = a_batch > b_batch ? a_batch : b_batch;
  if (shape_differ(module, a->dim[a->rank - 1], k))
    SHAPE_FAIL("%s of %s and %s, which differ in what is summed over",
               ir_op_info(op->code)->mnemonic, shape_str(module, a),
               shape_str(module, b));
  MOEC_TRY(
      shape_broadcast(module, op, a_batch, a->dim, b_batch, b->dim, dim, diag));
  if (n_batch + 2 > IR_MAX_RANK)
    return diag_error(diag, op->loc, MOEC_E_LIMIT,
                      "result of rank %u, expected at most %d", n_batch + 2,
                      IR_MAX_RANK);
  dim[n_batch] = a->dim[a->rank - 2];
  dim[n_batch + 1] = columns;
  return shape_set(module, op, 0, dtype, n_batch + 2, dim, diag);
}

moec_status_t infer_matmul(ir_module_t *module, ir_op_t *op,
                           diag_sink_t *diag) {
  dtype_t dtype, wanted = ir_get_dtype(op, ATTR_MATMUL_out_dtype);
  const ir_type_t *b = shape_in(op, 1);
  MOEC_TRY(shape_min_rank(module, op, 0, 2, diag));
  MOEC_TRY(shape_min_rank(module, op, 1, 2, diag));
  MOEC_TRY(product_dtype(module, op, wanted, &dtype, diag));
  return set_product(module, op, dtype, 2, b->dim[b->rank - 2],
                     b->dim[b->rank - 1], diag);
}

static const expr_t *count_panels(ir_module_t *module, const expr_t *columns) {
  return expr_ceildiv(module->exprs, columns,
                      expr_const(module->exprs, PANEL_COLUMNS));
}

moec_status_t infer_pack_panels(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK + 1];
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  MOEC_TRY(shape_min_rank(module, op, 0, 2, diag));
  unsigned n = x->rank - 2;
  memcpy(dim, x->dim, n * sizeof dim[0]);
  dim[n] = count_panels(module, x->dim[n + 1]);
  dim[n + 1] = x->dim[n];
  dim[n + 2] = expr_const(module->exprs, PANEL_COLUMNS);
  return shape_set(module, op, 0, x->dtype, n + 3, dim, diag);
}

/* Operand 1 has that many columns. */
static moec_status_t check_panels(ir_module_t *module, ir_op_t *op,
                                  const expr_t *columns, diag_sink_t *diag) {
  const ir_type_t *b = shape_in(op, 1);
  MOEC_TRY(shape_at_least(module, op, columns, 0, "columns =", diag));
  if (!expr_equals_const(b->dim[b->rank - 1], PANEL_COLUMNS) ||
      shape_differ(module, b->dim[b->rank - 3], count_panels(module, columns)))
    SHAPE_FAIL("operand 1 of %s is %s, expected panels of %s columns",
               ir_op_info(op->code)->mnemonic, shape_str(module, b),
               shape_expr_str(module, columns));
  return MOEC_OK;
}

moec_status_t infer_product(ir_module_t *module, ir_op_t *op,
                            diag_sink_t *diag) {
  dtype_t dtype, wanted = ir_get_dtype(op, ATTR_PRODUCT_out_dtype);
  const expr_t *columns = ir_get_expr(op, ATTR_PRODUCT_columns);
  const ir_type_t *b = shape_in(op, 1);
  MOEC_TRY(shape_min_rank(module, op, 0, 2, diag));
  MOEC_TRY(shape_min_rank(module, op, 1, 3, diag));
  MOEC_TRY(product_dtype(module, op, wanted, &dtype, diag));
  MOEC_TRY(check_panels(module, op, columns, diag));
  return set_product(module, op, dtype, 3, b->dim[b->rank - 2], columns, diag);
}

moec_status_t infer_constant_stack(ir_module_t *module, ir_op_t *op,
                                   diag_sink_t *diag) {
  const ir_type_t *first = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK], *n = expr_const(module->exprs, 0);
  MOEC_TRY(shape_min_rank(module, op, 0, 1, diag));
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_type_t *x = shape_in(op, i);
    bool fits = x->rank == first->rank && x->dtype == first->dtype;
    for (unsigned d = 1; fits && d < x->rank; d++)
      fits = !shape_differ(module, x->dim[d], first->dim[d]);
    if (!fits)
      SHAPE_FAIL("%s of %s and %s", ir_op_info(op->code)->mnemonic,
                 shape_str(module, first), shape_str(module, x));
    n = expr_add(module->exprs, n, x->dim[0]);
  }
  for (unsigned d = 1; d < first->rank; d++) dim[d] = first->dim[d];
  dim[0] = n;
  return shape_set(module, op, 0, first->dtype, first->rank, dim, diag);
}

moec_status_t infer_panel_stack(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  const ir_type_t *first = shape_in(op, 0);
  if (first->rank != 4 || !expr_equals_const(first->dim[3], PANEL_COLUMNS))
    SHAPE_FAIL("panel_stack of %s", shape_str(module, first));
  return infer_constant_stack(module, op, diag);
}

/* ---- Groups of rows ------------------------------------------------------ */

/* A group has at most one tile that is not full, and no tile is empty. */
static const expr_t *most_tiles(expr_pool_t *pool, const expr_t *rows,
                                int64_t groups) {
  const expr_t *full =
      expr_floordiv(pool, rows, expr_const(pool, PRODUCT_TILE_ROWS));
  return expr_min(pool, rows,
                  expr_add(pool, full, expr_const(pool, groups + 1)));
}

moec_status_t infer_group_rows(ir_module_t *module, ir_op_t *op,
                               diag_sink_t *diag) {
  expr_pool_t *pool = module->exprs;
  const ir_type_t *x = shape_in(op, 0);
  int64_t groups = ir_get_int(op, ATTR_GROUP_ROWS_groups);
  if (x->rank != 1 || x->dtype != DT_I64)
    SHAPE_FAIL("operand 0 of group_rows is %s, expected i64 of rank 1",
               shape_str(module, x));
  if (groups < 0 || groups > INT32_MAX)
    SHAPE_FAIL("group_rows of %lld groups", (long long)groups);
  for (unsigned i = 0; i < 3; i++) shape_set_like(op, i, DT_I64, x);
  const expr_t *offsets = expr_const(pool, groups + 2);
  const expr_t *tiles[] = {most_tiles(pool, x->dim[0], groups),
                           expr_const(pool, 3)};
  const expr_t *one = expr_const(pool, 1);
  MOEC_TRY(shape_set(module, op, 3, DT_I64, 1, &offsets, diag));
  MOEC_TRY(shape_set(module, op, 4, DT_I64, 2, tiles, diag));
  return shape_set(module, op, 5, DT_I64, 1, &one, diag);
}

/* x, and what group_rows says of its rows, whose groups have matrices w[groups,
 * ..]. */
static moec_status_t check_grouped(ir_module_t *module, const ir_op_t *op,
                                   unsigned w_rank, const expr_t *tiles,
                                   diag_sink_t *diag) {
  expr_pool_t *pool = module->exprs;
  const ir_type_t *x = shape_in(op, 0), *w = shape_in(op, 1);
  const ir_type_t *offsets = shape_in(op, 2), *table = shape_in(op, 3);
  if (x->rank != 2 || w->rank != w_rank)
    SHAPE_FAIL("operands of %s are %s and %s, expected rank 2 and %u",
               ir_op_info(op->code)->mnemonic, shape_str(module, x),
               shape_str(module, w), w_rank);
  bool fits = offsets->rank == 1 && offsets->dtype == DT_I64 &&
              table->rank == 2 && table->dtype == DT_I64 &&
              expr_equals_const(table->dim[1], 3) &&
              !shape_differ(module, offsets->dim[0],
                            expr_add(pool, w->dim[0], expr_const(pool, 2)));
  if (!fits)
    SHAPE_FAIL("%s of %s by offsets %s and tiles %s",
               ir_op_info(op->code)->mnemonic, shape_str(module, w),
               shape_str(module, offsets), shape_str(module, table));
  return shape_at_least(module, op, tiles, 0, "tiles =", diag);
}

static moec_status_t set_grouped(ir_module_t *module, ir_op_t *op,
                                 dtype_t dtype, const expr_t *k,
                                 const expr_t *columns, diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *dim[] = {x->dim[0], columns};
  if (shape_differ(module, x->dim[1], k))
    SHAPE_FAIL("%s of %s and %s, which differ in what is summed over",
               ir_op_info(op->code)->mnemonic, shape_str(module, x),
               shape_str(module, shape_in(op, 1)));
  return shape_set(module, op, 0, dtype, 2, dim, diag);
}

moec_status_t infer_grouped_matmul(ir_module_t *module, ir_op_t *op,
                                   diag_sink_t *diag) {
  const ir_type_t *w = shape_in(op, 1);
  dtype_t dtype, wanted = ir_get_dtype(op, ATTR_GROUPED_MATMUL_out_dtype);
  MOEC_TRY(check_grouped(module, op, 3,
                         ir_get_expr(op, ATTR_GROUPED_MATMUL_tiles), diag));
  MOEC_TRY(product_dtype(module, op, wanted, &dtype, diag));
  return set_grouped(module, op, dtype, w->dim[1], w->dim[2], diag);
}

moec_status_t infer_grouped_product(ir_module_t *module, ir_op_t *op,
                                    diag_sink_t *diag) {
  const ir_type_t *w = shape_in(op, 1);
  const expr_t *columns = ir_get_expr(op, ATTR_GROUPED_PRODUCT_columns);
  dtype_t dtype, wanted = ir_get_dtype(op, ATTR_GROUPED_PRODUCT_out_dtype);
  MOEC_TRY(check_grouped(module, op, 4,
                         ir_get_expr(op, ATTR_GROUPED_PRODUCT_tiles), diag));
  MOEC_TRY(product_dtype(module, op, wanted, &dtype, diag));
  MOEC_TRY(check_panels(module, op, columns, diag));
  return set_grouped(module, op, dtype, w->dim[2], columns, diag);
}
