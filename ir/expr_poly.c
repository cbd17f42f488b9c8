/* Arithmetic of polynomials: sums, products, exact division. */
#include <stdlib.h>
#include <string.h>

#include "ir/expr_internal.h"

#define MAX_PAIRS 4096        /* products of terms in one multiplication */
#define MAX_DIVISION_STEPS 64 /* of long division */

static const char overflow[] = "a coefficient overflows 64 bits";

/* Merges two sorted sums: a + factor * b. */
const expr_t *expr_try_add_scaled(expr_pool_t *pool, const expr_t *a,
                                  const expr_t *b, int64_t factor) {
  if (b->n_terms == 0 || factor == 0) return a;
  if (a->n_terms == 0 && factor == 1) return b;
  expr_term_t *out = expr_scratch(pool, (size_t)a->n_terms + b->n_terms);
  size_t n = 0;
  unsigned i = 0, k = 0;
  while (i < a->n_terms || k < b->n_terms) {
    int order = i == a->n_terms ? 1
                : k == b->n_terms
                    ? -1
                    : expr_order_monomials(&a->terms[i], &b->terms[k]);
    if (order < 0) {
      out[n++] = a->terms[i++];
      continue;
    }
    expr_term_t term = b->terms[k++];
    int64_t other = order == 0 ? a->terms[i++].coefficient : 0;
    /* Wide, so that only a sum that does not fit counts as overflow. */
    expr_wide_t sum = (expr_wide_t)term.coefficient * factor + other;
    if (sum < INT64_MIN || sum > INT64_MAX) {
      pool->problem = overflow;
      return NULL;
    }
    term.coefficient = (int64_t)sum;
    if (term.coefficient != 0) out[n++] = term;
  }
  return expr_intern(pool, out, n);
}

const expr_t *expr_add(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  return expr_must(pool, expr_try_add_scaled(pool, a, b, 1));
}

const expr_t *expr_sub(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  return expr_must(pool, expr_try_add_scaled(pool, a, b, -1));
}

static int compare_terms(const void *x, const void *y) {
  return expr_order_monomials(x, y);
}

/* Multiplies each pair of terms into the scratch; false on overflow. */
static bool multiply_pairs(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                           expr_term_t *out, const expr_atom_t **atoms) {
  for (unsigned i = 0; i < a->n_terms; i++)
    for (unsigned k = 0; k < b->n_terms; k++) {
      const expr_term_t *x = &a->terms[i], *y = &b->terms[k];
      out->atoms = atoms;
      out->n_atoms = x->n_atoms + y->n_atoms;
      if (out->n_atoms > EXPR_MAX_DEGREE) {
        pool->problem = "a product has too many factors";
        return false;
      }
      if (__builtin_mul_overflow(x->coefficient, y->coefficient,
                                 &out->coefficient)) {
        pool->problem = overflow;
        return false;
      }
      for (unsigned p = 0, q = 0; p < x->n_atoms || q < y->n_atoms;)
        *atoms++ =
            q == y->n_atoms || (p < x->n_atoms &&
                                expr_order_atoms(x->atoms[p], y->atoms[q]) <= 0)
                ? x->atoms[p++]
                : y->atoms[q++];
      out++;
    }
  return true;
}

/* Adds up neighbours that are alike; false on overflow. */
static bool combine_like_terms(expr_pool_t *pool, expr_term_t *terms, size_t n,
                               size_t *out_n) {
  size_t kept = 0;
  for (size_t i = 0; i < n;) {
    expr_wide_t sum = 0;
    size_t first = i;
    for (; i < n && expr_order_monomials(&terms[first], &terms[i]) == 0; i++)
      sum += terms[i].coefficient;
    if (sum < INT64_MIN || sum > INT64_MAX) {
      pool->problem = overflow;
      return false;
    }
    if (sum == 0) continue;
    terms[kept] = terms[first];
    terms[kept++].coefficient = (int64_t)sum;
  }
  *out_n = kept;
  return true;
}

const expr_t *expr_try_mul(expr_pool_t *pool, const expr_t *a,
                           const expr_t *b) {
  if (a->n_terms == 0) return a;
  if (b->n_terms == 0) return b;
  if (expr_equals_const(a, 1)) return b;
  if (expr_equals_const(b, 1)) return a;
  int64_t factor;
  const expr_t *zero = expr_const(pool, 0);
  if (expr_is_const(a, &factor))
    return expr_try_add_scaled(pool, zero, b, factor);
  if (expr_is_const(b, &factor))
    return expr_try_add_scaled(pool, zero, a, factor);
  size_t n = (size_t)a->n_terms * b->n_terms, n_atoms = 0;
  if (n > MAX_PAIRS) {
    pool->problem = "a product has too many terms";
    return NULL;
  }
  for (unsigned i = 0; i < a->n_terms; i++)
    n_atoms += (size_t)a->terms[i].n_atoms * b->n_terms;
  for (unsigned k = 0; k < b->n_terms; k++)
    n_atoms += (size_t)b->terms[k].n_atoms * a->n_terms;
  expr_term_t *out = expr_scratch(pool, n);
  if (!multiply_pairs(pool, a, b, out, expr_scratch_atoms(pool, n_atoms)))
    return NULL;
  /* A single term keeps the order of the other factor. */
  if (a->n_terms > 1 && b->n_terms > 1) {
    qsort(out, n, sizeof *out, compare_terms);
    if (!combine_like_terms(pool, out, n, &n)) return NULL;
    if (n > EXPR_MAX_PRODUCT_TERMS) {
      pool->problem = "a product has too many terms";
      return NULL;
    }
  }
  return expr_intern(pool, out, n);
}

const expr_t *expr_mul(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  return expr_must(pool, expr_try_mul(pool, a, b));
}

const expr_t *expr_product(expr_pool_t *pool, const expr_t *const *e,
                           unsigned n) {
  const expr_t *product = expr_const(pool, 1);
  for (unsigned i = 0; i < n; i++) product = expr_mul(pool, product, e[i]);
  return product;
}

/* ---- Division ----------------------------------------------------------- */

int64_t expr_floordiv_int(int64_t a, int64_t b) { return a / b - (a % b < 0); }

bool expr_monomial_quotient(const expr_term_t *a, const expr_term_t *b,
                            const expr_atom_t **out, unsigned *out_n) {
  if (b->n_atoms > a->n_atoms) return false;
  unsigned n = 0, k = 0;
  for (unsigned i = 0; i < a->n_atoms; i++) {
    if (k < b->n_atoms && a->atoms[i] == b->atoms[k])
      k++;
    else
      out[n++] = a->atoms[i];
  }
  *out_n = n;
  return k == b->n_atoms;
}

/* *out = t / by when that is exact; its atoms go to `atoms`. */
static bool divide_term(const expr_term_t *t, const expr_term_t *by,
                        const expr_atom_t **atoms, expr_term_t *out) {
  bool wraps = t->coefficient == INT64_MIN && by->coefficient == -1;
  if (wraps || t->coefficient % by->coefficient != 0) return false;
  if (!expr_monomial_quotient(t, by, atoms, &out->n_atoms)) return false;
  out->coefficient = t->coefficient / by->coefficient;
  out->atoms = atoms;
  return true;
}

/* The sum of t / by over the terms that `by` divides, or of the other terms as
 * they are. */
static const expr_t *part_by_term(expr_pool_t *pool, const expr_t *a,
                                  const expr_term_t *by, bool divisible) {
  size_t n_atoms = 0, n = 0;
  for (unsigned i = 0; i < a->n_terms; i++) n_atoms += a->terms[i].n_atoms;
  expr_term_t *out = expr_scratch(pool, a->n_terms);
  const expr_atom_t **atoms = expr_scratch_atoms(pool, n_atoms);
  for (unsigned i = 0; i < a->n_terms; i++) {
    const expr_term_t *t = &a->terms[i];
    expr_term_t quotient;
    bool divides = divide_term(t, by, atoms, &quotient);
    if (divides != divisible) continue;
    out[n++] = divides ? quotient : *t;
    if (divides && quotient.n_atoms > 0) atoms += quotient.n_atoms;
  }
  return expr_intern(pool, out, n);
}

/* The order of terms is compatible with multiplication, so that dividing first
 * terms until nothing is left finds the quotient wherever there is one. */
static bool long_division(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                          const expr_t **out_q, const expr_t **out_r) {
  const expr_t *q = expr_const(pool, 0), *r = q;
  for (unsigned steps = 0; a->n_terms > 0; steps++) {
    if (steps == MAX_DIVISION_STEPS) return false;
    const expr_atom_t *atoms[EXPR_MAX_DEGREE];
    expr_term_t quotient;
    if (divide_term(&a->terms[0], &b->terms[0], atoms, &quotient)) {
      const expr_t *t = expr_from_term(pool, &quotient);
      const expr_t *product = expr_try_mul(pool, t, b);
      if (product == NULL) return false;
      q = expr_try_add_scaled(pool, q, t, 1);
      a = expr_try_add_scaled(pool, a, product, -1);
    } else {
      const expr_t *first = expr_from_term(pool, &a->terms[0]);
      r = expr_try_add_scaled(pool, r, first, 1);
      a = expr_try_add_scaled(pool, a, first, -1);
    }
    if (q == NULL || r == NULL || a == NULL) return false;
  }
  *out_q = q;
  *out_r = r;
  return true;
}

bool expr_split(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                const expr_t **out_q, const expr_t **out_r) {
  if (b->n_terms == 0) return false;
  if (b->n_terms > 1)
    return a->n_terms <= MAX_DIVISION_STEPS &&
           long_division(pool, a, b, out_q, out_r);
  *out_q = part_by_term(pool, a, &b->terms[0], true);
  *out_r = part_by_term(pool, a, &b->terms[0], false);
  return true;
}

const expr_t *expr_divide_exactly(expr_pool_t *pool, const expr_t *a,
                                  const expr_t *b) {
  if (b->n_terms == 0) return NULL;
  if (a == b) return expr_const(pool, 1);
  const expr_t *q, *r;
  if (!expr_split(pool, a, b, &q, &r) || r->n_terms != 0) return NULL;
  return q;
}
