#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

enum { MAX_ROUTES = 600, MAX_COUNTERS = 40, FENCE = -77 };

typedef struct limits {
  int64_t groups, tokens, k, experts;
  bool by_slot, behind_kept;
} limits_t;

typedef struct places {
  int64_t kept[MAX_ROUTES + 1], place[MAX_ROUTES + 1];
  int64_t scratch[MAX_COUNTERS + 1];
} places_t;

static void limit(places_t *p, int64_t *expert, int64_t *capacity,
                  const limits_t *l) {
  int64_t n = l->groups * l->tokens * l->k, counters = l->groups * l->experts;
  p->kept[n] = p->place[n] = p->scratch[counters] = FENCE;
  moert_arg_t args[] = {
      {.pointer = p->kept}, {.pointer = p->place}, {.pointer = p->scratch},
      {.pointer = expert},  {.pointer = capacity}, {.i = capacity != NULL},
      {.i = l->groups},     {.i = l->tokens},      {.i = l->k},
      {.i = l->experts},    {.i = l->by_slot},     {.i = l->behind_kept}};
  assert_int_equal(moert_op_limit_routes(&program_instance->frame, args),
                   MOEC_OK);
  assert_int_equal(p->kept[n], FENCE);
  assert_int_equal(p->place[n], FENCE);
  assert_int_equal(p->scratch[counters], FENCE);
}

/* Whether route a of a group is counted before route b. */
static bool comes_before(const limits_t *l, int64_t a, int64_t b) {
  if (!l->by_slot || a % l->k == b % l->k) return a < b;
  return a % l->k < b % l->k;
}

/* By the definition, route by route: those before it, where `kept` says so only
 * those of earlier slots that were kept. */
static int64_t place_of(const limits_t *l, const int64_t *expert,
                        const int64_t *kept, int64_t r) {
  int64_t place = 0;
  if (expert[r] < 0 || expert[r] >= l->experts) return 0;
  for (int64_t i = 0; i < l->tokens * l->k; i++) {
    if (expert[i] != expert[r] || !comes_before(l, i, r)) continue;
    place += kept == NULL || i % l->k == r % l->k || kept[i] >= 0;
  }
  return place;
}

static void check(const limits_t *l, int64_t *expert, int64_t *capacity) {
  static places_t p;
  limit(&p, expert, capacity, l);
  for (int64_t g = 0; g < l->groups; g++) {
    int64_t first = g * l->tokens * l->k;
    const int64_t *kept = l->behind_kept ? p.kept + first : NULL;
    for (int64_t r = 0; r < l->tokens * l->k; r++) {
      int64_t place = place_of(l, expert + first, kept, r);
      bool fits = capacity == NULL || place < *capacity;
      assert_int_equal(p.place[first + r], place);
      assert_int_equal(p.kept[first + r], fits ? expert[first + r] : -1);
    }
  }
}

static void routes_are_counted_in_order(void **state) {
  (void)state;
  static const int64_t sizes[][4] = {{1, 1, 1, 1},  {1, 9, 1, 4}, {1, 20, 2, 4},
                                     {3, 8, 2, 3},  {1, 0, 2, 3}, {0, 5, 2, 3},
                                     {2, 30, 5, 6}, {1, 7, 0, 2}};
  static int64_t expert[MAX_ROUTES];
  uint32_t seed = 4321;
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
    for (int64_t capacity = -2; capacity < 12; capacity++) {
      limits_t l = {.groups = sizes[s][0],
                    .tokens = sizes[s][1],
                    .k = sizes[s][2],
                    .experts = sizes[s][3]};
      for (int64_t r = 0; r < l.groups * l.tokens * l.k; r++) {
        seed = seed * 1664525u + 1013904223u;
        expert[r] = (int64_t)(seed >> 16) % (l.experts + 2) - 1;
      }
      for (unsigned form = 0; form < 3; form++) {
        l.by_slot = form > 0;
        l.behind_kept = form > 1;
        check(&l, expert, capacity == -2 ? NULL : &capacity);
      }
    }
}

static void numbers_far_outside_name_no_expert(void **state) {
  (void)state;
  static places_t p;
  int64_t expert[] = {INT64_MAX, 1, INT64_MIN, 1, -1, 2}, capacity = 1;
  const int64_t kept[] = {INT64_MAX, 1, INT64_MIN, -1, -1, 2};
  const int64_t place[] = {0, 0, 0, 1, 0, 0};
  const limits_t l = {.groups = 1, .tokens = 6, .k = 1, .experts = 2};
  limit(&p, expert, &capacity, &l);
  assert_memory_equal(p.kept, kept, sizeof kept);
  assert_memory_equal(p.place, place, sizeof place);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(routes_are_counted_in_order,
                                      program_create, program_destroy),
      cmocka_unit_test_setup_teardown(numbers_far_outside_name_no_expert,
                                      program_create, program_destroy),
  };
  return cmocka_run_group_tests_name("runtime/limit_routes", tests, NULL, NULL);
}
