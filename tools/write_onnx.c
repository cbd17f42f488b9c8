/* Modules as files in ONNX format. */
#include "tools/write_onnx.h"

#include <string.h>

#include "backend/output.h"
#include "export/export.h"

const char *write_onnx_data_path(arena_t *arena, const char *path) {
  return arena_printf(arena, "%s.data", path);
}

static moec_status_t write_piece(output_t *out, uint64_t *offset,
                                 const void *bytes, uint64_t size,
                                 diag_sink_t *diag) {
  MOEC_TRY(output_write(out, *offset, bytes, (size_t)size, diag));
  *offset += size;
  return MOEC_OK;
}

static moec_status_t write_pieces(output_t *out, const pb_t *pb,
                                  diag_sink_t *diag) {
  uint64_t offset = 0;
  size_t at = 0;
  for (unsigned i = 0; i < pb->n_views; i++) {
    const pb_view_t *view = &pb->views[i];
    if (view->at > at)
      MOEC_TRY(write_piece(out, &offset, pb->data + at, view->at - at, diag));
    MOEC_TRY(write_piece(out, &offset, view->bytes, view->size, diag));
    at = view->at;
  }
  if (pb->length == at) return MOEC_OK;
  return write_piece(out, &offset, pb->data + at, pb->length - at, diag);
}

static moec_status_t write_file(output_t *out, const char *path, const pb_t *pb,
                                diag_sink_t *diag) {
  MOEC_TRY(output_open(out, path, false, diag));
  return write_pieces(out, pb, diag);
}

moec_status_t write_onnx(ir_module_t *module, const char *path,
                         uint64_t inline_limit, diag_sink_t *diag) {
  const char *data_path = write_onnx_data_path(module->arena, path);
  const char *slash = strrchr(data_path, '/');
  export_options_t options = {slash != NULL ? slash + 1 : data_path,
                              inline_limit};
  export_files_t files;
  output_t model, data = {0};
  MOEC_TRY(export_onnx(module, &options, &files, diag));
  MOEC_TRY(write_file(&model, path, &files.model, diag));
  moec_status_t status = MOEC_OK;
  if (files.data.size > 0) {
    status = write_file(&data, data_path, &files.data, diag);
    if (status == MOEC_OK) status = output_commit(&data, diag);
  }
  if (status == MOEC_OK) {
    status = output_commit(&model, diag);
    if (status != MOEC_OK && files.data.size > 0) remove(data_path);
  }
  if (status != MOEC_OK) output_discard(&model);
  return status;
}
