/* TensorProto: what it says it is, and where its elements come from. */
#include "frontend/tensor.h"

#include <string.h>

#include "frontend/store.h"

ir_loc_t onnx_tensor_loc(ir_loc_t loc, const Onnx__TensorProto *tensor,
                         diag_sink_t *diag) {
  const char *name = onnx_str(tensor->name);
  if (loc.where == NULL && diag != NULL && name[0] != '\0')
    loc.where = arena_printf(diag->arena, "tensor \"%s\"", name);
  return loc;
}

const char *onnx_info_text(const onnx_tensor_info_t *info, char *out) {
  size_t used =
      (size_t)snprintf(out, ONNX_TYPE_TEXT, "%s[", dtype_name(info->dtype));
  for (unsigned i = 0; i < info->rank && used < ONNX_TYPE_TEXT - 24; i++)
    used += (size_t)snprintf(out + used, ONNX_TYPE_TEXT - used, "%s%lld",
                             i > 0 ? "," : "", (long long)info->dims[i]);
  snprintf(out + used, ONNX_TYPE_TEXT - used, "]");
  return out;
}

/* ---- Type --------------------------------------------------------------- */

static moec_status_t read_dtype(int32_t code, ir_loc_t loc, diag_sink_t *diag,
                                dtype_t *out) {
  if (code > 0 && code < DT_COUNT) {
    *out = (dtype_t)code;
    return MOEC_OK;
  }
  const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(
      &onnx__tensor_proto__data_type__descriptor, code);
  if (known == NULL || code == 0)
    return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                      code == 0 ? "tensor has no element type (%d)"
                                : "element type %d does not exist",
                      (int)code);
  return diag_error(diag, loc, MOEC_E_UNSUPPORTED,
                    "element type %s is not supported", known->name);
}

/* Fills in count and bytes. A zero dimension makes a tensor empty however
 * large the others are. */
static moec_status_t read_dims(size_t n_dims, const int64_t *dims, ir_loc_t loc,
                               diag_sink_t *diag, onnx_tensor_info_t *out) {
  if (n_dims > IR_MAX_RANK)
    return diag_error(diag, loc, MOEC_E_LIMIT,
                      "tensor of rank %zu; the limit is %d", n_dims,
                      IR_MAX_RANK);
  out->rank = (unsigned)n_dims;
  out->dims = dims;
  bool empty = false, overflow = false;
  uint64_t count = 1, bits;
  for (size_t i = 0; i < n_dims; i++) {
    if (dims[i] < 0)
      return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                        "dimension %zu of the tensor is %lld", i,
                        (long long)dims[i]);
    empty |= dims[i] == 0;
    overflow |= __builtin_mul_overflow(count, (uint64_t)dims[i], &count);
  }
  if (!empty)
    overflow |=
        __builtin_mul_overflow(count, (uint64_t)dtype_bits(out->dtype), &bits);
  /* In bits it is below 2^64, so that bytes are well below 2^63. */
  if (overflow && !empty)
    return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                      "size of the tensor exceeds 64 bits");
  out->count = empty ? 0 : count;
  out->bytes = dtype_bytes(out->dtype, out->count);
  return MOEC_OK;
}

moec_status_t onnx_tensor_info(const Onnx__TensorProto *tensor, ir_loc_t loc,
                               diag_sink_t *diag,
                               onnx_tensor_info_t *out_info) {
  *out_info = (onnx_tensor_info_t){0};
  loc = onnx_tensor_loc(loc, tensor, diag);
  int32_t code = tensor->has_data_type ? tensor->data_type : 0;
  MOEC_TRY(read_dtype(code, loc, diag, &out_info->dtype));
  return read_dims(tensor->n_dims, tensor->dims, loc, diag, out_info);
}

bool onnx_tensor_is_external(const Onnx__TensorProto *tensor) {
  return tensor->has_data_location &&
         tensor->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
}

/* ---- Elements ----------------------------------------------------------- */

static bool all_bools(const uint8_t *bytes, size_t n) {
  uint8_t any = 0;
  for (size_t i = 0; i < n; i++) any |= bytes[i];
  return any <= 1;
}

/* Bits of the last byte that belong to elements. */
static uint8_t last_byte_mask(const onnx_tensor_info_t *info) {
  uint64_t bits = info->count % 8 * dtype_bits(info->dtype) % 8;
  return (uint8_t)(bits == 0 ? 0xff : (1u << bits) - 1);
}

moec_status_t onnx_fetch_raw(const onnx_fetch_t *fetch, const uint8_t *bytes,
                             ir_data_t *out) {
  const onnx_tensor_info_t *info = &fetch->info;
  size_t size = (size_t)info->bytes;
  out->size = size;
  out->bytes = size > 0 ? (const void *)bytes : "";
  if (size == 0) return MOEC_OK;

  uint8_t mask = last_byte_mask(info);
  bool padded = (bytes[size - 1] & ~mask) != 0;
  bool odd_bools = info->dtype == DT_BOOL && !all_bools(bytes, size);
  if (!padded && !odd_bools) return MOEC_OK;
  uint8_t *copy = arena_alloc(fetch->model->arena, size);
  memcpy(copy, bytes, size);
  copy[size - 1] &= mask;
  if (odd_bools)
    for (size_t i = 0; i < size; i++) copy[i] = copy[i] != 0;
  out->bytes = copy;
  return MOEC_OK;
}

static moec_status_t fetch(const onnx_fetch_t *fetch, ir_data_t *out) {
  const Onnx__TensorProto *tensor = fetch->tensor;
  const onnx_payload_t *payload =
      onnx_wire_payload(&fetch->model->store->payloads, tensor);
  if (tensor->segment != NULL)
    return FETCH_FAIL(fetch, MOEC_E_UNSUPPORTED,
                      "tensors in segments are not supported");
  if (onnx_tensor_is_external(tensor)) {
    if (payload != NULL)
      return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                        "tensor has both inline and external data");
    if (fetch->info.dtype == DT_STR)
      return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                        "strings cannot be external data");
    const uint8_t *bytes;
    MOEC_TRY(onnx_fetch_external(fetch, &bytes));
    return onnx_fetch_raw(fetch, bytes, out);
  }
  if (tensor->has_data_location && tensor->data_location != 0)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                      "data_location %d does not exist",
                      (int)tensor->data_location);
  if (tensor->n_external_data > 0 && fetch->info.count > 0 && payload == NULL)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                      "tensor has external_data but data_location is not "
                      "EXTERNAL");
  return onnx_fetch_inline(fetch, payload, out);
}

moec_status_t onnx_tensor_data(onnx_model_t *model,
                               const Onnx__TensorProto *tensor, ir_loc_t loc,
                               diag_sink_t *diag, ir_data_t **out_data) {
  *out_data = NULL;
  onnx_fetch_t job = {
      .model = model, .tensor = tensor, .loc = loc, .diag = diag};
  MOEC_TRY(onnx_tensor_info(tensor, loc, diag, &job.info));
  ir_data_t *data = ARENA_NEW(model->arena, ir_data_t);
  MOEC_TRY(fetch(&job, data));
  *out_data = data;
  return MOEC_OK;
}

/* ---- Sparse ------------------------------------------------------------- */

moec_status_t onnx_sparse_tensor_info(const Onnx__SparseTensorProto *sparse,
                                      ir_loc_t loc, diag_sink_t *diag,
                                      onnx_tensor_info_t *out_info) {
  *out_info = (onnx_tensor_info_t){0};
  if (sparse->values == NULL)
    return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                      "sparse tensor has no values");
  loc = onnx_tensor_loc(loc, sparse->values, diag);
  onnx_tensor_info_t values;
  MOEC_TRY(onnx_tensor_info(sparse->values, loc, diag, &values));
  if (values.rank != 1)
    return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                      "values of a sparse tensor have rank %u, not 1",
                      values.rank);
  if (sparse->n_dims == 0)
    return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                      "sparse tensor has no dimensions");
  if (values.dtype == DT_STR)
    return diag_error(diag, loc, MOEC_E_UNSUPPORTED,
                      "sparse tensors of strings are not supported");
  out_info->dtype = values.dtype;
  return read_dims(sparse->n_dims, sparse->dims, loc, diag, out_info);
}

static int64_t load_i64(const uint8_t *bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < 8; i++) value |= (uint64_t)bytes[i] << (8 * i);
  return (int64_t)value;
}

/* The place of value `i` in the dense tensor: from one index into the
 * flattened tensor (rank 1) or one index for each dimension (rank 2). Returns
 * false if an index is out of range. */
static bool place_of(const onnx_tensor_info_t *dense, const uint8_t *indices,
                     unsigned index_rank, uint64_t i, uint64_t *out_place) {
  if (index_rank == 1) {
    int64_t index = load_i64(indices + 8 * i);
    *out_place = (uint64_t)index;
    return index >= 0 && (uint64_t)index < dense->count;
  }
  uint64_t place = 0;
  for (unsigned d = 0; d < dense->rank; d++) {
    int64_t index = load_i64(indices + 8 * (i * dense->rank + d));
    if (index < 0 || index >= dense->dims[d]) return false;
    place = place * (uint64_t)dense->dims[d] + (uint64_t)index;
  }
  *out_place = place;
  return true;
}

/* dense[place] = values[i], for any width; dense is zero there. */
static void put_element(uint8_t *dense, uint64_t place, const uint8_t *values,
                        uint64_t i, unsigned bits) {
  if (bits >= 8) {
    memcpy(dense + place * (bits / 8), values + i * (bits / 8), bits / 8);
    return;
  }
  unsigned per_byte = 8 / bits;
  unsigned value = values[i / per_byte] >> (i % per_byte * bits);
  value &= (1u << bits) - 1;
  dense[place / per_byte] |= (uint8_t)(value << (place % per_byte * bits));
}

static moec_status_t check_indices(const Onnx__SparseTensorProto *sparse,
                                   const onnx_tensor_info_t *dense,
                                   uint64_t n_values, ir_loc_t loc,
                                   diag_sink_t *diag,
                                   onnx_tensor_info_t *out_indices) {
  if (sparse->indices == NULL)
    return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                      "sparse tensor has no indices");
  MOEC_TRY(onnx_tensor_info(sparse->indices, loc, diag, out_indices));
  const onnx_tensor_info_t *indices = out_indices;
  bool fits = indices->dtype == DT_I64 &&
              (indices->rank == 1 || indices->rank == 2) &&
              (uint64_t)indices->dims[0] == n_values &&
              (indices->rank == 1 || indices->dims[1] == dense->rank);
  if (fits) return MOEC_OK;
  char text[ONNX_TYPE_TEXT];
  return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                    "indices of a sparse tensor are %s, expected i64[%llu] or "
                    "i64[%llu,%u]",
                    onnx_info_text(indices, text), (unsigned long long)n_values,
                    (unsigned long long)n_values, dense->rank);
}

moec_status_t onnx_sparse_tensor_data(onnx_model_t *model,
                                      const Onnx__SparseTensorProto *sparse,
                                      ir_loc_t loc, diag_sink_t *diag,
                                      ir_data_t **out_data) {
  *out_data = NULL;
  onnx_tensor_info_t dense, info;
  MOEC_TRY(onnx_sparse_tensor_info(sparse, loc, diag, &dense));
  loc = onnx_tensor_loc(loc, sparse->values, diag);
  uint64_t n_values = (uint64_t)sparse->values->dims[0];
  MOEC_TRY(check_indices(sparse, &dense, n_values, loc, diag, &info));
  ir_data_t *values, *indices;
  MOEC_TRY(onnx_tensor_data(model, sparse->values, loc, diag, &values));
  MOEC_TRY(onnx_tensor_data(model, sparse->indices, loc, diag, &indices));
  MOEC_TRY(onnx_expand(model->store, dense.bytes, loc, diag));

  uint8_t *bytes = arena_alloc(model->arena, (size_t)dense.bytes);
  uint64_t previous = 0;
  for (uint64_t i = 0; i < n_values; i++) {
    uint64_t place;
    if (!place_of(&dense, indices->bytes, info.rank, i, &place))
      return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                        "index %llu of the sparse tensor is out of range",
                        (unsigned long long)i);
    if (i > 0 && place <= previous)
      return diag_error(diag, loc, MOEC_E_INVALID_MODEL,
                        "index %llu of the sparse tensor is not above the one "
                        "before it",
                        (unsigned long long)i);
    previous = place;
    put_element(bytes, place, values->bytes, i, dtype_bits(dense.dtype));
  }
  ir_data_t *data = ARENA_NEW(model->arena, ir_data_t);
  data->bytes = bytes;
  data->size = dense.bytes;
  *out_data = data;
  return MOEC_OK;
}
