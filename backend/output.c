/* Output files: written without a name where the file system can do that
 * (O_TMPFILE), so that even a killed process leaves nothing behind, else under
 * a temporary name in the same directory; renamed when complete. */
#include "backend/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_NAMES = 10000 }; /* temporary names that are tried */

void output_discard(output_t *out) {
  if (out->path == NULL) return; /* zeroed */
  if (out->temporary[0] != '\0') unlinkat(out->dir_fd, out->temporary, 0);
  out->temporary[0] = '\0';
  if (out->fd >= 0) close(out->fd);
  if (out->dir_fd >= 0) close(out->dir_fd);
  out->fd = out->dir_fd = -1;
}

/* Cleans up first: reporting may leave through the recovery point. */
static moec_status_t fail(output_t *out, int error, diag_sink_t *diag) {
  const char *path = out->path;
  output_discard(out);
  return diag_error(diag, (ir_loc_t){0}, MOEC_E_IO, "cannot write '%s': %s",
                    path, strerror(error));
}

/* Calls try_name with fresh names until it does not find one taken. */
static int with_fresh_name(output_t *out, mode_t mode,
                           int (*try_name)(output_t *out, mode_t mode)) {
  for (unsigned i = 0; i < N_NAMES; i++) {
    snprintf(out->temporary, sizeof out->temporary, ".moec-%ld-%u",
             (long)getpid(), i);
    if (try_name(out, mode) == 0) return 0;
    if (errno != EEXIST) break;
  }
  out->temporary[0] = '\0';
  return -1;
}

static int create_named(output_t *out, mode_t mode) {
  out->fd = openat(out->dir_fd, out->temporary,
                   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  return out->fd < 0 ? -1 : 0;
}

static int name_unnamed(output_t *out, mode_t mode) {
  (void)mode;
  char self[32];
  snprintf(self, sizeof self, "/proc/self/fd/%d", out->fd);
  return linkat(AT_FDCWD, self, out->dir_fd, out->temporary, AT_SYMLINK_FOLLOW);
}

/* Opens the directory part of the path; the rest is its last component. */
static int open_directory(const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  char directory[PATH_MAX];
  size_t length = slash == path ? 1 : (size_t)(slash - path);
  if (length >= sizeof directory) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(directory, path, length);
  directory[length] = '\0';
  return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static const char *last_component(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

/* Zero, or -1 with errno set. */
static int open_replacement(output_t *out, mode_t mode) {
  const char *name = last_component(out->path);
  if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
    errno = EISDIR;
    return -1;
  }
  if (strlen(name) > NAME_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  out->dir_fd = open_directory(out->path);
  if (out->dir_fd < 0) return -1;
  out->seekable = true;
  out->fd = openat(out->dir_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
  if (out->fd >= 0 && access("/proc/self/fd", X_OK) != 0) {
    close(out->fd); /* could not be given a name later */
    out->fd = -1;
  }
  return out->fd >= 0 ? 0 : with_fresh_name(out, mode, create_named);
}

moec_status_t output_open(output_t *out, const char *path, bool executable,
                          diag_sink_t *diag) {
  *out = (output_t){.fd = -1, .dir_fd = -1, .path = path};
  struct stat info;
  if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
    out->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (out->fd < 0) return fail(out, errno, diag);
    out->seekable = lseek(out->fd, 0, SEEK_CUR) >= 0;
    return MOEC_OK;
  }
  if (open_replacement(out, executable ? 0777 : 0666) != 0)
    return fail(out, errno, diag);
  return MOEC_OK;
}

/* Zero, or -1 with errno set. */
static int write_all(output_t *out, uint64_t offset, const char *data,
                     size_t size) {
  while (size > 0) {
    ssize_t n = out->seekable ? pwrite(out->fd, data, size, (off_t)offset)
                              : write(out->fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    data += n;
    size -= (size_t)n;
    offset += (uint64_t)n;
  }
  out->position = offset;
  return 0;
}

/* Brings a pipe to the offset. */
static int fill_gap(output_t *out, uint64_t offset) {
  static const char zeros[4096];
  if (offset < out->position) {
    errno = ESPIPE;
    return -1;
  }
  while (out->position < offset) {
    uint64_t n = offset - out->position;
    if (n > sizeof zeros) n = sizeof zeros;
    if (write_all(out, out->position, zeros, (size_t)n) != 0) return -1;
  }
  return 0;
}

moec_status_t output_write(output_t *out, uint64_t offset, const void *data,
                           size_t size, diag_sink_t *diag) {
  MOEC_ASSERT(out->fd >= 0);
  MOEC_ASSERT(offset <= INT64_MAX - size);
  if (!out->seekable && fill_gap(out, offset) != 0)
    return fail(out, errno, diag);
  if (write_all(out, offset, data, size) != 0) return fail(out, errno, diag);
  return MOEC_OK;
}

moec_status_t output_set_size(output_t *out, uint64_t size, diag_sink_t *diag) {
  MOEC_ASSERT(out->fd >= 0);
  MOEC_ASSERT(size <= INT64_MAX);
  int failed = 0;
  if (!out->seekable)
    failed = fill_gap(out, size);
  else if (out->dir_fd >= 0)
    failed = ftruncate(out->fd, (off_t)size);
  /* else a device, whose size is its own affair */
  return failed != 0 ? fail(out, errno, diag) : MOEC_OK;
}

moec_status_t output_commit(output_t *out, diag_sink_t *diag) {
  MOEC_ASSERT(out->fd >= 0);
  if (out->dir_fd >= 0 && out->temporary[0] == '\0' &&
      with_fresh_name(out, 0, name_unnamed) != 0)
    return fail(out, errno, diag);
  /* Some file systems report a full disk no earlier than here. */
  int error = close(out->fd) != 0 ? errno : 0;
  out->fd = -1;
  if (error == 0 && out->dir_fd >= 0 &&
      renameat(out->dir_fd, out->temporary, out->dir_fd,
               last_component(out->path)) != 0)
    error = errno;
  if (error != 0) return fail(out, error, diag);
  out->temporary[0] = '\0';
  output_discard(out);
  return MOEC_OK;
}

moec_status_t output_write_file(const char *path, const void *data, size_t size,
                                bool executable, diag_sink_t *diag) {
  output_t out;
  MOEC_TRY(output_open(&out, path, executable, diag));
  MOEC_TRY(output_write(&out, 0, data, size, diag));
  return output_commit(&out, diag);
}
