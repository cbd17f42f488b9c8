/* The command line: each line of the input is an argument, behind an empty line
 * each is NAME=VALUE of the environment, behind another they are a file of
 * options. What is understood can be described. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* The rest of the text as a file of options, named by the environment. */
static void set_file(arena_t *arena, const char *text) {
  static int fd = -1; /* one file in memory for all */
  const size_t length = strlen(text);
  if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
  FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
  FUZZ_CHECK(pwrite(fd, text, length, 0) == (ssize_t)length);
  if (n_variables < MOST_ARGUMENTS)
    variables[n_variables++] =
        arena_printf(arena, "MOEC_CONFIG=/proc/self/fd/%d", fd);
}

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  char *arguments[MOST_ARGUMENTS + 1] = {0};
  int n = 0;
  unsigned section = 0;
  n_variables = 0;
  char *rest = arena_strndup(arena, (const char *)bytes, length);
  while (section < 2 && rest != NULL) {
    char *line = strsep(&rest, "\n");
    if (line[0] == '\0')
      section++;
    else if (section == 1 && n_variables < MOST_ARGUMENTS)
      variables[n_variables++] = line;
    else if (section == 0 && n < MOST_ARGUMENTS &&
             strncmp(line, "--config", 8) != 0)
      arguments[n++] = line;
  }
  if (section == 2 && rest != NULL) set_file(arena, rest);
  options_t options;
  moec_status_t status =
      options_parse(&options, arena, n, arguments, get, diag);
  FUZZ_CHECK(status == MOEC_OK || status == MOEC_E_USAGE ||
             status == MOEC_E_IO || status == MOEC_E_LIMIT);
  FUZZ_CHECK((status == MOEC_OK) == (diag->n_errors == 0));
  if (status != MOEC_OK) return;
  FUZZ_CHECK(options.command < COMMAND_COUNT);
  text_t text;
  text_init(&text, arena);
  options_help(options.command, &text);
  FUZZ_CHECK(text.length > 0);
}
