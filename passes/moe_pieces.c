/* Rows of several masks, one behind the other.
 *
 * Results of all experts may be joined first, and so may the numbers of their
 * tokens; one scatter adds them then. What is computed in between is read for
 * each expert alone: of what was joined, its own piece. Where each token has
 * one expert, rows may also be written, or put in the order of their tokens. */
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

/* Whether a type tells the numbers of rows apart. */
static bool counts_rows(dtype_t dtype) {
  enum { ENOUGH = 32 };
  return (dtype_is_integer(dtype) || dtype_is_float(dtype)) &&
         dtype_bits(dtype) >= ENOUGH;
}

const ir_op_t *moe_pieces_of(moe_builder_t *b, const ir_value_t *index) {
  enum { MAX_STEPS = 6 };
  const ir_op_t *op = index->def;
  for (unsigned i = 0; op != NULL && i < MAX_STEPS; i++) {
    if (op->code == OP_CONCAT) break;
    const ir_type_t *to = &op->out[0].type;
    bool view = (op->code == OP_CAST && counts_rows(to->dtype)) ||
                op->code == OP_RESHAPE;
    /* one number for all features of a row */
    bool copies = op->code == OP_EXPAND && to->rank == index->type.rank &&
                  ir_in(op, 0)->type.rank == to->rank &&
                  ir_in(op, 0)->type.dim[0] == to->dim[0];
    if ((!view && !copies) || (view && to->dim[0] != index->type.dim[0]))
      return NULL;
    op = ir_in(op, 0)->def;
  }
  if (op == NULL || op->code != OP_CONCAT ||
      ir_get_int(op, ATTR_CONCAT_axis) != 0)
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
  const expr_t *size = op->out[0].type.dim[0], *rows = index->type.dim[0];
  if (size == rows) return op;
  const moe_fact_t *first = moe_fact(b->facts, ir_in(op, 0));
  return moe_are_equal(b->facts, first->source, -1, size, rows) ? op : NULL;
}

bool moe_pieces_are_apart(moe_builder_t *b, const ir_op_t *pieces) {
  const moe_source_t *source = moe_fact(b->facts, ir_in(pieces, 0))->source;
  bool *seen = ARENA_ARRAY(b->arena, bool, (size_t)source->experts);
  if (!source->distinct || !rule_is_one(source->k)) return false;
  for (unsigned i = 0; i < pieces->n_in; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(pieces, i));
    if (fact->source != source || seen[fact->expert]) return false;
    seen[fact->expert] = true;
  }
  return true;
}

/* Whether every token is in one of the pieces. */
static bool are_all_pieces(moe_builder_t *b, const ir_op_t *pieces) {
  const moe_source_t *source = moe_fact(b->facts, ir_in(pieces, 0))->source;
  if (!moe_pieces_are_apart(b, pieces) || source->some || source->by_mask ||
      (int64_t)pieces->n_in != source->experts)
    return false;
  for (unsigned i = 0; i < pieces->n_in; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(pieces, i));
    const moe_fact_t *mask = moe_fact(b->facts, ir_in(fact->space, 0));
    if (mask->kind != FACT_GATE || !mask->on.known || mask->on.x == 0)
      return false;
  }
  return true;
}

/* What all rows are sorted by, ascending; NULL: they are not. */
static ir_value_t *sorted_by(const ir_value_t *index) {
  const ir_op_t *op = index->def;
  ir_value_t *place = ir_in(op, 0);
  bool down = ir_get_int(op, ATTR_TOPK_largest) != 0;
  if (index->index != 1 || index->type.rank != 1 ||
      ir_get_int(op, ATTR_TOPK_sorted) == 0 ||
      place->type.dim[0] != index->type.dim[0])
    return NULL;
  if (!down) return place;
  return place->def != NULL && place->def->code == OP_NEG ? ir_in(place->def, 0)
                                                          : NULL;
}

/* What an index of rows is the inverse of, if that has each number once: a
 * sorting of it, or counting numbers written to its places. NULL: it is none.
 */
static ir_value_t *inverse_of(const ir_value_t *index) {
  const ir_op_t *op = index->def;
  while (op != NULL && (op->code == OP_CAST || op->code == OP_RESHAPE) &&
         counts_rows(ir_in(op, 0)->type.dtype)) {
    index = ir_in(op, 0);
    op = index->def;
  }
  if (op == NULL || index->type.rank == 0) return NULL;
  if (op->code == OP_TOPK) return sorted_by(index);
  bool scatters = op->code == OP_SCATTER_ELEMENTS || op->code == OP_SCATTER_ND;
  if (!scatters || index->type.rank != 1 || !rule_scatters_by(op, "none") ||
      !counts_rows(index->type.dtype) ||
      ir_in(op, 2)->type.dim[0] != index->type.dim[0] ||
      !rule_counts_along(ir_in(op, 2), 0))
    return NULL;
  return ir_in(op, 1);
}

bool moe_may_put_back(const ir_op_t *op) {
  return op->code == OP_GATHER && ir_get_int(op, ATTR_GATHER_axis) == 0 &&
         ir_in(op, 1)->type.rank == 1 && inverse_of(ir_in(op, 1)) != NULL;
}

const ir_op_t *moe_pieces_put_back(moe_builder_t *b, const ir_op_t *op) {
  if (!moe_may_put_back(op)) return NULL;
  const ir_value_t *index = ir_in(op, 1);
  const ir_type_t *rows = &ir_in(op, 0)->type;
  if (index->type.dim[0] != rows->dim[0]) return NULL;
  const ir_op_t *pieces = moe_pieces_of(b, inverse_of(index));
  if (pieces == NULL || !are_all_pieces(b, pieces)) return NULL;
  const moe_source_t *source = moe_fact(b->facts, ir_in(pieces, 0))->source;
  return rows->dim[0] == source->tokens ? pieces : NULL;
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
