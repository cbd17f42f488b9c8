/* Between the files that fetch elements of tensors; see load.h for others. */
#ifndef FRONTEND_TENSOR_H
#define FRONTEND_TENSOR_H

#include "frontend/load.h"
#include "frontend/wire.h"

/* A tensor whose elements are being fetched. */
typedef struct onnx_fetch {
  onnx_model_t *model;
  const Onnx__TensorProto *tensor;
  onnx_tensor_info_t info;
  ir_loc_t loc;
  diag_sink_t *diag;
} onnx_fetch_t;

/* The place for messages about a tensor: `loc`, with tensor "name" added. */
ir_loc_t onnx_tensor_loc(ir_loc_t loc, const Onnx__TensorProto *tensor,
                         diag_sink_t *diag);

#define FETCH_FAIL(fetch, status, ...)                                      \
  diag_error((fetch)->diag,                                                 \
             onnx_tensor_loc((fetch)->loc, (fetch)->tensor, (fetch)->diag), \
             (status), __VA_ARGS__)

enum { ONNX_TYPE_TEXT = 160 };
/* Writes "f32[2,3]" to ONNX_TYPE_TEXT bytes; returns `out`. */
const char *onnx_info_text(const onnx_tensor_info_t *info, char *out);

/* Elements inline (elements.c). */
moec_status_t onnx_fetch_inline(const onnx_fetch_t *fetch,
                                const onnx_payload_t *payload, ir_data_t *out);

/* Elements in another file, exactly info.bytes of them (external.c). */
moec_status_t onnx_fetch_external(const onnx_fetch_t *fetch,
                                  const uint8_t **out_bytes);

/* Makes a view of raw bytes, or a copy where they are not in canonical form:
 * bools other than 0 and 1, unused bits that are set. */
moec_status_t onnx_fetch_raw(const onnx_fetch_t *fetch, const uint8_t *bytes,
                             ir_data_t *out);

#endif
