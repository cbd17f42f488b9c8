/* The arithmetic of matrix products: a packed block of A times panels of B in
 * register tiles, as a function internal to the module for each set of types,
 * so that another product costs little to compile. */
#include <string.h>

#include "backend/debug.h"
#include "backend/product_internal.h"

enum { MAX_MICRO = 8 };

/* A register tile: accumulators for `rows` rows of `vectors` vectors. */
typedef struct micro {
  unsigned rows, vectors;
} micro_t;

/* Register tiles of an ISA and type: descending rows; the last has 1. */
typedef struct micros {
  unsigned n;
  micro_t at[MAX_MICRO];
} micros_t;

/* Which rows of a block one register tile serves. */
typedef struct row_range {
  LLVMValueRef begin, end;
} row_range_t;

LLVMValueRef product_const(emitter_t *em, uint64_t value) {
  return LLVMConstInt(em->i64, value, false);
}

LLVMValueRef product_add(emitter_t *em, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildNSWAdd(em->builder, a, b, "");
}

LLVMValueRef product_sub(emitter_t *em, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildNSWSub(em->builder, a, b, "");
}

LLVMValueRef product_mul(emitter_t *em, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildNSWMul(em->builder, a, b, "");
}

LLVMValueRef product_min(emitter_t *em, LLVMValueRef a, LLVMValueRef b) {
  LLVMValueRef less = LLVMBuildICmp(em->builder, LLVMIntSLT, a, b, "");
  return LLVMBuildSelect(em->builder, less, a, b, "min");
}

LLVMValueRef product_max(emitter_t *em, LLVMValueRef a, LLVMValueRef b) {
  LLVMValueRef less = LLVMBuildICmp(em->builder, LLVMIntSLT, a, b, "");
  return LLVMBuildSelect(em->builder, less, b, a, "max");
}

LLVMValueRef product_quotient(emitter_t *em, LLVMValueRef a, unsigned b) {
  return LLVMBuildUDiv(em->builder, a, product_const(em, b), "");
}

LLVMValueRef product_element(emitter_t *em, LLVMTypeRef type, LLVMValueRef base,
                             LLVMValueRef index, const char *name) {
  return LLVMBuildInBoundsGEP2(em->builder, type, base, &index, 1, name);
}

emit_loop_t product_loop(emitter_t *em, LLVMValueRef begin, LLVMValueRef end,
                         unsigned step, const char *name) {
  return emit_loop_begin(em, begin, end, product_const(em, step), 0, NULL,
                         name);
}

static unsigned element_alignment(emitter_t *em, LLVMTypeRef scalar) {
  return LLVMABIAlignmentOfType(LLVMGetModuleDataLayout(em->module), scalar);
}

LLVMValueRef product_load(emitter_t *em, LLVMTypeRef scalar, unsigned lanes,
                          LLVMValueRef ptr, const char *name) {
  LLVMTypeRef type = emit_lanes(scalar, lanes);
  LLVMValueRef value = LLVMBuildLoad2(em->builder, type, ptr, name);
  LLVMSetAlignment(value, element_alignment(em, scalar));
  return value;
}

void product_store(emitter_t *em, LLVMValueRef value, LLVMValueRef ptr) {
  LLVMValueRef store = LLVMBuildStore(em->builder, value, ptr);
  LLVMSetAlignment(store, element_alignment(em, emit_element_type(value)));
}

/* The type in which elements lie in memory: floats that LLVM's basic
 * arithmetic does not serve are held in integers. */
static LLVMTypeRef memory_type(const emitter_t *em, dtype_t dtype) {
  if (dtype == DT_F32) return em->f32;
  if (dtype == DT_F64) return em->f64;
  MOEC_ASSERT(dtype_bits(dtype) >= 8 && dtype_bits(dtype) <= 64);
  return LLVMIntTypeInContext(em->context, dtype_bits(dtype));
}

product_types_t product_types(emitter_t *em, dtype_t a_dtype, dtype_t b_dtype,
                              dtype_t acc_dtype) {
  MOEC_ASSERT(acc_dtype == DT_F32 || acc_dtype == DT_F64 ||
              dtype_is_integer(acc_dtype));
  product_types_t types = {.a_dtype = a_dtype,
                           .b_dtype = b_dtype,
                           .acc_dtype = acc_dtype,
                           .a = memory_type(em, a_dtype),
                           .b = memory_type(em, b_dtype),
                           .acc = memory_type(em, acc_dtype),
                           .packed = memory_type(em, acc_dtype),
                           .step = 1};
  unsigned bytes = dtype_bits(acc_dtype) / 8;
  types.lanes = em->isa->vector_bytes / bytes;
  if (types.lanes > PANEL_COLUMNS) types.lanes = PANEL_COLUMNS;
  types.line = PRODUCT_LINE_BYTES / bytes;
  types.columns = product_tile_columns(acc_dtype);
  product_dot_types(em, &types);
  return types;
}

LLVMValueRef product_widen(emitter_t *em, const product_types_t *types,
                           dtype_t from, LLVMValueRef value) {
  LLVMTypeRef type = emit_lanes(types->acc, emit_lanes_of(value));
  if (!dtype_is_float(from))
    return dtype_class(from) == DT_CLASS_SIGNED
               ? LLVMBuildSExtOrBitCast(em->builder, value, type, "")
               : LLVMBuildZExtOrBitCast(em->builder, value, type, "");
  if (from != DT_F32 && from != DT_F64)
    value = emit_float_from_bits(em, from, value);
  return emit_element_type(value) == types->acc
             ? value
             : LLVMBuildFPExt(em->builder, value, type, "");
}

static LLVMValueRef multiply_add(emitter_t *em, const product_types_t *types,
                                 LLVMValueRef a, LLVMValueRef b,
                                 LLVMValueRef sum) {
  if (dtype_is_float(types->acc_dtype)) return emit_fma(em, a, b, sum);
  return LLVMBuildAdd(em->builder, sum, LLVMBuildMul(em->builder, a, b, ""),
                      "");
}

/* Accumulators, a row of B and a broadcast element of A fit the registers;
 * without fused operations each product needs one more. A single row is as wide
 * as the panel wherever that leaves registers, because it reads B at the speed
 * of memory and one run of addresses reads fastest. */
static micros_t choose_micros(const emitter_t *em,
                              const product_types_t *types) {
  micros_t micros = {0};
  unsigned registers = em->isa->n_vectors;
  unsigned largest = registers >= 32 ? 12 : isa_has(em->isa, ISA_FMA) ? 6 : 4;
  unsigned panel = PANEL_COLUMNS / types->lanes;
  for (unsigned rows = largest; rows > 0;) {
    unsigned vectors = panel;
    while (vectors > 2 &&
           (rows == 1 ? vectors + 4 : (rows + 1) * vectors + 1) > registers)
      vectors /= 2;
    MOEC_ASSERT(micros.n < MAX_MICRO);
    micros.at[micros.n++] = (micro_t){rows, vectors};
    rows = rows > 8 ? 8 : rows > 4 ? 4 : rows / 2;
  }
  return micros;
}

/* Divides rows among the register tiles: the largest take what they fill by
 * more than the next smaller could, and so on down. The last range ends at the
 * padded number of rows. */
static void divide_rows(emitter_t *em, const micros_t *micros,
                        LLVMValueRef n_rows, row_range_t *out_ranges) {
  LLVMValueRef begin = product_const(em, 0);
  for (unsigned i = 0; i < micros->n; i++) {
    unsigned rows = micros->at[i].rows;
    unsigned next = i + 1 < micros->n ? micros->at[i + 1].rows : 0;
    LLVMValueRef left = /* none where the larger ones rounded up */
        product_sub(em, n_rows, product_min(em, begin, n_rows));
    LLVMValueRef count = product_quotient(
        em, product_add(em, left, product_const(em, rows - next - 1)), rows);
    LLVMValueRef end =
        product_add(em, begin, product_mul(em, count, product_const(em, rows)));
    out_ranges[i] = (row_range_t){begin, end};
    begin = end;
  }
}

LLVMValueRef product_padded_rows(emitter_t *em, const product_types_t *types,
                                 LLVMValueRef n_rows) {
  micros_t micros = choose_micros(em, types);
  row_range_t ranges[MAX_MICRO];
  divide_rows(em, &micros, n_rows, ranges);
  return ranges[micros.n - 1].end;
}

bool product_shared_function(emitter_t *em, const char *name, unsigned n_ptr,
                             unsigned n_params, LLVMValueRef *out_func) {
  enum { MAX_PARAMS = 12 };
  LLVMTypeRef params[MAX_PARAMS];
  MOEC_ASSERT(n_params <= MAX_PARAMS);
  *out_func = LLVMGetNamedFunction(em->module, name);
  if (*out_func != NULL) return false;
  for (unsigned i = 0; i < n_params; i++)
    params[i] = i < n_ptr ? em->ptr : em->i64;
  LLVMValueRef func =
      LLVMAddFunction(em->module, name,
                      LLVMFunctionType(em->void_type, params, n_params, false));
  LLVMSetLinkage(func, LLVMInternalLinkage);
  LLVMPositionBuilderAtEnd(
      em->builder, LLVMAppendBasicBlockInContext(em->context, func, "entry"));
  (void)debug_open(em, func, (ir_loc_t){0}); /* closed by the caller */
  *out_func = func;
  return true;
}

void product_call(emitter_t *em, LLVMValueRef func, unsigned n,
                  LLVMValueRef *args) {
  LLVMBuildCall2(em->builder, LLVMGlobalGetValueType(func), func, args, n, "");
}

void product_fetch(emitter_t *em, LLVMValueRef base, LLVMValueRef bytes) {
  enum { READ = 0, SECOND_CACHE = 2, DATA = 1 };
  LLVMValueRef args[] = {
      LLVMBuildGEP2(em->builder, em->i8, base, &bytes, 1, "ahead"),
      LLVMConstInt(em->i32, READ, false),
      LLVMConstInt(em->i32, SECOND_CACHE, false),
      LLVMConstInt(em->i32, DATA, false)};
  emit_intrinsic(em, "llvm.prefetch", 1, &em->ptr, 4, args);
}

bool product_is_one(LLVMValueRef value) {
  return LLVMIsAConstantInt(value) != NULL &&
         LLVMConstIntGetSExtValue(value) == 1;
}

/* Asks for the lines of B that this register tile will read later. Tall tiles
 * compute so long on a line that the processor's own prefetching falls behind
 * at the ends of blocks; for low ones, which read at the speed of memory, it
 * only gets in the way. (12 rows and more: 8 to 20 % from memory; 4 rows: -15
 * %.) Of windows the same rows of the next 32 columns. Addresses beyond B are
 * allowed here. */
static void fetch_ahead(emitter_t *em, const product_types_t *types,
                        micro_t micro, LLVMValueRef b, bool in_sequence) {
  enum { TALL = 9 };
  unsigned size = dtype_bits(types->b_dtype) / 8;
  unsigned bytes = types->step * micro.vectors * types->lanes * size;
  unsigned ahead = in_sequence ? PRODUCT_AHEAD_BYTES : PANEL_COLUMNS * size;
  if (micro.rows < TALL) return;
  for (unsigned at = 0; at + PRODUCT_LINE_BYTES <= bytes;
       at += PRODUCT_LINE_BYTES)
    product_fetch(em, b, product_const(em, ahead + at));
}

/* Columns of B: in a panel, or at offsets[k] of b. */
typedef struct columns {
  LLVMValueRef b, offsets; /* NULL: a panel */
  LLVMValueRef wide;       /* of a panel: where widened rows go, or NULL */
} columns_t;

static columns_t columns_from(emitter_t *em, const product_types_t *types,
                              columns_t from, LLVMValueRef k) {
  if (from.offsets != NULL) {
    from.offsets = product_element(em, em->i64, from.offsets, k, "offset.k");
  } else {
    LLVMValueRef at = product_mul(em, k, product_const(em, PANEL_COLUMNS));
    from.b = product_element(em, types->b, from.b, at, "b.line");
    if (from.wide != NULL)
      from.wide = product_element(em, types->acc, from.wide, at, "wide.line");
  }
  return from;
}

/* Where row k of B begins. */
static LLVMValueRef columns_at(emitter_t *em, const product_types_t *types,
                               columns_t from, LLVMValueRef k) {
  from = columns_from(em, types, from, k);
  if (from.offsets == NULL) return from.b;
  LLVMValueRef offset = product_load(em, em->i64, 1, from.offsets, "offset");
  return product_element(em, types->b, from.b, offset, "b.window");
}

/* One step in k: next[r][v] = sums[r][v] + a[r] * row.b[v]. */
static void emit_step(emitter_t *em, const product_types_t *types,
                      micro_t micro, LLVMValueRef a, columns_t row,
                      LLVMValueRef const *sums, LLVMValueRef *out_next) {
  LLVMValueRef b_k[PANEL_COLUMNS];
  for (unsigned v = 0; v < micro.vectors; v++) {
    LLVMValueRef at = product_const(em, v * types->lanes);
    LLVMValueRef from = product_element(em, types->b, row.b, at, "b.ptr");
    b_k[v] = product_widen(em, types, types->b_dtype,
                           product_load(em, types->b, types->lanes, from, "b"));
    if (row.wide != NULL)
      product_store(em, b_k[v],
                    product_element(em, types->acc, row.wide, at, "wide.ptr"));
  }
  fetch_ahead(em, types, micro, row.b, row.offsets == NULL);
  for (unsigned r = 0; r < micro.rows; r++) {
    LLVMValueRef from = product_element(
        em, types->acc, a, product_const(em, r * types->line), "a.ptr");
    LLVMValueRef one = product_load(em, types->acc, 1, from, "a");
    LLVMValueRef all = emit_splat(em, one, types->lanes);
    for (unsigned v = 0; v < micro.vectors; v++) {
      unsigned i = r * micro.vectors + v;
      out_next[i] = multiply_add(em, types, all, b_k[v], sums[i]);
    }
  }
}

/* The rows of B of a step from k on, of which there are `count` in all. Those
 * that do not exist meet zeros of A: any others will do. */
static void step_rows(emitter_t *em, const product_types_t *types,
                      columns_t from, LLVMValueRef k, LLVMValueRef count,
                      LLVMValueRef *out_rows) {
  out_rows[0] = columns_at(em, types, from, k);
  if (types->step == 1) return;
  LLVMValueRef last = product_sub(em, count, product_const(em, 1));
  for (unsigned i = 1; i < types->step; i++) {
    LLVMValueRef next = product_add(em, k, product_const(em, i));
    next = product_min(em, next, last);
    out_rows[i] = columns_at(em, types, from, next);
  }
}

/* Four steps in k. Behind the sums are those of flipped zeros, if A is flipped.
 */
static void emit_dot_step(emitter_t *em, const product_types_t *types,
                          micro_t micro, LLVMValueRef a,
                          LLVMValueRef const *rows, bool in_sequence,
                          LLVMValueRef const *sums, LLVMValueRef *out_next) {
  LLVMValueRef quads[PANEL_COLUMNS];
  for (unsigned v = 0; v < micro.vectors; v++)
    quads[v] = product_dot_quads(em, types, rows, v * types->lanes);
  fetch_ahead(em, types, micro, rows[0], in_sequence);
  for (unsigned r = 0; r < micro.rows; r++) {
    LLVMValueRef from = product_element(
        em, types->packed, a, product_const(em, r * types->line), "a.ptr");
    for (unsigned v = 0; v < micro.vectors; v++) {
      unsigned i = r * micro.vectors + v;
      out_next[i] = product_dot_add(em, types, sums[i], from, quads[v]);
    }
  }
  for (unsigned v = 0; types->flips && v < micro.vectors; v++) {
    unsigned i = micro.rows * micro.vectors + v;
    out_next[i] = product_dot_excess(em, types, sums[i], quads[v]);
  }
}

/* One register tile: sums[r][v] += sum over k of packed[k][r] * b[k][v].
 * packed, b and sums point to its first elements; n_rows as in packed_at. */
static void emit_micro(emitter_t *em, const product_types_t *types,
                       micro_t micro, LLVMValueRef sums, LLVMValueRef packed,
                       LLVMValueRef n_rows, LLVMValueRef depth, columns_t b) {
  LLVMValueRef acc[EMIT_MAX_CARRY], ptr[EMIT_MAX_CARRY];
  LLVMValueRef zero = product_const(em, 0);
  LLVMValueRef step = product_const(em, types->step);
  LLVMValueRef length = product_const(em, types->line);
  unsigned n = micro.rows * micro.vectors, n_sums = n;
  MOEC_ASSERT(n + micro.vectors <= EMIT_MAX_CARRY);
  for (unsigned i = 0; i < n_sums; i++) {
    unsigned offset =
        i / micro.vectors * types->columns + i % micro.vectors * types->lanes;
    ptr[i] = product_element(em, types->acc, sums, product_const(em, offset),
                             "sum.ptr");
    acc[i] = product_load(em, types->acc, types->lanes, ptr[i], "sum");
  }
  for (unsigned v = 0; types->flips && v < micro.vectors; v++)
    acc[n++] = LLVMConstNull(emit_lanes(types->acc, types->lanes));
  emit_loop_t line = emit_loop_begin(em, zero, depth, length, n, acc, "line");
  LLVMValueRef count =
      product_min(em, product_sub(em, depth, line.index), length);
  LLVMValueRef a_line = product_element(
      em, types->packed, packed, product_mul(em, line.index, n_rows), "a.line");
  columns_t b_line = columns_from(em, types, b, line.index);
  emit_loop_t k = emit_loop_begin(em, zero, count, step, n, line.carry, "k");
  LLVMValueRef a_k = product_element(em, types->packed, a_line, k.index, "a.k");
  LLVMValueRef rows[PRODUCT_MAX_STEP];
  step_rows(em, types, b_line, k.index, count, rows);
  bool in_sequence = b.offsets == NULL;
  columns_t row = columns_from(em, types, b_line, k.index);
  row.b = rows[0];
  if (types->step == 1)
    emit_step(em, types, micro, a_k, row, k.carry, acc);
  else
    emit_dot_step(em, types, micro, a_k, rows, in_sequence, k.carry, acc);
  emit_loop_end(em, &k, acc);
  emit_loop_end(em, &line, k.carry);
  for (unsigned i = 0; i < n_sums; i++) {
    LLVMValueRef sum = line.carry[i];
    if (types->flips)
      sum = LLVMBuildSub(em->builder, sum,
                         line.carry[n_sums + i % micro.vectors], "");
    product_store(em, sum, ptr[i]);
  }
}

/* Rows of A in place, for a register tile. */
typedef struct direct_rows {
  LLVMValueRef a;                     /* the first one */
  LLVMValueRef at[PRODUCT_TILE_ROWS]; /* where row r begins behind it */
  LLVMValueRef first;                 /* of K: sums begin with 0 */
} direct_rows_t;

/* One register tile of rows of A that lie where they are:
 * sums[r][v] += sum over k of a[at[r] + k] * b[k][v]. */
static void emit_micro_rows(emitter_t *em, const product_types_t *types,
                            micro_t micro, LLVMValueRef sums,
                            const direct_rows_t *rows, LLVMValueRef depth,
                            LLVMValueRef b) {
  LLVMValueRef acc[EMIT_MAX_CARRY], ptr[EMIT_MAX_CARRY], b_k[PANEL_COLUMNS];
  unsigned n = micro.rows * micro.vectors;
  MOEC_ASSERT(n <= EMIT_MAX_CARRY);
  for (unsigned i = 0; i < n; i++) {
    unsigned offset =
        i / micro.vectors * types->columns + i % micro.vectors * types->lanes;
    ptr[i] = product_element(em, types->acc, sums, product_const(em, offset),
                             "sum.ptr");
    acc[i] = product_load(em, types->acc, types->lanes, ptr[i], "sum");
    acc[i] = LLVMBuildSelect(em->builder, rows->first,
                             LLVMConstNull(LLVMTypeOf(acc[i])), acc[i], "");
  }
  emit_loop_t k = emit_loop_begin(em, product_const(em, 0), depth,
                                  product_const(em, 1), n, acc, "k");
  LLVMValueRef a_k = product_element(em, types->a, rows->a, k.index, "a.k");
  LLVMValueRef row = product_element(
      em, types->b, b,
      product_mul(em, k.index, product_const(em, PANEL_COLUMNS)), "b.k");
  for (unsigned v = 0; v < micro.vectors; v++) {
    LLVMValueRef from = product_element(
        em, types->b, row, product_const(em, v * types->lanes), "b.ptr");
    b_k[v] = product_load(em, types->b, types->lanes, from, "b");
  }
  fetch_ahead(em, types, micro, row, true);
  for (unsigned r = 0; r < micro.rows; r++) {
    LLVMValueRef from =
        product_element(em, types->a, a_k, rows->at[r], "a.ptr");
    LLVMValueRef one = product_load(em, types->a, 1, from, "a");
    LLVMValueRef all = emit_splat(em, one, types->lanes);
    for (unsigned v = 0; v < micro.vectors; v++) {
      unsigned i = r * micro.vectors + v;
      acc[i] = multiply_add(em, types, all, b_k[v], k.carry[i]);
    }
  }
  emit_loop_end(em, &k, acc);
  for (unsigned i = 0; i < n; i++) product_store(em, k.carry[i], ptr[i]);
}

/* One register tile over all columns of a panel. Where the panel is wider, it
 * goes along it in strips, each time over as much of K as the nearest cache
 * holds: strips over all of K would read the memory with gaps. */
static void emit_micro_panel(emitter_t *em, const product_types_t *types,
                             micro_t micro, LLVMValueRef sums,
                             LLVMValueRef packed, LLVMValueRef n_rows,
                             LLVMValueRef depth, columns_t b) {
  unsigned width = micro.vectors * types->lanes;
  if (width == PANEL_COLUMNS) {
    emit_micro(em, types, micro, sums, packed, n_rows, depth, b);
    return;
  }
  LLVMValueRef zero = product_const(em, 0);
  LLVMValueRef panel = product_const(em, PANEL_COLUMNS);
  unsigned near =
      PRODUCT_NEAR_BYTES / (PANEL_COLUMNS * dtype_bits(types->b_dtype) / 8);
  emit_loop_t k = product_loop(em, zero, depth, near, "near");
  LLVMValueRef a_at = product_mul(em, k.index, n_rows);
  columns_t b_near = columns_from(em, types, b, k.index);
  LLVMValueRef left =
      product_min(em, product_sub(em, depth, k.index), product_const(em, near));
  emit_loop_t strip = product_loop(em, zero, panel, width, "strip");
  b_near.b = product_element(em, types->b, b_near.b, strip.index, "b.strip");
  if (b_near.wide != NULL)
    b_near.wide =
        product_element(em, types->acc, b_near.wide, strip.index, "wide.strip");
  sums = product_element(em, types->acc, sums, strip.index, "sum.strip");
  packed = product_element(em, types->packed, packed, a_at, "a.near");
  emit_micro(em, types, micro, sums, packed, n_rows, left, b_near);
  emit_loop_end(em, &strip, NULL);
  emit_loop_end(em, &k, NULL);
}

/* Parameters of the function that adds a block. */
enum {
  SUMS,
  PACKED,
  B,
  OFFSETS, /* null: B is in panels */
  N_ROWS,
  N_COLUMNS,
  DEPTH,
  PANEL_STEP, /* from a panel to the next; windows: from 32 columns */
  FIRST_ROW,  /* where rows before it are done: a register tile begins there */
  N_PARAMS,
  N_POINTERS = N_ROWS
};

/* Whether several register tiles had better not widen B each for itself. */
static bool widens_once(const product_types_t *types, bool in_windows) {
  return !in_windows && types->acc_dtype == DT_F32 &&
         dtype_is_float(types->b_dtype) && dtype_bits(types->b_dtype) == 16;
}

/* The highest register tile at the top of a panel, which leaves the panel in
 * f32 behind for those below it; a part of K after the other, so that it stays
 * near. The end of what of K is done so is given: 0 or all. */
static void emit_widening(emitter_t *em, const product_types_t *types,
                          micro_t micro, const product_block_t *panel,
                          LLVMValueRef end) {
  product_types_t wide_types =
      product_types(em, types->a_dtype, DT_F32, types->acc_dtype);
  LLVMValueRef wide =
      product_stack(em, types->acc, PRODUCT_WIDE_ROWS * PANEL_COLUMNS, "wide");
  emit_loop_t k =
      product_loop(em, product_const(em, 0), end, PRODUCT_WIDE_ROWS, "wide");
  LLVMValueRef depth = product_min(em, product_sub(em, end, k.index),
                                   product_const(em, PRODUCT_WIDE_ROWS));
  columns_t b = columns_from(em, types, (columns_t){.b = panel->b}, k.index);
  b.wide = wide;
  product_block_t below = *panel;
  below.packed =
      product_element(em, types->packed, panel->packed,
                      product_mul(em, k.index, panel->n_rows), "a.wide");
  below.b = wide;
  below.depth = depth;
  below.n_columns = product_const(em, PANEL_COLUMNS);
  below.panel_step = product_const(em, 0);
  below.first_row = product_const(em, micro.rows);
  emit_micro_panel(em, types, micro, panel->sums, below.packed, panel->n_rows,
                   depth, b);
  product_add_block(em, &wide_types, &below);
  emit_loop_end(em, &k, NULL);
}

/* All register tiles of a panel from the first row on. */
static void emit_rows(emitter_t *em, const product_types_t *types,
                      const micros_t *micros, const row_range_t *ranges,
                      const product_block_t *panel) {
  for (unsigned i = 0; i < micros->n; i++) {
    LLVMValueRef begin = ranges[i].begin;
    LLVMValueRef before = LLVMBuildICmp(em->builder, LLVMIntSLT, begin,
                                        panel->first_row, "before");
    begin = LLVMBuildSelect(em->builder, before, panel->first_row, begin, "");
    emit_loop_t row =
        product_loop(em, begin, ranges[i].end, micros->at[i].rows, "row");
    LLVMValueRef to =
        product_mul(em, row.index, product_const(em, types->columns));
    LLVMValueRef from =
        product_mul(em, row.index, product_const(em, types->line));
    LLVMValueRef sums =
        product_element(em, types->acc, panel->sums, to, "sum.row");
    LLVMValueRef packed =
        product_element(em, types->packed, panel->packed, from, "a.row");
    columns_t b = {.b = panel->b, .offsets = panel->offsets};
    emit_micro_panel(em, types, micros->at[i], sums, packed, panel->n_rows,
                     panel->depth, b);
    emit_loop_end(em, &row, NULL);
  }
}

static void fill_block(emitter_t *em, const product_types_t *types,
                       LLVMValueRef func, bool in_windows) {
  product_block_t panel = {.packed = LLVMGetParam(func, PACKED),
                           .n_rows = LLVMGetParam(func, N_ROWS),
                           .depth = LLVMGetParam(func, DEPTH),
                           .first_row = LLVMGetParam(func, FIRST_ROW)};
  if (in_windows) panel.offsets = LLVMGetParam(func, OFFSETS);
  micros_t micros = choose_micros(em, types);
  row_range_t ranges[MAX_MICRO] = {0};
  divide_rows(em, &micros, panel.n_rows, ranges);
  emit_loop_t each =
      product_loop(em, product_const(em, 0), LLVMGetParam(func, N_COLUMNS),
                   PANEL_COLUMNS, "panel");
  LLVMValueRef number = product_quotient(em, each.index, PANEL_COLUMNS);
  panel.b = product_element(
      em, types->b, LLVMGetParam(func, B),
      product_mul(em, number, LLVMGetParam(func, PANEL_STEP)), "panel");
  panel.sums = product_element(em, types->acc, LLVMGetParam(func, SUMS),
                               each.index, "sum.panel");
  if (widens_once(types, in_windows)) {
    LLVMValueRef highest = product_const(em, micros.at[0].rows);
    LLVMValueRef some = LLVMBuildICmp(em->builder, LLVMIntSGT, ranges[0].end,
                                      product_const(em, 0), "");
    LLVMValueRef more =
        LLVMBuildICmp(em->builder, LLVMIntSGT, panel.n_rows, highest, "");
    LLVMValueRef once = LLVMBuildAnd(em->builder, some, more, "once");
    emit_widening(em, types, micros.at[0], &panel,
                  LLVMBuildSelect(em->builder, once, panel.depth,
                                  product_const(em, 0), ""));
    panel.first_row = LLVMBuildSelect(em->builder, once, panel.n_rows,
                                      panel.first_row, "first");
  }
  emit_rows(em, types, &micros, ranges, &panel);
  emit_loop_end(em, &each, NULL);
  LLVMBuildRetVoid(em->builder);
}

bool product_reads_rows(emitter_t *em, const product_types_t *types) {
  micro_t micro = choose_micros(em, types).at[0];
  return types->step == 1 && types->a == types->acc && types->b == types->acc &&
         types->a_dtype == types->acc_dtype &&
         micro.vectors * types->lanes == PANEL_COLUMNS && micro.rows > 1 &&
         PRODUCT_TILE_ROWS % micro.rows == 0;
}

/* Parameters of the function that adds rows. */
enum { R_SUMS, R_A, R_B, R_ROW, R_COLUMNS, R_DEPTH, R_STEP, R_K, N_R_PARAMS };

static void fill_rows(emitter_t *em, const product_types_t *types,
                      LLVMValueRef func) {
  micro_t micro = choose_micros(em, types).at[0];
  LLVMValueRef a_row = LLVMGetParam(func, R_ROW);
  direct_rows_t rows;
  MOEC_ASSERT(micro.rows <= PRODUCT_TILE_ROWS);
  for (unsigned r = 0; r < micro.rows; r++)
    rows.at[r] = product_mul(em, a_row, product_const(em, r));
  LLVMValueRef zero = product_const(em, 0);
  rows.first = LLVMBuildICmp(em->builder, LLVMIntEQ, LLVMGetParam(func, R_K),
                             zero, "first");
  emit_loop_t panel = product_loop(em, zero, LLVMGetParam(func, R_COLUMNS),
                                   PANEL_COLUMNS, "panel");
  LLVMValueRef number = product_quotient(em, panel.index, PANEL_COLUMNS);
  LLVMValueRef b = product_element(
      em, types->b, LLVMGetParam(func, R_B),
      product_mul(em, number, LLVMGetParam(func, R_STEP)), "panel");
  emit_loop_t row = product_loop(em, zero, product_const(em, PRODUCT_TILE_ROWS),
                                 micro.rows, "row");
  LLVMValueRef to =
      product_mul(em, row.index, product_const(em, types->columns));
  to = product_add(em, to, panel.index);
  LLVMValueRef sums = product_element(
      em, types->acc, LLVMGetParam(func, R_SUMS), to, "sum.row");
  rows.a = product_element(em, types->a, LLVMGetParam(func, R_A),
                           product_mul(em, row.index, a_row), "a.row");
  emit_micro_rows(em, types, micro, sums, &rows, LLVMGetParam(func, R_DEPTH),
                  b);
  emit_loop_end(em, &row, NULL);
  emit_loop_end(em, &panel, NULL);
  LLVMBuildRetVoid(em->builder);
}

void product_add_rows(emitter_t *em, const product_types_t *types,
                      const product_direct_t *part) {
  const char *name =
      arena_printf(em->arena, "product_rows_%s", dtype_name(types->acc_dtype));
  const debug_scope_t scope = debug_here(em);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
  LLVMValueRef func;
  if (product_shared_function(em, name, R_ROW, N_R_PARAMS, &func))
    fill_rows(em, types, func);
  LLVMPositionBuilderAtEnd(em->builder, here);
  debug_close(em, scope);
  LLVMValueRef args[N_R_PARAMS] = {[R_SUMS] = part->sums,
                                   [R_A] = part->a,
                                   [R_B] = part->b,
                                   [R_ROW] = part->a_row,
                                   [R_COLUMNS] = part->n_columns,
                                   [R_DEPTH] = part->depth,
                                   [R_STEP] = part->panel_step,
                                   [R_K] = part->k};
  product_call(em, func, N_R_PARAMS, args);
}

void product_add_block(emitter_t *em, const product_types_t *types,
                       const product_block_t *block) {
  bool in_windows = block->offsets != NULL;
  const char *name = arena_printf(
      em->arena, "product_block_%s_%s%s%s", dtype_name(types->b_dtype),
      dtype_name(types->acc_dtype), in_windows ? "_windows" : "",
      types->step == 1 ? ""
      : types->flips   ? "_flipped"
                       : "_dot");
  const debug_scope_t scope = debug_here(em);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
  LLVMValueRef func;
  if (product_shared_function(em, name, N_POINTERS, N_PARAMS, &func))
    fill_block(em, types, func, in_windows);
  LLVMPositionBuilderAtEnd(em->builder, here);
  debug_close(em, scope);
  LLVMValueRef args[N_PARAMS] = {
      [SUMS] = block->sums,
      [PACKED] = block->packed,
      [B] = block->b,
      [OFFSETS] = in_windows ? block->offsets : LLVMConstNull(em->ptr),
      [N_ROWS] = block->n_rows,
      [N_COLUMNS] = block->n_columns,
      [DEPTH] = block->depth,
      [PANEL_STEP] = block->panel_step,
      [FIRST_ROW] =
          block->first_row != NULL ? block->first_row : product_const(em, 0),
  };
  product_call(em, func, N_PARAMS, args);
}
