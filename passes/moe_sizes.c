/* Arithmetic of sizes that may give up. */
#include "passes/moe_sizes.h"

#include <math.h>

/* The sum of the coefficients' sizes; false beyond int64_t. */
static bool magnitude(const expr_t *e, int64_t *out) {
  int64_t sum = 0;
  for (unsigned i = 0; i < e->n_terms; i++) {
    int64_t c = e->terms[i].coefficient;
    if (c < 0 && __builtin_sub_overflow((int64_t)0, c, &c)) return false;
    if (__builtin_add_overflow(sum, c, &sum)) return false;
  }
  *out = sum;
  return true;
}

static unsigned degree(const expr_t *e) {
  unsigned most = 0;
  for (unsigned i = 0; i < e->n_terms; i++)
    if (e->terms[i].n_atoms > most) most = e->terms[i].n_atoms;
  return most;
}

const expr_t *moe_times(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  int64_t m, n, product;
  if (a == NULL || b == NULL || !magnitude(a, &m) || !magnitude(b, &n) ||
      __builtin_mul_overflow(m, n, &product))
    return NULL;
  if ((uint64_t)a->n_terms * b->n_terms > EXPR_MAX_PRODUCT_TERMS ||
      degree(a) + degree(b) > EXPR_MAX_DEGREE ||
      (uint64_t)a->size * b->size > EXPR_MAX_SIZE / 4)
    return NULL;
  return expr_mul(pool, a, b);
}

const expr_t *moe_plus(expr_pool_t *pool, const expr_t *a, const expr_t *b) {
  int64_t m, n, sum;
  if (a == NULL || b == NULL || !magnitude(a, &m) || !magnitude(b, &n) ||
      __builtin_add_overflow(m, n, &sum))
    return NULL;
  if (a->n_terms + b->n_terms > EXPR_MAX_TERMS ||
      a->size + b->size > EXPR_MAX_SIZE / 4)
    return NULL;
  return expr_add(pool, a, b);
}

bool moe_whole_number(double x, int64_t *out) {
  if (!(fabs(x) <= 0x1p53) || x != trunc(x)) return false;
  *out = (int64_t)x;
  return true;
}
