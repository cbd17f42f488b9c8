/* Rows of what time is spent on, and the clocks for it. */
#include "ir/timing.h"

#include <time.h>

void timings_init(timings_t *timings, arena_t *arena) {
  *timings = (timings_t){.arena = arena};
}

void timings_add(timings_t *timings, const timing_t *row) {
  if (timings == NULL) return;
  timing_t *copy = ARENA_NEW(timings->arena, timing_t);
  *copy = *row;
  copy->next = NULL;
  if (timings->last != NULL)
    timings->last->next = copy;
  else
    timings->first = copy;
  timings->last = copy;
}

static double seconds_of(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double timing_wall(void) { return seconds_of(CLOCK_MONOTONIC); }

double timing_thread(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }
