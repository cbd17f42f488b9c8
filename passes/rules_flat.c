/* Rules for numbers that count rows of all groups: group * n + number. Where
 * the number is below n whatever the input is, it is one within the group. */
#include "ir/element.h"
#include "passes/moe_integers.h"
#include "passes/rules.h"

/* Numbers a * n + within, by groups a = 0, 1, .. along the first dimension. */
typedef struct flat {
  ir_value_t *within; /* i64[groups, ..] in [0, n) */
  const expr_t *groups, *n;
} flat_t;

/* The same of a constant that has one number for each group. */
static int64_t step_of_constant(const ir_op_t *op) {
  enum { MAX_COUNT = 1 << 16 };
  const ir_type_t *type = &op->out[0].type;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  int64_t count, groups;
  if (data->bytes == NULL || type->dtype != DT_I64 ||
      ir_has_attr(op, ATTR_CONSTANT_data_dtype) ||
      !ir_type_static_count(type, &count) || count < 2 || count > MAX_COUNT ||
      !expr_is_const(type->dim[0], &groups) || groups != count)
    return 0;
  int64_t n = ir_element_int(DT_I64, data->bytes, 1);
  for (int64_t i = 0; i < count; i++)
    if (n < 2 || ir_element_int(DT_I64, data->bytes, (uint64_t)i) / n != i ||
        ir_element_int(DT_I64, data->bytes, (uint64_t)i) % n != 0)
      return 0;
  return n;
}

/* 0, n, 2n, .. along the first dimension of [groups, ..]; 0: something else. */
static int64_t step_of(const ir_value_t *value, const ir_type_t *type) {
  const ir_op_t *op = value->def;
  int64_t n;
  if (op != NULL && op->code == OP_CONSTANT && value->type.rank == type->rank &&
      value->type.dim[0] == type->dim[0])
    return step_of_constant(op);
  if (op == NULL || op->code != OP_MUL || value->type.rank != type->rank ||
      value->type.dim[0] != type->dim[0])
    return 0;
  for (unsigned i = 0; i < 2; i++)
    if (rule_splat_int(op->in[i].value, &n) && n >= 2 &&
        rule_has_one_element(&op->in[i].value->type) &&
        op->in[1 - i].value->type.rank == type->rank &&
        rule_counts_along(op->in[1 - i].value, 0))
      return n;
  return 0;
}

/* The numbers of an index of `size` rows, perhaps behind a reshape. */
static bool find_flat(const ir_value_t *index, const expr_t *size,
                      flat_t *out) {
  if (index->def != NULL && index->def->code == OP_RESHAPE)
    index = index->def->in[0].value;
  const ir_op_t *op = index->def;
  if (op == NULL || op->code != OP_ADD || index->type.rank == 0 ||
      index->type.dtype != DT_I64)
    return false;
  expr_pool_t *pool = op->module->exprs;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *within = op->in[i].value;
    int64_t n = step_of(op->in[1 - i].value, &index->type);
    if (n == 0 || !rule_same_dims(&within->type, &index->type) ||
        !moe_integers_below(within, n))
      continue;
    *out = (flat_t){within, index->type.dim[0], expr_const(pool, n)};
    return size == expr_mul(pool, out->groups, out->n);
  }
  return false;
}

/* The first dimension as groups of rows. */
static ir_value_t *in_groups(ir_builder_t *b, ir_value_t *x,
                             const flat_t *flat) {
  const expr_t *dim[IR_MAX_RANK + 1] = {flat->groups, flat->n};
  for (unsigned d = 1; d < x->type.rank; d++) dim[d + 1] = x->type.dim[d];
  return ir_reshape(b, x, x->type.rank + 1, dim);
}

bool match_gather_flat(const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type;
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  flat_t flat;
  return x->rank > 0 && x->rank < IR_MAX_RANK &&
         (axis == 0 || axis == -(int64_t)x->rank) &&
         find_flat(op->in[1].value, x->dim[0], &flat) &&
         flat.within->type.rank + x->rank <= IR_MAX_RANK;
}

ir_value_t *apply_gather_flat(ir_op_t *op, ir_builder_t *b) {
  flat_t flat;
  if (!find_flat(op->in[1].value, op->in[0].value->type.dim[0], &flat))
    return NULL;
  ir_value_t *in[2];
  in[0] = in_groups(b, op->in[0].value, &flat);
  in[1] = ir_unsqueeze(b, flat.within, flat.within->type.rank);
  ir_op_t *gather = ir_begin(b, OP_GATHER_ND, 2, in, 1);
  if (gather == NULL) return NULL;
  ir_set_int(gather, ATTR_GATHER_ND_batch_dims, 1);
  ir_value_t *y = ir_place(b, gather);
  const ir_type_t *type = &op->out[0].type;
  return y != NULL ? ir_reshape(b, y, type->rank, type->dim) : NULL;
}

bool match_scatter_flat(const ir_op_t *op) {
  const ir_type_t *x = &op->in[0].value->type;
  flat_t flat;
  return x->rank == 1 && op->in[1].value->type.rank == 1 &&
         find_flat(op->in[1].value, x->dim[0], &flat) &&
         flat.within->type.rank == 2;
}

ir_value_t *apply_scatter_flat(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *type = &op->out[0].type;
  flat_t flat;
  if (!find_flat(op->in[1].value, type->dim[0], &flat)) return NULL;
  ir_value_t *in[3];
  in[0] = in_groups(b, op->in[0].value, &flat);
  in[1] = flat.within;
  in[2] = ir_reshape(b, op->in[2].value, 2, flat.within->type.dim);
  ir_op_t *scatter = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (scatter == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++)
    ir_copy_attr(scatter, &op->attrs[i]);
  ir_set_int(scatter, ATTR_SCATTER_ELEMENTS_axis, 1);
  ir_value_t *y = ir_place(b, scatter);
  return y != NULL ? ir_reshape(b, y, type->rank, type->dim) : NULL;
}
