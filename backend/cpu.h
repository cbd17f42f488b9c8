/* The machine that moec runs on, as the runtime sees it (runtime/cpu.c,
 * compiled for the host), so that moec never disagrees with compiled models.
 * Declared again because runtime/runtime.h has names that ir/ uses for other
 * things. */
#ifndef BACKEND_CPU_H
#define BACKEND_CPU_H

#include "backend/emit.h"
#include "moec/rtabi.h"

uint64_t cpu_features(void); /* MOERT_CPU_* bits */
int32_t cpu_count(void);     /* processors that this process may run on */

const char *cpu_arch(void); /* as in targets.def */
bool cpu_runs(const isa_t *isa);

#endif
