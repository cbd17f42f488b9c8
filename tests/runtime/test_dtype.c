#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

static void elements_have_bits_alignment_and_names(void **state) {
  (void)state;
  assert_int_equal(dtype_bits(MOEC_F32), 32);
  assert_int_equal(dtype_bits(MOEC_U2), 2);
  assert_int_equal(dtype_bits(0), 0);
  assert_int_equal(dtype_bits(27), 0);
  assert_int_equal(dtype_align(MOEC_F64), 8);
  assert_int_equal(dtype_align(MOEC_C64), 4);
  assert_int_equal(dtype_align(MOEC_C128), 8);
  assert_int_equal(dtype_align(MOEC_I4), 1);
  assert_string_equal(dtype_name(MOEC_BF16), "bf16");
  assert_string_equal(dtype_name(99), "unknown");
}

static void bytes_of_packed_tensors_are_rounded_up(void **state) {
  (void)state;
  int64_t bytes;
  for (int64_t n = 0; n < 20; n++) {
    assert_true(dtype_tensor_bytes(MOEC_I4, 1, &n, &bytes));
    assert_int_equal(bytes, (n + 1) / 2);
    assert_true(dtype_tensor_bytes(MOEC_U2, 1, &n, &bytes));
    assert_int_equal(bytes, (n + 3) / 4);
    assert_true(dtype_tensor_bytes(MOEC_C128, 1, &n, &bytes));
    assert_int_equal(bytes, 16 * n);
  }
  assert_true(dtype_tensor_bytes(MOEC_F32, 0, NULL, &bytes));
  assert_int_equal(bytes, 4);
}

static void bytes_do_not_overflow(void **state) {
  (void)state;
  int64_t bytes;
  const int64_t most[] = {INT64_MAX};
  assert_true(dtype_tensor_bytes(MOEC_U8, 1, most, &bytes));
  assert_int_equal(bytes, INT64_MAX);
  assert_true(dtype_tensor_bytes(MOEC_U4, 1, most, &bytes));
  assert_int_equal(bytes, (int64_t)1 << 62);
  assert_false(dtype_tensor_bytes(MOEC_U16, 1, most, &bytes));
  const int64_t zero_between[] = {(int64_t)1 << 40, 0, (int64_t)1 << 40};
  assert_false(dtype_tensor_bytes(MOEC_U8, 3, zero_between, &bytes));
  const int64_t zero[] = {(int64_t)1 << 40, 0, 5};
  assert_true(dtype_tensor_bytes(MOEC_U8, 3, zero, &bytes));
  assert_int_equal(bytes, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(elements_have_bits_alignment_and_names),
      cmocka_unit_test(bytes_of_packed_tensors_are_rounded_up),
      cmocka_unit_test(bytes_do_not_overflow),
  };
  return cmocka_run_group_tests_name("runtime/dtype", tests, NULL, NULL);
}
