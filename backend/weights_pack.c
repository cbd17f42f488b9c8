/* Reordering of matrices into panels of 32 columns. Two orders of the source
 * get loops of their own, rows (k, n) and columns (n, k); all else is element
 * by element. Sources may be unaligned, hence memcpy for every access. */
#include <string.h>

#include "backend/weights.h"

enum { COLUMNS = WEIGHTS_PANEL_COLUMNS };

/* Element sizes must become constants in the loops. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* The columns of panel p that exist: 32 but for the last panel. */
static uint64_t n_columns(const weights_entry_t *entry, uint64_t p) {
  const uint64_t left = entry->N - p * COLUMNS;
  return left < COLUMNS ? left : COLUMNS;
}

/* stride_n == 1. Rows outside, panels inside: the source is read in order. */
ALWAYS_INLINE void pack_rows(uint8_t *to, const uint8_t *from,
                             const weights_entry_t *entry,
                             weights_block_t block, size_t size) {
  const uint64_t rows = block.k_end - block.k_begin;
  for (uint64_t k = 0; k < rows; k++) {
    const uint8_t *row = from + (block.k_begin + k) * entry->stride_k * size;
    for (uint64_t p = block.p_begin; p < block.p_end; p++) {
      uint8_t *out = to + ((p - block.p_begin) * rows + k) * COLUMNS * size;
      const uint64_t n = n_columns(entry, p);
      if (n == COLUMNS) {
        memcpy(out, row + p * COLUMNS * size, COLUMNS * size);
      } else {
        memcpy(out, row + p * COLUMNS * size, n * size);
        memset(out + n * size, 0, (COLUMNS - n) * size);
      }
    }
  }
}

/* stride_k == 1. Turns `depth` rows of a panel at a time, as many as one cache
 * line of a source column holds, so that both sides stay in the first-level
 * cache. */
ALWAYS_INLINE void turn(uint8_t *to, const uint8_t *from, size_t column_bytes,
                        uint64_t n, uint64_t depth, size_t size) {
  for (uint64_t k = 0; k < depth; k++)
    for (uint64_t j = 0; j < n; j++)
      memcpy(to + (k * COLUMNS + j) * size, from + j * column_bytes + k * size,
             size);
}

ALWAYS_INLINE void pack_columns(uint8_t *to, const uint8_t *from,
                                const weights_entry_t *entry,
                                weights_block_t block, size_t size) {
  const uint64_t rows = block.k_end - block.k_begin;
  const uint64_t depth = 64 / size;
  const size_t column_bytes = entry->stride_n * size;
  for (uint64_t p = block.p_begin; p < block.p_end; p++) {
    const uint8_t *column = from + p * COLUMNS * column_bytes;
    const uint64_t n = n_columns(entry, p);
    uint8_t *panel = to + (p - block.p_begin) * rows * COLUMNS * size;
    if (n < COLUMNS) memset(panel, 0, rows * COLUMNS * size);
    for (uint64_t k = 0; k < rows; k += depth) {
      const uint64_t d = rows - k < depth ? rows - k : depth;
      const uint8_t *source = column + (block.k_begin + k) * size;
      uint8_t *out = panel + k * COLUMNS * size;
      if (n == COLUMNS && d == depth) /* constant counts: unrolled */
        turn(out, source, column_bytes, COLUMNS, 64 / size, size);
      else
        turn(out, source, column_bytes, n, d, size);
    }
  }
}

ALWAYS_INLINE void pack_any(uint8_t *to, const uint8_t *from,
                            const weights_entry_t *entry, weights_block_t block,
                            size_t size) {
  for (uint64_t p = block.p_begin; p < block.p_end; p++) {
    const uint64_t n = n_columns(entry, p);
    for (uint64_t k = block.k_begin; k < block.k_end; k++) {
      for (uint64_t j = 0; j < n; j++, to += size)
        memcpy(
            to,
            from + (k * entry->stride_k + (p * COLUMNS + j) * entry->stride_n) *
                       size,
            size);
      memset(to, 0, (COLUMNS - n) * size);
      to += (COLUMNS - n) * size;
    }
  }
}

ALWAYS_INLINE void pack(uint8_t *to, const uint8_t *from,
                        const weights_entry_t *entry, weights_block_t block,
                        size_t size) {
  if (entry->stride_n == 1)
    pack_rows(to, from, entry, block, size);
  else if (entry->stride_k == 1)
    pack_columns(to, from, entry, block, size);
  else
    pack_any(to, from, entry, block, size);
}

void weights_pack(uint8_t *to, const uint8_t *from,
                  const weights_entry_t *entry, weights_block_t block) {
  switch (dtype_bits(entry->dtype)) { /* the size as a constant in each copy */
    case 8:
      pack(to, from, entry, block, 1);
      break;
    case 16:
      pack(to, from, entry, block, 2);
      break;
    case 32:
      pack(to, from, entry, block, 4);
      break;
    case 64:
      pack(to, from, entry, block, 8);
      break;
    default:
      MOEC_BUG("panels of %s", dtype_name(entry->dtype));
  }
}
