/* The scan of the wire format: what it refuses, and that protobuf-c gets the
 * same from the skeleton as from the file. */
#include <dirent.h>
#include <stdio.h>

#include "frontend/store.h"
#include "tests/frontend/wire_support.h"

static void reject(void **state, wire_t *wire, moec_status_t status,
                   const char *words, int line) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  moec_status_t found = load_wire(fixture, wire, &model);
  check_diag(fixture, found, status, words, __FILE__, line);
  assert_null(model);
}
#define REJECT(wire, words) \
  reject(state, (wire), MOEC_E_INVALID_MODEL, (words), __LINE__)
#define LIMIT(wire, words) \
  reject(state, (wire), MOEC_E_LIMIT, (words), __LINE__)

/* ---- Numbers ------------------------------------------------------------ */

static const char *read_varint(const char *bytes, size_t length,
                               uint64_t *out_value) {
  onnx_wire_cursor_t cursor = {(const uint8_t *)bytes, 0, length};
  return onnx_wire_varint(&cursor, out_value);
}

static void varint_may_be_padded_up_to_10_bytes(void **state) {
  (void)state;
  uint64_t value;
  assert_null(
      read_varint("\x85\x80\x80\x80\x80\x80\x80\x80\x80\0", 10, &value));
  assert_int_equal(value, 5);
  assert_null(
      read_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 10, &value));
  assert_true(value == UINT64_MAX);
}

static void varint_of_11_bytes_is_rejected(void **state) {
  wire_t wire = {0};
  wire_raw(&wire, "\x08\x85\x80\x80\x80\x80\x80\x80\x80\x80\x80\0", 12);
  REJECT(&wire, "exceeds 64 bits");
}

static void varint_beyond_64_bits_is_rejected(void **state) {
  wire_t wire = {0};
  wire_raw(&wire, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\2", 11);
  REJECT(&wire, "exceeds 64 bits");
}

static void varint_cut_off_is_rejected(void **state) {
  wire_t wire = {0};
  wire_raw(&wire, "\x08\x80", 2);
  REJECT(&wire, "cut off");
}

static void enum_beyond_32_bits_is_rejected(void **state) {
  /* Its low half is FLOAT. */
  wire_t tensor = {0};
  wire_int(&tensor, TENSOR_data_type, ((uint64_t)1 << 32) + 1);
  wire_t wire = wire_model_of_tensor(&tensor);
  REJECT(&wire, "exceeds 32 bits");
}

static void negative_number_of_32_bits_is_accepted(void **state) {
  fixture_t *fixture = *state;
  wire_t tensor = {0};
  onnx_model_t *model;
  wire_int(&tensor, TENSOR_data_type, (uint64_t)-5);
  wire_t wire = wire_model_of_tensor(&tensor);
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_int_equal(model->proto->graph->initializer[0]->data_type, -5);
}

/* ---- Fields ------------------------------------------------------------- */

static void field_number_0_is_rejected(void **state) {
  wire_t wire = {0};
  wire_int(&wire, MODEL_ir_version, 10);
  wire_raw(&wire, "\0\0", 2);
  REJECT(&wire, "field number 0");
}

static void tag_beyond_32_bits_is_rejected(void **state) {
  wire_t wire = {0};
  wire_int(&wire, MODEL_ir_version, 10);
  wire_raw(&wire, "\x88\x80\x80\x80\x80\0\5", 7);
  REJECT(&wire, "longer than 5 bytes");
  fixture_restart(*state, NULL);
  wire_int(&wire, MODEL_ir_version, 10);
  wire_raw(&wire, "\x88\x80\x80\x80\x10\5", 6); /* field 2^29 + 1 */
  REJECT(&wire, "29 bits");
}

static void groups_are_rejected(void **state) {
  wire_t wire = {0};
  wire_int(&wire, MODEL_ir_version, 10);
  wire_raw(&wire, "\x0b\x08\1\x0c", 4);
  REJECT(&wire, "groups");
}

static void wire_types_6_and_7_are_rejected(void **state) {
  for (unsigned type = 6; type < 8; type++) {
    wire_t wire = {0};
    fixture_restart(*state, NULL);
    wire_int(&wire, MODEL_ir_version, 10);
    wire_varint(&wire, 90 << 3 | type);
    REJECT(&wire, "wire type does not exist");
  }
}

static void wire_type_of_another_kind_is_rejected(void **state) {
  wire_t wire = {0};
  wire_text(&wire, MODEL_ir_version, "10");
  REJECT(&wire, "wire type 2 where the field has 0");
  fixture_restart(*state, NULL);
  wire_int(&wire, MODEL_graph, 10);
  REJECT(&wire, "wire type 0 where the field has 2");
}

static void length_beyond_the_message_is_rejected_with_its_place(void **state) {
  fixture_t *fixture = *state;
  wire_t node = {0}, other = {0}, graph = {0};
  wire_text(&other, NODE_name, "first");
  wire_message(&graph, GRAPH_node, &other);
  wire_raw(&node,
           "\x1a\x7f"
           "abc",
           5); /* name of 127 bytes */
  wire_message(&graph, GRAPH_node, &node);
  wire_text(&graph, GRAPH_name, "something that follows, of some length");
  wire_t wire = wire_model(&graph);
  onnx_model_t *model;
  assert_int_equal(load_wire(fixture, &wire, &model), MOEC_E_INVALID_MODEL);
  assert_string_equal(fixture->diag.first->loc.where,
                      "byte 15 (graph.node[1].name)");
  assert_string_equal(fixture->diag.first->text,
                      "length runs past the end of what it is in");
}

static void length_that_wraps_is_rejected(void **state) {
  wire_t wire = {0};
  wire_raw(&wire, "\x08\x0a\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 13);
  wire_raw(&wire, "abc", 3);
  REJECT(&wire, "runs past the end");
}

static void second_graph_is_rejected(void **state) {
  wire_t first = {0}, second = {0};
  wire_text(&first, GRAPH_name, "first");
  wire_text(&second, GRAPH_name, "second");
  wire_t wire = wire_model(&first);
  wire_message(&wire, MODEL_graph, &second);
  REJECT(&wire, "field is given twice: two messages in one file?");
}

static void concatenated_models_are_rejected(void **state) {
  wire_t graph = {0};
  wire_t wire = wire_model(&graph), again = wire_model(&graph);
  wire_raw(&wire, again.data, again.length);
  free(again.data);
  REJECT(&wire, "two messages");
}

static void second_raw_data_is_rejected(void **state) {
  wire_t tensor = {0};
  wire_bytes(&tensor, TENSOR_raw_data, "abcd", 4);
  wire_bytes(&tensor, TENSOR_raw_data, "efgh", 4);
  wire_t wire = wire_model_of_tensor(&tensor);
  REJECT(&wire, "graph.initializer[0].raw_data");
}

static void both_of_a_oneof_are_rejected(void **state) {
  /* TensorShapeProto.Dimension: dim_value and dim_param. */
  wire_t dim = {0}, shape = {0}, tensor = {0}, type = {0}, info = {0};
  wire_t graph = {0};
  wire_int(&dim, 1, 4);
  wire_text(&dim, 2, "N");
  wire_message(&shape, 1, &dim);
  wire_message(&tensor, 2, &shape);
  wire_message(&type, 1, &tensor);
  wire_message(&info, VALUE_INFO_type, &type);
  wire_message(&graph, GRAPH_input, &info);
  wire_t wire = wire_model(&graph);
  REJECT(&wire, "excludes 'dim_value'");
}

static void packed_floats_of_odd_length_are_rejected(void **state) {
  wire_t attribute = {0}, node = {0}, graph = {0};
  wire_bytes(&attribute, 7 /* floats */, "12345", 5);
  wire_message(&node, NODE_attribute, &attribute);
  wire_message(&graph, GRAPH_node, &node);
  wire_t wire = wire_model(&graph);
  REJECT(&wire, "5 bytes of packed values of 4 bytes each");
}

static void packed_integers_cut_off_are_rejected(void **state) {
  wire_t attribute = {0}, node = {0}, graph = {0};
  wire_bytes(&attribute, ATTRIBUTE_ints, "\1\2\x83", 3);
  wire_message(&node, NODE_attribute, &attribute);
  wire_message(&graph, GRAPH_node, &node);
  wire_t wire = wire_model(&graph);
  REJECT(&wire, "number is cut off");
}

static void unknown_fields_are_left_out_with_a_warning(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  wire_t graph = {0};
  wire_text(&graph, 900, "from the future");
  wire_t wire = wire_model(&graph);
  wire_int(&wire, 901, 1);
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_int_equal(model->proto->graph->base.n_unknown_fields, 0);
  assert_int_equal(model->proto->base.n_unknown_fields, 0);
  assert_int_equal(fixture->diag.n_warnings, 1);
  assert_non_null(strstr(fixture->diag.first->text, "field 900 of GraphProto"));
}

/* ---- Strings ------------------------------------------------------------ */

static wire_t model_with_graph_name(const char *name, size_t length) {
  wire_t graph = {0};
  wire_bytes(&graph, GRAPH_name, name, length);
  return wire_model(&graph);
}

static void names_must_be_utf8(void **state) {
  static const char *const bad[] = {
      "a\x80", "\xc0\xaf",         "\xe0\x80\xaf",     "\xed\xa0\x80",
      "\xff",  "\xf4\x90\x80\x80", "\xf0\x82\x82\xac", "\xe2\x82",
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    fixture_restart(*state, NULL);
    wire_t wire = model_with_graph_name(bad[i], strlen(bad[i]));
    REJECT(&wire, "is not UTF-8");
  }
}

static void names_of_all_utf8_lengths_are_kept(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  const char *name = "a\u00e9\u20ac\U0001f600\U0010ffff";
  wire_t wire = model_with_graph_name(name, strlen(name));
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_string_equal(model->proto->graph->name, name);
}

static void name_with_nul_inside_is_rejected(void **state) {
  wire_t wire = model_with_graph_name("a\0b", 3);
  REJECT(&wire, "byte 0x00 in a string");
}

static void name_of_10_megabytes_is_over_the_limit(void **state) {
  size_t length = (size_t)10 << 20;
  char *name = malloc(length);
  memset(name, 'x', length);
  wire_t wire = model_with_graph_name(name, length);
  free(name);
  LIMIT(&wire, "name of 10485760 bytes exceeds the limit of 65536");
}

static void documents_in_metadata_may_be_long(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  char *text = calloc(1, 100001);
  memset(text, 'x', 100000);
  wire_t graph = {0}, entry = {0};
  wire_text(&entry, 1, "labels");
  wire_text(&entry, 2, text);
  wire_t wire = wire_model(&graph);
  wire_message(&wire, MODEL_metadata_props, &entry);
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_string_equal(model->proto->metadata_props[0]->value, text);
  free(text);
}

/* ---- Limits ------------------------------------------------------------- */

/* `levels` times the chain of tags around an empty message. Written from its
 * end: the length of each message is then known. */
static wire_t nest(const uint8_t *tags, size_t n_tags, size_t levels) {
  size_t capacity = levels * n_tags * 7, at = capacity;
  uint8_t *buffer = malloc(capacity + 1);
  for (size_t i = 0; i < levels * n_tags; i++) {
    uint8_t length[10];
    size_t n = onnx_wire_put_varint(length, capacity - at);
    memcpy(buffer + (at -= n), length, n);
    buffer[--at] = (uint8_t)(tags[n_tags - 1 - i % n_tags] << 3 | WIRE_BYTES);
  }
  wire_t wire = {0};
  wire_raw(&wire, buffer + at, capacity - at);
  free(buffer);
  return wire;
}

static wire_t nested_graphs(size_t levels) {
  static const uint8_t tags[] = {GRAPH_node, NODE_attribute, ATTRIBUTE_g};
  wire_t graph = nest(tags, sizeof tags, levels);
  return wire_model(&graph);
}

static void graphs_within_the_limit_are_accepted(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  wire_t wire = nested_graphs(127); /* in the model's own graph */
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  const Onnx__GraphProto *graph = model->proto->graph;
  unsigned levels = 0;
  for (; graph->n_node > 0; levels++) graph = graph->node[0]->attribute[0]->g;
  assert_int_equal(levels, 127);
}

static void graphs_beyond_the_limit_are_rejected(void **state) {
  static const size_t levels[] = {128, 129, 1000, 9000, 1000000};
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
    fixture_restart(*state, NULL);
    wire_t wire = nested_graphs(levels[i]);
    LIMIT(&wire, "graphs nested deeper than the limit of 128");
  }
}

static void graphs_side_by_side_are_not_nested(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  wire_t node = {0}, graph = {0};
  for (unsigned i = 0; i < 200; i++) {
    wire_t attribute = {0}, inner = {0};
    wire_message(&attribute, ATTRIBUTE_g, &inner);
    wire_message(&node, NODE_attribute, &attribute);
  }
  wire_message(&graph, GRAPH_node, &node);
  wire_t wire = wire_model(&graph);
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_int_equal(model->proto->graph->node[0]->n_attribute, 200);
}

static void types_nested_a_million_times_are_rejected(void **state) {
  static const uint8_t tags[] = {TYPE_sequence_type, SEQUENCE_elem_type};
  wire_t type = nest(tags, sizeof tags, 1000000);
  wire_t info = {0}, graph = {0};
  wire_message(&info, VALUE_INFO_type, &type);
  wire_message(&graph, GRAPH_input, &info);
  wire_t wire = wire_model(&graph);
  LIMIT(&wire, "messages nested deeper than the limit of 448");
}

static void millions_of_empty_messages_are_rejected(void **state) {
  fixture_t *fixture = *state;
  size_t n = 2000000;
  wire_t graph = {.data = calloc(n, 2), .length = 2 * n};
  for (size_t i = 0; i < n; i++) graph.data[2 * i] = GRAPH_node << 3 | 2;
  wire_t wire = wire_model(&graph);
  size_t before = arena_used(fixture->arena) + wire.length;
  LIMIT(&wire, "unpacked, the messages up to here take more than the limit");
  /* They were counted, not allocated. */
  assert_true(arena_used(fixture->arena) - before < 200000);
}

static void number_of_messages_is_limited(void **state) {
  onnx_load_options_t options = {.limits = {.messages = 1000}};
  fixture_restart(*state, &options);
  wire_t graph = {0};
  for (unsigned i = 0; i < 999; i++) wire_bytes(&graph, GRAPH_node, "", 0);
  wire_t wire = wire_model(&graph);
  LIMIT(&wire, "more messages than the limit of 1000");
}

static void packed_integers_are_counted_unpacked(void **state) {
  onnx_load_options_t options = {.limits = {.unpacked_bytes = 1000000}};
  fixture_restart(*state, &options);
  size_t n = 200000;
  uint8_t *ones = calloc(1, n);
  wire_t attribute = {0}, node = {0}, graph = {0};
  wire_bytes(&attribute, ATTRIBUTE_ints, ones, n);
  free(ones);
  wire_message(&node, NODE_attribute, &attribute);
  wire_message(&graph, GRAPH_node, &node);
  wire_t wire = wire_model(&graph);
  LIMIT(&wire, "graph.node[0].attribute[0].ints");
}

static void size_of_a_file_is_limited_with_a_remedy(void **state) {
  fixture_t *fixture = *state;
  onnx_load_options_t options = {.limits = {.file_bytes = 10}};
  fixture_restart(fixture, &options);
  wire_t wire = model_with_graph_name("a graph", 7);
  LIMIT(&wire, "exceeds the limit of 10");
  assert_non_null(strstr(fixture->diag.first->notes->text, "external data"));
}

/* ---- Skeleton ----------------------------------------------------------- */

static void raw_data_cannot_name_another_tensor(void **state) {
  /* The second tensor's bytes are what a reference to the first looks like. */
  fixture_t *fixture = *state;
  static const uint8_t secret[8] = {9, 9, 9, 9, 9, 9, 9, 9}, forged[8] = {0};
  wire_t graph = {0};
  for (unsigned i = 0; i < 2; i++) {
    wire_t tensor = {0};
    wire_int(&tensor, TENSOR_dims, 8);
    wire_int(&tensor, TENSOR_data_type, DT_U8);
    wire_bytes(&tensor, TENSOR_raw_data, i == 0 ? secret : forged, 8);
    wire_message(&graph, GRAPH_initializer, &tensor);
  }
  wire_t wire = wire_model(&graph);
  onnx_model_t *model;
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  for (unsigned i = 0; i < 2; i++) {
    ir_data_t *data;
    assert_accepted(fixture,
                    onnx_tensor_data(model, model->proto->graph->initializer[i],
                                     (ir_loc_t){0}, &fixture->diag, &data));
    assert_memory_equal(data->bytes, i == 0 ? secret : forged, 8);
  }
}

static void remarks_are_left_out_and_need_not_be_text(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  wire_t node = {0}, graph = {0}, entry = {0};
  wire_text(&node, NODE_doc_string, "line 3 of \xff");
  wire_text(&entry, 1, "key");
  wire_message(&node, NODE_metadata_props, &entry);
  wire_message(&graph, GRAPH_node, &node);
  wire_t wire = wire_model(&graph);
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_null(model->proto->graph->node[0]->doc_string);
  assert_int_equal(model->proto->graph->node[0]->n_metadata_props, 0);
}

static bool is_left_out(const ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field) {
  if (message->descriptor == &onnx__tensor_proto__descriptor &&
      strstr(field->name, "_data") != NULL &&
      strcmp(field->name, "external_data") != 0)
    return true;
  return message->descriptor != &onnx__model_proto__descriptor &&
         (strcmp(field->name, "doc_string") == 0 ||
          strcmp(field->name, "metadata_props") == 0);
}

/* Makes the fields that a skeleton leaves out absent, as the descriptors say
 * how. The allocations stay: they are the arena's. */
static void strip(ProtobufCMessage *message) {
  const ProtobufCMessageDescriptor *type = message->descriptor;
  message->n_unknown_fields = 0;
  for (unsigned i = 0; i < type->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &type->fields[i];
    char *base = (char *)message;
    size_t *count = (size_t *)(void *)(base + field->quantifier_offset);
    void *member = base + field->offset;
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    if (is_left_out(message, field)) {
      if (repeated)
        *count = 0;
      else if (field->type == PROTOBUF_C_TYPE_STRING)
        *(char **)member = NULL;
      else
        *(protobuf_c_boolean *)(void *)count = false;
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
      bool absent = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                    *(uint32_t *)(void *)count != field->id;
      ProtobufCMessage **many = *(ProtobufCMessage ***)member;
      if (repeated)
        for (size_t k = 0; k < *count; k++) strip(many[k]);
      else if (!absent && many != NULL)
        strip((ProtobufCMessage *)(void *)many);
    }
  }
}

static void *alloc_in_arena(void *arena, size_t bytes) {
  return arena_alloc(arena, bytes);
}
static void free_in_arena(void *arena, void *data) { (void)arena, (void)data; }

static void assert_skeleton_matches(fixture_t *fixture, const uint8_t *bytes,
                                    size_t length, const char *name) {
  onnx_model_t *model;
  ProtobufCAllocator allocator = {alloc_in_arena, free_in_arena,
                                  fixture->arena};
  ProtobufCMessage *whole = protobuf_c_message_unpack(
      &onnx__model_proto__descriptor, &allocator, length, bytes);
  assert_non_null(whole);
  size_t before = arena_used(fixture->arena);
  assert_accepted(
      fixture, onnx_load_memory(fixture->store, fixture->arena, bytes, length,
                                NULL, &fixture->diag, &model));
  /* The estimate that the limit is about, and 64 KiB for the scan itself. */
  size_t used = arena_used(fixture->arena) - before;
  assert_true(used <= fixture->store->skeleton.unpacked_bytes + (64 << 10));
  ProtobufCMessage *ours = (ProtobufCMessage *)(uintptr_t)model->proto;
  strip(whole);
  strip(ours);
  size_t n = protobuf_c_message_get_packed_size(whole);
  size_t m = protobuf_c_message_get_packed_size(ours);
  uint8_t *a = arena_alloc(fixture->arena, n);
  uint8_t *b = arena_alloc(fixture->arena, m);
  protobuf_c_message_pack(whole, a);
  protobuf_c_message_pack(ours, b);
  if (n == m && memcmp(a, b, n) == 0) return;
  print_error("skeleton of %s differs: %zu bytes, expected %zu\n", name, m, n);
  fail();
}

/* A model with a bit of everything, written by protobuf-c. */
static wire_t sample_model(arena_t *arena) {
  float floats[] = {1, 2, 3};
  int64_t ints[] = {-1, 0, INT64_MAX}, dims[] = {3};
  char *inputs[] = {(char[]){"x"}, (char[]){""}, (char[]){"w"}};
  uint8_t raw[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  char name[] = "w", doc[] = "remark", op[] = "Loop", empty[] = "";

  Onnx__TensorProto tensor = ONNX__TENSOR_PROTO__INIT, typed = tensor;
  tensor.has_data_type = typed.has_data_type = true;
  tensor.data_type = typed.data_type = DT_F32;
  tensor.n_dims = typed.n_dims = 1;
  tensor.dims = typed.dims = dims;
  tensor.name = typed.name = name;
  tensor.doc_string = doc;
  tensor.has_raw_data = true;
  tensor.raw_data = (ProtobufCBinaryData){sizeof raw, raw};
  typed.n_float_data = 3;
  typed.float_data = floats;

  Onnx__GraphProto inner = ONNX__GRAPH_PROTO__INIT, outer = inner;
  inner.name = empty;
  Onnx__TensorProto *initializers[] = {&tensor, &typed};
  inner.n_initializer = 2;
  inner.initializer = initializers;
  Onnx__AttributeProto body = ONNX__ATTRIBUTE_PROTO__INIT, list = body;
  body.name = list.name = name;
  body.g = &inner;
  list.n_ints = 3;
  list.ints = ints;
  list.has_type = true;
  list.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
  list.n_floats = 3;
  list.floats = floats;
  Onnx__AttributeProto *attributes[] = {&body, &list};
  Onnx__NodeProto node = ONNX__NODE_PROTO__INIT;
  node.op_type = op;
  node.n_input = 3;
  node.input = inputs;
  node.doc_string = doc;
  node.n_attribute = 2;
  node.attribute = attributes;
  Onnx__NodeProto *nodes[20]; /* more than protobuf-c keeps on its stack */
  for (unsigned i = 0; i < 20; i++) nodes[i] = &node;
  outer.n_node = 20;
  outer.node = nodes;

  Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
  model.has_ir_version = true;
  model.ir_version = 10;
  model.doc_string = doc;
  model.graph = &outer;
  wire_t wire = {.length = onnx__model_proto__get_packed_size(&model)};
  wire.data = arena_alloc(arena, wire.length);
  onnx__model_proto__pack(&model, wire.data);
  return wire;
}

static void skeleton_unpacks_to_the_same_as_the_file(void **state) {
  fixture_t *fixture = *state;
  wire_t wire = sample_model(fixture->arena);
  assert_skeleton_matches(fixture, wire.data, wire.length, "the sample");
}

static void every_truncation_is_answered(void **state) {
  fixture_t *fixture = *state;
  arena_t *own = arena_create(0);
  wire_t wire = sample_model(own);
  unsigned accepted = 0;
  for (size_t length = 0; length < wire.length; length++) {
    fixture_restart(fixture, NULL);
    wire_t cut = {0};
    wire_raw(&cut, wire.data, length);
    onnx_model_t *model;
    moec_status_t status = load_wire(fixture, &cut, &model);
    assert_true(status == MOEC_OK || status == MOEC_E_INVALID_MODEL);
    accepted += status == MOEC_OK;
    assert_true((status == MOEC_OK) == (fixture->diag.n_errors == 0));
  }
  /* The graph is the last field: without all of it there is no model. */
  assert_int_equal(accepted, 0);
  arena_destroy(own);
}

/* Flips every bit of the sample, one at a time. */
static void every_flipped_bit_is_answered(void **state) {
  fixture_t *fixture = *state;
  arena_t *own = arena_create(0);
  wire_t wire = sample_model(own);
  for (size_t bit = 0; bit < 8 * wire.length; bit += 1 + bit % 3) {
    fixture_restart(fixture, NULL);
    wire_t bad = {0};
    wire_raw(&bad, wire.data, wire.length);
    bad.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    onnx_model_t *model;
    moec_status_t status = load_wire(fixture, &bad, &model);
    assert_true((status == MOEC_OK) == (model != NULL));
  }
  arena_destroy(own);
}

/* ---- Real models -------------------------------------------------------- */

static uint8_t *read_file(const char *path, size_t *out_length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  fseek(file, 0, SEEK_END);
  *out_length = (size_t)ftell(file);
  rewind(file);
  uint8_t *bytes = malloc(*out_length);
  size_t n = fread(bytes, 1, *out_length, file);
  fclose(file);
  assert_int_equal(n, *out_length);
  return bytes;
}

/* Every folder of MOEC_TEST_MODELS with a model.onnx. */
static void skeletons_of_real_models_match(void **state) {
  fixture_t *fixture = *state;
  const char *root = getenv("MOEC_TEST_MODELS");
  DIR *folder = root != NULL ? opendir(root) : NULL;
  if (folder == NULL) {
    print_message("SKIPPED: MOEC_TEST_MODELS names no folder of models\n");
    skip();
  }
  unsigned n = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char path[4096];
    size_t length;
    snprintf(path, sizeof path, "%s/%s/model.onnx", root, entry->d_name);
    uint8_t *bytes = read_file(path, &length);
    if (bytes == NULL) continue;
    fixture_restart(fixture, NULL);
    assert_skeleton_matches(fixture, bytes, length, path);
    free(bytes);
    n++;
  }
  closedir(folder);
  assert_true(n > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(varint_may_be_padded_up_to_10_bytes),
      TEST(varint_of_11_bytes_is_rejected),
      TEST(varint_beyond_64_bits_is_rejected),
      TEST(varint_cut_off_is_rejected),
      TEST(enum_beyond_32_bits_is_rejected),
      TEST(negative_number_of_32_bits_is_accepted),
      TEST(field_number_0_is_rejected),
      TEST(tag_beyond_32_bits_is_rejected),
      TEST(groups_are_rejected),
      TEST(wire_types_6_and_7_are_rejected),
      TEST(wire_type_of_another_kind_is_rejected),
      TEST(length_beyond_the_message_is_rejected_with_its_place),
      TEST(length_that_wraps_is_rejected),
      TEST(second_graph_is_rejected),
      TEST(concatenated_models_are_rejected),
      TEST(second_raw_data_is_rejected),
      TEST(both_of_a_oneof_are_rejected),
      TEST(packed_floats_of_odd_length_are_rejected),
      TEST(packed_integers_cut_off_are_rejected),
      TEST(unknown_fields_are_left_out_with_a_warning),
      TEST(names_must_be_utf8),
      TEST(names_of_all_utf8_lengths_are_kept),
      TEST(name_with_nul_inside_is_rejected),
      TEST(name_of_10_megabytes_is_over_the_limit),
      TEST(documents_in_metadata_may_be_long),
      TEST(graphs_within_the_limit_are_accepted),
      TEST(graphs_beyond_the_limit_are_rejected),
      TEST(graphs_side_by_side_are_not_nested),
      TEST(types_nested_a_million_times_are_rejected),
      TEST(millions_of_empty_messages_are_rejected),
      TEST(number_of_messages_is_limited),
      TEST(packed_integers_are_counted_unpacked),
      TEST(size_of_a_file_is_limited_with_a_remedy),
      TEST(raw_data_cannot_name_another_tensor),
      TEST(remarks_are_left_out_and_need_not_be_text),
      TEST(skeleton_unpacks_to_the_same_as_the_file),
      TEST(every_truncation_is_answered),
      TEST(every_flipped_bit_is_answered),
      TEST(skeletons_of_real_models_match),
  };
  return cmocka_run_group_tests_name("frontend/wire", tests, NULL, NULL);
}
