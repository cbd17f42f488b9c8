/* What the tests of ir/ share: a fixture with an arena and a sink, reading and
 * printing texts, and failures that show both texts. */
#ifndef TESTS_IR_IR_SUPPORT_H
#define TESTS_IR_IR_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "ir/build.h"
#include "ir/ir.h"

typedef struct fixture {
  arena_t *arena;
  diag_sink_t diag;
  ir_module_t *module;
  ir_func_t *func;
  ir_builder_t b; /* appends to func */
} fixture_t;

static inline int ir_setup(void **state) {
  arena_t *arena = arena_create(0);
  if (arena == NULL) return 1;
  fixture_t *f = ARENA_NEW(arena, fixture_t);
  f->arena = arena;
  diag_init(&f->diag, arena, NULL);
  *state = f;
  return 0;
}

static inline int ir_teardown(void **state) {
  fixture_t *f = *state;
  arena_destroy(f->arena);
  return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ir_setup, ir_teardown)

/* A module with one function of n arguments, and a builder at its end. */
static inline fixture_t *begin(void **state, unsigned n,
                               const ir_type_t *types) {
  fixture_t *f = *state;
  f->module = ir_module_create(f->arena, "test");
  f->func = ir_func_create(f->module, "main", IR_FUNC_MAIN, n, types);
  f->b = (ir_builder_t){
      .module = f->module, .region = &f->func->body, .diag = &f->diag};
  return f;
}

static inline void finish(fixture_t *f, unsigned n,
                          ir_value_t *const *results) {
  ir_op_t *op =
      ir_op_create(f->module, OP_RETURN, (ir_loc_t){0}, n, results, 0);
  ir_append(&f->func->body, op);
}

/* What the sink has collected, one "where: text" a line. */
static inline const char *reported(fixture_t *f) {
  text_t text;
  text_init(&text, f->arena);
  for (const diag_t *d = f->diag.first; d != NULL; d = d->next)
    text_printf(&text, "%s%s%s%s", d == f->diag.first ? "" : "\n",
                d->loc.where != NULL ? d->loc.where : "",
                d->loc.where != NULL ? ": " : "", d->text);
  return text.data;
}

static inline void check_text(const char *got, const char *want,
                              const char *file, int line) {
  if (strcmp(got, want) == 0) return;
  print_error("expected:\n%s\nfound:\n%s\n", want, got);
  _fail(file, line);
}
#define assert_text(got, want) check_text((got), (want), __FILE__, __LINE__)

static inline ir_module_t *check_parses(fixture_t *f, const char *text,
                                        const char *data_dir, const char *file,
                                        int line) {
  ir_module_t *module;
  if (ir_parse(f->arena, text, strlen(text), data_dir, &f->diag, &module) ==
      MOEC_OK)
    return module;
  print_error("%s\nin\n%s\n", reported(f), text);
  _fail(file, line);
  return NULL;
}
#define assert_parses(f, text) \
  check_parses((f), (text), NULL, __FILE__, __LINE__)

static inline const char *print_with(fixture_t *f, ir_module_t *module,
                                     ir_print_options_t options) {
  text_t text;
  text_init(&text, f->arena);
  ir_print(module, &options, &text);
  return text.data;
}

static inline const char *print_brief(fixture_t *f, ir_module_t *module) {
  return print_with(f, module, (ir_print_options_t){.brief = true});
}

static inline void check_verified(fixture_t *f, ir_module_t *module,
                                  const char *file, int line) {
  if (ir_verify(module, &f->diag) == MOEC_OK) return;
  print_error("%s\nin\n%s\n", reported(f), print_brief(f, module));
  _fail(file, line);
}
#define assert_verified(f, module) \
  check_verified((f), (module), __FILE__, __LINE__)

#endif
