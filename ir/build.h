/* Building operations in sequence. Every function inserts at the builder's
 * place, infers types at once and returns the (first) result; it returns NULL
 * when an operand is NULL or inference failed, and then `status` is set, so
 * that converters check once at their end. */
#ifndef IR_BUILD_H
#define IR_BUILD_H

#include "ir/ir.h"

typedef struct ir_builder {
  ir_module_t *module;
  ir_region_t *region;
  ir_op_t *before; /* insert before this one; NULL: append to region */
  ir_loc_t loc;
  diag_sink_t *diag;
  moec_status_t status; /* first failure */
} ir_builder_t;

/* Inserts a created operation whose attributes are set; infers its types. */
ir_value_t *ir_place(ir_builder_t *b, ir_op_t *op);
/* Creates an operation for ir_place; NULL if one of the operands in
 * in[0..n_required) is NULL. */
ir_op_t *ir_begin(ir_builder_t *b, ir_opcode_t code, unsigned n_in,
                  ir_value_t *const *in, unsigned n_out);

ir_value_t *ir_unary(ir_builder_t *b, ir_opcode_t code, ir_value_t *x);
ir_value_t *ir_binary(ir_builder_t *b, ir_opcode_t code, ir_value_t *x,
                      ir_value_t *y);
ir_value_t *ir_select(ir_builder_t *b, ir_value_t *cond, ir_value_t *x,
                      ir_value_t *y);
ir_value_t *ir_cast(ir_builder_t *b, ir_value_t *x, dtype_t to); /* x if same */

/* Constants. Elements of ir_scalar are converted from double / int64 exactly or
 * rounded to nearest. */
ir_value_t *ir_scalar(ir_builder_t *b, dtype_t dtype, double value);
ir_value_t *ir_scalar_int(ir_builder_t *b, dtype_t dtype, int64_t value);
ir_value_t *ir_tensor(
    ir_builder_t *b, const ir_type_t *type, const void *bytes,
    uint64_t size); /* a view: bytes must outlive the module */
ir_value_t *ir_ints(ir_builder_t *b, unsigned n, const int64_t *v); /* i64[n] */
/* i64[n] holding expressions; a scalar i64[] when n is 0 and e is not NULL. */
ir_value_t *ir_exprs(ir_builder_t *b, unsigned n, const expr_t *const *e);
ir_value_t *ir_expr_scalar(ir_builder_t *b, const expr_t *e);
ir_value_t *ir_fill(ir_builder_t *b, ir_value_t *scalar, unsigned rank,
                    const expr_t *const *dim); /* broadcast of a scalar */
ir_value_t *ir_iota(ir_builder_t *b, dtype_t dtype,
                    const expr_t *n); /* 0..n-1 */

/* Movement. */
ir_value_t *ir_reshape(ir_builder_t *b, ir_value_t *x, unsigned rank,
                       const expr_t *const *dim);
ir_value_t *ir_unsqueeze(ir_builder_t *b, ir_value_t *x, unsigned axis);
ir_value_t *ir_squeeze(ir_builder_t *b, ir_value_t *x, unsigned axis);
ir_value_t *ir_expand(ir_builder_t *b, ir_value_t *x, unsigned rank,
                      const expr_t *const *dim); /* result has exactly dim */
ir_value_t *ir_transpose(ir_builder_t *b, ir_value_t *x, const int64_t *perm);
/* x[start : start + length : step] along axis, element i is start + i * step.
 */
ir_value_t *ir_slice(ir_builder_t *b, ir_value_t *x, unsigned axis,
                     const expr_t *start, const expr_t *length,
                     const expr_t *step);
ir_value_t *ir_concat(ir_builder_t *b, unsigned n, ir_value_t *const *x,
                      unsigned axis);
ir_value_t *ir_gather(ir_builder_t *b, ir_value_t *x, ir_value_t *index,
                      unsigned axis);

/* code is OP_REDUCE_SUM and the like; dimensions are kept as 1 if keepdims. */
ir_value_t *ir_reduce(ir_builder_t *b, ir_opcode_t code, ir_value_t *x,
                      unsigned n_axes, const int64_t *axes, bool keepdims);
ir_value_t *ir_matmul(ir_builder_t *b, ir_value_t *x, ir_value_t *y);

/* Makes element `index` of the integer tensor v known as a size: a new symbol
 * named like `hint`, bounded by upper (may be NULL); at run time a value below
 * `lower` or above `upper` ends the run with a status. Known contents are used
 * instead where there are any. */
const expr_t *ir_bind(ir_builder_t *b, ir_value_t *v, int64_t index,
                      const char *hint, int64_t lower, const expr_t *upper);
/* Element `index` of v as an expression if known, else NULL. */
const expr_t *ir_known(const ir_value_t *v, int64_t index);
/* Run-time check that two sizes agree, unless that is proved; `what` names them
 * in the message. Fails now when they can never agree. */
void ir_check_equal(ir_builder_t *b, const expr_t *x, const expr_t *y,
                    const char *what);

#endif
