/* Shape laws: the result types of every operation, and all checks of its
 * operands and attributes. */
#ifndef IR_SHAPE_H
#define IR_SHAPE_H

#include "ir/ir.h"

/* Sets the types of op's results (dimensions in the module's arena), or records
 * what is wrong and returns MOEC_E_INVALID_MODEL, MOEC_E_UNSUPPORTED or
 * MOEC_E_LIMIT. The number of operands, results and regions and the presence of
 * attributes are as the table says. */
#define OP(id, mnemonic, in_min, in_max, out, regions, traits, shape, lower) \
  moec_status_t infer_##shape(ir_module_t *module, ir_op_t *op,              \
                              diag_sink_t *diag);
#include "ir/ops.def"

/* Contents of op's first result where they follow from its operands' contents,
 * else NULL; the result's type is set. */
const expr_t *const *shape_content(ir_module_t *module, const ir_op_t *op);

/* ---- Steps that the laws share ------------------------------------------- */

#define SHAPE_FAIL(...) \
  return diag_error(diag, op->loc, MOEC_E_INVALID_MODEL, __VA_ARGS__)

static inline const ir_type_t *shape_in(const ir_op_t *op, unsigned index) {
  return &op->in[index].value->type;
}

/* Type of operand `index`, or of the result, as text for a message. */
const char *shape_str(const ir_module_t *module, const ir_type_t *type);
const char *shape_expr_str(const ir_module_t *module, const expr_t *e);

/* Sets result `index` to a tensor with a copy of dim. */
moec_status_t shape_set(ir_module_t *module, ir_op_t *op, unsigned index,
                        dtype_t dtype, unsigned rank, const expr_t *const *dim,
                        diag_sink_t *diag);
/* The same with the dimensions of a type, which are shared. */
void shape_set_like(ir_op_t *op, unsigned index, dtype_t dtype,
                    const ir_type_t *like);

/* The attribute as an index below rank; negative ones count from the end. */
moec_status_t shape_axis(const ir_op_t *op, ir_attr_id_t attr, unsigned rank,
                         unsigned *out_axis, diag_sink_t *diag);
moec_status_t shape_min_rank(const ir_module_t *module, const ir_op_t *op,
                             unsigned index, unsigned rank, diag_sink_t *diag);
moec_status_t shape_same_dtype(const ir_module_t *module, const ir_op_t *op,
                               unsigned a, unsigned b, diag_sink_t *diag);
/* Sets of dtype classes for shape_class. */
enum {
  SHAPE_FLOAT = 1 << DT_CLASS_FLOAT,
  SHAPE_INTEGER = 1 << DT_CLASS_SIGNED | 1 << DT_CLASS_UNSIGNED,
  SHAPE_BOOL = 1 << DT_CLASS_BOOL,
  SHAPE_COMPLEX = 1 << DT_CLASS_COMPLEX,
  SHAPE_NUMBER = SHAPE_FLOAT | SHAPE_INTEGER,
};
moec_status_t shape_class(const ir_module_t *module, const ir_op_t *op,
                          unsigned index, unsigned classes, diag_sink_t *diag);
/* Operand `index` is a scalar (of `dtype` unless that is DT_NONE). */
moec_status_t shape_scalar(const ir_module_t *module, const ir_op_t *op,
                           unsigned index, dtype_t dtype, diag_sink_t *diag);

/* Numpy broadcast of two shapes into out[max(a_rank, b_rank)]. Dimensions that
 * may or may not agree are taken to. */
moec_status_t shape_broadcast(ir_module_t *module, const ir_op_t *op,
                              unsigned a_rank, const expr_t *const *a,
                              unsigned b_rank, const expr_t *const *b,
                              const expr_t **out, diag_sink_t *diag);
/* Whether two dimensions differ for all values of the symbols. */
bool shape_differ(ir_module_t *module, const expr_t *a, const expr_t *b);
/* Of two dimensions that agree the one that says more: a constant, else a. */
const expr_t *shape_merge(const expr_t *a, const expr_t *b);
/* Fails when a size is below `least` for all values of the symbols. */
moec_status_t shape_at_least(const ir_module_t *module, const ir_op_t *op,
                             const expr_t *e, int64_t least, const char *what,
                             diag_sink_t *diag);

#endif
