/* From objects to a shared library: the linker runs in this process, on memory.
 */
#ifndef BACKEND_LINK_H
#define BACKEND_LINK_H

#include "backend/note.h"
#include "backend/weights.h"
#include "ir/diag.h"

typedef struct link_file {
  const char *name; /* for messages */
  const void *data; /* bytes of an ELF64 little-endian file */
  size_t size;
} link_file_t;

typedef struct link_input {
  const char *soname; /* DT_SONAME; NULL: none */
  const char *entry;  /* function defined in an object, default visibility */
  const char *export_name;    /* its name outside, the only one; NULL: entry */
  const link_file_t *objects; /* relocatable; all of one machine */
  unsigned n_objects;         /* at least 1 */
  /* Shared libraries that may be needed, as small as their symbol tables. Only
   * the used ones become DT_NEEDED. Nothing of the build machine is searched.
   */
  const link_file_t *libraries;
  unsigned n_libraries;
  const note_t *notes; /* what goes into the note section */
  unsigned n_notes;
  bool strip; /* leave out the symbol table */
  bool debug; /* keep debug information */
} link_input_t;

/* A linked library without its weights. */
typedef struct link_image {
  uint8_t *data; /* malloc'd */
  size_t size;
} link_image_t;

void link_image_dispose(link_image_t *image); /* accepts a zeroed one */

/* Links the objects with one more that defines the hidden `moert_weights`, at
 * page alignment in a read-only segment of its own above all others, and the
 * notes. Weights are missing: see elf_extend_weights. The image exports one
 * symbol, has no undefined symbols but weak ones and those of the libraries, no
 * RUNPATH, full RELRO, a build id made of its contents; identical input gives
 * identical bytes.
 *
 * Fails with MOEC_E_CODEGEN and the linker's words, with MOEC_E_USAGE when
 * export_name is not a C identifier, and with MOEC_E_INTERNAL for the rest of
 * the process once the linker has lost its state in a crash. *out_image is to
 * be disposed of; zeroed on failure. Thread-safe: calls wait for one another.
 */
MOEC_MUST_CHECK moec_status_t link_shared(const link_input_t *in,
                                          arena_t *arena, diag_sink_t *diag,
                                          link_image_t *out_image);

/* link_shared, then code and weights into a file at `path`, which appears
 * complete or not at all. The weights are streamed; memory stays bounded. */
MOEC_MUST_CHECK moec_status_t link_library(const link_input_t *in,
                                           const weights_t *weights,
                                           const char *path, arena_t *arena,
                                           diag_sink_t *diag);

#endif
