/* Contents of small integer tensors: arithmetic on sizes while inferring. */
#include "tests/ir/shape_fixture.h"

static ir_value_t *sizes(fixture_t *f, const char *text) {
  const expr_t *e[IR_MAX_RANK];
  unsigned n = dims(f, text, e);
  return ir_exprs(&f->b, n, e);
}
#define SIZES(text) sizes(*state, text)

static ir_value_t *scalar(fixture_t *f, const char *text) {
  return ir_expr_scalar(&f->b, *parse_one(f, text));
}

static ir_value_t *ints_of(fixture_t *f, dtype_t dtype, unsigned n,
                           const int64_t *v) {
  return ir_cast(&f->b, ir_ints(&f->b, n, v), dtype);
}
#define INTS(dtype, ...)                                    \
  ints_of(*state, DT_##dtype,                               \
          sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t), \
          (int64_t[]){__VA_ARGS__})

static ir_builder_t *builder(void **state) { return &((fixture_t *)*state)->b; }

static void sources_are_known(void **state) {
  ir_builder_t *b = builder(state);
  CHECK_CONTENT(SIZES("B,2*S"), "B,2*S");
  CHECK_CONTENT(INTS(I64, 3, -1), "3,-1");
  CHECK_CONTENT(scalar(*state, "B"), "B");
  CHECK_CONTENT(ir_iota(b, DT_I32, expr_const(b->module->exprs, 3)), "0,1,2");
  CHECK_CONTENT(ir_iota(b, DT_F32, expr_const(b->module->exprs, 3)), "unknown");
  int64_t many[65] = {0};
  CHECK_CONTENT(ir_ints(b, 65, many), "unknown");
  CHECK_CONTENT(ir_ints(b, 0, many), "");
}

static void arithmetic_is_symbolic(void **state) {
  ir_builder_t *b = builder(state);
  CHECK_CONTENT(ir_binary(b, OP_ADD, SIZES("B,S"), INTS(I64, 1, 2)),
                "B + 1,S + 2");
  CHECK_CONTENT(ir_binary(b, OP_MUL, SIZES("B,S"), scalar(*state, "H")),
                "B*H,H*S");
  CHECK_CONTENT(ir_binary(b, OP_SUB, INTS(I64, 1), SIZES("B,S")),
                "-B + 1,-S + 1");
  CHECK_CONTENT(ir_binary(b, OP_DIV, SIZES("4*B,S"), INTS(I64, 2)),
                "2*B,floordiv(S, 2)");
  CHECK_CONTENT(ir_binary(b, OP_MOD, SIZES("B - 5"), INTS(I64, 4)),
                "mod(B + 3, 4)");
  CHECK_CONTENT(ir_binary(b, OP_MIN, SIZES("B"), SIZES("B + 1")), "B");
  CHECK_CONTENT(ir_unary(b, OP_NEG, SIZES("B")), "-B");
  CHECK_CONTENT(ir_unary(b, OP_ABS, SIZES("B")), "B");
  CHECK_CONTENT(ir_unary(b, OP_SIGN, SIZES("B + 1,-B - 1")), "1,-1");
}

static void truncation_is_not_taken_for_floor(void **state) {
  ir_builder_t *b = builder(state);
  CHECK_CONTENT(ir_binary(b, OP_DIV, SIZES("B - 5"), INTS(I64, 4)), "unknown");
  CHECK_CONTENT(ir_binary(b, OP_FMOD, SIZES("B - 5"), INTS(I64, 4)), "unknown");
  CHECK_CONTENT(ir_binary(b, OP_DIV, INTS(I64, -7, 7, -7, 7, INT64_MIN),
                          INTS(I64, 2, -2, -2, 0, -1)),
                "-3,-3,3,0,-9223372036854775808");
  CHECK_CONTENT(
      ir_binary(b, OP_MOD, INTS(I64, -7, 7, -7, 7), INTS(I64, 2, -2, -2, 0)),
      "1,-1,-1,0");
  CHECK_CONTENT(
      ir_binary(b, OP_FMOD, INTS(I64, -7, 7, -7, 7), INTS(I64, 2, -2, -2, 0)),
      "-1,1,-1,0");
  CHECK_CONTENT(ir_binary(b, OP_DIV, SIZES("B"), INTS(I64, 0)), "0");
}

static void constants_wrap_like_their_type(void **state) {
  ir_builder_t *b = builder(state);
  CHECK_CONTENT(ir_binary(b, OP_ADD, INTS(I64, INT64_MAX), INTS(I64, 1)),
                "-9223372036854775808");
  CHECK_CONTENT(ir_binary(b, OP_ADD, INTS(I32, INT32_MAX), INTS(I32, 1)),
                "-2147483648");
  CHECK_CONTENT(ir_cast(b, INTS(I64, INT64_C(1) << 32 | 5), DT_I32), "5");
  CHECK_CONTENT(ir_binary(b, OP_MUL, INTS(I32, 65536), INTS(I32, 65536)), "0");
  /* symbols: what cannot be right in 32 bits is not claimed */
  ir_value_t *small = ir_cast(b, SIZES("B"), DT_I32);
  CHECK_CONTENT(small, "B");
  ir_value_t *once = ir_binary(b, OP_MUL, small, INTS(I32, 65536));
  CHECK_CONTENT(once, "65536*B");
  CHECK_CONTENT(ir_binary(b, OP_MUL, once, INTS(I32, 65536)), "unknown");
  CHECK_CONTENT(ir_cast(b, SIZES("4294967296*B"), DT_I32), "unknown");
}

static void overflow_of_sizes_only_loses_the_content(void **state) {
  ir_builder_t *b = builder(state);
  ir_value_t *x = SIZES("4611686018427387904*B");
  ir_value_t *sum = ir_binary(b, OP_MUL, x, INTS(I64, 4));
  CHECK_CONTENT(sum, "unknown");
  assert_int_equal(b->status, MOEC_OK);
}

static void movement_moves_contents(void **state) {
  ir_builder_t *b = builder(state);
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *x = SIZES("B,S,H,4,5,6");
  const expr_t *dim[] = {expr_const(pool, 2), expr_const(pool, 3)};
  ir_value_t *matrix = ir_reshape(b, x, 2, dim);
  CHECK_CONTENT(matrix, "B,S,H,4,5,6");
  CHECK_CONTENT(ir_transpose(b, matrix, (int64_t[]){1, 0}), "B,4,S,5,H,6");
  CHECK_CONTENT(ir_slice(b, matrix, 1, expr_const(pool, 2), expr_const(pool, 2),
                         expr_const(pool, -2)),
                "H,B,6,4");
  CHECK_CONTENT(ir_slice(b, x, 0, *parse_one(*state, "T"), expr_const(pool, 1),
                         expr_const(pool, 1)),
                "unknown");
  const expr_t *wide[] = {expr_const(pool, 2), expr_const(pool, 2)};
  CHECK_CONTENT(ir_expand(b, SIZES("B,S"), 2, wide), "B,S,B,S");
  ir_value_t *column = ir_unsqueeze(b, SIZES("B,S"), 1);
  CHECK_CONTENT(ir_expand(b, column, 2, wide), "B,B,S,S");
  ir_value_t *parts[] = {SIZES("B"), INTS(I64, 7), SIZES("S,H")};
  CHECK_CONTENT(ir_concat(b, 3, parts, 0), "B,7,S,H");
  ir_value_t *rows[] = {matrix, matrix};
  CHECK_CONTENT(ir_concat(b, 2, rows, 1), "B,S,H,B,S,H,4,5,6,4,5,6");
}

static void gather_picks_contents(void **state) {
  ir_builder_t *b = builder(state);
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *x = SIZES("B,S,H");
  CHECK_CONTENT(ir_gather(b, x, ir_scalar_int(b, DT_I64, 1), 0), "S");
  CHECK_CONTENT(ir_gather(b, x, INTS(I64, -1, 0), 0), "H,B");
  CHECK_CONTENT(ir_gather(b, x, INTS(I64, 3), 0), "unknown");
  CHECK_CONTENT(ir_gather(b, x, SIZES("B"), 0), "unknown");
  const expr_t *dim[] = {expr_const(pool, 3), expr_const(pool, 2)};
  ir_value_t *m = ir_reshape(b, SIZES("B,S,H,1,2,3"), 2, dim);
  CHECK_CONTENT(ir_gather(b, m, INTS(I64, 1, 1), 1), "S,S,1,1,3,3");
  CHECK_CONTENT(ir_gather(b, m, ir_scalar_int(b, DT_I32, 2), 0), "2,3");
}

static void conditions_are_decided_where_possible(void **state) {
  ir_builder_t *b = builder(state);
  ir_value_t *x = SIZES("B,3,B + 1");
  ir_value_t *minus = ir_binary(b, OP_EQ, x, INTS(I64, -1));
  CHECK_CONTENT(minus, "0,0,0");
  CHECK_CONTENT(ir_select(b, minus, INTS(I64, 9), x), "B,3,B + 1");
  CHECK_CONTENT(ir_binary(b, OP_EQ, x, INTS(I64, 3)), "unknown");
  CHECK_CONTENT(ir_binary(b, OP_LT, x, SIZES("B + 1,4,B")), "1,1,0");
  CHECK_CONTENT(ir_binary(b, OP_LE, SIZES("B"), SIZES("B")), "1");
  ir_value_t *no = minus, *yes = ir_unary(b, OP_NOT, minus);
  CHECK_CONTENT(yes, "1,1,1");
  CHECK_CONTENT(ir_binary(b, OP_AND, yes, no), "0,0,0");
  CHECK_CONTENT(ir_binary(b, OP_OR, yes, no), "1,1,1");
  CHECK_CONTENT(ir_binary(b, OP_XOR, yes, yes), "0,0,0");
  ir_value_t *open = ir_binary(b, OP_EQ, x, INTS(I64, 3));
  CHECK_CONTENT(ir_binary(b, OP_OR, open, yes), "1,1,1");
  CHECK_CONTENT(ir_binary(b, OP_AND, open, yes), "unknown");
  CHECK_CONTENT(ir_cast(b, SIZES("B + 2"), DT_BOOL), "1");
  CHECK_CONTENT(ir_cast(b, SIZES("B"), DT_BOOL), "unknown");
  CHECK_CONTENT(ir_cast(b, yes, DT_I64), "1,1,1");
}

static void reductions_count_elements(void **state) {
  ir_builder_t *b = builder(state);
  expr_pool_t *pool = b->module->exprs;
  const int64_t axis0[] = {0}, axis1[] = {1};
  CHECK_CONTENT(ir_reduce(b, OP_REDUCE_PROD, SIZES("B,S,4"), 1, axis0, false),
                "4*B*S");
  CHECK_CONTENT(ir_reduce(b, OP_REDUCE_SUM, SIZES("B,S,4"), 1, axis0, true),
                "B + S + 4");
  CHECK_CONTENT(ir_reduce(b, OP_REDUCE_MAX, SIZES("B,B + 3"), 1, axis0, false),
                "B + 3");
  const expr_t *dim[] = {expr_const(pool, 2), expr_const(pool, 3)};
  ir_value_t *m = ir_reshape(b, SIZES("B,S,H,1,2,3"), 2, dim);
  CHECK_CONTENT(ir_reduce(b, OP_REDUCE_SUM, m, 1, axis1, true), "B + H + S,6");
  CHECK_CONTENT(ir_reduce(b, OP_REDUCE_SUM, m, 1, axis0, false),
                "B + 1,S + 2,H + 3");
  CHECK_CONTENT(
      ir_reduce(b, OP_REDUCE_PROD, ir_ints(b, 0, axis0), 1, axis0, false), "1");
  CHECK_CONTENT(
      ir_reduce(b, OP_REDUCE_MAX, ir_ints(b, 0, axis0), 1, axis0, false),
      "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(sources_are_known),
      TEST(arithmetic_is_symbolic),
      TEST(truncation_is_not_taken_for_floor),
      TEST(constants_wrap_like_their_type),
      TEST(overflow_of_sizes_only_loses_the_content),
      TEST(movement_moves_contents),
      TEST(gather_picks_contents),
      TEST(conditions_are_decided_where_possible),
      TEST(reductions_count_elements),
  };
  return cmocka_run_group_tests_name("ir/shape_content", tests, NULL, NULL);
}
