/* Reads backwards from a value what an expert computes, as a term. */
#ifndef PASSES_MOE_BUILD_H
#define PASSES_MOE_BUILD_H

#include "passes/moe_facts.h"
#include "passes/moe_term.h"

/* How rows lie in a value. */
typedef enum {
  LAYOUT_ROUTES, /* tokens and slots */
  LAYOUT_SORTED, /* routes sorted by expert: rows of `space` */
  LAYOUT_GROUP,  /* those of one expert among them */
  LAYOUT_ROWS,   /* rows of one expert's mask: of `space`, a nonzero */
  LAYOUT_PIECE,  /* those of one expert among the rows of several masks, one
                    behind the other: as in `space`, a concat of their tokens */
  LAYOUT_DENSE,  /* all tokens, for one expert */
  LAYOUT_STACK,  /* all tokens for all experts */
  LAYOUT_SLOT,   /* all tokens, for the expert of their slot `expert` */
  LAYOUT_BUFFER, /* places of experts' buffers; of one expert's, if >= 0 */
  LAYOUT_PLACES, /* all tokens for all places: a row is what a route has */
} moe_layout_kind_t;

typedef struct moe_layout {
  moe_layout_kind_t kind;
  const moe_source_t *source;
  const ir_op_t *space;
  /* SORTED, ROUTES: -1, or the only one whose rows matter */
  int64_t expert; /* GROUP, ROWS, PIECE, DENSE, BUFFER; of SLOT the slot */
} moe_layout_t;

enum { MOE_LAYOUT_SLOTS = 4096, MOE_MEMO_SLOTS = 1024 };

typedef struct moe_layout_list {
  moe_layout_t layout;
  struct moe_layout_list *next;
} moe_layout_list_t;

typedef struct moe_memo moe_memo_t;
typedef struct moe_shared moe_shared_t;
typedef struct moe_loop moe_loop_t;

typedef struct moe_builder {
  arena_t *arena;
  expr_pool_t *pool;
  moe_facts_t *facts;
  moe_terms_t *terms;
  const ir_op_t *root; /* terms are read in front of it */
  /* Values that several experts compute with: where reading ends if the layout
   * is DENSE. */
  const moe_shared_t *shared;
  const bool *settled; /* results of layers that were found before, by number */
  const bool *plain;   /* sums without a part of any router, by number */
  const bool *matched; /* routers of layers found, by number of their index */
  moe_memo_t **memo;   /* MOE_MEMO_SLOTS lists */
  moe_layout_list_t **layouts; /* each once: MOE_LAYOUT_SLOTS lists */
  struct routed_memo *routed;
  moe_loop_t *loop;           /* whose body is being read, or NULL */
  moe_loop_t *loops;          /* that were read */
  bool grouped;               /* parts of sorted rows were joined */
  const moe_places_t *places; /* of the routes in the buffers at hand */
  /* The places that rows were taken from the buffers at (a BUFFER), and whether
   * it was 0 for routes without one; NULL: none were. */
  const moe_fact_t *taken;
  bool taken_or_zero;
  bool dispatched; /* a product with a gate filled buffers */
  unsigned depth, steps;
  ir_value_t **inner; /* sums over experts of single slots that were read */
  unsigned n_inner;
  /* The first thing that stood in the way, and what it broke. */
  const ir_op_t *blocker;
  const char *obligation;
  /* The first that ended reading at the rows of routes, and did no harm. */
  const ir_op_t *aside_blocker;
  const char *aside;
} moe_builder_t;

/* The one layout object of these; compared by address. */
const moe_layout_t *moe_layout(moe_builder_t *b, moe_layout_kind_t kind,
                               const moe_source_t *source, const ir_op_t *space,
                               int64_t expert);
/* The term of a value whose dimensions have these tags; NULL where it is none
 * (blocker and obligation say why). */
moe_term_t *moe_build(moe_builder_t *b, ir_value_t *value, const uint8_t *tag,
                      const moe_layout_t *layout);

/* Whether a size is the number of rows of an expert (start: of all before it)
 * whatever the routing is. */
bool moe_is_count(moe_facts_t *facts, const moe_source_t *source,
                  int64_t expert, const expr_t *size);
bool moe_is_start(moe_facts_t *facts, const moe_source_t *source,
                  int64_t expert, const expr_t *size);
/* Whether two sizes are equal whatever the routing is; -1, or the expert that
 * they are about. */
bool moe_are_equal(moe_facts_t *facts, const moe_source_t *source,
                   int64_t expert, const expr_t *a, const expr_t *b);
/* The router whose experts' numbers of rows a size has; NULL: it has none. */
const moe_source_t *moe_source_of_size(moe_facts_t *facts, const expr_t *e);
/* Whether a size is the number of all routes. */
bool moe_is_whole(moe_facts_t *facts, const moe_source_t *source,
                  const expr_t *size);
/* A value as it was before rows of other experts were written to it, where each
 * token has one expert: the same at the rows of this one. */
ir_value_t *moe_unwritten(moe_builder_t *b, ir_value_t *value,
                          const moe_source_t *source, int64_t expert);
/* The expert whose sorted rows begin there and are so many, -1: nobody's are.
 */
int64_t moe_expert_of_range(moe_facts_t *facts, const moe_source_t *source,
                            const expr_t *start, const expr_t *length);
/* moe_rows.c: whether an index numbers those of the sorted rows that one expert
 * has, in order: from its start on, or where a mask of all of them is true. */
typedef struct moe_own_rows {
  const moe_source_t *source;
  const ir_op_t *space; /* what has sorted; NULL: anything */
  int64_t expert;
} moe_own_rows_t;
bool moe_own_rows(moe_facts_t *facts, const ir_value_t *index,
                  moe_own_rows_t *out);
/* The layout of one expert's part of sorted rows. */
const moe_layout_t *moe_group_layout(moe_builder_t *b,
                                     const moe_layout_t *sorted,
                                     int64_t expert);
bool moe_are_own_rows(moe_facts_t *facts, const ir_value_t *index,
                      const moe_layout_t *group);
/* Whether the rows where a mask of all experts is true are sorted by expert:
 * each has all of its routes. */
bool moe_sorts_experts(moe_facts_t *facts, const ir_op_t *space);
/* The numbers of all sorted tokens or routes, of which an index takes those of
 * one expert; FACT_NONE: it does not. */
const moe_fact_t *moe_group_of(moe_facts_t *facts, const ir_value_t *index,
                               int64_t *out_expert);
/* Whether two operations make the same rows: of one mask, however shaped. */
bool moe_same_rows(const ir_op_t *a, const ir_op_t *b);

#endif
