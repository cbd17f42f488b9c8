/* Chooses how each product is computed: panels and register tiles, or, where
 * one side is a vector, a reduction that reads its operands in place; and how
 * windows are read (layout_window.c). */
#include "passes/layout.h"

#include <string.h>

#include "ir/build.h"
#include "ir/tile.h"
#include "passes/pass.h"

bool layout_is_constant(const ir_value_t *x) {
  while (x->def != NULL) {
    const ir_op_t *op = x->def;
    if (op->code == OP_CONSTANT) return true;
    if (!ir_has_trait(op, PURE) || op->n_in == 0 || op->in[0].value == NULL)
      return false;
    for (unsigned i = 1; i < op->n_in; i++)
      if (op->in[i].value == NULL || op->in[i].value->def == NULL ||
          op->in[i].value->def->code != OP_CONSTANT)
        return false;
    x = op->in[0].value;
  }
  return false;
}

bool layout_runs_along(const ir_value_t *x, unsigned d) {
  const ir_op_t *op = x->def;
  if (op != NULL && op->code == OP_TRANSPOSE) {
    unsigned n;
    const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
    return layout_runs_along(op->in[0].value, (unsigned)perm[d]);
  }
  if (op != NULL && op->code == OP_CAST)
    return layout_runs_along(op->in[0].value, d);
  for (unsigned i = d + 1; i < x->type.rank; i++)
    if (!expr_equals_const(x->type.dim[i], 1)) return false;
  return true;
}

/* One matrix of n rows of m elements of `size` bytes, transposed. */
static void turn_matrix(uint8_t *to, const uint8_t *from, uint64_t n,
                        uint64_t m, uint64_t size) {
  for (uint64_t i = 0; i < n; i++)
    for (uint64_t j = 0; j < m; j++)
      memcpy(to + (j * n + i) * size, from + (i * m + j) * size, size);
}

/* The transposition of a constant's matrices, NULL where it is not one or too
 * large to be copied. */
static ir_value_t *turned_constant(ir_builder_t *b, const ir_value_t *w) {
  const uint64_t most = UINT64_C(64) << 20;
  const ir_type_t *type = &w->type;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = type->rank;
  int64_t n, m;
  if (w->def == NULL || w->def->code != OP_CONSTANT ||
      layout_runs_along(w, rank - 2) || dtype_bits(type->dtype) < 8 ||
      !expr_is_const(type->dim[rank - 2], &n) ||
      !expr_is_const(type->dim[rank - 1], &m))
    return NULL;
  ir_data_t *data = ir_get_data(w->def, ATTR_CONSTANT_data);
  uint64_t size = dtype_bits(type->dtype) / 8;
  uint64_t one = (uint64_t)n * (uint64_t)m * size;
  if (!ir_data_is_known(data) || data->size > most || one == 0 ||
      data->size % one != 0)
    return NULL;
  uint8_t *bytes = arena_alloc(b->module->arena, data->size);
  for (uint64_t at = 0; at < data->size; at += one)
    turn_matrix(bytes + at, (const uint8_t *)data->bytes + at, (uint64_t)n,
                (uint64_t)m, size);
  ir_type_t turned = *type;
  for (unsigned d = 0; d < rank; d++) dim[d] = type->dim[d];
  dim[rank - 2] = type->dim[rank - 1];
  dim[rank - 1] = type->dim[rank - 2];
  turned.dim = dim;
  return ir_tensor(b, &turned, bytes, data->size);
}

ir_value_t *layout_turn(ir_builder_t *b, ir_value_t *w) {
  int64_t perm[IR_MAX_RANK];
  unsigned rank = w->type.rank;
  if (w->def != NULL && w->def->code == OP_CAST)
    return ir_cast(b, layout_turn(b, w->def->in[0].value), w->type.dtype);
  ir_value_t *turned = turned_constant(b, w);
  if (turned != NULL) return turned;
  for (unsigned d = 0; d < rank; d++) perm[d] = d;
  perm[rank - 2] = rank - 1;
  perm[rank - 1] = rank - 2;
  return ir_transpose(b, w, perm);
}

static dtype_t sum_dtype(dtype_t dtype) {
  return dtype_is_float(dtype) && dtype_bits(dtype) < 32 ? DT_F32 : dtype;
}

/* sum over k of a[.., m, 1, k] * b[.., n, k]: lanes over k */
static ir_value_t *by_rows(ir_builder_t *b, ir_value_t *x, ir_value_t *y) {
  unsigned rank = y->type.rank;
  x = ir_unsqueeze(b, x, x->type.rank - 1);
  y = ir_unsqueeze(b, layout_turn(b, y), rank - 2);
  ir_value_t *product = ir_binary(b, OP_MUL, x, y);
  int64_t axis = product->type.rank - 1;
  return ir_reduce(b, OP_REDUCE_SUM, product, 1, &axis, false);
}

/* sum over k of a[.., k, 1] * b[.., k, n]: lanes over n, one row */
static ir_value_t *by_columns(ir_builder_t *b, ir_value_t *x, ir_value_t *y) {
  int64_t perm[IR_MAX_RANK];
  unsigned rank = x->type.rank;
  for (unsigned d = 0; d < rank; d++) perm[d] = d;
  perm[rank - 2] = rank - 1;
  perm[rank - 1] = rank - 2;
  ir_value_t *product = ir_binary(b, OP_MUL, ir_transpose(b, x, perm), y);
  int64_t axis = product->type.rank - 2;
  return ir_reduce(b, OP_REDUCE_SUM, product, 1, &axis, true);
}

ir_value_t *layout_without_widening(ir_value_t *y) {
  const ir_op_t *cast = y->def;
  if (cast == NULL || cast->code != OP_CAST || y->type.dtype != DT_F32)
    return y;
  ir_value_t *x = cast->in[0].value;
  bool narrow = x->type.dtype == DT_F16 || x->type.dtype == DT_BF16;
  return narrow ? x : y;
}

/* Products of bytes that are summed in i32 read them as they are. */
static bool are_bytes(const ir_value_t *x, const ir_value_t *y) {
  return dtype_is_integer(x->type.dtype) && dtype_bits(x->type.dtype) == 8 &&
         dtype_is_integer(y->type.dtype) && dtype_bits(y->type.dtype) == 8;
}

static ir_value_t *by_panels(ir_builder_t *b, ir_value_t *x, ir_value_t *y,
                             dtype_t out_dtype) {
  y = layout_without_widening(y);
  ir_op_t *pack = ir_begin(b, OP_PACK_PANELS, 1, &y, 1);
  ir_value_t *in[] = {x, ir_place(b, pack)};
  ir_op_t *product = ir_begin(b, OP_PRODUCT, 2, in, 1);
  if (product == NULL) return NULL;
  ir_set_expr(product, ATTR_PRODUCT_columns, y->type.dim[y->type.rank - 1]);
  ir_set_dtype(product, ATTR_PRODUCT_out_dtype, out_dtype);
  return ir_place(b, product);
}

static ir_value_t *packed(ir_builder_t *b, ir_value_t *w) {
  return ir_place(b, ir_begin(b, OP_PACK_PANELS, 1, &w, 1));
}

/* Matrices of constants of their own are packed one by one: their stack would
 * be as large as they are. */
static ir_value_t *packed_matrices(ir_builder_t *b, ir_value_t *w) {
  const ir_op_t *stack = layout_find_stack(w);
  if (stack == NULL) return packed(b, w);
  ir_value_t **in = ARENA_ARRAY(b->module->arena, ir_value_t *, stack->n_in);
  for (unsigned i = 0; i < stack->n_in; i++) {
    ir_value_t *part = layout_part_of_stack(b, w, i);
    in[i] = packed(b, layout_without_widening(part));
  }
  return ir_place(b, ir_begin(b, OP_PANEL_STACK, stack->n_in, in, 1));
}

static ir_value_t *by_groups(ir_builder_t *b, const ir_op_t *op) {
  ir_value_t *w = layout_without_widening(op->in[1].value);
  ir_value_t *in[] = {op->in[0].value, packed_matrices(b, w), op->in[2].value,
                      op->in[3].value};
  ir_op_t *product = ir_begin(b, OP_GROUPED_PRODUCT, 4, in, 1);
  if (product == NULL) return NULL;
  ir_set_expr(product, ATTR_GROUPED_PRODUCT_columns, w->type.dim[2]);
  ir_set_expr(product, ATTR_GROUPED_PRODUCT_tiles,
              ir_get_expr(op, ATTR_GROUPED_MATMUL_tiles));
  ir_set_dtype(product, ATTR_GROUPED_PRODUCT_out_dtype, op->out[0].type.dtype);
  return ir_place(b, product);
}

static ir_value_t *compute(ir_builder_t *b, const ir_op_t *op) {
  ir_value_t *x = op->in[0].value, *y = op->in[1].value;
  const ir_type_t *out = &op->out[0].type;
  int64_t rows = 0, columns = 0;
  bool narrow = expr_is_const(y->type.dim[y->type.rank - 1], &columns) &&
                columns < LAYOUT_NARROW;
  bool vector = expr_is_const(x->type.dim[x->type.rank - 2], &rows) &&
                rows == 1 && !layout_is_constant(y);
  bool along_k = layout_runs_along(y, y->type.rank - 2);
  narrow = narrow && (along_k || layout_is_constant(y));
  vector = vector && !narrow;
  dtype_t sum = sum_dtype(out->dtype);
  bool small_integers = dtype_is_integer(out->dtype) &&
                        out->dtype != x->type.dtype && !are_bytes(x, y);
  if (narrow || vector || small_integers) {
    x = ir_cast(b, x, sum);
    y = ir_cast(b, y, sum);
  }
  if (narrow || (vector && along_k))
    return ir_cast(b, by_rows(b, x, y), out->dtype);
  if (vector) return ir_cast(b, by_columns(b, x, y), out->dtype);
  return by_panels(b, x, y, out->dtype);
}

static ir_value_t *replacement(ir_builder_t *b, const ir_op_t *op) {
  switch (op->code) {
    case OP_MATMUL:
      return compute(b, op);
    case OP_GROUPED_MATMUL:
      return by_groups(b, op);
    case OP_UNFOLD:
      return layout_unfold(b, op);
    case OP_CONVOLVE:
    case OP_GROUPED_CONVOLVE:
      return layout_convolve(b, op);
    default:
      return NULL;
  }
}

static const char *rewrite_of(ir_opcode_t code) {
  switch (code) {
    case OP_MATMUL:
    case OP_GROUPED_MATMUL:
      return "choose-product";
    case OP_UNFOLD:
      return "choose-windows";
    case OP_CONVOLVE:
    case OP_GROUPED_CONVOLVE:
      return "choose-convolution";
    default:
      return NULL;
  }
}

moec_status_t run_layout(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func), *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    const char *name = rewrite_of(op->code);
    if (name == NULL || !pass_allow_rewrite(ctx, name, op)) continue;
    ir_builder_t b = {.module = ctx->module,
                      .region = op->parent,
                      .before = op,
                      .loc = op->loc,
                      .diag = ctx->diag};
    const ir_op_t *before = op->prev;
    ir_value_t *result = replacement(&b, op);
    MOEC_TRY(b.status);
    /* A convolution may have become a matmul. */
    ir_op_t *first = before != NULL ? before->next : op->parent->first;
    if (first != op) next = first;
    ir_replace_uses(&op->out[0], result);
    ir_erase(op);
  }
  return MOEC_OK;
}
