/* Initialisers and tensor attributes as constants. They stand first in the main
 * function, in the order of their first use, so that all regions see them. */
#include "frontend/import_state.h"

ir_value_t *import_bytes(importer_t *im, dtype_t dtype, unsigned rank,
                         const int64_t *dim, ir_data_t *data, ir_loc_t loc) {
  ir_region_t *body = &im->func->body;
  ir_builder_t b = {
      .module = im->module, .region = body, .loc = loc, .diag = im->diag};
  b.before = im->last_constant != NULL ? im->last_constant->next : body->first;
  ir_op_t *op = ir_begin(&b, OP_CONSTANT, 0, NULL, 1);
  if (op == NULL) return NULL;
  ir_set_dtype(op, ATTR_CONSTANT_dtype, dtype);
  ir_set_ints(op, ATTR_CONSTANT_shape, rank, dim);
  ir_set_data(op, ATTR_CONSTANT_data, data);
  ir_value_t *value = ir_place(&b, op);
  if (value == NULL) {
    import_note(im, b.status);
    return NULL;
  }
  im->last_constant = op;
  return value;
}

static ir_value_t *constant_of(importer_t *im, const onnx_tensor_info_t *info,
                               ir_data_t *data, ir_loc_t loc) {
  if (info->rank > IR_MAX_RANK) {
    import_note(im, diag_error(im->diag, loc, MOEC_E_LIMIT,
                               "a tensor of rank %u exceeds the limit of %d",
                               info->rank, IR_MAX_RANK));
    return NULL;
  }
  return import_bytes(im, info->dtype, info->rank, info->dims, data, loc);
}

ir_value_t *import_tensor(importer_t *im, const Onnx__TensorProto *tensor,
                          ir_loc_t loc) {
  onnx_tensor_info_t info;
  ir_data_t *data = NULL;
  moec_status_t status = onnx_tensor_info(tensor, loc, im->diag, &info);
  if (status == MOEC_OK)
    status = onnx_tensor_data(im->model, tensor, loc, im->diag, &data);
  if (status != MOEC_OK) {
    import_note(im, status);
    return NULL;
  }
  return constant_of(im, &info, data, loc);
}

ir_value_t *import_sparse(importer_t *im, const Onnx__SparseTensorProto *sparse,
                          ir_loc_t loc) {
  onnx_tensor_info_t info;
  ir_data_t *data = NULL;
  moec_status_t status = onnx_sparse_tensor_info(sparse, loc, im->diag, &info);
  if (status == MOEC_OK)
    status = onnx_sparse_tensor_data(im->model, sparse, loc, im->diag, &data);
  if (status != MOEC_OK) {
    import_note(im, status);
    return NULL;
  }
  return constant_of(im, &info, data, loc);
}

slot_t binding_slot(importer_t *im, binding_t *binding, const char *name) {
  if (binding->tensor == NULL && binding->sparse == NULL) return binding->slot;
  ir_loc_t loc = {.where = arena_printf(im->arena, "tensor \"%s\"", name)};
  ir_value_t *value = binding->tensor != NULL
                          ? import_tensor(im, binding->tensor, loc)
                          : import_sparse(im, binding->sparse, loc);
  binding->tensor = NULL;
  binding->sparse = NULL;
  binding->slot.kind = value != NULL ? SLOT_TENSOR : SLOT_FAILED;
  binding->slot.value = value;
  if (value != NULL && value->name == NULL) value->name = name;
  return binding->slot;
}
