/* Loops over tokens, samples or sequences as operations on all of them.
 *
 * Where no trip needs what another one computed, a while is a map: it reads the
 * rows that its counters name, and its results are the trips' results one after
 * the other, or rows that are scattered into a tensor trip by trip. Computed
 * for all trips at once (batch.h), its body is what `moe` reads elsewhere.
 *
 * All at once needs memory for all, and both branches of conditions. So it is
 * done only where it shows a layer: each loop is tried on a copy of the module,
 * and stays as it is unless there are more layers outside of loops than before.
 */
#include "passes/batch.h"
#include "passes/pass.h"
#include "passes/rules.h"
#include "passes/trips.h"

enum { MAX_TRIED = 8 };

/* ---- What may be a map --------------------------------------------------- */

/* The only user of a value, if it is a scatter into it whose result is all that
 * the next trip gets of this state; else NULL. */
static const ir_op_t *scatter_of(const ir_op_t *loop, unsigned state) {
  const ir_value_t *arg = &loop->regions[0].args[1 + state];
  const ir_use_t *use = arg->uses;
  const ir_op_t *yield = loop->regions[0].last;
  if (use == NULL || use->next != NULL || use->index != 0) return NULL;
  const ir_op_t *op = use->user;
  if ((op->code != OP_SCATTER_ND && op->code != OP_SCATTER_ELEMENTS) ||
      op->parent != &loop->regions[0] ||
      ir_in(yield, 1 + state) != &op->out[0] || op->out[0].uses->next != NULL)
    return NULL;
  return op;
}

typedef enum { STATE_FIXED, STATE_COUNTER, STATE_SCATTER, STATE_DEAD } state_t;

/* What becomes of a state from trip to trip; false: something else. */
static bool find_state(const ir_op_t *loop, unsigned state, state_t *out) {
  const ir_value_t *arg = &loop->regions[0].args[1 + state];
  linear_t linear;
  if (ir_in(loop->regions[0].last, 1 + state) == arg)
    *out = STATE_FIXED;
  else if (trips_linear(loop, arg, &linear))
    *out = STATE_COUNTER;
  else if (scatter_of(loop, state) != NULL)
    *out = STATE_SCATTER;
  else if (arg->uses == NULL && loop->out[state].uses == NULL)
    *out = STATE_DEAD;
  else
    return false;
  return *out != STATE_COUNTER || loop->out[state].uses == NULL;
}

/* Whether experts may be in it. */
static bool multiplies(const ir_op_t *loop) {
  const ir_region_t *body = &loop->regions[0];
  for (const ir_op_t *op = body->first; op != body->last; op = ir_walk_next(op))
    if (op->code == OP_MATMUL || op->code == OP_CONVOLVE ||
        op->code == OP_MOE_EXPERTS)
      return true;
  return false;
}

static bool is_map(const ir_op_t *loop) {
  unsigned n;
  state_t state;
  ir_get_exprs(loop, ATTR_WHILE_symbols, &n);
  if (loop->code != OP_WHILE || n > 0 || !multiplies(loop) ||
      ir_get_int(loop, ATTR_WHILE_counted) != 0)
    return false;
  for (unsigned i = 0; i + 2 < loop->n_in; i++)
    if (!find_state(loop, i, &state)) return false;
  return true;
}

/* ---- All trips at once --------------------------------------------------- */

/* base + step * 0, 1, .. */
static ir_value_t *counter_rows(ir_builder_t *b, const ir_op_t *loop,
                                const ir_value_t *arg, const expr_t *n) {
  linear_t linear;
  bool found = trips_linear(loop, arg, &linear);
  MOEC_ASSERT(found);
  const expr_t *dim[IR_MAX_RANK] = {n};
  for (unsigned d = 0; d < arg->type.rank; d++) dim[1 + d] = arg->type.dim[d];
  ir_value_t *x = ir_iota(b, arg->type.dtype, n);
  if (linear.step != 1) {
    ir_value_t *step = ir_scalar_int(b, arg->type.dtype, linear.step);
    x = ir_binary(b, OP_MUL, x, step);
  }
  if (!expr_equals_const(linear.base, 0)) {
    ir_value_t *base = ir_expr_scalar(b, linear.base);
    base = ir_cast(b, base, arg->type.dtype);
    x = ir_binary(b, OP_ADD, x, base);
  }
  return arg->type.rank > 0 ? ir_reshape(b, x, 1 + arg->type.rank, dim) : x;
}

static void set_args(batch_t *t, const ir_op_t *loop) {
  const ir_region_t *body = &loop->regions[0];
  batch_set(t, &body->args[0], ir_iota(t->b, DT_I64, t->n), true);
  for (unsigned i = 0; i + 2 < loop->n_in; i++) {
    const ir_value_t *arg = &body->args[1 + i];
    state_t state = STATE_DEAD;
    find_state(loop, i, &state);
    if (state == STATE_FIXED) batch_set(t, arg, ir_in(loop, 2 + i), false);
    if (state == STATE_COUNTER)
      batch_set(t, arg, counter_rows(t->b, loop, arg, t->n), true);
  }
}

/* [n, .., m, ..] as [.., n * m, ..] */
static ir_value_t *into_axis(batch_t *t, ir_value_t *x, unsigned axis) {
  int64_t perm[IR_MAX_RANK];
  const expr_t *dim[IR_MAX_RANK];
  if (x == NULL) return NULL;
  for (unsigned d = 0; d < x->type.rank; d++)
    perm[d] = d < axis ? d + 1 : d == axis ? 0 : d;
  x = ir_transpose(t->b, x, perm);
  if (x == NULL) return NULL;
  for (unsigned d = 0; d + 1 < x->type.rank; d++)
    dim[d] = x->type.dim[d < axis ? d : d + 1];
  dim[axis] = expr_mul(t->b->module->exprs, t->n, dim[axis]);
  return ir_reshape(t->b, x, x->type.rank - 1, dim);
}

/* The scatters of all trips: updates are written in ascending order, and those
 * of a later trip lie behind those of an earlier one. */
static ir_value_t *scatter_all(batch_t *t, const ir_op_t *op,
                               ir_value_t *init) {
  ir_value_t *index = batch_rows(t, ir_in(op, 1));
  ir_value_t *updates = batch_rows(t, ir_in(op, 2));
  if (op->code == OP_SCATTER_ELEMENTS) {
    int64_t axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
    if (axis < 0) return NULL;
    index = into_axis(t, index, (unsigned)axis);
    updates = into_axis(t, updates, (unsigned)axis);
  }
  ir_value_t *in[] = {init, index, updates};
  ir_op_t *copy = ir_begin(t->b, op->code, 3, in, 1);
  if (copy == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(copy, &op->attrs[i]);
  return ir_place(t->b, copy);
}

static ir_value_t *result_of(batch_t *t, const ir_op_t *loop, unsigned i) {
  if (i + 2 >= loop->n_in)
    return batch_rows(t, ir_in(loop->regions[0].last, 1 + i));
  state_t state = STATE_DEAD;
  find_state(loop, i, &state);
  if (state == STATE_SCATTER)
    return scatter_all(t, scatter_of(loop, i), ir_in(loop, 2 + i));
  return ir_in(loop, 2 + i);
}

/* Scatters into states, and the condition alone has no part in the results. */
static bool *left_out(pass_ctx_t *ctx, const ir_op_t *loop, unsigned n_values) {
  bool *skip = ARENA_ARRAY(ctx->scratch, bool, n_values);
  const ir_op_t *yield = loop->regions[0].last;
  for (unsigned i = 0; i + 2 < loop->n_in; i++) {
    state_t state = STATE_DEAD;
    find_state(loop, i, &state);
    if (state == STATE_SCATTER) skip[scatter_of(loop, i)->out[0].number] = true;
  }
  for (const ir_op_t *op = yield->prev; op != NULL; op = op->prev) {
    bool used = op->n_out == 0 || op->n_regions > 0;
    for (unsigned i = 0; i < op->n_out; i++)
      for (const ir_use_t *use = op->out[i].uses; use != NULL; use = use->next)
        used |= use->user == yield ? use->index > 0
                                   : use->user->n_out == 0 ||
                                         !skip[use->user->out[0].number] ||
                                         use->user->code == OP_SCATTER_ND ||
                                         use->user->code == OP_SCATTER_ELEMENTS;
    if (!used && ir_has_trait(op, PURE)) skip[op->out[0].number] = true;
  }
  return skip;
}

/* False where the loop stays as it was. Values must be numbered. */
static bool unfold_loop(pass_ctx_t *ctx, ir_op_t *loop, unsigned n_values) {
  const ir_op_t *before = loop->prev;
  ir_builder_t b = {.module = ctx->module,
                    .region = loop->parent,
                    .before = loop,
                    .loc = loop->loc};
  batch_t t;
  batch_begin(&t, &b, ctx->scratch, &loop->regions[0],
              ir_get_expr(loop, ATTR_WHILE_trips), n_values);
  t.left_out = left_out(ctx, loop, n_values);
  ir_value_t **result =
      ARENA_ARRAY(ctx->scratch, ir_value_t *, loop->n_out + 1);
  set_args(&t, loop);
  bool fits = batch_all(&t, &loop->regions[0]);
  for (unsigned i = 0; i < loop->n_out && fits; i++) {
    if (loop->out[i].uses == NULL) continue;
    result[i] = result_of(&t, loop, i);
    fits = result[i] != NULL && b.status == MOEC_OK &&
           ir_type_equal(&result[i]->type, &loop->out[i].type);
  }
  if (!fits) {
    while (loop->prev != before) ir_erase(loop->prev);
    return false;
  }
  for (unsigned i = 0; i < loop->n_out; i++)
    if (result[i] != NULL) ir_replace_uses(&loop->out[i], result[i]);
  ir_erase(loop);
  return true;
}

/* ---- Trying
 * --------------------------------------------------------------
 */

static ir_op_t *next_loop(ir_op_t *op) {
  while (op != NULL && op->code != OP_WHILE) op = ir_walk_next(op);
  return op;
}

/* What is walked after all that is in a loop. */
static ir_op_t *after_loop(const ir_op_t *loop) {
  ir_op_t *op = ir_walk_next(loop);
  while (op != NULL && ir_region_holds(&loop->regions[0], op->parent))
    op = ir_walk_next(op);
  return op;
}

/* Unfolds the maps from number `from` to `end` (exclusive), in program order;
 * how many these are. */
static unsigned unfold_maps(pass_ctx_t *ctx, ir_func_t *func, unsigned from,
                            unsigned end) {
  unsigned index = 0, n = 0;
  for (ir_op_t *op = next_loop(ir_walk_first(func)), *next; op != NULL;
       op = next_loop(next)) {
    next = ir_walk_next(op);
    if (!is_map(op)) continue;
    unsigned at = index++;
    if (at < from || at >= end) continue;
    ir_op_t *after = after_loop(op);
    ir_renumber(func);
    if (!pass_allow_rewrite(ctx, "map-loop", op) ||
        !unfold_loop(ctx, op, ir_count_values(func)))
      continue;
    next = after;
    n++;
  }
  return n;
}

static unsigned count_maps(const ir_func_t *func) {
  unsigned n = 0;
  for (ir_op_t *op = next_loop(ir_walk_first(func)); op != NULL;
       op = next_loop(ir_walk_next(op)))
    n += is_map(op);
  return n;
}

static unsigned count_layers(const ir_func_t *func) {
  unsigned n = 0;
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op)) {
    const ir_op_t *outer = op;
    while (outer != NULL && outer->code != OP_WHILE)
      outer = outer->parent->owner;
    n += op->code == OP_MOE_EXPERTS && outer == NULL;
  }
  return n;
}

/* Layers outside of loops where these maps are unfolded; *out_n of them can be.
 */
static unsigned try_maps(pass_ctx_t *ctx, unsigned from, unsigned end,
                         unsigned *out_n) {
  pass_options_t quiet = {.level = ctx->options->level, .rewrite_limit = -1};
  ir_module_t *module = ir_module_clone(ctx->module, ctx->scratch);
  pass_ctx_t own = {
      .module = module, .scratch = ctx->scratch, .options = &quiet};
  *out_n = unfold_maps(&own, module->first, from, end);
  moec_status_t (*const run[])(pass_ctx_t *, ir_func_t *) = {
      run_dce, run_canonicalize, run_cse, run_dce, run_moe};
  if (*out_n == 0 && from < end) return 0;
  for (unsigned i = 0; i < sizeof run / sizeof run[0]; i++)
    if (run[i](&own, module->first) != MOEC_OK) return 0;
  return count_layers(module->first);
}

/* All at once where that shows as many layers, else one after the other. A loop
 * that stays is passed over; one that is unfolded is no map any more. */
moec_status_t run_moe_trips(pass_ctx_t *ctx, ir_func_t *func) {
  unsigned n_maps = count_maps(func), from = 0, n;
  if (n_maps == 0 || pass_is_disabled(ctx, "moe")) return MOEC_OK;
  unsigned layers = try_maps(ctx, 0, 0, &n);
  unsigned all = try_maps(ctx, 0, n_maps, &n);
  if (n == n_maps && all >= layers + n) {
    unfold_maps(ctx, func, 0, n_maps);
    return MOEC_OK;
  }
  for (unsigned i = 0; i < n_maps && i < MAX_TRIED && n_maps > 1; i++) {
    unsigned found = try_maps(ctx, from, from + 1, &n);
    if (n == 1 && found > layers && unfold_maps(ctx, func, from, from + 1) == 1)
      layers = found;
    else
      from++;
  }
  return MOEC_OK;
}
