/* Random small tensor graphs, for comparing one compilation with another. */
#ifndef TESTS_E2E_RANDOM_GRAPH_H
#define TESTS_E2E_RANDOM_GRAPH_H

#include "ir/ir.h"

enum {
  GRAPH_MAX_SYMBOL = 40, /* largest size that a symbol takes at run time */
  GRAPH_MAX_INPUTS = 5,
  GRAPH_MAX_OUTPUTS = 4
};

/* Deterministic random numbers; any seed will do. */
typedef struct random_state {
  uint64_t state;
} random_t;

uint64_t random_next(random_t *r);
/* 0 <= result < n */
unsigned random_below(random_t *r, unsigned n);

typedef struct graph_output {
  dtype_t dtype;
  /* How far from the exact value an element may be computed. 0: every correct
   * compilation gives the same bits, because nothing but single operations,
   * each rounded once, and sums of whole numbers that are exact lead there. */
  double error;
} graph_output_t;

typedef struct graph {
  ir_module_t *module;
  unsigned n_inputs, n_outputs;
  ir_type_t input[GRAPH_MAX_INPUTS];
  bool wild[GRAPH_MAX_INPUTS]; /* integers of any size, not only small ones */
  graph_output_t output[GRAPH_MAX_OUTPUTS];
} graph_t;

/* Builds a graph over symbols named B and S in a fresh module of `arena`. */
void graph_build(random_t *r, arena_t *arena, diag_sink_t *diag,
                 graph_t *out_graph);
/* Fills the bytes of an input with `count` elements. */
void graph_fill_input(random_t *r, const graph_t *graph, unsigned input,
                      void *bytes, uint64_t count);

#endif
