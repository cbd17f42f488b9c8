/* Which f32 are elements of f16 and bf16 too, over all codes of both. */
#include <math.h>

#include "ir/element.h"
#include "ir/half.h"
#include "tests/ir/ir_support.h"

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* The f32 with the value of a code; NaN keep their payload. */
static uint32_t widened(dtype_t dtype, uint16_t code) {
  if (dtype == DT_BF16) return (uint32_t)code << 16;
  const bool is_nan = (code & 0x7fff) > 0x7c00;
  if (is_nan)
    return (code & 0x8000u) << 16 | 0x7f800000u | (code & 0x3ffu) << 13;
  return bits_of((float)ir_element_float(dtype, &code, 0));
}

static bool is_exact(dtype_t dtype, uint32_t bits) {
  return half_is_exact(dtype, &bits, 1);
}

static void check_code(dtype_t dtype, uint16_t code) {
  const uint32_t bits = widened(dtype, code);
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  const bool expected = dtype == DT_BF16 || !is_nan;
  uint16_t narrowed = 0;
  if (is_exact(dtype, bits) != expected)
    fail_msg("%s %04x, f32 %08x: exact %d", dtype_name(dtype), code, bits,
             !expected);
  half_narrow(dtype, &narrowed, &bits, 1);
  if (expected && narrowed != code)
    fail_msg("%s %04x: f32 %08x becomes %04x", dtype_name(dtype), code, bits,
             narrowed);
  /* Neighbours that differ in one bit below what the type has. */
  for (uint32_t bit = 1; bit < 0x2000; bit <<= 1)
    if (is_exact(dtype, bits ^ bit))
      fail_msg("%s: %08x is taken for exact", dtype_name(dtype), bits ^ bit);
}

static void all_codes_are_exact_but_nan_of_f16(void **state) {
  (void)state;
  for (uint32_t code = 0; code < 65536; code++) {
    check_code(DT_F16, (uint16_t)code);
    check_code(DT_BF16, (uint16_t)code);
  }
}

/* An f32 is exact just when rounding it gives it back. */
static void other_numbers_are_not_exact(void **state) {
  (void)state;
  uint64_t random = 1;
  for (unsigned i = 0; i < 2000000; i++) {
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
    uint32_t bits = (uint32_t)(random >> 32);
    if (i % 2 == 0) bits &= 0xffffffffu << (random >> 20 & 31);
    float x;
    memcpy(&x, &bits, sizeof x);
    if (isnan(x)) continue;
    uint16_t code = 0;
    ir_element_set_float(DT_F16, &code, 0, (double)x);
    assert_int_equal(is_exact(DT_F16, bits), widened(DT_F16, code) == bits);
    ir_element_set_float(DT_BF16, &code, 0, (double)x);
    assert_int_equal(is_exact(DT_BF16, bits), widened(DT_BF16, code) == bits);
  }
}

/* At any place of tensors of any length, unaligned. */
static void one_element_decides(void **state) {
  (void)state;
  static const uint64_t counts[] = {1, 2, 1023, 1024, 1025, 5000};
  static unsigned char memory[4 * 5000 + 1];
  for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++)
    for (unsigned t = 0; t < 2; t++) {
      const dtype_t dtype = t == 0 ? DT_F16 : DT_BF16;
      const uint64_t places[] = {0, counts[i] / 2, counts[i] - 1};
      memset(memory, 0, sizeof memory);
      assert_true(half_is_exact(dtype, memory + 1, counts[i]));
      for (unsigned p = 0; p < 3; p++) {
        memory[1 + 4 * places[p]] = 1; /* the smallest number of all */
        assert_false(half_is_exact(dtype, memory + 1, counts[i]));
        memory[1 + 4 * places[p]] = 0;
      }
    }
  assert_true(half_is_exact(DT_F16, NULL, 0));
}

static void narrowing_in_place_is_the_same(void **state) {
  (void)state;
  enum { N = 3000 };
  static uint32_t from[N];
  static uint16_t apart[N];
  for (unsigned t = 0; t < 2; t++) {
    const dtype_t dtype = t == 0 ? DT_F16 : DT_BF16;
    for (unsigned i = 0; i < N; i++)
      from[i] = widened(dtype, (uint16_t)(i * 7));
    half_narrow(dtype, apart, from, N);
    half_narrow(dtype, from, from, N);
    assert_memory_equal(from, apart, sizeof apart);
    assert_int_equal(apart[1], 7);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_codes_are_exact_but_nan_of_f16),
      cmocka_unit_test(other_numbers_are_not_exact),
      cmocka_unit_test(one_element_decides),
      cmocka_unit_test(narrowing_in_place_is_the_same),
  };
  return cmocka_run_group_tests_name("ir/half", tests, NULL, NULL);
}
