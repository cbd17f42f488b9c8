/* Archives of arrays, also those that lie. */
#include <zlib.h>

#include "tools/npz.h"
#include "value_support.h"

typedef struct archive { /* being written */
  text_t bytes, directory;
  unsigned n;
} archive_t;

static void put(text_t *out, uint64_t value, unsigned n_bytes) {
  char bytes[32] = {0};
  assert_in_range(n_bytes, 0, sizeof bytes);
  for (unsigned i = 0; i < n_bytes && i < 8; i++)
    bytes[i] = (char)(value >> 8 * i);
  text_append(out, bytes, n_bytes);
}

static void begin(value_fixture_t *f, archive_t *a) {
  *a = (archive_t){0};
  text_init(&a->bytes, f->arena);
  text_init(&a->directory, f->arena);
}

typedef struct member {
  const char *name;
  unsigned method, flags;
  uint64_t unpacked; /* as the directory says; 0: the truth */
  bool wide;         /* sizes of 64 bits */
  bool wrong_crc;
} member_t;

static void add(archive_t *a, const member_t *m, const void *bytes,
                size_t size) {
  static unsigned char packed[4096];
  const size_t name = strlen(m->name), at = a->bytes.length;
  const uint64_t unpacked = m->unpacked != 0 ? m->unpacked : size;
  size_t n = size;
  memcpy(packed, bytes, size);
  if (m->method == 8) {
    z_stream z = {.avail_in = (unsigned)size, .avail_out = sizeof packed};
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.next_out = packed;
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, 0), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    n = z.total_out;
    deflateEnd(&z);
  }
  put(&a->bytes, 0x04034b50, 4);
  put(&a->bytes, 0, 22); /* what the directory says counts */
  put(&a->bytes, name, 2);
  put(&a->bytes, 3, 2);
  text_append(&a->bytes, m->name, name);
  text_append(&a->bytes, "ext", 3);
  text_append(&a->bytes, (const char *)packed, n);

  text_t *d = &a->directory;
  put(d, 0x02014b50, 4);
  put(d, 20, 2);
  put(d, 20, 2);
  put(d, m->flags, 2);
  put(d, m->method, 2);
  put(d, 0, 4);
  put(d, crc32(0, bytes, (unsigned)size) + m->wrong_crc, 4);
  put(d, m->wide ? UINT32_MAX : n, 4);
  put(d, m->wide ? UINT32_MAX : unpacked, 4);
  put(d, name, 2);
  put(d, m->wide ? 26 : 0, 2);
  put(d, 0, 2);
  put(d, 0, 8);
  put(d, at, 4);
  text_append(d, m->name, name);
  if (m->wide) { /* a record to be passed over, then sizes */
    put(d, 0x7777, 2);
    put(d, 2, 2);
    put(d, 0, 2);
    put(d, 1, 2);
    put(d, 16, 2);
    put(d, unpacked, 8);
    put(d, n, 8);
  }
  a->n++;
}

static moec_status_t finish(value_fixture_t *f, archive_t *a, npz_t *out) {
  const size_t at = a->bytes.length;
  text_append(&a->bytes, a->directory.data, a->directory.length);
  put(&a->bytes, 0x06054b50, 4);
  put(&a->bytes, 0, 4);
  put(&a->bytes, a->n, 2);
  put(&a->bytes, a->n, 2);
  put(&a->bytes, a->directory.length, 4);
  put(&a->bytes, at, 4);
  put(&a->bytes, 7, 2);
  text_append(&a->bytes, "comment", 7);
  return npz_open(f->arena, a->bytes.data, a->bytes.length, &f->diag, out);
}

/* The .npy file of f32[3]. */
static text_t make_array(value_fixture_t *f, float first) {
  const float elements[] = {first, 2, 3};
  text_t text;
  text_init(&text, f->arena);
  assert_int_equal(
      npy_encode(make_vector(f->arena, DT_F32, 3, elements), &f->diag, &text),
      MOEC_OK);
  return text;
}

static moec_status_t open_one(value_fixture_t *f, const member_t *member,
                              npz_t *out) {
  archive_t a;
  text_t array = make_array(f, 1);
  begin(f, &a);
  add(&a, member, array.data, array.length);
  return finish(f, &a, out);
}

static moec_status_t read_one(value_fixture_t *f, const member_t *member) {
  npz_t npz;
  onnx_value_t *value;
  MOEC_TRY(open_one(f, member, &npz));
  assert_int_equal(npz.n_arrays, 1);
  MOEC_TRY(npz_read(f->arena, &npz, &npz.arrays[0], DT_NONE, &f->diag, &value));
  assert_int_equal(value->dtype, DT_F32);
  assert_int_equal(value->dims[0], 3);
  const float want[] = {1, 2, 3};
  assert_memory_equal(value->data->bytes, want, sizeof want);
  return MOEC_OK;
}

static void arrays_are_read_stored_or_deflated(void **state) {
  value_fixture_t *f = *state;
  static const member_t members[] = {
      {.name = "x.npy"},
      {.name = "x.npy", .method = 8},
      {.name = "x.npy", .wide = true},
      {.name = "a/x.npy", .method = 8, .wide = true}};
  for (unsigned i = 0; i < sizeof members / sizeof members[0]; i++)
    assert_int_equal(read_one(f, &members[i]), MOEC_OK);
}

static void arrays_are_found_by_name(void **state) {
  value_fixture_t *f = *state;
  archive_t a;
  npz_t npz;
  onnx_value_t *value;
  text_t x = make_array(f, 7), y = make_array(f, 8);
  begin(f, &a);
  add(&a, &(member_t){.name = "x.npy"}, x.data, x.length);
  add(&a, &(member_t){.name = "readme.txt"}, "hello", 5);
  add(&a, &(member_t){.name = "y.npy", .method = 8}, y.data, y.length);
  assert_int_equal(finish(f, &a, &npz), MOEC_OK);
  assert_int_equal(npz.n_arrays, 2);
  assert_null(npz_find(&npz, "x.npy"));
  assert_null(npz_find(&npz, "readme"));
  const npz_array_t *array = npz_find(&npz, "y");
  assert_non_null(array);
  assert_int_equal(npz_read(f->arena, &npz, array, DT_NONE, &f->diag, &value),
                   MOEC_OK);
  assert_true(*(const float *)value->data->bytes == 8);
}

static void archive_without_arrays_is_empty(void **state) {
  value_fixture_t *f = *state;
  archive_t a;
  npz_t npz;
  begin(f, &a);
  assert_int_equal(finish(f, &a, &npz), MOEC_OK);
  assert_int_equal(npz.n_arrays, 0);
}

static void assert_refused(value_fixture_t *f, moec_status_t status,
                           moec_status_t want, const char *message) {
  assert_int_equal(status, want);
  assert_string_equal(f->diag.last->text, message);
}

static void what_lies_is_refused(void **state) {
  value_fixture_t *f = *state;
  static const struct row {
    member_t member;
    moec_status_t status;
    const char *message;
  } rows[] = {
      {{.name = "x.npy", .flags = 1},
       MOEC_E_UNSUPPORTED,
       "encrypted files are not supported"},
      {{.name = "x.npy", .method = 12},
       MOEC_E_UNSUPPORTED,
       "the method of compression is not supported"},
      {{.name = "x.npy", .wrong_crc = true},
       MOEC_E_INVALID_MODEL,
       "the checksum of a file is wrong"},
      {{.name = "x.npy", .unpacked = 100},
       MOEC_E_INVALID_MODEL,
       "a stored file has two sizes"},
      {{.name = "x.npy", .method = 8, .unpacked = 100},
       MOEC_E_INVALID_MODEL,
       "a file is damaged"},
      {{.name = "x.npy", .method = 8, .unpacked = 141},
       MOEC_E_INVALID_MODEL,
       "a file is damaged"},
      {{.name = "x.npy",
        .method = 8,
        .unpacked = UINT64_C(1) << 60,
        .wide = true},
       MOEC_E_INVALID_MODEL,
       "the size of a file is a lie"},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
    assert_refused(f, read_one(f, &rows[i].member), rows[i].status,
                   rows[i].message);
}

static void archives_that_are_cut_are_refused(void **state) {
  value_fixture_t *f = *state;
  archive_t a;
  npz_t npz;
  text_t array = make_array(f, 1);
  begin(f, &a);
  add(&a, &(member_t){.name = "x.npy"}, array.data, array.length);
  assert_int_equal(finish(f, &a, &npz), MOEC_OK);
  for (size_t n = 0; n < a.bytes.length; n++) {
    char *exact = malloc(n + 1);
    assert_non_null(exact);
    memcpy(exact, a.bytes.data, n);
    diag_init(&f->diag, f->arena, NULL); /* it keeps a hundred */
    assert_refused(f, npz_open(f->arena, exact, n, &f->diag, &npz),
                   MOEC_E_INVALID_MODEL, "not a .npz file");
    /* The same without what lies before. */
    memcpy(exact, a.bytes.data + a.bytes.length - n, n);
    assert_int_not_equal(npz_open(f->arena, exact, n, &f->diag, &npz), MOEC_OK);
    free(exact);
  }
}

static void runs_take_archives(void **state) {
  (void)state;
  void *own = NULL;
  cli_setup(&own);
  cli_fixture_t *cli = own;
  value_fixture_t f = {.arena = arena_create(0)};
  diag_init(&f.diag, f.arena, NULL);
  archive_t a;
  npz_t npz;
  text_t x = make_array(&f, 1), y = make_array(&f, 5);
  begin(&f, &a);
  add(&a, &(member_t){.name = "x.npy"}, x.data, x.length);
  add(&a, &(member_t){.name = "input_1.npy", .method = 8}, y.data, y.length);
  assert_int_equal(finish(&f, &a, &npz), MOEC_OK);
  write_bytes(cli, "both.npz", a.bytes.data, a.bytes.length);
  begin(&f, &a);
  add(&a, &(member_t){.name = "any.npy"}, y.data, y.length);
  assert_int_equal(finish(&f, &a, &npz), MOEC_OK);
  write_bytes(cli, "one.npz", a.bytes.data, a.bytes.length);
  write_text(cli, "sum.moeir",
             "module \"sum\" tensor {\n"
             "func @main(%0 \"x\": f32[3], %1 \"y\": f32[3]) -> (\"z\") {\n"
             "  %2 = add(%0, %1) : f32[3]\n"
             "  return(%2)\n"
             "}\n}\n");
  assert_exit(cli, 0, "run", in_folder(cli, "sum.moeir"), "--data",
              in_folder(cli, "both.npz"));
  assert_string_equal(cli->out, "z: f32[3] = 6 4 6\n");
  const char *given = arena_printf(f.arena, "x=%s", in_folder(cli, "one.npz"));
  assert_exit(cli, 0, "run", in_folder(cli, "sum.moeir"), "--data",
              in_folder(cli, "both.npz"), "--input", given);
  assert_string_equal(cli->out, "z: f32[3] = 10 4 6\n");
  given = arena_printf(f.arena, "y=%s", in_folder(cli, "both.npz"));
  assert_exit(cli, 2, "run", in_folder(cli, "sum.moeir"), "--input", given);
  assert_contains(cli->err, "there is no array 'y', nor one array alone");
  assert_contains(cli->err, "the file has: 'x', 'input_1'");
  assert_exit(cli, 6, "run", in_folder(cli, "sum.moeir"), "--data",
              in_folder(cli, "one.npz"));
  assert_contains(cli->err, "there is no array 'x', 'input_0' or 'arr_0'");
  arena_destroy(f.arena);
  cli_teardown(&own);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      VALUE_TEST(arrays_are_read_stored_or_deflated),
      VALUE_TEST(arrays_are_found_by_name),
      VALUE_TEST(archive_without_arrays_is_empty),
      VALUE_TEST(what_lies_is_refused),
      VALUE_TEST(archives_that_are_cut_are_refused),
      VALUE_TEST(runs_take_archives),
  };
  return cmocka_run_group_tests_name("tools/npz", tests, NULL, NULL);
}
