/* Rules for the places of a mask whose last dimensions are copies: the elements
 * that it picks are whole rows, which are moved by one place each. */
#include "passes/rules.h"

/* Places of true elements, as the columns of a transposed nonzero. */
typedef struct picked {
  ir_value_t *mask;         /* before it was expanded */
  unsigned rank;            /* of the expanded one */
  unsigned kept;            /* its dimensions before the repeated ones */
  const expr_t *const *dim; /* of the expanded mask */
  const expr_t *rows;       /* number of places in the kept dimensions */
} picked_t;

/* The nonzero whose columns are the operation's tuples, or NULL. */
static const ir_op_t *places_of(const ir_op_t *op) {
  const ir_value_t *index = op->in[1].value;
  while (index->def != NULL && index->def->code == OP_CAST) {
    const ir_value_t *from = index->def->in[0].value;
    if (!rule_cast_holds(from->type.dtype, index->type.dtype)) return NULL;
    index = from;
  }
  const ir_op_t *transpose = index->def;
  if (transpose == NULL || transpose->code != OP_TRANSPOSE) return NULL;
  unsigned n;
  const int64_t *perm = ir_get_ints(transpose, ATTR_TRANSPOSE_perm, &n);
  return n == 2 && perm[0] == 1 ? rule_def(transpose, 0, OP_NONZERO) : NULL;
}

/* Dimension d of the expanded mask only copies, and has elements. */
static bool is_copied(const ir_type_t *from, const ir_type_t *to, unsigned d) {
  unsigned shift = to->rank - from->rank;
  int64_t least;
  return (d < shift || rule_is_one(from->dim[d - shift])) &&
         expr_lower_bound(to->dim[d], &least) && least > 0;
}

static bool picks_rows(const ir_op_t *op, picked_t *out) {
  const ir_op_t *places = places_of(op);
  const ir_op_t *expand =
      places != NULL ? rule_def(places, 0, OP_EXPAND) : NULL;
  if (expand == NULL) return false;
  const ir_type_t *from = &expand->in[0].value->type,
                  *to = &expand->out[0].type;
  const ir_type_t *x = &op->in[0].value->type;
  if (x->rank < to->rank) return false;
  unsigned kept = to->rank;
  const expr_t *copies = expr_const(op->module->exprs, 1);
  for (; kept > 1 && is_copied(from, to, kept - 1); kept--) {
    if (to->dim[kept - 1] != x->dim[kept - 1]) break;
    copies = expr_mul(op->module->exprs, copies, to->dim[kept - 1]);
  }
  *out = (picked_t){.mask = expand->in[0].value,
                    .rank = to->rank,
                    .kept = kept,
                    .dim = to->dim};
  out->rows = expr_divide_exactly(
      op->module->exprs, ir_get_expr(places, ATTR_NONZERO_count), copies);
  return kept < to->rank && out->rows != NULL;
}

/* The places in the kept dimensions, a tuple for each row. */
static ir_value_t *row_places(const picked_t *picked, dtype_t dtype,
                              ir_builder_t *b) {
  static const int64_t turned[] = {1, 0};
  const ir_type_t *from = &picked->mask->type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < picked->kept; d++) {
    unsigned shift = picked->rank - from->rank;
    dim[d] = d < shift ? expr_const(b->module->exprs, 1) : from->dim[d - shift];
  }
  ir_value_t *mask = ir_reshape(b, picked->mask, picked->kept, dim);
  mask = ir_expand(b, mask, picked->kept, picked->dim);
  ir_op_t *places = ir_begin(b, OP_NONZERO, 1, &mask, 1);
  if (places == NULL) return NULL;
  ir_set_expr(places, ATTR_NONZERO_count, picked->rows);
  ir_value_t *tuples = ir_transpose(b, ir_place(b, places), turned);
  return ir_cast(b, tuples, dtype);
}

bool match_scatter_nd_of_mask_rows(const ir_op_t *op) {
  picked_t picked;
  return picks_rows(op, &picked);
}

ir_value_t *apply_scatter_nd_of_mask_rows(ir_op_t *op, ir_builder_t *b) {
  picked_t picked;
  const expr_t *dim[IR_MAX_RANK];
  const ir_type_t *x = &op->in[0].value->type;
  bool found = picks_rows(op, &picked);
  MOEC_ASSERT(found);
  unsigned n = 0;
  dim[n++] = picked.rows;
  for (unsigned d = picked.kept; d < x->rank; d++) dim[n++] = x->dim[d];
  ir_value_t *index = row_places(&picked, op->in[1].value->type.dtype, b);
  ir_value_t *rows = ir_reshape(b, op->in[2].value, n, dim);
  ir_value_t *in[3] = {op->in[0].value, index, rows};
  ir_op_t *scatter = ir_begin(b, OP_SCATTER_ND, 3, in, 1);
  if (scatter == NULL) return NULL;
  const char *reduction = ir_get_str(op, ATTR_SCATTER_ND_reduction);
  if (reduction != NULL)
    ir_set_str(scatter, ATTR_SCATTER_ND_reduction, reduction);
  return ir_place(b, scatter);
}

bool match_gather_nd_of_mask_rows(const ir_op_t *op) {
  picked_t picked;
  return ir_get_int(op, ATTR_GATHER_ND_batch_dims) == 0 &&
         picks_rows(op, &picked);
}

ir_value_t *apply_gather_nd_of_mask_rows(ir_op_t *op, ir_builder_t *b) {
  picked_t picked;
  bool found = picks_rows(op, &picked);
  MOEC_ASSERT(found);
  ir_value_t *index = row_places(&picked, op->in[1].value->type.dtype, b);
  ir_value_t *in[2] = {op->in[0].value, index};
  ir_op_t *gather = ir_begin(b, OP_GATHER_ND, 2, in, 1);
  if (gather == NULL) return NULL;
  ir_set_int(gather, ATTR_GATHER_ND_batch_dims, 0);
  const ir_type_t *to = &op->out[0].type;
  return ir_reshape(b, ir_place(b, gather), to->rank, to->dim);
}
