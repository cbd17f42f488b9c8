/* The wire format of protobuf: a bounds-checked reader of fields (wire.c), and
 * the scan that checks a file before protobuf-c sees any of it (scan.c). */
#ifndef FRONTEND_WIRE_H
#define FRONTEND_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "frontend/load.h"

typedef enum {
  WIRE_VARINT = 0,
  WIRE_64BIT = 1,
  WIRE_BYTES = 2,
  WIRE_32BIT = 5,
} onnx_wire_type_t;

/* What is wrong with a file, and where. */
typedef struct onnx_wire_error {
  moec_status_t status;
  size_t offset;  /* in bytes from the begin of the file */
  char path[160]; /* of the field, "graph.node[3].name"; may be empty */
  char text[160];
} onnx_wire_error_t;

/* ---- Reader ------------------------------------------------------------- */

typedef struct onnx_wire_cursor {
  const uint8_t *bytes;
  size_t pos, end; /* end never exceeds the length of `bytes` */
} onnx_wire_cursor_t;

typedef struct onnx_wire_field {
  uint32_t number;
  onnx_wire_type_t type;
  size_t offset;  /* of the tag */
  size_t begin;   /* of the value, behind the length where there is one */
  size_t length;  /* of the value in bytes; begin + length is within the end */
  uint64_t value; /* of WIRE_VARINT */
} onnx_wire_field_t;

/* Reads the field at the cursor and moves behind it; to be called while
 * pos < end. Returns NULL, or what is wrong, with *out->offset set. */
const char *onnx_wire_next(onnx_wire_cursor_t *cursor, onnx_wire_field_t *out);

/* Reads a varint. Returns NULL or what is wrong. */
const char *onnx_wire_varint(onnx_wire_cursor_t *cursor, uint64_t *out_value);

/* Writes a varint to 10 bytes of room; returns its length. */
size_t onnx_wire_put_varint(uint8_t *out, uint64_t value);

/* Whether the bytes are UTF-8 (RFC 3629); *out_bad is the offset of the first
 * byte that is not, or of the first NUL, which is refused too. */
bool onnx_wire_is_text(const uint8_t *bytes, size_t length, size_t *out_bad);

/* ---- Scan --------------------------------------------------------------- */

/* Where a TensorProto lies that has elements inline. */
typedef struct onnx_payload {
  const uint8_t *bytes; /* of the file that it is in */
  size_t begin, end;    /* of the message in it */
} onnx_payload_t;

/* Payloads of all files of a store. The skeleton of a tensor has the index of
 * its payload in raw_data, 8 bytes little endian; as raw_data of the file never
 * reaches a skeleton, a file cannot name a payload that is not its own. */
typedef struct onnx_payloads {
  onnx_payload_t *items; /* malloc */
  size_t n, capacity;
} onnx_payloads_t;

/* A copy of a message that protobuf-c can unpack safely. */
typedef struct onnx_skeleton {
  uint8_t *bytes; /* malloc */
  size_t length, capacity;
  uint64_t unpacked_bytes; /* what protobuf-c will allocate, at most */
  uint64_t n_messages;
  uint64_t n_unknown;    /* fields that the schema does not have */
  size_t unknown_offset; /* of the first of them */
  uint32_t unknown_number;
  const char *unknown_message; /* in which message, static */
} onnx_skeleton_t;

/* Checks `length` bytes as a message of type `type` and writes its skeleton:
 * elements of tensors, doc_string and metadata_props outside the ModelProto,
 * and unknown fields are left out. Linear in time and memory, no recursion.
 * `limits` has no zeros. `arena` is for scratch. The caller releases what
 * `payloads` and `out` own, after an error too. Fills *out_error unless it
 * returns MOEC_OK.
 *
 * Refused: varints that are longer than 10 bytes or do not fit; lengths beyond
 * the enclosing message; groups and other wire types than the field's; field
 * number 0; a singular field, or two of a oneof, given twice; strings that are
 * not UTF-8 or contain NUL; whatever exceeds the limits. */
moec_status_t onnx_wire_scan(const ProtobufCMessageDescriptor *type,
                             const uint8_t *bytes, size_t length,
                             const onnx_limits_t *limits, arena_t *arena,
                             onnx_payloads_t *payloads, onnx_skeleton_t *out,
                             onnx_wire_error_t *out_error);

/* The payload that a tensor of a skeleton refers to, NULL if it has none. */
const onnx_payload_t *onnx_wire_payload(const onnx_payloads_t *payloads,
                                        const Onnx__TensorProto *tensor);

#endif
