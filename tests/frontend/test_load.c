/* Files: opening them, telling what is no ONNX, and data files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/looks_like.h"
#include "tests/frontend/wire_support.h"

/* ---- Files -------------------------------------------------------------- */

typedef struct temporary {
  char path[64];
} temporary_t;

static temporary_t temporary_file(const void *bytes, size_t length) {
  temporary_t file = {"/tmp/moec-load-XXXXXX"};
  int fd = mkstemp(file.path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, bytes, length), (ssize_t)length);
  close(fd);
  return file;
}

static moec_status_t load_path(void **state, const char *path,
                               onnx_model_t **out_model) {
  fixture_t *fixture = *state;
  return onnx_load(fixture->store, fixture->arena, path, &fixture->diag,
                   out_model);
}

static void missing_file_is_an_io_error(void **state) {
  onnx_model_t *model;
  moec_status_t status = load_path(state, "/nonexistent/model.onnx", &model);
  assert_rejected((fixture_t *)*state, status, MOEC_E_IO,
                  "cannot open '/nonexistent/model.onnx': No such file");
}

static void directory_is_an_io_error(void **state) {
  onnx_model_t *model;
  moec_status_t status = load_path(state, "/tmp", &model);
  assert_rejected((fixture_t *)*state, status, MOEC_E_IO,
                  "'/tmp' is a directory, not a file");
}

static void device_is_an_io_error(void **state) {
  onnx_model_t *model;
  moec_status_t status = load_path(state, "/dev/zero", &model);
  assert_rejected((fixture_t *)*state, status, MOEC_E_IO,
                  "'/dev/zero' is not a regular file");
}

static void empty_file_is_rejected(void **state) {
  onnx_model_t *model;
  temporary_t file = temporary_file("", 0);
  moec_status_t status = load_path(state, file.path, &model);
  unlink(file.path);
  assert_rejected((fixture_t *)*state, status, MOEC_E_INVALID_MODEL,
                  "file is empty");
}

static void every_file_of_one_byte_is_rejected(void **state) {
  for (unsigned byte = 0; byte < 256; byte++) {
    fixture_t *fixture = *state;
    fixture_restart(fixture, NULL);
    wire_t wire = {0};
    wire_raw(&wire, &(uint8_t[]){(uint8_t)byte}, 1);
    onnx_model_t *model;
    assert_int_equal(load_wire(fixture, &wire, &model), MOEC_E_INVALID_MODEL);
  }
}

static void model_without_graph_is_rejected(void **state) {
  wire_t wire = {0};
  wire_int(&wire, MODEL_ir_version, 10);
  onnx_model_t *model;
  moec_status_t status = load_wire(*state, &wire, &model);
  assert_rejected((fixture_t *)*state, status, MOEC_E_INVALID_MODEL,
                  "model has no graph");
}

static wire_t named_graph(void) {
  wire_t graph = {0};
  wire_text(&graph, GRAPH_name, "net");
  return wire_model(&graph);
}

static void model_is_loaded_with_its_directory(void **state) {
  wire_t wire = named_graph();
  temporary_t file = temporary_file(wire.data, wire.length);
  free(wire.data);
  onnx_model_t *model;
  moec_status_t status = load_path(state, file.path, &model);
  unlink(file.path);
  assert_accepted((fixture_t *)*state, status);
  assert_string_equal(model->directory, "/tmp");
  assert_string_equal(model->proto->graph->name, "net");
  assert_int_equal(model->proto->ir_version, 10);
}

static bool is_mapped(const char *path) {
  char line[4096];
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  if (maps == NULL) skip();
  while (fgets(line, sizeof line, maps) != NULL)
    found |= strstr(line, path) != NULL;
  fclose(maps);
  return found;
}

static void only_large_files_are_mapped(void **state) {
  enum { LARGE = 65 << 20 };
  wire_t wire = named_graph();
  char *text = malloc(LARGE); /* a doc_string, in front */
  assert_non_null(text);
  memset(text, 'x', LARGE);
  wire_t large = {0};
  wire_bytes(&large, 6, text, LARGE);
  wire_raw(&large, wire.data, wire.length);
  temporary_t file = temporary_file(large.data, large.length);
  free(text);
  free(large.data);
  onnx_model_t *model;
  assert_accepted((fixture_t *)*state, load_path(state, file.path, &model));
  assert_true(is_mapped(file.path));
  fixture_restart(*state, NULL);
  assert_false(is_mapped(file.path));
  fixture_restart(*state, &(onnx_load_options_t){.never_map = true});
  assert_accepted((fixture_t *)*state, load_path(state, file.path, &model));
  assert_false(is_mapped(file.path));
  fixture_restart(*state, NULL);
  unlink(file.path);

  file = temporary_file(wire.data, wire.length);
  free(wire.data);
  assert_accepted((fixture_t *)*state, load_path(state, file.path, &model));
  assert_false(is_mapped(file.path));
  unlink(file.path);
}

static void model_is_loaded_from_a_pipe(void **state) {
  wire_t wire = named_graph();
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], wire.data, wire.length),
                   (ssize_t)wire.length);
  close(ends[1]);
  free(wire.data);
  char path[32];
  snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
  onnx_model_t *model;
  moec_status_t status = load_path(state, path, &model);
  close(ends[0]);
  assert_accepted((fixture_t *)*state, status);
  assert_string_equal(model->proto->graph->name, "net");
}

static void failing_load_leaves_the_store_usable(void **state) {
  fixture_t *fixture = *state;
  onnx_model_t *model;
  wire_t bad = {0};
  wire_raw(&bad, "\x08", 1);
  assert_int_equal(load_wire(fixture, &bad, &model), MOEC_E_INVALID_MODEL);
  wire_t good = named_graph();
  assert_accepted(fixture, load_wire(fixture, &good, &model));
}

static void exhausted_arena_leaks_nothing(void **state) {
  /* Leak checkers see the mapping and the skeleton if they stay behind. */
  (void)state;
  wire_t graph = {0};
  for (unsigned i = 0; i < 5000; i++) wire_bytes(&graph, GRAPH_node, "", 0);
  wire_t wire = wire_model(&graph);
  for (size_t budget = 1000; budget < 10000000; budget *= 3) {
    arena_t *arena = arena_create(budget);
    onnx_store_t *store = onnx_store_create(NULL);
    volatile moec_status_t status = MOEC_OK;
    recovery_t point;
    recovery_enter(&point);
    if (setjmp(point.jump) == 0) {
      onnx_model_t *model;
      status = onnx_load_memory(store, arena, wire.data, wire.length, NULL,
                                NULL, &model);
    } else {
      status = point.status;
    }
    recovery_leave(&point);
    assert_int_equal(status, budget < 1000000 ? MOEC_E_LIMIT : MOEC_OK);
    onnx_store_destroy(store);
    arena_destroy(arena);
  }
  free(wire.data);
}

/* ---- Other formats ------------------------------------------------------ */

static void other_formats_are_named(void **state) {
  fixture_t *fixture = *state;
  static const struct {
    const char *bytes;
    size_t length;
    const char *what;
  } cases[] = {
#define FORMAT(bytes, what) {bytes, sizeof bytes - 1, what}
      FORMAT("\177ELF\2\1\1\0\0\0\0\0\0\0\0\0", "an ELF file"),
      FORMAT("\x1f\x8b\x08\0\0\0\0\0", "a gzip archive"),
      FORMAT("PK\3\4\0\0\x08\x08\0\0\0\0", "PyTorch"),
      FORMAT("{\"irVersion\": \"8\"}", "JSON"),
      FORMAT("  \n[1, 2]", "JSON"),
      FORMAT("<\n  ir_version: 8,\n>\nagraph (float[N] x) => (y) {}", "text"),
      FORMAT("ir_version: 8\ngraph {\n}\n", "ONNX in text form"),
      FORMAT("\x1c\0\0\0ORTM\0\0\0\0", ".ort"),
      FORMAT("\x18\0\0\0TFL3\0\0\0\0", "TensorFlow Lite"),
      FORMAT("\x0c\0\0\0\0\0\0\0{\"a\": [1,2]}abcd", "safetensors"),
      FORMAT("GGUF\3\0\0\0\1\0\0\0", "GGUF"),
      FORMAT("\x89HDF\r\n\x1a\n\0\0\0\0", "HDF5"),
      FORMAT("\x93NUMPY\1\0v\0{'descr'", "NumPy"),
      FORMAT("\x80\2}q\0X\3\0\0\0abc", "pickle"),
      FORMAT("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
             "Git LFS"),
      FORMAT("<!DOCTYPE html>\n<html></html>", "a web page"),
      FORMAT("BC\xc0\xde\x35\x14\0\0", "LLVM bitcode"),
      FORMAT("#!/usr/bin/env python3\nimport onnx\n", "a script"),
      FORMAT("Dear reader, this is not a model.\n", "a text file"),
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fixture_restart(fixture, NULL);
    wire_t wire = {0};
    wire_raw(&wire, cases[i].bytes, cases[i].length);
    onnx_model_t *model;
    moec_status_t status = load_wire(fixture, &wire, &model);
    assert_rejected(fixture, status, MOEC_E_INVALID_MODEL, cases[i].what);
  }
}

static void marks_of_other_formats_do_not_hide_a_model(void **state) {
  /* Bytes 4 to 7 are "ORTM", in the name of the producer. */
  fixture_t *fixture = *state;
  wire_t graph = {0}, wire = {0};
  wire_int(&wire, MODEL_ir_version, 8);
  wire_text(&wire, MODEL_producer_name, "ORTModule");
  wire_message(&wire, MODEL_graph, &graph);
  assert_memory_equal(wire.data + 4, "ORTM", 4);
  onnx_model_t *model;
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  assert_string_equal(model->proto->producer_name, "ORTModule");
}

/* ---- Data files --------------------------------------------------------- */

static moec_status_t reload(fixture_t *fixture, const onnx_value_t *value,
                            onnx_value_t **out_value) {
  const uint8_t *bytes;
  size_t length;
  assert_accepted(fixture, onnx_pack_value(fixture->arena, value,
                                           &fixture->diag, &bytes, &length));
  return onnx_load_value_memory(fixture->store, fixture->arena, bytes, length,
                                value->kind, &fixture->diag, out_value);
}

static const int64_t dims_2x3[] = {2, 3};
static ir_data_t six_bytes = {.bytes = "abcdef", .size = 6};
static const onnx_value_t tensor_2x3 = {.kind = IR_TENSOR,
                                        .name = "x",
                                        .dtype = DT_U8,
                                        .rank = 2,
                                        .dims = dims_2x3,
                                        .data = &six_bytes};

static void assert_is_2x3(const onnx_value_t *value) {
  assert_int_equal(value->kind, IR_TENSOR);
  assert_string_equal(value->name, "x");
  assert_int_equal(value->dtype, DT_U8);
  assert_int_equal(value->rank, 2);
  assert_memory_equal(value->dims, dims_2x3, sizeof dims_2x3);
  assert_int_equal(value->data->size, 6);
  assert_memory_equal(value->data->bytes, "abcdef", 6);
}

static void tensor_survives_packing(void **state) {
  onnx_value_t *again;
  assert_accepted((fixture_t *)*state, reload(*state, &tensor_2x3, &again));
  assert_is_2x3(again);
}

static void strings_survive_packing(void **state) {
  const char *const strings[] = {"one", "", "three"};
  ir_data_t data = {.strings = strings};
  const onnx_value_t value = {.kind = IR_TENSOR,
                              .dtype = DT_STR,
                              .rank = 1,
                              .dims = (int64_t[]){3},
                              .data = &data};
  onnx_value_t *again;
  assert_accepted((fixture_t *)*state, reload(*state, &value, &again));
  assert_null(again->name);
  for (unsigned i = 0; i < 3; i++)
    assert_string_equal(again->data->strings[i], strings[i]);
}

static void sequences_and_optionals_survive_packing(void **state) {
  fixture_t *fixture = *state;
  onnx_value_t tensor = tensor_2x3, *again;
  onnx_value_t *tensors[] = {&tensor, &tensor};
  onnx_value_t sequence = {
      .kind = IR_SEQUENCE, .name = "s", .n_elems = 2, .elems = tensors};
  onnx_value_t *sequences[] = {&sequence, &sequence, &sequence};
  onnx_value_t nested = {.kind = IR_SEQUENCE, .n_elems = 3, .elems = sequences};
  onnx_value_t *inner = &nested;
  onnx_value_t some = {.kind = IR_OPTIONAL, .n_elems = 1, .elems = &inner};
  onnx_value_t none = {.kind = IR_OPTIONAL, .name = "n"};
  onnx_value_t empty = {.kind = IR_SEQUENCE};

  assert_accepted(fixture, reload(fixture, &some, &again));
  assert_int_equal(again->kind, IR_OPTIONAL);
  assert_int_equal(again->n_elems, 1);
  const onnx_value_t *list = again->elems[0];
  assert_int_equal(list->kind, IR_SEQUENCE);
  assert_int_equal(list->n_elems, 3);
  assert_string_equal(list->elems[2]->name, "s");
  assert_is_2x3(list->elems[2]->elems[1]);

  assert_accepted(fixture, reload(fixture, &none, &again));
  assert_int_equal(again->n_elems, 0);
  assert_string_equal(again->name, "n");
  assert_accepted(fixture, reload(fixture, &empty, &again));
  assert_int_equal(again->n_elems, 0);
}

static moec_status_t load_value(fixture_t *fixture, wire_t *wire,
                                ir_kind_t kind) {
  onnx_value_t *value;
  uint8_t *copy = arena_alloc(fixture->arena, wire->length);
  if (wire->length > 0) memcpy(copy, wire->data, wire->length);
  moec_status_t status =
      onnx_load_value_memory(fixture->store, fixture->arena, copy, wire->length,
                             kind, &fixture->diag, &value);
  assert_true((status == MOEC_OK) == (value != NULL));
  free(wire->data);
  *wire = (wire_t){0};
  return status;
}

static void no_bytes_are_an_empty_sequence_but_no_tensor(void **state) {
  fixture_t *fixture = *state;
  wire_t wire = {0};
  assert_accepted(fixture, load_value(fixture, &wire, IR_SEQUENCE));
  assert_accepted(fixture, load_value(fixture, &wire, IR_OPTIONAL));
  assert_rejected(fixture, load_value(fixture, &wire, IR_TENSOR),
                  MOEC_E_INVALID_MODEL, "file is empty");
}

static void malformed_sequences_are_rejected(void **state) {
  fixture_t *fixture = *state;
  wire_t wire = {0};
  wire_int(&wire, 2, 6);
  assert_rejected(fixture, load_value(fixture, &wire, IR_SEQUENCE),
                  MOEC_E_INVALID_MODEL, "element type 6 of sequence");
  fixture_restart(fixture, NULL);
  wire_int(&wire, 2, 3);
  wire_bytes(&wire, 3 /* tensor_values */, "", 0);
  assert_rejected(fixture, load_value(fixture, &wire, IR_SEQUENCE),
                  MOEC_E_INVALID_MODEL, "of another type than it says");
  fixture_restart(fixture, NULL);
  wire_int(&wire, 2, 4);
  wire_bytes(&wire, 6 /* map_values */, "", 0);
  assert_rejected(fixture, load_value(fixture, &wire, IR_SEQUENCE),
                  MOEC_E_UNSUPPORTED, "maps are not supported");
  fixture_restart(fixture, NULL);
  wire_int(&wire, 2, 5);
  wire_bytes(&wire, 3 /* tensor_value */, "", 0);
  assert_rejected(fixture, load_value(fixture, &wire, IR_OPTIONAL),
                  MOEC_E_INVALID_MODEL, "of another type than it says");
}

static void deep_sequences_are_rejected(void **state) {
  fixture_t *fixture = *state;
  wire_t wire = {0};
  for (unsigned i = 0; i < 1000; i++) {
    wire_t outer = {0};
    wire_int(&outer, 2, 3);
    wire_message(&outer, 5 /* sequence_values */, &wire);
    wire = outer;
  }
  assert_rejected(fixture, load_value(fixture, &wire, IR_SEQUENCE),
                  MOEC_E_LIMIT, "nested deeper than the limit of 448");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(missing_file_is_an_io_error),
      TEST(directory_is_an_io_error),
      TEST(device_is_an_io_error),
      TEST(empty_file_is_rejected),
      TEST(every_file_of_one_byte_is_rejected),
      TEST(model_without_graph_is_rejected),
      TEST(model_is_loaded_with_its_directory),
      TEST(only_large_files_are_mapped),
      TEST(model_is_loaded_from_a_pipe),
      TEST(failing_load_leaves_the_store_usable),
      TEST(exhausted_arena_leaks_nothing),
      TEST(other_formats_are_named),
      TEST(marks_of_other_formats_do_not_hide_a_model),
      TEST(tensor_survives_packing),
      TEST(strings_survive_packing),
      TEST(sequences_and_optionals_survive_packing),
      TEST(no_bytes_are_an_empty_sequence_but_no_tensor),
      TEST(malformed_sequences_are_rejected),
      TEST(deep_sequences_are_rejected),
  };
  return cmocka_run_group_tests_name("frontend/load", tests, NULL, NULL);
}
