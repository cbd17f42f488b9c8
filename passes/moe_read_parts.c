/* Reading parts for single experts and their joining, and ways back to the
 * order of routes. */
#include <string.h>

#include "passes/moe_picks.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE };

/* ---- Parts and wholes ---------------------------------------------------- */

/* All of the buffers, without rows behind them for what has no place. */
static bool is_all_places(const moe_layout_t *layout, const ir_op_t *op,
                          unsigned tag, const expr_t *start) {
  const ir_op_t *from = ir_in(op, 0)->def;
  return layout->kind == LAYOUT_BUFFER && (tag & TAG_PLACE) != 0 &&
         expr_equals_const(start, 0) && from != NULL &&
         (from->code == OP_SCATTER_ELEMENTS || from->code == OP_SCATTER_ND ||
          from->code == OP_ADD);
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
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  uint8_t from[IR_MAX_RANK];
  int at = -1;
  const expr_t *expert = expr_const(b->pool, layout->expert);
  const expr_t *all = expr_const(b->pool, source->experts);
  for (unsigned d = 0; d < n; d++) {
    from[d] = tag[d];
    if (rule_slices_all(op, d)) continue;
    bool one = rule_is_one(to->dim[d]) && x->type.dim[d] == all &&
               start[d] == expert && (tag[d] & ROWS) == 0;
    const expr_t *capacity = *source->capacity;
    bool part = tag[d] == TAG_PLACE && to->dim[d] == capacity &&
                rule_is_one(step[d]) &&
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
    bool whole = rule_slices_all(op, d);
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
      bool all = is_all_rows(b, layout, tag[d], start[d], length[d]) ||
                 is_all_places(layout, op, tag[d], start[d]);
      if (whole || (all && rule_is_one(step[d]))) continue;
      if (layout->kind != LAYOUT_GROUP || tag[d] != TAG_ROW ||
          !rule_is_one(step[d]) ||
          !moe_is_start(b->facts, layout->source, layout->expert, start[d]) ||
          !moe_is_count(b->facts, layout->source, layout->expert, length[d]))
        return moe_fail(b, op, "rows are those of one expert");
      inner = moe_sorted_rows(b, layout);
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
    part[e] = moe_build(b, x, tag, moe_group_layout(b, layout, e));
    if (part[e] == NULL) return NULL;
  }
  moe_term_t *term = moe_term_unify(b->terms, op->n_in, part);
  if (term == NULL) term = moe_term_choice(b->terms, op->n_in, part);
  return term != NULL ? term : moe_fail(b, op, "experts give the same type");
}

moe_term_t *moe_read_parts(moe_builder_t *b, const ir_op_t *op,
                           const uint8_t *tag, const moe_layout_t *layout) {
  moe_term_t **part = ARENA_ARRAY(b->arena, moe_term_t *, op->n_in);
  ir_value_t **values = ARENA_ARRAY(b->arena, ir_value_t *, op->n_in);
  for (unsigned e = 0; e < op->n_in; e++) values[e] = ir_in(op, e);
  const moe_shared_t *shared = b->shared;
  moe_find_shared(b, op->n_in, values, NULL);
  bool known = true;
  for (unsigned e = 0; e < op->n_in && known; e++) {
    part[e] = moe_build(b, values[e], tag,
                        moe_layout(b, LAYOUT_DENSE, layout->source, op, e));
    known = part[e] != NULL;
  }
  b->shared = shared;
  if (!known) return NULL;
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
  for (unsigned e = 0; e < op->n_in; e++) {
    const expr_t *own = ir_in(op, e)->type.dim[axis];
    if (features ? own != size : !rule_is_one(own))
      return moe_fail(b, op, "every expert has one place in the stack");
  }
  return moe_read_parts(b, op, part_tag, layout);
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

/* Rows that are written to, or added to, those of the routes, one by one. */
static bool writes_rows(const ir_op_t *op, const moe_source_t *source) {
  const ir_value_t *index = ir_in(op, 1);
  const ir_type_t *to = &op->out[0].type, *rows = &ir_in(op, 2)->type;
  if (rows->rank != to->rank || to->dim[0] != source->routes ||
      (!rule_scatters_by(op, "none") && !rule_scatters_by(op, "add")))
    return false;
  for (unsigned d = 1; d < to->rank; d++)
    if (rows->dim[d] != to->dim[d]) return false;
  return op->code == OP_SCATTER_ND
             ? index->type.rank == 2 && rule_is_one(index->type.dim[1])
             : ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) == 0;
}

/* Whether routes that are numbered so have the order of a dimension. */
static bool lies_as(unsigned numbered, unsigned tag) {
  return numbered != 0 && (tag & TAG_TOKEN) != 0 &&
         (numbered & TAG_TURNED) == (tag & TAG_TURNED);
}

/* One expert's rows where its mask over routes has them. */
static bool writes_masked(moe_builder_t *b, const ir_op_t *op,
                          const uint8_t *tag, const moe_layout_t *layout) {
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  if (fact->source != layout->source || fact->linear == NULL ||
      fact->kind == FACT_TUPLE || fact->expert < 0 ||
      !lies_as(moe_route_tag(b->facts, fact), tag[0]) ||
      !writes_rows(op, layout->source))
    return false;
  const moe_fact_t *mask = moe_fact(b->facts, ir_in(fact->space, 0));
  return mask->on.known && mask->on.x != 0 &&
         (op->code == OP_SCATTER_ND || fact->tag[0] == TAG_ROW);
}

/* The layout of what one expert writes to all routes, or to all sorted rows;
 * NULL: it is no expert's. */
static const moe_layout_t *written_rows(moe_builder_t *b, const ir_op_t *op,
                                        const uint8_t *tag,
                                        const moe_layout_t *layout) {
  const moe_source_t *source = layout->source;
  if (layout->kind == LAYOUT_ROUTES) {
    if (!writes_masked(b, op, tag, layout)) return NULL;
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    return moe_layout(b, LAYOUT_ROWS, source, fact->space, fact->expert);
  }
  moe_own_rows_t own;
  if (!moe_own_rows(b->facts, ir_in(op, 1), &own) || !writes_rows(op, source))
    return NULL;
  const moe_layout_t *group =
      moe_layout(b, LAYOUT_GROUP, source, layout->space, own.expert);
  return moe_are_own_rows(b->facts, ir_in(op, 1), group) ? group : NULL;
}

/* All routes, or all sorted rows, written by one expert after the other; or
 * added to zeros. */
static moe_term_t *join_written(moe_builder_t *b, ir_value_t *value,
                                const uint8_t *tag,
                                const moe_layout_t *layout) {
  const ir_op_t *op = value->def, *last = op;
  unsigned n = (unsigned)layout->source->experts;
  moe_term_t **part = ARENA_ARRAY(b->arena, moe_term_t *, n);
  uint8_t rows[IR_MAX_RANK];
  bool adds = false;
  double zero;
  memcpy(rows, tag, value->type.rank);
  rows[0] = TAG_ROW;
  for (unsigned i = 0; i < n; i++) {
    bool scatters = op != NULL && (op->code == OP_SCATTER_ND ||
                                   op->code == OP_SCATTER_ELEMENTS);
    const moe_layout_t *own =
        scatters ? written_rows(b, op, tag, layout) : NULL;
    if (own == NULL)
      return moe_fail(b, last, "every expert writes the rows of its routes");
    if (part[own->expert] != NULL)
      return moe_fail(b, op, "an expert writes its rows once");
    part[own->expert] = moe_build(b, ir_in(op, 2), rows, own);
    if (part[own->expert] == NULL) return NULL;
    adds = adds || !rule_scatters_by(op, "none");
    last = op;
    op = ir_in(op, 0)->def;
  }
  if (adds && (!moe_fill_number(ir_in(last, 0), &zero) || zero != 0))
    return moe_fail(b, last, "results are added to zeros");
  moe_term_t *term = moe_term_unify(b->terms, n, part);
  if (term == NULL) term = moe_term_choice(b->terms, n, part);
  return term != NULL ? term : moe_fail(b, last, "experts give the same type");
}

/* Rows of routes written where these are when sorted: all rows are. */
static moe_term_t *read_sorted(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const moe_fact_t *place = moe_fact(b->facts, ir_in(op, 1));
  const ir_type_t *rows = &ir_in(op, 2)->type;
  uint8_t from[IR_MAX_RANK];
  if (place->source != layout->source || place->space != layout->space ||
      !rule_scatters_by(op, "none") || !writes_rows(op, layout->source) ||
      rows->dim[0] != layout->source->routes)
    return moe_fail(b, op, "results go back to where their routes are");
  memcpy(from, tag, rows->rank);
  from[0] = place->tag[0];
  return moe_build(b, ir_in(op, 2), from,
                   moe_layout(b, LAYOUT_ROUTES, layout->source, NULL, -1));
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
    return join_written(b, value, tag, layout);
  if (layout->kind == LAYOUT_SORTED && fact->kind == FACT_PLACE &&
      value->type.rank > 0 && tag[0] == TAG_ROW)
    return read_sorted(b, value, tag, layout);
  if (layout->kind == LAYOUT_SORTED && value->type.rank > 0 &&
      tag[0] == TAG_ROW)
    return join_written(b, value, tag, layout);
  if (layout->kind != LAYOUT_ROUTES || fact->kind != FACT_ROUTE ||
      fact->linear != NULL || fact->space == NULL ||
      fact->source != layout->source || value->type.rank == 0 ||
      !lies_as(moe_route_tag(b->facts, fact), tag[0]) ||
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
  for (unsigned r = 0; of_expert && r < 2; r++) {
    ir_value_t *result = ir_in(op->regions[r].last, value->index);
    const moe_branch_t branch = {result, tag};
    if (moe_is_any(b, ir_in(op, 0), layout, &branch, r == 1))
      return moe_build(b, result, tag, layout);
  }
  return moe_fail(b, op, "the branch is taken when a token chose the expert");
}
