/* The runtime's own view of the processor (runtime/cpu.c, compiled for the
 * host), so that the tools never disagree with compiled models. Declared again
 * because runtime/runtime.h has names that ir/ uses for other things. */
#ifndef TOOLS_CPU_H
#define TOOLS_CPU_H

#include <stdint.h>

uint64_t cpu_features(void); /* MOERT_CPU_* bits */
int32_t cpu_count(void);     /* processors that this process may run on */

#endif
