/* Writes recognised layers as moe.experts and moe.combine. */
#ifndef PASSES_MOE_EMIT_H
#define PASSES_MOE_EMIT_H

#include "passes/moe_term.h"
#include "passes/pass.h"

/* How a file spells a layer. */
typedef enum {
  MOE_FORM_DENSE, /* all experts are computed for all tokens */
  MOE_FORM_LOOP,
  MOE_FORM_GATHERED,
  MOE_FORM_GROUPED,
  MOE_FORM_CAPACITY,
  MOE_FORM_CHOICE,
} moe_form_t;

/* A layer that can be written: root = rest + sum over the slots of a token of
 * its expert's term where `active` holds, or the term of each route. */
typedef struct moe_found {
  ir_value_t *root;   /* whose uses get the result */
  const uint8_t *tag; /* of root: tokens and features; slots if `apart` */
  const moe_source_t *source;
  moe_term_t **term; /* what experts compute, by structure */
  unsigned n_terms;
  const int64_t *structure; /* of each expert, -1: its results are 0; NULL: all
                               have the first one */
  moe_term_t *active;       /* bool: routes that count; NULL: all */
  bool unique; /* an expert counts once for a token, though slots repeat it */
  /* Of buffers: bool, routes below the capacity; where no place has a condition
   * on it, the same by counting. NULL: there are none. */
  moe_term_t *below;
  const moe_places_t *places;
  const expr_t *capacity;
  bool dispatched;     /* a product with a gate fills the buffers */
  const bool *present; /* of the experts; NULL: all */
  unsigned n_rest;
  ir_value_t **rest; /* of root's type */
  ir_value_t *over;  /* likewise: in place of the sum for tokens without a route
                        that counts, where each has one; NULL: 0 */
  bool apart; /* root has a row for each route, slots among its tags: no sum */
  bool open;  /* what ends it is no sum, so that it may be part of another */
  moe_form_t form;
  int64_t shared;       /* experts beside these that all tokens run through */
  ir_op_t *experts;     /* once it is written */
  const ir_op_t *limit; /* likewise: what drops routes; NULL: not counted so */
  struct moe_layer *entry; /* in the report, once told; NULL: none */
  struct moe_found *next;
} moe_found_t;

/* Whether every expert has a slot of a token, and conditions make the weights
 * of some of them 0: these are not computed, and their number varies. */
bool moe_chooses_by_weight(const moe_found_t *found);
typedef struct moe_limits moe_limits_t; /* moe_limit.h */

/* Writes the layer in front of root and lets it take root's place; `now` gives
 * what stands for a value since other layers were written. Returns the
 * moe.experts, what stands for root, and the moe.limit; NULL if a rewrite was
 * not allowed. */
ir_op_t *moe_emit(pass_ctx_t *ctx, const moe_found_t *found,
                  moe_limits_t *limits,
                  ir_value_t *(*now)(void *user, ir_value_t *value), void *user,
                  ir_value_t **out_sum, const ir_op_t **out_limit);

#endif
