/* Whole commands: what they print, what they write, how they exit. */
#include "backend/cpu.h"
#include "cli_support.h"
#include "tools/json.h"

static const char sum_text[] =
    "module \"sum\" tensor {\n"
    "symbols { n >= 0 }\n"
    "func @main(%0 \"x\": f32[n,3], %1 \"y\": f32[n,3]) -> (\"z\") {\n"
    "  %2 = add(%0, %1) : f32[n,3]\n"
    "  return(%2)\n"
    "}\n"
    "}\n";

/* One row of three f32. */
static const char *write_row(const cli_fixture_t *f, const char *name, float a,
                             float b, float c) {
  const float row[3] = {a, b, c};
  return write_npy(f, name, "<f4", "(1, 3)", row, sizeof row);
}

/* A folder "case" with one data set of x + y = z. */
static void write_case(const cli_fixture_t *f, float z2) {
  make_folder(f, "case");
  make_folder(f, "case/test_data_set_0");
  write_row(f, "case/test_data_set_0/input_0.npy", 1, 2, 3);
  write_row(f, "case/test_data_set_0/input_1.npy", 10, 20, 30);
  write_row(f, "case/test_data_set_0/output_0.npy", 11, 22, z2);
}

static void compile_sum(cli_fixture_t *f) {
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 0, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.so"));
  assert_string_equal(f->err, "");
}

/* ---- General ------------------------------------------------------------- */

static void no_arguments_are_wrong_usage(void **state) {
  cli_fixture_t *f = *state;
  const char *const none[] = {NULL};
  assert_int_equal(call_cli(f, NULL, none), 2);
  assert_contains(f->err, "usage: moec");
}

static void help_and_version_succeed_on_standard_output(void **state) {
  cli_fixture_t *f = *state;
  assert_exit(f, 0, "--help");
  assert_contains(f->out, "verify MODEL DIR");
  assert_exit(f, 0, "help", "bench");
  assert_contains(f->out, "usage: moec bench MODEL [options]");
  assert_exit(f, 0, "run", "--help");
  assert_contains(f->out, "--output-dir");
  assert_exit(f, 0, "--version");
  assert_contains(f->out, "moec " MOEC_VERSION "\nLLVM ");
  assert_exit(f, 2, "help", "nonsense");
}

static void wrong_usage_exits_with_2(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 2, in_folder(f, "sum.moeir"));
  assert_contains(f->err, "no output is asked for");
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.xyz"));
  assert_exit(f, 2, "--frobnicate", in_folder(f, "sum.moeir"));
  assert_exit(f, 2, "verify", in_folder(f, "sum.moeir"));
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.so"),
              "--passes=nonsense");
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.so"),
              "--isa=nonsense");
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.so"),
              "--passes=dce");
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.so"),
              "--disable-pass=plan");
  assert_contains(f->err, "choose the suffix .moeir");
}

static void colours_are_an_option(void **state) {
  cli_fixture_t *f = *state;
  assert_exit(f, 6, "inspect", in_folder(f, "absent.so"), "--color=always");
  assert_contains(f->err, "\033[1;31mmoec: error: \033[0m");
  assert_exit(f, 6, "inspect", in_folder(f, "absent.so"));
  assert_null(strchr(f->err, '\033'));
}

/* ---- Compiling ----------------------------------------------------------- */

static void compiling_is_silent_unless_verbose(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  assert_string_equal(f->out, "");
  assert_exit(f, 0, in_folder(f, "sum.moeir"), "-o", in_folder(f, "a.so"),
              "-v");
  assert_contains(f->err, "import ");
  assert_contains(f->err, "total ");
  assert_contains(f->err, " peak ");
}

static void layers_are_explained_on_request(void **state) {
  cli_fixture_t *f = *state;
  static const char nothing[] = "no Mixture-of-Experts layer was found\n";
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 0, in_folder(f, "sum.moeir"), "--explain-moe");
  assert_string_equal(f->err, nothing);
  assert_exit(f, 0, "opt", in_folder(f, "sum.moeir"), "-O2", "--explain-moe");
  assert_string_equal(f->err, nothing);
}

static void fixed_dimensions_are_no_symbols(void **state) {
  cli_fixture_t *f = *state;
  const char *model = model_case("classic_noisy_topk_einsum_ts/model.onnx");
  assert_exit(f, 0, model, "-o", in_folder(f, "m.so"), "--dim", "T=1", "-O1");
  assert_exit(f, 0, "inspect", in_folder(f, "m.so"));
  assert_contains(f->out, "x     f32   [1, 32]");
  model = model_case("classic_noisy_topk_einsum_ts/test_data_set_0");
  assert_exit(f, 0, "verify", in_folder(f, "m.so"), model);
  model = model_case("classic_noisy_topk_einsum_ts/test_data_set_1");
  assert_exit(f, 4, "verify", in_folder(f, "m.so"), model);
  model = model_case("classic_noisy_topk_einsum_ts/model.onnx");
  assert_exit(f, 2, model, "-o", in_folder(f, "n.so"), "--dim", "N=1");
  assert_contains(f->err, "no input has a dimension named \"N\"");
  assert_contains(f->err, "there are: T");
  assert_exit(f, 2, model, "-o", in_folder(f, "n.so"), "--dim", "T");
  assert_contains(f->err, "--dim needs NAME=N with a whole number, found 'T'");
  assert_exit(f, 2, model, "-o", in_folder(f, "n.so"), "--dim", "T=-1");
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "n.so"),
              "--dim", "n=1");
  assert_contains(f->err, "in ONNX models only");
}

static void time_is_told_by_pass_and_variant(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 0, in_folder(f, "sum.moeir"), "-o", in_folder(f, "a.so"),
              "--time-passes");
  static const char *const rows[] = {
      "  import\n",   "  passes\n",  "    canonicalize", "    schedule: ",
      "    x86-64: ", ", 1 kernels", "  link\n",         "100.0  total\n"};
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
    assert_contains(f->err, rows[i]);
  assert_exit(f, 0, "opt", in_folder(f, "sum.moeir"), "--passes=dce",
              "--time-passes");
  assert_contains(f->err, "    dce\n");
  assert_contains(f->err, "total\n");
}

static void configuration_is_read(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  write_text(f, "config", "# ours\nverbose = yes\npasses = nonsense\n");
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "a.so"),
              "--config", in_folder(f, "config"));
  assert_contains(f->err, "there is no pass named 'nonsense'");
  write_text(f, "config", "# ours\nverbos = yes\n");
  assert_exit(f, 2, in_folder(f, "sum.moeir"), "-o", in_folder(f, "a.so"),
              "--config", in_folder(f, "config"));
  assert_contains(f->err, "/config: line 2: 'verbos' is not an option of moec");
}

static char *read_text(const char *path) {
  char *text = calloc(1, 4096);
  FILE *file = fopen(path, "rb");
  assert_true(text != NULL && file != NULL);
  assert_in_range(fread(text, 1, 4095, file), 1, 4094);
  fclose(file);
  return text;
}

static void files_that_were_read_become_a_rule_of_make(void **state) {
  cli_fixture_t *f = *state;
  char want[512];
  write_text(f, "a $um.moeir", sum_text);
  assert_exit(f, 0, in_folder(f, "a $um.moeir"), "-o", in_folder(f, "#1.so"),
              "--depfile", in_folder(f, "rule"), "--soname=libsum.so");
  char *rule = read_text(in_folder(f, "rule"));
  snprintf(want, sizeof want, "%s/\\#1.so: \\\n %s/a\\ $$um.moeir\n",
           f->directory, f->directory);
  assert_string_equal(rule, want);
  free(rule);
  const char *model = model_case("trained_digits/model.onnx");
  assert_exit(f, 0, model, "-o", in_folder(f, "m.moeir"), "--depfile",
              in_folder(f, "rule"));
  rule = read_text(in_folder(f, "rule"));
  assert_contains(rule, "trained_digits/model.onnx\n");
  free(rule);
  assert_exit(f, 2, model, "--report", in_folder(f, "r"), "--depfile",
              in_folder(f, "rule2"));
  assert_int_not_equal(access(in_folder(f, "rule2"), F_OK), 0);
}

static void suffix_chooses_the_product(void **state) {
  cli_fixture_t *f = *state;
  static const struct product {
    const char *name, *start;
  } products[] = {{"p.so", "\177ELF"},
                  {"p.o", "\177ELF"},
                  {"p.ll", "; Module"},
                  {"p.s", "\t"},
                  {"p.moeir", "module \"sum\" loop"}};
  write_text(f, "sum.moeir", sum_text);
  for (unsigned i = 0; i < sizeof products / sizeof products[0]; i++) {
    char start[64] = "";
    assert_exit(f, 0, in_folder(f, "sum.moeir"), "-o",
                in_folder(f, products[i].name));
    FILE *file = fopen(in_folder(f, products[i].name), "rb");
    assert_non_null(file);
    assert_int_not_equal(fread(start, 1, sizeof start - 1, file), 0);
    fclose(file);
    assert_memory_equal(start, products[i].start,
                        (int)strlen(products[i].start));
  }
}

static void failures_leave_no_output(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "bad.moeir", "module \"bad\" tensor {\n func");
  assert_exit(f, 4, in_folder(f, "bad.moeir"), "-o", in_folder(f, "bad.so"));
  assert_contains(f->err, "bad.moeir");
  write_text(f, "bad.onnx", "this is no model");
  assert_exit(f, 4, in_folder(f, "bad.onnx"), "-o", in_folder(f, "bad.so"));
  assert_int_not_equal(access(in_folder(f, "bad.so"), F_OK), 0);
  assert_exit(f, 6, in_folder(f, "absent.onnx"), "-o", in_folder(f, "bad.so"));
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 6, in_folder(f, "sum.moeir"), "-o",
              in_folder(f, "no_such_folder/sum.so"));
}

static void memory_limit_is_obeyed(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 5, in_folder(f, "sum.moeir"), "-o", in_folder(f, "sum.so"),
              "--memory-limit=1K");
  assert_int_not_equal(access(in_folder(f, "sum.so"), F_OK), 0);
}

/* ---- opt ----------------------------------------------------------------- */

static void opt_prints_what_it_reads(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  assert_exit(f, 0, "opt", in_folder(f, "sum.moeir"));
  assert_string_equal(f->out, sum_text);
  assert_exit(f, 4, "opt", write_text(f, "bad.moeir", "module"));
  assert_exit(f, 6, "opt", in_folder(f, "absent.moeir"));
}

static void opt_runs_the_passes_that_are_named(void **state) {
  cli_fixture_t *f = *state;
  static const char unused[] =
      "module \"m\" tensor {\n"
      "symbols { n >= 0 }\n"
      "func @main(%0 \"x\": f32[n]) -> (\"x\") {\n"
      "  %1 = add(%0, %0) : f32[n]\n"
      "  return(%0)\n"
      "}\n"
      "}\n";
  write_text(f, "m.moeir", unused);
  assert_exit(f, 0, "opt", in_folder(f, "m.moeir"), "--passes=dce");
  assert_null(strstr(f->out, "add"));
  assert_exit(f, 0, "opt", in_folder(f, "m.moeir"), "--passes=dce",
              "--rewrite-limit=0", "--print-ir-after=dce");
  assert_string_equal(f->out, unused);
  assert_contains(f->err, "// after dce");
  assert_exit(f, 0, "opt", in_folder(f, "m.moeir"), "--passes=dce",
              "--trace-rewrites");
  assert_contains(f->err, "rewrite 0: ");
  assert_exit(f, 0, "opt", in_folder(f, "m.moeir"), "--passes=dce",
              "--disable-pass=dce");
  assert_string_equal(f->out, unused);
  assert_exit(f, 2, "opt", in_folder(f, "m.moeir"), "--passes=nonsense");
  assert_string_equal(f->out, "");
}

static void opt_prints_references_of_its_tables(void **state) {
  cli_fixture_t *f = *state;
  assert_exit(f, 0, "opt", "--list-passes");
  assert_contains(f->out, "dce ");
  assert_contains(f->out, "-O2  ");
  assert_exit(f, 0, "opt", "--doc=ops");
  for (unsigned i = 0; i < OP_COUNT; i++) {
    char row[64];
    snprintf(row, sizeof row, "| `%s` |", ir_op_info((ir_opcode_t)i)->mnemonic);
    assert_contains(f->out, row);
  }
  assert_exit(f, 0, "opt", "--doc=passes");
  assert_contains(f->out, "| `dce` |");
  assert_exit(f, 0, "opt", "--doc=dtypes");
  assert_contains(f->out, "| `bf16` | 16 | 16 |");
  assert_exit(f, 0, "opt", "--doc=targets");
  assert_contains(f->out, "| `x86_64-linux-gnu` | `x86-64` | none |");
}

/* ---- run ----------------------------------------------------------------- */

static void run_prints_a_summary(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33);
  assert_exit(f, 0, "run", in_folder(f, "sum.so"), "--data",
              in_folder(f, "case/test_data_set_0"));
  assert_string_equal(f->out, "z: f32[1,3] = 11 22 33\n");
}

static void inputs_are_named_or_numbered(void **state) {
  cli_fixture_t *f = *state;
  char x[300], y[300];
  compile_sum(f);
  snprintf(x, sizeof x, "x=%s", write_row(f, "a.npy", 1, 2, 3));
  snprintf(y, sizeof y, "1=%s", write_row(f, "b.npy", 4, 5, 6));
  assert_exit(f, 0, "run", in_folder(f, "sum.so"), "--input", x, "--input", y);
  assert_string_equal(f->out, "z: f32[1,3] = 5 7 9\n");
  write_case(f, 33); /* the file named wins over that of the folder */
  assert_exit(f, 0, "run", in_folder(f, "sum.so"), "--input", y, "--data",
              in_folder(f, "case/test_data_set_0"));
  assert_string_equal(f->out, "z: f32[1,3] = 5 7 9\n");
  assert_exit(f, 2, "run", in_folder(f, "sum.so"), "--input", x, "--input", x);
  assert_contains(f->err, "given twice");
  assert_exit(f, 2, "run", in_folder(f, "sum.so"), "--input", x);
  assert_contains(f->err, "input 1 'y', f32[n,3]");
  assert_exit(f, 2, "run", in_folder(f, "sum.so"), "--input=w=a.npy");
  assert_contains(f->err, "has no input 'w'");
  assert_exit(f, 2, "run", in_folder(f, "sum.so"), "--input=2=a.npy");
  assert_exit(f, 2, "run", in_folder(f, "sum.so"), "--input=x");
  assert_exit(f, 6, "run", in_folder(f, "sum.so"), "--input=x=/absent.npy");
  assert_exit(f, 2, "run", in_folder(f, "sum.so"), "--input=x=/absent.txt");
}

static void outputs_are_written_and_read_back(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33);
  static const char *const formats[] = {"--output-format=pb",
                                        "--output-format=npy"};
  for (unsigned i = 0; i < 2; i++) {
    const char *const made[] = {"output_0.pb", "output_0.npy"};
    char path[300];
    assert_exit(f, 0, "run", in_folder(f, "sum.so"), "--data",
                in_folder(f, "case/test_data_set_0"), "--output-dir",
                in_folder(f, "made"), formats[i]);
    assert_string_equal(f->out, "");
    snprintf(path, sizeof path, "x=%s/made/%s", f->directory, made[i]);
    assert_exit(f, 0, "run", in_folder(f, "sum.so"), "--input", path, "--data",
                in_folder(f, "case/test_data_set_0"));
    assert_string_equal(f->out, "z: f32[1,3] = 21 42 63\n");
  }
  assert_exit(f, 6, "run", in_folder(f, "sum.so"), "--data",
              in_folder(f, "case/test_data_set_0"), "--output-dir",
              in_folder(f, "sum.so"));
}

static void failing_run_tells_the_models_message(void **state) {
  cli_fixture_t *f = *state;
  char x[300], y[300];
  compile_sum(f);
  snprintf(x, sizeof x, "x=%s", write_row(f, "a.npy", 1, 2, 3));
  snprintf(y, sizeof y, "y=%s",
           write_npy(f, "b.npy", "<f8", "(0, 3)", NULL, 0));
  assert_exit(f, 4, "run", in_folder(f, "sum.so"), "--input", x, "--input", y);
  assert_contains(f->err, "input \"y\" is f64 but the model takes f32");
}

static void variant_and_threads_come_from_the_environment(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33);
  const char *const verify[] = {"verify", in_folder(f, "sum.so"),
                                in_folder(f, "case"), NULL};
  setenv("MOEC_CPU", "x86-64", 1);
  assert_int_equal(call_cli(f, getenv, verify), 0);
  assert_contains(f->out, "variant x86-64");
  setenv("MOEC_CPU", "none-such", 1);
  assert_int_equal(call_cli(f, getenv, verify), 2);
  assert_contains(f->err, "the model has no variant 'none-such'");
  unsetenv("MOEC_CPU");
}

static void files_that_are_no_models_are_refused(void **state) {
  cli_fixture_t *f = *state;
  assert_exit(f, 6, "run", in_folder(f, "absent.so"));
  assert_exit(f, 4, "run", write_text(f, "text.so", "no library"));
  assert_exit(f, 4, "run", MOEC_FAKE_MODEL);
  assert_contains(f->err, "no function 'moec_model'");
  assert_exit(f, 4, "run", MOEC_FAKE_MODEL, "--entry=fake_null");
  assert_exit(f, 4, "run", MOEC_FAKE_MODEL, "--entry=fake_short");
  assert_exit(f, 3, "run", MOEC_FAKE_MODEL, "--entry=fake_version");
  assert_contains(f->err, "ABI version 2, expected 1");
  assert_exit(f, 3, "run", MOEC_FAKE_MODEL, "--entry=fake_good",
              "--variant=best");
  assert_contains(f->err, "cannot run the variant 'best'");
}

static void strings_and_sequences_cross_the_boundary(void **state) {
  cli_fixture_t *f = *state;
  char words[300];
  /* TensorProto: dims 2, data_type STRING, string_data "abcd", "x" */
  static const char proto[] =
      "\x08\x02\x10\x08\x32\x04"
      "abcd\x32\x01x";
  snprintf(words, sizeof words, "words=%s",
           write_bytes(f, "words.pb", proto, sizeof proto - 1));
  assert_exit(f, 0, "run", MOEC_FAKE_MODEL, "--entry=fake_good", "--input",
              words);
  assert_string_equal(f->out,
                      "lengths: i64[2] = 4 1\n"
                      "letters: str[2] = \"a\" \"bc\"\n"
                      "parts: sequence of 2\n"
                      "parts[0]: f32[2] = 1.5 -2\n"
                      "parts[1]: f32[0] = (no elements)\n");
  assert_exit(f, 0, "run", MOEC_FAKE_MODEL, "--entry=fake_good");
  assert_contains(f->out, "lengths: i64[2] = -1 -1\n");
  assert_exit(f, 0, "run", MOEC_FAKE_MODEL, "--entry=fake_good", "--input",
              words, "--output-dir", in_folder(f, "set"));
  rename(in_folder(f, "words.pb"), in_folder(f, "set/input_0.pb"));
  assert_exit(f, 0, "verify", MOEC_FAKE_MODEL, in_folder(f, "set"),
              "--entry=fake_good");
  assert_contains(f->out, "3 of 3 results agree");
  assert_exit(f, 3, "run", MOEC_FAKE_MODEL, "--entry=fake_good", "--output-dir",
              in_folder(f, "set"), "--output-format=npy");
}

/* ---- verify -------------------------------------------------------------- */

static void agreeing_results_exit_with_0(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33.00001f);
  assert_exit(f, 0, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_contains(f->out, "1 of 1 results agree (rtol 0.001, atol 1e-05");
  assert_exit(f, 0, "verify", in_folder(f, "sum.so"),
              in_folder(f, "case/test_data_set_0"));
  assert_exit(f, 0, "verify", "-q", in_folder(f, "sum.so"),
              in_folder(f, "case"));
  assert_string_equal(f->out, "");
}

static void differing_results_exit_with_8(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 34);
  assert_exit(f, 8, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_contains(f->out, "abs 1 at [0,2]");
  assert_contains(f->out, "first at [0,2]: got 33, want 34");
  assert_contains(f->out, "0 of 1 results agree");
  assert_string_equal(f->err, "");
  assert_exit(f, 0, "verify", in_folder(f, "sum.so"), in_folder(f, "case"),
              "--atol=1");
}

static void tolerances_come_from_the_case(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 34);
  write_text(f, "case/case.json", "{\"rtol\": 0.5, \"atol\": 0}");
  assert_exit(f, 0, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_exit(f, 8, "verify", in_folder(f, "sum.so"), in_folder(f, "case"),
              "--rtol=1e-3");
  write_text(f, "case/case.json", "{\"rtol\": ");
  assert_exit(f, 4, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_contains(f->err, "case.json");
}

static void models_are_compiled_for_the_occasion(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  write_case(f, 33);
  make_folder(f, "tmp");
  setenv("TMPDIR", in_folder(f, "tmp"), 1);
  assert_exit(f, 0, "verify", in_folder(f, "sum.moeir"), in_folder(f, "case"),
              "-O1");
  unsetenv("TMPDIR");
  assert_int_equal(rmdir(in_folder(f, "tmp")), 0); /* it is empty */
  assert_exit(f, 6, "verify", in_folder(f, "case"));
  assert_contains(f->err, "case/model.onnx");
}

static void missing_data_is_an_input_error(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33);
  make_folder(f, "empty");
  assert_exit(f, 6, "verify", in_folder(f, "sum.so"), in_folder(f, "empty"));
  assert_exit(f, 6, "verify", in_folder(f, "sum.so"), in_folder(f, "absent"));
  write_text(f, "empty/model.onnx", "this is no model");
  assert_exit(f, 4, "verify", in_folder(f, "empty")); /* that is worse */
  write_row(f, "case/test_data_set_0/output_1.npy", 1, 2, 3);
  assert_exit(f, 8, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  remove(in_folder(f, "case/test_data_set_0/input_1.npy"));
  assert_exit(f, 6, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_contains(f->err, "input_1.pb");
}

static void invalid_data_sets_must_be_refused(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33);
  make_folder(f, "case/invalid_data_set_0");
  write_row(f, "case/invalid_data_set_0/input_0.npy", 1, 2, 3);
  write_row(f, "case/invalid_data_set_0/input_1.npy", 1, 2, 3);
  assert_exit(f, 8, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_contains(f->out, "the run succeeded");
  const float two_rows[6] = {0};
  write_npy(f, "case/invalid_data_set_0/input_1.npy", "<f4", "(2, 3)", two_rows,
            sizeof two_rows);
  assert_exit(f, 0, "verify", in_folder(f, "sum.so"), in_folder(f, "case"));
  assert_contains(f->out, "refused with E_SHAPE");
}

static void json_results_are_json(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 34);
  char data[300];
  snprintf(data, sizeof data, "%s/case/test_data_set_0", f->directory);
  const char *const calls[][6] = {
      {"verify", "--json", in_folder(f, "sum.so"), in_folder(f, "case")},
      {"inspect", "--json", in_folder(f, "sum.so")},
      {"doctor", "--json"},
      {"bench", "--json", in_folder(f, "sum.so"), "--runs=3", "--data", data}};
  const int codes[] = {8, 0, 0, 0};
  static const char *const members[] = {"sets", "signature", "processor",
                                        "p50_ms"};
  arena_t *arena = arena_create(0);
  for (unsigned i = 0; i < 4; i++) {
    const char *call[7] = {NULL};
    const json_t *root;
    memcpy(call, calls[i], sizeof calls[i]);
    assert_int_equal(call_cli(f, NULL, call), codes[i]);
    assert_int_equal(json_parse(arena, f->out, strlen(f->out), NULL, &root),
                     MOEC_OK);
    assert_non_null(json_get(root, members[i]));
  }
  arena_destroy(arena);
}

/* ---- inspect, bench, doctor ---------------------------------------------- */

static void inspect_tells_the_signature_and_the_code(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  assert_exit(f, 0, "inspect", in_folder(f, "sum.so"));
  assert_contains(f->out, "machine: x86_64\n");
  assert_contains(f->out, "x     f32   [n, 3]\n");
  assert_contains(f->out, "launches: 1\n");
  assert_exit(f, 4, "inspect", MOEC_FAKE_MODEL);
  assert_exit(f, 4, "inspect", write_text(f, "text.so", "no library"));
  assert_exit(f, 6, "inspect", f->directory);
}

static void bench_measures_as_often_as_told(void **state) {
  cli_fixture_t *f = *state;
  compile_sum(f);
  write_case(f, 33);
  assert_exit(f, 0, "bench", in_folder(f, "sum.so"), "--runs=7", "--warmup=2",
              "--threads=1", "--data", in_folder(f, "case/test_data_set_0"));
  assert_contains(f->out, "runs        7\n");
  assert_contains(f->out, "p99 ");
  assert_exit(f, 0, "bench", MOEC_FAKE_MODEL, "--entry=fake_good",
              "--duration=0");
  assert_contains(f->out, "runs        10\n");
  assert_contains(f->out, "workspace   12.1 KiB (exact)\n");
  assert_exit(f, 2, "bench", in_folder(f, "sum.so"), "--runs=0");
}

/* The line that begins with `head`, cut out of the output. */
static char *line_of(cli_fixture_t *f, const char *head) {
  char *line = strstr(f->out, head);
  assert_non_null(line);
  line[strcspn(line, "\n")] = '\0';
  return line;
}

static void doctor_and_print_targets_agree(void **state) {
  cli_fixture_t *f = *state;
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    char doctor[80], triple[40], table[80];
    snprintf(doctor, sizeof doctor, "variant %s ", isa->name);
    snprintf(triple, sizeof triple, "%s-linux-gnu", isa->arch);
    snprintf(table, sizeof table, "%-22s %-14s ", triple, isa->name);
    const bool runs = cpu_runs(isa);
    assert_exit(f, 0, "doctor");
    const char *line = line_of(f, doctor);
    assert_contains(line, "code can be generated");
    assert_int_equal(strstr(line, "and run") != NULL, runs);
    assert_exit(f, 0, "--print-targets");
    line = line_of(f, table);
    assert_int_equal(strstr(line, "  runs") != NULL, runs);
  }
  assert_exit(f, 0, "doctor");
  assert_contains(f->out, "threads ");
}

static void models_are_compiled_for_known_targets_only(void **state) {
  cli_fixture_t *f = *state;
  write_text(f, "sum.moeir", sum_text);
  const char *in = in_folder(f, "sum.moeir"), *out = in_folder(f, "sum.so");
  assert_exit(f, 0, in, "-o", out, "--target=x86_64-unknown-linux-gnu");
  assert_exit(f, 2, in, "-o", out, "--target=x86_64-windows");
  assert_contains(f->err, "there is no target 'x86_64-windows'");
  assert_exit(f, 2, in, "-o", out, "--target=x86_6-linux-gnu");
  assert_exit(f, 2, in, "-o", out, "--target=aarch64-linux-gnu",
              "--isa=avx512");
  assert_contains(f->err, "no variant of aarch64 is named 'avx512'");
  assert_exit(f, 2, in, "-o", out, "--isa=avx3");
  assert_contains(f->err, "no variant of x86_64 is named 'avx3'");
}

static void libraries_of_other_machines_are_not_loaded(void **state) {
  cli_fixture_t *f = *state;
  const bool here = strcmp(cpu_arch(), "aarch64") == 0;
  write_text(f, "sum.moeir", sum_text);
  write_case(f, 33);
  const char *in = in_folder(f, "sum.moeir"), *out = in_folder(f, "sum.so");
  assert_exit(
      f, 0, in, "-o", out,
      here ? "--target=riscv64-linux-gnu" : "--target=aarch64-linux-gnu");
  assert_exit(f, 3, "verify", out, in_folder(f, "case"));
  assert_contains(f->err, here ? "is for riscv64 machines, this one is"
                               : "is for aarch64 machines, this one is");
  assert_exit(f, 0, "inspect", out);
  assert_contains(f->out, here ? "machine: riscv64\n" : "machine: aarch64\n");
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, cli_setup, cli_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(no_arguments_are_wrong_usage),
      TEST(help_and_version_succeed_on_standard_output),
      TEST(wrong_usage_exits_with_2),
      TEST(colours_are_an_option),
      TEST(compiling_is_silent_unless_verbose),
      TEST(layers_are_explained_on_request),
      TEST(fixed_dimensions_are_no_symbols),
      TEST(time_is_told_by_pass_and_variant),
      TEST(configuration_is_read),
      TEST(files_that_were_read_become_a_rule_of_make),
      TEST(suffix_chooses_the_product),
      TEST(failures_leave_no_output),
      TEST(memory_limit_is_obeyed),
      TEST(opt_prints_what_it_reads),
      TEST(opt_runs_the_passes_that_are_named),
      TEST(opt_prints_references_of_its_tables),
      TEST(run_prints_a_summary),
      TEST(inputs_are_named_or_numbered),
      TEST(outputs_are_written_and_read_back),
      TEST(failing_run_tells_the_models_message),
      TEST(variant_and_threads_come_from_the_environment),
      TEST(files_that_are_no_models_are_refused),
      TEST(strings_and_sequences_cross_the_boundary),
      TEST(agreeing_results_exit_with_0),
      TEST(differing_results_exit_with_8),
      TEST(tolerances_come_from_the_case),
      TEST(models_are_compiled_for_the_occasion),
      TEST(missing_data_is_an_input_error),
      TEST(invalid_data_sets_must_be_refused),
      TEST(json_results_are_json),
      TEST(inspect_tells_the_signature_and_the_code),
      TEST(bench_measures_as_often_as_told),
      TEST(doctor_and_print_targets_agree),
      TEST(models_are_compiled_for_known_targets_only),
      TEST(libraries_of_other_machines_are_not_loaded),
  };
  return cmocka_run_group_tests_name("tools/commands", tests, NULL, NULL);
}
