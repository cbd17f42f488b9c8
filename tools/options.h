/* The command line as a structure; tools/options.def has the rows. */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include "ir/diag.h"

typedef enum {
#define COMMAND(id, name, operands, min, max, help) COMMAND_##id,
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help)
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
  COMMAND_COUNT
} command_t;

enum { /* sets of commands */
#define COMMAND(id, name, operands, min, max, help) ON_##id = 1 << COMMAND_##id,
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help)
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
       ON_RUNNING = ON_RUN | ON_VERIFY | ON_BENCH,
       ON_COMPILING = ON_COMPILE | ON_RUNNING, /* those take .onnx files too */
       ON_ALL = (1 << COMMAND_COUNT) - 1,
};

typedef enum {
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help) OPTION_##id,
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
  OPTION_COUNT
} option_t;

typedef struct option_list {
  const char **items;
  unsigned n;
} option_list_t;

#define OPTION_FIELD_FLAG bool
#define OPTION_FIELD_SWITCH bool
#define OPTION_FIELD_TEXT const char *
#define OPTION_FIELD_LIST option_list_t
#define OPTION_FIELD_JOINED const char *
#define OPTION_FIELD_CHOICE int
#define OPTION_FIELD_NUMBER int64_t
#define OPTION_FIELD_BYTES uint64_t
#define OPTION_FIELD_REAL double

typedef struct options {
  command_t command;
  bool command_named; /* by a word, not by default */
  const char **operands;
  unsigned n_operands;
  bool given[OPTION_COUNT]; /* by the command line or the environment */
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help) \
  OPTION_FIELD_##kind id; /* zero when not given */
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
} options_t;

enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER }; /* options_t.color */
enum {                                          /* options_t.doc */
       DOC_OPS,
       DOC_PASSES,
       DOC_REWRITES,
       DOC_DTYPES,
       DOC_TARGETS
};
enum { FORMAT_PB, FORMAT_NPY }; /* options_t.output_format */

/* Parses the arguments after the program's name, then the environment through
 * `get` (getenv; NULL: no environment), then the file that --config names: each
 * gives the options that those before it do not. Texts are the caller's or the
 * arena's. With --help or --version given, operands are not counted. All that
 * is wrong is reported, as MOEC_E_USAGE; MOEC_E_IO or MOEC_E_LIMIT when the
 * file cannot be read. */
moec_status_t options_parse(options_t *out, arena_t *arena, int argc,
                            char *const *argv, char *(*get)(const char *),
                            diag_sink_t *diag);

/* Reads digits only; false for what is no number from 0 to INT64_MAX. */
bool options_read_number(const char *text, int64_t *to);

/* The text of --help: of all commands when `command` is COMMAND_HELP or
 * COMMAND_COUNT, else of one. */
void options_help(command_t command, text_t *out);

/* The manual page ("man") or the completions of a shell ("bash", "zsh",
 * "fish"). False if `form` is none of these. */
bool options_document(const char *form, text_t *out);

/* COMMAND_COUNT if there is none of that name. */
command_t options_command(const char *name);
const char *options_command_name(command_t command);

/* Of `candidates`, the most similar to `word` if it could be meant, or NULL. */
const char *options_suggest(const char *word, const char *const *candidates,
                            unsigned n_candidates);

#endif
