/* Operator set versions: which version of which domain a graph or a function
 * was written for. */
#ifndef FRONTEND_OPSET_H
#define FRONTEND_OPSET_H

#include "ir/diag.h"
#include "onnx.pb-c.h"

/* Oldest and newest version of the default domain that converters know. */
#define ONNX_OLDEST_OPSET 1
#define ONNX_LATEST_OPSET 28

typedef struct opset_import {
  const char *domain; /* "" for the default domain, never "ai.onnx" */
  int version;
} opset_import_t;

typedef struct opsets {
  unsigned n;
  opset_import_t *import;
} opsets_t;

/* The domain under the one spelling used inside: NULL and "ai.onnx" are "". */
const char *opset_domain(const char *domain);

/* Reads an opset_import list. Errors: a domain imported twice with different
 * versions, a version outside what is known. `where` describes the list's owner
 * in messages. */
moec_status_t opsets_read(arena_t *arena, size_t n,
                          Onnx__OperatorSetIdProto *const *import,
                          ir_loc_t where, diag_sink_t *diag,
                          opsets_t *out_opsets);

/* Version of a domain (as opset_domain gives it), 0 when it is not imported. */
int opsets_version(const opsets_t *opsets, const char *domain);

#endif
