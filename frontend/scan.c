/* Scans a file once and writes the skeleton that protobuf-c unpacks. What a
 * message may contain comes from protobuf-c's own descriptors; the only thing
 * added here is the short list of what a skeleton leaves out.
 *
 * The length of an enclosing message is not known before its end. Five bytes
 * are left for it, which hold any length that protobuf-c accepts: a varint may
 * have leading zeros. */
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/wire.h"

#define LENGTH_ROOM 5 /* bytes kept for the length of a message */
#define TOKEN_BYTES 8
/* protobuf-c describes fields in slabs of doubling size, 16 of them on the
 * stack; this is what one field beyond those costs it at most. */
#define FREE_FIELDS 16
#define FIELD_BYTES 64

typedef struct frame { /* a message that is being scanned */
  const ProtobufCMessageDescriptor *type;
  const ProtobufCFieldDescriptor *field; /* of the parent; NULL: the file */
  size_t offset, begin, end; /* of its tag and contents in the file */
  size_t length_at;          /* of its length in the skeleton */
  uint64_t seen;             /* bit i: singular field i of the type was there */
  uint64_t n_fields;
  bool has_elements; /* a tensor with elements inline */
} frame_t;

typedef struct scan {
  const uint8_t *bytes;
  onnx_wire_cursor_t cursor;
  const onnx_limits_t *limits;
  onnx_payloads_t *payloads;
  onnx_skeleton_t *out;
  onnx_wire_error_t *error;
  frame_t *frames;
  unsigned n_frames, n_graphs;
} scan_t;

/* ---- Errors ------------------------------------------------------------- */

/* Which of the repeated fields of a message begins at `offset`: rescans the
 * part of the parent before it, so only for messages. */
static size_t index_of_field(const scan_t *scan, const frame_t *parent,
                             uint32_t number, size_t offset) {
  onnx_wire_cursor_t cursor = {scan->bytes, parent->begin, parent->end};
  onnx_wire_field_t field;
  size_t n = 0;
  while (cursor.pos < offset && onnx_wire_next(&cursor, &field) == NULL)
    if (field.number == number && field.offset < offset) n++;
  return n;
}

/* Appends ".name" or ".name[index]". */
static void append_step(const scan_t *scan, const frame_t *parent,
                        const ProtobufCFieldDescriptor *field, size_t offset,
                        char *path, size_t capacity) {
  size_t used = strlen(path);
  const char *dot = used > 0 ? "." : "";
  if (field->label != PROTOBUF_C_LABEL_REPEATED)
    snprintf(path + used, capacity - used, "%s%s", dot, field->name);
  else
    snprintf(path + used, capacity - used, "%s%s[%zu]", dot, field->name,
             index_of_field(scan, parent, field->id, offset));
}

static void describe_path(scan_t *scan, const ProtobufCFieldDescriptor *field,
                          size_t offset) {
  enum { SHOWN = 8 }; /* innermost messages */
  char *path = scan->error->path;
  size_t capacity = sizeof scan->error->path;
  unsigned first = 1;
  path[0] = '\0';
  if (scan->n_frames > SHOWN + 1) {
    first = scan->n_frames - SHOWN;
    snprintf(path, capacity, "(%u messages)", first - 1);
  }
  for (unsigned i = first; i < scan->n_frames; i++)
    append_step(scan, &scan->frames[i - 1], scan->frames[i].field,
                scan->frames[i].offset, path, capacity);
  if (field != NULL && scan->n_frames > 0)
    append_step(scan, &scan->frames[scan->n_frames - 1], field, offset, path,
                capacity);
}

__attribute__((format(printf, 5, 6))) static moec_status_t fail(
    scan_t *scan, const ProtobufCFieldDescriptor *field, size_t offset,
    moec_status_t status, const char *format, ...) {
  scan->error->status = status;
  scan->error->offset = offset;
  va_list args;
  va_start(args, format);
  vsnprintf(scan->error->text, sizeof scan->error->text, format, args);
  va_end(args);
  describe_path(scan, field, offset);
  return status;
}

/* ---- Skeleton ----------------------------------------------------------- */

/* Makes room for `bytes` more. */
static moec_status_t reserve(scan_t *scan, size_t bytes) {
  onnx_skeleton_t *out = scan->out;
  if (out->capacity - out->length >= bytes) return MOEC_OK;
  if (bytes > INT_MAX - out->length) /* protobuf-c takes no longer ones */
    return fail(scan, NULL, scan->cursor.pos, MOEC_E_LIMIT,
                "more than 2 GiB besides the elements of tensors");
  size_t capacity = out->capacity == 0 ? 4096 : 2 * out->capacity;
  if (capacity < out->length + bytes) capacity = out->length + bytes;
  uint8_t *grown = realloc(out->bytes, capacity);
  if (grown == NULL)
    return fail(scan, NULL, scan->cursor.pos, MOEC_E_NO_MEMORY,
                "out of memory allocating %zu bytes", capacity);
  out->bytes = grown;
  out->capacity = capacity;
  return MOEC_OK;
}

static void put_tag(onnx_skeleton_t *out, uint32_t number,
                    onnx_wire_type_t type) {
  out->length += onnx_wire_put_varint(out->bytes + out->length,
                                      (uint64_t)number << 3 | type);
}

/* Copies a field that is not a message. */
static moec_status_t copy_field(scan_t *scan, const onnx_wire_field_t *field) {
  MOEC_TRY(reserve(scan, field->length + 20));
  onnx_skeleton_t *out = scan->out;
  put_tag(out, field->number, field->type);
  if (field->type == WIRE_BYTES)
    out->length +=
        onnx_wire_put_varint(out->bytes + out->length, field->length);
  memcpy(out->bytes + out->length, scan->bytes + field->begin, field->length);
  out->length += field->length;
  return MOEC_OK;
}

/* Accounts for memory that protobuf-c will need. */
static moec_status_t charge(scan_t *scan, const ProtobufCFieldDescriptor *field,
                            size_t offset, uint64_t bytes) {
  scan->out->unpacked_bytes += (bytes + 15) & ~(uint64_t)15;
  if (scan->out->unpacked_bytes <= scan->limits->unpacked_bytes) return MOEC_OK;
  return fail(scan, field, offset, MOEC_E_LIMIT,
              "unpacked, the messages up to here take more than the limit of "
              "%llu bytes",
              (unsigned long long)scan->limits->unpacked_bytes);
}

/* ---- Payloads ----------------------------------------------------------- */

static moec_status_t add_payload(scan_t *scan, const frame_t *frame) {
  onnx_payloads_t *payloads = scan->payloads;
  if (payloads->n == payloads->capacity) {
    size_t capacity = payloads->capacity == 0 ? 64 : 2 * payloads->capacity;
    onnx_payload_t *grown =
        realloc(payloads->items, capacity * sizeof *payloads->items);
    if (grown == NULL)
      return fail(scan, NULL, frame->begin, MOEC_E_NO_MEMORY,
                  "out of memory for the table of tensors");
    payloads->items = grown;
    payloads->capacity = capacity;
  }
  MOEC_TRY(charge(scan, NULL, frame->begin,
                  2 * sizeof *payloads->items + TOKEN_BYTES));
  MOEC_TRY(reserve(scan, 10 + 1 + TOKEN_BYTES));
  onnx_skeleton_t *out = scan->out;
  put_tag(out, 9 /* raw_data */, WIRE_BYTES);
  out->bytes[out->length++] = TOKEN_BYTES;
  for (unsigned i = 0; i < TOKEN_BYTES; i++)
    out->bytes[out->length++] = (uint8_t)((uint64_t)payloads->n >> (8 * i));
  payloads->items[payloads->n++] =
      (onnx_payload_t){scan->bytes, frame->begin, frame->end};
  return MOEC_OK;
}

const onnx_payload_t *onnx_wire_payload(const onnx_payloads_t *payloads,
                                        const Onnx__TensorProto *tensor) {
  if (!tensor->has_raw_data) return NULL;
  MOEC_ASSERT(tensor->raw_data.len == TOKEN_BYTES);
  uint64_t index = 0;
  for (unsigned i = 0; i < TOKEN_BYTES; i++)
    index |= (uint64_t)tensor->raw_data.data[i] << (8 * i);
  MOEC_ASSERT(index < payloads->n);
  return &payloads->items[index];
}

/* ---- What is left out --------------------------------------------------- */

static bool is_elements(const ProtobufCMessageDescriptor *type,
                        const ProtobufCFieldDescriptor *field) {
  if (type != &onnx__tensor_proto__descriptor) return false;
  switch (field->id) {
    case 4:  /* float_data */
    case 5:  /* int32_data */
    case 6:  /* string_data */
    case 7:  /* int64_data */
    case 9:  /* raw_data */
    case 10: /* double_data */
    case 11: /* uint64_data */
      return true;
    default:
      return false;
  }
}

static bool is_remark(const ProtobufCMessageDescriptor *type,
                      const ProtobufCFieldDescriptor *field) {
  return type != &onnx__model_proto__descriptor &&
         (strcmp(field->name, "doc_string") == 0 ||
          strcmp(field->name, "metadata_props") == 0);
}

/* ---- Checks of one field ------------------------------------------------ */

/* The wire type of one value of a field. */
static onnx_wire_type_t wire_type_of(ProtobufCType type) {
  switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
      return WIRE_32BIT;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
      return WIRE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
      return WIRE_BYTES;
    default:
      return WIRE_VARINT;
  }
}

static bool is_32_bits(ProtobufCType type) {
  return type == PROTOBUF_C_TYPE_INT32 || type == PROTOBUF_C_TYPE_ENUM;
}

/* protobuf-c keeps the low 32 bits, so that another value would be read. */
static bool fits(ProtobufCType type, uint64_t value) {
  if (!is_32_bits(type)) return true;
  int64_t number = (int64_t)value;
  return number >= INT32_MIN && number <= INT32_MAX;
}

static moec_status_t check_wire_type(scan_t *scan,
                                     const ProtobufCFieldDescriptor *desc,
                                     const onnx_wire_field_t *field) {
  onnx_wire_type_t expected = wire_type_of(desc->type);
  if (field->type == expected) return MOEC_OK;
  bool packed = field->type == WIRE_BYTES && expected != WIRE_BYTES &&
                desc->label == PROTOBUF_C_LABEL_REPEATED;
  if (packed) return MOEC_OK;
  return fail(scan, desc, field->offset, MOEC_E_INVALID_MODEL,
              "wire type %d where the field has %d", (int)field->type,
              (int)expected);
}

/* A field that may be there once, and only one of each oneof. */
static moec_status_t check_once(scan_t *scan, frame_t *frame,
                                const ProtobufCFieldDescriptor *desc,
                                size_t offset) {
  if (desc->label == PROTOBUF_C_LABEL_REPEATED) return MOEC_OK;
  size_t index = (size_t)(desc - frame->type->fields);
  MOEC_ASSERT(index < 64);
  if (frame->seen >> index & 1)
    return fail(scan, desc, offset, MOEC_E_INVALID_MODEL,
                "field is given twice%s",
                frame->field == NULL ? ": two messages in one file?" : "");
  frame->seen |= (uint64_t)1 << index;
  if (!(desc->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)) return MOEC_OK;
  for (unsigned i = 0; i < frame->type->n_fields; i++) {
    const ProtobufCFieldDescriptor *other = &frame->type->fields[i];
    if (i != index && (frame->seen >> i & 1) &&
        (other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
        other->quantifier_offset == desc->quantifier_offset)
      return fail(scan, desc, offset, MOEC_E_INVALID_MODEL,
                  "field excludes '%s', which is given too", other->name);
  }
  return MOEC_OK;
}

static moec_status_t check_text(scan_t *scan, const frame_t *frame,
                                const ProtobufCFieldDescriptor *desc,
                                const onnx_wire_field_t *field) {
  size_t bad;
  const uint8_t *text = scan->bytes + field->begin;
  if (!onnx_wire_is_text(text, field->length, &bad))
    return fail(scan, desc, field->begin + bad, MOEC_E_INVALID_MODEL,
                "byte 0x%02x in a string %s", text[bad],
                text[bad] == 0 ? "ends it for others" : "is not UTF-8");
  /* Values of properties may be whole documents. */
  bool is_name = frame->type != &onnx__string_string_entry_proto__descriptor &&
                 strcmp(desc->name, "doc_string") != 0;
  if (is_name && field->length > scan->limits->name_bytes)
    return fail(scan, desc, field->offset, MOEC_E_LIMIT,
                "name of %zu bytes exceeds the limit of %llu", field->length,
                (unsigned long long)scan->limits->name_bytes);
  return MOEC_OK;
}

/* Checks a packed list and counts its values. */
static moec_status_t check_packed(scan_t *scan,
                                  const ProtobufCFieldDescriptor *desc,
                                  const onnx_wire_field_t *field,
                                  uint64_t *out_count) {
  onnx_wire_type_t type = wire_type_of(desc->type);
  size_t width = type == WIRE_32BIT ? 4 : 8;
  if (type != WIRE_VARINT) {
    *out_count = field->length / width;
    if (field->length % width == 0) return MOEC_OK;
    return fail(scan, desc, field->begin, MOEC_E_INVALID_MODEL,
                "%zu bytes of packed values of %zu bytes each", field->length,
                width);
  }
  onnx_wire_cursor_t cursor = {scan->bytes, field->begin,
                               field->begin + field->length};
  for (*out_count = 0; cursor.pos < cursor.end; ++*out_count) {
    size_t offset = cursor.pos;
    uint64_t value;
    const char *wrong = onnx_wire_varint(&cursor, &value);
    if (wrong == NULL && !fits(desc->type, value))
      wrong = "number exceeds 32 bits";
    if (wrong != NULL)
      return fail(scan, desc, offset, MOEC_E_INVALID_MODEL, "%s", wrong);
  }
  return MOEC_OK;
}

/* Checks a field that stays in the skeleton and is no message, and accounts
 * for what protobuf-c needs for it. */
static moec_status_t check_value(scan_t *scan, const frame_t *frame,
                                 const ProtobufCFieldDescriptor *desc,
                                 const onnx_wire_field_t *field) {
  uint64_t bytes = 0, count = 1;
  bool repeated = desc->label == PROTOBUF_C_LABEL_REPEATED;
  switch (desc->type) {
    case PROTOBUF_C_TYPE_STRING:
      MOEC_TRY(check_text(scan, frame, desc, field));
      bytes = field->length + 1 + (repeated ? sizeof(char *) : 0);
      break;
    case PROTOBUF_C_TYPE_BYTES:
      bytes = field->length + (repeated ? sizeof(ProtobufCBinaryData) : 0);
      break;
    default:
      if (field->type == WIRE_BYTES)
        MOEC_TRY(check_packed(scan, desc, field, &count));
      else if (!fits(desc->type, field->value))
        return fail(scan, desc, field->offset, MOEC_E_INVALID_MODEL,
                    "number exceeds 32 bits");
      bytes = repeated ? 8 * count : 0;
  }
  return charge(scan, desc, field->offset, bytes);
}

/* ---- The walk ----------------------------------------------------------- */

/* Begins a message: the file itself when `desc` is NULL. */
static moec_status_t enter_message(scan_t *scan,
                                   const ProtobufCMessageDescriptor *type,
                                   const ProtobufCFieldDescriptor *desc,
                                   const onnx_wire_field_t *field) {
  if (scan->n_frames >= scan->limits->depth)
    return fail(scan, desc, field->offset, MOEC_E_LIMIT,
                "messages nested deeper than the limit of %u",
                scan->limits->depth);
  bool graph = type == &onnx__graph_proto__descriptor;
  if (graph && scan->n_graphs >= scan->limits->graph_depth)
    return fail(scan, desc, field->offset, MOEC_E_LIMIT,
                "graphs nested deeper than the limit of %u",
                scan->limits->graph_depth);
  if (++scan->out->n_messages > scan->limits->messages)
    return fail(scan, desc, field->offset, MOEC_E_LIMIT,
                "more messages than the limit of %llu",
                (unsigned long long)scan->limits->messages);
  MOEC_TRY(
      charge(scan, desc, field->offset, type->sizeof_message + sizeof(void *)));
  MOEC_TRY(reserve(scan, 10 + LENGTH_ROOM));
  frame_t frame = {.type = type,
                   .field = desc,
                   .offset = field->offset,
                   .begin = field->begin,
                   .end = field->begin + field->length};
  if (desc != NULL) {
    put_tag(scan->out, field->number, WIRE_BYTES);
    frame.length_at = scan->out->length;
    scan->out->length += LENGTH_ROOM;
  }
  scan->n_graphs += graph;
  scan->frames[scan->n_frames++] = frame;
  scan->cursor.pos = field->begin;
  scan->cursor.end = field->begin + field->length;
  return MOEC_OK;
}

/* Ends the innermost message. */
static moec_status_t leave_message(scan_t *scan) {
  frame_t *frame = &scan->frames[scan->n_frames - 1];
  if (frame->has_elements) MOEC_TRY(add_payload(scan, frame));
  if (frame->field != NULL) {
    uint8_t *room = scan->out->bytes + frame->length_at;
    size_t length = scan->out->length - frame->length_at - LENGTH_ROOM;
    for (unsigned i = 0; i < LENGTH_ROOM; i++, length >>= 7)
      room[i] = (uint8_t)((length & 0x7f) | (i + 1 < LENGTH_ROOM ? 0x80 : 0));
  }
  scan->n_graphs -= frame->type == &onnx__graph_proto__descriptor;
  if (--scan->n_frames > 0)
    scan->cursor.end = scan->frames[scan->n_frames - 1].end;
  return MOEC_OK;
}

static void note_unknown(onnx_skeleton_t *out, const frame_t *frame,
                         const onnx_wire_field_t *field) {
  if (out->n_unknown++ > 0) return;
  out->unknown_offset = field->offset;
  out->unknown_number = field->number;
  out->unknown_message = frame->type->short_name;
}

static moec_status_t scan_field(scan_t *scan) {
  frame_t *frame = &scan->frames[scan->n_frames - 1];
  onnx_wire_field_t field;
  const char *wrong = onnx_wire_next(&scan->cursor, &field);
  const ProtobufCFieldDescriptor *desc =
      field.number == 0
          ? NULL
          : protobuf_c_message_descriptor_get_field(frame->type, field.number);
  if (wrong != NULL)
    return fail(scan, desc, field.offset, MOEC_E_INVALID_MODEL, "%s", wrong);
  if (desc == NULL) {
    note_unknown(scan->out, frame, &field);
    return MOEC_OK;
  }
  MOEC_TRY(check_wire_type(scan, desc, &field));
  MOEC_TRY(check_once(scan, frame, desc, field.offset));
  if (is_remark(frame->type, desc)) return MOEC_OK;
  if (is_elements(frame->type, desc)) {
    frame->has_elements = true;
    return MOEC_OK;
  }
  if (++frame->n_fields > FREE_FIELDS)
    MOEC_TRY(charge(scan, desc, field.offset, FIELD_BYTES));
  if (desc->type == PROTOBUF_C_TYPE_MESSAGE)
    return enter_message(scan, desc->descriptor, desc, &field);
  MOEC_TRY(check_value(scan, frame, desc, &field));
  return copy_field(scan, &field);
}

moec_status_t onnx_wire_scan(const ProtobufCMessageDescriptor *type,
                             const uint8_t *bytes, size_t length,
                             const onnx_limits_t *limits, arena_t *arena,
                             onnx_payloads_t *payloads, onnx_skeleton_t *out,
                             onnx_wire_error_t *out_error) {
  scan_t scan = {.bytes = bytes,
                 .cursor = {bytes, 0, length},
                 .limits = limits,
                 .payloads = payloads,
                 .out = out,
                 .error = out_error,
                 .frames = ARENA_ARRAY(arena, frame_t, limits->depth)};
  const onnx_wire_field_t file = {.length = length};
  MOEC_TRY(enter_message(&scan, type, NULL, &file));
  while (scan.n_frames > 0) {
    if (scan.cursor.pos < scan.cursor.end)
      MOEC_TRY(scan_field(&scan));
    else
      MOEC_TRY(leave_message(&scan));
  }
  return MOEC_OK;
}
