/* Reading formulas off operations: activations in their many spellings. */
#ifndef PASSES_MOE_FORMULA_H
#define PASSES_MOE_FORMULA_H

#include "ir/ir.h"

#define FORMULA_MAX_FACTORS 16

/* The factors of a product; constants are multiplied into one number. */
typedef struct formula_factors {
  unsigned n; /* above FORMULA_MAX_FACTORS: there are too many */
  double number;
  const ir_value_t *factor[FORMULA_MAX_FACTORS];
} formula_factors_t;

typedef struct formula_activation {
  const char *name; /* silu, gelu, gelu_tanh, relu^2 */
  const ir_value_t *of;
  double alpha; /* of x * sigmoid(alpha * x), else 1 */
} formula_activation_t;

/* The value behind views, copies and conversions; NULL for NULL. */
const ir_value_t *formula_look(const ir_value_t *v);
/* What defines that value, if it has this code, else NULL. */
const ir_op_t *formula_def(const ir_value_t *v, ir_opcode_t code);
/* Whether all elements are one constant number. */
bool formula_number(const ir_value_t *v, double *out);
/* Within a thousandth of y > 0, as numbers rounded to 16 bits are. */
bool formula_is_near(double x, double y);

formula_factors_t formula_factors(const ir_value_t *v);
/* Finds an activation among the factors and takes its own out. */
bool formula_take_activation(formula_factors_t *f, formula_activation_t *a);

/* Each NULL or false where v is something else: z of sigmoid(alpha * z),
 * however it is spelled; z / (1 + exp(-alpha * z)); z of max(z, 0). */
const ir_value_t *formula_inside_sigmoid(const ir_value_t *v, double *alpha);
bool formula_divided_silu(const ir_value_t *v, formula_activation_t *a);
const ir_value_t *formula_inside_relu(const ir_value_t *v);

#endif
