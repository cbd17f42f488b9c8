#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

enum { MOST_K = 32, MOST_SIDE = 48, ROWS = 3, FENCE = -77 };

static uint32_t seed = 20240607;

static uint32_t draw(uint32_t n) {
  seed = seed * 1664525u + 1013904223u;
  return (seed >> 8) % n;
}

/* ---- What is meant ------------------------------------------------------- */

typedef struct entry {
  float sum;
  int64_t at;
} entry_t;

/* TopK's order: NaN is the largest, 0 and -0 are the same, then by index. */
static int compare(const void *left, const void *right) {
  const entry_t *a = left, *b = right;
  if (isnan(a->sum) != isnan(b->sum)) return isnan(a->sum) ? -1 : 1;
  if (!isnan(a->sum) && a->sum != b->sum) return a->sum > b->sum ? -1 : 1;
  return a->at < b->at ? -1 : 1;
}

static void check_row(const float *a, int64_t n, const float *b, int64_t m,
                      int64_t k, const float *value, const int64_t *index) {
  entry_t *all = malloc((size_t)(n * m) * sizeof *all);
  assert_non_null(all);
  for (int64_t i = 0; i < n * m; i++)
    all[i] = (entry_t){.sum = a[i / m] + b[i % m], .at = i};
  qsort(all, (size_t)(n * m), sizeof *all, compare);
  for (int64_t j = 0; j < k; j++) {
    assert_int_equal(index[j], all[j].at);
    if (isnan(all[j].sum))
      assert_true(isnan(value[j]));
    else
      assert_memory_equal(&value[j], &all[j].sum, sizeof value[j]);
  }
  free(all);
}

static int32_t run(const float *a, int64_t n, const float *b, int64_t m,
                   int64_t k, float *values, int64_t *indices) {
  moert_arg_t args[] = {{.pointer = values},
                        {.pointer = indices},
                        {.pointer = (void *)a},
                        {.pointer = (void *)b},
                        {.i = ROWS},
                        {.i = n},
                        {.i = m},
                        {.i = k}};
  return moert_op_topk_sums(&program_instance->frame, args);
}

static void check(const float *a, int64_t n, const float *b, int64_t m,
                  int64_t k) {
  float values[ROWS * MOST_K + 1];
  int64_t indices[ROWS * MOST_K + 1];
  indices[ROWS * k] = FENCE;
  assert_int_equal(run(a, n, b, m, k, values, indices), MOEC_OK);
  assert_int_equal(indices[ROWS * k], FENCE);
  for (int64_t row = 0; row < ROWS; row++)
    check_row(a + row * n, n, b + row * m, m, k, values + row * k,
              indices + row * k);
}

/* ---- Cases --------------------------------------------------------------- */

typedef float (*element_fn)(void);

static float any_number(void) { return (float)draw(1 << 20) / 1024 - 500; }
static float few_numbers(void) { return (float)draw(3) - 1; }
static float one_number(void) { return 2; }
static float zeros(void) { return draw(2) == 0 ? 0.0f : -0.0f; }

/* Beside 2^24 most of these are rounded to the same sum. */
static float rounded_away(void) {
  return draw(4) == 0 ? 16777216.0f : (float)draw(64) / 16;
}

static float masked(void) { return draw(3) == 0 ? any_number() : -INFINITY; }

static float not_finite(void) {
  static const float some[] = {INFINITY, -INFINITY, NAN, 1, 2};
  return draw(4) == 0 ? some[draw(5)] : any_number();
}

static float beyond_range(void) {
  return (draw(2) == 0 ? 3e38f : -3e38f) + 1e36f * (float)draw(4);
}

static const element_fn kinds[] = {any_number, few_numbers,  one_number,
                                   zeros,      rounded_away, masked,
                                   not_finite, beyond_range};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void fill(float *x, int64_t n, element_fn element) {
  for (int64_t i = 0; i < ROWS * n; i++) x[i] = element();
}

static void results_are_those_of_topk_over_all_sums(void **state) {
  (void)state;
  static const int64_t sides[] = {1, 2, 7, 16, 33, MOST_SIDE};
  static const int64_t ks[] = {1, 2, 5, 8, 17, MOST_K};
  float a[ROWS * MOST_SIDE], b[ROWS * MOST_SIDE];
  for (unsigned kind = 0; kind < KINDS * KINDS; kind++)
    for (unsigned i = 0; i < 36; i++)
      for (unsigned j = 0; j < 6; j++) {
        int64_t n = sides[i / 6], m = sides[i % 6];
        if (ks[j] > n * m) continue;
        fill(a, n, kinds[kind / KINDS]);
        fill(b, m, kinds[kind % KINDS]);
        check(a, n, b, m, ks[j]);
      }
}

/* The third of a and the first have the same sum: the first comes earlier, yet
 * is not among the two best of a. */
static void ties_by_rounding_are_settled_by_index(void **state) {
  (void)state;
  float a[3 * ROWS], b[2 * ROWS];
  for (unsigned row = 0; row < ROWS; row++) {
    memcpy(a + 3 * row, (float[]){0, 0.5f, 0.25f}, 3 * sizeof a[0]);
    memcpy(b + 2 * row, (float[]){16777216, 0}, 2 * sizeof b[0]);
  }
  check(a, 3, b, 2, 1);
  check(a, 3, b, 2, 2);
  check(a, 3, b, 2, 6);
}

static void k_beyond_all_sums_is_an_error(void **state) {
  (void)state;
  float a[2 * ROWS] = {0}, values[ROWS * MOST_K];
  int64_t indices[ROWS * MOST_K];
  assert_int_equal(run(a, 2, a, 2, 5, values, indices), MOEC_E_VALUE);
  assert_int_equal(run(a, 0, a, 2, 1, values, indices), MOEC_E_VALUE);
  assert_int_equal(run(a, 0, a, 2, 0, values, indices), MOEC_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(results_are_those_of_topk_over_all_sums,
                                      program_create, program_destroy),
      cmocka_unit_test_setup_teardown(ties_by_rounding_are_settled_by_index,
                                      program_create, program_destroy),
      cmocka_unit_test_setup_teardown(k_beyond_all_sums_is_an_error,
                                      program_create, program_destroy),
  };
  return cmocka_run_group_tests_name("runtime/topk_sums", tests, NULL, NULL);
}
