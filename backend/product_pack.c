/* Packing blocks of A for the register tiles of matrix products. */
#include "backend/debug.h"
#include "backend/product_internal.h"

/* Parameters of the packing functions. */
enum { PACKED, A, N_ROWS, LAST, DEPTH, A_ROW, A_K, AHEAD, N_PARAMS };

/* Where element k of a row begins in the packed block. */
static LLVMValueRef packed_at(emitter_t *em, const product_types_t *types,
                              LLVMValueRef k, LLVMValueRef n_rows) {
  LLVMValueRef line = product_const(em, types->line);
  LLVMValueRef column = LLVMBuildURem(em->builder, k, line, "");
  LLVMValueRef step = product_mul(em, n_rows, line);
  LLVMValueRef chunk =
      product_mul(em, product_quotient(em, k, types->line), step);
  return product_add(em, chunk, column);
}

/* One row while it is packed. */
typedef struct packed_row {
  LLVMValueRef source, target;
  LLVMValueRef n_rows; /* of the whole block */
} packed_row_t;

/* Packs elements [begin, end) of one row, `lanes` at a time. */
static void pack_run(emitter_t *em, const product_types_t *types,
                     packed_row_t row, LLVMValueRef begin, LLVMValueRef end,
                     LLVMValueRef ahead, unsigned lanes) {
  emit_loop_t each = product_loop(em, begin, end, lanes, "pack");
  LLVMValueRef from =
      product_element(em, types->a, row.source, each.index, "a.ptr");
  LLVMValueRef value = product_load(em, types->a, lanes, from, "a");
  if (ahead != NULL) product_fetch(em, from, ahead);
  value = product_packed(em, types, value);
  LLVMValueRef at = packed_at(em, types, each.index, row.n_rows);
  product_store(
      em, value,
      product_element(em, types->packed, row.target, at, "packed.ptr"));
  emit_loop_end(em, &each, NULL);
}

/* Zeros from element `depth` of a row up to the end of a step. */
static void pad_run(emitter_t *em, const product_types_t *types,
                    packed_row_t row, LLVMValueRef depth) {
  if (types->step == 1) return;
  LLVMValueRef step = product_const(em, types->step);
  LLVMValueRef more =
      product_add(em, depth, product_const(em, types->step - 1));
  LLVMValueRef end = product_quotient(em, more, types->step);
  end = product_mul(em, end, step);
  LLVMValueRef zero = product_packed(em, types, LLVMConstNull(types->a));
  emit_loop_t each = product_loop(em, depth, end, 1, "pad");
  LLVMValueRef at = packed_at(em, types, each.index, row.n_rows);
  product_store(
      em, zero,
      product_element(em, types->packed, row.target, at, "packed.ptr"));
  emit_loop_end(em, &each, NULL);
}

/* Row by row, for elements that lie side by side along k. */
static void fill_pack_rows(emitter_t *em, const product_types_t *types,
                           LLVMValueRef func) {
  LLVMValueRef n_rows = LLVMGetParam(func, N_ROWS);
  LLVMValueRef depth = LLVMGetParam(func, DEPTH);
  unsigned lanes = types->step > 1              ? types->line
                   : types->lanes < types->line ? types->lanes
                                                : types->line;
  LLVMValueRef whole = product_mul(em, product_quotient(em, depth, lanes),
                                   product_const(em, lanes));
  LLVMValueRef size = product_const(em, dtype_bits(types->a_dtype) / 8);
  LLVMValueRef ahead = product_mul(em, LLVMGetParam(func, AHEAD), size);
  LLVMValueRef zero = product_const(em, 0);
  emit_loop_t row = product_loop(em, zero, n_rows, 1, "row");
  LLVMValueRef m = product_min(em, row.index, LLVMGetParam(func, LAST));
  LLVMValueRef source =
      product_element(em, types->a, LLVMGetParam(func, A),
                      product_mul(em, m, LLVMGetParam(func, A_ROW)), "a.row");
  LLVMValueRef target = product_element(
      em, types->packed, LLVMGetParam(func, PACKED),
      product_mul(em, row.index, product_const(em, types->line)), "packed.row");
  packed_row_t packed = {source, target, n_rows};
  pack_run(em, types, packed, zero, whole, ahead, lanes);
  pack_run(em, types, packed, whole, depth, NULL, 1);
  pad_run(em, types, packed, depth);
  emit_loop_end(em, &row, NULL);
}

/* Column by column, for any strides: best for a transposed A. */
static void fill_pack_columns(emitter_t *em, const product_types_t *types,
                              LLVMValueRef func) {
  LLVMValueRef n_rows = LLVMGetParam(func, N_ROWS);
  LLVMValueRef zero = product_const(em, 0);
  emit_loop_t k = product_loop(em, zero, LLVMGetParam(func, DEPTH), 1, "k");
  LLVMValueRef source =
      product_element(em, types->a, LLVMGetParam(func, A),
                      product_mul(em, k.index, LLVMGetParam(func, A_K)), "a.k");
  LLVMValueRef target =
      product_element(em, types->packed, LLVMGetParam(func, PACKED),
                      packed_at(em, types, k.index, n_rows), "packed.k");
  emit_loop_t row = product_loop(em, zero, n_rows, 1, "row");
  LLVMValueRef m = product_min(em, row.index, LLVMGetParam(func, LAST));
  LLVMValueRef from = product_mul(em, m, LLVMGetParam(func, A_ROW));
  LLVMValueRef to = product_mul(em, row.index, product_const(em, types->line));
  LLVMValueRef value =
      product_load(em, types->a, 1,
                   product_element(em, types->a, source, from, "a.ptr"), "a");
  value = product_packed(em, types, value);
  product_store(em, value,
                product_element(em, types->packed, target, to, "packed.ptr"));
  emit_loop_end(em, &row, NULL);
  emit_loop_end(em, &k, NULL);
  if (types->step == 1) return;
  row = product_loop(em, zero, n_rows, 1, "row");
  to = product_mul(em, row.index, product_const(em, types->line));
  target = product_element(em, types->packed, LLVMGetParam(func, PACKED), to,
                           "packed.row");
  packed_row_t packed = {NULL, target, n_rows};
  pad_run(em, types, packed, LLVMGetParam(func, DEPTH));
  emit_loop_end(em, &row, NULL);
}

LLVMValueRef product_packed(emitter_t *em, const product_types_t *types,
                            LLVMValueRef value) {
  if (types->step == 1) return product_widen(em, types, types->a_dtype, value);
  if (!types->flips) return value;
  return LLVMBuildXor(em->builder, value,
                      emit_const_int(LLVMTypeOf(value), 0x80), "flipped");
}

void product_pack(emitter_t *em, const product_types_t *types,
                  LLVMValueRef packed, const product_rows_t *rows) {
  bool unit_k = product_is_one(rows->a_k);
  const char *name =
      arena_printf(em->arena, "product_pack_%s_%s_%s%s",
                   dtype_name(types->a_dtype), dtype_name(types->acc_dtype),
                   unit_k ? "unit" : "any", types->flips ? "_flipped" : "");
  const debug_scope_t scope = debug_here(em);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
  LLVMValueRef func;
  if (product_shared_function(em, name, N_ROWS, N_PARAMS, &func)) {
    if (unit_k)
      fill_pack_rows(em, types, func);
    else
      fill_pack_columns(em, types, func);
    LLVMBuildRetVoid(em->builder);
  }
  LLVMPositionBuilderAtEnd(em->builder, here);
  debug_close(em, scope);
  LLVMValueRef args[N_PARAMS] = {
      [PACKED] = packed,   [A] = rows->a,         [N_ROWS] = rows->n_rows,
      [LAST] = rows->last, [DEPTH] = rows->depth, [A_ROW] = rows->a_row,
      [A_K] = rows->a_k,   [AHEAD] = rows->ahead};
  product_call(em, func, N_PARAMS, args);
}
