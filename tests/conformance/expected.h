/* The list of cases that the compiler is known to refuse, and in which words.
 */
#ifndef TESTS_CONFORMANCE_EXPECTED_H
#define TESTS_CONFORMANCE_EXPECTED_H

#include "tests/conformance/attempt.h"

typedef struct expectation {
  const char *name, *words;
  bool met; /* a case of this name was seen */
} expectation_t;

typedef struct expected {
  expectation_t *rows; /* sorted by name */
  size_t n_rows;
} expected_t;

/* Reads lines "name: words"; empty lines and those that begin with # are
 * skipped. E_IO; E_INVALID_MODEL for a line of another form or a name that
 * comes twice, with its number in *out_line. */
moec_status_t expected_read(arena_t *arena, const char *path,
                            expected_t *out_expected, unsigned *out_line);
expectation_t *expected_find(const expected_t *expected, const char *name);

/* Writes the refusals among the outcomes and the rows of cases that were not
 * selected. E_IO. */
moec_status_t expected_write(const char *path, const suite_t *suite,
                             const outcome_t *outcomes,
                             const selection_t *selection,
                             const expected_t *old);

#endif
