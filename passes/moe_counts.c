/* Constants that count: 0, 1, 2, .., each number repeated, all of them
 * repeated, or multiplied. Rules for single operations see counting, which the
 * folding of constants has hidden. */
#include "passes/moe_counts.h"

#include "ir/build.h"
#include "ir/element.h"
#include "passes/rules.h"

/* Element i is scale * (i / each % n); `count` elements. */
typedef struct steps {
  int64_t count, each, n, scale;
} steps_t;

static int64_t element(const ir_op_t *op, int64_t i) {
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  return ir_element_int(op->out[0].type.dtype, data->bytes, (uint64_t)i);
}

static bool find_steps(const ir_op_t *op, steps_t *out) {
  enum { MAX_COUNT = 1 << 20 };
  const ir_type_t *type = &op->out[0].type;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  if (!dtype_is_integer(type->dtype) || dtype_bits(type->dtype) < 8 ||
      type->rank == 0 || data->bytes == NULL ||
      ir_has_attr(op, ATTR_CONSTANT_data_dtype) ||
      !ir_type_static_count(type, &out->count) || out->count < 2 ||
      out->count > MAX_COUNT || element(op, 0) != 0)
    return false;
  out->each = 1;
  while (out->each < out->count && element(op, out->each) == 0) out->each++;
  if (out->each == out->count) return false;
  out->scale = element(op, out->each);
  out->n = 1;
  while (out->n * out->each < out->count &&
         element(op, out->n * out->each) == out->n * out->scale)
    out->n++;
  if (out->scale <= 0 || out->count % (out->n * out->each) != 0) return false;
  for (int64_t i = 0; i < out->count; i++)
    if (element(op, i) != i / out->each % out->n * out->scale) return false;
  return true;
}

/* Where a number of rows is meant, not one to compare with. */
static bool picks_rows(const ir_use_t *use) {
  switch (use->user->code) {
    case OP_GATHER:
    case OP_SCATTER_ELEMENTS:
    case OP_SCATTER_ND:
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_CAST:
      return true;
    default:
      return false;
  }
}

/* The counting itself, of `wide` equal elements for each of its own. */
static ir_value_t *write_steps(ir_builder_t *b, const ir_op_t *op,
                               const steps_t *s, int64_t wide) {
  expr_pool_t *pool = b->module->exprs;
  const ir_type_t *type = &op->out[0].type;
  const int64_t sizes[3] = {s->count / s->n / s->each, s->n, s->each / wide};
  const expr_t *from[3], *to[3], *rows[IR_MAX_RANK];
  unsigned rank = 0, n = type->rank;
  ir_value_t *x = ir_iota(b, type->dtype, expr_const(pool, s->n));
  for (unsigned i = 0; i < 3; i++) {
    if (sizes[i] == 1 && i != 1) continue;
    from[rank] = expr_const(pool, i == 1 ? s->n : 1);
    to[rank++] = expr_const(pool, sizes[i]);
  }
  if (rank > 1) {
    x = ir_reshape(b, x, rank, from);
    x = ir_expand(b, x, rank, to);
  }
  int64_t size, behind = 1;
  while (n > 0 && behind < wide) {
    rows[--n] = expr_const(pool, 1);
    behind *= expr_is_const(type->dim[n], &size) ? size : 1;
  }
  for (unsigned d = 0; d < n; d++) rows[d] = type->dim[d];
  x = ir_reshape(b, x, type->rank, rows);
  if (s->scale != 1)
    x = ir_binary(b, OP_MUL, x, ir_scalar_int(b, type->dtype, s->scale));
  return ir_expand(b, x, type->rank, type->dim);
}

/* Equal elements of the last dimensions: how many that are. */
static int64_t equal_behind(const ir_type_t *type, int64_t each) {
  int64_t wide = 1, size;
  for (unsigned d = type->rank; d-- > 1;) {
    if (!expr_is_const(type->dim[d], &size) || size == 0 ||
        each % (wide * size) != 0)
      break;
    wide *= size;
  }
  return wide;
}

moe_count_t *moe_write_counts(pass_ctx_t *ctx, ir_func_t *func) {
  moe_count_t *first = NULL;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    steps_t steps;
    bool used = false;
    if (op->code != OP_CONSTANT) continue;
    for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
      used = used || picks_rows(use);
    if (!used || !find_steps(op, &steps) ||
        !pass_allow_rewrite(ctx, "counting-constant", op))
      continue;
    ir_builder_t b = {.module = ctx->module,
                      .region = op->parent,
                      .before = op->next,
                      .loc = op->loc};
    int64_t wide = equal_behind(&op->out[0].type, steps.each);
    ir_value_t *value = write_steps(&b, op, &steps, wide);
    if (value == NULL) continue;
    for (ir_use_t *use = op->out[0].uses, *next; use != NULL; use = next) {
      next = use->next;
      if (picks_rows(use)) ir_set_operand(use->user, use->index, value);
    }
    moe_count_t *count = ARENA_NEW(ctx->scratch, moe_count_t);
    *count = (moe_count_t){&op->out[0], value, first};
    first = count;
  }
  return first;
}

void moe_fold_counts(const moe_count_t *counts) {
  for (; counts != NULL; counts = counts->next)
    ir_replace_uses(counts->value, counts->constant);
}
