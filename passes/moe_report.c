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

void moe_words_add(moe_report_t *report, moe_words_t *words, const char *word) {
  for (unsigned i = 0; i < words->n; i++)
    if (strcmp(words->word[i], word) == 0) return;
  words->word = grow(report->arena, words->word, words->n, &words->room);
  words->word[words->n++] = arena_strdup(report->arena, word);
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
