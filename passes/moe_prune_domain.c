/* What rows can be that normalisations or bounded functions give, and what sums
 * of their elements times weights can be.
 *
 * After x / sqrt(mean(x^2) + epsilon) a row of n elements is no longer than
 * sqrt(n), whatever x was, also where x^2 is infinite; LayerNorm gives the same
 * bound. That its rows have no mean is not used: rounding may give them one. */
#include <math.h>

#include "passes/moe_prune.h"
#include "passes/rules.h"

/* ---- Normalisations ------------------------------------------------------ */

static const ir_op_t *def_of(const ir_value_t *v, ir_opcode_t code) {
  return v != NULL && v->def != NULL && v->def->code == code ? v->def : NULL;
}

static bool is_number(const ir_value_t *v, double number) {
  double x;
  return rule_splat_float(v, &x) && x == number;
}

/* The sum over the last axis of y * y, or NULL. */
static const ir_value_t *squared(const ir_value_t *sum) {
  unsigned n;
  const ir_op_t *op = def_of(sum, OP_REDUCE_SUM), *square;
  if (op == NULL) return NULL;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  const ir_value_t *x = op->in[0].value;
  if (n != 1 || axes[0] != (int64_t)x->type.rank - 1) return NULL;
  if ((square = def_of(x, OP_MUL)) != NULL)
    return square->in[0].value == square->in[1].value ? square->in[0].value
                                                      : NULL;
  square = def_of(x, OP_POW);
  return square != NULL && is_number(square->in[1].value, 2)
             ? square->in[0].value
             : NULL;
}

/* y where v = mean(y * y) over the last axis of n elements. */
static const ir_value_t *mean_square(const ir_value_t *v, int64_t n) {
  const ir_op_t *op = def_of(v, OP_DIV);
  if (op != NULL && is_number(op->in[1].value, (double)n))
    return squared(op->in[0].value);
  op = def_of(v, OP_MUL);
  for (unsigned i = 0; op != NULL && i < 2; i++)
    if (is_number(op->in[i].value, (double)(1 / (float)n)))
      return squared(op->in[1 - i].value);
  return NULL;
}

/* y where v = mean(y * y) + epsilon, with an epsilon that is no rounding
 * error of it. */
static const ir_value_t *regular(const ir_value_t *v, int64_t n) {
  const ir_op_t *op = def_of(v, OP_ADD);
  double epsilon;
  for (unsigned i = 0; op != NULL && i < 2; i++)
    if (rule_splat_float(op->in[i].value, &epsilon) && epsilon > 1e-20)
      return mean_square(op->in[1 - i].value, n);
  return NULL;
}

static const ir_value_t *inside_root(const ir_value_t *v, int64_t n) {
  const ir_op_t *op = def_of(v, OP_SQRT);
  if (op != NULL) return regular(op->in[0].value, n);
  op = def_of(v, OP_POW);
  return op != NULL && is_number(op->in[1].value, 0.5)
             ? regular(op->in[0].value, n)
             : NULL;
}

static const ir_value_t *inside_inverse_root(const ir_value_t *v, int64_t n) {
  const ir_op_t *op = def_of(v, OP_DIV);
  if (op != NULL && is_number(op->in[0].value, 1))
    return inside_root(op->in[1].value, n);
  op = def_of(v, OP_POW);
  return op != NULL && is_number(op->in[1].value, -0.5)
             ? regular(op->in[0].value, n)
             : NULL;
}

/* v = y / sqrt(mean(y * y) + epsilon) */
static bool is_normalised(const ir_value_t *v, int64_t n) {
  const ir_op_t *op = def_of(v, OP_MUL);
  if (v->type.dtype != DT_F32 && v->type.dtype != DT_F64) return false;
  for (unsigned i = 0; op != NULL && i < 2; i++)
    if (inside_inverse_root(op->in[i].value, n) == op->in[1 - i].value)
      return true;
  op = def_of(v, OP_DIV);
  return op != NULL && inside_root(op->in[1].value, n) == op->in[0].value;
}

/* ---- Rows ---------------------------------------------------------------- */

/* Numbers of a constant along the last axis, the same for all rows. */
static const double *by_column(prune_bounds_t *b, const ir_value_t *v,
                               int64_t n) {
  if (!rule_is_constant(v)) return NULL;
  prune_ranges_t r = prune_ranges_of(b, v);
  double *out = ARENA_ARRAY(prune_arena(b), double, (size_t)n);
  if (r.n != 1 && r.n != n) return NULL;
  for (int64_t i = 0; i < n; i++) {
    prune_range_t x = prune_range_at(&r, i);
    if (x.lo != x.hi || !isfinite(x.lo)) return NULL;
    out[i] = x.lo;
  }
  return out;
}

static bool is_view(const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out->type;
  if (op->code == OP_CAST)
    return dtype_is_float(in->dtype) && dtype_is_float(out->dtype);
  return op->code == OP_RESHAPE && in->rank > 0 && out->rank > 0 &&
         in->dim[in->rank - 1] == out->dim[out->rank - 1];
}

static double error_of(dtype_t dtype) {
  return dtype == DT_F64   ? 0x1p-52
         : dtype == DT_F32 ? 0x1p-23
         : dtype == DT_F16 ? 0x1p-10
                           : 0x1p-7;
}

/* gamma * u + beta, u normalised: looks for it behind v. */
static bool find_ball(prune_bounds_t *b, const ir_value_t *v,
                      prune_domain_t *d) {
  enum { MAX_STEPS = 12 };
  double *gamma = ARENA_ARRAY(prune_arena(b), double, (size_t)d->n);
  double *beta = ARENA_ARRAY(prune_arena(b), double, (size_t)d->n);
  bool has_beta = false; /* of one sum: error is relative to its terms */
  d->gamma = gamma;
  d->beta = beta;
  for (int64_t i = 0; i < d->n; i++) gamma[i] = 1;
  for (unsigned step = 0; step < MAX_STEPS; step++) {
    v = prune_token_value(b, v);
    const ir_op_t *op = v->def;
    if (op == NULL) return false;
    if (is_normalised(v, d->n)) {
      double n = (double)d->n;
      d->radius = sqrt(n) * (1 + (n + 64) * 0x1p-23);
      return true;
    }
    d->epsilon += error_of(v->type.dtype);
    if (op->n_in >= 1 && op->in[0].value != NULL && is_view(op)) {
      v = op->in[0].value;
      continue;
    }
    if (op->code != OP_MUL && op->code != OP_ADD) return false;
    const double *c = by_column(b, op->in[1].value, d->n);
    unsigned other = c != NULL ? 0 : 1;
    if (c == NULL) c = by_column(b, op->in[0].value, d->n);
    if (c == NULL || (op->code == OP_ADD && has_beta)) return false;
    has_beta = has_beta || op->code == OP_ADD;
    for (int64_t i = 0; i < d->n; i++) {
      if (op->code == OP_MUL)
        gamma[i] *= c[i];
      else
        beta[i] += gamma[i] * c[i];
    }
    v = op->in[other].value;
  }
  return false;
}

void prune_domain_of(prune_bounds_t *b, const ir_value_t *x,
                     prune_domain_t *out) {
  *out = (prune_domain_t){.n = 0};
  unsigned rank = x->type.rank;
  out->box = prune_ranges_of(b, x);
  if (rank == 0 || !expr_is_const(x->type.dim[rank - 1], &out->n) ||
      out->n < 1 || out->n > (INT64_C(1) << 20))
    return;
  out->is_ball = find_ball(b, x, out);
}

bool prune_is_limited(const prune_domain_t *d) {
  if (d->is_ball) return true;
  for (int64_t i = 0; i < d->box.n; i++)
    if (prune_is_bounded(d->box.range[i])) return true;
  return false;
}

/* ---- Sums ---------------------------------------------------------------- */

static prune_range_t in_ball(const prune_domain_t *d, dtype_t dtype,
                             const double *w, double *out_slack) {
  double centre = 0, square = 0, size = 0;
  for (int64_t i = 0; i < d->n; i++) {
    double g = w[i] * d->gamma[i];
    centre += w[i] * d->beta[i];
    square += g * g;
    size += fabs(w[i] * d->beta[i]);
  }
  double reach = d->radius * sqrt(square);
  double n = (double)d->n + 16;
  double error = (n * 0x1p-23 + d->epsilon + error_of(dtype));
  *out_slack = (reach + size) * error + n * 0x1p-126;
  return (prune_range_t){centre - reach, centre + reach};
}

static prune_range_t in_box(const prune_domain_t *d, dtype_t dtype,
                            const double *w, double *out_slack) {
  prune_range_t sum = {0, 0};
  double size = 0;
  for (int64_t i = 0; i < d->n; i++) {
    prune_range_t x = prune_range_at(&d->box, i);
    if (!isfinite(w[i]) || isinf(x.lo) || isnan(x.lo))
      return (prune_range_t){NAN, NAN};
    if (w[i] == 0 || prune_is_zero(x)) continue;
    double a = w[i] * x.lo, b = w[i] * x.hi;
    sum.lo += fmin(a, b);
    sum.hi += fmax(a, b);
    size += fmax(fabs(a), fabs(b));
  }
  double n = (double)d->n + 16;
  *out_slack =
      size == 0 ? 0 : size * (n * 0x1p-23 + error_of(dtype)) + n * 0x1p-126;
  return sum;
}

bool prune_is_ball(const prune_domain_t *d) {
  return d->is_ball && d->box.n == 1 && !prune_is_bounded(d->box.range[0]);
}

prune_range_t prune_dot(const prune_domain_t *d, dtype_t dtype, const double *w,
                        double *out_slack) {
  prune_range_t r = {-PRUNE_ANY, PRUNE_ANY};
  *out_slack = 0;
  if (!prune_is_ball(d)) r = in_box(d, dtype, w, out_slack);
  if (d->is_ball && !isnan(r.lo)) {
    double slack;
    prune_range_t ball = in_ball(d, dtype, w, &slack);
    bool closer = !prune_is_bounded(r) ||
                  ball.hi - ball.lo + 2 * slack < r.hi - r.lo + 2 * *out_slack;
    if (closer) {
      r = ball;
      *out_slack = slack;
    }
  }
  if (isnan(r.lo) || isnan(r.hi) || isnan(*out_slack))
    return (prune_range_t){NAN, NAN};
  r.lo -= *out_slack;
  r.hi += *out_slack;
  if (!(r.lo > -PRUNE_ANY)) r.lo = -PRUNE_ANY;
  if (!(r.hi < PRUNE_ANY)) r.hi = PRUNE_ANY;
  return r;
}
