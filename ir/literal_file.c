/* Files that hold the bytes of large constants of a text. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ir/element.h"
#include "ir/literal.h"

static char *path_of(arena_t *arena, const char *dir, const ir_data_t *data) {
  return arena_printf(arena, "%s/%016llx.bin", dir,
                      (unsigned long long)data->digest);
}

static bool write_data(FILE *file, const ir_data_t *data) {
  if (data->strings == NULL)
    return data->size == 0 ||
           fwrite(data->bytes, 1, data->size, file) == data->size;
  for (uint64_t i = 0; i < data->size / 16; i++) {
    unsigned char prefix[8];
    size_t length = strlen(data->strings[i]);
    ir_element_set_int(DT_U64, prefix, 0, (int64_t)length);
    if (fwrite(prefix, 1, 8, file) != 8) return false;
    if (fwrite(data->strings[i], 1, length, file) != length) return false;
  }
  return true;
}

/* Through a file of another name, so that no half-written one is ever found. */
const char *literal_write_file(arena_t *arena, const char *dir,
                               ir_data_t *data) {
  ir_data_digest(data);
  const char *path = path_of(arena, dir, data);
  const char *part = arena_printf(arena, "%s.%ld.part", path, (long)getpid());
  if (access(path, R_OK) == 0) return NULL;
  FILE *file = fopen(part, "wb");
  if (file == NULL) return arena_strdup(arena, strerror(errno));
  bool written = write_data(file, data);
  int error = errno;
  if (fclose(file) != 0 && written) {
    written = false;
    error = errno;
  }
  if (written && rename(part, path) == 0) return NULL;
  if (written) error = errno;
  remove(part);
  return arena_strdup(arena, strerror(error));
}

/* Splits bytes of length-prefixed strings into data->strings. */
static bool split_strings(arena_t *arena, const char *bytes, uint64_t size,
                          ir_data_t *data) {
  uint64_t count = data->size / 16, at = 0;
  if (count > size / 8) return false; /* each has a prefix of 8 bytes */
  const char **strings = ARENA_ARRAY(arena, const char *, count);
  for (uint64_t i = 0; i < count; i++) {
    if (size - at < 8) return false;
    uint64_t length = (uint64_t)ir_element_int(DT_U64, bytes + at, 0);
    at += 8;
    if (length > size - at) return false;
    strings[i] = arena_strndup(arena, bytes + at, length);
    at += length;
  }
  data->strings = strings;
  return at == size;
}

static const char *read_all(arena_t *arena, FILE *file, char **out_bytes,
                            uint64_t *out_size) {
  if (fseek(file, 0, SEEK_END) != 0) return "cannot be measured";
  long size = ftell(file);
  if (size < 0) return "cannot be measured";
  if (fseek(file, 0, SEEK_SET) != 0) return "cannot be read";
  *out_size = (uint64_t)size;
  *out_bytes = arena_alloc(arena, (size_t)size);
  if (fread(*out_bytes, 1, (size_t)size, file) != (size_t)size)
    return "cannot be read";
  return NULL;
}

const char *literal_read_file(arena_t *arena, const char *dir, dtype_t dtype,
                              ir_data_t *data) {
  uint64_t digest = data->digest, size;
  char *bytes;
  FILE *file = fopen(path_of(arena, dir, data), "rb");
  if (file == NULL) return arena_strdup(arena, strerror(errno));
  const char *problem = read_all(arena, file, &bytes, &size);
  fclose(file);
  if (problem != NULL) return problem;
  if (dtype == DT_STR) {
    if (!split_strings(arena, bytes, size, data)) return "is damaged";
  } else {
    if (size != data->size) return "has another size";
    data->bytes = bytes;
  }
  data->digest = 0;
  return ir_data_digest(data) == digest ? NULL : "has another content";
}
