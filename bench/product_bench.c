/* Speed of the generated product kernel on one thread against the limits of the
 * machine:
 *     product_bench [--isa=NAME] [--type=B] [--n=N] [--k=K] [--rows=M]
 *                   [--repeats=R] [--transposed]
 *
 * B is the element type of the weights (f32, f16, bf16, f64; i8 and u8, which
 * are multiplied by u8 and summed in i32). Matrices rotate over a buffer that
 * no cache holds, as the weights of a model do; "hot" runs stay on one matrix.
 * Each figure is the median of ratios of neighbouring samples: limit time /
 * kernel time, 1.0 being the limit. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/limits.h"
#include "tests/backend/product_jit.h"

#define LIMIT_SECONDS 0.004 /* of one sample */

enum { MAX_REPEATS = 101 };

typedef struct options {
  const char *isa;
  dtype_t type;
  int64_t n, k;
  int64_t rows;    /* only this many; 0: a list */
  bool transposed; /* A lies as [K][M] */
  int64_t repeats;
} options_t;

typedef struct subject {
  const options_t *options;
  product_jit_t product;
  dtype_t acc;
  char *a, *c;
  char *weights; /* matrices one after the other */
  size_t matrix_bytes, n_matrices;
  const limits_kind_t *fma;
} subject_t;

static void run_matrix(const subject_t *s, int64_t rows, size_t matrix) {
  int64_t n = s->options->n, k = s->options->k;
  int64_t a_row = s->options->transposed ? 1 : k;
  int64_t a_k = s->options->transposed ? rows : 1;
  s->product.fn(s->a, s->weights + matrix * s->matrix_bytes, s->c, rows, n, k,
                a_row, a_k, 0, product_n_tiles(s->acc, rows, n));
}

typedef struct result {
  double compute, compute_min, compute_max; /* share of the FMA limit */
  double read; /* share of reading the same bytes; 0 when hot */
  double gflops;
} result_t;

/* Takes kernel and limits alternately. */
static result_t measure(const subject_t *s, int64_t rows, bool hot) {
  double compute[MAX_REPEATS], read[MAX_REPEATS], speed[MAX_REPEATS];
  double work =
      2.0 * (double)rows * (double)s->options->n * (double)s->options->k;
  size_t count = hot ? (size_t)(2e9 / work) + 1 : s->n_matrices;
  size_t repeats = (size_t)s->options->repeats;
  run_matrix(s, rows, 0);
  for (size_t r = 0; r < repeats; r++) {
    double limit = limits_operations(s->fma, 1, LIMIT_SECONDS);
    double begin = limits_thread_clock();
    for (size_t i = 0; i < count; i++) run_matrix(s, rows, hot ? 0 : i);
    double seconds = limits_thread_clock() - begin;
    double bytes =
        hot ? 0 : limits_read_once(s->weights, s->n_matrices * s->matrix_bytes);
    limit = (limit + limits_operations(s->fma, 1, LIMIT_SECONDS)) / 2;
    speed[r] = work * (double)count / seconds;
    compute[r] = speed[r] / limit;
    read[r] = bytes / seconds;
  }
  result_t result = {.compute = limits_median(compute, repeats),
                     .compute_min = compute[0],
                     .compute_max = compute[repeats - 1],
                     .read = limits_median(read, repeats),
                     .gflops = limits_median(speed, repeats) * 1e-9};
  return result;
}

static void fill(subject_t *s, int64_t most_rows) {
  const options_t *o = s->options;
  size_t acc_bytes = dtype_bits(s->acc) / 8;
  s->matrix_bytes =
      (size_t)((o->n + 31) / 32 * 32 * o->k) * dtype_bits(o->type) / 8;
  s->n_matrices = limits_uncached_bytes() / s->matrix_bytes + 1;
  size_t bytes = (s->n_matrices * s->matrix_bytes + 4095) / 4096 * 4096;
  s->weights = limits_buffer(bytes);
  /* Small normal numbers of any type: exponents near one, few bits. */
  unsigned size = dtype_bits(o->type) / 8;
  for (size_t i = size - 1; i < bytes; i += size)
    s->weights[i] = (char)(i / size % 7 ? 0x3c : 0xbc);
  s->a = limits_buffer((size_t)(most_rows * o->k) * acc_bytes);
  for (size_t i = acc_bytes - 1; i < (size_t)(most_rows * o->k) * acc_bytes;
       i += acc_bytes)
    s->a[i] = 0x3d;
  s->c = limits_buffer((size_t)(most_rows * o->n) * acc_bytes);
}

static void bench_rows(const subject_t *s, int64_t rows) {
  enum { MANY = 128 }; /* from here on the matrix makes no difference */
  result_t hot = measure(s, rows, true);
  printf("  %4lld  %14.2f (%.2f..%.2f) %8.1f", (long long)rows, hot.compute,
         hot.compute_min, hot.compute_max, hot.gflops);
  if (rows <= MANY) {
    result_t cold = measure(s, rows, false);
    printf(" %20.2f %11.2f", cold.compute, cold.read);
  }
  printf("\n");
  fflush(stdout);
}

static void bench_isa(const isa_t *isa, const options_t *o) {
  static const int64_t rows[] = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 512};
  enum { N_ROWS = sizeof rows / sizeof rows[0] };
  bool bytes = dtype_bits(o->type) == 8;
  subject_t s = {.options = o,
                 .acc = bytes               ? DT_I32
                        : o->type == DT_F64 ? DT_F64
                                            : DT_F32};
  product_case_t c = {bytes ? DT_U8 : s.acc, o->type, s.acc, !o->transposed, 0};
  s.fma = limits_kind_find(
      bytes && isa_has(isa, ISA_DOT) ? "i8 dot" : dtype_name(s.acc),
      isa->vector_bytes * 8);
  if (s.fma == NULL || !cpu_runs(isa)) {
    printf("%s: this machine lacks it\n", isa->name);
    return;
  }
  s.product = product_compile(isa, &c); /* wakes LLVM up */
  product_release(&s.product);
  s.product = product_compile(isa, &c);
  fill(&s, o->rows != 0 ? o->rows : rows[N_ROWS - 1]);
  printf(
      "%s, %s weights, N %lld, K %lld: compiled in %.1f ms, object of %zu "
      "bytes\n",
      isa->name, dtype_name(o->type), (long long)o->n, (long long)o->k,
      s.product.compile_seconds * 1e3, s.product.object_bytes);
  printf(
      "  rows   hot: FMA share (min..max)  GFLOP/s   rotating: FMA share  "
      "read share\n");
  for (size_t i = 0; i < N_ROWS; i++)
    if (o->rows == 0) bench_rows(&s, rows[i]);
  if (o->rows != 0) bench_rows(&s, o->rows);
  product_release(&s.product);
  free(s.weights);
  free(s.a);
  free(s.c);
}

/* The value of "--name=value", or NULL. */
static const char *value_of(const char *text, const char *name) {
  size_t length = strlen(name);
  return strncmp(text, name, length) == 0 && text[length] == '='
             ? text + length + 1
             : NULL;
}

static bool parse_number(const char *text, const char *name, int64_t most,
                         int64_t *out) {
  const char *value = value_of(text, name);
  if (value == NULL) return false;
  char *end;
  *out = strtoll(value, &end, 10);
  return *end == '\0' && *out >= 1 && *out <= most;
}

static bool parse_option(const char *text, options_t *o) {
  enum { MOST = 1 << 20 };
  const char *value = value_of(text, "--isa");
  if (value != NULL) {
    o->isa = value;
    return isa_find(value) != NULL;
  }
  value = value_of(text, "--type");
  if (value != NULL) {
    o->type = dtype_by_name(value, strlen(value));
    return o->type == DT_F32 || o->type == DT_F64 || o->type == DT_F16 ||
           o->type == DT_BF16 || o->type == DT_I8 || o->type == DT_U8;
  }
  if (strcmp(text, "--transposed") == 0) return o->transposed = true;
  return parse_number(text, "--n", MOST, &o->n) ||
         parse_number(text, "--k", MOST, &o->k) ||
         parse_number(text, "--rows", MOST, &o->rows) ||
         parse_number(text, "--repeats", MAX_REPEATS, &o->repeats);
}

int main(int argc, char **argv) {
  options_t options = {.type = DT_F32, .n = 1024, .k = 1024, .repeats = 9};
  for (int i = 1; i < argc; i++)
    if (!parse_option(argv[i], &options)) {
      fprintf(
          stderr,
          "usage: product_bench [--isa=NAME] [--type=f32|f16|bf16|f64|i8|u8]"
          " [--n=N] [--k=K] [--rows=M] [--repeats=R] [--transposed]\n");
      return 2;
    }
  for (unsigned i = 0; i < isa_count(); i++)
    if (options.isa == NULL || strcmp(options.isa, isa_at(i)->name) == 0)
      bench_isa(isa_at(i), &options);
  return 0;
}
