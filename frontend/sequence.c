/* Sequences as two tensors; see sequence.h. */
#include "frontend/sequence.h"

#include "frontend/region.h"

bool slot_is_sequence(const slot_t *slot) {
  return slot->kind == SLOT_LIST || slot->kind == SLOT_SEQUENCE;
}

int slot_element_rank(const slot_t *slot) {
  int64_t rank;
  if (slot->kind == SLOT_LIST)
    return slot->list->n > 0 ? (int)slot->list->value[0]->type.rank : -1;
  bool known = expr_is_const(slot->dims->type.dim[1], &rank);
  MOEC_ASSERT(known);
  return (int)rank;
}

/* ---- Small parts --------------------------------------------------------- */

static const expr_t *zero(convert_ctx_t *ctx) { return ctx_int(ctx, 0); }

static const expr_t *minus(convert_ctx_t *ctx, const expr_t *a,
                           const expr_t *b) {
  return a != NULL && b != NULL ? expr_sub(ctx->exprs, a, b) : NULL;
}

/* Elements [from, to) along axis 0. */
static ir_value_t *range(convert_ctx_t *ctx, ir_value_t *x, const expr_t *from,
                         const expr_t *to) {
  if (x == NULL || from == NULL || to == NULL) return NULL;
  return ctx_part(ctx, x, 0, from, minus(ctx, to, from));
}

static ir_value_t *join(convert_ctx_t *ctx, unsigned n, ir_value_t **x) {
  for (unsigned i = 0; i < n; i++)
    if (x[i] == NULL) return NULL;
  return ir_concat(ctx->b, n, x, 0);
}

/* The dimensions of x as i64[1, rank]. */
static ir_value_t *row_of(convert_ctx_t *ctx, const ir_value_t *x) {
  const expr_t *shape[] = {ctx_int(ctx, 1), ctx_int(ctx, x->type.rank)};
  ir_value_t *row;
  if (x->type.rank > 0)
    row = ir_exprs(ctx->b, x->type.rank, x->type.dim);
  else
    row = ir_iota(ctx->b, DT_I64, zero(ctx));
  return ir_reshape(ctx->b, row, 2, shape);
}

static slot_t make(ir_value_t *dims, ir_value_t *value) {
  if (dims == NULL || value == NULL) return (slot_t){.kind = SLOT_FAILED};
  return (slot_t){.kind = SLOT_SEQUENCE, .dims = dims, .value = value};
}

static ir_value_t *no_elements(convert_ctx_t *ctx, dtype_t dtype,
                               unsigned rank) {
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < rank; d++) dim[d] = zero(ctx);
  ir_value_t *scalar = ir_scalar_int(ctx->b, dtype, 0);
  return ir_fill(ctx->b, scalar, rank, dim);
}

slot_t sequence_empty(convert_ctx_t *ctx, dtype_t dtype, unsigned rank) {
  const expr_t *shape[] = {zero(ctx), ctx_int(ctx, rank)};
  if (dtype == DT_NONE || dtype_class(dtype) == DT_CLASS_STRING) {
    ctx_unsupported(ctx, "a sequence of %s whose length only a run tells",
                    dtype == DT_NONE ? "unknown elements" : "strings");
    return (slot_t){.kind = SLOT_FAILED};
  }
  ir_value_t *none = ir_iota(ctx->b, DT_I64, zero(ctx));
  ir_value_t *dims = ir_reshape(ctx->b, none, 2, shape);
  return make(dims, no_elements(ctx, dtype, 1));
}

/* ---- Lists --------------------------------------------------------------- */

bool sequence_of(convert_ctx_t *ctx, const slot_t *slot, unsigned rank,
                 slot_t *out) {
  *out = *slot;
  if (slot->kind != SLOT_LIST) return slot->kind == SLOT_SEQUENCE;
  const slot_list_t *list = slot->list;
  if (list->n == 0) {
    *out = sequence_empty(ctx, list->dtype, rank);
    return out->kind == SLOT_SEQUENCE;
  }
  ir_value_t **row = ARENA_ARRAY(ctx->arena, ir_value_t *, list->n);
  ir_value_t **flat = ARENA_ARRAY(ctx->arena, ir_value_t *, list->n);
  for (unsigned i = 0; i < list->n; i++) {
    if (list->value[i]->type.rank != list->value[0]->type.rank) {
      ctx_unsupported(ctx, "elements of a sequence differ in rank: %s and %s",
                      ctx_type_str(ctx, list->value[0]),
                      ctx_type_str(ctx, list->value[i]));
      return false;
    }
    row[i] = row_of(ctx, list->value[i]);
    flat[i] = ctx_flat(ctx, list->value[i]);
  }
  ir_value_t *dims = join(ctx, list->n, row);
  *out = make(dims, join(ctx, list->n, flat));
  return out->kind == SLOT_SEQUENCE;
}

/* A slot as a SLOT_OPTIONAL; `like` says what of, when it is empty. */
static bool optional_of(convert_ctx_t *ctx, slot_t *slot, const slot_t *like) {
  if (slot->kind == SLOT_OPTIONAL) return true;
  bool has = slot->kind != SLOT_NONE;
  if (has && slot_is_sequence(slot)) {
    int rank = slot_element_rank(slot);
    if (!sequence_of(ctx, slot, rank < 0 ? 0 : (unsigned)rank, slot))
      return false;
  }
  if (!has && like->dims != NULL)
    *slot = sequence_empty(ctx, like->value->type.dtype,
                           (unsigned)slot_element_rank(like));
  else if (!has)
    slot->value =
        no_elements(ctx, like->value->type.dtype, like->value->type.rank);
  slot->kind = SLOT_OPTIONAL;
  slot->has = ir_scalar_int(ctx->b, DT_BOOL, has);
  return slot->value != NULL && slot->has != NULL;
}

static bool is_optional(const slot_t *slot) {
  return slot->kind == SLOT_NONE || slot->kind == SLOT_OPTIONAL;
}

/* Makes each like the other, where it is: x first. */
static bool make_both(convert_ctx_t *ctx,
                      bool (*convert)(convert_ctx_t *ctx, slot_t *slot,
                                      const slot_t *like),
                      slot_t *x, ir_builder_t *bx, slot_t *y,
                      ir_builder_t *by) {
  ir_builder_t *outer = ctx->b;
  ctx->b = bx;
  bool fine = convert(ctx, x, y);
  ctx->b = by;
  fine = fine && convert(ctx, y, x);
  ctx->b = outer;
  return fine;
}

static dtype_t element_dtype(const slot_t *slot) {
  return slot->kind == SLOT_LIST ? slot->list->dtype : slot->value->type.dtype;
}

/* As a SLOT_SEQUENCE of elements like those of `like`, if it has none. */
static bool sequence_like(convert_ctx_t *ctx, slot_t *slot,
                          const slot_t *like) {
  int rank = slot_element_rank(slot);
  dtype_t dtype = element_dtype(slot);
  if (rank < 0) rank = slot_element_rank(like);
  if (dtype == DT_NONE) dtype = element_dtype(like);
  if (rank < 0) rank = 0;
  if (slot->kind == SLOT_LIST && slot->list->n == 0)
    *slot = sequence_empty(ctx, dtype, (unsigned)rank);
  return sequence_of(ctx, slot, (unsigned)rank, slot);
}

bool slots_agree(convert_ctx_t *ctx, slot_t *x, ir_builder_t *bx, slot_t *y,
                 ir_builder_t *by) {
  if (ctx_same_structure(1, x, y)) return true;
  if (is_optional(x) != is_optional(y) ||
      (is_optional(x) && x->kind != y->kind)) {
    /* The one with an element goes first: the other is made like it. */
    return x->kind == SLOT_NONE ? make_both(ctx, optional_of, y, by, x, bx)
                                : make_both(ctx, optional_of, x, bx, y, by);
  }
  if (!slot_is_sequence(x) || !slot_is_sequence(y)) {
    ctx_unsupported(ctx, "a tensor in one place is a sequence in the other");
    return false;
  }
  return make_both(ctx, sequence_like, x, bx, y, by);
}

/* ---- Elements ------------------------------------------------------------ */

const expr_t *sequence_length(const slot_t *s) { return s->dims->type.dim[0]; }

const expr_t *sequence_position(convert_ctx_t *ctx, const slot_t *s,
                                unsigned input, bool at_end) {
  int64_t count;
  ir_value_t *x = ctx_in(ctx, input);
  if (x == NULL || !ir_type_static_count(&x->type, &count) || count != 1 ||
      !dtype_is_integer(x->type.dtype)) {
    ctx_invalid(ctx, "the position is %s, expected one integer",
                x != NULL ? ctx_type_str(ctx, x) : "missing");
    return NULL;
  }
  const expr_t *n = sequence_length(s);
  const expr_t *most = at_end ? n : minus(ctx, n, ctx_int(ctx, 1));
  x = ir_cast(ctx->b, ir_reshape(ctx->b, x, 0, NULL), DT_I64);
  ir_value_t *none = ir_scalar_int(ctx->b, DT_I64, 0);
  ir_value_t *length = ir_expr_scalar(ctx->b, n);
  ir_value_t *negative = ir_binary(ctx->b, OP_LT, x, none);
  ir_value_t *from_end = ir_binary(ctx->b, OP_ADD, x, length);
  x = ir_select(ctx->b, negative, from_end, x);
  return ctx_size(ctx, x, 0, "position", 0, most);
}

/* Number of elements of `value` that come before element `at`. */
static const expr_t *offset_of(convert_ctx_t *ctx, const slot_t *s,
                               const expr_t *at) {
  int64_t axis = 1;
  if (at == NULL) return NULL;
  if (expr_equals_const(at, 0)) return zero(ctx);
  if (at == sequence_length(s)) return ctx_dim(s->value, 0);
  ir_value_t *rows = range(ctx, s->dims, zero(ctx), at);
  ir_value_t *sizes = ir_reduce(ctx->b, OP_REDUCE_PROD, rows, 1, &axis, false);
  axis = 0;
  ir_value_t *sum = ir_reduce(ctx->b, OP_REDUCE_SUM, sizes, 1, &axis, false);
  return ctx_size(ctx, sum, 0, "offset", 0, ctx_dim(s->value, 0));
}

/* The dimensions of element `at`. */
static const expr_t **dims_of(convert_ctx_t *ctx, const slot_t *s,
                              const expr_t *at) {
  unsigned n, rank = (unsigned)slot_element_rank(s);
  const expr_t *shape = ctx_int(ctx, rank);
  if (at == NULL) return NULL;
  ir_value_t *row = ctx_part(ctx, s->dims, 0, at, ctx_int(ctx, 1));
  row = ir_reshape(ctx->b, row, 1, &shape);
  return ctx_sizes(ctx, row, "element", 0, &n);
}

ir_value_t *sequence_at(convert_ctx_t *ctx, const slot_t *s, const expr_t *at) {
  unsigned rank = (unsigned)slot_element_rank(s);
  const expr_t *from = offset_of(ctx, s, at);
  const expr_t **dim = dims_of(ctx, s, at);
  if (from == NULL || dim == NULL) return NULL;
  const expr_t *count = expr_product(ctx->exprs, dim, rank);
  ir_value_t *part = ctx_part(ctx, s->value, 0, from, count);
  return ir_reshape(ctx->b, part, rank, dim);
}

slot_t sequence_insert(convert_ctx_t *ctx, const slot_t *s, const expr_t *at,
                       ir_value_t *x) {
  const slot_t failed = {.kind = SLOT_FAILED};
  if (x == NULL || at == NULL) return failed;
  if ((int)x->type.rank != slot_element_rank(s)) {
    ctx_unsupported(ctx, "%s goes into a sequence of tensors of rank %d",
                    ctx_type_str(ctx, x), slot_element_rank(s));
    return failed;
  }
  if (x->type.dtype != s->value->type.dtype) {
    ctx_invalid(ctx, "%s goes into a sequence of %s", ctx_type_str(ctx, x),
                dtype_name(s->value->type.dtype));
    return failed;
  }
  const expr_t *n = sequence_length(s), *all = ctx_dim(s->value, 0);
  const expr_t *from = offset_of(ctx, s, at);
  ir_value_t *row = row_of(ctx, x), *flat = ctx_flat(ctx, x);
  ir_value_t *rows[] = {range(ctx, s->dims, zero(ctx), at), row,
                        range(ctx, s->dims, at, n)};
  ir_value_t *parts[] = {range(ctx, s->value, zero(ctx), from), flat,
                         range(ctx, s->value, from, all)};
  unsigned n_parts = at == n ? 2 : 3;
  ir_value_t *dims = join(ctx, n_parts, rows);
  return make(dims, join(ctx, n_parts, parts));
}

slot_t sequence_erase(convert_ctx_t *ctx, const slot_t *s, const expr_t *at) {
  if (at == NULL) return (slot_t){.kind = SLOT_FAILED};
  const expr_t *n = sequence_length(s), *all = ctx_dim(s->value, 0);
  const expr_t *next = expr_add(ctx->exprs, at, ctx_int(ctx, 1));
  const expr_t *from = offset_of(ctx, s, at), *to = offset_of(ctx, s, next);
  ir_value_t *rows[] = {range(ctx, s->dims, zero(ctx), at),
                        range(ctx, s->dims, next, n)};
  ir_value_t *parts[] = {range(ctx, s->value, zero(ctx), from),
                         range(ctx, s->value, to, all)};
  ir_value_t *dims = join(ctx, 2, rows);
  return make(dims, join(ctx, 2, parts));
}

/* ---- Concatenation ------------------------------------------------------- */

/* The dimensions that all elements have, but for `loose` (-1: none), which may
 * differ: those of the first one, and a check of the others. */
static const expr_t **common_dims(convert_ctx_t *ctx, const slot_t *s,
                                  int loose) {
  int64_t axis = 0;
  unsigned rank = (unsigned)slot_element_rank(s);
  const expr_t **dim = dims_of(ctx, s, zero(ctx));
  if (dim == NULL) return NULL;
  ir_value_t *low = ir_reduce(ctx->b, OP_REDUCE_MIN, s->dims, 1, &axis, false);
  ir_value_t *high = ir_reduce(ctx->b, OP_REDUCE_MAX, s->dims, 1, &axis, false);
  unsigned n;
  const expr_t **least = ctx_sizes(ctx, low, "least", 0, &n);
  const expr_t **most = ctx_sizes(ctx, high, "most", 0, &n);
  if (least == NULL || most == NULL) return NULL;
  for (unsigned d = 0; d < rank; d++)
    if ((int)d != loose)
      ir_check_equal(ctx->b, least[d], most[d],
                     "dimensions of concatenated tensors");
  return dim;
}

/* Elements of one shape, stacked along a new axis. */
static ir_value_t *stack(convert_ctx_t *ctx, const slot_t *s, unsigned axis) {
  unsigned rank = (unsigned)slot_element_rank(s);
  const expr_t **each = common_dims(ctx, s, -1), *dim[IR_MAX_RANK];
  if (each == NULL || rank + 1 > IR_MAX_RANK) return NULL;
  dim[0] = sequence_length(s);
  for (unsigned d = 0; d < rank; d++) dim[1 + d] = each[d];
  const expr_t *total = expr_product(ctx->exprs, dim, rank + 1);
  ir_check_equal(ctx->b, total, ctx_dim(s->value, 0), "size of a sequence");
  ir_value_t *flat = ctx_part(ctx, s->value, 0, zero(ctx), total);
  ir_value_t *x = ir_reshape(ctx->b, flat, rank + 1, dim);
  return ctx_move_first(ctx, x, axis);
}

/* Along axis 0 the elements lie as they must. */
static ir_value_t *chain(convert_ctx_t *ctx, const slot_t *s) {
  unsigned rank = (unsigned)slot_element_rank(s);
  const expr_t **dim = common_dims(ctx, s, 0);
  int64_t axis = 0;
  if (dim == NULL) return NULL;
  ir_value_t *first = ctx_part(ctx, s->dims, 1, zero(ctx), ctx_int(ctx, 1));
  ir_value_t *sum =
      ir_reduce(ctx->b, OP_REDUCE_SUM, ctx_flat(ctx, first), 1, &axis, false);
  dim[0] = ctx_size(ctx, sum, 0, "sum", 0, NULL);
  if (dim[0] == NULL) return NULL;
  const expr_t *total = expr_product(ctx->exprs, dim, rank);
  ir_check_equal(ctx->b, total, ctx_dim(s->value, 0), "size of a sequence");
  ir_value_t *flat = ctx_part(ctx, s->value, 0, zero(ctx), total);
  return ir_reshape(ctx->b, flat, rank, dim);
}

typedef struct appending {
  const slot_t *sequence;
  unsigned axis;
} appending_t;

static moec_status_t append_next(convert_ctx_t *ctx, void *user,
                                 ir_value_t *trip, ir_value_t *const *state,
                                 ir_value_t **out) {
  const appending_t *a = user;
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *left = minus(ctx, sequence_length(a->sequence), one);
  const expr_t *i = ctx_size(ctx, trip, 0, "trip", 0, left);
  if (i == NULL) return ctx_status(ctx);
  const expr_t *at = expr_add(ctx->exprs, i, one);
  ir_value_t *parts[] = {state[0], sequence_at(ctx, a->sequence, at)};
  for (unsigned d = 0; parts[1] != NULL && d < state[0]->type.rank; d++)
    if (d != a->axis)
      ir_check_equal(ctx->b, ctx_dim(parts[0], d), ctx_dim(parts[1], d),
                     "dimensions of concatenated tensors");
  if (parts[1] == NULL) return ctx_status(ctx);
  out[0] = NULL;
  out[1] = ir_concat(ctx->b, 2, parts, a->axis);
  /* Only the axis grows: the rest is as it was, which the checks say. */
  const expr_t **dim = ctx_dims(ctx, state[0], 0);
  if (out[1] == NULL) return ctx_status(ctx);
  dim[a->axis] = ctx_dim(out[1], a->axis);
  out[1] = ir_reshape(ctx->b, out[1], state[0]->type.rank, dim);
  return ctx_status(ctx);
}

/* One element after the other. */
static ir_value_t *append_all(convert_ctx_t *ctx, const slot_t *s,
                              unsigned axis) {
  appending_t appending = {s, axis};
  const expr_t *left = minus(ctx, sequence_length(s), ctx_int(ctx, 1));
  ir_value_t *first = sequence_at(ctx, s, zero(ctx)), *result;
  while_spec_t spec = {.limit = ir_expr_scalar(ctx->b, left),
                       .first = ir_scalar_int(ctx->b, DT_BOOL, 1),
                       .n_state = 1,
                       .init = &first,
                       .body = append_next,
                       .user = &appending};
  return ctx_while(ctx, &spec, &result) == MOEC_OK ? result : NULL;
}

ir_value_t *sequence_concat(convert_ctx_t *ctx, const slot_t *s, unsigned axis,
                            bool new_axis) {
  /* There must be a first element. */
  ir_value_t *n = ir_expr_scalar(ctx->b, sequence_length(s));
  if (ctx_size(ctx, n, 0, "length of a sequence", 1, NULL) == NULL) return NULL;
  if (new_axis) return stack(ctx, s, axis);
  return axis == 0 ? chain(ctx, s) : append_all(ctx, s, axis);
}

/* ---- Splitting ----------------------------------------------------------- */

typedef struct splitting {
  ir_value_t *x, *lengths;
  unsigned axis;
} splitting_t;

/* State: the offset i64[], all parts so far T[total]. */
static moec_status_t cut_next(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                              ir_value_t *const *state, ir_value_t **out) {
  const splitting_t *s = user;
  const expr_t *all = ctx_dim(s->x, s->axis);
  ir_value_t *length = ir_gather(ctx->b, s->lengths, trip, 0);
  const expr_t *from = ctx_size(ctx, state[0], 0, "from", 0, all);
  if (from == NULL) return ctx_status(ctx);
  const expr_t *n =
      ctx_size(ctx, length, 0, "length", 0, minus(ctx, all, from));
  if (n == NULL) return ctx_status(ctx);
  ir_value_t *part = ctx_part(ctx, s->x, s->axis, from, n);
  ir_value_t *parts[] = {state[1], part != NULL ? ctx_flat(ctx, part) : NULL};
  out[0] = NULL;
  out[1] = ir_binary(ctx->b, OP_ADD, state[0], length);
  out[2] = join(ctx, 2, parts);
  return ctx_status(ctx);
}

static ir_value_t *cut_all(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                           ir_value_t *lengths) {
  splitting_t splitting = {x, lengths, axis};
  ir_value_t *results[2], *start = ir_scalar_int(ctx->b, DT_I64, 0);
  ir_value_t *init[] = {start, no_elements(ctx, x->type.dtype, 1)};
  while_spec_t spec = {.limit = ir_expr_scalar(ctx->b, ctx_dim(lengths, 0)),
                       .first = ir_scalar_int(ctx->b, DT_BOOL, 1),
                       .n_state = 2,
                       .init = init,
                       .body = cut_next,
                       .user = &splitting};
  return ctx_while(ctx, &spec, results) == MOEC_OK ? results[1] : NULL;
}

/* The same with parts of one element and without the axis. */
static slot_t unstack(convert_ctx_t *ctx, ir_value_t *x, unsigned axis) {
  int64_t perm[IR_MAX_RANK];
  const expr_t *rest[IR_MAX_RANK], *shape[2];
  unsigned rank = x->type.rank, n_rest = 0;
  for (unsigned d = 0; d < rank; d++) {
    perm[d] = d == 0 ? axis : d <= axis ? d - 1 : d;
    if (d != axis) rest[n_rest++] = ctx_dim(x, d);
  }
  shape[0] = ctx_dim(x, axis);
  shape[1] = ctx_int(ctx, n_rest);
  ir_value_t *row = n_rest > 0 ? ir_exprs(ctx->b, n_rest, rest)
                               : ir_iota(ctx->b, DT_I64, zero(ctx));
  ir_value_t *dims = ir_expand(ctx->b, row, 2, shape);
  return make(dims, ctx_flat(ctx, ir_transpose(ctx->b, x, perm)));
}

slot_t sequence_split(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                      ir_value_t *lengths, bool squeeze) {
  if (squeeze) return unstack(ctx, x, axis);
  int64_t axis0 = 0;
  unsigned rank = x->type.rank;
  const expr_t *n = ctx_dim(lengths, 0), *column[] = {n, ctx_int(ctx, 1)};
  ir_value_t *sum = ir_reduce(ctx->b, OP_REDUCE_SUM, lengths, 1, &axis0, false);
  const expr_t *all =
      ctx_size(ctx, sum, 0, "sum of the sizes of a split", 0, NULL);
  ir_check_equal(ctx->b, all, ctx_dim(x, axis), "sum of the sizes of a split");
  ir_value_t **parts = ARENA_ARRAY(ctx->arena, ir_value_t *, rank);
  for (unsigned d = 0; d < rank; d++) {
    ir_value_t *size =
        d == axis ? lengths : ir_expr_scalar(ctx->b, ctx_dim(x, d));
    parts[d] = d == axis ? ir_reshape(ctx->b, size, 2, column)
                         : ir_expand(ctx->b, size, 2, column);
    if (parts[d] == NULL) return (slot_t){.kind = SLOT_FAILED};
  }
  ir_value_t *dims = ir_concat(ctx->b, rank, parts, 1);
  return make(dims,
              axis == 0 ? ctx_flat(ctx, x) : cut_all(ctx, x, axis, lengths));
}
