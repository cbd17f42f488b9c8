/* The text of --help, made from options.def. */
#include <string.h>

#include "tools/options_table.h"

enum { COLUMN = 30, WIDTH = 80 };

/* Appends `words`, wrapped, starting at COLUMN; the line so far began at
 * line_start. */
static void append_wrapped(text_t *out, size_t line_start, const char *words) {
  size_t column = out->length - line_start;
  if (column + 2 > COLUMN) {
    text_printf(out, "\n");
    column = 0;
  }
  text_printf(out, "%*s", (int)(COLUMN - column), "");
  column = COLUMN;
  while (*words != '\0') {
    const size_t n = strcspn(words, " ");
    if (column > COLUMN && column + 1 + n > WIDTH) {
      text_printf(out, "\n%*s", COLUMN, "");
      column = COLUMN;
    } else if (column > COLUMN) {
      text_printf(out, " ");
      column++;
    }
    text_append(out, words, n);
    column += n;
    words += n + (words[n] == ' ');
  }
  text_printf(out, "\n");
}

static void append_option(text_t *out, const option_info_t *info) {
  const size_t start = out->length;
  if (info->letter != '\0')
    text_printf(out, "  -%c, --%s", info->letter, info->name);
  else
    text_printf(out, "      --%s", info->name);
  if (info->kind == OPTION_KIND_SWITCH)
    text_printf(out, "[=%s]", info->argument);
  else if (info->argument[0] != '\0')
    text_printf(out, "=%s", info->argument);
  append_wrapped(out, start, info->help);
}

/* One row after the other, sections and options as they stand in the table. A
 * title is printed before its first option that the command takes. */
static void append_options(text_t *out, command_t command) {
  static const struct row {
    const char *title; /* NULL: an option */
    unsigned option;
  } rows[] = {
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title) {title, 0},
#define OPTION(id, commands, name, letter, argument, kind, help) \
  {NULL, OPTION_##id},
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
  };
  const char *title = NULL;
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    if (rows[i].title != NULL) {
      title = rows[i].title;
      continue;
    }
    const option_info_t *info = &option_infos[rows[i].option];
    if ((info->commands & 1u << command) == 0) continue;
    if (title != NULL) text_printf(out, "\n%s:\n", title);
    title = NULL;
    append_option(out, info);
  }
}

static void append_environment(text_t *out, command_t command) {
  bool first = true;
  for (unsigned i = 0; i < n_environment_infos; i++) {
    const environment_info_t *info = &environment_infos[i];
    const option_info_t *option = &option_infos[info->option];
    if ((option->commands & 1u << command) == 0) continue;
    if (first) text_printf(out, "\nEnvironment (options win):\n");
    first = false;
    const size_t start = out->length;
    text_printf(out, "  %s", info->variable);
    append_wrapped(out, start, info->help);
  }
}

static void append_examples(text_t *out, command_t command) {
  static const struct example {
    command_t command;
    const char *line, *help;
  } examples[] = {
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help)
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help) {COMMAND_##command, line, help},
#include "tools/options.def"
  };
  bool first = true;
  for (unsigned i = 0; i < sizeof examples / sizeof examples[0]; i++) {
    if (examples[i].command != command) continue;
    if (first) text_printf(out, "\nExamples:\n");
    first = false;
    text_printf(out, "  %s%s%s\n", examples[i].line,
                examples[i].help[0] != '\0' ? "   # " : "", examples[i].help);
  }
}

/* The first status of each exit code gives its text. */
void options_each_exit_code(void (*tell)(text_t *out, int code,
                                         const char *text),
                            text_t *out) {
  static const struct code {
    int exit_code;
    const char *text;
  } codes[] = {
#define STATUS(id, value, exit_code, text) {exit_code, text},
#include "moec/status.def"
  };
  for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    bool seen = false;
    for (unsigned j = 0; j < i; j++)
      seen |= codes[j].exit_code == codes[i].exit_code;
    if (!seen) tell(out, codes[i].exit_code, codes[i].text);
  }
}

static void append_exit_code(text_t *out, int code, const char *text) {
  text_printf(out, "  %d  %s\n", code, text);
}

static void append_usage(text_t *out, command_t command) {
  const command_info_t *info = &command_infos[command];
  if (command == COMMAND_COMPILE)
    text_printf(out, "usage: moec %s -o FILE [options]\n", info->operands);
  else
    text_printf(out, "usage: moec %s %s%s[options]\n", info->name,
                info->operands, info->operands[0] != '\0' ? " " : "");
}

static void append_commands(text_t *out) {
  text_printf(out, "       moec COMMAND ...\n\nCommands:\n");
  for (unsigned i = 0; i < COMMAND_COUNT; i++) {
    const size_t start = out->length;
    text_printf(out, "  %s %s", command_infos[i].name,
                command_infos[i].operands);
    append_wrapped(out, start, command_infos[i].help);
  }
}

void options_help(command_t command, text_t *out) {
  const bool all = command == COMMAND_HELP || command == COMMAND_COUNT;
  if (all) command = COMMAND_COMPILE;
  append_usage(out, command);
  if (all)
    append_commands(out);
  else
    text_printf(out, "\n  %s\n", command_infos[command].help);
  append_options(out, command);
  append_environment(out, command);
  text_printf(out, "\nExit status:\n");
  options_each_exit_code(append_exit_code, out);
  append_examples(out, command);
}
