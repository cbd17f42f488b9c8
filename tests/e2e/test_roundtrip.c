/* The text form of every model, as imported and as scheduled, reads back as the
 * same module. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "frontend/import.h"
#include "passes/pass.h"
#include "tools/compile.h"

typedef struct fixture {
  arena_t *arena, *scratch;
  onnx_store_t *store;
  diag_sink_t diag;
} fixture_t;

static void fail_with_diagnostics(fixture_t *f, const char *what,
                                  const char *name) {
  diag_print(&f->diag, stderr);
  fail_msg("%s: %s", name, what);
}

static void check_text(fixture_t *f, ir_module_t *module, const char *dir,
                       const char *name) {
  text_t text, why;
  ir_module_t *again = NULL;
  text_init(&text, f->arena);
  text_init(&why, f->arena);
  ir_print_options_t options = {.locations = true, .data_dir = dir};
  ir_print(module, &options, &text);
  if (ir_parse(f->arena, text.data, text.length, dir, &f->diag, &again) !=
      MOEC_OK)
    fail_with_diagnostics(f, "its text cannot be read back", name);
  if (!ir_module_equal(module, again, &why))
    fail_msg("%s: reads back differently: %s", name, why.data);
}

static void remove_dir(const char *dir) {
  char path[512];
  DIR *handle = opendir(dir);
  assert_non_null(handle);
  for (struct dirent *entry; (entry = readdir(handle)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%.200s", dir, entry->d_name);
    remove(path);
  }
  closedir(handle);
  remove(dir);
}

static void check_model(const char *path, const char *name) {
  fixture_t f = {.arena = arena_create(0), .scratch = arena_create(0)};
  char dir[] = "/tmp/moec-roundtrip-XXXXXX";
  onnx_model_t *model = NULL;
  ir_module_t *module = NULL;
  recovery_t point;
  compile_options_t options;
  compile_options_init(&options);
  assert_non_null(mkdtemp(dir));
  f.store = onnx_store_create(NULL);
  diag_init(&f.diag, f.arena, path);
  recovery_enter(&point);
  if (setjmp(point.jump) != 0) fail_msg("%s: %s", name, point.message);
  if (onnx_load(f.store, f.arena, path, &f.diag, &model) != MOEC_OK ||
      onnx_import(model, NULL, &f.diag, &module) != MOEC_OK)
    fail_with_diagnostics(&f, "cannot be imported", name);
  check_text(&f, module, dir, name);
  if (pass_run_all(module, f.scratch, &options.passes, &f.diag) != MOEC_OK)
    fail_with_diagnostics(&f, "a pass fails", name);
  check_text(&f, module, dir, name);
  recovery_leave(&point);
  remove_dir(dir);
  onnx_store_destroy(f.store);
  arena_destroy(f.scratch);
  arena_destroy(f.arena);
}

static void text_of_every_model_reads_back_as_the_same_module(void **state) {
  (void)state;
  const char *root = getenv("MOEC_TEST_MODELS");
  if (root == NULL) root = "tests/models";
  DIR *handle = opendir(root);
  assert_non_null(handle);
  unsigned n = 0;
  char path[1024];
  for (struct dirent *entry; (entry = readdir(handle)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%.200s/model.onnx", root, entry->d_name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) continue;
    fclose(file);
    check_model(path, entry->d_name);
    n++;
  }
  closedir(handle);
  assert_true(n > 0);
  print_message("%u models\n", n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_of_every_model_reads_back_as_the_same_module),
  };
  return cmocka_run_group_tests_name("e2e/roundtrip", tests, NULL, NULL);
}
