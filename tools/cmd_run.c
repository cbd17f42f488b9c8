/* moec run MODEL: one run on given inputs. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/trace.h"
#include "tools/values.h"

static moec_status_t make_directory(cli_t *cli, const char *path) {
  if (mkdir(path, 0777) == 0 || (errno == EEXIST && path_is_directory(path)))
    return MOEC_OK;
  return CLI_FAIL(cli, MOEC_E_IO, "cannot make the directory '%s': %s", path,
                  strerror(errno));
}

static moec_status_t save_outputs(cli_t *cli, const moec_model_t *model,
                                  const moec_value_t *outputs) {
  const options_t *o = &cli->options;
  const char *suffix = o->output_format == FORMAT_NPY ? "npy" : "pb";
  for (uint32_t i = 0; i < model->n_outputs; i++) {
    const char *name = arena_printf(cli->arena, "output_%u.%s", i, suffix);
    const onnx_value_t *value =
        value_from_run(cli->arena, &outputs[i], model->outputs[i].name);
    MOEC_TRY(
        value_save(cli, path_join(cli->arena, o->output_dir, name), value));
  }
  return MOEC_OK;
}

static void print_outputs(cli_t *cli, const moec_model_t *model,
                          const moec_value_t *outputs) {
  enum { SHORT = 8, LONG = 64 };
  for (uint32_t i = 0; i < model->n_outputs; i++) {
    const char *name = model->outputs[i].name;
    value_print_summary(cli->out, cli->arena, name,
                        value_from_run(cli->arena, &outputs[i], name),
                        cli->options.verbose ? LONG : SHORT);
  }
}

moec_status_t cmd_run(cli_t *cli) {
  const options_t *o = &cli->options;
  loaded_t *loaded;
  moec_value_t *inputs;
  MOEC_TRY(loaded_open(cli, o->operands[0], &loaded));
  const moec_model_t *model = loaded->model;
  MOEC_TRY(values_load_inputs(cli, model, o->data, &o->input, &inputs));
  if (o->output_dir != NULL) MOEC_TRY(make_directory(cli, o->output_dir));
  moec_value_t *outputs = values_make_outputs(cli->arena, model);
  if (o->trace != NULL) MOEC_TRY(trace_begin(cli, loaded, 1));
  const double start = now_seconds();
  moec_status_t status = model->run(loaded->instance, inputs, model->n_inputs,
                                    outputs, model->n_outputs);
  const double seconds = now_seconds() - start;
  if (status != MOEC_OK) return loaded_fail(cli, loaded, "run", status);
  if (o->trace != NULL) MOEC_TRY(trace_write(cli, loaded, o->trace));
  if (o->verbose)
    fprintf(cli->err, "variant %s, run %.3f ms\n",
            model->variant(loaded->instance), seconds * 1e3);
  if (o->output_dir != NULL) return save_outputs(cli, model, outputs);
  print_outputs(cli, model, outputs);
  return MOEC_OK;
}
