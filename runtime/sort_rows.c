/* The order of the rows of a matrix: by their first elements that differ, equal
 * rows by their number. A merge sort, from pairs of short runs up. */
#include "runtime/keys.h"
#include "runtime/libc.h"
#include "runtime/runtime.h"

enum { SHORT_RUN = 16 }; /* that insertion sorts */

typedef struct rows {
  const char *in;
  int32_t dtype;
  int64_t n, m;
} rows_t;

/* Below 0, 0 or above 0 as row a comes before b, equals it or comes after. */
static int compare_rows(const rows_t *r, int64_t a, int64_t b) {
#define KEY(type, expression)                                \
  {                                                          \
    const type *x = (const type *)(const void *)r->in;       \
    const type *row[2] = {x + a * r->m, x + b * r->m};       \
    for (int64_t i = 0; i < r->m; i++) {                     \
      uint64_t key[2];                                       \
      for (int j = 0; j < 2; j++) {                          \
        const uint64_t bits = row[j][i];                     \
        key[j] = (expression);                               \
      }                                                      \
      if (key[0] != key[1]) return key[0] < key[1] ? -1 : 1; \
    }                                                        \
    return 0;                                                \
  }
  switch (r->dtype) {
    KEY_CASES(KEY)
    default:
      return 0;
  }
#undef KEY
}

static void insertion_sort(const rows_t *r, int64_t *order, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    int64_t row = order[i], j = i;
    for (; j > 0 && compare_rows(r, order[j - 1], row) > 0; j--)
      order[j] = order[j - 1];
    order[j] = row;
  }
}

/* Merges from[0, middle) and from[middle, n) into `to`. */
static void merge(const rows_t *r, const int64_t *from, int64_t middle,
                  int64_t n, int64_t *to) {
  int64_t a = 0, b = middle;
  for (int64_t i = 0; i < n; i++) {
    bool first =
        b == n || (a < middle && compare_rows(r, from[a], from[b]) <= 0);
    to[i] = first ? from[a++] : from[b++];
  }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

int32_t moert_op_sort_rows(moert_frame_t *frame, const moert_arg_t *args) {
  moec_instance_t *it = frame->instance;
  int64_t *order = args[0].pointer, *scratch = args[1].pointer;
  rows_t r = {.in = args[2].pointer,
              .dtype = (int32_t)args[3].i,
              .n = args[4].i,
              .m = args[5].i};
  const int32_t dtype = r.dtype;
  if (dtype == MOEC_STRING || dtype_bits(dtype) < 8 || dtype_bits(dtype) > 64 ||
      dtype == MOEC_C64)
    return (int32_t)report_at(it, frame->node, MOEC_E_UNSUPPORTED,
                              "%s has no order", dtype_name(dtype));
  for (int64_t i = 0; i < r.n; i++) order[i] = i;
  for (int64_t i = 0; i < r.n; i += SHORT_RUN)
    insertion_sort(&r, order + i, least(SHORT_RUN, r.n - i));
  int64_t *from = order, *to = scratch;
  for (int64_t run = SHORT_RUN; run < r.n; run *= 2) {
    for (int64_t i = 0; i < r.n; i += 2 * run)
      merge(&r, from + i, least(run, r.n - i), least(2 * run, r.n - i), to + i);
    int64_t *swapped = from;
    from = to;
    to = swapped;
  }
  if (from != order)
    for (int64_t i = 0; i < r.n; i++) order[i] = from[i];
  return MOEC_OK;
}
