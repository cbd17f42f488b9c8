/* Regions: If and Loop. Sizes that an operation defines are told by the shapes
 * of its results where one has them; the others are results of their own. */
#include <string.h>

#include "export/put.h"

static const ir_type_t *size_type(export_t *e) {
  ir_type_t *type = ARENA_NEW(e->arena, ir_type_t);
  const expr_t **dim = ARENA_ARRAY(e->arena, const expr_t *, 1);
  dim[0] = expr_const(e->module->exprs, 1);
  *type = ir_tensor_type(DT_I64, 1, dim);
  return type;
}

/* Whether a dimension of the type is the symbol. */
static bool has_dim(const ir_type_t *type, const expr_t *symbol,
                    unsigned *out_axis) {
  for (unsigned i = 0; i < type->rank; i++) {
    *out_axis = i;
    if (type->dim[i] == symbol) return true;
  }
  return false;
}

static og_value_t *value_of(const export_t *e, const ir_value_t *value) {
  return e->values[value->number];
}

/* ---- If ------------------------------------------------------------------ */

static og_graph_t *write_branch(export_t *e, const ir_op_t *op, unsigned index,
                                unsigned n_extra, const unsigned *extra) {
  const ir_region_t *region = &op->regions[index];
  const ir_op_t *yield = region->last;
  og_graph_t *outer = e->graph, *graph = og_graph(e->arena, outer);
  unsigned n;
  const expr_t *const *sizes = ir_get_exprs(op, ATTR_IF_symbols, &n);
  if (n > 0) sizes = ir_get_exprs(yield, ATTR_YIELD_sizes, &n);
  e->graph = graph;
  write_region(e, region);
  e->op = op;
  for (unsigned i = 0; i < op->n_out; i++)
    og_output(graph, value_of(e, yield->in[i].value), &op->out[i].type, NULL);
  for (unsigned i = 0; i < n_extra; i++) {
    og_value_t *size = put_size(e, sizes[extra[i]]);
    og_output(graph, size, size_type(e), NULL);
  }
  e->graph = outer;
  return graph;
}

void write_if(export_t *e, const writer_row_t *row) {
  const ir_op_t *op = e->op;
  unsigned n_symbols, n_extra = 0, axis;
  const expr_t *const *symbols = ir_get_exprs(op, ATTR_IF_symbols, &n_symbols);
  unsigned *extra = ARENA_ARRAY(e->arena, unsigned, n_symbols);
  for (unsigned i = 0; i < n_symbols; i++) {
    bool told = false;
    for (unsigned j = 0; j < op->n_out && !told; j++)
      told = has_dim(&op->out[j].type, symbols[i], &axis);
    if (!told) extra[n_extra++] = i;
  }
  og_value_t *cond = in_value(e, 0);
  og_graph_t *then = write_branch(e, op, 0, n_extra, extra);
  og_graph_t *other = write_branch(e, op, 1, n_extra, extra);
  og_node_t *node = put_node(e, row->onnx, 1, &cond, op->n_out + n_extra);
  og_attr(e->graph, node, "then_branch", OG_GRAPH)->graph = then;
  og_attr(e->graph, node, "else_branch", OG_GRAPH)->graph = other;
  for (unsigned i = 0; i < op->n_out; i++) {
    node->out[i].dtype = op->out[i].type.dtype;
    give(e, i, &node->out[i]);
  }
  for (unsigned i = 0; i < n_extra; i++) {
    node->out[op->n_out + i].dtype = DT_I64;
    og_define(e->graph, expr_as_symbol(symbols[extra[i]]),
              &node->out[op->n_out + i], -1);
  }
  for (unsigned i = 0; i < op->n_out; i++)
    define_symbols(e, &node->out[i], &op->out[i].type);
}

/* ---- While --------------------------------------------------------------- */

typedef struct loop {
  const ir_op_t *op, *yield;
  unsigned n_state, n_rows, n_symbols;
  const expr_t *const *symbols;
  const expr_t *trips; /* the symbol that counts them, or NULL */
  unsigned *carried;   /* symbols that are states of their own */
  unsigned n_carried;
  bool counts; /* one state more: the trips so far */
} loop_t;

static void plan_loop(export_t *e, loop_t *l) {
  const ir_region_t *region = &l->op->regions[0];
  unsigned axis;
  l->yield = region->last;
  l->n_state = l->op->n_in - 2;
  l->n_rows = l->op->n_out - l->n_state;
  l->symbols = ir_get_exprs(l->op, ATTR_WHILE_symbols, &l->n_symbols);
  l->carried = ARENA_ARRAY(e->arena, unsigned, l->n_symbols);
  for (unsigned i = 0; i < l->n_symbols; i++) {
    bool told = false;
    for (unsigned j = 0; j < l->n_state && !told; j++)
      told = has_dim(&region->args[1 + j].type, l->symbols[i], &axis);
    if (!told) l->carried[l->n_carried++] = i;
  }
  if (ir_get_int(l->op, ATTR_WHILE_counted) != 0)
    l->trips = ir_get_expr(l->op, ATTR_WHILE_trips);
  l->counts = l->trips != NULL && l->n_rows == 0;
}

/* The symbols in the body, or after the loop: sizes of the states. */
static void define_states(export_t *e, const loop_t *l,
                          og_value_t *const *state,
                          og_value_t *const *carried) {
  const ir_region_t *region = &l->op->regions[0];
  unsigned axis;
  for (unsigned i = 0; i < l->n_carried; i++)
    og_define(e->graph, expr_as_symbol(l->symbols[l->carried[i]]), carried[i],
              -1);
  for (unsigned i = 0; i < l->n_symbols; i++)
    for (unsigned j = 0; j < l->n_state; j++)
      if (has_dim(&region->args[1 + j].type, l->symbols[i], &axis)) {
        og_define(e->graph, expr_as_symbol(l->symbols[i]), state[j], (int)axis);
        break;
      }
}

static og_graph_t *write_body(export_t *e, const loop_t *l) {
  const ir_region_t *region = &l->op->regions[0];
  og_graph_t *outer = e->graph, *body = og_graph(e->arena, outer);
  const ir_type_t more = ir_scalar_type(DT_BOOL);
  og_value_t **state = ARENA_ARRAY(e->arena, og_value_t *, l->n_state);
  og_value_t **carried = ARENA_ARRAY(e->arena, og_value_t *, l->n_carried);
  unsigned n;
  const expr_t *const *sizes = l->symbols;
  if (l->n_symbols > 0) sizes = ir_get_exprs(l->yield, ATTR_YIELD_sizes, &n);
  e->values[region->args[0].number] =
      og_input(body, &region->args[0].type, "trip");
  (void)og_input(body, &more, "more");
  for (unsigned i = 0; i < l->n_state; i++) {
    const ir_value_t *arg = &region->args[1 + i];
    state[i] = og_input(body, &arg->type, arg->name);
    e->values[arg->number] = state[i];
  }
  for (unsigned i = 0; i < l->n_carried; i++)
    carried[i] = og_input(body, size_type(e), "size");
  og_value_t *count = l->counts ? og_input(body, size_type(e), "trips") : NULL;
  e->graph = body;
  define_states(e, l, state, carried);
  write_region(e, region);
  e->op = l->op;
  og_output(body, value_of(e, l->yield->in[0].value), &more, NULL);
  for (unsigned i = 0; i < l->n_state; i++)
    og_output(body, value_of(e, l->yield->in[1 + i].value),
              &region->args[1 + i].type, NULL);
  for (unsigned i = 0; i < l->n_carried; i++) {
    og_value_t *size = put_size(e, sizes[l->carried[i]]);
    og_output(body, size, size_type(e), NULL);
  }
  if (l->counts) {
    og_value_t *one = put_int1(e, 1);
    og_value_t *next = put2(e, "Add", count, one);
    og_output(body, next, size_type(e), NULL);
  }
  for (unsigned i = 0; i < l->n_rows; i++) {
    const ir_value_t *row = l->yield->in[1 + l->n_state + i].value;
    og_output(body, value_of(e, row), &row->type, NULL);
  }
  e->graph = outer;
  return body;
}

/* Without a trip runtimes do not know the sizes of rows. */
static og_value_t *shaped_rows(export_t *e, const ir_type_t *type,
                               og_value_t *rows) {
  int64_t lower;
  bool runs = expr_lower_bound(type->dim[0], &lower) && lower >= 1;
  bool known = true;
  for (unsigned i = 1; i < type->rank; i++)
    known &= expr_is_const(type->dim[i], NULL);
  if (runs || known) return rows;
  og_value_t *shape = put_sizes(e, type->rank, type->dim);
  og_value_t *y = put2(e, "Reshape", rows, shape);
  set_int(e, y, "allowzero", 1);
  return y;
}

static og_value_t **loop_operands(export_t *e, const loop_t *l,
                                  unsigned *out_n) {
  unsigned n = 0;
  og_value_t **in =
      ARENA_ARRAY(e->arena, og_value_t *, l->op->n_in + l->n_carried + 1);
  const expr_t *const *inits = l->symbols;
  if (l->n_symbols > 0) inits = ir_get_exprs(l->op, ATTR_WHILE_inits, &n);
  for (n = 0; n < l->op->n_in; n++) in[n] = in_value(e, n);
  for (unsigned i = 0; i < l->n_carried; i++)
    in[n++] = put_size(e, inits[l->carried[i]]);
  if (l->counts) in[n++] = put_int1(e, 0);
  *out_n = n;
  return in;
}

void write_while(export_t *e, const writer_row_t *row) {
  loop_t l = {.op = e->op};
  unsigned n_in;
  plan_loop(e, &l);
  og_value_t **in = loop_operands(e, &l, &n_in);
  og_graph_t *body = write_body(e, &l);
  unsigned n_first = l.n_state + l.n_carried + l.counts;
  og_node_t *node = put_node(e, row->onnx, n_in, in, n_first + l.n_rows);
  og_attr(e->graph, node, "body", OG_GRAPH)->graph = body;
  og_value_t **state = ARENA_ARRAY(e->arena, og_value_t *, l.n_state);
  og_value_t **carried = ARENA_ARRAY(e->arena, og_value_t *, l.n_carried);
  for (unsigned i = 0; i < n_first + l.n_rows; i++)
    node->out[i].dtype = DT_I64; /* of sizes */
  for (unsigned i = 0; i < l.n_state; i++) {
    state[i] = &node->out[i];
    state[i]->dtype = l.op->out[i].type.dtype;
    give(e, i, state[i]);
  }
  for (unsigned i = 0; i < l.n_carried; i++)
    carried[i] = &node->out[l.n_state + i];
  define_states(e, &l, state, carried);
  if (l.trips != NULL)
    og_define(e->graph, expr_as_symbol(l.trips), &node->out[n_first - l.counts],
              l.counts ? -1 : 0);
  for (unsigned i = 0; i < l.n_rows; i++) {
    og_value_t *rows = &node->out[n_first + i];
    const ir_type_t *type = &l.op->out[l.n_state + i].type;
    rows->dtype = type->dtype;
    give(e, l.n_state + i, shaped_rows(e, type, rows));
  }
}
