/* Sequences and optionals. Their structure must be known when compiling; then
 * they vanish: a sequence is a list of values. */
#include "frontend/convert.h"

/* A slot as it is. */
static void pass_on(convert_ctx_t *ctx, const slot_t *slot) {
  if (ctx_wants(ctx, 0)) ctx->out[0] = *slot;
}

static bool is_tensor(convert_ctx_t *ctx, unsigned index) {
  if (index < ctx->n_in && ctx->in[index].kind == SLOT_TENSOR) return true;
  ctx_invalid(ctx, "input %u is not a tensor", index);
  return false;
}

moec_status_t convert_identity(convert_ctx_t *ctx) {
  pass_on(ctx, &ctx->in[0]);
  return MOEC_OK;
}

moec_status_t convert_optional(convert_ctx_t *ctx) {
  attr_ignore(ctx, "type");
  if (ctx->n_in > 0) pass_on(ctx, &ctx->in[0]);
  return MOEC_OK;
}

moec_status_t convert_optional_get_element(convert_ctx_t *ctx) {
  if (ctx->in[0].kind == SLOT_NONE)
    return ctx_invalid(ctx, "the optional is empty");
  pass_on(ctx, &ctx->in[0]);
  return MOEC_OK;
}

moec_status_t convert_optional_has_element(convert_ctx_t *ctx) {
  bool present = ctx->n_in > 0 && ctx->in[0].kind != SLOT_NONE;
  ctx_set_output(ctx, 0, ir_scalar_int(ctx->b, DT_BOOL, present));
  return MOEC_OK;
}

moec_status_t convert_sequence_construct(convert_ctx_t *ctx) {
  ir_value_t **item = ARENA_ARRAY(ctx->arena, ir_value_t *, ctx->n_in);
  for (unsigned i = 0; i < ctx->n_in; i++) {
    if (!is_tensor(ctx, i)) return ctx->status;
    item[i] = ctx_in(ctx, i);
    if (item[i]->type.dtype != item[0]->type.dtype)
      return ctx_invalid(ctx, "input %u is %s, input 0 is %s", i,
                         ctx_type_str(ctx, item[i]),
                         ctx_type_str(ctx, item[0]));
  }
  ctx_set_list(ctx, 0, ctx->n_in, item, item[0]->type.dtype);
  return MOEC_OK;
}

moec_status_t convert_sequence_empty(convert_ctx_t *ctx) {
  ctx_set_list(ctx, 0, 0, NULL, attr_dtype(ctx, "dtype", DT_F32));
  return MOEC_OK;
}

moec_status_t convert_sequence_length(convert_ctx_t *ctx) {
  const slot_list_t *list = ctx_list(ctx, 0);
  if (list == NULL) return ctx->status;
  ctx_set_output(ctx, 0, ir_scalar_int(ctx->b, DT_I64, list->n));
  return MOEC_OK;
}

/* A constant position within [-n, n) of a list, or [-n, n] with `at_end`. */
static bool position(convert_ctx_t *ctx, unsigned input, unsigned n,
                     bool at_end, unsigned *out_position) {
  unsigned count;
  const int64_t *value;
  if (!is_tensor(ctx, input) ||
      !ctx_need_ints(ctx, ctx_in(ctx, input), "the position", &count, &value))
    return false;
  int64_t limit = n, at = count == 1 ? value[0] : limit + 1;
  if (at < -limit || at >= limit + (at_end ? 1 : 0)) {
    ctx_invalid(ctx, "position %lld is not within a sequence of %u",
                (long long)at, n);
    return false;
  }
  *out_position = (unsigned)(at < 0 ? at + limit : at);
  return true;
}

moec_status_t convert_sequence_at(convert_ctx_t *ctx) {
  const slot_list_t *list = ctx_list(ctx, 0);
  unsigned at;
  if (list == NULL || !position(ctx, 1, list->n, false, &at))
    return ctx->status;
  ctx_set_output(ctx, 0, list->value[at]);
  return MOEC_OK;
}

moec_status_t convert_sequence_insert(convert_ctx_t *ctx) {
  const slot_list_t *list = ctx_list(ctx, 0);
  if (list == NULL || !is_tensor(ctx, 1)) return ctx->status;
  unsigned at = list->n;
  if (ctx->n_in > 2 && ctx->in[2].kind != SLOT_NONE &&
      !position(ctx, 2, list->n, true, &at))
    return ctx->status;
  ir_value_t *added = ctx_in(ctx, 1);
  if (list->n > 0 && added->type.dtype != list->value[0]->type.dtype)
    return ctx_invalid(ctx, "%s is inserted into a sequence of %s",
                       ctx_type_str(ctx, added), dtype_name(list->dtype));
  ir_value_t **item = ARENA_ARRAY(ctx->arena, ir_value_t *, list->n + 1);
  for (unsigned i = 0; i <= list->n; i++)
    item[i] = i == at ? added : list->value[i < at ? i : i - 1];
  ctx_set_list(ctx, 0, list->n + 1, item, added->type.dtype);
  return MOEC_OK;
}

moec_status_t convert_sequence_erase(convert_ctx_t *ctx) {
  const slot_list_t *list = ctx_list(ctx, 0);
  if (list == NULL) return ctx->status;
  if (list->n == 0) return ctx_invalid(ctx, "the sequence is empty");
  unsigned at = list->n - 1;
  if (ctx->n_in > 1 && ctx->in[1].kind != SLOT_NONE &&
      !position(ctx, 1, list->n, false, &at))
    return ctx->status;
  ir_value_t **item = ARENA_ARRAY(ctx->arena, ir_value_t *, list->n);
  for (unsigned i = 0; i + 1 < list->n; i++)
    item[i] = list->value[i < at ? i : i + 1];
  ctx_set_list(ctx, 0, list->n - 1, item, list->dtype);
  return MOEC_OK;
}

typedef struct cuts {
  unsigned n;
  const expr_t **length;
} cuts_t;

/* Parts of one size, the last one perhaps smaller; the axis is static. */
static bool even_cuts(convert_ctx_t *ctx, const expr_t *d, int64_t size,
                      cuts_t *out) {
  int64_t total;
  if (!expr_is_const(d, &total)) {
    ctx_unsupported(
        ctx, "the length of the sequence depends on a size that is not known");
    return false;
  }
  if (size < 1) {
    ctx_invalid(ctx, "the size of parts is %lld", (long long)size);
    return false;
  }
  int64_t n = total / size + (total % size != 0);
  if (n > 1 << 20) {
    ctx_error(ctx, MOEC_E_LIMIT, "a sequence of %lld elements", (long long)n);
    return false;
  }
  out->n = (unsigned)n;
  out->length = ARENA_ARRAY(ctx->arena, const expr_t *, (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    int64_t left = total - i * size;
    out->length[i] = ctx_int(ctx, left < size ? left : size);
  }
  return true;
}

static bool find_cuts(convert_ctx_t *ctx, const expr_t *d, cuts_t *out) {
  ir_value_t *split = ctx_in(ctx, 1);
  unsigned n;
  const int64_t *size;
  if (split == NULL) return even_cuts(ctx, d, 1, out);
  if (split->type.rank == 0) {
    if (!ctx_need_ints(ctx, split, "the size of parts", &n, &size))
      return false;
    return even_cuts(ctx, d, size[0], out);
  }
  if (!ctx_check_rank(ctx, split, 1, 1, "split")) return false;
  out->length = ctx_sizes(ctx, split, "split", 0, &out->n);
  if (out->length == NULL) return false;
  const expr_t *sum = ctx_int(ctx, 0);
  for (unsigned i = 0; i < out->n; i++)
    sum = expr_add(ctx->exprs, sum, out->length[i]);
  ir_check_equal(ctx->b, sum, d, "sum of the sizes of a split");
  return ctx_status(ctx) == MOEC_OK;
}

moec_status_t convert_split_to_sequence(convert_ctx_t *ctx) {
  if (!is_tensor(ctx, 0)) return ctx->status;
  ir_value_t *x = ctx_in(ctx, 0);
  unsigned axis;
  cuts_t cuts;
  bool keepdims = attr_bool(ctx, "keepdims", true);
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis) ||
      !find_cuts(ctx, ctx_dim(x, axis), &cuts))
    return ctx_status(ctx);
  bool squeeze = !keepdims && ctx_in(ctx, 1) == NULL;
  ir_value_t **item = ARENA_ARRAY(ctx->arena, ir_value_t *, cuts.n);
  const expr_t *start = ctx_int(ctx, 0);
  for (unsigned i = 0; i < cuts.n; i++) {
    item[i] = ctx_part(ctx, x, axis, start, cuts.length[i]);
    if (squeeze && item[i] != NULL) item[i] = ir_squeeze(ctx->b, item[i], axis);
    if (item[i] == NULL) return ctx_status(ctx);
    start = expr_add(ctx->exprs, start, cuts.length[i]);
  }
  ctx_set_list(ctx, 0, cuts.n, item, x->type.dtype);
  return MOEC_OK;
}

moec_status_t convert_concat_from_sequence(convert_ctx_t *ctx) {
  const slot_list_t *list = ctx_list(ctx, 0);
  bool stack = attr_bool(ctx, "new_axis", false);
  int64_t given = attr_int_required(ctx, "axis");
  if (list == NULL || ctx->status != MOEC_OK) return ctx->status;
  if (list->n == 0) return ctx_invalid(ctx, "the sequence is empty");
  unsigned axis, rank = list->value[0]->type.rank;
  if (!ctx_axis(ctx, given, rank + (stack ? 1 : 0), &axis)) return ctx->status;
  ir_value_t **item = ARENA_ARRAY(ctx->arena, ir_value_t *, list->n);
  for (unsigned i = 0; i < list->n; i++) {
    item[i] = list->value[i];
    if (item[i]->type.rank != rank)
      return ctx_invalid(ctx, "elements of the sequence differ in rank");
    for (unsigned j = 0; j < rank; j++)
      if (stack || j != axis)
        ir_check_equal(ctx->b, ctx_dim(item[0], j), ctx_dim(item[i], j),
                       "dimensions of concatenated tensors");
    if (stack) item[i] = ir_unsqueeze(ctx->b, item[i], axis);
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_concat(ctx->b, list->n, item, axis));
  return MOEC_OK;
}
