/* moec MODEL.onnx -o FILE */
#include "tools/cli.h"

/* Without -o only what looks at the compilation makes sense. */
static bool only_looks(const options_t *o) {
  return o->given[OPTION_report] || o->given[OPTION_dump_ir] ||
         o->given[OPTION_print_ir_after] || o->explain_moe;
}

moec_status_t cmd_compile(cli_t *cli) {
  const options_t *o = &cli->options;
  const char *model = o->operands[0];
  if (!o->given[OPTION_output] && !only_looks(o))
    return CLI_FAIL(cli, MOEC_E_USAGE,
                    "no output is asked for: add -o FILE, whose suffix chooses "
                    "the product");
  compile_options_t options;
  MOEC_TRY(cli_compile_options(cli, model, o->output, &options));
  return cli_compile(cli, &options);
}
