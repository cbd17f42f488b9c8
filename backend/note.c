/* Writing and reading of note sections. The reader believes nothing: every
 * offset and count is checked against the size of the file before it is used.
 */
#include "backend/note.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/elf_patch.h"

enum { MAX_NOTE_BYTES = 1 << 30, MAX_NOTES = 64 };

static uint64_t round_up4(uint64_t n) { return (n + 3) & ~UINT64_C(3); }

void note_encode(const note_t *notes, unsigned n_notes, text_t *out) {
  static const char zeros[4];
  for (unsigned i = 0; i < n_notes; i++) {
    MOEC_ASSERT(notes[i].length <= UINT32_MAX - 4);
    Elf64_Nhdr header = {.n_namesz = sizeof NOTE_OWNER,
                         .n_descsz = (uint32_t)notes[i].length,
                         .n_type = notes[i].type};
    text_append(out, (const char *)&header, sizeof header);
    text_append(out, NOTE_OWNER, sizeof NOTE_OWNER);
    text_append(out, zeros, round_up4(sizeof NOTE_OWNER) - sizeof NOTE_OWNER);
    text_append(out, notes[i].text, notes[i].length);
    text_append(out, zeros, round_up4(notes[i].length) - notes[i].length);
  }
}

const note_t *note_find(const note_file_t *file, uint32_t type) {
  for (unsigned i = 0; i < file->n_notes; i++)
    if (file->notes[i].type == type) return &file->notes[i];
  return NULL;
}

/* A file being read. */
typedef struct reader {
  int fd;
  uint64_t size;
  arena_t *arena;
  diag_sink_t *diag;
} reader_t;

static moec_status_t malformed(const reader_t *reader, uint64_t offset,
                               const char *what) {
  char where[32];
  snprintf(where, sizeof where, "byte %llu", (unsigned long long)offset);
  return diag_error(reader->diag, (ir_loc_t){.where = where},
                    MOEC_E_INVALID_MODEL, "not a valid ELF file: %s", what);
}

/* Reads exactly n bytes, which must lie inside the file. */
static moec_status_t read_at(const reader_t *reader, uint64_t offset, void *to,
                             uint64_t n, const char *what) {
  if (offset > reader->size || n > reader->size - offset)
    return malformed(reader, offset, what);
  for (uint64_t done = 0; done < n;) {
    ssize_t got =
        pread(reader->fd, (char *)to + done, n - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return diag_error(reader->diag, (ir_loc_t){0}, MOEC_E_IO,
                        "cannot read: %s", strerror(errno));
    if (got == 0) return malformed(reader, offset + done, what);
    done += (uint64_t)got;
  }
  return MOEC_OK;
}

/* Well-formed UTF-8 without control characters other than \t \n \r. */
static bool is_clean_text(const char *text, size_t length) {
  const unsigned char *at = (const unsigned char *)text;
  for (size_t i = 0; i < length;) {
    unsigned c = at[i];
    if (c < 0x80) {
      if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
        return false;
      i++;
      continue;
    }
    unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || length - i <= more) return false;
    uint32_t code = c & (0x3fu >> more);
    for (unsigned j = 1; j <= more; j++) {
      if ((at[i + j] & 0xc0) != 0x80) return false;
      code = code << 6 | (at[i + j] & 0x3f);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (code < least[more] || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000) || (code >= 0x80 && code < 0xa0))
      return false;
    i += more + 1;
  }
  return true;
}

static moec_status_t take_note(const reader_t *reader, const Elf64_Nhdr *header,
                               const char *owner, const char *desc,
                               uint64_t offset, note_file_t *out) {
  if (header->n_namesz == sizeof NOTE_OWNER &&
      memcmp(owner, NOTE_OWNER, sizeof NOTE_OWNER) == 0) {
    if (out->n_notes == MAX_NOTES)
      return malformed(reader, offset, "too many notes");
    if (!is_clean_text(desc, header->n_descsz))
      return malformed(reader, offset, "the text of a note is not plain UTF-8");
    out->notes = arena_grow_array(reader->arena, out->notes, out->n_notes,
                                  (size_t)out->n_notes + 1, sizeof *out->notes);
    out->notes[out->n_notes++] = (note_t){
        header->n_type, arena_strndup(reader->arena, desc, header->n_descsz),
        header->n_descsz};
  }
  if (header->n_namesz == sizeof "GNU" && memcmp(owner, "GNU", 4) == 0 &&
      header->n_type == NT_GNU_BUILD_ID &&
      header->n_descsz <= NOTE_MAX_BUILD_ID && out->build_id_bytes == 0) {
    memcpy(out->build_id, desc, header->n_descsz);
    out->build_id_bytes = header->n_descsz;
  }
  return MOEC_OK;
}

/* Walks the notes of one section. */
static moec_status_t read_notes(const reader_t *reader,
                                const Elf64_Shdr *section, note_file_t *out) {
  if (section->sh_size > MAX_NOTE_BYTES)
    return diag_error(reader->diag, (ir_loc_t){0}, MOEC_E_LIMIT,
                      "a note section of %llu bytes exceeds the limit of %d",
                      (unsigned long long)section->sh_size, MAX_NOTE_BYTES);
  if (section->sh_offset > reader->size ||
      section->sh_size > reader->size - section->sh_offset)
    return malformed(reader, section->sh_offset,
                     "a note section exceeds the file");
  char *bytes = arena_alloc(reader->arena, section->sh_size + 1);
  MOEC_TRY(read_at(reader, section->sh_offset, bytes, section->sh_size,
                   "a note section exceeds the file"));
  /* Property notes are aligned to 8; theirs is the only other layout. */
  const uint64_t align = section->sh_addralign == 8 ? 8 : 4;
  for (uint64_t at = 0; at < section->sh_size;) {
    Elf64_Nhdr header;
    const uint64_t offset = section->sh_offset + at;
    if (section->sh_size - at < sizeof header)
      return malformed(reader, offset, "a note header exceeds its section");
    memcpy(&header, bytes + at, sizeof header);
    at += sizeof header;
    const uint64_t desc = (at + header.n_namesz + align - 1) & ~(align - 1);
    if (desc > section->sh_size || header.n_descsz > section->sh_size - desc)
      return malformed(reader, offset, "a note exceeds its section");
    MOEC_TRY(take_note(reader, &header, bytes + at, bytes + desc, offset, out));
    at = (desc + header.n_descsz + align - 1) & ~(align - 1);
  }
  return MOEC_OK;
}

static moec_status_t read_segments(const reader_t *reader,
                                   const Elf64_Ehdr *ehdr, note_file_t *out) {
  if (ehdr->e_phnum == 0) return MOEC_OK;
  if (ehdr->e_phentsize != sizeof(Elf64_Phdr))
    return malformed(reader, 0, "program headers have an unknown size");
  Elf64_Phdr *phdrs = ARENA_ARRAY(reader->arena, Elf64_Phdr, ehdr->e_phnum);
  MOEC_TRY(read_at(reader, ehdr->e_phoff, phdrs, ehdr->e_phnum * sizeof *phdrs,
                   "the program headers exceed the file"));
  for (unsigned i = 0; i < ehdr->e_phnum; i++) {
    if (phdrs[i].p_type != PT_LOAD) continue;
    if (phdrs[i].p_offset > reader->size ||
        phdrs[i].p_filesz > reader->size - phdrs[i].p_offset)
      return malformed(reader, phdrs[i].p_offset, "a segment exceeds the file");
    uint64_t *sum =
        (phdrs[i].p_flags & PF_X) != 0 ? &out->code_bytes : &out->data_bytes;
    if (__builtin_add_overflow(*sum, phdrs[i].p_filesz, sum))
      return malformed(reader, ehdr->e_phoff, "segments overlap");
  }
  return MOEC_OK;
}

static moec_status_t read_sections(const reader_t *reader,
                                   const Elf64_Ehdr *ehdr, note_file_t *out) {
  if (ehdr->e_shnum == 0) return MOEC_OK;
  if (ehdr->e_shentsize != sizeof(Elf64_Shdr))
    return malformed(reader, 0, "section headers have an unknown size");
  Elf64_Shdr *headers = ARENA_ARRAY(reader->arena, Elf64_Shdr, ehdr->e_shnum);
  MOEC_TRY(read_at(reader, ehdr->e_shoff, headers,
                   ehdr->e_shnum * sizeof *headers,
                   "the section headers exceed the file"));
  if (ehdr->e_shstrndx >= ehdr->e_shnum)
    return malformed(reader, 0, "there is no table of section names");
  const Elf64_Shdr *names = &headers[ehdr->e_shstrndx];
  uint64_t note_bytes = 0;
  for (unsigned i = 1; i < ehdr->e_shnum; i++) {
    char name[sizeof WEIGHTS_SECTION] = "";
    if (headers[i].sh_name < names->sh_size &&
        names->sh_size - headers[i].sh_name >= sizeof name)
      MOEC_TRY(read_at(reader, names->sh_offset + headers[i].sh_name, name,
                       sizeof name, "section names exceed the file"));
    if (headers[i].sh_type == SHT_PROGBITS &&
        memcmp(name, WEIGHTS_SECTION, sizeof name) == 0) {
      if (headers[i].sh_size > out->data_bytes || out->weights_bytes != 0)
        return malformed(reader, headers[i].sh_offset,
                         "the weights are not a loaded segment");
      out->weights_bytes = headers[i].sh_size;
      out->data_bytes -= headers[i].sh_size;
    }
    if (headers[i].sh_type != SHT_NOTE) continue;
    /* Sections may overlap, so that many could name one large range. */
    if (__builtin_add_overflow(note_bytes, headers[i].sh_size, &note_bytes) ||
        note_bytes > reader->size)
      return malformed(reader, headers[i].sh_offset, "note sections overlap");
    MOEC_TRY(read_notes(reader, &headers[i], out));
  }
  return MOEC_OK;
}

static moec_status_t read_file(reader_t *reader, note_file_t *out) {
  Elf64_Ehdr ehdr;
  static const unsigned char ident[] = {
      ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
  if (reader->size < sizeof ehdr)
    return malformed(reader, reader->size, "the file ends inside its header");
  MOEC_TRY(read_at(reader, 0, &ehdr, sizeof ehdr, "header"));
  if (memcmp(ehdr.e_ident, ident, sizeof ident) != 0)
    return malformed(reader, 0, "expected a 64-bit little-endian header");
  out->machine = ehdr.e_machine;
  out->file_bytes = reader->size;
  MOEC_TRY(read_segments(reader, &ehdr, out));
  MOEC_TRY(read_sections(reader, &ehdr, out));
  if (out->n_notes == 0)
    return diag_error(reader->diag, (ir_loc_t){0}, MOEC_E_INVALID_MODEL,
                      "an ELF file that moec did not write: it has no note of "
                      "owner \"" NOTE_OWNER "\"");
  return MOEC_OK;
}

moec_status_t note_read(const char *path, arena_t *arena, note_file_t *out,
                        diag_sink_t *diag) {
  *out = (note_file_t){0};
  /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
  reader_t reader = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK),
                     .arena = arena,
                     .diag = diag};
  struct stat info;
  if (reader.fd < 0 || fstat(reader.fd, &info) != 0) {
    int error = errno;
    if (reader.fd >= 0) close(reader.fd);
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_IO, "cannot open '%s': %s",
                      path, strerror(error));
  }
  if (!S_ISREG(info.st_mode)) {
    close(reader.fd);
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_IO,
                      "'%s' is not a regular file", path);
  }
  reader.size = (uint64_t)info.st_size;
  moec_status_t status = read_file(&reader, out);
  close(reader.fd);
  if (status != MOEC_OK) *out = (note_file_t){0};
  return status;
}
