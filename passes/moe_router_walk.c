/* Values of routers behind views, and single steps back from them. */
#include <math.h>
#include <string.h>

#include "passes/moe_router_internal.h"

void router_note(matcher_t *m, const ir_op_t *op) {
  moe_router_t *r = m->out;
  if (op != NULL && r->n_nodes < MOE_ROUTER_NODES) r->node[r->n_nodes++] = op;
}

/* ---- Views --------------------------------------------------------------- */

static bool same_count(const ir_value_t *a, const ir_value_t *b) {
  expr_pool_t *pool = a->def != NULL ? a->def->module->exprs : NULL;
  if (pool == NULL && b->def != NULL) pool = b->def->module->exprs;
  return pool != NULL &&
         ir_type_count(pool, &a->type) == ir_type_count(pool, &b->type);
}

/* Moves axes of 1 only. */
static bool keeps_order(const ir_op_t *op) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  const ir_type_t *x = &op->in[0].value->type;
  int64_t last = -1;
  for (unsigned i = 0; i < n; i++) {
    if (rule_is_one(x->dim[perm[i]])) continue;
    if (perm[i] < last) return false;
    last = perm[i];
  }
  return true;
}

static bool is_view(const ir_op_t *op) {
  switch (op->code) {
    case OP_RESHAPE:
      return true;
    case OP_EXPAND:
      return same_count(op->in[0].value, &op->out[0]);
    case OP_TRANSPOSE:
      return keeps_order(op);
    case OP_CAST:
      return op->in[0].value->type.dtype == op->out[0].type.dtype;
    case OP_CONCAT:
      return op->n_in == 1;
    default:
      return false;
  }
}

ir_value_t *router_strip(matcher_t *m, ir_value_t *x) {
  while (x->def != NULL && is_view(x->def)) {
    router_note(m, x->def);
    x = x->def->in[0].value;
  }
  return x;
}

static bool holds_below(dtype_t dtype, int64_t n) {
  unsigned bits = dtype_bits(dtype);
  if (!dtype_is_integer(dtype)) return false;
  return bits >= 64 || n <= (int64_t)1 << (bits - 1);
}

ir_value_t *router_strip_index(matcher_t *m, ir_value_t *x, int64_t n) {
  for (;;) {
    x = router_strip(m, x);
    const ir_op_t *op = x->def;
    if (op == NULL || op->code != OP_CAST || !holds_below(x->type.dtype, n) ||
        !holds_below(op->in[0].value->type.dtype, n))
      return x;
    router_note(m, op);
    x = op->in[0].value;
  }
}

/* ---- Rows ---------------------------------------------------------------- */

bool router_is_row(const ir_type_t *type, int64_t axis, int64_t width) {
  if (axis < 0) axis += type->rank;
  if (axis < 0 || axis >= type->rank) return false;
  if (!expr_equals_const(type->dim[axis], width)) return false;
  for (unsigned d = (unsigned)axis + 1; d < type->rank; d++)
    if (!rule_is_one(type->dim[d])) return false;
  return true;
}

/* The axis with `width` elements, -1 if there is none. */
static int row_axis(const ir_type_t *type, int64_t width) {
  for (int d = (int)type->rank - 1; d >= 0; d--)
    if (router_is_row(type, d, width)) return d;
  return -1;
}

bool router_reduces_row(const ir_op_t *op, int64_t width) {
  const ir_type_t *x = &op->in[0].value->type;
  unsigned n;
  const int64_t *axes;
  switch (op->code) {
    case OP_ARG_MAX:
      return router_is_row(x, ir_get_int(op, ATTR_ARG_MAX_axis), width);
    case OP_SOFTMAX:
      return router_is_row(x, ir_get_int(op, ATTR_SOFTMAX_axis), width);
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
      axes = ir_get_ints(op, ir_op_info(op->code)->attr_first, &n);
      return n == 1 && router_is_row(x, axes[0], width);
    default:
      return false;
  }
}

bool router_is_per_row(const ir_type_t *y, const ir_type_t *x, int64_t width) {
  int axis = row_axis(x, width);
  if (axis < 0 || y->rank > x->rank) return false;
  unsigned skipped = x->rank - y->rank;
  for (unsigned d = 0; d < x->rank; d++) {
    const expr_t *dim = d < skipped ? NULL : y->dim[d - skipped];
    bool one = dim == NULL || rule_is_one(dim);
    bool same = dim == NULL ? rule_is_one(x->dim[d]) : dim == x->dim[d];
    if ((int)d == axis ? !one : !same) return false;
  }
  return true;
}

/* ---- Steps --------------------------------------------------------------- */

static bool is_routed(dtype_t dtype) {
  return dtype == DT_F16 || dtype == DT_BF16 || dtype == DT_F32 ||
         dtype == DT_F64;
}

static bool number_of(const ir_value_t *x, double *out) {
  return rule_splat_float(x, out) && !isnan(*out);
}

/* code(w, number) or code(number, w). */
static ir_value_t *step_with_number(const ir_op_t *op, step_info_t *step,
                                    double *number) {
  ir_value_t *a = op->in[0].value, *b = op->in[1].value;
  bool commutes = ir_has_trait(op, COMMUTATIVE);
  ir_value_t *below = NULL;
  if (a->type.dtype != b->type.dtype) return NULL;
  if (number_of(b, number) && route_step_by_code(STEP_RIGHT, op->code, step))
    below = a;
  else if (number_of(a, number) &&
           route_step_by_code(commutes ? STEP_RIGHT : STEP_LEFT, op->code,
                              step))
    below = b;
  else if (a == b && route_step_by_code(STEP_SQUARE, op->code, step))
    below = a;
  if (below == NULL || !same_count(below, &op->out[0])) return NULL;
  if (step->form == STEP_SQUARE) *number = 0;
  return below;
}

/* y of exp(y - max(y)) / sum(exp(y - max(y))), computed as softmax has it:
 * types whose softmax rounds after the same operations. */
static ir_value_t *spelled_softmax(matcher_t *m, const ir_op_t *div,
                                   int64_t width) {
  dtype_t dtype = div->out[0].type.dtype;
  ir_value_t *e = router_strip(m, div->in[0].value);
  ir_value_t *sum = router_strip(m, div->in[1].value);
  if ((dtype != DT_F32 && dtype != DT_F64) || e->def == NULL ||
      e->def->code != OP_EXP || sum->def == NULL ||
      sum->def->code != OP_REDUCE_SUM)
    return NULL;
  if (!router_reduces_row(sum->def, width) ||
      !router_is_per_row(&div->in[1].value->type, &div->in[0].value->type,
                         width) ||
      router_strip(m, sum->def->in[0].value) != e)
    return NULL;
  const ir_value_t *shifted = router_strip(m, e->def->in[0].value);
  if (shifted->def == NULL || shifted->def->code != OP_SUB) return NULL;
  ir_value_t *y = shifted->def->in[0].value, *below = shifted->def->in[1].value;
  const ir_value_t *max = router_strip(m, below);
  if (max->def == NULL || max->def->code != OP_REDUCE_MAX ||
      !router_reduces_row(max->def, width) ||
      !router_is_per_row(&below->type, &y->type, width) ||
      router_strip(m, max->def->in[0].value) != router_strip(m, y))
    return NULL;
  router_note(m, sum->def);
  router_note(m, e->def);
  router_note(m, shifted->def);
  router_note(m, max->def);
  return y;
}

static ir_value_t *read_step(matcher_t *m, const ir_value_t *x, int64_t width,
                             step_info_t *step, double *number) {
  const ir_op_t *op = x->def;
  *number = 0;
  if (op == NULL || op->n_out != 1 || op->n_in == 0 ||
      !is_routed(x->type.dtype) || ir_in(op, 0) == NULL ||
      !is_routed(op->in[0].value->type.dtype))
    return NULL;
  ir_value_t *below = NULL;
  if (op->code == OP_CAST) {
    *step = route_step_cast(x->type.dtype);
    below = op->in[0].value;
  } else if (op->code == OP_SOFTMAX && router_reduces_row(op, width)) {
    if (route_step_by_code(STEP_SOFTMAX, OP_SOFTMAX, step))
      below = op->in[0].value;
  } else if (op->n_in == 1 && ir_has_trait(op, ELEMENTWISE)) {
    if (route_step_by_code(STEP_UNARY, op->code, step)) below = op->in[0].value;
  } else if (op->n_in == 2 && ir_has_trait(op, ELEMENTWISE)) {
    below = step_with_number(op, step, number);
    if (below == NULL && op->code == OP_DIV &&
        route_step_by_code(STEP_SOFTMAX, OP_SOFTMAX, step))
      below = spelled_softmax(m, op, width);
  }
  return below;
}

bool router_step(matcher_t *m, unsigned n, ir_value_t **value, int64_t width,
                 step_info_t *out_step, double *out_number) {
  ir_value_t *below[ROUTER_MAX_COLUMNS];
  for (unsigned i = 0; i < n; i++) {
    step_info_t step;
    double number;
    below[i] = read_step(m, value[i], width, &step, &number);
    if (below[i] == NULL) return false;
    if (n > 1 && step.form == STEP_SOFTMAX) return false;
    if (i > 0 && (strcmp(step.name, out_step->name) != 0 ||
                  step.form != out_step->form || number != *out_number))
      return false;
    *out_step = step;
    *out_number = number;
  }
  for (unsigned i = 0; i < n; i++) {
    router_note(m, value[i]->def);
    value[i] = router_strip(m, below[i]);
  }
  return true;
}
