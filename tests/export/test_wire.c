/* Messages: nesting, numbers, bytes that are referred to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <string.h>

#include "export/wire.h"

static int setup(void **state) {
  *state = arena_create(0);
  return *state == NULL;
}

static int teardown(void **state) {
  arena_destroy(*state);
  return 0;
}

/* All bytes of a message side by side. */
static char *flat(const pb_t *pb) {
  char *bytes = arena_alloc(pb->arena, (size_t)pb->size + 1);
  size_t at = 0, to = 0;
  for (unsigned i = 0; i < pb->n_views; i++) {
    const pb_view_t *view = &pb->views[i];
    memcpy(bytes + to, pb->data + at, view->at - at);
    to += view->at - at;
    memcpy(bytes + to, view->bytes, (size_t)view->size);
    to += (size_t)view->size;
    at = view->at;
  }
  if (pb->length > at) memcpy(bytes + to, pb->data + at, pb->length - at);
  assert_int_equal(to + pb->length - at, pb->size);
  return bytes;
}

static void numbers_are_varints(void **state) {
  pb_t pb;
  pb_init(&pb, *state);
  pb_int(&pb, 1, 300);
  pb_int(&pb, 20, -1);
  static const char wanted[] =
      "\x08\xac\x02\xa0\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
  assert_int_equal(pb.size, sizeof wanted - 1);
  assert_memory_equal(flat(&pb), wanted, sizeof wanted - 1);
}

static void an_empty_message_has_no_bytes(void **state) {
  pb_t pb, outer;
  pb_init(&pb, *state);
  pb_init(&outer, *state);
  pb_message(&outer, 3, &pb);
  pb_bytes(&outer, 4, "", 0);
  assert_int_equal(outer.size, 4);
  assert_memory_equal(flat(&outer), "\x1a\x00\x22\x00", 4);
}

static void large_bytes_are_referred_to_and_stand_in_their_place(void **state) {
  static char large[1000];
  pb_t inner, middle, outer;
  memset(large, 'w', sizeof large);
  pb_init(&inner, *state);
  pb_init(&middle, *state);
  pb_init(&outer, *state);
  pb_string(&inner, 1, "a");
  pb_bytes(&inner, 9, large, sizeof large);
  pb_string(&inner, 2, "b");
  pb_message(&middle, 5, &inner);
  pb_message(&middle, 5, &inner);
  pb_message(&outer, 7, &middle);
  assert_int_equal(outer.n_views, 2);
  assert_ptr_equal(outer.views[1].bytes, large);
  assert_in_range(outer.length, 1, 100);
  const char *bytes = flat(&outer);
  /* 7: 2026 { 5: 1009 { 1: "a", 9: large, 2: "b" } .. } */
  assert_int_equal(outer.size, 3 + 2 * (3 + 3 + 3 + 1000 + 3));
  assert_memory_equal(bytes + 3,
                      "\x2a\xf1\x07\x0a\x01"
                      "a\x4a\xe8\x07"
                      "ww",
                      11);
  assert_memory_equal(bytes + 3 + 9 + 1000,
                      "\x12\x01"
                      "b\x2a",
                      4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(numbers_are_varints),
      TEST(an_empty_message_has_no_bytes),
      TEST(large_bytes_are_referred_to_and_stand_in_their_place),
  };
  return cmocka_run_group_tests_name("export/wire", tests, NULL, NULL);
}
