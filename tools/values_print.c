/* Values and their types as text. */
#include <string.h>

#include "ir/element.h"
#include "tools/values.h"

static const char *type_name(int32_t dtype) {
  return dtype > 0 && dtype < DT_COUNT ? dtype_name((dtype_t)dtype) : "?";
}

const char *value_type_text(arena_t *arena, const onnx_value_t *value) {
  text_t text;
  text_init(&text, arena);
  if (value->kind == IR_SEQUENCE) {
    text_printf(&text, "sequence of %zu", value->n_elems);
    return text.data;
  }
  if (value->kind == IR_OPTIONAL)
    return value->n_elems > 0 ? "optional with a value" : "empty optional";
  text_printf(&text, "%s[", dtype_name(value->dtype));
  for (unsigned i = 0; i < value->rank; i++)
    text_printf(&text, "%s%lld", i > 0 ? "," : "", (long long)value->dims[i]);
  text_printf(&text, "]");
  return text.data;
}

const char *value_index_text(arena_t *arena, const onnx_value_t *value,
                             uint64_t index) {
  int64_t at[IR_MAX_RANK];
  text_t text;
  for (unsigned i = value->rank; i-- > 0;) {
    at[i] = (int64_t)(index % (uint64_t)value->dims[i]);
    index /= (uint64_t)value->dims[i];
  }
  text_init(&text, arena);
  text_printf(&text, "[");
  for (unsigned i = 0; i < value->rank; i++)
    text_printf(&text, "%s%lld", i > 0 ? "," : "", (long long)at[i]);
  text_printf(&text, "]");
  return text.data;
}

static void append_name(text_t *out, const char *name) {
  diag_escape(out, name, strlen(name));
}

const char *io_type_text(arena_t *arena, const moec_io_t *io) {
  text_t text;
  text_init(&text, arena);
  if (io->kind == MOEC_SEQUENCE) text_printf(&text, "sequence of ");
  if (io->kind == MOEC_OPTIONAL) text_printf(&text, "optional ");
  text_printf(&text, "%s[", type_name(io->dtype));
  for (int32_t i = 0; i < io->rank; i++) {
    const bool named = io->dim_names != NULL && io->dim_names[i] != NULL &&
                       io->dim_names[i][0] != '\0';
    if (i > 0) text_printf(&text, ",");
    if (io->dims[i] >= 0)
      text_printf(&text, "%lld", (long long)io->dims[i]);
    else if (named)
      append_name(&text, io->dim_names[i]);
    else
      text_printf(&text, "?");
  }
  text_printf(&text, "]");
  return text.data;
}

static void append_string(text_t *out, const char *string) {
  enum { MOST = 40 };
  const size_t length = strnlen(string, MOST + 1);
  text_printf(out, "\"");
  diag_escape(out, string, length > MOST ? MOST : length);
  text_printf(out, length > MOST ? "...\"" : "\"");
}

void value_append_element(text_t *out, const onnx_value_t *value,
                          uint64_t index) {
  const void *bytes = value->data->bytes;
  switch (dtype_class(value->dtype)) {
    case DT_CLASS_STRING:
      append_string(out, value->data->strings[index]);
      break;
    case DT_CLASS_BOOL:
      text_printf(out, "%s",
                  ir_element_int(DT_BOOL, bytes, index) ? "true" : "false");
      break;
    case DT_CLASS_SIGNED:
      text_printf(out, "%lld",
                  (long long)ir_element_int(value->dtype, bytes, index));
      break;
    case DT_CLASS_UNSIGNED:
      text_printf(
          out, "%llu",
          (unsigned long long)ir_element_int(value->dtype, bytes, index));
      break;
    case DT_CLASS_COMPLEX: {
      const dtype_t part = value->dtype == DT_C64 ? DT_F32 : DT_F64;
      text_printf(out, "%.9g%+.9gi", ir_element_float(part, bytes, 2 * index),
                  ir_element_float(part, bytes, 2 * index + 1));
      break;
    }
    default:
      text_printf(out, value->dtype == DT_F64 ? "%.17g" : "%.9g",
                  ir_element_float(value->dtype, bytes, index));
  }
}

void value_print_summary(FILE *out, arena_t *arena, const char *name,
                         const onnx_value_t *value, unsigned max_elements) {
  text_t text;
  text_init(&text, arena);
  append_name(&text, name);
  text_printf(&text, ": %s", value_type_text(arena, value));
  if (value->kind == IR_TENSOR) {
    const uint64_t count = value_count(value);
    text_printf(&text, " =");
    for (uint64_t i = 0; i < count && i < max_elements; i++) {
      text_printf(&text, " ");
      value_append_element(&text, value, i);
    }
    if (count > max_elements) text_printf(&text, " ...");
    if (count == 0) text_printf(&text, " (no elements)");
  }
  fprintf(out, "%s\n", text.data);
  for (size_t i = 0; i < value->n_elems; i++)
    value_print_summary(out, arena, arena_printf(arena, "%s[%zu]", name, i),
                        value->elems[i], max_elements);
}
