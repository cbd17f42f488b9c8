/* The k largest of all sums a[i] + b[j], in the order that TopK has for the
 * whole table of them, from k of each side.
 *
 * Rounding keeps the order of sums, so that a pair has at least as many sums
 * not below its own as there are pairs of elements not below its own: of the
 * best of both sides, (r, s) matters only where (r + 1)(s + 1) <= k. These
 * pairs give the k-th largest sum, and all that are above it. Sums that equal
 * it may be those of other pairs, which differ before rounding; the first of
 * them are looked for where they can be: rows whose sum with the best column
 * reaches it. Infinity and NaN, which have no such order, take a walk over all
 * pairs. */
#include "runtime/topk_sums.h"

#include "runtime/keys.h"
#include "runtime/libc.h"

enum { MOST = MOERT_TOPK_SUMS_LIMIT, ELEMENTS_PER_TASK = 8192 };

typedef struct sums {
  float *values;
  int64_t *indices;
  const float *a, *b;
  int64_t n, m, k;
} sums_t;

/* One side of a row. */
typedef struct side {
  const float *x;
  int64_t n, n_best;
  int64_t best[MOST]; /* in TopK's order */
} side_t;

typedef struct pair {
  float sum;
  int64_t at; /* i * m + j */
} pair_t;

/* A result's list of pairs, best first. */
typedef struct list {
  pair_t pair[MOST];
  int64_t n;
} list_t;

/* ---- All pairs ----------------------------------------------------------- */

static uint64_t key_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return float_key(bits, 32, 0x7f800000u);
}

/* In ascending order of places: of equal sums the earlier stays in front. */
static void insert_later(list_t *list, int64_t k, pair_t pair) {
  uint64_t key = key_of(pair.sum);
  if (list->n == k && key <= key_of(list->pair[k - 1].sum)) return;
  int64_t at = list->n < k ? list->n++ : k - 1;
  for (; at > 0 && key_of(list->pair[at - 1].sum) < key; at--)
    list->pair[at] = list->pair[at - 1];
  list->pair[at] = pair;
}

static void walk_all(const side_t *a, const side_t *b, int64_t k,
                     list_t *list) {
  for (int64_t i = 0; i < a->n; i++)
    for (int64_t j = 0; j < b->n; j++)
      insert_later(list, k,
                   (pair_t){.sum = a->x[i] + b->x[j], .at = i * b->n + j});
}

/* ---- Few pairs ----------------------------------------------------------- */

static bool has_order(const float *x, int64_t n) {
  int bad = 0;
  for (int64_t i = 0; i < n; i++) bad |= !(x[i] < __builtin_inff());
  return bad == 0;
}

static bool is_before(pair_t a, pair_t b) {
  return a.sum > b.sum || (a.sum == b.sum && a.at < b.at);
}

static void insert(list_t *list, int64_t k, pair_t pair) {
  if (list->n == k && !is_before(pair, list->pair[k - 1])) return;
  int64_t at = list->n < k ? list->n++ : k - 1;
  for (; at > 0 && is_before(pair, list->pair[at - 1]); at--)
    list->pair[at] = list->pair[at - 1];
  list->pair[at] = pair;
}

static void pair_best(const side_t *a, const side_t *b, int64_t k,
                      list_t *list) {
  for (int64_t r = 0; r < a->n_best; r++)
    for (int64_t s = 0; s < b->n_best && (r + 1) * (s + 1) <= k; s++) {
      const int64_t i = a->best[r], j = b->best[s];
      insert(list, k, (pair_t){.sum = a->x[i] + b->x[j], .at = i * b->n + j});
    }
}

/* Elements whose sum with the other side's best reaches `low`, in ascending
 * order: those of a short list, or, next to ties, to be tested one by one. */
typedef struct reaching {
  const side_t *side;
  float other, low;
  int64_t n; /* -1: not listed */
  int64_t index[MOST];
} reaching_t;

static void find_reaching(reaching_t *r, const side_t *side, float other,
                          float low) {
  *r = (reaching_t){.side = side, .other = other, .low = low};
  const int64_t last = side->best[side->n_best - 1];
  if (side->n > side->n_best && side->x[last] + other >= low) {
    r->n = -1;
    return;
  }
  for (int64_t i = 0; i < side->n_best; i++) {
    const int64_t index = side->best[i];
    if (side->x[index] + other < low) break;
    int64_t at = r->n++;
    for (; at > 0 && r->index[at - 1] > index; at--)
      r->index[at] = r->index[at - 1];
    r->index[at] = index;
  }
}

/* The next element at or behind *cursor, which moves on; -1 at the end. */
static int64_t next_reaching(const reaching_t *r, int64_t *cursor) {
  if (r->n >= 0) return *cursor < r->n ? r->index[(*cursor)++] : -1;
  while (*cursor < r->side->n) {
    const int64_t i = (*cursor)++;
    if (r->side->x[i] + r->other >= r->low) return i;
  }
  return -1;
}

/* Replaces those of the list that equal its last sum by the first that do. */
static void settle_ties(const side_t *a, const side_t *b, list_t *list) {
  const float low = list->pair[list->n - 1].sum;
  const int64_t k = list->n;
  reaching_t rows, columns;
  int64_t used = 0, row = 0, i, j;
  while (list->pair[used].sum > low) used++;
  find_reaching(&rows, a, b->x[b->best[0]], low);
  find_reaching(&columns, b, a->x[a->best[0]], low);
  while (used < k && (i = next_reaching(&rows, &row)) >= 0) {
    int64_t column = 0;
    while (used < k && (j = next_reaching(&columns, &column)) >= 0) {
      const float sum = a->x[i] + b->x[j];
      if (sum == low)
        list->pair[used++] = (pair_t){.sum = sum, .at = i * b->n + j};
    }
  }
}

static void select_row(void *context, int64_t begin, int64_t end) {
  const sums_t *t = context;
  for (int64_t row = begin; row < end; row++) {
    side_t a = {.x = t->a + row * t->n, .n = t->n};
    side_t b = {.x = t->b + row * t->m, .n = t->m};
    list_t list = {.n = 0};
    if (has_order(a.x, a.n) && has_order(b.x, b.n)) {
      a.n_best = t->k < a.n ? t->k : a.n;
      b.n_best = t->k < b.n ? t->k : b.n;
      topk_order_f32(a.x, a.n, a.n_best, a.best);
      topk_order_f32(b.x, b.n, b.n_best, b.best);
      pair_best(&a, &b, t->k, &list);
      settle_ties(&a, &b, &list);
    } else {
      walk_all(&a, &b, t->k, &list);
    }
    for (int64_t i = 0; i < t->k; i++) {
      t->values[row * t->k + i] = list.pair[i].sum;
      t->indices[row * t->k + i] = list.pair[i].at;
    }
  }
}

int32_t moert_op_topk_sums(moert_frame_t *frame, const moert_arg_t *args) {
  moec_instance_t *it = frame->instance;
  sums_t t = {.values = args[0].pointer,
              .indices = args[1].pointer,
              .a = args[2].pointer,
              .b = args[3].pointer,
              .n = args[5].i,
              .m = args[6].i,
              .k = args[7].i};
  const int64_t rows = args[4].i;
  /* k <= n * m, which may be beyond 64 bits. */
  if (t.k < 0 || t.k > MOST || (t.k > 0 && (t.n == 0 || t.m == 0)) ||
      (t.n < t.k && t.m < t.k && t.k > t.n * t.m))
    return (int32_t)report_at(it, frame->node, MOEC_E_VALUE,
                              "k is %d but there are %d x %d sums", t.k, t.n,
                              t.m);
  if (rows == 0 || t.k == 0) return MOEC_OK;
  int64_t grain = ELEMENTS_PER_TASK / (t.n + t.m);
  instance_parallel(it, rows, grain, select_row, &t);
  return MOEC_OK;
}
