/* The rows of options.def as arrays, for those who print or parse them. */
#ifndef TOOLS_OPTIONS_TABLE_H
#define TOOLS_OPTIONS_TABLE_H

#include "tools/options.h"

typedef struct command_info {
  const char *name, *operands;
  unsigned min, max; /* operands */
  const char *help;
} command_info_t;

typedef enum {
  OPTION_KIND_FLAG,
  OPTION_KIND_SWITCH,
  OPTION_KIND_TEXT,
  OPTION_KIND_LIST,
  OPTION_KIND_JOINED,
  OPTION_KIND_CHOICE,
  OPTION_KIND_NUMBER,
  OPTION_KIND_BYTES,
  OPTION_KIND_REAL,
} option_kind_t;

typedef struct option_info {
  const char *name;
  char letter;
  const char *argument;
  option_kind_t kind;
  unsigned commands; /* set of ON_ */
  const char *help;
  size_t offset; /* of the field in options_t */
} option_info_t;

typedef struct environment_info {
  const char *variable;
  option_t option;
  const char *value, *help;
} environment_info_t;

extern const command_info_t command_infos[];         /* [COMMAND_COUNT] */
extern const option_info_t option_infos[];           /* [OPTION_COUNT] */
extern const environment_info_t environment_infos[]; /* [n_environment_infos] */
extern const unsigned n_environment_infos;

typedef struct options_parse {
  options_t *out;
  arena_t *arena;
  diag_sink_t *diag;
  int argc, next; /* argument to be looked at */
  char *const *argv;
} options_parse_t;

/* Gives an option its value, or one more of a list. `name` is how the user
 * named the option, for the message. */
moec_status_t options_set(options_parse_t *p, option_t option, ir_loc_t loc,
                          const char *name, const char *text);
/* "yes", "no" and their like; false for other words. */
bool options_read_switch(const char *text, bool *to);
/* Takes the options of a file that are not given yet (options_file.c). */
moec_status_t options_take_file(options_parse_t *p, const char *path);

/* Calls tell once for each exit code (options_help.c). */
void options_each_exit_code(void (*tell)(text_t *out, int code,
                                         const char *text),
                            text_t *out);

#endif
