/* Constants of f32 that are held in 16 bits without losing one. */
#ifndef IR_HALF_H
#define IR_HALF_H

#include "ir/ir.h"

/* Whether each of `count` elements of f32, of any alignment, is an element of
 * `to` (f16 or bf16) too: narrowed and widened again it has the same 32 bits.
 * Of f16 no NaN is, as machines change some when they widen them. */
bool half_is_exact(dtype_t to, const void *from, uint64_t count);

/* Narrows elements of which half_is_exact holds; of others bits are lost. `to`
 * may be `from`. */
void half_narrow(dtype_t dtype, void *to, const void *from, uint64_t count);

#endif
