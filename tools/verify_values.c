/* Every value of a model against a build without optimisation. */
#include "tools/verify_values.h"

#include <math.h>
#include <string.h>

#include "backend/emit.h"
#include "backend/jit.h"
#include "ir/element.h"
#include "tools/case.h"
#include "tools/expose.h"
#include "tools/json.h"
#include "tools/loaded.h"
#include "tools/values.h"

enum { BATCH = 256, PLAIN = 0, OPTIMISED = 1 };

/* The first value that differs; texts, as its memory is gone by then. */
typedef struct difference {
  bool found;
  bool alone;     /* not seen while other values were visible */
  unsigned value; /* index; that of no value for an output */
  const char *set, *name, *type;
  ir_loc_t loc;
  const char *problem; /* of type or dimensions; else NULL, and: */
  uint64_t count, n_bad;
  const char *index, *got, *want;
  double absolute, relative;
} difference_t;

typedef struct checker {
  cli_t *cli;
  test_case_t test;
  compile_options_t options[2];
  moec_value_t **inputs; /* by data set, once they are read */
  unsigned n_values;     /* of the model */
  const char *variant;
  difference_t first;
} checker_t;

/* ---- The two builds ------------------------------------------------------ */

static moec_status_t choose_options(checker_t *c, const char *model) {
  compile_options_t *optimised = &c->options[OPTIMISED];
  MOEC_TRY(cli_compile_options(c->cli, model, NULL, optimised));
  cli_only_variant(c->cli, optimised);
  optimised->report = NULL;
  optimised->explain_moe = NULL;
  c->options[PLAIN] = *optimised;
  c->options[PLAIN].passes = (pass_options_t){
      .rewrite_limit = -1, .verify_each = optimised->passes.verify_each};
  return MOEC_OK;
}

typedef struct build {
  expose_t expose;
  loaded_t *loaded;
  moec_value_t *outputs;
} build_t;

static moec_status_t make_build(checker_t *c, unsigned kind, unsigned begin,
                                unsigned end, build_t *out) {
  compile_options_t options = c->options[kind];
  out->expose = (expose_t){.begin = begin, .end = end, .arena = c->cli->arena};
  options.expose = &out->expose;
  MOEC_TRY(loaded_compile(c->cli, &options, &out->loaded));
  c->n_values = out->expose.n_values;
  c->variant = arena_strdup(c->cli->arena,
                            out->loaded->model->variant(out->loaded->instance));
  return MOEC_OK;
}

/* The outputs belong to the instance until its next run. */
static moec_status_t run_build(checker_t *c, build_t *b, unsigned kind,
                               size_t set) {
  static const char *const names[] = {"run of the build with -O0",
                                      "run of the optimised build"};
  const moec_model_t *model = b->loaded->model;
  if (c->inputs[set] == NULL) {
    const option_list_t none = {0};
    MOEC_TRY(values_load_inputs(c->cli, model, c->test.sets[set].path, &none,
                                &c->inputs[set]));
  }
  b->outputs = values_make_outputs(c->cli->arena, model);
  moec_status_t status =
      model->run(b->loaded->instance, c->inputs[set], model->n_inputs,
                 b->outputs, model->n_outputs);
  if (status == MOEC_OK) return MOEC_OK;
  return loaded_fail(c->cli, b->loaded,
                     arena_printf(c->cli->arena, "%s, %s",
                                  c->test.sets[set].name, names[kind]),
                     status);
}

/* ---- Comparing ----------------------------------------------------------- */

static const char *element_text(arena_t *arena, const onnx_value_t *value,
                                uint64_t index) {
  text_t text;
  text_init(&text, arena);
  value_append_element(&text, value, index);
  return text.data;
}

/* The root of the mean square of the finite elements; 0 for other types. */
static double magnitude(const onnx_value_t *value) {
  double sum = 0;
  uint64_t n = 0;
  if (value->kind != IR_TENSOR || !dtype_is_float(value->dtype)) return 0;
  for (uint64_t i = 0; i < value_count(value); i++) {
    const double x = ir_element_float(value->dtype, value->data->bytes, i);
    if (!isfinite(x)) continue;
    sum += x * x;
    n++;
  }
  return n > 0 ? sqrt(sum / (double)n) : 0;
}

/* Where terms of a sum cancel, its error is as large as theirs: elements are
 * measured by the size of the whole tensor where that exceeds their own. */
static tolerance_t tolerance_for(const checker_t *c, const onnx_value_t *want) {
  tolerance_t t = c->test.tolerance;
  if (t.rtol > 0) t.atol += t.rtol * magnitude(want);
  return t;
}

/* Compares output `output` of both builds; keeps what differs in c->first. */
static void compare_output(checker_t *c, build_t builds[2], size_t set,
                           unsigned output, const exposed_t *exposed,
                           unsigned value) {
  arena_t *arena = c->cli->arena;
  const char *name = builds[PLAIN].loaded->model->outputs[output].name;
  const onnx_value_t *want =
      value_from_run(arena, &builds[PLAIN].outputs[output], name);
  const onnx_value_t *got =
      value_from_run(arena, &builds[OPTIMISED].outputs[output], name);
  const comparison_t cmp =
      compare_values(arena, got, want, tolerance_for(c, want));
  if (comparison_agrees(&cmp)) return;
  difference_t *d = &c->first;
  *d = (difference_t){.found = true,
                      .value = value,
                      .set = c->test.sets[set].name,
                      .name = arena_strdup(arena, name),
                      .type = value_type_text(arena, want),
                      .problem = cmp.difference,
                      .count = cmp.count,
                      .n_bad = cmp.n_bad,
                      .absolute = cmp.absolute.value,
                      .relative = cmp.relative.value};
  if (exposed != NULL) {
    d->name = exposed->name;
    d->loc = exposed->loc;
  }
  if (cmp.difference != NULL) return;
  d->index = value_index_text(arena, cmp.want, cmp.first_bad);
  d->got = element_text(arena, cmp.got, cmp.first_bad);
  d->want = element_text(arena, cmp.want, cmp.first_bad);
}

/* Values before the one that is known to differ, or all outputs of the model
 * where no value was asked for. */
static void compare_set(checker_t *c, build_t builds[2], size_t set) {
  const expose_t *e = &builds[PLAIN].expose;
  const unsigned end = e->end < e->n_values ? e->end : e->n_values;
  for (unsigned i = e->begin; i < end; i++) {
    const exposed_t *exposed = &e->values[i - e->begin];
    if (c->first.found && i >= c->first.value) return;
    compare_output(c, builds, set, exposed->output, exposed, i);
  }
  if (e->begin < end) return;
  for (unsigned i = 0;
       i < builds[PLAIN].loaded->model->n_outputs && !c->first.found; i++)
    compare_output(c, builds, set, i, NULL, UINT32_MAX);
}

/* Compares values [begin, end), or with none the outputs. */
static moec_status_t check_values(checker_t *c, unsigned begin, unsigned end) {
  build_t builds[2];
  c->first.found = false;
  MOEC_TRY(make_build(c, PLAIN, begin, end, &builds[PLAIN]));
  MOEC_TRY(make_build(c, OPTIMISED, begin, end, &builds[OPTIMISED]));
  for (size_t set = 0; set < c->test.n_sets; set++) {
    if (c->test.sets[set].invalid) continue;
    MOEC_TRY(run_build(c, &builds[PLAIN], PLAIN, set));
    MOEC_TRY(run_build(c, &builds[OPTIMISED], OPTIMISED, set));
    compare_set(c, builds, set);
  }
  loaded_close(c->cli, builds[OPTIMISED].loaded);
  loaded_close(c->cli, builds[PLAIN].loaded);
  return MOEC_OK;
}

/* The outputs differ: the first value that does when it alone is visible, by
 * bisection; the outputs if there is none. */
static moec_status_t find_alone(checker_t *c) {
  difference_t known = c->first;
  unsigned low = 0, high = c->n_values;
  while (low < high) {
    const unsigned middle = low + (high - low) / 2;
    MOEC_TRY(check_values(c, middle, middle + 1));
    if (c->first.found) {
      known = c->first;
      known.alone = true;
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  c->first = known;
  return MOEC_OK;
}

static moec_status_t check_all(checker_t *c) {
  for (unsigned begin = 0; begin == 0 || begin < c->n_values; begin += BATCH) {
    MOEC_TRY(check_values(c, begin, begin + BATCH));
    if (c->first.found) return MOEC_OK;
  }
  MOEC_TRY(check_values(c, 0, 0));
  return c->first.found ? find_alone(c) : MOEC_OK;
}

/* ---- Telling ------------------------------------------------------------- */

static void print_text(const checker_t *c) {
  FILE *out = c->cli->out;
  const difference_t *d = &c->first;
  const tolerance_t t = c->test.tolerance;
  text_t line;
  text_init(&line, c->cli->arena);
  if (!d->found) {
    if (!c->cli->options.quiet)
      fprintf(out,
              "%u values and the outputs agree with -O0 (rtol %g, atol %g, "
              "variant %s)\n",
              c->n_values, t.rtol, t.atol, c->variant);
    return;
  }
  text_printf(&line, "%s: ", d->set);
  diag_append_place(&line, &d->loc);
  text_printf(&line, "%s \"", d->value == UINT32_MAX ? "output" : "value");
  diag_escape(&line, d->name, strlen(d->name));
  text_printf(&line, "\" %s is the first that differs from -O0\n", d->type);
  if (d->problem != NULL)
    text_printf(&line, "  %s\n", d->problem);
  else
    text_printf(&line,
                "  %llu of %llu elements; first at %s: got %s, -O0 gives %s; "
                "worst abs %.3g, rel %.3g\n",
                (unsigned long long)d->n_bad, (unsigned long long)d->count,
                d->index, d->got, d->want, d->absolute, d->relative);
  if (d->alone)
    text_printf(
        &line,
        "  only when no other value inside the model is an output: what "
        "computes it\n  was joined with its neighbours\n");
  fprintf(out, "%s(rtol %g, atol %g, variant %s)\n", line.data, t.rtol, t.atol,
          c->variant);
}

static void json_member(text_t *json, const char *name, const char *value) {
  text_printf(json, ",\"%s\":", name);
  if (value == NULL)
    text_printf(json, "null");
  else
    json_write_string(value, json);
}

static void print_json(const checker_t *c) {
  const difference_t *d = &c->first;
  text_t json;
  text_init(&json, c->cli->arena);
  text_printf(&json, "{\"agrees\":%s,\"values\":%u,\"rtol\":%.9g,\"atol\":%.9g",
              d->found ? "false" : "true", c->n_values, c->test.tolerance.rtol,
              c->test.tolerance.atol);
  json_member(&json, "variant", c->variant);
  if (d->found) {
    text_printf(&json, ",\"first\":{\"node_index\":%d", d->loc.index - 1);
    json_member(&json, "node", d->loc.node);
    json_member(&json, "operator", d->loc.type);
    json_member(&json, "name", d->name);
    json_member(&json, "type", d->type);
    json_member(&json, "set", d->set);
    json_member(&json, "difference", d->problem);
    json_member(&json, "index", d->index);
    json_member(&json, "got", d->got);
    json_member(&json, "want", d->want);
    text_printf(&json, ",\"elements\":%llu,\"differ\":%llu,\"alone\":%s}",
                (unsigned long long)d->count, (unsigned long long)d->n_bad,
                d->alone ? "true" : "false");
  }
  fprintf(c->cli->out, "%s}\n", json.data);
}

moec_status_t verify_every_value(cli_t *cli, const char *model,
                                 const char *directory) {
  checker_t *c = ARENA_NEW(cli->arena, checker_t);
  c->cli = cli;
  if (!path_has_suffix(model, ".onnx") && !path_has_suffix(model, ".moeir"))
    return CLI_FAIL(cli, MOEC_E_USAGE,
                    "--check-every-value needs a model to compile, .onnx or "
                    ".moeir; found '%s'",
                    model);
  MOEC_TRY(case_read_tolerance(cli, directory, &c->test));
  MOEC_TRY(case_find_sets(cli, directory, &c->test));
  MOEC_TRY(choose_options(c, model));
  c->inputs = ARENA_ARRAY(cli->arena, moec_value_t *, c->test.n_sets);
  MOEC_TRY(check_all(c));
  if (cli->options.json)
    print_json(c);
  else
    print_text(c);
  return c->first.found ? MOEC_E_MISMATCH : MOEC_OK;
}
