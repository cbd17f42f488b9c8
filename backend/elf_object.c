/* Writes relocatable objects: header, section contents, symbol and string
 * tables, section headers, in this order. */
#include "backend/elf_object.h"

#include <string.h>

/* Sections that the writer adds behind the caller's and the null section. */
enum { EXTRA_SYMTAB, EXTRA_STRTAB, EXTRA_SHSTRTAB, EXTRA_STACK, N_EXTRA };
static const char *const extra_names[N_EXTRA] = {
    ".symtab", ".strtab", ".shstrtab", ".note.GNU-stack"};

static void align_text(text_t *out, uint64_t align) {
  while (out->length % align != 0) text_append(out, "", 1);
}

/* Appends a NUL-terminated string; its offset. */
static uint32_t add_string(text_t *table, const char *string) {
  uint32_t offset = (uint32_t)table->length;
  text_append(table, string, strlen(string) + 1);
  return offset;
}

/* Appends bytes at the alignment of the section, filling in its place. */
static void place(text_t *file, Elf64_Shdr *header, const void *data,
                  uint64_t size) {
  align_text(file, header->sh_addralign);
  header->sh_offset = file->length;
  header->sh_size = size;
  if (header->sh_type != SHT_NOBITS) text_append(file, data, size);
}

static void write_symbols(const elf_object_t *object, text_t *symtab,
                          text_t *strtab) {
  const Elf64_Sym null = {0};
  text_append(symtab, (const char *)&null, sizeof null);
  text_append(strtab, "", 1);
  for (unsigned i = 0; i < object->n_symbols; i++) {
    const elf_symbol_t *symbol = &object->symbols[i];
    MOEC_ASSERT(symbol->section < object->n_sections);
    Elf64_Sym entry = {.st_name = add_string(strtab, symbol->name),
                       .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
                       .st_other = symbol->visibility,
                       .st_shndx = (uint16_t)(symbol->section + 1),
                       .st_value = symbol->value,
                       .st_size = symbol->size};
    text_append(symtab, (const char *)&entry, sizeof entry);
  }
}

static void place_extra(const elf_object_t *object, text_t *file,
                        Elf64_Shdr *extra, text_t *shstrtab, uint32_t first) {
  text_t symtab, strtab;
  text_init(&symtab, file->arena);
  text_init(&strtab, file->arena);
  write_symbols(object, &symtab, &strtab);
  for (unsigned i = 0; i < N_EXTRA; i++)
    extra[i] = (Elf64_Shdr){.sh_name = add_string(shstrtab, extra_names[i]),
                            .sh_type = SHT_STRTAB,
                            .sh_addralign = 1};
  extra[EXTRA_SYMTAB].sh_type = SHT_SYMTAB;
  extra[EXTRA_SYMTAB].sh_addralign = 8;
  extra[EXTRA_SYMTAB].sh_entsize = sizeof(Elf64_Sym);
  extra[EXTRA_SYMTAB].sh_link = first + EXTRA_STRTAB;
  extra[EXTRA_SYMTAB].sh_info = 1; /* index of the first global symbol */
  extra[EXTRA_STACK].sh_type = SHT_PROGBITS; /* empty: no executable stack */
  place(file, &extra[EXTRA_SYMTAB], symtab.data, symtab.length);
  place(file, &extra[EXTRA_STRTAB], strtab.data, strtab.length);
  place(file, &extra[EXTRA_SHSTRTAB], shstrtab->data, shstrtab->length);
  place(file, &extra[EXTRA_STACK], "", 0);
}

void elf_object_write(const elf_object_t *object, arena_t *arena,
                      uint8_t **out_data, size_t *out_size) {
  const uint32_t first = object->n_sections + 1; /* of the extra sections */
  const uint32_t count = first + N_EXTRA;
  MOEC_ASSERT(count < SHN_LORESERVE);
  Elf64_Shdr *headers = ARENA_ARRAY(arena, Elf64_Shdr, count);
  text_t file, shstrtab;
  text_init(&file, arena);
  text_init(&shstrtab, arena);
  text_append(&shstrtab, "", 1);

  Elf64_Ehdr ehdr = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
                                 ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE},
                     .e_type = ET_REL,
                     .e_machine = object->machine,
                     .e_version = EV_CURRENT,
                     .e_flags = object->flags,
                     .e_ehsize = sizeof(Elf64_Ehdr),
                     .e_shentsize = sizeof(Elf64_Shdr),
                     .e_shnum = (uint16_t)count,
                     .e_shstrndx = (uint16_t)(first + EXTRA_SHSTRTAB)};
  text_append(&file, (const char *)&ehdr, sizeof ehdr);
  for (unsigned i = 0; i < object->n_sections; i++) {
    const elf_section_t *section = &object->sections[i];
    MOEC_ASSERT(section->align != 0 &&
                (section->align & (section->align - 1)) == 0);
    headers[i + 1] =
        (Elf64_Shdr){.sh_name = add_string(&shstrtab, section->name),
                     .sh_type = section->type,
                     .sh_flags = section->flags,
                     .sh_addralign = section->align};
    place(&file, &headers[i + 1], section->data, section->size);
  }
  place_extra(object, &file, headers + first, &shstrtab, first);

  align_text(&file, 8);
  ehdr.e_shoff = file.length;
  text_append(&file, (const char *)headers, count * sizeof *headers);
  memcpy(file.data, &ehdr, sizeof ehdr);
  *out_data = (uint8_t *)file.data;
  *out_size = file.length;
}
