/* Rows that became one dimension with features in front of them, or with slots
 * between tokens, and are taken apart again: no tag says what such a dimension
 * is. Recurrent networks are projected so, and einsum is written so. What lies
 * between is read as if the dimension had stayed apart. */
#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { MAX_BETWEEN = 16 };

/* How a value's first dimension is read: as several. */
typedef struct apart {
  moe_builder_t *b;
  const moe_layout_t *layout;
  const expr_t *whole; /* the first dimension */
  unsigned n;
  const expr_t *dim[IR_MAX_RANK];
  uint8_t tag[IR_MAX_RANK];
  unsigned depth;
} apart_t;

/* The type of x with that dimension apart, and its tags. `own` are those of
 * x's other dimensions. False: there are too many. */
static bool apart_type(const apart_t *a, const ir_type_t *x, const uint8_t *own,
                       ir_type_t *out, const expr_t **dim, uint8_t *tag) {
  if (a->n + x->rank - 1 > IR_MAX_RANK) return false;
  for (unsigned d = 0; d < a->n; d++) {
    dim[d] = a->dim[d];
    tag[d] = a->tag[d];
  }
  for (unsigned d = 1; d < x->rank; d++) {
    dim[a->n + d - 1] = x->dim[d];
    tag[a->n + d - 1] = own[d - 1];
  }
  *out = ir_tensor_type(x->dtype, a->n + x->rank - 1, dim);
  return true;
}

static moe_term_t *read_apart(apart_t *a, ir_value_t *x, const uint8_t *own);

/* Another shape of x: with its first dimension apart, or as it is. */
static moe_term_t *apart_reshape(apart_t *a, ir_value_t *x, const uint8_t *own,
                                 const ir_type_t *type, const uint8_t *tag) {
  moe_builder_t *b = a->b;
  ir_value_t *from = ir_in(x->def, 0);
  uint8_t other[IR_MAX_RANK];
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, type, tag, dim);
  moe_term_t *term = NULL;
  if (moe_tags_reshape(a->layout->source, type, tag, &from->type, other)) {
    bool ends = a->layout->kind == LAYOUT_DENSE && moe_is_shared(b, x) &&
                moe_visible(b, from) && moe_has_rows(&from->type, other);
    term = ends ? moe_term_leaf(b->terms, TERM_TOKEN, from, other)
                : moe_build(b, from, other, a->layout);
  } else if (from->type.rank > 0 && from->type.dim[0] == a->whole) {
    const ir_type_t to =
        ir_tensor_type(x->type.dtype, x->type.rank - 1, x->type.dim + 1);
    const ir_type_t rest =
        ir_tensor_type(x->type.dtype, from->type.rank - 1, from->type.dim + 1);
    if (moe_tags_reshape(a->layout->source, &to, own, &rest, other))
      term = read_apart(a, from, other);
  }
  return term != NULL ? moe_term_reshape(b->terms, term, rank, dim) : NULL;
}

static moe_term_t *apart_elementwise(apart_t *a, const ir_op_t *op,
                                     const uint8_t *own, const ir_type_t *type,
                                     const uint8_t *tag) {
  enum { MAX_IN = 4 };
  moe_builder_t *b = a->b;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, type, tag, dim);
  moe_term_t *in[MAX_IN];
  if (op->n_in > MAX_IN) return NULL;
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = ir_in(op, i);
    uint8_t operand[IR_MAX_RANK];
    bool whole =
        x->type.rank == op->out[0].type.rank && x->type.dim[0] == a->whole;
    if (!moe_tags_broadcast(type, tag, &x->type, operand) && !whole)
      return NULL;
    if (whole) {
      for (unsigned d = 1; d < x->type.rank; d++) {
        bool same = x->type.dim[d] == op->out[0].type.dim[d];
        bool inner = (own[d - 1] & TAG_INNER) != 0;
        operand[d - 1] = same ? own[d - 1] : inner ? TAG_INNER : TAG_GONE;
      }
      in[i] = read_apart(a, x, operand);
    } else { /* the same for all of the dimension */
      bool one = x->type.rank == op->out[0].type.rank;
      if (one && !rule_is_one(x->type.dim[0])) return NULL;
      in[i] = moe_build(b, x, operand, a->layout);
    }
    if (in[i] == NULL || !moe_term_broadcasts(in[i], rank, dim)) return NULL;
  }
  return moe_term_op(b->terms, &(moe_term_t){.code = op->code,
                                             .model = op,
                                             .dtype = op->out[0].type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = op->n_in,
                                             .in = in});
}

/* A value that stands for the result of op with another type. */
static ir_value_t *as_if(moe_builder_t *b, const ir_op_t *op,
                         const ir_type_t *type) {
  ir_value_t *value = ARENA_NEW(b->arena, ir_value_t);
  *value = op->out[0];
  value->type = *type;
  return value;
}

/* Rows times a matrix. */
static moe_term_t *apart_rows(apart_t *a, const ir_op_t *op, const uint8_t *own,
                              const ir_type_t *type, const uint8_t *tag) {
  moe_builder_t *b = a->b;
  const uint8_t inner[] = {TAG_INNER}, matrix[] = {TAG_INNER, own[0]};
  if ((own[0] & TAG_INNER) == 0) return NULL;
  moe_term_t *x = read_apart(a, ir_in(op, 0), inner);
  if (x == NULL) return NULL;
  moe_term_t *y = moe_build(b, ir_in(op, 1), matrix, a->layout);
  if (y == NULL) return NULL;
  return moe_read_product(b, as_if(b, op, type), tag, x, y);
}

/* A vector of one row or column as a matrix. */
static moe_term_t *with_one(moe_builder_t *b, moe_term_t *x, bool in_front) {
  const expr_t *one = expr_const(b->pool, 1);
  if (x->rank != 1) return x;
  const expr_t *dim[2] = {in_front ? one : x->dim[0],
                          in_front ? x->dim[0] : one};
  return moe_term_reshape(b->terms, x, 2, dim);
}

/* Products of batches that became one; their matrices have no rows. */
static moe_term_t *apart_batches(apart_t *a, const ir_op_t *op,
                                 const uint8_t *own, const ir_type_t *type,
                                 const uint8_t *tag) {
  moe_builder_t *b = a->b;
  static const uint8_t inner[2] = {TAG_INNER, TAG_INNER};
  moe_term_t *side[2];
  if (memcmp(own, inner, sizeof inner) != 0) return NULL;
  for (unsigned i = 0; i < 2; i++) {
    side[i] = read_apart(a, ir_in(op, i), inner);
    if (side[i] == NULL) return NULL;
  }
  side[0] = with_one(b, side[0], true);
  side[1] = with_one(b, side[1], false);
  return moe_read_product(b, as_if(b, op, type), tag, side[0], side[1]);
}

/* The term of x, whose first dimension is read as several: features of these,
 * then of x's others. */
static moe_term_t *read_apart(apart_t *a, ir_value_t *x, const uint8_t *own) {
  const ir_op_t *op = x->def;
  const expr_t *dim[IR_MAX_RANK];
  uint8_t tag[IR_MAX_RANK];
  ir_type_t type;
  if (op == NULL || a->depth >= MAX_BETWEEN || x->type.rank == 0 ||
      x->type.dim[0] != a->whole ||
      !apart_type(a, &x->type, own, &type, dim, tag))
    return NULL;
  moe_term_t *term = NULL;
  a->depth++;
  if (op->code == OP_RESHAPE)
    term = apart_reshape(a, x, own, &type, tag);
  else if (ir_has_trait(op, ELEMENTWISE))
    term = apart_elementwise(a, op, own, &type, tag);
  else if (op->code == OP_MATMUL && ir_in(op, 1)->type.rank == 2 &&
           x->type.rank == 2)
    term = apart_rows(a, op, own, &type, tag);
  else if (op->code == OP_MATMUL && x->type.rank == 3 &&
           ir_in(op, 0)->type.rank == 3 && ir_in(op, 1)->type.rank == 3)
    term = apart_batches(a, op, own, &type, tag);
  a->depth--;
  return term;
}

moe_term_t *moe_read_merged(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  ir_value_t *x = ir_in(value->def, 0);
  if (x->type.rank == 0) return NULL;
  if (layout->kind == LAYOUT_DENSE && moe_is_shared(b, x) &&
      moe_visible(b, value))
    return moe_term_leaf(b->terms, TERM_TOKEN, value, tag);
  apart_t a = {.b = b, .layout = layout, .whole = x->type.dim[0]};
  const expr_t *all = expr_const(b->pool, 1);
  while (a.n < value->type.rank && all != a.whole) {
    a.dim[a.n] = value->type.dim[a.n];
    a.tag[a.n] = tag[a.n];
    all = expr_mul(b->pool, all, value->type.dim[a.n++]);
  }
  if (all != a.whole || a.n < 2) return NULL;
  const ir_type_t from = ir_tensor_type(
      value->type.dtype, value->type.rank - a.n, value->type.dim + a.n);
  const ir_type_t rest =
      ir_tensor_type(value->type.dtype, x->type.rank - 1, x->type.dim + 1);
  uint8_t own[IR_MAX_RANK];
  if (!moe_tags_reshape(layout->source, &from, tag + a.n, &rest, own))
    return NULL;
  moe_term_t *term = read_apart(&a, x, own);
  if (term == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_reshape(b->terms, term, rank, dim);
}
