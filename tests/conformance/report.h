/* What a run of the suite found, for people and for document.py. */
#ifndef TESTS_CONFORMANCE_REPORT_H
#define TESTS_CONFORMANCE_REPORT_H

#include "tests/conformance/attempt.h"

/* Writes a JSON array of
 *   {"case", "operator", "result", "words", "seconds", "peak_kib", "ulp":
 * {...}} in the order of the cases. ulp maps names of float types to the worst
 * distance from the reference; -1 stands for an infinite one. E_IO. */
moec_status_t report_write(const char *path, const suite_t *suite,
                           const outcome_t *outcomes);

/* The worst distance of each float type over all passing cases. */
void report_ulp(const suite_t *suite, const outcome_t *outcomes, FILE *out);

#endif
