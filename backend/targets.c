/* The table of instruction-set variants. */
#include <elf.h>
#include <string.h>

#include "backend/cpu.h"

enum {
  ROW_NONE = -1,
#define ISA(id, name, arch, cpu, features, bytes, vectors, traits, bits, base) \
  ROW_##id,
#include "backend/targets.def"
};

static const isa_t isas[] = {
#define ISA(id, name, arch, cpu, features, bytes, vectors, traits, bits, base) \
  {name, arch, cpu, features, bytes, vectors, traits, ROW_##base, bits},
#include "backend/targets.def"
};

static const target_t targets[] = {
#define TARGET(id, arch, llvm, machine) {arch, machine},
#include "backend/targets.def"
};

const target_t *target_find(const char *triple) {
  const size_t n = strcspn(triple, "-");
  for (unsigned i = 0; i < sizeof targets / sizeof targets[0]; i++) {
    const char *arch = targets[i].arch;
    if (strlen(arch) != n || memcmp(triple, arch, n) != 0) continue;
    const char *rest = triple + n;
    const bool vendor =
        strncmp(rest, "-pc-", 4) == 0 || strncmp(rest, "-unknown-", 9) == 0;
    if (vendor) rest += 1 + strcspn(rest + 1, "-");
    return rest[0] == '\0' || strcmp(rest, "-linux-gnu") == 0 ? &targets[i]
                                                              : NULL;
  }
  return NULL;
}

const char *target_of_machine(uint16_t machine) {
  for (unsigned i = 0; i < sizeof targets / sizeof targets[0]; i++)
    if (targets[i].machine == machine) return targets[i].arch;
  return "unknown";
}

const char *target_triple(arena_t *arena, const char *arch) {
  return arena_printf(arena, "%s-linux-gnu", arch);
}

unsigned isa_count(void) { return sizeof isas / sizeof isas[0]; }

const isa_t *isa_at(unsigned index) {
  MOEC_ASSERT(index < isa_count());
  return &isas[index];
}

static bool is_among(unsigned row, const unsigned *rows, unsigned n_rows) {
  for (unsigned i = 0; i < n_rows; i++)
    if (rows[i] == row) return true;
  return false;
}

unsigned isa_serving(unsigned row, unsigned used, const unsigned *rows,
                     unsigned n_rows) {
  for (;;) {
    const isa_t *isa = isa_at(row);
    if (isa->base < 0 || !is_among((unsigned)isa->base, rows, n_rows) ||
        ((isa->traits ^ isa_at((unsigned)isa->base)->traits) & used) != 0)
      return row;
    row = (unsigned)isa->base;
  }
}

const isa_t *isa_find(const char *name) {
  for (unsigned i = 0; i < isa_count(); i++)
    if (strcmp(isas[i].name, name) == 0) return &isas[i];
  return NULL;
}

const char *cpu_arch(void) {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#elif defined(__riscv) && __riscv_xlen == 64
  return "riscv64";
#else
  return "unknown";
#endif
}

bool cpu_runs(const isa_t *isa) {
  return strcmp(isa->arch, cpu_arch()) == 0 &&
         (isa->cpu_bits & ~cpu_features()) == 0;
}
