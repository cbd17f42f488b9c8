/* The constants that a compiled model hands to the runtime and to applications:
 * moert_program, moec_model_t and what they point to. */
#ifndef BACKEND_PROGRAM_H
#define BACKEND_PROGRAM_H

#include "backend/emit.h"

typedef struct program_text program_text_t;

typedef struct program {
  emitter_t *em;
  ir_module_t *module;
  program_text_t *strings[256]; /* texts already emitted, by hash */
  const char **nodes;           /* for messages */
  unsigned n_nodes, node_capacity;
  bool *is_input_symbol; /* by symbol index */
  LLVMValueRef *steps;   /* moec_step_t, of models that can record */
  unsigned n_steps, step_capacity;
} program_t;

typedef struct program_parts {
  LLVMValueRef plan, run;
  unsigned n_slots, n_growable;
  bool instrument; /* the model can record */
} program_parts_t;

void program_begin(program_t *p, emitter_t *em, ir_module_t *module);
LLVMValueRef program_call(program_t *p, const char *name, LLVMTypeRef result,
                          unsigned n, LLVMValueRef *args);
LLVMValueRef program_string(program_t *p, const char *text);
/* A hidden symbol of another object. */
LLVMValueRef program_external(program_t *p, const char *name);
/* Index of this place in the table of nodes, -1 for nowhere. */
int program_node(program_t *p, ir_loc_t loc);
/* Adds a step to the table of those that are recorded; returns its index. */
unsigned program_step(program_t *p, ir_loc_t loc, const char *work);
bool program_is_input_symbol(const program_t *p, const expr_symbol_t *symbol);
/* Where result i of op lies; false if op carries no such attribute. */
bool program_memory(const ir_op_t *op, unsigned i, int64_t *out_kind,
                    int64_t *out_index);
void program_finish(program_t *p, const program_parts_t *parts,
                    const unsigned *variants, unsigned n_variants,
                    const char *entry);

#endif
