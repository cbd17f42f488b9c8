/* What the commands share: the session of one call of moec. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include "tools/compile.h"
#include "tools/options.h"

typedef struct cli {
  arena_t *arena;
  diag_sink_t diag;
  options_t options;
  FILE *out, *err;
  bool color;    /* on err */
  bool terminal; /* err is one */
  /* What must be released also after leaving through the recovery point. */
  struct loaded *loaded;     /* models that are open, the latest first */
  struct onnx_store *store;  /* of data files, or NULL */
  arena_t *scratch;          /* of passes, or NULL */
  struct progress *progress; /* under way, or NULL */
} cli_t;

/* Runs the command that the arguments (with the program's name first) ask for.
 * Results go to `out`, all else to `err`. Returns the exit code. Never exits.
 * Reads the environment through `get` (getenv, or NULL for none). */
int cli_main(int argc, char *const *argv, char *(*get)(const char *), FILE *out,
             FILE *err);

int status_exit_code(moec_status_t status);
const char *status_text(moec_status_t status);
const char *status_name(moec_status_t status); /* "E_SHAPE" */

/* The commands, each in its own file. Failures are in cli->diag. */
moec_status_t cmd_compile(cli_t *cli);
moec_status_t cmd_run(cli_t *cli);
moec_status_t cmd_verify(cli_t *cli);
moec_status_t cmd_bench(cli_t *cli);
moec_status_t cmd_inspect(cli_t *cli);
moec_status_t cmd_opt(cli_t *cli);
moec_status_t cmd_doctor(cli_t *cli);

/* An error without a place. */
#define CLI_FAIL(cli, status, ...) \
  diag_error(&(cli)->diag, (ir_loc_t){0}, (status), __VA_ARGS__)

/* Options of the compiler as the command line has them. `output` may be NULL.
 */
moec_status_t cli_compile_options(cli_t *cli, const char *model,
                                  const char *output, compile_options_t *out);
/* Compiles with progress on `err`, and what --time-passes asks for. */
moec_status_t cli_compile(cli_t *cli, const compile_options_t *options);
/* Prints the rows as a table (timing_print.c). */
void cli_print_timings(const cli_t *cli, const timings_t *timings);

/* Of the variants, leaves the one that will run here, unless --isa names some.
 */
void cli_only_variant(const cli_t *cli, compile_options_t *options);

/* Whether a path ends with this suffix, "." included. */
bool path_has_suffix(const char *path, const char *suffix);
const char *path_join(arena_t *arena, const char *directory, const char *name);
bool path_is_directory(const char *path);
bool path_exists(const char *path);

/* Reads a whole file, or standard input for "-", into the arena, with a NUL
 * behind. `limit` is the most bytes that are read: more is MOEC_E_LIMIT. */
moec_status_t file_read(cli_t *cli, const char *path, uint64_t limit,
                        const char **out_bytes, size_t *out_length);

/* ---- Progress (progress.c) ----------------------------------------------- */

/* Stages with their time and the process's peak memory, on `err`. */
typedef struct progress {
  FILE *to;      /* NULL: nothing is printed */
  bool terminal; /* the stage under way is shown too */
  bool color;
  const char *stage; /* under way, or NULL */
  double start, stage_start;
} progress_t;

/* Begins if the command line or the terminal asks for it. */
void progress_begin(progress_t *progress, const cli_t *cli);
void progress_stage(void *progress, const char *stage);
void progress_end(progress_t *progress);

double now_seconds(void);
uint64_t peak_memory(void); /* bytes */
/* "12.3 MiB" in `out`, of at least 24 bytes. */
const char *bytes_text(uint64_t bytes, char *out);

#endif
