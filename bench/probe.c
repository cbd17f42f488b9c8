/* The limits of the machine for programs that load a library: see limits.h. */
#include "bench/limits.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT double probe_operations(const char *name, unsigned threads,
                               double seconds);
EXPORT double probe_read(const void *data, size_t bytes, unsigned threads,
                         unsigned passes);
EXPORT void *probe_buffer(size_t bytes);
EXPORT double probe_fork_join(unsigned rounds);

/* Operations per second of the widest form that the machine has; 0: of none. */
double probe_operations(const char *name, unsigned threads, double seconds) {
  for (unsigned bits = 512; bits >= 128; bits /= 2) {
    const limits_kind_t *kind = limits_kind_find(name, bits);
    if (kind != NULL) return limits_operations(kind, threads, seconds);
  }
  return 0;
}

double probe_read(const void *data, size_t bytes, unsigned threads,
                  unsigned passes) {
  return limits_read(data, bytes, threads, passes);
}

void *probe_buffer(size_t bytes) { return limits_buffer(bytes); }

double probe_fork_join(unsigned rounds) { return limits_fork_join(rounds); }
