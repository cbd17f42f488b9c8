/* One spelling of a term among those that differ in features of size one, in
 * views of tokens and in masks that do nothing: forms of one layer become the
 * same operations. */
#ifndef PASSES_MOE_NORMAL_H
#define PASSES_MOE_NORMAL_H

#include "passes/moe_term.h"

/* The same numbers without features of size one. Values that the term may use
 * are visible in `region`. Before anything is rewritten. */
moe_term_t *moe_term_normal(moe_terms_t *terms, const ir_region_t *region,
                            moe_term_t *term);

#endif
