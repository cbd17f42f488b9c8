/* Bodies of control flow in the place of their nodes. */
#include "frontend/import_state.h"

/* Binds the graph's inputs; those with an initialiser keep it. */
static moec_status_t bind_inputs(convert_ctx_t *ctx, scope_t *scope,
                                 const Onnx__GraphProto *graph, unsigned n_args,
                                 const slot_t *args) {
  unsigned n = 0;
  for (size_t i = 0; i < graph->n_input; i++) {
    const char *name = onnx_str(graph->input[i]->name);
    if (name_map_get(&scope->names, name) != NULL && n >= n_args) continue;
    if (n < n_args && !scope_define(scope, name, (binding_t){.slot = args[n]}))
      return ctx_invalid(ctx, "input \"%s\" of a body is defined twice", name);
    n++;
  }
  if (n != n_args)
    return ctx_invalid(ctx, "a body has %u inputs, expected %u", n, n_args);
  return MOEC_OK;
}

ir_op_t *ctx_last_op(const convert_ctx_t *ctx) {
  return ctx->b->before != NULL ? ctx->b->before->prev : ctx->b->region->last;
}

ir_op_t *ctx_try(convert_ctx_t *ctx) {
  ctx->importer->n_trials++;
  return ctx_last_op(ctx);
}

void ctx_keep(convert_ctx_t *ctx) { ctx->importer->n_trials--; }

void ctx_drop(convert_ctx_t *ctx, const ir_op_t *last) {
  ctx->importer->n_trials--;
  for (ir_op_t *op = ctx_last_op(ctx), *prev; op != last; op = prev) {
    prev = op->prev;
    if (op->code != OP_CONSTANT) ir_erase(op);
  }
}

static moec_status_t inline_graph(convert_ctx_t *ctx,
                                  const Onnx__GraphProto *graph,
                                  unsigned n_args, const slot_t *args,
                                  outlet_t *outlet, slot_t *out) {
  importer_t *im = ctx->importer;
  scope_t scope;
  scope_init(&scope, ctx->scope, im->arena);
  MOEC_TRY(import_graph_names(im, &scope, graph));
  MOEC_TRY(bind_inputs(ctx, &scope, graph, n_args, args));
  const uint32_t *order;
  MOEC_TRY(
      import_order(im, ctx->frame, graph->n_node, graph->node, &scope, &order));
  ir_loc_t loc = ctx->b->loc;
  body_t body = import_graph_body(im->arena, graph, order);
  body.outlet = outlet;
  moec_status_t status = import_nodes(im, ctx->frame, &scope, ctx->b, &body);
  ctx->b->loc = loc;
  if (status != MOEC_OK) ctx->status = status;
  MOEC_TRY(status);
  if (outlet != NULL && outlet->taken) return ctx->status;
  for (size_t i = 0; i < graph->n_output; i++) {
    const char *name = onnx_str(graph->output[i]->name);
    binding_t *binding = scope_find(&scope, name);
    if (binding == NULL)
      return ctx_invalid(ctx, "output \"%s\" of a body is not defined", name);
    out[i] = binding_slot(im, binding, name);
    if (out[i].kind == SLOT_FAILED) {
      ctx->status = im->status != MOEC_OK ? im->status : MOEC_E_INVALID_MODEL;
      return ctx->status;
    }
  }
  return ctx->status;
}

moec_status_t ctx_inline(convert_ctx_t *ctx, const Onnx__GraphProto *graph,
                         unsigned n_args, const slot_t *args, slot_t *out) {
  return inline_graph(ctx, graph, n_args, args, NULL, out);
}

moec_status_t ctx_inline_all(convert_ctx_t *ctx, const Onnx__GraphProto *graph,
                             slot_t *out) {
  return inline_graph(ctx, graph, 0, NULL, ctx->outlet, out);
}
