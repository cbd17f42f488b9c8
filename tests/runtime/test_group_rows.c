#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

enum { MAX_ROWS = 400, MAX_GROUPS = 700, TILE = 48, FENCE = -77 };

typedef struct sorted {
  int64_t order[MAX_ROWS + 1], place[MAX_ROWS + 1], group[MAX_ROWS + 1];
  int64_t offsets[MAX_GROUPS + 3], tiles[3 * MAX_ROWS + 1], n_tiles;
} sorted_t;

static int64_t most_tiles(int64_t n, int64_t groups) {
  int64_t most = n / TILE + groups + 1;
  return n < most ? n : most;
}

static void sort(sorted_t *s, int64_t *key, int64_t n, int64_t groups) {
  s->order[n] = s->place[n] = s->group[n] = FENCE;
  s->offsets[groups + 2] = s->tiles[3 * most_tiles(n, groups)] = FENCE;
  moert_arg_t args[] = {{.pointer = s->order}, {.pointer = s->place},
                        {.pointer = s->group}, {.pointer = s->offsets},
                        {.pointer = s->tiles}, {.pointer = &s->n_tiles},
                        {.pointer = key},      {.i = n},
                        {.i = groups},         {.i = TILE}};
  assert_int_equal(moert_op_group_rows(&program_instance->frame, args),
                   MOEC_OK);
  assert_int_equal(s->order[n], FENCE);
  assert_int_equal(s->place[n], FENCE);
  assert_int_equal(s->group[n], FENCE);
  assert_int_equal(s->offsets[groups + 2], FENCE);
  assert_int_equal(s->tiles[3 * most_tiles(n, groups)], FENCE);
}

static int64_t group_of(int64_t key, int64_t groups) {
  return key >= 0 && key < groups ? key : groups;
}

/* Numbers of rows are in order, by group, then as they were. */
static void check_order(const sorted_t *s, const int64_t *key, int64_t n,
                        int64_t groups) {
  for (int64_t i = 0; i < n; i++) {
    int64_t row = s->order[i];
    assert_in_range(row, 0, n - 1);
    assert_int_equal(s->place[row], i);
    int64_t g = group_of(key[row], groups);
    assert_int_equal(s->group[i], g < groups ? g : 0);
    assert_true(s->offsets[g] <= i && i < s->offsets[g + 1]);
    if (i == 0) continue;
    int64_t before = group_of(key[s->order[i - 1]], groups);
    assert_true(before < g || (before == g && s->order[i - 1] < row));
  }
  assert_int_equal(s->offsets[0], 0);
  assert_int_equal(s->offsets[groups + 1], n);
}

/* Every row lies in one tile of its group. */
static void check_tiles(const sorted_t *s, int64_t n, int64_t groups) {
  int64_t covered = 0;
  assert_in_range(s->n_tiles, 0, most_tiles(n, groups));
  for (int64_t i = 0; i < s->n_tiles; i++) {
    const int64_t *tile = s->tiles + 3 * i;
    int64_t rows = s->offsets[tile[0] + 1] - s->offsets[tile[0]];
    assert_in_range(tile[0], 0, groups);
    assert_true(tile[1] <= i && i < tile[1] + tile[2]);
    assert_int_equal(tile[2], (rows + TILE - 1) / TILE);
    int64_t left = rows - (i - tile[1]) * TILE;
    covered += left < TILE ? left : TILE;
  }
  assert_int_equal(covered, n);
}

static void rows_lie_by_group_in_tiles_of_their_own(void **state) {
  (void)state;
  static const int64_t sizes[] = {0, 1, 2, 47, 48, 49, 64, 65, 97, MAX_ROWS};
  static const int64_t groups[] = {0, 1, 2, 7, 47, 48, 64, 65, MAX_GROUPS};
  sorted_t *s = malloc(sizeof *s);
  assert_non_null(s);
  uint32_t seed = 12345;
  for (size_t a = 0; a < sizeof sizes / sizeof sizes[0]; a++)
    for (size_t b = 0; b < sizeof groups / sizeof groups[0]; b++) {
      int64_t key[MAX_ROWS];
      for (int64_t i = 0; i < sizes[a]; i++) {
        seed = seed * 1664525u + 1013904223u;
        key[i] = (int64_t)(seed >> 16) % (groups[b] + 2) - 1;
      }
      sort(s, key, sizes[a], groups[b]);
      check_order(s, key, sizes[a], groups[b]);
      check_tiles(s, sizes[a], groups[b]);
    }
  free(s);
}

static void numbers_far_outside_name_no_group(void **state) {
  (void)state;
  sorted_t s;
  int64_t key[] = {INT64_MAX, 1, INT64_MIN, 0, -1, 2};
  const int64_t order[] = {3, 1, 0, 2, 4, 5};
  sort(&s, key, 6, 2);
  assert_memory_equal(s.order, order, sizeof order);
  assert_int_equal(s.offsets[2], 2);
}

/* More rows of one group than a tile has, beside many groups. */
static void few_rows_may_be_of_one_group(void **state) {
  (void)state;
  sorted_t *s = malloc(sizeof *s);
  assert_non_null(s);
  int64_t key[60];
  for (int64_t i = 0; i < 60; i++) key[i] = i % 12 == 5 ? -1 : 3;
  sort(s, key, 60, MAX_GROUPS);
  check_order(s, key, 60, MAX_GROUPS);
  check_tiles(s, 60, MAX_GROUPS);
  assert_int_equal(s->n_tiles, 3);
  free(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(rows_lie_by_group_in_tiles_of_their_own,
                                      program_create, program_destroy),
      cmocka_unit_test_setup_teardown(few_rows_may_be_of_one_group,
                                      program_create, program_destroy),
      cmocka_unit_test_setup_teardown(numbers_far_outside_name_no_group,
                                      program_create, program_destroy),
  };
  return cmocka_run_group_tests_name("runtime/group_rows", tests, NULL, NULL);
}
