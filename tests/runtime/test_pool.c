#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

static const rt_allocator_t c_library = {0};

/* Counts how often each unit was run, in ranges of what sizes. */
typedef struct cover {
  int64_t units, grain;
  _Atomic int64_t calls;
  _Atomic uint8_t *times;
  _Atomic int bad; /* ranges that break the promise */
} cover_t;

static void cover(void *context, int64_t begin, int64_t end) {
  cover_t *c = context;
  c->calls++;
  if (begin < 0 || end > c->units || begin >= end ||
      (end - begin < c->grain && end != c->units))
    c->bad++;
  for (int64_t i = begin; i < end; i++) c->times[i]++;
}

static void check_cover(rt_pool_t *pool, moec_instance_t *it, int64_t units,
                        int64_t grain) {
  cover_t c = {.units = units, .grain = grain};
  c.times = calloc((size_t)units + 1, 1);
  if (it != NULL)
    instance_parallel(it, units, grain, cover, &c);
  else
    pool_run(pool, units, grain, cover, &c);
  assert_int_equal(c.bad, 0);
  assert_int_equal(c.times[units], 0);
  for (int64_t i = 0; i < units; i++)
    if (c.times[i] != 1) assert_int_equal(c.times[i], 1);
  if (units > 0) assert_in_range(c.calls, 1, units / grain + 1);
  free((void *)c.times);
}

static void each_unit_runs_once(void **state) {
  (void)state;
  for (int threads = 1; threads <= 8; threads *= 2) {
    rt_pool_t *pool = pool_create(threads, &c_library);
    assert_int_equal(pool_threads(pool), threads);
    for (int64_t units = 0; units < 70; units++)
      for (int64_t grain = 1; grain < 20; grain += 3)
        check_cover(pool, NULL, units, grain);
    check_cover(pool, NULL, 100000, 1);
    check_cover(pool, NULL, 100000, 33333);
    pool_destroy(pool);
  }
}

/* Long enough for the workers to sleep, so that they must be woken. */
static void sleeping_workers_wake(void **state) {
  (void)state;
  rt_pool_t *pool = pool_create(4, &c_library);
  for (int i = 0; i < 200; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 100000 + i * 1000}, NULL);
    check_cover(pool, NULL, 64, 1);
  }
  pool_destroy(pool);
}

typedef struct meeting {
  _Atomic int arrived;
  int wanted;
} meeting_t;

static void meet(void *context, int64_t begin, int64_t end) {
  meeting_t *meeting = context;
  (void)begin;
  (void)end;
  meeting->arrived++;
  time_t start = time(NULL);
  while (meeting->arrived < meeting->wanted && time(NULL) < start + 20)
    sched_yield();
}

/* Units that wait for each other end only on several threads at once. */
static void units_run_at_the_same_time(void **state) {
  (void)state;
  rt_pool_t *pool = pool_create(4, &c_library);
  for (int i = 0; i < 20; i++) {
    meeting_t meeting = {.wanted = 4};
    pool_run(pool, 4, 1, meet, &meeting);
    assert_int_equal(meeting.arrived, 4);
  }
  pool_destroy(pool);
}

static void slow_unit(void *context, int64_t begin, int64_t end) {
  (void)context;
  /* Longer for some than the caller spins for the last worker. */
  if (begin == 0) nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  for (int64_t i = begin; i < end; i++)
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
}

static void the_caller_waits_for_slow_workers(void **state) {
  (void)state;
  rt_pool_t *pool = pool_create(3, &c_library);
  for (int i = 0; i < 30; i++) pool_run(pool, 12, 1, slow_unit, NULL);
  pool_destroy(pool);
}

static void *use_instance(void *pool) {
  const moec_options_t options = {.struct_size = sizeof options, .pool = pool};
  moec_instance_t *it;
  if (moert_create(&options, &it) != MOEC_OK)
    return (void *)(uintptr_t)"cannot create";
  for (int i = 0; i < 300; i++) {
    program_io_t io;
    program_io_fill(&io, 1 + i % 7, 5, i % 4);
    if (moert_run(it, io.in, N_IN, io.out, N_OUT) != MOEC_OK)
      return (void *)(uintptr_t)"cannot run";
    for (int k = 0; k < (1 + i % 7) * 5; k++)
      if (((float *)io.out[OUT_Y].data)[k] !=
          io.a[k] * io.c + (float)io.b[k % 5])
        return (void *)(uintptr_t)"wrong result";
  }
  moert_destroy(it);
  return NULL;
}

static void run_instances(void *pool) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use_instance, pool), 0);
  for (int i = 0; i < 4; i++) {
    void *failure;
    pthread_join(threads[i], &failure);
    if (failure != NULL) fail_msg("%s", (char *)failure);
  }
}

static void instances_in_several_threads_share_a_pool(void **state) {
  (void)state;
  void *pool = moert_pool_create(3);
  assert_non_null(pool);
  assert_true(pool_is_compatible(pool));
  run_instances(pool);
  moert_pool_destroy(pool);
  moert_pool_destroy(NULL);
}

static void instances_in_several_threads_have_pools_of_their_own(void **state) {
  (void)state;
  run_instances(NULL);
}

static _Atomic int n_loops;

/* Back to front, in threes. */
static void loop_of_application(void *user, int64_t n, moec_task_fn task,
                                void *context) {
  assert_ptr_equal(user, &n_loops);
  n_loops++;
  for (int64_t end = n; end > 0; end -= 3)
    task(context, end > 3 ? end - 3 : 0, end);
}

static void the_application_can_run_the_units(void **state) {
  (void)state;
  const moec_options_t options = {.struct_size = sizeof options,
                                  .parallel_for = loop_of_application,
                                  .parallel_user = &n_loops};
  moec_instance_t *it;
  assert_int_equal(moert_create(&options, &it), MOEC_OK);
  for (int64_t units = 0; units < 50; units++)
    for (int64_t grain = 1; grain < 20; grain += 3)
      check_cover(NULL, it, units, grain);
  assert_true(n_loops > 0);
  program_io_t io;
  program_io_fill(&io, 4, 5, 3);
  assert_int_equal(moert_run(it, io.in, N_IN, io.out, N_OUT), MOEC_OK);
  program_io_check(&io);
  moert_destroy(it);
}

#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

static void a_forked_child_runs_alone(void **state) {
  (void)state;
#ifdef WITH_TSAN
  skip(); /* which does not follow a fork() of several threads */
#endif
  rt_pool_t *pool = pool_create(4, &c_library);
  check_cover(pool, NULL, 64, 1);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) { /* without its workers */
    alarm(20);
    for (int i = 0; i < 100; i++) check_cover(pool, NULL, 64, 1);
    pool_destroy(pool);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  check_cover(pool, NULL, 64, 1);
  pool_destroy(pool);
}

/* Ends when as many threads as wanted are here: the time of a region of such
 * units is that of reaching the workers and of joining them. */
static void arrive(void *context, int64_t begin, int64_t end) {
  meeting_t *meeting = context;
  meeting->arrived += (int)(end - begin);
  while (meeting->arrived < meeting->wanted) {
  }
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Printed, not judged: machines are shared. */
static void fork_and_join_is_fast_when_hot(void **state) {
  (void)state;
  enum { ROUNDS = 2001, REGIONS = 20 };
  static double micros[ROUNDS];
  for (int threads = 1; threads <= 4 && threads <= cpu_count(); threads *= 2) {
    rt_pool_t *pool = pool_create(threads, &c_library);
    for (int i = 0; i < ROUNDS; i++) {
      struct timespec a, b;
      clock_gettime(CLOCK_MONOTONIC, &a);
      for (int k = 0; k < REGIONS; k++) {
        meeting_t meeting = {.wanted = threads};
        pool_run(pool, threads, 1, arrive, &meeting);
      }
      clock_gettime(CLOCK_MONOTONIC, &b);
      micros[i] = ((double)(b.tv_sec - a.tv_sec) * 1e6 +
                   (double)(b.tv_nsec - a.tv_nsec) * 1e-3) /
                  (double)REGIONS;
    }
    qsort(micros, ROUNDS, sizeof micros[0], compare_doubles);
    print_message("%d threads: median %.3f us, 95%% %.3f us\n", threads,
                  micros[ROUNDS / 2], micros[ROUNDS * 95 / 100]);
    assert_true(micros[ROUNDS / 2] < 1000);
    pool_destroy(pool);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_unit_runs_once),
      cmocka_unit_test(sleeping_workers_wake),
      cmocka_unit_test(units_run_at_the_same_time),
      cmocka_unit_test(the_caller_waits_for_slow_workers),
      cmocka_unit_test(instances_in_several_threads_share_a_pool),
      cmocka_unit_test(instances_in_several_threads_have_pools_of_their_own),
      cmocka_unit_test(the_application_can_run_the_units),
      cmocka_unit_test(a_forked_child_runs_alone),
      cmocka_unit_test(fork_and_join_is_fast_when_hot),
  };
  return cmocka_run_group_tests_name("runtime/pool", tests, NULL, NULL);
}
