/* What depends on the router: values that rows cannot be taken out of without
 * knowing whose they are. */
#include <string.h>

#include "passes/moe_picks.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { ROUTED_MEMOS = 32 };

static bool mentions_count(moe_builder_t *b, const expr_t *e,
                           const moe_source_t *source, unsigned depth,
                           unsigned *steps) {
  if (depth > 16 || *steps == 0) return false;
  --*steps;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind != EXPR_ATOM_SYMBOL) {
        if (mentions_count(b, atom->a, source, depth + 1, steps)) return true;
        if (atom->b != NULL &&
            mentions_count(b, atom->b, source, depth + 1, steps))
          return true;
        continue;
      }
      if (moe_fact_of_symbol(b->facts, atom->symbol)->source == source)
        return true;
      int64_t index;
      const ir_value_t *from = moe_bound_value(b->facts, atom->symbol, &index);
      if (from != NULL && from->content != NULL && from->content[index] != e &&
          mentions_count(b, from->content[index], source, depth + 1, steps))
        return true;
    }
  return false;
}

/* Takes something by the row's expert, or joins what single experts made. */
static bool starts_route(moe_builder_t *b, const ir_op_t *op,
                         const moe_source_t *source) {
  if (op->code == OP_GATHER || op->code == OP_GATHER_ND ||
      op->code == OP_GATHER_ELEMENTS) {
    const ir_value_t *index = ir_in(op, 1);
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    const ir_value_t *value = &op->out[0];
    if (moe_fact(b->facts, (ir_value_t *)value)->kind == FACT_GATE)
      return false; /* whose experts a token has, as rows of a unit matrix */
    moe_pick_t pick;
    if (fact->kind == FACT_NONE && moe_pick_of(b->facts, op, &pick))
      return pick.fact->source == source;
    bool features = op->code != OP_GATHER_ELEMENTS;
    for (unsigned d = 0; d < index->type.rank && !features; d++)
      features = fact->tag[d] == TAG_INNER && !rule_is_one(index->type.dim[d]);
    return features && fact->source == source &&
           (fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL ||
            fact->kind == FACT_PLACE || fact->kind == FACT_BUFFER ||
            fact->kind == FACT_CHOICE);
  }
  if (op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    bool own =
        fact->source == source || moe_part_index(source, fact->source) >= 0;
    if (own && fact->linear != NULL && fact->expert >= 0) return true;
    moe_own_rows_t rows;
    return moe_own_rows(b->facts, ir_in(op, 1), &rows) && rows.source == source;
  }
  if (ir_has_trait(op, ELEMENTWISE) || op->code == OP_REDUCE_SUM)
    return moe_is_member(b, &op->out[0], source);
  if (op->code != OP_CONCAT) return false;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  unsigned steps = 1000;
  return mentions_count(b, ir_in(op, 0)->type.dim[axis], source, 0, &steps);
}

/* What is known of the latest routers that were asked for. */
typedef struct routed_memo {
  const moe_source_t *source[ROUTED_MEMOS];
  signed char *known[ROUTED_MEMOS]; /* by number: 0 not asked, 1 yes, -1 no */
  unsigned latest;
} routed_memo_t;

static signed char *routed_of(moe_builder_t *b, const moe_source_t *source) {
  if (b->routed == NULL) b->routed = ARENA_NEW(b->arena, routed_memo_t);
  routed_memo_t *memo = b->routed;
  const unsigned n_values = b->facts->n_values;
  for (unsigned i = 0; i < ROUTED_MEMOS; i++)
    if (memo->source[i] == source) return memo->known[i];
  unsigned at = memo->latest = (memo->latest + 1) % ROUTED_MEMOS;
  memo->source[at] = source;
  if (memo->known[at] == NULL)
    memo->known[at] = ARENA_ARRAY(b->arena, signed char, n_values + 1);
  else
    memset(memo->known[at], 0, n_values + 1);
  return memo->known[at];
}

void moe_forget_routed(moe_builder_t *b, const moe_source_t *source) {
  for (unsigned i = 0; b->routed != NULL && i < ROUTED_MEMOS; i++)
    if (b->routed->source[i] == source) b->routed->source[i] = NULL;
}

static bool is_routed(moe_builder_t *b, const ir_value_t *value,
                      const moe_source_t *source, signed char *known,
                      unsigned depth) {
  const ir_op_t *op = value->def;
  if (op == NULL || op->n_regions > 0 || value->number >= b->facts->n_values ||
      value->number <= source->index->number) /* in front of the router */
    return false;
  if (b->settled != NULL && b->settled[value->number]) return false;
  signed char *slot = &known[value->number];
  if (*slot != 0) return *slot > 0;
  if (depth > 2000) return false;
  *slot = -1;
  bool routed = starts_route(b, op, source);
  for (unsigned i = 0; i < op->n_in && !routed; i++)
    if (op->in[i].value != NULL)
      routed = is_routed(b, op->in[i].value, source, known, depth + 1);
  *slot = routed ? 1 : -1;
  return routed;
}

bool moe_is_routed(moe_builder_t *b, const ir_value_t *value,
                   const moe_source_t *source) {
  return is_routed(b, value, source, routed_of(b, source), 0);
}

const moe_fact_t *moe_slot_of(moe_builder_t *b, const ir_value_t *value,
                              unsigned *steps) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL || op->n_regions > 0 || *steps == 0 ||
      (b->settled != NULL && b->settled[value->number]))
    return &moe_no_fact;
  --*steps;
  const moe_fact_t *slot = moe_member_slot(b, value);
  if (slot->kind != FACT_NONE) return slot;
  if (op->code == OP_GATHER || op->code == OP_GATHER_ELEMENTS) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    if ((fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL) &&
        fact->slot >= 0)
      return fact;
  }
  moe_pick_t pick;
  if (op->code == OP_GATHER || op->code == OP_GATHER_ND) {
    bool batched = op->code == OP_GATHER_ND &&
                   ir_get_int(op, ATTR_GATHER_ND_batch_dims) > 0;
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    if (batched && fact->kind == FACT_EXPERT && fact->slot >= 0) return fact;
    if (moe_pick_of(b->facts, op, &pick) && pick.fact->slot >= 0)
      return pick.fact;
  }
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_slot_of(b, op->in[i].value, steps);
    if (fact->kind != FACT_NONE) return fact;
  }
  return &moe_no_fact;
}
