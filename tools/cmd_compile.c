/* moec MODEL.onnx -o FILE */
#include "tools/cli.h"

/* Without -o only what looks at the compilation makes sense. */
static bool only_looks(const options_t *o) {
  return o->given[OPTION_report] || o->given[OPTION_dump_ir] ||
         o->given[OPTION_print_ir_after];
}

moec_status_t cmd_compile(cli_t *cli) {
  const options_t *o = &cli->options;
  const char *model = o->operands[0];
  if (!o->given[OPTION_output] && !only_looks(o))
    return CLI_FAIL(cli, MOEC_E_USAGE,
                    "no output is asked for: add -o FILE, whose suffix chooses "
                    "the product");
  compile_options_t options;
  progress_t *progress = ARENA_NEW(cli->arena, progress_t);
  cli_compile_options(cli, model, o->output, &options);
  progress_begin(progress, cli);
  cli->progress = progress;
  options.progress = progress_stage;
  options.progress_user = progress;
  cli->diag.file = model;
  moec_status_t status = compile_model(&options, &cli->diag);
  progress_end(progress);
  cli->progress = NULL;
  return status;
}
