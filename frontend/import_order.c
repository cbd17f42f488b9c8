/* Order of nodes: operands before their users. Files are sorted as a rule; then
 * this is one sweep. Otherwise a depth-first walk with its own stack sorts, and
 * keeps the order of the file where it can. */
#include "frontend/import_state.h"

typedef struct sorter {
  importer_t *im;
  const frame_t *frame;
  size_t n;
  Onnx__NodeProto *const *node;
  const scope_t *scope;
  name_map_t producer; /* name -> index + 1 */
  uint32_t *first_dep; /* [n + 1], into dep */
  uint32_t *dep;
  size_t n_deps, dep_capacity;
  size_t current;  /* node whose uses are visited */
  bool sorted;     /* so far */
  bool collecting; /* dependencies are stored */
  moec_status_t status;
} sorter_t;

static size_t producer_of(const sorter_t *s, const char *name) {
  return (uintptr_t)name_map_get(&s->producer, name);
}

static ir_loc_t loc_of(const sorter_t *s, size_t index) {
  return import_node_loc(s->im, s->frame, s->node[index], index);
}

static void use_name(sorter_t *s, const char *name, bool captured) {
  size_t producer = producer_of(s, name);
  if (producer == 0) {
    if (captured || s->collecting || scope_find(s->scope, name) != NULL) return;
    s->status =
        diag_error(s->im->diag, loc_of(s, s->current), MOEC_E_INVALID_MODEL,
                   "input \"%s\" is not defined anywhere", name);
    return;
  }
  producer--;
  if (producer >= s->current && !s->collecting) s->sorted = false;
  if (!s->collecting) return;
  if (s->n_deps == s->dep_capacity) {
    size_t capacity = s->dep_capacity == 0 ? 64 : 2 * s->dep_capacity;
    s->dep = arena_grow_array(s->im->arena, s->dep, s->dep_capacity, capacity,
                              sizeof *s->dep);
    s->dep_capacity = capacity;
  }
  s->dep[s->n_deps++] = (uint32_t)producer;
}

static void define_names(name_map_t *map, const Onnx__GraphProto *graph) {
  static char mark;
  for (size_t i = 0; i < graph->n_input; i++)
    name_map_add(map, onnx_str(graph->input[i]->name), &mark);
  for (size_t i = 0; i < graph->n_initializer; i++)
    name_map_add(map, onnx_str(graph->initializer[i]->name), &mark);
  for (size_t i = 0; i < graph->n_sparse_initializer; i++)
    if (graph->sparse_initializer[i]->values != NULL)
      name_map_add(map, onnx_str(graph->sparse_initializer[i]->values->name),
                   &mark);
  for (size_t i = 0; i < graph->n_node; i++)
    for (size_t j = 0; j < graph->node[i]->n_output; j++)
      name_map_add(map, graph->node[i]->output[j], &mark);
}

typedef struct graph_names {
  name_map_t names;
  const struct graph_names *outer;
} graph_names_t;

static bool is_inner(const graph_names_t *names, const char *name) {
  for (; names != NULL; names = names->outer)
    if (name_map_get(&names->names, name) != NULL) return true;
  return false;
}

/* Names that a subgraph takes from around it. Recursion is as deep as graphs
 * are nested, which loading limits. */
static void use_graph(sorter_t *s, const Onnx__GraphProto *graph,
                      const graph_names_t *outer) {
  graph_names_t inner = {.outer = outer};
  name_map_init(&inner.names, s->im->arena);
  define_names(&inner.names, graph);
  for (size_t i = 0; i < graph->n_node; i++) {
    const Onnx__NodeProto *node = graph->node[i];
    for (size_t j = 0; j < node->n_input; j++)
      if (node->input[j][0] != '\0' && !is_inner(&inner, node->input[j]))
        use_name(s, node->input[j], true);
    for (size_t j = 0; j < node->n_attribute; j++) {
      const Onnx__AttributeProto *attr = node->attribute[j];
      if (attr->g != NULL) use_graph(s, attr->g, &inner);
      for (size_t k = 0; k < attr->n_graphs; k++)
        use_graph(s, attr->graphs[k], &inner);
    }
  }
  for (size_t i = 0; i < graph->n_output; i++) {
    const char *name = onnx_str(graph->output[i]->name);
    if (!is_inner(&inner, name)) use_name(s, name, true);
  }
}

static void use_node(sorter_t *s, size_t index) {
  const Onnx__NodeProto *node = s->node[index];
  s->current = index;
  for (size_t i = 0; i < node->n_input; i++)
    if (node->input[i][0] != '\0') use_name(s, node->input[i], false);
  for (size_t i = 0; i < node->n_attribute; i++) {
    const Onnx__AttributeProto *attr = node->attribute[i];
    if (attr->g != NULL) use_graph(s, attr->g, NULL);
    for (size_t j = 0; j < attr->n_graphs; j++)
      use_graph(s, attr->graphs[j], NULL);
  }
}

static void define_outputs(sorter_t *s) {
  for (size_t i = 0; i < s->n; i++) {
    const Onnx__NodeProto *node = s->node[i];
    for (size_t j = 0; j < node->n_output; j++) {
      const char *name = node->output[j];
      if (name[0] == '\0') continue;
      void *self = (void *)(uintptr_t)(i + 1);
      bool known = name_map_get(&s->producer, name) != NULL ||
                   name_map_get(&s->scope->names, name) != NULL;
      if (known)
        s->status = diag_error(s->im->diag, loc_of(s, i), MOEC_E_INVALID_MODEL,
                               "output \"%s\" is defined more than once", name);
      else
        name_map_add(&s->producer, name, self);
    }
  }
}

static moec_status_t report_cycle(sorter_t *s, const uint32_t *stack,
                                  size_t depth, uint32_t again) {
  size_t first = depth;
  while (first > 0 && stack[first - 1] != again) first--;
  first--;
  text_t names;
  text_init(&names, s->im->arena);
  size_t length = depth - first;
  for (size_t i = first; i < depth && i < first + 8; i++) {
    const char *name = onnx_str(s->node[stack[i]]->name);
    const char *type = onnx_str(s->node[stack[i]]->op_type);
    text_printf(&names, "%s#%u \"%s\" (%s)", i > first ? ", " : "",
                stack[i] + 1, name, type);
  }
  if (length > 8) text_printf(&names, " and %zu more", length - 8);
  return diag_error(s->im->diag, loc_of(s, again), MOEC_E_INVALID_MODEL,
                    "nodes depend on each other in a cycle: %s", names.data);
}

static moec_status_t sort_nodes(sorter_t *s, uint32_t *order) {
  enum { NEW, OPEN, DONE };
  uint8_t *state = ARENA_ARRAY(s->im->arena, uint8_t, s->n);
  uint32_t *stack = ARENA_ARRAY(s->im->arena, uint32_t, s->n);
  uint32_t *next_dep = ARENA_ARRAY(s->im->arena, uint32_t, s->n);
  size_t n_order = 0;
  for (uint32_t root = 0; root < s->n; root++) {
    if (state[root] != NEW) continue;
    size_t depth = 0;
    stack[depth++] = root;
    state[root] = OPEN;
    next_dep[root] = s->first_dep[root];
    while (depth > 0) {
      uint32_t node = stack[depth - 1];
      if (next_dep[node] == s->first_dep[node + 1]) {
        state[node] = DONE;
        order[n_order++] = node;
        depth--;
        continue;
      }
      uint32_t dep = s->dep[next_dep[node]++];
      if (state[dep] == OPEN) return report_cycle(s, stack, depth, dep);
      if (state[dep] == DONE) continue;
      state[dep] = OPEN;
      next_dep[dep] = s->first_dep[dep];
      stack[depth++] = dep;
    }
  }
  MOEC_ASSERT(n_order == s->n);
  return MOEC_OK;
}

moec_status_t import_order(importer_t *im, const frame_t *frame, size_t n_nodes,
                           Onnx__NodeProto *const *node, const scope_t *scope,
                           const uint32_t **out_order) {
  *out_order = NULL;
  if (n_nodes >= UINT32_MAX)
    return diag_error(im->diag, frame->loc, MOEC_E_LIMIT,
                      "%zu nodes exceed the limit", n_nodes);
  sorter_t s = {.im = im,
                .frame = frame,
                .n = n_nodes,
                .node = node,
                .scope = scope,
                .sorted = true};
  name_map_init(&s.producer, im->arena);
  define_outputs(&s);
  for (size_t i = 0; i < n_nodes; i++) use_node(&s, i);
  if (s.status != MOEC_OK) return s.status;

  uint32_t *order = ARENA_ARRAY(im->arena, uint32_t, n_nodes);
  if (s.sorted) {
    for (size_t i = 0; i < n_nodes; i++) order[i] = (uint32_t)i;
    *out_order = order;
    return MOEC_OK;
  }
  s.collecting = true;
  s.first_dep = ARENA_ARRAY(im->arena, uint32_t, n_nodes + 1);
  for (size_t i = 0; i < n_nodes; i++) {
    s.first_dep[i] = (uint32_t)s.n_deps;
    use_node(&s, i);
    if (s.n_deps >= UINT32_MAX)
      return diag_error(im->diag, frame->loc, MOEC_E_LIMIT,
                        "the graph has too many operands");
  }
  s.first_dep[n_nodes] = (uint32_t)s.n_deps;
  MOEC_TRY(sort_nodes(&s, order));
  diag_warning(im->diag, frame->loc,
               "nodes are not in topological order and were sorted");
  *out_order = order;
  return MOEC_OK;
}
