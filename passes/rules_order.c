/* Rules that change the order of movements: slices first, expansions last, so
 * that what is moved is small; and casts past movements where two meet. */
#include <string.h>

#include "passes/rules.h"

static ir_value_t *inner_operand(const ir_op_t *op) {
  return op->in[0].value->def->in[0].value;
}

static const int64_t *perm_of(const ir_op_t *op) {
  unsigned n;
  return ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
}

/* ---- slice of transpose -------------------------------------------------- */

bool match_slice_of_transpose(const ir_op_t *op) {
  (void)op;
  return true;
}

/* A list of the slice in the order of the transpose's operand. */
static void permute_back(const ir_op_t *op, ir_attr_id_t id,
                         const int64_t *perm, ir_op_t *to) {
  unsigned n;
  const expr_t *const *from = ir_get_exprs(op, id, &n);
  const expr_t *list[IR_MAX_RANK];
  for (unsigned d = 0; d < n; d++) list[perm[d]] = from[d];
  ir_set_exprs(to, id, n, list);
}

ir_value_t *apply_slice_of_transpose(ir_op_t *op, ir_builder_t *b) {
  const int64_t *perm = perm_of(op->in[0].value->def);
  ir_value_t *x = inner_operand(op);
  ir_op_t *slice = ir_begin(b, OP_SLICE, 1, &x, 1);
  permute_back(op, ATTR_SLICE_start, perm, slice);
  permute_back(op, ATTR_SLICE_length, perm, slice);
  permute_back(op, ATTR_SLICE_step, perm, slice);
  return ir_transpose(b, ir_place(b, slice), perm);
}

/* ---- Movements of expansions --------------------------------------------- */

/* Dimension d of the expansion's result in its operand; NULL: not there. */
static const expr_t *dim_before(const ir_op_t *expand, unsigned d) {
  const ir_type_t *x = &expand->in[0].value->type;
  unsigned shift = expand->out[0].type.rank - x->rank;
  return d < shift ? NULL : x->dim[d - shift];
}

static bool is_repeated(const ir_op_t *expand, unsigned d) {
  const expr_t *dim = dim_before(expand, d);
  return dim == NULL || rule_is_one(dim);
}

/* Each dimension is copied in full or known to be repeated. */
static bool is_certain(const ir_op_t *expand) {
  const ir_type_t *to = &expand->out[0].type;
  for (unsigned d = 0; d < to->rank; d++)
    if (!is_repeated(expand, d) && dim_before(expand, d) != to->dim[d])
      return false;
  return true;
}

bool match_transpose_of_expand(const ir_op_t *op) {
  return is_certain(op->in[0].value->def);
}

ir_value_t *apply_transpose_of_expand(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *expand = op->in[0].value->def;
  const ir_type_t *to = &op->out[0].type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < to->rank; d++) {
    const expr_t *before = dim_before(expand, d);
    dim[d] = before != NULL ? before : expr_const(b->module->exprs, 1);
  }
  ir_value_t *x = ir_reshape(b, expand->in[0].value, to->rank, dim);
  return ir_expand(b, ir_transpose(b, x, perm_of(op)), to->rank, to->dim);
}

bool match_slice_of_expand(const ir_op_t *op) {
  return is_certain(op->in[0].value->def);
}

ir_value_t *apply_slice_of_expand(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *expand = op->in[0].value->def;
  ir_value_t *x = expand->in[0].value;
  expr_pool_t *pool = b->module->exprs;
  const expr_t *start[IR_MAX_RANK], *length[IR_MAX_RANK], *step[IR_MAX_RANK];
  unsigned rank = x->type.rank, n;
  unsigned shift = op->out[0].type.rank - rank;
  for (unsigned i = 0; i < rank; i++) {
    bool whole = is_repeated(expand, i + shift);
    start[i] = whole ? expr_const(pool, 0)
                     : ir_get_exprs(op, ATTR_SLICE_start, &n)[i + shift];
    length[i] = whole ? expr_const(pool, 1)
                      : ir_get_exprs(op, ATTR_SLICE_length, &n)[i + shift];
    step[i] = whole ? expr_const(pool, 1)
                    : ir_get_exprs(op, ATTR_SLICE_step, &n)[i + shift];
  }
  ir_op_t *slice = ir_begin(b, OP_SLICE, 1, &x, 1);
  ir_set_exprs(slice, ATTR_SLICE_start, rank, start);
  ir_set_exprs(slice, ATTR_SLICE_length, rank, length);
  ir_set_exprs(slice, ATTR_SLICE_step, rank, step);
  const ir_type_t *to = &op->out[0].type;
  return ir_expand(b, ir_place(b, slice), to->rank, to->dim);
}

/* The shape of the expansion's operand seen through a reshape of its result
 * that only adds or drops ones; false where it does something else. */
static bool squeezed_dims(const ir_op_t *op, const expr_t **dim) {
  const ir_op_t *expand = op->in[0].value->def;
  const ir_type_t *from = &expand->out[0].type, *to = &op->out[0].type;
  const expr_t *one = expr_const(op->module->exprs, 1);
  unsigned i = 0, o = 0;
  for (;; i++, o++) {
    for (; i < from->rank && rule_is_one(from->dim[i]); i++)
      if (!is_repeated(expand, i)) return false;
    for (; o < to->rank && rule_is_one(to->dim[o]); o++) dim[o] = one;
    if (i == from->rank || o == to->rank)
      return i == from->rank && o == to->rank;
    if (from->dim[i] != to->dim[o]) return false;
    dim[o] = is_repeated(expand, i) ? one : dim_before(expand, i);
  }
}

bool match_reshape_of_expand(const ir_op_t *op) {
  const expr_t *dim[IR_MAX_RANK];
  return is_certain(op->in[0].value->def) && squeezed_dims(op, dim);
}

ir_value_t *apply_reshape_of_expand(ir_op_t *op, ir_builder_t *b) {
  const expr_t *dim[IR_MAX_RANK];
  const ir_type_t *to = &op->out[0].type;
  bool found = squeezed_dims(op, dim);
  MOEC_ASSERT(found);
  ir_value_t *x = ir_reshape(b, inner_operand(op), to->rank, dim);
  return ir_expand(b, x, to->rank, to->dim);
}

/* ---- Splitting dimensions before a transpose ----------------------------- */

/* Dimensions [first[i], first[i + 1]) of the reshape's result make up dimension
 * i of the transpose's; false where there is no such division. */
static bool split_groups(const ir_op_t *op, unsigned *first) {
  const ir_type_t *from = &op->in[0].value->type, *to = &op->out[0].type;
  expr_pool_t *pool = op->module->exprs;
  unsigned o = 0;
  for (unsigned i = 0; i < from->rank; i++) {
    const expr_t *product = expr_const(pool, 1);
    first[i] = o;
    while (product != from->dim[i] && o < to->rank)
      product = expr_mul(pool, product, to->dim[o++]);
    if (product != from->dim[i]) return false;
  }
  while (o < to->rank && rule_is_one(to->dim[o])) o++;
  first[from->rank] = o;
  return o == to->rank;
}

/* Only where a reshape below the transpose takes up the new one. */
bool match_reshape_of_transpose(const ir_op_t *op) {
  unsigned first[IR_MAX_RANK + 1];
  return rule_def(op->in[0].value->def, 0, OP_RESHAPE) != NULL &&
         split_groups(op, first);
}

ir_value_t *apply_reshape_of_transpose(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *transpose = op->in[0].value->def;
  const int64_t *perm = perm_of(transpose);
  const ir_type_t *to = &op->out[0].type;
  unsigned first[IR_MAX_RANK + 1], at[IR_MAX_RANK], n = 0;
  unsigned rank = transpose->out[0].type.rank;
  const expr_t *dim[IR_MAX_RANK];
  int64_t moved[IR_MAX_RANK];
  bool found = split_groups(op, first);
  MOEC_ASSERT(found);
  for (unsigned i = 0; i < rank; i++) at[perm[i]] = i;
  for (unsigned d = 0; d < rank; d++)
    for (unsigned o = first[at[d]]; o < first[at[d] + 1]; o++) {
      moved[o] = n;
      dim[n++] = to->dim[o];
    }
  ir_value_t *x = ir_reshape(b, transpose->in[0].value, n, dim);
  return ir_transpose(b, x, moved);
}

/* ---- Casts that meet ----------------------------------------------------- */

enum { MAX_MOVES = 4 };

static bool moves_only(ir_opcode_t code) {
  return code == OP_TRANSPOSE || code == OP_RESHAPE || code == OP_SLICE ||
         code == OP_EXPAND;
}

/* The cast below at most MAX_MOVES movements below op, or NULL. */
static const ir_op_t *find_cast(const ir_op_t *op, unsigned *out_moves) {
  const ir_op_t *def = op->in[0].value->def;
  unsigned n = 0;
  while (def != NULL && moves_only(def->code) && n < MAX_MOVES) {
    def = def->in[0].value->def;
    n++;
  }
  *out_moves = n;
  return n > 0 && def != NULL && def->code == OP_CAST ? def : NULL;
}

bool match_cast_of_moved_cast(const ir_op_t *op) {
  unsigned n;
  const ir_op_t *cast = find_cast(op, &n);
  return cast != NULL &&
         rule_cast_skips(cast->in[0].value->type.dtype, cast->out[0].type.dtype,
                         op->out[0].type.dtype);
}

ir_value_t *apply_cast_of_moved_cast(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *moves[MAX_MOVES], *def = op->in[0].value->def;
  unsigned n;
  const ir_op_t *cast = find_cast(op, &n);
  for (unsigned i = n; i-- > 0; def = def->in[0].value->def) moves[i] = def;
  ir_value_t *x = cast->in[0].value;
  for (unsigned i = 0; i < n; i++) {
    ir_op_t *move = ir_clone(b->module, moves[i], NULL, NULL);
    move->out[0].name = NULL;
    ir_set_operand(move, 0, x);
    x = ir_place(b, move);
  }
  if (x == NULL || x->type.dtype == op->out[0].type.dtype) return x;
  ir_op_t *outer = ir_clone(b->module, op, NULL, NULL);
  ir_set_operand(outer, 0, x);
  return ir_place(b, outer);
}
