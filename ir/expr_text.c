/* Expressions as text: printing and parsing. */
#include <string.h>

#include "ir/expr_internal.h"

#define MAX_NESTING 200 /* parentheses and calls in a text */
#define MAX_NAME_BYTES 140

static const struct function {
  const char *name;
  unsigned n_args;
} functions[] = {
    [EXPR_ATOM_SYMBOL] = {"", 0},
    [EXPR_ATOM_FLOORDIV] = {"floordiv", 2},
    [EXPR_ATOM_MOD] = {"mod", 2},
    [EXPR_ATOM_MIN] = {"min", 2},
    [EXPR_ATOM_MAX] = {"max", 2},
    [EXPR_ATOM_BROADCAST] = {"broadcast", 2},
    [EXPR_ATOM_IS_ONE] = {"is_one", 1},
};

/* ---- Printing ------------------------------------------------------------ */

static void print_atom(const expr_atom_t *atom, text_t *out) {
  if (atom->kind == EXPR_ATOM_SYMBOL) {
    text_printf(out, "%s", atom->symbol->name);
    return;
  }
  text_printf(out, "%s(", functions[atom->kind].name);
  expr_print(atom->a, out);
  if (atom->b != NULL) {
    text_printf(out, ", ");
    expr_print(atom->b, out);
  }
  text_printf(out, ")");
}

void expr_print(const expr_t *e, text_t *out) {
  if (e->n_terms == 0) text_printf(out, "0");
  for (unsigned i = 0; i < e->n_terms; i++) {
    const expr_term_t *term = &e->terms[i];
    bool negative = term->coefficient < 0;
    uint64_t magnitude = negative ? 0 - (uint64_t)term->coefficient
                                  : (uint64_t)term->coefficient;
    if (i > 0)
      text_printf(out, negative ? " - " : " + ");
    else if (negative)
      text_printf(out, "-");
    if (magnitude != 1 || term->n_atoms == 0)
      text_printf(out, "%llu%s", (unsigned long long)magnitude,
                  term->n_atoms > 0 ? "*" : "");
    for (unsigned k = 0; k < term->n_atoms; k++) {
      if (k > 0) text_printf(out, "*");
      print_atom(term->atoms[k], out);
    }
  }
}

/* ---- Parsing ------------------------------------------------------------- */

typedef struct parser {
  expr_pool_t *pool;
  const char *at;
  bool create;
  unsigned nesting;
} parser_t;

static const expr_t *parse_sum(parser_t *p);

static void skip_blanks(parser_t *p) {
  while (*p->at == ' ' || *p->at == '\t') p->at++;
}

/* Skips blanks and the character when it comes next; stays put else. */
static bool accept(parser_t *p, char c) {
  const char *start = p->at;
  skip_blanks(p);
  if (*p->at == c) {
    p->at++;
    return true;
  }
  p->at = start;
  return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* The sign belongs to the number, so that INT64_MIN has a text. */
static const expr_t *parse_number(parser_t *p, bool negative) {
  uint64_t magnitude = 0;
  for (; is_digit(*p->at); p->at++)
    if (__builtin_mul_overflow(magnitude, 10u, &magnitude) ||
        __builtin_add_overflow(magnitude, (unsigned)(*p->at - '0'), &magnitude))
      return NULL;
  if (magnitude > (uint64_t)INT64_MAX + negative) return NULL;
  return expr_const(p->pool, (int64_t)(negative ? 0 - magnitude : magnitude));
}

static const expr_t *parse_call(parser_t *p, const char *name, size_t length) {
  unsigned kind = EXPR_ATOM_FLOORDIV;
  const unsigned n_kinds = sizeof functions / sizeof functions[0];
  while (kind < n_kinds && (strlen(functions[kind].name) != length ||
                            memcmp(functions[kind].name, name, length) != 0))
    kind++;
  if (kind == n_kinds || !accept(p, '(')) return NULL;
  const expr_t *a = parse_sum(p), *b = NULL;
  if (a == NULL) return NULL;
  if (functions[kind].n_args == 2) {
    if (!accept(p, ',')) return NULL;
    b = parse_sum(p);
    if (b == NULL) return NULL;
  }
  if (!accept(p, ')')) return NULL;
  switch ((expr_atom_kind_t)kind) {
    case EXPR_ATOM_FLOORDIV:
      return expr_floordiv(p->pool, a, b);
    case EXPR_ATOM_MOD:
      return expr_mod(p->pool, a, b);
    case EXPR_ATOM_MIN:
      return expr_min(p->pool, a, b);
    case EXPR_ATOM_MAX:
      return expr_max(p->pool, a, b);
    case EXPR_ATOM_BROADCAST:
      return expr_broadcast(p->pool, a, b);
    case EXPR_ATOM_IS_ONE:
      return expr_is_one(p->pool, a);
    case EXPR_ATOM_SYMBOL:
      break;
  }
  return NULL;
}

static const expr_t *parse_name(parser_t *p) {
  const char *start = p->at;
  while (is_letter(*p->at) || is_digit(*p->at) || *p->at == '.') p->at++;
  size_t length = (size_t)(p->at - start);
  if (*p->at == '(') return parse_call(p, start, length);
  char name[MAX_NAME_BYTES + 1];
  if (length > MAX_NAME_BYTES) return NULL;
  memcpy(name, start, length);
  name[length] = '\0';
  const expr_t *symbol = expr_find_symbol(p->pool, name);
  if (symbol == NULL && p->create)
    symbol = expr_new_symbol(p->pool, name, 0, NULL);
  return symbol;
}

static const expr_t *parse_factor(parser_t *p, bool negative) {
  skip_blanks(p);
  if (is_digit(*p->at)) return parse_number(p, negative);
  const expr_t *e = NULL;
  if (p->nesting == MAX_NESTING) return NULL;
  p->nesting++;
  if (is_letter(*p->at)) {
    e = parse_name(p);
  } else if (accept(p, '(')) {
    e = parse_sum(p);
    if (e != NULL && !accept(p, ')')) e = NULL;
  }
  p->nesting--;
  if (e == NULL || !negative) return e;
  return expr_sub(p->pool, expr_const(p->pool, 0), e);
}

static const expr_t *parse_product(parser_t *p, bool negative) {
  const expr_t *product = parse_factor(p, negative);
  while (product != NULL && accept(p, '*')) {
    const expr_t *factor = parse_factor(p, false);
    if (factor == NULL) return NULL;
    product = expr_mul(p->pool, product, factor);
  }
  return product;
}

/* '-' that is not the beginning of an arrow. */
static bool accept_minus(parser_t *p) {
  const char *start = p->at;
  if (accept(p, '-') && *p->at != '>') return true;
  p->at = start;
  return false;
}

static const expr_t *parse_sum(parser_t *p) {
  const expr_t *sum = parse_product(p, accept_minus(p));
  while (sum != NULL) {
    bool negative = accept_minus(p);
    if (!negative && !accept(p, '+')) return sum;
    const expr_t *term = parse_product(p, negative);
    if (term == NULL) return NULL;
    sum = expr_add(p->pool, sum, term);
  }
  return NULL;
}

const expr_t *expr_parse(expr_pool_t *pool, const char **cursor, bool create) {
  parser_t p = {pool, *cursor, create, 0};
  const expr_t *e = parse_sum(&p);
  if (e != NULL) *cursor = p.at;
  return e;
}
