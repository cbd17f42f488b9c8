/* The constant data of a compiled model: collected as views while code is
 * generated, laid out as kernels read it, streamed into the output once. */
#ifndef BACKEND_WEIGHTS_H
#define BACKEND_WEIGHTS_H

#include "ir/ir.h"

enum {
  WEIGHTS_ALIGN = 64,         /* of every entry's offset, in bytes */
  WEIGHTS_PAGE = 4096,        /* of entries of at least this size */
  WEIGHTS_PANEL_COLUMNS = 32, /* of WEIGHTS_PANELS */
};

typedef enum {
  /* In the same order. */
  WEIGHTS_PLAIN,
  /* Matrices B[batch][k][n] in panels of 32 columns:
   *     to[batch][p][k][j] = from[batch * stride_batch + k * stride_k +
   *                               (32 * p + j) * stride_n]
   * for p in [0, ceil(N / 32)), k in [0, K), j in [0, 32), and 0 where
   * 32 * p + j >= N. Elements of 1, 2, 4 or 8 bytes, moved as bits. */
  WEIGHTS_PANELS,
} weights_layout_t;

typedef struct weights_entry {
  const ir_data_t *data; /* bytes and size are used; a view that must outlive
                            the weights_t. Not a string tensor */
  dtype_t dtype;         /* of the elements as they are written */
  dtype_t data_dtype;    /* f32: data that half_narrow makes f16 or bf16;
                            DT_NONE or dtype: data is written as it is */
  weights_layout_t layout;
  /* Panels only. Strides are in elements, at least 0, into data. */
  uint64_t n_batch, K, N;
  uint64_t stride_batch, stride_k, stride_n;
} weights_entry_t;

typedef struct weights weights_t;

/* Lives in the arena; nothing to dispose of. Not thread-safe. */
weights_t *weights_create(arena_t *arena);

/* A read-only mapping of a file, whose pages weights_write may drop from memory
 * once they are used: they can be read again. */
typedef struct weights_mapping {
  const void *base;
  size_t size;
} weights_mapping_t;

/* Says which mappings there are (kept by reference). Never say it of other
 * memory: its contents would be lost. */
void weights_may_drop(weights_t *weights, size_t n,
                      const weights_mapping_t *mappings);

/* Appends an entry; the offset of its first byte from the base symbol, a
 * multiple of WEIGHTS_ALIGN and, for entries of WEIGHTS_PAGE bytes or more, of
 * WEIGHTS_PAGE. An entry whose bytes and layout equal an earlier one's shares
 * its place. Views and strides beyond the data are bugs of the caller; a total
 * above WEIGHTS_MAX_BYTES leaves through the recovery point with MOEC_E_LIMIT.
 */
uint64_t weights_add(weights_t *weights, const weights_entry_t *entry);

/* The same for n > 0 entries of one layout, one after the other without gaps;
 * panels are of the same size in bytes for each matrix. Shares with a stack of
 * the same views. The array must outlive the weights_t. */
uint64_t weights_add_stack(weights_t *weights, unsigned n,
                           const weights_entry_t *entries);

/* Bytes that the entry takes in the weights, without alignment. */
uint64_t weights_entry_bytes(const weights_entry_t *entry);

/* Bytes of all entries up to now, at least 1: the base symbol has a place even
 * when nothing was added. */
uint64_t weights_bytes(const weights_t *weights);

/* Calls visit(user, offset, bytes) for every entry, shared ones once, in
 * ascending order of offsets. */
void weights_visit(const weights_t *weights,
                   void (*visit)(void *user, uint64_t offset, uint64_t bytes),
                   void *user);

typedef struct weights_stats {
  uint64_t n_entries, n_shared; /* calls of weights_add; those that shared */
  uint64_t shared_bytes;        /* that sharing saved */
} weights_stats_t;
weights_stats_t weights_stats(const weights_t *weights);

/* Takes size bytes at an offset. Offsets do not ascend; what is never written
 * is zero (large runs of zeros are left out). A status other than MOEC_OK ends
 * weights_write, which returns it. */
typedef moec_status_t (*weights_sink_fn)(void *user, uint64_t offset,
                                         const void *data, size_t size);

/* Streams all entries through a buffer of at most 4 MiB. *out_digest becomes a
 * hash of the bytes and their places; out_digest may be NULL. */
MOEC_MUST_CHECK moec_status_t weights_write(const weights_t *weights,
                                            weights_sink_fn sink, void *user,
                                            uint64_t *out_digest);

/* A sink into zeroed memory: user is the base, a uint8_t[weights_bytes]. */
moec_status_t weights_to_memory(void *user, uint64_t offset, const void *data,
                                size_t size);

/* ---- backend/weights_pack.c ---------------------------------------------- */

/* A part of one matrix: rows [k_begin, k_end) of panels [p_begin, p_end). */
typedef struct weights_block {
  uint64_t k_begin, k_end, p_begin, p_end;
} weights_block_t;

/* Packs a block of the entry's matrix that begins at `from`, in the type of its
 * data. Row k of panel p goes to
 * to[(p - p_begin) * (k_end - k_begin) + k - k_begin][32]. */
dtype_t weights_data_dtype(const weights_entry_t *entry);
void weights_pack(uint8_t *to, const uint8_t *from,
                  const weights_entry_t *entry, weights_block_t block);

#endif
