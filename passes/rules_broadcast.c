/* Rules that keep elementwise operations from working on copies: operands are
 * broadcast where they are used, and as late as possible. */
#include "passes/rules.h"

/* ---- Operands that need not be copied out -------------------------------- */

static bool is_copied(const ir_value_t *value) {
  return value->def != NULL && value->def->code == OP_EXPAND;
}

/* The value behind an expansion, or behind a reshape that adds leading ones
 * only; NULL where there is neither. */
static ir_value_t *uncopied(const ir_value_t *value) {
  const ir_op_t *def = value->def;
  if (def == NULL) return NULL;
  ir_value_t *x = def->n_in > 0 ? def->in[0].value : NULL;
  if (def->code == OP_EXPAND) return x;
  if (def->code != OP_RESHAPE) return NULL;
  return rule_adds_leading_ones(&x->type, &value->type) ? x : NULL;
}

/* Dimension d of a result of this rank in an operand; NULL: not there. */
static const expr_t *dim_at(const ir_type_t *x, unsigned rank, unsigned d) {
  return d < rank - x->rank ? NULL : x->dim[d - (rank - x->rank)];
}

/* Whether operands of these types broadcast to dimensions [0, n) of `to`
 * without a doubt: each dimension is that of the result or 1, and some operand
 * has it. */
static bool give_dims(unsigned n_types, const ir_type_t *const *types,
                      const ir_type_t *to, unsigned n) {
  for (unsigned i = 0; i < n_types; i++)
    if (types[i]->rank > to->rank) return false;
  for (unsigned d = 0; d < n; d++) {
    bool given = false;
    for (unsigned i = 0; i < n_types; i++) {
      const expr_t *dim = dim_at(types[i], to->rank, d);
      if (dim == NULL) continue;
      if (dim != to->dim[d] && !rule_is_one(dim)) return false;
      given |= dim == to->dim[d];
    }
    if (!given) return false;
  }
  return true;
}

enum { MAX_OPERANDS = 3 };

/* Whether the result keeps its type with operand `index` replaced by one of
 * type x. */
static bool keeps_result(const ir_op_t *op, unsigned index,
                         const ir_type_t *x) {
  const ir_type_t *types[MAX_OPERANDS];
  if (op->n_in > MAX_OPERANDS) return false;
  for (unsigned i = 0; i < op->n_in; i++)
    types[i] = i == index ? x : &op->in[i].value->type;
  const ir_type_t *to = &op->out[0].type;
  return give_dims(op->n_in, types, to, to->rank);
}

/* The first operand that may be replaced by what it copies, or n_in. */
static unsigned find_copied(const ir_op_t *op) {
  unsigned i = 0;
  for (; i < op->n_in; i++) {
    const ir_value_t *x = uncopied(op->in[i].value);
    if (x != NULL && keeps_result(op, i, &x->type)) break;
  }
  return i;
}

bool match_broadcast_operand(const ir_op_t *op) {
  return op->n_in > 1 && find_copied(op) < op->n_in;
}

ir_value_t *apply_broadcast_operand(ir_op_t *op, ir_builder_t *b) {
  unsigned i = find_copied(op);
  (void)b;
  ir_set_operand(op, i, uncopied(op->in[i].value));
  return &op->out[0];
}

/* ---- Constants with leading dimensions of 1 ------------------------------ */

/* The type without them. */
static ir_type_t stripped(const ir_type_t *type) {
  unsigned n = 0;
  while (n < type->rank && rule_is_one(type->dim[n])) n++;
  return ir_tensor_type(type->dtype, type->rank - n,
                        type->rank > n ? type->dim + n : NULL);
}

static unsigned find_constant(const ir_op_t *op) {
  unsigned i = 0;
  for (; i < op->n_in; i++) {
    const ir_op_t *def = rule_def(op, i, OP_CONSTANT);
    if (def == NULL || def->out[0].type.rank == 0) continue;
    if (!rule_is_one(def->out[0].type.dim[0])) continue;
    ir_type_t type = stripped(&def->out[0].type);
    if (keeps_result(op, i, &type)) break;
  }
  return i;
}

bool match_broadcast_constant(const ir_op_t *op) {
  return find_constant(op) < op->n_in;
}

ir_value_t *apply_broadcast_constant(ir_op_t *op, ir_builder_t *b) {
  unsigned i = find_constant(op);
  const ir_op_t *def = op->in[i].value->def;
  ir_type_t type = stripped(&def->out[0].type);
  ir_set_operand(op, i, rule_reshape_constant(b, def, type.rank, type.dim));
  return &op->out[0];
}

/* Which of two zeros of different signs is the larger one depends on the order
 * of operands. */
static bool compares_zero(const ir_op_t *op) {
  double c;
  if (op->code != OP_MIN && op->code != OP_MAX) return false;
  if (!dtype_is_float(op->out[0].type.dtype)) return false;
  return !rule_splat_float(op->in[0].value, &c) || c == 0;
}

bool match_constant_to_right(const ir_op_t *op) {
  return ir_has_trait(op, COMMUTATIVE) && op->n_in == 2 &&
         rule_is_constant(op->in[0].value) &&
         !rule_is_constant(op->in[1].value) && !compares_zero(op);
}

ir_value_t *apply_constant_to_right(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value, *y = op->in[1].value;
  (void)b;
  ir_set_operand(op, 0, y);
  ir_set_operand(op, 1, x);
  return &op->out[0];
}

/* ---- Expanding results instead of operands ------------------------------- */

/* Operand `index` before it was expanded. */
static ir_value_t *small_operand(const ir_op_t *op, unsigned index) {
  ir_value_t *x = op->in[index].value;
  return is_copied(x) ? x->def->in[0].value : x;
}

/* All dimensions of the small operands are those of the result or 1, and the
 * result's are not all needed. */
bool match_broadcast_later(const ir_op_t *op) {
  const ir_type_t *to = &op->out[0].type, *types[MAX_OPERANDS];
  bool some = false;
  if (op->n_in > MAX_OPERANDS) return false;
  for (unsigned i = 0; i < op->n_in; i++) {
    types[i] = &small_operand(op, i)->type;
    some |= is_copied(op->in[i].value);
    for (unsigned d = 0; d < types[i]->rank; d++) {
      const expr_t *dim = types[i]->dim[d];
      if (!rule_is_one(dim) && dim != to->dim[to->rank - types[i]->rank + d])
        return false;
    }
  }
  return some && !give_dims(op->n_in, types, to, to->rank);
}

ir_value_t *apply_broadcast_later(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  ir_op_t *small = ir_clone(b->module, op, NULL, NULL);
  small->out[0].name = NULL;
  for (unsigned i = 0; i < op->n_in; i++)
    ir_set_operand(small, i, small_operand(op, i));
  return ir_expand(b, ir_place(b, small), to->rank, to->dim);
}

/* ---- Products of copies -------------------------------------------------- */

/* Replacing operand `index` by x keeps the matrices and the batch. */
static bool keeps_product(const ir_op_t *op, unsigned index,
                          const ir_value_t *x) {
  const ir_value_t *old = op->in[index].value;
  const ir_value_t *other = op->in[1 - index].value;
  unsigned rank = x->type.rank, old_rank = old->type.rank;
  if (rank < 2) return false;
  for (unsigned d = 1; d <= 2; d++)
    if (x->type.dim[rank - d] != old->type.dim[old_rank - d]) return false;
  const ir_type_t *types[] = {&x->type, &other->type};
  const ir_type_t *to = &op->out[0].type;
  return give_dims(2, types, to, to->rank - 2);
}

static unsigned find_copied_matrix(const ir_op_t *op) {
  unsigned i = 0;
  for (; i < 2; i++) {
    const ir_value_t *x = uncopied(op->in[i].value);
    if (x != NULL && keeps_product(op, i, x)) break;
  }
  return i;
}

bool match_matmul_of_expand(const ir_op_t *op) {
  return find_copied_matrix(op) < 2;
}

ir_value_t *apply_matmul_of_expand(ir_op_t *op, ir_builder_t *b) {
  unsigned i = find_copied_matrix(op);
  (void)b;
  ir_set_operand(op, i, uncopied(op->in[i].value));
  return &op->out[0];
}
