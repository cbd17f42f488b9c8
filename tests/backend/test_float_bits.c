/* The small floats: every code widens to the value that its definition gives,
 * and narrowing finds the nearest value, halves to even, from f32 and f64, on
 * every ISA that the host runs, one lane at a time and many at once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "tests/backend/math_jit.h"

typedef enum {
  LAST_IS_NAN = 1,
  HAS_INFINITY = 2,
  MINUS_ZERO_IS_NAN = 4
} traits_t;

typedef struct small {
  dtype_t dtype;
  const char *name;
  unsigned mantissa, bits;
  int bias;
  unsigned traits;
} small_t;

static const small_t smalls[] = {
    {DT_F16, "f16", 10, 16, 15, HAS_INFINITY},
    {DT_BF16, "bf16", 7, 16, 127, HAS_INFINITY},
    {DT_F8E4M3FN, "f8e4m3fn", 3, 8, 7, LAST_IS_NAN},
    {DT_F8E4M3FNUZ, "f8e4m3fnuz", 3, 8, 8, MINUS_ZERO_IS_NAN},
    {DT_F8E5M2, "f8e5m2", 2, 8, 15, HAS_INFINITY},
    {DT_F8E5M2FNUZ, "f8e5m2fnuz", 2, 8, 16, MINUS_ZERO_IS_NAN},
    {DT_F4E2M1, "f4e2m1", 1, 4, 1, 0},
};
enum { N_SMALL = sizeof smalls / sizeof smalls[0], N_MODES = 4 };

static const struct mode {
  bool saturate;
  const char *round_mode;
} modes[N_MODES] = {
    {true, "up"}, {false, "nearest"}, {true, "down"}, {true, "nearest"}};

/* ---- Definitions --------------------------------------------------------- */

static double value_of(const small_t *s, unsigned code) {
  unsigned sign_at = s->bits - 1, sign = code >> sign_at & 1;
  unsigned size = code & ((1u << sign_at) - 1), last = (1u << sign_at) - 1;
  if ((s->traits & LAST_IS_NAN) && size == last) return NAN;
  if ((s->traits & MINUS_ZERO_IS_NAN) && sign && size == 0) return NAN;
  unsigned exponent = size >> s->mantissa;
  unsigned fraction = size & ((1u << s->mantissa) - 1);
  double value;
  if ((s->traits & HAS_INFINITY) && exponent == last >> s->mantissa)
    value = fraction == 0 ? (double)INFINITY : (double)NAN;
  else if (exponent == 0)
    value = ldexp(fraction, 1 - s->bias - (int)s->mantissa);
  else
    value = ldexp(fraction + (1u << s->mantissa),
                  (int)exponent - s->bias - (int)s->mantissa);
  return sign ? -value : value;
}

/* The values of the codes without sign, computed once per format. */
typedef struct values {
  double of[1 << 15];
  unsigned largest; /* finite code */
} values_t;

static const values_t *values_of(const small_t *s) {
  static values_t values[N_SMALL];
  values_t *v = &values[s - smalls];
  if (v->largest != 0) return v;
  for (unsigned code = 0; code < 1u << (s->bits - 1); code++) {
    v->of[code] = value_of(s, code);
    if (isfinite(v->of[code])) v->largest = code;
  }
  return v;
}

/* The code of the finite value nearest to size >= 0, the even one of two; one
 * more than the largest for what rounds beyond it. */
static unsigned nearest_code(const values_t *v, double size) {
  unsigned low = 0, high = v->largest + 1;
  while (high - low > 1) {
    unsigned middle = (low + high) / 2;
    if (v->of[middle] <= size)
      low = middle;
    else
      high = middle;
  }
  unsigned below = low < v->largest || low == 0 ? low : low - 1;
  double half = v->of[low] + (v->of[below + 1] - v->of[below]) / 2;
  return low + (size > half || (size == half && low % 2 == 1));
}

/* The code that ONNX's Cast wants; NaN is any code that is one. */
static unsigned code_of(const small_t *s, double x, bool saturate) {
  unsigned sign = signbit(x) ? 1u << (s->bits - 1) : 0;
  unsigned largest = values_of(s)->largest;
  if (isnan(x)) return s->bits == 4 ? 8 ^ sign : ~0u;
  unsigned code = nearest_code(values_of(s), fabs(x));
  if (code > largest) {
    bool clips = s->bits == 4 || (s->bits == 8 && saturate);
    if (!clips && !(s->traits & HAS_INFINITY)) return ~0u;
    code = clips ? largest : largest + 1;
  }
  if (code == 0 && (s->traits & MINUS_ZERO_IS_NAN)) sign = 0;
  return code | sign;
}

static unsigned e8m0_code_of(double x, const struct mode *mode) {
  if (isnan(x)) return 255;
  double size = fabs(x);
  int e = -2000;
  if (isinf(size)) e = 2000;
  if (size > 0 && !isinf(size)) {
    e = ilogb(size);
    double floor_power = ldexp(1, e);
    if (strcmp(mode->round_mode, "up") == 0) e += size > floor_power;
    if (strcmp(mode->round_mode, "nearest") == 0)
      e += size >= floor_power * 1.5;
  }
  if (e < -127) return mode->saturate ? 0 : 255;
  if (e > 127) return mode->saturate ? 254 : 255;
  return (unsigned)(e + 127);
}

static bool is_nan_code(const small_t *s, unsigned code) {
  return isnan(value_of(s, code));
}

/* ---- Code under test ----------------------------------------------------- */

typedef struct conversion {
  dtype_t dtype;
  bool widen;
  struct mode mode;
} conversion_t;

static LLVMValueRef emit_body(emitter_t *em, const void *user, LLVMValueRef x,
                              LLVMValueRef y) {
  const conversion_t *c = user;
  (void)y;
  if (c->widen) return emit_float_from_bits(em, c->dtype, x);
  return emit_float_to_bits(em, c->dtype, x, c->mode.saturate,
                            c->mode.round_mode);
}

enum { MAX_ISAS = 16 };
static math_jit_t jits[MAX_ISAS];

static LLVMTypeRef code_type(const emitter_t *em, dtype_t dtype) {
  return dtype == DT_F16 || dtype == DT_BF16 ? em->i16 : em->i8;
}

static void add_conversions(math_jit_t *jit, const char *name, dtype_t dtype,
                            unsigned lanes) {
  char symbol[64];
  emitter_t *em = &jit->em;
  LLVMTypeRef code = code_type(em, dtype);
  conversion_t c = {.dtype = dtype, .widen = true};
  snprintf(symbol, sizeof symbol, "from_%s_%u", name, lanes > 1);
  math_jit_add(jit, symbol, code, em->f32, lanes, emit_body, &c);
  c.widen = false;
  for (unsigned k = 0; k < N_MODES; k++) {
    c.mode = modes[k];
    snprintf(symbol, sizeof symbol, "to_%s_f32_%u_%u", name, k, lanes > 1);
    math_jit_add(jit, symbol, em->f32, code, lanes, emit_body, &c);
    snprintf(symbol, sizeof symbol, "to_%s_f64_%u_%u", name, k, lanes > 1);
    math_jit_add(jit, symbol, em->f64, code, lanes, emit_body, &c);
  }
}

static int compile_all(void **state) {
  (void)state;
  for (unsigned k = 0; k < isa_count(); k++) {
    if (!cpu_runs(isa_at(k))) continue;
    assert_true(k < MAX_ISAS);
    math_jit_init(&jits[k], isa_at(k));
    for (unsigned wide = 0; wide < 2; wide++) {
      unsigned lanes = wide ? isa_at(k)->vector_bytes / 4 : 1;
      for (unsigned i = 0; i < N_SMALL; i++)
        add_conversions(&jits[k], smalls[i].name, smalls[i].dtype, lanes);
      add_conversions(&jits[k], "f8e8m0", DT_F8E8M0, lanes);
    }
    math_jit_load(&jits[k]);
  }
  return 0;
}

static int dispose_all(void **state) {
  (void)state;
  for (unsigned k = 0; k < isa_count(); k++)
    if (jits[k].jit != NULL) math_jit_dispose(&jits[k]);
  return 0;
}

/* ---- Widening ------------------------------------------------------------ */

static void check_widening(const small_t *s, unsigned isa, unsigned wide) {
  enum { MOST = 1 << 16 };
  static uint16_t codes16[MOST];
  static uint8_t codes8[MOST];
  static float got[MOST];
  char symbol[64];
  size_t n = (size_t)1 << s->bits;
  for (size_t i = 0; i < n; i++) {
    codes16[i] = (uint16_t)i;
    codes8[i] = (uint8_t)i;
  }
  const void *codes = s->bits == 16 ? (const void *)codes16 : codes8;
  snprintf(symbol, sizeof symbol, "from_%s_%u", s->name, wide);
  math_jit_find(&jits[isa], symbol)(codes, codes, got, (int64_t)n);
  for (unsigned i = 0; i < n; i++) {
    double want = value_of(s, i), value = (double)got[i];
    bool same = isnan(want)
                    ? isnan(value)
                    : value == want && !signbit(value) == !signbit(want);
    if (!same)
      fail_msg("%s code 0x%x on %s: got %a, want %a", s->name, i,
               isa_at(isa)->name, value, want);
  }
}

static void every_code_widens_to_its_value(void **state) {
  (void)state;
  for (unsigned k = 0; k < isa_count(); k++)
    for (unsigned i = 0; jits[k].jit != NULL && i < N_SMALL; i++)
      for (unsigned wide = 0; wide < 2; wide++)
        check_widening(&smalls[i], k, wide);
}

static void f8e8m0_codes_are_powers_of_two(void **state) {
  (void)state;
  for (unsigned k = 0; k < isa_count(); k++) {
    if (jits[k].jit == NULL) continue;
    uint8_t codes[256];
    float one[256], full[256];
    for (unsigned i = 0; i < 256; i++) codes[i] = (uint8_t)i;
    math_jit_find(&jits[k], "from_f8e8m0_0")(codes, codes, one, 256);
    math_jit_find(&jits[k], "from_f8e8m0_1")(codes, codes, full, 256);
    for (int i = 0; i < 255; i++) {
      assert_true(one[i] == ldexpf(1, i - 127));
      assert_true(full[i] == one[i]);
    }
    assert_true(isnan(one[255]) && isnan(full[255]));
  }
}

/* ---- Narrowing ----------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_word(void) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

enum { N_INPUTS = 1 << 17 };
static double wide_inputs[N_INPUTS];
static float inputs[N_INPUTS];

/* A value of the format, a point halfway to the next, or one of their
 * neighbours in f64 or f32; and any bits at all. */
static double input_near(const small_t *s, size_t i) {
  const values_t *v = values_of(s);
  unsigned code = (unsigned)(random_word() % (v->largest + 2));
  double x = code <= v->largest ? v->of[code]
                                : 2 * v->of[v->largest] - v->of[v->largest - 1];
  if (i & 1) x = (x + v->of[code > 0 ? code - 1 : 0]) / 2;
  switch (i / 2 % 4) {
    case 1:
      x = nextafter(x, INFINITY);
      break;
    case 2:
      x = nextafter(x, -INFINITY);
      break;
    case 3:
      x = (double)nextafterf((float)x, i & 8 ? INFINITY : -INFINITY);
      break;
    default:
      break;
  }
  return random_word() & 1 ? -x : x;
}

static void fill_inputs(const small_t *s) {
  static const double specials[] = {0,
                                    -0.0,
                                    INFINITY,
                                    -INFINITY,
                                    NAN,
                                    -NAN,
                                    0x1p-149,
                                    -0x1p-149,
                                    0x1p-1074,
                                    0x1p-126,
                                    0x1.fffffep-127,
                                    0x1.fffffep+127,
                                    -0x1p1000,
                                    0x1p-1000,
                                    1,
                                    -1,
                                    0x1p-127,
                                    0x1.8p-128,
                                    0x1.7ffffep-128,
                                    0x1.4p-127,
                                    0x1.8p+127,
                                    0x1.2p+127};
  enum { N_SPECIALS = sizeof specials / sizeof specials[0] };
  for (size_t i = 0; i < N_INPUTS; i++) {
    uint64_t word = random_word();
    uint32_t half = (uint32_t)word;
    memcpy(&wide_inputs[i], &word, sizeof word);
    memcpy(&inputs[i], &half, sizeof half);
    if (i < N_SPECIALS) wide_inputs[i] = specials[i];
    if (i >= N_SPECIALS && s != NULL && i % 4 != 0)
      wide_inputs[i] = input_near(s, i);
    if (i >= N_SPECIALS && s == NULL && i % 2 != 0)
      wide_inputs[i] = ldexp(1 + (double)(half % 9) / 8, (int)(i % 260) - 150);
    if (i < N_SPECIALS || i % 8 >= 2) inputs[i] = (float)wide_inputs[i];
  }
}

static unsigned code_at(const void *codes, unsigned bits, size_t i) {
  return bits == 16 ? ((const uint16_t *)codes)[i]
                    : ((const uint8_t *)codes)[i];
}

/* Runs one mode from f32 or f64 on one ISA and returns the codes. */
static const void *run_narrowing(const char *name, unsigned isa, unsigned mode,
                                 bool from_f64, unsigned lanes) {
  static uint16_t codes[2][N_INPUTS];
  char symbol[64];
  snprintf(symbol, sizeof symbol, "to_%s_%s_%u_%u", name,
           from_f64 ? "f64" : "f32", mode, lanes);
  const void *in = from_f64 ? (const void *)wide_inputs : inputs;
  math_jit_find(&jits[isa], symbol)(in, in, codes[lanes], N_INPUTS);
  return codes[lanes];
}

static double input_at(bool from_f64, size_t i) {
  return from_f64 ? wide_inputs[i] : (double)inputs[i];
}

static void check_narrowing(const small_t *s, unsigned isa, unsigned mode,
                            bool from_f64) {
  const void *one = run_narrowing(s->name, isa, mode, from_f64, 0);
  const void *full = run_narrowing(s->name, isa, mode, from_f64, 1);
  for (size_t i = 0; i < N_INPUTS; i++) {
    double x = input_at(from_f64, i);
    unsigned got = code_at(full, s->bits, i),
             want = code_of(s, x, modes[mode].saturate);
    bool good = want == ~0u ? is_nan_code(s, got) : got == want;
    if (!good || got != code_at(one, s->bits, i))
      fail_msg(
          "%a to %s on %s (saturate %d): got 0x%x, one lane 0x%x, want 0x%x", x,
          s->name, isa_at(isa)->name, modes[mode].saturate, got,
          code_at(one, s->bits, i), want);
  }
}

static void narrowing_rounds_once_to_nearest_even(void **state) {
  (void)state;
  for (unsigned i = 0; i < N_SMALL; i++) {
    fill_inputs(&smalls[i]);
    for (unsigned k = 0; k < isa_count(); k++)
      for (unsigned mode = 0; jits[k].jit != NULL && mode < 2; mode++) {
        check_narrowing(&smalls[i], k, mode, false);
        check_narrowing(&smalls[i], k, mode, true);
      }
  }
}

static void f8e8m0_rounds_as_asked(void **state) {
  (void)state;
  fill_inputs(NULL);
  for (unsigned k = 0; k < isa_count(); k++)
    for (unsigned mode = 0; jits[k].jit != NULL && mode < N_MODES; mode++)
      for (unsigned from_f64 = 0; from_f64 < 2; from_f64++) {
        const void *one = run_narrowing("f8e8m0", k, mode, from_f64, 0);
        const void *full = run_narrowing("f8e8m0", k, mode, from_f64, 1);
        for (size_t i = 0; i < N_INPUTS; i++) {
          double x = input_at(from_f64, i);
          unsigned got = code_at(full, 8, i),
                   want = e8m0_code_of(x, &modes[mode]);
          if (got != want || got != code_at(one, 8, i))
            fail_msg("%a to f8e8m0 (%s, saturate %d): got %u, want %u", x,
                     modes[mode].round_mode, modes[mode].saturate, got, want);
        }
      }
}

int main(void) {
  const char *seed = getenv("MOEC_TEST_SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 0) : 1;
  print_message("seed %llu\n", (unsigned long long)random_state);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_code_widens_to_its_value),
      cmocka_unit_test(f8e8m0_codes_are_powers_of_two),
      cmocka_unit_test(narrowing_rounds_once_to_nearest_even),
      cmocka_unit_test(f8e8m0_rounds_as_asked),
  };
  return cmocka_run_group_tests_name("backend/float_bits", tests, compile_all,
                                     dispose_all);
}
