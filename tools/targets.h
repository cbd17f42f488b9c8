/* The targets and their variants as tables, for people. */
#ifndef TOOLS_TARGETS_H
#define TOOLS_TARGETS_H

#include "backend/emit.h"

/* Names of MOERT_CPU_* bits, joined with ' '; "none". */
const char *targets_features(arena_t *arena, uint64_t bits);

/* What keeps a variant from being generated or from running here; NULL:
 * nothing. *out_generated tells whether LLVM makes code for it. */
const char *targets_obstacle(arena_t *arena, const isa_t *isa,
                             bool *out_generated);

/* The variant that models use here, or NULL. */
const isa_t *targets_best(void);

/* `moec --print-targets`: what this machine can run included. */
void targets_print(text_t *out);

/* docs/reference/targets.md: the same for every machine. */
void targets_document(text_t *out);

#endif
