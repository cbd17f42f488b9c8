#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

static int32_t call(int64_t *order, const void *in, int32_t dtype, int64_t n,
                    int64_t m) {
  size_t bytes = (size_t)n * sizeof(int64_t);
  int64_t *scratch = malloc(bytes + (bytes == 0));
  moert_arg_t args[] = {{.pointer = order},
                        {.pointer = scratch},
                        {.pointer = (void *)(uintptr_t)in},
                        {.i = dtype},
                        {.i = n},
                        {.i = m}};
  int32_t status = moert_op_sort_rows(&program_instance->frame, args);
  free(scratch);
  return status;
}

/* Few values, so that rows agree at their start and many are equal. */
static void rows_are_in_order_and_equal_ones_stay(void **state) {
  (void)state;
  static const int64_t sizes[] = {0, 1, 2, 15, 16, 17, 33, 100, 1000};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
    for (int64_t m = 0; m < 4; m++) {
      int64_t n = sizes[s], *order = malloc((size_t)n * 8 + 1);
      int32_t *x = malloc((size_t)(n * m) * sizeof *x + 1);
      uint32_t seed = 12345;
      for (int64_t i = 0; i < n * m; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (int32_t)(seed >> 16) % 3 - 1;
      }
      assert_int_equal(call(order, x, MOEC_I32, n, m), MOEC_OK);
      bool *seen = calloc((size_t)n + 1, sizeof *seen);
      for (int64_t i = 0; i < n; i++) {
        assert_in_range(order[i], 0, n - 1);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        if (i == 0) continue;
        const int32_t *a = x + order[i - 1] * m, *b = x + order[i] * m;
        int64_t k = 0;
        while (k < m && a[k] == b[k]) k++;
        assert_true(k < m ? a[k] < b[k] : order[i - 1] < order[i]);
      }
      free(seen);
      free(x);
      free(order);
    }
}

static void nan_comes_last_and_minus_zero_equals_zero(void **state) {
  (void)state;
  const float x[] = {(float)NAN,      0.0f,  -0.0f, -(float)NAN,
                     (float)INFINITY, -1.0f, 0.0f,  -(float)INFINITY};
  static const int64_t want[] = {7, 5, 1, 2, 6, 4, 0, 3};
  int64_t order[8];
  assert_int_equal(call(order, x, MOEC_F32, 8, 1), MOEC_OK);
  assert_memory_equal(order, want, sizeof want);
}

static void unsigned_numbers_and_bool_have_no_sign(void **state) {
  (void)state;
  static const uint8_t x[] = {200, 1, 255, 0};
  static const int64_t want[] = {3, 1, 0, 2};
  int64_t order[4];
  assert_int_equal(call(order, x, MOEC_U8, 4, 1), MOEC_OK);
  assert_memory_equal(order, want, sizeof want);
}

static void strings_and_complex_numbers_are_refused(void **state) {
  (void)state;
  int64_t order[1];
  const double x[2] = {0, 0};
  program_instance->frame.node = 1;
  assert_int_equal(call(order, x, MOEC_STRING, 1, 1), MOEC_E_UNSUPPORTED);
  assert_int_equal(call(order, x, MOEC_C64, 1, 1), MOEC_E_UNSUPPORTED);
  assert_int_equal(call(order, x, MOEC_C128, 1, 1), MOEC_E_UNSUPPORTED);
  assert_int_equal(call(order, x, MOEC_I4, 1, 1), MOEC_E_UNSUPPORTED);
  program_instance->frame.node = -1;
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, program_create, program_destroy)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(rows_are_in_order_and_equal_ones_stay),
      TEST(nan_comes_last_and_minus_zero_equals_zero),
      TEST(unsigned_numbers_and_bool_have_no_sign),
      TEST(strings_and_complex_numbers_are_refused),
  };
  return cmocka_run_group_tests_name("runtime/sort_rows", tests, NULL, NULL);
}
