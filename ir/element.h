/* Single elements of tensor data in every element type but strings. Data is
 * little endian, packed below 8 bits (low bits first), of any alignment. */
#ifndef IR_ELEMENT_H
#define IR_ELEMENT_H

#include "ir/ir.h"

/* Element `index` of a float or integer type or bool as a double; of a complex
 * type its real part. */
double ir_element_float(dtype_t dtype, const void *bytes, uint64_t index);
/* Element `index` of an integer type or bool; u64 as the same 64 bits. */
int64_t ir_element_int(dtype_t dtype, const void *bytes, uint64_t index);

/* Writes x rounded to nearest, halves to even. Out of range: f16 and bf16
 * become infinite, smaller floats and integers take their extreme (a NaN in
 * integers is 0), f8e8m0 takes the nearest power of two, bool is x != 0.
 * Complex types get the imaginary part 0. */
void ir_element_set_float(dtype_t dtype, void *bytes, uint64_t index, double x);
/* Writes v; integers keep its low bits, floats round it once. */
void ir_element_set_int(dtype_t dtype, void *bytes, uint64_t index, int64_t v);

#endif
