/* Model-local functions: finding them, checking them once, and putting their
 * bodies in the place of their calls. */
#include <string.h>

#include "frontend/import_state.h"

enum { MAX_FUNCTIONS = 10000, MAX_CALL_DEPTH = 100 };

static const char *function_key(arena_t *arena, const char *domain,
                                const char *name, const char *overload) {
  return arena_printf(arena, "%s\n%s\n%s", opset_domain(domain), onnx_str(name),
                      onnx_str(overload));
}

local_function_t *import_find_function(const importer_t *im,
                                       const Onnx__NodeProto *node) {
  if (im->functions.n == 0) return NULL;
  return name_map_get(
      &im->functions,
      function_key(im->arena, node->domain, node->op_type, node->overload));
}

static ir_loc_t function_loc(importer_t *im, const Onnx__FunctionProto *proto) {
  return (ir_loc_t){.where = arena_printf(im->arena, "function \"%s::%s\"",
                                          opset_domain(proto->domain),
                                          onnx_str(proto->name))};
}

/* Names of a list that must differ from each other and not be empty. */
static moec_status_t check_distinct(importer_t *im, size_t n,
                                    char *const *names, const char *what,
                                    ir_loc_t loc) {
  static char mark;
  moec_status_t status = MOEC_OK;
  name_map_t seen;
  name_map_init(&seen, im->arena);
  for (size_t i = 0; i < n; i++) {
    if (names[i][0] == '\0')
      status = diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                          "%s %zu has no name", what, i);
    else if (name_map_get(&seen, names[i]) != NULL)
      status = diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                          "%s \"%s\" occurs twice", what, names[i]);
    else
      name_map_add(&seen, names[i], &mark);
  }
  return status;
}

/* Order of the body's nodes; names that are not inputs must be produced. */
static moec_status_t order_body(importer_t *im, local_function_t *function,
                                ir_loc_t loc) {
  const Onnx__FunctionProto *proto = function->proto;
  scope_t scope;
  scope_init(&scope, NULL, im->arena);
  for (size_t i = 0; i < proto->n_input; i++)
    scope_define(&scope, proto->input[i], (binding_t){.slot.kind = SLOT_NONE});
  frame_t frame = {
      .function = proto,
      .opsets = &function->opsets,
      .prefix = arena_printf(im->arena, "%s/", onnx_str(proto->name)),
      .loc = loc,
  };
  return import_order(im, &frame, proto->n_node, proto->node, &scope,
                      &function->order);
}

static moec_status_t add_function(importer_t *im,
                                  const Onnx__FunctionProto *proto) {
  ir_loc_t loc = function_loc(im, proto);
  local_function_t *function = ARENA_NEW(im->arena, local_function_t);
  function->proto = proto;
  const char *key =
      function_key(im->arena, proto->domain, proto->name, proto->overload);
  if (name_map_add(&im->functions, key, function) != function)
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "the function is defined twice");
  moec_status_t parts[] = {
      opsets_read(im->arena, proto->n_opset_import, proto->opset_import, loc,
                  im->diag, &function->opsets),
      check_distinct(im, proto->n_input, proto->input, "input", loc),
      check_distinct(im, proto->n_output, proto->output, "output", loc),
      check_distinct(im, proto->n_attribute, proto->attribute, "attribute",
                     loc),
      order_body(im, function, loc),
  };
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
    if (function->status == MOEC_OK) function->status = parts[i];
  return function->status;
}

moec_status_t import_functions(importer_t *im) {
  name_map_init(&im->functions, im->arena);
  if (im->proto->n_functions > MAX_FUNCTIONS)
    return diag_error(im->diag, (ir_loc_t){0}, MOEC_E_LIMIT,
                      "%zu functions exceed the limit of %d",
                      im->proto->n_functions, MAX_FUNCTIONS);
  moec_status_t status = MOEC_OK;
  for (size_t i = 0; i < im->proto->n_functions; i++) {
    moec_status_t added = add_function(im, im->proto->functions[i]);
    if (status == MOEC_OK) status = added;
  }
  return status;
}

static const node_attr_t *find_attr(unsigned n, const node_attr_t *attrs,
                                    const char *name) {
  for (unsigned i = 0; i < n; i++)
    if (strcmp(attrs[i].name, name) == 0) return &attrs[i];
  return NULL;
}

/* The call's attributes and the function's defaults, under the names that
 * references in the body use. */
static moec_status_t bind_attributes(convert_ctx_t *ctx,
                                     const Onnx__FunctionProto *proto,
                                     frame_t *frame) {
  size_t n_all = proto->n_attribute + proto->n_attribute_proto;
  node_attr_t *bound = ARENA_ARRAY(ctx->arena, node_attr_t, n_all);
  unsigned n = 0;
  for (size_t i = 0; i < proto->n_attribute; i++) {
    const char *name = proto->attribute[i];
    const node_attr_t *given = find_attr(ctx->n_attrs, ctx->attrs, name);
    if (given != NULL) bound[n++] = *given;
  }
  for (size_t i = 0; i < proto->n_attribute_proto; i++) {
    const char *name = onnx_str(proto->attribute_proto[i]->name);
    const node_attr_t *given = find_attr(ctx->n_attrs, ctx->attrs, name);
    bound[n++] = given != NULL
                     ? *given
                     : (node_attr_t){name, proto->attribute_proto[i], false};
  }
  for (unsigned i = 0; i < ctx->n_attrs; i++)
    if (find_attr(n, bound, ctx->attrs[i].name) == NULL)
      diag_warning(ctx->diag, ctx->loc,
                   "the function has no attribute \"%s\", it is ignored",
                   ctx->attrs[i].name);
  frame->n_attrs = n;
  frame->attrs = bound;
  return MOEC_OK;
}

static moec_status_t check_call(importer_t *im, const frame_t *frame,
                                const local_function_t *function,
                                const convert_ctx_t *ctx) {
  const Onnx__FunctionProto *proto = function->proto;
  MOEC_ASSERT(frame != NULL);
  for (const frame_t *f = frame; f != NULL; f = f->caller)
    if (f->function == proto)
      return diag_error(im->diag, ctx->loc, MOEC_E_INVALID_MODEL,
                        "function \"%s\" calls itself", onnx_str(proto->name));
  if (frame->depth >= MAX_CALL_DEPTH)
    return diag_error(im->diag, ctx->loc, MOEC_E_LIMIT,
                      "functions call each other deeper than %d levels",
                      MAX_CALL_DEPTH);
  if (ctx->n_in > proto->n_input || ctx->n_out > proto->n_output)
    return diag_error(
        im->diag, ctx->loc, MOEC_E_INVALID_MODEL,
        "the call has %u inputs and %u outputs, the function %zu and %zu",
        ctx->n_in, ctx->n_out, proto->n_input, proto->n_output);
  return MOEC_OK;
}

moec_status_t import_call(importer_t *im, const frame_t *frame,
                          local_function_t *function, convert_ctx_t *ctx) {
  const Onnx__FunctionProto *proto = function->proto;
  MOEC_TRY(function->status);
  MOEC_TRY(check_call(im, frame, function, ctx));
  frame_t inner = {
      .caller = frame,
      .function = proto,
      .opsets = &function->opsets,
      .loc = ctx->loc,
      .depth = frame->depth + 1,
      .prefix = arena_printf(
          im->arena, "%s/",
          onnx_str(ctx->loc.node)[0] != '\0' ? ctx->loc.node : ctx->loc.type),
  };
  MOEC_TRY(bind_attributes(ctx, proto, &inner));
  scope_t scope;
  scope_init(&scope, NULL, im->arena);
  for (size_t i = 0; i < proto->n_input; i++)
    scope_define(
        &scope, proto->input[i],
        (binding_t){.slot = i < ctx->n_in ? ctx->in[i]
                                          : (slot_t){.kind = SLOT_NONE}});
  import_declare(&scope, proto->n_value_info, proto->value_info);
  ir_loc_t loc = ctx->b->loc;
  body_t body = {proto->n_node,
                 proto->node,
                 function->order,
                 proto->n_output,
                 (const char *const *)proto->output,
                 ctx->outlet};
  moec_status_t status = import_nodes(im, &inner, &scope, ctx->b, &body);
  ctx->b->loc = loc;
  if (status == MOEC_E_LIMIT || im->escape != NULL || ctx->outlet->taken)
    return status;
  for (unsigned i = 0; i < ctx->n_out; i++) {
    binding_t *binding = scope_find(&scope, proto->output[i]);
    if (binding == NULL) {
      ctx->out[i] = (slot_t){.kind = SLOT_FAILED};
      status = diag_error(im->diag, ctx->loc, MOEC_E_INVALID_MODEL,
                          "output \"%s\" of function \"%s\" is not defined",
                          proto->output[i], onnx_str(proto->name));
    } else {
      ctx->out[i] = binding_slot(im, binding, proto->output[i]);
    }
  }
  return status;
}
