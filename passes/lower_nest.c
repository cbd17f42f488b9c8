/* Loop nests over the elements of a result. */
#include "passes/lower.h"

enum {
  CHUNK = 4096,      /* elements of the innermost loop in one unit */
  TASK_STEPS = 32768 /* scalar steps that are worth waking a thread for */
};

static void add_loop(nest_t *nest, unsigned d, const expr_t *extent) {
  if (expr_equals_const(extent, 1)) return;
  nest->loop_dim[nest->n_loops] = d;
  nest->extent[nest->n_loops++] = extent;
}

static bool is_short(const expr_t *extent) {
  int64_t bound;
  return expr_upper_bound(extent, &bound) && bound <= 2 * CHUNK;
}

void nest_plan(ir_module_t *module, nest_t *nest, unsigned rank,
               const expr_t *const *dim, const bool *mergeable, bool chunk,
               const expr_t *work) {
  expr_pool_t *pool = module->exprs;
  *nest = (nest_t){.rank = rank, .dim = dim};
  const expr_t *extent = expr_const(pool, 1);
  for (unsigned d = 0; d < rank; d++) {
    extent = expr_mul(pool, extent, dim[d]);
    if (d + 1 < rank && mergeable[d]) continue;
    add_loop(nest, d, extent);
    extent = expr_const(pool, 1);
  }
  nest->units = expr_const(pool, 1);
  if (nest->n_loops == 0) {
    nest->grain = nest->units;
    return;
  }
  unsigned last = nest->n_loops - 1;
  nest->units = expr_product(pool, nest->extent, last);
  const expr_t *inner = nest->extent[last];
  nest->chunked = chunk && !is_short(inner);
  const expr_t *steps = inner;
  if (nest->chunked) {
    steps = expr_const(pool, CHUNK);
    nest->units =
        expr_mul(pool, nest->units, expr_ceildiv(pool, inner, steps));
  }
  steps = expr_add(pool, expr_mul(pool, steps, work), expr_const(pool, 1));
  nest->grain = expr_ceildiv(pool, expr_const(pool, TASK_STEPS), steps);
}

/* Spreads a row number over the outer loops, innermost first. */
static void split_row(kernel_t *k, const nest_t *nest, ir_value_t *row,
                      ir_value_t **idx) {
  unsigned n_outer = nest->n_loops > 0 ? nest->n_loops - 1 : 0;
  for (unsigned l = n_outer; l-- > 0;) {
    if (l == 0) {
      idx[nest->loop_dim[0]] = row;
      break;
    }
    ir_value_t *extent = kernel_size(k, nest->extent[l]);
    idx[nest->loop_dim[l]] = kernel_binary(k, OP_FMOD, row, extent);
    row = kernel_binary(k, OP_DIV, row, extent);
  }
}

void nest_open_outer(kernel_t *k, const nest_t *nest, ir_value_t **idx) {
  MOEC_ASSERT(!nest->chunked);
  for (unsigned d = 0; d < nest->rank; d++) idx[d] = kernel_int(k, 0);
  split_row(k, nest, kernel_parallel(k), idx);
}

void nest_open(kernel_t *k, const nest_t *nest, bool vector, ir_value_t **idx) {
  if (nest->n_loops == 0 || !nest->chunked) {
    nest_open_outer(k, nest, idx);
    if (nest->n_loops == 0) return;
    unsigned last = nest->n_loops - 1;
    idx[nest->loop_dim[last]] = kernel_for(
        k, kernel_int(k, 0), kernel_size(k, nest->extent[last]), vector);
    return;
  }
  expr_pool_t *pool = k->module->exprs;
  for (unsigned d = 0; d < nest->rank; d++) idx[d] = kernel_int(k, 0);
  unsigned last = nest->n_loops - 1;
  ir_value_t *unit = kernel_parallel(k);
  ir_value_t *chunk = kernel_int(k, CHUNK);
  ir_value_t *first = unit;
  if (last > 0) {
    const expr_t *n =
        expr_ceildiv(pool, nest->extent[last], expr_const(pool, CHUNK));
    first = kernel_binary(k, OP_FMOD, unit, kernel_size(k, n));
    split_row(k, nest, kernel_binary(k, OP_DIV, unit, kernel_size(k, n)), idx);
  }
  first = kernel_binary(k, OP_MUL, first, chunk);
  ir_value_t *extent = kernel_size(k, nest->extent[last]);
  ir_value_t *end =
      kernel_binary(k, OP_MIN, kernel_binary(k, OP_ADD, first, chunk), extent);
  idx[nest->loop_dim[last]] = kernel_for(k, first, end, vector);
}
