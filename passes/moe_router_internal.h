/* What the parts of the matcher of routers share.
 *
 * All values are looked at in C order as [T, W]: T tokens, each with W elements
 * side by side: scores of E experts, or k weights, or one number. Views that
 * keep that order are seen through; operations along an axis are understood
 * where that axis has W elements and only axes of 1 follow. */
#ifndef PASSES_MOE_ROUTER_INTERNAL_H
#define PASSES_MOE_ROUTER_INTERNAL_H

#include "passes/moe_router.h"
#include "passes/rules.h"

enum { ROUTER_MAX_COLUMNS = 16, ROUTER_MAX_LINKS = 32 };

typedef struct matcher {
  pass_ctx_t *ctx;
  moe_router_t *out;
  /* Selection: one value i64[T, k], or by rounds a column for each. */
  bool rounds;
  ir_value_t *expert; /* [T, k], seen through views; NULL: columns only */
  const ir_op_t *topk;
  unsigned n_columns;
  ir_value_t *column[ROUTER_MAX_COLUMNS]; /* i64[T, 1] of each round */
  ir_value_t *choice[ROUTER_MAX_COLUMNS]; /* [T, E] of each round */
} matcher_t;

/* One step back from a value of scores [T, E]. */
typedef enum { LINK_STEP, LINK_VECTOR, LINK_GROUPS } link_kind_t;
typedef struct link {
  link_kind_t kind;
  ir_value_t *value; /* what it gives */
  step_info_t step;
  double number;
  ir_value_t *vector; /* added to the scores of every token */
  int64_t groups, group_best, groups_kept;
  double fill;
  bool multiply;
} link_t;
typedef struct chain {
  unsigned n;
  link_t link[ROUTER_MAX_LINKS]; /* from the value back */
  ir_value_t *root;
} chain_t;

/* Remembers an operation as one of the router's. */
void router_note(matcher_t *m, const ir_op_t *op);
/* The value behind views that keep the order of elements. */
ir_value_t *router_strip(matcher_t *m, ir_value_t *x);
/* The same for integers, also through conversions that keep numbers below n. */
ir_value_t *router_strip_index(matcher_t *m, ir_value_t *x, int64_t n);
/* The value is [T, width]. */
bool router_has_rows(const matcher_t *m, const ir_value_t *x, int64_t width);
/* Whether `axis` has `width` elements and only axes of 1 follow. */
bool router_is_row(const ir_type_t *type, int64_t axis, int64_t width);
/* Whether a reduction or the like runs over that axis only. */
bool router_reduces_row(const ir_op_t *op, int64_t width);
/* y has one number for each row of x[T, width]. */
bool router_is_per_row(const ir_type_t *y, const ir_type_t *x, int64_t width);

/* If value[0..n) are all the same step of other values (which replace them):
 * elementwise, conversion, softmax over `width`. */
bool router_step(matcher_t *m, unsigned n, ir_value_t **value, int64_t width,
                 step_info_t *out_step, double *out_number);

/* Whether x[T, W] has two values: out[1] where the element's number is among
 * index[T, ..], out[0] elsewhere. */
bool router_is_membership(matcher_t *m, ir_value_t *x, ir_value_t *index,
                          int64_t width, double out[2]);
/* The index values that such a value is about, or NULL: its leaf. */
ir_value_t *router_membership_index(matcher_t *m, ir_value_t *x, int64_t width,
                                    double out[2]);

/* The chain back from scores x[T, E]. */
void router_chain(matcher_t *m, ir_value_t *x, chain_t *out);

bool router_match_selection(matcher_t *m, ir_value_t *expert);
bool router_match_weight(matcher_t *m, ir_value_t *weight);

#endif
