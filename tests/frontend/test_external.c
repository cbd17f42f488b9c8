/* External data: which files a model may reach, and which of their bytes. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/external.h"
#include "frontend/sha1.h"
#include "tests/frontend/wire_support.h"

/* ---- A scratch directory ------------------------------------------------ */

/* Laid out as  ROOT/secret  ROOT/model/ (the model's)  ROOT/model/sub/. */
typedef struct scratch {
  fixture_t *base;
  char root[64];
} scratch_t;

static int remove_entry(const char *path, const struct stat *st, int flag,
                        struct FTW *ftw) {
  (void)st, (void)flag, (void)ftw;
  return remove(path);
}

static const char *path_of(scratch_t *scratch, const char *name) {
  return arena_printf(scratch->base->arena, "%s/%s", scratch->root, name);
}

static void write_file(scratch_t *scratch, const char *name, const void *bytes,
                       size_t length) {
  FILE *file = fopen(path_of(scratch, name), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, length, file), length);
  assert_int_equal(fclose(file), 0);
}

static int scratch_setup(void **state) {
  void *base;
  fixture_setup(&base);
  scratch_t *scratch = calloc(1, sizeof *scratch);
  scratch->base = base;
  strcpy(scratch->root, "/tmp/moec-external-XXXXXX");
  assert_non_null(mkdtemp(scratch->root));
  assert_int_equal(mkdir(path_of(scratch, "model"), 0700), 0);
  assert_int_equal(mkdir(path_of(scratch, "model/sub"), 0700), 0);
  write_file(scratch, "secret", "secret..", 8);
  write_file(scratch, "model/w", "abcdefgh", 8);
  write_file(scratch, "model/sub/w", "ABCDEFGH", 8);
  *state = scratch;
  return 0;
}

static int scratch_teardown(void **state) {
  scratch_t *scratch = *state;
  nftw(scratch->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
  void *base = scratch->base;
  fixture_teardown(&base);
  free(scratch);
  return 0;
}

#undef TEST
#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

/* ---- Fetching ----------------------------------------------------------- */

typedef struct entry { /* of external_data; NULL ends a list */
  const char *key, *value;
} entry_t;

/* u8[count] with these keys. */
static wire_t external_tensor(int64_t count, const entry_t *keys) {
  wire_t tensor = {0};
  wire_int(&tensor, TENSOR_dims, (uint64_t)count);
  wire_int(&tensor, TENSOR_data_type, DT_U8);
  wire_text(&tensor, TENSOR_name, "w");
  for (; keys->key != NULL; keys++) {
    wire_t entry = {0};
    wire_text(&entry, 1, keys->key);
    wire_text(&entry, 2, keys->value);
    wire_message(&tensor, TENSOR_external_data, &entry);
  }
  wire_int(&tensor, TENSOR_data_location, 1);
  return tensor;
}

/* Writes the model to ROOT/model/m.onnx, loads it and fetches its tensor. */
static moec_status_t fetch_tensor(scratch_t *scratch, wire_t *tensor,
                                  ir_data_t **out_data) {
  fixture_t *fixture = scratch->base;
  wire_t wire = wire_model_of_tensor(tensor);
  write_file(scratch, "model/m.onnx", wire.data, wire.length);
  free(wire.data);
  onnx_model_t *model;
  assert_accepted(fixture, onnx_load(fixture->store, fixture->arena,
                                     path_of(scratch, "model/m.onnx"),
                                     &fixture->diag, &model));
  return onnx_tensor_data(model, model->proto->graph->initializer[0],
                          (ir_loc_t){0}, &fixture->diag, out_data);
}

static moec_status_t fetch_keys(scratch_t *scratch, int64_t count,
                                const entry_t *keys, ir_data_t **out_data) {
  wire_t tensor = external_tensor(count, keys);
  return fetch_tensor(scratch, &tensor, out_data);
}

static moec_status_t fetch_location(scratch_t *scratch, const char *location,
                                    ir_data_t **out_data) {
  const entry_t keys[] = {{"location", location}, {0}};
  return fetch_keys(scratch, 8, keys, out_data);
}

static void expect_location(void **state, const char *location,
                            const char *bytes, int line) {
  scratch_t *scratch = *state;
  ir_data_t *data;
  check_success(scratch->base, fetch_location(scratch, location, &data),
                __FILE__, line);
  if (data->size == 8 && memcmp(data->bytes, bytes, 8) == 0) return;
  _fail(__FILE__, line);
}
#define EXPECT(location, bytes) \
  expect_location(state, (location), (bytes), __LINE__)

static void reject_location(void **state, const char *location,
                            moec_status_t status, const char *words, int line) {
  scratch_t *scratch = *state;
  ir_data_t *data;
  moec_status_t found = fetch_location(scratch, location, &data);
  check_diag(scratch->base, found, status, words, __FILE__, line);
  assert_null(data);
}
#define REJECT(location, status, words) \
  reject_location(state, (location), (status), (words), __LINE__)

static void restart_with_root(scratch_t *scratch, const char *root) {
  const onnx_load_options_t options = {.external_root = root};
  fixture_restart(scratch->base, &options);
}

static void link_to(scratch_t *scratch, const char *target, const char *name) {
  assert_int_equal(symlink(target, path_of(scratch, name)), 0);
}

/* ---- Locations ---------------------------------------------------------- */

static void files_beside_and_below_the_model_are_read(void **state) {
  EXPECT("w", "abcdefgh");
  EXPECT("./w", "abcdefgh");
  EXPECT("sub/w", "ABCDEFGH");
  EXPECT("sub//w", "ABCDEFGH");
  EXPECT("./sub/./w", "ABCDEFGH");
}

static void names_with_two_dots_inside_are_read(void **state) {
  write_file(*state, "model/..w", "dotdot_w", 8);
  write_file(*state, "model/w..", "w_dotdot", 8);
  EXPECT("..w", "dotdot_w");
  EXPECT("w..", "w_dotdot");
}

static void locations_that_leave_the_directory_are_rejected(void **state) {
  scratch_t *scratch = *state;
  static const struct {
    const char *location, *words;
  } cases[] = {
      {"../secret", "leaves the directory"},
      {"sub/../../secret", "leaves the directory"},
      {"sub/../w", "leaves the directory"}, /* though it would come back */
      {"..", "leaves the directory"},
      {"sub/..", "leaves the directory"},
      {"/etc/passwd", "absolute path"},
      {"/proc/self/environ", "absolute path"},
      {"//etc/passwd", "absolute path"},
      {"", "empty"},
      {"sub/", "is a directory"},
      {"*/_ORT_MEM_ADDR_/*", "another program's memory"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fixture_restart(scratch->base, NULL);
    REJECT(cases[i].location, MOEC_E_INVALID_MODEL, cases[i].words);
  }
}

static void missing_files_are_io_errors(void **state) {
  REJECT("nowhere", MOEC_E_IO, "cannot open external data 'nowhere': No such");
}

static void file_as_a_directory_is_an_io_error(void **state) {
  REJECT("w/w", MOEC_E_IO, "Not a directory");
}

static void other_kinds_of_files_are_rejected(void **state) {
  scratch_t *scratch = *state;
  REJECT("sub", MOEC_E_IO, "not a regular file");
  fixture_restart(scratch->base, NULL);
  assert_int_equal(mkfifo(path_of(scratch, "model/pipe"), 0600), 0);
  REJECT("pipe", MOEC_E_IO, "not a regular file");
}

static void devices_are_rejected(void **state) {
  scratch_t *scratch = *state;
  if (mknod(path_of(scratch, "model/zero"), S_IFCHR | 0600,
            (dev_t)(1 << 8 | 5)) != 0)
    skip(); /* needs to be root */
  REJECT("zero", MOEC_E_IO, "external data 'zero'");
}

/* ---- Links -------------------------------------------------------------- */

static void symbolic_links_are_rejected(void **state) {
  scratch_t *scratch = *state;
  link_to(scratch, "../secret", "model/out");
  link_to(scratch, "w", "model/in"); /* even where they stay inside */
  link_to(scratch, path_of(scratch, ""), "model/up");
  link_to(scratch, "nowhere", "model/dangling");
  static const char *const locations[] = {"out", "in", "up/secret", "dangling"};
  for (size_t i = 0; i < sizeof locations / sizeof locations[0]; i++) {
    fixture_restart(scratch->base, NULL);
    REJECT(locations[i], MOEC_E_IO, "reached by a symbolic link");
    assert_non_null(
        strstr(scratch->base->diag.first->notes->text, "--external-data-root"));
  }
}

static void hard_links_are_rejected(void **state) {
  scratch_t *scratch = *state;
  assert_int_equal(
      link(path_of(scratch, "secret"), path_of(scratch, "model/hard")), 0);
  REJECT("hard", MOEC_E_IO, "several names (hard links)");
}

static void links_inside_the_external_root_are_followed(void **state) {
  /* The layout of model hubs: snapshots of links into a store of blobs. */
  scratch_t *scratch = *state;
  const char *root = arena_strdup(scratch->base->arena, scratch->root);
  link_to(scratch, "../secret", "model/relative");
  link_to(scratch, path_of(scratch, "secret"), "model/absolute");
  link_to(scratch, "..", "model/up");
  assert_int_equal(
      link(path_of(scratch, "secret"), path_of(scratch, "model/hard")), 0);
  static const char *const locations[] = {"relative", "absolute", "up/secret",
                                          "hard"};
  char *kept = strdup(root);
  for (size_t i = 0; i < sizeof locations / sizeof locations[0]; i++) {
    restart_with_root(scratch, kept);
    EXPECT(locations[i], "secret..");
  }
  EXPECT("sub/w", "ABCDEFGH");
  free(kept);
}

static void links_out_of_the_external_root_are_rejected(void **state) {
  scratch_t *scratch = *state;
  char *root = strdup(path_of(scratch, "model"));
  link_to(scratch, "../secret", "model/out");
  link_to(scratch, "w", "model/in");
  restart_with_root(scratch, root);
  REJECT("out", MOEC_E_IO, "reached by a symbolic link");
  assert_non_null(strstr(scratch->base->diag.first->notes->text, "leads out"));
  restart_with_root(scratch, root);
  EXPECT("in", "abcdefgh");
  free(root);
}

static void similar_prefix_is_not_inside_the_external_root(void **state) {
  /* ROOT/mod is no parent of ROOT/model. */
  scratch_t *scratch = *state;
  assert_int_equal(mkdir(path_of(scratch, "mod"), 0700), 0);
  char *root = strdup(path_of(scratch, "mod"));
  link_to(scratch, "w", "model/in");
  restart_with_root(scratch, root);
  REJECT("in", MOEC_E_IO, "reached by a symbolic link");
  free(root);
}

static void dots_are_rejected_with_an_external_root_too(void **state) {
  scratch_t *scratch = *state;
  char *root = strdup(scratch->root);
  restart_with_root(scratch, root);
  REJECT("../secret", MOEC_E_INVALID_MODEL, "leaves the directory");
  free(root);
}

static void model_behind_a_link_has_its_data_beside_the_link(void **state) {
  scratch_t *scratch = *state;
  fixture_t *fixture = scratch->base;
  const entry_t keys[] = {{"location", "w"}, {0}};
  wire_t tensor = external_tensor(8, keys);
  wire_t wire = wire_model_of_tensor(&tensor);
  assert_int_equal(mkdir(path_of(scratch, "blobs"), 0700), 0);
  write_file(scratch, "blobs/123", wire.data, wire.length);
  free(wire.data);
  link_to(scratch, "../blobs/123", "model/linked.onnx");
  onnx_model_t *model;
  ir_data_t *data;
  assert_accepted(fixture, onnx_load(fixture->store, fixture->arena,
                                     path_of(scratch, "model/linked.onnx"),
                                     &fixture->diag, &model));
  assert_accepted(fixture,
                  onnx_tensor_data(model, model->proto->graph->initializer[0],
                                   (ir_loc_t){0}, &fixture->diag, &data));
  assert_memory_equal(data->bytes, "abcdefgh", 8);
}

/* ---- Both ways of opening ----------------------------------------------- */

static bool opens(int directory, const char *path, bool use_openat2) {
  int fd = onnx_open_beneath(directory, path, use_openat2);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

static void opening_stepwise_refuses_what_openat2_refuses(void **state) {
  scratch_t *scratch = *state;
  link_to(scratch, "../secret", "model/out");
  link_to(scratch, "sub", "model/linked");
  static const struct {
    const char *path;
    bool allowed;
  } cases[] = {
      {"w", true},         {"sub/w", true},  {"./sub//w", true},
      {"linked/w", false}, {"out", false},   {"nowhere", false},
      {"w/w", false},      {"sub/x", false},
  };
  int directory = open(path_of(scratch, "model"), O_PATH | O_DIRECTORY);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int use_openat2 = 0; use_openat2 < 2; use_openat2++)
      if (opens(directory, cases[i].path, use_openat2) != cases[i].allowed)
        fail_msg("'%s' with openat2 %d: expected %s", cases[i].path,
                 use_openat2, cases[i].allowed ? "success" : "refusal");
  close(directory);
}

/* ---- Ranges ------------------------------------------------------------- */

static void offset_and_length_choose_the_bytes(void **state) {
  scratch_t *scratch = *state;
  ir_data_t *data;
  const entry_t keys[] = {
      {"location", "w"}, {"offset", "3"}, {"length", "4"}, {0}};
  assert_accepted(scratch->base, fetch_keys(scratch, 4, keys, &data));
  assert_memory_equal(data->bytes, "defg", 4);
  /* Without a length, the tensor's own size counts. */
  const entry_t without[] = {{"location", "w"}, {"offset", "007"}, {0}};
  assert_accepted(scratch->base, fetch_keys(scratch, 1, without, &data));
  assert_memory_equal(data->bytes, "h", 1);
}

static void reject_keys(void **state, int64_t count, const entry_t *keys,
                        moec_status_t status, const char *words, int line) {
  scratch_t *scratch = *state;
  ir_data_t *data;
  fixture_restart(scratch->base, NULL);
  moec_status_t found = fetch_keys(scratch, count, keys, &data);
  check_diag(scratch->base, found, status, words, __FILE__, line);
}
#define REJECT_KEYS(count, words, ...)                                      \
  reject_keys(state, (count), (const entry_t[]){__VA_ARGS__, {NULL, NULL}}, \
              MOEC_E_INVALID_MODEL, (words), __LINE__)

static void ranges_outside_the_file_are_rejected(void **state) {
  REJECT_KEYS(9, "has 8 bytes; the tensor needs 9 from byte 0 on",
              {"location", "w"});
  REJECT_KEYS(8, "needs 8 from byte 1 on", {"location", "w"}, {"offset", "1"});
  REJECT_KEYS(1, "needs 1 from byte 8 on", {"location", "w"}, {"offset", "8"});
  REJECT_KEYS(1, "from byte 9223372036854775807 on", {"location", "w"},
              {"offset", "9223372036854775807"});
  REJECT_KEYS((int64_t)1 << 60, "needs 1152921504606846976 from byte 2 on",
              {"location", "w"}, {"offset", "2"});
}

static void sizes_must_be_plain_numbers(void **state) {
  static const char *const bad[] = {
      "-1",
      "+1",
      "",
      " 1",
      "1 ",
      "0x1",
      "1e3",
      "1.0",
      "9223372036854775808",
      "18446744073709551616",
      "340282366920938463463374607431768211457",
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    REJECT_KEYS(4, "is not a number of bytes", {"location", "w"},
                {"offset", bad[i]});
    REJECT_KEYS(4, "is not a number of bytes", {"location", "w"},
                {"length", bad[i]});
  }
}

static void length_must_be_that_of_the_shape(void **state) {
  REJECT_KEYS(4, "external data has 5 bytes, expected 4 for u8[4]",
              {"location", "w"}, {"length", "5"});
  REJECT_KEYS(4, "external data has 0 bytes, expected 4 for u8[4]",
              {"location", "w"}, {"length", "0"});
}

static void empty_files_serve_empty_tensors_only(void **state) {
  scratch_t *scratch = *state;
  write_file(scratch, "model/empty", "", 0);
  const entry_t keys[] = {{"location", "empty"}, {0}};
  ir_data_t *data;
  assert_accepted(scratch->base, fetch_keys(scratch, 0, keys, &data));
  assert_int_equal(data->size, 0);
  REJECT_KEYS(1, "has 0 bytes; the tensor needs 1", {"location", "empty"});
}

/* ---- Keys --------------------------------------------------------------- */

static void keys_are_checked(void **state) {
  REJECT_KEYS(8, "key 'lenght' is not known", {"location", "w"},
              {"lenght", "8"});
  REJECT_KEYS(8, "key '__class__' is not known", {"location", "w"},
              {"__class__", "x"});
  REJECT_KEYS(8, "key 'location' is given twice", {"location", "w"},
              {"location", "sub/w"});
  REJECT_KEYS(8, "key 'offset' is given twice", {"location", "w"},
              {"offset", "0"}, {"offset", "0"});
  REJECT_KEYS(8, "key 'length' is given twice", {"location", "w"},
              {"length", "8"}, {"length", "8"});
  REJECT_KEYS(8, "key 'basepath' is given twice", {"location", "w"},
              {"basepath", "a"}, {"basepath", "b"});
  REJECT_KEYS(8, "no location", {"offset", "0"});
  REJECT_KEYS(8, "not a SHA-1", {"location", "w"}, {"checksum", "abc"});
  REJECT_KEYS(8, "not a SHA-1", {"location", "w"},
              {"checksum", "425af12a0743502b322e93a015bcf868e324d56g"});
}

static void basepath_does_not_move_the_file(void **state) {
  scratch_t *scratch = *state;
  const entry_t keys[] = {{"location", "w"}, {"basepath", "/etc"}, {0}};
  ir_data_t *data;
  assert_accepted(scratch->base, fetch_keys(scratch, 8, keys, &data));
  assert_memory_equal(data->bytes, "abcdefgh", 8);
}

static void checksums_are_compared_when_asked_for(void **state) {
  scratch_t *scratch = *state;
  const entry_t right[] = {
      {"location", "w"},
      {"checksum", "425AF12a0743502b322e93a015bcf868e324d56a"},
      {0}};
  const entry_t wrong[] = {
      {"location", "w"},
      {"checksum", "425af12a0743502b322e93a015bcf868e324d56b"},
      {0}};
  ir_data_t *data;
  assert_accepted(scratch->base, fetch_keys(scratch, 8, wrong, &data));
  const onnx_load_options_t options = {.verify_checksums = true};
  fixture_restart(scratch->base, &options);
  assert_accepted(scratch->base, fetch_keys(scratch, 8, right, &data));
  assert_rejected(scratch->base, fetch_keys(scratch, 8, wrong, &data),
                  MOEC_E_IO, "does not have the checksum");
}

static void sha1_of_known_texts(void **state) {
  (void)state;
  static const struct {
    const char *text;
    size_t times;
    const char *digest;
  } cases[] = {
      {"", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
      {"abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
       "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
      {"a", 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
      {"0123456701234567012345670123456701234567012345670123456701234567", 10,
       "dea356a2cddd90c7a7ecedc5ebb563934f460452"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    size_t n = strlen(cases[i].text);
    uint8_t *bytes = malloc(n * cases[i].times + 1), digest[20];
    for (size_t k = 0; k < cases[i].times; k++)
      memcpy(bytes + k * n, cases[i].text, n);
    onnx_sha1(bytes, n * cases[i].times, digest);
    free(bytes);
    char text[41];
    for (unsigned k = 0; k < 20; k++)
      snprintf(text + 2 * k, 3, "%02x", digest[k]);
    assert_string_equal(text, cases[i].digest);
  }
}

/* ---- Combinations ------------------------------------------------------- */

static void inline_and_external_data_together_are_rejected(void **state) {
  scratch_t *scratch = *state;
  const entry_t keys[] = {{"location", "w"}, {0}};
  wire_t tensor = external_tensor(8, keys);
  wire_bytes(&tensor, TENSOR_raw_data, "12345678", 8);
  ir_data_t *data;
  assert_rejected(scratch->base, fetch_tensor(scratch, &tensor, &data),
                  MOEC_E_INVALID_MODEL, "both inline and external data");
}

static void external_strings_are_rejected(void **state) {
  scratch_t *scratch = *state;
  wire_t tensor = {0}, entry = {0};
  wire_int(&tensor, TENSOR_data_type, DT_STR);
  wire_text(&entry, 1, "location");
  wire_text(&entry, 2, "w");
  wire_message(&tensor, TENSOR_external_data, &entry);
  wire_int(&tensor, TENSOR_data_location, 1);
  ir_data_t *data;
  assert_rejected(scratch->base, fetch_tensor(scratch, &tensor, &data),
                  MOEC_E_INVALID_MODEL, "strings cannot be external");
}

static void models_without_a_directory_have_no_external_data(void **state) {
  scratch_t *scratch = *state;
  fixture_t *fixture = scratch->base;
  const entry_t keys[] = {{"location", "w"}, {0}};
  wire_t tensor = external_tensor(8, keys);
  wire_t wire = wire_model_of_tensor(&tensor);
  onnx_model_t *model;
  ir_data_t *data;
  assert_accepted(fixture, load_wire(fixture, &wire, &model));
  moec_status_t status =
      onnx_tensor_data(model, model->proto->graph->initializer[0],
                       (ir_loc_t){0}, &fixture->diag, &data);
  assert_rejected(fixture, status, MOEC_E_IO, "has no directory");
}

static void many_tensors_share_files(void **state) {
  /* 300 tensors in 100 files, each of which is mapped once. */
  scratch_t *scratch = *state;
  fixture_t *fixture = scratch->base;
  wire_t graph = {0};
  for (int i = 0; i < 300; i++) {
    char name[16], path[32];
    snprintf(name, sizeof name, "w%d", i % 100);
    snprintf(path, sizeof path, "model/w%d", i % 100);
    if (i < 100) write_file(scratch, path, &(uint8_t[]){(uint8_t)i}, 1);
    const entry_t keys[] = {{"location", name}, {0}};
    wire_t tensor = external_tensor(1, keys);
    wire_message(&graph, GRAPH_initializer, &tensor);
  }
  wire_t wire = wire_model(&graph);
  write_file(scratch, "model/m.onnx", wire.data, wire.length);
  free(wire.data);
  onnx_model_t *model;
  const void *first[100];
  assert_accepted(fixture, onnx_load(fixture->store, fixture->arena,
                                     path_of(scratch, "model/m.onnx"),
                                     &fixture->diag, &model));
  for (int i = 0; i < 300; i++) {
    ir_data_t *data;
    assert_accepted(fixture,
                    onnx_tensor_data(model, model->proto->graph->initializer[i],
                                     (ir_loc_t){0}, &fixture->diag, &data));
    assert_int_equal(*(const uint8_t *)data->bytes, i % 100);
    if (i < 100) first[i] = data->bytes;
    assert_ptr_equal(data->bytes, first[i % 100]);
  }
}

static void files_that_change_meanwhile_are_noticed(void **state) {
  scratch_t *scratch = *state;
  EXPECT("w", "abcdefgh");
  assert_accepted(scratch->base,
                  onnx_store_check(scratch->base->store, &scratch->base->diag));
  write_file(scratch, "model/w", "abcdefgh, longer", 16);
  assert_rejected(scratch->base,
                  onnx_store_check(scratch->base->store, &scratch->base->diag),
                  MOEC_E_IO, "was changed while it was being read");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(files_beside_and_below_the_model_are_read),
      TEST(names_with_two_dots_inside_are_read),
      TEST(locations_that_leave_the_directory_are_rejected),
      TEST(missing_files_are_io_errors),
      TEST(file_as_a_directory_is_an_io_error),
      TEST(other_kinds_of_files_are_rejected),
      TEST(devices_are_rejected),
      TEST(symbolic_links_are_rejected),
      TEST(hard_links_are_rejected),
      TEST(links_inside_the_external_root_are_followed),
      TEST(links_out_of_the_external_root_are_rejected),
      TEST(similar_prefix_is_not_inside_the_external_root),
      TEST(dots_are_rejected_with_an_external_root_too),
      TEST(model_behind_a_link_has_its_data_beside_the_link),
      TEST(opening_stepwise_refuses_what_openat2_refuses),
      TEST(offset_and_length_choose_the_bytes),
      TEST(ranges_outside_the_file_are_rejected),
      TEST(sizes_must_be_plain_numbers),
      TEST(length_must_be_that_of_the_shape),
      TEST(empty_files_serve_empty_tensors_only),
      TEST(keys_are_checked),
      TEST(basepath_does_not_move_the_file),
      TEST(checksums_are_compared_when_asked_for),
      TEST(sha1_of_known_texts),
      TEST(inline_and_external_data_together_are_rejected),
      TEST(external_strings_are_rejected),
      TEST(models_without_a_directory_have_no_external_data),
      TEST(many_tensors_share_files),
      TEST(files_that_change_meanwhile_are_noticed),
  };
  return cmocka_run_group_tests_name("frontend/external", tests, NULL, NULL);
}
