/* A first sweep over all nodes that lists every operator without a converter,
 * so that one run tells all of them. */
#include <string.h>

#include "frontend/import_state.h"

ir_loc_t import_node_loc(importer_t *im, const frame_t *frame,
                         const Onnx__NodeProto *node, size_t index) {
  const char *domain = opset_domain(node->domain);
  const char *type = onnx_str(node->op_type);
  const char *name = onnx_str(node->name);
  ir_loc_t loc = {.node = node->name, .type = type, .index = (int)index + 1};
  if (domain[0] != '\0')
    loc.type = arena_printf(im->arena, "%s::%s", domain, type);
  if (frame->prefix[0] != '\0')
    loc.node = arena_printf(im->arena, "%s%s", frame->prefix, name);
  return loc;
}

int import_node_opset(importer_t *im, const opsets_t *opsets,
                      const Onnx__NodeProto *node, ir_loc_t loc) {
  const char *domain = opset_domain(node->domain);
  int version = opsets_version(opsets, domain);
  if (version != 0) return version;
  static char mark;
  bool is_new = name_map_get(&im->warned_domains, domain) == NULL;
  if (is_new) name_map_add(&im->warned_domains, domain, &mark);
  if (strcmp(domain, "com.microsoft") == 0) {
    if (is_new)
      diag_warning(im->diag, loc,
                   "domain \"%s\" has no opset import, opset 1 is assumed",
                   domain);
    return 1;
  }
  if (domain[0] == '\0' && opsets != &im->opsets) {
    version = opsets_version(&im->opsets, domain);
    if (version != 0) {
      if (is_new)
        diag_warning(im->diag, loc,
                     "the function does not import the default domain, opset "
                     "%d of the model is assumed",
                     version);
      return version;
    }
  }
  import_note(im, diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                             "domain \"%s\" has no opset import", domain));
  return 0;
}

typedef struct checker {
  importer_t *im;
  const frame_t *frame;
  local_function_t **pending; /* functions called and not looked at yet */
  size_t n_pending, capacity;
} checker_t;

static void push_function(checker_t *c, local_function_t *function) {
  if (function->checked) return;
  function->checked = true;
  if (c->n_pending == c->capacity) {
    size_t capacity = c->capacity == 0 ? 16 : 2 * c->capacity;
    c->pending = arena_grow_array(c->im->arena, c->pending, c->capacity,
                                  capacity, sizeof *c->pending);
    c->capacity = capacity;
  }
  c->pending[c->n_pending++] = function;
}

static void check_operator(checker_t *c, const Onnx__NodeProto *node,
                           size_t index) {
  importer_t *im = c->im;
  local_function_t *function = import_find_function(im, node);
  if (function != NULL) {
    push_function(c, function);
    return;
  }
  const char *domain = opset_domain(node->domain);
  const char *type = onnx_str(node->op_type);
  ir_loc_t loc = import_node_loc(im, c->frame, node, index);
  int version = import_node_opset(im, c->frame->opsets, node, loc);
  const onnx_row_t *near;
  if (version == 0 ||
      registry_find(im->registry, domain, type, version, &near) != NULL)
    return;
  import_note(im, diag_error(im->diag, loc, MOEC_E_UNSUPPORTED,
                             "operator %s is not supported (domain \"%s\", "
                             "opset %d)",
                             type, domain, version));
  if (near == NULL) return;
  if (near->until == INT32_MAX)
    diag_note(im->diag, loc, "supported since opset %d", near->since);
  else
    diag_note(im->diag, loc, "supported in opsets %d to %d", near->since,
              near->until);
}

/* Recursion is as deep as graphs are nested, which loading limits. */
static void check_nodes(checker_t *c, size_t n_nodes,
                        Onnx__NodeProto *const *node) {
  for (size_t i = 0; i < n_nodes; i++) {
    check_operator(c, node[i], i);
    for (size_t j = 0; j < node[i]->n_attribute; j++) {
      const Onnx__AttributeProto *attr = node[i]->attribute[j];
      if (attr->g != NULL) check_nodes(c, attr->g->n_node, attr->g->node);
      for (size_t k = 0; k < attr->n_graphs; k++)
        check_nodes(c, attr->graphs[k]->n_node, attr->graphs[k]->node);
    }
  }
}

moec_status_t import_check_operators(importer_t *im) {
  frame_t top = {.opsets = &im->opsets, .prefix = ""};
  checker_t c = {.im = im, .frame = &top};
  check_nodes(&c, im->proto->graph->n_node, im->proto->graph->node);
  while (c.n_pending > 0) {
    local_function_t *function = c.pending[--c.n_pending];
    frame_t frame = {
        .function = function->proto,
        .opsets = &function->opsets,
        .prefix =
            arena_printf(im->arena, "%s/", onnx_str(function->proto->name)),
    };
    c.frame = &frame;
    check_nodes(&c, function->proto->n_node, function->proto->node);
  }
  return im->status;
}
