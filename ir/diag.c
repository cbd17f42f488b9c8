/* Collects diagnostics and prints them; escapes what a terminal must not see.
 */
#include "ir/diag.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX 100
#define MAX_NAME_BYTES 200  /* of a name in a printed place */
#define MAX_TEXT_BYTES 4000 /* of a printed text */

void diag_init(diag_sink_t *diag, arena_t *arena, const char *file) {
  memset(diag, 0, sizeof *diag);
  diag->arena = arena;
  diag->file = file;
}

/* Copies at most what will be printed and a little, so that a name of
 * megabytes repeated in every message costs nothing. */
static const char *copy_text(arena_t *arena, const char *text) {
  if (text == NULL) return NULL;
  return arena_strndup(arena, text, strnlen(text, MAX_TEXT_BYTES + 8));
}

static diag_t *new_diag(diag_sink_t *diag, diag_severity_t severity,
                        ir_loc_t loc, const char *format, va_list args) {
  char text[MAX_TEXT_BYTES + 8]; /* cut here means cut when printed */
  vsnprintf(text, sizeof text, format, args);
  diag_t *d = ARENA_NEW(diag->arena, diag_t);
  d->severity = severity;
  d->loc = loc;
  d->loc.node = copy_text(diag->arena, loc.node);
  d->loc.type = copy_text(diag->arena, loc.type);
  d->loc.where = copy_text(diag->arena, loc.where);
  d->text = arena_strdup(diag->arena, text);
  return d;
}

static unsigned max_kept(const diag_sink_t *diag) {
  return diag->max_errors != 0 ? diag->max_errors : DEFAULT_MAX;
}

static void append(diag_sink_t *diag, diag_t *d) {
  if (diag->last != NULL)
    diag->last->next = d;
  else
    diag->first = d;
  diag->last = d;
}

static int urgency(moec_status_t status) {
  switch (status) {
    case MOEC_OK:
      return 0;
    case MOEC_E_INVALID_MODEL:
    case MOEC_E_DTYPE:
    case MOEC_E_RANK:
    case MOEC_E_SHAPE:
    case MOEC_E_INDEX:
    case MOEC_E_VALUE:
      return 3;
    case MOEC_E_UNSUPPORTED:
      return 2;
    default:
      return 1;
  }
}

moec_status_t diag_error(diag_sink_t *diag, ir_loc_t loc, moec_status_t status,
                         const char *format, ...) {
  if (diag == NULL) return status;
  if (urgency(status) > urgency(diag->status)) diag->status = status;
  diag->dropped = diag->n_errors++ >= max_kept(diag);
  if (diag->dropped) return status;
  va_list args;
  va_start(args, format);
  diag_t *d = new_diag(diag, DIAG_ERROR, loc, format, args);
  va_end(args);
  d->status = status;
  append(diag, d);
  return status;
}

moec_status_t diag_left(diag_sink_t *diag, const recovery_t *point) {
  recovery_t own;
  recovery_enter(&own);
  if (setjmp(own.jump) == 0)
    (void)diag_error(diag, (ir_loc_t){0}, point->status, "%s", point->message);
  recovery_leave(&own);
  return point->status;
}

void diag_warning(diag_sink_t *diag, ir_loc_t loc, const char *format, ...) {
  if (diag == NULL) return;
  diag->dropped = diag->n_warnings++ >= max_kept(diag);
  if (diag->dropped) return;
  va_list args;
  va_start(args, format);
  append(diag, new_diag(diag, DIAG_WARNING, loc, format, args));
  va_end(args);
}

void diag_note(diag_sink_t *diag, ir_loc_t loc, const char *format, ...) {
  if (diag == NULL || diag->last == NULL || diag->dropped) return;
  va_list args;
  va_start(args, format);
  diag_t *d = new_diag(diag, DIAG_NOTE, loc, format, args);
  va_end(args);
  diag_t **end = &diag->last->notes;
  while (*end != NULL) end = &(*end)->next;
  *end = d;
}

/* ---- Escaping ----------------------------------------------------------- */

/* Length of the well-formed UTF-8 sequence at data, 0 if there is none. */
static size_t decode_utf8(const unsigned char *data, size_t length,
                          uint32_t *out_code) {
  unsigned char c = data[0];
  size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
  if (n == 0 || n > length || c > 0xf4) return 0;
  if (n == 1) {
    *out_code = c;
    return 1;
  }
  uint32_t code = c & (0xffu >> (n + 1));
  for (size_t i = 1; i < n; i++) {
    if ((data[i] & 0xc0) != 0x80) return 0;
    code = code << 6 | (data[i] & 0x3fu);
  }
  static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < smallest[n] || code > 0x10ffff ||
      (code >= 0xd800 && code <= 0xdfff))
    return 0;
  *out_code = code;
  return n;
}

/* Control characters, separators of lines, and marks that reorder or hide. */
static bool unfit_for_terminal(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0xad ||
         code == 0x61c || (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
         (code >= 0xfff9 && code <= 0xfffb) ||
         (code >= 0xe0000 && code <= 0xe007f);
}

void diag_escape(text_t *out, const char *data, size_t length) {
  const unsigned char *bytes = (const unsigned char *)data;
  for (size_t i = 0; i < length;) {
    uint32_t code = 0;
    size_t n = decode_utf8(bytes + i, length - i, &code);
    if (n == 0) {
      text_printf(out, "\\x%02x", bytes[i]);
      n = 1;
    } else if (!unfit_for_terminal(code)) {
      text_append(out, data + i, n);
    } else if (code == '\n' || code == '\t' || code == '\r') {
      text_printf(out, "\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
    } else if (code < 0x80) {
      text_printf(out, "\\x%02x", (unsigned)code);
    } else {
      text_printf(out, "\\u{%x}", (unsigned)code);
    }
    i += n;
  }
}

/* Escapes at most max_bytes of a text, never half a character. */
static void escape_cut(text_t *out, const char *text, size_t max_bytes) {
  size_t length = strnlen(text, max_bytes + 1);
  if (length <= max_bytes) {
    diag_escape(out, text, length);
    return;
  }
  length = max_bytes;
  while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) length--;
  diag_escape(out, text, length);
  text_printf(out, "...");
}

/* ---- Printing ----------------------------------------------------------- */

void diag_append_place(text_t *line, const ir_loc_t *loc) {
  size_t start = line->length;
  if (loc->index > 0) text_printf(line, "node #%d", loc->index - 1);
  if (loc->node != NULL && loc->node[0] != '\0') {
    text_printf(line, line->length > start ? " \"" : "node \"");
    escape_cut(line, loc->node, MAX_NAME_BYTES);
    text_printf(line, "\"");
  }
  if (loc->type != NULL && loc->type[0] != '\0') {
    text_printf(line, line->length > start ? " (" : "node (");
    escape_cut(line, loc->type, MAX_NAME_BYTES);
    text_printf(line, ")");
  }
  if (loc->where != NULL) {
    if (line->length > start) text_printf(line, ", ");
    escape_cut(line, loc->where, MAX_NAME_BYTES);
  }
  if (line->length > start) text_printf(line, ": ");
}

static void print_one(const diag_sink_t *diag, const diag_t *d, FILE *out) {
  static const char *const severities[] = {
      [DIAG_NOTE] = "note", [DIAG_WARNING] = "warning", [DIAG_ERROR] = "error"};
  text_t line;
  text_init(&line, diag->arena);
  text_printf(&line, "moec: %s: ", severities[d->severity]);
  if (diag->file != NULL) {
    escape_cut(&line, diag->file, MAX_TEXT_BYTES);
    text_printf(&line, ": ");
  }
  diag_append_place(&line, &d->loc);
  escape_cut(&line, d->text, MAX_TEXT_BYTES);
  fprintf(out, "%s\n", line.data);
}

struct sort_row {
  const diag_t *diag;
  size_t position; /* keeps the order within a node */
};

static int compare_rows(const void *x, const void *y) {
  const struct sort_row *a = x, *b = y;
  int ia = a->diag->loc.index, ib = b->diag->loc.index;
  if (ia != ib) return ia < ib ? -1 : 1;
  return a->position < b->position ? -1 : a->position > b->position;
}

void diag_print(const diag_sink_t *diag, FILE *out) {
  size_t n = 0;
  for (const diag_t *d = diag->first; d != NULL; d = d->next) n++;
  struct sort_row *rows = ARENA_ARRAY(diag->arena, struct sort_row, n);
  n = 0;
  for (const diag_t *d = diag->first; d != NULL; d = d->next, n++)
    rows[n] = (struct sort_row){d, n};
  qsort(rows, n, sizeof *rows, compare_rows);
  for (size_t i = 0; i < n; i++) {
    print_one(diag, rows[i].diag, out);
    for (const diag_t *d = rows[i].diag->notes; d != NULL; d = d->next)
      print_one(diag, d, out);
  }
  if (diag->n_errors > max_kept(diag))
    fprintf(out, "moec: error: %u more errors are not shown\n",
            diag->n_errors - max_kept(diag));
  if (diag->n_warnings > max_kept(diag))
    fprintf(out, "moec: warning: %u more warnings are not shown\n",
            diag->n_warnings - max_kept(diag));
}

moec_status_t diag_status(const diag_sink_t *diag) { return diag->status; }
