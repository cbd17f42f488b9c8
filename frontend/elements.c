/* Elements that are inside a TensorProto: read from the mapped file, where the
 * scan found the message, and not from protobuf-c's copy. */
#include <string.h>

#include "frontend/store.h"
#include "frontend/tensor.h"

/* The fields that may hold elements. */
typedef enum {
  RAW,
  FLOAT,
  INT32,
  STRING,
  INT64,
  DOUBLE,
  UINT64,
  N_KINDS
} kind_t;

static const struct kind_info {
  const char *name;
  uint32_t number;
  onnx_wire_type_t type; /* of one value */
} kinds[N_KINDS] = {
    [RAW] = {"raw_data", 9, WIRE_BYTES},
    [FLOAT] = {"float_data", 4, WIRE_32BIT},
    [INT32] = {"int32_data", 5, WIRE_VARINT},
    [STRING] = {"string_data", 6, WIRE_BYTES},
    [INT64] = {"int64_data", 7, WIRE_VARINT},
    [DOUBLE] = {"double_data", 10, WIRE_64BIT},
    [UINT64] = {"uint64_data", 11, WIRE_VARINT},
};

/* Where the values of one field are. */
typedef struct survey {
  size_t n_fields; /* occurrences on the wire */
  size_t n_bytes;  /* of all of them, tags and lengths of lists excluded */
  onnx_wire_field_t first;
} survey_t;

/* How values of a typed field become elements. */
typedef struct rule {
  kind_t kind;
  int64_t low, high;  /* of integers */
  unsigned width;     /* bytes stored for one value */
  unsigned per_value; /* elements in one value; 0: two values in one element */
} rule_t;

static const rule_t rules[DT_COUNT] = {
    [DT_F32] = {FLOAT, 0, 0, 4, 1},
    [DT_C64] = {FLOAT, 0, 0, 4, 0},
    [DT_F64] = {DOUBLE, 0, 0, 8, 1},
    [DT_C128] = {DOUBLE, 0, 0, 8, 0},
    [DT_U8] = {INT32, 0, UINT8_MAX, 1, 1},
    [DT_I8] = {INT32, INT8_MIN, INT8_MAX, 1, 1},
    [DT_U16] = {INT32, 0, UINT16_MAX, 2, 1},
    [DT_I16] = {INT32, INT16_MIN, INT16_MAX, 2, 1},
    [DT_I32] = {INT32, INT32_MIN, INT32_MAX, 4, 1},
    [DT_I64] = {INT64, INT64_MIN, INT64_MAX, 8, 1},
    [DT_U32] = {UINT64, 0, UINT32_MAX, 4, 1},
    [DT_U64] = {UINT64, INT64_MIN, INT64_MAX, 8, 1}, /* any 64 bits */
    [DT_STR] = {STRING, 0, 0, 0, 1},
    [DT_BOOL] = {INT32, 0, 1, 1, 1},
    [DT_F16] = {INT32, 0, UINT16_MAX, 2, 1},
    [DT_BF16] = {INT32, 0, UINT16_MAX, 2, 1},
    [DT_F8E4M3FN] = {INT32, 0, UINT8_MAX, 1, 1},
    [DT_F8E4M3FNUZ] = {INT32, 0, UINT8_MAX, 1, 1},
    [DT_F8E5M2] = {INT32, 0, UINT8_MAX, 1, 1},
    [DT_F8E5M2FNUZ] = {INT32, 0, UINT8_MAX, 1, 1},
    [DT_F8E8M0] = {INT32, 0, UINT8_MAX, 1, 1},
    [DT_U4] = {INT32, 0, UINT8_MAX, 1, 2},
    [DT_I4] = {INT32, 0, UINT8_MAX, 1, 2},
    [DT_F4E2M1] = {INT32, 0, UINT8_MAX, 1, 2},
    [DT_U2] = {INT32, 0, UINT8_MAX, 1, 4},
    [DT_I2] = {INT32, 0, UINT8_MAX, 1, 4},
};

static uint64_t n_values_of(const rule_t *rule, uint64_t count) {
  if (rule->per_value == 0) return 2 * count;
  return count / rule->per_value + (count % rule->per_value != 0);
}

/* ---- Walking ------------------------------------------------------------ */

/* The next field of the payload that holds elements. Returns false at the end;
 * the scan has seen the fields, so a wrong one means that somebody writes to
 * the file: *out_wrong is set. */
static bool next_elements(onnx_wire_cursor_t *cursor, onnx_wire_field_t *out,
                          kind_t *out_kind, const char **out_wrong) {
  *out_wrong = NULL;
  while (cursor->pos < cursor->end) {
    *out_wrong = onnx_wire_next(cursor, out);
    if (*out_wrong != NULL) return false;
    for (int k = 0; k < N_KINDS; k++) {
      if (kinds[k].number != out->number) continue;
      *out_kind = (kind_t)k;
      return true;
    }
  }
  return false;
}

static moec_status_t fail_changed(const onnx_fetch_t *fetch) {
  return FETCH_FAIL(fetch, MOEC_E_IO,
                    "the file was changed while it was being read");
}

static moec_status_t survey_payload(const onnx_fetch_t *fetch,
                                    const onnx_payload_t *payload,
                                    survey_t surveys[N_KINDS]) {
  onnx_wire_cursor_t cursor = {payload->bytes, payload->begin, payload->end};
  onnx_wire_field_t field;
  kind_t kind;
  const char *wrong;
  while (next_elements(&cursor, &field, &kind, &wrong)) {
    survey_t *survey = &surveys[kind];
    if (field.type != kinds[kind].type && field.type != WIRE_BYTES)
      return fail_changed(fetch);
    /* An empty list or raw_data says nothing; an empty string does. */
    if (field.length == 0 && kind != STRING) continue;
    if (survey->n_fields++ == 0) survey->first = field;
    survey->n_bytes += field.length;
  }
  return wrong != NULL ? fail_changed(fetch) : MOEC_OK;
}

/* The one field that holds the elements; *out_none if there is none. */
static moec_status_t choose_kind(const onnx_fetch_t *fetch,
                                 const survey_t surveys[N_KINDS],
                                 kind_t *out_kind, bool *out_none) {
  *out_none = true;
  for (int k = 0; k < N_KINDS; k++) {
    if (surveys[k].n_fields == 0) continue;
    if (!*out_none)
      return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                        "tensor has both %s and %s", kinds[*out_kind].name,
                        kinds[k].name);
    *out_kind = (kind_t)k;
    *out_none = false;
  }
  kind_t typed = rules[fetch->info.dtype].kind;
  if (*out_none || *out_kind == typed) return MOEC_OK;
  if (*out_kind == RAW && fetch->info.dtype != DT_STR) return MOEC_OK;
  return FETCH_FAIL(
      fetch, MOEC_E_INVALID_MODEL, "elements of type %s are in %s, expected %s",
      dtype_name(fetch->info.dtype), kinds[*out_kind].name, kinds[typed].name);
}

static moec_status_t fail_count(const onnx_fetch_t *fetch, const char *unit,
                                kind_t kind, uint64_t found,
                                uint64_t expected) {
  char text[ONNX_TYPE_TEXT];
  return FETCH_FAIL(
      fetch, MOEC_E_INVALID_MODEL, "%s has %llu %s, expected %llu for %s",
      kinds[kind].name, (unsigned long long)found, unit,
      (unsigned long long)expected, onnx_info_text(&fetch->info, text));
}

/* ---- Numbers ------------------------------------------------------------ */

typedef struct numbers {
  const onnx_fetch_t *fetch;
  const rule_t *rule;
  uint8_t *out;
  uint64_t n, expected; /* values; those beyond are counted, not stored */
} numbers_t;

static void store_le(uint8_t *out, uint64_t value, unsigned width) {
  for (unsigned i = 0; i < width; i++) out[i] = (uint8_t)(value >> (8 * i));
}

static moec_status_t put_integer(numbers_t *numbers, uint64_t value) {
  const rule_t *rule = numbers->rule;
  int64_t number = (int64_t)value;
  if (number < rule->low || number > rule->high)
    return FETCH_FAIL(numbers->fetch, MOEC_E_INVALID_MODEL,
                      "value %llu of %s is %lld, outside [%lld, %lld] for %s",
                      (unsigned long long)numbers->n, kinds[rule->kind].name,
                      (long long)number, (long long)rule->low,
                      (long long)rule->high,
                      dtype_name(numbers->fetch->info.dtype));
  if (numbers->n < numbers->expected)
    store_le(numbers->out + numbers->n * rule->width, value, rule->width);
  numbers->n++;
  return MOEC_OK;
}

static moec_status_t put_integers(numbers_t *numbers, const uint8_t *bytes,
                                  const onnx_wire_field_t *field) {
  onnx_wire_cursor_t cursor = {bytes, field->begin,
                               field->begin + field->length};
  while (cursor.pos < cursor.end) {
    uint64_t value;
    const char *wrong = onnx_wire_varint(&cursor, &value);
    if (wrong != NULL)
      return FETCH_FAIL(numbers->fetch, MOEC_E_INVALID_MODEL,
                        "value %llu of %s: %s", (unsigned long long)numbers->n,
                        kinds[numbers->rule->kind].name, wrong);
    MOEC_TRY(put_integer(numbers, value));
  }
  return MOEC_OK;
}

/* Floats and doubles are little endian on the wire too. */
static moec_status_t put_floats(numbers_t *numbers, const uint8_t *bytes,
                                const onnx_wire_field_t *field) {
  unsigned width = numbers->rule->width;
  if (field->length % width != 0)
    return FETCH_FAIL(numbers->fetch, MOEC_E_INVALID_MODEL,
                      "%s has %zu bytes, not a multiple of %u",
                      kinds[numbers->rule->kind].name, field->length, width);
  uint64_t n = field->length / width;
  uint64_t room =
      numbers->n < numbers->expected ? numbers->expected - numbers->n : 0;
  memcpy(numbers->out + numbers->n * width * (room > 0), bytes + field->begin,
         (n < room ? n : room) * width);
  numbers->n += n;
  return MOEC_OK;
}

/* Values of all occurrences of the field, in order. */
static moec_status_t gather_numbers(const onnx_fetch_t *fetch,
                                    const onnx_payload_t *payload,
                                    numbers_t *numbers) {
  onnx_wire_cursor_t cursor = {payload->bytes, payload->begin, payload->end};
  onnx_wire_field_t field;
  kind_t kind;
  const char *wrong;
  bool integers = kinds[numbers->rule->kind].type == WIRE_VARINT;
  while (next_elements(&cursor, &field, &kind, &wrong)) {
    if (kind != numbers->rule->kind) continue;
    MOEC_TRY(integers ? put_integers(numbers, payload->bytes, &field)
                      : put_floats(numbers, payload->bytes, &field));
  }
  return wrong != NULL ? fail_changed(fetch) : MOEC_OK;
}

static moec_status_t fetch_numbers(const onnx_fetch_t *fetch,
                                   const onnx_payload_t *payload,
                                   const survey_t *survey, ir_data_t *out) {
  const rule_t *rule = &rules[fetch->info.dtype];
  const onnx_tensor_info_t *info = &fetch->info;
  numbers_t numbers = {
      .fetch = fetch, .rule = rule, .expected = n_values_of(rule, info->count)};
  bool fixed = kinds[rule->kind].type != WIRE_VARINT;
  if (fixed && survey->n_bytes != info->bytes)
    return fail_count(fetch, "bytes", rule->kind, survey->n_bytes, info->bytes);
  if (fixed && survey->n_fields == 1)
    return onnx_fetch_raw(fetch, payload->bytes + survey->first.begin, out);
  /* A value takes at least one byte: what is missing is missed before memory
   * is taken for it. */
  if (numbers.expected > survey->n_bytes)
    return fail_count(fetch, "values at most", rule->kind, survey->n_bytes,
                      numbers.expected);
  if (info->bytes > survey->n_bytes)
    MOEC_TRY(onnx_expand(fetch->model->store, info->bytes - survey->n_bytes,
                         fetch->loc, fetch->diag));
  uint8_t *bytes = arena_alloc(fetch->model->arena, (size_t)info->bytes);
  numbers.out = bytes;
  MOEC_TRY(gather_numbers(fetch, payload, &numbers));
  if (numbers.n != numbers.expected)
    return fail_count(fetch, "values", rule->kind, numbers.n, numbers.expected);
  return onnx_fetch_raw(fetch, bytes, out);
}

/* ---- Strings ------------------------------------------------------------ */

static moec_status_t fetch_string(const onnx_fetch_t *fetch,
                                  const uint8_t *bytes, size_t length,
                                  uint64_t index, const char **out) {
  size_t bad;
  if (onnx_wire_is_text(bytes, length, &bad)) {
    *out = arena_strndup(fetch->model->arena, (const char *)bytes, length);
    return MOEC_OK;
  }
  if (bytes[bad] == 0)
    return FETCH_FAIL(fetch, MOEC_E_UNSUPPORTED,
                      "string %llu contains NUL, which is not supported",
                      (unsigned long long)index);
  return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                    "string %llu is not UTF-8 (byte 0x%02x at %zu)",
                    (unsigned long long)index, bytes[bad], bad);
}

static moec_status_t fetch_strings(const onnx_fetch_t *fetch,
                                   const onnx_payload_t *payload,
                                   const survey_t *survey, ir_data_t *out) {
  uint64_t count = fetch->info.count, n = 0;
  if (survey->n_fields != count)
    return fail_count(fetch, "strings", STRING, survey->n_fields, count);
  /* A pointer and an allocation for what may be two bytes in the file. */
  MOEC_TRY(
      onnx_expand(fetch->model->store, 24 * count, fetch->loc, fetch->diag));
  const char **strings =
      ARENA_ARRAY(fetch->model->arena, const char *, (size_t)count);
  onnx_wire_cursor_t cursor = {payload->bytes, payload->begin, payload->end};
  onnx_wire_field_t field;
  kind_t kind;
  const char *wrong;
  while (next_elements(&cursor, &field, &kind, &wrong)) {
    if (kind != STRING) continue;
    if (n == count) return fail_changed(fetch);
    MOEC_TRY(fetch_string(fetch, payload->bytes + field.begin, field.length, n,
                          &strings[n]));
    n++;
  }
  if (wrong != NULL || n != count) return fail_changed(fetch);
  out->strings = strings;
  out->size = fetch->info.bytes;
  return MOEC_OK;
}

/* ---- Entry -------------------------------------------------------------- */

static moec_status_t fetch_nothing(const onnx_fetch_t *fetch, ir_data_t *out) {
  char text[ONNX_TYPE_TEXT];
  if (fetch->info.count > 0)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                      "tensor has no elements, expected %llu for %s",
                      (unsigned long long)fetch->info.count,
                      onnx_info_text(&fetch->info, text));
  if (fetch->info.dtype == DT_STR)
    out->strings = ARENA_ARRAY(fetch->model->arena, const char *, 0);
  else
    out->bytes = "";
  return MOEC_OK;
}

moec_status_t onnx_fetch_inline(const onnx_fetch_t *fetch,
                                const onnx_payload_t *payload, ir_data_t *out) {
  if (payload == NULL) return fetch_nothing(fetch, out);
  survey_t surveys[N_KINDS] = {0};
  kind_t kind = RAW;
  bool none;
  MOEC_TRY(survey_payload(fetch, payload, surveys));
  MOEC_TRY(choose_kind(fetch, surveys, &kind, &none));
  if (none) return fetch_nothing(fetch, out);
  const survey_t *survey = &surveys[kind];
  if (kind == STRING) return fetch_strings(fetch, payload, survey, out);
  if (kind != RAW) return fetch_numbers(fetch, payload, survey, out);
  if (survey->n_bytes != fetch->info.bytes || survey->n_fields != 1)
    return fail_count(fetch, "bytes", RAW, survey->n_bytes, fetch->info.bytes);
  return onnx_fetch_raw(fetch, payload->bytes + survey->first.begin, out);
}
