/* Text of numbers, strings and tensor data. */
#include "ir/literal.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/element.h"

void literal_print_string(text_t *out, const char *string) {
  text_append(out, "\"", 1);
  for (const char *p = string; *p != '\0'; p++) {
    unsigned char c = (unsigned char)*p;
    if (c == '"' || c == '\\')
      text_printf(out, "\\%c", c);
    else if (c == '\n')
      text_append(out, "\\n", 2);
    else if (c < 0x20 || c >= 0x7f)
      text_printf(out, "\\x%02x", c);
    else
      text_append(out, p, 1);
  }
  text_append(out, "\"", 1);
}

/* The application's locale may have another decimal point. */
static locale_t enter_c_locale(locale_t *out_old) {
  locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  if (c == (locale_t)0) moec_leave(MOEC_E_NO_MEMORY, "no memory for a locale");
  *out_old = uselocale(c);
  return c;
}

static void leave_c_locale(locale_t c, locale_t old) {
  uselocale(old);
  freelocale(c);
}

bool literal_read_double(const char *text, size_t length, double *out_x) {
  char buffer[64];
  locale_t old;
  *out_x = 0;
  if (length == 0 || length >= sizeof buffer) return false;
  memcpy(buffer, text, length);
  buffer[length] = '\0';
  if (strspn(buffer, "+-.0123456789eE") != length) return false;
  locale_t c = enter_c_locale(&old);
  char *end;
  *out_x = strtod(buffer, &end);
  leave_c_locale(c, old);
  return end == buffer + length && isfinite(*out_x);
}

/* Whether y stands for x in a type: reading y gives the element x. */
static bool same_element(dtype_t dtype, double x, double y) {
  unsigned char a[16] = {0}, b[16] = {0};
  ir_element_set_float(dtype, a, 0, x);
  ir_element_set_float(dtype, b, 0, y);
  return memcmp(a, b, sizeof a) == 0;
}

static void print_float(text_t *out, dtype_t dtype, double x) {
  static const int digits[] = {6, 9, 17};
  char buffer[40];
  if (isnan(x) || isinf(x)) {
    text_printf(out, "%s", isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
    return;
  }
  locale_t old, c = enter_c_locale(&old);
  for (unsigned i = 0; i < sizeof digits / sizeof digits[0]; i++) {
    snprintf(buffer, sizeof buffer, "%.*g", digits[i], x);
    if (same_element(dtype, x, strtod(buffer, NULL))) break;
  }
  leave_c_locale(c, old);
  bool integral = strpbrk(buffer, ".e") == NULL;
  text_printf(out, "%s%s", buffer, integral ? ".0" : "");
}

void literal_print_double(text_t *out, double x) {
  print_float(out, DT_F64, x);
}

/* ---- Data --------------------------------------------------------------- */

/* Real or imaginary part: element of twice as many floats. */
static dtype_t part_of(dtype_t dtype) {
  return dtype == DT_C64 ? DT_F32 : dtype == DT_C128 ? DT_F64 : dtype;
}

/* Whether decimals say all about the bytes: no odd NaN, no padding, no bool but
 * 0 and 1. */
static bool decimals_suffice(dtype_t dtype, uint64_t count,
                             const ir_data_t *data) {
  unsigned char again[8 * LITERAL_MAX_INLINE_INTS] = {0};
  _Static_assert(sizeof again >= 16 * LITERAL_MAX_INLINE, "c128 fits");
  if (dtype_class(dtype) == DT_CLASS_COMPLEX) count *= 2;
  dtype = part_of(dtype);
  bool is_float = dtype_is_float(dtype);
  for (uint64_t i = 0; i < count; i++) {
    if (is_float || dtype == DT_BOOL) {
      double x = ir_element_float(dtype, data->bytes, i);
      ir_element_set_float(dtype, again, i, isnan(x) ? (double)NAN : x);
    } else {
      int64_t v = ir_element_int(dtype, data->bytes, i);
      ir_element_set_int(dtype, again, i, v);
    }
  }
  return data->size == 0 || memcmp(again, data->bytes, data->size) == 0;
}

static void print_element(text_t *out, dtype_t dtype, const void *bytes,
                          uint64_t i) {
  switch (dtype_class(dtype)) {
    case DT_CLASS_FLOAT:
      print_float(out, dtype, ir_element_float(dtype, bytes, i));
      break;
    case DT_CLASS_COMPLEX: {
      dtype_t part = part_of(dtype);
      text_append(out, "(", 1);
      print_float(out, part, ir_element_float(part, bytes, 2 * i));
      text_append(out, ", ", 2);
      print_float(out, part, ir_element_float(part, bytes, 2 * i + 1));
      text_append(out, ")", 1);
      break;
    }
    case DT_CLASS_BOOL:
      text_printf(out, "%s",
                  ir_element_int(dtype, bytes, i) ? "true" : "false");
      break;
    case DT_CLASS_UNSIGNED:
      text_printf(out, "%llu",
                  (unsigned long long)ir_element_int(dtype, bytes, i));
      break;
    default:
      text_printf(out, "%lld", (long long)ir_element_int(dtype, bytes, i));
  }
}

static void print_hex(text_t *out, const ir_data_t *data) {
  const unsigned char *bytes = data->bytes;
  text_printf(out, "hex(\"");
  for (uint64_t i = 0; i < data->size; i++) text_printf(out, "%02x", bytes[i]);
  text_printf(out, "\")");
}

static void print_digest(text_t *out, ir_data_t *data, const char *data_dir) {
  text_printf(out, "digest(0x%016llx, %llu)",
              (unsigned long long)ir_data_digest(data),
              (unsigned long long)data->size);
  if (data_dir == NULL) return;
  const char *problem = literal_write_file(out->arena, data_dir, data);
  if (problem != NULL) text_printf(out, " // not written: %s\n   ", problem);
}

void literal_print_data(text_t *out, dtype_t dtype, uint64_t count,
                        ir_data_t *data, const char *data_dir) {
  bool integers = dtype_is_integer(dtype) || dtype == DT_BOOL;
  if (count > (integers ? LITERAL_MAX_INLINE_INTS : LITERAL_MAX_INLINE) ||
      data->size != dtype_bytes(dtype, count) ||
      (dtype == DT_STR) != (data->strings != NULL && count > 0)) {
    print_digest(out, data, data_dir);
    return;
  }
  if (dtype != DT_STR && !decimals_suffice(dtype, count, data)) {
    print_hex(out, data);
    return;
  }
  text_append(out, "[", 1);
  for (uint64_t i = 0; i < count; i++) {
    if (i > 0) text_append(out, ", ", 2);
    if (dtype == DT_STR)
      literal_print_string(out, data->strings[i]);
    else
      print_element(out, dtype, data->bytes, i);
  }
  text_append(out, "]", 1);
}
