/* Red zones in the memory of instances. The runtime that moec built with
 * AddressSanitizer loads into itself (backend/jit.c) is compiled with
 * MOERT_GUARDED; in compiled models nothing of this is left. */
#ifndef RUNTIME_GUARD_H
#define RUNTIME_GUARD_H

#include <stdint.h>

#include "runtime/libc.h"

#ifdef MOERT_GUARDED

enum { RT_GUARD_BYTES = 64 }; /* behind each slot of the workspace */

void __asan_poison_memory_region(const void *memory, size_t bytes);
void __asan_unpoison_memory_region(const void *memory, size_t bytes);

/* Of `reserved` bytes only the first `used` may be touched from now on. */
static inline void guard_tail(char *memory, uint64_t used, uint64_t reserved) {
  if (memory == NULL) return;
  __asan_unpoison_memory_region(memory, reserved);
  if (used < reserved)
    __asan_poison_memory_region(memory + used, reserved - used);
}

/* Bytes that make no sense as numbers, indices or pointers. */
static inline void guard_fill(char *memory, uint64_t bytes) {
  if (memory != NULL) memset(memory, 0xa5, bytes);
}

#else

enum { RT_GUARD_BYTES = 0 };

static inline void guard_tail(char *memory, uint64_t used, uint64_t reserved) {
  (void)memory, (void)used, (void)reserved;
}

static inline void guard_fill(char *memory, uint64_t bytes) {
  (void)memory, (void)bytes;
}

#endif
#endif
