/* NumPy's spellings of element types, and its characters. */
#include "tools/npy_type.h"

#include <stdlib.h>
#include <string.h>

static const struct spelling {
  dtype_t dtype;
  const char *text;
  unsigned unit;
} spellings[] = {
    {DT_F16, "<f2", 2}, {DT_F32, "<f4", 4},   {DT_F64, "<f8", 8},
    {DT_I8, "|i1", 1},  {DT_I16, "<i2", 2},   {DT_I32, "<i4", 4},
    {DT_I64, "<i8", 8}, {DT_U8, "|u1", 1},    {DT_U16, "<u2", 2},
    {DT_U32, "<u4", 4}, {DT_U64, "<u8", 8},   {DT_BOOL, "|b1", 1},
    {DT_C64, "<c8", 4}, {DT_C128, "<c16", 8},
};
enum { N_SPELLINGS = sizeof spellings / sizeof spellings[0] };

const char *npy_type_spelling(dtype_t dtype) {
  for (unsigned i = 0; i < N_SPELLINGS; i++)
    if (spellings[i].dtype == dtype) return spellings[i].text;
  if (dtype == DT_STR) return NULL;
  return dtype_bits(dtype) > 8 ? "<V2" : "|V1";
}

npy_known_t npy_type_parse(const char *word, npy_type_t *out) {
  *out = (npy_type_t){0};
  if (strchr("<>|=", word[0]) == NULL || word[0] == '\0') return NPY_MALFORMED;
  const char kind = word[1];
  for (unsigned i = 0; i < N_SPELLINGS; i++) {
    if (strcmp(spellings[i].text + 1, word + 1) != 0) continue;
    *out = (npy_type_t){spellings[i].dtype, dtype_bits(spellings[i].dtype) / 8,
                        spellings[i].unit, word[0] == '>'};
    return NPY_KNOWN;
  }
  if (kind == '\0' || strchr("biufcmMOV", kind) != NULL) {
    /* Voids of 1 and 2 bytes may be small floats. */
    if (strcmp(word + 1, "V1") != 0 && strcmp(word + 1, "V2") != 0)
      return kind == '\0' ? NPY_MALFORMED : NPY_UNSUPPORTED;
    *out = (npy_type_t){DT_NONE, (size_t)(word[2] - '0'), 1, false};
    return NPY_KNOWN;
  }
  char *end = NULL;
  const bool digits = word[2] >= '1' && word[2] <= '9';
  const unsigned long n = digits ? strtoul(word + 2, &end, 10) : 0;
  if ((kind != 'U' && kind != 'S') || !digits || *end != '\0' || n > INT32_MAX)
    return NPY_MALFORMED;
  const unsigned unit = kind == 'U' ? 4 : 1;
  *out = (npy_type_t){DT_STR, n * unit, unit, word[0] == '>'};
  return NPY_KNOWN;
}

bool npy_append_utf8(text_t *out, uint32_t code) {
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
  char bytes[4];
  unsigned n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (unsigned i = n; i-- > 1; code >>= 6)
    bytes[i] = (char)(0x80 | (code & 0x3f));
  bytes[0] = (char)(leads[n] | code);
  text_append(out, bytes, n);
  return true;
}

bool npy_next_utf8(const char **text, uint32_t *out_code) {
  const unsigned char *at = (const unsigned char *)*text;
  const unsigned c = at[0];
  if (c < 0x80) {
    *out_code = c;
    (*text)++;
    return true;
  }
  const unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
  if (c < 0xc2 || c > 0xf4) return false;
  uint32_t code = c & (0x3fu >> more);
  for (unsigned i = 1; i <= more; i++) { /* a NUL is no continuation */
    if ((at[i] & 0xc0) != 0x80) return false;
    code = code << 6 | (at[i] & 0x3f);
  }
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  if (code < least[more] || code > 0x10ffff ||
      (code >= 0xd800 && code < 0xe000))
    return false;
  *out_code = code;
  *text += more + 1;
  return true;
}
