/* What RNN, GRU and LSTM become, and what they refuse; the numbers are checked
 * by model cases and ONNX's own. */
#include "tests/frontend/model_text.h"

#define WEIGHTS "input w f32[1,16,3]\ninput r f32[1,16,4]\n"
#define LSTM                                \
  "opset 14\ninput x f32[S,N,3]\n" WEIGHTS  \
  "input b f32[1,32]\ninput len i32[N]\n"   \
  "input h f32[1,N,4]\ninput p f32[1,12]\n" \
  "output y\n"

/* Operations of a kind in front of and in loops. */
static unsigned count_ops(const import_fixture_t *f, ir_opcode_t code,
                          bool inside) {
  unsigned n = 0;
  for (ir_op_t *op = ir_walk_first(f->module->first); op != NULL;
       op = ir_walk_next(op))
    n += op->code == code && (op->parent->owner != NULL) == inside;
  return n;
}

static void inputs_are_projected_in_front_of_the_loop(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(LSTM "node LSTM(x, w, r, b, len, h, h, p) -> y\n");
  assert_int_equal(count_ops(f, OP_WHILE, false), 1);
  assert_int_equal(count_ops(f, OP_MATMUL, false), 1);
  assert_int_equal(count_ops(f, OP_MATMUL, true), 1);
  const ir_op_t *last = f->module->first->body.last;
  assert_string_equal(ir_type_str(f->arena, &ir_in(last, 0)->type),
                      "f32[S,1,N,4]");
}

static void both_directions_share_a_loop(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(
      "opset 22\ninput x bf16[N,S,3]\ninput w bf16[2,12,3]\n"
      "input r bf16[2,12,4]\ninput b bf16[2,24]\n"
      "node GRU(x, w, r, b) -> (y, last) {direction = \"bidirectional\", "
      "linear_before_reset = 1, layout = 1}\noutput y\noutput last\n");
  assert_int_equal(count_ops(f, OP_WHILE, false), 1);
  assert_int_equal(count_ops(f, OP_MATMUL, false), 1);
  assert_int_equal(count_ops(f, OP_MATMUL, true), 2);
  const ir_op_t *last = f->module->first->body.last;
  assert_string_equal(ir_type_str(f->arena, &ir_in(last, 0)->type),
                      "bf16[N,S,2,4]");
  assert_string_equal(ir_type_str(f->arena, &ir_in(last, 1)->type),
                      "bf16[N,2,4]");
}

static void few_steps_need_no_loop(void **state) {
  import_fixture_t *f = *state;
  ACCEPT("opset 14\ninput x f32[4,N,3]\n" WEIGHTS
         "node LSTM(x, w, r) -> y\noutput y\n");
  assert_int_equal(count_ops(f, OP_WHILE, false), 0);
  assert_int_equal(count_ops(f, OP_MATMUL, false), 5);
  ACCEPT("opset 14\ninput x f32[5,N,3]\n" WEIGHTS
         "node LSTM(x, w, r) -> y\noutput y\n");
  assert_int_equal(count_ops(f, OP_WHILE, false), 1);
}

static void operands_have_sizes_that_agree(void **state) {
  INVALID(
      "opset 14\ninput x f32[S,N,3]\ninput w f32[1,16,5]\n"
      "input r f32[1,16,4]\nnode LSTM(x, w, r) -> y\noutput y\n",
      "dimensions of W");
  INVALID("opset 14\ninput x f32[S,N,3]\n" WEIGHTS
          "node GRU(x, w, r) -> y\noutput y\n",
          "dimensions of W");
  INVALID("opset 14\ninput x f32[S,N,3]\n" WEIGHTS
          "input b f32[1,16]\nnode LSTM(x, w, r, b) -> y\noutput y\n",
          "dimensions of B");
  INVALID(LSTM "node LSTM(x, w, r) -> y {direction = \"bidirectional\"}\n",
          "dimensions of W");
  INVALID(LSTM "node LSTM(x, w, r) -> y {hidden_size = 5}\n",
          "hidden_size and the width of R");
  INVALID("opset 14\ninput x f32[S,N,3]\n" WEIGHTS
          "input h f32[N,4]\nnode LSTM(x, w, r, _, _, h) -> y\noutput y\n",
          "initial_h");
  INVALID("opset 14\ninput x f32[S,2,3]\n" WEIGHTS
          "input n i32[3]\nnode LSTM(x, w, r, _, n) -> y\noutput y\n",
          "dimensions of sequence_lens");
}

static void operands_have_the_type_of_the_input(void **state) {
  INVALID("opset 14\ninput x i32[S,N,3]\n" WEIGHTS
          "node LSTM(x, w, r) -> y\noutput y\n",
          "X is i32[S,N,3]");
  INVALID("opset 14\ninput x f16[S,N,3]\n" WEIGHTS
          "node LSTM(x, w, r) -> y\noutput y\n",
          "input 1 is f32[1,16,3], X is f16[S,N,3]");
  INVALID("opset 14\ninput x f32[S,N,3]\n" WEIGHTS
          "input n f32[N]\nnode LSTM(x, w, r, _, n) -> y\noutput y\n",
          "sequence_lens is f32[N]");
}

static void attributes_are_checked(void **state) {
  INVALID(LSTM "node LSTM(x, w, r) -> y {activations = [\"Tanh\", \"Relu\"]}\n",
          "has 2 names, expected 3");
  INVALID(LSTM
          "node LSTM(x, w, r) -> y "
          "{activations = [\"Tanh\", \"Relu\", \"Tan\"]}\n",
          "there is no activation function \"Tan\"");
  INVALID(LSTM "node LSTM(x, w, r) -> y {clip = -1.0}\n",
          "\"clip\" is -1, expected at least 0");
  INVALID(LSTM "node LSTM(x, w, r) -> y {direction = \"back\"}\n",
          "\"direction\" is \"back\"");
  INVALID(LSTM "node LSTM(x, w, r) -> y {layout = 2}\n",
          "\"layout\" is 2, expected 0 or 1");
  ACCEPT(LSTM
         "node LSTM(x, w, r) -> y "
         "{activations = [\"SIGMOID\", \"tanh\", \"softsign\"]}\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(inputs_are_projected_in_front_of_the_loop),
      TEST(both_directions_share_a_loop),
      TEST(few_steps_need_no_loop),
      TEST(operands_have_sizes_that_agree),
      TEST(operands_have_the_type_of_the_input),
      TEST(attributes_are_checked),
  };
  return cmocka_run_group_tests_name("frontend/recurrent", tests, NULL, NULL);
}
