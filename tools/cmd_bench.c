/* moec bench MODEL: how long a run takes. */
#include <stdlib.h>

#include "tools/json.h"
#include "tools/trace.h"
#include "tools/values.h"

typedef struct bench {
  cli_t *cli;
  loaded_t *loaded;
  moec_value_t *inputs, *outputs;
  double first;  /* seconds of the first run */
  double *times; /* of measured runs, malloc'd, ascending after sort */
  size_t n, capacity;
  moec_memory_t memory;
} bench_t;

static moec_status_t run_once(bench_t *b, double *out_seconds) {
  const moec_model_t *model = b->loaded->model;
  const double start = now_seconds();
  moec_status_t status =
      model->run(b->loaded->instance, b->inputs, model->n_inputs, b->outputs,
                 model->n_outputs);
  *out_seconds = now_seconds() - start;
  return status == MOEC_OK ? MOEC_OK
                           : loaded_fail(b->cli, b->loaded, "run", status);
}

static void keep(bench_t *b, double seconds) {
  if (b->n == b->capacity) {
    const size_t capacity = b->capacity == 0 ? 1024 : 2 * b->capacity;
    b->times = arena_grow_array(b->cli->arena, b->times, b->n, capacity,
                                sizeof *b->times);
    b->capacity = capacity;
  }
  b->times[b->n++] = seconds;
}

static moec_status_t warm_up(bench_t *b) {
  const options_t *o = &b->cli->options;
  const int64_t runs = o->given[OPTION_warmup] ? o->warmup : 3;
  double seconds;
  MOEC_TRY(run_once(b, &b->first));
  for (int64_t i = 1; i < runs; i++) MOEC_TRY(run_once(b, &seconds));
  return MOEC_OK;
}

static moec_status_t measure(bench_t *b) {
  enum { LEAST = 10, MOST = 10000000 };
  const options_t *o = &b->cli->options;
  const bool fixed = o->given[OPTION_runs];
  const double duration = o->given[OPTION_duration] ? o->duration : 1;
  const double start = now_seconds();
  for (int64_t i = 0; i < MOST; i++) {
    double seconds;
    if (fixed ? i >= o->runs : i >= LEAST && now_seconds() - start >= duration)
      break;
    MOEC_TRY(run_once(b, &seconds));
    keep(b, seconds);
  }
  return MOEC_OK;
}

static moec_status_t record(bench_t *b, const char *path) {
  enum { RUNS = 10 };
  double seconds;
  MOEC_TRY(trace_begin(b->cli, b->loaded, RUNS));
  for (unsigned i = 0; i < RUNS; i++) MOEC_TRY(run_once(b, &seconds));
  return trace_write(b->cli, b->loaded, path);
}

static int compare_times(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

/* The smallest time that at least `percent` of the runs do not exceed. */
static double percentile(const bench_t *b, double percent) {
  size_t rank = (size_t)(percent / 100 * (double)b->n);
  if ((double)rank < percent / 100 * (double)b->n) rank++;
  if (rank == 0) rank = 1;
  return b->times[rank - 1];
}

static double mean(const bench_t *b) {
  double sum = 0;
  for (size_t i = 0; i < b->n; i++) sum += b->times[i];
  return sum / (double)b->n;
}

static const struct row {
  const char *name;
  double percent;
} rows[] = {{"min", 0},  {"p50", 50},    {"p90", 90}, {"p95", 95},
            {"p99", 99}, {"p999", 99.9}, {"max", 100}};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static const char *const memory_kinds[] = {"exact", "bound", "unbounded"};

static void print_text(const bench_t *b) {
  FILE *out = b->cli->out;
  char workspace[24], peak[24];
  const loaded_t *l = b->loaded;
  fprintf(out, "model       %s, variant %s\n", l->model->name,
          l->model->variant(l->instance));
  fprintf(out,
          "load        %.3f ms\ncreate      %.3f ms\nfirst run   %.3f ms\n",
          l->load_seconds * 1e3, l->create_seconds * 1e3, b->first * 1e3);
  fprintf(out, "workspace   %s (%s)\npeak memory %s\n",
          bytes_text(b->memory.bytes, workspace),
          memory_kinds[b->memory.kind < 3 ? b->memory.kind : 2],
          bytes_text(peak_memory(), peak));
  fprintf(out, "runs        %zu\nmean        %.4f ms\n", b->n, mean(b) * 1e3);
  for (unsigned i = 0; i < N_ROWS; i++)
    fprintf(out, "%-11s %.4f ms\n", rows[i].name,
            percentile(b, rows[i].percent) * 1e3);
}

static void print_json(const bench_t *b) {
  const loaded_t *l = b->loaded;
  text_t json;
  text_init(&json, b->cli->arena);
  text_printf(&json, "{\"model\":");
  json_write_string(l->model->name, &json);
  text_printf(&json, ",\"variant\":");
  json_write_string(l->model->variant(l->instance), &json);
  text_printf(&json,
              ",\"threads\":%lld,\"load_ms\":%.6f,\"create_ms\":%.6f,"
              "\"first_ms\":%.6f,\"workspace_bytes\":%llu,"
              "\"workspace_kind\":\"%s\",\"peak_bytes\":%llu,\"runs\":%zu,"
              "\"mean_ms\":%.6f",
              (long long)b->cli->options.threads, l->load_seconds * 1e3,
              l->create_seconds * 1e3, b->first * 1e3,
              (unsigned long long)b->memory.bytes,
              memory_kinds[b->memory.kind < 3 ? b->memory.kind : 2],
              (unsigned long long)peak_memory(), b->n, mean(b) * 1e3);
  for (unsigned i = 0; i < N_ROWS; i++)
    text_printf(&json, ",\"%s_ms\":%.6f", rows[i].name,
                percentile(b, rows[i].percent) * 1e3);
  fprintf(b->cli->out, "%s}\n", json.data);
}

moec_status_t cmd_bench(cli_t *cli) {
  const options_t *o = &cli->options;
  bench_t *b = ARENA_NEW(cli->arena, bench_t);
  b->cli = cli;
  if (o->given[OPTION_runs] && o->runs == 0)
    return CLI_FAIL(cli, MOEC_E_USAGE, "--runs must be at least 1");
  MOEC_TRY(loaded_open(cli, o->operands[0], &b->loaded));
  const moec_model_t *model = b->loaded->model;
  MOEC_TRY(values_load_inputs(cli, model, o->data, &o->input, &b->inputs));
  b->outputs = values_make_outputs(cli->arena, model);
  b->memory.struct_size = sizeof b->memory;
  moec_status_t status = model->query(b->loaded->instance, b->inputs,
                                      model->n_inputs, NULL, 0, &b->memory);
  if (status != MOEC_OK)
    return loaded_fail(cli, b->loaded, "query of the workspace", status);
  MOEC_TRY(warm_up(b));
  MOEC_TRY(measure(b));
  if (o->trace != NULL) MOEC_TRY(record(b, o->trace));
  qsort(b->times, b->n, sizeof *b->times, compare_times);
  if (o->json)
    print_json(b);
  else
    print_text(b);
  return MOEC_OK;
}
