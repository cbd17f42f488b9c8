/* Where the hidden features of an expert are: columns of what stands in front
 * of its last product, each of which is computed by itself. */
#ifndef PASSES_MOE_PRUNE_NEURONS_H
#define PASSES_MOE_PRUNE_NEURONS_H

#include "passes/moe_prune.h"

enum { NEURONS_OPS = 64, NEURONS_LEAVES = 8, NEURONS_SLICES = 4 };

/* A bank with an axis of neurons: of all of them, or of the columns that the
 * slices take out of it. */
typedef struct leaf {
  unsigned arg;  /* of the region */
  unsigned axis; /* of the argument */
  bool sliced;
} leaf_t;

typedef struct neurons {
  prune_t *p;
  unsigned region;
  ir_region_t *body;
  const ir_op_t *product; /* the last one */
  int64_t F, kept;
  unsigned n_ops, n_leaves, n_slices;
  ir_op_t *op[NEURONS_OPS];  /* those that work on neurons */
  bool is_wide[NEURONS_OPS]; /* on what is sliced */
  leaf_t leaf[NEURONS_LEAVES];
  ir_op_t *slice[NEURONS_SLICES];
  int64_t first[NEURONS_SLICES], step[NEURONS_SLICES]; /* their columns */
  int64_t wide; /* how many there are to be sliced; 0: nothing is */
  int64_t n_elements;
  int64_t *element; /* of the banks, ascending, those that experts have */
  bool **is_dead;   /* bool[n_elements][F] */
} neurons_t;

/* Those of a region; NULL where they are not seen, or somebody else sees them.
 */
neurons_t *prune_find_neurons(prune_t *p, unsigned region);

#endif
