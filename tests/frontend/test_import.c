/* The import of models: names, order, types, opsets, functions, attributes, and
 * what is said of models that are wrong. Meanings of operators are in
 * test_import_convert.c. */
#include "tests/frontend/model_text.h"

#define HEAD "opset 20\n"

static void inputs_get_symbols_by_their_dimension_names(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[B,4,?,'7]\n"
         "input y f32[B,2*s0]\n"
         "node Identity(x) -> z\noutput z\noutput y\n");
  const ir_region_t *body = &f->module->first->body;
  assert_string_equal(ir_type_str(f->arena, &body->args[0].type),
                      "f32[B,4,x_2,7]");
  assert_string_equal(ir_type_str(f->arena, &body->args[1].type), "f32[B,s0]");
  assert_string_equal(f->module->first->arg_names[1], "y");
  assert_string_equal(f->module->first->result_names[0], "z");
}

static void pins_fix_dimensions(void **state) {
  import_fixture_t *f = *state;
  const onnx_pin_t pins[] = {{"B", 3}, {"x_1", 5}};
  const onnx_import_options_t options = {.n_pins = 2, .pins = pins};
  const char *text =
      HEAD "input x f32[B,?]\nnode Relu(x) -> z\noutput z f32[B,?]\n";
  assert_int_equal(import_bytes_of(f, text, &options), MOEC_OK);
  assert_string_equal(
      ir_type_str(f->arena, &f->module->first->body.args[0].type), "f32[3,5]");
  const onnx_pin_t wrong = {"C", 3};
  const onnx_import_options_t other = {.n_pins = 1, .pins = &wrong};
  assert_int_equal(import_bytes_of(f, text, &other), MOEC_E_USAGE);
}

typedef struct pin_row {
  const char *name;
  int64_t value;
  const char *a, *b, *c; /* types of the inputs; NULL: refused, with ... */
  const char *message, *note;
} pin_row_t;

static void check_pin(import_fixture_t *f, const char *text,
                      const pin_row_t *row) {
  const onnx_pin_t pin = {row->name, row->value};
  const onnx_import_options_t options = {.n_pins = 1, .pins = &pin};
  moec_status_t status = import_bytes_of(f, text, &options);
  if (row->a == NULL) {
    assert_int_equal(status, MOEC_E_USAGE);
    assert_string_equal(f->diag.last->text, row->message);
    if (row->note != NULL)
      assert_string_equal(f->diag.last->notes->text, row->note);
    return;
  }
  assert_int_equal(status, MOEC_OK);
  const char *const want[] = {row->a, row->b, row->c};
  for (unsigned i = 0; i < 3; i++)
    assert_string_equal(
        ir_type_str(f->arena, &f->module->first->body.args[i].type), want[i]);
}

static void pins_name_dimensions_by_name_or_place(void **state) {
  static const pin_row_t rows[] = {
      {"B", 3, "f32[3,4]", "f32[b_0,3]", "f32[3]", NULL, NULL},
      {"c:0", 3, "f32[3,4]", "f32[b_0,3]", "f32[3]", NULL, NULL},
      {"b:-1", 3, "f32[3,4]", "f32[b_0,3]", "f32[3]", NULL, NULL},
      {"b:0", 0, "f32[B,4]", "f32[0,B]", "f32[B]", NULL, NULL},
      {"b_0", 7, "f32[B,4]", "f32[7,B]", "f32[B]", NULL, NULL},
      {"a:1", 4, "f32[B,4]", "f32[b_0,B]", "f32[B]", NULL, NULL},
      {"a:1", 5, NULL, NULL, NULL,
       "dimension \"a:1\" is 4 in the model and cannot be fixed to 5", NULL},
      {"N", 5, NULL, NULL, NULL, "no input has a dimension named \"N\"",
       "there are: B, b:0"},
      {"b:2", 5, NULL, NULL, NULL, "no input has a dimension named \"b:2\"",
       "there are: B, b:0"},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
    check_pin(*state,
              HEAD
              "input a f32[B,4]\ninput b f32[?,B]\ninput c f32[B]\n"
              "node Relu(a) -> z\noutput z\n",
              &rows[i]);
}

static void pins_must_not_contradict_each_other(void **state) {
  import_fixture_t *f = *state;
  const char *text = HEAD "input x f32[B,B]\nnode Relu(x) -> z\noutput z\n";
  const onnx_pin_t same[] = {{"B", 3}, {"x:1", 3}};
  onnx_import_options_t options = {.n_pins = 2, .pins = same};
  assert_int_equal(import_bytes_of(f, text, &options), MOEC_OK);
  const onnx_pin_t different[] = {{"B", 3}, {"x:1", 4}};
  options.pins = different;
  assert_int_equal(import_bytes_of(f, text, &options), MOEC_E_USAGE);
  assert_string_equal(f->diag.last->text,
                      "dimension \"B\" is fixed to 3 and to 4");
}

static void inputs_without_shape_or_type_are_refused(void **state) {
  UNSUPPORTED(HEAD "input x f32\nnode Relu(x) -> z\noutput z\n", "input \"x\"");
  INVALID(HEAD "input x\nnode Relu(x) -> z\noutput z\n", "has no type");
  INVALID(HEAD "input x f32[-1]\nnode Relu(x) -> z\noutput z\n",
          "dimension 0 is -1");
  INVALID(HEAD "input x f32[1]\ninput x f32[1]\nnode Relu(x) -> z\noutput z\n",
          "declared twice");
}

static void inputs_with_initialisers_are_constants(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[2]\ninput w f32[2]\ninit w f32[2] 1 2\n"
         "node Add(x, w) -> z\noutput z\n");
  assert_int_equal(f->module->first->body.n_args, 1);
}

static void unsorted_nodes_are_sorted(void **state) {
  ACCEPT_WITH(HEAD
              "input x f32[2]\n"
              "node Neg(b) -> c\nnode Abs(a) -> b\nnode Relu(x) -> a\n"
              "output c\n",
              "not in topological order");
}

static void cycles_are_named(void **state) {
  INVALID(HEAD
          "input x f32[2]\n"
          "node Add(x, c) -> a\nnode Abs(a) -> b\nnode Neg(b) -> c\n"
          "output c\n",
          "#2 \"\" (Abs)");
  INVALID(HEAD "input x f32[2]\nnode Add(x, a) -> a\noutput a\n", "in a cycle");
}

static void names_must_be_defined_once(void **state) {
  INVALID(HEAD "input x f32[2]\nnode Add(x, w) -> z\noutput z\n",
          "\"w\" is not defined");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\nnode Neg(x) -> z\noutput z\n",
          "\"z\" is defined more than once");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> x\noutput x\n",
          "\"x\" is defined more than once");
  INVALID(HEAD
          "input x f32[2]\ninit w f32[1] 1\ninit w f32[1] 2\n"
          "node Add(x, w) -> z\noutput z\n",
          "\"w\" is defined more than once");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\noutput y\n", "no node");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\noutput z\noutput z\n",
          "declared twice");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\n", "no outputs");
}

static void declared_types_are_compared(void **state) {
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\noutput z i64[2]\n",
          "declared with elements of type i64");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\noutput z f32[2,1]\n",
          "declared with 2 dimensions");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> z\noutput z f32[3]\n",
          "declared with 3 as dimension 0");
  ACCEPT(HEAD "input x f32[B]\nnode Abs(x) -> z\noutput z f32[3]\n");
  INVALID(HEAD
          "input x f32[2]\nvalue y i64[2]\nnode Abs(x) -> y\n"
          "node Abs(y) -> z\noutput z\n",
          "value \"y\" is f32[2]");
  ACCEPT_WITH(HEAD
              "input x f32[2]\nvalue y f32[]\nnode Abs(x) -> y\n"
              "node Abs(y) -> z\noutput z\n",
              "declared with 0 dimensions");
}

static void opsets_are_checked(void **state) {
  const char *rest = "input x f32[2]\nnode Abs(x) -> z\noutput z\n";
  import_fixture_t *f = *state;
  const struct {
    const char *head;
    moec_status_t status;
  } cases[] = {
      {"opset 1\n", MOEC_OK},
      {"opset 7\n", MOEC_OK},
      {"opset 28\n", MOEC_OK},
      {"opset 29\n", MOEC_E_UNSUPPORTED},
      {"opset 0\n", MOEC_E_INVALID_MODEL},
      {"", MOEC_E_INVALID_MODEL},
      {"opset -9223372036854775808\n", MOEC_E_INVALID_MODEL},
      {"opset ai.onnx 13\n", MOEC_OK},
      {"opset 13\nopset ai.onnx 13\n", MOEC_OK},
      {"opset 13\nopset 14\n", MOEC_E_INVALID_MODEL},
      {"opset other 1\n", MOEC_E_INVALID_MODEL},
      {"ir 0\nopset 13\n", MOEC_E_INVALID_MODEL},
      {"ir 2\nopset 13\n", MOEC_E_UNSUPPORTED},
      {"ir 99\nopset 13\n", MOEC_E_UNSUPPORTED},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const char *text = arena_printf(f->arena, "%s%s", cases[i].head, rest);
    moec_status_t status = import_bytes_of(f, text, NULL);
    if (status != cases[i].status)
      fail_msg("\"%s\": status %d, expected %d", cases[i].head, (int)status,
               (int)cases[i].status);
  }
}

static void all_unsupported_operators_are_listed(void **state) {
  import_fixture_t *f = *state;
  const char *text = HEAD
      "input x f32[2]\nnode Foo(x) -> a\nnode Bar(a) -> b\n"
      "node other::Baz(b) -> c\nnode Attention(a, b, b) -> d\noutput d\n"
      "opset other 1\n";
  assert_int_equal(import_bytes_of(f, text, NULL), MOEC_E_UNSUPPORTED);
  assert_int_equal(f->diag.n_errors, 4);
  const char *said = diag_texts(f);
  assert_non_null(strstr(said,
                         "operator Foo is not supported (domain \"\", "
                         "opset 20)"));
  assert_non_null(strstr(said, "#3: operator Baz"));
  assert_non_null(strstr(said, "note: supported since opset 23"));
}

static void errors_do_not_echo(void **state) {
  import_fixture_t *f = *state;
  const char *text = HEAD
      "input x f32[2,3]\nnode Transpose(x) -> a {perm = [0, 0]}\n"
      "node Abs(a) -> b\nnode MatMul(b, a) -> c\noutput c f32[7]\n";
  assert_int_equal(import_bytes_of(f, text, NULL), MOEC_E_INVALID_MODEL);
  assert_int_equal(f->diag.n_errors, 1);
}

static void arities_are_checked(void **state) {
  INVALID(HEAD "input x f32[2]\nnode Add(x) -> z\noutput z\n",
          "1 inputs, expected 2");
  INVALID(HEAD "input x f32[2]\nnode Abs(x, x) -> z\noutput z\n",
          "2 inputs, expected 1");
  INVALID(HEAD "input x f32[2]\nnode Abs(x) -> (z, y)\noutput z\n",
          "2 outputs, expected 1");
  INVALID(HEAD "input x f32[2]\nnode Add(x, _) -> z\noutput z\n",
          "input 1 is missing");
  INVALID(HEAD "input x f32[2]\nnode Where(_, x, x) -> z\noutput z\n",
          "input 0 is missing");
  INVALID(HEAD "input x f32[2]\nnode Max(x, _, x) -> z\noutput z\n",
          "input 1 is missing");
  ACCEPT(HEAD
         "input x f32[2]\ninit m f32[] 1\nnode Clip(x, _, m) -> z\noutput z\n");
  ACCEPT(HEAD "input x f32[2]\nnode Clip(x, _, _) -> z\noutput z\n");
  INVALID(HEAD
          "input x f32[2]\nnode Abs(x) -> z\nnode Abs(x) -> ()\noutput z\n",
          "no outputs");
}

static void attributes_are_checked(void **state) {
  INVALID(HEAD
          "input x f32[2,3]\nnode Softmax(x) -> z {axis = 1.5}\noutput z\n",
          "has type FLOAT, expected INT");
  INVALID(HEAD "input x f32[2,3]\nnode Softmax(x) -> z {axis = 2}\noutput z\n",
          "axis 2 is out of range");
  INVALID(HEAD
          "input x f32[2,3]\n"
          "node Softmax(x) -> z {axis = -9223372036854775808}\noutput z\n",
          "out of range");
  INVALID(HEAD
          "input x f32[2,3]\nnode Softmax(x) -> z {axis = 1, axis = 1}\n"
          "output z\n",
          "\"axis\" occurs twice");
  INVALID(HEAD
          "input x f32[2,3]\nnode Gelu(x) -> z {approximate = \"fast\"}\n"
          "output z\n",
          "expected one of none, tanh");
  INVALID(HEAD "input x f32[2,3]\nnode Elu(x) -> z {alpha = inf}\noutput z\n",
          "not a finite number");
  INVALID(HEAD "input x f32[2,3]\nnode Cast(x) -> z\noutput z\n",
          "required attribute \"to\"");
  INVALID(HEAD "input x f32[2,3]\nnode Cast(x) -> z {to = 99}\noutput z\n",
          "no element type");
  INVALID(HEAD "input x f32[2,3]\nnode Elu(x) -> z {alpha = &a}\noutput z\n",
          "outside a function");
  ACCEPT_WITH(HEAD "input x f32[2,3]\nnode Abs(x) -> z {foo = 1}\noutput z\n",
              "no attribute \"foo\"");
}

static void functions_are_inlined(void **state) {
  MAIN_IS(HEAD
          "opset mine 1\n"
          "function mine::Scale(a, b) -> (c) {alpha = 2.0}\nopset 20\n"
          "node LeakyRelu(a) -> t {alpha = &alpha}\nnode Add(t, b) -> c\nend\n"
          "function mine::Twice(a) -> (c) attrs(by)\nopset 20\nopset mine 1\n"
          "node mine::Scale(a, a) -> t {alpha = &by}\n"
          "node mine::Scale(t, a) -> c\nend\n"
          "input x f32[2]\nnode mine::Twice(x) -> z {by = 0.5}\noutput z\n",
          "%2 = lt(%0, %1) : bool[2]\n"
          "%4 = mul(%3, %0) : f32[2]\n"
          "%5 = select(%2, %4, %0) : f32[2]\n"
          "%6 = add(%5, %0) : f32[2]\n"
          "%8 = lt(%6, %7) : bool[2]\n"
          "%10 = mul(%9, %6) : f32[2]\n"
          "%11 = select(%8, %10, %6) : f32[2]\n"
          "%12 = add(%11, %0) : f32[2]\n"
          "return(%12)\n");
}

static void functions_that_cannot_be_called_are_refused(void **state) {
  INVALID(HEAD
          "opset mine 1\n"
          "function mine::F(a) -> (c)\nopset 20\nopset mine 1\n"
          "node mine::F(a) -> c\nend\n"
          "input x f32[2]\nnode mine::F(x) -> z\noutput z\n",
          "calls itself");
  INVALID(HEAD
          "opset mine 1\n"
          "function mine::F(a) -> (c)\nopset 20\nnode Abs(a) -> c\nend\n"
          "function mine::F(a) -> (c)\nopset 20\nnode Neg(a) -> c\nend\n"
          "input x f32[2]\nnode mine::F(x) -> z\noutput z\n",
          "defined twice");
  INVALID(HEAD
          "opset mine 1\n"
          "function mine::F(a) -> (c)\nopset 20\nnode Abs(a) -> c\nend\n"
          "input x f32[2]\nnode mine::F(x, x) -> z\noutput z\n",
          "2 inputs");
  INVALID(HEAD
          "opset mine 1\n"
          "function mine::F(a) -> (d)\nopset 20\nnode Abs(a) -> c\nend\n"
          "input x f32[2]\nnode mine::F(x) -> z\noutput z\n",
          "output \"d\" of function");
  INVALID(HEAD
          "opset mine 1\n"
          "function mine::F(a) -> (c)\nopset 20\nnode Add(a, b) -> c\nend\n"
          "input x f32[2]\nnode mine::F(x) -> z\noutput z\n",
          "\"b\" is not defined");
  UNSUPPORTED(HEAD
              "opset mine 1\n"
              "function mine::F(a) -> (c)\nopset 20\nnode Foo(a) -> c\nend\n"
              "input x f32[2]\nnode mine::F(x) -> z\noutput z\n",
              "operator Foo");
  ACCEPT(HEAD
         "opset mine 1\n"
         "function mine::F(a) -> (c)\nopset 20\nnode Foo(a) -> c\nend\n"
         "input x f32[2]\nnode Abs(x) -> z\noutput z\n");
}

static void functions_that_grow_without_end_are_limited(void **state) {
  import_fixture_t *f = *state;
  text_t text;
  text_init(&text, f->arena);
  text_printf(&text, HEAD "opset mine 1\n");
  for (int i = 0; i < 40; i++) {
    text_printf(&text, "function mine::F%d(a) -> (c)\nopset 20\nopset mine 1\n",
                i);
    if (i == 0)
      text_printf(&text, "node Abs(a) -> c\nend\n");
    else
      text_printf(&text,
                  "node mine::F%d(a) -> b\nnode mine::F%d(b) -> c\nend\n",
                  i - 1, i - 1);
  }
  text_printf(&text, "input x f32[2]\nnode mine::F39(x) -> z\noutput z\n");
  const onnx_import_options_t options = {.max_nodes = 1000};
  assert_int_equal(import_bytes_of(f, text.data, &options), MOEC_E_LIMIT);
  assert_non_null(strstr(diag_texts(f), "more than 1000 nodes"));
}

static void a_missing_import_of_com_microsoft_is_tolerated(void **state) {
  import_fixture_t *f = *state;
  const char *text =
      HEAD "input x f32[2]\nnode com.microsoft::NoSuch(x) -> z\noutput z\n";
  assert_int_equal(import_bytes_of(f, text, NULL), MOEC_E_UNSUPPORTED);
  assert_non_null(strstr(diag_texts(f), "opset 1 is assumed"));
}

static void a_hundred_thousand_nodes_take_linear_time(void **state) {
  import_fixture_t *f = *state;
  text_t text;
  text_init(&text, f->arena);
  text_printf(&text, HEAD "input x f32[2]\n");
  enum { N = 100000 };
  for (int i = N - 1; i > 0; i--)
    text_printf(&text, "node Abs(v%d) -> v%d\n", i - 1, i);
  text_printf(&text, "node Abs(x) -> v0\noutput v%d\n", N - 1);
  assert_int_equal(import_bytes_of(f, text.data, NULL), MOEC_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(inputs_get_symbols_by_their_dimension_names),
      TEST(pins_fix_dimensions),
      TEST(pins_name_dimensions_by_name_or_place),
      TEST(pins_must_not_contradict_each_other),
      TEST(inputs_without_shape_or_type_are_refused),
      TEST(inputs_with_initialisers_are_constants),
      TEST(unsorted_nodes_are_sorted),
      TEST(cycles_are_named),
      TEST(names_must_be_defined_once),
      TEST(declared_types_are_compared),
      TEST(opsets_are_checked),
      TEST(all_unsupported_operators_are_listed),
      TEST(errors_do_not_echo),
      TEST(arities_are_checked),
      TEST(attributes_are_checked),
      TEST(functions_are_inlined),
      TEST(functions_that_cannot_be_called_are_refused),
      TEST(functions_that_grow_without_end_are_limited),
      TEST(a_missing_import_of_com_microsoft_is_tolerated),
      TEST(a_hundred_thousand_nodes_take_linear_time),
  };
  return cmocka_run_group_tests_name("frontend/import", tests, NULL, NULL);
}
