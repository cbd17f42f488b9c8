/* Loop nests over the elements of a result. */
#include "passes/lower.h"

enum {
  BLOCK = 16,     /* of rows in one unit */
  CHUNK = 4096,   /* elements of the innermost loop in one unit */
  ROW_CHUNK = 16, /* the same where the caller walks a row for each of them */
  TASK_STEPS = 32768 /* scalar steps that are worth waking a thread for */
};

static void add_loop(nest_t *nest, unsigned d, const expr_t *extent) {
  if (expr_equals_const(extent, 1)) return;
  nest->loop_dim[nest->n_loops] = d;
  nest->extent[nest->n_loops++] = extent;
}

static bool is_short(const expr_t *extent, int64_t chunk) {
  int64_t bound;
  return expr_upper_bound(extent, &bound) && bound <= 2 * chunk;
}

void nest_plan(ir_module_t *module, nest_t *nest, unsigned rank,
               const expr_t *const *dim, const bool *mergeable,
               nest_kind_t kind, const expr_t *work) {
  expr_pool_t *pool = module->exprs;
  *nest = (nest_t){.rank = rank, .dim = dim};
  int64_t chunk = kind == NEST_ROWS ? ROW_CHUNK : CHUNK;
  const expr_t *extent = expr_const(pool, 1);
  for (unsigned d = 0; d < rank; d++) {
    extent = expr_mul(pool, extent, dim[d]);
    /* Dimensions of 1 stay apart: merging is transitive only without them. */
    if (d + 1 < rank && mergeable[d] && !expr_equals_const(dim[d], 1) &&
        !expr_equals_const(dim[d + 1], 1))
      continue;
    add_loop(nest, d, extent);
    extent = expr_const(pool, 1);
  }
  nest->units = expr_product(pool, nest->extent, nest->n_loops);
  const expr_t *steps = expr_const(pool, 1);
  if (nest->n_loops > 0) {
    const expr_t *inner = nest->extent[nest->n_loops - 1];
    nest->units = expr_product(pool, nest->extent, nest->n_loops - 1);
    bool whole = kind == NEST_WHOLE || kind == NEST_BLOCKS;
    if (!whole && !is_short(inner, chunk)) nest->chunk = chunk;
    steps = nest->chunk ? expr_const(pool, chunk) : inner;
    if (nest->chunk)
      nest->units =
          expr_mul(pool, nest->units, expr_ceildiv(pool, inner, steps));
  }
  if (kind == NEST_BLOCKS && nest->chunk == 0 && nest->n_loops > 1) {
    const expr_t *block = expr_const(pool, BLOCK);
    const expr_t *rows = nest->extent[nest->n_loops - 2];
    nest->block = BLOCK;
    nest->units =
        expr_mul(pool, expr_product(pool, nest->extent, nest->n_loops - 2),
                 expr_ceildiv(pool, rows, block));
    steps = expr_mul(pool, steps, block);
  }
  steps = expr_add(pool, expr_mul(pool, steps, work), expr_const(pool, 1));
  nest->grain = expr_ceildiv(pool, expr_const(pool, TASK_STEPS), steps);
}

void lower_split(kernel_t *k, unsigned n, const expr_t *const *dim,
                 ir_value_t *number, ir_value_t **out_idx) {
  for (unsigned d = n; d-- > 0;) {
    if (d == 0) {
      out_idx[0] = number;
      break;
    }
    ir_value_t *size = kernel_size(k, dim[d]);
    out_idx[d] = kernel_binary(k, OP_FMOD, number, size);
    number = kernel_binary(k, OP_DIV, number, size);
  }
}

/* Spreads a row number over the first n loops. */
static void split_row(kernel_t *k, const nest_t *nest, unsigned n,
                      ir_value_t *row, ir_value_t **idx) {
  ir_value_t *at[IR_MAX_RANK];
  lower_split(k, n, nest->extent, row, at);
  for (unsigned l = 0; l < n; l++) idx[nest->loop_dim[l]] = at[l];
}

/* A loop over a part of loop l: `size` iterations from `number` * size on. */
static ir_value_t *open_part(kernel_t *k, const nest_t *nest, unsigned l,
                             int64_t size, ir_value_t *number, bool vector) {
  ir_value_t *step = kernel_int(k, size);
  ir_value_t *first = kernel_binary(k, OP_MUL, number, step);
  ir_value_t *extent = kernel_size(k, nest->extent[l]);
  ir_value_t *end =
      kernel_binary(k, OP_MIN, kernel_binary(k, OP_ADD, first, step), extent);
  return kernel_for(k, first, end, vector);
}

/* Which part of loop l, and the loops around it. */
static ir_value_t *split_parts(kernel_t *k, const nest_t *nest, unsigned l,
                               int64_t size, ir_value_t *unit,
                               ir_value_t **idx) {
  expr_pool_t *pool = k->module->exprs;
  if (l == 0) return unit;
  ir_value_t *n = kernel_size(
      k, expr_ceildiv(pool, nest->extent[l], expr_const(pool, size)));
  ir_value_t *part = kernel_binary(k, OP_FMOD, unit, n);
  split_row(k, nest, l, kernel_binary(k, OP_DIV, unit, n), idx);
  return part;
}

/* One chunk of the innermost loop. */
static void open_chunk(kernel_t *k, const nest_t *nest, bool vector,
                       ir_value_t *unit, ir_value_t **idx) {
  unsigned last = nest->n_loops - 1;
  ir_value_t *part = split_parts(k, nest, last, nest->chunk, unit, idx);
  idx[nest->loop_dim[last]] =
      open_part(k, nest, last, nest->chunk, part, vector);
}

/* Some whole innermost loops. */
static void open_block(kernel_t *k, const nest_t *nest, bool vector,
                       ir_value_t *unit, ir_value_t **idx) {
  unsigned last = nest->n_loops - 1, row = last - 1;
  ir_value_t *part = split_parts(k, nest, row, nest->block, unit, idx);
  idx[nest->loop_dim[row]] = open_part(k, nest, row, nest->block, part, false);
  ir_value_t *zero = kernel_int(k, 0);
  ir_value_t *extent = kernel_size(k, nest->extent[last]);
  idx[nest->loop_dim[last]] = kernel_for(k, zero, extent, vector);
}

void nest_open(kernel_t *k, const nest_t *nest, bool vector, ir_value_t **idx) {
  for (unsigned d = 0; d < nest->rank; d++) idx[d] = kernel_int(k, 0);
  ir_value_t *unit = kernel_parallel(k);
  if (nest->chunk != 0) {
    open_chunk(k, nest, vector, unit, idx);
  } else if (nest->block != 0) {
    open_block(k, nest, vector, unit, idx);
  } else if (nest->n_loops > 0) {
    unsigned last = nest->n_loops - 1;
    split_row(k, nest, last, unit, idx);
    ir_value_t *zero = kernel_int(k, 0);
    idx[nest->loop_dim[last]] =
        kernel_for(k, zero, kernel_size(k, nest->extent[last]), vector);
  }
}
