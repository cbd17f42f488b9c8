/* Gates of two levels: weight of a group times weight of an expert in it. */
#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"

static const moe_constant_t unknown = {false, 0};

/* The tag of an operand's dimension that becomes dimension d of the result. */
static unsigned tag_at(const ir_type_t *to, unsigned d, const ir_type_t *from,
                       const uint8_t *tag) {
  unsigned shift = to->rank - from->rank;
  bool there = d >= shift && from->dim[d - shift] == to->dim[d];
  return there ? tag[d - shift] : TAG_INNER;
}

/* Tags of outer[tokens.., groups, 1] * inner[tokens.., groups, experts]; false
 * where the operands are something else. */
static bool nested_tags(const ir_op_t *op, unsigned side,
                        const moe_fact_t *outer, const moe_fact_t *inner,
                        uint8_t *tag) {
  const ir_type_t *to = &op->out[0].type;
  int group = -1, expert = -1;
  for (unsigned d = 0; d < to->rank; d++) {
    unsigned o = tag_at(to, d, &ir_in(op, side)->type, outer->tag);
    unsigned i = tag_at(to, d, &ir_in(op, 1 - side)->type, inner->tag);
    tag[d] = (uint8_t)i;
    if (o == TAG_EXPERT && i == TAG_TOKEN && group < 0 && expert < 0)
      tag[group = (int)d] = TAG_EXPERT;
    else if (o == TAG_INNER && i == TAG_EXPERT && group >= 0 && expert < 0)
      expert = (int)d;
    else if (o != i && !rule_is_one(to->dim[d]))
      return false;
    if (i == TAG_TOKEN && group >= 0 && (int)d > group) return false;
  }
  return expert >= 0;
}

static bool is_plain(const moe_fact_t *fact) {
  return fact->kind == FACT_GATE && fact->space == NULL && fact->expert < 0 &&
         fact->places == NULL && fact->source->n_parts == 0;
}

const moe_fact_t *moe_nested_gate(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op->code != OP_MUL && op->code != OP_AND) return NULL;
  for (unsigned side = 0; side < 2; side++) {
    const moe_fact_t *outer = moe_fact(facts, ir_in(op, side));
    const moe_fact_t *inner = moe_fact(facts, ir_in(op, 1 - side));
    uint8_t tag[IR_MAX_RANK];
    if (!is_plain(outer) || !is_plain(inner) ||
        outer->source == inner->source || outer->source->by_mask ||
        inner->source->by_mask ||
        inner->source->tokens !=
            moe_times(facts->pool, outer->source->tokens,
                      expr_const(facts->pool, outer->source->experts)) ||
        !nested_tags(op, side, outer, inner, tag))
      continue;
    const moe_source_t *whole =
        moe_nested_source(facts, outer->source, inner->source);
    if (whole == NULL) return NULL;
    moe_fact_t *out = moe_fact_new(facts, FACT_GATE, whole);
    for (unsigned d = 0; d < value->type.rank; d++) out->tag[d] = tag[d];
    bool zero = outer->off.known && outer->off.x == 0 && inner->off.known &&
                inner->off.x == 0;
    if (!zero) return NULL;
    out->off = (moe_constant_t){true, 0};
    out->on = outer->on.known && inner->on.known
                  ? (moe_constant_t){true, outer->on.x * inner->on.x}
                  : unknown;
    return out;
  }
  return NULL;
}

const moe_source_t *moe_nested_source(moe_facts_t *facts,
                                      const moe_source_t *outer,
                                      const moe_source_t *inner) {
  for (const moe_nest_t *nest = facts->nests; nest != NULL; nest = nest->next)
    if (nest->outer == outer->index && nest->inner == inner->index)
      return moe_fact(facts, nest->whole)->source;
  moe_nest_t *wanted = ARENA_NEW(facts->arena, moe_nest_t);
  *wanted = (moe_nest_t){outer->index, inner->index, NULL, facts->wanted_nests};
  facts->wanted_nests = wanted;
  return NULL;
}
