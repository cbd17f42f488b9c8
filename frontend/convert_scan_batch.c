/* Scan of opset 8: axis 0 of all values is a batch, and each of its entries is
 * scanned along axis 1 for a length of its own. A loop over the batch with a
 * loop over the steps in it. */
#include "frontend/region.h"

typedef struct scan_batch {
  const Onnx__GraphProto *body;
  unsigned n_state, n_in, n_rows; /* carried values, scanned inputs, rows */
  const int64_t *reverse;         /* [n_in], or NULL */
  ir_value_t *lengths;            /* integers [batch], or NULL */
  const expr_t *batch, *longest;
  /* of the entry at hand */
  ir_value_t *entry;
  const expr_t *length;
} scan_batch_t;

static slot_t tensor_slot(ir_value_t *value) {
  return (slot_t){.kind = value != NULL ? SLOT_TENSOR : SLOT_FAILED,
                  .value = value};
}

static ir_value_t *initial(const convert_ctx_t *ctx, unsigned i) {
  return ctx_in(ctx, 1 + i);
}

static ir_value_t *scanned(const convert_ctx_t *ctx, const scan_batch_t *s,
                           unsigned i) {
  return ctx_in(ctx, 1 + s->n_state + i);
}

static bool read_numbers(convert_ctx_t *ctx, scan_batch_t *s) {
  s->body = attr_graph(ctx, "body");
  int64_t n = attr_int_required(ctx, "num_scan_inputs");
  unsigned n_given;
  s->reverse = attr_ints(ctx, "directions", &n_given);
  if (ctx->status != MOEC_OK) return false;
  unsigned n_values = ctx->n_in - 1;
  if (s->body == NULL)
    ctx_invalid(ctx, "the body is missing");
  else if (n < 1 || n > n_values)
    ctx_invalid(ctx, "num_scan_inputs is %lld for %u inputs", (long long)n,
                n_values);
  else if (s->reverse != NULL && n_given != n)
    ctx_invalid(ctx, "attribute \"directions\" has %u entries, expected %lld",
                n_given, (long long)n);
  else if (ctx->n_out < n_values - n)
    ctx_invalid(ctx, "there are %u outputs for %lld carried values", ctx->n_out,
                (long long)(n_values - n));
  else if (s->body->n_output != ctx->n_out)
    ctx_invalid(ctx, "a body has %zu outputs, expected %u", s->body->n_output,
                ctx->n_out);
  if (ctx->status != MOEC_OK) return false;
  s->n_in = (unsigned)n;
  s->n_state = n_values - s->n_in;
  s->n_rows = ctx->n_out - s->n_state;
  return true;
}

/* All values agree in the batch, and those that are scanned in their length. */
static bool read_shapes(convert_ctx_t *ctx, scan_batch_t *s) {
  for (unsigned i = 0; i < s->n_state + s->n_in; i++) {
    ir_value_t *x = initial(ctx, i);
    bool is_state = i < s->n_state;
    if (x == NULL) {
      ctx_invalid(ctx, "input %u is missing", 1 + i);
      return false;
    }
    if (!ctx_check_rank(ctx, x, is_state ? 1 : 2, IR_MAX_RANK,
                        is_state ? "a carried value" : "a scanned input"))
      return false;
    if (i == 0) s->batch = ctx_dim(x, 0);
    if (i == s->n_state) s->longest = ctx_dim(x, 1);
    ir_check_equal(ctx->b, s->batch, ctx_dim(x, 0), "sizes of the batch");
    if (!is_state)
      ir_check_equal(ctx->b, s->longest, ctx_dim(x, 1),
                     "lengths of scan inputs");
  }
  s->lengths = ctx_in(ctx, 0);
  if (s->lengths == NULL) return ctx_status(ctx) == MOEC_OK;
  if (!dtype_is_integer(s->lengths->type.dtype)) {
    ctx_invalid(ctx, "the lengths are %s, expected integers",
                ctx_type_str(ctx, s->lengths));
    return false;
  }
  if (!ctx_check_rank(ctx, s->lengths, 1, 1, "the lengths")) return false;
  ir_check_equal(ctx->b, s->batch, ctx_dim(s->lengths, 0),
                 "number of sequences and of lengths");
  return ctx_status(ctx) == MOEC_OK;
}

/* Step `step` of the entry at hand of scanned input i. */
static ir_value_t *element(convert_ctx_t *ctx, const scan_batch_t *s,
                           unsigned i, ir_value_t *step) {
  if (s->reverse != NULL && s->reverse[i] == 1) {
    const expr_t *last = expr_sub(ctx->exprs, s->length, ctx_int(ctx, 1));
    ir_value_t *from = ir_expr_scalar(ctx->b, last);
    step = ir_binary(ctx->b, OP_SUB, from, step);
  }
  ir_value_t *x = ir_gather(ctx->b, scanned(ctx, s, i), s->entry, 0);
  return ir_gather(ctx->b, x, step, 0);
}

static moec_status_t step_body(convert_ctx_t *ctx, void *user, ir_value_t *step,
                               const slot_t *state, ir_value_t **out_more,
                               slot_t *out) {
  const scan_batch_t *s = user;
  unsigned n = s->n_state + s->n_in;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, n);
  *out_more = NULL;
  for (unsigned i = 0; i < s->n_state; i++) args[i] = state[i];
  for (unsigned i = 0; i < s->n_in; i++) {
    ir_value_t *x = element(ctx, s, i, step);
    if (x == NULL) return ctx_status(ctx);
    args[s->n_state + i] = tensor_slot(x);
  }
  return ctx_inline(ctx, s->body, n, args, out);
}

/* Rows as many as the longest entry has: the ones that are missing are 0. */
static ir_value_t *padded(convert_ctx_t *ctx, const scan_batch_t *s,
                          ir_value_t *rows) {
  if (rows == NULL || s->length == s->longest) return rows;
  const expr_t **dim = ctx_dims(ctx, rows, 0);
  dim[0] = expr_sub(ctx->exprs, s->longest, s->length);
  ir_value_t *zero = ir_scalar_int(ctx->b, rows->type.dtype, 0);
  ir_value_t *parts[2] = {rows, ir_fill(ctx->b, zero, rows->type.rank, dim)};
  return ir_concat(ctx->b, 2, parts, 0);
}

static moec_status_t entry_body(convert_ctx_t *ctx, void *user,
                                ir_value_t *entry, ir_value_t *const *none,
                                ir_value_t **out) {
  (void)none;
  scan_batch_t *s = user;
  s->entry = entry;
  s->length = s->longest;
  if (s->lengths != NULL) {
    ir_value_t *length = ir_gather(ctx->b, s->lengths, entry, 0);
    s->length = ctx_size(ctx, length, 0, "length", 0, s->longest);
    if (s->length == NULL) return ctx_status(ctx);
  }
  slot_t *init = ARENA_ARRAY(ctx->arena, slot_t, s->n_state);
  slot_t *results = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  for (unsigned i = 0; i < s->n_state; i++)
    init[i] = tensor_slot(ir_gather(ctx->b, initial(ctx, i), entry, 0));
  slot_loop_t steps = {.limit = ir_expr_scalar(ctx->b, s->length),
                       .first = ir_scalar_int(ctx->b, DT_BOOL, 1),
                       .trips = s->length,
                       .n_state = s->n_state,
                       .n_rows = s->n_rows,
                       .init = init,
                       .body = step_body,
                       .user = s};
  MOEC_TRY(ctx_status(ctx));
  MOEC_TRY(ctx_while_slots(ctx, &steps, results));
  out[0] = NULL;
  for (unsigned i = 0; i < ctx->n_out; i++) {
    ir_value_t *x = results[i].value;
    out[1 + i] = i < s->n_state ? x : padded(ctx, s, x);
  }
  return ctx_status(ctx);
}

moec_status_t convert_scan_batch(convert_ctx_t *ctx) {
  scan_batch_t s = {.n_in = 0};
  if (!read_numbers(ctx, &s) || !read_shapes(ctx, &s)) return ctx_status(ctx);
  while_spec_t entries = {.limit = ir_expr_scalar(ctx->b, s.batch),
                          .first = ir_scalar_int(ctx->b, DT_BOOL, 1),
                          .trips = s.batch,
                          .n_rows = ctx->n_out,
                          .body = entry_body,
                          .user = &s};
  ir_value_t **results = ARENA_ARRAY(ctx->arena, ir_value_t *, ctx->n_out + 1);
  MOEC_TRY(ctx_while(ctx, &entries, results));
  for (unsigned i = 0; i < ctx->n_out; i++) ctx_set_output(ctx, i, results[i]);
  return ctx_status(ctx);
}
