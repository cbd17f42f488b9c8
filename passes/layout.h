/* Between the files of the layout pass. */
#ifndef PASSES_LAYOUT_H
#define PASSES_LAYOUT_H

#include "ir/build.h"

/* What the results of unfold and convolve are computed by. */
ir_value_t *layout_unfold(ir_builder_t *b, const ir_op_t *op);
ir_value_t *layout_convolve(ir_builder_t *b, const ir_op_t *op);

/* 16-bit weights stay so where registers widen them. */
ir_value_t *layout_without_widening(ir_value_t *w);

#endif
