/* Reading gathers of tokens, routes and experts. */
#include "passes/moe_picks.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"
#include "passes/moe_table.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE };

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
  if (!rule_is_one(source->k) || source->chooses || expert < 0) return value;
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
  const unsigned routes = rule_is_one(fact->source->k) ? TAG_TOKEN
                          : rule_is_one(fact->source->tokens)
                              ? TAG_SLOT
                              : TAG_TOKEN | TAG_SLOT | TAG_TURNED;
  for (unsigned d = 0; d < index->rank; d++)
    if (!rule_is_one(index->dim[d]) &&
        (at[d] & routes) != (fact->tag[d] & routes))
      return false;
  return true;
}

/* What a row's expert has for its token, of all experts and tokens: numbers are
 * there before, whatever they are. */
static moe_term_t *pair_term(moe_builder_t *b, ir_value_t *x,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const moe_fact_t *gate = moe_fact(b->facts, x);
  bool numbers = gate->kind != FACT_GATE || gate->source != layout->source;
  for (unsigned d = 0; d < x->type.rank; d++)
    if ((tag[d] & TAG_INNER) != 0 && !rule_is_one(x->type.dim[d]))
      numbers = false;
  if (numbers && moe_visible(b, x) && !moe_is_routed(b, x, layout->source))
    return moe_term_leaf(b->terms, TERM_GATE, x, tag);
  return moe_build(b, x, tag,
                   moe_layout(b, LAYOUT_STACK, layout->source, NULL, -1));
}

/* Of what all experts made of the only token, what its own ones made: the index
 * is that of all rows, as there is one. NULL: it is something else. */
static moe_term_t *of_only_row(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout,
                               const moe_fact_t *fact) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0);
  const ir_type_t *index = &ir_in(op, 1)->type;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  unsigned steps = 256;
  uint8_t stack[IR_MAX_RANK];
  if (axis < 0) axis += x->type.rank;
  if (!rule_is_one(layout->source->tokens) || layout->kind != LAYOUT_ROUTES ||
      !moe_names_own_experts(fact, layout) ||
      !expr_equals_const(x->type.dim[axis], layout->source->experts) ||
      !moe_depends_on_data(x, &steps))
    return NULL;
  for (unsigned d = 0; d < value->type.rank; d++) {
    bool slot = d >= axis && d < axis + index->rank;
    unsigned rest = slot ? TAG_SLOT | TAG_TOKEN : TAG_TOKEN | TAG_INNER;
    bool one = rule_is_one(value->type.dim[d]);
    if (!one && (tag[d] & ~rest & ~(unsigned)TAG_TURNED) != 0) return NULL;
    if (!one && slot && (tag[d] & TAG_SLOT) == 0) return NULL;
    if (d < axis) stack[d] = tag[d];
    if (d >= axis + index->rank) stack[d + 1 - index->rank] = tag[d];
  }
  stack[axis] = TAG_EXPERT;
  moe_term_t *term = moe_build(
      b, x, stack, moe_layout(b, LAYOUT_STACK, layout->source, NULL, -1));
  return term != NULL ? moe_with_features(b, value, tag, term) : NULL;
}

static moe_term_t *gather_by(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout,
                             const moe_fact_t *fact) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0), *index = ir_in(op, 1);
  uint8_t from[IR_MAX_RANK], at[IR_MAX_RANK];
  moe_term_t *term = of_only_row(b, value, tag, layout, fact);
  if (term != NULL || b->obligation != NULL) return term;
  bool by_token = moe_is_token_number(b->facts, fact);
  unsigned by_route = by_token ? 0 : moe_route_tag(b->facts, fact);
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
  } else if (in_space && moe_is_pair(b->facts, fact)) {
    if (!gathered_tags(op, tag, TAG_EXPERT | TAG_TOKEN, from, at) ||
        layout->kind != LAYOUT_SORTED)
      return NULL;
    term = pair_term(b, x, from, layout);
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
  } else if (by_route != 0 && in_space) {
    if (!gathered_tags(op, tag, by_route, from, at)) return NULL;
    if (x->type.dim[moe_tag_find(x->type.rank, from, TAG_SLOT)] !=
        layout->source->routes)
      return NULL;
    term = moe_build(b, x, from,
                     moe_layout(b, LAYOUT_ROUTES, layout->source, NULL, -1));
  } else if (fact->kind == FACT_CHOICE && layout->kind == LAYOUT_BUFFER &&
             fact->source == layout->source && fact->expert == layout->expert) {
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

const moe_layout_t *moe_sorted_rows(moe_builder_t *b,
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
      return moe_read_rows_gather(b, value, tag, moe_sorted_rows(b, layout),
                                  group);
    if (moe_are_own_rows(b->facts, ir_in(op, 1), layout) &&
        gathered_tags(op, tag, TAG_ROW, from, at))
      term = moe_build(b, ir_in(op, 0), from, moe_sorted_rows(b, layout));
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
                       const moe_fact_t *fact, unsigned n, unsigned tags,
                       uint8_t *tag) {
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
    if ((seen & TAG_SLOT) != 0 || (tag[i] & seen & TAG_EXPERT) != 0)
      return false;
    seen |= tag[i];
  }
  return (seen & ~tags) == 0;
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
  int64_t expert;
  if (layout->kind == LAYOUT_GROUP) {
    fact = moe_group_of(b->facts, index, &expert);
    if (fact->kind == FACT_TUPLE && expert == layout->expert)
      layout = moe_sorted_rows(b, layout);
  }
  bool sorted = layout->kind == LAYOUT_SORTED;
  unsigned named = TAG_TOKEN | TAG_SLOT | (sorted ? TAG_EXPERT : 0);
  if ((layout->kind != LAYOUT_ROWS && !sorted) || fact->kind != FACT_TUPLE ||
      !moe_same_rows(fact->space, layout->space) ||
      !expr_is_const(index->type.dim[1], &n) ||
      !tuple_tags(b, x, fact, (unsigned)n, named, from))
    return moe_fail(b, op, why);
  for (unsigned d = (unsigned)n; d < x->type.rank; d++) {
    from[d] = tag[1 + d - (unsigned)n];
    if ((from[d] & ROWS) != 0) return moe_fail(b, op, why);
  }
  unsigned tags = moe_tag_union(x->type.rank, from);
  moe_term_t *term =
      (tags & TAG_EXPERT) != 0
          ? pair_term(b, x, from, layout)
          : moe_term_leaf(b->terms,
                          (tags & TAG_SLOT) != 0 ? TERM_ROUTE : TERM_TOKEN, x,
                          from);
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
