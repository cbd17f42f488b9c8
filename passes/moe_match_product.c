/* Products that sum over experts or slots. */
#include "passes/moe_match.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

/* Both operands at one route, of which one has a single feature. */
static moe_term_t *multiply(moe_builder_t *b, const ir_op_t *op, moe_term_t *x,
                            moe_term_t *y) {
  const expr_t *dim[2];
  unsigned n = 0;
  const expr_t *m = op->out[0].type.dim[op->out[0].type.rank - 2];
  const expr_t *c = op->out[0].type.dim[op->out[0].type.rank - 1];
  bool x_one = rule_is_one(m), y_one = rule_is_one(c);
  if (!x_one && !y_one) return NULL;
  dim[n++] = x_one ? c : m;
  const expr_t *one = expr_const(b->pool, 1);
  moe_term_t *in[2];
  in[0] = moe_term_reshape(b->terms, x, 1, x_one ? &one : dim);
  in[1] = moe_term_reshape(b->terms, y, 1, y_one ? &one : dim);
  const expr_t *all[2] = {m, c};
  moe_term_t *term =
      moe_term_op(b->terms, &(moe_term_t){.code = OP_MUL,
                                          .dtype = op->out[0].type.dtype,
                                          .rank = 1,
                                          .dim = dim,
                                          .n = 2,
                                          .in = in});
  return moe_term_reshape(b->terms, term, 2, all);
}

/* x[tokens.., experts * n] times y[experts * n, m]: the sum over experts of
 * what their rows of y make of x, which is 0 for those that are not a token's.
 */
static moe_found_t *match_blocks(moe_builder_t *b, const ir_op_t *op,
                                 const moe_source_t *source) {
  ir_value_t *x = ir_in(op, 0), *y = ir_in(op, 1);
  ir_value_t *root = (ir_value_t *)&op->out[0];
  const moe_fact_t *gate = moe_fact(b->facts, x);
  unsigned last = x->type.rank - 1;
  uint8_t tag[IR_MAX_RANK] = {TAG_EXPERT | TAG_INNER, TAG_INNER};
  uint8_t root_tag[IR_MAX_RANK];
  if (y->type.rank != 2 || gate->kind != FACT_GATE || gate->source != source ||
      gate->space != NULL || !gate->off.known || gate->off.x != 0 ||
      !moe_is_set(source) || gate->tag[last] != (TAG_EXPERT | TAG_INNER))
    return NULL;
  for (unsigned d = 0; d < last; d++)
    if ((root_tag[d] = gate->tag[d]) != TAG_TOKEN) return NULL;
  root_tag[last] = TAG_INNER;
  const moe_layout_t *layout = moe_layout(b, LAYOUT_STACK, source, NULL, -1);
  moe_term_t *vector = moe_build(b, x, gate->tag, layout);
  moe_term_t *matrix = vector != NULL ? moe_build(b, y, tag, layout) : NULL;
  if (matrix == NULL) return NULL;
  moe_term_t *term = moe_read_product(b, root, root_tag, vector, matrix);
  moe_found_t *found =
      moe_new_found(b, root, root_tag, source, term, moe_form_of(layout), NULL);
  if (found != NULL) found->unique = !source->distinct;
  return found;
}

/* Tags of an operand of a product of this rank: tokens in front of its matrix.
 * A single token need not be there. */
static bool operand_tags(moe_builder_t *b, const ir_type_t *type, unsigned rank,
                         const moe_source_t *source, uint8_t *tag) {
  if (type->rank == rank)
    return moe_route_tags(b, type, source, rank - 2, tag) != 0;
  for (unsigned d = 0; d < type->rank; d++) tag[d] = TAG_INNER;
  return rule_is_one(source->tokens) && type->rank >= 2 && type->rank < rank;
}

moe_found_t *moe_match_product(moe_builder_t *b, const ir_op_t *op,
                               const moe_source_t *source) {
  moe_found_t *blocks = match_blocks(b, op, source);
  if (blocks != NULL) return blocks;
  ir_value_t *x = ir_in(op, 0), *y = ir_in(op, 1);
  ir_value_t *root = (ir_value_t *)&op->out[0];
  unsigned rank = root->type.rank;
  if (rank < 3) return NULL;
  uint8_t tag[2][IR_MAX_RANK], root_tag[IR_MAX_RANK];
  if (!operand_tags(b, &x->type, rank, source, tag[0]) ||
      !operand_tags(b, &y->type, rank, source, tag[1]))
    return NULL;
  const unsigned summed[2] = {x->type.rank - 1, y->type.rank - 2};
  const expr_t *over = x->type.dim[summed[0]];
  bool slots = over == source->k &&
               (moe_is_routed(b, x, source) || moe_is_routed(b, y, source));
  const moe_fact_t *gate[2] = {moe_fact(b->facts, x), moe_fact(b->facts, y)};
  bool experts = false;
  for (unsigned i = 0; i < 2; i++)
    experts =
        experts ||
        (gate[i]->kind == FACT_GATE && gate[i]->source == source &&
         gate[i]->places == NULL && gate[i]->off.known && gate[i]->off.x == 0 &&
         moe_is_set(source) && gate[i]->tag[summed[i]] == TAG_EXPERT);
  if (!slots && !experts) return NULL;
  tag[0][summed[0]] = tag[1][summed[1]] = experts ? TAG_EXPERT : TAG_SLOT;
  const moe_layout_t *layout =
      moe_layout(b, experts ? LAYOUT_STACK : LAYOUT_ROUTES, source, NULL, -1);
  moe_term_t *side[2] = {moe_build(b, x, tag[0], layout), NULL};
  if (side[0] != NULL) side[1] = moe_build(b, y, tag[1], layout);
  if (side[1] == NULL) return NULL;
  moe_term_t *term = multiply(b, op, side[0], side[1]);
  moe_route_tags(b, &root->type, source, rank - 2, root_tag);
  moe_form_t form = experts ? moe_form_of(layout) : moe_form_of_rows(b);
  moe_found_t *found =
      moe_new_found(b, root, root_tag, source, term, form, NULL);
  if (found != NULL) found->unique = experts && !source->distinct;
  return found;
}
