/* What the values are made of that experts have of their own. */
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { BUCKETS = 256, MAX_DEPTH = 1000 };

typedef struct visited {
  const moe_term_t *term;
  struct visited *next;
} visited_t;

typedef struct origin {
  moe_builder_t *b;
  bool *seen;  /* by number: what own values are made of */
  bool *token; /* by number: what is read row by row */
  visited_t *visited[BUCKETS];
} origin_t;

static bool is_new(origin_t *o, const moe_term_t *term) {
  visited_t **first = &o->visited[(term->hash >> 20) % BUCKETS];
  for (const visited_t *v = *first; v != NULL; v = v->next)
    if (v->term == term) return false;
  visited_t *entry = ARENA_NEW(o->b->arena, visited_t);
  *entry = (visited_t){term, *first};
  *first = entry;
  return true;
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

bool moe_mixes_rows(moe_builder_t *b, unsigned n, moe_term_t *const *term) {
  origin_t o = {.b = b};
  o.seen = ARENA_ARRAY(b->arena, bool, b->facts->n_values);
  o.token = ARENA_ARRAY(b->arena, bool, b->facts->n_values);
  for (unsigned i = 0; i < n; i++) mark_tokens(&o, term[i]);
  for (unsigned i = 0; i < BUCKETS; i++) o.visited[i] = NULL;
  for (unsigned i = 0; i < n; i++)
    if (own_values_mix(&o, term[i])) return true;
  return false;
}
