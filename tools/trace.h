/* Recording runs and writing them in the form of Chrome's trace viewer, which
 * Perfetto and speedscope read too. */
#ifndef TOOLS_TRACE_H
#define TOOLS_TRACE_H

#include "tools/loaded.h"

/* Makes the instance record what `n_runs` runs from now on do. Fails with
 * MOEC_E_USAGE for a model that was compiled without --instrument. */
moec_status_t trace_begin(cli_t *cli, const loaded_t *loaded, unsigned n_runs);

/* Writes what was recorded to `path`, complete or not at all, and ends the
 * recording. A warning tells of events that found no place. */
moec_status_t trace_write(cli_t *cli, const loaded_t *loaded, const char *path);

#endif
