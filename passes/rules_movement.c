/* Rules for operations that move elements by position. */
#include <string.h>

#include "passes/rules.h"

static ir_value_t *operand(const ir_op_t *op, unsigned index) {
  return op->in[index].value;
}

/* The operand of what defines operand 0. */
static ir_value_t *inner_operand(const ir_op_t *op) {
  return op->in[0].value->def->in[0].value;
}

static bool keeps_type(const ir_op_t *op) {
  return ir_type_equal(&op->in[0].value->type, &op->out[0].type);
}

/* ---- Fills: one element everywhere --------------------------------------- */

static bool is_fill(const ir_op_t *op) {
  return rule_has_one_element(&inner_operand(op)->type);
}

static ir_value_t *refill(const ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  ir_value_t *x = inner_operand(op);
  if (x->type.rank > to->rank) x = ir_reshape(b, x, 0, NULL);
  return ir_expand(b, x, to->rank, to->dim);
}

bool match_reshape_of_fill(const ir_op_t *op) { return is_fill(op); }

ir_value_t *apply_reshape_of_fill(ir_op_t *op, ir_builder_t *b) {
  return refill(op, b);
}

/* ---- transpose ----------------------------------------------------------- */

bool match_transpose_identity(const ir_op_t *op) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  for (unsigned i = 0; i < n; i++)
    if (perm[i] != i) return false;
  return true;
}

ir_value_t *apply_transpose_identity(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return operand(op, 0);
}

bool match_transpose_of_transpose(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_transpose_of_transpose(ir_op_t *outer, ir_builder_t *b) {
  const ir_op_t *inner = outer->in[0].value->def;
  unsigned n;
  const int64_t *p = ir_get_ints(inner, ATTR_TRANSPOSE_perm, &n);
  const int64_t *q = ir_get_ints(outer, ATTR_TRANSPOSE_perm, &n);
  int64_t composed[IR_MAX_RANK];
  for (unsigned i = 0; i < n; i++) composed[i] = p[q[i]];
  return ir_transpose(b, operand(inner, 0), composed);
}

/* Dimensions other than 1 keep their order. */
bool match_transpose_of_ones(const ir_op_t *op) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  int64_t last = -1;
  for (unsigned i = 0; i < n; i++) {
    if (rule_is_one(op->out[0].type.dim[i])) continue;
    if (perm[i] < last) return false;
    last = perm[i];
  }
  return true;
}

ir_value_t *apply_transpose_of_ones(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  return ir_reshape(b, operand(op, 0), to->rank, to->dim);
}

/* ---- reshape ------------------------------------------------------------- */

bool match_reshape_identity(const ir_op_t *op) { return keeps_type(op); }

ir_value_t *apply_reshape_identity(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return operand(op, 0);
}

bool match_reshape_of_reshape(const ir_op_t *op) {
  (void)op;
  return true;
}

ir_value_t *apply_reshape_of_reshape(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  return ir_reshape(b, inner_operand(op), to->rank, to->dim);
}

bool match_reshape_of_constant(const ir_op_t *op) {
  int64_t count;
  return ir_type_static_count(&op->out[0].type, &count);
}

ir_value_t *apply_reshape_of_constant(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  return rule_reshape_constant(b, op->in[0].value->def, to->rank, to->dim);
}

/* ---- expand -------------------------------------------------------------- */

bool match_expand_identity(const ir_op_t *op) { return keeps_type(op); }

ir_value_t *apply_expand_identity(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return operand(op, 0);
}

/* Each dimension of x is known to be 1 or changes in one of the steps only:
 * then the two steps together are as valid as each of them. */
bool match_expand_of_expand(const ir_op_t *op) {
  const ir_type_t *x = &inner_operand(op)->type;
  const ir_type_t *middle = &op->in[0].value->type, *to = &op->out[0].type;
  for (unsigned d = 0; d < x->rank; d++) {
    const expr_t *from = x->dim[d];
    const expr_t *by = middle->dim[middle->rank - x->rank + d];
    if (!rule_is_one(from) && from != by &&
        by != to->dim[to->rank - x->rank + d])
      return false;
  }
  return true;
}

ir_value_t *apply_expand_of_expand(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  return ir_expand(b, inner_operand(op), to->rank, to->dim);
}

bool match_expand_of_leading_ones(const ir_op_t *op) {
  return rule_adds_leading_ones(&inner_operand(op)->type,
                                &op->in[0].value->type);
}

ir_value_t *apply_expand_of_leading_ones(ir_op_t *op, ir_builder_t *b) {
  return apply_expand_of_expand(op, b);
}

bool match_expand_by_ones(const ir_op_t *op) {
  return rule_adds_leading_ones(&op->in[0].value->type, &op->out[0].type);
}

ir_value_t *apply_expand_by_ones(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  return ir_reshape(b, operand(op, 0), to->rank, to->dim);
}

/* ---- slice --------------------------------------------------------------- */

/* start, length and step of a slice, of its operand's rank. */
typedef struct range {
  const expr_t *const *start, *const *length, *const *step;
} range_t;

static range_t range_of(const ir_op_t *op) {
  unsigned n;
  range_t r = {.start = ir_get_exprs(op, ATTR_SLICE_start, &n),
               .length = ir_get_exprs(op, ATTR_SLICE_length, &n),
               .step = ir_get_exprs(op, ATTR_SLICE_step, &n)};
  return r;
}

static bool is_whole(const ir_op_t *op, unsigned d) {
  range_t r = range_of(op);
  return expr_equals_const(r.start[d], 0) && expr_equals_const(r.step[d], 1) &&
         r.length[d] == op->in[0].value->type.dim[d];
}

bool match_slice_identity(const ir_op_t *op) {
  for (unsigned d = 0; d < op->out[0].type.rank; d++)
    if (!is_whole(op, d)) return false;
  return true;
}

ir_value_t *apply_slice_identity(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return operand(op, 0);
}

/* Small enough to be multiplied with another one. */
static bool is_short(const expr_t *e) {
  enum { SHORT = 64 };
  if (e->size > SHORT) return false;
  for (unsigned i = 0; i < e->n_terms; i++)
    if (e->terms[i].coefficient > INT32_MAX ||
        e->terms[i].coefficient < INT32_MIN)
      return false;
  return true;
}

bool match_slice_of_slice(const ir_op_t *op) {
  range_t outer = range_of(op), inner = range_of(op->in[0].value->def);
  for (unsigned d = 0; d < op->out[0].type.rank; d++)
    if (!is_short(outer.start[d]) || !is_short(outer.step[d]) ||
        !is_short(inner.start[d]) || !is_short(inner.step[d]))
      return false;
  return true;
}

ir_value_t *apply_slice_of_slice(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *def = op->in[0].value->def;
  range_t outer = range_of(op), inner = range_of(def);
  expr_pool_t *pool = b->module->exprs;
  const expr_t *start[IR_MAX_RANK], *step[IR_MAX_RANK];
  unsigned rank = op->out[0].type.rank;
  for (unsigned d = 0; d < rank; d++) {
    start[d] = expr_add(pool, inner.start[d],
                        expr_mul(pool, outer.start[d], inner.step[d]));
    step[d] = expr_mul(pool, inner.step[d], outer.step[d]);
  }
  ir_value_t *x = operand(def, 0);
  ir_op_t *merged = ir_begin(b, OP_SLICE, 1, &x, 1);
  ir_set_exprs(merged, ATTR_SLICE_start, rank, start);
  ir_set_exprs(merged, ATTR_SLICE_length, rank, outer.length);
  ir_set_exprs(merged, ATTR_SLICE_step, rank, step);
  return ir_place(b, merged);
}

/* The operand of the concat that all elements of the slice are of, and where it
 * begins; -1 where that is not known to be one. */
static int part_of_concat(const ir_op_t *op, int64_t *out_begin) {
  const ir_op_t *concat = op->in[0].value->def;
  const ir_type_t *whole = &concat->out[0].type;
  range_t r = range_of(op);
  int64_t axis = ir_get_int(concat, ATTR_CONCAT_axis), start, length, size;
  if (axis < 0) axis += whole->rank;
  if (!expr_is_const(r.start[axis], &start) ||
      !expr_is_const(r.length[axis], &length) || length < 1 ||
      !expr_equals_const(r.step[axis], 1))
    return -1;
  *out_begin = 0;
  for (unsigned i = 0; i < concat->n_in; i++) {
    const ir_type_t *x = &concat->in[i].value->type;
    if (!expr_is_const(x->dim[axis], &size)) return -1;
    if (start - *out_begin < size) {
      for (unsigned d = 0; d < x->rank; d++)
        if (d != axis && x->dim[d] != whole->dim[d]) return -1;
      return length <= size - (start - *out_begin) ? (int)i : -1;
    }
    *out_begin += size;
  }
  return -1;
}

bool match_slice_of_concat(const ir_op_t *op) {
  int64_t begin;
  return part_of_concat(op, &begin) >= 0;
}

ir_value_t *apply_slice_of_concat(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *concat = op->in[0].value->def;
  range_t r = range_of(op);
  int64_t begin, axis = ir_get_int(concat, ATTR_CONCAT_axis);
  ir_value_t *x = operand(concat, (unsigned)part_of_concat(op, &begin));
  const expr_t *start[IR_MAX_RANK];
  unsigned rank = x->type.rank;
  if (axis < 0) axis += rank;
  for (unsigned d = 0; d < rank; d++) start[d] = r.start[d];
  start[axis] = expr_sub(b->module->exprs, start[axis],
                         expr_const(b->module->exprs, begin));
  ir_op_t *part = ir_begin(b, OP_SLICE, 1, &x, 1);
  if (part == NULL) return NULL;
  ir_set_exprs(part, ATTR_SLICE_start, rank, start);
  ir_set_exprs(part, ATTR_SLICE_length, rank, r.length);
  ir_set_exprs(part, ATTR_SLICE_step, rank, r.step);
  return ir_place(b, part);
}

/* ---- concat, pad --------------------------------------------------------- */

bool match_concat_single(const ir_op_t *op) {
  return op->n_in == 1 && keeps_type(op);
}

ir_value_t *apply_concat_single(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return operand(op, 0);
}

static bool is_empty_part(const ir_op_t *op, unsigned index) {
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  const ir_type_t *x = &op->in[index].value->type;
  if (axis < 0) axis += x->rank;
  return expr_equals_const(x->dim[axis], 0);
}

/* Some operand is empty and another one is not, and those that are not agree on
 * the other dimensions, which may have been known better from an empty one. */
bool match_concat_empty(const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  const ir_type_t *out = &op->out[0].type;
  bool some = false, known = false;
  if (axis < 0) axis += out->rank;
  for (unsigned i = 0; i < op->n_in; i++) {
    if (is_empty_part(op, i)) {
      some = true;
      continue;
    }
    const ir_type_t *x = &op->in[i].value->type;
    bool same = true;
    for (unsigned d = 0; d < x->rank; d++)
      same &= d == axis || x->dim[d] == out->dim[d];
    if (!same) return false;
    known = true;
  }
  return some && known;
}

ir_value_t *apply_concat_empty(ir_op_t *op, ir_builder_t *b) {
  ir_value_t **kept = ARENA_ARRAY(b->module->arena, ir_value_t *, op->n_in);
  unsigned n = 0;
  for (unsigned i = 0; i < op->n_in; i++)
    if (!is_empty_part(op, i)) kept[n++] = operand(op, i);
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis < 0) axis += op->out[0].type.rank;
  return ir_concat(b, n, kept, (unsigned)axis);
}

/* The slice's part of an attribute at dimension d. */
static const expr_t *slice_part(const ir_op_t *op, ir_attr_id_t id,
                                unsigned d) {
  unsigned n;
  return ir_get_exprs(op, id, &n)[d];
}

/* Whether slices of one tensor agree in all dimensions but the axis. */
static bool same_slices(const ir_op_t *a, const ir_op_t *b, unsigned axis) {
  for (unsigned d = 0; d < a->out[0].type.rank; d++)
    if (d != axis && (slice_part(a, ATTR_SLICE_start, d) !=
                          slice_part(b, ATTR_SLICE_start, d) ||
                      slice_part(a, ATTR_SLICE_length, d) !=
                          slice_part(b, ATTR_SLICE_length, d) ||
                      slice_part(a, ATTR_SLICE_step, d) !=
                          slice_part(b, ATTR_SLICE_step, d)))
      return false;
  return rule_is_one(slice_part(b, ATTR_SLICE_step, axis));
}

bool match_concat_of_slices(const ir_op_t *op) {
  const ir_op_t *first = op->in[0].value->def;
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis);
  if (axis < 0) axis += op->out[0].type.rank;
  const expr_t *end = slice_part(first, ATTR_SLICE_start, (unsigned)axis);
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_op_t *part = op->in[i].value->def;
    if (part == NULL || part->code != OP_SLICE ||
        part->in[0].value != first->in[0].value ||
        !same_slices(first, part, (unsigned)axis) ||
        slice_part(part, ATTR_SLICE_start, (unsigned)axis) != end)
      return false;
    end = expr_add(op->module->exprs, end,
                   slice_part(part, ATTR_SLICE_length, (unsigned)axis));
  }
  return op->n_in > 1;
}

ir_value_t *apply_concat_of_slices(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *first = op->in[0].value->def;
  const ir_type_t *to = &op->out[0].type;
  unsigned axis = (unsigned)(ir_get_int(op, ATTR_CONCAT_axis) < 0
                                 ? ir_get_int(op, ATTR_CONCAT_axis) + to->rank
                                 : ir_get_int(op, ATTR_CONCAT_axis));
  ir_value_t *x = first->in[0].value;
  ir_op_t *slice = ir_begin(b, OP_SLICE, 1, &x, 1);
  if (slice == NULL) return NULL;
  for (unsigned i = 0; i < first->n_attrs; i++)
    ir_copy_attr(slice, &first->attrs[i]);
  const expr_t *length[IR_MAX_RANK];
  for (unsigned d = 0; d < to->rank; d++)
    length[d] =
        d == axis ? to->dim[d] : slice_part(first, ATTR_SLICE_length, d);
  ir_set_exprs(slice, ATTR_SLICE_length, to->rank, length);
  return ir_place(b, slice);
}

bool match_pad_nothing(const ir_op_t *op) {
  unsigned n;
  const expr_t *const *before = ir_get_exprs(op, ATTR_PAD_before, &n);
  const expr_t *const *after = ir_get_exprs(op, ATTR_PAD_after, &n);
  for (unsigned d = 0; d < n; d++)
    if (!expr_equals_const(before[d], 0) || !expr_equals_const(after[d], 0))
      return false;
  return true;
}

ir_value_t *apply_pad_nothing(ir_op_t *op, ir_builder_t *b) {
  (void)b;
  return operand(op, 0);
}
