/* Inputs and outputs of the graph as arguments and results of main. What is no
 * tensor is several of them, see ir_port_t. */
#include "frontend/import_state.h"
#include "frontend/sequence.h"

static const ir_loc_t nowhere;

enum { MAX_WIDTH = 3 };

/* Arguments or results while they are collected. */
typedef struct collected {
  unsigned n, n_ports;
  const char **names;
  ir_type_t *types;
  ir_value_t **values;
  ir_port_t *ports;
  bool any; /* some port is no tensor */
} collected_t;

static collected_t collect(arena_t *arena, size_t n) {
  return (collected_t){
      .names = ARENA_ARRAY(arena, const char *, n *MAX_WIDTH),
      .types = ARENA_ARRAY(arena, ir_type_t, n * MAX_WIDTH),
      .values = ARENA_ARRAY(arena, ir_value_t *, n * MAX_WIDTH),
      .ports = ARENA_ARRAY(arena, ir_port_t, n)};
}

/* "x" for what it holds, "x.dims" and "x.has" for the rest. */
static void add_port(arena_t *arena, collected_t *c, const ir_port_t *port,
                     const ir_type_t *types, ir_value_t *const *values) {
  bool sequence = port->kind == IR_SEQUENCE || port->of_sequence;
  c->any |= port->kind != IR_TENSOR;
  c->ports[c->n_ports] = *port;
  c->ports[c->n_ports].n = ir_port_width(port);
  c->ports[c->n_ports++].first = c->n;
  for (unsigned i = 0; i < ir_port_width(port); i++) {
    c->names[c->n] = i == 0 ? port->name
                            : arena_printf(arena, "%s.%s", port->name,
                                           sequence && i == 1 ? "dims" : "has");
    if (types != NULL) c->types[c->n] = types[i];
    if (values != NULL) c->values[c->n] = values[i];
    c->n++;
  }
}

static ir_ports_t ports_of(const collected_t *c) {
  if (!c->any) return (ir_ports_t){0};
  return (ir_ports_t){.n = c->n_ports, .port = c->ports};
}

/* ---- Inputs -------------------------------------------------------------- */

static slot_t slot_of(const ir_port_t *port, ir_value_t *args) {
  ir_value_t *first = &args[port->first];
  slot_t slot = {.kind = SLOT_TENSOR, .value = first};
  if (port->kind == IR_SEQUENCE || port->of_sequence) {
    slot.kind = SLOT_SEQUENCE;
    slot.dims = first + 1;
  }
  if (port->kind == IR_OPTIONAL) {
    slot.kind = SLOT_OPTIONAL;
    slot.has = first + port->n - 1;
  }
  return slot;
}

/* Inputs without initialiser become arguments; the others keep their default:
 * such inputs are constants of the model. */
static moec_status_t add_input(importer_t *im, scope_t *scope, size_t index,
                               name_map_t *seen, collected_t *c) {
  Onnx__ValueInfoProto *info = im->proto->graph->input[index];
  const char *name = onnx_str(info->name);
  ir_loc_t loc = {.where = arena_printf(im->arena, "input %zu", index)};
  ir_port_t port = {0};
  ir_type_t types[MAX_WIDTH];
  if (name[0] == '\0')
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "the input has no name");
  if (name_map_add(seen, name, info) != info)
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "input \"%s\" is declared twice", name);
  if (name_map_get(&scope->names, name) != NULL) return MOEC_OK;
  MOEC_TRY(import_input_type(im, info, &port, types));
  add_port(im->arena, c, &port, types, NULL);
  return MOEC_OK;
}

moec_status_t import_inputs(importer_t *im, scope_t *scope) {
  const Onnx__GraphProto *graph = im->proto->graph;
  collected_t c = collect(im->arena, graph->n_input);
  name_map_t seen;
  name_map_init(&seen, im->arena);
  moec_status_t status = MOEC_OK;
  for (size_t i = 0; i < graph->n_input; i++) {
    moec_status_t added = add_input(im, scope, i, &seen, &c);
    if (added == MOEC_OK) continue;
    status = import_note(im, added);
    const char *name = onnx_str(graph->input[i]->name);
    if (name[0] != '\0')
      scope_define(scope, name, (binding_t){.slot.kind = SLOT_FAILED});
  }
  im->func = ir_func_create(im->module, "main", IR_FUNC_MAIN, c.n, c.types);
  im->func->inputs = ports_of(&c);
  for (unsigned i = 0; i < c.n; i++)
    im->func->arg_names[i] = im->func->body.args[i].name = c.names[i];
  for (unsigned i = 0; i < c.n_ports; i++)
    scope_define(
        scope, c.ports[i].name,
        (binding_t){.slot = slot_of(&c.ports[i], im->func->body.args)});
  return status;
}

/* ---- Outputs ------------------------------------------------------------- */

static convert_ctx_t context_of(importer_t *im, ir_builder_t *b, ir_loc_t loc) {
  return (convert_ctx_t){.importer = im,
                         .b = b,
                         .arena = im->arena,
                         .exprs = im->module->exprs,
                         .diag = im->diag,
                         .loc = loc};
}

static bool declares(const Onnx__ValueInfoProto *info,
                     Onnx__TypeProto__ValueCase kind) {
  return info->type != NULL && info->type->value_case == kind;
}

/* An empty optional of the declared type. */
static moec_status_t make_empty(importer_t *im, convert_ctx_t *ctx,
                                const Onnx__ValueInfoProto *info,
                                slot_t *slot) {
  Onnx__ValueInfoProto declared = *info;
  ir_port_t port;
  ir_type_t types[MAX_WIDTH];
  MOEC_TRY(import_input_type(im, &declared, &port, types));
  if (port.of_sequence) {
    int64_t rank = 0;
    expr_is_const(types[1].dim[1], &rank);
    *slot = sequence_empty(ctx, types[0].dtype, (unsigned)rank);
  } else {
    const expr_t **dim =
        ARENA_ARRAY(im->arena, const expr_t *, types[0].rank + 1);
    for (unsigned d = 0; d < types[0].rank; d++) dim[d] = ctx_int(ctx, 0);
    ir_value_t *zero = ir_scalar_int(ctx->b, types[0].dtype, 0);
    slot->value = ir_fill(ctx->b, zero, types[0].rank, dim);
  }
  slot->has = ir_scalar_int(ctx->b, DT_BOOL, 0);
  slot->kind = SLOT_OPTIONAL;
  return ctx_status(ctx);
}

/* The slot in the kind that the model declares. */
static moec_status_t settle(importer_t *im, ir_builder_t *b,
                            const Onnx__ValueInfoProto *info, ir_loc_t loc,
                            slot_t *slot) {
  convert_ctx_t ctx = context_of(im, b, loc);
  bool optional = declares(info, ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE);
  if (slot->kind == SLOT_NONE && optional)
    return make_empty(im, &ctx, info, slot);
  if (slot->kind == SLOT_NONE)
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "the output is an empty optional");
  if (slot->kind == SLOT_LIST && !sequence_of(&ctx, slot, 0, slot))
    return ctx_status(&ctx) != MOEC_OK ? ctx_status(&ctx)
                                       : MOEC_E_INVALID_MODEL;
  if (optional && slot->kind != SLOT_OPTIONAL) {
    slot->has = ir_scalar_int(b, DT_BOOL, 1);
    slot->kind = SLOT_OPTIONAL;
  }
  return ctx_status(&ctx);
}

static moec_status_t add_output(importer_t *im, const scope_t *scope,
                                ir_builder_t *b,
                                const Onnx__ValueInfoProto *info,
                                collected_t *c) {
  const char *name = onnx_str(info->name);
  ir_loc_t loc = {.where = arena_printf(im->arena, "output \"%s\"", name)};
  binding_t *binding = name[0] != '\0' ? scope_find(scope, name) : NULL;
  if (binding == NULL)
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "no node produces this output");
  slot_t slot = binding_slot(im, binding, name);
  if (slot.kind == SLOT_FAILED) return MOEC_OK; /* reported already */
  MOEC_TRY(settle(im, b, info, loc, &slot));
  ir_port_t port = {.kind = IR_TENSOR, .name = name};
  ir_value_t *values[MAX_WIDTH];
  unsigned n = 0;
  values[n++] = slot.value;
  if (slot.dims != NULL) values[n++] = slot.dims;
  if (slot.has != NULL) values[n++] = slot.has;
  if (slot.kind == SLOT_SEQUENCE) port.kind = IR_SEQUENCE;
  if (slot.kind == SLOT_OPTIONAL) port.kind = IR_OPTIONAL;
  port.of_sequence = slot.kind == SLOT_OPTIONAL && slot.dims != NULL;
  add_port(im->arena, c, &port, NULL, values);
  if (info->type == NULL || slot.kind != SLOT_TENSOR) return MOEC_OK;
  return import_check_type(im, info->type, name, slot.value, loc, true);
}

moec_status_t import_outputs(importer_t *im, const scope_t *scope) {
  const Onnx__GraphProto *graph = im->proto->graph;
  collected_t c = collect(im->arena, graph->n_output);
  ir_builder_t b = {
      .module = im->module, .region = &im->func->body, .diag = im->diag};
  name_map_t seen;
  name_map_init(&seen, im->arena);
  for (size_t i = 0; i < graph->n_output; i++) {
    Onnx__ValueInfoProto *info = graph->output[i];
    const char *name = onnx_str(info->name);
    if (name_map_add(&seen, name, info) != info)
      import_note(im, diag_error(im->diag, nowhere, MOEC_E_INVALID_MODEL,
                                 "output \"%s\" is declared twice", name));
    moec_status_t added = add_output(im, scope, &b, info, &c);
    if (added != MOEC_OK) import_note(im, added);
  }
  MOEC_TRY(im->status);
  im->func->result_names = c.names;
  im->func->outputs = ports_of(&c);
  ir_place(&b, ir_begin(&b, OP_RETURN, c.n, c.values, 0));
  return b.status;
}
