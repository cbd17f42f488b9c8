/* Formulas and costs of experts. Regions are written by hand: %10 is the row,
 * %11.. are the expert's own numbers. */
#include "passes/moe_describe.h"
#include "tests/passes/pass_support.h"

/* The first moe.experts of a text. */
static ir_op_t *experts_of(fixture_t *f, const char *text) {
  ir_module_t *module = assert_parses(f, text);
  for (ir_op_t *op = ir_walk_first(module->first); op != NULL;
       op = ir_walk_next(op))
    if (op->code == OP_MOE_EXPERTS) return op;
  fail_msg("no moe.experts in\n%s", text);
  return NULL;
}

/* Three experts with matrices 4x6, 4x6, 6x4, a bias of 6 and one of 4, and one
 * matrix 4x12; %16 to %19 are the numbers 1, 0.5, 7, 0. */
static ir_op_t *parse_region(fixture_t *f, const char *body) {
  return experts_of(
      f, arena_printf(
             f->arena,
             "func @f(%%0: i64[2*T], %%1: f32[T,4], %%2: f32[3,4,6], %%3: "
             "f32[3,4,6], %%4: f32[3,6,4], %%5: f32[3,6], %%6: f32[3,4], %%7: "
             "f32[3,4,12]) {\n"
             "%%16 = constant {dtype = f32, shape = [], data = [1.0]}\n"
             "%%17 = constant {dtype = f32, shape = [], data = [0.5]}\n"
             "%%18 = constant {dtype = f32, shape = [], data = [7.0]}\n"
             "%%19 = constant {dtype = f32, shape = [], data = [0.0]}\n"
             "%%8 = moe.experts(%%0, _, %%1, %%2, %%3, %%4, %%5, %%6, %%7) "
             "{experts = 3, k = 2, tokens = T, token_values = 1, banks = [6], "
             "structure = [0, 0, 0], position = [0, 1, 2], rows = n} (%%10: "
             "f32[n,4], %%11: f32[4,6], %%12: f32[4,6], %%13: f32[6,4], %%14: "
             "f32[6], %%15: f32[4], %%9: f32[4,12]) {\n%s}\nreturn(%%8)\n}\n",
             body));
}

static void check_formula(fixture_t *f, const char *body, const char *want,
                          const char *file, int line) {
  const moe_region_t region = moe_region_of(parse_region(f, body), 0);
  const char *got = moe_describe_region(f->arena, &region);
  if (strcmp(got, want) == 0) return;
  print_error("got  %s\nwant %s\nof\n%s", got, want, body);
  _fail(file, line);
}
#define assert_formula(f, body, want) \
  check_formula((f), (body), (want), __FILE__, __LINE__)

static void plain_experts_are_told(void **state) {
  fixture_t *f = *state;
  assert_formula(f, "yield(%10)\n", "identity");
  assert_formula(f,
                 "%20 = expand(%19) {shape = [n, 4]}\n"
                 "yield(%20)\n",
                 "zero");
  assert_formula(f, "%20 = matmul(%10, %11)\nyield(%20)\n", "x W, 4 -> 6");
  assert_formula(f, "%20 = matmul(%10, %11)\n%21 = add(%20, %14)\nyield(%21)\n",
                 "x W + b, 4 -> 6");
  assert_formula(f,
                 "%20 = matmul(%10, %11)\n%21 = matmul(%20, %13)\n"
                 "%22 = add(%10, %21)\nyield(%22)\n",
                 "(x W1) W2 + x, 4 -> 6 -> 4");
  assert_formula(f, "%20 = mul(%10, %15)\nyield(%20)\n", "x * c");
}

static void activations_are_told_by_name(void **state) {
  fixture_t *f = *state;
  assert_formula(f,
                 "%20 = matmul(%10, %11)\n%21 = max(%20, %19)\n"
                 "%22 = matmul(%21, %13)\nyield(%22)\n",
                 "relu(x W1) W2, 4 -> 6 -> 4");
  assert_formula(f,
                 "%20 = matmul(%10, %11)\n%21 = max(%20, %19)\n"
                 "%22 = mul(%21, %21)\nyield(%22)\n",
                 "relu^2(x W), 4 -> 6");
  assert_formula(f,
                 "%20 = matmul(%10, %11)\n%21 = add(%20, %14)\n"
                 "%22 = tanh(%21)\nyield(%22)\n",
                 "tanh(x W + b), 4 -> 6");
  assert_formula(f,
                 "%20 = neg(%10)\n%21 = exp(%20)\n%22 = add(%21, %16)\n"
                 "%23 = div(%10, %22)\nyield(%23)\n",
                 "silu(x)");
  assert_formula(f,
                 "%20 = neg(%10)\n%21 = exp(%20)\n%22 = add(%16, %21)\n"
                 "%23 = div(%16, %22)\n%24 = mul(%23, %10)\nyield(%24)\n",
                 "silu(x)");
  assert_formula(f, "%20 = mul(%10, %18)\nyield(%20)\n", "7 * x");
}

static void gelu_is_found_in_either_form(void **state) {
  fixture_t *f = *state;
  static const char erf[] =
      "%30 = constant {dtype = f32, shape = [], data = [1.4142135]}\n"
      "%31 = div(%10, %30)\n%32 = erf(%31)\n%33 = add(%32, %16)\n";
  assert_formula(f,
                 arena_printf(f->arena,
                              "%s%%34 = mul(%%10, %%33)\n"
                              "%%35 = mul(%%34, %%17)\nyield(%%35)\n",
                              erf),
                 "gelu(x)");
  assert_formula(f,
                 arena_printf(f->arena,
                              "%s%%34 = mul(%%33, %%17)\n"
                              "%%35 = mul(%%10, %%34)\nyield(%%35)\n",
                              erf),
                 "gelu(x)");
  assert_formula(
      f,
      "%30 = constant {dtype = f32, shape = [], data = [0.7978846]}\n"
      "%31 = constant {dtype = f32, shape = [], data = [0.044715]}\n"
      "%32 = mul(%10, %10)\n%33 = mul(%32, %10)\n%34 = mul(%33, %31)\n"
      "%35 = add(%10, %34)\n%36 = mul(%35, %30)\n%37 = tanh(%36)\n"
      "%38 = add(%37, %16)\n%39 = mul(%38, %10)\n%40 = mul(%39, %17)\n"
      "yield(%40)\n",
      "gelu_tanh(x)");
  /* Another number under the root is another function. */
  assert_formula(f,
                 "%31 = mul(%10, %17)\n%32 = erf(%31)\n%33 = add(%32, %16)\n"
                 "%34 = mul(%10, %33)\n%35 = mul(%34, %17)\nyield(%35)\n",
                 "0.5 * x * (erf(0.5 * x) + 1)");
}

static void gated_experts_name_their_matrices(void **state) {
  fixture_t *f = *state;
  assert_formula(f,
                 "%20 = matmul(%10, %11)\n%21 = sigmoid(%20)\n"
                 "%22 = mul(%20, %21)\n%23 = matmul(%10, %12)\n"
                 "%24 = mul(%23, %22)\n%25 = matmul(%24, %13)\nyield(%25)\n",
                 "(silu(x W_gate) * (x W_up)) W_down, 4 -> 6 -> 4");
  /* Halves of one product. */
  assert_formula(f,
                 "%20 = matmul(%10, %9)\n"
                 "%21 = slice(%20) {start = [0, 0], length = [n, 6], step = "
                 "[1, 1]}\n%22 = slice(%20) {start = [0, 6], length = [n, 6], "
                 "step = [1, 1]}\n%23 = sigmoid(%21)\n%24 = mul(%21, %23)\n"
                 "%25 = mul(%24, %22)\n%26 = matmul(%25, %13)\n"
                 "%27 = add(%26, %15)\nyield(%27)\n",
                 "(silu(x W_gate) * (x W_up)) W_down + b, 4 -> 6 -> 4");
  /* Every other column of one product and its bias. */
  assert_formula(f,
                 "%20 = matmul(%10, %9)\n%30 = add(%20, %18)\n"
                 "%21 = slice(%30) {start = [0, 0], length = [n, 6], step = "
                 "[1, 2]}\n%22 = slice(%30) {start = [0, 1], length = [n, 6], "
                 "step = [1, 2]}\n%23 = sigmoid(%21)\n%24 = mul(%21, %23)\n"
                 "%25 = mul(%24, %22)\n%26 = matmul(%25, %13)\nyield(%26)\n",
                 "(silu(x W_gate + 7) * (x W_up + 7)) W_down, 4 -> 6 -> 4");
  /* With limits and a slope, as GPT-OSS has it. */
  assert_formula(
      f,
      "%30 = constant {dtype = f32, shape = [], data = [1.702]}\n"
      "%31 = constant {dtype = f32, shape = [], data = [-7.0]}\n"
      "%20 = matmul(%10, %11)\n%21 = min(%20, %18)\n%22 = mul(%21, %30)\n"
      "%23 = sigmoid(%22)\n%24 = mul(%21, %23)\n%25 = matmul(%10, %12)\n"
      "%26 = add(%25, %14)\n%27 = max(%26, %31)\n%28 = min(%27, %18)\n"
      "%29 = add(%28, %16)\n%32 = mul(%24, %29)\n%33 = matmul(%32, %13)\n"
      "yield(%33)\n",
      "(silu(min(x W_gate, 7), alpha 1.702) * (clip(x W_up + b, -7, 7) + 1)) "
      "W_down, 4 -> 6 -> 4");
}

static void what_has_no_short_formula_is_listed(void **state) {
  fixture_t *f = *state;
  text_t body;
  text_init(&body, f->arena);
  text_printf(&body, "%%20 = matmul(%%10, %%11)\n");
  for (int i = 20; i < 60; i++)
    text_printf(&body, "%%%d = sin(%%%d)\n%%%d = cos(%%%d)\n", 2 * i - 19,
                2 * i - 20, 2 * i - 18, 2 * i - 19);
  text_printf(&body, "yield(%%100)\n");
  const moe_region_t region = moe_region_of(parse_region(f, body.data), 0);
  const char *got = moe_describe_region(f->arena, &region);
  assert_memory_equal(got, "81 operations: matmul, sin, cos, sin", 36);
  assert_in_range(strlen(got), 100, 300);
}

/* Each value is used twice by the next one: 2^60 paths. */
static void sharing_costs_no_time(void **state) {
  fixture_t *f = *state;
  text_t body;
  text_init(&body, f->arena);
  text_printf(&body, "%%20 = matmul(%%10, %%11)\n");
  for (int i = 20; i < 80; i++)
    text_printf(&body, "%%%d = %s(%%%d, %%%d)\n", i + 1, i % 2 ? "mul" : "add",
                i, i);
  text_printf(&body, "yield(%%80)\n");
  const moe_region_t region = moe_region_of(parse_region(f, body.data), 0);
  const char *got = moe_describe_region(f->arena, &region);
  assert_memory_equal(got, "61 operations: matmul, add, mul", 31);
}

static void convolutions_tell_their_windows(void **state) {
  fixture_t *f = *state;
  const ir_op_t *op = experts_of(
      f,
      "func @f(%0: i64[T], %1: f32[T,3,H,8], %2: f32[2,5,3,3,3]) {\n"
      "%3 = constant {dtype = f32, shape = [], data = [0.0]}\n"
      "%4 = moe.experts(%0, _, %1, %2) {experts = 2, k = 1, tokens = T, "
      "token_values = 1, banks = [1], structure = [0, 0], position = [0, 1], "
      "rows = n} (%10: f32[n,3,H,8], %11: f32[5,3,3,3]) {\n"
      "%5 = convolve(%10, %11) {out = [H, 8], strides = [1, 1], dilations = "
      "[1, 1], pad_before = [1, 1], input_dilation = [1, 1]}\n"
      "%6 = max(%5, %3)\nyield(%6)\n}\nreturn(%4)\n}\n");
  const moe_region_t region = moe_region_of(op, 0);
  assert_string_equal(moe_describe_region(f->arena, &region),
                      "relu(conv3x3(x)), 3 -> 5");
  const moe_cost_t cost = moe_region_cost(op->module, &region);
  text_t text;
  text_init(&text, f->arena);
  expr_print(cost.multiply_adds, &text); /* 5 * H * 8 * 27 */
  text_printf(&text, ", ");
  expr_print(cost.elementwise, &text);
  text_printf(&text, ", ");
  expr_print(cost.weight_bytes, &text);
  assert_string_equal(text.data, "1080*H, 40*H, 540");
}

static void assert_is(const expr_t *e, int64_t want) {
  int64_t got = -1;
  assert_non_null(e);
  assert_true(expr_is_const(e, &got));
  assert_int_equal(got, want);
}

static void work_is_that_of_k_experts_or_of_all(void **state) {
  fixture_t *f = *state;
  const ir_op_t *op = parse_region(
      f,
      "%20 = matmul(%10, %11)\n%21 = max(%20, %19)\n%22 = matmul(%21, %13)\n"
      "yield(%22)\n");
  moe_report_t *report = moe_report_create(f->arena);
  moe_layer_t *layer = moe_report_add_layer(report);
  moe_describe_experts(report, layer, op, true);
  assert_int_equal(layer->experts, 3);
  assert_int_equal(layer->k, 2);
  assert_int_equal(layer->n_structures, 1);
  assert_string_equal(layer->structure, "relu(x W1) W2, 4 -> 6 -> 4");
  assert_is(layer->after.multiply_adds, 2 * 48);
  assert_is(layer->after.elementwise, 2 * 6);
  assert_is(layer->after.weight_bytes, 2 * 4 * (3 * 24 + 6 + 4 + 48));
  assert_is(layer->before.multiply_adds, 3 * 48);
  moe_describe_experts(report, layer, op, false);
  assert_is(layer->before.multiply_adds, 2 * 48);
  moe_describe_experts(report, NULL, op, false);
}

static void structures_are_counted(void **state) {
  fixture_t *f = *state;
  const ir_op_t *op = experts_of(
      f,
      "func @f(%0: i64[R], %1: i64[R], %2: f32[T,4], %3: f32[R,1], %4: "
      "f32[3,4,4]) {\n%7 = moe.experts(%0, %1, %2, %3, %4) {experts = 5, "
      "tokens = T, token_values = 1, route_values = 1, banks = [1, 0], "
      "structure = [0, 1, 0, 0, -1], position = [2, 0, 1, 0, 0], rows = n} "
      "(%8: f32[n,4], %9: f32[n,1], %10: f32[4,4]) {\n%12 = mul(%8, %9)\n"
      "%13 = matmul(%12, %10)\nyield(%13)\n} (%14: f32[n,4], %15: f32[n,1]) "
      "{\nyield(%14)\n}\nreturn(%7)\n}\n");
  moe_report_t *report = moe_report_create(f->arena);
  moe_layer_t *layer = moe_report_add_layer(report);
  moe_describe_experts(report, layer, op, true);
  assert_string_equal(layer->structure,
                      "(x * s) W, 4 -> 4 of 3 experts; identity of 1 expert; "
                      "zero of 1 expert");
  assert_int_equal(layer->n_structures, 3);
  assert_int_equal(layer->k, 0);
  assert_null(layer->after.multiply_adds);
  assert_is(layer->before.multiply_adds, 48);
}

/* Two of three kinds: the costliest ones, each once, with weights of their own.
 */
static void the_costliest_experts_count_once(void **state) {
  fixture_t *f = *state;
  const ir_op_t *op = experts_of(
      f,
      "func @f(%0: i64[2*T], %1: f32[T,4]) {\n%2 = constant {dtype = f32, "
      "shape = [4,4], data = digest(1, 64)}\n%3 = constant {dtype = f32, shape "
      "= [4,6], data = digest(2, 96)}\n%4 = constant {dtype = f32, shape = "
      "[6,4], data = digest(3, 96)}\n%7 = moe.experts(%0, _, %1) {experts = 3, "
      "k = 2, tokens = T, token_values = 1, banks = [0, 0, 0], structure = [0, "
      "1, 2], position = [0, 0, 0], rows = n} (%8: f32[n,4]) {\n%9 = "
      "matmul(%8, %2)\nyield(%9)\n} (%10: f32[n,4]) {\n%11 = matmul(%10, %3)\n"
      "%12 = matmul(%11, %4)\nyield(%12)\n} (%13: f32[n,4]) {\n%14 = "
      "matmul(%13, %2)\n%15 = matmul(%14, %2)\nyield(%15)\n}\nreturn(%7)\n}\n");
  moe_report_t *report = moe_report_create(f->arena);
  moe_layer_t *layer = moe_report_add_layer(report);
  moe_describe_experts(report, layer, op, true);
  assert_is(layer->after.multiply_adds, 48 + 32);
  assert_is(layer->after.weight_bytes, 192 + 64);
  assert_is(layer->before.multiply_adds, 16 + 48 + 32);
  assert_is(layer->before.weight_bytes, 64 + 192 + 64);
}

static void sizes_too_large_to_count_are_unknown(void **state) {
  fixture_t *f = *state;
  const ir_op_t *op = experts_of(
      f,
      "func @f(%0: i64[T], %1: f32[T,2000000000,2000000000], %2: "
      "f32[1,2000000000,2000000000]) {\n%3 = moe.experts(%0, _, %1, %2) "
      "{experts = 1, k = 1, tokens = T, token_values = 1, banks = [1], "
      "structure = [0], position = [0], rows = n} (%4: "
      "f32[n,2000000000,2000000000], %5: f32[2000000000,2000000000]) {\n"
      "%6 = matmul(%4, %5)\nyield(%6)\n}\nreturn(%3)\n}\n");
  const moe_region_t region = moe_region_of(op, 0);
  const moe_cost_t cost = moe_region_cost(op->module, &region);
  assert_null(cost.multiply_adds);
  assert_null(cost.weight_bytes);
  assert_is(cost.elementwise, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(plain_experts_are_told),
      TEST(activations_are_told_by_name),
      TEST(gelu_is_found_in_either_form),
      TEST(gated_experts_name_their_matrices),
      TEST(what_has_no_short_formula_is_listed),
      TEST(sharing_costs_no_time),
      TEST(convolutions_tell_their_windows),
      TEST(work_is_that_of_k_experts_or_of_all),
      TEST(structures_are_counted),
      TEST(the_costliest_experts_count_once),
      TEST(sizes_too_large_to_count_are_unknown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
