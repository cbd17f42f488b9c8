/* Bounds of values, backwards from a value, each value once. */
#include <math.h>
#include <string.h>

#include "passes/moe_prune.h"
#include "passes/rules.h"

enum {
  MAX_DEPTH = 64,
  MAX_VALUES = 4096, /* looked at for one question */
  SLOTS = 64,
};
#define MAX_WIDTH (INT64_C(1) << 20)
#define MAX_WORK (INT64_C(1) << 23)
#define MAX_ELEMENTS (INT64_C(1) << 24) /* of a constant that is looked at */

typedef struct known {
  const ir_value_t *value;
  prune_ranges_t ranges;
  struct known *next;
} known_t;

struct prune_bounds {
  arena_t *arena;
  prune_scope_t scope;
  prune_bounds_t *outside; /* of a scope: of values outside of its region */
  const ir_value_t *index; /* of gathers that take one row .. */
  int64_t row;             /* .. of constant tables; NULL: any row */
  unsigned depth, n_values;
  int64_t *work;     /* weights that may be looked at one by one */
  unsigned products; /* that may stand behind a value, one behind the other */
  known_t *table[SLOTS];
};

static const prune_range_t anything = {-PRUNE_ANY, PRUNE_ANY};
static const prune_range_t zero = {0, 0};

prune_bounds_t *prune_bounds_create(arena_t *arena, unsigned products) {
  prune_bounds_t *bounds = ARENA_NEW(arena, prune_bounds_t);
  bounds->arena = arena;
  bounds->products = products;
  bounds->work = ARENA_NEW(arena, int64_t);
  *bounds->work = MAX_WORK;
  return bounds;
}

prune_bounds_t *prune_bounds_within(arena_t *arena, prune_scope_t scope,
                                    prune_bounds_t *outside) {
  prune_bounds_t *bounds = prune_bounds_create(arena, MAX_DEPTH);
  bounds->scope = scope;
  bounds->outside = outside;
  bounds->work = outside->work;
  return bounds;
}

prune_bounds_t *prune_bounds_of_row(arena_t *arena, const ir_value_t *index,
                                    int64_t row) {
  prune_bounds_t *bounds = prune_bounds_create(arena, MAX_DEPTH);
  bounds->index = index;
  bounds->row = row;
  return bounds;
}

arena_t *prune_arena(const prune_bounds_t *bounds) { return bounds->arena; }

static prune_ranges_t all_in(prune_bounds_t *b, prune_range_t range) {
  prune_range_t *one = ARENA_NEW(b->arena, prune_range_t);
  *one = range;
  return (prune_ranges_t){1, one};
}

static prune_ranges_t unknown(void) { return (prune_ranges_t){1, &anything}; }

static prune_range_t hull(prune_range_t a, prune_range_t b) {
  if (isnan(a.lo)) return a;
  if (isnan(b.lo)) return b;
  return (prune_range_t){fmin(a.lo, b.lo), fmax(a.hi, b.hi)};
}

static prune_range_t hull_of(const prune_ranges_t *r) {
  prune_range_t all = r->range[0];
  for (int64_t i = 1; i < r->n; i++) all = hull(all, r->range[i]);
  return all;
}

/* The size of the last axis; 0 where it is not known or too large. */
static int64_t width_of(const ir_value_t *v) {
  int64_t n;
  unsigned rank = v->type.rank;
  if (rank == 0 || !expr_is_const(v->type.dim[rank - 1], &n) || n < 1 ||
      n > MAX_WIDTH)
    return 0;
  return n;
}

/* ---- Constants ----------------------------------------------------------- */

static bool next_index(const prune_array_t *a, int64_t *index) {
  for (unsigned d = a->rank; d-- > 0;) {
    if (++index[d] < a->dim[d]) return true;
    index[d] = 0;
  }
  return false;
}

static prune_ranges_t of_array(prune_bounds_t *b, const prune_array_t *a) {
  int64_t index[IR_MAX_RANK] = {0}, count = 1;
  int64_t n = a->rank > 0 ? a->dim[a->rank - 1] : 1;
  for (unsigned d = 0; d < a->rank; d++) count *= a->dim[d];
  if (count == 0 || count > MAX_ELEMENTS || n > MAX_WIDTH) return unknown();
  prune_range_t *range = ARENA_ARRAY(b->arena, prune_range_t, (size_t)n);
  int64_t at = 0;
  do {
    double x = prune_at(a, index);
    prune_range_t *r = &range[at % n];
    prune_range_t here =
        x == INFINITY ? (prune_range_t){NAN, NAN} : (prune_range_t){x, x};
    *r = at < n ? here : hull(*r, here);
    at++;
  } while (next_index(a, index));
  return (prune_ranges_t){n, range};
}

/* ---- Operations ---------------------------------------------------------- */

static prune_ranges_t elementwise(prune_bounds_t *b, const ir_op_t *op) {
  prune_ranges_t in[3];
  int64_t n = 1, width = width_of(op->out);
  if (op->n_in > 3 || !dtype_is_float(op->out->type.dtype)) return unknown();
  for (unsigned i = 0; i < op->n_in; i++) {
    in[i] = prune_ranges_of(b, op->in[i].value);
    if (in[i].n > n) n = in[i].n;
  }
  if (n != 1 && n != width) return unknown();
  prune_range_t *range = ARENA_ARRAY(b->arena, prune_range_t, (size_t)n);
  bool square = op->code == OP_MUL && op->in[0].value == op->in[1].value;
  for (int64_t i = 0; i < n; i++) {
    prune_range_t x = prune_range_at(&in[0], i);
    prune_range_t y = op->n_in > 1 ? prune_range_at(&in[1], i) : anything;
    if (op->code == OP_SELECT) {
      prune_range_t z = prune_range_at(&in[2], i);
      range[i] = x.lo == x.hi ? (x.lo != 0 ? y : z) : hull(y, z);
    } else {
      range[i] = prune_compute(square ? OP_POW : op->code, op->out->type.dtype,
                               x, square ? (prune_range_t){2, 2} : y);
    }
  }
  return (prune_ranges_t){n, range};
}

static prune_ranges_t softmax(prune_bounds_t *b, const ir_op_t *op) {
  int64_t n = width_of(op->out), axis = ir_get_int(op, ATTR_SOFTMAX_axis);
  if (n == 0 || (axis != -1 && axis != (int64_t)op->out->type.rank - 1))
    return all_in(b, (prune_range_t){0, 1});
  prune_ranges_t in = prune_ranges_of(b, op->in[0].value);
  prune_range_t *range = ARENA_ARRAY(b->arena, prune_range_t, (size_t)n);
  for (int64_t i = 0; i < n; i++) range[i] = prune_range_at(&in, i);
  prune_softmax(op->out->type.dtype, n, range);
  return (prune_ranges_t){n, range};
}

/* Values are those of the operand; the last axis is, too, or all are mixed. */
static prune_ranges_t moved(prune_bounds_t *b, const ir_op_t *op,
                            bool keeps_last) {
  prune_ranges_t in = prune_ranges_of(b, op->in[0].value);
  if (in.n == 1) return in;
  return keeps_last ? in : all_in(b, hull_of(&in));
}

static bool keeps_last(const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out->type;
  unsigned n;
  if (in->rank == 0 || out->rank == 0) return false;
  if (op->code == OP_TRANSPOSE) {
    const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
    return perm[n - 1] == (int64_t)n - 1;
  }
  return in->dim[in->rank - 1] == out->dim[out->rank - 1];
}

static prune_ranges_t slice(prune_bounds_t *b, const ir_op_t *op) {
  unsigned m;
  int64_t start, step, n = width_of(op->out);
  prune_ranges_t in = prune_ranges_of(b, op->in[0].value);
  const expr_t *const *starts = ir_get_exprs(op, ATTR_SLICE_start, &m);
  const expr_t *const *steps = ir_get_exprs(op, ATTR_SLICE_step, &m);
  if (in.n == 1) return in;
  if (n == 0 || !expr_is_const(starts[m - 1], &start) ||
      !expr_is_const(steps[m - 1], &step))
    return all_in(b, hull_of(&in));
  prune_range_t *range = ARENA_ARRAY(b->arena, prune_range_t, (size_t)n);
  for (int64_t i = 0; i < n; i++) range[i] = in.range[start + i * step];
  return (prune_ranges_t){n, range};
}

static prune_ranges_t concat(prune_bounds_t *b, const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_CONCAT_axis), rank = op->out->type.rank;
  int64_t n = width_of(op->out), at = 0;
  if (n == 0) return unknown();
  bool last = axis == -1 || axis == rank - 1;
  prune_range_t *range = ARENA_ARRAY(b->arena, prune_range_t, (size_t)n);
  for (unsigned i = 0; i < op->n_in; i++) {
    prune_ranges_t in = prune_ranges_of(b, op->in[i].value);
    int64_t part = last ? width_of(op->in[i].value) : n;
    if (part == 0) return unknown();
    for (int64_t j = 0; j < part; j++) {
      prune_range_t r = prune_range_at(&in, j);
      if (last)
        range[at++] = r;
      else
        range[j] = i == 0 ? r : hull(range[j], r);
    }
  }
  return (prune_ranges_t){n, range};
}

/* Products of an operand that is zero are zero, sums of zeros too. */
static prune_ranges_t zero_of_zeros(prune_bounds_t *b, const ir_op_t *op) {
  bool is_zero = false;
  for (unsigned i = 0; i < op->n_in; i++) {
    prune_ranges_t in = prune_ranges_of(b, op->in[i].value);
    prune_range_t all = hull_of(&in);
    if (isnan(all.lo) || all.lo == -INFINITY) return unknown();
    is_zero = is_zero || prune_is_zero(all);
  }
  return is_zero ? all_in(b, zero) : unknown();
}

static prune_ranges_t gather(prune_bounds_t *b, const ir_op_t *op) {
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  int64_t rank = op->in[0].value->type.rank;
  prune_array_t table;
  if (axis < 0) axis += rank;
  if (b->index == NULL || op->in[1].value != b->index || axis != 0 ||
      rank != 2 || !prune_find_array(&b->scope, op->in[0].value, &table) ||
      b->row >= table.dim[0])
    return moved(b, op, axis != rank - 1);
  table.offset += b->row * table.stride[0];
  table.dim[0] = 1;
  return of_array(b, &table);
}

/* Along the last axis: of n numbers, in any order. */
static prune_ranges_t reduce_sum(prune_bounds_t *b, const ir_op_t *op) {
  unsigned n_axes;
  const ir_value_t *x = op->in[0].value;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n_axes);
  int64_t n = width_of(x);
  dtype_t dtype = op->out->type.dtype;
  if (n == 0 || n_axes != 1 || axes[0] != (int64_t)x->type.rank - 1 ||
      (dtype != DT_F32 && dtype != DT_F64))
    return zero_of_zeros(b, op);
  prune_ranges_t in = prune_ranges_of(b, x);
  prune_range_t sum = {0, 0};
  double size = 0;
  for (int64_t i = 0; i < n; i++) {
    prune_range_t r = prune_range_at(&in, i);
    if (!prune_is_bounded(r)) return zero_of_zeros(b, op);
    sum.lo += r.lo;
    sum.hi += r.hi;
    size += fmax(fabs(r.lo), fabs(r.hi));
  }
  double slack = size * ((double)n + 16) * 0x1p-23;
  sum.lo -= slack;
  sum.hi += slack;
  return all_in(b, prune_widen(dtype, sum));
}

static prune_ranges_t matmul(prune_bounds_t *b, const ir_op_t *op) {
  prune_array_t w;
  prune_domain_t domain;
  dtype_t dtype = op->out->type.dtype;
  if (!prune_find_array(&b->scope, op->in[1].value, &w) || w.rank != 2 ||
      w.dim[1] < 1 || w.dim[1] > MAX_WIDTH || !dtype_is_float(dtype))
    return zero_of_zeros(b, op);
  if (b->products == 0) return unknown();
  b->products--;
  prune_domain_of(b, op->in[0].value, &domain);
  b->products++;
  int64_t K = w.dim[0], n = w.dim[1];
  prune_range_t *range = ARENA_ARRAY(b->arena, prune_range_t, (size_t)n);
  double *column = ARENA_ARRAY(b->arena, double, (size_t)K + 1), slack;
  if (domain.n != K || (b->outside != NULL && b->outside->products == 0))
    domain.is_ball = false;
  domain.n = K;
  bool limited = prune_is_limited(&domain);
  if (limited && K > *b->work / n) {
    domain = (prune_domain_t){.n = K, .box = unknown()};
    limited = false;
  }
  for (int64_t j = 0; j < n; j++) {
    bool open = false; /* something of any size has a weight */
    int64_t k = 0;
    for (; k < K && !open; k++) {
      column[k] = prune_at(&w, (const int64_t[]){k, j});
      open = column[k] != 0 && !domain.is_ball &&
             !prune_is_bounded(prune_range_at(&domain.box, k));
    }
    *b->work -= limited ? k : 0;
    range[j] = open ? anything : prune_dot(&domain, dtype, column, &slack);
  }
  return (prune_ranges_t){n, range};
}

static prune_ranges_t of_op(prune_bounds_t *b, const ir_op_t *op) {
  prune_array_t array;
  if (op->code == OP_CONSTANT)
    return prune_find_array(&b->scope, op->out, &array) ? of_array(b, &array)
                                                        : unknown();
  if (op->n_in == 0 || op->in[0].value == NULL) return unknown();
  if (ir_has_trait(op, ELEMENTWISE)) return elementwise(b, op);
  switch (op->code) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_EXPAND:
      return moved(b, op, keeps_last(op));
    case OP_SLICE:
      return slice(b, op);
    case OP_CONCAT:
      return concat(b, op);
    case OP_GATHER:
      return gather(b, op);
    case OP_SOFTMAX:
      return softmax(b, op);
    case OP_MATMUL:
      return matmul(b, op);
    case OP_REDUCE_SUM:
      return reduce_sum(b, op);
    case OP_CONVOLVE:
      return zero_of_zeros(b, op);
    default:
      return unknown();
  }
}

const ir_value_t *prune_token_value(const prune_bounds_t *b,
                                    const ir_value_t *v) {
  const ir_op_t *experts = b->scope.experts;
  if (v->def != NULL || experts == NULL ||
      v->region != &experts->regions[b->scope.region] ||
      v->index >= (unsigned)ir_get_int(experts, ATTR_MOE_EXPERTS_token_values))
    return v;
  return prune_operand(&b->scope, v->index);
}

static prune_ranges_t of_argument(prune_bounds_t *b, const ir_value_t *v) {
  prune_array_t array;
  const ir_op_t *experts = b->scope.experts;
  if (experts == NULL || v->region != &experts->regions[b->scope.region])
    return unknown();
  const ir_value_t *token = prune_token_value(b, v);
  if (token != v) return prune_ranges_of(b->outside, token);
  return prune_find_array(&b->scope, v, &array) ? of_array(b, &array)
                                                : unknown();
}

prune_ranges_t prune_ranges_of(prune_bounds_t *b, const ir_value_t *v) {
  known_t **slot = &b->table[((uintptr_t)v >> 4) % SLOTS];
  for (known_t *k = *slot; k != NULL; k = k->next)
    if (k->value == v) return k->ranges;
  if (v->type.kind != IR_TENSOR || b->depth >= MAX_DEPTH ||
      b->n_values >= MAX_VALUES)
    return unknown();
  if (b->outside != NULL &&
      ir_home(v) != &b->scope.experts->regions[b->scope.region])
    return prune_ranges_of(b->outside, v);
  b->depth++;
  b->n_values++;
  known_t *entry = ARENA_NEW(b->arena, known_t);
  entry->value = v;
  entry->ranges = v->def != NULL ? of_op(b, v->def) : of_argument(b, v);
  b->depth--;
  entry->next = *slot;
  *slot = entry;
  return entry->ranges;
}
