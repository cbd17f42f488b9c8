/* Errors between results and reference values. */
#include <math.h>

#include "tools/compare.h"
#include "value_support.h"

static comparison_t compare_f32(value_fixture_t *f, int64_t n, const float *got,
                                const float *want, double rtol, double atol) {
  return compare_values(f->arena, make_vector(f->arena, DT_F32, n, got),
                        make_vector(f->arena, DT_F32, n, want),
                        (tolerance_t){rtol, atol});
}

static void worst_errors_come_with_their_places(void **state) {
  value_fixture_t *f = *state;
  const float want[4] = {100, 1, 0.001f, 5};
  const float got[4] = {101, 1, 0.002f, nextafterf(5, 6)};
  comparison_t c = compare_f32(f, 4, got, want, 1e-6, 1e-6);
  assert_int_equal(c.count, 4);
  assert_int_equal(c.n_bad, 2); /* one step at 5 is 4.8e-7 */
  assert_int_equal(c.first_bad, 0);
  assert_true(c.absolute.value == 1);
  assert_int_equal(c.absolute.index, 0);
  assert_true(fabs(c.relative.value - 1) < 1e-6);
  assert_int_equal(c.relative.index, 2);
  assert_int_equal(c.ulp.index, 2);
  assert_true(c.ulp.value == 8388608); /* a factor of two */
  assert_false(comparison_agrees(&c));
}

static void tolerances_add_up(void **state) {
  value_fixture_t *f = *state;
  const float want[1] = {8}, got[1] = {8.75f};
  comparison_t c = compare_f32(f, 1, got, want, 0.0625, 0.25);
  assert_true(comparison_agrees(&c)); /* 0.75 <= 0.25 + 0.0625 * 8 */
  c = compare_f32(f, 1, got, want, 0.0625, 0.125);
  assert_false(comparison_agrees(&c));
  c = compare_f32(f, 1, want, want, 0, 0);
  assert_true(comparison_agrees(&c));
}

static void nan_agrees_with_nan_alone(void **state) {
  value_fixture_t *f = *state;
  const float nan_value[1] = {NAN}, one[1] = {1};
  comparison_t c = compare_f32(f, 1, nan_value, nan_value, 0, 0);
  assert_true(comparison_agrees(&c));
  c = compare_f32(f, 1, nan_value, one, 1e9, 1e9);
  assert_false(comparison_agrees(&c));
  c = compare_f32(f, 1, one, nan_value, 1e9, 1e9);
  assert_false(comparison_agrees(&c));
  assert_true(isinf(c.absolute.value));
}

static void infinities_must_be_the_same(void **state) {
  value_fixture_t *f = *state;
  const float plus[1] = {INFINITY}, minus[1] = {-INFINITY}, one[1] = {1};
  comparison_t c = compare_f32(f, 1, plus, plus, 0, 0);
  assert_true(comparison_agrees(&c));
  c = compare_f32(f, 1, plus, minus, 1e9, 1e9);
  assert_false(comparison_agrees(&c));
  c = compare_f32(f, 1, one, plus, 1e9, 1e9);
  assert_false(comparison_agrees(&c));
}

static void units_of_the_last_place_cross_zero(void **state) {
  value_fixture_t *f = *state;
  const float got[2] = {0x1p-149f, -0.0f}, want[2] = {-0x1p-149f, 0};
  comparison_t c = compare_f32(f, 2, got, want, 0, 1);
  assert_true(c.ulp.value == 2);
  assert_int_equal(c.ulp.index, 0);
  assert_true(comparison_agrees(&c));
}

static void units_are_those_of_the_type(void **state) {
  value_fixture_t *f = *state;
  const uint16_t got[1] = {0x3c01}, want[1] = {0x3c00};
  const dtype_t dtypes[] = {DT_F16, DT_BF16};
  for (unsigned i = 0; i < 2; i++) {
    comparison_t c = compare_values(
        f->arena, make_vector(f->arena, dtypes[i], 1, got),
        make_vector(f->arena, dtypes[i], 1, want), (tolerance_t){0, 1});
    assert_true(c.ulp.value == 1);
  }
  const uint8_t packed_got[1] = {0x21}, packed_want[1] = {0x31};
  comparison_t c = compare_values(
      f->arena, make_vector(f->arena, DT_F4E2M1, 2, packed_got),
      make_vector(f->arena, DT_F4E2M1, 2, packed_want), (tolerance_t){0, 0});
  assert_int_equal(c.n_bad, 1);
  assert_int_equal(c.first_bad, 1);
  assert_true(c.ulp.value == 1);
}

static void integers_must_be_equal_unless_atol_is_one(void **state) {
  value_fixture_t *f = *state;
  const int64_t got[2] = {INT64_MIN, 100001}, want[2] = {INT64_MIN, 100000};
  onnx_value_t *g = make_vector(f->arena, DT_I64, 2, got);
  onnx_value_t *w = make_vector(f->arena, DT_I64, 2, want);
  comparison_t c = compare_values(f->arena, g, w, (tolerance_t){0.1, 0.5});
  assert_int_equal(c.n_bad, 1);
  assert_int_equal(c.first_bad, 1);
  c = compare_values(f->arena, g, w, (tolerance_t){0, 1});
  assert_true(comparison_agrees(&c));
  const int64_t far[2] = {INT64_MAX, 0};
  c = compare_values(f->arena, make_vector(f->arena, DT_I64, 2, far), g,
                     (tolerance_t){0, 0});
  assert_true(c.absolute.value == 0x1p64);
  const uint64_t large[1] = {UINT64_MAX}, small[1] = {0};
  c = compare_values(f->arena, make_vector(f->arena, DT_U64, 1, large),
                     make_vector(f->arena, DT_U64, 1, small),
                     (tolerance_t){0, 0});
  assert_true(c.absolute.value == 0x1p64);
}

static void complex_parts_count_as_one_element(void **state) {
  value_fixture_t *f = *state;
  const float got[4] = {1, 2, 3, 4}, want[4] = {1, 2, 30, 40};
  comparison_t c = compare_values(
      f->arena, make_vector(f->arena, DT_C64, 2, got),
      make_vector(f->arena, DT_C64, 2, want), (tolerance_t){0, 0});
  assert_int_equal(c.n_bad, 1);
  assert_int_equal(c.first_bad, 1);
  assert_true(c.absolute.value == 36);
  assert_int_equal(c.absolute.index, 1);
}

static void strings_are_equal_or_not(void **state) {
  value_fixture_t *f = *state;
  const char *const got[2] = {"a", "b"}, *const want[2] = {"a", "c"};
  comparison_t c = compare_values(
      f->arena, make_vector(f->arena, DT_STR, 2, got),
      make_vector(f->arena, DT_STR, 2, want), (tolerance_t){1e9, 1e9});
  assert_int_equal(c.n_bad, 1);
  assert_int_equal(c.first_bad, 1);
}

static void other_types_and_dims_are_a_difference(void **state) {
  value_fixture_t *f = *state;
  const int64_t row[2] = {1, 4}, column[2] = {4, 1};
  const float zeros[4] = {0};
  onnx_value_t *a = make_tensor(f->arena, DT_F32, 2, row, zeros);
  onnx_value_t *others[] = {make_tensor(f->arena, DT_F32, 2, column, zeros),
                            make_tensor(f->arena, DT_I32, 2, row, zeros),
                            make_vector(f->arena, DT_F32, 4, zeros),
                            make_list(f->arena, IR_SEQUENCE, 1, &a)};
  for (unsigned i = 0; i < 4; i++) {
    comparison_t c =
        compare_values(f->arena, a, others[i], (tolerance_t){1, 1});
    assert_false(comparison_agrees(&c));
    assert_contains(c.difference, "found f32[1,4], expected ");
  }
}

static void sequences_tell_of_their_first_bad_element(void **state) {
  value_fixture_t *f = *state;
  const float one[1] = {1}, two[1] = {2}, nine[1] = {9};
  onnx_value_t *got[3] = {make_vector(f->arena, DT_F32, 1, one),
                          make_vector(f->arena, DT_F32, 1, two),
                          make_vector(f->arena, DT_F32, 1, nine)};
  onnx_value_t *want[3] = {got[0], make_vector(f->arena, DT_F32, 1, nine),
                           got[0]};
  comparison_t c = compare_values(
      f->arena, make_list(f->arena, IR_SEQUENCE, 3, got),
      make_list(f->arena, IR_SEQUENCE, 3, want), (tolerance_t){0, 0});
  assert_int_equal(c.n_bad, 2);
  assert_int_equal(c.count, 3);
  assert_string_equal(c.path, "[1]");
  assert_true(c.absolute.value == 7);
  c = compare_values(f->arena, make_list(f->arena, IR_SEQUENCE, 2, got),
                     make_list(f->arena, IR_SEQUENCE, 3, want),
                     (tolerance_t){0, 0});
  assert_contains(c.difference, "sequence of 2, expected sequence of 3");
  c = compare_values(f->arena, make_list(f->arena, IR_OPTIONAL, 0, NULL),
                     make_list(f->arena, IR_OPTIONAL, 0, NULL),
                     (tolerance_t){0, 0});
  assert_true(comparison_agrees(&c));
}

static void nothing_agrees_with_nothing(void **state) {
  value_fixture_t *f = *state;
  comparison_t c = compare_f32(f, 0, NULL, NULL, 0, 0);
  assert_int_equal(c.count, 0);
  assert_true(comparison_agrees(&c));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      VALUE_TEST(worst_errors_come_with_their_places),
      VALUE_TEST(tolerances_add_up),
      VALUE_TEST(nan_agrees_with_nan_alone),
      VALUE_TEST(infinities_must_be_the_same),
      VALUE_TEST(units_of_the_last_place_cross_zero),
      VALUE_TEST(units_are_those_of_the_type),
      VALUE_TEST(integers_must_be_equal_unless_atol_is_one),
      VALUE_TEST(complex_parts_count_as_one_element),
      VALUE_TEST(strings_are_equal_or_not),
      VALUE_TEST(other_types_and_dims_are_a_difference),
      VALUE_TEST(sequences_tell_of_their_first_bad_element),
      VALUE_TEST(nothing_agrees_with_nothing),
  };
  return cmocka_run_group_tests_name("tools/compare", tests, NULL, NULL);
}
