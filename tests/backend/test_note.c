/* Notes of compiled models, and reading them from files that lie. */
#include <elf.h>

#include "backend/elf_object.h"
#include "link_support.h"

static const char signature[] =
    "{\"inputs\":[\"x\"]}\n\t\xc3\xa4\xf0\x9f\x98\x80";

/* A model with the three notes; its bytes in *out_bytes. */
static const char *write_model(link_fixture_t *f, const note_t *notes,
                               unsigned n_notes) {
  link_file_t *object = ARENA_NEW(f->arena, link_file_t);
  *object = link_compile(f, "object",
                         "@moert_weights = external hidden constant i8\n"
                         "define ptr @moec_model() {"
                         "  ret ptr @moert_weights }\n");
  const link_input_t in = {.entry = "moec_model",
                           .objects = object,
                           .n_objects = 1,
                           .notes = notes,
                           .n_notes = n_notes};
  static const char bytes[10000] = "x";
  const ir_data_t data = {.bytes = bytes, .size = sizeof bytes};
  const weights_entry_t entry = {.data = &data, .dtype = DT_U8};
  weights_t *weights = weights_create(f->arena);
  weights_add(weights, &entry);
  const char *path = link_path(f, "model.so");
  assert_ok(f, link_library(&in, weights, path, f->arena, &f->diag));
  return path;
}

static const char *write_usual_model(link_fixture_t *f) {
  const note_t notes[] = {{NOTE_SIGNATURE, signature, strlen(signature)},
                          {NOTE_REPORT, "", 0},
                          {NOTE_KERNELS, "[1]", 3}};
  return write_model(f, notes, 3);
}

static void notes_come_back_as_written(void **state) {
  link_fixture_t *f = *state;
  const char *path = write_usual_model(f);
  note_file_t file;
  assert_ok(f, note_read(path, f->arena, &file, &f->diag));
  assert_int_equal(file.n_notes, 3);
  assert_string_equal(note_find(&file, NOTE_SIGNATURE)->text, signature);
  assert_int_equal(note_find(&file, NOTE_SIGNATURE)->length, strlen(signature));
  assert_int_equal(note_find(&file, NOTE_REPORT)->length, 0);
  assert_string_equal(note_find(&file, NOTE_KERNELS)->text, "[1]");
  assert_null(note_find(&file, 77));
  assert_int_equal(file.build_id_bytes, 20);
  assert_int_equal(file.weights_bytes, 10000);
  assert_in_range(file.code_bytes, 1, 4096);
  assert_in_range(file.data_bytes, 1, 16384);
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(file.file_bytes, info.st_size);
}

static void large_note_comes_back(void **state) {
  link_fixture_t *f = *state;
  const size_t length = 3000001;
  char *text = arena_alloc(f->arena, length + 1);
  memset(text, 'a', length);
  text[length - 1] = 'z';
  const note_t note = {NOTE_REPORT, text, length};
  note_file_t file;
  assert_ok(f, note_read(write_model(f, &note, 1), f->arena, &file, &f->diag));
  assert_int_equal(file.notes[0].length, length);
  assert_string_equal(file.notes[0].text, text);
}

static moec_status_t read_bytes(link_fixture_t *f, const uint8_t *bytes,
                                size_t size, note_file_t *out) {
  const char *path = link_path(f, "damaged");
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  fclose(file);
  arena_t *arena = arena_create((size_t)64 << 20); /* no bombs either */
  recovery_t point;
  recovery_enter(&point);
  volatile moec_status_t status = MOEC_OK;
  diag_sink_t diag;
  diag_init(&diag, arena, NULL);
  if (setjmp(point.jump) == 0)
    status = note_read(path, arena, out, &diag);
  else
    fail_msg("left with: %s", point.message);
  recovery_leave(&point);
  if (status != MOEC_OK) assert_int_equal(diag.n_errors, 1);
  arena_destroy(arena);
  return status;
}

static void every_truncation_is_rejected(void **state) {
  link_fixture_t *f = *state;
  size_t size;
  uint8_t *bytes = link_read_file(f, write_usual_model(f), &size);
  note_file_t file;
  for (size_t n = 0; n < size; n += n < 1024 ? 1 : 61)
    assert_int_equal(read_bytes(f, bytes, n, &file), MOEC_E_INVALID_MODEL);
  assert_int_equal(read_bytes(f, bytes, size - 1, &file), MOEC_E_INVALID_MODEL);
  assert_int_equal(read_bytes(f, bytes, size, &file), MOEC_OK);
}

static void damaged_bytes_never_do_harm(void **state) {
  link_fixture_t *f = *state;
  size_t size;
  const uint8_t *bytes = link_read_file(f, write_usual_model(f), &size);
  const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)bytes;
  uint8_t *copy = arena_alloc(f->arena, size);
  uint64_t random = 99;
  unsigned n_rejected = 0;
  for (unsigned round = 0; round < 3000; round++) {
    memcpy(copy, bytes, size);
    for (unsigned i = 0; i <= round % 3; i++) {
      random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
      const uint64_t pick = random >> 20;
      /* Headers are where the lies matter. */
      const size_t at = round % 2 == 0
                            ? pick % 700
                            : ehdr->e_shoff + pick % (ehdr->e_shnum * 64u);
      copy[at] = (uint8_t)(random >> 12);
    }
    note_file_t file;
    n_rejected += read_bytes(f, copy, size, &file) != MOEC_OK;
  }
  assert_in_range(n_rejected, 100, 2999);
}

/* An object with one section of notes, as given. */
static moec_status_t read_section(link_fixture_t *f, const void *data,
                                  size_t size, note_file_t *out) {
  const elf_section_t section = {NOTE_SECTION, SHT_NOTE, 0, 4, data, size};
  const elf_object_t object = {
      .machine = EM_X86_64, .sections = &section, .n_sections = 1};
  uint8_t *bytes;
  size_t n;
  elf_object_write(&object, f->arena, &bytes, &n);
  return read_bytes(f, bytes, n, out);
}

static void notes_that_exceed_their_section_are_rejected(void **state) {
  link_fixture_t *f = *state;
  note_file_t file;
  struct {
    Elf64_Nhdr header;
    char rest[12];
  } note = {{5, 4, NOTE_REPORT}, "moec\0\0\0\0{}  "};
  assert_int_equal(read_section(f, &note, sizeof note, &file), MOEC_OK);
  assert_int_equal(file.n_notes, 1);
  const uint32_t sizes[] = {5, 100, 0x7fffffff, 0xfffffffc, 0xffffffff};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    note.header.n_descsz = sizes[i];
    assert_int_equal(read_section(f, &note, sizeof note, &file),
                     MOEC_E_INVALID_MODEL);
    note.header.n_descsz = 4;
    note.header.n_namesz = sizes[i] + 10;
    assert_int_equal(read_section(f, &note, sizeof note, &file),
                     MOEC_E_INVALID_MODEL);
    note.header.n_namesz = 5;
  }
  assert_int_equal(read_section(f, &note, sizeof note - 8, &file),
                   MOEC_E_INVALID_MODEL);
}

static void texts_unfit_for_a_terminal_are_rejected(void **state) {
  link_fixture_t *f = *state;
  static const struct {
    const char *text;
    unsigned length;
    bool fit;
  } cases[] = {
      {"plain \xe2\x82\xac\r\n", 11, true},
      {"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", 10, true},
      {"\xc2\xa0", 2, true},
      {"\x1b[31m", 5, false},     /* escape */
      {"a\0b", 3, false},         /* NUL */
      {"\x7f", 1, false},         /* delete */
      {"\xc2\x9b", 2, false},     /* C1 control */
      {"\xc0\xaf", 2, false},     /* overlong */
      {"\xe0\x80\x80", 3, false}, /* overlong */
      {"\xf0\x80\x80\x80", 4, false},
      {"\xed\xa0\x80", 3, false},     /* surrogate */
      {"\xf4\x90\x80\x80", 4, false}, /* beyond Unicode */
      {"\xe2\x82", 2, false},         /* cut off */
      {"\xff", 1, false},
      {"\x80", 1, false},
      {"\xc3(", 2, false},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const note_t note = {NOTE_REPORT, cases[i].text, cases[i].length};
    text_t section;
    text_init(&section, f->arena);
    note_encode(&note, 1, &section);
    note_file_t file;
    const moec_status_t status =
        read_section(f, section.data, section.length, &file);
    if (status != (cases[i].fit ? MOEC_OK : MOEC_E_INVALID_MODEL))
      fail_msg("text %u gave status %d", i, status);
  }
}

static void many_notes_are_rejected(void **state) {
  link_fixture_t *f = *state;
  note_t notes[65];
  for (unsigned i = 0; i < 65; i++) notes[i] = (note_t){100 + i, "{}", 2};
  for (unsigned n = 64; n <= 65; n++) {
    text_t section;
    text_init(&section, f->arena);
    note_encode(notes, n, &section);
    note_file_t file;
    assert_int_equal(read_section(f, section.data, section.length, &file),
                     n == 64 ? MOEC_OK : MOEC_E_INVALID_MODEL);
  }
}

static void other_files_are_told_apart(void **state) {
  link_fixture_t *f = *state;
  note_file_t file;
  assert_int_equal(note_read(link_path(f, "absent"), f->arena, &file, &f->diag),
                   MOEC_E_IO);
  assert_diag(f, "No such file");
  assert_int_equal(note_read(f->directory, f->arena, &file, &f->diag),
                   MOEC_E_IO);
  assert_diag(f, "not a regular file");
  const char *fifo = link_path(f, "fifo");
  assert_int_equal(mkfifo(fifo, 0600), 0);
  assert_int_equal(note_read(fifo, f->arena, &file, &f->diag), MOEC_E_IO);
  assert_int_equal(note_read("/proc/self/exe", f->arena, &file, &f->diag),
                   MOEC_E_INVALID_MODEL);
  assert_diag(f, "an ELF file that moec did not write");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      LINK_TEST(notes_come_back_as_written),
      LINK_TEST(large_note_comes_back),
      LINK_TEST(every_truncation_is_rejected),
      LINK_TEST(damaged_bytes_never_do_harm),
      LINK_TEST(notes_that_exceed_their_section_are_rejected),
      LINK_TEST(texts_unfit_for_a_terminal_are_rejected),
      LINK_TEST(many_notes_are_rejected),
      LINK_TEST(other_files_are_told_apart),
  };
  return cmocka_run_group_tests_name("backend/note", tests, NULL, NULL);
}
