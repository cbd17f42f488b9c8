/* What the tests of passes/ share: running passes on a text. */
#ifndef TESTS_PASSES_PASS_SUPPORT_H
#define TESTS_PASSES_PASS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "passes/pass.h"

typedef struct fixture {
  arena_t *arena, *scratch;
  diag_sink_t diag;
  pass_options_t options; /* verify after each pass, no limit of rewrites */
} fixture_t;

static inline int pass_setup(void **state) {
  arena_t *arena = arena_create(0), *scratch = arena_create(0);
  if (arena == NULL || scratch == NULL) return 1;
  fixture_t *f = ARENA_NEW(arena, fixture_t);
  f->arena = arena;
  f->scratch = scratch;
  f->options = (pass_options_t){.verify_each = true, .rewrite_limit = -1};
  diag_init(&f->diag, arena, NULL);
  *state = f;
  return 0;
}

static inline int pass_teardown(void **state) {
  fixture_t *f = *state;
  arena_destroy(f->scratch);
  arena_destroy(f->arena);
  return 0;
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, pass_setup, pass_teardown)

/* What the sink has collected, one text a line. */
static inline const char *reported(fixture_t *f) {
  text_t text;
  text_init(&text, f->arena);
  for (const diag_t *d = f->diag.first; d != NULL; d = d->next)
    text_printf(&text, "%s%s", d == f->diag.first ? "" : "\n", d->text);
  return text.data;
}

static inline ir_module_t *check_parses(fixture_t *f, const char *text,
                                        const char *file, int line) {
  ir_module_t *module;
  if (ir_parse(f->arena, text, strlen(text), NULL, &f->diag, &module) ==
      MOEC_OK)
    return module;
  print_error("%s\nin\n%s\n", reported(f), text);
  _fail(file, line);
  return NULL;
}
#define assert_parses(f, text) check_parses((f), (text), __FILE__, __LINE__)

/* Runs passes with the fixture's options. */
static inline moec_status_t run_passes(fixture_t *f, ir_module_t *module,
                                       const char *passes) {
  f->options.passes = passes;
  return pass_run_all(module, f->scratch, &f->options, &f->diag);
}

static inline const char *print_brief(fixture_t *f, ir_module_t *module) {
  text_t text;
  text_init(&text, f->arena);
  ir_print(module, &(ir_print_options_t){.brief = true}, &text);
  return text.data;
}

static inline void check_text(const char *got, const char *want,
                              const char *file, int line) {
  if (strcmp(got, want) == 0) return;
  print_error("expected:\n%s\nfound:\n%s\n", want, got);
  _fail(file, line);
}
#define assert_text(got, want) check_text((got), (want), __FILE__, __LINE__)

/* A stream into memory; its text so far. */
typedef struct captured {
  FILE *stream;
  char *data;
  size_t size;
} captured_t;

static inline void capture_begin(captured_t *c) {
  *c = (captured_t){0};
  c->stream = open_memstream(&c->data, &c->size);
  assert_non_null(c->stream);
}

/* Copies the text into the arena and releases the stream. */
static inline const char *capture_end(fixture_t *f, captured_t *c) {
  fclose(c->stream);
  const char *text = arena_strdup(f->arena, c->data);
  free(c->data);
  return text;
}

#endif
