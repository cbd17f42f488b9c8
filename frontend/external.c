/* External data of tensors. A model may only reach regular files with one name
 * in or below its own directory, without symbolic links on the way; with an
 * external root also files behind links that really lie below that root. What
 * is wrong in the model is MOEC_E_INVALID_MODEL, what is wrong in the file
 * system MOEC_E_IO. */
#include "frontend/external.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontend/sha1.h"
#include "frontend/store.h"
#include "frontend/tensor.h"

/* ---- Opening ------------------------------------------------------------ */

const char *onnx_location_fault(const char *location) {
  size_t length = strlen(location);
  if (length == 0) return "location is empty";
  if (length >= PATH_MAX) return "location is too long";
  if (location[0] == '/') return "location is an absolute path";
  if (location[length - 1] == '/') return "location is a directory";
  for (const char *part = location; *part != '\0';) {
    size_t n = strcspn(part, "/");
    if (n == 2 && part[0] == '.' && part[1] == '.')
      return "location leaves the directory of the model";
    part += n;
    part += strspn(part, "/");
  }
  return NULL;
}

/* A pipe would block the opening of its reader. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

static int open_with_openat2(int directory_fd, const char *path) {
  struct open_how how = {
      .flags = OPEN_FLAGS,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
  int fd;
  unsigned tries = 0;
  do /* EAGAIN: something was renamed meanwhile */
    fd = (int)syscall(SYS_openat2, directory_fd, path, &how, sizeof how);
  while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++tries < 100);
  return fd;
}

/* Goes down one component at a time, refusing links. */
static int open_stepwise(int directory_fd, const char *path) {
  int at = directory_fd, fd = -1;
  for (const char *part = path;;) {
    char name[NAME_MAX + 1];
    size_t n = strcspn(part, "/");
    const char *rest = part + n + strspn(part + n, "/");
    bool last = *rest == '\0';
    if (n > NAME_MAX) {
      errno = ENAMETOOLONG;
      fd = -1;
    } else {
      memcpy(name, part, n);
      name[n] = '\0';
      fd = openat(
          at, name,
          last ? OPEN_FLAGS : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    int error = errno;
    if (at != directory_fd) close(at);
    errno = error;
    if (fd < 0 || last) return fd;
    at = fd;
    part = rest;
  }
}

int onnx_open_beneath(int directory_fd, const char *path, bool use_openat2) {
  if (use_openat2) {
    int fd = open_with_openat2(directory_fd, path);
    /* Old kernels do not have the call, some sandboxes forbid it. */
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
  }
  return open_stepwise(directory_fd, path);
}

/* Opens path below directory; -1 with errno set. */
static int open_in(const char *directory, const char *path) {
  int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return -1;
  int fd = onnx_open_beneath(root, path, true);
  int error = errno;
  close(root);
  errno = error;
  return fd;
}

/* Where directory/location really lies, relative to the external root; NULL if
 * it lies elsewhere or does not exist. */
static const char *path_in_root(const onnx_store_t *store, arena_t *arena,
                                const char *directory, const char *location,
                                const char **out_root) {
  char root[PATH_MAX], path[PATH_MAX];
  const char *joined = arena_printf(arena, "%s/%s", directory, location);
  if (realpath(store->external_root, root) == NULL) return NULL;
  if (realpath(joined, path) == NULL) return NULL;
  size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);
  if (strncmp(path, root, n) != 0 || path[n] != '/') return NULL;
  *out_root = arena_strdup(arena, root);
  return arena_strdup(arena, path + n + 1);
}

typedef struct opened {
  int fd;
  struct stat st;
} opened_t;

static moec_status_t fail_link(const onnx_fetch_t *fetch, const char *location,
                               const char *kind) {
  moec_status_t status =
      FETCH_FAIL(fetch, MOEC_E_IO, "external data '%s' is %s", location, kind);
  if (fetch->model->store->external_root == NULL)
    diag_note(fetch->diag, (ir_loc_t){0},
              "--external-data-root=DIR accepts links to files inside DIR");
  else
    diag_note(fetch->diag, (ir_loc_t){0}, "it leads out of '%s'",
              fetch->model->store->external_root);
  return status;
}

/* Opens without following links, then, where the user allows it, by where the
 * file really lies. Hard links are as good as symbolic ones for bringing in
 * somebody else's file, and as useful for caches. */
static moec_status_t open_location(const onnx_fetch_t *fetch,
                                   const char *location, opened_t *out) {
  const onnx_store_t *store = fetch->model->store;
  arena_t *arena = fetch->model->arena;
  const char *directory = fetch->model->directory, *root = NULL, *inside = NULL;
  if (store->external_root != NULL)
    inside = path_in_root(store, arena, directory, location, &root);
  out->fd =
      inside != NULL ? open_in(root, inside) : open_in(directory, location);
  if (out->fd < 0 && (errno == ELOOP || errno == EXDEV))
    return fail_link(fetch, location, "reached by a symbolic link");
  if (out->fd < 0 || fstat(out->fd, &out->st) != 0)
    return FETCH_FAIL(fetch, MOEC_E_IO, "cannot open external data '%s': %s",
                      location, strerror(errno));
  if (!S_ISREG(out->st.st_mode))
    return FETCH_FAIL(fetch, MOEC_E_IO,
                      "external data '%s' is not a regular file", location);
  if (out->st.st_nlink > 1 && inside == NULL)
    return fail_link(fetch, location, "a file with several names (hard links)");
  return MOEC_OK;
}

/* ---- Cache -------------------------------------------------------------- */

static uint64_t hash_text(const char *text) {
  uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
  for (; *text != '\0'; text++)
    hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
  return hash;
}

/* The slot of a name: where it is, or where it belongs. */
static uint32_t *find_slot(onnx_store_t *store, const char *name) {
  size_t mask = store->cache_size - 1;
  for (size_t i = (size_t)hash_text(name) & mask;; i = (i + 1) & mask) {
    uint32_t *slot = &store->cache[i];
    if (*slot == 0 || strcmp(store->mappings[*slot - 1]->name, name) == 0)
      return slot;
  }
}

/* Keeps the table at most half full; only external files are in it, so that
 * it is filled again from itself. False without memory. */
static bool grow_cache(onnx_store_t *store) {
  if (store->cache_size > 2 * (store->n_mappings + 1)) return true;
  uint32_t *old = store->cache;
  size_t old_size = store->cache_size;
  size_t size = old_size == 0 ? 64 : 2 * old_size;
  uint32_t *grown = calloc(size, sizeof *grown);
  if (grown == NULL) return false;
  store->cache = grown;
  store->cache_size = size;
  for (size_t i = 0; i < old_size; i++)
    if (old[i] != 0)
      *find_slot(store, store->mappings[old[i] - 1]->name) = old[i];
  free(old);
  return true;
}

typedef struct location {
  const onnx_fetch_t *fetch;
  const char *text, *name; /* as the model has it; with the directory */
  uint32_t *slot;
  opened_t opened;
} location_t;

static moec_status_t open_and_map(void *user) {
  location_t *l = user;
  onnx_store_t *store = l->fetch->model->store;
  MOEC_TRY(open_location(l->fetch, l->text, &l->opened));
  if (onnx_map(store, l->opened.fd, &l->opened.st, l->name) == NULL)
    return FETCH_FAIL(l->fetch, errno == ENOMEM ? MOEC_E_NO_MEMORY : MOEC_E_IO,
                      "cannot read '%s': %s", l->name, strerror(errno));
  *l->slot = (uint32_t)store->n_mappings;
  return MOEC_OK;
}

static void close_location(void *user) {
  const location_t *l = user;
  if (l->opened.fd >= 0) close(l->opened.fd);
}

static moec_status_t map_location(const onnx_fetch_t *fetch,
                                  const char *location,
                                  onnx_mapping_t **out_mapping) {
  onnx_store_t *store = fetch->model->store;
  location_t l = {.fetch = fetch, .text = location, .opened = {.fd = -1}};
  l.name = arena_printf(fetch->model->arena, "%s/%s", fetch->model->directory,
                        location);
  if (!grow_cache(store))
    return FETCH_FAIL(fetch, MOEC_E_NO_MEMORY, "out of memory");
  l.slot = find_slot(store, l.name);
  if (*l.slot == 0)
    MOEC_TRY(recovery_cleanup(open_and_map, close_location, &l));
  *out_mapping = store->mappings[*l.slot - 1];
  return MOEC_OK;
}

/* ---- Keys --------------------------------------------------------------- */

typedef struct place { /* as the model describes it */
  const char *location;
  uint64_t offset, length;
  bool has_offset, has_length, has_checksum, has_basepath;
  uint8_t sha1[20];
} place_t;

/* Decimal digits only: no sign, no blanks. */
static bool parse_size(const char *text, uint64_t *out) {
  uint64_t value = 0;
  if (*text == '\0') return false;
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9') return false;
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value) ||
        value > INT64_MAX)
      return false;
  }
  *out = value;
  return true;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static bool parse_sha1(const char *text, uint8_t out[20]) {
  if (strlen(text) != 40) return false;
  for (unsigned i = 0; i < 20; i++) {
    int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

static moec_status_t fail_key(const onnx_fetch_t *fetch, const char *key,
                              const char *value, const char *what) {
  return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                    "external data: %s '%.100s' %s", key, value, what);
}

static moec_status_t read_key(const onnx_fetch_t *fetch, const char *key,
                              const char *value, place_t *place) {
  bool again = false, valid = true;
  if (strcmp(key, "location") == 0) {
    again = place->location != NULL;
    place->location = value;
  } else if (strcmp(key, "offset") == 0) {
    again = place->has_offset;
    place->has_offset = true;
    valid = parse_size(value, &place->offset);
  } else if (strcmp(key, "length") == 0) {
    again = place->has_length;
    place->has_length = true;
    valid = parse_size(value, &place->length);
  } else if (strcmp(key, "checksum") == 0) {
    again = place->has_checksum;
    place->has_checksum = true;
    valid = parse_sha1(value, place->sha1);
  } else if (strcmp(key, "basepath") == 0) { /* of the exporter's machine */
    again = place->has_basepath;
    place->has_basepath = true;
  } else {
    return fail_key(fetch, "key", key, "is not known");
  }
  if (again) return fail_key(fetch, "key", key, "is given twice");
  if (!valid)
    return fail_key(fetch, key, value,
                    strcmp(key, "checksum") == 0
                        ? "is not a SHA-1 of 40 hexadecimal digits"
                        : "is not a number of bytes");
  return MOEC_OK;
}

static moec_status_t read_keys(const onnx_fetch_t *fetch, place_t *out) {
  const Onnx__TensorProto *tensor = fetch->tensor;
  for (size_t i = 0; i < tensor->n_external_data; i++)
    MOEC_TRY(read_key(fetch, onnx_str(tensor->external_data[i]->key),
                      onnx_str(tensor->external_data[i]->value), out));
  if (out->location == NULL)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                      "external data has no location");
  if (strstr(out->location, "_ORT_MEM_ADDR_") != NULL)
    return fail_key(fetch, "location", out->location,
                    "refers to another program's memory");
  const char *fault = onnx_location_fault(out->location);
  if (fault != NULL)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL, "external data '%.100s': %s",
                      out->location, fault);
  uint64_t expected = fetch->info.bytes;
  char text[ONNX_TYPE_TEXT];
  if (out->has_length && out->length != expected)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                      "external data has %llu bytes, expected %llu for %s",
                      (unsigned long long)out->length,
                      (unsigned long long)expected,
                      onnx_info_text(&fetch->info, text));
  return MOEC_OK;
}

/* ---- Fetching ----------------------------------------------------------- */

static moec_status_t check_sha1(const onnx_fetch_t *fetch, const place_t *place,
                                onnx_mapping_t *mapping) {
  if (!place->has_checksum || !fetch->model->store->options.verify_checksums)
    return MOEC_OK;
  if (!mapping->verified) {
    onnx_sha1(mapping->bytes, mapping->length, mapping->sha1);
    mapping->verified = true;
  }
  if (memcmp(mapping->sha1, place->sha1, sizeof place->sha1) == 0)
    return MOEC_OK;
  return FETCH_FAIL(fetch, MOEC_E_IO,
                    "external data '%s' does not have the checksum that the "
                    "model gives",
                    place->location);
}

moec_status_t onnx_fetch_external(const onnx_fetch_t *fetch,
                                  const uint8_t **out_bytes) {
  place_t place = {0};
  *out_bytes = NULL;
  MOEC_TRY(read_keys(fetch, &place));
  if (fetch->model->directory == NULL)
    return FETCH_FAIL(fetch, MOEC_E_IO,
                      "external data '%s' of a model that has no directory",
                      place.location);
  onnx_mapping_t *mapping = NULL;
  MOEC_TRY(map_location(fetch, place.location, &mapping));
  MOEC_ASSERT(mapping != NULL);
  uint64_t size = mapping->length, expected = fetch->info.bytes;
  if (place.offset > size || expected > size - place.offset)
    return FETCH_FAIL(fetch, MOEC_E_INVALID_MODEL,
                      "external data '%s' has %llu bytes; the tensor needs "
                      "%llu from byte %llu on",
                      place.location, (unsigned long long)size,
                      (unsigned long long)expected,
                      (unsigned long long)place.offset);
  MOEC_TRY(check_sha1(fetch, &place, mapping));
  *out_bytes = expected == 0 ? NULL : mapping->bytes + place.offset;
  return MOEC_OK;
}
