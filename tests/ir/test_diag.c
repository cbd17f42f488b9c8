/* Diagnostics: order, format, escaping, limits, final status; dtypes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "ir/ir.h"

static int setup(void **state) {
  *state = arena_create(0);
  return *state == NULL;
}

static int teardown(void **state) {
  arena_destroy(*state);
  return 0;
}

static const char *printed(arena_t *arena, const diag_sink_t *diag) {
  char *data = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&data, &size);
  diag_print(diag, out);
  fclose(out);
  char *copy = arena_strndup(arena, data, size);
  free(data);
  return copy;
}

static void lines_are_sorted_by_node(void **state) {
  diag_sink_t diag;
  diag_init(&diag, *state, "m.onnx");
  ir_loc_t third = {.node = "gate", .type = "TopK", .index = 4};
  ir_loc_t first = {.type = "com.microsoft::MoE", .index = 1};
  ir_loc_t tensor = {.where = "tensor \"w\""};
  assert_int_equal(diag_error(&diag, third, MOEC_E_INVALID_MODEL, "k = %d", 9),
                   MOEC_E_INVALID_MODEL);
  diag_note(&diag, (ir_loc_t){0}, "at most 8");
  diag_warning(&diag, first, "slow");
  diag_error(&diag, third, MOEC_E_SHAPE, "again");
  diag_error(&diag, tensor, MOEC_E_IO, "cannot read");
  assert_string_equal(printed(*state, &diag),
                      "moec: error: m.onnx: tensor \"w\": cannot read\n"
                      "moec: warning: m.onnx: node #0 (com.microsoft::MoE): "
                      "slow\n"
                      "moec: error: m.onnx: node #3 \"gate\" (TopK): k = 9\n"
                      "moec: note: m.onnx: at most 8\n"
                      "moec: error: m.onnx: node #3 \"gate\" (TopK): again\n");
  assert_int_equal(diag.n_errors, 3);
  assert_int_equal(diag.n_warnings, 1);
}

static void the_most_telling_status_wins(void **state) {
  diag_sink_t diag;
  diag_init(&diag, *state, NULL);
  assert_int_equal(diag_status(&diag), MOEC_OK);
  diag_error(&diag, (ir_loc_t){0}, MOEC_E_IO, "x");
  assert_int_equal(diag_status(&diag), MOEC_E_IO);
  diag_error(&diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED, "x");
  assert_int_equal(diag_status(&diag), MOEC_E_UNSUPPORTED);
  diag_error(&diag, (ir_loc_t){0}, MOEC_E_INVALID_MODEL, "x");
  diag_error(&diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED, "x");
  assert_int_equal(diag_status(&diag), MOEC_E_INVALID_MODEL);
  assert_int_equal(diag_error(NULL, (ir_loc_t){0}, MOEC_E_RANK, "x"),
                   MOEC_E_RANK);
}

static void errors_beyond_the_limit_are_counted(void **state) {
  diag_sink_t diag;
  diag_init(&diag, *state, NULL);
  diag.max_errors = 2;
  for (int i = 0; i < 5; i++) {
    diag_error(&diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED, "e%d", i);
    diag_note(&diag, (ir_loc_t){0}, "n%d", i);
  }
  assert_string_equal(printed(*state, &diag),
                      "moec: error: e0\nmoec: note: n0\n"
                      "moec: error: e1\nmoec: note: n1\n"
                      "moec: error: 3 more errors are not shown\n");
}

static void terminals_are_safe(void **state) {
  const struct {
    const char *raw, *shown;
  } rows[] = {
      {"plain \"text\"", "plain \"text\""},
      {"a\nb\tc\rd", "a\\nb\\tc\\rd"},
      {"\x1b[31m", "\\x1b[31m"},
      {"\x7f", "\\x7f"},
      {"\xc2\x9b", "\\u{9b}"},
      {"\xe2\x80\xae", "\\u{202e}"},
      {"\xe2\x81\xa6", "\\u{2066}"},
      {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
      {"\xf0\x9f\x99\x82", "\xf0\x9f\x99\x82"},
      {"\xc3", "\\xc3"},
      {"\xc0\xaf", "\\xc0\\xaf"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
      {"\xff", "\\xff"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    text_t text;
    text_init(&text, *state);
    diag_escape(&text, rows[i].raw, strlen(rows[i].raw));
    assert_string_equal(text.data, rows[i].shown);
  }
}

static void names_of_megabytes_are_cut(void **state) {
  diag_sink_t diag;
  diag_init(&diag, *state, NULL);
  size_t n = 10 << 20;
  char *name = malloc(n + 1);
  memset(name, 'x', n);
  name[n] = '\0';
  for (int i = 0; i < 50; i++)
    diag_error(&diag, (ir_loc_t){.node = name, .index = 1},
               MOEC_E_INVALID_MODEL, "value \"%s\" is bad", name);
  free(name);
  const char *text = printed(*state, &diag);
  assert_in_range(strlen(text), 50 * 4000, 50 * 4400);
  assert_true(arena_used(*state) < 20 << 20);
}

static void dtypes_know_their_sizes(void **state) {
  (void)state;
  assert_string_equal(dtype_name(DT_BF16), "bf16");
  assert_int_equal(dtype_by_name("f8e4m3fn", 8), DT_F8E4M3FN);
  assert_int_equal(dtype_by_name("f8e4m3fnX", 8), DT_F8E4M3FN);
  assert_int_equal(dtype_by_name("f8e4m3", 6), DT_NONE);
  assert_int_equal(dtype_bytes(DT_I4, 3), 2);
  assert_int_equal(dtype_bytes(DT_U2, 5), 2);
  assert_int_equal(dtype_bytes(DT_U2, 4), 1);
  assert_int_equal(dtype_bytes(DT_F64, 3), 24);
  assert_true(dtype_bytes(DT_F64, UINT64_MAX / 4) == UINT64_MAX);
  assert_true(dtype_is_integer(DT_U4) && !dtype_is_integer(DT_BOOL));
  assert_true(dtype_is_float(DT_F4E2M1) && !dtype_is_float(DT_I8));
  assert_string_equal(dtype_name((dtype_t)999), "none");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lines_are_sorted_by_node),
      TEST(the_most_telling_status_wins),
      TEST(errors_beyond_the_limit_are_counted),
      TEST(terminals_are_safe),
      TEST(names_of_megabytes_are_cut),
      TEST(dtypes_know_their_sizes),
  };
  return cmocka_run_group_tests_name("ir/diag", tests, NULL, NULL);
}
