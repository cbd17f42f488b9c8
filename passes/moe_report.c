/* Lists of what was found about Mixture-of-Experts layers. */
#include "passes/moe_report.h"

#include <string.h>

moe_report_t *moe_report_create(arena_t *arena) {
  moe_report_t *report = ARENA_NEW(arena, moe_report_t);
  report->arena = arena;
  return report;
}

/* Makes room for one more pointer in a list of `n`. */
static void *grow(arena_t *arena, const void *list, unsigned n,
                  unsigned *room) {
  if (n < *room) return (void *)list;
  *room = 2 * *room + 4;
  return arena_grow_array(arena, list, n, *room, sizeof(void *));
}

moe_layer_t *moe_report_add_layer(moe_report_t *report) {
  if (report == NULL) return NULL;
  moe_layer_t *layer = ARENA_NEW(report->arena, moe_layer_t);
  report->layers = grow(report->arena, report->layers, report->n_layers,
                        &report->room_layers);
  report->layers[report->n_layers++] = layer;
  return layer;
}

moe_refusal_t *moe_report_add_refusal(moe_report_t *report) {
  if (report == NULL) return NULL;
  moe_refusal_t *refusal = ARENA_NEW(report->arena, moe_refusal_t);
  report->refusals = grow(report->arena, report->refusals, report->n_refusals,
                          &report->room_refusals);
  report->refusals[report->n_refusals++] = refusal;
  return refusal;
}

moe_loss_t *moe_report_add_loss(moe_report_t *report) {
  if (report == NULL) return NULL;
  moe_loss_t *loss = ARENA_NEW(report->arena, moe_loss_t);
  report->losses = grow(report->arena, report->losses, report->n_losses,
                        &report->room_losses);
  report->losses[report->n_losses++] = loss;
  return loss;
}

moe_pruning_t *moe_report_add_pruning(moe_report_t *report,
                                      moe_layer_t *layer) {
  if (report == NULL || layer == NULL) return NULL;
  moe_pruning_t *pruning = ARENA_NEW(report->arena, moe_pruning_t);
  layer->prunings = grow(report->arena, layer->prunings, layer->n_prunings,
                         &layer->room_prunings);
  layer->prunings[layer->n_prunings++] = pruning;
  return pruning;
}

/* ---- Settling ------------------------------------------------------------ */

/* A set of nodes: open addressing. */
typedef struct node_set {
  const ir_loc_t **slot;
  uint32_t mask;
} node_set_t;

static bool same_node(const ir_loc_t *a, const ir_loc_t *b) {
  if (a->index != b->index || (a->node == NULL) != (b->node == NULL))
    return false;
  return a->node == NULL || strcmp(a->node, b->node) == 0;
}

/* Adds a node; false if it was there. Those without an index are no nodes. */
static bool add_node(node_set_t *set, const ir_loc_t *loc) {
  uint32_t hash = UINT32_C(2166136261) ^ (uint32_t)loc->index; /* FNV-1a */
  if (loc->index <= 0) return true;
  for (const char *c = loc->node; c != NULL && *c != '\0'; c++)
    hash = (hash ^ (unsigned char)*c) * UINT32_C(16777619);
  uint32_t at = (hash * UINT32_C(2654435769)) & set->mask;
  for (; set->slot[at] != NULL; at = (at + 1) & set->mask)
    if (same_node(set->slot[at], loc)) return false;
  set->slot[at] = loc;
  return true;
}

void moe_report_settle(moe_report_t *report) {
  uint32_t size = 16;
  unsigned n = 0;
  while (size < 2 * ((uint64_t)report->n_layers + report->n_refusals))
    size *= 2;
  node_set_t set = {ARENA_ARRAY(report->arena, const ir_loc_t *, size),
                    size - 1};
  for (unsigned i = 0; i < report->n_layers; i++)
    (void)add_node(&set, &report->layers[i]->loc);
  for (unsigned i = 0; i < report->n_refusals; i++)
    if (add_node(&set, &report->refusals[i]->loc))
      report->refusals[n++] = report->refusals[i];
  report->n_refusals = n;
}

/* ---- Words --------------------------------------------------------------- */

void moe_words_add(moe_report_t *report, moe_words_t *words, const char *word) {
  for (unsigned i = 0; i < words->n; i++)
    if (strcmp(words->word[i], word) == 0) return;
  words->word = grow(report->arena, words->word, words->n, &words->room);
  words->word[words->n++] = arena_strdup(report->arena, word);
}

const char *moe_pruning_rule_name(moe_pruning_rule_t rule) {
  static const char *const names[] = {
      [MOE_PRUNE_MASKED] = "masked",
      [MOE_PRUNE_BOUNDED] = "bounded",
      [MOE_PRUNE_DOMINATED] = "dominated",
      [MOE_PRUNE_UNNAMED] = "unnamed",
      [MOE_PRUNE_ZERO] = "zero",
      [MOE_PRUNE_DUPLICATE] = "duplicate",
      [MOE_PRUNE_NEURONS] = "neurons",
      [MOE_PRUNE_TIED] = "tied",
      [MOE_PRUNE_OUTRANKED] = "outranked",
      [MOE_PRUNE_HULL] = "hull",
      [MOE_PRUNE_ENUMERATED] = "enumerated",
      [MOE_PRUNE_PERMUTED] = "permuted",
  };
  MOEC_ASSERT(rule < sizeof names / sizeof names[0]);
  return names[rule];
}

const char *moe_weight_position_name(moe_weight_position_t position) {
  static const char *const names[] = {
      [MOE_WEIGHT_OUTPUT] = "output",
      [MOE_WEIGHT_INPUT] = "input",
      [MOE_WEIGHT_HIDDEN] = "hidden",
      [MOE_WEIGHT_NONE] = "none",
  };
  MOEC_ASSERT(position < sizeof names / sizeof names[0]);
  return names[position];
}

const char *moe_exactness_name(moe_exactness_t exactness) {
  static const char *const names[] = {[MOE_EX0] = "EX0", [MOE_EX1] = "EX1"};
  MOEC_ASSERT(exactness < sizeof names / sizeof names[0]);
  return names[exactness];
}
