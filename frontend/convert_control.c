/* If, Loop and Scan. What is known when compiling leaves no trace: the branch
 * of an If with a constant condition, the trips of short loops, one after the
 * other. */
#include "frontend/region.h"

enum { MAX_TRIPS = 4096, MAX_UNROLLED = 100000 /* nodes */ };

static bool graph_fits(convert_ctx_t *ctx, const Onnx__GraphProto *graph,
                       size_t n_out) {
  if (graph == NULL) return false;
  if (graph->n_output == n_out) return true;
  ctx_invalid(ctx, "a body has %zu outputs, expected %zu", graph->n_output,
              n_out);
  return false;
}

static bool is_condition(convert_ctx_t *ctx, const ir_value_t *x) {
  int64_t count;
  if (x != NULL && x->type.dtype == DT_BOOL &&
      ir_type_static_count(&x->type, &count) && count == 1)
    return true;
  ctx_invalid(ctx, "the condition is %s, expected one bool",
              x != NULL ? ctx_type_str(ctx, x) : "missing");
  return false;
}

static void give(convert_ctx_t *ctx, unsigned index, slot_t slot) {
  if (ctx_wants(ctx, index)) ctx->out[index] = slot;
}

typedef struct branches {
  const Onnx__GraphProto *graph[2];
} branches_t;

static moec_status_t inline_branch(convert_ctx_t *ctx, void *user,
                                   unsigned index, slot_t *out) {
  const branches_t *branches = user;
  return ctx_inline(ctx, branches->graph[index], 0, NULL, out);
}

moec_status_t convert_if(convert_ctx_t *ctx) {
  branches_t branches = {
      {attr_graph(ctx, "then_branch"), attr_graph(ctx, "else_branch")}};
  ir_value_t *condition = ctx_in(ctx, 0);
  if (!graph_fits(ctx, branches.graph[0], ctx->n_out) ||
      !graph_fits(ctx, branches.graph[1], ctx->n_out) ||
      !is_condition(ctx, condition))
    return ctx->status;
  slot_t *results = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  bool known;
  if (ctx_known_bool(ctx, condition, &known)) {
    MOEC_TRY(ctx_inline_all(ctx, branches.graph[known ? 0 : 1], results));
  } else {
    if_spec_t spec = {.condition = ir_reshape(ctx->b, condition, 0, NULL),
                      .n_out = ctx->n_out,
                      .branch = inline_branch,
                      .user = &branches,
                      .differs = &ctx->differs};
    MOEC_TRY(ctx_if_of_ranks(ctx, &spec, results));
    if (ctx->differs != NULL) return MOEC_OK;
  }
  for (unsigned i = 0; i < ctx->n_out; i++) give(ctx, i, results[i]);
  return MOEC_OK;
}

/* A scan output of all trips so far. */
typedef struct results {
  unsigned n;
  ir_value_t **value; /* [limit] */
} results_t;

static moec_status_t push(convert_ctx_t *ctx, results_t *stack, unsigned limit,
                          const slot_t *slot, unsigned axis) {
  if (slot->kind != SLOT_TENSOR)
    return ctx_invalid(ctx, "a scan output is not a tensor");
  if (axis > slot->value->type.rank)
    return ctx_invalid(ctx, "axis %u is out of range for scan output %s", axis,
                       ctx_type_str(ctx, slot->value));
  if (stack->value == NULL)
    stack->value = ARENA_ARRAY(ctx->arena, ir_value_t *, limit);
  stack->value[stack->n] = ir_unsqueeze(ctx->b, slot->value, axis);
  if (stack->value[stack->n] == NULL) return ctx_status(ctx);
  stack->n++;
  return MOEC_OK;
}

static ir_value_t *joined(convert_ctx_t *ctx, const results_t *stack,
                          unsigned axis, bool reverse) {
  ir_value_t **x = ARENA_ARRAY(ctx->arena, ir_value_t *, stack->n);
  for (unsigned i = 0; i < stack->n; i++)
    x[i] = stack->value[reverse ? stack->n - 1 - i : i];
  for (unsigned i = 1; i < stack->n; i++) {
    if (x[i]->type.rank != x[0]->type.rank) {
      ctx_invalid(ctx, "scan outputs of two trips differ in rank");
      return NULL;
    }
    for (unsigned j = 0; j < x[0]->type.rank; j++)
      if (j != axis)
        ir_check_equal(ctx->b, ctx_dim(x[0], j), ctx_dim(x[i], j),
                       "dimensions of a scan output in two trips");
  }
  return ir_concat(ctx->b, stack->n, x, axis);
}

/* ---- Loop ---------------------------------------------------------------- */

typedef struct loop {
  const Onnx__GraphProto *body;
  unsigned n_state, n_scan;
  slot_t *init;
  int64_t trips; /* constant number, INT64_MAX when there is no limit */
  bool known;    /* whether `trips` is */
} loop_t;

static bool count_trips(convert_ctx_t *ctx, loop_t *loop) {
  ir_value_t *trips = ctx_in(ctx, 0);
  unsigned n;
  const int64_t *value;
  int64_t count;
  loop->trips = INT64_MAX;
  loop->known = true;
  if (trips == NULL) return true;
  if (trips->type.dtype != DT_I64 ||
      !ir_type_static_count(&trips->type, &count) || count != 1) {
    ctx_invalid(ctx, "the number of trips is %s", ctx_type_str(ctx, trips));
    return false;
  }
  loop->known = ctx_const_ints(ctx, trips, &n, &value);
  if (loop->known) loop->trips = value[0] > 0 ? value[0] : 0;
  return true;
}

static slot_t tensor_slot(ir_value_t *value) {
  return (slot_t){.kind = SLOT_TENSOR, .value = value};
}

/* Whether the trips one after the other are few enough to be written out. */
static bool may_unroll(const Onnx__GraphProto *body, int64_t trips) {
  return trips <= MAX_TRIPS &&
         trips <= MAX_UNROLLED / ((int64_t)body->n_node + 1);
}

/* The trips one after the other; *out_known false: it depends on data when to
 * stop. */
static moec_status_t unroll_loop(convert_ctx_t *ctx, const loop_t *loop,
                                 slot_t *results, bool *out_known) {
  const Onnx__GraphProto *body = loop->body;
  unsigned n = loop->n_state, limit = (unsigned)loop->trips, trip = 0;
  if (loop->trips > MAX_TRIPS) limit = MAX_TRIPS;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, 2 + n);
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, body->n_output);
  results_t *stacks = ARENA_ARRAY(ctx->arena, results_t, loop->n_scan);
  for (unsigned i = 0; i < n; i++) args[2 + i] = loop->init[i];
  args[1] = tensor_slot(ir_scalar_int(ctx->b, DT_BOOL, 1));
  bool more = true;
  *out_known =
      ctx_in(ctx, 1) == NULL || ctx_known_bool(ctx, ctx_in(ctx, 1), &more);
  for (; *out_known && more && trip < limit; trip++) {
    args[0] = tensor_slot(ir_scalar_int(ctx->b, DT_I64, trip));
    MOEC_TRY(ctx_inline(ctx, body, 2 + n, args, out));
    for (unsigned i = 0; i < n; i++) args[2 + i] = out[1 + i];
    for (unsigned i = 0; i < loop->n_scan; i++)
      MOEC_TRY(push(ctx, &stacks[i], limit, &out[1 + n + i], 0));
    if (out[0].kind != SLOT_TENSOR)
      return ctx_invalid(ctx, "the body's condition is not a tensor");
    if (!is_condition(ctx, out[0].value)) return ctx->status;
    *out_known = ctx_known_bool(ctx, out[0].value, &more);
  }
  *out_known = *out_known && !(more && loop->trips > MAX_TRIPS);
  if (trip == 0 && loop->n_scan > 0)
    *out_known = false; /* shapes from a body */
  if (!*out_known) return MOEC_OK;
  for (unsigned i = 0; i < n; i++) results[i] = args[2 + i];
  for (unsigned i = 0; i < loop->n_scan; i++)
    results[n + i] = tensor_slot(joined(ctx, &stacks[i], 0, false));
  return ctx_status(ctx);
}

static moec_status_t loop_body(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                               const slot_t *state, ir_value_t **out_more,
                               slot_t *out) {
  const loop_t *loop = user;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, 2 + loop->n_state);
  slot_t *outputs = ARENA_ARRAY(ctx->arena, slot_t, loop->body->n_output);
  args[0] = tensor_slot(trip);
  args[1] = tensor_slot(ir_scalar_int(ctx->b, DT_BOOL, 1));
  for (unsigned i = 0; i < loop->n_state; i++) args[2 + i] = state[i];
  MOEC_TRY(ctx_inline(ctx, loop->body, 2 + loop->n_state, args, outputs));
  if (outputs[0].kind != SLOT_TENSOR || !is_condition(ctx, outputs[0].value))
    return ctx_invalid(ctx, "the body's condition is not a bool");
  *out_more = ir_reshape(ctx->b, outputs[0].value, 0, NULL);
  for (unsigned i = 0; i < loop->n_state + loop->n_scan; i++)
    out[i] = outputs[1 + i];
  return ctx_status(ctx);
}

static moec_status_t run_loop(convert_ctx_t *ctx, loop_t *loop,
                              slot_t *results) {
  slot_loop_t spec = {.n_state = loop->n_state,
                      .n_rows = loop->n_scan,
                      .init = loop->init,
                      .body = loop_body,
                      .user = loop};
  ir_value_t *limit = ctx_in(ctx, 0), *first = ctx_in(ctx, 1);
  spec.limit = limit != NULL ? ir_reshape(ctx->b, limit, 0, NULL)
                             : ir_scalar_int(ctx->b, DT_I64, INT64_MAX);
  spec.first = first != NULL ? ir_reshape(ctx->b, first, 0, NULL)
                             : ir_scalar_int(ctx->b, DT_BOOL, 1);
  bool begins = true;
  const expr_t *known = limit != NULL ? ir_known(limit, 0) : NULL;
  if (known != NULL && (first == NULL || ctx_known_bool(ctx, first, &begins)) &&
      begins)
    spec.trips = expr_max(ctx->exprs, known, ctx_int(ctx, 0));
  return ctx_while_slots(ctx, &spec, results);
}

moec_status_t convert_loop(convert_ctx_t *ctx) {
  loop_t loop = {.body = attr_graph(ctx, "body")};
  loop.n_state = ctx->n_in > 2 ? ctx->n_in - 2 : 0;
  loop.init = ARENA_ARRAY(ctx->arena, slot_t, loop.n_state);
  for (unsigned i = 0; i < loop.n_state; i++) loop.init[i] = ctx->in[2 + i];
  if (loop.body == NULL) return ctx->status;
  if (ctx->n_out < loop.n_state)
    return ctx_invalid(ctx, "the loop has %u outputs for %u carried values",
                       ctx->n_out, loop.n_state);
  loop.n_scan = ctx->n_out - loop.n_state;
  ir_value_t *first = ctx_in(ctx, 1);
  if (!graph_fits(ctx, loop.body, 1 + ctx->n_out) || !count_trips(ctx, &loop) ||
      (first != NULL && !is_condition(ctx, first)))
    return ctx->status;
  slot_t *results = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out + 1);
  bool unrolled = false;
  if (loop.known &&
      (loop.trips == INT64_MAX || may_unroll(loop.body, loop.trips))) {
    ir_op_t *last = ctx_try(ctx);
    moec_status_t status = unroll_loop(ctx, &loop, results, &unrolled);
    if (status == MOEC_OK && !unrolled)
      ctx_drop(ctx, last);
    else
      ctx_keep(ctx);
    MOEC_TRY(status);
  }
  if (!unrolled) MOEC_TRY(run_loop(ctx, &loop, results));
  for (unsigned i = 0; i < ctx->n_out; i++) give(ctx, i, results[i]);
  return ctx_status(ctx);
}

/* ---- Scan ---------------------------------------------------------------- */

typedef struct scan {
  unsigned n_state, n_in, n_out; /* carried values, scan inputs and outputs */
  const int64_t *in_axes, *in_reverse, *out_axes, *out_reverse; /* or NULL */
  const expr_t *trips;
  const Onnx__GraphProto *body;
  unsigned *in_axis, *out_axis; /* [n_in], [n_out] */
} scan_t;

static bool read_scan_list(convert_ctx_t *ctx, const char *name, unsigned n,
                           const int64_t **out) {
  unsigned n_given;
  *out = attr_ints(ctx, name, &n_given);
  if (ctx->status != MOEC_OK) return false;
  if (*out == NULL || n_given == n) return true;
  ctx_invalid(ctx, "attribute \"%s\" has %u entries, expected %u", name,
              n_given, n);
  return false;
}

static bool read_scan(convert_ctx_t *ctx, const Onnx__GraphProto *body,
                      scan_t *s) {
  int64_t n = attr_int_required(ctx, "num_scan_inputs");
  if (ctx->status != MOEC_OK) return false;
  if (n < 1 || n > ctx->n_in) {
    ctx_invalid(ctx, "num_scan_inputs is %lld for %u inputs", (long long)n,
                ctx->n_in);
    return false;
  }
  s->n_in = (unsigned)n;
  s->n_state = ctx->n_in - s->n_in;
  if (ctx->n_out < s->n_state || !graph_fits(ctx, body, ctx->n_out)) {
    if (ctx->status == MOEC_OK)
      ctx_invalid(ctx, "there are %u outputs for %u carried values", ctx->n_out,
                  s->n_state);
    return false;
  }
  s->n_out = ctx->n_out - s->n_state;
  return read_scan_list(ctx, "scan_input_axes", s->n_in, &s->in_axes) &&
         read_scan_list(ctx, "scan_input_directions", s->n_in,
                        &s->in_reverse) &&
         read_scan_list(ctx, "scan_output_axes", s->n_out, &s->out_axes) &&
         read_scan_list(ctx, "scan_output_directions", s->n_out,
                        &s->out_reverse);
}

/* Axis of scan input i, and the common length. */
static bool scan_axis(convert_ctx_t *ctx, scan_t *s, unsigned i) {
  ir_value_t *x = ctx_in(ctx, s->n_state + i);
  if (x == NULL) {
    ctx_invalid(ctx, "scan input %u is not a tensor", i);
    return false;
  }
  if (!ctx_axis(ctx, s->in_axes != NULL ? s->in_axes[i] : 0, x->type.rank,
                &s->in_axis[i]))
    return false;
  const expr_t *length = ctx_dim(x, s->in_axis[i]);
  if (i > 0)
    ir_check_equal(ctx->b, s->trips, length, "lengths of scan inputs");
  else
    s->trips = length;
  return ctx_status(ctx) == MOEC_OK;
}

/* Element `trip` of scan input i. */
static ir_value_t *scan_element(convert_ctx_t *ctx, const scan_t *s, unsigned i,
                                ir_value_t *trip) {
  ir_value_t *x = ctx_in(ctx, s->n_state + i);
  if (s->in_reverse != NULL && s->in_reverse[i] == 1) {
    const expr_t *last = expr_sub(ctx->exprs, s->trips, ctx_int(ctx, 1));
    trip = ir_binary(ctx->b, OP_SUB, ir_expr_scalar(ctx->b, last), trip);
  }
  return ir_gather(ctx->b, x, trip, s->in_axis[i]);
}

static slot_t scan_slice(convert_ctx_t *ctx, const scan_t *s, unsigned i,
                         int64_t trip, int64_t trips) {
  ir_value_t *x = ctx_in(ctx, s->n_state + i);
  bool reverse = s->in_reverse != NULL && s->in_reverse[i] == 1;
  const expr_t *at = ctx_int(ctx, reverse ? trips - 1 - trip : trip);
  ir_value_t *part = ctx_part(ctx, x, s->in_axis[i], at, ctx_int(ctx, 1));
  if (part != NULL) part = ir_squeeze(ctx->b, part, s->in_axis[i]);
  return (slot_t){.kind = part != NULL ? SLOT_TENSOR : SLOT_FAILED,
                  .value = part};
}

static bool find_out_axis(convert_ctx_t *ctx, scan_t *s, unsigned i,
                          const slot_t *slot) {
  if (slot->kind != SLOT_TENSOR) {
    ctx_invalid(ctx, "scan output %u is not a tensor", i);
    return false;
  }
  return ctx_axis(ctx, s->out_axes != NULL ? s->out_axes[i] : 0,
                  slot->value->type.rank + 1, &s->out_axis[i]);
}

static bool is_reversed(const scan_t *s, unsigned i) {
  return s->out_reverse != NULL && s->out_reverse[i] == 1;
}

static moec_status_t unroll_scan(convert_ctx_t *ctx, scan_t *s, int64_t trips,
                                 slot_t *results) {
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_in);
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  results_t *stacks = ARENA_ARRAY(ctx->arena, results_t, s->n_out);
  for (unsigned i = 0; i < s->n_state; i++) args[i] = ctx->in[i];
  for (int64_t trip = 0; trip < trips; trip++) {
    for (unsigned i = 0; i < s->n_in; i++)
      args[s->n_state + i] = scan_slice(ctx, s, i, trip, trips);
    MOEC_TRY(ctx_inline(ctx, s->body, ctx->n_in, args, out));
    for (unsigned i = 0; i < s->n_state; i++) args[i] = out[i];
    for (unsigned i = 0; i < s->n_out; i++) {
      const slot_t *slot = &out[s->n_state + i];
      if (!find_out_axis(ctx, s, i, slot)) return ctx->status;
      MOEC_TRY(push(ctx, &stacks[i], (unsigned)trips, slot, s->out_axis[i]));
    }
  }
  for (unsigned i = 0; i < s->n_state; i++) results[i] = args[i];
  for (unsigned i = 0; i < s->n_out; i++)
    results[s->n_state + i] =
        tensor_slot(joined(ctx, &stacks[i], s->out_axis[i], is_reversed(s, i)));
  return ctx_status(ctx);
}

static moec_status_t scan_body(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                               const slot_t *state, ir_value_t **out_more,
                               slot_t *out) {
  scan_t *s = user;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_in);
  *out_more = NULL;
  for (unsigned i = 0; i < s->n_state; i++) args[i] = state[i];
  for (unsigned i = 0; i < s->n_in; i++) {
    ir_value_t *x = scan_element(ctx, s, i, trip);
    if (x == NULL) return ctx_status(ctx);
    args[s->n_state + i] = tensor_slot(x);
  }
  MOEC_TRY(ctx_inline(ctx, s->body, ctx->n_in, args, out));
  for (unsigned i = 0; i < s->n_out; i++)
    if (!find_out_axis(ctx, s, i, &out[s->n_state + i])) return ctx->status;
  return ctx_status(ctx);
}

/* Rows along axis 0 to where they belong, in their direction. */
static ir_value_t *turn(convert_ctx_t *ctx, const scan_t *s, unsigned i,
                        ir_value_t *x) {
  if (is_reversed(s, i)) {
    const expr_t *last = expr_sub(ctx->exprs, ctx_dim(x, 0), ctx_int(ctx, 1));
    x = ir_slice(ctx->b, x, 0, last, ctx_dim(x, 0), ctx_int(ctx, -1));
  }
  return ctx_move_first(ctx, x, s->out_axis[i]);
}

static moec_status_t run_scan(convert_ctx_t *ctx, scan_t *s, slot_t *results) {
  slot_t *init = ARENA_ARRAY(ctx->arena, slot_t, s->n_state);
  for (unsigned i = 0; i < s->n_state; i++) init[i] = ctx->in[i];
  slot_loop_t spec = {.limit = ir_expr_scalar(ctx->b, s->trips),
                      .first = ir_scalar_int(ctx->b, DT_BOOL, 1),
                      .trips = s->trips,
                      .n_state = s->n_state,
                      .n_rows = s->n_out,
                      .init = init,
                      .body = scan_body,
                      .user = s};
  MOEC_TRY(ctx_while_slots(ctx, &spec, results));
  for (unsigned i = 0; i < s->n_out; i++) {
    slot_t *row = &results[s->n_state + i];
    row->value = turn(ctx, s, i, row->value);
  }
  return ctx_status(ctx);
}

moec_status_t convert_scan(convert_ctx_t *ctx) {
  scan_t s = {.body = attr_graph(ctx, "body")};
  if (s.body == NULL || !read_scan(ctx, s.body, &s)) return ctx->status;
  s.in_axis = ARENA_ARRAY(ctx->arena, unsigned, s.n_in);
  s.out_axis = ARENA_ARRAY(ctx->arena, unsigned, s.n_out);
  for (unsigned i = 0; i < s.n_in; i++)
    if (!scan_axis(ctx, &s, i)) return ctx_status(ctx);
  slot_t *results = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out + 1);
  int64_t trips;
  bool unrolls =
      expr_is_const(s.trips, &trips) && trips > 0 && may_unroll(s.body, trips);
  if (unrolls)
    MOEC_TRY(unroll_scan(ctx, &s, trips, results));
  else
    MOEC_TRY(run_scan(ctx, &s, results));
  for (unsigned i = 0; i < ctx->n_out; i++) give(ctx, i, results[i]);
  return ctx_status(ctx);
}
