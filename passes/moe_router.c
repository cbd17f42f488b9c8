/* Routers of Mixture-of-Experts layers become moe.route. */
#include "passes/moe_report.h"
#include "passes/moe_router_internal.h"

/* ---- Where it can stand -------------------------------------------------- */

/* Its number in program order; 0: it has none, or came here since. */
static unsigned order_of(const ir_op_t *op) {
  return op->n_out > 0 ? op->out[0].number : 0;
}

static bool comes_before(const ir_op_t *a, const ir_op_t *b) {
  if (a->parent == b->parent && order_of(a) != 0 && order_of(b) != 0)
    return order_of(a) <= order_of(b);
  for (; a != NULL; a = a->next)
    if (a == b) return true;
  return false;
}

/* The operation of that region that is `at` or contains it. */
static const ir_op_t *outer(const ir_op_t *at, const ir_region_t *region) {
  while (at != NULL && at->parent != region) at = at->parent->owner;
  return at;
}

static bool is_available(const ir_value_t *x, const ir_op_t *place) {
  const ir_op_t *at = outer(place, ir_home(x));
  if (at == NULL) return false;
  return x->def == NULL || (x->def != at && comes_before(x->def, at));
}

static bool can_be_had(const ir_value_t *x, const ir_op_t *place) {
  return x == NULL || is_available(x, place) || rule_is_constant(x);
}

static bool find_place(moe_router_t *r) {
  ir_op_t *a = r->expert->def, *b = r->weight->def;
  if (a == NULL || b == NULL || a->parent != b->parent) return false;
  r->place = comes_before(a, b) ? a : b;
  for (unsigned i = 0; i < ROUTE_MAX_IN; i++)
    if (!can_be_had(r->route.in[i], r->place)) return false;
  return is_available(r->logits, r->place);
}

/* ---- Matching ------------------------------------------------------------ */

bool moe_router_match(pass_ctx_t *ctx, ir_value_t *expert, ir_value_t *weight,
                      moe_router_t *out) {
  *out = (moe_router_t){0};
  matcher_t m = {.ctx = ctx, .out = out};
  out->selects = router_match_selection(&m, expert);
  return out->selects && dtype_is_float(weight->type.dtype) &&
         router_match_weight(&m, weight) && find_place(out);
}

/* ---- Rewriting ----------------------------------------------------------- */

static bool is_noted(const moe_router_t *r, const ir_op_t *op) {
  for (unsigned i = 0; i < r->n_nodes; i++)
    if (r->node[i] == op) return true;
  return false;
}

/* Whether what follows from x, within the router, is used by the router only;
 * its results aside. */
static bool is_used_here_only(const moe_router_t *r, const ir_value_t *x) {
  const ir_value_t *pending[MOE_ROUTER_NODES];
  const ir_op_t *seen[MOE_ROUTER_NODES];
  unsigned n = 0, n_seen = 0;
  pending[n++] = x;
  while (n > 0) {
    x = pending[--n];
    for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
      const ir_op_t *user = use->user;
      bool again = false;
      if (!is_noted(r, user)) return false;
      for (unsigned i = 0; i < n_seen; i++) again |= seen[i] == user;
      if (again) continue;
      if (n_seen == MOE_ROUTER_NODES) return false;
      seen[n_seen++] = user;
      for (unsigned i = 0; i < user->n_out; i++) {
        const ir_value_t *y = &user->out[i];
        if (y == r->expert || y == r->weight) continue;
        if (n == MOE_ROUTER_NODES) return false;
        pending[n++] = y;
      }
    }
  }
  return true;
}

/* Moves a constant behind views, and those, to where they can be used. */
static void bring(ir_value_t *x, ir_op_t *place) {
  if (x == NULL || is_available(x, place)) return;
  for (unsigned i = 0; i < x->def->n_in; i++) bring(x->def->in[i].value, place);
  ir_move_before(x->def, place);
  for (unsigned i = 0; i < x->def->n_out; i++) x->def->out[i].number = 0;
}

static ir_value_t *as_rows(ir_builder_t *b, ir_value_t *x, const expr_t *T) {
  if (x == NULL) return NULL;
  const expr_t *dim[] = {T, x->type.dim[x->type.rank - 1]};
  if (x->type.rank == 2 && x->type.dim[0] == T) return x;
  return ir_reshape(b, x, 2, dim);
}

static ir_value_t *as_matrix(ir_builder_t *b, ir_value_t *x, const expr_t *T,
                             int64_t E) {
  const expr_t *dim[] = {T, expr_const(b->module->exprs, E)};
  if (x == NULL) return NULL;
  if (x->type.rank == 2 && x->type.dim[0] == T && x->type.dim[1] == dim[1])
    return x;
  return ir_reshape(b, x, 2, dim);
}

static ir_value_t *as_vector(ir_builder_t *b, ir_value_t *x, int64_t E) {
  const expr_t *dim[] = {expr_const(b->module->exprs, E)};
  if (x == NULL || x->type.rank == 1) return x;
  return ir_reshape(b, x, 1, dim);
}

static void replace(ir_builder_t *b, ir_value_t *old, ir_value_t *by) {
  if (by->name == NULL) by->name = old->name;
  by = ir_reshape(b, by, old->type.rank, old->type.dim);
  if (by != NULL && ir_type_equal(&by->type, &old->type))
    ir_replace_uses(old, by);
}

void moe_router_apply(pass_ctx_t *ctx, const moe_router_t *r) {
  route_t route = r->route;
  ir_builder_t b = {.module = ctx->module,
                    .region = r->place->parent,
                    .before = r->place,
                    .loc = r->expert->def->loc,
                    .diag = ctx->diag};
  if (route.in[ROUTE_GATE] != NULL && !is_used_here_only(r, r->logits)) {
    route.in[ROUTE_X] = r->logits;
    route.in[ROUTE_GATE] = route.in[ROUTE_GATE_BIAS] = NULL;
  }
  for (unsigned i = 0; i < ROUTE_MAX_IN; i++) bring(route.in[i], r->place);
  ir_value_t **in = route.in;
  in[ROUTE_X] = in[ROUTE_GATE] != NULL ? as_rows(&b, in[ROUTE_X], r->T)
                                       : as_matrix(&b, in[ROUTE_X], r->T, r->E);
  in[ROUTE_GATE_BIAS] = as_vector(&b, in[ROUTE_GATE_BIAS], r->E);
  in[ROUTE_SELECT_BIAS] = as_vector(&b, in[ROUTE_SELECT_BIAS], r->E);
  in[ROUTE_EXPERT_SCALE] = as_vector(&b, in[ROUTE_EXPERT_SCALE], r->E);
  in[ROUTE_MIXING] = as_matrix(&b, in[ROUTE_MIXING], r->T, r->E);
  if (b.status != MOEC_OK) return;
  ir_op_t *op = route_write(ctx->module, b.loc, &route);
  if (ir_place(&b, op) == NULL) return;
  replace(&b, r->expert, &op->out[0]);
  replace(&b, r->weight, &op->out[1]);
}

/* ---- The pass ------------------------------------------------------------ */

/* What is known of the router of a layer, which has the node of its experts. */
static void tell(pass_ctx_t *ctx, const ir_op_t *experts,
                 const moe_router_t *r) {
  moe_report_t *report = ctx->options->moe;
  for (unsigned i = 0; report != NULL && i < report->n_layers; i++) {
    moe_layer_t *layer = report->layers[i];
    if (layer->loc.index != experts->loc.index ||
        layer->loc.node != experts->loc.node)
      continue;
    layer->router = moe_router_words(report->arena, r);
    layer->groups = r->route.groups;
    layer->groups_kept = r->route.groups_kept;
  }
}

static bool try(pass_ctx_t *ctx, ir_op_t *op, ir_value_t *weight) {
  moe_router_t *r = ARENA_NEW(ctx->scratch, moe_router_t);
  if (weight == NULL) return false;
  bool known = moe_router_match(ctx, op->in[0].value, weight, r);
  if (known || r->selects) tell(ctx, op, r);
  if (!known || !pass_allow_rewrite(ctx, "moe_router", r->place)) return false;
  moe_router_apply(ctx, r);
  return true;
}

/* Weights are applied where results are combined, or enter the experts: for
 * each route, or for each token where that has one. */
static void find_router(pass_ctx_t *ctx, ir_op_t *op) {
  const ir_value_t *expert = op->in[0].value;
  if (expert->def == NULL) return;
  for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
    if (use->user->code == OP_MOE_COMBINE && use->index == 0 &&
        try(ctx, op, ir_in(use->user, 1)))
      return;
  unsigned n = (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_route_values) +
               (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_token_values);
  unsigned end = ir_moe_first_bank(op, 0);
  for (unsigned i = end; i-- > end - n;)
    if (try(ctx, op, ir_in(op, i))) return;
}

moec_status_t run_moe_router(pass_ctx_t *ctx, ir_func_t *func) {
  ir_renumber(func);
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    if (op->code == OP_MOE_EXPERTS) find_router(ctx, op);
  return MOEC_OK;
}
