/* Which converter an operator of which opset has. */
#ifndef FRONTEND_REGISTRY_H
#define FRONTEND_REGISTRY_H

#include "frontend/convert.h"

typedef struct onnx_row {
  const char *domain, *op_type;
  int since, until; /* opset versions, both inclusive */
  ir_opcode_t code; /* OP_COUNT for composites */
  unsigned min_in, max_in, min_out, max_out; /* IR_VARIADIC: any number */
  bool lists; /* takes or gives sequences and optionals */
  convert_fn convert;
} onnx_row_t;

typedef struct registry registry_t;

/* An index over the tables. */
registry_t *registry_create(arena_t *arena);

/* The row for an operator, or NULL; then *out_near, which may be NULL, is a row
 * of the operator at another opset, if there is one. */
const onnx_row_t *registry_find(const registry_t *registry, const char *domain,
                                const char *op_type, int version,
                                const onnx_row_t **out_near);

#endif
