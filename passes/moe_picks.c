/* What a token's own expert made, taken from what all experts made of all
 * tokens: by the numbers of the token and of the expert, as a tuple or as one
 * number of a flattened tensor. */
#include "passes/moe_picks.h"

#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

/* Whether an index of these dimensions, of which one runs over all tokens, has
 * the token's number. */
static bool is_token(const ir_value_t *value, const ir_type_t *type,
                     const moe_fact_t *expert) {
  const moe_source_t *source = expert->source;
  enum { MAX_VIEWS = 6 };
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    if (value->def->code != OP_CAST && value->def->code != OP_EXPAND) break;
    value = ir_in(value->def, 0);
  }
  if (value->type.rank > type->rank) return false;
  unsigned shift = type->rank - value->type.rank;
  for (unsigned d = 0; d < value->type.rank; d++)
    if (value->type.dim[d] == source->tokens &&
        type->dim[shift + d] == source->tokens &&
        expert->tag[shift + d] == TAG_TOKEN && rule_counts_along(value, d))
      return true;
  return false;
}

/* A number of experts, and all tokens in one dimension. */
static const moe_fact_t *own_experts(moe_facts_t *facts, ir_value_t *value) {
  const moe_fact_t *fact = moe_fact(facts, value);
  return moe_is_expert(fact) && fact->space == NULL ? fact : &moe_no_fact;
}

/* value * n, n a known size; NULL: it is not. */
static ir_value_t *times(ir_value_t *value, const expr_t *n) {
  const ir_op_t *op = value->def;
  for (unsigned i = 0; op != NULL && op->code == OP_MUL && i < 2; i++)
    if (moe_known_number(ir_in(op, i)) == n) return ir_in(op, 1 - i);
  return NULL;
}

static const moe_fact_t *flat_number(moe_facts_t *facts, ir_value_t *index,
                                     bool *out_expert_first) {
  const ir_op_t *op = index->def;
  if (op == NULL || op->code != OP_ADD || index->type.dtype != DT_I64)
    return &moe_no_fact;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *inner = ir_in(op, i), *outer = ir_in(op, 1 - i);
    const moe_fact_t *fact = own_experts(facts, inner);
    if (fact->kind != FACT_NONE &&
        rule_same_dims(&inner->type, &index->type)) { /* token * E + expert */
      ir_value_t *token =
          times(outer, expr_const(facts->pool, fact->source->experts));
      if (token == NULL || !is_token(token, &index->type, fact)) continue;
      *out_expert_first = false;
      return fact;
    }
    const ir_op_t *product = outer->def;
    for (unsigned j = 0; product != NULL && product->code == OP_MUL && j < 2;
         j++) {
      ir_value_t *expert = ir_in(product, j); /* expert * T + token */
      fact = own_experts(facts, expert);
      if (fact->kind == FACT_NONE ||
          !rule_same_dims(&expert->type, &index->type) ||
          times(outer, fact->source->tokens) != expert ||
          !is_token(inner, &index->type, fact))
        continue;
      *out_expert_first = true;
      return fact;
    }
  }
  return &moe_no_fact;
}

const moe_fact_t *moe_flat_expert(moe_facts_t *facts, ir_value_t *index,
                                  uint8_t *out_tag, bool *out_expert_first) {
  const ir_type_t *type = &index->type;
  while (index->def != NULL && index->def->code == OP_RESHAPE &&
         moe_fact(facts, index)->kind == FACT_NONE)
    index = ir_in(index->def, 0);
  const moe_fact_t *fact = flat_number(facts, index, out_expert_first);
  return fact->kind != FACT_NONE && moe_tags_reshape(fact->source, &index->type,
                                                     fact->tag, type, out_tag)
             ? fact
             : &moe_no_fact;
}

static bool counts_to(const ir_value_t *value, const expr_t *n) {
  while (value->def != NULL &&
         (value->def->code == OP_CAST || value->def->code == OP_EXPAND))
    value = ir_in(value->def, 0);
  for (unsigned d = 0; d < value->type.rank; d++)
    if (value->type.dim[d] == n && rule_counts_along(value, d)) return true;
  return false;
}

ir_value_t *moe_flat_candidate(const ir_op_t *op, const expr_t **out_experts) {
  const ir_op_t *x = ir_in(op, 0)->def, *index = ir_in(op, 1)->def;
  while (index != NULL && index->code == OP_RESHAPE)
    index = ir_in(index, 0)->def;
  if (x == NULL || index == NULL || index->code != OP_ADD) return NULL;
  bool joined = x->code == OP_CONCAT && ir_get_int(x, ATTR_CONCAT_axis) == 0;
  if (!joined && x->code != OP_RESHAPE) return NULL;
  const ir_type_t *from = &ir_in(x, 0)->type;
  if (!joined && from->rank < 3) return NULL;
  for (unsigned i = 0; i < 4; i++) {
    ir_value_t *beside = ir_in(index, i % 2);
    const ir_op_t *product = ir_in(index, 1 - i % 2)->def;
    if (product == NULL || product->code != OP_MUL) continue;
    ir_value_t *number = ir_in(product, i / 2);
    const expr_t *n = moe_known_number(ir_in(product, 1 - i / 2));
    if (n == NULL) continue;
    if (from->dim[joined ? 0 : 1] == n && counts_to(beside, n)) {
      *out_experts =
          joined ? expr_const(op->module->exprs, x->n_in) : from->dim[0];
      return number;
    }
    if (!joined && from->dim[1] == n && counts_to(number, from->dim[0])) {
      *out_experts = n;
      return beside;
    }
  }
  return NULL;
}

/* Tuples of a token's number and its expert's, [rows, 2]. */
static const moe_fact_t *tuple_expert(moe_facts_t *facts, ir_value_t *index,
                                      bool *out_expert_first) {
  const ir_op_t *op = index->def;
  if (op == NULL || op->code != OP_CONCAT || op->n_in != 2 ||
      index->type.rank < 2 ||
      ir_get_int(op, ATTR_CONCAT_axis) != (int64_t)index->type.rank - 1)
    return &moe_no_fact;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *expert = ir_in(op, i), *token = ir_in(op, 1 - i);
    const moe_fact_t *fact = own_experts(facts, expert);
    if (fact->kind == FACT_NONE ||
        !rule_is_one(expert->type.dim[index->type.rank - 1]) ||
        !rule_is_one(token->type.dim[index->type.rank - 1]) ||
        !is_token(token, &expert->type, fact))
      continue;
    *out_expert_first = i == 0;
    return fact;
  }
  return &moe_no_fact;
}

/* Whether x[T, experts, ..] or x[experts, T, ..] has all that is taken. */
static bool is_stack(moe_facts_t *facts, const ir_value_t *x,
                     const moe_source_t *source, bool expert_first) {
  if (x->type.rank < 2) return false;
  const expr_t *n = expr_const(facts->pool, source->experts);
  unsigned at = expert_first ? 0 : 1;
  return x->type.dim[at] == n && x->type.dim[1 - at] == source->tokens;
}

/* One part [T, ..] of each expert, one behind the other. */
static bool is_joined(const ir_value_t *x, const moe_source_t *source) {
  const ir_op_t *op = x->def;
  if (op == NULL || op->code != OP_CONCAT ||
      ir_get_int(op, ATTR_CONCAT_axis) != 0 ||
      (int64_t)op->n_in != source->experts)
    return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (ir_in(op, i)->type.dim[0] != source->tokens) return false;
  return true;
}

bool moe_pick_of(moe_facts_t *facts, const ir_op_t *op, moe_pick_t *out) {
  ir_value_t *x = ir_in(op, 0), *index = ir_in(op, 1);
  bool first = false;
  out->joined = false;
  if (op->code == OP_GATHER) {
    int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
    if (axis != 0 || x->def == NULL) return false;
    out->fact = moe_flat_expert(facts, index, out->tag, &first);
    out->lead = index->type.rank;
    if (out->fact->kind != FACT_NONE && first &&
        is_joined(x, out->fact->source)) {
      out->joined = true;
      out->x = x;
      return true;
    }
    if (x->def->code != OP_RESHAPE) return false;
    const ir_value_t *from = ir_in(x->def, 0);
    if (out->fact->kind == FACT_NONE || x->type.rank + 1 != from->type.rank)
      return false;
    for (unsigned d = 1; d < x->type.rank; d++)
      if (x->type.dim[d] != from->type.dim[d + 1]) return false;
    x = ir_in(x->def, 0);
  } else if (op->code == OP_GATHER_ND &&
             ir_get_int(op, ATTR_GATHER_ND_batch_dims) == 0) {
    out->fact = tuple_expert(facts, index, &first);
    out->lead = index->type.rank - 1;
    memcpy(out->tag, out->fact->tag, sizeof out->tag);
  } else {
    return false;
  }
  if (out->fact->kind == FACT_NONE ||
      !is_stack(facts, x, out->fact->source, first))
    return false;
  out->x = x;
  out->expert_axis = first ? 0 : 1;
  return true;
}

bool moe_names_own_experts(const moe_fact_t *fact, const moe_layout_t *layout) {
  bool all = layout->kind == LAYOUT_ROUTES && fact->slot < 0;
  bool one = layout->kind == LAYOUT_SLOT && fact->slot == layout->expert;
  return (all || one) && moe_is_index(fact) && fact->source == layout->source &&
         fact->space == NULL;
}

moe_term_t *moe_read_picked(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  moe_pick_t pick;
  uint8_t stack[IR_MAX_RANK];
  if (!moe_pick_of(b->facts, op, &pick) ||
      !moe_names_own_experts(pick.fact, layout) ||
      pick.x->type.rank + pick.lead != value->type.rank + 2 - pick.joined)
    return NULL;
  for (unsigned d = 0; d < value->type.rank; d++)
    if (d < pick.lead
            ? tag[d] != pick.tag[d] && !rule_is_one(value->type.dim[d])
            : tag[d] != TAG_INNER)
      return NULL;
  for (unsigned d = 0; d < pick.x->type.rank; d++) stack[d] = TAG_INNER;
  moe_term_t *term;
  if (pick.joined) {
    stack[0] = TAG_TOKEN;
    term = moe_read_parts(b, pick.x->def, stack, layout);
  } else {
    stack[pick.expert_axis] = TAG_EXPERT;
    stack[1 - pick.expert_axis] = TAG_TOKEN;
    term = moe_build(b, pick.x, stack,
                     moe_layout(b, LAYOUT_STACK, layout->source, NULL, -1));
  }
  return term != NULL ? moe_with_features(b, value, tag, term) : NULL;
}
