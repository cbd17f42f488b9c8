/* Editing of linked ELF64 images in memory. They are our own linker's output,
 * so that whatever is not as expected is a bug and not an error of the user. */
#include "backend/elf_patch.h"

#include <elf.h>
#include <string.h>

/* The tables of an image. Pointers are into it: every table of an image is
 * aligned as its entries are, and so is the image itself. */
typedef struct tables {
  uint8_t *image;
  size_t bytes;
  Elf64_Phdr *phdrs;
  unsigned n_phdrs;
  Elf64_Shdr *shdrs;
  unsigned n_shdrs;
} tables_t;

static void *range(const tables_t *t, uint64_t offset, uint64_t bytes) {
  MOEC_ASSERT(offset <= t->bytes && bytes <= t->bytes - offset);
  MOEC_ASSERT(offset % 4 == 0);
  return t->image + offset;
}

static tables_t find_tables(uint8_t *image, size_t bytes) {
  tables_t t = {.image = image, .bytes = bytes};
  const Elf64_Ehdr *ehdr = range(&t, 0, sizeof *ehdr);
  MOEC_ASSERT((uintptr_t)image % 8 == 0);
  MOEC_ASSERT(memcmp(ehdr->e_ident, ELFMAG, SELFMAG) == 0 &&
              ehdr->e_ident[EI_CLASS] == ELFCLASS64 &&
              ehdr->e_ident[EI_DATA] == ELFDATA2LSB);
  MOEC_ASSERT(ehdr->e_phoff % 8 == 0 && ehdr->e_shoff % 8 == 0);
  t.n_phdrs = ehdr->e_phnum;
  t.phdrs = range(&t, ehdr->e_phoff, t.n_phdrs * sizeof *t.phdrs);
  t.n_shdrs = ehdr->e_shnum;
  t.shdrs = range(&t, ehdr->e_shoff, t.n_shdrs * sizeof *t.shdrs);
  MOEC_ASSERT(ehdr->e_shstrndx < t.n_shdrs);
  return t;
}

/* Index of the section, 0 when there is none. */
static unsigned find_section(const tables_t *t, const char *name) {
  const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)t->image;
  const Elf64_Shdr *names = &t->shdrs[ehdr->e_shstrndx];
  MOEC_ASSERT(names->sh_offset <= t->bytes &&
              names->sh_size <= t->bytes - names->sh_offset);
  for (unsigned i = 1; i < t->n_shdrs; i++) {
    const uint64_t at = t->shdrs[i].sh_name;
    if (at < names->sh_size && strlen(name) < names->sh_size - at &&
        strcmp((const char *)t->image + names->sh_offset + at, name) == 0)
      return i;
  }
  return 0;
}

/* The loaded segment that begins with the section and holds nothing else. */
static Elf64_Phdr *find_segment(const tables_t *t, const Elf64_Shdr *section) {
  Elf64_Phdr *found = NULL;
  for (unsigned i = 0; i < t->n_phdrs; i++) {
    Elf64_Phdr *phdr = &t->phdrs[i];
    if (phdr->p_type != PT_LOAD) continue;
    if (phdr->p_vaddr == section->sh_addr) {
      MOEC_ASSERT(phdr->p_flags == PF_R);
      MOEC_ASSERT(phdr->p_filesz == section->sh_size &&
                  phdr->p_memsz == section->sh_size);
      found = phdr;
    } else {
      /* All else lies below, so that the segment may grow upwards. */
      MOEC_ASSERT(phdr->p_vaddr + phdr->p_memsz <= section->sh_addr);
    }
  }
  MOEC_ASSERT(found != NULL);
  return found;
}

static void resize_symbols(const tables_t *t, unsigned section,
                           uint64_t bytes) {
  const unsigned table = find_section(t, ".symtab");
  if (table == 0) return; /* stripped */
  const Elf64_Shdr *header = &t->shdrs[table];
  MOEC_ASSERT(header->sh_entsize == sizeof(Elf64_Sym) &&
              header->sh_offset % 8 == 0);
  Elf64_Sym *symbols = range(t, header->sh_offset, header->sh_size);
  for (uint64_t i = 0; i < header->sh_size / sizeof *symbols; i++)
    if (symbols[i].st_shndx == section &&
        ELF64_ST_TYPE(symbols[i].st_info) == STT_OBJECT)
      symbols[i].st_size = bytes;
}

moec_status_t elf_extend_weights(uint8_t *image, size_t image_bytes,
                                 uint64_t weights_bytes, uint64_t *out_offset,
                                 diag_sink_t *diag) {
  *out_offset = 0;
  if (weights_bytes > WEIGHTS_MAX_BYTES)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_LIMIT,
                      "%llu bytes of weights exceed the limit of %llu",
                      (unsigned long long)weights_bytes,
                      (unsigned long long)WEIGHTS_MAX_BYTES);
  MOEC_ASSERT(weights_bytes > 0);
  const tables_t t = find_tables(image, image_bytes);
  const unsigned index = find_section(&t, WEIGHTS_SECTION);
  MOEC_ASSERT(index != 0);
  Elf64_Shdr *section = &t.shdrs[index];
  Elf64_Phdr *segment = find_segment(&t, section);

  /* The loader wants offset and address congruent modulo the alignment. */
  const uint64_t align = segment->p_align;
  MOEC_ASSERT(align >= 4096 && (align & (align - 1)) == 0);
  MOEC_ASSERT(segment->p_vaddr % 4096 == 0);
  const uint64_t offset =
      image_bytes + (segment->p_vaddr - image_bytes) % align;
  segment->p_offset = section->sh_offset = offset;
  segment->p_filesz = segment->p_memsz = section->sh_size = weights_bytes;
  resize_symbols(&t, index, weights_bytes);
  *out_offset = offset;
  return MOEC_OK;
}

/* One step of splitmix64: a bijection that spreads every bit. */
static uint64_t mix(uint64_t x) {
  x += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

void elf_mix_build_id(uint8_t *image, size_t image_bytes, uint64_t digest) {
  const tables_t t = find_tables(image, image_bytes);
  const unsigned index = find_section(&t, ".note.gnu.build-id");
  MOEC_ASSERT(index != 0);
  const Elf64_Shdr *section = &t.shdrs[index];
  const Elf64_Nhdr *note = range(&t, section->sh_offset, section->sh_size);
  MOEC_ASSERT(section->sh_size >= sizeof *note &&
              note->n_namesz == sizeof ELF_NOTE_GNU &&
              note->n_type == NT_GNU_BUILD_ID);
  const uint64_t start = sizeof *note + sizeof ELF_NOTE_GNU;
  MOEC_ASSERT(section->sh_size >= start &&
              note->n_descsz <= section->sh_size - start);
  uint8_t *id = (uint8_t *)note + start;
  for (uint32_t i = 0; i < note->n_descsz; i++) {
    if (i % 8 == 0) digest = mix(digest);
    id[i] ^= (uint8_t)(digest >> (i % 8 * 8));
  }
}
