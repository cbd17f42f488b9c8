/* Compiling where an allocation fails: any one, with all that follow or alone.
 * The linker replaces what moec allocates with by the functions below
 * (tests/tools/CMakeLists.txt). LLVM and LLD are not made for that: where they
 * get no memory the process ends, see SECURITY.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/compile.h"

/* ---- Allocations that fail ----------------------------------------------- */

static atomic_long allowed = -1; /* until one fails; below 0: no limit */
static atomic_bool only_one;     /* later ones succeed again */

static bool may_allocate(void) {
  long left = atomic_load(&allowed);
  do {
    if (left < 0) return true;
    if (left == 0) break;
  } while (!atomic_compare_exchange_weak(&allowed, &left, left - 1));
  if (left > 0) return true;
  if (atomic_load(&only_one)) atomic_store(&allowed, -1);
  errno = ENOMEM;
  return false;
}

/* NOLINTBEGIN(bugprone-reserved-identifier): names that the linker wants */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd,
                  off_t offset);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd,
                  off_t offset);

void *__wrap_malloc(size_t bytes) {
  return may_allocate() ? __real_malloc(bytes) : NULL;
}

void *__wrap_calloc(size_t n, size_t bytes) {
  return may_allocate() ? __real_calloc(n, bytes) : NULL;
}

void *__wrap_realloc(void *old, size_t bytes) {
  return may_allocate() ? __real_realloc(old, bytes) : NULL;
}

char *__wrap_strdup(const char *text) {
  return may_allocate() ? __real_strdup(text) : NULL;
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd,
                  off_t offset) {
  return may_allocate() ? __real_mmap(at, bytes, protection, flags, fd, offset)
                        : MAP_FAILED;
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* ---- Compilations -------------------------------------------------------- */

typedef struct fixture {
  char directory[64], model[80], library[80];
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  if (f == NULL) return 1;
  strcpy(f->directory, "/tmp/moec-test-XXXXXX");
  if (mkdtemp(f->directory) == NULL) return 1;
  snprintf(f->library, sizeof f->library, "%s/m.so", f->directory);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture_t *f = *state;
  unlink(f->model);
  unlink(f->library);
  rmdir(f->directory);
  free(f);
  return 0;
}

static unsigned count_files(const char *directory) {
  unsigned n = 0;
  DIR *dir = opendir(directory);
  assert_non_null(dir);
  for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
    n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
  closedir(dir);
  return n;
}

static unsigned count_descriptors(void) { return count_files("/proc/self/fd"); }

/* Compiles with the sink's arena as poor as all else. */
static moec_status_t compile(const fixture_t *f, const char *output, long n,
                             bool alone) {
  compile_options_t options;
  compile_options_init(&options);
  options.model = f->model;
  options.output = output;
  options.isas = "x86-64";
  arena_t *arena = arena_create(0);
  assert_non_null(arena);
  diag_sink_t diag;
  diag_init(&diag, arena, NULL);
  atomic_store(&only_one, alone);
  atomic_store(&allowed, n);
  moec_status_t status = compile_model(&options, &diag);
  atomic_store(&allowed, -1);
  arena_destroy(arena);
  return status;
}

/* Fails one allocation after the other until none is left to fail. Where there
 * are many, every one of the first and ever fewer of the later ones. */
static void check_all(const fixture_t *f, const char *output, bool alone) {
  const unsigned n_descriptors = count_descriptors();
  const unsigned n_files = count_files(f->directory);
  unsigned n_tried = 0;
  moec_status_t status = MOEC_E_NO_MEMORY;
  assert_int_equal(compile(f, output, -1, false), MOEC_OK);
  assert_int_equal(count_files(f->directory), n_files + 1);
  unlink(output);
  for (long n = 0; status != MOEC_OK; n += 1 + n / 100) {
    n_tried++;
    status = compile(f, output, n, alone);
    if (status != MOEC_OK && status != MOEC_E_NO_MEMORY && status != MOEC_E_IO)
      fail_msg("allocation %ld: status %d", n, (int)status);
    if (count_files(f->directory) != n_files + (status == MOEC_OK))
      fail_msg("allocation %ld leaves files behind", n);
    if (count_descriptors() != n_descriptors)
      fail_msg("allocation %ld leaves files open", n);
  }
  unlink(output);
  print_message("%u compilations\n", n_tried);
  assert_true(n_tried > 20);
}

static void any_allocation_of_a_compilation_may_fail(void **state) {
  fixture_t *f = *state;
  snprintf(f->model, sizeof f->model, "%s/m.moeir", f->directory);
  FILE *file = fopen(f->model, "w");
  assert_non_null(file);
  fputs(
      "func @f(%0: f32[N,5]) {\n"
      "  %1 = constant {dtype = f32, shape = [5,40], data = digest(0x1, 800)}\n"
      "  %2 = exp(%1)\n"
      "  %3 = matmul(%0, %2)\n"
      "  return(%3)\n"
      "}\n",
      file);
  fclose(file);
  check_all(f, f->library, false);
  check_all(f, f->library, true);
}

static void copy_file(const char *from, const char *to) {
  char bytes[1 << 16];
  FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
  assert_true(in != NULL && out != NULL);
  for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
    assert_int_equal(fwrite(bytes, 1, n, out), n);
  fclose(in);
  assert_int_equal(fclose(out), 0);
}

static void any_allocation_for_an_onnx_file_may_fail(void **state) {
  fixture_t *f = *state;
  snprintf(f->model, sizeof f->model, "%s/m.onnx", f->directory);
  copy_file(MOEC_MODEL, f->model);
  char text[96];
  snprintf(text, sizeof text, "%s/m.ll", f->directory);
  check_all(f, text, false);
  check_all(f, text, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(any_allocation_of_a_compilation_may_fail),
      TEST(any_allocation_for_an_onnx_file_may_fail),
  };
  return cmocka_run_group_tests_name("tools/no_memory", tests, NULL, NULL);
}
