/* Rows of all experts added to the tokens. */
#ifndef PASSES_MOE_TILES_H
#define PASSES_MOE_TILES_H

#include "passes/pass.h"

/* Writes scatters that add several rows to each row, in order, as sums. */
void moe_write_tiles(pass_ctx_t *ctx, ir_func_t *func);

#endif
