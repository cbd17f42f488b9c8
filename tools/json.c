/* A reader of JSON by recursive descent, and a writer. */
#include "tools/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/npy_type.h"

enum { MAX_DEPTH = 64 };

typedef struct reader {
  arena_t *arena;
  diag_sink_t *diag;
  const char *text; /* NUL-terminated copy */
  size_t at, length;
  unsigned depth;
} reader_t;

static moec_status_t read_value(reader_t *r, json_t **out);

static moec_status_t malformed(const reader_t *r, const char *what) {
  return diag_error(
      r->diag, (ir_loc_t){.where = arena_printf(r->arena, "byte %zu", r->at)},
      MOEC_E_INVALID_MODEL, "not valid JSON: %s", what);
}

static void skip_space(reader_t *r) {
  while (r->at < r->length && strchr(" \t\r\n", r->text[r->at]) != NULL &&
         r->text[r->at] != '\0')
    r->at++;
}

static bool accept(reader_t *r, const char *word) {
  const size_t n = strlen(word);
  skip_space(r);
  if (r->length - r->at < n || memcmp(r->text + r->at, word, n) != 0)
    return false;
  r->at += n;
  return true;
}

/* ---- Strings ------------------------------------------------------------- */

static bool read_hex4(reader_t *r, uint32_t *out) {
  *out = 0;
  for (int i = 0; i < 4; i++, r->at++) {
    const char c = r->text[r->at]; /* the text ends with a NUL */
    const char *digits = "0123456789abcdefABCDEF";
    const char *digit = c != '\0' ? strchr(digits, c) : NULL;
    if (digit == NULL) return false;
    const uint32_t value = (uint32_t)(digit - digits);
    *out = *out << 4 | (value > 15 ? value - 6 : value);
  }
  return true;
}

/* What follows "\u": one code point, perhaps of two halves. A NUL becomes the
 * replacement character, as texts end with one. */
static bool read_unicode(reader_t *r, text_t *to) {
  uint32_t code, low;
  if (!read_hex4(r, &code)) return false;
  if (code >= 0xd800 && code < 0xdc00) {
    if (r->text[r->at] != '\\' || r->text[r->at + 1] != 'u') return false;
    r->at += 2;
    if (!read_hex4(r, &low) || low < 0xdc00 || low > 0xdfff) return false;
    code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
  }
  return npy_append_utf8(to, code == 0 ? 0xfffd : code);
}

static bool read_escape(reader_t *r, text_t *to) {
  static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  const char c = r->text[r->at];
  const char *name = c != '\0' ? strchr(names, c) : NULL;
  if (c != '\0') r->at++;
  if (c == 'u') return read_unicode(r, to);
  if (name == NULL) return false;
  text_append(to, &meanings[name - names], 1);
  return true;
}

static moec_status_t read_string(reader_t *r, const char **out) {
  text_t to;
  text_init(&to, r->arena);
  if (!accept(r, "\"")) return malformed(r, "expected a string");
  while (r->text[r->at] != '"') {
    const char *start = r->text + r->at, *end = start;
    uint32_t code;
    if ((unsigned char)*start < 0x20)
      return malformed(r, r->at < r->length ? "a control character in a string"
                                            : "the text ends inside a string");
    if (*start == '\\') {
      r->at++;
      if (!read_escape(r, &to)) return malformed(r, "an unknown escape");
    } else if (npy_next_utf8(&end, &code)) {
      text_append(&to, start, (size_t)(end - start));
      r->at += (size_t)(end - start);
    } else {
      return malformed(r, "a string is not UTF-8");
    }
  }
  r->at++;
  *out = to.data;
  return MOEC_OK;
}

/* ---- Other values -------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Steps over "-12.5e+3"; false if the syntax is not JSON's. */
static bool skip_number(const char **at) {
  const char *p = *at;
  if (*p == '-') p++;
  if (!is_digit(*p)) return false;
  if (*p == '0')
    p++;
  else
    while (is_digit(*p)) p++;
  if (*p == '.') {
    if (!is_digit(*++p)) return false;
    while (is_digit(*p)) p++;
  }
  if (*p == 'e' || *p == 'E') {
    p++;
    if (*p == '+' || *p == '-') p++;
    if (!is_digit(*p)) return false;
    while (is_digit(*p)) p++;
  }
  *at = p;
  return true;
}

static moec_status_t read_number(reader_t *r, json_t *value) {
  const char *start = r->text + r->at, *end = start;
  if (!skip_number(&end)) return malformed(r, "expected a value");
  value->kind = JSON_NUMBER;
  value->text = arena_strndup(r->arena, start, (size_t)(end - start));
  value->number = strtod(value->text, NULL);
  r->at += (size_t)(end - start);
  return MOEC_OK;
}

static void append_item(reader_t *r, json_t *value, const char *key,
                        json_t *item, size_t *capacity) {
  if (value->n == *capacity) {
    const size_t more = *capacity == 0 ? 4 : 2 * *capacity;
    value->items = arena_grow_array(r->arena, value->items, value->n, more,
                                    sizeof *value->items);
    value->keys = arena_grow_array(r->arena, value->keys, value->n, more,
                                   sizeof *value->keys);
    *capacity = more;
  }
  value->keys[value->n] = key;
  value->items[value->n++] = item;
}

/* The rest of an array or object, whose bracket has been read. */
static moec_status_t read_items(reader_t *r, json_t *value, const char *close) {
  const bool is_object = value->kind == JSON_OBJECT;
  size_t capacity = 0;
  if (++r->depth > MAX_DEPTH) return malformed(r, "too deeply nested");
  if (accept(r, close)) {
    r->depth--;
    return MOEC_OK;
  }
  do {
    const char *key = NULL;
    json_t *item = NULL;
    if (is_object) {
      MOEC_TRY(read_string(r, &key));
      if (!accept(r, ":")) return malformed(r, "expected ':'");
    }
    MOEC_TRY(read_value(r, &item));
    append_item(r, value, key, item, &capacity);
  } while (accept(r, ","));
  r->depth--;
  return accept(r, close) ? MOEC_OK : malformed(r, "expected ',' or an end");
}

static bool read_word(reader_t *r, json_t *value) {
  static const struct word {
    const char *text;
    json_kind_t kind;
    bool truth;
    double number;
  } words[] = {{"null", JSON_NULL, false, 0},
               {"true", JSON_BOOL, true, 0},
               {"false", JSON_BOOL, false, 0},
               {"NaN", JSON_NUMBER, false, (double)NAN},
               {"Infinity", JSON_NUMBER, false, (double)INFINITY},
               {"-Infinity", JSON_NUMBER, false, -(double)INFINITY}};
  for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (!accept(r, words[i].text)) continue;
    *value = (json_t){.kind = words[i].kind,
                      .truth = words[i].truth,
                      .number = words[i].number,
                      .text = words[i].text};
    return true;
  }
  return false;
}

static moec_status_t read_value(reader_t *r, json_t **out) {
  json_t *value = ARENA_NEW(r->arena, json_t);
  *out = value;
  if (read_word(r, value)) return MOEC_OK;
  switch (r->text[r->at]) {
    case '"':
      value->kind = JSON_STRING;
      return read_string(r, &value->text);
    case '[':
      r->at++;
      value->kind = JSON_ARRAY;
      return read_items(r, value, "]");
    case '{':
      r->at++;
      value->kind = JSON_OBJECT;
      return read_items(r, value, "}");
    default:
      return read_number(r, value);
  }
}

moec_status_t json_parse(arena_t *arena, const char *text, size_t length,
                         diag_sink_t *diag, const json_t **out_value) {
  /* arena_strndup would stop at a NUL. */
  char *copy = arena_alloc(arena, length + 1);
  if (length > 0) memcpy(copy, text, length);
  reader_t r = {.arena = arena, .diag = diag, .text = copy, .length = length};
  json_t *value = NULL;
  *out_value = NULL;
  MOEC_TRY(read_value(&r, &value));
  skip_space(&r);
  if (r.at != length) return malformed(&r, "the text goes on after the value");
  *out_value = value;
  return MOEC_OK;
}

const json_t *json_get(const json_t *value, const char *key) {
  if (value == NULL || value->kind != JSON_OBJECT) return NULL;
  for (size_t i = 0; i < value->n; i++)
    if (strcmp(value->keys[i], key) == 0) return value->items[i];
  return NULL;
}

/* ---- Writing ------------------------------------------------------------- */

void json_write_string(const char *string, text_t *out) {
  text_printf(out, "\"");
  for (; *string != '\0'; string++) {
    const unsigned char c = (unsigned char)*string;
    if (c == '"' || c == '\\')
      text_printf(out, "\\%c", c);
    else if (c < 0x20 || c == 0x7f)
      text_printf(out, "\\u%04x", c);
    else
      text_append(out, string, 1);
  }
  text_printf(out, "\"");
}

void json_write_number(double number, text_t *out) {
  if (isfinite(number))
    text_printf(out, "%.9g", number);
  else
    text_printf(out, "null");
}

static void write_items(const json_t *value, text_t *out) {
  const bool is_object = value->kind == JSON_OBJECT;
  text_printf(out, is_object ? "{" : "[");
  for (size_t i = 0; i < value->n; i++) {
    if (i > 0) text_printf(out, ",");
    if (is_object) {
      json_write_string(value->keys[i], out);
      text_printf(out, ":");
    }
    json_write(value->items[i], out);
  }
  text_printf(out, is_object ? "}" : "]");
}

void json_write(const json_t *value, text_t *out) {
  switch (value->kind) {
    case JSON_NULL:
      text_printf(out, "null");
      break;
    case JSON_BOOL:
      text_printf(out, value->truth ? "true" : "false");
      break;
    case JSON_NUMBER:
      if (is_digit(value->text[0]) || is_digit(value->text[1]))
        text_printf(out, "%s", value->text);
      else /* NaN, Infinity, -Infinity */
        text_printf(out, "null");
      break;
    case JSON_STRING:
      json_write_string(value->text, out);
      break;
    default:
      write_items(value, out);
  }
}
