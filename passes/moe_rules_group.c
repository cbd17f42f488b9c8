/* Routers that choose in every group of experts: numbers within the group, plus
 * where the group begins. */
#include "passes/moe_rules.h"

/* 0, n, 2n, .. along dimension d of an operand of a sum. */
static bool begins_groups(const ir_value_t *value, const ir_type_t *to,
                          unsigned d, int64_t n) {
  const ir_op_t *op = value->def;
  int64_t by;
  if (op == NULL || op->code != OP_MUL || value->type.rank > to->rank ||
      d < to->rank - value->type.rank)
    return false;
  const unsigned at = d - (to->rank - value->type.rank);
  for (unsigned i = 0; i < value->type.rank; i++)
    if (i == at ? value->type.dim[i] != to->dim[d]
                : !rule_is_one(value->type.dim[i]))
      return false;
  for (unsigned i = 0; i < 2; i++)
    if (rule_splat_int(ir_in(op, i), &by) && by == n &&
        rule_has_one_element(&ir_in(op, i)->type) &&
        ir_in(op, 1 - i)->type.rank == value->type.rank &&
        rule_counts_along(ir_in(op, 1 - i), at))
      return true;
  return false;
}

/* The router within groups whose numbers a sum has in [.., groups, slots], or
 * in [.., groups]; NULL: none. */
static const moe_source_t *router_in_groups(moe_facts_t *facts,
                                            const ir_op_t *add,
                                            int64_t *out_groups) {
  const ir_type_t *to = &add->out[0].type;
  for (unsigned i = 0; i < 2 && add->code == OP_ADD; i++) {
    ir_value_t *own = ir_in(add, i);
    const moe_fact_t *fact = moe_fact(facts, own);
    const moe_source_t *source = fact->source;
    if (fact->kind != FACT_EXPERT || fact->space != NULL || fact->map != NULL ||
        fact->slot >= 0 || source->given || source->some || source->by_mask ||
        source->chooses || !rule_same_dims(&own->type, to))
      continue;
    unsigned slots = source->slot >= 0 ? 1 : 0;
    if (to->rank < slots + 2 ||
        (slots == 1 && fact->tag[to->rank - 1] != TAG_SLOT) ||
        (!source->distinct && !rule_is_one(source->k)))
      continue;
    unsigned d = to->rank - 1 - slots;
    if (fact->tag[d] == TAG_TOKEN && expr_is_const(to->dim[d], out_groups) &&
        *out_groups > 1 && dtype_bits(to->dtype) >= 32 &&
        source->experts <= (1 << 20) / *out_groups &&
        begins_groups(ir_in(add, 1 - i), to, d, source->experts))
      return source;
  }
  return NULL;
}

const moe_fact_t *moe_rule_group(moe_facts_t *facts, ir_value_t *value) {
  int64_t groups;
  const moe_source_t *source = router_in_groups(facts, value->def, &groups);
  if (source == NULL || source->slot >= 0) return NULL;
  return moe_new_router(facts, value, (int)value->type.rank - 1,
                        groups * source->experts, true);
}

const moe_fact_t *moe_rule_group_slots(moe_facts_t *facts, ir_value_t *value) {
  int64_t groups;
  const ir_op_t *add = ir_in(value->def, 0)->def;
  const unsigned last = value->type.rank - 1;
  const moe_source_t *source = add != NULL && value->type.rank > 1
                                   ? router_in_groups(facts, add, &groups)
                                   : NULL;
  if (source == NULL || source->slot < 0 ||
      value->type.dim[last] !=
          expr_mul(facts->pool, expr_const(facts->pool, groups), source->k))
    return NULL;
  return moe_new_router(facts, value, (int)last, groups * source->experts,
                        true);
}
