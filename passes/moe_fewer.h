/* Routers of which a condition keeps some routes. */
#ifndef PASSES_MOE_FEWER_H
#define PASSES_MOE_FEWER_H

#include "passes/moe_rules.h"
#include "passes/pass.h"

/* A mask of zeros and ones that leaves out some of a router's routes. */
typedef struct moe_fewer {
  ir_value_t *mask;        /* 1 for experts of routes that stay */
  ir_value_t *index;       /* [tokens, k]: the expert, or -1 */
  const ir_value_t *whole; /* the index of the router */
  struct moe_fewer *next;
} moe_fewer_t;

/* Writes the choices that such masks leave where these are counted; nothing
 * reads them unless a layer is found. True if something was written: values
 * must be numbered, and facts made, anew. */
bool moe_write_fewer(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                     moe_fewer_t **list);
/* Tells new facts of one, before those of values behind it are asked for. */
void moe_know_fewer(moe_facts_t *facts, const moe_fewer_t *fewer);

#endif
