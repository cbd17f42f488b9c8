/* Sizes and row numbers: whether they are what sorting and masks would give. */
#include <string.h>

#include "passes/moe_build.h"
#include "passes/moe_rules.h"

/* ---- Sizes ---------------------------------------------------------------
 *
 * Exporters write an expert's range of rows with limits that never bind:
 * max(0, min(end, n) - max(0, start)). Such an expression is piecewise linear
 * in the counts of the experts; it is compared with the range on many ways to
 * spread routes over experts: a few and many of them, evenly and not, with
 * empty experts at every place among them, and, for each expert, with as many
 * routes of its own as it can have, and with one, which could be repeated. So
 * limits that bind somewhere are met. */

enum { SPREAD = 24, MOST = 4, ONE = 2, SAMPLES = SPREAD + MOST + ONE };
enum { MAX_EXPERTS = 1 << 17, MANY = 1 << 26, MAX_DEPTH = 200 };

typedef struct sample {
  bool fits;       /* sizes were found */
  int64_t *value;  /* by index of the symbol */
  unsigned *known; /* likewise: `now` where the value is known */
  unsigned now;
  int64_t routes, most; /* that one expert can have */
  /* By expert, [experts + 1]: the routes in front of its own; NULL: `expert`
   * has `own`, others have what is left, the first ones or the last ones. */
  int64_t *start;
  int64_t expert, own;
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

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Routes one by one. */
static void spread_few(sample_t *s, int64_t n, unsigned number,
                       uint64_t *state) {
  int64_t *count = s->start + 1;
  for (int64_t r = 0; r < s->routes; r++) {
    int64_t e = (int64_t)(next_random(state) % (uint64_t)n);
    if (number % 3 == 1) e = e / 2;               /* the last half is empty */
    if (number % 3 == 2) e = n - 1 - (e * e) / n; /* uneven */
    if (e < 0) e = 0;
    for (int64_t i = 0; i < n && count[e] >= s->most; i++) e = (e + 1) % n;
    count[e]++;
  }
}

/* Parts of very different sizes. */
static void spread_many(sample_t *s, int64_t n, uint64_t *state) {
  static const int64_t weights[] = {0, 1, 30, 1000, 30000};
  int64_t *count = s->start + 1, all = 0, left = s->routes;
  for (int64_t e = 0; e < n; e++)
    all += count[e] = weights[next_random(state) % 5];
  for (int64_t e = 0; e < n; e++) {
    double part = (double)s->routes * (double)count[e] / (double)(all + 1);
    count[e] = least(s->most, (int64_t)part);
    left -= count[e];
  }
  int64_t e = (int64_t)(next_random(state) % (uint64_t)n);
  for (int64_t i = 0; i < n && left > 0; i++, e = (e + 1) % n) {
    int64_t more = least(left, s->most - count[e]);
    count[e] += more;
    left -= more;
  }
}

/* Routes spread over the experts, k different ones for each token. */
static void spread(const moe_source_t *source, sample_t *s, unsigned number) {
  enum { FEW = 1000 };
  int64_t n = source->experts, *count = s->start + 1;
  uint64_t state = number * 977u + 12345u;
  memset(s->start, 0, ((size_t)n + 1) * sizeof *s->start);
  if (s->routes < FEW)
    spread_few(s, n, number, &state);
  else
    spread_many(s, n, &state);
  for (int64_t e = 0; e < n; e++) count[e] += s->start[e];
}

/* The routes of all experts in front of one. */
static int64_t start_of(const moe_samples_t *all, unsigned number,
                        int64_t expert) {
  const sample_t *s = &all->sample[number];
  if (s->start != NULL) return s->start[expert];
  const int64_t own = s->own, left = s->routes - own;
  const bool behind = expert > s->expert;
  int64_t others = expert - behind;
  if (number % 2 == 0) return least(left, others * s->most) + behind * own;
  others = all->source->experts - 1 - others;
  return left - least(left, others * s->most) + behind * own;
}

static bool evaluate(moe_samples_t *all, unsigned number, const expr_t *e,
                     int64_t *out);

/* An element of counts of the experts' routes, or of what lies before them. */
static void count_in(const moe_samples_t *all, unsigned number,
                     const moe_fact_t *fact, int64_t index, int64_t *out) {
  const int64_t at = fact->first + index, end = all->source->experts;
  if (fact->kind == FACT_BOUND) /* behind the last one there is nothing */
    *out = at < 0 ? 0 : start_of(all, number, least(at, end));
  else if (at < 0 || at >= end)
    *out = 0;
  else
    *out = start_of(all, number, at + 1) - start_of(all, number, at);
}

/* An element of integers that are computed from such counts: a number that
 * grows expert by expert is a long chain of sums. */
static bool number_in(moe_samples_t *all, unsigned number,
                      const ir_value_t *value, int64_t index, int64_t *out) {
  int64_t sum = 0, b;
  for (;;) {
    const moe_fact_t *fact = moe_fact(all->facts, (ir_value_t *)value);
    bool counts = fact->kind == FACT_COUNT || fact->kind == FACT_BOUND;
    const ir_op_t *op = value->def;
    if (counts && fact->source == all->source) {
      count_in(all, number, fact, index, out);
      break;
    }
    if (value->content != NULL) {
      if (!evaluate(all, number, value->content[index], out)) return false;
      break;
    }
    if (op == NULL || !dtype_is_integer(value->type.dtype) ||
        !rule_has_one_element(&value->type))
      return false;
    index = 0;
    value = ir_in(op, 0);
    if (op->code == OP_RESHAPE || op->code == OP_CAST) continue;
    if ((op->code != OP_ADD && op->code != OP_SUB) ||
        !rule_has_one_element(&value->type) ||
        !rule_has_one_element(&ir_in(op, 1)->type) || ++all->depth > MAX_DEPTH)
      return false;
    if (!number_in(all, number, ir_in(op, 1), 0, &b)) return false;
    all->depth--;
    if (op->code == OP_ADD ? __builtin_add_overflow(sum, b, &sum)
                           : __builtin_sub_overflow(sum, b, &sum))
      return false;
  }
  return !__builtin_add_overflow(*out, sum, out);
}

static bool find_symbol(moe_samples_t *all, unsigned number,
                        const expr_symbol_t *symbol) {
  moe_facts_t *facts = all->facts;
  sample_t *s = &all->sample[number];
  if (symbol->index >= facts->n_symbols) return false;
  if (facts->bound_by[symbol->index] == NULL || /* an input's */
      s->known[symbol->index] == s->now)
    return true;
  int64_t index, value = 0;
  const ir_value_t *from = moe_bound_value(facts, symbol, &index);
  if (from == NULL || !number_in(all, number, from, index, &value))
    return false;
  s->value[symbol->index] = value;
  s->known[symbol->index] = s->now;
  return true;
}

static bool find_symbols(moe_samples_t *all, unsigned number, const expr_t *e) {
  if (++all->depth > MAX_DEPTH) return false;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind == EXPR_ATOM_SYMBOL) {
        if (!find_symbol(all, number, atom->symbol)) return false;
        continue;
      }
      if (!find_symbols(all, number, atom->a)) return false;
      if (atom->b != NULL && !find_symbols(all, number, atom->b)) return false;
    }
  all->depth--;
  return true;
}

static bool evaluate(moe_samples_t *all, unsigned number, const expr_t *e,
                     int64_t *out) {
  return find_symbols(all, number, e) &&
         expr_evaluate(e, all->sample[number].value, out);
}

static bool size_of(moe_samples_t *all, unsigned number, const expr_t *e,
                    int64_t *out) {
  all->depth = 0;
  return evaluate(all, number, e, out);
}

/* How many inputs' sizes an expression has, each once if it is a product. */
static unsigned count_inputs(const moe_facts_t *facts, const expr_t *e,
                             bool *is_in) {
  unsigned n = 0;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind != EXPR_ATOM_SYMBOL) {
        n += count_inputs(facts, atom->a, is_in);
        if (atom->b != NULL) n += count_inputs(facts, atom->b, is_in);
      } else if (atom->symbol->index < facts->n_symbols) {
        n += !is_in[atom->symbol->index];
        is_in[atom->symbol->index] = true;
      }
    }
  return n;
}

/* Gives the inputs' sizes values, small ones, or large ones where there are
 * routes as they say, finds how many routes there are and spreads them. */
static void begin_sample(moe_samples_t *all, unsigned number,
                         const bool *of_routes, unsigned n_of_routes) {
  const moe_facts_t *facts = all->facts;
  const moe_source_t *source = all->source;
  sample_t *s = &all->sample[number];
  const bool large = number >= SPREAD ? number % 4 >= 2 : number % 2 == 1;
  const int64_t size = MANY >> (26 - 26 / (n_of_routes + (n_of_routes == 0)));
  s->now++;
  s->expert = 0;
  for (unsigned i = 0; i < facts->n_symbols; i++) {
    if (facts->bound_by[i] != NULL) continue;
    const expr_symbol_t *symbol = expr_symbol_at(facts->pool, i);
    s->value[i] = 1 + (number * 7 + i * 3) % 9;
    if (large && of_routes[i]) s->value[i] += size;
    s->value[i] = least(s->value[i], symbol->bound);
  }
  s->fits = size_of(all, number, source->routes, &s->routes) &&
            size_of(all, number, source->tokens, &s->most) && s->routes >= 0 &&
            s->routes < INT64_C(1) << 40;
  if (!s->fits) return;
  if (!source->distinct) s->most = s->routes;
  if (source->by_mask || source->some) /* routes may have no expert */
    s->routes = s->routes * (int64_t)(number % 5) / 4;
  const int64_t others = (source->experts - 1) * s->most;
  s->own = least(s->routes, s->most);
  if (number >= SPREAD + MOST && s->own > 0)
    s->own = s->routes > others ? s->routes - others : 1;
  if (s->start != NULL) spread(source, s, number);
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
      all->sample[i].known = ARENA_ARRAY(arena, unsigned, facts->n_symbols + 1);
    }
  }
  if (all->source == source) return all;
  all->source = source;
  bool grows = source->experts >= all->room;
  if (grows) all->room = 2 * source->experts + 1;
  bool *is_in = ARENA_ARRAY(arena, bool, facts->n_symbols + 1);
  unsigned n = count_inputs(facts, source->routes, is_in);
  for (unsigned i = 0; i < SAMPLES; i++) {
    if (grows && i < SPREAD)
      all->sample[i].start = ARENA_ARRAY(arena, int64_t, (size_t)all->room);
    begin_sample(all, i, is_in, n);
  }
  return all;
}

/* Has one expert have the most. */
static void focus(moe_samples_t *all, int64_t expert) {
  for (unsigned i = SPREAD; i < SAMPLES; i++) {
    sample_t *s = &all->sample[i];
    if (s->expert == expert) continue;
    s->expert = expert;
    s->now++;
  }
}

static bool is_range(moe_facts_t *facts, const moe_source_t *source,
                     int64_t expert, const expr_t *size, bool start) {
  int64_t known;
  if (start && expr_is_const(size, &known)) return known == 0 && expert == 0;
  moe_samples_t *all = samples_of(facts, source);
  if (all == NULL) return false;
  focus(all, least(expert, source->experts - 1));
  for (unsigned i = 0; i < SAMPLES; i++) {
    int64_t got, want;
    if (!all->sample[i].fits || !size_of(all, i, size, &got)) return false;
    want = start_of(all, i, expert);
    if (!start) want = start_of(all, i, expert + 1) - want;
    if (got != want) return false;
  }
  return true;
}

bool moe_are_equal(moe_facts_t *facts, const moe_source_t *source,
                   int64_t expert, const expr_t *a, const expr_t *b) {
  moe_samples_t *all = samples_of(facts, source);
  if (all != NULL && expert >= 0) focus(all, expert);
  for (unsigned i = 0; all != NULL && i < SAMPLES; i++) {
    int64_t x, y;
    if (!all->sample[i].fits || !size_of(all, i, a, &x) ||
        !size_of(all, i, b, &y) || x != y)
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

static const moe_source_t *source_of_size(moe_facts_t *facts, const expr_t *e,
                                          unsigned depth);

static const moe_source_t *source_of_symbol(moe_facts_t *facts,
                                            const expr_symbol_t *symbol,
                                            unsigned depth) {
  const moe_fact_t *fact = moe_fact_of_symbol(facts, symbol);
  if (fact->kind != FACT_NONE) return fact->source;
  int64_t index;
  const ir_value_t *from = moe_bound_value(facts, symbol, &index);
  return from != NULL && from->content != NULL
             ? source_of_size(facts, from->content[index], depth + 1)
             : NULL;
}

static const moe_source_t *source_of_size(moe_facts_t *facts, const expr_t *e,
                                          unsigned depth) {
  enum { MAX_NESTED = 16 };
  for (unsigned t = 0; t < e->n_terms && depth < MAX_NESTED; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      const moe_source_t *source = NULL;
      if (atom->kind == EXPR_ATOM_SYMBOL)
        source = source_of_symbol(facts, atom->symbol, depth);
      else
        source = source_of_size(facts, atom->a, depth + 1);
      if (source == NULL && atom->kind != EXPR_ATOM_SYMBOL && atom->b != NULL)
        source = source_of_size(facts, atom->b, depth + 1);
      if (source != NULL) return source;
    }
  return NULL;
}

const moe_source_t *moe_source_of_size(moe_facts_t *facts, const expr_t *e) {
  return source_of_size(facts, e, 0);
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
  const bool one_token = rule_is_one(fact->source->tokens);
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
      if (!of_route && !one_token) return false;
      has_slot = true;
      if (of_route) want = expr_const(facts->pool, 1);
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

/* Of a flat mask that has slots in front of tokens. */
static bool is_turned_number(moe_facts_t *facts, const moe_fact_t *fact) {
  if (fact->space == NULL || fact->linear->by != NULL) return false;
  const ir_value_t *mask = ir_in(fact->space, 0);
  const moe_fact_t *gate = moe_fact(facts, ir_in(fact->space, 0));
  bool turned = false;
  for (unsigned d = 0; d < mask->type.rank && gate->kind == FACT_GATE; d++) {
    if (rule_is_one(mask->type.dim[d])) continue;
    if (turned || gate->tag[d] != (TAG_TOKEN | TAG_SLOT | TAG_TURNED) ||
        !rule_is_one(fact->linear->coefficient[d]))
      return false;
    turned = true;
  }
  return turned;
}

unsigned moe_route_tag(moe_facts_t *facts, const moe_fact_t *fact) {
  const unsigned ordered = TAG_TOKEN | TAG_SLOT;
  if (fact->linear == NULL)
    return fact->kind != FACT_ROUTE || fact->space == NULL ? 0
           : fact->turned ? ordered | TAG_TURNED
                          : ordered;
  return is_number(facts, fact, true)    ? ordered
         : is_turned_number(facts, fact) ? ordered | TAG_TURNED
                                         : 0;
}

/* ---- Ranges of rows ------------------------------------------------------ */

int64_t moe_expert_of_range(moe_facts_t *facts, const moe_source_t *source,
                            const expr_t *start, const expr_t *length) {
  moe_samples_t *all = samples_of(facts, source);
  int64_t from[SPREAD], n[SPREAD];
  for (unsigned i = 0; i < SPREAD; i++)
    if (all == NULL || !all->sample[i].fits ||
        !size_of(all, i, start, &from[i]) || !size_of(all, i, length, &n[i]))
      return -1;
  for (int64_t e = 0; e < source->experts; e++) {
    bool own = true;
    for (unsigned i = 0; own && i < SPREAD; i++) {
      const int64_t *at = &all->sample[i].start[e];
      own = at[0] == from[i] && at[1] - at[0] == n[i];
    }
    if (own && moe_is_start(facts, source, e, start) &&
        moe_is_count(facts, source, e, length))
      return e;
  }
  return -1;
}
