/* Debug information: which ONNX node an instruction works for. Its source file
 * is a listing of the model's nodes, one in a line, so that debuggers and
 * profilers show nodes where they show lines. */
#ifndef BACKEND_DEBUG_H
#define BACKEND_DEBUG_H

#include "backend/emit.h"

/* The listing: lines of places. Not changed once it is made, so that threads
 * share it. */
typedef struct debug_lines debug_lines_t;

/* Numbers the nodes of a module at loop level in the order of its schedule, and
 * gives each kernel a label of the node that launches it first. `name` is the
 * listing's file name. Linear in the size of the module. */
debug_lines_t *debug_lines_create(arena_t *arena, ir_module_t *module,
                                  const char *name);
/* The listing's text. */
void debug_lines_print(const debug_lines_t *lines, text_t *out);

/* The following do nothing for an emitter without debug information. */

/* Gives the emitter's module debug information, unless lines is NULL. */
void debug_begin(emitter_t *em, const debug_lines_t *lines);
/* Completes it; before the module is optimised. */
void debug_end(emitter_t *em);

/* Where code is emitted to: a function, and a line. */
typedef struct debug_scope {
  LLVMMetadataRef function; /* NULL: none that has debug information */
  unsigned line;
} debug_scope_t;

/* Starts a function; returns what debug_close takes to go on with the one
 * before. */
debug_scope_t debug_open(emitter_t *em, LLVMValueRef function, ir_loc_t loc);
void debug_close(emitter_t *em, debug_scope_t outer);
/* The current one, to be closed to where a function may have been opened. */
debug_scope_t debug_here(const emitter_t *em);
/* What is emitted from here on works for that place. */
void debug_at(emitter_t *em, ir_loc_t loc);

#endif
