/* Arena memory, texts, recovery points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above first */
#include <cmocka.h>

#include "ir/arena.h"

static void memory_is_zeroed_and_aligned(void **state) {
  (void)state;
  arena_t *arena = arena_create(0);
  for (int round = 0; round < 2; round++) {
    for (size_t size = 0; size < 3000; size += 7) {
      unsigned char *data = arena_alloc(arena, size);
      assert_int_equal((uintptr_t)data % _Alignof(max_align_t), 0);
      for (size_t i = 0; i < size; i++) assert_int_equal(data[i], 0);
      memset(data, 0xff, size);
    }
    arena_reset(arena);
  }
  arena_destroy(arena);
  arena_destroy(NULL);
}

static void allocations_do_not_overlap(void **state) {
  (void)state;
  enum { N = 2000 };
  static unsigned char *blocks[N];
  arena_t *arena = arena_create(0);
  for (size_t i = 0; i < N; i++) {
    size_t size = i % 97 == 0 ? 100000 : i % 13 + 1;
    blocks[i] = arena_alloc(arena, size);
    memset(blocks[i], (int)(i & 0xff), size);
  }
  for (size_t i = 0; i < N; i++) {
    size_t size = i % 97 == 0 ? 100000 : i % 13 + 1;
    for (size_t k = 0; k < size; k++) assert_int_equal(blocks[i][k], i & 0xff);
  }
  arena_destroy(arena);
}

static moec_status_t status_of(void (*step)(arena_t *), arena_t *arena,
                               char *message) {
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) step(arena);
  recovery_leave(&point);
  if (message != NULL) strcpy(message, point.message);
  return point.status;
}

static void alloc_600(arena_t *arena) { arena_alloc(arena, 600); }
static void alloc_overflow(arena_t *arena) {
  arena_alloc_array(arena, SIZE_MAX / 2, 4);
}
static void alloc_huge(arena_t *arena) { arena_alloc(arena, SIZE_MAX - 8); }

static void budget_bounds_what_is_handed_out(void **state) {
  (void)state;
  char message[512];
  arena_t *arena = arena_create(1000);
  assert_int_equal(status_of(alloc_600, arena, NULL), MOEC_OK);
  assert_int_equal(status_of(alloc_600, arena, message), MOEC_E_LIMIT);
  assert_string_equal(message, "memory limit of 1000 bytes is exceeded");
  assert_int_equal(arena_used(arena), 600);
  arena_reset(arena);
  assert_int_equal(status_of(alloc_600, arena, NULL), MOEC_OK);
  arena_destroy(arena);
}

static void impossible_sizes_leave(void **state) {
  (void)state;
  arena_t *arena = arena_create(0);
  assert_int_equal(status_of(alloc_overflow, arena, NULL), MOEC_E_LIMIT);
  assert_int_equal(status_of(alloc_huge, arena, NULL), MOEC_E_LIMIT);
  arena_destroy(arena);
}

static void leave_io(arena_t *arena) {
  (void)arena;
  moec_leave(MOEC_E_IO, "disk %d", 7);
}

static void nested_then_outer(arena_t *arena) {
  assert_int_equal(status_of(leave_io, arena, NULL), MOEC_E_IO);
  moec_leave(MOEC_E_LIMIT, "outer");
}

/* Leaving while recovering must not come back to the same point. */
static void leave_twice(arena_t *arena) {
  recovery_t point;
  (void)arena;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) moec_leave(MOEC_E_IO, "first");
  moec_leave(MOEC_E_LIMIT, "second");
}

static void recovery_points_nest(void **state) {
  (void)state;
  char message[512];
  assert_int_equal(status_of(nested_then_outer, NULL, message), MOEC_E_LIMIT);
  assert_string_equal(message, "outer");
  assert_int_equal(status_of(leave_twice, NULL, message), MOEC_E_LIMIT);
  assert_string_equal(message, "second");
}

#ifndef MOEC_DEV
static void broken_invariant(arena_t *arena) { MOEC_ASSERT(arena != NULL); }

static void bugs_leave_as_internal_errors(void **state) {
  (void)state;
  char message[512];
  assert_int_equal(status_of(broken_invariant, NULL, message), MOEC_E_INTERNAL);
  assert_non_null(strstr(message, "assertion failed: arena != NULL"));
  assert_int_equal(strncmp(message, "test_arena.c:", 13), 0);
}
#endif

static void texts_grow(void **state) {
  (void)state;
  arena_t *arena = arena_create(0);
  text_t text;
  text_init(&text, arena);
  assert_string_equal(text.data, "");
  for (int i = 0; i < 1000; i++) text_printf(&text, "%d,", i);
  text_append(&text, "end\0x", 5);
  assert_int_equal(text.length, 10 * 2 + 90 * 3 + 900 * 4 + 5);
  assert_memory_equal(text.data, "0,1,2,", 6);
  assert_memory_equal(text.data + text.length - 9, "999,end\0x", 10);
  char *formatted = arena_printf(arena, "%s-%05d", "a", 42);
  assert_string_equal(formatted, "a-00042");
  assert_string_equal(arena_strndup(arena, "abcdef", 3), "abc");
  int *grown = arena_grow_array(arena, (int[]){1, 2}, 2, 4, sizeof(int));
  assert_memory_equal(grown, ((int[]){1, 2, 0, 0}), 4 * sizeof(int));
  arena_destroy(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_is_zeroed_and_aligned),
      cmocka_unit_test(allocations_do_not_overlap),
      cmocka_unit_test(budget_bounds_what_is_handed_out),
      cmocka_unit_test(impossible_sizes_leave),
      cmocka_unit_test(recovery_points_nest),
#ifndef MOEC_DEV
      cmocka_unit_test(bugs_leave_as_internal_errors),
#endif
      cmocka_unit_test(texts_grow),
  };
  return cmocka_run_group_tests_name("ir/arena", tests, NULL, NULL);
}
