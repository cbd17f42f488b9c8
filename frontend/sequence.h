/* Sequences whose length or element sizes only a run tells.
 *
 * A SLOT_SEQUENCE is two tensors: `dims` i64[n, rank] has the dimensions of
 * each element, `value` T[total] all elements one after the other in C order.
 * All elements have one rank, which is known; there is nothing that needs more
 * at run time than slicing and concatenation. A SLOT_LIST is the same where
 * every element is a value of its own; what is known of it is not given up
 * until something is done that a list cannot do. */
#ifndef FRONTEND_SEQUENCE_H
#define FRONTEND_SEQUENCE_H

#include "frontend/convert.h"

/* Whether a slot is a sequence of either kind. */
bool slot_is_sequence(const slot_t *slot);
/* Rank of the elements; -1 of an empty list. */
int slot_element_rank(const slot_t *slot);

/* A list as a SLOT_SEQUENCE; other sequences stay. `rank` is for empty lists.
 * False after recording an error: elements of different rank. */
bool sequence_of(convert_ctx_t *ctx, const slot_t *slot, unsigned rank,
                 slot_t *out);
/* No elements, of that rank. */
slot_t sequence_empty(convert_ctx_t *ctx, dtype_t dtype, unsigned rank);
/* Makes two slots that stand for one thing agree in kind: sequences become
 * SLOT_SEQUENCEs, what may be absent a SLOT_OPTIONAL. Built where *b[i] says.
 * False after recording an error. */
bool slots_agree(convert_ctx_t *ctx, slot_t *x, ir_builder_t *bx, slot_t *y,
                 ir_builder_t *by);

/* Number of elements. */
const expr_t *sequence_length(const slot_t *s);
/* A position within [0, length), or [0, length] with `at_end`; negative ones
 * count from the end, others end the run. Operand `input` of the node. */
const expr_t *sequence_position(convert_ctx_t *ctx, const slot_t *s,
                                unsigned input, bool at_end);
ir_value_t *sequence_at(convert_ctx_t *ctx, const slot_t *s, const expr_t *at);
slot_t sequence_insert(convert_ctx_t *ctx, const slot_t *s, const expr_t *at,
                       ir_value_t *x);
slot_t sequence_erase(convert_ctx_t *ctx, const slot_t *s, const expr_t *at);
/* Concatenation along an axis, or along a new one. */
ir_value_t *sequence_concat(convert_ctx_t *ctx, const slot_t *s, unsigned axis,
                            bool new_axis);
/* Parts of x along an axis; lengths i64[n], whose sum is checked. */
slot_t sequence_split(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                      ir_value_t *lengths, bool squeeze);

#endif
