/* What one expert computes for one row, apart from how the graph lays rows out.
 *
 * A term is an operation over the features of a row: rows and experts are no
 * dimensions of it. Leaves are a row's token, a row's route, what an expert of
 * its own has (a bank), and what is the same for all. Equal terms are one
 * object, so that forms that differ only in layout become the same term. */
#ifndef PASSES_MOE_TERM_H
#define PASSES_MOE_TERM_H

#include "passes/moe_facts.h"

typedef enum {
  TERM_TOKEN,  /* the row's token in `value` */
  TERM_ROUTE,  /* the row's route in `value`, or `in[0]` of routes */
  TERM_GATE,   /* the row's token and expert in `value` */
  TERM_BANK,   /* the expert in `value`, or each[expert] */
  TERM_STEADY, /* `value` */
  TERM_OP,
  TERM_CHOICE, /* in[expert]: experts of several structures */
  TERM_ARG,    /* what a loop carries, or the number of its trip */
} moe_term_kind_t;

typedef struct moe_term moe_term_t;
struct moe_term {
  moe_term_kind_t kind;
  dtype_t dtype;
  unsigned rank; /* features only */
  const expr_t *const *dim;
  bool rows, banks, tokens; /* depends on the row, the expert, the token */
  bool chooses;             /* has a CHOICE in it */
  bool zero;                /* is 0 whatever the row is */
  unsigned loops;           /* bits: levels of loops whose ARGs it has in it */
  ir_value_t *value;
  const uint8_t *tag; /* of value */
  ir_value_t **each;  /* BANK from separate values */
  unsigned n_each;
  ir_opcode_t code;
  const ir_op_t *model; /* has the attributes of elementwise operations */
  unsigned n;
  moe_term_t *const *in;
  /* TRANSPOSE: perm; REDUCE_*: axes; SOFTMAX, CONCAT, CUM_SUM: axis; SLICE:
   * start, length and step of every dimension, one after the other; ARG: level
   * of its loop, which of the region's arguments, rows; WHILE: level, trips,
   * which result, how many values are carried: in[] has each of these as ARG,
   * then before the first trip, then after a trip, then the row if the result
   * is one
   */
  unsigned n_exprs;
  const expr_t *const *exprs;
  uint64_t hash;
  uint64_t shape;   /* the same in terms that differ in steady values only */
  moe_term_t *next; /* same bucket */
  /* Of the latest expert that it was asked for. */
  uint64_t asked;
  moe_term_t *chosen;
};

typedef struct moe_unified moe_unified_t;

typedef struct moe_terms {
  arena_t *arena;
  expr_pool_t *pool;
  moe_term_t **bucket;
  moe_unified_t **unified;    /* what was asked before */
  const moe_source_t *source; /* the router at hand, or NULL */
  uint64_t n_asked, n_chosen; /* moe_term_chosen: calls, terms looked at */
} moe_terms_t;

void moe_terms_init(moe_terms_t *terms, arena_t *arena, expr_pool_t *pool);
/* Features in a dimension with this tag: it may run over experts, too. */
const expr_t *moe_term_feature(const moe_terms_t *terms, const expr_t *dim,
                               unsigned tag);
/* Leaves. The features are the dimensions of value with TAG_INNER; NULL where
 * there is not one row for each token, route or expert. */
moe_term_t *moe_term_leaf(moe_terms_t *terms, moe_term_kind_t kind,
                          ir_value_t *value, const uint8_t *tag);
/* An operation on terms: code, model, dtype, rank, dim, in and exprs of `what`
 * are copied, all else follows from the operands. */
moe_term_t *moe_term_op(moe_terms_t *terms, const moe_term_t *what);
/* The operation `what` on other operands of the same shapes, as many. */
moe_term_t *moe_term_with(moe_terms_t *terms, const moe_term_t *what,
                          moe_term_t *const *in);
/* Whether features broadcast to those of a result, aligned at the last one. */
bool moe_term_broadcasts(const moe_term_t *x, unsigned rank,
                         const expr_t *const *dim);
/* Whether the product of two matrices, or batches of them, has these features.
 */
bool moe_product_fits(const moe_term_t *x, const moe_term_t *y, unsigned rank,
                      const expr_t *const *dim);
/* A term of single numbers that depend on the route, not on the expert's banks:
 * it is computed for all routes before the experts run. */
moe_term_t *moe_term_computed(moe_terms_t *terms, moe_term_t *term);
/* A number of each token for each slot: n of them, of one type. */
moe_term_t *moe_term_slots(moe_terms_t *terms, unsigned n,
                           moe_term_t *const *each);
moe_term_t *moe_term_reshape(moe_terms_t *terms, moe_term_t *x, unsigned rank,
                             const expr_t *const *dim);
/* A value that a loop carries: dtype, rank, dim, rows, loops, exprs. */
moe_term_t *moe_term_arg(moe_terms_t *terms, const moe_term_t *what);
/* The choice between the terms of n experts, of one type. */
moe_term_t *moe_term_choice(moe_terms_t *terms, unsigned n,
                            moe_term_t *const *member);
/* What one expert computes of a term with choices; NULL where banks are in it,
 * too, or all the experts' terms are too large. */
moe_term_t *moe_term_chosen(moe_terms_t *terms, moe_term_t *term,
                            unsigned expert);
/* Whether two operations are the same but for their operands. */
bool moe_term_alike(const moe_term_t *a, const moe_term_t *b);
/* One term for what n experts compute, member[i] (NULL: nothing), where these
 * differ in steady values only: those become banks. NULL: they differ, as all
 * terms do whose `shape` is not the same. */
moe_term_t *moe_term_unify(moe_terms_t *terms, unsigned n,
                           moe_term_t *const *member);

#endif
