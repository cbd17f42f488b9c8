/* The command line: each line of the input is an argument, behind an empty line
 * each is NAME=VALUE of the environment. What is understood can be described.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tools/options.h"

enum { MOST_ARGUMENTS = 64 };

static char *variables[MOST_ARGUMENTS]; /* "NAME=VALUE" */
static unsigned n_variables;

static char *get(const char *name) {
  size_t length = strlen(name);
  for (unsigned i = 0; i < n_variables; i++)
    if (strncmp(variables[i], name, length) == 0 && variables[i][length] == '=')
      return variables[i] + length + 1;
  return NULL;
}

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  char *arguments[MOST_ARGUMENTS + 1] = {0};
  int n = 0;
  bool environment = false;
  n_variables = 0;
  char *rest = arena_strndup(arena, (const char *)bytes, length);
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (!environment && line[0] == '\0')
      environment = true;
    else if (environment && n_variables < MOST_ARGUMENTS)
      variables[n_variables++] = line;
    else if (!environment && n < MOST_ARGUMENTS)
      arguments[n++] = line;
  }
  options_t options;
  moec_status_t status =
      options_parse(&options, arena, n, arguments, get, diag);
  FUZZ_CHECK(status == MOEC_OK || status == MOEC_E_USAGE);
  FUZZ_CHECK((status == MOEC_OK) == (diag->n_errors == 0));
  if (status != MOEC_OK) return;
  FUZZ_CHECK(options.command < COMMAND_COUNT);
  text_t text;
  text_init(&text, arena);
  options_help(options.command, &text);
  FUZZ_CHECK(text.length > 0);
}
