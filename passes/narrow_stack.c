/* Panels of constants that are stacked: all of them become narrow, or none. */
#include <stdlib.h>

#include "ir/half.h"
#include "passes/narrow.h"

enum { MAX_VIEWS = 16 };

static bool is_view(ir_opcode_t code) {
  return code == OP_RESHAPE || code == OP_TRANSPOSE || code == OP_SLICE;
}

/* The constant of f32 that x, or that whose panels it is, views; or NULL. */
static const ir_op_t *source_of(const ir_value_t *x) {
  if (x->def != NULL && x->def->code == OP_PACK_PANELS) x = x->def->in[0].value;
  for (unsigned i = 0; i < MAX_VIEWS; i++) {
    const ir_op_t *op = x->def;
    if (op == NULL || op->out[0].type.dtype != DT_F32) return NULL;
    if (op->code == OP_CONSTANT) return op;
    if (!is_view(op->code)) return NULL;
    x = op->in[0].value;
  }
  return NULL;
}

/* Products of groups of f32 widen matrices and filters in registers. */
static bool is_widened(const ir_value_t *x) {
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    const ir_op_t *op = use->user;
    bool windows = op->code == OP_WINDOW_PRODUCT;
    unsigned weights = windows ? 0 : 1;
    if ((!windows && op->code != OP_GROUPED_PRODUCT) || use->index != weights ||
        op->out[0].type.dtype != DT_F32 ||
        op->in[1 - weights].value->type.dtype != DT_F32)
      return false;
  }
  return x->uses != NULL;
}

static bool all_are_exact(ir_data_t *const *data, unsigned n, dtype_t to) {
  for (unsigned i = 0; i < n; i++)
    if (!half_is_exact(to, data[i]->bytes, data[i]->size / 4) ||
        !ir_data_is_known(data[i]))
      return false;
  return true;
}

static int compare_places(const void *a, const void *b) {
  const uintptr_t x = (uintptr_t)*(ir_data_t *const *)a;
  const uintptr_t y = (uintptr_t)*(ir_data_t *const *)b;
  return (x > y) - (x < y);
}

/* Data of the parts' constants, each once: parts may be slices of one. */
static unsigned unique(ir_data_t **data, unsigned n) {
  unsigned kept = 0;
  qsort(data, n, sizeof *data, compare_places);
  for (unsigned i = 0; i < n; i++)
    if (i == 0 || data[i] != data[kept - 1]) data[kept++] = data[i];
  return kept;
}

/* The type that holds all elements of all parts; DT_NONE: there is none. */
static dtype_t narrow_type(const pass_ctx_t *ctx, const ir_op_t *stack) {
  uint64_t bytes = 0;
  ir_data_t **data = ARENA_ARRAY(ctx->scratch, ir_data_t *, stack->n_in + 1);
  for (unsigned i = 0; i < stack->n_in; i++) {
    const ir_op_t *source = source_of(stack->in[i].value);
    if (source == NULL) return DT_NONE;
    data[i] = ir_get_data(source, ATTR_CONSTANT_data);
    if (data[i]->bytes == NULL) return DT_NONE;
    bytes += data[i]->size;
  }
  if (bytes < NARROW_LEAST_BYTES) return DT_NONE;
  const unsigned n = unique(data, stack->n_in);
  if (all_are_exact(data, n, DT_BF16)) return DT_BF16;
  bool f16 = !ctx->options->no_f16 && all_are_exact(data, n, DT_F16);
  return f16 ? DT_F16 : DT_NONE;
}

typedef struct other {
  const ir_value_t *from;
  ir_value_t *to;
} other_t;

static ir_value_t *replaced(void *user, ir_value_t *x) {
  const other_t *other = user;
  return x == other->from ? other->to : x;
}

/* x of narrow elements, beside the old one. */
static ir_value_t *narrowed(ir_builder_t *b, ir_value_t *x, dtype_t to) {
  ir_op_t *op = x->def;
  other_t other = {0};
  if (op->code != OP_CONSTANT)
    other = (other_t){op->in[0].value, narrowed(b, op->in[0].value, to)};
  if (b->status != MOEC_OK) return NULL;
  ir_op_t *copy = ir_clone(b->module, op, replaced, &other);
  if (op->code == OP_CONSTANT) {
    ir_set_dtype(copy, ATTR_CONSTANT_dtype, to);
    ir_set_dtype(copy, ATTR_CONSTANT_data_dtype, DT_F32);
  }
  b->region = op->parent;
  b->before = op;
  b->loc = op->loc;
  ir_value_t *y = ir_place(b, copy);
  if (y != NULL) y->name = x->name;
  return y;
}

moec_status_t narrow_stack(pass_ctx_t *ctx, ir_op_t *stack) {
  if (!is_widened(&stack->out[0])) return MOEC_OK;
  dtype_t to = narrow_type(ctx, stack);
  if (to == DT_NONE || !pass_allow_rewrite(ctx, "narrow", stack))
    return MOEC_OK;
  ir_builder_t b = {.module = ctx->module, .diag = ctx->diag};
  for (unsigned i = 0; i < stack->n_in; i++) {
    ir_value_t *x = stack->in[i].value, *y = narrowed(&b, x, to);
    MOEC_TRY(b.status);
    ir_set_operand(stack, i, y);
    for (ir_op_t *op = x->def, *below; op->out[0].uses == NULL; op = below) {
      below = op->n_in > 0 ? op->in[0].value->def : NULL;
      ir_erase(op);
      if (below == NULL) break;
    }
  }
  return ir_infer_types(ctx->module, stack, ctx->diag);
}
