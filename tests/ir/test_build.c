/* Builders: what they create, what they leave out, how they fail. */
#include <math.h>

#include "ir/element.h"
#include "tests/ir/ir_support.h"

static fixture_t *begin_matrix(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = ir_module_create(f->arena, "test");
  const expr_t *dim[] = {expr_new_symbol(module->exprs, "B", 0, NULL),
                         expr_const(module->exprs, 3)};
  ir_type_t types[] = {ir_tensor_type(DT_F32, 2, dim), ir_scalar_type(DT_F32)};
  f->module = module;
  f->func = ir_func_create(module, "main", IR_FUNC_MAIN, 2, types);
  f->b = (ir_builder_t){
      .module = module, .region = &f->func->body, .diag = &f->diag};
  return f;
}

static const char *body(fixture_t *f) {
  finish(f, 0, NULL);
  assert_verified(f, f->module);
  text_t text;
  text_init(&text, f->arena);
  for (ir_op_t *op = f->func->body.first; op->next != NULL; op = op->next) {
    ir_print_op(op, &text);
    text_append(&text, "\n", 1);
  }
  return text.data;
}

static void operations_infer_their_types(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0], *s = &f->func->body.args[1];
  ir_value_t *y = ir_binary(&f->b, OP_MUL, ir_unary(&f->b, OP_NEG, x), s);
  ir_value_t *less = ir_binary(&f->b, OP_LT, y, x);
  ir_cast(&f->b, ir_select(&f->b, less, x, y), DT_F16);
  assert_int_equal(f->b.status, MOEC_OK);
  assert_text(body(f),
              "%2 = neg(%0) : f32[B,3]\n"
              "%3 = mul(%2, %1) : f32[B,3]\n"
              "%4 = lt(%3, %0) : bool[B,3]\n"
              "%5 = select(%4, %0, %3) : f32[B,3]\n"
              "%6 = cast(%5) {to = f16} : f16[B,3]\n");
}

static void operations_that_change_nothing_are_left_out(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0];
  const expr_t *const *dim = x->type.dim;
  expr_pool_t *pool = f->module->exprs;
  int64_t identity[] = {0, 1};
  assert_ptr_equal(ir_cast(&f->b, x, DT_F32), x);
  assert_ptr_equal(ir_reshape(&f->b, x, 2, dim), x);
  assert_ptr_equal(ir_expand(&f->b, x, 2, dim), x);
  assert_ptr_equal(ir_transpose(&f->b, x, identity), x);
  assert_ptr_equal(
      ir_slice(&f->b, x, 0, expr_const(pool, 0), dim[0], expr_const(pool, 1)),
      x);
  assert_ptr_equal(ir_concat(&f->b, 1, &x, 0), x);
  assert_ptr_equal(ir_reduce(&f->b, OP_REDUCE_SUM, x, 0, NULL, false), x);
  assert_null(f->func->body.first);
  assert_null(x->uses);
}

static void movement_keeps_other_axes(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0], *s = &f->func->body.args[1];
  expr_pool_t *pool = f->module->exprs;
  int64_t perm[] = {1, 0}, axes[] = {1};
  ir_value_t *u = ir_unsqueeze(&f->b, x, 1);
  ir_squeeze(&f->b, u, 1);
  ir_transpose(&f->b, x, perm);
  ir_slice(&f->b, x, 1, expr_const(pool, 2), expr_const(pool, 2),
           expr_const(pool, -1));
  ir_value_t *both[] = {x, x};
  ir_concat(&f->b, 2, both, 1);
  ir_reduce(&f->b, OP_REDUCE_MAX, x, 1, axes, true);
  ir_fill(&f->b, s, 2, x->type.dim);
  ir_iota(&f->b, DT_I32, x->type.dim[0]);
  assert_text(
      body(f),
      "%2 = reshape(%0) {shape = [B, 1, 3]} : f32[B,1,3]\n"
      "%3 = reshape(%2) {shape = [B, 3]} : f32[B,3]\n"
      "%4 = transpose(%0) {perm = [1, 0]} : f32[3,B]\n"
      "%5 = slice(%0) {start = [0, 2], length = [B, 2], step = [1, -1]} : "
      "f32[B,2]\n"
      "%6 = concat(%0, %0) {axis = 1} : f32[B,6]\n"
      "%7 = reduce_max(%0) {axes = [1], keepdims = 1} : f32[B,1]\n"
      "%8 = expand(%1) {shape = [B, 3]} : f32[B,3]\n"
      "%9 = iota {dtype = i32, n = B} : i32[B]\n");
}

static void products_and_gathers(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0];
  int64_t perm[] = {1, 0}, indices[] = {2, 0};
  ir_matmul(&f->b, x, ir_transpose(&f->b, x, perm));
  ir_gather(&f->b, x, ir_ints(&f->b, 2, indices), 1);
  assert_text(body(f),
              "%2 = transpose(%0) {perm = [1, 0]} : f32[3,B]\n"
              "%3 = matmul(%0, %2) : f32[B,B]\n"
              "%4 = constant {dtype = i64, shape = [2], data = [2, 0]} : "
              "i64[2]\n"
              "%5 = gather(%0, %4) {axis = 1} : f32[B,2]\n");
}

static void constants_of_every_type(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_builder_t *b = &f->b;
  static const float row[] = {1.5f, -2};
  const expr_t *two = expr_const(f->module->exprs, 2);
  ir_type_t type = ir_tensor_type(DT_F32, 1, &two);
  ir_scalar(b, DT_F32, 0.1);
  ir_scalar(b, DT_BF16, 1e39);
  ir_scalar(b, DT_F8E4M3FN, 17);
  ir_scalar(b, DT_I4, -3.2);
  ir_scalar(b, DT_BOOL, 1);
  ir_scalar_int(b, DT_U64, -1);
  ir_scalar_int(b, DT_F16, 2049);
  ir_tensor(b, &type, row, sizeof row);
  ir_ints(b, 0, NULL);
  assert_text(
      body(f),
      "%2 = constant {dtype = f32, shape = [], data = [0.1]} : f32[]\n"
      "%3 = constant {dtype = bf16, shape = [], data = [inf]} : bf16[]\n"
      "%4 = constant {dtype = f8e4m3fn, shape = [], data = [16.0]} : "
      "f8e4m3fn[]\n"
      "%5 = constant {dtype = i4, shape = [], data = [-3]} : i4[]\n"
      "%6 = constant {dtype = bool, shape = [], data = [true]} : bool[]\n"
      "%7 = constant {dtype = u64, shape = [], data = "
      "[18446744073709551615]} : u64[]\n"
      "%8 = constant {dtype = f16, shape = [], data = [2048.0]} : f16[]\n"
      "%9 = constant {dtype = f32, shape = [2], data = [1.5, -2.0]} : f32[2]\n"
      "%10 = constant {dtype = i64, shape = [0], data = []} : i64[0]\n");
}

static void sizes_become_values_and_are_known_again(void **state) {
  fixture_t *f = begin_matrix(state);
  const expr_t *const *dim = f->func->body.args[0].type.dim;
  ir_value_t *shape = ir_exprs(&f->b, 2, dim);
  ir_value_t *scalar = ir_exprs(&f->b, 0, dim); /* dim[0] alone */
  ir_value_t *constant = ir_expr_scalar(&f->b, dim[1]);
  assert_ptr_equal(ir_known(shape, 0), dim[0]);
  assert_ptr_equal(ir_known(shape, 1), dim[1]);
  assert_null(ir_known(shape, 2));
  assert_null(ir_known(shape, -1));
  assert_ptr_equal(ir_known(scalar, 0), dim[0]);
  assert_ptr_equal(ir_known(constant, 0), dim[1]);
  assert_null(ir_known(&f->func->body.args[0], 0));
  assert_null(ir_known(NULL, 0));
  assert_text(body(f),
              "%2 = exprs {values = [B, 3]} : i64[2]\n"
              "%3 = exprs {values = [B], scalar = 1} : i64[]\n"
              "%4 = constant {dtype = i64, shape = [], data = [3]} : i64[]\n");
}

static void unknown_sizes_are_bound_and_known_ones_are_not(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0];
  const expr_t *b = x->type.dim[0];
  ir_value_t *shape = ir_exprs(&f->b, 2, x->type.dim);
  assert_ptr_equal(ir_bind(&f->b, shape, 0, "n", 0, NULL), b);
  ir_value_t *v = ir_reshape(
      &f->b, ir_cast(&f->b, &f->func->body.args[1], DT_I64), 0, NULL);
  const expr_t *n = ir_bind(&f->b, v, 0, "n", 1, b);
  const expr_t *again = ir_bind(&f->b, v, 0, "n", 0, NULL);
  assert_int_equal(f->b.status, MOEC_OK);
  assert_non_null(n);
  assert_true(n != again);
  int64_t lower;
  assert_true(expr_lower_bound(n, &lower));
  assert_int_equal(lower, 1);
  assert_int_equal(expr_compare_less(f->module->exprs, b, n), 0);
  assert_text(body(f),
              "%2 = exprs {values = [B, 3]} : i64[2]\n"
              "%3 = cast(%1) {to = i64} : i64[]\n"
              "bind(%3) {symbol = n, index = 0}\n"
              "bind(%3) {symbol = n_1, index = 0}\n");
}

static void known_sizes_outside_their_bounds_are_rejected(void **state) {
  fixture_t *f = begin_matrix(state);
  int64_t values[] = {-4, 9};
  ir_value_t *v = ir_ints(&f->b, 2, values);
  assert_null(ir_bind(&f->b, v, 0, "length", 0, NULL));
  assert_int_equal(f->b.status, MOEC_E_INVALID_MODEL);
  assert_null(
      ir_bind(&f->b, v, 1, "length", 0, expr_const(f->module->exprs, 8)));
  assert_text(reported(f),
              "length = -4 is not within 0..\n"
              "length = 9 is not within 0..8");
}

static void equal_sizes_need_no_check(void **state) {
  fixture_t *f = begin_matrix(state);
  expr_pool_t *pool = f->module->exprs;
  const expr_t *b = f->func->body.args[0].type.dim[0];
  const expr_t *c = expr_new_symbol(pool, "C", 0, NULL);
  ir_check_equal(&f->b, b, b, "the batch");
  assert_null(f->func->body.first);
  ir_check_equal(&f->b, b, c, "the batch");
  assert_int_equal(f->b.status, MOEC_OK);
  ir_check_equal(&f->b, expr_add(pool, b, expr_const(pool, 1)), b, "the batch");
  assert_int_equal(f->b.status, MOEC_E_INVALID_MODEL);
  assert_text(reported(f), "the batch: B + 1 does not equal B");
  assert_text(body(f), "check_equal {a = B, b = C, what = \"the batch\"}\n");
}

static void failures_give_null_and_echo_nothing(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0];
  f->b.loc = (ir_loc_t){.where = "here"};
  ir_value_t *y = ir_binary(&f->b, OP_ADD, x, ir_scalar(&f->b, DT_F64, 1));
  assert_null(y);
  assert_int_equal(f->b.status, MOEC_E_INVALID_MODEL);
  assert_int_equal(f->diag.n_errors, 1);
  assert_int_equal(ir_n_uses(x), 0); /* the operation is gone */
  assert_null(ir_unary(&f->b, OP_NEG, y));
  assert_null(ir_matmul(&f->b, x, ir_transpose(&f->b, y, NULL)));
  assert_null(ir_slice(&f->b, y, 0, NULL, NULL, NULL));
  assert_null(ir_unsqueeze(&f->b, y, 0));
  assert_null(ir_squeeze(&f->b, y, 0));
  assert_null(ir_reduce(&f->b, OP_REDUCE_SUM, y, 0, NULL, true));
  assert_null(ir_concat(&f->b, 1, &y, 0));
  assert_null(ir_bind(&f->b, y, 0, "n", 0, NULL));
  assert_null(ir_cast(&f->b, y, DT_F32));
  assert_int_equal(f->diag.n_errors, 1);
}

static void a_missing_operand_is_reported_once(void **state) {
  fixture_t *f = begin_matrix(state);
  assert_null(ir_binary(&f->b, OP_ADD, &f->func->body.args[0], NULL));
  assert_int_equal(f->b.status, MOEC_E_INVALID_MODEL);
  assert_text(reported(f), "operand 1 of add is missing");
}

static void operations_go_before_a_given_one(void **state) {
  fixture_t *f = begin_matrix(state);
  ir_value_t *x = &f->func->body.args[0];
  ir_value_t *y = ir_unary(&f->b, OP_NEG, x);
  f->b.before = y->def;
  ir_value_t *z = ir_unary(&f->b, OP_ABS, x);
  ir_set_operand(y->def, 0, z);
  assert_text(body(f),
              "%2 = abs(%0) : f32[B,3]\n"
              "%3 = neg(%2) : f32[B,3]\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(operations_infer_their_types),
      TEST(operations_that_change_nothing_are_left_out),
      TEST(movement_keeps_other_axes),
      TEST(products_and_gathers),
      TEST(constants_of_every_type),
      TEST(sizes_become_values_and_are_known_again),
      TEST(unknown_sizes_are_bound_and_known_ones_are_not),
      TEST(known_sizes_outside_their_bounds_are_rejected),
      TEST(equal_sizes_need_no_check),
      TEST(failures_give_null_and_echo_nothing),
      TEST(a_missing_operand_is_reported_once),
      TEST(operations_go_before_a_given_one),
  };
  return cmocka_run_group_tests_name("ir/build", tests, NULL, NULL);
}
