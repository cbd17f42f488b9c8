/* Building graphs of ONNX operators. */
#include "export/graph.h"

og_graph_t *og_graph(arena_t *arena, og_graph_t *parent) {
  og_graph_t *graph = ARENA_NEW(arena, og_graph_t);
  graph->arena = arena;
  graph->parent = parent;
  return graph;
}

static void push(og_graph_t *graph, og_value_t ***list, unsigned *n,
                 unsigned *room, og_value_t *value) {
  if (*n == *room) {
    *room = 2 * *room + 4;
    *list = arena_grow_array(graph->arena, *list, *n, *room, sizeof **list);
  }
  (*list)[(*n)++] = value;
}

/* Inside of operators sizes may be others in each trip or branch: only those
 * that are constant are told. */
static ir_type_t declared(const og_graph_t *graph, const ir_type_t *type) {
  ir_type_t result = *type;
  if (graph->parent == NULL || type->kind != IR_TENSOR) return result;
  const expr_t **dim = ARENA_ARRAY(graph->arena, const expr_t *, type->rank);
  for (unsigned i = 0; i < type->rank; i++)
    if (type->dim[i] != NULL && expr_is_const(type->dim[i], NULL))
      dim[i] = type->dim[i];
  result.dim = dim;
  return result;
}

og_value_t *og_input(og_graph_t *graph, const ir_type_t *type,
                     const char *hint) {
  og_value_t *value = ARENA_NEW(graph->arena, og_value_t);
  value->graph = graph;
  value->type = declared(graph, type);
  value->dtype = type->dtype;
  value->hint = hint;
  push(graph, &graph->inputs, &graph->n_in, &graph->in_room, value);
  return value;
}

void og_output(og_graph_t *graph, og_value_t *value, const ir_type_t *type,
               const char *name) {
  if (value->graph != graph || value->node == NULL || value->output) {
    og_node_t *node = og_node(graph, "Identity", NULL, 1, &value, 1);
    node->out[0].dtype = value->dtype;
    node->out[0].hint = value->hint;
    value = &node->out[0];
  }
  value->output = true;
  value->type = declared(graph, type);
  if (name != NULL) {
    value->hint = name;
    value->fixed = true;
  }
  push(graph, &graph->outputs, &graph->n_out, &graph->out_room, value);
}

og_node_t *og_node(og_graph_t *graph, const char *op_type, const char *hint,
                   unsigned n_in, og_value_t *const *in, unsigned n_out) {
  og_node_t *node = ARENA_NEW(graph->arena, og_node_t);
  node->op_type = op_type;
  node->hint = hint;
  node->n_in = n_in;
  node->n_out = n_out;
  node->in = arena_grow_array(graph->arena, in, n_in, n_in, sizeof in[0]);
  node->out = ARENA_ARRAY(graph->arena, og_value_t, n_out);
  for (unsigned i = 0; i < n_out; i++) {
    node->out[i].graph = graph;
    node->out[i].node = node;
  }
  node->prev = graph->last;
  if (graph->last != NULL)
    graph->last->next = node;
  else
    graph->first = node;
  graph->last = node;
  return node;
}

og_attr_t *og_attr(og_graph_t *graph, og_node_t *node, const char *name,
                   og_kind_t kind) {
  og_attr_t *attr = ARENA_NEW(graph->arena, og_attr_t);
  attr->name = name;
  attr->kind = kind;
  if (node->last_attr != NULL)
    node->last_attr->next = attr;
  else
    node->first_attr = attr;
  node->last_attr = attr;
  return attr;
}

og_value_t *og_tensor(og_graph_t *graph, dtype_t dtype, unsigned rank,
                      const int64_t *dims, const void *bytes, uint64_t size) {
  og_value_t *value = ARENA_NEW(graph->arena, og_value_t);
  og_tensor_t *tensor = ARENA_NEW(graph->arena, og_tensor_t);
  tensor->rank = rank;
  tensor->dims =
      arena_grow_array(graph->arena, dims, rank, rank, sizeof dims[0]);
  tensor->bytes = bytes;
  tensor->size = size;
  value->graph = graph;
  value->dtype = dtype;
  value->tensor = tensor;
  if (graph->last_tensor != NULL)
    graph->last_tensor->next = value;
  else
    graph->first_tensor = value;
  graph->last_tensor = value;
  return value;
}

/* ---- What a graph knows -------------------------------------------------- */

og_symbol_t *og_define(og_graph_t *graph, const expr_symbol_t *symbol,
                       og_value_t *value, int axis) {
  og_symbol_t *s = ARENA_NEW(graph->arena, og_symbol_t);
  *s = (og_symbol_t){symbol, value, axis, graph->symbols};
  graph->symbols = s;
  return s;
}

const og_symbol_t *og_find_symbol(const og_graph_t *graph,
                                  const expr_symbol_t *symbol) {
  for (; graph != NULL; graph = graph->parent)
    for (const og_symbol_t *s = graph->symbols; s != NULL; s = s->next)
      if (s->symbol == symbol) return s;
  return NULL;
}

static void grow_memos(og_graph_t *graph) {
  unsigned room = graph->memos_room == 0 ? 64 : 2 * graph->memos_room;
  og_memo_t *memos = ARENA_ARRAY(graph->arena, og_memo_t, room);
  for (unsigned i = 0; i < graph->memos_room; i++) {
    const og_memo_t *old = &graph->memos[i];
    if (old->key == NULL) continue;
    unsigned at = (unsigned)old->hash & (room - 1);
    while (memos[at].key != NULL) at = (at + 1) & (room - 1);
    memos[at] = *old;
  }
  graph->memos = memos;
  graph->memos_room = room;
}

og_memo_t *og_memo(og_graph_t *graph, uint64_t hash, const void *key,
                   bool (*same)(const void *key, const og_memo_t *memo)) {
  if (2 * graph->n_memos >= graph->memos_room) grow_memos(graph);
  unsigned mask = graph->memos_room - 1, at = (unsigned)hash & mask;
  for (; graph->memos[at].key != NULL; at = (at + 1) & mask)
    if (graph->memos[at].hash == hash && same(key, &graph->memos[at]))
      return &graph->memos[at];
  graph->n_memos++;
  graph->memos[at] = (og_memo_t){hash, key, NULL};
  return &graph->memos[at];
}

/* ---- Leaving out --------------------------------------------------------- */

static void mark(og_graph_t *graph) {
  for (unsigned i = 0; i < graph->n_out; i++) graph->outputs[i]->used = true;
  for (og_node_t *node = graph->last; node != NULL; node = node->prev) {
    for (unsigned i = 0; i < node->n_out; i++) node->live |= node->out[i].used;
    if (!node->live) continue;
    for (unsigned i = 0; i < node->n_in; i++)
      if (node->in[i] != NULL) node->in[i]->used = true;
    for (og_attr_t *a = node->first_attr; a != NULL; a = a->next)
      if (a->kind == OG_GRAPH) mark(a->graph);
  }
}

static void sweep(og_graph_t *graph) {
  og_value_t **tensor = &graph->first_tensor;
  graph->last_tensor = NULL;
  while (*tensor != NULL) {
    if ((*tensor)->used) {
      graph->last_tensor = *tensor;
      tensor = &(*tensor)->next;
    } else {
      *tensor = (*tensor)->next;
    }
  }
  og_node_t **link = &graph->first;
  graph->last = NULL;
  while (*link != NULL) {
    og_node_t *node = *link;
    if (!node->live) {
      *link = node->next;
      continue;
    }
    node->prev = graph->last;
    graph->last = node;
    link = &node->next;
    for (og_attr_t *a = node->first_attr; a != NULL; a = a->next)
      if (a->kind == OG_GRAPH) sweep(a->graph);
  }
}

void og_prune(og_graph_t *graph) {
  mark(graph);
  sweep(graph);
}
