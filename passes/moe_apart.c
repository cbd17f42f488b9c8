/* Experts whose results stay apart by route.
 *
 * Nothing says where such a layer ends. It is the last operation that computes
 * with something of the expert's own, or that brings rows back to where their
 * routes are: what follows is the same for all experts. These are looked at
 * from the last one of the program to the first, and only as long as something
 * needs them: what lies inside a layer that was found is gone. */
#include "passes/moe_apart.h"

#include <string.h>

#include "passes/moe_levels.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { MAX_NESTED = 12, MAX_VIEWS = 6 };

/* ---- The last operation -------------------------------------------------- */

/* The router whose experts' own values these are, one for each route. */
static const moe_source_t *taken_for(moe_builder_t *b, const ir_value_t *value,
                                     unsigned depth) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL || depth > MAX_NESTED) return NULL;
  if (op->code == OP_GATHER) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
    const moe_fact_t *own = moe_fact(b->facts, (ir_value_t *)value);
    return moe_is_index(fact) && fact->slot < 0 && own->kind != FACT_GATE &&
                   own->kind != FACT_EXPERT
               ? fact->source
               : NULL;
  }
  bool view = op->code == OP_RESHAPE || op->code == OP_TRANSPOSE ||
              op->code == OP_EXPAND || op->code == OP_SLICE;
  if (!view && !ir_has_trait(op, ELEMENTWISE)) return NULL;
  const moe_source_t *source = NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = ir_in(op, i);
    if (rule_is_constant(x)) continue;
    const moe_source_t *own = taken_for(b, x, depth + 1);
    if (own == NULL || (source != NULL && own != source)) return NULL;
    source = own;
  }
  return source;
}

/* An operation of rows with what their experts have of their own. */
static const moe_source_t *meets_experts(moe_builder_t *b, const ir_op_t *op) {
  const moe_source_t *source = NULL;
  bool others = false;
  if (op->code != OP_MATMUL && !ir_has_trait(op, ELEMENTWISE)) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_source_t *own = taken_for(b, ir_in(op, i), 0);
    others = others || (own == NULL && !rule_is_constant(ir_in(op, i)));
    if (own != NULL) source = own;
  }
  return others ? source : NULL;
}

/* Rows that come back to where their routes are. */
static const moe_source_t *comes_back(moe_builder_t *b, const ir_op_t *op) {
  bool scatters = op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS;
  bool gathers = op->code == OP_GATHER || op->code == OP_GATHER_ELEMENTS ||
                 op->code == OP_GATHER_ND;
  if (!scatters && !gathers) return NULL;
  const ir_value_t *rows = ir_in(op, scatters ? 2 : 0);
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  if (fact->source == NULL || !dtype_is_float(rows->type.dtype) ||
      rows->type.rank < 2)
    return NULL;
  bool back;
  if (scatters)
    back = fact->kind == FACT_ROUTE && fact->space != NULL;
  else if (op->code == OP_GATHER)
    back = fact->kind == FACT_PLACE;
  else /* of what all experts gave */
    back = moe_is_index(fact) && fact->slot < 0 && rows->type.rank > 2;
  return back ? fact->source : NULL;
}

const moe_source_t *moe_routes_end(moe_builder_t *b, const ir_op_t *op) {
  if (op->n_out != 1 || !dtype_is_float(op->out[0].type.dtype)) return NULL;
  const moe_source_t *source = meets_experts(b, op);
  if (source == NULL) source = comes_back(b, op);
  return source != NULL && !source->by_mask && !source->chooses ? source : NULL;
}

/* ---- How routes lie ------------------------------------------------------ */

/* Tags of a type whose first n dimensions are tokens, with the slots as one of
 * them (at < n) or within the last one (at = n). False: they are not. */
static bool lie_so(expr_pool_t *pool, const moe_source_t *source,
                   const ir_type_t *type, unsigned n, unsigned at,
                   uint8_t *tag) {
  const expr_t *all = expr_const(pool, 1);
  for (unsigned d = 0; d < type->rank; d++) {
    tag[d] = d < n ? TAG_TOKEN : TAG_INNER;
    if (d < n) all = expr_mul(pool, all, type->dim[d]);
  }
  if (n == type->rank || all != source->routes) return false;
  if (rule_is_one(source->k)) return at == n;
  if (at < n) {
    tag[at] = TAG_SLOT;
    return type->dim[at] == source->k && n > 1;
  }
  tag[n - 1] = TAG_TOKEN | TAG_SLOT;
  return expr_divide_exactly(pool, type->dim[n - 1], source->k) != NULL;
}

static moe_found_t *match_value(moe_builder_t *b, ir_value_t *value,
                                const moe_source_t *source) {
  const moe_layout_t *layout = moe_layout(b, LAYOUT_ROUTES, source, NULL, -1);
  uint8_t tag[IR_MAX_RANK];
  bool tried = false;
  for (unsigned n = 1; n < value->type.rank && !tried; n++)
    for (unsigned i = 0; i <= n; i++) {
      unsigned at = i == n ? n : n - 1 - i; /* slots are the last one, mostly */
      if (!lie_so(b->pool, source, &value->type, n, at, tag)) continue;
      tried = true; /* dimensions of size one behind these are features */
      b->obligation = NULL;
      moe_term_t *term = moe_build(b, value, tag, layout);
      if (term == NULL || b->taken != NULL) continue;
      moe_found_t *found = moe_new_found(
          b, value, tag, source, term,
          b->grouped ? MOE_FORM_GROUPED : MOE_FORM_GATHERED, NULL);
      if (found == NULL) continue;
      found->apart = !rule_is_one(source->k);
      found->open = true;
      return found;
    }
  return NULL;
}

moe_found_t *moe_match_apart(moe_builder_t *b, const ir_op_t *op,
                             const moe_source_t *source) {
  ir_value_t *value = (ir_value_t *)&op->out[0];
  if (moe_is_inner_gate(b->facts, value)) return NULL;
  for (unsigned i = 0; i < MAX_VIEWS; i++) {
    moe_found_t *found = match_value(b, value, source);
    if (found != NULL) return found;
    const ir_use_t *use = value->uses;
    if (use == NULL || use->next != NULL) return NULL;
    const ir_op_t *user = use->user;
    if (user->code != OP_RESHAPE && user->code != OP_TRANSPOSE) return NULL;
    value = (ir_value_t *)&user->out[0];
  }
  return NULL;
}

/* ---- What is of use ------------------------------------------------------ */

typedef struct live {
  moe_facts_t *facts;
  moe_terms_t *terms;
  bool *live;
  const ir_value_t **pending;
  unsigned n, room;
} live_t;

static void need(live_t *l, const ir_value_t *value) {
  if (value == NULL || value->number >= l->facts->n_values ||
      l->live[value->number])
    return;
  l->live[value->number] = true;
  if (l->n == l->room) {
    l->room = l->room == 0 ? 256 : 2 * l->room;
    l->pending = arena_grow_array(l->facts->arena, l->pending, l->n, l->room,
                                  sizeof *l->pending);
  }
  l->pending[l->n++] = value;
}

static void need_term(live_t *l, moe_term_t *term) {
  if (term == NULL || term->asked == l->terms->n_asked) return;
  term->asked = l->terms->n_asked;
  term->chosen = NULL;
  need(l, term->value);
  for (unsigned i = 0; i < term->n_each; i++) need(l, term->each[i]);
  for (unsigned i = 0; i < term->n; i++) need_term(l, term->in[i]);
}

static void need_layer(live_t *l, const moe_found_t *found) {
  need(l, found->source->index);
  need(l, found->over);
  for (unsigned i = 0; i < found->n_rest; i++) need(l, found->rest[i]);
  for (unsigned i = 0; i < found->n_terms; i++) need_term(l, found->term[i]);
  need_term(l, found->active);
  need_term(l, found->below);
}

static void need_operands(live_t *l, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_in; i++) need(l, op->in[i].value);
  for (unsigned i = 0; i < op->n_regions; i++) {
    const ir_op_t *end = op->regions[i].last;
    for (unsigned j = 0; end != NULL && j < end->n_in; j++)
      need(l, end->in[j].value);
  }
}

void moe_find_live(moe_facts_t *facts, moe_terms_t *terms,
                   moe_found_t *const *by_root, bool *out_live) {
  live_t l = {.facts = facts, .terms = terms, .live = out_live};
  memset(out_live, 0, facts->n_values * sizeof *out_live);
  terms->n_asked++;
  const ir_op_t *end = facts->func->body.last;
  if (end != NULL) need_operands(&l, end);
  while (l.n > 0) {
    const ir_value_t *value = l.pending[--l.n];
    const moe_found_t *found = by_root[value->number];
    if (found != NULL)
      need_layer(&l, found);
    else if (value->def != NULL)
      need_operands(&l, value->def);
  }
}
