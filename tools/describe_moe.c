/* Mixture-of-Experts layers as JSON and as text. */
#include "tools/describe_moe.h"

#include <math.h>
#include <string.h>

#include "tools/json.h"

/* ---- As JSON ------------------------------------------------------------- */

static void append_string(const char *key, const char *string, text_t *out) {
  if (string == NULL) return;
  text_printf(out, ",\"%s\":", key);
  json_write_string(string, out);
}

static void append_node(const char *key, const ir_loc_t *loc, text_t *out) {
  text_printf(out, "\"%s\":{", key);
  const char *comma = "";
  if (loc->index > 0) {
    text_printf(out, "\"index\":%d", loc->index - 1);
    comma = ",";
  }
  if (loc->node != NULL) {
    text_printf(out, "%s\"name\":", comma);
    json_write_string(loc->node, out);
    comma = ",";
  }
  if (loc->type != NULL) {
    text_printf(out, "%s\"operator\":", comma);
    json_write_string(loc->type, out);
    comma = ",";
  }
  if (loc->where != NULL) {
    text_printf(out, "%s\"place\":", comma);
    json_write_string(loc->where, out);
  }
  text_printf(out, "}");
}

/* A number, an expression of the model's dimensions as a string, or null. */
static void append_size(const char *key, const expr_t *e, text_t *out) {
  int64_t number;
  text_printf(out, "\"%s\":", key);
  if (e == NULL) {
    text_printf(out, "null");
  } else if (expr_is_const(e, &number)) {
    text_printf(out, "%lld", (long long)number);
  } else {
    text_t text;
    text_init(&text, out->arena);
    expr_print(e, &text);
    json_write_string(text.data, out);
  }
}

static void append_work(const char *key, const moe_work_t *work, text_t *out) {
  text_printf(out, ",\"%s\":{", key);
  append_size("multiply_adds", work->multiply_adds, out);
  text_printf(out, ",");
  append_size("elementwise", work->elementwise, out);
  text_printf(out, ",");
  append_size("weight_bytes", work->weight_bytes, out);
  text_printf(out, "}");
}

static void append_words(const char *key, const moe_words_t *words,
                         text_t *out) {
  text_printf(out, ",\"%s\":[", key);
  for (unsigned i = 0; i < words->n; i++) {
    if (i > 0) text_printf(out, ",");
    json_write_string(words->word[i], out);
  }
  text_printf(out, "]");
}

static void append_pruning(const moe_pruning_t *pruning, text_t *out) {
  text_printf(out, "{\"rule\":\"%s\",\"expert\":%lld",
              moe_pruning_rule_name(pruning->rule), (long long)pruning->expert);
  if (pruning->same_as >= 0)
    text_printf(out, ",\"same_as\":%lld", (long long)pruning->same_as);
  if (pruning->neurons > 0)
    text_printf(out, ",\"neurons\":%lld", (long long)pruning->neurons);
  text_printf(out, ",\"witnesses\":[");
  for (unsigned i = 0; i < pruning->n_witnesses; i++)
    text_printf(out, "%s%lld", i > 0 ? "," : "",
                (long long)pruning->witnesses[i]);
  text_printf(out, "]");
  if (pruning->rows > 0)
    text_printf(out, ",\"rows\":%lld", (long long)pruning->rows);
  if (pruning->sets > 0)
    text_printf(out, ",\"sets\":%lld", (long long)pruning->sets);
  text_printf(out, ",\"leaves_router\":%s,\"slack\":",
              pruning->leaves_router ? "true" : "false");
  json_write_number(pruning->slack, out);
  text_printf(out, ",\"exactness\":\"%s\"",
              moe_exactness_name(pruning->exactness));
  append_words("assumptions", &pruning->assumptions, out);
  text_printf(out, "}");
}

static void append_prunings(const moe_layer_t *layer, text_t *out) {
  if (layer->n_prunings == 0) return;
  text_printf(out, ",\"pruned\":[");
  for (unsigned i = 0; i < layer->n_prunings; i++) {
    if (i > 0) text_printf(out, ",");
    append_pruning(layer->prunings[i], out);
  }
  text_printf(out, "]");
}

static void append_capacity(const moe_capacity_t *capacity, text_t *out) {
  if (!capacity->limits) return;
  text_printf(out, ",\"capacity\":{");
  append_size("places", capacity->places, out);
  text_printf(out, ",");
  append_size("groups", capacity->groups, out);
  append_string("order", capacity->order, out);
  text_printf(out, ",\"dropped\":\"last\"}");
}

static void append_layer(const moe_layer_t *layer, text_t *out) {
  text_printf(out, "{\"name\":");
  json_write_string(layer->name != NULL ? layer->name : "", out);
  text_printf(out, ",");
  append_node("node", &layer->loc, out);
  append_string("form", layer->form, out);
  text_printf(out, ",\"experts\":%lld,\"k\":%lld", (long long)layer->experts,
              (long long)layer->k);
  if (layer->groups > 0)
    text_printf(out, ",\"groups\":{\"count\":%lld,\"kept\":%lld}",
                (long long)layer->groups, (long long)layer->groups_kept);
  append_string("router", layer->router, out);
  append_capacity(&layer->capacity, out);
  append_string("structure", layer->structure, out);
  text_printf(out, ",\"structures\":%u,\"shared\":%lld,\"missing\":[",
              layer->n_structures, (long long)layer->shared);
  for (unsigned i = 0; i < layer->n_missing; i++)
    text_printf(out, "%s%lld", i > 0 ? "," : "", (long long)layer->missing[i]);
  text_printf(out, "],\"weight_position\":\"%s\",\"exactness\":\"%s\"",
              moe_weight_position_name(layer->weight_position),
              moe_exactness_name(layer->exactness));
  append_words("assumptions", &layer->assumptions, out);
  append_work("before", &layer->before, out);
  append_work("after", &layer->after, out);
  text_printf(out, ",\"sparse\":%s", layer->sparse ? "true" : "false");
  append_string("reason", layer->reason, out);
  append_prunings(layer, out);
  text_printf(out, "}");
}

static void append_refusal(const moe_refusal_t *refusal, text_t *out) {
  text_printf(out, "{");
  append_node("node", &refusal->loc, out);
  append_string("candidate", refusal->candidate, out);
  text_printf(out, ",");
  append_node("blocker", &refusal->blocker, out);
  append_string("obligation", refusal->obligation, out);
  text_printf(out, "}");
}

static void append_loss(const moe_loss_t *loss, text_t *out) {
  text_printf(out, "{");
  append_node("node", &loss->loc, out);
  append_string("kind", loss->kind, out);
  text_printf(out, ",\"kept\":%s}", loss->kept ? "true" : "false");
}

void describe_moe(const moe_report_t *report, text_t *out) {
  text_printf(out, ",\"layers\":[");
  for (unsigned i = 0; i < report->n_layers; i++) {
    text_printf(out, "%s", i > 0 ? "," : "");
    append_layer(report->layers[i], out);
  }
  text_printf(out, "],\"refusals\":[");
  for (unsigned i = 0; i < report->n_refusals; i++) {
    text_printf(out, "%s", i > 0 ? "," : "");
    append_refusal(report->refusals[i], out);
  }
  text_printf(out, "],\"losses\":[");
  for (unsigned i = 0; i < report->n_losses; i++) {
    text_printf(out, "%s", i > 0 ? "," : "");
    append_loss(report->losses[i], out);
  }
  text_printf(out, "]");
}

/* ---- As text --------------------------------------------------------------
 * Names of nodes come from the file: they are escaped. */

static void say(text_t *out, const char *text) {
  diag_escape(out, text, strlen(text));
}

/* "node #3 "name" (Op)" */
static void say_place(text_t *out, const ir_loc_t *loc) {
  const size_t start = out->length;
  diag_append_place(out, loc);
  if (out->length == start)
    text_printf(out, "a node without a place");
  else
    out->data[out->length -= 2] = '\0'; /* without ": " */
}

static void begin_row(text_t *out, const char *name) {
  text_printf(out, "  %-12s", name);
}

static void say_row(text_t *out, const char *name, const char *text) {
  if (text == NULL) return;
  begin_row(out, name);
  say(out, text);
  text_printf(out, "\n");
}

static void say_experts(text_t *out, const moe_layer_t *layer) {
  begin_row(out, "experts");
  text_printf(out, "%lld, ", (long long)layer->experts);
  if (layer->k > 0)
    text_printf(out, "%lld of them for each token", (long long)layer->k);
  else
    text_printf(out, "how many for a token varies");
  if (layer->groups > 0)
    text_printf(out, ", from %lld of %lld groups",
                (long long)layer->groups_kept, (long long)layer->groups);
  if (layer->shared > 0)
    text_printf(out, ", and %lld for all tokens", (long long)layer->shared);
  text_printf(out, "\n");
}

/* "{1, 5}" */
static void append_missing(text_t *out, const moe_layer_t *layer) {
  enum { MAX_TOLD = 32 };
  text_printf(out, "{");
  for (unsigned i = 0; i < layer->n_missing; i++) {
    if (i == MAX_TOLD) {
      text_printf(out, ", and %u more", layer->n_missing - i);
      break;
    }
    text_printf(out, "%s%lld", i > 0 ? ", " : "", (long long)layer->missing[i]);
  }
  text_printf(out, "}");
}

/* A size with its unit; false where it is not known. */
static bool say_size(text_t *out, const expr_t *e, const char *unit) {
  if (e == NULL) return false;
  expr_print(e, out);
  text_printf(out, " %s", unit);
  return true;
}

/* "floordiv(T, 4) + 1 tokens of each expert, slot by slot; later ones are
 * dropped" */
static void say_capacity(text_t *out, const moe_capacity_t *capacity) {
  if (!capacity->limits) return;
  begin_row(out, "capacity");
  if (!say_size(out, capacity->places, "tokens"))
    text_printf(out, "a number of tokens that a run finds out");
  text_printf(out, " for each expert");
  if (capacity->groups != NULL && !expr_equals_const(capacity->groups, 1)) {
    text_printf(out, " in each of ");
    say_size(out, capacity->groups, "groups");
  }
  if (capacity->order != NULL)
    text_printf(out, ", counted %s",
                strcmp(capacity->order, "slots") == 0 ? "slot by slot"
                                                      : "token by token");
  text_printf(out, "; later ones are dropped\n");
}

static void say_work(text_t *out, const char *name, const moe_work_t *work) {
  if (work->multiply_adds == NULL && work->weight_bytes == NULL) return;
  begin_row(out, name);
  if (say_size(out, work->multiply_adds, "multiply-adds") &&
      work->weight_bytes != NULL)
    text_printf(out, ", ");
  say_size(out, work->weight_bytes, "bytes of weights for a token");
  text_printf(out, "\n");
}

static void say_exactness(text_t *out, const moe_layer_t *layer) {
  begin_row(out, "exactness");
  text_printf(out, "%s", moe_exactness_name(layer->exactness));
  for (unsigned i = 0; i < layer->assumptions.n; i++) {
    text_printf(out, "%s", i == 0 ? ", provided that " : "; ");
    say(out, layer->assumptions.word[i]);
  }
  text_printf(out, "\n");
}

/* ": behind 0, 1 and 3 more", ": behind one of 0, 1, one of 4, 7" */
static void say_witnesses(text_t *out, const moe_pruning_t *pruning) {
  enum { MAX_TOLD = 8 };
  int64_t n = pruning->n_witnesses, sets = pruning->sets;
  for (int64_t i = 0; i < n && i < MAX_TOLD; i++) {
    bool begins = sets > 0 && i % (n / sets) == 0;
    text_printf(out, "%s%s %lld", i > 0 ? "," : ": behind",
                begins ? " one of" : "", (long long)pruning->witnesses[i]);
  }
  if (n > MAX_TOLD)
    text_printf(out, " and %lld more", (long long)(n - MAX_TOLD));
}

/* "expert 3, masked: 0, 1 come before it by 2 or more" */
static void say_pruning(text_t *out, const moe_pruning_t *pruning) {
  text_printf(out, "expert %lld, ", (long long)pruning->expert);
  if (pruning->neurons > 0)
    text_printf(out, "%lld ", (long long)pruning->neurons);
  text_printf(out, "%s", moe_pruning_rule_name(pruning->rule));
  if (pruning->same_as >= 0)
    text_printf(out, " of %lld", (long long)pruning->same_as);
  if (pruning->rows > 0)
    text_printf(out, ": below others in each of %lld rows",
                (long long)pruning->rows);
  say_witnesses(out, pruning);
  if (isfinite(pruning->slack) && pruning->slack < 1e200)
    text_printf(out, " by at least %.6g", pruning->slack);
  if (pruning->leaves_router) text_printf(out, ", out of the gate");
  text_printf(out, "; %s", moe_exactness_name(pruning->exactness));
  if (pruning->exactness == MOE_EX1)
    text_printf(out, ", sums in another order");
  for (unsigned i = 0; i < pruning->assumptions.n; i++) {
    text_printf(out, "%s", i == 0 ? ", provided that " : " and ");
    say(out, pruning->assumptions.word[i]);
  }
  text_printf(out, "\n");
}

static void say_prunings(text_t *out, const moe_layer_t *layer) {
  enum { MAX_TOLD = 32 };
  for (unsigned i = 0; i < layer->n_prunings; i++) {
    begin_row(out, i == 0 ? "left out" : "");
    if (i == MAX_TOLD) {
      text_printf(out, "%u more\n", layer->n_prunings - i);
      return;
    }
    say_pruning(out, layer->prunings[i]);
  }
}

static void say_layer(text_t *out, const moe_layer_t *layer, unsigned number) {
  text_printf(out, "layer %u: ", number);
  if (layer->name != NULL) say(out, layer->name);
  text_printf(out, "%s", layer->name != NULL ? ", " : "");
  say_place(out, &layer->loc);
  text_printf(out, "\n");
  say_row(out, "form", layer->form);
  say_experts(out, layer);
  if (layer->n_missing > 0) {
    begin_row(out, "missing");
    append_missing(out, layer);
    text_printf(out, "\n");
  }
  say_row(out, "router", layer->router);
  say_capacity(out, &layer->capacity);
  say_row(out, "expert", layer->structure);
  begin_row(out, "weight");
  text_printf(
      out, "%s%s\n",
      layer->weight_position == MOE_WEIGHT_NONE ? "" : "multiplies the ",
      moe_weight_position_name(layer->weight_position));
  if (layer->sparse) {
    say_exactness(out, layer);
    say_work(out, "work", &layer->after);
    say_work(out, "before", &layer->before);
    say_prunings(out, layer);
  } else {
    begin_row(out, "left as is");
    say(out, layer->reason != NULL ? layer->reason : "no reason is known");
    text_printf(out, "\n");
  }
}

static void say_refusal(text_t *out, const moe_refusal_t *refusal) {
  text_printf(out, "no layer: ");
  say_place(out, &refusal->loc);
  if (refusal->candidate != NULL) {
    text_printf(out, " looks like ");
    say(out, refusal->candidate);
  }
  text_printf(out, "\n  stopped at  ");
  say_place(out, &refusal->blocker);
  text_printf(out, "\n");
  say_row(out, "not shown", refusal->obligation);
}

void explain_moe(const moe_report_t *report, text_t *out) {
  if (report->n_layers + report->n_refusals + report->n_losses == 0)
    text_printf(out, "no Mixture-of-Experts layer was found\n");
  for (unsigned i = 0; i < report->n_layers; i++)
    say_layer(out, report->layers[i], i + 1);
  for (unsigned i = 0; i < report->n_refusals; i++)
    say_refusal(out, report->refusals[i]);
  for (unsigned i = 0; i < report->n_losses; i++) {
    const moe_loss_t *loss = report->losses[i];
    text_printf(out, "loss: ");
    say_place(out, &loss->loc);
    text_printf(out, ", ");
    say(out, loss->kind != NULL ? loss->kind : "of a kind that is not known");
    text_printf(out, loss->kept ? ", an output needs it\n" : ", left out\n");
  }
}

/* ---- Warnings ------------------------------------------------------------ */

void warn_of_missing_experts(const moe_report_t *report, diag_sink_t *diag) {
  for (unsigned i = 0; i < report->n_layers; i++) {
    const moe_layer_t *layer = report->layers[i];
    if (layer->n_missing == 0) continue;
    text_t which;
    text_init(&which, report->arena);
    append_missing(&which, layer);
    diag_warning(
        diag, layer->loc,
        "layer %s: experts %s of %lld are absent from the file; tokens "
        "routed there get nothing from them",
        layer->name != NULL ? layer->name : "without a name", which.data,
        (long long)layer->experts);
  }
}
