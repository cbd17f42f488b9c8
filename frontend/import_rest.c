/* What follows an If whose branches differ in rank. A value has one rank here,
 * so the nodes after the If are built twice, as the end of either branch. Where
 * they do not fit one of them, only the other may be taken: a run that takes
 * the first ends there. */
#include "frontend/import_state.h"
#include "frontend/region.h"

typedef struct rest {
  scope_t *scope;
  const body_t *body;
  const Onnx__GraphProto *branch[2];
  unsigned n;        /* wanted names that the If or a node after it defines */
  const char **name; /* [n] */
  unsigned n_begun, n_built; /* branches */
} rest_t;

/* Names of a node's outputs that are wanted, each once. */
static void find_wanted(rest_t *rest, const name_map_t *wanted,
                        name_map_t *found, const Onnx__NodeProto *node) {
  for (size_t i = 0; i < node->n_output; i++) {
    const char *name = onnx_str(node->output[i]);
    const char **cell = &rest->name[rest->n];
    if (name_map_get(wanted, name) == NULL ||
        name_map_add(found, name, cell) != cell)
      continue;
    *cell = name;
    rest->n++;
  }
}

static void find_results(convert_ctx_t *ctx, rest_t *rest) {
  const body_t *body = rest->body;
  name_map_t wanted, found;
  name_map_init(&wanted, ctx->arena);
  name_map_init(&found, ctx->arena);
  rest->name = ARENA_ARRAY(ctx->arena, const char *, body->n_results + 1);
  for (size_t i = 0; i < body->n_results; i++)
    if (body->result[i][0] != '\0')
      name_map_add(&wanted, body->result[i], rest);
  find_wanted(rest, &wanted, &found, ctx->node);
  for (size_t i = 0; i < body->n_nodes; i++)
    find_wanted(rest, &wanted, &found, body->node[body->order[i]]);
}

/* A branch and all that follows, into ctx->b. */
static moec_status_t build_rest(convert_ctx_t *ctx, const rest_t *rest,
                                unsigned index, scope_t *scope) {
  const Onnx__NodeProto *node = ctx->node;
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, node->n_output);
  MOEC_TRY(ctx_inline(ctx, rest->branch[index], 0, NULL, out));
  for (size_t i = 0; i < node->n_output; i++) {
    const char *name = onnx_str(node->output[i]);
    if (name[0] != '\0' &&
        !scope_define(scope, name, (binding_t){.slot = out[i]}))
      return ctx_invalid(ctx, "output \"%s\" is defined more than once", name);
  }
  ir_loc_t loc = ctx->b->loc;
  moec_status_t status =
      import_nodes(ctx->importer, ctx->frame, scope, ctx->b, rest->body);
  ctx->b->loc = loc;
  return status;
}

static moec_status_t rest_branch(convert_ctx_t *ctx, void *user, unsigned index,
                                 slot_t *out) {
  rest_t *rest = user;
  scope_t scope;
  scope_init(&scope, rest->scope, ctx->arena);
  rest->n_begun++;
  MOEC_TRY(build_rest(ctx, rest, index, &scope));
  for (unsigned i = 0; i < rest->n; i++) {
    binding_t *binding = scope_find(&scope, rest->name[i]);
    out[i] = binding_slot(ctx->importer, binding, rest->name[i]);
  }
  rest->n_built++;
  return MOEC_OK;
}

/* The rest after the only branch that it fits. */
static moec_status_t build_only(convert_ctx_t *ctx, const rest_t *rest,
                                ir_value_t *condition, unsigned index) {
  if (index == 1) condition = ir_unary(ctx->b, OP_NOT, condition);
  ir_value_t *taken = ir_cast(ctx->b, condition, DT_I64);
  if (ctx_size(ctx, taken, 0, "branch that fits what follows", 1, NULL) == NULL)
    return ctx_status(ctx);
  return build_rest(ctx, rest, index, rest->scope);
}

static moec_status_t build_both(convert_ctx_t *ctx, rest_t *rest) {
  importer_t *im = ctx->importer;
  diag_sink_t diag = *ctx->diag;
  moec_status_t before = im->status;
  ir_value_t *condition = ir_reshape(ctx->b, ctx_in(ctx, 0), 0, NULL);
  if_spec_t spec = {.condition = condition,
                    .n_out = rest->n,
                    .branch = rest_branch,
                    .user = rest};
  slot_t *results = ARENA_ARRAY(ctx->arena, slot_t, rest->n + 1);
  moec_status_t status = ctx_if(ctx, &spec, results);
  if (status == MOEC_E_INVALID_MODEL && rest->n_built < rest->n_begun) {
    *ctx->diag = diag;
    if (diag.last != NULL) diag.last->next = NULL;
    im->status = before;
    ctx->status = MOEC_OK;
    return build_only(ctx, rest, condition, rest->n_begun == 1 ? 1 : 0);
  }
  MOEC_TRY(status);
  for (unsigned i = 0; i < rest->n; i++)
    if (!scope_define(rest->scope, rest->name[i],
                      (binding_t){.slot = results[i]}))
      return ctx_invalid(ctx, "output \"%s\" is defined more than once",
                         rest->name[i]);
  return MOEC_OK;
}

moec_status_t import_rest(convert_ctx_t *ctx, scope_t *scope,
                          const body_t *body) {
  rest_t rest = {.scope = scope,
                 .body = body,
                 .branch = {attr_graph(ctx, "then_branch"),
                            attr_graph(ctx, "else_branch")}};
  find_results(ctx, &rest);
  moec_status_t status = build_both(ctx, &rest);
  if (status == MOEC_OK) return MOEC_OK;
  for (unsigned i = 0; i < rest.n; i++)
    scope_define(scope, rest.name[i],
                 (binding_t){.slot = {.kind = SLOT_FAILED}});
  return status;
}
