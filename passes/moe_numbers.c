/* Sizes and row numbers: whether they are what sorting and masks would give. */
#include <string.h>

#include "passes/moe_build.h"
#include "passes/moe_rules.h"

/* ---- Sizes ------------------------------------------------------------------
 *
 * Exporters write an expert's range of rows with limits that never bind:
 * max(0, min(end, n) - max(0, start)). Such an expression is piecewise linear
 * in the counts of the experts; it is compared with the range on many ways to
 * spread routes over experts, with empty experts at every place among them. */

enum { SAMPLES = 24 };

typedef struct sample {
  const moe_source_t *source;
  moe_facts_t *facts;
  int64_t *value; /* by index of the symbol; INT64_MIN: not known yet */
  int64_t *count; /* by expert */
  unsigned depth;
} sample_t;

static uint64_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
  return *state >> 33;
}

/* Routes spread over the experts, k different ones for each token. */
static void spread(sample_t *s, int64_t routes, unsigned number) {
  int64_t n = s->source->experts;
  uint64_t state = number * 977u + 12345u;
  memset(s->count, 0, (size_t)n * sizeof *s->count);
  for (int64_t r = 0; r < routes; r++) {
    int64_t e = (int64_t)(next_random(&state) % (uint64_t)n);
    if (number % 3 == 1) e = e / 2;               /* the last half is empty */
    if (number % 3 == 2) e = n - 1 - (e * e) / n; /* uneven */
    if (e < 0) e = 0;
    s->count[e]++;
  }
}

static bool evaluate(sample_t *s, const expr_t *e, int64_t *out);

static bool symbol_value(sample_t *s, const expr_symbol_t *symbol) {
  if (s->value[symbol->index] != INT64_MIN) return true;
  const moe_fact_t *fact = moe_fact_of_symbol(s->facts, symbol);
  int64_t index, value = 0;
  if (fact->kind != FACT_NONE && fact->source == s->source) {
    if (fact->first < 0 || fact->first > s->source->experts) return false;
    if (fact->kind == FACT_COUNT) {
      if (fact->first == s->source->experts) return false;
      value = s->count[fact->first];
    } else {
      for (int64_t e = 0; e < fact->first; e++) value += s->count[e];
    }
  } else {
    const ir_value_t *from = moe_bound_value(s->facts, symbol, &index);
    if (from == NULL || from->content == NULL ||
        !evaluate(s, from->content[index], &value))
      return false;
  }
  s->value[symbol->index] = value;
  return true;
}

static bool find_symbols(sample_t *s, const expr_t *e) {
  if (++s->depth > 200) return false;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind == EXPR_ATOM_SYMBOL) {
        if (!symbol_value(s, atom->symbol)) return false;
        continue;
      }
      if (!find_symbols(s, atom->a)) return false;
      if (atom->b != NULL && !find_symbols(s, atom->b)) return false;
    }
  s->depth--;
  return true;
}

static bool evaluate(sample_t *s, const expr_t *e, int64_t *out) {
  return find_symbols(s, e) && expr_evaluate(e, s->value, out);
}

/* Gives the inputs' sizes values and finds how many routes there are. */
static bool choose_sizes(sample_t *s, unsigned number, int64_t *out_routes) {
  const moe_facts_t *facts = s->facts;
  for (unsigned i = 0; i < facts->n_symbols; i++) {
    bool is_input = facts->bound_by[i] == NULL;
    s->value[i] = is_input ? 1 + (number * 7 + i * 3) % 9 : INT64_MIN;
  }
  s->depth = 0;
  return evaluate(s, s->source->routes, out_routes) && *out_routes >= 0 &&
         *out_routes < 100000;
}

static bool is_range(moe_facts_t *facts, const moe_source_t *source,
                     int64_t expert, const expr_t *size, bool start) {
  int64_t known;
  if (start && expr_is_const(size, &known)) return known == 0 && expert == 0;
  sample_t s = {.source = source, .facts = facts};
  s.value = ARENA_ARRAY(facts->arena, int64_t, facts->n_symbols + 1);
  s.count = ARENA_ARRAY(facts->arena, int64_t, (size_t)source->experts);
  for (unsigned i = 0; i < SAMPLES; i++) {
    int64_t routes, got, want = 0;
    if (!choose_sizes(&s, i, &routes)) return false;
    spread(&s, routes, i);
    s.depth = 0;
    if (!evaluate(&s, size, &got)) return false;
    for (int64_t e = 0; start && e < expert; e++) want += s.count[e];
    if (!start) want = s.count[expert];
    if (got != want) return false;
  }
  return true;
}

bool moe_are_equal(moe_facts_t *facts, const moe_source_t *source,
                   const expr_t *a, const expr_t *b) {
  sample_t s = {.source = source, .facts = facts};
  s.value = ARENA_ARRAY(facts->arena, int64_t, facts->n_symbols + 1);
  s.count = ARENA_ARRAY(facts->arena, int64_t, (size_t)source->experts);
  for (unsigned i = 0; i < SAMPLES; i++) {
    int64_t routes, x, y;
    if (!choose_sizes(&s, i, &routes)) return false;
    spread(&s, routes, i);
    s.depth = 0;
    if (!evaluate(&s, a, &x) || !evaluate(&s, b, &y) || x != y) return false;
  }
  return true;
}

bool moe_is_whole(moe_facts_t *facts, const moe_source_t *source,
                  const expr_t *size) {
  return is_range(facts, source, source->experts, size, true);
}

bool moe_is_count(moe_facts_t *facts, const moe_source_t *source,
                  int64_t expert, const expr_t *size) {
  return is_range(facts, source, expert, size, false);
}

bool moe_is_start(moe_facts_t *facts, const moe_source_t *source,
                  int64_t expert, const expr_t *size) {
  return is_range(facts, source, expert, size, true);
}

/* ---- Numbers of rows
 * ---------------------------------------------------------
 */

/* Compares a linear number with that of the token (scale 1) or the route (scale
 * k, and 1 for the slot), d over the mask's dimensions from the last one. */
static bool is_number(moe_facts_t *facts, const moe_fact_t *fact,
                      bool of_route) {
  if (fact->linear == NULL || fact->space == NULL) return false;
  const ir_value_t *mask = ir_in(fact->space, 0);
  const moe_fact_t *gate = moe_fact(facts, ir_in(fact->space, 0));
  if (gate->kind != FACT_GATE) return false;
  const expr_t *scale = expr_const(facts->pool, 1);
  if (of_route) scale = fact->source->k;
  bool has_slot = rule_is_one(fact->source->k);
  for (unsigned d = mask->type.rank; d-- > 0;) {
    const expr_t *want = expr_const(facts->pool, 0);
    bool one = rule_is_one(mask->type.dim[d]);
    if (gate->tag[d] == TAG_TOKEN) {
      want = scale;
      scale = expr_mul(facts->pool, scale, mask->type.dim[d]);
    } else if (gate->tag[d] == TAG_SLOT) {
      has_slot = true;
      if (of_route) want = expr_const(facts->pool, 1);
    } else if (gate->tag[d] == (TAG_TOKEN | TAG_SLOT)) {
      if (!of_route) return false;
      has_slot = true;
      want = expr_const(facts->pool, 1);
    }
    if (!one && fact->linear->coefficient[d] != want) return false;
  }
  return !of_route || has_slot;
}

bool moe_is_token_number(moe_facts_t *facts, const moe_fact_t *fact) {
  if (fact->linear == NULL) /* with one slot, a route is a token */
    return fact->kind == FACT_TOKEN ||
           (fact->kind == FACT_ROUTE && fact->space != NULL &&
            rule_is_one(fact->source->k));
  return is_number(facts, fact, false);
}

bool moe_is_route_number(moe_facts_t *facts, const moe_fact_t *fact) {
  if (fact->linear == NULL)
    return fact->kind == FACT_ROUTE && fact->space != NULL;
  return is_number(facts, fact, true);
}
