/* Messages in the wire format of protocol buffers. Large bytes are referred to,
 * not copied: a finished message is a list of pieces. */
#ifndef EXPORT_WIRE_H
#define EXPORT_WIRE_H

#include "ir/arena.h"

typedef struct pb_view { /* bytes that stand before byte `at` of the text */
  size_t at;
  const void *bytes;
  uint64_t size;
} pb_view_t;

typedef struct pb {
  arena_t *arena;
  char *data;
  size_t length, room;
  pb_view_t *views;
  unsigned n_views, views_room;
  uint64_t size; /* of all, views included */
} pb_t;

void pb_init(pb_t *pb, arena_t *arena);
void pb_int(pb_t *pb, unsigned field, int64_t value);
void pb_float(pb_t *pb, unsigned field, float value);
void pb_string(pb_t *pb, unsigned field, const char *text);
/* `bytes` must outlive the message. */
void pb_bytes(pb_t *pb, unsigned field, const void *bytes, uint64_t size);
/* Bytes without a field: for files that are no messages. */
void pb_raw(pb_t *pb, const void *bytes, uint64_t size);
void pb_message(pb_t *pb, unsigned field, const pb_t *inner);

#endif
