/* Det: elimination with row exchange, one step after the other. */
#include "frontend/region.h"

enum { FEW_ROWS = 6 }; /* that are eliminated without a loop */

/* Row `index[B, 1, 1]` of a[B, n, m], as [B, 1, m]. */
static ir_value_t *pick_row(convert_ctx_t *ctx, ir_value_t *a,
                            ir_value_t *index) {
  if (a == NULL) return NULL;
  const expr_t *dim[] = {ctx_dim(a, 0), ctx_int(ctx, 1), ctx_dim(a, 2)};
  ir_value_t *in[] = {a, ir_expand(ctx->b, index, 3, dim)};
  ir_op_t *op = ir_begin(ctx->b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  return ir_place(ctx->b, op);
}

/* Takes the row with the largest first element out of a[B, n, n], puts the
 * first row into its place, and eliminates the first column: what is left is
 * [B, n - 1, n - 1]. *det is multiplied by the pivot and the exchange's sign.
 */
static ir_value_t *eliminate(convert_ctx_t *ctx, ir_value_t *a, int64_t n,
                             ir_value_t **det) {
  ir_builder_t *b = ctx->b;
  const expr_t *zero = ctx_int(ctx, 0), *one = ctx_int(ctx, 1);
  const expr_t *rest = ctx_int(ctx, n - 1);
  ir_value_t *column = ir_unary(b, OP_ABS, ctx_part(ctx, a, 2, zero, one));
  ir_op_t *op = ir_begin(b, OP_ARG_MAX, 1, &column, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_ARG_MAX_axis, 1);
  ir_value_t *best = ir_place(b, op); /* [B, 1, 1] */
  ir_value_t *pivot_row = pick_row(ctx, a, best);
  ir_value_t *pivot = ctx_part(ctx, pivot_row, 2, zero, one);
  ir_value_t *index = ctx_along(ctx, ir_iota(b, DT_I64, ctx_int(ctx, n)), 1, 3);
  ir_value_t *first = ctx_part(ctx, a, 1, zero, one);
  ir_value_t *swapped =
      ir_select(b, ir_binary(b, OP_EQ, index, best), first, a);
  swapped = ctx_part(ctx, swapped, 1, one, rest);
  ir_value_t *none = ctx_scalar(ctx, a, 0);
  ir_value_t *stays = ir_binary(b, OP_EQ, best, ir_scalar_int(b, DT_I64, 0));
  ir_value_t *plus = ctx_scalar(ctx, a, 1);
  ir_value_t *sign = ir_select(b, stays, plus, ctx_scalar(ctx, a, -1));
  *det = ir_binary(b, OP_MUL, *det, ir_binary(b, OP_MUL, pivot, sign));
  ir_value_t *factor =
      ir_binary(b, OP_DIV, ctx_part(ctx, swapped, 2, zero, one), pivot);
  factor = ir_select(b, ir_binary(b, OP_EQ, pivot, none), none, factor);
  ir_value_t *taken =
      ir_binary(b, OP_MUL, factor, ctx_part(ctx, pivot_row, 2, one, rest));
  return ir_binary(b, OP_SUB, ctx_part(ctx, swapped, 2, one, rest), taken);
}

/* Row or column `at`, i64[], of x[B, n, m] with that dimension kept. */
static ir_value_t *line(convert_ctx_t *ctx, ir_value_t *x, ir_value_t *at,
                        unsigned axis) {
  return ir_unsqueeze(ctx->b, ir_gather(ctx->b, x, at, axis), axis);
}

/* Step j of the same on a[B, n, n], whose rows up to j do not matter any more:
 * of the others the one with the largest element j changes places with row j.
 */
static moec_status_t eliminate_in_loop(convert_ctx_t *ctx, void *user,
                                       ir_value_t *trip,
                                       ir_value_t *const *state,
                                       ir_value_t **out) {
  ir_builder_t *b = ctx->b;
  const expr_t *n = user;
  ir_value_t *a = state[0];
  ir_value_t *row = ctx_along(ctx, ir_iota(b, DT_I64, n), 1, 3);
  ir_value_t *size = ir_unary(b, OP_ABS, line(ctx, a, trip, 2));
  ir_value_t *done = ir_binary(b, OP_LT, row, trip);
  size = ir_select(b, done, ctx_scalar(ctx, a, -1), size);
  ir_op_t *op = ir_begin(b, OP_ARG_MAX, 1, &size, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_ARG_MAX_axis, 1);
  ir_value_t *best = ir_place(b, op); /* [B, 1, 1] */
  ir_value_t *pivot_row = pick_row(ctx, a, best);
  ir_value_t *pivot = line(ctx, pivot_row, trip, 2);
  ir_value_t *here = ir_binary(b, OP_EQ, row, best);
  a = ir_select(b, here, line(ctx, a, trip, 1), a);
  ir_value_t *none = ctx_scalar(ctx, a, 0);
  ir_value_t *factor = ir_binary(b, OP_DIV, line(ctx, a, trip, 2), pivot);
  factor = ir_select(b, ir_binary(b, OP_EQ, pivot, none), none, factor);
  ir_value_t *stays = ir_binary(b, OP_EQ, best, trip);
  ir_value_t *sign = ctx_scalar(ctx, a, 1);
  sign = ir_select(b, stays, sign, ctx_scalar(ctx, a, -1));
  sign = ir_binary(b, OP_MUL, pivot, sign);
  out[0] = NULL;
  out[1] = ir_binary(b, OP_SUB, a, ir_binary(b, OP_MUL, factor, pivot_row));
  out[2] = ir_binary(b, OP_MUL, state[1], sign);
  return ctx_status(ctx);
}

/* The determinants [B, 1, 1] of a[B, n, n]. */
static ir_value_t *determinants(convert_ctx_t *ctx, ir_value_t *a,
                                const expr_t *order) {
  ir_builder_t *b = ctx->b;
  const expr_t *one = ctx_int(ctx, 1);
  const expr_t *dim[] = {ctx_dim(a, 0), one, one};
  ir_value_t *det = ir_fill(b, ctx_scalar(ctx, a, 1), 3, dim);
  int64_t n;
  if (expr_is_const(order, &n) && n <= FEW_ROWS) {
    for (; n > 1 && a != NULL; n--) a = eliminate(ctx, a, n, &det);
    return n == 1 && a != NULL ? ir_binary(b, OP_MUL, det, a) : det;
  }
  ir_value_t *init[] = {a, det}, *results[2];
  while_spec_t loop = {.limit = ir_expr_scalar(b, order),
                       .trips = order,
                       .n_state = 2,
                       .init = init,
                       .body = eliminate_in_loop,
                       .user = (void *)(uintptr_t)order};
  loop.first = ir_scalar_int(b, DT_BOOL, 1);
  return ctx_while(ctx, &loop, results) == MOEC_OK ? results[1] : NULL;
}

moec_status_t convert_det(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *a = ctx_widen(ctx, x);
  unsigned rank = x->type.rank;
  if (!ctx_check_rank(ctx, x, 2, IR_MAX_RANK, "the input")) return ctx->status;
  const expr_t *order = ctx_dim(x, rank - 1);
  ir_check_equal(ctx->b, ctx_dim(x, rank - 2), order,
                 "rows and columns of a square matrix");
  MOEC_TRY(ctx_status(ctx));
  if (!expr_is_const(order, NULL)) order = ctx_dim(x, rank - 2);
  const expr_t *batch = expr_product(ctx->exprs, x->type.dim, rank - 2);
  const expr_t *flat[] = {batch, order, order};
  a = ir_reshape(ctx->b, a, 3, flat);
  if (a == NULL) return ctx_status(ctx);
  ir_value_t *det = determinants(ctx, a, order);
  det = ir_reshape(ctx->b, det, rank - 2, x->type.dim);
  ctx_set_output(ctx, 0, ctx_like(ctx, det, x));
  return ctx_status(ctx);
}
