/* Weights of experts: from where they are taken, and the steps after that. */
#include <math.h>
#include <string.h>

#include "passes/moe_router_internal.h"

typedef enum {
  TAKEN_CHOICE, /* the values that selected */
  TAKEN_SCORES, /* of some scores, at the experts */
  TAKEN_MASKED, /* the same as a sum over scores times a one-hot mask */
  TAKEN_LARGEST,
  TAKEN_MIXER,
} taken_t;

typedef struct weighing {
  matcher_t *m;
  unsigned n;                            /* 1: all weights of a token, or k */
  ir_value_t *value[ROUTER_MAX_COLUMNS]; /* [T, width] */
  int64_t width;
  route_steps_t reversed; /* from the result back */
  ir_value_t *scale;
  taken_t taken;
  ir_value_t *scores; /* of TAKEN_SCORES, TAKEN_MASKED */
  double mixer;
} weighing_t;

/* ---- Sources ------------------------------------------------------------- */

/* The experts that belong to value[i]. */
static ir_value_t *experts_of(const weighing_t *w, unsigned i) {
  return w->n == 1 ? w->m->expert : w->m->column[i];
}

static bool same_rows(const ir_type_t *a, const ir_type_t *b, int64_t axis) {
  if (a->rank != b->rank) return false;
  if (axis < 0) axis += a->rank;
  for (unsigned d = 0; d < a->rank; d++)
    if (d != axis && a->dim[d] != b->dim[d]) return false;
  return true;
}

/* Scores at the experts: x[t, index[t, j]]. */
static ir_value_t *gathered(const weighing_t *w, const ir_value_t *x,
                            const ir_value_t *experts) {
  matcher_t *m = w->m;
  const ir_op_t *op = x->def;
  int64_t E = m->out->E;
  if (op == NULL) return NULL;
  if (op->code == OP_GATHER_ELEMENTS) {
    const ir_type_t *from = &op->in[0].value->type;
    int64_t axis = ir_get_int(op, ATTR_GATHER_ELEMENTS_axis);
    if (!router_is_row(from, axis, E) ||
        !same_rows(from, &op->in[1].value->type, axis) ||
        router_strip_index(m, op->in[1].value, E) != experts)
      return NULL;
    return router_strip(m, op->in[0].value);
  }
  if (op->code == OP_GATHER_ND) {
    const ir_type_t *from = &op->in[0].value->type;
    const ir_type_t *at = &op->in[1].value->type;
    int64_t batch = ir_get_int(op, ATTR_GATHER_ND_batch_dims);
    if (batch < 1 || from->rank != batch + 1 || at->rank < batch + 1 ||
        !rule_is_one(at->dim[at->rank - 1]) || !router_is_row(from, batch, E) ||
        router_strip_index(m, op->in[1].value, E) != experts)
      return NULL;
    for (unsigned d = 0; d < batch; d++)
      if (from->dim[d] != at->dim[d]) return NULL;
    return router_strip(m, op->in[0].value);
  }
  return NULL;
}

static ir_value_t *masked(const weighing_t *w, const ir_value_t *x,
                          ir_value_t *experts) {
  matcher_t *m = w->m;
  const ir_op_t *op = x->def;
  int64_t E = m->out->E;
  double member[2];
  if (w->width != 1 || op == NULL || op->code != OP_REDUCE_SUM ||
      !router_reduces_row(op, E))
    return NULL;
  const ir_op_t *mul = router_strip(m, op->in[0].value)->def;
  for (unsigned i = 0; mul != NULL && mul->code == OP_MUL && i < 2; i++) {
    const ir_type_t *all = &mul->out[0].type;
    ir_value_t *scores = mul->in[i].value, *mask = mul->in[1 - i].value;
    if (!rule_same_dims(all, &scores->type) ||
        !rule_same_dims(all, &mask->type) ||
        !router_is_membership(m, mask, experts, E, member) || member[0] != 0 ||
        member[1] != 1)
      continue;
    router_note(m, mul);
    return router_strip(m, scores);
  }
  return NULL;
}

static const ir_op_t *def_is(const ir_value_t *x, ir_opcode_t code) {
  return x->def != NULL && x->def->code == code ? x->def : NULL;
}

/* softmax(c where not (m - logits) / max(|logits|, m) > threshold, else -inf)
 * at the expert of a round. */
static bool mixed(const weighing_t *w, const ir_value_t *x, unsigned round,
                  double *out_threshold) {
  matcher_t *m = w->m;
  int64_t E = m->out->E;
  const ir_value_t *logits = m->choice[0], *c = m->choice[round];
  double fill;
  ir_value_t *soft = gathered(w, x, m->column[round]);
  const ir_op_t *op = soft != NULL ? def_is(soft, OP_SOFTMAX) : NULL;
  if (op == NULL || !router_reduces_row(op, E)) return false;
  router_note(m, op);
  const ir_op_t *where = def_is(router_strip(m, op->in[0].value), OP_SELECT);
  if (where == NULL || !rule_splat_float(where->in[1].value, &fill) ||
      fill != -(double)INFINITY || router_strip(m, where->in[2].value) != c)
    return false;
  router_note(m, where);
  const ir_op_t *less = def_is(router_strip(m, where->in[0].value), OP_LT);
  if (less == NULL || !rule_splat_float(less->in[0].value, out_threshold))
    return false;
  router_note(m, less);
  const ir_op_t *div = def_is(router_strip(m, less->in[1].value), OP_DIV);
  if (div == NULL) return false;
  router_note(m, div);
  const ir_op_t *sub = def_is(router_strip(m, div->in[0].value), OP_SUB);
  const ir_op_t *max = def_is(router_strip(m, div->in[1].value), OP_MAX);
  if (sub == NULL || max == NULL || router_strip(m, sub->in[1].value) != logits)
    return false;
  router_note(m, sub);
  router_note(m, max);
  const ir_value_t *top = router_strip(m, sub->in[0].value);
  const ir_op_t *reduce = def_is(top, OP_REDUCE_MAX);
  if (reduce == NULL || !router_reduces_row(reduce, E) ||
      router_strip(m, reduce->in[0].value) != c ||
      !router_is_per_row(&sub->in[0].value->type, &sub->in[1].value->type, E))
    return false;
  router_note(m, reduce);
  for (unsigned i = 0; i < 2; i++) {
    const ir_op_t *abs = def_is(router_strip(m, max->in[i].value), OP_ABS);
    const ir_value_t *other = max->in[1 - i].value;
    if (abs == NULL || router_strip(m, abs->in[0].value) != logits ||
        router_strip(m, max->in[1 - i].value) != top ||
        !router_is_per_row(&other->type, &max->in[i].value->type, E))
      continue;
    router_note(m, abs);
    return true;
  }
  return false;
}

/* The results of the selecting topk themselves, perhaps the first of them. */
static bool is_topk_values(const weighing_t *w, const ir_value_t *x) {
  const matcher_t *m = w->m;
  const ir_op_t *op = x->def;
  if (m->topk == NULL || op == NULL) return false;
  if (op == m->topk) return x->index == 0 && m->expert->def == m->topk;
  if (op->code != OP_SLICE || m->expert->def->code != OP_SLICE) return false;
  const ir_op_t *other = m->expert->def;
  if (op->in[0].value != &m->topk->out[0] ||
      !rule_same_dims(&op->out[0].type, &other->out[0].type))
    return false;
  unsigned n;
  const expr_t *const *a = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *b = ir_get_exprs(op, ATTR_SLICE_step, &n);
  for (unsigned d = 0; d < n; d++)
    if (!expr_equals_const(a[d], 0) || !expr_equals_const(b[d], 1))
      return false;
  return true;
}

static bool take_one(const weighing_t *w, unsigned i, taken_t *taken,
                     ir_value_t **scores, double *mixer) {
  matcher_t *m = w->m;
  ir_value_t *x = w->value[i], *experts = experts_of(w, i);
  bool round = m->rounds && w->width == 1;
  *scores = NULL;
  *mixer = 0;
  *taken = TAKEN_CHOICE;
  if (is_topk_values(w, x)) return true;
  *taken = TAKEN_LARGEST;
  const ir_op_t *op = x->def;
  if (round && op != NULL && op->code == OP_REDUCE_MAX &&
      router_reduces_row(op, m->out->E) &&
      router_strip(m, op->in[0].value) == m->choice[i])
    return true;
  if (round && op != NULL && op->code == OP_TOPK && x->index == 0 &&
      op == m->column[i]->def)
    return true;
  *taken = TAKEN_MIXER;
  unsigned noted = m->out->n_nodes;
  if (round && mixed(w, x, i, mixer)) return true;
  m->out->n_nodes = noted;
  *taken = TAKEN_SCORES;
  *scores = gathered(w, x, experts);
  if (*scores != NULL) return true;
  *taken = TAKEN_MASKED;
  if (round) *scores = masked(w, x, experts);
  return *scores != NULL;
}

static bool take(weighing_t *w) {
  for (unsigned i = 0; i < w->n; i++) {
    taken_t taken;
    ir_value_t *scores;
    double mixer;
    if (!take_one(w, i, &taken, &scores, &mixer)) return false;
    if (i > 0 &&
        (taken != w->taken || scores != w->scores || mixer != w->mixer))
      return false;
    w->taken = taken;
    w->scores = scores;
    w->mixer = mixer;
  }
  for (unsigned i = 0; i < w->n; i++) router_note(w->m, w->value[i]->def);
  return true;
}

/* ---- Norms --------------------------------------------------------------- */

static void reverse(const route_steps_t *from, route_steps_t *to) {
  to->n = from->n;
  for (unsigned i = 0; i < from->n; i++) {
    to->step[i] = from->step[from->n - 1 - i];
    to->value[i] = from->value[from->n - 1 - i];
  }
}

/* x is the weights themselves after some steps back. */
static bool reaches_weights(weighing_t *w, ir_value_t *x,
                            route_steps_t *reversed) {
  step_info_t step;
  double number;
  while (x != w->value[0]) {
    if (!router_step(w->m, 1, &x, w->width, &step, &number) ||
        (step.places & STEP_IN_NORM) == 0 ||
        !route_add_step(reversed, step, number))
      return false;
  }
  return true;
}

static bool is_sum_of_columns(const weighing_t *w, const ir_value_t *x) {
  /* a + b is what a sum over two gives; longer ones have an order. */
  const ir_op_t *op = def_is(x, OP_ADD);
  if (op == NULL || w->n != 2) return false;
  const ir_value_t *a = router_strip(w->m, op->in[0].value);
  const ir_value_t *b = router_strip(w->m, op->in[1].value);
  return rule_same_dims(&op->in[0].value->type, &op->in[1].value->type) &&
         ((a == w->value[0] && b == w->value[1]) ||
          (a == w->value[1] && b == w->value[0]));
}

/* x, one number for each token, as a function of the weights. */
static bool match_norm(weighing_t *w, ir_value_t *x) {
  matcher_t *m = w->m;
  route_steps_t reversed = {0};
  step_info_t step, sum;
  double number;
  if (!route_step_by_code(STEP_SUM, OP_REDUCE_SUM, &sum)) return false;
  x = router_strip(m, x);
  for (;;) {
    const ir_op_t *op = def_is(x, OP_REDUCE_SUM);
    bool ends = false, columns = is_sum_of_columns(w, x);
    if (op != NULL && w->n == 1 && router_reduces_row(op, w->width)) {
      if (!route_add_step(&reversed, sum, 0)) return false;
      ends = reaches_weights(w, router_strip(m, op->in[0].value), &reversed);
    } else if (columns || (w->n == 1 && w->width == 1 && x == w->value[0])) {
      ends = route_add_step(&reversed, sum, 0);
    }
    if (ends) {
      if (op != NULL || columns) router_note(m, x->def);
      reverse(&reversed, &m->out->route.norm);
      return true;
    }
    if (op != NULL || !router_step(m, 1, &x, 1, &step, &number) ||
        (step.places & STEP_IN_NORM) == 0 ||
        !route_add_step(&reversed, step, number))
      return false;
  }
}

/* The operand behind a broadcast from one number for each row. */
static ir_value_t *narrow_operand(const weighing_t *w, ir_value_t *x,
                                  const ir_type_t *like) {
  if (router_is_per_row(&x->type, like, w->width)) return x;
  const ir_value_t *at = x;
  while (at->def != NULL && at->def->code == OP_EXPAND) {
    at = at->def->in[0].value;
    if (router_is_per_row(&at->type, like, w->width)) {
      router_note(w->m, x->def);
      return at->def != NULL ? x->def->in[0].value : NULL;
    }
  }
  return NULL;
}

/* value[i] = in[side] (divided by or times) a norm of all of them. */
static bool match_normalised(weighing_t *w, unsigned side) {
  matcher_t *m = w->m;
  ir_value_t *below[ROUTER_MAX_COLUMNS], *norm = NULL;
  ir_opcode_t code = OP_COUNT;
  for (unsigned i = 0; i < w->n; i++) {
    const ir_op_t *op = w->value[i]->def;
    if (op == NULL || (op->code != OP_DIV && op->code != OP_MUL) ||
        (op->code == OP_DIV && side != 0) || (i > 0 && op->code != code))
      return false;
    code = op->code;
    ir_value_t *a = op->in[side].value;
    ir_value_t *d = narrow_operand(w, op->in[1 - side].value, &a->type);
    if (d == NULL) return false;
    d = router_strip(m, d);
    if (i > 0 && d != norm) return false;
    norm = d;
    below[i] = router_strip(m, a);
  }
  step_info_t step;
  weighing_t inner = *w;
  for (unsigned i = 0; i < w->n; i++) inner.value[i] = below[i];
  unsigned noted = m->out->n_nodes;
  if (!route_step_by_code(code == OP_DIV ? STEP_DIVIDE : STEP_TIMES, code,
                          &step) ||
      m->out->route.norm.n > 0 || !match_norm(&inner, norm) ||
      !route_add_step(&w->reversed, step, 0)) {
    m->out->n_nodes = noted;
    m->out->route.norm.n = 0;
    return false;
  }
  for (unsigned i = 0; i < w->n; i++) {
    router_note(m, w->value[i]->def);
    w->value[i] = below[i];
  }
  return true;
}

/* value = w * scale[expert] */
static bool match_scale(weighing_t *w, unsigned side) {
  matcher_t *m = w->m;
  const ir_op_t *op = w->n == 1 ? def_is(w->value[0], OP_MUL) : NULL;
  step_info_t step;
  if (op == NULL || w->scale != NULL) return false;
  ir_value_t *other = router_strip(m, op->in[1 - side].value);
  const ir_op_t *gather = other->def;
  if (gather == NULL || gather->code != OP_GATHER ||
      gather->in[0].value->type.rank != 1 ||
      !expr_equals_const(gather->in[0].value->type.dim[0], m->out->E) ||
      router_strip_index(m, gather->in[1].value, m->out->E) != m->expert ||
      !rule_same_dims(&op->in[0].value->type, &op->in[1].value->type) ||
      !rule_is_constant(gather->in[0].value) ||
      !route_step_by_code(STEP_SCALE, OP_MUL, &step) ||
      !route_add_step(&w->reversed, step, 0))
    return false;
  router_note(m, op);
  router_note(m, gather);
  w->scale = gather->in[0].value;
  w->value[0] = router_strip(m, op->in[side].value);
  return true;
}

/* ---- All steps ----------------------------------------------------------- */

static bool split_columns(weighing_t *w) {
  matcher_t *m = w->m;
  const ir_op_t *op = def_is(w->value[0], OP_CONCAT);
  if (w->n != 1 || !m->rounds || m->n_columns < 2 || op == NULL ||
      op->n_in != m->n_columns ||
      !router_is_row(&op->out[0].type, ir_get_int(op, ATTR_CONCAT_axis),
                     m->n_columns))
    return false;
  router_note(m, op);
  w->n = op->n_in;
  w->width = 1;
  for (unsigned i = 0; i < w->n; i++)
    w->value[i] = router_strip(m, op->in[i].value);
  return true;
}

static bool one_step(weighing_t *w) {
  step_info_t step;
  double number;
  if (router_step(w->m, w->n, w->value, w->width, &step, &number))
    return (step.places & STEP_IN_WEIGHT) != 0 &&
           route_add_step(&w->reversed, step, number);
  return match_normalised(w, 0) || match_normalised(w, 1) ||
         match_scale(w, 0) || match_scale(w, 1);
}

/* ---- What they are weights of -------------------------------------------- */

static ir_value_t *value_at(const chain_t *c, unsigned i) {
  return i < c->n ? c->link[i].value : c->root;
}

static const ir_op_t *gate_of(const matcher_t *m, const ir_value_t *x) {
  const ir_op_t *op = def_is(x, OP_MATMUL);
  if (op == NULL || ir_has_attr(op, ATTR_MATMUL_out_dtype)) return NULL;
  const ir_type_t *a = &op->in[0].value->type, *b = &op->in[1].value->type;
  if (a->rank < 2 || b->rank != 2 || !dtype_is_float(a->dtype) ||
      a->dtype != b->dtype || a->dtype != x->type.dtype ||
      !expr_equals_const(b->dim[1], m->out->E))
    return NULL;
  return op;
}

/* Whether link i adds the bias of the gate. */
static bool is_gate_bias(const matcher_t *m, const chain_t *c, unsigned i) {
  return i + 1 == c->n && c->link[i].kind == LINK_VECTOR &&
         gate_of(m, c->root) != NULL;
}

/* The logits are value i of the chain. */
static void set_logits(matcher_t *m, const chain_t *c, unsigned i) {
  route_t *r = &m->out->route;
  const ir_op_t *gate = NULL;
  r->in[ROUTE_X] = m->out->logits = value_at(c, i);
  if (i == c->n || is_gate_bias(m, c, i)) gate = gate_of(m, c->root);
  if (gate == NULL) return;
  if (i < c->n) {
    r->in[ROUTE_GATE_BIAS] = c->link[i].vector;
    router_note(m, c->link[i].value->def);
  }
  r->in[ROUTE_X] = gate->in[0].value;
  r->in[ROUTE_GATE] = gate->in[1].value;
  router_note(m, gate);
}

/* Scores are value i of the chain: steps, then logits. */
static void set_scores(matcher_t *m, const chain_t *c, unsigned i) {
  route_steps_t reversed = {0};
  for (; i < c->n && c->link[i].kind == LINK_STEP; i++) {
    const link_t *link = &c->link[i];
    if ((link->step.places & STEP_IN_SCORE) == 0 ||
        !route_add_step(&reversed, link->step, link->number))
      break;
  }
  reverse(&reversed, &m->out->route.score);
  set_logits(m, c, i);
}

/* Reads bias and groups from the front of the chain; how many links. Where
 * `all` of the chain is meant, its last bias is the gate's. */
static unsigned set_choice(matcher_t *m, const chain_t *c, unsigned end,
                           bool all) {
  route_t *r = &m->out->route;
  unsigned i = 0;
  if (i < end && c->link[i].kind == LINK_GROUPS) {
    const link_t *link = &c->link[i++];
    r->groups = link->groups;
    r->group_best = link->group_best;
    r->groups_kept = link->groups_kept;
    r->group_fill = link->fill;
    r->group_multiply = link->multiply;
  }
  if (i < end && c->link[i].kind == LINK_VECTOR &&
      !(all && is_gate_bias(m, c, i)))
    r->in[ROUTE_SELECT_BIAS] = c->link[i++].vector;
  return i;
}

static bool ends_with_softmax(const route_steps_t *score) {
  unsigned n = score->n;
  while (n > 0 && score->step[n - 1].form == STEP_CAST) n--;
  return n > 0 && score->step[n - 1].form == STEP_SOFTMAX;
}

static bool resolve_choice(const weighing_t *w, const chain_t *c) {
  matcher_t *m = w->m;
  route_t *r = &m->out->route;
  unsigned i = set_choice(m, c, c->n, true);
  set_scores(m, c, i);
  /* What is 16 bits wide may be kept wider where no topk has seen it. */
  bool same = i == 0 && dtype_bits(m->choice[0]->type.dtype) >= 32;
  r->source = same ? ROUTE_FROM_SCORE : ROUTE_FROM_CHOICE;
  if (w->taken != TAKEN_LARGEST) return true;
  /* Probabilities have one zero only, so that equal ones are the same. */
  bool one = m->n_columns == 1 && i == 0 && ends_with_softmax(&r->score);
  r->source = one ? ROUTE_FROM_SCORE : ROUTE_FROM_LARGEST;
  return true;
}

static bool only_steps(const chain_t *c, unsigned begin, unsigned end,
                       bool elementwise) {
  for (unsigned i = begin; i < end; i++) {
    if (c->link[i].kind != LINK_STEP) return false;
    if (elementwise && c->link[i].step.form == STEP_SOFTMAX) return false;
  }
  return true;
}

/* Scores and choice both come from value `at` of the choice's chain, `from` of
 * that of the scores. */
static bool resolve_apart(weighing_t *w, const chain_t *choice, unsigned at,
                          const chain_t *scores, unsigned from) {
  matcher_t *m = w->m;
  route_t *r = &m->out->route;
  unsigned i = set_choice(m, choice, at, false);
  route_steps_t reversed = {0};
  if (!only_steps(choice, i, at, false) ||
      !only_steps(scores, 0, from, i != at))
    return false;
  if (i == at) { /* the logits select */
    for (unsigned j = 0; j < from; j++)
      if (!route_add_step(&reversed, scores->link[j].step,
                          scores->link[j].number))
        return false;
    reverse(&reversed, &r->score);
    r->by_logits = true;
    r->source = ROUTE_FROM_SCORE;
  } else { /* elementwise steps are the same after the gathering */
    for (unsigned j = i; j < at; j++)
      if (!route_add_step(&reversed, choice->link[j].step,
                          choice->link[j].number))
        return false;
    reverse(&reversed, &r->score);
    for (unsigned j = 0; j < from; j++)
      if (!route_add_step(&w->reversed, scores->link[j].step,
                          scores->link[j].number))
        return false;
    r->source = ROUTE_FROM_LOGITS;
  }
  set_logits(m, choice, at);
  return true;
}

/* Forgets what an attempt has written. */
static void forget(matcher_t *m) {
  route_t *r = &m->out->route;
  r->score.n = 0;
  r->groups = 0;
  r->by_logits = false;
  for (unsigned i = 0; i < ROUTE_MAX_IN; i++)
    if (i != ROUTE_EXPERT_SCALE) r->in[i] = NULL;
}

static bool resolve_scores(weighing_t *w, const chain_t *c) {
  matcher_t *m = w->m;
  route_t *r = &m->out->route;
  for (unsigned at = 0; at <= c->n; at++) {
    if (value_at(c, at) != w->scores) continue;
    if (set_choice(m, c, at, false) != at) break;
    set_scores(m, c, at);
    r->source = ROUTE_FROM_SCORE;
    return true;
  }
  forget(m);
  chain_t scores;
  unsigned n_steps = w->reversed.n;
  router_chain(m, w->scores, &scores);
  for (unsigned from = 0; from <= scores.n; from++)
    for (unsigned at = 0; at <= c->n; at++) {
      if (value_at(c, at) != value_at(&scores, from)) continue;
      if (resolve_apart(w, c, at, &scores, from)) return true;
      w->reversed.n = n_steps;
      forget(m);
    }
  /* Whatever these scores are, they are given. */
  set_scores(m, c, set_choice(m, c, c->n, true));
  r->in[ROUTE_MIXING] = w->scores;
  r->source = ROUTE_FROM_MIXING;
  return true;
}

static bool resolve(weighing_t *w) {
  matcher_t *m = w->m;
  route_t *r = &m->out->route;
  chain_t choice;
  router_chain(m, m->choice[0], &choice);
  switch (w->taken) {
    case TAKEN_CHOICE:
    case TAKEN_LARGEST:
      return resolve_choice(w, &choice);
    case TAKEN_SCORES:
      return resolve_scores(w, &choice);
    case TAKEN_MASKED:
      /* 0 times a probability is 0, and so is nothing else in the sum. */
      return resolve_scores(w, &choice) && r->source == ROUTE_FROM_SCORE &&
             ends_with_softmax(&r->score);
    case TAKEN_MIXER:
      r->mixer = w->mixer;
      r->source = ROUTE_FROM_MIXER;
      set_logits(m, &choice, 0);
      return !r->remove_multiply;
  }
  return false;
}

/* a + b of two columns is what a sum over both gives but for the sign of zero:
 * they are probabilities, as they come. */
static bool columns_add_up(const route_t *r) {
  if (!ends_with_softmax(&r->score) || r->in[ROUTE_SELECT_BIAS] != NULL ||
      r->groups > 0 ||
      (r->source != ROUTE_FROM_SCORE && r->source != ROUTE_FROM_LARGEST))
    return false;
  unsigned i = 0;
  while (i < r->weight.n && r->weight.step[i].form == STEP_CAST) i++;
  return i < r->weight.n && (r->weight.step[i].form == STEP_DIVIDE ||
                             r->weight.step[i].form == STEP_TIMES);
}

bool router_match_weight(matcher_t *m, ir_value_t *weight) {
  moe_router_t *r = m->out;
  weighing_t w = {.m = m, .n = 1, .width = r->route.k};
  w.value[0] = r->weight = router_strip(m, weight);
  if (!router_has_rows(m, weight, r->route.k)) return false;
  while (!take(&w))
    if (!split_columns(&w) && !one_step(&w)) return false;
  if (!resolve(&w)) return false;
  r->route.in[ROUTE_EXPERT_SCALE] = w.scale;
  reverse(&w.reversed, &r->route.weight);
  return w.n == 1 || r->route.norm.n == 0 || columns_add_up(&r->route);
}
