/* The C library as the runtime uses it, declared here so that the runtime
 * compiles for any target without that target's headers. A function used for
 * the first time needs its row in imports.def. */
#ifndef RUNTIME_LIBC_H
#define RUNTIME_LIBC_H

#include <stddef.h>
#include <stdint.h>

typedef struct libc_timespec {
  long seconds, nanoseconds;
} libc_timespec_t;

int clock_gettime(int clock, libc_timespec_t *out_time);
void free(void *memory);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int posix_memalign(void **out_memory, size_t alignment, size_t bytes);
long syscall(long number, ...);

/* glibc's pthread_t. Both are NULL in a process without threads. */
typedef unsigned long libc_thread_t;
__attribute__((weak)) int pthread_create(libc_thread_t *out_thread,
                                         const void *attributes,
                                         void *(*start)(void *),
                                         void *argument);
__attribute__((weak)) int pthread_join(libc_thread_t thread, void **out_result);

enum { LIBC_CLOCK_MONOTONIC = 1, LIBC_SIG_SETMASK = 2 };
enum { LIBC_FUTEX_WAIT_PRIVATE = 128, LIBC_FUTEX_WAKE_PRIVATE = 129 };

#if defined(__x86_64__)
enum {
  LIBC_SYS_rt_sigprocmask = 14,
  LIBC_SYS_getpid = 39,
  LIBC_SYS_gettid = 186,
  LIBC_SYS_futex = 202,
  LIBC_SYS_sched_getaffinity = 204
};
#elif defined(__aarch64__)
enum {
  LIBC_SYS_futex = 98,
  LIBC_SYS_sched_getaffinity = 123,
  LIBC_SYS_rt_sigprocmask = 135,
  LIBC_SYS_getpid = 172,
  LIBC_SYS_gettid = 178
};
#elif defined(__riscv) && __riscv_xlen == 64
enum {
  LIBC_SYS_futex = 98,
  LIBC_SYS_sched_getaffinity = 123,
  LIBC_SYS_rt_sigprocmask = 135,
  LIBC_SYS_getpid = 172,
  LIBC_SYS_gettid = 178
};
#else
#error "system call numbers of this architecture are missing"
#endif

#endif
