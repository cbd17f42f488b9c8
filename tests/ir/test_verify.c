/* The verifier notices every kind of damage. Each test breaks valid IR. */
#include "tests/ir/ir_support.h"

static const char tensor_text[] =
    "func @f(%0: f32[2,3], %1: f32[2,3]) {\n"
    "  %2 = add(%0, %1)\n"
    "  %3 = transpose(%2) {perm = [1, 0]}\n"
    "  %4 = neg(%3)\n"
    "  return(%4, %2)\n"
    "}\n";

static const char loop_text[] =
    "module \"m\" loop {\n"
    "func @main(%0: f32[4]) {\n"
    "  %1 = launch(%0) {kernel = \"k\", units = 1, grain = 1, args = []} : "
    "f32[4]\n"
    "  return(%1)\n"
    "}\n"
    "kernel @k(%0: buf f32, %1: buf f32) {\n"
    "  parallel (%2: i64[]) {\n"
    "    %3 = load(%1, %2)\n"
    "    store(%0, %2, %3)\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n"
    "}\n";

typedef struct broken {
  fixture_t *f;
  ir_module_t *module;
  ir_func_t *func; /* the first */
  ir_op_t *op[8];  /* of its body */
} broken_t;

static broken_t start(void **state, const char *text) {
  broken_t b = {.f = *state};
  b.module = assert_parses(b.f, text);
  assert_verified(b.f, b.module);
  b.func = b.module->first;
  unsigned n = 0;
  for (ir_op_t *op = b.func->body.first; op != NULL; op = op->next)
    b.op[n++] = op;
  return b;
}

static void check_found(broken_t b, const char *message, const char *file,
                        int line) {
  moec_status_t status = ir_verify(b.module, &b.f->diag);
  if (status == MOEC_OK) {
    print_error("not noticed: %s\n", message);
    _fail(file, line);
  }
  assert_int_equal(status, MOEC_E_INTERNAL);
  for (diag_t *d = b.f->diag.first; d != NULL; d = d->next) d->loc.where = NULL;
  check_text(reported(b.f), message, file, line);
}
#define assert_found(b, message) check_found((b), (message), __FILE__, __LINE__)

static void types_that_inference_would_not_give(void **state) {
  broken_t b = start(state, tensor_text);
  static const int64_t identity[] = {0, 1};
  ir_set_ints(b.op[1], ATTR_TRANSPOSE_perm, 2, identity);
  assert_found(b,
               "result 0 of transpose has type f32[3,2] but inference gives "
               "f32[2,3]");
}

static void operations_that_inference_rejects(void **state) {
  broken_t b = start(state, tensor_text);
  static const int64_t wrong[] = {0, 2};
  ir_type_t before = b.op[1]->out[0].type;
  ir_set_ints(b.op[1], ATTR_TRANSPOSE_perm, 2, wrong);
  assert_int_equal(ir_verify(b.module, &b.f->diag), MOEC_E_INTERNAL);
  assert_int_equal(b.f->diag.n_errors, 1);
  assert_ptr_equal(b.op[1]->out[0].type.dim, before.dim); /* restored */
}

static void uses_before_definitions(void **state) {
  broken_t b = start(state, tensor_text);
  ir_move_before(b.op[2], b.op[1]);
  assert_found(b, "operand 0 of neg is used before its definition");
}

static void uses_of_erased_operations(void **state) {
  broken_t b = start(state, tensor_text);
  ir_op_t *copy = ir_clone(b.module, b.op[0], NULL, NULL);
  ir_insert_before(copy, b.op[1]);
  ir_set_operand(b.op[1], 0, &copy->out[0]);
  ir_erase(b.op[2]->next); /* return */
  ir_value_t *out = &b.op[2]->out[0];
  ir_append(&b.func->body,
            ir_op_create(b.module, OP_RETURN, (ir_loc_t){0}, 1, &out, 0));
  assert_verified(b.f, b.module);
  copy->parent->first->next = copy->next; /* unlinked without ir_erase */
  copy->next->prev = copy->prev;
  assert_found(b, "operand 0 of transpose is used before its definition");
}

static void uses_across_regions(void **state) {
  broken_t b = start(state, loop_text);
  ir_op_t *parallel = b.func->next->body.first;
  ir_op_t *load = parallel->regions[0].first;
  ir_value_t *in[] = {&load->out[0]};
  ir_insert_before(ir_op_create(b.module, OP_NEG, (ir_loc_t){0}, 1, in, 1),
                   parallel->next);
  assert_found(b, "operand 0 of neg is used before its definition");
}

static void uses_across_functions(void **state) {
  broken_t b = start(state, loop_text);
  ir_set_operand(b.op[0], 0, &b.func->next->body.args[0]);
  assert_found(b, "operand 0 of launch is used before its definition");
}

static void use_lists_with_strangers(void **state) {
  broken_t b = start(state, tensor_text);
  ir_clone(b.module, b.op[2], NULL, NULL); /* never inserted */
  assert_found(b,
               "the uses of %3 are not the operands that refer to it (1 in "
               "place)");
}

static void use_lists_with_gaps(void **state) {
  broken_t b = start(state, tensor_text);
  b.op[0]->out[0].uses = b.op[0]->out[0].uses->next;
  assert_found(b,
               "the uses of %2 are not the operands that refer to it (2 in "
               "place)");
}

static void operands_with_a_wrong_place(void **state) {
  broken_t b = start(state, tensor_text);
  b.op[0]->in[1].index = 0;
  assert_found(b, "operand slot 1 of add does not know its place");
}

static void results_with_a_wrong_place(void **state) {
  broken_t b = start(state, tensor_text);
  b.op[0]->out[0].def = b.op[1];
  assert_found(b, "result 0 of add does not know its place");
}

static void broken_lists_of_operations(void **state) {
  broken_t b = start(state, tensor_text);
  b.op[1]->prev = NULL;
  assert_found(b, "add is not linked to its neighbours");
}

static void regions_of_another_function(void **state) {
  broken_t b = start(state, loop_text);
  b.func->next->body.first->regions[0].func = b.func;
  assert_found(b, "a region does not know its function or operation");
}

static void regions_without_terminator(void **state) {
  broken_t b = start(state, loop_text);
  ir_erase(b.func->next->body.first->regions[0].last);
  assert_found(b, "a region of parallel ends with store, expected yield");
}

static void terminators_of_the_wrong_kind(void **state) {
  broken_t b = start(state, tensor_text);
  ir_erase(b.op[3]);
  ir_append(&b.func->body,
            ir_op_create(b.module, OP_YIELD, (ir_loc_t){0}, 0, NULL, 0));
  assert_found(b, "a region of a function ends with yield, expected return");
}

static void terminators_in_the_middle(void **state) {
  broken_t b = start(state, tensor_text);
  ir_insert_before(ir_op_create(b.module, OP_RETURN, (ir_loc_t){0}, 0, NULL, 0),
                   b.op[1]);
  assert_found(b, "return is not the last operation of its region");
}

static void empty_functions(void **state) {
  broken_t b = start(state, tensor_text);
  for (unsigned i = 4; i > 0; i--) ir_erase(b.op[i - 1]);
  assert_found(b, "a region of f is empty");
}

static void missing_attributes(void **state) {
  broken_t b = start(state, tensor_text);
  ir_remove_attr(b.op[1], ATTR_TRANSPOSE_perm);
  assert_found(b, "transpose needs the attribute perm");
}

static void missing_operands(void **state) {
  broken_t b = start(state, tensor_text);
  ir_set_operand(b.op[0], 1, NULL);
  assert_found(b, "operand 1 of add is missing");
}

static void operations_of_another_level(void **state) {
  broken_t b = start(state, tensor_text);
  b.module->level = IR_LEVEL_LOOP;
  assert_found(b, "transpose is not an operation of the loop level");
}

static void loops_at_tensor_level(void **state) {
  broken_t b = start(state, loop_text);
  b.module->level = IR_LEVEL_TENSOR;
  assert_found(b,
               "2 functions at the tensor level, expected one main function");
  ir_module_remove(b.module, b.func->next);
  diag_init(&b.f->diag, b.f->arena, NULL);
  assert_found(b, "launch is not an operation of the tensor level");
}

static void schedules_with_kernel_operations(void **state) {
  broken_t b = start(state, loop_text);
  ir_op_t *parallel =
      ir_op_create(b.module, OP_PARALLEL, (ir_loc_t){0}, 0, NULL, 0);
  ir_insert_before(parallel, b.op[0]);
  assert_found(b, "parallel is not allowed in a schedule");
}

static void kernels_with_schedule_operations(void **state) {
  broken_t b = start(state, loop_text);
  ir_op_t *check =
      ir_op_create(b.module, OP_CHECK_EQUAL, (ir_loc_t){0}, 0, NULL, 0);
  const expr_t *one = expr_const(b.module->exprs, 1);
  ir_set_expr(check, ATTR_CHECK_EQUAL_a, one);
  ir_set_expr(check, ATTR_CHECK_EQUAL_b, one);
  ir_set_str(check, ATTR_CHECK_EQUAL_what, "one");
  ir_insert_before(check, b.func->next->body.first);
  assert_found(b, "check_equal is not allowed in a kernel");
}

static void kernels_with_tensors(void **state) {
  broken_t b = start(state, loop_text);
  ir_func_t *kernel = b.func->next;
  kernel->body.args[1].type = b.func->body.args[0].type;
  assert_found(b,
               "argument 1 of @k has type f32[4], which is not allowed there");
}

static void main_functions_with_buffers(void **state) {
  broken_t b = start(state, tensor_text);
  b.func->body.args[0].type = ir_buffer_type(DT_F32);
  assert_found(b,
               "argument 0 of @f has type buf f32, which is not allowed there");
}

static void launches_of_nothing(void **state) {
  broken_t b = start(state, loop_text);
  ir_set_str(b.op[0], ATTR_LAUNCH_kernel, "j");
  assert_found(b, "launch of unknown kernel 'j'");
}

static void launches_with_wrong_arguments(void **state) {
  broken_t b = start(state, loop_text);
  const expr_t *one = expr_const(b.module->exprs, 1);
  ir_set_exprs(b.op[0], ATTR_LAUNCH_args, 1, &one);
  assert_found(b, "launch hands 3 arguments to kernel 'k', which takes 2");
}

static void kernels_of_one_name(void **state) {
  broken_t b = start(state, loop_text);
  ir_func_t *twin = ir_func_create(b.module, "k", IR_FUNC_KERNEL, 0, NULL);
  ir_append(&twin->body,
            ir_op_create(b.module, OP_RETURN, (ir_loc_t){0}, 0, NULL, 0));
  assert_found(b, "there are two kernels 'k'");
}

static void symbols_bound_twice(void **state) {
  broken_t b = start(state,
                     "func @f(%0: i64[2]) {\n"
                     "  bind(%0) {symbol = n}\n"
                     "  bind(%0) {symbol = m, index = 1}\n"
                     "  return()\n"
                     "}\n");
  ir_set_expr(b.op[1], ATTR_BIND_symbol,
              ir_get_expr(b.op[0], ATTR_BIND_symbol));
  assert_found(b, "symbol n is bound twice");
}

static void contents_are_brought_up_to_date(void **state) {
  broken_t b = start(state,
                     "func @f(%0: f32[A,B]) {\n"
                     "  %1 = exprs {values = [A, B]}\n"
                     "  %2 = exprs {values = [B, A]}\n"
                     "  %3 = mul(%1, %1)\n"
                     "  return(%3)\n"
                     "}\n");
  const expr_t *square = ir_known(&b.op[2]->out[0], 0);
  const expr_t *const *kept = b.op[0]->out[0].content;
  assert_non_null(square);
  ir_set_operand(b.op[2], 1, &b.op[1]->out[0]);
  assert_verified(b.f, b.module);
  const expr_t *now = ir_known(&b.op[2]->out[0], 0);
  const expr_t *a = ir_known(&b.op[0]->out[0], 0);
  assert_ptr_equal(now,
                   expr_mul(b.module->exprs, a, ir_known(&b.op[1]->out[0], 0)));
  assert_true(now != square);
  assert_ptr_equal(b.op[0]->out[0].content, kept);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(types_that_inference_would_not_give),
      TEST(operations_that_inference_rejects),
      TEST(uses_before_definitions),
      TEST(uses_of_erased_operations),
      TEST(uses_across_regions),
      TEST(uses_across_functions),
      TEST(use_lists_with_strangers),
      TEST(use_lists_with_gaps),
      TEST(operands_with_a_wrong_place),
      TEST(results_with_a_wrong_place),
      TEST(broken_lists_of_operations),
      TEST(regions_of_another_function),
      TEST(regions_without_terminator),
      TEST(terminators_of_the_wrong_kind),
      TEST(terminators_in_the_middle),
      TEST(empty_functions),
      TEST(missing_attributes),
      TEST(missing_operands),
      TEST(operations_of_another_level),
      TEST(loops_at_tensor_level),
      TEST(schedules_with_kernel_operations),
      TEST(kernels_with_schedule_operations),
      TEST(kernels_with_tensors),
      TEST(main_functions_with_buffers),
      TEST(launches_of_nothing),
      TEST(launches_with_wrong_arguments),
      TEST(kernels_of_one_name),
      TEST(symbols_bound_twice),
      TEST(contents_are_brought_up_to_date),
  };
  return cmocka_run_group_tests_name("ir/verify", tests, NULL, NULL);
}
