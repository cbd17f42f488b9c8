/* Modules of the tensor level as ONNX models. */
#ifndef EXPORT_EXPORT_H
#define EXPORT_EXPORT_H

#include "export/wire.h"
#include "ir/ir.h"

typedef struct export_options {
  const char *data_name; /* of the file beside it, for large models */
  uint64_t inline_limit; /* bytes of the model above which that is used */
} export_options_t;

/* The bytes of files; `data` has size 0 where there is no second one. Large
 * constants are views of the module's. */
typedef struct export_files {
  pb_t model, data;
} export_files_t;

/* The newest operator set that is written. */
enum { EXPORT_MAX_OPSET = 26 };

/* Writes the main function. What ONNX has no operators for is reported, all of
 * it in one run (MOEC_E_UNSUPPORTED); a module of the loop level is
 * MOEC_E_USAGE. The same module gives the same bytes. Everything lies in the
 * module's arena. */
MOEC_MUST_CHECK moec_status_t export_onnx(ir_module_t *module,
                                          const export_options_t *options,
                                          export_files_t *out,
                                          diag_sink_t *diag);

#endif
