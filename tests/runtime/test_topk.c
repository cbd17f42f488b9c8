#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

/* A number as sign, and integer and double parts: doubles hold all types but
 * the 64-bit integers, those are compared as integers. */
typedef struct number {
  double real;
  int64_t i;
  uint64_t u;
} number_t;

static double small_float(uint64_t bits, int exponent_bits, int mantissa_bits,
                          int bias, bool has_infinity) {
  int width = 1 + exponent_bits + mantissa_bits;
  double sign = bits >> (width - 1) & 1 ? -1 : 1;
  int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  uint64_t mantissa = bits & ((1u << mantissa_bits) - 1);
  if (has_infinity && exponent == (1 << exponent_bits) - 1)
    return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
  if (exponent == 0)
    return sign * ldexp((double)mantissa, 1 - bias - mantissa_bits);
  return sign * ldexp((double)mantissa + (double)(1u << mantissa_bits),
                      exponent - bias - mantissa_bits);
}

static double float_of(int32_t dtype, uint64_t bits) {
  float f;
  double d;
  uint32_t word = (uint32_t)bits;
  switch (dtype) {
    case MOEC_F32:
      memcpy(&f, &word, 4);
      return (double)f;
    case MOEC_F64:
      memcpy(&d, &bits, 8);
      return d;
    case MOEC_F16:
      return small_float(bits, 5, 10, 15, true);
    case MOEC_BF16:
      return small_float(bits, 8, 7, 127, true);
    case MOEC_F8E4M3FN:
      return (bits & 0x7f) == 0x7f ? (double)NAN
                                   : small_float(bits, 4, 3, 7, false);
    case MOEC_F8E4M3FNUZ:
      return bits == 0x80 ? (double)NAN : small_float(bits, 4, 3, 8, false);
    case MOEC_F8E5M2:
      return small_float(bits, 5, 2, 15, true);
    case MOEC_F8E5M2FNUZ:
      return bits == 0x80 ? (double)NAN : small_float(bits, 5, 2, 16, false);
    case MOEC_F8E8M0:
      return bits == 0xff ? (double)NAN : ldexp(1, (int)bits - 127);
    default:
      return 0;
  }
}

static uint64_t bits_at(int32_t dtype, const void *base, int64_t i) {
  uint64_t bits = 0;
  size_t bytes = dtype_bits(dtype) / 8;
  memcpy(&bits, (const char *)base + (size_t)i * bytes, bytes);
  return bits;
}

static number_t number_at(int32_t dtype, const void *base, int64_t i) {
  uint64_t bits = bits_at(dtype, base, i);
  number_t n = {0};
  switch (dtype) {
    case MOEC_I8:
      n.i = (int8_t)bits;
      break;
    case MOEC_I16:
      n.i = (int16_t)bits;
      break;
    case MOEC_I32:
      n.i = (int32_t)bits;
      break;
    case MOEC_I64:
      n.i = (int64_t)bits;
      break;
    case MOEC_BOOL:
    case MOEC_U8:
    case MOEC_U16:
    case MOEC_U32:
    case MOEC_U64:
      n.u = bits;
      break;
    default:
      n.real = float_of(dtype, bits);
  }
  return n;
}

/* -1, 0, 1; NaN above all numbers and equal to itself. */
static int compare(number_t a, number_t b) {
  bool a_nan = isnan(a.real), b_nan = isnan(b.real);
  if (a_nan || b_nan) return a_nan - b_nan;
  if (a.real != b.real) return a.real < b.real ? -1 : 1;
  if (a.i != b.i) return a.i < b.i ? -1 : 1;
  return (a.u > b.u) - (a.u < b.u);
}

/* Index of the best element of the row that `taken` lacks, first of ties. */
static int64_t best_left(int32_t dtype, const void *in, int64_t n,
                         int64_t inner, int64_t row, bool largest,
                         const bool *taken) {
  int64_t best = -1;
  for (int64_t j = 0; j < n; j++) {
    if (taken[j]) continue;
    if (best < 0) {
      best = j;
      continue;
    }
    int order = compare(number_at(dtype, in, row + j * inner),
                        number_at(dtype, in, row + best * inner));
    if (largest ? order > 0 : order < 0) best = j;
  }
  return best;
}

static int32_t call(void *values, void *indices, const void *in, int32_t dtype,
                    int64_t outer, int64_t n, int64_t inner, int64_t k,
                    bool largest) {
  const moert_arg_t args[] = {{.pointer = values},
                              {.pointer = indices},
                              {.pointer = (void *)(uintptr_t)in},
                              {.i = dtype},
                              {.i = outer},
                              {.i = n},
                              {.i = inner},
                              {.i = k},
                              {.i = largest},
                              {.i = 1}};
  return moert_op_topk(&program_instance->frame, args);
}

/* Exact-size buffers, so that a sanitizer sees a step beyond. */
static void check(int32_t dtype, const void *in, int64_t outer, int64_t n,
                  int64_t inner, int64_t k, bool largest) {
  size_t bytes = dtype_bits(dtype) / 8;
  int64_t count = outer * k * inner;
  char *values = malloc((size_t)count * bytes + (count == 0));
  int64_t *indices = malloc((size_t)count * 8 + (count == 0));
  bool *taken = malloc((size_t)n + 1);
  assert_int_equal(
      call(values, indices, in, dtype, outer, n, inner, k, largest), MOEC_OK);
  for (int64_t row = 0; row < outer * inner; row++) {
    int64_t o = row / inner, i = row % inner;
    memset(taken, 0, (size_t)n + 1);
    for (int64_t j = 0; j < k; j++) {
      int64_t want =
          best_left(dtype, in, n, inner, o * n * inner + i, largest, taken);
      int64_t at = (o * k + j) * inner + i;
      if (indices[at] != want)
        fail_msg(
            "%s[%lld,%lld,%lld] k %lld largest %d: row %lld rank %lld is "
            "%lld, want %lld",
            dtype_name(dtype), (long long)outer, (long long)n, (long long)inner,
            (long long)k, largest, (long long)row, (long long)j,
            (long long)indices[at], (long long)want);
      assert_int_equal(bits_at(dtype, values, at),
                       bits_at(dtype, in, (o * n + want) * inner + i));
      taken[want] = true;
    }
  }
  free(taken);
  free(indices);
  free(values);
}

static uint64_t seed = 1;

static uint64_t random_bits(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return seed >> 33 ^ seed << 20;
}

static const int32_t all_types[] = {
    MOEC_F32,        MOEC_U8,         MOEC_I8,    MOEC_U16,      MOEC_I16,
    MOEC_I32,        MOEC_I64,        MOEC_BOOL,  MOEC_F16,      MOEC_F64,
    MOEC_U32,        MOEC_U64,        MOEC_BF16,  MOEC_F8E4M3FN, MOEC_F8E5M2,
    MOEC_F8E4M3FNUZ, MOEC_F8E5M2FNUZ, MOEC_F8E8M0};

/* Random bits; with `few`, of few values, so that ties abound: zeros of both
 * signs, NaNs of both, infinities, the extremes of integers. */
static void *make_data(int32_t dtype, int64_t count, bool few) {
  size_t bytes = dtype_bits(dtype) / 8;
  char *data = malloc((size_t)count * bytes + (count == 0));
  unsigned width = dtype_bits(dtype);
  for (int64_t i = 0; i < count; i++) {
    uint64_t bits = random_bits();
    if (few) {
      uint64_t sign = 1ull << (width - 1), r = bits % 7;
      uint64_t infinity = dtype == MOEC_F64    ? 0x7ffull << 52
                          : dtype == MOEC_F32  ? 0x7f800000
                          : dtype == MOEC_BF16 ? 0x7f80
                                               : 0x7c00;
      bits = r == 0   ? 0
             : r == 1 ? sign
             : r == 2 ? sign - 1
             : r == 3 ? sign | (sign - 1)
             : r == 4 ? infinity
             : r == 5 ? infinity | sign
                      : 3;
    }
    if (dtype == MOEC_BOOL) bits &= 1;
    memcpy(data + (size_t)i * bytes, &bits, bytes);
  }
  return data;
}

static void all_types_agree_with_the_definition(void **state) {
  (void)state;
  for (size_t t = 0; t < sizeof all_types / sizeof all_types[0]; t++)
    for (int few = 0; few < 2; few++)
      for (int largest = 0; largest < 2; largest++) {
        void *in = make_data(all_types[t], 3 * 50, few != 0);
        for (int64_t k = 0; k <= 50; k += k < 4 ? 1 : 7)
          check(all_types[t], in, 3, 50, 1, k, largest != 0);
        check(all_types[t], in, 3, 50, 1, 50, largest != 0);
        check(all_types[t], in, 5, 10, 3, 4, largest != 0);
        check(all_types[t], in, 1, 50, 3, 41, largest != 0);
        free(in);
      }
}

static void sizes_around_the_limits_work(void **state) {
  (void)state;
  static const int64_t ns[] = {1, 2, 31, 32, 33, 34, 255, 256, 257, 600};
  static const int64_t ks[] = {1, 2, 31, 32, 33, 34, 255, 256, 257, 600};
  for (size_t i = 0; i < sizeof ns / sizeof ns[0]; i++)
    for (size_t j = 0; j < sizeof ks / sizeof ks[0] && ks[j] <= ns[i]; j++)
      for (int few = 0; few < 2; few++) {
        void *in = make_data(MOEC_F32, ns[i] * 2, few != 0);
        check(MOEC_F32, in, 1, ns[i], 2, ks[j], (i + j) % 2 != 0);
        check(MOEC_F32, in, 2, ns[i], 1, ks[j], (i + j) % 2 == 0);
        free(in);
      }
}

static float pattern_at(int pattern, int i, int n) {
  switch (pattern) {
    case 0: /* up */
      return (float)i;
    case 1: /* down */
      return (float)(n - i);
    case 2: /* up and down */
      return (float)(i < n / 2 ? i : n - i);
    case 3: /* all the same */
      return 1;
    case 4: /* teeth */
      return (float)(i % 17);
    case 5: /* the median of three is among the first, over and over */
      return (float)(i % 2 == 0 ? i : n + i / 2);
    default: /* halves interleaved */
      return (float)(i % 2 == 0 ? i / 2 : n - i / 2);
  }
}

/* Orders that make a careless quicksort quadratic or too deep. */
static void ordered_rows_sort(void **state) {
  (void)state;
  enum { N = 1500 };
  float in[N];
  for (int pattern = 0; pattern < 7; pattern++) {
    for (int i = 0; i < N; i++) in[i] = pattern_at(pattern, i, N);
    check(MOEC_F32, in, 1, N, 1, N, pattern % 2 == 0);
    check(MOEC_F32, in, 1, N, 1, 700, pattern % 2 != 0);
  }
}

static void empty_tensors_are_fine(void **state) {
  (void)state;
  float one = 1;
  int64_t index = 5;
  assert_int_equal(call(&one, &index, &one, MOEC_F32, 0, 4, 1, 2, true), 0);
  assert_int_equal(call(&one, &index, &one, MOEC_F32, 3, 4, 0, 2, true), 0);
  assert_int_equal(call(&one, &index, &one, MOEC_F32, 3, 0, 1, 0, true), 0);
  assert_int_equal(index, 5);
}

static void k_larger_than_axis_is_rejected(void **state) {
  (void)state;
  float x[4] = {0};
  int64_t indices[5];
  program_instance->frame.node = 1;
  assert_int_equal(call(x, indices, x, MOEC_F32, 1, 4, 1, 5, true),
                   MOEC_E_VALUE);
  assert_string_equal(
      moert_message(program_instance),
      "node #1 \"range\" (Range): k is 5 but the axis has 4 elements");
  program_instance->frame.node = -1;
  assert_int_equal(call(x, indices, x, MOEC_F32, 1, 4, 1, -1, true),
                   MOEC_E_VALUE);
  assert_string_equal(moert_message(program_instance),
                      "k is -1 but the axis has 4 elements");
  assert_int_equal(call(x, indices, x, MOEC_C64, 1, 4, 1, 1, true),
                   MOEC_E_UNSUPPORTED);
  assert_int_equal(call(x, indices, x, MOEC_I4, 1, 4, 1, 1, true),
                   MOEC_E_UNSUPPORTED);
}

static void many_rows_are_split_among_threads(void **state) {
  (void)state;
  void *in = make_data(MOEC_F16, 4000 * 64, true);
  check(MOEC_F16, in, 4000, 64, 1, 8, true);
  free(in);
  in = make_data(MOEC_I32, 300 * 100 * 3, false);
  check(MOEC_I32, in, 300, 100, 3, 40, false);
  free(in);
}

/* Rows as routers have them: numbers that differ, some equal, a NaN now and
 * then, in a buffer that ends with the row. */
static void few_of_f32_rows_are_found_by_lanes(void **state) {
  (void)state;
  enum { ROWS = 6 };
  for (int64_t n = 1; n <= 300; n += n < 70 ? 1 : 23)
    for (int64_t k = 1; k <= n && k <= 34; k += k < 3 ? 1 : 5) {
      float *in = malloc((size_t)(ROWS * n) * sizeof *in);
      for (int64_t i = 0; i < ROWS * n; i++) {
        uint64_t bits = random_bits();
        in[i] = (float)(int64_t)(bits % 1000003) * 1e-3F - 500;
        if (i / n == 1) in[i] = (float)(bits % 5);
        if (i / n == 2 && bits % 3 == 0) in[i] = -0.0F;
        if (i / n == 3 && bits % 60 == 0) in[i] = (float)NAN;
        if (i / n == 4) in[i] = bits % 9 == 0 ? 1 : (float)-INFINITY;
      }
      in[ROWS * n - 1] = n % 2 == 0 ? (float)NAN : 1e9F;
      check(MOEC_F32, in, ROWS, n, 1, k, true);
      check(MOEC_F32, in, ROWS, n, 1, k, false);
      free(in);
    }
}

/* Short rows are done several at a time, the last ones and those beside a NaN
 * one by one. */
static void check_short_rows(void) {
  enum { ROWS = 37 };
  for (int64_t n = 1; n <= 34; n++)
    for (int64_t k = 1; k <= n && k <= 5; k++) {
      float *in = malloc((size_t)(ROWS * n) * sizeof *in);
      for (int64_t i = 0; i < ROWS * n; i++) {
        uint64_t bits = random_bits();
        in[i] = (float)(int64_t)(bits % 1000003) * 1e-3F - 500;
        if (i / n % 3 == 1) in[i] = (float)(bits % 3) - 1;
        if (i / n % 5 == 2) in[i] = bits % 3 != 0 ? -0.0F : 0;
        if (i / n % 7 == 3) in[i] = bits % 2 == 0 ? 1 : (float)-INFINITY;
        if (i / n == 19 && bits % 4 == 0 && n % 3 == 0) in[i] = (float)NAN;
      }
      check(MOEC_F32, in, ROWS, n, 1, k, true);
      check(MOEC_F32, in, ROWS, n, 1, k, false);
      free(in);
    }
}

/* The same with the vectors of each processor that runs here. */
static void all_processors_agree(void **state) {
  static const uint64_t ways[] = {0, MOERT_CPU_AVX2,
                                  MOERT_CPU_AVX2 | MOERT_CPU_AVX512};
  const moert_variant_t *chosen = program_instance->variant;
  for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
    if ((ways[i] & ~cpu_features()) != 0) continue;
    moert_variant_t variant = *chosen;
    variant.features = ways[i];
    program_instance->variant = &variant;
    check_short_rows();
    few_of_f32_rows_are_found_by_lanes(state);
    program_instance->variant = chosen;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_processors_agree),
      cmocka_unit_test(few_of_f32_rows_are_found_by_lanes),
      cmocka_unit_test(all_types_agree_with_the_definition),
      cmocka_unit_test(sizes_around_the_limits_work),
      cmocka_unit_test(ordered_rows_sort),
      cmocka_unit_test(empty_tensors_are_fine),
      cmocka_unit_test(k_larger_than_axis_is_rejected),
      cmocka_unit_test(many_rows_are_split_among_threads),
  };
  return cmocka_run_group_tests_name("runtime/topk", tests, program_create,
                                     program_destroy);
}
