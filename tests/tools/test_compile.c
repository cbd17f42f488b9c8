/* The compiler as a library: what one compilation leaves behind for the next.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/compile.h"

typedef struct fixture {
  arena_t *arena;
  diag_sink_t diag;
  char directory[64], source[80], library[80];
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  if (f == NULL) return 1;
  f->arena = arena_create(0);
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
  arena_destroy(f->arena);
  free(f);
  return 0;
}

/* Compiles the text; the product's bytes, of the arena. */
static const char *compile(fixture_t *f, const char *text, size_t *out_size) {
  FILE *file = fopen(f->source, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
  compile_options_t options;
  compile_options_init(&options);
  options.model = f->source;
  options.output = f->library;
  if (compile_model(&options, &f->diag) != MOEC_OK)
    fail_msg("%s", f->diag.last->text);
  file = fopen(f->library, "rb");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  *out_size = (size_t)ftell(file);
  rewind(file);
  char *bytes = arena_alloc(f->arena, *out_size);
  assert_int_equal(fread(bytes, 1, *out_size, file), *out_size);
  fclose(file);
  unlink(f->library);
  return bytes;
}

/* Loops with many addresses, which options of the code generator change. The
 * linker, once it has run in a process, must not have changed them. */
static void first_and_second_compilation_give_equal_files(void **state) {
  static const char text[] =
      "func @f(%0: f32[N,33,17], %1: f32[17,40]) {\n"
      "  %2 = matmul(%0, %1)\n"
      "  %3 = transpose(%2) {perm = [2, 0, 1]}\n"
      "  %4 = softmax(%3) {axis = 1}\n"
      "  %5 = reduce_sum(%4) {axes = [0, 2]}\n"
      "  %6 = slice(%2) {start = [0, 2, 1], length = [1, 7, 9], "
      "step = [1, 3, 2]}\n"
      "  return(%3, %4, %5, %6)\n"
      "}\n";
  size_t size[2];
  const char *first = compile(*state, text, &size[0]);
  const char *second = compile(*state, text, &size[1]);
  assert_int_equal(size[0], size[1]);
  assert_memory_equal(first, second, size[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(first_and_second_compilation_give_equal_files),
  };
  return cmocka_run_group_tests_name("tools/compile", tests, NULL, NULL);
}
