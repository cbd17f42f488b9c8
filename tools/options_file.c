/* Options from a file: one in a line, named as the long options.
 *
 *     # how we compile
 *     optimize = 3
 *     dim = batch=1
 *     verify-each
 *
 * White space around names and values is dropped, unless a whole value stands
 * in double quotes. Options of other commands are passed over, so that one file
 * serves all of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/options_table.h"

enum { MAX_BYTES = 1 << 20 };

typedef struct file_line {
  unsigned number; /* from 1 */
  const char *name;
  const char *value; /* NULL: none */
} file_line_t;

static ir_loc_t place(const options_parse_t *p, unsigned number) {
  return (ir_loc_t){.where = arena_printf(p->arena, "line %u", number)};
}

/* ---- One line ------------------------------------------------------------ */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* A copy without the white space at its ends. */
static char *trim(arena_t *arena, const char *text, size_t length) {
  while (length > 0 && is_space(*text)) {
    text++;
    length--;
  }
  while (length > 0 && is_space(text[length - 1])) length--;
  return arena_strndup(arena, text, length);
}

static const char *unquote(arena_t *arena, const char *value) {
  const size_t n = strlen(value);
  if (n < 2 || value[0] != '"' || strchr(value + 1, '"') != value + n - 1)
    return value;
  return arena_strndup(arena, value + 1, n - 2);
}

static file_line_t split(arena_t *arena, const char *text, size_t length,
                         unsigned number) {
  const char *equals = memchr(text, '=', length);
  if (equals == NULL)
    return (file_line_t){number, trim(arena, text, length), NULL};
  const size_t n = (size_t)(equals - text);
  return (file_line_t){number, trim(arena, text, n),
                       unquote(arena, trim(arena, equals + 1, length - n - 1))};
}

static moec_status_t unknown(options_parse_t *p, const file_line_t *line) {
  const char *names[OPTION_COUNT];
  for (unsigned i = 0; i < OPTION_COUNT; i++) names[i] = option_infos[i].name;
  moec_status_t status =
      diag_error(p->diag, place(p, line->number), MOEC_E_USAGE,
                 "'%s' is not an option of moec", line->name);
  const char *meant = options_suggest(line->name, names, OPTION_COUNT);
  if (meant != NULL)
    diag_note(p->diag, (ir_loc_t){0}, "did you mean '%s'?", meant);
  return status;
}

/* Whether a flag is on. */
static moec_status_t read_flag(options_parse_t *p, const file_line_t *line,
                               bool *out_on) {
  *out_on = true;
  if (line->value == NULL || options_read_switch(line->value, out_on))
    return MOEC_OK;
  return diag_error(p->diag, place(p, line->number), MOEC_E_USAGE,
                    "'%s' is no value for %s, expected yes or no", line->value,
                    line->name);
}

/* `before` are the options that had been given before the file. */
static moec_status_t take_option(options_parse_t *p, const file_line_t *line,
                                 option_t option, const bool *before) {
  const option_info_t *info = &option_infos[option];
  const char *value = line->value;
  if (option == OPTION_config || option == OPTION_help ||
      option == OPTION_version)
    return diag_error(p->diag, place(p, line->number), MOEC_E_USAGE,
                      "%s is for the command line only", line->name);
  if (info->kind == OPTION_KIND_FLAG) {
    bool on;
    MOEC_TRY(read_flag(p, line, &on));
    if (!on) return MOEC_OK;
  }
  if (value == NULL &&
      (info->kind == OPTION_KIND_FLAG || info->kind == OPTION_KIND_SWITCH))
    value = "yes";
  if (value == NULL)
    return diag_error(p->diag, place(p, line->number), MOEC_E_USAGE,
                      "%s needs a value: %s = %s", line->name, line->name,
                      info->argument);
  if ((info->commands & 1u << p->out->command) == 0 || before[option])
    return MOEC_OK;
  return options_set(p, option, place(p, line->number), line->name, value);
}

static moec_status_t take_line(options_parse_t *p, const file_line_t *line,
                               const bool *before) {
  for (unsigned i = 0; i < OPTION_COUNT; i++)
    if (strcmp(option_infos[i].name, line->name) == 0)
      return take_option(p, line, (option_t)i, before);
  return unknown(p, line);
}

/* ---- The file ------------------------------------------------------------ */

static moec_status_t read_file(options_parse_t *p, const char *path,
                               char **out_text) {
  char *text = arena_alloc(p->arena, MAX_BYTES + 1);
  FILE *file = fopen(path, "rbe");
  if (file == NULL)
    return diag_error(p->diag, (ir_loc_t){0}, MOEC_E_IO, "cannot open '%s': %s",
                      path, strerror(errno));
  const size_t length = fread(text, 1, MAX_BYTES + 1, file);
  const bool failed = ferror(file) != 0;
  fclose(file);
  if (failed)
    return diag_error(p->diag, (ir_loc_t){0}, MOEC_E_IO, "cannot read '%s'",
                      path);
  if (length > MAX_BYTES)
    return diag_error(p->diag, (ir_loc_t){0}, MOEC_E_LIMIT,
                      "'%s' exceeds the limit of %d bytes", path, MAX_BYTES);
  if (memchr(text, '\0', length) != NULL)
    return diag_error(p->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                      "'%s' is no text: it has a zero byte", path);
  text[length] = '\0';
  *out_text = text;
  return MOEC_OK;
}

moec_status_t options_take_file(options_parse_t *p, const char *path) {
  const char *file = p->diag->file;
  char *text = NULL;
  bool before[OPTION_COUNT];
  moec_status_t status = MOEC_OK;
  MOEC_TRY(read_file(p, path, &text));
  memcpy(before, p->out->given, sizeof before);
  p->diag->file = path;
  for (unsigned number = 1; *text != '\0'; number++) {
    const size_t length = strcspn(text, "\n");
    const file_line_t line = split(p->arena, text, length, number);
    if (line.name[0] != '#' && (line.name[0] != '\0' || line.value != NULL)) {
      moec_status_t taken = take_line(p, &line, before);
      if (taken != MOEC_OK) status = taken;
    }
    text += length + (text[length] == '\n');
  }
  if (status == MOEC_OK) p->diag->file = file;
  return status;
}
