/* Reading JSON of any bytes, and writing it. */
#include "tools/json.h"
#include "value_support.h"

/* The value of a text that ends exactly where its heap block does. */
static moec_status_t parse(value_fixture_t *f, const char *text, size_t length,
                           const json_t **out) {
  char *exact = malloc(length > 0 ? length : 1);
  assert_non_null(exact);
  memcpy(exact, text, length);
  moec_status_t status = json_parse(f->arena, exact, length, &f->diag, out);
  free(exact);
  return status;
}

static const char *rewritten(value_fixture_t *f, const char *text) {
  const json_t *value;
  text_t out;
  assert_int_equal(parse(f, text, strlen(text), &value), MOEC_OK);
  text_init(&out, f->arena);
  json_write(value, &out);
  return out.data;
}

static void values_are_read_and_written_back(void **state) {
  value_fixture_t *f = *state;
  static const char *const texts[] = {"null",
                                      "true",
                                      "false",
                                      "0",
                                      "-12.5e+30",
                                      "\"\"",
                                      "[]",
                                      "{}",
                                      "[1,[2,{\"a\":[]}],\"x\"]",
                                      "{\"a\":1,\"b\":{\"c\":[true,null]}}",
                                      "\"\\\"\\\\\\u0001\xc3\xa4\""};
  for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++)
    assert_string_equal(rewritten(f, texts[i]), texts[i]);
}

static void white_space_and_escapes_are_understood(void **state) {
  value_fixture_t *f = *state;
  assert_string_equal(rewritten(f, " \t\r\n[ 1 , 2 ]\n"), "[1,2]");
  assert_string_equal(rewritten(f, "{ \"a\" : 1 }"), "{\"a\":1}");
  assert_string_equal(rewritten(f, "\"\\u0041\\/\\ud83d\\ude00\\u0000\""),
                      "\"A/\xf0\x9f\x98\x80\xef\xbf\xbd\"");
}

static void python_numbers_become_null(void **state) {
  value_fixture_t *f = *state;
  assert_string_equal(rewritten(f, "[NaN,Infinity,-Infinity,1e999]"),
                      "[null,null,null,1e999]");
}

static void members_are_found_by_name(void **state) {
  value_fixture_t *f = *state;
  const json_t *root;
  static const char text[] = "{\"rtol\":1e-3,\"why\":\"x\",\"rtol\":2}";
  assert_int_equal(parse(f, text, sizeof text - 1, &root), MOEC_OK);
  assert_true(json_get(root, "rtol")->number == 1e-3);
  assert_string_equal(json_get(root, "why")->text, "x");
  assert_null(json_get(root, "atol"));
  assert_null(json_get(json_get(root, "why"), "x"));
  assert_null(json_get(NULL, "x"));
}

static void malformed_texts_are_rejected(void **state) {
  value_fixture_t *f = *state;
  static const char *const texts[] = {"",
                                      " ",
                                      "nul",
                                      "01",
                                      "1.",
                                      ".5",
                                      "+1",
                                      "1e",
                                      "-",
                                      "\"",
                                      "\"\\",
                                      "\"\\x\"",
                                      "\"\n\"",
                                      "[",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "{",
                                      "{1:2}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "1 2",
                                      "[1}",
                                      "\"\xff\"",
                                      "\"\xc3\"",
                                      "\"\\u12\"",
                                      "\"\\ud800\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\\udc00\"",
                                      "truefalse",
                                      "\"\xed\xa0\x80\""};
  for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    const json_t *value;
    if (parse(f, texts[i], strlen(texts[i]), &value) != MOEC_E_INVALID_MODEL)
      fail_msg("accepted: %s", texts[i]);
    assert_null(value);
  }
}

static void zero_bytes_end_nothing(void **state) {
  value_fixture_t *f = *state;
  const json_t *value;
  assert_int_equal(parse(f, "1\0", 2, &value), MOEC_E_INVALID_MODEL);
  assert_int_equal(parse(f, "\"a\0b\"", 5, &value), MOEC_E_INVALID_MODEL);
  assert_int_equal(parse(f, "\0", 1, &value), MOEC_E_INVALID_MODEL);
}

static void depth_is_limited(void **state) {
  value_fixture_t *f = *state;
  char text[2000];
  const json_t *value;
  memset(text, '[', 64);
  memset(text + 64, ']', 64);
  assert_int_equal(parse(f, text, 128, &value), MOEC_OK);
  memset(text, '[', 65);
  memset(text + 65, ']', 65);
  assert_int_equal(parse(f, text, 130, &value), MOEC_E_INVALID_MODEL);
  memset(text, '[', sizeof text);
  assert_int_equal(parse(f, text, sizeof text, &value), MOEC_E_INVALID_MODEL);
}

static void every_prefix_is_survived(void **state) {
  value_fixture_t *f = *state;
  static const char text[] =
      "{\"a\": [1, -2.5e3, \"x\\u00e4\\n\", null], \"b\": {\"c\": false}}";
  const json_t *value;
  for (size_t n = 0; n < sizeof text - 1; n++)
    assert_int_equal(parse(f, text, n, &value), MOEC_E_INVALID_MODEL);
  assert_int_equal(parse(f, text, sizeof text - 1, &value), MOEC_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      VALUE_TEST(values_are_read_and_written_back),
      VALUE_TEST(white_space_and_escapes_are_understood),
      VALUE_TEST(python_numbers_become_null),
      VALUE_TEST(members_are_found_by_name),
      VALUE_TEST(malformed_texts_are_rejected),
      VALUE_TEST(zero_bytes_end_nothing),
      VALUE_TEST(depth_is_limited),
      VALUE_TEST(every_prefix_is_survived),
  };
  return cmocka_run_group_tests_name("tools/json", tests, NULL, NULL);
}
