/* What the files of expr*.c share: the pool and steps that may fail. */
#ifndef IR_EXPR_INTERNAL_H
#define IR_EXPR_INTERNAL_H

#include "ir/expr.h"

__extension__ typedef __int128 expr_wide_t;

typedef struct expr_name {
  const char *name; /* NULL: free slot */
  uint64_t hash;
  const expr_t *symbol;
  unsigned next_suffix; /* for the next symbol that wants this name */
} expr_name_t;

struct expr_pool {
  arena_t *arena;
  const expr_t **exprs; /* hash tables with open addressing, sizes 2^n */
  size_t n_exprs, exprs_capacity;
  const expr_atom_t **atoms;
  size_t n_atoms, atoms_capacity;
  expr_name_t *names;
  size_t n_names, names_capacity;
  const expr_symbol_t **symbols; /* by index */
  unsigned n_symbols, symbols_capacity;
  expr_term_t *scratch; /* terms of the polynomial being made */
  size_t scratch_capacity;
  const expr_atom_t **scratch_atoms;
  size_t scratch_atoms_capacity;
  const char *problem; /* why the latest expr_try_... gave NULL */
};

/* A range of values; INT64_MIN and INT64_MAX stand for infinities. */
typedef struct expr_range {
  int64_t lo, hi;
} expr_range_t;

/* Total orders of the canonical form; 0 means identical. */
int expr_order(const expr_t *a, const expr_t *b);
int expr_order_atoms(const expr_atom_t *a, const expr_atom_t *b);
int expr_order_monomials(const expr_term_t *a, const expr_term_t *b);

/* Room for n terms (and atoms) in the pool's scratch memory. */
expr_term_t *expr_scratch(expr_pool_t *pool, size_t n);
const expr_atom_t **expr_scratch_atoms(expr_pool_t *pool, size_t n);

/* The one expression with these terms (canonical, no zeros); copies them. NULL
 * when it would be beyond the limits. */
const expr_t *expr_intern(expr_pool_t *pool, const expr_term_t *terms,
                          size_t n);
const expr_t *expr_from_term(expr_pool_t *pool, const expr_term_t *term);
/* kind(a, b) as it is, without simplifying. */
const expr_t *expr_make_atom(expr_pool_t *pool, expr_atom_kind_t kind,
                             const expr_t *a, const expr_t *b);
/* e itself, or leaves for the pool's latest problem when e is NULL. */
const expr_t *expr_must(expr_pool_t *pool, const expr_t *e);

/* NULL on overflow or beyond the limits. */
const expr_t *expr_try_add_scaled(expr_pool_t *pool, const expr_t *a,
                                  const expr_t *b, int64_t factor);
const expr_t *expr_try_mul(expr_pool_t *pool, const expr_t *a, const expr_t *b);

/* Whether the atoms of b are among those of a, and then the others into `out`
 * (room for a->n_atoms). */
bool expr_monomial_quotient(const expr_term_t *a, const expr_term_t *b,
                            const expr_atom_t **out, unsigned *out_n);
/* a = q * b + r where no term of r is divisible by the first term of b. */
bool expr_split(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                const expr_t **out_q, const expr_t **out_r);

/* The atom when e is 1 * atom, else NULL. */
const expr_atom_t *expr_as_atom(const expr_t *e);
/* The constant term of e, 0 if there is none. */
int64_t expr_constant_term(const expr_t *e);
int64_t expr_floordiv_int(int64_t a, int64_t b); /* b > 0 */

expr_range_t expr_range(const expr_t *e);
expr_range_t expr_atom_range(expr_atom_kind_t kind, const expr_t *a,
                             const expr_t *b);
/* Whether e >= 0, or a <= b, is proved for all values of the symbols for which
 * `positive`, if it is not NULL, is above 0. */
bool expr_proves_nonnegative(expr_pool_t *pool, const expr_t *e,
                             const expr_t *positive);
bool expr_proves_le(expr_pool_t *pool, const expr_t *a, const expr_t *b,
                    const expr_t *positive);

/* The same expression, perhaps of another pool; both may be NULL. */
static inline bool expr_same(const expr_t *a, const expr_t *b) {
  if (a == b) return true;
  return a != NULL && b != NULL && a->hash == b->hash && expr_order(a, b) == 0;
}

static inline bool expr_same_all(const expr_t *const *a, const expr_t *const *b,
                                 unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (!expr_same(a[i], b[i])) return false;
  return true;
}

#endif
