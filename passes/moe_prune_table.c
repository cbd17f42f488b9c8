/* Experts that no row of a constant table chooses, where what the router gets
 * is a row of one: of an embedding of tasks, languages, hashes, or tokens of a
 * first layer. All rows are looked at, each by bounds of what is computed of
 * it; the router is computed as before. */
#include <math.h>

#include "passes/moe_prune.h"
#include "passes/rules.h"

enum { MAX_DEPTH = 64, MAX_LOOKED_AT = 256 };

/* Weights of the gate, for all rows together: half a second. */
#define MOST_WORK (INT64_C(1) << 23)

typedef struct table {
  prune_t *p;
  const ir_value_t *index; /* which row each token has; NULL: not seen yet */
  int64_t rows;            /* of each table that it is used for */
  unsigned n_looked_at;
  double *slack;  /* how far k others lie above at least; NaN: some row may
                     choose it: double[E] */
  int64_t n_open; /* of these */
} table_t;

/* ---- Rows ----------------------------------------------------------------
 *
 * A value is by row if all that one row of it is made of is one row of each
 * table, of the same number, in the order of the index' elements. */

static bool has_rows_of(const ir_type_t *a, const ir_type_t *b) {
  if (a->rank != b->rank || a->rank == 0) return false;
  for (unsigned d = 0; d + 1 < a->rank; d++)
    if (a->dim[d] != b->dim[d]) return false;
  return true;
}

/* A constant that is the same for all rows. */
static bool is_same_for_all(const ir_value_t *v) {
  for (unsigned d = 0; d + 1 < v->type.rank; d++)
    if (!rule_is_one(v->type.dim[d])) return false;
  return rule_is_constant(v);
}

static bool is_table(table_t *t, const ir_op_t *op) {
  const ir_value_t *table = op->in[0].value, *index = op->in[1].value;
  int64_t rows, axis = ir_get_int(op, ATTR_GATHER_axis);
  if ((axis != 0 && axis != -2) || table->type.rank != 2 ||
      !rule_is_constant(table) || !expr_is_const(table->type.dim[0], &rows) ||
      (t->index != NULL && (t->index != index || t->rows != rows)))
    return false;
  t->index = index;
  t->rows = rows;
  return true;
}

static bool only_last_axis(const ir_op_t *op) {
  unsigned n;
  int64_t last = (int64_t)op->in[0].value->type.rank - 1;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  return n == 1 && axes[0] == last &&
         ir_get_int(op, ATTR_REDUCE_SUM_keepdims) != 0;
}

static bool is_by_row(table_t *t, const ir_value_t *v, unsigned depth);

static bool are_by_row(table_t *t, const ir_op_t *op, unsigned depth) {
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (is_same_for_all(x)) continue;
    if (!has_rows_of(&x->type, &op->out->type) || !is_by_row(t, x, depth))
      return false;
  }
  return true;
}

static bool is_by_row(table_t *t, const ir_value_t *v, unsigned depth) {
  const ir_op_t *op = v->def;
  if (op == NULL || depth > MAX_DEPTH || t->n_looked_at++ > MAX_LOOKED_AT ||
      op->n_in == 0 || op->in[0].value == NULL)
    return false;
  const ir_value_t *x = op->in[0].value;
  if (ir_has_trait(op, ELEMENTWISE) && ir_has_trait(op, PURE))
    return are_by_row(t, op, depth + 1);
  switch (op->code) {
    case OP_GATHER:
      return is_table(t, op);
    case OP_RESHAPE:
      return x->type.rank > 0 && v->type.rank > 0 &&
             x->type.dim[x->type.rank - 1] == v->type.dim[v->type.rank - 1] &&
             is_by_row(t, x, depth + 1);
    case OP_REDUCE_SUM:
      return only_last_axis(op) && is_by_row(t, x, depth + 1);
    case OP_EXPAND:
      return has_rows_of(&x->type, &v->type) && is_by_row(t, x, depth + 1);
    case OP_MATMUL:
      return op->in[1].value->type.rank == 2 &&
             rule_is_constant(op->in[1].value) && is_by_row(t, x, depth + 1);
    default:
      return false;
  }
}

/* ---- Choices ------------------------------------------------------------- */

static bool begin(prune_t *p, table_t *t) {
  const route_t *r = &p->r;
  *t = (table_t){.p = p};
  for (unsigned i = 0; i < ROUTE_MAX_IN; i++)
    if (i != ROUTE_X && r->in[i] != NULL && !rule_is_constant(r->in[i]))
      return false;
  if (r->source == ROUTE_FROM_MIXER || r->k < 1 || r->k >= p->E ||
      !is_by_row(t, r->in[ROUTE_X], 0) || t->rows < 1)
    return false;
  int64_t width = 1, size = r->groups > 0 ? p->E / r->groups : p->E;
  const ir_type_t *x = &r->in[ROUTE_X]->type;
  if (!expr_is_const(x->dim[x->rank - 1], &width)) return false;
  if (width < size) width = size;
  if (p->E > MOST_WORK / t->rows / width) return false;
  t->slack = ARENA_ARRAY(p->ctx->scratch, double, (size_t)p->E);
  for (int64_t e = 0; e < p->E; e++) {
    t->slack[e] = p->structure[e] < 0 ? NAN : INFINITY;
    t->n_open += p->structure[e] < 0;
  }
  return true;
}

/* How far k others of e's group lie above it at least; NaN where fewer do. */
static double above(const table_t *t, const prune_range_t *choice, int64_t e) {
  const route_t *r = &t->p->r;
  int64_t size = r->groups > 0 ? t->p->E / r->groups : t->p->E;
  int64_t first = e - e % size, n = 0;
  double least = INFINITY;
  for (int64_t j = first; j < first + size && n < r->k; j++) {
    double lo = choice[j].lo, hi = choice[e].hi;
    bool wins = r->last_index ? j > e : j < e;
    if (j == e || !(lo > hi || (lo == hi && wins))) continue;
    if (lo - hi < least) least = lo - hi;
    n++;
  }
  return n == r->k ? least : NAN;
}

static void look_at_row(table_t *t, const prune_range_t *choice) {
  for (int64_t e = 0; e < t->p->E; e++) {
    if (isnan(t->slack[e])) continue;
    double slack = choice != NULL ? above(t, choice, e) : NAN;
    t->n_open += isnan(slack);
    if (!(slack >= t->slack[e])) t->slack[e] = slack;
  }
}

typedef struct walk {
  table_t *table;
  arena_t *arena;
} walk_t;

static moec_status_t look_at_rows(void *user) {
  walk_t *w = user;
  table_t *t = w->table;
  for (int64_t i = 0; i < t->rows && t->n_open < t->p->E; i++) {
    look_at_row(
        t, prune_choices(t->p, prune_bounds_of_row(w->arena, t->index, i)));
    arena_reset(w->arena);
  }
  return MOEC_OK;
}

static void forget(void *user) { arena_destroy(((walk_t *)user)->arena); }

void prune_enumerated(prune_t *p) {
  table_t t;
  if (!begin(p, &t)) return;
  walk_t walk = {&t, arena_create(0)};
  if (walk.arena == NULL) return;
  recovery_cleanup(look_at_rows, forget, &walk);
  for (int64_t e = 0; e < p->E; e++) {
    if (isnan(t.slack[e]) || !pass_allow_rewrite(p->ctx, "prune", p->experts))
      continue;
    moe_pruning_t *record = prune_tell(p, MOE_PRUNE_ENUMERATED, e);
    if (record != NULL) {
      record->rows = t.rows;
      record->slack = t.slack[e];
      moe_words_add(
          p->ctx->options->moe, &record->assumptions,
          "scores of the router are finite where they are not masked");
    }
    p->structure[e] = -1;
    p->is_dead[e] = p->changed = true;
  }
}
