/* What passes/fold.c asks for: the values of a function without arguments, by
 * the code that would compute them in a compiled model. */
#ifndef TOOLS_EVALUATE_H
#define TOOLS_EVALUATE_H

#include "ir/ir.h"

typedef struct evaluator {
  ir_evaluator_t base; /* base.evaluate, to be given to a module */
  size_t memory_limit; /* of the IR of one evaluation, as for arenas */
  unsigned n_evaluations;
  double seconds; /* that they took in all */
} evaluator_t;

/* The evaluator for a module, or NULL where moec generates no code for the
 * machine that it runs on. Results are those of the baseline variant, one
 * thread: the same bytes on every machine.
 *
 * evaluate() fails with E_INDEX, E_SHAPE, E_VALUE and without a diagnostic
 * where the run fails so, and with one for all other reasons. */
ir_evaluator_t *evaluator_init(evaluator_t *evaluator, size_t memory_limit);

#endif
