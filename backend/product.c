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

/* Parameters of the function that does all of a tile but the sink. */
enum {
  SUMS,
  A,
  B,
  N_ROWS,
  N_COLUMNS,
  K,
  A_ROW,
  A_K,
  NEXT, /* from the first element of A to that of the next tile; 0: none */
  N_PARAMS,
  N_POINTERS = N_ROWS
};

/* The part of C that a tile is, and its sums on the stack. */
typedef struct tile {
  LLVMValueRef m0, n0, n_rows, n_columns, sums;
} tile_t;

/* A stack object in the entry block, so that it is made once per call. */
static LLVMValueRef stack_block(emitter_t *em, LLVMTypeRef type, unsigned count,
                                const char *name) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
  LLVMBasicBlockRef entry =
      LLVMGetEntryBasicBlock(LLVMGetBasicBlockParent(here));
  LLVMValueRef first = LLVMGetFirstInstruction(entry);
  if (first != NULL)
    LLVMPositionBuilderBefore(em->builder, first);
  else
    LLVMPositionBuilderAtEnd(em->builder, entry);
  LLVMValueRef block =
      LLVMBuildAlloca(em->builder, LLVMArrayType2(type, count), name);
  LLVMSetAlignment(block, PRODUCT_LINE_BYTES);
  LLVMPositionBuilderAtEnd(em->builder, here);
  return block;
}

static void clear_sums(emitter_t *em, const product_types_t *types,
                       LLVMValueRef sums, LLVMValueRef n_rows) {
  LLVMValueRef count =
      product_mul(em, n_rows, product_const(em, types->columns));
  emit_loop_t each =
      product_loop(em, product_const(em, 0), count, PANEL_COLUMNS, "clear");
  LLVMValueRef zero = LLVMConstNull(emit_lanes(types->acc, types->lanes));
  for (unsigned lane = 0; lane < PANEL_COLUMNS; lane += types->lanes) {
    LLVMValueRef at = product_add(em, each.index, product_const(em, lane));
    product_store(em, zero,
                  product_element(em, types->acc, sums, at, "sum.ptr"));
  }
  emit_loop_end(em, &each, NULL);
}

/* sums = the tile's part of C. */
static void fill_multiply(emitter_t *em, const product_types_t *types,
                          LLVMValueRef func, LLVMValueRef a_k) {
  LLVMValueRef param[N_PARAMS];
  for (unsigned i = 0; i < N_PARAMS; i++) param[i] = LLVMGetParam(func, i);
  if (!product_is_one(a_k)) a_k = param[A_K];
  LLVMValueRef packed =
      stack_block(em, types->acc, PRODUCT_PACKED_LINES * types->line, "packed");
  LLVMValueRef rows = product_padded_rows(em, types, param[N_ROWS]);
  clear_sums(em, types, param[SUMS], rows);
  LLVMValueRef lines = LLVMBuildUDiv(
      em->builder, product_const(em, PRODUCT_PACKED_LINES), rows, "");
  LLVMValueRef most = product_mul(em, lines, product_const(em, types->line));
  LLVMValueRef last = product_sub(em, param[N_ROWS], product_const(em, 1));
  LLVMValueRef panel = product_const(em, PANEL_COLUMNS);
  LLVMValueRef panel_step = product_mul(em, param[K], panel);

  emit_loop_t block = emit_loop_begin(em, product_const(em, 0), param[K], most,
                                      0, NULL, "block");
  LLVMValueRef depth =
      product_min(em, product_sub(em, param[K], block.index), most);
  LLVMValueRef a_at = product_mul(em, block.index, a_k);
  LLVMValueRef b_at = product_mul(em, block.index, panel);
  LLVMValueRef more =
      LLVMBuildICmp(em->builder, LLVMIntSLT,
                    product_add(em, block.index, depth), param[K], "");
  LLVMValueRef ahead = LLVMBuildSelect(
      em->builder, more, depth,
      product_sub(em, param[NEXT], product_min(em, block.index, param[NEXT])),
      "ahead");
  product_rows_t part = {
      .a = product_element(em, types->a, param[A], a_at, "a.block"),
      .a_row = param[A_ROW],
      .a_k = a_k,
      .n_rows = rows,
      .last = last,
      .depth = depth,
      .ahead = ahead};
  product_pack(em, types, packed, &part);
  product_block_t sums = {
      .sums = param[SUMS],
      .packed = packed,
      .b = product_element(em, types->b, param[B], b_at, "b.block"),
      .n_rows = rows,
      .n_columns = param[N_COLUMNS],
      .depth = depth,
      .panel_step = panel_step};
  product_add_block(em, types, &sums);
  emit_loop_end(em, &block, NULL);
  LLVMBuildRetVoid(em->builder);
}

static void multiply(emitter_t *em, const product_types_t *types,
                     const product_spec_t *spec, const tile_t *t) {
  const char *name =
      arena_printf(em->arena, "product_%s_%s_%s_%s", dtype_name(types->a_dtype),
                   dtype_name(types->b_dtype), dtype_name(types->acc_dtype),
                   product_is_one(spec->a_k) ? "unit" : "any");
  LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
  LLVMValueRef func;
  if (product_shared_function(em, name, N_POINTERS, N_PARAMS, &func))
    fill_multiply(em, types, func, spec->a_k);
  LLVMPositionBuilderAtEnd(em->builder, here);
  /* A panel holds 32 * K elements, so column n0 begins at n0 * K. */
  LLVMValueRef a_at = product_mul(em, t->m0, spec->a_row);
  LLVMValueRef b_at = product_mul(em, t->n0, spec->K);
  LLVMValueRef rows = product_const(em, PRODUCT_TILE_ROWS);
  LLVMValueRef more_rows =
      LLVMBuildICmp(em->builder, LLVMIntSLT, product_add(em, t->m0, rows),
                    spec->M, "more.rows");
  LLVMValueRef next = LLVMBuildSelect(em->builder, more_rows,
                                      product_mul(em, rows, spec->a_row),
                                      product_const(em, 0), "next");
  LLVMValueRef args[N_PARAMS] = {
      [SUMS] = t->sums,
      [A] = product_element(em, types->a, spec->a, a_at, "a.tile"),
      [B] = product_element(em, types->b, spec->b, b_at, "b.tile"),
      [N_ROWS] = t->n_rows,
      [N_COLUMNS] = t->n_columns,
      [K] = spec->K,
      [A_ROW] = spec->a_row,
      [A_K] = spec->a_k,
      [NEXT] = next,
  };
  product_call(em, func, N_PARAMS, args);
}

/* Where the tile lies. Tiles go through the rows first: while they do, the same
 * panels are read again from a near cache; the price is to pack each row of A
 * anew for each tile across, which reads far less. */
static tile_t locate(emitter_t *em, const product_types_t *types,
                     const product_spec_t *spec) {
  LLVMValueRef rows = product_const(em, PRODUCT_TILE_ROWS);
  LLVMValueRef columns = product_const(em, types->columns);
  LLVMValueRef n_down = product_quotient(
      em, product_add(em, spec->M, product_const(em, PRODUCT_TILE_ROWS - 1)),
      PRODUCT_TILE_ROWS);
  LLVMValueRef right = LLVMBuildUDiv(em->builder, spec->tile, n_down, "right");
  LLVMValueRef down =
      product_sub(em, spec->tile, product_mul(em, right, n_down));
  tile_t t = {.m0 = product_mul(em, down, rows),
              .n0 = product_mul(em, right, columns)};
  t.n_rows = product_min(em, product_sub(em, spec->M, t.m0), rows);
  t.n_columns = product_min(em, product_sub(em, spec->N, t.n0), columns);
  t.sums =
      stack_block(em, types->acc, PRODUCT_TILE_ROWS * types->columns, "sums");
  return t;
}

/* Hands columns [begin, end) of a row on: whole vectors, or the last one. */
static void sink_vectors(emitter_t *em, const product_types_t *types,
                         const product_spec_t *spec, const tile_t *t,
                         LLVMValueRef row, LLVMValueRef begin, LLVMValueRef end,
                         bool whole) {
  LLVMValueRef start = product_mul(em, row, product_const(em, types->columns));
  emit_loop_t each = product_loop(em, begin, end, types->lanes, "sink");
  LLVMValueRef at = product_add(em, start, each.index);
  LLVMValueRef acc = product_load(
      em, types->acc, types->lanes,
      product_element(em, types->acc, t->sums, at, "sum.ptr"), "sum");
  LLVMValueRef valid = whole ? NULL : product_sub(em, end, each.index);
  LLVMValueRef m = product_add(em, t->m0, row);
  LLVMValueRef n = product_add(em, t->n0, each.index);
  spec->sink(spec->sink_user, acc, types->lanes, m, n, valid);
  emit_loop_end(em, &each, NULL);
}

static void sink_rows(emitter_t *em, const product_types_t *types,
                      const product_spec_t *spec, const tile_t *t) {
  LLVMValueRef zero = product_const(em, 0);
  LLVMValueRef lanes = product_const(em, types->lanes);
  LLVMValueRef whole =
      product_mul(em, product_quotient(em, t->n_columns, types->lanes), lanes);
  bool always_whole = LLVMIsAConstantInt(spec->N) != NULL &&
                      LLVMConstIntGetZExtValue(spec->N) % types->lanes == 0;
  emit_loop_t row = product_loop(em, zero, t->n_rows, 1, "sink.row");
  sink_vectors(em, types, spec, t, row.index, zero, whole, true);
  if (!always_whole)
    sink_vectors(em, types, spec, t, row.index, whole, t->n_columns, false);
  emit_loop_end(em, &row, NULL);
}

void product_tile_size(dtype_t acc_dtype, unsigned *out_rows,
                       unsigned *out_columns) {
  *out_rows = PRODUCT_TILE_ROWS;
  *out_columns = product_tile_columns(acc_dtype);
}

void emit_product_tile(emitter_t *em, const product_spec_t *spec) {
  product_types_t types =
      product_types(em, spec->a_dtype, spec->b_dtype, spec->acc_dtype);
  tile_t tile = locate(em, &types, spec);
  multiply(em, &types, spec, &tile);
  sink_rows(em, &types, spec, &tile);
}
