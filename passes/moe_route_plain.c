/* moe.route by plain operations, step by step in the order of ops.def. */
#include "passes/moe_route_plain.h"

#include <math.h>

typedef struct plain {
  ir_builder_t *b;
  const route_t *r;
  const expr_t *T, *E; /* tokens, experts */
  int64_t n_experts;
  ir_value_t *logits, *score, *choice; /* [T, E] */
  ir_value_t *expert;                  /* i64[T, k] */
  ir_value_t *best;                    /* [T, k]: choices of topk, or NULL */
} plain_t;

static const int64_t last_axis[] = {1};

static const expr_t *number(const plain_t *p, int64_t n) {
  return expr_const(p->b->module->exprs, n);
}

/* ---- Steps --------------------------------------------------------------- */

static ir_value_t *softmax(const plain_t *p, ir_value_t *x) {
  ir_op_t *op = ir_begin(p->b, OP_SOFTMAX, 1, &x, 1);
  if (op != NULL) ir_set_int(op, ATTR_SOFTMAX_axis, 1);
  return ir_place(p->b, op);
}

static ir_value_t *step_norm(const plain_t *p, ir_value_t *w);

static ir_value_t *expert_scale(const plain_t *p, ir_value_t *w) {
  ir_value_t *scale =
      ir_gather(p->b, p->r->in[ROUTE_EXPERT_SCALE], p->expert, 0);
  return ir_binary(p->b, OP_MUL, w, scale);
}

static ir_value_t *step(const plain_t *p, const route_steps_t *steps,
                        unsigned i, ir_value_t *w) {
  const step_info_t *info = &steps->step[i];
  if (w == NULL) return NULL;
  dtype_t dtype = w->type.dtype;
  ir_value_t *other;
  switch (info->form) {
    case STEP_UNARY:
      return ir_unary(p->b, info->code, w);
    case STEP_RIGHT:
      other = ir_scalar(p->b, dtype, steps->value[i]);
      return ir_binary(p->b, info->code, w, other);
    case STEP_LEFT:
      other = ir_scalar(p->b, dtype, steps->value[i]);
      return ir_binary(p->b, info->code, other, w);
    case STEP_SQUARE:
      return ir_binary(p->b, OP_MUL, w, w);
    case STEP_SOFTMAX:
      return softmax(p, w);
    case STEP_SUM:
      return ir_reduce(p->b, OP_REDUCE_SUM, w, 1, last_axis, true);
    case STEP_DIVIDE:
    case STEP_TIMES:
      other = step_norm(p, w);
      return ir_binary(p->b, info->code, w, other);
    case STEP_SCALE:
      return expert_scale(p, w);
    case STEP_CAST:
      return ir_cast(p->b, w, info->dtype);
  }
  return NULL;
}

static ir_value_t *all_steps(const plain_t *p, const route_steps_t *steps,
                             ir_value_t *w) {
  for (unsigned i = 0; i < steps->n; i++) w = step(p, steps, i, w);
  return w;
}

static ir_value_t *step_norm(const plain_t *p, ir_value_t *w) {
  return all_steps(p, &p->r->norm, w);
}

/* ---- Choice -------------------------------------------------------------- */

static ir_op_t *topk(const plain_t *p, ir_value_t *x, unsigned axis,
                     int64_t k) {
  ir_op_t *op = ir_begin(p->b, OP_TOPK, 1, &x, 2);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_TOPK_axis, axis);
  ir_set_expr(op, ATTR_TOPK_k, number(p, k));
  ir_set_int(op, ATTR_TOPK_largest, 1);
  ir_set_int(op, ATTR_TOPK_sorted, 1);
  return ir_place(p->b, op) != NULL ? op : NULL;
}

static ir_value_t *result(ir_op_t *op, unsigned index) {
  return op != NULL ? &op->out[index] : NULL;
}

/* bool[T, n]: whether each number is among index[T, ..]. */
static ir_value_t *among(const plain_t *p, ir_value_t *index, int64_t n) {
  ir_builder_t *b = p->b;
  if (index == NULL) return NULL;
  const expr_t *dim[] = {p->T, number(p, n)};
  ir_value_t *zero = ir_scalar(b, DT_F32, 0), *one = ir_scalar(b, DT_F32, 1);
  ir_value_t *in[] = {ir_fill(b, zero, 2, dim), index, NULL};
  in[2] = ir_fill(b, one, 2, index->type.dim);
  ir_op_t *op = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, 1);
  ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, "none");
  return ir_cast(b, ir_place(b, op), DT_BOOL);
}

/* x where mask holds, else fill, or x times the mask. */
static ir_value_t *where(const plain_t *p, ir_value_t *mask, ir_value_t *x,
                         bool multiply, double fill) {
  if (mask == NULL || x == NULL) return NULL;
  if (multiply) {
    ir_value_t *factor = ir_cast(p->b, mask, x->type.dtype);
    return ir_binary(p->b, OP_MUL, x, factor);
  }
  ir_value_t *other = ir_scalar(p->b, x->type.dtype, fill);
  return ir_select(p->b, mask, x, other);
}

/* The sum of the two largest of each row of x[.., size], up to the sign of
 * zero, NaN where one is: as topk has them, without sorting. */
static ir_value_t *sum_of_two(const plain_t *p, ir_value_t *x, int64_t size) {
  ir_builder_t *b = p->b;
  const int64_t axis[] = {2};
  if (size == 2) return ir_reduce(b, OP_REDUCE_SUM, x, 1, axis, false);
  dtype_t dtype = x->type.dtype;
  ir_value_t *most = ir_reduce(b, OP_REDUCE_MAX, x, 1, axis, true);
  ir_value_t *equal = ir_binary(b, OP_EQ, x, most);
  ir_value_t *one = ir_cast(b, equal, DT_F32);
  ir_value_t *count = ir_reduce(b, OP_REDUCE_SUM, one, 1, axis, true);
  ir_value_t *none = ir_scalar(b, dtype, -(double)INFINITY);
  ir_value_t *others = ir_select(b, equal, none, x);
  ir_value_t *next = ir_reduce(b, OP_REDUCE_MAX, others, 1, axis, true);
  ir_value_t *several = ir_binary(b, OP_LT, ir_scalar(b, DT_F32, 1), count);
  next = ir_select(b, several, most, next);
  ir_value_t *sum = ir_binary(b, OP_ADD, most, next);
  return sum != NULL ? ir_squeeze(b, sum, 2) : NULL;
}

static ir_value_t *limit_to_groups(const plain_t *p, ir_value_t *c) {
  const route_t *r = p->r;
  ir_builder_t *b = p->b;
  const expr_t *G = number(p, r->groups), *one = number(p, 1);
  const expr_t *size = number(p, p->n_experts / r->groups);
  const expr_t *split[] = {p->T, G, size}, *column[] = {p->T, G, one};
  const expr_t *flat[] = {p->T, p->E};
  const int64_t axis[] = {2};
  ir_value_t *grouped = ir_reshape(b, c, 3, split), *best;
  if (r->group_best == 1) {
    best = ir_reduce(b, OP_REDUCE_MAX, grouped, 1, axis, false);
  } else if (r->group_best == 2 && dtype_bits(c->type.dtype) >= 32) {
    best = sum_of_two(p, grouped, p->n_experts / r->groups);
  } else {
    best = result(topk(p, grouped, 2, r->group_best), 0);
    best = ir_reduce(b, OP_REDUCE_SUM, best, 1, axis, false);
  }
  ir_value_t *kept = result(topk(p, best, 1, r->groups_kept), 1);
  ir_value_t *mask = among(p, kept, r->groups);
  mask = ir_reshape(b, mask, 3, column);
  mask = ir_expand(b, mask, 3, split);
  mask = ir_reshape(b, mask, 2, flat);
  return where(p, mask, c, r->group_multiply, r->group_fill);
}

/* ---- Selection ----------------------------------------------------------- */

static ir_value_t *reversed(const plain_t *p, ir_value_t *x) {
  return ir_slice(p->b, x, 1, number(p, p->n_experts - 1), p->E, number(p, -1));
}

static void select_topk(plain_t *p) {
  ir_value_t *x = p->choice;
  if (p->r->last_index) x = reversed(p, x);
  ir_op_t *op = topk(p, x, 1, p->r->k);
  p->best = result(op, 0);
  p->expert = result(op, 1);
  if (!p->r->last_index) return;
  ir_value_t *last = ir_scalar_int(p->b, DT_I64, p->n_experts - 1);
  p->expert = ir_binary(p->b, OP_SUB, last, p->expert);
}

static ir_value_t *arg_max(const plain_t *p, ir_value_t *x) {
  ir_op_t *op = ir_begin(p->b, OP_ARG_MAX, 1, &x, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_ARG_MAX_axis, 1);
  ir_set_int(op, ATTR_ARG_MAX_keepdims, 1);
  ir_set_int(op, ATTR_ARG_MAX_select_last_index, p->r->last_index);
  return ir_place(p->b, op);
}

/* bool[T, E]: all but the expert of each token. */
static ir_value_t *all_but(const plain_t *p, ir_value_t *expert) {
  ir_value_t *numbers = ir_iota(p->b, DT_I64, p->E);
  ir_value_t *equal = ir_binary(p->b, OP_EQ, expert, numbers);
  return ir_unary(p->b, OP_NOT, equal);
}

static ir_value_t *gather(const plain_t *p, ir_value_t *x, ir_value_t *expert) {
  ir_op_t *op =
      ir_begin(p->b, OP_GATHER_ELEMENTS, 2, (ir_value_t *[]){x, expert}, 1);
  if (op != NULL) ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  return ir_place(p->b, op);
}

/* The weight of a round of SparseMixer, whose choice is c and maximum m. */
static ir_value_t *mixer_weight(const plain_t *p, ir_value_t *c, ir_value_t *m,
                                ir_value_t *expert) {
  ir_builder_t *b = p->b;
  if (c == NULL) return NULL;
  dtype_t dtype = c->type.dtype;
  ir_value_t *size = ir_unary(b, OP_ABS, p->logits);
  ir_value_t *factor = ir_binary(b, OP_MAX, size, m);
  ir_value_t *below = ir_binary(b, OP_SUB, m, p->logits);
  ir_value_t *ratio = ir_binary(b, OP_DIV, below, factor);
  ir_value_t *threshold = ir_scalar(b, dtype, p->r->mixer);
  ir_value_t *far = ir_binary(b, OP_LT, threshold, ratio);
  ir_value_t *none = ir_scalar(b, dtype, -(double)INFINITY);
  ir_value_t *near = ir_select(b, far, none, c);
  return gather(p, softmax(p, near), expert);
}

/* Experts and, where the source is of rounds, their weights w[T, k]. */
static ir_value_t *select_rounds(plain_t *p) {
  const route_t *r = p->r;
  arena_t *arena = p->b->module->arena;
  ir_value_t **expert = ARENA_ARRAY(arena, ir_value_t *, (size_t)r->k);
  ir_value_t **weight = ARENA_ARRAY(arena, ir_value_t *, (size_t)r->k);
  ir_value_t *c = p->choice, *w = NULL;
  bool weighs =
      r->source == ROUTE_FROM_LARGEST || r->source == ROUTE_FROM_MIXER;
  for (int64_t i = 0; i < r->k; i++) {
    if (i > 0)
      c = where(p, all_but(p, expert[i - 1]), c, r->remove_multiply,
                r->removed);
    expert[i] = arg_max(p, c);
    if (!weighs) continue;
    weight[i] = ir_reduce(p->b, OP_REDUCE_MAX, c, 1, last_axis, true);
    if (r->source == ROUTE_FROM_MIXER)
      weight[i] = mixer_weight(p, c, weight[i], expert[i]);
  }
  p->expert = ir_concat(p->b, (unsigned)r->k, expert, 1);
  if (weighs) w = ir_concat(p->b, (unsigned)r->k, weight, 1);
  return w;
}

static ir_value_t *source(const plain_t *p) {
  bool wide = p->score != NULL && dtype_bits(p->score->type.dtype) >= 32;
  switch (p->r->source) {
    case ROUTE_FROM_SCORE:
      if (p->best != NULL && p->score == p->choice && wide) return p->best;
      return gather(p, p->score, p->expert);
    case ROUTE_FROM_CHOICE:
      if (p->best != NULL) return p->best;
      return gather(p, p->choice, p->expert);
    case ROUTE_FROM_LOGITS:
      return gather(p, p->logits, p->expert);
    case ROUTE_FROM_MIXING:
      return gather(p, p->r->in[ROUTE_MIXING], p->expert);
    default:
      return NULL;
  }
}

moec_status_t moe_route_build_plain(ir_builder_t *b, const ir_op_t *op,
                                    ir_value_t **out_expert,
                                    ir_value_t **out_weight) {
  route_t r;
  const char *what;
  if (!route_read(op, &r, &what))
    MOEC_BUG("moe.route has an unknown '%s'", what);
  plain_t p = {.b = b, .r = &r, .T = op->out[0].type.dim[0]};
  p.logits = r.in[ROUTE_X];
  if (r.in[ROUTE_GATE] != NULL)
    p.logits = ir_matmul(b, p.logits, r.in[ROUTE_GATE]);
  if (r.in[ROUTE_GATE_BIAS] != NULL)
    p.logits = ir_binary(b, OP_ADD, p.logits, r.in[ROUTE_GATE_BIAS]);
  MOEC_TRY(b->status);
  p.E = p.logits->type.dim[1];
  if (!expr_is_const(p.E, &p.n_experts))
    MOEC_BUG("moe.route over a number of experts that is not constant");
  p.score = all_steps(&p, &r.score, p.logits);
  p.choice = r.by_logits ? p.logits : p.score;
  if (r.in[ROUTE_SELECT_BIAS] != NULL)
    p.choice = ir_binary(b, OP_ADD, p.choice, r.in[ROUTE_SELECT_BIAS]);
  if (r.groups > 0) p.choice = limit_to_groups(&p, p.choice);
  ir_value_t *w = NULL;
  if (r.rounds)
    w = select_rounds(&p);
  else
    select_topk(&p);
  if (w == NULL) w = source(&p);
  *out_weight = all_steps(&p, &r.weight, w);
  *out_expert = p.expert;
  return b->status;
}
