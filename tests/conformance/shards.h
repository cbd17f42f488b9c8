/* Cases in processes of their own, several at once, within limits. */
#ifndef TESTS_CONFORMANCE_SHARDS_H
#define TESTS_CONFORMANCE_SHARDS_H

#include "tests/conformance/attempt.h"

typedef struct limits {
  unsigned n_shards;     /* processes at once */
  unsigned cpu_seconds;  /* of processor time per case */
  unsigned wall_seconds; /* per case */
  size_t memory_bytes;   /* of address space per case */
} limits_t;

/* Runs the cases; outcome i belongs to case i. Libraries are written below the
 * existing folder `scratch`. E_NO_MEMORY, E_IO when processes cannot be made.
 */
moec_status_t attempt_all(const suite_t *suite,
                          const attempt_options_t *options,
                          const limits_t *limits, const char *scratch,
                          outcome_t **out_outcomes);

#endif
