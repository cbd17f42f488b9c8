/* The runtime as moec carries it: what every compiled model is linked with. */
#ifndef BACKEND_RUNTIME_BLOB_H
#define BACKEND_RUNTIME_BLOB_H

#include <stddef.h>

typedef struct runtime_blob {
  const char *arch; /* as in backend/targets.def */
  const unsigned char
      *data; /* one relocatable ELF object; its undefined symbols
                are moert_program and those of imports.def */
  size_t size;
  /* The same for code that is loaded into this process: under
     AddressSanitizer with its checks, see runtime/guard.h. */
  const unsigned char *loaded;
  size_t loaded_size;
  const unsigned char *libc_stub; /* a shared library with soname libc.so.6 */
  size_t libc_stub_size;
} runtime_blob_t;

/* The row of an architecture, or NULL. Constant data, 64-byte aligned. */
const runtime_blob_t *runtime_blob_find(const char *arch);

#endif
