/* Output files: complete under their name, or not there. */
#include <fcntl.h>
#include <pthread.h>

#include "backend/output.h"
#include "link_support.h"

static void file_appears_on_commit_only(void **state) {
  link_fixture_t *f = *state;
  const char *path = link_path(f, "out");
  output_t out;
  assert_ok(f, output_open(&out, path, false, &f->diag));
  assert_ok(f, output_write(&out, 6, "world", 5, &f->diag));
  assert_ok(f, output_write(&out, 0, "hello", 5, &f->diag));
  assert_int_equal(access(path, F_OK), -1);
  assert_ok(f, output_set_size(&out, 13, &f->diag));
  assert_ok(f, output_commit(&out, &f->diag));
  output_discard(&out); /* harmless */
  size_t size;
  assert_memory_equal(link_read_file(f, path, &size), "hello\0world\0\0", 13);
  assert_int_equal(size, 13);
  assert_int_equal(link_count_files(f, false), 1);
}

static void discarded_file_leaves_the_old_one(void **state) {
  link_fixture_t *f = *state;
  const char *path = link_path(f, "out");
  assert_ok(f, output_write_file(path, "old", 3, false, &f->diag));
  output_t out = {0};
  output_discard(&out); /* zeroed */
  assert_ok(f, output_open(&out, path, false, &f->diag));
  assert_ok(f, output_write(&out, 0, "newer", 5, &f->diag));
  output_discard(&out);
  size_t size;
  assert_memory_equal(link_read_file(f, path, &size), "old", 3);
  assert_int_equal(link_count_files(f, false), 1);
  assert_ok(f, output_write_file(path, "newer", 5, false, &f->diag));
  assert_memory_equal(link_read_file(f, path, &size), "newer", 5);
  assert_int_equal(link_count_files(f, false), 1);
}

static void mode_follows_the_umask(void **state) {
  link_fixture_t *f = *state;
  const mode_t old = umask(027);
  struct stat info;
  assert_ok(f, output_write_file(link_path(f, "a"), "", 0, true, &f->diag));
  assert_ok(f, output_write_file(link_path(f, "b"), "", 0, false, &f->diag));
  umask(old);
  assert_int_equal(stat(link_path(f, "a"), &info), 0);
  assert_int_equal(info.st_mode & 07777, 0750);
  assert_int_equal(stat(link_path(f, "b"), &info), 0);
  assert_int_equal(info.st_mode & 07777, 0640);
}

static void assert_refused(link_fixture_t *f, const char *path,
                           const char *words) {
  output_t out;
  assert_int_equal(output_open(&out, path, false, &f->diag), MOEC_E_IO);
  assert_diag(f, words);
  output_discard(&out); /* harmless */
}

static void impossible_places_are_refused(void **state) {
  link_fixture_t *f = *state;
  char name[300];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  assert_refused(f, link_path(f, "missing/out"), "No such file");
  assert_refused(f, f->directory, "Is a directory");
  assert_refused(f, link_path(f, "new/"), "Is a directory");
  assert_refused(f, "", "Is a directory");
  assert_refused(f, link_path(f, name), "File name too long");
  assert_ok(f, output_write_file(link_path(f, "file"), "", 0, 0, &f->diag));
  assert_refused(f, link_path(f, "file/out"), "Not a directory");
  assert_int_equal(link_count_files(f, false), 1);
}

static void longest_name_works(void **state) {
  link_fixture_t *f = *state;
  char name[256];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  const char *path = link_path(f, name);
  assert_ok(f, output_write_file(path, "x", 1, false, &f->diag));
  assert_int_equal(access(path, R_OK), 0);
}

static void relative_path_is_in_the_working_directory(void **state) {
  link_fixture_t *f = *state;
  char before[4096];
  assert_non_null(getcwd(before, sizeof before));
  assert_int_equal(chdir(f->directory), 0);
  moec_status_t status = output_write_file("plain", "x", 1, false, &f->diag);
  assert_int_equal(chdir(before), 0);
  assert_ok(f, status);
  assert_int_equal(access(link_path(f, "plain"), R_OK), 0);
}

/* The replaced file is the directory's entry, not what a link points to. */
static void symbolic_link_is_replaced(void **state) {
  link_fixture_t *f = *state;
  const char *target = link_path(f, "target"), *path = link_path(f, "link");
  assert_ok(f, output_write_file(target, "old", 3, false, &f->diag));
  assert_int_equal(symlink("target", path), 0);
  assert_ok(f, output_write_file(path, "new!", 4, false, &f->diag));
  struct stat info;
  assert_int_equal(lstat(path, &info), 0);
  assert_true(S_ISREG(info.st_mode));
  size_t size;
  assert_memory_equal(link_read_file(f, target, &size), "old", 3);
}

static void device_is_written_not_replaced(void **state) {
  link_fixture_t *f = *state;
  assert_ok(f, output_write_file("/dev/null", "x", 1, true, &f->diag));
  output_t out;
  assert_ok(f, output_open(&out, "/dev/null", true, &f->diag));
  assert_ok(f, output_write(&out, 1000, "x", 1, &f->diag));
  assert_ok(f, output_set_size(&out, 5000, &f->diag));
  assert_ok(f, output_commit(&out, &f->diag));
  struct stat info;
  assert_int_equal(stat("/dev/null", &info), 0);
  assert_true(S_ISCHR(info.st_mode));
}

static void full_device_is_an_error(void **state) {
  link_fixture_t *f = *state;
  output_t out;
  assert_ok(f, output_open(&out, "/dev/full", false, &f->diag));
  assert_int_equal(output_write(&out, 0, "x", 1, &f->diag), MOEC_E_IO);
  assert_diag(f, "No space left");
}

static void *read_fifo(void *user) {
  char *bytes = calloc(1, 20000);
  int fd = open(user, O_RDONLY);
  size_t size = 0;
  for (ssize_t n; (n = read(fd, bytes + size, 19999 - size)) > 0;)
    size += (size_t)n;
  close(fd);
  bytes[19999] = (char)(size == 10004 + 5);
  return bytes;
}

static void pipe_takes_ascending_offsets(void **state) {
  link_fixture_t *f = *state;
  char *path = link_path(f, "fifo");
  assert_int_equal(mkfifo(path, 0600), 0);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, read_fifo, path), 0);
  output_t out;
  assert_ok(f, output_open(&out, path, false, &f->diag));
  assert_ok(f, output_write(&out, 0, "abcd", 4, &f->diag));
  assert_ok(f, output_write(&out, 10000, "efgh", 4, &f->diag));
  assert_ok(f, output_set_size(&out, 10009, &f->diag));
  assert_int_equal(output_write(&out, 5, "late", 4, &f->diag), MOEC_E_IO);
  void *result;
  pthread_join(thread, &result);
  char *bytes = result;
  assert_memory_equal(bytes, "abcd\0", 5);
  assert_memory_equal(bytes + 9999, "\0efgh\0", 6);
  assert_true(bytes[19999]);
  free(bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      LINK_TEST(file_appears_on_commit_only),
      LINK_TEST(discarded_file_leaves_the_old_one),
      LINK_TEST(mode_follows_the_umask),
      LINK_TEST(impossible_places_are_refused),
      LINK_TEST(longest_name_works),
      LINK_TEST(relative_path_is_in_the_working_directory),
      LINK_TEST(symbolic_link_is_replaced),
      LINK_TEST(device_is_written_not_replaced),
      LINK_TEST(full_device_is_an_error),
      LINK_TEST(pipe_takes_ascending_offsets),
  };
  return cmocka_run_group_tests_name("backend/output", tests, NULL, NULL);
}
