/* Experts that are not needed, whatever the input: leaves them out, or lets
 * them share what another one has. Only what is proved; each proof is noted in
 * the report. The router keeps its columns as a rule (moe_prune_gate.c), so
 * that no expert that stays gets another weight. */
#include "passes/moe_prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/moe_integers.h"
#include "passes/rules.h"

/* ---- Layers -------------------------------------------------------------- */

/* The value behind reshapes. */
static const ir_value_t *behind_views(const ir_value_t *v) {
  while (v != NULL && v->def != NULL && v->def->code == OP_RESHAPE)
    v = v->def->in[0].value;
  return v;
}

static ir_op_t *find_route(const ir_op_t *experts) {
  const ir_value_t *expert = behind_views(experts->in[0].value);
  if (expert->def == NULL || expert->def->code != OP_MOE_ROUTE ||
      expert->index != 0 || !ir_has_attr(experts, ATTR_MOE_EXPERTS_k))
    return NULL;
  return expert->def;
}

/* The routes' weights only multiply what experts give. */
static bool only_scales(const ir_op_t *experts, const ir_op_t *route) {
  for (const ir_use_t *use = experts->out->uses; use != NULL; use = use->next) {
    const ir_op_t *user = use->user;
    const ir_value_t *w = ir_in(user, 1);
    if (user->code != OP_MOE_COMBINE || use->index != 0 || w == NULL)
      return false;
    w = behind_views(w);
    if (w->def != route || w->index != 1) return false;
  }
  return true;
}

static moe_layer_t *layer_of(const moe_report_t *report, const ir_op_t *op) {
  for (unsigned i = 0; report != NULL && i < report->n_layers; i++) {
    const ir_loc_t *loc = &report->layers[i]->loc;
    if (loc->index == op->loc.index && loc->node == op->loc.node)
      return report->layers[i];
  }
  return NULL;
}

static int64_t *copy_ints(arena_t *arena, const ir_op_t *op, ir_attr_id_t id) {
  unsigned n;
  const int64_t *from = ir_get_ints(op, id, &n);
  int64_t *to = ARENA_ARRAY(arena, int64_t, (size_t)n + 1);
  if (n > 0) memcpy(to, from, n * sizeof to[0]);
  return to;
}

static bool begin(pass_ctx_t *ctx, ir_op_t *experts, prune_t *p) {
  const char *what;
  *p = (prune_t){.ctx = ctx, .experts = experts};
  p->E = ir_get_int(experts, ATTR_MOE_EXPERTS_experts);
  p->route = find_route(experts);
  if (p->route != NULL && !route_read(p->route, &p->r, &what)) return false;
  if (p->route != NULL) {
    const ir_value_t *gate = p->r.in[ROUTE_GATE];
    const ir_value_t *wide = gate != NULL ? gate : p->r.in[ROUTE_X];
    if (!expr_equals_const(wide->type.dim[1], p->E)) p->route = NULL;
  }
  p->only_scales = p->route != NULL && only_scales(experts, p->route);
  p->structure = copy_ints(ctx->scratch, experts, ATTR_MOE_EXPERTS_structure);
  p->position = copy_ints(ctx->scratch, experts, ATTR_MOE_EXPERTS_position);
  p->is_dead = ARENA_ARRAY(ctx->scratch, bool, (size_t)p->E + 1);
  p->layer = layer_of(ctx->options->moe, experts);
  return true;
}

moe_pruning_t *prune_tell(prune_t *p, moe_pruning_rule_t rule, int64_t expert) {
  moe_pruning_t *record =
      moe_report_add_pruning(p->ctx->options->moe, p->layer);
  if (record == NULL) return NULL;
  record->rule = rule;
  record->expert = expert;
  record->same_as = -1;
  record->slack = NAN;
  return record;
}

/* ---- Experts whose result is 0 ------------------------------------------- */

bool prune_has_maximum(const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    if (op->code == OP_MAX) return true;
  return false;
}

static bool gives_zero(prune_t *p, prune_bounds_t *outside, unsigned region,
                       int64_t element) {
  const ir_region_t *body = &p->experts->regions[region];
  prune_scope_t scope = {p->experts, region, element};
  prune_bounds_t *bounds = prune_bounds_within(p->ctx->scratch, scope, outside);
  prune_ranges_t y = prune_ranges_of(bounds, body->last->in[0].value);
  for (int64_t i = 0; i < y.n; i++)
    if (!prune_is_zero(y.range[i])) return false;
  return true;
}

/* Bounds of all that an expert computes take some 20 us: too long for each of
 * very many, which are small. */
enum { MOST_BOUNDED = 1 << 14 };

bool prune_may_bound(const prune_t *p) { return p->E <= MOST_BOUNDED; }

void prune_zeros(prune_t *p) {
  arena_t *arena = p->ctx->scratch;
  if (!prune_may_bound(p)) return;
  for (unsigned s = 0; s < p->experts->n_regions; s++) {
    unsigned products = prune_has_maximum(&p->experts->regions[s]) ? 1 : 0;
    prune_bounds_t *outside = prune_bounds_create(arena, products);
    for (int64_t e = 0; e < p->E; e++) {
      if (p->structure[e] != (int64_t)s ||
          !gives_zero(p, outside, s, p->position[e]) ||
          !pass_allow_rewrite(p->ctx, "prune", p->experts))
        continue;
      moe_pruning_t *record = prune_tell(p, MOE_PRUNE_ZERO, e);
      if (record != NULL)
        moe_words_add(p->ctx->options->moe, &record->assumptions,
                      "values within experts are finite");
      p->structure[e] = -1;
      p->changed = true;
    }
  }
}

/* ---- Experts that no number names ---------------------------------------- */

static void prune_unnamed(prune_t *p) {
  bool *named = ARENA_ARRAY(p->ctx->scratch, bool, (size_t)p->E + 1);
  if (!moe_integers_in_table(p->experts->in[0].value, p->E, named)) return;
  for (int64_t e = 0; e < p->E; e++) {
    if (named[e] || p->structure[e] < 0 ||
        !pass_allow_rewrite(p->ctx, "prune", p->experts))
      continue;
    prune_tell(p, MOE_PRUNE_UNNAMED, e);
    p->structure[e] = -1;
    p->changed = true;
  }
}

/* ---- Experts that compute the same --------------------------------------- */

typedef struct sampled {
  uint64_t hash;
  int64_t expert;
} sampled_t;

static int by_hash(const void *a, const void *b) {
  const sampled_t *x = a, *y = b;
  if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
  return x->expert < y->expert ? -1 : x->expert > y->expert;
}

enum { MOST_COMPARED = 64 };

static bool is_same(const prune_t *p, unsigned region, int64_t i, int64_t j) {
  unsigned end = ir_moe_first_bank(p->experts, region + 1);
  for (unsigned b = ir_moe_first_bank(p->experts, region); b < end; b++)
    if (!prune_equal_elements(p->experts->in[b].value, i, j)) return false;
  return true;
}

static void share(prune_t *p, int64_t e, int64_t with) {
  if (p->position[e] == p->position[with] ||
      !pass_allow_rewrite(p->ctx, "prune", p->experts))
    return;
  moe_pruning_t *record = prune_tell(p, MOE_PRUNE_DUPLICATE, e);
  if (record != NULL) record->same_as = with;
  p->position[e] = p->position[with];
  p->changed = true;
}

static void duplicates_of(prune_t *p, unsigned region, sampled_t *sampled) {
  unsigned first = ir_moe_first_bank(p->experts, region);
  unsigned end = ir_moe_first_bank(p->experts, region + 1);
  int64_t n = 0;
  if (first == end) return;
  for (int64_t e = 0; e < p->E; e++) {
    if (p->structure[e] != (int64_t)region) continue;
    uint64_t hash = 0;
    for (unsigned b = first; b < end; b++)
      hash = hash * 31 + prune_sample(p->experts->in[b].value, p->position[e]);
    sampled[n++] = (sampled_t){hash, e};
  }
  qsort(sampled, (size_t)n, sizeof sampled[0], by_hash);
  for (int64_t i = 1, start = 0; i < n; i++) {
    int64_t e = sampled[i].expert, j;
    if (sampled[i].hash != sampled[start].hash) start = i;
    /* The first of its kind; models do not make many that only seem the same.
     */
    int64_t last = start + MOST_COMPARED < i ? start + MOST_COMPARED : i;
    for (j = start; j < last; j++)
      if (is_same(p, region, p->position[sampled[j].expert], p->position[e]))
        break;
    if (j < last) share(p, e, sampled[j].expert);
  }
}

void prune_duplicates(prune_t *p) {
  sampled_t *sampled =
      ARENA_ARRAY(p->ctx->scratch, sampled_t, (size_t)p->E + 1);
  for (unsigned s = 0; s < p->experts->n_regions; s++)
    duplicates_of(p, s, sampled);
}

/* ---- What is left -------------------------------------------------------- */

/* Takes elements that no expert has out of a region's banks, where the bank is
 * nobody else's. */
static void compact(prune_t *p, unsigned region) {
  ir_op_t *op = p->experts;
  arena_t *arena = p->ctx->scratch;
  unsigned first = ir_moe_first_bank(op, region);
  unsigned end = ir_moe_first_bank(op, region + 1);
  int64_t length, n = 0;
  if (first == end ||
      !expr_is_const(op->in[first].value->type.dim[0], &length) || length < 1)
    return;
  int64_t *number = ARENA_ARRAY(arena, int64_t, (size_t)length);
  int64_t *element = ARENA_ARRAY(arena, int64_t, (size_t)length);
  for (int64_t e = 0; e < p->E; e++)
    if (p->structure[e] == (int64_t)region) number[p->position[e]] = 1;
  for (int64_t i = 0; i < length; i++) {
    if (number[i] == 0) continue;
    element[n] = i;
    number[i] = n++;
  }
  if (n == 0 || n == length) return;
  ir_value_t **bank = ARENA_ARRAY(arena, ir_value_t *, end - first);
  ir_builder_t b = {.module = p->ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc,
                    .diag = p->ctx->diag};
  for (unsigned i = first; i < end; i++) {
    bank[i - first] = prune_select(&b, op->in[i].value, n, element);
    if (bank[i - first] == NULL) return;
  }
  for (unsigned i = first; i < end; i++) ir_set_operand(op, i, bank[i - first]);
  for (int64_t e = 0; e < p->E; e++)
    if (p->structure[e] == (int64_t)region)
      p->position[e] = number[p->position[e]];
}

static moec_status_t write_back(prune_t *p) {
  for (unsigned s = 0; s < p->experts->n_regions; s++) compact(p, s);
  for (int64_t e = 0; e < p->E; e++)
    if (p->structure[e] < 0) p->position[e] = 0;
  MOEC_TRY(prune_gate(p));
  unsigned n = (unsigned)p->E;
  ir_set_ints(p->experts, ATTR_MOE_EXPERTS_structure, n, p->structure);
  ir_set_ints(p->experts, ATTR_MOE_EXPERTS_position, n, p->position);
  p->ctx->changed = true;
  return ir_infer_types(p->ctx->module, p->experts, p->ctx->diag);
}

moec_status_t run_moe_prune(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    prune_t p;
    if (op->code != OP_MOE_EXPERTS || op->n_regions == 0 || !begin(ctx, op, &p))
      continue;
    prune_unreachable(&p);
    prune_unnamed(&p);
    prune_zeros(&p);
    prune_duplicates(&p);
    prune_permuted(&p);
    MOEC_TRY(prune_neurons(&p));
    if (!p.changed) continue;
    MOEC_TRY(write_back(&p));
  }
  return MOEC_OK;
}
