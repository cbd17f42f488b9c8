/* The judge itself: decoding, tolerances and distances of compare.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "tests/conformance/compare.h"

static double decoded(int dtype, uint64_t bits) {
  return decode_float(dtype, &bits, 0);
}

static void floats_decode_to_their_values(void **state) {
  (void)state;
  assert_true(decoded(MOEC_F32, 0x3f800001) == 1 + ldexp(1, -23));
  assert_true(decoded(MOEC_F32, 1) == ldexp(1, -149));
  assert_true(decoded(MOEC_F64, 0xc000000000000000) == -2);
  assert_true(decoded(MOEC_F16, 0x3555) == 0.333251953125);
  assert_true(decoded(MOEC_F16, 0x0001) == ldexp(1, -24));
  assert_true(decoded(MOEC_F16, 0xfc00) == -(double)INFINITY);
  assert_true(isnan(decoded(MOEC_F16, 0x7e00)));
  assert_true(decoded(MOEC_BF16, 0x4049) == 3.140625);
  assert_true(decoded(MOEC_F8E4M3FN, 0x7e) == 448);
  assert_true(isnan(decoded(MOEC_F8E4M3FN, 0xff)));
  assert_true(decoded(MOEC_F8E4M3FN, 0x01) == ldexp(1, -9));
  assert_true(decoded(MOEC_F8E4M3FNUZ, 0x7f) == 240);
  assert_true(isnan(decoded(MOEC_F8E4M3FNUZ, 0x80)));
  assert_true(decoded(MOEC_F8E5M2, 0x7b) == 57344);
  assert_true(decoded(MOEC_F8E5M2, 0x7c) == (double)INFINITY);
  assert_true(decoded(MOEC_F8E5M2FNUZ, 0x7f) == 57344);
  assert_true(isnan(decoded(MOEC_F8E5M2FNUZ, 0x80)));
  assert_true(decoded(MOEC_F8E8M0, 0) == ldexp(1, -127));
  assert_true(decoded(MOEC_F8E8M0, 254) == ldexp(1, 127));
  assert_true(isnan(decoded(MOEC_F8E8M0, 255)));
}

static void packed_elements_begin_in_the_low_bits(void **state) {
  (void)state;
  static const double values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const unsigned char bytes[] = {0x10, 0x32, 0x54, 0x76, 0xf9};
  for (unsigned i = 0; i < 8; i++)
    assert_true(decode_float(MOEC_F4E2M1, bytes, i) == values[i]);
  assert_true(decode_float(MOEC_F4E2M1, bytes, 8) == -0.5);
  assert_true(decode_float(MOEC_F4E2M1, bytes, 9) == -6);
}

static void distance_counts_units_of_the_reference(void **state) {
  (void)state;
  assert_true(ulp_distance(MOEC_F32, 1 + 3 * ldexp(1, -23), 1) == 3);
  assert_true(ulp_distance(MOEC_F32, 4 - ldexp(1, -22), 4) == 0.5);
  assert_true(ulp_distance(MOEC_F32, ldexp(5, -149), 0) == 5);
  assert_true(ulp_distance(MOEC_F16, 1, 1 + ldexp(1, -10)) == 1);
  assert_true(ulp_distance(MOEC_F64, (double)NAN, (double)NAN) == 0);
  assert_true(ulp_distance(MOEC_F64, (double)NAN, 1) == (double)INFINITY);
}

/* ---- Whole values -------------------------------------------------------- */

typedef struct fixture {
  int64_t got_dims[2], want_dims[2];
  ir_data_t data;
  moec_value_t got;
  onnx_value_t want;
  comparison_t comparison;
} fixture_t;

static void fill(fixture_t *f, int dtype, const void *got, const void *want,
                 uint64_t bytes, int64_t count) {
  memset(f, 0, sizeof *f);
  f->got_dims[0] = f->want_dims[0] = count;
  f->data = (ir_data_t){.bytes = want, .size = bytes};
  f->got = (moec_value_t){.struct_size = sizeof f->got,
                          .dtype = dtype,
                          .rank = 1,
                          .data = (void *)got,
                          .dims = f->got_dims,
                          .size = bytes};
  f->want = (onnx_value_t){.kind = IR_TENSOR,
                           .dtype = (dtype_t)dtype,
                           .rank = 1,
                           .dims = f->want_dims,
                           .data = &f->data};
  comparison_init(&f->comparison, 1e-3, 1e-7, false);
}

static bool compared(fixture_t *f) {
  return compare_value(&f->comparison, &f->got, &f->want);
}

static bool close_f32(float got, float want) {
  fixture_t f;
  fill(&f, MOEC_F32, &got, &want, sizeof got, 1);
  return compared(&f);
}

static void tolerance_is_that_of_allclose(void **state) {
  (void)state;
  assert_true(close_f32(1.0009f, 1));
  assert_false(close_f32(1.0011f, 1));
  assert_true(close_f32(9e-8f, 0));
  assert_false(close_f32(2e-7f, 0));
  assert_true(close_f32(-1000.9f, -1000));
  assert_false(close_f32(1, -1));
}

static void specials_are_equal_to_themselves_only(void **state) {
  (void)state;
  assert_true(close_f32((float)NAN, (float)NAN));
  assert_true(close_f32((float)INFINITY, (float)INFINITY));
  assert_false(close_f32((float)INFINITY, -(float)INFINITY));
  assert_false(close_f32((float)INFINITY, 3e38f));
  assert_false(close_f32(3e38f, (float)INFINITY));
  assert_false(close_f32((float)NAN, 0));
  assert_false(close_f32(0, (float)NAN));
}

static void integers_must_be_equal(void **state) {
  (void)state;
  fixture_t f;
  const int64_t want[] = {1000000, -1}, off[] = {1000001, -1};
  fill(&f, MOEC_I64, want, want, sizeof want, 2);
  assert_true(compared(&f));
  fill(&f, MOEC_I64, off, want, sizeof want, 2);
  assert_false(compared(&f));
  assert_non_null(strstr(f.comparison.words, "1 of 2 elements differ"));
}

static void four_bit_integers_beyond_the_count_do_not_matter(void **state) {
  (void)state;
  fixture_t f;
  const unsigned char got[] = {0x21, 0xf3}, want[] = {0x21, 0x03};
  fill(&f, MOEC_I4, got, want, 2, 3);
  assert_true(compared(&f));
  fill(&f, MOEC_I4, got, want, 2, 4);
  assert_false(compared(&f));
}

static void bf16_is_given_two_units(void **state) {
  (void)state;
  fixture_t f;
  const uint16_t want = 0x3f80, two = 0x3f82, three = 0x3f83;
  fill(&f, MOEC_BF16, &two, &want, sizeof want, 1);
  assert_true(compared(&f));
  assert_true(f.comparison.ulp[MOEC_BF16] == 2);
  fill(&f, MOEC_BF16, &three, &want, sizeof want, 1);
  assert_false(compared(&f));
}

static void types_and_shapes_must_be_equal(void **state) {
  (void)state;
  fixture_t f;
  const float data[] = {1, 2};
  fill(&f, MOEC_F32, data, data, sizeof data, 2);
  f.got.dtype = MOEC_I32;
  assert_false(compared(&f));
  fill(&f, MOEC_F32, data, data, sizeof data, 2);
  f.got_dims[0] = 1;
  assert_false(compared(&f));
  assert_string_equal(f.comparison.words, "shape [1], want [2]");
  fill(&f, MOEC_F32, data, data, sizeof data, 2);
  f.got.rank = 2;
  f.got_dims[1] = 1;
  assert_false(compared(&f));
}

static void random_values_are_judged_by_type_and_shape(void **state) {
  (void)state;
  fixture_t f;
  const float got[] = {1, 2}, want[] = {5, 6};
  fill(&f, MOEC_F32, got, want, sizeof want, 2);
  f.comparison.types_only = true;
  assert_true(compared(&f));
  f.got_dims[0] = 3;
  assert_false(compared(&f));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(floats_decode_to_their_values),
      cmocka_unit_test(packed_elements_begin_in_the_low_bits),
      cmocka_unit_test(distance_counts_units_of_the_reference),
      cmocka_unit_test(tolerance_is_that_of_allclose),
      cmocka_unit_test(specials_are_equal_to_themselves_only),
      cmocka_unit_test(integers_must_be_equal),
      cmocka_unit_test(four_bit_integers_beyond_the_count_do_not_matter),
      cmocka_unit_test(bf16_is_given_two_units),
      cmocka_unit_test(types_and_shapes_must_be_equal),
      cmocka_unit_test(random_values_are_judged_by_type_and_shape),
  };
  return cmocka_run_group_tests_name("conformance/compare", tests, NULL, NULL);
}
