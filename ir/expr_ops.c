/* The operators that are not polynomials, simplified where that is proved. */
#include <stdlib.h>
#include <string.h>

#include "ir/expr_internal.h"

#define MAX_LEAVES 16 /* operands of a flattened min, max or broadcast */

/* ---- Division by a positive constant ------------------------------------- */

/* a = b * q + r; the constant term of r lies in [0, b), other coefficients of r
 * are below b in magnitude and keep their sign. */
static bool split_by_const(expr_pool_t *pool, const expr_t *a, int64_t b,
                           const expr_t **out_q, const expr_t **out_r) {
  expr_term_t *terms = expr_scratch(pool, a->n_terms);
  size_t n = 0;
  for (unsigned i = 0; i < a->n_terms; i++) {
    terms[n] = a->terms[i];
    int64_t c = terms[n].coefficient;
    terms[n].coefficient =
        terms[n].n_atoms == 0 ? expr_floordiv_int(c, b) : c / b;
    n += terms[n].coefficient != 0;
  }
  const expr_t *q = expr_intern(pool, terms, n);
  const expr_t *r = q == NULL ? NULL : expr_try_add_scaled(pool, a, q, -b);
  *out_q = q;
  *out_r = r;
  return r != NULL;
}

/* Greatest common divisor of b and the coefficients of a, its constant aside.*/
static int64_t common_divisor(const expr_t *a, int64_t b) {
  for (unsigned i = 0; i < a->n_terms && a->terms[i].n_atoms > 0; i++) {
    int64_t x = a->terms[i].coefficient % b;
    if (x < 0) x = -x;
    while (x != 0) {
      int64_t t = b % x;
      b = x;
      x = t;
    }
  }
  return b;
}

/* floor(a / g) for a g that divides all coefficients but the constant. */
static const expr_t *divide_content(expr_pool_t *pool, const expr_t *a,
                                    int64_t g) {
  const expr_t *q, *r;
  if (!split_by_const(pool, a, g, &q, &r)) return NULL;
  MOEC_ASSERT(expr_is_const(r, NULL));
  return q;
}

/* floor((floor(x / c) + k) / b) -> floor((x + k * c) / (b * c)) */
static const expr_t *flatten_floordiv(expr_pool_t *pool, const expr_t *r,
                                      int64_t b) {
  int64_t k = expr_constant_term(r), c, product;
  if (r->n_terms != (k != 0 ? 2u : 1u) || r->terms[0].n_atoms != 1 ||
      r->terms[0].coefficient != 1)
    return NULL;
  const expr_atom_t *atom = r->terms[0].atoms[0];
  if (atom->kind != EXPR_ATOM_FLOORDIV || !expr_is_const(atom->b, &c) ||
      c <= 0 || __builtin_mul_overflow(b, c, &product))
    return NULL;
  const expr_t *x = expr_try_add_scaled(pool, atom->a, expr_const(pool, k), c);
  if (x == NULL) return NULL;
  return expr_floordiv(pool, x, expr_const(pool, product));
}

static const expr_t *floordiv_by_const(expr_pool_t *pool, const expr_t *a,
                                       int64_t b) {
  const expr_t *q, *r;
  if (b == 1) return a;
  if (!split_by_const(pool, a, b, &q, &r))
    return expr_make_atom(pool, EXPR_ATOM_FLOORDIV, a, expr_const(pool, b));
  expr_range_t range = expr_range(r);
  if (range.lo != INT64_MIN && range.hi != INT64_MAX) {
    int64_t lowest = expr_floordiv_int(range.lo, b);
    if (lowest == expr_floordiv_int(range.hi, b))
      return expr_add(pool, q, expr_const(pool, lowest));
  }
  int64_t g = common_divisor(r, b);
  const expr_t *reduced = g > 1 ? divide_content(pool, r, g) : NULL;
  if (reduced != NULL)
    return expr_add(pool, q, floordiv_by_const(pool, reduced, b / g));
  const expr_t *flat = flatten_floordiv(pool, r, b);
  if (flat == NULL)
    flat = expr_make_atom(pool, EXPR_ATOM_FLOORDIV, r, expr_const(pool, b));
  return expr_add(pool, q, flat);
}

/* mod(x, k * b) inside a sum modulo b -> x */
static const expr_t *unwrap_mod(expr_pool_t *pool, const expr_t *r, int64_t b) {
  for (unsigned i = 0; i < r->n_terms; i++) {
    const expr_term_t *term = &r->terms[i];
    int64_t inner;
    if (term->n_atoms != 1 || term->atoms[0]->kind != EXPR_ATOM_MOD ||
        !expr_is_const(term->atoms[0]->b, &inner) || inner <= 0 ||
        inner % b != 0)
      continue;
    const expr_t *without =
        expr_try_add_scaled(pool, r, expr_from_term(pool, term), -1);
    if (without == NULL) return NULL;
    return expr_try_add_scaled(pool, without, term->atoms[0]->a,
                               term->coefficient);
  }
  return NULL;
}

static const expr_t *mod_by_const(expr_pool_t *pool, const expr_t *a,
                                  int64_t b) {
  const expr_t *q, *r;
  if (b == 1) return expr_const(pool, 0);
  if (!split_by_const(pool, a, b, &q, &r))
    return expr_make_atom(pool, EXPR_ATOM_MOD, a, expr_const(pool, b));
  expr_range_t range = expr_range(r);
  if (range.lo != INT64_MIN && range.hi != INT64_MAX) {
    int64_t lowest = expr_floordiv_int(range.lo, b);
    if (lowest == expr_floordiv_int(range.hi, b))
      return expr_must(
          pool, expr_try_add_scaled(pool, r, expr_const(pool, lowest), -b));
  }
  const expr_t *unwrapped = unwrap_mod(pool, r, b);
  if (unwrapped != NULL) return mod_by_const(pool, unwrapped, b);
  /* mod(g * x + c, g * d) -> g * mod(x, d) + c for 0 <= c < g */
  int64_t g = common_divisor(r, b);
  const expr_t *reduced = g > 1 ? divide_content(pool, r, g) : NULL;
  if (reduced == NULL)
    return expr_make_atom(pool, EXPR_ATOM_MOD, r, expr_const(pool, b));
  return expr_must(pool, expr_try_add_scaled(
                             pool, expr_const(pool, expr_constant_term(r) % g),
                             mod_by_const(pool, reduced, b / g), g));
}

/* ---- Division by an expression ------------------------------------------- */

/* The product of atoms that divides every term of a and b. */
static unsigned common_atoms(const expr_t *a, const expr_t *b,
                             const expr_atom_t **out) {
  unsigned n = b->terms[0].n_atoms;
  if (n != 0) memcpy(out, b->terms[0].atoms, n * sizeof *out);
  for (unsigned i = 0; i < a->n_terms + b->n_terms; i++) {
    const expr_term_t *t =
        i < a->n_terms ? &a->terms[i] : &b->terms[i - a->n_terms];
    unsigned kept = 0, k = 0;
    for (unsigned p = 0; p < n; p++) {
      while (k < t->n_atoms && expr_order_atoms(t->atoms[k], out[p]) < 0) k++;
      if (k == t->n_atoms || t->atoms[k] != out[p]) continue;
      out[kept++] = out[p];
      k++;
    }
    n = kept;
  }
  return n;
}

static uint64_t gcd_with(uint64_t gcd, const expr_t *e) {
  for (unsigned i = 0; i < e->n_terms; i++) {
    int64_t c = e->terms[i].coefficient;
    uint64_t x = c < 0 ? 0 - (uint64_t)c : (uint64_t)c;
    while (x != 0) {
      uint64_t t = gcd % x;
      gcd = x;
      x = t;
    }
  }
  return gcd;
}

/* Cancels what divides all terms of both; the factor, or NULL for none. The
 * factor is not 0 wherever b is not. */
static const expr_t *cancel(expr_pool_t *pool, const expr_t **a,
                            const expr_t **b) {
  const expr_atom_t *atoms[EXPR_MAX_DEGREE];
  expr_term_t common = {.atoms = atoms};
  uint64_t content = gcd_with(gcd_with(0, *a), *b);
  common.coefficient = content <= INT64_MAX ? (int64_t)content : 1;
  common.n_atoms = common_atoms(*a, *b, atoms);
  if (common.coefficient == 1 && common.n_atoms == 0) return NULL;
  const expr_t *factor = expr_from_term(pool, &common);
  const expr_t *x = expr_divide_exactly(pool, *a, factor);
  const expr_t *y = expr_divide_exactly(pool, *b, factor);
  if (x == NULL || y == NULL) return NULL;
  *a = x;
  *b = y;
  return factor;
}

/* -e, or NULL on overflow. */
static const expr_t *negate(expr_pool_t *pool, const expr_t *e) {
  return expr_try_add_scaled(pool, expr_const(pool, 0), e, -1);
}

/* Whether 0 <= r < b wherever b is positive. */
static bool is_remainder(expr_pool_t *pool, const expr_t *r, const expr_t *b) {
  const expr_t *one = expr_const(pool, 1);
  const expr_t *last = expr_try_add_scaled(pool, b, one, -1); /* b - 1 >= 0 */
  if (last == NULL || !expr_proves_le(pool, r, last, b)) return false;
  return expr_proves_nonnegative(pool, r, b) ||
         expr_proves_le(pool, last, r, b);
}

/* Brings a into [0, b) by taking out multiples of b where that is proved:
 * a = *q * b + *r. Returns whether *r is known to be in [0, b). */
static bool reduce(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                   const expr_t **q, const expr_t **r) {
  if (!expr_split(pool, a, b, q, r)) {
    *q = expr_const(pool, 0);
    *r = a;
  }
  if ((*r)->n_terms == 0) return true;
  if (expr_range(b).lo < 0) return false;
  if (is_remainder(pool, *r, b)) return true;
  const expr_t *one = expr_const(pool, 1);
  for (int step = -1; step <= 1; step += 2) {
    const expr_t *moved_r = expr_try_add_scaled(pool, *r, b, -step);
    const expr_t *moved_q = expr_try_add_scaled(pool, *q, one, step);
    if (moved_r == NULL || moved_q == NULL || !is_remainder(pool, moved_r, b))
      continue;
    *r = moved_r;
    *q = moved_q;
    return true;
  }
  return false;
}

const expr_t *expr_floordiv(expr_pool_t *pool, const expr_t *a,
                            const expr_t *b) {
  int64_t divisor;
  if (expr_is_const(b, &divisor) && divisor > 0)
    return floordiv_by_const(pool, a, divisor);
  if (b->n_terms == 0) return expr_make_atom(pool, EXPR_ATOM_FLOORDIV, a, b);
  if (b->terms[0].coefficient < 0) {
    const expr_t *x = negate(pool, a), *y = negate(pool, b);
    if (x != NULL && y != NULL) return expr_floordiv(pool, x, y);
    return expr_make_atom(pool, EXPR_ATOM_FLOORDIV, a, b);
  }
  if (a->n_terms == 0) return a;
  if (cancel(pool, &a, &b) != NULL) return expr_floordiv(pool, a, b);
  const expr_t *q, *r;
  if (reduce(pool, a, b, &q, &r)) return q;
  /* floor(a / (g * b)) = floor(floor(a / g) / b) when g divides a but for its
   * constant, which then is all that changes. */
  uint64_t g = gcd_with(0, b);
  if (g > 1 && g <= INT64_MAX && expr_range(b).lo >= 0 &&
      common_divisor(r, (int64_t)g) == (int64_t)g) {
    const expr_t *x = divide_content(pool, r, (int64_t)g);
    const expr_t *y =
        expr_divide_exactly(pool, b, expr_const(pool, (int64_t)g));
    if (x != NULL && y != NULL)
      return expr_add(pool, q, expr_floordiv(pool, x, y));
  }
  return expr_add(pool, q, expr_make_atom(pool, EXPR_ATOM_FLOORDIV, r, b));
}

const expr_t *expr_ceildiv(expr_pool_t *pool, const expr_t *a,
                           const expr_t *b) {
  const expr_t *last = expr_sub(pool, b, expr_const(pool, 1));
  return expr_floordiv(pool, expr_add(pool, a, last), b);
}

const expr_t *expr_mod(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  int64_t divisor;
  if (expr_is_const(b, &divisor) && divisor > 0)
    return mod_by_const(pool, a, divisor);
  if (b->n_terms == 0) return expr_make_atom(pool, EXPR_ATOM_MOD, a, b);
  if (b->terms[0].coefficient < 0) {
    const expr_t *x = negate(pool, a), *y = negate(pool, b);
    const expr_t *m = x != NULL && y != NULL ? expr_mod(pool, x, y) : NULL;
    m = m != NULL ? negate(pool, m) : NULL;
    return m != NULL ? m : expr_make_atom(pool, EXPR_ATOM_MOD, a, b);
  }
  if (a->n_terms == 0) return a;
  const expr_t *factor = cancel(pool, &a, &b);
  if (factor != NULL) return expr_mul(pool, factor, expr_mod(pool, a, b));
  const expr_t *q, *r;
  if (reduce(pool, a, b, &q, &r)) return r;
  const expr_atom_t *inner = expr_as_atom(r);
  if (inner != NULL && inner->kind == EXPR_ATOM_MOD && inner->b == b) return r;
  return expr_make_atom(pool, EXPR_ATOM_MOD, r, b);
}

/* ---- Minimum, maximum, broadcast ----------------------------------------- */

/* Whether y is redundant beside x. */
static bool absorbs(expr_pool_t *pool, expr_atom_kind_t kind, const expr_t *x,
                    const expr_t *y) {
  if (x == y) return true;
  switch (kind) {
    case EXPR_ATOM_MIN:
      return expr_proves_le(pool, x, y, NULL);
    case EXPR_ATOM_MAX:
      return expr_proves_le(pool, y, x, NULL);
    default: /* a dimension that cannot be 1 decides */
      return expr_equals_const(y, 1) || expr_range(x).lo >= 2 ||
             expr_range(x).hi <= 0;
  }
}

/* Operands of nested atoms of one kind; false when there are too many. */
static bool collect_leaves(expr_atom_kind_t kind, const expr_t *e,
                           const expr_t **leaves, unsigned *n) {
  const expr_atom_t *atom = expr_as_atom(e);
  if (atom != NULL && atom->kind == kind)
    return collect_leaves(kind, atom->a, leaves, n) &&
           collect_leaves(kind, atom->b, leaves, n);
  if (*n == MAX_LEAVES) return false;
  leaves[(*n)++] = e;
  return true;
}

/* Constants first: they win over others that decide a broadcast as well. */
static int compare_leaves(const void *x, const void *y) {
  const expr_t *a = *(const expr_t *const *)x, *b = *(const expr_t *const *)y;
  bool ca = expr_is_const(a, NULL), cb = expr_is_const(b, NULL);
  return ca != cb ? (ca ? -1 : 1) : expr_order(a, b);
}

/* The same expression for every order and nesting of the operands. */
static const expr_t *make_associative(expr_pool_t *pool, expr_atom_kind_t kind,
                                      const expr_t *a, const expr_t *b) {
  const expr_t *leaves[MAX_LEAVES];
  unsigned n = 0;
  if (!collect_leaves(kind, a, leaves, &n) ||
      !collect_leaves(kind, b, leaves, &n)) {
    bool swap = expr_order(a, b) > 0;
    return expr_make_atom(pool, kind, swap ? b : a, swap ? a : b);
  }
  qsort(leaves, n, sizeof *leaves, compare_leaves);
  unsigned kept = 0;
  for (unsigned i = 0; i < n; i++) {
    bool redundant = false;
    for (unsigned k = 0; k < kept && !redundant; k++)
      redundant = absorbs(pool, kind, leaves[k], leaves[i]);
    if (redundant) continue;
    unsigned left = 0;
    for (unsigned k = 0; k < kept; k++)
      if (!absorbs(pool, kind, leaves[i], leaves[k]))
        leaves[left++] = leaves[k];
    leaves[left] = leaves[i];
    kept = left + 1;
  }
  const expr_t *e = leaves[0];
  for (unsigned i = 1; i < kept; i++) {
    /* What several leaves prove together is seen here, as it will be when the
     * text of the result is read again. */
    if (absorbs(pool, kind, e, leaves[i])) continue;
    e = absorbs(pool, kind, leaves[i], e)
            ? leaves[i]
            : expr_make_atom(pool, kind, e, leaves[i]);
  }
  return e;
}

const expr_t *expr_min(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  if (expr_proves_le(pool, a, b, NULL)) return a;
  if (expr_proves_le(pool, b, a, NULL)) return b;
  return make_associative(pool, EXPR_ATOM_MIN, a, b);
}

const expr_t *expr_max(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  if (expr_proves_le(pool, a, b, NULL)) return b;
  if (expr_proves_le(pool, b, a, NULL)) return a;
  return make_associative(pool, EXPR_ATOM_MAX, a, b);
}

/* Whether e is 1 where the symbol that `size` consists of is 1. */
static bool is_one_where(expr_pool_t *pool, const expr_t *e,
                         const expr_t *size) {
  const expr_symbol_t *symbol = expr_as_symbol(size);
  if (symbol == NULL || !expr_mentions(e, symbol)) return false;
  const expr_t **values =
      ARENA_ARRAY(pool->arena, const expr_t *, expr_n_symbols(pool));
  values[symbol->index] = expr_const(pool, 1);
  return expr_equals_const(expr_substitute(pool, e, values), 1);
}

bool expr_is_one_unless_none(expr_pool_t *pool, const expr_t *e,
                             const expr_t *size) {
  if (e->n_terms != 1 || e->terms[0].coefficient != 1 ||
      e->terms[0].n_atoms != 1 || e->terms[0].atoms[0]->kind != EXPR_ATOM_MIN)
    return false;
  const expr_atom_t *least = e->terms[0].atoms[0];
  const expr_t *other = expr_equals_const(least->a, 1)   ? least->b
                        : expr_equals_const(least->b, 1) ? least->a
                                                         : NULL;
  return other != NULL && expr_proves_le(pool, size, other, NULL);
}

const expr_t *expr_broadcast(expr_pool_t *pool, const expr_t *a,
                             const expr_t *b) {
  if (a == b || expr_equals_const(b, 1)) return a;
  if (expr_equals_const(a, 1)) return b;
  if (expr_is_one_unless_none(pool, b, a)) return a;
  if (expr_is_one_unless_none(pool, a, b)) return b;
  if (is_one_where(pool, b, a)) return a;
  if (is_one_where(pool, a, b)) return b;
  return make_associative(pool, EXPR_ATOM_BROADCAST, a, b);
}

const expr_t *expr_is_one(expr_pool_t *pool, const expr_t *a) {
  int equal = expr_compare_equal(pool, a, expr_const(pool, 1));
  if (equal >= 0) return expr_const(pool, equal);
  return expr_make_atom(pool, EXPR_ATOM_IS_ONE, a, NULL);
}
