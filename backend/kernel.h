/* Kernels of the loop level as LLVM functions. */
#ifndef BACKEND_KERNEL_H
#define BACKEND_KERNEL_H

#include "backend/emit.h"

/* Emits `func`, a kernel, as a moert_kernel_fn named `name`. Vector loops run
 * in lanes of em->isa. Its values must have been numbered. */
LLVMValueRef emit_kernel(emitter_t *em, ir_func_t *func, const char *name);

#endif
