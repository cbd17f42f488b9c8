/* Between the files of the moe_expand pass. */
#ifndef PASSES_EXPAND_H
#define PASSES_EXPAND_H

#include "ir/build.h"

/* ---- A copy of a region's operations elsewhere (expand_inline.c) --------- */

typedef struct inliner {
  ir_builder_t *b; /* where the copies go */
  arena_t *scratch;
  const ir_region_t *region;
  unsigned first, n;      /* numbers of the region's own values */
  ir_value_t **map;       /* by number - first: what stands for it, or NULL */
  const expr_t **symbols; /* by index: what stands for it, or NULL */
  unsigned n_symbols;
} inliner_t;

/* Sizes `rows` of the region become `n`. Values must be numbered. */
void inline_begin(inliner_t *in, ir_builder_t *b, arena_t *scratch,
                  const ir_region_t *region, const expr_t *rows,
                  const expr_t *n);
/* Whether the region itself defines the value: as an argument or a result. */
bool inline_owns(const inliner_t *in, const ir_value_t *value);
/* What stands for a value of the region; any other value is itself. */
ir_value_t *inline_value(const inliner_t *in, ir_value_t *value);
void inline_set(inliner_t *in, const ir_value_t *value, ir_value_t *by);
const expr_t *inline_expr(const inliner_t *in, const expr_t *e);
/* Copies an operation; sizes that it or what is in it defines become new ones.
 */
void inline_op(inliner_t *in, const ir_op_t *op);
/* Changes sizes in a copy and in all that is in it: `rows` becomes `n`, sizes
 * that it defines become new ones. The inliner needs its builder and memory
 * only. */
moec_status_t inline_sizes(inliner_t *in, ir_op_t *copy, const expr_t *rows,
                           const expr_t *n);
/* Copies all operations; what the region yields. */
ir_value_t *inline_all(inliner_t *in);

/* ---- Experts of one structure at once (expand_grouped.c) ----------------- */

/* Rows, the group of each, and where they lie group by group, what else
 * group_rows says of them. */
typedef struct grouping {
  const expr_t *n; /* rows */
  ir_value_t *group, *offsets, *tiles;
  const expr_t *n_tiles;
} grouping_t;

/* Whether the banks of this region of moe.experts are used in such a way that
 * it can be computed for the rows of all groups at once. */
bool grouped_fits(const ir_op_t *experts, unsigned region, arena_t *scratch);
/* Of one that fits, whether it has products that want rows group by group; all
 * else is done for each row where it is. */
bool grouped_wants_order(const ir_op_t *experts, unsigned region,
                         arena_t *scratch);
/* The region's result for rows (one value for each argument that is not a
 * bank); groups are elements of its banks. */
ir_value_t *grouped_build(ir_builder_t *b, arena_t *scratch,
                          const ir_op_t *experts, unsigned region,
                          ir_value_t *const *rows, const grouping_t *grouping);

/* Whether it has convolutions by filters of its banks. */
bool grouped_convolves(const ir_op_t *experts, unsigned region,
                       arena_t *scratch);

/* group_rows of keys; NULL on failure. */
ir_op_t *expand_group_rows(ir_builder_t *b, ir_value_t *key, int64_t groups);
/* What there is to know of n rows; false on failure. Nothing asks for more than
 * their number where there are no banks. */
bool expand_describe(ir_builder_t *b, ir_op_t *groups, const expr_t *n,
                     bool has_banks, grouping_t *out);

/* ---- Rows block by block (expand_blocks.c) ------------------------------- */

/* Rows in the order of their groups, and a region that suits grouped_build. */
typedef struct blocked {
  arena_t *scratch;
  const ir_op_t *experts;
  unsigned region;
  const expr_t *n;         /* rows */
  ir_value_t *group, *end; /* of each; where those of no group begin */
  int64_t n_groups;
  unsigned n_values;
  ir_value_t *const *value, *const *row; /* value i of place p: at row[i][p] */
} blocked_t;

/* Whether their number is a size of which blocks can be sizes. */
bool blocks_fit(const blocked_t *of);
/* The region's result for all rows, and for some behind them. */
ir_value_t *blocks_build(ir_builder_t *b, const blocked_t *of);

#endif
