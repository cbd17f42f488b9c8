/* Memory of one compilation: everything is allocated here and freed at once. */
#ifndef IR_ARENA_H
#define IR_ARENA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "moec/status.h"

typedef struct arena arena_t;

/* Where a compilation leaves to when memory or its budget is exhausted, or when
 * an invariant of moec itself is broken. The compile API sets one up:
 *
 *     recovery_t point;
 *     recovery_enter(&point);
 *     if (setjmp(point.jump) == 0) status = work(...);
 *     else                         status = point.status;
 *     recovery_leave(&point);
 *
 * Points nest; each thread has its own stack of them. */
typedef struct recovery {
  jmp_buf jump;
  moec_status_t status; /* valid after the jump */
  char message[512];    /* ditto, NUL-terminated */
  struct recovery *outer;
} recovery_t;

void recovery_enter(recovery_t *point);
void recovery_leave(recovery_t *point);

/* Calls work(user), then cleanup(user), whether work returned or left; in the
 * latter case leaves on, else returns what work did. For what no arena owns. */
moec_status_t recovery_cleanup(moec_status_t (*work)(void *user),
                               void (*cleanup)(void *user), void *user);

/* Leaves to the innermost recovery point; aborts when there is none. */
_Noreturn void moec_leave(moec_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A bug in moec: leaves with MOEC_E_INTERNAL (aborts in debug builds). */
_Noreturn void moec_bug(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define MOEC_BUG(...) moec_bug(__FILE__, __LINE__, __VA_ARGS__)
#define MOEC_ASSERT(cond) \
  ((cond) ? (void)0       \
          : moec_bug(__FILE__, __LINE__, "assertion failed: %s", #cond))

/* Propagates a status when nothing needs releasing. */
#define MOEC_TRY(expr)                              \
  do {                                              \
    moec_status_t try_status_ = (expr);             \
    if (try_status_ != MOEC_OK) return try_status_; \
  } while (0)

/* Creates an arena that may hand out at most budget_bytes (0: no limit).
 * Returns NULL when there is no memory for the arena itself. */
arena_t *arena_create(size_t budget_bytes);
void arena_destroy(arena_t *arena); /* accepts NULL */

/* Frees all that the arena handed out; the arena stays usable. */
void arena_reset(arena_t *arena);

/* Zeroed memory aligned for any type. Never NULL: exhausting the budget or the
 * memory leaves through the recovery point with MOEC_E_LIMIT / E_NO_MEMORY. */
void *arena_alloc(arena_t *arena, size_t bytes);
/* count * size with overflow check. */
void *arena_alloc_array(arena_t *arena, size_t count, size_t size);
/* Copies old_count elements into a new array of new_count. */
void *arena_grow_array(arena_t *arena, const void *old, size_t old_count,
                       size_t new_count, size_t size);
char *arena_strdup(arena_t *arena, const char *text);
char *arena_strndup(arena_t *arena, const char *text, size_t length);
char *arena_printf(arena_t *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
size_t arena_used(const arena_t *arena); /* bytes handed out since creation */

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) \
  ((type *)arena_alloc_array((arena), (count), sizeof(type)))

/* A growing text; lives in an arena. */
typedef struct text {
  arena_t *arena;
  char *data; /* NUL-terminated, never NULL after text_init */
  size_t length, capacity;
} text_t;

void text_init(text_t *text, arena_t *arena);
void text_append(text_t *text, const char *data, size_t length);
void text_printf(text_t *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
