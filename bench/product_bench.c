/* Speed of the generated product kernel on one thread against the limits of the
 * machine: `product_bench [--isa=NAME] [--type=B] [--n=N] [--k=K]
 * [--repeats=R]`.
 *
 * B is the element type of the weights (f32, f16, bf16, f64). Matrices rotate
 * over a buffer that no cache holds, as the weights of a model do; "hot" runs
 * stay on one matrix. Each figure is the median of ratios of neighbouring
 * samples: limit time / kernel time, 1.0 being the limit. */
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
  int64_t rows; /* only this many; 0: a list */
  unsigned repeats;
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
  s->product.fn(s->a, s->weights + matrix * s->matrix_bytes, s->c, rows, n, k,
                k, 1, 0, product_n_tiles(s->acc, rows, n));
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
  unsigned repeats = s->options->repeats;
  run_matrix(s, rows, 0);
  for (unsigned r = 0; r < repeats; r++) {
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

static int bench_isa(const isa_t *isa, const options_t *o) {
  static const int64_t rows[] = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 512};
  enum { N_ROWS = sizeof rows / sizeof rows[0] };
  subject_t s = {.options = o, .acc = o->type == DT_F64 ? DT_F64 : DT_F32};
  product_case_t c = {s.acc, o->type, s.acc, true, 0};
  s.fma = limits_kind_find(dtype_name(s.acc), isa->vector_bytes * 8);
  if (s.fma == NULL || !product_host_has(isa)) {
    printf("%s: this machine lacks it\n", isa->name);
    return 0;
  }
  s.product = product_compile(isa, &c); /* wakes LLVM up */
  product_release(&s.product);
  s.product = product_compile(isa, &c);
  fill(&s, rows[N_ROWS - 1]);
  printf(
      "%s, %s weights, N %lld, K %lld: compiled in %.1f ms, object of %zu "
      "bytes\n",
      isa->name, dtype_name(o->type), (long long)o->n, (long long)o->k,
      s.product.compile_seconds * 1e3, s.product.object_bytes);
  printf(
      "  rows   hot: FMA share (min..max)  GFLOP/s   rotating: FMA share  "
      "read share\n");
  for (size_t i = 0; i < N_ROWS; i++) {
    if (o->rows != 0 && o->rows != rows[i]) continue;
    result_t hot = measure(&s, rows[i], true);
    printf("  %4lld  %14.2f (%.2f..%.2f) %8.1f", (long long)rows[i],
           hot.compute, hot.compute_min, hot.compute_max, hot.gflops);
    if (rows[i] <= 128) {
      result_t cold = measure(&s, rows[i], false);
      printf(" %20.2f %11.2f", cold.compute, cold.read);
    }
    printf("\n");
    fflush(stdout);
  }
  product_release(&s.product);
  free(s.weights);
  free(s.a);
  free(s.c);
  return 0;
}

static bool parse_option(const char *text, options_t *o) {
  const char *value = strchr(text, '=');
  if (value == NULL) return false;
  size_t length = (size_t)(value++ - text);
  if (strncmp(text, "--isa", length) == 0) {
    o->isa = value;
    return true;
  }
  if (strncmp(text, "--type", length) == 0) {
    o->type = dtype_by_name(value, strlen(value));
    return o->type == DT_F32 || o->type == DT_F64 || o->type == DT_F16 ||
           o->type == DT_BF16;
  }
  long long number = strtoll(value, NULL, 10);
  if (number < 1 || number > 1 << 20) return false;
  if (strncmp(text, "--n", length) == 0)
    o->n = number;
  else if (strncmp(text, "--k", length) == 0)
    o->k = number;
  else if (strncmp(text, "--rows", length) == 0)
    o->rows = number;
  else if (strncmp(text, "--repeats", length) == 0 && number <= MAX_REPEATS)
    o->repeats = (unsigned)number;
  else
    return false;
  return true;
}

int main(int argc, char **argv) {
  options_t options = {.type = DT_F32, .n = 1024, .k = 1024, .repeats = 9};
  for (int i = 1; i < argc; i++)
    if (!parse_option(argv[i], &options)) {
      fprintf(stderr,
              "usage: product_bench [--isa=NAME] [--type=f32|f16|bf16|f64]"
              " [--n=N] [--k=K] [--rows=M] [--repeats=R]\n");
      return 2;
    }
  int status = 0;
  for (unsigned i = 0; i < isa_count() && status == 0; i++)
    if (options.isa == NULL || strcmp(options.isa, isa_at(i)->name) == 0)
      status = bench_isa(isa_at(i), &options);
  return status;
}
