/* Reads protobuf's wire format, trusting nothing. */
#include "frontend/wire.h"

#define MAX_VARINT 10         /* bytes of 64 bits */
#define MAX_TAG 5             /* bytes of 32 bits */
#define MAX_NUMBER (1u << 29) /* of fields, exclusive */

/* Reads a varint of at most max_bytes. */
static const char *read_varint(onnx_wire_cursor_t *cursor, size_t max_bytes,
                               uint64_t *out_value) {
  uint64_t value = 0;
  for (size_t i = 0; i < max_bytes; i++) {
    if (cursor->pos + i >= cursor->end) return "number is cut off";
    uint8_t byte = cursor->bytes[cursor->pos + i];
    if (i == MAX_VARINT - 1 && byte > 1) return "number exceeds 64 bits";
    value |= (uint64_t)(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      cursor->pos += i + 1;
      *out_value = value;
      return NULL;
    }
  }
  return max_bytes == MAX_TAG ? "tag of a field is longer than 5 bytes"
                              : "number is longer than 10 bytes";
}

const char *onnx_wire_varint(onnx_wire_cursor_t *cursor, uint64_t *out_value) {
  return read_varint(cursor, MAX_VARINT, out_value);
}

static const char *read_fixed(onnx_wire_cursor_t *cursor, size_t bytes,
                              onnx_wire_field_t *out) {
  if (cursor->end - cursor->pos < bytes) return "value is cut off";
  out->begin = cursor->pos;
  out->length = bytes;
  cursor->pos += bytes;
  return NULL;
}

static const char *read_value(onnx_wire_cursor_t *cursor,
                              onnx_wire_field_t *out) {
  const char *wrong;
  uint64_t length;
  switch ((unsigned)out->type) {
    case WIRE_VARINT:
      out->begin = cursor->pos;
      wrong = read_varint(cursor, MAX_VARINT, &out->value);
      out->length = cursor->pos - out->begin;
      return wrong;
    case WIRE_64BIT:
      return read_fixed(cursor, 8, out);
    case WIRE_32BIT:
      return read_fixed(cursor, 4, out);
    case WIRE_BYTES:
      wrong = read_varint(cursor, MAX_VARINT, &length);
      if (wrong != NULL) return wrong;
      if (length > cursor->end - cursor->pos)
        return "length runs past the end of what it is in";
      return read_fixed(cursor, (size_t)length, out);
    case 3:
    case 4:
      return "groups (wire types 3 and 4) are not used by ONNX";
    default:
      return "wire type does not exist";
  }
}

const char *onnx_wire_next(onnx_wire_cursor_t *cursor, onnx_wire_field_t *out) {
  MOEC_ASSERT(cursor->pos < cursor->end);
  uint64_t tag;
  *out = (onnx_wire_field_t){.offset = cursor->pos};
  const char *wrong = read_varint(cursor, MAX_TAG, &tag);
  if (wrong != NULL) return wrong;
  if (tag >> 3 == 0) return "field number 0 does not exist";
  if (tag >> 3 >= MAX_NUMBER) return "field number exceeds 29 bits";
  out->number = (uint32_t)(tag >> 3);
  out->type = (onnx_wire_type_t)(tag & 7);
  return read_value(cursor, out);
}

size_t onnx_wire_put_varint(uint8_t *out, uint64_t value) {
  size_t n = 0;
  for (; value >= 0x80; value >>= 7) out[n++] = (uint8_t)(value | 0x80);
  out[n++] = (uint8_t)value;
  return n;
}

/* Length of the UTF-8 sequence at `bytes`; 0 if it is none. The bounds of the
 * second byte exclude overlong forms, surrogates and codes above U+10FFFF. */
static size_t sequence_length(const uint8_t *bytes, size_t length) {
  uint8_t lead = bytes[0];
  size_t n = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : 3;
  if (lead >= 0xf0) n = lead < 0xf5 ? 4 : 0;
  if (n > length) return 0;
  if (n < 2) return n;
  uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (bytes[1] < low || bytes[1] > high) return 0;
  for (size_t i = 2; i < n; i++)
    if ((bytes[i] & 0xc0) != 0x80) return 0;
  return n;
}

bool onnx_wire_is_text(const uint8_t *bytes, size_t length, size_t *out_bad) {
  for (size_t i = 0, n; i < length; i += n) {
    n = bytes[i] == 0 ? 0 : sequence_length(bytes + i, length - i);
    if (n == 0) {
      *out_bad = i;
      return false;
    }
  }
  return true;
}
