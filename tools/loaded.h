/* A compiled model that was loaded, with one instance of it. */
#ifndef TOOLS_LOADED_H
#define TOOLS_LOADED_H

#include "moec/model.h"
#include "tools/cli.h"

typedef struct loaded {
  void *handle; /* of dlopen */
  const moec_model_t *model;
  moec_instance_t *instance;
  double load_seconds, create_seconds;
  struct loaded *next; /* opened earlier */
} loaded_t;

/* Loads `path` and creates an instance with the --threads and --variant of the
 * command line. A .onnx or .moeir file is compiled into a temporary library
 * first, with the options of the compiler. Loading executes code of the file.
 * The loaded model belongs to `cli` and is closed with it.
 *
 * Fails with E_IO (no such file), E_INVALID_MODEL (not a compiled model), the
 * status of the compilation or of create(). */
moec_status_t loaded_open(cli_t *cli, const char *path, loaded_t **out_loaded);

/* The same for a model that is compiled with these options, but `output`. */
moec_status_t loaded_compile(cli_t *cli, const compile_options_t *options,
                             loaded_t **out_loaded);

/* Closes one that `cli` holds before its end. */
void loaded_close(cli_t *cli, loaded_t *loaded);
/* Closes all, also what is half open. */
void loaded_close_all(cli_t *cli);

/* Reports a failed call on the instance and returns its status. `loc` says what
 * was being done. */
moec_status_t loaded_fail(cli_t *cli, const loaded_t *loaded, const char *where,
                          moec_status_t status);

#endif
