/* Linking in process, the weights segment, and whole libraries that are loaded.
 */
#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "backend/elf_patch.h"
#include "link_support.h"

/* probe(i): the byte at offset i of the weights, reached through a relocated
 * pointer and directly; -1 if they differ. bump(): uses .data and .bss. */
static const char probe_ir[] =
    "@moert_weights = external hidden constant [0 x i8], align 64\n"
    "@program = internal constant ptr @moert_weights\n"
    "@zeroed = internal global [3000 x i64] zeroinitializer\n"
    "@filled = internal global [2 x i64] [i64 40, i64 41]\n"
    "define internal void @bump(i64 %i) noinline {\n"
    "  %z = getelementptr i64, ptr @zeroed, i64 %i\n"
    "  store volatile i64 2, ptr %z\n"
    "  %f = load volatile i64, ptr @filled\n"
    "  store volatile i64 %f, ptr @filled\n"
    "  ret void\n"
    "}\n"
    "define i32 @probe(i64 %i) {\n"
    "  call void @bump(i64 7)\n"
    "  %base = load volatile ptr, ptr @program\n"
    "  %a = getelementptr i8, ptr %base, i64 %i\n"
    "  %x = load i8, ptr %a\n"
    "  %b = getelementptr i8, ptr @moert_weights, i64 %i\n"
    "  %y = load volatile i8, ptr %b\n"
    "  %same = icmp eq i8 %x, %y\n"
    "  %wide = zext i8 %x to i32\n"
    "  %r = select i1 %same, i32 %wide, i32 -1\n"
    "  ret i32 %r\n"
    "}\n"
    "define void @unused_but_visible() section \".text.unused\" { ret void }\n";

typedef int (*probe_fn)(int64_t offset);

static link_input_t probe_input(link_fixture_t *f) {
  link_file_t *object = ARENA_NEW(f->arena, link_file_t);
  *object = link_compile(f, "probe object", probe_ir);
  return (link_input_t){.soname = "probe.so",
                        .entry = "probe",
                        .objects = object,
                        .n_objects = 1};
}

static ir_data_t *data_of(link_fixture_t *f, const void *bytes, size_t size) {
  ir_data_t *data = ARENA_NEW(f->arena, ir_data_t);
  *data = (ir_data_t){.bytes = bytes, .size = size};
  return data;
}

static uint64_t add_plain(link_fixture_t *f, weights_t *weights,
                          const void *bytes, size_t size) {
  const weights_entry_t entry = {
      .data = data_of(f, bytes, size), .dtype = DT_U8, .layout = WEIGHTS_PLAIN};
  return weights_add(weights, &entry);
}

static void *load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail_msg("%s", dlerror());
  return library;
}

static probe_fn find_probe(void *library, const char *name) {
  probe_fn probe;
  *(void **)&probe = dlsym(library, name);
  assert_non_null(probe);
  return probe;
}

static void library_reads_its_weights(void **state) {
  link_fixture_t *f = *state;
  const size_t size = 5000000;
  uint8_t *bytes = arena_alloc(f->arena, size);
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i * 37 + (i >> 12));
  weights_t *weights = weights_create(f->arena);
  const uint64_t small = add_plain(f, weights, "tiny", 4);
  const uint64_t large = add_plain(f, weights, bytes, size);
  const link_input_t in = probe_input(f);
  const char *path = link_path(f, "a.so");
  assert_ok(f, link_library(&in, weights, path, f->arena, &f->diag));
  assert_int_equal(f->diag.n_warnings, 0);
  assert_int_equal(link_count_files(f, false), 1);

  void *library = load(path);
  probe_fn probe = find_probe(library, "probe");
  assert_int_equal(probe((int64_t)small + 3), 'y');
  for (size_t i = 0; i < size; i += 1009)
    assert_int_equal(probe((int64_t)(large + i)), bytes[i]);
  assert_int_equal(probe((int64_t)(large + size - 1)), bytes[size - 1]);
  dlclose(library);
}

static void library_without_weights_loads(void **state) {
  link_fixture_t *f = *state;
  const link_input_t in = probe_input(f);
  const char *path = link_path(f, "a.so");
  weights_t *weights = weights_create(f->arena);
  assert_ok(f, link_library(&in, weights, path, f->arena, &f->diag));
  void *library = load(path);
  assert_int_equal(find_probe(library, "probe")(0), 0);
  dlclose(library);
}

/* Five gigabytes that are zero but for both ends. */
static void weights_beyond_four_gigabytes_load(void **state) {
  link_fixture_t *f = *state;
  const size_t size = (size_t)5 << 30;
  uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  assert_true(bytes != MAP_FAILED);
  bytes[0] = 11;
  bytes[size - 1] = 22;
  weights_t *weights = weights_create(f->arena);
  add_plain(f, weights, bytes, size);
  const uint64_t after = add_plain(f, weights, "last", 4);
  const link_input_t in = probe_input(f);
  const char *path = link_path(f, "a.so");
  assert_ok(f, link_library(&in, weights, path, f->arena, &f->diag));
  munmap(bytes, size);

  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_true((uint64_t)info.st_size > size);
  assert_true(info.st_blocks * 512 < 4 << 20); /* zeros take no room */
  void *library = load(path);
  probe_fn probe = find_probe(library, "probe");
  assert_int_equal(probe(0), 11);
  assert_int_equal(probe((int64_t)size / 2), 0);
  assert_int_equal(probe((int64_t)size - 1), 22);
  assert_int_equal(probe((int64_t)after + 3), 't');
  dlclose(library);

  note_file_t about;
  assert_int_equal(note_read(path, f->arena, &about, &f->diag),
                   MOEC_E_INVALID_MODEL); /* no notes were given */
}

/* Names in .dynsym that are defined. */
static unsigned count_exports(const link_image_t *image,
                              const char **out_name) {
  const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)image->data;
  const Elf64_Shdr *shdrs = (const Elf64_Shdr *)(image->data + ehdr->e_shoff);
  unsigned n = 0;
  for (unsigned i = 0; i < ehdr->e_shnum; i++) {
    if (shdrs[i].sh_type != SHT_DYNSYM) continue;
    const Elf64_Sym *symbols =
        (const Elf64_Sym *)(image->data + shdrs[i].sh_offset);
    const char *names =
        (const char *)image->data + shdrs[shdrs[i].sh_link].sh_offset;
    for (size_t s = 1; s < shdrs[i].sh_size / sizeof *symbols; s++) {
      if (symbols[s].st_shndx == SHN_UNDEF) continue;
      n++;
      *out_name = names + symbols[s].st_name;
    }
  }
  return n;
}

static bool has_section(const link_image_t *image, uint32_t type) {
  const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)image->data;
  const Elf64_Shdr *shdrs = (const Elf64_Shdr *)(image->data + ehdr->e_shoff);
  for (unsigned i = 0; i < ehdr->e_shnum; i++)
    if (shdrs[i].sh_type == type) return true;
  return false;
}

static bool contains(const link_image_t *image, const char *text) {
  return memmem(image->data, image->size, text, strlen(text)) != NULL;
}

static void exactly_one_symbol_is_exported(void **state) {
  link_fixture_t *f = *state;
  link_input_t in = probe_input(f);
  link_image_t image;
  const char *name = NULL;
  assert_ok(f, link_shared(&in, f->arena, &f->diag, &image));
  assert_int_equal(count_exports(&image, &name), 1);
  assert_string_equal(name, "probe");
  assert_true(has_section(&image, SHT_SYMTAB));
  /* Not reachable from the entry, hence not there. */
  assert_false(contains(&image, "unused_but_visible"));
  link_image_dispose(&image);

  in.export_name = "my_model";
  in.strip = true;
  assert_ok(f, link_shared(&in, f->arena, &f->diag, &image));
  assert_int_equal(count_exports(&image, &name), 1);
  assert_string_equal(name, "my_model");
  assert_false(has_section(&image, SHT_SYMTAB));
  link_image_dispose(&image);

  const char *path = link_path(f, "renamed.so");
  weights_t *weights = weights_create(f->arena);
  add_plain(f, weights, "abc", 3);
  assert_ok(f, link_library(&in, weights, path, f->arena, &f->diag));
  void *library = load(path);
  assert_int_equal(find_probe(library, "my_model")(2), 'c');
  assert_null(dlsym(library, "probe"));
  dlclose(library);
}

static void export_name_must_be_an_identifier(void **state) {
  link_fixture_t *f = *state;
  static const char *const names[] = {"",    "1a",  "a b",
                                      "a;}", "a-b", "\xc3\xa4"};
  link_input_t in = probe_input(f);
  for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
    link_image_t image;
    in.export_name = names[i];
    assert_int_equal(link_shared(&in, f->arena, &f->diag, &image),
                     MOEC_E_USAGE);
    assert_null(image.data);
  }
}

static void undefined_symbol_is_reported_with_its_object(void **state) {
  link_fixture_t *f = *state;
  const link_file_t object =
      link_compile(f, "the object",
                   "declare void @nowhere_defined()\n"
                   "define void @entry() { call void @nowhere_defined()\n"
                   "ret void }\n");
  const link_input_t in = {
      .entry = "entry", .objects = &object, .n_objects = 1};
  link_image_t image;
  assert_int_equal(link_shared(&in, f->arena, &f->diag, &image),
                   MOEC_E_CODEGEN);
  assert_null(image.data);
  assert_diag(f, "linking failed: error: undefined symbol: nowhere_defined");
  assert_diag(f, "referenced by the object");
  assert_false(link_diag_has(f->diag.first, "/proc/"));
}

static void missing_entry_is_reported(void **state) {
  link_fixture_t *f = *state;
  link_input_t in = probe_input(f);
  link_image_t image;
  in.entry = "prob";
  assert_int_equal(link_shared(&in, f->arena, &f->diag, &image),
                   MOEC_E_CODEGEN);
  assert_diag(f, "prob");
}

enum { HELD = 10, REFUSED_FOR_GOOD };

/* Links something that is no object, then an object; how it went. */
static int link_damaged(link_fixture_t *f, const link_input_t *in,
                        const uint8_t *bytes, size_t size) {
  const link_file_t damaged = {"damaged", bytes, size};
  link_file_t both[] = {in->objects[0], damaged};
  link_input_t bad = *in;
  bad.objects = both;
  bad.n_objects = 2;
  link_image_t image;
  moec_status_t first = link_shared(&bad, f->arena, &f->diag, &image);
  if (first != MOEC_E_CODEGEN || image.data != NULL) return 1;
  if (f->diag.n_errors != 1) return 2;
  if (!link_diag_has(f->diag.first, "linking failed: error: ")) return 3;
  moec_status_t second = link_shared(in, f->arena, &f->diag, &image);
  link_image_dispose(&image);
  if (second == MOEC_E_INTERNAL) return REFUSED_FOR_GOOD;
  return second == MOEC_OK ? HELD : 4;
}

/* The linker trusts objects to be well-formed, as ours are, but what it notices
 * must not end the process. A fatal error may end linking in it. */
static void damaged_object_does_not_end_the_process(void **state) {
  link_fixture_t *f = *state;
  const link_input_t in = probe_input(f);
  const size_t size = in.objects[0].size;
  unsigned n_refused_for_good = 0;
  for (unsigned kind = 0; kind < 4; kind++) {
    uint8_t *bytes = arena_alloc(f->arena, size);
    memcpy(bytes, in.objects[0].data, size);
    Elf64_Ehdr *ehdr = (Elf64_Ehdr *)bytes;
    size_t n = size;
    if (kind == 0) n = size / 2; /* cut off */
    if (kind == 1) ehdr->e_shoff = UINT64_C(1) << 40;
    if (kind == 2) ehdr->e_machine = EM_AARCH64;
    if (kind == 3) memset(bytes, '?', size);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(link_damaged(f, &in, bytes, n));
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_in_range(WEXITSTATUS(how), HELD, REFUSED_FOR_GOOD);
    n_refused_for_good += WEXITSTATUS(how) == REFUSED_FOR_GOOD;
  }
  assert_in_range(n_refused_for_good, 1, 3); /* both kinds are exercised */
}

static void weak_symbol_may_stay_undefined(void **state) {
  link_fixture_t *f = *state;
  const link_file_t object =
      link_compile(f, "weak",
                   "declare extern_weak i32 @surely_absent()\n"
                   "define i32 @probe(i64 %i) {\n"
                   "  %null = icmp eq ptr @surely_absent, null\n"
                   "  %r = zext i1 %null to i32\n"
                   "  ret i32 %r\n"
                   "}\n");
  const link_input_t in = {
      .entry = "probe", .objects = &object, .n_objects = 1};
  const char *path = link_path(f, "a.so");
  assert_ok(
      f, link_library(&in, weights_create(f->arena), path, f->arena, &f->diag));
  void *library = load(path);
  assert_int_equal(find_probe(library, "probe")(0), 1);
  dlclose(library);
}

/* A library that defines one function, to be linked against. */
static link_file_t make_stub(link_fixture_t *f, const char *soname,
                             const char *function) {
  link_file_t *object = ARENA_NEW(f->arena, link_file_t);
  *object = link_compile(
      f, soname,
      arena_printf(f->arena, "define i32 @%s() { ret i32 0 }\n", function));
  const link_input_t in = {
      .soname = soname, .entry = function, .objects = object, .n_objects = 1};
  link_image_t image;
  assert_ok(f, link_shared(&in, f->arena, &f->diag, &image));
  uint8_t *copy = arena_alloc(f->arena, image.size);
  memcpy(copy, image.data, image.size);
  link_file_t stub = {soname, copy, image.size};
  link_image_dispose(&image);
  return stub;
}

static void only_used_libraries_are_needed(void **state) {
  link_fixture_t *f = *state;
  const link_file_t stubs[] = {make_stub(f, "libc.so.6", "getpid"),
                               make_stub(f, "libunused.so.1", "unused")};
  const link_file_t object = link_compile(f, "caller",
                                          "declare i32 @getpid()\n"
                                          "define i32 @probe(i64 %i) {\n"
                                          "  %r = call i32 @getpid()\n"
                                          "  ret i32 %r\n"
                                          "}\n");
  const link_input_t in = {.entry = "probe",
                           .objects = &object,
                           .n_objects = 1,
                           .libraries = stubs,
                           .n_libraries = 2};
  link_image_t image;
  assert_ok(f, link_shared(&in, f->arena, &f->diag, &image));
  assert_true(contains(&image, "libc.so.6"));
  assert_false(contains(&image, "libunused"));
  link_image_dispose(&image);
  const char *path = link_path(f, "a.so");
  assert_ok(
      f, link_library(&in, weights_create(f->arena), path, f->arena, &f->diag));
  void *library = load(path);
  assert_int_equal(find_probe(library, "probe")(0), getpid());
  dlclose(library);
}

static void write_with_weights(link_fixture_t *f, const char *path,
                               const char *text) {
  link_input_t in = probe_input(f);
  const note_t note = {NOTE_SIGNATURE, "{}", 2};
  in.notes = &note;
  in.n_notes = 1;
  weights_t *weights = weights_create(f->arena);
  add_plain(f, weights, text, strlen(text));
  assert_ok(f, link_library(&in, weights, path, f->arena, &f->diag));
}

static void equal_input_gives_equal_files(void **state) {
  link_fixture_t *f = *state;
  const char *paths[] = {link_path(f, "a.so"), link_path(f, "b.so")};
  uint8_t *bytes[2];
  size_t sizes[2];
  for (unsigned i = 0; i < 2; i++) {
    write_with_weights(f, paths[i], "same");
    bytes[i] = link_read_file(f, paths[i], &sizes[i]);
  }
  assert_int_equal(sizes[0], sizes[1]);
  assert_memory_equal(bytes[0], bytes[1], sizes[0]);
}

static void build_id_depends_on_the_weights(void **state) {
  link_fixture_t *f = *state;
  note_file_t a, b;
  write_with_weights(f, link_path(f, "a.so"), "one");
  write_with_weights(f, link_path(f, "b.so"), "two");
  assert_ok(f, note_read(link_path(f, "a.so"), f->arena, &a, &f->diag));
  assert_ok(f, note_read(link_path(f, "b.so"), f->arena, &b, &f->diag));
  assert_int_equal(a.build_id_bytes, 20);
  assert_int_equal(b.build_id_bytes, 20);
  assert_memory_not_equal(a.build_id, b.build_id, 20);
}

static void weights_are_the_last_segment(void **state) {
  link_fixture_t *f = *state;
  const link_input_t in = probe_input(f);
  link_image_t image;
  assert_ok(f, link_shared(&in, f->arena, &f->diag, &image));
  const uint64_t size = UINT64_C(7) << 32;
  uint64_t offset;
  assert_ok(
      f, elf_extend_weights(image.data, image.size, size, &offset, &f->diag));
  const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)image.data;
  const Elf64_Phdr *phdrs = (const Elf64_Phdr *)(image.data + ehdr->e_phoff);
  const Elf64_Phdr *last = NULL;
  uint64_t end = 0;
  for (unsigned i = 0; i < ehdr->e_phnum; i++) {
    if (phdrs[i].p_type != PT_LOAD) continue;
    assert_true(phdrs[i].p_vaddr >= end); /* ascending, apart */
    end = phdrs[i].p_vaddr + phdrs[i].p_memsz;
    last = &phdrs[i];
    assert_true((phdrs[i].p_flags & (PF_W | PF_X)) != (PF_W | PF_X));
  }
  assert_non_null(last);
  assert_int_equal(last->p_flags, PF_R);
  assert_int_equal(last->p_offset, offset);
  assert_int_equal(last->p_filesz, size);
  assert_int_equal(last->p_memsz, size);
  assert_true(offset >= image.size && offset % 4096 == 0);
  assert_int_equal((last->p_vaddr - offset) % last->p_align, 0);
  assert_int_equal(elf_extend_weights(image.data, image.size,
                                      WEIGHTS_MAX_BYTES + 1, &offset, &f->diag),
                   MOEC_E_LIMIT);
  link_image_dispose(&image);
}

static void failure_leaves_no_file(void **state) {
  link_fixture_t *f = *state;
  link_input_t in = probe_input(f);
  weights_t *weights = weights_create(f->arena);
  assert_int_equal(link_library(&in, weights, link_path(f, "missing/a.so"),
                                f->arena, &f->diag),
                   MOEC_E_IO);
  in.entry = "absent";
  assert_int_equal(
      link_library(&in, weights, link_path(f, "a.so"), f->arena, &f->diag),
      MOEC_E_CODEGEN);
  assert_int_equal(link_count_files(f, false), 0);
}

static void *link_in_thread(void *user) {
  link_fixture_t *f = user;
  const link_input_t in = probe_input(f);
  for (unsigned i = 0; i < 20; i++) {
    link_image_t image;
    moec_status_t status = link_shared(&in, f->arena, &f->diag, &image);
    link_image_dispose(&image);
    if (status != MOEC_OK) return f;
  }
  return NULL;
}

static void threads_may_link_at_the_same_time(void **state) {
  (void)state;
  enum { N = 4 };
  void *fixtures[N], *failed;
  pthread_t threads[N];
  for (unsigned i = 0; i < N; i++) {
    link_setup(&fixtures[i]);
    assert_int_equal(
        pthread_create(&threads[i], NULL, link_in_thread, fixtures[i]), 0);
  }
  for (unsigned i = 0; i < N; i++) {
    pthread_join(threads[i], &failed);
    assert_null(failed);
    link_teardown(&fixtures[i]);
  }
}

static unsigned count_descriptors(void) {
  unsigned n = 0;
  DIR *directory = opendir("/proc/self/fd");
  assert_non_null(directory);
  while (readdir(directory) != NULL) n++;
  closedir(directory);
  return n;
}

/* AddressSanitizer puts freed memory aside for a while. */
#if defined(__SANITIZE_ADDRESS__) /* gcc */
#define KEEPS_FREED_MEMORY 1
#elif defined(__has_feature) /* clang */
#define KEEPS_FREED_MEMORY __has_feature(address_sanitizer)
#else
#define KEEPS_FREED_MEMORY 0
#endif

static long resident_pages(void) {
  long total, resident;
  FILE *file = fopen("/proc/self/statm", "r");
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%ld %ld", &total, &resident), 2);
  fclose(file);
  return resident;
}

static void links_leave_nothing_behind(void **state) {
  link_fixture_t *f = *state;
  const link_input_t in = probe_input(f);
  const unsigned descriptors = count_descriptors();
  struct timespec begin, end;
  long resident = 0;
  enum { N = 200 };
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (unsigned i = 0; i < N; i++) {
    arena_t *arena = arena_create(0);
    link_image_t image;
    assert_ok(f, link_shared(&in, arena, &f->diag, &image));
    link_image_dispose(&image);
    arena_destroy(arena);
    if (i == N / 2) resident = resident_pages();
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  print_message("%.2f ms per link\n",
                ((double)(end.tv_sec - begin.tv_sec) * 1e3 +
                 (double)(end.tv_nsec - begin.tv_nsec) / 1e6) /
                    (double)N);
  assert_int_equal(count_descriptors(), descriptors);
  if (!KEEPS_FREED_MEMORY) assert_true(resident_pages() - resident < 1024);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      LINK_TEST(library_reads_its_weights),
      LINK_TEST(library_without_weights_loads),
      LINK_TEST(weights_beyond_four_gigabytes_load),
      LINK_TEST(exactly_one_symbol_is_exported),
      LINK_TEST(export_name_must_be_an_identifier),
      LINK_TEST(undefined_symbol_is_reported_with_its_object),
      LINK_TEST(missing_entry_is_reported),
      LINK_TEST(damaged_object_does_not_end_the_process),
      LINK_TEST(weak_symbol_may_stay_undefined),
      LINK_TEST(only_used_libraries_are_needed),
      LINK_TEST(equal_input_gives_equal_files),
      LINK_TEST(build_id_depends_on_the_weights),
      LINK_TEST(weights_are_the_last_segment),
      LINK_TEST(failure_leaves_no_file),
      LINK_TEST(threads_may_link_at_the_same_time),
      LINK_TEST(links_leave_nothing_behind),
  };
  return cmocka_run_group_tests_name("backend/link", tests, NULL, NULL);
}
