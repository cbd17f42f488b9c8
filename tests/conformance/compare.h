/* Comparing what a compiled model gives with the reference data of a case, and
 * nothing shared with the compiler: elements are decoded here. */
#ifndef TESTS_CONFORMANCE_COMPARE_H
#define TESTS_CONFORMANCE_COMPARE_H

#include <stdbool.h>

#include "frontend/load.h"
#include "moec/model.h"

enum { COMPARE_DTYPES = 32 }; /* more than the highest moec_dtype_t */

typedef struct comparison {
  double rtol, atol;
  bool types_only;
  /* Results. The worst distance from the reference in units in the last place
   * of it, by moec_dtype_t; -1 where no element of a type was compared. */
  double ulp[COMPARE_DTYPES];
  char words[512]; /* of the first difference */
} comparison_t;

void comparison_init(comparison_t *comparison, double rtol, double atol,
                     bool types_only);

/* Whether `got` is `want` in the sense of numpy.allclose with equal_nan:
 *     got == want, or both NaN, or |got - want| <= atol + rtol * |want|
 * in binary64. Integers, bool and strings must be equal; bf16 gets an rtol of
 * at least 2^-6 as the suite gives it. Kinds, types and shapes must be equal.
 */
bool compare_value(comparison_t *comparison, const moec_value_t *got,
                   const onnx_value_t *want);

/* Element `index` of a float type at `data`, packed below 8 bits. */
double decode_float(int dtype, const void *data, uint64_t index);

/* |got - want| in units in the last place of want; 0 for equal values and for
 * two NaNs, infinite when just one of them is finite. */
double ulp_distance(int dtype, double got, double want);

#endif
