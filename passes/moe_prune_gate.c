/* Takes experts that are never chosen out of the router: their columns of the
 * gate, and their numbers.
 *
 * Only where what stays is computed as before, to the bit: no sum over all
 * experts' scores, constants alone have a column for each, nobody else reads
 * the numbers, and the product with the gate has few columns, or many, as it
 * had. */
#include <math.h>

#include "ir/element.h"
#include "passes/layout.h"
#include "passes/moe_prune.h"

static int64_t count_kept(const prune_t *p) {
  int64_t n = 0;
  for (int64_t e = 0; e < p->E; e++) n += !p->is_dead[e];
  return n;
}

/* The experts' numbers are read by the layer alone. */
static bool only_names_experts(const prune_t *p) {
  const ir_value_t *v = &p->route->out[0];
  while (v->uses != NULL && v->uses->next == NULL) {
    const ir_op_t *user = v->uses->user;
    if (user == p->experts) return v->uses->index == 0;
    if (user->code != OP_RESHAPE) return false;
    v = user->out;
  }
  return false;
}

/* Scores are computed for each expert by itself, and so they are chosen. */
static bool is_separable(const route_t *r) {
  bool scores = !r->by_logits || r->source == ROUTE_FROM_SCORE;
  if (scores && route_has_step(&r->score, STEP_SOFTMAX)) return false;
  return r->groups == 0 && r->source != ROUTE_FROM_MIXING &&
         r->source != ROUTE_FROM_MIXER;
}

static bool find_arrays(const route_t *r, prune_array_t *array) {
  for (unsigned i = 0; i < ROUTE_MAX_IN; i++) {
    if (i == ROUTE_X || r->in[i] == NULL) continue;
    if (!prune_find_array(NULL, r->in[i], &array[i])) return false;
  }
  return r->in[ROUTE_GATE] != NULL;
}

/* The columns of experts that stay, as a constant of its own. */
static ir_value_t *columns(ir_builder_t *b, const prune_t *p,
                           const ir_value_t *x, const prune_array_t *a,
                           int64_t n) {
  int64_t rows = a->rank == 2 ? a->dim[0] : 1, at = 0;
  uint64_t size = dtype_bytes(x->type.dtype, (uint64_t)(rows * n));
  void *bytes = arena_alloc(b->module->arena, size);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t e = 0; e < p->E; e++) {
      const int64_t pair[] = {i, e};
      if (p->is_dead[e]) continue;
      double number = prune_at(a, a->rank == 2 ? pair : &pair[1]);
      ir_element_set_float(x->type.dtype, bytes, (uint64_t)at++, number);
    }
  const expr_t *dim[] = {expr_const(b->module->exprs, rows),
                         expr_const(b->module->exprs, n)};
  ir_type_t type = x->type;
  type.dim = a->rank == 2 ? dim : &dim[1];
  return ir_tensor(b, &type, bytes, size);
}

static void renumber(prune_t *p, int64_t n) {
  int64_t at = 0;
  for (int64_t e = 0; e < p->E; e++) {
    if (p->is_dead[e]) continue;
    p->structure[at] = p->structure[e];
    p->position[at++] = p->position[e];
  }
  p->E = n;
  ir_set_int(p->experts, ATTR_MOE_EXPERTS_experts, n);
}

static void tell(prune_t *p) {
  for (unsigned i = 0; p->layer != NULL && i < p->layer->n_prunings; i++) {
    moe_pruning_t *record = p->layer->prunings[i];
    if (record->expert < p->E && p->is_dead[record->expert])
      record->leaves_router = true;
  }
}

moec_status_t prune_gate(prune_t *p) {
  prune_array_t array[ROUTE_MAX_IN];
  if (p->route == NULL || !is_separable(&p->r) || !only_names_experts(p) ||
      !find_arrays(&p->r, array))
    return MOEC_OK;
  int64_t n = count_kept(p);
  if (n == p->E || n < p->r.k ||
      (n < LAYOUT_NARROW) != (p->E < LAYOUT_NARROW) ||
      !pass_allow_rewrite(p->ctx, "prune", p->route))
    return MOEC_OK;
  ir_builder_t b = {.module = p->ctx->module,
                    .region = p->route->parent,
                    .before = p->route,
                    .loc = p->route->loc,
                    .diag = p->ctx->diag};
  for (unsigned i = 0; i < p->route->n_in; i++) {
    if (i == ROUTE_X || p->r.in[i] == NULL) continue;
    ir_value_t *x = columns(&b, p, p->r.in[i], &array[i], n);
    MOEC_TRY(b.status);
    ir_set_operand(p->route, i, x);
  }
  tell(p);
  renumber(p, n);
  return ir_infer_types(p->ctx->module, p->route, p->ctx->diag);
}
