/* Routers that are integers: a number that a token brings along, or that a
 * table has for it, names its expert. */
#ifndef PASSES_MOE_TABLE_H
#define PASSES_MOE_TABLE_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

typedef struct moe_table {
  ir_value_t *value; /* integers [tokens..] or [tokens.., k], or conditions */
  ir_value_t *index; /* of that shape: the experts; `value` if these are its
                        numbers whatever the input is */
  int slot;          /* axis of the slots; -1: one expert for each token */
  int64_t experts;
  bool distinct;
  bool some;         /* not all numbers name one */
  bool holds;        /* a condition: expert 1 where it holds, else 0 */
  bool indexes;      /* how `value` names experts, see moe_fact_t */
  const double *map; /* likewise */
  struct moe_table *next;
} moe_table_t;

/* Finds integers that pick matrices, or that are compared with several numbers,
 * and writes the experts that they name where these are other numbers; nothing
 * reads those unless a layer is found. */
moe_table_t *moe_find_tables(pass_ctx_t *ctx, ir_func_t *func,
                             moe_facts_t *facts);
/* What an expert might give: behind views and arithmetic there is a product. */
bool moe_is_product(const ir_value_t *value);
/* Elements of inputs are in it, not sizes and constants only. */
bool moe_depends_on_data(const ir_value_t *value, unsigned *steps);
/* Notes the facts of the routers. */
void moe_note_tables(moe_facts_t *facts, const moe_table_t *tables);

#endif
