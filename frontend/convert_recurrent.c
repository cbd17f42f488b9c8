/* RNN, GRU and LSTM. The products of all inputs with the input weights are one
 * product in front of a while over the steps; its body multiplies the state by
 * the recurrent weights of all gates at once. Both directions of a
 * bidirectional operator take their steps in the same trips. f16 and bf16 are
 * computed in f32 and rounded once. */
#include <math.h>

#include "frontend/activation.h"
#include "frontend/region.h"

enum { MAX_UNROLLED = 4, MAX_FUNCTIONS = 3 };

typedef struct recurrent recurrent_t;

typedef struct activation {
  const activation_kind_t *kind;
  double alpha, beta;
} activation_t;

typedef struct direction {
  bool reverse;
  unsigned index;
  activation_t f[MAX_FUNCTIONS];
  ir_value_t *weights;      /* [hidden, gates * hidden], transposed */
  ir_value_t *late_bias;    /* [hidden], see gru_step, or NULL */
  ir_value_t *peepholes[3]; /* [hidden] of i, o, f, or NULL */
} direction_t;

typedef struct cell {
  unsigned n_gates, n_functions, n_states;
  const char *functions[MAX_FUNCTIONS]; /* by default */
  /* One step: state[n_states] to next[n_states], all [batch, hidden]. inputs is
   * [batch, gates * hidden]. */
  void (*step)(convert_ctx_t *ctx, const recurrent_t *r, const direction_t *d,
               ir_value_t *inputs, ir_value_t *const *state, ir_value_t **next);
} cell_t;

struct recurrent {
  const cell_t *cell;
  unsigned n_directions;
  direction_t direction[2];
  const expr_t *steps, *batch, *inputs, *hidden;
  double clip; /* INFINITY: none */
  bool batch_first, input_forget, linear_before_reset, wants_rows;
  ir_value_t *projected; /* [steps, batch, directions * gates * hidden] */
  ir_value_t *lengths;   /* i64[batch], or NULL */
  ir_value_t *rows;      /* i64[steps, batch], see reversed_rows, or NULL */
};

/* ---- Small parts --------------------------------------------------------- */

static ir_value_t *add(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *y) {
  return ir_binary(ctx->b, OP_ADD, x, y);
}

static ir_value_t *sub(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *y) {
  return ir_binary(ctx->b, OP_SUB, x, y);
}

static ir_value_t *mul(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *y) {
  return ir_binary(ctx->b, OP_MUL, x, y);
}

static const expr_t *times(convert_ctx_t *ctx, const expr_t *e, unsigned n) {
  return expr_mul(ctx->exprs, e, ctx_int(ctx, n));
}

/* `count` pieces of the length of a gate along an axis, beginning with number
 * `first`. */
static ir_value_t *gates(convert_ctx_t *ctx, const recurrent_t *r,
                         ir_value_t *x, unsigned axis, unsigned first,
                         unsigned count) {
  const expr_t *start = times(ctx, r->hidden, first);
  return ctx_part(ctx, x, axis, start, times(ctx, r->hidden, count));
}

/* Activation function `index` of a direction. */
static ir_value_t *apply(convert_ctx_t *ctx, const direction_t *d,
                         unsigned index, ir_value_t *x) {
  const activation_t *f = &d->f[index];
  return x != NULL ? f->kind->apply(ctx, x, f->alpha, f->beta) : NULL;
}

/* The same of a gate, which is clipped. The cell of an LSTM is not, though it
 * is the input of an activation too: other implementations agree on that. */
static ir_value_t *apply_gate(convert_ctx_t *ctx, const recurrent_t *r,
                              const direction_t *d, unsigned index,
                              ir_value_t *x) {
  if (x != NULL && isfinite(r->clip)) {
    x = ir_binary(ctx->b, OP_MAX, x, ctx_scalar(ctx, x, -r->clip));
    x = ir_binary(ctx->b, OP_MIN, x, ctx_scalar(ctx, x, r->clip));
  }
  return apply(ctx, d, index, x);
}

/* ---- Steps --------------------------------------------------------------- */

/* h = f(inputs + h R') */
static void rnn_step(convert_ctx_t *ctx, const recurrent_t *r,
                     const direction_t *d, ir_value_t *inputs,
                     ir_value_t *const *state, ir_value_t **next) {
  ir_value_t *product = ir_matmul(ctx->b, state[0], d->weights);
  next[0] = apply_gate(ctx, r, d, 0, add(ctx, product, inputs));
}

/* The candidate for the new state; `zr` are the gates before activation.
 *   g(inputs + (r h) R'), or with linear_before_reset
 *   g(inputs + r (h R' + bias)): the bias that is not among the inputs */
static ir_value_t *candidate(convert_ctx_t *ctx, const recurrent_t *r,
                             const direction_t *d, ir_value_t *inputs,
                             ir_value_t *h, ir_value_t *reset,
                             ir_value_t *late) {
  inputs = gates(ctx, r, inputs, 1, 2, 1);
  if (r->linear_before_reset) {
    if (d->late_bias != NULL) late = add(ctx, late, d->late_bias);
    return apply_gate(ctx, r, d, 1, add(ctx, mul(ctx, reset, late), inputs));
  }
  ir_value_t *weights = gates(ctx, r, d->weights, 1, 2, 1);
  ir_value_t *product = ir_matmul(ctx->b, mul(ctx, reset, h), weights);
  return apply_gate(ctx, r, d, 1, add(ctx, product, inputs));
}

/* h = (1 - z) candidate + z h */
static void gru_step(convert_ctx_t *ctx, const recurrent_t *r,
                     const direction_t *d, ir_value_t *inputs,
                     ir_value_t *const *state, ir_value_t **next) {
  bool whole = r->linear_before_reset;
  ir_value_t *h = state[0], *late = NULL;
  ir_value_t *weights = whole ? d->weights : gates(ctx, r, d->weights, 1, 0, 2);
  ir_value_t *product = ir_matmul(ctx->b, h, weights);
  if (whole) late = gates(ctx, r, product, 1, 2, 1);
  ir_value_t *early = whole ? gates(ctx, r, product, 1, 0, 2) : product;
  ir_value_t *zr = add(ctx, early, gates(ctx, r, inputs, 1, 0, 2));
  ir_value_t *z = apply_gate(ctx, r, d, 0, gates(ctx, r, zr, 1, 0, 1));
  ir_value_t *reset = apply_gate(ctx, r, d, 0, gates(ctx, r, zr, 1, 1, 1));
  ir_value_t *new = candidate(ctx, r, d, inputs, h, reset, late);
  ir_value_t *kept = mul(ctx, z, h);
  ir_value_t *rest = z != NULL ? sub(ctx, ctx_scalar(ctx, z, 1), z) : NULL;
  next[0] = add(ctx, mul(ctx, rest, new), kept);
}

/* A gate of an LSTM before activation, with its peephole at the cell. */
static ir_value_t *peep(convert_ctx_t *ctx, const recurrent_t *r,
                        const direction_t *d, ir_value_t *all, unsigned gate,
                        ir_value_t *c) {
  ir_value_t *x = gates(ctx, r, all, 1, gate, 1);
  if (d->peepholes[gate] == NULL) return x;
  return add(ctx, x, mul(ctx, d->peepholes[gate], c));
}

/* i = f(. + Pi c), f = f(. + Pf c) or 1 - i, c = f c + i g(.),
 * o = f(. + Po c), h = o h(c) */
static void lstm_step(convert_ctx_t *ctx, const recurrent_t *r,
                      const direction_t *d, ir_value_t *inputs,
                      ir_value_t *const *state, ir_value_t **next) {
  ir_value_t *product = ir_matmul(ctx->b, state[0], d->weights);
  ir_value_t *all = add(ctx, product, inputs), *c = state[1];
  ir_value_t *i = apply_gate(ctx, r, d, 0, peep(ctx, r, d, all, 0, c));
  if (i == NULL) return;
  ir_value_t *forget =
      r->input_forget ? sub(ctx, ctx_scalar(ctx, i, 1), i)
                      : apply_gate(ctx, r, d, 0, peep(ctx, r, d, all, 2, c));
  ir_value_t *new = apply_gate(ctx, r, d, 1, gates(ctx, r, all, 1, 3, 1));
  ir_value_t *kept = mul(ctx, forget, c);
  c = add(ctx, kept, mul(ctx, i, new));
  ir_value_t *o = apply_gate(ctx, r, d, 0, peep(ctx, r, d, all, 1, c));
  next[0] = mul(ctx, o, apply(ctx, d, 2, c));
  next[1] = c;
}

/* ---- Attributes ---------------------------------------------------------- */

/* The functions of all directions; alphas and betas are for those that take
 * one, in turn. */
static bool read_functions(convert_ctx_t *ctx, recurrent_t *r) {
  unsigned n_names, n_alpha, n_beta, n = r->cell->n_functions;
  const char *const *names = attr_strs(ctx, "activations", &n_names);
  const double *alpha = attr_floats(ctx, "activation_alpha", &n_alpha);
  const double *beta = attr_floats(ctx, "activation_beta", &n_beta);
  if (n_names > 0 && n_names != n * r->n_directions) {
    ctx_invalid(ctx, "attribute \"activations\" has %u names, expected %u",
                n_names, n * r->n_directions);
    return false;
  }
  for (unsigned i = 0; i < n * r->n_directions; i++) {
    const char *name = n_names > 0 ? names[i] : r->cell->functions[i % n];
    const activation_kind_t *kind = activation_find(name);
    if (kind == NULL) {
      ctx_invalid(ctx, "there is no activation function \"%s\"", name);
      return false;
    }
    activation_t f = {kind, kind->alpha, kind->beta};
    if (kind->has_alpha && n_alpha > 0) f.alpha = *alpha++, n_alpha--;
    if (kind->has_beta && n_beta > 0) f.beta = *beta++, n_beta--;
    r->direction[i / n].f[i % n] = f;
  }
  return ctx->status == MOEC_OK;
}

static bool read_attributes(convert_ctx_t *ctx, recurrent_t *r) {
  static const char *const ways[] = {"forward", "reverse", "bidirectional",
                                     NULL};
  unsigned way = attr_choice(ctx, "direction", ways);
  attr_ignore(ctx, "output_sequence"); /* that Y may be left out */
  r->n_directions = way == 2 ? 2 : 1;
  r->direction[0].reverse = way == 1;
  r->direction[1].reverse = true;
  r->direction[1].index = 1;
  r->batch_first = ctx->opset >= 14 && attr_bool(ctx, "layout", false);
  r->clip = INFINITY;
  if (attr_has(ctx, "clip")) r->clip = attr_float(ctx, "clip", INFINITY);
  if (r->clip < 0)
    ctx_invalid(ctx, "attribute \"clip\" is %g, expected at least 0", r->clip);
  return ctx->status == MOEC_OK && read_functions(ctx, r);
}

/* ---- Operands ------------------------------------------------------------ */

/* An operand with these dimensions, in the type of computing. */
static ir_value_t *operand(convert_ctx_t *ctx, unsigned index, const char *name,
                           unsigned rank, const expr_t *const *dim) {
  ir_value_t *x = ctx_in(ctx, index);
  if (x == NULL || !ctx_check_rank(ctx, x, rank, rank, name)) return NULL;
  const char *what = arena_printf(ctx->arena, "dimensions of %s", name);
  bool same = true;
  for (unsigned i = 0; i < rank; i++) {
    ir_check_equal(ctx->b, ctx_dim(x, i), dim[i], what);
    same &= ctx_dim(x, i) == dim[i];
  }
  if (!same && ctx_status(ctx) == MOEC_OK) x = ir_reshape(ctx->b, x, rank, dim);
  return ctx_widen(ctx, x);
}

/* [directions, gates * hidden, columns] and [directions, n * hidden] */
static ir_value_t *matrices(convert_ctx_t *ctx, const recurrent_t *r,
                            unsigned index, const char *name,
                            const expr_t *columns) {
  const expr_t *dim[] = {ctx_int(ctx, r->n_directions),
                         times(ctx, r->hidden, r->cell->n_gates), columns};
  return operand(ctx, index, name, 3, dim);
}

static ir_value_t *vectors(convert_ctx_t *ctx, const recurrent_t *r,
                           unsigned index, const char *name, unsigned n) {
  const expr_t *dim[] = {ctx_int(ctx, r->n_directions),
                         times(ctx, r->hidden, n)};
  return operand(ctx, index, name, 2, dim);
}

/* Element of the first axis, which goes. */
static ir_value_t *element(convert_ctx_t *ctx, ir_value_t *x, unsigned index) {
  ir_value_t *one = ctx_part(ctx, x, 0, ctx_int(ctx, index), ctx_int(ctx, 1));
  return one != NULL ? ir_squeeze(ctx->b, one, 0) : NULL;
}

/* [steps, batch, ..] and [batch, steps, ..], likewise for states */
static ir_value_t *turned(convert_ctx_t *ctx, ir_value_t *x, bool turn) {
  static const int64_t swap[] = {1, 0, 2};
  return turn && x != NULL ? ir_transpose(ctx->b, x, swap) : x;
}

static bool read_sizes(convert_ctx_t *ctx, recurrent_t *r) {
  ir_value_t *x = ctx_in(ctx, 0), *weights = ctx_in(ctx, 2);
  if (!ctx_check_rank(ctx, x, 3, 3, "X") ||
      !ctx_check_rank(ctx, weights, 3, 3, "R"))
    return false;
  r->steps = ctx_dim(x, r->batch_first);
  r->batch = ctx_dim(x, !r->batch_first);
  r->inputs = ctx_dim(x, 2);
  r->hidden = ctx_dim(weights, 2);
  if (attr_has(ctx, "hidden_size")) {
    const expr_t *size = ctx_int(ctx, attr_int(ctx, "hidden_size", 0));
    ir_check_equal(ctx->b, size, r->hidden, "hidden_size and the width of R");
    r->hidden = size;
  }
  return ctx_status(ctx) == MOEC_OK;
}

/* Lengths, each checked to be in [0, steps]. */
static void read_lengths(convert_ctx_t *ctx, recurrent_t *r) {
  ir_value_t *lengths = ctx_in(ctx, 4);
  ir_builder_t *b = ctx->b;
  if (lengths == NULL) return;
  if (!dtype_is_integer(lengths->type.dtype)) {
    ctx_invalid(ctx, "sequence_lens is %s", ctx_type_str(ctx, lengths));
    return;
  }
  lengths = operand(ctx, 4, "sequence_lens", 1, &r->batch);
  if (lengths == NULL) return;
  r->lengths = ir_cast(b, lengths, DT_I64);
  static const int64_t axis = 0;
  ir_value_t *zero = ir_scalar_int(b, DT_I64, 0);
  ir_value_t *most = ir_reduce(b, OP_REDUCE_MAX, r->lengths, 1, &axis, false);
  ir_value_t *least = ir_reduce(b, OP_REDUCE_MIN, r->lengths, 1, &axis, false);
  most = ir_binary(b, OP_MAX, most, zero);
  least = ir_binary(b, OP_MIN, least, zero);
  if (most == NULL || least == NULL) return;
  ir_bind(b, least, 0, "sequence_lens", 0, NULL);
  ir_bind(b, most, 0, "sequence_lens", 0, r->steps);
}

/* Which row of [steps * batch, ..] a reverse direction is at in each trip; the
 * same rows put its results in order:
 *   rows[t, n] = (t < length[n] ? length[n] - 1 - t : t) * batch + n */
static ir_value_t *reversed_rows(convert_ctx_t *ctx, const recurrent_t *r) {
  ir_builder_t *b = ctx->b;
  const expr_t *dim[] = {r->steps, r->batch};
  ir_value_t *step = ctx_along(ctx, ir_iota(b, DT_I64, r->steps), 0, 2);
  ir_value_t *column = ctx_along(ctx, ir_iota(b, DT_I64, r->batch), 1, 2);
  ir_value_t *length = ctx_along(ctx, r->lengths, 1, 2);
  ir_value_t *last = sub(ctx, length, ir_scalar_int(b, DT_I64, 1));
  ir_value_t *inside = ir_binary(b, OP_LT, step, length);
  ir_value_t *row = ir_select(b, inside, sub(ctx, last, step), step);
  row = mul(ctx, row, ir_expr_scalar(b, r->batch));
  return ir_expand(b, add(ctx, row, column), 2, dim);
}

/* The sum of both biases, [directions * gates * hidden]; what
 * linear_before_reset adds later is left out and set in the directions. */
static ir_value_t *read_bias(convert_ctx_t *ctx, recurrent_t *r) {
  unsigned n = r->cell->n_gates;
  ir_value_t *all = vectors(ctx, r, 3, "B", 2 * n);
  ir_value_t *sum[2] = {NULL, NULL};
  if (all == NULL) return NULL;
  for (unsigned i = 0; i < r->n_directions; i++) {
    ir_value_t *bias = element(ctx, all, i);
    ir_value_t *input = gates(ctx, r, bias, 0, 0, n);
    ir_value_t *state = gates(ctx, r, bias, 0, n, n);
    if (r->linear_before_reset) {
      ir_value_t *late = gates(ctx, r, state, 0, n - 1, 1);
      ir_value_t *early[] = {gates(ctx, r, state, 0, 0, n - 1), NULL};
      if (late == NULL || early[0] == NULL) return NULL;
      early[1] = ir_fill(ctx->b, ctx_scalar(ctx, bias, 0), 1, &r->hidden);
      state = ir_concat(ctx->b, 2, early, 0);
      r->direction[i].late_bias = late;
    }
    sum[i] = add(ctx, input, state);
    if (sum[i] == NULL) return NULL;
  }
  return r->n_directions == 1 ? sum[0] : ir_concat(ctx->b, 2, sum, 0);
}

/* X W' + bias for all steps and directions. */
static void project_inputs(convert_ctx_t *ctx, recurrent_t *r) {
  static const int64_t swap[] = {1, 0};
  const expr_t *width =
      times(ctx, r->hidden, r->n_directions * r->cell->n_gates);
  const expr_t *rows = expr_mul(ctx->exprs, r->steps, r->batch);
  const expr_t *flat[] = {rows, r->inputs}, *whole[] = {width, r->inputs};
  const expr_t *dim[] = {r->steps, r->batch, width};
  ir_value_t *x = turned(ctx, ctx_in(ctx, 0), r->batch_first);
  ir_value_t *weights = matrices(ctx, r, 1, "W", r->inputs);
  ir_value_t *bias = read_bias(ctx, r);
  if (x == NULL || weights == NULL || ctx_status(ctx) != MOEC_OK) return;
  x = ir_reshape(ctx->b, ctx_widen(ctx, x), 2, flat);
  weights = ir_reshape(ctx->b, weights, 2, whole);
  x = ir_matmul(ctx->b, x, ir_transpose(ctx->b, weights, swap));
  if (bias != NULL) x = add(ctx, x, bias);
  r->projected = ir_reshape(ctx->b, x, 3, dim);
}

static void read_weights(convert_ctx_t *ctx, recurrent_t *r) {
  static const int64_t swap[] = {1, 0};
  ir_value_t *all = matrices(ctx, r, 2, "R", r->hidden);
  ir_value_t *p = r->cell->n_states > 1 ? vectors(ctx, r, 7, "P", 3) : NULL;
  for (unsigned i = 0; i < r->n_directions; i++) {
    direction_t *d = &r->direction[i];
    d->weights = ir_transpose(ctx->b, element(ctx, all, i), swap);
    if (p == NULL) continue;
    ir_value_t *mine = element(ctx, p, i);
    for (unsigned gate = 0; gate < 3; gate++)
      d->peepholes[gate] = gates(ctx, r, mine, 0, gate, 1);
  }
}

/* States by direction: h, then c. */
static void read_states(convert_ctx_t *ctx, const recurrent_t *r,
                        ir_value_t **state) {
  static const char *const names[] = {"initial_h", "initial_c"};
  const expr_t *n = ctx_int(ctx, r->n_directions);
  const expr_t *dim[] = {r->batch_first ? r->batch : n,
                         r->batch_first ? n : r->batch, r->hidden};
  for (unsigned s = 0; s < r->cell->n_states; s++) {
    ir_value_t *given = operand(ctx, 5 + s, names[s], 3, dim);
    given = turned(ctx, given, r->batch_first);
    for (unsigned i = 0; i < r->n_directions; i++) {
      ir_value_t **place = &state[i * r->cell->n_states + s];
      if (given != NULL) {
        *place = element(ctx, given, i);
        continue;
      }
      const expr_t *mine[] = {r->batch, r->hidden};
      ir_value_t *zero = ctx_scalar(ctx, r->projected, 0);
      *place = ir_fill(ctx->b, zero, 2, mine);
    }
  }
}

/* ---- The loop ------------------------------------------------------------ */

/* Projected inputs [batch, gates * hidden] of a direction in a trip. */
static ir_value_t *inputs_of(convert_ctx_t *ctx, const recurrent_t *r,
                             const direction_t *d, ir_value_t *trip) {
  ir_value_t *x = r->projected;
  unsigned n = r->cell->n_gates;
  if (d->reverse && r->rows != NULL) {
    const expr_t *flat[] = {expr_mul(ctx->exprs, r->steps, r->batch),
                            ctx_dim(x, 2)};
    x = ir_reshape(ctx->b, x, 2, flat);
    x = ir_gather(ctx->b, x, ir_gather(ctx->b, r->rows, trip, 0), 0);
  } else if (d->reverse) {
    const expr_t *last = expr_sub(ctx->exprs, r->steps, ctx_int(ctx, 1));
    ir_value_t *at = sub(ctx, ir_expr_scalar(ctx->b, last), trip);
    x = ir_gather(ctx->b, x, at, 0);
  } else {
    x = ir_gather(ctx->b, x, trip, 0);
  }
  return gates(ctx, r, x, 1, d->index * n, n);
}

/* A trip: out[0] is left out, then states and rows by direction. */
static moec_status_t recurrent_body(convert_ctx_t *ctx, void *user,
                                    ir_value_t *trip, ir_value_t *const *state,
                                    ir_value_t **out) {
  const recurrent_t *r = user;
  ir_builder_t *b = ctx->b;
  unsigned n = r->cell->n_states;
  ir_value_t *goes_on = NULL, **row = out + 1 + r->n_directions * n;
  if (r->lengths != NULL) {
    ir_value_t *length = ctx_along(ctx, r->lengths, 0, 2);
    goes_on = ir_binary(b, OP_LT, trip, length);
  }
  out[0] = NULL;
  for (unsigned i = 0; i < r->n_directions; i++) {
    const direction_t *d = &r->direction[i];
    ir_value_t *const *now = state + i * n;
    ir_value_t **next = out + 1 + i * n;
    r->cell->step(ctx, r, d, inputs_of(ctx, r, d, trip), now, next);
    MOEC_TRY(ctx_status(ctx));
    if (r->wants_rows) row[i] = next[0];
    if (goes_on == NULL) continue;
    if (r->wants_rows)
      row[i] = ir_select(b, goes_on, next[0], ctx_scalar(ctx, next[0], 0));
    for (unsigned s = 0; s < n; s++)
      next[s] = ir_select(b, goes_on, next[s], now[s]);
  }
  return ctx_status(ctx);
}

/* Few steps one after the other. */
static moec_status_t write_out(convert_ctx_t *ctx, recurrent_t *r,
                               int64_t steps, ir_value_t **states,
                               ir_value_t **rows) {
  unsigned n_states = r->n_directions * r->cell->n_states;
  ir_value_t *out[1 + 2 * 3], *stack[2][MAX_UNROLLED];
  for (int64_t trip = 0; trip < steps; trip++) {
    ir_value_t *at = ir_scalar_int(ctx->b, DT_I64, trip);
    MOEC_TRY(recurrent_body(ctx, r, at, states, out));
    for (unsigned i = 0; i < n_states; i++) states[i] = out[1 + i];
    for (unsigned i = 0; r->wants_rows && i < r->n_directions; i++) {
      stack[i][trip] = ir_unsqueeze(ctx->b, out[1 + n_states + i], 0);
      if (stack[i][trip] == NULL) return ctx_status(ctx);
    }
  }
  for (unsigned i = 0; r->wants_rows && i < r->n_directions; i++)
    rows[i] = ir_concat(ctx->b, (unsigned)steps, stack[i], 0);
  return ctx_status(ctx);
}

/* Gives the last states, by direction, and the rows of each direction. */
static moec_status_t run_steps(convert_ctx_t *ctx, recurrent_t *r,
                               ir_value_t **states, ir_value_t **rows) {
  int64_t steps;
  unsigned n_states = r->n_directions * r->cell->n_states;
  if (expr_is_const(r->steps, &steps) && steps > 0 && steps <= MAX_UNROLLED)
    return write_out(ctx, r, steps, states, rows);
  ir_value_t *results[2 * 3];
  while_spec_t spec = {.trips = r->steps,
                       .n_state = n_states,
                       .n_rows = r->wants_rows ? r->n_directions : 0,
                       .init = states,
                       .body = recurrent_body,
                       .user = r};
  spec.limit = ir_expr_scalar(ctx->b, r->steps);
  spec.first = ir_scalar_int(ctx->b, DT_BOOL, 1);
  MOEC_TRY(ctx_while(ctx, &spec, results));
  for (unsigned i = 0; i < n_states; i++) states[i] = results[i];
  for (unsigned i = 0; i < spec.n_rows; i++) rows[i] = results[n_states + i];
  return MOEC_OK;
}

/* ---- Results ------------------------------------------------------------- */

/* Rows [steps, batch, hidden] of a direction in the order of the inputs. */
static ir_value_t *in_order(convert_ctx_t *ctx, const recurrent_t *r,
                            const direction_t *d, ir_value_t *x) {
  const expr_t *dim[] = {r->steps, r->batch, r->hidden};
  if (!d->reverse) return x;
  if (r->rows != NULL) {
    const expr_t *flat[] = {expr_mul(ctx->exprs, r->steps, r->batch),
                            r->hidden};
    x = ir_reshape(ctx->b, x, 2, flat);
    x = ir_gather(ctx->b, x, ctx_flat(ctx, r->rows), 0);
    return ir_reshape(ctx->b, x, 3, dim);
  }
  const expr_t *last = expr_sub(ctx->exprs, r->steps, ctx_int(ctx, 1));
  return ir_slice(ctx->b, x, 0, last, r->steps, ctx_int(ctx, -1));
}

/* Tensors of the directions along a new axis. */
static ir_value_t *join(convert_ctx_t *ctx, const recurrent_t *r,
                        ir_value_t *const *x, unsigned axis) {
  ir_value_t *part[2] = {NULL};
  for (unsigned i = 0; i < r->n_directions; i++) {
    part[i] = ir_unsqueeze(ctx->b, x[i], axis);
    if (part[i] == NULL) return NULL;
  }
  return ir_concat(ctx->b, r->n_directions, part, axis);
}

static void set_outputs(convert_ctx_t *ctx, const recurrent_t *r,
                        ir_value_t *const *states, ir_value_t **rows) {
  static const int64_t batch_first[] = {2, 0, 1, 3};
  const ir_value_t *like = ctx_in(ctx, 0);
  if (r->wants_rows) {
    for (unsigned i = 0; i < r->n_directions; i++)
      rows[i] = in_order(ctx, r, &r->direction[i], rows[i]);
    ir_value_t *y = join(ctx, r, rows, 1);
    if (r->batch_first && y != NULL) y = ir_transpose(ctx->b, y, batch_first);
    ctx_set_output(ctx, 0, ctx_like(ctx, y, like));
  }
  for (unsigned s = 0; s < r->cell->n_states; s++) {
    ir_value_t *last[2] = {NULL};
    if (!ctx_wants(ctx, 1 + s)) continue;
    for (unsigned i = 0; i < r->n_directions; i++)
      last[i] = states[i * r->cell->n_states + s];
    ir_value_t *y = turned(ctx, join(ctx, r, last, 0), r->batch_first);
    ctx_set_output(ctx, 1 + s, ctx_like(ctx, y, like));
  }
}

static moec_status_t convert(convert_ctx_t *ctx, recurrent_t *r) {
  ir_value_t *states[2 * 2] = {NULL}, *rows[2] = {NULL};
  if (!dtype_is_float(ctx_in(ctx, 0)->type.dtype))
    return ctx_invalid(ctx, "X is %s", ctx_type_str(ctx, ctx_in(ctx, 0)));
  for (unsigned i = 1; i < ctx->n_in; i++)
    if (i != 4 && ctx_in(ctx, i) != NULL &&
        ctx_in(ctx, i)->type.dtype != ctx_in(ctx, 0)->type.dtype)
      return ctx_invalid(ctx, "input %u is %s, X is %s", i,
                         ctx_type_str(ctx, ctx_in(ctx, i)),
                         ctx_type_str(ctx, ctx_in(ctx, 0)));
  if (!read_attributes(ctx, r) || !read_sizes(ctx, r)) return ctx_status(ctx);
  r->wants_rows = ctx_wants(ctx, 0);
  project_inputs(ctx, r);
  MOEC_TRY(ctx_status(ctx));
  read_weights(ctx, r);
  read_lengths(ctx, r);
  MOEC_TRY(ctx_status(ctx));
  bool reverses = r->direction[0].reverse || r->n_directions > 1;
  if (r->lengths != NULL && reverses) r->rows = reversed_rows(ctx, r);
  read_states(ctx, r, states);
  MOEC_TRY(ctx_status(ctx));
  MOEC_TRY(run_steps(ctx, r, states, rows));
  set_outputs(ctx, r, states, rows);
  return ctx_status(ctx);
}

moec_status_t convert_rnn(convert_ctx_t *ctx) {
  static const cell_t cell = {1, 1, 1, {"Tanh"}, rnn_step};
  recurrent_t r = {.cell = &cell};
  return convert(ctx, &r);
}

moec_status_t convert_gru(convert_ctx_t *ctx) {
  static const cell_t cell = {3, 2, 1, {"Sigmoid", "Tanh"}, gru_step};
  recurrent_t r = {.cell = &cell};
  r.linear_before_reset =
      ctx->opset >= 3 && attr_int(ctx, "linear_before_reset", 0) != 0;
  return convert(ctx, &r);
}

moec_status_t convert_lstm(convert_ctx_t *ctx) {
  static const cell_t cell = {4, 3, 2, {"Sigmoid", "Tanh", "Tanh"}, lstm_step};
  recurrent_t r = {.cell = &cell};
  r.input_forget = attr_int(ctx, "input_forget", 0) != 0;
  return convert(ctx, &r);
}
