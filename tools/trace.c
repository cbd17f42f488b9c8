/* Recorded events as JSON; see trace.h. Format: "Trace Event Format", complete
 * events ("X") with times in microseconds, and metadata ("M") for names. */
#include "tools/trace.h"

#include <string.h>

#include "backend/cpu.h"
#include "backend/output.h"
#include "tools/json.h"

enum {
  EVENTS_PER_THREAD = 4,  /* at most, of a launch: see runtime/pool.c */
  LEAST_EVENTS = 1 << 16, /* room, for what loops */
  MOST_EVENTS = 1 << 24,
};

typedef struct writer {
  const moec_tracing_t *tracing;
  const moec_event_t *events;
  uint64_t n;
  int64_t origin;         /* nanoseconds, of the first event */
  const int64_t *threads; /* of the system, in order of their first event */
  unsigned n_threads;
  text_t json;
} writer_t;

/* NULL for a model that cannot record. */
static const moec_tracing_t *tracing_of(const loaded_t *loaded) {
  const moec_model_t *model = loaded->model;
  if (model->struct_size <
      offsetof(moec_model_t, tracing) + sizeof(const moec_tracing_t *))
    return NULL;
  const moec_tracing_t *tracing = model->tracing;
  return tracing != NULL && tracing->struct_size >= sizeof *tracing ? tracing
                                                                    : NULL;
}

moec_status_t trace_begin(cli_t *cli, const loaded_t *loaded, unsigned n_runs) {
  const moec_tracing_t *tracing = tracing_of(loaded);
  if (tracing == NULL)
    return CLI_FAIL(cli, MOEC_E_USAGE,
                    "the model cannot record its steps: it was compiled "
                    "without --instrument");
  const int64_t wanted = cli->options.threads;
  const uint64_t threads = (uint64_t)(wanted > 0 ? wanted : cpu_count());
  uint64_t capacity =
      n_runs * (1 + tracing->n_steps * (1 + EVENTS_PER_THREAD * threads));
  if (capacity < LEAST_EVENTS) capacity = LEAST_EVENTS;
  if (capacity > MOST_EVENTS) capacity = MOST_EVENTS;
  moec_status_t status = tracing->start(loaded->instance, capacity);
  return status == MOEC_OK
             ? MOEC_OK
             : CLI_FAIL(cli, status, "no memory for %llu recorded events",
                        (unsigned long long)capacity);
}

/* ---- Threads ------------------------------------------------------------- */

static unsigned thread_number(const writer_t *w, int64_t thread) {
  unsigned i = 0;
  while (i < w->n_threads && w->threads[i] != thread) i++;
  return i;
}

/* Launches end on the thread that runs the model, so it comes first. */
static void find_threads(arena_t *arena, writer_t *w) {
  int64_t *threads = NULL;
  for (unsigned pass = 0; pass < 2; pass++) {
    for (uint64_t i = 0; i < w->n; i++) {
      const moec_event_t *e = &w->events[i];
      if ((pass == 0 && e->kind == MOEC_EVENT_CHUNK) ||
          thread_number(w, e->thread) < w->n_threads)
        continue;
      threads = arena_grow_array(arena, threads, w->n_threads,
                                 (size_t)w->n_threads + 1, sizeof *threads);
      threads[w->n_threads++] = e->thread;
      w->threads = threads;
    }
  }
}

/* ---- JSON ---------------------------------------------------------------- */

static void append_metadata(writer_t *w, const char *model) {
  text_printf(&w->json,
              "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,"
              "\"args\":{\"name\":");
  json_write_string(model[0] != '\0' ? model : "model", &w->json);
  text_printf(&w->json, "}}");
  for (unsigned i = 0; i < w->n_threads; i++)
    text_printf(&w->json,
                ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,"
                "\"tid\":%u,\"args\":{\"name\":\"%s\"}}",
                i, i == 0 ? "caller" : "worker");
}

static const moec_step_t *step_of(const writer_t *w, const moec_event_t *e) {
  static const moec_step_t none = {"", "", -1, ""};
  if (e->kind == MOEC_EVENT_RUN || e->step >= w->tracing->n_steps) return &none;
  return &w->tracing->steps[e->step];
}

static const char *name_of(const moec_event_t *e, const moec_step_t *step) {
  if (e->kind == MOEC_EVENT_RUN) return "run";
  if (step->node[0] != '\0') return step->node;
  return step->op[0] != '\0' ? step->op : step->work;
}

static void append_event(writer_t *w, const moec_event_t *e) {
  static const char *const kinds[] = {"run", "launch", "chunk", "routine"};
  const moec_step_t *step = step_of(w, e);
  text_t *json = &w->json;
  text_printf(json, ",\n{\"name\":");
  json_write_string(name_of(e, step), json);
  text_printf(json,
              ",\"cat\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,"
              "\"pid\":1,\"tid\":%u",
              kinds[e->kind < 4 ? e->kind : 0],
              (double)(e->begin - w->origin) / 1e3,
              (double)(e->end - e->begin) / 1e3, thread_number(w, e->thread));
  if (e->kind != MOEC_EVENT_RUN) {
    text_printf(json,
                ",\"args\":{\"step\":%u,\"node_index\":%lld,\"op\":", e->step,
                (long long)step->node_index);
    json_write_string(step->op, json);
    text_printf(json, ",\"work\":");
    json_write_string(step->work, json);
    if (e->kind == MOEC_EVENT_LAUNCH || e->kind == MOEC_EVENT_CHUNK)
      text_printf(json, ",\"first\":%lld,\"units\":%lld", (long long)e->first,
                  (long long)e->count);
    text_printf(json, "}");
  }
  text_printf(json, "}");
}

moec_status_t trace_write(cli_t *cli, const loaded_t *loaded,
                          const char *path) {
  writer_t w = {.tracing = tracing_of(loaded)};
  uint64_t lost = 0;
  w.n = w.tracing->events(loaded->instance, &w.events, &lost);
  if (lost > 0)
    diag_warning(&cli->diag, (ir_loc_t){0},
                 "%llu events were not recorded, as %llu are the most",
                 (unsigned long long)lost, (unsigned long long)w.n);
  w.origin = INT64_MAX;
  for (uint64_t i = 0; i < w.n; i++)
    if (w.events[i].begin < w.origin) w.origin = w.events[i].begin;
  text_init(&w.json, cli->arena);
  find_threads(cli->arena, &w);
  text_printf(&w.json, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
  append_metadata(&w, loaded->model->name);
  for (uint64_t i = 0; i < w.n; i++) append_event(&w, &w.events[i]);
  text_printf(&w.json, "\n]}\n");
  if (w.tracing->start(loaded->instance, 0) != MOEC_OK)
    return CLI_FAIL(cli, MOEC_E_INTERNAL, "the recording does not end");
  return output_write_file(path, w.json.data, w.json.length, false, &cli->diag);
}
