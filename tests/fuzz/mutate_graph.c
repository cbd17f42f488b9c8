/* The mutator of models; see mutate.h. */
#include <string.h>

#include "frontend/load.h"
#include "ir/ir.h"
#include "tests/fuzz/mutate.h"

typedef struct mutation {
  arena_t *arena; /* of the message and all that is put into it */
  uint64_t random;
  Onnx__ModelProto *model;
  Onnx__GraphProto *graph; /* of the model, or one inside */
} mutation_t;

static const char *const operators[] = {
#define COMPOSITE(domain, op_type, since, until, min_in, max_in, min_out, \
                  max_out, convert)                                       \
  op_type,
#define LISTS(domain, op_type, since, until, min_in, max_in, min_out, max_out, \
              convert)                                                         \
  op_type,
#include "frontend/composites.def"
#define ONNX(op, domain, op_type, since, until, convert) op_type,
#include "ir/ops.def"
};

static const char *const attributes[] = {"axis",
                                         "axes",
                                         "perm",
                                         "pads",
                                         "strides",
                                         "kernel_shape",
                                         "dilations",
                                         "group",
                                         "to",
                                         "k",
                                         "keepdims",
                                         "epsilon",
                                         "alpha",
                                         "beta",
                                         "auto_pad",
                                         "mode",
                                         "noop_with_empty_axes",
                                         "largest",
                                         "sorted",
                                         "exclusive",
                                         "reverse",
                                         "batch_dims",
                                         "allowzero",
                                         "start",
                                         "end",
                                         "direction",
                                         "block_size",
                                         "num_outputs",
                                         "equation",
                                         "upper",
                                         "transA",
                                         "transB",
                                         "ceil_mode",
                                         "saturate",
                                         "select_last_index",
                                         "reduction",
                                         "num_heads",
                                         "hidden_size",
                                         "layout",
                                         "is_causal",
                                         "q_num_heads",
                                         "kv_num_heads",
                                         "output_padding",
                                         "output_shape",
                                         "count_include_pad",
                                         "coordinate_transformation_mode",
                                         "nearest_mode",
                                         "approximate",
                                         "detect_negative",
                                         "blocksize",
                                         "fmod",
                                         "p",
                                         "size"};

static const int64_t numbers[] = {0,
                                  1,
                                  -1,
                                  2,
                                  3,
                                  4,
                                  5,
                                  7,
                                  8,
                                  16,
                                  31,
                                  32,
                                  33,
                                  63,
                                  64,
                                  65,
                                  127,
                                  128,
                                  -2,
                                  -3,
                                  -4,
                                  -8,
                                  255,
                                  256,
                                  257,
                                  1000,
                                  65537,
                                  INT32_MAX,
                                  INT32_MIN,
                                  INT64_MAX,
                                  INT64_MIN,
                                  (int64_t)1 << 31,
                                  (int64_t)1 << 32,
                                  (int64_t)1 << 62};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static size_t draw(mutation_t *m, size_t below) {
  m->random = m->random * 6364136223846793005u + 1442695040888963407u;
  return below == 0 ? 0 : (size_t)(m->random >> 33) % below;
}

static bool chance(mutation_t *m, unsigned percent) {
  return draw(m, 100) < percent;
}

/* Small numbers mostly: the others are refused at once. */
static int64_t number(mutation_t *m) {
  return chance(m, 70) ? (int64_t)draw(m, 9) - 2
                       : numbers[draw(m, COUNT(numbers))];
}

/* ---- Lists -------------------------------------------------------------- */

#define ADD(m, list, n, item)                                               \
  do {                                                                      \
    (list) =                                                                \
        arena_grow_array((m)->arena, (list), (n), (n) + 1, sizeof *(list)); \
    (list)[(n)++] = (item);                                                 \
  } while (0)

static void remove_at(void *list, size_t *n, size_t index, size_t size) {
  char *at = (char *)list + index * size;
  memmove(at, at + size, (*n - index - 1) * size);
  (*n)--;
}

#define REMOVE(list, n, index) remove_at((list), &(n), (index), sizeof *(list))

/* ---- Places ------------------------------------------------------------- */

/* Goes down into a body now and then. */
static void choose_graph(mutation_t *m) {
  m->graph = m->model->graph;
  for (unsigned depth = 0; depth < 8 && m->graph->n_node > 0; depth++) {
    const Onnx__NodeProto *node = m->graph->node[draw(m, m->graph->n_node)];
    if (node->n_attribute == 0) return;
    Onnx__AttributeProto *attribute =
        node->attribute[draw(m, node->n_attribute)];
    if (attribute->g == NULL) return;
    m->graph = attribute->g;
  }
}

static Onnx__NodeProto *some_node(mutation_t *m) {
  return m->graph->n_node == 0 ? NULL
                               : m->graph->node[draw(m, m->graph->n_node)];
}

/* A value of the graph, more likely than not one that is there before `node`;
 * NULL: none. */
static char *some_value(mutation_t *m, const Onnx__NodeProto *before) {
  const Onnx__GraphProto *g = m->graph;
  size_t n_nodes = g->n_node;
  if (before != NULL && chance(m, 95))
    for (size_t i = 0; i < g->n_node; i++)
      if (g->node[i] == before) n_nodes = i;
  size_t all = g->n_input + g->n_initializer + n_nodes, at = draw(m, all);
  if (all == 0) return NULL;
  if (at < g->n_input) return g->input[at]->name;
  at -= g->n_input;
  if (at < g->n_initializer) return g->initializer[at]->name;
  const Onnx__NodeProto *node = g->node[at - g->n_initializer];
  return node->n_output == 0 ? NULL : node->output[draw(m, node->n_output)];
}

static Onnx__TensorProto *some_tensor(mutation_t *m) {
  if (m->graph->n_initializer > 0 && chance(m, 70))
    return m->graph->initializer[draw(m, m->graph->n_initializer)];
  for (size_t i = 0; i < m->graph->n_node; i++)
    for (size_t a = 0; a < m->graph->node[i]->n_attribute; a++)
      if (m->graph->node[i]->attribute[a]->t != NULL)
        return m->graph->node[i]->attribute[a]->t;
  return NULL;
}

/* ---- Operators and edges ------------------------------------------------- */

static void change_operator(mutation_t *m) {
  Onnx__NodeProto *node = some_node(m);
  if (node == NULL) return;
  node->op_type = (char *)(uintptr_t)operators[draw(m, COUNT(operators))];
  if (chance(m, 50)) node->n_attribute = 0;
}

static void change_edge(mutation_t *m) {
  Onnx__NodeProto *node = some_node(m);
  if (node == NULL) return;
  char *value = chance(m, 8) ? arena_strdup(m->arena, "") : some_value(m, node);
  if (value == NULL) return;
  if (node->n_input == 0 || chance(m, 25))
    ADD(m, node->input, node->n_input, value);
  else if (chance(m, 15))
    REMOVE(node->input, node->n_input, draw(m, node->n_input));
  else
    node->input[draw(m, node->n_input)] = value;
}

static void add_node(mutation_t *m) {
  const Onnx__NodeProto *like = some_node(m);
  if (like == NULL || m->graph->n_node > 60) return;
  Onnx__NodeProto *node = ARENA_NEW(m->arena, Onnx__NodeProto);
  *node = *like;
  node->name = NULL;
  node->input = arena_grow_array(m->arena, like->input, like->n_input,
                                 like->n_input, sizeof *node->input);
  node->output = ARENA_ARRAY(m->arena, char *, like->n_output);
  for (size_t i = 0; i < like->n_output; i++)
    node->output[i] = arena_printf(m->arena, "m%zu", draw(m, 100000));
  if (chance(m, 50))
    node->op_type = (char *)(uintptr_t)operators[draw(m, COUNT(operators))];
  ADD(m, m->graph->node, m->graph->n_node, node);
  if (node->n_input > 0) {
    char *value = some_value(m, node);
    if (value != NULL) node->input[draw(m, node->n_input)] = value;
  }
  if (node->n_output > 0 && m->graph->n_output > 0 && chance(m, 70))
    m->graph->output[draw(m, m->graph->n_output)]->name = node->output[0];
}

static void remove_node(mutation_t *m) {
  if (m->graph->n_node > 1)
    REMOVE(m->graph->node, m->graph->n_node, draw(m, m->graph->n_node));
}

static void change_output(mutation_t *m) {
  if (m->graph->n_output == 0) return;
  char *value = some_value(m, NULL);
  if (value == NULL) return;
  m->graph->output[draw(m, m->graph->n_output)]->name = value;
}

/* ---- Attributes ---------------------------------------------------------- */

static void change_list(mutation_t *m, Onnx__AttributeProto *a) {
  if (a->n_ints == 0 || chance(m, 20))
    ADD(m, a->ints, a->n_ints, number(m));
  else if (chance(m, 20))
    REMOVE(a->ints, a->n_ints, draw(m, a->n_ints));
  else
    a->ints[draw(m, a->n_ints)] = number(m);
}

static void change_value(mutation_t *m, Onnx__AttributeProto *a) {
  static const float reals[] = {0, 1, -1, 0.5f, 1e-30f, 1e30f, -0.0f};
  static const char *const words[] = {"",
                                      "NOTSET",
                                      "SAME_UPPER",
                                      "SAME_LOWER",
                                      "VALID",
                                      "constant",
                                      "edge",
                                      "reflect",
                                      "wrap",
                                      "linear",
                                      "cubic",
                                      "nearest",
                                      "sum",
                                      "mean",
                                      "none",
                                      "add",
                                      "mul",
                                      "max",
                                      "min",
                                      "tanh",
                                      "ij,jk->ik",
                                      "...ij->...ji",
                                      "i->",
                                      "forward",
                                      "bidirectional",
                                      "DCR",
                                      "CRD",
                                      "asymmetric",
                                      "align_corners"};
  switch (a->type) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT:
      a->has_i = true;
      a->i = number(m);
      break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
      change_list(m, a);
      break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT:
      a->has_f = true;
      a->f = reals[draw(m, COUNT(reals))];
      break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING: {
      const char *word = words[draw(m, COUNT(words))];
      a->has_s = true;
      a->s.data = (uint8_t *)(uintptr_t)word;
      a->s.len = strlen(word);
      break;
    }
    default:
      break;
  }
}

static void add_attribute(mutation_t *m, Onnx__NodeProto *node) {
  Onnx__AttributeProto *a = ARENA_NEW(m->arena, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = (char *)(uintptr_t)attributes[draw(m, COUNT(attributes))];
  a->has_type = true;
  a->type = chance(m, 60)   ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT
            : chance(m, 60) ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS
            : chance(m, 50) ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING
                            : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
  for (size_t i = draw(m, 5); i-- > 0;) change_value(m, a);
  change_value(m, a);
  ADD(m, node->attribute, node->n_attribute, a);
}

static void change_attribute(mutation_t *m) {
  Onnx__NodeProto *node = some_node(m);
  if (node == NULL) return;
  if (node->n_attribute == 0 || chance(m, 15)) {
    add_attribute(m, node);
    return;
  }
  size_t at = draw(m, node->n_attribute);
  if (chance(m, 10))
    REMOVE(node->attribute, node->n_attribute, at);
  else
    change_value(m, node->attribute[at]);
}

/* ---- Tensors and types --------------------------------------------------- */

/* Bytes that the tensor should have, or 0. */
static size_t tensor_size(const Onnx__TensorProto *t) {
  size_t count = 1;
  for (size_t i = 0; i < t->n_dims; i++) {
    if (t->dims[i] < 0 || t->dims[i] > 4096) return 0;
    count *= (size_t)t->dims[i];
    if (count > 4096) return 0;
  }
  dtype_t dtype = (dtype_t)t->data_type;
  if (t->data_type < 1 || t->data_type > 26 || dtype == DT_STR) return 0;
  return (size_t)dtype_bytes(dtype, count);
}

/* Random elements, small as integers of every width. */
static void fill_tensor(mutation_t *m, Onnx__TensorProto *t) {
  size_t size = tensor_size(t);
  uint8_t *bytes = arena_alloc(m->arena, size + 1);
  size_t width = size == 0 ? 1 : dtype_bits((dtype_t)t->data_type) / 8;
  for (size_t i = 0; i < size; i += width == 0 ? 1 : width) {
    bytes[i] = (uint8_t)number(m);
    if (bytes[i] > 127 && chance(m, 80))
      for (size_t k = 1; k < width; k++) bytes[i + k] = 0xff;
    else if (width > 1 && chance(m, 30))
      bytes[i + width - 1] = (uint8_t)draw(m, 256);
  }
  if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL)
    for (size_t i = 0; i < size; i++) bytes[i] &= 1;
  t->n_float_data = t->n_int32_data = t->n_int64_data = 0;
  t->n_double_data = t->n_uint64_data = t->n_string_data = 0;
  t->n_external_data = 0;
  t->has_data_location = false;
  t->has_raw_data = true;
  t->raw_data = (ProtobufCBinaryData){size, bytes};
}

static int32_t some_type(mutation_t *m) {
  static const int32_t common[] = {1, 1, 7, 6, 9, 10, 11, 16, 3, 2};
  return chance(m, 70) ? common[draw(m, COUNT(common))]
                       : 1 + (int32_t)draw(m, 26);
}

static void change_tensor(mutation_t *m) {
  Onnx__TensorProto *t = some_tensor(m);
  if (t == NULL) return;
  if (t->n_dims > 0 && chance(m, 50)) {
    t->dims[draw(m, t->n_dims)] = number(m);
  } else if (chance(m, 30)) {
    ADD(m, t->dims, t->n_dims, (int64_t)draw(m, 4));
  } else if (chance(m, 20) && t->n_dims > 0) {
    t->n_dims--;
  } else if (chance(m, 40)) {
    t->has_data_type = true;
    t->data_type = some_type(m);
  }
  if (chance(m, 97)) fill_tensor(m, t);
}

static void change_dimension(mutation_t *m, Onnx__TypeProto__Tensor *type) {
  typedef Onnx__TensorShapeProto__Dimension dim_t;
  if (type->shape == NULL) return;
  Onnx__TensorShapeProto *shape = type->shape;
  if (shape->n_dim == 0 || chance(m, 10)) {
    dim_t *dim = ARENA_NEW(m->arena, dim_t);
    onnx__tensor_shape_proto__dimension__init(dim);
    ADD(m, shape->dim, shape->n_dim, dim);
  } else if (chance(m, 8)) {
    REMOVE(shape->dim, shape->n_dim, draw(m, shape->n_dim));
    return;
  }
  dim_t *dim = shape->dim[draw(m, shape->n_dim)];
  if (chance(m, 40)) {
    static const char *const names[] = {"N", "M", "K", "seq", "batch"};
    dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    dim->dim_param = (char *)(uintptr_t)names[draw(m, COUNT(names))];
  } else {
    dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    dim->dim_value = chance(m, 90) ? (int64_t)draw(m, 10) : number(m);
  }
}

static void change_input(mutation_t *m) {
  if (m->graph->n_input == 0) return;
  Onnx__TypeProto *type = m->graph->input[draw(m, m->graph->n_input)]->type;
  if (type == NULL || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
    return;
  if (chance(m, 25)) {
    type->tensor_type->has_elem_type = true;
    type->tensor_type->elem_type = some_type(m);
  } else {
    change_dimension(m, type->tensor_type);
  }
}

/* What is said of shapes that follow from others would only be contradicted. */
static void forget_shapes(mutation_t *m) {
  m->graph->n_value_info = 0;
  for (size_t i = 0; i < m->graph->n_output; i++) {
    Onnx__TypeProto *type = m->graph->output[i]->type;
    if (type == NULL) continue;
    if (type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
      type->tensor_type->shape = NULL;
    if (m->graph == m->model->graph && chance(m, 50))
      m->graph->output[i]->type = NULL;
  }
}

static void change_opset(mutation_t *m) {
  if (m->model->n_opset_import > 0)
    m->model->opset_import[draw(m, m->model->n_opset_import)]->version =
        chance(m, 80) ? 7 + (int64_t)draw(m, 20) : number(m);
}

/* ---- The whole ----------------------------------------------------------- */

static void mutate(mutation_t *m) {
  static void (*const changes[])(mutation_t *) = {
      change_operator,  change_edge,      change_edge,   add_node,
      add_node,         remove_node,      change_output, change_attribute,
      change_attribute, change_attribute, change_tensor, change_tensor,
      change_input,     change_input,     change_opset};
  choose_graph(m);
  if (chance(m, 60)) forget_shapes(m);
  for (size_t n = 1 + draw(m, 4); n-- > 0;) {
    choose_graph(m);
    changes[draw(m, COUNT(changes) - (chance(m, 90) ? 1 : 0))](m);
  }
}

static void *alloc_in_arena(void *arena, size_t bytes) {
  return arena_alloc(arena, bytes);
}

static void free_in_arena(void *arena, void *data) { (void)arena, (void)data; }

/* Only what the importer's own checks let through is unpacked whole. */
static Onnx__ModelProto *unpack(arena_t *arena, const uint8_t *bytes,
                                size_t length) {
  onnx_model_t *model = NULL;
  onnx_store_t *store = onnx_store_create(NULL);
  if (store == NULL) return NULL;
  moec_status_t status =
      onnx_load_memory(store, arena, bytes, length, NULL, NULL, &model);
  onnx_store_destroy(store);
  if (status != MOEC_OK) return NULL;
  ProtobufCAllocator allocator = {alloc_in_arena, free_in_arena, arena};
  return onnx__model_proto__unpack(&allocator, length, bytes);
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t room,
                               unsigned seed) {
  mutation_t m = {.arena = arena_create((size_t)64 << 20), .random = seed};
  size_t packed = 0;
  if (m.arena == NULL) return length;
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0 && !chance(&m, 3)) {
    m.model = unpack(m.arena, bytes, length);
    if (m.model != NULL) {
      mutate(&m);
      packed = onnx__model_proto__get_packed_size(m.model);
      if (packed > room) packed = 0;
      if (packed > 0) onnx__model_proto__pack(m.model, bytes);
    }
  }
  recovery_leave(&point);
  arena_destroy(m.arena);
  return packed > 0 ? packed : LLVMFuzzerMutate(bytes, length, room);
}
