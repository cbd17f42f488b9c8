/* What the text form looks like beyond what reading it back shows. */
#include <locale.h>
#include <math.h>

#include "ir/literal.h"
#include "tests/ir/ir_support.h"

static const char *double_text(fixture_t *f, double x) {
  text_t text;
  text_init(&text, f->arena);
  literal_print_double(&text, x);
  return text.data;
}

static void doubles_are_short_and_exact(void **state) {
  fixture_t *f = *state;
  assert_text(double_text(f, 0.1), "0.1");
  assert_text(double_text(f, 3), "3.0");
  assert_text(double_text(f, -0.0), "-0.0");
  assert_text(double_text(f, 1e100), "1e+100");
  assert_text(double_text(f, 1.0 / 3), "0.33333333333333331");
  assert_text(double_text(f, 123456789), "123456789.0");
  assert_text(double_text(f, -(double)INFINITY), "-inf");
  assert_text(double_text(f, (double)NAN), "nan");
  uint64_t bits = 1;
  for (unsigned i = 0; i < 20000; i++) {
    double x, y;
    bits = bits * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    memcpy(&x, &bits, sizeof x);
    if (!isfinite(x)) continue;
    const char *text = double_text(f, x);
    assert_true(literal_read_double(text, strlen(text), &y));
    assert_memory_equal(&x, &y, sizeof x);
  }
}

static void numbers_do_not_follow_the_locale(void **state) {
  fixture_t *f = *state;
  static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"};
  bool set = false;
  for (unsigned i = 0; i < 3 && !set; i++)
    set = setlocale(LC_NUMERIC, names[i]) != NULL;
  double x;
  assert_text(double_text(f, 2.5), "2.5");
  assert_true(literal_read_double("2.5", 3, &x));
  assert_true(x == 2.5);
  setlocale(LC_NUMERIC, "C");
  if (!set) print_message("SKIPPED: no locale with another decimal point\n");
}

static void only_decimal_numbers_are_read(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "", "x", "1x", "0x1p3", "inf", "nan", "1e5e", "1 ", "--1", "1e400", "."};
  double x;
  for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    assert_false(literal_read_double(wrong[i], strlen(wrong[i]), &x));
  assert_true(literal_read_double("-1.5e-3;", 7, &x)); /* length counts */
  assert_true(x == -1.5e-3);
}

static void strings_are_safe_for_terminals(void **state) {
  fixture_t *f = *state;
  text_t text;
  text_init(&text, f->arena);
  literal_print_string(&text, "a\"\\\n\t\x1b[31m\xe2\x80\xae~");
  assert_text(text.data, "\"a\\\"\\\\\\n\\x09\\x1b[31m\\xe2\\x80\\xae~\"");
}

static void one_operation_takes_one_line(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = assert_parses(f,
                                      "kernel @k(%0: i64[]) {\n"
                                      "  %1 = fold(%0, %0, %0) (%2: i64[], "
                                      "%3: i64[]) {\n"
                                      "    yield(%2)\n"
                                      "  }\n"
                                      "  return()\n"
                                      "}\n");
  text_t text;
  text_init(&text, f->arena);
  ir_renumber(module->first);
  ir_print_op(module->first->body.first, &text);
  assert_text(text.data,
              "%1 = fold(%0, %0, %0) (%2: i64[], %3: i64[]) {...} : i64[]");
}

static void large_constants_are_digests(void **state) {
  fixture_t *f = begin(state, 0, NULL);
  static const int8_t bytes[65] = {1, 2, 3};
  const expr_t *dim = expr_const(f->module->exprs, 65);
  ir_type_t type = ir_tensor_type(DT_I8, 1, &dim);
  ir_value_t *x = ir_tensor(&f->b, &type, bytes, sizeof bytes);
  text_t text;
  text_init(&text, f->arena);
  ir_renumber(f->func);
  ir_print_op(x->def, &text);
  ir_data_t *data = ir_get_data(x->def, ATTR_CONSTANT_data);
  assert_text(text.data,
              arena_printf(f->arena,
                           "%%0 = constant {dtype = i8, shape = [65], data = "
                           "digest(0x%016llx, 65)} : i8[65]",
                           (unsigned long long)ir_data_digest(data)));
}

static void absent_operands_are_underscores(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = assert_parses(
      f,
      "func @f(%0: f32[4]) {\n"
      "  %1 = pad(%0, _) {before = [1], after = [0], mode = \"edge\"}\n"
      "  return(%1)\n"
      "}\n");
  assert_text(print_brief(f, module),
              "func @f(%0: f32[4]) {\n"
              "  %1 = pad(%0, _) {before = [1], after = [0], mode = \"edge\"} "
              ": f32[5]\n"
              "  return(%1)\n"
              "}\n");
}

static void functions_without_name_or_end_can_be_shown(void **state) {
  fixture_t *f = begin(state, 0, NULL);
  text_t text;
  text_init(&text, f->arena);
  f->func->name = NULL;
  ir_print_func(f->func, &text);
  ir_op_t *op = ir_op_create(f->module, OP_NEG, (ir_loc_t){0}, 1,
                             &(ir_value_t *){NULL}, 1);
  ir_append(&f->func->body, op); /* without types, for messages about bugs */
  ir_print_func(f->func, &text);
  assert_text(text.data,
              "func @\"\"() {\n"
              "}\n"
              "func @\"\"() {\n"
              "  %0 = neg(_) : none[]\n"
              "}\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(doubles_are_short_and_exact),
      TEST(numbers_do_not_follow_the_locale),
      TEST(only_decimal_numbers_are_read),
      TEST(strings_are_safe_for_terminals),
      TEST(one_operation_takes_one_line),
      TEST(large_constants_are_digests),
      TEST(absent_operands_are_underscores),
      TEST(functions_without_name_or_end_can_be_shown),
  };
  return cmocka_run_group_tests_name("ir/print", tests, NULL, NULL);
}
