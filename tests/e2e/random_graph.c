/* Random small tensor graphs; see random_graph.h.
 *
 * Each value carries what is known of its elements: their largest size, whether
 * they are whole numbers, and how far correct compilations may be apart. Whole
 * numbers that are small enough make sums exact in every order; everything else
 * gets an error, which the operations after it pass on. */
#include "tests/e2e/random_graph.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "ir/build.h"
#include "ir/element.h"

enum { MAX_VALUES = 64, MAX_RANK = 4, SMALL = 4 };

typedef struct item {
  ir_value_t *value;
  double size;  /* no element is larger */
  double error; /* 0: the same bits everywhere */
  bool whole;   /* a float that is an integer */
} item_t;

typedef struct maker {
  random_t *r;
  ir_builder_t b;
  expr_pool_t *exprs;
  const expr_t *symbol[2];
  item_t item[MAX_VALUES];
  unsigned n;
} maker_t;

uint64_t random_next(random_t *r) {
  uint64_t x = r->state += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

unsigned random_below(random_t *r, unsigned n) {
  return (unsigned)(random_next(r) % n);
}

static unsigned pick(maker_t *m, unsigned n) { return random_below(m->r, n); }

static item_t *pick_item(maker_t *m) { return &m->item[pick(m, m->n)]; }

/* ---- What is known of values --------------------------------------------- */

static bool is_float(const item_t *x) {
  return dtype_is_float(x->value->type.dtype);
}

/* Whole numbers up to here are exact. */
static double whole_limit(dtype_t dtype) {
  switch (dtype) {
    case DT_F64:
      return 0x1p53;
    case DT_F32:
      return 0x1p24;
    case DT_F16:
      return 2048;
    case DT_BF16:
      return 256;
    default:
      return 0;
  }
}

static double epsilon(dtype_t dtype) {
  switch (dtype) {
    case DT_F64:
      return 0x1p-50;
    case DT_F32:
      return 0x1p-21;
    case DT_F16:
      return 0x1p-9;
    case DT_BF16:
      return 0x1p-6;
    default:
      return 0;
  }
}

static bool is_narrow(dtype_t dtype) {
  return dtype == DT_F16 || dtype == DT_BF16;
}

static double size_limit(dtype_t dtype) {
  return dtype == DT_F16 ? 30000 : 1e30;
}

/* Largest number of elements along a dimension, in all runs. */
static double longest(const expr_t *dim) {
  int64_t n;
  if (expr_is_const(dim, &n)) return (double)n;
  int64_t sizes[] = {GRAPH_MAX_SYMBOL, GRAPH_MAX_SYMBOL};
  return expr_evaluate(dim, sizes, &n) ? (double)n : 1e9;
}

static double count_of(const ir_type_t *type) {
  double count = 1;
  for (unsigned d = 0; d < type->rank; d++) count *= longest(type->dim[d]);
  return count;
}

/* Adds a result unless it is too large, too deep or too far off. */
static bool keep(maker_t *m, ir_value_t *value, double size, double error,
                 bool whole) {
  if (value == NULL) return false;
  dtype_t dtype = value->type.dtype;
  if (m->n == MAX_VALUES || value->type.rank > MAX_RANK ||
      count_of(&value->type) > 1e5)
    return false;
  if (!dtype_is_float(dtype)) {
    m->item[m->n++] = (item_t){value, fmin(size, 0x1p63), 0, true};
    return true;
  }
  if (!(size <= size_limit(dtype)) || error > 0.02 * fmax(size, 1))
    return false;
  /* Where 16-bit results are rounded is up to the compiler. */
  whole = whole && error == 0 && size <= whole_limit(dtype);
  if (is_narrow(dtype) && !whole) error += epsilon(dtype) * size;
  m->item[m->n++] = (item_t){value, size, error, whole};
  return true;
}

/* A rearrangement of x. */
static bool keep_like(maker_t *m, ir_value_t *value, const item_t *x) {
  item_t copy = *x;
  return keep(m, value, copy.size, copy.error, copy.whole);
}

/* ---- Elementwise operations ---------------------------------------------- */

static bool make_unary(maker_t *m) {
  static const ir_opcode_t codes[] = {OP_NEG,  OP_ABS,   OP_SIGN, OP_FLOOR,
                                      OP_CEIL, OP_TRUNC, OP_ROUND};
  item_t x = *pick_item(m);
  ir_opcode_t code = codes[pick(m, 7)];
  if (x.value->type.dtype == DT_BOOL)
    return keep(m, ir_unary(&m->b, OP_NOT, x.value), 1, 0, true);
  if (code != OP_NEG && code != OP_ABS && x.error > 0) return false;
  if (code != OP_NEG && code != OP_ABS && code != OP_SIGN && !is_float(&x))
    return false;
  bool whole = x.whole || (code != OP_NEG && code != OP_ABS);
  return keep(m, ir_unary(&m->b, code, x.value), x.size + 1, x.error, whole);
}

static bool make_function(maker_t *m) {
  static const ir_opcode_t codes[] = {OP_TANH, OP_SIGMOID, OP_EXP, OP_ERF,
                                      OP_SQRT};
  item_t x = *pick_item(m);
  ir_opcode_t code = codes[pick(m, 5)];
  if (!is_float(&x)) return false;
  double eps = epsilon(x.value->type.dtype);
  if (code == OP_SQRT) {
    if (x.error > 0) return false;
    ir_value_t *y = ir_unary(&m->b, OP_SQRT, ir_unary(&m->b, OP_ABS, x.value));
    return keep(m, y, sqrt(x.size) + 1, 0, false);
  }
  if (code == OP_EXP) {
    if (x.size > 8) return false;
    double size = exp(x.size);
    return keep(m, ir_unary(&m->b, code, x.value), size,
                size * (2 * x.error + eps), false);
  }
  return keep(m, ir_unary(&m->b, code, x.value), 1, 2 * x.error + eps, false);
}

/* Dimensions agree, or one of them is 1. */
static bool fits(const ir_value_t *x, const ir_value_t *y) {
  const ir_type_t *a = &x->type, *b = &y->type;
  unsigned n = a->rank < b->rank ? a->rank : b->rank;
  for (unsigned i = 1; i <= n; i++) {
    const expr_t *p = a->dim[a->rank - i], *q = b->dim[b->rank - i];
    if (p != q && !expr_equals_const(p, 1) && !expr_equals_const(q, 1))
      return false;
  }
  return true;
}

static bool pick_pair(maker_t *m, item_t *x, item_t *y) {
  *x = *pick_item(m);
  for (unsigned tries = 0; tries < 20; tries++) {
    *y = *pick_item(m);
    if (y->value->type.dtype == x->value->type.dtype &&
        fits(x->value, y->value))
      return true;
  }
  return false;
}

static bool make_logic(maker_t *m, const item_t *x, const item_t *y) {
  static const ir_opcode_t codes[] = {OP_AND, OP_OR, OP_XOR, OP_EQ};
  ir_opcode_t code = codes[pick(m, 4)];
  return keep(m, ir_binary(&m->b, code, x->value, y->value), 1, 0, true);
}

static bool make_integer_binary(maker_t *m, const item_t *x, const item_t *y) {
  static const ir_opcode_t codes[] = {OP_ADD,    OP_SUB,     OP_MUL, OP_DIV,
                                      OP_MOD,    OP_FMOD,    OP_MIN, OP_MAX,
                                      OP_BIT_OR, OP_BIT_AND, OP_SHL, OP_SHR};
  ir_value_t *z = ir_binary(&m->b, codes[pick(m, 12)], x->value, y->value);
  return keep(m, z, 0x1p63, 0, true);
}

static bool make_quotient(maker_t *m, const item_t *x, const item_t *y) {
  dtype_t dtype = x->value->type.dtype;
  ir_value_t *one = ir_scalar(&m->b, dtype, 1);
  ir_value_t *d =
      ir_binary(&m->b, OP_ADD, ir_unary(&m->b, OP_ABS, y->value), one);
  double error = x->error + x->size * y->error;
  if (error > 0) error += epsilon(dtype) * x->size;
  return keep(m, ir_binary(&m->b, OP_DIV, x->value, d), x->size, error, false);
}

static bool make_binary(maker_t *m) {
  item_t x, y;
  if (!pick_pair(m, &x, &y)) return false;
  if (x.value->type.dtype == DT_BOOL) return make_logic(m, &x, &y);
  if (!is_float(&x)) return make_integer_binary(m, &x, &y);
  double eps = epsilon(x.value->type.dtype), sum = x.error + y.error;
  double product = x.size * y.error + y.size * x.error;
  double larger = fmax(x.size, y.size);
  bool whole = x.whole && y.whole;
  if (sum > 0) sum += eps * 2 * larger;
  if (product > 0) product += eps * x.size * y.size;
  ir_builder_t *b = &m->b;
  switch (pick(m, 6)) {
    case 0:
      return keep(m, ir_binary(b, OP_ADD, x.value, y.value), 2 * larger, sum,
                  whole);
    case 1:
      return keep(m, ir_binary(b, OP_SUB, x.value, y.value), 2 * larger, sum,
                  whole);
    case 2:
      return keep(m, ir_binary(b, OP_MUL, x.value, y.value), x.size * y.size,
                  product, whole);
    case 3:
      return make_quotient(m, &x, &y);
    case 4:
      return keep(m, ir_binary(b, OP_MAX, x.value, y.value), larger, sum,
                  whole);
    default:
      return keep(m, ir_binary(b, OP_MIN, x.value, y.value), larger, sum,
                  whole);
  }
}

static bool make_comparison(maker_t *m) {
  static const ir_opcode_t codes[] = {OP_LT, OP_LE, OP_EQ};
  item_t x, y;
  if (!pick_pair(m, &x, &y) || x.error + y.error > 0) return false;
  ir_opcode_t code = x.value->type.dtype == DT_BOOL ? OP_EQ : codes[pick(m, 3)];
  return keep(m, ir_binary(&m->b, code, x.value, y.value), 1, 0, true);
}

static bool make_select(maker_t *m) {
  item_t x, y;
  if (!pick_pair(m, &x, &y)) return false;
  for (unsigned tries = 0; tries < 20; tries++) {
    item_t c = *pick_item(m);
    if (c.value->type.dtype != DT_BOOL || !fits(c.value, x.value) ||
        !fits(c.value, y.value))
      continue;
    return keep(m, ir_select(&m->b, c.value, x.value, y.value),
                fmax(x.size, y.size), fmax(x.error, y.error),
                x.whole && y.whole);
  }
  return false;
}

static bool make_cast(maker_t *m) {
  static const dtype_t types[] = {DT_F32, DT_F64, DT_F16, DT_BF16, DT_I32,
                                  DT_I64, DT_U8,  DT_I8,  DT_BOOL};
  item_t x = *pick_item(m);
  dtype_t to = types[pick(m, 9)], from = x.value->type.dtype;
  if (to == from) return false;
  if (!dtype_is_float(to))
    return x.error == 0 &&
           keep(m, ir_cast(&m->b, x.value, to), 0x1p63, 0, true);
  double error = x.error, size = x.size;
  bool is_wild = !dtype_is_float(from) && size > whole_limit(to);
  if (is_wild && is_narrow(to)) return false;
  if (error > 0) error += epsilon(to) * size;
  return keep(m, ir_cast(&m->b, x.value, to), size, error, x.whole && !is_wild);
}

/* ---- Movement ------------------------------------------------------------ */

static bool make_transpose(maker_t *m) {
  item_t x = *pick_item(m);
  unsigned rank = x.value->type.rank;
  int64_t perm[MAX_RANK];
  if (rank < 2) return false;
  for (unsigned d = 0; d < rank; d++) perm[d] = d;
  for (unsigned d = rank - 1; d > 0; d--) {
    unsigned e = pick(m, d + 1);
    int64_t t = perm[d];
    perm[d] = perm[e];
    perm[e] = t;
  }
  return keep_like(m, ir_transpose(&m->b, x.value, perm), &x);
}

static bool make_slice(maker_t *m) {
  item_t x = *pick_item(m);
  const ir_type_t *type = &x.value->type;
  int64_t n;
  if (type->rank == 0) return false;
  unsigned axis = pick(m, type->rank);
  const expr_t *dim = type->dim[axis], *start, *length, *step;
  if (!expr_is_const(dim, &n)) { /* backwards */
    start = expr_sub(m->exprs, dim, expr_const(m->exprs, 1));
    length = dim;
    step = expr_const(m->exprs, -1);
  } else {
    int64_t stride = 1 + pick(m, 3), room = (n + stride - 1) / stride;
    int64_t taken = pick(m, (unsigned)room + 1);
    int64_t last = taken > 0 ? (taken - 1) * stride : 0;
    int64_t first = n > last ? (int64_t)pick(m, (unsigned)(n - last)) : 0;
    bool back = pick(m, 3) == 0;
    start = expr_const(m->exprs, back ? first + last : first);
    length = expr_const(m->exprs, taken);
    step = expr_const(m->exprs, back ? -stride : stride);
  }
  return keep_like(m, ir_slice(&m->b, x.value, axis, start, length, step), &x);
}

/* Merges two dimensions, splits one, or adds or drops a 1. */
static bool make_reshape(maker_t *m) {
  item_t x = *pick_item(m);
  const ir_type_t *type = &x.value->type;
  const expr_t *dim[MAX_RANK + 1];
  unsigned n = 0, rank = type->rank;
  unsigned at = pick(m, rank + 1), how = pick(m, 4);
  int64_t size;
  for (unsigned d = 0; d < rank; d++) {
    const expr_t *e = type->dim[d];
    bool here = d == at;
    if (here && how == 0 && d + 1 < rank) {
      e = expr_mul(m->exprs, e, type->dim[++d]);
    } else if (here && how == 1 && expr_is_const(e, &size) && size > 0 &&
               size % 2 == 0) {
      dim[n++] = expr_const(m->exprs, 2);
      e = expr_const(m->exprs, size / 2);
    } else if (here && how == 2 && expr_equals_const(e, 1)) {
      continue;
    } else if (here) {
      dim[n++] = expr_const(m->exprs, 1);
    }
    dim[n++] = e;
  }
  if (n > MAX_RANK) return false;
  return keep_like(m, ir_reshape(&m->b, x.value, n, dim), &x);
}

static const expr_t *pick_dim(maker_t *m) {
  static const int64_t sizes[] = {1, 1, 2, 3, 4, 5, 8, 16, 17, 33};
  if (pick(m, 3) == 0) return m->symbol[pick(m, 2)];
  return expr_const(m->exprs, sizes[pick(m, 10)]);
}

static bool make_expand(maker_t *m) {
  item_t x = *pick_item(m);
  const ir_type_t *type = &x.value->type;
  const expr_t *dim[MAX_RANK];
  unsigned n = 0;
  if (type->rank < MAX_RANK && pick(m, 2) == 0) dim[n++] = pick_dim(m);
  for (unsigned d = 0; d < type->rank; d++)
    dim[n++] = expr_equals_const(type->dim[d], 1) ? pick_dim(m) : type->dim[d];
  return keep_like(m, ir_expand(&m->b, x.value, n, dim), &x);
}

static bool joins(const ir_type_t *a, const ir_type_t *b, unsigned axis) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (unsigned d = 0; d < a->rank; d++)
    if (d != axis && a->dim[d] != b->dim[d]) return false;
  return true;
}

static bool make_concat(maker_t *m) {
  item_t x = *pick_item(m);
  ir_value_t *part[3] = {x.value};
  unsigned n = 1, rank = x.value->type.rank;
  if (rank == 0) return false;
  unsigned axis = pick(m, rank);
  double size = x.size, error = x.error;
  bool whole = x.whole;
  for (unsigned tries = 0; tries < 30 && n < 3; tries++) {
    item_t y = *pick_item(m);
    if (!joins(&x.value->type, &y.value->type, axis)) continue;
    part[n++] = y.value;
    size = fmax(size, y.size);
    error = fmax(error, y.error);
    whole = whole && y.whole;
  }
  return keep(m, ir_concat(&m->b, n, part, axis), size, error, whole);
}

/* Indices in range by construction, but for an axis that is empty. */
static ir_value_t *make_index(maker_t *m, const expr_t *dim) {
  int64_t n, index[3];
  if (expr_is_const(dim, &n) && n > 0 && pick(m, 2) == 0) {
    for (unsigned i = 0; i < 3; i++)
      index[i] = (int64_t)pick(m, 2 * (unsigned)n) - n;
    return ir_ints(&m->b, 1 + pick(m, 3), index);
  }
  for (unsigned tries = 0; tries < 20; tries++) {
    item_t x = *pick_item(m);
    if (x.value->type.dtype == DT_I64 && x.value->type.rank < 3)
      return ir_binary(&m->b, OP_MOD, x.value, ir_expr_scalar(&m->b, dim));
  }
  return NULL;
}

static bool make_gather(maker_t *m) {
  item_t x = *pick_item(m);
  unsigned rank = x.value->type.rank;
  if (rank == 0) return false;
  unsigned axis = pick(m, rank);
  ir_value_t *index = make_index(m, x.value->type.dim[axis]);
  if (index == NULL || index->type.rank + rank - 1 > MAX_RANK) return false;
  return keep_like(m, ir_gather(&m->b, x.value, index, axis), &x);
}

/* ---- Reductions, scans, products ----------------------------------------- */

/* The sum of `count` elements up to `size`, each off by `error`. */
static bool keep_sum(maker_t *m, ir_value_t *y, double count, double size,
                     double error, bool whole) {
  if (y == NULL) return false;
  dtype_t dtype = y->type.dtype;
  double total = count * size;
  if (!dtype_is_float(dtype)) return keep(m, y, 0x1p63, 0, true);
  double exact = whole_limit(is_narrow(dtype) ? DT_F32 : dtype);
  if (whole && error == 0 && total <= exact) return keep(m, y, total, 0, true);
  double eps = epsilon(is_narrow(dtype) ? DT_F32 : dtype);
  return keep(m, y, total, count * (error + eps * (size + total / 8)), false);
}

static bool make_reduce(maker_t *m) {
  static const ir_opcode_t codes[] = {OP_REDUCE_SUM, OP_REDUCE_SUM,
                                      OP_REDUCE_MAX, OP_REDUCE_MIN,
                                      OP_REDUCE_PROD};
  item_t x = *pick_item(m);
  const ir_type_t *type = &x.value->type;
  int64_t axes[MAX_RANK];
  unsigned n = 0;
  double count = 1;
  if (type->rank == 0 || type->dtype == DT_BOOL) return false;
  for (unsigned d = 0; d < type->rank; d++) {
    if (pick(m, 2) == 0 && !(n == 0 && d + 1 == type->rank)) continue;
    axes[n++] = d;
    count *= longest(type->dim[d]);
  }
  ir_opcode_t code = codes[pick(m, 5)];
  if (code == OP_REDUCE_PROD && is_float(&x)) code = OP_REDUCE_MAX;
  ir_value_t *y = ir_reduce(&m->b, code, x.value, n, axes, pick(m, 2) == 0);
  if (code == OP_REDUCE_SUM)
    return keep_sum(m, y, count, x.size, x.error, x.whole);
  if (!is_float(&x)) return keep(m, y, 0x1p63, 0, true);
  /* Of nothing the extremes are infinite. */
  ir_value_t *low = ir_scalar(&m->b, type->dtype, -8);
  ir_value_t *high = ir_scalar(&m->b, type->dtype, 8);
  y = code == OP_REDUCE_MAX ? ir_binary(&m->b, OP_MAX, y, low)
                            : ir_binary(&m->b, OP_MIN, y, high);
  return keep(m, y, fmax(x.size, 8), x.error, x.whole);
}

static bool make_scan(maker_t *m) {
  item_t x = *pick_item(m);
  ir_value_t *in = x.value;
  if (in->type.rank == 0 || in->type.dtype == DT_BOOL) return false;
  unsigned axis = pick(m, in->type.rank);
  ir_op_t *op = ir_begin(&m->b, OP_CUM_SUM, 1, &in, 1);
  if (op == NULL) return false;
  ir_set_int(op, ATTR_CUM_SUM_axis, axis);
  ir_set_int(op, ATTR_CUM_SUM_exclusive, pick(m, 2));
  ir_set_int(op, ATTR_CUM_SUM_reverse, pick(m, 2));
  return keep_sum(m, ir_place(&m->b, op), longest(in->type.dim[axis]), x.size,
                  x.error, x.whole);
}

static bool make_softmax(maker_t *m) {
  item_t x = *pick_item(m);
  ir_value_t *in = x.value;
  if (in->type.rank == 0 || !is_float(&x) || x.error > 0.01) return false;
  unsigned axis = pick(m, in->type.rank);
  ir_op_t *op = ir_begin(&m->b, OP_SOFTMAX, 1, &in, 1);
  if (op == NULL) return false;
  ir_set_int(op, ATTR_SOFTMAX_axis, axis);
  double eps = epsilon(in->type.dtype) * fmax(longest(in->type.dim[axis]), 8);
  return keep(m, ir_place(&m->b, op), 1, 4 * x.error + eps, false);
}

static bool make_arg(maker_t *m) {
  item_t x = *pick_item(m);
  ir_value_t *in = x.value;
  int64_t n;
  if (in->type.rank == 0 || in->type.dtype == DT_BOOL || x.error > 0)
    return false;
  unsigned axis = pick(m, in->type.rank);
  if (!expr_is_const(in->type.dim[axis], &n) || n == 0) return false;
  ir_op_t *op = ir_begin(&m->b, OP_ARG_MAX, 1, &in, 1);
  if (op == NULL) return false;
  ir_set_int(op, ATTR_ARG_MAX_axis, axis);
  ir_set_int(op, ATTR_ARG_MAX_keepdims, pick(m, 2));
  ir_set_int(op, ATTR_ARG_MAX_select_last_index, pick(m, 2));
  return keep(m, ir_place(&m->b, op), 0x1p31, 0, true);
}

static ir_value_t *swap_last(maker_t *m, ir_value_t *x) {
  int64_t perm[MAX_RANK];
  unsigned rank = x->type.rank;
  for (unsigned d = 0; d < rank; d++) perm[d] = d;
  perm[rank - 2] = rank - 1;
  perm[rank - 1] = rank - 2;
  return ir_transpose(&m->b, x, perm);
}

/* Batch dimensions broadcast. */
static bool batches_fit(const ir_type_t *a, const ir_type_t *b) {
  for (unsigned i = 3; i <= a->rank && i <= b->rank; i++) {
    const expr_t *p = a->dim[a->rank - i], *q = b->dim[b->rank - i];
    if (p != q && !expr_equals_const(p, 1) && !expr_equals_const(q, 1))
      return false;
  }
  return true;
}

/* The second operand of a product with a[.., k], or NULL. */
static ir_value_t *fit_factor(maker_t *m, const ir_type_t *a,
                              const ir_value_t *y) {
  const ir_type_t *b = &y->type;
  const expr_t *k = a->dim[a->rank - 1];
  if (b->rank < 2 || !batches_fit(a, b)) return NULL;
  if (b->dim[b->rank - 2] == k) return (ir_value_t *)y;
  return b->dim[b->rank - 1] == k ? swap_last(m, (ir_value_t *)y) : NULL;
}

static bool make_matmul(maker_t *m) {
  item_t x = *pick_item(m);
  const ir_type_t *a = &x.value->type;
  if (a->rank < 2 || a->dtype == DT_BOOL || dtype_bits(a->dtype) == 8)
    return false;
  const expr_t *k = a->dim[a->rank - 1];
  for (unsigned tries = 0; tries < 30; tries++) {
    item_t y = *pick_item(m);
    if (y.value->type.dtype != a->dtype) continue;
    ir_value_t *other = fit_factor(m, a, y.value);
    if (other == NULL) continue;
    return keep_sum(m, ir_matmul(&m->b, x.value, other), longest(k),
                    x.size * y.size, x.size * y.error + y.size * x.error,
                    x.whole && y.whole);
  }
  return false;
}

/* Bytes of either signedness, summed in i32. */
static bool make_byte_matmul(maker_t *m) {
  static const dtype_t types[] = {DT_U8, DT_I8};
  item_t x = *pick_item(m);
  if (x.value->type.rank < 2 || x.error != 0) return false;
  for (unsigned tries = 0; tries < 30; tries++) {
    item_t y = *pick_item(m);
    ir_value_t *other =
        y.error != 0 ? NULL : fit_factor(m, &x.value->type, y.value);
    if (other == NULL) continue;
    ir_value_t *a = ir_cast(&m->b, x.value, types[pick(m, 2)]);
    ir_value_t *b = ir_cast(&m->b, other, types[pick(m, 2)]);
    ir_op_t *op = ir_begin(&m->b, OP_MATMUL, 2, (ir_value_t *[]){a, b}, 1);
    ir_set_dtype(op, ATTR_MATMUL_out_dtype, DT_I32);
    return keep(m, ir_place(&m->b, op), 0x1p63, 0, true);
  }
  return false;
}

/* ---- The whole ----------------------------------------------------------- */

typedef bool (*make_fn)(maker_t *m);
static const make_fn makers[] = {
    make_unary,      make_function, make_binary,      make_binary,
    make_binary,     make_binary,   make_matmul,      make_matmul,
    make_comparison, make_select,   make_byte_matmul, make_cast,
    make_transpose,  make_slice,    make_reshape,     make_expand,
    make_concat,     make_gather,   make_reduce,      make_reduce,
    make_scan,       make_softmax,  make_arg};
enum { N_MAKERS = sizeof makers / sizeof makers[0] };

/* Inputs are parts of one shape, so that many of them fit each other. */
static void make_inputs(maker_t *m, graph_t *g) {
  static const dtype_t types[] = {DT_F32,  DT_F32, DT_F32, DT_F16,
                                  DT_BF16, DT_F64, DT_I32, DT_I64};
  const expr_t *shape[MAX_RANK], **dim;
  unsigned rank = 1 + pick(m, MAX_RANK);
  dtype_t main_type = types[pick(m, 8)];
  for (unsigned d = 0; d < rank; d++) shape[d] = pick_dim(m);
  g->n_inputs = 2 + pick(m, GRAPH_MAX_INPUTS - 1);
  for (unsigned i = 0; i < g->n_inputs; i++) {
    dim = ARENA_ARRAY(m->b.module->arena, const expr_t *, MAX_RANK);
    unsigned first = i == 0 ? 0 : pick(m, rank + 1), n = 0;
    for (unsigned d = first; d < rank; d++)
      dim[n++] = i > 0 && pick(m, 4) == 0 ? expr_const(m->exprs, 1) : shape[d];
    dtype_t dtype = pick(m, 3) > 0 ? main_type : types[pick(m, 8)];
    g->input[i] = ir_tensor_type(dtype, n, dim);
    g->wild[i] = !dtype_is_float(dtype) && pick(m, 3) == 0;
  }
}

static void add_inputs(maker_t *m, const graph_t *g, ir_func_t *func) {
  for (unsigned i = 0; i < g->n_inputs; i++)
    m->item[m->n++] = (item_t){&func->body.args[i],
                               g->wild[i] ? 0x1p63 : (double)SMALL, 0, true};
}

static void add_outputs(maker_t *m, graph_t *g) {
  ir_value_t *result[GRAPH_MAX_OUTPUTS];
  g->n_outputs = 1 + pick(m, GRAPH_MAX_OUTPUTS);
  for (unsigned i = 0; i < g->n_outputs; i++) {
    /* Mostly late ones, the last one first; any one now and then. */
    unsigned back = i == 0 ? 0 : pick(m, m->n < 6 ? m->n : 6);
    const item_t *x =
        pick(m, 8) == 0 ? pick_item(m) : &m->item[m->n - 1 - back];
    result[i] = x->value;
    g->output[i] = (graph_output_t){x->value->type.dtype, x->error};
  }
  ir_append(m->b.region, ir_op_create(m->b.module, OP_RETURN, (ir_loc_t){0},
                                      g->n_outputs, result, 0));
}

void graph_build(random_t *r, arena_t *arena, diag_sink_t *diag,
                 graph_t *out_graph) {
  graph_t *g = out_graph;
  *g = (graph_t){.module = ir_module_create(arena, "random")};
  maker_t m = {.r = r, .exprs = g->module->exprs};
  m.symbol[0] = expr_new_symbol(m.exprs, "B", 0, NULL);
  m.symbol[1] = expr_new_symbol(m.exprs, "S", 0, NULL);
  m.b = (ir_builder_t){.module = g->module, .diag = diag};
  make_inputs(&m, g);
  ir_func_t *func =
      ir_func_create(g->module, "main", IR_FUNC_MAIN, g->n_inputs, g->input);
  m.b.region = &func->body;
  add_inputs(&m, g, func);
  unsigned wanted = 3 + pick(&m, 14);
  for (unsigned made = 0, tries = 0; made < wanted && tries < 400; tries++)
    made += makers[pick(&m, N_MAKERS)](&m);
  if (m.b.status != MOEC_OK) MOEC_BUG("the generator made a graph that fails");
  add_outputs(&m, g);
}

void graph_fill_input(random_t *r, const graph_t *graph, unsigned input,
                      void *bytes, uint64_t count) {
  dtype_t dtype = graph->input[input].dtype;
  for (uint64_t i = 0; i < count; i++) {
    int64_t v = (int64_t)random_below(r, 2 * SMALL + 1) - SMALL;
    if (graph->wild[input] && random_below(r, 3) == 0)
      v = random_below(r, 4) == 0 ? INT64_MIN >> (64 - (int)dtype_bits(dtype))
                                  : (int64_t)random_next(r);
    ir_element_set_int(dtype, bytes, i, v);
  }
}
