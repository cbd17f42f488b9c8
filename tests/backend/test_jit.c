/* Compiled models loaded into this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/emit.h"
#include "backend/jit.h"

/* y[i] = (x + weights)[index[i]], as the passes make it. */
static const char gather[] =
    "module \"gather\" loop {\n"
    "func @f(%0: f32[4], %1: i64[3]) {\n"
    "  %2 = constant {dtype = f32, shape = [4], data = [1, 2, 3, 4]} : f32[4]\n"
    "  %3 = launch(%1, %0, %2) {kernel = \"k\", units = 1, grain = 8192, "
    "args = [3, 4], memory = [1, 0]} : f32[3]\n"
    "  return(%3)\n"
    "}\n"
    "kernel @k(%0: buf f32, %1: buf i64, %2: buf f32, %3: buf f32, %4: i64[], "
    "%5: i64[]) {\n"
    "  %6 = constant {dtype = i64, shape = [], data = [0]} : i64[]\n"
    "  parallel (%9: i64[]) {\n"
    "    for(%6, %4) (%10: i64[]) {\n"
    "      %11 = load(%1, %10) : i64[]\n"
    "      %15 = lt(%11, %5) : bool[]\n"
    "      %16 = le(%6, %11) : bool[]\n"
    "      %17 = and(%16, %15) : bool[]\n"
    "      assert(%17) {status = 13}\n"
    "      %18 = load(%2, %11, %17) : f32[]\n"
    "      %19 = load(%3, %11, %17) : f32[]\n"
    "      %20 = add(%18, %19) : f32[]\n"
    "      store(%0, %10, %20)\n"
    "      yield()\n"
    "    }\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n"
    "}\n";

/* The constant itself, of so many bytes. */
static const char weights[] =
    "module \"weights\" loop {\n"
    "func @f() {\n"
    "  %%0 = constant {dtype = u8, shape = [%llu], data = digest(0x1, %llu)} : "
    "u8[%llu]\n"
    "  %%1 = launch(%%0) {kernel = \"k\", units = 1, grain = 1, args = [%llu], "
    "memory = [1, 0]} : u8[1]\n"
    "  return(%%1)\n"
    "}\n"
    "kernel @k(%%0: buf u8, %%1: buf u8, %%2: i64[]) {\n"
    "  %%3 = constant {dtype = i64, shape = [], data = [0]} : i64[]\n"
    "  parallel (%%4: i64[]) {\n"
    "    %%5 = load(%%1, %%2) : u8[]\n"
    "    store(%%0, %%3, %%5)\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n"
    "}\n";

/* Element `index` of a result of four that lies in the workspace, before
 * another of four. */
static const char overrun[] =
    "module \"overrun\" loop {\n"
    "func @f(%%0: f32[4]) {\n"
    "  %%1 = launch(%%0) {kernel = \"k\", units = 1, grain = 1, args = [], "
    "memory = [0, 0]} : f32[4]\n"
    "  %%2 = launch(%%0) {kernel = \"k\", units = 1, grain = 1, args = [], "
    "memory = [0, 1]} : f32[4]\n"
    "  %%3 = launch(%%1) {kernel = \"l\", units = 1, grain = 1, args = [], "
    "memory = [1, 0]} : f32[4]\n"
    "  %%4 = launch(%%2) {kernel = \"l\", units = 1, grain = 1, args = [], "
    "memory = [1, 1]} : f32[4]\n"
    "  return(%%3, %%4)\n"
    "}\n"
    "kernel @k(%%0: buf f32, %%1: buf f32) {\n"
    "  %%2 = constant {dtype = i64, shape = [], data = [%d]} : i64[]\n"
    "  %%3 = constant {dtype = i64, shape = [], data = [0]} : i64[]\n"
    "  parallel (%%4: i64[]) {\n"
    "    %%5 = load(%%1, %%3) : f32[]\n"
    "    store(%%0, %%2, %%5)\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n"
    "kernel @l(%%0: buf f32, %%1: buf f32) {\n"
    "  %%2 = constant {dtype = i64, shape = [], data = [0]} : i64[]\n"
    "  parallel (%%3: i64[]) {\n"
    "    %%4 = load(%%1, %%2) : f32[]\n"
    "    store(%%0, %%2, %%4)\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n"
    "}\n";

typedef struct fixture {
  arena_t *arena;
  diag_sink_t diag;
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  if (f == NULL) return 1;
  f->arena = arena_create(0);
  diag_init(&f->diag, f->arena, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture_t *f = *state;
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

static jit_t *load(fixture_t *f, const char *text) {
  jit_t *jit = NULL;
  int isa = jit_host_isa();
  if (isa < 0) skip();
  if (jit_load(parse(f, text), (unsigned)isa, f->arena, &f->diag, &jit) !=
      MOEC_OK)
    fail_msg("%s", f->diag.last->text);
  return jit;
}

static moec_status_t run_gather(const moec_model_t *model,
                                moec_instance_t *instance, float *out,
                                int64_t last) {
  static float x[4] = {10, 20, 30, 40};
  int64_t index[3] = {3, 0, last}, x_dims[1] = {4}, index_dims[1] = {3};
  moec_value_t inputs[2] = {{.struct_size = sizeof inputs[0],
                             .dtype = MOEC_F32,
                             .rank = 1,
                             .data = x,
                             .dims = x_dims},
                            {.struct_size = sizeof inputs[0],
                             .dtype = MOEC_I64,
                             .rank = 1,
                             .data = index,
                             .dims = index_dims}};
  moec_value_t output = {
      .struct_size = sizeof output, .data = out, .capacity = 3 * sizeof *out};
  return model->run(instance, inputs, 2, &output, 1);
}

static void baseline_of_the_host_comes_first(void **state) {
  (void)state;
  int isa = jit_host_isa();
  if (isa < 0) skip();
  assert_int_equal(isa_at((unsigned)isa)->cpu_bits, 0);
  assert_false(isa_has(isa_at((unsigned)isa), ISA_FMA));
}

static void models_run_side_by_side(void **state) {
  fixture_t *f = *state;
  jit_t *jit[2] = {load(f, gather), load(f, gather)};
  moec_instance_t *instance[2];
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal(jit_model(jit[i])->create(NULL, &instance[i]), MOEC_OK);
  for (unsigned i = 0; i < 4; i++) {
    float y[3] = {0};
    assert_int_equal(
        run_gather(jit_model(jit[i % 2]), instance[i % 2], y, i % 3), MOEC_OK);
    assert_true(y[0] == 44 && y[1] == 11 && y[2] == (float)(i % 3 + 1) * 11);
  }
  for (unsigned i = 0; i < 2; i++) {
    jit_model(jit[i])->destroy(instance[i]);
    jit_destroy(jit[i]);
  }
}

static void failures_of_a_run_are_reported(void **state) {
  jit_t *jit = load(*state, gather);
  moec_instance_t *instance;
  float y[3];
  assert_int_equal(jit_model(jit)->create(NULL, &instance), MOEC_OK);
  assert_int_equal(run_gather(jit_model(jit), instance, y, 4), MOEC_E_INDEX);
  assert_int_equal(run_gather(jit_model(jit), instance, y, 2), MOEC_OK);
  jit_model(jit)->destroy(instance);
  jit_destroy(jit);
}

static const char *weights_text(fixture_t *f, unsigned long long bytes) {
  return arena_printf(f->arena, weights, bytes, bytes, bytes, bytes - 1);
}

static void last_byte_of_many_weights_is_within_reach(void **state) {
  fixture_t *f = *state;
  jit_t *jit = load(f, weights_text(f, 300ull << 20));
  moec_instance_t *instance;
  uint8_t y = 1;
  moec_value_t output = {
      .struct_size = sizeof output, .data = &y, .capacity = 1};
  assert_int_equal(jit_model(jit)->create(NULL, &instance), MOEC_OK);
  assert_int_equal(jit_model(jit)->run(instance, NULL, 0, &output, 1), MOEC_OK);
  assert_int_equal(y, 0);
  jit_model(jit)->destroy(instance);
  jit_destroy(jit);
}

static void too_many_weights_are_rejected(void **state) {
  fixture_t *f = *state;
  jit_t *jit = NULL;
  int isa = jit_host_isa();
  if (isa < 0) skip();
  ir_module_t *module = parse(f, weights_text(f, 16));
  ir_op_t *constant = module->first->body.first;
  assert_int_equal(constant->code, OP_CONSTANT);
  ir_data_t *data = ir_get_data(constant, ATTR_CONSTANT_data);
  data->size = (UINT64_C(1) << 30) + 1;
  void *zeros = mmap(NULL, (size_t)data->size, PROT_READ,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (zeros == MAP_FAILED) skip();
  data->bytes = zeros;
  assert_int_equal(jit_load(module, (unsigned)isa, f->arena, &f->diag, &jit),
                   MOEC_E_LIMIT);
  assert_int_equal(f->diag.n_errors, 1);
  jit_destroy(jit);
  munmap(zeros, (size_t)data->size);
}

/* ---- Checked accesses: builds with AddressSanitizer ---------------------- */

/* Runs a model of one f32[4] and at most two of those as results. */
static void run_text(fixture_t *f, const char *text) {
  jit_t *jit = load(f, text);
  const moec_model_t *model = jit_model(jit);
  moec_instance_t *instance;
  float x[4] = {1, 2, 3, 4};
  int64_t dims[1] = {4};
  moec_value_t input = {.struct_size = sizeof input,
                        .dtype = MOEC_F32,
                        .rank = 1,
                        .data = x,
                        .dims = dims};
  moec_value_t outputs[2] = {{.struct_size = sizeof outputs[0]},
                             {.struct_size = sizeof outputs[0]}};
  assert_int_equal(model->create(NULL, &instance), MOEC_OK);
  assert_int_equal(
      model->run(instance, &input, model->n_inputs, outputs, model->n_outputs),
      MOEC_OK);
  model->destroy(instance);
  jit_destroy(jit);
}

/* Whether the sanitizer ends a process that runs the model. */
static bool is_caught(fixture_t *f, const char *text) {
#ifndef MOEC_GUARDED
  skip();
#endif
  int to_parent[2], status;
  assert_int_equal(pipe(to_parent), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(to_parent[1], STDERR_FILENO);
    run_text(f, text);
    _exit(0);
  }
  close(to_parent[1]);
  FILE *messages = fdopen(to_parent[0], "r");
  char line[512];
  bool spoke = false;
  while (fgets(line, sizeof line, messages) != NULL)
    spoke |= strstr(line, "ERROR: AddressSanitizer: use-after-poison") != NULL;
  fclose(messages);
  assert_int_equal(waitpid(child, &status, 0), child);
  bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  assert_int_equal(failed, spoke);
  return spoke;
}

static void a_read_beyond_a_constant_is_caught(void **state) {
  fixture_t *f = *state;
  const unsigned long long bytes = 24;
  assert_false(is_caught(f, weights_text(f, bytes)));
  assert_true(is_caught(
      f, arena_printf(f->arena, weights, bytes, bytes, bytes, bytes)));
}

static void a_write_beyond_a_slot_is_caught(void **state) {
  fixture_t *f = *state;
  assert_false(is_caught(f, arena_printf(f->arena, overrun, 3)));
  assert_true(is_caught(f, arena_printf(f->arena, overrun, 4)));
  assert_true(is_caught(f, arena_printf(f->arena, overrun, 16)));
}

static void nothing_is_destroyed_too(void **state) {
  (void)state;
  jit_destroy(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(baseline_of_the_host_comes_first),
      TEST(models_run_side_by_side),
      TEST(failures_of_a_run_are_reported),
      TEST(last_byte_of_many_weights_is_within_reach),
      TEST(too_many_weights_are_rejected),
      TEST(a_read_beyond_a_constant_is_caught),
      TEST(a_write_beyond_a_slot_is_caught),
      TEST(nothing_is_destroyed_too),
  };
  return cmocka_run_group_tests_name("backend/jit", tests, NULL, NULL);
}
