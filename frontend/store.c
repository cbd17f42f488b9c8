/* Owns the bytes of files: reads or maps them, remembers them, lets go of them.
 *
 * A mapping is the file itself: where somebody shortens that, its pages are
 * gone and touching them is SIGBUS. What has been read stays. So files are
 * read, unless they are so large that a copy would cost more than it is worth.
 */
#include "frontend/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_READ (64 << 20) /* bytes of a file that is not mapped */
#define MOST_DEPTH 1024      /* protobuf-c takes about 1 KB of stack for each */

static void set_default(uint64_t *limit, uint64_t value) {
  if (*limit == 0) *limit = value;
}

onnx_store_t *onnx_store_create(const onnx_load_options_t *options) {
  onnx_store_t *store = calloc(1, sizeof *store);
  if (store == NULL) return NULL;
  if (options != NULL) store->options = *options;
  onnx_limits_t *limits = &store->options.limits;
  set_default(&limits->file_bytes, INT_MAX);
  set_default(&limits->messages, (uint64_t)1 << 25);
  set_default(&limits->name_bytes, (uint64_t)1 << 16);
  set_default(&limits->expanded_bytes, (uint64_t)256 << 20);
  if (limits->depth == 0) limits->depth = 448;
  if (limits->depth > MOST_DEPTH) limits->depth = MOST_DEPTH;
  if (limits->graph_depth == 0) limits->graph_depth = 128;
  if (store->options.external_root != NULL) {
    store->external_root = strdup(store->options.external_root);
    store->options.external_root = store->external_root;
    if (store->external_root == NULL) {
      free(store);
      return NULL;
    }
  }
  return store;
}

static void release(onnx_mapping_t *mapping) {
  if (mapping->how == MAPPING_MAPPED && mapping->length > 0)
    munmap((void *)(uintptr_t)mapping->bytes, mapping->length);
  if (mapping->how == MAPPING_READ) free((void *)(uintptr_t)mapping->bytes);
  free(mapping->name);
  free(mapping);
}

void onnx_store_destroy(onnx_store_t *store) {
  if (store == NULL) return;
  for (size_t i = 0; i < store->n_mappings; i++) release(store->mappings[i]);
  free(store->mappings);
  free(store->cache);
  free(store->payloads.items);
  free(store->skeleton.bytes);
  free(store->external_root);
  free(store);
}

static bool is_same(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
         a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
         a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

moec_status_t onnx_store_check(onnx_store_t *store, diag_sink_t *diag) {
  for (size_t i = 0; i < store->n_mappings; i++) {
    const onnx_mapping_t *mapping = store->mappings[i];
    struct stat now;
    if (!S_ISREG(mapping->was.st_mode)) continue;
    if (stat(mapping->name, &now) != 0 || !is_same(&now, &mapping->was))
      return diag_error(diag, (ir_loc_t){0}, MOEC_E_IO,
                        "'%s' was changed while it was being read",
                        mapping->name);
  }
  return MOEC_OK;
}

/* ---- Mapping ------------------------------------------------------------ */

/* Reads until the end, into `first` bytes of memory or more, but at most little
 * more than `limit`, so that the caller sees a length beyond it. Returns false
 * with errno set. */
static bool read_all(int fd, uint64_t limit, size_t first,
                     onnx_mapping_t *out) {
  uint8_t *bytes = NULL;
  size_t length = 0, capacity = 0;
  while (length <= limit) {
    if (length == capacity) {
      capacity = capacity == 0 ? first : 2 * capacity;
      uint8_t *grown = realloc(bytes, capacity);
      if (grown == NULL) goto failed;
      bytes = grown;
    }
    ssize_t n = read(fd, bytes + length, capacity - length);
    if (n == 0) break;
    if (n < 0 && errno != EINTR) goto failed;
    if (n > 0) length += (size_t)n;
  }
  out->bytes = bytes;
  out->length = length;
  return true;

failed:
  free(bytes);
  return false;
}

/* Fills in a mapping that has its name; false with errno set. */
static bool fill(int fd, const struct stat *st,
                 const onnx_load_options_t *options, onnx_mapping_t *out) {
  out->was = *st;
  if (!S_ISREG(st->st_mode)) {
    out->how = MAPPING_READ;
    return read_all(fd, options->limits.file_bytes, 1 << 16, out);
  }
  uint64_t size = (uint64_t)st->st_size;
  if (size > 0 && (options->never_map || size <= MOST_READ)) {
    out->how = MAPPING_READ;
    return read_all(fd, size, (size_t)size + 1, out);
  }
  out->how = MAPPING_MAPPED;
  if (st->st_size == 0) return true;
  out->length = (size_t)st->st_size;
  void *bytes = mmap(NULL, out->length, PROT_READ, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) return false;
  out->bytes = bytes;
  return true;
}

/* Adds an empty mapping of that name; NULL with errno set. */
static onnx_mapping_t *add_mapping(onnx_store_t *store, const char *name) {
  if (store->n_mappings == store->mapping_capacity) {
    size_t capacity =
        store->mapping_capacity == 0 ? 16 : 2 * store->mapping_capacity;
    onnx_mapping_t **grown =
        realloc(store->mappings, capacity * sizeof *store->mappings);
    if (grown == NULL) return NULL;
    store->mappings = grown;
    store->mapping_capacity = capacity;
  }
  onnx_mapping_t *mapping = calloc(1, sizeof *mapping);
  if (mapping == NULL) return NULL;
  mapping->how = MAPPING_BORROWED;
  mapping->name = strdup(name);
  if (mapping->name == NULL) {
    free(mapping);
    return NULL;
  }
  store->mappings[store->n_mappings++] = mapping;
  return mapping;
}

void onnx_store_each_file(const onnx_store_t *store,
                          void (*tell)(void *user, const char *name),
                          void *user) {
  for (size_t i = 0; i < store->n_mappings; i++)
    tell(user, store->mappings[i]->name);
}

void onnx_store_each_mapping(const onnx_store_t *store,
                             void (*tell)(void *user, const void *bytes,
                                          size_t size),
                             void *user) {
  for (size_t i = 0; i < store->n_mappings; i++)
    if (store->mappings[i]->how == MAPPING_MAPPED)
      tell(user, store->mappings[i]->bytes, store->mappings[i]->length);
}

onnx_mapping_t *onnx_map(onnx_store_t *store, int fd, const struct stat *st,
                         const char *name) {
  onnx_mapping_t *mapping = add_mapping(store, name);
  if (mapping == NULL) return NULL;
  if (fill(fd, st, &store->options, mapping)) return mapping;
  int error = errno;
  store->n_mappings--;
  mapping->how = MAPPING_BORROWED; /* nothing to let go of */
  release(mapping);
  errno = error;
  return NULL;
}

/* What keeps a file from being mapped. Reporting it may leave through the
 * recovery point: not while the file is open. */
typedef enum { OPEN_FINE, OPEN_FAILED, OPEN_NO_FILE, OPEN_UNREADABLE } opened_t;

static opened_t open_and_map(onnx_store_t *store, const char *path,
                             struct stat *out_st,
                             const onnx_mapping_t **out_mapping) {
  opened_t how = OPEN_FINE;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return OPEN_FAILED;
  if (fstat(fd, out_st) != 0) {
    how = OPEN_FAILED;
  } else if (!S_ISREG(out_st->st_mode) && !S_ISFIFO(out_st->st_mode)) {
    how = OPEN_NO_FILE;
  } else {
    *out_mapping = onnx_map(store, fd, out_st, path);
    if (*out_mapping == NULL) how = OPEN_UNREADABLE;
  }
  int error = errno;
  close(fd);
  errno = error;
  return how;
}

moec_status_t onnx_open(onnx_store_t *store, const char *path,
                        diag_sink_t *diag, const onnx_mapping_t **out_mapping) {
  const ir_loc_t nowhere = {0};
  struct stat st;
  *out_mapping = NULL;
  opened_t how = open_and_map(store, path, &st, out_mapping);
  if (how == OPEN_FINE) return MOEC_OK;
  if (how == OPEN_NO_FILE)
    return diag_error(
        diag, nowhere, MOEC_E_IO, "'%s' is %s", path,
        S_ISDIR(st.st_mode) ? "a directory, not a file" : "not a regular file");
  return diag_error(diag, nowhere,
                    errno == ENOMEM ? MOEC_E_NO_MEMORY : MOEC_E_IO,
                    "cannot %s '%s': %s", how == OPEN_FAILED ? "open" : "read",
                    path, strerror(errno));
}

const char *onnx_directory_of(arena_t *arena, const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return ".";
  if (slash == path) return "/";
  return arena_strndup(arena, path, (size_t)(slash - path));
}

moec_status_t onnx_expand(onnx_store_t *store, uint64_t bytes, ir_loc_t loc,
                          diag_sink_t *diag) {
  uint64_t limit = store->options.limits.expanded_bytes;
  if (bytes > limit - store->expanded_bytes)
    return diag_error(diag, loc, MOEC_E_LIMIT,
                      "tensor takes %llu bytes more than in the file; with "
                      "others before it that exceeds the limit of %llu",
                      (unsigned long long)bytes, (unsigned long long)limit);
  store->expanded_bytes += bytes;
  return MOEC_OK;
}
