/* Control flow with regions: what converters of If, Loop, Scan and recurrent
 * operators share. */
#ifndef FRONTEND_REGION_H
#define FRONTEND_REGION_H

#include "frontend/convert.h"

/* ---- Slots as values ----------------------------------------------------- */

/* The tensors of slots, one after the other: those of a list follow each other,
 * an empty optional has none. False after recording an error (a failed slot).
 */
bool ctx_flatten(convert_ctx_t *ctx, unsigned n, const slot_t *slots,
                 unsigned *out_n, ir_value_t ***out_values);
/* Slots of the same structure over other values. */
void ctx_unflatten(convert_ctx_t *ctx, unsigned n, const slot_t *like,
                   ir_value_t *const *values, slot_t *out);
/* Whether slots agree in everything but their values. */
bool ctx_same_structure(unsigned n, const slot_t *a, const slot_t *b);

/* A condition that is known when compiling; false, without an error, if not. */
bool ctx_known_bool(convert_ctx_t *ctx, const ir_value_t *x, bool *out);

/* ---- If ------------------------------------------------------------------ */

/* Both branches of an if: branch(ctx, user, 0 or 1, out) builds into ctx->b and
 * fills out[n_out]. Results have one element type and rank in both; sizes that
 * differ become symbols. Small branches that cannot fail become selects. */
typedef struct if_spec {
  ir_value_t *condition; /* bool[] */
  unsigned n_out;
  moec_status_t (*branch)(convert_ctx_t *ctx, void *user, unsigned index,
                          slot_t *out);
  void *user;
  /* Set, in words, where ranks differ; nothing is built then. NULL: an error.
   */
  const char **differs;
} if_spec_t;

moec_status_t ctx_if(convert_ctx_t *ctx, const if_spec_t *spec, slot_t *out);

/* The same, where also an If in a branch may give what differs in rank and is
 * to leave the branch: import_rest.c. spec->differs is not NULL. */
moec_status_t ctx_if_of_ranks(convert_ctx_t *ctx, const if_spec_t *spec,
                              slot_t *out);

/* ---- While --------------------------------------------------------------- */

/*   for (i = 0; i < limit && more; i++) (more, state.., row..) = body(i,
 * state..)
 *
 * body fills out[1 + n_state + n_rows]; out[0] NULL: go on. It may be called
 * several times, until the types of the state are found: sizes that change from
 * trip to trip become symbols. Whatever it built before is dropped. */
typedef struct while_spec {
  ir_value_t *limit;   /* i64[] */
  ir_value_t *first;   /* bool[]: whether there is a first trip */
  const expr_t *trips; /* their number if only `limit` ends the loop, or NULL */
  unsigned n_state, n_rows;
  ir_value_t *const *init; /* [n_state] */
  moec_status_t (*body)(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                        ir_value_t *const *state, ir_value_t **out);
  void *user;
} while_spec_t;

/* Fills results[n_state + n_rows]: the last state, and all rows stacked along a
 * new axis 0. */
moec_status_t ctx_while(convert_ctx_t *ctx, const while_spec_t *spec,
                        ir_value_t **results);

/* The same over slots: state may be sequences and optionals. body fills
 * *out_more (NULL: go on) and out[n_state + n_rows]; rows are tensors. Where a
 * trip shows that a state must be of another kind, say a longer sequence, init
 * becomes one and the body is built anew. */
typedef struct slot_loop {
  ir_value_t *limit, *first;
  const expr_t *trips;
  unsigned n_state, n_rows;
  slot_t *init; /* [n_state] */
  moec_status_t (*body)(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                        const slot_t *state, ir_value_t **out_more,
                        slot_t *out);
  void *user;
} slot_loop_t;

moec_status_t ctx_while_slots(convert_ctx_t *ctx, slot_loop_t *loop,
                              slot_t *results);

#endif
