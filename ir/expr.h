/* Sizes known only at run time: integer expressions over named symbols.
 *
 * An expression is a polynomial with int64 coefficients over atoms; an atom is
 * a symbol or one of the operators below applied to expressions. Expressions
 * are interned in a pool: two of the same pool are equal as canonical forms
 * exactly when their pointers are equal. Overflow of a coefficient leaves
 * through the recovery point with MOEC_E_LIMIT. */
#ifndef IR_EXPR_H
#define IR_EXPR_H

#include "ir/arena.h"

typedef struct expr_pool expr_pool_t;
typedef struct expr expr_t;
typedef struct expr_symbol expr_symbol_t;

typedef enum {
  EXPR_ATOM_SYMBOL,
  EXPR_ATOM_FLOORDIV, /* floor(a / b); 0 where b is 0 */
  EXPR_ATOM_MOD,      /* a - b * floordiv(a, b); 0 where b is 0 */
  EXPR_ATOM_MIN,
  EXPR_ATOM_MAX,
  EXPR_ATOM_BROADCAST, /* a == 1 ? b : a; that they agree is checked apart */
  EXPR_ATOM_IS_ONE,    /* a == 1 ? 1 : 0 */
} expr_atom_kind_t;

struct expr_symbol {
  const char *name;      /* unique in the pool, [A-Za-z_][A-Za-z0-9_.]* */
  unsigned index;        /* dense, in order of creation */
  int64_t lower;         /* never below this; 0 for dimensions */
  const expr_t *upper;   /* never above this, over earlier symbols; or NULL */
  int64_t bound;         /* never above this number; INT64_MAX: not known */
  const expr_t *planned; /* `upper` without symbols that have one; or NULL */
};

typedef struct expr_atom {
  expr_atom_kind_t kind;
  const expr_symbol_t *symbol; /* EXPR_ATOM_SYMBOL */
  const expr_t *a, *b;         /* operands of the others; b NULL for IS_ONE */
  unsigned id;                 /* dense in the pool, in order of creation */
  unsigned depth, size;        /* nesting, and nodes as a tree */
  int64_t lower, upper;        /* INT64_MIN, INT64_MAX: not known */
  uint64_t hash;               /* of the structure, the same in every pool */
} expr_atom_t;

/* coefficient * product of atoms; an atom repeats for a power. */
typedef struct expr_term {
  int64_t coefficient; /* never 0 */
  unsigned n_atoms;
  const expr_atom_t *const *atoms; /* in canonical order */
} expr_term_t;

struct expr {
  unsigned n_terms; /* 0 for the constant 0; the constant term comes last */
  const expr_term_t *terms; /* in canonical order */
  unsigned depth, size;     /* nesting of atoms, and nodes as a tree */
  uint64_t hash;            /* of the structure, the same in every pool */
};

/* The canonical order depends on names and structure alone, so that equal texts
 * are printed from every pool: symbols by name, then operators; of terms,
 * higher degrees first. Expressions beyond these sizes leave with MOEC_E_LIMIT;
 * they bound every walk over an expression. */
#define EXPR_MAX_TERMS 1024        /* of a sum */
#define EXPR_MAX_PRODUCT_TERMS 256 /* of a product */
#define EXPR_MAX_DEGREE 64         /* atoms in a term */
#define EXPR_MAX_DEPTH 128         /* operators within operators */
#define EXPR_MAX_SIZE 8192         /* nodes, shared ones counted each time */

expr_pool_t *expr_pool_create(arena_t *arena);
unsigned expr_n_symbols(const expr_pool_t *pool);
const expr_symbol_t *expr_symbol_at(const expr_pool_t *pool, unsigned index);

/* A new symbol named `name`, with a suffix when taken; `upper` may be NULL.
 * Characters that a name may not have become '_', long names are cut. */
const expr_t *expr_new_symbol(expr_pool_t *pool, const char *name,
                              int64_t lower, const expr_t *upper);
/* The symbol of that name, or NULL. */
const expr_t *expr_find_symbol(expr_pool_t *pool, const char *name);

const expr_t *expr_const(expr_pool_t *pool, int64_t value);
const expr_t *expr_add(expr_pool_t *pool, const expr_t *a, const expr_t *b);
const expr_t *expr_sub(expr_pool_t *pool, const expr_t *a, const expr_t *b);
const expr_t *expr_mul(expr_pool_t *pool, const expr_t *a, const expr_t *b);
/* The following simplify what they can prove (also (6*n + 4) / 2 = 3*n + 2). A
 * division says nothing about the case that the divisor is 0: n*m / m = n. */
const expr_t *expr_floordiv(expr_pool_t *pool, const expr_t *a,
                            const expr_t *b);
const expr_t *expr_ceildiv(expr_pool_t *pool, const expr_t *a, const expr_t *b);
const expr_t *expr_mod(expr_pool_t *pool, const expr_t *a, const expr_t *b);
const expr_t *expr_min(expr_pool_t *pool, const expr_t *a, const expr_t *b);
const expr_t *expr_max(expr_pool_t *pool, const expr_t *a, const expr_t *b);
/* Whether e is min(1, n) for an n that `size` is never above: then e is 1 but
 * where both are 0, and broadcasts with `size` to `size`. */
bool expr_is_one_unless_none(expr_pool_t *pool, const expr_t *e,
                             const expr_t *size);
/* Dimension of a broadcast of a with b: the other one where one is known to be
 * 1, or where they are equal, else EXPR_ATOM_BROADCAST. */
const expr_t *expr_broadcast(expr_pool_t *pool, const expr_t *a,
                             const expr_t *b);
const expr_t *expr_is_one(expr_pool_t *pool, const expr_t *a);
/* The one of these that an atom of that kind, which is no symbol, stands for.
 */
const expr_t *expr_apply(expr_pool_t *pool, expr_atom_kind_t kind,
                         const expr_t *a, const expr_t *b);
/* a / b when b divides a as polynomials for all values, else NULL. */
const expr_t *expr_divide_exactly(expr_pool_t *pool, const expr_t *a,
                                  const expr_t *b);
/* Product of n expressions; 1 for none. */
const expr_t *expr_product(expr_pool_t *pool, const expr_t *const *e,
                           unsigned n);

bool expr_is_const(const expr_t *e, int64_t *out_value); /* out may be NULL */
bool expr_equals_const(const expr_t *e, int64_t value);
/* The symbol that e consists of, or NULL. */
const expr_symbol_t *expr_as_symbol(const expr_t *e);
/* Bounds over all values of the symbols; false when none was found. */
bool expr_lower_bound(const expr_t *e, int64_t *out_bound);
bool expr_upper_bound(const expr_t *e, int64_t *out_bound);
/* An expression never below e, without symbols that have an `upper`; NULL when
 * e cannot be bounded. Used to plan memory for data-dependent sizes. */
const expr_t *expr_upper_expr(expr_pool_t *pool, const expr_t *e);
/* 1: a == b always, 0: never, -1: not known. */
int expr_compare_equal(expr_pool_t *pool, const expr_t *a, const expr_t *b);
/* 1: a < b always, 0: never, -1: not known. */
int expr_compare_less(expr_pool_t *pool, const expr_t *a, const expr_t *b);
/* Whether e mentions the symbol, also inside atoms. */
bool expr_mentions(const expr_t *e, const expr_symbol_t *symbol);
/* e with values[symbol->index] for each symbol where that is not NULL. */
const expr_t *expr_substitute(expr_pool_t *pool, const expr_t *e,
                              const expr_t *const *values);
/* Value under symbol values (indexed by symbol->index), as a run computes it;
 * false on overflow. */
bool expr_evaluate(const expr_t *e, const int64_t *symbols, int64_t *out_value);

/* "2*B*S + floordiv(T, 4) + 1"; functions floordiv mod min max broadcast
 * is_one. Parsing makes symbols that do not exist yet when `create` is true;
 * *cursor advances past the expression; NULL on a syntax error. */
void expr_print(const expr_t *e, text_t *out);
const expr_t *expr_parse(expr_pool_t *pool, const char **cursor, bool create);

#endif
