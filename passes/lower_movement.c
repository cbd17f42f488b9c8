/* Movement at indices known from the shape: reshape, transpose, slice, concat,
 * pad, packing into panels. */
#include <string.h>

#include "passes/lower.h"

/* A view's element: base[offset + sum idx * stride]. */
static ir_value_t *elem_view(kernel_t *k, const view_t *view, unsigned rank,
                             ir_value_t *const *idx) {
  ir_value_t *linear = kernel_size(k, view->offset);
  for (unsigned d = 0; d < rank; d++)
    linear = kernel_binary(
        k, OP_ADD, linear,
        kernel_binary(k, OP_MUL, idx[d], kernel_size(k, view->stride[d])));
  return kernel_load(k, kernel_operand(k, view->base), linear, NULL);
}

/* ---- reshape ------------------------------------------------------------- */

/* Index of the operand for a result index, group by group of dimensions with
 * equal products, so that merging needs no division. */
static void reshape_index(kernel_t *k, const ir_type_t *in,
                          const ir_type_t *out, ir_value_t *const *idx,
                          ir_value_t **at) {
  expr_pool_t *pool = k->module->exprs;
  unsigned i = 0, o = 0;
  while (i < in->rank) {
    if (expr_equals_const(in->dim[i], 1)) {
      at[i++] = kernel_int(k, 0);
      continue;
    }
    while (o < out->rank && expr_equals_const(out->dim[o], 1)) o++;
    unsigned i_end = i + 1, o_end = o + 1;
    const expr_t *in_size = in->dim[i];
    const expr_t *out_size = o < out->rank ? out->dim[o] : expr_const(pool, 1);
    while (in_size != out_size) {
      if (o_end < out->rank &&
          (i_end == in->rank || expr_divide_exactly(pool, in_size, out_size)))
        out_size = expr_mul(pool, out_size, out->dim[o_end++]);
      else if (i_end < in->rank)
        in_size = expr_mul(pool, in_size, in->dim[i_end++]);
      else
        break; /* equal for the sizes of a run only: the last group */
    }
    ir_value_t *linear = NULL;
    for (unsigned d = o; d < o_end && d < out->rank; d++) {
      if (linear != NULL)
        linear = kernel_binary(k, OP_MUL, linear, kernel_size(k, out->dim[d]));
      linear = linear ? kernel_binary(k, OP_ADD, linear, idx[d]) : idx[d];
    }
    if (linear == NULL) linear = kernel_int(k, 0);
    for (unsigned d = i_end; d-- > i;) {
      if (d == i) {
        at[d] = linear;
        break;
      }
      ir_value_t *size = kernel_size(k, in->dim[d]);
      at[d] = kernel_binary(k, OP_FMOD, linear, size);
      linear = kernel_binary(k, OP_DIV, linear, size);
    }
    i = i_end;
    o = o_end;
  }
}

static ir_value_t *elem_reshape(kernel_t *k, const ir_op_t *op, unsigned result,
                                ir_value_t *const *idx) {
  view_t view;
  const ir_type_t *out = &op->out[result].type;
  if (view_of(k->module, (ir_value_t *)&op->out[0], &view))
    return elem_view(k, &view, out->rank, idx);
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK];
  const ir_op_t *def = x->def;
  if (def == NULL || !def->fused) { /* stored: the linear index is the same */
    ir_value_t *buffer = kernel_operand(k, x);
    return kernel_load(k, buffer, lower_linear(k, out, idx), NULL);
  }
  reshape_index(k, &x->type, out, idx, at);
  return lower_elem(k, x, at);
}

/* Dimensions that a reshape only surrounds with ones keep merging. */
static bool merges_reshape(const ir_op_t *op, unsigned d) {
  const ir_value_t *x = op->in[0].value;
  if (x->def == NULL || !x->def->fused) return true;
  const ir_type_t *in = &x->type, *out = &op->out[0].type;
  unsigned i = 0;
  for (unsigned o = 0; o <= d; o++) {
    if (expr_equals_const(out->dim[o], 1)) {
      if (o == d) return false;
      continue;
    }
    while (i < in->rank && expr_equals_const(in->dim[i], 1)) i++;
    if (i == in->rank || in->dim[i] != out->dim[o]) return false;
    if (o == d)
      return i + 1 < in->rank && in->dim[i + 1] == out->dim[d + 1] &&
             lower_merges(x, i);
    i++;
  }
  return false;
}

const lowering_t lowering_reshape = {.elem = elem_reshape,
                                     .merges = merges_reshape};

/* ---- transpose, slice ---------------------------------------------------- */

static ir_value_t *elem_transpose(kernel_t *k, const ir_op_t *op,
                                  unsigned result, ir_value_t *const *idx) {
  (void)result;
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  ir_value_t *at[IR_MAX_RANK];
  for (unsigned d = 0; d < n; d++) at[perm[d]] = idx[d];
  return lower_elem(k, op->in[0].value, at);
}

static bool merges_transpose(const ir_op_t *op, unsigned d) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  return perm[d + 1] == perm[d] + 1 &&
         lower_merges(op->in[0].value, (unsigned)perm[d]);
}

const lowering_t lowering_transpose = {.elem = elem_transpose,
                                       .merges = merges_transpose};

static ir_value_t *elem_slice(kernel_t *k, const ir_op_t *op, unsigned result,
                              ir_value_t *const *idx) {
  (void)result;
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  ir_value_t *at[IR_MAX_RANK];
  for (unsigned d = 0; d < n; d++) {
    ir_value_t *first = kernel_size(k, start[d]);
    at[d] = kernel_binary(k, OP_MUL, idx[d], kernel_size(k, step[d]));
    at[d] = kernel_binary(k, OP_ADD, first, at[d]);
  }
  return lower_elem(k, op->in[0].value, at);
}

static bool merges_slice(const ir_op_t *op, unsigned d) {
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *length = ir_get_exprs(op, ATTR_SLICE_length, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  const ir_value_t *x = op->in[0].value;
  for (unsigned i = d; i <= d + 1; i++)
    if (!expr_equals_const(start[i], 0) || !expr_equals_const(step[i], 1) ||
        length[i] != x->type.dim[i])
      return false;
  return lower_merges(x, d);
}

const lowering_t lowering_slice = {.elem = elem_slice, .merges = merges_slice};

/* ---- concat -------------------------------------------------------------- */

static unsigned concat_axis(const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  return (unsigned)(axis < 0 ? axis + op->out[0].type.rank : axis);
}

static ir_value_t *elem_concat(kernel_t *k, const ir_op_t *op, unsigned result,
                               ir_value_t *const *idx) {
  (void)result;
  expr_pool_t *pool = k->module->exprs;
  unsigned axis = concat_axis(op), rank = op->out[0].type.rank;
  ir_value_t *at[IR_MAX_RANK], *scalar = NULL;
  for (unsigned d = 0; d < rank; d++) at[d] = idx[d];
  const expr_t *start = expr_const(pool, 0);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = op->in[i].value;
    const expr_t *end = expr_add(pool, start, x->type.dim[axis]);
    ir_value_t *from = kernel_size(k, start);
    ir_value_t *begun = kernel_binary(k, OP_LE, from, idx[axis]);
    ir_value_t *inside =
        kernel_binary(k, OP_LT, idx[axis], kernel_size(k, end));
    inside = kernel_binary(k, OP_AND, begun, inside);
    at[axis] = kernel_binary(k, OP_SUB, idx[axis], from);
    ir_value_t *part = lower_elem_masked(k, x, at, inside);
    scalar = scalar == NULL ? part : kernel_select(k, inside, part, scalar);
    start = end;
  }
  return scalar;
}

static bool merges_concat(const ir_op_t *op, unsigned d) {
  if (d <= concat_axis(op) && concat_axis(op) <= d + 1) return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (!lower_merges(op->in[i].value, d)) return false;
  return true;
}

/* Each operand is written into its place by a launch of its own. */
static void join(lower_t *lo, ir_op_t *op, unsigned axis) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *type = &op->out[0].type;
  const expr_t *start[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++) start[d] = expr_const(pool, 0);
  ir_value_t *target = lower_empty(lo, type, op->loc);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = op->in[i].value;
    target = lower_write_slice(lo, x, target, start, op->loc);
    start[axis] = expr_add(pool, start[axis], x->type.dim[axis]);
  }
  lower_set_stored(lo, &op->out[0], target);
}

static void root_concat(lower_t *lo, ir_op_t *op) {
  join(lo, op, concat_axis(op));
}

const lowering_t lowering_concat = {
    .elem = elem_concat, .root = root_concat, .merges = merges_concat};

/* ---- pad ----------------------------------------------------------------- */

/* i mod n for n > 0 and any i. */
static ir_value_t *floor_mod(kernel_t *k, ir_value_t *i, ir_value_t *n) {
  return kernel_binary(k, OP_MOD, i, n);
}

/* The operand index that position i (0 = first of the operand) repeats. */
static ir_value_t *repeat_index(kernel_t *k, const char *mode, ir_value_t *i,
                                const expr_t *size) {
  expr_pool_t *pool = k->module->exprs;
  ir_value_t *n = kernel_size(k, size), *zero = kernel_int(k, 0);
  const expr_t *last = expr_sub(pool, size, expr_const(pool, 1));
  if (strcmp(mode, "edge") == 0) {
    i = kernel_binary(k, OP_MAX, i, zero);
    return kernel_binary(k, OP_MIN, i, kernel_size(k, last));
  }
  if (strcmp(mode, "wrap") == 0) return floor_mod(k, i, n);
  /* reflect: period 2 (n - 1), mirrored in its second half */
  const expr_t *period = expr_max(
      pool, expr_mul(pool, last, expr_const(pool, 2)), expr_const(pool, 1));
  ir_value_t *p = kernel_size(k, period);
  ir_value_t *r = floor_mod(k, i, p);
  ir_value_t *mirrored = kernel_binary(k, OP_SUB, p, r);
  return kernel_select(k, kernel_binary(k, OP_LT, r, n), r, mirrored);
}

static ir_value_t *elem_pad(kernel_t *k, const ir_op_t *op, unsigned result,
                            ir_value_t *const *idx) {
  (void)result;
  unsigned n;
  const expr_t *const *before = ir_get_exprs(op, ATTR_PAD_before, &n);
  const char *mode = ir_get_str(op, ATTR_PAD_mode);
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK], *inside = NULL;
  bool constant = strcmp(mode, "constant") == 0;
  for (unsigned d = 0; d < n; d++) {
    at[d] = kernel_binary(k, OP_SUB, idx[d], kernel_size(k, before[d]));
    if (x->type.dim[d] == op->out[0].type.dim[d] &&
        expr_equals_const(before[d], 0))
      continue;
    if (!constant) {
      at[d] = repeat_index(k, mode, at[d], x->type.dim[d]);
      continue;
    }
    ir_value_t *begun = kernel_binary(k, OP_LE, kernel_int(k, 0), at[d]);
    ir_value_t *in_range =
        kernel_binary(k, OP_LT, at[d], kernel_size(k, x->type.dim[d]));
    in_range = kernel_binary(k, OP_AND, begun, in_range);
    inside = inside ? kernel_binary(k, OP_AND, inside, in_range) : in_range;
  }
  if (inside == NULL) return lower_elem(k, x, at);
  ir_value_t *scalar = lower_elem_masked(k, x, at, inside);
  return kernel_select(k, inside, scalar, lower_elem(k, op->in[1].value, NULL));
}

static bool merges_pad(const ir_op_t *op, unsigned d) {
  unsigned n;
  const expr_t *const *before = ir_get_exprs(op, ATTR_PAD_before, &n);
  const expr_t *const *after = ir_get_exprs(op, ATTR_PAD_after, &n);
  for (unsigned i = d; i <= d + 1; i++)
    if (!expr_equals_const(before[i], 0) || !expr_equals_const(after[i], 0))
      return false;
  return lower_merges(op->in[0].value, d);
}

const lowering_t lowering_pad = {.elem = elem_pad, .merges = merges_pad};

/* ---- panels -------------------------------------------------------------- */

/* Matrices of a constant seen through views: packed when the weights are
 * written. The batch must be evenly spaced. */
static ir_op_t *constant_panels(lower_t *lo, const ir_op_t *op) {
  view_t view;
  const ir_type_t *type = &op->in[0].value->type;
  unsigned rank = type->rank, batch = rank - 2;
  int64_t stride[IR_MAX_RANK], dim[IR_MAX_RANK], offset, n_batch = 1;
  if (!view_of(lo->module, op->in[0].value, &view) || view.base->def == NULL ||
      view.base->def->code != OP_CONSTANT ||
      !expr_is_const(view.offset, &offset))
    return NULL;
  for (unsigned d = 0; d < rank; d++)
    if (!expr_is_const(view.stride[d], &stride[d]) || stride[d] < 0 ||
        !expr_is_const(type->dim[d], &dim[d]))
      return NULL;
  for (unsigned d = 0; d < batch; d++) {
    if (d + 1 < batch && stride[d] != dim[d + 1] * stride[d + 1]) return NULL;
    n_batch *= dim[d];
  }
  ir_op_t *panels = ir_op_create(lo->module, OP_PANELS, op->loc, 0, NULL, 1);
  ir_data_t *data = ir_get_data(view.base->def, ATTR_CONSTANT_data);
  const ir_op_t *constant = view.base->def;
  if (ir_has_attr(constant, ATTR_CONSTANT_data_dtype))
    ir_set_dtype(panels, ATTR_PANELS_data_dtype,
                 ir_get_dtype(constant, ATTR_CONSTANT_data_dtype));
  ir_set_data(panels, ATTR_PANELS_data, data);
  ir_set_int(panels, ATTR_PANELS_n_batch, n_batch);
  ir_set_int(panels, ATTR_PANELS_K, dim[batch]);
  ir_set_int(panels, ATTR_PANELS_N, dim[batch + 1]);
  ir_set_int(panels, ATTR_PANELS_offset, offset);
  ir_set_ints(panels, ATTR_PANELS_strides, 3,
              (int64_t[]){batch > 0 ? stride[batch - 1] : 0, stride[batch],
                          stride[batch + 1]});
  panels->out[0].type = op->out[0].type;
  ir_place(&lo->schedule, panels);
  return panels;
}

enum {
  PANEL = 32,
  PANEL_ROWS = 64 /* packed at a time: few pages are in use */
};

/* Columns [columns, 32) of rows [begin, end) of a panel are zeros. */
static void fill_panel(kernel_t *k, const ir_type_t *type, ir_value_t **idx,
                       ir_value_t *columns, ir_value_t *begin,
                       ir_value_t *end) {
  unsigned batch = type->rank - 3;
  idx[batch + 2] = kernel_for(k, columns, kernel_int(k, PANEL), true);
  idx[batch + 1] = kernel_for(k, begin, end, false);
  ir_value_t *zero = kernel_const(k, type->dtype, 0);
  kernel_store(k, kernel_result(k, 0), lower_linear(k, type, idx), zero, NULL);
  kernel_close(k);
  kernel_close(k);
}

/* Lanes lie along the columns: rows of a matrix are copied, and squares of one
 * that is stored by columns are turned in registers. */
static void build_panel(kernel_t *k, const ir_op_t *op, ir_value_t **idx) {
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK];
  const ir_type_t *type = &op->out[0].type;
  unsigned batch = x->type.rank - 2;
  for (unsigned d = 0; d < batch; d++) at[d] = idx[d];
  ir_value_t *panel = kernel_int(k, PANEL), *rows = kernel_int(k, PANEL_ROWS);
  ir_value_t *begin = kernel_binary(k, OP_MUL, idx[batch + 1], rows);
  ir_value_t *end = kernel_binary(k, OP_ADD, begin, rows);
  end = kernel_binary(k, OP_MIN, end, kernel_size(k, x->type.dim[batch]));
  ir_value_t *first = kernel_binary(k, OP_MUL, idx[batch], panel);
  ir_value_t *n = kernel_size(k, x->type.dim[batch + 1]);
  ir_value_t *columns =
      kernel_binary(k, OP_MIN, kernel_binary(k, OP_SUB, n, first), panel);
  idx[batch + 2] = kernel_for(k, kernel_int(k, 0), columns, true);
  idx[batch + 1] = kernel_for_turned(k, begin, end);
  at[batch] = idx[batch + 1];
  at[batch + 1] = kernel_binary(k, OP_ADD, first, idx[batch + 2]);
  ir_value_t *scalar = lower_elem(k, x, at);
  kernel_store(k, kernel_result(k, 0), lower_linear(k, type, idx), scalar,
               NULL);
  kernel_close(k);
  kernel_close(k);
  fill_panel(k, type, idx, columns, begin, end);
}

static ir_value_t *computed_panels(lower_t *lo, const ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *x = &op->in[0].value->type, *type = &op->out[0].type;
  const expr_t *dim[IR_MAX_RANK], *rows = expr_const(pool, PANEL_ROWS);
  const bool apart[IR_MAX_RANK] = {false};
  unsigned n = type->rank - 1;
  for (unsigned d = 0; d + 1 < n; d++) dim[d] = type->dim[d];
  dim[n - 1] = expr_ceildiv(pool, x->dim[x->rank - 2], rows);
  nest_t nest;
  nest_plan(lo->module, &nest, n, dim, apart, NEST_WHOLE,
            expr_const(pool, PANEL * PANEL_ROWS));
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  nest_open(&k, &nest, false, idx);
  build_panel(&k, op, idx);
  ir_op_t *launched =
      lower_launch(lo, &k, "pack", 1, type, nest.units, nest.grain);
  return &launched->out[0];
}

static void root_pack_panels(lower_t *lo, ir_op_t *op) {
  ir_op_t *panels = constant_panels(lo, op);
  lower_set_stored(lo, &op->out[0],
                   panels != NULL ? &panels->out[0] : computed_panels(lo, op));
}

/* Constants, or their panels, stand in the weights one after the other. */
static void root_stack(lower_t *lo, ir_op_t *op) {
  ir_value_t **in = ARENA_ARRAY(lo->module->arena, ir_value_t *, op->n_in);
  ir_opcode_t part = op->code == OP_PANEL_STACK ? OP_PANELS : OP_CONSTANT;
  bool constant = true;
  for (unsigned i = 0; i < op->n_in && constant; i++) {
    in[i] = lower_stored(lo, op->in[i].value);
    const ir_op_t *source = lower_storage_of(in[i])->def;
    constant = source != NULL && source->code == part;
  }
  if (!constant) {
    join(lo, op, 0);
    return;
  }
  ir_op_t *stack = ir_op_create(lo->module, op->code, op->loc, op->n_in, in, 1);
  lower_set_stored(lo, &op->out[0], ir_place(&lo->schedule, stack));
}

const lowering_t lowering_stack = {.root = root_stack};

const lowering_t lowering_pack_panels = {.root = root_pack_panels};
