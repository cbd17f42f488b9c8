/* ONNX as a product: files, limits, refusals. What models compute is looked at
 * by tests/e2e/check_onnx.py and check_onnx_ops.py. */
#include "cli_support.h"
#include "ir/arena.h"
#include "onnx.pb-c.h"

/* A constant of 8000 bytes, an input that is an output twice. */
static const char model_text[] =
    "module \"m\" tensor {\n"
    "symbols { n >= 0, m >= 0 }\n"
    "func @main(%0 \"x\": f32[n,5], %1 \"y y\": i64[m]) -> (\"z\", \"x2\", "
    "\"x3\") {\n"
    "  %2 = constant {dtype = f32, shape = [400, 5], data = digest(1, 8000)} : "
    "f32[400,5]\n"
    "  %3 = concat(%0, %2) {axis = 0} : f32[n + 400,5]\n"
    "  return(%3, %0, %0)\n"
    "}\n"
    "}\n";

static Onnx__ModelProto *read_model(const char *path) {
  static uint8_t bytes[1 << 18];
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, size, bytes);
  assert_non_null(model);
  return model;
}

static void free_model(Onnx__ModelProto *model) {
  onnx__model_proto__free_unpacked(model, NULL);
}

static long size_of(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 ? (long)info.st_size : -1;
}

/* ---- The boundary -------------------------------------------------------- */

static void inputs_and_outputs_keep_names_types_and_order(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "m.moeir", model_text);
  assert_exit(f, 0, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"));
  Onnx__ModelProto *model = read_model(in_folder(f, "m.onnx"));
  const Onnx__GraphProto *g = model->graph;
  assert_int_equal(g->n_input, 2);
  assert_string_equal(g->input[0]->name, "x");
  assert_string_equal(g->input[1]->name, "y y");
  assert_int_equal(g->input[1]->type->tensor_type->elem_type, 7);
  const Onnx__TensorShapeProto *shape = g->input[0]->type->tensor_type->shape;
  assert_int_equal(shape->n_dim, 2);
  assert_string_equal(shape->dim[0]->dim_param, "n");
  assert_int_equal(shape->dim[1]->dim_value, 5);
  assert_int_equal(g->n_output, 3);
  assert_string_equal(g->output[0]->name, "z");
  assert_string_equal(g->output[0]->type->tensor_type->shape->dim[0]->dim_param,
                      "n + 400");
  /* outputs that are inputs are copies, each under its own name */
  assert_string_equal(g->output[1]->name, "x2");
  assert_string_equal(g->output[2]->name, "x3");
  assert_int_equal(g->n_node, 3);
  assert_string_equal(g->node[1]->op_type, "Identity");
  assert_string_equal(g->node[2]->op_type, "Identity");
  assert_int_equal(model->n_opset_import, 1);
  assert_int_equal(model->opset_import[0]->version, 18);
  assert_int_equal(model->ir_version, 8);
  free_model(model);
}

static void names_that_are_taken_get_a_number(void **state) {
  cli_fixture_t *f = *state;
  write_text(
      f, "m.moeir",
      "module \"m\" tensor {\n"
      "func @main(%0 \"Neg\": f32[2], %1 \"Neg_1\": f32[2]) -> (\"Add\") "
      "{\n"
      "  %2 = neg(%0) : f32[2]\n"
      "  %3 = add(%2, %1) : f32[2]\n"
      "  %4 = add(%3, %1) : f32[2]\n"
      "  return(%4)\n"
      "}\n"
      "}\n");
  assert_exit(f, 0, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"));
  Onnx__ModelProto *model = read_model(in_folder(f, "m.onnx"));
  const Onnx__GraphProto *g = model->graph;
  assert_int_equal(g->n_node, 3);
  assert_string_equal(g->node[0]->output[0], "Neg_2");
  assert_string_equal(g->node[1]->output[0], "Add_1");
  assert_string_equal(g->node[2]->output[0], "Add");
  assert_string_equal(g->node[1]->name, "Add");
  assert_string_equal(g->node[2]->name, "Add_1");
  free_model(model);
}

static void what_no_output_needs_is_left_out(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "m.moeir",
             "module \"m\" tensor {\n"
             "symbols { n >= 0, c >= 0 }\n"
             "func @main(%0 \"x\": bool[n]) -> (\"y\") {\n"
             "  %1 = cast(%0) {to = i64} : i64[n]\n"
             "  %2 = reduce_sum(%1) {axes = [0], keepdims = 0} : i64[]\n"
             "  bind(%2) {symbol = c}\n"
             "  %3 = nonzero(%0) {count = c} : i64[1,c]\n"
             "  return(%3)\n"
             "}\n"
             "}\n");
  assert_exit(f, 0, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"));
  Onnx__ModelProto *model = read_model(in_folder(f, "m.onnx"));
  assert_int_equal(model->graph->n_node, 1);
  assert_string_equal(model->graph->node[0]->op_type, "NonZero");
  assert_int_equal(model->graph->n_initializer, 0);
  free_model(model);
}

/* ---- Files --------------------------------------------------------------- */

static void the_same_model_gives_the_same_bytes(void **state) {
  cli_fixture_t *f = *state;
  char path[512];
  snprintf(path, sizeof path, "%s/model.onnx",
           model_case("control_loop_in_loop"));
  static const char *const names[] = {"a.onnx", "b.onnx"};
  static char bytes[2][1 << 16];
  size_t size[2];
  for (int i = 0; i < 2; i++) {
    assert_exit(f, 0, path, "-o", in_folder(f, names[i]));
    FILE *file = fopen(in_folder(f, names[i]), "rb");
    assert_non_null(file);
    size[i] = fread(bytes[i], 1, sizeof bytes[i], file);
    fclose(file);
  }
  assert_int_equal(size[0], size[1]);
  assert_memory_equal(bytes[0], bytes[1], size[0]);
}

static void weights_beyond_the_limit_lie_beside_the_model(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "m.moeir", model_text);
  assert_exit(f, 0, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"));
  const long whole = size_of(in_folder(f, "m.onnx"));
  assert_in_range(whole, 8000, 9000);
  assert_int_equal(size_of(in_folder(f, "m.onnx.data")), -1);
  char limit[64];
  snprintf(limit, sizeof limit, "--inline-limit=%ld", whole);
  assert_exit(f, 0, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"),
              limit);
  assert_int_equal(size_of(in_folder(f, "m.onnx.data")), -1);
  snprintf(limit, sizeof limit, "--inline-limit=%ld", whole - 1);
  assert_exit(f, 0, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"),
              limit);
  assert_int_equal(size_of(in_folder(f, "m.onnx.data")), 8000);
  Onnx__ModelProto *model = read_model(in_folder(f, "m.onnx"));
  assert_int_equal(model->graph->n_initializer, 1);
  const Onnx__TensorProto *t = model->graph->initializer[0];
  assert_int_equal(t->data_location, 1);
  assert_int_equal(t->n_external_data, 3);
  assert_string_equal(t->external_data[0]->value, "m.onnx.data");
  assert_string_equal(t->external_data[2]->value, "8000");
  free_model(model);
  assert_exit(f, 0, in_folder(f, "m.onnx"), "-o", in_folder(f, "m.so"));
}

static void failures_leave_no_file(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "m.moeir", model_text);
  assert_exit(f, 6, in_folder(f, "m.moeir"), "-o", in_folder(f, "none/m.onnx"));
  make_folder(f, "m.onnx.data"); /* where the weights should go */
  assert_exit(f, 6, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"),
              "--inline-limit=0");
  assert_int_equal(size_of(in_folder(f, "m.onnx")), -1);
}

/* ---- Refusals ------------------------------------------------------------ */

static void what_onnx_lacks_is_refused_all_at_once(void **state) {
  cli_fixture_t *f = *state;
  write_text(
      f, "m.moeir",
      "module \"m\" tensor {\n"
      "func @main(%0 \"x\": f32[4,5], %1 \"c\": c64[2]) -> (\"y\", \"z\") {\n"
      "  %2 = pack_panels(%0) : f32[1,4,32] loc(#3 \"pack\" MatMul)\n"
      "  %3 = cast(%1) {to = c128} : c128[2] loc(#7 \"wide\" Cast)\n"
      "  return(%2, %3)\n"
      "}\n"
      "}\n");
  assert_exit(f, 3, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"));
  assert_contains(f->err,
                  "node #3 \"pack\" (MatMul): 'pack_panels' cannot be written");
  assert_contains(f->err, "'cast' cannot be written as ONNX");
  assert_int_equal(size_of(in_folder(f, "m.onnx")), -1);
}

static void code_is_no_onnx(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "m.moeir", model_text);
  assert_exit(f, 2, in_folder(f, "m.moeir"), "-o", in_folder(f, "m.onnx"),
              "--passes=dce,unpack,layout,lower");
  assert_contains(f->err, "after the pass lower");
  assert_int_equal(size_of(in_folder(f, "m.onnx")), -1);
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, cli_setup, cli_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(inputs_and_outputs_keep_names_types_and_order),
      TEST(names_that_are_taken_get_a_number),
      TEST(what_no_output_needs_is_left_out),
      TEST(the_same_model_gives_the_same_bytes),
      TEST(weights_beyond_the_limit_lie_beside_the_model),
      TEST(failures_leave_no_file),
      TEST(what_onnx_lacks_is_refused_all_at_once),
      TEST(code_is_no_onnx),
  };
  return cmocka_run_group_tests_name("tools/write_onnx", tests, NULL, NULL);
}
