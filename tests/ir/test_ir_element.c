/* Conversion of elements: against definitions of the formats by value. */
#include <math.h>

#include "ir/element.h"
#include "tests/ir/ir_support.h"

/* Value of a code by the definition of its format. */
static double defined_value(unsigned code, int e_bits, int m_bits, int bias) {
  int e = (int)(code >> m_bits) & ((1 << e_bits) - 1);
  int m = (int)code & ((1 << m_bits) - 1);
  double sign = code >> (e_bits + m_bits) & 1 ? -1 : 1;
  if (e == 0) return sign * m * pow(2, 1 - bias - m_bits);
  return sign * (1 + m * pow(2, -m_bits)) * pow(2, e - bias);
}

typedef struct format {
  dtype_t dtype;
  int e_bits, m_bits, bias;
  unsigned max; /* code of the largest number */
  bool infinite;
} format_t;

static const format_t formats[] = {
    {DT_F16, 5, 10, 15, 0x7bff, true},   {DT_BF16, 8, 7, 127, 0x7f7f, true},
    {DT_F8E4M3FN, 4, 3, 7, 0x7e, false}, {DT_F8E4M3FNUZ, 4, 3, 8, 0x7f, false},
    {DT_F8E5M2, 5, 2, 15, 0x7b, true},   {DT_F8E5M2FNUZ, 5, 2, 16, 0x7f, false},
    {DT_F4E2M1, 2, 1, 1, 0x7, false},
};
#define N_FORMATS (sizeof formats / sizeof formats[0])

static unsigned encode(dtype_t dtype, double x) {
  uint8_t bytes[2] = {0};
  ir_element_set_float(dtype, bytes, 0, x);
  return bytes[0] | (unsigned)bytes[1] << 8;
}

static double decode(dtype_t dtype, unsigned code) {
  uint8_t bytes[2] = {(uint8_t)code, (uint8_t)(code >> 8)};
  return ir_element_float(dtype, bytes, 0);
}

static void every_finite_code_has_its_defined_value(void **state) {
  (void)state;
  for (size_t i = 0; i < N_FORMATS; i++) {
    const format_t *f = &formats[i];
    unsigned sign = 1u << (f->e_bits + f->m_bits);
    for (unsigned code = 0; code <= f->max; code++) {
      double want = defined_value(code, f->e_bits, f->m_bits, f->bias);
      assert_true(decode(f->dtype, code) == want);
      assert_int_equal(encode(f->dtype, want), code);
      if (code == 0 && !f->infinite && f->dtype != DT_F8E4M3FN &&
          f->dtype != DT_F4E2M1)
        continue; /* no negative zero */
      assert_true(decode(f->dtype, code | sign) == -want);
      assert_int_equal(encode(f->dtype, -want), code | sign);
    }
  }
}

static void halves_round_to_even_and_others_to_nearest(void **state) {
  (void)state;
  for (size_t i = 0; i < N_FORMATS; i++) {
    const format_t *f = &formats[i];
    for (unsigned code = 0; code < f->max; code++) {
      double low = decode(f->dtype, code), high = decode(f->dtype, code + 1);
      double middle = (low + high) / 2; /* exact in a double */
      unsigned even = code % 2 == 0 ? code : code + 1;
      assert_int_equal(encode(f->dtype, middle), even);
      assert_int_equal(encode(f->dtype, nextafter(middle, 0)), code);
      assert_int_equal(encode(f->dtype, nextafter(middle, 1e300)), code + 1);
    }
  }
}

static void overflow_gives_infinity_or_the_largest_number(void **state) {
  (void)state;
  for (size_t i = 0; i < N_FORMATS; i++) {
    const format_t *f = &formats[i];
    bool wraps = f->dtype == DT_F16 || f->dtype == DT_BF16;
    assert_int_equal(encode(f->dtype, 1e300), wraps ? f->max + 1 : f->max);
    assert_int_equal(encode(f->dtype, (double)INFINITY),
                     f->infinite ? f->max + 1 : f->max);
    unsigned nan = encode(f->dtype, (double)NAN);
    if (f->dtype == DT_F4E2M1)
      assert_int_equal(nan, 7);
    else
      assert_true(isnan(decode(f->dtype, nan)));
  }
  assert_int_equal(encode(DT_F16, 65519), 0x7bff);
  assert_int_equal(encode(DT_F16, 65520), 0x7c00); /* halfway: even */
  assert_int_equal(encode(DT_F8E4M3FNUZ, -0.0), 0);
  assert_int_equal(encode(DT_F8E5M2FNUZ, -1e-30), 0);
}

static void scales_are_powers_of_two(void **state) {
  (void)state;
  assert_int_equal(encode(DT_F8E8M0, 1), 127);
  assert_int_equal(encode(DT_F8E8M0, 1.49), 127);
  assert_int_equal(encode(DT_F8E8M0, 1.51), 128);
  assert_int_equal(encode(DT_F8E8M0, 1e300), 254);
  assert_int_equal(encode(DT_F8E8M0, 0), 0);
  assert_int_equal(encode(DT_F8E8M0, -1), 255);
  assert_true(isnan(decode(DT_F8E8M0, 255)));
  assert_true(decode(DT_F8E8M0, 0) == ldexp(1, -127));
}

static int64_t as_int(dtype_t dtype, double x) {
  uint8_t bytes[8] = {0};
  ir_element_set_float(dtype, bytes, 0, x);
  return ir_element_int(dtype, bytes, 0);
}

static void doubles_become_the_nearest_integer_in_range(void **state) {
  (void)state;
  assert_int_equal(as_int(DT_I32, 2.5), 2);
  assert_int_equal(as_int(DT_I32, 3.5), 4);
  assert_int_equal(as_int(DT_I32, -2.5), -2);
  assert_int_equal(as_int(DT_I32, -3.500001), -4);
  assert_int_equal(as_int(DT_I8, 1000), 127);
  assert_int_equal(as_int(DT_I8, -1000), -128);
  assert_int_equal(as_int(DT_U8, -3), 0);
  assert_int_equal(as_int(DT_U8, 255.4), 255);
  assert_int_equal(as_int(DT_I4, 100), 7);
  assert_int_equal(as_int(DT_I4, -100), -8);
  assert_int_equal(as_int(DT_U2, 9), 3);
  assert_int_equal(as_int(DT_I2, -9), -2);
  assert_int_equal(as_int(DT_I64, 1e300), INT64_MAX);
  assert_int_equal(as_int(DT_I64, -1e300), INT64_MIN);
  assert_int_equal(as_int(DT_I64, -0x1p63), INT64_MIN);
  assert_int_equal((uint64_t)as_int(DT_U64, 0x1p63), UINT64_C(1) << 63);
  assert_int_equal((uint64_t)as_int(DT_U64, 1e300), UINT64_MAX);
  assert_int_equal(as_int(DT_I16, (double)NAN), 0);
  assert_int_equal(as_int(DT_BOOL, 0.25), 1);
}

static void large_integers_round_once(void **state) {
  (void)state;
  uint8_t bytes[8];
  /* 2^24 + 1 + a bit lost in a double: must round up, not to even */
  int64_t v = (INT64_C(1) << 62) + (INT64_C(1) << 38) + 1;
  ir_element_set_int(DT_F32, bytes, 0, v);
  assert_true(ir_element_float(DT_F32, bytes, 0) == 0x1p62 + 0x1p39);
  ir_element_set_int(DT_F32, bytes, 0, v - 1); /* a tie */
  assert_true(ir_element_float(DT_F32, bytes, 0) == 0x1p62);
  ir_element_set_int(DT_F32, bytes, 0, -v);
  assert_true(ir_element_float(DT_F32, bytes, 0) == -0x1p62 - 0x1p39);
  ir_element_set_int(DT_F64, bytes, 0, INT64_MIN);
  assert_true(ir_element_float(DT_F64, bytes, 0) == -0x1p63);
  ir_element_set_int(DT_BF16, bytes, 0, 257);
  assert_true(ir_element_float(DT_BF16, bytes, 0) == 256);
}

static void packed_elements_keep_their_neighbours(void **state) {
  (void)state;
  uint8_t bytes[3] = {0xff, 0xff, 0xff};
  ir_element_set_int(DT_I4, bytes, 2, -8);
  assert_int_equal(bytes[0], 0xff);
  assert_int_equal(bytes[1], 0xf8); /* low bits first */
  ir_element_set_int(DT_I4, bytes, 3, 3);
  assert_int_equal(bytes[1], 0x38);
  assert_int_equal(ir_element_int(DT_I4, bytes, 2), -8);
  assert_int_equal(ir_element_int(DT_I4, bytes, 3), 3);
  assert_int_equal(ir_element_int(DT_I4, bytes, 4), -1);
  ir_element_set_int(DT_U2, bytes, 9, 1);
  assert_int_equal(bytes[2], 0xf7);
  assert_int_equal(ir_element_int(DT_U2, bytes, 9), 1);
  assert_int_equal(ir_element_int(DT_I2, bytes, 8), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_finite_code_has_its_defined_value),
      TEST(halves_round_to_even_and_others_to_nearest),
      TEST(overflow_gives_infinity_or_the_largest_number),
      TEST(scales_are_powers_of_two),
      TEST(doubles_become_the_nearest_integer_in_range),
      TEST(large_integers_round_once),
      TEST(packed_elements_keep_their_neighbours),
  };
  return cmocka_run_group_tests_name("ir/ir_element", tests, NULL, NULL);
}
