/* State of one import, shared by frontend/import_*.c; converters do not see it.
 */
#ifndef FRONTEND_IMPORT_STATE_H
#define FRONTEND_IMPORT_STATE_H

#include "frontend/convert.h"
#include "frontend/import.h"
#include "frontend/opset.h"
#include "frontend/registry.h"

/* Hash map from strings to pointers; keys are not copied. */
typedef struct name_map {
  arena_t *arena;
  struct name_entry *entries; /* [capacity], open addressing */
  size_t n, capacity;
} name_map_t;

void name_map_init(name_map_t *map, arena_t *arena);
void *name_map_get(const name_map_t *map, const char *key); /* NULL if absent */
/* Adds the pair unless the key is there; returns the value now under it. */
void *name_map_add(name_map_t *map, const char *key, void *value);

/* What a name of a graph or function body stands for. Tensors become constants
 * when they are first used. */
typedef struct binding {
  slot_t slot;
  const Onnx__TensorProto *tensor;       /* not yet a constant, or NULL */
  const Onnx__SparseTensorProto *sparse; /* ditto */
} binding_t;

/* Names of one graph; subgraphs see the names around them. */
typedef struct scope {
  struct scope *outer;
  name_map_t names;    /* binding_t * */
  name_map_t declared; /* Onnx__TypeProto *, of value_info and outputs */
} scope_t;

/* Nodes in their order, and the names that are wanted of them. */
typedef struct body {
  size_t n_nodes;
  Onnx__NodeProto *const *node;
  const uint32_t *order;
  size_t n_results;
  const char *const *result;
  struct outlet *outlet; /* where the results go, as far as that is known */
} body_t;

/* What follows a node: where the body of a function or a branch stands for the
 * node, its results go there. See import_rest.c. */
typedef struct outlet {
  bool taken; /* all of it has been built, its results are defined in `scope` */
  const struct frame *frame;
  scope_t *scope;
  const Onnx__NodeProto *node;
  body_t *rest;
} outlet_t;

/* A call of a model-local function, or the model itself (function == NULL). */
typedef struct frame {
  const struct frame *caller;
  const Onnx__FunctionProto *function;
  const opsets_t *opsets;
  const char *prefix; /* of node names in messages: "outer/", or "" */
  ir_loc_t loc;       /* of the calling node */
  unsigned n_attrs;   /* of the calling node, resolved */
  const node_attr_t *attrs;
  unsigned depth;
} frame_t;

/* A model-local function. */
typedef struct local_function {
  const Onnx__FunctionProto *proto;
  opsets_t opsets;
  moec_status_t status;  /* of its own well-formedness */
  const uint32_t *order; /* nodes, operands first */
  bool checked;          /* its operators have been looked up */
} local_function_t;

struct importer {
  arena_t *arena;
  onnx_model_t *model;
  const Onnx__ModelProto *proto;
  const onnx_import_options_t *options;
  diag_sink_t *diag;
  ir_module_t *module;
  ir_func_t *func;
  registry_t *registry;
  opsets_t opsets;
  name_map_t functions; /* "domain\nname\noverload" -> local_function_t */
  name_map_t dims;      /* dim_param -> expr_t */
  name_map_t pins;      /* dim_param or "input:axis" -> onnx_pin_t */
  bool chosen_by_input; /* see import_type.c: dim_params may not be believed */
  ir_op_t *last_constant; /* constants stand first in main */
  name_map_t warned_domains;
  name_map_t checks;   /* broadcasts that main has checked */
  unsigned n_trials;   /* open ctx_try: what main holds now may be dropped */
  unsigned n_catching; /* open branches that give `escape` another try */
  const char *escape;  /* how results of an If differ that leave all bodies that
                          are known, or NULL */
  uint64_t n_nodes, max_nodes;
  moec_status_t status; /* first failure */
};

/* Remembers a failure. */
moec_status_t import_note(importer_t *im, moec_status_t status);

/* import_scope.c */
void scope_init(scope_t *scope, scope_t *outer, arena_t *arena);
binding_t *scope_find(const scope_t *scope, const char *name);
/* Defines a name; false if this scope has it already. */
bool scope_define(scope_t *scope, const char *name, binding_t binding);

/* import_constant.c: what the binding stands for, as a slot. */
slot_t binding_slot(importer_t *im, binding_t *binding, const char *name);
ir_value_t *import_tensor(importer_t *im, const Onnx__TensorProto *tensor,
                          ir_loc_t loc);
ir_value_t *import_sparse(importer_t *im, const Onnx__SparseTensorProto *sparse,
                          ir_loc_t loc);
ir_value_t *import_bytes(importer_t *im, dtype_t dtype, unsigned rank,
                         const int64_t *dim, ir_data_t *data, ir_loc_t loc);

/* import_pin.c: finds the dimensions that the options fix, and the size of one
 * (NULL: not fixed) by its dim_param, or "input:axis" if it has none. `scope`
 * has the names of initialisers. */
moec_status_t import_pins(importer_t *im, const scope_t *scope);
const expr_t *import_pinned(importer_t *im, const char *key);

/* import_port.c */
moec_status_t import_inputs(importer_t *im, scope_t *scope);
moec_status_t import_outputs(importer_t *im, const scope_t *scope);

/* import_type.c */
/* The symbol of a dimension without name: "input_axis". */
const char *import_dim_name(arena_t *arena, const char *input, unsigned axis);
/* Whether an input of the graph is the condition of one of its Ifs. Merged
 * decoders are so: two models that read the same inputs in different shapes,
 * under the dim_params of one of them. Then equal names of dimensions other
 * than the first say nothing about other inputs. */
bool import_is_chosen_by_input(arena_t *arena, const Onnx__GraphProto *graph);
/* The port of an input, and the types of the 1 to 3 tensors that make it up. */
moec_status_t import_input_type(importer_t *im,
                                const Onnx__ValueInfoProto *info,
                                ir_port_t *out_port, ir_type_t out_types[3]);
/* Compares a value with what the model says of it. */
moec_status_t import_check_type(importer_t *im, const Onnx__TypeProto *declared,
                                const char *name, const ir_value_t *value,
                                ir_loc_t loc, bool is_output);
/* Declared names of value_info lists. */
void import_declare(scope_t *scope, size_t n,
                    Onnx__ValueInfoProto *const *info);

/* import_rank.c: dimensions of the elements of an input that is a sequence, by
 * the nodes that use it; -1 if they do not tell. */
int import_rank_of_elements(const importer_t *im, const char *sequence);

/* import_order.c: nodes in an order where operands come first; the order of the
 * file is kept where possible. Warns when nodes had to move, an error names the
 * nodes of a cycle. `scope` has the names that are defined beforehand. */
moec_status_t import_order(importer_t *im, const frame_t *frame, size_t n_nodes,
                           Onnx__NodeProto *const *node, const scope_t *scope,
                           const uint32_t **out_order);

/* import_check.c: reports every operator that has no converter, in all graphs
 * and the functions that they call. */
moec_status_t import_check_operators(importer_t *im);
/* Version of a node's domain in a frame, 0 after an error. */
int import_node_opset(importer_t *im, const opsets_t *opsets,
                      const Onnx__NodeProto *node, ir_loc_t loc);
ir_loc_t import_node_loc(importer_t *im, const frame_t *frame,
                         const Onnx__NodeProto *node, size_t index);

/* import_function.c */
moec_status_t import_functions(importer_t *im);
local_function_t *import_find_function(const importer_t *im,
                                       const Onnx__NodeProto *node);
moec_status_t import_call(importer_t *im, const frame_t *frame,
                          local_function_t *function, convert_ctx_t *ctx);

/* import_node.c */
moec_status_t import_nodes(importer_t *im, const frame_t *frame, scope_t *scope,
                           ir_builder_t *b, const body_t *body);
body_t import_graph_body(arena_t *arena, const Onnx__GraphProto *graph,
                         const uint32_t *order);
/* import_rest.c: an If whose branches differ in rank, and the nodes after it in
 * the body, and as much of what follows the body as it takes. */
moec_status_t import_rest(convert_ctx_t *ctx, scope_t *scope,
                          const body_t *rest);
/* A graph's initialisers and value_info into a scope. */
moec_status_t import_graph_names(importer_t *im, scope_t *scope,
                                 const Onnx__GraphProto *graph);

#endif
