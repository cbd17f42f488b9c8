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

/* Turns a square of as many rows and columns as 16 bytes hold elements. Each
 * step deals the vectors of the lower and the upper half into pairs; log2(n)
 * steps make a transposition. LOW and HIGH are the halves of two vectors
 * interleaved. */
#define DEFINE_TURN_SQUARE(name, type, n, LOW, HIGH)                         \
  typedef type name##_vector __attribute__((vector_size(16)));               \
  static inline void name(uint8_t *to, size_t to_bytes, const uint8_t *from, \
                          size_t from_bytes) {                               \
    name##_vector a[n], b[n];                                                \
    for (unsigned i = 0; i < n; i++)                                         \
      memcpy(&a[i], from + i * from_bytes, sizeof a[i]);                     \
    for (unsigned step = 1; step < n; step *= 2) {                           \
      for (unsigned i = 0; i < n / 2; i++) {                                 \
        b[2 * i] = __builtin_shufflevector(a[i], a[i + n / 2], LOW);         \
        b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + n / 2], HIGH);    \
      }                                                                      \
      memcpy(a, b, sizeof a);                                                \
    }                                                                        \
    for (unsigned i = 0; i < n; i++)                                         \
      memcpy(to + i * to_bytes, &a[i], sizeof a[i]);                         \
  }

#define LOW16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LOW8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH8 4, 12, 5, 13, 6, 14, 7, 15
#define LOW4 0, 4, 1, 5
#define HIGH4 2, 6, 3, 7
#define LOW2 0, 2
#define HIGH2 1, 3
DEFINE_TURN_SQUARE(turn_1, uint8_t, 16, LOW16, HIGH16)
DEFINE_TURN_SQUARE(turn_2, uint16_t, 8, LOW8, HIGH8)
DEFINE_TURN_SQUARE(turn_4, uint32_t, 4, LOW4, HIGH4)
DEFINE_TURN_SQUARE(turn_8, uint64_t, 2, LOW2, HIGH2)

ALWAYS_INLINE void turn_square(uint8_t *to, size_t to_bytes,
                               const uint8_t *from, size_t from_bytes,
                               size_t size) {
  if (size == 1) turn_1(to, to_bytes, from, from_bytes);
  if (size == 2) turn_2(to, to_bytes, from, from_bytes);
  if (size == 4) turn_4(to, to_bytes, from, from_bytes);
  if (size == 8) turn_8(to, to_bytes, from, from_bytes);
}

/* Turns `depth` rows of n columns of a panel. */
ALWAYS_INLINE void turn(uint8_t *to, const uint8_t *from, size_t column_bytes,
                        uint64_t n, uint64_t depth, size_t size) {
  const uint64_t side = 16 / size;
  const size_t row_bytes = COLUMNS * size;
  if (n == COLUMNS && depth % side == 0) {
    for (uint64_t j = 0; j < COLUMNS; j += side)
      for (uint64_t k = 0; k < depth; k += side)
        turn_square(to + k * row_bytes + j * size, row_bytes,
                    from + j * column_bytes + k * size, column_bytes, size);
    return;
  }
  for (uint64_t k = 0; k < depth; k++)
    for (uint64_t j = 0; j < n; j++)
      memcpy(to + k * row_bytes + j * size, from + j * column_bytes + k * size,
             size);
}

/* stride_k == 1. As many rows at a time as one cache line of a source column
 * holds, so that both sides stay in the first-level cache. */
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
      turn(panel + k * COLUMNS * size, column + (block.k_begin + k) * size,
           column_bytes, n, d, size);
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

dtype_t weights_data_dtype(const weights_entry_t *entry) {
  return entry->data_dtype != DT_NONE ? entry->data_dtype : entry->dtype;
}

void weights_pack(uint8_t *to, const uint8_t *from,
                  const weights_entry_t *entry, weights_block_t block) {
  switch (dtype_bits(
      weights_data_dtype(entry))) { /* the size as a constant in each copy */
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
      MOEC_BUG("panels of %s", dtype_name(weights_data_dtype(entry)));
  }
}
