/* What the machine at hand can do at most: arithmetic out of registers, reading
 * memory in sequence, starting and joining a thread. Benchmarks hold their
 * figures against these, measured in the same run.
 *
 * Every function takes a short sample, so that a benchmark can run limit and
 * subject alternately: on shared machines only ratios of neighbours count.
 * Rates are over the time that threads ran: waiting for a processor that others
 * use is no property of the machine. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

enum { LIMITS_MAX_THREADS = 256 };

/* One kind of arithmetic: multiply-add of a type at a vector width. */
typedef struct limits_kind {
  const char *name;  /* "f32", "bf16 dot" */
  unsigned bits;     /* of a vector */
  bool fused;        /* false: separate multiplication and addition */
  double operations; /* of one round: a product and a sum count as two */
  bool (*available)(void);
  void (*rounds)(size_t count);
} limits_kind_t;

size_t limits_kind_count(void);
const limits_kind_t *limits_kind_at(size_t index);
/* By name and width; NULL when the table or the machine lacks it. */
const limits_kind_t *limits_kind_find(const char *name, unsigned bits);

/* Operations per second of `threads` threads together over about `seconds`. */
double limits_operations(const limits_kind_t *kind, unsigned threads,
                         double seconds);

/* Seconds in which one thread reads `bytes` (a multiple of 4096) once, in
 * sequence, with the widest loads. */
double limits_read_once(const void *data, size_t bytes);
/* Bytes per second of `threads` threads, each reading its share of a buffer
 * larger than the last cache `passes` times. The buffer was written before. */
double limits_read(const void *data, size_t bytes, unsigned threads,
                   unsigned passes);
/* A buffer of written pages, 4096-aligned; release with free. Aborts without
 * memory. */
void *limits_buffer(size_t bytes);
/* Bytes that do not fit any cache: four times the largest, at least 64 MiB. */
size_t limits_uncached_bytes(void);

/* Median seconds from handing a task to one spinning thread until its end was
 * seen, over `rounds` tasks; both threads run all the time. */
double limits_fork_join(unsigned rounds);

unsigned limits_processors(void);
double limits_clock(void);        /* seconds, monotonic */
double limits_thread_clock(void); /* seconds that this thread has run */
double limits_median(double *samples, size_t count); /* sorts them */

#endif
