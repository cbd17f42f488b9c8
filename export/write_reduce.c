/* Reductions, scans, selections and matrix products. */
#include "export/put.h"

void write_reduce(export_t *e, const writer_row_t *row) {
  unsigned n;
  ir_attr_id_t first = ir_op_info(e->op->code)->attr_first;
  const int64_t *axes = ir_get_ints(e->op, first, &n);
  og_value_t *x = in_carried(e, 0, row->types);
  if (n == 0) { /* no axes would mean all of them */
    give(e, 0, x);
    return;
  }
  og_value_t *list = put_ints(e, n, axes);
  og_value_t *y = put2(e, row->onnx, x, list);
  set_int(e, y, "keepdims", ir_get_int(e->op, first + 1));
  give(e, 0, y);
}

_Static_assert(ATTR_ARG_MIN_select_last_index - ATTR_ARG_MIN_axis ==
                   ATTR_ARG_MAX_select_last_index - ATTR_ARG_MAX_axis,
               "ops.def: arg_max and arg_min have the same attributes");

void write_arg_reduce(export_t *e, const writer_row_t *row) {
  ir_attr_id_t first = ir_op_info(e->op->code)->attr_first;
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *y = put1(e, row->onnx, x);
  y->dtype = DT_I64;
  set_int(e, y, "axis", ir_get_int(e->op, first));
  set_int(e, y, "keepdims", ir_get_int(e->op, first + 1));
  set_int(e, y, "select_last_index", ir_get_int(e->op, first + 2));
  give(e, 0, y);
}

_Static_assert(ATTR_CUM_PROD_reverse - ATTR_CUM_PROD_axis ==
                   ATTR_CUM_SUM_reverse - ATTR_CUM_SUM_axis,
               "ops.def: cum_sum and cum_prod have the same attributes");

void write_scan(export_t *e, const writer_row_t *row) {
  ir_attr_id_t first = ir_op_info(e->op->code)->attr_first;
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *axis = put_scalar_int(e, DT_I64, ir_get_int(e->op, first));
  og_value_t *y = put2(e, row->onnx, x, axis);
  set_int(e, y, "exclusive", ir_get_int(e->op, first + 1));
  set_int(e, y, "reverse", ir_get_int(e->op, first + 2));
  give(e, 0, y);
}

void write_softmax(export_t *e, const writer_row_t *row) {
  ir_attr_id_t first = ir_op_info(e->op->code)->attr_first;
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *y = put1(e, row->onnx, x);
  set_int(e, y, "axis", ir_get_int(e->op, first));
  give(e, 0, y);
}

/* ---- Products ------------------------------------------------------------ */

void write_matmul(export_t *e, const writer_row_t *row) {
  dtype_t out = e->op->out[0].type.dtype;
  og_value_t *x = in_value(e, 0), *y = in_value(e, 1);
  bool bytes = dtype_bits(x->dtype) == 8 && dtype_bits(y->dtype) == 8 &&
               dtype_is_integer(x->dtype) && dtype_is_integer(y->dtype);
  if (bytes && out == DT_I32) {
    og_value_t *z = put2(e, "MatMulInteger", x, y);
    z->dtype = DT_I32;
    give(e, 0, z);
    return;
  }
  dtype_t carrier = carrier_of(e, out, row->types);
  x = put_cast(e, x, carrier);
  y = put_cast(e, y, carrier);
  give(e, 0, put2(e, row->onnx, x, y));
}

/* ---- Selections ---------------------------------------------------------- */

/* Both results of TopK. */
static og_node_t *topk(export_t *e, og_value_t *x, og_value_t *k, int64_t axis,
                       int64_t largest, int64_t sorted) {
  og_node_t *node = put_node(e, "TopK", 2, (og_value_t *[]){x, k}, 2);
  node->out[0].dtype = x->dtype;
  node->out[1].dtype = DT_I64;
  set_int(e, &node->out[0], "axis", axis);
  set_int(e, &node->out[0], "largest", largest);
  set_int(e, &node->out[0], "sorted", sorted);
  return node;
}

void write_topk(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *k = put_size(e, ir_get_expr(e->op, ATTR_TOPK_k));
  og_node_t *node = topk(e, x, k, ir_get_int(e->op, ATTR_TOPK_axis),
                         ir_get_int(e->op, ATTR_TOPK_largest),
                         ir_get_int(e->op, ATTR_TOPK_sorted));
  give(e, 0, &node->out[0]);
  give(e, 1, &node->out[1]);
}

/* All sums, and the best of them. */
void write_topk_sums(export_t *e, const writer_row_t *row) {
  const ir_type_t *a = in_type(e, 0), *b = in_type(e, 1);
  unsigned last = a->rank - 1;
  og_value_t *column = put_int1(e, a->rank), *line = put_int1(e, last);
  og_value_t *x = put2(e, "Unsqueeze", in_value(e, 0), column);
  og_value_t *y = put2(e, "Unsqueeze", in_value(e, 1), line);
  og_value_t *sums = put2(e, "Add", x, y);
  const expr_t *dim[IR_MAX_RANK], *all[IR_MAX_RANK];
  for (unsigned d = 0; d < last; d++) all[d] = dim[d] = a->dim[d];
  all[last] = a->dim[last];
  all[last + 1] = b->dim[last];
  dim[last] = expr_mul(e->module->exprs, a->dim[last], b->dim[last]);
  const ir_type_t type = {
      .kind = IR_TENSOR, .dtype = DT_F32, .rank = a->rank + 1, .dim = all};
  sums = put_reshape(e, sums, &type, a->rank, dim);
  og_value_t *k = put_int1(e, ir_get_int(e->op, ATTR_TOPK_SUMS_k));
  og_node_t *node = topk(e, sums, k, last, 1, 1);
  (void)row;
  give(e, 0, &node->out[0]);
  give(e, 1, &node->out[1]);
}

/* The result tells how many there are. */
void write_nonzero(export_t *e, const writer_row_t *row) {
  const expr_t *count = ir_get_expr(e->op, ATTR_NONZERO_count);
  og_value_t *x = in_value(e, 0);
  if ((row->types >> x->dtype & 1) == 0) x = put_cast(e, x, DT_BOOL);
  og_value_t *y = put1(e, row->onnx, x);
  y->dtype = DT_I64;
  give(e, 0, y);
  if (expr_as_symbol(count) != NULL)
    og_define(e->graph, expr_as_symbol(count), y, 1);
}

/* ---- Loops --------------------------------------------------------------- */

/* A Loop whose body is being written: `trips` times, one state. */
typedef struct counted {
  og_graph_t *outer, *body;
  og_value_t *trips, *init, *trip, *state;
} counted_t;

static counted_t begin_loop(export_t *e, og_value_t *trips, og_value_t *init,
                            const ir_type_t *type) {
  counted_t loop = {e->graph, og_graph(e->arena, e->graph), trips, init, NULL,
                    NULL};
  ir_type_t count = ir_scalar_type(DT_I64), more = ir_scalar_type(DT_BOOL);
  loop.trip = og_input(loop.body, &count, "trip");
  og_value_t *goes_on = og_input(loop.body, &more, "more");
  loop.state = og_input(loop.body, type, "state");
  e->graph = loop.body;
  og_output(loop.body, goes_on, &more, NULL);
  return loop;
}

static og_value_t *end_loop(export_t *e, const counted_t *loop,
                            og_value_t *next) {
  og_output(loop->body, next, &loop->state->type, NULL);
  e->graph = loop->outer;
  og_value_t *in[] = {loop->trips, NULL, loop->init};
  og_node_t *node = put_node(e, "Loop", 3, in, 1);
  node->out[0].dtype = loop->init->dtype;
  og_attr(e->graph, node, "body", OG_GRAPH)->graph = loop->body;
  return &node->out[0];
}

/* Stable sorts by one column after the other, the last one first: TopK gives
 * equal values in ascending order of their places. */
void write_sort_rows(export_t *e, const writer_row_t *row) {
  const ir_type_t *type = in_type(e, 0);
  const expr_t *rows = type->dim[0], *columns = type->dim[1];
  expr_pool_t *pool = e->module->exprs;
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *trips = put_size_scalar(e, columns);
  og_value_t *last =
      put_size_scalar(e, expr_sub(pool, columns, expr_const(pool, 1)));
  og_value_t *order = put_range(e, rows);
  og_value_t *k = put_size(e, rows);
  if (e->op->out[1].uses != NULL) refuse(e, "its memory for sorting is used");
  counted_t loop = begin_loop(e, trips, order, &e->op->out[0].type);
  og_value_t *column = put2(e, "Sub", last, loop.trip);
  og_value_t *keys = put_gather(e, x, column, 1);
  keys = put_gather(e, keys, loop.state, 0);
  og_node_t *sorted = topk(e, keys, k, 0, 0, 1);
  og_value_t *next = put_gather(e, loop.state, &sorted->out[1], 0);
  og_value_t *y = end_loop(e, &loop, next);
  give(e, 0, y);
  e->values[e->op->out[1].number] = y;
}

/* taken = none; for i: taken[.., i] = in0[.., i] and not any j of taken[.., j]
 * and in1[.., i, j] */
void write_greedy(export_t *e, const writer_row_t *row) {
  const ir_type_t *type = in_type(e, 0);
  const expr_t *n = type->dim[type->rank - 1];
  const int64_t axis = type->rank - 1;
  og_value_t *candidates = in_value(e, 0), *excludes = in_value(e, 1);
  og_value_t *trips = put_size_scalar(e, n);
  og_value_t *places = put_range(e, n);
  og_value_t *others = put1(e, "Not", candidates);
  og_value_t *none = put2(e, "And", candidates, others);
  og_value_t *last = put_int1(e, axis);
  (void)row;
  counted_t loop = begin_loop(e, trips, none, type);
  og_value_t *line = put_gather(e, excludes, loop.trip, axis);
  og_value_t *against = put2(e, "And", line, loop.state);
  og_value_t *counts = put_cast(e, against, DT_I32);
  og_value_t *most = put2(e, "ReduceMax", counts, last);
  og_value_t *blocked = put_cast(e, most, DT_BOOL);
  og_value_t *free = put1(e, "Not", blocked);
  og_value_t *here = put_test(e, "Equal", places, loop.trip);
  og_value_t *wanted = put2(e, "And", candidates, here);
  og_value_t *take = put2(e, "And", wanted, free);
  og_value_t *next = put2(e, "Or", loop.state, take);
  give(e, 0, end_loop(e, &loop, next));
}
