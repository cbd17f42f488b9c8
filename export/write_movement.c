/* Sources, sizes and operations that move elements. */
#include <string.h>

#include "export/put.h"
#include "ir/element.h"

/* ---- Sources ------------------------------------------------------------- */

void write_constant(export_t *e, const writer_row_t *row) {
  unsigned rank;
  dtype_t dtype = ir_get_dtype(e->op, ATTR_CONSTANT_dtype);
  const int64_t *dims = ir_get_ints(e->op, ATTR_CONSTANT_shape, &rank);
  const ir_data_t *data = ir_get_data(e->op, ATTR_CONSTANT_data);
  /* Narrow numbers may be kept as wide ones. */
  if (ir_has_attr(e->op, ATTR_CONSTANT_data_dtype))
    dtype = ir_get_dtype(e->op, ATTR_CONSTANT_data_dtype);
  og_value_t *x = put_tensor(e, dtype, rank, dims, data->bytes,
                             dtype == DT_STR ? 0 : data->size);
  x->tensor->strings = data->strings;
  x->hint = e->op->out[0].name;
  (void)row;
  give(e, 0, x);
}

void write_exprs(export_t *e, const writer_row_t *row) {
  unsigned n;
  const expr_t *const *values = ir_get_exprs(e->op, ATTR_EXPRS_values, &n);
  (void)row;
  give(e, 0,
       ir_get_int(e->op, ATTR_EXPRS_scalar) != 0 ? put_size_scalar(e, values[0])
                                                 : put_sizes(e, n, values));
}

void write_iota(export_t *e, const writer_row_t *row) {
  (void)row;
  give(e, 0, put_range(e, ir_get_expr(e->op, ATTR_IOTA_n)));
}

/* The symbol is that element from here on. */
void write_bind(export_t *e, const writer_row_t *row) {
  int64_t index = ir_get_int(e->op, ATTR_BIND_index);
  const ir_type_t *type = in_type(e, 0);
  (void)row;
  if (in_value(e, 0) == NULL) return; /* only code needs it */
  og_value_t *x = in_index(e, 0, false);
  if (type->rank != 1) {
    const int64_t flat = -1;
    x = put_reshape_ints(e, x, 1, &flat);
  }
  if (!(type->rank == 1 && expr_equals_const(type->dim[0], 1))) {
    og_value_t *at = put_int1(e, index);
    x = put_gather(e, x, at, 0);
  }
  og_define(e->graph, expr_as_symbol(ir_get_expr(e->op, ATTR_BIND_symbol)), x,
            -1);
}

void write_nothing(export_t *e, const writer_row_t *row) {
  (void)e;
  (void)row;
}

/* ---- By position --------------------------------------------------------- */

void write_reshape(export_t *e, const writer_row_t *row) {
  unsigned rank;
  const expr_t *const *dim = ir_get_exprs(e->op, ATTR_RESHAPE_shape, &rank);
  og_value_t *x = in_carried(e, 0, row->types);
  give(e, 0, put_reshape(e, x, in_type(e, 0), rank, dim));
}

/* Expand broadcasts both ways: 1 stands for the dimension that is there. */
void write_expand(export_t *e, const writer_row_t *row) {
  unsigned rank;
  const expr_t *const *dim = ir_get_exprs(e->op, ATTR_EXPAND_shape, &rank);
  const expr_t *wanted[IR_MAX_RANK];
  const ir_type_t *type = in_type(e, 0);
  og_value_t *x = in_carried(e, 0, row->types);
  for (unsigned i = 0; i < rank; i++) {
    unsigned added = rank - type->rank;
    bool same = i >= added && type->dim[i - added] == dim[i];
    wanted[i] = same ? expr_const(e->module->exprs, 1) : dim[i];
  }
  og_value_t *shape = put_sizes(e, rank, wanted);
  give(e, 0, put2(e, row->onnx, x, shape));
}

void write_transpose(export_t *e, const writer_row_t *row) {
  unsigned n;
  const int64_t *perm = ir_get_ints(e->op, ATTR_TRANSPOSE_perm, &n);
  og_value_t *x = in_carried(e, 0, row->types);
  give(e, 0, put_transpose(e, x, n, perm));
}

/* An axis of a slice as ONNX has it: from start up to but without end. NULL
 * stands for beyond the first or last element. */
typedef struct span {
  int64_t axis;
  const expr_t *start, *end, *step;
} span_t;

/* Whether an expression cannot be negative. */
static bool is_natural(const expr_t *e) {
  int64_t lower;
  return expr_lower_bound(e, &lower) && lower >= 0;
}

static bool slice_span(export_t *e, unsigned axis, const expr_t *start,
                       const expr_t *length, const expr_t *step, span_t *out) {
  expr_pool_t *pool = e->module->exprs;
  const expr_t *dim = in_type(e, 0)->dim[axis];
  const expr_t *one = expr_const(pool, 1), *zero = expr_const(pool, 0);
  if (start == zero && length == dim && step == one) return false;
  const expr_t *end = expr_add(pool, start, expr_mul(pool, length, step));
  *out = (span_t){axis, start, end, step};
  if (is_natural(step)) {
    if (end == dim) out->end = NULL;
  } else {
    int64_t value;
    if (start == expr_sub(pool, dim, one)) out->start = NULL;
    if (expr_is_const(end, &value) && value < 0) out->end = NULL;
  }
  return true;
}

/* Starts, or ends, of spans as i64[n]. An end below 0 is one before the first
 * element, not counted from the last one. */
static og_value_t *span_sizes(export_t *e, unsigned n, const span_t *spans,
                              bool ends) {
  og_value_t *parts[IR_MAX_RANK];
  for (unsigned i = 0; i < n; i++) {
    const span_t *s = &spans[i];
    const expr_t *at = ends ? s->end : s->start;
    bool up = is_natural(s->step);
    if (at == NULL) {
      parts[i] = put_int1(e, ends && !up ? INT64_MIN : INT64_MAX);
      continue;
    }
    parts[i] = put_size(e, at);
    if (!ends || up || is_natural(at)) continue;
    og_value_t *zero = put_int1(e, 0), *before = put_int1(e, INT64_MIN);
    og_value_t *below = put_test(e, "Less", parts[i], zero);
    parts[i] = put_where(e, below, before, parts[i]);
  }
  if (n == 1) return parts[0];
  og_node_t *node = put_node(e, "Concat", n, parts, 1);
  node->out[0].dtype = DT_I64;
  set_int(e, &node->out[0], "axis", 0);
  return &node->out[0];
}

/* The same where all of them are constants. */
static og_value_t *span_numbers(export_t *e, unsigned n, const span_t *spans,
                                bool ends) {
  int64_t values[IR_MAX_RANK];
  for (unsigned i = 0; i < n; i++) {
    const expr_t *at = ends ? spans[i].end : spans[i].start;
    bool up = is_natural(spans[i].step);
    values[i] = ends && !up ? INT64_MIN : INT64_MAX;
    if (at != NULL && !expr_is_const(at, &values[i]))
      return span_sizes(e, n, spans, ends);
  }
  return put_ints(e, n, values);
}

void write_slice(export_t *e, const writer_row_t *row) {
  unsigned rank, n = 0;
  const expr_t *const *start = ir_get_exprs(e->op, ATTR_SLICE_start, &rank);
  const expr_t *const *length = ir_get_exprs(e->op, ATTR_SLICE_length, &rank);
  const expr_t *const *step = ir_get_exprs(e->op, ATTR_SLICE_step, &rank);
  const expr_t *steps[IR_MAX_RANK];
  span_t spans[IR_MAX_RANK];
  int64_t axes[IR_MAX_RANK];
  og_value_t *x = in_carried(e, 0, row->types);
  for (unsigned i = 0; i < rank; i++)
    if (slice_span(e, i, start[i], length[i], step[i], &spans[n])) {
      axes[n] = i;
      steps[n++] = step[i];
    }
  if (n == 0) {
    give(e, 0, x);
    return;
  }
  og_value_t *in[5] = {x};
  in[1] = span_numbers(e, n, spans, false);
  in[2] = span_numbers(e, n, spans, true);
  in[3] = put_ints(e, n, axes);
  in[4] = put_sizes(e, n, steps);
  og_node_t *node = put_node(e, row->onnx, 5, in, 1);
  node->out[0].dtype = x->dtype;
  give(e, 0, &node->out[0]);
}

void write_concat(export_t *e, const writer_row_t *row) {
  og_value_t **in = ARENA_ARRAY(e->arena, og_value_t *, e->op->n_in);
  for (unsigned i = 0; i < e->op->n_in; i++)
    in[i] = in_carried(e, i, row->types);
  og_node_t *node = put_node(e, row->onnx, e->op->n_in, in, 1);
  node->out[0].dtype = in[0]->dtype;
  set_int(e, &node->out[0], "axis", ir_get_int(e->op, ATTR_CONCAT_axis));
  give(e, 0, &node->out[0]);
}

void write_pad(export_t *e, const writer_row_t *row) {
  unsigned rank;
  const expr_t *pads[2 * IR_MAX_RANK];
  const char *mode = ir_get_str(e->op, ATTR_PAD_mode);
  const expr_t *const *before = ir_get_exprs(e->op, ATTR_PAD_before, &rank);
  const expr_t *const *after = ir_get_exprs(e->op, ATTR_PAD_after, &rank);
  memcpy(pads, before, rank * sizeof pads[0]);
  memcpy(pads + rank, after, rank * sizeof pads[0]);
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *sizes = put_sizes(e, 2 * rank, pads);
  og_value_t *fill =
      in_value(e, 1) != NULL ? in_carried(e, 1, row->types) : NULL;
  og_value_t *y = put3(e, row->onnx, x, sizes, fill);
  set_str(e, y, "mode", mode);
  if (strcmp(mode, "wrap") == 0 && e->opset < 19) e->opset = 19;
  give(e, 0, y);
}

/* ---- By index ------------------------------------------------------------ */

void write_gather(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *index = in_index(e, 1, true);
  give(e, 0, put_gather(e, x, index, ir_get_int(e->op, ATTR_GATHER_axis)));
}

void write_gather_elements(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *index = in_index(e, 1, true);
  og_value_t *y = put2(e, row->onnx, x, index);
  set_int(e, y, "axis", ir_get_int(e->op, ATTR_GATHER_ELEMENTS_axis));
  give(e, 0, y);
}

void write_gather_nd(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *index = in_index(e, 1, false);
  og_value_t *y = put2(e, row->onnx, x, index);
  set_int(e, y, "batch_dims", ir_get_int(e->op, ATTR_GATHER_ND_batch_dims));
  give(e, 0, y);
}

static og_value_t *scatter(export_t *e, const writer_row_t *row, bool narrow,
                           const char *reduction) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *index = in_index(e, 1, narrow);
  og_value_t *updates = in_carried(e, 2, row->types);
  og_value_t *y = put3(e, row->onnx, x, index, updates);
  if (reduction != NULL) set_str(e, y, "reduction", reduction);
  return y;
}

void write_scatter_elements(export_t *e, const writer_row_t *row) {
  og_value_t *y =
      scatter(e, row, true, ir_get_str(e->op, ATTR_SCATTER_ELEMENTS_reduction));
  set_int(e, y, "axis", ir_get_int(e->op, ATTR_SCATTER_ELEMENTS_axis));
  give(e, 0, y);
}

void write_scatter_nd(export_t *e, const writer_row_t *row) {
  const char *reduction = ir_get_str(e->op, ATTR_SCATTER_ND_reduction);
  give(e, 0, scatter(e, row, false, reduction));
}
