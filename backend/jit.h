/* A compiled model in this process: no linker, no files. For what the compiler
 * itself wants to know of generated code, such as the values of constants. */
#ifndef BACKEND_JIT_H
#define BACKEND_JIT_H

#include "ir/ir.h"
#include "moec/model.h"

typedef struct jit jit_t;

/* The row of targets.def that every machine of this process's architecture has,
 * or -1 where moec generates no code for it. */
int jit_host_isa(void);

/* Generates code of a module that `plan` has been through for that row, one
 * variant, and loads it together with the runtime and the weights, which are
 * copied. Values need not have been numbered.
 *
 * Fails with MOEC_E_CODEGEN (LLVM's words, or no executable memory to be had),
 * MOEC_E_NO_MEMORY, MOEC_E_LIMIT (more weights than reachable addresses). May
 * leave through the recovery point: *out_jit, set before anything that could,
 * is to be destroyed then too. */
MOEC_MUST_CHECK moec_status_t jit_load(ir_module_t *module, unsigned isa,
                                       arena_t *arena, diag_sink_t *diag,
                                       jit_t **out_jit);

/* Its table; valid until jit_destroy. Instances must be gone by then. */
const moec_model_t *jit_model(const jit_t *jit);
void jit_destroy(jit_t *jit); /* accepts NULL and half-built ones */

#endif
