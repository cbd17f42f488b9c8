/* What looked like a layer and was left as it stands. */
#ifndef PASSES_MOE_REFUSE_H
#define PASSES_MOE_REFUSE_H

#include "passes/moe_build.h"
#include "passes/moe_report.h"
#include "passes/moe_rules.h"

typedef struct moe_refused moe_refused_t;
typedef struct moe_refusals {
  moe_report_t *report; /* NULL: nobody wants to know */
  arena_t *arena;
  moe_refused_t *first, **last;
} moe_refusals_t;

void moe_refusals_init(moe_refusals_t *list, moe_report_t *report,
                       arena_t *arena);
/* Notes that a sum of results of a router's experts, as `candidate` says, was
 * refused for what the builder says, if it says something. */
void moe_refuse(moe_refusals_t *list, const moe_builder_t *b,
                const ir_op_t *root, const moe_source_t *source,
                const char *candidate);
/* Writes those to the report that have experts, before the graph changes, and
 * sums of experts that all count for every token: weights of a softmax. Results
 * of layers that were found are `settled`, by number. */
void moe_refusals_tell(moe_refusals_t *list, moe_facts_t *facts,
                       const bool *settled);

#endif
