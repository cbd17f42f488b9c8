/* Matrix products: one tile of C = A * B as straight loops around register
 * tiles. What becomes of the elements of C is the caller's matter (the sink);
 * so is packing B (the layout is described at emit_product_tile).
 *
 * A tile works on blocks of K: rows of A are copied, converted to the type of
 * the accumulators, to a packed block on the stack; then each panel of B passes
 * once by all rows in register tiles that add to a block of C on the stack; the
 * sink reads that block after the last block of K. Rows are rounded up to
 * register tiles with copies of the last row, whose results nobody reads. */
#include "backend/emit.h"

enum {
  PANEL = 32,     /* columns of a panel of B */
  TILE_ROWS = 48, /* a multiple of the rows of each ISA's largest micro-tile */
  FEW_ROWS = 4,   /* up to here all of the packed block goes into depth */
  BLOCK_BYTES = 1024, /* of one packed row of A where there are more rows */
  PAD_BYTES = 64, /* keeps rows of a packed block out of each other's sets */
  MAX_MICRO = 8,
};

/* A register tile: accumulators for `rows` rows of `vectors` vectors. */
typedef struct micro {
  unsigned rows, vectors;
} micro_t;

/* Where the rows that one micro-tile serves begin and end, within the tile. */
typedef struct row_range {
  LLVMValueRef begin, end;
} row_range_t;

typedef struct tile {
  emitter_t *em;
  const product_spec_t *spec;
  LLVMTypeRef a_type, b_type, acc_type; /* scalars, as in memory */
  unsigned acc_bytes, lanes;
  unsigned columns, block, row_stride; /* in elements; row_stride of `packed` */
  unsigned n_micros;
  micro_t micros[MAX_MICRO]; /* descending rows; the last has 1 */
  row_range_t ranges[MAX_MICRO];
  LLVMValueRef packed, sums; /* blocks of A and C on the stack */
  LLVMValueRef m0, n0, n_rows,
      n_columns;                  /* place of the tile, its valid part */
  LLVMValueRef padded_rows;       /* rows that micro-tiles compute */
  LLVMValueRef panels;            /* ptr to the tile's first panel */
  LLVMValueRef stride, depth_max; /* of packed rows; they depend on n_rows */
} tile_t;

static LLVMValueRef const_i64(const tile_t *t, uint64_t value) {
  return LLVMConstInt(t->em->i64, value, false);
}

static LLVMValueRef add(const tile_t *t, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildNSWAdd(t->em->builder, a, b, "");
}

static LLVMValueRef mul(const tile_t *t, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildNSWMul(t->em->builder, a, b, "");
}

static LLVMValueRef sub(const tile_t *t, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildNSWSub(t->em->builder, a, b, "");
}

static LLVMValueRef minimum(const tile_t *t, LLVMValueRef a, LLVMValueRef b) {
  LLVMValueRef less = LLVMBuildICmp(t->em->builder, LLVMIntSLT, a, b, "");
  return LLVMBuildSelect(t->em->builder, less, a, b, "min");
}

/* floor(a / b) of values that are not negative. */
static LLVMValueRef quotient(const tile_t *t, LLVMValueRef a, unsigned b) {
  return LLVMBuildUDiv(t->em->builder, a, const_i64(t, b), "");
}

static LLVMValueRef element(const tile_t *t, LLVMTypeRef type,
                            LLVMValueRef base, LLVMValueRef index,
                            const char *name) {
  return LLVMBuildInBoundsGEP2(t->em->builder, type, base, &index, 1, name);
}

static emit_loop_t loop(const tile_t *t, LLVMValueRef begin, LLVMValueRef end,
                        unsigned step, const char *name) {
  return emit_loop_begin(t->em, begin, end, const_i64(t, step), 0, NULL, name);
}

static LLVMValueRef load(const tile_t *t, LLVMTypeRef scalar, unsigned lanes,
                         LLVMValueRef ptr, const char *name) {
  LLVMTypeRef type = emit_lanes(scalar, lanes);
  LLVMValueRef value = LLVMBuildLoad2(t->em->builder, type, ptr, name);
  LLVMTargetDataRef layout = LLVMGetModuleDataLayout(t->em->module);
  LLVMSetAlignment(value, LLVMABIAlignmentOfType(layout, scalar));
  return value;
}

static void store(const tile_t *t, LLVMValueRef value, LLVMValueRef ptr) {
  LLVMValueRef inst = LLVMBuildStore(t->em->builder, value, ptr);
  LLVMTargetDataRef layout = LLVMGetModuleDataLayout(t->em->module);
  LLVMSetAlignment(inst,
                   LLVMABIAlignmentOfType(layout, emit_element_type(value)));
}

/* The type in which elements lie in memory: floats that LLVM's basic
 * arithmetic does not serve are held in integers. */
static LLVMTypeRef memory_type(const emitter_t *em, dtype_t dtype) {
  if (dtype == DT_F32) return em->f32;
  if (dtype == DT_F64) return em->f64;
  MOEC_ASSERT(dtype_bits(dtype) >= 8 && dtype_bits(dtype) <= 64);
  return LLVMIntTypeInContext(em->context, dtype_bits(dtype));
}

/* Elements as loaded from memory, in the type of the accumulators. */
static LLVMValueRef widen(const tile_t *t, dtype_t from, LLVMValueRef value) {
  LLVMBuilderRef builder = t->em->builder;
  LLVMTypeRef type = emit_lanes(t->acc_type, emit_lanes_of(value));
  if (!dtype_is_float(from))
    return dtype_class(from) == DT_CLASS_SIGNED
               ? LLVMBuildSExtOrBitCast(builder, value, type, "")
               : LLVMBuildZExtOrBitCast(builder, value, type, "");
  if (from != DT_F32 && from != DT_F64)
    value = emit_float_from_bits(t->em, from, value);
  return emit_element_type(value) == t->acc_type
             ? value
             : LLVMBuildFPExt(builder, value, type, "");
}

static LLVMValueRef multiply_add(const tile_t *t, LLVMValueRef a,
                                 LLVMValueRef b, LLVMValueRef sum) {
  if (dtype_is_float(t->spec->acc_dtype)) return emit_fma(t->em, a, b, sum);
  LLVMBuilderRef builder = t->em->builder;
  return LLVMBuildAdd(builder, sum, LLVMBuildMul(builder, a, b, ""), "");
}

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
      LLVMBuildAlloca(builder, LLVMArrayType2(t->acc_type, count), name);
  LLVMSetAlignment(block, 64);
  LLVMPositionBuilderAtEnd(builder, here);
  return block;
}

/* Micro-tiles of an ISA, largest first. Accumulators, a row of B and a
 * broadcast element of A fit the registers; without FMA a product needs one
 * more. With few rows, tiles are as wide as a panel: that makes enough
 * independent chains. */
static void choose_micros(tile_t *t) {
  unsigned registers = t->em->isa->n_vectors;
  unsigned largest = registers >= 32                ? 12
                     : isa_has(t->em->isa, ISA_FMA) ? 6
                                                    : 4;
  unsigned panel_vectors = PANEL / t->lanes;
  for (unsigned rows = largest; rows > 0;) {
    unsigned vectors = panel_vectors;
    while (vectors > 2 && (rows + 1) * vectors + 1 > registers) vectors /= 2;
    MOEC_ASSERT(t->n_micros < MAX_MICRO);
    t->micros[t->n_micros++] = (micro_t){rows, vectors};
    rows = rows > 8 ? 8 : rows > 4 ? 4 : rows / 2;
  }
}

/* Divides the rows among the micro-tiles: the largest take what they fill by
 * more than the next smaller could, and so on down. */
static void divide_rows(tile_t *t) {
  LLVMBuilderRef builder = t->em->builder;
  LLVMValueRef begin = const_i64(t, 0);
  for (unsigned i = 0; i < t->n_micros; i++) {
    unsigned rows = t->micros[i].rows;
    unsigned next = i + 1 < t->n_micros ? t->micros[i + 1].rows : 0;
    /* left may be negative, but not below -largest: covered by rounding up */
    LLVMValueRef left = sub(t, t->n_rows, begin);
    LLVMValueRef positive =
        LLVMBuildICmp(builder, LLVMIntSGT, left, const_i64(t, 0), "");
    left = LLVMBuildSelect(builder, positive, left, const_i64(t, 0), "left");
    LLVMValueRef count =
        quotient(t, add(t, left, const_i64(t, rows - next - 1)), rows);
    LLVMValueRef end = add(t, begin, mul(t, count, const_i64(t, rows)));
    t->ranges[i] = (row_range_t){begin, end};
    begin = end;
  }
  t->padded_rows = begin;
}

/* Where the tile lies: tiles go through the columns first. */
static void locate(tile_t *t) {
  LLVMBuilderRef builder = t->em->builder;
  const product_spec_t *spec = t->spec;
  LLVMValueRef columns = const_i64(t, t->columns);
  LLVMValueRef across =
      quotient(t, add(t, spec->N, const_i64(t, t->columns - 1)), t->columns);
  LLVMValueRef down = LLVMBuildUDiv(builder, spec->tile, across, "down");
  LLVMValueRef right = sub(t, spec->tile, mul(t, down, across));
  t->m0 = mul(t, down, const_i64(t, TILE_ROWS));
  t->n0 = mul(t, right, columns);
  t->n_rows = minimum(t, sub(t, spec->M, t->m0), const_i64(t, TILE_ROWS));
  t->n_columns = minimum(t, sub(t, spec->N, t->n0), columns);
  /* A panel holds PANEL * K elements, so column n0 begins at n0 * K. */
  t->panels = element(t, t->b_type, spec->b, mul(t, t->n0, spec->K), "panels");
  LLVMValueRef few = LLVMBuildICmp(builder, LLVMIntSLE, t->n_rows,
                                   const_i64(t, FEW_ROWS), "few");
  unsigned more = TILE_ROWS / FEW_ROWS;
  t->depth_max = LLVMBuildSelect(builder, few, const_i64(t, t->block * more),
                                 const_i64(t, t->block), "depth.max");
  t->stride = LLVMBuildSelect(builder, few, const_i64(t, t->row_stride * more),
                              const_i64(t, t->row_stride), "stride");
}

static void clear_sums(const tile_t *t) {
  LLVMValueRef count = mul(t, t->padded_rows, const_i64(t, t->columns));
  emit_loop_t each = loop(t, const_i64(t, 0), count, PANEL, "clear");
  LLVMValueRef ptr = element(t, t->acc_type, t->sums, each.index, "sum.ptr");
  for (unsigned lane = 0; lane < PANEL; lane += t->lanes)
    store(t, LLVMConstNull(emit_lanes(t->acc_type, t->lanes)),
          element(t, t->acc_type, ptr, const_i64(t, lane), ""));
  emit_loop_end(t->em, &each, NULL);
}

/* packed[r][k] = A[m0 + r][k0 + k], converted, for k in [begin, end) */
static void pack_run(const tile_t *t, LLVMValueRef source, LLVMValueRef target,
                     LLVMValueRef begin, LLVMValueRef end, unsigned lanes) {
  emit_loop_t each = loop(t, begin, end, lanes, "pack");
  LLVMValueRef from = mul(t, each.index, t->spec->a_k);
  LLVMValueRef value = load(t, t->a_type, lanes,
                            element(t, t->a_type, source, from, "a.ptr"), "a");
  store(t, widen(t, t->spec->a_dtype, value),
        element(t, t->acc_type, target, each.index, "packed.ptr"));
  emit_loop_end(t->em, &each, NULL);
}

static void pack_rows(const tile_t *t, LLVMValueRef k0, LLVMValueRef depth) {
  const product_spec_t *spec = t->spec;
  LLVMValueRef last = sub(t, spec->M, const_i64(t, 1));
  LLVMValueRef a =
      element(t, t->a_type, spec->a, mul(t, k0, spec->a_k), "a.block");
  emit_loop_t row = loop(t, const_i64(t, 0), t->padded_rows, 1, "row");
  LLVMValueRef m = minimum(t, add(t, t->m0, row.index), last);
  LLVMValueRef source =
      element(t, t->a_type, a, mul(t, m, spec->a_row), "a.row");
  LLVMValueRef target = element(t, t->acc_type, t->packed,
                                mul(t, row.index, t->stride), "packed.row");
  LLVMValueRef whole = const_i64(t, 0);
  if (LLVMIsAConstantInt(spec->a_k) != NULL &&
      LLVMConstIntGetSExtValue(spec->a_k) == 1) {
    whole = mul(t, quotient(t, depth, t->lanes), const_i64(t, t->lanes));
    pack_run(t, source, target, const_i64(t, 0), whole, t->lanes);
  }
  pack_run(t, source, target, whole, depth, 1);
  emit_loop_end(t->em, &row, NULL);
}

/* One micro-tile: sums[r][v] += sum over k of packed[r][k] * b[k][v].
 *   b     first element of the panel's k block, at the micro-tile's columns
 *   sums  its first element of C */
static void emit_micro(const tile_t *t, micro_t micro, LLVMValueRef a,
                       LLVMValueRef stride, LLVMValueRef b, LLVMValueRef sums,
                       LLVMValueRef depth) {
  emitter_t *em = t->em;
  LLVMValueRef acc[EMIT_MAX_CARRY], ptr[EMIT_MAX_CARRY];
  unsigned n = micro.rows * micro.vectors;
  MOEC_ASSERT(n <= EMIT_MAX_CARRY);
  for (unsigned i = 0; i < n; i++) {
    unsigned offset =
        i / micro.vectors * t->columns + i % micro.vectors * t->lanes;
    ptr[i] = element(t, t->acc_type, sums, const_i64(t, offset), "sum.ptr");
    acc[i] = load(t, t->acc_type, t->lanes, ptr[i], "sum");
  }
  emit_loop_t k =
      emit_loop_begin(em, const_i64(t, 0), depth, const_i64(t, 1), n, acc, "k");
  LLVMValueRef b_k[PANEL];
  LLVMValueRef b_row =
      element(t, t->b_type, b, mul(t, k.index, const_i64(t, PANEL)), "b.row");
  for (unsigned v = 0; v < micro.vectors; v++)
    b_k[v] = widen(
        t, t->spec->b_dtype,
        load(t, t->b_type, t->lanes,
             element(t, t->b_type, b_row, const_i64(t, v * t->lanes), "b.ptr"),
             "b"));
  LLVMValueRef a_k = element(t, t->acc_type, a, k.index, "a.k");
  for (unsigned r = 0; r < micro.rows; r++) {
    LLVMValueRef at = mul(t, const_i64(t, r), stride);
    LLVMValueRef one =
        load(t, t->acc_type, 1, element(t, t->acc_type, a_k, at, "a.ptr"), "a");
    LLVMValueRef all = emit_splat(em, one, t->lanes);
    for (unsigned v = 0; v < micro.vectors; v++) {
      unsigned i = r * micro.vectors + v;
      acc[i] = multiply_add(t, all, b_k[v], k.carry[i]);
    }
  }
  emit_loop_end(em, &k, acc);
  for (unsigned i = 0; i < n; i++) store(t, k.carry[i], ptr[i]);
}

/* All rows of one panel's block of K. */
static void multiply_panel(const tile_t *t, LLVMValueRef panel,
                           LLVMValueRef sums, LLVMValueRef depth) {
  for (unsigned i = 0; i < t->n_micros; i++) {
    micro_t micro = t->micros[i];
    /* Larger micro-tiles never see few rows: their stride is constant. */
    LLVMValueRef stride =
        micro.rows > FEW_ROWS ? const_i64(t, t->row_stride) : t->stride;
    emit_loop_t row =
        loop(t, t->ranges[i].begin, t->ranges[i].end, micro.rows, "micro");
    LLVMValueRef a =
        element(t, t->acc_type, t->packed, mul(t, row.index, stride), "a.row");
    LLVMValueRef c =
        element(t, t->acc_type, sums,
                mul(t, row.index, const_i64(t, t->columns)), "sum.row");
    unsigned width = micro.vectors * t->lanes;
    emit_loop_t part =
        loop(t, const_i64(t, 0), const_i64(t, PANEL), width, "part");
    emit_micro(t, micro, a, stride,
               element(t, t->b_type, panel, part.index, "b.part"),
               element(t, t->acc_type, c, part.index, "sum.part"), depth);
    emit_loop_end(t->em, &part, NULL);
    emit_loop_end(t->em, &row, NULL);
  }
}

static void multiply_blocks(const tile_t *t) {
  const product_spec_t *spec = t->spec;
  emit_loop_t block = emit_loop_begin(t->em, const_i64(t, 0), spec->K,
                                      t->depth_max, 0, NULL, "block");
  LLVMValueRef depth = minimum(t, sub(t, spec->K, block.index), t->depth_max);
  pack_rows(t, block.index, depth);
  LLVMValueRef first =
      element(t, t->b_type, t->panels, mul(t, block.index, const_i64(t, PANEL)),
              "b.block");
  emit_loop_t panel = loop(t, const_i64(t, 0), t->n_columns, PANEL, "panel");
  multiply_panel(
      t, element(t, t->b_type, first, mul(t, panel.index, spec->K), "panel"),
      element(t, t->acc_type, t->sums, panel.index, "sum.panel"), depth);
  emit_loop_end(t->em, &panel, NULL);
  emit_loop_end(t->em, &block, NULL);
}

static void sink_vectors(const tile_t *t, LLVMValueRef m, LLVMValueRef row,
                         LLVMValueRef begin, LLVMValueRef end, bool whole) {
  const product_spec_t *spec = t->spec;
  emit_loop_t each = loop(t, begin, end, t->lanes, "sink");
  LLVMValueRef acc =
      load(t, t->acc_type, t->lanes,
           element(t, t->acc_type, row, each.index, "sum.ptr"), "sum");
  LLVMValueRef valid = whole ? NULL : sub(t, end, each.index);
  spec->sink(spec->sink_user, acc, t->lanes, m, add(t, t->n0, each.index),
             valid);
  emit_loop_end(t->em, &each, NULL);
}

static void sink_rows(const tile_t *t) {
  LLVMValueRef whole =
      mul(t, quotient(t, t->n_columns, t->lanes), const_i64(t, t->lanes));
  emit_loop_t row = loop(t, const_i64(t, 0), t->n_rows, 1, "sink.row");
  LLVMValueRef m = add(t, t->m0, row.index);
  LLVMValueRef sums =
      element(t, t->acc_type, t->sums,
              mul(t, row.index, const_i64(t, t->columns)), "sum.row");
  sink_vectors(t, m, sums, const_i64(t, 0), whole, true);
  LLVMValueRef n = t->spec->N;
  bool never = LLVMIsAConstantInt(n) != NULL &&
               LLVMConstIntGetZExtValue(n) % t->lanes == 0;
  if (!never) sink_vectors(t, m, sums, whole, t->n_columns, false);
  emit_loop_end(t->em, &row, NULL);
}

void product_tile_size(dtype_t acc_dtype, unsigned *out_rows,
                       unsigned *out_columns) {
  *out_rows = TILE_ROWS;
  *out_columns = dtype_bits(acc_dtype) > 32 ? 64 : 128;
}

void emit_product_tile(emitter_t *em, const product_spec_t *spec) {
  tile_t t = {.em = em, .spec = spec};
  MOEC_ASSERT(spec->acc_dtype == DT_F32 || spec->acc_dtype == DT_F64 ||
              dtype_is_integer(spec->acc_dtype));
  t.a_type = memory_type(em, spec->a_dtype);
  t.b_type = memory_type(em, spec->b_dtype);
  t.acc_type = memory_type(em, spec->acc_dtype);
  t.acc_bytes = dtype_bits(spec->acc_dtype) / 8;
  t.lanes = em->isa->vector_bytes / t.acc_bytes;
  if (t.lanes > PANEL) t.lanes = PANEL;
  unsigned rows;
  product_tile_size(spec->acc_dtype, &rows, &t.columns);
  t.block = BLOCK_BYTES / t.acc_bytes;
  t.row_stride = t.block + PAD_BYTES / t.acc_bytes;
  t.packed = stack_block(&t, TILE_ROWS * t.row_stride, "packed");
  t.sums = stack_block(&t, TILE_ROWS * t.columns, "sums");
  choose_micros(&t);
  locate(&t);
  divide_rows(&t);
  clear_sums(&t);
  multiply_blocks(&t);
  sink_rows(&t);
}
