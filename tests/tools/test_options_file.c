/* Options from a file. */
#include "cli_support.h"

typedef struct fixture {
  cli_fixture_t cli; /* comes first: functions of cli_support.h take it */
  arena_t *arena;
  diag_sink_t diag;
  options_t options;
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  assert_non_null(f);
  strcpy(f->cli.directory, "/tmp/moec-test-XXXXXX");
  assert_non_null(mkdtemp(f->cli.directory));
  f->arena = arena_create(0);
  diag_init(&f->diag, f->arena, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture_t *f = *state;
  arena_destroy(f->arena);
  return cli_teardown(state);
}

/* `moec WORDS... --config=FILE` with this text in the file. */
static moec_status_t parse_with(fixture_t *f, const char *text,
                                char *(*get)(const char *),
                                const char *const *words) {
  char *argv[16];
  int argc = 0;
  write_text(&f->cli, "options", text);
  for (; words[argc] != NULL; argc++)
    argv[argc] = arena_strdup(f->arena, words[argc]);
  argv[argc++] =
      arena_printf(f->arena, "--config=%s/options", f->cli.directory);
  diag_init(&f->diag, f->arena, NULL);
  return options_parse(&f->options, f->arena, argc, argv, get, &f->diag);
}

#define PARSE(f, text, ...) \
  parse_with(f, text, NULL, (const char *const[]){__VA_ARGS__, NULL})

static void lines_are_long_options(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f,
                         "# a comment\n\n  optimize = 3\n"
                         "output=a b.so \r\n\tverify-each\n"
                         "memory-limit = 2G\nquiet = yes\nverbose = no",
                         "m.onnx"),
                   MOEC_OK);
  assert_int_equal(f->options.level, 3);
  assert_string_equal(f->options.output, "a b.so");
  assert_true(f->options.verify_each);
  assert_int_equal(f->options.memory_limit, UINT64_C(2) << 30);
  assert_true(f->options.quiet);
  assert_false(f->options.verbose);
  assert_false(f->options.given[OPTION_verbose]);
}

static void quotes_keep_white_space(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "output = \" a.so \"\n", "m"), MOEC_OK);
  assert_string_equal(f->options.output, " a.so ");
  assert_int_equal(PARSE(f, "output = \"a\"b.so\n", "m"), MOEC_OK);
  assert_string_equal(f->options.output, "\"a\"b.so");
  assert_int_equal(PARSE(f, "output = \"\n", "m"), MOEC_OK);
  assert_string_equal(f->options.output, "\"");
}

static void lists_gather(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f,
                         "dim = batch=1\ndim = x:1=128\n"
                         "disable-pass = a\ndisable-pass = b\n",
                         "m"),
                   MOEC_OK);
  assert_int_equal(f->options.dim.n, 2);
  assert_string_equal(f->options.dim.items[0], "batch=1");
  assert_string_equal(f->options.dim.items[1], "x:1=128");
  assert_string_equal(f->options.disable_pass, "a,b");
}

static char *environment(const char *variable) {
  static char threads[] = "3";
  return strcmp(variable, "MOEC_NUM_THREADS") == 0 ? threads : NULL;
}

static void command_line_and_environment_win(void **state) {
  fixture_t *f = *state;
  const char *const words[] = {"run", "m", "--input=a=1.npy", "--variant=x",
                               NULL};
  assert_int_equal(parse_with(f,
                              "input = b=2.npy\nvariant = y\nthreads = 1\n"
                              "data = d\n",
                              environment, words),
                   MOEC_OK);
  assert_int_equal(f->options.input.n, 1);
  assert_string_equal(f->options.input.items[0], "a=1.npy");
  assert_string_equal(f->options.variant, "x");
  assert_int_equal(f->options.threads, 3);
  assert_string_equal(f->options.data, "d");
}

static void options_of_other_commands_are_passed_over(void **state) {
  fixture_t *f = *state;
  const char *text = "runs = 7\noptimize = 1\n";
  assert_int_equal(PARSE(f, text, "run", "m"), MOEC_OK);
  assert_false(f->options.given[OPTION_runs]);
  assert_int_equal(f->options.level, 1);
  assert_int_equal(PARSE(f, text, "bench", "m"), MOEC_OK);
  assert_int_equal(f->options.runs, 7);
}

static void mistakes_name_their_line(void **state) {
  fixture_t *f = *state;
  static const struct row {
    const char *text, *where, *message;
  } rows[] = {
      {"\n\noptmize = 3\n", "line 3", "'optmize' is not an option of moec"},
      {"optimize = 9", "line 1", "'9' is no value for optimize"},
      {"# x\noptimize\n", "line 2", "optimize needs a value"},
      {"quiet = perhaps\n", "line 1", "expected yes or no"},
      {"config = other\n", "line 1", "for the command line only"},
      {"help\n", "line 1", "for the command line only"},
      {"= 3\n", "line 1", "'' is not an option of moec"},
      {"--optimize = 3\n", "line 1", "'--optimize' is not an option"},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    assert_int_equal(PARSE(f, rows[i].text, "m"), MOEC_E_USAGE);
    assert_int_equal(f->diag.n_errors, 1);
    assert_string_equal(f->diag.first->loc.where, rows[i].where);
    assert_contains(f->diag.first->text, rows[i].message);
    assert_contains(f->diag.file, "/options");
  }
  assert_int_equal(PARSE(f, "one\ntwo\noptmize=3\n", "m"), MOEC_E_USAGE);
  assert_int_equal(f->diag.n_errors, 3);
  assert_string_equal(f->diag.last->notes->text, "did you mean 'optimize'?");
}

static void file_that_is_absent_or_no_text_is_refused(void **state) {
  fixture_t *f = *state;
  char first[] = "m", absent[] = "--config=/nonexistent/options";
  char *argv[] = {first, absent};
  assert_int_equal(
      options_parse(&f->options, f->arena, 2, argv, NULL, &f->diag), MOEC_E_IO);
  argv[1] = arena_printf(f->arena, "--config=%s",
                         write_bytes(&f->cli, "zero", "quiet\0\n", 7));
  assert_int_equal(
      options_parse(&f->options, f->arena, 2, argv, NULL, &f->diag),
      MOEC_E_USAGE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lines_are_long_options),
      TEST(quotes_keep_white_space),
      TEST(lists_gather),
      TEST(command_line_and_environment_win),
      TEST(options_of_other_commands_are_passed_over),
      TEST(mistakes_name_their_line),
      TEST(file_that_is_absent_or_no_text_is_refused),
  };
  return cmocka_run_group_tests_name("tools/options_file", tests, NULL, NULL);
}
