/* What follows from conditions, whatever the data are. */
#ifndef PASSES_MOE_LOGIC_H
#define PASSES_MOE_LOGIC_H

#include "ir/ir.h"

/* How many of several conditions of the same rows hold for one: looked at for
 * every order of what is compared with constants, and both truths of all else.
 */
typedef struct moe_hold {
  unsigned least, most;
} moe_hold_t;

/* False where there are too many ways, or conditions are not of the same rows.
 */
bool moe_count_holds(ir_value_t *const *condition, unsigned n, moe_hold_t *out);

#endif
