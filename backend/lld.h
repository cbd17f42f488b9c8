/* The ELF linker as a function: the project's only C++, see lld.cc. */
#ifndef BACKEND_LLD_H
#define BACKEND_LLD_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lld_result {
  int code;           /* the linker's exit code, 0 is success */
  bool can_run_again; /* false: the linker's state is beyond repair */
  char *text;         /* what it printed, malloc'd; NULL when out of memory */
} lld_result_t;

/* Runs `ld.lld argv[0..argc)` (argv[0] is the program's name) in this process.
 * Never exits or aborts the process. The linker has process-wide state: one
 * call at a time, which the caller ensures. */
lld_result_t lld_run(int argc, const char *const *argv);

/* Turns on an option of LLVM that is a flag, for the life of the process: the
 * linker sets all options back to what they are at first. False if there is no
 * such option. To be called before any other thread uses LLVM. */
bool lld_keep_flag(const char *name);

#ifdef __cplusplus
}
#endif
#endif
