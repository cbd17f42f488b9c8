/* The bytes of the runtime's objects and of the stub libraries, by
 * architecture. runtime_blob_files.h, with paths and sizes, is made by
 * cmake/runtime.cmake. */
#include "backend/runtime_blob.h"

#include <string.h>

#include "runtime_blob_files.h"

/* `name` is the first byte of the file; hidden, so no table of addresses
 * needed. */
#define EMBED(name, path)                                                  \
  __asm__(".section .rodata\n.balign 64\n.hidden " #name "\n.globl " #name \
          "\n" #name ":\n.incbin \"" path                                  \
          "\"\n"                                                           \
          ".previous\n");                                                  \
  extern __attribute__((visibility("hidden"))) const unsigned char name[]

#define TARGET(id, arch, llvm, machine)               \
  EMBED(moec_blob_runtime_##id, RUNTIME_##id##_PATH); \
  EMBED(moec_blob_libc_##id, LIBC_##id##_PATH);
#include "backend/targets.def"

#ifdef MOEC_GUARDED
#define TARGET(id, arch, llvm, machine) \
  EMBED(moec_blob_loaded_##id, LOADED_##id##_PATH);
#include "backend/targets.def"
#define LOADED(id) moec_blob_loaded_##id
#else
#define LOADED(id) moec_blob_runtime_##id
#endif

static const runtime_blob_t rows[] = {
#define TARGET(id, target, llvm, machine) \
  {.arch = target,                        \
   .data = moec_blob_runtime_##id,        \
   .size = RUNTIME_##id##_SIZE,           \
   .loaded = LOADED(id),                  \
   .loaded_size = LOADED_##id##_SIZE,     \
   .libc_stub = moec_blob_libc_##id,      \
   .libc_stub_size = LIBC_##id##_SIZE},
#include "backend/targets.def"
};

const runtime_blob_t *runtime_blob_find(const char *arch) {
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (strcmp(rows[i].arch, arch) == 0) return &rows[i];
  return NULL;
}
