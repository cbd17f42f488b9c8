/* moec inspect FILE.so: what is in a compiled model. The file is read, never
 * loaded or executed. */
#include <string.h>

#include "backend/emit.h"
#include "backend/note.h"
#include "tools/cli.h"
#include "tools/json.h"

/* In order; as text the report is there with --verbose only, else just its
 * layers. */
static const struct section {
  uint32_t type;
  const char *name;
} sections[] = {{NOTE_SIGNATURE, "signature"},
                {NOTE_KERNELS, "code"},
                {NOTE_REPORT, "report"}};
enum { N_SECTIONS = sizeof sections / sizeof sections[0] };

typedef struct inspect {
  cli_t *cli;
  note_file_t file;
  const json_t *sections[N_SECTIONS]; /* NULL: not in the file */
} inspect_t;

static moec_status_t read_sections(inspect_t *in) {
  for (unsigned i = 0; i < N_SECTIONS; i++) {
    const note_t *note = note_find(&in->file, sections[i].type);
    if (note == NULL || note->length == 0) continue;
    MOEC_TRY(json_parse(in->cli->arena, note->text, note->length,
                        &in->cli->diag, &in->sections[i]));
  }
  return MOEC_OK;
}

/* ---- As JSON ------------------------------------------------------------- */

static void append_build_id(const note_file_t *file, text_t *out) {
  for (unsigned i = 0; i < file->build_id_bytes; i++)
    text_printf(out, "%02x", file->build_id[i]);
}

static void print_json(const inspect_t *in) {
  const note_file_t *f = &in->file;
  text_t out;
  text_init(&out, in->cli->arena);
  text_printf(&out, "{\"machine\":\"%s\",\"file_bytes\":%llu",
              target_of_machine(f->machine), (unsigned long long)f->file_bytes);
  text_printf(&out, ",\"code_bytes\":%llu,\"data_bytes\":%llu",
              (unsigned long long)f->code_bytes,
              (unsigned long long)f->data_bytes);
  text_printf(&out, ",\"weights_bytes\":%llu,\"build_id\":\"",
              (unsigned long long)f->weights_bytes);
  append_build_id(f, &out);
  text_printf(&out, "\"");
  for (unsigned i = 0; i < N_SECTIONS; i++) {
    if (in->sections[i] == NULL) continue;
    text_printf(&out, ",\"%s\":", sections[i].name);
    json_write(in->sections[i], &out);
  }
  text_printf(&out, "}\n");
  fputs(out.data, in->cli->out);
}

/* ---- As text --------------------------------------------------------------
 * Objects are lists of "name: value", arrays of objects tables whose columns
 * are the members of the first object. What compilers write may grow without
 * this file being changed. */

static void append_inline(const json_t *value, text_t *out);

static void append_items(const json_t *value, text_t *out) {
  for (size_t i = 0; i < value->n; i++) {
    if (i > 0) text_printf(out, ", ");
    if (value->kind == JSON_OBJECT) {
      diag_escape(out, value->keys[i], strlen(value->keys[i]));
      text_printf(out, " ");
    }
    append_inline(value->items[i], out);
  }
}

static void append_inline(const json_t *value, text_t *out) {
  switch (value->kind) {
    case JSON_STRING:
      diag_escape(out, value->text, strlen(value->text));
      break;
    case JSON_ARRAY:
      text_printf(out, "[");
      append_items(value, out);
      text_printf(out, "]");
      break;
    case JSON_OBJECT:
      text_printf(out, "{");
      append_items(value, out);
      text_printf(out, "}");
      break;
    default:
      json_write(value, out);
  }
}

static const char *inline_text(arena_t *arena, const json_t *value) {
  text_t text;
  text_init(&text, arena);
  if (value != NULL) append_inline(value, &text);
  return text.data;
}

static bool is_table(const json_t *value) {
  if (value->kind != JSON_ARRAY || value->n == 0) return false;
  for (size_t i = 0; i < value->n; i++)
    if (value->items[i]->kind != JSON_OBJECT || value->items[i]->n == 0)
      return false;
  return true;
}

/* The keys of all rows, in the order in which they appear. */
static size_t table_heads(const json_t *rows, arena_t *arena,
                          const char ***out_heads) {
  const char **heads = NULL;
  size_t n = 0;
  for (size_t i = 0; i < rows->n; i++)
    for (size_t k = 0; k < rows->items[i]->n; k++) {
      const char *key = rows->items[i]->keys[k];
      size_t c = 0;
      while (c < n && strcmp(heads[c], key) != 0) c++;
      if (c < n) continue;
      heads = arena_grow_array(arena, heads, n, n + 1, sizeof *heads);
      heads[n++] = key;
    }
  *out_heads = heads;
  return n;
}

/* The n columns of the table; the last one is not padded. */
static void append_columns(const json_t *rows, const char *const *heads,
                           size_t n, const char *indent, text_t *out) {
  arena_t *arena = out->arena;
  const char **cells = ARENA_ARRAY(arena, const char *, (rows->n + 1) * n);
  for (size_t c = 0; c < n; c++) {
    text_t head; /* keys come from the file too */
    size_t width = 0;
    text_init(&head, arena);
    diag_escape(&head, heads[c], strlen(heads[c]));
    cells[c] = head.data;
    for (size_t i = 1; i <= rows->n; i++)
      cells[i * n + c] =
          inline_text(arena, json_get(rows->items[i - 1], heads[c]));
    for (size_t i = 0; i <= rows->n; i++) {
      const size_t length = strlen(cells[i * n + c]);
      if (length > width) width = length;
    }
    for (size_t i = 0; c + 1 < n && i <= rows->n; i++)
      cells[i * n + c] =
          arena_printf(arena, "%-*s  ", (int)width, cells[i * n + c]);
  }
  for (size_t i = 0; i <= rows->n; i++) {
    text_printf(out, "%s", indent);
    for (size_t c = 0; c < n; c++) text_printf(out, "%s", cells[i * n + c]);
    text_printf(out, "\n");
  }
}

static void append_table(const json_t *rows, const char *indent, text_t *out) {
  const char **heads;
  const size_t n = table_heads(rows, out->arena, &heads);
  append_columns(rows, heads, n, indent, out);
}

static void append_member(const char *name, const json_t *value,
                          const char *indent, text_t *out) {
  text_printf(out, "%s", indent);
  diag_escape(out, name, strlen(name));
  const char *deeper = arena_printf(out->arena, "%s  ", indent);
  if (is_table(value)) {
    text_printf(out, " (%zu):\n", value->n);
    append_table(value, deeper, out);
  } else if (value->kind == JSON_OBJECT) {
    text_printf(out, ":\n");
    for (size_t i = 0; i < value->n; i++)
      append_member(value->keys[i], value->items[i], deeper, out);
  } else {
    text_printf(out, ": ");
    append_inline(value, out);
    text_printf(out, "\n");
  }
}

/* The Mixture-of-Experts layers of the report, in brief. */
static void append_layers(const inspect_t *in, text_t *out) {
  static const char *const columns[] = {"name", "experts", "k",
                                        "form", "sparse",  "structure"};
  const json_t *layers = NULL;
  for (unsigned i = 0; i < N_SECTIONS; i++)
    if (sections[i].type == NOTE_REPORT)
      layers = json_get(in->sections[i], "layers");
  if (layers == NULL || !is_table(layers)) return;
  text_printf(out, "layers (%zu):\n", layers->n);
  append_columns(layers, columns, sizeof columns / sizeof columns[0], "  ",
                 out);
}

static void print_text(const inspect_t *in) {
  const note_file_t *f = &in->file;
  char file[24], code[24], data[24], weights[24];
  text_t out;
  text_init(&out, in->cli->arena);
  text_printf(&out, "machine: %s\nfile: %s (code %s, data %s, weights %s)\n",
              target_of_machine(f->machine), bytes_text(f->file_bytes, file),
              bytes_text(f->code_bytes, code), bytes_text(f->data_bytes, data),
              bytes_text(f->weights_bytes, weights));
  text_printf(&out, "build id: ");
  append_build_id(f, &out);
  text_printf(&out, "\n");
  for (unsigned i = 0; i < N_SECTIONS; i++)
    if (in->sections[i] != NULL &&
        (sections[i].type != NOTE_REPORT || in->cli->options.verbose))
      append_member(sections[i].name, in->sections[i], "", &out);
  if (!in->cli->options.verbose) append_layers(in, &out);
  fputs(out.data, in->cli->out);
}

moec_status_t cmd_inspect(cli_t *cli) {
  inspect_t *in = ARENA_NEW(cli->arena, inspect_t);
  in->cli = cli;
  cli->diag.file = cli->options.operands[0];
  MOEC_TRY(
      note_read(cli->options.operands[0], cli->arena, &in->file, &cli->diag));
  MOEC_TRY(read_sections(in));
  if (cli->options.json)
    print_json(in);
  else
    print_text(in);
  return MOEC_OK;
}
