/* A folder with reference data: data sets, and how well they must be met. */
#ifndef TOOLS_CASE_H
#define TOOLS_CASE_H

#include "tools/cli.h"
#include "tools/compare.h"

typedef struct data_set {
  const char *path, *name;
  unsigned long number;
  bool invalid; /* the run must fail */
} data_set_t;

typedef struct test_case {
  tolerance_t tolerance; /* of the command line, or of case.json, or usual */
  data_set_t *sets;      /* by number, invalid ones last */
  size_t n_sets;
} test_case_t;

/* The tolerance of DIR/case.json, where there is one, and of the options. */
moec_status_t case_read_tolerance(cli_t *cli, const char *directory,
                                  test_case_t *out);
/* DIR/test_data_set_<n> and DIR/invalid_data_set_<n>, or DIR itself if it holds
 * an output_0. Having none is MOEC_E_IO. */
moec_status_t case_find_sets(cli_t *cli, const char *directory,
                             test_case_t *out);

#endif
