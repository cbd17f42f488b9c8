/* How many dimensions the elements of a sequence have whose type does not tell:
 * as many as what nodes put into it or take out. */
#include <string.h>

#include "frontend/import_state.h"

static int rank_of_type(const Onnx__TypeProto *type) {
  if (type == NULL || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ||
      type->tensor_type->shape == NULL)
    return -1;
  return (int)type->tensor_type->shape->n_dim;
}

static int rank_in(size_t n, Onnx__ValueInfoProto *const *info,
                   const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(onnx_str(info[i]->name), name) == 0)
      return rank_of_type(info[i]->type);
  return -1;
}

/* As the graph declares a tensor, -1 if it does not. */
static int declared_rank(const Onnx__GraphProto *graph, const char *name) {
  int rank = rank_in(graph->n_input, graph->input, name);
  if (rank < 0) rank = rank_in(graph->n_value_info, graph->value_info, name);
  if (rank < 0) rank = rank_in(graph->n_output, graph->output, name);
  for (size_t i = 0; i < graph->n_initializer && rank < 0; i++)
    if (strcmp(onnx_str(graph->initializer[i]->name), name) == 0)
      rank = (int)graph->initializer[i]->n_dims;
  return rank;
}

static bool has_new_axis(const Onnx__NodeProto *node) {
  for (size_t i = 0; i < node->n_attribute; i++)
    if (strcmp(onnx_str(node->attribute[i]->name), "new_axis") == 0)
      return node->attribute[i]->i == 1;
  return false;
}

static int rank_by_node(const Onnx__GraphProto *graph,
                        const Onnx__NodeProto *node) {
  const char *type = onnx_str(node->op_type);
  if (strcmp(type, "SequenceInsert") == 0 && node->n_input > 1)
    return declared_rank(graph, node->input[1]);
  if (node->n_output == 0) return -1;
  int rank = declared_rank(graph, node->output[0]);
  if (strcmp(type, "SequenceAt") == 0) return rank;
  if (strcmp(type, "ConcatFromSequence") != 0) return -1;
  return has_new_axis(node) ? rank - 1 : rank;
}

int import_rank_of_elements(const importer_t *im, const char *sequence) {
  const Onnx__GraphProto *graph = im->proto->graph;
  for (size_t i = 0; i < graph->n_node; i++) {
    const Onnx__NodeProto *node = graph->node[i];
    if (node->n_input == 0 || strcmp(node->input[0], sequence) != 0 ||
        opset_domain(node->domain)[0] != '\0')
      continue;
    int rank = rank_by_node(graph, node);
    if (rank >= 0) return rank;
  }
  return -1;
}
