/* The elementary functions against the C library's of higher precision (double
 * for f32, long double for f64) on every ISA that the host runs: at most 2 ULP,
 * special values as there, and the same bits one lane at a time as many at
 * once.
 *
 * MOEC_TEST_SEED changes the random arguments, MOEC_TEST_LOG2_N (default 20)
 * their number, MOEC_TEST_ONLY=exp_f32 selects one function. The worst errors
 * are printed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "tests/backend/math_jit.h"

typedef long double wide_t;

static wide_t sigmoid_wide(wide_t x) {
  wide_t e = expl(-fabsl(x));
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}
static double sigmoid(double x) {
  double e = exp(-fabs(x));
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

/* A function of one argument; [lo, hi] is where it is interesting. */
typedef struct unary {
  const char *name;
  ir_opcode_t code;
  double (*narrow)(double);
  wide_t (*wide)(wide_t);
  double lo, hi;
} unary_t;

static const unary_t unaries[] = {
    {"exp", OP_EXP, exp, expl, -750, 715},
    {"expm1", OP_EXPM1, expm1, expm1l, -40, 712},
    {"log", OP_LOG, log, logl, 0.25, 4},
    {"log1p", OP_LOG1P, log1p, log1pl, -1, 3},
    {"sigmoid", OP_SIGMOID, sigmoid, sigmoid_wide, -750, 40},
    {"sin", OP_SIN, sin, sinl, -20, 20},
    {"cos", OP_COS, cos, cosl, -20, 20},
    {"tan", OP_TAN, tan, tanl, -20, 20},
    {"asin", OP_ASIN, asin, asinl, -1, 1},
    {"acos", OP_ACOS, acos, acosl, -1, 1},
    {"atan", OP_ATAN, atan, atanl, -8, 8},
    {"sinh", OP_SINH, sinh, sinhl, -3, 3},
    {"cosh", OP_COSH, cosh, coshl, -3, 3},
    {"tanh", OP_TANH, tanh, tanhl, -20, 20},
    {"asinh", OP_ASINH, asinh, asinhl, -4, 4},
    {"acosh", OP_ACOSH, acosh, acoshl, 1, 4},
    {"atanh", OP_ATANH, atanh, atanhl, -1, 1},
    {"erf", OP_ERF, erf, erfl, -6.5, 6.5},
};
enum { N_UNARY = sizeof unaries / sizeof unaries[0] };

static uint64_t random_state;

static uint64_t random_word(void) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static double random_unit(void) {
  return (double)(random_word() >> 11) * 0x1p-53;
}

static size_t env_number(const char *name, size_t otherwise) {
  const char *text = getenv(name);
  return text != NULL ? (size_t)strtoull(text, NULL, 0) : otherwise;
}

static bool selected(const char *name, bool wide) {
  const char *only = getenv("MOEC_TEST_ONLY");
  char full[32];
  snprintf(full, sizeof full, "%s_%s", name, wide ? "f64" : "f32");
  return only == NULL || strcmp(only, full) == 0 || strcmp(only, name) == 0;
}

static double f64_of_bits(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static float f32_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* ---- Arguments ----------------------------------------------------------- */

static const double special_points[] = {
    0,
    0x1p-1074,
    0x1p-1022,
    0x1.fffffffffffffp-1023,
    0x1p-149,
    0x1p-126,
    0x1.fffffcp-127,
    0x1p-60,
    0x1p-28,
    0x1p-27,
    0x1p-26,
    0x1p-13,
    0x1p-12,
    0.125,
    0.25,
    0x1.62e42fefa39efp-2,
    0.5,
    0x1.6a09e667f3bcdp-1,
    0x1.921fb54442d18p-1,
    1,
    0x1.6a09e667f3bcdp+0,
    1.5,
    0x1.921fb54442d18p+0,
    2,
    0x1.0c152382d7365p+1,
    3,
    0x1.921fb54442d18p+1,
    4,
    6,
    8,
    9,
    10,
    16,
    17,
    20,
    22,
    36.7,
    40,
    88.37,
    88.72283,
    88.722839,
    89.4,
    89.416,
    103.27893,
    103.97208,
    104,
    512,
    708.396,
    709.7827,
    709.782712893384,
    710.4758,
    710.475860073944,
    744.4400719213812,
    745.1332191019411,
    745.14,
    1022,
    1024,
    0x1p16,
    0x1p17,
    0x1p20,
    0x1p22,
    0x1p23,
    0x1p24,
    0x1p26,
    0x1p31,
    0x1p32,
    0x1p51,
    0x1p52,
    0x1p53,
    0x1p54,
    0x1p63,
    0x1p64,
    0x1.6ac5b262ca1ffp+849, /* nearest to a multiple of pi/2 in f64 */
    0x1.03e4bp+96,
    0x1.fffffep+127,
    0x1p127,
    0x1p512,
    0x1p1023,
    0x1.fffffffffffffp+1023,
    INFINITY,
    NAN};
enum { N_POINTS = sizeof special_points / sizeof special_points[0] };

static double special_point(size_t i) {
  double x = special_points[i / 2 % N_POINTS];
  return i % 2 == 0 ? x : -x;
}

/* The points of both signs and their neighbours. */
enum { N_SPECIALS = 2 * N_POINTS * 3 };

static float special_f32(size_t i) {
  float x = (float)special_point(i / 3);
  return i % 3 == 0 ? x : nextafterf(x, i % 3 == 1 ? INFINITY : -INFINITY);
}

static double special_f64(size_t i) {
  double x = special_point(i / 3);
  return i % 3 == 0 ? x : nextafter(x, i % 3 == 1 ? INFINITY : -INFINITY);
}

/* Specials, bit patterns (f32: at even distances through all of them), and
 * points of the interesting interval. */
static void fill_f32(float *x, size_t n, const unary_t *f) {
  size_t i = 0, n_bits = (n - N_SPECIALS) * 3 / 4;
  for (; i < N_SPECIALS; i++) x[i] = special_f32(i);
  uint64_t offset = random_word();
  for (size_t k = 0; k < n_bits; k++, i++)
    x[i] =
        f32_of_bits((uint32_t)(offset + (uint64_t)k * 0x100000000u / n_bits));
  double lo = fmax(f->lo, -105), hi = fmin(f->hi, 90);
  for (; i < n; i++) x[i] = (float)(lo + (hi - lo) * random_unit());
}

static void fill_f64(double *x, size_t n, const unary_t *f) {
  size_t i = 0;
  for (; i < N_SPECIALS; i++) x[i] = special_f64(i);
  for (; i < n / 2; i++) x[i] = f64_of_bits(random_word());
  for (; i < n * 3 / 4; i++) { /* exponents from 2^-60 to 2^12 */
    uint64_t word = random_word(), mask = ((uint64_t)1 << 52) - 1;
    uint64_t exponent = 1023 - 60 + (word >> 52) % 72;
    x[i] = f64_of_bits((word & mask) | exponent << 52 | (word & 1) << 63);
  }
  for (; i < n; i++) x[i] = f->lo + (f->hi - f->lo) * random_unit();
}

/* ---- Errors -------------------------------------------------------------- */

/* Distance of got from want in units of the last place of want in a format with
 * `digits` bits and smallest exponent `least`; infinity where specials differ.
 */
static double ulp_error(wide_t got, wide_t want, int digits, int least) {
  if (isnan(want) || isnan(got))
    return isnan(want) && isnan(got) ? 0 : (double)INFINITY;
  wide_t beyond = ldexpl(1, digits == 24 ? 128 : 1024);
  if (got == 0 && !signbit(got) != !signbit(want)) return (double)INFINITY;
  if (isinf(want)) return got == want ? 0 : (double)INFINITY;
  if (want == 0) return got == 0 ? 0 : (double)INFINITY;
  if (isinf(got)) got = copysignl(beyond, got);
  if (fabsl(want) > beyond) want = copysignl(beyond, want);
  int exponent = ilogbl(want);
  if (exponent < least) exponent = least;
  if (fabsl(want) == beyond) exponent--;
  return (double)(fabsl(got - want) / ldexpl(1, exponent - digits + 1));
}

typedef struct worst {
  double error;
  size_t at;
} worst_t;

static void note_error(worst_t *worst, double error, size_t at) {
  if (error > worst->error) *worst = (worst_t){error, at};
}

/* Everything that one function is tested with, in one type. */
typedef struct sample {
  bool wide;
  size_t n, size; /* elements, bytes of each */
  char *x, *y, *got, *lane;
  wide_t *want;
} sample_t;

static sample_t sample_alloc(bool wide, size_t n) {
  sample_t s = {.wide = wide, .n = n, .size = wide ? 8 : 4};
  s.x = calloc(n, s.size);
  s.y = calloc(n, s.size);
  s.got = calloc(n, s.size);
  s.lane = calloc(n, s.size);
  s.want = calloc(n, sizeof *s.want);
  assert_true(s.x && s.y && s.got && s.lane && s.want);
  return s;
}

static void sample_free(sample_t *s) {
  free(s->x);
  free(s->y);
  free(s->got);
  free(s->lane);
  free(s->want);
}

static wide_t element(const sample_t *s, const char *data, size_t i) {
  return s->wide ? ((const double *)(const void *)data)[i]
                 : (wide_t)((const float *)(const void *)data)[i];
}

static worst_t worst_of(const sample_t *s) {
  worst_t worst = {0, 0};
  for (size_t i = 0; i < s->n; i++)
    note_error(&worst,
               ulp_error(element(s, s->got, i), s->want[i], s->wide ? 53 : 24,
                         s->wide ? -1022 : -126),
               i);
  return worst;
}

/* The first element whose bits depend on the lanes, or n. */
static size_t first_difference(const sample_t *s) {
  for (size_t i = 0; i < s->n; i++)
    if (memcmp(s->got + i * s->size, s->lane + i * s->size, s->size) != 0)
      return i;
  return s->n;
}

/* ---- Running ------------------------------------------------------------- */

typedef struct function {
  ir_opcode_t code;
  bool binary, round;
} function_t;

static LLVMValueRef emit_body(emitter_t *em, const void *user, LLVMValueRef x,
                              LLVMValueRef y) {
  const function_t *f = user;
  if (f->round) return emit_round(em, f->code, x);
  return f->binary ? emit_math_binary(em, f->code, x, y)
                   : emit_math_unary(em, f->code, x);
}

enum { MAX_ISAS = 16 };
static math_jit_t jits[MAX_ISAS];

static void add_function(math_jit_t *jit, const char *name, function_t f) {
  for (unsigned wide = 0; wide < 2; wide++) {
    LLVMTypeRef type = wide ? jit->em.f64 : jit->em.f32;
    unsigned full = jit->em.isa->vector_bytes / (wide ? 8 : 4);
    char symbol[64];
    snprintf(symbol, sizeof symbol, "%s_%s_full", name, wide ? "f64" : "f32");
    math_jit_add(jit, symbol, type, type, full, emit_body, &f);
    snprintf(symbol, sizeof symbol, "%s_%s_lane", name, wide ? "f64" : "f32");
    math_jit_add(jit, symbol, type, type, 1, emit_body, &f);
  }
}

static int compile_all(void **state) {
  (void)state;
  for (unsigned k = 0; k < isa_count(); k++) {
    if (!cpu_runs(isa_at(k))) continue;
    assert_true(k < MAX_ISAS);
    math_jit_init(&jits[k], isa_at(k));
    for (unsigned i = 0; i < N_UNARY; i++)
      add_function(&jits[k], unaries[i].name,
                   (function_t){.code = unaries[i].code});
    add_function(&jits[k], "pow", (function_t){OP_POW, true, false});
    add_function(&jits[k], "fmod", (function_t){OP_FMOD, true, false});
    add_function(&jits[k], "floor", (function_t){OP_FLOOR, false, true});
    add_function(&jits[k], "ceil", (function_t){OP_CEIL, false, true});
    add_function(&jits[k], "trunc", (function_t){OP_TRUNC, false, true});
    add_function(&jits[k], "round", (function_t){OP_ROUND, false, true});
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

static void explain(const sample_t *s, size_t i) {
  print_message("  at %La (y = %La): got %La, want %La, one lane gives %La\n",
                element(s, s->x, i), element(s, s->y, i), element(s, s->got, i),
                s->want[i], element(s, s->lane, i));
}

/* Runs the function on every ISA and holds its results against s->want. Returns
 * the number of ISAs that failed. */
static unsigned check_sample(const char *name, sample_t *s, double limit) {
  unsigned failures = 0;
  for (unsigned k = 0; k < isa_count(); k++) {
    if (jits[k].jit == NULL) continue;
    char symbol[64];
    const char *type = s->wide ? "f64" : "f32";
    snprintf(symbol, sizeof symbol, "%s_%s_full", name, type);
    math_jit_find(&jits[k], symbol)(s->x, s->y, s->got, (int64_t)s->n);
    snprintf(symbol, sizeof symbol, "%s_%s_lane", name, type);
    math_jit_find(&jits[k], symbol)(s->x, s->y, s->lane, (int64_t)s->n);
    worst_t worst = worst_of(s);
    size_t differs = first_difference(s);
    bool bad = worst.error > limit || differs < s->n;
    print_message("%-8s %s %-8s worst %.3f ULP at %La\n", name, type,
                  isa_at(k)->name, worst.error, element(s, s->x, worst.at));
    if (bad) explain(s, worst.error > limit ? worst.at : differs);
    failures += bad;
  }
  return failures;
}

static size_t sample_size(void) {
  return (size_t)1 << env_number("MOEC_TEST_LOG2_N", 20);
}

static unsigned check_unary(const unary_t *f, bool wide) {
  if (!selected(f->name, wide)) return 0;
  sample_t s = sample_alloc(wide, wide ? sample_size() / 2 : sample_size());
  if (wide)
    fill_f64((double *)(void *)s.x, s.n, f);
  else
    fill_f32((float *)(void *)s.x, s.n, f);
  for (size_t i = 0; i < s.n; i++) {
    wide_t x = element(&s, s.x, i);
    s.want[i] = wide ? f->wide(x) : (wide_t)f->narrow((double)x);
  }
  unsigned failures = check_sample(f->name, &s, 2);
  sample_free(&s);
  return failures;
}

static void elementary_functions_are_within_2_ulp(void **state) {
  bool wide = *state != NULL;
  unsigned failures = 0;
  for (unsigned i = 0; i < N_UNARY; i++)
    failures += check_unary(&unaries[i], wide);
  assert_int_equal(failures, 0);
}

/* Pairs: specials with each other, powers that are finite, negative bases with
 * small integers, bases near 1 with large exponents, any bits. */
static void fill_pairs(sample_t *s) {
  for (size_t i = 0; i < s->n; i++) {
    double x, y;
    if (i < (size_t)4 * N_POINTS * N_POINTS) {
      x = special_point(i / (2 * N_POINTS));
      y = special_point(i % (2 * N_POINTS));
    } else if (i % 4 == 0) {
      x = exp2(40 * random_unit() - 20);
      y = (random_unit() - 0.5) * (s->wide ? 2100 : 300) / fabs(log2(x));
    } else if (i % 4 == 1) {
      x = -exp2(8 * random_unit() - 4);
      y = floor(64 * random_unit()) - 32;
    } else if (i % 4 == 2) {
      x = 1 + (random_unit() - 0.5) * exp2(-20 * random_unit());
      y = (random_unit() - 0.5) * exp2(30 * random_unit());
    } else {
      uint64_t a = random_word(), b = random_word();
      x = s->wide ? f64_of_bits(a) : (double)f32_of_bits((uint32_t)a);
      y = s->wide ? f64_of_bits(b) : (double)f32_of_bits((uint32_t)b);
    }
    if (s->wide) {
      ((double *)(void *)s->x)[i] = x;
      ((double *)(void *)s->y)[i] = y;
    } else {
      ((float *)(void *)s->x)[i] = (float)x;
      ((float *)(void *)s->y)[i] = (float)y;
    }
  }
}

/* powl, but for limits: glibc's takes (-inf)^(-2^63) for an odd power. */
static wide_t power_wide(wide_t x, wide_t y) {
  if (x == 0 || isinf(x) || isinf(y)) return pow((double)x, (double)y);
  return powl(x, y);
}

static void power_is_within_2_ulp(void **state) {
  bool wide = *state != NULL;
  if (!selected("pow", wide)) return;
  sample_t s = sample_alloc(wide, wide ? sample_size() / 2 : sample_size());
  fill_pairs(&s);
  for (size_t i = 0; i < s.n; i++) {
    wide_t x = element(&s, s.x, i), y = element(&s, s.y, i);
    s.want[i] = wide ? power_wide(x, y) : (wide_t)pow((double)x, (double)y);
  }
  unsigned failures = check_sample("pow", &s, 2);
  sample_free(&s);
  assert_int_equal(failures, 0);
}

static void fmod_is_exact(void **state) {
  bool wide = *state != NULL;
  if (!selected("fmod", wide)) return;
  sample_t s = sample_alloc(wide, sample_size() / 4);
  fill_pairs(&s);
  for (size_t i = 0; i < s.n; i++) {
    double x = (double)element(&s, s.x, i), y = (double)element(&s, s.y, i);
    s.want[i] = fmod(x, y);
  }
  unsigned failures = check_sample("fmod", &s, 0);
  sample_free(&s);
  assert_int_equal(failures, 0);
}

static void check_rounding(const char *name, wide_t (*round_fn)(wide_t),
                           bool wide) {
  static const unary_t range = {.lo = -40, .hi = 40};
  sample_t s = sample_alloc(wide, sample_size() / 8);
  for (size_t i = 0; i < s.n; i++) {
    double near = range.lo + (range.hi - range.lo) * random_unit();
    if (i % 3 == 0) near = floor(2 * near) / 2;
    if (i % 3 == 1) near *= exp2(floor(60 * random_unit()));
    if (i < N_SPECIALS) near = special_f64(i);
    if (wide)
      ((double *)(void *)s.x)[i] = near;
    else
      ((float *)(void *)s.x)[i] = i < N_SPECIALS ? special_f32(i) : (float)near;
  }
  for (size_t i = 0; i < s.n; i++) s.want[i] = round_fn(element(&s, s.x, i));
  unsigned failures = check_sample(name, &s, 0);
  sample_free(&s);
  assert_int_equal(failures, 0);
}

static void rounding_to_integers_is_exact(void **state) {
  bool wide = *state != NULL;
  check_rounding("floor", floorl, wide);
  check_rounding("ceil", ceill, wide);
  check_rounding("trunc", truncl, wide);
  check_rounding("round", rintl, wide);
}

int main(void) {
  random_state = env_number("MOEC_TEST_SEED", 1);
  print_message("seed %llu\n", (unsigned long long)random_state);
  static int f64;
#define BOTH(test)                          \
  {#test "_f32", test, NULL, NULL, NULL}, { \
    #test "_f64", test, NULL, NULL, &f64    \
  }
  const struct CMUnitTest tests[] = {
      BOTH(elementary_functions_are_within_2_ulp),
      BOTH(power_is_within_2_ulp),
      BOTH(fmod_is_exact),
      BOTH(rounding_to_integers_is_exact),
  };
  return cmocka_run_group_tests_name("backend/math", tests, compile_all,
                                     dispose_all);
}
