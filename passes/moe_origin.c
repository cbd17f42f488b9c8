/* What the values are made of that experts have of their own. */
#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { BUCKETS = 256, MAX_DEPTH = 1000 };

typedef struct visited {
  const moe_term_t *term;
  bool inside; /* a loop */
  struct visited *next;
} visited_t;

typedef struct origin {
  moe_builder_t *b;
  bool *seen;  /* by number: what own values are made of */
  bool *token; /* by number: what is read row by row */
  visited_t *visited[BUCKETS];
} origin_t;

static bool is_new_in(origin_t *o, const moe_term_t *term, bool inside) {
  visited_t **first = &o->visited[(term->hash >> 20) % BUCKETS];
  for (const visited_t *v = *first; v != NULL; v = v->next)
    if (v->term == term && v->inside == inside) return false;
  visited_t *entry = ARENA_NEW(o->b->arena, visited_t);
  *entry = (visited_t){term, inside, *first};
  *first = entry;
  return true;
}

static bool is_new(origin_t *o, const moe_term_t *term) {
  return is_new_in(o, term, false);
}

static bool is_made_of_tokens(origin_t *o, ir_value_t *value, unsigned depth) {
  if (value == NULL || value->number >= o->b->facts->n_values) return false;
  if (o->token[value->number]) return true;
  const ir_op_t *op = value->def;
  if (op == NULL || o->seen[value->number]) return false;
  if (depth > MAX_DEPTH) return true;
  o->seen[value->number] = true;
  for (unsigned i = 0; i < op->n_in; i++)
    if (is_made_of_tokens(o, ir_in(op, i), depth + 1)) return true;
  return false;
}

/* What the caller of the model gives, as far as a value is made of it. */
static void mark_inputs(origin_t *o, ir_value_t *value, unsigned depth) {
  if (value == NULL || value->number >= o->b->facts->n_values ||
      o->seen[value->number] || depth > MAX_DEPTH)
    return;
  o->seen[value->number] = true;
  const ir_op_t *op = value->def;
  if (op == NULL) o->token[value->number] = true;
  for (unsigned i = 0; op != NULL && i < op->n_in; i++)
    mark_inputs(o, ir_in(op, i), depth + 1);
}

/* The same for experts that compute with no token, but with what was made for
 * routes: not of these, nor of what they were made of. */
static void mark_routes(origin_t *o, const moe_term_t *term) {
  if (!term->rows || !is_new(o, term)) return;
  if (term->kind == TERM_ROUTE && term->value != NULL && term->rank > 0 &&
      term->value->number < o->b->facts->n_values) {
    mark_inputs(o, term->value, 0);
    o->token[term->value->number] = true;
  }
  for (unsigned i = 0; term->kind == TERM_OP && i < term->n; i++)
    mark_routes(o, term->in[i]);
}

static void mark_tokens(origin_t *o, const moe_term_t *term) {
  if (!term->tokens || !is_new(o, term)) return;
  if (term->kind == TERM_TOKEN && term->value->number < o->b->facts->n_values)
    o->token[term->value->number] = true;
  for (unsigned i = 0; i < term->n; i++) mark_tokens(o, term->in[i]);
}

static bool own_values_mix(origin_t *o, const moe_term_t *term) {
  if (!term->banks || !is_new(o, term)) return false;
  if (term->kind == TERM_BANK && term->value != NULL)
    return is_made_of_tokens(o, term->value, 0);
  for (unsigned i = 0; i < term->n_each; i++)
    if (is_made_of_tokens(o, term->each[i], 0)) return true;
  for (unsigned i = 0; i < term->n; i++)
    if (own_values_mix(o, term->in[i])) return true;
  return false;
}

/* What a loop has in it that is the same for all rows: a state of all rows
 * together, which rows are made of again, would be such a thing. */
static bool loops_mix(origin_t *o, const moe_term_t *term, bool inside) {
  if (term->kind == TERM_STEADY)
    return inside && is_made_of_tokens(o, term->value, 0);
  if (!is_new_in(o, term, inside)) return false;
  for (unsigned i = 0; i < term->n; i++)
    if (loops_mix(o, term->in[i], inside || term->code == OP_WHILE))
      return true;
  return false;
}

static void forget(origin_t *o) {
  for (unsigned i = 0; i < BUCKETS; i++) o->visited[i] = NULL;
}

bool moe_mixes_rows(moe_builder_t *b, unsigned n, moe_term_t *const *term) {
  origin_t o = {.b = b};
  o.seen = ARENA_ARRAY(b->arena, bool, b->facts->n_values);
  o.token = ARENA_ARRAY(b->arena, bool, b->facts->n_values);
  bool tokens = false;
  for (unsigned i = 0; i < n; i++) tokens = tokens || term[i]->tokens;
  for (unsigned i = 0; i < n; i++)
    if (tokens)
      mark_tokens(&o, term[i]);
    else
      mark_routes(&o, term[i]);
  forget(&o);
  if (!tokens) memset(o.seen, 0, b->facts->n_values * sizeof *o.seen);
  for (unsigned i = 0; i < n; i++)
    if (own_values_mix(&o, term[i])) return true;
  forget(&o);
  for (unsigned i = 0; i < n; i++)
    if (loops_mix(&o, term[i], false)) return true;
  return false;
}
