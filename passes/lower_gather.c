/* Reading at indices that are data. */
#include "ir/build.h"
#include "passes/lower.h"

static unsigned axis_of(int64_t axis, unsigned rank) {
  return (unsigned)(axis < 0 ? axis + rank : axis);
}

/* Element of x at a checked index; 0 where the index was out of range. */
static ir_value_t *checked_elem(kernel_t *k, ir_value_t *x,
                                ir_value_t *const *at, ir_value_t *ok) {
  ir_value_t *scalar = lower_elem_masked(k, x, at, ok);
  return kernel_select(k, ok, scalar, kernel_const(k, x->type.dtype, 0));
}

/* Whether x is the number of the trip of a loop of n trips at most. */
static bool counts_to(const ir_value_t *x, const expr_t *n) {
  if (x->region == NULL || x->index != 0) return false;
  const ir_op_t *loop = x->region->owner;
  return loop != NULL && loop->code == OP_WHILE &&
         ir_known(loop->in[0].value, 0) == n;
}

/* Whether x is such a number, or n - 1 less it: an index that needs no check.
 */
static bool is_trip_of(const kernel_t *k, const ir_value_t *x,
                       const expr_t *n) {
  const ir_op_t *op = x->def;
  if (op == NULL) return counts_to(x, n);
  if (op->code != OP_SUB || !counts_to(op->in[1].value, n)) return false;
  expr_pool_t *pool = k->module->exprs;
  return ir_known(op->in[0].value, 0) == expr_sub(pool, n, expr_const(pool, 1));
}

/* Whether x are places, rows or groups of an axis of that size. */
static bool is_from_groups(const ir_value_t *x, const expr_t *n) {
  while (x->def != NULL && x->def->code == OP_RESHAPE) x = x->def->in[0].value;
  const ir_op_t *op = x->def;
  int64_t size;
  if (op == NULL || op->code != OP_GROUP_ROWS) return false;
  if (x->index <= 1) return op->out[0].type.dim[0] == n;
  return x->index == 2 && expr_is_const(n, &size) && size > 0 &&
         size == ir_get_int(op, ATTR_GROUP_ROWS_groups);
}

static bool needs_no_check(const kernel_t *k, const ir_value_t *x,
                           const expr_t *n) {
  return is_trip_of(k, x, n) || is_from_groups(x, n);
}

static ir_value_t *elem_gather(kernel_t *k, const ir_op_t *op, unsigned result,
                               ir_value_t *const *idx) {
  (void)result;
  ir_value_t *x = op->in[0].value, *index = op->in[1].value;
  unsigned axis = axis_of(ir_get_int(op, ATTR_GATHER_axis), x->type.rank);
  unsigned n = index->type.rank;
  ir_value_t *at[IR_MAX_RANK], *ok = NULL;
  const expr_t *size = x->type.dim[axis];
  for (unsigned d = 0; d < axis; d++) at[d] = idx[d];
  at[axis] = lower_elem(k, index, idx + axis);
  if (!needs_no_check(k, index, size))
    at[axis] = lower_wrap_index(k, at[axis], size, &ok);
  for (unsigned d = axis + 1; d < x->type.rank; d++) at[d] = idx[d - 1 + n];
  return ok != NULL ? checked_elem(k, x, at, ok) : lower_elem(k, x, at);
}

static bool merges_gather(const ir_op_t *op, unsigned d) {
  const ir_value_t *x = op->in[0].value, *index = op->in[1].value;
  unsigned axis = axis_of(ir_get_int(op, ATTR_GATHER_axis), x->type.rank);
  unsigned n = index->type.rank;
  if (d + 1 < axis) return lower_merges(x, d);
  if (d >= axis + n) return lower_merges(x, d + 1 - n);
  if (d >= axis && d + 1 < axis + n) return lower_merges(index, d - axis);
  return false;
}

const lowering_t lowering_gather = {.elem = elem_gather,
                                    .merges = merges_gather};

static ir_value_t *elem_gather_elements(kernel_t *k, const ir_op_t *op,
                                        unsigned result,
                                        ir_value_t *const *idx) {
  (void)result;
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK], *ok;
  unsigned axis =
      axis_of(ir_get_int(op, ATTR_GATHER_ELEMENTS_axis), x->type.rank);
  for (unsigned d = 0; d < x->type.rank; d++) at[d] = idx[d];
  at[axis] = lower_wrap_index(k, lower_elem(k, op->in[1].value, idx),
                              x->type.dim[axis], &ok);
  return checked_elem(k, x, at, ok);
}

const lowering_t lowering_gather_elements = {.elem = elem_gather_elements};

static ir_value_t *elem_gather_nd(kernel_t *k, const ir_op_t *op,
                                  unsigned result, ir_value_t *const *idx) {
  (void)result;
  ir_value_t *x = op->in[0].value, *index = op->in[1].value;
  unsigned batch = (unsigned)ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  unsigned rank = index->type.rank;
  int64_t depth = 0;
  if (!expr_is_const(index->type.dim[rank - 1], &depth))
    MOEC_BUG("gather_nd with an index of unknown depth");
  ir_value_t *at[IR_MAX_RANK], *where[IR_MAX_RANK], *all = NULL;
  for (unsigned d = 0; d < batch; d++) at[d] = idx[d];
  for (unsigned d = 0; d + 1 < rank; d++) where[d] = idx[d];
  for (unsigned j = 0; j < depth; j++) {
    ir_value_t *ok;
    where[rank - 1] = kernel_int(k, j);
    at[batch + j] = lower_wrap_index(k, lower_elem(k, index, where),
                                     x->type.dim[batch + j], &ok);
    all = all ? kernel_binary(k, OP_AND, all, ok) : ok;
  }
  for (unsigned d = batch + (unsigned)depth; d < x->type.rank; d++)
    at[d] = idx[rank - 1 + d - batch - (unsigned)depth];
  return all ? checked_elem(k, x, at, all) : lower_elem(k, x, at);
}

static bool merges_gather_nd(const ir_op_t *op, unsigned d) {
  const ir_value_t *x = op->in[0].value, *index = op->in[1].value;
  unsigned rank = index->type.rank;
  if (d + 1 < rank) return false;
  return lower_merges(x, d + x->type.rank - op->out[0].type.rank);
}

const lowering_t lowering_gather_nd = {.elem = elem_gather_nd,
                                       .merges = merges_gather_nd};
