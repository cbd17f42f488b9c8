/* Shape laws of if and while: dimensions are attributes, element types and
 * ranks come from what the regions yield. */
#include "ir/shape.h"

/* The terminator of a region; NULL while it is being built. */
static const ir_op_t *yield_of(const ir_op_t *op, unsigned region) {
  const ir_op_t *last = op->regions[region].last;
  return last != NULL && last->code == OP_YIELD ? last : NULL;
}

static moec_status_t check_sizes(const ir_op_t *op, const ir_op_t *yield,
                                 unsigned n_symbols, diag_sink_t *diag) {
  unsigned n = 0;
  if (ir_has_attr(yield, ATTR_YIELD_sizes))
    ir_get_exprs(yield, ATTR_YIELD_sizes, &n);
  if (n != n_symbols)
    SHAPE_FAIL("a region of %s yields %u sizes for %u symbols",
               ir_op_info(op->code)->mnemonic, n, n_symbols);
  return MOEC_OK;
}

/* Takes the next `rank` of the dimensions. */
typedef struct dims {
  const expr_t *const *dim;
  unsigned n, at;
} dims_t;

static moec_status_t set_result(ir_module_t *module, ir_op_t *op,
                                unsigned index, dtype_t dtype, unsigned rank,
                                dims_t *dims, diag_sink_t *diag) {
  if (rank > dims->n - dims->at)
    SHAPE_FAIL("%s has %u dimensions, too few for result %u",
               ir_op_info(op->code)->mnemonic, dims->n, index);
  dims->at += rank;
  return shape_set(module, op, index, dtype, rank, dims->dim + dims->at - rank,
                   diag);
}

static moec_status_t check_all_taken(const ir_op_t *op, const dims_t *dims,
                                     diag_sink_t *diag) {
  if (dims->at != dims->n)
    SHAPE_FAIL("%s has %u dimensions, its results have %u",
               ir_op_info(op->code)->mnemonic, dims->n, dims->at);
  return MOEC_OK;
}

static moec_status_t check_tensor(const ir_module_t *module, const ir_op_t *op,
                                  const ir_type_t *type, diag_sink_t *diag) {
  if (type->kind != IR_TENSOR)
    SHAPE_FAIL("a region of %s yields %s, expected a tensor",
               ir_op_info(op->code)->mnemonic, shape_str(module, type));
  return MOEC_OK;
}

moec_status_t infer_if(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  const ir_op_t *then = yield_of(op, 0), *other = yield_of(op, 1);
  unsigned n_symbols;
  dims_t dims = {0};
  dims.dim = ir_get_exprs(op, ATTR_IF_dims, &dims.n);
  ir_get_exprs(op, ATTR_IF_symbols, &n_symbols);
  MOEC_TRY(shape_scalar(module, op, 0, DT_BOOL, diag));
  if (op->regions[0].n_args + op->regions[1].n_args > 0)
    SHAPE_FAIL("the regions of if take no arguments");
  if (then == NULL || other == NULL) return MOEC_OK;
  MOEC_TRY(check_sizes(op, then, n_symbols, diag));
  MOEC_TRY(check_sizes(op, other, n_symbols, diag));
  if (then->n_in != op->n_out || other->n_in != op->n_out)
    SHAPE_FAIL("the regions of if yield %u and %u values for %u results",
               then->n_in, other->n_in, op->n_out);
  for (unsigned i = 0; i < op->n_out; i++) {
    const ir_type_t *x = shape_in(then, i), *y = shape_in(other, i);
    MOEC_TRY(check_tensor(module, op, x, diag));
    MOEC_TRY(check_tensor(module, op, y, diag));
    if (x->dtype != y->dtype || x->rank != y->rank)
      SHAPE_FAIL("result %u of if is %s or %s", i, shape_str(module, x),
                 shape_str(module, y));
    MOEC_TRY(set_result(module, op, i, x->dtype, x->rank, &dims, diag));
  }
  return check_all_taken(op, &dims, diag);
}

/* Operands, arguments and yielded values of one kind: same type but sizes. */
static moec_status_t check_state(const ir_module_t *module, const ir_op_t *op,
                                 const ir_op_t *yield, unsigned i,
                                 diag_sink_t *diag) {
  const ir_type_t *init = shape_in(op, 2 + i);
  const ir_type_t *arg = &op->regions[0].args[1 + i].type;
  const ir_type_t *next = shape_in(yield, 1 + i);
  MOEC_TRY(check_tensor(module, op, next, diag));
  bool same = init->kind == IR_TENSOR && arg->kind == IR_TENSOR &&
              init->dtype == arg->dtype && next->dtype == arg->dtype &&
              init->rank == arg->rank && next->rank == arg->rank;
  if (!same)
    SHAPE_FAIL("state %u of while is %s at first, %s in and %s after a trip", i,
               shape_str(module, init), shape_str(module, arg),
               shape_str(module, next));
  return MOEC_OK;
}

static moec_status_t check_limits(ir_module_t *module, ir_op_t *op,
                                  diag_sink_t *diag) {
  MOEC_TRY(shape_scalar(module, op, 0, DT_I64, diag));
  return shape_scalar(module, op, 1, DT_BOOL, diag);
}

static moec_status_t check_form(ir_module_t *module, ir_op_t *op,
                                const ir_op_t *yield, unsigned n_state,
                                diag_sink_t *diag) {
  unsigned n_symbols, n_inits;
  const ir_region_t *region = &op->regions[0];
  ir_get_exprs(op, ATTR_WHILE_symbols, &n_symbols);
  ir_get_exprs(op, ATTR_WHILE_inits, &n_inits);
  int64_t steady = ir_get_int(op, ATTR_WHILE_steady);
  if (n_inits != n_symbols || steady < 0 || steady > (int64_t)n_symbols)
    SHAPE_FAIL("while has %u symbols, %u first values, %lld that are steady",
               n_symbols, n_inits, (long long)steady);
  if (op->n_out < n_state || region->n_args != 1 + n_state)
    SHAPE_FAIL("while carries %u values; its region takes %u, %u result",
               n_state, region->n_args, op->n_out);
  const ir_type_t *trip = &region->args[0].type;
  if (trip->kind != IR_TENSOR || trip->dtype != DT_I64 || trip->rank != 0)
    SHAPE_FAIL("the region of while counts trips in %s, expected i64[]",
               shape_str(module, trip));
  if (yield->n_in != 1 + op->n_out)
    SHAPE_FAIL("the region of while yields %u values, expected %u", yield->n_in,
               1 + op->n_out);
  const ir_type_t *more = shape_in(yield, 0);
  if (more->kind != IR_TENSOR || more->dtype != DT_BOOL || more->rank != 0)
    SHAPE_FAIL("the region of while goes on by %s, expected bool[]",
               shape_str(module, more));
  return check_sizes(op, yield, n_symbols, diag);
}

moec_status_t infer_while(ir_module_t *module, ir_op_t *op, diag_sink_t *diag) {
  const ir_op_t *yield = yield_of(op, 0);
  unsigned n_state = op->n_in - 2;
  dims_t dims = {0};
  dims.dim = ir_get_exprs(op, ATTR_WHILE_dims, &dims.n);
  MOEC_TRY(check_limits(module, op, diag));
  if (yield == NULL) return MOEC_OK;
  MOEC_TRY(check_form(module, op, yield, n_state, diag));
  for (unsigned i = 0; i < op->n_out; i++) {
    bool is_state = i < n_state;
    if (is_state) MOEC_TRY(check_state(module, op, yield, i, diag));
    const ir_type_t *type = shape_in(yield, 1 + i);
    MOEC_TRY(check_tensor(module, op, type, diag));
    unsigned rank = type->rank + (is_state ? 0 : 1);
    MOEC_TRY(set_result(module, op, i, type->dtype, rank, &dims, diag));
  }
  return check_all_taken(op, &dims, diag);
}

static bool mentions(const ir_type_t *type, const expr_t *symbol) {
  for (unsigned d = 0; d < type->rank; d++)
    if (expr_mentions(type->dim[d], expr_as_symbol(symbol))) return true;
  return false;
}

bool ir_while_knows_size(const ir_op_t *op, unsigned result) {
  unsigned n;
  const ir_type_t *type = &op->out[result].type;
  const expr_t *const *symbols = ir_get_exprs(op, ATTR_WHILE_symbols, &n);
  for (unsigned i = 0; i < n; i++)
    if (mentions(type, symbols[i])) return false;
  return ir_get_int(op, ATTR_WHILE_counted) == 0 ||
         !mentions(type, ir_get_expr(op, ATTR_WHILE_trips));
}
