/* Experts that no input needs: what can be read off constants, bounds of
 * values, and what is done about it. Shared by passes/moe_prune*.c. */
#ifndef PASSES_MOE_PRUNE_H
#define PASSES_MOE_PRUNE_H

#include "ir/build.h"
#include "ir/route.h"
#include "passes/moe_report.h"
#include "passes/pass.h"

/* ---- Constants, seen through views --------------------------------------- */

typedef struct prune_array {
  const uint8_t *bytes;
  dtype_t dtype;
  unsigned rank;
  int64_t dim[IR_MAX_RANK], stride[IR_MAX_RANK]; /* in elements */
  int64_t offset;
} prune_array_t;

/* Where values within a region of moe.experts come from: operands of that
 * operation, banks by one element. An `experts` of NULL: no region. */
typedef struct prune_scope {
  const ir_op_t *experts;
  unsigned region;
  int64_t element;
} prune_scope_t;

/* False where v is not known while compiling, or no view of one constant. */
bool prune_find_array(const prune_scope_t *scope, const ir_value_t *v,
                      prune_array_t *out);
/* Element `index` (int64_t[rank]) as a double. */
double prune_at(const prune_array_t *a, const int64_t *index);
/* The operand that argument `index` of the scope's region stands for. */
const ir_value_t *prune_operand(const prune_scope_t *scope, unsigned index);
unsigned prune_value_count(const ir_op_t *experts); /* tokens' and routes' */

/* Elements i and j (along axis 0) of a bank have the same bits. A false means
 * nothing. */
bool prune_equal_elements(const ir_value_t *bank, int64_t i, int64_t j);
/* The same for elements that have equal bits; looks at a few of them. */
uint64_t prune_sample(const ir_value_t *bank, int64_t i);

/* The elements of a bank that are listed, ascending; NULL where that would be
 * work for a run, or somebody else has the bank too. Built at *b; constants are
 * views of the old ones. */
ir_value_t *prune_select(ir_builder_t *b, ir_value_t *bank, int64_t n,
                         const int64_t *element);

/* ---- Bounds ----------------------------------------------------------------
 *
 * Of what is computed, rounding included, for all inputs for which computed
 * values are finite where nothing is masked. So [-PRUNE_ANY, PRUNE_ANY] is
 * every number; -inf stands for -inf only. */

#define PRUNE_ANY 1e300

typedef struct prune_range {
  double lo, hi; /* NaN where nothing holds */
} prune_range_t;

/* By number along the last axis; n = 1 also where all have the same range. */
typedef struct prune_ranges {
  int64_t n;
  const prune_range_t *range;
} prune_ranges_t;

typedef struct prune_bounds prune_bounds_t; /* remembers what it found */

/* Looks through so many products, one behind the other. */
prune_bounds_t *prune_bounds_create(arena_t *arena, unsigned products);
/* Of values in a region of moe.experts, for one element of its banks; values
 * from outside are bounded by `outside`. */
prune_bounds_t *prune_bounds_within(arena_t *arena, prune_scope_t scope,
                                    prune_bounds_t *outside);
/* Of values where `index` takes one row out of tables, by number. */
prune_bounds_t *prune_bounds_of_row(arena_t *arena, const ir_value_t *index,
                                    int64_t row);
prune_ranges_t prune_ranges_of(prune_bounds_t *bounds, const ir_value_t *v);
static inline prune_range_t prune_range_at(const prune_ranges_t *r, int64_t i) {
  return r->range[r->n == 1 ? 0 : i];
}
static inline bool prune_is_zero(prune_range_t r) {
  return r.lo == 0 && r.hi == 0;
}
static inline bool prune_is_bounded(prune_range_t r) {
  return r.lo > -PRUNE_ANY && r.hi < PRUNE_ANY;
}
/* The result of an elementwise operation of one or two operands that has the
 * type dtype. */
prune_range_t prune_compute(ir_opcode_t code, dtype_t dtype, prune_range_t a,
                            prune_range_t b);
/* Softmax over n numbers, in place. */
void prune_softmax(dtype_t dtype, int64_t n, prune_range_t *range);
/* Moves bounds by a relative error that computing in dtype may have. */
prune_range_t prune_widen(dtype_t dtype, prune_range_t r);

/* What rows of a product's first operand can be: x = gamma * u + beta with
 * |u| <= radius, or each x[i] within a range. */
typedef struct prune_domain {
  int64_t n;
  bool is_ball;
  double radius;
  const double *gamma, *beta; /* double[n] */
  prune_ranges_t box;
  double epsilon; /* relative error of an x[i] */
} prune_domain_t;

void prune_domain_of(prune_bounds_t *bounds, const ir_value_t *x,
                     prune_domain_t *out);
/* For an argument of a region that is a token's value what it is outside, else
 * v. */
const ir_value_t *prune_token_value(const prune_bounds_t *bounds,
                                    const ir_value_t *v);
bool prune_is_limited(const prune_domain_t *domain);
/* The only bound is on the row's length. */
bool prune_is_ball(const prune_domain_t *domain);
/* Memory for what is found. */
arena_t *prune_arena(const prune_bounds_t *bounds);
/* What sum(w[i] * x[i]) can be, as a product of that type computes it;
 * *out_slack is what rounding may add to either side. */
prune_range_t prune_dot(const prune_domain_t *domain, dtype_t dtype,
                        const double *w, double *out_slack);

/* ---- One layer ----------------------------------------------------------- */

typedef struct prune {
  pass_ctx_t *ctx;
  ir_op_t *experts;
  ir_op_t *route; /* whose experts these are; NULL: not known */
  route_t r;
  bool only_scales; /* the routes' weights multiply results, and nothing else */
  int64_t E;
  int64_t *structure, *position; /* int64_t[E], as they shall be */
  bool *is_dead;                 /* never selected: bool[E] */
  moe_layer_t *layer;            /* of the report, or NULL */
  bool changed;
} prune_t;

/* Notes why an expert is not computed. The other members are the caller's to
 * set; NULL: nobody wants to know. */
moe_pruning_t *prune_tell(prune_t *p, moe_pruning_rule_t rule, int64_t expert);

/* Finds experts that no token can have, or with weight 0 only; their structure
 * becomes -1. */
void prune_unreachable(prune_t *p);
/* Of these, experts whose choices equal those of k others to the bit. */
void prune_tied(prune_t *p);
/* Of these, experts whose logits lie between those of others. */
void prune_hull(prune_t *p);
/* Experts that no row of a constant table chooses, where the router's input is
 * one. */
void prune_enumerated(prune_t *p);
/* Bounds of what is compared: range[E]; NULL where an expert may be chosen from
 * groups that are not kept. */
const prune_range_t *prune_choices(prune_t *p, prune_bounds_t *bounds);
/* Takes out neurons that no expert of a structure needs; after the others. */
moec_status_t prune_neurons(prune_t *p);
/* Whether there are few enough experts to look at what each of them computes.
 */
bool prune_may_bound(const prune_t *p);
/* Whether bounds of tokens' values can help: what a maximum cuts off. */
bool prune_has_maximum(const ir_region_t *region);
/* Takes experts that are never chosen out of the router and changes numbers;
 * to be called last. */
moec_status_t prune_gate(prune_t *p);
/* Finds experts whose results are 0. */
void prune_zeros(prune_t *p);
/* Finds experts that compute the same as one with a lower number. */
void prune_duplicates(prune_t *p);
/* The same but for the order of their neurons. */
void prune_permuted(prune_t *p);

#endif
