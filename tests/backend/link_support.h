/* Objects made from LLVM IR texts, temporary directories and whole files;
 * shared by the tests of linking. Everything made lives in one arena per test.
 */
#ifndef TESTS_BACKEND_LINK_SUPPORT_H
#define TESTS_BACKEND_LINK_SUPPORT_H

#include <llvm-c/Core.h>
#include <llvm-c/IRReader.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <dirent.h>

#include "backend/link.h"

typedef struct link_fixture {
  arena_t *arena;
  diag_sink_t diag;
  char directory[64];
} link_fixture_t;

static inline int link_setup(void **state) {
  link_fixture_t *f = calloc(1, sizeof *f);
  assert_non_null(f);
  f->arena = arena_create(0);
  diag_init(&f->diag, f->arena, NULL);
  strcpy(f->directory, "/tmp/moec-test-XXXXXX");
  assert_non_null(mkdtemp(f->directory));
  *state = f;
  return 0;
}

/* Names in the directory; removes them when asked. */
static inline unsigned link_count_files(const link_fixture_t *f, bool erase) {
  unsigned n = 0;
  DIR *directory = opendir(f->directory);
  assert_non_null(directory);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    n++;
    if (erase) unlinkat(dirfd(directory), entry->d_name, 0);
  }
  closedir(directory);
  return n;
}

static inline int link_teardown(void **state) {
  link_fixture_t *f = *state;
  link_count_files(f, true);
  rmdir(f->directory);
  arena_destroy(f->arena);
  free(f);
  return 0;
}

static inline char *link_path(link_fixture_t *f, const char *name) {
  return arena_printf(f->arena, "%s/%s", f->directory, name);
}

/* The object for this machine of a module given as text. */
static inline link_file_t link_compile(link_fixture_t *f, const char *name,
                                       const char *ir) {
  char *message = NULL;
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  LLVMContextRef context = LLVMContextCreate();
  LLVMMemoryBufferRef text =
      LLVMCreateMemoryBufferWithMemoryRangeCopy(ir, strlen(ir), name);
  LLVMModuleRef module;
  if (LLVMParseIRInContext(context, text, &module, &message))
    fail_msg("%s: %s", name, message);
  char *triple = LLVMGetDefaultTargetTriple();
  LLVMTargetRef target;
  if (LLVMGetTargetFromTriple(triple, &target, &message))
    fail_msg("%s", message);
  LLVMTargetMachineRef machine =
      LLVMCreateTargetMachine(target, triple, "", "", LLVMCodeGenLevelDefault,
                              LLVMRelocPIC, LLVMCodeModelDefault);
  LLVMMemoryBufferRef object;
  if (LLVMTargetMachineEmitToMemoryBuffer(machine, module, LLVMObjectFile,
                                          &message, &object))
    fail_msg("%s", message);
  link_file_t file = {.name = name, .size = LLVMGetBufferSize(object)};
  char *copy = arena_alloc(f->arena, file.size);
  memcpy(copy, LLVMGetBufferStart(object), file.size);
  file.data = copy;
  LLVMDisposeMemoryBuffer(object);
  LLVMDisposeTargetMachine(machine);
  LLVMDisposeMessage(triple);
  LLVMDisposeModule(module);
  LLVMContextDispose(context);
  return file;
}

/* The bytes of a whole file. */
static inline uint8_t *link_read_file(link_fixture_t *f, const char *path,
                                      size_t *out_size) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  struct stat info;
  assert_int_equal(fstat(fileno(file), &info), 0);
  uint8_t *bytes = arena_alloc(f->arena, (size_t)info.st_size + 1);
  *out_size = fread(bytes, 1, (size_t)info.st_size, file);
  assert_int_equal(*out_size, info.st_size);
  fclose(file);
  return bytes;
}

/* Whether some diagnostic or one of its notes contains the words. */
static inline bool link_diag_has(const diag_t *diag, const char *words) {
  for (; diag != NULL; diag = diag->next)
    if (strstr(diag->text, words) != NULL || link_diag_has(diag->notes, words))
      return true;
  return false;
}

#define assert_diag(f, words)                           \
  do {                                                  \
    if (!link_diag_has((f)->diag.first, words)) {       \
      diag_print(&(f)->diag, stderr);                   \
      fail_msg("no diagnostic contains \"%s\"", words); \
    }                                                   \
  } while (0)

#define assert_ok(f, expr)                          \
  do {                                              \
    moec_status_t ok_status_ = (expr);              \
    if (ok_status_ != MOEC_OK) {                    \
      diag_print(&(f)->diag, stderr);               \
      fail_msg("%s: status %d", #expr, ok_status_); \
    }                                               \
  } while (0)

#define LINK_TEST(name) \
  cmocka_unit_test_setup_teardown(name, link_setup, link_teardown)

#endif
