/* What was found about Mixture-of-Experts layers: filled in by the passes that
 * recognise them, written out by tools/. Data only. */
#ifndef PASSES_MOE_REPORT_H
#define PASSES_MOE_REPORT_H

#include "ir/ir.h"

/* Of one token that meets each of its k experts. NULL: not known. */
typedef struct moe_work {
  const expr_t *multiply_adds; /* of products and convolutions */
  const expr_t *elementwise;   /* elements that other operations compute */
  const expr_t *weight_bytes;  /* that have to be read */
} moe_work_t;

/* How a result of the layer relates to that of the graph as it stands. */
typedef enum {
  MOE_EX0, /* the same bits */
  MOE_EX1, /* the same function of real numbers, sums in another order */
} moe_exactness_t;

/* Where the routing weight enters. */
typedef enum {
  MOE_WEIGHT_OUTPUT, /* w * f(x) */
  MOE_WEIGHT_INPUT,  /* f(w * x) */
  MOE_WEIGHT_HIDDEN, /* between the products of f */
  MOE_WEIGHT_NONE,   /* there is none: each selected expert counts once */
} moe_weight_position_t;

/* A growing list of words. */
typedef struct moe_words {
  unsigned n, room;
  const char **word;
} moe_words_t;

/* Why an expert, or a part of it, is not computed. */
typedef enum {
  MOE_PRUNE_MASKED,     /* its choice is -inf, or its weight always 0 */
  MOE_PRUNE_BOUNDED,    /* bounds of k others' choices lie above its own */
  MOE_PRUNE_DOMINATED,  /* k others' logits lie above its own */
  MOE_PRUNE_OUTRANKED,  /* its group is never kept */
  MOE_PRUNE_TIED,       /* k others have its row of the gate, and win ties */
  MOE_PRUNE_HULL,       /* its row of the gate lies between others' */
  MOE_PRUNE_ENUMERATED, /* no row of the table that is routed chooses it */
  MOE_PRUNE_UNNAMED,    /* its number is not in the table of experts */
  MOE_PRUNE_ZERO,       /* its result is 0 */
  MOE_PRUNE_DUPLICATE,  /* it computes what `same_as` computes */
  MOE_PRUNE_PERMUTED,   /* it computes that, its neurons in another order */
  MOE_PRUNE_NEURONS,    /* some of its hidden features add nothing */
} moe_pruning_rule_t;

/* The certificate of one such expert. Numbers are those of the file's router.
 */
typedef struct moe_pruning {
  moe_pruning_rule_t rule;
  int64_t expert;
  int64_t same_as;      /* of duplicates, else -1 */
  unsigned n_witnesses; /* experts that are chosen before it: int64_t[n] */
  const int64_t *witnesses;
  int64_t sets; /* of as many witnesses, one of each is; 0: all of them are */
  int64_t rows; /* of the table that were looked at; 0: there is none */
  int64_t neurons; /* that are not computed; 0: the whole expert is not */
  double slack; /* how far their choices, or logits, lie above its own at least;
                   NaN: says nothing */
  bool leaves_router; /* the gate has no column for it any more */
  moe_exactness_t exactness;
  moe_words_t assumptions;
} moe_pruning_t;

/* A limit on the tokens of an expert: later ones are dropped. */
typedef struct moe_capacity {
  bool limits;          /* there is one */
  const expr_t *places; /* of each expert; NULL: a run finds out */
  const expr_t
      *groups;       /* of tokens, each counted on its own; NULL: not known */
  const char *order; /* in which tokens come: "tokens" one after the other,
                        or "slots": all first choices, then the second ones */
} moe_capacity_t;

/* One layer. Texts are lower case, without a full stop; they, like all else,
 * live in the report's arena or longer. NULL and 0 where nothing is known. */
typedef struct moe_layer {
  const char *name; /* the ONNX node that gives the combined result, or the name
                       of that value where the node has none */
  ir_loc_t loc;     /* of that node */
  const char
      *form;       /* "loop over experts", "gathered weights", "sorted and
                      grouped", "dense, masked", "buffers with a capacity", ... */
  int64_t experts; /* E: numbers that the router can name */
  int64_t k;       /* experts of a token; 0 where that varies */
  int64_t groups, groups_kept; /* of a router limited to groups; 0: it is not */
  const char *router;          /* "softmax, top-k, renormalised" */
  moe_capacity_t capacity;
  const char *structure; /* of the experts; of the first kind where they
                            are of several: "silu(x W) ..., 32 -> 48" */
  unsigned n_structures; /* kinds of experts */
  int64_t shared;        /* experts that every token runs through */
  unsigned n_missing;    /* experts that the router can name but the file
                            lacks, int64_t[n_missing], ascending */
  const int64_t *missing;
  moe_weight_position_t weight_position;
  moe_exactness_t exactness;
  moe_words_t assumptions; /* of that class: "outputs of experts are finite" */
  moe_work_t before;       /* of the graph as it stands */
  moe_work_t after;        /* of the layer as it was rewritten */
  unsigned n_prunings, room_prunings;
  moe_pruning_t **prunings; /* by rule, then by expert */
  bool sparse;              /* rewritten: only selected experts are computed */
  const char *reason;       /* why not, where it is not sparse */
} moe_layer_t;

/* Something that looked like a layer and was left as it stands. */
typedef struct moe_refusal {
  ir_loc_t loc;          /* of the candidate's anchor: its TopK, NonZero, ... */
  const char *candidate; /* what it looked like: "loop over experts" */
  ir_loc_t blocker;      /* the first node that stood in the way */
  const char *obligation; /* what could not be shown: "the weight of an
                             unselected expert is exactly zero" */
} moe_refusal_t;

/* A value for training that is computed from a router's results. */
typedef struct moe_loss {
  ir_loc_t loc;     /* of the node that gives it */
  const char *kind; /* "load balancing", "router z-loss", ... */
  bool kept;        /* an output of the model needs it */
} moe_loss_t;

typedef struct moe_report {
  arena_t *arena; /* owns what the lists point to */
  unsigned n_layers, n_refusals, n_losses;
  moe_layer_t **layers; /* in the order in which they were added */
  moe_refusal_t **refusals;
  moe_loss_t **losses;
  unsigned room_layers, room_refusals, room_losses;
} moe_report_t;

moe_report_t *moe_report_create(arena_t *arena);

/* Append one that is all zero; it stays where it is when others follow. A NULL
 * report gives NULL: nobody wants to know. */
moe_layer_t *moe_report_add_layer(moe_report_t *report);
moe_refusal_t *moe_report_add_refusal(moe_report_t *report);
moe_loss_t *moe_report_add_loss(moe_report_t *report);

moe_pruning_t *moe_report_add_pruning(moe_report_t *report, moe_layer_t *layer);

/* Forgets refusals of what has become a layer all the same, and all but the
 * first of a node's. */
void moe_report_settle(moe_report_t *report);

/* Appends a copy of a word, unless it is there already. */
void moe_words_add(moe_report_t *report, moe_words_t *words, const char *word);

/* "masked", "bounded", "dominated", .. */
const char *moe_pruning_rule_name(moe_pruning_rule_t rule);
/* "output", "input", "hidden", "none"; "EX0", "EX1". */
const char *moe_weight_position_name(moe_weight_position_t position);
const char *moe_exactness_name(moe_exactness_t exactness);

#endif
