/* Values that say of each of W numbers whether it is among some: one-hot
 * encodings and masks, in any spelling. */
#include <string.h>

#include "passes/moe_router_internal.h"

typedef struct member {
  ir_value_t *index; /* [T, ..] */
  double on, off;
} member_t;

static bool splat_number(const ir_value_t *x, double *out) {
  int64_t whole;
  if (rule_splat_float(x, out)) return true;
  if (!rule_splat_int(x, &whole)) return false;
  *out = (double)whole;
  return true;
}

/* ---- Leaves -------------------------------------------------------------- */

static int64_t read_int(const unsigned char *at, unsigned bytes) {
  uint64_t u = 0;
  memcpy(&u, at, bytes);
  unsigned shift = 64 - 8 * bytes;
  return (int64_t)(u << shift) >> shift;
}

/* 0, 1, .., width-1 along one axis, the others being 1. */
static bool counts_up(matcher_t *m, ir_value_t *x, int64_t width) {
  const ir_op_t *op = router_strip(m, x)->def;
  int64_t n;
  if (op == NULL || !ir_type_static_count(&x->type, &n) || n != width)
    return false;
  if (op->code == OP_IOTA) return dtype_is_integer(x->type.dtype);
  if (op->code != OP_CONSTANT || !dtype_is_integer(op->out[0].type.dtype))
    return false;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  unsigned bytes = dtype_bits(op->out[0].type.dtype) / 8;
  if (bytes == 0 || data->size != (uint64_t)n * bytes) return false;
  const unsigned char *at = data->bytes;
  for (int64_t i = 0; i < n; i++)
    if (read_int(at + (size_t)i * bytes, bytes) != i) return false;
  return true;
}

/* The axis of x that has all elements is aligned with the row of `like`. */
static bool lies_along_row(const ir_type_t *x, const ir_type_t *like,
                           int64_t width) {
  for (unsigned d = 0; d < x->rank; d++) {
    unsigned back = x->rank - d;
    if (back > like->rank) return false;
    if (router_is_row(x, d, width) &&
        router_is_row(like, like->rank - back, width))
      return true;
  }
  return false;
}

static bool member_by_compare(matcher_t *m, const ir_op_t *op, int64_t width,
                              member_t *out) {
  const ir_type_t *type = &op->out[0].type;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *index = op->in[i].value, *numbers = op->in[1 - i].value;
    if (!dtype_is_integer(index->type.dtype) ||
        !lies_along_row(&numbers->type, type, width) ||
        !router_is_per_row(&index->type, type, width) ||
        !counts_up(m, numbers, width))
      continue;
    *out = (member_t){.index = router_strip_index(m, index, width), .on = 1};
    return true;
  }
  return false;
}

static bool member_by_scatter(matcher_t *m, const ir_op_t *op, int64_t width,
                              member_t *out) {
  const ir_type_t *base = &op->in[0].value->type;
  ir_value_t *index = op->in[1].value;
  int64_t axis = ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis);
  if (axis < 0) axis += base->rank;
  if (!rule_scatters_by(op, "none") || !router_is_row(base, axis, width) ||
      index->type.rank != base->rank ||
      !splat_number(op->in[0].value, &out->off) ||
      !splat_number(op->in[2].value, &out->on))
    return false;
  for (unsigned d = 0; d < base->rank; d++)
    if (d != axis && index->type.dim[d] != base->dim[d]) return false;
  out->index = router_strip_index(m, index, width);
  return true;
}

/* ---- What is made of them ------------------------------------------------ */

static bool apply_number(const ir_op_t *op, double number, bool number_first,
                         double *x) {
  switch (op->code) {
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_EQ:
    case OP_LT:
    case OP_LE:
      return rule_compute(op->code, number_first ? number : *x,
                          number_first ? *x : number, x);
    default:
      return false;
  }
}

/* Types in which 0 and 1 and the results of such steps are exact. */
static bool is_zero_or_one(double x) { return x == 0 || x == 1; }

static bool find(matcher_t *m, ir_value_t *x, int64_t width, unsigned depth,
                 member_t *out);

static bool member_by_number(matcher_t *m, const ir_op_t *op, int64_t width,
                             unsigned depth, member_t *out) {
  double number;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *x = op->in[1 - i].value;
    if (!splat_number(op->in[i].value, &number)) continue;
    return is_zero_or_one(number) && find(m, x, width, depth, out) &&
           is_zero_or_one(out->on) && is_zero_or_one(out->off) &&
           apply_number(op, number, i == 0, &out->on) &&
           apply_number(op, number, i == 0, &out->off);
  }
  return false;
}

/* Over the slots of the index: in any of them. */
static bool member_of_slots(matcher_t *m, const ir_op_t *op, int64_t width,
                            unsigned depth, member_t *out) {
  const ir_type_t *x = &op->in[0].value->type;
  unsigned n;
  const int64_t *axes = ir_get_ints(op, ir_op_info(op->code)->attr_first, &n);
  if (n != 1 || axes[0] + 1 >= x->rank || !router_is_row(x, axes[0] + 1, width))
    return false;
  /* Distinct numbers: at most one slot is it, and the sum is 0 or 1. */
  return find(m, op->in[0].value, width, depth, out) && out->on == 1 &&
         out->off == 0;
}

static bool member_by_operation(matcher_t *m, const ir_op_t *op, int64_t width,
                                unsigned depth, member_t *out) {
  switch (op->code) {
    case OP_EQ:
      return member_by_compare(m, op, width, out) ||
             member_by_number(m, op, width, depth, out);
    case OP_SCATTER_ELEMENTS:
      return member_by_scatter(m, op, width, out);
    case OP_CAST:
      if (!find(m, op->in[0].value, width, depth, out)) return false;
      if (op->out[0].type.dtype == DT_BOOL) {
        out->on = out->on != 0;
        out->off = out->off != 0;
      }
      return is_zero_or_one(out->on) && is_zero_or_one(out->off);
    case OP_NOT:
      if (!find(m, op->in[0].value, width, depth, out)) return false;
      out->on = out->on == 0;
      out->off = out->off == 0;
      return true;
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_LT:
    case OP_LE:
      return member_by_number(m, op, width, depth, out);
    case OP_REDUCE_MAX:
    case OP_REDUCE_SUM:
      return member_of_slots(m, op, width, depth, out);
    default:
      return false;
  }
}

static bool find(matcher_t *m, ir_value_t *x, int64_t width, unsigned depth,
                 member_t *out) {
  enum { MAX_DEPTH = 12 };
  x = router_strip(m, x);
  if (x->def == NULL || depth == MAX_DEPTH) return false;
  if (!member_by_operation(m, x->def, width, depth + 1, out)) return false;
  router_note(m, x->def);
  return true;
}

ir_value_t *router_membership_index(matcher_t *m, ir_value_t *x, int64_t width,
                                    double out[2]) {
  member_t member = {0};
  if (!find(m, x, width, 0, &member)) return NULL;
  out[0] = member.off;
  out[1] = member.on;
  return member.index;
}

bool router_is_membership(matcher_t *m, ir_value_t *x, ir_value_t *index,
                          int64_t width, double out[2]) {
  return router_membership_index(m, x, width, out) == index;
}
