/* Bounds of single numbers and of elementwise functions.
 *
 * Additions and products of f32 are bounded in the very arithmetic: rounding
 * keeps order, so the rounded bounds hold for what is computed. All other
 * results are moved outwards by more than the functions' error. */
#include <math.h>

#include "passes/moe_prune.h"

static const prune_range_t anything = {-PRUNE_ANY, PRUNE_ANY};
static const prune_range_t nothing = {NAN, NAN};

static bool fails(prune_range_t r) { return isnan(r.lo) || isnan(r.hi); }

/* More than the relative error of one operation, or of a function. */
static double relative_error(dtype_t dtype) {
  switch (dtype) {
    case DT_F64:
      return 0x1p-46;
    case DT_F32:
      return 0x1p-18;
    case DT_F16:
      return 0x1p-8;
    default:
      return 0x1p-5;
  }
}

/* Below this, results may be rounded to zero. */
static double least_normal(dtype_t dtype) {
  return dtype == DT_F64 ? 0x1p-1022 : dtype == DT_F16 ? 0x1p-14 : 0x1p-126;
}

static double largest(dtype_t dtype) {
  return dtype == DT_F64 ? PRUNE_ANY : dtype == DT_F16 ? 65504 : 0x1.fffffep127;
}

/* What is finite only by assumption has no bound that is known. */
static prune_range_t clamp(dtype_t dtype, prune_range_t r) {
  if (fails(r)) return nothing;
  if (r.lo != -INFINITY && !(r.lo > -largest(dtype))) r.lo = -PRUNE_ANY;
  if (!(r.hi < largest(dtype)) && r.hi != INFINITY) r.hi = PRUNE_ANY;
  if (r.hi == INFINITY && r.lo != INFINITY) r.hi = PRUNE_ANY;
  if (r.lo == INFINITY) return nothing;
  return r;
}

prune_range_t prune_widen(dtype_t dtype, prune_range_t r) {
  double error = relative_error(dtype), least = least_normal(dtype);
  if (fails(r)) return nothing;
  if (r.lo != 0 && isfinite(r.lo)) r.lo -= fabs(r.lo) * error + least;
  if (r.hi != 0 && isfinite(r.hi)) r.hi += fabs(r.hi) * error + least;
  return clamp(dtype, r);
}

/* Rounded as the operation rounds: its bounds are those of the result. */
static prune_range_t rounded(dtype_t dtype, prune_range_t r) {
  if (fails(r)) return nothing;
  if (dtype != DT_F32) return prune_widen(dtype, r);
  if (fabs(r.lo) < 0x1p127)
    r.lo = (double)(float)r.lo;
  else if (r.lo != -INFINITY)
    r.lo = -PRUNE_ANY;
  if (fabs(r.hi) < 0x1p127)
    r.hi = (double)(float)r.hi;
  else if (r.hi != -INFINITY)
    r.hi = PRUNE_ANY;
  return clamp(dtype, r);
}

/* ---- Functions of one number --------------------------------------------- */

static double value_of(ir_opcode_t code, double x) {
  switch (code) {
    case OP_SQRT:
      return sqrt(x);
    case OP_EXP:
      return exp(x);
    case OP_EXPM1:
      return expm1(x);
    case OP_LOG:
      return log(x);
    case OP_LOG1P:
      return log1p(x);
    case OP_TANH:
      return tanh(x);
    case OP_ERF:
      return erf(x);
    case OP_ATAN:
      return atan(x);
    case OP_SIGMOID:
      return 1 / (1 + exp(-x));
    default:
      return NAN;
  }
}

/* What results of an ascending function can be at all. */
static prune_range_t image_of(ir_opcode_t code) {
  switch (code) {
    case OP_SQRT:
    case OP_EXP:
      return (prune_range_t){0, PRUNE_ANY};
    case OP_EXPM1:
      return (prune_range_t){-1, PRUNE_ANY};
    case OP_TANH:
    case OP_ERF:
      return (prune_range_t){-1, 1};
    case OP_SIGMOID:
      return (prune_range_t){0, 1};
    case OP_ATAN:
      return (prune_range_t){-1.6, 1.6};
    default:
      return anything;
  }
}

static bool is_ascending(ir_opcode_t code) {
  return code == OP_SQRT || code == OP_EXP || code == OP_EXPM1 ||
         code == OP_LOG || code == OP_LOG1P || code == OP_TANH ||
         code == OP_ERF || code == OP_ATAN || code == OP_SIGMOID;
}

static bool keeps_zero(ir_opcode_t code) {
  return code == OP_SIN || code == OP_TAN || code == OP_ASIN ||
         code == OP_SINH || code == OP_ASINH || code == OP_ATANH ||
         code == OP_FLOOR || code == OP_CEIL || code == OP_ROUND ||
         code == OP_TRUNC || code == OP_SIGN;
}

static prune_range_t ascending(ir_opcode_t code, dtype_t dtype,
                               prune_range_t a) {
  prune_range_t image = image_of(code), r;
  bool is_log = code == OP_LOG || code == OP_LOG1P;
  if (a.lo == -INFINITY && (is_log || code == OP_SQRT)) return nothing;
  if ((code == OP_SQRT || code == OP_LOG) && a.lo < 0) return image;
  if (code == OP_LOG1P && a.lo < -1) return image;
  r.lo =
      a.lo <= -PRUNE_ANY && a.lo != -INFINITY ? image.lo : value_of(code, a.lo);
  r.hi = a.hi >= PRUNE_ANY ? image.hi : value_of(code, a.hi);
  if (r.hi == 0 && a.hi != 0 && a.hi != -INFINITY)
    r.hi = 0x1p-1022; /* not exactly, perhaps */
  r = prune_widen(dtype, r);
  if (fails(r)) return nothing;
  if (r.lo < image.lo && r.lo != -INFINITY) r.lo = image.lo;
  if (r.hi > image.hi) r.hi = image.hi;
  return r;
}

static prune_range_t unary(ir_opcode_t code, dtype_t dtype, prune_range_t a) {
  if (is_ascending(code)) return ascending(code, dtype, a);
  if (code == OP_NEG)
    return a.lo == -INFINITY ? nothing : (prune_range_t){-a.hi, -a.lo};
  if (code == OP_ABS) {
    double most = fmax(fabs(a.lo), fabs(a.hi));
    if (isinf(most)) return nothing;
    return (prune_range_t){fmax(0, fmax(a.lo, -a.hi)), most};
  }
  if (keeps_zero(code) && prune_is_zero(a)) return a;
  return anything;
}

/* ---- Functions of two numbers -------------------------------------------- */

static prune_range_t sum(dtype_t dtype, prune_range_t a, prune_range_t b) {
  return rounded(dtype, (prune_range_t){a.lo + b.lo, a.hi + b.hi});
}

static prune_range_t product(dtype_t dtype, prune_range_t a, prune_range_t b) {
  if (isinf(a.lo) || isinf(b.lo) || isinf(a.hi) || isinf(b.hi)) return nothing;
  if (prune_is_zero(a) || prune_is_zero(b)) return (prune_range_t){0, 0};
  double p[] = {a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi};
  prune_range_t r = {p[0], p[0]};
  for (unsigned i = 1; i < 4; i++) {
    r.lo = fmin(r.lo, p[i]);
    r.hi = fmax(r.hi, p[i]);
  }
  if (r.lo == -INFINITY) r.lo = -PRUNE_ANY; /* of large numbers */
  return rounded(dtype, r);
}

static prune_range_t quotient(dtype_t dtype, prune_range_t a, prune_range_t b) {
  if (isinf(a.lo) || isinf(b.lo)) return nothing;
  if (prune_is_zero(a)) return a;
  if (b.lo <= 0 && b.hi >= 0) return anything;
  prune_range_t inverse = {1 / b.hi, 1 / b.lo};
  return prune_widen(dtype, product(DT_F64, a, inverse));
}

static prune_range_t power(dtype_t dtype, prune_range_t a, prune_range_t b) {
  if (isinf(a.lo)) return nothing;
  if (b.lo != b.hi || !(b.lo > 0)) return anything;
  if (prune_is_zero(a)) return a;
  if (b.lo != 2) return anything;
  a = unary(OP_ABS, dtype, a);
  return prune_widen(dtype, (prune_range_t){a.lo * a.lo, a.hi * a.hi});
}

prune_range_t prune_compute(ir_opcode_t code, dtype_t dtype, prune_range_t a,
                            prune_range_t b) {
  if (!dtype_is_float(dtype)) return anything;
  if (fails(a) || fails(b)) return nothing;
  switch (code) {
    case OP_ADD:
      return sum(dtype, a, b);
    case OP_SUB:
      if (isinf(b.lo) || isinf(b.hi)) return nothing;
      return sum(dtype, a, (prune_range_t){-b.hi, -b.lo});
    case OP_MUL:
      return product(dtype, a, b);
    case OP_DIV:
      return quotient(dtype, a, b);
    case OP_POW:
      return power(dtype, a, b);
    case OP_MIN:
      return (prune_range_t){fmin(a.lo, b.lo), fmin(a.hi, b.hi)};
    case OP_MAX:
      return (prune_range_t){fmax(a.lo, b.lo), fmax(a.hi, b.hi)};
    case OP_CAST:
      return rounded(dtype, a);
    default:
      return unary(code, dtype, a);
  }
}

/* exp(x - largest) / sum, as real numbers: `of` against bounds of the others'
 * sum, with more added to, or taken from them than they were rounded by. */
static double share(double of, double others, double rounding) {
  others += rounding;
  return of == 0 ? 0 : of / (of + fmax(others, 0));
}

/* The relative error of such a quotient for a number that lies so far below the
 * largest: of the difference, of exp, of a sum of n. */
static double softmax_error(dtype_t dtype, int64_t n, double below) {
  double unit = dtype == DT_F64 ? 0x1p-52 : 0x1p-23;
  return ((double)n + 64 + 2 * fmin(below, 1000)) * unit;
}

/* Between exp(lo - highest) / n and 1, for all types; closer where steps are
 * not rounded to fewer bits on the way. */
static prune_range_t softmax_of(dtype_t dtype, int64_t n, prune_range_t x,
                                double highest, prune_range_t sum) {
  double lo = exp(x.lo - highest), hi = exp(x.hi - highest);
  double rounding = (double)n * 0x1p-50 * sum.hi;
  prune_range_t r = {lo / (double)n, 1};
  if (dtype == DT_F32 || dtype == DT_F64) {
    double error = softmax_error(dtype, n, highest - x.lo);
    r.lo = share(lo, sum.hi - hi, rounding) * (1 - error);
    r.hi = share(hi, sum.lo - lo, -rounding) * (1 + error);
    if (r.hi < 0x1p-1000) r.hi = 0x1p-1000; /* not exactly 0, perhaps */
  }
  r = prune_widen(dtype, r);
  return (prune_range_t){fmax(r.lo, 0), fmin(r.hi, 1)};
}

/* Of -inf it is 0, whatever the others are. */
void prune_softmax(dtype_t dtype, int64_t n, prune_range_t *range) {
  double highest = -INFINITY;
  prune_range_t sum = {0, 0};
  bool valid = true;
  for (int64_t i = 0; i < n; i++) {
    valid = valid && !fails(range[i]) && range[i].hi != INFINITY;
    highest = fmax(highest, range[i].hi);
  }
  for (int64_t i = 0; i < n; i++) {
    sum.lo += exp(range[i].lo - highest);
    sum.hi += exp(range[i].hi - highest);
  }
  for (int64_t i = 0; i < n; i++) {
    if (!valid)
      range[i] = nothing;
    else if (range[i].hi == -INFINITY)
      range[i] = (prune_range_t){0, 0};
    else
      range[i] = softmax_of(dtype, n, range[i], highest, sum);
  }
}
