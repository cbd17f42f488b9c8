/* Recording what an instance does, in models compiled for it: the schedule
 * calls these in place of their plain counterparts, other models do not have
 * this code. Events go into one buffer, in the order in which they end; the
 * threads of a launch claim places without locks. */
#include <stdatomic.h>

#include "runtime/libc.h"
#include "runtime/runtime.h"

struct rt_trace {
  _Atomic uint64_t n; /* events so far, also those that found no place */
  uint64_t capacity;
  moec_event_t events[];
};

static void record(rt_trace_t *trace, moec_event_t event) {
  const uint64_t at =
      atomic_fetch_add_explicit(&trace->n, 1, memory_order_relaxed);
  if (at >= trace->capacity) return;
  event.end = clock_now();
  event.thread = syscall(LIBC_SYS_gettid);
  trace->events[at] = event;
}

int64_t moert_trace_begin(moert_frame_t *frame) {
  return frame->instance->trace != NULL ? clock_now() : 0;
}

void moert_trace_run(moert_frame_t *frame, int64_t begin) {
  rt_trace_t *trace = frame->instance->trace;
  if (trace != NULL)
    record(trace, (moec_event_t){.begin = begin, .kind = MOEC_EVENT_RUN});
}

typedef struct traced_launch {
  moert_kernel_fn kernel;
  const moert_arg_t *args;
  rt_trace_t *trace;
  uint32_t step;
} traced_launch_t;

static void run_traced(void *context, int64_t begin, int64_t end) {
  const traced_launch_t *launch = context;
  const int64_t start = clock_now();
  launch->kernel(launch->args, begin, end);
  record(launch->trace, (moec_event_t){.begin = start,
                                       .kind = MOEC_EVENT_CHUNK,
                                       .step = launch->step,
                                       .first = begin,
                                       .count = end - begin});
}

void moert_parallel_traced(moert_frame_t *frame, uint32_t kernel,
                           const moert_arg_t *args, int64_t units,
                           int64_t grain, uint32_t step) {
  rt_trace_t *trace = frame->instance->trace;
  if (trace == NULL) {
    moert_parallel(frame, kernel, args, units, grain);
    return;
  }
  traced_launch_t launch = {.kernel = frame->kernels[kernel],
                            .args = args,
                            .trace = trace,
                            .step = step};
  const int64_t start = clock_now();
  instance_parallel(frame->instance, units, grain, run_traced, &launch);
  record(trace, (moec_event_t){.begin = start,
                               .kind = MOEC_EVENT_LAUNCH,
                               .step = step,
                               .count = units});
}

int32_t moert_routine_traced(moert_frame_t *frame, const moert_arg_t *args,
                             moert_routine_fn routine, uint32_t step) {
  rt_trace_t *trace = frame->instance->trace;
  if (trace == NULL) return routine(frame, args);
  const int64_t start = clock_now();
  const int32_t status = routine(frame, args);
  record(trace, (moec_event_t){
                    .begin = start, .kind = MOEC_EVENT_ROUTINE, .step = step});
  return status;
}

/* ---- For applications ---------------------------------------------------- */

moec_status_t moert_trace_start(moec_instance_t *it, uint64_t capacity) {
  const uint64_t most = (INT64_MAX - sizeof(rt_trace_t)) / sizeof(moec_event_t);
  if (it == NULL || capacity > most) return MOEC_E_USAGE;
  if (it->trace != NULL && it->trace->capacity == capacity) {
    atomic_store_explicit(&it->trace->n, 0, memory_order_relaxed);
    return MOEC_OK;
  }
  memory_release(&it->allocator, it->trace);
  it->trace = NULL;
  if (capacity == 0) return MOEC_OK;
  rt_trace_t *trace = memory_allocate(
      &it->allocator, sizeof *trace + capacity * sizeof(moec_event_t));
  if (trace == NULL) return MOEC_E_NO_MEMORY;
  trace->capacity = capacity;
  atomic_store_explicit(&trace->n, 0, memory_order_relaxed);
  it->trace = trace;
  return MOEC_OK;
}

uint64_t moert_trace_events(const moec_instance_t *it,
                            const moec_event_t **out_events,
                            uint64_t *out_lost) {
  const rt_trace_t *trace = it != NULL ? it->trace : NULL;
  const uint64_t n =
      trace != NULL ? atomic_load_explicit(&trace->n, memory_order_relaxed) : 0;
  const uint64_t kept =
      trace == NULL || n <= trace->capacity ? n : trace->capacity;
  *out_events = kept > 0 ? trace->events : NULL;
  if (out_lost != NULL) *out_lost = n - kept;
  return kept;
}
