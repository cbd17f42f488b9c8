/* moec verify --check-every-value. */
#ifndef TOOLS_VERIFY_VALUES_H
#define TOOLS_VERIFY_VALUES_H

#include "tools/cli.h"

/* Compiles the model twice, as the options say and with -O0, with the values
 * inside it as outputs, runs both on the inputs of the folder's data sets and
 * tells the first value that differs by more than the tolerance:
 * MOEC_E_MISMATCH. Values are made visible in batches; when they all agree but
 * the model's own outputs do not, each value is made visible alone, as seeing
 * many at once keeps passes from joining what computes them. */
moec_status_t verify_every_value(cli_t *cli, const char *model,
                                 const char *directory);

#endif
