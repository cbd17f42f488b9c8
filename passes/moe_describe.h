/* What the experts of a layer compute, in words and in numbers. */
#ifndef PASSES_MOE_DESCRIBE_H
#define PASSES_MOE_DESCRIBE_H

#include "passes/moe_report.h"

/* A region of moe.experts, or one that is meant to become one. Its arguments
 * are f[rows, ..] per token value, per route value, then f[..] per bank; its
 * terminator gives one row for each row. */
typedef struct moe_region {
  const ir_region_t *region;
  unsigned token_values, route_values;
  const expr_symbol_t *rows;
} moe_region_t;

/* Region `index` of a moe.experts operation. */
moe_region_t moe_region_of(const ir_op_t *experts, unsigned index);

/* What the region computes: "(silu(x W_gate) * (x W_up)) W_down, 32 -> 48 ->
 * 32", "relu(conv3x3(x)), 3 -> 8", "identity", "zero"; the names of its
 * operations where a formula would be too long. x is the token's row, s the
 * value of a route, W a matrix, b and c other numbers of the expert. Linear in
 * the region's size. */
const char *moe_describe_region(arena_t *arena, const moe_region_t *region);

/* What one row costs. Results are NULL where they are no expression of the
 * module's symbols, or too large for one. */
typedef struct moe_cost {
  const expr_t *multiply_adds; /* of products and convolutions */
  const expr_t *elementwise;   /* elements that other operations compute */
  const expr_t *weight_bytes;  /* of one expert's elements of banks, and of
                                  constants without scalars */
} moe_cost_t;
moe_cost_t moe_region_cost(ir_module_t *module, const moe_region_t *region);

/* Fills in experts, k, structure, n_structures and, for one token, the work
 * after the rewrite and before it: then k experts were computed too, or all of
 * them (`all`). Where experts are of several structures, the work of k of them
 * is that of the costliest ones, each of which counts once. Does nothing for a
 * NULL layer. */
void moe_describe_experts(moe_report_t *report, moe_layer_t *layer,
                          const ir_op_t *experts, bool all);

#endif
