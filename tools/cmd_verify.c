/* moec verify MODEL DIR: results against reference data. */
#include <string.h>

#include "tools/case.h"
#include "tools/json.h"
#include "tools/loaded.h"
#include "tools/values.h"
#include "tools/verify_values.h"

typedef struct verify {
  cli_t *cli;
  const moec_model_t *model;
  moec_instance_t *instance;
  test_case_t test;          /* what must be met */
  unsigned n_outputs, n_bad; /* compared; of them not in agreement */
  text_t json;
} verify_t;

/* ---- Telling ------------------------------------------------------------- */

static void append_worst(text_t *line, const comparison_t *c, const char *name,
                         const compare_worst_t *worst) {
  text_printf(line, "  %s %.3g", name, worst->value);
  if (worst->value > 0)
    text_printf(line, " at %s",
                value_index_text(line->arena, c->want, worst->index));
}

static void append_errors(text_t *line, const comparison_t *c) {
  append_worst(line, c, "abs", &c->absolute);
  append_worst(line, c, "rel", &c->relative);
  if (dtype_is_float(c->want->dtype) ||
      dtype_class(c->want->dtype) == DT_CLASS_COMPLEX)
    append_worst(line, c, "ulp", &c->ulp);
  if (c->n_bad == 0) return;
  text_printf(line,
              "\n        %llu of %llu elements differ; first at %s%s: got ",
              (unsigned long long)c->n_bad, (unsigned long long)c->count,
              c->path, value_index_text(line->arena, c->want, c->first_bad));
  value_append_element(line, c->got, c->first_bad);
  text_printf(line, ", want ");
  value_append_element(line, c->want, c->first_bad);
}

static void tell(verify_t *v, const char *name, const onnx_value_t *want,
                 const comparison_t *c) {
  cli_t *cli = v->cli;
  const bool agrees = comparison_agrees(c);
  text_t line;
  if (cli->options.json || (agrees && cli->options.quiet)) return;
  text_init(&line, cli->arena);
  text_printf(&line, "  %s  ", agrees ? "ok  " : "FAIL");
  diag_escape(&line, name, strlen(name));
  text_printf(&line, "  %s", value_type_text(cli->arena, want));
  if (c->difference != NULL)
    text_printf(&line, "  %s", c->difference);
  else if (c->want->kind == IR_TENSOR)
    append_errors(&line, c);
  fprintf(cli->out, "%s\n", line.data);
}

static void json_worst(text_t *json, const char *name,
                       const compare_worst_t *worst) {
  text_printf(json, ",\"%s\":", name);
  json_write_number(worst->value, json);
  text_printf(json, ",\"%s_index\":%llu", name,
              (unsigned long long)worst->index);
}

static void tell_json(verify_t *v, const char *name, const onnx_value_t *want,
                      const comparison_t *c) {
  text_t *json = &v->json;
  text_printf(json,
              "%s{\"name\":", json->data[json->length - 1] == '[' ? "" : ",");
  json_write_string(name, json);
  text_printf(json, ",\"type\":");
  json_write_string(value_type_text(v->cli->arena, want), json);
  text_printf(json, ",\"agrees\":%s", comparison_agrees(c) ? "true" : "false");
  if (c->difference != NULL) {
    text_printf(json, ",\"difference\":");
    json_write_string(c->difference, json);
  } else {
    text_printf(json, ",\"elements\":%llu,\"differ\":%llu",
                (unsigned long long)c->count, (unsigned long long)c->n_bad);
    json_worst(json, "absolute", &c->absolute);
    json_worst(json, "relative", &c->relative);
    json_worst(json, "ulp", &c->ulp);
  }
  text_printf(json, "}");
}

/* ---- Running ------------------------------------------------------------- */

static void count_result(verify_t *v, const char *name,
                         const onnx_value_t *want, const comparison_t *c) {
  v->n_outputs++;
  v->n_bad += !comparison_agrees(c);
  tell(v, name, want, c);
  tell_json(v, name, want, c);
}

static moec_status_t compare_outputs(verify_t *v, const data_set_t *set,
                                     const moec_value_t *outputs) {
  cli_t *cli = v->cli;
  const moec_model_t *model = v->model;
  for (uint32_t i = 0;; i++) {
    const char *path = value_find_file(cli->arena, set->path, "output", i);
    if (path == NULL && i >= model->n_outputs) return MOEC_OK;
    if (path == NULL)
      return CLI_FAIL(cli, MOEC_E_IO,
                      "'%s' has no output_%u.pb for output '%s'", set->path, i,
                      model->outputs[i].name);
    if (i >= model->n_outputs)
      return CLI_FAIL(cli, MOEC_E_MISMATCH,
                      "'%s' exists, but the model has %u outputs", path,
                      model->n_outputs);
    onnx_value_t *want;
    MOEC_TRY(value_load(cli, path, &model->outputs[i], &want));
    const char *name = model->outputs[i].name;
    const onnx_value_t *got = value_from_run(cli->arena, &outputs[i], name);
    comparison_t c = compare_values(cli->arena, got, want, v->test.tolerance);
    count_result(v, name, want, &c);
  }
}

/* Whether the run of an invalid data set failed, as it must. */
static moec_status_t expect_failure(verify_t *v, const data_set_t *set,
                                    moec_status_t status) {
  cli_t *cli = v->cli;
  v->n_outputs++;
  if (status == MOEC_OK) {
    v->n_bad++;
    fprintf(cli->options.json ? cli->err : cli->out,
            "  FAIL  %s: the run succeeded but its inputs are invalid\n",
            set->name);
  } else if (!cli->options.json && !cli->options.quiet) {
    fprintf(cli->out, "  ok    refused with %s: %s\n", status_name(status),
            v->model->message(v->instance));
  }
  text_printf(&v->json, "{\"refused\":%s,\"agrees\":%s}",
              status != MOEC_OK ? "true" : "false",
              status != MOEC_OK ? "true" : "false");
  return MOEC_OK;
}

static moec_status_t run_set(verify_t *v, const data_set_t *set) {
  cli_t *cli = v->cli;
  const moec_model_t *model = v->model;
  const option_list_t none = {0};
  moec_value_t *inputs;
  MOEC_TRY(values_load_inputs(cli, model, set->path, &none, &inputs));
  moec_value_t *outputs = values_make_outputs(cli->arena, model);
  moec_status_t status = model->run(v->instance, inputs, model->n_inputs,
                                    outputs, model->n_outputs);
  if (set->invalid) return expect_failure(v, set, status);
  if (status != MOEC_OK)
    return loaded_fail(cli, cli->loaded, set->name, status);
  return compare_outputs(v, set, outputs);
}

/* All of them, also when one fails. */
static moec_status_t run_sets(verify_t *v) {
  moec_status_t status = MOEC_OK;
  for (size_t i = 0; i < v->test.n_sets; i++) {
    const data_set_t *set = &v->test.sets[i];
    if (!v->cli->options.json && !v->cli->options.quiet)
      fprintf(v->cli->out, "%s\n", set->name);
    text_printf(&v->json, "%s{\"name\":", i > 0 ? "," : "");
    json_write_string(set->name, &v->json);
    text_printf(&v->json, ",\"outputs\":[");
    moec_status_t one = run_set(v, set);
    text_printf(&v->json, "],\"status\":\"%s\"}", status_name(one));
    if (one != MOEC_OK && status == MOEC_OK) status = one;
  }
  return status;
}

static void print_end(verify_t *v, moec_status_t status) {
  cli_t *cli = v->cli;
  const tolerance_t t = v->test.tolerance;
  const bool agrees = status == MOEC_OK && v->n_bad == 0;
  if (cli->options.json) {
    fprintf(cli->out, "{\"agrees\":%s,\"rtol\":%.9g,\"atol\":%.9g,\"variant\":",
            agrees ? "true" : "false", t.rtol, t.atol);
    text_t variant;
    text_init(&variant, cli->arena);
    json_write_string(v->model->variant(v->instance), &variant);
    fprintf(cli->out, "%s,\"sets\":[%s]}\n", variant.data, v->json.data);
  } else if (!agrees || !cli->options.quiet) {
    fprintf(cli->out, "%u of %u results agree (rtol %g, atol %g, variant %s)\n",
            v->n_outputs - v->n_bad, v->n_outputs, t.rtol, t.atol,
            v->model->variant(v->instance));
  }
}

/* The model and the folder that the operands name. */
static moec_status_t take_operands(cli_t *cli, const char **out_model,
                                   const char **out_directory) {
  const options_t *o = &cli->options;
  *out_model = o->operands[0];
  *out_directory = o->operands[o->n_operands - 1];
  if (o->n_operands == 2 && !path_is_directory(*out_directory))
    return CLI_FAIL(cli, MOEC_E_IO, "'%s' is not a directory", *out_directory);
  if (o->n_operands == 2) return MOEC_OK;
  if (!path_is_directory(*out_directory))
    return CLI_FAIL(
        cli, MOEC_E_USAGE,
        "'moec verify' needs a model and a directory, or a directory "
        "with model.onnx");
  *out_model = path_join(cli->arena, *out_directory, "model.onnx");
  return MOEC_OK;
}

moec_status_t cmd_verify(cli_t *cli) {
  verify_t *v = ARENA_NEW(cli->arena, verify_t);
  const char *path, *directory;
  loaded_t *loaded;
  v->cli = cli;
  text_init(&v->json, cli->arena);
  MOEC_TRY(take_operands(cli, &path, &directory));
  if (cli->options.check_every_value)
    return verify_every_value(cli, path, directory);
  MOEC_TRY(case_read_tolerance(cli, directory, &v->test));
  MOEC_TRY(
      loaded_open(cli, path, &loaded)); /* first: it may be what is wrong */
  MOEC_TRY(case_find_sets(cli, directory, &v->test));
  v->model = loaded->model;
  v->instance = loaded->instance;
  moec_status_t status = run_sets(v);
  print_end(v, status);
  if (status != MOEC_OK) return status;
  return v->n_bad > 0 ? MOEC_E_MISMATCH : MOEC_OK;
}
