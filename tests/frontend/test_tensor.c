/* Elements of tensors: every way to write them, and every way to get it
 * wrong. */
#include "tests/frontend/wire_support.h"

/* ---- Helpers ------------------------------------------------------------ */

static wire_t tensor_of(dtype_t dtype, unsigned rank, const int64_t *dims) {
  wire_t tensor = {0};
  for (unsigned i = 0; i < rank; i++)
    wire_int(&tensor, TENSOR_dims, (uint64_t)dims[i]);
  wire_int(&tensor, TENSOR_data_type, dtype);
  wire_text(&tensor, TENSOR_name, "w");
  return tensor;
}

static wire_t vector_of(dtype_t dtype, int64_t n) {
  return tensor_of(dtype, 1, &n);
}

/* Loads a model with the tensor as initialiser and fetches it. */
static moec_status_t fetch(fixture_t *fixture, wire_t *tensor,
                           ir_data_t **out_data) {
  wire_t wire = wire_model_of_tensor(tensor);
  onnx_model_t *model;
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  return onnx_tensor_data(model, model->proto->graph->initializer[0],
                          (ir_loc_t){0}, &fixture->diag, out_data);
}

static void reject(void **state, wire_t *tensor, moec_status_t status,
                   const char *words, int line) {
  fixture_t *fixture = *state;
  ir_data_t *data;
  fixture_restart(fixture, NULL);
  moec_status_t found = fetch(fixture, tensor, &data);
  check_diag(fixture, found, status, words, __FILE__, line);
  assert_null(data);
}
#define REJECT(tensor, words) \
  reject(state, (tensor), MOEC_E_INVALID_MODEL, (words), __LINE__)

static void expect(void **state, wire_t *tensor, const void *bytes, size_t size,
                   int line) {
  fixture_t *fixture = *state;
  ir_data_t *data;
  fixture_restart(fixture, NULL);
  check_success(fixture, fetch(fixture, tensor, &data), __FILE__, line);
  if (data->size == size && memcmp(data->bytes, bytes, size) == 0) return;
  print_error("%zu bytes, expected %zu; or they differ\n", (size_t)data->size,
              size);
  _fail(__FILE__, line);
}
#define EXPECT(tensor, bytes, size) \
  expect(state, (tensor), (bytes), (size), __LINE__)

/* A list of varints, packed. */
static void put_packed(wire_t *tensor, unsigned number, size_t n,
                       const int64_t *values) {
  wire_t list = {0};
  for (size_t i = 0; i < n; i++) wire_varint(&list, (uint64_t)values[i]);
  wire_message(tensor, number, &list);
}

/* ---- Type and dimensions ------------------------------------------------ */

static void element_type_must_exist(void **state) {
  static const struct {
    int64_t code;
    moec_status_t status;
    const char *words;
  } cases[] = {
      {0, MOEC_E_INVALID_MODEL, "no element type"},
      {29, MOEC_E_INVALID_MODEL, "element type 29 does not exist"},
      {-1, MOEC_E_INVALID_MODEL, "element type -1 does not exist"},
      {27, MOEC_E_UNSUPPORTED, "element type FLOAT6E2M3 is not supported"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    wire_t tensor = {0};
    wire_int(&tensor, TENSOR_data_type, (uint64_t)cases[i].code);
    reject(state, &tensor, cases[i].status, cases[i].words, __LINE__);
  }
  wire_t none = {0};
  wire_text(&none, TENSOR_name, "w");
  REJECT(&none, "tensor \"w\"");
}

static void negative_dimension_is_rejected(void **state) {
  wire_t tensor = tensor_of(DT_F32, 2, (int64_t[]){2, -3});
  REJECT(&tensor, "dimension 1 of the tensor is -3");
}

static void size_beyond_64_bits_is_rejected(void **state) {
  wire_t tensor = tensor_of(DT_U8, 2, (int64_t[]){INT64_MAX, 3});
  REJECT(&tensor, "exceeds 64 bits");
  /* The count fits, the bytes do not. */
  tensor = tensor_of(DT_C128, 1, (int64_t[]){(int64_t)1 << 60});
  REJECT(&tensor, "exceeds 64 bits");
  /* The product wraps to 0. */
  tensor = tensor_of(DT_U8, 2, (int64_t[]){(int64_t)1 << 32, (int64_t)1 << 32});
  REJECT(&tensor, "exceeds 64 bits");
}

static void large_tensor_without_data_is_rejected(void **state) {
  wire_t tensor = vector_of(DT_F32, (int64_t)1 << 40);
  REJECT(&tensor, "tensor has no elements, expected 1099511627776");
  tensor = vector_of(DT_I32, (int64_t)1 << 40);
  put_packed(&tensor, TENSOR_int32_data, 3, (int64_t[]){1, 2, 3});
  REJECT(&tensor, "int32_data has 3 values at most, expected 1099511627776");
}

static void zero_dimension_beats_large_ones(void **state) {
  wire_t tensor = tensor_of(DT_F32, 3, (int64_t[]){INT64_MAX, 0, INT64_MAX});
  EXPECT(&tensor, "", 0);
  tensor = tensor_of(DT_F32, 1, (int64_t[]){0});
  wire_bytes(&tensor, TENSOR_raw_data, "", 0);
  EXPECT(&tensor, "", 0);
}

static void data_of_an_empty_tensor_is_rejected(void **state) {
  wire_t tensor = vector_of(DT_F32, 0);
  wire_bytes(&tensor, TENSOR_raw_data, "abcd", 4);
  REJECT(&tensor, "raw_data has 4 bytes, expected 0 for f32[0]");
}

static void rank_beyond_the_limit_is_rejected(void **state) {
  int64_t dims[IR_MAX_RANK + 1];
  for (unsigned i = 0; i <= IR_MAX_RANK; i++) dims[i] = 1;
  wire_t tensor = tensor_of(DT_U8, IR_MAX_RANK + 1, dims);
  reject(state, &tensor, MOEC_E_LIMIT, "tensor of rank 33", __LINE__);
  tensor = tensor_of(DT_U8, IR_MAX_RANK, dims);
  wire_bytes(&tensor, TENSOR_raw_data, "a", 1);
  EXPECT(&tensor, "a", 1);
}

/* ---- Raw data ----------------------------------------------------------- */

static void raw_data_is_a_view_of_the_file(void **state) {
  fixture_t *fixture = *state;
  wire_t tensor = vector_of(DT_F32, 2);
  wire_bytes(&tensor, TENSOR_raw_data, "abcdefgh", 8);
  wire_t wire = wire_model_of_tensor(&tensor);
  onnx_model_t *model;
  ir_data_t *data;
  assert_accepted(fixture,
                  onnx_load_memory(fixture->store, fixture->arena, wire.data,
                                   wire.length, NULL, &fixture->diag, &model));
  assert_accepted(fixture,
                  onnx_tensor_data(model, model->proto->graph->initializer[0],
                                   (ir_loc_t){0}, &fixture->diag, &data));
  const uint8_t *bytes = data->bytes;
  assert_true(bytes >= wire.data && bytes + 8 <= wire.data + wire.length);
  assert_memory_equal(bytes, "abcdefgh", 8);
  free(wire.data);
}

static void raw_data_must_have_the_size_of_the_shape(void **state) {
  static const size_t sizes[] = {0, 1, 23, 25, 48};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    uint8_t bytes[48] = {0};
    wire_t tensor = tensor_of(DT_F32, 2, (int64_t[]){2, 3});
    wire_bytes(&tensor, TENSOR_raw_data, bytes, sizes[i]);
    REJECT(&tensor, sizes[i] == 0 ? "no elements, expected 6 for f32[2,3]"
                                  : "expected 24 for f32[2,3]");
  }
}

static void raw_bools_become_0_and_1(void **state) {
  wire_t tensor = vector_of(DT_BOOL, 4);
  wire_bytes(&tensor, TENSOR_raw_data, "\0\1\7\xff", 4);
  EXPECT(&tensor, "\0\1\1\1", 4);
}

static void unused_bits_become_zero(void **state) {
  wire_t tensor = vector_of(DT_I4, 3);
  wire_bytes(&tensor, TENSOR_raw_data, "\x21\xf3", 2);
  EXPECT(&tensor, "\x21\x03", 2);
  tensor = vector_of(DT_U2, 5);
  wire_bytes(&tensor, TENSOR_raw_data, "\xe4\xfe", 2);
  EXPECT(&tensor, "\xe4\x02", 2);
  tensor = vector_of(DT_U4, 4);
  wire_bytes(&tensor, TENSOR_raw_data, "\x21\xf3", 2);
  EXPECT(&tensor, "\x21\xf3", 2);
}

static void odd_counts_of_packed_types_round_up(void **state) {
  wire_t tensor = vector_of(DT_U4, 3);
  wire_bytes(&tensor, TENSOR_raw_data, "\x21", 1);
  REJECT(&tensor, "raw_data has 1 bytes, expected 2 for u4[3]");
  tensor = vector_of(DT_I2, 4);
  wire_bytes(&tensor, TENSOR_raw_data, "\x21\0", 2);
  REJECT(&tensor, "raw_data has 2 bytes, expected 1 for i2[4]");
}

static void strings_cannot_be_raw(void **state) {
  wire_t tensor = vector_of(DT_STR, 1);
  wire_bytes(&tensor, TENSOR_raw_data, "0123456789abcdef", 16);
  REJECT(&tensor, "elements of type str are in raw_data, expected string_data");
}

/* ---- Typed fields ------------------------------------------------------- */

static void every_type_reads_its_typed_field(void **state) {
  static const struct {
    dtype_t dtype;
    int64_t count;
    unsigned field;
    size_t n_values;
    int64_t values[3];
    size_t n_bytes;
    const char *bytes;
  } cases[] = {
      {DT_U8, 3, 5, 3, {0, 7, 255}, 3, "\0\7\xff"},
      {DT_I8, 3, 5, 3, {-128, -1, 127}, 3, "\x80\xff\x7f"},
      {DT_U16, 2, 5, 2, {1, 65535}, 4, "\1\0\xff\xff"},
      {DT_I16, 2, 5, 2, {-32768, 32767}, 4, "\0\x80\xff\x7f"},
      {DT_I32, 2, 5, 2, {-2, INT32_MAX}, 8, "\xfe\xff\xff\xff\xff\xff\xff\x7f"},
      {DT_BOOL, 2, 5, 2, {1, 0}, 2, "\1\0"},
      {DT_F16, 2, 5, 2, {0x3c00, 0xffff}, 4, "\0\x3c\xff\xff"},
      {DT_BF16, 1, 5, 1, {0x3f80}, 2, "\x80\x3f"},
      {DT_F8E4M3FN, 2, 5, 2, {0x38, 0xff}, 2, "\x38\xff"},
      {DT_F8E4M3FNUZ, 1, 5, 1, {0x80}, 1, "\x80"},
      {DT_F8E5M2, 1, 5, 1, {0x3c}, 1, "\x3c"},
      {DT_F8E5M2FNUZ, 1, 5, 1, {0x40}, 1, "\x40"},
      {DT_F8E8M0, 1, 5, 1, {0x7f}, 1, "\x7f"},
      {DT_U4, 3, 5, 2, {0x21, 0x03}, 2, "\x21\3"},
      {DT_I4, 4, 5, 2, {0xf1, 0x83}, 2, "\xf1\x83"},
      {DT_F4E2M1, 2, 5, 1, {0x72}, 1, "\x72"},
      {DT_U2, 5, 5, 2, {0xe4, 0x01}, 2, "\xe4\1"},
      {DT_I2, 4, 5, 1, {0xe4}, 1, "\xe4"},
      {DT_I64, 1, 7, 1, {INT64_MIN}, 8, "\0\0\0\0\0\0\0\x80"},
      {DT_U32, 1, 11, 1, {UINT32_MAX}, 4, "\xff\xff\xff\xff"},
      {DT_U64, 1, 11, 1, {-1}, 8, "\xff\xff\xff\xff\xff\xff\xff\xff"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    wire_t tensor = vector_of(cases[i].dtype, cases[i].count);
    put_packed(&tensor, cases[i].field, cases[i].n_values, cases[i].values);
    EXPECT(&tensor, cases[i].bytes, cases[i].n_bytes);
    /* Not packed, as proto2 writers may do. */
    tensor = vector_of(cases[i].dtype, cases[i].count);
    for (size_t k = 0; k < cases[i].n_values; k++)
      wire_int(&tensor, cases[i].field, (uint64_t)cases[i].values[k]);
    EXPECT(&tensor, cases[i].bytes, cases[i].n_bytes);
  }
}

static void floats_are_read_packed_single_and_in_pieces(void **state) {
  const float values[4] = {1.5f, -2, 0, 1e30f};
  wire_t tensor = vector_of(DT_F32, 4);
  wire_bytes(&tensor, TENSOR_float_data, values, sizeof values);
  EXPECT(&tensor, values, sizeof values);

  tensor = vector_of(DT_F32, 4);
  for (unsigned i = 0; i < 4; i++) {
    wire_varint(&tensor, TENSOR_float_data << 3 | WIRE_32BIT);
    wire_raw(&tensor, &values[i], 4);
  }
  EXPECT(&tensor, values, sizeof values);

  tensor = vector_of(DT_F32, 4);
  wire_bytes(&tensor, TENSOR_float_data, values, 4);
  wire_bytes(&tensor, TENSOR_float_data, values + 1, 12);
  EXPECT(&tensor, values, sizeof values);

  tensor = vector_of(DT_C64, 2);
  wire_bytes(&tensor, TENSOR_float_data, values, sizeof values);
  EXPECT(&tensor, values, sizeof values);

  const double doubles[2] = {0.1, -1e300};
  tensor = vector_of(DT_F64, 2);
  wire_bytes(&tensor, TENSOR_double_data, doubles, sizeof doubles);
  EXPECT(&tensor, doubles, sizeof doubles);
  tensor = vector_of(DT_C128, 1);
  wire_bytes(&tensor, TENSOR_double_data, doubles, sizeof doubles);
  EXPECT(&tensor, doubles, sizeof doubles);
}

static void pieces_of_odd_length_are_rejected(void **state) {
  const float values[2] = {1, 2};
  wire_t tensor = vector_of(DT_F32, 2);
  wire_bytes(&tensor, TENSOR_float_data, values, 3);
  wire_bytes(&tensor, TENSOR_float_data, values, 5);
  REJECT(&tensor, "float_data has 3 bytes, not a multiple of 4");
}

static void values_outside_the_type_are_rejected(void **state) {
  static const struct {
    dtype_t dtype;
    unsigned field;
    int64_t value;
  } cases[] = {
      {DT_U8, 5, 300},         {DT_U8, 5, -1},       {DT_I8, 5, 128},
      {DT_BOOL, 5, 7},         {DT_F16, 5, 0x10000}, {DT_BF16, 5, -1},
      {DT_I16, 5, 32768},      {DT_U16, 5, 65536},   {DT_F8E4M3FN, 5, 256},
      {DT_U4, 5, 256},         {DT_I2, 5, -1},       {DT_I32, 5, INT64_MAX},
      {DT_U32, 11, 1LL << 32},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    wire_t tensor = vector_of(cases[i].dtype, 1);
    put_packed(&tensor, cases[i].field, 1, &cases[i].value);
    REJECT(&tensor, "value 0 of ");
  }
}

static void count_of_typed_values_must_match(void **state) {
  const float floats[3] = {0};
  wire_t tensor = vector_of(DT_F32, 4);
  wire_bytes(&tensor, TENSOR_float_data, floats, sizeof floats);
  REJECT(&tensor, "float_data has 12 bytes, expected 16 for f32[4]");
  tensor = vector_of(DT_I64, 2);
  put_packed(&tensor, TENSOR_int64_data, 3, (int64_t[]){1, 2, 3});
  REJECT(&tensor, "int64_data has 3 values, expected 2 for i64[2]");
  tensor = vector_of(DT_I64, 2);
  put_packed(&tensor, TENSOR_int64_data, 1, (int64_t[]){1000});
  REJECT(&tensor, "int64_data has 1 values, expected 2 for i64[2]");
  tensor = vector_of(DT_U4, 4); /* one value for each element */
  put_packed(&tensor, TENSOR_int32_data, 3, (int64_t[]){1, 2, 3});
  REJECT(&tensor, "int32_data has 3 values, expected 2 for u4[4]");
}

static void elements_in_the_wrong_field_are_rejected(void **state) {
  wire_t tensor = vector_of(DT_I64, 1);
  put_packed(&tensor, TENSOR_int32_data, 1, (int64_t[]){1});
  REJECT(&tensor,
         "elements of type i64 are in int32_data, expected int64_data");
  tensor = vector_of(DT_F16, 1);
  wire_bytes(&tensor, TENSOR_float_data, "\0\0\0\0", 4);
  REJECT(&tensor, "are in float_data, expected int32_data");
}

static void elements_in_two_fields_are_rejected(void **state) {
  wire_t tensor = vector_of(DT_F32, 1);
  wire_bytes(&tensor, TENSOR_raw_data, "\0\0\0\0", 4);
  wire_bytes(&tensor, TENSOR_float_data, "\0\0\0\0", 4);
  REJECT(&tensor, "tensor has both raw_data and float_data");
  /* Even where both are right, or one does not belong to the type. */
  tensor = vector_of(DT_I32, 1);
  put_packed(&tensor, TENSOR_int32_data, 1, (int64_t[]){1});
  put_packed(&tensor, TENSOR_int64_data, 1, (int64_t[]){1});
  REJECT(&tensor, "tensor has both int32_data and int64_data");
}

static void varints_inside_packed_data_are_checked(void **state) {
  wire_t tensor = vector_of(DT_I64, 2);
  wire_bytes(&tensor, TENSOR_int64_data, "\1\x80", 2);
  REJECT(&tensor, "value 1 of int64_data: number is cut off");
}

static void expansion_of_varints_is_limited(void **state) {
  fixture_t *fixture = *state;
  onnx_load_options_t options = {.limits = {.expanded_bytes = 1000}};
  fixture_restart(fixture, &options);
  uint8_t zeros[200] = {0};
  wire_t tensor = vector_of(DT_I64, 200);
  wire_bytes(&tensor, TENSOR_int64_data, zeros, sizeof zeros);
  ir_data_t *data;
  assert_rejected(fixture, fetch(fixture, &tensor, &data), MOEC_E_LIMIT,
                  "1400 bytes more than in the file");
}

/* ---- Strings ------------------------------------------------------------ */

static void strings_are_read_empty_ones_too(void **state) {
  fixture_t *fixture = *state;
  wire_t tensor = vector_of(DT_STR, 3);
  wire_text(&tensor, TENSOR_string_data, "one");
  wire_text(&tensor, TENSOR_string_data, "");
  wire_text(&tensor, TENSOR_string_data, "\u4e09");
  ir_data_t *data;
  assert_accepted(fixture, fetch(fixture, &tensor, &data));
  assert_null(data->bytes);
  assert_string_equal(data->strings[0], "one");
  assert_string_equal(data->strings[1], "");
  assert_string_equal(data->strings[2], "\u4e09");
}

static void bad_strings_are_rejected(void **state) {
  wire_t tensor = vector_of(DT_STR, 2);
  wire_text(&tensor, TENSOR_string_data, "one");
  REJECT(&tensor, "string_data has 1 strings, expected 2 for str[2]");
  tensor = vector_of(DT_STR, 1);
  wire_text(&tensor, TENSOR_string_data, "a\xff");
  REJECT(&tensor, "string 0 is not UTF-8 (byte 0xff at 1)");
  tensor = vector_of(DT_STR, 1);
  wire_bytes(&tensor, TENSOR_string_data, "a\0b", 3);
  reject(state, &tensor, MOEC_E_UNSUPPORTED, "string 0 contains NUL", __LINE__);
}

/* ---- Other fields ------------------------------------------------------- */

static void segments_are_unsupported(void **state) {
  wire_t tensor = vector_of(DT_U8, 1), segment = {0};
  wire_int(&segment, 1, 0);
  wire_message(&tensor, TENSOR_segment, &segment);
  wire_bytes(&tensor, TENSOR_raw_data, "a", 1);
  reject(state, &tensor, MOEC_E_UNSUPPORTED, "segments", __LINE__);
}

static void unknown_data_location_is_rejected(void **state) {
  wire_t tensor = vector_of(DT_U8, 1);
  wire_bytes(&tensor, TENSOR_raw_data, "a", 1);
  wire_int(&tensor, TENSOR_data_location, 2);
  REJECT(&tensor, "data_location 2 does not exist");
}

/* ---- Sparse ------------------------------------------------------------- */

typedef struct sparse_case {
  dtype_t dtype;
  int64_t n_values;
  const char *values; /* raw */
  size_t values_bytes;
  unsigned index_rank;
  int64_t indices[8];
  size_t n_indices;
  unsigned rank;
  int64_t dims[3];
} sparse_case_t;

static moec_status_t fetch_sparse(fixture_t *fixture, const sparse_case_t *c,
                                  ir_data_t **out_data) {
  wire_t values = vector_of(c->dtype, c->n_values);
  wire_bytes(&values, TENSOR_raw_data, c->values, c->values_bytes);
  int64_t shape[2] = {(int64_t)c->n_indices, c->rank};
  if (c->index_rank == 2) shape[0] /= c->rank;
  wire_t indices = tensor_of(DT_I64, c->index_rank, shape);
  put_packed(&indices, TENSOR_int64_data, c->n_indices, c->indices);
  wire_t sparse = {0}, graph = {0};
  wire_message(&sparse, 1, &values);
  wire_message(&sparse, 2, &indices);
  for (unsigned i = 0; i < c->rank; i++)
    wire_int(&sparse, 3, (uint64_t)c->dims[i]);
  wire_message(&graph, GRAPH_sparse_initializer, &sparse);
  wire_t wire = wire_model(&graph);
  onnx_model_t *model;
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  return onnx_sparse_tensor_data(model,
                                 model->proto->graph->sparse_initializer[0],
                                 (ir_loc_t){0}, &fixture->diag, out_data);
}

static void sparse_tensors_become_dense(void **state) {
  fixture_t *fixture = *state;
  static const struct {
    sparse_case_t sparse;
    const char *bytes;
    size_t n_bytes;
  } cases[] = {
      {{DT_I16, 2, "\1\0\2\0", 4, 1, {1, 4}, 2, 2, {2, 3}},
       "\0\0\1\0\0\0\0\0\2\0\0\0",
       12},
      {{DT_I16, 2, "\1\0\2\0", 4, 2, {0, 1, 1, 2}, 4, 2, {2, 3}},
       "\0\0\1\0\0\0\0\0\0\0\2\0",
       12},
      {{DT_U4, 3, "\x21\x03", 2, 1, {0, 3, 4}, 3, 1, {5}}, "\1\x20\3", 3},
      {{DT_U8, 0, "", 0, 1, {0}, 0, 1, {3}}, "\0\0\0", 3},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ir_data_t *data;
    fixture_restart(fixture, NULL);
    assert_accepted(fixture, fetch_sparse(fixture, &cases[i].sparse, &data));
    assert_int_equal(data->size, cases[i].n_bytes);
    assert_memory_equal(data->bytes, cases[i].bytes, cases[i].n_bytes);
  }
}

static void malformed_sparse_tensors_are_rejected(void **state) {
  fixture_t *fixture = *state;
  static const struct {
    sparse_case_t sparse;
    const char *words;
  } cases[] = {
      {{DT_U8, 2, "ab", 2, 1, {1}, 1, 1, {3}},
       "indices of a sparse tensor are"},
      {{DT_U8, 2, "ab", 2, 1, {2, 1}, 2, 1, {3}}, "not above the one before"},
      {{DT_U8, 2, "ab", 2, 1, {1, 1}, 2, 1, {3}}, "not above the one before"},
      {{DT_U8, 2, "ab", 2, 1, {1, 3}, 2, 1, {3}}, "index 1 of the sparse"},
      {{DT_U8, 2, "ab", 2, 1, {-1, 1}, 2, 1, {3}}, "index 0 of the sparse"},
      {{DT_U8, 1, "a", 1, 2, {0, 3}, 2, 2, {2, 3}}, "index 0 of the sparse"},
      {{DT_U8, 1, "a", 1, 1, {0}, 1, 0, {0}}, "no dimensions"},
      {{DT_U8, 1, "a", 1, 1, {0}, 1, 1, {-3}}, "dimension 0 of the tensor"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ir_data_t *data;
    fixture_restart(fixture, NULL);
    moec_status_t status = fetch_sparse(fixture, &cases[i].sparse, &data);
    assert_rejected(fixture, status, MOEC_E_INVALID_MODEL, cases[i].words);
    assert_null(data);
  }
}

static void size_of_a_dense_form_is_limited(void **state) {
  fixture_t *fixture = *state;
  const sparse_case_t bomb = {
      DT_U8, 1, "a", 1, 1, {0}, 1, 2, {1 << 20, 1 << 20}};
  ir_data_t *data;
  assert_rejected(fixture, fetch_sparse(fixture, &bomb, &data), MOEC_E_LIMIT,
                  "exceeds the limit of 268435456");
}

static void sparse_tensor_without_parts_is_rejected(void **state) {
  fixture_t *fixture = *state;
  wire_t sparse = {0}, graph = {0};
  wire_int(&sparse, 3, 4);
  wire_message(&graph, GRAPH_sparse_initializer, &sparse);
  wire_t wire = wire_model(&graph);
  onnx_model_t *model;
  ir_data_t *data;
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  moec_status_t status =
      onnx_sparse_tensor_data(model, model->proto->graph->sparse_initializer[0],
                              (ir_loc_t){0}, &fixture->diag, &data);
  assert_rejected(fixture, status, MOEC_E_INVALID_MODEL, "has no values");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(element_type_must_exist),
      TEST(negative_dimension_is_rejected),
      TEST(size_beyond_64_bits_is_rejected),
      TEST(large_tensor_without_data_is_rejected),
      TEST(zero_dimension_beats_large_ones),
      TEST(data_of_an_empty_tensor_is_rejected),
      TEST(rank_beyond_the_limit_is_rejected),
      TEST(raw_data_is_a_view_of_the_file),
      TEST(raw_data_must_have_the_size_of_the_shape),
      TEST(raw_bools_become_0_and_1),
      TEST(unused_bits_become_zero),
      TEST(odd_counts_of_packed_types_round_up),
      TEST(strings_cannot_be_raw),
      TEST(every_type_reads_its_typed_field),
      TEST(floats_are_read_packed_single_and_in_pieces),
      TEST(pieces_of_odd_length_are_rejected),
      TEST(values_outside_the_type_are_rejected),
      TEST(count_of_typed_values_must_match),
      TEST(elements_in_the_wrong_field_are_rejected),
      TEST(elements_in_two_fields_are_rejected),
      TEST(varints_inside_packed_data_are_checked),
      TEST(expansion_of_varints_is_limited),
      TEST(strings_are_read_empty_ones_too),
      TEST(bad_strings_are_rejected),
      TEST(segments_are_unsupported),
      TEST(unknown_data_location_is_rejected),
      TEST(sparse_tensors_become_dense),
      TEST(malformed_sparse_tensors_are_rejected),
      TEST(size_of_a_dense_form_is_limited),
      TEST(sparse_tensor_without_parts_is_rejected),
  };
  return cmocka_run_group_tests_name("frontend/tensor", tests, NULL, NULL);
}
