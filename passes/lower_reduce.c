/* Reductions, arg-reductions, scans and softmax. */
#include <math.h>
#include <string.h>

#include "passes/lower.h"

/* ---- reduce -------------------------------------------------------------- */

typedef struct reduce_form {
  const char *kind;
  ir_attr_id_t axes, keepdims;
} reduce_form_t;

static reduce_form_t form_of(ir_opcode_t code) {
  switch (code) {
    case OP_REDUCE_SUM:
      return (reduce_form_t){"sum", ATTR_REDUCE_SUM_axes,
                             ATTR_REDUCE_SUM_keepdims};
    case OP_REDUCE_PROD:
      return (reduce_form_t){"prod", ATTR_REDUCE_PROD_axes,
                             ATTR_REDUCE_PROD_keepdims};
    case OP_REDUCE_MAX:
      return (reduce_form_t){"max", ATTR_REDUCE_MAX_axes,
                             ATTR_REDUCE_MAX_keepdims};
    case OP_REDUCE_MIN:
      return (reduce_form_t){"min", ATTR_REDUCE_MIN_axes,
                             ATTR_REDUCE_MIN_keepdims};
    default:
      MOEC_BUG("not a reduction");
  }
}

static unsigned normal_axis(int64_t axis, unsigned rank) {
  return (unsigned)(axis < 0 ? axis + rank : axis);
}

/* Marks the reduced dimensions of op's operand. */
static void reduced_axes(const ir_op_t *op, bool *reduced, bool *out_keepdims) {
  unsigned rank = op->in[0].value->type.rank;
  for (unsigned d = 0; d < rank; d++) reduced[d] = false;
  if (op->code == OP_ARG_MAX || op->code == OP_ARG_MIN) {
    bool max = op->code == OP_ARG_MAX;
    int64_t axis = ir_get_int(op, max ? ATTR_ARG_MAX_axis : ATTR_ARG_MIN_axis);
    reduced[normal_axis(axis, rank)] = true;
    *out_keepdims = ir_get_int(op, max ? ATTR_ARG_MAX_keepdims
                                       : ATTR_ARG_MIN_keepdims) != 0;
    return;
  }
  reduce_form_t form = form_of(op->code);
  unsigned n;
  const int64_t *axes = ir_get_ints(op, form.axes, &n);
  for (unsigned i = 0; i < n; i++) reduced[axes[i]] = true;
  *out_keepdims = ir_get_int(op, form.keepdims) != 0;
}

bool lower_reduces_last(const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type;
  bool reduced[IR_MAX_RANK], keepdims;
  reduced_axes(op, reduced, &keepdims);
  unsigned last = in->rank;
  while (last > 0 && expr_equals_const(in->dim[last - 1], 1)) last--;
  return last > 0 && reduced[last - 1];
}

const expr_t *lower_reduced_count(expr_pool_t *pool, const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type;
  bool reduced[IR_MAX_RANK], keepdims;
  reduced_axes(op, reduced, &keepdims);
  const expr_t *count = expr_const(pool, 1);
  for (unsigned d = 0; d < in->rank; d++)
    if (reduced[d]) count = expr_mul(pool, count, in->dim[d]);
  return count;
}

/* Operand indices of the kept dimensions. */
static void kept_index(const ir_op_t *op, const bool *reduced, bool keepdims,
                       ir_value_t *const *idx, ir_value_t **at) {
  unsigned rank = op->in[0].value->type.rank, next = 0;
  for (unsigned d = 0; d < rank; d++)
    if (keepdims)
      at[d] = idx[d];
    else if (!reduced[d])
      at[d] = idx[next++];
}

/* f16 and bf16 sum and multiply in f32. */
static dtype_t accumulator(const char *kind, dtype_t dtype) {
  bool adds = strcmp(kind, "sum") == 0 || strcmp(kind, "prod") == 0;
  return adds && dtype_is_float(dtype) && dtype_bits(dtype) < 32 ? DT_F32
                                                                 : dtype;
}

static bool is_one(const expr_t *dim) { return expr_equals_const(dim, 1); }

/* Whether the elements are those of windows, or products with them. */
static bool reads_windows(const ir_value_t *x) {
  const ir_op_t *op = x->def;
  if (op == NULL || !op->fused) return false;
  if (op->code == OP_WINDOWS) return true;
  if (op->code == OP_CAST) return reads_windows(op->in[0].value);
  return op->code == OP_MUL &&
         (reads_windows(op->in[0].value) || reads_windows(op->in[1].value));
}

/* A reduction over windows that are so small that the kernel has a copy of the
 * loops' body for each of their elements; its result is that of the loops. */
typedef struct unrolled {
  kernel_t *k;
  const ir_op_t *op;
  const char *kind;
  dtype_t acc;
  unsigned n; /* reduced dimensions, more than one element each */
  unsigned dim[IR_MAX_RANK];
  int64_t extent[IR_MAX_RANK];
  ir_value_t **at;
} unrolled_t;

static bool can_unroll(const ir_op_t *op, const bool *reduced, unrolled_t *u) {
  enum { MOST = 64 };
  const ir_value_t *x = op->in[0].value;
  int64_t all = 1;
  if (lower_reduces_last(op) || !reads_windows(x)) return false;
  for (unsigned d = 0; d < x->type.rank; d++) {
    int64_t n;
    if (!reduced[d] || is_one(x->type.dim[d])) continue;
    if (!expr_is_const(x->type.dim[d], &n) || n < 1 || n > MOST / all)
      return false;
    u->dim[u->n] = d;
    u->extent[u->n++] = n;
    all *= n;
  }
  return true;
}

static ir_value_t *combine(const unrolled_t *u, ir_value_t *a, ir_value_t *b) {
  ir_opcode_t code = strcmp(u->kind, "sum") == 0    ? OP_ADD
                     : strcmp(u->kind, "prod") == 0 ? OP_MUL
                     : strcmp(u->kind, "max") == 0  ? OP_MAX
                                                    : OP_MIN;
  const ir_op_t *mul = b->def;
  bool wide = u->acc == DT_F32 || u->acc == DT_F64;
  if (code == OP_ADD && wide && mul != NULL && mul->code == OP_MUL)
    return kernel_mul_add(u->k, mul->in[0].value, mul->in[1].value, a);
  return kernel_binary(u->k, code, a, b);
}

/* What a loop has before its first round; NULL: that round's value. */
static ir_value_t *neutral(const unrolled_t *u) {
  if (strcmp(u->kind, "sum") == 0) return kernel_const(u->k, u->acc, 0);
  if (strcmp(u->kind, "prod") == 0) return kernel_const(u->k, u->acc, 1);
  return NULL;
}

static ir_value_t *reduce_unrolled(const unrolled_t *u, unsigned level) {
  if (level == u->n) {
    ir_value_t *scalar = lower_elem(u->k, u->op->in[0].value, u->at);
    return kernel_cast(u->k, scalar, u->acc);
  }
  ir_value_t *acc = neutral(u);
  for (int64_t i = 0; i < u->extent[level]; i++) {
    u->at[u->dim[level]] = kernel_int(u->k, i);
    ir_value_t *scalar = reduce_unrolled(u, level + 1);
    acc = acc == NULL ? scalar : combine(u, acc, scalar);
  }
  return acc;
}

/* One loop per reduced dimension, or per group of neighbours that merge. Those
 * of 1 get none and stay apart: an index into them is dropped from addresses.
 */
static ir_value_t *build_reduce(kernel_t *k, const ir_op_t *op, unsigned result,
                                ir_value_t *const *idx) {
  expr_pool_t *pool = k->module->exprs;
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK];
  const char *kind = form_of(op->code).kind;
  bool reduced[IR_MAX_RANK], keepdims;
  reduced_axes(op, reduced, &keepdims);
  kept_index(op, reduced, keepdims, idx, at);
  unrolled_t u = {.k = k,
                  .op = op,
                  .kind = kind,
                  .acc = accumulator(kind, x->type.dtype),
                  .at = at};
  if (can_unroll(op, reduced, &u)) {
    for (unsigned d = 0; d < x->type.rank; d++)
      if (reduced[d]) at[d] = kernel_int(k, 0);
    return kernel_cast(k, reduce_unrolled(&u, 0), op->out[result].type.dtype);
  }
  unsigned open = 0;
  bool lanes = lower_reduces_last(op);
  const expr_t *extent = expr_const(pool, 1);
  unsigned last = 0;
  for (unsigned d = 0; d < x->type.rank; d++) {
    if (!reduced[d]) continue;
    at[d] = kernel_int(k, 0);
    if (!is_one(x->type.dim[d])) last = d + 1;
  }
  for (unsigned d = 0; d < last; d++) {
    if (!reduced[d] || is_one(x->type.dim[d])) continue;
    extent = expr_mul(pool, extent, x->type.dim[d]);
    if (d + 1 < last && reduced[d + 1] && !is_one(x->type.dim[d + 1]) &&
        lower_merges(x, d))
      continue;
    ir_value_t *zero = kernel_int(k, 0);
    at[d] = kernel_reduce(k, kind, zero, kernel_size(k, extent),
                          lanes && d + 1 == last);
    extent = expr_const(pool, 1);
    open++;
  }
  ir_value_t *scalar = lower_elem(k, x, at);
  dtype_t acc = accumulator(kind, x->type.dtype);
  scalar = kernel_cast(k, scalar, acc);
  while (open-- > 0) scalar = kernel_close_reduce(k, scalar);
  return kernel_cast(k, scalar, op->out[result].type.dtype);
}

/* Builds a reduction as far out as its indices allow, once for equal indices.
 */
static ir_value_t *once(kernel_t *k, const ir_op_t *op, unsigned result,
                        ir_value_t *const *idx,
                        ir_value_t *(*build)(kernel_t *, const ir_op_t *,
                                             unsigned, ir_value_t *const *)) {
  const ir_value_t *tensor = &op->out[result];
  unsigned n = tensor->type.rank;
  ir_value_t *scalar = kernel_recall(k, tensor, n, idx);
  if (scalar != NULL) return scalar;
  kernel_hoisted_t saved;
  kernel_hoist(k, n, idx, &saved);
  scalar = build(k, op, result, idx);
  kernel_unhoist(k, &saved);
  kernel_remember(k, tensor, n, idx, scalar);
  return scalar;
}

static ir_value_t *elem_reduce(kernel_t *k, const ir_op_t *op, unsigned result,
                               ir_value_t *const *idx) {
  return once(k, op, result, idx, build_reduce);
}

/* Kept neighbours merge as in the operand. */
static bool merges_reduce(const ir_op_t *op, unsigned d) {
  const ir_value_t *x = op->in[0].value;
  bool reduced[IR_MAX_RANK], keepdims;
  reduced_axes(op, reduced, &keepdims);
  unsigned kept = 0;
  for (unsigned i = 0; i < x->type.rank; i++) {
    if (!keepdims && reduced[i]) continue;
    if (kept++ != d) continue;
    return i + 1 < x->type.rank && !reduced[i] && !reduced[i + 1] &&
           lower_merges(x, i);
  }
  return false;
}

const lowering_t lowering_reduce = {.elem = elem_reduce,
                                    .merges = merges_reduce};

/* ---- arg_max, arg_min ---------------------------------------------------- */

/* First the extreme value, then the first (or last) place that has it; a NaN is
 * more extreme than any number. */
static ir_value_t *build_arg_reduce(kernel_t *k, const ir_op_t *op,
                                    unsigned result, ir_value_t *const *idx) {
  bool max = op->code == OP_ARG_MAX;
  ir_value_t *x = op->in[0].value, *at[IR_MAX_RANK], *zero = kernel_int(k, 0);
  bool reduced[IR_MAX_RANK], keepdims;
  reduced_axes(op, reduced, &keepdims);
  kept_index(op, reduced, keepdims, idx, at);
  unsigned axis = 0;
  while (!reduced[axis]) axis++;
  bool lanes = lower_reduces_last(op);
  bool last = ir_get_int(op, max ? ATTR_ARG_MAX_select_last_index
                                 : ATTR_ARG_MIN_select_last_index) != 0;
  ir_value_t *n = kernel_size(k, x->type.dim[axis]);
  at[axis] = kernel_reduce(k, max ? "max" : "min", zero, n, lanes);
  ir_value_t *extreme = kernel_close_reduce(k, lower_elem(k, x, at));
  ir_value_t *i = kernel_reduce(k, last ? "max" : "min", zero, n, lanes);
  at[axis] = i;
  ir_value_t *scalar = lower_elem(k, x, at);
  ir_value_t *hit = kernel_binary(k, OP_EQ, scalar, extreme);
  if (dtype_is_float(x->type.dtype))
    hit = kernel_binary(k, OP_OR, hit, kernel_unary(k, OP_IS_NAN, scalar));
  ir_value_t *place = kernel_select(k, hit, i, last ? kernel_int(k, -1) : n);
  (void)result;
  return kernel_close_reduce(k, place);
}

static ir_value_t *elem_arg_reduce(kernel_t *k, const ir_op_t *op,
                                   unsigned result, ir_value_t *const *idx) {
  return once(k, op, result, idx, build_arg_reduce);
}

const lowering_t lowering_arg_reduce = {.elem = elem_arg_reduce,
                                        .merges = merges_reduce};

/* ---- cum_sum, cum_prod --------------------------------------------------- */

/* Plans a nest over all dimensions but `axis`, whose index the caller walks. */
static void plan_rows(lower_t *lo, nest_t *nest, const ir_value_t *x,
                      const ir_type_t *type, unsigned axis, nest_kind_t kind,
                      const expr_t **dim) {
  expr_pool_t *pool = lo->module->exprs;
  bool mergeable[IR_MAX_RANK] = {false};
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] = d == axis ? expr_const(pool, 1) : type->dim[d];
  for (unsigned d = 0; d + 1 < type->rank; d++)
    mergeable[d] =
        d != axis && d + 1 != axis && (x == NULL || lower_merges(x, d));
  nest_plan(lo->module, nest, type->rank, dim, mergeable, kind,
            type->dim[axis]);
}

static void root_scan(lower_t *lo, ir_op_t *op) {
  bool sum = op->code == OP_CUM_SUM;
  ir_value_t *x = op->in[0].value;
  const ir_type_t *type = &op->out[0].type;
  unsigned axis = normal_axis(
      ir_get_int(op, sum ? ATTR_CUM_SUM_axis : ATTR_CUM_PROD_axis), type->rank);
  bool reverse =
      ir_get_int(op, sum ? ATTR_CUM_SUM_reverse : ATTR_CUM_PROD_reverse) != 0;
  bool exclusive = ir_get_int(op, sum ? ATTR_CUM_SUM_exclusive
                                      : ATTR_CUM_PROD_exclusive) != 0;
  const expr_t *dim[IR_MAX_RANK];
  nest_t nest;
  plan_rows(lo, &nest, x, type, axis, NEST_CHUNKS, dim);

  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK], *acc;
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  nest_open(&k, &nest, true, idx);
  dtype_t acc_dtype = accumulator("sum", type->dtype);
  ir_value_t *n = kernel_size(&k, type->dim[axis]);
  ir_value_t *zero = kernel_int(&k, 0);
  ir_value_t *init = kernel_const(&k, acc_dtype, sum ? 0 : 1);
  ir_value_t *i = kernel_fold(&k, zero, n, init, &acc);
  idx[axis] = i;
  if (reverse)
    idx[axis] = kernel_binary(
        &k, OP_SUB, kernel_binary(&k, OP_SUB, n, kernel_int(&k, 1)), i);
  ir_value_t *scalar = kernel_cast(&k, lower_elem(&k, x, idx), acc_dtype);
  ir_value_t *next = kernel_binary(&k, sum ? OP_ADD : OP_MUL, acc, scalar);
  ir_value_t *at = lower_linear(&k, type, idx);
  kernel_store(&k, kernel_result(&k, 0), at,
               kernel_cast(&k, exclusive ? acc : next, type->dtype), NULL);
  kernel_close_fold(&k, next);
  ir_op_t *launched =
      lower_launch(lo, &k, "scan", 1, type, nest.units, nest.grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_scan = {.root = root_scan};

/* ---- greedy -------------------------------------------------------------- */

/* A unit walks one row of candidates in order; those that it took are read back
 * from the result. */
static void root_greedy(lower_t *lo, ir_op_t *op) {
  ir_value_t *x = op->in[0].value, *excluded = op->in[1].value;
  const ir_type_t *type = &op->out[0].type;
  unsigned last = type->rank - 1;
  const expr_t *dim[IR_MAX_RANK];
  nest_t nest;
  plan_rows(lo, &nest, NULL, type, last, NEST_CHUNKS, dim);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK], *pair[IR_MAX_RANK + 1], *at[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  nest_open(&k, &nest, false, idx);
  ir_value_t *zero = kernel_int(&k, 0), *one = kernel_int(&k, 1);
  ir_value_t *n = kernel_size(&k, type->dim[last]);
  idx[last] = kernel_for(&k, zero, n, false);
  ir_value_t *candidate = lower_elem(&k, x, idx);
  ir_value_t *j = kernel_reduce(&k, "max", zero, idx[last], false);
  for (unsigned d = 0; d < last; d++) at[d] = pair[d] = idx[d];
  pair[last] = idx[last];
  pair[last + 1] = at[last] = j;
  ir_value_t *taken =
      kernel_load_fresh(&k, kernel_result(&k, 0), lower_linear(&k, type, at));
  ir_value_t *both =
      kernel_binary(&k, OP_AND, taken, lower_elem(&k, excluded, pair));
  ir_value_t *hit = kernel_close_reduce(&k, kernel_select(&k, both, one, zero));
  ir_value_t *none = kernel_binary(&k, OP_LT, hit, one); /* also of nothing */
  ir_value_t *takes = kernel_binary(&k, OP_AND, candidate, none);
  kernel_store(&k, kernel_result(&k, 0), lower_linear(&k, type, idx), takes,
               NULL);
  kernel_close(&k);
  ir_op_t *launched =
      lower_launch(lo, &k, "greedy", 1, type, nest.units, nest.grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_greedy = {.root = root_greedy};

/* ---- softmax ------------------------------------------------------------- */

typedef struct soft_row {
  kernel_t *k;
  ir_value_t *x, **idx, *zero, *n;
  const ir_type_t *type;
  unsigned axis;
  dtype_t acc;
  bool lanes; /* the row itself is walked in lanes */
} soft_row_t;

static ir_value_t *soft_elem(const soft_row_t *r) {
  return kernel_cast(r->k, lower_elem(r->k, r->x, r->idx), r->acc);
}

/* f16 rounds after each step of softmax like ONNX's own function body, whose
 * results are otherwise two units away. */
static ir_value_t *soft_round(const soft_row_t *r, ir_value_t *scalar) {
  if (r->type->dtype != DT_F16) return scalar;
  return kernel_cast(r->k, kernel_cast(r->k, scalar, DT_F16), r->acc);
}

static void soft_store(const soft_row_t *r, ir_value_t *scalar) {
  kernel_t *k = r->k;
  ir_value_t *at = lower_linear(k, r->type, r->idx);
  kernel_store(k, kernel_result(k, 0), at,
               kernel_cast(k, scalar, r->type->dtype), NULL);
}

/* e = exp(x - max) is kept in the result when it has the accumulator's
 * precision, else computed twice; then e / sum, or x - max - log(sum). */
static void soft_row(const soft_row_t *r, bool log) {
  kernel_t *k = r->k;
  r->idx[r->axis] = kernel_reduce(k, "max", r->zero, r->n, r->lanes);
  ir_value_t *max = kernel_close_reduce(k, soft_elem(r));
  bool keep = !log && r->type->dtype == r->acc;

  r->idx[r->axis] = kernel_reduce(k, "sum", r->zero, r->n, r->lanes);
  ir_value_t *shifted = kernel_binary(k, OP_SUB, soft_elem(r), max);
  ir_value_t *e = kernel_unary(k, OP_EXP, shifted);
  if (!log) e = soft_round(r, e);
  if (keep) soft_store(r, e);
  ir_value_t *sum = kernel_close_reduce(k, e);
  sum = log ? kernel_unary(k, OP_LOG, sum) : soft_round(r, sum);

  r->idx[r->axis] = kernel_for(k, r->zero, r->n, r->lanes);
  ir_value_t *scalar;
  if (keep) {
    ir_value_t *at = lower_linear(k, r->type, r->idx);
    scalar = kernel_load_fresh(k, kernel_result(k, 0), at);
  } else {
    scalar = kernel_binary(k, OP_SUB, soft_elem(r), max);
    if (!log) scalar = soft_round(r, kernel_unary(k, OP_EXP, scalar));
  }
  soft_store(r, kernel_binary(k, log ? OP_SUB : OP_DIV, scalar, sum));
  kernel_close(k);
}

/* The length of a row in lanes: where it is short, the kernel is for that
 * length only, and has no loops. */
static ir_value_t *row_size(kernel_t *k, const expr_t *n, bool lanes) {
  enum { SHORT = 16 };
  int64_t value;
  return lanes && expr_is_const(n, &value) && value <= SHORT
             ? kernel_int(k, value)
             : kernel_size(k, n);
}

static void root_softmax(lower_t *lo, ir_op_t *op) {
  bool log = op->code == OP_LOG_SOFTMAX;
  ir_value_t *x = op->in[0].value;
  const ir_type_t *type = &op->out[0].type;
  unsigned axis = normal_axis(
      ir_get_int(op, log ? ATTR_LOG_SOFTMAX_axis : ATTR_SOFTMAX_axis),
      type->rank);
  bool lanes = true;
  for (unsigned d = axis + 1; d < type->rank; d++)
    lanes &= expr_equals_const(type->dim[d], 1);
  const expr_t *dim[IR_MAX_RANK];
  nest_t nest;
  plan_rows(lo, &nest, x, type, axis, lanes ? NEST_ROWS : NEST_CHUNKS, dim);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  nest_open(&k, &nest, !lanes, idx);
  soft_row_t row = {.k = &k,
                    .x = x,
                    .idx = idx,
                    .zero = kernel_int(&k, 0),
                    .n = row_size(&k, type->dim[axis], lanes),
                    .type = type,
                    .axis = axis,
                    .acc = accumulator("sum", type->dtype),
                    .lanes = lanes};
  soft_row(&row, log);
  ir_op_t *launched =
      lower_launch(lo, &k, "softmax", 1, type, nest.units, nest.grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_softmax = {.root = root_softmax};
