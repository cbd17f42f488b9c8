/* Typed access to the attributes of a node. */
#include <math.h>
#include <string.h>

#include "frontend/convert.h"

#define TYPE(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

static const char *type_name(Onnx__AttributeProto__AttributeType type) {
  const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
      &onnx__attribute_proto__attribute_type__descriptor, (int)type);
  return value != NULL ? value->name : "UNDEFINED";
}

static node_attr_t *find(convert_ctx_t *ctx, const char *name) {
  for (unsigned i = 0; i < ctx->n_attrs; i++)
    if (strcmp(ctx->attrs[i].name, name) == 0) return &ctx->attrs[i];
  return NULL;
}

/* The attribute if it is there and of the right type. */
static const Onnx__AttributeProto *get(
    convert_ctx_t *ctx, const char *name,
    Onnx__AttributeProto__AttributeType type) {
  node_attr_t *attr = find(ctx, name);
  if (attr == NULL) return NULL;
  attr->read = true;
  if (attr->proto->type == type && attr->proto->has_type) return attr->proto;
  ctx_invalid(ctx, "attribute \"%s\" has type %s, expected %s", name,
              type_name(attr->proto->type), type_name(type));
  return NULL;
}

bool attr_has(convert_ctx_t *ctx, const char *name) {
  return find(ctx, name) != NULL;
}

void attr_ignore(convert_ctx_t *ctx, const char *name) {
  node_attr_t *attr = find(ctx, name);
  if (attr != NULL) attr->read = true;
}

int64_t attr_int(convert_ctx_t *ctx, const char *name, int64_t otherwise) {
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(INT));
  return attr != NULL ? attr->i : otherwise;
}

int64_t attr_int_required(convert_ctx_t *ctx, const char *name) {
  if (!attr_has(ctx, name))
    ctx_invalid(ctx, "required attribute \"%s\" is missing", name);
  return attr_int(ctx, name, 0);
}

bool attr_bool(convert_ctx_t *ctx, const char *name, bool otherwise) {
  int64_t value = attr_int(ctx, name, otherwise);
  if (value != 0 && value != 1)
    ctx_invalid(ctx, "attribute \"%s\" is %lld, expected 0 or 1", name,
                (long long)value);
  return value != 0;
}

double attr_float_any(convert_ctx_t *ctx, const char *name, double otherwise) {
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(FLOAT));
  return attr != NULL ? (double)attr->f : otherwise;
}

double attr_float(convert_ctx_t *ctx, const char *name, double otherwise) {
  double value = attr_float_any(ctx, name, otherwise);
  if (isfinite(value)) return value;
  ctx_invalid(ctx, "attribute \"%s\" is not a finite number", name);
  return otherwise;
}

static const char *text_of(convert_ctx_t *ctx, const char *name,
                           const ProtobufCBinaryData *bytes) {
  if (bytes->len == 0) return "";
  if (memchr(bytes->data, 0, bytes->len) != NULL) {
    ctx_invalid(ctx, "attribute \"%s\" contains a zero byte", name);
    return "";
  }
  return arena_strndup(ctx->arena, (const char *)bytes->data, bytes->len);
}

const char *attr_str(convert_ctx_t *ctx, const char *name,
                     const char *otherwise) {
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(STRING));
  return attr != NULL ? text_of(ctx, name, &attr->s) : otherwise;
}

/* Lists are used as unsigned counts of elements. */
static bool list_fits(convert_ctx_t *ctx, const char *name, size_t n) {
  if (n < UINT32_MAX / 2) return true;
  ctx_error(ctx, MOEC_E_LIMIT, "attribute \"%s\" has too many elements", name);
  return false;
}

const int64_t *attr_ints(convert_ctx_t *ctx, const char *name,
                         unsigned *out_n) {
  *out_n = 0;
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(INTS));
  if (attr == NULL || !list_fits(ctx, name, attr->n_ints)) return NULL;
  *out_n = (unsigned)attr->n_ints;
  return attr->n_ints > 0 ? attr->ints : ARENA_ARRAY(ctx->arena, int64_t, 1);
}

const double *attr_floats(convert_ctx_t *ctx, const char *name,
                          unsigned *out_n) {
  *out_n = 0;
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(FLOATS));
  if (attr == NULL || !list_fits(ctx, name, attr->n_floats)) return NULL;
  double *values = ARENA_ARRAY(ctx->arena, double, attr->n_floats + 1);
  for (size_t i = 0; i < attr->n_floats; i++)
    values[i] = (double)attr->floats[i];
  *out_n = (unsigned)attr->n_floats;
  return values;
}

const char *const *attr_strs(convert_ctx_t *ctx, const char *name,
                             unsigned *out_n) {
  *out_n = 0;
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(STRINGS));
  if (attr == NULL || !list_fits(ctx, name, attr->n_strings)) return NULL;
  const char **values =
      ARENA_ARRAY(ctx->arena, const char *, attr->n_strings + 1);
  for (size_t i = 0; i < attr->n_strings; i++)
    values[i] = text_of(ctx, name, &attr->strings[i]);
  *out_n = (unsigned)attr->n_strings;
  return values;
}

const Onnx__TensorProto *attr_tensor(convert_ctx_t *ctx, const char *name) {
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(TENSOR));
  if (attr == NULL) return NULL;
  if (attr->t == NULL) ctx_invalid(ctx, "attribute \"%s\" has no tensor", name);
  return attr->t;
}

const Onnx__SparseTensorProto *attr_sparse(convert_ctx_t *ctx,
                                           const char *name) {
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(SPARSE_TENSOR));
  if (attr == NULL) return NULL;
  if (attr->sparse_tensor == NULL)
    ctx_invalid(ctx, "attribute \"%s\" has no tensor", name);
  return attr->sparse_tensor;
}

const Onnx__GraphProto *attr_graph(convert_ctx_t *ctx, const char *name) {
  const Onnx__AttributeProto *attr = get(ctx, name, TYPE(GRAPH));
  if (attr == NULL || attr->g == NULL)
    ctx_invalid(ctx, "attribute \"%s\" has no graph", name);
  return attr != NULL ? attr->g : NULL;
}

dtype_t attr_dtype(convert_ctx_t *ctx, const char *name, dtype_t otherwise) {
  int64_t code = attr_int(ctx, name, otherwise);
  if (code == otherwise || (code > DT_NONE && code < DT_COUNT))
    return (dtype_t)code;
  ctx_invalid(ctx, "attribute \"%s\" is %lld, which is no element type", name,
              (long long)code);
  return otherwise;
}

unsigned attr_choice(convert_ctx_t *ctx, const char *name,
                     const char *const *allowed) {
  const char *value = attr_str(ctx, name, allowed[0]);
  text_t list;
  for (unsigned i = 0; allowed[i] != NULL; i++)
    if (strcmp(value, allowed[i]) == 0) return i;
  text_init(&list, ctx->arena);
  for (unsigned i = 0; allowed[i] != NULL; i++)
    text_printf(&list, "%s%s", i > 0 ? ", " : "", allowed[i]);
  ctx_invalid(ctx, "attribute \"%s\" is \"%s\", expected one of %s", name,
              value, list.data);
  return 0;
}
