/* Control flow that is known when compiling: If with a constant condition, or
 * whose branches may both be computed; Loop and Scan with a constant number of
 * trips, one after the other. */
#include "frontend/convert.h"

enum { MAX_TRIPS = 65536 };

static bool graph_fits(convert_ctx_t *ctx, const Onnx__GraphProto *graph,
                       size_t n_out) {
  if (graph == NULL) return false;
  if (graph->n_output == n_out) return true;
  ctx_invalid(ctx, "a body has %zu outputs, expected %zu", graph->n_output,
              n_out);
  return false;
}

/* A boolean that is known; false if it is not. */
static bool known_bool(convert_ctx_t *ctx, const ir_value_t *x, bool *out) {
  unsigned n;
  const int64_t *value;
  if (!ctx_const_ints(ctx, x, &n, &value) || n != 1) return false;
  *out = value[0] != 0;
  return true;
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

/* Whether the operations after `mark` can neither fail nor define sizes, so
 * that they may run although their branch is not taken. */
static bool may_always_run(convert_ctx_t *ctx, const ir_op_t *mark) {
  const ir_op_t *op = mark != NULL ? mark->next : ctx->b->region->first;
  for (; op != NULL && op != ctx->b->before; op = op->next) {
    switch (op->code) {
      case OP_BIND:
      case OP_CHECK_EQUAL:
      case OP_NONZERO:
        return false;
      case OP_GATHER:
      case OP_GATHER_ELEMENTS:
      case OP_GATHER_ND:
      case OP_SCATTER_ELEMENTS:
      case OP_SCATTER_ND:
        if (ir_in(op, 1)->def == NULL || ir_in(op, 1)->def->code != OP_CONSTANT)
          return false;
        break;
      default:
        break;
    }
  }
  return true;
}

static ir_op_t *last_op(const convert_ctx_t *ctx) {
  return ctx->b->before != NULL ? ctx->b->before->prev : ctx->b->region->last;
}

/* condition ? then : else of two results of the same shape. */
static moec_status_t select_result(convert_ctx_t *ctx, unsigned index,
                                   ir_value_t *condition, const slot_t *then,
                                   const slot_t *other) {
  if (then->kind != SLOT_TENSOR || other->kind != SLOT_TENSOR)
    return ctx_unsupported(
        ctx, "output %u is no tensor, and the condition is not constant",
        index);
  ir_value_t *x = then->value, *y = other->value;
  bool same = x->type.dtype == y->type.dtype && x->type.rank == y->type.rank;
  for (unsigned i = 0; same && i < x->type.rank; i++)
    same = expr_compare_equal(ctx->exprs, ctx_dim(x, i), ctx_dim(y, i)) == 1;
  if (!same)
    return ctx_unsupported(ctx,
                           "output %u is %s or %s, and the condition is not "
                           "constant",
                           index, ctx_type_str(ctx, x), ctx_type_str(ctx, y));
  ctx_set_output(ctx, index, x == y ? x : ir_select(ctx->b, condition, x, y));
  return MOEC_OK;
}

moec_status_t convert_if(convert_ctx_t *ctx) {
  const Onnx__GraphProto *then = attr_graph(ctx, "then_branch");
  const Onnx__GraphProto *other = attr_graph(ctx, "else_branch");
  ir_value_t *condition = ctx_in(ctx, 0);
  if (!graph_fits(ctx, then, ctx->n_out) ||
      !graph_fits(ctx, other, ctx->n_out) || !is_condition(ctx, condition))
    return ctx->status;
  slot_t *taken = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  slot_t *not_taken = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  bool known;
  if (known_bool(ctx, condition, &known)) {
    MOEC_TRY(ctx_inline(ctx, known ? then : other, 0, NULL, taken));
    for (unsigned i = 0; i < ctx->n_out; i++) give(ctx, i, taken[i]);
    return MOEC_OK;
  }
  const ir_op_t *mark = last_op(ctx);
  MOEC_TRY(ctx_inline(ctx, then, 0, NULL, taken));
  MOEC_TRY(ctx_inline(ctx, other, 0, NULL, not_taken));
  if (!may_always_run(ctx, mark))
    return ctx_unsupported(ctx,
                           "the condition is not constant, and a branch has "
                           "operations that may fail when it is not taken");
  condition = ir_reshape(ctx->b, condition, 0, NULL);
  for (unsigned i = 0; i < ctx->n_out; i++)
    MOEC_TRY(select_result(ctx, i, condition, &taken[i], &not_taken[i]));
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

/* The number of trips of a Loop, INT64_MAX when it is not given. */
static bool count_trips(convert_ctx_t *ctx, int64_t *out_trips) {
  ir_value_t *trips = ctx_in(ctx, 0);
  unsigned n;
  const int64_t *value;
  *out_trips = INT64_MAX;
  if (trips == NULL) return true;
  if (!ctx_const_ints(ctx, trips, &n, &value)) {
    ctx_unsupported(ctx, "the number of trips is not constant");
    return false;
  }
  if (n != 1) {
    ctx_invalid(ctx, "the number of trips is %s", ctx_type_str(ctx, trips));
    return false;
  }
  *out_trips = value[0] > 0 ? value[0] : 0;
  return true;
}

/* Whether a condition that is known holds; absent conditions do. */
static bool goes_on(convert_ctx_t *ctx, const ir_value_t *condition,
                    bool *out) {
  *out = true;
  if (condition == NULL) return true;
  if (!is_condition(ctx, condition)) return false;
  if (known_bool(ctx, condition, out)) return true;
  ctx_unsupported(ctx, "the condition of the loop depends on data");
  return false;
}

moec_status_t convert_loop(convert_ctx_t *ctx) {
  const Onnx__GraphProto *body = attr_graph(ctx, "body");
  unsigned n_state = ctx->n_in > 2 ? ctx->n_in - 2 : 0;
  int64_t trips;
  bool more;
  if (body == NULL) return ctx->status;
  if (ctx->n_out < n_state)
    return ctx_invalid(ctx, "the loop has %u outputs for %u carried values",
                       ctx->n_out, n_state);
  unsigned n_scan = ctx->n_out - n_state;
  if (!graph_fits(ctx, body, 1 + ctx->n_out) || !count_trips(ctx, &trips) ||
      !goes_on(ctx, ctx_in(ctx, 1), &more))
    return ctx->status;
  if (trips != INT64_MAX && trips > MAX_TRIPS)
    return ctx_error(ctx, MOEC_E_LIMIT, "%lld trips exceed the limit of %d",
                     (long long)trips, MAX_TRIPS);
  unsigned limit = trips > MAX_TRIPS ? MAX_TRIPS : (unsigned)trips;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, 2 + n_state);
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, body->n_output);
  results_t *stacks = ARENA_ARRAY(ctx->arena, results_t, n_scan);
  for (unsigned i = 0; i < n_state; i++) args[2 + i] = ctx->in[2 + i];
  args[1] =
      (slot_t){.kind = SLOT_TENSOR, .value = ir_scalar_int(ctx->b, DT_BOOL, 1)};
  unsigned trip = 0;
  for (; more && trip < limit; trip++) {
    args[0] = (slot_t){.kind = SLOT_TENSOR,
                       .value = ir_scalar_int(ctx->b, DT_I64, trip)};
    MOEC_TRY(ctx_inline(ctx, body, 2 + n_state, args, out));
    for (unsigned i = 0; i < n_state; i++) args[2 + i] = out[1 + i];
    for (unsigned i = 0; i < n_scan; i++)
      MOEC_TRY(push(ctx, &stacks[i], limit, &out[1 + n_state + i], 0));
    if (out[0].kind != SLOT_TENSOR || !goes_on(ctx, out[0].value, &more))
      return ctx->status != MOEC_OK
                 ? ctx->status
                 : ctx_invalid(ctx, "the body's condition is not a tensor");
  }
  if (more && trips == INT64_MAX)
    return ctx_error(ctx, MOEC_E_LIMIT, "the loop makes more than %d trips",
                     MAX_TRIPS);
  for (unsigned i = 0; i < n_state; i++) give(ctx, i, args[2 + i]);
  for (unsigned i = 0; i < n_scan; i++) {
    if (!ctx_wants(ctx, n_state + i)) continue;
    if (trip == 0)
      return ctx_unsupported(ctx, "a loop without trips has scan outputs");
    ctx_set_output(ctx, n_state + i, joined(ctx, &stacks[i], 0, false));
  }
  return ctx_status(ctx);
}

typedef struct scan {
  unsigned n_state, n_in, n_out; /* carried values, scan inputs and outputs */
  const int64_t *in_axes, *in_reverse, *out_axes, *out_reverse; /* or NULL */
  int64_t trips;
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

/* Axis of scan input i, and the common length, which must be known. */
static bool scan_axis(convert_ctx_t *ctx, scan_t *s, unsigned i,
                      unsigned *out_axis) {
  ir_value_t *x = ctx_in(ctx, s->n_state + i);
  int64_t length;
  if (x == NULL) {
    ctx_invalid(ctx, "scan input %u is not a tensor", i);
    return false;
  }
  if (!ctx_axis(ctx, s->in_axes != NULL ? s->in_axes[i] : 0, x->type.rank,
                out_axis))
    return false;
  if (!expr_is_const(ctx_dim(x, *out_axis), &length)) {
    ctx_unsupported(ctx, "the length of scan input %u is not known: %s", i,
                    ctx_type_str(ctx, x));
    return false;
  }
  if (i > 0 && length != s->trips) {
    ctx_invalid(ctx, "scan inputs have %lld and %lld elements",
                (long long)s->trips, (long long)length);
    return false;
  }
  s->trips = length;
  return true;
}

static slot_t scan_element(convert_ctx_t *ctx, const scan_t *s, unsigned i,
                           unsigned axis, int64_t trip) {
  ir_value_t *x = ctx_in(ctx, s->n_state + i);
  bool reverse = s->in_reverse != NULL && s->in_reverse[i] == 1;
  int64_t at = reverse ? s->trips - 1 - trip : trip;
  ir_value_t *part = ctx_part(ctx, x, axis, ctx_int(ctx, at), ctx_int(ctx, 1));
  if (part != NULL) part = ir_squeeze(ctx->b, part, axis);
  return (slot_t){.kind = part != NULL ? SLOT_TENSOR : SLOT_FAILED,
                  .value = part};
}

static moec_status_t give_scan_outputs(convert_ctx_t *ctx, const scan_t *s,
                                       const results_t *stacks,
                                       const unsigned *axes) {
  for (unsigned i = 0; i < s->n_out; i++) {
    if (!ctx_wants(ctx, s->n_state + i)) continue;
    if (s->trips == 0)
      return ctx_unsupported(ctx, "a scan without trips has scan outputs");
    bool reverse = s->out_reverse != NULL && s->out_reverse[i] == 1;
    ctx_set_output(ctx, s->n_state + i,
                   joined(ctx, &stacks[i], axes[i], reverse));
  }
  return ctx_status(ctx);
}

moec_status_t convert_scan(convert_ctx_t *ctx) {
  const Onnx__GraphProto *body = attr_graph(ctx, "body");
  scan_t s = {0};
  if (body == NULL || !read_scan(ctx, body, &s)) return ctx->status;
  unsigned *in_axis = ARENA_ARRAY(ctx->arena, unsigned, s.n_in);
  unsigned *out_axis = ARENA_ARRAY(ctx->arena, unsigned, s.n_out);
  for (unsigned i = 0; i < s.n_in; i++)
    if (!scan_axis(ctx, &s, i, &in_axis[i])) return ctx->status;
  if (s.trips > MAX_TRIPS)
    return ctx_error(ctx, MOEC_E_LIMIT, "%lld trips exceed the limit of %d",
                     (long long)s.trips, MAX_TRIPS);
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_in);
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  results_t *stacks = ARENA_ARRAY(ctx->arena, results_t, s.n_out);
  for (unsigned i = 0; i < s.n_state; i++) args[i] = ctx->in[i];
  for (int64_t trip = 0; trip < s.trips; trip++) {
    for (unsigned i = 0; i < s.n_in; i++)
      args[s.n_state + i] = scan_element(ctx, &s, i, in_axis[i], trip);
    MOEC_TRY(ctx_inline(ctx, body, ctx->n_in, args, out));
    for (unsigned i = 0; i < s.n_state; i++) args[i] = out[i];
    for (unsigned i = 0; i < s.n_out; i++) {
      const slot_t *slot = &out[s.n_state + i];
      unsigned rank = slot->kind == SLOT_TENSOR ? slot->value->type.rank : 0;
      int64_t axis = s.out_axes != NULL ? s.out_axes[i] : 0;
      if (!ctx_axis(ctx, axis, rank + 1, &out_axis[i])) return ctx->status;
      MOEC_TRY(push(ctx, &stacks[i], (unsigned)s.trips, slot, out_axis[i]));
    }
  }
  for (unsigned i = 0; i < s.n_state; i++) give(ctx, i, args[i]);
  return give_scan_outputs(ctx, &s, stacks, out_axis);
}
