/* Counts the trips of a while. Its condition is true in trip i as long as
 * numbers base + step * i are below others; so each comparison says how many
 * trips there are at most, and the number is that of one of them where no other
 * ends the loop earlier. */
#include "passes/trips.h"

#include "passes/rules.h"

enum { MAX_LIMITS = 8, MAX_DEPTH = 16, NEAR = 1024 };

#define UNLIMITED (INT64_MAX / 2)

/* ---- Numbers that grow with the trips ------------------------------------ */

/* Integers from 0 up to this are told apart by a type; 0: none are. */
static int64_t most_of(dtype_t dtype) {
  switch (dtype) {
    case DT_I64:
      return UNLIMITED;
    case DT_I32:
      return INT32_MAX;
    case DT_F64:
      return INT64_C(1) << 53;
    case DT_F32:
      return INT64_C(1) << 24;
    default:
      return 0;
  }
}

static bool is_one_number(const ir_value_t *value) {
  return rule_has_one_element(&value->type) && most_of(value->type.dtype) > 0;
}

static bool find_linear(const ir_op_t *loop, const ir_value_t *value,
                        unsigned depth, linear_t *out);

/* A state that a known number is added to in each trip, or that stays. */
static bool find_state(const ir_op_t *loop, const ir_value_t *arg,
                       unsigned depth, linear_t *out) {
  const ir_op_t *yield = loop->regions[0].last;
  const ir_value_t *next = ir_in(yield, arg->index);
  const ir_value_t *init = ir_in(loop, 1 + arg->index);
  if (next == arg) return find_linear(loop, init, depth, out);
  const ir_op_t *op = next->def;
  linear_t by;
  if (op == NULL || (op->code != OP_ADD && op->code != OP_SUB) ||
      !dtype_is_integer(arg->type.dtype) ||
      !rule_same_dims(&next->type, &arg->type))
    return false;
  unsigned other = ir_in(op, 0) == arg ? 1 : 0;
  if ((op->code == OP_SUB && other == 0) || ir_in(op, 1 - other) != arg ||
      !find_linear(loop, init, depth, out) ||
      !find_linear(loop, ir_in(op, other), depth, &by) || by.step != 0 ||
      !expr_is_const(by.base, &out->step) || out->step < -NEAR ||
      out->step > NEAR)
    return false;
  if (op->code == OP_SUB) out->step = -out->step;
  return true;
}

static bool find_sum(const ir_op_t *loop, const ir_op_t *op, unsigned depth,
                     linear_t *out) {
  linear_t by;
  if (!find_linear(loop, ir_in(op, 0), depth, out) ||
      !find_linear(loop, ir_in(op, 1), depth, &by))
    return false;
  expr_pool_t *pool = loop->module->exprs;
  bool adds = op->code == OP_ADD;
  out->base = adds ? expr_add(pool, out->base, by.base)
                   : expr_sub(pool, out->base, by.base);
  out->step += adds ? by.step : -by.step;
  if (by.most < out->most) out->most = by.most;
  return true;
}

/* A number that is known in front of the loop. */
static bool find_known(const ir_op_t *loop, const ir_value_t *value,
                       linear_t *out) {
  double number;
  const expr_t *known = ir_known(value, 0);
  if (known == NULL && rule_splat_float(value, &number) && number >= -NEAR &&
      number <= (double)NEAR && number == (double)(int64_t)number)
    known = expr_const(loop->module->exprs, (int64_t)number);
  if (known == NULL) return false;
  out->base = known;
  out->step = 0;
  return true;
}

static bool find_linear(const ir_op_t *loop, const ir_value_t *value,
                        unsigned depth, linear_t *out) {
  const ir_op_t *op = value->def;
  if (depth == MAX_DEPTH || !is_one_number(value)) return false;
  *out = (linear_t){.most = UNLIMITED};
  bool found = false;
  if (value->region == &loop->regions[0]) {
    out->base = expr_const(loop->module->exprs, 0);
    out->step = 1;
    found = value->index == 0 || find_state(loop, value, depth + 1, out);
  } else if (find_known(loop, value, out)) {
    found = true;
  } else if (op != NULL && (op->code == OP_CAST || op->code == OP_RESHAPE)) {
    found = find_linear(loop, ir_in(op, 0), depth + 1, out);
  } else if (op != NULL && (op->code == OP_ADD || op->code == OP_SUB)) {
    found = find_sum(loop, op, depth + 1, out);
  }
  int64_t most = most_of(value->type.dtype);
  if (most < out->most) out->most = most;
  return found;
}

bool trips_linear(const ir_op_t *loop, const ir_value_t *value, linear_t *out) {
  return find_linear(loop, value, 0, out);
}

/* ---- Conditions ---------------------------------------------------------- */

typedef struct limits {
  const ir_op_t *loop;
  expr_pool_t *pool;
  /* The condition holds in trips before these; before the loop, it holds where
   * these are positive. */
  const expr_t *limit[MAX_LIMITS];
  unsigned n;
  const expr_t *narrow[2 * MAX_LIMITS]; /* numbers in types with few integers */
  unsigned n_narrow;
  int64_t most;
  bool inside;
} limits_t;

static bool note_narrow(limits_t *l, const linear_t *x) {
  if (x->most == UNLIMITED) return true;
  if (x->most < l->most) l->most = x->most;
  l->narrow[l->n_narrow++] = x->base;
  return x->step >= -1 && x->step <= 1;
}

/* a < b, or a <= b */
static bool add_comparison(limits_t *l, const ir_value_t *a,
                           const ir_value_t *b, bool equal) {
  linear_t x, y;
  int64_t number;
  if (l->n == MAX_LIMITS || !trips_linear(l->loop, a, &x) ||
      !trips_linear(l->loop, b, &y) || !note_narrow(l, &x) ||
      !note_narrow(l, &y))
    return false;
  const expr_t *limit = expr_sub(l->pool, y.base, x.base);
  if (equal) limit = expr_add(l->pool, limit, expr_const(l->pool, 1));
  int64_t step = y.step - x.step;
  if (step == 0 && expr_is_const(limit, &number) && number > 0) return true;
  if (step != (l->inside ? -1 : 0)) return false;
  l->limit[l->n++] = limit;
  return true;
}

static bool add_condition(limits_t *l, const ir_value_t *value,
                          unsigned depth) {
  const ir_op_t *op = value->def;
  int64_t number;
  if (depth == MAX_DEPTH || !rule_has_one_element(&value->type)) return false;
  if (rule_splat_int(value, &number)) return number != 0;
  if (op == NULL) return false;
  switch (op->code) {
    case OP_RESHAPE:
      return add_condition(l, ir_in(op, 0), depth + 1);
    case OP_AND:
      return add_condition(l, ir_in(op, 0), depth + 1) &&
             add_condition(l, ir_in(op, 1), depth + 1);
    case OP_LT:
    case OP_LE:
      return add_comparison(l, ir_in(op, 0), ir_in(op, 1), op->code == OP_LE);
    case OP_NOT:
      op = ir_in(op, 0)->def;
      return op != NULL && (op->code == OP_LT || op->code == OP_LE) &&
             add_comparison(l, ir_in(op, 1), ir_in(op, 0), op->code == OP_LT);
    default:
      return false;
  }
}

/* ---- The number ---------------------------------------------------------- */

static bool is_at_least(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  int64_t bound;
  return expr_lower_bound(expr_sub(pool, a, b), &bound) && bound >= 0;
}

/* Whether the loop runs n times where n is positive, and never where it is
 * not; n is one of the limits inside, or `most`. */
static bool runs(const limits_t *inside, const limits_t *before,
                 const expr_t *most, const expr_t *n) {
  int64_t bound;
  bool starts = (expr_lower_bound(n, &bound) && bound > 0) || n == most;
  if (most != NULL && !is_at_least(inside->pool, most, n)) return false;
  for (unsigned i = 0; i < inside->n; i++)
    if (!is_at_least(inside->pool, inside->limit[i], n)) return false;
  for (unsigned i = 0; i < before->n; i++) {
    if (!is_at_least(inside->pool, before->limit[i], n)) return false;
    starts |= before->limit[i] == n;
  }
  return starts;
}

/* Numbers in narrow types must be small, or the number of trips. */
static bool are_near(const limits_t *l, const expr_t *n) {
  int64_t number;
  for (unsigned i = 0; i < l->n_narrow; i++) {
    const expr_t *e = l->narrow[i];
    if (!expr_is_const(e, &number) &&
        !expr_is_const(expr_sub(l->pool, e, n), &number))
      return false;
    if (number < -NEAR || number > NEAR) return false;
  }
  return true;
}

const expr_t *trips_count(const ir_op_t *loop, int64_t *out_most) {
  expr_pool_t *pool = loop->module->exprs;
  const ir_op_t *yield = loop->regions[0].last;
  const expr_t *most = ir_known(ir_in(loop, 0), 0), *zero = expr_const(pool, 0);
  limits_t inside = {
      .loop = loop, .pool = pool, .most = UNLIMITED, .inside = true};
  limits_t before = {.loop = loop, .pool = pool, .most = UNLIMITED};
  int64_t number;
  if (most == NULL || !add_condition(&before, ir_in(loop, 1), 0) ||
      !add_condition(&inside, ir_in(yield, 0), 0))
    return NULL;
  if (expr_is_const(most, &number) && number >= UNLIMITED) most = NULL;
  for (unsigned i = 0; i < inside.n;
       i++) /* one trip after the last that holds */
    inside.limit[i] = expr_add(pool, inside.limit[i], expr_const(pool, 1));
  for (unsigned i = 0; i <= inside.n; i++) {
    const expr_t *n = i < inside.n ? inside.limit[i] : most;
    if (n == NULL || !runs(&inside, &before, most, n) ||
        !are_near(&inside, n) || !are_near(&before, n))
      continue;
    *out_most = inside.most < before.most ? inside.most : before.most;
    if (*out_most < UNLIMITED) *out_most -= 2 * NEAR;
    return expr_max(pool, zero, n);
  }
  return NULL;
}
