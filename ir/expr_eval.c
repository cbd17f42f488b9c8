/* Putting values or other expressions for symbols. */
#include "ir/expr_internal.h"

/* ---- Evaluation ---------------------------------------------------------- */

/* Floored division that fails on overflow; by 0 it gives 0. */
static bool divide(int64_t a, int64_t b, int64_t *out_q, int64_t *out_r) {
  if (a == INT64_MIN && b == -1) return false;
  int64_t q = b == 0 ? 0 : a / b, r = b == 0 ? 0 : a % b;
  if (r != 0 && (r < 0) != (b < 0)) {
    q--;
    r += b;
  }
  *out_q = q;
  *out_r = r;
  return true;
}

static bool evaluate_atom(const expr_atom_t *atom, const int64_t *symbols,
                          int64_t *out) {
  int64_t a, b = 0, q, r;
  if (atom->kind == EXPR_ATOM_SYMBOL) {
    *out = symbols[atom->symbol->index];
    return true;
  }
  if (!expr_evaluate(atom->a, symbols, &a)) return false;
  if (atom->b != NULL && !expr_evaluate(atom->b, symbols, &b)) return false;
  switch (atom->kind) {
    case EXPR_ATOM_FLOORDIV:
      if (!divide(a, b, out, &r)) return false;
      return true;
    case EXPR_ATOM_MOD:
      if (!divide(a, b, &q, out)) return false;
      return true;
    case EXPR_ATOM_MIN:
      *out = a < b ? a : b;
      return true;
    case EXPR_ATOM_MAX:
      *out = a > b ? a : b;
      return true;
    case EXPR_ATOM_BROADCAST:
      *out = a == 1 ? b : a;
      return true;
    case EXPR_ATOM_IS_ONE:
      *out = a == 1;
      return true;
    case EXPR_ATOM_SYMBOL:
      break;
  }
  MOEC_BUG("atom of kind %d", (int)atom->kind);
}

bool expr_evaluate(const expr_t *e, const int64_t *symbols,
                   int64_t *out_value) {
  int64_t sum = 0;
  for (unsigned i = 0; i < e->n_terms; i++) {
    int64_t product = e->terms[i].coefficient;
    for (unsigned k = 0; k < e->terms[i].n_atoms; k++) {
      int64_t value;
      if (!evaluate_atom(e->terms[i].atoms[k], symbols, &value) ||
          __builtin_mul_overflow(product, value, &product))
        return false;
    }
    if (__builtin_add_overflow(sum, product, &sum)) return false;
  }
  *out_value = sum;
  return true;
}

const expr_t *expr_apply(expr_pool_t *pool, expr_atom_kind_t kind,
                         const expr_t *a, const expr_t *b) {
  switch (kind) {
    case EXPR_ATOM_FLOORDIV:
      return expr_floordiv(pool, a, b);
    case EXPR_ATOM_MOD:
      return expr_mod(pool, a, b);
    case EXPR_ATOM_MIN:
      return expr_min(pool, a, b);
    case EXPR_ATOM_MAX:
      return expr_max(pool, a, b);
    case EXPR_ATOM_BROADCAST:
      return expr_broadcast(pool, a, b);
    case EXPR_ATOM_IS_ONE:
      return expr_is_one(pool, a);
    case EXPR_ATOM_SYMBOL:
      break;
  }
  MOEC_BUG("atom of kind %d", (int)kind);
}

/* ---- Substitution -------------------------------------------------------- */

static const expr_t *substitute_atom(expr_pool_t *pool, const expr_atom_t *atom,
                                     const expr_t *const *values) {
  expr_term_t self = {1, 1, &atom};
  if (atom->kind == EXPR_ATOM_SYMBOL) {
    const expr_t *value = values[atom->symbol->index];
    return value != NULL ? value : expr_from_term(pool, &self);
  }
  const expr_t *a = expr_substitute(pool, atom->a, values);
  const expr_t *b =
      atom->b != NULL ? expr_substitute(pool, atom->b, values) : NULL;
  if (a == atom->a && b == atom->b) return expr_from_term(pool, &self);
  return expr_apply(pool, atom->kind, a, b);
}

const expr_t *expr_substitute(expr_pool_t *pool, const expr_t *e,
                              const expr_t *const *values) {
  const expr_t *sum = e;
  for (unsigned i = 0; i < e->n_terms; i++) {
    const expr_term_t *term = &e->terms[i];
    const expr_t *product = expr_const(pool, term->coefficient);
    for (unsigned k = 0; k < term->n_atoms; k++)
      product = expr_mul(pool, product,
                         substitute_atom(pool, term->atoms[k], values));
    const expr_t *own = expr_from_term(pool, term);
    if (product == own) continue;
    sum = expr_add(pool, expr_sub(pool, sum, own), product);
  }
  return sum;
}
