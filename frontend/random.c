/* Random numbers as operations, by the finalizer of SplitMix64 over a counter
 * (Steele, Lea, Flood 2014). */
#include "frontend/random.h"

#include <string.h>

static const uint64_t golden = 0x9e3779b97f4a7c15u;

static uint64_t mixed(uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static uint64_t with_text(uint64_t key, const char *text) {
  for (; text != NULL && *text != '\0'; text++)
    key = (key ^ (unsigned char)*text) * 0x100000001b3u;
  return key;
}

uint64_t random_key(convert_ctx_t *ctx) {
  if (!attr_has(ctx, "seed")) {
    uint64_t key = with_text(0xcbf29ce484222325u, ctx->loc.node);
    for (unsigned i = 0; i < ctx->n_out; i++)
      key = with_text(key * 31, ctx->node->output[i]);
    return mixed(key);
  }
  if (strcmp(ctx->node->op_type, "Dropout") == 0)
    return mixed((uint64_t)attr_int(ctx, "seed", 0) + golden);
  float seed = (float)attr_float_any(ctx, "seed", 0);
  uint32_t bits;
  memcpy(&bits, &seed, sizeof bits);
  return mixed(bits + golden);
}

static ir_value_t *number(convert_ctx_t *ctx, uint64_t value) {
  return ir_scalar_int(ctx->b, DT_U64, (int64_t)value);
}

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* z ^ z >> by, times factor */
static ir_value_t *stirred(convert_ctx_t *ctx, ir_value_t *z, unsigned by,
                           uint64_t factor) {
  ir_value_t *shifted = two(ctx, OP_SHR, z, number(ctx, by));
  z = two(ctx, OP_BIT_XOR, z, shifted);
  return factor == 1 ? z : two(ctx, OP_MUL, z, number(ctx, factor));
}

ir_value_t *random_uniform(convert_ctx_t *ctx, uint64_t key, unsigned stream,
                           dtype_t dtype, unsigned rank,
                           const expr_t *const *dim) {
  ir_builder_t *b = ctx->b;
  const expr_t *n = expr_product(ctx->exprs, dim, rank);
  ir_value_t *z = ir_cast(b, ir_iota(b, DT_I64, n), DT_U64);
  z = two(ctx, OP_MUL, z, number(ctx, golden));
  z = two(ctx, OP_ADD, z, number(ctx, mixed(key + stream)));
  z = stirred(ctx, z, 30, 0xbf58476d1ce4e5b9u);
  z = stirred(ctx, z, 27, 0x94d049bb133111ebu);
  z = stirred(ctx, z, 31, 1);
  bool wide = dtype == DT_F64;
  z = two(ctx, OP_SHR, z, number(ctx, wide ? 11 : 40));
  z = ir_cast(b, ir_cast(b, z, DT_I64), wide ? DT_F64 : DT_F32);
  z = two(ctx, OP_MUL, z, ctx_scalar(ctx, z, wide ? 0x1p-53 : 0x1p-24));
  return ir_reshape(b, z, rank, dim);
}

/* sqrt(-2 log(1 - u)) cos(2 pi v), of Box and Muller */
ir_value_t *random_normal(convert_ctx_t *ctx, uint64_t key, dtype_t dtype,
                          unsigned rank, const expr_t *const *dim) {
  ir_builder_t *b = ctx->b;
  ir_value_t *u = random_uniform(ctx, key, 1, dtype, rank, dim);
  ir_value_t *v = random_uniform(ctx, key, 2, dtype, rank, dim);
  u = ir_unary(b, OP_LOG, two(ctx, OP_SUB, ctx_scalar(ctx, u, 1), u));
  u = ir_unary(b, OP_SQRT, two(ctx, OP_MUL, u, ctx_scalar(ctx, u, -2)));
  v = two(ctx, OP_MUL, v, ctx_scalar(ctx, v, 6.28318530717958647692));
  return two(ctx, OP_MUL, u, ir_unary(b, OP_COS, v));
}
