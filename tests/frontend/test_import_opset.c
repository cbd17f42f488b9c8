/* Operators of opsets before 7, and axes that only a run knows. */
#include "tests/frontend/model_text.h"

static void an_axis_of_a_broadcast_becomes_dimensions(void **state) {
  MAIN_IS(
      "opset 6\ninput x f32[2,3,4]\ninput y f32[3]\n"
      "node Add(x, y) -> z {broadcast = 1, axis = 1}\noutput z\n",
      "%2 = reshape(%1) {shape = [3, 1]} : f32[3,1]\n"
      "%3 = add(%0, %2) : f32[2,3,4]\nreturn(%3)\n");
  MAIN_IS(
      "opset 6\ninput x f32[2,3,4]\ninput y f32[3,4]\n"
      "node Mul(x, y) -> z {broadcast = 1}\noutput z\n",
      "%2 = mul(%0, %1) : f32[2,3,4]\nreturn(%2)\n");
  MAIN_IS(
      "opset 6\ninput x f32[2,3]\ninput y f32[1]\n"
      "node Sub(x, y) -> z {broadcast = 1, axis = 0}\noutput z\n",
      "%2 = sub(%0, %1) : f32[2,3]\nreturn(%2)\n");
}

static void shapes_differ_only_where_a_broadcast_says_so(void **state) {
  INVALID(
      "opset 6\ninput x f32[2,3]\ninput y f32[3]\n"
      "node Add(x, y) -> z\noutput z\n",
      "operands are f32[2,3] and f32[3]");
  INVALID(
      "opset 6\ninput x f32[2,3]\ninput y f32[2,1]\n"
      "node Add(x, y) -> z\noutput z\n",
      "dimensions of an operand");
  INVALID(
      "opset 6\ninput x f32[2,3]\ninput y f32[4]\n"
      "node Add(x, y) -> z {broadcast = 1, axis = 1}\noutput z\n",
      "cannot broadcast");
  INVALID(
      "opset 6\ninput x f32[2,3]\ninput y f32[2,3]\n"
      "node Add(x, y) -> z {broadcast = 1, axis = 1}\noutput z\n",
      "the axis is 1");
  ACCEPT(
      "opset 7\ninput x f32[2,3]\ninput y f32[3]\n"
      "node Add(x, y) -> z\noutput z\n");
}

static void attributes_become_operands(void **state) {
  MAIN_IS(
      "opset 1\ninput x f32[2,3]\n"
      "node Reshape(x) -> z {shape = [3, -1], consumed_inputs = [0]}\n"
      "output z\n",
      "%2 = reshape(%0) {shape = [3, 2]} : f32[3,2]\nreturn(%2)\n");
  ACCEPT(
      "opset 5\ninput x f32[2,3]\ninit n f32[1] 2\ninit a f32[1] 1\n"
      "node Tile(x, n, a) -> z\noutput z f32[2,6]\n");
  ACCEPT(
      "opset 1\ninput x f32[2,5]\ninit s i64[2] 2 3\n"
      "node Split(x, s) -> (y, z) {axis = 1}\noutput y f32[2,2]\n"
      "output z f32[2,3]\n");
  INVALID(
      "opset 6\ninput x f32[2,3]\n"
      "node Reshape(x) -> z {shape = [6]}\noutput z\n",
      "1 inputs");
}

static void old_defaults_hold(void **state) {
  ACCEPT(
      "opset 3\ninput x f32[2,3]\nnode Concat(x, x) -> z\n"
      "output z f32[2,6]\n");
  INVALID("opset 4\ninput x f32[2,3]\nnode Concat(x, x) -> z\noutput z\n",
          "\"axis\" is missing");
  ACCEPT(
      "opset 5\ninput x f32[2]\nnode Cast(x) -> z {to = \"INT64\"}\n"
      "output z i64[2]\n");
  UNSUPPORTED(
      "opset 5\ninput x f32[2]\nnode Cast(x) -> z {to = \"I64\"}\n"
      "output z\n",
      "\"I64\"");
  UNSUPPORTED("opset 1\ninput x f32[2]\nnode Affine(x) -> z\noutput z\n",
              "Affine");
}

#define HEAD "opset 20\n"

static void ranks_follow_from_the_number_of_axes(void **state) {
  ACCEPT(HEAD
         "input x f32[2,3,4]\ninput a i64[2]\n"
         "node ReduceSum(x, a) -> z {keepdims = 0}\noutput z f32[?]\n");
  ACCEPT(HEAD
         "input x f32[2,3,4]\ninput a i64[K]\n"
         "node ReduceSum(x, a) -> z\noutput z f32[?,?,?]\n");
  UNSUPPORTED(HEAD
              "input x f32[2,3,4]\ninput a i64[K]\n"
              "node ReduceSum(x, a) -> z {keepdims = 0}\noutput z\n",
              "number of axes");
  ACCEPT(HEAD
         "input x f32[2,3]\ninput a i64[2]\n"
         "node ReduceMax(x, a) -> z {keepdims = 0}\noutput z f32[]\n");
  INVALID(HEAD
          "input x f32[2]\ninput a i64[2]\n"
          "node ReduceMax(x, a) -> z\noutput z\n",
          "2 axes are named");
  ACCEPT(HEAD
         "input x f32[2,1]\ninput a i64[1]\nnode Squeeze(x, a) -> z\n"
         "output z f32[?]\n");
  ACCEPT(HEAD
         "input x f32[2,1]\ninput a i64[2]\nnode Unsqueeze(x, a) -> z\n"
         "output z f32[?,?,?,?]\n");
  UNSUPPORTED(HEAD
              "input x f32[2,1]\ninput a i64[K]\nnode Squeeze(x, a) -> z\n"
              "output z\n",
              "axes must be constant");
}

static void known_dimensions_stay_when_steps_are_data(void **state) {
  ACCEPT(HEAD
         "input x f32[2,3,4]\ninit one i64[1] 1\ninput step i64[1]\n"
         "node Slice(x, one, one, one, step) -> z\noutput z f32[2,?,4]\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(an_axis_of_a_broadcast_becomes_dimensions),
      TEST(shapes_differ_only_where_a_broadcast_says_so),
      TEST(attributes_become_operands),
      TEST(old_defaults_hold),
      TEST(ranks_follow_from_the_number_of_axes),
      TEST(known_dimensions_stay_when_steps_are_data),
  };
  return cmocka_run_group_tests_name("frontend/import_opset", tests, NULL,
                                     NULL);
}
