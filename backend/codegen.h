/* From a loop-level module to a product: objects, a shared library, text. */
#ifndef BACKEND_CODEGEN_H
#define BACKEND_CODEGEN_H

#include "backend/emit.h"
#include "backend/note.h"
#include "backend/weights.h"
#include "ir/timing.h"

typedef struct codegen_options {
  const char *arch;         /* of targets.def */
  const unsigned *variants; /* rows of targets.def, ascending; the first one
                               also carries the schedule */
  unsigned n_variants;
  const char *entry;  /* exported function */
  const char *soname; /* or NULL */
  bool instrument;    /* the model can record its steps */
  bool debug;         /* debug information, and FILE.nodes beside the output */
  const note_t *notes;
  unsigned n_notes;
  const weights_mapping_t *mappings; /* of files that hold weights */
  size_t n_mappings;
  timings_t *timings; /* gets rows of what was done, or NULL */
} codegen_options_t;

/* Writes a shared library to `path`, completely or not at all. Emits modules in
 * threads where there is more than one. */
moec_status_t codegen_library(ir_module_t *module,
                              const codegen_options_t *options,
                              const char *path, arena_t *arena,
                              diag_sink_t *diag);

/* Text or bitcode of the first variant's kernels and the schedule:
 * kind is ".ll", ".bc", ".s" or ".o". */
moec_status_t codegen_text(ir_module_t *module,
                           const codegen_options_t *options, const char *kind,
                           const char *path, arena_t *arena, diag_sink_t *diag);

#endif
