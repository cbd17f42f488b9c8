/* Routers that have no numbers of experts: a condition on scores says of each
 * token and expert whether it is chosen. */
#include "passes/moe_mask.h"

#include <float.h>

#include "ir/build.h"
#include "passes/moe_choice.h"
#include "passes/rules.h"

enum { MAX_STEPS = 16, MAX_EXPERTS = 1 << 16 };

/* ---- What a condition is for --------------------------------------------- */

static bool is_view(const ir_op_t *op) {
  switch (op->code) {
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_CAST:
      return true;
    case OP_GATHER:
      return rule_is_constant(op->in[1].value);
    default:
      return false;
  }
}

/* 0, or -inf or the lowest number: what a weight is, or a score, that counts
 * for nothing. */
static bool is_nothing(const ir_value_t *value) {
  double x;
  return moe_fill_number(value, &x) && (x == 0 || x <= -(double)FLT_MAX);
}

/* Whether experts are chosen where the condition holds (1), or where it does
 * not (0), by what is computed with it; -1: that cannot be seen. */
static int chosen_where(const ir_value_t *value, unsigned *steps) {
  for (const ir_use_t *use = value->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    --*steps;
    int answer = -1;
    double one;
    if (op->code == OP_SELECT && use->index == 0) {
      bool first = is_nothing(op->in[1].value);
      if (first != is_nothing(op->in[2].value)) answer = first ? 0 : 1;
    } else if (op->code == OP_MUL || op->code == OP_NONZERO) {
      answer = 1;
    } else if ((op->code == OP_NOT || is_view(op))) {
      answer = chosen_where(&op->out[0], steps);
      if (answer >= 0 && op->code == OP_NOT) answer = 1 - answer;
    } else if (op->code == OP_DIV && use->index == 0) {
      answer = chosen_where(&op->out[0], steps);
    } else if (op->code == OP_LT && use->index == 1 &&
               rule_splat_float(op->in[0].value, &one) && one == 0) {
      answer = chosen_where(&op->out[0], steps); /* where it is above 0 */
    } else if (op->code == OP_SUB && use->index == 1 &&
               rule_splat_float(op->in[0].value, &one) && one == 1) {
      answer = chosen_where(&op->out[0], steps);
      if (answer >= 0) answer = 1 - answer;
    }
    if (answer >= 0) return answer;
  }
  return -1;
}

/* ---- Which dimension runs over experts ----------------------------------- */

/* The one along which one operand is the same for all, else the last one. */
static unsigned expert_axis(const ir_op_t *op) {
  const ir_type_t *to = &op->out[0].type;
  int found = -1;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_type_t *from = &op->in[i].value->type;
    if (from->rank != to->rank) continue;
    for (unsigned d = 0; d < to->rank; d++) {
      if (rule_is_one(to->dim[d]) || !rule_is_one(from->dim[d])) continue;
      if (found >= 0 && found != (int)d) return to->rank - 1;
      found = (int)d;
    }
  }
  return found >= 0 ? (unsigned)found : to->rank - 1;
}

/* The topk whose sorted elements of x these are; NULL: they are not. */
static const ir_op_t *sorted_by(const ir_value_t *value, const ir_value_t *x) {
  const ir_op_t *op = value->def;
  if (op->code == OP_TOPK)
    return op->in[0].value == x && value->index == 0 ? op : NULL;
  if (op->code != OP_GATHER_ELEMENTS || op->in[0].value != x) return NULL;
  const ir_value_t *index = op->in[1].value;
  op = index->def;
  if (op == NULL || op->code != OP_TOPK || index->index != 1) return NULL;
  const ir_op_t *some = op->in[0].value->def; /* without NaNs, perhaps */
  bool finite = some != NULL && some->code == OP_SELECT &&
                some->in[2].value == x && some->in[0].value->def != NULL &&
                some->in[0].value->def->code == OP_IS_NAN;
  return finite || op->in[0].value == x ? op : NULL;
}

/* How many of x are at least `bound`, one of its sorted values, if no two are
 * equal; 0: it is none. */
static int64_t how_many(const ir_value_t *bound, const ir_value_t *x) {
  int64_t at = -1, k, start;
  if (x->type.rank == 0) return 0;
  for (unsigned i = 0; i < MAX_STEPS && bound->def != NULL; i++) {
    const ir_op_t *op = bound->def;
    const ir_value_t *from = op->n_in > 0 ? op->in[0].value : NULL;
    unsigned n;
    if (from == NULL || from->type.rank == 0) return 0;
    if (op->code == OP_REDUCE_MAX) return from == x ? 1 : 0;
    if (op->code == OP_TOPK || op->code == OP_GATHER_ELEMENTS) {
      const expr_t *size = x->type.dim[x->type.rank - 1];
      const ir_op_t *by = sorted_by(bound, x);
      if (by == NULL || !expr_is_const(ir_get_expr(by, ATTR_TOPK_k), &k))
        return 0;
      if (at < 0 && k == 1) at = 0;
      if (ir_get_int(by, ATTR_TOPK_largest) != 0) return at + 1;
      return at >= 0 && expr_equals_const(size, k) ? k - at : 0;
    }
    if (op->code == OP_REDUCE_MIN) {
      if (!expr_is_const(from->type.dim[from->type.rank - 1], &k)) return 0;
      at = k - 1;
    } else if (op->code == OP_SLICE) {
      const expr_t *const *starts = ir_get_exprs(op, ATTR_SLICE_start, &n);
      if (!rule_is_one(bound->type.dim[n - 1]) ||
          !expr_is_const(starts[n - 1], &start))
        return 0;
      for (unsigned d = 0; d + 1 < n; d++)
        if (!rule_slices_all(op, d)) return 0;
      at = start;
    } else if (op->code != OP_RESHAPE && op->code != OP_EXPAND) {
      return 0;
    }
    bound = from;
  }
  return 0;
}

static const ir_op_t *behind_views(const ir_value_t *value,
                                   unsigned *out_result) {
  for (unsigned i = 0; value->def != NULL && i < MAX_STEPS; i++) {
    if (!is_view(value->def)) break;
    value = value->def->in[0].value;
  }
  *out_result = value->index;
  return value->def;
}

/* All positions in the order of their elements: a permutation. */
static bool is_order(const ir_op_t *op, unsigned result) {
  return op != NULL && op->code == OP_TOPK && result == 1 &&
         ir_get_int(op, ATTR_TOPK_sorted) != 0 &&
         rule_same_dims(&op->in[0].value->type, &op->out[1].type);
}

/* How many scores have fewer than `limit` others above them, where a sum counts
 * these, if no two are equal; 0: it counts something else. */
static int64_t counted_below(const ir_op_t *sum, const ir_value_t *limit) {
  unsigned result;
  int64_t n;
  const ir_op_t *op = behind_views(sum->in[0].value, &result);
  if (op == NULL || (op->code != OP_LT && op->code != OP_LE) ||
      !rule_splat_int(limit, &n))
    return 0;
  unsigned of[2];
  const ir_op_t *x = behind_views(op->in[0].value, &of[0]);
  const ir_op_t *y = behind_views(op->in[1].value, &of[1]);
  if (x == NULL || x != y || of[0] != of[1]) return 0;
  n -= op->code == OP_LE; /* itself */
  return n > 0 ? n : 0;
}

/* Numbers that say how many scores are better, or in which place one is; where
 * that is known, `limit` of them are below it. */
static bool is_place(const ir_value_t *value, const ir_value_t *limit,
                     int64_t *out_below) {
  unsigned result;
  const ir_op_t *op = behind_views(value, &result);
  if (op == NULL) return false;
  if (op->code == OP_REDUCE_SUM) {
    *out_below = counted_below(op, limit);
    return true;
  }
  if (!is_order(op, result)) return false;
  const ir_op_t *order = behind_views(op->in[0].value, &result);
  int64_t n;
  if (is_order(order, result) && rule_splat_int(limit, &n) && n > 0)
    *out_below = n;
  return true;
}

/* Whether the condition, or the gate, is one on scores. */
static bool is_on_scores(const ir_op_t *op, int64_t *out_chosen) {
  *out_chosen = 0;
  double zero;
  if (op->n_out != 1 || op->n_in != 2) return false;
  const ir_value_t *x = op->in[0].value, *y = op->in[1].value;
  if (op->code == OP_MAX)
    return dtype_is_float(x->type.dtype) && rule_splat_float(y, &zero) &&
           zero == 0;
  if (op->code != OP_LT && op->code != OP_LE && op->code != OP_EQ) return false;
  if (!dtype_is_float(x->type.dtype))
    return op->code == OP_LT && rule_is_constant(y) &&
           is_place(x, y, out_chosen);
  *out_chosen = how_many(x, y);
  if (*out_chosen == 0) *out_chosen = how_many(y, x);
  if (op->code == OP_EQ) return *out_chosen == 1;
  return true;
}

/* Whether a value, or a view of it, is what results of experts are multiplied
 * by: it is repeated for their features, or summed over with them. */
static bool weighs_results(const ir_value_t *value, unsigned *steps) {
  for (const ir_use_t *use = value->uses; use != NULL && *steps > 0;
       use = use->next) {
    const ir_op_t *op = use->user;
    --*steps;
    if (is_view(op) && weighs_results(&op->out[0], steps)) return true;
    if (op->code != OP_MUL && op->code != OP_MATMUL) continue;
    const ir_value_t *other = op->in[1 - use->index].value;
    const ir_type_t *to = &op->out[0].type;
    if (rule_is_constant(other) || other->type.rank < 2) continue;
    if (op->code == OP_MATMUL && other->type.rank > 2 &&
        (rule_is_one(to->dim[to->rank - 2]) ||
         rule_is_one(to->dim[to->rank - 1])))
      return true;
    unsigned shift = to->rank - value->type.rank;
    for (unsigned d = 0; op->code == OP_MUL && d < value->type.rank; d++)
      if (rule_is_one(value->type.dim[d]) && !rule_is_one(to->dim[shift + d]))
        return true;
  }
  return false;
}

/* Weights of experts, of which conditions on scores make some 0. */
static bool is_gate(const ir_op_t *op) {
  if (op->n_out != 1 || op->n_in == 0 ||
      !dtype_is_float(op->out[0].type.dtype) || is_view(op))
    return false;
  const ir_value_t *value = &op->out[0];
  bool computes = ir_has_trait(op, ELEMENTWISE) || op->code == OP_SOFTMAX ||
                  op->code == OP_REDUCE_SUM || op->code == OP_REDUCE_PROD;
  unsigned steps = 4 * MAX_STEPS;
  return computes && weighs_results(value, &steps) && moe_may_vanish(value);
}

/* ---- Writing ------------------------------------------------------------- */

/* [.., experts, ..]: the expert's number where it is chosen, else -1. */
static ir_value_t *write_numbers(pass_ctx_t *ctx, ir_value_t *value,
                                 unsigned axis, bool where, int64_t n) {
  ir_op_t *at = value->def;
  ir_builder_t b = {.module = ctx->module,
                    .region = at->parent,
                    .before = at->next,
                    .loc = at->loc,
                    .diag = ctx->diag};
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = value->type.rank;
  for (unsigned d = 0; d < rank; d++)
    dim[d] = expr_const(ctx->module->exprs, d == axis ? n : 1);
  ir_value_t *number = ir_iota(&b, DT_I64, expr_const(ctx->module->exprs, n));
  number = ir_reshape(&b, number, rank, dim);
  number = ir_expand(&b, number, rank, value->type.dim);
  ir_value_t *none = ir_scalar_int(&b, DT_I64, -1);
  none = ir_expand(&b, none, rank, value->type.dim);
  ir_value_t *chosen = ir_cast(&b, value, DT_BOOL);
  ir_value_t *index = where ? ir_select(&b, chosen, number, none)
                            : ir_select(&b, chosen, none, number);
  return b.status == MOEC_OK ? index : NULL;
}

static bool has_tokens(const ir_type_t *type, unsigned axis) {
  for (unsigned d = 0; d < type->rank; d++)
    if (d != axis && !rule_is_one(type->dim[d])) return true;
  return false;
}

moe_mask_t *moe_write_masks(pass_ctx_t *ctx, ir_func_t *func,
                            moe_facts_t *facts) {
  moe_mask_t *first = NULL, **last = &first;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    int64_t chosen, n;
    bool condition = is_on_scores(op, &chosen);
    unsigned steps = 16 * MAX_STEPS;
    int where = condition ? chosen_where(&op->out[0], &steps) : -1;
    if (where < 0 && is_gate(op)) {
      condition = false;
      chosen = 0;
      where = 1;
    }
    if (where < 0) continue;
    ir_value_t *value = &op->out[0];
    if (value->type.rank < 2) continue;
    unsigned axis = expert_axis(op);
    if (!expr_is_const(value->type.dim[axis], &n) || n < 2 || n > MAX_EXPERTS ||
        !has_tokens(&value->type, axis))
      continue;
    if ((op->code == OP_MAX && where != 1) ||
        moe_fact(facts, value)->kind != FACT_NONE)
      continue;
    bool floats = condition && dtype_is_float(op->in[0].value->type.dtype);
    if (op->code == OP_LT && where == 1 && chosen > 0 && floats) chosen--;
    ir_value_t *index = write_numbers(ctx, value, axis, where == 1, n);
    if (index == NULL) break;
    moe_mask_t *mask = ARENA_NEW(ctx->scratch, moe_mask_t);
    *mask = (moe_mask_t){value, index, axis, where == 1 ? 0 : 1, chosen, NULL};
    *last = mask;
    last = &mask->next;
  }
  return first;
}

void moe_note_masks(moe_facts_t *facts, const moe_mask_t *masks) {
  for (const moe_mask_t *m = masks; m != NULL; m = m->next) {
    if (moe_fact(facts, m->value)->kind != FACT_NONE) continue;
    moe_source_t *source = moe_source_of_mask(facts, m->index, m->axis);
    source->chosen = m->chosen;
    moe_fact_t *fact = moe_fact_new(facts, FACT_GATE, source);
    fact->off = (moe_constant_t){true, m->off};
    fact->on = (moe_constant_t){m->value->type.dtype == DT_BOOL, 1 - m->off};
    for (unsigned d = 0; d < m->value->type.rank; d++)
      fact->tag[d] = d == m->axis ? TAG_EXPERT : TAG_TOKEN;
    facts->of[m->value->number] = fact;
  }
}
