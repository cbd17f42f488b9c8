/* Elementwise operations and sources. */
#include "passes/lower.h"

/* Operand dimension d of result dimension r, aligned at the end. */
static void operand_index(kernel_t *k, const ir_type_t *from,
                          const ir_type_t *to, ir_value_t *const *idx,
                          ir_value_t **out) {
  unsigned shift = to->rank - from->rank;
  for (unsigned d = 0; d < from->rank; d++)
    out[d] = lower_broadcast_index(k, from->dim[d], to->dim[d + shift],
                                   idx[d + shift]);
}

static ir_value_t *elem_elementwise(kernel_t *k, const ir_op_t *op,
                                    unsigned result, ir_value_t *const *idx) {
  ir_value_t *in[3], *at[IR_MAX_RANK];
  MOEC_ASSERT(op->n_in <= 3);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = op->in[i].value;
    operand_index(k, &x->type, &op->out[result].type, idx, at);
    in[i] = lower_elem(k, x, at);
  }
  return kernel_like(k, op, op->n_in, in);
}

/* Dimensions d, d + 1 of the result are one for an operand that has both of
 * them in full, or neither. */
static bool operand_merges(const ir_value_t *x, const ir_type_t *to,
                           unsigned d) {
  unsigned shift = to->rank - x->type.rank;
  if (d + 1 < shift) return true;
  const expr_t *second = x->type.dim[d + 1 - shift];
  if (d < shift) return expr_equals_const(second, 1);
  const expr_t *first = x->type.dim[d - shift];
  if (expr_equals_const(first, 1) && expr_equals_const(second, 1)) return true;
  return first == to->dim[d] && second == to->dim[d + 1] &&
         lower_merges(x, d - shift);
}

static bool merges_elementwise(const ir_op_t *op, unsigned d) {
  for (unsigned i = 0; i < op->n_in; i++)
    if (!operand_merges(op->in[i].value, &op->out[0].type, d)) return false;
  return true;
}

const lowering_t lowering_elementwise = {.elem = elem_elementwise,
                                         .merges = merges_elementwise};

static ir_value_t *elem_constant(kernel_t *k, const ir_op_t *op,
                                 unsigned result, ir_value_t *const *idx) {
  (void)result, (void)idx;
  return kernel_copy_const(k, op);
}

static bool always(const ir_op_t *op, unsigned d) {
  (void)op, (void)d;
  return true;
}

/* Fused only with one element; others stay in the schedule. */
const lowering_t lowering_constant = {.elem = elem_constant, .merges = always};

static ir_value_t *elem_exprs(kernel_t *k, const ir_op_t *op, unsigned result,
                              ir_value_t *const *idx) {
  (void)result;
  unsigned n;
  const expr_t *const *values = ir_get_exprs(op, ATTR_EXPRS_values, &n);
  ir_value_t *scalar = n > 0 ? kernel_size(k, values[0]) : kernel_int(k, 0);
  for (unsigned i = 1; i < n; i++) {
    ir_value_t *here = kernel_binary(k, OP_EQ, idx[0], kernel_int(k, i));
    scalar = kernel_select(k, here, kernel_size(k, values[i]), scalar);
  }
  return scalar;
}

const lowering_t lowering_exprs = {.elem = elem_exprs};

static ir_value_t *elem_iota(kernel_t *k, const ir_op_t *op, unsigned result,
                             ir_value_t *const *idx) {
  return kernel_cast(k, idx[0], op->out[result].type.dtype);
}

const lowering_t lowering_iota = {.elem = elem_iota};

static ir_value_t *elem_expand(kernel_t *k, const ir_op_t *op, unsigned result,
                               ir_value_t *const *idx) {
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK];
  operand_index(k, &x->type, &op->out[result].type, idx, at);
  return lower_elem(k, x, at);
}

const lowering_t lowering_expand = {.elem = elem_expand,
                                    .merges = merges_elementwise};
