/* Reading and writing .npy files, also those that lie. */
#include "tools/npy.h"
#include "value_support.h"

/* A file: version, header text, elements. */
static text_t make_file(arena_t *arena, int version, const char *header,
                        const void *elements, size_t size) {
  text_t out;
  const size_t n = strlen(header);
  text_init(&out, arena);
  const char prefix[12] = {
      '\x93',           'N',           'U', 'M', 'P', 'Y', (char)version, 0,
      (char)(n & 0xff), (char)(n >> 8)};
  text_append(&out, prefix, version == 1 ? 10 : 12);
  text_append(&out, header, n);
  if (size > 0) text_append(&out, elements, size);
  return out;
}

/* The bytes in a heap block of exactly their size, so that reading past them is
 * seen. */
static moec_status_t decode(value_fixture_t *f, const void *bytes,
                            size_t length, dtype_t expected,
                            onnx_value_t **out) {
  char *exact = malloc(length > 0 ? length : 1);
  assert_non_null(exact);
  memcpy(exact, bytes, length);
  moec_status_t status =
      npy_decode(f->arena, exact, length, expected, &f->diag, out);
  if (status == MOEC_OK && (*out)->data->bytes != NULL) {
    ir_data_t *data = (*out)->data;
    char *copy = arena_alloc(f->arena, (size_t)data->size);
    memcpy(copy, data->bytes, (size_t)data->size);
    data->bytes = copy;
  }
  free(exact);
  return status;
}

static moec_status_t decode_file(value_fixture_t *f, const char *header,
                                 const void *elements, size_t size,
                                 dtype_t expected, onnx_value_t **out) {
  text_t file = make_file(f->arena, 1, header, elements, size);
  return decode(f, file.data, file.length, expected, out);
}

static void written_file_is_read_back(void **state) {
  value_fixture_t *f = *state;
  static const uint8_t bytes[96] = {1, 2, 3, 255, 128, 7, 9, 11, 13};
  static const dtype_t dtypes[] = {DT_F32, DT_F64, DT_F16, DT_BF16, DT_I8,
                                   DT_I16, DT_I32, DT_I64, DT_U8,   DT_U16,
                                   DT_U32, DT_U64, DT_C64, DT_C128, DT_F8E4M3FN,
                                   DT_U4,  DT_I4,  DT_U2,  DT_I2,   DT_F4E2M1};
  const int64_t dims[] = {2, 3};
  for (unsigned i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
    uint8_t canonical[96];
    memcpy(canonical, bytes, sizeof canonical);
    const uint64_t bits = 6 * (uint64_t)dtype_bits(dtypes[i]);
    if (bits % 8 != 0) /* unused bits are zero */
      canonical[bits / 8] &= (uint8_t)((1u << bits % 8) - 1);
    onnx_value_t *value = make_tensor(f->arena, dtypes[i], 2, dims, canonical);
    onnx_value_t *back;
    text_t file;
    text_init(&file, f->arena);
    assert_int_equal(npy_encode(value, &f->diag, &file), MOEC_OK);
    assert_int_equal(decode(f, file.data, file.length, dtypes[i], &back),
                     MOEC_OK);
    assert_int_equal(back->dtype, dtypes[i]);
    assert_int_equal(back->rank, 2);
    assert_memory_equal(back->dims, dims, sizeof dims);
    assert_int_equal(back->data->size, value->data->size);
    assert_memory_equal(back->data->bytes, canonical,
                        (size_t)value->data->size);
  }
}

static void written_header_is_numpys(void **state) {
  value_fixture_t *f = *state;
  const float x[3] = {1, 2, 3};
  text_t file;
  text_init(&file, f->arena);
  assert_int_equal(
      npy_encode(make_vector(f->arena, DT_F32, 3, x), &f->diag, &file),
      MOEC_OK);
  assert_int_equal(file.length, 128 + sizeof x);
  assert_memory_equal(
      file.data,
      "\x93NUMPY\x01\x00\x76\x00"
      "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }   ",
      70);
  assert_int_equal(file.data[127], '\n');
}

static void scalar_and_empty_tensors_keep_their_dims(void **state) {
  value_fixture_t *f = *state;
  const double x = 0.5;
  onnx_value_t *back;
  text_t file;
  text_init(&file, f->arena);
  assert_int_equal(
      npy_encode(make_tensor(f->arena, DT_F64, 0, NULL, &x), &f->diag, &file),
      MOEC_OK);
  assert_int_equal(decode(f, file.data, file.length, DT_NONE, &back), MOEC_OK);
  assert_int_equal(back->rank, 0);
  assert_memory_equal(back->data->bytes, &x, sizeof x);
  assert_int_equal(decode_file(f,
                               "{'descr': '<f4', 'fortran_order': True, "
                               "'shape': (4, 0, 5), }\n",
                               "", 0, DT_NONE, &back),
                   MOEC_OK);
  assert_int_equal(back->rank, 3);
  assert_int_equal(back->dims[1], 0);
  assert_int_equal(back->data->size, 0);
}

static void fortran_order_becomes_c_order(void **state) {
  value_fixture_t *f = *state;
  const int16_t stored[6] = {0, 10, 1, 11, 2, 12}; /* x[i][j] = 10 i + j */
  const int16_t wanted[6] = {0, 1, 2, 10, 11, 12};
  onnx_value_t *back;
  assert_int_equal(decode_file(f,
                               "{'descr': '<i2', 'fortran_order': True, "
                               "'shape': (2, 3), }",
                               stored, sizeof stored, DT_NONE, &back),
                   MOEC_OK);
  assert_memory_equal(back->data->bytes, wanted, sizeof wanted);
  const char cube[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  const char transposed[8] = {0, 4, 2, 6, 1, 5, 3, 7};
  assert_int_equal(decode_file(f,
                               "{'descr': '|i1', 'fortran_order': True, "
                               "'shape': (2, 2, 2), }",
                               cube, sizeof cube, DT_NONE, &back),
                   MOEC_OK);
  assert_memory_equal(back->data->bytes, transposed, sizeof transposed);
}

static void big_endian_is_swapped(void **state) {
  value_fixture_t *f = *state;
  const uint8_t stored[8] = {0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0};
  const float wanted[2] = {1, -2};
  onnx_value_t *back;
  assert_int_equal(
      decode_file(f,
                  "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
                  stored, sizeof stored, DT_NONE, &back),
      MOEC_OK);
  assert_memory_equal(back->data->bytes, wanted, sizeof wanted);
  /* The halves of a complex number are swapped each for itself. */
  assert_int_equal(
      decode_file(f,
                  "{'descr': '>c8', 'fortran_order': False, 'shape': (1,), }",
                  stored, sizeof stored, DT_NONE, &back),
      MOEC_OK);
  assert_memory_equal(back->data->bytes, wanted, sizeof wanted);
}

static void bools_become_zero_and_one(void **state) {
  value_fixture_t *f = *state;
  onnx_value_t *back;
  assert_int_equal(
      decode_file(f,
                  "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }",
                  "\x00\x01\xff", 3, DT_NONE, &back),
      MOEC_OK);
  assert_int_equal(back->dtype, DT_BOOL);
  assert_memory_equal(back->data->bytes, "\x00\x01\x01", 3);
}

static void strings_pass_through_code_points(void **state) {
  value_fixture_t *f = *state;
  const char *const words[3] = {"", "h\xc3\xa4t", "\xf0\x9f\x98\x80"};
  onnx_value_t *value = make_vector(f->arena, DT_STR, 3, words), *back;
  text_t file;
  text_init(&file, f->arena);
  assert_int_equal(npy_encode(value, &f->diag, &file), MOEC_OK);
  assert_non_null(strstr(file.data + 10, "'<U3'"));
  assert_int_equal(decode(f, file.data, file.length, DT_STR, &back), MOEC_OK);
  for (unsigned i = 0; i < 3; i++)
    assert_string_equal(back->data->strings[i], words[i]);
  assert_int_equal(
      decode_file(f,
                  "{'descr': '|S4', 'fortran_order': False, 'shape': (2,), }",
                  "ab\0\0abcd", 8, DT_NONE, &back),
      MOEC_OK);
  assert_string_equal(back->data->strings[0], "ab");
  assert_string_equal(back->data->strings[1], "abcd");
}

static void strings_that_do_not_fit_are_rejected(void **state) {
  value_fixture_t *f = *state;
  onnx_value_t *back;
  const char *const words[1] = {"\xff"};
  const uint32_t surrogate = 0xd800, beyond = 0x110000;
  text_t file;
  text_init(&file, f->arena);
  assert_int_equal(
      npy_encode(make_vector(f->arena, DT_STR, 1, words), &f->diag, &file),
      MOEC_E_UNSUPPORTED);
  static const char header[] =
      "{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }";
  assert_int_equal(decode_file(f, header, &surrogate, 4, DT_NONE, &back),
                   MOEC_E_INVALID_MODEL);
  assert_int_equal(decode_file(f, header, &beyond, 4, DT_NONE, &back),
                   MOEC_E_INVALID_MODEL);
  assert_int_equal(
      decode_file(f,
                  "{'descr': '|S3', 'fortran_order': False, 'shape': (1,), }",
                  "a\0b", 3, DT_NONE, &back),
      MOEC_E_INVALID_MODEL);
}

static void void_needs_a_type_of_its_size(void **state) {
  value_fixture_t *f = *state;
  onnx_value_t *back;
  static const char header[] =
      "{'descr': '<V2', 'fortran_order': False, 'shape': (1,), }";
  assert_int_equal(decode_file(f, header, "\x80\x3f", 2, DT_BF16, &back),
                   MOEC_OK);
  assert_int_equal(back->dtype, DT_BF16);
  assert_int_equal(decode_file(f, header, "\x80\x3f", 2, DT_NONE, &back),
                   MOEC_E_UNSUPPORTED);
  assert_int_equal(decode_file(f, header, "\x80\x3f", 2, DT_F32, &back),
                   MOEC_E_UNSUPPORTED);
}

static void all_versions_of_the_format_are_read(void **state) {
  value_fixture_t *f = *state;
  static const char header[] =
      "{\"shape\": (1L,), 'fortran_order': False, 'descr': '|u1'}\n";
  for (int version = 0; version <= 4; version++) {
    onnx_value_t *back;
    text_t file = make_file(f->arena, version, header, "\x07", 1);
    const bool known = version >= 1 && version <= 3;
    const moec_status_t status =
        decode(f, file.data, file.length, DT_NONE, &back);
    if (known)
      assert_int_equal(status, MOEC_OK);
    else
      assert_int_not_equal(status, MOEC_OK);
  }
}

static void unsupported_types_are_named(void **state) {
  value_fixture_t *f = *state;
  static const char *const types[] = {"'|O'",          "'<f16'", "'<M8[ns]'",
                                      "'<m8'",         "'|V7'",  "'<c32'",
                                      "[('a', '<f4')]"};
  for (unsigned i = 0; i < sizeof types / sizeof types[0]; i++) {
    onnx_value_t *back;
    const char *header = arena_printf(
        f->arena, "{'descr': %s, 'fortran_order': False, 'shape': (1,), }",
        types[i]);
    assert_int_equal(decode_file(f, header, "", 0, DT_NONE, &back),
                     MOEC_E_UNSUPPORTED);
  }
}

static void malformed_headers_are_rejected(void **state) {
  value_fixture_t *f = *state;
  static const char *const headers[] = {
      "",
      "{",
      "{}",
      "{'descr': '|u1', 'fortran_order': False}",
      "{'descr': '|u1', 'shape': (1,)}",
      "{'fortran_order': False, 'shape': (1,)}",
      "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'x': 1}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)} x",
      "{'descr': '|u1', 'fortran_order': 0, 'shape': (1,)}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': 1}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': (1)}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': (,)}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': (1 1,)}",
      "{'descr': '|u1', 'fortran_order': False, 'shape': "
      "(9223372036854775808,)}",
      "{'descr': '', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': 'u1', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '|u3', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '|S0', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '|S99999999999999999999', 'fortran_order': False, 'shape': "
      "(1,)}",
      "{'descr': '\\x', 'fortran_order': False, 'shape': (1,)}",
      "{'descr: '|u1', 'fortran_order': False, 'shape': (1,)}",
  };
  for (unsigned i = 0; i < sizeof headers / sizeof headers[0]; i++) {
    onnx_value_t *back;
    if (decode_file(f, headers[i], "\x07", 1, DT_NONE, &back) == MOEC_OK)
      fail_msg("accepted: %s", headers[i]);
    assert_null(back);
  }
}

static void sizes_must_agree_and_fit_64_bits(void **state) {
  value_fixture_t *f = *state;
  onnx_value_t *back;
  static const char *const shapes[] = {
      "(3,)", "(1,)", "(4294967296, 4294967296)", "(9223372036854775807, 2)",
      "(4611686018427387904, 4, 0)"};
  for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    const char *header = arena_printf(
        f->arena, "{'descr': '<i2', 'fortran_order': True, 'shape': %s}",
        shapes[i]);
    assert_int_equal(decode_file(f, header, "1234", 4, DT_NONE, &back),
                     MOEC_E_INVALID_MODEL);
  }
}

static void more_dimensions_than_the_ir_has_are_refused(void **state) {
  value_fixture_t *f = *state;
  onnx_value_t *back;
  text_t shape;
  for (int rank = IR_MAX_RANK; rank <= IR_MAX_RANK + 1; rank++) {
    text_init(&shape, f->arena);
    for (int i = 0; i < rank; i++) text_printf(&shape, "1,");
    const char *header = arena_printf(
        f->arena, "{'descr': '|u1', 'fortran_order': True, 'shape': (%s)}",
        shape.data);
    assert_int_equal(decode_file(f, header, "\x07", 1, DT_NONE, &back),
                     rank <= IR_MAX_RANK ? MOEC_OK : MOEC_E_UNSUPPORTED);
  }
}

static void every_prefix_and_changed_byte_is_survived(void **state) {
  value_fixture_t *f = *state;
  const float x[2] = {1, 2};
  text_t file;
  text_init(&file, f->arena);
  assert_int_equal(
      npy_encode(make_vector(f->arena, DT_F32, 2, x), &f->diag, &file),
      MOEC_OK);
  onnx_value_t *back;
  for (size_t n = 0; n < file.length; n++)
    assert_int_not_equal(decode(f, file.data, n, DT_NONE, &back), MOEC_OK);
  for (size_t i = 0; i < file.length; i++)
    for (unsigned bit = 0; bit < 8; bit++) {
      diag_sink_t none; /* most fail: their messages are not kept */
      diag_init(&none, f->arena, NULL);
      f->diag = none;
      file.data[i] = (char)(file.data[i] ^ 1 << bit);
      moec_status_t status = decode(f, file.data, file.length, DT_NONE, &back);
      assert_true((status == MOEC_OK) == (back != NULL));
      file.data[i] = (char)(file.data[i] ^ 1 << bit);
    }
}

static void sequences_cannot_be_written(void **state) {
  value_fixture_t *f = *state;
  text_t file;
  text_init(&file, f->arena);
  assert_int_equal(
      npy_encode(make_list(f->arena, IR_SEQUENCE, 0, NULL), &f->diag, &file),
      MOEC_E_UNSUPPORTED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      VALUE_TEST(written_file_is_read_back),
      VALUE_TEST(written_header_is_numpys),
      VALUE_TEST(scalar_and_empty_tensors_keep_their_dims),
      VALUE_TEST(fortran_order_becomes_c_order),
      VALUE_TEST(big_endian_is_swapped),
      VALUE_TEST(bools_become_zero_and_one),
      VALUE_TEST(strings_pass_through_code_points),
      VALUE_TEST(strings_that_do_not_fit_are_rejected),
      VALUE_TEST(void_needs_a_type_of_its_size),
      VALUE_TEST(all_versions_of_the_format_are_read),
      VALUE_TEST(unsupported_types_are_named),
      VALUE_TEST(malformed_headers_are_rejected),
      VALUE_TEST(sizes_must_agree_and_fit_64_bits),
      VALUE_TEST(more_dimensions_than_the_ir_has_are_refused),
      VALUE_TEST(every_prefix_and_changed_byte_is_survived),
      VALUE_TEST(sequences_cannot_be_written),
  };
  return cmocka_run_group_tests_name("tools/npy", tests, NULL, NULL);
}
