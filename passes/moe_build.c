/* Reading terms backwards: where it ends, and which operation is read how. */
#include "passes/moe_build.h"

#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_table.h"
#include "passes/rules.h"

enum { MAX_DEPTH = 300, MAX_STEPS = 200000 };

struct moe_memo {
  const ir_value_t *value;
  const moe_layout_t *layout;
  const uint8_t *tag;
  moe_term_t *term;
  moe_memo_t *next;
};

moe_term_t *moe_fail(moe_builder_t *b, const ir_op_t *op, const char *why) {
  if (b->obligation == NULL) {
    b->blocker = op;
    b->obligation = why;
  }
  return NULL;
}

bool moe_visible(const moe_builder_t *b, const ir_value_t *value) {
  return ir_region_holds(ir_home(value), b->root->parent);
}

const moe_layout_t *moe_layout(moe_builder_t *b, moe_layout_kind_t kind,
                               const moe_source_t *source, const ir_op_t *space,
                               int64_t expert) {
  uint64_t hash = (uintptr_t)source >> 4 ^ (uintptr_t)space >> 4;
  hash = (hash ^ (uint64_t)expert << 3 ^ kind) * UINT64_C(0x9e3779b97f4a7c15);
  moe_layout_list_t **first = &b->layouts[(hash >> 32) % MOE_LAYOUT_SLOTS];
  for (const moe_layout_list_t *l = *first; l != NULL; l = l->next)
    if (l->layout.kind == kind && l->layout.source == source &&
        l->layout.space == space && l->layout.expert == expert)
      return &l->layout;
  moe_layout_list_t *entry = ARENA_NEW(b->arena, moe_layout_list_t);
  *entry = (moe_layout_list_t){{kind, source, space, expert}, *first};
  *first = entry;
  return &entry->layout;
}

/* ---- Leaves -------------------------------------------------------------- */

/* Routes and tokens in order; all else has one element per row. */
static bool is_scalar_row(const ir_type_t *type, const uint8_t *tag) {
  for (unsigned d = 0; d < type->rank; d++)
    if ((tag[d] & TAG_INNER) != 0 &&
        !(tag[d] == TAG_INNER && rule_is_one(type->dim[d])))
      return false;
  return true;
}

/* A number for each token and slot, from one value for each slot. */
static moe_term_t *slots_leaf(moe_builder_t *b, const moe_fact_t *fact,
                              unsigned rank, const expr_t *const *ones) {
  moe_term_t *each[MOE_MAX_PARTS];
  const moe_source_t *source = fact->source;
  const uint8_t flat[1] = {TAG_TOKEN};
  for (unsigned j = 0; j < source->n_parts; j++) {
    ir_value_t *from = fact->at_slot[j];
    uint8_t tag[IR_MAX_RANK];
    if (from == NULL || !moe_visible(b, from)) return NULL;
    const ir_type_t whole = ir_tensor_type(
        from->type.dtype, 1, (const expr_t *const[]){source->tokens});
    if (!moe_tags_reshape(source, &whole, flat, &from->type, tag)) return NULL;
    each[j] = moe_term_leaf(b->terms, TERM_TOKEN, from, tag);
    if (each[j] == NULL || each[j]->dtype != each[0]->dtype) return NULL;
    each[j] = moe_term_reshape(b->terms, each[j], 0, NULL);
  }
  moe_term_t *all = moe_term_slots(b->terms, source->n_parts, each);
  return moe_term_reshape(b->terms, all, rank, ones);
}

/* A gate at the chosen experts: the values it was made from, or itself. */
static moe_term_t *gate_leaf(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_fact_t *fact) {
  unsigned tags = moe_tag_union(value->type.rank, tag);
  const expr_t *ones[IR_MAX_RANK];
  unsigned rank = 0;
  for (unsigned d = 0; d < value->type.rank; d++)
    if (tag[d] == TAG_INNER) ones[rank++] = value->type.dim[d];
  if (fact->at_slot != NULL) {
    moe_term_t *leaf = slots_leaf(b, fact, rank, ones);
    if (leaf != NULL) return leaf;
  }
  if (fact->at_route != NULL &&
      ir_type_count(b->pool, &fact->at_route->type) == fact->source->routes) {
    /* of the same shape as here, so that it broadcasts as before */
    uint8_t flat[1] = {TAG_TOKEN | TAG_SLOT};
    moe_term_t *leaf = NULL;
    ir_value_t *from = fact->at_route;
    const ir_type_t whole = ir_tensor_type(
        from->type.dtype, 1, (const expr_t *const[]){fact->source->routes});
    uint8_t from_tag[IR_MAX_RANK];
    if (moe_tags_reshape(fact->source, &whole, flat, &from->type, from_tag))
      leaf = moe_term_leaf(b->terms, TERM_ROUTE, from, from_tag);
    return leaf != NULL ? moe_term_reshape(b->terms, leaf, rank, ones) : NULL;
  }
  bool stacked = (tags & TAG_EXPERT) != 0 && (tags & TAG_SLOT) == 0;
  return stacked ? moe_term_leaf(b->terms, TERM_GATE, value, tag) : NULL;
}

moe_term_t *moe_row_leaf(moe_builder_t *b, ir_value_t *value,
                         const uint8_t *tag) {
  bool weight = is_scalar_row(&value->type, tag);
  return moe_term_leaf(b->terms, weight ? TERM_ROUTE : TERM_TOKEN, value, tag);
}

/* A value that does not depend on the row or the expert. */
static moe_term_t *steady_leaf(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  bool view =
      op != NULL && (op->code == OP_RESHAPE || op->code == OP_TRANSPOSE);
  bool constant = op != NULL && op->code == OP_CONSTANT;
  if (constant || (moe_visible(b, value) && !view))
    return moe_term_leaf(b->terms, TERM_STEADY, value, tag);
  return moe_read_op(b, value, tag, layout);
}

/* A token's value that is repeated for each slot, and what is computed of it;
 * weights, one number for each route, stay whole. */
static moe_term_t *repeated_token(moe_builder_t *b, ir_value_t *value,
                                  const uint8_t *tag,
                                  const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  if (op == NULL) return NULL;
  bool computes =
      ir_has_trait(op, ELEMENTWISE) && !is_scalar_row(&value->type, tag);
  if (!computes && op->code != OP_RESHAPE && op->code != OP_EXPAND &&
      op->code != OP_GATHER && op->code != OP_TRANSPOSE)
    return NULL;
  const ir_op_t *blocker = b->blocker;
  const char *obligation = b->obligation;
  moe_term_t *term = moe_read_op(b, value, tag, layout);
  b->blocker = blocker;
  b->obligation = obligation;
  return term == NULL || (computes && !term->tokens) ? NULL : term;
}

static moe_term_t *route_leaf(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  unsigned tags = moe_tag_union(value->type.rank, tag);
  if (rule_is_one(layout->source->k)) return moe_row_leaf(b, value, tag);
  if ((tags & TAG_SLOT) == 0)
    return moe_term_leaf(b->terms, TERM_TOKEN, value, tag);
  moe_term_t *term = repeated_token(b, value, tag, layout);
  return term != NULL ? term : moe_term_leaf(b->terms, TERM_ROUTE, value, tag);
}

/* A column of the slots' numbers is a part of those of all routes; all else is
 * the token's. */
static moe_term_t *slot_leaf(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  while (op != NULL && op->code == OP_RESHAPE) op = ir_in(op, 0)->def;
  if (op != NULL && op->code == OP_SLICE && is_scalar_row(&value->type, tag)) {
    ir_value_t *all = ir_in(op, 0);
    unsigned n, last = all->type.rank - 1;
    const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
    uint8_t slots[IR_MAX_RANK];
    bool whole = all->type.dim[last] == layout->source->k &&
                 ir_type_count(b->pool, &all->type) == layout->source->routes;
    for (unsigned d = 0; d < last; d++) {
      slots[d] = TAG_TOKEN;
      whole = whole && rule_slices_all(op, d);
    }
    slots[last] = TAG_SLOT;
    const expr_t *dim[IR_MAX_RANK];
    unsigned rank = moe_features(b->terms, &value->type, tag, dim);
    moe_term_t *leaf = NULL;
    if (whole && expr_equals_const(start[last], layout->expert))
      leaf = moe_term_leaf(b->terms, TERM_ROUTE, all, slots);
    if (leaf != NULL) return moe_term_reshape(b->terms, leaf, rank, dim);
  }
  return moe_term_leaf(b->terms, TERM_TOKEN, value, tag);
}

/* Where there is one token, a dimension of size 1 is that of tokens, though
 * broadcasting and views do not show it. */
static moe_term_t *of_only_token(moe_builder_t *b, ir_value_t *value,
                                 const uint8_t *tag,
                                 const moe_layout_t *layout) {
  const moe_source_t *source = layout->source;
  uint8_t token[IR_MAX_RANK];
  unsigned at = value->type.rank, steps = 256;
  if (!rule_is_one(source->tokens) || source->chooses ||
      !moe_depends_on_data(value, &steps))
    return NULL;
  const moe_fact_t *fact = moe_fact(b->facts, value);
  bool own = fact->kind != FACT_NONE && fact->source == source, known = false;
  for (unsigned d = 0; d < value->type.rank; d++) {
    token[d] = tag[d];
    if (known || !rule_is_one(value->type.dim[d])) continue;
    known = own && fact->tag[d] == TAG_TOKEN;
    if (known || at == value->type.rank || tag[at] != TAG_GONE) at = d;
  }
  if (at == value->type.rank) return NULL;
  token[at] = TAG_TOKEN;
  moe_term_t *term = moe_build(b, value, token, layout);
  return term != NULL ? moe_with_features(b, value, tag, term) : NULL;
}

/* Where reading ends in this layout; NULL: it goes on. */
static moe_term_t *leaf(moe_builder_t *b, ir_value_t *value, const uint8_t *tag,
                        const moe_layout_t *layout) {
  unsigned tags = moe_tag_union(value->type.rank, tag);
  bool rows = (tags & (TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE)) != 0;
  if (layout->kind == LAYOUT_PLACES && (rows || (tags & TAG_EXPERT) != 0))
    return moe_place_leaf(b, value, tag, layout->source);
  if (!rows && layout->kind != LAYOUT_PLACES) {
    moe_term_t *term = of_only_token(b, value, tag, layout);
    if (term != NULL || b->obligation != NULL) return term;
  }
  if (!rows && (tags & TAG_EXPERT) != 0)
    return moe_term_leaf(b->terms, TERM_BANK, value, tag);
  if (!rows) return steady_leaf(b, value, tag, layout);
  const moe_fact_t *fact = moe_fact(b->facts, value);
  bool gate = fact->kind == FACT_GATE && fact->source == layout->source &&
              is_scalar_row(&value->type, tag);
  switch (layout->kind) {
    case LAYOUT_ROUTES:
      if (moe_is_routed(b, value, layout->source)) return NULL;
      if (layout->expert >= 0 && !moe_is_shared(b, value) &&
          !is_scalar_row(&value->type, tag))
        return NULL;
      return route_leaf(b, value, tag,
                        moe_layout(b, LAYOUT_ROUTES, layout->source, NULL, -1));
    case LAYOUT_SLOT:
      return moe_is_routed(b, value, layout->source)
                 ? NULL
                 : slot_leaf(b, value, tag, layout);
    case LAYOUT_BUFFER:
      return layout->source->chooses && (tags & TAG_PLACE) != 0 &&
                     layout->expert < 0 &&
                     !moe_is_routed(b, value, layout->source)
                 ? moe_term_leaf(b->terms, TERM_ROUTE, value, tag)
                 : NULL;
    case LAYOUT_STACK:
      if (gate) return gate_leaf(b, value, tag, fact);
      return (tags & TAG_EXPERT) == 0
                 ? moe_term_leaf(b->terms, TERM_TOKEN, value, tag)
                 : NULL;
    case LAYOUT_DENSE:
      if (gate && fact->expert == layout->expert) {
        moe_term_t *term = gate_leaf(b, value, tag, fact);
        if (term != NULL) return term;
      }
      return value->def == NULL ||
                     (moe_is_shared(b, value) &&
                      moe_others_operand(b, value->def, tag, layout) < 0)
                 ? moe_term_leaf(b->terms, TERM_TOKEN, value, tag)
                 : NULL;
    default:
      return NULL;
  }
}

/* Whether rows meet in an operation itself, and not in front of it: what is
 * computed row by row of something that cannot be read is no end. */
static bool rows_meet(const ir_value_t *value, const uint8_t *tag,
                      const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  const unsigned rows = TAG_TOKEN | TAG_SLOT;
  uint8_t from[IR_MAX_RANK];
  int64_t axis;
  switch (op->code) {
    case OP_MATMUL: /* attention, not a product with weights */
      return !rule_is_constant(ir_in(op, 0)) && !rule_is_constant(ir_in(op, 1));
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_CUM_SUM:
      axis = ir_get_int(op, ir_op_info(op->code)->attr_first);
      return (tag[axis < 0 ? axis + value->type.rank : axis] & rows) != 0;
    case OP_CONVOLVE:
      for (unsigned d = 2; d < value->type.rank; d++)
        if ((tag[d] & rows) != 0) return true;
      return false;
    case OP_RESHAPE:
      return !moe_tags_reshape(layout->source, &value->type, tag,
                               &ir_in(op, 0)->type, from);
    case OP_TRANSPOSE:
      return !moe_keeps_tokens(op, tag);
    default:
      return op->code == OP_WHILE;
  }
}

/* Where rows meet each other, what there is for each route may still be what
 * its expert computes with, whatever it was made of: it is there before. */
static moe_term_t *mixed_leaf(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  if (layout->kind != LAYOUT_ROUTES || layout->source->chooses ||
      !moe_visible(b, value) || is_scalar_row(&value->type, tag) ||
      value->def == NULL || !rows_meet(value, tag, layout))
    return NULL;
  bool slots = (moe_tag_union(value->type.rank, tag) & TAG_SLOT) != 0;
  if (!slots && !rule_is_one(layout->source->k)) return NULL;
  return moe_term_leaf(b->terms, slots ? TERM_ROUTE : TERM_TOKEN, value, tag);
}

/* ---- Reading ------------------------------------------------------------- */

/* The term of an operation; what stood in its way is put aside where rows end
 * there. */
static moe_term_t *read_or_end(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *blocker = b->blocker;
  const char *obligation = b->obligation;
  moe_term_t *term = moe_read_op(b, value, tag, layout);
  if (term != NULL) return term;
  term = mixed_leaf(b, value, tag, layout);
  if (term == NULL || obligation != NULL) return term;
  if (b->aside == NULL) {
    b->aside = b->obligation;
    b->aside_blocker = b->blocker;
  }
  b->blocker = blocker;
  b->obligation = obligation;
  return term;
}

static moe_memo_t **memo_slot(moe_builder_t *b, const ir_value_t *value,
                              const uint8_t *tag, const moe_layout_t *layout) {
  uint64_t hash =
      value->number * UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t)layout >> 4;
  moe_memo_t **slot = &b->memo[(hash ^ hash >> 32) % MOE_MEMO_SLOTS];
  while (*slot != NULL &&
         ((*slot)->value != value || (*slot)->layout != layout ||
          memcmp((*slot)->tag, tag, value->type.rank) != 0))
    slot = &(*slot)->next;
  return slot;
}

moe_term_t *moe_build(moe_builder_t *b, ir_value_t *value, const uint8_t *tag,
                      const moe_layout_t *layout) {
  const moe_memo_t *known = *memo_slot(b, value, tag, layout);
  if (known != NULL) return known->term;
  if (b->depth >= MAX_DEPTH || ++b->steps > MAX_STEPS)
    return moe_fail(b, value->def, "the expert is small enough to be read");
  b->depth++;
  bool carried = moe_is_carried(b, value);
  moe_term_t *term =
      carried ? moe_read_carried(b, value, tag) : leaf(b, value, tag, layout);
  if (term == NULL && !carried) term = read_or_end(b, value, tag, layout);
  b->depth--;
  moe_memo_t *entry = ARENA_NEW(b->arena, moe_memo_t);
  uint8_t *kept = ARENA_ARRAY(b->arena, uint8_t, value->type.rank + 1);
  memcpy(kept, tag, value->type.rank);
  *entry = (moe_memo_t){value, layout, kept, term, NULL};
  *memo_slot(b, value, tag, layout) = entry;
  return term;
}
