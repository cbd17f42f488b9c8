/* Meanings of operators, where shapes and constants decide what is built; the
 * numbers themselves are checked against ONNX's own cases. */
#include "tests/frontend/model_text.h"

#define HEAD "opset 20\n"

static void equal_operands_need_no_check(void **state) {
  MAIN_IS(HEAD
          "input x f32[B,4]\ninput y f32[B,1]\nnode Add(x, y) -> z\noutput z\n",
          "%2 = add(%0, %1) : f32[B,4]\nreturn(%2)\n");
}

static void unknown_broadcasts_are_checked_at_run_time(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[B]\ninput y f32[C]\nnode Add(x, y) -> z\n"
         "node Mul(x, y) -> w\noutput z\noutput w\n");
  unsigned n_checks = 0;
  for (ir_op_t *op = f->module->first->body.first; op != NULL; op = op->next)
    n_checks += op->code == OP_CHECK_EQUAL;
  assert_int_equal(n_checks, 1);
  INVALID(HEAD
          "input x f32[3]\ninput y f32[4]\nnode Add(x, y) -> z\noutput z\n",
          "broadcast");
}

static void a_table_that_is_long_enough_keeps_the_length(void **state) {
  /* min(128, S) and S can only be equal. */
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[S,8]\ninput table f32[128,8]\n"
         "init zero i64[1] 0\n"
         "node Shape(x) -> n {end = 1}\n"
         "node Slice(table, zero, n, zero) -> t\nnode Add(x, t) -> z\n"
         "output z\n");
  const ir_op_t *last = f->module->first->body.last;
  assert_string_equal(ir_type_str(f->arena, &ir_in(last, 0)->type), "f32[S,8]");
}

static void reshape_resolves_0_and_minus_1(void **state) {
  MAIN_IS(HEAD
          "input x f32[B,6,4]\ninit s i64[3] 0 -1 8\n"
          "node Reshape(x, s) -> z\noutput z\n",
          "%2 = reshape(%0) {shape = [B, 3, 8]} : f32[B,3,8]\nreturn(%2)\n");
  MAIN_IS(HEAD
          "input x f32[B,0,4]\ninit s i64[2] 0 7\n"
          "node Reshape(x, s) -> z {allowzero = 1}\noutput z\n",
          "%2 = reshape(%0) {shape = [0, 7]} : f32[0,7]\nreturn(%2)\n");
  INVALID(HEAD
          "input x f32[6]\ninit s i64[2] -1 -1\n"
          "node Reshape(x, s) -> z\noutput z\n",
          "more than one entry that is -1");
  INVALID(HEAD
          "input x f32[6]\ninit s i64[2] 4 -1\n"
          "node Reshape(x, s) -> z\noutput z\n",
          "does not equal");
  INVALID(HEAD
          "input x f32[6]\ninit s i64[2] 0 -1\n"
          "node Reshape(x, s) -> z {allowzero = 1}\noutput z\n",
          "both 0 and -1");
  INVALID(HEAD
          "input x f32[6]\ninit s i64[2] 6 0\n"
          "node Reshape(x, s) -> z\noutput z\n",
          "entry 1 of the shape is 0");
  INVALID(
      HEAD
      "input x f32[6]\ninit s i64[1] 5\nnode Reshape(x, s) -> z\noutput z\n",
      "does not equal");
}

static void reshape_by_run_time_shapes_is_bound(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[B,6]\ninput s i64[2]\n"
         "node Reshape(x, s) -> z\noutput z\n");
  const ir_op_t *last = f->module->first->body.last;
  assert_string_equal(ir_type_str(f->arena, &ir_in(last, 0)->type),
                      "f32[size,size_1]");
  UNSUPPORTED(HEAD
              "input x f32[B,6]\ninput s i64[N]\n"
              "node Reshape(x, s) -> z\noutput z\n",
              "number of elements of the shape is not known");
}

static void slices_are_clamped(void **state) {
  MAIN_IS(HEAD
          "input x f32[10]\ninit s i64[1] -100\ninit e i64[1] 100\n"
          "init a i64[1] 0\ninit t i64[1] 3\n"
          "node Slice(x, s, e, a, t) -> z\noutput z\n",
          "%5 = slice(%0) {start = [0], length = [4], step = [3]} : f32[4]\n"
          "return(%5)\n");
  MAIN_IS(HEAD
          "input x f32[10]\ninit s i64[1] 9223372036854775807\n"
          "init e i64[1] -9223372036854775808\n"
          "init a i64[1] -1\ninit t i64[1] -1\n"
          "node Slice(x, s, e, a, t) -> z\noutput z\n",
          "%5 = slice(%0) {start = [9], length = [10], step = [-1]} : f32[10]\n"
          "return(%5)\n");
  MAIN_IS(HEAD
          "input x f32[N]\ninit s i64[1] -3\ninit e i64[1] 2147483647\n"
          "node Slice(x, s, e) -> z\noutput z\n",
          "%3 = slice(%0) {start = [N - min(3, N)], length = [min(3, N)], "
          "step = [1]} : f32[min(3, N)]\nreturn(%3)\n");
  INVALID(HEAD
          "input x f32[10]\ninit s i64[1] 0\ninit t i64[1] 0\n"
          "node Slice(x, s, s, s, t) -> z\noutput z\n",
          "step of axis 0 is 0");
}

static void slices_of_old_opsets_have_attributes(void **state) {
  MAIN_IS(
      "opset 9\n"
      "input x f32[10,4]\n"
      "node Slice(x) -> z {starts = [1], ends = [-1], axes = [1]}\noutput z\n",
      "%1 = slice(%0) {start = [0, 1], length = [10, 2], step = [1, 1]} : "
      "f32[10,2]\nreturn(%1)\n");
}

static void splits_have_equal_given_or_uneven_parts(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[7]\nnode Split(x) -> (a, b, c) {num_outputs = 3}\n"
         "output a f32[3]\noutput b f32[3]\noutput c f32[1]\n");
  ACCEPT(HEAD
         "input x f32[7]\ninit s i64[2] 5 2\nnode Split(x, s) -> (a, b)\n"
         "output a f32[5]\noutput b f32[2]\n");
  ACCEPT(
      "opset 11\n"
      "input x f32[7]\nnode Split(x) -> (a, b) {split = [0, 7]}\n"
      "output a f32[0]\noutput b f32[7]\n");
  assert_int_equal(f->diag.n_errors, 0);
  INVALID(HEAD
          "input x f32[7]\ninit s i64[2] 5 3\nnode Split(x, s) -> (a, b)\n"
          "output a\n",
          "does not equal");
  INVALID("opset 13\ninput x f32[7]\nnode Split(x) -> (a, b)\noutput a\n",
          "does not equal");
  INVALID(HEAD
          "input x f32[7]\ninit s i64[2] 8 -1\nnode Split(x, s) -> (a, b)\n"
          "output a\n",
          "");
}

static void ranges_of_sizes_are_counted_when_compiling(void **state) {
  MAIN_IS(HEAD
          "input x f32[N,4]\ninit start i64[] 2\ninit step i64[] 3\n"
          "node Size(x) -> n\nnode Range(start, n, step) -> z\noutput z\n",
          "%3 = exprs {values = [4*N], scalar = 1} : i64[]\n"
          "%4 = iota {dtype = i64, n = N + floordiv(N, 3)} : "
          "i64[N + floordiv(N, 3)]\n"
          "%5 = mul(%4, %2) : i64[N + floordiv(N, 3)]\n"
          "%6 = add(%5, %1) : i64[N + floordiv(N, 3)]\nreturn(%6)\n");
  INVALID(
      HEAD
      "init a i64[] 0\ninit b i64[] 5\nnode Range(a, b, a) -> z\noutput z\n",
      "delta is 0");
}

static void ranges_of_data_are_counted_at_run_time(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input a i64[]\ninput b i64[]\ninput d i64[]\n"
         "node Range(a, b, d) -> z\noutput z\n");
  const ir_op_t *last = f->module->first->body.last;
  assert_string_equal(ir_type_str(f->arena, &ir_in(last, 0)->type),
                      "i64[range]");
}

static void squeezing_needs_dimensions_of_1(void **state) {
  MAIN_IS(HEAD "input x f32[1,3,1]\nnode Squeeze(x) -> z\noutput z\n",
          "%1 = reshape(%0) {shape = [3]} : f32[3]\nreturn(%1)\n");
  INVALID(HEAD
          "input x f32[1,3]\ninit a i64[1] 1\nnode Squeeze(x, a) -> z\n"
          "output z\n",
          "does not equal");
  INVALID(HEAD
          "input x f32[1,3]\ninit a i64[2] 0 -2\nnode Squeeze(x, a) -> z\n"
          "output z\n",
          "occurs twice");
  MAIN_IS(
      HEAD
      "input x f32[N]\ninit a i64[1] 0\nnode Squeeze(x, a) -> z\noutput z\n",
      "check_equal {a = N, b = 1, what = \"size of a squeezed dimension\"}\n"
      "%2 = reshape(%0) {shape = []} : f32[]\nreturn(%2)\n");
}

static void topk_larger_than_the_axis_is_rejected(void **state) {
  INVALID(HEAD
          "input x f32[4,8]\ninit k i64[1] 9\nnode TopK(x, k) -> (v, i)\n"
          "output v\n",
          "k = 9");
  INVALID(HEAD
          "input x f32[4,8]\ninit k i64[1] -1\nnode TopK(x, k) -> (v, i)\n"
          "output v\n",
          "k = -1");
  ACCEPT(HEAD
         "input x f32[4,N]\ninput k i64[1]\nnode TopK(x, k) -> (v, i)\n"
         "output v\noutput i\n");
}

static void gemm_scales_and_transposes(void **state) {
  MAIN_IS(HEAD
          "input a f32[K,M]\ninput b f32[K,N]\ninput c f32[N]\n"
          "node Gemm(a, b, c) -> z {transA = 1, alpha = 0.5}\noutput z\n",
          "%3 = transpose(%0) {perm = [1, 0]} : f32[M,K]\n"
          "%4 = matmul(%3, %1) : f32[M,N]\n"
          "%6 = mul(%4, %5) : f32[M,N]\n"
          "%7 = add(%6, %2) : f32[M,N]\nreturn(%7)\n");
  INVALID(
      HEAD
      "input a f32[2,3]\ninput b f32[4,5]\nnode Gemm(a, b) -> z\noutput z\n",
      "does not equal");
  INVALID(
      "opset 9\n"
      "input a f32[2,3]\ninput b f32[3,5]\nnode Gemm(a, b) -> z\noutput z\n",
      "input 2 is missing");
}

static void einsum_becomes_a_product(void **state) {
  MAIN_IS(HEAD
          "input x f32[T,4]\ninput w f32[3,4,5]\n"
          "node Einsum(x, w) -> z {equation = \"td, edh -> teh\"}\noutput z\n",
          "%2 = transpose(%1) {perm = [1, 0, 2]} : f32[4,3,5]\n"
          "%3 = reshape(%2) {shape = [4, 15]} : f32[4,15]\n"
          "%4 = matmul(%0, %3) : f32[T,15]\n"
          "%5 = reshape(%4) {shape = [T, 3, 5]} : f32[T,3,5]\nreturn(%5)\n");
  INVALID(HEAD
          "input x f32[2,3]\nnode Einsum(x) -> z {equation = \"abc->a\"}\n"
          "output z\n",
          "3 letters");
  INVALID(HEAD
          "input x f32[2,3]\nnode Einsum(x) -> z {equation = \"ab->aa\"}\n"
          "output z\n",
          "occurs twice");
  INVALID(HEAD
          "input x f32[2,3]\nnode Einsum(x) -> z {equation = \"ab->ac\"}\n"
          "output z\n",
          "in no operand");
  INVALID(HEAD
          "input x f32[2,3]\nnode Einsum(x) -> z {equation = \"ab,bc->ac\"}\n"
          "output z\n",
          "does not have 1 terms");
  INVALID(HEAD
          "input x f32[2,3]\nnode Einsum(x) -> z {equation = \"ab->ab?\"}\n"
          "output z\n",
          "where it should end");
}

static void sequences_of_known_length_vanish(void **state) {
  MAIN_IS(HEAD
          "input x f32[6]\ninit s i64[2] 4 2\ninit at i64[] -1\n"
          "node SplitToSequence(x, s) -> q\nnode SequenceAt(q, at) -> z\n"
          "output z\n",
          "%3 = slice(%0) {start = [0], length = [4], step = [1]} : f32[4]\n"
          "%4 = slice(%0) {start = [4], length = [2], step = [1]} : f32[2]\n"
          "return(%4)\n");
  INVALID(HEAD
          "input x f32[6]\ninit at i64[] 2\n"
          "node SequenceConstruct(x, x) -> q\nnode SequenceAt(q, at) -> z\n"
          "output z\n",
          "position 2 is not within");
  INVALID(HEAD
          "input x f32[6]\nnode SequenceConstruct(x, x) -> q\n"
          "node Abs(q) -> z\noutput z\n",
          "is a sequence");
  MAIN_IS(HEAD
          "input x f32[3,4]\nnode SequenceConstruct(x, x) -> q\n"
          "node ConcatFromSequence(q) -> z {axis = 1, new_axis = 1}\n"
          "output z\n",
          "%1 = reshape(%0) {shape = [3, 1, 4]} : f32[3,1,4]\n"
          "%2 = reshape(%0) {shape = [3, 1, 4]} : f32[3,1,4]\n"
          "%3 = concat(%1, %2) {axis = 1} : f32[3,2,4]\n"
          "return(%3)\n");
}

static void convolutions_check_their_shapes(void **state) {
  ACCEPT(HEAD
         "input x f32[N,4,H,W]\ninput w f32[6,2,3,3]\n"
         "node Conv(x, w) -> z {group = 2, pads = [1, 1, 1, 1]}\n"
         "output z f32[N,6,H,W]\n");
  INVALID(HEAD
          "input x f32[1,4,8,8]\ninput w f32[6,4,3,3]\n"
          "node Conv(x, w) -> z {group = 2}\noutput z\n",
          "does not equal");
  INVALID(HEAD
          "input x f32[1,4,8,8]\ninput w f32[6,4,3,3]\n"
          "node Conv(x, w) -> z {pads = [1, 1]}\noutput z\n",
          "has 2 entries, expected 4");
  INVALID(HEAD
          "input x f32[1,4,8,8]\ninput w f32[6,4,3,3]\n"
          "node Conv(x, w) -> z {strides = [0, 1]}\noutput z\n",
          "entry 0 of attribute \"strides\" is 0");
  INVALID(HEAD
          "input x f32[1,4,2,2]\ninput w f32[6,4,5,5]\n"
          "node Conv(x, w) -> z\noutput z\n",
          "kernel is larger");
  INVALID(HEAD
          "input x f32[1,4,8,8]\ninput w f32[6,4,3,3]\n"
          "node Conv(x, w) -> z {auto_pad = \"SAME\"}\noutput z\n",
          "expected one of NOTSET");
}

static void constants_have_one_of_many_forms(void **state) {
  ACCEPT(HEAD
         "node Constant() -> a {value_int = 3}\n"
         "node Constant() -> b {value_ints = [1, 2]}\n"
         "node Constant() -> c {value_float = 0.5}\n"
         "node Constant() -> d {value = tensor i64[2] 4 5;}\n"
         "output a i64[]\noutput b i64[2]\noutput c f32[]\noutput d i64[2]\n");
  INVALID(HEAD
          "node Constant() -> a {value_int = 3, value_float = 1.0}\noutput a\n",
          "both");
  INVALID(HEAD "node Constant() -> a\noutput a\n", "no value");
}

static void dropout_draws_numbers_in_training_only(void **state) {
  import_fixture_t *f = *state;
  ACCEPT(HEAD
         "input x f32[2]\ninit r f32[] 0.5\ninit t bool[] 1\n"
         "node Dropout(x, r, t) -> z\noutput z f32[2]\n");
  assert_ptr_not_equal(ir_in(f->module->first->body.last, 0)->def, NULL);
  MAIN_IS(HEAD
          "input x f32[2]\ninit r f32[] 0.5\ninit t bool[] 0\n"
          "node Dropout(x, r, t) -> z\noutput z\n",
          "return(%0)\n");
  ACCEPT(
      HEAD
      "input x f32[2]\ninit r f32[] 0.5\ninit t bool[] 0\n"
      "node Dropout(x, r, t) -> (z, m)\noutput z f32[2]\noutput m bool[2]\n");
}

static void a_constant_condition_takes_its_branch(void **state) {
  MAIN_IS(HEAD
          "body T\nnode Abs(x) -> a\noutput a\nend\n"
          "body E\nnode Neg(x) -> b\noutput b\nend\n"
          "input x f32[2]\ninit c bool[1] 0\n"
          "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
          "output z\n",
          "%2 = neg(%0) : f32[2]\nreturn(%2)\n");
}

static void small_branches_that_cannot_fail_are_both_computed(void **state) {
  MAIN_IS(HEAD
          "body T\nnode Abs(x) -> a\noutput a\nend\n"
          "body E\nnode Identity(x) -> b\noutput b\nend\n"
          "input x f32[8]\ninput c bool[]\n"
          "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
          "output z\n",
          "%2 = abs(%0) : f32[8]\n%3 = select(%1, %2, %0) : f32[8]\n"
          "return(%3)\n");
}

static void branches_by_data_are_regions(void **state) {
  MAIN_IS(HEAD
          "body T\nnode Gather(x, i) -> a\noutput a\nend\n"
          "body E\nnode Identity(x) -> b\noutput b\nend\n"
          "input x f32[4]\ninput i i64[4]\ninput c bool[]\n"
          "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
          "output z\n",
          "%3 = if(%2) {symbols = [], dims = [4]} () {...} () {...} : f32[4]\n"
          "return(%3)\n");
  MAIN_IS(
      HEAD
      "body T\nnode Concat(x, x) -> a {axis = 0}\noutput a\nend\n"
      "body E\nnode Identity(x) -> b\noutput b\nend\n"
      "input x f32[4]\ninput c bool[]\n"
      "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
      "output z\n",
      "%2 = if(%1) {symbols = [if], dims = [if]} () {...} () {...} : f32[if]\n"
      "return(%2)\n");
  UNSUPPORTED(HEAD
              "body T\nnode Identity(y) -> a\noutput a\nend\n"
              "body E\nnode Identity(x) -> b\noutput b\nend\n"
              "input x f32[4]\ninput y f32[4,2]\ninput c bool[]\n"
              "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
              "output z\n",
              "f32[4,2] in one branch and f32[4] in the other");
  INVALID(HEAD
          "body T\nnode Abs(x) -> a\noutput a\noutput x\nend\n"
          "body E\nnode Neg(x) -> b\noutput b\nend\n"
          "input x f32[2]\ninput c bool[]\n"
          "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
          "output z\n",
          "2 outputs, expected 1");
}

static void what_follows_branches_of_other_ranks_is_in_both(void **state) {
#define BRANCHES                                            \
  HEAD "body T\nnode Identity(y) -> a\noutput a\nend\n"     \
       "body E\nnode Identity(x) -> b\noutput b\nend\n"     \
       "input x f32[8]\ninput y f32[4,2]\ninput c bool[]\n" \
       "init s i64[1] 8\n"                                  \
       "node If(c) -> z {then_branch = body T, else_branch = body E}\n"
#define ONLY                                                          \
  "\"the branch taken and the only one that fits what follows (1 is " \
  "then, 0 is else)\""
  MAIN_IS(BRANCHES
          "node Abs(z) -> w\nnode Reshape(w, s) -> r\noutput r\noutput x\n",
          "%4 = abs(%1) : f32[4,2]\n%5 = reshape(%4) {shape = [8]} : f32[8]\n"
          "%6 = abs(%0) : f32[8]\n%7 = select(%2, %5, %6) : f32[8]\n"
          "return(%7, %0)\n");
  MAIN_IS(BRANCHES "node Concat(z, y) -> r {axis = 1}\noutput r\n",
          "%3 = cast(%2) {to = i64} : i64[]\n"
          "bind(%3) {symbol = branch, index = 0}\n"
          "check_equal {a = branch, b = 1, what = " ONLY
          "}\n"
          "%4 = concat(%1, %1) {axis = 1} : f32[4,4]\nreturn(%4)\n");
  MAIN_IS(BRANCHES "node Concat(z, x) -> r {axis = 0}\noutput r\n",
          "%3 = cast(%2) {to = i64} : i64[]\n"
          "bind(%3) {symbol = branch, index = 0}\n"
          "check_equal {a = branch, b = 0, what = " ONLY
          "}\n"
          "%4 = concat(%0, %0) {axis = 0} : f32[16]\nreturn(%4)\n");
  INVALID(BRANCHES
          "input v f32[1,1,1]\n"
          "node Concat(z, v) -> r {axis = 0}\noutput r\n",
          "input 1 is f32[1,1,1], input 0 is f32[8]");
#undef BRANCHES
#undef ONLY
}

static void loops_of_constant_length_are_unrolled(void **state) {
  MAIN_IS(HEAD
          "body L\ninput i i64[]\ninput c bool[]\ninput s f32[2]\n"
          "node Identity(c) -> d\nnode Add(s, x) -> t\n"
          "output d\noutput t\noutput s\nend\n"
          "input x f32[2]\ninit n i64[] 2\n"
          "node Loop(n, _, x) -> (y, all) {body = body L}\n"
          "output y\noutput all f32[2,2]\n",
          "%4 = add(%0, %0) : f32[2]\n"
          "%5 = reshape(%0) {shape = [1, 2]} : f32[1,2]\n"
          "%7 = add(%4, %0) : f32[2]\n"
          "%8 = reshape(%4) {shape = [1, 2]} : f32[1,2]\n"
          "%9 = concat(%5, %8) {axis = 0} : f32[2,2]\n"
          "return(%7, %9)\n");
}

static void loops_that_count_in_floats_are_unrolled(void **state) {
  MAIN_IS(HEAD
          "body L\ninput i i64[]\ninput c bool[]\ninput j i64[]\n"
          "input s f32[2]\nnode Add(j, one) -> k\n"
          "node Cast(k) -> f {to = 1}\nnode Less(f, limit) -> d\n"
          "node Add(s, x) -> t\noutput d\noutput k\noutput t\nend\n"
          "input x f32[2]\ninit zero i64[] 0\ninit one i64[] 1\n"
          "init limit f32[] 2\n"
          "node Loop(_, _, zero, x) -> (n, y) {body = body L}\noutput y\n",
          "%6 = add(%1, %2) : i64[]\n"
          "%7 = cast(%6) {to = f32} : f32[]\n"
          "%8 = lt(%7, %3) : bool[]\n"
          "%9 = add(%0, %0) : f32[2]\n"
          "%11 = add(%6, %2) : i64[]\n"
          "%12 = cast(%11) {to = f32} : f32[]\n"
          "%13 = lt(%12, %3) : bool[]\n"
          "%14 = add(%9, %0) : f32[2]\n"
          "return(%14)\n");
}

static void other_loops_have_a_region(void **state) {
  MAIN_IS(HEAD
          "body L\ninput i i64[]\ninput c bool[]\ninput s f32[K]\n"
          "node Concat(s, x) -> t {axis = 0}\noutput c\noutput t\noutput x\n"
          "end\n"
          "input x f32[2]\ninput n i64[]\n"
          "node Loop(n, _, x) -> (y, z) {body = body L}\noutput y\noutput z\n",
          "%3, %4 = while(%1, %2, %0) {symbols = [state], inits = [2], "
          "steady = 0, dims = [state, trips, 2], trips = trips, counted = 1} "
          "(%5: i64[], %6: f32[state]) {...} : f32[state], f32[trips,2]\n"
          "return(%3, %4)\n");
}

static void quantising_saturates_and_checks_its_scale(void **state) {
  ACCEPT(
      "opset 21\n"
      "input x f32[3,N]\ninput s f32[3]\ninit z i8[3] 1 2 3\n"
      "node QuantizeLinear(x, s, z) -> q {axis = 0}\n"
      "node DequantizeLinear(q, s, z) -> y {axis = 0}\n"
      "output q i8[3,N]\noutput y f32[3,N]\n");
  INVALID(
      "opset 21\n"
      "input x f32[3,4]\ninput s f32[3]\n"
      "node QuantizeLinear(x, s) -> q {axis = 1}\noutput q\n",
      "broadcast");
  INVALID(
      "opset 21\n"
      "input x f32[3,4]\ninput s f32[]\ninit z i8[] 1\n"
      "node QuantizeLinear(x, s, z) -> q {output_dtype = 2}\noutput q\n",
      "output_dtype is u8");
  ACCEPT(
      "opset 21\n"
      "input x u8[5,N]\ninput s f32[3,N]\n"
      "node DequantizeLinear(x, s) -> y {axis = 0, block_size = 2}\n"
      "output y f32[5,N]\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(equal_operands_need_no_check),
      TEST(unknown_broadcasts_are_checked_at_run_time),
      TEST(a_table_that_is_long_enough_keeps_the_length),
      TEST(reshape_resolves_0_and_minus_1),
      TEST(reshape_by_run_time_shapes_is_bound),
      TEST(slices_are_clamped),
      TEST(slices_of_old_opsets_have_attributes),
      TEST(splits_have_equal_given_or_uneven_parts),
      TEST(ranges_of_sizes_are_counted_when_compiling),
      TEST(ranges_of_data_are_counted_at_run_time),
      TEST(squeezing_needs_dimensions_of_1),
      TEST(topk_larger_than_the_axis_is_rejected),
      TEST(gemm_scales_and_transposes),
      TEST(einsum_becomes_a_product),
      TEST(sequences_of_known_length_vanish),
      TEST(convolutions_check_their_shapes),
      TEST(constants_have_one_of_many_forms),
      TEST(dropout_draws_numbers_in_training_only),
      TEST(a_constant_condition_takes_its_branch),
      TEST(small_branches_that_cannot_fail_are_both_computed),
      TEST(branches_by_data_are_regions),
      TEST(what_follows_branches_of_other_ranks_is_in_both),
      TEST(loops_of_constant_length_are_unrolled),
      TEST(loops_that_count_in_floats_are_unrolled),
      TEST(other_loops_have_a_region),
      TEST(quantising_saturates_and_checks_its_scale),
  };
  return cmocka_run_group_tests_name("frontend/import_convert", tests, NULL,
                                     NULL);
}
