/* Layers that save nothing.
 *
 * Experts that have no matrices have next to no work. Where results of all
 * experts are used in other ways, too - a router reads them, a likelihood sums
 * over all of them -, they are computed anyway, and a layer would compute some
 * of them again. */
#include "passes/moe_saving.h"

#include "passes/moe_rules.h"

enum { MAX_NESTED = 16, MAX_STEPS = 1000 };

/* ---- What experts have --------------------------------------------------- */

/* A product with a matrix of the expert's own, of more than one row and column.
 */
static bool is_own_product(const moe_term_t *term) {
  if (term->kind != TERM_OP || !term->banks) return false;
  if (term->code == OP_CONVOLVE || term->code == OP_UNFOLD) return true;
  for (unsigned i = 0; term->code == OP_MATMUL && i < term->n; i++) {
    const moe_term_t *x = term->in[i];
    if (x->banks && !x->rows && x->rank >= 2 &&
        !rule_is_one(x->dim[x->rank - 1]) && !rule_is_one(x->dim[x->rank - 2]))
      return true;
  }
  return false;
}

/* Whether experts have matrices. Of a condition on hidden features that stand
 * for no expert each has a vector at most, and so do rows of an embedding. */
static bool have_matrices(const moe_term_t *term, bool own, unsigned *steps) {
  if (*steps == 0) return false;
  --*steps;
  bool product = term->kind == TERM_OP && term->banks &&
                 (term->code == OP_MATMUL || term->code == OP_CONVOLVE ||
                  term->code == OP_UNFOLD);
  if (product && (!own || is_own_product(term))) return true;
  for (unsigned i = 0; term->banks && i < term->n; i++)
    if (have_matrices(term->in[i], own, steps)) return true;
  return false;
}

/* Whether what an expert has of its own meets more than one element at a time:
 * scales and offsets that are picked for a row are nothing to skip. */
static bool only_scales(const moe_term_t *term, unsigned *steps) {
  if (!term->banks || term->kind == TERM_BANK) return true;
  if (*steps == 0 || term->kind != TERM_OP) return false;
  --*steps;
  bool view = term->code == OP_RESHAPE || term->code == OP_TRANSPOSE ||
              term->code == OP_EXPAND || term->code == OP_SLICE;
  if (!view && (ir_op_info(term->code)->traits & ELEMENTWISE) == 0)
    return false;
  for (unsigned i = 0; i < term->n; i++)
    if (!only_scales(term->in[i], steps)) return false;
  return true;
}

bool moe_is_worth(const moe_found_t *found) {
  unsigned steps = MAX_STEPS;
  bool own = found->source->given, matrices = !own && !found->source->by_mask;
  for (unsigned i = 0; i < found->n_terms && !matrices; i++)
    matrices = have_matrices(found->term[i], own, &steps);
  if (matrices && found->form == MOE_FORM_GATHERED && found->n_terms == 1)
    matrices = !found->term[0]->banks || !only_scales(found->term[0], &steps);
  return matrices;
}

bool moe_has_products(const moe_found_t *found) {
  unsigned steps = MAX_STEPS;
  for (unsigned i = 0; i < found->n_terms; i++)
    if (have_matrices(found->term[i], false, &steps)) return true;
  return false;
}

/* ---- What nobody needs once the layer is there --------------------------- */

/* Weights, or those of each row's expert. */
static bool is_weight(const ir_value_t *value, unsigned depth) {
  const ir_op_t *op = value->def;
  if (op == NULL) return true; /* an input, or what a function is given */
  if (rule_is_constant(value)) return true;
  if (depth > MAX_NESTED) return false;
  bool takes = op->code == OP_GATHER || op->code == OP_GATHER_ND ||
               op->code == OP_GATHER_ELEMENTS;
  bool view = op->code == OP_RESHAPE || op->code == OP_TRANSPOSE ||
              op->code == OP_EXPAND || op->code == OP_SLICE ||
              op->code == OP_CONCAT;
  if (!takes && !view && !ir_has_trait(op, ELEMENTWISE)) return false;
  for (unsigned i = 0; i < (takes ? 1 : op->n_in); i++)
    if (ir_in(op, i) != NULL && !is_weight(ir_in(op, i), depth + 1))
      return false;
  return true;
}

static bool is_product(const ir_op_t *op) {
  return op->code == OP_MATMUL || op->code == OP_CONVOLVE ||
         op->code == OP_UNFOLD || op->n_regions > 0;
}

/* A root that is a product may be the sum of what experts gave. */
static bool computes_itself(const ir_op_t *root) {
  if (!is_product(root)) return false;
  for (unsigned i = 0; i < root->n_in; i++)
    if (is_weight(ir_in(root, i), 0)) return true;
  return root->n_regions > 0;
}

/* Values that are reached from a root and die with it. */
typedef struct dying {
  const moe_facts_t *facts;
  const bool *live;
  bool *seen;
  const ir_value_t **pending;
  unsigned n;
} dying_t;

static void reach(dying_t *d, const ir_value_t *value) {
  if (value == NULL || value->number >= d->facts->n_values ||
      d->live[value->number] || d->seen[value->number] || value->def == NULL)
    return;
  d->seen[value->number] = true;
  d->pending[d->n++] = value;
}

bool moe_saves_products(moe_facts_t *facts, const moe_found_t *found,
                        const bool *live) {
  const ir_op_t *root = found->root->def;
  if (computes_itself(root)) return true;
  unsigned n = facts->n_values + 1;
  dying_t d = {.facts = facts,
               .live = live,
               .seen = ARENA_ARRAY(facts->arena, bool, n),
               .pending = ARENA_ARRAY(facts->arena, const ir_value_t *, n)};
  for (unsigned i = 0; i < root->n_in; i++) reach(&d, ir_in(root, i));
  while (d.n > 0) {
    const ir_op_t *op = d.pending[--d.n]->def;
    if (is_product(op)) return true;
    for (unsigned i = 0; i < op->n_in; i++) reach(&d, ir_in(op, i));
  }
  return false;
}
