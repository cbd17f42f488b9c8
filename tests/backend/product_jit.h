/* Compiles emit_product_tile for one case and loads it into this process;
 * shared by the unit test and the benchmark. */
#ifndef TESTS_BACKEND_PRODUCT_JIT_H
#define TESTS_BACKEND_PRODUCT_JIT_H

#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu.h"
#include "moec/rtabi.h"

typedef struct product_case {
  dtype_t a_dtype, b_dtype, acc_dtype;
  bool unit_k;     /* a_k is the constant 1 */
  int64_t fixed_n; /* N as a constant, or 0 */
} product_case_t;

/* C[M][N] in the accumulator's type = tiles [begin, end) of the product. */
typedef void (*product_fn)(const void *a, const void *b, void *c, int64_t M,
                           int64_t N, int64_t K, int64_t a_row, int64_t a_k,
                           int64_t begin, int64_t end);

typedef struct product_jit {
  LLVMOrcLLJITRef jit;
  product_fn fn;
  size_t object_bytes;
  double compile_seconds;
} product_jit_t;

typedef struct product_store {
  emitter_t *em;
  LLVMValueRef c, n;
} product_store_t;

/* The sink: c[m * N + n + lane] = acc[lane] for valid lanes. */
static inline void product_store_c(void *user, LLVMValueRef acc, unsigned lanes,
                                   LLVMValueRef m, LLVMValueRef n,
                                   LLVMValueRef valid) {
  const product_store_t *to = user;
  LLVMBuilderRef builder = to->em->builder;
  LLVMTypeRef type = emit_element_type(acc);
  LLVMValueRef at =
      LLVMBuildAdd(builder, LLVMBuildMul(builder, m, to->n, ""), n, "");
  LLVMValueRef ptr = LLVMBuildGEP2(builder, type, to->c, &at, 1, "c.ptr");
  if (valid == NULL) {
    LLVMSetAlignment(LLVMBuildStore(builder, acc, ptr), 1);
    return;
  }
  MOEC_ASSERT(emit_lanes_of(acc) == lanes);
  LLVMValueRef zero = LLVMConstInt(to->em->i64, 0, false);
  LLVMValueRef one = LLVMConstInt(to->em->i64, 1, false);
  emit_loop_t lane = emit_loop_begin(to->em, zero, valid, one, 0, NULL, "lane");
  LLVMValueRef value =
      LLVMBuildExtractElement(builder, acc, lane.index, "element");
  LLVMBuildStore(builder, value,
                 LLVMBuildGEP2(builder, type, ptr, &lane.index, 1, ""));
  emit_loop_end(to->em, &lane, NULL);
}

static inline void product_emit(emitter_t *em, const product_case_t *c) {
  enum { A, B, C, M, N, K, A_ROW, A_K, BEGIN, END, N_PARAMS };
  LLVMTypeRef params[N_PARAMS];
  for (unsigned i = 0; i < N_PARAMS; i++) params[i] = i < M ? em->ptr : em->i64;
  LLVMValueRef func =
      LLVMAddFunction(em->module, "product",
                      LLVMFunctionType(em->void_type, params, N_PARAMS, false));
  LLVMPositionBuilderAtEnd(
      em->builder, LLVMAppendBasicBlockInContext(em->context, func, "entry"));
  LLVMValueRef one = LLVMConstInt(em->i64, 1, false);
  LLVMValueRef n = c->fixed_n != 0 ? LLVMConstInt(em->i64, c->fixed_n, false)
                                   : LLVMGetParam(func, N);
  product_store_t to = {em, LLVMGetParam(func, C), n};
  emit_loop_t tile =
      emit_loop_begin(em, LLVMGetParam(func, BEGIN), LLVMGetParam(func, END),
                      one, 0, NULL, "tile");
  product_spec_t spec = {
      .a_dtype = c->a_dtype,
      .b_dtype = c->b_dtype,
      .acc_dtype = c->acc_dtype,
      .a = LLVMGetParam(func, A),
      .a_row = LLVMGetParam(func, A_ROW),
      .a_k = c->unit_k ? one : LLVMGetParam(func, A_K),
      .b = LLVMGetParam(func, B),
      .M = LLVMGetParam(func, M),
      .N = n,
      .K = LLVMGetParam(func, K),
      .tile = tile.index,
      .sink = product_store_c,
      .sink_user = &to,
  };
  emit_product_tile(em, &spec);
  emit_loop_end(em, &tile, NULL);
  LLVMBuildRetVoid(em->builder);
}

/* Aborts on failure: nothing here depends on input. */
static inline void product_load(LLVMMemoryBufferRef object,
                                product_jit_t *out) {
  LLVMOrcExecutorAddress address = 0;
  LLVMErrorRef error = LLVMOrcCreateLLJIT(&out->jit, NULL);
  if (error == NULL) /* takes the buffer; resolves nothing outside of it */
    error = LLVMOrcLLJITAddObjectFile(
        out->jit, LLVMOrcLLJITGetMainJITDylib(out->jit), object);
  if (error == NULL) error = LLVMOrcLLJITLookup(out->jit, &address, "product");
  if (error != NULL) {
    char *text = LLVMGetErrorMessage(error);
    fprintf(stderr, "cannot load the product: %s\n", text);
    abort();
  }
  void *pointer = (void *)(uintptr_t)address;
  memcpy(&out->fn, &pointer, sizeof out->fn);
}

static inline double product_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline product_jit_t product_compile(const isa_t *isa,
                                            const product_case_t *c) {
  product_jit_t result = {0};
  arena_t *arena = arena_create(0);
  if (arena == NULL) abort();
  diag_sink_t diag;
  diag_init(&diag, arena, NULL);
  emitter_t em;
  LLVMMemoryBufferRef object = NULL;
  if (emitter_init(&em, isa, arena, "product", &diag) != MOEC_OK) abort();
  product_emit(&em, c);
  if (getenv("PRODUCT_DUMP") != NULL) LLVMDumpModule(em.module);
  double start = product_clock();
  if (emitter_finish(&em, &object) != MOEC_OK) abort();
  result.compile_seconds = product_clock() - start;
  result.object_bytes = LLVMGetBufferSize(object);
  const char *path = getenv("PRODUCT_OBJECT");
  if (path != NULL) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) abort();
    fwrite(LLVMGetBufferStart(object), 1, result.object_bytes, file);
    fclose(file);
  }
  product_load(object, &result);
  emitter_dispose(&em);
  arena_destroy(arena);
  return result;
}

static inline void product_release(product_jit_t *product) {
  LLVMErrorRef error = LLVMOrcDisposeLLJIT(product->jit);
  if (error != NULL) LLVMConsumeError(error);
  *product = (product_jit_t){0};
}

static inline int64_t product_n_tiles(dtype_t acc, int64_t M, int64_t N) {
  unsigned rows, columns;
  product_tile_size(acc, &rows, &columns);
  return (M + rows - 1) / rows * ((N + columns - 1) / columns);
}

#endif
