/* Status codes and the attribute that makes ignoring them a warning. */
#ifndef MOEC_STATUS_H
#define MOEC_STATUS_H

typedef enum moec_status {
#define STATUS(id, value, exit_code, text) MOEC_##id = value,
#include "moec/status.def"
} moec_status_t;

#if defined(__GNUC__)
#define MOEC_MUST_CHECK __attribute__((warn_unused_result))
#else
#define MOEC_MUST_CHECK
#endif

#endif
