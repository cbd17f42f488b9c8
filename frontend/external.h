/* External data: opening files that a model names, and no others. */
#ifndef FRONTEND_EXTERNAL_H
#define FRONTEND_EXTERNAL_H

#include <stdbool.h>

#include "moec/status.h"

/* Whether a location is a relative path that stays below where it starts by
 * its own words: not empty, not absolute, no "..", no "/" at the end. Returns
 * NULL, or what is wrong with it. */
const char *onnx_location_fault(const char *location);

/* Opens `path`, which has passed onnx_location_fault, below the directory
 * `directory_fd` without following any symbolic link in it and without leaving
 * the directory. Returns the file descriptor or -1 with errno set: ELOOP or
 * ENOTDIR where a component is a link. `use_openat2` false takes the way for
 * kernels that lack openat2. */
int onnx_open_beneath(int directory_fd, const char *path, bool use_openat2);

#endif
