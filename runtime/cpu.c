/* What the processor can do, and how many there are. */
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "runtime/libc.h"
#include "runtime/runtime.h"

#if defined(__x86_64__)

/* Register state that the system saves at a switch of threads: without it, wide
 * registers must not be used whatever cpuid says. */
static uint64_t enabled_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

enum { STATE_YMM = 0x06, STATE_ZMM = 0xe6 };

static bool has_all(uint32_t word, uint32_t bits) {
  return (word & bits) == bits;
}

/* A variant may use what its LLVM name of a processor stands for, so a bit is
 * all or nothing: AVX2 is x86-64-v3, and each bit below needs those above. */
uint64_t cpu_features(void) {
  const uint32_t lzcnt = 1u << 5;
  uint32_t a, b, c, d, unused;
  uint32_t ext_c = 0, b7 = 0, c7 = 0, a7_1 = 0, max_subleaf = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has_all(c, bit_OSXSAVE)) return 0;
  uint32_t c1 = c;
  uint64_t state = enabled_state();
  if (__get_cpuid_count(7, 0, &max_subleaf, &b7, &c7, &unused) &&
      max_subleaf >= 1)
    __get_cpuid_count(7, 1, &a7_1, &unused, &unused, &unused);
  __get_cpuid(0x80000001u, &unused, &unused, &ext_c, &unused);

  uint64_t features = 0;
  if ((state & STATE_YMM) != STATE_YMM ||
      !has_all(c1, bit_FMA | bit_F16C | bit_MOVBE) ||
      !has_all(b7, bit_AVX2 | bit_BMI | bit_BMI2) || !has_all(ext_c, lzcnt))
    return features;
  features |= MOERT_CPU_AVX2;
  if ((state & STATE_ZMM) != STATE_ZMM ||
      !has_all(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ |
                       bit_AVX512VL))
    return features;
  features |= MOERT_CPU_AVX512;
  if (has_all(c7, bit_AVX512VNNI)) features |= MOERT_CPU_AVX512VNNI;
  if (has_all(a7_1, bit_AVX512BF16)) features |= MOERT_CPU_AVX512BF16;
  return features;
}

#else

uint64_t cpu_features(void) { return 0; }

#endif

int32_t cpu_count(void) {
  uint64_t mask[RT_MAX_THREADS / 64] = {0};
  long bytes = syscall(LIBC_SYS_sched_getaffinity, 0, sizeof mask, mask);
  int32_t count = 0;
  for (long i = 0; i < bytes / (long)sizeof mask[0]; i++)
    count += __builtin_popcountll(mask[i]);
  return count > 0 ? count : 1;
}
