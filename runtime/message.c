/* Failures: the message slot of an instance and what generated code reports. */
#include <stdarg.h>

#include "runtime/runtime.h"

typedef struct text {
  char *bytes;
  size_t used; /* without the terminator; below RT_MESSAGE_BYTES */
} text_t;

static void put_string(text_t *text, const char *string) {
  while (*string != '\0' && text->used < RT_MESSAGE_BYTES - 1)
    text->bytes[text->used++] = *string++;
}

static void put_number(text_t *text, int64_t number) {
  char digits[24];
  size_t at = sizeof digits - 1;
  digits[at] = '\0';
  uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
  do {
    digits[--at] = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest != 0);
  if (number < 0) digits[--at] = '-';
  put_string(text, digits + at);
}

static void put_format(text_t *text, const char *format, va_list args) {
  char one[2] = {0};
  for (; *format != '\0'; format++) {
    if (format[0] == '%' && format[1] == 's') {
      put_string(text, va_arg(args, const char *));
      format++;
    } else if (format[0] == '%' && format[1] == 'd') {
      put_number(text, va_arg(args, int64_t));
      format++;
    } else {
      one[0] = *format;
      put_string(text, one);
    }
  }
}

static moec_status_t record(moec_instance_t *it, int32_t node,
                            moec_status_t status, const char *format,
                            va_list args) {
  text_t text = {.bytes = it->message};
  if (node >= 0 && (uint32_t)node < moert_program.n_nodes) {
    put_string(&text, moert_program.nodes[node]);
    put_string(&text, ": ");
  }
  put_format(&text, format, args);
  it->message[text.used] = '\0';
  it->status = status;
  return status;
}

moec_status_t report(moec_instance_t *it, moec_status_t status,
                     const char *format, ...) {
  va_list args;
  va_start(args, format);
  record(it, -1, status, format, args);
  va_end(args);
  return status;
}

moec_status_t report_at(moec_instance_t *it, int32_t node, moec_status_t status,
                        const char *format, ...) {
  va_list args;
  va_start(args, format);
  record(it, node, status, format, args);
  va_end(args);
  return status;
}

moec_status_t report_status(moec_instance_t *it, int32_t node, int32_t status) {
  switch (status) {
#define STATUS(id, value, exit_code, text) \
  case value:                              \
    return report_at(it, node, MOEC_##id, "%s", text);
#include "moec/status.def"
    default:
      return report_at(it, node, MOEC_E_INTERNAL, "unknown status %d",
                       (int64_t)status);
  }
}

int32_t moert_status(moert_frame_t *frame) {
  moec_instance_t *it = frame->instance;
  if (it->status != MOEC_OK) return (int32_t)it->status;
  if (frame->error != 0) return moert_fail_assert(frame, -1);
  return (int32_t)report(it, MOEC_E_INTERNAL, "a failure left no status");
}

int32_t moert_fail_assert(moert_frame_t *frame, int32_t node) {
  int32_t status = frame->error != 0 ? frame->error : (int32_t)MOEC_E_INTERNAL;
  return (int32_t)report_status(frame->instance, node, status);
}

int32_t moert_fail_bind(moert_frame_t *frame, int32_t node, const char *symbol,
                        int64_t value, int64_t lower, int64_t upper) {
  return (int32_t)report_at(frame->instance, node, MOEC_E_VALUE,
                            "%s is %d, outside its range of %d to %d", symbol,
                            value, lower, upper);
}

int32_t moert_fail_equal(moert_frame_t *frame, int32_t node, const char *what,
                         int64_t a, int64_t b) {
  return (int32_t)report_at(frame->instance, node, MOEC_E_SHAPE,
                            "%s must be equal but are %d and %d", what, a, b);
}

int32_t moert_fail_overflow(moert_frame_t *frame, int32_t node) {
  return (int32_t)report_at(frame->instance, node, MOEC_E_LIMIT,
                            "a size exceeds 2^63 - 1");
}
