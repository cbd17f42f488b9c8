/* The schedule of a model as LLVM code: what runs on what, and the tables that
 * the runtime reads. */
#ifndef BACKEND_SCHEDULE_H
#define BACKEND_SCHEDULE_H

#include "backend/emit.h"
#include "backend/weights.h"

/* Symbol of a kernel compiled for an ISA. */
const char *schedule_kernel_symbol(arena_t *arena, const ir_func_t *kernel,
                                   const isa_t *isa);

/* Emits into em (of a baseline ISA): plan, run, the moert_program that lists
 * the variants, the moec_model_t and the function that returns it. Kernels are
 * those of the module, in order of its functions, under their symbols.
 * Constants are added to `weights`. Values of all functions must have been
 * numbered (ir_renumber). */
typedef struct schedule_options {
  const unsigned *variants; /* indices into targets.def, ascending */
  unsigned n_variants;
  const char *entry; /* name of the exported function */
  bool instrument;   /* the model can record its steps */
} schedule_options_t;
void emit_schedule(emitter_t *em, ir_module_t *module, weights_t *weights,
                   const schedule_options_t *options);

#endif
