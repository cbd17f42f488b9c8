/* Reading of .npy files. Nothing in them is believed. */
#include "tools/npy.h"

#include <ctype.h>
#include <string.h>

#include "tools/npy_type.h"

/* A file being read: first its header, then its elements. */
typedef struct npy_reader {
  arena_t *arena;
  diag_sink_t *diag;
  const char *bytes;
  size_t length;
  size_t at, end; /* next byte of the header; where the header ends */
  npy_type_t type;
  bool has_type, has_order, has_shape;
  bool fortran;
  unsigned rank;
  int64_t dims[IR_MAX_RANK];
  uint64_t count;
} npy_reader_t;

static ir_loc_t place(const npy_reader_t *r) {
  return (ir_loc_t){.where = arena_printf(r->arena, "byte %zu", r->at)};
}

static moec_status_t malformed(const npy_reader_t *r, const char *what) {
  return diag_error(r->diag, place(r), MOEC_E_INVALID_MODEL, "%s", what);
}

/* ---- The header: a dictionary as Python writes it ------------------------ */

static void skip_space(npy_reader_t *r) {
  while (r->at < r->end && (r->bytes[r->at] == ' ' || r->bytes[r->at] == '\n'))
    r->at++;
}

static bool accept(npy_reader_t *r, const char *word) {
  skip_space(r);
  const size_t n = strlen(word);
  if (r->end - r->at < n || memcmp(r->bytes + r->at, word, n) != 0)
    return false;
  r->at += n;
  return true;
}

/* A quoted word of at most 31 characters without escapes. */
static moec_status_t read_word(npy_reader_t *r, char word[32]) {
  skip_space(r);
  const char quote = r->at < r->end ? r->bytes[r->at] : '\0';
  if (quote != '\'' && quote != '"')
    return malformed(r, "expected a quoted word in the header");
  const size_t start = ++r->at;
  while (r->at < r->end && r->bytes[r->at] != quote) r->at++;
  const size_t n = r->at - start;
  if (r->at == r->end || n > 31 || memchr(r->bytes + start, '\\', n) != NULL ||
      memchr(r->bytes + start, '\0', n) != NULL)
    return malformed(r, "a word in the header is not what NumPy writes");
  memcpy(word, r->bytes + start, n);
  word[n] = '\0';
  r->at++;
  return MOEC_OK;
}

static moec_status_t read_dim(npy_reader_t *r, int64_t *out) {
  int64_t value = 0;
  const size_t start = r->at;
  for (; r->at < r->end && isdigit((unsigned char)r->bytes[r->at]); r->at++)
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, r->bytes[r->at] - '0', &value))
      return malformed(r, "a dimension exceeds 64 bits");
  if (r->at == start)
    return malformed(r, "expected a dimension that is not negative");
  if (r->at < r->end && r->bytes[r->at] == 'L') r->at++; /* Python 2 */
  *out = value;
  return MOEC_OK;
}

static moec_status_t read_shape(npy_reader_t *r) {
  if (!accept(r, "(")) return malformed(r, "expected a tuple of dimensions");
  r->rank = 0;
  while (!accept(r, ")")) {
    if (r->rank == IR_MAX_RANK)
      return diag_error(r->diag, place(r), MOEC_E_UNSUPPORTED,
                        "more than %d dimensions", IR_MAX_RANK);
    MOEC_TRY(read_dim(r, &r->dims[r->rank++]));
    if (accept(r, ",")) continue;
    if (r->rank == 1 || !accept(r, ")"))
      return malformed(r, "expected a comma after a dimension");
    break;
  }
  r->has_shape = true;
  return MOEC_OK;
}

static moec_status_t read_descr(npy_reader_t *r) {
  char word[32];
  if (accept(r, "["))
    return diag_error(r->diag, place(r), MOEC_E_UNSUPPORTED,
                      "arrays of records are not supported");
  MOEC_TRY(read_word(r, word));
  r->has_type = true;
  switch (npy_type_parse(word, &r->type)) {
    case NPY_KNOWN:
      return MOEC_OK;
    case NPY_UNSUPPORTED:
      return diag_error(r->diag, place(r), MOEC_E_UNSUPPORTED,
                        "arrays of type '%s' are not supported", word);
    default:
      return malformed(r, "the type of the elements is not what NumPy writes");
  }
}

static moec_status_t read_entry(npy_reader_t *r) {
  char key[32];
  MOEC_TRY(read_word(r, key));
  if (!accept(r, ":")) return malformed(r, "expected ':' after a key");
  if (strcmp(key, "descr") == 0 && !r->has_type) return read_descr(r);
  if (strcmp(key, "shape") == 0 && !r->has_shape) return read_shape(r);
  if (strcmp(key, "fortran_order") == 0 && !r->has_order) {
    r->has_order = true;
    r->fortran = accept(r, "True");
    return r->fortran || accept(r, "False")
               ? MOEC_OK
               : malformed(r, "expected True or False");
  }
  return malformed(r, "a key of the header is unknown or there twice");
}

static moec_status_t read_dictionary(npy_reader_t *r) {
  if (!accept(r, "{")) return malformed(r, "expected '{' in the header");
  while (!accept(r, "}")) {
    MOEC_TRY(read_entry(r));
    if (accept(r, ",")) continue;
    if (accept(r, "}")) break;
    return malformed(r, "expected ',' or '}' in the header");
  }
  skip_space(r);
  if (r->at != r->end) return malformed(r, "the header goes on after its end");
  if (!r->has_type || !r->has_order || !r->has_shape)
    return malformed(r, "the header lacks descr, fortran_order or shape");
  return MOEC_OK;
}

static moec_status_t read_header(npy_reader_t *r) {
  const unsigned char *u = (const unsigned char *)r->bytes;
  if (r->length < 10 || memcmp(u, "\x93NUMPY", 6) != 0)
    return malformed(r, "not a .npy file");
  if (u[6] < 1 || u[6] > 3)
    return diag_error(r->diag, place(r), MOEC_E_UNSUPPORTED,
                      "format version %u is not supported", u[6]);
  size_t bytes = u[8] | (size_t)u[9] << 8;
  r->at = 10;
  if (u[6] > 1) {
    if (r->length < 12) return malformed(r, "the file ends inside its header");
    bytes |= (size_t)u[10] << 16 | (size_t)u[11] << 24;
    r->at = 12;
  }
  if (bytes > r->length - r->at)
    return malformed(r, "the header exceeds the file");
  r->end = r->at + bytes;
  return read_dictionary(r);
}

/* ---- Elements ------------------------------------------------------------ */

static moec_status_t check_size(npy_reader_t *r) {
  uint64_t bytes = r->type.bytes;
  bool too_large = false;
  r->count = 1;
  /* Zeros count as ones, so that no product of dimensions can overflow later.
   */
  for (unsigned i = 0; i < r->rank; i++)
    too_large |= __builtin_mul_overflow(
        bytes, (uint64_t)(r->dims[i] > 0 ? r->dims[i] : 1), &bytes);
  if (too_large || bytes > INT64_MAX)
    return malformed(r, "the dimensions exceed 64 bits");
  for (unsigned i = 0; i < r->rank; i++) r->count *= (uint64_t)r->dims[i];
  const uint64_t have = r->length - r->at;
  if (r->count * r->type.bytes == have) return MOEC_OK;
  return diag_error(r->diag, place(r), MOEC_E_INVALID_MODEL,
                    "found %llu bytes of elements, expected %llu",
                    (unsigned long long)have,
                    (unsigned long long)r->count * r->type.bytes);
}

/* Copies the elements in C order from a file that holds them in Fortran order,
 * where the stride of a dimension is the product of those before it. */
static const char *transpose(const npy_reader_t *r) {
  const char *from = r->bytes + r->at;
  const size_t item = r->type.bytes;
  char *to = arena_alloc(r->arena, (size_t)r->count * item);
  uint64_t stride[IR_MAX_RANK], index[IR_MAX_RANK] = {0}, offset = 0;
  for (unsigned i = 0; i < r->rank; i++)
    stride[i] = i == 0 ? 1 : stride[i - 1] * (uint64_t)r->dims[i - 1];
  for (uint64_t n = 0; n < r->count; n++) {
    memcpy(to + n * item, from + offset * item, item);
    for (unsigned i = r->rank; i-- > 0;) {
      offset += stride[i];
      if (++index[i] < (uint64_t)r->dims[i]) break;
      offset -= stride[i] * index[i];
      index[i] = 0;
    }
  }
  return to;
}

/* Swaps the bytes of every unit (an element, half of a complex one, or a
 * character). */
static const char *swap(const npy_reader_t *r, const char *from) {
  const size_t bytes = (size_t)r->count * r->type.bytes, unit = r->type.unit;
  char *to = arena_alloc(r->arena, bytes);
  for (size_t i = 0; i < bytes; i += unit)
    for (size_t j = 0; j < unit; j++) to[i + j] = from[i + unit - 1 - j];
  return to;
}

/* Code points in 32 bits each, or bytes, both padded with zeros. */
static moec_status_t read_string(const npy_reader_t *r, const char *item,
                                 const char **out) {
  text_t text;
  text_init(&text, r->arena);
  const unsigned unit = r->type.unit;
  size_t n = r->type.bytes / unit;
  static const char zeros[4];
  while (n > 0 && memcmp(item + (n - 1) * unit, zeros, unit) == 0) n--;
  for (size_t i = 0; i < n; i++) {
    uint32_t code = (unsigned char)item[i];
    if (unit == 4) memcpy(&code, item + 4 * i, 4);
    if (code == 0) return malformed(r, "a string has a zero inside");
    if (unit == 1)
      text_append(&text, item + i, 1);
    else if (!npy_append_utf8(&text, code))
      return malformed(r, "a string has a code point that does not exist");
  }
  *out = text.data;
  return MOEC_OK;
}

static moec_status_t read_strings(const npy_reader_t *r, const char *items,
                                  ir_data_t *out) {
  const char **strings = ARENA_ARRAY(r->arena, const char *, (size_t)r->count);
  for (size_t i = 0; i < r->count; i++)
    MOEC_TRY(read_string(r, items + i * r->type.bytes, &strings[i]));
  out->strings = strings;
  out->size = dtype_bytes(DT_STR, r->count);
  return MOEC_OK;
}

static const char *pack_elements(const npy_reader_t *r, dtype_t dtype,
                                 const char *from) {
  const unsigned bits = dtype_bits(dtype);
  char *to = arena_alloc(r->arena, (size_t)dtype_bytes(dtype, r->count));
  for (size_t i = 0; i < r->count; i++) {
    const size_t bit = i * bits;
    const unsigned element = (unsigned char)from[i] & ((1u << bits) - 1);
    to[bit / 8] = (char)((unsigned char)to[bit / 8] | element << bit % 8);
  }
  return to;
}

static const char *make_bools(const npy_reader_t *r, const char *from) {
  char *to = arena_alloc(r->arena, (size_t)r->count);
  for (size_t i = 0; i < r->count; i++) to[i] = from[i] != 0;
  return to;
}

static moec_status_t read_elements(npy_reader_t *r, dtype_t dtype,
                                   ir_data_t *out) {
  const char *items = r->bytes + r->at;
  if (r->fortran && r->rank > 1) items = transpose(r);
  if (r->type.big_endian && r->type.unit > 1) items = swap(r, items);
  if (dtype == DT_STR) return read_strings(r, items, out);
  if (dtype == DT_BOOL) items = make_bools(r, items);
  if (dtype_bits(dtype) < 8) items = pack_elements(r, dtype, items);
  out->bytes = items;
  out->size = dtype_bytes(dtype, r->count);
  return MOEC_OK;
}

static moec_status_t resolve_void(const npy_reader_t *r, dtype_t expected,
                                  dtype_t *out) {
  *out = r->type.dtype;
  if (*out != DT_NONE) return MOEC_OK;
  const unsigned bits = expected == DT_NONE ? 0 : dtype_bits(expected);
  *out = expected;
  if (bits != 0 && expected != DT_STR && (bits + 7) / 8 == r->type.bytes)
    return MOEC_OK;
  return diag_error(r->diag, place(r), MOEC_E_UNSUPPORTED,
                    "the elements are %u bytes of no known type",
                    (unsigned)r->type.bytes);
}

moec_status_t npy_decode(arena_t *arena, const void *bytes, size_t length,
                         dtype_t expected, diag_sink_t *diag,
                         onnx_value_t **out_value) {
  npy_reader_t *r = ARENA_NEW(arena, npy_reader_t);
  *r = (npy_reader_t){
      .arena = arena, .diag = diag, .bytes = bytes, .length = length};
  dtype_t dtype = DT_NONE;
  *out_value = NULL;
  MOEC_TRY(read_header(r));
  MOEC_TRY(resolve_void(r, expected, &dtype));
  MOEC_TRY(check_size(r));
  onnx_value_t *value = ARENA_NEW(arena, onnx_value_t);
  value->kind = IR_TENSOR;
  value->dtype = dtype;
  value->rank = r->rank;
  value->dims = r->dims;
  value->data = ARENA_NEW(arena, ir_data_t);
  MOEC_TRY(read_elements(r, dtype, value->data));
  *out_value = value;
  return MOEC_OK;
}
