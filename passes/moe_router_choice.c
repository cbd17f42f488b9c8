/* What selects the experts: TopK or rounds of ArgMax, and the chain of scores
 * behind them, with selection bias and limits to groups. */
#include <string.h>

#include "passes/moe_router_internal.h"

bool router_has_rows(const matcher_t *m, const ir_value_t *x, int64_t width) {
  expr_pool_t *pool = m->ctx->module->exprs;
  const expr_t *all = expr_mul(pool, m->out->T, expr_const(pool, width));
  return ir_type_count(pool, &x->type) == all;
}

/* ---- Groups -------------------------------------------------------------- */

/* A topk of the largest along rows; its width and k out. */
static bool is_row_topk(const ir_op_t *op, int64_t *out_width, int64_t *out_k) {
  if (op == NULL || op->code != OP_TOPK ||
      ir_get_int(op, ATTR_TOPK_largest) == 0 ||
      !expr_is_const(ir_get_expr(op, ATTR_TOPK_k), out_k))
    return false;
  const ir_type_t *x = &op->in[0].value->type;
  int64_t axis = ir_get_int(op, ATTR_TOPK_axis);
  if (axis < 0) axis += x->rank;
  return expr_is_const(x->dim[axis], out_width) &&
         router_is_row(x, axis, *out_width);
}

/* How good groups are: the maximum, or the sum of the best, of each. */
static bool match_group_score(matcher_t *m, ir_value_t *score,
                              const ir_value_t *x, link_t *link) {
  int64_t size = m->out->E / link->groups, width;
  const ir_op_t *op = router_strip(m, score)->def;
  if (op == NULL) return false;
  router_note(m, op);
  if (op->code == OP_REDUCE_MAX) {
    link->group_best = 1;
    return router_reduces_row(op, size) &&
           router_strip(m, op->in[0].value) == x;
  }
  if (op->code != OP_REDUCE_SUM) return false;
  const ir_value_t *best = router_strip(m, op->in[0].value);
  if (best->index != 0 || !is_row_topk(best->def, &width, &link->group_best) ||
      width != size || !router_reduces_row(op, link->group_best))
    return false;
  router_note(m, best->def);
  return router_strip(m, best->def->in[0].value) == x;
}

/* mask[T, E] holds for the experts of the kept groups; *out_on: its value
 * there. */
static bool match_group_mask(matcher_t *m, ir_value_t *mask,
                             const ir_value_t *x, link_t *link, double out[2]) {
  double change[2] = {0, 1};
  ir_value_t *at = router_strip(m, mask);
  /* Conversions and negations may stand on either side of the broadcast. */
  while (at->def != NULL &&
         (at->def->code == OP_CAST || at->def->code == OP_NOT)) {
    if (at->def->code == OP_NOT) {
      change[0] = change[0] == 0;
      change[1] = change[1] == 0;
    }
    router_note(m, at->def);
    at = router_strip(m, at->def->in[0].value);
  }
  const ir_op_t *expand = at->def;
  if (expand == NULL || expand->code != OP_EXPAND) return false;
  router_note(m, expand);
  const ir_type_t *wide = &expand->out[0].type;
  int64_t size, E = m->out->E, width;
  unsigned last = wide->rank - 1;
  if (wide->rank < 2 || !expr_is_const(wide->dim[last], &size) || size < 1 ||
      E % size != 0)
    return false;
  link->groups = E / size;
  ir_value_t *narrow = expand->in[0].value;
  if (!router_is_row(&narrow->type, (int64_t)narrow->type.rank - 2,
                     link->groups) ||
      !router_is_per_row(&narrow->type, wide, size) ||
      !router_has_rows(m, narrow, link->groups) || !router_has_rows(m, mask, E))
    return false;
  double member[2];
  ir_value_t *index = router_membership_index(m, narrow, link->groups, member);
  if (index == NULL || index->def == NULL || index->index != 1 ||
      !is_row_topk(index->def, &width, &link->groups_kept) ||
      width != link->groups ||
      !router_has_rows(m, index->def->in[0].value, link->groups))
    return false;
  router_note(m, index->def);
  for (int i = 0; i < 2; i++) {
    if (member[i] != 0 && member[i] != 1) return false;
    out[i] = change[(int)member[i]];
  }
  return match_group_score(m, index->def->in[0].value, x, link);
}

/* x where a mask of groups holds, else a number; or x times such a mask. */
static ir_value_t *match_groups(matcher_t *m, const ir_op_t *op, link_t *link) {
  double on[2];
  *link = (link_t){.kind = LINK_GROUPS};
  if (op->code == OP_SELECT) {
    for (unsigned i = 1; i <= 2; i++) {
      ir_value_t *x = router_strip(m, op->in[i].value);
      if (!rule_splat_float(op->in[3 - i].value, &link->fill)) continue;
      if (!router_has_rows(m, x, m->out->E) ||
          !match_group_mask(m, op->in[0].value, x, link, on))
        return NULL;
      double wanted = i == 1 ? 1 : 0;
      return on[1] == wanted && on[0] == 1 - wanted ? x : NULL;
    }
    return NULL;
  }
  for (unsigned i = 0; op->code == OP_MUL && i < 2; i++) {
    ir_value_t *x = router_strip(m, op->in[i].value);
    if (!router_has_rows(m, x, m->out->E) ||
        !match_group_mask(m, op->in[1 - i].value, x, link, on))
      continue;
    link->multiply = true;
    return on[1] == 1 && on[0] == 0 ? x : NULL;
  }
  return NULL;
}

/* ---- Chains -------------------------------------------------------------- */

/* The same E numbers for all tokens. */
static bool is_vector(const ir_value_t *v, const ir_type_t *scores, int64_t E) {
  int64_t n;
  if (!ir_type_static_count(&v->type, &n) || n != E ||
      v->type.rank > scores->rank)
    return false;
  for (unsigned d = 0; d < v->type.rank; d++)
    if (router_is_row(&v->type, d, E))
      return router_is_row(scores, scores->rank - v->type.rank + d, E);
  return false;
}

static ir_value_t *match_vector(matcher_t *m, const ir_op_t *op, link_t *link) {
  int64_t E = m->out->E;
  *link = (link_t){.kind = LINK_VECTOR};
  if (op->code != OP_ADD) return NULL;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *x = op->in[i].value, *v = op->in[1 - i].value;
    if (!router_has_rows(m, x, E) || !is_vector(v, &op->out[0].type, E))
      continue;
    link->vector = v;
    return router_strip(m, x);
  }
  return NULL;
}

void router_chain(matcher_t *m, ir_value_t *x, chain_t *out) {
  int64_t E = m->out->E;
  out->n = 0;
  x = router_strip(m, x);
  while (out->n < ROUTER_MAX_LINKS && x->def != NULL) {
    link_t link = {.kind = LINK_STEP};
    ir_value_t *below = x;
    unsigned noted = m->out->n_nodes;
    if (!router_step(m, 1, &below, E, &link.step, &link.number)) {
      below = match_vector(m, x->def, &link);
      if (below == NULL) below = match_groups(m, x->def, &link);
    }
    if (below == NULL || below == x || !router_has_rows(m, below, E)) {
      m->out->n_nodes = noted;
      break;
    }
    router_note(m, x->def);
    link.value = x;
    out->link[out->n++] = link;
    x = below;
  }
  out->root = x;
}

/* ---- Selection ----------------------------------------------------------- */

static const expr_t *rows_of(matcher_t *m, const ir_type_t *type,
                             int64_t axis) {
  expr_pool_t *pool = m->ctx->module->exprs;
  if (axis < 0) axis += type->rank;
  return expr_product(pool, type->dim, (unsigned)axis);
}

static bool match_topk(matcher_t *m, const ir_op_t *op, int64_t *out_k) {
  moe_router_t *r = m->out;
  if (!is_row_topk(op, &r->E, out_k)) return false;
  ir_value_t *x = op->in[0].value;
  r->T = rows_of(m, &x->type, ir_get_int(op, ATTR_TOPK_axis));
  m->topk = op;
  m->choice[0] = router_strip(m, x);
  router_note(m, op);
  return dtype_is_float(x->type.dtype);
}

/* The first k of results of a topk; *out_k of them. */
static const ir_op_t *behind_slice(matcher_t *m, const ir_value_t *x,
                                   unsigned result, int64_t *out_k) {
  const ir_op_t *op = x->def;
  if (op == NULL || op->code != OP_SLICE) return NULL;
  const ir_value_t *all = op->in[0].value;
  const ir_op_t *topk = all->def;
  if (topk == NULL || topk->code != OP_TOPK || all->index != result ||
      ir_get_int(topk, ATTR_TOPK_sorted) == 0)
    return NULL;
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  int64_t axis = ir_get_int(topk, ATTR_TOPK_axis);
  if (axis < 0) axis += all->type.rank;
  for (unsigned d = 0; d < n; d++) {
    if (!expr_equals_const(start[d], 0) || !expr_equals_const(step[d], 1))
      return NULL;
    if (d != axis && x->type.dim[d] != all->type.dim[d]) return NULL;
  }
  if (!expr_is_const(x->type.dim[axis], out_k) || *out_k < 1) return NULL;
  router_note(m, op);
  return topk;
}

/* A round: arg_max of a choice, or topk with k = 1. */
static bool match_round(matcher_t *m, unsigned round, ir_value_t *index) {
  moe_router_t *r = m->out;
  const ir_op_t *op = index->def;
  int64_t E, k;
  bool last = false;
  if (op == NULL) return false;
  ir_value_t *x = op->n_in > 0 ? op->in[0].value : NULL;
  int64_t axis;
  if (op->code == OP_ARG_MAX) {
    axis = ir_get_int(op, ATTR_ARG_MAX_axis);
    last = ir_get_int(op, ATTR_ARG_MAX_select_last_index) != 0;
    if (axis < 0) axis += x->type.rank;
    if (!expr_is_const(x->type.dim[axis], &E) || !router_reduces_row(op, E))
      return false;
  } else if (op->code == OP_TOPK && index->index == 1) {
    axis = ir_get_int(op, ATTR_TOPK_axis);
    if (!is_row_topk(op, &E, &k) || k != 1) return false;
  } else {
    return false;
  }
  if (!dtype_is_float(x->type.dtype)) return false;
  const expr_t *T = rows_of(m, &x->type, axis);
  if (round == 0) {
    r->T = T;
    r->E = E;
    r->route.last_index = last;
  }
  router_note(m, op);
  m->column[round] = index;
  m->choice[round] = router_strip(m, x);
  return T == r->T && E == r->E && last == r->route.last_index;
}

/* x is `before` with the expert of `index` removed. */
static bool match_removal(matcher_t *m, const ir_value_t *x,
                          const ir_value_t *before, ir_value_t *index,
                          double *out_fill, bool *out_multiply) {
  const ir_op_t *op = x->def;
  int64_t E = m->out->E;
  double member[2];
  *out_multiply = false;
  if (op == NULL) return false;
  router_note(m, op);
  if (op->code == OP_SCATTER_ELEMENTS) {
    const ir_type_t *base = &op->in[0].value->type;
    const ir_type_t *at = &op->in[1].value->type;
    return rule_scatters_by(op, "none") &&
           router_is_row(base, ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis), E) &&
           router_is_per_row(at, base, E) && at->rank == base->rank &&
           router_strip(m, op->in[0].value) == before &&
           router_strip_index(m, op->in[1].value, E) == index &&
           rule_splat_float(op->in[2].value, out_fill);
  }
  if (op->code == OP_SELECT) {
    for (unsigned i = 1; i <= 2; i++) {
      if (router_strip(m, op->in[i].value) != before ||
          !rule_splat_float(op->in[3 - i].value, out_fill) ||
          !router_has_rows(m, op->in[0].value, E) ||
          !router_is_membership(m, op->in[0].value, index, E, member))
        continue;
      return member[1] == (i == 1 ? 0 : 1) && member[0] == (i == 1 ? 1 : 0);
    }
    return false;
  }
  for (unsigned i = 0; op->code == OP_MUL && i < 2; i++) {
    if (router_strip(m, op->in[i].value) != before ||
        !router_has_rows(m, op->in[1 - i].value, E) ||
        !router_is_membership(m, op->in[1 - i].value, index, E, member))
      continue;
    *out_multiply = true;
    return member[1] == 0 && member[0] == 1;
  }
  return false;
}

/* Not of 16-bit numbers: those are rounded at other places once a removal is
 * spelled in another way. */
static bool match_rounds(matcher_t *m) {
  route_t *r = &m->out->route;
  if (dtype_bits(m->choice[0]->type.dtype) < 32) return false;
  m->rounds = true;
  r->rounds = true;
  r->k = m->n_columns;
  for (unsigned i = 0; i + 1 < m->n_columns; i++) {
    double fill = 0;
    bool multiply;
    if (!match_removal(m, m->choice[i + 1], m->choice[i], m->column[i], &fill,
                       &multiply))
      return false;
    if (i > 0 && (fill != r->removed || multiply != r->remove_multiply))
      return false;
    r->removed = fill;
    r->remove_multiply = multiply;
  }
  return true;
}

enum { INDEX_RANGE = INT32_MAX };

/* Indices of rounds side by side. */
static bool match_columns(matcher_t *m, ir_value_t *index) {
  const ir_op_t *op = index->def;
  if (op == NULL || op->code != OP_CONCAT || op->n_in > ROUTER_MAX_COLUMNS ||
      !router_is_row(&index->type, ir_get_int(op, ATTR_CONCAT_axis), op->n_in))
    return false;
  router_note(m, op);
  m->n_columns = op->n_in;
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *column = router_strip_index(m, op->in[i].value, INDEX_RANGE);
    if (!match_round(m, i, column) || !router_has_rows(m, column, 1))
      return false;
  }
  return true;
}

bool router_match_selection(matcher_t *m, ir_value_t *expert) {
  moe_router_t *r = m->out;
  ir_value_t *index = router_strip_index(m, expert, INDEX_RANGE);
  m->expert = r->expert = index;
  if (index->type.dtype != DT_I64 || index->def == NULL) return false;
  if (index->def->code == OP_TOPK && index->index == 1)
    return match_topk(m, index->def, &r->route.k) &&
           router_has_rows(m, index, r->route.k);
  int64_t k, all;
  const ir_op_t *topk = behind_slice(m, index, 1, &k);
  if (topk != NULL) {
    r->route.k = k;
    return match_topk(m, topk, &all);
  }
  if (index->def->code == OP_ARG_MAX) {
    m->n_columns = 1;
    return match_round(m, 0, index) && match_rounds(m);
  }
  return match_columns(m, index) && match_rounds(m);
}
