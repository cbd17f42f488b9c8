/* What an instance records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

typedef struct fixture {
  moec_instance_t *it;
  program_io_t io;
} fixture_t;

static int set_up(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  program_hooks = (program_hooks_t){.traced = true};
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = 2};
  if (moert_create(&options, &f->it) != MOEC_OK) return -1;
  program_io_fill(&f->io, 4, 5, 3);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  fixture_t *f = *state;
  moert_destroy(f->it);
  free(f);
  return 0;
}

static void run(fixture_t *f) {
  assert_int_equal(moert_run(f->it, f->io.in, N_IN, f->io.out, N_OUT), MOEC_OK);
  program_io_check(&f->io);
}

/* Chunks of step 0 cover its 20 units once, inside the launch. */
static void check_chunks(const moec_event_t *events, uint64_t n) {
  const moec_event_t *launch = NULL;
  int covered[20] = {0};
  for (uint64_t i = 0; i < n; i++)
    if (events[i].kind == MOEC_EVENT_LAUNCH) launch = &events[i];
  assert_non_null(launch);
  assert_int_equal(launch->count, 20);
  for (uint64_t i = 0; i < n; i++) {
    const moec_event_t *e = &events[i];
    if (e->kind != MOEC_EVENT_CHUNK) continue;
    assert_int_equal(e->step, 0);
    assert_true(e->begin >= launch->begin && e->end <= launch->end);
    assert_in_range(e->first + e->count, 1, 20);
    for (int64_t u = e->first; u < e->first + e->count; u++) covered[u]++;
  }
  for (int u = 0; u < 20; u++) assert_int_equal(covered[u], 1);
}

static void steps_are_recorded_inside_their_run(void **state) {
  fixture_t *f = *state;
  const moec_event_t *events;
  uint64_t lost = 7;
  assert_int_equal(moert_trace_start(f->it, 64), MOEC_OK);
  run(f);
  const uint64_t n = moert_trace_events(f->it, &events, &lost);
  assert_int_equal(lost, 0);
  assert_in_range(n, 4, 64); /* a chunk or more, launch, routine, run */
  const moec_event_t *last = &events[n - 1], *routine = &events[n - 2];
  assert_int_equal(last->kind, MOEC_EVENT_RUN);
  assert_int_equal(routine->kind, MOEC_EVENT_ROUTINE);
  assert_int_equal(routine->step, 1);
  for (uint64_t i = 0; i < n; i++) {
    assert_true(events[i].begin <= events[i].end);
    assert_true(events[i].begin >= last->begin && events[i].end <= last->end);
    assert_true(events[i].thread > 0);
  }
  assert_int_equal(routine->thread, last->thread);
  check_chunks(events, n);
}

static void nothing_is_recorded_unless_started(void **state) {
  fixture_t *f = *state;
  const moec_event_t *events;
  run(f);
  assert_int_equal(moert_trace_events(f->it, &events, NULL), 0);
  assert_null(events);
  assert_int_equal(moert_trace_start(f->it, 64), MOEC_OK);
  run(f);
  assert_int_not_equal(moert_trace_events(f->it, &events, NULL), 0);
  assert_int_equal(moert_trace_start(f->it, 0), MOEC_OK);
  run(f);
  assert_int_equal(moert_trace_events(f->it, &events, NULL), 0);
}

static void events_gather_until_started_again(void **state) {
  fixture_t *f = *state;
  const moec_event_t *events;
  assert_int_equal(moert_trace_start(f->it, 100), MOEC_OK);
  run(f);
  const uint64_t once = moert_trace_events(f->it, &events, NULL);
  run(f);
  assert_true(moert_trace_events(f->it, &events, NULL) > once);
  assert_int_equal(moert_trace_start(f->it, 100), MOEC_OK);
  assert_int_equal(moert_trace_events(f->it, &events, NULL), 0);
}

static void events_without_place_are_counted(void **state) {
  fixture_t *f = *state;
  const moec_event_t *events;
  uint64_t lost;
  assert_int_equal(moert_trace_start(f->it, 2), MOEC_OK);
  run(f);
  assert_int_equal(moert_trace_events(f->it, &events, &lost), 2);
  assert_in_range(lost, 2, 100);
}

static void runs_that_fail_leave_no_run(void **state) {
  fixture_t *f = *state;
  const moec_event_t *events;
  program_hooks.fault = FAULT_SILENT_STATUS;
  assert_int_equal(moert_trace_start(f->it, 64), MOEC_OK);
  assert_int_equal(moert_run(f->it, f->io.in, N_IN, f->io.out, N_OUT),
                   MOEC_E_VALUE);
  const uint64_t n = moert_trace_events(f->it, &events, NULL);
  for (uint64_t i = 0; i < n; i++)
    assert_int_not_equal(events[i].kind, MOEC_EVENT_RUN);
}

static void *no_memory(void *user, uint64_t bytes) {
  const bool *refuse = user;
  return *refuse ? NULL : aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void release(void *user, void *memory) {
  (void)user;
  free(memory);
}

static void wrong_starts_leave_the_instance_usable(void **state) {
  fixture_t *f = *state;
  bool refuse = false;
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = 1,
                                  .allocate = no_memory,
                                  .release = release,
                                  .memory_user = &refuse};
  moert_destroy(f->it);
  assert_int_equal(moert_create(&options, &f->it), MOEC_OK);
  assert_int_equal(moert_trace_start(f->it, UINT64_MAX), MOEC_E_USAGE);
  assert_int_equal(moert_trace_start(NULL, 1), MOEC_E_USAGE);
  run(f);
  assert_int_equal(moert_trace_start(f->it, 64), MOEC_OK);
  refuse = true;
  assert_int_equal(moert_trace_start(f->it, 65), MOEC_E_NO_MEMORY);
  run(f);
  const moec_event_t *events;
  assert_int_equal(moert_trace_events(f->it, &events, NULL), 0);
  assert_int_equal(moert_trace_events(NULL, &events, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(steps_are_recorded_inside_their_run),
      TEST(nothing_is_recorded_unless_started),
      TEST(events_gather_until_started_again),
      TEST(events_without_place_are_counted),
      TEST(runs_that_fail_leave_no_run),
      TEST(wrong_starts_leave_the_instance_usable),
  };
  return cmocka_run_group_tests_name("runtime/trace", tests, NULL, NULL);
}
