/* Sequences and optionals. Those whose structure is known when compiling
 * vanish: a sequence is a list of values. Others are tensors, see sequence.h.
 */
#include "frontend/sequence.h"

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

/* An optional as what it holds; a run in which it is empty ends there. */
moec_status_t convert_optional_get_element(convert_ctx_t *ctx) {
  slot_t slot = ctx->in[0];
  if (slot.kind == SLOT_NONE) return ctx_invalid(ctx, "the optional is empty");
  if (slot.kind == SLOT_OPTIONAL) {
    ir_value_t *has = ir_cast(ctx->b, slot.has, DT_I64);
    if (ctx_size(ctx, has, 0, "element of the optional", 1, NULL) == NULL)
      return ctx_status(ctx);
    slot.kind = slot.dims != NULL ? SLOT_SEQUENCE : SLOT_TENSOR;
    slot.has = NULL;
  }
  pass_on(ctx, &slot);
  return MOEC_OK;
}

moec_status_t convert_optional_has_element(convert_ctx_t *ctx) {
  bool present = ctx->n_in > 0 && ctx->in[0].kind != SLOT_NONE;
  if (present && ctx->in[0].kind == SLOT_OPTIONAL) {
    ctx_set_output(ctx, 0, ctx->in[0].has);
    return ctx_status(ctx);
  }
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
  if (ctx->in[0].kind == SLOT_SEQUENCE) {
    ctx_set_output(ctx, 0,
                   ir_expr_scalar(ctx->b, sequence_length(&ctx->in[0])));
    return ctx_status(ctx);
  }
  const slot_list_t *list = ctx_list(ctx, 0);
  if (list == NULL) return ctx->status;
  ctx_set_output(ctx, 0, ir_scalar_int(ctx->b, DT_I64, list->n));
  return MOEC_OK;
}

/* Whether a position is left out or constant. */
static bool has_known_position(convert_ctx_t *ctx, unsigned input) {
  unsigned n;
  const int64_t *value;
  if (input >= ctx->n_in || ctx->in[input].kind == SLOT_NONE) return true;
  return ctx->in[input].kind != SLOT_TENSOR ||
         ctx_const_ints(ctx, ctx_in(ctx, input), &n, &value);
}

/* Whether operand 0 stays a list at this position; otherwise *out is the
 * sequence. False in `*out_fine` after recording an error. */
static bool stays_list(convert_ctx_t *ctx, unsigned position, unsigned rank,
                       slot_t *out, bool *out_fine) {
  const slot_t *in = &ctx->in[0];
  *out_fine = true;
  if (in->kind == SLOT_LIST && has_known_position(ctx, position)) return true;
  if (!slot_is_sequence(in)) {
    ctx_invalid(ctx, "input 0 is not a sequence");
    *out_fine = false;
    return false;
  }
  *out_fine = sequence_of(ctx, in, rank, out);
  return false;
}

static moec_status_t give_sequence(convert_ctx_t *ctx, slot_t s) {
  MOEC_TRY(ctx_status(ctx));
  pass_on(ctx, &s);
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
  slot_t s;
  bool fine;
  if (!stays_list(ctx, 1, 0, &s, &fine)) {
    if (!fine) return ctx_status(ctx);
    const expr_t *at_data = sequence_position(ctx, &s, 1, false);
    ctx_set_output(ctx, 0, sequence_at(ctx, &s, at_data));
    return ctx_status(ctx);
  }
  const slot_list_t *list = ctx_list(ctx, 0);
  unsigned at;
  if (list == NULL || !position(ctx, 1, list->n, false, &at))
    return ctx->status;
  ctx_set_output(ctx, 0, list->value[at]);
  return MOEC_OK;
}

/* Where data say, or into a sequence that they have made. */
static moec_status_t insert_by_data(convert_ctx_t *ctx, const slot_t *s) {
  bool at_end = ctx->n_in < 3 || ctx->in[2].kind == SLOT_NONE;
  const expr_t *at =
      at_end ? sequence_length(s) : sequence_position(ctx, s, 2, true);
  return give_sequence(ctx, sequence_insert(ctx, s, at, ctx_in(ctx, 1)));
}

moec_status_t convert_sequence_insert(convert_ctx_t *ctx) {
  slot_t s;
  bool fine;
  if (!is_tensor(ctx, 1)) return ctx->status;
  if (!stays_list(ctx, 2, ctx_in(ctx, 1)->type.rank, &s, &fine))
    return fine ? insert_by_data(ctx, &s) : ctx_status(ctx);
  const slot_list_t *list = ctx_list(ctx, 0);
  if (list == NULL) return ctx->status;
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

static moec_status_t erase_by_data(convert_ctx_t *ctx, const slot_t *s) {
  const expr_t *at;
  if (ctx->n_in > 1 && ctx->in[1].kind != SLOT_NONE) {
    at = sequence_position(ctx, s, 1, false);
  } else {
    ir_value_t *n = ir_expr_scalar(ctx->b, sequence_length(s));
    const expr_t *length = ctx_size(ctx, n, 0, "length of a sequence", 1, NULL);
    at = length != NULL ? expr_sub(ctx->exprs, length, ctx_int(ctx, 1)) : NULL;
  }
  return give_sequence(ctx, sequence_erase(ctx, s, at));
}

moec_status_t convert_sequence_erase(convert_ctx_t *ctx) {
  slot_t s;
  bool fine;
  if (!stays_list(ctx, 1, 0, &s, &fine))
    return fine ? erase_by_data(ctx, &s) : ctx_status(ctx);
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
static bool even_cuts(convert_ctx_t *ctx, int64_t total, int64_t size,
                      cuts_t *out) {
  if (size < 1) {
    ctx_invalid(ctx, "the size of parts is %lld", (long long)size);
    return false;
  }
  int64_t n = total / size + (total % size != 0);
  out->n = (unsigned)n;
  out->length = ARENA_ARRAY(ctx->arena, const expr_t *, (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    int64_t left = total - i * size;
    out->length[i] = ctx_int(ctx, left < size ? left : size);
  }
  return true;
}

static bool given_cuts(convert_ctx_t *ctx, ir_value_t *split, const expr_t *d,
                       cuts_t *out) {
  out->length = ctx_sizes(ctx, split, "split", 0, &out->n);
  if (out->length == NULL) return false;
  const expr_t *sum = ctx_int(ctx, 0);
  for (unsigned i = 0; i < out->n; i++)
    sum = expr_add(ctx->exprs, sum, out->length[i]);
  ir_check_equal(ctx->b, sum, d, "sum of the sizes of a split");
  return ctx_status(ctx) == MOEC_OK;
}

/* Whether the number of parts is known, and few enough for a list. */
static bool has_known_cuts(convert_ctx_t *ctx, const expr_t *d,
                           ir_value_t *split, int64_t *out_total,
                           int64_t *out_size) {
  enum { MAX_PARTS = 4096 };
  unsigned n;
  const int64_t *size;
  int64_t count;
  if (split != NULL && split->type.rank == 1)
    return ir_type_static_count(&split->type, &count) && count <= MAX_PARTS;
  *out_size = 1;
  if (split != NULL) {
    if (!ctx_const_ints(ctx, split, &n, &size) || n != 1) return false;
    *out_size = size[0];
  }
  return expr_is_const(d, out_total) &&
         (*out_size < 1 || *out_total / *out_size <= MAX_PARTS);
}

/* Sizes of the parts as data: i64[number of parts]. */
static ir_value_t *lengths_by_data(convert_ctx_t *ctx, const expr_t *d,
                                   ir_value_t *split) {
  if (split == NULL) {
    ir_value_t *one = ir_scalar_int(ctx->b, DT_I64, 1);
    return ir_fill(ctx->b, one, 1, &d);
  }
  if (split->type.rank == 1) return ir_cast(ctx->b, split, DT_I64);
  const expr_t *size = ctx_size(ctx, split, 0, "size of parts", 1, NULL);
  if (size == NULL) return NULL;
  const expr_t *n = expr_ceildiv(ctx->exprs, d, size);
  ir_value_t *each = ir_expr_scalar(ctx->b, size);
  ir_value_t *before =
      ir_binary(ctx->b, OP_MUL, ir_iota(ctx->b, DT_I64, n), each);
  ir_value_t *all = ir_expr_scalar(ctx->b, d);
  ir_value_t *left = ir_binary(ctx->b, OP_SUB, all, before);
  return ir_binary(ctx->b, OP_MIN, each, left);
}

static moec_status_t split_to_list(convert_ctx_t *ctx, ir_value_t *x,
                                   unsigned axis, const cuts_t *cuts,
                                   bool squeeze) {
  ir_value_t **item = ARENA_ARRAY(ctx->arena, ir_value_t *, cuts->n);
  const expr_t *start = ctx_int(ctx, 0);
  for (unsigned i = 0; i < cuts->n; i++) {
    item[i] = ctx_part(ctx, x, axis, start, cuts->length[i]);
    if (squeeze && item[i] != NULL) item[i] = ir_squeeze(ctx->b, item[i], axis);
    if (item[i] == NULL) return ctx_status(ctx);
    start = expr_add(ctx->exprs, start, cuts->length[i]);
  }
  ctx_set_list(ctx, 0, cuts->n, item, x->type.dtype);
  return MOEC_OK;
}

moec_status_t convert_split_to_sequence(convert_ctx_t *ctx) {
  if (!is_tensor(ctx, 0)) return ctx->status;
  ir_value_t *x = ctx_in(ctx, 0), *split = ctx_in(ctx, 1);
  unsigned axis;
  bool keepdims = attr_bool(ctx, "keepdims", true);
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis))
    return ctx_status(ctx);
  if (split != NULL && !ctx_check_rank(ctx, split, 0, 1, "split"))
    return ctx_status(ctx);
  const expr_t *d = ctx_dim(x, axis);
  bool squeeze = !keepdims && split == NULL;
  int64_t total = 0, size = 1;
  if (!has_known_cuts(ctx, d, split, &total, &size)) {
    ir_value_t *lengths = lengths_by_data(ctx, d, split);
    if (lengths == NULL) return ctx_status(ctx);
    return give_sequence(ctx, sequence_split(ctx, x, axis, lengths, squeeze));
  }
  cuts_t cuts;
  bool given = split != NULL && split->type.rank == 1;
  if (given ? !given_cuts(ctx, split, d, &cuts)
            : !even_cuts(ctx, total, size, &cuts))
    return ctx_status(ctx);
  return split_to_list(ctx, x, axis, &cuts, squeeze);
}

static moec_status_t concat_by_data(convert_ctx_t *ctx, const slot_t *s,
                                    int64_t given, bool stack) {
  unsigned axis, rank = (unsigned)slot_element_rank(s);
  if (!ctx_axis(ctx, given, rank + (stack ? 1 : 0), &axis)) return ctx->status;
  ctx_set_output(ctx, 0, sequence_concat(ctx, s, axis, stack));
  return ctx_status(ctx);
}

moec_status_t convert_concat_from_sequence(convert_ctx_t *ctx) {
  bool stack = attr_bool(ctx, "new_axis", false);
  int64_t given = attr_int_required(ctx, "axis");
  if (ctx->status != MOEC_OK) return ctx->status;
  if (ctx->in[0].kind == SLOT_SEQUENCE)
    return concat_by_data(ctx, &ctx->in[0], given, stack);
  const slot_list_t *list = ctx_list(ctx, 0);
  if (list == NULL) return ctx->status;
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
        ir_check_equal(ctx->b, ctx_dim(list->value[0], j), ctx_dim(item[i], j),
                       "dimensions of concatenated tensors");
    if (stack) item[i] = ir_unsqueeze(ctx->b, item[i], axis);
  }
  MOEC_TRY(ctx_status(ctx));
  ctx_set_output(ctx, 0, ir_concat(ctx->b, list->n, item, axis));
  return MOEC_OK;
}
