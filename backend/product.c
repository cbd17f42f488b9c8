/* Matrix products: one tile of C = A * B. What becomes of the elements of C is
 * the caller's matter (the sink); so is packing B in panels.
 *
 * A tile works on blocks of K: rows of A are copied, converted to the type of
 * the accumulators (or bytes, for dot products), to a packed block on the
 * stack (but rows of whole tiles are read where they lie if that is as good);
 * then each panel of B passes once by all rows in register tiles that
 * add to a block of C on the stack; the sink reads that block after the last
 * block of K. The fewer rows there are, the deeper a block. Rows are rounded up
 * to register tiles with copies of the last row, whose results nobody reads. */
#include "backend/debug.h"
#include "backend/product_internal.h"

/* Parameters of the function that does all of a tile but the sink. */
enum {
  SUMS,
  A,
  B,
  OFFSETS, /* null: B is in panels */
  N_ROWS,
  N_COLUMNS,
  K,
  A_ROW,
  A_K,
  CHANNEL, /* of windows, as in product_spec_t */
  ROOM,    /* elements from B on */
  NEXT,    /* from the first element of A to that of the next tile; 0: none */
  N_PARAMS,
  N_POINTERS = N_ROWS
};

LLVMValueRef product_stack(emitter_t *em, LLVMTypeRef type, unsigned count,
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

/* Where rows of A can be read in place, the whole tile; how much of K is done:
 * all or nothing. Lines of rows that lie PRODUCT_SET_BYTES apart would push
 * each other out of the nearest cache. */
static LLVMValueRef multiply_rows(emitter_t *em, const product_types_t *types,
                                  LLVMValueRef const *param, LLVMValueRef a_k,
                                  bool in_windows) {
  LLVMValueRef zero = product_const(em, 0);
  if (in_windows || !product_is_one(a_k) || !product_reads_rows(em, types))
    return zero;
  const unsigned bytes = dtype_bits(types->a_dtype) / 8;
  LLVMValueRef whole =
      LLVMBuildICmp(em->builder, LLVMIntEQ, param[N_ROWS],
                    product_const(em, PRODUCT_TILE_ROWS), "whole");
  LLVMValueRef within =
      LLVMBuildAnd(em->builder, param[A_ROW],
                   product_const(em, PRODUCT_SET_BYTES / bytes - 1), "");
  LLVMValueRef apart =
      LLVMBuildICmp(em->builder, LLVMIntNE, within, zero, "apart");
  LLVMValueRef direct = LLVMBuildAnd(em->builder, whole, apart, "direct");
  LLVMValueRef end =
      LLVMBuildSelect(em->builder, direct, param[K], zero, "direct.k");
  LLVMValueRef panel = product_const(em, PANEL_COLUMNS);
  emit_loop_t block = product_loop(em, zero, end, PRODUCT_ROWS_DEPTH, "block");
  const product_direct_t part = {
      .sums = param[SUMS],
      .a = product_element(em, types->a, param[A], block.index, "a.block"),
      .a_row = param[A_ROW],
      .b = product_element(em, types->b, param[B],
                           product_mul(em, block.index, panel), "b.block"),
      .n_columns = param[N_COLUMNS],
      .depth = product_min(em, product_sub(em, end, block.index),
                           product_const(em, PRODUCT_ROWS_DEPTH)),
      .panel_step = product_mul(em, param[K], panel),
      .k = block.index};
  product_add_rows(em, types, &part);
  emit_loop_end(em, &block, NULL);
  return end;
}

/* sums = the tile's part of C. */
static void fill_multiply(emitter_t *em, const product_types_t *types,
                          LLVMValueRef func, LLVMValueRef a_k,
                          bool in_windows) {
  LLVMValueRef param[N_PARAMS];
  for (unsigned i = 0; i < N_PARAMS; i++) param[i] = LLVMGetParam(func, i);
  if (!product_is_one(a_k)) a_k = param[A_K];
  LLVMValueRef packed = product_stack(
      em, types->packed, PRODUCT_PACKED_LINES * types->line, "packed");
  LLVMValueRef rows = product_padded_rows(em, types, param[N_ROWS]);
  LLVMValueRef lines = LLVMBuildUDiv(
      em->builder, product_const(em, PRODUCT_PACKED_LINES), rows, "");
  LLVMValueRef most = product_mul(em, lines, product_const(em, types->line));
  if (in_windows)
    most =
        product_min(em, most, product_const(em, product_window_depth(types)));
  LLVMValueRef last = product_sub(em, param[N_ROWS], product_const(em, 1));
  LLVMValueRef panel = product_const(em, PANEL_COLUMNS);
  product_block_t part = {.sums = param[SUMS],
                          .packed = packed,
                          .b = param[B],
                          .n_rows = rows,
                          .n_columns = param[N_COLUMNS],
                          .panel_step = panel,
                          .channel = param[CHANNEL],
                          .room = param[ROOM]};
  if (!in_windows) part.panel_step = product_mul(em, param[K], panel);

  LLVMValueRef done = multiply_rows(em, types, param, a_k, in_windows);
  LLVMValueRef none =
      LLVMBuildICmp(em->builder, LLVMIntEQ, done, product_const(em, 0), "none");
  LLVMValueRef cleared =
      LLVMBuildSelect(em->builder, none, rows, product_const(em, 0), "");
  clear_sums(em, types, param[SUMS], cleared);
  emit_loop_t block =
      emit_loop_begin(em, done, param[K], most, 0, NULL, "block");
  LLVMValueRef depth =
      product_min(em, product_sub(em, param[K], block.index), most);
  LLVMValueRef a_at = product_mul(em, block.index, a_k);
  part.depth = depth;
  if (in_windows)
    part.offsets =
        product_element(em, em->i64, param[OFFSETS], block.index, "offsets");
  else
    part.b = product_element(em, types->b, param[B],
                             product_mul(em, block.index, panel), "b.block");
  LLVMValueRef more =
      LLVMBuildICmp(em->builder, LLVMIntSLT,
                    product_add(em, block.index, depth), param[K], "");
  LLVMValueRef ahead = LLVMBuildSelect(
      em->builder, more, depth,
      product_sub(em, param[NEXT], product_min(em, block.index, param[NEXT])),
      "ahead");
  product_rows_t from = {
      .a = product_element(em, types->a, param[A], a_at, "a.block"),
      .a_row = param[A_ROW],
      .a_k = a_k,
      .n_rows = rows,
      .last = last,
      .depth = depth,
      .ahead = ahead};
  product_pack(em, types, packed, &from);
  if (in_windows)
    product_add_windows(em, types, part);
  else
    product_add_block(em, types, &part);
  emit_loop_end(em, &block, NULL);
  LLVMBuildRetVoid(em->builder);
}

static void multiply(emitter_t *em, const product_types_t *types,
                     const product_spec_t *spec, const product_tile_t *t) {
  bool in_windows = spec->offsets != NULL;
  const char *name = arena_printf(
      em->arena, "product_%s_%s_%s_%s%s", dtype_name(types->a_dtype),
      dtype_name(types->b_dtype), dtype_name(types->acc_dtype),
      product_is_one(spec->a_k) ? "unit" : "any", in_windows ? "_windows" : "");
  const debug_scope_t scope = debug_here(em);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
  LLVMValueRef func;
  if (product_shared_function(em, name, N_POINTERS, N_PARAMS, &func))
    fill_multiply(em, types, func, spec->a_k, in_windows);
  LLVMPositionBuilderAtEnd(em->builder, here);
  debug_close(em, scope);
  /* A panel holds 32 * K elements, so its column n0 begins at n0 * K. */
  LLVMValueRef a_at = product_mul(em, t->m0, spec->a_row);
  LLVMValueRef b_at = in_windows ? t->n0 : product_mul(em, t->n0, spec->K);
  LLVMValueRef rows = product_const(em, PRODUCT_TILE_ROWS);
  LLVMValueRef more_rows =
      LLVMBuildICmp(em->builder, LLVMIntSLT, product_add(em, t->m0, rows),
                    spec->M, "more.rows");
  more_rows = LLVMBuildAnd(em->builder, more_rows, t->ends_row, "");
  LLVMValueRef next = LLVMBuildSelect(em->builder, more_rows,
                                      product_mul(em, rows, spec->a_row),
                                      product_const(em, 0), "next");
  LLVMValueRef args[N_PARAMS] = {
      [SUMS] = t->sums,
      [A] = product_element(em, types->a, spec->a, a_at, "a.tile"),
      [B] = product_element(em, types->b, spec->b, b_at, "b.tile"),
      [OFFSETS] = in_windows ? spec->offsets : LLVMConstNull(em->ptr),
      [N_ROWS] = t->n_rows,
      [CHANNEL] = in_windows ? spec->channel : product_const(em, 0),
      [ROOM] = in_windows ? product_sub(em, spec->room, t->n0)
                          : product_const(em, 0),
      [N_COLUMNS] = t->n_columns,
      [K] = spec->K,
      [A_ROW] = spec->a_row,
      [A_K] = spec->a_k,
      [NEXT] = next,
  };
  product_call(em, func, N_PARAMS, args);
}

static LLVMValueRef count_tiles(emitter_t *em, LLVMValueRef n, unsigned size) {
  return product_quotient(em, product_add(em, n, product_const(em, size - 1)),
                          size);
}

/* Tiles across of one block: panels that take PRODUCT_BLOCK_BYTES. */
static LLVMValueRef block_width(emitter_t *em, const product_types_t *types,
                                const product_spec_t *spec) {
  unsigned row = types->columns * dtype_bits(types->b_dtype) / 8;
  LLVMValueRef one = product_const(em, 1);
  LLVMValueRef depth = product_max(em, spec->K, one);
  LLVMValueRef n = LLVMBuildUDiv(
      em->builder, product_const(em, PRODUCT_BLOCK_BYTES / row), depth, "");
  return product_max(em, n, one);
}

/* Where the tile lies. Tiles go along a block of columns, whose panels a near
 * cache holds, for one row of tiles after the other: so A is read from memory
 * once for each block. The price is to pack each row of A anew for each tile
 * across, which reads far less than a tile computes. */
static product_tile_t locate(emitter_t *em, const product_types_t *types,
                             const product_spec_t *spec) {
  LLVMValueRef rows = product_const(em, PRODUCT_TILE_ROWS);
  LLVMValueRef columns = product_const(em, types->columns);
  LLVMValueRef n_down = count_tiles(em, spec->M, PRODUCT_TILE_ROWS);
  LLVMValueRef n_across = count_tiles(em, spec->N, types->columns);
  LLVMValueRef most = block_width(em, types, spec);
  LLVMValueRef block = LLVMBuildUDiv(em->builder, spec->tile,
                                     product_mul(em, n_down, most), "block");
  LLVMValueRef first = product_mul(em, block, most);
  LLVMValueRef width = product_min(em, product_sub(em, n_across, first), most);
  LLVMValueRef within =
      product_sub(em, spec->tile, product_mul(em, first, n_down));
  LLVMValueRef down = LLVMBuildUDiv(em->builder, within, width, "down");
  LLVMValueRef right = product_sub(em, within, product_mul(em, down, width));
  LLVMValueRef end = product_sub(em, width, product_const(em, 1));
  product_tile_t t = {
      .m0 = product_mul(em, down, rows),
      .n0 = product_mul(em, product_add(em, first, right), columns),
      .ends_row = LLVMBuildICmp(em->builder, LLVMIntEQ, right, end, "ends")};
  t.n_rows = product_min(em, product_sub(em, spec->M, t.m0), rows);
  t.n_columns = product_min(em, product_sub(em, spec->N, t.n0), columns);
  t.sums =
      product_stack(em, types->acc, PRODUCT_TILE_ROWS * types->columns, "sums");
  return t;
}

/* Hands columns [begin, end) of a row on: whole vectors, or the last one. */
static void sink_vectors(emitter_t *em, const product_types_t *types,
                         const product_spec_t *spec, const product_tile_t *t,
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
                      const product_spec_t *spec, const product_tile_t *t) {
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

/* What the sink reads comes from far while the tile computes. */
static void fetch_rows(emitter_t *em, const product_types_t *types,
                       const product_spec_t *spec, const product_tile_t *t) {
  LLVMValueRef zero = product_const(em, 0);
  emit_loop_t row = product_loop(em, zero, t->n_rows, 1, "fetch.row");
  emit_loop_t each = product_loop(em, zero, t->n_columns, types->line, "fetch");
  LLVMValueRef m = product_add(em, t->m0, row.index);
  LLVMValueRef n = product_add(em, t->n0, each.index);
  spec->fetch(spec->sink_user, m, n);
  emit_loop_end(em, &each, NULL);
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
  product_tile_t tile = locate(em, &types, spec);
  if (spec->fetch != NULL) fetch_rows(em, &types, spec, &tile);
  multiply(em, &types, spec, &tile);
  if (spec->offsets != NULL)
    product_sink_lines(em, &types, spec, &tile);
  else
    sink_rows(em, &types, spec, &tile);
}
