/* What follows an If whose branches differ in rank. A value has one rank here,
 * so the nodes after the If are built twice, as the end of either branch. Where
 * what they give differs in rank too, and the If stands in a function or in a
 * branch of another If, what follows these is built twice as well: as many
 * bodies as it takes. Where the nodes do not fit one of the branches, only the
 * other may be taken: a run that takes the first ends there. */
#include "frontend/import_state.h"
#include "frontend/region.h"

/* A body of which the end is built twice: of the one with the If the nodes
 * after it, of those around it what follows them. */
typedef struct level {
  scope_t *scope;
  const frame_t *frame;
  const Onnx__NodeProto
      *node; /* the If, or that for which the body before stands */
  const body_t *body;
} level_t;

typedef struct rest {
  const Onnx__GraphProto *branch[2];
  unsigned n_levels;
  level_t *level;            /* [n_levels] */
  unsigned n;                /* wanted names that the last level defines */
  const char **name;         /* [n] */
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
  const level_t *last = &rest->level[rest->n_levels - 1];
  const body_t *body = last->body;
  name_map_t wanted, found;
  name_map_init(&wanted, ctx->arena);
  name_map_init(&found, ctx->arena);
  rest->name = ARENA_ARRAY(ctx->arena, const char *, body->n_results + 1);
  for (size_t i = 0; i < body->n_results; i++)
    if (body->result[i][0] != '\0')
      name_map_add(&wanted, body->result[i], rest);
  find_wanted(rest, &wanted, &found, last->node);
  for (size_t i = 0; i < body->n_nodes; i++)
    find_wanted(rest, &wanted, &found, body->node[body->order[i]]);
}

/* ---- One branch ---------------------------------------------------------- */

static moec_status_t define(convert_ctx_t *ctx, scope_t *scope,
                            const char *name, slot_t slot) {
  if (name[0] == '\0' || scope_define(scope, name, (binding_t){.slot = slot}))
    return MOEC_OK;
  return ctx_invalid(ctx, "output \"%s\" is defined more than once", name);
}

/* The results of a body as what its node gives, in the body around it. */
static moec_status_t hand_out(convert_ctx_t *ctx, const body_t *body,
                              const scope_t *from, const outlet_t *to) {
  for (size_t i = 0; i < to->node->n_output; i++) {
    const char *result = body->result[i];
    binding_t *binding = scope_find(from, result);
    if (binding == NULL)
      return ctx_invalid(ctx, "output \"%s\" of a body is not defined", result);
    slot_t slot = binding_slot(ctx->importer, binding, result);
    MOEC_TRY(define(ctx, to->scope, onnx_str(to->node->output[i]), slot));
  }
  return MOEC_OK;
}

/* The If's branch where the If stands. */
static moec_status_t build_branch(convert_ctx_t *ctx, const rest_t *rest,
                                  unsigned index, outlet_t *after) {
  const Onnx__NodeProto *node = ctx->node;
  slot_t *out = ARENA_ARRAY(ctx->arena, slot_t, node->n_output);
  outlet_t *before = ctx->outlet;
  ctx->outlet = after;
  moec_status_t status = ctx_inline_all(ctx, rest->branch[index], out);
  ctx->outlet = before;
  MOEC_TRY(status);
  for (size_t i = 0; i < node->n_output && !after->taken; i++)
    MOEC_TRY(define(ctx, after->scope, onnx_str(node->output[i]), out[i]));
  return MOEC_OK;
}

/* A branch and all that follows, into ctx->b. Each level has its names in a
 * scope of its own: *out_scope is the last. */
static moec_status_t build_rest(convert_ctx_t *ctx, const rest_t *rest,
                                unsigned index, scope_t **out_scope) {
  unsigned n = rest->n_levels;
  outlet_t *chain = ARENA_ARRAY(ctx->arena, outlet_t, n);
  scope_t *scope = ARENA_ARRAY(ctx->arena, scope_t, n);
  body_t *body = ARENA_ARRAY(ctx->arena, body_t, n);
  for (unsigned i = 0; i < n; i++) {
    const level_t *level = &rest->level[i];
    scope_init(&scope[i], level->scope, ctx->arena);
    body[i] = *level->body;
    body[i].outlet = i + 1 < n ? &chain[i + 1] : NULL;
    chain[i] = (outlet_t){.frame = level->frame,
                          .scope = &scope[i],
                          .node = level->node,
                          .rest = &body[i]};
  }
  *out_scope = &scope[n - 1];
  ir_loc_t loc = ctx->b->loc;
  moec_status_t status = build_branch(ctx, rest, index, &chain[0]);
  for (unsigned i = 0; i < n && status == MOEC_OK; i++) {
    if (chain[i].taken) continue;
    if (i > 0) status = hand_out(ctx, &body[i - 1], &scope[i - 1], &chain[i]);
    if (status == MOEC_OK)
      status = import_nodes(ctx->importer, chain[i].frame, &scope[i], ctx->b,
                            &body[i]);
  }
  ctx->b->loc = loc;
  return status;
}

static moec_status_t rest_branch(convert_ctx_t *ctx, void *user, unsigned index,
                                 slot_t *out) {
  rest_t *rest = user;
  scope_t *scope;
  rest->n_begun++;
  MOEC_TRY(build_rest(ctx, rest, index, &scope));
  for (unsigned i = 0; i < rest->n; i++) {
    binding_t *binding = scope_find(scope, rest->name[i]);
    out[i] = binding_slot(ctx->importer, binding, rest->name[i]);
  }
  rest->n_built++;
  return MOEC_OK;
}

/* ---- Both branches ------------------------------------------------------- */

/* What an attempt that failed has recorded, and how to forget it. */
typedef struct attempt {
  diag_sink_t diag;
  moec_status_t importer, ctx;
} attempt_t;

static attempt_t begin_attempt(const convert_ctx_t *ctx) {
  return (attempt_t){*ctx->diag, ctx->importer->status, ctx->status};
}

static void forget(convert_ctx_t *ctx, const attempt_t *attempt) {
  *ctx->diag = attempt->diag;
  if (ctx->diag->last != NULL) ctx->diag->last->next = NULL;
  ctx->importer->status = attempt->importer;
  ctx->status = attempt->ctx;
}

moec_status_t ctx_if_of_ranks(convert_ctx_t *ctx, const if_spec_t *spec,
                              slot_t *out) {
  importer_t *im = ctx->importer;
  attempt_t attempt = begin_attempt(ctx);
  *spec->differs = NULL;
  im->n_catching++;
  moec_status_t status = ctx_if(ctx, spec, out);
  im->n_catching--;
  if (im->escape == NULL) return status;
  *spec->differs = im->escape;
  im->escape = NULL;
  forget(ctx, &attempt);
  return MOEC_OK;
}

/* The rest after the only branch that it fits. */
static moec_status_t build_only(convert_ctx_t *ctx, rest_t *rest,
                                ir_value_t *condition, unsigned index,
                                slot_t *results) {
  ir_value_t *number = ir_cast(ctx->b, condition, DT_I64);
  const expr_t *taken = ctx_size(ctx, number, 0, "branch", 0, ctx_int(ctx, 1));
  ir_check_equal(ctx->b, taken, ctx_int(ctx, index == 0 ? 1 : 0),
                 "the branch taken and the only one that fits what follows "
                 "(1 is then, 0 is else)");
  MOEC_TRY(ctx_status(ctx));
  return rest_branch(ctx, rest, index, results);
}

/* *out_differs: results of the last level differ in rank, nothing is built. */
static moec_status_t build_both(convert_ctx_t *ctx, rest_t *rest,
                                slot_t *results, const char **out_differs) {
  attempt_t attempt = begin_attempt(ctx);
  ir_value_t *condition = ir_reshape(ctx->b, ctx_in(ctx, 0), 0, NULL);
  if_spec_t spec = {.condition = condition,
                    .n_out = rest->n,
                    .branch = rest_branch,
                    .user = rest,
                    .differs = out_differs};
  moec_status_t status = ctx_if_of_ranks(ctx, &spec, results);
  if (*out_differs == NULL && status == MOEC_E_INVALID_MODEL &&
      rest->n_built < rest->n_begun) {
    forget(ctx, &attempt);
    unsigned fits = rest->n_begun == 1 ? 1 : 0;
    return build_only(ctx, rest, condition, fits, results);
  }
  return status;
}

/* Results leave the outermost body that is known: perhaps around it an If gives
 * its branches another try, with what follows it. */
static moec_status_t escape(convert_ctx_t *ctx, const char *differs) {
  importer_t *im = ctx->importer;
  if (im->n_catching == 0) return ctx_unsupported(ctx, "%s", differs);
  im->escape = differs;
  ctx->status = MOEC_E_UNSUPPORTED;
  return ctx->status;
}

static unsigned count_levels(const body_t *body) {
  unsigned n = 1;
  for (const outlet_t *o = body->outlet; o != NULL; o = o->rest->outlet) n++;
  return n;
}

moec_status_t import_rest(convert_ctx_t *ctx, scope_t *scope,
                          const body_t *body) {
  unsigned n_levels = count_levels(body);
  rest_t rest = {.branch = {attr_graph(ctx, "then_branch"),
                            attr_graph(ctx, "else_branch")}};
  rest.level = ARENA_ARRAY(ctx->arena, level_t, n_levels);
  rest.level[0] = (level_t){scope, ctx->frame, ctx->node, body};
  outlet_t *outlet = body->outlet;
  const char *differs = NULL;
  moec_status_t status;
  slot_t *results;
  do {
    if (differs != NULL) { /* one body more */
      rest.level[rest.n_levels] =
          (level_t){outlet->scope, outlet->frame, outlet->node, outlet->rest};
      outlet->taken = true;
      outlet = outlet->rest->outlet;
    }
    rest.n_levels++;
    rest.n = rest.n_begun = rest.n_built = 0;
    find_results(ctx, &rest);
    results = ARENA_ARRAY(ctx->arena, slot_t, rest.n + 1);
    status = build_both(ctx, &rest, results, &differs);
  } while (status == MOEC_OK && differs != NULL && outlet != NULL);
  if (status == MOEC_OK && differs != NULL) status = escape(ctx, differs);
  scope = rest.level[rest.n_levels - 1].scope;
  for (unsigned i = 0; i < rest.n; i++) {
    slot_t slot =
        status == MOEC_OK ? results[i] : (slot_t){.kind = SLOT_FAILED};
    moec_status_t defined = define(ctx, scope, rest.name[i], slot);
    if (status == MOEC_OK) status = defined;
  }
  return status;
}
