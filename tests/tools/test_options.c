/* The parser of the command line. */
#include "cli_support.h"
#include "tools/options_table.h"

typedef struct fixture {
  arena_t *arena;
  diag_sink_t diag;
  options_t options;
} fixture_t;

static int setup(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  assert_non_null(f);
  f->arena = arena_create(0);
  diag_init(&f->diag, f->arena, NULL);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture_t *f = *state;
  arena_destroy(f->arena);
  free(f);
  return 0;
}

static moec_status_t parse_all(fixture_t *f, char *(*get)(const char *),
                               const char *const *arguments) {
  char *argv[16];
  int argc = 0;
  for (; arguments[argc] != NULL; argc++)
    argv[argc] = arena_strdup(f->arena, arguments[argc]);
  return options_parse(&f->options, f->arena, argc, argv, get, &f->diag);
}

#define PARSE(f, ...) \
  parse_all((f), NULL, (const char *const[]){__VA_ARGS__, NULL})

static void compile_is_the_default_command(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "m.onnx", "-o", "m.so"), MOEC_OK);
  assert_int_equal(f->options.command, COMMAND_COMPILE);
  assert_false(f->options.command_named);
  assert_int_equal(f->options.n_operands, 1);
  assert_string_equal(f->options.operands[0], "m.onnx");
  assert_string_equal(f->options.output, "m.so");
  assert_int_equal(PARSE(f, "compile", "run", "-o", "m.so"), MOEC_OK);
  assert_string_equal(f->options.operands[0], "run");
}

static void first_word_chooses_the_command(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "verify", "m.so", "case", "--rtol=1e-2"), MOEC_OK);
  assert_int_equal(f->options.command, COMMAND_VERIFY);
  assert_true(f->options.command_named);
  assert_true(f->options.given[OPTION_rtol]);
  assert_false(f->options.given[OPTION_atol]);
  assert_true(f->options.rtol == 1e-2);
}

static void values_are_attached_or_next(void **state) {
  fixture_t *f = *state;
  const char *const forms[][4] = {{"--output=a.so", "m"},
                                  {"--output", "a.so", "m"},
                                  {"-oa.so", "m"},
                                  {"-o", "a.so", "m"},
                                  {"m", "-vqoa.so"}};
  for (unsigned i = 0; i < 5; i++) {
    assert_int_equal(parse_all(f, NULL, forms[i]), MOEC_OK);
    assert_string_equal(f->options.output, "a.so");
    assert_string_equal(f->options.operands[0], "m");
  }
  assert_true(f->options.verbose && f->options.quiet);
}

static void level_is_a_digit_behind_its_letter(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "m", "-O3", "-o", "x"), MOEC_OK);
  assert_int_equal(f->options.level, 3);
  assert_int_equal(PARSE(f, "m", "-O4"), MOEC_E_USAGE);
  assert_int_equal(PARSE(f, "m", "-O22"), MOEC_E_USAGE);
}

static void lists_gather_and_join(void **state) {
  fixture_t *f = *state;
  assert_int_equal(
      PARSE(f, "run", "m", "--input", "a=1.npy", "--input=b=2.npy"), MOEC_OK);
  assert_int_equal(f->options.input.n, 2);
  assert_string_equal(f->options.input.items[0], "a=1.npy");
  assert_string_equal(f->options.input.items[1], "b=2.npy");
  assert_int_equal(
      PARSE(f, "m", "-ox", "--disable-pass=a,b", "--disable-pass", "c"),
      MOEC_OK);
  assert_string_equal(f->options.disable_pass, "a,b,c");
}

static void switches_take_yes_and_no(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "opt", "--verify-each"), MOEC_OK);
  assert_true(f->options.verify_each);
  assert_int_equal(PARSE(f, "opt", "--verify-each=no"), MOEC_OK);
  assert_true(f->options.given[OPTION_verify_each]);
  assert_false(f->options.verify_each);
  assert_int_equal(PARSE(f, "opt", "--verify-each=perhaps"), MOEC_E_USAGE);
}

static void double_dash_ends_options_and_dash_is_an_operand(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "-o", "x", "--", "-m"), MOEC_OK);
  assert_string_equal(f->options.operands[0], "-m");
  assert_int_equal(PARSE(f, "opt", "-"), MOEC_OK);
  assert_string_equal(f->options.operands[0], "-");
}

static void bytes_take_units_up_to_64_bits(void **state) {
  fixture_t *f = *state;
  static const struct row {
    const char *text;
    uint64_t value;
  } rows[] = {{"0", 0},          {"4096", 4096},
              {"3k", 3072},      {"2G", UINT64_C(2) << 30},
              {"1MiB", 1 << 20}, {"16777215T", UINT64_C(16777215) << 40}};
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    assert_int_equal(PARSE(f, "m", "--memory-limit", rows[i].text), MOEC_OK);
    assert_int_equal(f->options.memory_limit, rows[i].value);
  }
  static const char *const wrong[] = {
      "",    "-1",        "1x",
      "1KB", " 1",        "1.5G",
      "K",   "16777216T", "18446744073709551616"};
  for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    assert_int_equal(PARSE(f, "m", "--memory-limit", wrong[i]), MOEC_E_USAGE);
}

static void numbers_out_of_range_are_rejected(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "run", "m", "--threads=9223372036854775807"),
                   MOEC_OK);
  assert_int_equal(f->options.threads, INT64_MAX);
  static const char *const wrong[] = {
      "--threads=9223372036854775808", "--threads=-1",
      "--threads=", "--threads=1e3", "--threads=0x10"};
  for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    assert_int_equal(PARSE(f, "run", "m", wrong[i]), MOEC_E_USAGE);
  static const char *const reals[] = {"--rtol=-1",  "--rtol=nan",
                                      "--rtol=inf", "--rtol=1e999",
                                      "--rtol=",    "--rtol=1x"};
  for (unsigned i = 0; i < sizeof reals / sizeof reals[0]; i++)
    assert_int_equal(PARSE(f, "verify", "m", "d", reals[i]), MOEC_E_USAGE);
}

static const char *note_of(const fixture_t *f) {
  const diag_t *last = f->diag.last;
  return last != NULL && last->notes != NULL ? last->notes->text : "";
}

static void unknown_option_suggests_a_similar_one(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "m", "--ouptut=x"), MOEC_E_USAGE);
  assert_string_equal(note_of(f), "did you mean '--output'?");
  assert_int_equal(PARSE(f, "m", "--disable-passes=x"), MOEC_E_USAGE);
  assert_string_equal(note_of(f), "did you mean '--disable-pass'?");
  assert_int_equal(PARSE(f, "m", "--frobnicate"), MOEC_E_USAGE);
  assert_string_equal(note_of(f), "'moec help compile' lists its options");
}

static void option_of_another_command_says_so(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "run", "m", "--runs=3"), MOEC_E_USAGE);
  assert_string_equal(note_of(f), "it is one of 'moec bench'");
  assert_int_equal(PARSE(f, "inspect", "m", "-O2"), MOEC_E_USAGE);
}

static void all_mistakes_are_told_at_once(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "m", "--one", "--two", "--color=blue"),
                   MOEC_E_USAGE);
  assert_int_equal(f->diag.n_errors, 3);
}

static void missing_and_surplus_values_are_rejected(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "m", "-o"), MOEC_E_USAGE);
  assert_int_equal(PARSE(f, "m", "--output"), MOEC_E_USAGE);
  assert_int_equal(PARSE(f, "m", "--time-passes=yes"), MOEC_E_USAGE);
}

static void operands_are_counted_unless_help_is_asked_for(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "verify"), MOEC_E_USAGE);
  assert_int_equal(PARSE(f, "verify", "a", "b", "c"), MOEC_E_USAGE);
  assert_int_equal(PARSE(f, "doctor", "a"), MOEC_E_USAGE);
  assert_int_equal(PARSE(f, "verify", "--help"), MOEC_OK);
  assert_int_equal(PARSE(f, "--version"), MOEC_OK);
}

static void mistyped_command_suggests_one(void **state) {
  fixture_t *f = *state;
  assert_int_equal(PARSE(f, "inspct", "m.so"), MOEC_E_USAGE);
  assert_string_equal(note_of(f), "did you mean 'moec inspect'?");
}

static char *environment(const char *variable) {
  static char cpu[] = "x86-64", threads[] = "3", yes[] = "1";
  if (strcmp(variable, "MOEC_CPU") == 0) return cpu;
  if (strcmp(variable, "MOEC_NUM_THREADS") == 0) return threads;
  if (strcmp(variable, "NO_COLOR") == 0) return yes;
  return NULL;
}

static char *bad_environment(const char *variable) {
  static char threads[] = "many";
  return strcmp(variable, "MOEC_NUM_THREADS") == 0 ? threads : NULL;
}

static void command_line_beats_environment(void **state) {
  fixture_t *f = *state;
  const char *const plain[] = {"run", "m", NULL};
  assert_int_equal(parse_all(f, environment, plain), MOEC_OK);
  assert_string_equal(f->options.variant, "x86-64");
  assert_int_equal(f->options.threads, 3);
  assert_int_equal(f->options.color, COLOR_NEVER);
  const char *const given[] = {"run", "m", "--variant=best", "-j1", NULL};
  assert_int_equal(parse_all(f, environment, given), MOEC_OK);
  assert_string_equal(f->options.variant, "best");
  assert_int_equal(f->options.threads, 1);
}

static void environment_counts_only_where_the_option_exists(void **state) {
  fixture_t *f = *state;
  const char *const inspect[] = {"inspect", "m", NULL};
  assert_int_equal(parse_all(f, bad_environment, inspect), MOEC_OK);
  const char *const run[] = {"run", "m", NULL};
  assert_int_equal(parse_all(f, bad_environment, run), MOEC_E_USAGE);
  assert_contains(f->diag.last->text, "MOEC_NUM_THREADS");
}

static void help_names_every_option_of_a_command_and_no_other(void **state) {
  fixture_t *f = *state;
  text_t text;
  text_init(&text, f->arena);
  options_help(COMMAND_BENCH, &text);
  assert_contains(text.data, "--runs=N");
  assert_contains(text.data, "-j, --threads=N");
  assert_contains(text.data, "MOEC_NUM_THREADS");
  assert_contains(text.data, "8  results differ");
  assert_null(strstr(text.data, "--rtol"));
  for (const char *line = text.data; *line != '\0';) {
    const size_t n = strcspn(line, "\n");
    assert_in_range(n, 0, 80);
    line += n + 1;
  }
}

/* In every line of a zsh completion the quotes close: the words that describe
 * options have apostrophes. */
static void assert_quotes_close(const char *line, size_t n) {
  bool inside = false;
  for (size_t i = 0; i < n; i++) {
    if (line[i] == '\\' && !inside)
      i++; /* an escaped quote between two quoted parts */
    else if (line[i] == '\'')
      inside = !inside;
  }
  if (inside) fail_msg("open quote: %.*s", (int)n, line);
}

static void documents_name_every_option(void **state) {
  fixture_t *f = *state;
  static const char *const forms[] = {"man", "bash", "zsh", "fish"};
  static const char *const prefixes[] = {"\\-\\-", " --", "--", " -l "};
  for (unsigned i = 0; i < 4; i++) {
    text_t text;
    text_init(&text, f->arena);
    assert_true(options_document(forms[i], &text));
    for (unsigned j = 0; j < OPTION_COUNT; j++) {
      text_t name; /* as roff has it: hyphens escaped */
      text_init(&name, f->arena);
      for (const char *c = option_infos[j].name; *c != '\0'; c++)
        text_printf(&name, *c == '-' && i == 0 ? "\\%c" : "%c", *c);
      assert_contains(text.data,
                      arena_printf(f->arena, "%s%s", prefixes[i], name.data));
    }
    for (const char *line = text.data; i == 2 && *line != '\0';) {
      const size_t n = strcspn(line, "\n");
      assert_quotes_close(line, n);
      line += n + 1;
    }
  }
  text_t zsh; /* an action that starts with a space is called as it stands */
  text_init(&zsh, f->arena);
  assert_true(options_document("zsh", &zsh));
  assert_contains(zsh.data, ": _alternative \"");
  text_t none;
  text_init(&none, f->arena);
  assert_false(options_document("tcsh", &none));
  assert_int_equal(none.length, 0);
}

static void suggestion_needs_likeness(void **state) {
  (void)state;
  const char *const words[] = {"alpha", "beta"};
  assert_string_equal(options_suggest("aplha", words, 2), "alpha");
  assert_string_equal(options_suggest("bta", words, 2), "beta");
  assert_null(options_suggest("gamma", words, 2));
  assert_null(options_suggest("", words, 2));
  char longest[200];
  memset(longest, 'a', sizeof longest - 1);
  longest[sizeof longest - 1] = '\0';
  assert_null(options_suggest(longest, words, 2));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(compile_is_the_default_command),
      TEST(first_word_chooses_the_command),
      TEST(values_are_attached_or_next),
      TEST(level_is_a_digit_behind_its_letter),
      TEST(lists_gather_and_join),
      TEST(switches_take_yes_and_no),
      TEST(double_dash_ends_options_and_dash_is_an_operand),
      TEST(bytes_take_units_up_to_64_bits),
      TEST(numbers_out_of_range_are_rejected),
      TEST(unknown_option_suggests_a_similar_one),
      TEST(option_of_another_command_says_so),
      TEST(all_mistakes_are_told_at_once),
      TEST(missing_and_surplus_values_are_rejected),
      TEST(operands_are_counted_unless_help_is_asked_for),
      TEST(mistyped_command_suggests_one),
      TEST(command_line_beats_environment),
      TEST(environment_counts_only_where_the_option_exists),
      TEST(help_names_every_option_of_a_command_and_no_other),
      TEST(documents_name_every_option),
      TEST(suggestion_needs_likeness),
  };
  return cmocka_run_group_tests_name("tools/options", tests, NULL, NULL);
}
