/* Matrix products with the elementwise operations behind them as epilogue. */
#include "ir/tile.h"
#include "passes/lower.h"

ir_value_t *lower_find_product(const lower_t *lo, ir_value_t *tensor) {
  const ir_op_t *op = tensor->def;
  if (op == NULL) return NULL;
  if (lower_is_product(op)) return tensor;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (x == NULL || x->def == NULL || !x->def->fused) continue;
    if (lo->product[x->number] != NULL) return lo->product[x->number];
  }
  return NULL;
}

/* Operands of one product, as the kernel walks them. */
typedef struct product_shape {
  const ir_op_t *op;
  view_t a;
  ir_value_t *b;    /* panels [batch.., P, K, 32] */
  unsigned rank;    /* of the result */
  unsigned n_batch; /* leading dimensions that are walked as batches */
  unsigned row;     /* the dimension that has the rows, merged ones as well */
  const expr_t *M, *N, *K;
  const expr_t *a_row; /* stride of A over the (merged) rows */
} product_shape_t;

/* Leading dimensions become rows of one product when B is the same for all, A's
 * rows are evenly spaced and the epilogue can walk them as one. Dimensions of 1
 * have the index 0 wherever they are walked: rows are those of the last other
 * one.
 */
static bool rows_merge(lower_t *lo, const product_shape_t *s,
                       ir_value_t *tensor) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *out = &s->op->out[0].type;
  const ir_type_t *a = &s->op->in[0].value->type;
  const lowering_t *l = lowering_of(tensor->def->code);
  if (s->b->type.rank != 3 || a->rank != out->rank) return false;
  for (unsigned d = 0; d + 2 < out->rank; d++) {
    if (d > 0 && d < s->row && expr_equals_const(out->dim[d], 1)) return false;
    if (s->a.stride[d] != expr_mul(pool, a->dim[d + 1], s->a.stride[d + 1]))
      return false;
    bool root = tensor == &s->op->out[0] || d >= s->row;
    if (!root && (l->merges == NULL || !l->merges(tensor->def, d)))
      return false;
  }
  return true;
}

static bool study_product(lower_t *lo, ir_value_t *tensor, ir_value_t *product,
                          product_shape_t *s) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_op_t *op = product->def;
  ir_value_t *a = op->in[0].value;
  *s = (product_shape_t){
      .op = op, .b = op->in[1].value, .rank = product->type.rank};
  if (!view_of(lo->module, a, &s->a))
    view_of(lo->module, lower_stored(lo, a), &s->a);
  s->M = product->type.dim[s->rank - 2];
  s->N = product->type.dim[s->rank - 1];
  s->K = a->type.dim[a->type.rank - 1];
  s->a_row = s->a.stride[a->type.rank - 2];
  s->n_batch = s->row = s->rank - 2;
  while (s->row > 0 && expr_equals_const(product->type.dim[s->row], 1))
    s->row--;
  if (s->n_batch > 0 && rows_merge(lo, s, tensor)) {
    s->M = expr_product(pool, product->type.dim, s->rank - 1);
    s->n_batch = 0;
  } else {
    s->row = s->rank - 2;
  }
  return true;
}

/* Offset into an operand of the batch idx[0 .. n_batch), with numpy's rules. */
static ir_value_t *batch_offset(kernel_t *k, const product_shape_t *s,
                                const ir_type_t *type,
                                const expr_t *const *stride, unsigned n_own,
                                ir_value_t *const *idx) {
  const ir_type_t *out = &s->op->out[0].type;
  ir_value_t *offset = kernel_int(k, 0);
  if (s->n_batch == 0) return offset;
  unsigned shift = s->n_batch - n_own;
  for (unsigned d = 0; d < n_own; d++) {
    ir_value_t *i = lower_broadcast_index(k, type->dim[d], out->dim[d + shift],
                                          idx[d + shift]);
    offset =
        kernel_binary(k, OP_ADD, offset,
                      kernel_binary(k, OP_MUL, i, kernel_size(k, stride[d])));
  }
  return offset;
}

/* Unit number to batch indices and tile; returns the tile. */
static ir_value_t *split_unit(kernel_t *k, const product_shape_t *s,
                              const expr_t *tiles, ir_value_t **idx) {
  ir_value_t *unit = kernel_parallel(k);
  if (s->n_batch == 0) return unit;
  ir_value_t *n = kernel_size(k, tiles);
  ir_value_t *tile = kernel_binary(k, OP_FMOD, unit, n);
  lower_split(k, s->n_batch, s->op->out[0].type.dim,
              kernel_binary(k, OP_DIV, unit, n), idx);
  return tile;
}

dtype_t lower_sum_dtype(dtype_t dtype) {
  return dtype_is_float(dtype) && dtype_bits(dtype) < 32 ? DT_F32 : dtype;
}

const expr_t *lower_count_tiles(expr_pool_t *pool, dtype_t sum,
                                const expr_t *rows, const expr_t *columns) {
  const expr_t *down = expr_const(pool, PRODUCT_TILE_ROWS);
  const expr_t *across = expr_const(pool, product_tile_columns(sum));
  return expr_mul(pool, expr_ceildiv(pool, rows, down),
                  expr_ceildiv(pool, columns, across));
}

/* Opens the tile; its three region arguments out. */
static void open_tile(kernel_t *k, const product_shape_t *s,
                      const expr_t *tiles, dtype_t acc, ir_value_t **idx,
                      ir_value_t **region) {
  expr_pool_t *pool = k->module->exprs;
  const ir_type_t *a = &s->op->in[0].value->type, *b = &s->b->type;
  ir_value_t *tile = split_unit(k, s, tiles, idx);
  ir_value_t *a_offset = kernel_size(k, s->a.offset);
  a_offset =
      kernel_binary(k, OP_ADD, a_offset,
                    batch_offset(k, s, a, s->a.stride, a->rank - 2, idx));
  const expr_t *b_stride[IR_MAX_RANK];
  const expr_t *step = expr_product(pool, b->dim + b->rank - 3, 3);
  for (unsigned d = b->rank - 3; d-- > 0;) {
    b_stride[d] = step;
    step = expr_mul(pool, step, b->dim[d]);
  }
  ir_value_t *in[10] = {
      kernel_operand(k, s->a.base),
      a_offset,
      kernel_size(k, s->a_row),
      kernel_size(k, s->a.stride[a->rank - 1]),
      kernel_operand(k, s->b),
      batch_offset(k, s, b, b_stride, b->rank - 3, idx),
      kernel_size(k, s->K),
      tile,
      kernel_size(k, s->M),
      kernel_size(k, s->N),
  };
  kernel_product_tile(k, 10, in, acc, region);
}

/* Indices of element (m, n); merged rows come apart unless the walk is merged.
 */
static void element_index(kernel_t *k, const product_shape_t *s,
                          ir_value_t *const *region, ir_value_t **idx) {
  for (unsigned d = s->n_batch; d + 1 < s->rank; d++) idx[d] = kernel_int(k, 0);
  idx[s->row] = region[1];
  idx[s->rank - 1] = region[2];
}

ir_value_t *lower_finish_product(lower_t *lo, kernel_t *k, ir_value_t *tensor,
                                 ir_value_t *product, ir_value_t *sum,
                                 ir_value_t *const *idx, const expr_t *units) {
  k->anchor = product;
  k->anchor_scalar = kernel_cast(k, sum, product->type.dtype);
  ir_value_t *scalar = k->anchor_scalar;
  if (tensor != product)
    scalar = lowering_of(tensor->def->code)
                 ->elem(k, tensor->def, tensor->index, idx);
  kernel_store(k, kernel_result(k, 0), lower_linear(k, &tensor->type, idx),
               scalar, NULL);
  ir_op_t *launched = lower_launch(lo, k, "product", 1, &tensor->type, units,
                                   expr_const(lo->module->exprs, 1));
  return &launched->out[0];
}

ir_value_t *lower_product(lower_t *lo, ir_value_t *tensor,
                          ir_value_t *product) {
  if (product->def->code == OP_WINDOW_PRODUCT)
    return lower_window_product(lo, tensor, product);
  if (product->def->code == OP_GROUPED_PRODUCT)
    return lower_grouped_product(lo, tensor, product);
  expr_pool_t *pool = lo->module->exprs;
  product_shape_t s;
  study_product(lo, tensor, product, &s);
  dtype_t acc = lower_sum_dtype(product->type.dtype);
  const expr_t *tiles = lower_count_tiles(pool, acc, s.M, s.N);
  const expr_t *units =
      expr_mul(pool, expr_product(pool, product->type.dim, s.n_batch), tiles);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK], *region[4];
  kernel_begin(&k, lo->module, lo->table, tensor->def->loc, 1,
               &tensor->type.dtype);
  open_tile(&k, &s, tiles, acc, idx, region);
  element_index(&k, &s, region, idx);
  return lower_finish_product(lo, &k, tensor, product, region[0], idx, units);
}

static void root_product(lower_t *lo, ir_op_t *op) {
  lower_set_stored(lo, &op->out[0],
                   lower_product(lo, &op->out[0], &op->out[0]));
}

/* A fused product is the anchor of its kernel: lower_elem finds its scalar. */
const lowering_t lowering_product = {.root = root_product};

/* The layout pass turns every matmul into a product or a reduction. */
const lowering_t lowering_matmul = {0};
