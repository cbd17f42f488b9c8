/* What values mean for the routing of tokens to experts.
 *
 * A router is a tensor of expert numbers: for each token t the experts of its
 * slots j. Facts say what another value has to do with it: which of its
 * dimensions run over tokens, slots and experts (tags), and what its elements
 * are. Facts are found on demand, backwards from a value, by rules for each
 * operation; nothing depends on names or on how many nodes lie between. */
#ifndef PASSES_MOE_FACTS_H
#define PASSES_MOE_FACTS_H

#include "ir/ir.h"

/* What a dimension runs over. A flattened dimension has several, in this order:
 * tokens before slots. */
enum {
  TAG_TOKEN = 1,
  TAG_SLOT = 2,
  TAG_EXPERT = 4,
  TAG_INNER = 8,    /* features of a row */
  TAG_ROW = 16,     /* rows of a space that was made by sorting or by a mask */
  TAG_GONE = 32,    /* of size 1 where a row or an expert would be: broadcast */
  TAG_PLACE = 64,   /* places in the buffer of an expert */
  TAG_TURNED = 128, /* with TOKEN and SLOT: slots before tokens */
};

enum { MOE_MAX_PARTS = 8 };

typedef struct moe_source {
  ir_value_t *index; /* integers [T.., k] or [T..] */
  int slot;          /* axis of the slots, -1: none, one expert per token */
  bool distinct;     /* no expert twice for one token */
  bool chooses;      /* experts choose: index[experts, places] has tokens */
  int64_t experts;   /* numbers are in [0, experts) */
  const expr_t *k, *tokens, *routes; /* routes = tokens * k */
  bool by_mask;   /* a condition chooses: index is -1 where it does not */
  bool joined;    /* of conditions that lie apart: rows may come before it */
  bool given;     /* numbers that no scores have chosen: of a table, an input */
  bool some;      /* not all of the routes have an expert; -1 where not */
  int64_t chosen; /* how many it chooses for a token; 0: that varies */
  const expr_t **capacity; /* places that each expert has; NULL: not known */
  /* Its routes are those of another router for which `kept`, a mask of these
   * tags, is 1; others have no expert. */
  const struct moe_source *within;
  ir_value_t *kept;
  const uint8_t *kept_tag;
  /* Its tokens are those of another router, brought into order by this topk. */
  const struct moe_source *turned;
  const ir_op_t *order;
  /* Routers of one expert each whose choices are the slots, in order. */
  unsigned n_parts;
  const struct moe_source *part[MOE_MAX_PARTS];
} moe_source_t;

typedef enum {
  FACT_NONE,
  FACT_EXPERT, /* the row's expert */
  FACT_LABEL,  /* a number that names the row's expert, or perhaps none */
  FACT_TOKEN,  /* the row's token */
  FACT_ROUTE,  /* the row's route: token * k + slot */
  FACT_PLACE,  /* the route's place among the sorted ones */
  FACT_GATE,   /* known where the expert is not one of the token's */
  FACT_COORDS, /* i64[dimensions of a mask, rows]: where it is true */
  FACT_TUPLE,  /* the same, some of them, as [rows, n] */
  FACT_COUNT,  /* routes of an expert: [experts] or one number */
  FACT_BOUND,  /* routes of the experts before one: likewise */
  FACT_TOTAL,  /* routes of each expert in each group of tokens */
  FACT_RANK,   /* a number that tells the routes of an expert apart */
  FACT_CHOICE, /* the token that an expert chose for a place */
  FACT_BUFFER, /* expert * capacity + rank: the route's place in all buffers */
} moe_fact_kind_t;

typedef struct moe_constant {
  bool known;
  double x;
} moe_constant_t;

/* A number that is linear in the coordinates of a mask: the sum of
 * coefficient[d] * coordinate[d], divided by `by` and rounded down. */
typedef struct moe_linear {
  const expr_t **coefficient;
  unsigned n;
  const expr_t *by; /* NULL: not divided */
} moe_linear_t;

/* The order in which routes are counted: token by token and slot by slot, slot
 * by slot, or tokens, each once for all of its slots. */
typedef enum { ORDER_ROUTES, ORDER_SLOTS, ORDER_TOKENS } moe_order_t;

/* A number that tells the routes of one expert apart: offset + all routes of
 * `base` + how many routes of `source` come before this one, in that order or
 * the reverse one. Tokens are counted in groups: over the innermost of their
 * dimensions. With parts, the number of each slot is that of its part. */
typedef struct moe_rank {
  double offset;
  const expr_t *counted; /* size of that dimension */
  const moe_source_t *source;
  moe_order_t order;
  bool reverse;
  bool gaps;         /* some routes have a negative number instead */
  const ir_op_t *by; /* tokens are counted in the order of this topk; or NULL */
  const expr_t *most; /* greater numbers are this one instead; NULL: none is */
  double exact; /* the type in which it is counted tells numbers below this */
  unsigned n_base, n_parts;
  const moe_source_t *base[MOE_MAX_PARTS];
  /* Of a base only routes below this capacity are counted; NULL: all are. */
  const expr_t *kept[MOE_MAX_PARTS];
  const struct moe_rank *part[MOE_MAX_PARTS];
} moe_rank_t;

/* A rank as a value, of one router. */
typedef struct moe_place {
  const moe_rank_t *rank;
  ir_value_t *value;
  const uint8_t *tag; /* of value */
  ir_value_t *given;  /* it is the rank where this is not 0; NULL: always */
  const uint8_t *given_tag;
  bool unless;  /* it is the rank where `given` is 0 instead */
  bool limited; /* it is the rank where that is below the capacity */
  bool always;  /* neither was asked from the beginning */
} moe_place_t;

/* Where routes are in the buffers of their experts: one value of rank for all
 * slots, or one for each part of the router. */
typedef struct moe_places {
  unsigned n;
  moe_place_t of[MOE_MAX_PARTS];
} moe_places_t;

typedef struct moe_fact {
  moe_fact_kind_t kind;
  const moe_source_t *source;
  uint8_t tag[IR_MAX_RANK]; /* of the value's dimensions */
  int64_t expert;           /* the expert that all of it is about, or -1 */
  int64_t slot;             /* EXPERT: the slot that it is of, or -1: all */
  /* EXPERT, TOKEN, ROUTE, COORDS: the operation that made the rows: topk that
   * sorts, nonzero; NULL: rows are tokens or routes in order. */
  const ir_op_t *space;
  const double *map; /* EXPERT: element = map[expert]; NULL: the expert */
  /* LABEL: as an index of what experts have, it picks the row's own. If not:
   * rows whose element is map[expert] have that expert, others have none. */
  bool indexes;
  /* GATE: the element for other experts, for the token's own ones, and a value
   * of the shape of the source's index that has it for each route. */
  moe_constant_t off, on;
  ir_value_t *at_route;
  /* GATE of a router with parts, of one expert, a sum of those of the parts: a
   * value for each part that has it for each token; NULL: not known. */
  ir_value_t *const *at_slot;
  /* GATE with TAG_PLACE: at the token's own experts, but other places; `on` is
   * at the route's own place. Without TAG_EXPERT, `off` is the same. */
  moe_constant_t other;
  const moe_places_t *places;
  /* RANK, BUFFER, and what a GATE is for the token's own experts; where `given`
   * is not 0, NULL: always. A BUFFER has `places`, and other elements for
   * routes without one: those where `given` is 0, `limited`: those beyond the
   * capacity. These lie behind all buffers, or somewhere among them. */
  const moe_rank_t *rank;
  ir_value_t *given;
  const uint8_t *given_tag;
  bool unless; /* where it is 0 instead */
  bool limited, behind;
  bool turned; /* ROUTE of sorted rows: slot * tokens + token instead */
  const moe_linear_t *linear; /* TOKEN and ROUTE of a mask's rows, TUPLE: n */
  const moe_linear_t *coordinate; /* EXPERT: of a mask's rows; or NULL */
  int64_t first; /* BOUND, COUNT: expert of the first element */
} moe_fact_t;

typedef struct moe_facts moe_facts_t;

/* Facts of the values of a function; valid until it changes. Values must be
 * numbered (ir_renumber). */
moe_facts_t *moe_facts_create(arena_t *arena, ir_func_t *func);
/* Of kind FACT_NONE where nothing is known; never NULL. */
const moe_fact_t *moe_fact(moe_facts_t *facts, ir_value_t *value);
/* What a size symbol counts (FACT_COUNT or FACT_BOUND), else FACT_NONE. */
const moe_fact_t *moe_fact_of_symbol(moe_facts_t *facts,
                                     const expr_symbol_t *symbol);

/* Whether it is the number of each row's token, or route, among all. */
bool moe_is_token_number(moe_facts_t *facts, const moe_fact_t *fact);
/* The same for routes: how these lie, TAG_TURNED for slots in front of tokens;
 * 0: it is no such number. */
unsigned moe_route_tag(moe_facts_t *facts, const moe_fact_t *fact);

/* ---- Tags (moe_tags.c) --------------------------------------------------- */

/* Tags of the operand of a reshape from those of its result, or the other way
 * round: from has the tags, to gets them. False where the shape mixes what must
 * not be mixed. */
bool moe_tags_reshape(const moe_source_t *source, const ir_type_t *from,
                      const uint8_t *from_tag, const ir_type_t *to,
                      uint8_t *to_tag);
/* Tags of an operand that is broadcast to the result. */
bool moe_tags_broadcast(const ir_type_t *result, const uint8_t *result_tag,
                        const ir_type_t *operand, uint8_t *operand_tag);
/* Where a tag (all of its bits) is among the dimensions; -1: nowhere. */
int moe_tag_find(unsigned rank, const uint8_t *tag, unsigned wanted);
/* The kinds of a dimension with this tag in their order, outermost first; those
 * that it does not have are among them. */
const unsigned *moe_tag_order(unsigned tag, unsigned *out_n);
/* All tags of the dimensions together. */
unsigned moe_tag_union(unsigned rank, const uint8_t *tag);

#endif
