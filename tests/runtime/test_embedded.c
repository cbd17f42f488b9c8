/* The objects that moec carries, and a model linked with them. */
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "backend/runtime_blob.h"
#include "moec/model.h"

typedef struct elf {
  const unsigned char *bytes;
  const Elf64_Ehdr *header;
  const Elf64_Shdr *sections;
} elf_t;

static elf_t elf_open(const void *bytes) {
  elf_t elf = {.bytes = bytes, .header = bytes};
  assert_memory_equal(bytes, ELFMAG, SELFMAG);
  elf.sections = (const void *)(elf.bytes + elf.header->e_shoff);
  return elf;
}

static const char *section_name(const elf_t *elf, const Elf64_Shdr *section) {
  const Elf64_Shdr *names = &elf->sections[elf->header->e_shstrndx];
  return (const char *)elf->bytes + names->sh_offset + section->sh_name;
}

static const Elf64_Shdr *section_of_type(const elf_t *elf, uint32_t type) {
  for (int i = 0; i < elf->header->e_shnum; i++)
    if (elf->sections[i].sh_type == type) return &elf->sections[i];
  fail_msg("no section of type %u", type);
  return NULL;
}

typedef struct symbol {
  const char *name;
  const Elf64_Sym *entry;
  const char *version; /* of a definition in a shared library, or NULL */
} symbol_t;

static const char *version_of(const elf_t *elf, size_t index) {
  const Elf64_Shdr *versions = NULL, *definitions = NULL;
  for (int i = 0; i < elf->header->e_shnum; i++) {
    if (elf->sections[i].sh_type == SHT_GNU_versym)
      versions = &elf->sections[i];
    if (elf->sections[i].sh_type == SHT_GNU_verdef)
      definitions = &elf->sections[i];
  }
  if (versions == NULL || definitions == NULL) return NULL;
  const char *strings =
      (const char *)elf->bytes + elf->sections[definitions->sh_link].sh_offset;
  const Elf64_Versym *ids = (const void *)(elf->bytes + versions->sh_offset);
  const unsigned char *at = elf->bytes + definitions->sh_offset;
  for (;;) {
    const Elf64_Verdef *definition = (const void *)at;
    const Elf64_Verdaux *aux = (const void *)(at + definition->vd_aux);
    if (definition->vd_ndx == (ids[index] & 0x7fff))
      return strings + aux->vda_name;
    if (definition->vd_next == 0) return NULL;
    at += definition->vd_next;
  }
}

/* Global and weak symbols of a table, at most `max`; returns how many. */
static size_t read_symbols(const elf_t *elf, uint32_t table, bool defined,
                           symbol_t *out, size_t max) {
  const Elf64_Shdr *section = section_of_type(elf, table);
  const Elf64_Sym *entries = (const void *)(elf->bytes + section->sh_offset);
  const char *strings =
      (const char *)elf->bytes + elf->sections[section->sh_link].sh_offset;
  size_t n = 0;
  for (size_t i = 1; i < section->sh_size / sizeof *entries; i++) {
    if (ELF64_ST_BIND(entries[i].st_info) == STB_LOCAL) continue;
    if ((entries[i].st_shndx != SHN_UNDEF) != defined) continue;
    if (entries[i].st_shndx == SHN_ABS) continue; /* names of versions */
    assert_true(n < max);
    out[n++] = (symbol_t){.name = strings + entries[i].st_name,
                          .entry = &entries[i],
                          .version = version_of(elf, i)};
  }
  return n;
}

static const symbol_t *find(const symbol_t *symbols, size_t n,
                            const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(symbols[i].name, name) == 0) return &symbols[i];
  return NULL;
}

/* Of the architecture that the test was started with. */
static runtime_blob_t blob_of(void **state) {
  const char *arch = *state;
  const runtime_blob_t *found = runtime_blob_find(arch);
  assert_non_null(found);
  assert_null(runtime_blob_find("vax"));
  return *found;
}

enum { MAX_SYMBOLS = 256 };

static const struct import {
  const char *name, *version; /* NULL: weak */
} imports[] = {
#define IMPORT(name, x86_64) {#name, x86_64},
#define IMPORT_WEAK(name) {#name, NULL},
#include "runtime/imports.def"
};
enum { N_IMPORTS = sizeof imports / sizeof imports[0] };

static void the_runtime_imports_what_its_table_says(void **state) {
  symbol_t symbols[MAX_SYMBOLS];
  runtime_blob_t runtime = blob_of(state);
  elf_t elf = elf_open(runtime.data);
  size_t n = read_symbols(&elf, SHT_SYMTAB, false, symbols, MAX_SYMBOLS);
  for (size_t i = 0; i < N_IMPORTS; i++) {
    const symbol_t *symbol = find(symbols, n, imports[i].name);
    if (symbol == NULL) {
      /* The compiler may call it for generated code. */
      if (strcmp(imports[i].name, "memmove") == 0) continue;
      fail_msg("the runtime does not use %s", imports[i].name);
    }
    int bind = imports[i].version != NULL ? STB_GLOBAL : STB_WEAK;
    assert_int_equal(ELF64_ST_BIND(symbol->entry->st_info), bind);
  }
  for (size_t i = 0; i < n; i++) {
    bool known = strcmp(symbols[i].name, "moert_program") == 0;
    for (size_t k = 0; k < N_IMPORTS; k++)
      known |= strcmp(symbols[i].name, imports[k].name) == 0;
    if (!known) fail_msg("imports.def lacks %s", symbols[i].name);
  }
}

static void the_runtime_shows_nothing_and_changes_nothing(void **state) {
  symbol_t symbols[MAX_SYMBOLS];
  runtime_blob_t runtime = blob_of(state);
  elf_t elf = elf_open(runtime.data);
  size_t n = read_symbols(&elf, SHT_SYMTAB, true, symbols, MAX_SYMBOLS);
  assert_true(n > 20);
  for (size_t i = 0; i < n; i++)
    if (ELF64_ST_VISIBILITY(symbols[i].entry->st_other) != STV_HIDDEN)
      fail_msg("%s is visible", symbols[i].name);
  for (int i = 0; i < elf.header->e_shnum; i++) {
    const Elf64_Shdr *section = &elf.sections[i];
    const char *name = section_name(&elf, section);
    if ((section->sh_flags & SHF_TLS) != 0) fail_msg("%s is TLS", name);
    if ((section->sh_flags & SHF_WRITE) != 0 && section->sh_size > 0 &&
        strncmp(name, ".data.rel.ro", 12) != 0)
      fail_msg("%s is writable", name);
  }
}

static void the_runtime_has_all_that_generated_code_calls(void **state) {
  static const char *const names[] = {
      "moert_create",        "moert_destroy",      "moert_query",
      "moert_run",           "moert_message",      "moert_variant",
      "moert_pool_create",   "moert_pool_destroy", "moert_parallel",
      "moert_output",        "moert_grow",         "moert_status",
      "moert_fail_assert",   "moert_fail_bind",    "moert_fail_equal",
      "moert_fail_overflow",
#define ROUTINE(name, operators, function, args) #function,
#include "runtime/routines.def"
  };
  symbol_t symbols[MAX_SYMBOLS];
  runtime_blob_t runtime = blob_of(state);
  elf_t elf = elf_open(runtime.data);
  size_t n = read_symbols(&elf, SHT_SYMTAB, true, symbols, MAX_SYMBOLS);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (find(symbols, n, names[i]) == NULL) fail_msg("%s is missing", names[i]);
}

static const char *version_for(const char *arch, const char *x86_64) {
  if (strcmp(arch, "aarch64") == 0) return IMPORTS_AARCH64;
  if (strcmp(arch, "riscv64") == 0) return IMPORTS_RISCV64;
  return x86_64;
}

static void the_stub_has_the_imports_in_their_versions(void **state) {
  symbol_t symbols[MAX_SYMBOLS];
  runtime_blob_t runtime = blob_of(state);
  elf_t elf = elf_open(runtime.libc_stub);
  size_t n = read_symbols(&elf, SHT_DYNSYM, true, symbols, MAX_SYMBOLS);
  size_t n_versioned = 0;
  for (size_t i = 0; i < N_IMPORTS; i++) {
    const symbol_t *symbol = find(symbols, n, imports[i].name);
    if (imports[i].version == NULL) {
      assert_null(symbol);
      continue;
    }
    n_versioned++;
    assert_non_null(symbol);
    assert_non_null(symbol->version);
    assert_string_equal(symbol->version,
                        version_for(*state, imports[i].version));
  }
  assert_int_equal(n, n_versioned);
}

/* The versions are those of the C library that the tests run with. */
static void the_versions_exist_here(void **state) {
  (void)state;
  for (size_t i = 0; i < N_IMPORTS; i++)
    if (imports[i].version != NULL &&
        dlvsym(RTLD_DEFAULT, imports[i].name, imports[i].version) == NULL)
      fail_msg("%s has no version %s", imports[i].name, imports[i].version);
}

static char *read_file(const char *path, size_t *out_size) {
  FILE *file = fopen(path, "rb");
  struct stat info;
  if (file == NULL || stat(path, &info) != 0) {
    fail_msg("cannot read %s", path);
    return NULL;
  }
  char *bytes = calloc(1, (size_t)info.st_size + 1);
  *out_size = fread(bytes, 1, (size_t)info.st_size, file);
  fclose(file);
  return bytes;
}

static void a_linked_model_needs_the_c_library_only(void **state) {
  (void)state;
  size_t size;
  char *bytes = read_file(MOEC_LINKED_MODEL, &size);
  elf_t elf = elf_open(bytes);
  const Elf64_Shdr *section = section_of_type(&elf, SHT_DYNAMIC);
  const char *strings = bytes + elf.sections[section->sh_link].sh_offset;
  int n_needed = 0;
  for (const Elf64_Dyn *entry = (const void *)(bytes + section->sh_offset);
       entry->d_tag != DT_NULL; entry++) {
    assert_int_not_equal(entry->d_tag, DT_TEXTREL);
    if (entry->d_tag != DT_NEEDED) continue;
    n_needed++;
    assert_string_equal(strings + entry->d_un.d_val, "libc.so.6");
  }
  assert_int_equal(n_needed, 1);
  symbol_t symbols[MAX_SYMBOLS];
  size_t n = read_symbols(&elf, SHT_DYNSYM, true, symbols, MAX_SYMBOLS);
  assert_int_equal(n, 1);
  assert_string_equal(symbols[0].name, "moec_model");
  n = read_symbols(&elf, SHT_DYNSYM, false, symbols, MAX_SYMBOLS);
  assert_non_null(find(symbols, n, "pthread_create"));
  /* The names of what it has are in its table; routines not called are not. */
  assert_non_null(memmem(bytes, size, "moert_parallel", 14));
  assert_null(memmem(bytes, size, "moert_op_topk", 13));
  free(bytes);
}

static int count_threads(void) {
  int n = 0;
  DIR *dir = opendir("/proc/self/task");
  if (dir == NULL) return -1;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    n += entry->d_name[0] != '.';
  closedir(dir);
  return n;
}

static void pause_briefly(void) {
  nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static int threads_at_start;

static void *end_at_once(void *argument) { return argument; }

/* A sanitizer starts its own thread with the first one of the process. */
static int count_at_start(void **state) {
  (void)state;
  pthread_t thread;
  if (pthread_create(&thread, NULL, end_at_once, NULL) != 0) return -1;
  pthread_join(thread, NULL);
  for (int i = 0; i < 20; i++) pause_briefly();
  threads_at_start = count_threads();
  return 0;
}

/* Runs the model of a library on an instance that should have that many threads
 * more than the process has. */
static void check_model(const char *path, int n_threads, int n_started) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail_msg("%s", dlerror());
  moec_model_fn get = NULL;
  void *address = dlsym(library, "moec_model");
  memcpy(&get, &address, sizeof get);
  const moec_model_t *model = get();
  assert_int_equal(model->abi_version, MOEC_ABI_VERSION);
  enum { N = 1000 };
  float x[N], y[N];
  int64_t dims[] = {N};
  for (int i = 0; i < N; i++) x[i] = (float)i;
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = n_threads};
  moec_instance_t *it;
  for (int i = 0; i < 1000 && count_threads() != threads_at_start; i++)
    pause_briefly(); /* threads of before may be on their way out */
  assert_int_equal(model->create(&options, &it), MOEC_OK);
  assert_int_equal(count_threads(), threads_at_start + n_started);
  moec_value_t in = {.struct_size = sizeof in,
                     .dtype = MOEC_F32,
                     .rank = 1,
                     .data = x,
                     .dims = dims};
  moec_value_t out = {
      .struct_size = sizeof out, .data = y, .capacity = sizeof y};
  assert_int_equal(model->run(it, &in, 1, &out, 1), MOEC_OK);
  for (int i = 0; i < N; i++) assert_true(y[i] == 2 * x[i]);
  in.dtype = MOEC_I32;
  assert_int_equal(model->run(it, &in, 1, &out, 1), MOEC_E_DTYPE);
  assert_string_equal(model->message(it),
                      "input \"x\" is i32 but the model takes f32");
  assert_string_equal(model->variant(it), "x86-64");
  model->destroy(it);
  dlclose(library);
}

static void a_linked_model_runs(void **state) {
  (void)state;
  check_model(MOEC_LINKED_MODEL, 3, 2);
  check_model(MOEC_LINKED_MODEL, 1, 0);
}

static void without_threads_a_model_runs_alone(void **state) {
  (void)state;
  check_model(MOEC_LINKED_ALONE, 3, 0);
}

static void the_manual_lists_every_routine(void **state) {
  (void)state;
  static const char *const rows[] = {
#define ROUTINE(name, operators, function, args) \
  "| `" #name "` | " operators " | `" #function "` | `" args "` |\n",
#include "runtime/routines.def"
  };
  size_t size;
  char *text = read_file(MOEC_RUNTIME_MANUAL, &size);
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (strstr(text, rows[i]) == NULL)
      fail_msg("docs/runtime.md lacks the line\n%s", rows[i]);
  size_t n = 0;
  for (const char *at = text; (at = strstr(at, "| `moert_op_")) != NULL; at++)
    n++;
  assert_int_equal(n, sizeof rows / sizeof rows[0]);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define FOR_ARCH(test, arch) cmocka_unit_test_prestate(test, (void *)arch)
#define TARGET(id, arch, llvm, machine)                              \
  FOR_ARCH(the_runtime_imports_what_its_table_says, arch),           \
      FOR_ARCH(the_runtime_shows_nothing_and_changes_nothing, arch), \
      FOR_ARCH(the_runtime_has_all_that_generated_code_calls, arch), \
      FOR_ARCH(the_stub_has_the_imports_in_their_versions, arch),
#include "backend/targets.def"
      cmocka_unit_test(the_versions_exist_here),
      cmocka_unit_test(a_linked_model_needs_the_c_library_only),
      cmocka_unit_test(a_linked_model_runs),
      cmocka_unit_test(without_threads_a_model_runs_alone),
      cmocka_unit_test(the_manual_lists_every_routine),
  };
  return cmocka_run_group_tests_name("runtime/embedded", tests, count_at_start,
                                     NULL);
}
