/* Reading of .npz files. Nothing in them is believed. The format is that of
 * PKWARE's APPNOTE.TXT: an end record, which leads to a directory, whose
 * entries lead to the files; sizes of 64 bits are in records of their own. */
#include "tools/npz.h"

#include <string.h>
#define ZLIB_CONST /* what is read is const */
#include <zlib.h>

enum {
  END_BYTES = 22,
  END64_BYTES = 56,
  LOCATOR64_BYTES = 20,
  ENTRY_BYTES = 46,
  LOCAL_BYTES = 30,
  MOST_COMMENT = 0xffff,
  STORED = 0,
  DEFLATED = 8,
  ENCRYPTED = 1,        /* flag */
  EXTRA_64 = 1,         /* record with sizes of 64 bits */
  MOST_EXPANSION = 1032 /* of deflate */
};

typedef struct reader {
  arena_t *arena;
  diag_sink_t *diag;
  const unsigned char *bytes;
  uint64_t length;
} reader_t;

static uint64_t number(const reader_t *r, uint64_t at, unsigned n_bytes) {
  uint64_t value = 0;
  for (unsigned i = n_bytes; i-- > 0;) value = value << 8 | r->bytes[at + i];
  return value;
}

static bool is_record(const reader_t *r, uint64_t at, uint64_t bytes,
                      uint32_t signature) {
  return at <= r->length && bytes <= r->length - at &&
         number(r, at, 4) == signature;
}

static moec_status_t malformed(const reader_t *r, uint64_t at,
                               const char *what) {
  const ir_loc_t loc = {
      .where = arena_printf(r->arena, "byte %llu", (unsigned long long)at)};
  return diag_error(r->diag, loc, MOEC_E_INVALID_MODEL, "%s", what);
}

static moec_status_t unsupported(const reader_t *r, uint64_t at,
                                 const char *what) {
  const ir_loc_t loc = {
      .where = arena_printf(r->arena, "byte %llu", (unsigned long long)at)};
  return diag_error(r->diag, loc, MOEC_E_UNSUPPORTED, "%s", what);
}

/* ---- The directory ------------------------------------------------------- */

typedef struct directory {
  uint64_t offset, bytes, n_entries;
} directory_t;

/* The end record lies before a comment of unknown length. */
static bool find_end(const reader_t *r, uint64_t *out_at) {
  for (uint64_t i = 0; i <= MOST_COMMENT && END_BYTES + i <= r->length; i++) {
    const uint64_t at = r->length - END_BYTES - i;
    if (is_record(r, at, END_BYTES, 0x06054b50) && number(r, at + 20, 2) == i) {
      *out_at = at;
      return true;
    }
  }
  return false;
}

static moec_status_t find_directory(const reader_t *r, directory_t *out) {
  uint64_t at;
  if (!find_end(r, &at)) return malformed(r, r->length, "not a .npz file");
  out->n_entries = number(r, at + 10, 2);
  out->bytes = number(r, at + 12, 4);
  out->offset = number(r, at + 16, 4);
  if (at >= LOCATOR64_BYTES &&
      is_record(r, at - LOCATOR64_BYTES, LOCATOR64_BYTES, 0x07064b50)) {
    const uint64_t end64 = number(r, at - LOCATOR64_BYTES + 8, 8);
    if (!is_record(r, end64, END64_BYTES, 0x06064b50))
      return malformed(r, at - LOCATOR64_BYTES,
                       "there is no end record of 64 bits where it should be");
    out->n_entries = number(r, end64 + 32, 8);
    out->bytes = number(r, end64 + 40, 8);
    out->offset = number(r, end64 + 48, 8);
  }
  if (out->offset > at || out->bytes > at - out->offset)
    return malformed(r, at, "the directory exceeds the file");
  if (out->n_entries > out->bytes / ENTRY_BYTES)
    return malformed(r, at, "the directory is too short for its entries");
  return MOEC_OK;
}

/* ---- Entries ------------------------------------------------------------- */

/* Takes sizes of 64 bits from the extra field [at, end) in place of those that
 * are all ones. */
static moec_status_t read_extra(const reader_t *r, uint64_t at, uint64_t end,
                                npz_array_t *array) {
  uint64_t *const fields[] = {&array->unpacked, &array->size, &array->offset};
  while (end - at >= 4) {
    const uint64_t id = number(r, at, 2), size = number(r, at + 2, 2);
    at += 4;
    if (size > end - at) break;
    uint64_t left = size, from = at;
    for (unsigned i = 0; id == EXTRA_64 && i < 3; i++) {
      if (*fields[i] != UINT32_MAX) continue;
      if (left < 8) return malformed(r, at, "a size of 64 bits is missing");
      *fields[i] = number(r, from, 8);
      from += 8;
      left -= 8;
    }
    at += size;
  }
  return MOEC_OK;
}

/* From the entry's own header to its bytes. */
static moec_status_t find_bytes(const reader_t *r, npz_array_t *array) {
  const uint64_t at = array->offset;
  if (!is_record(r, at, LOCAL_BYTES, 0x04034b50))
    return malformed(r, at, "there is no file where the directory says");
  const uint64_t skip =
      LOCAL_BYTES + number(r, at + 26, 2) + number(r, at + 28, 2);
  if (skip > r->length - at || array->size > r->length - at - skip)
    return malformed(r, at, "a file exceeds the archive");
  array->offset = at + skip;
  return MOEC_OK;
}

static bool is_npy(const reader_t *r, uint64_t at, uint64_t length) {
  return length > 4 && memcmp(r->bytes + at + length - 4, ".npy", 4) == 0 &&
         memchr(r->bytes + at, '\0', (size_t)length) == NULL;
}

/* The entry at *at; steps over it. */
static moec_status_t read_entry(const reader_t *r, uint64_t end, uint64_t *at,
                                npz_t *out) {
  const uint64_t here = *at;
  if (end - here < ENTRY_BYTES || !is_record(r, here, ENTRY_BYTES, 0x02014b50))
    return malformed(r, here, "there is no entry of the directory");
  const uint64_t name = number(r, here + 28, 2),
                 extra = number(r, here + 30, 2);
  const uint64_t comment = number(r, here + 32, 2);
  if (name + extra + comment > end - here - ENTRY_BYTES)
    return malformed(r, here, "an entry exceeds the directory");
  *at = here + ENTRY_BYTES + name + extra + comment;
  const uint64_t name_at = here + ENTRY_BYTES;
  if (!is_npy(r, name_at, name)) return MOEC_OK;
  npz_array_t array = {.method = (uint16_t)number(r, here + 10, 2),
                       .crc = (uint32_t)number(r, here + 16, 4),
                       .size = number(r, here + 20, 4),
                       .unpacked = number(r, here + 24, 4),
                       .offset = number(r, here + 42, 4)};
  array.name = arena_strndup(r->arena, (const char *)r->bytes + name_at,
                             (size_t)name - 4);
  MOEC_TRY(read_extra(r, name_at + name, name_at + name + extra, &array));
  if ((number(r, here + 8, 2) & ENCRYPTED) != 0)
    return unsupported(r, here, "encrypted files are not supported");
  if (array.method != STORED && array.method != DEFLATED)
    return unsupported(r, here, "the method of compression is not supported");
  MOEC_TRY(find_bytes(r, &array));
  out->arrays[out->n_arrays++] = array;
  return MOEC_OK;
}

moec_status_t npz_open(arena_t *arena, const void *bytes, size_t length,
                       diag_sink_t *diag, npz_t *out) {
  const reader_t r = {arena, diag, bytes, length};
  directory_t directory;
  *out = (npz_t){.bytes = bytes, .length = length};
  MOEC_TRY(find_directory(&r, &directory));
  out->arrays = ARENA_ARRAY(arena, npz_array_t, (size_t)directory.n_entries);
  uint64_t at = directory.offset;
  for (uint64_t i = 0; i < directory.n_entries; i++)
    MOEC_TRY(read_entry(&r, directory.offset + directory.bytes, &at, out));
  return MOEC_OK;
}

const npz_array_t *npz_find(const npz_t *npz, const char *name) {
  for (size_t i = 0; i < npz->n_arrays; i++)
    if (strcmp(npz->arrays[i].name, name) == 0) return &npz->arrays[i];
  return NULL;
}

/* ---- Arrays -------------------------------------------------------------- */

/* zlib's memory comes from the arena, so that nothing is lost by leaving. */
static void *allocate(void *arena, unsigned n, unsigned size) {
  return arena_alloc_array(arena, n, size);
}

static void release(void *arena, void *memory) { (void)arena, (void)memory; }

/* Inflates all of a buffer into another of exactly the right size. */
static bool inflate_all(arena_t *arena, const unsigned char *from,
                        uint64_t size, unsigned char *to, uint64_t unpacked) {
  enum { RAW = -15, PIECE = 1 << 30 };
  z_stream z = {.zalloc = allocate, .zfree = release, .opaque = arena};
  int status = inflateInit2(&z, RAW);
  z.next_in = from;
  z.next_out = to;
  while (status == Z_OK) {
    const uint64_t in = size - (uint64_t)(z.next_in - from);
    const uint64_t out = unpacked - (uint64_t)(z.next_out - to);
    z.avail_in = (unsigned)(in < PIECE ? in : PIECE);
    z.avail_out = (unsigned)(out < PIECE ? out : PIECE);
    status = inflate(&z, Z_NO_FLUSH);
  }
  const bool done = status == Z_STREAM_END &&
                    (uint64_t)(z.next_in - from) == size &&
                    (uint64_t)(z.next_out - to) == unpacked;
  inflateEnd(&z);
  return done;
}

static uint32_t checksum(const unsigned char *bytes, uint64_t size) {
  return (uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, (size_t)size);
}

moec_status_t npz_read(arena_t *arena, const npz_t *npz,
                       const npz_array_t *array, dtype_t expected,
                       diag_sink_t *diag, onnx_value_t **out_value) {
  const reader_t r = {arena, diag, (const unsigned char *)npz->bytes,
                      npz->length};
  const unsigned char *bytes = r.bytes + array->offset;
  *out_value = NULL;
  if (array->method == DEFLATED) {
    /* More than that cannot come out of it; do not ask for the memory. */
    if (array->unpacked / MOST_EXPANSION > array->size)
      return malformed(&r, array->offset, "the size of a file is a lie");
    unsigned char *unpacked = arena_alloc(arena, (size_t)array->unpacked + 1);
    if (!inflate_all(arena, bytes, array->size, unpacked, array->unpacked))
      return malformed(&r, array->offset, "a file is damaged");
    bytes = unpacked;
  } else if (array->size != array->unpacked) {
    return malformed(&r, array->offset, "a stored file has two sizes");
  }
  if (checksum(bytes, array->unpacked) != array->crc)
    return malformed(&r, array->offset, "the checksum of a file is wrong");
  return npy_decode(arena, bytes, (size_t)array->unpacked, expected, diag,
                    out_value);
}
