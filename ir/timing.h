/* What a compilation spends its time on: rows that passes and the backend add
 * and the command line prints. */
#ifndef IR_TIMING_H
#define IR_TIMING_H

#include "ir/arena.h"

typedef enum {
  TIMING_STAGE, /* wall time of a stage; its parts have come before it */
  TIMING_PASS,  /* wall time of a pass, a part of its stage */
  TIMING_CODE,  /* processor time of one variant's code, all threads together */
} timing_kind_t;

typedef struct timing {
  timing_kind_t kind;
  const char *name;
  double seconds; /* in all */
  long rewrites;  /* of a pass, else 0 */
  /* Of TIMING_CODE: what `seconds` are made of, and for how many kernels. */
  double emit, optimise, generate;
  unsigned n_kernels;
  struct timing *next;
} timing_t;

typedef struct timings {
  arena_t *arena;
  timing_t *first, *last;
} timings_t;

void timings_init(timings_t *timings, arena_t *arena);
/* Appends a copy of the row; its name is not copied. NULL timings take none. */
void timings_add(timings_t *timings, const timing_t *row);

double timing_wall(void);   /* seconds since some fixed point */
double timing_thread(void); /* processor time of the calling thread */

#endif
