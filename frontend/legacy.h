/* Operators of opsets 1 to 6 in the form that opset 7 gave them. */
#ifndef FRONTEND_LEGACY_H
#define FRONTEND_LEGACY_H

#include "frontend/convert.h"

/* First opset whose nodes converters see as they are. */
#define LEGACY_UNTIL 7

/* Rewrites operands and marks attributes of a node of the default domain;
 * errors are recorded in ctx. */
void legacy_upgrade(convert_ctx_t *ctx);

#endif
