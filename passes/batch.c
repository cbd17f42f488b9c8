/* A value of the region is either the same for all rows, and then as it was, or
 * has them along a new axis 0. Operations of one row become operations of all:
 * axes lie one further on, shapes begin with the number of rows, and what
 * broadcasts gets dimensions of 1 behind them. */
#include "passes/batch.h"

#include "passes/rules.h"

void batch_begin(batch_t *t, ir_builder_t *b, arena_t *scratch,
                 ir_region_t *region, const expr_t *n, unsigned n_values) {
  *t = (batch_t){.b = b, .scratch = scratch, .region = region, .n = n};
  t->by = ARENA_ARRAY(scratch, ir_value_t *, n_values);
  t->rowed = ARENA_ARRAY(scratch, bool, n_values);
}

static bool is_inside(const batch_t *t, const ir_value_t *value) {
  return ir_region_holds(t->region, ir_home(value));
}

void batch_set(batch_t *t, const ir_value_t *value, ir_value_t *by,
               bool rowed) {
  t->by[value->number] = by;
  t->rowed[value->number] = rowed;
}

static ir_value_t *now(void *user, ir_value_t *value) {
  const batch_t *t = user;
  if (value == NULL || !is_inside(t, value)) return value;
  return t->by[value->number];
}

static bool has_rows(const batch_t *t, const ir_value_t *value) {
  return value != NULL && is_inside(t, value) && t->rowed[value->number];
}

/* ---- Operands ------------------------------------------------------------ */

ir_value_t *batch_rows(batch_t *t, ir_value_t *value) {
  const expr_t *dim[IR_MAX_RANK] = {t->n};
  ir_value_t *x = now(t, value);
  if (x == NULL || has_rows(t, value)) return x;
  for (unsigned d = 0; d < x->type.rank; d++) dim[d + 1] = x->type.dim[d];
  return ir_expand(t->b, x, x->type.rank + 1, dim);
}

/* A value that broadcasts to some rank: dimensions of 1 behind the rows. */
static ir_value_t *aligned(batch_t *t, ir_value_t *value, unsigned rank) {
  const expr_t *dim[IR_MAX_RANK] = {t->n};
  ir_value_t *x = now(t, value);
  if (x == NULL || !has_rows(t, value) || x->type.rank == rank + 1) return x;
  unsigned own = x->type.rank - 1, shift = rank - own;
  for (unsigned d = 0; d < shift; d++)
    dim[d + 1] = expr_const(t->b->module->exprs, 1);
  for (unsigned d = 0; d < own; d++) dim[1 + shift + d] = x->type.dim[1 + d];
  return ir_reshape(t->b, x, rank + 1, dim);
}

/* Moves an axis to another place. */
static ir_value_t *moved(batch_t *t, ir_value_t *x, unsigned from,
                         unsigned to) {
  int64_t perm[IR_MAX_RANK];
  if (x == NULL || from == to) return x;
  for (unsigned d = 0, next = 0; d < x->type.rank; d++) {
    if (d == to) {
      perm[d] = from;
      continue;
    }
    if (next == from) next++;
    perm[d] = next++;
  }
  return ir_transpose(t->b, x, perm);
}

/* ---- Attributes ---------------------------------------------------------- */

static void set_axis(ir_op_t *copy, const ir_op_t *op, ir_attr_id_t id) {
  int64_t axis = ir_get_int(op, id);
  ir_set_int(copy, id, axis >= 0 ? axis + 1 : axis);
}

static void set_axes(ir_op_t *copy, const ir_op_t *op, ir_attr_id_t id,
                     bool is_perm) {
  int64_t axes[IR_MAX_RANK] = {0};
  unsigned n, first = is_perm ? 1 : 0;
  const int64_t *old = ir_get_ints(op, id, &n);
  for (unsigned i = 0; i < n; i++) axes[first + i] = old[i] + 1;
  ir_set_ints(copy, id, first + n, axes);
}

static void set_exprs(ir_op_t *copy, const ir_op_t *op, ir_attr_id_t id,
                      const expr_t *first) {
  const expr_t *list[IR_MAX_RANK] = {first};
  unsigned n;
  const expr_t *const *old = ir_get_exprs(op, id, &n);
  for (unsigned i = 0; i < n; i++) list[1 + i] = old[i];
  ir_set_exprs(copy, id, 1 + n, list);
}

static void set_attrs(const batch_t *t, ir_op_t *copy, const ir_op_t *op) {
  const expr_t *zero = expr_const(t->b->module->exprs, 0);
  const expr_t *one = expr_const(t->b->module->exprs, 1);
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(copy, &op->attrs[i]);
  switch (op->code) {
#define AXIS(code)                          \
  case OP_##code:                           \
    set_axis(copy, op, ATTR_##code##_axis); \
    break;
#define AXES(code)                                 \
  case OP_##code:                                  \
    set_axes(copy, op, ATTR_##code##_axes, false); \
    break;
    AXIS(GATHER)
    AXIS(GATHER_ELEMENTS)
    AXIS(SCATTER_ELEMENTS)
    AXIS(CONCAT)
    AXIS(ARG_MAX)
    AXIS(ARG_MIN)
    AXIS(CUM_SUM)
    AXIS(CUM_PROD)
    AXIS(SOFTMAX)
    AXIS(LOG_SOFTMAX)
    AXIS(TOPK)
    AXES(REDUCE_SUM)
    AXES(REDUCE_PROD)
    AXES(REDUCE_MAX)
    AXES(REDUCE_MIN)
#undef AXIS
#undef AXES
    case OP_TRANSPOSE:
      set_axes(copy, op, ATTR_TRANSPOSE_perm, true);
      break;
    case OP_RESHAPE:
      set_exprs(copy, op, ATTR_RESHAPE_shape, t->n);
      break;
    case OP_EXPAND:
      set_exprs(copy, op, ATTR_EXPAND_shape, t->n);
      break;
    case OP_SLICE:
      set_exprs(copy, op, ATTR_SLICE_start, zero);
      set_exprs(copy, op, ATTR_SLICE_length, t->n);
      set_exprs(copy, op, ATTR_SLICE_step, one);
      break;
    case OP_PAD:
      set_exprs(copy, op, ATTR_PAD_before, zero);
      set_exprs(copy, op, ATTR_PAD_after, zero);
      break;
    default:
      break;
  }
}

/* ---- Operations ---------------------------------------------------------- */

/* A copy with these operands, all of whose results have rows. */
static bool place(batch_t *t, const ir_op_t *op, ir_value_t *const *in) {
  ir_op_t *copy = ir_begin(t->b, op->code, op->n_in, in, op->n_out);
  if (copy == NULL) return false;
  set_attrs(t, copy, op);
  if (ir_place(t->b, copy) == NULL) return false;
  for (unsigned i = 0; i < op->n_out; i++)
    batch_set(t, &op->out[i], &copy->out[i], true);
  return true;
}

static bool give(batch_t *t, const ir_op_t *op, ir_value_t *by) {
  batch_set(t, &op->out[0], by, true);
  return by != NULL;
}

/* Operands broadcast to the rank of the result. */
static bool place_broadcast(batch_t *t, const ir_op_t *op) {
  ir_value_t **in = ARENA_ARRAY(t->scratch, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++)
    in[i] = aligned(t, ir_in(op, i), op->out[0].type.rank);
  return place(t, op, in);
}

/* The first n operands have rows, others are the same for all of them. */
static bool place_rows(batch_t *t, const ir_op_t *op, unsigned n) {
  ir_value_t **in = ARENA_ARRAY(t->scratch, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    if (i >= n && has_rows(t, ir_in(op, i))) return false;
    in[i] = i < n ? batch_rows(t, ir_in(op, i)) : now(t, ir_in(op, i));
  }
  return place(t, op, in);
}

/* Whether an index has each element of an axis once, in order. */
static bool takes_all(const ir_value_t *index, const expr_t *size) {
  return index->def != NULL && index->def->code == OP_IOTA &&
         ir_get_expr(index->def, ATTR_IOTA_n) == size;
}

/* Rows of indices into what all have. */
static bool place_lookup(batch_t *t, const ir_op_t *op) {
  unsigned axis = (unsigned)ir_get_int(op, ATTR_GATHER_axis);
  ir_value_t *x = now(t, ir_in(op, 0)), *index = batch_rows(t, ir_in(op, 1));
  if (x == NULL || index == NULL) return false;
  ir_value_t *y = x;
  if (!takes_all(index, x->type.dim[axis])) y = ir_gather(t->b, x, index, axis);
  return give(t, op, moved(t, y, axis, 0));
}

static ir_value_t *gather_rows(batch_t *t, ir_value_t *x, ir_value_t *index,
                               int64_t batch_dims) {
  ir_value_t *in[] = {x, index};
  ir_op_t *gather = ir_begin(t->b, OP_GATHER_ND, 2, in, 1);
  if (gather == NULL) return NULL;
  ir_set_int(gather, ATTR_GATHER_ND_batch_dims, batch_dims);
  return ir_place(t->b, gather);
}

/* Rows of indices into rows: y[n, a.., i.., b..]. */
static bool place_gather(batch_t *t, const ir_op_t *op) {
  if (!has_rows(t, ir_in(op, 0))) return place_lookup(t, op);
  if (!has_rows(t, ir_in(op, 1))) return place_rows(t, op, 1);
  unsigned axis = (unsigned)ir_get_int(op, ATTR_GATHER_axis);
  ir_value_t *x = moved(t, batch_rows(t, ir_in(op, 0)), axis + 1, 1);
  ir_value_t *index = batch_rows(t, ir_in(op, 1));
  unsigned rank = ir_in(op, 1)->type.rank;
  if (index != NULL) index = ir_unsqueeze(t->b, index, rank + 1);
  ir_value_t *y = gather_rows(t, x, index, 1);
  for (unsigned i = 0; i < axis; i++) /* [n, i.., a.., b..] */
    y = moved(t, y, 1 + rank + i, 1 + i);
  return give(t, op, y);
}

static bool place_gather_nd(batch_t *t, const ir_op_t *op) {
  int64_t dims = ir_get_int(op, ATTR_GATHER_ND_batch_dims);
  ir_value_t *x = now(t, ir_in(op, 0)), *index = batch_rows(t, ir_in(op, 1));
  bool shared = dims == 0 && !has_rows(t, ir_in(op, 0));
  if (!shared) x = batch_rows(t, ir_in(op, 0));
  return give(t, op, gather_rows(t, x, index, shared ? 0 : dims + 1));
}

/* Images of all rows are images of one batch. */
static bool place_images(batch_t *t, const ir_op_t *op) {
  const expr_t *dim[IR_MAX_RANK];
  ir_value_t *x = batch_rows(t, ir_in(op, 0)), *w = now(t, ir_in(op, 1));
  if (x == NULL || has_rows(t, ir_in(op, 1))) return false;
  const expr_t *images = ir_in(op, 0)->type.dim[0];
  dim[0] = expr_mul(t->b->module->exprs, t->n, images);
  for (unsigned d = 2; d < x->type.rank; d++) dim[d - 1] = x->type.dim[d];
  x = ir_reshape(t->b, x, x->type.rank - 1, dim);
  ir_value_t *in[] = {x, w};
  ir_op_t *copy = ir_begin(t->b, op->code, 2, in, 1);
  if (copy == NULL) return false;
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(copy, &op->attrs[i]);
  ir_value_t *y = ir_place(t->b, copy);
  if (y == NULL) return false;
  dim[0] = t->n;
  dim[1] = images;
  for (unsigned d = 1; d < y->type.rank; d++) dim[d + 1] = y->type.dim[d];
  return give(t, op, ir_reshape(t->b, y, y->type.rank + 1, dim));
}

/* Both branches for all rows, then each row's own. */
static bool place_if(batch_t *t, const ir_op_t *op) {
  unsigned n;
  ir_get_exprs(op, ATTR_IF_symbols, &n);
  if (n > 0) return false;
  t->depth++;
  bool fits = batch_all(t, &op->regions[0]) && batch_all(t, &op->regions[1]);
  t->depth--;
  const expr_t *dim[IR_MAX_RANK] = {t->n};
  for (unsigned d = 1; d < IR_MAX_RANK; d++)
    dim[d] = expr_const(t->b->module->exprs, 1);
  for (unsigned i = 0; i < op->n_out && fits; i++) {
    unsigned rank = op->out[i].type.rank;
    ir_value_t *x = batch_rows(t, ir_in(op->regions[0].last, i));
    ir_value_t *y = batch_rows(t, ir_in(op->regions[1].last, i));
    ir_value_t *condition = batch_rows(t, ir_in(op, 0));
    condition = ir_reshape(t->b, condition, rank + 1, dim);
    ir_value_t *chosen = ir_select(t->b, condition, x, y);
    batch_set(t, &op->out[i], chosen, true);
    fits = chosen != NULL;
  }
  return fits;
}

/* What cannot end the run, whatever its operands are. */
static bool cannot_fail(const ir_op_t *op) {
  switch (op->code) {
    case OP_CONSTANT:
    case OP_EXPRS:
    case OP_IOTA:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_CONCAT:
    case OP_PAD:
    case OP_MATMUL:
    case OP_CONVOLVE:
    case OP_UNFOLD:
      return true;
    default:
      return ir_has_trait(op, ELEMENTWISE) || ir_has_trait(op, ALONG);
  }
}

static bool place_rowed(batch_t *t, const ir_op_t *op) {
  switch (op->code) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_PAD:
      return place_rows(t, op, 1);
    case OP_CONCAT:
    case OP_GATHER_ELEMENTS:
    case OP_SCATTER_ELEMENTS:
      return place_rows(t, op, op->n_in);
    case OP_EXPAND:
    case OP_MATMUL:
      return place_broadcast(t, op);
    case OP_GATHER:
      return place_gather(t, op);
    case OP_GATHER_ND:
      return place_gather_nd(t, op);
    case OP_CONVOLVE:
    case OP_UNFOLD:
      return place_images(t, op);
    case OP_IF:
      return place_if(t, op);
    default:
      if (ir_has_trait(op, ALONG)) return place_rows(t, op, 1);
      return ir_has_trait(op, ELEMENTWISE) && place_broadcast(t, op);
  }
}

static bool is_the_same(const batch_t *t, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_in; i++)
    if (has_rows(t, ir_in(op, i))) return false;
  return op->n_regions == 0;
}

static bool place_one(batch_t *t, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++)
    if (op->out[i].type.kind != IR_TENSOR ||
        op->out[i].type.rank + 1 >= IR_MAX_RANK)
      return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (ir_in(op, i) == NULL || now(t, ir_in(op, i)) == NULL) return false;
  t->b->loc = op->loc;
  if (!cannot_fail(op) && (t->depth > 0 || op->code == OP_BIND) &&
      op->code != OP_IF)
    return false;
  if (!cannot_fail(op) || !is_the_same(t, op)) return place_rowed(t, op);
  ir_op_t *copy = ir_clone(t->b->module, op, now, t);
  if (ir_place(t->b, copy) == NULL) return false;
  for (unsigned i = 0; i < op->n_out; i++)
    batch_set(t, &op->out[i], &copy->out[i], false);
  return true;
}

bool batch_all(batch_t *t, const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != region->last; op = op->next) {
    bool skipped =
        t->left_out != NULL && op->n_out > 0 && t->left_out[op->out[0].number];
    if (!skipped && !place_one(t, op)) return false;
  }
  return t->b->status == MOEC_OK;
}
