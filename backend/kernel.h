/* Kernels of the loop level as LLVM functions. */
#ifndef BACKEND_KERNEL_H
#define BACKEND_KERNEL_H

#include "backend/emit.h"

/* Emits `func`, a kernel, as a moert_kernel_fn named `name`. Vector loops run
 * in lanes of em->isa. Its values must have been numbered. */
LLVMValueRef emit_kernel(emitter_t *em, ir_func_t *func, const char *name);

/* The row of targets.def among `rows` whose code of the kernel serves for
 * `row`: see isa_serving. */
unsigned kernel_row(const ir_func_t *func, unsigned row, const unsigned *rows,
                    unsigned n_rows);

#endif
