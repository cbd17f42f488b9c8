/* Decodes and compares elements. */
#include "tests/conformance/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

void comparison_init(comparison_t *comparison, double rtol, double atol,
                     bool types_only) {
  *comparison =
      (comparison_t){.rtol = rtol, .atol = atol, .types_only = types_only};
  for (unsigned i = 0; i < COMPARE_DTYPES; i++) comparison->ulp[i] = -1;
}

static bool differ(comparison_t *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool differ(comparison_t *c, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(c->words, sizeof c->words, format, args);
  va_end(args);
  return false;
}

/* ---- Element types ------------------------------------------------------- */

typedef enum {
  SPECIALS_IEEE,
  SPECIALS_FN,
  SPECIALS_FNUZ,
  SPECIALS_NONE
} specials_t;

typedef struct float_type {
  unsigned exponent_bits, mantissa_bits;
  int bias;
  specials_t specials;
  bool is_unsigned;
} float_type_t;

/* From the definitions of the ONNX specification. */
static const float_type_t float_types[COMPARE_DTYPES] = {
    [MOEC_F16] = {5, 10, 15, SPECIALS_IEEE, false},
    [MOEC_BF16] = {8, 7, 127, SPECIALS_IEEE, false},
    [MOEC_F32] = {8, 23, 127, SPECIALS_IEEE, false},
    [MOEC_F64] = {11, 52, 1023, SPECIALS_IEEE, false},
    [MOEC_F8E4M3FN] = {4, 3, 7, SPECIALS_FN, false},
    [MOEC_F8E4M3FNUZ] = {4, 3, 8, SPECIALS_FNUZ, false},
    [MOEC_F8E5M2] = {5, 2, 15, SPECIALS_IEEE, false},
    [MOEC_F8E5M2FNUZ] = {5, 2, 16, SPECIALS_FNUZ, false},
    [MOEC_F4E2M1] = {2, 1, 1, SPECIALS_NONE, false},
    [MOEC_F8E8M0] = {8, 0, 127, SPECIALS_FN, true},
};

static const float_type_t *float_type(int dtype) {
  if (dtype < 0 || dtype >= COMPARE_DTYPES) return NULL;
  return float_types[dtype].exponent_bits != 0 ? &float_types[dtype] : NULL;
}

static unsigned element_bits(int dtype) {
  switch (dtype) {
    case MOEC_U2:
    case MOEC_I2:
      return 2;
    case MOEC_U4:
    case MOEC_I4:
    case MOEC_F4E2M1:
      return 4;
    case MOEC_U16:
    case MOEC_I16:
    case MOEC_F16:
    case MOEC_BF16:
      return 16;
    case MOEC_U32:
    case MOEC_I32:
    case MOEC_F32:
      return 32;
    case MOEC_U64:
    case MOEC_I64:
    case MOEC_F64:
    case MOEC_C64:
      return 64;
    case MOEC_C128:
      return 128;
    default:
      return 8;
  }
}

/* The bits of an element of at most 64 of them. */
static uint64_t element_at(unsigned bits, const void *data, uint64_t index) {
  const unsigned char *bytes = data;
  if (bits < 8) {
    const unsigned per_byte = 8 / bits;
    const unsigned shift = (unsigned)(index % per_byte) * bits;
    return (bytes[index / per_byte] >> shift) & ((1u << bits) - 1);
  }
  uint64_t value = 0;
  for (unsigned i = 0; i < bits / 8; i++)
    value |= (uint64_t)bytes[index * (bits / 8) + i] << (8 * i);
  return value;
}

static double decode(const float_type_t *type, uint64_t bits) {
  const unsigned m = type->mantissa_bits, e = type->exponent_bits;
  const uint64_t mantissa = bits & ((UINT64_C(1) << m) - 1);
  const uint64_t all_ones = (UINT64_C(1) << e) - 1;
  const uint64_t exponent = (bits >> m) & all_ones;
  const bool negative = !type->is_unsigned && ((bits >> (m + e)) & 1) != 0;
  const double sign = negative ? -1.0 : 1.0;
  const bool top = exponent == all_ones;
  if (type->specials == SPECIALS_IEEE && top)
    return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
  if (type->specials == SPECIALS_FN && top &&
      mantissa == (UINT64_C(1) << m) - 1)
    return (double)NAN;
  if (type->specials == SPECIALS_FNUZ && negative && exponent == 0 &&
      mantissa == 0)
    return (double)NAN;
  if (exponent == 0 && !type->is_unsigned) /* subnormal, or zero */
    return sign * ldexp((double)mantissa, 1 - type->bias - (int)m);
  return sign * ldexp((double)(mantissa | (UINT64_C(1) << m)),
                      (int)exponent - type->bias - (int)m);
}

double decode_float(int dtype, const void *data, uint64_t index) {
  return decode(float_type(dtype),
                element_at(element_bits(dtype), data, index));
}

double ulp_distance(int dtype, double got, double want) {
  if (got == want || (isnan(got) && isnan(want))) return 0;
  if (!isfinite(got) || !isfinite(want)) return (double)INFINITY;
  const float_type_t *type = float_type(dtype);
  int exponent = 1 - type->bias; /* of subnormal numbers */
  if (want != 0) {
    int found;
    frexp(want, &found);
    if (found - 1 > exponent) exponent = found - 1;
  }
  return ldexp(fabs(got - want), (int)type->mantissa_bits - exponent);
}

/* ---- Elements ------------------------------------------------------------ */

static bool close_enough(const comparison_t *c, double got, double want,
                         double rtol) {
  if (got == want || (isnan(got) && isnan(want))) return true;
  if (!isfinite(got) || !isfinite(want)) return false;
  return fabs(got - want) <= c->atol + rtol * fabs(want);
}

static bool compare_floats(comparison_t *c, int dtype, uint64_t count,
                           const void *got, const void *want) {
  const double two_bf16_ulps = ldexp(1, -6);
  const double rtol =
      dtype == MOEC_BF16 && c->rtol < two_bf16_ulps ? two_bf16_ulps : c->rtol;
  double worst = 0, first_got = 0, first_want = 0;
  uint64_t n_different = 0, first = 0;
  for (uint64_t i = 0; i < count; i++) {
    const double g = decode_float(dtype, got, i);
    const double w = decode_float(dtype, want, i);
    if (!close_enough(c, g, w, rtol)) {
      if (n_different++ == 0) first = i, first_got = g, first_want = w;
    }
    const double ulp = ulp_distance(dtype, g, w);
    if (ulp > worst) worst = ulp;
  }
  if (count > 0 && worst > c->ulp[dtype]) c->ulp[dtype] = worst;
  if (n_different == 0) return true;
  return differ(c,
                "%" PRIu64 " of %" PRIu64 " elements differ; first [%" PRIu64
                "]: got %.9g, want %.9g (rtol %g, atol %g)",
                n_different, count, first, first_got, first_want, rtol,
                c->atol);
}

static bool compare_complex(comparison_t *c, int dtype, uint64_t count,
                            const void *got, const void *want) {
  const int part = dtype == MOEC_C64 ? MOEC_F32 : MOEC_F64;
  for (uint64_t i = 0; i < count; i++) {
    const double g_re = decode_float(part, got, 2 * i);
    const double g_im = decode_float(part, got, 2 * i + 1);
    const double w_re = decode_float(part, want, 2 * i);
    const double w_im = decode_float(part, want, 2 * i + 1);
    const bool same = (g_re == w_re || (isnan(g_re) && isnan(w_re))) &&
                      (g_im == w_im || (isnan(g_im) && isnan(w_im)));
    const double distance = hypot(g_re - w_re, g_im - w_im);
    if (!same && !(distance <= c->atol + c->rtol * hypot(w_re, w_im)))
      return differ(c, "element %" PRIu64 ": got %.9g%+.9gi, want %.9g%+.9gi",
                    i, g_re, g_im, w_re, w_im);
  }
  return true;
}

static bool compare_integers(comparison_t *c, int dtype, uint64_t count,
                             const void *got, const void *want) {
  const unsigned bits = element_bits(dtype);
  uint64_t n_different = 0, first = 0;
  for (uint64_t i = 0; i < count; i++)
    if (element_at(bits, got, i) != element_at(bits, want, i))
      if (n_different++ == 0) first = i;
  if (n_different == 0) return true;
  return differ(c,
                "%" PRIu64 " of %" PRIu64 " elements differ; first [%" PRIu64
                "]: got %#" PRIx64 ", want %#" PRIx64,
                n_different, count, first, element_at(bits, got, first),
                element_at(bits, want, first));
}

static bool compare_strings(comparison_t *c, uint64_t count,
                            const moec_value_t *got, const ir_data_t *want) {
  if (count > 0 && got->offsets == NULL)
    return differ(c, "strings without offsets");
  for (uint64_t i = 0; i < count; i++) {
    const char *text = (const char *)got->data + got->offsets[i];
    const uint64_t length = got->offsets[i + 1] - got->offsets[i];
    if (length != strlen(want->strings[i]) ||
        memcmp(text, want->strings[i], length) != 0)
      return differ(c, "string %" PRIu64 ": got '%.*s', want '%.100s'", i,
                    (int)(length < 100 ? length : 100), text, want->strings[i]);
  }
  return true;
}

/* ---- Values -------------------------------------------------------------- */

static bool compare_shape(comparison_t *c, const moec_value_t *got,
                          const onnx_value_t *want, uint64_t *out_count) {
  char text[256];
  int used = 0;
  bool same = got->rank == (int32_t)want->rank;
  if (got->dtype != (int32_t)want->dtype)
    return differ(c, "element type %d, want %d", got->dtype, (int)want->dtype);
  *out_count = 1;
  for (unsigned i = 0; i < want->rank; i++) {
    same = same && got->dims[i] == want->dims[i];
    *out_count *= (uint64_t)want->dims[i];
  }
  if (same) return true;
  used += snprintf(text, sizeof text, "shape [");
  for (int i = 0; i < got->rank && used < 100; i++)
    used += snprintf(text + used, sizeof text - (size_t)used, "%s%" PRId64,
                     i > 0 ? "," : "", got->dims[i]);
  used += snprintf(text + used, sizeof text - (size_t)used, "], want [");
  for (unsigned i = 0; i < want->rank && used < 200; i++)
    used += snprintf(text + used, sizeof text - (size_t)used, "%s%" PRId64,
                     i > 0 ? "," : "", want->dims[i]);
  return differ(c, "%s]", text);
}

static bool compare_tensor(comparison_t *c, const moec_value_t *got,
                           const onnx_value_t *want) {
  uint64_t count;
  if (!compare_shape(c, got, want, &count)) return false;
  const int dtype = got->dtype;
  if (dtype == MOEC_STRING)
    return c->types_only || compare_strings(c, count, got, want->data);
  if (got->size != dtype_bytes(want->dtype, count))
    return differ(c, "%" PRIu64 " bytes, want %" PRIu64, got->size,
                  (uint64_t)dtype_bytes(want->dtype, count));
  if (count > 0 && got->data == NULL) return differ(c, "no data");
  if (c->types_only) return true;
  const void *bytes = want->data->bytes;
  if (dtype == MOEC_C64 || dtype == MOEC_C128)
    return compare_complex(c, dtype, count, got->data, bytes);
  if (float_type(dtype) != NULL)
    return compare_floats(c, dtype, count, got->data, bytes);
  return compare_integers(c, dtype, count, got->data, bytes);
}

bool compare_value(comparison_t *c, const moec_value_t *got,
                   const onnx_value_t *want) {
  static const uint32_t kinds[] = {[IR_TENSOR] = MOEC_TENSOR,
                                   [IR_SEQUENCE] = MOEC_SEQUENCE,
                                   [IR_OPTIONAL] = MOEC_OPTIONAL};
  if (got->kind != kinds[want->kind])
    return differ(c, "kind %u, want %u", got->kind, kinds[want->kind]);
  if (want->kind == IR_TENSOR) return compare_tensor(c, got, want);
  if (got->n_items != want->n_elems)
    return differ(c, "%" PRIu64 " elements, want %zu", got->n_items,
                  want->n_elems);
  for (size_t i = 0; i < want->n_elems; i++)
    if (!compare_value(c, &got->items[i], want->elems[i])) return false;
  return true;
}
