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

EMBED(moec_blob_runtime_x86_64, RUNTIME_X86_64_PATH);
EMBED(moec_blob_libc_x86_64, LIBC_X86_64_PATH);

#ifdef MOEC_GUARDED
EMBED(moec_blob_guarded_x86_64, GUARDED_X86_64_PATH);
#define LOADED_X86_64 moec_blob_guarded_x86_64
#define LOADED_X86_64_SIZE GUARDED_X86_64_SIZE
#else
#define LOADED_X86_64 moec_blob_runtime_x86_64
#define LOADED_X86_64_SIZE RUNTIME_X86_64_SIZE
#endif

static const runtime_blob_t rows[] = {
    {.arch = "x86_64",
     .data = moec_blob_runtime_x86_64,
     .size = RUNTIME_X86_64_SIZE,
     .loaded = LOADED_X86_64,
     .loaded_size = LOADED_X86_64_SIZE,
     .libc_stub = moec_blob_libc_x86_64,
     .libc_stub_size = LIBC_X86_64_SIZE},
};

const runtime_blob_t *runtime_blob_find(const char *arch) {
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (strcmp(rows[i].arch, arch) == 0) return &rows[i];
  return NULL;
}
