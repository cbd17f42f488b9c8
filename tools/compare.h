/* Comparing results with reference values. */
#ifndef TOOLS_COMPARE_H
#define TOOLS_COMPARE_H

#include "frontend/load.h"

/* Elements agree when |got - want| <= atol + rtol * |want|; of integers, bools
 * and strings only atol counts (0 below 1: they must be equal). NaN agrees with
 * NaN, an infinity with itself. */
typedef struct tolerance {
  double rtol, atol;
} tolerance_t;

/* The largest error of one kind, and where. */
typedef struct compare_worst {
  double value;
  uint64_t index; /* of the element in C order */
} compare_worst_t;

typedef struct comparison {
  const char *difference; /* of kind, type or dimensions; NULL: none */
  uint64_t count, n_bad;  /* elements */
  uint64_t first_bad;     /* if n_bad > 0 */
  /* Errors over all elements; infinite where one is NaN or infinite and the
   * other is not. ulp is in units of the last place of the element type; 0 for
   * types that are not floats. */
  compare_worst_t absolute, relative, ulp;
  /* The tensor that the above is about: of a sequence the first that does not
   * agree, or the one with the largest absolute error. */
  const onnx_value_t *got, *want;
  const char *path; /* "[2]" inside a sequence, "" otherwise */
} comparison_t;

/* Compares; the result lives in the arena. */
comparison_t compare_values(arena_t *arena, const onnx_value_t *got,
                            const onnx_value_t *want, tolerance_t tolerance);
bool comparison_agrees(const comparison_t *comparison);

#endif
