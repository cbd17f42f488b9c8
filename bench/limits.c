/* Measures the limits of the machine: see limits.h. */
#include "bench/limits.h"

#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHAINS 12 /* independent sums */
#define STEPS 64  /* of each, in a round */

static double read_clock(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double limits_clock(void) { return read_clock(CLOCK_MONOTONIC); }

double limits_thread_clock(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double limits_median(double *samples, size_t count) {
  qsort(samples, count, sizeof *samples, compare_doubles);
  return count % 2 ? samples[count / 2]
                   : (samples[count / 2 - 1] + samples[count / 2]) / 2;
}

unsigned limits_processors(void) {
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > LIMITS_MAX_THREADS ? LIMITS_MAX_THREADS : (unsigned)n;
}

/* Arrays stay in registers only where all loops over them are unrolled. */
#define UNROLL(n) UNROLL_TEXT(GCC unroll n)
#define UNROLL_TEXT(text) _Pragma(#text)

/* Defines a function that runs CHAINS sums out of registers. The empty
 * statements keep the compiler from moving the work out of the loop. */
#define ROUNDS(function, features, vector, splat, step)                   \
  __attribute__((target(features))) static void function(size_t count) {  \
    vector sum[CHAINS], a = splat, b = a;                                 \
    UNROLL(12) for (int i = 0; i < CHAINS; i++) sum[i] = a;               \
    for (size_t n = 0; n < count * STEPS; n++) {                          \
      UNROLL(12) for (int i = 0; i < CHAINS; i++) {                       \
        __asm__ volatile("" : "+v"(a), "+v"(b), "+v"(sum[i]));            \
        sum[i] = step;                                                    \
      }                                                                   \
    }                                                                     \
    UNROLL(12)                                                            \
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+v"(sum[i])); \
  }

ROUNDS(f32_128, "sse2", __m128, _mm_set1_ps(0.5f),
       _mm_add_ps(sum[i], _mm_mul_ps(a, b)))
ROUNDS(f64_128, "sse2", __m128d, _mm_set1_pd(0.5),
       _mm_add_pd(sum[i], _mm_mul_pd(a, b)))
ROUNDS(f32_256, "avx2,fma", __m256, _mm256_set1_ps(0.5f),
       _mm256_fmadd_ps(a, b, sum[i]))
ROUNDS(f64_256, "avx2,fma", __m256d, _mm256_set1_pd(0.5),
       _mm256_fmadd_pd(a, b, sum[i]))
ROUNDS(f32_512, "avx512f", __m512, _mm512_set1_ps(0.5f),
       _mm512_fmadd_ps(a, b, sum[i]))
ROUNDS(f64_512, "avx512f", __m512d, _mm512_set1_pd(0.5),
       _mm512_fmadd_pd(a, b, sum[i]))
ROUNDS(i32_512, "avx512f", __m512i, _mm512_set1_epi32(3),
       _mm512_add_epi32(sum[i], _mm512_mullo_epi32(a, b)))
ROUNDS(i8_512, "avx512f,avx512vnni", __m512i, _mm512_set1_epi8(3),
       _mm512_dpbusd_epi32(sum[i], a, b))
ROUNDS(bf16_512, "avx512f,avx512bf16", __m512, _mm512_set1_ps(0.5f),
       _mm512_dpbf16_ps(sum[i], (__m512bh)a, (__m512bh)b))

static bool always(void) { return true; }
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void) { return __builtin_cpu_supports("avx512f"); }
static bool has_vnni(void) { return __builtin_cpu_supports("avx512vnni"); }
static bool has_bf16(void) { return __builtin_cpu_supports("avx512bf16"); }

/* Products per vector; a dot product has several in each lane. */
#define PER_ROUND(products) (2.0 * CHAINS * STEPS * (products))
static const limits_kind_t kinds[] = {
    {"f32", 128, false, PER_ROUND(4), always, f32_128},
    {"f64", 128, false, PER_ROUND(2), always, f64_128},
    {"f32", 256, true, PER_ROUND(8), has_avx2, f32_256},
    {"f64", 256, true, PER_ROUND(4), has_avx2, f64_256},
    {"f32", 512, true, PER_ROUND(16), has_avx512, f32_512},
    {"f64", 512, true, PER_ROUND(8), has_avx512, f64_512},
    {"i32", 512, false, PER_ROUND(16), has_avx512, i32_512},
    {"bf16 dot", 512, true, PER_ROUND(32), has_bf16, bf16_512},
    {"i8 dot", 512, true, PER_ROUND(64), has_vnni, i8_512},
};

size_t limits_kind_count(void) { return sizeof kinds / sizeof kinds[0]; }

const limits_kind_t *limits_kind_at(size_t index) { return &kinds[index]; }

const limits_kind_t *limits_kind_find(const char *name, unsigned bits) {
  for (size_t i = 0; i < limits_kind_count(); i++)
    if (kinds[i].bits == bits && strcmp(kinds[i].name, name) == 0)
      return kinds[i].available() ? &kinds[i] : NULL;
  return NULL;
}

/* One thread's part of a measurement, and what came out of it. */
typedef struct part {
  pthread_t thread;
  pthread_barrier_t *start;
  const limits_kind_t *kind; /* arithmetic for `seconds`, or NULL: reading */
  double seconds;
  const char *data;
  size_t bytes;
  unsigned passes;
  double rate; /* operations or bytes per second */
} part_t;

static void compute(part_t *part) {
  size_t rounds = 0, step = 200;
  double begin = limits_thread_clock(), end;
  do {
    part->kind->rounds(step);
    rounds += step;
    end = limits_thread_clock();
  } while (end - begin < part->seconds);
  part->rate = part->kind->operations * (double)rounds / (end - begin);
}

static void read_passes(part_t *part) {
  double begin = limits_thread_clock();
  for (unsigned i = 0; i < part->passes; i++)
    limits_read_once(part->data, part->bytes);
  part->rate =
      (double)part->bytes * part->passes / (limits_thread_clock() - begin);
}

static void *run_part(void *argument) {
  part_t *part = argument;
  pthread_barrier_wait(part->start);
  if (part->kind != NULL)
    compute(part);
  else
    read_passes(part);
  return NULL;
}

/* Runs parts[0..n) at once, one thread each; the sum of their rates. */
static double run_parts(part_t *parts, unsigned n) {
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, n);
  for (unsigned i = 0; i < n; i++) parts[i].start = &start;
  for (unsigned i = 1; i < n; i++)
    if (pthread_create(&parts[i].thread, NULL, run_part, &parts[i]) != 0) {
      fprintf(stderr, "cannot start a thread\n");
      exit(1);
    }
  run_part(&parts[0]);
  double rate = parts[0].rate;
  for (unsigned i = 1; i < n; i++) {
    pthread_join(parts[i].thread, NULL);
    rate += parts[i].rate;
  }
  pthread_barrier_destroy(&start);
  return rate;
}

double limits_operations(const limits_kind_t *kind, unsigned threads,
                         double seconds) {
  part_t parts[LIMITS_MAX_THREADS] = {0};
  for (unsigned i = 0; i < threads; i++)
    parts[i] = (part_t){.kind = kind, .seconds = seconds};
  return run_parts(parts, threads);
}

/* Defines a function that reads all bytes, a page at a time. */
#define READ(function, features, vector, load, either)                      \
  __attribute__((target(features))) static void function(const char *data,  \
                                                         size_t bytes) {    \
    enum { AT_ONCE = 8 };                                                   \
    vector seen[AT_ONCE];                                                   \
    UNROLL(8)                                                               \
    for (int i = 0; i < AT_ONCE; i++)                                       \
      seen[i] = load((const void *)(data + (size_t)i * sizeof(vector)));    \
    for (size_t at = 0; at < bytes; at += AT_ONCE * sizeof(vector)) {       \
      UNROLL(8)                                                             \
      for (int i = 0; i < AT_ONCE; i++)                                     \
        seen[i] = either(                                                   \
            seen[i],                                                        \
            load((const void *)(data + at + (size_t)i * sizeof(vector))));  \
    }                                                                       \
    UNROLL(8)                                                               \
    for (int i = 0; i < AT_ONCE; i++) __asm__ volatile("" : "+v"(seen[i])); \
  }

READ(read_128, "sse2", __m128i, _mm_loadu_si128, _mm_or_si128)
READ(read_256, "avx2", __m256i, _mm256_loadu_si256, _mm256_or_si256)
READ(read_512, "avx512f", __m512i, _mm512_loadu_si512, _mm512_or_si512)

double limits_read_once(const void *data, size_t bytes) {
  double begin = limits_thread_clock();
  if (has_avx512())
    read_512(data, bytes);
  else if (has_avx2())
    read_256(data, bytes);
  else
    read_128(data, bytes);
  return limits_thread_clock() - begin;
}

double limits_read(const void *data, size_t bytes, unsigned threads,
                   unsigned passes) {
  enum { PAGE = 4096 };
  part_t parts[LIMITS_MAX_THREADS] = {0};
  size_t share = bytes / threads / PAGE * PAGE;
  for (unsigned i = 0; i < threads; i++)
    parts[i] = (part_t){.data = (const char *)data + i * share,
                        .bytes = share,
                        .passes = passes};
  return run_parts(parts, threads);
}

void *limits_buffer(size_t bytes) {
  void *data = NULL;
  if (posix_memalign(&data, 4096, bytes) != 0) {
    fprintf(stderr, "no memory for %zu bytes\n", bytes);
    exit(1);
  }
  memset(data, 1, bytes);
  return data;
}

size_t limits_uncached_bytes(void) {
  size_t least = (size_t)64 << 20;
  long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  size_t wanted = cache > 0 ? 4 * (size_t)cache : 0;
  return wanted > least ? wanted : least;
}

/* `asked` counts tasks handed over, `done` tasks finished. */
typedef struct handoff {
  _Alignas(64) atomic_uint asked;
  _Alignas(64) atomic_uint done;
  unsigned rounds;
} handoff_t;

static void *answer(void *argument) {
  handoff_t *handoff = argument;
  for (unsigned i = 1; i <= handoff->rounds; i++) {
    while (atomic_load_explicit(&handoff->asked, memory_order_acquire) < i)
      _mm_pause();
    atomic_store_explicit(&handoff->done, i, memory_order_release);
  }
  return NULL;
}

double limits_fork_join(unsigned rounds) {
  handoff_t handoff = {.rounds = rounds};
  double *seconds = malloc(rounds * sizeof *seconds);
  pthread_t thread;
  if (seconds == NULL || pthread_create(&thread, NULL, answer, &handoff) != 0) {
    fprintf(stderr, "cannot start a thread\n");
    exit(1);
  }
  for (unsigned i = 1; i <= rounds; i++) {
    double begin = limits_clock();
    atomic_store_explicit(&handoff.asked, i, memory_order_release);
    while (atomic_load_explicit(&handoff.done, memory_order_acquire) < i)
      _mm_pause();
    seconds[i - 1] = limits_clock() - begin;
  }
  pthread_join(thread, NULL);
  double median = limits_median(seconds, rounds);
  free(seconds);
  return median;
}
