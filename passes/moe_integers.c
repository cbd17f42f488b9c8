/* Which integers a value can have: as experts' numbers, these say how many
 * experts there are at most, and that each is one. */
#include "passes/moe_integers.h"

#include "ir/element.h"
#include "passes/rules.h"

enum { MAX_DEPTH = 24, MAX_STEPS = 1000, MAX_LOOKED_AT = 1 << 22 };

static const moe_integers_t unknown = {INT64_MIN, INT64_MAX};

static bool is_known(moe_integers_t r) {
  return r.lo != INT64_MIN && r.hi != INT64_MAX;
}

static moe_integers_t both(moe_integers_t a, moe_integers_t b) {
  return (moe_integers_t){a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
}

/* What a type can hold; of 64 bits nothing is known. */
static moe_integers_t of_type(dtype_t dtype) {
  if (dtype == DT_BOOL) return (moe_integers_t){0, 1};
  unsigned bits = dtype_bits(dtype);
  if (!dtype_is_integer(dtype) || bits > 32) return unknown;
  if (dtype_class(dtype) == DT_CLASS_UNSIGNED)
    return (moe_integers_t){0, (INT64_C(1) << bits) - 1};
  return (moe_integers_t){-(INT64_C(1) << (bits - 1)),
                          (INT64_C(1) << (bits - 1)) - 1};
}

/* What is computed, unless the type may wrap it around. */
static moe_integers_t within(moe_integers_t r, dtype_t dtype) {
  const moe_integers_t type = of_type(dtype);
  bool is_unsigned = dtype_class(dtype) == DT_CLASS_UNSIGNED;
  if (!is_known(type)) return is_unsigned ? unknown : r;
  return r.lo >= type.lo && r.hi <= type.hi ? r : type;
}

static moe_integers_t of_constant(const ir_value_t *value) {
  const ir_data_t *data = ir_get_data(value->def, ATTR_CONSTANT_data);
  int64_t n;
  if (data->bytes == NULL || data->strings != NULL ||
      !ir_type_static_count(&value->type, &n) || n < 1 || n > MAX_LOOKED_AT)
    return unknown;
  moe_integers_t r = {INT64_MAX, INT64_MIN};
  for (int64_t i = 0; i < n; i++) {
    int64_t x = ir_element_int(value->type.dtype, data->bytes, (uint64_t)i);
    r = both(r, (moe_integers_t){x, x});
  }
  return r;
}

static moe_integers_t below(const expr_t *size) {
  int64_t n;
  return expr_is_const(size, &n) && n > 0 ? (moe_integers_t){0, n - 1}
                                          : unknown;
}

/* Positions along an axis. */
static moe_integers_t of_positions(const ir_value_t *value) {
  const ir_op_t *op = value->def;
  const ir_type_t *from = &op->in[0].value->type;
  if (op->code == OP_TOPK && value->index != 1) return unknown;
  int64_t axis = op->code == OP_TOPK      ? ir_get_int(op, ATTR_TOPK_axis)
                 : op->code == OP_ARG_MAX ? ir_get_int(op, ATTR_ARG_MAX_axis)
                                          : ir_get_int(op, ATTR_ARG_MIN_axis);
  if (axis < 0) axis += from->rank;
  return below(from->dim[axis]);
}

static moe_integers_t of_arithmetic(ir_opcode_t code, moe_integers_t x,
                                    moe_integers_t y) {
  if (!is_known(x) || !is_known(y)) return unknown;
  int64_t p[4];
  switch (code) {
    case OP_ADD:
      return __builtin_add_overflow(x.lo, y.lo, &p[0]) ||
                     __builtin_add_overflow(x.hi, y.hi, &p[1])
                 ? unknown
                 : (moe_integers_t){p[0], p[1]};
    case OP_SUB:
      return __builtin_sub_overflow(x.lo, y.hi, &p[0]) ||
                     __builtin_sub_overflow(x.hi, y.lo, &p[1])
                 ? unknown
                 : (moe_integers_t){p[0], p[1]};
    case OP_MUL:
      if (__builtin_mul_overflow(x.lo, y.lo, &p[0]) ||
          __builtin_mul_overflow(x.lo, y.hi, &p[1]) ||
          __builtin_mul_overflow(x.hi, y.lo, &p[2]) ||
          __builtin_mul_overflow(x.hi, y.hi, &p[3]))
        return unknown;
      return both(
          both((moe_integers_t){p[0], p[0]}, (moe_integers_t){p[1], p[1]}),
          both((moe_integers_t){p[2], p[2]}, (moe_integers_t){p[3], p[3]}));
    case OP_DIV:
      return x.lo >= 0 && y.lo >= 1 ? (moe_integers_t){x.lo / y.hi, x.hi / y.lo}
                                    : unknown;
    default:
      return unknown;
  }
}

typedef struct walk {
  unsigned depth, steps;
} walk_t;

static moe_integers_t find(const ir_value_t *value, walk_t *w);

/* Limits and remainders: one operand may be anything. */
static moe_integers_t of_limits(const ir_op_t *op, walk_t *w) {
  moe_integers_t x = find(op->in[0].value, w);
  moe_integers_t y = find(op->in[1].value, w);
  switch (op->code) {
    case OP_MOD: /* has the sign of the divisor */
      return y.lo >= 1 && is_known(y) ? (moe_integers_t){0, y.hi - 1} : unknown;
    case OP_FMOD: /* has the sign of the dividend */
      if (y.lo < 1 || !is_known(y)) return unknown;
      return (moe_integers_t){x.lo >= 0 ? 0 : 1 - y.hi, y.hi - 1};
    case OP_BIT_AND:
      if (y.lo < 0) y = x;
      return y.lo >= 0 && is_known(y) ? (moe_integers_t){0, y.hi} : unknown;
    case OP_MAX:
      return (moe_integers_t){x.lo > y.lo ? x.lo : y.lo,
                              x.hi > y.hi ? x.hi : y.hi};
    case OP_MIN:
      return (moe_integers_t){x.lo < y.lo ? x.lo : y.lo,
                              x.hi < y.hi ? x.hi : y.hi};
    default:
      return of_arithmetic(op->code, x, y);
  }
}

static moe_integers_t of_op(const ir_value_t *value, walk_t *w) {
  const ir_op_t *op = value->def;
  switch (op->code) {
    case OP_CONSTANT:
      return of_constant(value);
    case OP_IOTA:
      return below(value->type.dim[0]);
    case OP_TOPK:
    case OP_ARG_MAX:
    case OP_ARG_MIN:
      return of_positions(value);
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_CAST:
      return find(op->in[0].value, w);
    case OP_SELECT:
      return both(find(op->in[1].value, w), find(op->in[2].value, w));
    case OP_CONCAT: {
      moe_integers_t r = find(op->in[0].value, w);
      for (unsigned i = 1; i < op->n_in; i++)
        r = both(r, find(op->in[i].value, w));
      return r;
    }
    default:
      return op->n_in == 2 ? of_limits(op, w) : unknown;
  }
}

static moe_integers_t find(const ir_value_t *value, walk_t *w) {
  dtype_t dtype = value->type.dtype;
  bool integer = dtype_is_integer(dtype) || dtype == DT_BOOL;
  if (!integer) return unknown;
  if (value->def == NULL || w->depth >= MAX_DEPTH || w->steps >= MAX_STEPS)
    return of_type(dtype);
  w->depth++;
  w->steps++;
  moe_integers_t r = of_op(value, w);
  w->depth--;
  return within(r, dtype);
}

moe_integers_t moe_integers_of(const ir_value_t *value) {
  walk_t w = {0};
  return find(value, &w);
}

bool moe_integers_below(const ir_value_t *value, int64_t n) {
  moe_integers_t r = moe_integers_of(value);
  return r.lo >= 0 && r.hi < n;
}

/* ---- Tables -------------------------------------------------------------- */

/* The constant table that a value's elements are taken from; NULL: none. */
static const ir_op_t *table_of(const ir_value_t *value) {
  enum { MAX_VIEWS = 12 };
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    switch (op->code) {
      case OP_RESHAPE:
      case OP_EXPAND:
      case OP_TRANSPOSE:
      case OP_SLICE:
      case OP_GATHER:
      case OP_GATHER_ELEMENTS:
      case OP_GATHER_ND:
        value = op->in[0].value;
        break;
      case OP_CAST:
        if (!dtype_is_integer(op->in[0].value->type.dtype) ||
            !rule_cast_holds(op->in[0].value->type.dtype, value->type.dtype))
          return NULL;
        value = op->in[0].value;
        break;
      default:
        return op->code == OP_CONSTANT ? op : NULL;
    }
  }
  return NULL;
}

bool moe_integers_in_table(const ir_value_t *value, int64_t n, bool *out_seen) {
  const ir_op_t *table = table_of(value);
  int64_t count;
  if (table == NULL || !dtype_is_integer(table->out[0].type.dtype) ||
      !ir_type_static_count(&table->out[0].type, &count) ||
      count > MAX_LOOKED_AT)
    return false;
  const ir_data_t *data = ir_get_data(table, ATTR_CONSTANT_data);
  if (data->bytes == NULL) return false;
  for (int64_t e = 0; e < n; e++) out_seen[e] = false;
  for (int64_t i = 0; i < count; i++) {
    int64_t x =
        ir_element_int(table->out[0].type.dtype, data->bytes, (uint64_t)i);
    if (x >= 0 && x < n) out_seen[x] = true;
  }
  return true;
}

bool moe_integers_rows_differ(const ir_op_t *table) {
  const ir_type_t *type = &table->out[0].type;
  const ir_data_t *data = ir_get_data(table, ATTR_CONSTANT_data);
  int64_t count, k;
  if (data->bytes == NULL || type->rank < 2 ||
      !ir_type_static_count(type, &count) ||
      !expr_is_const(type->dim[type->rank - 1], &k) || k < 1 || k > 64 ||
      count > MAX_LOOKED_AT)
    return false;
  for (int64_t i = 0; i < count; i++) {
    int64_t x = ir_element_int(type->dtype, data->bytes, (uint64_t)i);
    for (int64_t j = i - i % k; j < i; j++)
      if (ir_element_int(type->dtype, data->bytes, (uint64_t)j) == x)
        return false;
  }
  return true;
}
