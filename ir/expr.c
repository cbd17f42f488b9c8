/* The pool of expressions: symbols, interning, canonical order. */
#include "ir/expr.h"

#include <stdlib.h>
#include <string.h>

#include "ir/expr_internal.h"

#define MAX_NAME_BYTES 120

static uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

static uint64_t hash_name(const char *name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *name != '\0'; name++)
    hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
  return mix(hash, 1);
}

expr_pool_t *expr_pool_create(arena_t *arena) {
  expr_pool_t *pool = ARENA_NEW(arena, expr_pool_t);
  pool->arena = arena;
  pool->exprs_capacity = pool->atoms_capacity = pool->names_capacity = 64;
  pool->exprs = ARENA_ARRAY(arena, const expr_t *, 64);
  pool->atoms = ARENA_ARRAY(arena, const expr_atom_t *, 64);
  pool->names = ARENA_ARRAY(arena, expr_name_t, 64);
  return pool;
}

const expr_t *expr_must(expr_pool_t *pool, const expr_t *e) {
  if (e == NULL) moec_leave(MOEC_E_LIMIT, "size expression: %s", pool->problem);
  return e;
}

/* ---- Canonical order ---------------------------------------------------- */

int expr_order_atoms(const expr_atom_t *a, const expr_atom_t *b) {
  if (a == b) return 0;
  if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
  if (a->kind == EXPR_ATOM_SYMBOL)
    return strcmp(a->symbol->name, b->symbol->name);
  if (a->size != b->size) return a->size < b->size ? -1 : 1;
  int order = expr_order(a->a, b->a);
  return order != 0 || a->b == NULL ? order : expr_order(a->b, b->b);
}

int expr_order_monomials(const expr_term_t *a, const expr_term_t *b) {
  if (a->n_atoms != b->n_atoms) return a->n_atoms > b->n_atoms ? -1 : 1;
  for (unsigned i = 0; i < a->n_atoms; i++) {
    int order = expr_order_atoms(a->atoms[i], b->atoms[i]);
    if (order != 0) return order;
  }
  return 0;
}

/* Equal parts are identical pointers, so only the first pair of different atoms
 * is entered: the depth of the operands bounds the work. */
int expr_order(const expr_t *a, const expr_t *b) {
  if (a == b) return 0;
  for (unsigned i = 0; i < a->n_terms && i < b->n_terms; i++) {
    const expr_term_t *x = &a->terms[i], *y = &b->terms[i];
    int order = expr_order_monomials(x, y);
    if (order != 0) return order;
    if (x->coefficient != y->coefficient)
      return x->coefficient < y->coefficient ? -1 : 1;
  }
  return a->n_terms < b->n_terms ? -1 : a->n_terms > b->n_terms;
}

/* ---- Interning ---------------------------------------------------------- */

expr_term_t *expr_scratch(expr_pool_t *pool, size_t n) {
  if (n > pool->scratch_capacity) {
    pool->scratch_capacity = n * 2;
    pool->scratch = ARENA_ARRAY(pool->arena, expr_term_t, n * 2);
  }
  return pool->scratch;
}

const expr_atom_t **expr_scratch_atoms(expr_pool_t *pool, size_t n) {
  if (n > pool->scratch_atoms_capacity) {
    pool->scratch_atoms_capacity = n * 2;
    pool->scratch_atoms = ARENA_ARRAY(pool->arena, const expr_atom_t *, n * 2);
  }
  return pool->scratch_atoms;
}

static uint64_t hash_terms(const expr_term_t *terms, size_t n) {
  uint64_t hash = 0x51ed270b153a4d2fu;
  for (size_t i = 0; i < n; i++) {
    hash = mix(hash, (uint64_t)terms[i].coefficient);
    for (unsigned k = 0; k < terms[i].n_atoms; k++)
      hash = mix(hash, terms[i].atoms[k]->hash);
  }
  return hash;
}

static bool has_terms(const expr_t *e, const expr_term_t *terms, size_t n) {
  if (e->n_terms != n) return false;
  for (size_t i = 0; i < n; i++) {
    const expr_term_t *x = &e->terms[i], *y = &terms[i];
    if (x->coefficient != y->coefficient || x->n_atoms != y->n_atoms)
      return false;
    for (unsigned k = 0; k < x->n_atoms; k++)
      if (x->atoms[k] != y->atoms[k]) return false;
  }
  return true;
}

static void grow_exprs(expr_pool_t *pool) {
  size_t capacity = pool->exprs_capacity * 2;
  const expr_t **table = ARENA_ARRAY(pool->arena, const expr_t *, capacity);
  for (size_t i = 0; i < pool->exprs_capacity; i++) {
    const expr_t *e = pool->exprs[i];
    if (e == NULL) continue;
    size_t slot = e->hash & (capacity - 1);
    while (table[slot] != NULL) slot = (slot + 1) & (capacity - 1);
    table[slot] = e;
  }
  pool->exprs = table;
  pool->exprs_capacity = capacity;
}

static expr_t *new_expr(expr_pool_t *pool, const expr_term_t *terms, size_t n) {
  uint64_t size = 0;
  size_t n_atoms = 0;
  unsigned depth = 0;
  for (size_t i = 0; i < n; i++) {
    size++;
    n_atoms += terms[i].n_atoms;
    for (unsigned k = 0; k < terms[i].n_atoms; k++) {
      size += terms[i].atoms[k]->size;
      if (terms[i].atoms[k]->depth > depth) depth = terms[i].atoms[k]->depth;
    }
  }
  if (size > EXPR_MAX_SIZE) {
    pool->problem = "it has too many parts";
    return NULL;
  }
  expr_t *e = ARENA_NEW(pool->arena, expr_t);
  expr_term_t *copy = ARENA_ARRAY(pool->arena, expr_term_t, n);
  const expr_atom_t **atoms =
      n_atoms == 0 ? NULL
                   : ARENA_ARRAY(pool->arena, const expr_atom_t *, n_atoms);
  for (size_t i = 0; i < n; i++) {
    copy[i] = terms[i];
    copy[i].atoms = atoms;
    for (unsigned k = 0; k < terms[i].n_atoms; k++)
      *atoms++ = terms[i].atoms[k];
  }
  e->n_terms = (unsigned)n;
  e->terms = copy;
  e->size = (unsigned)size;
  e->depth = depth;
  return e;
}

const expr_t *expr_intern(expr_pool_t *pool, const expr_term_t *terms,
                          size_t n) {
  if (n > EXPR_MAX_TERMS) {
    pool->problem = "a sum has too many terms";
    return NULL;
  }
  uint64_t hash = hash_terms(terms, n);
  size_t slot = hash & (pool->exprs_capacity - 1);
  for (; pool->exprs[slot] != NULL;
       slot = (slot + 1) & (pool->exprs_capacity - 1))
    if (pool->exprs[slot]->hash == hash &&
        has_terms(pool->exprs[slot], terms, n))
      return pool->exprs[slot];
  expr_t *e = new_expr(pool, terms, n);
  if (e == NULL) return NULL;
  e->hash = hash;
  pool->exprs[slot] = e;
  if (++pool->n_exprs * 2 > pool->exprs_capacity) grow_exprs(pool);
  return e;
}

const expr_t *expr_from_term(expr_pool_t *pool, const expr_term_t *term) {
  return expr_intern(pool, term, term->coefficient != 0);
}

static void grow_atoms(expr_pool_t *pool) {
  size_t capacity = pool->atoms_capacity * 2;
  const expr_atom_t **table =
      ARENA_ARRAY(pool->arena, const expr_atom_t *, capacity);
  for (size_t i = 0; i < pool->atoms_capacity; i++) {
    const expr_atom_t *atom = pool->atoms[i];
    if (atom == NULL) continue;
    size_t slot = atom->hash & (capacity - 1);
    while (table[slot] != NULL) slot = (slot + 1) & (capacity - 1);
    table[slot] = atom;
  }
  pool->atoms = table;
  pool->atoms_capacity = capacity;
}

/* The stored atom equal to *wanted (whose hash is set). */
static const expr_atom_t *intern_atom(expr_pool_t *pool,
                                      const expr_atom_t *wanted) {
  size_t slot = wanted->hash & (pool->atoms_capacity - 1);
  for (; pool->atoms[slot] != NULL;
       slot = (slot + 1) & (pool->atoms_capacity - 1)) {
    const expr_atom_t *atom = pool->atoms[slot];
    if (atom->kind == wanted->kind && atom->symbol == wanted->symbol &&
        atom->a == wanted->a && atom->b == wanted->b)
      return atom;
  }
  expr_atom_t *atom = ARENA_NEW(pool->arena, expr_atom_t);
  *atom = *wanted;
  atom->id = (unsigned)pool->n_atoms;
  pool->atoms[slot] = atom;
  if (++pool->n_atoms * 2 > pool->atoms_capacity) grow_atoms(pool);
  return atom;
}

static const expr_t *expr_of_atom(expr_pool_t *pool, const expr_atom_t *atom) {
  expr_term_t term = {.coefficient = 1, .n_atoms = 1, .atoms = &atom};
  return expr_from_term(pool, &term);
}

const expr_t *expr_make_atom(expr_pool_t *pool, expr_atom_kind_t kind,
                             const expr_t *a, const expr_t *b) {
  expr_range_t range = expr_atom_range(kind, a, b);
  expr_atom_t atom = {.kind = kind,
                      .a = a,
                      .b = b,
                      .depth = a->depth + 1,
                      .size = a->size + 1,
                      .lower = range.lo,
                      .upper = range.hi};
  atom.hash = mix(mix(kind, a->hash), b != NULL ? b->hash : 7);
  if (b != NULL) {
    atom.size += b->size;
    if (b->depth >= atom.depth) atom.depth = b->depth + 1;
  }
  if (atom.depth > EXPR_MAX_DEPTH)
    moec_leave(MOEC_E_LIMIT, "size expression: it is nested too deeply");
  return expr_must(pool, expr_of_atom(pool, intern_atom(pool, &atom)));
}

const expr_t *expr_const(expr_pool_t *pool, int64_t value) {
  expr_term_t term = {.coefficient = value};
  return expr_from_term(pool, &term);
}

/* ---- Symbols ------------------------------------------------------------ */

static expr_name_t *find_name(expr_pool_t *pool, const char *name) {
  uint64_t hash = hash_name(name);
  size_t slot = hash & (pool->names_capacity - 1);
  while (pool->names[slot].name != NULL &&
         (pool->names[slot].hash != hash ||
          strcmp(pool->names[slot].name, name) != 0))
    slot = (slot + 1) & (pool->names_capacity - 1);
  return &pool->names[slot];
}

static void add_name(expr_pool_t *pool, const char *name,
                     const expr_t *symbol) {
  expr_name_t *entry = find_name(pool, name);
  *entry = (expr_name_t){name, hash_name(name), symbol, 1};
  if (++pool->n_names * 2 <= pool->names_capacity) return;
  size_t capacity = pool->names_capacity * 2;
  expr_name_t *table = ARENA_ARRAY(pool->arena, expr_name_t, capacity);
  for (size_t i = 0; i < pool->names_capacity; i++) {
    const expr_name_t *old = &pool->names[i];
    if (old->name == NULL) continue;
    size_t slot = old->hash & (capacity - 1);
    while (table[slot].name != NULL) slot = (slot + 1) & (capacity - 1);
    table[slot] = *old;
  }
  pool->names = table;
  pool->names_capacity = capacity;
}

static bool is_name_start(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* A valid name that is not taken, made from the wish. */
static const char *free_name(expr_pool_t *pool, const char *wish) {
  char base[MAX_NAME_BYTES + 2];
  size_t n = 0;
  if (!is_name_start(wish[0])) base[n++] = '_';
  for (; *wish != '\0' && n < MAX_NAME_BYTES; wish++) {
    bool valid =
        is_name_start(*wish) || (*wish >= '0' && *wish <= '9') || *wish == '.';
    base[n++] = valid ? *wish : '_';
  }
  base[n] = '\0';
  if (find_name(pool, base)->name == NULL)
    return arena_strdup(pool->arena, base);
  char name[MAX_NAME_BYTES + 16];
  do
    snprintf(name, sizeof name, "%s_%u", base,
             find_name(pool, base)->next_suffix++);
  while (find_name(pool, name)->name != NULL);
  return arena_strdup(pool->arena, name);
}

const expr_t *expr_new_symbol(expr_pool_t *pool, const char *name,
                              int64_t lower, const expr_t *upper) {
  expr_symbol_t *symbol = ARENA_NEW(pool->arena, expr_symbol_t);
  symbol->name = free_name(pool, name);
  symbol->index = pool->n_symbols;
  symbol->lower = lower;
  symbol->upper = upper;
  symbol->bound = INT64_MAX;
  if (upper != NULL) {
    symbol->bound = expr_range(upper).hi;
    symbol->planned = expr_upper_expr(pool, upper);
  }
  expr_atom_t atom = {.kind = EXPR_ATOM_SYMBOL,
                      .symbol = symbol,
                      .size = 1,
                      .lower = lower,
                      .upper = symbol->bound,
                      .hash = hash_name(symbol->name)};
  const expr_t *e =
      expr_must(pool, expr_of_atom(pool, intern_atom(pool, &atom)));
  add_name(pool, symbol->name, e);
  if (pool->n_symbols == pool->symbols_capacity) {
    unsigned capacity = pool->n_symbols * 2 + 16;
    pool->symbols =
        arena_grow_array(pool->arena, pool->symbols, pool->n_symbols, capacity,
                         sizeof *pool->symbols);
    pool->symbols_capacity = capacity;
  }
  pool->symbols[pool->n_symbols++] = symbol;
  return e;
}

const expr_t *expr_find_symbol(expr_pool_t *pool, const char *name) {
  const expr_name_t *entry = find_name(pool, name);
  return entry->name != NULL ? entry->symbol : NULL;
}

unsigned expr_n_symbols(const expr_pool_t *pool) { return pool->n_symbols; }

const expr_symbol_t *expr_symbol_at(const expr_pool_t *pool, unsigned index) {
  MOEC_ASSERT(index < pool->n_symbols);
  return pool->symbols[index];
}

/* ---- Questions ---------------------------------------------------------- */

bool expr_is_const(const expr_t *e, int64_t *out_value) {
  if (e->n_terms > 1 || (e->n_terms == 1 && e->terms[0].n_atoms > 0))
    return false;
  if (out_value != NULL)
    *out_value = e->n_terms == 0 ? 0 : e->terms[0].coefficient;
  return true;
}

const expr_symbol_t *expr_as_symbol(const expr_t *e) {
  bool is_atom = e->n_terms == 1 && e->terms[0].coefficient == 1 &&
                 e->terms[0].n_atoms == 1;
  if (!is_atom || e->terms[0].atoms[0]->kind != EXPR_ATOM_SYMBOL) return NULL;
  return e->terms[0].atoms[0]->symbol;
}

bool expr_equals_const(const expr_t *e, int64_t value) {
  int64_t known;
  return expr_is_const(e, &known) && known == value;
}

const expr_atom_t *expr_as_atom(const expr_t *e) {
  bool is_atom = e->n_terms == 1 && e->terms[0].n_atoms == 1 &&
                 e->terms[0].coefficient == 1;
  return is_atom ? e->terms[0].atoms[0] : NULL;
}

int64_t expr_constant_term(const expr_t *e) {
  if (e->n_terms == 0 || e->terms[e->n_terms - 1].n_atoms > 0) return 0;
  return e->terms[e->n_terms - 1].coefficient;
}

bool expr_mentions(const expr_t *e, const expr_symbol_t *symbol) {
  for (unsigned i = 0; i < e->n_terms; i++)
    for (unsigned k = 0; k < e->terms[i].n_atoms; k++) {
      const expr_atom_t *atom = e->terms[i].atoms[k];
      if (atom->kind == EXPR_ATOM_SYMBOL) {
        if (atom->symbol == symbol) return true;
      } else if (expr_mentions(atom->a, symbol) ||
                 (atom->b != NULL && expr_mentions(atom->b, symbol))) {
        return true;
      }
    }
  return false;
}
