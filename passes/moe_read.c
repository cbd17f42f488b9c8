/* Reading operations whose rows lie where those of their operands lie. */
#include "passes/moe_read.h"

#include <string.h>

#include "passes/moe_rules.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE };

unsigned moe_features(const moe_terms_t *terms, const ir_type_t *type,
                      const uint8_t *tag, const expr_t **out_dim) {
  unsigned n = 0;
  for (unsigned d = 0; d < type->rank; d++)
    if ((tag[d] & TAG_INNER) != 0)
      out_dim[n++] = moe_term_feature(terms, type->dim[d], tag[d]);
  return n;
}

bool moe_has_rows(const ir_type_t *type, const uint8_t *tag) {
  return (moe_tag_union(type->rank, tag) & ROWS) != 0;
}

/* ---- Elementwise --------------------------------------------------------- */

/* Rows of the layout that have the layout's expert, and no other. */
static bool has_own_rows(const moe_layout_t *layout) {
  switch (layout->kind) {
    case LAYOUT_DENSE:
      return rule_is_one(layout->source->k);
    case LAYOUT_ROUTES:
    case LAYOUT_SORTED:
      return layout->expert >= 0;
    default:
      return false;
  }
}

/* A gate of the layout's router among the operands, by the same rows as the
 * result; NULL: it is none. */
static const moe_fact_t *gate_operand(moe_builder_t *b, const ir_op_t *op,
                                      unsigned i, const uint8_t *tag,
                                      const moe_layout_t *layout) {
  const ir_value_t *x = ir_in(op, i);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, i));
  uint8_t own[IR_MAX_RANK];
  bool rows = layout->kind == LAYOUT_ROUTES || layout->kind == LAYOUT_SORTED;
  if (fact->kind != FACT_GATE || fact->source != layout->source ||
      (rows && fact->space != layout->space) ||
      !moe_tags_broadcast(&op->out[0].type, tag, &x->type, own))
    return NULL;
  for (unsigned d = 0; d < x->type.rank; d++)
    if (own[d] != fact->tag[d] && !rule_is_one(x->type.dim[d])) return NULL;
  return fact;
}

int moe_others_operand(moe_builder_t *b, const ir_op_t *op, const uint8_t *tag,
                       const moe_layout_t *layout) {
  if ((op->code != OP_SELECT && op->code != OP_ADD) || !has_own_rows(layout))
    return -1;
  for (unsigned i = 0; i < (op->code == OP_ADD ? 2 : 1); i++) {
    const moe_fact_t *fact = gate_operand(b, op, i, tag, layout);
    if (fact == NULL || fact->expert < 0 || fact->expert == layout->expert ||
        !fact->off.known)
      continue;
    if (op->code == OP_SELECT) return fact->off.x != 0 ? 1 : 2;
    if (fact->off.x == 0 &&
        rule_same_dims(&ir_in(op, 1 - i)->type, &op->out[0].type))
      return 1 - (int)i;
  }
  return -1;
}

/* What an elementwise operation is at the token's own experts, where a mask
 * says which these are: one of its operands. -1: none, as for masks of single
 * slots, of which one names the expert and others do not. */
static int chosen_operand(moe_builder_t *b, const ir_op_t *op,
                          const uint8_t *tag, const moe_layout_t *layout) {
  bool rows =
      (layout->kind == LAYOUT_ROUTES || layout->kind == LAYOUT_SORTED) &&
      layout->expert >= 0;
  if (layout->kind != LAYOUT_DENSE && layout->kind != LAYOUT_STACK && !rows)
    return -1;
  for (unsigned i = 0; i < 2 && i < op->n_in; i++) {
    const moe_fact_t *fact = gate_operand(b, op, i, tag, layout);
    if (fact == NULL || !fact->on.known ||
        (layout->kind != LAYOUT_STACK && fact->expert != layout->expert))
      continue;
    if (op->code == OP_SELECT && i == 0) return fact->on.x != 0 ? 1 : 2;
    bool ones = op->code == OP_MUL || op->code == OP_AND;
    if (ones && fact->on.x == 1) return 1 - (int)i;
  }
  return moe_others_operand(b, op, tag, layout);
}

static moe_term_t *read_elementwise(moe_builder_t *b, ir_value_t *value,
                                    const uint8_t *tag,
                                    const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  enum { MAX_IN = 4 };
  moe_term_t *in[MAX_IN] = {NULL};
  uint8_t operand[IR_MAX_RANK] = {0};
  if (op->n_in > MAX_IN) return moe_fail(b, op, "the operation is known");
  int chosen = chosen_operand(b, op, tag, layout);
  double zero;
  for (unsigned i = 0; i < 2 && op->code == OP_ADD; i++)
    if (moe_fill_number(ir_in(op, i), &zero) && zero == 0 &&
        rule_same_dims(&ir_in(op, 1 - i)->type, &value->type))
      chosen = 1 - (int)i; /* nothing is added */
  for (unsigned i = 0; i < op->n_in; i++) {
    if (chosen >= 0 && (int)i != chosen) continue;
    ir_value_t *x = ir_in(op, i);
    if (!moe_tags_broadcast(&value->type, tag, &x->type, operand))
      return moe_fail(b, op, "operands are aligned by row");
    in[i] = moe_build(b, x, operand, layout);
    if (in[i] == NULL) return NULL;
  }
  if (chosen >= 0) return in[chosen];
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  for (unsigned i = 0; i < op->n_in; i++)
    if (!moe_term_broadcasts(in[i], rank, dim))
      return moe_fail(b, op, "operands are aligned by row");
  if (layout->kind == LAYOUT_PLACES && op->code == OP_EQ &&
      moe_is_own_place(b, in[0], in[1], layout->source))
    return moe_read_one(b, DT_BOOL, rank, dim);
  for (unsigned i = 0;
       i < 2 && layout->kind == LAYOUT_PLACES && op->code == OP_MUL; i++)
    if (moe_is_one_term(in[i]))
      return moe_term_reshape(b->terms, in[1 - i], rank, dim);
  return moe_term_op(b->terms, &(moe_term_t){.code = op->code,
                                             .model = op,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = op->n_in,
                                             .in = in});
}

/* ---- Shapes -------------------------------------------------------------- */

/* A shape that only gives the rows of all experts' groups together another
 * size, one that is equal: they are checked to be the routes. */
static bool renames_rows(moe_builder_t *b, const ir_type_t *to,
                         const uint8_t *tag, const ir_type_t *from,
                         const moe_layout_t *layout) {
  bool renames =
      (layout->kind == LAYOUT_SORTED || layout->kind == LAYOUT_PIECE) &&
      from->rank == to->rank;
  for (unsigned d = 0; renames && d < to->rank; d++)
    renames = from->dim[d] == to->dim[d] ||
              (tag[d] == TAG_ROW && moe_are_equal(b->facts, layout->source, -1,
                                                  from->dim[d], to->dim[d]));
  return renames;
}

static moe_term_t *read_reshape(moe_builder_t *b, ir_value_t *value,
                                const uint8_t *tag,
                                const moe_layout_t *layout) {
  ir_value_t *x = ir_in(value->def, 0);
  uint8_t operand[IR_MAX_RANK] = {0};
  if (renames_rows(b, &value->type, tag, &x->type, layout))
    return moe_build(b, x, tag, layout);
  if (!moe_tags_reshape(layout->source, &value->type, tag, &x->type, operand)) {
    moe_term_t *term = moe_read_merged(b, value, tag, layout);
    return term != NULL || b->obligation != NULL
               ? term
               : moe_fail(b, value->def, "rows are not mixed with features");
  }
  moe_term_t *in = moe_build(b, x, operand, layout);
  if (in == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_reshape(b->terms, in, rank, dim);
}

static const expr_atom_t *atom_of(const expr_t *e, expr_atom_kind_t kind) {
  bool one = e->n_terms == 1 && e->terms[0].coefficient == 1 &&
             e->terms[0].n_atoms == 1 && e->terms[0].atoms[0]->kind == kind;
  return one ? e->terms[0].atoms[0] : NULL;
}

/* A number of rows that may be checked against another one, which is 1 where
 * there are rows. */
static bool is_checked(expr_pool_t *pool, const moe_source_t *source,
                       const expr_t *rows, const expr_t *to) {
  const expr_symbol_t *symbol = expr_as_symbol(rows);
  const expr_atom_t *atom = atom_of(to, EXPR_ATOM_BROADCAST);
  const expr_t *most = symbol != NULL ? symbol->upper : NULL;
  if (source->chooses && rows == source->k) /* some of the tokens */
    most = source->tokens;
  if (most == NULL || atom == NULL || atom->a != rows) return false;
  const expr_atom_t *least = atom_of(atom->b, EXPR_ATOM_MIN);
  if (least == NULL) return false;
  for (unsigned i = 0; i < 2; i++) {
    const expr_t *size = i == 0 ? least->a : least->b;
    if (rule_is_one(i == 0 ? least->b : least->a) &&
        expr_divide_exactly(pool, most, size) != NULL)
      return true; /* without these there are no rows */
  }
  return false;
}

static moe_term_t *read_expand(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  ir_value_t *x = ir_in(value->def, 0);
  uint8_t operand[IR_MAX_RANK] = {0};
  unsigned shift = value->type.rank - x->type.rank;
  for (unsigned d = 0; d < x->type.rank; d++) {
    bool same = x->type.dim[d] == value->type.dim[shift + d];
    unsigned t = tag[shift + d];
    bool rows_stay =
        (t == TAG_ROW || t == TAG_PLACE) &&
        (is_checked(b->pool, layout->source, x->type.dim[d],
                    value->type.dim[shift + d]) ||
         (t == TAG_ROW &&
          moe_are_equal(b->facts, layout->source, layout->expert,
                        x->type.dim[d], value->type.dim[shift + d])));
    if (!same && !rows_stay && !rule_is_one(x->type.dim[d]))
      return moe_fail(b, value->def, "rows keep their number");
    if (!same && !rows_stay) t = (t & TAG_INNER) != 0 ? TAG_INNER : TAG_GONE;
    operand[d] = (uint8_t)t;
  }
  moe_term_t *in = moe_build(b, x, operand, layout);
  if (in == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  if (rank >= in->rank) {
    bool grows = false;
    for (unsigned d = 0; d < in->rank; d++)
      grows = grows || in->dim[d] != dim[rank - in->rank + d];
    for (unsigned d = 0; d + in->rank < rank; d++)
      grows = grows || !rule_is_one(dim[d]);
    if (!grows) return moe_term_reshape(b->terms, in, rank, dim);
  }
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_EXPAND,
                                             .dtype = in->dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = 1,
                                             .in = &in});
}

bool moe_keeps_tokens(const ir_op_t *transpose, const uint8_t *tag) {
  unsigned n;
  const int64_t *perm = ir_get_ints(transpose, ATTR_TRANSPOSE_perm, &n);
  int64_t last = -1;
  for (unsigned d = 0; d < n; d++) {
    if ((tag[d] & TAG_TOKEN) == 0) continue;
    if (perm[d] < last) return false;
    last = perm[d];
  }
  return true;
}

static moe_term_t *read_transpose(moe_builder_t *b, ir_value_t *value,
                                  const uint8_t *tag,
                                  const moe_layout_t *layout) {
  ir_value_t *x = ir_in(value->def, 0);
  unsigned n;
  const int64_t *perm = ir_get_ints(value->def, ATTR_TRANSPOSE_perm, &n);
  uint8_t operand[IR_MAX_RANK] = {0};
  for (unsigned d = 0; d < n; d++) operand[perm[d]] = tag[d];
  if (!moe_keeps_tokens(value->def, tag))
    return moe_fail(b, value->def, "tokens keep their order");
  moe_term_t *in = moe_build(b, x, operand, layout);
  if (in == NULL) return NULL;
  /* features keep their order among themselves: nothing to do */
  unsigned rank_of[IR_MAX_RANK], features = 0;
  for (unsigned d = 0; d < n; d++)
    if ((operand[d] & TAG_INNER) != 0) rank_of[d] = features++;
  const expr_t *order[IR_MAX_RANK], *dim[IR_MAX_RANK];
  unsigned to = 0;
  bool changes = false;
  for (unsigned d = 0; d < n; d++) {
    if ((tag[d] & TAG_INNER) == 0) continue;
    unsigned from = rank_of[perm[d]];
    changes = changes || from != to;
    order[to] = expr_const(b->pool, from);
    dim[to++] = moe_term_feature(b->terms, value->type.dim[d], tag[d]);
  }
  if (!changes) return in;
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_TRANSPOSE,
                                             .dtype = in->dtype,
                                             .rank = to,
                                             .dim = dim,
                                             .n = 1,
                                             .in = &in,
                                             .n_exprs = to,
                                             .exprs = order});
}

/* ---- Along an axis ------------------------------------------------------- */

/* The number of an axis among the features; -1: it is none of them. */
static int64_t feature_axis(const ir_type_t *type, const uint8_t *tag,
                            int64_t axis) {
  if (axis < 0) axis += type->rank;
  if (tag[axis] != TAG_INNER) return -1;
  int64_t n = 0;
  for (int64_t d = 0; d < axis; d++) n += (tag[d] & TAG_INNER) != 0;
  return n;
}

static moe_term_t *read_along(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t axis = op->code == OP_SOFTMAX ? ir_get_int(op, ATTR_SOFTMAX_axis)
                                        : ir_get_int(op, ATTR_LOG_SOFTMAX_axis);
  axis = feature_axis(&value->type, tag, axis);
  if (axis < 0) return moe_fail(b, op, "rows are independent of each other");
  moe_term_t *in = moe_build(b, ir_in(op, 0), tag, layout);
  if (in == NULL) return NULL;
  const expr_t *along = expr_const(b->pool, axis);
  return moe_term_op(b->terms, &(moe_term_t){.code = op->code,
                                             .dtype = in->dtype,
                                             .rank = in->rank,
                                             .dim = in->dim,
                                             .n = 1,
                                             .in = &in,
                                             .n_exprs = 1,
                                             .exprs = &along});
}

/* The greatest features of each row, or their numbers. */
static moe_term_t *read_topk(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t axis =
      feature_axis(&value->type, tag, ir_get_int(op, ATTR_TOPK_axis));
  const expr_t *k = ir_get_expr(op, ATTR_TOPK_k);
  if (axis < 0 || !expr_is_const(k, NULL))
    return moe_fail(b, op, "rows are independent of each other");
  moe_term_t *in = moe_build(b, ir_in(op, 0), tag, layout);
  if (in == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  const expr_t *part[2] = {expr_const(b->pool, axis),
                           expr_const(b->pool, value->index)};
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_TOPK,
                                             .model = op,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = 1,
                                             .in = &in,
                                             .n_exprs = 2,
                                             .exprs = part});
}

static moe_term_t *read_reduce(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0);
  const ir_op_info_t *info = ir_op_info(op->code);
  unsigned n, to = 0, n_over = 0;
  const int64_t *axes = ir_get_ints(op, info->attr_first, &n);
  bool keeps = ir_get_int(op, (ir_attr_id_t)(info->attr_first + 1)) != 0;
  uint8_t operand[IR_MAX_RANK] = {0};
  const expr_t *over[IR_MAX_RANK];
  for (unsigned d = 0, i = 0; d < x->type.rank; d++) {
    bool goes = i < n && axes[i] == (int64_t)d;
    if (goes) i++;
    operand[d] = goes ? TAG_INNER : tag[to];
    if (goes && keeps && (tag[to] & ~(unsigned)(TAG_INNER | TAG_GONE)) != 0)
      return moe_fail(b, op, "rows are independent of each other");
    if (!goes || keeps) to++;
  }
  const moe_fact_t *gate = moe_fact(b->facts, x);
  bool adds = op->code == OP_REDUCE_SUM || /* all others being 0 */
              (op->code == OP_REDUCE_MAX && gate->on.known && gate->on.x > 0);
  if (layout->kind == LAYOUT_PLACES && n == 1 && adds &&
      moe_has_own_slot(b, x, (unsigned)axes[0], layout->source))
    return moe_read_own_slot(b, value, tag, operand, layout);
  moe_term_t *in = moe_build(b, x, operand, layout);
  if (in == NULL) return NULL;
  for (unsigned i = 0; i < n; i++)
    over[n_over++] =
        expr_const(b->pool, feature_axis(&x->type, operand, axes[i]));
  const expr_t *short_dim[IR_MAX_RANK], *dim[IR_MAX_RANK];
  unsigned short_rank = 0;
  for (unsigned d = 0, i = 0; d < in->rank; d++) {
    if (i < n_over && over[i] == expr_const(b->pool, d))
      i++;
    else
      short_dim[short_rank++] = in->dim[d];
  }
  moe_term_t *sum =
      moe_term_op(b->terms, &(moe_term_t){.code = op->code,
                                          .dtype = value->type.dtype,
                                          .rank = short_rank,
                                          .dim = short_dim,
                                          .n = 1,
                                          .in = &in,
                                          .n_exprs = n_over,
                                          .exprs = over});
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_reshape(b->terms, sum, rank, dim);
}

/* ---- Which operation ----------------------------------------------------- */

static moe_reader_t *reader_of(const ir_op_t *op) {
  switch (op->code) {
    case OP_RESHAPE:
      return read_reshape;
    case OP_EXPAND:
      return read_expand;
    case OP_TRANSPOSE:
      return read_transpose;
    case OP_SLICE:
      return moe_read_slice;
    case OP_CONCAT:
      return moe_read_concat;
    case OP_GATHER:
      return moe_read_gather;
    case OP_GATHER_ND:
      return moe_read_gather_nd;
    case OP_GATHER_ELEMENTS:
      return moe_read_gather_elements;
    case OP_SCATTER_ELEMENTS:
    case OP_SCATTER_ND:
      return moe_read_scatter;
    case OP_MATMUL:
      return moe_read_matmul;
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
      return read_along;
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
    case OP_REDUCE_PROD:
      return read_reduce;
    case OP_CONVOLVE:
    case OP_UNFOLD:
      return moe_read_planes;
    case OP_CUM_SUM:
    case OP_CUM_PROD:
      return moe_read_running;
    case OP_ARG_MAX:
    case OP_ARG_MIN:
      return moe_read_greatest;
    case OP_PAD:
      return moe_read_pad;
    case OP_EXPRS:
    case OP_IOTA:
      return moe_read_counted;
    case OP_IF:
      return moe_read_if;
    case OP_WHILE:
      return moe_read_while;
    case OP_MOE_COMBINE:
      return moe_read_combine;
    case OP_TOPK:
      return read_topk;
    default:
      return ir_has_trait(op, ELEMENTWISE) ? read_elementwise : NULL;
  }
}

/* Perhaps a sum over experts, of rows that have one each. */
static bool is_sum_of_rows(const ir_op_t *op, const moe_layout_t *layout) {
  bool adds = op->code == OP_ADD || op->code == OP_SELECT;
  bool scatters = op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS;
  switch (layout->kind) {
    case LAYOUT_ROUTES:
    case LAYOUT_SORTED:
      return ir_has_trait(op, ELEMENTWISE) && layout->expert < 0;
    case LAYOUT_SLOT:
      return adds || scatters || op->code == OP_REDUCE_SUM;
    default:
      return false;
  }
}

moe_term_t *moe_read_op(moe_builder_t *b, ir_value_t *value, const uint8_t *tag,
                        const moe_layout_t *layout) {
  if (value->def == NULL)
    return moe_fail(b, NULL, "every expert reads the token's own row");
  moe_reader_t *reader = reader_of(value->def);
  bool joins = value->def->code == OP_CONCAT || value->def->code == OP_GATHER;
  if (layout->kind == LAYOUT_PIECE && joins &&
      moe_tag_find(value->type.rank, tag, TAG_ROW) >= 0)
    reader = moe_read_pieces;
  if (layout->kind == LAYOUT_BUFFER && layout->expert < 0 &&
      value->def->code == OP_ADD && !layout->source->chooses &&
      moe_adds_fills(value))
    return moe_read_filled(b, value, tag, layout);
  if (is_sum_of_rows(value->def, layout)) {
    moe_term_t *term = moe_read_members(b, value, tag, layout);
    if (term != NULL || b->obligation != NULL) return term;
  }
  if (reader == NULL)
    return moe_fail(b, value->def, "rows are independent of each other");
  return reader(b, value, tag, layout);
}
