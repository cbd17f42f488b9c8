/* Calling the command line in process: a folder for files, what was printed. */
#ifndef TESTS_TOOLS_CLI_SUPPORT_H
#define TESTS_TOOLS_CLI_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli.h"

typedef struct cli_fixture {
  char directory[64];
  char *out, *err; /* of the latest call */
} cli_fixture_t;

static inline int cli_setup(void **state) {
  cli_fixture_t *f = calloc(1, sizeof *f);
  assert_non_null(f);
  strcpy(f->directory, "/tmp/moec-test-XXXXXX");
  assert_non_null(mkdtemp(f->directory));
  *state = f;
  return 0;
}

/* Removes files, and folders of files. */
static inline void remove_tree(const char *path, int depth) {
  DIR *dir = depth > 0 ? opendir(path) : NULL;
  if (dir != NULL) {
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
      char child[512];
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        continue;
      snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
      remove_tree(child, depth - 1);
    }
    closedir(dir);
  }
  remove(path);
}

static inline int cli_teardown(void **state) {
  cli_fixture_t *f = *state;
  remove_tree(f->directory, 4);
  free(f->out);
  free(f->err);
  free(f);
  return 0;
}

/* A path in the folder; four may be in use at once. */
static inline const char *in_folder(const cli_fixture_t *f, const char *name) {
  static char paths[4][256];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", f->directory, name);
  return path;
}

static inline const char *write_bytes(const cli_fixture_t *f, const char *name,
                                      const void *bytes, size_t size) {
  const char *path = in_folder(f, name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
  return path;
}

static inline const char *write_text(const cli_fixture_t *f, const char *name,
                                     const char *text) {
  return write_bytes(f, name, text, strlen(text));
}

static inline void make_folder(const cli_fixture_t *f, const char *name) {
  assert_int_equal(mkdir(in_folder(f, name), 0777), 0);
}

/* A .npy file of at most 128 bytes of elements. */
static inline const char *write_npy(const cli_fixture_t *f, const char *name,
                                    const char *type, const char *shape,
                                    const void *elements, size_t size) {
  char file[256];
  assert_in_range(size, 0, sizeof file - 128);
  const int n = snprintf(file + 10, sizeof file - 10,
                         "{'descr': '%s', 'fortran_order': False, 'shape': %s}",
                         type, shape);
  assert_in_range(n, 0, 117);
  memset(file + 10 + n, ' ', (size_t)(118 - n));
  memcpy(file, "\x93NUMPY\x01\x00\x76\x00", 10);
  if (size > 0) memcpy(file + 128, elements, size);
  return write_bytes(f, name, file, 128 + size);
}

/* A model of the collection in tests/models; skips the test without it. */
static inline const char *model_case(const char *name) {
  static char path[512];
  const char *models = getenv("MOEC_TEST_MODELS");
  if (models == NULL) skip();
  snprintf(path, sizeof path, "%s/%s", models, name);
  return path;
}

static inline int call_cli(cli_fixture_t *f, char *(*get)(const char *),
                           const char *const *arguments) {
  char *argv[32] = {strdup("moec")};
  int argc = 1;
  size_t n_out, n_err;
  for (; arguments[argc - 1] != NULL; argc++) {
    assert_in_range(argc, 1, 31);
    argv[argc] = strdup(arguments[argc - 1]);
  }
  free(f->out);
  free(f->err);
  FILE *out = open_memstream(&f->out, &n_out);
  FILE *err = open_memstream(&f->err, &n_err);
  assert_true(out != NULL && err != NULL);
  int code = cli_main(argc, argv, get, out, err);
  fclose(out);
  fclose(err);
  for (int i = 0; i < argc; i++) free(argv[i]);
  return code;
}

/* The exit code of `moec` with these arguments; prints what it said when it is
 * another one. */
#define assert_exit(f, code, ...)                                      \
  do {                                                                 \
    const int got_ =                                                   \
        call_cli((f), NULL, (const char *const[]){__VA_ARGS__, NULL}); \
    if (got_ != (code)) print_message("%s%s", (f)->out, (f)->err);     \
    assert_int_equal(got_, (code));                                    \
  } while (0)

static inline void assert_contains(const char *text, const char *part) {
  if (strstr(text, part) == NULL) fail_msg("expected '%s' in:\n%s", part, text);
}

#endif
