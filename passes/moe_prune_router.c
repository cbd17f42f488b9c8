/* Experts that no token can have: k others are always chosen before them, or
 * their weight is 0 whenever they are chosen.
 *
 * Expert j comes before e if its choice is larger for every input, or never
 * smaller and ties are its. Of k that come before e, one is free in each round
 * and at each place of a top-k, so e is never taken. Where the router limits
 * itself to groups, they must be in e's group, and no expert of another group
 * may be chosen. O(E^2), or O(E^2 H) where choices are compared by the gate's
 * weights. */
#include <math.h>
#include <stdlib.h>

#include "passes/moe_prune.h"
#include "passes/rules.h"

enum { MOST_COMPARED = 1 << 12 }; /* experts, two by two */

/* Weights of rows of the gate that are compared, where no early end is likely.
 */
#define MAX_COMPARED (INT64_C(1) << 27)

/* Logits as sums: logits[e] = sum(x * gate[e]) + bias[e]. */
typedef struct linear {
  bool known;
  prune_domain_t domain;
  prune_array_t gate; /* [H, E] */
  double *bias;       /* double[E] */
  double *offset;     /* logits[e] in the middle of a ball: double[E] */
  double *slack;      /* of computing logits[e]: double[E] */
} linear_t;

typedef struct selection {
  prune_t *p;
  prune_bounds_t *bounds;
  prune_range_t *logit, *score, *choice; /* [E] */
  linear_t linear;
  bool by_softmax; /* the choice is a softmax of logits */
  int64_t *order;  /* experts by descending lower bounds: int64_t[E] */
  double largest;  /* size of a logit */
  bool compares;   /* no expert is chosen from groups that are not kept */
} selection_t;

typedef struct witness {
  int64_t expert;
  double margin;
  bool by_weights; /* of the gate, not by bounds of both choices */
} witness_t;

/* ---- Choices ------------------------------------------------------------- */

static const ir_value_t *logits_of(const route_t *r) {
  return r->in[ROUTE_GATE] == NULL ? r->in[ROUTE_X] : NULL;
}

static void fill(const prune_ranges_t *r, int64_t E, prune_range_t *out) {
  for (int64_t e = 0; e < E; e++) out[e] = prune_range_at(r, e);
}

static void add(const selection_t *s, const ir_value_t *v, prune_range_t *to) {
  if (v == NULL) return;
  prune_ranges_t r = prune_ranges_of(s->bounds, v);
  for (int64_t e = 0; e < s->p->E; e++)
    to[e] = prune_compute(OP_ADD, v->type.dtype, to[e], prune_range_at(&r, e));
}

/* Adds a constant bias[E] to those of logits; false where it is none. */
static bool add_bias(const selection_t *s, const ir_value_t *v) {
  if (v == NULL) return true;
  prune_ranges_t r = prune_ranges_of(s->bounds, v);
  for (int64_t e = 0; e < s->p->E; e++) {
    prune_range_t x = prune_range_at(&r, e);
    if (x.lo != x.hi) return false;
    s->linear.bias[e] += x.lo;
    s->linear.slack[e] += fabs(x.lo) * 0x1p-22;
  }
  return true;
}

/* The product behind logits, which may have had a bias added. */
static bool find_product(selection_t *s, const ir_value_t *v,
                         const ir_value_t **x, const ir_value_t **gate) {
  for (unsigned step = 0; step < 4 && v->def != NULL; step++) {
    const ir_op_t *op = v->def;
    if (op->code == OP_MATMUL) {
      *x = op->in[0].value;
      *gate = op->in[1].value;
      return true;
    }
    if (op->code == OP_RESHAPE && op->in[0].value->type.rank > 0 &&
        op->in[0].value->type.dim[op->in[0].value->type.rank - 1] ==
            v->type.dim[v->type.rank - 1]) {
      v = op->in[0].value;
      continue;
    }
    if (op->code != OP_ADD) return false;
    unsigned constant = rule_is_constant(op->in[1].value) ? 1 : 0;
    if (!rule_is_constant(op->in[constant].value) ||
        !add_bias(s, op->in[constant].value))
      return false;
    v = op->in[1 - constant].value;
  }
  return false;
}

static void find_linear(selection_t *s) {
  const route_t *r = &s->p->r;
  int64_t E = s->p->E;
  linear_t *l = &s->linear;
  const ir_value_t *x = r->in[ROUTE_X], *gate = r->in[ROUTE_GATE];
  arena_t *arena = prune_arena(s->bounds);
  l->bias = ARENA_ARRAY(arena, double, (size_t)E);
  l->slack = ARENA_ARRAY(arena, double, (size_t)E);
  l->offset = ARENA_ARRAY(arena, double, (size_t)E);
  if (gate == NULL && !find_product(s, x, &x, &gate)) return;
  if (!add_bias(s, r->in[ROUTE_GATE_BIAS]) ||
      !prune_find_array(NULL, gate, &l->gate) || l->gate.rank != 2 ||
      l->gate.dim[1] != E)
    return;
  prune_domain_of(s->bounds, x, &l->domain);
  l->known = l->domain.n == l->gate.dim[0] && prune_is_limited(&l->domain);
}

static void column(const linear_t *l, int64_t e, double *out) {
  for (int64_t i = 0; i < l->domain.n; i++)
    out[i] = prune_at(&l->gate, (const int64_t[]){i, e});
}

/* logits = x times the gate, where that belongs to the router. */
static void find_logits(selection_t *s) {
  const route_t *r = &s->p->r;
  int64_t E = s->p->E;
  dtype_t dtype = r->in[ROUTE_X]->type.dtype;
  linear_t *l = &s->linear;
  for (int64_t e = 0; e < E; e++)
    s->logit[e] = (prune_range_t){-PRUNE_ANY, PRUNE_ANY};
  if (l->known) {
    double *w =
        ARENA_ARRAY(prune_arena(s->bounds), double, (size_t)l->domain.n + 1);
    for (int64_t e = 0; e < E; e++) {
      column(l, e, w);
      double slack;
      prune_range_t dot = prune_dot(&l->domain, dtype, w, &slack);
      if (logits_of(r) == NULL) s->logit[e] = dot;
      l->slack[e] += slack + fmax(fabs(dot.lo), fabs(dot.hi)) * 0x1p-22;
    }
    if (dtype != DT_F64 && dtype != DT_F32) l->known = false;
  }
  if (logits_of(r) != NULL) {
    prune_ranges_t given = prune_ranges_of(s->bounds, logits_of(r));
    fill(&given, E, s->logit);
  }
  add(s, r->in[ROUTE_GATE_BIAS], s->logit);
}

static prune_range_t step(const route_steps_t *steps, unsigned i, dtype_t dtype,
                          prune_range_t x) {
  const step_info_t *info = &steps->step[i];
  prune_range_t value = {steps->value[i], steps->value[i]};
  if (info->form == STEP_LEFT)
    return prune_compute(info->code, dtype, value, x);
  if (info->form == STEP_SQUARE)
    return prune_compute(OP_POW, dtype, x, (prune_range_t){2, 2});
  return prune_compute(info->code, dtype, x, value);
}

static dtype_t step_dtype(const route_steps_t *steps, unsigned i, dtype_t d) {
  return steps->step[i].form == STEP_CAST ? steps->step[i].dtype : d;
}

static void find_scores(selection_t *s) {
  const route_steps_t *steps = &s->p->r.score;
  dtype_t dtype = s->p->r.in[ROUTE_X]->type.dtype;
  int64_t E = s->p->E;
  for (int64_t e = 0; e < E; e++) s->score[e] = s->logit[e];
  for (unsigned i = 0; i < steps->n; i++) {
    dtype = step_dtype(steps, i, dtype);
    if (steps->step[i].form == STEP_SOFTMAX) {
      prune_softmax(dtype, E, s->score);
      continue;
    }
    for (int64_t e = 0; e < E; e++)
      s->score[e] = step(steps, i, dtype, s->score[e]);
  }
}

static void find_choices(selection_t *s) {
  const route_t *r = &s->p->r;
  for (int64_t e = 0; e < s->p->E; e++)
    s->choice[e] = r->by_logits ? s->logit[e] : s->score[e];
  add(s, r->in[ROUTE_SELECT_BIAS], s->choice);
}

/* Whether logits that are compared mean choices that are: by a softmax at most,
 * of f32 or wider, and a constant bias where there is none. */
static void find_order(selection_t *s) {
  const route_t *r = &s->p->r;
  linear_t *l = &s->linear;
  unsigned n = r->by_logits ? 0 : r->score.n, softmaxes = 0;
  for (unsigned i = 0; i < n; i++) {
    const step_info_t *info = &r->score.step[i];
    bool wide = info->dtype == DT_F32 || info->dtype == DT_F64;
    if (info->form == STEP_SOFTMAX)
      softmaxes++;
    else if (info->form != STEP_CAST || !wide)
      l->known = false;
  }
  for (int64_t e = 0; l->known && e < s->p->E; e++) {
    l->offset[e] = l->bias[e];
    for (int64_t i = 0; l->domain.is_ball && i < l->domain.n; i++)
      l->offset[e] +=
          prune_at(&l->gate, (const int64_t[]){i, e}) * l->domain.beta[i];
  }
  if (l->known && !prune_is_ball(&l->domain) &&
      s->p->E > MAX_COMPARED / l->domain.n / s->p->E)
    l->known = false;
  s->by_softmax = softmaxes > 0;
  for (int64_t e = 0; e < s->p->E; e++) {
    prune_range_t z = s->logit[e];
    if (z.hi != -INFINITY)
      s->largest = fmax(s->largest, fmax(fabs(z.lo), fabs(z.hi)));
  }
  if (softmaxes > 1 || (softmaxes > 0 && r->in[ROUTE_SELECT_BIAS] != NULL))
    l->known = false;
  if (!add_bias(s, r->in[ROUTE_SELECT_BIAS])) l->known = false;
}

/* ---- Who comes before whom ----------------------------------------------- */

static bool has_ties(const selection_t *s, int64_t j, int64_t e) {
  return s->p->r.last_index ? j > e : j < e;
}

/* By bounds of both. */
static bool is_above(const selection_t *s, int64_t j, int64_t e,
                     witness_t *out) {
  double lo = s->choice[j].lo, hi = s->choice[e].hi;
  *out = (witness_t){j, lo - hi, false};
  return lo > hi || (lo == hi && has_ties(s, j, e));
}

/* Whether their logits in the middle of a ball differ by less than they can
 * move; looks at as many weights as that takes. */
static bool may_cross(const selection_t *s, int64_t j, int64_t e) {
  enum { STEP = 32 };
  const linear_t *l = &s->linear;
  double gap = l->offset[j] - l->offset[e], square = 0;
  if (!(gap > 0)) return true;
  gap /= l->domain.radius;
  for (int64_t i = 0; i < l->domain.n; i++) {
    double d = prune_at(&l->gate, (const int64_t[]){i, j}) -
               prune_at(&l->gate, (const int64_t[]){i, e});
    d *= l->domain.gamma[i];
    square += d * d;
    if (i % STEP == STEP - 1 && square > gap * gap) return true;
  }
  return square > gap * gap;
}

/* By the difference of their logits: of rows of the gate, which share x. */
static bool dominates(const selection_t *s, int64_t j, int64_t e,
                      double *difference, witness_t *out) {
  const linear_t *l = &s->linear;
  double slack;
  if (!l->known || isinf(l->bias[j]) || isinf(l->bias[e])) return false;
  if (prune_is_ball(&l->domain) && may_cross(s, j, e)) return false;
  for (int64_t i = 0; i < l->domain.n; i++)
    difference[i] = prune_at(&l->gate, (const int64_t[]){i, j}) -
                    prune_at(&l->gate, (const int64_t[]){i, e});
  prune_range_t dot = prune_dot(&l->domain, DT_F64, difference, &slack);
  if (!prune_is_bounded(dot)) return false;
  double margin =
      dot.lo + (l->bias[j] - l->bias[e]) - l->slack[j] - l->slack[e];
  *out = (witness_t){j, margin, true};
  if (!(margin > 0)) return false;
  if (!s->by_softmax) return true;
  /* exp keeps the order of what differs by more than its error, but numbers
   * that are nearly 0 may become equal. */
  if (margin < 0x1p-12) return false;
  if (has_ties(s, j, e)) return true;
  return s->score[j].lo > 0x1p-100 && margin > 0x1p-12 + s->largest * 0x1p-22;
}

static int64_t group_size(const selection_t *s) {
  const route_t *r = &s->p->r;
  return r->groups > 0 ? s->p->E / r->groups : s->p->E;
}

static int by_margin(const void *a, const void *b) {
  const witness_t *x = a, *y = b;
  if (x->margin != y->margin) return x->margin > y->margin ? -1 : 1;
  return x->expert < y->expert ? -1 : x->expert > y->expert;
}

/* k of all experts by their bounds alone. */
static bool find_by_bounds(const selection_t *s, int64_t e, witness_t *out) {
  int64_t n = 0;
  for (int64_t i = 0; i < s->p->E && n < s->p->r.k; i++) {
    int64_t j = s->order[i];
    if (s->choice[j].lo < s->choice[e].hi) return false;
    if (j != e && is_above(s, j, e, &out[n])) n++;
  }
  return n == s->p->r.k;
}

/* k experts of e's group that come before it; the clearest ones. */
static bool find_witnesses(const selection_t *s, int64_t e, double *difference,
                           witness_t *out) {
  if (s->p->r.groups == 0 && !s->linear.known) return find_by_bounds(s, e, out);
  if (s->p->E > MOST_COMPARED) return false;
  int64_t size = group_size(s), first = e - e % size, n = 0;
  for (int64_t j = first; j < first + size; j++) {
    if (j == e) continue;
    if (is_above(s, j, e, &out[n]) || dominates(s, j, e, difference, &out[n]))
      n++;
  }
  if (n < s->p->r.k) return false;
  qsort(out, (size_t)n, sizeof out[0], by_margin);
  return true;
}

/* ---- Groups -------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* Whether experts of groups that are not kept are never chosen: in any groups
 * that may be kept, k experts lie above what stands for those. */
static bool keeps_to_groups(const selection_t *s) {
  const route_t *r = &s->p->r;
  int64_t size = group_size(s), n = 0;
  if (r->groups == 0) return true;
  if (r->group_multiply) return false;
  int64_t *above =
      ARENA_ARRAY(prune_arena(s->bounds), int64_t, (size_t)r->groups);
  for (int64_t e = 0; e < s->p->E; e++)
    above[e / size] += s->choice[e].lo > r->group_fill;
  qsort(above, (size_t)r->groups, sizeof above[0], by_size);
  for (int64_t g = 0; g < r->groups_kept; g++) n += above[g];
  return n >= r->k;
}

/* Bounds of a group's score: the largest choice, or the two largest added. */
static bool group_range(const selection_t *s, int64_t g, prune_range_t *out) {
  const route_t *r = &s->p->r;
  int64_t size = group_size(s);
  prune_range_t best[2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
  dtype_t dtype = route_types(r).score;
  if (r->group_best < 1 || r->group_best > 2 || size < r->group_best ||
      (dtype != DT_F32 && dtype != DT_F64))
    return false;
  for (int64_t e = g * size; e < (g + 1) * size; e++) {
    prune_range_t c = s->choice[e];
    if (!(c.lo >= -INFINITY && c.hi <= INFINITY)) return false;
    best[1].lo = fmax(best[1].lo, fmin(best[0].lo, c.lo));
    best[1].hi = fmax(best[1].hi, fmin(best[0].hi, c.hi));
    best[0].lo = fmax(best[0].lo, c.lo);
    best[0].hi = fmax(best[0].hi, c.hi);
  }
  *out = r->group_best == 1 ? best[0]
                            : prune_compute(OP_ADD, dtype, best[0], best[1]);
  return !isnan(out->lo) && !isnan(out->hi);
}

static void tell_outranked(prune_t *p, int64_t e, const int64_t *above);

/* Groups that as many others come before as are kept; their experts are never
 * chosen where none of other groups are. */
static void check_groups(selection_t *s) {
  const route_t *r = &s->p->r;
  if (r->groups < 2 || !s->compares) return;
  arena_t *arena = s->p->ctx->scratch;
  size_t n_groups = (size_t)r->groups;
  prune_range_t *range = ARENA_ARRAY(arena, prune_range_t, n_groups);
  int64_t *above = ARENA_ARRAY(arena, int64_t, n_groups), size = group_size(s);
  for (int64_t g = 0; g < r->groups; g++)
    if (!group_range(s, g, &range[g])) return;
  for (int64_t g = 0; g < r->groups; g++) {
    int64_t n = 0;
    for (int64_t h = 0; h < r->groups && n < r->groups_kept; h++)
      if (h != g &&
          (range[h].lo > range[g].hi || (range[h].lo == range[g].hi && h < g)))
        above[n++] = h * size;
    for (int64_t e = g * size; n == r->groups_kept && e < (g + 1) * size; e++)
      tell_outranked(s->p, e, above);
  }
}

/* ---- Weights of zero ----------------------------------------------------- */

/* Whether a weight that begins as 0 stays so, and multiplies results only. */
static bool keeps_zero(const prune_t *p) {
  const route_steps_t *steps = &p->r.weight;
  dtype_t dtype = route_types(&p->r).weight;
  prune_range_t w = {0, 0};
  if (!p->only_scales || p->r.source != ROUTE_FROM_SCORE) return false;
  for (unsigned i = 0; i < steps->n; i++) {
    step_form_t form = steps->step[i].form;
    if (form == STEP_SOFTMAX || form == STEP_SUM) return false;
    if (form != STEP_DIVIDE && form != STEP_TIMES && form != STEP_SCALE)
      w = step(steps, i, step_dtype(steps, i, dtype), w);
    if (!prune_is_zero(w)) return false;
  }
  return true;
}

/* ---- What is found ------------------------------------------------------- */

static const char *const finite_scores =
    "scores of the router are finite where they are not masked";

static void tell(prune_t *p, int64_t e, moe_pruning_rule_t rule,
                 const witness_t *witness) {
  moe_pruning_t *record = prune_tell(p, rule, e);
  if (record == NULL) return;
  arena_t *arena = p->ctx->options->moe->arena;
  moe_words_add(p->ctx->options->moe, &record->assumptions, finite_scores);
  if (witness == NULL) {
    moe_words_add(p->ctx->options->moe, &record->assumptions,
                  "results of experts are finite");
    return;
  }
  int64_t *numbers = ARENA_ARRAY(arena, int64_t, (size_t)p->r.k);
  for (int64_t i = 0; i < p->r.k; i++) numbers[i] = witness[i].expert;
  record->n_witnesses = (unsigned)p->r.k;
  record->witnesses = numbers;
  record->slack = witness[p->r.k - 1].margin;
}

/* `above` has the first expert of each group that is kept before e's. */
static void tell_outranked(prune_t *p, int64_t e, const int64_t *above) {
  if (p->structure[e] >= 0) {
    if (!pass_allow_rewrite(p->ctx, "prune", p->experts)) return;
    moe_pruning_t *record = prune_tell(p, MOE_PRUNE_OUTRANKED, e);
    if (record != NULL) {
      moe_words_add(p->ctx->options->moe, &record->assumptions, finite_scores);
      size_t n = (size_t)p->r.groups_kept;
      int64_t *numbers =
          ARENA_ARRAY(p->ctx->options->moe->arena, int64_t, n + 1);
      for (size_t i = 0; i < n; i++) numbers[i] = above[i];
      record->n_witnesses = (unsigned)n;
      record->witnesses = numbers;
    }
    p->structure[e] = -1;
    p->changed = true;
  }
  p->is_dead[e] = true;
}

static void check_expert(selection_t *s, int64_t e, double *difference,
                         witness_t *witness) {
  prune_t *p = s->p;
  bool is_free = prune_is_zero(s->score[e]) && keeps_zero(p);
  bool masked = is_free || s->choice[e].hi == -INFINITY;
  bool is_dead = s->compares && find_witnesses(s, e, difference, witness);
  moe_pruning_rule_t rule = masked ? MOE_PRUNE_MASKED : MOE_PRUNE_BOUNDED;
  if (!is_dead && !is_free) return;
  for (int64_t i = 0; is_dead && i < p->r.k; i++)
    if (witness[i].by_weights) rule = MOE_PRUNE_DOMINATED;
  if (p->structure[e] >= 0) {
    if (!pass_allow_rewrite(p->ctx, "prune", p->experts)) return;
    tell(p, e, rule, is_dead ? witness : NULL);
    p->structure[e] = -1;
    p->changed = true;
  }
  p->is_dead[e] = is_dead;
}

/* An expert and its lower bound. */
static int by_bound(const void *a, const void *b) {
  const witness_t *x = a, *y = b;
  bool known = !isnan(x->margin) && !isnan(y->margin);
  if (known && x->margin != y->margin) return x->margin > y->margin ? -1 : 1;
  if (isnan(x->margin) != isnan(y->margin)) return isnan(x->margin) ? 1 : -1;
  return x->expert < y->expert ? -1 : x->expert > y->expert;
}

static void sort_experts(selection_t *s) {
  size_t E = (size_t)s->p->E;
  witness_t *all = ARENA_ARRAY(s->p->ctx->scratch, witness_t, E);
  s->order = ARENA_ARRAY(s->p->ctx->scratch, int64_t, E);
  for (size_t e = 0; e < E; e++)
    all[e] = (witness_t){(int64_t)e, s->choice[e].lo, false};
  qsort(all, E, sizeof all[0], by_bound);
  for (size_t i = 0; i < E; i++) s->order[i] = all[i].expert;
}

static void find_selection(selection_t *s) {
  arena_t *arena = prune_arena(s->bounds);
  size_t E = (size_t)s->p->E;
  s->logit = ARENA_ARRAY(arena, prune_range_t, E);
  s->score = ARENA_ARRAY(arena, prune_range_t, E);
  s->choice = ARENA_ARRAY(arena, prune_range_t, E);
  find_linear(s);
  find_logits(s);
  find_scores(s);
  find_choices(s);
}

const prune_range_t *prune_choices(prune_t *p, prune_bounds_t *bounds) {
  selection_t s = {.p = p, .bounds = bounds};
  find_selection(&s);
  return keeps_to_groups(&s) ? s.choice : NULL;
}

void prune_unreachable(prune_t *p) {
  if (p->route == NULL || p->E < 1) return;
  arena_t *arena = p->ctx->scratch;
  size_t E = (size_t)p->E;
  selection_t s = {.p = p, .bounds = prune_bounds_create(arena, 1)};
  find_selection(&s);
  find_order(&s);
  sort_experts(&s);
  if (p->E > MOST_COMPARED) s.linear.known = false;
  s.compares = keeps_to_groups(&s);
  int64_t n = s.linear.known ? s.linear.domain.n : 0;
  double *difference = ARENA_ARRAY(arena, double, (size_t)n + 1);
  witness_t *witness = ARENA_ARRAY(arena, witness_t, E);
  for (int64_t e = 0; e < p->E; e++) check_expert(&s, e, difference, witness);
  check_groups(&s);
  if (s.compares) {
    prune_tied(p);
    prune_hull(p);
  }
  prune_enumerated(p);
}
