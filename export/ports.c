/* Inputs and outputs of the model. Sequences and optionals are tensors inside:
 * all elements one after the other and their dimensions, see ir_port_t. */
#include <string.h>

#include "export/put.h"

static const int64_t flat[] = {-1};

static og_value_t *put_empty(export_t *e, dtype_t dtype, unsigned rank) {
  int64_t dims[IR_MAX_RANK] = {0};
  return og_tensor(e->graph, dtype, rank, dims, "", 0);
}

/* The type of a tensor of that rank, all sizes unknown. */
static ir_type_t loose_type(export_t *e, dtype_t dtype, unsigned rank) {
  return ir_tensor_type(dtype, rank,
                        ARENA_ARRAY(e->arena, const expr_t *, rank));
}

static ir_type_t wrapped(export_t *e, ir_kind_t kind, const ir_type_t *elem) {
  ir_type_t *kept = ARENA_NEW(e->arena, ir_type_t);
  *kept = *elem;
  return (ir_type_t){.kind = kind, .dtype = elem->dtype, .elem = kept};
}

/* Rank of a sequence's elements, from the type of their dimensions. */
static unsigned element_rank(const ir_type_t *dims) {
  int64_t rank = 0;
  bool known = dims->rank == 2 && expr_is_const(dims->dim[1], &rank);
  MOEC_ASSERT(known && rank >= 0 && rank <= IR_MAX_RANK);
  return (unsigned)rank;
}

/* The type that the port has in ONNX; `type` of its first tensor and the one
 * behind it. */
static ir_type_t port_type(export_t *e, const ir_port_t *port,
                           const ir_type_t *first, const ir_type_t *second) {
  ir_type_t type = *first;
  if (port->kind == IR_SEQUENCE || port->of_sequence) {
    type = loose_type(e, first->dtype, element_rank(second));
    type = wrapped(e, IR_SEQUENCE, &type);
  }
  return port->kind == IR_OPTIONAL ? wrapped(e, IR_OPTIONAL, &type) : type;
}

static og_value_t *put_typed(export_t *e, const char *op_type, dtype_t dtype,
                             unsigned n, og_value_t *const *in) {
  og_node_t *node = put_node(e, op_type, n, in, 1);
  node->out[0].dtype = dtype;
  return &node->out[0];
}

/* ---- Inputs -------------------------------------------------------------- */

/* Elements x[total] and their dimensions i64[n, rank] of a sequence. */
static void flatten(export_t *e, og_value_t *sequence, unsigned rank,
                    og_value_t **out_x, og_value_t **out_dims) {
  const ir_type_t count = ir_scalar_type(DT_I64);
  const ir_type_t more = ir_scalar_type(DT_BOOL);
  const expr_t *rank_dim = expr_const(e->module->exprs, rank);
  const ir_type_t dims = ir_tensor_type(DT_I64, 1, &rank_dim);
  dtype_t dtype = sequence->dtype;
  const ir_type_t line = loose_type(e, dtype, 1);
  const ir_type_t lines = wrapped(e, IR_SEQUENCE, &line);
  og_graph_t *outer = e->graph, *body = og_graph(e->arena, outer);
  og_value_t *n = put_typed(e, "SequenceLength", DT_I64, 1, &sequence);
  og_value_t *none = put_empty(e, dtype, 1);
  og_value_t *init = put1(e, "SequenceConstruct", none);
  og_value_t *trip = og_input(body, &count, "trip");
  og_value_t *goes_on = og_input(body, &more, "more");
  og_value_t *state = og_input(body, &lines, "elements");
  e->graph = body;
  og_value_t *x = put2(e, "SequenceAt", sequence, trip);
  og_value_t *as_line = put_reshape_ints(e, x, 1, flat);
  og_value_t *next = put2(e, "SequenceInsert", state, as_line);
  og_value_t *shape = put_typed(e, "Shape", DT_I64, 1, &x);
  og_output(body, goes_on, &more, NULL);
  og_output(body, next, &lines, NULL);
  og_output(body, shape, &dims, NULL);
  e->graph = outer;
  og_node_t *node = put_node(e, "Loop", 3, (og_value_t *[]){n, NULL, init}, 2);
  og_attr(e->graph, node, "body", OG_GRAPH)->graph = body;
  node->out[0].dtype = dtype;
  node->out[1].dtype = DT_I64;
  *out_x = put1(e, "ConcatFromSequence", &node->out[0]);
  set_int(e, *out_x, "axis", 0);
  *out_dims = &node->out[1];
}

/* What an optional holds, or something empty. */
static og_value_t *put_held(export_t *e, og_value_t *optional, og_value_t *has,
                            const ir_type_t *type, unsigned rank) {
  og_graph_t *outer = e->graph;
  og_graph_t *then = og_graph(e->arena, outer);
  og_graph_t *other = og_graph(e->arena, outer);
  e->graph = then;
  og_value_t *held = put1(e, "OptionalGetElement", optional);
  og_output(then, held, type, NULL);
  e->graph = other;
  og_value_t *none;
  if (type->kind == IR_SEQUENCE) {
    none = put_typed(e, "SequenceEmpty", type->dtype, 0, NULL);
    set_int(e, none, "dtype", type->dtype);
  } else {
    none = put_empty(e, type->dtype, rank);
  }
  og_output(other, none, type, NULL);
  e->graph = outer;
  og_node_t *node = put_node(e, "If", 1, &has, 1);
  node->out[0].dtype = type->dtype;
  og_attr(e->graph, node, "then_branch", OG_GRAPH)->graph = then;
  og_attr(e->graph, node, "else_branch", OG_GRAPH)->graph = other;
  return &node->out[0];
}

static void write_input(export_t *e, const ir_func_t *func,
                        const ir_port_t *port) {
  const ir_value_t *arg = &func->body.args[port->first];
  ir_type_t type =
      port_type(e, port, &arg->type, port->n > 1 ? &arg[1].type : NULL);
  og_value_t *x = og_input(e->graph, &type, port->name);
  og_value_t *parts[3] = {x};
  x->fixed = true;
  if (port->kind == IR_OPTIONAL) {
    og_value_t *has = put_typed(e, "OptionalHasElement", DT_BOOL, 1, &x);
    ir_type_t held = *type.elem;
    if (held.kind == IR_TENSOR) held = loose_type(e, held.dtype, held.rank);
    x = parts[0] = put_held(e, x, has, &held, held.rank);
    parts[port->n - 1] = has;
  }
  if (port->kind == IR_SEQUENCE || port->of_sequence)
    flatten(e, x, element_rank(&arg[1].type), &parts[0], &parts[1]);
  for (unsigned i = 0; i < port->n; i++) {
    e->values[arg[i].number] = parts[i];
    define_symbols(e, parts[i], &arg[i].type);
  }
}

static void each_port(const ir_ports_t *ports, unsigned n,
                      const char *const *names, export_t *e,
                      const ir_func_t *func,
                      void (*write)(export_t *e, const ir_func_t *func,
                                    const ir_port_t *port)) {
  for (unsigned i = 0; i < ports->n; i++) write(e, func, &ports->port[i]);
  for (unsigned i = 0; ports->n == 0 && i < n; i++) {
    ir_port_t port = {.kind = IR_TENSOR,
                      .name = names != NULL ? names[i] : NULL,
                      .first = i,
                      .n = 1};
    write(e, func, &port);
  }
}

void write_inputs(export_t *e, const ir_func_t *func) {
  each_port(&func->inputs, func->body.n_args, func->arg_names, e, func,
            write_input);
}

/* ---- Outputs ------------------------------------------------------------- */

/* A sequence of the parts of x[total] that dims i64[n, rank] tell. */
static og_value_t *unflatten(export_t *e, og_value_t *x, og_value_t *dims,
                             unsigned rank) {
  const ir_type_t count = ir_scalar_type(DT_I64);
  const ir_type_t more = ir_scalar_type(DT_BOOL);
  const expr_t *one_dim = expr_const(e->module->exprs, 1);
  const ir_type_t size = ir_tensor_type(DT_I64, 1, &one_dim);
  const ir_type_t element = loose_type(e, x->dtype, rank);
  const ir_type_t sequence = wrapped(e, IR_SEQUENCE, &element);
  og_graph_t *outer = e->graph, *body = og_graph(e->arena, outer);
  og_value_t *shape_of = put_typed(e, "Shape", DT_I64, 1, &dims);
  og_value_t *zero = put_scalar_int(e, DT_I64, 0), *none = put_int1(e, 0);
  og_value_t *n = put_gather(e, shape_of, zero, 0);
  og_value_t *init = put_typed(e, "SequenceEmpty", x->dtype, 0, NULL);
  set_int(e, init, "dtype", x->dtype);
  og_value_t *trip = og_input(body, &count, "trip");
  og_value_t *goes_on = og_input(body, &more, "more");
  og_value_t *state = og_input(body, &sequence, "elements");
  og_value_t *start = og_input(body, &size, "start");
  e->graph = body;
  og_value_t *shape = put_gather(e, dims, trip, 0);
  og_value_t *length = put1(e, "ReduceProd", shape);
  og_value_t *end = put2(e, "Add", start, length);
  og_value_t *line = put3(e, "Slice", x, start, end);
  og_value_t *part = put2(e, "Reshape", line, shape);
  set_int(e, part, "allowzero", 1);
  og_value_t *next = put2(e, "SequenceInsert", state, part);
  og_output(body, goes_on, &more, NULL);
  og_output(body, next, &sequence, NULL);
  og_output(body, end, &size, NULL);
  e->graph = outer;
  og_node_t *node =
      put_node(e, "Loop", 4, (og_value_t *[]){n, NULL, init, none}, 2);
  og_attr(e->graph, node, "body", OG_GRAPH)->graph = body;
  node->out[0].dtype = x->dtype;
  node->out[1].dtype = DT_I64;
  return &node->out[0];
}

/* An optional that holds x where `has`. */
static og_value_t *put_optional(export_t *e, og_value_t *x, og_value_t *has,
                                const ir_type_t *type) {
  og_graph_t *outer = e->graph;
  og_graph_t *then = og_graph(e->arena, outer);
  og_graph_t *other = og_graph(e->arena, outer);
  e->graph = then;
  og_value_t *held = put1(e, "Optional", x);
  og_output(then, held, type, NULL);
  e->graph = other;
  og_value_t *none = put_typed(e, "Optional", x->dtype, 0, NULL);
  og_attr(other, none->node, "type", OG_TYPE)->type = type->elem;
  og_output(other, none, type, NULL);
  e->graph = outer;
  og_node_t *node = put_node(e, "If", 1, &has, 1);
  node->out[0].dtype = x->dtype;
  og_attr(e->graph, node, "then_branch", OG_GRAPH)->graph = then;
  og_attr(e->graph, node, "else_branch", OG_GRAPH)->graph = other;
  return &node->out[0];
}

static void write_output(export_t *e, const ir_func_t *func,
                         const ir_port_t *port) {
  const ir_op_t *ret = func->body.last;
  const ir_value_t *part[3] = {NULL};
  for (unsigned i = 0; i < port->n; i++)
    part[i] = ret->in[port->first + i].value;
  ir_type_t type = port_type(e, port, &part[0]->type,
                             part[1] != NULL ? &part[1]->type : NULL);
  og_value_t *x = e->values[part[0]->number];
  if (port->kind == IR_SEQUENCE || port->of_sequence)
    x = unflatten(e, x, e->values[part[1]->number],
                  element_rank(&part[1]->type));
  if (port->kind == IR_OPTIONAL) {
    ir_type_t *held = ARENA_NEW(e->arena, ir_type_t);
    *held = *type.elem;
    if (held->kind == IR_TENSOR) *held = loose_type(e, held->dtype, held->rank);
    type.elem = held;
    x = put_optional(e, x, e->values[part[port->n - 1]->number], &type);
  }
  og_output(e->graph, x, &type, port->name);
}

void write_outputs(export_t *e, const ir_func_t *func) {
  each_port(&func->outputs, func->body.last->n_in, func->result_names, e, func,
            write_output);
}
