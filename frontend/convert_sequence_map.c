/* SequenceMap: a body for each element of a sequence, and the like elements of
 * others. Lists are written out; for other sequences a loop inserts what the
 * body gives. */
#include "frontend/region.h"
#include "frontend/sequence.h"

typedef struct map {
  const Onnx__GraphProto *body;
  const slot_t *in; /* of the node: lists, or sequences and tensors */
} map_t;

static moec_status_t map_list(convert_ctx_t *ctx, const map_t *map,
                              unsigned n) {
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_in);
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  ir_value_t ***items = ARENA_ARRAY(ctx->arena, ir_value_t **, ctx->n_out);
  for (unsigned j = 0; j < ctx->n_out; j++)
    items[j] = ARENA_ARRAY(ctx->arena, ir_value_t *, n);
  for (unsigned i = 0; i < n; i++) {
    for (unsigned j = 0; j < ctx->n_in; j++) {
      args[j] = map->in[j];
      if (args[j].kind != SLOT_LIST) continue;
      args[j] =
          (slot_t){.kind = SLOT_TENSOR, .value = map->in[j].list->value[i]};
    }
    MOEC_TRY(ctx_inline(ctx, map->body, ctx->n_in, args, out));
    for (unsigned j = 0; j < ctx->n_out; j++) {
      if (out[j].kind != SLOT_TENSOR)
        return ctx_invalid(ctx, "output %u of the body is not a tensor", j);
      items[j][i] = out[j].value;
    }
  }
  for (unsigned j = 0; j < ctx->n_out; j++)
    ctx_set_list(ctx, j, n, items[j],
                 n > 0 ? items[j][0]->type.dtype : DT_NONE);
  return MOEC_OK;
}

/* Appends what the body gives for element `trip`. */
static moec_status_t map_next(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                              const slot_t *state, ir_value_t **out_more,
                              slot_t *out) {
  const map_t *map = user;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_in);
  *out_more = NULL;
  for (unsigned j = 0; j < ctx->n_in; j++) {
    args[j] = map->in[j];
    if (args[j].kind != SLOT_SEQUENCE) continue;
    const expr_t *last =
        expr_sub(ctx->exprs, sequence_length(&args[j]), ctx_int(ctx, 1));
    const expr_t *at = ctx_size(ctx, trip, 0, "position", 0, last);
    ir_value_t *x = at != NULL ? sequence_at(ctx, &args[j], at) : NULL;
    if (x == NULL) return ctx_status(ctx);
    args[j] = (slot_t){.kind = SLOT_TENSOR, .value = x};
  }
  MOEC_TRY(ctx_inline(ctx, map->body, ctx->n_in, args, out));
  for (unsigned j = 0; j < ctx->n_out; j++) {
    slot_t before;
    if (out[j].kind != SLOT_TENSOR)
      return ctx_invalid(ctx, "output %u of the body is not a tensor", j);
    ir_value_t *x = out[j].value;
    if (state[j].kind == SLOT_LIST) /* its rank was not known so far */
      before = sequence_empty(ctx, x->type.dtype, x->type.rank);
    else
      before = state[j];
    if (before.kind != SLOT_SEQUENCE) return ctx_status(ctx);
    out[j] = sequence_insert(ctx, &before, sequence_length(&before), x);
  }
  return ctx_status(ctx);
}

static moec_status_t map_sequence(convert_ctx_t *ctx, const map_t *map,
                                  const expr_t *n) {
  slot_t *init = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  slot_t *results = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_out);
  slot_list_t *none = ARENA_NEW(ctx->arena, slot_list_t);
  for (unsigned j = 0; j < ctx->n_out; j++)
    init[j] = (slot_t){.kind = SLOT_LIST, .list = none};
  slot_loop_t loop = {.limit = ir_expr_scalar(ctx->b, n),
                      .first = ir_scalar_int(ctx->b, DT_BOOL, 1),
                      .trips = n,
                      .n_state = ctx->n_out,
                      .init = init,
                      .body = map_next,
                      .user = (void *)(uintptr_t)map};
  MOEC_TRY(ctx_while_slots(ctx, &loop, results));
  for (unsigned j = 0; j < ctx->n_out; j++)
    if (ctx_wants(ctx, j)) ctx->out[j] = results[j];
  return ctx_status(ctx);
}

/* All as SLOT_SEQUENCEs of one length. */
static bool as_sequences(convert_ctx_t *ctx, slot_t *in,
                         const expr_t **out_length) {
  *out_length = NULL;
  for (unsigned j = 0; j < ctx->n_in; j++) {
    if (!slot_is_sequence(&in[j])) continue;
    if (!sequence_of(ctx, &in[j], 0, &in[j])) return false;
    const expr_t *n = sequence_length(&in[j]);
    if (*out_length != NULL)
      ir_check_equal(ctx->b, *out_length, n, "lengths of sequences");
    else
      *out_length = n;
  }
  return ctx_status(ctx) == MOEC_OK;
}

moec_status_t convert_sequence_map(convert_ctx_t *ctx) {
  slot_t *in = ARENA_ARRAY(ctx->arena, slot_t, ctx->n_in);
  map_t map = {.body = attr_graph(ctx, "body"), .in = in};
  if (map.body == NULL) return ctx->status;
  if (map.body->n_output != ctx->n_out)
    return ctx_invalid(ctx, "the body has %zu outputs, expected %u",
                       map.body->n_output, ctx->n_out);
  if (!slot_is_sequence(&ctx->in[0]))
    return ctx_invalid(ctx, "input 0 is not a sequence");
  bool lists = true;
  unsigned n = ctx->in[0].kind == SLOT_LIST ? ctx->in[0].list->n : 0;
  for (unsigned j = 0; j < ctx->n_in; j++) {
    in[j] = ctx->in[j];
    lists &= in[j].kind != SLOT_SEQUENCE;
    if (in[j].kind == SLOT_LIST && lists && in[j].list->n != n)
      return ctx_invalid(ctx, "sequences of %u and %u elements", n,
                         in[j].list->n);
  }
  if (lists && n > 0) return map_list(ctx, &map, n);
  const expr_t *length;
  if (!as_sequences(ctx, in, &length)) return ctx_status(ctx);
  return map_sequence(ctx, &map, length);
}
