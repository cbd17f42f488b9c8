/* The manual page and the completions of shells, made from options.def. */
#include <string.h>

#include "tools/options_table.h"

static bool takes(const option_info_t *info, unsigned command) {
  return (info->commands & 1u << command) != 0;
}

static bool has_value(const option_info_t *info) {
  return info->argument[0] != '\0';
}

/* ---- Manual page --------------------------------------------------------- */

/* Text of roff: hyphens that are to be copied, no requests by accident. */
static void append_roff(text_t *out, const char *text) {
  if (text[0] == '.' || text[0] == '\'') text_printf(out, "\\&");
  for (; *text != '\0'; text++) {
    if (*text == '-')
      text_printf(out, "\\-");
    else if (*text == '\\')
      text_printf(out, "\\e");
    else
      text_append(out, text, 1);
  }
}

static void append_paragraph(text_t *out, const char *head, const char *body) {
  text_printf(out, ".TP\n.B ");
  append_roff(out, head);
  text_printf(out, "\n");
  append_roff(out, body);
  text_printf(out, "\n");
}

static void append_man_commands(text_t *out) {
  text_printf(out, ".SH COMMANDS\n");
  for (unsigned i = 0; i < COMMAND_COUNT; i++) {
    text_t head;
    text_init(&head, out->arena);
    text_printf(&head, "%s%s%s", command_infos[i].name,
                command_infos[i].operands[0] != '\0' ? " " : "",
                command_infos[i].operands);
    append_paragraph(out, head.data, command_infos[i].help);
  }
}

/* Which commands take an option, unless all do. */
static void append_commands_of(text_t *out, const option_info_t *info) {
  bool first = true;
  if (info->commands == ON_ALL) return;
  text_printf(out, " (");
  for (unsigned i = 0; i < COMMAND_COUNT; i++) {
    if (!takes(info, i)) continue;
    text_printf(out, "%s%s", first ? "" : ", ", command_infos[i].name);
    first = false;
  }
  text_printf(out, ")");
}

static void append_man_options(text_t *out) {
  text_printf(out,
              ".SH OPTIONS\nThe commands that take an option are given "
              "behind it where not all do.\n");
  for (unsigned i = 0; i < OPTION_COUNT; i++) {
    const option_info_t *info = &option_infos[i];
    text_t head, body;
    text_init(&head, out->arena);
    text_init(&body, out->arena);
    if (info->letter != '\0') text_printf(&head, "-%c, ", info->letter);
    text_printf(&head, "--%s", info->name);
    if (info->kind == OPTION_KIND_SWITCH)
      text_printf(&head, "[=%s]", info->argument);
    else if (has_value(info))
      text_printf(&head, "=%s", info->argument);
    text_printf(&body, "%s", info->help);
    append_commands_of(&body, info);
    append_paragraph(out, head.data, body.data);
  }
}

static void append_man_exit_code(text_t *out, int code, const char *text) {
  text_printf(out, ".TP\n.B %d\n%s\n", code, text);
}

static void append_man_ends(text_t *out) {
#define COMMAND(id, name, operands, min, max, help)
#define SECTION(title)
#define OPTION(id, commands, name, letter, argument, kind, help)
#define ENVIRONMENT(variable, option, value, help)
#define EXAMPLE(command, line, help) \
  text_printf(out, ".TP\n.B ");      \
  append_roff(out, line);            \
  text_printf(out, "\n");            \
  append_roff(out, help);            \
  text_printf(out, "\n");
  text_printf(out, ".SH ENVIRONMENT\nOptions win over variables.\n");
  for (unsigned i = 0; i < n_environment_infos; i++)
    append_paragraph(out, environment_infos[i].variable,
                     environment_infos[i].help);
  text_printf(out, ".SH EXIT STATUS\n");
  options_each_exit_code(append_man_exit_code, out);
  text_printf(out, ".SH EXAMPLES\n");
#include "tools/options.def"
}

static void append_man(text_t *out) {
  text_printf(out,
              ".TH MOEC 1 \"\" \"moec %s\"\n.SH NAME\nmoec \\- compile ONNX "
              "models with mixtures of experts to native libraries\n"
              ".SH SYNOPSIS\n.B moec\n.I MODEL.onnx\n.B \\-o\n.I FILE\n"
              "[options]\n.br\n.B moec\n.I COMMAND\n[operands] [options]\n",
              MOEC_VERSION);
  append_man_commands(out);
  append_man_options(out);
  append_man_ends(out);
}

/* ---- bash ---------------------------------------------------------------- */

static void append_names(text_t *out, unsigned command) {
  for (unsigned i = 0; i < OPTION_COUNT; i++)
    if (takes(&option_infos[i], command))
      text_printf(out, " --%s%s", option_infos[i].name,
                  has_value(&option_infos[i]) &&
                          option_infos[i].kind != OPTION_KIND_SWITCH
                      ? "="
                      : "");
}

static void append_words(text_t *out, const char *choices) {
  for (; *choices != '\0'; choices++)
    text_append(out, *choices == '|' ? " " : choices, 1);
}

static void append_command_names(text_t *out, const char *between) {
  for (unsigned i = 0; i < COMMAND_COUNT; i++)
    text_printf(out, "%s%s", i > 0 ? between : "", command_infos[i].name);
}

/* bash splits words at '=', so that a choice is the word behind it. */
static void append_bash(text_t *out) {
  text_printf(out,
              "# bash completion of moec\n_moec() {\n"
              "  local word=${COMP_WORDS[COMP_CWORD]} options= choices=\n"
              "  local option=${COMP_WORDS[COMP_CWORD-1]}\n"
              "  if [[ $word == = ]]; then word=\n"
              "  elif [[ $option == = ]]; then\n"
              "    option=${COMP_WORDS[COMP_CWORD-2]}\n  fi\n"
              "  case $option in\n");
  for (unsigned i = 0; i < OPTION_COUNT; i++) {
    const option_info_t *info = &option_infos[i];
    if (info->kind != OPTION_KIND_CHOICE && info->kind != OPTION_KIND_SWITCH)
      continue;
    text_printf(out, "    --%s) choices=\"", info->name);
    append_words(out, info->argument);
    text_printf(out, "\" ;;\n");
  }
  text_printf(out,
              "  esac\n  if [[ -n $choices ]]; then\n"
              "    COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n"
              "    return\n  fi\n  case ${COMP_WORDS[1]} in\n");
  for (unsigned i = 1; i <= COMMAND_COUNT; i++) { /* the default comes last */
    const unsigned command = i % COMMAND_COUNT;
    text_printf(out, "    %s) options=\"",
                command == COMMAND_COMPILE ? "*" : command_infos[command].name);
    append_names(out, command);
    text_printf(out, "\" ;;\n");
  }
  text_printf(out,
              "  esac\n  if [[ $word == -* ]]; then\n"
              "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
              "    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n"
              "    return\n  fi\n"
              "  mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
              "  if [[ $COMP_CWORD == 1 ]]; then\n"
              "    COMPREPLY+=($(compgen -W \"");
  append_command_names(out, " ");
  text_printf(out,
              "\" -- \"$word\"))\n  fi\n}\n"
              "complete -o filenames -F _moec moec\n");
}

/* ---- zsh ----------------------------------------------------------------- */

/* Inside single quotes, in a description that ends at ']'. */
static void append_zsh_text(text_t *out, const char *text) {
  for (; *text != '\0'; text++) {
    if (strchr("[]:\\", *text) != NULL) text_append(out, "\\", 1);
    if (*text == '\'')
      text_append(out, "'\\''", 4);
    else
      text_append(out, text, 1);
  }
}

static void append_zsh_option(text_t *out, const option_info_t *info) {
  const bool is_list =
      info->kind == OPTION_KIND_LIST || info->kind == OPTION_KIND_JOINED;
  const char *equals = info->kind == OPTION_KIND_SWITCH ? "=-"
                       : has_value(info)                ? "="
                                                        : "";
  text_printf(out, "      '%s--%s%s[", is_list ? "*" : "", info->name, equals);
  append_zsh_text(out, info->help);
  text_printf(out, "]");
  if (info->kind == OPTION_KIND_SWITCH || info->kind == OPTION_KIND_CHOICE) {
    text_printf(out, ":%s:(", info->name);
    append_words(out, info->argument);
    text_printf(out, ")");
  } else if (has_value(info)) {
    text_printf(out, ":%s:_files", info->argument);
  }
  text_printf(out, "' \\\n");
}

static void append_zsh(text_t *out) {
  text_printf(out,
              "#compdef moec\n"
              "case ${words[2]} in\n");
  for (unsigned i = 1; i <= COMMAND_COUNT; i++) {
    const unsigned command = i % COMMAND_COUNT;
    text_printf(out, "  %s)\n    _arguments \\\n",
                command == COMMAND_COMPILE ? "*" : command_infos[command].name);
    for (unsigned j = 0; j < OPTION_COUNT; j++)
      if (takes(&option_infos[j], command))
        append_zsh_option(out, &option_infos[j]);
    if (command == COMMAND_COMPILE) {
      text_printf(out,
                  "      '1:command or model: _alternative \"c\\:command\\:(");
      append_command_names(out, " ");
      text_printf(out, ")\" \"f\\:model\\:_files\"' \\\n");
    }
    text_printf(out, "      '*:file:_files' ;;\n");
  }
  text_printf(out, "esac\n");
}

/* ---- fish ---------------------------------------------------------------- */

/* Inside single quotes. */
static void append_fish_text(text_t *out, const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '\'' || *text == '\\') text_append(out, "\\", 1);
    text_append(out, text, 1);
  }
}

static void append_fish_option(text_t *out, const option_info_t *info,
                               unsigned command) {
  if (command == COMMAND_COMPILE) /* the default: none of the others */
    text_printf(out,
                "complete -c moec -n \"not __fish_seen_subcommand_from "
                "$others\"");
  else
    text_printf(out, "complete -c moec -n '__fish_seen_subcommand_from %s'",
                command_infos[command].name);
  text_printf(out, " -l %s", info->name);
  if (info->letter != '\0') text_printf(out, " -s %c", info->letter);
  if (info->kind == OPTION_KIND_CHOICE) {
    text_printf(out, " -x -a '");
    append_words(out, info->argument);
    text_printf(out, "'");
  } else if (has_value(info) && info->kind != OPTION_KIND_SWITCH) {
    text_printf(out, " -r");
  }
  text_printf(out, " -d '");
  append_fish_text(out, info->help);
  text_printf(out, "'\n");
}

static void append_fish(text_t *out) {
  text_printf(out, "# fish completion of moec\nset -l others");
  for (unsigned i = 0; i < COMMAND_COUNT; i++)
    if (i != COMMAND_COMPILE) text_printf(out, " %s", command_infos[i].name);
  text_printf(out, "\n");
  for (unsigned i = 0; i < COMMAND_COUNT; i++) {
    text_printf(out, "complete -c moec -n __fish_use_subcommand -a %s -d '",
                command_infos[i].name);
    append_fish_text(out, command_infos[i].help);
    text_printf(out, "'\n");
  }
  for (unsigned c = 0; c < COMMAND_COUNT; c++)
    for (unsigned i = 0; i < OPTION_COUNT; i++)
      if (takes(&option_infos[i], c))
        append_fish_option(out, &option_infos[i], c);
}

bool options_document(const char *form, text_t *out) {
  static const struct form {
    const char *name;
    void (*append)(text_t *out);
  } forms[] = {{"man", append_man},
               {"bash", append_bash},
               {"zsh", append_zsh},
               {"fish", append_fish}};
  for (unsigned i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    if (strcmp(forms[i].name, form) != 0) continue;
    forms[i].append(out);
    return true;
  }
  return false;
}
