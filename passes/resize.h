/* Other sizes in types, contents and attributes of all operations. */
#ifndef PASSES_RESIZE_H
#define PASSES_RESIZE_H

#include "passes/pass.h"

typedef struct resize {
  /* What stands for a size; the same where nothing else does. */
  const expr_t *(*by)(void *user, const expr_t *e);
  /* Whether something else stands for a symbol that an operation defines: a
   * bind is not looked at, a while does not count its trips; or NULL. */
  bool (*is_gone)(void *user, const expr_symbol_t *symbol);
  /* Whether an operation keeps its sizes; or NULL. */
  bool (*keeps)(void *user, const ir_op_t *op);
  void *user;
} resize_t;

/* Numbers the function's values. Where inference refuses the new sizes the
 * model cannot run, or not this part of it: false, and all is as it was. */
bool pass_resize(pass_ctx_t *ctx, ir_func_t *func, const resize_t *how);

#endif
