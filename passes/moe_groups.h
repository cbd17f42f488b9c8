/* Between the files of the moe_groups pass.
 *
 * Values are looked at in C order as [tokens, groups, width], or turned as
 * [groups, tokens, width]; or each group has a value of its own, [tokens,
 * width]. What is written instead is [tokens, k, width]: the groups that each
 * token chose. */
#ifndef PASSES_MOE_GROUPS_H
#define PASSES_MOE_GROUPS_H

#include "ir/build.h"
#include "passes/pass.h"

typedef enum {
  GROUP_GATHERED, /* taken from the value for all groups */
  GROUP_OWN,      /* the same for all tokens */
  GROUP_TOKEN,    /* the same for all groups */
  GROUP_ONE,      /* one number */
  GROUP_SAME,     /* in[0] in other words */
  GROUP_TURN,     /* in[0] with the dimensions behind the groups reordered */
  GROUP_ELEMENTS, /* an elementwise operation, or expand */
  GROUP_ROWS,     /* an operation on what each token and group has */
  GROUP_UPDATES,  /* what was scattered to the chosen groups */
  GROUP_PRODUCT,  /* rows of tokens by a matrix of each group */
} group_kind_t;

typedef struct group_node {
  group_kind_t kind;
  ir_value_t **x; /* one value, or one for each group */
  unsigned n;
  const expr_t *width;
  bool turned;
  unsigned lead; /* ROWS, TURN: dimensions in front of the inner ones */
  unsigned n_in;
  struct group_node **in;
  ir_value_t *value; /* written */
  ir_op_t *op;       /* ROWS: written */
  struct group_node *next;
} group_node_t;

typedef struct groups {
  pass_ctx_t *ctx;
  expr_pool_t *pool;
  ir_value_t *chosen; /* integers in [0, n_groups), in C order [T, n] */
  bool distinct;      /* no group twice for a token */
  const expr_t *T, *G, *k;
  int64_t n_groups, n_chosen;
  int64_t n_wanted; /* k: the chosen groups, and perhaps more, in order */
  group_node_t *nodes;
  unsigned steps;
  /* While writing: */
  ir_builder_t *b;
  ir_value_t *at; /* i64[T, k] */
} groups_t;

enum { GROUP_OF_TOKEN = 1, GROUP_OF_GROUP = 2, GROUP_OF_WIDTH = 4 };

/* What each dimension runs over, of a value that in C order has these sizes:
 * tokens and groups, or the other way round, or tokens only (n > 1: each group
 * has its own); then width. False where the shape is another. */
bool groups_classify(const groups_t *g, const ir_type_t *type, bool turned,
                     bool own, const expr_t *width, uint8_t *out);
/* How x of all groups is computed for the chosen ones; NULL if its shape is
 * not what is said. */
group_node_t *groups_plan(groups_t *g, ir_value_t *x, const expr_t *width);
/* Its value [T, k, width]. */
ir_value_t *groups_write(groups_t *g, group_node_t *node);

/* Columns that a product computes for a token: of all groups, of the chosen
 * ones. */
void groups_columns(const groups_t *g, const group_node_t *product,
                    int64_t *out_all, int64_t *out_chosen);

#endif
