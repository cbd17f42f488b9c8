/* Compiles loops over arrays around emitted scalar or vector code and loads
 * them into this process; shared by the tests of elementary functions and of
 * float conversions. */
#ifndef TESTS_BACKEND_MATH_JIT_H
#define TESTS_BACKEND_MATH_JIT_H

#include <elf.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu.h"
#include "moec/rtabi.h"

/* out[i] = f(x[i], y[i]) for i < n, a multiple of the lanes; x, y of one type.
 */
typedef void (*math_fn)(const void *x, const void *y, void *out, int64_t n);

/* Emits f for one scalar or vector. */
typedef LLVMValueRef (*math_body_fn)(emitter_t *em, const void *user,
                                     LLVMValueRef x, LLVMValueRef y);

typedef struct math_jit {
  emitter_t em;
  arena_t *arena;
  diag_sink_t diag;
  LLVMOrcLLJITRef jit;
} math_jit_t;

static inline void math_jit_init(math_jit_t *jit, const isa_t *isa) {
  *jit = (math_jit_t){0};
  jit->arena = arena_create(0);
  if (jit->arena == NULL) abort();
  diag_init(&jit->diag, jit->arena, NULL);
  if (emitter_init(&jit->em, isa, jit->arena, "math", &jit->diag) != MOEC_OK)
    abort();
}

/* Adds the function `name` with scalar types `in` and `out`. */
static inline void math_jit_add(math_jit_t *jit, const char *name,
                                LLVMTypeRef in, LLVMTypeRef out, unsigned lanes,
                                math_body_fn body, const void *user) {
  emitter_t *em = &jit->em;
  LLVMBuilderRef b = em->builder;
  LLVMTypeRef params[4] = {em->ptr, em->ptr, em->ptr, em->i64};
  LLVMValueRef func = LLVMAddFunction(
      em->module, name, LLVMFunctionType(em->void_type, params, 4, false));
  LLVMPositionBuilderAtEnd(
      b, LLVMAppendBasicBlockInContext(em->context, func, "entry"));
  emit_loop_t loop = emit_loop_begin(
      em, LLVMConstInt(em->i64, 0, false), LLVMGetParam(func, 3),
      LLVMConstInt(em->i64, lanes, false), 0, NULL, "loop");
  LLVMValueRef operand[2];
  for (unsigned i = 0; i < 2; i++) {
    LLVMValueRef at =
        LLVMBuildGEP2(b, in, LLVMGetParam(func, i), &loop.index, 1, "");
    operand[i] = LLVMBuildLoad2(b, emit_lanes(in, lanes), at, "");
    LLVMSetAlignment(operand[i], 1);
  }
  LLVMValueRef value = body(em, user, operand[0], operand[1]);
  LLVMValueRef at =
      LLVMBuildGEP2(b, out, LLVMGetParam(func, 2), &loop.index, 1, "");
  LLVMSetAlignment(LLVMBuildStore(b, value, at), 1);
  emit_loop_end(em, &loop, NULL);
  LLVMBuildRetVoid(b);
}

/* The code must need nothing from outside, such as a library's function. */
static inline void math_jit_check_imports(LLVMMemoryBufferRef object) {
  const char *data = LLVMGetBufferStart(object);
  const Elf64_Ehdr *header = (const void *)data;
  const Elf64_Shdr *section = (const void *)(data + header->e_shoff);
  for (unsigned i = 0; i < header->e_shnum; i++) {
    if (section[i].sh_type != SHT_SYMTAB) continue;
    const Elf64_Sym *symbol = (const void *)(data + section[i].sh_offset);
    const char *names = data + section[section[i].sh_link].sh_offset;
    for (size_t k = 1; k < section[i].sh_size / sizeof *symbol; k++)
      if (symbol[k].st_shndx == SHN_UNDEF) {
        fprintf(stderr, "the code imports %s\n", names + symbol[k].st_name);
        abort();
      }
  }
}

/* Generates the code; aborts on failure, which no input can cause. */
static inline void math_jit_load(math_jit_t *jit) {
  LLVMMemoryBufferRef object = NULL;
  if (getenv("MATH_DUMP") != NULL) LLVMDumpModule(jit->em.module);
  if (emitter_finish(&jit->em, &object) != MOEC_OK) abort();
  const char *path = getenv("MATH_OBJECT");
  if (path != NULL) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) abort();
    fwrite(LLVMGetBufferStart(object), 1, LLVMGetBufferSize(object), file);
    fclose(file);
  }
  math_jit_check_imports(object);
  LLVMErrorRef error = LLVMOrcCreateLLJIT(&jit->jit, NULL);
  if (error == NULL)
    error = LLVMOrcLLJITAddObjectFile(
        jit->jit, LLVMOrcLLJITGetMainJITDylib(jit->jit), object);
  if (error != NULL) {
    fprintf(stderr, "cannot load the code: %s\n", LLVMGetErrorMessage(error));
    abort();
  }
}

static inline math_fn math_jit_find(math_jit_t *jit, const char *name) {
  LLVMOrcExecutorAddress address = 0;
  LLVMErrorRef error = LLVMOrcLLJITLookup(jit->jit, &address, name);
  if (error != NULL) {
    fprintf(stderr, "cannot find %s: %s\n", name, LLVMGetErrorMessage(error));
    abort();
  }
  void *pointer = (void *)(uintptr_t)address;
  math_fn fn;
  memcpy(&fn, &pointer, sizeof fn);
  return fn;
}

static inline void math_jit_dispose(math_jit_t *jit) {
  if (jit->jit != NULL) {
    LLVMErrorRef error = LLVMOrcDisposeLLJIT(jit->jit);
    if (error != NULL) LLVMConsumeError(error);
  }
  emitter_dispose(&jit->em);
  arena_destroy(jit->arena);
}

#endif
