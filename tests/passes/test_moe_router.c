/* Routers in words; what is understood of those that stay as they are. */
#include "passes/moe_router.h"
#include "tests/passes/pass_support.h"

/* What is said of the router of the function's two results. */
static const char *words_of(fixture_t *f, const char *text, bool want) {
  ir_module_t *module = assert_parses(f, text);
  pass_ctx_t ctx = {.module = module,
                    .scratch = f->scratch,
                    .diag = &f->diag,
                    .options = &f->options};
  const ir_op_t *last = module->first->body.last;
  moe_router_t router;
  bool found = moe_router_match(&ctx, ir_in(last, 0), ir_in(last, 1), &router);
  assert_int_equal(found, want);
  return moe_router_words(f->arena, &router);
}

static void softmax_and_sum(void **state) {
  assert_text(words_of(*state,
                       "func @f(%0: f32[T,64]) {\n"
                       "  %1 = softmax(%0) {axis = 1}\n"
                       "  %2, %3 = topk(%1) {axis = 1, k = 4}\n"
                       "  %4 = reduce_sum(%2) {axes = [1]}\n"
                       "  %5 = div(%2, %4)\n"
                       "  return(%3, %5)\n"
                       "}\n",
                       true),
              "softmax over 64, top 4, weights divided by their sum");
}

static void sigmoid_with_bias_and_scale(void **state) {
  assert_text(
      words_of(*state,
               "func @f(%0: f32[T,8], %1: f32[8]) {\n"
               "  %2 = constant {dtype = f32, shape = [], data = [1.0]}\n"
               "  %3 = constant {dtype = f32, shape = [], data = [2.5]}\n"
               "  %4 = constant {dtype = f32, shape = [], data = [0.001]}\n"
               "  %5 = neg(%0)\n"
               "  %6 = exp(%5)\n"
               "  %7 = add(%6, %2)\n"
               "  %8 = div(%2, %7)\n"
               "  %9 = add(%8, %1)\n"
               "  %10, %11 = topk(%9) {axis = 1, k = 2}\n"
               "  %12 = gather_elements(%8, %11) {axis = 1}\n"
               "  %13 = reduce_sum(%12) {axes = [1]}\n"
               "  %14 = add(%13, %4)\n"
               "  %15 = div(%12, %14)\n"
               "  %16 = mul(%15, %3)\n"
               "  return(%11, %16)\n"
               "}\n",
               true),
      "sigmoid over 8, selection bias, top 2, weights divided by their sum "
      "plus 0.001, times 2.5");
}

static void selection_alone_is_told(void **state) {
  assert_text(words_of(*state,
                       "func @f(%0: f32[T,8], %1: f32[T,2]) {\n"
                       "  %2, %3 = topk(%0) {axis = 1, k = 2}\n"
                       "  return(%3, %1)\n"
                       "}\n",
                       false),
              "top 2 of 8 given scores");
}

static void nothing_understood(void **state) {
  assert_text(words_of(*state,
                       "func @f(%0: i64[T,2], %1: f32[T,2]) {\n"
                       "  return(%0, %1)\n"
                       "}\n",
                       false),
              "given experts and weights");
}

/* Weights that are not of the same tokens. */
static void weights_of_other_shape_are_refused(void **state) {
  words_of(*state,
           "func @f(%0: f32[T,8], %1: f32[S,8]) {\n"
           "  %2, %3 = topk(%0) {axis = 1, k = 2}\n"
           "  %4, %5 = topk(%1) {axis = 1, k = 2}\n"
           "  return(%3, %4)\n"
           "}\n",
           false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(softmax_and_sum),
      TEST(sigmoid_with_bias_and_scale),
      TEST(selection_alone_is_told),
      TEST(nothing_understood),
      TEST(weights_of_other_shape_are_refused),
  };
  return cmocka_run_group_tests_name("passes/moe_router", tests, NULL, NULL);
}
