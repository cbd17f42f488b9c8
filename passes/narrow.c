/* Holds constants of f32 in 16 bits where that loses nothing: every element is
 * one of bf16, or else of f16, bit by bit. Most weights are, since models are
 * trained in 16 bits and exported in 32. Who reads them widens in registers,
 * and then computes as before, so results keep their bits (EX0); weights take
 * half the bytes, which is half the time where memory is the limit.
 *
 * Only what is read in place is narrowed: panels and filters of products, what
 * is gathered, what elementwise operations and reductions read. Data stays a
 * view of the model: the constant says of which type it is, and is narrowed
 * when it is written. One sweep, linear in uses and in the bytes of constants.
 */
#include "passes/narrow.h"

#include "ir/half.h"

enum {
  LEAST_READ = 64 << 10, /* of what elementwise operations read: it may be
                            read often, from a near cache */
  MAX_VIEWS = 16,        /* between a constant and who reads it */
};

typedef enum {
  USE_NEVER,  /* needs f32 in memory */
  USE_PACKED, /* becomes panels, which lie in memory of their own */
  USE_READ,   /* the constant itself is read */
} use_kind_t;

typedef struct narrower {
  pass_ctx_t *ctx;
  ir_builder_t b;
  dtype_t to;
  bool large; /* the constant at hand: elementwise operations may read it */
} narrower_t;

/* ---- What may be narrowed ------------------------------------------------ */

static bool is_view(ir_opcode_t code) {
  return code == OP_RESHAPE || code == OP_TRANSPOSE || code == OP_SLICE ||
         code == OP_EXPAND;
}

/* Results are elements of operand 0 at places that others tell. */
static bool is_gather(ir_opcode_t code) {
  return code == OP_GATHER || code == OP_GATHER_ELEMENTS ||
         code == OP_GATHER_ND;
}

static bool is_reduction(ir_opcode_t code) {
  return code == OP_REDUCE_SUM || code == OP_REDUCE_PROD ||
         code == OP_REDUCE_MAX || code == OP_REDUCE_MIN;
}

/* A product of f32 that widens this operand in registers. */
static bool widens_itself(const ir_use_t *use) {
  const ir_op_t *op = use->user;
  unsigned weights = op->code == OP_WINDOW_PRODUCT ? 0 : 1;
  if (op->code != OP_PRODUCT && op->code != OP_GROUPED_PRODUCT &&
      op->code != OP_WINDOW_PRODUCT)
    return false;
  return use->index == weights && op->out[0].type.dtype == DT_F32 &&
         op->in[1 - weights].value->type.dtype == DT_F32;
}

static use_kind_t kind_of(const narrower_t *n, const ir_use_t *use,
                          unsigned depth);

/* Of all uses of a value together. */
static use_kind_t kind_of_uses(const narrower_t *n, const ir_value_t *x,
                               unsigned depth) {
  use_kind_t all = USE_PACKED;
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    use_kind_t kind = kind_of(n, use, depth);
    if (kind == USE_NEVER) return USE_NEVER;
    if (kind == USE_READ) all = USE_READ;
  }
  return all;
}

static use_kind_t kind_of(const narrower_t *n, const ir_use_t *use,
                          unsigned depth) {
  const ir_op_t *op = use->user;
  if (depth > MAX_VIEWS) return USE_NEVER;
  if (widens_itself(use)) return USE_READ;
  if (is_gather(op->code)) return use->index == 0 ? USE_READ : USE_NEVER;
  if (is_view(op->code)) return kind_of_uses(n, &op->out[0], depth + 1);
  if (op->code == OP_PACK_PANELS)
    return kind_of_uses(n, &op->out[0], depth + 1) == USE_NEVER ? USE_NEVER
                                                                : USE_PACKED;
  bool reads = ir_has_trait(op, ELEMENTWISE) || is_reduction(op->code);
  return reads && n->large ? USE_READ : USE_NEVER;
}

/* The type that holds all elements of a constant; DT_NONE: there is none. */
static dtype_t narrow_type(const narrower_t *n, const ir_op_t *constant) {
  const ir_data_t *data = ir_get_data(constant, ATTR_CONSTANT_data);
  const uint64_t count = data->size / 4;
  dtype_t to = DT_NONE;
  if (half_is_exact(DT_BF16, data->bytes, count))
    to = DT_BF16;
  else if (!n->ctx->options->no_f16 &&
           half_is_exact(DT_F16, data->bytes, count))
    to = DT_F16;
  return to != DT_NONE && ir_data_is_known(data) ? to : DT_NONE;
}

/* ---- Narrowing ----------------------------------------------------------- */

static ir_value_t *widen(narrower_t *n, ir_value_t *x, ir_op_t *before) {
  n->b.region = before->parent;
  n->b.before = before;
  n->b.loc = before->loc;
  return ir_cast(&n->b, x, DT_F32);
}

static void narrow_use(narrower_t *n, const ir_use_t *use, unsigned depth);

/* Panels of what is gathered are narrow, too; other users get the elements
 * widened where they are gathered. */
static void narrow_gather(narrower_t *n, ir_op_t *gather, unsigned depth) {
  ir_value_t *x = &gather->out[0], *wide = NULL;
  x->type.dtype = n->to;
  for (ir_use_t *use = x->uses, *next; use != NULL; use = next) {
    next = use->next;
    ir_opcode_t code = use->user->code;
    bool passes_on = is_view(code) || code == OP_PACK_PANELS;
    if (widens_itself(use)) continue;
    if (passes_on && kind_of(n, use, depth) != USE_NEVER) {
      narrow_use(n, use, depth + 1);
      continue;
    }
    if (wide == NULL) wide = widen(n, x, gather->next);
    if (wide == NULL) return;
    ir_set_operand(use->user, use->index, wide);
  }
}

/* The operand has been narrowed: so is what its user makes of it. */
static void narrow_use(narrower_t *n, const ir_use_t *use, unsigned depth) {
  ir_op_t *op = use->user;
  if (widens_itself(use)) return;
  if (is_gather(op->code)) {
    narrow_gather(n, op, depth);
    return;
  }
  if (!is_view(op->code) && op->code != OP_PACK_PANELS) {
    ir_value_t *wide = widen(n, use->value, op);
    if (wide != NULL) ir_set_operand(op, use->index, wide);
    return;
  }
  op->out[0].type.dtype = n->to;
  for (ir_use_t *below = op->out[0].uses, *next; below != NULL; below = next) {
    next = below->next;
    narrow_use(n, below, depth + 1);
  }
}

/* Uses that cannot be narrowed keep the constant as it is; then those that read
 * it do too, as one copy of it is enough. */
static void narrow_constant(narrower_t *n, ir_op_t *op, bool all) {
  ir_op_t *narrow = ir_clone(n->ctx->module, op, NULL, NULL);
  ir_set_dtype(narrow, ATTR_CONSTANT_dtype, n->to);
  ir_set_dtype(narrow, ATTR_CONSTANT_data_dtype, DT_F32);
  n->b.region = op->parent;
  n->b.before = op;
  n->b.loc = op->loc;
  ir_value_t *y = ir_place(&n->b, narrow);
  if (y == NULL) return;
  y->name = op->out[0].name;
  for (ir_use_t *use = op->out[0].uses, *next; use != NULL; use = next) {
    next = use->next;
    use_kind_t kind = kind_of(n, use, 0);
    if (kind == USE_NEVER || (kind == USE_READ && !all)) continue;
    ir_op_t *user = use->user;
    unsigned index = use->index;
    ir_set_operand(user, index, y);
    narrow_use(n, &user->in[index], 0);
  }
  if (op->out[0].uses == NULL) ir_erase(op);
}

static moec_status_t try_constant(narrower_t *n, ir_op_t *op) {
  const ir_value_t *x = &op->out[0];
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  if (x->type.dtype != DT_F32 || data->bytes == NULL ||
      data->size < NARROW_LEAST_BYTES)
    return MOEC_OK;
  bool any = false, all = true;
  n->large = data->size >= LEAST_READ;
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    use_kind_t kind = kind_of(n, use, 0);
    any |= kind == USE_PACKED;
    all &= kind != USE_NEVER;
  }
  if (x->uses == NULL || (!any && !all)) return MOEC_OK;
  n->to = narrow_type(n, op);
  if (n->to == DT_NONE || !pass_allow_rewrite(n->ctx, "narrow", op))
    return MOEC_OK;
  narrow_constant(n, op, all);
  return n->b.status;
}

moec_status_t run_narrow(pass_ctx_t *ctx, ir_func_t *func) {
  narrower_t n = {.ctx = ctx};
  n.b = (ir_builder_t){.module = ctx->module, .diag = ctx->diag};
  for (ir_op_t *op = ir_walk_first(func), *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    if (op->code == OP_CONSTANT) MOEC_TRY(try_constant(&n, op));
    if (op->code == OP_PANEL_STACK || op->code == OP_CONSTANT_STACK)
      MOEC_TRY(narrow_stack(ctx, op));
  }
  return MOEC_OK;
}
