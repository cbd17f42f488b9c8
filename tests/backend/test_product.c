/* emit_product_tile against its definition, on every ISA that the host runs.
 *
 * The definition is one scalar chain per element over ascending k, so that
 * comparing bits also proves that neither the number of rows nor the place in
 * a tile changes a result. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "tests/backend/product_jit.h"

enum { MAX_ROWS = 97, PANEL = 32 };

/* A buffer that ends where memory ends (or begins where it begins). */
typedef struct guarded {
  char *map, *data;
  size_t map_bytes;
} guarded_t;

static guarded_t guarded_alloc(size_t bytes, bool at_start) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t room = (bytes + page - 1) / page * page;
  guarded_t g = {.map_bytes = room + 2 * page};
  g.map =
      mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(g.map != MAP_FAILED);
  if (room > 0)
    assert_int_equal(mprotect(g.map + page, room, PROT_READ | PROT_WRITE), 0);
  g.data = at_start ? g.map + page : g.map + page + room - bytes;
  return g;
}

static void guarded_free(guarded_t *g) { munmap(g->map, g->map_bytes); }

static uint64_t random_state;

static uint32_t random_bits(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(random_state >> 32);
}

static double f16_value(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 0 ? ldexp(fraction, -24)
                              : ldexp(fraction + 1024, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

/* One random element; floats are of size about 1, integers take all values. */
static void random_element(dtype_t dtype, void *out) {
  uint64_t word = (uint64_t)random_bits() << 32 | random_bits();
  double real = (double)(int64_t)word / 9.3e18;
  if (dtype == DT_F32) {
    float value = (float)real;
    memcpy(out, &value, sizeof value);
  } else if (dtype == DT_F64) {
    memcpy(out, &real, sizeof real);
  } else if (dtype == DT_F16) { /* subnormals and up to 4, not infinite */
    uint16_t bits = (uint16_t)((word & 0x83ff) | (word >> 16) % 17 << 10);
    memcpy(out, &bits, sizeof bits);
  } else if (dtype == DT_BF16) {
    uint16_t bits =
        (uint16_t)((word & 0x807f) | (110 + (word >> 16) % 18) << 7);
    memcpy(out, &bits, sizeof bits);
  } else {
    memcpy(out, &word, dtype_bits(dtype) / 8);
  }
}

static double real_at(dtype_t dtype, const char *data, int64_t i) {
  float single;
  double real;
  uint16_t half;
  uint32_t word;
  switch (dtype) {
    case DT_F32:
      memcpy(&single, data + 4 * i, sizeof single);
      return (double)single;
    case DT_F64:
      memcpy(&real, data + 8 * i, sizeof real);
      return real;
    case DT_BF16:
      memcpy(&half, data + 2 * i, sizeof half);
      word = (uint32_t)half << 16;
      memcpy(&single, &word, sizeof single);
      return (double)single;
    default:
      assert_int_equal(dtype, DT_F16);
      memcpy(&half, data + 2 * i, sizeof half);
      return f16_value(half);
  }
}

static uint64_t integer_at(dtype_t dtype, const char *data, int64_t i) {
  unsigned bits = dtype_bits(dtype);
  uint64_t word = 0;
  memcpy(&word, data + bits / 8 * i, bits / 8);
  if (dtype_class(dtype) == DT_CLASS_SIGNED && bits < 64 && word >> (bits - 1))
    word |= ~0ull << bits;
  return word;
}

typedef struct shape {
  int64_t M, N, K, a_row, a_k;
} shape_t;

/* One element of C by the definition, into out. */
static void define_element(const isa_t *isa, const product_case_t *c,
                           const shape_t *s, const char *a, const char *b,
                           int64_t m, int64_t n, void *out) {
  bool fused = isa_has(isa, ISA_FMA);
  float single = 0;
  double real = 0;
  uint64_t whole = 0;
  for (int64_t k = 0; k < s->K; k++) {
    int64_t at_a = m * s->a_row + k * s->a_k, at_b = k * s->N + n;
    if (c->acc_dtype == DT_F32) {
      float x = (float)real_at(c->a_dtype, a, at_a);
      float y = (float)real_at(c->b_dtype, b, at_b);
      float product = x * y;
      single = fused ? fmaf(x, y, single) : single + product;
    } else if (c->acc_dtype == DT_F64) {
      double x = real_at(c->a_dtype, a, at_a), y = real_at(c->b_dtype, b, at_b);
      double product = x * y;
      real = fused ? fma(x, y, real) : real + product;
    } else {
      whole +=
          integer_at(c->a_dtype, a, at_a) * integer_at(c->b_dtype, b, at_b);
    }
  }
  if (c->acc_dtype == DT_F32)
    memcpy(out, &single, sizeof single);
  else if (c->acc_dtype == DT_F64)
    memcpy(out, &real, sizeof real);
  else
    memcpy(out, &whole, dtype_bits(c->acc_dtype) / 8);
}

/* B[K][N] as panels [panel][k][32], zero beyond N, at the end of memory. */
static guarded_t pack_b(size_t size, const shape_t *s, const char *b,
                        bool at_start) {
  int64_t panels = (s->N + PANEL - 1) / PANEL;
  guarded_t packed =
      guarded_alloc((size_t)(panels * s->K * PANEL) * size, at_start);
  for (int64_t k = 0; k < s->K; k++)
    for (int64_t n = 0; n < s->N; n++)
      memcpy(packed.data + ((n / PANEL * s->K + k) * PANEL + n % PANEL) * size,
             b + (k * s->N + n) * size, size);
  return packed;
}

/* Runs [begin, end) tiles in two calls, so that the split is arbitrary too. */
static void run_tiles(const product_jit_t *product, const product_case_t *c,
                      const shape_t *s, const void *a, const void *b,
                      void *out) {
  int64_t tiles = product_n_tiles(c->acc_dtype, s->M, s->N), middle = tiles / 2;
  product->fn(a, b, out, s->M, s->N, s->K, s->a_row, s->a_k, middle, tiles);
  product->fn(a, b, out, s->M, s->N, s->K, s->a_row, s->a_k, 0, middle);
}

static void compare(const isa_t *isa, const product_case_t *c, const shape_t *s,
                    const char *got, const char *want) {
  size_t size = dtype_bits(c->acc_dtype) / 8;
  if (memcmp(got, want, (size_t)(s->M * s->N) * size) == 0) return;
  int64_t i = 0;
  while (memcmp(got + i * size, want + i * size, size) == 0) i++;
  uint64_t found = 0, expected = 0;
  memcpy(&found, got + i * size, size);
  memcpy(&expected, want + i * size, size);
  fail_msg(
      "%s %s*%s->%s M %lld N %lld K %lld: C[%lld][%lld] is 0x%llx, "
      "expected 0x%llx",
      isa->name, dtype_name(c->a_dtype), dtype_name(c->b_dtype),
      dtype_name(c->acc_dtype), (long long)s->M, (long long)s->N,
      (long long)s->K, (long long)(i / s->N), (long long)(i % s->N),
      (unsigned long long)found, (unsigned long long)expected);
}

/* Checks the products of the first M rows for each M of a list. */
static void check_rows(const isa_t *isa, const product_jit_t *product,
                       const product_case_t *c, shape_t s, unsigned n_list,
                       const int64_t *list) {
  size_t a_size = dtype_bits(c->a_dtype) / 8,
         b_size = dtype_bits(c->b_dtype) / 8;
  size_t c_size = dtype_bits(c->acc_dtype) / 8;
  int64_t most = list[n_list - 1]; /* ascending */
  if (c->unit_k) {
    s.a_row = s.K + 3;
    s.a_k = 1;
  } else { /* a transposed A */
    s.a_row = 1;
    s.a_k = most;
  }
  int64_t reach = s.K == 0 ? 0 : (most - 1) * s.a_row + (s.K - 1) * s.a_k + 1;
  char *a = malloc((size_t)reach * a_size + 1);
  char *b = malloc((size_t)(s.K * s.N) * b_size + 1);
  char *want = malloc((size_t)(most * s.N) * c_size);
  assert_true(a != NULL && b != NULL && want != NULL);
  for (int64_t i = 0; i < reach; i++)
    random_element(c->a_dtype, a + i * a_size);
  for (int64_t i = 0; i < s.K * s.N; i++)
    random_element(c->b_dtype, b + i * b_size);
  for (int64_t i = 0; i < most * s.N; i++)
    define_element(isa, c, &s, a, b, i / s.N, i % s.N, want + i * c_size);

  for (unsigned i = 0; i < n_list; i++) {
    bool at_start = i % 4 == 3;
    s.M = list[i];
    int64_t used = s.K == 0 ? 0 : (s.M - 1) * s.a_row + (s.K - 1) * s.a_k + 1;
    guarded_t a_end = guarded_alloc((size_t)used * a_size, at_start);
    memcpy(a_end.data, a, (size_t)used * a_size);
    guarded_t panels = pack_b(b_size, &s, b, at_start);
    guarded_t got = guarded_alloc((size_t)(s.M * s.N) * c_size, at_start);
    memset(got.data, 0xa5, (size_t)(s.M * s.N) * c_size);
    run_tiles(product, c, &s, a_end.data, panels.data, got.data);
    compare(isa, c, &s, got.data, want);
    guarded_free(&a_end);
    guarded_free(&panels);
    guarded_free(&got);
  }
  free(a);
  free(b);
  free(want);
}

static void for_each_isa(const product_case_t *c,
                         void (*check)(const isa_t *isa,
                                       const product_jit_t *product,
                                       const product_case_t *c)) {
  const char *seed = getenv("MOEC_TEST_SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 0) : 20240607;
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    if (!cpu_runs(isa)) {
      print_message("SKIPPED %s: this CPU lacks it\n", isa->name);
      continue;
    }
    product_jit_t product = product_compile(isa, c);
    check(isa, &product, c);
    product_release(&product);
  }
}

static void check_every_edge(const isa_t *isa, const product_jit_t *product,
                             const product_case_t *c) {
  static const int64_t columns[] = {1,  7,  15, 16, 17,  31, 32,
                                    33, 63, 64, 65, 100, 129};
  static const int64_t depths[] = {0, 1, 2, 3, 31, 64, 100};
  int64_t rows[MAX_ROWS];
  for (int64_t i = 0; i < MAX_ROWS; i++) rows[i] = i + 1;
  for (size_t n = 0; n < sizeof columns / sizeof columns[0]; n++)
    for (size_t k = 0; k < sizeof depths / sizeof depths[0]; k++) {
      shape_t s = {.N = columns[n], .K = depths[k]};
      check_rows(isa, product, c, s, MAX_ROWS, rows);
    }
}

/* Rows at the edges of micro-tiles and tiles, instead of all of them. */
static void check_some_edges(const isa_t *isa, const product_jit_t *product,
                             const product_case_t *c) {
  static const int64_t columns[] = {1, 16, 17, 33, 100, 129};
  static const int64_t depths[] = {0, 1, 3, 33, 64};
  static const int64_t rows[] = {1,  2,  3,  4,  5,  8,  9,
                                 12, 13, 24, 47, 48, 49, 97};
  for (size_t n = 0; n < sizeof columns / sizeof columns[0]; n++)
    for (size_t k = 0; k < sizeof depths / sizeof depths[0]; k++) {
      shape_t s = {.N = columns[n], .K = depths[k]};
      check_rows(isa, product, c, s, sizeof rows / sizeof rows[0], rows);
    }
}

/* Depths around the blocks of K for many rows and for few. */
static void check_deep(const isa_t *isa, const product_jit_t *product,
                       const product_case_t *c) {
  static const int64_t many[] = {127, 128, 129, 255, 256, 257, 513, 1025};
  static const int64_t few[] = {1535, 1536, 1537, 3071, 3072, 3073, 6200};
  static const int64_t many_rows[] = {1, 4, 5, 12, 13, 50};
  static const int64_t few_rows[] = {1, 2, 3, 4, 5};
  for (size_t k = 0; k < sizeof many / sizeof many[0]; k++)
    check_rows(isa, product, c, (shape_t){.N = 35, .K = many[k]}, 6, many_rows);
  for (size_t k = 0; k < sizeof few / sizeof few[0]; k++)
    check_rows(isa, product, c, (shape_t){.N = 33, .K = few[k]}, 5, few_rows);
}

static void f32_is_one_chain_per_element_at_every_edge(void **state) {
  (void)state;
  product_case_t c = {DT_F32, DT_F32, DT_F32, true, 0};
  for_each_isa(&c, check_every_edge);
}

static void blocks_of_k_continue_the_chain(void **state) {
  (void)state;
  static const product_case_t cases[] = {{DT_F32, DT_F32, DT_F32, true, 0},
                                         {DT_F64, DT_F64, DT_F64, true, 0},
                                         {DT_U8, DT_I8, DT_I32, true, 0},
                                         {DT_I8, DT_I8, DT_I32, true, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for_each_isa(&cases[i], check_deep);
}

/* Widths of blocks of columns: one tile, two of three, a last one of one. */
static void check_blocks_of_columns(const isa_t *isa,
                                    const product_jit_t *product,
                                    const product_case_t *c) {
  static const int64_t depths[] = {700, 1100, 2100};
  static const int64_t rows[] = {1, 48, 100};
  for (size_t k = 0; k < sizeof depths / sizeof depths[0]; k++)
    check_rows(isa, product, c, (shape_t){.N = 330, .K = depths[k]}, 3, rows);
}

static void tiles_of_all_blocks_of_columns_are_computed(void **state) {
  (void)state;
  product_case_t c = {DT_F32, DT_F32, DT_F32, true, 0};
  for_each_isa(&c, check_blocks_of_columns);
}

static void a_may_be_transposed(void **state) {
  (void)state;
  static const product_case_t cases[] = {{DT_F32, DT_F32, DT_F32, false, 0},
                                         {DT_BF16, DT_F32, DT_F32, false, 0},
                                         {DT_U8, DT_U8, DT_I32, false, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for_each_isa(&cases[i], check_some_edges);
}

static void every_type_is_one_chain_per_element(void **state) {
  (void)state;
  static const product_case_t cases[] = {
      {DT_F64, DT_F64, DT_F64, true, 0},   {DT_F32, DT_F16, DT_F32, true, 0},
      {DT_F32, DT_BF16, DT_F32, true, 0},  {DT_F16, DT_F16, DT_F32, true, 0},
      {DT_BF16, DT_BF16, DT_F32, true, 0}, {DT_F64, DT_F32, DT_F64, true, 0},
      {DT_F16, DT_BF16, DT_F64, true, 0},  {DT_I32, DT_I32, DT_I32, true, 0},
      {DT_U32, DT_U32, DT_U32, true, 0},   {DT_I64, DT_I64, DT_I64, true, 0},
      {DT_U64, DT_U64, DT_U64, true, 0},   {DT_I8, DT_I8, DT_I32, true, 0},
      {DT_U8, DT_I8, DT_I32, true, 0},     {DT_U8, DT_U8, DT_I32, true, 0},
      {DT_I16, DT_I16, DT_I32, true, 0},   {DT_I16, DT_I16, DT_I16, true, 0},
      {DT_U8, DT_U8, DT_U8, true, 0},      {DT_I8, DT_U16, DT_I64, true, 0},
      {DT_I8, DT_U8, DT_I32, true, 0},     {DT_U8, DT_U8, DT_U32, true, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for_each_isa(&cases[i], check_some_edges);
}

static void check_fixed_columns(const isa_t *isa, const product_jit_t *product,
                                const product_case_t *c) {
  static const int64_t rows[] = {1, 3, 12, 49};
  shape_t s = {.N = c->fixed_n, .K = 40};
  check_rows(isa, product, c, s, 4, rows);
}

static void columns_may_be_known_at_compile_time(void **state) {
  (void)state;
  static const int64_t columns[] = {1, 3, 16, 32, 48, 128, 200, 256};
  for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
    product_case_t c = {DT_F32, DT_F32, DT_F32, true, columns[i]};
    for_each_isa(&c, check_fixed_columns);
  }
}

static void infinities_and_nans_stay_in_their_rows_and_columns(void **state) {
  (void)state;
  enum { M = 50, N = 40, K = 20 };
  static float a[M][K], b[2][K][PANEL], c[M][N];
  for (int m = 0; m < M; m++)
    for (int k = 0; k < K; k++) a[m][k] = 1;
  for (int n = 0; n < N; n++)
    for (int k = 0; k < K; k++) b[n / PANEL][k][n % PANEL] = 1;
  a[M - 1][7] = NAN; /* the last row is copied to fill micro-tiles */
  a[20][19] = INFINITY;
  b[1][3][N - 1 - PANEL] = -INFINITY;
  product_case_t kind = {DT_F32, DT_F32, DT_F32, true, 0};
  for (unsigned i = 0; i < isa_count(); i++) {
    if (!cpu_runs(isa_at(i))) continue;
    product_jit_t product = product_compile(isa_at(i), &kind);
    product.fn(a, b, c, M, N, K, K, 1, 0, product_n_tiles(DT_F32, M, N));
    for (int m = 0; m < M; m++)
      for (int n = 0; n < N; n++) {
        bool nan = m == M - 1 || (m == 20 && n == N - 1);
        if (nan) {
          assert_true(isnan(c[m][n]));
          continue;
        }
        float want = m == 20 ? INFINITY : n == N - 1 ? -INFINITY : (float)K;
        assert_true(c[m][n] == want);
      }
    product_release(&product);
  }
}

static void tiles_are_whole_panels(void **state) {
  (void)state;
  static const dtype_t types[] = {DT_F32, DT_F64, DT_I8, DT_I32, DT_U64};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    unsigned rows, columns;
    product_tile_size(types[i], &rows, &columns);
    assert_true(rows > 0 && columns > 0);
    assert_int_equal(columns % PANEL, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(f32_is_one_chain_per_element_at_every_edge),
      cmocka_unit_test(blocks_of_k_continue_the_chain),
      cmocka_unit_test(tiles_of_all_blocks_of_columns_are_computed),
      cmocka_unit_test(a_may_be_transposed),
      cmocka_unit_test(every_type_is_one_chain_per_element),
      cmocka_unit_test(columns_may_be_known_at_compile_time),
      cmocka_unit_test(infinities_and_nans_stay_in_their_rows_and_columns),
      cmocka_unit_test(tiles_are_whole_panels),
  };
  return cmocka_run_group_tests_name("backend/product", tests, NULL, NULL);
}
