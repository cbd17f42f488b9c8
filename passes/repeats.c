/* Computes what is the same for several rows once: where the rows of a product,
 * a router, a softmax and the like are copies (expand), the copies are made of
 * the result. So a gate that looks at a sequence, a sample or a task is
 * evaluated for each of those, however many tokens it is for. Exact: rows are
 * computed apart, and have the same bits whatever their number. */
#include "ir/build.h"
#include "ir/route.h"
#include "passes/pass.h"
#include "passes/rules.h"

/* x in C order is an expand of something: its last dimension stays. */
typedef struct copies {
  const ir_op_t *expand;
  unsigned rank;
  const expr_t *few[IR_MAX_RANK], *many[IR_MAX_RANK];
} copies_t;

/* ---- Finding copies ------------------------------------------------------ */

static const expr_t *last_dim(const ir_value_t *x) {
  return x->type.rank > 0 ? x->type.dim[x->type.rank - 1] : NULL;
}

static bool read_expand(const ir_op_t *op, copies_t *out) {
  const ir_type_t *in = &op->in[0].value->type, *type = &op->out[0].type;
  const expr_t *one = expr_const(op->module->exprs, 1);
  unsigned skipped = type->rank - in->rank;
  bool copies = false;
  *out = (copies_t){.expand = op, .rank = type->rank};
  for (unsigned d = 0; d < type->rank; d++) {
    out->few[d] = d < skipped ? one : in->dim[d - skipped];
    out->many[d] = type->dim[d];
    copies |= out->few[d] != out->many[d];
  }
  return copies && type->rank > 1 &&
         out->few[type->rank - 1] == out->many[type->rank - 1];
}

/* The same number for all rows, or a number for each element of a row of x. */
static bool is_same_for_rows(const ir_value_t *other, const ir_value_t *x) {
  if (rule_has_one_element(&other->type)) return true;
  return other->type.rank == 1 && other->type.dim[0] == last_dim(x);
}

/* The operand of an elementwise operation that has the rows; -1 if none. */
static int operand_with_rows(const ir_op_t *op) {
  const ir_value_t *y = &op->out[0];
  if (op->n_out != 1 || !ir_has_trait(op, ELEMENTWISE)) return -1;
  int found = -1;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (x == NULL) return -1;
    if (found < 0 && rule_same_dims(&x->type, &y->type))
      found = (int)i;
    else if (!is_same_for_rows(x, y))
      return -1;
  }
  return found;
}

/* Rows of x are copies of those that `out` tells of, behind operations on each
 * of them. */
static bool find_copies(const ir_value_t *x, copies_t *out) {
  enum { MOST = 16 };
  for (unsigned i = 0; i < MOST && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    if (op->code == OP_EXPAND) return read_expand(op, out);
    int from = op->code == OP_RESHAPE ? 0 : operand_with_rows(op);
    if (from < 0 ||
        (op->code == OP_RESHAPE && last_dim(x) != last_dim(op->in[0].value)))
      return false;
    x = op->in[from].value;
  }
  return false;
}

/* ---- Computing without them ---------------------------------------------- */

static void copy_attrs(ir_op_t *to, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_attrs; i++)
    to->attrs[to->n_attrs++] = op->attrs[i];
}

/* x without copies, of the dimensions `few`. */
static ir_value_t *without_copies(ir_builder_t *b, ir_value_t *x,
                                  const copies_t *c) {
  ir_op_t *op = x->def;
  if (op == c->expand) return ir_reshape(b, op->in[0].value, c->rank, c->few);
  if (op->code == OP_RESHAPE) return without_copies(b, op->in[0].value, c);
  int from = operand_with_rows(op);
  ir_value_t **in = ARENA_ARRAY(b->module->arena, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *other = op->in[i].value;
    if ((int)i == from)
      in[i] = without_copies(b, other, c);
    else
      in[i] = other->type.rank > 1 ? ir_reshape(b, other, 0, NULL) : other;
  }
  ir_op_t *to = ir_begin(b, op->code, op->n_in, in, 1);
  if (to != NULL) copy_attrs(to, op);
  return ir_place(b, to);
}

/* The result of op, of rows of `last` elements, from that without copies. */
static moec_status_t give(ir_builder_t *b, ir_op_t *op, unsigned result,
                          ir_value_t *y, const copies_t *c,
                          const expr_t *last) {
  ir_type_t *type = &op->out[result].type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < c->rank; d++) dim[d] = c->few[d];
  dim[c->rank - 1] = last;
  y = ir_reshape(b, y, c->rank, dim);
  for (unsigned d = 0; d + 1 < c->rank; d++) dim[d] = c->many[d];
  y = ir_expand(b, y, c->rank, dim);
  y = ir_reshape(b, y, type->rank, type->dim);
  if (y == NULL) return b->status;
  if (y->name == NULL) y->name = op->out[result].name;
  ir_replace_uses(&op->out[result], y);
  return MOEC_OK;
}

static bool is_last(const ir_op_t *op, ir_attr_id_t axis) {
  int64_t at = ir_get_int(op, axis), rank = op->in[0].value->type.rank;
  return at == -1 || at == rank - 1;
}

static bool reduces_last(const ir_op_t *op) {
  unsigned n;
  const int64_t *axes = ir_get_ints(op, ir_op_info(op->code)->attr_first, &n);
  return n == 1 && (axes[0] == -1 || axes[0] == op->in[0].value->type.rank - 1);
}

/* Operations on each row of operand 0 that take longer than copying it. */
static bool works_on_rows(const ir_op_t *op) {
  switch (op->code) {
    case OP_MATMUL:
      return op->in[1].value->type.rank == 2 && op->in[0].value->type.rank > 1;
    case OP_MOE_ROUTE:
      return ir_in(op, ROUTE_MIXING) == NULL;
    case OP_SOFTMAX:
      return is_last(op, ATTR_SOFTMAX_axis);
    case OP_TOPK:
      return is_last(op, ATTR_TOPK_axis);
    case OP_ARG_MAX:
      return is_last(op, ATTR_ARG_MAX_axis);
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
      return reduces_last(op);
    default:
      return false;
  }
}

/* A single row by a matrix that is no constant is summed in another order
 * (layout). */
static bool keeps_order(const ir_op_t *op, const copies_t *c) {
  if (op->code != OP_MATMUL && op->code != OP_MOE_ROUTE) return true;
  const ir_value_t *w = ir_in(op, 1);
  const expr_t *rows = expr_product(op->module->exprs, c->few, c->rank - 1);
  return w == NULL || rule_is_constant(w) || !rule_is_one(rows);
}

/* x as a matrix of rows. */
static ir_value_t *as_rows(ir_builder_t *b, ir_value_t *x, const copies_t *c) {
  const expr_t *dim[] = {expr_product(b->module->exprs, c->few, c->rank - 1),
                         c->few[c->rank - 1]};
  return ir_reshape(b, x, 2, dim);
}

static moec_status_t route_once(ir_builder_t *b, ir_op_t *op, ir_value_t *x,
                                const copies_t *c) {
  route_t route;
  const char *what;
  if (!route_read(op, &route, &what))
    MOEC_BUG("moe.route has an unknown '%s'", what);
  route.in[ROUTE_X] = as_rows(b, x, c);
  MOEC_TRY(b->status);
  ir_op_t *once = route_write(b->module, op->loc, &route);
  if (ir_place(b, once) == NULL) return b->status;
  for (unsigned i = 0; i < 2; i++)
    MOEC_TRY(give(b, op, i, &once->out[i], c, op->out[i].type.dim[1]));
  return MOEC_OK;
}

static moec_status_t compute_once(ir_builder_t *b, ir_op_t *op,
                                  const copies_t *c) {
  ir_value_t *x = without_copies(b, op->in[0].value, c);
  MOEC_TRY(b->status);
  if (op->code == OP_MOE_ROUTE) return route_once(b, op, x, c);
  ir_value_t **in = ARENA_ARRAY(b->module->arena, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) in[i] = op->in[i].value;
  in[0] = op->code == OP_MATMUL ? as_rows(b, x, c) : x;
  ir_op_t *once = ir_begin(b, op->code, op->n_in, in, op->n_out);
  if (once == NULL) return b->status;
  copy_attrs(once, op);
  int64_t last = (int64_t)c->rank - 1;
  bool reduces = false;
  switch (op->code) {
    case OP_SOFTMAX:
      ir_set_int(once, ATTR_SOFTMAX_axis, last);
      break;
    case OP_TOPK:
      ir_set_int(once, ATTR_TOPK_axis, last);
      break;
    case OP_ARG_MAX:
      ir_set_int(once, ATTR_ARG_MAX_axis, last);
      reduces = true;
      break;
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
      ir_set_ints(once, ir_op_info(op->code)->attr_first, 1, &last);
      reduces = true;
      break;
    default:
      break;
  }
  if (ir_place(b, once) == NULL) return b->status;
  for (unsigned i = 0; i < op->n_out; i++) {
    const expr_t *dim =
        reduces ? expr_const(b->module->exprs, 1) : last_dim(&op->out[i]);
    MOEC_TRY(give(b, op, i, &once->out[i], c, dim));
  }
  return MOEC_OK;
}

moec_status_t run_repeats(pass_ctx_t *ctx, ir_func_t *func) {
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    copies_t copies;
    if (!works_on_rows(op) || !find_copies(op->in[0].value, &copies) ||
        last_dim(op->in[0].value) != copies.many[copies.rank - 1] ||
        !keeps_order(op, &copies) || !pass_allow_rewrite(ctx, "repeats", op))
      continue;
    ir_builder_t b = {.module = ctx->module,
                      .region = op->parent,
                      .before = op,
                      .loc = op->loc,
                      .diag = ctx->diag};
    MOEC_TRY(compute_once(&b, op, &copies));
  }
  return MOEC_OK;
}
