/* Between the files of the pass `narrow`. */
#ifndef PASSES_NARROW_H
#define PASSES_NARROW_H

#include "ir/build.h"
#include "passes/pass.h"

enum {
  NARROW_LEAST_BYTES = 4096, /* fewer are not worth code of another type */
};

/* Makes the parts of a panel_stack or constant_stack narrow if all of them can
 * be. */
moec_status_t narrow_stack(pass_ctx_t *ctx, ir_op_t *stack);

#endif
