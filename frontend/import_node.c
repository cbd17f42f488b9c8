/* Nodes: operands from names, attributes through references, the converter,
 * results to names. */
#include <stdlib.h>
#include <string.h>

#include "frontend/import_state.h"
#include "frontend/legacy.h"

enum { MAX_IO = 1 << 20 };

moec_status_t import_note(importer_t *im, moec_status_t status) {
  if (im->status == MOEC_OK) im->status = status;
  return status;
}

static bool carries_value(const Onnx__AttributeProto *attr) {
  return attr->has_f || attr->has_i || attr->has_s || attr->t != NULL ||
         attr->g != NULL || attr->tp != NULL || attr->sparse_tensor != NULL ||
         attr->n_floats + attr->n_ints + attr->n_strings + attr->n_tensors +
                 attr->n_graphs + attr->n_type_protos + attr->n_sparse_tensors >
             0;
}

/* More than one kind of value, or one that the type tag does not name. */
static bool is_ambiguous(const Onnx__AttributeProto *a) {
  const struct {
    Onnx__AttributeProto__AttributeType type;
    bool present;
  } fields[] = {
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, a->has_f},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, a->has_i},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, a->has_s},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR, a->t != NULL},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH, a->g != NULL},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR,
       a->sparse_tensor != NULL},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO, a->tp != NULL},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS, a->n_floats > 0},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, a->n_ints > 0},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS, a->n_strings > 0},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS, a->n_tensors > 0},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS, a->n_graphs > 0},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSORS,
       a->n_sparse_tensors > 0},
      {ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS,
       a->n_type_protos > 0},
  };
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
    if (fields[i].present && fields[i].type != a->type) return true;
  return false;
}

/* What an attribute of a function body's node refers to; NULL if the caller
 * leaves it out. */
static const Onnx__AttributeProto *referred(const frame_t *frame,
                                            const char *name) {
  for (unsigned i = 0; i < frame->n_attrs; i++)
    if (strcmp(frame->attrs[i].name, name) == 0) return frame->attrs[i].proto;
  return NULL;
}

static moec_status_t read_attribute(convert_ctx_t *ctx, const frame_t *frame,
                                    const Onnx__AttributeProto *attr) {
  const char *name = onnx_str(attr->name);
  if (name[0] == '\0') return ctx_invalid(ctx, "an attribute has no name");
  const char *reference = onnx_str(attr->ref_attr_name);
  const Onnx__AttributeProto *value = attr;
  if (reference[0] != '\0') {
    if (frame->function == NULL)
      return ctx_invalid(ctx,
                         "attribute \"%s\" refers to \"%s\" outside a function",
                         name, reference);
    if (carries_value(attr))
      return ctx_invalid(ctx, "attribute \"%s\" has a value and a reference",
                         name);
    value = referred(frame, reference);
    if (value == NULL) return MOEC_OK;
    if (attr->has_type && attr->type != value->type)
      return ctx_invalid(ctx, "attribute \"%s\" refers to one of another type",
                         name);
  } else if (is_ambiguous(attr)) {
    return ctx_invalid(
        ctx, "the values of attribute \"%s\" do not fit its type", name);
  }
  ctx->attrs[ctx->n_attrs++] = (node_attr_t){name, value, false};
  return MOEC_OK;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static moec_status_t read_attributes(convert_ctx_t *ctx, const frame_t *frame) {
  const Onnx__NodeProto *node = ctx->node;
  ctx->attrs = ARENA_ARRAY(ctx->arena, node_attr_t, node->n_attribute);
  for (size_t i = 0; i < node->n_attribute; i++)
    MOEC_TRY(read_attribute(ctx, frame, node->attribute[i]));
  if (node->n_attribute < 2) return MOEC_OK;
  const char **names = ARENA_ARRAY(ctx->arena, const char *, node->n_attribute);
  for (size_t i = 0; i < node->n_attribute; i++)
    names[i] = node->attribute[i]->name;
  qsort(names, node->n_attribute, sizeof *names, compare_names);
  for (size_t i = 1; i < node->n_attribute; i++)
    if (strcmp(names[i - 1], names[i]) == 0)
      return ctx_invalid(ctx, "attribute \"%s\" occurs twice", names[i]);
  return MOEC_OK;
}

static bool read_operands(convert_ctx_t *ctx, const scope_t *scope) {
  const Onnx__NodeProto *node = ctx->node;
  slot_t *in = ARENA_ARRAY(ctx->arena, slot_t, node->n_input);
  bool usable = true;
  for (size_t i = 0; i < node->n_input; i++) {
    const char *name = node->input[i];
    if (name[0] == '\0') continue;
    binding_t *binding = scope_find(scope, name);
    if (binding == NULL) {
      ctx_invalid(ctx, "input \"%s\" is not defined", name);
      usable = false;
      continue;
    }
    in[i] = binding_slot(ctx->importer, binding, name);
    usable &= in[i].kind != SLOT_FAILED;
  }
  ctx->in = in;
  ctx->n_in = (unsigned)node->n_input;
  ctx->n_out = (unsigned)node->n_output;
  ctx->out = ARENA_ARRAY(ctx->arena, slot_t, node->n_output);
  return usable;
}

static const char *count_text(arena_t *arena, unsigned min, unsigned max) {
  if (min == max) return arena_printf(arena, "%u", min);
  if (max == IR_VARIADIC) return arena_printf(arena, "at least %u", min);
  return arena_printf(arena, "%u to %u", min, max);
}

static moec_status_t check_arity(convert_ctx_t *ctx, const onnx_row_t *row) {
  unsigned n_in = ctx->n_in, n_out = ctx->n_out;
  while (n_in > row->min_in && ctx->in[n_in - 1].kind == SLOT_NONE &&
         ctx->node->input[n_in - 1][0] == '\0')
    n_in--;
  if (n_in < row->min_in || (row->max_in != IR_VARIADIC && n_in > row->max_in))
    return ctx_invalid(ctx, "the node has %u inputs, expected %s", n_in,
                       count_text(ctx->arena, row->min_in, row->max_in));
  while (n_out > row->min_out && ctx->node->output[n_out - 1][0] == '\0')
    n_out--;
  if (n_out < row->min_out ||
      (row->max_out != IR_VARIADIC && n_out > row->max_out))
    return ctx_invalid(ctx, "the node has %u outputs, expected %s", n_out,
                       count_text(ctx->arena, row->min_out, row->max_out));
  bool variadic = row->max_in == IR_VARIADIC;
  for (unsigned i = 0; i < n_in; i++) {
    if (ctx->in[i].kind == SLOT_NONE && (i < row->min_in || variadic) &&
        !row->lists)
      return ctx_invalid(ctx, "input %u is missing", i);
    if (ctx->in[i].kind > SLOT_TENSOR && !row->lists)
      return ctx_invalid(
          ctx, "input %u is %s, expected a tensor", i,
          ctx->in[i].kind == SLOT_OPTIONAL ? "an optional" : "a sequence");
  }
  ctx->n_in = n_in;
  return MOEC_OK;
}

static moec_status_t convert_node(convert_ctx_t *ctx, const onnx_row_t *row) {
  MOEC_TRY(check_arity(ctx, row));
  ctx->code = row->code;
  moec_status_t status = row->convert(ctx);
  if (status == MOEC_OK) status = ctx_status(ctx);
  if (status != MOEC_OK) return status;
  for (unsigned i = 0; i < ctx->n_attrs; i++)
    if (!ctx->attrs[i].read)
      diag_warning(ctx->diag, ctx->loc,
                   "the operator has no attribute \"%s\", it is ignored",
                   ctx->attrs[i].name);
  for (unsigned i = 0; i < ctx->n_out; i++)
    if (ctx->out[i].kind == SLOT_NONE && ctx->node->output[i][0] != '\0' &&
        !row->lists)
      return ctx_unsupported(ctx, "output %u is not supported", i);
  return MOEC_OK;
}

static moec_status_t name_results(convert_ctx_t *ctx, scope_t *scope) {
  importer_t *im = ctx->importer;
  moec_status_t status = MOEC_OK;
  for (size_t i = 0; i < ctx->node->n_output; i++) {
    const char *name = ctx->node->output[i];
    if (name[0] == '\0') continue;
    slot_t *slot = &ctx->out[i];
    if (slot->kind == SLOT_TENSOR) {
      if (slot->value->name == NULL) slot->value->name = name;
      const Onnx__TypeProto *declared = name_map_get(&scope->declared, name);
      moec_status_t fits = MOEC_OK;
      if (declared != NULL)
        fits =
            import_check_type(im, declared, name, slot->value, ctx->loc, false);
      if (fits != MOEC_OK) {
        *slot = (slot_t){.kind = SLOT_FAILED};
        status = fits;
      }
    }
    if (!scope_define(scope, name, (binding_t){.slot = *slot}))
      status =
          ctx_invalid(ctx, "output \"%s\" is defined more than once", name);
  }
  return status;
}

static moec_status_t import_node(importer_t *im, const frame_t *frame,
                                 scope_t *scope, ir_builder_t *b,
                                 const Onnx__NodeProto *node, size_t index,
                                 body_t *rest) {
  outlet_t outlet = {
      .frame = frame, .scope = scope, .node = node, .rest = rest};
  convert_ctx_t ctx = {
      .importer = im,
      .b = b,
      .arena = im->arena,
      .exprs = im->module->exprs,
      .diag = im->diag,
      .loc = import_node_loc(im, frame, node, index),
      .node = node,
      .scope = scope,
      .frame = frame,
      .code = OP_COUNT,
      .outlet = &outlet,
  };
  b->loc = ctx.loc;
  b->status = MOEC_OK;
  if (node->n_input > MAX_IO || node->n_output > MAX_IO)
    return ctx_error(&ctx, MOEC_E_LIMIT,
                     "the node has more than %d inputs or outputs", MAX_IO);
  if (node->n_output == 0) {
    return ctx_invalid(&ctx, "the node has no outputs");
  }
  bool usable = read_operands(&ctx, scope);
  moec_status_t status = read_attributes(&ctx, frame);
  if (!usable && status == MOEC_OK) status = ctx.status;
  if (usable && status == MOEC_OK) {
    local_function_t *function = import_find_function(im, node);
    const char *domain = opset_domain(node->domain);
    if (function != NULL) {
      status = import_call(im, frame, function, &ctx);
    } else {
      ctx.opset = import_node_opset(im, frame->opsets, node, ctx.loc);
      const onnx_row_t *row = registry_find(
          im->registry, domain, onnx_str(node->op_type), ctx.opset, NULL);
      usable = row != NULL; /* otherwise reported by import_check_operators */
      if (usable && domain[0] == '\0' && ctx.opset < LEGACY_UNTIL)
        legacy_upgrade(&ctx);
      if (usable) status = ctx_status(&ctx);
      if (usable && status == MOEC_OK) status = convert_node(&ctx, row);
    }
  }
  if (status == MOEC_OK && ctx.differs != NULL) {
    status = import_rest(&ctx, scope, rest);
    outlet.taken = true;
  }
  if (outlet.taken) {
    rest->n_nodes = 0;
    return status;
  }
  if (!usable || status != MOEC_OK)
    for (unsigned i = 0; i < ctx.n_out; i++)
      if (ctx.out[i].kind != SLOT_TENSOR || status != MOEC_OK)
        ctx.out[i] = (slot_t){.kind = SLOT_FAILED};
  moec_status_t named = name_results(&ctx, scope);
  return status != MOEC_OK ? status : named;
}

moec_status_t import_nodes(importer_t *im, const frame_t *frame, scope_t *scope,
                           ir_builder_t *b, const body_t *body) {
  moec_status_t status = MOEC_OK;
  body_t rest = *body;
  while (rest.n_nodes > 0) {
    if (im->n_nodes++ >= im->max_nodes)
      return import_note(
          im, diag_error(im->diag, frame->loc, MOEC_E_LIMIT,
                         "more than %llu nodes after inlining functions",
                         (unsigned long long)im->max_nodes));
    uint32_t index = *rest.order++;
    rest.n_nodes--;
    moec_status_t done =
        import_node(im, frame, scope, b, rest.node[index], index, &rest);
    if (done != MOEC_OK) status = import_note(im, done);
    if (done == MOEC_E_LIMIT || im->escape != NULL) return done;
  }
  return status;
}

body_t import_graph_body(arena_t *arena, const Onnx__GraphProto *graph,
                         const uint32_t *order) {
  const char **result = ARENA_ARRAY(arena, const char *, graph->n_output);
  for (size_t i = 0; i < graph->n_output; i++)
    result[i] = onnx_str(graph->output[i]->name);
  return (body_t){graph->n_node,   graph->node, order,
                  graph->n_output, result,      NULL};
}

moec_status_t import_graph_names(importer_t *im, scope_t *scope,
                                 const Onnx__GraphProto *graph) {
  moec_status_t status = MOEC_OK;
  import_declare(scope, graph->n_value_info, graph->value_info);
  for (size_t i = 0; i < graph->n_initializer + graph->n_sparse_initializer;
       i++) {
    binding_t binding = {.slot.kind = SLOT_NONE};
    const char *name = "";
    if (i < graph->n_initializer) {
      binding.tensor = graph->initializer[i];
      name = onnx_str(binding.tensor->name);
    } else {
      binding.sparse = graph->sparse_initializer[i - graph->n_initializer];
      if (binding.sparse->values != NULL)
        name = onnx_str(binding.sparse->values->name);
    }
    ir_loc_t loc = {.where = arena_printf(im->arena, "initializer %zu", i)};
    if (name[0] == '\0')
      status = diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                          "the initializer has no name");
    else if (!scope_define(scope, name, binding))
      status = diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                          "initializer \"%s\" is defined more than once", name);
  }
  return status;
}
