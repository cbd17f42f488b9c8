/* Element by element: absolute, relative and ULP errors. */
#include "tools/compare.h"

#include <math.h>
#include <string.h>

#include "ir/element.h"
#include "tools/values.h"

/* ---- Units of the last place --------------------------------------------- */

static uint64_t element_bits(dtype_t dtype, const void *bytes, uint64_t index) {
  const unsigned bits = dtype_bits(dtype);
  uint64_t word = 0;
  memcpy(&word, (const char *)bytes + index * bits / 8, (bits + 7) / 8);
  if (bits >= 8) return word;
  return (word >> (index * bits % 8)) & ((1u << bits) - 1);
}

/* Floats in ascending order of their values get ascending numbers: all formats
 * but f8e8m0, which has no sign, are sign and magnitude. The formats without
 * negative zero use its pattern for NaN, which is not asked for here. */
static int64_t ordinal(dtype_t dtype, const void *bytes, uint64_t index) {
  const uint64_t word = element_bits(dtype, bytes, index);
  if (dtype == DT_F8E8M0) return (int64_t)word;
  const uint64_t sign = UINT64_C(1) << (dtype_bits(dtype) - 1);
  const int64_t magnitude = (int64_t)(word & (sign - 1));
  return (word & sign) != 0 ? -magnitude : magnitude;
}

static double ulp_distance(dtype_t dtype, const void *a, const void *b,
                           uint64_t index) {
  const int64_t x = ordinal(dtype, a, index), y = ordinal(dtype, b, index);
  return x >= y ? (double)((uint64_t)x - (uint64_t)y)
                : (double)((uint64_t)y - (uint64_t)x);
}

/* ---- One tensor ---------------------------------------------------------- */

static void note_worst(compare_worst_t *worst, double value, uint64_t index) {
  if (!(value > worst->value)) return;
  worst->value = value;
  worst->index = index;
}

static void note_bad(comparison_t *c, uint64_t index) {
  if (c->n_bad++ == 0) c->first_bad = index;
}

static void take_error(comparison_t *c, double error, double want,
                       double allowed, uint64_t index) {
  note_worst(&c->absolute, error, index);
  if (error > 0)
    note_worst(&c->relative, error / fabs(want), index); /* inf at 0 */
  if (!(error <= allowed)) note_bad(c, index);
}

/* A part of a complex number, or a whole float. `part` is its index as such. */
static void compare_float(comparison_t *c, dtype_t dtype, uint64_t part,
                          uint64_t index, tolerance_t t) {
  const void *got_bytes = c->got->data->bytes;
  const void *want_bytes = c->want->data->bytes;
  const double got = ir_element_float(dtype, got_bytes, part);
  const double want = ir_element_float(dtype, want_bytes, part);
  if (got == want || (isnan(got) && isnan(want))) return;
  if (!isfinite(got) || !isfinite(want)) {
    note_worst(&c->ulp, (double)INFINITY, index);
    take_error(c, (double)INFINITY, 1, 0, index);
    return;
  }
  note_worst(&c->ulp, ulp_distance(dtype, got_bytes, want_bytes, part), index);
  take_error(c, fabs(got - want), want, t.atol + t.rtol * fabs(want), index);
}

static void compare_integer(comparison_t *c, uint64_t index, tolerance_t t) {
  const dtype_t dtype = c->got->dtype;
  const int64_t got = ir_element_int(dtype, c->got->data->bytes, index);
  const int64_t want = ir_element_int(dtype, c->want->data->bytes, index);
  if (got == want) return;
  const bool is_signed = dtype_class(dtype) == DT_CLASS_SIGNED;
  const bool below = is_signed ? got < want : (uint64_t)got < (uint64_t)want;
  const uint64_t error =
      below ? (uint64_t)want - (uint64_t)got : (uint64_t)got - (uint64_t)want;
  take_error(c, (double)error,
             is_signed ? (double)want : (double)(uint64_t)want, t.atol, index);
}

static void compare_string(comparison_t *c, uint64_t index) {
  if (strcmp(c->got->data->strings[index], c->want->data->strings[index]) == 0)
    return;
  take_error(c, (double)INFINITY, 1, 0, index);
}

static void compare_element(comparison_t *c, uint64_t index, tolerance_t t) {
  const dtype_t dtype = c->got->dtype;
  switch (dtype_class(dtype)) {
    case DT_CLASS_FLOAT:
      compare_float(c, dtype, index, index, t);
      break;
    case DT_CLASS_COMPLEX: {
      const dtype_t part = dtype == DT_C64 ? DT_F32 : DT_F64;
      const uint64_t bad = c->n_bad;
      compare_float(c, part, 2 * index, index, t);
      compare_float(c, part, 2 * index + 1, index, t);
      if (c->n_bad > bad + 1) c->n_bad = bad + 1;
      break;
    }
    case DT_CLASS_STRING:
      compare_string(c, index);
      break;
    default:
      compare_integer(c, index, t);
  }
}

static bool same_type(const onnx_value_t *a, const onnx_value_t *b) {
  if (a->kind != b->kind || a->n_elems != b->n_elems) return false;
  if (a->kind != IR_TENSOR) return true;
  return a->dtype == b->dtype && a->rank == b->rank &&
         (a->rank == 0 ||
          memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0);
}

static comparison_t compare_tensors(const onnx_value_t *got,
                                    const onnx_value_t *want, tolerance_t t) {
  comparison_t c = {.got = got, .want = want, .path = ""};
  c.count = value_count(want);
  for (uint64_t i = 0; i < c.count; i++) compare_element(&c, i, t);
  return c;
}

/* ---- Values -------------------------------------------------------------- */

bool comparison_agrees(const comparison_t *c) {
  return c->difference == NULL && c->n_bad == 0;
}

/* Keeps of two elements of a sequence the one to be told about, with the counts
 * of both. */
static void merge(comparison_t *sum, const comparison_t *c) {
  const uint64_t count = sum->count + c->count, n_bad = sum->n_bad + c->n_bad;
  const bool worse =
      comparison_agrees(c)
          ? comparison_agrees(sum) && c->absolute.value > sum->absolute.value
          : comparison_agrees(sum);
  if (worse) *sum = *c;
  sum->count = count;
  sum->n_bad = n_bad;
}

comparison_t compare_values(arena_t *arena, const onnx_value_t *got,
                            const onnx_value_t *want, tolerance_t tolerance) {
  comparison_t sum = {.got = got, .want = want, .path = ""};
  if (!same_type(got, want)) {
    sum.difference =
        arena_printf(arena, "found %s, expected %s",
                     value_type_text(arena, got), value_type_text(arena, want));
    return sum;
  }
  if (want->kind == IR_TENSOR) return compare_tensors(got, want, tolerance);
  for (size_t i = 0; i < want->n_elems; i++) {
    comparison_t c =
        compare_values(arena, got->elems[i], want->elems[i], tolerance);
    c.path = arena_printf(arena, "[%zu]%s", i, c.path);
    merge(&sum, &c);
  }
  return sum;
}
