/* Experts whose row of the gate is that of k others: equal logits to the bit,
 * and so equal choices, whatever the input is; ties are the others'. */
#include <stdlib.h>
#include <string.h>

#include "passes/moe_prune.h"

enum { MOST_WEIGHTS = 1 << 24, MOST_EXPERTS = 1 << 12 };

typedef struct tied {
  prune_t *p;
  prune_array_t gate;    /* [H, E] */
  prune_array_t bias[2]; /* [E], of logits, of what selects */
  bool has_bias[2];
  uint64_t *hash;
} tied_t;

/* Number i of what decides about expert e. */
static double number_of(const tied_t *t, int64_t e, int64_t i) {
  int64_t rows = t->gate.dim[0];
  if (i < rows) return prune_at(&t->gate, (const int64_t[]){i, e});
  return t->has_bias[i - rows] ? prune_at(&t->bias[i - rows], &e) : 0;
}

static uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static bool are_equal(const tied_t *t, int64_t a, int64_t b) {
  if (t->hash[a] != t->hash[b]) return false;
  for (int64_t i = 0; i < t->gate.dim[0] + 2; i++)
    if (bits_of(number_of(t, a, i)) != bits_of(number_of(t, b, i)))
      return false;
  return true;
}

static uint64_t hash_of(const tied_t *t, int64_t e) {
  uint64_t hash = 0;
  for (int64_t i = 0; i < t->gate.dim[0] + 2; i++)
    hash = (hash ^ bits_of(number_of(t, e, i))) * UINT64_C(0x9e3779b97f4a7c15) ^
           hash >> 29;
  return hash;
}

static bool begin(prune_t *p, tied_t *t) {
  const route_t *r = &p->r;
  const ir_value_t *bias[2] = {r->in[ROUTE_GATE_BIAS],
                               r->in[ROUTE_SELECT_BIAS]};
  *t = (tied_t){.p = p};
  if (r->in[ROUTE_GATE] == NULL || p->E < 2 || p->E > MOST_EXPERTS ||
      !prune_find_array(NULL, r->in[ROUTE_GATE], &t->gate) ||
      t->gate.rank != 2 || t->gate.dim[1] != p->E ||
      t->gate.dim[0] > MOST_WEIGHTS / p->E)
    return false;
  for (unsigned i = 0; i < 2; i++) {
    t->has_bias[i] = bias[i] != NULL;
    if (bias[i] != NULL && (!prune_find_array(NULL, bias[i], &t->bias[i]) ||
                            t->bias[i].rank != 1 || t->bias[i].dim[0] != p->E))
      return false;
  }
  t->hash = ARENA_ARRAY(p->ctx->scratch, uint64_t, (size_t)p->E);
  for (int64_t e = 0; e < p->E; e++) t->hash[e] = hash_of(t, e);
  return true;
}

/* k experts of e's group that are equal to it and win ties. */
static bool find_equal(const tied_t *t, int64_t e, int64_t *out) {
  const route_t *r = &t->p->r;
  int64_t size = r->groups > 0 ? t->p->E / r->groups : t->p->E;
  int64_t first = e - e % size, n = 0;
  int64_t begin = r->last_index ? e + 1 : first;
  int64_t end = r->last_index ? first + size : e;
  for (int64_t j = begin; j < end && n < r->k; j++)
    if (are_equal(t, j, e)) out[n++] = j;
  return n == r->k;
}

void prune_tied(prune_t *p) {
  tied_t t;
  if (!begin(p, &t)) return;
  int64_t *witness = ARENA_ARRAY(p->ctx->scratch, int64_t, (size_t)p->r.k + 1);
  for (int64_t e = 0; e < p->E; e++) {
    if (p->structure[e] < 0 || !find_equal(&t, e, witness) ||
        !pass_allow_rewrite(p->ctx, "prune", p->experts))
      continue;
    moe_pruning_t *record = prune_tell(p, MOE_PRUNE_TIED, e);
    if (record != NULL) {
      size_t n = (size_t)p->r.k;
      int64_t *numbers =
          ARENA_ARRAY(p->ctx->options->moe->arena, int64_t, n + 1);
      memcpy(numbers, witness, n * sizeof numbers[0]);
      record->n_witnesses = (unsigned)n;
      record->witnesses = numbers;
    }
    p->structure[e] = -1;
    p->is_dead[e] = p->changed = true;
  }
}
