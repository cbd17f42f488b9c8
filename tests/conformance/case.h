/* One case of a conformance suite: where it lies and how it is judged. */
#ifndef TESTS_CONFORMANCE_CASE_H
#define TESTS_CONFORMANCE_CASE_H

#include <stdbool.h>
#include <stddef.h>

#include "ir/arena.h"

typedef struct suite_case {
  const char *name;          /* of the folder */
  const char *directory;     /* path of the folder */
  const char *operator_name; /* that the case is about, or "?" */
  double rtol, atol;
  bool types_only; /* random values: compare types and shapes */
} suite_case_t;

typedef struct suite {
  suite_case_t *cases; /* sorted by name */
  size_t n_cases;
  size_t n_found; /* before selection */
} suite_t;

typedef struct selection {
  const char *filter; /* fnmatch pattern of names, or NULL */
  int tenth;          /* 0..9: only that tenth of the names, -1: all */
} selection_t;

/* Finds the folders of `directory` that hold a model.onnx and reads their
 * case.json; without one the suite's usual tolerances hold. E_IO. */
moec_status_t suite_read(arena_t *arena, const char *directory,
                         const selection_t *selection, suite_t *out_suite);

bool suite_selects(const selection_t *selection, const char *name);

#endif
