/* A fuzz target is one function of bytes, fuzz_body(). Linked with libFuzzer
 * (preset fuzz) it is a fuzzer; linked with replay.c, an ordinary test that
 * repeats the seeds. Either way the body runs at a recovery point, as in
 * compile_model(), with an arena of limited size. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdlib.h>

#include "ir/diag.h"

enum { FUZZ_ARENA_BYTES = 256 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* What a target does. Statuses are whatever they are; a broken invariant
 * aborts in builds with MOEC_DEV. */
static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  arena_t *arena = arena_create(FUZZ_ARENA_BYTES);
  if (arena == NULL) return 0;
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    diag_sink_t diag;
    diag_init(&diag, arena, "fuzz");
    fuzz_body(arena, &diag, bytes, length);
  } else if (point.status == MOEC_E_INTERNAL) {
    abort();
  }
  recovery_leave(&point);
  arena_destroy(arena);
  return 0;
}

/* Ends the process: something that must hold for all bytes does not. */
#define FUZZ_CHECK(condition)                                         \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                        \
    }                                                                 \
  } while (0)

#endif
