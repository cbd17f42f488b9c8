/* Between the files of product*.c: functions shared by all products of a module
 * that agree in types, emitted into it on first use. */
#ifndef BACKEND_PRODUCT_INTERNAL_H
#define BACKEND_PRODUCT_INTERNAL_H

#include "backend/emit.h"
#include "ir/tile.h"

enum {
  PRODUCT_MAX_STEP = 4,
  PRODUCT_LINE_BYTES = 64,
  PRODUCT_PACKED_LINES = 384, /* of the packed block of A */
  PRODUCT_AHEAD_BYTES = 4096, /* from reading B to asking for it */
  PRODUCT_NEAR_BYTES = 8192,  /* of a panel that is read in several strips */
  PRODUCT_WIDE_ROWS = 128,    /* of a panel that is widened for several tiles */
  PRODUCT_BLOCK_BYTES = 1 << 20, /* of panels that tiles go along together */
  PRODUCT_ROWS_DEPTH = 256,      /* of a block of K where A is read in place */
  PRODUCT_SET_BYTES = 4096,   /* lines so far apart are in one set of a cache */
  PRODUCT_TAIL_BYTES = 32768, /* of the copy of a part of a panel of windows */
};

/* Types and sizes that follow from a product's types and the ISA. */
typedef struct product_types {
  dtype_t a_dtype, b_dtype, acc_dtype;
  LLVMTypeRef a, b, acc; /* scalars, as in memory */
  LLVMTypeRef packed;    /* of elements of packed A */
  unsigned lanes;        /* of an accumulator vector */
  unsigned line;         /* elements of a line of packed A */
  unsigned columns;      /* of a tile; row stride of the sums */
  unsigned step;         /* of k: 4 with dot products, else 1 */
  bool flips;            /* the top bit of A: see product_dot.c */
} product_types_t;

/* The part of C that a tile is, and its sums on the stack. */
typedef struct product_tile {
  LLVMValueRef m0, n0, n_rows, n_columns, sums;
  LLVMValueRef ends_row; /* the next tile has other rows of A */
} product_tile_t;

/* A stack object in the entry block, so that it is made once per call. */
LLVMValueRef product_stack(emitter_t *em, LLVMTypeRef type, unsigned count,
                           const char *name);

product_types_t product_types(emitter_t *em, dtype_t a_dtype, dtype_t b_dtype,
                              dtype_t acc_dtype);

/* Elements of A as loaded from memory, in the form in which they are packed. */
LLVMValueRef product_packed(emitter_t *em, const product_types_t *types,
                            LLVMValueRef value);

/* Elements as loaded from memory, in the type of the accumulators. */
LLVMValueRef product_widen(emitter_t *em, const product_types_t *types,
                           dtype_t from, LLVMValueRef value);

/* Rows that register tiles compute for n_rows rows. */
LLVMValueRef product_padded_rows(emitter_t *em, const product_types_t *types,
                                 LLVMValueRef n_rows);

/* A block of K of some rows of A. */
typedef struct product_rows {
  LLVMValueRef a, a_row, a_k; /* element k of row r is a[r * a_row + k * a_k] */
  LLVMValueRef n_rows, last;  /* rows beyond the last one are copies of it */
  LLVMValueRef depth, ahead;  /* `ahead` elements on begins the next block */
} product_rows_t;

/* Copies it in packed form:
 *     packed[k / line][r][k % line] = a[min(r, last) * a_row + k * a_k]
 * for r in [0, n_rows) and k in [0, depth), and zeros up to a multiple of the
 * step. */
void product_pack(emitter_t *em, const product_types_t *types,
                  LLVMValueRef packed, const product_rows_t *rows);

/* A block of K of all panels of a tile. */
typedef struct product_block {
  LLVMValueRef sums,
      packed;              /* rows of types->columns; as product_pack has it */
  LLVMValueRef b, offsets; /* offsets NULL: b in panels */
  LLVMValueRef n_rows, n_columns, depth;
  LLVMValueRef panel_step;    /* elements of b from 32 columns to the next */
  LLVMValueRef channel, room; /* of windows: see product_spec_t */
  LLVMValueRef first_row;     /* rows before it are left alone; NULL: none */
} product_block_t;

/* Adds it:
 *     sums[r][n] += sum over k in [0, depth) of packed[k / line][r][k % line] *
 *                   b[n / 32 * panel_step + k * 32 + n % 32], or
 *                   b[n / 32 * panel_step + offsets[k] + n % 32]
 * for r in [0, n_rows), n in [0, n_columns) rounded up to panels. */
void product_add_block(emitter_t *em, const product_types_t *types,
                       const product_block_t *block);

/* The same for columns at offsets, any number of them, without reading beyond
 * the room: what cannot be read in place is copied to the stack. depth is at
 * most product_window_depth. */
void product_add_windows(emitter_t *em, const product_types_t *types,
                         product_block_t block);
unsigned product_window_depth(const product_types_t *types);

/* Whether tiles of these types can read A where it lies. */
bool product_reads_rows(emitter_t *em, const product_types_t *types);
/* Adds all of K of a tile of PRODUCT_TILE_ROWS rows whose elements lie side by
 * side along k, a_row apart; b in panels, panel_step apart. */
typedef struct product_direct {
  LLVMValueRef sums, a, a_row, b, n_columns, depth, panel_step;
  LLVMValueRef k; /* of the first element; 0: sums begin with 0 */
} product_direct_t;
void product_add_rows(emitter_t *em, const product_types_t *types,
                      const product_direct_t *part);

/* Hands the tile's sums on to spec->line_sink, line by line. */
void product_sink_lines(emitter_t *em, const product_types_t *types,
                        const product_spec_t *spec, const product_tile_t *tile);
/* ---- backend/product_dot.c: products of 8-bit integers by dot products --- */

/* Fills in packed, line, step and flips where these types have dot products. */
void product_dot_types(emitter_t *em, product_types_t *types);
/* `lanes` columns of four rows of B, from this one on, as lanes of four bytes.
 */
LLVMValueRef product_dot_quads(emitter_t *em, const product_types_t *types,
                               LLVMValueRef const *rows, unsigned column);
/* Four elements of packed A times each lane's of B. */
LLVMValueRef product_dot_add(emitter_t *em, const product_types_t *types,
                             LLVMValueRef sums, LLVMValueRef a, LLVMValueRef b);
/* What has to be taken from the sums of all rows where A is flipped. */
LLVMValueRef product_dot_excess(emitter_t *em, const product_types_t *types,
                                LLVMValueRef sums, LLVMValueRef b);

/* The function of this name with n_ptr pointers and then i64 as parameters, and
 * whether it still has to be filled: then the builder stands in its entry
 * block, else where it was. The caller puts it, and the debug scope, back. */
bool product_shared_function(emitter_t *em, const char *name, unsigned n_ptr,
                             unsigned n_params, LLVMValueRef *out_func);
void product_call(emitter_t *em, LLVMValueRef func, unsigned n,
                  LLVMValueRef *args);
bool product_is_one(LLVMValueRef value); /* the constant 1 */

/* Short forms on i64 and pointers. */
LLVMValueRef product_const(emitter_t *em, uint64_t value);
LLVMValueRef product_add(emitter_t *em, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef product_sub(emitter_t *em, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef product_mul(emitter_t *em, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef product_min(emitter_t *em, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef product_max(emitter_t *em, LLVMValueRef a, LLVMValueRef b);
/* floor(a / b) of values that are not negative. */
LLVMValueRef product_quotient(emitter_t *em, LLVMValueRef a, unsigned b);
LLVMValueRef product_element(emitter_t *em, LLVMTypeRef type, LLVMValueRef base,
                             LLVMValueRef index, const char *name);
emit_loop_t product_loop(emitter_t *em, LLVMValueRef begin, LLVMValueRef end,
                         unsigned step, const char *name);
/* Loads and stores aligned as one element is. */
LLVMValueRef product_load(emitter_t *em, LLVMTypeRef scalar, unsigned lanes,
                          LLVMValueRef ptr, const char *name);
void product_store(emitter_t *em, LLVMValueRef value, LLVMValueRef ptr);

#endif
