#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

static void options_are_checked(void **state) {
  (void)state;
  moec_instance_t *it;
  moec_options_t options = {.struct_size = sizeof options, .n_threads = -1};
  assert_int_equal(moert_create(&options, &it), MOEC_E_USAGE);
  assert_null(it);
  options.n_threads = 1;
  options.struct_size = 4;
  assert_int_equal(moert_create(&options, &it), MOEC_E_USAGE);
  options.struct_size = sizeof options;
  options.release =
      (void (*)(void *, void *))(uintptr_t)1; /* without allocate */
  assert_int_equal(moert_create(&options, &it), MOEC_E_USAGE);
  uint32_t no_pool[16] = {0};
  options.release = NULL;
  options.pool = no_pool;
  assert_int_equal(moert_create(&options, &it), MOEC_E_USAGE);
  assert_int_equal(moert_create(&options, NULL), MOEC_E_USAGE);
  moert_destroy(NULL);
}

static void options_of_older_and_newer_callers_are_understood(void **state) {
  (void)state;
  moec_instance_t *it;
  struct {
    moec_options_t options;
    uint64_t added;
  } newer = {.options = {.struct_size = sizeof newer, .n_threads = 1}};
  assert_int_equal(moert_create(&newer.options, &it), MOEC_OK);
  moert_destroy(it);
  newer.added = 1; /* something is asked for that this version lacks */
  assert_int_equal(moert_create(&newer.options, &it), MOEC_E_USAGE);

  moec_options_t older;
  memset(&older, 0xff, sizeof older);
  older.struct_size = offsetof(moec_options_t, fixed_memory);
  older.n_threads = 1;
  older.variant = NULL;
  assert_int_equal(moert_create(&older, &it), MOEC_OK);
  assert_false(it->fixed_memory);
  moert_destroy(it);
}

static void the_best_variant_that_runs_is_chosen(void **state) {
  (void)state;
  moec_instance_t *it;
  moec_options_t options = {.struct_size = sizeof options, .n_threads = 1};
  assert_int_equal(moert_create(NULL, &it), MOEC_OK);
  assert_string_equal(moert_variant(it), "base");
  moert_destroy(it);
  options.variant = "base";
  assert_int_equal(moert_create(&options, &it), MOEC_OK);
  assert_string_equal(moert_variant(it), "base");
  moert_destroy(it);
  options.variant = "future";
  assert_int_equal(moert_create(&options, &it), MOEC_E_CPU);
  options.variant = "futur";
  assert_int_equal(moert_create(&options, &it), MOEC_E_USAGE);
}

static void processor_features_are_those_the_compiler_sees(void **state) {
  (void)state;
  uint64_t features = cpu_features();
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512cd") &&
                __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl");
  assert_int_equal((features & MOERT_CPU_AVX2) != 0, avx2);
  assert_int_equal((features & MOERT_CPU_AVX512) != 0, avx512);
  assert_int_equal((features & MOERT_CPU_AVX512VNNI) != 0,
                   avx512 && __builtin_cpu_supports("avx512vnni"));
  assert_int_equal((features & MOERT_CPU_AVX512BF16) != 0,
                   avx512 && __builtin_cpu_supports("avx512bf16"));
#else
  assert_int_equal(features, 0);
#endif
  assert_true(cpu_count() >= 1);
}

typedef struct counter {
  int allowed; /* allocations until one fails; below 0: no limit */
  int live;
} counter_t;

static void *count_allocation(void *user, uint64_t bytes) {
  counter_t *counter = user;
  if (counter->allowed == 0) return NULL;
  if (counter->allowed > 0) counter->allowed--;
  counter->live++;
  return aligned_alloc(RT_ALIGN, (bytes + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN);
}

static void count_release(void *user, void *memory) {
  ((counter_t *)user)->live--;
  free(memory);
}

/* A life of an instance with a fresh shape per run; OK if nothing failed. */
static moec_status_t live(counter_t *counter) {
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = 2,
                                  .allocate = count_allocation,
                                  .release = count_release,
                                  .memory_user = counter};
  moec_instance_t *it;
  moec_status_t first = moert_create(&options, &it);
  if (first != MOEC_OK) assert_null(it);
  program_hooks.grow_bytes = 1000;
  for (int64_t n = 1; it != NULL && n < 4; n++) {
    program_io_t io;
    const int64_t strides[] = {3, 1};
    float wide[64] = {0};
    program_io_fill(&io, n * 2, 2, 2 * n);
    for (int64_t i = 0; i < 4 * n; i++) wide[i / 2 * 3 + i % 2] = io.a[i];
    io.in[IN_A].data = wide;
    io.in[IN_A].strides = strides;
    moec_status_t status = moert_run(it, io.in, N_IN, io.out, N_OUT);
    if (status == MOEC_OK)
      program_io_check(&io);
    else
      assert_memory_equal(moert_message(it), "no memory for ", 14);
    if (first == MOEC_OK) first = status;
  }
  program_hooks.grow_bytes = 0;
  moert_destroy(it);
  assert_int_equal(counter->live, 0);
  return first;
}

static void any_allocation_may_fail(void **state) {
  (void)state;
  int n = 0;
  for (;; n++) {
    counter_t counter = {.allowed = n};
    moec_status_t status = live(&counter);
    if (status == MOEC_OK) break;
    assert_int_equal(status, MOEC_E_NO_MEMORY);
  }
  assert_in_range(n, 8, 60); /* it did fail, in many places */
}

/* One failure in the middle: the runs after it succeed again. */
static void an_instance_recovers_from_lack_of_memory(void **state) {
  (void)state;
  counter_t counter = {.allowed = -1};
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = 1,
                                  .allocate = count_allocation,
                                  .release = count_release,
                                  .memory_user = &counter};
  moec_instance_t *it;
  program_io_t io;
  assert_int_equal(moert_create(&options, &it), MOEC_OK);
  program_io_fill(&io, 2, 2, 1);
  assert_int_equal(moert_run(it, io.in, N_IN, io.out, N_OUT), MOEC_OK);
  program_io_fill(&io, 8, 8, 20);
  for (int allowed = 0;; allowed++) {
    counter.allowed = allowed;
    if (moert_run(it, io.in, N_IN, io.out, N_OUT) == MOEC_OK) break;
  }
  program_io_check(&io);
  moert_destroy(it);
  assert_int_equal(counter.live, 0);
}

static void *allocate_misaligned(void *user, uint64_t bytes) {
  ((counter_t *)user)->live++;
  return (char *)malloc(bytes + 64) + 8 * (user != NULL);
}

static void release_misaligned(void *user, void *memory) {
  ((counter_t *)user)->live--;
  free((char *)memory - 8);
}

static void misaligned_memory_is_given_back(void **state) {
  (void)state;
  counter_t counter = {0};
  const moec_options_t options = {.struct_size = sizeof options,
                                  .allocate = allocate_misaligned,
                                  .release = release_misaligned,
                                  .memory_user = &counter};
  moec_instance_t *it;
  /* malloc's multiples of 16, plus 8, are no multiples of 64. */
  assert_int_equal(moert_create(&options, &it), MOEC_E_NO_MEMORY);
  assert_int_equal(counter.live, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(options_are_checked),
      cmocka_unit_test(options_of_older_and_newer_callers_are_understood),
      cmocka_unit_test(the_best_variant_that_runs_is_chosen),
      cmocka_unit_test(processor_features_are_those_the_compiler_sees),
      cmocka_unit_test(any_allocation_may_fail),
      cmocka_unit_test(an_instance_recovers_from_lack_of_memory),
      cmocka_unit_test(misaligned_memory_is_given_back),
  };
  return cmocka_run_group_tests_name("runtime/instance", tests, NULL, NULL);
}
