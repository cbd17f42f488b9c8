/* How NumPy spells element types; shared by the reader and the writer. */
#ifndef TOOLS_NPY_TYPE_H
#define TOOLS_NPY_TYPE_H

#include "ir/ir.h"

typedef struct npy_type {
  dtype_t dtype; /* DT_NONE: void */
  size_t bytes;  /* of an element, not 0 */
  unsigned unit; /* bytes whose order depends on the machine */
  bool big_endian;
} npy_type_t;

typedef enum { NPY_KNOWN, NPY_UNSUPPORTED, NPY_MALFORMED } npy_known_t;

/* Reads "<f4". */
npy_known_t npy_type_parse(const char *word, npy_type_t *out);

/* "<f4" for a type; for types that NumPy lacks "<V2" or "|V1"; NULL for strings
 * (whose spelling has a length). */
const char *npy_type_spelling(dtype_t dtype);

/* Appends a code point; false if there is none of that number. */
bool npy_append_utf8(text_t *out, uint32_t code);
/* Reads a code point at *text, which is not at its end, and steps over it;
 * false if it is not well-formed. */
bool npy_next_utf8(const char **text, uint32_t *out_code);

#endif
