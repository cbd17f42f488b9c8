/* Reading single operations as parts of terms. */
#ifndef PASSES_MOE_READ_H
#define PASSES_MOE_READ_H

#include "passes/moe_build.h"

typedef moe_term_t *moe_reader_t(moe_builder_t *b, ir_value_t *value,
                                 const uint8_t *tag,
                                 const moe_layout_t *layout);

/* Notes what stood in the way, unless something did before; NULL. */
moe_term_t *moe_fail(moe_builder_t *b, const ir_op_t *op, const char *why);
/* Whether a value can be used where the term's layer will stand. */
bool moe_visible(const moe_builder_t *b, const ir_value_t *value);
/* Whether a value depends on what the router's experts give. */
bool moe_is_routed(moe_builder_t *b, const ir_value_t *value,
                   const moe_source_t *source);
/* Forgets that a value does, as a layer of that router was found: what this
 * gives is a token's. */
void moe_forget_routed(moe_builder_t *b, const moe_source_t *source);
/* Whether the tokens of a transpose's result keep their order: in several
 * dimensions they are numbered with the first one outermost. */
bool moe_keeps_tokens(const ir_op_t *transpose, const uint8_t *tag);
/* The operand that a choice or a sum is at the rows of the layout's expert, as
 * the rest is only for other experts' rows; -1: none. */
int moe_others_operand(moe_builder_t *b, const ir_op_t *op, const uint8_t *tag,
                       const moe_layout_t *layout);
/* The term of an operation's result, from those of its operands. */
moe_term_t *moe_read_op(moe_builder_t *b, ir_value_t *value, const uint8_t *tag,
                        const moe_layout_t *layout);

/* The expert of a single slot that a value is computed with, within so many
 * steps; FACT_NONE: there is none. */
const moe_fact_t *moe_slot_of(moe_builder_t *b, const ir_value_t *value,
                              unsigned *steps);
/* Whether no element is below 0; some may be NaN. */
bool moe_is_nonnegative(const ir_value_t *value);
/* What a branch has for an expert. */
typedef struct moe_branch {
  ir_value_t *value;
  const uint8_t *tag;
} moe_branch_t;
/* Whether a condition holds, or with `none` does not hold, whenever a token has
 * the layout's expert, and something in that branch that is not 0. */
bool moe_is_any(moe_builder_t *b, ir_value_t *condition,
                const moe_layout_t *layout, const moe_branch_t *branch,
                bool none);

/* A value of rows where each token has one expert: a number is its weight. */
moe_term_t *moe_row_leaf(moe_builder_t *b, ir_value_t *value,
                         const uint8_t *tag);

/* moe_pieces.c: rows of several masks, one behind the other.
 *
 * The concat of the tokens of masks' rows that an index is; NULL: it is none.
 */
const ir_op_t *moe_pieces_of(moe_builder_t *b, const ir_value_t *index);
/* Whether no token is in two of the pieces. */
bool moe_pieces_are_apart(moe_builder_t *b, const ir_op_t *pieces);
/* Whether it gathers rows by an inverse of what may be an order of them. */
bool moe_may_put_back(const ir_op_t *op);
/* The concat of the numbers of all tokens, each once, to which it brings the
 * rows back; NULL: it does something else. */
const ir_op_t *moe_pieces_put_back(moe_builder_t *b, const ir_op_t *op);
/* The layout of a piece where it stands alone; other layouts are their own. */
const moe_layout_t *moe_rows_of(moe_builder_t *b, const moe_layout_t *layout);
/* A gather with the tokens of all pieces. */
moe_term_t *moe_read_rows_gather(moe_builder_t *b, ir_value_t *value,
                                 const uint8_t *tag, const moe_layout_t *layout,
                                 const moe_fact_t *fact);

/* moe_members.c: sums over experts, of rows that have one expert each. What
 * stands for a value at the rows of the layout's expert: layouts of routes or
 * of sorted rows with an expert are of its rows only. NULL without an
 * obligation: the value is no such sum. */
moe_reader_t moe_read_members;
/* Whether a value is 0 but for the rows of one expert of the router, and has
 * features: it is a part of such a sum. */
bool moe_is_member(moe_builder_t *b, const ir_value_t *value,
                   const moe_source_t *source);
/* The slot whose experts' sum such a part belongs to; FACT_NONE: none. */
const moe_fact_t *moe_member_slot(moe_builder_t *b, const ir_value_t *value);
/* What each expert gives, of the operands of a concat for each expert: `tag`
 * says how these lie. */
moe_term_t *moe_read_parts(moe_builder_t *b, const ir_op_t *op,
                           const uint8_t *tag, const moe_layout_t *layout);
/* All slots side by side, each of which has such a sum. */
moe_term_t *moe_read_slots(moe_builder_t *b, ir_value_t *value,
                           const uint8_t *tag, const moe_layout_t *layout);
/* One term for all slots from those of each, which differ in single numbers at
 * most (moe_slots.c); NULL: they differ in more. `of_parts`: each is of the
 * slot's own router of one expert. */
moe_term_t *moe_join_slots(moe_builder_t *b, unsigned n,
                           moe_term_t *const *each, bool of_parts);

/* Where reading of a gate ends at the places of routes; NULL: it goes on. */
moe_term_t *moe_place_leaf(moe_builder_t *b, ir_value_t *value,
                           const uint8_t *tag, const moe_source_t *source);
/* A gather of the rows of chosen tokens; tags of what is gathered from, and of
 * the index. */
moe_term_t *moe_read_chosen(moe_builder_t *b, const ir_op_t *op,
                            const uint8_t *from, const uint8_t *at,
                            const moe_fact_t *fact);
/* A gather of rows from buffers, with the tags of the buffers. */
moe_term_t *moe_read_place(moe_builder_t *b, const ir_op_t *op,
                           const uint8_t *tag, const moe_source_t *source,
                           const moe_fact_t *fact);

/* Whether a gate of slots and places has 0 at the place of a route for all
 * slots but the route's own: this axis. Then a sum over it is what that slot
 * has; tags of its operand. */
bool moe_has_own_slot(moe_builder_t *b, ir_value_t *gate, unsigned axis,
                      const moe_source_t *source);
moe_term_t *moe_read_own_slot(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, uint8_t *operand,
                              const moe_layout_t *layout);

/* Whether both are the place of the row's route, a number of one element. */
bool moe_is_own_place(moe_builder_t *b, const moe_term_t *x,
                      const moe_term_t *y, const moe_source_t *source);
/* 1 with these features, each of size 1, and whether a term is that. */
moe_term_t *moe_read_one(moe_builder_t *b, dtype_t dtype, unsigned rank,
                         const expr_t *const *dim);
bool moe_is_one_term(const moe_term_t *term);

/* All sorted rows, of which the layout has those of one expert. */
const moe_layout_t *moe_sorted_rows(moe_builder_t *b,
                                    const moe_layout_t *group);
/* By operation: moe_read_product.c, moe_read_rows.c (gathers), and
 * moe_read_parts.c (parts, wholes and ways back) have those that lay rows out
 * anew. */
moe_reader_t moe_read_matmul, moe_read_gather, moe_read_gather_nd,
    moe_read_gather_elements, moe_read_pieces, moe_read_slice, moe_read_concat,
    moe_read_scatter, moe_read_if;
/* The product of two terms that moe_read_matmul makes of its operands. */
moe_term_t *moe_read_product(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag, moe_term_t *x, moe_term_t *y);
/* moe_read_window.c: convolutions, windows */
moe_reader_t moe_read_planes;
/* moe_read_feature.c: along the features of a row; take and pick are gathers,
 * pick a scatter, too; take: NULL without a word where numbers name experts */
moe_reader_t moe_read_take, moe_read_pick, moe_read_running, moe_read_greatest,
    moe_read_pad, moe_read_counted;
/* Whether the numbers of a gather or scatter of elements name features, and not
 * experts, or those of another layer, which is read once it is written. */
bool moe_picks_features(moe_builder_t *b, const ir_op_t *op,
                        const moe_layout_t *layout);
/* moe_read_loop.c: loops, and values that one at hand carries */
moe_reader_t moe_read_while;
bool moe_is_carried(const moe_builder_t *b, const ir_value_t *value);
moe_term_t *moe_read_carried(moe_builder_t *b, ir_value_t *value,
                             const uint8_t *tag);
/* moe_read_merged.c: a product of batches whose dimensions became one */
moe_reader_t moe_read_merged;
/* moe_buffer.c: products of gates, products and scatters that fill buffers */
bool moe_adds_fills(const ir_value_t *value); /* a sum of such scatters */
moe_reader_t moe_read_combine; /* moe_nested.c: layers inside experts */
moe_reader_t moe_read_gate_product, moe_read_dispatch, moe_read_filled;
/* Whether what experts have of their own is made of the tokens that they
 * compute with, as a mean over all tokens of hidden features is: then rows mix.
 */
bool moe_mixes_rows(moe_builder_t *b, unsigned n, moe_term_t *const *term);
/* Finds what values of several parts are computed from, as places to stop at;
 * part NULL: each value is one of its own. */
void moe_find_shared(moe_builder_t *b, unsigned n, ir_value_t *const *value,
                     const unsigned *part);
/* The same where rows have one expert of the router each: expert[i] that of
 * part i, or value i. What a choice has for others' rows is not theirs. */
void moe_find_shared_rows(moe_builder_t *b, unsigned n,
                          ir_value_t *const *value, const unsigned *part,
                          const moe_source_t *source, const int64_t *expert);
bool moe_is_shared(const moe_builder_t *b, const ir_value_t *value);

/* Whether an index gives the token's own experts in this layout. */
bool moe_names_own_experts(const moe_fact_t *fact, const moe_layout_t *layout);
/* Of what all experts made of all tokens, what a token's own ones made
 * (moe_picks.c). NULL without an obligation: it is taken in another way. */
moe_reader_t moe_read_picked;
/* The term with the features of a value, which may have more of size 1. */
moe_term_t *moe_with_features(moe_builder_t *b, ir_value_t *value,
                              const uint8_t *tag, moe_term_t *term);
/* Dimensions that are features, in order. */
unsigned moe_features(const moe_terms_t *terms, const ir_type_t *type,
                      const uint8_t *tag, const expr_t **out_dim);
bool moe_has_rows(const ir_type_t *type, const uint8_t *tag);

#endif
