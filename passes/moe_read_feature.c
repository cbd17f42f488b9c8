/* Reading operations along the features of a row: parts that numbers pick,
 * running sums, padding, counting. */
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

/* The number of an axis among the features; -1: it is none of them. */
static int64_t feature_axis(const ir_type_t *type, const uint8_t *tag,
                            int64_t axis) {
  if (axis < 0) axis += type->rank;
  if (tag[axis] != TAG_INNER) return -1;
  int64_t n = 0;
  for (int64_t d = 0; d < axis; d++) n += (tag[d] & TAG_INNER) != 0;
  return n;
}

static moe_term_t *new_op(moe_builder_t *b, ir_value_t *value,
                          const uint8_t *tag, unsigned n, moe_term_t *const *in,
                          unsigned n_exprs, const expr_t *const *exprs) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_op(b->terms, &(moe_term_t){.code = value->def->code,
                                             .model = value->def,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = n,
                                             .in = in,
                                             .n_exprs = n_exprs,
                                             .exprs = exprs});
}

/* Features that numbers pick, the same ones for all rows, or rows of a table
 * that numbers of each row pick. */
moe_term_t *moe_read_take(moe_builder_t *b, ir_value_t *value,
                          const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0), *index = ir_in(op, 1);
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis), before = 0;
  uint8_t from[IR_MAX_RANK], at[IR_MAX_RANK];
  if (axis < 0) axis += x->type.rank;
  const moe_fact_t *fact = moe_fact(b->facts, index);
  if (fact->kind != FACT_NONE &&
      (fact->kind != FACT_LABEL || fact->source == layout->source))
    return NULL;
  for (unsigned d = 0; d < x->type.rank; d++) {
    unsigned to = d < axis ? d : d + index->type.rank - 1;
    from[d] = d == axis ? TAG_INNER : tag[to];
    before += d < axis && (from[d] & TAG_INNER) != 0;
  }
  for (unsigned d = 0; d < index->type.rank; d++)
    at[d] = tag[(unsigned)axis + d];
  bool table = moe_has_rows(&index->type, at);
  unsigned tags =
      moe_tag_union(x->type.rank, from) | moe_tag_union(index->type.rank, at);
  if ((tags & TAG_EXPERT) != 0 ||
      (table && (axis != 0 || !rule_is_constant(x))))
    return NULL;
  moe_term_t *in[2] = {moe_build(b, x, from, layout), NULL};
  if (in[0] == NULL) return NULL;
  in[1] = moe_build(b, index, at, layout);
  if (in[1] == NULL || (in[0]->rows && in[1]->rows)) return NULL;
  const expr_t *along = expr_const(b->pool, before);
  return new_op(b, value, tag, 2, in, 1, &along);
}

/* The operands of an operation that works within rows, along one axis; all lie
 * as the result does. */
static moe_term_t *read_within(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout,
                               int64_t axis) {
  enum { MAX_IN = 3 };
  const ir_op_t *op = value->def;
  moe_term_t *in[MAX_IN];
  axis = feature_axis(&value->type, tag, axis);
  if (axis < 0) return moe_fail(b, op, "rows are independent of each other");
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = ir_in(op, i);
    for (unsigned d = 0; d < value->type.rank; d++)
      if (tag[d] != TAG_INNER && x->type.dim[d] != value->type.dim[d])
        return moe_fail(b, op, "operands are aligned by row");
    in[i] = moe_build(b, x, tag, layout);
    if (in[i] == NULL) return NULL;
  }
  const expr_t *along = expr_const(b->pool, axis);
  return new_op(b, value, tag, op->n_in, in, 1, &along);
}

bool moe_picks_features(moe_builder_t *b, const ir_op_t *op,
                        const moe_layout_t *layout) {
  const moe_source_t *source = moe_fact(b->facts, ir_in(op, 1))->source;
  if (source == NULL) return true;
  return source != layout->source &&
         (b->matched == NULL || !b->matched[source->index->number]);
}

moe_term_t *moe_read_pick(moe_builder_t *b, ir_value_t *value,
                          const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  bool gathers = op->code == OP_GATHER_ELEMENTS;
  return read_within(b, value, tag, layout,
                     ir_get_int(op, gathers ? ATTR_GATHER_ELEMENTS_axis
                                            : ATTR_SCATTER_ELEMENTS_axis));
}

moe_term_t *moe_read_running(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  return read_within(
      b, value, tag, layout,
      ir_get_int(
          op, op->code == OP_CUM_SUM ? ATTR_CUM_SUM_axis : ATTR_CUM_PROD_axis));
}

moe_term_t *moe_read_greatest(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0);
  bool max = op->code == OP_ARG_MAX, keeps;
  int64_t axis = ir_get_int(op, max ? ATTR_ARG_MAX_axis : ATTR_ARG_MIN_axis);
  keeps = ir_get_int(op, max ? ATTR_ARG_MAX_keepdims : ATTR_ARG_MIN_keepdims);
  if (axis < 0) axis += x->type.rank;
  uint8_t from[IR_MAX_RANK];
  for (unsigned d = 0; d < x->type.rank; d++) {
    unsigned to = d > axis && !keeps ? d - 1 : d;
    from[d] = d == axis ? TAG_INNER : tag[to];
  }
  if (keeps && (tag[axis] & ~(unsigned)(TAG_INNER | TAG_GONE)) != 0)
    return moe_fail(b, op, "rows are independent of each other");
  moe_term_t *in = moe_build(b, x, from, layout);
  if (in == NULL) return NULL;
  const expr_t *along = expr_const(b->pool, feature_axis(&x->type, from, axis));
  const expr_t *dim[IR_MAX_RANK], *wide[IR_MAX_RANK];
  unsigned rank = 0;
  for (unsigned d = 0; d < in->rank; d++)
    if (!expr_equals_const(along, d)) dim[rank++] = in->dim[d];
  moe_term_t *term = moe_term_op(b->terms, &(moe_term_t){.code = op->code,
                                                         .model = op,
                                                         .dtype = DT_I64,
                                                         .rank = rank,
                                                         .dim = dim,
                                                         .n = 1,
                                                         .in = &in,
                                                         .n_exprs = 1,
                                                         .exprs = &along});
  rank = moe_features(b->terms, &value->type, tag, wide);
  return moe_term_reshape(b->terms, term, rank, wide);
}

moe_term_t *moe_read_pad(moe_builder_t *b, ir_value_t *value,
                         const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  unsigned n, features = 0;
  const expr_t *const *before = ir_get_exprs(op, ATTR_PAD_before, &n);
  const expr_t *const *after = ir_get_exprs(op, ATTR_PAD_after, &n);
  const expr_t *part[2 * IR_MAX_RANK];
  for (unsigned d = 0; d < n; d++) {
    bool stays =
        expr_equals_const(before[d], 0) && expr_equals_const(after[d], 0);
    if (tag[d] != TAG_INNER && !stays)
      return moe_fail(b, op, "rows keep their number");
    if ((tag[d] & TAG_INNER) == 0) continue;
    part[features++] = before[d];
    part[features++] = after[d];
  }
  moe_term_t *in[2] = {moe_build(b, ir_in(op, 0), tag, layout), NULL};
  if (in[0] == NULL) return NULL;
  if (op->n_in > 1 && ir_in(op, 1) != NULL) {
    in[1] = moe_build(b, ir_in(op, 1), tag, layout); /* one number: no tag */
    if (in[1] == NULL || in[1]->rows)
      return moe_fail(b, op, "padding is the same for all rows");
  }
  return new_op(b, value, tag, in[1] != NULL ? 2 : 1, in, features, part);
}

/* Numbers that count features, or that are sizes; those that count rows say
 * which one a row is. */
moe_term_t *moe_read_counted(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  (void)layout;
  if (op->code == OP_IOTA && tag[0] == TAG_INNER)
    return new_op(b, value, tag, 0, NULL, 0, NULL);
  unsigned n;
  const expr_t *const *values =
      op->code == OP_EXPRS ? ir_get_exprs(op, ATTR_EXPRS_values, &n) : NULL;
  if (value->type.rank > 0)
    return moe_fail(b, op, "rows are independent of each other");
  return new_op(b, value, tag, 0, NULL, 1, values);
}
