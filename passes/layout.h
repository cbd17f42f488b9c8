/* Between the files of the layout pass. */
#ifndef PASSES_LAYOUT_H
#define PASSES_LAYOUT_H

#include "ir/build.h"

/* What the results of unfold and convolve are computed by. */
ir_value_t *layout_unfold(ir_builder_t *b, const ir_op_t *op);
ir_value_t *layout_convolve(ir_builder_t *b, const ir_op_t *op);
/* Whether a convolution has one window of neighbours for its whole input, so
 * that it is a matmul of images as rows, for one group. */
bool layout_is_matmul(const ir_op_t *convolve);

/* The concat of constants along axis 0 that w is a view of, batch by batch, or
 * NULL; and the same view of one operand. */
const ir_op_t *layout_find_stack(const ir_value_t *w);
/* Whether each operand of such a concat lies in memory as its constant does. */
bool layout_stacks_plainly(const ir_op_t *concat);
ir_value_t *layout_part_of_stack(ir_builder_t *b, ir_value_t *w, unsigned part);

/* Products with fewer columns go through one tree over lanes of K, where those
 * of the second operand are, or can be stored, as a whole. */
enum { LAYOUT_NARROW = 16 };

/* Whether x is a constant, perhaps behind operations on it and constants. */
bool layout_is_constant(const ir_value_t *x);
/* Whether neighbours along dimension d of x are neighbours in memory, where
 * transposes are read through. */
bool layout_runs_along(const ir_value_t *x, unsigned d);

/* w[.., k, n] as [.., n, k]; of a constant with its elements in that order, so
 * that neighbours along k are read at once. */
ir_value_t *layout_turn(ir_builder_t *b, ir_value_t *w);

/* 16-bit weights stay so where registers widen them. */
ir_value_t *layout_without_widening(ir_value_t *w);

#endif
