/* Rules for indices that count all rows, several times over: tokens that every
 * expert gets, say. They are copies of the rows. */
#include "passes/rules.h"

const ir_value_t *rule_tiles(const ir_value_t *index, const expr_t *n) {
  enum { MAX_STEPS = 6 };
  for (unsigned i = 0; i < MAX_STEPS; i++) {
    unsigned rank = index->type.rank;
    if (rank >= 2 && index->type.dim[rank - 1] == n &&
        rule_counts_along(index, rank - 1))
      return index;
    const ir_op_t *op = index->def;
    if (op == NULL || op->code != OP_RESHAPE) return NULL;
    index = op->in[0].value;
  }
  return NULL;
}

static unsigned axis_of(const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  return (unsigned)(axis < 0 ? axis + op->in[0].value->type.rank : axis);
}

bool match_gather_tiles(const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type;
  const ir_value_t *tiles = rule_tiles(op->in[1].value, x->dim[axis_of(op)]);
  return tiles != NULL && tiles->type.rank - 1 + x->rank <= IR_MAX_RANK;
}

ir_value_t *apply_gather_tiles(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value;
  const ir_type_t *to = &op->out[0].type;
  unsigned axis = axis_of(op), rank = 0;
  const ir_value_t *tiles = rule_tiles(op->in[1].value, x->type.dim[axis]);
  const expr_t *one[IR_MAX_RANK], *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < x->type.rank; d++) {
    for (unsigned i = 0; d == axis && i + 1 < tiles->type.rank; i++) {
      one[rank] = expr_const(b->module->exprs, 1);
      dim[rank++] = tiles->type.dim[i];
    }
    one[rank] = x->type.dim[d];
    dim[rank++] = x->type.dim[d];
  }
  ir_value_t *rows = ir_reshape(b, x, rank, one);
  ir_value_t *copies = ir_expand(b, rows, rank, dim);
  return ir_reshape(b, copies, to->rank, to->dim);
}
