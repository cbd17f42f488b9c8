/* Local rewrite rules: the rows of canonicalize.def and what they share.
 *
 * A rule is a pair of functions, so that every rewrite can be counted, traced
 * and bisected in one place: match_<id> is a pure predicate, apply_<id> makes
 * the replacement. All are bit-exact unless their row says otherwise. */
#ifndef PASSES_RULES_H
#define PASSES_RULES_H

#include "ir/build.h"

/* What the columns root and operand0 of a rule may name: an operation or a set
 * of them. */
typedef enum {
#define OP(id, ...) RULE_##id = OP_##id,
#include "ir/ops.def"
  RULE_ANY = OP_COUNT,
  RULE_ELEMENTWISE, /* operations with that trait */
  RULE_REDUCTION,   /* reduce_sum and the like */
} rule_root_t;

typedef struct rule {
  const char *name, *pattern;
  rule_root_t root, operand0; /* of op, and of what defines its operand 0 */
  bool (*match)(const ir_op_t *op);
  /* Builds before op and returns what replaces result 0, of the same type; or
   * changes op in place and returns that result. Not called without a match.
   * NULL: an operation without results is erased. */
  ir_value_t *(*apply)(ir_op_t *op, ir_builder_t *b);
} rule_t;

#define RULE(id, root, operand0, pattern) \
  bool match_##id(const ir_op_t *op);     \
  ir_value_t *apply_##id(ir_op_t *op, ir_builder_t *b);
#include "passes/canonicalize.def"

unsigned rule_count(void);
const rule_t *rule_at(unsigned index); /* order of canonicalize.def */

/* ---- What rules ask ------------------------------------------------------ */

/* The operation that defines operand `index` if it has this code, else NULL. */
const ir_op_t *rule_def(const ir_op_t *op, unsigned index, ir_opcode_t code);
bool rule_is_one(const expr_t *dim);
bool rule_same_dims(const ir_type_t *a, const ir_type_t *b);
/* Whether a slice has all of a dimension, in order. */
bool rule_slices_all(const ir_op_t *slice, unsigned d);
/* All dimensions are known to be 1. */
bool rule_has_one_element(const ir_type_t *type);
/* `with` is `without` behind some dimensions of 1 (perhaps none). */
bool rule_adds_leading_ones(const ir_type_t *without, const ir_type_t *with);

/* The constant of one element whose copies are all that the value holds, or
 * NULL. Not for strings. */
const ir_op_t *rule_splat(const ir_value_t *value);
/* That element as a float; false where there is none or it is no float. */
bool rule_splat_float(const ir_value_t *value, double *out);
/* The same for integers and bool. */
bool rule_splat_int(const ir_value_t *value, int64_t *out);
/* Operand `index` holds this number only, of a float (with that sign of zero)
 * or an integer type. */
bool rule_operand_is(const ir_op_t *op, unsigned index, double number);
/* A scatter_elements or scatter_nd with that reduction, "none" where absent. */
/* The list behind views of an index that runs along its last dimension, 0 ..
 * n - 1 for each of the others; NULL: it is none. */
const ir_value_t *rule_tiles(const ir_value_t *index, const expr_t *n);
bool rule_scatters_by(const ir_op_t *op, const char *reduction);
/* a op b for comparisons and arithmetic with two operands, in double; false for
 * other operations. Division by zero is NaN. */
bool rule_compute(ir_opcode_t code, double a, double b, double *out);
/* A constant, perhaps seen through views. */
bool rule_is_constant(const ir_value_t *value);

/* Each element is its own position along an axis. */
bool rule_counts_along(const ir_value_t *x, unsigned axis);

/* Every value of type `from` is one of type `to`. */
bool rule_cast_holds(dtype_t from, dtype_t to);
/* Casts from -> through -> to give what a cast from -> to gives. */
bool rule_cast_skips(dtype_t from, dtype_t through, dtype_t to);

/* ---- What rules build ---------------------------------------------------- */

/* x broadcast to the shape of `like`; x itself where it has that shape. */
ir_value_t *rule_broadcast(ir_builder_t *b, ir_value_t *x,
                           const ir_type_t *like);
/* Copies of a number in the element type and shape of `like`. */
ir_value_t *rule_fill(ir_builder_t *b, double number, const ir_type_t *like);
/* A constant with the same bytes under another (constant) shape. */
ir_value_t *rule_reshape_constant(ir_builder_t *b, const ir_op_t *constant,
                                  unsigned rank, const expr_t *const *dim);

#endif
