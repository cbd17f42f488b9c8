/* Rows of all experts, one group behind the other, are as many as there are
 * routes; but their size is a sum of sizes that only a run knows. Behind the
 * concat it becomes that of the routes, as everything else that has the routes
 * has it: a shape that is written by that sum (zeros of the same shape, "the
 * rest" of a reshape) would otherwise be another one. A check stays in front of
 * it, for where no layer is found. */
#include <setjmp.h>

#include "ir/build.h"
#include "passes/moe_build.h"
#include "passes/moe_rules.h"
#include "passes/resize.h"

enum { RECENT = 256, MAX_RESTS = 64 };

typedef struct recent {
  const expr_t *e, *by;
} recent_t;

typedef struct whole {
  pass_ctx_t *ctx;
  unsigned n_symbols;
  const expr_t **values; /* by index: of one group, the routes but the others */
  bool *is_group;        /* by index: a group of such a sum */
  bool found;
  unsigned n_rests;
  const expr_t *rest[MAX_RESTS]; /* what remains of a shape with groups */
  recent_t recent[RECENT];
} whole_t;

/* ---- Sums of groups ------------------------------------------------------ */

/* A concat of groups: its size, and the same number by another name. */
typedef struct sum {
  ir_op_t *op;
  unsigned axis;
  const expr_t *size, *routes;
} sum_t;

/* Whether rows are those of a mask: most that goes with them has their number
 * from the mask, also where the rows of several are joined. */
static bool is_of_mask(moe_facts_t *facts, const expr_t *size) {
  int64_t index;
  const expr_symbol_t *symbol = expr_as_symbol(size);
  if (symbol == NULL) return false;
  const ir_value_t *number = moe_bound_value(facts, symbol, &index);
  return number != NULL && number->def != NULL &&
         number->def->code == OP_REDUCE_SUM &&
         rule_has_one_element(&number->type);
}

/* Whether rows come back in the order of their tokens, as many as there are:
 * they are written to places of their own, or sorted by these. */
static bool comes_back(const ir_func_t *func, const expr_t *size) {
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op)) {
    bool all = op->code == OP_SCATTER_ELEMENTS || op->code == OP_SCATTER_ND ||
               op->code == OP_TOPK;
    if (all && op->out[0].type.rank > 0 && op->out[0].type.dim[0] == size)
      return true;
  }
  return false;
}

/* Whether it has all routes, by the sizes of its experts' groups. */
static bool find_sum(moe_facts_t *facts, const ir_func_t *func, ir_op_t *op,
                     sum_t *out) {
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis < 0) axis += op->out[0].type.rank;
  const expr_t *size = op->out[0].type.dim[axis];
  if (op->n_in < 2 || size->n_terms < 2 ||
      (is_of_mask(facts, ir_in(op, 0)->type.dim[axis]) &&
       !comes_back(func, size)))
    return false;
  const moe_source_t *source = moe_source_of_size(facts, size);
  if (source == NULL || source->routes == size ||
      !moe_is_whole(facts, source, size) ||
      !moe_are_equal(facts, source, -1, size, source->routes))
    return false;
  *out = (sum_t){op, (unsigned)axis, size, source->routes};
  return true;
}

/* What stands for the sum from here on: its last group with a name of its own
 * is the routes without all others, which is put in where these vanish. */
static bool know_sum(whole_t *w, const sum_t *sum) {
  expr_pool_t *pool = w->ctx->module->exprs;
  const expr_t *last = NULL;
  for (unsigned i = 0; i < sum->op->n_in; i++) {
    const expr_t *group = ir_in(sum->op, i)->type.dim[sum->axis];
    const expr_symbol_t *symbol = expr_as_symbol(group);
    if (symbol == NULL) continue;
    if (w->values[symbol->index] != NULL) return true; /* the same groups */
    w->is_group[symbol->index] = true;
    if (!expr_mentions(expr_sub(pool, sum->size, group), symbol)) last = group;
  }
  if (last == NULL) return false;
  w->values[expr_as_symbol(last)->index] =
      expr_sub(pool, sum->routes, expr_sub(pool, sum->size, last));
  return true;
}

/* Behind a concat of groups, the same rows with the size of the routes. */
static void rename_rows(whole_t *w, const sum_t *sum) {
  ir_value_t *all = &sum->op->out[0];
  if (!pass_allow_rewrite(w->ctx, "rows-of-routes", sum->op) ||
      !know_sum(w, sum))
    return;
  w->found = true;
  ir_builder_t b = {.module = w->ctx->module,
                    .region = sum->op->parent,
                    .before = sum->op->next,
                    .loc = sum->op->loc};
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < all->type.rank; d++)
    dim[d] = d == sum->axis ? sum->routes : all->type.dim[d];
  ir_check_equal(&b, sum->size, sum->routes, "rows of all experts");
  ir_value_t *rows = ir_reshape(&b, all, all->type.rank, dim);
  ir_replace_uses(all, rows);
  ir_set_operand(rows->def, 0, all);
}

/* ---- Sizes --------------------------------------------------------------- */

static bool has_group(const whole_t *w, const expr_t *e) {
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind == EXPR_ATOM_SYMBOL) {
        unsigned index = atom->symbol->index;
        if (index < w->n_symbols && w->is_group[index]) return true;
      } else if (has_group(w, atom->a) ||
                 (atom->b != NULL && has_group(w, atom->b))) {
        return true;
      }
    }
  return false;
}

/* Where that is beyond what expressions hold, the size stays. */
static const expr_t *substitute(const whole_t *w, const expr_t *e) {
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    const expr_t *by = expr_substitute(w->ctx->module->exprs, e, w->values);
    recovery_leave(&point);
    return by;
  }
  recovery_leave(&point);
  if (point.status != MOEC_E_LIMIT)
    moec_leave(point.status, "%s", point.message);
  return e;
}

/* What a size consists of, if it is one operator; NULL: it is something else.
 */
static const expr_atom_t *atom_of(const expr_t *e, expr_atom_kind_t kind) {
  bool alone = e->n_terms == 1 && e->terms[0].n_atoms == 1 &&
               e->terms[0].coefficient == 1;
  return alone && e->terms[0].atoms[0]->kind == kind ? e->terms[0].atoms[0]
                                                     : NULL;
}

/* all / max(1, others) is what a shape has for -1: where others divide all, it
 * is that quotient. For tensors without elements ONNX leaves it open. */
static const expr_t *rest_of(const whole_t *w, const expr_t *e) {
  const expr_atom_t *quotient = atom_of(e, EXPR_ATOM_FLOORDIV), *most;
  most = quotient != NULL ? atom_of(quotient->b, EXPR_ATOM_MAX) : NULL;
  if (most == NULL) return e;
  bool first = expr_equals_const(most->a, 1);
  if (!first && !expr_equals_const(most->b, 1)) return e;
  const expr_t *exact = expr_divide_exactly(w->ctx->module->exprs, quotient->a,
                                            first ? most->b : most->a);
  return exact != NULL ? exact : e;
}

static bool is_rest(const whole_t *w, const expr_t *e) {
  for (unsigned i = 0; i < w->n_rests; i++)
    if (w->rest[i] == e) return true;
  return false;
}

/* Quotients with groups in shapes. */
static void find_rests(whole_t *w, const ir_func_t *func) {
  unsigned n;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (op->code != OP_RESHAPE) continue;
    const expr_t *const *shape = ir_get_exprs(op, ATTR_RESHAPE_shape, &n);
    for (unsigned i = 0; i < n && w->n_rests < MAX_RESTS; i++)
      if (atom_of(shape[i], EXPR_ATOM_FLOORDIV) != NULL &&
          has_group(w, shape[i]) && !is_rest(w, shape[i]))
        w->rest[w->n_rests++] = shape[i];
  }
}

/* Sizes of all groups together; those of some of them stay, and so does what
 * is compared with the routes. */
static const expr_t *resize(void *user, const expr_t *e) {
  whole_t *w = user;
  recent_t *recent = &w->recent[e->hash % RECENT];
  if (recent->e == e) return recent->by;
  const expr_t *by = e;
  if (expr_as_symbol(e) == NULL && has_group(w, e)) by = substitute(w, e);
  if (by != e && has_group(w, by)) by = e;
  if (by != e && is_rest(w, e)) by = rest_of(w, by);
  *recent = (recent_t){e, by};
  return recent->by;
}

/* The check in front of the rows, and these. */
static bool keeps(void *user, const ir_op_t *op) {
  (void)user;
  return op->code == OP_CHECK_EQUAL && op->next != NULL &&
         op->next->code == OP_RESHAPE && ir_in(op->next, 0)->def == op->prev;
}

static bool has_sums(const ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (op->code != OP_CONCAT || op->n_in < 2) continue;
    int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
    if (axis < 0) axis += op->out[0].type.rank;
    if (op->out[0].type.dim[axis]->n_terms > 1) return true;
  }
  return false;
}

moec_status_t run_moe_whole(pass_ctx_t *ctx, ir_func_t *func) {
  if (!has_sums(func)) return MOEC_OK;
  ir_renumber(func);
  whole_t *w = ARENA_NEW(ctx->scratch, whole_t);
  *w = (whole_t){.ctx = ctx};
  moe_facts_t *facts = moe_facts_create(ctx->scratch, func);
  w->n_symbols = expr_n_symbols(ctx->module->exprs);
  w->values = ARENA_ARRAY(ctx->scratch, const expr_t *, w->n_symbols);
  w->is_group = ARENA_ARRAY(ctx->scratch, bool, w->n_symbols);
  unsigned n = 0;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    n += op->code == OP_CONCAT;
  sum_t *sum = ARENA_ARRAY(ctx->scratch, sum_t, n);
  n = 0;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    if (op->code == OP_CONCAT && find_sum(facts, func, op, &sum[n])) n++;
  for (unsigned i = 0; i < n; i++) rename_rows(w, &sum[i]);
  if (!w->found) return MOEC_OK;
  find_rests(w, func);
  const resize_t how = {.by = resize, .keeps = keeps, .user = w};
  pass_resize(ctx, func, &how);
  return MOEC_OK;
}
