/* Sequences and optionals at the boundary of a compiled model: what comes back,
 * and what a caller may get wrong.
 *
 * s: the sequence and its first element; o: what is there, or nothing. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "moec/model.h"
#include "tools/compile.h"

static const char text[] =
    "module \"\" tensor {\n"
    "symbols { T >= 0, n >= 0, o0 >= 0, d >= 0 }\n"
    "func @main(%0 \"s\": f32[T], %1 \"s.dims\": i64[n,2], %2 \"o\": i32[o0],"
    " %3 \"o.has\": bool[]) -> (\"t\", \"t.dims\", \"p\", \"p.has\")"
    " inputs(sequence \"s\", optional \"o\")"
    " outputs(sequence \"t\", optional \"p\") {\n"
    "  %4 = neg(%0)\n"
    "  %5 = neg(%2)\n"
    "  return(%4, %1, %5, %3)\n"
    "}\n}\n";

typedef struct fixture {
  void *library;
  const moec_model_t *model;
  moec_instance_t *it;
  float x[16];
  int32_t number;
  int64_t dims[3][2], one;
  moec_value_t item[3], element, in[2], out[2];
} fixture_t;

static moec_value_t tensor(moec_dtype_t dtype, int32_t rank, int64_t *dims,
                           void *data) {
  return (moec_value_t){.struct_size = sizeof(moec_value_t),
                        .kind = MOEC_TENSOR,
                        .dtype = dtype,
                        .rank = rank,
                        .dims = dims,
                        .data = data};
}

static moec_value_t holder(moec_kind_t kind, moec_value_t *items, uint64_t n) {
  return (moec_value_t){.struct_size = sizeof(moec_value_t),
                        .kind = kind,
                        .items = items,
                        .n_items = n};
}

/* A sequence of f32[2,3], f32[0,5] and f32[1,4]; an optional i32[1]. */
static void fill(fixture_t *f) {
  static const int64_t dims[3][2] = {{2, 3}, {0, 5}, {1, 4}};
  memcpy(f->dims, dims, sizeof dims);
  for (int i = 0; i < 16; i++) f->x[i] = (float)i;
  f->number = 7;
  f->one = 1;
  for (int i = 0; i < 3; i++)
    f->item[i] = tensor(MOEC_F32, 2, f->dims[i], i == 2 ? f->x + 6 : f->x);
  f->element = tensor(MOEC_I32, 1, &f->one, &f->number);
  f->in[0] = holder(MOEC_SEQUENCE, f->item, 3);
  f->in[1] = holder(MOEC_OPTIONAL, &f->element, 1);
  for (int i = 0; i < 2; i++)
    f->out[i] = (moec_value_t){.struct_size = sizeof(moec_value_t)};
}

static void compile(const char *source, const char *library) {
  FILE *file = fopen(source, "wb");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
  arena_t *arena = arena_create(0);
  diag_sink_t diag;
  diag_init(&diag, arena, NULL);
  compile_options_t options;
  compile_options_init(&options);
  options.model = source;
  options.output = library;
  moec_status_t status = compile_model(&options, &diag);
  diag_print(&diag, stderr);
  assert_int_equal(status, MOEC_OK);
  arena_destroy(arena);
}

static int set_up(void **state) {
  char source[] = "/tmp/moec-ports-XXXXXX.moeir", library[64];
  int descriptor = mkstemps(source, 6);
  if (descriptor < 0) return -1;
  close(descriptor);
  snprintf(library, sizeof library, "%s.so", source);
  compile(source, library);
  fixture_t *f = calloc(1, sizeof *f);
  f->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  unlink(source);
  unlink(library);
  if (f->library == NULL) return -1;
  union {
    void *symbol;
    moec_model_fn get_model;
  } entry = {dlsym(f->library, "moec_model")};
  f->model = entry.get_model();
  if (f->model->create(NULL, &f->it) != MOEC_OK) return -1;
  fill(f);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  fixture_t *f = *state;
  f->model->destroy(f->it);
  dlclose(f->library);
  free(f);
  return 0;
}

static moec_status_t run(fixture_t *f) {
  return f->model->run(f->it, f->in, 2, f->out, 2);
}

static void check_sequence(const fixture_t *f, uint64_t n) {
  assert_int_equal(f->out[0].kind, MOEC_SEQUENCE);
  assert_int_equal(f->out[0].n_items, n);
  for (uint64_t i = 0; i < n; i++) {
    const moec_value_t *got = &f->out[0].items[i], *want = &f->in[0].items[i];
    assert_int_equal(got->rank, 2);
    assert_memory_equal(got->dims, want->dims, 2 * sizeof(int64_t));
    int64_t count = got->dims[0] * got->dims[1];
    assert_int_equal(got->size, 4 * count);
    for (int64_t j = 0; j < count; j++)
      assert_true(((float *)got->data)[j] == -((float *)want->data)[j]);
  }
}

static void elements_keep_their_sizes(void **state) {
  fixture_t *f = *state;
  for (uint64_t n = 0; n <= 3; n++) {
    fill(f);
    f->in[0].n_items = n;
    assert_int_equal(run(f), MOEC_OK);
    check_sequence(f, n);
  }
}

static void elements_may_have_strides(void **state) {
  fixture_t *f = *state;
  const int64_t turned[] = {1, 2};
  float want[] = {-0.0f, -2, -4, -1, -3, -5};
  f->item[0].strides = turned;
  assert_int_equal(run(f), MOEC_OK);
  assert_memory_equal(f->out[0].items[0].data, want, sizeof want);
}

static void an_optional_has_one_element_or_none(void **state) {
  fixture_t *f = *state;
  assert_int_equal(run(f), MOEC_OK);
  assert_int_equal(f->out[1].kind, MOEC_OPTIONAL);
  assert_int_equal(f->out[1].n_items, 1);
  assert_int_equal(*(int32_t *)f->out[1].items[0].data, -7);
  f->in[1] = f->element; /* as it is */
  assert_int_equal(run(f), MOEC_OK);
  assert_int_equal(f->out[1].n_items, 1);
  f->in[1] = holder(MOEC_OPTIONAL, NULL, 0);
  assert_int_equal(run(f), MOEC_OK);
  assert_int_equal(f->out[1].n_items, 0);
}

static void check_failure(fixture_t *f, moec_status_t status,
                          const char *message) {
  moec_status_t found = run(f);
  assert_string_equal(f->model->message(f->it), message);
  assert_int_equal(found, status);
  fill(f);
  assert_int_equal(run(f), MOEC_OK);
}

static void wrong_values_are_told(void **state) {
  fixture_t *f = *state;
  f->in[0].kind = MOEC_TENSOR;
  check_failure(f, MOEC_E_DTYPE, "input \"s\" is not a sequence");
  f->in[0].items = NULL;
  check_failure(f, MOEC_E_USAGE, "input \"s\" has no items");
  f->item[1].dtype = MOEC_F64;
  check_failure(f, MOEC_E_DTYPE,
                "an element of input \"s\" is f64 but the model takes f32");
  f->item[2].rank = 1;
  check_failure(f, MOEC_E_RANK,
                "an element of input \"s\" has rank 1 but the model takes 2");
  f->dims[0][1] = -1;
  check_failure(f, MOEC_E_SHAPE,
                "a dimension of an element of input \"s\" is -1");
  f->item[0].data = NULL;
  check_failure(f, MOEC_E_USAGE, "an element of input \"s\" has no data");
  f->item[0].kind = MOEC_SEQUENCE;
  check_failure(f, MOEC_E_DTYPE, "an element of input \"s\" is no tensor");
  f->in[1].n_items = 2;
  check_failure(f, MOEC_E_USAGE, "input \"o\" is an optional of 2 items");
  f->element.kind = MOEC_SEQUENCE;
  check_failure(f, MOEC_E_DTYPE, "input \"o\" holds a value of another kind");
  f->dims[0][0] = f->dims[0][1] = INT64_MAX / 2;
  check_failure(f, MOEC_E_SHAPE,
                "an element of input \"s\" has more than 2^63 - 1 bytes");
}

static void the_signature_names_kinds(void **state) {
  const fixture_t *f = *state;
  assert_int_equal(f->model->n_inputs, 2);
  assert_int_equal(f->model->n_outputs, 2);
  assert_int_equal(f->model->inputs[0].kind, MOEC_SEQUENCE);
  assert_int_equal(f->model->inputs[0].rank, 2);
  assert_int_equal(f->model->inputs[0].dims[0], -1);
  assert_int_equal(f->model->inputs[1].kind, MOEC_OPTIONAL);
  assert_int_equal(f->model->inputs[1].element_kind, MOEC_TENSOR);
  assert_string_equal(f->model->outputs[1].name, "p");
}

static void a_query_knows_no_elements(void **state) {
  fixture_t *f = *state;
  moec_memory_t memory = {.struct_size = sizeof memory};
  assert_int_equal(f->model->query(f->it, f->in, 2, f->out, 2, &memory),
                   MOEC_OK);
  assert_int_equal(f->out[0].kind, MOEC_SEQUENCE);
  assert_int_equal(f->out[0].n_items, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(elements_keep_their_sizes),
      TEST(elements_may_have_strides),
      TEST(an_optional_has_one_element_or_none),
      TEST(wrong_values_are_told),
      TEST(the_signature_names_kinds),
      TEST(a_query_knows_no_elements),
  };
  return cmocka_run_group_tests_name("e2e/ports", tests, NULL, NULL);
}
