/* Tiles of matrix products: the unit of parallel work, counted by the schedule
 * and computed by the kernels of every instruction set alike. */
#ifndef IR_TILE_H
#define IR_TILE_H

#include "ir/ir.h"

enum {
  PANEL_COLUMNS = 32, /* columns of B that lie side by side for each k */
  PRODUCT_TILE_ROWS = 48,
};

/* Columns of a tile, a multiple of PANEL_COLUMNS. */
static inline unsigned product_tile_columns(dtype_t acc_dtype) {
  return dtype_bits(acc_dtype) > 32 ? 64 : 128;
}

#endif
