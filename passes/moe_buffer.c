/* Experts that work on buffers of their own.
 *
 * A buffer y[e, c] has a row for each place c of an expert e. Where each route
 * has a place of its own, the buffers are read as rows of routes: the term of a
 * value is what it has at the place of the route. Rows come in by a one-hot
 * product or by a scatter, and go back by a product or by a gather; places that
 * no route has do not matter. */
#include "passes/moe_buffer.h"

#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE };

static bool is_zero(moe_constant_t c) { return c.known && c.x == 0; }

/* ---- Places of routes ---------------------------------------------------- */

static bool is_behind(const moe_rank_t *rank, const moe_source_t *source) {
  for (unsigned i = 0; i < rank->n_base; i++)
    if (rank->base[i] == source || moe_part_index(rank->base[i], source) >= 0)
      return true;
  return false;
}

/* One rank starts where the other one's routes end: behind all that this one is
 * behind, and behind these; or behind those of them that the capacity keeps:
 * others have no place. */
static bool comes_after(const moe_rank_t *rank, const moe_rank_t *other,
                        const expr_t *capacity) {
  for (unsigned i = 0; i < rank->n_base; i++)
    if (rank->kept[i] != NULL &&
        (rank->kept[i] != capacity || rank->offset != 0 || other->offset != 0))
      return false;
  for (unsigned i = 0; i < other->n_base; i++)
    if (!is_behind(rank, other->base[i])) return false;
  return is_behind(rank, other->source) && rank->offset >= other->offset;
}

/* Whether ranks of all parts of a router, each counted in groups of so many
 * tokens, are different from each other. */
static bool parts_differ(const moe_source_t *source, unsigned n,
                         const moe_rank_t *const *rank, const expr_t *group) {
  if (n != source->n_parts) return false;
  for (unsigned i = 0; i < n; i++) {
    if (rank[i] == NULL || rank[i]->source != source->part[i] ||
        rank[i]->offset < 0 || rank[i]->counted != group ||
        rank[i]->n_parts > 0)
      return false;
    for (unsigned j = 0; j < i; j++)
      if (!comes_after(rank[i], rank[j], *source->capacity) &&
          !comes_after(rank[j], rank[i], *source->capacity))
        return false;
  }
  return true;
}

/* Whether no two routes of one group of tokens that have an expert have the
 * same place: `group` is the number of tokens in one. */
static bool tell_apart(const moe_source_t *source, const moe_places_t *places,
                       const expr_t *group) {
  const moe_rank_t *rank[MOE_MAX_PARTS];
  for (unsigned i = 0; i < places->n; i++) {
    rank[i] = places->of[i].value != NULL ? places->of[i].rank : NULL;
    if (places->of[i].given != NULL || places->of[i].limited) return false;
  }
  if (places->n != 1) return parts_differ(source, places->n, rank, group);
  if (rank[0] == NULL || rank[0]->source != source) return false;
  if (rank[0]->n_parts > 0)
    return parts_differ(source, rank[0]->n_parts, rank[0]->part, group);
  return rank[0]->offset >= 0 && rank[0]->counted == group;
}

/* The term of single numbers; NULL where it has features. */
static moe_term_t *scalar(moe_builder_t *b, moe_term_t *term) {
  if (term == NULL) return NULL;
  for (unsigned d = 0; d < term->rank; d++)
    if (!rule_is_one(term->dim[d])) return NULL;
  return moe_term_reshape(b->terms, term, 0, NULL);
}

/* The place of the row's route. */
static moe_term_t *place_of_route(moe_builder_t *b,
                                  const moe_source_t *source) {
  const moe_places_t *places = b->places;
  moe_term_t *each[MOE_MAX_PARTS];
  for (unsigned i = 0; i < places->n; i++) {
    const moe_place_t *place = &places->of[i];
    if (place->value == NULL) return NULL;
    unsigned tags = moe_tag_union(place->value->type.rank, place->tag);
    bool route = (tags & TAG_SLOT) != 0 || rule_is_one(source->k);
    moe_term_kind_t kind = (tags & TAG_EXPERT) != 0 ? TERM_GATE
                           : route                  ? TERM_ROUTE
                                                    : TERM_TOKEN;
    each[i] =
        scalar(b, moe_term_leaf(b->terms, kind, place->value, place->tag));
    if (each[i] == NULL || each[i]->dtype != each[0]->dtype) return NULL;
  }
  return places->n == 1 ? each[0] : moe_term_slots(b->terms, places->n, each);
}

static moe_term_t *cast_to(moe_builder_t *b, moe_term_t *x, dtype_t dtype) {
  if (x->dtype == dtype) return x;
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_CAST,
                                             .dtype = dtype,
                                             .rank = x->rank,
                                             .dim = x->dim,
                                             .n = 1,
                                             .in = &x});
}

static moe_term_t *both(moe_builder_t *b, ir_opcode_t code, dtype_t dtype,
                        moe_term_t *x, moe_term_t *y) {
  moe_term_t *in[2] = {x, y};
  const moe_term_t *shape = x->rank >= y->rank ? x : y;
  return moe_term_op(b->terms, &(moe_term_t){.code = code,
                                             .dtype = dtype,
                                             .rank = shape->rank,
                                             .dim = shape->dim,
                                             .n = 2,
                                             .in = in});
}

static moe_term_t *number_term(moe_builder_t *b, const expr_t *number) {
  return moe_term_op(
      b->terms,
      &(moe_term_t){
          .code = OP_EXPRS, .dtype = DT_I64, .n_exprs = 1, .exprs = &number});
}

/* ---- Gates at the places of routes --------------------------------------- */

moe_term_t *moe_read_one(moe_builder_t *b, dtype_t dtype, unsigned rank,
                         const expr_t *const *dim) {
  moe_term_t *one = number_term(b, expr_const(b->pool, 1));
  return moe_term_reshape(b->terms, cast_to(b, one, dtype), rank, dim);
}

/* The value that a number was converted from. */
static const moe_term_t *number_of(const moe_term_t *x) {
  while (x->kind == TERM_OP && (x->code == OP_RESHAPE || x->code == OP_CAST))
    x = x->in[0];
  return x;
}

bool moe_is_one_term(const moe_term_t *term) {
  const moe_term_t *number = number_of(term);
  return number->kind == TERM_OP && number->code == OP_EXPRS &&
         expr_equals_const(number->exprs[0], 1);
}

/* The expert of the row's route. */
static moe_term_t *expert_of_route(moe_builder_t *b,
                                   const moe_source_t *source) {
  uint8_t own[IR_MAX_RANK];
  for (unsigned d = 0; d < source->index->type.rank; d++)
    own[d] = (int)d == source->slot ? TAG_SLOT : TAG_TOKEN;
  return scalar(b, moe_term_leaf(b->terms, TERM_ROUTE, source->index, own));
}

/* Rows of a unit matrix that experts pick: whether they are the route's. */
static moe_term_t *read_units(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const moe_fact_t *fact = moe_fact(b->facts, value);
  if (op == NULL || op->code != OP_GATHER || fact->kind != FACT_GATE ||
      fact->space != NULL || fact->expert >= 0 ||
      tag[value->type.rank - 1] != TAG_EXPERT ||
      fact->tag[value->type.rank - 1] != TAG_EXPERT ||
      moe_fact(b->facts, ir_in(op, 1))->kind != FACT_EXPERT)
    return NULL;
  moe_term_t *index = moe_build(b, ir_in(op, 1), tag, layout);
  moe_term_t *own = expert_of_route(b, layout->source);
  if (index == NULL || own == NULL) return NULL;
  own = cast_to(b, own, index->dtype);
  return cast_to(b, both(b, OP_EQ, DT_BOOL, index, own), value->type.dtype);
}

moe_term_t *moe_place_leaf(moe_builder_t *b, ir_value_t *value,
                           const uint8_t *tag, const moe_source_t *source) {
  unsigned tags = moe_tag_union(value->type.rank, tag);
  bool features = false;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  for (unsigned d = 0; d < rank; d++)
    features = features || !rule_is_one(dim[d]);
  if ((tags & (TAG_PLACE | TAG_EXPERT)) == 0)
    return moe_term_leaf(
        b->terms,
        (tags & TAG_SLOT) != 0 || (rule_is_one(source->k) && !features)
            ? TERM_ROUTE
            : TERM_TOKEN,
        value, tag);
  moe_term_t *number = NULL;
  int axis = moe_places_axis(source, value);
  if (axis >= 0 && tag[axis] == TAG_PLACE) number = place_of_route(b, source);
  axis = moe_counting_axis(value, source->experts);
  if (axis >= 0 && tag[axis] == TAG_EXPERT) number = expert_of_route(b, source);
  if (number != NULL)
    return moe_term_reshape(b->terms, cast_to(b, number, value->type.dtype),
                            rank, dim);
  const moe_fact_t *fact = moe_fact(b->facts, value);
  if (fact->kind == FACT_GATE && fact->source == source && !features &&
      fact->space == NULL && fact->expert < 0 && fact->places == NULL &&
      fact->on.known && fact->on.x == 1)
    return moe_read_one(b, value->type.dtype, rank, dim);
  if ((tags & TAG_PLACE) == 0 && (!features || fact->rank != NULL))
    return moe_term_leaf(b->terms, TERM_GATE, value, tag);
  return (tags & TAG_PLACE) == 0
             ? read_units(b, value, tag,
                          moe_layout(b, LAYOUT_PLACES, source, NULL, -1))
             : NULL;
}

/* One number of each route, or of each token, in both. */
static bool same_number(const moe_term_t *x, const moe_term_t *y) {
  if (x == y) return true;
  if (x->value == NULL || x->value != y->value || x->kind != y->kind ||
      x->kind == TERM_OP)
    return false;
  for (unsigned d = 0; d < x->value->type.rank; d++)
    if (x->tag[d] != y->tag[d] && !rule_is_one(x->value->type.dim[d]))
      return false;
  return true;
}

bool moe_is_own_place(moe_builder_t *b, const moe_term_t *x,
                      const moe_term_t *y, const moe_source_t *source) {
  if (b->places == NULL || !same_number(number_of(x), number_of(y)))
    return false;
  for (unsigned d = 0; d < x->rank; d++)
    if (!rule_is_one(x->dim[d])) return false;
  const moe_term_t *place = place_of_route(b, source);
  return place != NULL && same_number(number_of(place), number_of(x));
}

bool moe_has_own_slot(moe_builder_t *b, ir_value_t *gate, unsigned axis,
                      const moe_source_t *source) {
  const moe_fact_t *fact = moe_fact(b->facts, gate);
  return fact->kind == FACT_GATE && fact->source == source &&
         fact->expert < 0 && fact->space == NULL && fact->places != NULL &&
         is_zero(fact->off) && is_zero(fact->other) &&
         fact->tag[axis] == TAG_SLOT && gate->type.dim[axis] == source->k &&
         moe_same_places(b->places, fact->places) &&
         fact->places->of[0].rank != NULL &&
         tell_apart(source, fact->places, fact->places->of[0].rank->counted);
}

moe_term_t *moe_read_own_slot(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, uint8_t *operand,
                              const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const expr_t *dim[IR_MAX_RANK];
  unsigned n;
  operand[*ir_get_ints(op, ir_op_info(op->code)->attr_first, &n)] = TAG_SLOT;
  moe_term_t *in = moe_build(b, ir_in(op, 0), operand, layout);
  if (in == NULL) return NULL;
  n = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_reshape(b->terms, in, n, dim);
}

/* A product over slots of gates of which one has experts, one has places: at a
 * route's place all slots but its own add 0. */
static bool is_of_own_slot(moe_builder_t *b, ir_value_t *value,
                           const moe_source_t *source) {
  const moe_fact_t *fact = moe_gate_of_slots(b->facts, value);
  return fact != NULL && fact->source == source &&
         moe_same_places(b->places, fact->places) &&
         fact->places->of[0].rank != NULL &&
         tell_apart(source, fact->places, fact->places->of[0].rank->counted);
}

/* A product over slots or features, of what two gates have at the place. */
moe_term_t *moe_read_gate_product(moe_builder_t *b, ir_value_t *value,
                                  const uint8_t *tag,
                                  const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  moe_term_t *side[2];
  const expr_t *over = NULL, *dim[IR_MAX_RANK];
  bool own_slot = is_of_own_slot(b, value, layout->source);
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  for (unsigned i = 0; i < 2; i++) {
    const ir_type_t *type = &ir_in(op, i)->type;
    unsigned shift = value->type.rank - type->rank;
    uint8_t own[IR_MAX_RANK];
    for (unsigned d = 0; d < type->rank; d++) {
      bool same = type->dim[d] == value->type.dim[shift + d];
      own[d] = same ? tag[shift + d] : TAG_GONE;
    }
    unsigned summed = i == 0 ? type->rank - 1 : type->rank - 2;
    unsigned kept = i == 0 ? type->rank - 2 : type->rank - 1;
    own[summed] = own_slot ? TAG_SLOT : TAG_INNER;
    own[kept] = tag[shift + kept];
    over = type->dim[summed];
    side[i] = moe_build(b, ir_in(op, i), own, layout);
    if (side[i] != NULL && own_slot) side[i] = scalar(b, side[i]);
    if (side[i] == NULL) return NULL;
    if (own_slot && i == 1 && moe_is_one_term(side[1]))
      return moe_term_reshape(b->terms, side[0], rank, dim);
    if (own_slot && i == 1 && moe_is_one_term(side[0]))
      return moe_term_reshape(b->terms, side[1], rank, dim);
    if (own_slot) continue;
    side[i] = moe_term_reshape(b->terms, side[i], 1, &over);
  }
  moe_term_t *term = both(b, OP_MUL, value->type.dtype, side[0], side[1]);
  if (own_slot) return moe_term_reshape(b->terms, term, rank, dim);
  const expr_t *axis = expr_const(b->pool, 0);
  term = moe_term_op(b->terms, &(moe_term_t){.code = OP_REDUCE_SUM,
                                             .dtype = value->type.dtype,
                                             .n = 1,
                                             .in = &term,
                                             .n_exprs = 1,
                                             .exprs = &axis});
  return moe_term_reshape(b->terms, term, rank, dim);
}

/* What a gate has at the route's place, as a value of routes. */
static moe_term_t *gate_at_place(moe_builder_t *b, ir_value_t *gate,
                                 const uint8_t *tag,
                                 const moe_source_t *source) {
  moe_term_t *term =
      moe_build(b, gate, tag, moe_layout(b, LAYOUT_PLACES, source, NULL, -1));
  if (term != NULL) term = scalar(b, term);
  if (term != NULL && moe_is_one_term(term)) return term;
  const moe_fact_t *fact = moe_fact(b->facts, gate);
  if (term != NULL && !term->rows && fact->on.known && fact->on.x == 1)
    return moe_read_one(b, gate->type.dtype, 0, NULL);
  return term != NULL && term->rows
             ? moe_term_computed(b->terms, term)
             : moe_fail(b, gate->def, "a gate is one number for each place");
}

/* ---- Rows into the buffers ----------------------------------------------- */

/* Tags of the rows that a gate is multiplied with, and whether gate and rows
 * have the result's dimensions. */
static bool dispatched_tags(const ir_op_t *op, unsigned side,
                            const uint8_t *gate, const uint8_t *tag,
                            uint8_t *out_tag) {
  const ir_type_t *g = &ir_in(op, side)->type, *x = &ir_in(op, 1 - side)->type;
  const ir_type_t *y = &op->out[0].type;
  unsigned rank = y->rank;
  if (g->rank < 2 || x->rank < 2) return false;
  unsigned g_kept = side == 0 ? g->rank - 2 : g->rank - 1;
  unsigned g_summed = side == 0 ? g->rank - 1 : g->rank - 2;
  for (unsigned d = g_summed + 1; d < g->rank; d++)
    if ((gate[d] & TAG_TOKEN) != 0) return false; /* not over the innermost */
  for (unsigned d = 0; d < g->rank; d++) {
    unsigned to = rank - g->rank + d;
    if (d + 2 >= g->rank && d != g_kept) continue; /* summed over */
    if (gate[d] != tag[to] && !(rule_is_one(g->dim[d]) && d != g_kept))
      return false;
  }
  for (unsigned d = 0; d < x->rank; d++) {
    unsigned to = rank - x->rank + d;
    bool kept = d == (side == 0 ? x->rank - 1 : x->rank - 2);
    if (d + 2 >= x->rank)
      out_tag[d] = kept ? TAG_INNER : TAG_TOKEN;
    else if (rule_is_one(x->dim[d]))
      out_tag[d] = tag[to] == TAG_INNER ? TAG_INNER : TAG_GONE;
    else
      out_tag[d] = tag[to];
    if (kept && tag[to] != TAG_INNER) return false;
    if (!kept && (out_tag[d] & (TAG_EXPERT | TAG_PLACE)) != 0) return false;
  }
  return true;
}

moe_term_t *moe_read_dispatch(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  for (unsigned side = 0; side < 2; side++) {
    ir_value_t *gate = ir_in(op, side), *x = ir_in(op, 1 - side);
    const moe_fact_t *fact = moe_fact(b->facts, gate);
    unsigned rank = gate->type.rank;
    if (fact->kind != FACT_GATE || fact->source != layout->source || rank < 2 ||
        fact->expert >= 0 || fact->space != NULL || fact->places == NULL ||
        !is_zero(fact->off) || !is_zero(fact->other))
      continue;
    unsigned summed = side == 0 ? rank - 1 : rank - 2;
    uint8_t x_tag[IR_MAX_RANK];
    if (fact->tag[summed] != TAG_TOKEN ||
        !dispatched_tags(op, side, fact->tag, tag, x_tag))
      continue;
    if (!moe_same_places(b->places, fact->places) ||
        !tell_apart(layout->source, fact->places, gate->type.dim[summed]))
      return moe_fail(b, op, "routes have places of their own");
    moe_term_t *is_there = gate_at_place(b, gate, fact->tag, layout->source);
    if (is_there == NULL) return NULL;
    moe_term_t *row = moe_build(
        b, x, x_tag, moe_layout(b, LAYOUT_ROUTES, layout->source, NULL, -1));
    if (row == NULL) return NULL;
    const expr_t *dim[IR_MAX_RANK];
    unsigned n = moe_features(b->terms, &value->type, tag, dim);
    row = moe_term_reshape(b->terms, row, n, dim);
    b->dispatched = true;
    if (moe_is_one_term(is_there)) return row;
    return both(b, OP_MUL, value->type.dtype, row, is_there);
  }
  return NULL;
}

/* When routes have the place that a number of places says. */
static moe_condition_t condition_of(const moe_fact_t *fact) {
  return (moe_condition_t){.source = fact->source,
                           .given = fact->given,
                           .tag = fact->given_tag,
                           .rank = fact->limited ? fact->rank : NULL,
                           .capacity = *fact->source->capacity};
}

static bool has_condition(const moe_fact_t *fact) {
  return fact->given != NULL || fact->limited;
}

/* The row where the scatter had it, 0 elsewhere: routes that it left out may be
 * read. */
static moe_term_t *row_if_there(moe_builder_t *b, const moe_fact_t *fact,
                                moe_term_t *row) {
  bool same =
      fact->limited || (b->taken != NULL && b->taken->given == fact->given);
  if (row == NULL || same) return row;
  moe_term_t *given =
      moe_build(b, fact->given, fact->given_tag,
                moe_layout(b, LAYOUT_ROUTES, fact->source, NULL, -1));
  if (given != NULL) given = scalar(b, given);
  if (given == NULL) return NULL;
  return both(b, OP_MUL, row->dtype, row, cast_to(b, given, row->dtype));
}

/* Scatters into zeros that are added up, or written one over the other. */
typedef struct fills {
  const ir_op_t *op[MOE_MAX_PARTS];
  unsigned n, steps;
} fills_t;

static bool find_fills(const ir_value_t *value, fills_t *out) {
  enum { MAX_STEPS = 64 };
  double zero;
  const ir_op_t *op = value->def;
  if (moe_fill_number(value, &zero) && zero == 0) return true;
  if (op == NULL || ++out->steps > MAX_STEPS) return false;
  if (op->code == OP_ADD) {
    for (unsigned i = 0; i < 2; i++)
      if (!rule_same_dims(&ir_in(op, i)->type, &value->type) &&
          !(moe_fill_number(ir_in(op, i), &zero) && zero == 0))
        return false;
    return find_fills(ir_in(op, 0), out) && find_fills(ir_in(op, 1), out);
  }
  if ((op->code != OP_SCATTER_ND && op->code != OP_SCATTER_ELEMENTS) ||
      out->n == MOE_MAX_PARTS)
    return false;
  out->op[out->n++] = op;
  return find_fills(ir_in(op, 0), out);
}

bool moe_adds_fills(const ir_value_t *value) {
  fills_t fills = {.n = 0};
  return find_fills(value, &fills) && fills.n > 0;
}

/* Of the scatters of all slots, which have places of their own, that of the
 * layout's router; others write elsewhere, or behind all buffers. NULL: not so.
 */
static const ir_op_t *own_fill(moe_builder_t *b, ir_value_t *value,
                               const moe_layout_t *layout) {
  fills_t fills = {.n = 0};
  const moe_source_t *source = layout->source, *whole = NULL;
  const moe_rank_t *rank[MOE_MAX_PARTS] = {NULL};
  const ir_op_t *own = NULL;
  if (!find_fills(value, &fills) || fills.n == 0) return NULL;
  if (fills.n == 1) return fills.op[0];
  for (unsigned i = 0; i < b->facts->n_joints && whole == NULL; i++)
    if (moe_part_index(b->facts->joint[i], source) >= 0)
      whole = b->facts->joint[i];
  if (whole == NULL || fills.n != whole->n_parts ||
      (*whole->capacity != NULL && *whole->capacity != *source->capacity))
    return NULL;
  *whole->capacity = *source->capacity;
  for (unsigned i = 0; i < fills.n; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(fills.op[i], 1));
    int at =
        fact->kind == FACT_BUFFER ? moe_part_index(whole, fact->source) : -1;
    if (at < 0 || rank[at] != NULL || !fact->behind || !fact->limited ||
        *fact->source->capacity != *source->capacity)
      return NULL;
    rank[at] = fact->rank;
    if (fact->source == source) own = fills.op[i];
  }
  return parts_differ(whole, whole->n_parts, rank, whole->tokens) ? own : NULL;
}

moe_term_t *moe_read_filled(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const char *why = "routes have places of their own";
  const ir_op_t *op = own_fill(b, value, layout);
  if (op == NULL) return moe_fail(b, value->def, why);
  ir_value_t *rows = ir_in(op, 2);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  if (fact->kind != FACT_BUFFER || fact->source != layout->source ||
      !has_condition(fact) || value->type.rank != rows->type.rank ||
      !moe_same_places(b->places, fact->places) ||
      !tell_apart(layout->source, fact->places, layout->source->tokens) ||
      tag[0] != (TAG_EXPERT | TAG_PLACE) ||
      (op->code == OP_SCATTER_ELEMENTS &&
       ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0))
    return moe_fail(b, op, why);
  bool adds = rule_scatters_by(op, "add");
  if (!adds && !(rule_scatters_by(op, "none") && fact->behind))
    return moe_fail(b, op, why);
  uint8_t row_tag[IR_MAX_RANK];
  for (unsigned d = 0; d < rows->type.rank; d++) {
    row_tag[d] = d == 0 ? fact->tag[0] : tag[d];
    if (d > 0 &&
        (tag[d] != TAG_INNER || rows->type.dim[d] != value->type.dim[d]))
      return moe_fail(b, op, why);
  }
  const moe_condition_t condition = condition_of(fact);
  if (!fact->behind && !moe_vanishes(b->facts, &condition, rows, row_tag))
    return moe_fail(b, op, "rows without a place add nothing");
  moe_term_t *row = moe_build(
      b, rows, row_tag, moe_layout(b, LAYOUT_ROUTES, layout->source, NULL, -1));
  return row_if_there(b, fact, row);
}

/* ---- Rows out of the buffers --------------------------------------------- */

/* Whether it has zeros behind so many rows, and nothing else around them. */
static bool zeros_behind(const ir_op_t *pad, const expr_t *all) {
  const ir_type_t *from = &ir_in(pad, 0)->type;
  unsigned n;
  double zero;
  const expr_t *const *before = ir_get_exprs(pad, ATTR_PAD_before, &n);
  const expr_t *const *after = ir_get_exprs(pad, ATTR_PAD_after, &n);
  if (strcmp(ir_get_str(pad, ATTR_PAD_mode), "constant") != 0 ||
      (pad->n_in > 1 && (!moe_fill_number(ir_in(pad, 1), &zero) || zero != 0)))
    return false;
  for (unsigned d = 0; d < n; d++)
    if (!expr_equals_const(before[d], 0) ||
        (d > 0 && !expr_equals_const(after[d], 0)))
      return false;
  return from->dim[0] == all;
}

/* The buffers, without a row of zeros behind them. */
static ir_value_t *without_zeros(const moe_builder_t *b, ir_value_t *x,
                                 const moe_source_t *source) {
  const ir_op_t *op = x->def;
  double zero;
  const expr_t *all = expr_mul(b->pool, expr_const(b->pool, source->experts),
                               *source->capacity);
  if (x->type.rank == 0 || x->type.dim[0] == all || op == NULL) return x;
  if (op->code == OP_PAD) return zeros_behind(op, all) ? ir_in(op, 0) : NULL;
  if (op->code != OP_CONCAT || ir_get_int(op, ATTR_CONCAT_axis) != 0 ||
      op->n_in != 2 || ir_in(op, 0)->type.dim[0] != all ||
      !moe_fill_number(ir_in(op, 1), &zero) || zero != 0)
    return NULL;
  return ir_in(op, 0);
}

moe_term_t *moe_read_place(moe_builder_t *b, const ir_op_t *op,
                           const uint8_t *tag, const moe_source_t *source,
                           const moe_fact_t *fact) {
  const char *why = "rows are taken where routes have their places";
  ir_value_t *x = without_zeros(b, ir_in(op, 0), source);
  bool same = b->taken == NULL || (b->taken->given == fact->given &&
                                   b->taken->limited == fact->limited);
  if (x == NULL || !has_condition(fact) || !same ||
      (b->places != NULL && !moe_same_places(b->places, fact->places)))
    return moe_fail(b, op, why);
  b->places = fact->places;
  b->taken = fact;
  b->taken_or_zero = x != ir_in(op, 0) && fact->behind;
  return moe_build(b, x, tag, moe_layout(b, LAYOUT_BUFFER, source, NULL, -1));
}

/* Whether what the root adds up is 0 for routes without a place. */
static bool result_vanishes(moe_builder_t *b, const moe_found_t *found) {
  const ir_op_t *op = found->root->def;
  const moe_condition_t condition = condition_of(b->taken);
  unsigned rank = found->root->type.rank, n, to = 0;
  uint8_t tag[IR_MAX_RANK];
  if (op->code == OP_REDUCE_SUM) {
    ir_value_t *x = ir_in(op, 0);
    const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
    bool keeps = ir_get_int(op, ATTR_REDUCE_SUM_keepdims) != 0;
    for (unsigned d = 0, i = 0; d < x->type.rank; d++) {
      bool goes = i < n && axes[i] == (int64_t)d;
      if (goes) i++;
      tag[d] = goes ? TAG_SLOT : found->tag[to];
      if (!goes || keeps) to++;
    }
    return n == 1 && moe_vanishes(b->facts, &condition, x, tag);
  }
  if (op->code != OP_MATMUL)
    return moe_vanishes(b->facts, &condition, found->root, found->tag);
  for (unsigned i = 0; i < 2; i++) {
    if (ir_in(op, i)->type.rank != rank) continue;
    memcpy(tag, found->tag, rank);
    tag[i == 0 ? rank - 1 : rank - 2] = TAG_SLOT;
    if (moe_vanishes(b->facts, &condition, ir_in(op, i), tag)) return true;
  }
  return false;
}

/* place < capacity, for each route. */
static moe_term_t *is_below(moe_builder_t *b, const moe_source_t *source) {
  moe_term_t *place = place_of_route(b, source);
  if (place == NULL) return NULL;
  place = cast_to(b, place, DT_I64);
  moe_term_t *fits =
      both(b, OP_LT, DT_BOOL, place, number_term(b, *source->capacity));
  bool gaps = false;
  for (unsigned i = 0; i < b->places->n; i++)
    gaps = gaps || b->places->of[i].rank->gaps;
  if (!gaps) return fits;
  moe_term_t *is_one =
      both(b, OP_LE, DT_BOOL, number_term(b, expr_const(b->pool, 0)), place);
  return both(b, OP_AND, DT_BOOL, fits, is_one);
}

/* Routes below the capacity count. */
static bool set_below(moe_builder_t *b, moe_found_t *found) {
  found->below = is_below(b, found->source);
  found->places = b->places;
  found->capacity = *found->source->capacity;
  return found->below != NULL;
}

bool moe_settle_places(moe_builder_t *b, moe_found_t *found) {
  const moe_fact_t *taken = b->taken;
  if (taken == NULL) return true;
  if (!b->taken_or_zero && !result_vanishes(b, found)) {
    moe_fail(b, found->root->def, "routes without a place give nothing");
    return false;
  }
  if (found->active != NULL || found->below != NULL) return false;
  if (taken->limited) return set_below(b, found);
  moe_term_t *kept =
      moe_build(b, taken->given, taken->given_tag,
                moe_layout(b, LAYOUT_ROUTES, found->source, NULL, -1));
  if (kept != NULL) kept = scalar(b, kept);
  if (kept == NULL) return false;
  found->active = cast_to(b, kept, DT_BOOL);
  return true;
}

moe_found_t *moe_match_buffers(moe_builder_t *b, const ir_op_t *op,
                               const moe_source_t *source) {
  for (unsigned side = 0; side < 2; side++) {
    ir_value_t *gate = ir_in(op, side), *y = ir_in(op, 1 - side);
    const moe_fact_t *fact = moe_fact(b->facts, gate);
    unsigned rank = gate->type.rank, y_rank = y->type.rank;
    if (fact->kind != FACT_GATE || fact->source != source ||
        fact->expert >= 0 || fact->space != NULL || fact->places == NULL ||
        rank < 2 || y_rank < 2)
      continue;
    unsigned summed = side == 0 ? rank - 1 : rank - 2;
    if (fact->tag[summed] != (TAG_EXPERT | TAG_PLACE) || !is_zero(fact->off) ||
        !is_zero(fact->other))
      continue;
    b->places = fact->places;
    for (unsigned i = 0; i < fact->places->n; i++)
      if (fact->places->of[i].given != NULL || fact->places->of[i].limited) {
        moe_fail(b, op, "routes have places of their own");
        return NULL;
      }
    uint8_t tag[IR_MAX_RANK], root_tag[IR_MAX_RANK];
    ir_value_t *root = (ir_value_t *)&op->out[0];
    for (unsigned d = 0; d < root->type.rank; d++) root_tag[d] = TAG_INNER;
    for (unsigned d = 0; d < rank; d++)
      if (d != summed) root_tag[root->type.rank - rank + d] = fact->tag[d];
    for (unsigned d = 0; d < y_rank; d++) {
      unsigned to = root->type.rank - y_rank + d;
      bool same = y->type.dim[d] == root->type.dim[to];
      tag[d] = d + 2 >= y_rank ? TAG_INNER : same ? root_tag[to] : TAG_GONE;
    }
    tag[side == 0 ? y_rank - 2 : y_rank - 1] = TAG_EXPERT | TAG_PLACE;
    for (unsigned d = 0; d < root->type.rank; d++)
      if (root_tag[d] != TAG_TOKEN && root_tag[d] != TAG_INNER) return NULL;
    moe_term_t *weight = gate_at_place(b, gate, fact->tag, source);
    if (weight == NULL) return NULL;
    moe_term_t *row =
        moe_build(b, y, tag, moe_layout(b, LAYOUT_BUFFER, source, NULL, -1));
    if (row == NULL) return NULL;
    const expr_t *dim[IR_MAX_RANK];
    unsigned n = moe_features(b->terms, &root->type, root_tag, dim);
    row = moe_term_reshape(b->terms, row, n, dim);
    moe_term_t *term = row;
    if (!moe_is_one_term(weight))
      term = both(b, OP_MUL, root->type.dtype, row, weight);
    moe_term_t *active = NULL; /* what has something but 0 there */
    if (!moe_is_one_term(weight)) active = cast_to(b, weight, DT_BOOL);
    moe_found_t *found = moe_new_found(b, root, root_tag, source, term,
                                       MOE_FORM_CAPACITY, active);
    if (found != NULL && !set_below(b, found)) {
      moe_fail(b, op, "places are numbers of one type");
      return NULL;
    }
    return found;
  }
  return NULL;
}

/* ---- Slots one by one ---------------------------------------------------- */

const moe_source_t *moe_slot_of_buffer(moe_builder_t *b,
                                       const ir_value_t *value,
                                       unsigned *steps) {
  const ir_op_t *op = value->def;
  if (op == NULL || *steps == 0) return NULL;
  --*steps;
  if (op->code == OP_GATHER) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    return fact->kind == FACT_BUFFER && fact->limited &&
                   rule_is_one(fact->source->k)
               ? fact->source
               : NULL;
  }
  if (op->code != OP_RESHAPE && op->code != OP_CAST && op->code != OP_MUL)
    return NULL;
  const moe_source_t *source = NULL;
  for (unsigned i = 0; i < op->n_in && source == NULL; i++)
    source = moe_slot_of_buffer(b, ir_in(op, i), steps);
  return source;
}

/* Reads what one slot takes from the buffers; its places are kept. */
static moe_term_t *read_slot(moe_builder_t *b, const moe_sum_t *sum,
                             const moe_source_t *slot, moe_place_t *place,
                             const moe_part_t **out_part) {
  const moe_part_t *part = NULL;
  for (unsigned i = 0; i < sum->n; i++) {
    const moe_layout_t *layout = sum->part[i].layout;
    if (layout == NULL || layout->source != slot) continue;
    if (part != NULL || layout->kind != LAYOUT_ROUTES) return NULL;
    part = &sum->part[i];
  }
  if (part == NULL) return NULL;
  b->places = NULL;
  b->taken = NULL;
  b->terms->source = slot;
  moe_term_t *term = moe_build(b, part->value, part->tag, part->layout);
  if (term == NULL) return NULL;
  if (b->taken == NULL || !b->taken->limited || !b->taken_or_zero ||
      b->taken->source != slot || b->places->n != 1)
    return moe_fail(b, part->at, "routes without a place give nothing");
  *place = b->places->of[0];
  *out_part = part;
  return term;
}

moe_found_t *moe_match_slot_buffers(moe_builder_t *b, ir_value_t *root,
                                    const moe_sum_t *sum,
                                    const moe_source_t *source) {
  const unsigned n = source->n_parts;
  moe_places_t *places = ARENA_NEW(b->arena, moe_places_t);
  moe_term_t *each[MOE_MAX_PARTS];
  const moe_part_t *part = NULL;
  if (!moe_has_all_slots(sum, source)) {
    moe_fail(b, root->def, "every slot is in the sum");
    return NULL;
  }
  places->n = n;
  for (unsigned i = 0; i < n; i++) {
    each[i] = read_slot(b, sum, source->part[i], &places->of[i], &part);
    b->terms->source = source;
    if (each[i] == NULL) return NULL;
  }
  b->places = places;
  b->taken = NULL;
  *source->capacity = *source->part[0]->capacity;
  moe_term_t *term = moe_join_slots(b, n, each, true);
  if (term == NULL) {
    moe_fail(b, root->def, "all slots are computed in the same way");
    return NULL;
  }
  moe_found_t *found =
      moe_new_found(b, root, part->tag, source, term, MOE_FORM_CAPACITY, NULL);
  if (found != NULL && !set_below(b, found)) {
    moe_fail(b, root->def, "places are numbers of one type");
    return NULL;
  }
  return found;
}
