#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

static int32_t call(int64_t *out, const void *in, int32_t dtype, int64_t rank,
                    const int64_t *dims, int64_t count) {
  moert_arg_t args[5 + MOEC_MAX_RANK] = {{.pointer = out},
                                         {.pointer = (void *)(uintptr_t)in},
                                         {.i = dtype},
                                         {.i = rank}};
  for (int64_t i = 0; i < rank; i++) args[4 + i].i = dims[i];
  args[4 + rank].i = count;
  return moert_op_nonzero(&program_instance->frame, args);
}

/* Compares with the definition; is_set[i] tells of element i. */
static void check(const void *in, const bool *is_set, int32_t dtype,
                  int64_t rank, const int64_t *dims) {
  int64_t total = 1, count = 0, at = 0;
  for (int64_t i = 0; i < rank; i++) total *= dims[i];
  for (int64_t i = 0; i < total; i++) count += is_set[i];
  size_t n_out = (size_t)(rank * count);
  int64_t *out = malloc(n_out * sizeof *out + (n_out == 0));
  assert_int_equal(call(out, in, dtype, rank, dims, count), MOEC_OK);
  for (int64_t i = 0; i < total; i++) {
    if (!is_set[i]) continue;
    int64_t rest = i;
    for (int64_t axis = rank; axis-- > 0;) {
      int64_t want = rest % dims[axis];
      if (out[axis * count + at] != want)
        assert_int_equal(out[axis * count + at], want);
      rest /= dims[axis];
    }
    at++;
  }
  free(out);
}

/* Elements cycle through `n` patterns of whole bytes, of which the first n_zero
 * are zeros. */
static void check_patterns(int32_t dtype, const uint64_t *patterns, int n,
                           int n_zero) {
  static const int64_t dims[] = {3, 1, 5, 7};
  enum { TOTAL = 105 };
  size_t bytes = dtype_bits(dtype) / 8;
  char *in = calloc(TOTAL, bytes);
  bool is_set[TOTAL];
  for (int i = 0; i < TOTAL; i++) {
    int which = i * 5 % n;
    memcpy(in + (size_t)i * bytes, &patterns[which], bytes < 8 ? bytes : 8);
    is_set[i] = which >= n_zero;
  }
  check(in, is_set, dtype, 4, dims);
  free(in);
}

static void all_types_agree_with_the_definition(void **state) {
  (void)state;
  static const struct {
    int32_t dtype;
    int n, n_zero;
    uint64_t patterns[4];
  } cases[] = {
      {MOEC_F32, 4, 2, {0, 1u << 31, 1, 0x7fc00000}},
      {MOEC_F64, 4, 2, {0, 1ull << 63, 1, 1ull << 32}},
      {MOEC_F16, 4, 2, {0, 0x8000, 0x8001, 0x7e00}},
      {MOEC_BF16, 4, 2, {0, 0x8000, 0x8001, 0x7fc0}},
      {MOEC_F8E4M3FN, 4, 2, {0, 0x80, 0x81, 0x7f}},
      {MOEC_F8E5M2, 4, 2, {0, 0x80, 0x81, 0x7f}},
      {MOEC_F8E4M3FNUZ, 3, 1, {0, 0x80, 1}},
      {MOEC_F8E5M2FNUZ, 3, 1, {0, 0x80, 1}},
      {MOEC_F8E8M0, 3, 0, {0, 0x80, 0xff}},
      {MOEC_BOOL, 2, 1, {0, 1}},
      {MOEC_U8, 3, 1, {0, 0x80, 1}},
      {MOEC_I8, 3, 1, {0, 0x80, 1}},
      {MOEC_U16, 3, 1, {0, 0x8000, 1}},
      {MOEC_I16, 3, 1, {0, 0x8000, 1}},
      {MOEC_U32, 3, 1, {0, 1u << 31, 1}},
      {MOEC_I32, 3, 1, {0, 1u << 31, 1}},
      {MOEC_U64, 3, 1, {0, 1ull << 63, 1}},
      {MOEC_I64, 3, 1, {0, 1ull << 63, 1ull << 40}},
      {MOEC_C64, 4, 2, {0, 1ull << 63 | 1u << 31, 1, 1ull << 32}},
      {MOEC_C128, 3, 2, {0, 1ull << 63, 1}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    check_patterns(cases[i].dtype, cases[i].patterns, cases[i].n,
                   cases[i].n_zero);
}

static void the_imaginary_half_counts(void **state) {
  (void)state;
  const uint64_t in[] = {0, 1ull << 63, 0, 2, 1ull << 63, 0};
  const bool is_set[] = {false, true, false};
  const int64_t dims[] = {3};
  check(in, is_set, MOEC_C128, 1, dims);
}

static void packed_types_agree_with_the_definition(void **state) {
  (void)state;
  static const int32_t types[] = {MOEC_U4, MOEC_I4, MOEC_F4E2M1, MOEC_U2,
                                  MOEC_I2};
  const int64_t dims[] = {7, 9};
  for (int t = 0; t < 5; t++) {
    uint8_t in[32] = {0};
    bool is_set[63];
    unsigned bits = dtype_bits(types[t]);
    for (unsigned i = 0; i < 63; i++) {
      unsigned value = i * 7 % (1u << bits);
      in[i * bits / 8] |= (uint8_t)(value << i * bits % 8);
      is_set[i] = value != 0 && !(types[t] == MOEC_F4E2M1 && value == 8);
    }
    check(in, is_set, types[t], 2, dims);
  }
}

/* ONNX: a scalar has no coordinates, so the result is [0, count]. */
static void scalars_and_empty_tensors_have_none(void **state) {
  (void)state;
  const float one = 1, zero = 0;
  int64_t out = 77;
  const int64_t dims[] = {3, 0, 5};
  assert_int_equal(call(&out, &one, MOEC_F32, 0, NULL, 1), MOEC_OK);
  assert_int_equal(call(&out, &zero, MOEC_F32, 0, NULL, 0), MOEC_OK);
  assert_int_equal(call(&out, &one, MOEC_F32, 3, dims, 0), MOEC_OK);
  assert_int_equal(out, 77);
}

static void a_wrong_count_is_an_internal_error(void **state) {
  (void)state;
  const int8_t in[] = {0, 1, 2};
  const int64_t dims[] = {3};
  int64_t out[3];
  assert_int_equal(call(out, in, MOEC_I8, 1, dims, 3), MOEC_E_INTERNAL);
  assert_string_equal(moert_message(program_instance),
                      "2 elements are not zero but 3 were counted");
  assert_int_equal(call(out, in, MOEC_STRING, 1, dims, 3), MOEC_E_UNSUPPORTED);
}

/* Several pieces, and more than one per 1/256 of the elements. */
static void large_tensors_are_split_among_threads(void **state) {
  (void)state;
  static const int64_t sizes[][3] = {
      {2, 8191, 1}, {1, 16384, 1}, {5, 16385, 1}, {100, 300, 150}};
  for (int s = 0; s < 4; s++) {
    int64_t total = sizes[s][0] * sizes[s][1] * sizes[s][2];
    uint8_t *in = malloc((size_t)total);
    bool *is_set = malloc((size_t)total);
    uint32_t seed = 7;
    for (int64_t i = 0; i < total; i++) {
      seed = seed * 1664525u + 1013904223u;
      in[i] = seed >> 24 < 90 ? (uint8_t)(seed >> 16 | 1) : 0;
      is_set[i] = in[i] != 0;
    }
    check(in, is_set, MOEC_U8, 3, sizes[s]);
    free(is_set);
    free(in);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_types_agree_with_the_definition),
      cmocka_unit_test(the_imaginary_half_counts),
      cmocka_unit_test(packed_types_agree_with_the_definition),
      cmocka_unit_test(scalars_and_empty_tensors_have_none),
      cmocka_unit_test(a_wrong_count_is_an_internal_error),
      cmocka_unit_test(large_tensors_are_split_among_threads),
  };
  return cmocka_run_group_tests_name("runtime/nonzero", tests, program_create,
                                     program_destroy);
}
