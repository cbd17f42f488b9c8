/* One expert per token: there is no sum, and what the expert gives is found by
 * its uses. */
#include "passes/moe_levels.h"
#include "passes/moe_match.h"
#include "passes/moe_picks.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

/* Something that an expert of its own has, taken for each token. */
static bool is_taken(moe_builder_t *b, const ir_value_t *value,
                     const moe_source_t *source, unsigned depth) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL || depth > 8) return false;
  if (op->code == OP_GATHER) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    const moe_fact_t *own = moe_fact(b->facts, (ir_value_t *)value);
    return moe_is_index(fact) && fact->source == source &&
           own->kind != FACT_GATE;
  }
  bool view = op->code == OP_RESHAPE || op->code == OP_TRANSPOSE ||
              op->code == OP_EXPAND || op->code == OP_CAST ||
              op->code == OP_SLICE;
  return view && is_taken(b, ir_in(op, 0), source, depth + 1);
}

/* Whether a later operation computes with an expert's own values, too. */
static bool goes_on(moe_builder_t *b, const ir_op_t *op,
                    const moe_source_t *source) {
  for (const ir_op_t *next = op->next; next != NULL; next = next->next) {
    bool takes = false, follows = false;
    for (unsigned i = 0; i < next->n_in; i++) {
      bool taken = is_taken(b, ir_in(next, i), source, 0);
      takes = takes || taken;
      follows = follows || (ir_in(next, i) != NULL && !taken &&
                            moe_is_routed(b, ir_in(next, i), source));
    }
    if (takes && follows) return true;
  }
  return false;
}

static bool takes_any(moe_builder_t *b, const ir_op_t *op,
                      const moe_source_t *source) {
  for (unsigned i = 0; i < op->n_in; i++)
    if (is_taken(b, ir_in(op, i), source, 0)) return true;
  return false;
}

/* The value with the route's weight on it, where that is its only use. */
static ir_value_t *with_weight(moe_builder_t *b, ir_value_t *value,
                               const moe_source_t *source) {
  for (unsigned i = 0; i < 4; i++) {
    const ir_use_t *use = value->uses;
    if (use == NULL || use->next != NULL) return value;
    ir_op_t *user = use->user;
    if (user->code == OP_RESHAPE && user->next != NULL &&
        user->out[0].uses != NULL && user->out[0].uses->next == NULL &&
        user->out[0].uses->user->code == OP_MUL) {
      value = &user->out[0];
      continue;
    }
    if (user->code != OP_MUL) return value;
    const ir_value_t *w = ir_in(user, 1 - use->index);
    if (moe_is_routed(b, w, source) || w->type.rank != value->type.rank ||
        !rule_is_one(w->type.dim[w->type.rank - 1]))
      return value;
    value = &user->out[0];
  }
  return value;
}

/* Sorted rows in the order of tokens again. */
static bool comes_back(moe_builder_t *b, const ir_op_t *op,
                       const moe_source_t *source) {
  bool gather = op->code == OP_GATHER;
  if (!gather && op->code != OP_SCATTER_ND && op->code != OP_SCATTER_ELEMENTS)
    return false;
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  if (gather && fact->kind == FACT_BUFFER && fact->source == source)
    return true;
  return fact->source == source && fact->space != NULL &&
         fact->linear == NULL &&
         fact->kind == (gather ? FACT_PLACE : FACT_ROUTE) &&
         moe_is_routed(b, ir_in(op, gather ? 0 : 2), source);
}

/* One expert's result of those of all, which is not what gates in groups say.
 */
static bool picks(moe_builder_t *b, const ir_op_t *op,
                  const moe_source_t *source) {
  moe_pick_t pick;
  if (moe_pick_of(b->facts, op, &pick)) return pick.fact->source == source;
  if ((op->code != OP_GATHER_ELEMENTS && op->code != OP_GATHER_ND) ||
      moe_is_inner_gate(b->facts, ir_in(op, 0)))
    return false;
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  return moe_is_index(fact) && fact->source == source && fact->space == NULL &&
         ir_in(op, 0)->number > source->index->number;
}

moe_found_t *moe_match_single(moe_builder_t *b, const ir_op_t *op,
                              const moe_source_t *source) {
  if (!rule_is_one(source->k) || op->n_out != 1) return NULL;
  bool computes = (op->code == OP_MATMUL || ir_has_trait(op, ELEMENTWISE)) &&
                  takes_any(b, op, source) && !goes_on(b, op, source);
  if (!computes && !comes_back(b, op, source) && !picks(b, op, source))
    return NULL;
  ir_value_t *root = with_weight(b, (ir_value_t *)&op->out[0], source);
  uint8_t tag[IR_MAX_RANK];
  for (unsigned n = 1; n < root->type.rank; n++) {
    if (moe_route_tags(b, &root->type, source, n, tag) == 0) continue;
    moe_term_t *term =
        moe_build(b, root, tag, moe_layout(b, LAYOUT_ROUTES, source, NULL, -1));
    return moe_new_found(b, root, tag, source, term, moe_form_of_rows(b), NULL);
  }
  return NULL;
}
