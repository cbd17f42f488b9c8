/* Affine views: movement that is only arithmetic on indices. */
#include "passes/lower.h"

static void row_major(expr_pool_t *pool, const ir_type_t *type, view_t *view) {
  const expr_t *stride = expr_const(pool, 1);
  for (unsigned d = type->rank; d-- > 0;) {
    view->stride[d] = stride;
    stride = expr_mul(pool, stride, type->dim[d]);
  }
}

static void view_slice(expr_pool_t *pool, const ir_op_t *op, view_t *view) {
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  for (unsigned d = 0; d < n; d++) {
    view->offset =
        expr_add(pool, view->offset, expr_mul(pool, start[d], view->stride[d]));
    view->stride[d] = expr_mul(pool, view->stride[d], step[d]);
  }
}

static void view_transpose(const ir_op_t *op, view_t *view) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  const expr_t *old[IR_MAX_RANK];
  for (unsigned d = 0; d < n; d++) old[d] = view->stride[d];
  for (unsigned d = 0; d < n; d++) view->stride[d] = old[perm[d]];
}

static bool view_expand(expr_pool_t *pool, const ir_op_t *op, view_t *view) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
  const expr_t *old[IR_MAX_RANK];
  for (unsigned d = 0; d < in->rank; d++) old[d] = view->stride[d];
  unsigned shift = out->rank - in->rank;
  for (unsigned d = 0; d < out->rank; d++) {
    const expr_t *zero = expr_const(pool, 0);
    if (d < shift || expr_equals_const(in->dim[d - shift], 1))
      view->stride[d] = zero;
    else if (in->dim[d - shift] == out->dim[d])
      view->stride[d] = old[d - shift];
    else /* 1 or equal, known only at run time */
      view->stride[d] =
          expr_mul(pool, old[d - shift],
                   expr_sub(pool, expr_const(pool, 1),
                            expr_is_one(pool, in->dim[d - shift])));
  }
  return true;
}

/* Follows groups of dimensions with equal products. Merging [a, b] into [a*b]
 * needs stride[a] == b * stride[b]; splitting is always possible. */
static bool view_reshape(expr_pool_t *pool, const ir_op_t *op, view_t *view) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
  const expr_t *result[IR_MAX_RANK];
  unsigned i = 0, o = 0;
  while (i < in->rank || o < out->rank) {
    if (i < in->rank && expr_equals_const(in->dim[i], 1)) {
      i++;
      continue;
    }
    if (o < out->rank && expr_equals_const(out->dim[o], 1)) {
      result[o++] = expr_const(pool, 0);
      continue;
    }
    if (i == in->rank || o == out->rank) return false;
    unsigned i_end = i + 1, o_end = o + 1;
    const expr_t *in_size = in->dim[i], *out_size = out->dim[o];
    while (in_size != out_size) {
      /* The side whose product divides the other one grows. */
      if (i_end < in->rank && expr_divide_exactly(pool, out_size, in_size))
        in_size = expr_mul(pool, in_size, in->dim[i_end++]);
      else if (o_end < out->rank &&
               expr_divide_exactly(pool, in_size, out_size))
        out_size = expr_mul(pool, out_size, out->dim[o_end++]);
      else
        return false;
    }
    for (unsigned d = i; d + 1 < i_end; d++)
      if (view->stride[d] !=
          expr_mul(pool, in->dim[d + 1], view->stride[d + 1]))
        return false;
    const expr_t *stride = view->stride[i_end - 1];
    for (unsigned d = o_end; d-- > o;) {
      result[d] = stride;
      stride = expr_mul(pool, stride, out->dim[d]);
    }
    i = i_end;
    o = o_end;
  }
  for (unsigned d = 0; d < out->rank; d++) view->stride[d] = result[d];
  return true;
}

bool view_of(ir_module_t *module, ir_value_t *tensor, view_t *out_view) {
  expr_pool_t *pool = module->exprs;
  const ir_op_t *op = tensor->def;
  if (op == NULL || !op->fused) {
    *out_view = (view_t){.base = tensor, .offset = expr_const(pool, 0)};
    row_major(pool, &tensor->type, out_view);
    return true;
  }
  switch (op->code) {
    case OP_SLICE:
      if (!view_of(module, op->in[0].value, out_view)) return false;
      view_slice(pool, op, out_view);
      return true;
    case OP_TRANSPOSE:
      if (!view_of(module, op->in[0].value, out_view)) return false;
      view_transpose(op, out_view);
      return true;
    case OP_EXPAND:
      return view_of(module, op->in[0].value, out_view) &&
             view_expand(pool, op, out_view);
    case OP_RESHAPE:
      return view_of(module, op->in[0].value, out_view) &&
             view_reshape(pool, op, out_view);
    default:
      return false;
  }
}
