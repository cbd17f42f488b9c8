/* Holds elements below 8 bits in bytes: arguments and constants stay packed and
 * are unpacked where they are used, results are packed where they are returned.
 * In between i2 and i4 are i8, u2 and u4 are u8, f4e2m1 is f8e4m3fn, so that no
 * two elements share a byte that units write. Linear in operations. */
#include "ir/build.h"
#include "ir/element.h"
#include "passes/pass.h"

enum { SMALL = 64 }; /* elements of constants that are simply rewritten */

/* ---- Conversions to packed types ----------------------------------------- */

/* The low bits of an i8 or u8, as a number of the packed type. */
static ir_value_t *wrap(ir_builder_t *b, ir_value_t *x, dtype_t to) {
  unsigned bits = dtype_bits(to);
  if (dtype_class(to) == DT_CLASS_UNSIGNED)
    return ir_binary(b, OP_BIT_AND, x,
                     ir_scalar_int(b, DT_U8, (1 << bits) - 1));
  ir_value_t *up = ir_scalar_int(b, DT_I8, 8 - bits);
  return ir_binary(b, OP_SHR, ir_binary(b, OP_SHL, x, up), up);
}

/* round(x / unit) * unit, halves to even */
static ir_value_t *round_to_unit(ir_builder_t *b, ir_value_t *x, double unit) {
  dtype_t dtype = x->type.dtype;
  ir_value_t *scaled = ir_binary(b, OP_MUL, x, ir_scalar(b, dtype, 1 / unit));
  ir_value_t *rounded = ir_unary(b, OP_ROUND, scaled);
  return ir_binary(b, OP_MUL, rounded, ir_scalar(b, dtype, unit));
}

/* The nearest f4e2m1: units of 0.5 below 2, 1 below 4, 2 up to 6. NaN gives 0.
 */
static ir_value_t *round_to_f4(ir_builder_t *b, ir_value_t *x) {
  if (x->type.dtype != DT_F64) x = ir_cast(b, x, DT_F32);
  if (x == NULL) return NULL;
  dtype_t dtype = x->type.dtype;
  ir_value_t *zero = ir_scalar(b, dtype, 0);
  x = ir_select(b, ir_unary(b, OP_IS_NAN, x), zero, x);
  ir_value_t *size = ir_unary(b, OP_ABS, x);
  if (size == NULL) return NULL;
  size = ir_binary(b, OP_MIN, size, ir_scalar(b, dtype, 6));
  ir_value_t *below_2 = ir_binary(b, OP_LT, size, ir_scalar(b, dtype, 2));
  ir_value_t *below_4 = ir_binary(b, OP_LT, size, ir_scalar(b, dtype, 4));
  ir_value_t *low = round_to_unit(b, size, 0.5);
  ir_value_t *mid = round_to_unit(b, size, 1);
  ir_value_t *high = round_to_unit(b, size, 2);
  ir_value_t *y = ir_select(b, below_4, mid, high);
  y = ir_select(b, below_2, low, y);
  y = ir_binary(b, OP_MUL, y, ir_unary(b, OP_SIGN, x));
  return y == NULL ? NULL : ir_cast(b, y, DT_F8E4M3FN);
}

static ir_value_t *convert(ir_builder_t *b, ir_value_t *x, dtype_t to) {
  if (to == DT_F4E2M1) return round_to_f4(b, x);
  if (dtype_is_float(x->type.dtype)) x = ir_cast(b, x, DT_I32);
  return x == NULL ? NULL : wrap(b, ir_cast(b, x, dtype_unpacked(to)), to);
}

/* ---- Sources and results ------------------------------------------------- */

static void replace_by_unpacked(ir_builder_t *b, ir_value_t *x) {
  ir_op_t *op = ir_begin(b, OP_UNPACK, 1, &x, 1);
  ir_value_t *y = ir_place(b, op);
  if (y == NULL) return;
  ir_replace_uses(x, y);
  ir_set_operand(op, 0, x);
}

static void rewrite_constant(ir_builder_t *b, ir_op_t *op) {
  ir_value_t *x = &op->out[0];
  ir_type_t type = x->type;
  int64_t count;
  if (!ir_type_static_count(&type, &count) || count > SMALL) {
    replace_by_unpacked(b, x);
    return;
  }
  dtype_t from = type.dtype, to = dtype_unpacked(from);
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  uint64_t size = dtype_bytes(to, (uint64_t)count);
  void *bytes = arena_alloc(b->module->arena, size + 1);
  for (uint64_t i = 0; i < (uint64_t)count; i++)
    if (dtype_is_float(from))
      ir_element_set_float(to, bytes, i,
                           ir_element_float(from, data->bytes, i));
    else
      ir_element_set_int(to, bytes, i, ir_element_int(from, data->bytes, i));
  type.dtype = to;
  ir_value_t *y = ir_tensor(b, &type, bytes, size);
  if (y != NULL) ir_replace_uses(x, y);
}

static void pack_results(ir_builder_t *b, ir_op_t *op, const dtype_t *dtypes) {
  for (unsigned i = 0; i < op->n_in; i++) {
    if (!dtype_is_packed(dtypes[i])) continue;
    ir_op_t *pack = ir_begin(b, OP_PACK, 1, &op->in[i].value, 1);
    if (pack == NULL) return;
    ir_set_dtype(pack, ATTR_PACK_to, dtypes[i]);
    ir_value_t *y = ir_place(b, pack);
    if (y != NULL) ir_set_operand(op, i, y);
  }
}

/* ---- Operations ---------------------------------------------------------- */

/* Whether results are operands' elements, or not packed at all. */
static bool keeps_values(const ir_op_t *op) {
  switch (op->code) {
    case OP_SELECT:
    case OP_MIN:
    case OP_MAX:
    case OP_EQ:
    case OP_LT:
    case OP_LE:
    case OP_IS_NAN:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
    case OP_CONCAT:
    case OP_PAD:
    case OP_UNFOLD:
    case OP_GATHER:
    case OP_GATHER_ND:
    case OP_GATHER_ELEMENTS:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
    case OP_ARG_MAX:
    case OP_ARG_MIN:
    case OP_TOPK:
    case OP_NONZERO:
    case OP_SORT_ROWS:
    case OP_CHECK_EQUAL:
      return true;
    default:
      return false;
  }
}

static bool has_packed(const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++)
    if (dtype_is_packed(op->out[i].type.dtype)) return true;
  return false;
}

static moec_status_t refuse(ir_builder_t *b, const ir_op_t *op,
                            const ir_type_t *type) {
  return diag_error(
      b->diag, op->loc, MOEC_E_UNSUPPORTED, "'%s' of %s is not supported",
      ir_op_info(op->code)->mnemonic, ir_type_str(b->module->arena, type));
}

static moec_status_t rewrite_cast(ir_builder_t *b, ir_op_t *op) {
  bool bitcast = op->code == OP_BITCAST;
  ir_attr_id_t id = bitcast ? ATTR_BITCAST_to : ATTR_CAST_to;
  ir_value_t *x = op->in[0].value;
  dtype_t to = ir_get_dtype(op, id);
  if (!dtype_is_packed(to)) return MOEC_OK;
  if (bitcast && (to == DT_F4E2M1 || !dtype_is_integer(x->type.dtype)))
    return refuse(b, op, &op->out[0].type);
  ir_value_t *y = convert(b, x, to);
  if (y == NULL) return b->status;
  ir_replace_uses(&op->out[0], y);
  ir_erase(op);
  return MOEC_OK;
}

/* Operands are unpacked already. */
static moec_status_t rewrite_op(ir_builder_t *b, ir_op_t *op) {
  bool casts = op->code == OP_CAST || op->code == OP_BITCAST;
  if (casts && has_packed(op)) return rewrite_cast(b, op);
  if (!has_packed(op)) return ir_infer_types(b->module, op, b->diag);
  if (op->n_regions > 0 || !keeps_values(op))
    return refuse(b, op, &op->out[0].type);
  return ir_infer_types(b->module, op, b->diag);
}

static bool uses_packed(const ir_func_t *func) {
  for (unsigned i = 0; i < func->body.n_args; i++)
    if (dtype_is_packed(func->body.args[i].type.dtype)) return true;
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op))
    if (has_packed(op)) return true;
  return false;
}

moec_status_t run_unpack(pass_ctx_t *ctx, ir_func_t *func) {
  if (!uses_packed(func)) return MOEC_OK;
  ctx->changed = true;
  const ir_op_t *last = func->body.last;
  dtype_t *results = ARENA_ARRAY(ctx->scratch, dtype_t, last->n_in);
  for (unsigned i = 0; i < last->n_in; i++)
    results[i] = last->in[i].value->type.dtype;
  ir_builder_t b = {.module = ctx->module,
                    .region = &func->body,
                    .before = func->body.first,
                    .diag = ctx->diag};
  ir_op_t *first = func->body.first;
  for (unsigned i = 0; i < func->body.n_args; i++)
    if (dtype_is_packed(func->body.args[i].type.dtype))
      replace_by_unpacked(&b, &func->body.args[i]);
  for (ir_op_t *op = first, *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    b.region = op->parent;
    b.before = op->code == OP_CONSTANT ? op->next : op;
    b.loc = op->loc;
    if (op->code == OP_RETURN)
      pack_results(&b, op, results);
    else if (op->code == OP_CONSTANT && has_packed(op))
      rewrite_constant(&b, op);
    else if (op->code != OP_CONSTANT)
      MOEC_TRY(rewrite_op(&b, op));
    MOEC_TRY(b.status);
  }
  return MOEC_OK;
}
