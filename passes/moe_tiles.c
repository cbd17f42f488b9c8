/* Rows of all experts added to the tokens, where each expert has all tokens in
 * order: a sum over experts. */
#include "passes/moe_tiles.h"

#include "ir/build.h"
#include "passes/rules.h"

/* The rows that updates are added to, one number for each; NULL: not known. */
static const ir_value_t *rows_of(const ir_op_t *op) {
  const ir_value_t *index = ir_in(op, 1);
  const ir_type_t *to = &op->out[0].type;
  if (to->rank == 0 || !dtype_is_float(to->dtype) ||
      !rule_scatters_by(op, "add"))
    return NULL;
  if (op->code == OP_SCATTER_ND)
    return index->type.rank == 2 && rule_is_one(index->type.dim[1]) ? index
                                                                    : NULL;
  const ir_op_t *expand = rule_def(op, 1, OP_EXPAND);
  if (op->code != OP_SCATTER_ELEMENTS || expand == NULL ||
      ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0)
    return NULL;
  const ir_type_t *from = &ir_in(expand, 0)->type;
  if (from->rank != to->rank || from->dim[0] != index->type.dim[0]) return NULL;
  for (unsigned d = 1; d < to->rank; d++)
    if (!rule_is_one(from->dim[d]) || index->type.dim[d] != to->dim[d])
      return NULL;
  return ir_in(expand, 0);
}

static void write_sum(pass_ctx_t *ctx, ir_op_t *op, const ir_value_t *tiles) {
  const ir_type_t *to = &op->out[0].type;
  ir_builder_t b = {.module = ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc};
  const expr_t *dim[IR_MAX_RANK];
  int64_t axes[IR_MAX_RANK];
  unsigned n = tiles->type.rank - 1;
  for (unsigned d = 0; d < n; d++) {
    dim[d] = tiles->type.dim[d];
    axes[d] = d;
  }
  for (unsigned d = 0; d < to->rank; d++) dim[n + d] = to->dim[d];
  ir_value_t *rows = ir_reshape(&b, ir_in(op, 2), n + to->rank, dim);
  ir_value_t *sum = ir_reduce(&b, OP_REDUCE_SUM, rows, n, axes, false);
  ir_value_t *in[2] = {ir_in(op, 0), sum};
  ir_op_t *add = ir_begin(&b, OP_ADD, 2, in, 1);
  ir_value_t *y = add != NULL ? ir_place(&b, add) : NULL;
  if (y == NULL) return;
  ir_replace_uses(&op->out[0], y);
  ir_erase(op);
}

void moe_write_tiles(pass_ctx_t *ctx, ir_func_t *func) {
  ir_op_t *next;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = next) {
    next = ir_walk_next(op);
    if (op->code != OP_SCATTER_ELEMENTS && op->code != OP_SCATTER_ND) continue;
    const ir_value_t *rows = rows_of(op);
    const ir_type_t *to = &op->out[0].type;
    const ir_value_t *tiles =
        rows != NULL ? rule_tiles(rows, to->dim[0]) : NULL;
    if (tiles != NULL && tiles->type.rank - 1 + to->rank <= IR_MAX_RANK &&
        pass_allow_rewrite(ctx, "sum-of-tiles", op))
      write_sum(ctx, op, tiles);
  }
}
