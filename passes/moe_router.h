/* Routers of Mixture-of-Experts layers: which experts a token meets, and with
 * which weights. Found by what values mean, backwards from expert numbers and
 * weights; whatever is not understood is left as the logits of the router, or
 * the router is left as it is. */
#ifndef PASSES_MOE_ROUTER_H
#define PASSES_MOE_ROUTER_H

#include "ir/route.h"
#include "passes/pass.h"

enum { MOE_ROUTER_NODES = 256 };

/* What has been understood of a router. */
typedef struct moe_router {
  route_t
      route; /* in[ROUTE_X] may have more axes than two before the experts */
  const expr_t *T;
  int64_t E;
  bool selects; /* k and what selects are known, perhaps nothing else */
  /* The values whose meaning this is, of shape [T.., k] in that order. */
  ir_value_t *expert, *weight;
  ir_value_t *logits; /* [T, E], also where route has the gate */
  ir_op_t *place;     /* in front of which all operands can be had */
  /* The operations that were read on the way. */
  unsigned n_nodes;
  const ir_op_t *node[MOE_ROUTER_NODES];
} moe_router_t;

/* Reads backwards from expert numbers and weights of tokens (each i64[T.., k]
 * or f[T.., k], perhaps reshaped, cast) what router computes them. True if all
 * of it is understood and proven. */
bool moe_router_match(pass_ctx_t *ctx, ir_value_t *expert, ir_value_t *weight,
                      moe_router_t *out);
/* In words, for the report: "softmax over 64, top 4, weights divided by their
 * sum"; also of routers that are understood in part only: what is known. */
const char *moe_router_words(arena_t *arena, const moe_router_t *router);
/* Writes one moe.route in their place. */
void moe_router_apply(pass_ctx_t *ctx, const moe_router_t *router);

#endif
