/* Numbers, strings and tensor data as they are written in the text form. */
#ifndef IR_LITERAL_H
#define IR_LITERAL_H

#include "ir/ir.h"

/* Elements of a constant written in full. Integers have more: inference knows
 * the contents of so many and types may follow from them. */
#define LITERAL_MAX_INLINE 16
#define LITERAL_MAX_INLINE_INTS 64

/* In double quotes; everything but printable ASCII is escaped. */
void literal_print_string(text_t *out, const char *string);
/* The shortest of some decimals that is read back as the same double. */
void literal_print_double(text_t *out, double x);
/* "[1.0, 2.5]", "hex(...)" where decimals would lose bits, or "digest(...)". A
 * digest's bytes are also written into `data_dir` unless that is NULL; failing
 * that leaves a comment in the text. */
void literal_print_data(text_t *out, dtype_t dtype, uint64_t count,
                        ir_data_t *data, const char *data_dir);

/* Reads the decimal number text[0..length); false if it is none or not finite.
 * Independent of the locale. */
bool literal_read_double(const char *text, size_t length, double *out_x);

/* Constants in DIR/<digest>.bin: bytes, or strings each after its length as 8
 * bytes. Return NULL or what went wrong, a constant text. Reading needs size
 * and digest in *data, and fills in the rest. */
const char *literal_write_file(arena_t *arena, const char *dir,
                               ir_data_t *data);
const char *literal_read_file(arena_t *arena, const char *dir, dtype_t dtype,
                              ir_data_t *data);

#endif
