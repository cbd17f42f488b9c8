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

enum { SAMPLES = 24, MAX_EXPERTS = 1 << 17 };

typedef struct sample {
  bool fits;      /* sizes were found */
  int64_t *value; /* by index of the symbol */
  bool *known;    /* likewise */
  int64_t *start; /* by expert, [experts + 1]: the routes in front of its own */
} sample_t;

/* Of one router at a time: sizes are compared with one router's for each of its
 * experts, one after the other. */
typedef struct moe_samples {
  const moe_source_t *source;
  moe_facts_t *facts;
  int64_t room; /* of `start` */
  unsigned depth;
  sample_t sample[SAMPLES];
} moe_samples_t;

static uint64_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
  return *state >> 33;
}

/* Routes spread over the experts, k different ones for each token. */
static void spread(const moe_source_t *source, sample_t *s, int64_t routes,
                   unsigned number) {
  int64_t n = source->experts, *count = s->start + 1;
  uint64_t state = number * 977u + 12345u;
  memset(s->start, 0, ((size_t)n + 1) * sizeof *s->start);
  for (int64_t r = 0; r < routes; r++) {
    int64_t e = (int64_t)(next_random(&state) % (uint64_t)n);
    if (number % 3 == 1) e = e / 2;               /* the last half is empty */
    if (number % 3 == 2) e = n - 1 - (e * e) / n; /* uneven */
    if (e < 0) e = 0;
    count[e]++;
  }
  for (int64_t e = 0; e < n; e++) count[e] += s->start[e];
}

static bool evaluate(moe_samples_t *all, sample_t *s, const expr_t *e,
                     int64_t *out);

static bool find_symbol(moe_samples_t *all, sample_t *s,
                        const expr_symbol_t *symbol) {
  moe_facts_t *facts = all->facts;
  if (symbol->index >= facts->n_symbols) return false;
  if (s->known[symbol->index]) return true;
  const moe_fact_t *fact = moe_fact_of_symbol(facts, symbol);
  int64_t index, value = 0;
  if (fact->kind != FACT_NONE && fact->source == all->source) {
    bool is_count = fact->kind == FACT_COUNT;
    int64_t at = fact->first, end = all->source->experts + !is_count;
    if (at < 0 || at >= end) return false;
    value = is_count ? s->start[at + 1] - s->start[at] : s->start[at];
  } else {
    const ir_value_t *from = moe_bound_value(facts, symbol, &index);
    if (from == NULL || from->content == NULL ||
        !evaluate(all, s, from->content[index], &value))
      return false;
  }
  s->value[symbol->index] = value;
  s->known[symbol->index] = true;
  return true;
}

static bool find_symbols(moe_samples_t *all, sample_t *s, const expr_t *e) {
  if (++all->depth > 200) return false;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind == EXPR_ATOM_SYMBOL) {
        if (!find_symbol(all, s, atom->symbol)) return false;
        continue;
      }
      if (!find_symbols(all, s, atom->a)) return false;
      if (atom->b != NULL && !find_symbols(all, s, atom->b)) return false;
    }
  all->depth--;
  return true;
}

static bool evaluate(moe_samples_t *all, sample_t *s, const expr_t *e,
                     int64_t *out) {
  return find_symbols(all, s, e) && expr_evaluate(e, s->value, out);
}

static bool size_of(moe_samples_t *all, sample_t *s, const expr_t *e,
                    int64_t *out) {
  all->depth = 0;
  return evaluate(all, s, e, out);
}

/* Gives the inputs' sizes values, finds how many routes there are and spreads
 * them. */
static void begin_sample(moe_samples_t *all, unsigned number) {
  const moe_facts_t *facts = all->facts;
  sample_t *s = &all->sample[number];
  for (unsigned i = 0; i < facts->n_symbols; i++) {
    s->known[i] = facts->bound_by[i] == NULL; /* an input's */
    s->value[i] = 1 + (number * 7 + i * 3) % 9;
  }
  int64_t routes;
  s->fits = size_of(all, s, all->source->routes, &routes) && routes >= 0 &&
            routes < 100000;
  if (s->fits) spread(all->source, s, routes, number);
}

/* NULL where there are too many experts to have parts of their own. */
static moe_samples_t *samples_of(moe_facts_t *facts,
                                 const moe_source_t *source) {
  arena_t *arena = facts->arena;
  if (source->experts > MAX_EXPERTS) return NULL;
  moe_samples_t *all = facts->samples;
  if (all == NULL) {
    all = facts->samples = ARENA_NEW(arena, moe_samples_t);
    all->facts = facts;
    for (unsigned i = 0; i < SAMPLES; i++) {
      all->sample[i].value = ARENA_ARRAY(arena, int64_t, facts->n_symbols + 1);
      all->sample[i].known = ARENA_ARRAY(arena, bool, facts->n_symbols + 1);
    }
  }
  if (all->source == source) return all;
  all->source = source;
  bool grows = source->experts >= all->room;
  if (grows) all->room = 2 * source->experts + 1;
  for (unsigned i = 0; i < SAMPLES; i++) {
    if (grows)
      all->sample[i].start = ARENA_ARRAY(arena, int64_t, (size_t)all->room);
    begin_sample(all, i);
  }
  return all;
}

static bool is_range(moe_facts_t *facts, const moe_source_t *source,
                     int64_t expert, const expr_t *size, bool start) {
  int64_t known;
  if (start && expr_is_const(size, &known)) return known == 0 && expert == 0;
  moe_samples_t *all = samples_of(facts, source);
  for (unsigned i = 0; all != NULL && i < SAMPLES; i++) {
    sample_t *s = &all->sample[i];
    int64_t got, want;
    if (!s->fits || !size_of(all, s, size, &got)) return false;
    want = start ? s->start[expert] : s->start[expert + 1] - s->start[expert];
    if (got != want) return false;
  }
  return all != NULL;
}

bool moe_are_equal(moe_facts_t *facts, const moe_source_t *source,
                   const expr_t *a, const expr_t *b) {
  moe_samples_t *all = samples_of(facts, source);
  for (unsigned i = 0; all != NULL && i < SAMPLES; i++) {
    sample_t *s = &all->sample[i];
    int64_t x, y;
    if (!s->fits || !size_of(all, s, a, &x) || !size_of(all, s, b, &y) ||
        x != y)
      return false;
  }
  return all != NULL;
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

/* ---- Numbers of rows ----------------------------------------------------- */

static const ir_value_t *mask_of(const ir_op_t *op) {
  const ir_value_t *mask = op->in[0].value;
  while (mask->def != NULL && mask->def->code == OP_RESHAPE)
    mask = mask->def->in[0].value;
  return mask;
}

bool moe_same_rows(const ir_op_t *a, const ir_op_t *b) {
  return a == b || (a != NULL && b != NULL && a->code == OP_NONZERO &&
                    b->code == OP_NONZERO && mask_of(a) == mask_of(b));
}

/* Compares a linear number with that of the token (scale 1) or the route (scale
 * k, and 1 for the slot), d over the mask's dimensions from the last one. */
static bool is_number(moe_facts_t *facts, const moe_fact_t *fact,
                      bool of_route) {
  if (fact->linear == NULL || fact->space == NULL || fact->linear->by != NULL)
    return false;
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
  /* moe_token_of divides numbers of routes only */
  return fact->linear->by != NULL || is_number(facts, fact, false);
}

bool moe_is_route_number(moe_facts_t *facts, const moe_fact_t *fact) {
  if (fact->linear == NULL)
    return fact->kind == FACT_ROUTE && fact->space != NULL;
  return is_number(facts, fact, true);
}

/* ---- Groups of sorted rows ----------------------------------------------- */

/* The slice of rows that an index is, behind copies along features; as of all
 * expansions of rows, those of a single row are taken for none. */
static const ir_op_t *sliced_rows(const ir_value_t *index) {
  enum { MAX_VIEWS = 8 };
  for (unsigned i = 0; i < MAX_VIEWS && index->def != NULL; i++) {
    const ir_op_t *op = index->def;
    if (op->code == OP_SLICE) return op;
    if (op->code != OP_RESHAPE && op->code != OP_EXPAND) return NULL;
    const ir_value_t *from = ir_in(op, 0);
    if (index->type.rank == 0 || from->type.rank == 0) return NULL;
    bool same = from->type.dim[0] == index->type.dim[0];
    bool copies = op->code == OP_EXPAND &&
                  from->type.rank == index->type.rank &&
                  !rule_is_one(from->type.dim[0]);
    if (!copies && (op->code != OP_RESHAPE || !same)) return NULL;
    index = from;
  }
  return NULL;
}

const moe_fact_t *moe_group_of(moe_facts_t *facts, const ir_value_t *index,
                               int64_t *out_expert) {
  const ir_op_t *op = sliced_rows(index);
  if (op == NULL) return &moe_no_fact;
  ir_value_t *all = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(facts, all);
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *length = ir_get_exprs(op, ATTR_SLICE_length, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  bool sorted = (fact->kind == FACT_TOKEN || fact->kind == FACT_ROUTE) &&
                fact->space != NULL && fact->linear == NULL &&
                fact->tag[0] == TAG_ROW && rule_is_one(step[0]);
  for (unsigned d = 1; d < all->type.rank; d++)
    sorted = sorted && rule_is_one(all->type.dim[d]);
  for (int64_t e = 0; sorted && e < fact->source->experts; e++) {
    if (!moe_is_start(facts, fact->source, e, start[0]) ||
        !moe_is_count(facts, fact->source, e, length[0]))
      continue;
    *out_expert = e;
    return fact;
  }
  return &moe_no_fact;
}
