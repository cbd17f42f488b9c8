/* Messages in the wire format of protocol buffers. */
#include "export/wire.h"

#include <string.h>

enum { VARINT = 0, DELIMITED = 2, FIXED32 = 5, COPIED = 256 };

void pb_init(pb_t *pb, arena_t *arena) { *pb = (pb_t){.arena = arena}; }

static void append(pb_t *pb, const void *bytes, size_t size) {
  if (size == 0) return;
  if (pb->room - pb->length < size) {
    size_t room = 2 * pb->room + size + 64;
    pb->data = arena_grow_array(pb->arena, pb->data, pb->length, room, 1);
    pb->room = room;
  }
  memcpy(pb->data + pb->length, bytes, size);
  pb->length += size;
  pb->size += size;
}

static void append_varint(pb_t *pb, uint64_t value) {
  unsigned char bytes[10];
  size_t n = 0;
  for (; value >= 0x80; value >>= 7) bytes[n++] = (unsigned char)(value | 0x80);
  bytes[n++] = (unsigned char)value;
  append(pb, bytes, n);
}

static void append_tag(pb_t *pb, unsigned field, unsigned kind) {
  append_varint(pb, field << 3 | kind);
}

static void append_view(pb_t *pb, size_t at, const void *bytes, uint64_t size) {
  if (pb->n_views == pb->views_room) {
    unsigned room = 2 * pb->views_room + 8;
    pb->views = arena_grow_array(pb->arena, pb->views, pb->n_views, room,
                                 sizeof pb->views[0]);
    pb->views_room = room;
  }
  pb->views[pb->n_views++] = (pb_view_t){at, bytes, size};
  pb->size += size;
}

void pb_int(pb_t *pb, unsigned field, int64_t value) {
  append_tag(pb, field, VARINT);
  append_varint(pb, (uint64_t)value);
}

void pb_float(pb_t *pb, unsigned field, float value) {
  uint32_t bits;
  unsigned char bytes[4];
  memcpy(&bits, &value, sizeof bits);
  for (unsigned i = 0; i < 4; i++) bytes[i] = (unsigned char)(bits >> 8 * i);
  append_tag(pb, field, FIXED32);
  append(pb, bytes, sizeof bytes);
}

void pb_string(pb_t *pb, unsigned field, const char *text) {
  size_t length = strlen(text);
  append_tag(pb, field, DELIMITED);
  append_varint(pb, length);
  append(pb, text, length);
}

void pb_bytes(pb_t *pb, unsigned field, const void *bytes, uint64_t size) {
  append_tag(pb, field, DELIMITED);
  append_varint(pb, size);
  pb_raw(pb, bytes, size);
}

void pb_raw(pb_t *pb, const void *bytes, uint64_t size) {
  if (size <= COPIED)
    append(pb, bytes, (size_t)size);
  else
    append_view(pb, pb->length, bytes, size);
}

void pb_message(pb_t *pb, unsigned field, const pb_t *inner) {
  append_tag(pb, field, DELIMITED);
  append_varint(pb, inner->size);
  size_t start = pb->length;
  append(pb, inner->data, inner->length);
  for (unsigned i = 0; i < inner->n_views; i++) {
    const pb_view_t *view = &inner->views[i];
    append_view(pb, start + view->at, view->bytes, view->size);
  }
}
