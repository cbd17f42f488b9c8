/* Reading loops: recurrent experts, scans.
 *
 * A loop works on rows that are independent of each other if each value that it
 * carries has its rows in one place before, in and after every trip, what a
 * trip computes of them is a term, and nothing that rows have says how many
 * trips there are. The term of a loop has the terms of its body as operands, in
 * which carried values, and the number of the trip, are leaves (ARG). */
#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { MAX_LEVELS = 16 };

struct moe_loop { /* as read in a layout */
  const ir_op_t *op;
  const moe_layout_t *layout;
  unsigned level, n; /* of loops around it, and itself; carried values */
  uint8_t (*tag)[IR_MAX_RANK];
  moe_term_t **arg;  /* NULL: nothing needs it */
  moe_term_t **next; /* after a trip */
  moe_loop_t *outer; /* while its body is being read */
  moe_loop_t *other; /* in the list of those that were read */
};

/* ---- Leaves -------------------------------------------------------------- */

static moe_term_t *new_arg(moe_builder_t *b, const moe_loop_t *loop,
                           ir_value_t *value, const uint8_t *tag) {
  const expr_t *dim[IR_MAX_RANK], *which[3];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  bool rows = moe_has_rows(&value->type, tag);
  which[0] = expr_const(b->pool, loop->level);
  which[1] = expr_const(b->pool, value->index);
  which[2] = expr_const(b->pool, rows);
  return moe_term_arg(b->terms, &(moe_term_t){.dtype = value->type.dtype,
                                              .rank = rank,
                                              .dim = dim,
                                              .rows = rows,
                                              .loops = 1U << loop->level,
                                              .n_exprs = 3,
                                              .exprs = which});
}

bool moe_is_carried(const moe_builder_t *b, const ir_value_t *value) {
  const moe_loop_t *loop = b->loop;
  while (loop != NULL && ir_home(value) != &loop->op->regions[0])
    loop = loop->outer;
  return loop != NULL && value->def == NULL;
}

moe_term_t *moe_read_carried(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag) {
  moe_loop_t *loop = b->loop;
  const unsigned rank = value->type.rank;
  while (ir_home(value) != &loop->op->regions[0]) loop = loop->outer;
  if ((moe_tag_union(rank, tag) & (TAG_EXPERT | TAG_PLACE)) != 0)
    return moe_fail(b, loop->op, "a loop works on rows");
  if (value->index == 0) return new_arg(b, loop, value, tag);
  unsigned i = value->index - 1;
  if (loop->arg[i] == NULL) {
    memcpy(loop->tag[i], tag, rank);
    loop->arg[i] = new_arg(b, loop, value, tag);
  }
  return memcmp(loop->tag[i], tag, rank) == 0
             ? loop->arg[i]
             : moe_fail(b, loop->op, "rows keep their place in a loop");
}

/* ---- Loops --------------------------------------------------------------- */

static bool is_true(const ir_value_t *value) {
  double x;
  return moe_fill_number(value, &x) && x != 0;
}

/* Nothing but the number of trips ends it, and no size changes in it. */
static bool is_plain(const ir_op_t *op) {
  unsigned n;
  ir_get_exprs(op, ATTR_WHILE_symbols, &n);
  return n == 0 && ir_get_int(op, ATTR_WHILE_counted) == 0 &&
         is_true(ir_in(op, 1)) && is_true(ir_in(op->regions[0].last, 0));
}

static bool same_features(const moe_term_t *x, const moe_term_t *y) {
  if (x->rank != y->rank || x->dtype != y->dtype) return false;
  for (unsigned d = 0; d < x->rank; d++)
    if (x->dim[d] != y->dim[d]) return false;
  return true;
}

/* The terms of what all carried values that are needed are after a trip; the
 * need of one may be found while another is read. */
static bool read_trip(moe_builder_t *b, moe_loop_t *loop) {
  const ir_op_t *end = loop->op->regions[0].last;
  for (bool more = true; more;) {
    more = false;
    for (unsigned i = 0; i < loop->n; i++) {
      if (loop->arg[i] == NULL || loop->next[i] != NULL) continue;
      loop->next[i] =
          moe_build(b, ir_in(end, 1 + i), loop->tag[i], loop->layout);
      if (loop->next[i] == NULL) return false;
      more = true;
    }
  }
  return true;
}

/* The operands of the loop's term; *out_result: which of them the result is of.
 */
static moe_term_t **operands(moe_builder_t *b, const moe_loop_t *loop,
                             unsigned index, moe_term_t *row, unsigned *out_n,
                             unsigned *out_result) {
  unsigned used = 0, n = 0;
  for (unsigned i = 0; i < loop->n; i++) used += loop->arg[i] != NULL;
  moe_term_t **in = ARENA_ARRAY(b->arena, moe_term_t *, 3 * used + 1);
  *out_result = used;
  for (unsigned i = 0; i < loop->n; i++) {
    if (loop->arg[i] == NULL) continue;
    if (index == i) *out_result = n;
    moe_term_t *init =
        moe_build(b, ir_in(loop->op, 2 + i), loop->tag[i], loop->layout);
    if (init == NULL) return NULL;
    in[n] = loop->arg[i];
    in[used + n] = init;
    in[2 * used + n] = loop->next[i];
    if (!same_features(in[n], init) || !same_features(in[n], loop->next[i])) {
      moe_fail(b, loop->op, "rows keep their place in a loop");
      return NULL;
    }
    n++;
  }
  in[3 * used] = row;
  *out_n = used;
  return in;
}

static moe_term_t *result_of(moe_builder_t *b, const moe_loop_t *loop,
                             ir_value_t *value, const uint8_t *tag,
                             moe_term_t *row) {
  unsigned used, result;
  moe_term_t **in = operands(b, loop, value->index, row, &used, &result);
  if (in == NULL) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  const expr_t *exprs[4] = {
      expr_const(b->pool, loop->level), ir_get_expr(loop->op, ATTR_WHILE_trips),
      expr_const(b->pool, result), expr_const(b->pool, used)};
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_op(b->terms, &(moe_term_t){.code = OP_WHILE,
                                             .dtype = value->type.dtype,
                                             .rank = rank,
                                             .dim = dim,
                                             .n = 3 * used + (row != NULL),
                                             .in = in,
                                             .n_exprs = 4,
                                             .exprs = exprs});
}

/* The loop as it was read before for another of its results, or a new one: what
 * was read of its body is not read again. */
static moe_loop_t *loop_of(moe_builder_t *b, const ir_op_t *op,
                           const moe_layout_t *layout) {
  for (moe_loop_t *loop = b->loops; loop != NULL; loop = loop->other)
    if (loop->op == op && loop->layout == layout) return loop;
  moe_loop_t *loop = ARENA_NEW(b->arena, moe_loop_t);
  unsigned n = op->n_in - 2;
  *loop = (moe_loop_t){.op = op, .layout = layout, .n = n, .other = b->loops};
  loop->level = b->loop != NULL ? b->loop->level + 1 : 0;
  loop->tag = (void *)ARENA_ARRAY(b->arena, uint8_t, (n + 1) * IR_MAX_RANK);
  loop->arg = ARENA_ARRAY(b->arena, moe_term_t *, n + 1);
  loop->next = ARENA_ARRAY(b->arena, moe_term_t *, n + 1);
  return b->loops = loop;
}

moe_term_t *moe_read_while(moe_builder_t *b, ir_value_t *value,
                           const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def, *end = op->regions[0].last;
  unsigned n = op->n_in - 2;
  bool stacked = value->index >= n;
  if (!is_plain(op))
    return moe_fail(b, op, "how often a loop runs does not depend on rows");
  if (stacked && tag[0] != TAG_INNER)
    return moe_fail(b, op, "rows are independent of each other");
  moe_loop_t *loop = loop_of(b, op, layout);
  if (loop->level >= MAX_LEVELS)
    return moe_fail(b, op, "the expert is small enough to be read");
  loop->outer = b->loop;
  b->loop = loop;
  moe_term_t *row = NULL;
  bool known;
  if (stacked) {
    row = moe_build(b, ir_in(end, 1 + value->index), tag + 1, layout);
    known = row != NULL;
  } else {
    ir_value_t *arg = &op->regions[0].args[1 + value->index];
    known = moe_read_carried(b, arg, tag) != NULL;
  }
  known = known && read_trip(b, loop);
  b->loop = loop->outer;
  return known ? result_of(b, loop, value, tag, row) : NULL;
}
