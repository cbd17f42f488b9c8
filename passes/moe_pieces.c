/* Rows of several masks, one behind the other.
 *
 * Results of all experts may be joined first, and so may the numbers of their
 * tokens; one scatter adds them then. What is computed in between is read for
 * each expert alone: of what was joined, its own piece. */
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

const ir_op_t *moe_pieces_of(moe_builder_t *b, const ir_value_t *index) {
  enum { MAX_STEPS = 6 };
  const ir_op_t *op = index->def;
  for (unsigned i = 0; op != NULL && i < MAX_STEPS; i++) {
    if (op->code == OP_CONCAT) break;
    const ir_type_t *to = &op->out[0].type;
    bool view = op->code == OP_CAST || op->code == OP_RESHAPE;
    /* one number for all features of a row */
    bool copies = op->code == OP_EXPAND && to->rank == index->type.rank &&
                  ir_in(op, 0)->type.rank == to->rank &&
                  ir_in(op, 0)->type.dim[0] == to->dim[0];
    if ((!view && !copies) || (view && to->dim[0] != index->type.dim[0]))
      return NULL;
    op = ir_in(op, 0)->def;
  }
  if (op == NULL || op->code != OP_CONCAT ||
      ir_get_int(op, ATTR_CONCAT_axis) != 0 ||
      op->out[0].type.dim[0] != index->type.dim[0])
    return NULL;
  for (unsigned d = 1; d < op->out[0].type.rank; d++)
    if (!rule_is_one(op->out[0].type.dim[d])) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, i));
    if (fact->space == NULL || fact->kind == FACT_TUPLE ||
        fact->linear == NULL || fact->expert < 0 || fact->tag[0] != TAG_ROW ||
        !moe_is_token_number(b->facts, fact))
      return NULL;
  }
  return op;
}

/* Which of the pieces is the layout's. */
static unsigned piece_of(moe_builder_t *b, const moe_layout_t *layout) {
  unsigned i = 0;
  for (; i < layout->space->n_in; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(layout->space, i));
    if (fact->source == layout->source && fact->expert == layout->expert) break;
  }
  MOEC_ASSERT(i < layout->space->n_in);
  return i;
}

const moe_layout_t *moe_rows_of(moe_builder_t *b, const moe_layout_t *layout) {
  if (layout->kind != LAYOUT_PIECE) return layout;
  const ir_value_t *token = ir_in(layout->space, piece_of(b, layout));
  const moe_fact_t *fact = moe_fact(b->facts, (ir_value_t *)token);
  return moe_layout(b, LAYOUT_ROWS, layout->source, fact->space,
                    layout->expert);
}

/* What was joined in the same pieces; a gather of the tokens of all of them. */
moe_term_t *moe_read_pieces(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def, *pieces = layout->space;
  const moe_layout_t *rows = moe_rows_of(b, layout);
  unsigned own = piece_of(b, layout);
  if (op->code == OP_GATHER) {
    if (moe_pieces_of(b, ir_in(op, 1)) != pieces)
      return moe_fail(b, op, "rows are gathered for the token's own experts");
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(pieces, own));
    return moe_read_rows_gather(b, value, tag, rows, fact);
  }
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis < 0) axis += value->type.rank;
  bool fits = tag[axis] == TAG_ROW && op->n_in == pieces->n_in;
  for (unsigned i = 0; fits && i < op->n_in; i++)
    fits = ir_in(op, i)->type.dim[axis] == ir_in(pieces, i)->type.dim[0];
  if (!fits) return moe_fail(b, op, "rows are those of one expert");
  return moe_build(b, ir_in(op, own), tag, rows);
}
