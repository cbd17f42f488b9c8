/* Layers inside experts. */
#ifndef PASSES_MOE_NESTED_H
#define PASSES_MOE_NESTED_H

#include "ir/build.h"
#include "passes/moe_term.h"

/* Whether two moe.experts, or moe.combine, do the same for any number of tokens
 * with operands of their own. */
bool moe_same_nested(const ir_op_t *a, const ir_op_t *b);
/* Such an operation on the operands of a term, which have a row for each of
 * `rows`; its result, with the inner routes flattened. */
ir_value_t *moe_write_nested(ir_builder_t *b, arena_t *scratch,
                             const moe_term_t *term, ir_value_t *const *in,
                             const expr_t *rows);

#endif
