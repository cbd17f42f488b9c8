/* Experts that have a condition each: thresholds that are compared one by one,
 * intervals, flags that come as inputs, kinds of tokens.
 *
 * No tensor has the conditions of all experts; they meet in the sum of what
 * these give, or in the rows that these write. Side by side they say which
 * experts a token has. Where no two of them hold for one token (moe_logic.h) it
 * has one expert, and rows that are written do not meet; else any number. */
#include "passes/moe_sets.h"

#include "ir/build.h"
#include "passes/moe_logic.h"
#include "passes/moe_table.h"

enum { MAX_PARTS = 64, MAX_LINKS = 512, MAX_STEPS = 64 };

typedef struct finder {
  moe_facts_t *facts;
  unsigned n;
  ir_value_t *condition[MAX_PARTS];
  bool writes; /* rows are written, not added */
  bool fits;
} finder_t;

/* ---- Sums ---------------------------------------------------------------- */

static bool is_scatter(const ir_op_t *op) {
  return op->code == OP_SCATTER_ND || op->code == OP_SCATTER_ELEMENTS;
}

/* An operation that adds a part to another sum, or writes it over that. */
static bool is_link(const ir_op_t *op) {
  return op != NULL && op->n_out == 1 &&
         dtype_is_float(op->out[0].type.dtype) &&
         (op->code == OP_ADD ||
          (is_scatter(op) &&
           (rule_scatters_by(op, "add") || rule_scatters_by(op, "none"))));
}

/* The last operation of a sum. */
static bool is_root(const ir_op_t *op) {
  if (!is_link(op)) return false;
  for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
    if (is_link(use->user) && (use->index == 0 || use->user->code == OP_ADD))
      return false;
  return true;
}

/* ---- Conditions ---------------------------------------------------------- */

static ir_value_t *behind_views(ir_value_t *value) {
  for (unsigned i = 0; value->def != NULL && i < MAX_STEPS; i++) {
    const ir_op_t *op = value->def;
    bool view = op->code == OP_RESHAPE || op->code == OP_EXPAND ||
                op->code == OP_TRANSPOSE || op->code == OP_SLICE ||
                op->code == OP_CAST;
    if (!view) break;
    value = ir_in(op, 0);
  }
  return value;
}

/* Behind shapes only, so that it has a row for each token in their order. */
static ir_value_t *condition_of(ir_value_t *value) {
  while (value->def != NULL &&
         (value->def->code == OP_RESHAPE || value->def->code == OP_EXPAND ||
          (value->def->code == OP_CAST && value->type.dtype != DT_BOOL)))
    value = ir_in(value->def, 0);
  return value->type.dtype == DT_BOOL ? value : NULL;
}

static bool is_zero(const ir_value_t *value) {
  double zero;
  return moe_fill_number(value, &zero) && zero == 0;
}

/* Whether a product is behind arithmetic and views. */
static bool has_product(const ir_value_t *value, unsigned *steps) {
  const ir_op_t *op = value->def;
  if (op == NULL || *steps == 0) return false;
  --*steps;
  if (op->code == OP_MATMUL || op->code == OP_CONVOLVE) return true;
  if (!ir_has_trait(op, ELEMENTWISE) && op->code != OP_RESHAPE &&
      op->code != OP_EXPAND && op->code != OP_TRANSPOSE &&
      op->code != OP_SOFTMAX)
    return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (has_product(op->in[i].value, steps)) return true;
  return false;
}

/* The condition that makes a weight, or what it is multiplied with, 0. */
static ir_value_t *factor_condition(ir_value_t *value, unsigned depth) {
  enum { MAX_FACTORS = 4 };
  ir_value_t *found = condition_of(value);
  if (found != NULL) return found;
  while (value->def != NULL &&
         (value->def->code == OP_RESHAPE || value->def->code == OP_EXPAND))
    value = ir_in(value->def, 0);
  const ir_op_t *op = value->def;
  if (op == NULL || depth == MAX_FACTORS) return NULL;
  if (op->code == OP_SELECT && is_zero(ir_in(op, 2)))
    return condition_of(ir_in(op, 0));
  for (unsigned i = 0; op->code == OP_MUL && i < 2 && found == NULL; i++)
    found = factor_condition(ir_in(op, i), depth + 1);
  return found;
}

/* The condition of what is added or written; NULL: there is none. */
static ir_value_t *part_condition(const ir_op_t *op) {
  unsigned steps = MAX_STEPS;
  if (is_scatter(op)) {
    const ir_op_t *rows = behind_views(ir_in(op, 1))->def;
    if (rows == NULL || rows->code != OP_NONZERO) return NULL;
    ir_value_t *found = condition_of(ir_in(rows, 0));
    return has_product(ir_in(op, 2), &steps) ? found : NULL;
  }
  if (op->code == OP_SELECT && is_zero(ir_in(op, 2)) &&
      has_product(ir_in(op, 1), &steps))
    return condition_of(ir_in(op, 0));
  if (op->code != OP_MUL) return NULL;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *found = factor_condition(ir_in(op, i), 0);
    if (found != NULL && has_product(ir_in(op, 1 - i), &steps)) return found;
  }
  return NULL;
}

/* A comparison of numbers that name experts is another router's. */
static bool is_named(moe_facts_t *facts, ir_value_t *condition) {
  const ir_op_t *op = condition->def;
  unsigned steps = 1000;
  while (op != NULL && (op->code == OP_NOT || op->code == OP_RESHAPE))
    op = ir_in(op, 0)->def;
  bool equals = op != NULL && op->code == OP_EQ &&
                dtype_is_integer(ir_in(op, 0)->type.dtype);
  return equals || condition->number >= facts->n_values ||
         moe_fact(facts, condition)->kind != FACT_NONE ||
         !moe_depends_on_data(condition, &steps);
}

/* A condition and its opposite are a router of two. */
static const ir_value_t *positive(const ir_value_t *value) {
  while (value->def != NULL && value->def->code == OP_NOT)
    value = value->def->in[0].value;
  return value;
}

static unsigned row_dims(const ir_type_t *type, const expr_t **out) {
  unsigned n = 0;
  for (unsigned d = 0; d < type->rank; d++)
    if (!rule_is_one(type->dim[d])) out[n++] = type->dim[d];
  return n;
}

static bool same_rows(const ir_type_t *a, const ir_type_t *b) {
  const expr_t *x[IR_MAX_RANK], *y[IR_MAX_RANK];
  unsigned n = row_dims(a, x);
  if (n == 0 || n + 1 > IR_MAX_RANK || row_dims(b, y) != n) return false;
  for (unsigned i = 0; i < n; i++)
    if (x[i] != y[i]) return false;
  return true;
}

static void add_condition(finder_t *f, ir_value_t *found) {
  bool fits = f->n < MAX_PARTS && !is_named(f->facts, found) &&
              same_rows(&found->type, &found->type) &&
              (f->n == 0 || same_rows(&f->condition[0]->type, &found->type));
  for (unsigned i = 0; fits && i < f->n; i++)
    fits = positive(f->condition[i]) != positive(found);
  if (fits) f->condition[f->n++] = found;
  f->fits = f->fits && fits;
}

/* The conditions of all parts of a sum that have one, in their order. */
static bool find_set(finder_t *f, ir_op_t *root) {
  const ir_op_t *stack[MAX_LINKS];
  unsigned n = 0, links = 0;
  stack[n++] = root;
  while (n > 0 && f->fits) {
    const ir_op_t *op = stack[--n];
    ir_value_t *found = is_link(op) ? NULL : part_condition(op);
    if (!is_link(op)) {
      if (found != NULL) add_condition(f, found);
      continue;
    }
    if (++links > MAX_LINKS / 2) return false;
    if (is_scatter(op)) {
      found = part_condition(op);
      if (found != NULL) add_condition(f, found);
      bool writes = found != NULL && rule_scatters_by(op, "none");
      f->writes = f->writes || (writes && !is_zero(ir_in(op, 0)));
    }
    for (unsigned i = op->code == OP_ADD ? 2 : 1; i-- > 0;)
      if (ir_in(op, i)->def != NULL) stack[n++] = ir_in(op, i)->def;
  }
  return f->fits && f->n > 1;
}

/* ---- Scores -------------------------------------------------------------- */

/* The one column that an operation takes out of several. */
static bool takes_column(const ir_op_t *op, unsigned n, unsigned *out_axis,
                         unsigned *out_column) {
  unsigned rank, found = 0;
  int64_t start;
  if (op->code != OP_SLICE) return false;
  const expr_t *const *starts = ir_get_exprs(op, ATTR_SLICE_start, &rank);
  for (unsigned d = 0; d < rank; d++) {
    if (rule_slices_all(op, d)) continue;
    if (!expr_equals_const(ir_in(op, 0)->type.dim[d], n) ||
        !rule_is_one(op->out[0].type.dim[d]) ||
        !expr_is_const(starts[d], &start))
      return false;
    *out_axis = d;
    *out_column = (unsigned)start;
    found++;
  }
  return found == 1;
}

/* The slice of a column that a condition is made of. */
static const ir_op_t *column_of(const ir_value_t *value, unsigned n,
                                unsigned *steps) {
  const ir_op_t *op = value->def;
  unsigned axis, column;
  if (op == NULL || *steps == 0) return NULL;
  --*steps;
  if (takes_column(op, n, &axis, &column)) return op;
  if (!ir_has_trait(op, ELEMENTWISE) && op->code != OP_RESHAPE) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_op_t *found = column_of(op->in[i].value, n, steps);
    if (found != NULL) return found;
  }
  return NULL;
}

/* Puts the conditions in the order of the scores' columns, if these are columns
 * of one tensor. */
static void find_scores(finder_t *f, moe_set_t *set) {
  ir_value_t *from = NULL, *by_column[MAX_PARTS] = {NULL};
  unsigned column = 0, axis = 0;
  for (unsigned i = 0; i < f->n; i++) {
    unsigned steps = MAX_STEPS;
    const ir_op_t *op = column_of(f->condition[i], f->n, &steps);
    if (op == NULL || (from != NULL && ir_in(op, 0) != from) ||
        !takes_column(op, f->n, &axis, &column) ||
        (i > 0 && axis != set->axis) || by_column[column] != NULL ||
        !same_rows(&op->out[0].type, &f->condition[i]->type))
      return;
    from = ir_in(op, 0);
    set->axis = axis;
    by_column[column] = f->condition[i];
  }
  for (unsigned i = 0; i < f->n; i++) f->condition[i] = by_column[i];
  set->scores = from;
}

/* ---- Writing ------------------------------------------------------------- */

/* Right behind the last of them. */
static bool place_behind(const finder_t *f, ir_builder_t *b) {
  ir_value_t *last = f->condition[0];
  for (unsigned i = 1; i < f->n; i++)
    if (f->condition[i]->number > last->number) last = f->condition[i];
  for (unsigned i = 0; i < f->n; i++)
    if (ir_home(f->condition[i]) != ir_home(last)) return false;
  b->region = (ir_region_t *)ir_home(last); /* it is written to */
  b->before = last->def != NULL ? last->def->next : b->region->first;
  b->loc = last->def != NULL ? last->def->loc : last->uses->user->loc;
  return true;
}

static bool write_set(const finder_t *f, ir_builder_t *b, moe_set_t *set) {
  const expr_t *dim[IR_MAX_RANK + 1];
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *column[MAX_PARTS];
  unsigned rank = row_dims(&f->condition[0]->type, dim);
  const int64_t axis = rank;
  dim[rank] = expr_const(pool, 1);
  for (unsigned i = 0; i < f->n; i++)
    column[i] = ir_reshape(b, f->condition[i], rank + 1, dim);
  set->all = ir_concat(b, f->n, column, rank);
  ir_value_t *number = ir_iota(b, DT_I64, expr_const(pool, f->n));
  ir_value_t *none = ir_scalar_int(b, DT_I64, -1);
  set->index = ir_select(b, set->all, number, none);
  if (set->alone)
    set->index = ir_reduce(b, OP_REDUCE_MAX, set->index, 1, &axis, false);
  return b->status == MOEC_OK && set->index != NULL;
}

static bool is_taken(const moe_set_t *sets, const finder_t *f) {
  for (const moe_set_t *s = sets; s != NULL; s = s->next)
    for (unsigned e = 0; e < s->n; e++)
      if (s->condition[e] == f->condition[0]) return true;
  return false;
}

void moe_write_sets(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                    bool sure, moe_set_t **sets) {
  moe_set_t **last = sets;
  while (*last != NULL) last = &(*last)->next;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    finder_t f = {.facts = facts, .fits = true};
    moe_hold_t hold = {0};
    if (!is_root(op) || op->out[0].number >= facts->n_values ||
        !find_set(&f, op))
      continue;
    bool alone = moe_count_holds(f.condition, f.n, &hold) && hold.most <= 1;
    if (f.writes && !alone) continue;
    if (is_taken(*sets, &f)) continue;
    moe_set_t *set = ARENA_NEW(ctx->scratch, moe_set_t);
    *set = (moe_set_t){.n = f.n, .alone = alone, .some = hold.least == 0};
    find_scores(&f, set);
    if (sure && !alone && set->scores == NULL) continue;
    set->condition = ARENA_ARRAY(ctx->scratch, ir_value_t *, f.n);
    for (unsigned i = 0; i < f.n; i++) set->condition[i] = f.condition[i];
    ir_builder_t b = {.module = ctx->module, .diag = ctx->diag};
    if (!place_behind(&f, &b)) continue;
    if (!write_set(&f, &b, set)) break;
    *last = set;
    last = &set->next;
  }
}

static moe_source_t *new_source(moe_facts_t *facts, const moe_set_t *s) {
  if (!s->alone)
    return moe_source_of_mask(facts, s->index, s->all->type.rank - 1);
  const moe_fact_t *fact = moe_new_router(facts, s->index, -1, s->n, true);
  moe_source_t *source = (moe_source_t *)fact->source; /* it is being made */
  source->given = true;
  source->some = s->some;
  facts->of[s->index->number] = fact;
  return source;
}

/* What has elements of experts along `axis`; -1: of one. */
static moe_fact_t *note(moe_facts_t *facts, const ir_value_t *value,
                        const moe_source_t *source, int axis) {
  moe_fact_t *fact = moe_fact_new(facts, FACT_GATE, source);
  for (unsigned d = 0; d < value->type.rank; d++)
    fact->tag[d] = (int)d == axis                    ? TAG_EXPERT
                   : rule_is_one(value->type.dim[d]) ? TAG_INNER
                                                     : TAG_TOKEN;
  facts->of[value->number] = fact;
  return fact;
}

static void note_mask(moe_facts_t *facts, const ir_value_t *value,
                      const moe_source_t *source, int axis, int64_t expert) {
  moe_fact_t *fact = note(facts, value, source, axis);
  fact->expert = expert;
  fact->off = (moe_constant_t){true, 0};
  fact->on = (moe_constant_t){true, 1};
}

/* Without asking: what follows from it must not be found before. */
static bool is_known(const moe_facts_t *facts, const ir_value_t *value) {
  const moe_fact_t *fact = facts->of[value->number];
  return fact != NULL && fact->kind != FACT_NONE;
}

void moe_note_sets(moe_facts_t *facts, const moe_set_t *sets) {
  for (const moe_set_t *s = sets; s != NULL; s = s->next) {
    bool known = false;
    for (unsigned e = 0; e < s->n; e++)
      known = known || is_known(facts, s->condition[e]);
    if (known) continue;
    moe_source_t *source = new_source(facts, s);
    source->joined = true;
    note_mask(facts, s->all, source, (int)s->all->type.rank - 1, -1);
    for (unsigned e = 0; e < s->n; e++)
      note_mask(facts, s->condition[e], source, -1, e);
    if (s->scores != NULL && !is_known(facts, s->scores))
      note(facts, s->scores, source, (int)s->axis);
  }
}
