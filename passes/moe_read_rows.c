/* Reading operations that lay rows out anew: gathers of tokens, routes and
 * experts, parts for single experts and their joining, ways back to the order
 * of routes. */
#include <string.h>

#include "passes/moe_picks.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE, ROUTED_MEMOS = 32 };

/* ---- What depends on the router ------------------------------------------ */

static bool mentions_count(moe_builder_t *b, const expr_t *e,
                           const moe_source_t *source, unsigned depth,
                           unsigned *steps) {
  if (depth > 16 || *steps == 0) return false;
  --*steps;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind != EXPR_ATOM_SYMBOL) {
        if (mentions_count(b, atom->a, source, depth + 1, steps)) return true;
        if (atom->b != NULL &&
            mentions_count(b, atom->b, source, depth + 1, steps))
          return true;
        continue;
      }
      if (moe_fact_of_symbol(b->facts, atom->symbol)->source == source)
        return true;
      int64_t index;
      const ir_value_t *from = moe_bound_value(b->facts, atom->symbol, &index);
      if (from != NULL && from->content != NULL && from->content[index] != e &&
          mentions_count(b, from->content[index], source, depth + 1, steps))
        return true;
    }
  return false;
}

/* Takes something by the row's expert, or joins what single experts made. */
static bool starts_route(moe_builder_t *b, const ir_op_t *op,
                         const moe_source_t *source) {
  if (op->code == OP_GATHER || op->code == OP_GATHER_ND ||
      op->code == OP_GATHER_ELEMENTS) {
    const ir_value_t *index = ir_in(op, 1);
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    const ir_value_t *value = &op->out[0];
    if (moe_fact(b->facts, (ir_value_t *)value)->kind == FACT_GATE)
      return false; /* whose experts a token has, as rows of a unit matrix */
    moe_pick_t pick;
    if (fact->kind == FACT_NONE && moe_pick_of(b->facts, op, &pick))
      return pick.fact->source == source;
    bool features = op->code != OP_GATHER_ELEMENTS;
    for (unsigned d = 0; d < index->type.rank && !features; d++)
      features = fact->tag[d] == TAG_INNER && !rule_is_one(index->type.dim[d]);
    return features && fact->source == source &&
           (fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL ||
            fact->kind == FACT_PLACE || fact->kind == FACT_BUFFER ||
            fact->kind == FACT_CHOICE);
  }
  if (op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    return (fact->source == source ||
            moe_part_index(source, fact->source) >= 0) &&
           fact->linear != NULL && fact->expert >= 0;
  }
  if (ir_has_trait(op, ELEMENTWISE) || op->code == OP_REDUCE_SUM)
    return moe_is_member(b, &op->out[0], source);
  if (op->code != OP_CONCAT) return false;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  unsigned steps = 1000;
  return mentions_count(b, ir_in(op, 0)->type.dim[axis], source, 0, &steps);
}

/* What is known of the latest routers that were asked for. */
typedef struct routed_memo {
  const moe_source_t *source[ROUTED_MEMOS];
  signed char *known[ROUTED_MEMOS]; /* by number: 0 not asked, 1 yes, -1 no */
  unsigned latest;
} routed_memo_t;

static signed char *routed_of(moe_builder_t *b, const moe_source_t *source) {
  if (b->routed == NULL) b->routed = ARENA_NEW(b->arena, routed_memo_t);
  routed_memo_t *memo = b->routed;
  const unsigned n_values = b->facts->n_values;
  for (unsigned i = 0; i < ROUTED_MEMOS; i++)
    if (memo->source[i] == source) return memo->known[i];
  unsigned at = memo->latest = (memo->latest + 1) % ROUTED_MEMOS;
  memo->source[at] = source;
  if (memo->known[at] == NULL)
    memo->known[at] = ARENA_ARRAY(b->arena, signed char, n_values + 1);
  else
    memset(memo->known[at], 0, n_values + 1);
  return memo->known[at];
}

void moe_forget_routed(moe_builder_t *b, const moe_source_t *source) {
  for (unsigned i = 0; b->routed != NULL && i < ROUTED_MEMOS; i++)
    if (b->routed->source[i] == source) b->routed->source[i] = NULL;
}

static bool is_routed(moe_builder_t *b, const ir_value_t *value,
                      const moe_source_t *source, signed char *known,
                      unsigned depth) {
  const ir_op_t *op = value->def;
  if (op == NULL || op->n_regions > 0 || value->number >= b->facts->n_values ||
      value->number <= source->index->number) /* in front of the router */
    return false;
  if (b->settled != NULL && b->settled[value->number]) return false;
  signed char *slot = &known[value->number];
  if (*slot != 0) return *slot > 0;
  if (depth > 2000) return false;
  *slot = -1;
  bool routed = starts_route(b, op, source);
  for (unsigned i = 0; i < op->n_in && !routed; i++)
    if (op->in[i].value != NULL)
      routed = is_routed(b, op->in[i].value, source, known, depth + 1);
  *slot = routed ? 1 : -1;
  return routed;
}

bool moe_is_routed(moe_builder_t *b, const ir_value_t *value,
                   const moe_source_t *source) {
  return is_routed(b, value, source, routed_of(b, source), 0);
}

const moe_fact_t *moe_slot_of(moe_builder_t *b, const ir_value_t *value,
                              unsigned *steps) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL || op->n_regions > 0 || *steps == 0 ||
      (b->settled != NULL && b->settled[value->number]))
    return &moe_no_fact;
  --*steps;
  const moe_fact_t *slot = moe_member_slot(b, value);
  if (slot->kind != FACT_NONE) return slot;
  if (op->code == OP_GATHER || op->code == OP_GATHER_ELEMENTS) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    if ((fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL) &&
        fact->slot >= 0)
      return fact;
  }
  moe_pick_t pick;
  if (op->code == OP_GATHER || op->code == OP_GATHER_ND) {
    bool batched = op->code == OP_GATHER_ND &&
                   ir_get_int(op, ATTR_GATHER_ND_batch_dims) > 0;
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    if (batched && fact->kind == FACT_EXPERT && fact->slot >= 0) return fact;
    if (moe_pick_of(b->facts, op, &pick) && pick.fact->slot >= 0)
      return pick.fact;
  }
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_slot_of(b, op->in[i].value, steps);
    if (fact->kind != FACT_NONE) return fact;
  }
  return &moe_no_fact;
}

/* ---- Products ------------------------------------------------------------ */

/* Rows in front of one vector each times a matrix: the form that all products
 * of single rows take. x[K] times y[K, N]. */
static moe_term_t *row_product(moe_builder_t *b, const ir_op_t *op,
                               moe_term_t *x, moe_term_t *y, unsigned rank,
                               const expr_t *const *dim) {
  const expr_t *k = y->dim[0], *n = y->dim[1];
  x = moe_term_reshape(b->terms, x, 1, &k);
  moe_term_t *in[2] = {x, y};
  moe_term_t *product =
      moe_term_op(b->terms, &(moe_term_t){.code = OP_MATMUL,
                                          .model = op,
                                          .dtype = op->out[0].type.dtype,
                                          .rank = 1,
                                          .dim = &n,
                                          .n = 2,
                                          .in = in});
  return moe_term_reshape(b->terms, product, rank, dim);
}

static moe_term_t *transposed(moe_builder_t *b, moe_term_t *x) {
  const expr_t *dim[2] = {x->dim[1], x->dim[0]};
  const expr_t *perm[2] = {expr_const(b->pool, 1), expr_const(b->pool, 0)};
  if (x->kind == TERM_OP && x->code == OP_TRANSPOSE && x->rank == 2)
    return x->in[0];
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_TRANSPOSE,
                                             .dtype = x->dtype,
                                             .rank = 2,
                                             .dim = dim,
                                             .n = 1,
                                             .in = &x,
                                             .n_exprs = 2,
                                             .exprs = perm});
}

/* A matrix without rows; dimensions of 1 in front of it are dropped. */
static moe_term_t *as_matrix(moe_builder_t *b, moe_term_t *x) {
  if (x->rows || x->rank < 2) return NULL;
  for (unsigned d = 0; d + 2 < x->rank; d++)
    if (!rule_is_one(x->dim[d])) return NULL;
  return moe_term_reshape(b->terms, x, 2, x->dim + x->rank - 2);
}

/* x has rows; all of its features are one vector of length k. */
static bool is_vector(const moe_term_t *x, const expr_t *k) {
  bool found = false;
  for (unsigned d = 0; d < x->rank; d++) {
    if (rule_is_one(x->dim[d]) && (found || x->dim[d] != k)) continue;
    if (found || x->dim[d] != k) return false;
    found = true;
  }
  return found || rule_is_one(k);
}

moe_term_t *moe_read_product(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, moe_term_t *x, moe_term_t *y) {
  const ir_op_t *op = value->def;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  moe_term_t *matrix = as_matrix(b, y);
  if (x->rows && matrix != NULL && is_vector(x, matrix->dim[0]))
    return row_product(b, op, x, matrix, rank, dim);
  matrix = as_matrix(b, x);
  if (y->rows && matrix != NULL && is_vector(y, matrix->dim[1]))
    return row_product(b, op, y, transposed(b, matrix), rank, dim);
  if (!moe_product_fits(x, y, rank, dim))
    return moe_fail(b, op, "the product's rows are those of the tokens");
  moe_term_t *in[2] = {x, y};
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_MATMUL,
                                             .model = op,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = 2,
                                             .in = in});
}

moe_term_t *moe_read_matmul(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  uint8_t side_tag[2][IR_MAX_RANK];
  moe_term_t *side[2];
  if (layout->kind == LAYOUT_PLACES)
    return moe_read_gate_product(b, value, tag, layout);
  if (layout->kind == LAYOUT_BUFFER) {
    moe_term_t *term = moe_read_dispatch(b, value, tag, layout);
    if (term != NULL || b->obligation != NULL) return term;
  }
  for (unsigned i = 0; i < 2; i++) {
    const ir_type_t *type = &ir_in(op, i)->type;
    unsigned shift = value->type.rank - type->rank;
    for (unsigned d = 0; d < type->rank; d++) {
      unsigned t = tag[shift + d];
      if (d + 2 < type->rank) {
        bool same = type->dim[d] == value->type.dim[shift + d];
        if (!same) t = (t & TAG_INNER) != 0 ? TAG_INNER : TAG_GONE;
      } else if ((d + 1 == type->rank) == (i == 0)) {
        t = TAG_INNER; /* summed over */
      } else if (t == TAG_EXPERT) {
        return moe_fail(b, op, "experts are a batch of products");
      }
      side_tag[i][d] = (uint8_t)t;
    }
    side[i] = moe_build(b, ir_in(op, i), side_tag[i], layout);
    if (side[i] == NULL) return NULL;
  }
  /* rows may be those of the matrices: vectors, then */
  const expr_t *one = expr_const(b->pool, 1);
  unsigned rank = value->type.rank;
  if ((tag[rank - 2] & ROWS) != 0 && side[0]->rank == 1 && side[1]->rows) {
    const expr_t *dim[2] = {one, side[0]->dim[0]};
    side[0] = moe_term_reshape(b->terms, side[0], 2, dim);
  }
  if ((tag[rank - 1] & ROWS) != 0 && side[1]->rank == 1 && side[0]->rows) {
    const expr_t *dim[2] = {side[1]->dim[0], one};
    side[1] = moe_term_reshape(b->terms, side[1], 2, dim);
  }
  return moe_read_product(b, value, tag, side[0], side[1]);
}

/* ---- Gathers
 * ----------------------------------------------------------------- */

/* Tags of the tensor that is gathered from: those of the result, and `what` at
 * the axis. False where the index's dimensions are not the rows. */
static bool gathered_tags(const ir_op_t *op, const uint8_t *tag, unsigned what,
                          uint8_t *out_tag, uint8_t *index_tag) {
  const ir_type_t *x = &ir_in(op, 0)->type, *index = &ir_in(op, 1)->type;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  if (axis < 0) axis += x->rank;
  for (unsigned d = 0; d < x->rank; d++) {
    unsigned to = d < axis ? d : d + index->rank - 1;
    out_tag[d] = d == axis ? (uint8_t)what : tag[to];
    if (d != axis && (out_tag[d] & ROWS) != 0) return false;
  }
  for (unsigned d = 0; d < index->rank; d++)
    index_tag[d] = tag[(unsigned)axis + d];
  return moe_has_rows(index, index_tag);
}

moe_term_t *moe_with_features(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, moe_term_t *term) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  const expr_t *one = expr_const(b->pool, 1);
  const expr_t *have = one, *want = one;
  for (unsigned d = 0; d < term->rank; d++)
    have = expr_mul(b->pool, have, term->dim[d]);
  for (unsigned d = 0; d < rank; d++) want = expr_mul(b->pool, want, dim[d]);
  return have == want ? moe_term_reshape(b->terms, term, rank, dim) : NULL;
}

ir_value_t *moe_unwritten(moe_builder_t *b, ir_value_t *value,
                          const moe_source_t *source, int64_t expert) {
  enum { MAX_WRITES = 4096 };
  if (!rule_is_one(source->k) || expert < 0) return value;
  for (unsigned i = 0; i < MAX_WRITES && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    if ((op->code != OP_SCATTER_ND && op->code != OP_SCATTER_ELEMENTS) ||
        (op->code == OP_SCATTER_ELEMENTS &&
         ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0) ||
        value->type.dim[0] != source->tokens)
      break;
    const ir_type_t *index = &ir_in(op, 1)->type;
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    bool number = op->code == OP_SCATTER_ELEMENTS ||
                  rule_is_one(index->dim[index->rank - 1]);
    if (fact->source != source || fact->linear == NULL ||
        fact->kind == FACT_TUPLE || fact->expert < 0 ||
        fact->expert == expert || !number ||
        !moe_is_token_number(b->facts, fact))
      break;
    value = ir_in(op, 0);
  }
  return value;
}

/* A tensor of tokens, in a layout of tokens. */
static moe_term_t *token_leaf(moe_builder_t *b, ir_value_t *x,
                              const uint8_t *tag) {
  return moe_term_leaf(b->terms, TERM_TOKEN, x, tag);
}

/* Whether an index that is read as routes has these in the same dimensions. */
static bool index_lies(const ir_type_t *index, const uint8_t *at,
                       const moe_fact_t *fact) {
  const unsigned routes = rule_is_one(fact->source->k)
                              ? TAG_TOKEN
                              : TAG_TOKEN | TAG_SLOT | TAG_TURNED;
  for (unsigned d = 0; d < index->rank; d++)
    if (!rule_is_one(index->dim[d]) &&
        (at[d] & routes) != (fact->tag[d] & routes))
      return false;
  return true;
}

static moe_term_t *gather_by(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout,
                             const moe_fact_t *fact) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0), *index = ir_in(op, 1);
  uint8_t from[IR_MAX_RANK], at[IR_MAX_RANK];
  moe_term_t *term = NULL;
  bool by_token = moe_is_token_number(b->facts, fact);
  bool by_route = !by_token && moe_is_route_number(b->facts, fact);
  bool in_space = fact->source == layout->source &&
                  moe_same_rows(fact->space, layout->space);
  bool routes = layout->kind == LAYOUT_ROUTES;
  if ((fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL) &&
      fact->slot != (layout->kind == LAYOUT_SLOT ? layout->expert : -1))
    return NULL;
  if (routes && moe_is_token_of_route(index, layout->source))
    by_token = in_space = true;
  if (moe_is_index(fact) && in_space) {
    if (!gathered_tags(op, tag, TAG_EXPERT, from, at) ||
        (fact->space == NULL && !index_lies(&index->type, at, fact)))
      return NULL;
    term = moe_build(b, x, from, layout);
  } else if (by_token && in_space) {
    if (!gathered_tags(op, tag, TAG_TOKEN, from, at)) return NULL;
    if (x->type.dim[moe_tag_find(x->type.rank, from, TAG_TOKEN)] !=
        layout->source->tokens)
      return NULL;
    x = moe_unwritten(b, x, layout->source, layout->expert);
    const moe_fact_t *gate = moe_fact(b->facts, x);
    if (gate->kind == FACT_GATE && gate->source == layout->source &&
        gate->expert >= 0 && gate->expert == layout->expert) {
      term = moe_build(
          b, x, from,
          moe_layout(b, LAYOUT_DENSE, layout->source, NULL, layout->expert));
    } else {
      term = rule_is_one(layout->source->k) ? moe_row_leaf(b, x, from)
                                            : token_leaf(b, x, from);
    }
  } else if (by_route && in_space) {
    if (!gathered_tags(op, tag, TAG_TOKEN | TAG_SLOT, from, at)) return NULL;
    if (x->type.dim[moe_tag_find(x->type.rank, from, TAG_SLOT)] !=
        layout->source->routes)
      return NULL;
    term = moe_build(b, x, from,
                     moe_layout(b, LAYOUT_ROUTES, layout->source, NULL, -1));
  } else if (fact->kind == FACT_CHOICE && layout->kind == LAYOUT_BUFFER &&
             fact->source == layout->source) {
    if (!gathered_tags(op, tag, TAG_TOKEN, from, at)) return NULL;
    term = moe_read_chosen(b, op, from, at, fact);
  } else if (fact->kind == FACT_BUFFER && routes &&
             fact->source == layout->source) {
    if (!gathered_tags(op, tag, TAG_EXPERT | TAG_PLACE, from, at)) return NULL;
    term = moe_read_place(b, op, from, layout->source, fact);
  } else if (fact->kind == FACT_PLACE && routes &&
             fact->source == layout->source) {
    if (!gathered_tags(op, tag, TAG_ROW, from, at) ||
        !index_lies(&index->type, at, fact))
      return NULL;
    term = moe_build(
        b, x, from,
        moe_layout(b, LAYOUT_SORTED, layout->source, fact->space, -1));
  }
  return term != NULL ? moe_with_features(b, value, tag, term) : NULL;
}

moe_term_t *moe_read_rows_gather(moe_builder_t *b, ir_value_t *value,
                                 const uint8_t *tag, const moe_layout_t *layout,
                                 const moe_fact_t *fact) {
  moe_term_t *term = gather_by(b, value, tag, layout, fact);
  return term != NULL ? term
                      : moe_fail(b, value->def,
                                 "rows are gathered for the token's own "
                                 "experts");
}

/* Rows of one expert among the sorted ones: start, start + 1, .. */
static bool is_group_index(moe_builder_t *b, ir_value_t *index,
                           const moe_layout_t *layout) {
  const ir_op_t *op = index->def;
  bool starts = layout->expert == 0;
  if (op != NULL && op->code == OP_ADD) {
    for (unsigned i = 0; i < 2; i++) {
      const moe_fact_t *start = moe_fact(b->facts, ir_in(op, i));
      if (start->kind != FACT_BOUND || start->source != layout->source)
        continue;
      starts = start->first == layout->expert;
      op = ir_in(op, 1 - i)->def;
      break;
    }
  }
  return starts && op != NULL && op->code == OP_IOTA && index->type.rank == 1 &&
         moe_is_count(b->facts, layout->source, layout->expert,
                      index->type.dim[0]);
}

static const moe_layout_t *sorted_of(moe_builder_t *b,
                                     const moe_layout_t *group) {
  return moe_layout(b, LAYOUT_SORTED, group->source, group->space, -1);
}

moe_term_t *moe_read_gather(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  uint8_t from[IR_MAX_RANK], at[IR_MAX_RANK];
  moe_term_t *term = NULL;
  if (layout->kind == LAYOUT_GROUP) {
    int64_t expert;
    const moe_fact_t *group = moe_group_of(b->facts, ir_in(op, 1), &expert);
    if (group->kind != FACT_NONE && expert == layout->expert)
      return moe_read_rows_gather(b, value, tag, sorted_of(b, layout), group);
    if (is_group_index(b, ir_in(op, 1), layout) &&
        gathered_tags(op, tag, TAG_ROW, from, at))
      term = moe_build(b, ir_in(op, 0), from, sorted_of(b, layout));
  } else {
    term = moe_read_picked(b, value, tag, layout);
    if (term != NULL || b->obligation != NULL) return term;
    term = gather_by(b, value, tag, layout, moe_fact(b->facts, ir_in(op, 1)));
    if (term == NULL) term = moe_read_take(b, value, tag, layout);
  }
  return term != NULL
             ? term
             : moe_fail(b, op, "rows are gathered for the token's own experts");
}

/* The first dimensions of a tensor that a tuple of coordinates names. */
static bool tuple_tags(moe_builder_t *b, const ir_value_t *x,
                       const moe_fact_t *fact, unsigned n, uint8_t *tag) {
  const ir_value_t *mask = ir_in(fact->space, 0);
  const moe_fact_t *gate = moe_fact(b->facts, ir_in(fact->space, 0));
  const expr_t *one = expr_const(b->pool, 1);
  unsigned seen = 0;
  int last = -1;
  for (unsigned i = 0; i < n; i++) {
    int at = -1;
    tag[i] = TAG_GONE;
    if (rule_is_one(x->type.dim[i])) continue;
    for (unsigned d = 0; d < mask->type.rank; d++) {
      const expr_t *c = fact->linear[i].coefficient[d];
      if (expr_equals_const(c, 0) || rule_is_one(mask->type.dim[d])) continue;
      if (at >= 0 || c != one) return false;
      at = (int)d;
    }
    if (at < 0 || x->type.dim[i] != mask->type.dim[at]) return false;
    tag[i] = gate->tag[at];
    if (tag[i] == TAG_TOKEN && at < last) return false;
    if (tag[i] == TAG_TOKEN) last = at;
    if ((seen & TAG_SLOT) != 0) return false;
    seen |= tag[i];
  }
  return (seen & ~(unsigned)(TAG_TOKEN | TAG_SLOT)) == 0;
}

/* x[batch.., experts, features..] at [batch.., slots.., 1]: of what all experts
 * made of a token, what its own ones made. */
static moe_term_t *read_batched(moe_builder_t *b, ir_value_t *value,
                                const uint8_t *tag,
                                const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0), *index = ir_in(op, 1);
  const moe_fact_t *fact = moe_fact(b->facts, index);
  unsigned batch = (unsigned)ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  unsigned behind = index->type.rank - 1;
  uint8_t stack[IR_MAX_RANK];
  bool fits = moe_names_own_experts(fact, layout) && x->type.rank > batch &&
              rule_is_one(index->type.dim[behind]) &&
              expr_equals_const(x->type.dim[batch], layout->source->experts);
  for (unsigned d = 0; fits && d < value->type.rank; d++) {
    bool slot = d >= batch && d < behind;
    if (d < batch) stack[d] = tag[d];
    if (d >= behind) stack[d - behind + batch + 1] = tag[d];
    fits = slot ? tag[d] == TAG_SLOT || rule_is_one(value->type.dim[d])
                : (tag[d] & TAG_SLOT) == 0;
    /* the index may vary with tokens only */
    if (d < batch && tag[d] == TAG_INNER && fact->tag[d] != TAG_INNER)
      fits = false;
  }
  if (!fits)
    return moe_fail(b, op, "results are taken for the token's own experts");
  stack[batch] = TAG_EXPERT;
  moe_term_t *term = moe_build(
      b, x, stack, moe_layout(b, LAYOUT_STACK, layout->source, NULL, -1));
  return term != NULL ? moe_with_features(b, value, tag, term) : NULL;
}

moe_term_t *moe_read_gather_nd(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  if (ir_get_int(op, ATTR_GATHER_ND_batch_dims) > 0)
    return read_batched(b, value, tag, layout);
  moe_term_t *picked = moe_read_picked(b, value, tag, layout);
  if (picked != NULL || b->obligation != NULL) return picked;
  ir_value_t *x = ir_in(op, 0), *index = ir_in(op, 1);
  const moe_fact_t *fact = moe_fact(b->facts, index);
  int64_t n;
  uint8_t from[IR_MAX_RANK];
  const char *why = "rows are gathered for the token's own experts";
  if (layout->kind != LAYOUT_ROWS || fact->kind != FACT_TUPLE ||
      !moe_same_rows(fact->space, layout->space) ||
      !expr_is_const(index->type.dim[1], &n) ||
      !tuple_tags(b, x, fact, (unsigned)n, from))
    return moe_fail(b, op, why);
  for (unsigned d = (unsigned)n; d < x->type.rank; d++) {
    from[d] = tag[1 + d - (unsigned)n];
    if ((from[d] & ROWS) != 0) return moe_fail(b, op, why);
  }
  unsigned tags = moe_tag_union(x->type.rank, from);
  moe_term_t *term = moe_term_leaf(
      b->terms, (tags & TAG_SLOT) != 0 ? TERM_ROUTE : TERM_TOKEN, x, from);
  if (term != NULL) term = moe_with_features(b, value, tag, term);
  return term != NULL ? term : moe_fail(b, op, why);
}

/* Of what all experts made of a token, what its own ones made. */
moe_term_t *moe_read_gather_elements(moe_builder_t *b, ir_value_t *value,
                                     const uint8_t *tag,
                                     const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  int64_t axis = ir_get_int(op, ATTR_GATHER_ELEMENTS_axis);
  if (axis < 0) axis += value->type.rank;
  uint8_t stack[IR_MAX_RANK];
  if (moe_picks_features(b, op, layout))
    return moe_read_pick(b, value, tag, layout);
  if (!moe_names_own_experts(fact, layout) ||
      !expr_equals_const(x->type.dim[axis], layout->source->experts))
    return moe_fail(b, op, "results are taken for the token's own experts");
  for (unsigned d = 0; d < value->type.rank; d++) {
    bool here = (int64_t)d == axis;
    stack[d] = here ? TAG_EXPERT : tag[d];
    bool fits =
        here ? tag[d] == TAG_SLOT || rule_is_one(value->type.dim[d])
             : x->type.dim[d] == value->type.dim[d] && (tag[d] & TAG_SLOT) == 0;
    /* the index may vary with tokens only */
    bool varies = tag[d] == TAG_INNER && fact->tag[d] != TAG_INNER && !here;
    if (!fits || varies)
      return moe_fail(b, op, "results are taken for the token's own experts");
  }
  moe_term_t *term = moe_build(
      b, x, stack, moe_layout(b, LAYOUT_STACK, layout->source, NULL, -1));
  return term != NULL ? moe_with_features(b, value, tag, term) : NULL;
}

/* ---- Parts and wholes ---------------------------------------------------- */

/* All of the buffers, without rows behind them for what has no place. */
static bool is_all_places(const moe_layout_t *layout, const ir_op_t *op,
                          unsigned tag, const expr_t *start) {
  const ir_op_t *from = ir_in(op, 0)->def;
  return layout->kind == LAYOUT_BUFFER && (tag & TAG_PLACE) != 0 &&
         expr_equals_const(start, 0) && from != NULL &&
         (from->code == OP_SCATTER_ELEMENTS || from->code == OP_SCATTER_ND);
}

/* One expert's buffer of those of all. */
static moe_term_t *read_member_buffer(moe_builder_t *b, const ir_op_t *op,
                                      const uint8_t *tag,
                                      const moe_layout_t *layout) {
  ir_value_t *x = ir_in(op, 0);
  const ir_type_t *to = &op->out[0].type;
  const moe_source_t *source = layout->source;
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  uint8_t from[IR_MAX_RANK];
  int at = -1;
  const expr_t *expert = expr_const(b->pool, layout->expert);
  const expr_t *all = expr_const(b->pool, source->experts);
  for (unsigned d = 0; d < n; d++) {
    from[d] = tag[d];
    if (x->type.dim[d] == to->dim[d]) continue;
    bool one = rule_is_one(to->dim[d]) && x->type.dim[d] == all &&
               start[d] == expert && (tag[d] & ROWS) == 0;
    const expr_t *capacity = *source->capacity;
    bool part = tag[d] == TAG_PLACE && to->dim[d] == capacity &&
                x->type.dim[d] == expr_mul(b->pool, all, capacity) &&
                start[d] == expr_mul(b->pool, expert, capacity);
    if (at >= 0 || (!one && !part)) return NULL;
    at = (int)d;
    from[d] = one ? TAG_EXPERT : TAG_EXPERT | TAG_PLACE;
  }
  if (at < 0) return NULL;
  moe_term_t *term =
      moe_build(b, x, from, moe_layout(b, LAYOUT_BUFFER, source, NULL, -1));
  return term != NULL
             ? moe_with_features(b, (ir_value_t *)&op->out[0], tag, term)
             : NULL;
}

/* All of the sorted rows, though the sizes do not show it. */
static bool is_all_rows(moe_builder_t *b, const moe_layout_t *layout,
                        unsigned tag, const expr_t *start,
                        const expr_t *length) {
  return layout->kind == LAYOUT_SORTED && tag == TAG_ROW &&
         moe_is_start(b->facts, layout->source, 0, start) &&
         moe_is_whole(b->facts, layout->source, length);
}

/* One expert's column of numbers for all experts: at a token's own experts it
 * is what the whole has there. */
static moe_term_t *read_column(moe_builder_t *b, const ir_op_t *op,
                               const uint8_t *tag, const moe_layout_t *layout) {
  ir_value_t *x = ir_in(op, 0);
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  uint8_t stack[IR_MAX_RANK];
  int at = -1;
  if (layout->kind != LAYOUT_DENSE) return NULL;
  for (unsigned d = 0; d < n; d++) {
    bool whole = x->type.dim[d] == op->out[0].type.dim[d];
    stack[d] = tag[d];
    if ((tag[d] & TAG_SLOT) != 0) return NULL;
    if (whole && (tag[d] == TAG_TOKEN || rule_is_one(x->type.dim[d]))) continue;
    if (whole || at >= 0 || tag[d] != TAG_INNER ||
        !expr_equals_const(x->type.dim[d], layout->source->experts) ||
        !expr_equals_const(start[d], layout->expert) ||
        !rule_is_one(op->out[0].type.dim[d]))
      return NULL;
    at = (int)d;
    stack[d] = TAG_EXPERT;
  }
  if (at < 0) return NULL;
  moe_term_t *leaf = moe_term_leaf(b->terms, TERM_GATE, x, stack);
  if (leaf == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &op->out[0].type, tag, dim);
  return moe_term_reshape(b->terms, leaf, rank, dim);
}

moe_term_t *moe_read_slice(moe_builder_t *b, ir_value_t *value,
                           const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0);
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *length = ir_get_exprs(op, ATTR_SLICE_length, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  const moe_layout_t *inner = layout;
  const expr_t *part[3 * IR_MAX_RANK];
  unsigned features = 0;
  bool cuts = false;
  if (layout->kind == LAYOUT_BUFFER && layout->expert >= 0) {
    moe_term_t *own = read_member_buffer(b, op, tag, layout);
    if (own != NULL || b->obligation != NULL) return own;
  }
  for (unsigned d = 0; d < n; d++) {
    bool whole = expr_equals_const(start[d], 0) && length[d] == x->type.dim[d];
    if (tag[d] != TAG_INNER) {
      if (whole && (tag[d] & TAG_INNER) != 0) {
        part[features++] = start[d];
        part[features++] = moe_term_feature(b->terms, length[d], tag[d]);
        part[features++] = step[d];
      }
      if (whole || is_all_rows(b, layout, tag[d], start[d], length[d]) ||
          is_all_places(layout, op, tag[d], start[d]))
        continue;
      if (layout->kind != LAYOUT_GROUP || tag[d] != TAG_ROW ||
          !rule_is_one(step[d]) ||
          !moe_is_start(b->facts, layout->source, layout->expert, start[d]) ||
          !moe_is_count(b->facts, layout->source, layout->expert, length[d]))
        return moe_fail(b, op, "rows are those of one expert");
      inner = sorted_of(b, layout);
      continue;
    }
    cuts = cuts || !whole;
    part[features++] = start[d];
    part[features++] = length[d];
    part[features++] = step[d];
  }
  if (cuts) {
    moe_term_t *column = read_column(b, op, tag, layout);
    if (column != NULL) return column;
  }
  moe_term_t *in = moe_build(b, x, tag, inner);
  if (in == NULL || !cuts) return in;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_SLICE,
                                             .dtype = in->dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = 1,
                                             .in = &in,
                                             .n_exprs = features,
                                             .exprs = part});
}

/* What all experts made of their groups, one behind the other. */
static moe_term_t *join_groups(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (layout->kind != LAYOUT_SORTED ||
      (int64_t)op->n_in != layout->source->experts)
    return moe_fail(b, op, "every expert has its part of the sorted rows");
  moe_term_t **part = ARENA_ARRAY(b->arena, moe_term_t *, op->n_in);
  b->grouped = true;
  for (unsigned e = 0; e < op->n_in; e++) {
    ir_value_t *x = ir_in(op, e);
    if (!moe_is_count(b->facts, layout->source, e, x->type.dim[axis]))
      return moe_fail(b, op, "parts have the sizes of the experts' groups");
    part[e] = moe_build(
        b, x, tag,
        moe_layout(b, LAYOUT_GROUP, layout->source, layout->space, e));
    if (part[e] == NULL) return NULL;
  }
  moe_term_t *term = moe_term_unify(b->terms, op->n_in, part);
  if (term == NULL) term = moe_term_choice(b->terms, op->n_in, part);
  return term != NULL ? term : moe_fail(b, op, "experts give the same type");
}

/* The results of all experts for all tokens, side by side. */
static moe_term_t *join_stack(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  uint8_t part_tag[IR_MAX_RANK];
  const expr_t *size =
      moe_term_feature(b->terms, value->type.dim[axis], tag[axis]);
  bool features = (tag[axis] & TAG_INNER) != 0;
  if (layout->kind != LAYOUT_STACK ||
      (int64_t)op->n_in != layout->source->experts)
    return moe_fail(b, op, "every expert has its place in the stack");
  memcpy(part_tag, tag, value->type.rank);
  part_tag[axis] = features ? TAG_INNER : TAG_GONE;
  moe_term_t **part = ARENA_ARRAY(b->arena, moe_term_t *, op->n_in);
  ir_value_t **values = ARENA_ARRAY(b->arena, ir_value_t *, op->n_in);
  for (unsigned e = 0; e < op->n_in; e++) {
    values[e] = ir_in(op, e);
    const expr_t *own = values[e]->type.dim[axis];
    if (features ? own != size : !rule_is_one(own))
      return moe_fail(b, op, "every expert has one place in the stack");
  }
  const moe_shared_t *shared = b->shared;
  moe_find_shared(b, op->n_in, values, NULL);
  bool known = true;
  for (unsigned e = 0; e < op->n_in && known; e++) {
    part[e] = moe_build(b, values[e], part_tag,
                        moe_layout(b, LAYOUT_DENSE, layout->source, op, e));
    known = part[e] != NULL;
  }
  b->shared = shared;
  if (!known) return NULL;
  moe_term_t *term = moe_term_unify(b->terms, op->n_in, part);
  if (term == NULL) term = moe_term_choice(b->terms, op->n_in, part);
  return term != NULL ? term : moe_fail(b, op, "experts give the same type");
}

/* The buffers of all experts, one behind the other. */
static moe_term_t *join_buffers(moe_builder_t *b, ir_value_t *value,
                                const uint8_t *tag,
                                const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const moe_source_t *source = layout->source;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  uint8_t part_tag[IR_MAX_RANK];
  bool places = tag[axis] == (TAG_EXPERT | TAG_PLACE);
  memcpy(part_tag, tag, value->type.rank);
  part_tag[axis] = places ? TAG_PLACE : TAG_GONE;
  if ((int64_t)op->n_in != source->experts || layout->expert >= 0)
    return moe_fail(b, op, "every expert has its buffer");
  moe_term_t **part = ARENA_ARRAY(b->arena, moe_term_t *, op->n_in);
  for (unsigned e = 0; e < op->n_in; e++) {
    ir_value_t *x = ir_in(op, e);
    const expr_t *size = x->type.dim[axis];
    if (places ? size != *source->capacity : !rule_is_one(size))
      return moe_fail(b, op, "every expert has its buffer");
    part[e] = moe_build(b, x, part_tag,
                        moe_layout(b, LAYOUT_BUFFER, source, NULL, e));
    if (part[e] == NULL) return NULL;
  }
  moe_term_t *term = moe_term_unify(b->terms, op->n_in, part);
  if (term == NULL) term = moe_term_choice(b->terms, op->n_in, part);
  return term != NULL ? term : moe_fail(b, op, "experts give the same type");
}

moe_term_t *moe_read_concat(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis), at = 0;
  if (layout->kind == LAYOUT_BUFFER && (tag[axis] & TAG_EXPERT) != 0)
    return join_buffers(b, value, tag, layout);
  if (tag[axis] == TAG_ROW) return join_groups(b, value, tag, layout);
  if (tag[axis] == TAG_EXPERT || tag[axis] == (TAG_EXPERT | TAG_INNER))
    return join_stack(b, value, tag, layout);
  if (tag[axis] == TAG_SLOT && layout->kind == LAYOUT_ROUTES)
    return moe_read_slots(b, value, tag, layout);
  if (tag[axis] != TAG_INNER)
    return moe_fail(b, op, "rows are not put side by side");
  for (int64_t d = 0; d < axis; d++) at += (tag[d] & TAG_INNER) != 0;
  moe_term_t **in = ARENA_ARRAY(b->arena, moe_term_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    in[i] = moe_build(b, ir_in(op, i), tag, layout);
    if (in[i] == NULL) return NULL;
  }
  const expr_t *dim[IR_MAX_RANK], *along = expr_const(b->pool, at);
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_CONCAT,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = op->n_in,
                                             .in = in,
                                             .n_exprs = 1,
                                             .exprs = &along});
}

/* ---- Ways back ----------------------------------------------------------- */

/* One expert's rows where its mask over routes has them. */
static bool writes_masked(moe_builder_t *b, const ir_op_t *op,
                          const moe_layout_t *layout) {
  const ir_value_t *index = ir_in(op, 1);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  const ir_type_t *to = &op->out[0].type, *rows = &ir_in(op, 2)->type;
  if (fact->source != layout->source || fact->linear == NULL ||
      fact->kind == FACT_TUPLE || fact->expert < 0 ||
      !moe_is_route_number(b->facts, fact) || !rule_scatters_by(op, "none") ||
      rows->rank != to->rank || to->dim[0] != layout->source->routes)
    return false;
  const moe_fact_t *mask = moe_fact(b->facts, ir_in(fact->space, 0));
  if (!mask->on.known || mask->on.x == 0) return false;
  for (unsigned d = 1; d < to->rank; d++)
    if (rows->dim[d] != to->dim[d]) return false;
  if (op->code == OP_SCATTER_ND)
    return index->type.rank == 2 && rule_is_one(index->type.dim[1]);
  return ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) == 0 &&
         fact->tag[0] == TAG_ROW;
}

/* All routes, written by one expert after the other. */
static moe_term_t *join_masked(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def, *last = op;
  unsigned n = (unsigned)layout->source->experts;
  moe_term_t **part = ARENA_ARRAY(b->arena, moe_term_t *, n);
  uint8_t rows[IR_MAX_RANK];
  memcpy(rows, tag, value->type.rank);
  rows[0] = TAG_ROW;
  for (unsigned i = 0; i < n; i++) {
    bool scatters = op != NULL && (op->code == OP_SCATTER_ND ||
                                   op->code == OP_SCATTER_ELEMENTS);
    if (!scatters || !writes_masked(b, op, layout))
      return moe_fail(b, last, "every expert writes the rows of its routes");
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    if (part[fact->expert] != NULL)
      return moe_fail(b, op, "an expert writes its rows once");
    part[fact->expert] = moe_build(
        b, ir_in(op, 2), rows,
        moe_layout(b, LAYOUT_ROWS, layout->source, fact->space, fact->expert));
    if (part[fact->expert] == NULL) return NULL;
    last = op;
    op = ir_in(op, 0)->def;
  }
  moe_term_t *term = moe_term_unify(b->terms, n, part);
  if (term == NULL) term = moe_term_choice(b->terms, n, part);
  return term != NULL ? term : moe_fail(b, last, "experts give the same type");
}

/* Sorted rows written where their routes are. */
moe_term_t *moe_read_scatter(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const char *why = "results go back to where their routes are";
  if (layout->kind == LAYOUT_BUFFER)
    return moe_read_filled(b, value, tag, layout);
  ir_value_t *rows = ir_in(op, 2);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  if (op->code == OP_SCATTER_ELEMENTS && moe_picks_features(b, op, layout))
    return moe_read_pick(b, value, tag, layout);
  if (layout->kind == LAYOUT_ROUTES && fact->linear != NULL &&
      value->type.rank > 0 && (tag[0] & TAG_TOKEN) != 0)
    return join_masked(b, value, tag, layout);
  if (layout->kind != LAYOUT_ROUTES || fact->kind != FACT_ROUTE ||
      fact->linear != NULL || fact->space == NULL ||
      fact->source != layout->source || value->type.rank == 0 ||
      (tag[0] & TAG_TOKEN) == 0 ||
      value->type.dim[0] != layout->source->routes ||
      rows->type.rank != value->type.rank ||
      (op->code == OP_SCATTER_ELEMENTS &&
       ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0))
    return moe_fail(b, op, why);
  uint8_t sorted_tag[IR_MAX_RANK];
  for (unsigned d = 0; d < value->type.rank; d++) {
    sorted_tag[d] = d == 0 ? TAG_ROW : tag[d];
    if (d > 0 && rows->type.dim[d] != value->type.dim[d])
      return moe_fail(b, op, why);
  }
  double zero;
  bool replaces = rule_scatters_by(op, "none");
  bool adds = rule_scatters_by(op, "add") &&
              rule_splat_float(ir_in(op, 0), &zero) && zero == 0;
  if (!replaces && !adds) return moe_fail(b, op, why);
  return moe_build(
      b, rows, sorted_tag,
      moe_layout(b, LAYOUT_SORTED, layout->source, fact->space, -1));
}

/* A branch that is taken when any token chose the expert. */
moe_term_t *moe_read_if(moe_builder_t *b, ir_value_t *value, const uint8_t *tag,
                        const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = moe_fact(b->facts, value);
  bool of_expert = layout->kind == LAYOUT_DENSE && fact->kind == FACT_GATE &&
                   fact->source == layout->source &&
                   fact->expert == layout->expert;
  for (unsigned r = 0; of_expert && r < 2; r++)
    if (moe_is_any(b, ir_in(op, 0), layout, r == 1))
      return moe_build(b, ir_in(op->regions[r].last, value->index), tag,
                       layout);
  return moe_fail(b, op, "the branch is taken when a token chose the expert");
}
