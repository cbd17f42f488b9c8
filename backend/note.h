/* The texts that a compiled model carries about itself, readable without
 * running it: section .note.moec, one note of owner "moec" per text. It is not
 * loaded, as old loaders read all notes that are; `strip` keeps it,
 * `llvm-strip` does not. */
#ifndef BACKEND_NOTE_H
#define BACKEND_NOTE_H

#include "ir/diag.h"

#define NOTE_SECTION ".note.moec"
#define NOTE_OWNER "moec"

enum {                     /* types; append only, they are stored in files */
       NOTE_SIGNATURE = 1, /* JSON: inputs, outputs, symbols, memory */
       NOTE_REPORT = 2,    /* JSON: the compile report */
       NOTE_KERNELS = 3, /* JSON: variants, kernels, launches, runtime calls */
};

typedef struct note {
  uint32_t type;
  const char *text; /* UTF-8 */
  size_t length;    /* below 4 GiB */
} note_t;

/* Appends the contents of a note section, alignment 4. */
void note_encode(const note_t *notes, unsigned n_notes, text_t *out);

enum { NOTE_MAX_BUILD_ID = 64 };

/* What can be told about a compiled model from its file alone. */
typedef struct note_file {
  uint16_t machine;       /* EM_* of elf.h */
  uint64_t file_bytes;    /* of the file */
  uint64_t code_bytes;    /* executable segments, in the file */
  uint64_t data_bytes;    /* other loaded segments without weights, ditto */
  uint64_t weights_bytes; /* 0: none in the file */
  uint8_t build_id[NOTE_MAX_BUILD_ID];
  unsigned build_id_bytes; /* 0: none */
  unsigned n_notes;
  note_t *notes; /* in file order; each text is NUL-terminated too */
} note_file_t;

/* Reads the notes of a file without executing or mapping any of it. The file
 * may hold any bytes: what is not a 64-bit little-endian ELF file with at least
 * one note of owner "moec", or is malformed, gives MOEC_E_INVALID_MODEL, what
 * cannot be read MOEC_E_IO, notes above 1 GiB MOEC_E_LIMIT. Texts are valid
 * UTF-8 without control characters other than white space; that they are JSON
 * is not checked. Everything in *out belongs to the arena. */
MOEC_MUST_CHECK moec_status_t note_read(const char *path, arena_t *arena,
                                        note_file_t *out, diag_sink_t *diag);

/* The first note of the type, or NULL. */
const note_t *note_find(const note_file_t *file, uint32_t type);

#endif
