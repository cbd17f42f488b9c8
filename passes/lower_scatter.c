/* Writing at indices that are data, and runtime routines. */
#include <string.h>

#include "passes/lower.h"

/* What is written where `old` stands. */
static ir_value_t *combine(kernel_t *k, const char *reduction, ir_value_t *old,
                           ir_value_t *update) {
  if (strcmp(reduction, "add") == 0)
    return kernel_binary(k, update->type.dtype == DT_BOOL ? OP_OR : OP_ADD, old,
                         update);
  if (strcmp(reduction, "mul") == 0)
    return kernel_binary(k, update->type.dtype == DT_BOOL ? OP_AND : OP_MUL,
                         old, update);
  if (strcmp(reduction, "max") == 0)
    return kernel_binary(k, OP_MAX, old, update);
  return kernel_binary(k, OP_MIN, old, update);
}

static void write_update(kernel_t *k, const char *reduction, ir_value_t *at,
                         ir_value_t *update, ir_value_t *ok) {
  ir_value_t *buffer = kernel_result(k, 0);
  if (reduction != NULL && strcmp(reduction, "none") != 0) {
    ir_value_t *safe = kernel_select(k, ok, at, kernel_int(k, 0));
    update = combine(k, reduction, kernel_load_fresh(k, buffer, safe), update);
  }
  kernel_store(k, buffer, at, update, ok);
}

/* Updates along the axis run in order; other indices are independent, because
 * they write into different lines. */
static void root_scatter_elements(lower_t *lo, ir_op_t *op) {
  ir_value_t *index = op->in[1].value, *updates = op->in[2].value;
  const ir_type_t *type = &op->out[0].type, *from = &index->type;
  const char *reduction = ir_get_str(op, ATTR_SCATTER_ELEMENTS_reduction);
  int64_t axis_attr = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  unsigned axis =
      (unsigned)(axis_attr < 0 ? axis_attr + type->rank : axis_attr);
  ir_value_t *target = lower_private_copy(lo, op->in[0].value, op->loc);
  expr_pool_t *pool = lo->module->exprs;
  const expr_t *dim[IR_MAX_RANK];
  bool mergeable[IR_MAX_RANK] = {false};
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] = d == axis ? expr_const(pool, 1) : from->dim[d];
  nest_t nest;
  nest_plan(lo->module, &nest, type->rank, dim, mergeable, NEST_CHUNKS,
            from->dim[axis]);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK], *at[IR_MAX_RANK], *ok;
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  nest_open(&k, &nest, true, idx);
  ir_value_t *zero = kernel_int(&k, 0);
  idx[axis] = kernel_for(&k, zero, kernel_size(&k, from->dim[axis]), false);
  for (unsigned d = 0; d < type->rank; d++) at[d] = idx[d];
  at[axis] =
      lower_wrap_index(&k, lower_elem(&k, index, idx), type->dim[axis], &ok);
  ir_value_t *to = lower_linear(&k, type, at);
  write_update(&k, reduction, to, lower_elem(&k, updates, idx), ok);
  ir_op_t *launched =
      lower_launch_inplace(lo, &k, "scatter", target, nest.units, nest.grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_scatter_elements = {.root = root_scatter_elements};

/* Rows of updates run in order; elements inside a row are independent. */
static void root_scatter_nd(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  ir_value_t *index = op->in[1].value, *updates = op->in[2].value;
  const ir_type_t *type = &op->out[0].type;
  const char *reduction = ir_get_str(op, ATTR_SCATTER_ND_reduction);
  unsigned rows = index->type.rank - 1;
  int64_t depth = 0;
  if (!expr_is_const(index->type.dim[rows], &depth))
    MOEC_BUG("scatter_nd with an index of unknown depth");
  ir_value_t *target = lower_private_copy(lo, op->in[0].value, op->loc);
  unsigned rank = updates->type.rank;
  const expr_t *dim[IR_MAX_RANK];
  bool mergeable[IR_MAX_RANK] = {false};
  for (unsigned d = 0; d < rank; d++)
    dim[d] = d < rows ? expr_const(pool, 1) : updates->type.dim[d];
  for (unsigned d = rows; d + 1 < rank; d++)
    mergeable[d] = lower_merges(updates, d);
  const expr_t *n_rows = expr_product(pool, index->type.dim, rows);
  nest_t nest;
  nest_plan(lo->module, &nest, rank, dim, mergeable, NEST_CHUNKS, n_rows);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK], *where[IR_MAX_RANK], *at[IR_MAX_RANK],
      *all = NULL;
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  nest_open(&k, &nest, true, idx);
  ir_value_t *zero = kernel_int(&k, 0);
  for (unsigned d = 0; d < rows; d++)
    where[d] = idx[d] =
        kernel_for(&k, zero, kernel_size(&k, index->type.dim[d]), false);
  for (unsigned j = 0; j < depth; j++) {
    ir_value_t *ok;
    where[rows] = kernel_int(&k, j);
    at[j] =
        lower_wrap_index(&k, lower_elem(&k, index, where), type->dim[j], &ok);
    all = all ? kernel_binary(&k, OP_AND, all, ok) : ok;
  }
  for (unsigned d = (unsigned)depth; d < type->rank; d++)
    at[d] = idx[rows + d - (unsigned)depth];
  if (all == NULL) all = kernel_binary(&k, OP_EQ, zero, zero);
  ir_value_t *to = lower_linear(&k, type, at);
  write_update(&k, reduction, to, lower_elem(&k, updates, idx), all);
  ir_op_t *launched =
      lower_launch_inplace(lo, &k, "scatter", target, nest.units, nest.grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_scatter_nd = {.root = root_scatter_nd};

/* ---- Runtime routines ---------------------------------------------------- */

static void root_topk(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  ir_value_t *x = lower_stored(lo, op->in[0].value);
  const ir_type_t *type = &x->type;
  int64_t attr = ir_get_int(op, ATTR_TOPK_axis);
  unsigned axis = (unsigned)(attr < 0 ? attr + type->rank : attr);
  const expr_t *args[] = {
      expr_const(pool, type->dtype),
      expr_product(pool, type->dim, axis),
      type->dim[axis],
      expr_product(pool, type->dim + axis + 1, type->rank - axis - 1),
      ir_get_expr(op, ATTR_TOPK_k),
      expr_const(pool, ir_get_int(op, ATTR_TOPK_largest)),
      expr_const(pool, ir_get_int(op, ATTR_TOPK_sorted)),
  };
  lower_call(lo, op, "topk", 1, &x, sizeof args / sizeof args[0], args);
}

const lowering_t lowering_topk = {.root = root_topk};

static void root_topk_sums(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  ir_value_t *in[] = {lower_stored(lo, op->in[0].value),
                      lower_stored(lo, op->in[1].value)};
  const ir_type_t *a = &op->in[0].value->type, *b = &op->in[1].value->type;
  unsigned last = a->rank - 1;
  const expr_t *args[] = {expr_product(pool, a->dim, last), a->dim[last],
                          b->dim[last],
                          expr_const(pool, ir_get_int(op, ATTR_TOPK_SUMS_k))};
  lower_call(lo, op, "topk_sums", 2, in, sizeof args / sizeof args[0], args);
}

const lowering_t lowering_topk_sums = {.root = root_topk_sums};

static void root_nonzero(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  ir_value_t *x = lower_stored(lo, op->in[0].value);
  const ir_type_t *type = &x->type;
  const expr_t *args[IR_MAX_RANK + 3];
  unsigned n = 0;
  args[n++] = expr_const(pool, type->dtype);
  args[n++] = expr_const(pool, type->rank);
  for (unsigned d = 0; d < type->rank; d++) args[n++] = type->dim[d];
  args[n++] = ir_get_expr(op, ATTR_NONZERO_count);
  lower_call(lo, op, "nonzero", 1, &x, n, args);
}

const lowering_t lowering_nonzero = {.root = root_nonzero};

static void root_sort_rows(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  ir_value_t *x = lower_stored(lo, op->in[0].value);
  const expr_t *args[] = {expr_const(pool, x->type.dtype), x->type.dim[0],
                          x->type.dim[1]};
  lower_call(lo, op, "sort_rows", 1, &x, 3, args);
}

const lowering_t lowering_sort_rows = {.root = root_sort_rows};
