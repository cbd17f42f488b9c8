/* Places of routes in the buffers of their experts: one counter for each expert
 * in each group of tokens. */
#include "runtime/libc.h"
#include "runtime/runtime.h"

typedef struct limits {
  int64_t *kept, *place, *count;
  const int64_t *expert;
  int64_t capacity, tokens, k, experts;
  bool limited, behind_kept;
} limits_t;

/* Route r of a group, which has what it has in front of it. */
static void take_place(const limits_t *l, int64_t r) {
  int64_t e = l->expert[r];
  bool counts = e >= 0 && e < l->experts;
  int64_t place = counts ? l->count[e]++ : 0;
  l->place[r] = place;
  l->kept[r] = l->limited && place >= l->capacity ? -1 : e;
}

/* Counters of more than the capacity go back to it. */
static void forget_dropped(const limits_t *l) {
  int64_t most = l->capacity > 0 ? l->capacity : 0;
  for (int64_t e = 0; e < l->experts; e++)
    if (l->count[e] > most) l->count[e] = most;
}

static void count_group(const limits_t *l, bool by_slot) {
  for (int64_t e = 0; e < l->experts; e++) l->count[e] = 0;
  if (!by_slot) {
    for (int64_t r = 0; r < l->tokens * l->k; r++) take_place(l, r);
    return;
  }
  for (int64_t j = 0; j < l->k; j++) {
    for (int64_t t = 0; t < l->tokens; t++) take_place(l, t * l->k + j);
    if (l->limited && l->behind_kept) forget_dropped(l);
  }
}

int32_t moert_op_limit_routes(moert_frame_t *frame, const moert_arg_t *args) {
  (void)frame;
  limits_t l = {.kept = args[0].pointer,
                .place = args[1].pointer,
                .count = args[2].pointer,
                .expert = args[3].pointer,
                .tokens = args[7].i,
                .k = args[8].i,
                .experts = args[9].i,
                .limited = args[5].i != 0,
                .behind_kept = args[11].i != 0};
  if (l.limited) l.capacity = *(const int64_t *)args[4].pointer;
  for (int64_t g = 0; g < args[6].i; g++) {
    count_group(&l, args[10].i != 0);
    l.kept += l.tokens * l.k;
    l.place += l.tokens * l.k;
    l.expert += l.tokens * l.k;
    l.count += l.experts;
  }
  return MOEC_OK;
}
