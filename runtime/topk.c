/* The k largest or smallest elements along an axis, best first; ties take the
 * lower index first and NaN is the largest number.
 *
 * Elements become unsigned keys of the same order, negated for the smallest, so
 * that one selection of the largest keys serves all types. A few of f32 are
 * found by lanes (topk_lanes.h); otherwise a few are kept in a
 * sorted list on the stack, many in a heap inside the results themselves, with
 * keys where the values will be, which are as wide, and sorted there. Index
 * breaks ties, so the order is total and the result is the same by any method.
 * `sorted` = 0 leaves the order open; the sorted one is given. */
#include "runtime/keys.h"
#include "runtime/libc.h"
#include "runtime/runtime.h"
#include "runtime/topk_sums.h"

enum {
  BLOCK = 256,      /* keys made at a time */
  FEW = 16,         /* the same where most are no candidates */
  LIST_LIMIT = 32,  /* largest k for which inserting into a list pays */
  SHORT_RANGE = 16, /* that insertion sorts */
  ELEMENTS_PER_TASK = 8192
};

typedef struct topk {
  char *values;
  int64_t *indices;
  const char *in;
  int32_t dtype;
  int64_t element; /* bytes of one */
  int64_t n, inner, k;
  bool largest;
} topk_t;

static bool has_keys(int32_t dtype) {
#define KEY(type, expression) return true;
  switch (dtype) {
    KEY_CASES(KEY)
    default:
      return false;
  }
#undef KEY
}

/* keys[i] of the elements base[i * stride], for i < n. */
static void load_keys(const topk_t *t, const char *base, int64_t stride,
                      int64_t n, uint64_t *keys) {
#define KEY(type, expression)                               \
  {                                                         \
    const type *x = (const void *)base;                     \
    const uint64_t flip = t->largest ? 0 : (type) ~(type)0; \
    for (int64_t i = 0; i < n; i++) {                       \
      const uint64_t bits = x[i * stride];                  \
      keys[i] = (expression) ^ flip;                        \
    }                                                       \
    break;                                                  \
  }
  switch (t->dtype) {
    KEY_CASES(KEY)
    default:
      break;
  }
#undef KEY
}

typedef struct entry {
  uint64_t key;
  int64_t index;
} entry_t;

/* Whether a comes before b in the result. */
static inline bool is_before(entry_t a, entry_t b) {
  return (a.key > b.key) | ((a.key == b.key) & (a.index < b.index));
}

static void write_result(const topk_t *t, const char *in, int64_t out_at,
                         int64_t index) {
  t->indices[out_at] = index;
  char *to = t->values + out_at * t->element;
  const char *from = in + index * t->inner * t->element;
  switch (t->element) { /* the common ones without a call */
    case 4:
      memcpy(to, from, 4);
      break;
    case 8:
      memcpy(to, from, 8);
      break;
    default:
      memcpy(to, from, (size_t)t->element);
  }
}

/* Whether any of FEW neighbours may come before `low` in the result; true as
 * well wherever a NaN is. Vectors, unlike keys, which are as wide as any
 * type's.
 */
static inline bool may_precede(const float *x, float low, bool largest) {
  int any = 0;
  if (largest)
    for (int i = 0; i < FEW; i++) any |= !(x[i] <= low);
  else
    for (int i = 0; i < FEW; i++) any |= !(x[i] >= low);
  return any != 0;
}

/* Whether the FEW elements from `begin` can be passed over once the list, whose
 * last element is `low`, is full. */
static inline bool no_candidates(const topk_t *t, const char *in, int64_t begin,
                                 int64_t low) {
  if (t->dtype != MOEC_F32 || t->inner != 1) return false;
  const float *x = (const void *)in;
  return !may_precede(x + begin, x[low], t->largest);
}

static void select_few(const topk_t *t, const char *in, int64_t out_at) {
  entry_t list[LIST_LIMIT];
  uint64_t keys[FEW];
  int64_t used = 0;
  for (int64_t begin = 0; begin < t->n; begin += FEW) {
    int64_t count = t->n - begin < FEW ? t->n - begin : FEW;
    if (count == FEW && used == t->k &&
        no_candidates(t, in, begin, list[used - 1].index))
      continue;
    load_keys(t, in + begin * t->inner * t->element, t->inner, count, keys);
    for (int64_t i = 0; i < count; i++) {
      /* Of equal keys the earlier is in the list already, and stays. */
      if (used == t->k && keys[i] <= list[used - 1].key) continue;
      int64_t at = used < t->k ? used++ : used - 1;
      for (; at > 0 && list[at - 1].key < keys[i]; at--)
        list[at] = list[at - 1];
      list[at] = (entry_t){.key = keys[i], .index = begin + i};
    }
  }
  for (int64_t j = 0; j < t->k; j++)
    write_result(t, in, out_at + j * t->inner, list[j].index);
}

#include "runtime/topk_lanes.h"

/* Rows of f32 by lanes, where that can be. */
LANES_INLINE bool select_by_lanes(const topk_t *t, const char *in,
                                  int64_t out_at) {
  int32_t order[MOST_CANDIDATES];
  const float *x = (const void *)in;
  float *values = (float *)(void *)t->values + out_at;
  int64_t *indices = t->indices + out_at;
  if (t->largest ? !order_few(x, t->n, t->k, false, order)
                 : !order_few(x, t->n, t->k, true, order))
    return false;
  for (int64_t j = 0; j < t->k; j++) {
    indices[j] = order[j];
    values[j] = x[order[j]];
  }
  return true;
}

#define KEY_BITS 8
#include "runtime/topk_many.h"
#define KEY_BITS 16
#include "runtime/topk_many.h"
#define KEY_BITS 32
#include "runtime/topk_many.h"
#define KEY_BITS 64
#include "runtime/topk_many.h"

LANES_INLINE void select_row(const topk_t *t, const char *in, int64_t out_at) {
  if (t->dtype == MOEC_F32 && t->inner == 1 && t->k <= LIST_LIMIT &&
      select_by_lanes(t, in, out_at))
    return;
  if (t->k <= LIST_LIMIT)
    select_few(t, in, out_at);
  else if (t->element == 1)
    select_many_8(t, in, out_at);
  else if (t->element == 2)
    select_many_16(t, in, out_at);
  else if (t->element == 4)
    select_many_32(t, in, out_at);
  else
    select_many_64(t, in, out_at);
}

void topk_order_f32(const float *x, int64_t n, int64_t k, int64_t *indices) {
  float values[LIST_LIMIT];
  const topk_t t = {.values = (char *)values,
                    .indices = indices,
                    .dtype = MOEC_F32,
                    .element = sizeof *x,
                    .n = n,
                    .inner = 1,
                    .k = k,
                    .largest = true};
  _Static_assert((int)MOERT_TOPK_SUMS_LIMIT <= (int)LIST_LIMIT,
                 "there is room");
  select_row(&t, (const char *)x, 0);
}

/* ROWS short rows of f32 at once, where that can be. */
LANES_INLINE bool select_side_by_side(const topk_t *t, int64_t row) {
  int32_t order[MOST_IN_ROWS][ROWS];
  const float *x = (const float *)(const void *)t->in + row * t->n;
  float *values = (float *)(void *)t->values + row * t->k;
  int64_t *indices = t->indices + row * t->k;
  bool done = false;
  switch (t->k) {
#define WAY(number)                                               \
  case number:                                                    \
    done = t->largest ? order_rows(x, t->n, number, false, order) \
                      : order_rows(x, t->n, number, true, order); \
    break;
    WAY(1)
    WAY(2)
    WAY(3)
    WAY(4)
#undef WAY
    default:
      break;
  }
  for (int64_t l = 0; done && l < ROWS; l++)
    for (int64_t j = 0; j < t->k; j++) {
      indices[l * t->k + j] = order[j][l];
      values[l * t->k + j] = x[l * t->n + order[j][l]];
    }
  return done;
}

LANES_INLINE void select_all(const topk_t *t, int64_t begin, int64_t end) {
  const bool short_rows = t->dtype == MOEC_F32 && t->inner == 1 &&
                          t->k <= MOST_IN_ROWS && t->n <= LONGEST_IN_ROWS;
  for (int64_t row = begin; row < end; row++) {
    if (short_rows && end - row >= ROWS && select_side_by_side(t, row)) {
      row += ROWS - 1;
      continue;
    }
    int64_t o = row / t->inner, i = row % t->inner;
    const char *in = t->in + (o * t->n * t->inner + i) * t->element;
    int64_t out_at = o * t->k * t->inner + i;
    select_row(t, in, out_at);
  }
}

/* Lanes are as wide as the processor's vectors: a way for each. */
#define WAY(name, attribute)                                              \
  attribute static void name(void *context, int64_t begin, int64_t end) { \
    select_all(context, begin, end);                                      \
  }
WAY(select_rows, )
#if defined(__x86_64__)
WAY(select_rows_256, __attribute__((target("arch=x86-64-v3"))))
WAY(select_rows_512, __attribute__((target("arch=x86-64-v4"))))
#endif
#undef WAY

static moec_task_fn way_of(const moec_instance_t *it) {
#if defined(__x86_64__)
  if ((it->variant->features & MOERT_CPU_AVX512) != 0) return select_rows_512;
  if ((it->variant->features & MOERT_CPU_AVX2) != 0) return select_rows_256;
#else
  (void)it;
#endif
  return select_rows;
}

int32_t moert_op_topk(moert_frame_t *frame, const moert_arg_t *args) {
  moec_instance_t *it = frame->instance;
  topk_t t = {.values = args[0].pointer,
              .indices = args[1].pointer,
              .in = args[2].pointer,
              .dtype = (int32_t)args[3].i,
              .n = args[5].i,
              .inner = args[6].i,
              .k = args[7].i,
              .largest = args[8].i != 0};
  const int64_t outer = args[4].i;
  t.element = dtype_bits(t.dtype) / 8;
  if (!has_keys(t.dtype))
    return (int32_t)report_at(it, frame->node, MOEC_E_UNSUPPORTED,
                              "%s has no order", dtype_name(t.dtype));
  if (t.k < 0 || t.k > t.n)
    return (int32_t)report_at(it, frame->node, MOEC_E_VALUE,
                              "k is %d but the axis has %d elements", t.k, t.n);
  if (outer == 0 || t.inner == 0 || t.k == 0) return MOEC_OK;
  int64_t grain = ELEMENTS_PER_TASK / t.n;
  instance_parallel(it, outer * t.inner, grain, way_of(it), &t);
  return MOEC_OK;
}
