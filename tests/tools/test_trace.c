/* Recorded runs as files. */
#include "cli_support.h"
#include "tools/json.h"

static const char graph_text[] =
    "module \"graph\" tensor {\n"
    "func @main(%0 \"x\": f32[1,3]) -> (\"v\", \"i\") {\n"
    "  %1 = exp(%0) : f32[1,3]   loc(#3 \"layers.0/\\\"exp\" Exp)\n"
    "  %2, %3 = topk(%1) {k = 2, axis = 1} : f32[1,2], i64[1,2]   loc(#4 "
    "\"pick\" TopK)\n"
    "  return(%2, %3)\n"
    "}\n"
    "}\n";

static void write_input(cli_fixture_t *f) {
  static const float x[3] = {1, 2, 3};
  write_text(f, "graph.moeir", graph_text);
  make_folder(f, "data");
  write_npy(f, "data/input_0.npy", "<f4", "(1, 3)", x, sizeof x);
}

static const json_t *read_json(cli_fixture_t *f, arena_t *arena,
                               const char *name) {
  enum { MOST = 1 << 16 };
  diag_sink_t diag;
  const json_t *value = NULL;
  char *text = arena_alloc(arena, MOST);
  FILE *file = fopen(in_folder(f, name), "rb");
  assert_non_null(file);
  const size_t length = fread(text, 1, MOST, file);
  fclose(file);
  diag_init(&diag, arena, NULL);
  assert_int_equal(json_parse(arena, text, length, &diag, &value), MOEC_OK);
  return value;
}

static unsigned count_events(const json_t *trace, const char *category,
                             const char *name) {
  const json_t *events = json_get(trace, "traceEvents");
  unsigned n = 0;
  assert_non_null(events);
  for (size_t i = 0; i < events->n; i++) {
    const json_t *cat = json_get(events->items[i], "cat");
    if (cat == NULL || strcmp(cat->text, category) != 0) continue;
    n += strcmp(json_get(events->items[i], "name")->text, name) == 0;
    assert_true(json_get(events->items[i], "dur")->number >= 0);
  }
  return n;
}

static void run_writes_what_each_node_did(void **state) {
  cli_fixture_t *f = *state;
  arena_t *arena = arena_create(0);
  write_input(f);
  assert_exit(f, 0, "run", in_folder(f, "graph.moeir"), "--data",
              in_folder(f, "data"), "--trace", in_folder(f, "t.json"), "-j1",
              "-O0");
  const json_t *trace = read_json(f, arena, "t.json");
  assert_int_equal(count_events(trace, "run", "run"), 1);
  assert_int_equal(count_events(trace, "launch", "layers.0/\"exp"), 1);
  assert_int_equal(count_events(trace, "chunk", "layers.0/\"exp"), 1);
  assert_int_equal(count_events(trace, "routine", "pick"), 1);
  arena_destroy(arena);
}

static void bench_records_ten_runs(void **state) {
  cli_fixture_t *f = *state;
  arena_t *arena = arena_create(0);
  write_input(f);
  assert_exit(f, 0, in_folder(f, "graph.moeir"), "-o", in_folder(f, "g.so"),
              "--instrument");
  assert_exit(f, 0, "bench", in_folder(f, "g.so"), "--data",
              in_folder(f, "data"), "--runs=1", "--trace",
              in_folder(f, "t.json"), "--json");
  assert_contains(f->out, "\"p99_ms\":");
  const json_t *trace = read_json(f, arena, "t.json");
  assert_int_equal(count_events(trace, "run", "run"), 10);
  assert_int_equal(count_events(trace, "routine", "pick"), 10);
  arena_destroy(arena);
}

static void models_that_cannot_record_are_refused(void **state) {
  cli_fixture_t *f = *state;
  write_input(f);
  assert_exit(f, 0, in_folder(f, "graph.moeir"), "-o", in_folder(f, "g.so"));
  assert_exit(f, 2, "run", in_folder(f, "g.so"), "--data", in_folder(f, "data"),
              "--trace", in_folder(f, "t.json"));
  assert_contains(f->err, "compiled without --instrument");
  assert_int_not_equal(access(in_folder(f, "t.json"), F_OK), 0);
  assert_exit(f, 0, "run", MOEC_FAKE_MODEL, "--entry=fake_old");
  assert_exit(f, 2, "run", MOEC_FAKE_MODEL, "--entry=fake_old", "--trace",
              in_folder(f, "t.json"));
  assert_contains(f->err, "compiled without --instrument");
}

static void only_models_that_record_have_the_code(void **state) {
  cli_fixture_t *f = *state;
  write_input(f);
  for (unsigned i = 0; i < 2; i++) {
    const char *out = in_folder(f, i == 0 ? "plain.so" : "traced.so");
    if (i == 0)
      assert_exit(f, 0, in_folder(f, "graph.moeir"), "-o", out);
    else
      assert_exit(f, 0, in_folder(f, "graph.moeir"), "-o", out, "--instrument");
    enum { MOST = 1 << 20 };
    char *bytes = calloc(1, MOST + 1);
    FILE *file = fopen(out, "rb");
    assert_true(bytes != NULL && file != NULL);
    const size_t n = fread(bytes, 1, MOST, file);
    fclose(file);
    assert_in_range(n, 1, MOST - 1);
    assert_int_equal(memmem(bytes, n, "moert_trace_start", 17) != NULL, i == 1);
    free(bytes);
  }
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, cli_setup, cli_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(run_writes_what_each_node_did),
      TEST(bench_records_ten_runs),
      TEST(models_that_cannot_record_are_refused),
      TEST(only_models_that_record_have_the_code),
  };
  return cmocka_run_group_tests_name("tools/trace", tests, NULL, NULL);
}
