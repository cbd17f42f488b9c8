/* Diagnostics: collected, sorted by node, printed at the end. */
#ifndef IR_DIAG_H
#define IR_DIAG_H

#include "ir/arena.h"

/* A place in the user's model. Zero-initialised means "nowhere". */
typedef struct ir_loc {
  const char *node; /* ONNX node name, or NULL */
  const char *type; /* ONNX operator, "domain::Op" outside the default domain */
  int index;        /* node index + 1 in its graph, 0 when not a node */
  const char *where; /* other place: "tensor \"w\"", "byte 123", "line 3" */
} ir_loc_t;

typedef enum { DIAG_NOTE, DIAG_WARNING, DIAG_ERROR } diag_severity_t;

typedef struct diag {
  diag_severity_t severity;
  moec_status_t status; /* of an error */
  ir_loc_t loc;
  const char *text;   /* one clause, lower case, no full stop */
  struct diag *notes; /* second place or remedy */
  struct diag *next;
} diag_t;

typedef struct diag_sink {
  arena_t *arena; /* owns texts; must outlive the sink */
  const char
      *file; /* the user's file, printed before each place; may be NULL */
  diag_t *first, *last;
  unsigned n_errors, n_warnings;
  unsigned max_errors;  /* further errors are only counted; 0 means 100 */
  bool dropped;         /* the latest error or warning was only counted */
  moec_status_t status; /* see diag_status */
} diag_sink_t;

void diag_init(diag_sink_t *diag, arena_t *arena, const char *file);

/* Records an error and returns `status`, so that a check is one line:
 *     return diag_error(diag, op->loc, MOEC_E_INVALID_MODEL, "k = %lld ...");
 * A NULL sink records nothing. Texts are copied; control characters, invalid
 * UTF-8 and bidirectional marks in them are printed as escapes. */
moec_status_t diag_error(diag_sink_t *diag, ir_loc_t loc, moec_status_t status,
                         const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Records what a recovery point was left for, and returns its status. Where
 * there is no memory for the record, it is only counted. */
moec_status_t diag_left(diag_sink_t *diag, const recovery_t *point);
void diag_warning(diag_sink_t *diag, ir_loc_t loc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Adds a remark to the latest error or warning. */
void diag_note(diag_sink_t *diag, ir_loc_t loc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "moec: error: FILE: node #3 \"name\" (Op): text" lines, sorted by node (what
 * belongs to no node comes first). Long names and texts are cut. */
void diag_print(const diag_sink_t *diag, FILE *out);

/* The status that the command should end with: malformed before unsupported
 * before others, MOEC_OK without errors. */
moec_status_t diag_status(const diag_sink_t *diag);

/* Appends a place as messages have it, "node #3 \"name\" (Op): "; nothing for
 * nowhere. */
void diag_append_place(text_t *out, const ir_loc_t *loc);

/* Appends `length` bytes with everything unfit for a terminal escaped. */
void diag_escape(text_t *out, const char *data, size_t length);

#endif
