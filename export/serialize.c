/* Graphs as bytes: the messages of onnx.proto, field by field. */
#include "export/serialize.h"

#include <string.h>

#include "export/fields.h"

/* ---- Types --------------------------------------------------------------- */

enum { LONGEST_PARAM = 64 };

static void add_dim(pb_t *shape, const expr_t *dim) {
  pb_t message;
  int64_t value;
  pb_init(&message, shape->arena);
  if (dim == NULL) {
    /* not known */
  } else if (expr_is_const(dim, &value)) {
    pb_int(&message, DIMENSION_DIM_VALUE, value);
  } else {
    text_t text;
    text_init(&text, shape->arena);
    expr_print(dim, &text);
    if (text.length <= LONGEST_PARAM)
      pb_string(&message, DIMENSION_DIM_PARAM, text.data);
  }
  pb_message(shape, SHAPE_DIM, &message);
}

static void add_type(pb_t *out, unsigned field, const ir_type_t *type) {
  static const unsigned kinds[] = {[IR_TENSOR] = TYPE_TENSOR,
                                   [IR_SEQUENCE] = TYPE_SEQUENCE,
                                   [IR_OPTIONAL] = TYPE_OPTIONAL};
  pb_t message, inner, shape;
  pb_init(&message, out->arena);
  pb_init(&inner, out->arena);
  if (type->kind == IR_TENSOR) {
    pb_init(&shape, out->arena);
    for (unsigned i = 0; i < type->rank; i++) add_dim(&shape, type->dim[i]);
    pb_int(&inner, TYPE_TENSOR_ELEM_TYPE, type->dtype);
    pb_message(&inner, TYPE_TENSOR_SHAPE, &shape);
  } else {
    add_type(&inner, TYPE_ELEM_TYPE, type->elem);
  }
  pb_message(&message, kinds[type->kind], &inner);
  pb_message(out, field, &message);
}

static void add_value_info(pb_t *out, unsigned field, const og_value_t *value) {
  pb_t message;
  pb_init(&message, out->arena);
  pb_string(&message, VALUE_INFO_NAME, value->name);
  add_type(&message, VALUE_INFO_TYPE, &value->type);
  pb_message(out, field, &message);
}

/* ---- Tensors ------------------------------------------------------------- */

enum { LEAST_EXTERNAL = 1024, PAGE = 4096, LARGE = 65536, ALIGNED = 64 };

static uint64_t align(uint64_t offset, uint64_t to) {
  return (offset + to - 1) / to * to;
}

static void add_zeros(pb_t *data, uint64_t n) {
  static const char zeros[PAGE];
  MOEC_ASSERT(n <= PAGE);
  pb_raw(data, zeros, n);
}

void og_place_external(og_graph_t *graph, pb_t *out_data) {
  for (og_value_t *v = graph->first_tensor; v != NULL; v = v->next) {
    og_tensor_t *t = v->tensor;
    if (t->size < LEAST_EXTERNAL || t->strings != NULL) continue;
    t->external = true;
    t->offset = align(out_data->size, t->size < LARGE ? ALIGNED : PAGE);
    add_zeros(out_data, t->offset - out_data->size);
    pb_raw(out_data, t->bytes, t->size);
  }
}

static void add_entry(pb_t *out, unsigned field, const char *key,
                      const char *value) {
  pb_t message;
  pb_init(&message, out->arena);
  pb_string(&message, ENTRY_KEY, key);
  pb_string(&message, ENTRY_VALUE, value);
  pb_message(out, field, &message);
}

static void add_location(pb_t *out, const og_tensor_t *t, const char *file) {
  char number[32];
  add_entry(out, TENSOR_EXTERNAL_DATA, "location", file);
  snprintf(number, sizeof number, "%llu", (unsigned long long)t->offset);
  add_entry(out, TENSOR_EXTERNAL_DATA, "offset", number);
  snprintf(number, sizeof number, "%llu", (unsigned long long)t->size);
  add_entry(out, TENSOR_EXTERNAL_DATA, "length", number);
  pb_int(out, TENSOR_DATA_LOCATION, TENSOR_EXTERNAL);
}

static void add_tensor(pb_t *out, const og_value_t *value, const char *file) {
  const og_tensor_t *t = value->tensor;
  pb_t message;
  int64_t count = 1;
  pb_init(&message, out->arena);
  for (unsigned i = 0; i < t->rank; i++) {
    pb_int(&message, TENSOR_DIMS, t->dims[i]);
    count *= t->dims[i];
  }
  pb_int(&message, TENSOR_DATA_TYPE, value->dtype);
  pb_string(&message, TENSOR_NAME, value->name);
  if (value->dtype == DT_STR)
    for (int64_t i = 0; i < count; i++)
      pb_bytes(&message, TENSOR_STRING_DATA, t->strings[i],
               strlen(t->strings[i]));
  else if (file != NULL && t->external)
    add_location(&message, t, file);
  else
    pb_bytes(&message, TENSOR_RAW_DATA, t->bytes, t->size);
  pb_message(out, GRAPH_INITIALIZER, &message);
}

/* ---- Nodes and graphs ---------------------------------------------------- */

static void add_graph(pb_t *out, unsigned field, const og_graph_t *graph,
                      const char *name, const char *file);

static void add_attr(pb_t *out, const og_attr_t *a, const char *file) {
  static const int kinds[] = {
      [OG_INT] = ATTRIBUTE_KIND_INT,     [OG_FLOAT] = ATTRIBUTE_KIND_FLOAT,
      [OG_STR] = ATTRIBUTE_KIND_STRING,  [OG_INTS] = ATTRIBUTE_KIND_INTS,
      [OG_GRAPH] = ATTRIBUTE_KIND_GRAPH, [OG_TYPE] = ATTRIBUTE_KIND_TYPE};
  pb_t message;
  pb_init(&message, out->arena);
  pb_string(&message, ATTRIBUTE_NAME, a->name);
  switch (a->kind) {
    case OG_INT:
      pb_int(&message, ATTRIBUTE_I, a->i);
      break;
    case OG_FLOAT:
      pb_float(&message, ATTRIBUTE_F, (float)a->f);
      break;
    case OG_STR:
      pb_string(&message, ATTRIBUTE_S, a->s);
      break;
    case OG_INTS:
      for (unsigned i = 0; i < a->n; i++)
        pb_int(&message, ATTRIBUTE_INTS, a->ints[i]);
      break;
    case OG_GRAPH:
      add_graph(&message, ATTRIBUTE_G, a->graph, a->name, file);
      break;
    case OG_TYPE:
      add_type(&message, ATTRIBUTE_TP, a->type);
      break;
  }
  pb_int(&message, ATTRIBUTE_TYPE, kinds[a->kind]);
  pb_message(out, NODE_ATTRIBUTE, &message);
}

static void add_node(pb_t *out, const og_node_t *node, const char *file) {
  pb_t message;
  unsigned n_in = node->n_in;
  pb_init(&message, out->arena);
  while (n_in > 0 && node->in[n_in - 1] == NULL) n_in--;
  for (unsigned i = 0; i < n_in; i++)
    pb_string(&message, NODE_INPUT,
              node->in[i] != NULL ? node->in[i]->name : "");
  for (unsigned i = 0; i < node->n_out; i++)
    pb_string(&message, NODE_OUTPUT, node->out[i].name);
  pb_string(&message, NODE_NAME, node->name);
  pb_string(&message, NODE_OP_TYPE, node->op_type);
  for (const og_attr_t *a = node->first_attr; a != NULL; a = a->next)
    add_attr(&message, a, file);
  pb_message(out, GRAPH_NODE, &message);
}

static void add_graph(pb_t *out, unsigned field, const og_graph_t *graph,
                      const char *name, const char *file) {
  pb_t message;
  pb_init(&message, out->arena);
  for (const og_node_t *n = graph->first; n != NULL; n = n->next)
    add_node(&message, n, file);
  pb_string(&message, GRAPH_NAME, name);
  for (const og_value_t *v = graph->first_tensor; v != NULL; v = v->next)
    add_tensor(&message, v, file);
  for (unsigned i = 0; i < graph->n_in; i++)
    add_value_info(&message, GRAPH_INPUT, graph->inputs[i]);
  for (unsigned i = 0; i < graph->n_out; i++)
    add_value_info(&message, GRAPH_OUTPUT, graph->outputs[i]);
  pb_message(out, field, &message);
}

/* The version of the file format that came with an opset. */
static int ir_version_of(int opset) {
  static const struct {
    int opset, version;
  } since[] = {{28, 14}, {25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9}};
  for (unsigned i = 0; i < sizeof since / sizeof since[0]; i++)
    if (opset >= since[i].opset) return since[i].version;
  return 8;
}

void og_serialize(const og_model_t *model, arena_t *arena, pb_t *out) {
  pb_t opset;
  pb_init(out, arena);
  pb_init(&opset, arena);
  pb_int(out, MODEL_IR_VERSION, ir_version_of(model->opset));
  pb_string(out, MODEL_PRODUCER_NAME, "moec");
  pb_string(out, MODEL_PRODUCER_VERSION, MOEC_VERSION);
  add_graph(out, MODEL_GRAPH, model->graph, model->name, model->data_name);
  pb_string(&opset, OPSET_DOMAIN, "");
  pb_int(&opset, OPSET_VERSION, model->opset);
  pb_message(out, MODEL_OPSET_IMPORT, &opset);
}
