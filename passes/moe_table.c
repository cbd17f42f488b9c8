/* Routers that are integers: of a table, a hash, or an input.
 *
 * Nothing in front of such a number says that it names an expert; its uses do.
 * It picks matrices among weights, or results among those of a stack, or it is
 * compared with several numbers. As an index, a negative number counts from the
 * end, and one out of range ends the run; in a comparison both name nothing. So
 * unless the number's bounds are known, the experts are written anew: taken out
 * of 0, 1, .. by the same index, or found by comparing. */
#include "passes/moe_table.h"

#include <math.h>
#include <stdlib.h>

#include "ir/build.h"
#include "ir/element.h"
#include "passes/moe_integers.h"
#include "passes/moe_picks.h"

enum {
  MAX_EXPERTS = 1 << 16,
  MAX_COMPARED = 1 << 12,
  MAX_TABLES = 64,
  MAX_STEPS = 64,
};

typedef struct candidate {
  ir_value_t *value;
  int64_t indexed;  /* size of what it is an index of; 0: of nothing */
  bool has_slots;   /* the last dimension is taken apart */
  bool has_default; /* something else is chosen for all other numbers */
  unsigned n, room; /* numbers that it is compared with, perhaps repeated */
  int64_t *compared;
  struct candidate *next;
} candidate_t;

typedef struct finder {
  pass_ctx_t *ctx;
  moe_facts_t *facts;
  candidate_t **of; /* by number of the value */
  candidate_t *first, **last;
  unsigned n;
} finder_t;

/* ---- What may be a router ------------------------------------------------ */

static bool is_integer(const ir_value_t *value) {
  return value != NULL && value->type.kind == IR_TENSOR &&
         dtype_is_integer(value->type.dtype);
}

bool moe_depends_on_data(const ir_value_t *value, unsigned *steps) {
  if (value == NULL || value->content != NULL || *steps == 0) return false;
  --*steps;
  const ir_op_t *op = value->def;
  if (op == NULL) return true;
  for (unsigned i = 0; i < op->n_in; i++)
    if (moe_depends_on_data(op->in[i].value, steps)) return true;
  return false;
}

/* Constants, and what is computed of them alone. */
static bool is_weights(const ir_value_t *value, unsigned *steps) {
  if (value == NULL) return true;
  if (value->def == NULL || value->def->n_regions > 0 || *steps == 0)
    return false;
  --*steps;
  for (unsigned i = 0; i < value->def->n_in; i++)
    if (!is_weights(value->def->in[i].value, steps)) return false;
  return true;
}

/* One slot of several: [.., k] to [.., 1]. */
static bool takes_slot(const ir_op_t *op) {
  const ir_type_t *from = &op->in[0].value->type;
  unsigned last = from->rank - 1;
  int64_t k;
  enum { MAX_SLOTS = 64 };
  if (from->rank < 2 || !expr_is_const(from->dim[last], &k) || k < 2 ||
      k > MAX_SLOTS || !rule_is_one(op->out[0].type.dim[last]))
    return false;
  for (unsigned d = 0; d < last; d++)
    if (!rule_slices_all(op, d)) return false;
  return true;
}

/* The integers behind views and wider types; `grown`: also behind copies along
 * features. */
static ir_value_t *behind_views(ir_value_t *value, bool grown,
                                bool *out_slots) {
  for (unsigned i = 0; value->def != NULL && i < MAX_STEPS; i++) {
    const ir_op_t *op = value->def;
    bool passes = op->code == OP_RESHAPE || (grown && op->code == OP_EXPAND);
    if (op->code == OP_CAST)
      passes = rule_cast_holds(op->in[0].value->type.dtype, value->type.dtype);
    if (op->code == OP_SLICE && takes_slot(op)) passes = *out_slots = true;
    if (!passes || !is_integer(op->in[0].value)) break;
    value = op->in[0].value;
  }
  return value;
}

static candidate_t *candidate_of(finder_t *f, ir_value_t *index, bool grown) {
  bool slots = false;
  if (!is_integer(index) || moe_fact(f->facts, index)->kind == FACT_EXPERT)
    return NULL;
  ir_value_t *value = behind_views(index, grown, &slots);
  unsigned steps = 1000;
  if (value->type.rank == 0 || value->number >= f->facts->n_values) return NULL;
  candidate_t *c = f->of[value->number];
  if (c == NULL) {
    if (f->n >= MAX_TABLES || moe_fact(f->facts, value)->kind != FACT_NONE ||
        !moe_depends_on_data(value, &steps))
      return NULL;
    c = f->of[value->number] = ARENA_NEW(f->ctx->scratch, candidate_t);
    c->value = value;
    *f->last = c;
    f->last = &c->next;
    f->n++;
  }
  c->has_slots = c->has_slots || slots;
  return c;
}

/* ---- Its uses ------------------------------------------------------------ */

static void note_index(candidate_t *c, const expr_t *size) {
  int64_t n;
  if (c != NULL && c->indexed == 0 && expr_is_const(size, &n) && n >= 2 &&
      n <= MAX_EXPERTS)
    c->indexed = n;
}

/* Matrices, or filters: two dimensions above 1 beside the one of the index. */
static bool are_matrices(const ir_type_t *type, unsigned axis) {
  unsigned n = 0;
  for (unsigned d = 0; d < type->rank; d++)
    n += d != axis && !rule_is_one(type->dim[d]);
  return n >= 2;
}

static bool is_view(const ir_op_t *op) {
  return op->code == OP_RESHAPE || op->code == OP_TRANSPOSE ||
         op->code == OP_CAST;
}

/* Rows that become matrices, one for each index, that something is multiplied
 * by. */
static bool become_matrices(const ir_op_t *gather) {
  const ir_value_t *value = &gather->out[0];
  unsigned lead = gather->in[1].value->type.rank;
  for (unsigned i = 0; i < MAX_STEPS && value->uses != NULL; i++) {
    const ir_op_t *user = value->uses->user;
    if (user->code == OP_MATMUL) {
      const ir_type_t *type = &value->type;
      return type->rank >= lead + 2 &&
             !rule_is_one(type->dim[type->rank - 1]) &&
             !rule_is_one(type->dim[type->rank - 2]);
    }
    if (!is_view(user)) return false;
    value = &user->out[0];
  }
  return false;
}

/* Rows of which are one-hot vectors. */
static bool is_unit_matrix(const ir_value_t *value) {
  enum { MAX_UNIT = 512 };
  int64_t n, m;
  if (value->type.rank != 2 || !expr_is_const(value->type.dim[0], &n) ||
      !expr_is_const(value->type.dim[1], &m) || n != m || n < 2 || n > MAX_UNIT)
    return false;
  for (int64_t i = 0; i < n * n; i++) {
    double x;
    if (!moe_constant_element(value, i, &x) || x != (i / n == i % n ? 1 : 0))
      return false;
  }
  return true;
}

static void see_gather(finder_t *f, const ir_op_t *op) {
  const ir_type_t *from = &op->in[0].value->type;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  unsigned steps = 100;
  const expr_t *experts;
  if (axis < 0) axis += from->rank;
  ir_value_t *number = axis == 0 ? moe_flat_candidate(op, &experts) : NULL;
  if (number != NULL && dtype_is_float(from->dtype))
    note_index(candidate_of(f, number, false), experts);
  if (!dtype_is_float(from->dtype) || !is_weights(op->in[0].value, &steps) ||
      (!are_matrices(from, (unsigned)axis) && !become_matrices(op) &&
       (axis != 0 || !is_unit_matrix(op->in[0].value))))
    return;
  note_index(candidate_of(f, op->in[1].value, false), from->dim[axis]);
}

/* What all experts made of a token, side by side: results are taken by an index
 * that is the same for all features. */
static bool is_stack(const ir_value_t *value, const expr_t *size) {
  enum { MAX_VIEWS = 8 };
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    if (op->code == OP_CONCAT) return expr_equals_const(size, op->n_in);
    if (op->code == OP_MATMUL) return true;
    if (!is_view(op) && !ir_has_trait(op, ELEMENTWISE)) return false;
    value = op->in[0].value;
  }
  return false;
}

/* Tuples of the number of each row and of something else. */
static void see_tuples(finder_t *f, const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type;
  const ir_op_t *pair = op->in[1].value->def;
  if (pair == NULL || pair->code != OP_CONCAT || pair->n_in != 2 ||
      x->rank < 3 ||
      ir_get_int(pair, ATTR_CONCAT_axis) != (int64_t)pair->out[0].type.rank - 1)
    return;
  for (unsigned i = 0; i < 2; i++) {
    const ir_value_t *row = pair->in[1 - i].value;
    bool counts = false;
    while (row->def != NULL &&
           (row->def->code == OP_CAST || row->def->code == OP_EXPAND))
      row = ir_in(row->def, 0);
    for (unsigned d = 0; d < row->type.rank && !counts; d++)
      counts = row->type.dim[d] == x->dim[1 - i] && rule_counts_along(row, d);
    if (counts && is_stack(op->in[0].value, x->dim[i]))
      note_index(candidate_of(f, pair->in[i].value, true), x->dim[i]);
  }
}

static void see_pick(finder_t *f, const ir_op_t *op) {
  const ir_value_t *x = op->in[0].value;
  int64_t axis = op->code == OP_GATHER_ND
                     ? ir_get_int(op, ATTR_GATHER_ND_batch_dims)
                     : ir_get_int(op, ATTR_GATHER_ELEMENTS_axis);
  if (axis < 0) axis += x->type.rank;
  if (!dtype_is_float(x->type.dtype)) return;
  if (op->code == OP_GATHER_ND && axis == 0) see_tuples(f, op);
  if (axis == 0 || !is_stack(x, x->type.dim[axis])) return;
  note_index(candidate_of(f, op->in[1].value, true), x->type.dim[axis]);
}

/* Something written at the experts of each token, over zeros. */
static void see_scatter(finder_t *f, const ir_op_t *op) {
  const ir_type_t *to = &op->out[0].type;
  int64_t axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  double zero;
  if (axis < 0) axis += to->rank;
  if (axis == 0 || !moe_fill_number(op->in[0].value, &zero) || zero != 0)
    return;
  note_index(candidate_of(f, op->in[1].value, false), to->dim[axis]);
}

static void note_number(finder_t *f, candidate_t *c, int64_t number) {
  const int64_t exact = INT64_C(1) << 53;
  if (c->n == MAX_COMPARED || number > exact || number < -exact) return;
  if (c->n == c->room) {
    unsigned room = 2 * c->room + 8;
    c->compared = arena_grow_array(f->ctx->scratch, c->compared, c->n, room,
                                   sizeof *c->compared);
    c->room = room;
  }
  c->compared[c->n++] = number;
}

/* Whether the comparison chooses between something and what is no other choice
 * of the same number, nor 0. */
static bool has_default(const ir_value_t *same, const ir_value_t *router,
                        unsigned *steps) {
  for (const ir_use_t *use = same->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    double zero;
    --*steps;
    if ((is_view(op) || op->code == OP_EXPAND) &&
        has_default(&op->out[0], router, steps))
      return true;
    if (op->code != OP_SELECT || use->index != 0 ||
        (moe_fill_number(op->in[2].value, &zero) && zero == 0))
      continue;
    const ir_op_t *other = op->in[2].value->def;
    if (other == NULL || other->code != OP_SELECT) return true;
    const ir_value_t *condition = other->in[0].value;
    while (condition->def != NULL &&
           (is_view(condition->def) || condition->def->code == OP_EXPAND))
      condition = condition->def->in[0].value;
    const ir_op_t *eq = condition->def;
    bool slots = false;
    if (eq == NULL || eq->code != OP_EQ ||
        (behind_views(eq->in[0].value, false, &slots) != router &&
         behind_views(eq->in[1].value, false, &slots) != router))
      return true;
  }
  return false;
}

static void see_comparison(finder_t *f, const ir_op_t *op) {
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *x = op->in[i].value, *with = op->in[1 - i].value;
    int64_t number, n = 0;
    bool one = rule_splat_int(with, &number);
    for (unsigned d = 0; !one && d < with->type.rank; d++)
      if (expr_is_const(with->type.dim[d], &n) && n >= 2 && n <= MAX_COMPARED &&
          moe_counting_axis(with, n) >= 0)
        break;
      else
        n = 0;
    if (!one && n == 0) continue;
    candidate_t *c = candidate_of(f, x, false);
    if (c == NULL) continue;
    if (one) note_number(f, c, number);
    unsigned steps = MAX_STEPS;
    c->has_default =
        c->has_default || (one && has_default(&op->out[0], c->value, &steps));
    for (int64_t e = 0; !one && e < n; e++) note_number(f, c, e);
    return;
  }
}

/* A dimension that lies where the last one of a router does, and is as long. */
static bool is_slot_axis(const moe_facts_t *facts, const ir_type_t *router,
                         const ir_type_t *type, int64_t axis) {
  const expr_t *tokens = expr_const(facts->pool, 1), *before = tokens;
  if (axis < 0 || axis >= (int64_t)type->rank ||
      type->dim[axis] != router->dim[router->rank - 1])
    return false;
  for (unsigned d = 0; d + 1 < router->rank; d++)
    tokens = expr_mul(facts->pool, tokens, router->dim[d]);
  for (int64_t d = 0; d < axis; d++)
    before = expr_mul(facts->pool, before, type->dim[d]);
  return before == tokens;
}

/* Whether an operation adds up over the slots of an operand. */
static bool adds_slots(const moe_facts_t *facts, const ir_type_t *router,
                       const ir_use_t *use) {
  const ir_op_t *op = use->user;
  const ir_type_t *from = &op->in[use->index].value->type;
  unsigned n = 0;
  const int64_t *axes =
      op->code == OP_REDUCE_SUM   ? ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n)
      : op->code == OP_REDUCE_MAX ? ir_get_ints(op, ATTR_REDUCE_MAX_axes, &n)
                                  : NULL;
  if (n == 1) return is_slot_axis(facts, router, from, axes[0]);
  return op->code == OP_MATMUL && from->rank > 2 &&
         is_slot_axis(facts, router, from,
                      (int64_t)from->rank - (use->index == 1 ? 2 : 1));
}

/* Whether numbers of rows become tokens' by a division, or are the first of
 * several coordinates and pick tokens. */
static bool become_tokens(const ir_type_t *router, const ir_value_t *numbers,
                          unsigned *steps) {
  int64_t by;
  for (const ir_use_t *use = numbers->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    --*steps;
    bool divides = op->code == OP_DIV && use->index == 0 &&
                   rule_splat_int(op->in[1].value, &by) &&
                   expr_equals_const(router->dim[router->rank - 1], by);
    bool picks = op->code == OP_GATHER && use->index == 1 &&
                 op->in[0].value->type.rank > 0 &&
                 op->in[0].value->type.dim[0] == router->dim[0];
    if (divides || picks) return true;
    if ((op->code == OP_RESHAPE || op->code == OP_CAST) &&
        become_tokens(router, &op->out[0], steps))
      return true;
  }
  return false;
}

static bool rows_become_tokens(const ir_type_t *router, const ir_op_t *op,
                               unsigned *steps) {
  if (op->code == OP_TOPK)
    return op->n_out == 2 && become_tokens(router, &op->out[1], steps);
  if (op->code != OP_NONZERO) return false;
  for (const ir_use_t *use = op->out[0].uses; use != NULL && *steps > 0;
       use = use->next) {
    unsigned n;
    --*steps;
    if (use->user->code == OP_SLICE &&
        rule_is_one(use->user->out[0].type.dim[0]) &&
        expr_equals_const(ir_get_exprs(use->user, ATTR_SLICE_start, &n)[0],
                          0) &&
        become_tokens(router, &use->user->out[0], steps))
      return true;
  }
  return false;
}

/* Whether the last dimension of a router is summed over, in what is computed
 * with it: it runs over slots. */
static bool sums_over_slots(const moe_facts_t *facts, const ir_type_t *router,
                            const ir_value_t *value, unsigned *steps) {
  if (router->rank < 2 || !expr_is_const(router->dim[router->rank - 1], NULL))
    return false;
  for (const ir_use_t *use = value->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    --*steps;
    if (adds_slots(facts, router, use) || rows_become_tokens(router, op, steps))
      return true;
    bool follows =
        op->n_out == 1 &&
        (is_view(op) || op->code == OP_EXPAND || op->code == OP_GATHER ||
         op->code == OP_GATHER_ELEMENTS || op->code == OP_GATHER_ND ||
         op->code == OP_MATMUL || ir_has_trait(op, ELEMENTWISE));
    if (follows && sums_over_slots(facts, router, &op->out[0], steps))
      return true;
  }
  return false;
}

/* ---- Which experts ------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void sort_numbers(candidate_t *c) {
  unsigned n = 0;
  if (c->n > 1) qsort(c->compared, c->n, sizeof *c->compared, compare_numbers);
  for (unsigned i = 0; i < c->n; i++)
    if (n == 0 || c->compared[i] != c->compared[n - 1])
      c->compared[n++] = c->compared[i];
  c->n = n;
}

/* The table whose rows are the slots' numbers. */
static const ir_op_t *slot_table(const ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op == NULL || op->code != OP_GATHER) return NULL;
  const ir_value_t *table = op->in[0].value;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  bool rows = table->type.rank == 2 && (axis == 0 || axis == -2) &&
              table->def != NULL && table->def->code == OP_CONSTANT;
  return rows && !rule_is_one(table->type.dim[1]) ? table->def : NULL;
}

static ir_builder_t behind(pass_ctx_t *ctx, const ir_value_t *value) {
  ir_region_t *region = (ir_region_t *)ir_home(value); /* it is written to */
  const ir_op_t *op = value->def;
  const ir_op_t *at = op != NULL ? op : value->uses->user;
  return (ir_builder_t){.module = ctx->module,
                        .region = region,
                        .before = op != NULL ? op->next : region->first,
                        .loc = at->loc,
                        .diag = ctx->diag};
}

/* 0, 1, .. at the same index: what it picks, if that is in range. */
static ir_value_t *write_picked(pass_ctx_t *ctx, const candidate_t *c) {
  ir_builder_t b = behind(ctx, c->value);
  expr_pool_t *pool = ctx->module->exprs;
  ir_value_t *number = ir_iota(&b, DT_I64, expr_const(pool, c->indexed));
  ir_value_t *index = ir_gather(&b, number, c->value, 0);
  return b.status == MOEC_OK ? index : NULL;
}

/* The place among the numbers that it is compared with, else -1, or the place
 * behind these. */
static ir_value_t *write_compared(pass_ctx_t *ctx, const candidate_t *c) {
  ir_builder_t b = behind(ctx, c->value);
  expr_pool_t *pool = ctx->module->exprs;
  unsigned rank = c->value->type.rank;
  const int64_t axis = rank;
  ir_value_t *numbers = ir_ints(&b, c->n, c->compared);
  ir_value_t *value = ir_cast(&b, c->value, DT_I64);
  value = ir_unsqueeze(&b, value, rank);
  ir_value_t *same = ir_binary(&b, OP_EQ, value, numbers);
  ir_value_t *place = ir_iota(&b, DT_I64, expr_const(pool, c->n));
  ir_value_t *none = ir_scalar_int(&b, DT_I64, -1);
  ir_value_t *found = ir_select(&b, same, place, none);
  ir_value_t *index = ir_reduce(&b, OP_REDUCE_MAX, found, 1, &axis, false);
  if (c->has_default && index != NULL) {
    ir_value_t *behind_all = ir_scalar_int(&b, DT_I64, c->n);
    ir_value_t *missing =
        ir_binary(&b, OP_LT, index, ir_scalar_int(&b, DT_I64, 0));
    index = ir_select(&b, missing, behind_all, index);
  }
  return b.status == MOEC_OK ? index : NULL;
}

/* The router of numbers that are compared: as they are, if each names an
 * expert, else by their places. */
static void set_compared(finder_t *f, const candidate_t *c, moe_table_t *t) {
  moe_integers_t bounds = moe_integers_of(c->value);
  if (c->value->def != NULL && bounds.lo >= 0 && bounds.hi > 0 &&
      bounds.hi <= (int64_t)c->n && bounds.hi >= c->compared[c->n - 1]) {
    t->index = c->value;
    t->experts = bounds.hi + 1;
    return;
  }
  t->index = write_compared(f->ctx, c);
  t->experts = c->n + c->has_default;
  t->some = !c->has_default;
  if (c->compared[0] == 0 && c->compared[c->n - 1] == (int64_t)c->n - 1 &&
      !c->has_default)
    return;
  double *map = ARENA_ARRAY(f->ctx->scratch, double, c->n + 1);
  for (unsigned i = 0; i < c->n; i++) map[i] = (double)c->compared[i];
  map[c->n] = NAN; /* no number of its own */
  t->map = map;
}

/* ---- Conditions ---------------------------------------------------------- */

bool moe_is_product(const ir_value_t *value) {
  enum { MAX_ARITHMETIC = 8 };
  for (unsigned i = 0; i < MAX_ARITHMETIC && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    if (op->code == OP_MATMUL || op->code == OP_CONVOLVE) return true;
    if (!is_view(op) && !ir_has_trait(op, ELEMENTWISE)) return false;
    value = op->in[0].value;
  }
  return false;
}

enum { WHERE = 1, WHERE_NOT = 2 };

/* Whether rows that an index names are written over what a product gave. */
static bool writes_over_product(const ir_value_t *index, unsigned *steps) {
  for (const ir_use_t *use = index->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    --*steps;
    if ((is_view(op) || op->code == OP_EXPAND || op->code == OP_SLICE) &&
        writes_over_product(&op->out[0], steps))
      return true;
    if ((op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS) &&
        use->index == 1 && rule_scatters_by(op, "none") &&
        moe_is_product(op->in[0].value))
      return true;
  }
  return false;
}

/* Whether something is computed where a condition holds, and where it does not:
 * a choice of two products, rows of both, or products that are multiplied by
 * it.
 */
static unsigned sides_of(const ir_value_t *value, unsigned side,
                         unsigned *steps) {
  unsigned found = 0;
  double one;
  for (const ir_use_t *use = value->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    --*steps;
    const ir_value_t *other =
        op->n_in == 2 ? op->in[1 - use->index].value : NULL;
    if (op->code == OP_SELECT && use->index == 0) {
      if (moe_is_product(op->in[1].value) && moe_is_product(op->in[2].value))
        found |= WHERE | WHERE_NOT;
    } else if (op->code == OP_NONZERO &&
               writes_over_product(&op->out[0], steps)) {
      found |= WHERE | WHERE_NOT;
    } else if (op->code == OP_NONZERO ||
               (op->code == OP_MUL && moe_is_product(other))) {
      found |= side;
    } else if (op->code == OP_NOT ||
               (op->code == OP_SUB && use->index == 1 &&
                moe_fill_number(other, &one) && one == 1)) {
      found |= sides_of(&op->out[0], side ^ (WHERE | WHERE_NOT), steps);
    } else if (is_view(op) || op->code == OP_EXPAND) {
      found |= sides_of(&op->out[0], side, steps);
    }
  }
  return found;
}

/* Whether all that is done with it is done in another order of its dimensions.
 */
static bool is_turned(const ir_value_t *value) {
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next)
    if (use->user->code != OP_TRANSPOSE) return false;
  return value->uses != NULL;
}

/* The router of two experts that a condition is: one where it holds. */
static moe_table_t *write_condition(finder_t *f, ir_value_t *value) {
  unsigned steps = MAX_STEPS;
  const ir_op_t *op = value->def;
  bool slots = false;
  bool turned = op != NULL && op->code == OP_TRANSPOSE;
  if (value->type.kind != IR_TENSOR || value->type.dtype != DT_BOOL ||
      value->type.rank == 0 || value->number >= f->facts->n_values ||
      (op != NULL && (op->code == OP_NOT || (is_view(op) && !turned) ||
                      op->code == OP_EXPAND || op->code == OP_NONZERO)) ||
      is_turned(value) ||
      sides_of(value, WHERE, &steps) != (WHERE | WHERE_NOT) ||
      moe_fact(f->facts, value)->kind != FACT_NONE)
    return NULL;
  for (unsigned i = 0; op != NULL && op->code == OP_EQ && i < 2; i++) {
    const ir_value_t *x = behind_views(op->in[i].value, false, &slots);
    if (x->number < f->facts->n_values && f->of[x->number] != NULL &&
        (f->of[x->number]->n > 1 || f->of[x->number]->indexed > 0))
      return NULL; /* one number of several */
  }
  steps = 1000;
  if (!moe_depends_on_data(value, &steps)) return NULL;
  ir_builder_t b = behind(f->ctx, value);
  moe_table_t *t = ARENA_NEW(f->ctx->scratch, moe_table_t);
  *t = (moe_table_t){.value = value, .experts = 2, .slot = -1};
  t->distinct = t->holds = true;
  t->index = ir_cast(&b, value, DT_I64);
  return b.status == MOEC_OK ? t : NULL;
}

/* ---- All of them --------------------------------------------------------- */

static moe_table_t *write_table(finder_t *f, candidate_t *c) {
  const ir_op_t *table = slot_table(c->value);
  unsigned steps = 4 * MAX_STEPS;
  sort_numbers(c);
  if (c->indexed == 0 && c->n < 2) return NULL;
  moe_table_t *t = ARENA_NEW(f->ctx->scratch, moe_table_t);
  bool slots = table != NULL || c->has_slots ||
               sums_over_slots(f->facts, &c->value->type, c->value, &steps);
  *t = (moe_table_t){.value = c->value,
                     .experts = c->indexed,
                     .slot = slots ? (int)c->value->type.rank - 1 : -1};
  t->distinct = !slots || (table != NULL && moe_integers_rows_differ(table));
  if (c->indexed == 0) {
    set_compared(f, c, t);
  } else if (c->value->def != NULL &&
             moe_integers_below(c->value, c->indexed)) {
    t->index = c->value;
  } else {
    t->indexes = true;
    t->index = write_picked(f->ctx, c);
  }
  return t->index != NULL ? t : NULL;
}

moe_table_t *moe_find_tables(pass_ctx_t *ctx, ir_func_t *func,
                             moe_facts_t *facts) {
  finder_t f = {.ctx = ctx, .facts = facts};
  f.last = &f.first;
  f.of = ARENA_ARRAY(ctx->scratch, candidate_t *, facts->n_values);
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (op->code == OP_GATHER)
      see_gather(&f, op);
    else if (op->code == OP_GATHER_ELEMENTS || op->code == OP_GATHER_ND)
      see_pick(&f, op);
    else if (op->code == OP_SCATTER_ELEMENTS)
      see_scatter(&f, op);
    else if (op->code == OP_EQ)
      see_comparison(&f, op);
  }
  moe_table_t *first = NULL, **last = &first;
  for (candidate_t *c = f.first; c != NULL; c = c->next) {
    moe_table_t *table = write_table(&f, c);
    if (table == NULL) continue;
    *last = table;
    last = &table->next;
  }
  for (unsigned i = 0; i < func->body.n_args; i++) {
    moe_table_t *table = write_condition(&f, &func->body.args[i]);
    if (table == NULL) continue;
    *last = table;
    last = &table->next;
  }
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    moe_table_t *table =
        op->n_out == 1 ? write_condition(&f, &op->out[0]) : NULL;
    if (table == NULL) continue;
    *last = table;
    last = &table->next;
  }
  return first;
}

void moe_note_tables(moe_facts_t *facts, const moe_table_t *tables) {
  for (const moe_table_t *t = tables; t != NULL; t = t->next) {
    const moe_fact_t *fact =
        moe_new_router(facts, t->index, t->slot, t->experts, t->distinct);
    moe_source_t *source = (moe_source_t *)fact->source; /* it is being made */
    source->given = true;
    facts->of[t->index->number] = fact;
    if (t->index == t->value) continue;
    if (t->holds) {
      moe_fact_t *gate = moe_fact_new(facts, FACT_GATE, source);
      for (unsigned d = 0; d < t->value->type.rank; d++)
        gate->tag[d] = fact->tag[d];
      gate->expert = 1;
      gate->off = (moe_constant_t){true, 0};
      gate->on = (moe_constant_t){true, 1};
      facts->of[t->value->number] = gate;
      continue;
    }
    source->some = t->some;
    moe_fact_t *label = moe_fact_copy(facts, fact);
    label->kind = FACT_LABEL;
    label->indexes = t->indexes;
    label->map = t->map;
    facts->of[t->value->number] = label;
  }
}
