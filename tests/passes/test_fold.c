/* What is folded and what is not. The evaluator is a stand-in that notes what
 * it is asked for; tests/tools/test_evaluate.c has the real one. */
#include "passes/pass.h"
#include "tests/ir/ir_support.h"

typedef struct fake {
  ir_evaluator_t base;
  arena_t *arena;
  const char *asked; /* text of the latest batch */
  unsigned n_calls;
  moec_status_t answer[4]; /* of each call */
} fake_t;

/* Results are bytes 1, 2, 3.. of the call's number. */
static moec_status_t fake_evaluate(ir_evaluator_t *self, ir_module_t *module,
                                   ir_data_t **out_data, diag_sink_t *diag) {
  fake_t *fake = (fake_t *)self;
  unsigned call = fake->n_calls++;
  assert_in_range(call, 0, 3);
  assert_int_equal(ir_verify(module, diag), MOEC_OK);
  text_t text;
  text_init(&text, fake->arena);
  ir_print(module, &(ir_print_options_t){.brief = true}, &text);
  fake->asked = text.data;
  if (fake->answer[call] != MOEC_OK) return fake->answer[call];
  const ir_op_t *last = module->first->body.last;
  *out_data = ARENA_ARRAY(module->arena, ir_data_t, last->n_in);
  for (unsigned i = 0; i < last->n_in; i++) {
    const ir_type_t *type = &last->in[i].value->type;
    int64_t count;
    assert_true(ir_type_static_count(type, &count));
    uint64_t bytes = dtype_bytes(type->dtype, (uint64_t)count);
    uint8_t *data = arena_alloc(module->arena, (size_t)bytes);
    memset(data, (int)call + 1, (size_t)bytes);
    (*out_data)[i] = (ir_data_t){.bytes = data, .size = bytes};
  }
  return MOEC_OK;
}

typedef struct folded {
  ir_module_t *module;
  fake_t fake;
  const char *text; /* afterwards, without what became unused */
  moec_status_t status;
} folded_t;

static moec_status_t run_passes(fixture_t *f, ir_module_t *module,
                                const char *passes, long limit) {
  arena_t *scratch = arena_create(0);
  assert_non_null(scratch);
  pass_options_t options = {
      .passes = passes, .rewrite_limit = limit, .verify_each = true};
  moec_status_t status = pass_run_all(module, scratch, &options, &f->diag);
  arena_destroy(scratch);
  return status;
}

static folded_t fold_module(fixture_t *f, ir_module_t *module,
                            const char *passes, const moec_status_t *answer) {
  folded_t r = {.module = module,
                .fake = {.base = {fake_evaluate}, .arena = f->arena}};
  if (answer != NULL) memcpy(r.fake.answer, answer, sizeof r.fake.answer);
  module->evaluator = &r.fake.base;
  r.status = run_passes(f, module, passes, -1);
  module->evaluator = NULL;
  if (r.fake.asked == NULL) r.fake.asked = "";
  r.text = print_brief(f, module);
  return r;
}

static folded_t fold(void **state, const char *text) {
  fixture_t *f = *state;
  folded_t r = fold_module(f, assert_parses(f, text), "fold,dce", NULL);
  assert_int_equal(r.status, MOEC_OK);
  return r;
}

static void check_asked(void **state, const char *text, const char *want,
                        const char *file, int line) {
  folded_t r = fold(state, text);
  check_text(r.fake.asked, want, file, line);
}
#define assert_asked(state, text, want) \
  check_asked((state), (text), (want), __FILE__, __LINE__)
#define assert_nothing_folded(state, text) assert_asked(state, text, "")

/* ---- What is folded ------------------------------------------------------ */

static void last_of_a_chain_becomes_a_constant(void **state) {
  folded_t r =
      fold(state,
           "func @f(%0: f32[2]) {\n"
           "  %1 = constant {dtype = f32, shape = [2], data = [1, 2]}\n"
           "  %2 = exp(%1)\n"
           "  %3 = neg(%2)\n"
           "  %4 = add(%0, %3)\n"
           "  return(%4)\n"
           "}\n");
  assert_text(r.fake.asked,
              "func @main() {\n"
              "  %0 = constant {dtype = f32, shape = [2], data = [1.0, 2.0]} : "
              "f32[2]\n"
              "  %1 = exp(%0) : f32[2]\n"
              "  %2 = neg(%1) : f32[2]\n"
              "  return(%2)\n"
              "}\n");
  assert_text(r.text,
              "func @f(%0: f32[2]) {\n"
              "  %1 = constant {dtype = f32, shape = [2], data = "
              "[2.36942783e-38, 2.36942783e-38]} : f32[2]\n"
              "  %2 = add(%0, %1) : f32[2]\n"
              "  return(%2)\n"
              "}\n");
}

static void value_used_inside_and_outside_is_asked_for_too(void **state) {
  folded_t r =
      fold(state,
           "func @f(%0: f32[2]) {\n"
           "  %1 = constant {dtype = f32, shape = [2], data = [1, 2]}\n"
           "  %2 = exp(%1)\n"
           "  %3 = neg(%2)\n"
           "  %4 = add(%0, %3)\n"
           "  %5 = mul(%4, %2)\n"
           "  return(%5)\n"
           "}\n");
  assert_non_null(strstr(r.fake.asked, "return(%1, %2)"));
  assert_null(strstr(r.text, "exp"));
  assert_null(strstr(r.text, "neg"));
}

static void only_used_results_of_an_operation_are_asked_for(void **state) {
  folded_t r =
      fold(state,
           "func @f(%0: i64[2]) {\n"
           "  %1 = constant {dtype = f32, shape = [4], data = [1, 2, 3, 4]}\n"
           "  %2, %3 = topk(%1) {k = 2}\n"
           "  %4 = add(%0, %3)\n"
           "  return(%4)\n"
           "}\n");
  assert_non_null(strstr(r.fake.asked, "%1, %2 = topk(%0)"));
  assert_non_null(strstr(r.fake.asked, "return(%2)"));
  assert_non_null(strstr(r.text,
                         "constant {dtype = i64, shape = [2], data = "
                         "[72340172838076673, 72340172838076673]}"));
}

static void constant_result_of_the_model_is_folded(void **state) {
  folded_t r = fold(state,
                    "func @f() {\n"
                    "  %1 = constant {dtype = i8, shape = [2], data = [1, 2]}\n"
                    "  %2 = neg(%1)\n"
                    "  return(%2)\n"
                    "}\n");
  assert_text(r.text,
              "func @f() {\n"
              "  %0 = constant {dtype = i8, shape = [2], data = [1, 1]} : "
              "i8[2]\n"
              "  return(%0)\n"
              "}\n");
}

static void counting_leads_to_folding_but_is_not_folded(void **state) {
  assert_nothing_folded(state,
                        "func @f(%0: i64[8]) {\n"
                        "  %1 = iota {dtype = i64, n = 8}\n"
                        "  %2 = add(%0, %1)\n"
                        "  return(%2)\n"
                        "}\n");
  assert_asked(state,
               "func @f(%0: i64[8]) {\n"
               "  %1 = iota {dtype = i64, n = 8}\n"
               "  %2 = neg(%1)\n"
               "  %3 = add(%0, %2)\n"
               "  return(%3)\n"
               "}\n",
               "func @main() {\n"
               "  %0 = iota {dtype = i64, n = 8} : i64[8]\n"
               "  %1 = neg(%0) : i64[8]\n"
               "  return(%1)\n"
               "}\n");
}

static void sizes_that_vary_are_not_constant(void **state) {
  assert_nothing_folded(
      state,
      "func @f(%0: f32[B]) {\n"
      "  %1 = constant {dtype = f32, shape = [1], data = [1]}\n"
      "  %2 = expand(%1) {shape = [B]}\n"
      "  %3 = exp(%2)\n"
      "  %4 = add(%0, %3)\n"
      "  %5 = exprs {values = [B], scalar = 1}\n"
      "  %6 = neg(%5)\n"
      "  return(%4, %6)\n"
      "}\n");
}

/* A window of fixed length at a place that varies. */
static void attributes_that_vary_are_not_constant(void **state) {
  assert_nothing_folded(
      state,
      "func @f(%0: f32[B]) {\n"
      "  %1 = constant {dtype = f32, shape = [4], data = [1, 2, 3, 4]}\n"
      "  %2 = slice(%1) {start = [min(B, 3)], length = [1], step = [1]}\n"
      "  %3 = exp(%2)\n"
      "  %4 = add(%0, %3)\n"
      "  return(%4)\n"
      "}\n");
}

static void operations_with_effects_stay(void **state) {
  folded_t r = fold(state,
                    "func @f(%0: f32[2]) {\n"
                    "  %1 = constant {dtype = i64, shape = [1], data = [2]}\n"
                    "  bind(%1) {symbol = n, index = 0}\n"
                    "  return(%0)\n"
                    "}\n");
  assert_text(r.fake.asked, "");
  assert_non_null(strstr(r.text, "bind"));
}

static void unused_operations_are_not_evaluated(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = assert_parses(
      f,
      "func @f(%0: f32[2]) {\n"
      "  %1 = constant {dtype = f32, shape = [2], data = [1, 2]}\n"
      "  %2 = exp(%1)\n"
      "  %3 = neg(%2)\n"
      "  return(%0)\n"
      "}\n");
  assert_int_equal(fold_module(f, module, "fold", NULL).fake.n_calls, 0);
}

/* ---- What is worth it ---------------------------------------------------- */

static void views_that_products_read_through_stay(void **state) {
  assert_nothing_folded(
      state,
      "func @f(%0: f32[2,3]) {\n"
      "  %1 = constant {dtype = f32, shape = [4,3], data = digest(0x1, 48)}\n"
      "  %2 = transpose(%1) {perm = [1, 0]}\n"
      "  %3 = slice(%2) {start = [0, 0], length = [3, 2], step = [1, 1]}\n"
      "  %4 = matmul(%0, %3)\n"
      "  %5 = expand(%1) {shape = [2, 4, 3]}\n"
      "  %6 = reshape(%1) {shape = [2, 6]}\n"
      "  %7 = neg(%5)\n"
      "  return(%4, %6)\n"
      "}\n");
}

static void views_that_would_be_stored_in_a_run_are_folded(void **state) {
  folded_t r = fold(
      state,
      "func @f(%0: f32[3,4]) {\n"
      "  %1 = constant {dtype = f32, shape = [4,3], data = digest(0x1, 48)}\n"
      "  %2 = transpose(%1) {perm = [1, 0]}\n"
      "  %3, %4 = topk(%2) {k = 2}\n"
      "  %5 = add(%0, %2)\n"
      "  %6 = add(%0, %2)\n"
      "  return(%3, %5, %6)\n"
      "}\n");
  assert_null(strstr(r.text, "transpose"));
  assert_null(strstr(r.text, "topk"));
}

/* Merging transposed dimensions means moving elements. */
static void reshape_of_a_view_is_folded(void **state) {
  folded_t r = fold(
      state,
      "func @f(%0: f32[2,12]) {\n"
      "  %1 = constant {dtype = f32, shape = [4,3], data = digest(0x1, 48)}\n"
      "  %2 = transpose(%1) {perm = [1, 0]}\n"
      "  %3 = reshape(%2) {shape = [12, 1]}\n"
      "  %4 = matmul(%0, %3)\n"
      "  return(%4)\n"
      "}\n");
  assert_null(strstr(r.text, "transpose"));
  assert_null(strstr(r.text, "reshape"));
}

static void large_weights_are_not_copied_by_views(void **state) {
  assert_nothing_folded(
      state,
      "func @f(%0: f32[1024,1024]) {\n"
      "  %1 = constant {dtype = f32, shape = [1024,1024], data = digest(0x1, "
      "4194304)}\n"
      "  %2 = transpose(%1) {perm = [1, 0]}\n"
      "  %3 = add(%0, %2)\n"
      "  return(%3)\n"
      "}\n");
}

static void widened_weights_stay_narrow(void **state) {
  folded_t r = fold(
      state,
      "func @f(%0: f32[1,1024]) {\n"
      "  %1 = constant {dtype = f16, shape = [1024,1024], data = digest(0x1, "
      "2097152)}\n"
      "  %2 = constant {dtype = f16, shape = [1024,1], data = digest(0x2, "
      "2048)}\n"
      "  %3 = mul(%1, %2)\n"
      "  %4 = cast(%3) {to = f32}\n"
      "  %5 = matmul(%0, %4)\n"
      "  return(%5)\n"
      "}\n");
  assert_non_null(strstr(r.fake.asked, "return(%2)"));
  assert_null(strstr(r.text, "mul(%1"));
  assert_non_null(strstr(r.text, "cast"));
}

/* ---- Limits -------------------------------------------------------------- */

static void large_result_of_little_is_left_to_the_run(void **state) {
  assert_nothing_folded(
      state,
      "func @f(%0: f32[1]) {\n"
      "  %1 = constant {dtype = f32, shape = [1], data = [2]}\n"
      "  %2 = expand(%1) {shape = [16385]}\n"
      "  %3 = concat(%2, %1) {axis = 0}\n"
      "  %4 = add(%0, %3)\n"
      "  return(%4)\n"
      "}\n");
  folded_t r = fold(state,
                    "func @f(%0: f32[1]) {\n"
                    "  %1 = constant {dtype = f32, shape = [1], data = [2]}\n"
                    "  %2 = expand(%1) {shape = [16383]}\n"
                    "  %3 = concat(%2, %1) {axis = 0}\n"
                    "  %4 = add(%0, %3)\n"
                    "  return(%4)\n"
                    "}\n");
  assert_null(strstr(r.text, "concat"));
}

static void little_that_takes_much_is_left_to_the_run(void **state) {
  assert_nothing_folded(
      state,
      "func @f(%0: f32[1]) {\n"
      "  %1 = constant {dtype = f32, shape = [1], data = [2]}\n"
      "  %2 = expand(%1) {shape = [1099511627776]}\n"
      "  %3 = reduce_sum(%2) {axes = [0]}\n"
      "  %4 = add(%0, %3)\n"
      "  return(%4)\n"
      "}\n");
  assert_nothing_folded(
      state,
      "func @f(%0: f32[1]) {\n"
      "  %1 = constant {dtype = f32, shape = [1], data = [2]}\n"
      "  %2 = expand(%1) {shape = [4096, 4096]}\n"
      "  %3 = expand(%1) {shape = [4096, 4096]}\n"
      "  %4 = matmul(%2, %3)\n"
      "  %5 = reduce_max(%4) {axes = [0, 1]}\n"
      "  %6 = add(%0, %5)\n"
      "  return(%6)\n"
      "}\n");
}

/* x, x ++ x, .. doubles with each operation. */
static void doubling_ends_at_the_limit(void **state) {
  fixture_t *f = begin(state, 0, NULL);
  static const float one = 1;
  const expr_t *dim = expr_const(f->module->exprs, 1);
  ir_type_t type = ir_tensor_type(DT_F32, 1, &dim);
  ir_value_t *x = ir_tensor(&f->b, &type, &one, sizeof one), *results[32];
  for (unsigned i = 0; i < 32; i++)
    results[i] = x = ir_concat(&f->b, 2, (ir_value_t *[]){x, x}, 0);
  assert_non_null(x);
  finish(f, 32, results);
  folded_t r = fold_module(f, f->module, "fold", NULL);
  assert_int_equal(r.status, MOEC_OK);
  const ir_op_t *last = f->func->body.last;
  for (unsigned i = 0; i < 32; i++) /* 4 bytes << 14 are 64 KiB */
    assert_int_equal(last->in[i].value->def->code == OP_CONSTANT, i < 14);
}

static void results_of_a_batch_are_limited(void **state) {
  enum { N = 20 };
  fixture_t *f = begin(state, 0, NULL);
  const uint64_t bytes = UINT64_C(16) << 20;
  const expr_t *dim = expr_const(f->module->exprs, (int64_t)bytes);
  ir_type_t type = ir_tensor_type(DT_U8, 1, &dim);
  uint8_t *data = arena_alloc(f->arena, (size_t)bytes);
  ir_value_t *x = ir_tensor(&f->b, &type, data, bytes), *results[N];
  for (unsigned i = 0; i < N; i++)
    results[i] = ir_binary(&f->b, OP_ADD, x, ir_scalar_int(&f->b, DT_U8, i));
  finish(f, N, results);
  folded_t r = fold_module(f, f->module, "fold", NULL);
  assert_int_equal(r.status, MOEC_OK);
  uint64_t n = 0;
  for (unsigned i = 0; i < N; i++)
    n += f->func->body.last->in[i].value->def->code == OP_CONSTANT;
  assert_in_range(n, 4, 8); /* works on 128 Mi elements at most */
}

/* A chain of values that each have a user of their own, and cannot be had. */
static void search_for_constants_is_linear(void **state) {
  enum { N = 300000 }; /* squared: minutes */
  fixture_t *f = begin(state, 0, NULL);
  ir_value_t *one = ir_scalar(&f->b, DT_F32, 1);
  const expr_t *dim[2] = {expr_const(f->module->exprs, 1 << 15),
                          expr_const(f->module->exprs, 1 << 15)};
  const int64_t axes[2] = {0, 1};
  ir_value_t *bomb = ir_fill(&f->b, one, 2, dim);
  ir_value_t *x = ir_reduce(&f->b, OP_REDUCE_SUM, bomb, 2, axes, false);
  ir_value_t **results = ARENA_ARRAY(f->arena, ir_value_t *, N);
  for (unsigned i = 0; i < N; i++) results[i] = x = ir_unary(&f->b, OP_NEG, x);
  finish(f, N, results);
  folded_t r = fold_module(f, f->module, "fold", NULL);
  assert_int_equal(r.status, MOEC_OK);
  assert_int_equal(r.fake.n_calls, 0);
}

/* ---- Evaluations --------------------------------------------------------- */

#define TWO_CHAINS                                              \
  "func @f(%0: f32[2]) {\n"                                     \
  "  %1 = constant {dtype = f32, shape = [2], data = [1, 2]}\n" \
  "  %2 = constant {dtype = i64, shape = [1], data = [7]}\n"    \
  "  %3 = gather(%1, %2) {axis = 0}\n"                          \
  "  %4 = exp(%1)\n"                                            \
  "  %5 = add(%0, %3)\n"                                        \
  "  %6 = add(%5, %4)\n"                                        \
  "  return(%6)\n"                                              \
  "}\n"

static void what_fails_is_left_out_the_second_time(void **state) {
  fixture_t *f = *state;
  const moec_status_t answer[4] = {MOEC_E_INDEX};
  folded_t r =
      fold_module(f, assert_parses(f, TWO_CHAINS), "fold,dce,fold", answer);
  assert_int_equal(r.status, MOEC_OK);
  assert_int_equal(r.fake.n_calls, 2);
  assert_null(strstr(r.fake.asked, "gather"));
  assert_non_null(strstr(r.text, "gather"));
  assert_null(strstr(r.text, "exp"));
  assert_int_equal(f->diag.n_errors + f->diag.n_warnings, 0);
}

static void nothing_is_folded_after_two_failures(void **state) {
  fixture_t *f = *state;
  const moec_status_t answer[4] = {MOEC_E_INDEX, MOEC_E_VALUE};
  ir_module_t *module = assert_parses(f, TWO_CHAINS);
  const char *before = print_brief(f, module);
  folded_t r = fold_module(f, module, "fold,fold,fold", answer);
  assert_int_equal(r.status, MOEC_OK);
  assert_int_equal(r.fake.n_calls, 2);
  assert_text(r.text, before);
}

static void other_failures_end_the_compilation(void **state) {
  fixture_t *f = *state;
  const moec_status_t answer[4] = {MOEC_E_CODEGEN};
  folded_t r = fold_module(f, assert_parses(f, TWO_CHAINS), "fold", answer);
  assert_int_equal(r.status, MOEC_E_CODEGEN);
  assert_int_equal(r.fake.n_calls, 1);
}

static void folding_again_finds_nothing(void **state) {
  fixture_t *f = *state;
  folded_t r =
      fold_module(f, assert_parses(f, TWO_CHAINS), "fold,dce,fold,dce", NULL);
  assert_int_equal(r.status, MOEC_OK);
  assert_int_equal(r.fake.n_calls, 1);
}

static void nothing_is_folded_without_an_evaluator(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = assert_parses(f, TWO_CHAINS);
  const char *before = print_brief(f, module);
  assert_int_equal(run_passes(f, module, "fold", -1), MOEC_OK);
  assert_text(print_brief(f, module), before);
}

static void rewrites_are_counted(void **state) {
  fixture_t *f = *state;
  for (long limit = 0; limit < 3; limit++) {
    ir_module_t *module = assert_parses(f, TWO_CHAINS);
    fake_t fake = {.base = {fake_evaluate}, .arena = f->arena};
    module->evaluator = &fake.base;
    assert_int_equal(run_passes(f, module, "fold", limit), MOEC_OK);
    long n = 0;
    for (ir_op_t *op = module->first->body.first; op != NULL; op = op->next)
      n += op->code == OP_CONSTANT;
    assert_int_equal(n, 2 + limit);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(last_of_a_chain_becomes_a_constant),
      TEST(value_used_inside_and_outside_is_asked_for_too),
      TEST(only_used_results_of_an_operation_are_asked_for),
      TEST(constant_result_of_the_model_is_folded),
      TEST(counting_leads_to_folding_but_is_not_folded),
      TEST(sizes_that_vary_are_not_constant),
      TEST(attributes_that_vary_are_not_constant),
      TEST(operations_with_effects_stay),
      TEST(unused_operations_are_not_evaluated),
      TEST(views_that_products_read_through_stay),
      TEST(views_that_would_be_stored_in_a_run_are_folded),
      TEST(reshape_of_a_view_is_folded),
      TEST(large_weights_are_not_copied_by_views),
      TEST(widened_weights_stay_narrow),
      TEST(large_result_of_little_is_left_to_the_run),
      TEST(little_that_takes_much_is_left_to_the_run),
      TEST(doubling_ends_at_the_limit),
      TEST(results_of_a_batch_are_limited),
      TEST(search_for_constants_is_linear),
      TEST(what_fails_is_left_out_the_second_time),
      TEST(nothing_is_folded_after_two_failures),
      TEST(other_failures_end_the_compilation),
      TEST(folding_again_finds_nothing),
      TEST(nothing_is_folded_without_an_evaluator),
      TEST(rewrites_are_counted),
  };
  return cmocka_run_group_tests_name("passes/fold", tests, NULL, NULL);
}
