/* Data files of test suites: tensors, sequences and optionals, read and
 * written. */
#include <limits.h>
#include <string.h>

#include "frontend/store.h"

/* ---- Reading ------------------------------------------------------------ */

static moec_status_t read_sequence(onnx_model_t *model,
                                   const Onnx__SequenceProto *proto,
                                   diag_sink_t *diag, onnx_value_t *out);
static moec_status_t read_optional(onnx_model_t *model,
                                   const Onnx__OptionalProto *proto,
                                   diag_sink_t *diag, onnx_value_t *out);

static void set_type(onnx_value_t *value, const onnx_tensor_info_t *info) {
  value->kind = IR_TENSOR;
  value->dtype = info->dtype;
  value->rank = info->rank;
  value->dims = info->dims;
}

static moec_status_t read_tensor(onnx_model_t *model,
                                 const Onnx__TensorProto *proto,
                                 diag_sink_t *diag, onnx_value_t *out) {
  onnx_tensor_info_t info;
  out->name = proto->name;
  MOEC_TRY(onnx_tensor_info(proto, (ir_loc_t){0}, diag, &info));
  set_type(out, &info);
  return onnx_tensor_data(model, proto, (ir_loc_t){0}, diag, &out->data);
}

static moec_status_t read_sparse(onnx_model_t *model,
                                 const Onnx__SparseTensorProto *proto,
                                 diag_sink_t *diag, onnx_value_t *out) {
  onnx_tensor_info_t info;
  MOEC_TRY(onnx_sparse_tensor_info(proto, (ir_loc_t){0}, diag, &info));
  out->name = proto->values->name;
  set_type(out, &info);
  return onnx_sparse_tensor_data(model, proto, (ir_loc_t){0}, diag, &out->data);
}

/* Reads one element of a sequence, or the one of an optional; the enumerators
 * of both messages are the same. */
static moec_status_t read_elem(onnx_model_t *model, int32_t elem_type,
                               const void *proto, diag_sink_t *diag,
                               onnx_value_t **out_elem) {
  onnx_value_t *elem = ARENA_NEW(model->arena, onnx_value_t);
  *out_elem = elem;
  switch (elem_type) {
    case ONNX__SEQUENCE_PROTO__DATA_TYPE__TENSOR:
      return read_tensor(model, proto, diag, elem);
    case ONNX__SEQUENCE_PROTO__DATA_TYPE__SPARSE_TENSOR:
      return read_sparse(model, proto, diag, elem);
    case ONNX__SEQUENCE_PROTO__DATA_TYPE__SEQUENCE:
      return read_sequence(model, proto, diag, elem);
    case ONNX__SEQUENCE_PROTO__DATA_TYPE__OPTIONAL:
      return read_optional(model, proto, diag, elem);
    default:
      return diag_error(diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED,
                        "maps are not supported");
  }
}

typedef struct elem_list {
  size_t n;
  const void *const *items;
} elem_list_t;

static moec_status_t read_elems(onnx_model_t *model, const char *what,
                                int32_t elem_type, const elem_list_t lists[6],
                                diag_sink_t *diag, onnx_value_t *out) {
  const ir_loc_t nowhere = {0};
  if (elem_type < 0 || elem_type > 5)
    return diag_error(diag, nowhere, MOEC_E_INVALID_MODEL,
                      "element type %d of %s does not exist", (int)elem_type,
                      what);
  for (int i = 0; i < 6; i++)
    if (i != elem_type && lists[i].n > 0)
      return diag_error(diag, nowhere, MOEC_E_INVALID_MODEL,
                        "%s has elements of another type than it says", what);
  const elem_list_t *list = &lists[elem_type];
  onnx_value_t **elems = ARENA_ARRAY(model->arena, onnx_value_t *, list->n);
  for (size_t i = 0; i < list->n; i++)
    MOEC_TRY(read_elem(model, elem_type, list->items[i], diag, &elems[i]));
  out->n_elems = list->n;
  out->elems = elems;
  return MOEC_OK;
}

#define MANY(type, n, array) [type] = {(n), (const void *const *)(array)}
#define ONE(type, pointer) \
  [type] = {(pointer) != NULL, &(const void *){pointer}}

static moec_status_t read_sequence(onnx_model_t *model,
                                   const Onnx__SequenceProto *proto,
                                   diag_sink_t *diag, onnx_value_t *out) {
  const elem_list_t lists[6] = {
      MANY(ONNX__SEQUENCE_PROTO__DATA_TYPE__TENSOR, proto->n_tensor_values,
           proto->tensor_values),
      MANY(ONNX__SEQUENCE_PROTO__DATA_TYPE__SPARSE_TENSOR,
           proto->n_sparse_tensor_values, proto->sparse_tensor_values),
      MANY(ONNX__SEQUENCE_PROTO__DATA_TYPE__SEQUENCE, proto->n_sequence_values,
           proto->sequence_values),
      MANY(ONNX__SEQUENCE_PROTO__DATA_TYPE__MAP, proto->n_map_values,
           proto->map_values),
      MANY(ONNX__SEQUENCE_PROTO__DATA_TYPE__OPTIONAL, proto->n_optional_values,
           proto->optional_values),
  };
  out->kind = IR_SEQUENCE;
  out->name = proto->name;
  return read_elems(model, "sequence", proto->elem_type, lists, diag, out);
}

static moec_status_t read_optional(onnx_model_t *model,
                                   const Onnx__OptionalProto *proto,
                                   diag_sink_t *diag, onnx_value_t *out) {
  const elem_list_t lists[6] = {
      ONE(ONNX__OPTIONAL_PROTO__DATA_TYPE__TENSOR, proto->tensor_value),
      ONE(ONNX__OPTIONAL_PROTO__DATA_TYPE__SPARSE_TENSOR,
          proto->sparse_tensor_value),
      ONE(ONNX__OPTIONAL_PROTO__DATA_TYPE__SEQUENCE, proto->sequence_value),
      ONE(ONNX__OPTIONAL_PROTO__DATA_TYPE__MAP, proto->map_value),
      ONE(ONNX__OPTIONAL_PROTO__DATA_TYPE__OPTIONAL, proto->optional_value),
  };
  out->kind = IR_OPTIONAL;
  out->name = proto->name;
  return read_elems(model, "optional", proto->elem_type, lists, diag, out);
}

static moec_status_t read_value(onnx_store_t *store, arena_t *arena,
                                const uint8_t *bytes, size_t length,
                                const char *directory, ir_kind_t kind,
                                diag_sink_t *diag, onnx_value_t **out_value) {
  *out_value = NULL;
  const ProtobufCMessageDescriptor *type =
      kind == IR_SEQUENCE   ? &onnx__sequence_proto__descriptor
      : kind == IR_OPTIONAL ? &onnx__optional_proto__descriptor
                            : &onnx__tensor_proto__descriptor;
  ProtobufCMessage *message;
  MOEC_TRY(onnx_unpack(store, arena, type, bytes, length, diag, &message));
  onnx_model_t source = {
      .arena = arena, .store = store, .directory = directory};
  const void *proto = message;
  onnx_value_t *value = ARENA_NEW(arena, onnx_value_t);
  switch (kind) {
    case IR_SEQUENCE:
      MOEC_TRY(read_sequence(&source, proto, diag, value));
      break;
    case IR_OPTIONAL:
      MOEC_TRY(read_optional(&source, proto, diag, value));
      break;
    default:
      MOEC_ASSERT(kind == IR_TENSOR);
      MOEC_TRY(read_tensor(&source, proto, diag, value));
  }
  *out_value = value;
  return MOEC_OK;
}

moec_status_t onnx_load_value_memory(onnx_store_t *store, arena_t *arena,
                                     const void *bytes, size_t length,
                                     ir_kind_t kind, diag_sink_t *diag,
                                     onnx_value_t **out_value) {
  return read_value(store, arena, bytes, length, NULL, kind, diag, out_value);
}

moec_status_t onnx_load_value(onnx_store_t *store, arena_t *arena,
                              const char *path, ir_kind_t kind,
                              diag_sink_t *diag, onnx_value_t **out_value) {
  *out_value = NULL;
  const onnx_mapping_t *mapping;
  MOEC_TRY(onnx_open(store, path, diag, &mapping));
  return read_value(store, arena, mapping->bytes, mapping->length,
                    onnx_directory_of(arena, path), kind, diag, out_value);
}

/* ---- Writing ------------------------------------------------------------ */

static void *build_message(arena_t *arena, const onnx_value_t *value);

/* protobuf-c does not write through these pointers; its types say it might. */
static void *unconst(const void *pointer) { return (void *)(uintptr_t)pointer; }

static void build_strings(arena_t *arena, const onnx_value_t *value,
                          Onnx__TensorProto *out) {
  uint64_t count = 1;
  for (unsigned i = 0; i < value->rank; i++) count *= (uint64_t)value->dims[i];
  out->n_string_data = (size_t)count;
  out->string_data = ARENA_ARRAY(arena, ProtobufCBinaryData, (size_t)count);
  for (size_t i = 0; i < count; i++) {
    const char *text = value->data->strings[i];
    out->string_data[i] = (ProtobufCBinaryData){strlen(text), unconst(text)};
  }
}

static Onnx__TensorProto *build_tensor(arena_t *arena,
                                       const onnx_value_t *value) {
  Onnx__TensorProto *out = ARENA_NEW(arena, Onnx__TensorProto);
  onnx__tensor_proto__init(out);
  if (value->name != NULL) out->name = unconst(value->name);
  out->has_data_type = true;
  out->data_type = (int32_t)value->dtype;
  out->n_dims = value->rank;
  out->dims = unconst(value->dims);
  if (value->dtype == DT_STR) {
    build_strings(arena, value, out);
  } else {
    out->has_raw_data = true;
    out->raw_data = (ProtobufCBinaryData){(size_t)value->data->size,
                                          unconst(value->data->bytes)};
  }
  return out;
}

static int32_t elem_type_of(ir_kind_t kind) {
  switch (kind) {
    case IR_SEQUENCE:
      return ONNX__SEQUENCE_PROTO__DATA_TYPE__SEQUENCE;
    case IR_OPTIONAL:
      return ONNX__SEQUENCE_PROTO__DATA_TYPE__OPTIONAL;
    default:
      return ONNX__SEQUENCE_PROTO__DATA_TYPE__TENSOR;
  }
}

static Onnx__SequenceProto *build_sequence(arena_t *arena,
                                           const onnx_value_t *value) {
  Onnx__SequenceProto *out = ARENA_NEW(arena, Onnx__SequenceProto);
  onnx__sequence_proto__init(out);
  if (value->name != NULL) out->name = unconst(value->name);
  /* An empty sequence does not say of what; most are of tensors. */
  ir_kind_t kind = value->n_elems > 0 ? value->elems[0]->kind : IR_TENSOR;
  void **items = ARENA_ARRAY(arena, void *, value->n_elems);
  for (size_t i = 0; i < value->n_elems; i++) {
    MOEC_ASSERT(value->elems[i]->kind == kind);
    items[i] = build_message(arena, value->elems[i]);
  }
  out->has_elem_type = true;
  out->elem_type = elem_type_of(kind);
  if (kind == IR_TENSOR) {
    out->n_tensor_values = value->n_elems;
    out->tensor_values = (Onnx__TensorProto **)items;
  } else if (kind == IR_SEQUENCE) {
    out->n_sequence_values = value->n_elems;
    out->sequence_values = (Onnx__SequenceProto **)items;
  } else {
    out->n_optional_values = value->n_elems;
    out->optional_values = (Onnx__OptionalProto **)items;
  }
  return out;
}

static Onnx__OptionalProto *build_optional(arena_t *arena,
                                           const onnx_value_t *value) {
  Onnx__OptionalProto *out = ARENA_NEW(arena, Onnx__OptionalProto);
  onnx__optional_proto__init(out);
  if (value->name != NULL) out->name = unconst(value->name);
  out->has_elem_type = true;
  if (value->n_elems == 0) return out;
  ir_kind_t kind = value->elems[0]->kind;
  void *item = build_message(arena, value->elems[0]);
  out->elem_type = elem_type_of(kind);
  if (kind == IR_TENSOR)
    out->tensor_value = item;
  else if (kind == IR_SEQUENCE)
    out->sequence_value = item;
  else
    out->optional_value = item;
  return out;
}

static void *build_message(arena_t *arena, const onnx_value_t *value) {
  switch (value->kind) {
    case IR_SEQUENCE:
      return build_sequence(arena, value);
    case IR_OPTIONAL:
      return build_optional(arena, value);
    default:
      MOEC_ASSERT(value->kind == IR_TENSOR);
      return build_tensor(arena, value);
  }
}

moec_status_t onnx_pack_value(arena_t *arena, const onnx_value_t *value,
                              diag_sink_t *diag, const uint8_t **out_bytes,
                              size_t *out_length) {
  *out_bytes = NULL;
  const ProtobufCMessage *message = build_message(arena, value);
  *out_length = protobuf_c_message_get_packed_size(message);
  if (*out_length > INT_MAX)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_LIMIT,
                      "value of %zu bytes exceeds the 2 GiB of a data file",
                      *out_length);
  uint8_t *bytes = arena_alloc(arena, *out_length);
  protobuf_c_message_pack(message, bytes);
  *out_bytes = bytes;
  return MOEC_OK;
}
