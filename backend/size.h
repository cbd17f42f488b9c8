/* Size expressions as code. */
#ifndef BACKEND_SIZE_H
#define BACKEND_SIZE_H

#include "backend/emit.h"

/* Values of expressions in one function, computed once each; symbols are read
 * from the frame's table when they are first needed. */
typedef struct size_emitter {
  emitter_t *em;
  LLVMValueRef symbols; /* ptr to int64[n_symbols] */
  bool checked;         /* overflow is noted in `overflow` */
  LLVMValueRef
      overflow; /* i1, true once anything overflowed; NULL: nothing yet */
  struct size_memo *memo;
  unsigned memo_mask, memo_count;
} size_emitter_t;

void size_begin(size_emitter_t *se, emitter_t *em, LLVMValueRef symbols,
                bool checked);
LLVMValueRef emit_size(size_emitter_t *se, const expr_t *e);
/* Symbols have new values: what was computed from them is computed anew. */
void size_forget(size_emitter_t *se);
LLVMValueRef emit_symbol_address(size_emitter_t *se,
                                 const expr_symbol_t *symbol);

#endif
