/* The schedule of a model as LLVM code: what runs on what, and the tables that the
 * runtime reads. */
#ifndef BACKEND_SCHEDULE_H
#define BACKEND_SCHEDULE_H

#include "backend/emit.h"
#include "backend/weights.h"

/* Kernels of the module in table order (the order of its functions). */
unsigned schedule_kernel_index(ir_module_t *module, const char *name);
/* Hidden constant table of an ISA's kernels: symbol "moert_kernels_<n>". */
void emit_kernel_table(emitter_t *em, ir_module_t *module, unsigned isa_index);

/* Emits into em (of a baseline ISA): plan, run, the moert_program that lists
 * `variants` (indices into targets.def, ascending), the moec_model_t and the
 * function `entry` that returns it. Constants are added to `weights`. */
void emit_schedule(emitter_t *em, ir_module_t *module, weights_t *weights,
                   const unsigned *variants, unsigned n_variants,
                   const char *entry);

#endif
