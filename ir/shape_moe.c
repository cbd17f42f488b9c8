/* Shape laws of mixtures of experts. */
#include <string.h>

#include "ir/shape.h"

/* Operands of moe.experts: the expert, the token, then the values. */
enum { FIRST_VALUE = 2 };

/* ---- Operands ------------------------------------------------------------ */

static moec_status_t check_i64_rows(ir_module_t *module, const ir_op_t *op,
                                    unsigned index, const char *what,
                                    diag_sink_t *diag) {
  const ir_type_t *type = shape_in(op, index);
  if (type->rank != 1 || type->dtype != DT_I64)
    SHAPE_FAIL("%s of %s is %s, expected i64 of rank 1", what,
               ir_op_info(op->code)->mnemonic, shape_str(module, type));
  return MOEC_OK;
}

/* Axis 0 of the operand has this size. */
static moec_status_t check_rows(ir_module_t *module, const ir_op_t *op,
                                unsigned index, const expr_t *rows,
                                const char *what, diag_sink_t *diag) {
  const ir_type_t *type = shape_in(op, index);
  if (type->rank == 0 || shape_differ(module, type->dim[0], rows))
    SHAPE_FAIL("%s of %s is %s, expected %s rows", what,
               ir_op_info(op->code)->mnemonic, shape_str(module, type),
               shape_expr_str(module, rows));
  return MOEC_OK;
}

/* Routes belong to tokens by k or by operand `token`: one of both. */
static moec_status_t check_tokens(ir_module_t *module, const ir_op_t *op,
                                  const expr_t *k, const expr_t *tokens,
                                  unsigned token, const expr_t *routes,
                                  diag_sink_t *diag) {
  const char *mnemonic = ir_op_info(op->code)->mnemonic;
  MOEC_TRY(shape_at_least(module, op, tokens, 0, "tokens =", diag));
  if ((k != NULL) == (ir_in(op, token) != NULL))
    SHAPE_FAIL("%s needs either k or an operand with tokens", mnemonic);
  if (k == NULL) {
    MOEC_TRY(check_i64_rows(module, op, token, "the token", diag));
    return check_rows(module, op, token, routes, "the token", diag);
  }
  MOEC_TRY(shape_at_least(module, op, k, 0, "k =", diag));
  if (shape_differ(module, expr_mul(module->exprs, tokens, k), routes))
    SHAPE_FAIL("%s of %s routes, expected %s * %s", mnemonic,
               shape_expr_str(module, routes), shape_expr_str(module, tokens),
               shape_expr_str(module, k));
  return MOEC_OK;
}

static const expr_t *optional_expr(const ir_op_t *op, ir_attr_id_t id) {
  return ir_has_attr(op, id) ? ir_get_expr(op, id) : NULL;
}

/* How many operands there are: of values and of each region's banks. */
static moec_status_t check_counts(const ir_op_t *op, diag_sink_t *diag) {
  unsigned n;
  int64_t n_token = ir_get_int(op, ATTR_MOE_EXPERTS_token_values);
  int64_t n_route = ir_get_int(op, ATTR_MOE_EXPERTS_route_values);
  const int64_t *banks = ir_get_ints(op, ATTR_MOE_EXPERTS_banks, &n);
  int64_t left = op->n_in;
  if (n != op->n_regions)
    SHAPE_FAIL("moe.experts has %u regions and banks for %u", op->n_regions, n);
  bool valid =
      n_token >= 0 && n_route >= 0 && n_token <= left && n_route <= left;
  if (valid) left -= FIRST_VALUE + n_token + n_route;
  for (unsigned i = 0; i < n && valid; i++) {
    valid = banks[i] >= 0 && banks[i] <= left;
    left -= valid ? banks[i] : 0;
  }
  if (!valid || left != 0)
    SHAPE_FAIL("moe.experts has %u operands, its values and banks are others",
               op->n_in);
  for (unsigned i = FIRST_VALUE; i < op->n_in; i++)
    if (ir_in(op, i) == NULL)
      SHAPE_FAIL("operand %u of moe.experts is missing", i);
  return MOEC_OK;
}

unsigned ir_moe_first_bank(const ir_op_t *op, unsigned region) {
  unsigned n, at = FIRST_VALUE;
  const int64_t *banks = ir_get_ints(op, ATTR_MOE_EXPERTS_banks, &n);
  at += (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_token_values);
  at += (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_route_values);
  for (unsigned i = 0; i < region && i < n; i++) at += (unsigned)banks[i];
  return at;
}

static moec_status_t check_values(ir_module_t *module, const ir_op_t *op,
                                  diag_sink_t *diag) {
  const expr_t *tokens = ir_get_expr(op, ATTR_MOE_EXPERTS_tokens);
  unsigned n = (unsigned)ir_get_int(op, ATTR_MOE_EXPERTS_token_values);
  unsigned end = ir_moe_first_bank(op, 0);
  for (unsigned i = FIRST_VALUE; i < end; i++) {
    bool of_token = i < FIRST_VALUE + n;
    MOEC_TRY(check_rows(module, op, i,
                        of_token ? tokens : shape_in(op, 0)->dim[0],
                        of_token ? "a token value" : "a route value", diag));
  }
  return MOEC_OK;
}

/* ---- Experts ------------------------------------------------------------- */

/* Elements in the banks of a region; -1 when it has none. */
static moec_status_t bank_length(ir_module_t *module, const ir_op_t *op,
                                 unsigned region, int64_t *out_n,
                                 diag_sink_t *diag) {
  unsigned end = ir_moe_first_bank(op, region + 1);
  *out_n = -1;
  for (unsigned i = ir_moe_first_bank(op, region); i < end; i++) {
    const ir_type_t *type = shape_in(op, i);
    int64_t n;
    if (type->rank == 0 || !expr_is_const(type->dim[0], &n) ||
        (*out_n >= 0 && n != *out_n))
      SHAPE_FAIL(
          "a bank of region %u of moe.experts is %s, expected as many "
          "elements as the others have",
          region, shape_str(module, type));
    *out_n = n;
  }
  return MOEC_OK;
}

static moec_status_t check_experts(ir_module_t *module, const ir_op_t *op,
                                   diag_sink_t *diag) {
  unsigned n, n_positions;
  int64_t experts = ir_get_int(op, ATTR_MOE_EXPERTS_experts);
  const int64_t *structure = ir_get_ints(op, ATTR_MOE_EXPERTS_structure, &n);
  const int64_t *position =
      ir_get_ints(op, ATTR_MOE_EXPERTS_position, &n_positions);
  if (experts < 0 || n != experts || n_positions != experts)
    SHAPE_FAIL("moe.experts of %lld experts has %u structures, %u positions",
               (long long)experts, n, n_positions);
  int64_t *length = ARENA_ARRAY(module->arena, int64_t, op->n_regions);
  for (unsigned i = 0; i < op->n_regions; i++)
    MOEC_TRY(bank_length(module, op, i, &length[i], diag));
  for (unsigned e = 0; e < n; e++) {
    int64_t s = structure[e];
    if (s < -1 || s >= op->n_regions)
      SHAPE_FAIL("expert %u of moe.experts has structure %lld of %u", e,
                 (long long)s, op->n_regions);
    if (s < 0) continue;
    if (position[e] < 0 || (length[s] >= 0 && position[e] >= length[s]))
      SHAPE_FAIL("expert %u of moe.experts is element %lld of banks of %lld", e,
                 (long long)position[e], (long long)length[s]);
  }
  return MOEC_OK;
}

/* ---- Regions ------------------------------------------------------------- */

/* Operand that argument `index` of a region comes from. */
static unsigned operand_of(const ir_op_t *op, unsigned region, unsigned index) {
  unsigned n_values = ir_moe_first_bank(op, 0) - FIRST_VALUE;
  if (index < n_values) return FIRST_VALUE + index;
  return ir_moe_first_bank(op, region) + index - n_values;
}

static unsigned count_args(const ir_op_t *op, unsigned region) {
  unsigned banks =
      ir_moe_first_bank(op, region + 1) - ir_moe_first_bank(op, region);
  return ir_moe_first_bank(op, 0) - FIRST_VALUE + banks;
}

/* The operand's type with `rows` as axis 0, or without that for a bank. */
static ir_type_t arg_type(ir_module_t *module, const ir_op_t *op,
                          unsigned operand) {
  ir_type_t type = *shape_in(op, operand);
  if (operand >= ir_moe_first_bank(op, 0)) {
    type.rank--;
    type.dim = type.rank > 0 ? type.dim + 1 : NULL;
    return type;
  }
  const expr_t **dim = ARENA_ARRAY(module->arena, const expr_t *, type.rank);
  for (unsigned d = 1; d < type.rank; d++) dim[d] = type.dim[d];
  dim[0] = ir_get_expr(op, ATTR_MOE_EXPERTS_rows);
  type.dim = dim;
  return type;
}

ir_region_t *ir_moe_add_region(ir_op_t *op) {
  ir_region_t *region = ir_add_region(op);
  unsigned index = op->n_regions - 1, n = count_args(op, index);
  ir_type_t *types = ARENA_ARRAY(op->module->arena, ir_type_t, n);
  for (unsigned i = 0; i < n; i++)
    types[i] = arg_type(op->module, op, operand_of(op, index, i));
  ir_region_set_args(op, index, n, types);
  return region;
}

static moec_status_t check_args(ir_module_t *module, const ir_op_t *op,
                                unsigned index, diag_sink_t *diag) {
  const ir_region_t *region = &op->regions[index];
  unsigned n = count_args(op, index);
  if (region->n_args != n)
    SHAPE_FAIL("region %u of moe.experts has %u arguments, expected %u", index,
               region->n_args, n);
  for (unsigned i = 0; i < n; i++) {
    ir_type_t type = arg_type(module, op, operand_of(op, index, i));
    if (!ir_type_equal(&type, &region->args[i].type))
      SHAPE_FAIL("argument %u of region %u of moe.experts is %s, expected %s",
                 i, index, shape_str(module, &region->args[i].type),
                 shape_str(module, &type));
  }
  return MOEC_OK;
}

/* The type that a region yields; *out is NULL while it is being built. */
static moec_status_t yielded(ir_module_t *module, const ir_op_t *op,
                             unsigned index, const ir_type_t **out,
                             diag_sink_t *diag) {
  const ir_op_t *last = op->regions[index].last;
  const expr_t *rows = ir_get_expr(op, ATTR_MOE_EXPERTS_rows);
  *out = NULL;
  if (last == NULL || last->code != OP_YIELD) return MOEC_OK;
  if (last->n_in != 1 || ir_has_attr(last, ATTR_YIELD_sizes))
    SHAPE_FAIL("region %u of moe.experts yields %u values, expected 1", index,
               last->n_in);
  const ir_type_t *type = shape_in(last, 0);
  bool valid =
      type->kind == IR_TENSOR && type->rank > 0 && type->dim[0] == rows;
  for (unsigned d = 1; valid && d < type->rank; d++)
    valid = !expr_mentions(type->dim[d], expr_as_symbol(rows));
  if (!valid)
    SHAPE_FAIL("region %u of moe.experts yields %s, expected %s rows", index,
               shape_str(module, type), shape_expr_str(module, rows));
  *out = type;
  return MOEC_OK;
}

static bool rows_differ(ir_module_t *module, const ir_type_t *a,
                        const ir_type_t *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return true;
  for (unsigned d = 1; d < a->rank; d++)
    if (shape_differ(module, a->dim[d], b->dim[d])) return true;
  return false;
}

static moec_status_t set_result(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  const ir_type_t *first, *other;
  const expr_t *dim[IR_MAX_RANK];
  MOEC_TRY(check_args(module, op, 0, diag));
  MOEC_TRY(yielded(module, op, 0, &first, diag));
  if (first == NULL) return MOEC_OK;
  dim[0] = shape_in(op, 0)->dim[0];
  for (unsigned d = 1; d < first->rank; d++) dim[d] = first->dim[d];
  for (unsigned i = 1; i < op->n_regions; i++) {
    MOEC_TRY(check_args(module, op, i, diag));
    MOEC_TRY(yielded(module, op, i, &other, diag));
    if (other == NULL) return MOEC_OK;
    if (rows_differ(module, first, other))
      SHAPE_FAIL("the regions of moe.experts yield %s and %s",
                 shape_str(module, first), shape_str(module, other));
    for (unsigned d = 1; d < first->rank; d++)
      dim[d] = shape_merge(dim[d], other->dim[d]);
  }
  return shape_set(module, op, 0, first->dtype, first->rank, dim, diag);
}

moec_status_t infer_moe_experts(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  const expr_t *rows = ir_get_expr(op, ATTR_MOE_EXPERTS_rows);
  MOEC_TRY(check_i64_rows(module, op, 0, "the expert", diag));
  if (expr_as_symbol(rows) == NULL)
    SHAPE_FAIL("rows = %s of moe.experts is not a symbol",
               shape_expr_str(module, rows));
  if (op->n_regions == 0) return MOEC_OK; /* still being built */
  MOEC_TRY(check_counts(op, diag));
  MOEC_TRY(check_tokens(module, op, optional_expr(op, ATTR_MOE_EXPERTS_k),
                        ir_get_expr(op, ATTR_MOE_EXPERTS_tokens), 1,
                        shape_in(op, 0)->dim[0], diag));
  MOEC_TRY(check_values(module, op, diag));
  MOEC_TRY(check_experts(module, op, diag));
  return set_result(module, op, diag);
}

/* ---- Combine ------------------------------------------------------------- */

static moec_status_t combine_dtype(ir_module_t *module, ir_op_t *op,
                                   dtype_t *out, diag_sink_t *diag) {
  dtype_t wanted = ir_get_dtype(op, ATTR_MOE_COMBINE_out_dtype);
  *out = shape_in(op, 0)->dtype;
  MOEC_TRY(shape_class(module, op, 0, SHAPE_NUMBER, diag));
  if (ir_in(op, 1) != NULL) {
    if (dtype_is_float(*out))
      MOEC_TRY(shape_class(module, op, 1, SHAPE_FLOAT, diag));
    else
      MOEC_TRY(shape_same_dtype(module, op, 0, 1, diag));
  }
  if (wanted == DT_NONE || wanted == *out) return MOEC_OK;
  if (!dtype_is_float(*out) || !dtype_is_float(wanted))
    SHAPE_FAIL("out_dtype %s of moe.combine of %s", dtype_name(wanted),
               dtype_name(*out));
  *out = wanted;
  return MOEC_OK;
}

moec_status_t infer_moe_combine(ir_module_t *module, ir_op_t *op,
                                diag_sink_t *diag) {
  const ir_type_t *y = shape_in(op, 0);
  const expr_t *dim[IR_MAX_RANK];
  dtype_t dtype;
  MOEC_TRY(shape_min_rank(module, op, 0, 1, diag));
  MOEC_TRY(combine_dtype(module, op, &dtype, diag));
  if (ir_in(op, 1) != NULL) {
    const ir_type_t *w = shape_in(op, 1);
    if (w->rank != 1 || shape_differ(module, w->dim[0], y->dim[0]))
      SHAPE_FAIL(
          "the weights of moe.combine are %s, expected one for each of "
          "%s routes",
          shape_str(module, w), shape_expr_str(module, y->dim[0]));
  }
  dim[0] = ir_get_expr(op, ATTR_MOE_COMBINE_tokens);
  MOEC_TRY(check_tokens(module, op, optional_expr(op, ATTR_MOE_COMBINE_k),
                        dim[0], 2, y->dim[0], diag));
  for (unsigned d = 1; d < y->rank; d++) dim[d] = y->dim[d];
  return shape_set(module, op, 0, dtype, y->rank, dim, diag);
}

/* ---- Limit --------------------------------------------------------------- */

enum { MOST_EXPERTS = 1 << 30 };

moec_status_t infer_moe_limit(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  const ir_type_t *x = shape_in(op, 0);
  const expr_t *groups = ir_get_expr(op, ATTR_MOE_LIMIT_groups);
  const char *order = ir_get_str(op, ATTR_MOE_LIMIT_order);
  int64_t experts = ir_get_int(op, ATTR_MOE_LIMIT_experts);
  if (x->rank != 2 || x->dtype != DT_I64)
    SHAPE_FAIL("operand 0 of moe.limit is %s, expected i64 of rank 2",
               shape_str(module, x));
  if (ir_in(op, 1) != NULL) MOEC_TRY(shape_scalar(module, op, 1, DT_I64, diag));
  if (experts < 1 || experts > MOST_EXPERTS)
    SHAPE_FAIL("moe.limit of %lld experts", (long long)experts);
  if (strcmp(order, "tokens") != 0 && strcmp(order, "slots") != 0)
    SHAPE_FAIL("order = \"%s\" of moe.limit, expected tokens or slots", order);
  if (ir_get_int(op, ATTR_MOE_LIMIT_behind_kept) != 0 &&
      (ir_in(op, 1) == NULL || strcmp(order, "slots") != 0))
    SHAPE_FAIL("behind_kept of moe.limit needs a capacity and the order slots");
  MOEC_TRY(shape_at_least(module, op, groups, 0, "groups =", diag));
  if (expr_divide_exactly(module->exprs, x->dim[0], groups) == NULL)
    SHAPE_FAIL("%s tokens of moe.limit are not %s groups of equal size",
               shape_expr_str(module, x->dim[0]),
               shape_expr_str(module, groups));
  const expr_t *scratch[] = {groups, expr_const(module->exprs, experts)};
  shape_set_like(op, 0, DT_I64, x);
  shape_set_like(op, 1, DT_I64, x);
  return shape_set(module, op, 2, DT_I64, 2, scratch, diag);
}
