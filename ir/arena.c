/* Arena memory, growing texts, and the recovery points that a compilation
 * leaves to when memory, its budget or an invariant gives way. */
#include "ir/arena.h"

#include <stdlib.h>
#include <string.h>

/* Under AddressSanitizer every allocation is a heap block of its own, so that
 * an overrun inside a chunk cannot go unseen. gcc and clang say so
 * differently. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ONE_BLOCK_EACH 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ONE_BLOCK_EACH 1
#endif
#endif
#ifndef ARENA_ONE_BLOCK_EACH
#define ARENA_ONE_BLOCK_EACH 0
#endif

#define ARENA_ALIGN _Alignof(max_align_t)
#define FIRST_CHUNK ((size_t)16 << 10)
#define LARGEST_CHUNK ((size_t)1 << 20)

/* ---- Recovery points --------------------------------------------------- */

static _Thread_local recovery_t *innermost;

void recovery_enter(recovery_t *point) {
  point->status = MOEC_OK;
  point->message[0] = '\0';
  point->outer = innermost;
  innermost = point;
}

/* A point that was jumped to is no longer on the stack. */
void recovery_leave(recovery_t *point) {
  if (innermost == point) innermost = point->outer;
}

static _Noreturn void leave_with(moec_status_t status, const char *message) {
  recovery_t *point = innermost;
  if (point == NULL) {
    fprintf(stderr, "moec: %s (no recovery point)\n", message);
    abort();
  }
  /* Popped before the jump, so that leaving once more while recovering goes
   * outwards instead of round in circles. */
  innermost = point->outer;
  point->status = status;
  snprintf(point->message, sizeof point->message, "%s", message);
  longjmp(point->jump, 1);
}

void moec_leave(moec_status_t status, const char *format, ...) {
  char message[sizeof((recovery_t *)NULL)->message];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  leave_with(status, message);
}

moec_status_t recovery_cleanup(moec_status_t (*work)(void *user),
                               void (*cleanup)(void *user), void *user) {
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) != 0) {
    cleanup(user);
    leave_with(point.status, point.message);
  }
  moec_status_t status = work(user);
  recovery_leave(&point);
  cleanup(user);
  return status;
}

void moec_bug(const char *file, int line, const char *format, ...) {
  char message[sizeof((recovery_t *)NULL)->message];
  const char *base = strrchr(file, '/'); /* builds must not show their place */
  int n = snprintf(message, sizeof message,
                   "%s:%d: ", base != NULL ? base + 1 : file, line);
  if (n < 0) n = 0;
  if ((size_t)n < sizeof message) {
    va_list args;
    va_start(args, format);
    vsnprintf(message + n, sizeof message - (size_t)n, format, args);
    va_end(args);
  }
#ifdef MOEC_DEV
  fprintf(stderr, "moec: internal error: %s\n", message);
  abort();
#else
  leave_with(MOEC_E_INTERNAL, message);
#endif
}

/* ---- Arena ------------------------------------------------------------- */

typedef struct chunk {
  struct chunk *next;
  size_t capacity, used; /* of data, in bytes */
  _Alignas(max_align_t) unsigned char data[];
} chunk_t;

struct arena {
  chunk_t *chunks; /* the one being filled comes first */
  size_t next_chunk;
  size_t budget; /* 0: none */
  size_t live;   /* handed out since the last reset */
  size_t total;  /* handed out since creation */
};

arena_t *arena_create(size_t budget_bytes) {
  arena_t *arena = calloc(1, sizeof *arena);
  if (arena == NULL) return NULL;
  arena->budget = budget_bytes;
  arena->next_chunk = FIRST_CHUNK;
  return arena;
}

void arena_reset(arena_t *arena) {
  for (chunk_t *chunk = arena->chunks, *next; chunk != NULL; chunk = next) {
    next = chunk->next;
    free(chunk);
  }
  arena->chunks = NULL;
  arena->next_chunk = FIRST_CHUNK;
  arena->live = 0;
}

void arena_destroy(arena_t *arena) {
  if (arena == NULL) return;
  arena_reset(arena);
  free(arena);
}

static chunk_t *new_chunk(size_t capacity) {
  if (capacity > SIZE_MAX - sizeof(chunk_t))
    moec_leave(MOEC_E_LIMIT, "allocation of %zu bytes", capacity);
  /* calloc, because large chunks then come zeroed from the system. */
  chunk_t *chunk = calloc(1, sizeof *chunk + capacity);
  if (chunk == NULL)
    moec_leave(MOEC_E_NO_MEMORY, "out of memory allocating %zu bytes",
               capacity);
  chunk->capacity = capacity;
  return chunk;
}

static void *alloc_from_chunk(arena_t *arena, size_t bytes) {
  chunk_t *first = arena->chunks;
  size_t rounded = (bytes + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
  if (rounded == 0) rounded = ARENA_ALIGN;
  if (first != NULL && first->capacity - first->used >= rounded) {
    void *data = first->data + first->used;
    first->used += rounded;
    return data;
  }
  if (rounded > arena->next_chunk / 4) { /* keep filling the current chunk */
    chunk_t *own = new_chunk(rounded);
    own->used = rounded;
    if (first == NULL) {
      arena->chunks = own;
    } else {
      own->next = first->next;
      first->next = own;
    }
    return own->data;
  }
  chunk_t *chunk = new_chunk(arena->next_chunk);
  if (arena->next_chunk < LARGEST_CHUNK) arena->next_chunk *= 2;
  chunk->used = rounded;
  chunk->next = first;
  arena->chunks = chunk;
  return chunk->data;
}

static void *alloc_own_block(arena_t *arena, size_t bytes) {
  chunk_t *chunk = new_chunk(bytes);
  chunk->used = bytes;
  chunk->next = arena->chunks;
  arena->chunks = chunk;
  return chunk->data;
}

void *arena_alloc(arena_t *arena, size_t bytes) {
  if (bytes > SIZE_MAX / 2 ||
      (arena->budget != 0 && bytes > arena->budget - arena->live))
    moec_leave(MOEC_E_LIMIT, "memory limit of %zu bytes is exceeded",
               arena->budget);
  void *data = ARENA_ONE_BLOCK_EACH ? alloc_own_block(arena, bytes)
                                    : alloc_from_chunk(arena, bytes);
  arena->live += bytes;
  arena->total += bytes;
  return data;
}

void *arena_alloc_array(arena_t *arena, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes))
    moec_leave(MOEC_E_LIMIT, "allocation of %zu elements of %zu bytes", count,
               size);
  return arena_alloc(arena, bytes);
}

void *arena_grow_array(arena_t *arena, const void *old, size_t old_count,
                       size_t new_count, size_t size) {
  void *data = arena_alloc_array(arena, new_count, size);
  size_t kept = old_count < new_count ? old_count : new_count;
  if (kept != 0) memcpy(data, old, kept * size);
  return data;
}

char *arena_strndup(arena_t *arena, const char *text, size_t length) {
  if (length == SIZE_MAX) moec_leave(MOEC_E_LIMIT, "text is too long");
  char *copy = arena_alloc(arena, length + 1);
  if (length != 0) memcpy(copy, text, length);
  return copy;
}

char *arena_strdup(arena_t *arena, const char *text) {
  return arena_strndup(arena, text, strlen(text));
}

static char *format_into(arena_t *arena, const char *format, va_list args,
                         size_t *out_length) {
  va_list again;
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (length < 0) MOEC_BUG("format \"%s\" fails", format);
  char *data = arena_alloc(arena, (size_t)length + 1);
  vsnprintf(data, (size_t)length + 1, format, args);
  *out_length = (size_t)length;
  return data;
}

char *arena_printf(arena_t *arena, const char *format, ...) {
  size_t length;
  va_list args;
  va_start(args, format);
  char *data = format_into(arena, format, args, &length);
  va_end(args);
  return data;
}

size_t arena_used(const arena_t *arena) { return arena->total; }

/* ---- Texts ------------------------------------------------------------- */

void text_init(text_t *text, arena_t *arena) {
  text->arena = arena;
  text->length = 0;
  text->capacity = 64;
  text->data = arena_alloc(arena, text->capacity);
}

/* Makes room for `more` bytes and the NUL. */
static void text_reserve(text_t *text, size_t more) {
  size_t needed;
  if (__builtin_add_overflow(text->length, more, &needed) ||
      __builtin_add_overflow(needed, 1, &needed))
    moec_leave(MOEC_E_LIMIT, "text is too long");
  if (needed <= text->capacity) return;
  size_t capacity = text->capacity;
  while (capacity < needed)
    capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
  text->data =
      arena_grow_array(text->arena, text->data, text->length + 1, capacity, 1);
  text->capacity = capacity;
}

void text_append(text_t *text, const char *data, size_t length) {
  text_reserve(text, length);
  if (length != 0) memcpy(text->data + text->length, data, length);
  text->length += length;
  text->data[text->length] = '\0';
}

void text_printf(text_t *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  va_list again;
  va_copy(again, args);
  size_t room = text->capacity - text->length;
  int length = vsnprintf(text->data + text->length, room, format, args);
  va_end(args);
  if (length < 0) MOEC_BUG("format \"%s\" fails", format);
  if ((size_t)length >= room) {
    text->data[text->length] = '\0';
    text_reserve(text, (size_t)length);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
  }
  va_end(again);
  text->length += (size_t)length;
}
