/* Experts that are equal but for the order of their neurons: the same function,
 * whose last product sums in another order. The later ones take the first one's
 * weights.
 *
 * A neuron is all numbers that belong to it in the banks, as bits. Experts are
 * compared in full only if a few numbers of each neuron, sorted, are the same.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/moe_prune_neurons.h"

/* Numbers that are looked at in a layer: of all experts at first, then of those
 * that seem to be the same. */
#define MOST_SAMPLED (INT64_C(1) << 25)
#define MOST_COMPARED (INT64_C(1) << 27)

enum {
  SAMPLED = 2, /* numbers of a neuron, at first */
  ALIKE = 8,   /* experts that only seem to be the same */
};

typedef struct neuron {
  uint64_t hash;
  int64_t number;
} neuron_t;

/* An expert's banks that have an axis of neurons. */
typedef struct weights {
  prune_array_t bank[NEURONS_LEAVES];
} weights_t;

typedef struct permuted {
  prune_t *p;
  neurons_t *neurons;
  int64_t to_sample, to_compare;
} permuted_t;

static bool find_weights(const permuted_t *s, int64_t e, weights_t *out) {
  prune_scope_t scope = {s->p->experts, s->neurons->region, s->p->position[e]};
  for (unsigned i = 0; i < s->neurons->n_leaves; i++) {
    const leaf_t *leaf = &s->neurons->leaf[i];
    const ir_value_t *arg = &s->neurons->body->args[leaf->arg];
    if (!prune_find_array(&scope, arg, &out->bank[i]) ||
        out->bank[i].rank > 2 || out->bank[i].rank != arg->type.rank)
      return false;
  }
  return true;
}

/* ---- The numbers of a neuron --------------------------------------------- */

static int64_t count_slices(const permuted_t *s, const leaf_t *leaf) {
  return leaf->sliced ? s->neurons->n_slices : 1;
}

static int64_t across(const prune_array_t *a, const leaf_t *leaf) {
  return a->rank == 2 ? a->dim[1 - leaf->axis] : 1;
}

/* The one of neuron f in the leaf's slice j that is number i across. */
static double number_of(const permuted_t *s, const weights_t *w, unsigned leaf,
                        int64_t f, int64_t j, int64_t i) {
  const leaf_t *l = &s->neurons->leaf[leaf];
  int64_t column =
      l->sliced ? s->neurons->first[j] + f * s->neurons->step[j] : f;
  int64_t index[2] = {i, i};
  index[l->axis] = column;
  return prune_at(&w->bank[leaf], index);
}

static uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static uint64_t mix(uint64_t hash, uint64_t bits) {
  hash = (hash ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
  return hash ^ hash >> 29;
}

/* Of all its numbers, or of as many of one leaf. */
static uint64_t hash_of(const permuted_t *s, const weights_t *w, unsigned leaf,
                        int64_t f, int64_t most) {
  const leaf_t *l = &s->neurons->leaf[leaf];
  int64_t n = across(&w->bank[leaf], l);
  uint64_t hash = leaf;
  if (n > most) n = most;
  for (int64_t j = 0; j < count_slices(s, l); j++)
    for (int64_t i = 0; i < n; i++)
      hash = mix(hash, bits_of(number_of(s, w, leaf, f, j, i)));
  return hash;
}

/* Bits, of numbers that are no NaN: those may have more bits than are seen. */
static bool are_equal(const permuted_t *s, const weights_t *a, int64_t f,
                      const weights_t *b, int64_t g) {
  for (unsigned leaf = 0; leaf < s->neurons->n_leaves; leaf++) {
    const leaf_t *l = &s->neurons->leaf[leaf];
    int64_t n = across(&a->bank[leaf], l);
    if (n != across(&b->bank[leaf], l)) return false;
    for (int64_t j = 0; j < count_slices(s, l); j++)
      for (int64_t i = 0; i < n; i++) {
        double x = number_of(s, a, leaf, f, j, i);
        double y = number_of(s, b, leaf, g, j, i);
        if (isnan(x) || bits_of(x) != bits_of(y)) return false;
      }
  }
  return true;
}

static int by_hash(const void *a, const void *b) {
  const neuron_t *x = a, *y = b;
  if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
  return x->number < y->number ? -1 : x->number > y->number;
}

/* ---- Experts ------------------------------------------------------------- */

/* Neurons sorted by the hash of all that they have. */
static neuron_t *sort_neurons(permuted_t *s, const weights_t *w) {
  const neurons_t *n = s->neurons;
  neuron_t *out = ARENA_ARRAY(s->p->ctx->scratch, neuron_t, (size_t)n->F);
  for (int64_t f = 0; f < n->F; f++) {
    out[f].number = f;
    for (unsigned leaf = 0; leaf < n->n_leaves; leaf++)
      out[f].hash = mix(out[f].hash, hash_of(s, w, leaf, f, INT64_MAX));
  }
  qsort(out, (size_t)n->F, sizeof out[0], by_hash);
  return out;
}

static bool has_axis(const permuted_t *s, unsigned arg) {
  for (unsigned i = 0; i < s->neurons->n_leaves; i++)
    if (s->neurons->leaf[i].arg == arg) return true;
  return false;
}

/* Banks without an axis of neurons have the same bits. */
static bool share_the_rest(const permuted_t *s, int64_t a, int64_t b) {
  const prune_t *p = s->p;
  unsigned n_values = prune_value_count(p->experts);
  unsigned first = ir_moe_first_bank(p->experts, s->neurons->region);
  unsigned end = ir_moe_first_bank(p->experts, s->neurons->region + 1);
  for (unsigned i = first; i < end; i++)
    if (!has_axis(s, n_values + i - first) &&
        !prune_equal_elements(p->experts->in[i].value, p->position[a],
                              p->position[b]))
      return false;
  return true;
}

static int64_t size_of(const permuted_t *s, const weights_t *w) {
  int64_t size = 0;
  for (unsigned i = 0; i < s->neurons->n_leaves; i++) {
    const leaf_t *leaf = &s->neurons->leaf[i];
    size += s->neurons->F * count_slices(s, leaf) * across(&w->bank[i], leaf);
  }
  return size;
}

static bool is_permuted(permuted_t *s, int64_t a, int64_t b) {
  weights_t x, y;
  if (!share_the_rest(s, a, b) || !find_weights(s, a, &x) ||
      !find_weights(s, b, &y))
    return false;
  s->to_compare -= 4 * size_of(s, &x);
  if (s->to_compare < 0) return false;
  neuron_t *of_x = sort_neurons(s, &x), *of_y = sort_neurons(s, &y);
  for (int64_t f = 0; f < s->neurons->F; f++)
    if (of_x[f].hash != of_y[f].hash) return false;
  for (int64_t f = 0; f < s->neurons->F; f++)
    if (!are_equal(s, &x, of_x[f].number, &y, of_y[f].number)) return false;
  return true;
}

/* Of a few numbers of each neuron, whatever their order is; of a leaf whose
 * neurons are neighbours, if there is one. */
static bool sample(permuted_t *s, int64_t e, uint64_t *out) {
  weights_t w;
  unsigned leaf = 0;
  if (!find_weights(s, e, &w)) return false;
  for (unsigned i = 0; i < s->neurons->n_leaves; i++)
    if (w.bank[i].stride[s->neurons->leaf[i].axis] == 1 &&
        across(&w.bank[i], &s->neurons->leaf[i]) >= SAMPLED)
      leaf = i;
  s->to_sample -= s->neurons->F * SAMPLED;
  if (s->to_sample < 0) return false;
  *out = 0;
  for (int64_t f = 0; f < s->neurons->F; f++)
    *out += mix(0, hash_of(s, &w, leaf, f, SAMPLED));
  return true;
}

static void share(permuted_t *s, int64_t e, int64_t with) {
  prune_t *p = s->p;
  if (!pass_allow_rewrite(p->ctx, "prune", p->experts)) return;
  moe_pruning_t *record = prune_tell(p, MOE_PRUNE_PERMUTED, e);
  if (record != NULL) {
    record->same_as = with;
    record->exactness = MOE_EX1;
  }
  p->position[e] = p->position[with];
  p->changed = true;
}

static void permuted_of(permuted_t *s) {
  prune_t *p = s->p;
  neuron_t *found = ARENA_ARRAY(p->ctx->scratch, neuron_t, (size_t)p->E + 1);
  int64_t n = 0;
  for (int64_t e = 0; e < p->E; e++) {
    if (p->structure[e] != (int64_t)s->neurons->region) continue;
    if (!sample(s, e, &found[n].hash)) return;
    found[n++].number = e;
  }
  qsort(found, (size_t)n, sizeof found[0], by_hash);
  for (int64_t i = 1, start = 0; i < n; i++) {
    int64_t e = found[i].number;
    if (found[i].hash != found[start].hash) start = i;
    for (int64_t j = start; j < i && j < start + ALIKE; j++) {
      int64_t with = found[j].number;
      if (p->position[e] == p->position[with]) break;
      if (!is_permuted(s, with, e)) continue;
      share(s, e, with);
      break;
    }
  }
}

void prune_permuted(prune_t *p) {
  permuted_t s = {
      .p = p, .to_sample = MOST_SAMPLED, .to_compare = MOST_COMPARED};
  for (unsigned i = 0; i < p->experts->n_regions && prune_may_bound(p); i++) {
    if (ir_moe_first_bank(p->experts, i) ==
        ir_moe_first_bank(p->experts, i + 1))
      continue;
    s.neurons = prune_find_neurons(p, i);
    if (s.neurons != NULL) permuted_of(&s);
  }
}
