/* Operators that read or write by index. */
#include <string.h>

#include "frontend/convert.h"

/* indices may not be larger than data along axes that they do not index */
static void check_within(convert_ctx_t *ctx, const ir_value_t *index,
                         const ir_value_t *data, unsigned axis) {
  for (unsigned i = 0; i < data->type.rank; i++) {
    const expr_t *mine = index->type.dim[i], *theirs = data->type.dim[i];
    if (i == axis || mine == theirs) continue;
    ir_check_equal(ctx->b, expr_max(ctx->exprs, mine, theirs), theirs,
                   "size of the data, no smaller than the indices");
  }
}

static bool check_indices(convert_ctx_t *ctx, const ir_value_t *index) {
  dtype_t dtype = index->type.dtype;
  if (dtype == DT_I64 || dtype == DT_I32) return true;
  ctx_invalid(ctx, "indices are %s, expected i32 or i64",
              ctx_type_str(ctx, index));
  return false;
}

moec_status_t convert_gather(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *index = ctx_in(ctx, 1);
  unsigned axis;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis) ||
      !check_indices(ctx, index))
    return ctx->status;
  ctx_set_output(ctx, 0, ir_gather(ctx->b, x, index, axis));
  return MOEC_OK;
}

moec_status_t convert_gather_elements(convert_ctx_t *ctx) {
  ir_value_t *in[] = {ctx_in(ctx, 0), ctx_in(ctx, 1)};
  unsigned axis, rank = in[0]->type.rank;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), rank, &axis) ||
      !check_indices(ctx, in[1]) ||
      !ctx_check_rank(ctx, in[1], rank, rank, "the indices"))
    return ctx->status;
  check_within(ctx, in[1], in[0], axis);
  ir_op_t *op = ir_begin(ctx->b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op != NULL) ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, axis);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

/* The static length of index tuples, within [1, limit]; 0 after an error. */
static unsigned tuple_length(convert_ctx_t *ctx, const ir_value_t *index,
                             unsigned limit) {
  int64_t length;
  if (!ctx_check_rank(ctx, index, 1, IR_MAX_RANK, "the indices")) return 0;
  if (!expr_is_const(ctx_dim(index, index->type.rank - 1), &length)) {
    ctx_unsupported(ctx, "the last dimension of the indices is not known: %s",
                    ctx_type_str(ctx, index));
    return 0;
  }
  if (length < 1 || length > limit) {
    ctx_invalid(ctx,
                "the last dimension of the indices is %lld, expected 1 to %u",
                (long long)length, limit);
    return 0;
  }
  return (unsigned)length;
}

moec_status_t convert_gather_nd(convert_ctx_t *ctx) {
  ir_value_t *in[] = {ctx_in(ctx, 0), ctx_in(ctx, 1)};
  int64_t batch = ctx->opset >= 12 ? attr_int(ctx, "batch_dims", 0) : 0;
  unsigned rank = in[0]->type.rank;
  if (!check_indices(ctx, in[1])) return ctx->status;
  if (batch < 0 || batch >= rank || batch >= in[1]->type.rank)
    return ctx_invalid(ctx, "batch_dims is %lld for %s and %s",
                       (long long)batch, ctx_type_str(ctx, in[0]),
                       ctx_type_str(ctx, in[1]));
  if (tuple_length(ctx, in[1], rank - (unsigned)batch) == 0) return ctx->status;
  for (unsigned i = 0; i < batch; i++)
    ir_check_equal(ctx->b, ctx_dim(in[0], i), ctx_dim(in[1], i),
                   "batch dimensions of data and indices");
  ir_op_t *op = ir_begin(ctx->b, OP_GATHER_ND, 2, in, 1);
  if (op != NULL) ir_set_int(op, ATTR_GATHER_ND_batch_dims, batch);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

static const char *reduction(convert_ctx_t *ctx) {
  static const char *const kinds[] = {"none", "add", "mul", "max", "min", NULL};
  return ctx->opset >= 16 ? kinds[attr_choice(ctx, "reduction", kinds)]
                          : kinds[0];
}

moec_status_t convert_scatter_elements(convert_ctx_t *ctx) {
  ir_value_t *in[] = {ctx_in(ctx, 0), ctx_in(ctx, 1), ctx_in(ctx, 2)};
  unsigned axis, rank = in[0]->type.rank;
  const char *how = reduction(ctx);
  if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), rank, &axis) ||
      !check_indices(ctx, in[1]) ||
      !ctx_check_rank(ctx, in[1], rank, rank, "the indices") ||
      !ctx_check_rank(ctx, in[2], rank, rank, "the updates"))
    return ctx->status;
  check_within(ctx, in[1], in[0], axis);
  for (unsigned i = 0; i < rank; i++)
    ir_check_equal(ctx->b, ctx_dim(in[1], i), ctx_dim(in[2], i),
                   "dimensions of indices and updates");
  ir_op_t *op = ir_begin(ctx->b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (op != NULL) {
    ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, axis);
    ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, how);
  }
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

/* Index tuples of scatter_nd: their length follows from the ranks where it is
 * not known. */
static unsigned scatter_length(convert_ctx_t *ctx, ir_value_t **index,
                               const ir_value_t *updates, unsigned rank) {
  if (!check_indices(ctx, *index) ||
      !ctx_check_rank(ctx, *index, 1, IR_MAX_RANK, "the indices"))
    return 0;
  unsigned last = (*index)->type.rank - 1;
  int64_t length = (int64_t)last + rank - updates->type.rank;
  if (expr_is_const(ctx_dim(*index, last), NULL) || length < 1 || length > rank)
    return tuple_length(ctx, *index, rank);
  const expr_t **dim = ctx_dims(ctx, *index, 0);
  ir_check_equal(ctx->b, dim[last], ctx_int(ctx, length),
                 "length of index tuples");
  dim[last] = ctx_int(ctx, length);
  *index = ir_reshape(ctx->b, *index, last + 1, dim);
  return *index != NULL ? (unsigned)length : 0;
}

moec_status_t convert_scatter_nd(convert_ctx_t *ctx) {
  ir_value_t *in[] = {ctx_in(ctx, 0), ctx_in(ctx, 1), ctx_in(ctx, 2)};
  const char *how = reduction(ctx);
  unsigned rank = in[0]->type.rank;
  unsigned length = scatter_length(ctx, &in[1], in[2], rank);
  if (length == 0) return ctx_status(ctx);
  unsigned n_index = in[1]->type.rank - 1;
  unsigned want = n_index + rank - length;
  if (!ctx_check_rank(ctx, in[2], want, want, "the updates"))
    return ctx->status;
  for (unsigned i = 0; i < want; i++)
    ir_check_equal(
        ctx->b, ctx_dim(in[2], i),
        i < n_index ? ctx_dim(in[1], i) : ctx_dim(in[0], length + i - n_index),
        "dimensions of the updates");
  ir_op_t *op = ir_begin(ctx->b, OP_SCATTER_ND, 3, in, 1);
  if (op != NULL) ir_set_str(op, ATTR_SCATTER_ND_reduction, how);
  ctx_set_output(ctx, 0, ir_place(ctx->b, op));
  return MOEC_OK;
}

/* present[.., i, ..] = update[.., i - w, ..] where 0 <= i - w < length, with
 * the sample's write index w; for `circular` i - w modulo the cache's length.
 */
moec_status_t convert_tensor_scatter(convert_ctx_t *ctx) {
  static const char *const modes[] = {"linear", "circular", NULL};
  unsigned mode = attr_choice(ctx, "mode", modes), axis;
  ir_value_t *cache = ctx_in(ctx, 0), *update = ctx_in(ctx, 1);
  unsigned rank = cache->type.rank;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", -2), rank, &axis) ||
      !ctx_check_rank(ctx, update, rank, rank, "the update"))
    return ctx->status;
  if (axis == 0) return ctx_invalid(ctx, "axis is the batch axis");
  for (unsigned i = 0; i < rank; i++)
    if (i != axis)
      ir_check_equal(ctx->b, ctx_dim(cache, i), ctx_dim(update, i),
                     "dimensions of cache and update");
  check_within(ctx, update, cache, rank);
  ir_builder_t *b = ctx->b;
  const expr_t *length = ctx_dim(update, axis), *total = ctx_dim(cache, axis);
  ir_value_t *place = ctx_along(ctx, ir_iota(b, DT_I64, length), axis, rank);
  ir_value_t *at = ctx_in(ctx, 2);
  if (at != NULL) {
    at = ctx_along(ctx, ir_cast(b, at, DT_I64), 0, rank);
    place = ctx_binary(ctx, OP_ADD, place, at);
    if (mode == 1)
      place = ir_binary(b, OP_MOD, place, ir_expr_scalar(b, total));
  }
  place = ir_expand(b, place, rank, update->type.dim);
  ir_value_t *in[] = {cache, place, update};
  ir_op_t *op = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (op != NULL) ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, axis);
  if (op != NULL) ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, "none");
  ctx_set_output(ctx, 0, ir_place(b, op));
  return MOEC_OK;
}

/* The places of a mask, or of another shape of it, as they were asked for
 * before, where they are at hand: rows that one mask picks have one size, not
 * one for each tensor. */
static const ir_op_t *known_places(const convert_ctx_t *ctx,
                                   const ir_value_t *mask, bool shaped) {
  enum { MAX_USES = 64 };
  unsigned n = 0;
  const ir_op_t *found = NULL;
  for (const ir_use_t *use = mask->uses; use != NULL && n < MAX_USES;
       use = use->next, n++) {
    const ir_op_t *op = use->user;
    if (op->parent != ctx->b->region) continue;
    if (op->code == OP_NONZERO) return op;
    if (shaped && op->code == OP_RESHAPE && found == NULL)
      found = known_places(ctx, &op->out[0], false);
  }
  if (found != NULL || !shaped || mask->def == NULL ||
      mask->def->code != OP_RESHAPE)
    return found;
  return known_places(ctx, mask->def->in[0].value, true);
}

/* i64[rank, n] of the places where x is not 0. */
static ir_value_t *places_of(convert_ctx_t *ctx, ir_value_t *x) {
  int64_t axes[IR_MAX_RANK];
  ir_value_t *mask = ctx_is_true(ctx, x);
  if (mask == NULL) return NULL;
  const ir_op_t *known = known_places(ctx, mask, true);
  if (known != NULL && known->in[0].value == mask)
    return (ir_value_t *)&known->out[0];
  unsigned rank = x->type.rank;
  for (unsigned i = 0; i < rank; i++) axes[i] = i;
  const expr_t *n = NULL;
  if (known != NULL) {
    n = ir_get_expr(known, ATTR_NONZERO_count);
  } else {
    ir_value_t *ones = ir_cast(ctx->b, mask, DT_I64);
    ir_value_t *count =
        ir_reduce(ctx->b, OP_REDUCE_SUM, ones, rank, axes, false);
    n = ir_bind(ctx->b, count, 0, "nonzero", 0,
                ir_type_count(ctx->exprs, &x->type));
  }
  if (n == NULL) return NULL;
  ir_op_t *op = ir_begin(ctx->b, OP_NONZERO, 1, &mask, 1);
  if (op != NULL) ir_set_expr(op, ATTR_NONZERO_count, n);
  return ir_place(ctx->b, op);
}

moec_status_t convert_nonzero(convert_ctx_t *ctx) {
  ctx_set_output(ctx, 0, places_of(ctx, ctx_in(ctx, 0)));
  return MOEC_OK;
}

moec_status_t convert_compress(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *condition = ctx_in(ctx, 1);
  unsigned axis = 0;
  if (!ctx_check_rank(ctx, condition, 1, 1, "the condition"))
    return ctx->status;
  if (!attr_has(ctx, "axis"))
    x = ctx_flat(ctx, x);
  else if (!ctx_axis(ctx, attr_int(ctx, "axis", 0), x->type.rank, &axis))
    return ctx->status;
  if (x == NULL) return ctx_status(ctx);
  const expr_t *d = ctx_dim(x, axis), *length = ctx_dim(condition, 0);
  ir_check_equal(ctx->b, expr_max(ctx->exprs, length, d), d,
                 "size of the axis, no smaller than the condition");
  ir_value_t *places = places_of(ctx, condition);
  if (places != NULL) places = ir_squeeze(ctx->b, places, 0);
  ctx_set_output(ctx, 0, ir_gather(ctx->b, x, places, axis));
  return MOEC_OK;
}

moec_status_t convert_one_hot(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *index = ctx_in(ctx, 0), *depth = ctx_in(ctx, 1);
  ir_value_t *values = ctx_in(ctx, 2);
  unsigned rank = index->type.rank, axis;
  int64_t count;
  if (!ctx_axis(ctx, attr_int(ctx, "axis", -1), rank + 1, &axis) ||
      !ctx_check_rank(ctx, values, 1, 1, "values"))
    return ctx->status;
  ir_check_equal(ctx->b, ctx_dim(values, 0), ctx_int(ctx, 2),
                 "number of values, off and on");
  if (!ir_type_static_count(&depth->type, &count) || count != 1)
    return ctx_invalid(ctx, "depth is %s, expected one element",
                       ctx_type_str(ctx, depth));
  unsigned n;
  const double *constant;
  const expr_t *size = NULL;
  if (ir_known(depth, 0) == NULL && ctx_const_floats(ctx, depth, &n, &constant))
    size = ctx_int(ctx, constant[0] >= 0 && constant[0] < 1e15
                            ? (int64_t)constant[0]
                            : -1);
  else
    size = ctx_size(ctx, ir_cast(b, depth, DT_I64), 0, "depth", 0, NULL);
  if (size == NULL) return ctx_status(ctx);
  if (expr_equals_const(size, -1)) return ctx_invalid(ctx, "depth is negative");

  ir_value_t *wide = ir_cast(b, index, DT_I64);
  ir_value_t *below = ir_binary(b, OP_LT, wide, ir_scalar_int(b, DT_I64, 0));
  ir_value_t *wrapped = ir_binary(b, OP_ADD, wide, ir_expr_scalar(b, size));
  wide = ir_select(b, below, wrapped, wide);
  if (wide == NULL) return ctx_status(ctx);
  ir_value_t *classes =
      ctx_along(ctx, ir_iota(b, DT_I64, size), axis, rank + 1);
  ir_value_t *hit = ir_binary(b, OP_EQ, ir_unsqueeze(b, wide, axis), classes);
  const expr_t *one = ctx_int(ctx, 1);
  ir_value_t *off = ctx_part(ctx, values, 0, ctx_int(ctx, 0), one);
  ir_value_t *on = ctx_part(ctx, values, 0, one, one);
  off = ir_reshape(b, off, 0, NULL);
  on = ir_reshape(b, on, 0, NULL);
  ctx_set_output(ctx, 0, ir_select(b, hit, on, off));
  return MOEC_OK;
}

/* upper: keep where column >= row + k; lower: where column <= row + k */
moec_status_t convert_trilu(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  bool upper = attr_bool(ctx, "upper", true);
  ir_value_t *x = ctx_in(ctx, 0), *k = ctx_in(ctx, 1);
  unsigned rank = x->type.rank;
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK, "the input")) return ctx->status;
  ir_value_t *row = ir_iota(b, DT_I64, ctx_dim(x, rank - 2));
  ir_value_t *column = ir_iota(b, DT_I64, ctx_dim(x, rank - 1));
  if (row == NULL || column == NULL) return ctx_status(ctx);
  row = ir_unsqueeze(b, row, 1);
  const expr_t *known = ir_known(k, 0);
  if (k != NULL && !(known != NULL && expr_equals_const(known, 0))) {
    int64_t count;
    if (!ir_type_static_count(&k->type, &count) || count != 1)
      return ctx_invalid(ctx, "k is %s, expected a scalar",
                         ctx_type_str(ctx, k));
    k = ir_cast(b, ir_reshape(b, k, 0, NULL), DT_I64);
    row = ir_binary(b, OP_ADD, row, k);
  }
  ir_value_t *keep = upper ? ir_binary(b, OP_LE, row, column)
                           : ir_binary(b, OP_LE, column, row);
  ctx_set_output(ctx, 0, ir_select(b, keep, x, ctx_scalar(ctx, x, 0)));
  return MOEC_OK;
}

/* y[t, n] = x[t < l ? l - 1 - t : t, n] with l = lengths[n] */
moec_status_t convert_reverse_sequence(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *lengths = ctx_in(ctx, 1);
  unsigned rank = x->type.rank;
  int64_t time = attr_int(ctx, "time_axis", 0);
  int64_t batch = attr_int(ctx, "batch_axis", 1);
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK, "the input") ||
      !ctx_check_rank(ctx, lengths, 1, 1, "sequence_lens"))
    return ctx->status;
  if (time < 0 || time > 1 || batch < 0 || batch > 1 || time == batch)
    return ctx_invalid(
        ctx, "time_axis is %lld and batch_axis %lld, expected 0 and 1",
        (long long)time, (long long)batch);
  unsigned t = (unsigned)time, n = (unsigned)batch;
  ir_check_equal(ctx->b, ctx_dim(x, n), ctx_dim(lengths, 0),
                 "number of sequences and of their lengths");
  ir_value_t *step = ctx_along(ctx, ir_iota(b, DT_I64, ctx_dim(x, t)), t, rank);
  ir_value_t *length = ctx_along(ctx, ir_cast(b, lengths, DT_I64), n, rank);
  ir_value_t *last = ir_binary(b, OP_SUB, length, ir_scalar_int(b, DT_I64, 1));
  ir_value_t *inside = ir_binary(b, OP_LT, step, length);
  ir_value_t *from = ir_binary(b, OP_SUB, last, step);
  from = ir_select(b, inside, from, step);
  from = ir_expand(b, from, rank, x->type.dim);
  ir_value_t *in[] = {x, from};
  ir_op_t *op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op != NULL) ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, t);
  ctx_set_output(ctx, 0, ir_place(b, op));
  return MOEC_OK;
}
