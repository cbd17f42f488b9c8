/* Computes with 16-bit floats in f32 until a value must be 16 bits wide.
 *
 * Arithmetic on f16 and bf16 happens in f32 anyway; here its results stay f32
 * from one operation to the next instead of being rounded each time. The
 * model's own conversions, its results, and operations that need the type
 * itself (index selection, bit patterns, writing into a tensor) see rounded
 * values as before. Weights keep their 16 bits: products widen them in
 * registers. One sweep forwards, linear. */
#include "ir/build.h"
#include "passes/pass.h"

#define NO_NUMBER UINT32_MAX

typedef struct widener {
  pass_ctx_t *ctx;
  ir_value_t **wide; /* by number: the value in f32, or NULL */
  ir_builder_t b;
} widener_t;

static bool is_narrow(dtype_t dtype) {
  return dtype == DT_F16 || dtype == DT_BF16;
}

/* Results are computed from f32 values of the operands. */
static bool is_arithmetic(const ir_op_t *op) {
  switch (op->code) {
    case OP_CAST:
    case OP_BITCAST:
    case OP_IS_NAN:
    case OP_IS_INF:
    case OP_EQ:
    case OP_LT:
    case OP_LE:
      return false;
    case OP_REDUCE_SUM:
    case OP_REDUCE_PROD:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_MATMUL:
    case OP_GROUPED_MATMUL:
    case OP_CONVOLVE:
    case OP_GROUPED_CONVOLVE:
    case OP_CUM_SUM:
    case OP_CUM_PROD:
      return true;
    default:
      return ir_has_trait(op, ELEMENTWISE);
  }
}

/* Results are elements of operand 0 (of all operands: concat). */
static bool is_movement(ir_opcode_t code) {
  switch (code) {
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_CONCAT:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_PAD:
    case OP_UNFOLD:
      return true;
    default:
      return false;
  }
}

static bool has_wide(const widener_t *w, const ir_value_t *x) {
  return x != NULL && x->number != NO_NUMBER && w->wide[x->number] != NULL;
}

static bool should_widen(const widener_t *w, const ir_op_t *op) {
  if (op->n_out != 1 || !is_narrow(op->out[0].type.dtype)) return false;
  if (is_arithmetic(op)) return true;
  if (!is_movement(op->code)) return false;
  unsigned n = op->code == OP_CONCAT ? op->n_in : 1;
  for (unsigned i = 0; i < n; i++)
    if (has_wide(w, op->in[i].value)) return true;
  return false;
}

static ir_value_t *widen_value(widener_t *w, ir_value_t *x) {
  if (x == NULL || !is_narrow(x->type.dtype)) return x;
  if (has_wide(w, x)) return w->wide[x->number];
  ir_value_t *wide = ir_cast(&w->b, x, DT_F32);
  wide->number = NO_NUMBER;
  return wide;
}

static ir_value_t *widen_operand(void *user, ir_value_t *x) {
  return widen_value(user, x);
}

static moec_status_t widen_op(widener_t *w, ir_op_t *op) {
  ir_value_t *old = &op->out[0];
  dtype_t dtype = old->type.dtype;
  w->b.region = op->parent;
  w->b.before = op;
  w->b.loc = op->loc;
  ir_op_t *copy = ir_clone(w->ctx->module, op, widen_operand, w);
  if (op->code == OP_MATMUL && ir_has_attr(copy, ATTR_MATMUL_out_dtype))
    ir_set_dtype(copy, ATTR_MATMUL_out_dtype, DT_F32);
  if (op->code == OP_GROUPED_MATMUL &&
      ir_has_attr(copy, ATTR_GROUPED_MATMUL_out_dtype))
    ir_set_dtype(copy, ATTR_GROUPED_MATMUL_out_dtype, DT_F32);
  if (op->code == OP_CONVOLVE || op->code == OP_GROUPED_CONVOLVE) {
    ir_attr_id_t out = ir_convolve_attr(op, ATTR_CONVOLVE_out_dtype);
    if (ir_has_attr(copy, out)) ir_set_dtype(copy, out, DT_F32);
  }
  ir_value_t *wide = ir_place(&w->b, copy);
  MOEC_TRY(w->b.status);
  wide->number = NO_NUMBER;
  ir_value_t *narrow = ir_cast(&w->b, wide, dtype);
  narrow->number = old->number;
  narrow->name = old->name;
  w->wide[old->number] = wide;
  ir_replace_uses(old, narrow);
  ir_erase(op);
  return MOEC_OK;
}

moec_status_t run_widen(pass_ctx_t *ctx, ir_func_t *func) {
  ir_renumber(func);
  widener_t w = {.ctx = ctx};
  w.wide = ARENA_ARRAY(ctx->scratch, ir_value_t *, ir_count_values(func) + 1);
  w.b = (ir_builder_t){.module = ctx->module, .diag = ctx->diag};
  for (ir_op_t *op = ir_walk_first(func), *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    if (!should_widen(&w, op) || !pass_allow_rewrite(ctx, "widen", op))
      continue;
    MOEC_TRY(widen_op(&w, op));
  }
  return MOEC_OK;
}
