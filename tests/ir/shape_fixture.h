/* What the tests of shape laws share: a module, operands from texts, checks
 * that report the test's own line. */
#ifndef TESTS_IR_SHAPE_FIXTURE_H
#define TESTS_IR_SHAPE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "ir/build.h"

typedef struct fixture {
  arena_t *arena;
  ir_module_t *module;
  ir_func_t *func;
  ir_builder_t b;
  diag_sink_t diag;
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  f->arena = arena_create(0);
  f->module = ir_module_create(f->arena, "m");
  f->func = ir_func_create(f->module, "main", IR_FUNC_MAIN, 0, NULL);
  diag_init(&f->diag, f->arena, NULL);
  f->b = (ir_builder_t){
      .module = f->module, .region = &f->func->body, .diag = &f->diag};
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture_t *f = *state;
  arena_destroy(f->arena);
  free(f);
  return 0;
}

/* "B,S + 1,4" */
static inline unsigned dims(fixture_t *f, const char *text,
                            const expr_t **out) {
  unsigned n = 0;
  while (*text != '\0' && *text != ']') {
    assert_true(n < IR_MAX_RANK);
    out[n] = expr_parse(f->module->exprs, &text, true);
    assert_non_null(out[n++]);
    if (*text == ',') text++;
  }
  return n;
}

/* A value of the type "f32[B,4]" or "buf f32", defined nowhere. */
static inline ir_value_t *value(fixture_t *f, const char *text) {
  ir_value_t *v = ARENA_NEW(f->arena, ir_value_t);
  bool buffer = strncmp(text, "buf ", 4) == 0;
  if (buffer) text += 4;
  size_t length = strcspn(text, "[");
  dtype_t dtype = dtype_by_name(text, length);
  assert_true(dtype != DT_NONE);
  const expr_t *dim[IR_MAX_RANK];
  unsigned n = buffer ? 0 : dims(f, text + length + 1, dim);
  const expr_t *const *copy =
      arena_grow_array(f->arena, dim, n, n, sizeof dim[0]);
  v->type = buffer ? ir_buffer_type(dtype) : ir_tensor_type(dtype, n, copy);
  v->region = &f->func->body;
  return v;
}

/* An operation on values of these types (NULL ends the list). */
static inline ir_op_t *op_of(fixture_t *f, ir_opcode_t code, unsigned n_out,
                             const char *const *types) {
  ir_value_t *in[16];
  unsigned n = 0;
  for (; types[n] != NULL; n++) in[n] = value(f, types[n]);
  return ir_op_create(f->module, code, (ir_loc_t){0}, n, in, n_out);
}
#define OP_OF(code, n_out, ...) \
  op_of(*state, OP_##code, n_out, (const char *const[]){__VA_ARGS__, NULL})

static inline void set_exprs(fixture_t *f, ir_op_t *op, ir_attr_id_t id,
                             const char *text) {
  const expr_t *e[IR_MAX_RANK];
  unsigned n = dims(f, text, e);
  ir_set_exprs(op, id, n, e);
}
#define SET_EXPRS(op, id, text) set_exprs(*state, op, ATTR_##id, text)
#define SET_EXPR(op, id, text) \
  ir_set_expr(op, ATTR_##id, (*(const expr_t **)parse_one(*state, text)))
#define SET_INTS(op, id, ...)                                                  \
  ir_set_ints(op, ATTR_##id, sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t), \
              (int64_t[]){__VA_ARGS__})

static inline const expr_t **parse_one(fixture_t *f, const char *text) {
  const expr_t **e = ARENA_ARRAY(f->arena, const expr_t *, 1);
  *e = expr_parse(f->module->exprs, &text, true);
  assert_non_null(*e);
  return e;
}

static inline void check_type(fixture_t *f, ir_op_t *op, unsigned index,
                              const char *expected, const char *file,
                              int line) {
  moec_status_t status = ir_infer_types(f->module, op, &f->diag);
  if (status != MOEC_OK) {
    print_error("inference failed: %s\n",
                f->diag.last != NULL ? f->diag.last->text : "without a word");
    _fail(file, line);
  }
  const char *found = ir_type_str(f->arena, &op->out[index].type);
  if (strcmp(found, expected) == 0) return;
  print_error("result %u is %s, expected %s\n", index, found, expected);
  _fail(file, line);
}
#define CHECK_TYPE(op, index, expected) \
  check_type(*state, op, index, expected, __FILE__, __LINE__)

static inline void check_error(fixture_t *f, ir_op_t *op, const char *expected,
                               const char *file, int line) {
  f->diag.last = f->diag.first = NULL;
  moec_status_t status = ir_infer_types(f->module, op, &f->diag);
  const char *found = f->diag.last != NULL ? f->diag.last->text : "(nothing)";
  if (status != MOEC_OK && strcmp(found, expected) == 0) return;
  print_error("found \"%s\" (status %d), expected the error \"%s\"\n", found,
              (int)status, expected);
  _fail(file, line);
}
#define CHECK_ERROR(op, expected) \
  check_error(*state, op, expected, __FILE__, __LINE__)

/* The content as "B,S + 1,4", or "unknown". */
static inline void check_content(fixture_t *f, const ir_value_t *v,
                                 const char *expected, const char *file,
                                 int line) {
  text_t text;
  text_init(&text, f->arena);
  int64_t n = 0;
  if (v == NULL) {
    print_error("inference failed: %s\n",
                f->diag.last != NULL ? f->diag.last->text : "without a word");
    _fail(file, line);
    return;
  }
  if (v->content == NULL) text_printf(&text, "unknown");
  if (v->content != NULL && !ir_type_static_count(&v->type, &n))
    _fail(file, line);
  for (int64_t i = 0; i < n; i++) {
    if (i > 0) text_printf(&text, ",");
    expr_print(v->content[i], &text);
  }
  if (strcmp(text.data, expected) == 0) return;
  print_error("content is %s, expected %s\n", text.data, expected);
  _fail(file, line);
}
#define CHECK_CONTENT(v, expected) \
  check_content(*state, v, expected, __FILE__, __LINE__)

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
