/* Random graphs give the same results at -O0 and -O2 on every instruction set
 * that the host runs.
 *
 * Results to which only single operations and exact sums of whole numbers lead
 * are compared bit by bit; of zeros the sign is ignored, of NaN everything, as
 * a sum over one element may or may not start from 0. Others may be off by
 * twice the error that the generator derives from the operations before them
 * (random_graph.c: 2^-21 of the largest element for an f32 operation).
 *
 * MOEC_TEST_SEED=n starts with case n, MOEC_TEST_COUNT=n runs n cases. Case n
 * is the same whatever comes before it. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "backend/cpu.h"
#include "ir/element.h"
#include "moec/model.h"
#include "tests/e2e/random_graph.h"
#include "tools/compile.h"

enum { MAX_ISAS = 16, MAX_CONFIGS = 2 * MAX_ISAS, N_LEVELS = 2, COUNT = 300 };

static const int levels[N_LEVELS] = {0, 2};

typedef struct isas {
  unsigned n;
  const char *name[MAX_ISAS];
  char list[256];
} isas_t;

typedef struct config { /* one compilation on one instruction set */
  int level;
  const char *isa;
  const moec_model_t *model;
  moec_instance_t *instance;
} config_t;

typedef struct trial {
  uint64_t seed;
  arena_t *arena;
  diag_sink_t diag;
  text_t text;
  graph_t graph;
  char dir[32];
  void *library[N_LEVELS];
  config_t config[MAX_CONFIGS];
  unsigned n_configs;
  unsigned n_compared; /* elements */
} trial_t;

static void find_isas(isas_t *out) {
  *out = (isas_t){0};
  for (unsigned i = 0; i < isa_count() && out->n < MAX_ISAS; i++) {
    const isa_t *isa = isa_at(i);
    if (!cpu_runs(isa)) continue;
    size_t used = strlen(out->list);
    snprintf(out->list + used, sizeof out->list - used, "%s%s",
             used > 0 ? "," : "", isa->name);
    out->name[out->n++] = isa->name;
  }
}

static void fail_trial(trial_t *t, const char *what) {
  diag_print(&t->diag, stderr);
  fail_msg("%s\nreproduce: MOEC_TEST_SEED=%llu MOEC_TEST_COUNT=1\n%s", what,
           (unsigned long long)t->seed, t->text.data);
}

/* ---- Compiling ----------------------------------------------------------- */

static void write_text(trial_t *t, const char *path) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(t->text.data, 1, t->text.length, file),
                   t->text.length);
  assert_int_equal(fclose(file), 0);
}

static void open_configs(trial_t *t, unsigned level, const isas_t *isas) {
  union {
    void *symbol;
    moec_model_fn get_model;
  } entry = {dlsym(t->library[level], "moec_model")};
  assert_non_null(entry.symbol);
  for (unsigned i = 0; i < isas->n; i++) {
    config_t *c = &t->config[t->n_configs++];
    *c = (config_t){levels[level], isas->name[i], entry.get_model(), NULL};
    moec_options_t options = {.struct_size = sizeof options,
                              .n_threads = 1,
                              .variant = isas->name[i]};
    if (c->model->create(&options, &c->instance) != MOEC_OK)
      fail_trial(t, "no instance");
  }
}

static void compile_level(trial_t *t, unsigned level, const isas_t *isas) {
  char source[64], library[64];
  snprintf(source, sizeof source, "%s/graph.moeir", t->dir);
  snprintf(library, sizeof library, "%s/graph%u.so", t->dir, level);
  write_text(t, source);
  compile_options_t options;
  compile_options_init(&options);
  options.model = source;
  options.output = library;
  options.isas = isas->list;
  options.passes.level = levels[level];
  options.passes.verify_each = true;
  moec_status_t status = compile_model(&options, &t->diag);
  unlink(source);
  if (status != MOEC_OK) fail_trial(t, "compilation fails");
  t->library[level] = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  unlink(library);
  if (t->library[level] == NULL) fail_trial(t, dlerror());
  open_configs(t, level, isas);
}

/* ---- Running ------------------------------------------------------------- */

static uint64_t count_of(const int64_t *dims, unsigned rank) {
  uint64_t count = 1;
  for (unsigned d = 0; d < rank; d++) count *= (uint64_t)dims[d];
  return count;
}

static void make_inputs(trial_t *t, random_t *r, const int64_t *sizes,
                        moec_value_t *inputs) {
  for (unsigned i = 0; i < t->graph.n_inputs; i++) {
    const ir_type_t *type = &t->graph.input[i];
    int64_t *dims = ARENA_ARRAY(t->arena, int64_t, type->rank + 1);
    for (unsigned d = 0; d < type->rank; d++)
      if (!expr_evaluate(type->dim[d], sizes, &dims[d])) abort();
    uint64_t count = count_of(dims, type->rank);
    /* On the heap, so that tools notice accesses beyond the end. */
    void *data = malloc(dtype_bytes(type->dtype, count) + 1);
    if (data == NULL) abort();
    graph_fill_input(r, &t->graph, i, data, count);
    inputs[i] = (moec_value_t){.struct_size = sizeof inputs[i],
                               .dtype = (int32_t)type->dtype,
                               .rank = (int32_t)type->rank,
                               .data = data,
                               .dims = dims};
  }
}

static void fail_element(trial_t *t, const config_t *c, unsigned output,
                         uint64_t index, double expected, double actual) {
  const config_t *first = &t->config[0];
  const char *what = arena_printf(
      t->arena,
      "output %u, element %llu: %.9g at -O%d on %s, %.9g at -O%d on %s; "
      "allowed difference %g",
      output, (unsigned long long)index, expected, first->level, first->isa,
      actual, c->level, c->isa, 2 * t->graph.output[output].error);
  fail_trial(t, what);
}

static void compare_element(trial_t *t, const config_t *c, unsigned output,
                            const void *a, const void *b, uint64_t i) {
  dtype_t dtype = t->graph.output[output].dtype;
  if (!dtype_is_float(dtype)) {
    int64_t x = ir_element_int(dtype, a, i), y = ir_element_int(dtype, b, i);
    if (x != y) fail_element(t, c, output, i, (double)x, (double)y);
    return;
  }
  double x = ir_element_float(dtype, a, i), y = ir_element_float(dtype, b, i);
  if ((isnan(x) && isnan(y)) || x == y) return;
  if (!(fabs(x - y) <= 2 * t->graph.output[output].error))
    fail_element(t, c, output, i, x, y);
}

static void compare_outputs(trial_t *t, const config_t *c,
                            const moec_value_t *expected,
                            const moec_value_t *actual) {
  for (unsigned i = 0; i < t->graph.n_outputs; i++) {
    const moec_value_t *a = &expected[i], *b = &actual[i];
    if (a->rank != b->rank ||
        (a->rank > 0 &&
         memcmp(a->dims, b->dims, sizeof *a->dims * (size_t)a->rank) != 0))
      fail_trial(t, "outputs have different shapes");
    uint64_t count = count_of(a->dims, (unsigned)a->rank);
    for (uint64_t k = 0; k < count; k++)
      compare_element(t, c, i, a->data, b->data, k);
    t->n_compared += (unsigned)count;
  }
}

/* Runs every configuration with these sizes; the first one is the measure. */
static void run_with_sizes(trial_t *t, random_t *r, const int64_t *sizes) {
  moec_value_t inputs[GRAPH_MAX_INPUTS] = {0};
  moec_value_t outputs[MAX_CONFIGS][GRAPH_MAX_OUTPUTS] = {0};
  moec_status_t first = MOEC_OK;
  make_inputs(t, r, sizes, inputs);
  for (unsigned k = 0; k < t->n_configs; k++) {
    const config_t *c = &t->config[k];
    for (unsigned i = 0; i < t->graph.n_outputs; i++)
      outputs[k][i].struct_size = sizeof outputs[k][i];
    moec_status_t status = c->model->run(c->instance, inputs, t->graph.n_inputs,
                                         outputs[k], t->graph.n_outputs);
    if (k == 0) first = status;
    if (status != first)
      fail_trial(
          t, arena_printf(t->arena,
                          "B = %d, S = %d: status %d, not %d: "
                          "-O%d on %s: %s",
                          (int)sizes[0], (int)sizes[1], status, first, c->level,
                          c->isa, c->model->message(c->instance)));
    /* An index into an axis that is empty is the one failure possible. */
    if (status != MOEC_OK && status != MOEC_E_INDEX)
      fail_trial(t, c->model->message(c->instance));
    if (status == MOEC_OK) compare_outputs(t, c, outputs[0], outputs[k]);
  }
  for (unsigned i = 0; i < t->graph.n_inputs; i++) free(inputs[i].data);
}

static unsigned run_trial(uint64_t seed, const isas_t *isas) {
  static const int64_t some[] = {0, 1, 1, 2, 3, 7, 17, GRAPH_MAX_SYMBOL};
  enum { N_RUNS = 3 };
  random_t r = {seed};
  trial_t t = {.seed = seed, .arena = arena_create(0)};
  assert_non_null(t.arena);
  diag_init(&t.diag, t.arena, "graph");
  snprintf(t.dir, sizeof t.dir, "/tmp/moec-random-XXXXXX");
  assert_non_null(mkdtemp(t.dir));
  text_init(&t.text, t.arena);
  graph_build(&r, t.arena, &t.diag, &t.graph);
  ir_print(t.graph.module, &(ir_print_options_t){0}, &t.text);
  for (unsigned i = 0; i < N_LEVELS; i++) compile_level(&t, i, isas);
  for (unsigned i = 0; i < N_RUNS; i++) {
    const int64_t sizes[] = {some[random_below(&r, 8)],
                             some[random_below(&r, 8)]};
    run_with_sizes(&t, &r, sizes);
  }
  for (unsigned i = 0; i < t.n_configs; i++)
    t.config[i].model->destroy(t.config[i].instance);
  for (unsigned i = 0; i < N_LEVELS; i++) dlclose(t.library[i]);
  rmdir(t.dir);
  unsigned n_compared = t.n_compared;
  arena_destroy(t.arena);
  return n_compared;
}

static unsigned long long number_of(const char *name,
                                    unsigned long long other) {
  const char *text = getenv(name);
  return text == NULL || *text == '\0' ? other : strtoull(text, NULL, 0);
}

static void random_graphs_give_the_same_at_every_level(void **state) {
  (void)state;
  isas_t isas;
  find_isas(&isas);
  assert_true(isas.n > 0);
  unsigned long long seed = number_of("MOEC_TEST_SEED", 1);
  unsigned long long count = number_of("MOEC_TEST_COUNT", COUNT);
  print_message("MOEC_TEST_SEED=%llu MOEC_TEST_COUNT=%llu on %s\n", seed, count,
                isas.list);
  unsigned long long n_compared = 0;
  for (unsigned long long i = 0; i < count; i++)
    n_compared += run_trial(seed + i, &isas);
  print_message("%llu elements compared\n", n_compared);
  if (count >= COUNT) assert_true(n_compared > 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_graphs_give_the_same_at_every_level),
  };
  return cmocka_run_group_tests_name("e2e/differential", tests, NULL, NULL);
}
