/* Matrix products whose columns are windows of an image: row k of B begins at
 * an offset of its own, and of the columns, which lie side by side, those
 * between two lines of windows are of no use. */
#include "backend/product_internal.h"

unsigned product_window_depth(const product_types_t *types) {
  return PRODUCT_TAIL_BYTES / (PANEL_COLUMNS * dtype_bits(types->b_dtype) / 8);
}

/* Lanes below `count`. */
static LLVMValueRef lane_mask(emitter_t *em, unsigned lanes,
                              LLVMValueRef count) {
  LLVMValueRef ids = emit_lane_ids(em, em->i64, lanes);
  return LLVMBuildICmp(em->builder, LLVMIntSLT, ids,
                       emit_splat(em, count, lanes), "inside");
}

/* panel[k][0 .. n) = b[offsets[k] + 0 .. n), 0 beyond, for n <= 32. */
static void copy_panel(emitter_t *em, const product_types_t *types,
                       const product_block_t *block, LLVMValueRef panel,
                       LLVMValueRef b, LLVMValueRef n) {
  unsigned bytes = dtype_bits(types->b_dtype) / 8;
  unsigned lanes = em->isa->vector_bytes / bytes;
  if (lanes > PANEL_COLUMNS) lanes = PANEL_COLUMNS;
  LLVMTypeRef type = emit_lanes(types->b, lanes);
  LLVMValueRef columns = product_const(em, PANEL_COLUMNS);
  emit_loop_t k = product_loop(em, product_const(em, 0), block->depth, 1, "k");
  LLVMValueRef offset = product_load(
      em, em->i64, 1,
      product_element(em, em->i64, block->offsets, k.index, "offset.ptr"),
      "offset");
  LLVMValueRef from = product_element(em, types->b, b, offset, "from");
  LLVMValueRef to = product_element(em, types->b, panel,
                                    product_mul(em, k.index, columns), "to");
  for (unsigned at = 0; at < PANEL_COLUMNS; at += lanes) {
    LLVMValueRef here = product_const(em, at);
    LLVMValueRef args[] = {
        LLVMBuildGEP2(em->builder, types->b, from, &here, 1, "from.lanes"),
        LLVMConstInt(em->i32, bytes, false),
        lane_mask(em, lanes, product_sub(em, n, here)), LLVMConstNull(type)};
    LLVMTypeRef overloads[] = {type, em->ptr};
    LLVMValueRef value =
        emit_intrinsic(em, "llvm.masked.load", 2, overloads, 4, args);
    LLVMValueRef target = product_element(em, types->b, to, here, "to.lanes");
    product_store(em, value, target);
  }
  emit_loop_end(em, &k, NULL);
}

/* Of the block's depth the part, in whole lines, whose rows have 32 elements to
 * read behind the first `start`: what lies behind the wanted ones of a channel
 * is the next channel. */
static LLVMValueRef depth_in_place(emitter_t *em, const product_types_t *types,
                                   const product_block_t *block,
                                   LLVMValueRef start) {
  LLVMValueRef end =
      product_add(em, block->channel, product_const(em, PANEL_COLUMNS));
  LLVMValueRef most = product_sub(em, product_sub(em, block->room, start), end);
  LLVMValueRef safe = LLVMBuildAnd(
      em->builder, block->depth,
      LLVMBuildNeg(em->builder, product_const(em, types->line), ""), "safe");
  LLVMValueRef line = product_const(em, types->line),
               zero = product_const(em, 0);
  emit_loop_t back = emit_loop_begin(em, zero, safe, line, 1, &safe, "back");
  LLVMValueRef last = product_sub(em, back.carry[0], product_const(em, 1));
  LLVMValueRef none =
      LLVMBuildICmp(em->builder, LLVMIntSLT, last, zero, "none");
  last = LLVMBuildSelect(em->builder, none, zero, last, "last");
  LLVMValueRef offset = product_load(
      em, em->i64, 1, product_element(em, em->i64, block->offsets, last, ""),
      "offset");
  LLVMValueRef fits =
      LLVMBuildICmp(em->builder, LLVMIntSLE, offset, most, "fits");
  LLVMValueRef keep = LLVMBuildOr(em->builder, fits, none, "keep");
  LLVMValueRef next =
      LLVMBuildSelect(em->builder, keep, back.carry[0],
                      product_sub(em, back.carry[0], line), "safe");
  emit_loop_end(em, &back, &next);
  return back.carry[0];
}

/* The last panel, of which perhaps not all can be read in place. */
static void add_copied(emitter_t *em, const product_types_t *types,
                       product_block_t block, LLVMValueRef panel,
                       LLVMValueRef in_place) {
  LLVMValueRef columns = block.n_columns;
  block.n_columns = product_const(em, PANEL_COLUMNS);
  LLVMValueRef depth = block.depth;
  block.depth = in_place;
  product_add_block(em, types, &block);
  block.depth = product_sub(em, depth, in_place);
  block.packed =
      product_element(em, types->packed, block.packed,
                      product_mul(em, in_place, block.n_rows), "packed.rest");
  block.offsets =
      product_element(em, em->i64, block.offsets, in_place, "offsets.rest");
  copy_panel(em, types, &block, panel, block.b, columns);
  block.b = panel;
  block.offsets = NULL;
  block.panel_step = product_const(em, 0);
  product_add_block(em, types, &block);
}

void product_add_windows(emitter_t *em, const product_types_t *types,
                         product_block_t block) {
  LLVMValueRef n = block.n_columns;
  LLVMValueRef whole = LLVMBuildAnd(
      em->builder, n, product_const(em, ~(PANEL_COLUMNS - 1ull)), "whole");
  LLVMValueRef panel = product_stack(
      em, types->b, product_window_depth(types) * PANEL_COLUMNS, "panel");
  block.n_columns = whole;
  product_add_block(em, types, &block);
  /* At most one round. */
  emit_loop_t rest = product_loop(em, whole, n, PANEL_COLUMNS, "rest");
  product_block_t part = block;
  part.n_columns = product_sub(em, n, rest.index);
  part.b = product_element(em, types->b, block.b, rest.index, "b.rest");
  part.sums =
      product_element(em, types->acc, block.sums, rest.index, "sum.rest");
  LLVMValueRef depth = depth_in_place(em, types, &block, rest.index);
  add_copied(em, types, part, panel, depth);
  emit_loop_end(em, &rest, NULL);
}

/* What a line of windows has in a row of a tile, as columns of the tile. */
typedef struct line {
  LLVMValueRef row;
  LLVMValueRef number, start; /* column 0 of the line, perhaps negative */
  LLVMValueRef begin, end;
} line_t;

static line_t line_at(emitter_t *em, const product_spec_t *spec,
                      const product_tile_t *t, LLVMValueRef row,
                      LLVMValueRef number) {
  LLVMValueRef zero = product_const(em, 0);
  line_t line = {.row = row, .number = number};
  line.start = product_sub(em, product_mul(em, number, spec->pitch), t->n0);
  LLVMValueRef before =
      LLVMBuildICmp(em->builder, LLVMIntSLT, line.start, zero, "");
  line.begin =
      LLVMBuildSelect(em->builder, before, zero, line.start, "line.begin");
  line.end =
      product_min(em, product_add(em, line.start, spec->length), t->n_columns);
  return line;
}

/* Columns [begin, end) of a row: whole vectors, or the last one. */
static void sink_vectors(emitter_t *em, const product_types_t *types,
                         const product_spec_t *spec, const product_tile_t *t,
                         const line_t *line, LLVMValueRef begin,
                         LLVMValueRef end, bool whole) {
  LLVMValueRef start =
      product_mul(em, line->row, product_const(em, types->columns));
  emit_loop_t each = product_loop(em, begin, end, types->lanes, "sink");
  LLVMValueRef at = product_add(em, start, each.index);
  LLVMValueRef acc = product_load(
      em, types->acc, types->lanes,
      product_element(em, types->acc, t->sums, at, "sum.ptr"), "sum");
  LLVMValueRef valid = whole ? NULL : product_sub(em, end, each.index);
  LLVMValueRef m = product_add(em, t->m0, line->row);
  LLVMValueRef n = product_sub(em, each.index, line->start);
  spec->line_sink(spec->sink_user, acc, types->lanes, m, line->number, n,
                  valid);
  emit_loop_end(em, &each, NULL);
}

void product_sink_lines(emitter_t *em, const product_types_t *types,
                        const product_spec_t *spec,
                        const product_tile_t *tile) {
  LLVMValueRef last = product_sub(
      em, product_add(em, tile->n0, tile->n_columns), product_const(em, 1));
  LLVMValueRef first =
      LLVMBuildUDiv(em->builder, tile->n0, spec->pitch, "first");
  LLVMValueRef lines =
      product_add(em, LLVMBuildUDiv(em->builder, last, spec->pitch, "last"),
                  product_const(em, 1));
  emit_loop_t row =
      product_loop(em, product_const(em, 0), tile->n_rows, 1, "sink.row");
  emit_loop_t each = product_loop(em, first, lines, 1, "sink.line");
  line_t line = line_at(em, spec, tile, row.index, each.index);
  LLVMValueRef some =
      product_sub(em, line.end, product_min(em, line.begin, line.end));
  LLVMValueRef whole =
      product_add(em, line.begin,
                  product_mul(em, product_quotient(em, some, types->lanes),
                              product_const(em, types->lanes)));
  sink_vectors(em, types, spec, tile, &line, line.begin, whole, true);
  sink_vectors(em, types, spec, tile, &line, whole, line.end, false);
  emit_loop_end(em, &each, NULL);
  emit_loop_end(em, &row, NULL);
}
