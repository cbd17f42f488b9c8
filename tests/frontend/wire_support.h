/* For the tests of reading ONNX: a fixture, a writer of wire bytes, and checks
 * of diagnostics that print what was said instead. */
#ifndef TESTS_FRONTEND_WIRE_SUPPORT_H
#define TESTS_FRONTEND_WIRE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants to come after them. */
/* clang-format off */
#include <cmocka.h>
/* clang-format on */

#include "frontend/load.h"
#include "frontend/wire.h"

/* ---- Fixture ------------------------------------------------------------ */

typedef struct fixture {
  arena_t *arena;
  onnx_store_t *store;
  diag_sink_t diag;
} fixture_t;

static inline int fixture_setup(void **state) {
  fixture_t *fixture = calloc(1, sizeof *fixture);
  fixture->arena = arena_create(0);
  fixture->store = onnx_store_create(NULL);
  diag_init(&fixture->diag, fixture->arena, "test.onnx");
  *state = fixture;
  return 0;
}

static inline int fixture_teardown(void **state) {
  fixture_t *fixture = *state;
  onnx_store_destroy(fixture->store);
  arena_destroy(fixture->arena);
  free(fixture);
  return 0;
}

/* Starts over with other options. */
static inline void fixture_restart(fixture_t *fixture,
                                   const onnx_load_options_t *options) {
  onnx_store_destroy(fixture->store);
  arena_reset(fixture->arena);
  fixture->store = onnx_store_create(options);
  diag_init(&fixture->diag, fixture->arena, "test.onnx");
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* ---- Diagnostics -------------------------------------------------------- */

static inline void check_diag(const fixture_t *fixture, moec_status_t found,
                              moec_status_t expected, const char *words,
                              const char *file, int line) {
  const diag_t *diag = fixture->diag.first;
  const char *text = diag != NULL ? diag->text : "(nothing)";
  const char *where =
      diag != NULL && diag->loc.where != NULL ? diag->loc.where : "";
  bool said = strstr(text, words) != NULL || strstr(where, words) != NULL;
  if (found == expected && said) return;
  print_error("status %d, expected %d; said: %s: %s\nexpected words: %s\n",
              (int)found, (int)expected, where, text, words);
  _fail(file, line);
}

static inline void check_success(const fixture_t *fixture, moec_status_t found,
                                 const char *file, int line) {
  if (found == MOEC_OK) return;
  diag_print(&fixture->diag, stderr);
  print_error("status %d, expected success\n", (int)found);
  _fail(file, line);
}

#define assert_rejected(fixture, found, expected, words) \
  check_diag((fixture), (found), (expected), (words), __FILE__, __LINE__)
#define assert_accepted(fixture, found) \
  check_success((fixture), (found), __FILE__, __LINE__)

/* ---- Wire bytes --------------------------------------------------------- */

typedef struct wire {
  uint8_t *data;
  size_t length;
} wire_t;

static inline void wire_raw(wire_t *wire, const void *data, size_t length) {
  if (length == 0) return;
  wire->data = realloc(wire->data, wire->length + length);
  memcpy(wire->data + wire->length, data, length);
  wire->length += length;
}

static inline void wire_varint(wire_t *wire, uint64_t value) {
  uint8_t bytes[10];
  wire_raw(wire, bytes, onnx_wire_put_varint(bytes, value));
}

static inline void wire_int(wire_t *wire, unsigned number, uint64_t value) {
  wire_varint(wire, (uint64_t)number << 3 | WIRE_VARINT);
  wire_varint(wire, value);
}

static inline void wire_bytes(wire_t *wire, unsigned number, const void *data,
                              size_t length) {
  wire_varint(wire, (uint64_t)number << 3 | WIRE_BYTES);
  wire_varint(wire, length);
  wire_raw(wire, data, length);
}

static inline void wire_text(wire_t *wire, unsigned number, const char *text) {
  wire_bytes(wire, number, text, strlen(text));
}

/* Takes the inner message and frees it. */
static inline void wire_message(wire_t *wire, unsigned number, wire_t *inner) {
  wire_bytes(wire, number, inner->data, inner->length);
  free(inner->data);
  *inner = (wire_t){0};
}

/* Field numbers that tests use. */
enum {
  MODEL_ir_version = 1,
  MODEL_producer_name = 2,
  MODEL_graph = 7,
  MODEL_opset_import = 8,
  MODEL_metadata_props = 14,
  GRAPH_node = 1,
  GRAPH_name = 2,
  GRAPH_initializer = 5,
  GRAPH_input = 11,
  GRAPH_sparse_initializer = 15,
  NODE_input = 1,
  NODE_name = 3,
  NODE_attribute = 5,
  NODE_doc_string = 6,
  NODE_metadata_props = 9,
  ATTRIBUTE_name = 1,
  ATTRIBUTE_t = 5,
  ATTRIBUTE_g = 6,
  ATTRIBUTE_ints = 8,
  ATTRIBUTE_type = 20,
  VALUE_INFO_type = 2,
  TYPE_sequence_type = 4,
  SEQUENCE_elem_type = 1,
  TENSOR_dims = 1,
  TENSOR_data_type = 2,
  TENSOR_segment = 3,
  TENSOR_float_data = 4,
  TENSOR_int32_data = 5,
  TENSOR_string_data = 6,
  TENSOR_int64_data = 7,
  TENSOR_name = 8,
  TENSOR_raw_data = 9,
  TENSOR_double_data = 10,
  TENSOR_uint64_data = 11,
  TENSOR_external_data = 13,
  TENSOR_data_location = 14,
};

/* A model around a graph; takes the graph. */
static inline wire_t wire_model(wire_t *graph) {
  wire_t model = {0};
  wire_int(&model, MODEL_ir_version, 10);
  wire_message(&model, MODEL_graph, graph);
  return model;
}

/* A model with one initialiser; takes the tensor. */
static inline wire_t wire_model_of_tensor(wire_t *tensor) {
  wire_t graph = {0};
  wire_message(&graph, GRAPH_initializer, tensor);
  return wire_model(&graph);
}

/* Loads a copy of exactly that size, so that reading past it is seen, and
 * frees the wire. The copy lives in the arena. */
static inline moec_status_t load_wire(fixture_t *fixture, wire_t *wire,
                                      onnx_model_t **out_model) {
  uint8_t *copy = arena_alloc(fixture->arena, wire->length);
  if (wire->length > 0) memcpy(copy, wire->data, wire->length);
  moec_status_t status =
      onnx_load_memory(fixture->store, fixture->arena, copy, wire->length, NULL,
                       &fixture->diag, out_model);
  free(wire->data);
  *wire = (wire_t){0};
  return status;
}

#endif
