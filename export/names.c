/* Names of values and nodes: those of the source where there are any, each
 * once; the same for the same graph. */
#include <string.h>

#include "export/graph.h"

typedef struct entry {
  const char *text; /* NULL: free */
  unsigned count;   /* names made of it so far */
} entry_t;

typedef struct names {
  arena_t *arena;
  entry_t *entries; /* open addressing; room is a power of two */
  unsigned n, room;
} names_t;

static uint64_t hash_of(const char *text) {
  uint64_t hash = 1469598103934665603U;
  for (; *text != '\0'; text++)
    hash = (hash ^ (unsigned char)*text) * 1099511628211U;
  return hash;
}

static entry_t *slot_of(const names_t *names, const char *text) {
  unsigned at = (unsigned)hash_of(text) & (names->room - 1);
  while (names->entries[at].text != NULL &&
         strcmp(names->entries[at].text, text) != 0)
    at = (at + 1) & (names->room - 1);
  return &names->entries[at];
}

static entry_t *find(names_t *names, const char *text) {
  if (2 * names->n >= names->room) {
    names_t old = *names;
    names->room = old.room == 0 ? 256 : 2 * old.room;
    names->entries = ARENA_ARRAY(names->arena, entry_t, names->room);
    for (unsigned i = 0; i < old.room; i++)
      if (old.entries[i].text != NULL)
        *slot_of(names, old.entries[i].text) = old.entries[i];
  }
  return slot_of(names, text);
}

static void take(names_t *names, entry_t *entry, const char *text) {
  entry->text = text;
  names->n++;
}

/* `hint`, or with a number behind it where that is taken. */
static const char *fresh(names_t *names, const char *hint) {
  entry_t *entry = find(names, hint);
  if (entry->text == NULL) {
    take(names, entry, hint);
    return hint;
  }
  for (unsigned i = entry->count + 1;; i++) {
    const char *text = arena_printf(names->arena, "%s_%u", hint, i);
    entry_t *made = find(names, text); /* may move entries */
    if (made->text != NULL) continue;
    take(names, made, text);
    slot_of(names, hint)->count = i;
    return text;
  }
}

static void name_value(names_t *names, og_value_t *value, const char *other) {
  if (value->name == NULL)
    value->name = fresh(names, value->hint != NULL ? value->hint : other);
}

static void name_inside(og_graph_t *graph, names_t *values, names_t *nodes) {
  for (unsigned i = 0; i < graph->n_in; i++)
    name_value(values, graph->inputs[i], "arg");
  for (og_value_t *t = graph->first_tensor; t != NULL; t = t->next)
    name_value(values, t, "const");
  for (og_node_t *node = graph->first; node != NULL; node = node->next) {
    node->name = fresh(nodes, node->hint != NULL ? node->hint : node->op_type);
    for (unsigned i = 0; i < node->n_out; i++)
      name_value(values, &node->out[i], node->op_type);
    for (og_attr_t *a = node->first_attr; a != NULL; a = a->next)
      if (a->kind == OG_GRAPH) name_inside(a->graph, values, nodes);
  }
}

void og_name_all(og_graph_t *graph) {
  names_t values = {.arena = graph->arena}, nodes = {.arena = graph->arena};
  og_value_t **lists[] = {graph->inputs, graph->outputs};
  unsigned n[] = {graph->n_in, graph->n_out};
  for (unsigned l = 0; l < 2; l++)
    for (unsigned i = 0; i < n[l]; i++) name_value(&values, lists[l][i], "arg");
  name_inside(graph, &values, &nodes);
}
