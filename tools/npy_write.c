/* Writing of .npy files. */
#include <string.h>

#include "tools/npy.h"
#include "tools/npy_type.h"

static uint64_t count_elements(const onnx_value_t *value) {
  uint64_t count = 1;
  for (unsigned i = 0; i < value->rank; i++) count *= (uint64_t)value->dims[i];
  return count;
}

/* The number of characters of the longest string, at least 1. */
static moec_status_t string_width(const onnx_value_t *value, uint64_t count,
                                  diag_sink_t *diag, size_t *out) {
  *out = 1;
  for (uint64_t i = 0; i < count; i++) {
    size_t n = 0;
    uint32_t code;
    for (const char *at = value->data->strings[i]; *at != '\0'; n++)
      if (!npy_next_utf8(&at, &code))
        return diag_error(diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED,
                          "a string is not UTF-8, which .npy files need");
    if (n > *out) *out = n;
  }
  return MOEC_OK;
}

/* Appends the header; the elements that follow are aligned to 64 bytes. */
static void append_header(const char *spelling, const onnx_value_t *value,
                          text_t *out) {
  enum { PREFIX = 10, ALIGN = 64 };
  text_t header;
  text_init(&header, out->arena);
  text_printf(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (",
              spelling);
  for (unsigned i = 0; i < value->rank; i++)
    text_printf(&header, "%s%lld", i > 0 ? ", " : "",
                (long long)value->dims[i]);
  text_printf(&header, "%s), }", value->rank == 1 ? "," : "");
  while ((PREFIX + header.length + 1) % ALIGN != 0) text_printf(&header, " ");
  text_printf(&header, "\n");
  const char prefix[PREFIX] = {
      '\x93',
      'N',
      'U',
      'M',
      'P',
      'Y',
      1,
      0,
      (char)(header.length & 0xff),
      (char)(header.length >> 8)}; /* at most 32 dimensions: below 64 KiB */
  text_append(out, prefix, PREFIX);
  text_append(out, header.data, header.length);
}

static void append_strings(const onnx_value_t *value, uint64_t count,
                           size_t width, text_t *out) {
  for (uint64_t i = 0; i < count; i++) {
    const char *at = value->data->strings[i];
    for (size_t j = 0; j < width; j++) {
      uint32_t code = 0;
      if (*at != '\0') npy_next_utf8(&at, &code);
      text_append(out, (const char *)&code, sizeof code);
    }
  }
}

/* One byte per element, signed types extended by their sign. */
static void append_unpacked(const onnx_value_t *value, uint64_t count,
                            text_t *out) {
  const unsigned bits = dtype_bits(value->dtype);
  const bool is_signed = dtype_class(value->dtype) == DT_CLASS_SIGNED;
  const unsigned char *from = value->data->bytes;
  for (uint64_t i = 0; i < count; i++) {
    unsigned element = from[i * bits / 8] >> i * bits % 8;
    element &= (1u << bits) - 1;
    if (is_signed && element >> (bits - 1) != 0) element |= 0xffu << bits;
    const char byte = (char)(element & 0xff);
    text_append(out, &byte, 1);
  }
}

moec_status_t npy_encode(const onnx_value_t *value, diag_sink_t *diag,
                         text_t *out) {
  if (value->kind != IR_TENSOR)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED,
                      "a .npy file can hold a tensor only; use the form pb");
  const uint64_t count = count_elements(value);
  if (value->dtype == DT_STR) {
    size_t width = 0;
    char spelling[32];
    MOEC_TRY(string_width(value, count, diag, &width));
    snprintf(spelling, sizeof spelling, "<U%zu", width);
    append_header(spelling, value, out);
    append_strings(value, count, width, out);
    return MOEC_OK;
  }
  append_header(npy_type_spelling(value->dtype), value, out);
  if (dtype_bits(value->dtype) < 8)
    append_unpacked(value, count, out);
  else
    text_append(out, value->data->bytes, (size_t)value->data->size);
  return MOEC_OK;
}
