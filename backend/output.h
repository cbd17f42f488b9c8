/* Output files that appear under their name complete or not at all. */
#ifndef BACKEND_OUTPUT_H
#define BACKEND_OUTPUT_H

#include "ir/diag.h"

/* A file being written. Until output_commit() it has no name, or a temporary
 * one in the directory that it will be in. A path that names something other
 * than a regular file, such as /dev/null or a pipe, is written directly. */
typedef struct output {
  int fd;             /* -1: closed */
  int dir_fd;         /* -1: written directly */
  const char *path;   /* the caller's; must outlive the output */
  char temporary[32]; /* name in dir_fd, "" when the file has none */
  bool seekable;
  uint64_t position; /* bytes written so far when not seekable */
} output_t;

/* Begins a file at `path`; executable sets the mode to 0777 instead of 0666,
 * both under the umask. Fails with MOEC_E_IO, leaving nothing to dispose of. */
MOEC_MUST_CHECK moec_status_t output_open(output_t *out, const char *path,
                                          bool executable, diag_sink_t *diag);

/* Writes `size` bytes at `offset`; gaps read as zeros. A pipe takes ascending
 * offsets only. */
MOEC_MUST_CHECK moec_status_t output_write(output_t *out, uint64_t offset,
                                           const void *data, size_t size,
                                           diag_sink_t *diag);

/* Makes the file `size` bytes long; bytes not written are zeros. */
MOEC_MUST_CHECK moec_status_t output_set_size(output_t *out, uint64_t size,
                                              diag_sink_t *diag);

/* Gives the file its name, replacing what had it, and closes it. When a
 * function above or this one fails the file is gone and the output closed. */
MOEC_MUST_CHECK moec_status_t output_commit(output_t *out, diag_sink_t *diag);

/* Removes an unfinished file. Accepts a committed, failed or zeroed output. */
void output_discard(output_t *out);

/* All of the above for bytes in memory. */
MOEC_MUST_CHECK moec_status_t output_write_file(const char *path,
                                                const void *data, size_t size,
                                                bool executable,
                                                diag_sink_t *diag);

#endif
