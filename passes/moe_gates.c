/* Gates of several consumers of one input become one product: routers, and
 * softmax or sigmoid of a product with a constant matrix. Exact: columns of a
 * product are summed in the same order whatever their number, from 16 on; gates
 * with fewer are summed in another order alone than together (layout), and stay
 * apart. */
#include "ir/build.h"
#include "ir/route.h"
#include "passes/layout.h"
#include "passes/moe_report.h"
#include "passes/pass.h"
#include "passes/rules.h"

/* Columns: of one gate, of all together. What is saved is the padding of
 * panels, and packing x again; beyond this nothing was measured. */
enum { MOST_COLUMNS = 128, MOST_TOGETHER = 256, MOST_PARTS = 16 };

typedef struct part {
  ir_op_t *op; /* matmul or moe.route */
  ir_value_t *w;
  int64_t columns;
  struct part *next;
} part_t;

/* Gates of the rows x. */
typedef struct gates {
  ir_value_t *x; /* behind reshapes */
  const expr_t *inner;
  const ir_region_t *region;
  part_t *first, **last;
  unsigned n;
  int64_t columns;
  struct gates *next;
} gates_t;

typedef struct joiner {
  pass_ctx_t *ctx;
  gates_t *first, **last;
} joiner_t;

/* ---- Finding ------------------------------------------------------------- */

/* Scores follow from the value: by a softmax, sigmoid or topk, perhaps behind
 * biases and views. */
static bool gives_scores(const ir_value_t *x, unsigned depth) {
  enum { MOST = 4 };
  bool any = false;
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    const ir_op_t *user = use->user;
    switch (user->code) {
      case OP_SOFTMAX:
      case OP_SIGMOID:
      case OP_TOPK:
      case OP_ARG_MAX:
        any = true;
        continue;
      case OP_ADD:
      case OP_RESHAPE:
      case OP_CAST:
      case OP_MUL:
      case OP_DIV:
        if (depth == MOST || !gives_scores(&user->out[0], depth + 1))
          return false;
        any = true;
        continue;
      default:
        return false;
    }
  }
  return any;
}

static ir_value_t *strip(ir_value_t *x) {
  while (x->def != NULL && x->def->code == OP_RESHAPE) x = x->def->in[0].value;
  return x;
}

static void add_gate(joiner_t *j, ir_op_t *op, ir_value_t *x, ir_value_t *w) {
  int64_t columns;
  if (w->type.rank != 2 || !rule_is_constant(w) ||
      (w->type.dtype != DT_F32 && w->type.dtype != DT_F64) ||
      x->type.dtype != w->type.dtype || op->out[0].type.rank == 0 ||
      !expr_is_const(w->type.dim[1], &columns) || columns < LAYOUT_NARROW ||
      columns > MOST_COLUMNS)
    return;
  x = strip(x);
  gates_t *g = j->first;
  while (g != NULL &&
         (g->x != x || g->inner != w->type.dim[0] || g->region != op->parent ||
          g->n == MOST_PARTS || g->columns + columns > MOST_TOGETHER))
    g = g->next;
  if (g == NULL) {
    g = ARENA_NEW(j->ctx->scratch, gates_t);
    *g = (gates_t){.x = x, .inner = w->type.dim[0], .region = op->parent};
    g->last = &g->first;
    *j->last = g;
    j->last = &g->next;
  }
  part_t *part = ARENA_NEW(j->ctx->scratch, part_t);
  *part = (part_t){.op = op, .w = w, .columns = columns};
  *g->last = part;
  g->last = &part->next;
  g->n++;
  g->columns += columns;
}

static void find_gate(joiner_t *j, ir_op_t *op) {
  if (op->code == OP_MATMUL &&
      op->out[0].type.dtype == op->in[0].value->type.dtype &&
      gives_scores(&op->out[0], 0))
    add_gate(j, op, op->in[0].value, op->in[1].value);
  if (op->code == OP_MOE_ROUTE && ir_in(op, ROUTE_GATE) != NULL)
    add_gate(j, op, ir_in(op, ROUTE_X), ir_in(op, ROUTE_GATE));
}

/* ---- Joining ------------------------------------------------------------- */

/* Moves a constant behind views to where it can be used. */
static void bring(ir_value_t *x, ir_op_t *place) {
  ir_op_t *op = x->def;
  if (op->parent != place->parent) return;
  for (unsigned i = 0; i < op->n_in; i++) bring(op->in[i].value, place);
  const ir_op_t *after = place;
  while (after != NULL && after != op) after = after->next;
  if (after != NULL) ir_move_before(op, place);
}

static ir_value_t *all_columns(const gates_t *g, ir_builder_t *b) {
  ir_value_t *part[MOST_PARTS];
  unsigned n = 0, n_turned = 0;
  for (const part_t *p = g->first; p != NULL; p = p->next) {
    const ir_op_t *op = p->w->def;
    bring(p->w, b->before);
    n_turned += op->code == OP_TRANSPOSE;
    part[n++] = p->w;
  }
  if (n_turned != n) return ir_concat(b, n, part, 1);
  for (unsigned i = 0; i < n; i++) part[i] = part[i]->def->in[0].value;
  ir_value_t *all = ir_concat(b, n, part, 0);
  return ir_transpose(b, all, (const int64_t[]){1, 0});
}

static void tell(pass_ctx_t *ctx, const ir_op_t *route, unsigned n) {
  moe_report_t *report = ctx->options->moe;
  if (report == NULL) return;
  const ir_value_t *x = &route->out[0];
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    const ir_op_t *user = use->user;
    if (user->code == OP_RESHAPE && user->out[0].uses != NULL)
      user = user->out[0].uses->user;
    for (unsigned i = 0; user->code == OP_MOE_EXPERTS && i < report->n_layers;
         i++) {
      moe_layer_t *layer = report->layers[i];
      if (layer->loc.index != user->loc.index ||
          layer->loc.node != user->loc.node || layer->router == NULL)
        continue;
      text_t words;
      text_init(&words, report->arena);
      text_printf(&words, "%s, in one product with %u other gate%s",
                  layer->router, n - 1, n == 2 ? "" : "s");
      layer->router = words.data;
    }
  }
}

static void give_route(ir_builder_t *b, ir_op_t *op, ir_value_t *logits) {
  route_t route;
  const char *what;
  if (!route_read(op, &route, &what))
    MOEC_BUG("moe.route has an unknown '%s'", what);
  if (route.in[ROUTE_GATE_BIAS] != NULL)
    logits = ir_binary(b, OP_ADD, logits, route.in[ROUTE_GATE_BIAS]);
  route.in[ROUTE_X] = logits;
  route.in[ROUTE_GATE] = route.in[ROUTE_GATE_BIAS] = NULL;
  ir_op_t *to = route_write(b->module, op->loc, &route);
  if (ir_place(b, to) == NULL) return;
  for (unsigned i = 0; i < 2; i++) {
    if (to->out[i].name == NULL) to->out[i].name = op->out[i].name;
    ir_replace_uses(&op->out[i], &to->out[i]);
  }
}

static moec_status_t join(pass_ctx_t *ctx, const gates_t *g) {
  expr_pool_t *pool = ctx->module->exprs;
  ir_op_t *first = g->first->op;
  ir_builder_t b = {.module = ctx->module,
                    .region = first->parent,
                    .before = first,
                    .loc = first->loc,
                    .diag = ctx->diag};
  const expr_t *count = ir_type_count(pool, &g->x->type);
  const expr_t *rows[2] = {expr_divide_exactly(pool, count, g->inner),
                           g->inner};
  if (rows[0] == NULL) return MOEC_OK;
  ir_value_t *w = all_columns(g, &b);
  ir_value_t *x = ir_reshape(&b, g->x, 2, rows);
  ir_value_t *all = ir_matmul(&b, x, w);
  MOEC_TRY(b.status);
  int64_t at = 0;
  for (const part_t *p = g->first; p != NULL; p = p->next) {
    ir_op_t *op = p->op;
    b.before = op;
    b.loc = op->loc;
    ir_value_t *y = ir_slice(&b, all, 1, expr_const(pool, at),
                             expr_const(pool, p->columns), expr_const(pool, 1));
    at += p->columns;
    MOEC_TRY(b.status);
    if (op->code == OP_MOE_ROUTE) {
      tell(ctx, op, g->n);
      give_route(&b, op, y);
    } else {
      ir_value_t *old = &op->out[0];
      y = ir_reshape(&b, y, old->type.rank, old->type.dim);
      MOEC_TRY(b.status);
      if (y->name == NULL) y->name = old->name;
      ir_replace_uses(old, y);
    }
    MOEC_TRY(b.status);
  }
  ctx->changed = true;
  return MOEC_OK;
}

moec_status_t run_moe_gates(pass_ctx_t *ctx, ir_func_t *func) {
  joiner_t j = {.ctx = ctx};
  j.last = &j.first;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    find_gate(&j, op);
  for (const gates_t *g = j.first; g != NULL; g = g->next)
    if (g->n > 1 && pass_allow_rewrite(ctx, "moe_gates", g->first->op))
      MOEC_TRY(join(ctx, g));
  return MOEC_OK;
}
