/* The import of a model: versions, functions, inputs, nodes, outputs. */
#include "frontend/import.h"

#include <string.h>

#include "frontend/import_state.h"

enum {
  OLDEST_IR_VERSION = 3,
  NEWEST_IR_VERSION = ONNX__VERSION__IR_VERSION,
  /* Nodes that functions and loops may become, and how many for each of the
   * file: a small file must not take long. */
  EXTRA_NODES = 200000,
  TIMES_NODES = 4,
};

static const ir_loc_t nowhere = {0};

static moec_status_t check_metadata(importer_t *im) {
  const Onnx__ModelProto *proto = im->proto;
  name_map_t seen;
  name_map_init(&seen, im->arena);
  for (size_t i = 0; i < proto->n_metadata_props; i++) {
    Onnx__StringStringEntryProto *entry = proto->metadata_props[i];
    if (name_map_add(&seen, onnx_str(entry->key), entry) != entry)
      return diag_error(im->diag, nowhere, MOEC_E_INVALID_MODEL,
                        "metadata \"%s\" is given twice", onnx_str(entry->key));
  }
  return MOEC_OK;
}

static uint64_t default_max_nodes(const Onnx__ModelProto *proto) {
  uint64_t n = proto->graph->n_node;
  for (size_t i = 0; i < proto->n_functions; i++)
    n += proto->functions[i]->n_node;
  return EXTRA_NODES + TIMES_NODES * n;
}

static moec_status_t check_model(importer_t *im) {
  const Onnx__ModelProto *proto = im->proto;
  if (!proto->has_ir_version || proto->ir_version < 1)
    return diag_error(im->diag, nowhere, MOEC_E_INVALID_MODEL,
                      "the model has IR version %lld, expected %d to %d",
                      (long long)proto->ir_version, OLDEST_IR_VERSION,
                      NEWEST_IR_VERSION);
  if (proto->ir_version < OLDEST_IR_VERSION ||
      proto->ir_version > NEWEST_IR_VERSION)
    return diag_error(im->diag, nowhere, MOEC_E_UNSUPPORTED,
                      "IR version %lld is not supported, expected %d to %d",
                      (long long)proto->ir_version, OLDEST_IR_VERSION,
                      NEWEST_IR_VERSION);
  if (proto->n_opset_import == 0)
    return diag_error(im->diag, nowhere, MOEC_E_INVALID_MODEL,
                      "the model imports no opset");
  if (proto->graph->n_output == 0)
    return diag_error(im->diag, nowhere, MOEC_E_INVALID_MODEL,
                      "the graph has no outputs");
  MOEC_TRY(check_metadata(im));
  if (proto->n_training_info > 0)
    diag_warning(im->diag, nowhere, "training information is ignored");
  return MOEC_OK;
}

static moec_status_t import_main(importer_t *im) {
  const Onnx__GraphProto *graph = im->proto->graph;
  frame_t frame = {.opsets = &im->opsets, .prefix = ""};
  scope_t scope;
  scope_init(&scope, NULL, im->arena);
  moec_status_t named = import_graph_names(im, &scope, graph);
  if (named != MOEC_OK) import_note(im, named);
  MOEC_TRY(import_pins(im, &scope));
  /* Errors of inputs are in im->status; nodes go on without them. */
  moec_status_t inputs = import_inputs(im, &scope);
  if (inputs == MOEC_E_LIMIT) return inputs;
  for (size_t i = 0; i < graph->n_output; i++)
    import_declare(&scope, 1, &graph->output[i]);

  const uint32_t *order;
  MOEC_TRY(
      import_order(im, &frame, graph->n_node, graph->node, &scope, &order));
  ir_builder_t b = {
      .module = im->module, .region = &im->func->body, .diag = im->diag};
  body_t body = import_graph_body(im->arena, graph, order);
  moec_status_t nodes = import_nodes(im, &frame, &scope, &b, &body);
  if (nodes == MOEC_E_LIMIT) return nodes;
  return import_outputs(im, &scope);
}

moec_status_t onnx_import(onnx_model_t *model,
                          const onnx_import_options_t *options,
                          diag_sink_t *diag, ir_module_t **out_module) {
  static const onnx_import_options_t defaults = {0};
  *out_module = NULL;
  arena_t *arena = model->arena;
  importer_t im = {
      .arena = arena,
      .model = model,
      .proto = model->proto,
      .options = options != NULL ? options : &defaults,
      .diag = diag,
      .registry = registry_create(arena),
  };
  im.max_nodes = im.options->max_nodes != 0 ? im.options->max_nodes
                                            : default_max_nodes(im.proto);
  name_map_init(&im.dims, arena);
  name_map_init(&im.pins, arena);
  name_map_init(&im.warned_domains, arena);
  name_map_init(&im.checks, arena);
  MOEC_TRY(check_model(&im));
  MOEC_TRY(opsets_read(arena, im.proto->n_opset_import, im.proto->opset_import,
                       nowhere, diag, &im.opsets));
  im.module = ir_module_create(arena, onnx_str(im.proto->graph->name));
  moec_status_t functions = import_functions(&im);
  if (functions != MOEC_OK) import_note(&im, functions);
  if (functions == MOEC_E_LIMIT) return functions;
  im.chosen_by_input = import_is_chosen_by_input(arena, im.proto->graph);
  (void)import_check_operators(&im); /* noted in im.status */
  moec_status_t status = import_main(&im);
  if (im.status == MOEC_OK && status != MOEC_OK) im.status = status;
  if (im.status != MOEC_OK) {
    moec_status_t worst = diag != NULL ? diag_status(diag) : MOEC_OK;
    return worst != MOEC_OK ? worst : im.status;
  }
  *out_module = im.module;
  return MOEC_OK;
}
