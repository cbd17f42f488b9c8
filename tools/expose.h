/* Making values inside a model its outputs, to look at them. */
#ifndef TOOLS_EXPOSE_H
#define TOOLS_EXPOSE_H

#include "ir/ir.h"

typedef struct exposed {
  const char *name;
  ir_loc_t loc;    /* of the node that computes it */
  unsigned output; /* index among the outputs */
} exposed_t;

/* A request, and what came of it. Values are the tensors that nodes of the main
 * graph compute, in program order and as they are imported, outputs included.
 */
typedef struct expose {
  unsigned begin, end; /* values that become outputs */
  bool unnamed;        /* those without name are values too: "%12" */
  arena_t *arena;      /* of what follows; must outlive the compilation */
  unsigned n_values;   /* of the model, however many were asked for */
  exposed_t *values;   /* [min(end, n_values) - begin] */
} expose_t;

/* Appends the values to the results of the module's main function. */
void expose_values(ir_module_t *module, expose_t *expose);

#endif
