/* Small ELF64 little-endian files made without LLVM: relocatable objects that
 * hold data and symbols, no code and no relocations. */
#ifndef BACKEND_ELF_OBJECT_H
#define BACKEND_ELF_OBJECT_H

#include <elf.h>

#include "ir/arena.h"

typedef struct elf_section {
  const char *name;
  uint32_t type;    /* SHT_* */
  uint64_t flags;   /* SHF_* */
  uint64_t align;   /* power of two */
  const void *data; /* `size` bytes; not read for SHT_NOBITS */
  uint64_t size;
} elf_section_t;

typedef struct elf_symbol { /* a global data object */
  const char *name;
  unsigned section;   /* index into elf_object_t.sections */
  uint64_t value;     /* offset in its section */
  uint64_t size;      /* in bytes */
  uint8_t visibility; /* STV_* */
} elf_symbol_t;

typedef struct elf_object {
  uint16_t machine; /* EM_* */
  uint32_t flags;   /* of the machine, EF_* */
  const elf_section_t *sections;
  unsigned n_sections;
  const elf_symbol_t *symbols;
  unsigned n_symbols;
} elf_object_t;

/* Writes the object's file into memory of the arena. Identical descriptions
 * give identical bytes. */
void elf_object_write(const elf_object_t *object, arena_t *arena,
                      uint8_t **out_data, size_t *out_size);

#endif
