/* Between the files that write layers. */
#ifndef PASSES_MOE_EMIT_INTERNAL_H
#define PASSES_MOE_EMIT_INTERNAL_H

#include "ir/build.h"
#include "passes/moe_emit.h"

typedef struct moe_written {
  const moe_term_t *term;
  ir_value_t *value;
  struct moe_written *next;
} moe_written_t;

enum { MOE_WRITTEN = 256 };

/* A loop that was written. */
typedef struct moe_written_loop {
  const moe_term_t *term;
  ir_op_t *op;
  struct moe_written_loop *next;
} moe_written_loop_t;

/* A loop whose body is being written. */
typedef struct moe_scope {
  unsigned level;
  ir_builder_t builder; /* in the body */
  ir_value_t *trip;
  ir_builder_t *around; /* what the emitter had outside */
  moe_written_t **table_around;
  moe_written_t *table[MOE_WRITTEN];
  moe_written_loop_t *loops;
  struct moe_scope *outer;
} moe_scope_t;

typedef struct moe_emitter {
  pass_ctx_t *ctx;
  const moe_found_t *found;
  moe_limits_t *limits;
  ir_value_t *(*now)(void *user, ir_value_t *value);
  void *user;
  expr_pool_t *pool;
  ir_builder_t *outer, *inner; /* in front of the layer, in the region */
  const expr_t *rows;          /* how many rows `inner` has */
  const moe_term_t **leaf;     /* operands, by kind */
  unsigned n_leaves;
  ir_value_t *route_index; /* [T, k] */
  ir_value_t *token;       /* of each route, where experts choose; else NULL */
  ir_value_t *active;      /* bool[routes]: those that count; NULL: all */
  const ir_op_t *limit;    /* that drops some; NULL: none does */
  moe_written_t **table;   /* what was written: one of these */
  moe_written_t *in_region[MOE_WRITTEN], *in_front[MOE_WRITTEN];
  moe_scope_t *scope; /* NULL: in no loop */
  moe_written_loop_t *loops;
} moe_emitter_t;

/* moe_emit_term.c: what a term, or the rows of one, was written as; NULL: not
 * yet */
const moe_written_t *moe_recall(moe_emitter_t *e, const moe_term_t *term);
void moe_remember(moe_emitter_t *e, const moe_term_t *term, ir_value_t *value);
ir_value_t *moe_write_term(moe_emitter_t *e, const moe_term_t *term);
/* A term in front of the layer, for all routes: [routes, features..]. */
ir_value_t *moe_write_for_routes(moe_emitter_t *e, const moe_term_t *term,
                                 const expr_t *rows);
/* What is computed for routes, or numbers of tokens, slot by slot. */
ir_value_t *moe_operand_of_routes(moe_emitter_t *e, const moe_term_t *leaf);

/* moe_emit_operand.c: the operand that a leaf stands for */
ir_value_t *moe_operand(moe_emitter_t *e, const moe_term_t *leaf);
/* A value that is defined in a region as it can be used in front of the layer:
 * constants, and shapes of them. */
ir_value_t *moe_outside(moe_emitter_t *e, ir_value_t *value);
/* Reorders dimensions: those with a tag of `first` in front, then `second`,
 * then the rest. */
ir_value_t *moe_bring_forward(ir_builder_t *b, ir_value_t *x,
                              const uint8_t *tag, unsigned first,
                              unsigned second);
/* x[lead, dim..]; lead: NULL for none */
ir_value_t *moe_with_dims(ir_builder_t *b, ir_value_t *x, const expr_t *lead,
                          unsigned rank, const expr_t *const *dim);
/* Dimensions that run over several things become one for each: how many. */
unsigned moe_split_type(const moe_emitter_t *e, const ir_type_t *type,
                        const uint8_t *tag, const expr_t **out_dim,
                        uint8_t *out_tag);

/* moe_emit_loop.c: a loop, and the number of a trip of one whose body is being
 * written */
ir_value_t *moe_write_loop(moe_emitter_t *e, const moe_term_t *term);
ir_value_t *moe_write_trip(moe_emitter_t *e, const moe_term_t *term);

#endif
