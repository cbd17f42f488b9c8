/* One case from model to verdict, in a process that may die of it. */
#ifndef TESTS_CONFORMANCE_ATTEMPT_H
#define TESTS_CONFORMANCE_ATTEMPT_H

#include "passes/pass.h"
#include "tests/conformance/case.h"
#include "tests/conformance/compare.h"

/*   RESULT(id, word, doc) */
#define RESULTS(RESULT)                                                    \
  RESULT(RUNNING, "running", "nothing was decided when the process ended") \
  RESULT(PASS, "pass", "all data sets give what they should")              \
  RESULT(REFUSED, "refused", "the compiler says what it does not support") \
  RESULT(WRONG, "wrong", "other values, shapes or types than they should") \
  RESULT(CRASH, "crash", "killed by a signal")                             \
  RESULT(TIMEOUT, "timeout", "not done within the limit of time")          \
  RESULT(MEMORY, "memory", "not done within the limit of memory")          \
  RESULT(ERROR, "error", "any other failure of compiling, loading, running")

typedef enum result {
#define RESULT(id, word, doc) RESULT_##id,
  RESULTS(RESULT)
#undef RESULT
      RESULT_COUNT
} result_t;

const char *result_word(result_t result);

/* Lies in memory shared with the parent, which reads it also when the child
 * did not come to an end. */
typedef struct outcome {
  result_t result;
  char stage[64];   /* what was being done last */
  char words[1024]; /* of a refusal or failure */
  unsigned n_runs;
  double ulp[COMPARE_DTYPES]; /* see comparison_t */
  double seconds;             /* of processor time; set by the parent */
  long peak_kib;              /* set by the parent */
} outcome_t;

typedef struct attempt_options {
  const char *isas;    /* compile these variants only, or NULL */
  const char *variant; /* run this variant only; NULL: each that can run */
  int level;           /* -O */
  int n_threads;
} attempt_options_t;

/* Compiles the case into `library`, loads and unlinks it, and on each variant
 * that this machine has runs each data set
 *   - with several threads into memory of the instance, compared with the
 *     reference,
 *   - with one thread into memory of the caller, which must give the same
 * bytes; here inputs lie at odd addresses. Inputs, the caller's outputs and the
 * memory of the first instance end at pages that cannot be touched. Fills
 * `outcome` as it goes. */
void attempt(const suite_case_t *c, const attempt_options_t *options,
             const char *library, outcome_t *outcome);

#endif
