/* From arguments to a command and from its status to an exit code. */
#include "tools/cli.h"

#include <llvm-c/Core.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/emit.h"
#include "frontend/load.h"
#include "tools/loaded.h"
#include "tools/targets.h"

int status_exit_code(moec_status_t status) {
  switch (status) {
#define STATUS(id, value, exit_code, text) \
  case MOEC_##id:                          \
    return exit_code;
#include "moec/status.def"
  }
  return 1;
}

const char *status_text(moec_status_t status) {
  switch (status) {
#define STATUS(id, value, exit_code, text) \
  case MOEC_##id:                          \
    return text;
#include "moec/status.def"
  }
  return "unknown status";
}

const char *status_name(moec_status_t status) {
  switch (status) {
#define STATUS(id, value, exit_code, text) \
  case MOEC_##id:                          \
    return #id;
#include "moec/status.def"
  }
  return "unknown";
}

/* ---- Options of the compiler --------------------------------------------- */

static void pass_options(cli_t *cli, pass_options_t *out) {
  const options_t *o = &cli->options;
  if (o->given[OPTION_passes]) out->passes = o->passes;
  if (o->given[OPTION_disable_pass]) out->disabled = o->disable_pass;
  if (o->given[OPTION_level]) out->level = o->level;
  if (o->given[OPTION_verify_each]) out->verify_each = o->verify_each;
  if (o->given[OPTION_rewrite_limit])
    out->rewrite_limit =
        o->rewrite_limit < LONG_MAX ? (long)o->rewrite_limit : -1;
  if (o->trace_rewrites) out->trace = cli->err;
  if (o->given[OPTION_print_ir_after]) out->print_after = o->print_ir_after;
  out->print_to = cli->err;
  if (o->given[OPTION_dump_ir]) out->dump_dir = o->dump_ir;
  if (o->time_passes) {
    out->timings = ARENA_NEW(cli->arena, timings_t);
    timings_init(out->timings, cli->arena);
  }
}

/* "NAME=N": a name may have '=' in it. */
static moec_status_t read_dim(cli_t *cli, const char *text, onnx_pin_t *out) {
  const char *equals = strrchr(text, '=');
  if (equals == NULL || equals == text ||
      !options_read_number(equals + 1, &out->value))
    return CLI_FAIL(cli, MOEC_E_USAGE,
                    "--dim needs NAME=N with a whole number, found '%s'", text);
  out->name = arena_strndup(cli->arena, text, (size_t)(equals - text));
  return MOEC_OK;
}

static moec_status_t dim_options(cli_t *cli, compile_options_t *out) {
  const option_list_t *list = &cli->options.dim;
  onnx_pin_t *dims = ARENA_ARRAY(cli->arena, onnx_pin_t, list->n);
  for (unsigned i = 0; i < list->n; i++)
    MOEC_TRY(read_dim(cli, list->items[i], &dims[i]));
  out->dims = dims;
  out->n_dims = list->n;
  return MOEC_OK;
}

moec_status_t cli_compile_options(cli_t *cli, const char *model,
                                  const char *output, compile_options_t *out) {
  const options_t *o = &cli->options;
  compile_options_init(out);
  out->model = model;
  out->output = output;
  if (o->given[OPTION_entry]) out->entry = o->entry;
  out->external_root = o->external_root;
  out->verify_checksums = o->verify_checksums;
  out->isas = o->isa;
  out->target = o->target;
  out->report = o->report;
  if (o->explain_moe) out->explain_moe = cli->err;
  out->debug_info = o->debug_info;
  out->depfile = o->depfile;
  out->soname = o->soname;
  if (o->given[OPTION_inline_limit]) out->inline_limit = o->inline_limit;
  out->instrument = o->instrument || o->trace != NULL;
  out->memory_limit =
      o->memory_limit > SIZE_MAX ? SIZE_MAX : (size_t)o->memory_limit;
  pass_options(cli, &out->passes);
  return dim_options(cli, out);
}

moec_status_t cli_compile(cli_t *cli, const compile_options_t *options) {
  compile_options_t with_progress = *options;
  progress_t *progress = ARENA_NEW(cli->arena, progress_t);
  progress_begin(progress, cli);
  cli->progress = progress;
  with_progress.progress = progress_stage;
  with_progress.progress_user = progress;
  const char *file = cli->diag.file;
  cli->diag.file = options->model;
  moec_status_t status = compile_model(&with_progress, &cli->diag);
  if (status == MOEC_OK) cli->diag.file = file;
  progress_end(progress);
  cli->progress = NULL;
  if (status == MOEC_OK) cli_print_timings(cli, options->passes.timings);
  return status;
}

void cli_only_variant(const cli_t *cli, compile_options_t *options) {
  const options_t *o = &cli->options;
  const isa_t *best = targets_best();
  if (o->given[OPTION_isa]) return;
  if (o->given[OPTION_variant])
    options->isas = o->variant;
  else if (best != NULL)
    options->isas = best->name;
}

/* ---- Printing ------------------------------------------------------------ */

static void print_version(FILE *out) {
  unsigned major, minor, patch;
  LLVMGetVersion(&major, &minor, &patch);
  fprintf(out, "moec %s\nLLVM %u.%u.%u\nvariants:", MOEC_VERSION, major, minor,
          patch);
  for (unsigned i = 0; i < isa_count(); i++)
    fprintf(out, " %s/%s", isa_at(i)->arch, isa_at(i)->name);
#ifdef NDEBUG
  fprintf(out, "\nbuild: release\n");
#else
  fprintf(out, "\nbuild: with checks of the IR after every pass\n");
#endif
}

static moec_status_t print_help(cli_t *cli) {
  const options_t *o = &cli->options;
  command_t command = o->command_named ? o->command : COMMAND_HELP;
  text_t text;
  text_init(&text, cli->arena);
  if (o->command == COMMAND_HELP && !o->help && o->n_operands > 0) {
    command = options_command(o->operands[0]);
    if (command == COMMAND_COUNT && !options_document(o->operands[0], &text))
      return CLI_FAIL(cli, MOEC_E_USAGE, "there is no command '%s'",
                      o->operands[0]);
  }
  if (text.length == 0) options_help(command, &text);
  fputs(text.data, cli->out);
  return MOEC_OK;
}

/* Prints one line of diagnostics with its severity coloured. */
static void print_coloured(FILE *err, const char *line, size_t length) {
  static const struct severity {
    const char *prefix, *color;
  } severities[] = {{"moec: error: ", "\033[1;31m"},
                    {"moec: warning: ", "\033[1;35m"},
                    {"moec: note: ", "\033[1;36m"}};
  for (unsigned i = 0; i < sizeof severities / sizeof severities[0]; i++) {
    const size_t n = strlen(severities[i].prefix);
    if (length < n || memcmp(line, severities[i].prefix, n) != 0) continue;
    fprintf(err, "%s%.*s\033[0m%.*s\n", severities[i].color, (int)n, line,
            (int)(length - n), line + n);
    return;
  }
  fprintf(err, "%.*s\n", (int)length, line);
}

static void print_diagnostics(cli_t *cli) {
  char *text = NULL;
  size_t length = 0;
  FILE *memory = cli->color ? open_memstream(&text, &length) : NULL;
  if (memory == NULL) {
    diag_print(&cli->diag, cli->err);
    return;
  }
  diag_print(&cli->diag, memory);
  fclose(memory);
  for (const char *line = text; *line != '\0';) {
    const size_t n = strcspn(line, "\n");
    print_coloured(cli->err, line, n);
    line += n + (line[n] == '\n');
  }
  free(text);
}

/* With --quiet warnings are not shown. */
static void drop_warnings(diag_sink_t *diag) {
  diag_t **link = &diag->first;
  diag->last = NULL;
  while (*link != NULL) {
    if ((*link)->severity == DIAG_ERROR) {
      diag->last = *link;
      link = &(*link)->next;
    } else {
      *link = (*link)->next;
    }
  }
  diag->n_warnings = 0;
}

/* ---- The whole ----------------------------------------------------------- */

static moec_status_t run_command(cli_t *cli) {
  const options_t *o = &cli->options;
  if (o->version) {
    print_version(cli->out);
    return MOEC_OK;
  }
  if (o->help) return print_help(cli);
  if (o->print_targets) {
    text_t text;
    text_init(&text, cli->arena);
    targets_print(&text);
    fputs(text.data, cli->out);
    return MOEC_OK;
  }
  switch (o->command) {
    case COMMAND_COMPILE:
      return cmd_compile(cli);
    case COMMAND_RUN:
      return cmd_run(cli);
    case COMMAND_VERIFY:
      return cmd_verify(cli);
    case COMMAND_BENCH:
      return cmd_bench(cli);
    case COMMAND_INSPECT:
      return cmd_inspect(cli);
    case COMMAND_OPT:
      return cmd_opt(cli);
    case COMMAND_DOCTOR:
      return cmd_doctor(cli);
    case COMMAND_HELP:
      return print_help(cli);
    case COMMAND_COUNT:
      break;
  }
  return MOEC_E_INTERNAL;
}

static moec_status_t run_session(cli_t *cli, int argc, char *const *argv,
                                 char *(*get)(const char *)) {
  if (argc <= 1) {
    text_t text;
    text_init(&text, cli->arena);
    options_help(COMMAND_COUNT, &text);
    fputs(text.data, cli->err);
    return MOEC_E_USAGE;
  }
  MOEC_TRY(options_parse(&cli->options, cli->arena, argc - 1, argv + 1, get,
                         &cli->diag));
  if (cli->options.given[OPTION_color] && cli->options.color != COLOR_AUTO)
    cli->color = cli->options.color == COLOR_ALWAYS;
  moec_status_t status = run_command(cli);
  if (fflush(cli->out) != 0 || ferror(cli->out))
    return CLI_FAIL(cli, MOEC_E_IO, "cannot write the result");
  return status;
}

/* The exit code; whatever ended badly without a word is given one. */
static int finish(cli_t *cli, moec_status_t status) {
  if (cli->progress != NULL) progress_end(cli->progress);
  if (cli->options.quiet) drop_warnings(&cli->diag);
  print_diagnostics(cli);
  if (cli->diag.n_errors > 0 && diag_status(&cli->diag) != MOEC_OK)
    status = diag_status(&cli->diag);
  else if (status != MOEC_OK && status != MOEC_E_USAGE &&
           status != MOEC_E_MISMATCH)
    fprintf(cli->err, "moec: error: %s\n", status_text(status));
  return status_exit_code(status);
}

int cli_main(int argc, char *const *argv, char *(*get)(const char *), FILE *out,
             FILE *err) {
  cli_t *cli = calloc(1, sizeof *cli); /* found again after a jump */
  arena_t *arena = arena_create(0);
  int code = status_exit_code(MOEC_E_NO_MEMORY);
  if (cli == NULL || arena == NULL) {
    fprintf(err, "moec: error: %s\n", status_text(MOEC_E_NO_MEMORY));
    arena_destroy(arena);
    free(cli);
    return code;
  }
  *cli = (cli_t){.arena = arena, .out = out, .err = err};
  cli->terminal = isatty(fileno(err)) == 1;
  cli->color = cli->terminal;
  diag_init(&cli->diag, arena, NULL);
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    moec_status_t status = run_session(cli, argc, argv, get);
    code = finish(cli, status);
  } else { /* the arena may be unable to hold another message */
    if (cli->progress != NULL) progress_end(cli->progress);
    if (point.status == MOEC_E_INTERNAL) print_diagnostics(cli);
    fprintf(err, "moec: error: %s\n", point.message);
    code = status_exit_code(point.status);
  }
  recovery_leave(&point);
  loaded_close_all(cli);
  onnx_store_destroy(cli->store);
  arena_destroy(cli->scratch);
  arena_destroy(arena);
  free(cli);
  return code;
}
