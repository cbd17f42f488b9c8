/* Rules for gathers and scatters at all places of a mask, which are distinct.
 */
#include "ir/element.h"
#include "passes/rules.h"

/* The nonzero whose places an index has, as tuples or as numbers. */
static const ir_op_t *places_of(const ir_value_t *index) {
  enum { MAX_STEPS = 8 };
  for (unsigned i = 0; index->def != NULL && i < MAX_STEPS; i++) {
    const ir_op_t *op = index->def;
    if (op->code == OP_NONZERO) return op;
    if (op->code != OP_RESHAPE && op->code != OP_TRANSPOSE) return NULL;
    index = op->in[0].value;
  }
  return NULL;
}

/* Its last dimension copies: elements are whole rows (rules_mask.c). */
static bool ends_in_copies(const ir_value_t *mask) {
  const ir_op_t *op = mask->def;
  if (op == NULL || op->code != OP_EXPAND || mask->type.rank == 0) return false;
  const ir_type_t *from = &op->in[0].value->type;
  return from->rank == 0 || rule_is_one(from->dim[from->rank - 1]);
}

/* The nonzero of which a column has this coordinate. */
static const ir_op_t *coordinate_of(const ir_value_t *column, unsigned d) {
  const ir_op_t *op = column->def;
  while (op != NULL && op->code == OP_RESHAPE) op = op->in[0].value->def;
  if (op == NULL || op->code != OP_SLICE) return NULL;
  const ir_op_t *places = op->in[0].value->def;
  unsigned n;
  if (places == NULL || places->code != OP_NONZERO || !rule_slices_all(op, 1) ||
      !rule_is_one(op->out[0].type.dim[0]) ||
      !expr_equals_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[0], d))
    return NULL;
  return places;
}

/* All coordinates of a mask's places, side by side. */
static const ir_op_t *joined_coordinates(const ir_op_t *concat) {
  const ir_op_t *places = NULL;
  if (ir_get_int(concat, ATTR_CONCAT_axis) != 1 ||
      concat->out[0].type.rank != 2)
    return NULL;
  for (unsigned i = 0; i < concat->n_in; i++) {
    const ir_value_t *column = concat->in[i].value;
    const ir_op_t *of = coordinate_of(column, i);
    if (of == NULL || (i > 0 && of != places) ||
        !rule_is_one(column->type.dim[1]))
      return NULL;
    places = of;
  }
  return places != NULL && places->in[0].value->type.rank == concat->n_in
             ? places
             : NULL;
}

/* Tuples that are the places of a mask over the first dimensions of x, of which
 * there are several. */
static const ir_op_t *tuples_of(const ir_value_t *index, const ir_type_t *x) {
  const ir_op_t *tuples = index->def, *places = NULL;
  if (tuples != NULL && tuples->code == OP_CONCAT)
    places = joined_coordinates(tuples);
  else if (tuples != NULL && tuples->code == OP_TRANSPOSE)
    places = tuples->in[0].value->def;
  if (places == NULL || places->code != OP_NONZERO) return NULL;
  const ir_type_t *mask = &places->in[0].value->type;
  if (mask->rank < 2 || mask->rank > x->rank ||
      ends_in_copies(places->in[0].value))
    return NULL;
  for (unsigned d = 0; d < mask->rank; d++)
    if (mask->dim[d] != x->dim[d]) return NULL;
  return places;
}

/* x with the mask's dimensions as one. */
static ir_value_t *flat(ir_builder_t *b, ir_value_t *x, unsigned n) {
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = 0;
  dim[rank++] = expr_product(b->module->exprs, x->type.dim, n);
  for (unsigned d = n; d < x->type.rank; d++) dim[rank++] = x->type.dim[d];
  return ir_reshape(b, x, rank, dim);
}

/* i64[1, n]: the places of the mask as numbers. */
static ir_value_t *flat_places(ir_builder_t *b, const ir_op_t *places) {
  ir_value_t *mask = places->in[0].value;
  mask = flat(b, mask, mask->type.rank);
  ir_op_t *op = ir_begin(b, OP_NONZERO, 1, &mask, 1);
  if (op == NULL) return NULL;
  ir_set_expr(op, ATTR_NONZERO_count, ir_get_expr(places, ATTR_NONZERO_count));
  return ir_place(b, op);
}

bool match_gather_nd_at_places(const ir_op_t *op) {
  return ir_get_int(op, ATTR_GATHER_ND_batch_dims) == 0 &&
         tuples_of(op->in[1].value, &op->in[0].value->type) != NULL;
}

ir_value_t *apply_gather_nd_at_places(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value;
  const ir_op_t *places = tuples_of(op->in[1].value, &x->type);
  x = flat(b, x, places->in[0].value->type.rank);
  ir_value_t *index = flat_places(b, places);
  if (index == NULL) return NULL;
  return ir_gather(b, x, ir_squeeze(b, index, 0), 0);
}

bool match_scatter_nd_at_places(const ir_op_t *op) {
  return tuples_of(op->in[1].value, &op->in[0].value->type) != NULL;
}

ir_value_t *apply_scatter_nd_at_places(ir_op_t *op, ir_builder_t *b) {
  ir_value_t *x = op->in[0].value;
  const ir_op_t *places = tuples_of(op->in[1].value, &x->type);
  ir_value_t *into = flat(b, x, places->in[0].value->type.rank);
  ir_value_t *index = flat_places(b, places);
  if (index == NULL) return NULL;
  const expr_t *dim[2] = {index->type.dim[1], index->type.dim[0]};
  ir_value_t *in[3] = {into, ir_reshape(b, index, 2, dim), op->in[2].value};
  ir_op_t *scatter = ir_begin(b, OP_SCATTER_ND, 3, in, 1);
  if (scatter == NULL) return NULL;
  ir_set_str(scatter, ATTR_SCATTER_ND_reduction,
             ir_get_str(op, ATTR_SCATTER_ND_reduction));
  return ir_reshape(b, ir_place(b, scatter), x->type.rank, x->type.dim);
}

/* ---- x[mask] = x[mask] + y ----------------------------------------------- */

/* Whether a value is what is at these places before they are written. */
static bool is_before(const ir_op_t *scatter, const ir_value_t *value) {
  const ir_op_t *op = value->def;
  const ir_op_t *places = places_of(scatter->in[1].value);
  if (op == NULL || places == NULL) return false;
  bool rows = op->code == OP_GATHER && ir_get_int(op, ATTR_GATHER_axis) == 0 &&
              places->in[0].value->type.rank == 1;
  bool tuples = op->code == OP_GATHER_ND &&
                ir_get_int(op, ATTR_GATHER_ND_batch_dims) == 0 &&
                op->in[1].value == scatter->in[1].value;
  return (rows || tuples) && op->in[0].value == scatter->in[0].value &&
         places_of(op->in[1].value) == places;
}

static int added_operand(const ir_op_t *op) {
  const ir_op_t *add = op->in[2].value->def;
  if (!rule_scatters_by(op, "none") || add == NULL || add->code != OP_ADD)
    return -1;
  for (unsigned i = 0; i < 2; i++)
    if (is_before(op, add->in[i].value) &&
        rule_same_dims(&add->in[1 - i].value->type, &add->out[0].type))
      return 1 - (int)i;
  return -1;
}

bool match_scatter_nd_of_sum(const ir_op_t *op) {
  return added_operand(op) >= 0;
}

ir_value_t *apply_scatter_nd_of_sum(ir_op_t *op, ir_builder_t *b) {
  unsigned added = (unsigned)added_operand(op);
  ir_value_t *in[3] = {op->in[0].value, op->in[1].value,
                       op->in[2].value->def->in[added].value};
  ir_op_t *scatter = ir_begin(b, OP_SCATTER_ND, 3, in, 1);
  if (scatter == NULL) return NULL;
  ir_set_str(scatter, ATTR_SCATTER_ND_reduction, "add");
  return ir_place(b, scatter);
}

/* ---- Scatters one after the other ------------------------------------------
 */

/* Updates are written in ascending order, so that those of the second scatter
 * may stand behind those of the first one along the axis. */
bool match_scatter_of_scatter(const ir_op_t *op) {
  const ir_op_t *first = op->in[0].value->def;
  const ir_type_t *i = &first->in[1].value->type, *j = &op->in[1].value->type;
  int64_t axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  bool add = rule_scatters_by(op, "add");
  if (first->out[0].uses->next != NULL || axis < 0 ||
      ir_get_int(first, ATTR_SCATTER_ELEMENTS_axis) != axis ||
      (!add && !rule_scatters_by(op, "none")) ||
      rule_scatters_by(first, "add") != add ||
      (!add && !rule_scatters_by(first, "none")) || i->dtype != j->dtype ||
      !expr_is_const(op->out[0].type.dim[axis], NULL) ||
      !expr_is_const(i->dim[axis], NULL) || !expr_is_const(j->dim[axis], NULL))
    return false;
  for (unsigned d = 0; d < i->rank; d++)
    if (d != axis && i->dim[d] != j->dim[d]) return false;
  return true;
}

ir_value_t *apply_scatter_of_scatter(ir_op_t *op, ir_builder_t *b) {
  const ir_op_t *first = op->in[0].value->def;
  unsigned axis = (unsigned)ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  ir_value_t *index[] = {first->in[1].value, op->in[1].value};
  ir_value_t *updates[] = {first->in[2].value, op->in[2].value};
  ir_value_t *in[] = {first->in[0].value, ir_concat(b, 2, index, axis), NULL};
  in[2] = ir_concat(b, 2, updates, axis);
  ir_op_t *scatter = ir_begin(b, OP_SCATTER_ELEMENTS, 3, in, 1);
  if (scatter == NULL) return NULL;
  for (unsigned a = 0; a < op->n_attrs; a++)
    ir_copy_attr(scatter, &op->attrs[a]);
  return ir_place(b, scatter);
}

/* ---- Masks that are checked to be true everywhere -------------------------
 */

/* Whether the run has ended before `at` unless a size is n. */
static bool is_checked(const ir_op_t *from, const ir_op_t *at,
                       const expr_t *size, const expr_t *n) {
  enum { MAX_STEPS = 64 };
  for (unsigned i = 0; i < MAX_STEPS && from != NULL && from != at;
       i++, from = from->next) {
    if (from->code != OP_CHECK_EQUAL) continue;
    const expr_t *a = ir_get_expr(from, ATTR_CHECK_EQUAL_a);
    const expr_t *b = ir_get_expr(from, ATTR_CHECK_EQUAL_b);
    if ((a == size && b == n) || (a == n && b == size)) {
      while (from != NULL && from != at) from = from->next;
      return from == at;
    }
  }
  return false;
}

/* Experts that any token has chosen, say, split into as many as there are. */
bool match_slice_of_all_places(const ir_op_t *op) {
  const ir_op_t *places = places_of(op->in[0].value);
  int64_t start, count;
  if (places == NULL) return false;
  const ir_type_t *mask = &places->in[0].value->type;
  if (mask->rank != 1 || !expr_is_const(mask->dim[0], NULL) ||
      !ir_type_static_count(&op->out[0].type, &count) || count != 1)
    return false;
  const ir_type_t *from = &op->in[0].value->type;
  const expr_t *size = ir_get_expr(places, ATTR_NONZERO_count);
  for (unsigned d = 0; d < from->rank; d++) {
    unsigned n;
    if (rule_is_one(from->dim[d])) continue;
    if (from->dim[d] != size ||
        !expr_is_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[d], &start))
      return false;
  }
  return is_checked(places, op, size, mask->dim[0]);
}

ir_value_t *apply_slice_of_all_places(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *from = &op->in[0].value->type, *to = &op->out[0].type;
  int64_t start = 0;
  unsigned n;
  for (unsigned d = 0; d < from->rank; d++)
    if (!rule_is_one(from->dim[d]))
      expr_is_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[d], &start);
  return ir_reshape(b, ir_scalar_int(b, DT_I64, start), to->rank, to->dim);
}

/* ---- Rows added in turn -------------------------------------------------- */

/* Whether a list is 0, 0, .. 1, 1, ..: each of n numbers k times. */
static bool repeats(const ir_value_t *list, const expr_t *n, const expr_t *k) {
  enum { MAX_STEPS = 8 };
  int64_t by, times;
  for (unsigned i = 0; list->def != NULL && i < MAX_STEPS; i++) {
    const ir_op_t *op = list->def;
    const ir_type_t *type = &list->type;
    if (op->code == OP_DIV)
      return rule_splat_int(op->in[1].value, &by) && expr_is_const(k, &times) &&
             by == times && by > 0 && op->in[0].value->type.rank == 1 &&
             rule_counts_along(op->in[0].value, 0);
    if (type->rank >= 2 && type->dim[0] == n && type->dim[1] == k &&
        rule_counts_along(list, 0)) {
      for (unsigned d = 2; d < type->rank; d++)
        if (!rule_is_one(type->dim[d])) return false;
      return true;
    }
    if (op->code != OP_RESHAPE && op->code != OP_CAST) return false;
    list = op->in[0].value;
  }
  return false;
}

static const expr_t *times_of(const ir_op_t *op) {
  const ir_type_t *to = &op->out[0].type, *index = &op->in[1].value->type;
  if (to->rank == 0 || index->rank != 2 || !rule_is_one(index->dim[1]) ||
      to->rank == IR_MAX_RANK)
    return NULL;
  const expr_t *k =
      expr_divide_exactly(op->module->exprs, index->dim[0], to->dim[0]);
  int64_t n;
  return k != NULL && expr_is_const(k, &n) && n > 0 ? k : NULL;
}

bool match_scatter_nd_of_runs(const ir_op_t *op) {
  const expr_t *k = times_of(op);
  double zero;
  return k != NULL && rule_scatters_by(op, "add") &&
         rule_splat_float(op->in[0].value, &zero) && zero == 0 &&
         repeats(op->in[1].value, op->out[0].type.dim[0], k);
}

ir_value_t *apply_scatter_nd_of_runs(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  const expr_t *dim[IR_MAX_RANK];
  int64_t axis = 1;
  dim[0] = to->dim[0];
  dim[1] = times_of(op);
  for (unsigned d = 1; d < to->rank; d++) dim[d + 1] = to->dim[d];
  ir_value_t *rows = ir_reshape(b, op->in[2].value, to->rank + 1, dim);
  return ir_reduce(b, OP_REDUCE_SUM, rows, 1, &axis, false);
}

/* ---- True everywhere ----------------------------------------------------- */

/* A bool constant without false. */
static bool is_true(const ir_value_t *mask) {
  enum { MOST = 1 << 20 };
  int64_t whole, count;
  if (rule_splat_int(mask, &whole)) return whole != 0;
  const ir_op_t *op = mask->def;
  if (op == NULL || op->code != OP_CONSTANT || mask->type.dtype != DT_BOOL ||
      !ir_type_static_count(&mask->type, &count) || count > MOST)
    return false;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  for (int64_t i = 0; i < count; i++)
    if (data->bytes == NULL ||
        ir_element_int(DT_BOOL, data->bytes, (uint64_t)i) == 0)
      return false;
  return true;
}

bool match_places_of_true(const ir_op_t *op) {
  const ir_value_t *mask = op->in[0].value;
  return mask->type.rank == 1 && op->out[0].type.dim[1] == mask->type.dim[0] &&
         is_true(mask);
}

ir_value_t *apply_places_of_true(ir_op_t *op, ir_builder_t *b) {
  const ir_type_t *to = &op->out[0].type;
  ir_value_t *all = ir_iota(b, to->dtype, to->dim[1]);
  return ir_reshape(b, all, to->rank, to->dim);
}
