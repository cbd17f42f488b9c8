/* Points around the origin, for passes/moe_prune_hull.c. */
#ifndef PASSES_MOE_PRUNE_HULL_H
#define PASSES_MOE_PRUNE_HULL_H

#include "ir/arena.h"

/* Points of d numbers, and what each costs. */
typedef struct cloud {
  int64_t d, n;
  const double *point; /* double[n][d], none larger than 1 */
  const double *cost;  /* double[n] */
  bool *is_used;       /* not to be taken */
} cloud_t;

/* Memory for cloud_find. */
typedef struct pivots pivots_t;
pivots_t *cloud_begin(arena_t *arena, int64_t d);

/* Finds d + 1 points with the origin between them, of little cost; takes away
 * from *work what that costs. A guess, to be checked by simplex_check. */
bool cloud_find(const cloud_t *c, pivots_t *s, int64_t *work, int64_t *out);

/* d + 1 points and what is proved of them. */
typedef struct simplex {
  int64_t d;
  const double *point;   /* double[d + 1][d], none larger than 1 */
  double radius;         /* a ball around the origin lies within, of at least
                            this radius, and of 1 at most */
  double *weight;        /* the origin is their mean with these weights .. */
  double *error;         /* .. which are off by this much at most */
  double *matrix, *work; /* double[(d + 1)^2], double[(d + 1)^2] */
} simplex_t;

simplex_t *simplex_begin(arena_t *arena, int64_t d);
/* Proves it with all rounding counted, whatever the points are; false if they
 * are not around the origin. */
bool simplex_check(simplex_t *s, const double *point);

#endif
