/* Elementwise operations. */
#include <math.h>
#include <string.h>

#include "export/put.h"

/* Operands and result have one type. */
void write_direct(export_t *e, const writer_row_t *row) {
  og_value_t *in[3];
  for (unsigned i = 0; i < e->op->n_in; i++)
    in[i] = in_carried(e, i, row->types);
  og_node_t *node = put_node(e, row->onnx, e->op->n_in, in, 1);
  node->out[0].dtype = in[0]->dtype;
  give(e, 0, &node->out[0]);
}

/* The result is bool. */
void write_test(export_t *e, const writer_row_t *row) {
  og_value_t *in[2];
  for (unsigned i = 0; i < e->op->n_in; i++)
    in[i] = in_carried(e, i, row->types);
  og_node_t *node = put_node(e, row->onnx, e->op->n_in, in, 1);
  node->out[0].dtype = DT_BOOL;
  give(e, 0, &node->out[0]);
}

void write_is_inf(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *y = put1(e, row->onnx, x);
  y->dtype = DT_BOOL;
  set_int(e, y, "detect_negative",
          ir_get_int(e->op, ATTR_IS_INF_detect_negative));
  set_int(e, y, "detect_positive",
          ir_get_int(e->op, ATTR_IS_INF_detect_positive));
  give(e, 0, y);
}

/* Integers are round already. */
void write_rounding(export_t *e, const writer_row_t *row) {
  if (dtype_is_float(in_type(e, 0)->dtype))
    write_direct(e, row);
  else
    give(e, 0, in_value(e, 0));
}

/* x < 0 ? ceil(x) : floor(x), which keeps -0 and NaN */
void write_trunc(export_t *e, const writer_row_t *row) {
  if (!dtype_is_float(in_type(e, 0)->dtype)) {
    give(e, 0, in_value(e, 0));
    return;
  }
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *zero = put_scalar(e, x->dtype, 0);
  og_value_t *negative = put_test(e, "Less", x, zero);
  og_value_t *up = put1(e, "Ceil", x);
  og_value_t *down = put1(e, "Floor", x);
  give(e, 0, put_where(e, negative, up, down));
}

static og_value_t *is_small(export_t *e, og_value_t *x) {
  og_value_t *size = put1(e, "Abs", x);
  og_value_t *half = put_scalar(e, x->dtype, 0.5);
  return put_test(e, "Less", size, half);
}

/* 2 t / (1 - t) with t = tanh(x / 2) near 0, where exp(x) - 1 cancels. */
void write_expm1(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *one = put_scalar(e, x->dtype, 1);
  og_value_t *half = put_scalar(e, x->dtype, 0.5);
  og_value_t *small = is_small(e, x);
  og_value_t *half_x = put2(e, "Mul", x, half);
  og_value_t *t = put1(e, "Tanh", half_x);
  og_value_t *twice = put2(e, "Add", t, t);
  og_value_t *rest = put2(e, "Sub", one, t);
  og_value_t *near = put2(e, "Div", twice, rest);
  og_value_t *power = put1(e, "Exp", x);
  og_value_t *far = put2(e, "Sub", power, one);
  give(e, 0, put_where(e, small, near, far));
}

/* log(u) with u = 1 + x; near 0, where u loses digits of x, log(u) x / (u - 1),
 * or x where u is 1. */
void write_log1p(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *one = put_scalar(e, x->dtype, 1);
  og_value_t *small = is_small(e, x);
  og_value_t *u = put2(e, "Add", x, one);
  og_value_t *far = put1(e, "Log", u);
  og_value_t *seen = put2(e, "Sub", u, one);
  og_value_t *ratio = put2(e, "Div", x, seen);
  og_value_t *product = put2(e, "Mul", far, ratio);
  og_value_t *tiny = put_test(e, "Equal", u, one);
  og_value_t *near = put_where(e, tiny, x, product);
  give(e, 0, put_where(e, small, near, far));
}

void write_cast(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_value(e, 0);
  dtype_t to = e->op->out[0].type.dtype;
  bool complex = dtype_class(x->dtype) == DT_CLASS_COMPLEX ||
                 dtype_class(to) == DT_CLASS_COMPLEX;
  if (complex && x->dtype != to)
    refuse(e, "%s converts no complex numbers", row->onnx);
  og_value_t *y = put_cast(e, x, to);
  if (e->op->code == OP_CAST && y != x &&
      ir_get_int(e->op, ATTR_CAST_saturate) == 0) {
    set_int(e, y, "saturate", 0);
    if (e->opset < 19) e->opset = 19;
  }
  const char *mode =
      e->op->code == OP_CAST ? ir_get_str(e->op, ATTR_CAST_round_mode) : NULL;
  if (mode != NULL && y != x && to == DT_F8E8M0)
    set_str(e, y, "round_mode", mode);
  give(e, 0, y);
}

void write_bitcast(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_value(e, 0);
  dtype_t to = e->op->out[0].type.dtype;
  og_value_t *y = put1(e, row->onnx, x);
  y->dtype = to;
  set_int(e, y, "to", to);
  give(e, 0, y);
}

/* ---- Two operands -------------------------------------------------------- */

/* Whether no element of the value is 0. */
static bool is_never_zero(const ir_value_t *value) {
  int64_t count, lower;
  if (value->content != NULL && ir_type_static_count(&value->type, &count)) {
    for (int64_t i = 0; i < count; i++)
      if (!expr_lower_bound(value->content[i], &lower) || lower < 1)
        return false;
    return true;
  }
  if (value->def == NULL || value->def->code != OP_CONSTANT) return false;
  const ir_data_t *data = ir_get_data(value->def, ATTR_CONSTANT_data);
  unsigned size = dtype_bits(value->type.dtype) / 8;
  static const char zeros[16];
  if (size == 0 || data->bytes == NULL) return false;
  for (uint64_t at = 0; at + size <= data->size; at += size)
    if (memcmp((const char *)data->bytes + at, zeros, size) == 0) return false;
  return true;
}

/* Integers by 0 give 0, which ONNX leaves undefined: the divisor 0 becomes 1,
 * the result 0. */
void write_divide(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *y = in_carried(e, 1, row->types);
  og_value_t *is_zero = NULL;
  if (!dtype_is_float(x->dtype) && !is_never_zero(ir_in(e->op, 1))) {
    og_value_t *zero = put_scalar_int(e, y->dtype, 0);
    is_zero = put_test(e, "Equal", y, zero);
    og_value_t *more = put_cast(e, is_zero, y->dtype);
    y = put2(e, "Add", y, more);
  }
  og_value_t *z = put2(e, row->onnx, x, y);
  if (e->op->code == OP_FMOD) set_int(e, z, "fmod", 1);
  if (is_zero != NULL) {
    og_value_t *fine = put1(e, "Not", is_zero);
    og_value_t *keep = put_cast(e, fine, z->dtype);
    z = put2(e, "Mul", z, keep);
  }
  give(e, 0, z);
}

void write_power(export_t *e, const writer_row_t *row) {
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *y = in_carried(e, 1, row->types);
  give(e, 0, put2(e, row->onnx, x, y));
}

/* Of bool: and, or. */
void write_extreme(export_t *e, const writer_row_t *row) {
  if (in_type(e, 0)->dtype != DT_BOOL) {
    write_direct(e, row);
    return;
  }
  og_value_t *x = in_value(e, 0), *y = in_value(e, 1);
  give(e, 0, put2(e, e->op->code == OP_MIN ? "And" : "Or", x, y));
}

/* The unsigned type of as many bits. */
static dtype_t unsigned_of(dtype_t dtype) {
  switch (dtype_bits(dtype)) {
    case 64:
      return DT_U64;
    case 32:
      return DT_U32;
    case 16:
      return DT_U16;
    case 8:
      return DT_U8;
    default:
      return dtype_bits(dtype) == 4 ? DT_U4 : DT_U2;
  }
}

/* ONNX shifts unsigned integers by less than their width. */
static og_value_t *shift(export_t *e, const char *direction, og_value_t *x,
                         og_value_t *by) {
  og_value_t *y = put2(e, "BitShift", x, by);
  set_str(e, y, "direction", direction);
  return y;
}

/* Elements below 32 bits are shifted in 32 bits: to the left their low bits are
 * kept, to the right they are widened with their sign. Negative numbers are
 * turned over, shifted and turned back. */
void write_shift(export_t *e, const writer_row_t *row) {
  dtype_t dtype = in_type(e, 0)->dtype;
  unsigned bits = dtype_bits(dtype);
  dtype_t wide = bits <= 32 ? DT_U32 : DT_U64;
  bool left = e->op->code == OP_SHL;
  bool turns = !left && dtype_class(dtype) == DT_CLASS_SIGNED;
  og_value_t *x = in_value(e, 0), *by = in_value(e, 1);
  og_value_t *negative = NULL;
  by = put_cast(e, by, unsigned_of(dtype)); /* distances are unsigned */
  by = put_cast(e, by, wide);
  og_value_t *most = put_scalar_int(e, wide, bits - 1);
  og_value_t *near = put2(e, "Min", by, most);
  if (turns) {
    x = put_cast(e, x, wide == DT_U64 ? DT_I64 : DT_I32);
    og_value_t *zero = put_scalar_int(e, x->dtype, 0);
    negative = put_test(e, "Less", x, zero);
    og_value_t *over = put1(e, "BitwiseNot", x);
    x = put_where(e, negative, over, x);
  }
  dtype_t back = x->dtype;
  x = put_cast(e, x, wide);
  og_value_t *y = shift(e, row->onnx, x, near);
  if (turns) {
    y = put_cast(e, y, back);
    og_value_t *over = put1(e, "BitwiseNot", y);
    y = put_where(e, negative, over, y);
  } else {
    og_value_t *fits = put_test(e, "LessOrEqual", by, most);
    og_value_t *keep = put_cast(e, fits, wide);
    y = put2(e, "Mul", y, keep);
  }
  give(e, 0, y);
}

void write_select(export_t *e, const writer_row_t *row) {
  og_value_t *cond = in_value(e, 0);
  if (in_type(e, 1)->dtype == DT_BOOL) {
    og_value_t *x = in_value(e, 1), *y = in_value(e, 2);
    og_value_t *other = put1(e, "Not", cond);
    og_value_t *first = put2(e, "And", cond, x);
    og_value_t *second = put2(e, "And", other, y);
    give(e, 0, put2(e, "Or", first, second));
    return;
  }
  og_value_t *x = in_carried(e, 1, row->types);
  og_value_t *y = in_carried(e, 2, row->types);
  give(e, 0, put_where(e, cond, x, y));
}
