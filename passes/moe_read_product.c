/* Reading products of rows with matrices, of experts or of all. */
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW | TAG_PLACE };

/* Rows in front of one vector each times a matrix: the form that all products
 * of single rows take. x[K] times y[K, N]. */
static moe_term_t *row_product(moe_builder_t *b, const ir_op_t *op,
                               moe_term_t *x, moe_term_t *y, unsigned rank,
                               const expr_t *const *dim) {
  const expr_t *k = y->dim[0], *n = y->dim[1];
  x = moe_term_reshape(b->terms, x, 1, &k);
  moe_term_t *in[2] = {x, y};
  moe_term_t *product =
      moe_term_op(b->terms, &(moe_term_t){.code = OP_MATMUL,
                                          .model = op,
                                          .dtype = op->out[0].type.dtype,
                                          .rank = 1,
                                          .dim = &n,
                                          .n = 2,
                                          .in = in});
  return moe_term_reshape(b->terms, product, rank, dim);
}

static moe_term_t *transposed(moe_builder_t *b, moe_term_t *x) {
  const expr_t *dim[2] = {x->dim[1], x->dim[0]};
  const expr_t *perm[2] = {expr_const(b->pool, 1), expr_const(b->pool, 0)};
  if (x->kind == TERM_OP && x->code == OP_TRANSPOSE && x->rank == 2)
    return x->in[0];
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_TRANSPOSE,
                                             .dtype = x->dtype,
                                             .rank = 2,
                                             .dim = dim,
                                             .n = 1,
                                             .in = &x,
                                             .n_exprs = 2,
                                             .exprs = perm});
}

/* A matrix without rows; dimensions of 1 in front of it are dropped. */
static moe_term_t *as_matrix(moe_builder_t *b, moe_term_t *x) {
  if (x->rows || x->rank < 2) return NULL;
  for (unsigned d = 0; d + 2 < x->rank; d++)
    if (!rule_is_one(x->dim[d])) return NULL;
  return moe_term_reshape(b->terms, x, 2, x->dim + x->rank - 2);
}

/* x has rows; all of its features are one vector of length k. */
static bool is_vector(const moe_term_t *x, const expr_t *k) {
  bool found = false;
  for (unsigned d = 0; d < x->rank; d++) {
    if (rule_is_one(x->dim[d]) && (found || x->dim[d] != k)) continue;
    if (found || x->dim[d] != k) return false;
    found = true;
  }
  return found || rule_is_one(k);
}

moe_term_t *moe_read_product(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, moe_term_t *x, moe_term_t *y) {
  const ir_op_t *op = value->def;
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  moe_term_t *matrix = as_matrix(b, y);
  if (x->rows && matrix != NULL && is_vector(x, matrix->dim[0]))
    return row_product(b, op, x, matrix, rank, dim);
  matrix = as_matrix(b, x);
  if (y->rows && matrix != NULL && is_vector(y, matrix->dim[1]))
    return row_product(b, op, y, transposed(b, matrix), rank, dim);
  if (!moe_product_fits(x, y, rank, dim))
    return moe_fail(b, op, "the product's rows are those of the tokens");
  moe_term_t *in[2] = {x, y};
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_MATMUL,
                                             .model = op,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = 2,
                                             .in = in});
}

moe_term_t *moe_read_matmul(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  uint8_t side_tag[2][IR_MAX_RANK];
  moe_term_t *side[2];
  if (layout->kind == LAYOUT_PLACES)
    return moe_read_gate_product(b, value, tag, layout);
  if (layout->kind == LAYOUT_BUFFER) {
    moe_term_t *term = moe_read_dispatch(b, value, tag, layout);
    if (term != NULL || b->obligation != NULL) return term;
  }
  for (unsigned i = 0; i < 2; i++) {
    const ir_type_t *type = &ir_in(op, i)->type;
    unsigned shift = value->type.rank - type->rank;
    for (unsigned d = 0; d < type->rank; d++) {
      unsigned t = tag[shift + d];
      if (d + 2 < type->rank) {
        bool same = type->dim[d] == value->type.dim[shift + d];
        if (!same) t = (t & TAG_INNER) != 0 ? TAG_INNER : TAG_GONE;
      } else if ((d + 1 == type->rank) == (i == 0)) {
        t = TAG_INNER; /* summed over */
      } else if (t == TAG_EXPERT) {
        return moe_fail(b, op, "experts are a batch of products");
      }
      side_tag[i][d] = (uint8_t)t;
    }
    side[i] = moe_build(b, ir_in(op, i), side_tag[i], layout);
    if (side[i] == NULL) return NULL;
  }
  /* rows may be those of the matrices: vectors, then */
  const expr_t *one = expr_const(b->pool, 1);
  unsigned rank = value->type.rank;
  if ((tag[rank - 2] & ROWS) != 0 && side[0]->rank == 1 && side[1]->rows) {
    const expr_t *dim[2] = {one, side[0]->dim[0]};
    side[0] = moe_term_reshape(b->terms, side[0], 2, dim);
  }
  if ((tag[rank - 1] & ROWS) != 0 && side[1]->rank == 1 && side[0]->rows) {
    const expr_t *dim[2] = {side[1]->dim[0], one};
    side[1] = moe_term_reshape(b->terms, side[1], 2, dim);
  }
  return moe_read_product(b, value, tag, side[0], side[1]);
}
