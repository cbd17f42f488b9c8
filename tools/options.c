/* Parses the command line by the rows of options.def. */
#include "tools/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/options_table.h"

const command_info_t command_infos[] = {
#define COMMAND(id, name, operands, min, max, help) \
  {name, operands, min, max, help},
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help)
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
};

const option_info_t option_infos[] = {
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help) \
  {name,                                                         \
   letter,                                                       \
   argument,                                                     \
   OPTION_KIND_##kind,                                           \
   commands,                                                     \
   help,                                                         \
   offsetof(options_t, id)},
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help)
#include "tools/options.def"
};

const environment_info_t environment_infos[] = {
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help)
#define ENVIRONMENT(variable, option, value, help) \
  {variable, OPTION_##option, value, help},
#define EXAMPLE(command, line, help)
#include "tools/options.def"
};
const unsigned n_environment_infos =
    sizeof environment_infos / sizeof environment_infos[0];

typedef options_parse_t parse_t;

static const ir_loc_t nowhere;

/* ---- Commands ------------------------------------------------------------ */

command_t options_command(const char *name) {
  unsigned i = 0;
  while (i < COMMAND_COUNT && strcmp(command_infos[i].name, name) != 0) i++;
  return (command_t)i;
}

const char *options_command_name(command_t command) {
  MOEC_ASSERT(command < COMMAND_COUNT);
  return command_infos[command].name;
}

/* ---- Suggestions --------------------------------------------------------- */

enum { MAX_WORD = 64 };

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

/* Insertions, deletions, replacements and swaps of neighbours that turn one
 * word into the other; MAX_WORD for words longer than that. */
static unsigned edit_distance(const char *a, const char *b) {
  unsigned row[3][MAX_WORD + 1];
  const size_t n = strlen(a), m = strlen(b);
  if (n >= MAX_WORD || m >= MAX_WORD) return MAX_WORD;
  for (unsigned j = 0; j <= m; j++) row[0][j] = j;
  for (unsigned i = 1; i <= n; i++) {
    unsigned *now = row[i % 3];
    const unsigned *above = row[(i + 2) % 3], *before = row[(i + 1) % 3];
    now[0] = i;
    for (unsigned j = 1; j <= m; j++) {
      now[j] = least(least(above[j], now[j - 1]) + 1,
                     above[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        now[j] = least(now[j], before[j - 2] + 1);
    }
  }
  return row[n % 3][m];
}

const char *options_suggest(const char *word, const char *const *candidates,
                            unsigned n_candidates) {
  const char *best = NULL;
  unsigned best_distance = least(3, (unsigned)(strlen(word) + 2) / 3) + 1;
  for (unsigned i = 0; i < n_candidates; i++) {
    unsigned distance = edit_distance(word, candidates[i]);
    if (distance >= best_distance) continue;
    best = candidates[i];
    best_distance = distance;
  }
  return best;
}

static void suggest_command(parse_t *p, const char *word) {
  const char *names[COMMAND_COUNT];
  for (unsigned i = 0; i < COMMAND_COUNT; i++) names[i] = command_infos[i].name;
  const char *meant = options_suggest(word, names, COMMAND_COUNT);
  if (meant != NULL)
    diag_note(p->diag, nowhere, "did you mean 'moec %s'?", meant);
}

static moec_status_t unknown_option(parse_t *p, const char *dashes,
                                    const char *name) {
  const command_t command = p->out->command;
  const char *names[OPTION_COUNT];
  unsigned n = 0;
  moec_status_t status = diag_error(p->diag, nowhere, MOEC_E_USAGE,
                                    "'%s%s' is not an option of 'moec %s'",
                                    dashes, name, command_infos[command].name);
  for (unsigned i = 0; i < OPTION_COUNT; i++) {
    const option_info_t *info = &option_infos[i];
    if ((info->commands & 1u << command) != 0) {
      names[n++] = info->name;
    } else if (strcmp(info->name, name) == 0) {
      for (unsigned c = 0; c < COMMAND_COUNT; c++)
        if ((info->commands & 1u << c) != 0)
          diag_note(p->diag, nowhere, "it is one of 'moec %s'",
                    command_infos[c].name);
      return status;
    }
  }
  const char *meant = options_suggest(name, names, n);
  if (meant != NULL)
    diag_note(p->diag, nowhere, "did you mean '--%s'?", meant);
  else
    diag_note(p->diag, nowhere, "'moec help %s' lists its options",
              command_infos[command].name);
  return status;
}

/* ---- Values -------------------------------------------------------------- */

/* Each reads `text` for a field at `to`; false when it does not fit. */
bool options_read_switch(const char *text, bool *to) {
  static const char *const words[] = {"no",    "yes",  "off", "on",
                                      "false", "true", "0",   "1"};
  for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (strcmp(text, words[i]) != 0) continue;
    *to = i % 2 == 1;
    return true;
  }
  return false;
}

static bool read_choice(const char *text, const char *choices, int *to) {
  const size_t length = strlen(text);
  for (int i = 0;; i++) {
    size_t n = strcspn(choices, "|");
    if (n == length && memcmp(choices, text, n) == 0) {
      *to = i;
      return true;
    }
    if (choices[n] == '\0') return false;
    choices += n + 1;
  }
}

/* Digits only: strtoull alone takes white space and signs. */
static bool read_digits(const char *text, const char **out_end, uint64_t *to) {
  char *end;
  if (!isdigit((unsigned char)text[0])) return false;
  errno = 0;
  *to = strtoull(text, &end, 10);
  *out_end = end;
  return errno == 0;
}

bool options_read_number(const char *text, int64_t *to) {
  uint64_t value;
  const char *end;
  if (!read_digits(text, &end, &value) || *end != '\0' || value > INT64_MAX)
    return false;
  *to = (int64_t)value;
  return true;
}

static bool read_bytes(const char *text, uint64_t *to) {
  static const char units[] = "KMGT";
  const char *end;
  if (!read_digits(text, &end, to)) return false;
  if (*end == '\0') return true;
  const char *unit = strchr(units, toupper((unsigned char)*end));
  if (unit == NULL || (end[1] != '\0' && strcmp(end + 1, "iB") != 0))
    return false;
  return !__builtin_mul_overflow(*to, UINT64_C(1) << (10 * (unit - units + 1)),
                                 to);
}

static bool read_real(const char *text, double *to) {
  char *end;
  if (!isdigit((unsigned char)text[0]) && text[0] != '.') return false;
  *to = strtod(text, &end);
  return end != text && *end == '\0' && isfinite(*to);
}

static void append(parse_t *p, option_list_t *list, const char *text) {
  list->items = arena_grow_array(p->arena, list->items, list->n,
                                 (size_t)list->n + 1, sizeof *list->items);
  list->items[list->n++] = text;
}

static bool read_value(parse_t *p, const option_info_t *info, const char *text,
                       bool given) {
  void *to = (char *)p->out + info->offset;
  switch (info->kind) {
    case OPTION_KIND_FLAG:
      *(bool *)to = true;
      return true;
    case OPTION_KIND_SWITCH:
      return options_read_switch(text, to);
    case OPTION_KIND_TEXT:
      *(const char **)to = text;
      return true;
    case OPTION_KIND_JOINED: {
      const char **joined = to;
      *joined = given ? arena_printf(p->arena, "%s,%s", *joined, text) : text;
      return true;
    }
    case OPTION_KIND_LIST:
      append(p, to, text);
      return true;
    case OPTION_KIND_CHOICE:
      return read_choice(text, info->argument, to);
    case OPTION_KIND_NUMBER:
      return options_read_number(text, to);
    case OPTION_KIND_BYTES:
      return read_bytes(text, to);
    case OPTION_KIND_REAL:
      return read_real(text, to);
  }
  return false;
}

static const char *expectation(const option_info_t *info) {
  switch (info->kind) {
    case OPTION_KIND_CHOICE:
    case OPTION_KIND_SWITCH:
      return info->argument;
    case OPTION_KIND_BYTES:
      return "a number of bytes such as 4096 or 2G";
    case OPTION_KIND_REAL:
      return "a number, at least 0";
    default:
      return "a whole number, at least 0";
  }
}

moec_status_t options_set(options_parse_t *p, option_t option, ir_loc_t loc,
                          const char *name, const char *text) {
  const option_info_t *info = &option_infos[option];
  if (!read_value(p, info, text, p->out->given[option]))
    return diag_error(p->diag, loc, MOEC_E_USAGE,
                      "'%s' is no value for %s, expected %s", text, name,
                      expectation(info));
  p->out->given[option] = true;
  return MOEC_OK;
}

static moec_status_t set_option(parse_t *p, option_t option, const char *name,
                                const char *text) {
  return options_set(p, option, nowhere, name, text);
}

/* ---- Arguments ----------------------------------------------------------- */

static bool needs_value(const option_info_t *info) {
  return info->kind != OPTION_KIND_FLAG && info->kind != OPTION_KIND_SWITCH;
}

/* Sets an option whose value is `text`, or the next argument when it is NULL
 * and there must be one. */
static moec_status_t take_option(parse_t *p, option_t option, const char *name,
                                 const char *text) {
  const option_info_t *info = &option_infos[option];
  if (text == NULL && !needs_value(info))
    return set_option(p, option, name, "yes");
  if (text == NULL) {
    if (p->next >= p->argc)
      return diag_error(p->diag, nowhere, MOEC_E_USAGE, "%s needs a value: %s",
                        name, info->argument);
    text = p->argv[p->next++];
  }
  if (info->kind == OPTION_KIND_FLAG)
    return diag_error(p->diag, nowhere, MOEC_E_USAGE, "%s takes no value",
                      name);
  return set_option(p, option, name, text);
}

static moec_status_t take_long(parse_t *p, const char *argument) {
  const size_t length = strcspn(argument, "=");
  const char *name = arena_strndup(p->arena, argument, length);
  const char *text = argument[length] == '=' ? argument + length + 1 : NULL;
  for (unsigned i = 0; i < OPTION_COUNT; i++)
    if (strcmp(option_infos[i].name, name) == 0 &&
        (option_infos[i].commands & 1u << p->out->command) != 0)
      return take_option(p, (option_t)i, arena_printf(p->arena, "--%s", name),
                         text);
  return unknown_option(p, "--", name);
}

/* "-v", "-vq", "-oFILE": letters, the last one perhaps with its value. */
static moec_status_t take_letters(parse_t *p, const char *letters) {
  for (; *letters != '\0'; letters++) {
    const char name[] = {'-', *letters, '\0'};
    unsigned i = 0;
    while (i < OPTION_COUNT &&
           (option_infos[i].letter != *letters ||
            (option_infos[i].commands & 1u << p->out->command) == 0))
      i++;
    if (i == OPTION_COUNT) return unknown_option(p, "-", letters);
    const bool takes_rest = needs_value(&option_infos[i]);
    MOEC_TRY(
        take_option(p, (option_t)i, name,
                    takes_rest && letters[1] != '\0' ? letters + 1 : NULL));
    if (takes_rest) break;
  }
  return MOEC_OK;
}

static moec_status_t take_arguments(parse_t *p) {
  moec_status_t status = MOEC_OK;
  option_list_t operands = {0};
  bool options_end = false;
  while (p->next < p->argc) {
    const char *argument = p->argv[p->next++];
    moec_status_t taken = MOEC_OK;
    if (options_end || argument[0] != '-' || argument[1] == '\0')
      append(p, &operands, argument);
    else if (strcmp(argument, "--") == 0)
      options_end = true;
    else if (argument[1] == '-')
      taken = take_long(p, argument + 2);
    else
      taken = take_letters(p, argument + 1);
    if (status == MOEC_OK) status = taken;
  }
  p->out->operands = operands.items;
  p->out->n_operands = operands.n;
  return status;
}

static moec_status_t check_operands(parse_t *p) {
  const options_t *o = p->out;
  const command_info_t *info = &command_infos[o->command];
  if (o->help || o->version || o->print_targets) return MOEC_OK;
  if (o->n_operands >= info->min && o->n_operands <= info->max) return MOEC_OK;
  moec_status_t status =
      o->n_operands < info->min
          ? diag_error(p->diag, nowhere, MOEC_E_USAGE,
                       "'moec %s' needs %s; 'moec help %s' tells more",
                       info->name, info->operands, info->name)
          : diag_error(p->diag, nowhere, MOEC_E_USAGE,
                       "'moec %s' does not know what to do with '%s'",
                       info->name, o->operands[info->max]);
  if (o->command == COMMAND_COMPILE && o->n_operands > 0)
    suggest_command(p, o->operands[0]);
  return status;
}

static moec_status_t take_environment(parse_t *p, char *(*get)(const char *)) {
  for (unsigned i = 0; get != NULL && i < n_environment_infos; i++) {
    const environment_info_t *info = &environment_infos[i];
    const char *text = get(info->variable);
    if (text == NULL || text[0] == '\0' || p->out->given[info->option] ||
        (option_infos[info->option].commands & 1u << p->out->command) == 0)
      continue;
    MOEC_TRY(set_option(p, info->option, info->variable,
                        info->value != NULL ? info->value : text));
  }
  return MOEC_OK;
}

moec_status_t options_parse(options_t *out, arena_t *arena, int argc,
                            char *const *argv, char *(*get)(const char *),
                            diag_sink_t *diag) {
  *out = (options_t){.command = COMMAND_COMPILE};
  parse_t p = {out, arena, diag, argc, 0, argv};
  if (argc > 0 && options_command(argv[0]) != COMMAND_COUNT) {
    out->command = options_command(argv[0]);
    out->command_named = true;
    p.next = 1;
  }
  moec_status_t status = take_arguments(&p);
  if (status == MOEC_OK) status = check_operands(&p);
  if (status == MOEC_OK) status = take_environment(&p, get);
  if (status == MOEC_OK && out->given[OPTION_config] && !out->help &&
      !out->version)
    status = options_take_file(&p, out->config);
  return status;
}
