/* Tokens of the text form: words, numbers, strings, sizes, types. */
#include <math.h>
#include <string.h>

#include "ir/literal.h"
#include "ir/parse.h"

/* Lines are counted once, forwards, as far as places are asked for. */
ir_loc_t parse_place(parser_t *p) {
  if (p->counted > p->at) {
    p->counted = p->text;
    p->line = 1;
  }
  for (; p->counted < p->at; p->counted++) p->line += *p->counted == '\n';
  return (ir_loc_t){.where = arena_printf(p->arena, "line %u", p->line)};
}

moec_status_t parse_error(parser_t *p, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, again);
  va_end(again);
  char *message = arena_alloc(p->arena, (size_t)(length < 0 ? 0 : length) + 1);
  if (length > 0) vsnprintf(message, (size_t)length + 1, format, args);
  va_end(args);
  return diag_error(p->diag, parse_place(p), MOEC_E_INVALID_MODEL, "%s",
                    message);
}

moec_status_t parse_expected(parser_t *p, const char *what) {
  char found[24] = {0};
  size_t n = 0;
  parse_skip(p);
  if (p->at >= p->end)
    return parse_error(p, "expected %s but found the end of the text", what);
  for (const char *c = p->at; c < p->end && n + 1 < sizeof found; c++) {
    if (*c == '\0' || *c == '\n') break;
    if (n > 0 && strchr(" ,(){}[]=:", *c) != NULL) break;
    found[n++] = *c;
  }
  if (n == 0) return parse_error(p, "expected %s but found a zero byte", what);
  return parse_error(p, "expected %s but found '%s'", what, found);
}

void parse_skip(parser_t *p) {
  for (;;) {
    while (p->at < p->end && *p->at != '\0' && strchr(" \t\r\n", *p->at))
      p->at++;
    if (p->at[0] != '/' || p->at[1] != '/') return;
    while (p->at < p->end && *p->at != '\n') p->at++;
  }
}

bool parse_peek(parser_t *p, char c) {
  parse_skip(p);
  return p->at < p->end && *p->at == c;
}

bool parse_accept(parser_t *p, char c) {
  if (!parse_peek(p, c)) return false;
  p->at++;
  return true;
}

moec_status_t parse_expect(parser_t *p, char c) {
  const char what[] = {'\'', c, '\'', '\0'};
  return parse_accept(p, c) ? MOEC_OK : parse_expected(p, what);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_word_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         c == '_' || c == '.';
}

token_t parse_word(parser_t *p, const char *also) {
  parse_skip(p);
  token_t token = {p->at, 0};
  while (is_word_char(*p->at) || (*p->at != '\0' && strchr(also, *p->at)))
    p->at++;
  token.length = (size_t)(p->at - token.text);
  return token;
}

bool token_is(token_t token, const char *word) {
  return strlen(word) == token.length &&
         memcmp(token.text, word, token.length) == 0;
}

bool parse_accept_word(parser_t *p, const char *word) {
  parse_skip(p);
  const char *start = p->at;
  if (token_is(parse_word(p, ""), word)) return true;
  p->at = start;
  return false;
}

/* ---- Numbers ------------------------------------------------------------ */

moec_status_t parse_unsigned(parser_t *p, uint64_t *out_value) {
  uint64_t value = 0, base = 10;
  parse_skip(p);
  *out_value = 0;
  if (!is_digit(*p->at)) return parse_expected(p, "a number");
  if (p->at[0] == '0' && p->at[1] == 'x') {
    base = 16;
    p->at += 2;
  }
  const char *start = p->at;
  for (;; p->at++) {
    char c = *p->at;
    unsigned digit = is_digit(c) ? (unsigned)(c - '0')
                     : base == 16 && c >= 'a' && c <= 'f'
                         ? 10u + (unsigned)(c - 'a')
                         : 99;
    if (digit == 99) break;
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_add_overflow(value, digit, &value))
      return parse_error(p, "the number is too large");
  }
  if (p->at == start) return parse_expected(p, "a digit");
  *out_value = value;
  return MOEC_OK;
}

moec_status_t parse_int(parser_t *p, int64_t *out_value) {
  bool negative = parse_accept(p, '-');
  uint64_t magnitude;
  *out_value = 0;
  MOEC_TRY(parse_unsigned(p, &magnitude));
  if (magnitude > (uint64_t)INT64_MAX + negative)
    return parse_error(p, "the number is too large");
  *out_value = (int64_t)(negative ? 0 - magnitude : magnitude);
  return MOEC_OK;
}

moec_status_t parse_double(parser_t *p, double *out_value) {
  *out_value = NAN;
  parse_skip(p);
  if (parse_accept_word(p, "nan")) return MOEC_OK;
  bool negative = p->at[0] == '-' && p->at[1] == 'i';
  if (negative) p->at++;
  *out_value = negative ? -(double)INFINITY : (double)INFINITY;
  if (parse_accept_word(p, "inf")) return MOEC_OK;
  const char *start = p->at;
  while (*p->at != '\0' && strchr("+-.0123456789eE", *p->at)) p->at++;
  if (literal_read_double(start, (size_t)(p->at - start), out_value))
    return MOEC_OK;
  p->at = start;
  return parse_expected(p, "a finite number, inf or nan");
}

moec_status_t parse_expr(parser_t *p, const expr_t **out_expr) {
  parse_skip(p);
  const char *cursor = p->at;
  *out_expr = expr_parse(p->module->exprs, &cursor, !p->declared);
  if (*out_expr == NULL)
    return parse_expected(
        p, p->declared ? "a size over declared symbols" : "a size");
  p->at = cursor;
  return MOEC_OK;
}

/* ---- Strings ------------------------------------------------------------ */

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character after a backslash, -1 if there is none such. */
static int read_escape(parser_t *p) {
  char c = *p->at++;
  if (c == '"' || c == '\\') return c;
  if (c == 'n') return '\n';
  if (c != 'x') return -1;
  int high = hex_digit(p->at[0]);
  int low = high < 0 ? -1 : hex_digit(p->at[1]);
  if (low < 0) return -1;
  p->at += 2;
  return high * 16 + low;
}

moec_status_t parse_string(parser_t *p, const char **out_string) {
  *out_string = "";
  if (!parse_peek(p, '"')) return parse_expected(p, "a string");
  const char *close = p->at + 1;
  while (close < p->end && *close != '"' && *close != '\n')
    close += close[0] == '\\' && close + 1 < p->end ? 2 : 1;
  if (close >= p->end || *close != '"')
    return parse_error(p, "the string does not end on its line");
  char *string = arena_alloc(p->arena, (size_t)(close - p->at));
  size_t n = 0;
  p->at++;
  while (p->at < close) {
    int c = (unsigned char)*p->at++;
    if (c == '\\') c = read_escape(p);
    if (c < 0) return parse_error(p, "the string has an unknown escape");
    if (c == 0) return parse_error(p, "the string has a zero byte");
    string[n++] = (char)c;
  }
  p->at = close + 1;
  *out_string = string;
  return MOEC_OK;
}

/* ---- Types -------------------------------------------------------------- */

moec_status_t parse_dtype(parser_t *p, dtype_t *out_dtype) {
  parse_skip(p);
  const char *start = p->at;
  token_t word = parse_word(p, "");
  *out_dtype = dtype_by_name(word.text, word.length);
  if (*out_dtype != DT_NONE) return MOEC_OK;
  p->at = start;
  return parse_expected(p, "an element type");
}

static moec_status_t parse_dims(parser_t *p, ir_type_t *type) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = 0;
  MOEC_TRY(parse_expect(p, '['));
  while (!parse_accept(p, ']')) {
    int64_t value;
    if (rank > 0) MOEC_TRY(parse_expect(p, ','));
    if (rank == IR_MAX_RANK)
      return parse_error(p, "the rank exceeds the limit of %d", IR_MAX_RANK);
    MOEC_TRY(parse_expr(p, &dim[rank]));
    if (expr_is_const(dim[rank], &value) && value < 0)
      return parse_error(p, "dimension %u is negative", rank);
    rank++;
  }
  type->rank = rank;
  type->dim = arena_grow_array(p->arena, dim, rank, rank, sizeof dim[0]);
  return MOEC_OK;
}

moec_status_t parse_type(parser_t *p, ir_type_t *out_type) {
  ir_type_t *type = out_type;
  *out_type = (ir_type_t){0};
  for (unsigned depth = 0;; depth++) {
    bool sequence = parse_accept_word(p, "seq");
    if (!sequence && !parse_accept_word(p, "opt")) break;
    if (depth == PARSE_MAX_DEPTH)
      return parse_error(p, "the type is nested more than %d deep",
                         PARSE_MAX_DEPTH);
    ir_type_t *elem = ARENA_NEW(p->arena, ir_type_t);
    *type =
        (ir_type_t){.kind = sequence ? IR_SEQUENCE : IR_OPTIONAL, .elem = elem};
    type = elem;
  }
  if (type == out_type && parse_accept_word(p, "buf")) {
    type->kind = IR_BUFFER;
    return parse_dtype(p, &type->dtype);
  }
  MOEC_TRY(parse_dtype(p, &type->dtype));
  return parse_dims(p, type);
}
