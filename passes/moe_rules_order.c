/* Facts of routers whose tokens are brought into another order: those with the
 * greatest scores first, say, so that these are counted first. What is known of
 * the tokens in that order is known of them in their own when it comes back. */
#include <string.h>

#include "passes/moe_rules.h"

/* ---- Permutations -------------------------------------------------------- */

/* All positions along the last dimension that is not 1, in the order of what
 * is there; NULL: it is something else. */
static const ir_op_t *sorting(const ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op == NULL || op->code != OP_TOPK || value->index != 1) return NULL;
  const ir_type_t *type = &value->type;
  int64_t axis = ir_get_int(op, ATTR_TOPK_axis);
  if (axis < 0) axis += type->rank;
  for (unsigned d = (unsigned)axis + 1; d < type->rank; d++)
    if (!rule_is_one(type->dim[d])) return NULL;
  return ir_get_expr(op, ATTR_TOPK_k) == ir_in(op, 0)->type.dim[axis] ? op
                                                                      : NULL;
}

/* Views that add or take away dimensions of 1. */
static const ir_value_t *without_ones(const ir_value_t *value) {
  enum { MAX_VIEWS = 8 };
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    if (op->code != OP_CAST && op->code != OP_RESHAPE) return value;
    const ir_value_t *from = op->in[0].value;
    if (op->code == OP_CAST && !(dtype_is_integer(value->type.dtype) &&
                                 dtype_is_integer(from->type.dtype)))
      return value;
    unsigned at = 0;
    for (unsigned d = 0; d < value->type.rank; d++) {
      if (rule_is_one(value->type.dim[d])) continue;
      while (at < from->type.rank && rule_is_one(from->type.dim[at])) at++;
      if (at == from->type.rank || from->type.dim[at] != value->type.dim[d])
        return value;
      at++;
    }
    for (; at < from->type.rank; at++)
      if (!rule_is_one(from->type.dim[at])) return value;
    value = from;
  }
  return value;
}

/* A permutation behind an index along an axis, the same for all dimensions but
 * those with a tag of tokens; *out_from: what it is a view of. NULL: it is
 * none.
 */
static const ir_value_t *permutation(const ir_value_t *index, int64_t axis,
                                     const uint8_t *tag) {
  const ir_type_t *type = &index->type;
  int last = -1;
  if (index->def != NULL && index->def->code == OP_EXPAND)
    index = index->def->in[0].value;
  unsigned shift = type->rank - index->type.rank;
  for (unsigned d = 0; d < index->type.rank; d++) {
    if (rule_is_one(index->type.dim[d])) continue;
    if (index->type.dim[d] != type->dim[shift + d] ||
        tag[shift + d] != TAG_TOKEN)
      return NULL;
    last = (int)(shift + d);
  }
  return last == (int)axis ? without_ones(index) : NULL;
}

/* The positions of 0, 1, .. in a permutation: sorted by it, or written there.
 */
static bool is_inverse(const ir_value_t *value, const ir_op_t *order) {
  const ir_op_t *op = value->def;
  const ir_value_t *of = &order->out[1];
  if (sorting(value) == op && op != NULL && op->code == OP_TOPK)
    return ir_get_int(op, ATTR_TOPK_largest) == 0 &&
           ir_get_int(op, ATTR_TOPK_sorted) != 0 &&
           without_ones(op->in[0].value) == of &&
           rule_same_dims(&value->type, &of->type);
  bool scatters = op != NULL && (op->code == OP_SCATTER_ELEMENTS ||
                                 op->code == OP_SCATTER_ND);
  return scatters && value->type.rank == 1 && of->type.rank == 1 &&
         rule_scatters_by(op, "none") && without_ones(op->in[1].value) == of &&
         value->type.dim[0] == of->type.dim[0] &&
         rule_counts_along(op->in[2].value, 0);
}

/* ---- Facts --------------------------------------------------------------- */

/* All tokens of a group lie along the axis, and other groups in front of it. */
static bool is_token_axis(const moe_fact_t *fact, const ir_type_t *type,
                          int64_t axis) {
  for (unsigned d = (unsigned)axis + 1; d < type->rank; d++)
    if ((fact->tag[d] & TAG_TOKEN) != 0) return false;
  return fact->tag[axis] == TAG_TOKEN;
}

/* The router whose tokens these are, in that order. */
static const moe_fact_t *turned_router(moe_facts_t *facts, ir_value_t *value,
                                       const moe_fact_t *fact,
                                       const ir_op_t *order) {
  int slot = -1;
  if (!moe_is_expert(fact) || fact->slot >= 0) return NULL;
  for (unsigned d = 0; d < value->type.rank; d++) {
    if (fact->tag[d] == TAG_SLOT && slot < 0)
      slot = (int)d;
    else if (fact->tag[d] != TAG_TOKEN)
      return NULL;
  }
  const moe_fact_t *out = moe_new_router(
      facts, value, slot, fact->source->experts, fact->source->distinct);
  moe_source_t *source = (moe_source_t *)out->source; /* it is being made */
  source->given = fact->source->given;
  source->some = fact->source->some;
  source->turned = fact->source;
  source->order = order;
  return out;
}

/* The number of a route, counted in another order of tokens than theirs. */
static const moe_rank_t *turned_back(moe_facts_t *facts, const moe_rank_t *rank,
                                     const expr_t *group) {
  const moe_source_t *source = rank->source;
  if (rank->n_parts > 0 || rank->by != NULL || rank->n_base > 0 ||
      rank->counted != group || source->turned == NULL)
    return NULL;
  moe_rank_t *copy = ARENA_NEW(facts->arena, moe_rank_t);
  *copy = *rank;
  copy->source = source->turned;
  copy->by = source->order;
  return copy;
}

/* The fact of a value in the order of the router that was turned. */
static const moe_fact_t *fact_back(moe_facts_t *facts, const moe_fact_t *fact,
                                   const expr_t *group) {
  const moe_source_t *whole = fact->source->turned;
  bool gate = fact->kind == FACT_GATE && fact->places == NULL;
  if (whole == NULL || fact->space != NULL || fact->given != NULL ||
      (!gate && fact->kind != FACT_RANK &&
       !(fact->kind == FACT_EXPERT && fact->slot < 0)))
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, fact);
  moe_constant_t on = fact->on;
  moe_forget_on(out);
  out->on = on;
  out->source = whole;
  if (fact->rank != NULL) {
    out->rank = turned_back(facts, fact->rank, group);
    if (out->rank == NULL) return NULL;
  }
  return out;
}

const moe_fact_t *moe_rule_order(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0);
  const ir_value_t *index = ir_in(op, 1);
  const moe_fact_t *fact = moe_fact(facts, x);
  bool each = op->code == OP_GATHER_ELEMENTS;
  int64_t axis =
      ir_get_int(op, each ? ATTR_GATHER_ELEMENTS_axis : ATTR_GATHER_axis);
  if (axis < 0) axis += x->type.rank;
  if (fact->kind == FACT_NONE || fact->space != NULL ||
      !rule_same_dims(&x->type, &value->type) ||
      !is_token_axis(fact, &x->type, axis))
    return NULL;
  const ir_value_t *by = each ? permutation(index, axis, fact->tag)
                         : index->type.rank == 1 ? without_ones(index)
                                                 : NULL;
  if (by == NULL) return NULL;
  if (fact->source->turned != NULL && is_inverse(by, fact->source->order))
    return fact_back(facts, fact, value->type.dim[axis]);
  const ir_op_t *order = sorting(by);
  return order != NULL ? turned_router(facts, value, fact, order) : NULL;
}

const moe_fact_t *moe_rule_order_back(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 2);
  const ir_value_t *index = ir_in(op, 1);
  const moe_fact_t *fact = moe_fact(facts, x);
  if (fact->kind == FACT_NONE || fact->source->turned == NULL ||
      !rule_scatters_by(op, "none") || !rule_same_dims(&x->type, &value->type))
    return NULL;
  int64_t axis = 0;
  const ir_value_t *by = without_ones(index);
  if (op->code == OP_SCATTER_ELEMENTS) {
    axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
    if (axis < 0) axis += x->type.rank;
    by = rule_same_dims(&index->type, &x->type)
             ? permutation(index, axis, fact->tag)
             : NULL;
  } else if (index->type.rank != 2 ||
             !rule_is_one(index->type.dim[index->type.rank - 1])) {
    return NULL;
  }
  if (by != &fact->source->order->out[1] ||
      !is_token_axis(fact, &x->type, axis))
    return NULL;
  return fact_back(facts, fact, value->type.dim[axis]);
}
