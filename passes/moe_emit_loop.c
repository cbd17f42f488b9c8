/* Loops in experts: what a loop carries has rows in front, as all else. */
#include <string.h>

#include "passes/moe_emit_internal.h"

enum { LEVEL, TRIPS, RESULT, CARRIED }; /* in exprs[] of a WHILE */

static int64_t number(const expr_t *e) {
  int64_t value = 0;
  bool known = expr_is_const(e, &value);
  MOEC_ASSERT(known);
  return value;
}

ir_value_t *moe_write_trip(moe_emitter_t *e, const moe_term_t *term) {
  MOEC_ASSERT(e->scope != NULL && number(term->exprs[1]) == 0);
  return e->scope->trip; /* a value that is carried was written before */
}

/* The type of a term's value. */
static ir_type_t type_of(const moe_emitter_t *e, const moe_term_t *term) {
  unsigned n = 0;
  const expr_t **dim =
      ARENA_ARRAY(e->ctx->module->arena, const expr_t *, term->rank + 1);
  if (term->rows) dim[n++] = e->rows;
  for (unsigned d = 0; d < term->rank; d++) dim[n++] = term->dim[d];
  return ir_tensor_type(term->dtype, n, dim);
}

/* The term's value with rows if `like` has them. */
static ir_value_t *write_like(moe_emitter_t *e, const moe_term_t *term,
                              const moe_term_t *like) {
  ir_value_t *value = moe_write_term(e, term);
  if (value == NULL || term->rows == like->rows) return value;
  const ir_type_t type = type_of(e, like);
  return ir_expand(e->inner, value, type.rank, type.dim);
}

/* ---- The loop ------------------------------------------------------------ */

/* What the region yields: to go on, what is carried, the row. */
static bool write_body(moe_emitter_t *e, const moe_term_t *term,
                       ir_value_t *more) {
  const unsigned n = (unsigned)number(term->exprs[CARRIED]);
  ir_builder_t *b = e->inner;
  ir_value_t **out =
      ARENA_ARRAY(e->ctx->scratch, ir_value_t *, term->n - 2 * n + 1);
  unsigned n_out = 1 + n;
  out[0] = more;
  for (unsigned i = 0; i < n; i++) {
    out[1 + i] = write_like(e, term->in[2 * n + i], term->in[i]);
    if (out[1 + i] == NULL) return false;
  }
  if (term->n > 3 * n &&
      (out[n_out++] = moe_write_term(e, term->in[3 * n])) == NULL)
    return false;
  ir_op_t *yield = ir_begin(b, OP_YIELD, n_out, out, 0);
  if (yield == NULL) return false;
  ir_set_exprs(yield, ATTR_YIELD_sizes, 0, NULL);
  ir_place(b, yield);
  return b->status == MOEC_OK;
}

static void enter(moe_emitter_t *e, const moe_term_t *term, ir_op_t *op) {
  const unsigned n = (unsigned)number(term->exprs[CARRIED]);
  arena_t *scratch = e->ctx->scratch;
  ir_type_t *types = ARENA_ARRAY(scratch, ir_type_t, n + 1);
  types[0] = ir_scalar_type(DT_I64);
  for (unsigned i = 0; i < n; i++) types[1 + i] = type_of(e, term->in[i]);
  ir_region_set_args(op, 0, n + 1, types);
  moe_scope_t *scope = ARENA_NEW(scratch, moe_scope_t);
  scope->level = (unsigned)number(term->exprs[LEVEL]);
  scope->builder = *e->inner;
  scope->builder.region = &op->regions[0];
  scope->builder.before = NULL;
  scope->trip = &op->regions[0].args[0];
  scope->around = e->inner;
  scope->table_around = e->table;
  scope->outer = e->scope;
  e->scope = scope;
  e->inner = &scope->builder;
  e->table = scope->table;
  for (unsigned i = 0; i < n; i++)
    moe_remember(e, term->in[i], &op->regions[0].args[1 + i]);
}

static void leave(moe_emitter_t *e) {
  const moe_scope_t *scope = e->scope;
  e->inner = scope->around;
  e->table = scope->table_around;
  e->scope = scope->outer;
  if (e->inner->status == MOEC_OK) e->inner->status = scope->builder.status;
}

/* Dimensions of all results, one after the other. */
static void set_dims(const moe_emitter_t *e, const moe_term_t *term,
                     ir_op_t *op) {
  const unsigned n = (unsigned)number(term->exprs[CARRIED]);
  unsigned n_dims = 0, room = (n + 2) * (IR_MAX_RANK + 1);
  const expr_t **dims = ARENA_ARRAY(e->ctx->scratch, const expr_t *, room);
  for (unsigned i = 0; i < op->n_out; i++) {
    const ir_type_t type = type_of(e, term->in[i < n ? i : 3 * n]);
    if (i == n) dims[n_dims++] = term->exprs[TRIPS];
    for (unsigned d = 0; d < type.rank; d++) dims[n_dims++] = type.dim[d];
  }
  ir_set_exprs(op, ATTR_WHILE_symbols, 0, NULL);
  ir_set_exprs(op, ATTR_WHILE_inits, 0, NULL);
  ir_set_int(op, ATTR_WHILE_steady, 0);
  ir_set_exprs(op, ATTR_WHILE_dims, n_dims, dims);
  ir_set_expr(op, ATTR_WHILE_trips, term->exprs[TRIPS]);
  ir_set_int(op, ATTR_WHILE_counted, 0);
}

static ir_op_t *write_while(moe_emitter_t *e, const moe_term_t *term) {
  const unsigned n = (unsigned)number(term->exprs[CARRIED]);
  ir_builder_t *b = e->inner;
  ir_value_t **in = ARENA_ARRAY(e->ctx->scratch, ir_value_t *, n + 2);
  in[0] = ir_expr_scalar(b, term->exprs[TRIPS]);
  in[1] = ir_scalar_int(b, DT_BOOL, 1);
  for (unsigned i = 0; i < n; i++)
    in[2 + i] = write_like(e, term->in[n + i], term->in[i]);
  for (unsigned i = 0; i < n + 2; i++)
    if (in[i] == NULL) return NULL;
  ir_op_t *op = ir_op_create(b->module, OP_WHILE, b->loc, n + 2, in,
                             n + (term->n > 3 * n));
  enter(e, term, op);
  bool written = write_body(e, term, in[1]);
  leave(e);
  if (!written) return NULL;
  set_dims(e, term, op);
  return ir_place(e->inner, op) != NULL ? op : NULL;
}

/* The same loop, written for another of its results. */
static bool same_loop(const moe_term_t *a, const moe_term_t *b) {
  return a->n == b->n && memcmp(a->in, b->in, a->n * sizeof *a->in) == 0 &&
         a->exprs[LEVEL] == b->exprs[LEVEL] &&
         a->exprs[TRIPS] == b->exprs[TRIPS];
}

static ir_op_t *find_while(moe_emitter_t *e, const moe_term_t *term) {
  moe_written_loop_t **list = e->scope != NULL ? &e->scope->loops : &e->loops;
  for (const moe_written_loop_t *l = *list; l != NULL; l = l->next)
    if (same_loop(l->term, term)) return l->op;
  ir_op_t *op = write_while(e, term);
  if (op == NULL) return NULL;
  moe_written_loop_t *entry = ARENA_NEW(e->ctx->scratch, moe_written_loop_t);
  *entry = (moe_written_loop_t){term, op, *list};
  *list = entry;
  return op;
}

ir_value_t *moe_write_loop(moe_emitter_t *e, const moe_term_t *term) {
  const unsigned n = (unsigned)number(term->exprs[CARRIED]);
  const unsigned result = (unsigned)number(term->exprs[RESULT]);
  ir_op_t *op = find_while(e, term);
  if (op == NULL) return NULL;
  ir_value_t *value = &op->out[result];
  const moe_term_t *one = term->in[result < n ? result : 3 * n];
  if (result == n && one->rows) { /* trips, rows, .. */
    int64_t perm[IR_MAX_RANK] = {1, 0};
    for (unsigned d = 2; d < value->type.rank; d++) perm[d] = d;
    return ir_transpose(e->inner, value, perm);
  }
  if (one->rows == term->rows) return value;
  const ir_type_t type = type_of(e, term);
  return ir_expand(e->inner, value, type.rank, type.dim);
}
