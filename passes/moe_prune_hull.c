/* Experts whose row of the gate lies between those of others, so that one of
 * these has a larger logit, whatever x is.
 *
 * If a ball of radius r around w_e lies within the hull of some w_j, then for
 * every x one of them has w_j.x >= w_e.x + r |x|. Rounding of both logits is
 * less than s |x|, with s of the size of weights times d: so for r > s it is
 * larger as computed, too. k such sets that share no expert are k experts that
 * come before e. Biases may take from the ball a part in which their own mean
 * lies above e's.
 *
 * At x = 0 all logits are equal, and k others have to win ties; products of x
 * that are nearly 0 underflow, which has to be assumed away. With biases there
 * is neither. */
#include "passes/moe_prune_hull.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/moe_prune.h"

enum {
  MOST_EXPERTS = 1 << 12,
  MOST_ROWS = 64,
  SOME = 8, /* as many points as sets have, to be tried first */
};

/* Additions and products that a layer may take: about half a second. */
#define MOST_WORK (INT64_C(1) << 28)

/* No row is shorter, unless it is 0; what is rounded to 0 on the way, in
 * numbers of rows' or products' size, is less than LOST each. */
#define LEAST_ROW 0x1p-100
#define LOST 0x1p-124

typedef struct hulls {
  prune_t *p;
  int64_t d;
  double *w;      /* double[E][d] */
  double *length; /* of the rows: double[E] */
  double *bias;   /* double[E], -inf where masked */
  double *size;   /* of the biases that are added: double[E] */
  bool has_bias;  /* some are not 0 */
  double *centre; /* the rows' mean */
  int64_t work;
  double scale;    /* of points: a power of 2 */
  double *point;   /* double[size][d]: others' rows minus e's, by scale */
  double *cost;    /* double[size] */
  bool *is_used;   /* bool[size] */
  int64_t n, *who; /* points, and their experts */
  double *corner;  /* double[d + 1][d] */
  int64_t *taken;  /* int64_t[k][d + 1] */
  double slack;    /* the least of all sets found */
  pivots_t *pivots;
  simplex_t *simplex;
} hulls_t;

/* ---- The gate ------------------------------------------------------------ */

static bool add_bias(hulls_t *h, const ir_value_t *v) {
  prune_array_t a;
  if (v == NULL) return true;
  if (!prune_find_array(NULL, v, &a) || a.rank != 1 || a.dim[0] != h->p->E)
    return false;
  for (int64_t e = 0; e < h->p->E; e++) {
    double b = prune_at(&a, &e);
    if (isnan(b) || b == INFINITY) return false;
    h->bias[e] += b;
    h->size[e] += fabs(b);
    if (b != 0 && b != -INFINITY) h->has_bias = true;
  }
  return true;
}

/* Choices are logits, no function of them: exp as it is computed does not keep
 * the order of numbers that differ in their last bits. */
static bool chooses_logits(const route_t *r) {
  dtype_t dtype = r->in[ROUTE_X]->type.dtype;
  return (r->by_logits || r->score.n == 0) && r->source != ROUTE_FROM_MIXER &&
         r->in[ROUTE_GATE] != NULL && (dtype == DT_F32 || dtype == DT_F64) &&
         r->in[ROUTE_GATE]->type.dtype == dtype;
}

static bool read_gate(hulls_t *h, const prune_array_t *gate) {
  for (int64_t e = 0; e < h->p->E; e++) {
    double square = 0;
    for (int64_t i = 0; i < h->d; i++) {
      double w = prune_at(gate, (const int64_t[]){i, e});
      if (!(fabs(w) < 0x1p60)) return false;
      h->w[e * h->d + i] = w;
      h->centre[i] += w / (double)h->p->E;
      square += w * w;
    }
    h->length[e] = sqrt(square) * (1 + 0x1p-40);
  }
  return true;
}

static int64_t group_size(const prune_t *p) {
  return p->r.groups > 0 ? p->E / p->r.groups : p->E;
}

static bool begin(prune_t *p, hulls_t *h) {
  prune_array_t gate;
  arena_t *arena = p->ctx->scratch;
  *h = (hulls_t){.p = p, .work = MOST_WORK};
  if (!chooses_logits(&p->r) || p->E > MOST_EXPERTS || p->r.k < 1 ||
      !prune_find_array(NULL, p->r.in[ROUTE_GATE], &gate) || gate.rank != 2 ||
      gate.dim[1] != p->E || gate.dim[0] < 1 || gate.dim[0] > MOST_ROWS)
    return false;
  h->d = gate.dim[0];
  size_t E = (size_t)p->E, d = (size_t)h->d, size = (size_t)group_size(p);
  if (p->r.k > (group_size(p) - 1) / (h->d + 1)) return false;
  h->w = ARENA_ARRAY(arena, double, E *d);
  h->length = ARENA_ARRAY(arena, double, E);
  h->bias = ARENA_ARRAY(arena, double, E);
  h->size = ARENA_ARRAY(arena, double, E);
  h->centre = ARENA_ARRAY(arena, double, d);
  h->point = ARENA_ARRAY(arena, double, size *d);
  h->cost = ARENA_ARRAY(arena, double, size);
  h->who = ARENA_ARRAY(arena, int64_t, size);
  h->is_used = ARENA_ARRAY(arena, bool, size);
  h->corner = ARENA_ARRAY(arena, double, (d + 1) * d);
  h->taken = ARENA_ARRAY(arena, int64_t, (size_t)p->r.k *(d + 1));
  h->pivots = cloud_begin(arena, h->d);
  h->simplex = simplex_begin(arena, h->d);
  return add_bias(h, p->r.in[ROUTE_GATE_BIAS]) &&
         add_bias(h, p->r.in[ROUTE_SELECT_BIAS]) && read_gate(h, &gate);
}

/* ---- One expert ---------------------------------------------------------- */

/* Every so many rows of e's group as points, e's in the middle. */
static void place_points(hulls_t *h, int64_t e, int64_t stride) {
  int64_t size = group_size(h->p), first = e - e % size;
  const double *middle = h->w + e * h->d;
  double largest = 0, bias = 1e-300;
  int exponent;
  h->n = 0;
  for (int64_t j = first + e % stride; j < first + size; j += stride) {
    if (j == e || isinf(h->bias[j])) continue;
    bias = fmax(bias, fabs(h->bias[j] - h->bias[e]));
    for (int64_t i = 0; i < h->d; i++) {
      double x = h->w[j * h->d + i] - middle[i];
      h->point[h->n * h->d + i] = x;
      largest = fmax(largest, fabs(x));
    }
    h->who[h->n++] = j;
  }
  h->work -= 4 * h->n * h->d;
  frexp(largest, &exponent);
  h->scale = ldexp(1, exponent);
  for (int64_t j = 0; j < h->n; j++) {
    double square = 0;
    for (int64_t i = 0; i < h->d; i++) {
      double *x = &h->point[j * h->d + i];
      *x /= h->scale;
      square += *x * *x;
    }
    /* Near ones, so that far ones are left for other sets, but first those of
     * the largest biases. */
    h->cost[j] = square / (double)h->d;
    if (h->has_bias)
      h->cost[j] =
          0x1p-8 * h->cost[j] + (h->bias[e] - h->bias[h->who[j]]) / bias;
    h->is_used[j] = square < 0x1p-40;
  }
}

/* Whether there is an x, a guess, for which fewer than k come before e. */
static bool is_on_top(const hulls_t *h, int64_t e) {
  int64_t n = 0;
  for (int64_t j = 0; j < h->n; j++) {
    double dot = 0;
    for (int64_t i = 0; i < h->d; i++)
      dot += h->point[j * h->d + i] * (h->w[e * h->d + i] - h->centre[i]);
    n += dot > 0;
  }
  return n < h->p->r.k && !h->has_bias;
}

/* How far above e the set's largest logit is as it is computed, for each unit
 * of the row's length or, with biases, for every row; not above 0 where that is
 * not proved. */
static double margin_of(const hulls_t *h, int64_t e, const int64_t *member) {
  const simplex_t *s = h->simplex;
  int64_t n = h->d + 1;
  double length = 0, size = h->size[e], mean = 0, error = 0;
  double most = -INFINITY, least = INFINITY, terms = (double)h->d + 16;
  for (int64_t i = 0; i < n; i++) {
    double above = h->bias[member[i]] - h->bias[e];
    length = fmax(length, h->length[member[i]]);
    size = fmax(size, h->size[member[i]]);
    mean += s->weight[i] * above;
    error += fabs(above) * (s->error[i] + fabs(s->weight[i]) * 0x1p-40);
    most = fmax(most, above);
    least = fmin(least, above);
  }
  length += h->length[e];
  /* Differences of rows are rounded, too. */
  double radius = s->radius * h->scale * (1 - 0x1p-40) - length * 0x1p-50;
  double lost = terms * LOST * (1 + length);
  double slack = length * (terms * 0x1p-23);
  if (!h->has_bias) return radius - slack - lost / LEAST_ROW;
  mean -= error;
  double part = most > least ? fmin(1, mean / (2 * (most - least))) : 1;
  if (!(part * radius > slack)) return 0;
  double rest = mean - part * (most - least);
  return rest * (1 - 0x1p-40) - size * 0x1p-21 - lost;
}

/* Takes d + 1 points around e's that no set has yet. */
static bool find_set(hulls_t *h, int64_t e, int64_t *member) {
  int64_t n = h->d + 1;
  cloud_t cloud = {h->d, h->n, h->point, h->cost, h->is_used};
  if (!cloud_find(&cloud, h->pivots, &h->work, member)) return false;
  for (int64_t i = 0; i < n; i++) {
    memcpy(h->corner + i * h->d, h->point + member[i] * h->d,
           (size_t)h->d * sizeof h->corner[0]);
    h->is_used[member[i]] = true;
    member[i] = h->who[member[i]];
  }
  h->work -= 3 * n * n * n;
  if (!simplex_check(h->simplex, h->corner)) return false;
  double margin = margin_of(h, e, member);
  h->slack = fmin(h->slack, margin);
  return margin > 0;
}

/* For a row of zeros: k others in e's group that come first by their biases, 0
 * all of them, and ties. */
static bool loses_ties(const hulls_t *h, int64_t e) {
  int64_t size = group_size(h->p), first = e - e % size, n = 0;
  bool last = h->p->r.last_index;
  for (int64_t j = first; j < first + size; j++)
    n += !isinf(h->bias[j]) && (last ? j > e : j < e);
  return n >= h->p->r.k;
}

static bool find_sets_among(hulls_t *h, int64_t e, int64_t stride) {
  place_points(h, e, stride);
  h->slack = INFINITY;
  if (is_on_top(h, e)) return false;
  for (int64_t i = 0; i < h->p->r.k; i++)
    if (h->work <= 0 || !find_set(h, e, h->taken + i * (h->d + 1)))
      return false;
  return true;
}

/* Some of many are enough where e is far within. */
static bool find_sets(hulls_t *h, int64_t e) {
  int64_t some = SOME * (h->d + 1) * (h->p->r.k + 1);
  int64_t stride = group_size(h->p) / some;
  if (!h->has_bias && !loses_ties(h, e)) return false;
  return (stride > 1 && find_sets_among(h, e, stride)) ||
         find_sets_among(h, e, 1);
}

/* ---- All of them --------------------------------------------------------- */

static void tell(const hulls_t *h, int64_t e) {
  moe_report_t *report = h->p->ctx->options->moe;
  moe_pruning_t *record = prune_tell(h->p, MOE_PRUNE_HULL, e);
  if (record == NULL) return;
  size_t n = (size_t)(h->p->r.k * (h->d + 1));
  int64_t *numbers = ARENA_ARRAY(report->arena, int64_t, n);
  memcpy(numbers, h->taken, n * sizeof numbers[0]);
  record->n_witnesses = (unsigned)n;
  record->witnesses = numbers;
  record->sets = h->p->r.k;
  record->slack = h->slack;
  moe_words_add(report, &record->assumptions,
                "scores of the router are finite where they are not masked");
  if (!h->has_bias)
    moe_words_add(report, &record->assumptions,
                  "rows of the gate's input are 0 or no shorter than 2^-100");
}

typedef struct distance {
  double square;
  int64_t expert;
} distance_t;

static int by_distance(const void *a, const void *b) {
  const distance_t *x = a, *y = b;
  if (x->square != y->square) return x->square < y->square ? -1 : 1;
  return x->expert < y->expert ? -1 : x->expert > y->expert;
}

/* Experts that are left, those in the middle of all rows first. */
static int64_t list_experts(const hulls_t *h, distance_t *out) {
  int64_t n = 0;
  for (int64_t e = 0; e < h->p->E; e++) {
    double square = 0;
    if (h->p->structure[e] < 0 || isinf(h->bias[e])) continue;
    for (int64_t i = 0; i < h->d; i++) {
      double x = h->w[e * h->d + i] - h->centre[i];
      square += x * x;
    }
    out[n++] = (distance_t){square, e};
  }
  qsort(out, (size_t)n, sizeof out[0], by_distance);
  return n;
}

void prune_hull(prune_t *p) {
  hulls_t h;
  if (!begin(p, &h)) return;
  distance_t *order =
      ARENA_ARRAY(p->ctx->scratch, distance_t, (size_t)p->E + 1);
  int64_t n = list_experts(&h, order);
  for (int64_t i = 0; i < n && h.work > 0; i++) {
    int64_t e = order[i].expert;
    if (!find_sets(&h, e) || !pass_allow_rewrite(p->ctx, "prune", p->experts))
      continue;
    tell(&h, e);
    p->structure[e] = -1;
    p->is_dead[e] = p->changed = true;
  }
}
