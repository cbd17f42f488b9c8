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
  TAG_INNER = 8, /* features of a row */
  TAG_ROW = 16,  /* rows of a space that was made by sorting or by a mask */
  TAG_GONE = 32, /* of size 1 where a row or an expert would be: broadcast */
};

typedef struct moe_source {
  ir_value_t *index; /* integers [T.., k] or [T..] */
  int slot;          /* axis of the slots, -1: none, one expert per token */
  bool distinct;     /* no expert twice for one token */
  int64_t experts;   /* numbers are in [0, experts) */
  const expr_t *k, *tokens, *routes; /* routes = tokens * k */
} moe_source_t;

typedef enum {
  FACT_NONE,
  FACT_EXPERT, /* the row's expert */
  FACT_TOKEN,  /* the row's token */
  FACT_ROUTE,  /* the row's route: token * k + slot */
  FACT_PLACE,  /* the route's place among the sorted ones */
  FACT_GATE,   /* known where the expert is not one of the token's */
  FACT_COORDS, /* i64[dimensions of a mask, rows]: where it is true */
  FACT_TUPLE,  /* the same, some of them, as [rows, n] */
  FACT_COUNT,  /* routes of an expert: [experts] or one number */
  FACT_BOUND,  /* routes of the experts before one: likewise */
} moe_fact_kind_t;

typedef struct moe_constant {
  bool known;
  double x;
} moe_constant_t;

/* A number that is linear in the coordinates of a mask: sum of
 * coefficient[d] * coordinate[d]. */
typedef struct moe_linear {
  const expr_t **coefficient;
  unsigned n;
} moe_linear_t;

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
  /* GATE: the element for other experts, for the token's own ones, and a value
   * of the shape of the source's index that has it for each route. */
  moe_constant_t off, on;
  ir_value_t *at_route;
  const moe_linear_t *linear; /* TOKEN and ROUTE of a mask's rows, TUPLE: n */
  int64_t first;              /* BOUND, COUNT: expert of the first element */
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

/* ---- Tags (moe_tags.c) ------------------------------------------------------
 */

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
/* All tags of the dimensions together. */
unsigned moe_tag_union(unsigned rank, const uint8_t *tag);

#endif
