/* What is known about values: ranges, comparisons, upper expressions. */
#include "ir/expr_internal.h"

#define PROOF_FUEL 24 /* replacements tried in one proof */

/* ---- Ranges -------------------------------------------------------------- */

static bool is_infinite(int64_t x) { return x == INT64_MIN || x == INT64_MAX; }

static int64_t clamp(expr_wide_t x) {
  return x <= INT64_MIN ? INT64_MIN : x >= INT64_MAX ? INT64_MAX : (int64_t)x;
}

static int64_t mul_bounds(int64_t x, int64_t y) {
  if (x == 0 || y == 0) return 0;
  if (is_infinite(x) || is_infinite(y))
    return (x < 0) == (y < 0) ? INT64_MAX : INT64_MIN;
  return clamp((expr_wide_t)x * y);
}

static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t larger(int64_t x, int64_t y) { return x > y ? x : y; }

/* A lower end never claims to be +infinity, nor an upper end -infinity: what
 * was clamped there would not take part in sums as a number. */
static expr_range_t make_range(int64_t lo, int64_t hi) {
  return (expr_range_t){smaller(lo, INT64_MAX - 1), larger(hi, INT64_MIN + 1)};
}

static expr_range_t mul_ranges(expr_range_t x, expr_range_t y) {
  int64_t p = mul_bounds(x.lo, y.lo), q = mul_bounds(x.lo, y.hi);
  int64_t r = mul_bounds(x.hi, y.lo), s = mul_bounds(x.hi, y.hi);
  return make_range(smaller(smaller(p, q), smaller(r, s)),
                    larger(larger(p, q), larger(r, s)));
}

static expr_range_t add_ranges(expr_range_t x, expr_range_t y) {
  bool no_lo = x.lo == INT64_MIN || y.lo == INT64_MIN;
  bool no_hi = x.hi == INT64_MAX || y.hi == INT64_MAX;
  return make_range(no_lo ? INT64_MIN : clamp((expr_wide_t)x.lo + y.lo),
                    no_hi ? INT64_MAX : clamp((expr_wide_t)x.hi + y.hi));
}

static expr_range_t term_range(const expr_term_t *term) {
  expr_range_t range = make_range(term->coefficient, term->coefficient);
  for (unsigned k = 0; k < term->n_atoms; k++)
    range = mul_ranges(
        range, make_range(term->atoms[k]->lower, term->atoms[k]->upper));
  return range;
}

expr_range_t expr_range(const expr_t *e) {
  expr_range_t sum = {0, 0};
  for (unsigned i = 0; i < e->n_terms; i++)
    sum = add_ranges(sum, term_range(&e->terms[i]));
  return sum;
}

static int64_t floor_bound(int64_t x, int64_t divisor) {
  return is_infinite(x) ? x : expr_floordiv_int(x, divisor);
}

static expr_range_t floordiv_range(expr_range_t a, expr_range_t b) {
  if (b.lo < 0) return (expr_range_t){INT64_MIN, INT64_MAX};
  int64_t least = larger(b.lo, 1);
  expr_range_t out;
  if (a.lo >= 0)
    out.lo = is_infinite(b.hi) ? 0 : floor_bound(a.lo, larger(b.hi, 1));
  else
    out.lo = floor_bound(a.lo, least);
  if (a.hi >= 0)
    out.hi = floor_bound(a.hi, least);
  else
    out.hi = is_infinite(b.hi) ? -1 : floor_bound(a.hi, larger(b.hi, 1));
  if (b.lo > 0) return out;
  return (expr_range_t){smaller(out.lo, 0), larger(out.hi, 0)};
}

static expr_range_t mod_range(expr_range_t a, expr_range_t b) {
  if (b.lo < 0) return (expr_range_t){INT64_MIN, INT64_MAX};
  expr_range_t out = {0, is_infinite(b.hi) ? b.hi : larger(b.hi, 1) - 1};
  if (a.lo >= 0) out.hi = smaller(out.hi, a.hi);
  return out;
}

expr_range_t expr_atom_range(expr_atom_kind_t kind, const expr_t *a,
                             const expr_t *b) {
  expr_range_t x = expr_range(a);
  expr_range_t y = b != NULL ? expr_range(b) : x;
  switch (kind) {
    case EXPR_ATOM_FLOORDIV:
      return floordiv_range(x, y);
    case EXPR_ATOM_MOD:
      return mod_range(x, y);
    case EXPR_ATOM_MIN:
      return (expr_range_t){smaller(x.lo, y.lo), smaller(x.hi, y.hi)};
    case EXPR_ATOM_MAX:
      return (expr_range_t){larger(x.lo, y.lo), larger(x.hi, y.hi)};
    case EXPR_ATOM_BROADCAST:
      return (expr_range_t){smaller(x.lo, y.lo), larger(x.hi, y.hi)};
    case EXPR_ATOM_IS_ONE:
      return (expr_range_t){0, 1};
    case EXPR_ATOM_SYMBOL:
      break;
  }
  MOEC_BUG("symbols have their own range");
}

bool expr_lower_bound(const expr_t *e, int64_t *out_bound) {
  if (expr_is_const(e, out_bound)) return true;
  int64_t lo = expr_range(e).lo;
  if (lo == INT64_MIN) return false;
  *out_bound = lo;
  return true;
}

bool expr_upper_bound(const expr_t *e, int64_t *out_bound) {
  if (expr_is_const(e, out_bound)) return true;
  int64_t hi = expr_range(e).hi;
  if (hi == INT64_MAX) return false;
  *out_bound = hi;
  return true;
}

/* ---- Proofs -------------------------------------------------------------- */

typedef struct proof {
  expr_pool_t *pool;
  const expr_t *positive; /* an expression that counts as > 0; may be NULL */
  unsigned fuel;
} proof_t;

/* Of an expression that is not negative. */
static bool is_positive(const proof_t *proof, const expr_t *e) {
  if (expr_range(e).lo > 0 || e == proof->positive) return true;
  return proof->positive != NULL &&
         expr_divide_exactly(proof->pool, proof->positive, e) != NULL;
}

/* Expressions on the safe side of an atom: never above it when `below`, else
 * never below it. Returns how many (at most 2). */
static unsigned safe_sides(const proof_t *proof, const expr_atom_t *atom,
                           bool below, const expr_t *out[2]) {
  expr_pool_t *pool = proof->pool;
  unsigned n = 0;
  switch (atom->kind) {
    case EXPR_ATOM_SYMBOL:
      if (!below && atom->symbol->upper != NULL) out[n++] = atom->symbol->upper;
      return n;
    case EXPR_ATOM_MIN:
    case EXPR_ATOM_MAX:
      if (below != (atom->kind == EXPR_ATOM_MAX)) return 0;
      out[n++] = atom->a;
      out[n++] = atom->b;
      return n;
    case EXPR_ATOM_FLOORDIV:
      if (!below && expr_range(atom->b).lo >= 0 && expr_range(atom->a).lo >= 0)
        out[n++] = atom->a;
      return n;
    case EXPR_ATOM_MOD:
      if (below || expr_range(atom->b).lo < 0) return 0;
      out[n] = atom->b; /* never above it; below it unless it is 0 */
      if (is_positive(proof, atom->b))
        out[n] = expr_try_add_scaled(pool, atom->b, expr_const(pool, 1), -1);
      n += out[n] != NULL;
      if (expr_range(atom->a).lo >= 0) out[n++] = atom->a;
      return n;
    case EXPR_ATOM_BROADCAST:
    case EXPR_ATOM_IS_ONE:
      return 0;
  }
  return 0;
}

/* e with one occurrence of an atom, number k of term i, replaced; NULL when
 * that is too large. */
static const expr_t *replace_one(expr_pool_t *pool, const expr_t *e, unsigned i,
                                 unsigned k, const expr_t *by) {
  const expr_term_t *term = &e->terms[i];
  const expr_atom_t *atoms[EXPR_MAX_DEGREE];
  expr_term_t rest = {term->coefficient, term->n_atoms - 1, atoms};
  for (unsigned p = 0, n = 0; p < term->n_atoms; p++)
    if (p != k) atoms[n++] = term->atoms[p];
  const expr_t *product = expr_try_mul(pool, expr_from_term(pool, &rest), by);
  const expr_t *without =
      expr_try_add_scaled(pool, e, expr_from_term(pool, term), -1);
  if (product == NULL || without == NULL) return NULL;
  return expr_try_add_scaled(pool, without, product, 1);
}

static bool others_nonnegative(const expr_term_t *term, unsigned k) {
  for (unsigned p = 0; p < term->n_atoms; p++)
    if (p != k && term->atoms[p]->lower < 0) return false;
  return true;
}

static bool prove(proof_t *proof, const expr_t *e) {
  if (expr_range(e).lo >= 0) return true;
  for (unsigned i = 0; i < e->n_terms; i++) {
    const expr_term_t *term = &e->terms[i];
    for (unsigned k = 0; k < term->n_atoms; k++) {
      if (k > 0 && term->atoms[k] == term->atoms[k - 1]) continue;
      if (!others_nonnegative(term, k)) continue;
      const expr_t *sides[2];
      unsigned n =
          safe_sides(proof, term->atoms[k], term->coefficient > 0, sides);
      for (unsigned s = 0; s < n; s++) {
        if (proof->fuel == 0) return false;
        proof->fuel--;
        const expr_t *less = replace_one(proof->pool, e, i, k, sides[s]);
        if (less != NULL && less != e && prove(proof, less)) return true;
      }
    }
  }
  return false;
}

bool expr_proves_nonnegative(expr_pool_t *pool, const expr_t *e,
                             const expr_t *positive) {
  proof_t proof = {pool, positive, PROOF_FUEL};
  return prove(&proof, e);
}

/* As integers without limits. */
static bool proves_le(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                      const expr_t *positive) {
  if (a == b) return true;
  expr_range_t x = expr_range(a), y = expr_range(b);
  if (x.hi <= y.lo && x.hi != INT64_MAX && y.lo != INT64_MIN) return true;
  if (x.lo > y.hi) return false;
  const expr_t *difference = expr_try_add_scaled(pool, b, a, -1);
  return difference != NULL &&
         expr_proves_nonnegative(pool, difference, positive);
}

bool expr_proves_le(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                    const expr_t *positive) {
  /* Values are 64 bits wide, sums on the way to a proof are not. */
  return expr_equals_const(a, INT64_MIN) || expr_equals_const(b, INT64_MAX) ||
         proves_le(pool, a, b, positive);
}

/* Whether the coefficients of all but the constant term of d have a common
 * divisor that does not divide the constant. */
static bool never_zero_by_divisor(const expr_t *d) {
  uint64_t gcd = 0;
  for (unsigned i = 0; i < d->n_terms && d->terms[i].n_atoms > 0; i++) {
    int64_t c = d->terms[i].coefficient;
    uint64_t x = c < 0 ? 0 - (uint64_t)c : (uint64_t)c;
    while (x != 0) {
      uint64_t t = gcd % x;
      gcd = x;
      x = t;
    }
  }
  int64_t c = expr_constant_term(d);
  uint64_t constant = c < 0 ? 0 - (uint64_t)c : (uint64_t)c;
  return gcd > 1 && constant % gcd != 0;
}

int expr_compare_equal(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  if (a == b) return 1;
  if (expr_is_const(a, NULL) && expr_is_const(b, NULL)) return 0;
  if (expr_compare_less(pool, a, b) == 1) return 0;
  if (expr_compare_less(pool, b, a) == 1) return 0;
  const expr_t *d = expr_try_add_scaled(pool, a, b, -1);
  return d != NULL && never_zero_by_divisor(d) ? 0 : -1;
}

int expr_compare_less(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  if (expr_proves_le(pool, b, a, NULL)) return 0;
  const expr_t *after = expr_try_add_scaled(pool, a, expr_const(pool, 1), 1);
  return after != NULL && proves_le(pool, after, b, NULL) ? 1 : -1;
}

/* ---- Upper expressions --------------------------------------------------- */

static bool has_bounded_symbol(const expr_t *e) {
  for (unsigned i = 0; i < e->n_terms; i++)
    for (unsigned k = 0; k < e->terms[i].n_atoms; k++) {
      const expr_atom_t *atom = e->terms[i].atoms[k];
      if (atom->kind == EXPR_ATOM_SYMBOL ? atom->symbol->upper != NULL
                                         : has_bounded_symbol(atom->a))
        return true;
      if (atom->b != NULL && has_bounded_symbol(atom->b)) return true;
    }
  return false;
}

static const expr_t *atom_as_expr(expr_pool_t *pool, const expr_atom_t *atom) {
  expr_term_t term = {1, 1, &atom};
  return expr_from_term(pool, &term);
}

static const expr_t *upper_of_floordiv(expr_pool_t *pool,
                                       const expr_atom_t *atom) {
  const expr_t *a = expr_upper_expr(pool, atom->a);
  if (a == NULL || expr_range(atom->b).lo < 0) return NULL;
  /* How small other divisors get is not known. By 0 the quotient is 0. */
  if (!has_bounded_symbol(atom->b)) a = expr_floordiv(pool, a, atom->b);
  if (expr_range(atom->b).lo > 0 && !has_bounded_symbol(atom->b)) return a;
  return expr_max(pool, a, expr_const(pool, 0));
}

static const expr_t *upper_of_mod(expr_pool_t *pool, const expr_atom_t *atom) {
  if (expr_range(atom->b).lo < 0) return NULL;
  const expr_t *b = expr_upper_expr(pool, atom->b);
  const expr_t *a =
      expr_range(atom->a).lo >= 0 ? expr_upper_expr(pool, atom->a) : NULL;
  if (b == NULL) return a;
  b = expr_sub(pool, b, expr_const(pool, 1));
  b = expr_max(pool, b, expr_const(pool, 0));
  return a == NULL ? b : expr_min(pool, a, b);
}

static const expr_t *upper_of_atom(expr_pool_t *pool, const expr_atom_t *atom) {
  const expr_t *self = atom_as_expr(pool, atom);
  if (!has_bounded_symbol(self)) return self;
  const expr_t *a, *b;
  switch (atom->kind) {
    case EXPR_ATOM_SYMBOL:
      return atom->symbol->planned;
    case EXPR_ATOM_FLOORDIV:
      return upper_of_floordiv(pool, atom);
    case EXPR_ATOM_MOD:
      return upper_of_mod(pool, atom);
    case EXPR_ATOM_MIN:
      a = expr_upper_expr(pool, atom->a);
      b = expr_upper_expr(pool, atom->b);
      return a == NULL ? b : b == NULL ? a : expr_min(pool, a, b);
    case EXPR_ATOM_MAX:
    case EXPR_ATOM_BROADCAST:
      a = expr_upper_expr(pool, atom->a);
      b = expr_upper_expr(pool, atom->b);
      return a == NULL || b == NULL ? NULL : expr_max(pool, a, b);
    case EXPR_ATOM_IS_ONE:
      return expr_const(pool, 1);
  }
  return NULL;
}

/* Of coefficient * atoms: each atom at its upper side, or at its lower bound
 * under a negative coefficient. NULL when some atom may be negative. */
static const expr_t *upper_of_term(expr_pool_t *pool, const expr_term_t *term) {
  const expr_t *product = expr_const(pool, term->coefficient);
  for (unsigned k = 0; k < term->n_atoms; k++) {
    const expr_atom_t *atom = term->atoms[k];
    const expr_t *side = atom_as_expr(pool, atom);
    if (atom->lower < 0) return NULL;
    if (has_bounded_symbol(side))
      side = term->coefficient > 0 ? upper_of_atom(pool, atom)
                                   : expr_const(pool, atom->lower);
    if (side == NULL) return NULL;
    product = expr_mul(pool, product, side);
  }
  return product;
}

const expr_t *expr_upper_expr(expr_pool_t *pool, const expr_t *e) {
  if (!has_bounded_symbol(e)) return e;
  const expr_t *sum = expr_const(pool, 0);
  for (unsigned i = 0; i < e->n_terms; i++) {
    const expr_t *own = expr_from_term(pool, &e->terms[i]);
    const expr_t *upper =
        has_bounded_symbol(own) ? upper_of_term(pool, &e->terms[i]) : own;
    if (upper == NULL) {
      int64_t bound = term_range(&e->terms[i]).hi;
      if (bound == INT64_MAX) return NULL;
      upper = expr_const(pool, bound);
    }
    sum = expr_add(pool, sum, upper);
  }
  return sum;
}
