/* ONNX models as tensor-level modules. */
#ifndef FRONTEND_IMPORT_H
#define FRONTEND_IMPORT_H

#include "frontend/load.h"
#include "ir/ir.h"

/* A dimension of the inputs fixed before anything is inferred. `name` is a
 * dim_param of the model, which is fixed wherever it stands; or "input:axis",
 * axes counted from 0, or from the end with "-1" for the last; or, of
 * dimensions without dim_param, the symbol that the import makes up,
 * "<input>_<axis>". Names that fit nothing, and sizes that contradict the model
 * or each other, are MOEC_E_USAGE. */
typedef struct onnx_pin {
  const char *name;
  int64_t value; /* at least 0 */
} onnx_pin_t;

typedef struct onnx_import_options {
  unsigned n_pins;
  const onnx_pin_t *pins;
  /* Nodes after inlining functions and unrolling loops; 0 means 200,000 and 4
   * for each node of the file. */
  uint64_t max_nodes;
  /* A shape in value_info that contradicts the inferred one is an error, not
   * just warned about. (Exporters write wrong ones.) Element types, and shapes
   * of the model's outputs, must fit always. */
  bool strict_types;
} onnx_import_options_t;

/* Makes a tensor-level module with one main function "main" of a model. Its
 * arguments are the graph's inputs that have no initialiser, its results the
 * graph's outputs, both in the model's order and under its names.
 *
 * Everything is allocated in the arena of `model`; constants are views of its
 * files where possible and names are its strings, so that the module is valid
 * as long as the model is. `options` may be NULL. All nodes that are not
 * supported are reported in one run (MOEC_E_UNSUPPORTED), malformed parts as
 * MOEC_E_INVALID_MODEL; after an error nothing is returned in *out_module.
 * Linear in the number of nodes. */
moec_status_t onnx_import(onnx_model_t *model,
                          const onnx_import_options_t *options,
                          diag_sink_t *diag, ir_module_t **out_module);

#endif
