/* Nodes of opsets 1 to 6 in the form of opset 7: broadcasting by attributes
 * becomes that of numpy, attributes become operands. What differs in defaults
 * alone is in the converters. */
#include "frontend/legacy.h"

#include <string.h>

#include "frontend/import_state.h"

/* The node with `value` as operand `index`, which may be one more. */
static void set_operand(convert_ctx_t *ctx, unsigned index, ir_value_t *value) {
  unsigned n = index < ctx->n_in ? ctx->n_in : index + 1;
  slot_t *in = ARENA_ARRAY(ctx->arena, slot_t, n);
  for (unsigned i = 0; i < ctx->n_in; i++) in[i] = ctx->in[i];
  if (value != NULL) in[index] = (slot_t){.kind = SLOT_TENSOR, .value = value};
  ctx->in = in;
  ctx->n_in = n;
}

/* Operand 1 belongs to the dimensions of operand 0 from `axis`, or to the last
 * ones; an operand of one element belongs to all. Without the attribute
 * `broadcast` the shapes are equal. */
static void broadcast_by_axis(convert_ctx_t *ctx) {
  if (ctx->n_in != 2) return; /* refused for its number of operands */
  ir_value_t *a = ctx_in(ctx, 0), *b = ctx_in(ctx, 1);
  if (a == NULL || b == NULL) return;
  unsigned rank = a->type.rank, n = b->type.rank;
  bool broadcast = attr_int(ctx, "broadcast", 0) != 0;
  bool has_axis = broadcast && attr_has(ctx, "axis");
  int64_t axis = attr_int(ctx, "axis", (int64_t)rank - n), count;
  if (!has_axis) axis = (int64_t)rank - n;
  if (ir_type_static_count(&b->type, &count) && count == 1 && broadcast) {
    if (n > rank) set_operand(ctx, 1, ir_reshape(ctx->b, b, 0, NULL));
    if (n <= rank) has_axis = false;
    axis = 0;
  }
  if (axis < 0 || axis + n > rank || (!broadcast && n != rank)) {
    ctx_invalid(ctx, "operands are %s and %s, and the axis is %lld",
                ctx_type_str(ctx, a), ctx_type_str(ctx, b), (long long)axis);
    return;
  }
  unsigned first = has_axis ? (unsigned)axis : rank - n;
  for (unsigned i = 0; i < n; i++) {
    const expr_t *mine = ctx_dim(a, first + i), *theirs = ctx_dim(b, i);
    if (broadcast) theirs = expr_broadcast(ctx->exprs, theirs, mine);
    ir_check_equal(ctx->b, mine, theirs,
                   "dimensions of an operand and of what it is broadcast to");
  }
  if (!has_axis || first + n == rank) return;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned i = 0; i < rank - first; i++)
    dim[i] = i < n ? ctx_dim(b, i) : ctx_int(ctx, 1);
  set_operand(ctx, 1, ir_reshape(ctx->b, b, rank - first, dim));
}

/* A slope for each channel. */
static void prelu(convert_ctx_t *ctx) {
  ir_value_t *x = ctx_in(ctx, 0), *slope = ctx_in(ctx, 1);
  int64_t count;
  if (x == NULL || slope == NULL || slope->type.rank != 1 || x->type.rank < 2)
    return;
  if (ir_type_static_count(&slope->type, &count) && count == 1) return;
  set_operand(ctx, 1, ctx_along(ctx, slope, 1, x->type.rank));
}

/* Before opset 5 the shape is an attribute. */
static void reshape(convert_ctx_t *ctx) {
  unsigned n;
  if (ctx->opset >= 5 || ctx->n_in != 1) return;
  const int64_t *shape = attr_ints(ctx, "shape", &n);
  set_operand(ctx, 1, ir_ints(ctx->b, n, shape));
}

/* Before opset 6: `tiles` copies along `axis`, both operands. */
static void tile(convert_ctx_t *ctx) {
  if (ctx->opset >= 6 || ctx->n_in != 3) return;
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0), *operand[2];
  if (x == NULL) return;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *v = operand[i] = ctx_in(ctx, 1 + i);
    int64_t count;
    if (v == NULL) return;
    if (!ir_type_static_count(&v->type, &count) || count != 1) {
      ctx_invalid(ctx, "input %u is %s, expected one element", 1 + i,
                  ctx_type_str(ctx, v));
      return;
    }
    operand[i] = ir_cast(b, ir_reshape(b, v, 0, NULL), DT_I64);
  }
  const expr_t *rank = ctx_int(ctx, x->type.rank);
  ir_value_t *one = ir_scalar_int(b, DT_I64, 1);
  ir_bind(b, operand[1], 0, "axis", 0,
          expr_sub(ctx->exprs, rank, ctx_int(ctx, 1)));
  ir_value_t *at = ir_binary(b, OP_EQ, ir_iota(b, DT_I64, rank), operand[1]);
  set_operand(ctx, 1, ir_select(b, at, operand[0], one));
  ctx->n_in = 2;
}

/* An attribute that later opsets do not have, and that changes nothing. */
static void ignore_broadcast(convert_ctx_t *ctx) {
  attr_ignore(ctx, "broadcast");
}

void legacy_upgrade(convert_ctx_t *ctx) {
  static const struct {
    const char *op_type;
    void (*upgrade)(convert_ctx_t *ctx);
  } rows[] = {
      {"Add", broadcast_by_axis},
      {"Sub", broadcast_by_axis},
      {"Mul", broadcast_by_axis},
      {"Div", broadcast_by_axis},
      {"And", broadcast_by_axis},
      {"Or", broadcast_by_axis},
      {"Xor", broadcast_by_axis},
      {"Equal", broadcast_by_axis},
      {"Less", broadcast_by_axis},
      {"Greater", broadcast_by_axis},
      {"Pow", broadcast_by_axis},
      {"PRelu", prelu},
      {"Gemm", ignore_broadcast},
      {"Reshape", reshape},
      {"Tile", tile},
  };
  if (ctx->opset < 6) attr_ignore(ctx, "consumed_inputs");
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (strcmp(onnx_str(ctx->node->op_type), rows[i].op_type) == 0)
      rows[i].upgrade(ctx);
}
