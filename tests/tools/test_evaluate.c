/* The evaluator of constants: what it computes is what a compiled model
 * computes, bit by bit, and nothing goes wrong around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "moec/model.h"
#include "tools/compile.h"
#include "tools/evaluate.h"

typedef struct fixture {
  arena_t *arena, *scratch;
  diag_sink_t diag;
  evaluator_t evaluator;
  char directory[64], source[80], library[80];
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  if (f == NULL) return 1;
  f->arena = arena_create(0);
  f->scratch = arena_create(0);
  strcpy(f->directory, "/tmp/moec-test-XXXXXX");
  if (mkdtemp(f->directory) == NULL) return 1;
  snprintf(f->source, sizeof f->source, "%s/m.moeir", f->directory);
  snprintf(f->library, sizeof f->library, "%s/m.so", f->directory);
  diag_init(&f->diag, f->arena, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture_t *f = *state;
  unlink(f->source);
  unlink(f->library);
  rmdir(f->directory);
  arena_destroy(f->scratch);
  arena_destroy(f->arena);
  free(f);
  return 0;
}

static ir_module_t *parse(fixture_t *f, const char *text) {
  ir_module_t *module;
  if (ir_parse(f->arena, text, strlen(text), NULL, &f->diag, &module) ==
      MOEC_OK)
    return module;
  print_error("%s\nin\n%s\n", f->diag.last->text, text);
  fail();
  return NULL;
}

static moec_status_t fold(fixture_t *f, ir_module_t *module,
                          const char *passes) {
  pass_options_t options = {
      .passes = passes, .rewrite_limit = -1, .verify_each = true};
  module->evaluator = evaluator_init(&f->evaluator, 0);
  assert_non_null(module->evaluator);
  return pass_run_all(module, f->scratch, &options, &f->diag);
}

/* ---- Bit by bit ---------------------------------------------------------- */

static const moec_model_t *compile_and_load(fixture_t *f, const char *text,
                                            const char *passes,
                                            void **out_handle) {
  FILE *file = fopen(f->source, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
  compile_options_t options;
  compile_options_init(&options);
  options.model = f->source;
  options.output = f->library;
  options.isas = "x86-64";
  options.passes.passes = passes;
  if (compile_model(&options, &f->diag) != MOEC_OK) {
    print_error("%s\nin\n%s\n", f->diag.last->text, text);
    fail();
  }
  *out_handle = dlopen(f->library, RTLD_NOW | RTLD_LOCAL);
  assert_non_null(*out_handle);
  moec_model_fn entry;
  void *symbol = dlsym(*out_handle, "moec_model");
  memcpy(&entry, &symbol, sizeof entry);
  return entry();
}

static ir_data_t *folded_result(ir_module_t *module, unsigned index) {
  const ir_value_t *x = module->first->body.last->in[index].value;
  assert_int_equal(x->def->code, OP_CONSTANT);
  return ir_get_data(x->def, ATTR_CONSTANT_data);
}

/* All results of the text, a function without arguments, are folded; they are
 * what the same text compiled by `passes` gives. */
static void check_same_bits(fixture_t *f, const char *text,
                            const char *passes) {
  ir_module_t *module = parse(f, text);
  if (fold(f, module, "fold,dce") != MOEC_OK)
    fail_msg("%s", f->diag.last->text);
  assert_int_equal(f->evaluator.n_evaluations, 1);
  void *handle;
  const moec_model_t *model = compile_and_load(f, text, passes, &handle);
  moec_instance_t *instance;
  assert_int_equal(model->create(NULL, &instance), MOEC_OK);
  moec_value_t outputs[8] = {{0}};
  assert_in_range(model->n_outputs, 1, 8);
  for (unsigned i = 0; i < model->n_outputs; i++)
    outputs[i].struct_size = sizeof outputs[i];
  assert_int_equal(model->run(instance, NULL, 0, outputs, model->n_outputs),
                   MOEC_OK);
  for (unsigned i = 0; i < model->n_outputs; i++) {
    const ir_data_t *data = folded_result(module, i);
    assert_int_equal(data->size, outputs[i].size);
    if (data->size > 0 &&
        memcmp(data->bytes, outputs[i].data, (size_t)data->size) != 0)
      fail_msg("result %u differs with %s of\n%s", i, passes, text);
  }
  model->destroy(instance);
  dlclose(handle);
}

#define FLOATS                                                            \
  "  %0 = constant {dtype = f32, shape = [3,5], data = [0.1, -0.2, 1.5, " \
  "2.25, -3.3, 0.7, 1e-3, -1e3, 88.5, -90, 0, -0.0, inf, nan, 1e-40]}\n"  \
  "  %1 = constant {dtype = f32, shape = [5], data = [3, -0.5, 0.3, 7, "  \
  "1e-2]}\n"
#define INTS                                                        \
  "  %0 = constant {dtype = i64, shape = [2,3], data = [5, -7, 0, " \
  "9223372036854775807, -9223372036854775808, 12]}\n"               \
  "  %1 = constant {dtype = i64, shape = [3], data = [-1, 0, 3]}\n"

static const char *const texts[] = {
    "func @f() {\n" FLOATS
    "  %2 = exp(%0)\n  %3 = sin(%0)\n  %4 = pow(%0, %1)\n"
    "  %5 = erf(%2)\n  %6 = tanh(%0)\n  %7 = div(%3, %1)\n"
    "  return(%2, %3, %4, %5, %6, %7)\n}\n",
    "func @f() {\n" FLOATS
    "  %2 = fmod(%0, %1)\n  %3 = log(%0)\n  %4 = round(%0)\n"
    "  %5 = min(%0, %1)\n  %6 = lt(%0, %1)\n  %7 = select(%6, %0, %1)\n"
    "  %8 = is_nan(%0)\n  %9 = sigmoid(%0)\n"
    "  return(%2, %3, %4, %5, %6, %7, %8, %9)\n}\n",
    "func @f() {\n" FLOATS
    "  %2 = cast(%0) {to = i32}\n  %3 = cast(%0) {to = f16}\n"
    "  %4 = cast(%0) {to = bf16}\n  %5 = cast(%0) {to = f8e4m3fn}\n"
    "  %6 = cast(%0) {to = u8}\n  %7 = cast(%3) {to = f64}\n"
    "  %8 = mul(%4, %4)\n  %9 = cast(%0) {to = bool}\n"
    "  return(%2, %3, %4, %5, %6, %7, %8, %9)\n}\n",
    "func @f() {\n" INTS
    "  %2 = div(%0, %1)\n  %3 = mod(%0, %1)\n  %4 = fmod(%0, %1)\n"
    "  %5 = shl(%0, %1)\n  %6 = shr(%0, %1)\n  %7 = mul(%0, %0)\n"
    "  %8 = bit_xor(%0, %1)\n  %9 = abs(%0)\n"
    "  return(%2, %3, %4, %5, %6, %7, %8, %9)\n}\n",
    "func @f() {\n" FLOATS
    "  %2 = reduce_sum(%0) {axes = [0]}\n  %3 = reduce_sum(%0) {axes = [1]}\n"
    "  %4 = reduce_max(%0) {axes = [0, 1], keepdims = 0}\n"
    "  %5 = softmax(%0) {axis = 0}\n  %6 = arg_max(%0) {axis = 1}\n"
    "  %7 = cum_sum(%0) {axis = 1, reverse = 1}\n"
    "  %8 = log_softmax(%0) {axis = 1}\n"
    "  return(%2, %3, %4, %5, %6, %7, %8)\n}\n",
    "func @f() {\n" FLOATS
    "  %2 = transpose(%0) {perm = [1, 0]}\n  %3 = matmul(%0, %2)\n"
    "  %4 = matmul(%2, %0)\n  %5 = concat(%4, %4, %2) {axis = 1}\n"
    "  %6 = matmul(%0, %5)\n  %7 = exp(%6)\n"
    "  return(%3, %4, %5, %7)\n}\n",
    "func @f() {\n" FLOATS
    "  %2 = constant {dtype = i64, shape = [2,2], data = [4, -1, 0, 2]}\n"
    "  %3 = gather(%0, %2) {axis = 1}\n"
    "  %4 = slice(%0) {start = [2, 1], length = [3, 2], step = [-1, 2]}\n"
    "  %5 = gather_elements(%4, %2) {axis = 0}\n"
    "  return(%3)\n}\n",
    "func @f() {\n" FLOATS
    "  %2 = constant {dtype = f32, shape = [], data = [0.25]}\n"
    "  %3 = pad(%0, %2) {before = [1, 0], after = [0, 2], mode = "
    "\"constant\"}\n"
    "  %4, %5 = topk(%0) {k = 3}\n"
    "  %6 = constant {dtype = i64, shape = [2,1], data = [1, 0]}\n"
    "  %7 = constant {dtype = f32, shape = [2,5], data = [1, 2, 3, 4, 5, 6, "
    "7, 8, 9, 10]}\n"
    "  %8 = scatter_nd(%0, %6, %7) {reduction = \"add\"}\n"
    "  %9 = neg(%8)\n"
    "  return(%3, %4, %5, %9)\n}\n",
    /* Results without elements, and of rank 0. */
    "func @f() {\n"
    "  %0 = constant {dtype = f32, shape = [0,4], data = []}\n"
    "  %1 = exp(%0)\n  %2 = reduce_sum(%0) {axes = [0]}\n"
    "  %3 = reduce_max(%0) {axes = [0, 1], keepdims = 0}\n"
    "  %4 = iota {dtype = f64, n = 100}\n  %5 = sqrt(%4)\n"
    "  return(%1, %2, %3, %5)\n}\n",
};

static void folded_bits_are_those_of_a_run(void **state) {
  fixture_t *f = *state;
  for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    check_same_bits(f, texts[i], pass_pipeline(0));
    check_same_bits(f, texts[i], "dce,unpack,layout,fuse,lower,plan");
  }
}

static void elements_below_a_byte_can_be_read(void **state) {
  check_same_bits(
      *state,
      "func @f() {\n"
      "  %0 = constant {dtype = i4, shape = [5], data = [1, -2, 7, -8, 0]}\n"
      "  %1 = cast(%0) {to = f32}\n"
      "  %2 = exp(%1)\n"
      "  return(%2)\n}\n",
      pass_pipeline(0));
}

/* More than a page of weights, in panels and plain. */
static void large_constants_are_read(void **state) {
  fixture_t *f = *state;
  text_t text;
  text_init(&text, f->arena);
  text_printf(&text,
              "func @f() {\n  %%0 = iota {dtype = f32, n = 4096}\n"
              "  %%1 = reshape(%%0) {shape = [64, 64]}\n"
              "  %%2 = constant {dtype = f32, shape = [64,64], data = [");
  for (unsigned i = 0; i < 4096; i++)
    text_printf(&text, "%s%u.5", i > 0 ? ", " : "", i * 7919 % 4096);
  text_printf(&text,
              "]}\n  %%3 = matmul(%%1, %%2)\n  %%4 = add(%%2, %%1)\n"
              "  return(%%3, %%4)\n}\n");
  check_same_bits(f, text.data, pass_pipeline(0));
}

/* ---- What goes wrong ----------------------------------------------------- */

static void index_out_of_range_is_left_to_the_run(void **state) {
  fixture_t *f = *state;
  ir_module_t *module =
      parse(f,
            "func @f() {\n"
            "  %0 = constant {dtype = f32, shape = [2], data = [1, 2]}\n"
            "  %1 = constant {dtype = i64, shape = [1], data = [2]}\n"
            "  %2 = gather(%0, %1) {axis = 0}\n"
            "  %3 = exp(%0)\n"
            "  return(%2, %3)\n}\n");
  assert_int_equal(fold(f, module, "fold,dce,fold"), MOEC_OK);
  assert_int_equal(f->evaluator.n_evaluations, 2);
  assert_int_equal(f->diag.n_errors + f->diag.n_warnings, 0);
  const ir_op_t *last = module->first->body.last;
  assert_int_equal(last->in[0].value->def->code, OP_GATHER);
  assert_int_equal(last->in[1].value->def->code, OP_CONSTANT);
}

static void memory_limit_ends_the_evaluation(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = parse(f, texts[0]);
  ir_data_t *data;
  for (size_t limit = 1 << 10; limit <= 1 << 17; limit *= 2) {
    ir_evaluator_t *evaluator = evaluator_init(&f->evaluator, limit);
    assert_non_null(evaluator);
    if (evaluator->evaluate(evaluator, module, &data, &f->diag) == MOEC_OK)
      break;
    assert_int_equal(f->diag.last->status, MOEC_E_LIMIT);
  }
  assert_true(f->diag.n_errors > 0);
}

static void evaluations_give_equal_bytes(void **state) {
  fixture_t *f = *state;
  ir_data_t *first[2];
  for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    unsigned n = 0;
    for (unsigned round = 0; round < 2; round++) {
      ir_module_t *module = parse(f, texts[i]);
      ir_evaluator_t *evaluator = evaluator_init(&f->evaluator, 0);
      n = module->first->body.last->n_in;
      assert_int_equal(
          evaluator->evaluate(evaluator, module, &first[round], &f->diag),
          MOEC_OK);
    }
    for (unsigned r = 0; r < n; r++) {
      assert_int_equal(first[0][r].size, first[1][r].size);
      assert_memory_equal(first[0][r].bytes, first[1][r].bytes,
                          (size_t)first[0][r].size);
    }
  }
}

/* The module that is evaluated stays as it was. */
static void evaluated_module_is_not_changed(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = parse(f, texts[4]), *same = parse(f, texts[4]);
  ir_evaluator_t *evaluator = evaluator_init(&f->evaluator, 0);
  ir_data_t *data;
  assert_int_equal(evaluator->evaluate(evaluator, module, &data, &f->diag),
                   MOEC_OK);
  assert_true(ir_module_equal(module, same, NULL));
}

/* As models are folded by default, and their products are equal. */
static void compilations_give_equal_files(void **state) {
  fixture_t *f = *state;
  char *bytes[2] = {0};
  long size[2];
  for (unsigned i = 0; i < 2; i++) {
    void *handle;
    compile_and_load(f, texts[5], NULL, &handle);
    dlclose(handle);
    FILE *file = fopen(f->library, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size[i] = ftell(file);
    rewind(file);
    bytes[i] = malloc((size_t)size[i]);
    assert_non_null(bytes[i]);
    assert_int_equal(fread(bytes[i], 1, (size_t)size[i], file), size[i]);
    fclose(file);
    unlink(f->library);
  }
  assert_int_equal(size[0], size[1]);
  assert_memory_equal(bytes[0], bytes[1], (size_t)size[0]);
  free(bytes[0]);
  free(bytes[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(folded_bits_are_those_of_a_run),
      TEST(elements_below_a_byte_can_be_read),
      TEST(large_constants_are_read),
      TEST(index_out_of_range_is_left_to_the_run),
      TEST(memory_limit_ends_the_evaluation),
      TEST(evaluations_give_equal_bytes),
      TEST(evaluated_module_is_not_changed),
      TEST(compilations_give_equal_files),
  };
  return cmocka_run_group_tests_name("tools/evaluate", tests, NULL, NULL);
}
