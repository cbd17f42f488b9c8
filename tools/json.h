/* JSON: reading texts of any bytes, writing. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include "ir/diag.h"

typedef enum {
  JSON_NULL,
  JSON_BOOL,
  JSON_NUMBER,
  JSON_STRING,
  JSON_ARRAY,
  JSON_OBJECT
} json_kind_t;

typedef struct json json_t;
struct json {
  json_kind_t kind;
  bool truth;        /* BOOL */
  double number;     /* NUMBER */
  const char *text;  /* STRING: UTF-8 without NUL; NUMBER: as it was written */
  size_t n;          /* ARRAY, OBJECT */
  json_t **items;    /* json_t*[n] */
  const char **keys; /* OBJECT: char*[n] */
};

/* Parses one value, with Python's NaN and Infinity as numbers. At most 64
 * values inside each other. MOEC_E_INVALID_MODEL with the byte offset. */
moec_status_t json_parse(arena_t *arena, const char *text, size_t length,
                         diag_sink_t *diag, const json_t **out_value);

/* The member of an object, the first of that name; NULL if there is none or
 * `value` is no object. `value` may be NULL. */
const json_t *json_get(const json_t *value, const char *key);

/* Append a value, or a string with quotes. Numbers that JSON does not have
 * (NaN, infinities) become null. */
void json_write(const json_t *value, text_t *out);
void json_write_string(const char *string, text_t *out);
void json_write_number(double number, text_t *out);

#endif
