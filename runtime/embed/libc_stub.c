/* Becomes a stand-in for the C library with the symbols of imports.def only,
 * each in its version: what compiled models are linked against. Never loaded.
 */
#define VERSIONED(name, version)    \
  __asm__(".globl moec_stub_" #name \
          "\n"                      \
          ".type moec_stub_" #name  \
          ", @function\n"           \
          "moec_stub_" #name        \
          ":\n"                     \
          ".symver moec_stub_" #name ", " #name "@@" version "\n");

#if defined(__x86_64__)
#define IMPORT(name, x86_64) VERSIONED(name, x86_64)
#elif defined(__aarch64__)
#define IMPORT(name, x86_64) VERSIONED(name, IMPORTS_AARCH64)
#elif defined(__riscv)
#define IMPORT(name, x86_64) VERSIONED(name, IMPORTS_RISCV64)
#endif
#include "runtime/imports.def"
