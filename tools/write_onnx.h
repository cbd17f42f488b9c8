/* Modules as files in ONNX format. */
#ifndef TOOLS_WRITE_ONNX_H
#define TOOLS_WRITE_ONNX_H

#include "ir/ir.h"

/* Writes `path` and, for models of more than inline_limit bytes, `path`.data;
 * on failure neither. */
moec_status_t write_onnx(ir_module_t *module, const char *path,
                         uint64_t inline_limit, diag_sink_t *diag);
const char *write_onnx_data_path(arena_t *arena, const char *path);

#endif
