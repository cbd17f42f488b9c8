/* Paths and whole files. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli.h"

bool path_has_suffix(const char *path, const char *suffix) {
  const size_t n = strlen(path), m = strlen(suffix);
  return n > m && strcmp(path + n - m, suffix) == 0;
}

const char *path_join(arena_t *arena, const char *directory, const char *name) {
  const size_t n = strlen(directory);
  const bool slash = n > 0 && directory[n - 1] == '/';
  return arena_printf(arena, "%s%s%s", directory, slash ? "" : "/", name);
}

bool path_is_directory(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool path_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

/* Reads to the end of the file; grows what it holds by doubling. */
static moec_status_t read_all(cli_t *cli, FILE *file, const char *path,
                              uint64_t limit, size_t capacity,
                              const char **out_bytes, size_t *out_length) {
  char *bytes = arena_alloc(cli->arena, capacity + 1);
  size_t length = 0;
  for (;;) {
    const size_t got = fread(bytes + length, 1, capacity - length, file);
    length += got;
    if (length > limit)
      return CLI_FAIL(cli, MOEC_E_LIMIT, "'%s' exceeds the limit of %llu bytes",
                      path, (unsigned long long)limit);
    if (length < capacity) break;
    bytes = arena_grow_array(cli->arena, bytes, length, 2 * capacity + 1, 1);
    capacity *= 2;
  }
  if (ferror(file))
    return CLI_FAIL(cli, MOEC_E_IO, "cannot read '%s': %s", path,
                    strerror(errno));
  bytes[length] = '\0';
  *out_bytes = bytes;
  *out_length = length;
  return MOEC_OK;
}

moec_status_t file_read(cli_t *cli, const char *path, uint64_t limit,
                        const char **out_bytes, size_t *out_length) {
  const bool standard = strcmp(path, "-") == 0;
  FILE *file = standard ? stdin : fopen(path, "rbe");
  if (file == NULL)
    return CLI_FAIL(cli, MOEC_E_IO, "cannot open '%s': %s", path,
                    strerror(errno));
  size_t capacity = 1 << 16;
  struct stat info;
  moec_status_t status = MOEC_OK;
  if (fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode)) {
    if ((uint64_t)info.st_size > limit)
      status =
          CLI_FAIL(cli, MOEC_E_LIMIT, "'%s' exceeds the limit of %llu bytes",
                   path, (unsigned long long)limit);
    capacity = (size_t)info.st_size + 1; /* the last byte tells the end */
  }
  if (status == MOEC_OK)
    status = read_all(cli, file, path, limit, capacity, out_bytes, out_length);
  if (!standard) fclose(file);
  return status;
}
