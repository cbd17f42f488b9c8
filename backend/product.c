/* Matrix products: one tile of C = A * B. What becomes of the elements of C is
 * the caller's matter (the sink); so is packing B in panels.
 *
 * A tile works on blocks of K: rows of A are copied, converted to the type of
 * the accumulators, to a packed block on the stack; then each panel of B passes
 * once by all rows in register tiles that add to a block of C on the stack; the
 * sink reads that block after the last block of K. The fewer rows there are,
 * the deeper a block. Rows are rounded up to register tiles with copies of the
 * last row, whose results nobody reads. */
#include "backend/product_internal.h"

typedef struct tile {
  emitter_t *em;
  const product_spec_t *spec;
  product_types_t types;
  LLVMValueRef packed, sums;              /* blocks of A and C on the stack */
  LLVMValueRef m0, n0, n_rows, n_columns; /* the tile's part of C */
  LLVMValueRef padded_rows;               /* rows that register tiles compute */
} tile_t;

/* A stack object in the entry block, so that it is made once per call. */
static LLVMValueRef stack_block(const tile_t *t, unsigned count,
                                const char *name) {
  LLVMBuilderRef builder = t->em->builder;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(builder);
  LLVMBasicBlockRef entry =
      LLVMGetEntryBasicBlock(LLVMGetBasicBlockParent(here));
  LLVMValueRef first = LLVMGetFirstInstruction(entry);
  if (first != NULL)
    LLVMPositionBuilderBefore(builder, first);
  else
    LLVMPositionBuilderAtEnd(builder, entry);
  LLVMValueRef block =
      LLVMBuildAlloca(builder, LLVMArrayType2(t->types.acc, count), name);
  LLVMSetAlignment(block, PRODUCT_LINE_BYTES);
  LLVMPositionBuilderAtEnd(builder, here);
  return block;
}

/* Where the tile lies: tiles go through the columns first. */
static void locate(tile_t *t) {
  emitter_t *em = t->em;
  const product_spec_t *spec = t->spec;
  unsigned n_columns = t->types.columns;
  LLVMValueRef rows = product_const(em, PRODUCT_TILE_ROWS);
  LLVMValueRef columns = product_const(em, n_columns);
  LLVMValueRef across = product_quotient(
      em, product_add(em, spec->N, product_const(em, n_columns - 1)),
      n_columns);
  LLVMValueRef down = LLVMBuildUDiv(em->builder, spec->tile, across, "down");
  LLVMValueRef right =
      product_sub(em, spec->tile, product_mul(em, down, across));
  t->m0 = product_mul(em, down, rows);
  t->n0 = product_mul(em, right, columns);
  t->n_rows = product_min(em, product_sub(em, spec->M, t->m0), rows);
  t->n_columns = product_min(em, product_sub(em, spec->N, t->n0), columns);
  t->padded_rows = product_padded_rows(em, &t->types, t->n_rows);
}

static void clear_sums(const tile_t *t) {
  emitter_t *em = t->em;
  LLVMValueRef count =
      product_mul(em, t->padded_rows, product_const(em, t->types.columns));
  emit_loop_t each =
      product_loop(em, product_const(em, 0), count, PRODUCT_PANEL, "clear");
  LLVMValueRef zero = LLVMConstNull(emit_lanes(t->types.acc, t->types.lanes));
  for (unsigned lane = 0; lane < PRODUCT_PANEL; lane += t->types.lanes) {
    LLVMValueRef at = product_add(em, each.index, product_const(em, lane));
    product_store(em, zero,
                  product_element(em, t->types.acc, t->sums, at, "sum.ptr"));
  }
  emit_loop_end(em, &each, NULL);
}

static void multiply(const tile_t *t) {
  emitter_t *em = t->em;
  const product_spec_t *spec = t->spec;
  const product_types_t *types = &t->types;
  LLVMValueRef lines = LLVMBuildUDiv(
      em->builder, product_const(em, PRODUCT_PACKED_LINES), t->padded_rows, "");
  LLVMValueRef most = product_mul(em, lines, product_const(em, types->line));
  LLVMValueRef a = product_element(
      em, types->a, spec->a, product_mul(em, t->m0, spec->a_row), "a.tile");
  /* A panel holds 32 * K elements, so column n0 begins at n0 * K. */
  LLVMValueRef b = product_element(em, types->b, spec->b,
                                   product_mul(em, t->n0, spec->K), "b.tile");
  LLVMValueRef width = product_const(em, PRODUCT_PANEL);
  LLVMValueRef last = product_sub(em, t->n_rows, product_const(em, 1));

  emit_loop_t block = emit_loop_begin(em, product_const(em, 0), spec->K, most,
                                      0, NULL, "block");
  LLVMValueRef depth =
      product_min(em, product_sub(em, spec->K, block.index), most);
  LLVMValueRef a_at = product_mul(em, block.index, spec->a_k);
  product_pack(em, types, t->packed, t->padded_rows, last, depth,
               product_element(em, types->a, a, a_at, "a.block"), spec->a_row,
               spec->a_k);
  LLVMValueRef b_at = product_mul(em, block.index, width);
  product_add_block(em, types, t->sums, t->packed, t->padded_rows, t->n_columns,
                    depth, product_element(em, types->b, b, b_at, "b.block"),
                    product_mul(em, spec->K, width));
  emit_loop_end(em, &block, NULL);
}

/* Hands columns [begin, end) of a row on; `whole` vectors or the last one. */
static void sink_vectors(const tile_t *t, LLVMValueRef row, LLVMValueRef begin,
                         LLVMValueRef end, bool whole) {
  emitter_t *em = t->em;
  const product_types_t *types = &t->types;
  LLVMValueRef start = product_mul(em, row, product_const(em, types->columns));
  emit_loop_t each = product_loop(em, begin, end, types->lanes, "sink");
  LLVMValueRef from = product_element(
      em, types->acc, t->sums, product_add(em, start, each.index), "sum.ptr");
  LLVMValueRef acc = product_load(em, types->acc, types->lanes, from, "sum");
  LLVMValueRef valid = whole ? NULL : product_sub(em, end, each.index);
  t->spec->sink(t->spec->sink_user, acc, types->lanes,
                product_add(em, t->m0, row), product_add(em, t->n0, each.index),
                valid);
  emit_loop_end(em, &each, NULL);
}

static void sink_rows(const tile_t *t) {
  emitter_t *em = t->em;
  unsigned lanes = t->types.lanes;
  LLVMValueRef whole = product_mul(
      em, product_quotient(em, t->n_columns, lanes), product_const(em, lanes));
  LLVMValueRef n = t->spec->N;
  bool always_whole =
      LLVMIsAConstantInt(n) != NULL && LLVMConstIntGetZExtValue(n) % lanes == 0;
  emit_loop_t row =
      product_loop(em, product_const(em, 0), t->n_rows, 1, "sink.row");
  sink_vectors(t, row.index, product_const(em, 0), whole, true);
  if (!always_whole) sink_vectors(t, row.index, whole, t->n_columns, false);
  emit_loop_end(em, &row, NULL);
}

void product_tile_size(dtype_t acc_dtype, unsigned *out_rows,
                       unsigned *out_columns) {
  *out_rows = PRODUCT_TILE_ROWS;
  *out_columns = dtype_bits(acc_dtype) > 32 ? 64 : 128;
}

void emit_product_tile(emitter_t *em, const product_spec_t *spec) {
  tile_t t = {.em = em, .spec = spec};
  t.types = product_types(em, spec->a_dtype, spec->b_dtype, spec->acc_dtype);
  t.packed = stack_block(&t, PRODUCT_PACKED_LINES * t.types.line, "packed");
  t.sums = stack_block(&t, PRODUCT_TILE_ROWS * t.types.columns, "sums");
  locate(&t);
  clear_sums(&t);
  multiply(&t);
  sink_rows(&t);
}
